"""A download that fails names the reason and leaves the last good files unchanged."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT, random_bars, write_study

from patchscale.bars import PRICES, canonical_csv
from patchscale.download.calendar import exchange_sessions
from patchscale.study.files import read_json
from patchscale.study.params import Dataset
from patchscale.study.stage import run

DOWNLOAD = ROOT / "stages" / "download.py"
MINE = {
    "source": "csv",
    "series": "SPY",
    "path": "spy.csv",
    "volatility": "VIX",
    "volatility_path": "vix.csv",
    "calendar": "XNYS",
    "start": "2018-01-02",
    "end": "2018-06-29",
    "validation_from": "2018-03-01",
    "test_from": "2018-05-01",
}
DAY = "2018-03-14"


def good_bars() -> pd.DataFrame:
    sessions = exchange_sessions(Dataset(**MINE))
    bars = random_bars(len(sessions), seed=2).assign(date=sessions)
    bars[PRICES] = bars[PRICES].round(2)
    return bars


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


main = runpy.run_path(str(DOWNLOAD))["main"]


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the stage has succeeded once."""
    folder = tmp_path_factory.mktemp("study")
    params(folder)
    (folder / "spy.csv").write_text(canonical_csv(good_bars()))
    (folder / "vix.csv").write_text(canonical_csv(good_bars().assign(volume=0)))
    with chdir(folder):
        main()
    return folder


def params(folder: Path, **changes: str) -> None:
    """Write parameters that select the data set `mine`, changed."""
    mine = ("params/datasets/mine", MINE | changes)
    write_study(folder, ("params/dataset", "mine"), mine)


@pytest.fixture
def study(downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of that folder, the working directory of the test."""
    shutil.copytree(downloaded, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(DOWNLOAD)])
    return tmp_path


def refused(capsys: Any, code: int) -> str:
    """Run the stage, which must exit with `code` and change no file; return its error line."""
    before = snapshot(Path())
    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == code
    assert snapshot(Path()) == before
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_good_files_become_canonical_ones_with_a_report_each(study: Path) -> None:
    raw = study / "data/raw/mine"
    assert sorted(path.name for path in raw.iterdir()) == ["SPY.csv", "VIX.csv"]
    assert (raw / "SPY.csv").read_bytes() == (study / "spy.csv").read_bytes()
    report = read_json(study / "metrics/download/mine.json")
    assert {name: part["rows"] for name, part in report.items()} == {"SPY": 125, "VIX": 125}


def set_row(**values: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(bars: pd.DataFrame) -> pd.DataFrame:
        for column, value in values.items():
            bars.loc[bars["date"] == DAY, column] = value
        return bars

    return change


def moved_row(day: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(bars: pd.DataFrame) -> pd.DataFrame:
        extra = bars.iloc[[-1]].assign(date=pd.Timestamp(day))
        return pd.concat([bars, extra]).sort_values("date")

    return change


def halved(bars: pd.DataFrame) -> pd.DataFrame:
    bars.loc[bars["date"] >= DAY, PRICES] /= 2
    return bars


def spliced(bars: pd.DataFrame) -> pd.DataFrame:
    bars.loc[bars["date"] < DAY, PRICES] *= 0.99743
    return bars


BAD_BARS = {
    "zero price": (set_row(low=0.0), f"a price is not positive on {DAY}"),
    "negative price": (set_row(low=-5.0), f"a price is not positive on {DAY}"),
    "high below low": (set_row(high=1.0), f"high is below low on {DAY}"),
    "negative volume": (set_row(volume=-1), f"volume is negative on {DAY}"),
    "repeated date": (moved_row(DAY), f"dates repeat on {DAY}"),
    "dates out of order": (lambda bars: bars.iloc[::-1], "dates go back on 2018-06-28, 2018-06-27"),
    "missing session": (
        lambda bars: bars[bars["date"] != DAY],
        f"sessions of XNYS are missing on {DAY}",
    ),
    "weekend": (moved_row("2018-03-17"), "rows of a weekend on 2018-03-17"),
    "holiday": (moved_row("2018-03-30"), "rows of a holiday of XNYS on 2018-03-30"),
    "stale": (lambda bars: bars.iloc[:-25], "to 2018-05-24"),
    "no split": (halved, f"close moved as by a 2:1 split that is not recorded on {DAY}"),
    "split twice": (set_row(splits=2.0), f"(already split-adjusted?) on {DAY}"),
    "splice": (spliced, f"mixed?) on {DAY}"),
}


@pytest.mark.parametrize(
    ("file", "name"),
    # a volatility index may halve in a day
    [("spy.csv", n) for n in BAD_BARS] + [("vix.csv", n) for n in BAD_BARS if n != "no split"],
)
def test_bad_bars_are_refused_and_nothing_is_overwritten(
    study: Path, capsys: Any, file: str, name: str
) -> None:
    change, message = BAD_BARS[name]
    if (file, name) == ("vix.csv", "split twice"):
        message = f"a volatility index has a dividend or split on {DAY}"
    # other prices differ from the last good files too, so that any write would be noticed
    (study / "spy.csv").write_text(canonical_csv(good_bars().assign(volume=7)))
    (study / file).write_text(canonical_csv(change(good_bars())))
    line = refused(capsys, 2)
    assert "datasets.mine: " in line
    assert message in line
    assert file[:3].upper() in line


BAD_TEXT = {
    "NaN row": (
        lambda t: t.replace(row_of(t), DAY + ",nan" * 7),
        f"open of {DAY} is 'nan', not a fi",
    ),
    "byte order mark": (lambda t: "\ufeff" + t, "begins with a byte order mark"),
    "CRLF": (lambda t: t.replace("\n", "\r\n"), "CRLF line ends, first on line 1"),
    "header": (lambda t: t.replace("close", "last"), "the header is 'date,open,high,low,last,"),
    "empty": (lambda t: "", "empty; the header"),
    "truncated": (lambda t: t[:-30], "line 126 has 5 fields; 8 are needed; the file is truncated"),
    "today": (lambda t: t + f"{pd.Timestamp.now('America/New_York'):%Y-%m-%d},1,1,1,1,1,0,0\n", ""),
    "future": (lambda t: t + "2199-01-04,1,1,1,1,1,0,0\n", "2199-01-04 lies in the future"),
}


def row_of(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(DAY))


@pytest.mark.parametrize("name", BAD_TEXT)
@pytest.mark.parametrize("file", ["spy.csv", "vix.csv"])
def test_bad_files_are_refused_and_nothing_is_overwritten(
    study: Path, capsys: Any, name: str, file: str
) -> None:
    change, message = BAD_TEXT[name]
    (study / "spy.csv").write_text(canonical_csv(good_bars().assign(volume=7)))
    (study / file).write_text(change(canonical_csv(good_bars())), newline="")
    line = refused(capsys, 2)
    assert file in line
    assert (message or "today, is unfinished") in line


def test_every_bad_input_has_its_own_message() -> None:
    messages = [message for _, message in (*BAD_BARS.values(), *BAD_TEXT.values())]
    assert len(set(messages)) == len(messages) - 1  # zero and negative prices share theirs


class Fake:
    """A replacement of `yfinance.Ticker` with one answer to all requests."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __call__(self, symbol: str) -> "Fake":
        return self

    def history(self, **words: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (ConnectionError("no route"), 75),
        (pd.DataFrame(), 75),
        (pd.DataFrame({"Open": [1.0]}), 2),
    ],
)
def test_a_failing_yahoo_changes_nothing(
    study: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, answer: Any, code: int
) -> None:
    params(study, source="yahoo")
    monkeypatch.setattr("yfinance.Ticker", Fake(answer))
    monkeypatch.setattr("patchscale.download.yahoo.WAITS", ())
    assert "SPY: Yahoo" in refused(capsys, code)


KILLED = """
import os, runpy, signal, sys
from pathlib import Path
_, stage, moment = sys.argv
sys.argv = [stage]
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def half(path, text, *_, **__):
    path.write_bytes(text[: len(text) // 2].encode())
    die()
if moment == "half written":
    Path.write_text = half
else:
    Path.replace = os.replace = die
runpy.run_path(stage, run_name="__main__")
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("moment", ["half written", "not yet renamed"])
def test_a_kill_during_the_write_leaves_the_last_good_file(study: Path, moment: str) -> None:
    good = snapshot(study / "data")
    (study / "spy.csv").write_text(canonical_csv(good_bars().assign(volume=7)))
    done = subprocess.run([sys.executable, "-c", KILLED, DOWNLOAD, moment], check=False)
    assert done.returncode == -signal.SIGKILL
    after = snapshot(study / "data")
    assert {path: after[path] for path in good} == good
    assert [path for path in after if path not in good and not path.endswith(".tmp")] == []
    main()  # removes what the killed run left, which would change the folder's hash
    assert sorted(snapshot(study / "data")) == sorted(good)
    assert (study / "data/raw/mine/SPY.csv").read_text() == (study / "spy.csv").read_text()


def test_a_series_that_is_no_longer_used_leaves_the_folder(study: Path) -> None:
    params(study, volatility="", volatility_path="")
    main()
    assert [path.name for path in (study / "data/raw/mine").iterdir()] == ["SPY.csv"]


def test_only_a_yahoo_data_set_imports_yfinance(study: Path) -> None:
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1])['main'](); "
        "assert 'pandera' in sys.modules; assert 'yfinance' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, DOWNLOAD], check=True)
