"""Stage download: convert the daily bars of a data set to the canonical form and check them.

Reads the package arch, Yahoo, or files in inputs/.
Writes data/raw/ and metrics/download/.
"""
