"""Commands, dependencies, parameters and outputs come from dvc.yaml."""

import pytest
from conftest import ROOT
from locked import small_study, write

from patchscale.study.errors import InputError
from patchscale.verify.pipeline import declared_stages, look_up
from patchscale.verify.strict_lock import read_as_dvc


def change(root, old, new, file="dvc.yaml"):
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new, 1))


def test_stages_are_declared_as_dvc_resolves_them(tmp_path):
    stages = declared_stages(small_study(tmp_path))
    assert list(stages) == ["check", "train@2M-h1", "train@2M-h3"]
    stage = stages["train@2M-h1"]
    assert (stage.command, stage.script) == ("python stages/train.py", "stages/train.py")
    assert stage.words == ["2M-h1"]
    assert stage.deps == ("data/checked", "src/code", "stages/train.py")
    assert stage.outs == ("data/2M-h1.csv", "models/2M-h1", "metrics/2M-h1.json")
    assert stage.params == {"params.yaml": {"split": {"block": 60, "share": 1.0}}}


def test_a_stages_script_is_named_by_its_word():
    stages = declared_stages(ROOT)
    assert len(stages) == len(read_as_dvc(ROOT / "dvc.lock")["stages"])
    for name, stage in stages.items():
        kind, _, word = name.partition("@")
        assert stage.command == f"python stages/{kind}.py"
        assert stage.words == ([word] if word else [])


@pytest.mark.parametrize(
    "command",
    [
        "python data/checked",
        "python stages/../data/checked",
        "python stages/train.py; touch x",
        "python stages/train.py $(touch x)",
        "python -c 'print()'",
        "python stages/train.py ../x",
        "python stages/train.py 2M-h1",
        "sh stages/train.py",
        "[python stages/train.py, touch x]",
    ],
)
def test_a_command_that_is_not_a_stage_is_refused(tmp_path, command):
    change(small_study(tmp_path), "python stages/check.py", command)
    with pytest.raises(InputError, match=r"dvc\.yaml: stages\.check\.cmd: .* is not allowed; "):
        declared_stages(tmp_path)


def test_a_script_that_git_does_not_track_is_refused(tmp_path):
    write(small_study(tmp_path) / "stages/other.py", b"def main(): ...")
    change(tmp_path, "python stages/check.py", "python stages/other.py")
    with pytest.raises(InputError, match=r"stages/other\.py is not a file that git tracks"):
        declared_stages(tmp_path)


def test_a_script_that_is_a_link_is_refused(tmp_path):
    script = small_study(tmp_path) / "stages/check.py"
    script.unlink()
    script.symlink_to("../data/checked")
    with pytest.raises(InputError, match=r"stages/check\.py is not a file that git tracks"):
        declared_stages(tmp_path)


@pytest.mark.parametrize("path", ["../outside", "/outside", "data/../../outside"])
@pytest.mark.parametrize("declared", ["- data/checked", "- src/code"])
def test_a_path_that_leads_out_of_the_repository_is_refused(tmp_path, path, declared):
    change(small_study(tmp_path), declared, f"- {path}")
    with pytest.raises(InputError, match=r"dvc\.yaml: .*outside"):
        declared_stages(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("dvc.yaml", b"stages: [" * 50_000),
        ("grid.yaml", b"cells: " + b"[" * 100_000),
        ("params.yaml", b"- " * 100_000),
        ("dvc.yaml", b"\xff"),
        ("dvc.yaml", b"stages: 3\n"),
        ("dvc.yaml", b"stages:\n  a:\n    foreach: ${cells}\n    do: 3\n"),
        ("grid.yaml", b"- 3\n"),
        ("grid.yaml", b"cells: 3\n"),
        ("params.yaml", b"split\n"),
        ("params.yaml", b"block: 60\n"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, file, content):
    write(small_study(tmp_path) / file, content)
    with pytest.raises(InputError) as raised:
        declared_stages(tmp_path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_folder_without_git_is_refused(tmp_path):
    (small_study(tmp_path) / ".git/HEAD").unlink()
    with pytest.raises(InputError, match="git ls-files: "):
        declared_stages(tmp_path)


def test_a_key_with_dots_is_looked_up_and_a_missing_one_is_refused():
    params = {"a": {"b": {"c": 0}}}
    assert look_up(params, "a.b", "params.yaml") == {"c": 0}
    assert look_up(params, "a.b.c", "params.yaml") == 0
    for key in ("a.x", "a.b.c.d"):
        with pytest.raises(InputError, match=f"params.yaml: {key}: missing"):
            look_up(params, key, "params.yaml")
