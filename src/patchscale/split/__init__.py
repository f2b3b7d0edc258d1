"""Stage split: label the prediction dates of a horizon and divide them into subsets.

Reads data/raw/.
Writes data/split/.
Imported by the stages split, baselines, backtest, walk, walk_baselines and verdict, and by
`train` and `verify`.
"""
