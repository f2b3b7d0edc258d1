import hashlib
import json
import runpy
from pathlib import Path

import exchange_calendars
import pytest
import yaml
from conftest import ROOT, random_bars

from patchscale.errors import InputError
from patchscale.market import canonical_csv
from patchscale.verify import dvc_md5, hashes, locked_stages, regenerated


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_hash_of_a_file_is_the_md5_of_its_bytes(tmp_path):
    path = write(tmp_path / "file", b"line\r\n\x00")
    assert dvc_md5(path) == md5(b"line\r\n\x00")


def test_the_hash_of_a_folder_is_that_of_its_sorted_listing(tmp_path):
    contents = {
        "seed10.bin": b"ten",
        "seed0.bin": b"zero",
        "sub/inner/deep.bin": b"deep",
        "sub/a.bin": b"a",
        "é.bin": b"accent",
    }
    for name, content in contents.items():
        write(tmp_path / name, content)
    (tmp_path / "empty").mkdir()
    listing = [{"md5": md5(contents[name]), "relpath": name} for name in sorted(contents)]
    assert dvc_md5(tmp_path) == md5(json.dumps(listing).encode()) + ".dir"


def test_a_file_moved_within_a_folder_changes_its_hash(tmp_path):
    write(tmp_path / "a", b"same")
    before = dvc_md5(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert dvc_md5(tmp_path) != before


@pytest.fixture
def stages(tmp_path) -> dict:
    write(tmp_path / "data/bars.csv", b"date,close\n")
    write(tmp_path / "models/seed0", b"weights")
    outs = [{"path": path, "md5": dvc_md5(tmp_path / path)} for path in ("data/bars.csv", "models")]
    return {"download": {"outs": outs}, "check": {}}


def verdicts(stages: dict, root: Path) -> dict[str, str]:
    return {row.what: row.verdict for row in hashes(stages, root)}


def test_unchanged_outputs_are_reproduced(stages, tmp_path):
    assert verdicts(stages, tmp_path) == {"data/bars.csv": "reproduced", "models": "reproduced"}


def test_a_changed_byte_differs_and_its_path_and_stage_are_named(stages, tmp_path):
    write(tmp_path / "data/bars.csv", b"date,closE\n")
    first, second = hashes(stages, tmp_path)
    assert (first.what, first.verdict) == ("data/bars.csv", "differs")
    assert "download" in first.detail
    assert "dvc checkout" in first.detail
    assert second.verdict == "reproduced"


@pytest.mark.parametrize("extra", ["seed0", "seed1"])
def test_a_folder_differs_when_a_file_in_it_changes_or_is_added(stages, tmp_path, extra):
    write(tmp_path / "models" / extra, b"other")
    assert verdicts(stages, tmp_path)["models"] == "differs"


def test_a_missing_output_is_not_available(stages, tmp_path):
    (tmp_path / "data/bars.csv").unlink()
    assert verdicts(stages, tmp_path) == {"data/bars.csv": "not available", "models": "reproduced"}


def test_the_stages_of_a_lock_are_read(tmp_path):
    lock = write(tmp_path / "dvc.lock", b"schema: '2.0'\nstages:\n  check:\n    cmd: python x\n")
    assert locked_stages(lock) == {"check": {"cmd": "python x"}}


@pytest.mark.parametrize(
    "damaged",
    [None, b"", b"stages: [unclosed", b"schema: '2.0'\n", b"just text", b"<<<<<<< HEAD\n"],
)
def test_a_missing_or_damaged_lock_is_refused_in_one_line(tmp_path, damaged):
    lock = tmp_path / "dvc.lock"
    if damaged is not None:
        write(lock, damaged)
    with pytest.raises(InputError, match=r"dvc\.lock: missing or damaged; `git checkout") as raised:
        locked_stages(lock)
    assert "\n" not in str(raised.value)


@pytest.fixture
def csv_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a user's own bars, named relative to it, and their download's lock."""
    bars = random_bars(200, start="2018-01-02")
    sessions = exchange_calendars.get_calendar("XNYS", start="2018-01-02", end="2018-12-31")
    bars["date"] = sessions.sessions[:200].tz_localize(None)
    write(tmp_path / "inputs/my.csv", canonical_csv(bars).encode())
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["dataset"] = "csv"
    params["datasets"]["csv"] |= {
        "path": "inputs/my.csv",
        "start": "2018-01-02",
        "end": f"{bars['date'].iloc[-1]:%Y-%m-%d}",
        "validation_from": "2018-03-01",
        "test_from": "2018-06-01",
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "stages/download.py"))["main"]()
    return tmp_path


def download_lock(root: Path) -> dict:
    paths = ("data/raw/csv", "metrics/data/csv.json")
    outs = [{"path": path, "md5": dvc_md5(root / path)} for path in paths]
    return {"download": {"cmd": "python stages/download.py", "outs": outs}}


def test_bars_from_a_users_own_file_are_regenerated(csv_study):
    lock = download_lock(csv_study)
    assert [row.verdict for row in regenerated(lock, csv_study)] == ["reproduced"]
    changed = (csv_study / "inputs/my.csv").read_text().replace("0.000000,0.000000\n", "0,0\n", 1)
    last = changed.rstrip().splitlines()[-1]
    (csv_study / "inputs/my.csv").write_text(changed.replace(last, last.replace(",0.0", ",1.0", 1)))
    assert [row.verdict for row in regenerated(lock, csv_study)] == ["differs"]


def test_a_source_out_of_reach_is_not_available_and_its_bars_are_taken_as_they_are(
    csv_study, tmp_path
):
    (csv_study / "stages").unlink()
    unreachable = """
from patchscale.errors import Stopped
def main():
    raise Stopped("try again later")
"""
    reads = """
from pathlib import Path
def main(horizon):
    Path("bars.size").write_text(str(len(Path("data/raw/csv/bars.csv").read_text())))
"""
    write(csv_study / "stages/download.py", unreachable.encode())
    write(csv_study / "stages/split.py", reads.encode())
    size = str(len((csv_study / "data/raw/csv/bars.csv").read_text())).encode()
    lock = download_lock(csv_study) | {
        "split@h1": {
            "cmd": "python stages/split.py h1",
            "outs": [{"path": "bars.size", "md5": md5(size)}],
        }
    }
    rows = {row.what: row.verdict for row in regenerated(lock, csv_study)}
    assert rows == {"download": "not available", "split@h1": "reproduced"}
