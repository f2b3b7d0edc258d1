"""Checkpoints of training runs: atomic, hashed, and without pickle.

A run's directory holds `state.json` and two safetensors files that it names with their SHA-256: all
tensors of the current state, and the weights of the best epoch. Tensors are written first, under a
new name. Renaming `state.json` completes a checkpoint.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from patchscale.study.errors import InputError
from patchscale.study.files import digest, read_sealed, replacing, write_sealed

DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError)
"""Errors of reading a damaged state."""


def fingerprint(settings: Mapping[str, Any], inputs: list[Path]) -> str:
    """Return a hash of all that determines a run: settings, input files and code files."""
    text = json.dumps([settings, [digest(path) for path in inputs]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def resume_path(name: str) -> Path:
    """Return the directory of a run's state, outside the outputs that DVC deletes before a run."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".resume" / name


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


@dataclass(frozen=True)
class Checkpoint:
    """Directory of one run."""

    path: Path

    def save(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Make this the state that a resumed run continues from."""
        name = f"state-{facts['step']}-{len(facts['history'])}"
        facts = facts | {"state": self._write(name, tensors)}
        self.write_facts(facts)
        wanted = {facts[key]["file"] for key in ("state", "best") if facts.get(key)}
        unfinished = self.path.glob(".*")  # temporary files of a killed run
        for file in [*self.path.glob("*.safetensors"), *unfinished]:
            if file.name not in wanted:
                file.unlink()

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Complete a checkpoint: write its facts, after the files that they name."""
        write_sealed(self.path / "state.json", facts)

    def save_best(self, epoch: int, weights: Mapping[str, Tensor]) -> dict[str, str]:
        """Write the best weights so far; return their entry for the next state."""
        return self._write(f"best-{epoch}", weights)

    def load(
        self,
        device: str,
        report: Callable[[str], None],
        like: Callable[[], dict[str, Tensor]] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the tensors and facts of the last state, or None.

        A damaged state is reported and ignored. `like` returns tensors into which a sharded state
        is read.
        """
        state = self.path / "state.json"
        if not state.exists():
            return None
        try:
            facts = read_sealed(state)
            tensors = self.read_state(facts["state"], device, like)
            if facts.get("best"):
                self._check(facts["best"])
        except DAMAGE as error:
            report(f"{state}: damaged ({_line(error)}); the run starts anew")
            return None
        return tensors, facts

    def read_state(
        self,
        entry: Mapping[str, str],
        device: str,
        like: Callable[[], dict[str, Tensor]] | None,
    ) -> dict[str, Tensor]:
        """Return the tensors of a state; raise an error where they are damaged."""
        return self._read(entry, device)

    def best(self) -> dict[str, Tensor]:
        """Return the best weights of a run with at least one finished epoch.

        Raises
        ------
        InputError
            They are damaged.
        """
        state = self.path / "state.json"
        try:
            return self._read(read_sealed(state)["best"], "cpu")
        except DAMAGE as error:
            raise InputError(
                f"{state}: damaged ({_line(error)}); `rm -r {self.path}`, then the run starts anew"
            ) from None

    def discard(self) -> None:
        """Delete the run's directory."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _write(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
        target = self.path / f"{name}.safetensors"
        with replacing(target) as temporary:
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, temporary)
        return {"file": target.name, "sha256": digest(target)}

    def _check(self, entry: Mapping[str, str]) -> Path:
        file = self.path / Path(entry["file"]).name
        if digest(file) != entry["sha256"]:
            raise ValueError(f"{file.name} has another hash")
        return file

    def _read(self, entry: Mapping[str, str], device: str) -> dict[str, Tensor]:
        return dict(load_file(self._check(entry), device=device))
