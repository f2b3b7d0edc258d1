"""Imports of the library run in one direction, from the upper floors to the lower ones."""

import ast
from pathlib import Path

from imports import LIBRARY, imported

FLOORS = (
    {"study"},
    {"bars", "model", "features", "split", "backtest"},
    {"verdict"},
    {"check", "download", "train", "report", "baselines"},
    {"runtime", "verify", "importing", "forecast"},
    {"hpo", "fanout", "hub"},
    {"workspace"},
    {"cli", "api"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = [file for file in sorted(LIBRARY.rglob("*.py")) if file.name != "__init__.py"]


def room_of(file: Path) -> str:
    """Return the package of a module, or its own name where it is in none."""
    return file.relative_to(LIBRARY).parts[0].removesuffix(".py")


def test_every_room_has_a_floor() -> None:
    assert {room_of(file) for file in MODULES} == set(FLOOR)


def test_a_room_imports_itself_and_lower_floors_only() -> None:
    wrong = [
        f"{file.relative_to(LIBRARY)} imports {module.relative_to(LIBRARY)}"
        for file in MODULES
        for module in imported(file)
        if room_of(module) != room_of(file) and FLOOR[room_of(module)] >= FLOOR[room_of(file)]
    ]
    assert wrong == []


def test_modules_of_a_room_import_each_other_in_one_direction() -> None:
    for file in MODULES:
        beside = {module for module in imported(file) if room_of(module) == room_of(file)}
        assert not [module for module in beside if file in set(imported(module))], file


def test_the_face_of_a_package_is_its_docstring() -> None:
    for face in LIBRARY.rglob("__init__.py"):
        (docstring,) = ast.parse(face.read_text(encoding="utf-8")).body
        assert isinstance(docstring, ast.Expr), face
