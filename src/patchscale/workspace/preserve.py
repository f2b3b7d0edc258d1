"""A workspace that an experiment leaves as it found it: as committed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patchscale.fanout import repository
from patchscale.study import paths
from patchscale.study.errors import InputError, some
from patchscale.study.lock import locked_stages
from patchscale.workspace.committed import differing, experiment_files, git, head_files
from patchscale.workspace.reset import go_back

HINT = "`dvc pull` brings what is missing, `patchscale reset` goes back to what is committed"


def refuse_changed_files(root: Path) -> None:
    """Refuse a workspace whose parameters, dvc.lock or outputs in git are not as committed.

    Raises
    ------
    InputError
        They differ, so that an experiment would start from something else, or overwrite it.
    """
    if changed := differing(root, experiment_files(root, head_files(root))):
        raise InputError(f"{some(changed)}: not as committed; {HINT}")


def refuse_changed_outputs(root: Path) -> None:
    """Refuse a workspace whose outputs are not as in dvc.lock, as `refuse_changed_files` does.

    DVC is asked, which takes seconds.
    """
    if outputs := repository.changed_outputs(repository.open_repository(root)):
        named = some(f"{path} ({state})" for path, state in outputs.items())
        raise InputError(f"{named}: not as in dvc.lock; {HINT}")


@contextmanager
def preserved(root: Path, keep: bool = False) -> Iterator[None]:
    """Let a block run an experiment, and restore the workspace however the block ends.

    Parameters
    ----------
    root
        The repository; nothing in it was refused.
    keep
        Whether the files stay if the block ends without an exception.
    """
    before, stays = untracked(root), False
    try:
        yield
        stays = keep
    finally:
        if not stays:
            restore(root, before)


def restore(root: Path, before: set[str]) -> None:
    """Make parameters, dvc.lock and outputs those of the last commit; remove new outputs."""
    repo = repository.open_repository(root)
    with repository.repository_lock(repo), repository.dvc_lock(repo):
        for path in (untracked(root) - before) & written(root):
            (root / path).unlink()
        for _ in go_back(root):
            pass  # what was changed is the experiment, which is known
        repository.checkout(repo)


def untracked(root: Path) -> set[str]:
    """Return the files that git neither tracks nor ignores."""
    return {*git(root, "ls-files", "--others", "--exclude-standard", "-z").split("\0")} - {""}


def written(root: Path) -> set[str]:
    """Return the outputs in the dvc.lock of the workspace."""
    stages = locked_stages(root / paths.LOCK).values()
    return {out["path"] for stage in stages for out in stage.get("outs", [])}
