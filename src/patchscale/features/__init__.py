"""Stage features: compute the columns of a feature tier from adjusted bars.

Reads data/raw/.
Writes data/features/.
Imported by the stages check, features and baselines, and by any package above.
"""
