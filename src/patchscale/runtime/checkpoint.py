"""Keep what a training run needs to go on, atomically; weights without pickle.

A run's directory holds `state.json`, the safetensors file it names with its SHA-256 (all tensors
of the moment) and another one with the best epoch's weights. Tensors are written first, under a
new name; renaming `state.json` is the moment that counts.
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

from patchscale.study.files import digest, replacing, write_json


def _hash(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def fingerprint(settings: Mapping[str, Any], inputs: list[Path]) -> str:
    """Return what a run is a function of: settings and the bytes of its inputs and its code."""
    text = json.dumps([settings, [digest(path) for path in inputs]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def resume_path(name: str) -> Path:
    """Return where a run keeps its state: outside DVC's outputs, which DVC deletes first."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".resume" / name


@dataclass(frozen=True)
class Checkpoint:
    """The directory of one run."""

    path: Path

    def save(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Make this the state the run goes on from."""
        name = f"state-{facts['step']}-{len(facts['history'])}"
        facts = facts | {"state": self._write(name, tensors)}
        self.note(facts)
        wanted = {facts[key]["file"] for key in ("state", "best") if facts.get(key)}
        killed = self.path.glob(".*")  # what a killed run left half written, or safetensors for it
        for file in [*self.path.glob("*.safetensors"), *killed]:
            if file.name not in wanted:
                file.unlink()

    def note(self, facts: dict[str, Any]) -> None:
        """Make these the facts the run goes on from; what they name is written by now."""
        write_json(self.path / "state.json", facts | {"sha256": _hash(facts)})

    def save_best(self, epoch: int, weights: Mapping[str, Tensor]) -> dict[str, str]:
        """Write the best weights so far; the entry goes into the next state as `best`."""
        return self._write(f"best-{epoch}", weights)

    def load(
        self,
        device: str,
        report: Callable[[str], None],
        like: Callable[[], dict[str, Tensor]] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and facts, or None; what is damaged is named and ignored.

        `like` gives tensors that a state in several parts is read into.
        """
        state = self.path / "state.json"
        if not state.exists():
            return None
        try:
            facts = json.loads(state.read_text(encoding="utf-8"))
            if facts.pop("sha256") != _hash(facts):
                raise ValueError("it has another hash")
            tensors = self.read_state(facts["state"], device, like)
            if facts.get("best"):
                self._check(facts["best"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            report(f"{state}: damaged ({' '.join(str(error).split())}); ignored, from the start")
            return None
        return tensors, facts

    def read_state(
        self,
        entry: Mapping[str, str],
        device: str,
        like: Callable[[], dict[str, Tensor]] | None,
    ) -> dict[str, Tensor]:
        """Return the tensors of a state; raise where they are damaged."""
        return self._read(entry, device)

    def best(self) -> dict[str, Tensor]:
        """Return the best weights of a run that has finished an epoch."""
        facts = json.loads((self.path / "state.json").read_text(encoding="utf-8"))
        return self._read(facts["best"], "cpu")

    def discard(self) -> None:
        """Forget the run."""
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
