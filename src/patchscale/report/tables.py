"""Markdown tables of docs/results.md."""

import math
from collections.abc import Mapping
from typing import Any

from patchscale.backtest.bootstrap import Estimate
from patchscale.backtest.judge import Judgement
from patchscale.backtest.returns import deflated_sharpe
from patchscale.backtest.scores import Scores, SeedScores
from patchscale.backtest.trading import FEW_TRADES, Strategy
from patchscale.report.comparison import Difference, HorizonComparison
from patchscale.report.finding import SIGNIFICANCE, WORDS


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_interval(estimate: Estimate, form: str = ".3f") -> str:
    """Return an estimate with its 95 % interval as text; NaN is written as undefined."""
    if math.isnan(estimate.value):
        return "undefined"
    ends = f"{estimate.low:{form}}, {estimate.high:{form}}"
    return f"{estimate.value:{form}} [{'interval undefined' if math.isnan(estimate.low) else ends}]"


def p_text(p: float) -> str:
    """Return a p-value as text."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def sizes_table(horizons: dict[str, HorizonComparison]) -> str:
    """Return the table of loss against size, on test and validation days."""
    rows = []
    for horizon, row in horizons.items():
        for subset, where in (("test", "test"), ("val", "validation")):
            if subset not in row.effects:
                rows.append([horizon, where, str(row.sizes), "", "needs two sizes", ""])
                continue
            found = row.effects[subset]
            rows.append(
                [
                    horizon,
                    where,
                    f"{row.sizes}: {' + '.join(map(str, found.seeds))} seeds",
                    str(found.days),
                    with_interval(found.slope, "+.4f"),
                    f"{p_text(found.slope_p)} ({p_text(found.slope_p_holm)})",
                ]
            )
    return table(
        [
            "horizon",
            "days of",
            "sizes",
            "n",
            "change of log-loss per tenfold N",
            "p (Holm)",
        ],
        rows,
    )


def bar_table(baselines: dict[str, dict[str, Judgement]]) -> str:
    """Return the table of the baselines' log-losses at each horizon, and of their means."""
    rows = []
    for name, words in WORDS.items():
        losses = [row[name].val.log_loss for row in baselines.values()]
        mean = sum(loss.value for loss in losses) / len(losses)
        rows.append([words, f"{mean:.4f}", *map(with_interval, losses)])
    return table(["validation log-loss", "mean", *baselines], rows)


def forecasts_table(
    forecasts: Mapping[str, Judgement | None],
    n_params: dict[str, int],
    comparison: HorizonComparison,
) -> str:
    """Return the table of forecasts of one horizon's test days.

    Parameters
    ----------
    forecasts
        Cells and baselines; None for a cell that is not trained.
    n_params
        Counted parameters of each cell.
    comparison
        Comparison of the trained cells and baselines.
    """
    lines = []
    for name, judged in forecasts.items():
        size = f"{n_params[name]:,}" if name in n_params else ""
        if judged is None:
            lines.append([name, size, "not run", *[""] * 8])
            continue
        test, chance = judged.test, comparison.confidence_set[name]
        lines.append(
            [
                WORDS.get(name, name),
                size,
                _seeds(test.seeds),
                f"{with_interval(test.precision, '.2f')} of {test.signals}",
                with_interval(test.recall, ".2f"),
                f"{test.p_range:.2f}{' collapsed' if test.collapsed else ''}",
                with_interval(test.auc),
                with_interval(test.log_loss),
                _skill(comparison.singles.get(name)),
                _skill(comparison.differences.get(name)),
                f"{'in' if chance >= SIGNIFICANCE else 'out'}, p {p_text(chance)}",
            ]
        )
    return table(
        [
            "forecast",
            "N",
            "single seeds: mean log-loss, range",
            "precision of signals",
            "recall",
            "p range",
            "AUC",
            "log-loss of the ensemble or rival",
            "skill of single seeds over the bar, p (Holm)",
            "skill of the ensemble or rival, p (Holm)",
            "confidence set",
        ],
        lines,
    )


def _skill(found: Difference | None) -> str:
    if found is None:
        return ""
    corrected = "" if math.isnan(found.dm_p_holm) else f" ({p_text(found.dm_p_holm)})"
    return f"{with_interval(found.skill, '+.1%')} p {p_text(found.dm_p)}{corrected}"


def _seeds(seeds: dict[str, SeedScores]) -> str:
    losses = [scores.log_loss for scores in seeds.values()]
    if not losses:
        return ""
    spread = f", {min(losses):.3f} to {max(losses):.3f}" if len(losses) > 1 else ""
    return f"{len(losses)}: {sum(losses) / len(losses):.3f}{spread}"


def blocks_table(singles: dict[str, Difference], ensembles: dict[str, Difference]) -> str:
    """Return the table of each cell's p-values against the bar at three block lengths."""

    def of(row: Difference) -> list[str]:
        p = (row.dm_p_half_block, row.dm_p, row.dm_p_twice_block)
        return [str(row.block), " / ".join(map(p_text, p))]

    rows = [[cell, *of(singles[cell]), *of(ensembles[cell])] for cell in singles]
    p = "p at half / once / twice"
    return table(["cell", "block of single seeds", p, "block of the ensemble", p], rows)


def calibration_table(rows: dict[str, Scores]) -> str:
    """Return the table of the Brier score, its parts, calibration error and average precision."""
    return table(
        [
            "forecast",
            "n, positives",
            "Brier",
            "skill over the prior",
            "reliability",
            "resolution",
            "uncertainty",
            "expected calibration error",
            "average precision",
        ],
        [
            [
                name,
                f"{test.n}, {test.positives}",
                with_interval(test.brier),
                with_interval(test.brier_skill, "+.1%"),
                with_interval(test.reliability, ".4f"),
                with_interval(test.resolution, ".4f"),
                with_interval(test.uncertainty),
                with_interval(test.ece),
                with_interval(test.average_precision),
            ]
            for name, test in rows.items()
        ],
    )


def strategies_table(rows: dict[str, Strategy], judged: int) -> str:
    """Return the table of the strategies' trades and returns.

    Their Sharpe ratios are deflated by the number of strategies judged on the same sessions.
    """
    costs = sorted(next(iter(rows.values())).total_return_at_bps, key=float)
    lines = []
    for name, row in rows.items():
        skill = (
            f"{row.probabilistic_sharpe:.2f}, {deflated_sharpe(row, judged):.2f}"
            if row.sharpe_error is not None
            else ""
        )
        if row.trades < FEW_TRADES:
            skill = f"{skill} no evidence either way".strip()
        lines.append(
            [
                name,
                f"{row.trades} of {row.signals}",
                f"{row.label_hit_rate:.2f}, {row.win_rate:.2f}" if row.trades else "",
                f"{row.exposure:.0%}, {row.turnover:.0f}",
                " / ".join(f"{row.total_return_at_bps[bps]:+.1%}" for bps in costs),
                with_interval(row.minus_buy_and_hold, "+.1%"),
                with_interval(row.sharpe, ".2f") if row.trades else "no trade",
                skill,
                f"{row.max_drawdown:.1%}",
            ]
        )
    return table(
        [
            "strategy",
            "trades of signals",
            "label hit rate, trades won",
            "exposure, turnover a year",
            f"return at {' / '.join(costs)} bp a side",
            "mean return a year minus buy and hold",
            "Sharpe",
            "probability of skill: alone, as the best of all",
            "max drawdown",
        ],
        lines,
    )


def searches_table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table of the searches, of the figures in metrics/hpo."""
    lines = []
    for cell, row in rows.items():
        first, best = row["trial_0_val_log_loss"], row["val_log_loss"]
        start, gain = ("failed", "") if first is None else (f"{first:.4f}", f"{first - best:.4f}")
        lines.append(
            [
                cell,
                f"{row['trials']}: {row['complete']}, {row['pruned']}, {row['fail']}",
                f"{row['n']}, {row['positives']}",
                start,
                f"{best:.4f} (trial {row['best_trial']})",
                gain,
                f"{row['lowest_val_log_loss']:.4f}, {row['standard_error']:.4f}",
                str(row["trainings"]),
            ]
        )
    return table(
        [
            "search",
            "trials: completed, pruned, failed",
            "n, positives",
            "trial 0",
            "chosen trial",
            "gain",
            "lowest, standard error",
            "trainings",
        ],
        lines,
    )
