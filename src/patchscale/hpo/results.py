"""Tables, history and importance of a finished search."""

import json
import math
from statistics import mean, variance
from typing import Any

import optuna
import pandas as pd
from optuna.trial import create_trial

from patchscale.train.inputs import Inputs

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


def importances(study: optuna.Study) -> pd.DataFrame:
    """Return the share of each parameter in the loss of the first seed, by fANOVA.

    All trials that did not fail have this loss. Completed trials alone are few and alike. The table
    is empty where fewer than four trials have it.
    """
    early = optuna.create_study()
    for trial in study.get_trials(deepcopy=False):
        for value in list(trial.intermediate_values.values())[:1]:
            early.add_trial(
                create_trial(value=value, params=trial.params, distributions=trial.distributions)
            )
    found: dict[str, float] = {}
    if len(early.trials) >= 4:
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # 3 s

        found = get_param_importances(early, evaluator=FanovaImportanceEvaluator(seed=0))
    return pd.DataFrame({"parameter": list(found), "importance": list(found.values())})


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Return one row for each trial: parameters, state, value and the losses of its seeds.

    `value` is the mean validation log-loss, nats, of a completed trial's seeds.
    """
    return pd.DataFrame([_row(trial) for trial in study.get_trials(deepcopy=False)])


def _row(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "state": trial.state.name,
        "value": trial.value if trial.state.name == "COMPLETE" else math.nan,
        **trial.params,
        **{key: trial.user_attrs[key] for key in ("d_ff", "n_params", "reason", "losses")},
    }


def standard_error(trials: pd.DataFrame) -> float:
    """Return the standard error of a completed trial's value, nats, 0 where there is one seed.

    The variance between the seeds of a trial is the mean over all completed trials.
    """
    seeds = trials.loc[trials["state"] == "COMPLETE", "losses"]
    variances = [variance(losses) / len(losses) for losses in seeds if len(losses) > 1]
    return math.sqrt(mean(variances)) if variances else 0.0


def cheapest_of_the_equals(trials: pd.DataFrame) -> int:
    """Return the number of the trial that a search chooses.

    Of all completed trials within one standard error of the best, it is the one with the fewest
    epochs; where several have them, the one with the fewest layers, then the one with the lowest
    loss.
    """
    done = trials[trials["state"] == "COMPLETE"]
    equals = done[done["value"] <= done["value"].min() + standard_error(trials)]
    order = equals.sort_values(["epochs", "n_layers", "value", "trial"])
    return int(order["trial"].iloc[0])


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
    chosen = cheapest_of_the_equals(trials)
    values = trials.set_index("trial")["value"]
    first = trials["value"].iloc[0]
    return {
        "trials": len(trials),
        **{
            state.lower(): int((trials["state"] == state).sum())
            for state in ("COMPLETE", "PRUNED", "FAIL")
        },
        "trainings": int(trials["losses"].map(len).sum()),
        "best_trial": chosen,
        "val_log_loss": float(values[chosen]),
        "lowest_val_log_loss": float(values.min()),
        "standard_error": standard_error(trials),
        "trial_0_val_log_loss": None if math.isnan(first) else float(first),
        "n": len(inputs.val.labels),
        "positives": int(inputs.val.labels.sum()),
    }
