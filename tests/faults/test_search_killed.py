"""SIGKILL while a search trains, keeps results, writes its journal: the same table at the end."""

import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent))  # as a script, too
from forks import ended, fork, outcomes_of

KILLS = 12
EVENTS = {
    "in the middle of a line of the journal": (1, 9, 60, 110),
    "before a rename": (1, 8, 30, 60),
    "after a rename": (2, 14, 40),
}
CASES = [f"moment {number}" for number in range(KILLS)]
CASES += [f"{event}, time {number}" for event, numbers in EVENTS.items() for number in numbers]

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="forks and SIGKILL are POSIX"),
    pytest.mark.timeout(1800),  # all searches are made for the first test
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, Any]:
    """Return what became of every killed search."""
    return outcomes_of(__file__, tmp_path_factory.mktemp("searches"))


@pytest.mark.parametrize("case", CASES)
def test_a_killed_search_ends_with_the_table_of_an_uninterrupted_one(outcomes, case):
    outcome = outcomes[case]
    assert outcome["killed"], "the search ended before it was to be killed"
    assert outcome["table"] == outcomes["whole"]["table"]
    assert outcome["opened"] == outcomes["whole"]["opened"] == 6
    assert outcome["left"] == []


def test_kills_hit_all_that_a_search_does(outcomes):
    done = {outcome["done"] for outcome in outcomes.values() if outcome["killed"]}
    assert len(done) >= 4  # after different numbers of trials
    assert any(outcome["torn"] for outcome in outcomes.values())
    assert any(outcome["resumed"] for outcome in outcomes.values())  # in the middle of a trial


def main(directory: Path) -> None:
    """Search once uninterrupted and once for each case; print what came out as JSON."""
    import optuna
    import torch
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from tiny import tiny_params
    from tiny_search import PRUNING, run

    from patchscale.hpo.results import trials_table
    from patchscale.study.files import digest, write_arrow

    torch.set_num_threads(1)
    params = tiny_params(pruning=PRUNING)

    def search(path: Path) -> None:
        path.mkdir(exist_ok=True)
        with path.with_suffix(".log").open("a", buffering=1) as log:
            os.dup2(log.fileno(), 2)
            write_arrow(path.with_suffix(".arrow"), trials_table(run(path, params)))

    def finish(path: Path, *, killed: bool) -> dict[str, Any]:
        """Run the same command again and look at what there is in the end."""
        done = len(list(path.glob("trial-*.json")))
        journal = path / "study.journal"
        torn = killed and journal.exists() and not journal.read_bytes().endswith(b"\n")
        inside = bool(list(path.glob("trial-*/state.json")))
        assert ended(fork(lambda: search(path))) == 0, path.with_suffix(".log").read_text()
        storage = JournalStorage(JournalFileBackend(str(journal)))
        opened = optuna.load_study(study_name="tiny-h1", storage=storage)
        return {
            "killed": killed,
            "done": done,
            "torn": torn,
            "resumed": inside and "resumed" in path.with_suffix(".log").read_text(),
            "table": digest(path.with_suffix(".arrow")),
            "opened": len(opened.trials),
            "left": [each.name for each in path.iterdir() if each.is_dir()],
        }

    search(directory / "warm")
    started = time.monotonic()
    outcomes = {"whole": finish(directory / "whole", killed=False)}
    seconds = time.monotonic() - started

    moments = random.Random(0)
    for number in range(KILLS):
        path = directory / f"moment {number}"
        while True:
            child = fork(partial(search, path))
            time.sleep(seconds * moments.uniform(number, number + 1) / KILLS)
            os.kill(child, signal.SIGKILL)
            if killed := ended(child) == -signal.SIGKILL:
                break
            for file in path.glob("*.json"):  # it was faster: again, from the start
                file.unlink()
        outcomes[path.name] = finish(path, killed=killed)

    for event, numbers in EVENTS.items():
        for number in numbers:
            path = directory / f"{event}, time {number}"
            child = fork(partial(search, path), partial(kill_at, event, number))
            outcomes[path.name] = finish(path, killed=ended(child) == -signal.SIGKILL)
    print(json.dumps(outcomes))


def kill_at(event: str, number: int) -> None:
    """Let this process be killed at the event, the so many-th time."""
    from optuna.storages.journal import JournalFileBackend

    count = 0

    def now() -> bool:
        nonlocal count
        count += 1
        return count == number

    append, rename = JournalFileBackend.append_logs, Path.replace

    def torn_append(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        if now():
            with Path(self._file_path).open("ab") as file:
                file.write(json.dumps(logs[0]).encode()[:25])
            os.kill(os.getpid(), signal.SIGKILL)
        append(self, logs)

    def killed_rename(self: Path, target: Path) -> Path:
        hit = now()
        if hit and event == "before a rename":
            os.kill(os.getpid(), signal.SIGKILL)
        renamed = rename(self, target)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return renamed

    if event == "in the middle of a line of the journal":
        JournalFileBackend.append_logs = torn_append
    else:
        Path.replace = killed_rename


if __name__ == "__main__":
    main(Path(sys.argv[1]))
