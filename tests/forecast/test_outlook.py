"""A forecast of the newest close is that of the study, with the statistics of training."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from forecast_study import SEEDS, forecast_study
from tiny import SHAPE

from patchscale.backtest.judge import BENCHMARK
from patchscale.bars import canonical_csv, forward_adjust, read_bars
from patchscale.baselines import har_inputs, logistic
from patchscale.cli.__main__ import call
from patchscale.forecast import market as market_module
from patchscale.forecast.market import read_market
from patchscale.forecast.newest import newest_window
from patchscale.forecast.outlook import Outlook, outlook
from patchscale.forecast.published import model_of
from patchscale.model.patchtst import predict
from patchscale.model.weights import load_model, load_weights, save_weights
from patchscale.split.table import read_split
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import digest
from patchscale.study.params import load_params
from patchscale.train.inputs import read_inputs
from patchscale.train.settings import settings_of

RAW = Path("data/raw/gspc/sp500.csv")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forecast_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a copy of the study the current folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(day: str = "2012-06-01", **where: object) -> Outlook:
    params = load_params()
    return outlook(params, read_market(params, as_of=day, **where))  # type: ignore[arg-type]


def test_a_test_day_gets_the_forecast_that_the_study_gives_it(study: Path) -> None:
    params = load_params()
    for each in found().horizons:
        cell = f"1K-{each.horizon}"
        inputs = read_inputs(params, cell, settings_of(params, cell))
        row = int(np.flatnonzero(inputs.judged["date"] == "2012-06-01")[0])
        models = [load_model(paths.published_weights(cell, s), inputs.shape) for s in range(SEEDS)]
        p = [float(predict(m, inputs.windows, inputs.judged_rows[row : row + 1])) for m in models]
        (model,) = each.models
        assert model.seeds == pytest.approx(p, abs=1e-9)
        assert model.p == pytest.approx(np.mean(p))
        assert len(set(p)) == SEEDS


def test_the_bar_is_the_har_logistic_of_the_study(study: Path) -> None:
    assert BENCHMARK == "har_logistic"
    inputs = har_inputs(forward_adjust(read_bars(RAW)))
    for each in found().horizons:
        split = read_split(paths.split(each.horizon), labels_of={"train"})
        p = logistic(inputs, split)[(split["date"] == "2012-06-01").to_numpy()]
        assert each.bar.p == pytest.approx(float(p[0]), abs=1e-9)
        train = split[split["subset"] == "train"]
        assert each.base_rate == train["label"].mean()


def test_bars_after_the_close_change_nothing(study: Path) -> None:
    before = found()
    bars = read_bars(RAW)
    later = bars["date"] > "2012-06-01"
    bars.loc[later, ["open", "high", "low", "close"]] *= 1.1
    RAW.write_text(canonical_csv(bars))
    assert found() == before
    bars.loc[bars["date"] == "2012-06-01", "high"] *= 1.05
    RAW.write_text(canonical_csv(bars))
    assert found().horizons[0].models[0].p != before.horizons[0].models[0].p


def test_stationary_features_have_the_statistics_of_training(study: Path) -> None:
    window = load_params().window.model_copy(update={"context_length": 3})
    table = pd.DataFrame({"date": pd.bdate_range("2020-01-01", periods=9), "a": np.arange(9.0)})
    train = table["date"][:4]
    rows = table.tail(3).assign(a=[100.0, 200.0, 300.0])
    windows, row = newest_window(table, train, rows, {"a": "stationary"}, window)
    past = np.arange(4.0)
    expected = (rows["a"].to_numpy() - past.mean()) / past.std()
    assert windows(torch.tensor([row]))[0, :, 0].numpy() == pytest.approx(expected)


def test_a_file_gets_the_same_forecast_and_is_said_to_be_other_bars(study: Path) -> None:
    Path("inputs").mkdir()
    shutil.copy(RAW, "inputs/mine.csv")
    mine = found(csv=Path("inputs/mine.csv"))
    assert mine.horizons == found().horizons
    assert "learned from gspc, not from these bars" in mine.caution


def test_the_next_sessions_are_those_of_the_exchange(study: Path) -> None:
    assert [each.until for each in found("2012-07-03").horizons] == ["2012-07-05", "2012-07-09"]


def test_a_decile_is_the_nearest_and_the_caution_counts_the_models(study: Path) -> None:
    result = found()
    near = result.horizons[0].models[0]
    assert near.decile is not None
    assert abs(near.decile.predicted - near.p) == min(abs(m - near.p) for m in (0.1, 0.4, 0.8))
    assert near.decile.n in (25, 26, 27)
    assert result.caution.startswith("1 of 2 models here had a lower log-loss than the bar")
    assert "not after the days" in result.caution
    assert result.target == pytest.approx(result.close * 1.01)


def test_a_training_day_is_refused(study: Path) -> None:
    with pytest.raises(InputError, match="a training day of the models"):
        found("2010-06-01")


def test_stale_bars_are_refused_and_fresh_ones_are_not(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params()
    with pytest.raises(InputError, match="end with 2012-12-31, and the last finished session is"):
        read_market(params)
    for today in ("2013-01-01", "2013-01-02"):
        monkeypatch.setattr(market_module, "exchange_today", lambda _, t=today: pd.Timestamp(t))
        assert read_market(params).as_of == pd.Timestamp("2012-12-31")
    monkeypatch.setattr(market_module, "exchange_today", lambda _: pd.Timestamp("2013-01-03"))
    with pytest.raises(InputError, match="last finished session is 2013-01-02"):
        read_market(params)


@pytest.mark.parametrize("day", ["2012-06-02", "2013-06-03", "June", "2012-6-1"])
def test_a_day_without_a_bar_is_refused(day: str, study: Path) -> None:
    with pytest.raises(InputError, match="--as-of"):
        found(day)


def test_broken_bars_are_refused_as_download_refuses_them(study: Path) -> None:
    bars = read_bars(RAW)
    RAW.write_text(canonical_csv(bars.drop(index=1000)))
    with pytest.raises(InputError, match="sessions of XNYS are missing on"):
        found()
    RAW.write_text(canonical_csv(bars.assign(high=1.0)))
    with pytest.raises(InputError, match="high is below low"):
        found()


def test_too_few_bars_are_refused(study: Path) -> None:
    bars = read_bars(RAW).tail(310)
    RAW.with_name("few.csv").write_text(canonical_csv(bars))
    with pytest.raises(InputError, match="317 are needed"):
        found("2012-12-31", csv=RAW.with_name("few.csv"))


def test_weights_are_those_of_their_card(study: Path) -> None:
    shutil.copy(paths.published_weights("1K-h1", 1), paths.published_weights("1K-h1", 0))
    with pytest.raises(InputError, match="not the weights of"):
        found()


@pytest.mark.parametrize(
    "replicates", [None, [], 3, [{"seed": 0}], [{"sha256": ""}], ["x"], {"seed": 0}]
)
def test_a_card_without_hashes_is_refused_in_one_line(study: Path, replicates: object) -> None:
    card = json.loads(paths.card("1K-h1").read_text())
    paths.card("1K-h1").write_text(json.dumps(card | {"replicates": replicates}))
    wanted = "not the weights of" if replicates == [] else "replicates: seed and sha256 of each"
    with pytest.raises(InputError, match=wanted):
        found()


def test_weights_that_are_not_finite_give_no_forecast(study: Path) -> None:
    path = paths.published_weights("1K-h1", 0)
    save_weights(path, {k: v * math.nan for k, v in load_weights(path).items()})
    card = json.loads(paths.card("1K-h1").read_text())
    card["replicates"][0]["sha256"] = digest(path)
    paths.card("1K-h1").write_text(json.dumps(card))
    with pytest.raises(InputError, match="the probability is not finite"):
        found()


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.drop(columns="n"),
        lambda t: t.drop(columns="observed_low"),
        lambda t: t.assign(n=math.nan),
        lambda t: t.assign(observed=math.nan),
        lambda t: t.assign(predicted="x"),
        lambda t: t.assign(predicted=math.nan),
        lambda t: t.assign(observed_high=7.0),
    ],
    ids=range(7),
)
def test_a_calibration_of_other_content_is_refused_in_one_line(
    study: Path, change: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    path = paths.plot("calibration", "1K-h1")
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"1K-h1\.csv: predicted, observed, .* are needed, as"):
        found()


def test_a_cell_without_weights_is_named_and_none_is_an_error(study: Path) -> None:
    shutil.rmtree("data/weights/1K-h3")
    result = found()
    assert result.absent == ["1K-h3"]
    assert result.horizons[1].models == []
    shutil.rmtree("data/weights")
    with pytest.raises(InputError, match="no weights of 1K"):
        found()


def test_models_of_another_data_set_are_refused(study: Path) -> None:
    card = json.loads(paths.card("1K-h1").read_text())
    paths.card("1K-h1").write_text(json.dumps(card | {"dataset": "spy"}))
    with pytest.raises(InputError, match="dataset is 'spy'"):
        found()


def test_the_command_prints_a_table_or_json(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("predict", "--as-of", "2012-06-01")
    text = capsys.readouterr().out
    call("predict", "--as-of", "2012-06-01", "--json")
    data = json.loads(capsys.readouterr().out)
    assert data["as_of"] == "2012-06-01"
    assert f"{data['horizons'][0]['models'][0]['p']:.1%}" in text
    for part in ("base rate", "HAR logistic", "1K-h1", "1K-h3", "test days forecast near"):
        assert part in text


def test_a_budget_with_fewer_seeds_than_were_trained_is_said_to_be_so(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = load_params().budgets["1K"].run.seeds
    for seeds in (trained, 1):
        raw = yaml.safe_load(Path("params.yaml").read_text())
        raw["publish"] = {"1K": seeds}
        Path("params.yaml").write_text(yaml.safe_dump(raw))
        call("predict", "--as-of", "2012-06-01")
        said = "Not all seeds are published (`publish` in params.yaml): 1K has 1 of"
        assert (said in capsys.readouterr().out) == (seeds < trained)


def test_a_file_of_another_form_is_sent_to_import_csv(study: Path) -> None:
    Path("mine.csv").write_text("Date;Close\n")
    with pytest.raises(InputError, match=r"`patchscale import-csv .*` reads other forms"):
        found(csv=Path("mine.csv"))


def test_weights_of_another_shape_are_refused(study: Path) -> None:
    path = paths.published_weights("1K-h1", 0)
    with pytest.raises(InputError, match="weights of another shape"):
        model_of(path, replace(SHAPE, d_model=16))


def test_options_of_a_file_need_the_file(study: Path) -> None:
    with pytest.raises(InputError, match="go with --csv"):
        call("predict", "--calendar", "XNYS")
