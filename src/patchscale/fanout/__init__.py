"""Command `dev.py fanout`: run stale stages side by side, here or on a Ray cluster.

Reads dvc.yaml and dvc.lock through DVC.
Writes dvc.lock, once, and logs in runs/fanout/.
"""
