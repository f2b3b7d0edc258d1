import hashlib
import json
import runpy
from pathlib import Path

import exchange_calendars
import pytest
import yaml
from conftest import ROOT, random_bars

from patchscale.bars import canonical_csv
from patchscale.study.errors import InputError
from patchscale.study.lock import dvc_md5, locked_stages
from patchscale.verify.__main__ import main
from patchscale.verify.records import cached, command, look_up, records
from patchscale.verify.remake import regenerate


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
def study(tmp_path) -> dict:
    """Return the lock of a folder with a file and a directory, in the workspace and cached."""
    write(tmp_path / "params.yaml", b"split:\n  block: 60\n")
    write(tmp_path / "src/code.py", b"code")
    write(tmp_path / "data/bars.csv", b"date,close\n")
    write(tmp_path / "models/seed0", b"weights")
    listing = json.dumps([{"md5": md5(b"weights"), "relpath": "seed0"}]).encode()
    for content in (b"date,close\n", b"weights"):
        write(cache_of(tmp_path, md5(content)), content)
    write(cache_of(tmp_path, f"{md5(listing)}.dir"), listing)

    def entry(path: str) -> dict[str, str]:
        return {"path": path, "md5": dvc_md5(tmp_path / path)}

    return {
        "train@2M-h1": {
            "cmd": "python stages/train.py 2M-h1",
            "deps": [entry("src/code.py")],
            "params": {"params.yaml": {"split.block": 60}},
            "outs": [entry("data/bars.csv"), entry("models")],
        },
        "check": {"cmd": "python stages/check.py"},
    }


def cache_of(root: Path, name: str) -> Path:
    return root / ".dvc/cache/files/md5" / name[:2] / name[2:]


def verdicts(study: dict, root: Path) -> dict[str, str]:
    return {row.what: row.verdict for row in [*records(study, root), *cached(study, root)]}


SOUND = {
    "data/bars.csv": "reproduced",
    "models": "reproduced",
    "record of train@2M-h1": "reproduced",
    "record of check": "reproduced",
    "3 cache objects": "reproduced",
}


def test_what_nobody_touched_is_reproduced(study, tmp_path):
    assert verdicts(study, tmp_path) == SOUND


def test_a_changed_byte_differs_and_its_path_and_stage_are_named(study, tmp_path):
    write(tmp_path / "data/bars.csv", b"date,closE\n")
    first, second, *_ = records(study, tmp_path)
    assert (first.what, first.verdict) == ("data/bars.csv", "differs")
    assert "train@2M-h1" in first.detail
    assert "dvc checkout" in first.detail
    assert second.verdict == "reproduced"


@pytest.mark.parametrize("extra", ["seed0", "seed1"])
def test_a_folder_differs_when_a_file_in_it_changes_or_is_added(study, tmp_path, extra):
    write(tmp_path / "models" / extra, b"other")
    assert verdicts(study, tmp_path) == SOUND | {"models": "differs"}


def test_a_missing_output_is_not_available(study, tmp_path):
    (tmp_path / "data/bars.csv").unlink()
    assert verdicts(study, tmp_path) == SOUND | {"data/bars.csv": "not available"}


@pytest.mark.parametrize(
    ("part", "value", "named"),
    [
        ("cmd", "python stages/train.py 2M-h5", "cmd: python stages/train.py 2M-h5"),
        ("params", {"params.yaml": {"split.block": 61}}, "params.yaml: split.block"),
        ("params", {"params.yaml": {"split.gone": 1}}, "params.yaml: split.gone"),
        ("deps", [{"path": "src/code.py", "md5": "0" * 32}], "src/code.py"),
    ],
)
def test_a_lock_edited_by_hand_names_the_stage_and_what_does_not_fit(
    study, tmp_path, part, value, named
):
    study["train@2M-h1"][part] = value
    (row,) = [row for row in records(study, tmp_path) if row.verdict == "differs"]
    assert row.what == "record of train@2M-h1"
    assert row.detail.startswith(f"{named}: not what dvc.lock says; ")


def test_an_edited_hash_of_an_output_differs_from_its_file(study, tmp_path):
    study["train@2M-h1"]["outs"][0]["md5"] = "0" * 32
    assert verdicts(study, tmp_path)["data/bars.csv"] == "differs"


@pytest.mark.parametrize(
    ("content", "whose"), [(b"date,close\n", "data/bars.csv of"), (b"weights", "models/seed0 of")]
)
def test_a_damaged_cache_object_is_named_with_its_file_and_the_way_out(
    study, tmp_path, content, whose
):
    path = cache_of(tmp_path, md5(content))
    write(path, content[:-1])
    (row,) = [row for row in cached(study, tmp_path) if row.verdict == "differs"]
    assert row.what == f"cache object of {whose} train@2M-h1"
    assert f"rm {path.relative_to(tmp_path)}" in row.detail


def test_a_damaged_listing_of_a_cached_folder_is_named(study, tmp_path):
    (listing,) = (tmp_path / ".dvc").rglob("*.dir")
    write(listing, b"not json")
    (row,) = [row for row in cached(study, tmp_path) if row.verdict == "differs"]
    assert row.what == "cache object of models of train@2M-h1"


def test_what_is_not_cached_is_no_fault(study, tmp_path):
    cache_of(tmp_path, md5(b"weights")).unlink()
    assert "2 cache objects" in verdicts(study, tmp_path)
    assert "differs" not in verdicts(study, tmp_path).values()


def test_a_stages_command_follows_from_its_name():
    assert command("train@2M-h1") == "python stages/train.py 2M-h1"
    assert command("check") == "python stages/check.py"
    names = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    assert all(command(name) == stage["cmd"] for name, stage in names.items())


def test_a_dotted_key_is_looked_up_and_a_missing_one_is_none():
    params = {"a": {"b": {"c": 0}}}
    assert look_up(params, "a.b") == {"c": 0}
    assert look_up(params, "a.b.c") == 0
    assert look_up(params, "a.x") is look_up(params, "a.b.c.d") is None


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
    (tmp_path / "grid.yaml").write_text((ROOT / "grid.yaml").read_text())
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
    assert [row.verdict for row in regenerate(lock, csv_study)] == ["reproduced"]
    changed = (csv_study / "inputs/my.csv").read_text().replace("0.000000,0.000000\n", "0,0\n", 1)
    last = changed.rstrip().splitlines()[-1]
    (csv_study / "inputs/my.csv").write_text(changed.replace(last, last.replace(",0.0", ",1.0", 1)))
    assert [row.verdict for row in regenerate(lock, csv_study)] == ["differs"]


def test_a_source_out_of_reach_is_not_available_and_its_bars_are_taken_as_they_are(
    csv_study, tmp_path
):
    (csv_study / "stages").unlink()
    unreachable = """
from patchscale.study.errors import Stopped
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
    rows = {row.what: row.verdict for row in regenerate(lock, csv_study)}
    assert rows == {"download": "not available", "split@h1": "reproduced"}


def test_a_stage_is_given_what_it_reads_and_no_stage_before_it_made(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write(tmp_path / f"plots/{name}.csv", name.encode())
    write(tmp_path / "params.yaml", b"")
    copies = """
from pathlib import Path
def main():
    Path("made").write_bytes(b"".join(p.read_bytes() for p in sorted(Path("plots").iterdir())))
"""
    changes = "from pathlib import Path\ndef main():\n    Path('plots/a.csv').write_text('A')\n"
    write(tmp_path / "stages/headline.py", changes.encode())
    write(tmp_path / "stages/report.py", copies.encode())
    lock = {
        "report": {
            "cmd": "python stages/report.py",
            "deps": [{"path": "plots"}, {"path": "stages/report.py"}],
            "outs": [{"path": "made", "md5": md5(b"Ab")}],
        },
        "headline": {
            "cmd": "python stages/headline.py",
            "deps": [{"path": "plots/a.csv"}],
            "outs": [{"path": "plots/a.csv", "md5": md5(b"A")}],
        },
    }
    rows = list(regenerate(lock, tmp_path, ("headline", "report")))
    assert [(row.what, row.verdict) for row in rows] == [
        ("headline", "reproduced"),
        ("report", "reproduced"),
    ]
    write(tmp_path / "plots/b.csv", b"tampered")
    (row,) = regenerate({"report": lock["report"]}, tmp_path, ("report",))
    assert (row.verdict, row.detail) == ("differs", "made")
    (tmp_path / "plots/a.csv").unlink()
    rows = list(regenerate(lock, tmp_path, ("headline", "report")))
    assert rows[0].verdict == "not available"


def test_a_command_in_the_lock_is_never_run(tmp_path):
    write(tmp_path / "params.yaml", b"")
    run = "from pathlib import Path\ndef main(): Path('{}').write_text('made')\n"
    write(tmp_path / "stages/report.py", run.format("made").encode())
    write(tmp_path / "elsewhere.py", run.format(tmp_path / "ran").encode())
    lock = {
        "report": {
            "cmd": "python elsewhere.py",
            "outs": [{"path": "made", "md5": md5(b"made")}],
        }
    }
    (row,) = regenerate(lock, tmp_path, ("report",))
    assert row.verdict == "reproduced"
    assert not (tmp_path / "ran").exists()


def test_a_cell_is_trained_again_only_on_its_own_level(tmp_path, monkeypatch):
    write(tmp_path / "dvc.lock", b"stages:\n  train@2M-h1:\n    cmd: x\n")
    write(tmp_path / "metrics/cards/2M-h1.json", b'{"trained": true}')
    monkeypatch.chdir(tmp_path)
    for words, said in (
        (("--level", "retrain"), "--cell: goes with --level retrain"),
        (("--cell", "2M-h1"), "--cell: goes with --level retrain"),
        (("--level", "retrain", "--cell", "2B-h1"), "not a trained cell; allowed: 2M-h1"),
    ):
        with pytest.raises(InputError, match=said):
            main(*words)
