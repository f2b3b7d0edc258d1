"""`patchscale import-csv` lists all problems, or writes bars and a command that `check` allows."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, write_study

from patchscale.bars import read_bars
from patchscale.check import check
from patchscale.cli.__main__ import call
from patchscale.download.calendar import exchange_sessions
from patchscale.download.sources import fetch
from patchscale.importing.periods import walk_years
from patchscale.study.errors import InputError
from patchscale.study.params import Params, load_params, load_space

HEAD = "Date,Open,High,Low,Close,Adj Close,Volume"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Return sixteen years of bars as Yahoo's page has them."""
    data = (
        load_params(ROOT)
        .datasets["csv"]
        .model_copy(update={"start": "2004-01-02", "end": "2020-03-31"})
    )
    days = exchange_sessions(data)
    random = np.random.default_rng(0)
    close = np.round(100 * np.exp(np.cumsum(0.01 * random.standard_normal(len(days)))), 2)
    opens = np.append(100.0, close[:-1])
    frame = pd.DataFrame({"Date": days.strftime("%Y-%m-%d"), "Open": opens})
    frame["High"] = np.round(np.maximum(opens, close) * 1.005, 2)
    frame["Low"] = np.round(np.minimum(opens, close) * 0.995, 2)
    return frame.assign(Close=close, Adj=close, Volume=1000).set_axis(HEAD.split(","), axis=1)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with the study's parameters the current one."""
    write_study(tmp_path)
    (tmp_path / "inputs").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_keys(printed: str) -> Params:
    """Return the study's parameters with the keys of a printed command."""
    raw = load_params().model_dump()
    words = shlex.split(printed[printed.index("dvc exp run") :].replace("\\\n", " "))
    assert words[:3] == ["dvc", "exp", "run"]
    for word in words:
        if match := re.fullmatch(r"([a-z_.]+)=(.*)", word):
            section, (*parents, last) = raw, match[1].split(".")
            for name in parents:
                section = section[name]
            number = match[2].isdigit()
            section[last] = int(match[2]) if number else None if match[2] == "null" else match[2]
    return Params.model_validate(raw).with_grid(load_params().grid)


def test_the_printed_command_is_one_that_check_and_download_accept(
    frame: pd.DataFrame, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame.to_csv(study / "My Share.csv", index=False)
    frame.iloc[40:, :5].to_csv(study / "vol.csv", index=False, sep=";", decimal=",")
    call("import-csv", "My Share.csv", "--volatility", "vol.csv")
    printed = capsys.readouterr().out
    assert "  volume     Volume" in printed
    assert "  not used   Adj Close" in printed
    params = with_keys(printed)
    check(params, load_space())
    data = params.data
    assert (data.path, data.volatility_path) == ("inputs/my-share.csv", "inputs/vol.csv")
    assert (data.validation_from, data.test_from) == ("2016-01-04", "2019-01-02")
    assert data.walk is not None
    assert (data.walk.first, data.walk.last) == (2008, 2019)
    assert list(fetch(data)) == ["bars", "VOL"]
    assert read_bars(study / data.path)["close"].iloc[0] == frame["Close"].iloc[40]


@pytest.mark.parametrize(
    ("first", "last", "keys"),
    [
        ("1993-01-29", "2025-12-31", {"walk.first": "2006", "walk.last": "2025"}),
        ("1999-01-04", "2018-06-29", {"walk.first": "2003", "walk.last": "2017"}),
        ("2015-01-02", "2018-12-31", {"walk": "null"}),
    ],
)
def test_the_latest_test_years_that_check_allows_are_proposed(
    first: str, last: str, keys: dict[str, str]
) -> None:
    assert walk_years(pd.Timestamp(first), pd.Timestamp(last), load_params(ROOT)) == keys


def test_all_problems_are_listed_and_nothing_is_written(
    frame: pd.DataFrame, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = frame.copy()
    wrong.loc[700, "High"] = 1.0
    wrong.loc[900:, ["Open", "High", "Low", "Close"]] /= 2
    wrong.loc[1500, "Volume"] = -1
    wrong = pd.concat([wrong.drop(index=[300, 301]), wrong.iloc[[5]].assign(Date="2010-07-04")])
    wrong.to_csv("wrong.csv", index=False)
    with pytest.raises(InputError, match="6 problems, listed above; nothing was written"):
        call("import-csv", "wrong.csv")
    printed = capsys.readouterr().out
    problems = [line for line in printed.splitlines() if line.startswith("  problem: ")]
    for what in (
        "high is below low",
        "high is below open or close",
        "volume is negative",
        "sessions of XNYS are missing on 2005-03-14, 2005-03-15",
        "rows of a weekend on 2010-07-04",
        "2:1 split that is not recorded on 2007-08-01",
    ):
        assert sum(what in line for line in problems) == 1, what
    assert list((study / "inputs").iterdir()) == []


def test_a_field_that_is_no_number_hides_no_other_problem_and_makes_none(
    frame: pd.DataFrame, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = frame.astype({"Close": str, "Volume": str})
    wrong.loc[700, "High"] = 1.0
    wrong.loc[[800, 801], "Close"] = "12..5"
    wrong.loc[900, "Volume"] = "many"
    wrong.to_csv("wrong.csv", index=False)
    frame.drop(index=300).to_csv("vol.csv", index=False)
    with pytest.raises(InputError, match="5 problems, listed above; nothing was written"):
        call("import-csv", "wrong.csv", "--volatility", "vol.csv")
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if "  problem: " in line] == [
        "  problem: volume is no number on line 902: 'many'",
        "  problem: close is no number on line 802: '12..5', line 803: '12..5'",
        "  problem: high is below low on 2006-10-12",
        "  problem: high is below open or close on 2006-10-12",
        "  problem: sessions of XNYS are missing on 2005-03-14; if this is right, give the reason: "
        "-S '++datasets.csv.exceptions={2005-03-14: why}'",
    ]


@pytest.mark.parametrize("first", ["Date,Close", "Date,Open,High,Low,Close,Close"])
def test_a_header_that_cannot_be_used_hides_no_problem_of_the_other_file(
    first: str, frame: pd.DataFrame, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wrong.csv").write_text(f"{first}\n2004-01-02{',1' * first.count(',')}\n")
    frame.drop(index=300).to_csv("vol.csv", index=False)
    with pytest.raises(InputError, match="2 problems, listed above; nothing was written"):
        call("import-csv", "wrong.csv", "--volatility", "vol.csv")
    assert "sessions of XNYS are missing on 2005-03-14" in capsys.readouterr().out


def test_adjusted_prices_beside_their_dividends_are_refused_with_what_is_needed(
    frame: pd.DataFrame, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adjusted = frame.drop(columns="Adj Close").assign(Dividends=0.0)
    adjusted.loc[60::63, "Dividends"] = 2.0
    prices = ["Open", "High", "Low", "Close"]
    adjusted[prices] *= np.linspace(0.5, 1, len(frame))[:, None]
    adjusted.to_csv("adjusted.csv", index=False)
    with pytest.raises(InputError, match="1 problem, listed"):
        call("import-csv", "adjusted.csv")
    assert "prices look adjusted for the dividends beside them" in capsys.readouterr().out


def test_a_file_with_other_content_is_replaced_by_force_only(
    frame: pd.DataFrame, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame.to_csv("a.csv", index=False)
    call("import-csv", "a.csv", "--out", "inputs/b.csv")
    call("import-csv", "a.csv", "--out", "inputs/b.csv")
    frame.iloc[:-1].to_csv("a.csv", index=False)
    with pytest.raises(InputError, match="exists with other content"):
        call("import-csv", "a.csv", "--out", "inputs/b.csv")
    call("import-csv", "a.csv", "--out", "inputs/b.csv", "--force")
    assert len(read_bars(study / "inputs/b.csv")) == len(frame) - 1


def test_a_short_history_is_written_and_said_to_be_too_short(
    frame: pd.DataFrame, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame.iloc[:300].to_csv("short.csv", index=False)
    with pytest.raises(InputError, match="no periods can be proposed: 300 bars are too few"):
        call("import-csv", "short.csv")
    assert (study / "inputs/short.csv").is_file()


@pytest.mark.parametrize("out", ["b.csv", "inputs/b.txt", "../inputs/b.csv", "inputs/a/b.csv"])
def test_bars_go_into_the_folder_that_dvc_watches(out: str, study: Path) -> None:
    with pytest.raises(InputError, match="--out"):
        call("import-csv", "a.csv", "--out", out)


def test_an_unknown_calendar_is_refused(frame: pd.DataFrame, study: Path) -> None:
    frame.to_csv("a.csv", index=False)
    with pytest.raises(InputError, match="calendar 'XXXX' is unknown"):
        call("import-csv", "a.csv", "--calendar", "XXXX")
