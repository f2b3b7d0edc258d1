"""Section of the results on how they were made: data, settings, hashes and libraries."""

from dataclasses import dataclass
from importlib.metadata import version

from patchscale.report.fixed_year import RULES, one_line
from patchscale.study.params import Params

LIBRARIES = (
    "arch",
    "matplotlib",
    "numpy",
    "optuna",
    "pandas",
    "scikit-learn",
    "scipy",
    "statsmodels",
    "ta-lib",
    "torch",
)
"""Libraries that decide figures or pictures."""


@dataclass(frozen=True)
class Made:
    """What the results were made of."""

    hashes: dict[str, str]
    """For each folder of inputs its MD5, as in dvc.lock."""
    versions: dict[str, str]
    """Libraries of the environment that wrote the page."""


def installed() -> dict[str, str]:
    """Return the versions of the libraries, without the name of a build such as `+cpu`."""
    return {name: version(name).partition("+")[0] for name in LIBRARIES}


def made_sections(params: Params, as_of: str, made: Made) -> list[str]:
    """Return the section on how the results were made."""
    data, target, rule = params.data, params.target, params.backtest.threshold
    years = params.walk_years
    seeds = ", ".join(
        f"{name} {budget.run.seeds}"
        for name, budget in params.budgets.items()
        if any(budget.trained.values())
    )
    hashes = ", ".join(f"`{path}` {md5}" for path, md5 in made.hashes.items())
    libraries = ", ".join(f"{name} {number}" for name, number in made.versions.items())
    facts = [
        f"""Data: `{params.dataset}`, series `{data.series}` of source `{data.source}`,
            {data.start} to {as_of}.""",
        f"""Target: the {target.price} of the sessions ahead touches the close
            {"+" if target.sign > 0 else "-"} {100 * target.theta:g} %.
            Horizons: {", ".join(params.horizons)}.""",
        f"""Inputs: tier `{params.features.tier}`, windows of {params.window.context_length}
            sessions.""",
        f"""Days: validation from {data.validation_from}, test from {data.test_from}"""
        + (f"; test years {years[0]} to {years[-1]}." if years else "; no test years."),
        f"""Seeds: {seeds or "none trained"}. Threshold: {RULES[rule.rule]}. Costs:
            {params.backtest.cost_bps:g} bp a side.""",
        f"MD5, as in dvc.lock: {hashes}.",
        f"Libraries: {libraries}.",
        """Commit: no file can name the commit that it is part of; `git log -1 docs/results.html`
            does.""",
    ]
    return ["## How this page was made", "\n".join(f"* {one_line(fact)}" for fact in facts)]
