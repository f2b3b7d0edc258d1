"""What git tracks cannot lead DVC out of the repository: links, other pipelines, a cache."""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT
from locked import md5, write
from repository import Repository, small_repository

from patchscale.verify.foreign import staying

ADDED = "outs:\n- {path}\n  md5: {md5}\n  size: 1\n  hash: md5\n"


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=root, check=True)


def found(root: Path) -> list[tuple[str, str]]:
    """Add all to git; return what is said of each file that may not be there."""
    git(root, "init", "-q")
    git(root, "add", "-f", ".")
    *rows, last = staying(root)
    assert (last.verdict, last.what.partition(" ")[2]) == ("reproduced", "tracked files")
    assert {row.verdict for row in rows} <= {"differs"}
    return [(row.what.removeprefix("tracked file "), row.detail) for row in rows]


def test_what_this_repository_tracks_may_be_there() -> None:
    assert [row.verdict for row in staying(ROOT)] == ["reproduced"]


@pytest.mark.parametrize("target", ["/outside", "../outside", "README.md"])
@pytest.mark.parametrize("name", ["plots/headline", "data/raw/gspc", "inputs/bars.csv"])
def test_a_link_is_refused_wherever_it_leads(tmp_path: Path, name: str, target: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).symlink_to(target)
    assert found(tmp_path) == [(name, "a link; remove it")]


@pytest.mark.parametrize(
    "name",
    [
        ".dvc/cache/files/md5/00/1.dir",
        ".dvc/cache/00/1.dir",
        ".dvc/config.local",
        ".dvc/tmp/rwlock",
        ".DVC/cache/x",
        "inputs/.dvc/config",
        ".dvc/plots/../config",
        ".dvc/plots/x.py",
    ],
)
def test_of_the_folder_of_dvc_only_configuration_and_templates_may_be_there(
    tmp_path: Path, name: str
) -> None:
    for each in (".dvc/config", ".dvc/.gitignore", ".dvc/plots/curves.json", name):
        write(tmp_path / each, b"x")
    wrong = [] if ".." in name else [(name, "it belongs to one copy of a repository; remove it")]
    assert found(tmp_path) == wrong


@pytest.mark.parametrize("name", ["inputs/sub/dvc.yaml", "inputs/dvc.lock", "x/DVC.YAML"])
def test_a_second_pipeline_is_refused(tmp_path: Path, name: str) -> None:
    for each in ("dvc.yaml", "dvc.lock", name):
        write(tmp_path / each, b"stages: {}")
    assert found(tmp_path) == [(name, "another pipeline, which DVC would run; remove it")]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (ADDED.format(path="path: my.csv", md5="a" * 32), ""),
        (ADDED.format(path="path: my", md5="a" * 32 + ".dir"), ""),
        (ADDED.format(path="path: my", md5="a" * 32).replace("  hash: md5\n", ""), "outs.0.hash"),
        (ADDED.format(path="path: ../../x", md5="a" * 32), "outs.0.path"),
        (ADDED.format(path="path: /x", md5="a" * 32), "outs.0.path"),
        (ADDED.format(path="path: x", md5="../x"), "outs.0.md5"),
        (ADDED.format(path="path: x", md5="a" * 32) + "wdir: ../..\n", "wdir: unknown key"),
        (ADDED.format(path="path: x", md5="a" * 32) + "cmd: touch x\n", "cmd: unknown key"),
        (ADDED.format(path="path: x", md5="a" * 32) + "deps: []\n", "deps: unknown key"),
        ("outs: []\n", "outs"),
        ("- x\n", "the whole file"),
        ("[" * 1000, "nested"),
    ],
)
def test_a_file_of_dvc_add_names_objects_of_the_present_layout_beside_it(
    tmp_path: Path, text: str, wrong: str
) -> None:
    write(tmp_path / "inputs/my.csv.dvc", text.encode())
    rows = found(tmp_path)
    assert bool(rows) is bool(wrong)
    for name, detail in rows:
        assert name == "inputs/my.csv.dvc"
        assert detail.startswith("not what `dvc add` writes (")
        assert wrong in detail


def test_a_repository_within_this_one_is_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    repo = Repository(inner)
    repo.do("git", "init", "-q")
    write(inner / "dvc.yaml", b"stages: {}")
    repo.commit("inner")
    assert found(tmp_path) == [("inner", "a repository within this one; remove it")]


def test_a_name_that_is_no_text_is_shown_printable(tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs/\udcff\x1b[2J.dvc").write_text("x")
    ((name, _),) = found(tmp_path)
    assert name == "inputs/??[2J.dvc"


@pytest.mark.slow
def test_dvc_writes_outside_through_an_older_layout_that_is_refused_before(tmp_path: Path) -> None:
    repo = small_repository(tmp_path / "study", "")
    content = b"print('ran')"
    listing = json.dumps([{"md5": md5(content), "relpath": "../../../outside"}]).encode()
    name = md5(listing)
    write(repo.path / "published" / md5(content)[:2] / md5(content)[2:], content)
    write(repo.path / "published" / name[:2] / f"{name[2:]}.dir", listing)
    write(
        repo.path / "inputs/y.dvc",
        f"outs:\n- md5: {name}.dir\n  size: 12\n  nfiles: 1\n  path: y\n".encode(),
    )
    repo.commit("older layout")
    assert [row.verdict for row in staying(repo.path)] == ["differs", "reproduced"]
    repo.call("dvc", "pull")
    assert (tmp_path / "outside").exists()  # else this rule is not needed any more
