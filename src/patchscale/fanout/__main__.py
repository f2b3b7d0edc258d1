"""Command line of the fan-out: arguments, the dry run, and tables of stages."""

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from patchscale.fanout import repository
from patchscale.fanout.driver import FAILED, LOGS, UNCHANGED, StageGraph, job_of, report, run_stages
from patchscale.fanout.executors import Executor, Job, LocalExecutor
from patchscale.fanout.needs import expected_seconds, with_needs
from patchscale.fanout.ray_executor import RayExecutor
from patchscale.runtime.stopping import stop_requests
from patchscale.study.errors import InputError
from patchscale.study.files import read_json, write_json
from patchscale.study.params import Params, load_params
from patchscale.study.parser import parser
from patchscale.study.stage import run

if TYPE_CHECKING:
    from dvc.stage import Stage

DURATIONS = LOGS / "seconds.json"
"""Seconds that each stage took when it last ran here, by name."""


def main(*arguments: str) -> None:
    """Run stale stages; exit 1 if a stage failed, 75 if a stop was requested."""
    command = parser(
        "fanout",
        "Run stale stages side by side; dvc.lock is written once, by DVC.",
        "--dry-run",
        "'train@2M-*' --jobs 2",
    )
    command.add_argument(
        "stages",
        nargs="*",
        help="names or patterns of stages; what they depend on is added; default: all",
    )
    command.add_argument("--engine", choices=["local", "ray"], default="local", help="executor")
    command.add_argument(
        "--jobs", type=int, default=2, help="jobs at a time; on a cluster its resources decide"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="print what would run and what it needs"
    )
    options = command.parse_args(arguments)
    if options.jobs < 1:
        raise InputError(f"--jobs: {options.jobs} is not allowed; 1 or more")
    params, root = load_params(), Path.cwd()

    repo = repository.open_repository(root)
    graph = StageGraph(repo, repository.collect(repo, options.stages))
    if options.dry_run:
        dry_run(graph, params)
        return
    LOGS.mkdir(parents=True, exist_ok=True)
    with (
        repository.repository_lock(repo),
        stop_requests() as stopped,
        closing(make_executor(options.engine, options.jobs, root)) as executor,
    ):
        try:
            run_stages(graph, executor, partial(with_needs, params, executor.n_gpus), stopped)
        finally:
            write_json(DURATIONS, read_durations() | graph.seconds)
            print(result_table(graph))
    if failed := [name for name, state in graph.states.items() if state == FAILED]:
        report(f"{len(failed)} failed; the output of each is in {LOGS}/<stage>.log")
        sys.exit(1)


def make_executor(name: str, concurrency: int, root: Path) -> Executor:
    """Return the executor `local` or `ray`; its jobs find the programs of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = dict(os.environ) | {"PATH": path, "DVC_ROOT": str(root)}
    if name == "ray":
        return RayExecutor(root, environment)
    return LocalExecutor(concurrency, root, environment)


def dry_run(graph: StageGraph, params: Params) -> None:
    """Print the stages that would run, with the resources that they need and their duration."""
    durations = read_durations()
    stages: list[Stage] = []
    with repository.dvc_lock(graph.repo):
        for stage, dependencies in graph.dependencies.items():
            follows = any(each.addressing in graph.states for each in dependencies)
            if follows or stage.changed():
                # a stage runs after a stale one only if the outputs of that one change
                graph.settle(stage.addressing, "may follow" if follows else "stale")
                stages.append(stage)
    if not stages:
        print(f"nothing to do: none of {len(graph.dependencies)} stages is stale")
        return
    jobs = [with_needs(params, 0, job_of(stage)) for stage in stages]
    seconds = [expected_seconds(job.name, params, durations) for job in jobs]
    print(plan_table(graph, jobs, seconds))
    total, unknown = sum(each for each in seconds if each), seconds.count(None)
    missing = f", without {unknown} that never ran here" if unknown else ""
    count = f"{len(jobs)} of {len(graph.dependencies)} stages"
    print(f"{count}, {total:.0f} s one after the other{missing}")


def read_durations() -> dict[str, float]:
    """Return the seconds that each stage took when it last ran here."""
    durations: dict[str, float] = read_json(DURATIONS) if DURATIONS.is_file() else {}
    return durations


def plan_table(graph: StageGraph, jobs: Sequence[Job], seconds: Sequence[float | None]) -> str:
    """Return a table of jobs: why each would run, what it needs, and its expected duration."""
    rows = [("stage", "why", "cores", "GPU", "memory", "time")]
    for job, duration in zip(jobs, seconds, strict=True):
        rows.append(
            (
                job.name,
                graph.states[job.name],
                str(job.cpus),
                str(job.gpus),
                f"{job.memory / 2**30:.1f} GiB",
                "?" if duration is None else f"{duration:.0f} s",
            )
        )
    return aligned(rows)


def result_table(graph: StageGraph) -> str:
    """Return a table of the settled stages; unchanged ones are only counted."""
    names = [each.addressing for each in graph.dependencies if each.addressing in graph.states]
    rows = [
        (
            name,
            graph.states[name],
            f"{graph.seconds[name]:.0f} s" if name in graph.seconds else "",
            graph.details[name],
        )
        for name in names
        if graph.states[name] != UNCHANGED
    ]
    unchanged = len(names) - len(rows)
    return "\n".join([*([aligned(rows)] if rows else []), f"{unchanged} stages unchanged"])


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as text with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
