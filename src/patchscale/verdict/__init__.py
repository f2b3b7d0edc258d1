"""Stage verdict: whether the loss changes with size, and who is better than the bar, over years.

Reads data/walk/, data/split/ and metrics/cards/.
Writes metrics/verdict.json, metrics/verdict/details.json, plots/difference.csv and
plots/verdict.csv.
"""
