"""Markdown tables of the fixed test year and of the searches."""

import math
from collections.abc import Mapping
from typing import Any

from patchscale.backtest.bootstrap import Estimate
from patchscale.backtest.judge import Judgement
from patchscale.backtest.returns import deflated_sharpe
from patchscale.backtest.scores import Scores
from patchscale.backtest.trading import FEW_TRADES, Strategy
from patchscale.report.comparison import Difference, HorizonComparison
from patchscale.report.finding import SIGNIFICANCE, WORDS, p_text

Forecasts = Mapping[str, Judgement | None]


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


def thousandfold_table(horizons: dict[str, HorizonComparison]) -> str:
    """Return the table of the biggest sizes against those of a thousandth of their parameters."""
    rows = []
    for horizon, row in horizons.items():
        if pair := row.thousandfold:
            found = pair.difference
            rows.append(
                [
                    horizon,
                    f"{pair.big} less {pair.small}",
                    " and ".join(map(str, pair.seeds)),
                    str(pair.days),
                    with_interval(found.vs_bar, "+.4f"),
                    f"{p_text(found.dm_p)} ({p_text(found.dm_p_holm)})",
                ]
            )
    return table(["horizon", "sizes", "seeds", "n", "test log-loss", "p (Holm)"], rows)


def bar_table(baselines: dict[str, dict[str, Judgement]]) -> str:
    """Return the table of the baselines' log-losses at each horizon, and of their means."""
    rows = []
    for name, words in WORDS.items():
        losses = [row[name].val.log_loss for row in baselines.values()]
        mean = sum(loss.value for loss in losses) / len(losses)
        rows.append([words, f"{mean:.4f}", *(with_interval(loss, ".2f") for loss in losses)])
    return table(["validation log-loss", "mean", *baselines], rows)


def losses_table(forecasts: Forecasts, comparison: HorizonComparison) -> str:
    """Return the table of the losses of one horizon's test days, and of the skill over the bar.

    Parameters
    ----------
    forecasts
        Cells and baselines; None for a cell that is not trained.
    comparison
        Comparison of the trained cells and baselines.
    """
    lines = []
    for name, judged in forecasts.items():
        if judged is None:
            lines.append([name, "not run", *[""] * 4])
            continue
        alone = [scores.log_loss for scores in judged.test.seeds.values()]
        inside = comparison.confidence_set[name] >= SIGNIFICANCE
        lines.append(
            [
                WORDS.get(name, name),
                f"{sum(alone) / len(alone):.3f}" if alone else "",
                _skill(comparison.singles.get(name)),
                with_interval(judged.test.log_loss),
                _skill(comparison.differences.get(name)),
                "in" if inside else "out",
            ]
        )
    head = ["forecast", "loss of single seeds", "their skill"]
    return table([*head, "loss of ensemble or rival", "its skill", "best set"], lines)


def signals_table(forecasts: Forecasts) -> str:
    """Return the table of ranking and signals of one horizon's test days; as `losses_table`."""
    lines = []
    for name, judged in forecasts.items():
        if judged is None:
            lines.append([name, "not run", *[""] * 4])
            continue
        test = judged.test
        lines.append(
            [
                WORDS.get(name, name),
                with_interval(test.auc, ".2f"),
                with_interval(test.precision, ".2f"),
                str(test.signals),
                with_interval(test.recall, ".2f"),
                f"{test.p_range:.2f}{' collapsed' if test.collapsed else ''}",
            ]
        )
    return table(["forecast", "AUC", "precision", "signals", "recall", "p range"], lines)


def _skill(found: Difference | None) -> str:
    """Return a skill with its interval, bold if it is measurable after correction."""
    if found is None:
        return ""
    text = with_interval(found.skill, "+.1%")
    return f"**{text}**" if found.dm_p_holm < SIGNIFICANCE else text


def p_values_table(
    n_params: dict[str, int], singles: dict[str, Difference], ensembles: dict[str, Difference]
) -> str:
    """Return the table of each cell's N, and of its p-values against the bar.

    The p-values are at three block lengths, and once corrected by Holm.
    """

    def of(row: Difference) -> list[str]:
        p = (row.dm_p_half_block, row.dm_p, row.dm_p_twice_block)
        return [f"{row.block}: {' / '.join(map(p_text, p))}", p_text(row.dm_p_holm)]

    rows = [
        [cell, f"{n_params[cell]:,}", *of(singles[cell]), *of(ensembles[cell])] for cell in singles
    ]
    alone, together = "single seeds, block: p at half / once / twice", "ensemble likewise"
    return table(["cell", "N", alone, "Holm", together, "Holm"], rows)


def brier_table(rows: dict[str, Scores]) -> str:
    """Return the table of the Brier score, its skill over the prior and average precision."""
    return table(
        ["forecast", "Brier", "skill over the prior", "average precision"],
        [
            [
                name,
                with_interval(test.brier),
                with_interval(test.brier_skill, "+.1%"),
                with_interval(test.average_precision),
            ]
            for name, test in rows.items()
        ],
    )


def calibration_table(rows: dict[str, Scores]) -> str:
    """Return the table of the parts of the Brier score and the calibration error."""
    return table(
        ["forecast", "reliability", "resolution", "expected calibration error"],
        [
            [name, *map(with_interval, (test.reliability, test.resolution, test.ece))]
            for name, test in rows.items()
        ],
    )


def trades_table(rows: dict[str, Strategy]) -> str:
    """Return the table of the strategies' trades and of their returns at each cost."""
    costs = sorted(next(iter(rows.values())).total_return_at_bps, key=float)
    lines = [
        [
            name,
            f"{row.trades} of {row.signals}",
            f"{row.label_hit_rate:.2f}, {row.win_rate:.2f}" if row.trades else "",
            f"{row.exposure:.0%}, {row.turnover:.0f}",
            " / ".join(f"{row.total_return_at_bps[bps]:+.1%}" for bps in costs),
            f"{row.max_drawdown:.1%}",
        ]
        for name, row in rows.items()
    ]
    head = ["strategy", "trades of signals", "label hit rate, won", "exposure, turnover a year"]
    return table([*head, f"return at {' / '.join(costs)} bp a side", "max drawdown"], lines)


def luck_table(rows: dict[str, Strategy], judged: int) -> str:
    """Return the table of the strategies' returns in excess, Sharpe ratios and skill.

    Sharpe ratios are deflated by the number of strategies judged on the same sessions.
    """
    lines = []
    for name, row in rows.items():
        alone = "" if row.probabilistic_sharpe is None else f"{row.probabilistic_sharpe:.2f}"
        best = deflated_sharpe(row, judged)
        lines.append(
            [
                name,
                with_interval(row.minus_buy_and_hold, "+.1%"),
                with_interval(row.sharpe, ".2f") if row.trades else "no trade",
                alone,
                "" if best is None else f"{best:.2f}",
                "no evidence either way" if row.trades < FEW_TRADES else "",
            ]
        )
    head = ["strategy", "mean return a year minus buy and hold", "Sharpe"]
    return table([*head, "skill alone", "as the best of all", "trades too few"], lines)


def searches_table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table of the searches, of the figures in metrics/hpo."""
    lines = []
    for cell, row in rows.items():
        first, best = row["trial_0_val_log_loss"], row["val_log_loss"]
        start = "failed" if first is None else f"{first:.4f}"
        lines.append(
            [
                cell,
                f"{row['trials']}: {row['complete']}, {row['pruned']}, {row['fail']}",
                f"{row['n']}, {row['positives']}",
                start,
                f"{best:.4f} (trial {row['best_trial']})",
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
            "lowest, standard error",
            "trainings",
        ],
        lines,
    )
