"""Compare the forecasts of a walk forward with the split and the parameters.

No weights of a walk are kept, so that its probabilities can only be trained again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from patchscale.split.walk import DAYS, read_walk, years_searched
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import read_arrow, read_json
from patchscale.study.params import Params
from patchscale.verify.records import DIFFERS, UNAVAILABLE, Check, same
from patchscale.verify.strict_lock import shortened


def walked_budgets(params: Params) -> list[str]:
    """Return the budgets that are walked."""
    return [name for name in params.budgets if params.walked(name)]


def compare_walks(params: Params, root: Path) -> Iterator[Check]:
    """Compare columns, days, range and figures of the forecasts of each walked budget.

    Parameters
    ----------
    params
        Parameters of the study.
    root
        The repository.
    """
    for budget in walked_budgets(params):
        what, path = f"walk of {budget}", paths.walk(budget)
        if not (root / path).is_file():
            yield Check(what, UNAVAILABLE, f"{path} is missing")
            continue
        try:
            table = read_arrow(root / path)
            figures = read_json(root / paths.walk_metrics(budget))
            wrong = [*flaws(table, figures, budget, params, root)]
        except InputError as error:
            wrong = [shortened(error, 300)]
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            wrong = [f"not of its form ({type(error).__name__}: {shortened(error, 120)})"]
        if wrong:
            yield Check(what, DIFFERS, "; ".join(wrong))
        else:
            yield Check(what, UNAVAILABLE, "no weights are kept; all but probabilities compared")


def flaws(
    table: pd.DataFrame, figures: Any, budget: str, params: Params, root: Path
) -> Iterator[str]:
    """Yield what is wrong with the forecasts of a budget and with what is said of them."""
    seeds, years = params.budgets[budget].walk.seeds, params.walk_years
    names = [f"p_seed{seed}" for seed in range(seeds)]
    if list(table) != [*DAYS, *names]:
        yield f"its columns are not {', '.join([*DAYS, *names])}"
        return
    days = pd.concat(
        split[split["subset"].isin(("val", "test"))].assign(horizon=horizon, year=year)
        for horizon in params.walked(budget)
        for year in years
        for split in [
            read_walk(root / paths.split(horizon), year, params.horizons[horizon], params.split)
        ]
    )
    for name in DAYS:
        if list(table[name]) != list(days[name]):
            yield f"{name} differs from the split"
    if not ((table[names] >= 0) & (table[names] <= 1)).all(axis=None):  # false for NaN
        yield "a probability is not a number from 0 to 1"
    seen = years_searched(root / paths.split(horizon) for horizon in params.horizons)
    expected = {
        "walked": True,
        "seeds": seeds,
        "settings_saw_year": {str(year): year in seen for year in years},
    }
    if not same(figures, expected):
        yield f"{paths.walk_metrics(budget)} differs from the parameters and the split"
