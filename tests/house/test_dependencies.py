"""dvc.yaml names all code that a stage runs, so that a change of the code makes the stage stale."""

import pytest
import yaml
from imports import LIBRARY, ROOT, imported_by

from patchscale.study.stage import code_of

CARRIERS = {"study", "runtime"}
"""Packages that carry data and processes; no figure depends on them (docs/decisions.md)."""
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_code_that_it_imports(stage: str) -> None:
    script = ROOT / f"stages/{stage}.py"
    run = {
        module
        for module in imported_by(script)
        if module.relative_to(LIBRARY).parts[0] not in CARRIERS
    }
    named = set(code_of(stage, ROOT))
    assert script in named
    assert sorted(str(file.relative_to(ROOT)) for file in run - named) == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_package_that_it_does_not_import(stage: str) -> None:
    run = imported_by(ROOT / f"stages/{stage}.py")
    definition = STAGES[stage]
    for dependency in definition.get("do", definition)["deps"]:
        if dependency.startswith("src/"):
            assert any(module.is_relative_to(ROOT / dependency) for module in run), dependency


def test_only_code_of_the_network_and_of_training_makes_a_training_stale() -> None:
    deps = {path for path in STAGES["train"]["do"]["deps"] if path.startswith("src/")}
    assert deps == {
        "src/patchscale/model",
        "src/patchscale/split/table.py",
        "src/patchscale/train",
    }


def test_code_of_a_stage_is_every_python_file_that_dvc_yaml_names() -> None:
    code = {str(file.relative_to(ROOT)) for file in code_of("train", ROOT)}
    assert {
        "stages/train.py",
        "src/patchscale/train/loop.py",
        "src/patchscale/split/table.py",
    } < code
    assert not any("__pycache__" in file or "runtime" in file for file in code)
