"""Command `patchscale`: what people type, besides DVC.

Reads words; each command says what else it reads and writes.
"""
