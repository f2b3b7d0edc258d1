"""Command `dev.py verify`: check that the code produces what dvc.lock holds.

Reads dvc.lock, dvc.yaml, the parameters, all outputs, and published objects.
Writes nothing in the repository.
"""
