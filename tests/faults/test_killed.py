"""SIGKILL while a run trains and while it keeps its state: the same command gives the same bits."""

import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent))  # as a script, too
from forks import ended, fork, outcomes_of

KILLS = 20
EVENTS = {
    "before tensors are written": (1, 2, 13, 20),
    "in the middle of tensors": (1, 2, 3, 11, 20),
    "in the middle of the facts": (1, 2, 9, 24),
    "before a rename": (1, 2, 3, 12, 20, 30),
    "after a rename": (1, 2, 3, 10, 21, 32),
    "before an old file is deleted": (1, 2, 7, 14),
}
CASES = [f"moment {number}" for number in range(KILLS)]
CASES += [f"{event}, time {number}" for event, numbers in EVENTS.items() for number in numbers]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, Any]:
    """Return what became of every killed run."""
    return outcomes_of(__file__, tmp_path_factory.mktemp("runs"))


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks and SIGKILL are POSIX")


@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_ends_with_the_bits_of_an_uninterrupted_one(outcomes, case):
    outcome = outcomes[case]
    assert outcome["killed"], "the run ended before it was to be killed"
    assert not any("damaged" in line for line in outcome["lines"])
    assert outcome["kept"] == outcomes["whole"]["kept"]
    assert outcome["left"] == []


def test_kills_hit_all_that_a_run_does(outcomes):
    resumed = {
        line for outcome in outcomes.values() for line in outcome["lines"] if "resumed" in line
    }
    assert len(resumed) >= 10  # after different steps
    found = {name for outcome in outcomes.values() for name in outcome["after_kill"]}
    assert any(name.endswith(".tmp") and "state-" in name for name in found)
    assert any(name.endswith(".tmp") and "best-" in name for name in found)
    assert any(name.endswith(".tmp") and "state.json" in name for name in found)
    assert any(outcomes[f"moment {number}"]["after_kill"] for number in range(KILLS))


def main(directory: Path) -> None:
    """Train once uninterrupted and once for each case; print what came out as JSON."""
    import torch
    from tiny import SETTINGS, problem

    from patchscale.runtime.checkpoint import Checkpoint
    from patchscale.study.files import digest
    from patchscale.train import loop as loop
    from patchscale.train.callbacks import Callbacks

    torch.set_num_threads(1)
    loop.CHECKPOINT_SECONDS = 0.0
    inputs = problem()
    settings = replace(SETTINGS, epochs=8, batch_size=54)  # 3 steps an epoch, all of them kept

    def fit(path: Path) -> None:
        with path.with_suffix(".log").open("a", buffering=1) as log:
            callbacks = Callbacks()
            callbacks.report = lambda line: print(line, file=log)
            loop.train(inputs, settings, 0, Checkpoint(path), callbacks=callbacks)

    def kill_after(wait: float, path: Path) -> bool:
        child = fork(lambda: fit(path))
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        return ended(child) == -signal.SIGKILL

    def finish(path: Path, *, killed: bool) -> dict[str, Any]:
        """Run the same command again and look at what there is in the end."""
        after_kill = sorted(each.name for each in path.glob("*")) if killed else []
        assert ended(fork(lambda: fit(path))) == 0
        facts = json.loads((path / "state.json").read_text())
        names = sorted(each.name for each in path.glob("*"))
        wanted = {"state.json", facts["state"]["file"], facts["best"]["file"]}
        return {
            "killed": killed,
            "after_kill": after_kill,
            "lines": path.with_suffix(".log").read_text().splitlines(),
            "kept": {key: facts[key] for key in ("history", "step", "state", "best")}
            | {name: digest(path / name) for name in wanted - {"state.json"}},
            "left": [name for name in names if name.startswith(".")],
        }

    fit(directory / "warm")
    started = time.monotonic()
    outcomes = {"whole": finish(directory / "whole", killed=False)}
    seconds = time.monotonic() - started

    moments = random.Random(0)
    for number in range(KILLS):
        path = directory / f"moment {number}"
        wait = seconds * moments.uniform(number, number + 1) / KILLS
        while not (killed := kill_after(wait, path)):
            Checkpoint(path).discard()
            path.with_suffix(".log").unlink()
            wait /= 2  # the run was faster than the one that was timed
        outcomes[path.name] = finish(path, killed=killed)
    for event, numbers in EVENTS.items():
        for number in numbers:
            path = directory / f"{event}, time {number}"
            child = fork(partial(fit, path), partial(kill_itself, event, number))
            outcomes[path.name] = finish(path, killed=ended(child) == -signal.SIGKILL)
    print(json.dumps(outcomes))


def kill_itself(event: str, number: int) -> None:
    """Let this process kill itself when `event` happens for the `number`-th time."""
    from patchscale.runtime import checkpoint

    save_file, write_text = checkpoint.save_file, Path.write_text
    rename, unlink, times = Path.replace, Path.unlink, 0

    def happens(now: str) -> None:
        nonlocal times
        times += now == event
        if times == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def saving(tensors: Any, path: Path) -> None:
        happens("before tensors are written")
        save_file(tensors, path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        happens("in the middle of tensors")
        path.write_bytes(whole)

    def writing(path: Path, text: str, **words: str) -> int:
        write_text(path, text[: len(text) // 2], **words)
        happens("in the middle of the facts")
        return write_text(path, text, **words)

    def renaming(path: Path, target: Path) -> Path:
        happens("before a rename")
        renamed = rename(path, target)
        happens("after a rename")
        return renamed

    def deleting(path: Path, missing_ok: bool = False) -> None:
        if path.exists():
            happens("before an old file is deleted")
        unlink(path, missing_ok)

    checkpoint.save_file, Path.write_text = saving, writing
    Path.replace, Path.unlink = renaming, deleting


if __name__ == "__main__":
    main(Path(sys.argv[1]))
