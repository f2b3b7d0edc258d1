"""A training refuses the result of a search whose model has not the size of its budget."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, write_study

from patchscale.features.tiers import tier_features
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import write_json, write_text
from patchscale.study.params import load_params


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return trial 0 of 200K-h1 as stage hpo makes it; the study is the current folder."""
    monkeypatch.chdir(write_study(tmp_path))
    write_json(paths.kinds("a20"), {feature.name: feature.kind for feature in tier_features("a20")})
    size = {"n_features": 22, "patch_length": 10, "n_patches": 6}
    make = runpy.run_path(str(ROOT / "stages/hpo.py"))["first_trial"]
    best: dict[str, Any] = make(load_params(), "200K-h1", size).model_dump(exclude_none=True)
    return best


@pytest.mark.parametrize(
    "change",
    [{"d_ff": 200}, {"n_params": 200_000}, {"n_layers": 4}, {"d_model": 64, "n_heads": 2}],
)
def test_training_refuses_a_model_of_another_size(
    study: dict[str, Any], change: dict[str, int]
) -> None:
    write_text(paths.best("200K-h1"), yaml.safe_dump(study | change))
    main = runpy.run_path(str(ROOT / "stages/train.py"))["main"]
    with pytest.raises(InputError, match="d_ff") as caught:
        main("200K-h1")
    assert "\n" not in str(caught.value)


def test_training_goes_on_to_its_data_with_the_result_that_hpo_wrote(study: dict[str, Any]) -> None:
    write_text(paths.best("200K-h1"), yaml.safe_dump(study))
    main = runpy.run_path(str(ROOT / "stages/train.py"))["main"]
    with pytest.raises(InputError, match=r"^data/(features/a20|split/h1)\.arrow: missing"):
        main("200K-h1")
