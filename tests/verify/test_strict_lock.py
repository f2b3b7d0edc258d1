"""dvc.lock is read strictly; what is damaged is one line, however it is damaged."""

from pathlib import Path

import pytest
from locked import lock_of, small_study, write, write_lock

from patchscale.study.errors import InputError
from patchscale.verify.strict_lock import inside, read_as_dvc, shortened, strict_stages

LAUGHS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        strict_stages(path)
    line = str(raised.value)
    assert "\n" not in line
    assert len(line) < 400
    return line


def test_the_stages_of_a_lock_are_read(tmp_path):
    lock = lock_of(small_study(tmp_path))
    assert strict_stages(write_lock(tmp_path, lock)) == lock


def test_a_missing_lock_is_refused_in_one_line(tmp_path):
    assert "dvc.lock: missing; `git checkout" in refusal(tmp_path / "dvc.lock")


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"stages: [unclosed",
        b"schema: '2.0'\n",
        b"just text",
        b"<<<<<<< HEAD\n",
        b"schema: '2.0'\nstages:\n",
        b"schema: '2.0'\nstages: []\n",
        b"schema: '2.0'\nstages: {}\nstages: {}\n",
        b"schema: '1.0'\nstages: {}\n",
        b"schema: '2.0'\nstages: {}\nmore: 1\n",
        b"\xff\xfe\xfa",
        b"schema: '2.0'\nstages: 2001-99-99\n",
        b"stages: " + b"[" * 100_000,
        b"stages: " + b"{a: " * 100_000,
        b"stages:\n" + b"- " * 100_000,
        b"stages: &a [*a]\n",
        b"a0: &a0 [x, x]\n" + LAUGHS.encode(),
    ],
    ids=lambda content: content[:24].decode(errors="replace"),
)
def test_a_damaged_lock_is_refused_in_one_line(tmp_path, damaged):
    assert "dvc.lock: " in refusal(write(tmp_path / "dvc.lock", damaged))


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("outs", "path", "../outside"),
        ("outs", "path", "/etc/passwd"),
        ("outs", "path", "data/../../outside"),
        ("outs", "path", r"..\outside"),
        ("outs", "path", "C:outside"),
        ("outs", "path", 7),
        ("outs", "md5", "../../../outside"),
        ("outs", "md5", "0" * 31),
        ("outs", "md5", "0" * 32 + "\n"),
        ("deps", "md5", ["0" * 32]),
        ("deps", "hash", "sha256"),
        ("deps", "size", -1),
        ("deps", "size", True),
        ("deps", "size", 1.5),
        ("deps", "size", float("nan")),
        ("deps", "unknown", 1),
    ],
)
def test_an_entry_of_another_form_is_refused_with_its_key(tmp_path, part, key, value):
    lock = lock_of(small_study(tmp_path))
    lock["train@2M-h1"][part][0][key] = value
    assert f"train@2M-h1.{part}.0.{key}" in refusal(write_lock(tmp_path, lock))


@pytest.mark.parametrize("part", ["cmd", "deps", "params", "outs"])
@pytest.mark.parametrize("value", [None, 3, [["x"]], {"x": 1}, "x" * 500])
def test_a_part_of_another_type_is_refused_in_one_line(tmp_path, part, value):
    lock = lock_of(small_study(tmp_path))
    lock["check"][part] = value
    path = write_lock(tmp_path, lock)
    if part == "cmd" and isinstance(value, str):
        assert strict_stages(path)["check"]["cmd"] == value
    else:
        assert "stages.check" in refusal(path)


def test_a_file_is_read_as_dvc_reads_it(tmp_path):
    path = write(tmp_path / "params.yaml", b"a: 1e-05\nb: no\n")  # YAML 1.2, not 1.1
    assert read_as_dvc(path) == {"a": 1e-05, "b": "no"}
    with pytest.raises(InputError, match="line 1: 010 is read in two ways"):
        read_as_dvc(write(path, b"b: 010\n"))


def test_a_path_inside_its_folder_is_one_without_detours():
    assert inside("data/a b/é.csv") == "data/a b/é.csv"
    for path in ("", ".", "..", "./a", "a/", "a//b", "a/./b", "/a", "a\0b", r"a\..\b"):
        with pytest.raises(ValueError, match="relative path"):
            inside(path)


def test_a_foreign_text_is_shown_short_and_without_line_breaks():
    assert shortened("a\n\x1b[31mb" + "x" * 100, 10) == "a ?[31m..."
