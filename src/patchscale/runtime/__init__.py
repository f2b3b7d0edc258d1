"""How a training is run, never what it computes.

Processes, checkpoints, progress, stopping, trackers and the thermal guard.
Reads and writes .resume/ and runs/.
A change here changes no result.
"""
