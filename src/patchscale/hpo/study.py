"""Search of a cell: an Optuna study with ask and tell, in ordered batches.

The table of trials is a function of space, rules and trial results. It does not depend on how many
trials run at a time, because sampler and pruner see finished batches only. Every result is kept in
a small file. A search that was killed replays its files, which restores the state of the sampler,
and continues. The journal is written for optuna-dashboard and never read here.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import PercentilePruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState, create_trial

from patchscale.hpo.space import Architectures, BudgetSampler, TrialParams
from patchscale.study.errors import SearchFailed
from patchscale.study.files import read_sealed, write_sealed
from patchscale.study.params import Hpo, Pruning

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class TrialResult:
    """Result of a trial."""

    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    losses: list[float]
    """Validation log-loss at the end of the training of every seed, nats."""
    reason: str = ""
    """Reason of a failure."""
    seconds: float | None = None
    peak_memory_gib: float | None = None
    wall_seconds: float = 0.0
    """Time since the previous result or since the search resumed; they add up to its duration."""


Evaluate = Callable[[dict[int, TrialParams], list[list[float]]], Iterable[tuple[int, TrialResult]]]
"""Evaluates a batch: parameters by trial number, and the losses of completed trials."""


def is_pruned(rules: Pruning, completed: list[list[float]], losses: Sequence[float]) -> bool:
    """Tell whether a trial is pruned, given its losses so far and those of completed trials.

    Both sides are compared by the mean of their first seeds.
    """
    study = optuna.create_study()
    for each in completed:
        study.add_trial(create_trial(value=mean(each), intermediate_values=_means(each)))
    trial = create_trial(state=TrialState.RUNNING, intermediate_values=_means(losses))
    pruner = PercentilePruner(rules.percentile, n_startup_trials=rules.startup)
    return bool(pruner.prune(study, trial))


def search(
    name: str,
    space: Mapping[str, BaseDistribution],
    allowed: Architectures,
    first: TrialParams,
    rules: Hpo,
    evaluate: Evaluate,
    folder: Path,
    report: Callable[[str], None],
) -> optuna.Study:
    """Run a study to its end; resume it where `folder` holds its results.

    Parameters
    ----------
    name
        Name of the study.
    space, allowed
        Distributions of the parameters, and the architectures that the budget allows.
    first
        Parameters of trial 0.
    rules
        Number of trials, batch, seeds, pruning.
    evaluate
        Evaluates the trials of a batch, in any order. An error that it raises ends the search; the
        results that it has yielded are kept.
    folder
        Folder of results and journal.
    report
        Prints one line for each result.

    Raises
    ------
    SearchFailed
        No trial was completed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / "study.journal"
    for file in folder.glob("study.journal*"):  # and the lock of a killed process
        file.unlink()
    study = optuna.create_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        sampler=BudgetSampler(space, allowed, rules),
        direction="minimize",
    )
    study.enqueue_trial(first)
    results: dict[int, TrialResult] = {}
    for start in range(0, rules.trials, rules.batch):
        batch = min(rules.batch, rules.trials - start)
        asked = {trial.number: trial for trial in (study.ask(dict(space)) for _ in range(batch))}
        for number, trial in asked.items():
            kept = _read(_file(folder, number), trial.params, report)
            if kept:
                results[number] = kept
        completed = [
            results[number].losses for number in range(start) if results[number].state == "COMPLETE"
        ]
        left = {number: trial.params for number, trial in asked.items() if number not in results}
        if left:
            mark = time.monotonic()
            for number, result in evaluate(left, completed):
                now = time.monotonic()
                result, mark = replace(result, wall_seconds=round(now - mark, 1)), now
                entry = {"params": asked[number].params, "result": asdict(result)}
                write_sealed(_file(folder, number), entry)
                results[number] = result
                report(_line(number, results, rules.trials))
        for number, trial in asked.items():
            _tell(study, trial, results[number], allowed)
    if not any(result.state == "COMPLETE" for result in results.values()):
        reasons = [result.reason for result in results.values() if result.reason]
        raise SearchFailed(
            f"{name}: none of {rules.trials} trials was completed; the first failed: {reasons[0]}"
        )
    return study


def _means(losses: Sequence[float]) -> dict[int, float]:
    """Return the mean of the first n losses, by n."""
    return {n: mean(losses[:n]) for n in range(1, len(losses) + 1)}


def _file(folder: Path, number: int) -> Path:
    return folder / f"trial-{number}.json"


def _read(file: Path, params: TrialParams, report: Callable[[str], None]) -> TrialResult | None:
    """Return a kept result; report and ignore one that is damaged or has other parameters."""
    try:
        entry = read_sealed(file)
        result = TrialResult(**entry["result"])
        if entry["params"] != params:
            raise ValueError("it has other parameters")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        report(f"{file}: ignored ({' '.join(str(error).split())}); the trial is made anew")
        return None
    return result


def _tell(study: optuna.Study, trial: Trial, result: TrialResult, allowed: Architectures) -> None:
    d_ff, n_params = allowed[trial.params["d_model"], trial.params["n_layers"]]
    facts = {"d_ff": d_ff, "n_params": n_params, **asdict(result)}
    for key in (
        "d_ff",
        "n_params",
        "reason",
        "losses",
        "seconds",
        "peak_memory_gib",
        "wall_seconds",
    ):
        trial.set_user_attr(key, facts[key])
    for step, loss in _means(result.losses).items():
        trial.report(loss, step)
    value = mean(result.losses) if result.state == "COMPLETE" else None
    study.tell(trial, value, state=TrialState[result.state])


def _line(number: int, results: dict[int, TrialResult], trials: int) -> str:
    """Return the outcome of a trial and the progress of the search as text."""
    result = results[number]
    how = {
        "COMPLETE": f"{mean(result.losses or [math.nan]):.4f}, mean of {len(result.losses)} seeds",
        "PRUNED": f"pruned at {mean(result.losses or [math.nan]):.4f}",
        "FAIL": f"failed: {result.reason}",
    }[result.state]
    complete = {n: mean(r.losses) for n, r in results.items() if r.state == "COMPLETE"}
    best = ""
    if complete:
        winner = min(complete, key=lambda n: (complete[n], n))
        best = f"; best {complete[winner]:.4f} (trial {winner})"
    return f"trial {number}: {how}{best}; {len(results)} of {trials} done"
