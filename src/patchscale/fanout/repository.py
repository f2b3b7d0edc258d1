"""DVC's view of the pipeline: stages and their order, what is stale, caches, and locks.

DVC is called in this process, for the repository that was opened.
"""

import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchscale.study.errors import InputError, Stopped
from patchscale.study.safe_yaml import read_yaml
from patchscale.study.stage import words_of

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage


LOCK_ATTEMPTS = 20
"""Attempts, of three seconds each, to take the lock that a DVC command holds for a moment."""


def open_repository(root: Path) -> "Repo":
    """Open a repository; from here on DVC logs errors only."""
    from dvc.repo import Repo

    for name in ("dvc", "dvc_data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return Repo(str(root))


def collect(repo: "Repo", globs: Sequence[str]) -> "dict[Stage, set[Stage]]":
    """Return stages with their direct dependencies, in the order of `dvc repro`.

    Parameters
    ----------
    repo
        The repository.
    globs
        Names or patterns of stages; all stages if empty. The stages that they depend on are added.

    Raises
    ------
    InputError
        No stage has such a name, or DVC refuses the pipeline.
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
    """Return the command of a stage, with the word in its name; a list becomes one for a shell.

    `dvc repro` tells a command the name of its stage in DVC_STAGE. A stage that finds this variable
    takes itself for a child of DVC.
    """
    command = stage.cmd if isinstance(stage.cmd, str) else " && ".join(stage.cmd)
    return " ".join([command, *map(shlex.quote, words_of(stage.name))])


def outputs_of(stage: "Stage") -> tuple[Path, ...]:
    """Return the outputs of a stage that `dvc repro` removes before it runs the command."""
    return tuple(Path(out.fs_path) for out in stage.outs if not out.persist)


def restore(stage: "Stage") -> bool:
    """Restore the outputs of a stage from the run-cache; return whether they were there."""
    from dvc.stage.cache import RunCacheNotFoundError
    from dvc_data.hashfile.hash_info import HashInfo

    run_cache = stage.repo.stage_cache
    if stage.changed_stage() or not stage.deps_cached():
        stage.save_deps()
        for out in stage.outs:
            out.hash_info = HashInfo()  # the hashes in dvc.lock belong to other inputs
    try:
        run_cache.restore(stage, dry=True)
    except RunCacheNotFoundError:
        return False
    stage.remove_outs(ignore_remove=False, force=False)
    run_cache.restore(stage)
    commit_outputs(stage)
    return True


def commit_outputs(stage: "Stage") -> None:
    """Add the outputs of a stage to DVC's cache and run-cache, without writing dvc.lock."""
    stage.save()
    stage.commit()


def write_lock(repo: "Repo", stages: "Sequence[Stage]") -> None:
    """Write the entries of committed stages to dvc.lock, in the order given."""
    if stages:
        with dvc_lock(repo):
            stages[0].dvcfile.dump_stages(stages, update_pipeline=False)


def checkout(repo: "Repo") -> list[str]:
    """Make all outputs those of dvc.lock, fetching what the cache lacks; return what was changed.

    Raises
    ------
    Stopped
        An output is neither in the cache nor in the remote.
    """
    from dvc.exceptions import CheckoutError, DvcException

    try:
        try:
            done = repo.checkout(force=True)
        except CheckoutError:
            repo.fetch()
            done = repo.checkout(force=True)
    except DvcException as error:
        raise Stopped(" ".join(str(error).split())) from None
    return sorted(path for kind in ("added", "modified", "deleted") for path in done[kind])


def stale_stages(repo: "Repo") -> list[str]:
    """Return the names of stages, or paths of outputs, that `dvc status` would list."""
    return sorted(repo.status())


def changed_outputs(repo: "Repo") -> dict[str, str]:
    """Return the outputs that are not as in dvc.lock, each with what DVC says of it."""
    changes = [change for each in repo.status().values() for change in each]
    states = [each.get("changed outs", {}) for each in changes if isinstance(each, dict)]
    return {path: state for each in states for path, state in each.items()}


def set_parameters(folder: Path, settings: Sequence[str]) -> None:
    """Set parameters in the files of a folder, as `-S` of `dvc exp run` does.

    Raises
    ------
    InputError
        DVC refuses a setting, or its file is not there.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.cli_parse import to_path_overrides
    from dvc.utils.hydra import apply_overrides

    for file, overrides in to_path_overrides(settings).items():
        for override in overrides:
            try:
                apply_overrides(folder / file, [override])
            except (DvcException, OSError) as error:
                (line, *_) = str(error.__cause__ or error).splitlines()
                near = _nearest_key(folder / file, override.partition("=")[0].lstrip("+~"))
                raise InputError(
                    f"-S {override}: {line.rstrip('.')}{f', perhaps {near}' if near else ''}; "
                    f"KEY=VALUE with a key of {file} is needed"
                ) from None


def _nearest_key(file: Path, key: str) -> str:
    """Return the key of a YAML file that is misspelt as `key`; an empty text if none is near."""
    section, found = read_yaml(file) if file.is_file() else {}, ""
    for part in key.split("."):
        keys = {str(each): each for each in section} if isinstance(section, dict) else {}
        near = [part] if part in keys else get_close_matches(part, keys, 1)
        if not near:
            return ""
        section, found = section[keys[near[0]]], f"{found}.{near[0]}".lstrip(".")
    return found


@contextmanager
def dvc_lock(repo: "Repo", attempts: int = LOCK_ATTEMPTS) -> Iterator[None]:
    """Hold the lock that every DVC command holds while it reads or writes; wait for it.

    Parameters
    ----------
    repo
        The repository.
    attempts
        How often it is tried, for three seconds each.

    Raises
    ------
    Stopped
        Another command held it all the time.
    """
    from dvc.lock import LockError
    from dvc.repo import lock_repo

    with ExitStack() as stack:
        for left in reversed(range(attempts)):
            try:
                stack.enter_context(lock_repo(repo))
                break
            except LockError as error:
                if not left:
                    raise Stopped(" ".join(str(error).split())) from None
        yield


@contextmanager
def repository_lock(repo: "Repo") -> Iterator[None]:
    """Lock all files of a repository, as a running `dvc repro` locks the outputs of a stage.

    DVC refuses every other command that would read or write one of them, and a second fan-out.

    Raises
    ------
    Stopped
        Another command holds files of the repository; the message names its process.
    """
    from dvc.lock import LockError
    from dvc.rwlock import RWLockFileCorruptedError, RWLockFileFormatError, rwlock

    hardlink = repo.config["core"].get("hardlink_lock", False)
    lock: tuple[Any, ...] = (
        repo.tmp_dir,
        repo.fs,
        " ".join(sys.argv),
        [],
        [repo.root_dir],
        hardlink,
    )
    with ExitStack() as stack:
        try:
            try:
                stack.enter_context(rwlock(*lock))
            except (RWLockFileCorruptedError, RWLockFileFormatError, UnicodeDecodeError):
                # a command was killed while it wrote the file; DVC would refuse every later one
                Path(str(repo.tmp_dir), "rwlock").unlink()
                stack.enter_context(rwlock(*lock))
        except LockError as error:
            raise Stopped(" ".join(str(error).partition("If there are")[0].split())) from None
        yield
