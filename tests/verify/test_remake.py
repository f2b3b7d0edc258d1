"""Stages are run again by the commands of dvc.yaml, and what they write is compared."""

import runpy
from pathlib import Path

import exchange_calendars
import pytest
import yaml
from conftest import ROOT, random_bars
from locked import lock_of, small_study, track, write

from patchscale.bars import canonical_csv
from patchscale.study.params import load_params
from patchscale.verify.pipeline import Declared, declared_stages
from patchscale.verify.records import entry_of
from patchscale.verify.remake import costly, regenerate

RAN = "from pathlib import Path\ndef main(*words): Path({!r}).write_text('ran')\n"


def again(lock, root, kinds=("check", "train")):
    return {row.what: row for row in regenerate(lock, declared_stages(root), root, kinds)}


def test_what_nobody_touched_is_reproduced(tmp_path):
    rows = again(lock_of(small_study(tmp_path)), tmp_path)
    assert {row.what: row.verdict for row in rows.values()} == {
        "check": "reproduced",
        "train@2M-h1": "reproduced",
        "train@2M-h3": "reproduced",
    }


def test_a_command_of_the_lock_is_never_run(tmp_path):
    lock, ran = lock_of(small_study(tmp_path)), tmp_path / "ran"
    script = RAN.format(str(ran)).encode()
    write(tmp_path / "data/evil.py", script)
    write(tmp_path / "stages/evil.py", script)  # not tracked by git
    for command in ("python data/evil.py", "python stages/evil.py"):
        lock["check"]["cmd"] = command
        lock["check@more"] = lock["train@9K-h1"] = lock["check"]
        assert list(again(lock, tmp_path)) == ["check", "train@2M-h1", "train@2M-h3"]
    assert not ran.exists()


def test_a_published_object_does_not_take_the_place_of_a_script(tmp_path):
    lock, ran = lock_of(small_study(tmp_path)), tmp_path / "ran"
    write(tmp_path / "data/evil.py", RAN.format(str(ran)).encode())
    evil = entry_of("data/evil.py", tmp_path)
    lock["check"]["deps"] = [evil | {"path": "stages/check.py"}]
    lock["check"]["outs"].append(evil | {"path": "stages/check.py"})
    assert again(lock, tmp_path)["check"].verdict == "reproduced"
    assert not ran.exists()


def test_an_output_or_a_stage_that_the_lock_lacks_differs(tmp_path):
    lock = lock_of(small_study(tmp_path))
    del lock["check"]
    lock["train@2M-h1"]["outs"].pop(0)
    rows = again(lock, tmp_path)
    assert (rows["check"].verdict, rows["check"].detail) == ("differs", "data/checked")
    assert (rows["train@2M-h1"].verdict, rows["train@2M-h1"].detail) == (
        "differs",
        "data/2M-h1.csv",
    )


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("def main(: pass", "SyntaxError: "),
        ("pass", "KeyError: 'main'"),
        ("def main(): raise ValueError('a\\nb' * 1000)", "ValueError: a b"),
        ("def main(): pass", "data/checked"),
    ],
)
def test_a_script_that_fails_or_writes_nothing_differs_in_one_line(tmp_path, script, said):
    lock = lock_of(small_study(tmp_path))
    write(tmp_path / "stages/check.py", script.encode())
    row = again(lock, tmp_path, ("check",))["check"]
    assert row.verdict == "differs"
    assert row.detail.startswith(said)
    assert len(row.detail) < 400
    assert "\n" not in row.detail


def test_stages_that_search_or_train_are_left_out():
    omitted = costly(load_params(ROOT))
    assert "train@20M-h5" in omitted
    assert "train@2B-h5" not in omitted
    assert "hpo@200K-h1" in omitted
    assert "hpo@20M-h1" not in omitted
    assert "walk@20M" in omitted
    assert "walk@2B" not in omitted


@pytest.fixture
def csv_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a user's own bars, named relative to it, and their download."""
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
    write(tmp_path / "stages/download.py", (ROOT / "stages/download.py").read_bytes())
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "stages/download.py"))["main"]()
    return tmp_path


def stage(name: str, *outs: str, deps: tuple[str, ...] = ()) -> dict[str, Declared]:
    kind, _, word = name.partition("@")
    return {name: Declared(name, f"python stages/{kind}.py {word}".rstrip(), deps, {}, outs)}


def outs(root: Path, stages: dict[str, Declared]) -> dict:
    return {
        name: {"outs": [entry_of(path, root) for path in each.outs]}
        for name, each in stages.items()
    }


def test_bars_from_a_users_own_file_are_regenerated(csv_study):
    stages = stage("download", "data/raw/csv", "metrics/download/csv.json")
    lock = outs(csv_study, stages)

    def verdict():
        (row,) = regenerate(lock, stages, csv_study, ("download",))
        return row.verdict

    assert verdict() == "reproduced"
    changed = (csv_study / "inputs/my.csv").read_text()
    last = changed.rstrip().splitlines()[-1]
    (csv_study / "inputs/my.csv").write_text(changed.replace(last, last.replace(",0.0", ",1.0", 1)))
    assert verdict() == "differs"


def test_a_source_out_of_reach_is_not_available_and_its_bars_are_taken_as_they_are(csv_study):
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
    write(csv_study / "bars.size", size)
    stages = stage("download", "data/raw/csv") | stage("split@h1", "bars.size")
    lock = outs(csv_study, stages)
    rows = regenerate(lock, stages, csv_study, ("download", "split"))
    assert {row.what: row.verdict for row in rows} == {
        "download": "not available",
        "split@h1": "reproduced",
    }


def test_a_stage_is_given_what_it_reads_and_no_stage_before_it_made(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"plots/{name}.csv", name.encode())
    copies = """
from pathlib import Path
def main():
    Path("made").write_bytes(b"".join(p.read_bytes() for p in sorted(Path("plots").iterdir())))
"""
    changes = "from pathlib import Path\ndef main():\n    Path('plots/a.csv').write_text('A')\n"
    write(tmp_path / "stages/headline.py", changes.encode())
    write(tmp_path / "stages/report.py", copies.encode())
    track(tmp_path)
    stages = stage("report", "made", deps=("plots", "stages/report.py"))
    stages |= stage("headline", "plots/a.csv", deps=("plots/a.csv",))
    write(tmp_path / "made", b"Ab")
    write(tmp_path / "plots/a.csv", b"A")
    lock = outs(tmp_path, stages)
    write(tmp_path / "plots/a.csv", b"a")
    rows = list(regenerate(lock, stages, tmp_path, ("headline", "report")))
    assert [(row.what, row.verdict) for row in rows] == [
        ("headline", "reproduced"),
        ("report", "reproduced"),
    ]
    write(tmp_path / "plots/b.csv", b"tampered")
    (row,) = regenerate(lock, stages, tmp_path, ("report",))
    assert (row.verdict, row.detail) == ("differs", "made")
    (tmp_path / "plots/a.csv").unlink()
    rows = list(regenerate(lock, stages, tmp_path, ("headline", "report")))
    assert rows[0].verdict == "not available"
