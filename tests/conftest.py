"""Random bars and changed parameters that the tests share."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import yaml

if TYPE_CHECKING:
    from small_study import SmallStudy
    from stub_pipeline import StubPipeline

if hasattr(signal, "SIGHUP"):  # nohup makes a process and its children ignore SIGHUP
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # and a job in the background SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
REMOVE = object()
"""Value of a change that removes the key."""

Change = tuple[str, Any]
"""File, path of a key in it, and its new value: ("params/train/clip", 2.0)."""


def write_study(folder: Path, *changes: Change) -> Path:
    """Write the repository's params.yaml, grid.yaml and space.yaml, changed, into a folder."""
    files = {
        name: yaml.load((ROOT / f"{name}.yaml").read_text(), Loader=yaml.CSafeLoader)
        for name in ("params", "grid", "space")
    }
    for key, value in changes:
        *parents, last = key.split("/")
        section = files
        for name in parents:
            section = section[name]
        if value is REMOVE:
            del section[last]
        else:
            section[last] = value
    for name, content in files.items():
        text = yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False)
        (folder / f"{name}.yaml").write_text(text)
    return folder


def random_bars(n: int, seed: int = 0, start: str = "2000-01-03") -> pd.DataFrame:
    """Return canonical bars on business days: a random walk with clustered volatility."""
    random = np.random.default_rng(seed)
    volatility = 0.01 * np.exp(0.5 * np.sin(np.arange(n) / 40) + 0.1 * random.standard_normal(n))
    close = 100 * np.exp(np.cumsum(volatility * random.standard_normal(n)))
    opens = np.append(100.0, close[:-1]) * np.exp(0.2 * volatility * random.standard_normal(n))
    spread = 1 + volatility * random.random((2, n))
    bars = pd.DataFrame(
        {
            "date": pd.bdate_range(start, periods=n),
            "open": opens,
            "high": np.maximum(opens, close) * spread[0],
            "low": np.minimum(opens, close) / spread[1],
            "close": close,
            "volume": random.integers(1_000_000, 5_000_000, n).astype(float),
            "dividends": 0.0,
            "splits": 0.0,
        }
    )
    return bars


@pytest.fixture(scope="session")
def bars() -> pd.DataFrame:
    return random_bars(900)


@pytest.fixture
def make_bars() -> Callable[..., pd.DataFrame]:
    return random_bars


def enter(repository: "StubPipeline | SmallStudy", monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a repository the current folder, with the environment of its commands."""
    for key, value in repository.environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(repository.path)


@pytest.fixture(scope="session")
def stub_template(tmp_path_factory: pytest.TempPathFactory) -> "StubPipeline":
    from stub_pipeline import stub_pipeline  # imports DVC

    return stub_pipeline(tmp_path_factory.mktemp("stub") / "template")


@pytest.fixture
def stub(
    stub_template: "StubPipeline", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "StubPipeline":
    """Return a stub pipeline in which nothing has run; it is the current folder."""
    stub = stub_template.copy(tmp_path / "stub")
    enter(stub, monkeypatch)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("patchscale.runtime.retries.PAUSE", 0.05)
    return stub


@pytest.fixture(scope="session")
def small_template(tmp_path_factory: pytest.TempPathFactory) -> "SmallStudy":
    from small_study import small_study

    return small_study(tmp_path_factory.mktemp("small") / "study")


@pytest.fixture
def small(
    small_template: "SmallStudy", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "SmallStudy":
    """Return a copy of the small study, whose results are committed; it is the current folder."""
    small = small_template.copy(tmp_path / "study")
    enter(small, monkeypatch)
    return small


@pytest.fixture
def deadline() -> Iterator[None]:
    """Fail a test that has not ended after eight minutes."""

    def fail(number: int, frame: object) -> None:
        raise TimeoutError("not ended after eight minutes")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(480)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
