"""Resources and expected durations of stages."""

from pathlib import Path

import pytest
from conftest import ROOT

from patchscale.fanout.executors import Job
from patchscale.fanout.needs import PROCESS_BYTES, expected_seconds, with_needs
from patchscale.study.params import Params, load_params


@pytest.fixture
def params() -> Params:
    return load_params(ROOT)


def test_a_training_needs_its_threads_and_the_memory_of_its_weights(params: Params) -> None:
    def job(n_gpus: int, stage: str) -> Job:
        return with_needs(params, n_gpus, Job(stage, "", Path("log")))

    budget = params.budgets["20M"]
    cell = job(0, "train@20M-h1")
    assert cell.cpus == budget.run.threads * budget.run.seeds
    weights = 20 * budget.n_params * budget.run.seeds
    assert weights < cell.memory < 3 * weights + 5 * 2**30
    on_gpu = job(8, "train@20M-h1")
    assert (on_gpu.cpus, on_gpu.gpus) == (budget.run.threads, 1)
    assert on_gpu.memory < cell.memory
    untrained = job(8, "train@2B-h5")
    assert (untrained.gpus, untrained.memory) == (0, PROCESS_BYTES)
    assert job(8, "hpo@200K-h1").is_search
    assert not cell.is_search


def test_a_walk_needs_the_threads_and_memory_of_a_training_for_each_horizon(
    params: Params,
) -> None:
    jobs = {
        name: with_needs(params, 0, Job(name, "", Path("log")))
        for name in ("walk@20M", "walk@200M", "walk@2B", "walk_baselines")
    }
    budget = params.budgets["20M"]
    assert jobs["walk@20M"].cpus == budget.run.threads * len(params.horizons)
    assert jobs["walk@20M"].memory > 20 * budget.n_params * len(params.horizons)
    assert jobs["walk@200M"].cpus == params.budgets["200M"].run.threads  # at h5 only
    for name in ("walk@2B", "walk_baselines"):  # 2B is not walked
        assert (jobs[name].cpus, jobs[name].memory) == (1, PROCESS_BYTES)


def test_a_duration_is_that_of_the_last_run_or_of_another_training_by_size(
    params: Params,
) -> None:
    durations = {"train@2M-h1": 100.0, "report": 7.0}
    assert expected_seconds("report", params, durations) == 7
    assert expected_seconds("train@2M-h1", params, durations) == 100
    assert expected_seconds("train@20M-h1", params, durations) == 1000
    assert expected_seconds("headline", params, durations) is None
    assert expected_seconds("train@2B-h5", params, durations) is None
