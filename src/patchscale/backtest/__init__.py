"""Stage backtest: score a forecast and trade its signals in the test year.

Reads data/raw/, data/split/ and data/predictions/.
Writes data/losses/, data/trades/, metrics/backtest/ and tables under plots/.
"""
