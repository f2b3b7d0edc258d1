"""What the study finds and how sure that is, in words that follow from its figures."""

from collections.abc import Collection
from typing import Any

Figures = dict[str, Any]
LEVEL = 0.05
PROVEN = 1 - LEVEL
WORDS = {
    "prior": "the training prior",
    "persistence": "persistence",
    "vol_logistic": "the volatility logistic",
    "har_logistic": "the HAR logistic",
    "boosting": "gradient boosting",
}


def finding(
    market: str, budgets: list[str], cells: dict[str, Figures], horizons: dict[str, Figures]
) -> str:
    """Return the finding in one sentence.

    Parameters
    ----------
    market
        Name of the series.
    budgets
        Trained sizes, smallest first.
    cells
        For each trained cell the comparison with the volatility logistic and, as `skill_p`, the
        deflated Sharpe ratio against all that the study tried (None without trades).
    horizons
        For each horizon the comparison of sizes on the test days.
    """
    if not cells:
        return "No cell has been trained, so nothing can be said yet."
    slopes = {name: row["test"] for name, row in horizons.items() if row["test"]}
    sure = {name: row for name, row in slopes.items() if row["slope_p_holm"] < LEVEL}
    falls = [name for name, row in sure.items() if row["slope"] < 0]
    rises = [name for name, row in sure.items() if row["slope"] > 0]
    if not slopes:
        size = f"With one size trained, nothing can be said of size on {market}"
    elif not sure:
        size = (
            f"A transformer of {budgets[-1]} parameters forecasts {market} neither measurably "
            f"better nor worse than one of {budgets[0]} at any horizon"
        )
    else:
        size = (
            f"From {budgets[0]} to {budgets[-1]} parameters, a bigger transformer forecasts "
            f"{market} measurably better at {_names(falls, 'no horizon')} and measurably worse at "
            f"{_names(rises, 'none')}"
        )
    known = {name: row for name, row in cells.items() if row["dm_p_holm"] < LEVEL}
    better = [name for name, row in known.items() if row["vs_vol_logistic"] < 0]
    worse = [name for name, row in known.items() if row["vs_vol_logistic"] > 0]
    rival = (
        f"{_names(better, 'none')} of the {len(cells)} transformers trained forecasts it "
        f"measurably better than a regression on recent volatility"
    )
    if worse:
        rival += f" and {_names(worse, '')} measurably worse"
    rich = [name for name, row in cells.items() if (row["skill_p"] or 0) >= PROVEN]
    traded = f"trading on {_names(rich, 'none')} of them earned more after costs than luck explains"
    return f"{size}; {rival}; and {traded}."


def certainty(
    trained: Figures,
    horizons: dict[str, Figures],
    best: dict[str, str],
    searched: Collection[str],
) -> str:
    """Return how sure the finding is.

    Parameters
    ----------
    trained
        `as_of`; `days` and `positives` of the test year, as texts; `budgets` trained, `absent` and
        trained `once` (one seed); `cells`, how many; `tried`, settings and thresholds.
    horizons
        As in `finding`.
    best
        For each horizon the forecast of lowest test log-loss.
    searched
        Budgets whose settings a search chose.
    """
    slopes = [row["test"] for row in horizons.values() if row["test"]]
    said = [
        f"How sure: the test is {trained['days']} days up to {trained['as_of']}, "
        f"{trained['positives']} of them positive by horizon. Measurably means p < 0.05 after "
        f"Holm's correction for {len(slopes)} slopes and {trained['cells']} cells; what trading "
        f"earned is set against the best of {trained['tried']:,} settings and thresholds tried."
    ]
    if slopes:
        widths = sorted((row["slope_high"] - row["slope_low"]) / 2 for row in slopes)
        said.append(
            f"A change of log-loss smaller than {widths[0]:.2f} to {widths[-1]:.2f} per tenfold N "
            f"could not have been seen."
        )
    if trained["once"]:
        said.append(f"Trained with one seed: {', '.join(trained['once'])}.")
    if trained["absent"]:
        said.append(f"Not run: {', '.join(trained['absent'])}.")
    leaders: dict[str, list[str]] = {}
    for horizon, name in best.items():
        leaders.setdefault(WORDS.get(name, name), []).append(horizon)
    led = " and ".join(f"{name} ({', '.join(at)})" for name, at in leaders.items())
    said.append(f"The lowest test log-loss is that of {led}.")
    tuned = [name for name in trained["budgets"] if name in searched]
    rest = [name for name in trained["budgets"] if name not in searched]
    if tuned and rest:
        said.append(
            f"A search chose the settings of {', '.join(tuned)} and not those of "
            f"{', '.join(rest)}: a difference between sizes may be one of tuning."
        )
    return " ".join(said)


def _names(names: list[str], nothing: str) -> str:
    return ", ".join(names) or nothing
