"""Parts that every stage uses: parameters, paths, reading and writing of files, errors.

Reads params.yaml, grid.yaml and space.yaml.
Writes files for the other packages.
Imported by every package; imports none of them.
"""
