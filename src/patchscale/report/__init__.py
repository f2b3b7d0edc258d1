"""Stages headline and report: compare all forecasts, in words, tables and figures.

Reads metrics/, data/losses/, data/trades/, data/hpo/ and plots/, for all test years
metrics/verdict/details.json, metrics/walk/ and plots/verdict.csv.
Writes metrics/headline.json, metrics/scaling.json, plots/, and docs/results.md and .html.
"""
