"""The command `patchscale` starts fast, finds its commands, and fails with one line."""

import importlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

from patchscale.cli import __main__ as cli
from patchscale.study.errors import InputError


def patchscale(*words: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "patchscale.cli", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_help_names_every_command_and_imports_none() -> None:
    heavy = "'pandas', 'numpy', 'torch', 'dvc', 'pydantic'"
    code = (
        "import sys; from patchscale.cli.__main__ import call; call('--help');"
        f"sys.exit(any(name in sys.modules for name in ({heavy})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in cli.COMMANDS)


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert patchscale("--version").stdout == f"patchscale {project['version']}\n"
    assert patchscale("--version", "x").returncode == 2


def test_help_takes_less_than_a_third_of_a_second_of_a_core() -> None:
    def seconds() -> float:
        before = os.times()
        patchscale("--help")
        after = os.times()
        return (
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )

    assert min(seconds() for _ in range(3)) < 0.3


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_a_command_ends_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.call(name, "--help")
    assert not caught.value.code
    assert "example" in capsys.readouterr().out.strip().split("\n\n")[-1]


@pytest.mark.parametrize("words", [["nix"], ["reset", "all"], ["features", "nix"]])
def test_wrong_words_exit_with_2_and_one_line(words: list[str]) -> None:
    done = patchscale(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("patchscale")
    assert words[-1] in line


@pytest.mark.parametrize(
    "words",
    [
        ["import-csv", "https://u:secret@h/x.csv"],
        ["import-csv", "x.csv", "--volatility", "s3://u:secret@h/x"],
        ["predict", "--csv", "https://u:secret@h/x.csv"],
        ["predict", "--csv", "https:/u:secret@h/x.csv"],
        ["ask", "-S", "datasets.csv.path='https://u:secret@h/x.csv'"],
        ["ask", "--csv", "https://u:secret@h/x.csv"],
    ],
)
def test_an_address_is_refused_without_its_password(words: list[str]) -> None:
    done = patchscale(*words)
    assert done.returncode == 2
    assert "secret" not in done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert "not an address" in line


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_refuses_an_unknown_word_in_the_same_way(name: str) -> None:
    with pytest.raises(InputError) as caught:
        cli.call(name, "--nix")
    (line,) = str(caught.value).splitlines()
    assert line.endswith(f"; `patchscale {name} --help` says what is allowed")


@pytest.mark.parametrize("module", ["verify", "verify.refresh", "fanout"])
def test_what_dev_py_calls_fails_as_the_command_does(module: str) -> None:
    name = module.rpartition(".")[2]
    command = [sys.executable, "-m", f"patchscale.{module}", "--nix"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"patchscale {name}: unrecognized arguments: --nix; `patchscale {name} ")


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("verify", "verify.__main__"),
        ("fanout", "fanout.__main__"),
        ("refresh", "verify.refresh"),
    ],
)
def test_words_are_passed_to_the_module_as_they_are(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[str] = []
    found = importlib.import_module(f"patchscale.{module}")
    monkeypatch.setattr(found, "main", lambda *words: passed.extend(words))
    cli.call(name, "--some", "word")
    assert passed == ["--some", "word"]


def test_a_reader_that_stops_is_no_error() -> None:
    command = f"{sys.executable} -m patchscale.cli features | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("# Features\n", "")


def test_the_script_of_the_package_is_this_entry_point() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["patchscale"].partition(":")
    assert getattr(importlib.import_module(module), name) is cli.main


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_completion_of_the_page_knows_every_command() -> None:
    page = (ROOT / "docs/cli.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("complete ")]
    words = line.removesuffix(" patchscale").removeprefix("complete -o default ")
    command = ["bash", "-c", f"{line} && compgen {words} -- "]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(cli.COMMANDS)


def test_features_without_a_name_is_the_dictionary(capsys: pytest.CaptureFixture[str]) -> None:
    cli.call("features")
    assert capsys.readouterr().out == (ROOT / "docs/features.md").read_text()


def test_a_feature_is_said_with_its_formula_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    cli.call("features", "rsi_daily")
    text = capsys.readouterr().out
    assert text.startswith("rsi_daily: stationary")
    assert "rsi(close, 14)" in text
    assert "Wilder 1978" in text


def test_an_unknown_feature_is_refused() -> None:
    with pytest.raises(InputError, match="'nix' is no feature"):
        cli.call("features", "nix")
