"""The network: its shape, its parameters, its input windows and its weights.

Reads and writes weights files (safetensors).
Imported by `train` and by every package that predicts.
A change here makes every training stale.
"""
