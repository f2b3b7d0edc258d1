"""Stage hpo: search a cell's architecture and settings.

Reads data/features/ and data/split/.
Writes data/hpo/ and metrics/hpo/.
"""
