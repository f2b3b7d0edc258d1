"""Resources and expected duration of the command of a stage."""

from dataclasses import replace

from patchscale.fanout.executors import Job
from patchscale.model.size import BYTES_PER_WEIGHT
from patchscale.study.params import Params

PROCESS_BYTES = 2**30
"""Memory of a process that has torch and the data loaded, without a model."""


def with_needs(params: Params, n_gpus: int, job: Job) -> Job:
    """Return the job of a stage with its cores, GPUs and memory, on an executor with `n_gpus`.

    A training needs memory for weights, gradients and moments, and half as much again for the
    activations of a micro-batch. Its replicates are trained side by side on the processor and one
    after another on a GPU; of a walk, as many as it has horizons, in one process each.
    """
    job = replace(job, memory=PROCESS_BYTES)
    kind, _, word = job.name.partition("@")
    if kind not in ("train", "hpo", "walk") or not word:
        return job
    name = word if kind == "walk" else params.cells[word].budget
    budget = params.budgets[name]
    run = budget.run
    trainings = {
        "train": run.seeds if word in params.trained_cells else 0,
        "hpo": params.hpo.batch if params.trials_of(name) else 0,
        "walk": len(params.walked(name)),
    }[kind]
    if not trainings:
        return job
    processes = run.processes if kind == "train" else 1
    side_by_side = 1 if n_gpus or processes > 1 else trainings
    each = 1.5 * BYTES_PER_WEIGHT[run.precision] * budget.n_params
    return replace(
        job,
        cpus=run.threads * max(side_by_side, processes),
        gpus=processes if n_gpus else 0,
        is_search=kind == "hpo",
        memory=round(PROCESS_BYTES * (1 + max(side_by_side, processes)) + each * side_by_side),
    )


def expected_seconds(name: str, params: Params, durations: dict[str, float]) -> float | None:
    """Return how long a stage took when it last ran here, or an estimate, or None.

    A training that never ran here is estimated from the training of the nearest size, in proportion
    to parameters times seeds.
    """
    work = {
        f"train@{cell}": budget.n_params * budget.run.seeds
        for cell in params.trained_cells
        for budget in [params.budgets[params.cells[cell].budget]]
    }
    trained = [stage for stage in durations if stage in work]
    if name in durations or name not in work or not trained:
        return durations.get(name)
    nearest = min(trained, key=lambda stage: abs(work[stage] - work[name]))
    return durations[nearest] * work[name] / work[nearest]
