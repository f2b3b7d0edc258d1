"""Stage split: label the prediction dates of a horizon and divide them into subsets.

Reads data/raw/.
Writes data/split/.
"""
