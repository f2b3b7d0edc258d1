"""Repositories with real git and real DVC, and a small pipeline whose outputs are published."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")
# Variables of the user's environment that no command of a test may see.
OTHERS = ("AWS_", "DVC_", "GIT_", "RCLONE_")
CONFIG = """\
[core]
    analytics = false
    check_update = false
    remote = published
['remote "published"']
    url = ../published
"""
"""Configuration of DVC whose default remote is the folder `published`."""
PIPELINE = """\
stages:
  results:
    cmd: python make.py data/results
    outs:
    - data/results
  weights:
    matrix:
      budget: [2M, 20M]
      horizon: [h1]
    cmd: python make.py data/weights/${item.budget}-${item.horizon}
    outs:
    - data/weights/${item.budget}-${item.horizon}
"""
SIZES = {
    "data/results": [200_000] * 6,
    "data/weights/2M-h1": [400_000],
    "data/weights/20M-h1": [8_000_000],
}
MAKE = f"""\
import random
import sys
from pathlib import Path

folder = Path(sys.argv[1])
folder.mkdir(parents=True)
for seed, size in enumerate({SIZES}[sys.argv[1]]):
    content = random.Random(f"{{folder}} {{seed}}").randbytes(size)
    (folder / f"seed{{seed}}.bin").write_bytes(content)
"""


def wait_for(event: Callable[[], T], seconds: float = 120) -> T:
    """Call `event` until what it returns is true, and return that; fail after the deadline."""
    deadline = time.monotonic() + seconds
    while not (found := event()):
        assert time.monotonic() < deadline, f"nothing happened in {seconds} s"
        time.sleep(0.05)
    return found


class Repository:
    """A folder with git and DVC, kept apart from the user's own settings and credentials."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def environment(self) -> dict[str, str]:
        """Return the environment of every command; settings stand in a folder beside this one."""
        own = self.path.with_name(f"{self.path.name}-settings")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(OTHERS) and not name.lower().endswith("_proxy")
        }
        return kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "toy",
            "GIT_AUTHOR_EMAIL": "toy@example.org",
            "GIT_COMMITTER_NAME": "toy",
            "GIT_COMMITTER_EMAIL": "toy@example.org",
            "DVC_NO_ANALYTICS": "1",
            "DVC_GLOBAL_CONFIG_DIR": str(own),
            "DVC_SYSTEM_CONFIG_DIR": str(own),
            "DVC_SITE_CACHE_DIR": str(own),
            "AWS_CONFIG_FILE": str(own / "aws"),
            "AWS_SHARED_CREDENTIALS_FILE": str(own / "aws"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def call(
        self, *command: str, seconds: float = 600, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with these variables set; one that hangs fails the test."""
        return subprocess.run(
            command,
            cwd=self.path,
            env=self.environment() | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def do(self, *command: str, **variables: str) -> str:
        """Run a command that must succeed; return what it printed on stdout."""
        done = self.call(*command, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def commit(self, message: str) -> None:
        """Commit all files that git does not ignore."""
        self.do("git", "add", "-A")
        self.do("git", "commit", "-q", "-m", message)

    def clone(self, path: Path) -> Self:
        """Return a clone made by git."""
        self.do("git", "clone", "-q", str(self.path), str(path))
        return type(self)(path)

    def content(self, *folders: str) -> dict[str, bytes]:
        """Return the files of some folders, or of all outputs of the small pipeline, by path."""
        return {
            file.relative_to(self.path).as_posix(): file.read_bytes()
            for folder in folders or SIZES
            for file in (self.path / folder).glob("*")
        }


def small_repository(path: Path, config: str) -> Repository:
    """Return a committed repository in which the small pipeline has run.

    Its default remote is the folder `published`; `config` is appended to DVC's configuration.
    """
    path.mkdir()
    repo = Repository(path)
    repo.do("git", "init", "-q", "-b", "main")
    repo.do("dvc", "init", "-q")
    (path / ".dvc/config").write_text(CONFIG + config)
    (path / ".dvcignore").write_text("/published\n")
    (path / ".gitignore").write_text("/data/*\n")
    (path / ".gitattributes").write_text("published/** -text\n")
    (path / "make.py").write_text(MAKE)
    (path / "dvc.yaml").write_text(PIPELINE)
    repo.do("dvc", "repro", "-q")
    repo.commit("small pipeline")
    return repo
