"""What the command of a stage needs: cores, memory, GPUs, and how long it may take."""

from dataclasses import replace

from patchscale.fanout.executors import Job
from patchscale.model.size import BYTES_PER_WEIGHT
from patchscale.study.params import Params

PROCESS = 2**30
"""Bytes of a process with torch and the data, without a model."""


def needing(params: Params, n_gpus: int, job: Job) -> Job:
    """Return the job of a stage with what it needs, where the engine has `n_gpus`.

    A training takes weights, gradients, moments, and half as much again for the activations of a
    micro-batch; its replicates are side by side on the processor and one after another on a GPU.
    """
    job = replace(job, memory=PROCESS)
    kind, _, cell = job.name.partition("@")
    if kind not in ("train", "hpo") or not cell:
        return job
    row = params.cells[cell]
    budget, rules = row.budget, params.budgets[row.budget].run
    copies = rules.seeds if kind == "train" else params.hpo.batch
    if not (params.budgets[budget].trained if kind == "train" else params.trials_of(budget)):
        return job
    each = 1.5 * BYTES_PER_WEIGHT[rules.precision] * params.budgets[budget].n_params
    processes = rules.processes if kind == "train" else 1
    side_by_side = 1 if n_gpus or processes > 1 else copies
    return replace(
        job,
        cpus=rules.threads * max(side_by_side, processes),
        gpus=processes if n_gpus else 0,
        spreads=kind == "hpo",
        memory=round(PROCESS * (1 + max(side_by_side, processes)) + each * side_by_side),
    )


def expected(name: str, params: Params, known: dict[str, float]) -> float | None:
    """Return the seconds a stage took here, or by N and seeds from another cell's training."""
    work = {
        f"train@{cell}": budget.n_params * budget.run.seeds
        for cell, row in params.cells.items()
        if (budget := params.budgets[row.budget]).trained
    }
    trained = [each for each in known if each in work]
    if name in known or name not in work or not trained:
        return known.get(name)
    nearest = min(trained, key=lambda each: abs(work[each] - work[name]))
    return known[nearest] * work[name] / work[nearest]
