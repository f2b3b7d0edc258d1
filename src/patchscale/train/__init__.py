"""Stage train: train one replicate of a cell.

Reads data/features/, data/split/ and data/hpo/.
Writes nothing; the stage writes predictions, curves, metrics and cards.
A change here makes every training stale.
"""
