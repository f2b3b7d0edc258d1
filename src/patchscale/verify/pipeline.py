"""The stages that dvc.yaml declares: commands, dependencies, parameters and outputs.

DVC resolves them from dvc.yaml and the parameters; dvc.lock is not read. A command that is run
again comes from here and is a script that git tracks.
"""

import logging
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchscale.study import paths
from patchscale.study.errors import InputError, shown
from patchscale.study.stage import words_of
from patchscale.verify.strict_lock import inside, read_as_dvc, shortened

if TYPE_CHECKING:
    from dvc.stage import Stage

COMMAND = re.compile(r"python (stages/[a-z_]+\.py)", re.ASCII)


@dataclass(frozen=True)
class Declared:
    """A stage as dvc.yaml and the parameters declare it."""

    name: str
    command: str
    deps: tuple[str, ...]
    params: dict[str, dict[str, Any]]
    """For each file the values of its keys, written with dots."""
    outs: tuple[str, ...]

    @property
    def script(self) -> str:
        """Path of the script that the command runs."""
        return self.command.split()[1]

    @property
    def words(self) -> list[str]:
        """What the script is given."""
        return words_of(self.name)


def declared_stages(root: Path) -> dict[str, Declared]:
    """Return the stages of dvc.yaml by name, in its order.

    Raises
    ------
    InputError
        DVC refuses dvc.yaml or the parameters, a command is not that of a stage, its script is not
        tracked by git, or a path leads out of the repository.
    """
    from dvc.dvcfile import ProjectFile
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.stage.loader import StageLoader

    logging.getLogger("dvc").setLevel(logging.ERROR)
    for name in (paths.PIPELINE, *paths.STUDY):
        if (root / name).exists():
            read_as_dvc(root / name)  # the resolver does not measure what it parses
    content, tracked = cache(lambda file: read_as_dvc(root / file)), scripts(root)
    try:
        with Repo(str(root), uninitialized=True) as repo:
            file = ProjectFile(repo, str(root / paths.PIPELINE))
            loader = StageLoader(file, file.contents, {})  # without dvc.lock
            return {stage: declare(loader[stage], content, tracked) for stage in loader}
    except (DvcException, ValueError, TypeError, LookupError, AttributeError) as error:
        # what DVC refuses without an error of its own, such as a list where a table belongs
        raise InputError(
            f"{paths.PIPELINE}: DVC cannot resolve it ({shortened(error, 160)})"
        ) from None


def declare(stage: "Stage", content: Any, tracked: set[str]) -> Declared:
    """Return the declaration of a stage that DVC has loaded.

    Parameters
    ----------
    stage
        The stage.
    content
        Function that returns the content of a file of parameters.
    tracked
        Files of stages/ that git tracks.
    """
    from dvc.dependency import ParamsDependency

    where = f"{paths.PIPELINE}: stages.{shortened(stage.name)}"
    command = COMMAND.fullmatch(stage.cmd) if isinstance(stage.cmd, str) else None
    if command is None:
        raise InputError(
            f"{where}.cmd: {shown(stage.cmd)} is not allowed; `python stages/<script>.py` is needed"
        )
    if command[1] not in tracked:
        raise InputError(f"{where}.cmd: {command[1]} is not a file that git tracks")
    of_params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    deps = [dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)]
    outs = [out.def_path for out in stage.outs]
    for path in (*deps, *outs, *(dep.def_path for dep in of_params)):
        try:
            inside(path)
        except ValueError as error:
            raise InputError(f"{where}: {shown(path)} is not allowed; {error}") from None
    return Declared(
        stage.name,
        stage.cmd,
        tuple(deps),
        {
            dep.def_path: {
                key: look_up(content(dep.def_path), key, dep.def_path)
                for key in dep.params or content(dep.def_path)
            }
            for dep in of_params
        },
        tuple(outs),
    )


def look_up(params: Any, key: str, file: str) -> Any:
    """Return the value of a key written with dots; raise InputError where there is none."""
    for part in key.split("."):
        if not isinstance(params, dict) or part not in params:
            raise InputError(f"{file}: {key}: missing; {paths.PIPELINE} names it")
        params = params[part]
    return params


def scripts(root: Path) -> set[str]:
    """Return the files of stages/ that git tracks and that are files here, not links."""
    return {
        name
        for name in tracked_files(root, "stages")
        if (root / name).resolve() == root.resolve() / name
    }


def tracked(root: Path, *folders: str) -> list[tuple[str, str]]:
    """Return mode and path of what git tracks in some folders of a repository.

    Raises
    ------
    InputError
        The folder is no git repository, or git is not there.
    """
    command = ["git", "-C", str(root), "ls-files", "-s", "-z", "--", *folders]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="surrogateescape", check=False
        )
    except OSError as error:
        raise InputError(f"git: {error.strerror}; it says which files are tracked") from None
    if done.returncode:
        raise InputError(f"git ls-files: {shortened(done.stderr, 160)}")
    rows = (row.partition("\t") for row in done.stdout.split("\0") if row)
    return [(facts.split(" ")[0], name) for facts, _, name in rows]


def tracked_files(root: Path, *folders: str) -> list[str]:
    """Return the files, without links, that git tracks; raise InputError as `tracked` does."""
    return [name for mode, name in tracked(root, *folders) if mode.startswith("100")]
