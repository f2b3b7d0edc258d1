import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, random_bars
from locked import write_lock

from patchscale.bars import PRICES, canonical_csv
from patchscale.download.calendar import exchange_sessions
from patchscale.study.errors import InputError
from patchscale.study.files import write_text
from patchscale.study.lock import dvc_md5
from patchscale.study.params import Dataset
from patchscale.verify.refresh import main

SETTINGS = {
    "source": "csv",
    "series": "SPY",
    "path": "source.csv",
    "calendar": "XNYS",
    "start": "2018-01-02",
    "end": "2018-06-29",
    "validation_from": "2018-03-01",
    "test_from": "2018-05-01",
}
RAW = Path("data/raw/mine/SPY.csv")


def bars() -> pd.DataFrame:
    sessions = exchange_sessions(Dataset(**SETTINGS))
    made = random_bars(len(sessions), seed=4).assign(date=sessions)
    made[PRICES] = made[PRICES].round(2)
    return made


def lock(path: str, md5: str) -> None:
    outs = [{"path": path, "hash": "md5", "md5": md5, "size": 1}]
    write_lock(Path(), {"download": {"cmd": "python stages/download.py", "outs": outs}})


@pytest.fixture(autouse=True)
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder whose download is what dvc.lock has."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["datasets"]["mine"] = SETTINGS
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("grid.yaml").write_text((ROOT / "grid.yaml").read_text())
    Path("source.csv").write_text(canonical_csv(bars()))
    write_text(RAW, canonical_csv(bars()))
    lock("data/raw/mine", dvc_md5(RAW.parent))


def snapshot() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.fixture
def refreshed(capsys: Any) -> Callable[[int], list[str]]:
    def call(code: int) -> list[str]:
        before = snapshot()
        found = 0
        try:
            main("mine")
        except SystemExit as end:
            found = int(end.code or 0)
        assert snapshot() == before  # nothing is ever written
        assert found == code
        return capsys.readouterr().out.splitlines()

    return call


def test_the_same_bars_are_said_to_be_the_same(refreshed: Callable[[int], list[str]]) -> None:
    md5 = dvc_md5(RAW.parent)
    assert refreshed(0) == [
        f"mine: SPY, 2018-01-02 to 2018-06-29, md5 {md5}",
        "mine: same as dvc.lock",
    ]


def test_changed_values_are_listed_by_column_with_dates(
    refreshed: Callable[[int], list[str]],
) -> None:
    revised = bars()
    revised.loc[[3, 40], "volume"] *= 2
    june = revised["date"] > "2018-06-01"
    revised.loc[june, "high"] = (revised.loc[june, "high"] * 1.01).round(2)
    revised.loc[5, "dividends"] = 0.5
    Path("source.csv").write_text(canonical_csv(revised))
    first, second, *rest = refreshed(1)
    assert first != second
    assert second.startswith(f"mine: differs from dvc.lock, which has {dvc_md5(RAW.parent)}")
    high, volume, dividends = rest
    assert "SPY.csv: high           20  2018-06-04 to 2018-06-29  largest change 0.01 " in high
    assert "SPY.csv: volume          2  2018-01-05, 2018-03-01  largest change 1 of" in volume
    assert "SPY.csv: dividends       1  2018-01-09  largest change from 0" in dividends


def test_added_and_removed_rows_are_listed(refreshed: Callable[[int], list[str]]) -> None:
    old = bars()
    shifted = old.iloc[:-2].copy()
    shifted.loc[7, "date"] = pd.Timestamp("2018-01-13")
    write_text(RAW, canonical_csv(shifted))
    lock("data/raw/mine", dvc_md5(RAW.parent))
    _, _, added, removed = refreshed(1)
    assert "row added       3  2018-01-11, 2018-06-28, 2018-06-29" in added
    assert "row removed     1  2018-01-13" in removed


def test_a_readjusted_history_is_reported_with_its_seam(
    refreshed: Callable[[int], list[str]],
) -> None:
    adjusted = bars()
    adjusted.loc[adjusted["date"] < "2018-05-15", PRICES] *= 0.99743
    write_text(RAW, canonical_csv(adjusted))
    lock("data/raw/mine", dvc_md5(RAW.parent))
    lines = refreshed(1)
    assert (
        "SPY.csv: close          92  2018-01-02 to 2018-05-14  largest change 0.0026" in lines[-2]
    )
    assert "seam            1  2018-05-15  one version has been adjusted" in lines[-1]


@pytest.mark.parametrize("held", [None, "data/raw/other"])
def test_without_a_lock_entry_the_hash_is_printed(
    refreshed: Callable[[int], list[str]], held: str | None
) -> None:
    lock(held or "data/raw/mine/SPY.csv", "0" * 32)
    first, second, third = refreshed(0)
    assert first.endswith(dvc_md5(RAW.parent))
    assert "no entry for it; compare the md5 with another reader's" in second
    assert third == "mine: same as the workspace"
    RAW.unlink()
    RAW.parent.rmdir()
    assert refreshed(0) == [first, second]


def test_a_missing_workspace_is_said(refreshed: Callable[[int], list[str]]) -> None:
    lock("data/raw/mine", "0" * 32 + ".dir")
    RAW.rename(RAW.with_name("OLD.csv"))
    neither, missing, stray = refreshed(1)[-3:]
    assert neither == "mine: the workspace, compared below, is not what dvc.lock has either"
    assert missing == f"{RAW}: not in the workspace, cannot be compared row by row"
    assert stray == "data/raw/mine/OLD.csv: in the workspace, but no series of the data set"


def test_an_unknown_data_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"data set 'dax' is unknown; allowed: .*gspc.*, mine"):
        main("dax")


def test_bad_bars_are_refused_like_in_a_download() -> None:
    wrong = bars()
    wrong.loc[7, "low"] = -1
    Path("source.csv").write_text(canonical_csv(wrong))
    with pytest.raises(
        InputError, match=r"datasets\.mine: SPY: a price is not positive on 2018-01"
    ):
        main("mine")


def test_the_selected_data_set_is_the_default(capsys: Any) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(params | {"dataset": "mine"}))
    main()
    assert "mine: same as dvc.lock" in capsys.readouterr().out


def test_noise_below_the_last_digit_is_no_difference(
    refreshed: Callable[[int], list[str]],
) -> None:
    noisy = bars()
    noisy[PRICES] += np.random.default_rng(0).uniform(-4e-7, 4e-7, (len(noisy), 4))
    Path("source.csv").write_text(canonical_csv(noisy))
    assert refreshed(0)[-1] == "mine: same as dvc.lock"


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_hands_the_data_set_over() -> None:
    done = subprocess.run(
        ["make", "-n", "refresh", "DATASET=spy"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "python3 dev.py refresh spy\n"
