"""Stage features: compute the columns of a feature tier from adjusted bars.

Reads data/raw/.
Writes data/features/.
"""
