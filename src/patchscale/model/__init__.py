"""The network: its shape, its parameters, its input windows and its weights.

Reads and writes weights files (safetensors).
A change here makes every training stale.
"""
