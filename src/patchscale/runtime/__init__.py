"""How a training is run, never what it computes.

Processes, checkpoints, progress, stopping, trackers and the thermal guard.
Reads and writes .resume/ and runs/.
Imported by `hpo`, `fanout` and the stages.
A change here changes no result.
"""
