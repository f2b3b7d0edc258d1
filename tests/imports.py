"""What a file of the project imports from the library, read from its text."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "src/patchscale"


def imported(file: Path) -> Iterator[Path]:
    """Yield every module of the library that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "patchscale":
                yield module_file(parts[1:])


def module_file(parts: list[str]) -> Path:
    """Return the file of a module, or of the module that holds the name at the end."""
    for end in range(len(parts), 0, -1):
        file = LIBRARY.joinpath(*parts[:end]).with_suffix(".py")
        if file.is_file():
            return file
    raise AssertionError(f"patchscale.{'.'.join(parts)} is no module of the library")


def imported_by(file: Path) -> set[Path]:
    """Return every module of the library that a file imports, directly or not."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        for module in imported(waiting.pop()):
            if module not in found:
                found.add(module)
                waiting.append(module)
    return found
