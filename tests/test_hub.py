"""An exported folder holds all that a forecast needs, and the Hub's front matter."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from forecast_study import SEEDS, forecast_study
from safetensors.torch import load_file

from patchscale import api
from patchscale.hub import export
from patchscale.model.patchtst import PatchTST, PatchTSTConfig, predict, predict_proba
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import read_arrow
from patchscale.train.inputs import read_inputs
from patchscale.train.settings import settings_of


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> api.Study:
    return api.read_study(forecast_study(tmp_path_factory.mktemp("study")))


@pytest.fixture(scope="module")
def folder(study: api.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "1K-h1"
    written = export(study.params, "1K-h1", folder, study.root)
    assert sorted(written) == sorted(folder.iterdir())
    return folder


@pytest.mark.parametrize("seed", range(SEEDS))
def test_weights_read_without_the_study_give_the_same_probabilities(
    study: api.Study, folder: Path, seed: int
) -> None:
    config = json.loads((folder / "config.json").read_text())
    model = PatchTST(PatchTSTConfig(**config["shape"]))
    name = f"seed{seed}" if seed else "model"
    model.load_state_dict(load_file(folder / f"{name}.safetensors"))
    inputs = read_inputs(
        study.params, "1K-h1", settings_of(study.params, "1K-h1", study.root), root=study.root
    )
    stored = predict(api.load_model(study, "1K-h1", seed), inputs.windows, inputs.judged_rows)
    assert torch.equal(predict(model, inputs.windows, inputs.judged_rows), stored)
    # the last window again, from the features and what config.json says of them
    features = config["features"]
    table = read_arrow(study.root / paths.features(study.params.features.tier))
    row = int(inputs.judged_rows[-1])
    rows = slice(row + 1 - config["shape"]["context_length"], row + 1)
    raw = table[[each["name"] for each in features]].to_numpy(dtype=float)[rows]
    level = np.array([each["kind"] == "level" for each in features])
    mean = np.where(level, raw.mean(axis=0), [each["mean"] for each in features])
    std = np.where(level, raw.std(axis=0), [each["std"] for each in features])
    window = torch.from_numpy((raw - mean) / std).float()[None]
    with torch.no_grad():
        alone = predict_proba(model.eval()(window))
    assert torch.allclose(alone, stored[-1:], atol=1e-6)


def test_the_front_matter_has_licence_task_and_figures(folder: Path) -> None:
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["license"] == "mit"
    assert facts["pipeline_tag"] == "time-series-forecasting"
    (result,) = facts["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "log_loss", "value": 0.5}]
    assert "| log_loss | 0.5000 | undefined |" in body
    assert "2 of them are here: model.safetensors, seed1.safetensors" in " ".join(body.split())


def test_the_code_of_the_card_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = (folder / "README.md").read_text().split("```python\n")[1:]
    monkeypatch.chdir(folder)
    exec(code.partition("```")[0], {})
    assert capsys.readouterr().out.startswith("tensor([0.")


def test_nothing_is_written_for_a_cell_without_weights_or_over_files(
    study: api.Study, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"'2M-h9' has no published weights; allowed: 1K-h1, "):
        export(study.params, "2M-h9", tmp_path / "new", study.root)
    with pytest.raises(InputError, match=r"--to: .* is not empty; a new folder is needed"):
        export(study.params, "1K-h1", folder, study.root)
    assert list(tmp_path.iterdir()) == []
