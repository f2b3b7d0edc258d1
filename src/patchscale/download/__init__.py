"""Stage download: bring a data set's daily bars into one form and check them.

Reads the package arch, Yahoo, or files in inputs/.
Writes data/raw/ and metrics/download/.
Imported by the stage and by `verify`.
"""
