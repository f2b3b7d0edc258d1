"""A small study with real git and DVC: a cached output, one that git tracks, and a parameter."""

import os
import signal
import subprocess
from pathlib import Path

from repository import Repository, wait_for

CONFIG = """\
[core]
    analytics = false
    check_update = false
    remote = published
['remote "published"']
    url = ../published
"""
PIPELINE = """\
stages:
  train:
    cmd: python train.py
    deps: [train.py]
    params: [value]
    outs: [data]
    metrics:
    - metrics/train.json:
        cache: false
"""
TRAIN = """\
import json, sys, time
from pathlib import Path
value = json.loads(Path('params.yaml').read_text())['value']
Path('runs').open('a').write('x')
if value == 7:
    sys.exit('train.py: 7 is refused')
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
    ".gitignore": "/data\n/runs\n/wait\n",
    "params.yaml": '{"value": 1}\n',
    "space.yaml": "{}\n",
    "dvc.yaml": PIPELINE,
    "train.py": TRAIN,
    "notes.txt": "notes\n",
}


class SmallStudy(Repository):
    """A repository with one stage, whose results are committed and published."""

    def text(self, name: str) -> str:
        """Return the content of a file."""
        return (self.path / name).read_text()

    def runs(self) -> int:
        """Return how often the command of the stage was started."""
        return len(self.text("runs"))

    def tracked(self) -> dict[str, bytes]:
        """Return the content of all files that git tracks and that exist."""
        names = self.do("git", "ls-files").split()
        return {n: (self.path / n).read_bytes() for n in names if (self.path / n).exists()}

    def object(self) -> Path:
        """Return the published object of data/out."""
        objects = (self.path / "published/files/md5").glob("*/*")
        (found,) = (path for path in objects if path.read_bytes() == b"out 1")
        return found

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """Start a command whose stage waits; return it when the stage has begun."""
        (self.path / "wait").touch()
        before = self.runs()
        process = subprocess.Popen(
            command,
            cwd=self.path,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(lambda: self.runs() > before)
        return process

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """Kill a command and its stage."""
        for group in {process.pid, *stage_groups(self.path)}:
            os.killpg(group, signal.SIGKILL)
        process.wait()
        (self.path / "wait").unlink()


def stage_groups(folder: Path) -> set[int]:
    """Return the process groups of the stages that run in a folder."""
    import psutil

    found = set()
    for process in psutil.process_iter(["cmdline"]):
        try:
            if process.info["cmdline"][-1:] == ["train.py"] and process.cwd() == str(folder):
                found.add(os.getpgid(process.pid))
        except (psutil.Error, OSError):
            continue
    return found


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
