"""Seams: days on which adjusted and unadjusted bars were joined, or two adjustments."""

import numpy as np
import pandas as pd
import pytest
from conftest import random_bars

from patchscale.bars import PRICES
from patchscale.download.seams import SWITCH, on_tick_grid, ratio_seams, tick_seams

DIVIDEND = 0.99743  # a factor that makes a false return of -0.257 %


def traded(n: int = 600, level: float = 1.0) -> pd.DataFrame:
    bars = random_bars(n, seed=1)
    bars[PRICES] = (bars[PRICES] * level).round(2)
    return bars


def spliced(bars: pd.DataFrame, fresh: int) -> pd.DataFrame:
    """Return adjusted bars of which the last `fresh` are unadjusted."""
    out = bars.copy()
    old = out.index < len(bars) - fresh
    out.loc[old, PRICES] = out.loc[old, PRICES] * DIVIDEND
    return out


@pytest.mark.parametrize("level", [1, 60])
@pytest.mark.parametrize("fresh", [SWITCH + 2, 25, 300])
def test_the_first_fresh_bar_is_the_seam(fresh: int, level: float) -> None:
    # the seam would be a false return of one day
    bars = spliced(traded(level=level), fresh)
    assert list(tick_seams(bars)) == [bars["date"].iloc[-fresh]]


def test_a_stretch_of_adjusted_bars_has_two_seams() -> None:
    bars = traded()
    bars.loc[200:299, PRICES] *= DIVIDEND
    assert list(tick_seams(bars)) == list(bars["date"].iloc[[200, 300]])


def test_bars_of_one_kind_have_no_seam() -> None:
    bars = traded()
    assert len(tick_seams(bars)) == 0
    bars[PRICES] *= DIVIDEND
    assert len(tick_seams(bars)) == 0
    assert on_tick_grid(bars).mean() < 0.05


def test_a_few_odd_prices_are_no_seam() -> None:
    bars = traded()
    bars.loc[bars.index % 11 == 0, "close"] += 0.003
    bars.loc[300 : 300 + SWITCH - 1, "close"] += 0.0041
    assert len(tick_seams(bars)) == 0


@pytest.mark.parametrize("noisy", [lambda p: p.astype("float32"), lambda p: p.round(6)])
def test_noise_of_single_precision_and_six_decimals_stays_on_the_grid(noisy) -> None:
    bars = traded(level=30)
    sixtyfourths = traded()
    sixtyfourths[PRICES] = (sixtyfourths[PRICES] * 64).round() / 64
    for exact in (bars, sixtyfourths):
        exact[PRICES] = noisy(exact[PRICES]).astype(float)
        assert on_tick_grid(exact).all()


def seams(old: pd.DataFrame, new: pd.DataFrame) -> list[pd.Timestamp]:
    return list(ratio_seams(old["date"], old["close"].to_numpy(), new["close"].to_numpy()))


def test_a_version_adjusted_once_more_has_a_seam_at_the_event() -> None:
    bars = traded()
    assert seams(bars, spliced(bars, 25)) == [bars["date"].iloc[-25]]
    assert seams(spliced(bars, 25), bars) == [bars["date"].iloc[-25]]


def test_every_event_of_a_readjustment_is_a_seam() -> None:
    bars = traded()
    assert seams(bars, spliced(spliced(bars, 400), 100)) == list(bars["date"].iloc[[-400, -100]])


def test_equal_versions_and_noise_have_no_seam() -> None:
    bars = traded()
    assert seams(bars, bars) == []
    noise = np.random.default_rng(0).uniform(-4e-7, 4e-7, len(bars))
    assert seams(bars, bars.assign(close=bars["close"] * (1 + noise))) == []


def test_single_corrections_and_unrelated_versions_have_no_seam() -> None:
    bars = traded()
    corrected = bars.copy()
    corrected.loc[50, "close"] += 0.5
    assert seams(bars, corrected) == []
    assert seams(bars, random_bars(600, seed=9)) == []
