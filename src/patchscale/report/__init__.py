"""Stages headline and report: compare all forecasts, in words, tables and figures.

Reads metrics/, data/losses/, data/trades/, data/hpo/ and plots/, for all test years
metrics/verdict.json, metrics/walk/ and plots/verdict.csv.
Writes metrics/headline.json, metrics/scaling.json, docs/results.md, docs/results.html and
plots/.
Imported by these two stages only.
"""
