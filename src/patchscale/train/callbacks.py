"""What the training loop reports to and asks of its surroundings."""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from torch import Tensor

Log = Callable[[dict[str, float]], None]
"""Receives the values of one epoch."""


class Callbacks:
    """Callbacks of a training run; by default reports go to standard error and nothing stops it."""

    def report(self, line: str) -> None:
        """Print one line about the run."""
        print(line, file=sys.stderr)

    def heartbeat(self, **state: Any) -> None:
        """Receive the state of the run after every step: fields of `progress.State`."""

    def stop_reason(self) -> str:
        """Return why the run should stop after this step, or an empty string."""
        return ""

    def interruptible(self) -> AbstractContextManager[None]:
        """Return a block that a request to stop may end at once, with Stopped; it writes nothing.

        It is used for the compilation, which takes longer than a step.
        """
        return nullcontext()

    def agree(self, wanted: bool) -> bool:
        """Tell whether any process of this training wants something; called in every step."""
        return wanted

    def celsius(self) -> float | None:
        """Return the temperature of the device, None where it is unknown."""
        return None

    def track(self, past: list[dict[str, float]]) -> AbstractContextManager[Log]:
        """Open the trackers with the rows of finished epochs; yield what logs the next ones."""
        return nullcontext(lambda values: None)


class CheckpointStore(Protocol):
    """Where the loop keeps its state and its best weights."""

    def load(
        self,
        device: str,
        report: Callable[[str], None],
        like: Callable[[], dict[str, Tensor]] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the tensors and facts of the last state, None where there is none."""

    def save(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Make this the state that a resumed run continues from."""

    def save_best(self, epoch: int, weights: Mapping[str, Tensor]) -> dict[str, str]:
        """Write the best weights so far; return the entry that names them in the next state."""
