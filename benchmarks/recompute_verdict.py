"""Recompute the verdict from forecasts and labels, without any code of the study.

    python3 dev.py -- python benchmarks/recompute_verdict.py

The bar, the table of all years, the slopes of single seeds and of ensembles with their intervals,
and the tests of cells, baselines, pairs of cells and pairs of a size and a baseline are made with
pandas, NumPy and SciPy alone. They are compared with metrics/verdict/details.json and
plots/verdict.csv. The exit code is 1 if a figure differs by more than 1e-9.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import linregress, permutation_test

TOLERANCE = 1e-9
RIVALS = ["prior", "persistence", "vol_logistic", "har_logistic"]
KEYS = ["horizon", "year"]


def daily(name: str) -> pd.DataFrame:
    """Return the losses of each forecast in a file of data/walk, and column `label`."""
    table = pd.read_feather(f"data/walk/{name}.arrow")
    labels = [
        pd.read_feather(f"data/split/{horizon}.arrow")[["date", "label"]].assign(horizon=horizon)
        for horizon in table["horizon"].unique()
    ]
    if not labels:
        return table
    table = table.merge(pd.concat(labels), on=["horizon", "date"], validate="many_to_one")
    seeds = [column for column in table if column.startswith("p_seed")]
    if seeds:
        table["ensemble"] = table[seeds].mean(axis=1)
    for column in table.columns.difference([*KEYS, "date", "subset", "label"]):
        chance = np.where(table["label"] == 1, table[column], 1 - table[column])
        table[column] = -np.log(np.clip(chance, 1e-12, None))
    return table


def p_value(values: np.ndarray) -> float:
    """Return the p-value of the exact two-sided sign-flip test of mean zero."""
    if len(values) < 2:
        return 1.0  # SciPy refuses one year
    test = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    return float(test.pvalue)


def limit(values: np.ndarray, outside: float) -> float:
    """Return the end of the 95 % interval between a rejected mean and the observed one."""
    inside = values.mean()
    for _ in range(60):
        middle = (inside + outside) / 2
        if p_value(values - middle) > 0.05:
            inside = middle
        else:
            outside = middle
    return float(inside)


def ends_of(values: np.ndarray, theirs: dict[str, float]) -> list[tuple[float, float]]:
    """Return both ends of the interval beside theirs; none where fewer than six years have none."""
    span = np.ptp(values) + 1e-6
    outside = {"mean_low": values.min() - span, "mean_high": values.max() + span}
    return [(limit(values, end), theirs[key]) for key, end in outside.items() if len(values) > 5]


def slopes_of(losses: pd.DataFrame) -> np.ndarray:
    """Return the least-squares slope of each row on its column names."""
    return np.array([linregress(losses.columns, row).slope for row in losses.to_numpy()])


def main() -> int:
    """Return 1 if a figure differs."""
    verdict = json.loads(Path("metrics/verdict/details.json").read_text(encoding="utf-8"))
    baselines, pairs = daily("baselines"), []
    if baselines.empty:
        print("no test years")
        return int(bool(verdict["years"]))
    first = (baselines["year"] == baselines["year"].min()) & (baselines["subset"] == "val")
    bar = str(baselines[first].groupby("horizon")[RIVALS].mean().mean().idxmin())
    test = baselines[baselines["subset"] == "test"]
    bars, years = test.groupby(KEYS)[bar].mean(), test["year"].nunique()
    for name, theirs in verdict["rivals"].items():
        gaps = test.groupby(KEYS)[name].mean() - bars
        for horizon, gap in gaps.groupby("horizon"):
            cell = theirs["horizons"][horizon]
            pairs += [(gap.mean(), cell["mean"]), (p_value(gap.to_numpy()), cell["p"])]
        pairs += ends_of(gaps.groupby("year").mean().to_numpy(), theirs["overall"])
    table = pd.read_csv("plots/verdict.csv").set_index(["budget", *KEYS])
    sizes, together, alone_of, rows = {}, {}, {}, 0
    for name in sorted(path.stem for path in Path("data/walk").glob("*.arrow")):
        walked = daily(name)
        if name == "baselines" or walked.empty:
            continue
        groups = walked[walked["subset"] == "test"].groupby(KEYS)
        losses = groups[[column for column in walked if column.startswith("p_seed")]].mean()
        kinds = {"single_seeds": losses.mean(axis=1), "ensemble": groups["ensemble"].mean()}
        for kind, loss in kinds.items():
            gaps = (loss - bars).dropna()
            theirs = table.loc[name]
            pairs += list(zip(gaps, theirs[f"{kind}_minus_bar"].reindex(gaps.index), strict=True))
            pairs += list(zip(loss, theirs[f"log_loss_{kind}"].reindex(loss.index), strict=True))
            for horizon, gap in gaps.groupby("horizon"):
                cell = verdict["cells"][kind][f"{name}-{horizon}"]
                pairs += [(gap.mean(), cell["mean"]), (p_value(gap.to_numpy()), cell["p"])]
        alone_of[name] = kinds["single_seeds"]
        rows += len(losses)
        if len(losses) == len(bars):
            cards = Path("metrics/cards").glob(f"{name}-*.json")
            n_params = np.mean([json.loads(card.read_text())["n_params"] for card in cards])
            alone = kinds["single_seeds"].groupby("year").mean()
            sizes[np.log10(n_params)] = alone
            together[np.log10(n_params)] = kinds["ensemble"].groupby("year").mean()
            for rival, theirs in verdict["rivals"].items():
                of_rival = test.groupby(KEYS)[rival].mean().groupby("year").mean()
                gap, size = (alone - of_rival).to_numpy(), theirs["sizes"][name]
                pairs += [(gap.mean(), size["mean"]), (p_value(gap), size["p"])]
    for cells, theirs in verdict["partial_steps"].items():
        (big, horizon), (small, _) = (cell.split("-") for cell in cells.split(" less "))
        gap = (alone_of[big] - alone_of[small])[horizon].dropna().to_numpy()
        pairs += [(gap.mean(), theirs["mean"]), (p_value(gap), theirs["p"]), *ends_of(gap, theirs)]
    if len(sizes) > 1:
        frame, found = pd.DataFrame(sizes), verdict["primary"]
        slopes = slopes_of(frame)
        for each, theirs in (
            (slopes, found),
            (slopes_of(pd.DataFrame(together)), verdict["ensembles"]),
        ):
            pairs += [(each.mean(), theirs["mean"]), (p_value(each), theirs["p"])]
            pairs += ends_of(each, theirs)
        pairs += list(
            zip(slopes, (found["slopes"][str(year)] for year in frame.index), strict=True)
        )
        for (small, big), step in zip(
            pairwise(sorted(sizes)),
            [verdict["steps"][name] for name in found["sizes"][1:]],
            strict=True,
        ):
            change = (frame[big] - frame[small]).to_numpy()
            pairs += [(change.mean(), step["mean"]), (p_value(change), step["p"])]
    worst = max((abs(mine - theirs) for mine, theirs in pairs), default=0.0)
    same = bar == verdict["bar"]["name"] and rows == len(table) and worst <= TOLERANCE
    print(f"{len(pairs)} figures of {years} years, bar {bar}: largest difference {worst:.1e}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main() if Path("dvc.yaml").exists() else "run it in the repository's root")
