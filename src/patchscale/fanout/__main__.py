"""Run the stages that are stale side by side; DVC says which, and writes dvc.lock once.

What is stale, the order, what a finished stage is (run-cache) and its entry in dvc.lock are DVC's
own answers: a `dvc repro` afterwards finds everything up to date. Finished stages are in DVC's
run-cache at once, so that nothing is repeated where the driver was killed.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from patchscale.fanout import repository
from patchscale.fanout.driver import FAILED, LOGS, SAME, Fan, _settle, fan_out, job_of, say
from patchscale.fanout.executors import Engine, Job, Local
from patchscale.fanout.needs import expected, needing
from patchscale.fanout.ray_executor import Cluster
from patchscale.runtime.stopping import stop_requests
from patchscale.study.errors import InputError
from patchscale.study.files import read_json, write_json
from patchscale.study.params import Params, load_params
from patchscale.study.stage import run

if TYPE_CHECKING:
    from dvc.stage import Stage

SECONDS = LOGS / "seconds.json"
"""What each stage took when it last ran here."""


def plan_table(fan: Fan, jobs: Sequence[Job], times: Sequence[float | None]) -> str:
    """Return what would run, with what it needs and how long it took or may take."""
    rows = [("stage", "why", "cores", "GPU", "memory", "time")]
    for task, seconds in zip(jobs, times, strict=True):
        rows.append(
            (
                task.name,
                fan.verdicts[task.name],
                str(task.cpus),
                str(task.gpus),
                f"{task.memory / 2**30:.1f} GiB",
                "?" if seconds is None else f"{seconds:.0f} s",
            )
        )
    return table(rows)


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def seconds_known() -> dict[str, float]:
    """Return what each stage took when it last ran here."""
    known: dict[str, float] = read_json(SECONDS) if SECONDS.is_file() else {}
    return known


def dry(fan: Fan, params: Params) -> None:
    """Print what would run and what it needs; run nothing."""
    known = seconds_known()
    stages: list[Stage] = []
    with repository.locked(fan.repo):
        for stage in fan.before:
            follows = any(each.addressing in fan.verdicts for each in fan.before[stage])
            if follows or stage.changed():
                # what reads from it runs only if its outputs come out other than they are
                _settle(fan, stage.addressing, "may follow" if follows else "stale")
                stages.append(stage)
    tasks = [needing(params, 0, job_of(stage)) for stage in stages]
    times = [expected(task.name, params, known) for task in tasks]
    print(plan_table(fan, tasks, times))
    total = sum(seconds for seconds in times if seconds)
    unknown = sum(seconds is None for seconds in times)
    print(f"{len(tasks)} of {len(fan.before)} stages, {total:.0f} s one after the other", end="")
    print(f", without {unknown} that never ran here" if unknown else "")


def verdict_table(fan: Fan) -> str:
    """Return how every stage went, but for those that had nothing to do."""
    names = [stage.addressing for stage in fan.before if stage.addressing in fan.verdicts]
    told = [name for name in names if fan.verdicts[name] != SAME]
    rows = [
        (
            name,
            fan.verdicts[name],
            f"{fan.seconds[name]:.0f} s" if name in fan.seconds else "",
            fan.details[name],
        )
        for name in told
    ]
    same = sum(fan.verdicts[name] == SAME for name in names)
    return "\n".join([*([table(rows)] if rows else []), f"{same} stages unchanged"])


def main(*words: str) -> None:
    """Fan out; exit 1 where a stage failed, 75 where a stop was asked for."""
    parser = argparse.ArgumentParser(
        prog="python3 dev.py fanout",
        description="Run stale stages side by side; dvc.lock is written once, by DVC.",
        epilog="example: python3 dev.py fanout 'train@2M-*' --jobs 2",
    )
    parser.add_argument(
        "stages", nargs="*", help="names or globs; with what they need; default all"
    )
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--jobs", type=int, default=2, help="at a time; a cluster has its own room")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and its needs")
    options = parser.parse_args(words)
    if options.jobs < 1:
        raise InputError(f"--jobs: {options.jobs} is not allowed; 1 or more")
    params = load_params()
    root = Path.cwd()

    repo = repository.open_repository(root)
    fan = Fan(repo, repository.collect(repo, options.stages))
    if options.dry_run:
        dry(fan, params)
        return
    LOGS.mkdir(parents=True, exist_ok=True)
    with (
        repository.alone(repo),
        stop_requests() as stopped,
        engine(options.engine, options.jobs, root) as opened,
    ):
        try:
            fan_out(fan, opened, partial(needing, params, opened.n_gpus), stopped)
        finally:
            write_json(SECONDS, seconds_known() | fan.seconds)
            print(verdict_table(fan))
    if failed := [name for name, verdict in fan.verdicts.items() if verdict == FAILED]:
        say(f"{len(failed)} failed; what they said is in {LOGS}/<stage>.log")
        sys.exit(1)


@contextmanager
def engine(name: str, jobs: int, root: Path) -> Iterator[Engine]:
    """Open the engine of a name, `local` or `ray`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = dict(os.environ) | {"PATH": path, "DVC_ROOT": str(root)}
    opened = Local(jobs, root, environment) if name == "local" else Cluster(root, environment)
    try:
        yield opened
    finally:
        opened.close()


if __name__ == "__main__":
    run(main)
