"""A DVC pipeline of stub stages, whose cells fail, die or wait on request, and fan-outs of it."""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from conftest import ROOT
from dvc.repo import Repo
from repository import Repository

from patchscale.fanout import repository
from patchscale.fanout.__main__ import make_executor
from patchscale.fanout.driver import LOGS, StageGraph, run_stages
from patchscale.fanout.executors import Job

PIPELINE = """\
stages:
  data:
    cmd: python data.py
    deps: [data.py]
    outs: [data.txt]
  cell:
    matrix:
      name: [a, b, c]
    cmd: python cell.py
    deps: [cell.py, data.txt]
    outs:
    - out/${item.name}.txt
  report:
    cmd: python report.py
    deps: [out, report.py]
    outs: [report.txt]
"""
DATA = "open('data.txt', 'w').write('numbers')\n"
CELL = """\
import os, signal, sys, time
from pathlib import Path
name = sys.argv[1] if sys.argv[1:] else os.environ['DVC_STAGE'].partition('@')[2]
behaviour = Path('behaviour') / name
words = behaviour.read_text().split() if behaviour.exists() else []
if 'once' in words:
    behaviour.unlink()
if 'ignore' in words:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path('runs-of', name).open('a').write('x')
while 'wait' in words and not Path('behaviour/go').exists():
    time.sleep(0.05)
if 'fail' in words:
    sys.exit(f'{name} fails')
if 'stop' in words:
    sys.exit(75)
if 'die' in words:
    os.kill(os.getpid(), signal.SIGKILL)
Path('out', name + '.txt').write_text(name + Path('data.txt').read_text())
"""
REPORT = """\
from pathlib import Path
text = ' '.join(path.read_text() for path in sorted(Path('out').glob('*.txt')))
open('report.txt', 'w').write(text)
"""
CONFIG = """\
[core]
    analytics = false
    check_update = false
"""
FOLDERS = ("behaviour", "out", "runs-of")


class StubPipeline(Repository):
    """A repository with the stages `data`, `cell@a`, `cell@b`, `cell@c` and `report`."""

    def set_behaviour(self, words: str, *cells: str) -> None:
        """Let the next runs of cells behave as these words say.

        Words are wait (until `let_go`), fail, stop (exit code 75), die (SIGKILL), ignore (SIGTERM)
        and once (only the next run).
        """
        for cell in cells:
            (self.path / "behaviour" / cell).write_text(words)

    def let_go(self) -> None:
        """End the waiting of all cells."""
        (self.path / "behaviour/go").touch()

    def runs(self, cell: str) -> int:
        """Return how often the command of a cell was started."""
        file = self.path / "runs-of" / cell
        return len(file.read_text()) if file.exists() else 0

    def is_up_to_date(self) -> bool:
        """Return whether DVC finds nothing stale."""
        return "up to date" in self.do("dvc", "status")

    def copy(self, path: Path) -> "StubPipeline":
        """Return a copy with the same history, cache and workspace."""
        shutil.copytree(self.path, path, symlinks=True)
        return StubPipeline(path)


def stub_pipeline(path: Path) -> StubPipeline:
    """Return a committed repository in which nothing has run."""
    path.mkdir()
    repo = StubPipeline(path)
    repo.do("git", "init", "-q", "-b", "main")
    repo.do("dvc", "init", "-q")
    ignored = "".join(f"/{name}\n" for name in ("behaviour", "runs", "runs-of"))
    for name, text in {
        ".dvc/config": CONFIG,
        "dvc.yaml": PIPELINE,
        "data.py": DATA,
        "cell.py": CELL,
        "report.py": REPORT,
        ".gitignore": f"{ignored}/data.txt\n/out\n/report.txt\n",
        ".dvcignore": ignored,
    }.items():
        (path / name).write_text(text)
    for name in FOLDERS:
        (path / name).mkdir()
    for name in ("params.yaml", "grid.yaml"):
        shutil.copy(ROOT / name, path)
    repo.commit("stub pipeline")
    return repo


def unchanged(job: Job) -> Job:
    """Return a job as it is."""
    return job


def collect(*globs: str) -> StageGraph:
    """Return the stages of the pipeline in the current folder."""
    repo = Repo(".")
    return StageGraph(repo, repository.collect(repo, globs))


def fan_out(
    *globs: str,
    engine: str = "local",
    jobs: int = 2,
    add_needs: Callable[[Job], Job] = unchanged,
    stopped: Callable[[], str] = lambda: "",
    graph: StageGraph | None = None,
) -> StageGraph:
    """Fan out in this process and in the current folder, as the command line does."""
    LOGS.mkdir(parents=True, exist_ok=True)
    graph = graph or collect(*globs)
    with (
        repository.repository_lock(graph.repo),
        closing(make_executor(engine, jobs, Path.cwd())) as executor,
    ):
        run_stages(graph, executor, add_needs, stopped)
    return graph
