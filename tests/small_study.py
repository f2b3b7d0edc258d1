"""A small study with real git and DVC: a parameter, cached outputs and one that git tracks."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from repository import CONFIG, Repository, wait_for

PIPELINE = """\
stages:
  check:
    cmd: python check.py
    deps: [check.py]
    params: [value]
    outs: [checked]
  train:
    cmd: python train.py
    deps: [checked, train.py]
    params: [value]
    outs: [data]
    metrics:
    - metrics/train.json:
        cache: false
"""
CHECK = """\
import sys, yaml
from pathlib import Path
if yaml.safe_load(Path('params.yaml').read_text())['value'] == 7:
    sys.exit('check.py: 7 is refused')
Path('checked').write_text('good')
"""
TRAIN = """\
import json, os, time, yaml
from pathlib import Path
value = yaml.safe_load(Path('params.yaml').read_text())['value']
Path('runs').open('a').write(f'{os.getpid()}\\n')
while Path('wait').exists():
    time.sleep(0.05)
for folder in ('data', 'metrics'):
    Path(folder).mkdir(exist_ok=True)
Path('data/out').write_text(f'out {value}')
Path('metrics/train.json').write_text(json.dumps({'value': value}))
"""
FILES = {
    ".dvc/config": CONFIG,
    ".dvcignore": "/published\n/runs\n/wait\n",
    ".gitignore": "/checked\n/data\n/runs\n/wait\n",
    "params.yaml": "value: 1\n",
    "space.yaml": "{}\n",
    "dvc.yaml": PIPELINE,
    "check.py": CHECK,
    "train.py": TRAIN,
    "notes.txt": "notes\n",
}


class SmallStudy(Repository):
    """A repository with stages `check` and `train`, whose results are committed and published."""

    def text(self, name: str) -> str:
        """Return the content of a file."""
        return (self.path / name).read_text()

    def runs(self) -> list[int]:
        """Return the processes in which `train` was started so far."""
        return [int(line) for line in self.text("runs").splitlines()]

    def tracked(self) -> dict[str, bytes]:
        """Return the content of all files that git tracks and that exist."""
        names = self.do("git", "ls-files").split()
        return {n: (self.path / n).read_bytes() for n in names if (self.path / n).exists()}

    def object(self) -> Path:
        """Return the published object of data/out."""
        objects = (self.path / "published/files/md5").glob("*/*")
        (found,) = (path for path in objects if path.read_bytes() == b"out 1")
        return found

    def copy(self, path: Path) -> "SmallStudy":
        """Return a copy with the same history, cache and workspace."""
        shutil.copytree(self.path, path, symlinks=True)
        return SmallStudy(path)

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """Start a command whose stage waits; return it when the stage has begun."""
        (self.path / "wait").touch()
        before = len(self.runs())
        process = subprocess.Popen(
            command,
            cwd=self.path,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(lambda: len(self.runs()) > before)
        return process

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """Kill a command and its stage."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with suppress(ProcessLookupError):
            os.kill(self.runs()[-1], signal.SIGKILL)
        (self.path / "wait").unlink()


def small_study(path: Path) -> SmallStudy:
    """Return a small study in a new folder."""
    path.mkdir()
    study = SmallStudy(path)
    study.do("git", "init", "-q", "-b", "main")
    study.do("dvc", "init", "-q")
    for name, text in FILES.items():
        (path / name).write_text(text)
    study.do("dvc", "repro", "-q")
    study.do("dvc", "push", "-q")
    study.commit("small study")
    return study
