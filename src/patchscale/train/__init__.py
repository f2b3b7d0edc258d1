"""Stage train: train one replicate of a cell.

Reads data/features/, data/split/ and data/hpo/.
Writes nothing; the stage writes predictions, curves, metrics and cards.
Imported by `runtime`, `hpo`, `verify` and `fanout`.
A change here makes every training stale.
"""
