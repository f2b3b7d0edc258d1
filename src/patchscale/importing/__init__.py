"""Command `import-csv`: daily bars as vendors export them, made canonical.

Reads a vendor's file.
Writes nothing; the command writes what is returned here.
"""
