"""Stage split: label the prediction dates of a horizon and divide them into subsets.

Reads data/raw/.
Writes data/split/.
Imported by the stages split, baselines, backtest, walk and walk_baselines, and by `train`
and `verify`.
"""
