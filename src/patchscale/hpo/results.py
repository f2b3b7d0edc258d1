"""Tables, history and importance of a finished search."""

import json
import math
from typing import Any

import optuna
import pandas as pd
from optuna.trial import create_trial

from patchscale.train.inputs import Inputs
from patchscale.train.schedule import best_epoch

COSTS = ("seconds", "peak_memory_gib", "wall_seconds")
EPOCH = "1970-01-01T00:00:00+00:00"


def without_clock(journal: str) -> str:
    """Return a journal without times, process names and costs, which differ from run to run.

    optuna-dashboard still reads it; all durations are zero.
    """
    lines = []
    for line in journal.splitlines():
        entry = json.loads(line)
        if not entry.get("user_attr", {}).keys() & COSTS:
            entry["worker_id"] = "search"
            entry |= {key: EPOCH for key in entry if key.startswith("datetime") and entry[key]}
            lines.append(json.dumps(entry, separators=(",", ":")))
    return "\n".join([*lines, ""])


def importances(study: optuna.Study, epochs: int) -> pd.DataFrame:
    """Return the share of each parameter in the best loss of the first `epochs`, by fANOVA.

    All trials that were not pruned earlier have this loss. Completed trials alone are few and
    alike. The table is empty where fewer than four trials have it.
    """
    early = optuna.create_study()
    for trial in study.get_trials(deepcopy=False):
        curve = list(trial.intermediate_values.values())[:epochs]
        if len(curve) == epochs:
            early.add_trial(
                create_trial(
                    value=min(curve), params=trial.params, distributions=trial.distributions
                )
            )
    found: dict[str, float] = {}
    if len(early.trials) >= 4:
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # 3 s

        found = get_param_importances(early, evaluator=FanovaImportanceEvaluator(seed=0))
    return pd.DataFrame({"parameter": list(found), "importance": list(found.values())})


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Return one row for each trial: parameters, state, value and learning curve.

    `value` is the lowest validation log-loss, nats, of a completed trial.
    """
    return pd.DataFrame([_row(trial) for trial in study.get_trials(deepcopy=False)])


def _row(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    curve = list(trial.intermediate_values.values())
    return {
        "trial": trial.number,
        "state": trial.state.name,
        "value": trial.value if trial.state.name == "COMPLETE" else math.nan,
        "best_epoch": best_epoch(curve) if curve else 0,
        **trial.params,
        **{key: trial.user_attrs[key] for key in ("d_ff", "n_params", "reason")},
        "curve": curve,
    }


def costs_table(study: optuna.Study) -> pd.DataFrame:
    """Return the cost of every trial, which differs from run to run.

    Columns are seconds, peak memory (both NaN where it failed), and the wall-clock time since the
    previous result.
    """
    trials = study.get_trials(deepcopy=False)
    rows = [[trial.number, *(trial.user_attrs[key] for key in COSTS)] for trial in trials]
    return pd.DataFrame(rows, columns=["trial", *COSTS]).astype(dict.fromkeys(COSTS, float))


def history(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the value of every completed trial and the best so far."""
    done = trials.loc[trials["state"] == "COMPLETE", ["trial", "value"]]
    return done.assign(best=done["value"].cummin())


def summary(trials: pd.DataFrame, inputs: Inputs) -> dict[str, Any]:
    """Return the figures of a search; losses are on the `scattered` validation dates, nats."""
    done = trials[trials["state"] == "COMPLETE"]
    best = done.sort_values("value", kind="stable").iloc[0]  # the first of equal ones
    first = trials["value"].iloc[0]
    return {
        "trials": len(trials),
        **{
            state.lower(): int((trials["state"] == state).sum())
            for state in ("COMPLETE", "PRUNED", "FAIL")
        },
        "epochs": int(trials["curve"].map(len).sum()),
        "best_trial": int(best["trial"]),
        "val_log_loss": float(best["value"]),
        "trial_0_val_log_loss": None if math.isnan(first) else float(first),
        "n": len(inputs.val.labels),
        "positives": int(inputs.val.labels.sum()),
    }
