"""Records of dvc.lock are those of the stages that dvc.yaml declares, with the files here."""

import json
from typing import Any

import pytest
from locked import SCRIPT, lock_of, md5, small_study, write

from patchscale.verify.pipeline import declared_stages
from patchscale.verify.records import dvc_md5, records, same


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
def lock(tmp_path) -> dict[str, Any]:
    """Return the lock of a small study in this test's folder."""
    return lock_of(small_study(tmp_path))


def verdicts(lock, root):
    return {row.what: row.verdict for row in records(lock, declared_stages(root), root)}


def differing(lock, root):
    """Return what differs, with its details."""
    rows = records(lock, declared_stages(root), root)
    return {row.what: row.detail for row in rows if row.verdict == "differs"}


def test_what_nobody_touched_is_reproduced(lock, tmp_path):
    found = verdicts(lock, tmp_path)
    assert len(found) == 10
    assert set(found.values()) == {"reproduced"}


def test_a_changed_byte_differs_and_its_path_and_stage_are_named(lock, tmp_path):
    write(tmp_path / "data/2M-h1.csv", b"date,closE,2M-h1")
    assert differing(lock, tmp_path) == {
        "data/2M-h1.csv": "from what train@2M-h1 wrote; `dvc checkout` restores it"
    }


@pytest.mark.parametrize("extra", ["seed0", "seed1"])
def test_a_folder_differs_when_a_file_in_it_changes_or_is_added(lock, tmp_path, extra):
    write(tmp_path / "models/2M-h1" / extra, b"other")
    assert list(differing(lock, tmp_path)) == ["models/2M-h1"]


def test_a_missing_output_is_not_available(lock, tmp_path):
    (tmp_path / "data/2M-h1.csv").unlink()
    assert verdicts(lock, tmp_path)["data/2M-h1.csv"] == "not available"
    assert differing(lock, tmp_path) == {}


def test_an_empty_lock_differs_at_every_stage(tmp_path):
    small_study(tmp_path)
    assert list(differing({}, tmp_path)) == [
        "record of check",
        "record of train@2M-h1",
        "record of train@2M-h3",
    ]


def test_a_stage_that_the_lock_lacks_or_has_too_much_differs(lock, tmp_path):
    lock["train@9K-h1"] = lock.pop("train@2M-h1")
    assert differing(lock, tmp_path) == {
        "record of 'train@9K-h1'": "dvc.yaml has no such stage",
        "record of train@2M-h1": "dvc.lock has none; `dvc repro train@2M-h1` makes it",
    }


@pytest.mark.parametrize("part", ["deps", "outs"])
@pytest.mark.parametrize("number", range(3))
def test_a_file_that_the_lock_lacks_differs(lock, tmp_path, part, number):
    gone = lock["train@2M-h1"][part].pop(number)["path"]
    (detail,) = differing(lock, tmp_path).values()
    assert detail.startswith(f"{part}: {gone} has no record: not what dvc.lock says; ")


@pytest.mark.parametrize("part", ["deps", "outs"])
def test_a_file_that_the_lock_has_too_much_or_twice_differs(lock, tmp_path, part):
    entry = lock["check"][part][0]
    lock["check"][part] += [entry, entry | {"path": "data/more"}]
    (detail,) = differing(lock, tmp_path).values()
    assert f"{part}: 'data/more' is not declared" in detail
    assert f"{part}: '{entry['path']}' occurs twice" in detail


@pytest.mark.parametrize("part", ["deps", "outs", "params"])
def test_a_part_that_the_lock_lacks_differs(lock, tmp_path, part):
    del lock["train@2M-h1"][part]
    assert list(differing(lock, tmp_path)) == ["record of train@2M-h1"]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("part", ["deps", "outs"])
@pytest.mark.parametrize(
    "change",
    [
        {"md5": "0" * 32},
        {"md5": "0" * 32 + ".dir"},
        {"size": 1},
        {"nfiles": 3},
        {"isexec": True},
    ],
    ids=str,
)
def test_an_edited_fact_of_a_file_differs(lock, tmp_path, part, number, change):
    lock["train@2M-h1"][part][number] |= change
    assert len(differing(lock, tmp_path)) == 1


def test_a_dependency_that_is_not_here_must_be_that_of_the_stage_that_makes_it(lock, tmp_path):
    (tmp_path / "data/checked").unlink()
    assert differing(lock, tmp_path) == {}
    lock["train@2M-h1"]["deps"][0] |= {"md5": "0" * 32}
    assert list(differing(lock, tmp_path)) == ["record of train@2M-h1"]


def test_code_of_the_checkout_that_the_lock_does_not_have_differs(lock, tmp_path):
    write(tmp_path / "src/code/b.py", b"more")
    assert list(differing(lock, tmp_path)) == ["record of train@2M-h1", "record of train@2M-h3"]
    write(tmp_path / "stages/check.py", SCRIPT.encode() + b"\n")
    assert "record of check" in differing(lock, tmp_path)


def test_missing_code_differs(lock, tmp_path):
    (tmp_path / "src/code/a.py").unlink()
    (tmp_path / "src/code").rmdir()
    assert differing(lock, tmp_path)["record of train@2M-h1"].startswith("src/code is missing: ")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"params.yaml": {"split": {"block": 61, "share": 1.0}}}, "params.yaml: split: "),
        ({"params.yaml": {"split": {"block": 60.0, "share": 1.0}}}, "params.yaml: split: "),
        ({"params.yaml": {"split": {"block": 60, "share": True}}}, "params.yaml: split: "),
        ({"params.yaml": {"split": {"block": 60}}}, "params.yaml: split: "),
        ({"params.yaml": {}}, "params.yaml: split, 'params.yaml': not declared: "),
        ({}, "params.yaml: split, 'params.yaml': no record: "),
        (
            {"params.yaml": {"split": {"block": 60, "share": 1.0}, "gone": 1}},
            "'params.yaml': 'gone' is not declared: ",
        ),
    ],
    ids=str,
)
def test_other_parameters_than_declared_differ(lock, tmp_path, values, named):
    lock["train@2M-h1"]["params"] = values
    (detail,) = differing(lock, tmp_path).values()
    assert detail.startswith(named)


@pytest.mark.parametrize(
    "command", ["python stages/train.py 2M-h1", "python data/checked", "x\n\x1b[2J" * 1000]
)
def test_another_command_than_declared_differs_and_is_shown_short(lock, tmp_path, command):
    lock["train@2M-h1"]["cmd"] = command
    (detail,) = differing(lock, tmp_path).values()
    assert detail.startswith("cmd: 'python" if command.startswith("python") else "cmd: 'x")
    assert len(detail) < 200
    assert detail.isprintable()


def test_of_many_flaws_the_first_are_named_and_the_rest_counted(lock, tmp_path):
    lock["check"]["params"] = {"params.yaml": {f"key{n}": n for n in range(1000)}}
    (detail,) = differing(lock, tmp_path).values()
    assert " and 996 more: not what dvc.lock says" in detail
    assert len(detail) < 400


def test_values_are_the_same_if_their_types_are_too():
    assert same({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]})
    for one, other in ((1, 1.0), (1, True), ([1], [1, 2]), ({"a": 1}, {"b": 1}), ("1", 1)):
        assert not same(one, other)
    assert not same(float("nan"), float("nan"))
