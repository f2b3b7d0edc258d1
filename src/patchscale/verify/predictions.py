"""Compare published probabilities, cards and figures of trainings with what can be made of them.

Probabilities are predicted anew where weights are published. Dates, subsets, the mean of the seeds,
the figures of the training and what the card says of its inputs are made anew for every cell.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import digest, read_arrow, read_json
from patchscale.study.params import Best, Params
from patchscale.verify.records import DIFFERS, REPRODUCED, UNAVAILABLE, WITHIN, Check, same
from patchscale.verify.strict_lock import shortened

if TYPE_CHECKING:
    from patchscale.train.inputs import Inputs

TOLERANCE = 1e-4
"""Largest difference of a probability between machines; the same machine gives zero."""
ROUNDING = 1e-6
"""Largest difference of what is computed from the stored probabilities themselves."""
LOSS_TOLERANCE = 0.001
"""Largest difference of a validation log-loss in training, where products are rounded to bfloat16,
from that of the stored probabilities."""
OF_THE_MACHINE = ("device", "compiled", "in_float32")
"""Settings that depend on the machine that trained."""


def recompute(params: Params, stages: dict[str, Any], root: Path) -> Iterator[Check]:
    """Compare the probabilities of each trained cell with what its published weights predict.

    Parameters
    ----------
    params
        Parameters of the study.
    stages
        Stages of dvc.yaml.
    root
        The repository.
    """
    for cell in params.trained_cells:
        what = f"probabilities of {cell}"
        if not (root / paths.predictions(cell)).is_file():
            yield Check(what, UNAVAILABLE, f"{paths.predictions(cell)} is missing")
            continue
        try:
            yield compare(cell, params, f"weights@{cell}" in stages, root)
        except InputError as error:
            yield Check(what, DIFFERS, shortened(error, 300))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            yield Check(
                what,
                DIFFERS,
                f"its table, card or figures are not of their form ({type(error).__name__}: "
                f"{shortened(error, 120)})",
            )


def compare(cell: str, params: Params, published: bool, root: Path) -> Check:
    """Return the check of one cell."""
    import torch

    from patchscale.train.inputs import read_inputs
    from patchscale.train.settings import settings_of

    what, run = f"probabilities of {cell}", params.budgets[params.cells[cell].budget].run
    best = settings_of(params, cell, root)
    inputs = read_inputs(params, cell, best, root=root)
    stored, card = read_arrow(root / paths.predictions(cell)), read_json(root / paths.card(cell))
    columns = {seed: f"p_seed{seed}" for seed in range(run.seeds)}
    wrong = [
        *table_flaws(stored, list(columns.values()), inputs),
        *card_flaws(card, cell, params, best, inputs, root),
    ]
    if not wrong:
        figures = read_json(root / paths.train_metrics(cell))
        curves = pd.read_csv(root / paths.plot("curves", cell))
        wrong = [
            *figure_flaws(figures, card, stored, params, inputs),
            *curve_flaws(curves, card),
        ]
    if wrong:
        return Check(what, DIFFERS, "; ".join(wrong))
    torch.set_num_threads(run.threads)
    gaps = {}
    for seed, column in columns.items():
        weights = root / paths.published_weights(cell, seed)
        if weights.is_file():
            if digest(weights) != card["replicates"][seed]["sha256"]:
                return Check(what, DIFFERS, f"{weights.relative_to(root)} is not of the card")
            gaps[column] = gap(stored[column], weights, inputs)
    left = [column for column in columns.values() if column not in gaps]
    if not gaps:
        why = "here; `dvc pull` brings them" if published else "published"
        return Check(
            what, UNAVAILABLE, f"its weights are not {why}; all but {', '.join(left)} compared"
        )
    worst = max(gaps.values())
    details = [f"largest difference {worst:.1e}, allowed {TOLERANCE:g}"] if worst else []
    details += [f"{', '.join(left)} not compared, no weights"] if left else []
    verdict = REPRODUCED if worst == 0 else WITHIN if worst <= TOLERANCE else DIFFERS
    return Check(what, verdict, "; ".join(details))


def gap(stored: "pd.Series[float]", weights: Path, inputs: "Inputs") -> float:
    """Return the largest absolute difference from what weights predict; infinity for NaN."""
    from patchscale.model.patchtst import predict
    from patchscale.model.weights import load_model

    p = predict(load_model(weights, inputs.shape), inputs.windows, inputs.judged_rows)
    found = float(abs(p.double().numpy() - stored.to_numpy()).max())
    return found if math.isfinite(found) else math.inf


def table_flaws(stored: pd.DataFrame, seeds: list[str], inputs: "Inputs") -> Iterator[str]:
    """Yield what is wrong with a table of probabilities, except the seeds' probabilities."""
    columns = ["date", "subset", "p", *seeds]
    if list(stored) != columns:
        yield f"its columns are not {', '.join(columns)}"
        return
    for name in ("date", "subset"):
        if len(stored) != len(inputs.judged) or list(stored[name]) != list(inputs.judged[name]):
            yield f"{name} differs from the split"
    p = stored[["p", *seeds]]
    if not ((p >= 0) & (p <= 1)).all(axis=None):  # false for NaN
        yield "a probability is not a number from 0 to 1"
    elif not (abs(p[seeds].mean(axis=1) - p["p"]) <= ROUNDING).all():
        yield "p is not the mean of the seeds"


def card_flaws(
    card: Any, cell: str, params: Params, best: Best, inputs: "Inputs", root: Path
) -> Iterator[str]:
    """Yield what a card says otherwise than the parameters, the search and the data."""
    from patchscale.train.settings import chosen_settings, origin_of

    run = params.budgets[params.cells[cell].budget].run
    facts = {
        "cell": cell,
        "trained": True,
        "n_params": best.n_params,
        "settings_from": origin_of(params, cell, best),
        "dataset": params.dataset,
        "data_as_of": f"{inputs.as_of:%Y-%m-%d}",
        "features": read_json(root / paths.kinds(params.features.tier)),
        "shape": asdict(inputs.shape),
        "settings": chosen_settings(best, params.train, run.precision),
        "normalisation": params.window.normalisation,
        "threads": run.threads,
        **({"processes": run.processes} if run.processes > 1 else {}),
    }
    if not isinstance(card, dict):
        yield "its card is not a table"
        return
    said = {key: value for key, value in card.items() if key not in ("torch", "replicates")}
    if isinstance(said.get("settings"), dict):
        said["settings"] = {
            key: value for key, value in said["settings"].items() if key not in OF_THE_MACHINE
        }
    for key in sorted(facts.keys() | said.keys()):
        if key not in facts or key not in said or not same(said[key], facts[key]):
            yield f"its card differs in {shortened(key)}"
    if [row["seed"] for row in card["replicates"]] != list(range(run.seeds)):
        yield f"its card has not the seeds 0 to {run.seeds - 1}"


def figure_flaws(
    figures: Any, card: dict[str, Any], stored: pd.DataFrame, params: Params, inputs: "Inputs"
) -> Iterator[str]:
    """Yield which figures of a training differ from those of its probabilities and its card."""
    import torch

    from patchscale.train.engine import log_loss

    budget, rows = params.budgets[params.cells[card["cell"]].budget], card["replicates"]
    is_val = (stored["subset"] == "val").to_numpy()

    def loss(column: str) -> float:
        p = torch.from_numpy(stored.loc[is_val, column].to_numpy().copy())
        return log_loss(torch.logit(p), inputs.val.labels)

    expected = {
        "trained": True,
        "n_params": card["n_params"],
        "budget_ratio": card["n_params"] / budget.n_params,
        "seeds": len(rows),
        "kept_epoch": sum(row["kept_epoch"] for row in rows) / len(rows),
    }
    val = {"n": len(inputs.val.labels), "positives": int(inputs.val.labels.sum())}
    near = abs(figures["val"]["log_loss"] - loss("p")) <= ROUNDING
    rest = {key: value for key, value in figures.items() if key != "val"}
    said = {key: value for key, value in figures["val"].items() if key != "log_loss"}
    if not (near and same(rest, expected) and same(said, val)):
        yield f"{paths.train_metrics(card['cell'])} differs from its probabilities and card"
    for row in rows:
        if not abs(row["val_log_loss"] - loss(f"p_seed{row['seed']}")) <= LOSS_TOLERANCE:
            yield f"the validation log-loss of seed {row['seed']} is not that of its card"


def curve_flaws(curves: pd.DataFrame, card: dict[str, Any]) -> Iterator[str]:
    """Yield the seeds whose learning curve has another loss at the best epoch than the card."""
    found = zip(curves["seed"], curves["epoch"], curves["val_log_loss"], strict=True)
    losses = {(seed, epoch): loss for seed, epoch, loss in found}
    if list(curves["seed"].unique()) != [row["seed"] for row in card["replicates"]]:
        yield "its curves are not of the seeds of its card"
    for row in card["replicates"]:
        loss = losses.get((row["seed"], row["kept_epoch"]), math.nan)
        if not abs(loss - row["val_log_loss"]) <= ROUNDING:
            yield f"the curve of seed {row['seed']} is not that of its card"
