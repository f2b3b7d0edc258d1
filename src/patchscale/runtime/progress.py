"""Progress of trainings: each replicate writes its state to a file, one process displays them."""

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict, Unpack

from patchscale.study.errors import Stopped, without_secrets
from patchscale.study.files import replacing

WRITE_EVERY = 0.5
"""Seconds between two writes of a state within an epoch."""
SHOW_EVERY = 0.5
"""Seconds between two looks at the states."""
LINE_EVERY = 30.0
"""Seconds between two lines of a replicate in a log."""

BEST = "best {best_val_log_loss:.4f} @{best_epoch}"
BAR_TEXTS = (
    "{epoch}/{epochs}",
    "train {train_log_loss:.4f}",
    "val {val_log_loss:.4f}",
    BEST,
    "{samples_per_second:,.0f}/s",
    "{left}",
)
LINE_TEXTS = (
    "epoch {epoch}/{epochs}",
    "train {train_log_loss:.4f}",
    "val {val_log_loss:.4f}",
    BEST,
    "{samples_per_second:,.0f} samples/s",
    "{left} left",
)

Report = Callable[[str], None]
"""Prints a line for the user."""
Show = Callable[[list["State"], bool], None]
"""Displays the states of all replicates; the flag marks the last time."""


class State(TypedDict, total=False):
    """State of a replicate: `epoch` counts finished epochs, `step` the steps of the current one.

    Losses are log-losses in nats. `seconds_left` is an upper bound. `notes` are lines to print.
    """

    name: str
    epoch: int
    epochs: int
    step: int
    steps: int
    train_log_loss: float
    val_log_loss: float
    best_val_log_loss: float
    best_epoch: int
    samples_per_second: float
    seconds_left: float
    notes: list[str]


class Heartbeat:
    """State of a replicate in a small JSON file, which `display` reads in this or another process.

    Parameters
    ----------
    path
        The file.
    report
        Prints a line; None in a worker process, whose lines `display` prints.
    """

    def __init__(self, path: Path, report: Report | None = None) -> None:
        self._path = path
        self._report = report
        self._state: State = {}
        self._next = 0.0

    def update(self, **values: Unpack[State]) -> None:
        """Update the state; write it at every new epoch or note, else at most twice a second.

        A file that cannot be written does not end the training.
        """
        before = self._state.copy()
        self._state.update(values)
        is_news = any(self._state.get(key) != before.get(key) for key in ("epoch", "notes"))
        now = time.monotonic()
        if is_news or now >= self._next:
            self._next = now + WRITE_EVERY
            with suppress(OSError, Stopped), replacing(self._path, flushed=False) as temporary:
                temporary.write_text(json.dumps(self._state), encoding="utf-8")

    def report(self, line: str) -> None:
        """Print a line without secrets; a line of several workers is printed once."""
        line = without_secrets(line)
        if self._report:
            self._report(line)
        else:
            self.update(notes=[*self._state.get("notes", []), line])


@contextmanager
def display(paths: list[Path], title: str) -> Iterator[Report]:
    """Display the states in `paths` on stderr; yield a function that prints a line there.

    A terminal shows a bar for each replicate, redrawn twice a second. A log gets lines: for each
    replicate one an epoch, but at most one in `LINE_EVERY` seconds, and its last state. States of
    an earlier run are deleted first. A terminal that is closed does not end the training.
    """
    for path in paths:
        path.unlink(missing_ok=True)
    on_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    opened = _bars(len(paths), title) if on_terminal else _lines(len(paths), title)
    states: list[State] = [{} for _ in paths]
    printed: set[str] = set()
    ended = threading.Event()

    with opened as (show, report):

        def look(last: bool = False) -> None:
            for row, path in enumerate(paths):
                states[row] = _read(path) or states[row]
                for note in states[row].get("notes", []):
                    if note not in printed:
                        report(note)
                        printed.add(note)
            show(states, last)

        def watch() -> None:
            while not ended.wait(SHOW_EVERY):
                look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield report
        finally:
            ended.set()
            thread.join()
            look(last=True)


@contextmanager
def _bars(rows: int, title: str) -> Iterator[tuple[Show, Report]]:
    """Open one bar for each row; yield functions that redraw them and print a line above them."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    nothing = _bar_texts({})
    texts = [f"{{task.fields[texts][{place}]}}" for place in range(len(nothing))]
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        *(TextColumn(text, markup=False) for text in texts),
        console=console,
        auto_refresh=False,
        redirect_stdout=sys.stdout.isatty(),
        expand=True,
    )
    tasks = [progress.add_task(title, total=1.0, texts=nothing) for _ in range(rows)]

    def show(states: list[State], last: bool) -> None:
        for task, state in zip(tasks, states, strict=True):
            name, texts = state.get("name", title), _bar_texts(state)
            progress.update(task, completed=_share(state), description=name, texts=texts)
        with suppress(OSError):
            progress.refresh()

    def report(line: str) -> None:
        with suppress(OSError):
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    try:
        with suppress(OSError):
            progress.start()
        yield show, report
    finally:
        with suppress(OSError):
            progress.stop()


@contextmanager
def _lines(rows: int, title: str) -> Iterator[tuple[Show, Report]]:
    """Yield functions that print the rows that are due and any line."""
    shown, due = [0] * rows, [0.0] * rows

    def show(states: list[State], last: bool) -> None:
        now = time.monotonic()
        for row, state in enumerate(states):
            epoch = state.get("epoch", 0)
            if epoch != shown[row] and (last or now >= due[row]):
                shown[row], due[row] = epoch, now + LINE_EVERY
                report(
                    "  ".join([state.get("name", title), *filter(None, _texts(state, LINE_TEXTS))])
                )

    def report(line: str) -> None:
        with suppress(OSError):
            print(line, file=sys.stderr, flush=True)

    yield show, report


def _read(path: Path) -> State:
    """Read a state; return {} where the file is missing or damaged."""
    try:
        state: State = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _bar_texts(state: State) -> list[str]:
    """Return the texts beside a bar; space allows one loss, validation's as soon as it exists."""
    epoch, train, val, *others = _texts(state, BAR_TEXTS)
    return [epoch, val or train, *others]


def _texts(state: State, templates: tuple[str, ...]) -> list[str]:
    """Return the templates with values filled in; '' where a value is missing."""
    known: dict[str, Any] = {**state}
    with suppress(KeyError, OverflowError, TypeError, ValueError):
        known["left"] = timedelta(seconds=round(state["seconds_left"]))
    texts = []
    for template in templates:
        try:
            texts.append(template.format(**known))
        except (KeyError, TypeError, ValueError):
            texts.append("")
    return texts


def _share(state: State) -> float:
    """Return the finished share of all epochs, from 0 to 1."""
    try:
        done = (state["epoch"] + state["step"] / state["steps"]) / state["epochs"]
    except (KeyError, TypeError, ZeroDivisionError):
        return 0.0
    return done if math.isfinite(done) else 0.0
