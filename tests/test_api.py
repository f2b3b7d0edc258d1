"""The Python interface is small, starts fast, and gives what the commands give."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import write_study
from forecast_study import forecast_study

from patchscale import api


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> api.Study:
    return api.read_study(forecast_study(tmp_path_factory.mktemp("study")))


@pytest.mark.parametrize("module", ["patchscale", "patchscale.api"])
def test_the_import_brings_no_heavy_library(module: str) -> None:
    heavy = "{'pandas', 'numpy', 'torch', 'sklearn', 'dvc', 'pydantic'}"
    code = f"import sys, {module}; sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_name_is_documented() -> None:
    assert 5 <= len(api.__all__) <= 8
    assert all(getattr(api, name).__doc__ for name in api.__all__)


def test_a_study_has_parameters_and_cards(study: api.Study, tmp_path: Path) -> None:
    assert study.cards.keys() == study.params.cells.keys()
    assert study.cards["1K-h1"]["trained"]
    assert study.metrics("1K-h1")["test"] == {"log_loss": 0.5}
    with pytest.raises(api.InputError, match="no card is here; `dvc pull` brings them"):
        api.read_study(write_study(tmp_path))


def test_a_model_takes_windows_and_gives_logits(study: api.Study) -> None:
    model = api.load_model(study, "1K-h1", seed=1)
    shape = model.config
    assert model(torch.zeros(3, shape.context_length, shape.n_features)).shape == (3,)
    with pytest.raises(api.InputError, match=r"seed7\.safetensors: missing"):
        api.load_model(study, "1K-h1", seed=7)


def test_forecasts_are_those_of_the_command(study: api.Study) -> None:
    outlook = api.predict(study, as_of="2012-06-01")
    assert [each.horizon for each in outlook.horizons] == ["h1", "h3"]
    assert all(0 < each.models[0].p < 1 for each in outlook.horizons)


def test_bars_are_imported_with_their_mapping(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("Date,Open,High,Low,Close\n2024-01-30,1.5,2.5,1.5,2.5\n")
    found = api.import_bars(file)
    assert found.problems == []
    assert found.mapping["close"] == "Close"
    assert len(found.bars) == 1
