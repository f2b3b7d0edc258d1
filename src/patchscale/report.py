"""Words and tables of docs/results.md, written from the study's figures."""

from collections.abc import Collection
from typing import Any

Figures = dict[str, Any]


def interval(low: float, high: float, digits: int = 3) -> str:
    """Return an interval as text."""
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def finding(scaling: dict[str, Figures], searched: Collection[str]) -> str:
    """Return what the study finds, in sentences a non-specialist understands.

    `searched` are the budgets whose settings a search chose.
    """
    cells = [cell for row in scaling.values() for cell in row["cells"]]
    if not cells:
        return "No cell has been trained, so nothing can be said yet."
    better = [cell["cell"] for cell in cells if cell["vs_vol_logistic_high"] < 0]
    worse = [cell["cell"] for cell in cells if cell["vs_vol_logistic_low"] > 0]
    against = (
        f"Of the {len(cells)} transformers trained, {_names(better, 'none')} forecast the test "
        f"year measurably better than a logistic regression on two measures of recent volatility, "
        f"and {_names(worse, 'none')} measurably worse."
    )
    slopes = {name: row["slope"] for name, row in scaling.items() if row["slope"]}
    if not slopes:
        return f"{against} With one size trained, nothing can be said yet about size."
    falls = [name for name, slope in slopes.items() if slope["slope_high"] < 0]
    rises = [name for name, slope in slopes.items() if slope["slope_low"] > 0]
    sizes = max(slope["sizes"] for slope in slopes.values())
    return (
        f"Across the {sizes} sizes trained so far, a bigger model forecasts measurably better at "
        f"{_names(falls, 'no horizon')} and measurably worse at {_names(rises, 'no horizon')}. "
        f"{against} Measurably means that the 95 % interval of the difference in log-loss excludes "
        f"zero. Such an interval holds one test year's days; the spread between training seeds "
        f"comes on top, and nothing is corrected for the number of comparisons."
        f"{_tuning(cells, searched)}"
    )


def _tuning(cells: list[Figures], searched: Collection[str]) -> str:
    """Say where a difference between sizes may be one of tuning."""
    trained = dict.fromkeys(cell["cell"].rpartition("-")[0] for cell in cells)
    tuned = [name for name in trained if name in searched]
    rest = [name for name in trained if name not in searched]
    if not tuned or not rest:
        return ""
    return (
        f" A search chose the settings of {', '.join(tuned)} and not those of {', '.join(rest)}: "
        f"a difference between sizes may be one of tuning."
    )


def _names(names: list[str], nothing: str) -> str:
    return ", ".join(names) or nothing


def cells_table(cells: list[str], judged: dict[str, Figures], gaps: Figures) -> str:
    """Return the Markdown table of all cells, absent ones said so."""
    head = (
        "| cell | N | seeds: log-loss of each | test log-loss | minus volatility logistic | "
        "test AUC | precision / recall | p range |\n|---|---|---|---|---|---|---|---|"
    )
    lines = [head]
    for cell in cells:
        row = judged[cell]
        if not row["trained"]:
            lines.append(f"| {cell} | {row['n_params']:,} | not run | | | | | |")
            continue
        test, gap = row["test"], gaps[cell]
        lines.append(
            f"| {cell} | {row['n_params']:,} | {_seeds(test['seeds'])} "
            f"| {test['log_loss']:.3f} {interval(test['log_loss_low'], test['log_loss_high'])} "
            f"| {gap['vs_vol_logistic']:+.3f} "
            f"{interval(gap['vs_vol_logistic_low'], gap['vs_vol_logistic_high'])} "
            f"| {test['auc']:.3f} {interval(test['auc_low'], test['auc_high'])} "
            f"| {_share(test['precision'])} / {_share(test['recall'])} "
            f"| {test['p_range']:.2f}{' collapsed' if test['collapsed'] else ''} |"
        )
    return "\n".join(lines)


def _seeds(alone: dict[str, Figures]) -> str:
    losses = [figures["log_loss"] for figures in alone.values()]
    return f"{len(losses)}: {min(losses):.3f} to {max(losses):.3f}"


def baselines_table(baselines: dict[str, Figures]) -> str:
    """Return the Markdown table of the baselines."""
    lines = [
        "| horizon | n | positives | prior: log-loss | volatility logistic: log-loss | AUC |",
        "|---|---|---|---|---|---|",
    ]
    for horizon, row in baselines.items():
        prior, vol = row["prior"]["test"], row["vol_logistic"]["test"]
        lines.append(
            f"| {horizon} | {vol['n']} | {vol['positives']} "
            f"| {prior['log_loss']:.3f} {interval(prior['log_loss_low'], prior['log_loss_high'])} "
            f"| {vol['log_loss']:.3f} {interval(vol['log_loss_low'], vol['log_loss_high'])} "
            f"| {vol['auc']:.3f} {interval(vol['auc_low'], vol['auc_high'])} |"
        )
    return "\n".join(lines)


def strategy_table(rows: dict[str, Figures]) -> str:
    """Return the Markdown table of what trading the signals was worth."""
    lines = [
        "| strategy | trades | exposure | total return | at other costs | Sharpe | max drawdown |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        costs = sorted(row["total_return_at_bps"].items(), key=lambda item: float(item[0]))
        at = ", ".join(f"{value:+.1%} at {bps} bp" for bps, value in costs)
        sharpe = (
            "no trade"
            if row["sharpe"] is None
            else f"{row['sharpe']:.2f} {interval(row['sharpe_low'], row['sharpe_high'], 2)}"
        )
        lines.append(
            f"| {name} | {row['trades']} | {row['exposure']:.0%} | {row['total_return']:+.1%} "
            f"| {at} | {sharpe} | {row['max_drawdown']:.1%} |"
        )
    return "\n".join(lines)


def slopes_table(scaling: dict[str, Figures]) -> str:
    """Return the Markdown table of loss against size."""
    lines = [
        "| horizon | sizes | days | change of test log-loss per tenfold N |",
        "|---|---|---|---|",
    ]
    for horizon, row in scaling.items():
        slope = row["slope"]
        text = (
            f"{slope['slope']:+.4f} {interval(slope['slope_low'], slope['slope_high'], 4)}"
            if slope
            else "absent: needs two sizes"
        )
        sizes, days = (slope["sizes"], slope["days"]) if slope else (len(row["cells"]), "")
        lines.append(f"| {horizon} | {sizes} | {days} | {text} |")
    return "\n".join(lines)


def searches_table(rows: dict[str, Figures]) -> str:
    """Return the Markdown table of the searches."""
    lines = [
        "| search | trials: completed, pruned, failed | n, positives | trial 0 | best trial | gain "
        "| epochs | hours: clock, device |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell, row in rows.items():
        first, best = row["trial_0_val_log_loss"], row["val_log_loss"]
        start, gain = ("failed", "") if first is None else (f"{first:.4f}", f"{first - best:.4f}")
        lines.append(
            f"| {cell} | {row['trials']}: {row['complete']}, {row['pruned']}, {row['fail']} "
            f"| {row['n']}, {row['positives']} | {start} | {best:.4f} (trial {row['best_trial']}) "
            f"| {gain} | {row['epochs']} "
            f"| {row['wall_clock_hours']:.2f}, {row['device_hours']:.2f} {row['device']} |"
        )
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
