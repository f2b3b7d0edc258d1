"""Restore what git has and a killed command removed or a disk damaged: `python3 dev.py repro`.

DVC removes the outputs of a stage before it runs. After a kill those that git tracks stay removed,
and the next `dvc repro` would make them anew. DVC also deletes a damaged object of a remote, and
this project's remote is a folder of the repository.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from patchscale.fanout import repository
from patchscale.study.errors import InputError, some, without_secrets
from patchscale.study.stage import run
from patchscale.workspace.committed import (
    differing,
    head_files,
    objects,
    outputs,
    parameters,
    put_back,
)

RWLOCK = Path(".dvc/tmp/rwlock")
"""File in which DVC notes the commands that run, and in which a killed one stays noted."""


def main() -> None:
    """Restore removed outputs and damaged objects; say what was interrupted."""
    root = Path.cwd()
    try:
        files = head_files(root)
    except InputError:
        return  # the code came as an archive: there is nothing to restore from
    removed = [path for path in outputs(root, files) if not (root / path).exists()]
    damaged = differing(root, objects(files))
    commands = interrupted(root)
    if removed or damaged or commands is None:
        with repository.repository_lock(repository.open_repository(root)):
            for line in restore(root, files, removed, damaged, commands):
                print(without_secrets(line), flush=True)
    changed = differing(root, parameters(files))
    if changed:
        print(
            f"{some(changed)}: not as committed, what depends on it is made anew; "
            f"`python3 dev.py reset` goes back",
            flush=True,
        )


def restore(
    root: Path,
    files: dict[str, str],
    removed: list[str],
    damaged: list[str],
    commands: list[str] | None,
) -> Iterator[str]:
    """Restore files from the last commit; yield a line for each kind.

    Parameters
    ----------
    root
        The repository.
    files
        Blobs of the last commit, by path.
    removed, damaged
        Outputs and published objects to restore.
    commands
        What `interrupted` returned.
    """
    for path in put_back(root, files, damaged):
        yield f"{path}: was damaged or missing; restored from git"
    if put_back(root, files, removed):
        same = " and ".join(f"`{command}`" for command in commands or [])
        yield (
            f"{some(removed)}: removed by a command that was interrupted, restored from git; "
            f"to go on with that instead: {same or 'the same `dvc repro` or `dvc exp run` again'}"
        )


def interrupted(root: Path) -> list[str] | None:
    """Return the commands that run stages in DVC's lock file; None if the file is damaged.

    The file has the words of a command without their quotes.
    """
    try:
        lock = json.loads((root / RWLOCK).read_text("utf-8"))
        commands = {note["cmd"] for note in lock.get("write", {}).values()}
    except FileNotFoundError:
        return []
    except (ValueError, AttributeError, KeyError, TypeError):
        return None
    found = []
    for command in sorted(commands):
        program, _, words = command.removeprefix("patchscale fanout ").partition(" ")
        path = Path(program)
        if "dvc" in (path.stem, path.parent.name):
            found.append(f"dvc {words}")
        elif "fanout" in (path.name, path.parent.name):
            found.append(f"python3 dev.py fanout {words}".rstrip())
    return found


if __name__ == "__main__":
    run(main)
