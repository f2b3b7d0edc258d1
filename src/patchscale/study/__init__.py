"""The ground of every stage: parameters, names of files, reading and writing, errors.

Reads params.yaml, grid.yaml and space.yaml.
Writes any file atomically, for the package that asks.
Imported by every package; imports none of them.
"""
