"""Git's view of the files that experiments change, compared by content.

Git takes a file as unchanged if its size and the second of its last change are those in the index.
DVC writes a file twice in one second, and the index then describes the first version. `git status`
and `git checkout` do not see such a file; a hash of its content does.
"""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from patchscale.study import paths
from patchscale.study.errors import InputError, Stopped
from patchscale.study.safe_yaml import parse_yaml

LOCK = paths.LOCK.as_posix()
OBJECTS = "published/"
"""Folder of the DVC remote that git tracks."""


def git(root: Path, *words: str, stdin: str = "") -> str:
    """Return what a git command prints.

    Raises
    ------
    Stopped
        The command failed; the message is the first line of its error.
    """
    done = subprocess.run(
        ["git", "--literal-pathspecs", *words],
        cwd=root,
        input=stdin.encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        (line, *_) = [*done.stderr.decode(errors="replace").splitlines(), "no message"]
        hint = "; remove it if no git command runs" if "index.lock" in line else ""
        raise Stopped(f"git {words[0]}: {line.removeprefix('fatal: ')}{hint}")
    return done.stdout.decode(errors="surrogateescape")


def head_files(root: Path) -> dict[str, str]:
    """Return the blob of every file of the last commit, by path.

    Raises
    ------
    InputError
        The folder is not the root of a git repository with a commit.
    """
    try:
        top = Path(git(root, "rev-parse", "--show-toplevel").strip())
        listing = git(root, "ls-tree", "-r", "-z", "HEAD")
    except (Stopped, FileNotFoundError) as error:
        raise InputError(f"{root.name}: not a git repository with a commit ({error})") from None
    if not top.samefile(root):
        raise InputError(f"{root.name}: not a git repository of its own, but a folder of {top}")
    entries = [entry.split("\t", 1) for entry in listing.split("\0") if entry]
    return {path: words.split()[2] for words, path in entries}


def outputs(root: Path, files: dict[str, str]) -> dict[str, str]:
    """Return the files of a commit that are outputs of the pipeline, by the dvc.lock in it.

    Raises
    ------
    InputError
        The committed dvc.lock is damaged.
    """
    if LOCK not in files:
        return {}
    committed = f"HEAD:{LOCK}"
    lock = parse_yaml(git(root, "show", committed), committed)
    try:
        stages = lock["stages"].values()
        outs = {out["path"] for stage in stages for out in stage.get("outs", [])}
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"{committed}: damaged") from None
    return {
        path: blob
        for path, blob in files.items()
        if outs & {path, *(parent.as_posix() for parent in Path(path).parents)}
    }


def objects(files: dict[str, str]) -> dict[str, str]:
    """Return the files of a commit that are published objects."""
    return {path: blob for path, blob in files.items() if path.startswith(OBJECTS)}


def parameters(files: dict[str, str]) -> dict[str, str]:
    """Return the files of a commit that hold the parameters of the study."""
    names = [path.as_posix() for path in paths.STUDY]
    return {name: files[name] for name in names if name in files}


def experiment_files(root: Path, files: dict[str, str]) -> dict[str, str]:
    """Return the files of a commit that an experiment changes: parameters, dvc.lock, outputs."""
    lock = {LOCK: files[LOCK]} if LOCK in files else {}
    return parameters(files) | lock | outputs(root, files)


def differing(root: Path, files: dict[str, str]) -> list[str]:
    """Return the files whose bytes are not those of their blob, or which are missing."""
    there = [path for path in files if (root / path).is_file()]
    lines = "".join(f"{path}\n" for path in there)
    hashes = git(root, "hash-object", "--no-filters", "--stdin-paths", stdin=lines).split()
    found = dict(zip(there, hashes, strict=True))
    return [path for path, blob in files.items() if found.get(path) != blob]


def put_back(root: Path, files: dict[str, str], names: Iterable[str]) -> list[str]:
    """Write files as they are in the last commit; return their names.

    Raises
    ------
    Stopped
        A file could not be written, or its bytes still differ.
    """
    names = list(names)
    if not names:
        return names
    for name in names:
        if (root / name).exists() and not (root / name).is_symlink():
            # a time that no index entry has: git would skip a file that it believes unchanged
            os.utime(root / name, (1, 1))
    listing = "\0".join(names)
    words = ("HEAD", "--pathspec-from-file=-", "--pathspec-file-nul")
    git(root, "checkout", "--quiet", *words, stdin=listing)
    for name in differing(root, {name: files[name] for name in names}):
        raise Stopped(f"{name}: git cannot restore it; the filters of git change its bytes")
    return names


def keep(root: Path, name: str) -> str:
    """Save the content of a file in git's object database; return its abbreviated blob."""
    blob = git(root, "hash-object", "-w", "--no-filters", "--", name).strip()
    return blob[:12]
