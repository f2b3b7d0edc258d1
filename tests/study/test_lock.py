"""Files that a stage reads against their hashes in dvc.lock, by who runs the stage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, random_bars

from patchscale.bars import canonical_csv, read_bars
from patchscale.study import lock, paths
from patchscale.study.errors import InputError
from patchscale.study.files import read_arrow, read_csv, read_json, write_arrow
from patchscale.study.lock import dvc_md5, object_of
from patchscale.study.params import load_best, load_params

LOSS = Path("data/loss.json")
FOLDER = Path("data/raw/toy")
BEST = {
    "cell": "2M-h1",
    "trial": 0,
    "n_params": 10,
    "d_model": 64,
    "n_layers": 2,
    "n_heads": 2,
    "d_ff": 64,
    "lr": 0.001,
    "dropout": 0.1,
    "weight_decay": 0.001,
    "epochs": 5,
}


def record(**outputs: Path) -> None:
    """Write a dvc.lock in which each stage has written one output as it is now."""
    stages = {
        name: {"outs": [{"path": path.as_posix(), "hash": "md5", "md5": dvc_md5(path)}]}
        for name, path in outputs.items()
    }
    Path("dvc.lock").write_text(yaml.dump({"schema": "2.0", "stages": stages}, sort_keys=False))


def cache(path: Path) -> None:
    """Put a file into DVC's cache."""
    target = object_of(dvc_md5(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(path.read_bytes())


@pytest.fixture(autouse=True)
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter a folder with a recorded output; `dvc repro` runs stage `train`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_STAGE", "train")
    LOSS.parent.mkdir()
    LOSS.write_text('{"loss": 0.7}')
    record(split=LOSS)


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_ROOT")
    monkeypatch.delenv("DVC_STAGE")


@pytest.fixture
def in_fan_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE")


def test_what_the_lock_records_is_read() -> None:
    assert read_json(LOSS) == {"loss": 0.7}


def test_a_changed_digit_is_refused_in_a_line_that_says_what_to_do() -> None:
    LOSS.write_text('{"loss": 0.6}')
    with pytest.raises(InputError) as caught:
        read_json(LOSS)
    assert str(caught.value) == (
        "data/loss.json: not the file that dvc.lock records as an output of split; `rm "
        "data/loss.json`, then `dvc checkout` or `git checkout data/loss.json` restores that one, "
        "`dvc commit split` keeps this one"
    )


def test_what_was_made_and_recorded_again_is_read_in_the_same_process() -> None:
    read_json(LOSS)
    LOSS.write_text('{"loss": 0.6}')
    record(split=LOSS)
    assert read_json(LOSS) == {"loss": 0.6}


def test_the_lock_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Path] = []
    before = lock.locked_stages

    def counting(path: Path) -> dict[str, Any]:
        parsed.append(path)
        return before(path)

    monkeypatch.setattr(lock, "locked_stages", counting)
    record(split=LOSS, other=LOSS)
    for _ in range(5):
        read_json(LOSS)
    assert len(parsed) == 1


def test_a_stage_may_read_what_it_wrote_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "split")
    LOSS.write_text('{"loss": 0.6}')
    assert read_json(LOSS) == {"loss": 0.6}


@pytest.mark.usefixtures("by_hand")
def test_by_hand_another_file_is_read_and_a_line_says_that_it_is_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    read_json(LOSS)
    assert capsys.readouterr().err == ""
    LOSS.write_text('{"loss": 0.6}')
    assert read_json(LOSS) == {"loss": 0.6}
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "data/loss.json: not the file that dvc.lock records as an output of split; it is read as "
        "it is"
    )


@pytest.mark.usefixtures("in_fan_out")
def test_in_a_fan_out_what_an_earlier_stage_put_into_the_cache_is_read() -> None:
    cache(LOSS)
    LOSS.write_text('{"loss": 0.6}')
    cache(LOSS)
    assert read_json(LOSS) == {"loss": 0.6}


@pytest.mark.usefixtures("in_fan_out")
def test_in_a_fan_out_what_no_stage_put_into_the_cache_is_refused() -> None:
    cache(LOSS)
    LOSS.write_text('{"loss": 0.6}')
    with pytest.raises(InputError, match="not the file that"):
        read_json(LOSS)


@pytest.mark.usefixtures("in_fan_out")
def test_in_a_fan_out_an_output_that_is_never_cached_is_read() -> None:
    LOSS.write_text('{"loss": 0.6}')
    assert read_json(LOSS) == {"loss": 0.6}


@pytest.mark.parametrize(
    "content", [None, "", "stages:\n", "stages: {split: }\n", "stages: {split: {outs: [{path:", "["]
)
def test_a_lock_that_is_missing_or_being_written_refuses_nothing(content: str | None) -> None:
    LOSS.write_text('{"loss": 0.6}')
    if content is None:
        Path("dvc.lock").unlink()
    else:
        Path("dvc.lock").write_text(content)
    assert read_json(LOSS) == {"loss": 0.6}


@pytest.mark.parametrize("keep", range(0, 120, 3))
def test_a_lock_cut_off_at_any_byte_refuses_nothing_that_is_good(keep: int) -> None:
    text = Path("dvc.lock").read_text()
    Path("dvc.lock").write_text(text[:keep])
    assert read_json(LOSS) == {"loss": 0.7}


def test_a_file_in_a_recorded_folder_is_checked_with_its_folder() -> None:
    FOLDER.mkdir(parents=True)
    bars, beside = FOLDER / "toy.csv", FOLDER / "vix.csv"
    for path in (bars, beside):
        path.write_text(canonical_csv(random_bars(5)))
    record(download=FOLDER)
    good = read_bars(bars)
    assert len(good) == 5
    bars.write_text(canonical_csv(random_bars(5, seed=1)))
    with pytest.raises(InputError, match=r"toy\.csv: not the file .* an output of download"):
        read_bars(bars)


def test_every_reader_of_a_stage_checks(tmp_path: Path) -> None:
    arrow, csv, best = Path("a.arrow"), Path("a.csv"), Path("data/hpo/2M-h1/best.yaml")
    write_arrow(arrow, pd.DataFrame({"a": np.arange(5.0)}))
    csv.write_text("a,b\n1,2\n")
    best.parent.mkdir(parents=True)
    best.write_text(json.dumps(BEST))
    shutil.copy(ROOT / "space.yaml", ".")
    params = load_params(ROOT)
    readers: dict[Path, Callable[[Path], Any]] = {
        arrow: read_arrow,
        csv: read_csv,
        best: lambda path: load_best(params, "2M-h1"),
    }
    record(features=arrow, backtest=csv, hpo=best.parent)
    for path, read in readers.items():
        read(path)
        path.write_bytes(path.read_bytes() + b"\n")
        with pytest.raises(InputError, match=f"{path.name}: not the file"):
            read(path)


def test_the_lock_of_the_study_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lock.__file__.partition("/src/")[0])
    outputs = lock._outputs(paths.LOCK.resolve(), 0, 0)
    assert outputs[Path("data/split/h1.arrow")].stage == "split@h1"
    assert outputs[Path("metrics/cards/2M-h1.json")].stage == "train@2M-h1"
    assert outputs[Path("data/hpo/2M-h1")].md5.endswith(".dir")
