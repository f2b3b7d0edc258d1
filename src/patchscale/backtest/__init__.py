"""Stage backtest: score a forecast and trade its signals in the test year.

Reads data/raw/, data/split/ and data/predictions/.
Writes data/losses/, data/trades/, metrics/backtest/ and tables under plots/.
Imported by the stages baselines, backtest, headline and report, and by `verdict`.
"""
