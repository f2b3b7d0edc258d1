"""The command `verify`: what it refuses before it begins, and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from locked import md5, track, write, write_lock

from patchscale.study.errors import InputError
from patchscale.verify.__main__ import main, refuse_another_library


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--level", "retrain"), "--cell and --level retrain need each other"),
        (("--cell", "2M-h1"), "--cell and --level retrain need each other"),
        (("--level", "retrain", "--cell", "2B-h5"), "not a trained cell; allowed: 20K-h1, 20K-h2"),
    ],
)
def test_a_cell_is_trained_again_only_on_its_own_level(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=said):
        main(*words)


def test_a_listing_that_leads_out_of_its_folder_ends_the_first_level_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lock(tmp_path, {})
    track(tmp_path)
    main("--level", "published")
    assert capsys.readouterr().out.startswith("verify: 2 reproduced, 0 within tolerance, 0 differs")
    listing = json.dumps([{"md5": "0" * 32, "relpath": "../../src/patchscale/bars.py"}]).encode()
    name = f"{md5(listing)}.dir"
    write(tmp_path / "published/files/md5" / name[:2] / name[2:], listing)
    with pytest.raises(SystemExit) as ended:
        main("--level", "published")
    assert ended.value.code == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("differs           published object published/files/md5/")
    assert last.startswith("verify: 2 reproduced, 0 within tolerance, 1 differs")


def test_a_damaged_lock_is_refused_before_anything_is_read_or_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "dvc.lock", b"stages: " + b"[" * 100_000)
    for level in ("published", "records", "recompute"):
        with pytest.raises(InputError, match=r"dvc\.lock: line 1: nested more than 20"):
            main("--level", level)


def test_the_library_must_be_that_of_the_repository(tmp_path: Path) -> None:
    refuse_another_library(ROOT)
    with pytest.raises(InputError, match=r"not the code of .*src/patchscale"):
        refuse_another_library(tmp_path)
    write(tmp_path / "src/patchscale/bars.py", b"other code")
    with pytest.raises(InputError, match=r"not the code of .*src/patchscale"):
        refuse_another_library(tmp_path)
