"""Probabilities of all published models for the sessions after a close, and their calibration."""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from patchscale.backtest.judge import BENCHMARK
from patchscale.bars import read_bars
from patchscale.forecast.market import Market
from patchscale.forecast.newest import har_forecast, newest_rows, newest_window
from patchscale.forecast.published import RESTORE, model_of, seeds_here, shape_of_cell, weights_of
from patchscale.model.patchtst import predict
from patchscale.model.windows import Windows
from patchscale.split.table import read_split
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import read_csv, read_json
from patchscale.study.params import Params
from patchscale.study.tables import read_features


@dataclass(frozen=True)
class Decile:
    """What came of the test days whose forecasts were nearest to this one."""

    predicted: float
    """Mean forecast of these days."""
    observed: float
    """Share of them with a positive label."""
    low: float
    high: float
    """95 % interval of the share."""
    n: int


@dataclass(frozen=True)
class Forecast:
    """Probability of one model, or of the bar."""

    name: str
    p: float
    seeds: list[float]
    """Probabilities of its seeds, whose mean is `p`; empty for the bar."""
    decile: Decile | None
    test_log_loss: float | None
    """Mean log-loss in the study's test year, nats."""


@dataclass(frozen=True)
class Ahead:
    """Forecasts for one horizon."""

    horizon: str
    until: str
    """Last session of the horizon, an ISO 8601 date."""
    base_rate: float
    """Share of positive labels among the training days."""
    bar: Forecast
    models: list[Forecast]


@dataclass(frozen=True)
class Outlook:
    """Forecasts for all horizons after one close."""

    series: str
    as_of: str
    close: float
    target: float
    """Price that must be reached."""
    event: str
    """The event in words."""
    trained_on: str
    trained_to: str
    """Last training day."""
    horizons: list[Ahead]
    absent: list[str]
    """Cells of published budgets whose weights are not here."""
    fewer: list[str]
    """Budgets that are published with fewer seeds than were trained, with both numbers."""
    caution: str
    """How far the forecasts can be trusted."""


def outlook(params: Params, market: Market, root: Path = Path()) -> Outlook:
    """Return the forecasts of all published models at hand.

    Raises
    ------
    InputError
        No weights are here or they are not those of their card, a file of the study is missing,
        there are too few bars, or the close is that of a training day.
    """
    tier, window = params.features.tier, params.window
    cells = {h: [f"{budget}-{h}" for budget in params.publish] for h in params.horizons}
    here = {cell for row in cells.values() for cell in row if seeds_here(params, cell, root)}
    absent = [cell for row in cells.values() for cell in row if cell not in here]
    if not here:
        raise InputError(f"data/weights: no weights of {', '.join(params.publish)}; {RESTORE}")
    rows = newest_rows(market, tier, window.context_length)
    study = read_bars(root / paths.raw(params.dataset, params.data.series))
    splits = {h: read_split(root / paths.split(h), labels_of={"train"}) for h in params.horizons}
    table, kinds = read_features(tier, pd.concat([each["date"] for each in splits.values()]), root)
    trained_to = max(
        split.loc[split["subset"] == "train", "date"].iloc[-1] for split in splits.values()
    )
    if market.as_of <= trained_to:
        raise InputError(
            f"as of {market.as_of:%Y-%m-%d}: a training day of the models, which know what "
            f"followed; a day after {trained_to:%Y-%m-%d} is needed"
        )
    horizons = []
    for horizon, ahead in params.horizons.items():
        split = splits[horizon]
        train = split[split["subset"] == "train"]
        windows, row = newest_window(table, train["date"], rows, kinds, window)
        models = [
            _forecast(cell, _of_seeds(params, cell, windows, row, root), root)
            for cell in cells[horizon]
            if cell in here
        ]
        bar = _forecast_of_bar(horizon, har_forecast(study, split, market), root)
        until = f"{market.following[ahead - 1]:%Y-%m-%d}"
        horizons.append(Ahead(horizon, until, float(train["label"].mean()), bar, models))
    target = params.target
    close = float(market.bars["close"].iloc[-1])
    article = "a" if target.price == "close" else "the"
    return Outlook(
        series=market.name,
        as_of=f"{market.as_of:%Y-%m-%d}",
        close=close,
        target=close * (1 + target.sign * target.theta),
        event=f"{article} {target.price} reaches the last close {target.sign * target.theta:+.1%}",
        trained_on=params.dataset,
        trained_to=f"{trained_to:%Y-%m-%d}",
        horizons=horizons,
        absent=absent,
        fewer=[
            f"{budget} has {seeds} of {params.budgets[budget].run.seeds}"
            for budget, seeds in params.publish.items()
            if seeds < params.budgets[budget].run.seeds
        ],
        caution=_caution(params, market, horizons, study["date"].iloc[-1]),
    )


def _of_seeds(params: Params, cell: str, windows: Windows, row: int, root: Path) -> list[float]:
    """Return the probability of each seed at hand."""
    shape, rows = shape_of_cell(params, cell, root), torch.tensor([row])
    torch.set_num_threads(1)
    found = []
    for seed in seeds_here(params, cell, root):
        path = weights_of(params, cell, seed, root)
        found.append(float(predict(model_of(path, shape), windows, rows)))
        if not math.isfinite(found[-1]):
            raise InputError(f"{path}: the probability is not finite; {RESTORE}")
    return found


def _forecast(cell: str, seeds: list[float], root: Path) -> Forecast:
    p = sum(seeds) / len(seeds)
    loss = _log_loss(root / paths.backtest_metrics(cell))
    return Forecast(cell, p, seeds, _decile(root / paths.plot("calibration", cell), p), loss)


def _forecast_of_bar(horizon: str, p: float, root: Path) -> Forecast:
    name = f"bar-{horizon}"
    loss = _log_loss(root / paths.baseline_metrics(horizon), BENCHMARK)
    decile = _decile(root / paths.plot("calibration", name), p)
    return Forecast(BENCHMARK, p, [], decile, loss)


def _decile(path: Path, p: float) -> Decile | None:
    """Return the bin whose mean forecast is nearest, None where nothing is known."""
    if not path.is_file():
        return None
    table = read_csv(path)
    if "predicted" not in table or table.empty:
        return None
    columns = ["predicted", "observed", "observed_low", "observed_high"]
    try:
        nearest = (table["predicted"] - p).abs().to_numpy().argmin()
        share, n = table[columns].to_numpy(float)[nearest], int(table["n"].iloc[nearest])
        good = bool(((share >= 0) & (share <= 1)).all())
    except (KeyError, TypeError, ValueError):
        good = False
    if not good:
        raise InputError(f"{path}: {', '.join(columns)} and n are needed, as numbers; {RESTORE}")
    predicted, observed, low, high = map(float, share)
    return Decile(predicted, observed, low, high, n)


def _log_loss(path: Path, *keys: str) -> float | None:
    """Return the test log-loss in a file of metrics, None where there is none."""
    figures = read_json(path) if path.is_file() else {}
    for key in (*keys, "test", "log_loss"):
        figures = figures.get(key, {}) if isinstance(figures, dict) else {}
    return float(figures) if isinstance(figures, int | float) else None


def _caution(params: Params, market: Market, horizons: list[Ahead], last: pd.Timestamp) -> str:
    """Return one sentence on how far the forecasts can be trusted."""
    pairs = [
        (model.test_log_loss, each.bar.test_log_loss)
        for each in horizons
        for model in each.models
        if model.test_log_loss is not None and each.bar.test_log_loss is not None
    ]
    better = sum(model < bar for model, bar in pairs)
    parts = [
        f"{better} of {len(pairs)} models here had a lower log-loss than the bar in the test year "
        f"to {last:%Y-%m-%d}"
        if pairs
        else "nothing is known here of how these models did in the test year"
    ]
    if market.as_of <= last:
        parts.append("this close is not after the days on which the study was validated or tested")
    if market.name != params.dataset:
        parts.append(f"all of them learned from {params.dataset}, not from these bars")
    return "; ".join(parts) + "; none of this is advice."
