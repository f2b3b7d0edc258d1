"""Damaged or impossible input is refused with a message of one line."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, random_bars

from patchscale.bars import canonical_csv, forward_adjust, read_bars
from patchscale.download.checks import check_bars
from patchscale.study.errors import InputError
from patchscale.study.params import load_params
from patchscale.verify.strict_lock import strict_stages


def test_an_infinite_price_is_refused_with_its_date(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(canonical_csv(random_bars(3)))
    bars = pd.read_csv(path).astype({"close": float})
    bars.loc[1, "close"] = np.inf
    bars.to_csv(path, index=False)
    with pytest.raises(InputError, match="close of 2000-01-04 is 'inf'"):
        read_bars(path)


def test_a_dividend_as_large_as_the_previous_close_is_refused() -> None:
    bars = random_bars(5)
    bars.loc[3, "dividends"] = bars.loc[2, "close"]
    with pytest.raises(ValueError, match="2000-01-06"):
        forward_adjust(bars)


@pytest.mark.parametrize(("column", "value"), [("dividends", -1.0), ("splits", -2.0)])
def test_negative_actions_are_refused(column: str, value: float) -> None:
    params = load_params(ROOT)
    short = params.data.model_copy(update={"start": "2018-01-02", "end": "2018-01-12"})
    bars = random_bars(9, start="2018-01-02")
    bars.loc[4, column] = value
    with pytest.raises(InputError, match=f"a {column[:-1]} is negative.* on 2018-01-08"):
        check_bars(bars, short, "toy")


def test_an_unknown_calendar_is_refused() -> None:
    params = load_params(ROOT)
    with pytest.raises(InputError, match="calendar 'NYSEE' is unknown"):
        check_bars(random_bars(5), params.data.model_copy(update={"calendar": "NYSEE"}), "toy")


@pytest.mark.parametrize("content", [b"", b"stages:\n", b"stages: []\n", b"\xff\xfe\xfa", b"{"])
def test_a_damaged_lock_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        strict_stages(path)
