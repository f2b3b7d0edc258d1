"""Nothing that is read can run code: no pickle, no unsafe YAML, no evaluation of text."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

MODULES = {
    "cloudpickle",
    "cPickle",
    "dill",
    "imp",
    "joblib",
    "marshal",
    "pickle",
    "runpy",
    "shelve",
}
"""Modules whose readers run code."""
CALLS = {
    "exec_module",
    "full_load",
    "import_module",
    "read_pickle",
    "run_module",
    "run_path",
    "system",
    "to_pickle",
    "unsafe_load",
    "unsafe_load_all",
}
"""Functions and methods that run what they are given, or read what runs."""
BUILTINS = {"__import__", "compile", "eval", "exec"}
SAFE_LOADERS = {"CSafeLoader", "SafeLoader", "CBaseLoader", "BaseLoader"}
ALLOWED = {
    # formulas of the catalogue, which is code of this project; no names of Python are in reach
    "src/patchscale/features/formulas.py": {"compile", "eval"},
    # a CSafeLoader that refuses keys that occur twice
    "src/patchscale/study/safe_yaml.py": {"yaml.load"},
    # scripts in stages/, by names that this module lists
    "src/patchscale/verify/remake.py": {"runpy", "run_path"},
}


def name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_true(call: ast.Call, keyword: str) -> bool:
    values = [each.value for each in call.keywords if each.arg == keyword]
    return any(isinstance(value, ast.Constant) and value.value is True for value in values)


def dangers(text: str) -> set[str]:
    """Return what in a module could run code that it reads."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").partition(".")[0]} & MODULES
            found |= {each.name for each in node.names} & CALLS
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.add("allow_pickle")
        elif isinstance(node, ast.Call):
            name = name_of(node.func)
            owner = name_of(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            builtin = isinstance(node.func, ast.Name)
            if name in CALLS or (builtin and name in BUILTINS):
                found.add(name)
            if (owner, name) == ("torch", "load") and not is_true(node, "weights_only"):
                found.add("torch.load")
            if (owner, name) in (("yaml", "load"), ("yaml", "load_all")):
                loaders = {name_of(each.value) for each in node.keywords if each.arg == "Loader"}
                loaders |= {name_of(each) for each in node.args[1:2]}
                if len(loaders) != 1 or not loaders <= SAFE_LOADERS:
                    found.add("yaml.load")
            if is_true(node, "shell"):
                found.add("shell=True")
    return found


@pytest.mark.parametrize("folder", ["src", "stages"])
def test_no_module_runs_what_it_reads(folder: str) -> None:
    files = {
        path.relative_to(ROOT).as_posix(): dangers(path.read_text(encoding="utf-8"))
        for path in (ROOT / folder).rglob("*.py")
    }
    assert len(files) > 5
    assert {file: found for file, found in files.items() if found} == {
        file: found for file, found in ALLOWED.items() if file.startswith(f"{folder}/")
    }


@pytest.mark.parametrize(
    ("text", "danger"),
    [
        ("import pickle", "pickle"),
        ("from joblib import load", "joblib"),
        ("import torch\ntorch.load(path)", "torch.load"),
        ("import torch\ntorch.load(path, weights_only=False)", "torch.load"),
        ("import yaml\nyaml.load(text)", "yaml.load"),
        ("import yaml\nyaml.load(text, yaml.Loader)", "yaml.load"),
        ("import yaml\nyaml.load(text, Loader=yaml.UnsafeLoader)", "yaml.load"),
        ("import yaml\nyaml.unsafe_load(text)", "unsafe_load"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "allow_pickle"),
        ("import pandas as pd\npd.read_pickle(path)", "read_pickle"),
        ("eval(text)", "eval"),
        ("import importlib\nimportlib.import_module(name)", "import_module"),
        ("from importlib import import_module", "import_module"),
        ("import subprocess\nsubprocess.run(text, shell=True)", "shell=True"),
    ],
)
def test_each_way_to_run_what_is_read_is_found(text: str, danger: str) -> None:
    assert danger in dangers(text)


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch.load(path, weights_only=True)",
        "import yaml\nyaml.load(text, Loader=yaml.CSafeLoader)",
        "import yaml\nyaml.safe_load(text)",
        "import re\nre.compile(text)",
        "import torch\ntorch.compile(model)",
        "model.eval()",
    ],
)
def test_what_runs_nothing_is_left_alone(text: str) -> None:
    assert dangers(text) == set()


def test_the_study_names_no_code_to_import() -> None:
    for name in ("params.yaml", "grid.yaml", "space.yaml", "dvc.lock"):
        assert "!!python" not in Path(ROOT / name).read_text(encoding="utf-8")
