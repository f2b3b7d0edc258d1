"""Tables of docs/results.md, written from the study's figures."""

from typing import Any

from patchscale.report.finding import LEVEL, WORDS

Figures = dict[str, Any]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_interval(row: Figures, name: str, form: str = ".3f") -> str:
    """Return a figure with its 95 % interval, or that it or its interval is undefined."""
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if value is None:
        return "undefined"
    ends = "interval undefined" if low is None else f"{low:{form}}, {high:{form}}"
    return f"{value:{form}} [{ends}]"


def p_text(p: float) -> str:
    """Return a p-value as text."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def sizes_table(horizons: dict[str, Figures]) -> str:
    """Return the table of loss against size, on test and validation days."""
    rows = []
    for horizon, row in horizons.items():
        for subset, where in (("test", "test"), ("val", "validation")):
            found = row[subset]
            if not found:
                rows.append([horizon, where, str(row["sizes"]), *[""] * 4, "needs two sizes"])
                continue
            rows.append(
                [
                    horizon,
                    where,
                    f"{row['sizes']}: {' + '.join(map(str, found['seeds']))} seeds",
                    str(found["days"]),
                    with_interval(found, "slope", "+.4f"),
                    f"{p_text(found['slope_p'])} ({p_text(found['slope_p_holm'])})",
                    f"{found['trend']:+.2f}, p {p_text(found['trend_p'])} "
                    f"(least {p_text(found['trend_least_p'])})",
                    found["power_law"]["says"],
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
            "Jonckheere-Terpstra over seeds",
            "E + A N^-alpha",
        ],
        rows,
    )


def forecasts_table(rows: dict[str, tuple[Figures, Figures]]) -> str:
    """Return the table of forecasts of one horizon's test days.

    Parameters
    ----------
    rows
        For each forecast its judgement and its comparison with the others. The judgement of a cell
        has `n_params`, and `trained: False` where there is no other figure.
    """
    lines = []
    for name, (judged, compared) in rows.items():
        size = f"{judged['n_params']:,}" if "n_params" in judged else ""
        if not judged.get("trained", True):
            lines.append([name, size, "not run", *[""] * 7])
            continue
        test = judged["test"]
        lines.append(
            [
                WORDS.get(name, name),
                size,
                _seeds(test["seeds"]),
                f"{with_interval(test, 'precision', '.2f')} of {test['signals']}",
                with_interval(test, "recall", ".2f"),
                f"{test['p_range']:.2f}{' collapsed' if test['collapsed'] else ''}",
                with_interval(test, "auc"),
                with_interval(test, "log_loss"),
                f"{with_interval(compared, 'skill', '+.1%')} p {p_text(compared['dm_p'])}"
                + (f" ({p_text(compared['dm_p_holm'])})" if "dm_p_holm" in compared else "")
                if "skill" in compared
                else "",
                ("in" if compared["confidence_set_p"] >= LEVEL else "out")
                + f", p {p_text(compared['confidence_set_p'])}",
            ]
        )
    return table(
        [
            "forecast",
            "N",
            "seeds: log-loss of each alone",
            "precision of signals",
            "recall",
            "p range",
            "AUC",
            "log-loss",
            "skill over the volatility logistic, p (Holm)",
            "confidence set",
        ],
        lines,
    )


def _seeds(alone: dict[str, Figures]) -> str:
    losses = sorted(figures["log_loss"] for figures in alone.values())
    ends = losses if len(losses) < 2 else [losses[0], losses[-1]]
    return f"{len(losses)}: {' to '.join(f'{loss:.3f}' for loss in ends)}" if losses else ""


def calibration_table(rows: dict[str, Figures]) -> str:
    """Return the table of Brier score, its parts, and what else describes a forecast."""
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
                f"{test['n']}, {test['positives']}",
                with_interval(test, "brier"),
                with_interval(test, "brier_skill", "+.1%"),
                with_interval(test, "reliability", ".4f"),
                with_interval(test, "resolution", ".4f"),
                with_interval(test, "uncertainty"),
                with_interval(test, "ece"),
                with_interval(test, "average_precision"),
            ]
            for name, test in rows.items()
        ],
    )


def strategies_table(rows: dict[str, Figures]) -> str:
    """Return the table of what trading the signals was worth.

    Each row has the figures of `run_strategy` and, as `skill_p`, its Sharpe ratio deflated by all
    that the study tried.
    """
    costs = sorted(next(iter(rows.values()))["total_return_at_bps"], key=float)
    lines = []
    for name, row in rows.items():
        skill = (
            f"{row['probabilistic_sharpe']:.2f}, {row['deflated_sharpe']:.2f} of "
            f"{row['search_trials'] + row['thresholds']}, {row['skill_p']:.2f}"
            if row["trades"]
            else ""
        )
        lines.append(
            [
                name,
                f"{row['trades']} of {row['signals']}",
                f"{row['label_hit_rate']:.2f}, {row['win_rate']:.2f}" if row["trades"] else "",
                f"{row['exposure']:.0%}, {row['turnover']:.0f}",
                " / ".join(f"{row['total_return_at_bps'][bps]:+.1%}" for bps in costs),
                with_interval(row, "minus_buy_and_hold", "+.1%"),
                with_interval(row, "sharpe", ".2f") if row["trades"] else "no trade",
                skill,
                f"{row['max_drawdown']:.1%}",
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
            "probability of skill: alone, of its own tries, of all",
            "max drawdown",
        ],
        lines,
    )


def searches_table(rows: dict[str, Figures]) -> str:
    """Return the table of the searches."""
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
                str(row["epochs"]),
            ]
        )
    return table(
        [
            "search",
            "trials: completed, pruned, failed",
            "n, positives",
            "trial 0",
            "best trial",
            "gain",
            "epochs",
        ],
        lines,
    )
