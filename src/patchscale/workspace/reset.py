"""The way back to what is committed: `python3 dev.py reset`.

Parameters, dvc.lock and all outputs become those of the last commit. Source files, other edits and
files that git does not track are left alone.
"""

from collections.abc import Iterator
from pathlib import Path

from patchscale.fanout import repository
from patchscale.study.errors import InputError, Stopped, some
from patchscale.study.stage import run
from patchscale.workspace.committed import (
    differing,
    experiment_files,
    git,
    head_files,
    keep,
    objects,
    parameters,
    put_back,
)

EXEC = "refs/exps/exec"
"""Where DVC keeps what an experiment in the workspace began with; a killed one leaves it there."""


def main(*words: str) -> None:
    """Go back to the last commit; say what was done and whether the pipeline is up to date."""
    if words:
        raise InputError(f"{' '.join(words)!r} is not allowed; reset takes no words")
    root = Path.cwd()
    head_files(root)  # refuses what is no repository, before DVC is imported
    repo = repository.open_repository(root)
    try:
        with repository.repository_lock(repo), repository.dvc_lock(repo, attempts=1):
            done = False
            for line in go_back(root):
                done = True
                print(f"reset: {line}", flush=True)
            if changed := repository.checkout(repo):
                done = True
                print(f"reset: {some(changed)}: as in dvc.lock")
            stale = repository.stale_stages(repo)
    except OSError as error:
        raise Stopped(f"{error.filename}: {error.strerror}") from None
    if not done:
        print("reset: nothing to do")
    for line in left_alone(root):
        print(f"reset: {line}")
    if stale:
        print(f"Not up to date: {some(stale)}; `dvc status` says why")
    else:
        print("Data and pipelines are up to date.")


def go_back(root: Path) -> Iterator[str]:
    """Restore the branch, the files that experiments change, and published objects."""
    if branch := interrupted_branch(root):
        git(root, "symbolic-ref", "-m", "patchscale reset", "HEAD", branch)
        for name in ("EXEC_BASELINE", "EXEC_MERGE"):
            git(root, "update-ref", "-d", f"{EXEC}/{name}")
        yield f"an experiment was interrupted; back on {branch.removeprefix('refs/heads/')}"
    files = head_files(root)
    for path in put_back(root, files, differing(root, objects(files))):
        yield f"{path}: was damaged or missing; restored from git"
    changed = differing(root, experiment_files(root, files))
    kept = {
        name: keep(root, name)
        for name in parameters(files)
        if name in changed and (root / name).is_file()
    }
    if put_back(root, files, changed):
        yield f"{some(changed)}: as committed"
    for name, blob in kept.items():
        yield f"{name} as it was before: `git show {blob}`"


def interrupted_branch(root: Path) -> str:
    """Return the branch that a killed experiment left, or nothing.

    DVC detaches HEAD while an experiment runs in the workspace.
    """
    try:
        git(root, "symbolic-ref", "--quiet", "HEAD")
        return ""
    except Stopped:
        pass  # HEAD is detached
    try:
        git(root, "rev-parse", "--verify", f"{EXEC}/EXEC_MERGE")
        began = git(root, "rev-parse", "--verify", f"{EXEC}/EXEC_HEAD")
        branch = git(root, "rev-parse", "--symbolic-full-name", "@{-1}").strip()
        at_start = branch.startswith("refs/heads/") and git(root, "rev-parse", branch) == began
    except Stopped:
        return ""
    return branch if at_start else ""


def left_alone(root: Path) -> Iterator[str]:
    """Yield what is not as committed still: edits of other files, and untracked outputs."""
    if edited := git(root, "diff", "--name-only", "-z", "HEAD").split("\0")[:-1]:
        yield f"left alone, edited: {some(edited)}"
    folders = ("metrics", "plots", "docs")
    words = ("--others", "--exclude-standard", "-z", "--", *folders)
    if untracked := git(root, "ls-files", *words).split("\0")[:-1]:
        yield f"left alone, not tracked by git: {some(untracked)}"


if __name__ == "__main__":
    run(main)
