"""Commands `dev.py reset`, and what `dev.py repro` does first: back to what is committed.

Reads the last commit, dvc.lock in it, and DVC's lock files.
Writes parameters, dvc.lock, outputs and published objects, as they are in the commit.
"""
