"""Command `predict`: probabilities for the sessions after the last close.

Reads published weights, cards, calibrations, the study's features, splits and bars; other bars.
Writes nothing.
"""
