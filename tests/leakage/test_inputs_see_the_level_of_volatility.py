"""Inputs of every tier tell a calm market from a stormy one."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import random_bars

from patchscale.features.formulas import compute_tier, drop_warm_up
from patchscale.features.tiers import SCALE, tier_features
from patchscale.model.windows import Windows

PRICES = ["open", "high", "low", "close"]


def calmer(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars whose prices are mapped so that a day moves a quarter as far, or less."""
    anchor = bars["close"].mean()
    return bars.assign(**{name: anchor + 0.25 * (bars[name] - anchor) for name in PRICES})


def inputs(bars: pd.DataFrame, tier: str, *, with_scale: bool) -> np.ndarray:
    """Return the windows of the last 20 days, z-scored with the first 200 rows."""
    names = {feature.name for feature in SCALE}
    features = [each for each in tier_features(tier) if with_scale or each.name not in names]
    table = drop_warm_up(compute_tier(bars, tier))
    windows = Windows(
        table[[each.name for each in features]].to_numpy(dtype=float),
        [each.kind for each in features],
        np.arange(59, 200),
        60,
    )
    return windows(torch.arange(len(table) - 20, len(table))).numpy()


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return random_bars(600)


@pytest.mark.parametrize("tier", ["a20", "a50"])
def test_a_market_that_calms_down_is_seen(bars: pd.DataFrame, tier: str) -> None:
    late = bars.index >= 500
    calm, mapped = bars.copy(), calmer(bars)
    calm.loc[late, PRICES] = mapped.loc[late, PRICES]
    seen = inputs(calm, tier, with_scale=True) - inputs(bars, tier, with_scale=True)
    assert abs(seen[..., :2]).mean() > 0.5  # the two columns of scale


def test_without_the_columns_of_scale_the_inputs_of_a20_are_blind(bars: pd.DataFrame) -> None:
    blind = inputs(calmer(bars), "a20", with_scale=False) - inputs(bars, "a20", with_scale=False)
    assert abs(blind).max() < 1e-4
    sees = inputs(calmer(bars), "a20", with_scale=True) - inputs(bars, "a20", with_scale=True)
    assert abs(sees[..., 2:]).max() < 1e-4
    assert abs(sees[..., :2]).max() > 0.01
