"""The pipeline as DVC sees it: what is stale, in which order, what a stage leaves, and its locks.

DVC is asked in this process, about the repository it was opened on. This is the one module of the
library that imports it.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from patchscale.study.errors import InputError, Stopped

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage


LOCK_TRIES = 20
"""Of three seconds each, for the lock that DVC's commands hold for a moment."""


def open_repository(root: Path) -> "Repo":
    """Return a repository, which from here on says nothing but errors."""
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    return Repo(str(root))


def collect(repo: "Repo", globs: Sequence[str]) -> "dict[Stage, set[Stage]]":
    """Return some stages, or all, and those they need, each with those it reads from.

    They are in the order of `dvc repro`.
    """
    from dvc.exceptions import DvcException
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    try:
        targets = collect_stages(repo, globs or ["dvc.yaml"], glob=bool(globs))
        graph = get_active_graph(repo.index.graph)
    except DvcException as error:
        raise InputError(" ".join(str(error).split())) from None
    if not targets:
        raise InputError(f"{' '.join(globs)}: no such stage; `dvc stage list` names them")
    return {stage: set(graph.successors(stage)) for stage in plan_repro(graph, targets)}


def command_of(stage: "Stage") -> str:
    """Return the command of a stage as one for a shell."""
    return stage.cmd if isinstance(stage.cmd, str) else " && ".join(stage.cmd)


def made_by(stage: "Stage") -> tuple[Path, ...]:
    """Return the outputs of a stage that `dvc repro` removes before it runs."""
    return tuple(Path(out.fs_path) for out in stage.outs if not out.persist)


def restore(stage: "Stage") -> bool:
    """Bring the outputs of a stage back from DVC's cache, if it has run on these inputs before."""
    from dvc.stage.cache import RunCacheNotFoundError
    from dvc_data.hashfile.hash_info import HashInfo

    runs = stage.repo.stage_cache
    if stage.changed_stage() or not stage.deps_cached():
        stage.save_deps()
        for out in stage.outs:
            out.hash_info = HashInfo()  # dvc.lock has those of other inputs
    try:
        runs.restore(stage, dry=True)
    except RunCacheNotFoundError:
        return False
    stage.remove_outs(ignore_remove=False, force=False)
    runs.restore(stage)
    keep(stage)
    return True


def keep(stage: "Stage") -> None:
    """Hand what a stage has made to DVC's cache and run-cache; dvc.lock is not written."""
    stage.save()
    stage.commit()


def write_lock(repo: "Repo", stages: "Sequence[Stage]") -> None:
    """Write what `keep` was asked to keep into dvc.lock, in the order given."""
    if stages:
        with locked(repo):
            stages[0].dvcfile.dump_stages(stages, update_pipeline=False)


@contextmanager
def locked(repo: "Repo") -> Iterator[None]:
    """Hold DVC's lock for a moment; wait where another command has it."""
    from dvc.lock import LockError
    from dvc.repo import lock_repo

    with ExitStack() as stack:
        for left in reversed(range(LOCK_TRIES)):
            try:
                stack.enter_context(lock_repo(repo))
                break
            except LockError as error:
                if not left:
                    raise Stopped(" ".join(str(error).split())) from None
        yield


@contextmanager
def alone(repo: "Repo") -> Iterator[None]:
    """Hold all files of a repository as a running `dvc repro` holds a stage's outputs.

    DVC refuses every other command that would read or write one, and a second fan-out.
    """
    from dvc.lock import LockError
    from dvc.rwlock import rwlock

    hardlink = repo.config["core"].get("hardlink_lock", False)
    try:
        with rwlock(repo.tmp_dir, repo.fs, " ".join(sys.argv), [], [repo.root_dir], hardlink):
            yield
    except LockError as error:
        raise Stopped(" ".join(str(error).partition("If there are")[0].split())) from None
