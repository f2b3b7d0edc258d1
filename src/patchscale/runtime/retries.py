"""How often and when work that was killed is tried again, and the shares of a GPU."""

import signal

ATTEMPTS = 4
PAUSE = 2.0
"""Seconds before a second attempt, twice that before a third and so on."""
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
GLIMPSE = 0.05
"""Of a GPU, for the process of a search: it must see one, its trials take 0.9 (cluster.GPUS)."""

GPUS = 0.9
"""Of a GPU that a trial takes; the process of its search has the rest."""
