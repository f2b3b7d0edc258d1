"""A flipped bit in a file that a stage reads is refused in one line; it never becomes a number.

As a script, `python tests/faults/test_flipped_bits.py SECONDS` flips bits for so long and prints
what came of them.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parent.parent))  # as a script, too
from conftest import ROOT, random_bars
from forks import ended, fork

from patchscale.bars import canonical_csv, read_bars
from patchscale.runtime.checkpoint import Checkpoint
from patchscale.split.table import read_split
from patchscale.study import lock, paths
from patchscale.study.errors import InputError
from patchscale.study.files import (
    digest,
    read_json,
    read_sealed,
    write_arrow,
    write_json,
    write_sealed,
    write_text,
)
from patchscale.study.lock import dvc_md5
from patchscale.study.params import load_best, load_params
from patchscale.study.tables import read_features, read_losses, read_table

Read = Callable[[], Any]
REFUSED, SAME, OTHER = "refused", "same values", "other values"
DAYS = pd.Series(pd.bdate_range("2018-01-01", periods=200))
P = random_bars(200)["close"] / 1000
WORDS = pd.Series(["train"] * 100 + ["val"] * 50 + ["test"] * 50)


def recorded() -> dict[Path, Read]:
    """Write files that dvc.lock records; return how a stage reads each."""
    days, subset = DAYS.rename("date"), WORDS.rename("subset")
    labels = {"label": (P > 0.1).astype("int8"), "contiguous": subset, "scattered": subset}
    write_arrow(paths.features("a20"), pd.DataFrame({"date": days, "a": P, "b": P**2}))
    write_json(paths.kinds("a20"), {"a": "level", "b": "stationary"})
    write_arrow(paths.split("h1"), pd.DataFrame({"date": days, **labels}))
    write_arrow(paths.predictions("x"), pd.DataFrame({"date": days, "subset": subset, "p": P}))
    write_arrow(paths.losses("x"), pd.DataFrame({"date": days, "subset": subset, "log_loss": P}))
    write_json(paths.card("x"), {"trained": True, "n_params": 2_000_000})
    write_text(paths.raw("toy", "toy"), canonical_csv(random_bars(20)))
    best = {"cell": "2M-h1", "trial": 3, "n_params": 9, "d_model": 64, "n_layers": 2, "n_heads": 2}
    best |= {"d_ff": 64, "lr": 1e-3, "dropout": 0.1, "weight_decay": 1e-3}
    write_json(paths.best("2M-h1"), best | {"epochs": 5})  # JSON is YAML
    shutil.copy(ROOT / paths.SPACE, ".")
    params = load_params(ROOT)
    return {
        paths.features("a20"): lambda: read_features("a20", DAYS)[0],
        paths.kinds("a20"): lambda: read_features("a20", DAYS)[1],
        paths.split("h1"): lambda: read_split(paths.split("h1"), ("train", "val", "test")),
        paths.predictions("x"): lambda: read_table(
            paths.predictions("x"), ["date", "subset", "p"], more=True
        ),
        paths.losses("x"): lambda: read_losses("x", "log_loss"),
        paths.card("x"): lambda: read_json(paths.card("x"), "trained", "n_params"),
        paths.raw("toy", "toy"): lambda: read_bars(paths.raw("toy", "toy")),
        paths.best("2M-h1"): lambda: load_best(params, "2M-h1"),
    }


def states() -> dict[Path, Read]:
    """Write a checkpoint and a result of a trial; return how each is read."""
    run = Checkpoint(Path(".resume/run"))
    best = run.save_best(1, {"w": torch.arange(50.0)})
    run.save({"w": torch.arange(50.0)}, {"step": 10, "history": [{"loss": 0.1}], "best": best})
    trial = Path(".resume/hpo/trial-1.json")
    write_sealed(trial, {"params": {"lr": 0.1}, "result": {"losses": [0.7, 0.6]}})
    weights = Path("models/x/seed0.safetensors")
    weights.parent.mkdir(parents=True)
    weights.write_bytes((run.path / "best-1.safetensors").read_bytes())
    sha256 = digest(weights)

    def read_state() -> Any:
        kept = run.load("cpu", lambda line: None)
        if kept is None:
            raise InputError("reported and ignored")
        return {name: tensor.tolist() for name, tensor in kept[0].items()} | kept[1]

    def read_trial() -> Any:
        try:
            return read_sealed(trial)
        except ValueError as error:
            raise InputError(str(error).splitlines()[0]) from None

    def read_weights() -> Any:  # as stage `weights` and `verify` do
        if digest(weights) != sha256:
            raise InputError("differs from its card")
        return sha256

    files = {file: read_state for file in run.path.iterdir()}
    return {**files, trial: read_trial, weights: read_weights}


@contextmanager
def study(folder: Path, stage: str | None) -> Iterator[dict[Path, Read]]:
    """Enter a folder with files of all kinds; DVC runs a stage, or (None) a person does."""
    before = Path.cwd()
    os.chdir(folder)
    for name in ("DVC_STAGE", "DVC_ROOT"):
        os.environ.pop(name, None)
    if stage:
        os.environ |= {"DVC_STAGE": stage, "DVC_ROOT": str(folder)}
    try:
        readers = recorded()
        text = "".join(
            f"  {file}:\n    outs:\n    - path: {file}\n      md5: {dvc_md5(file)}\n"
            for file in readers
        )
        paths.LOCK.write_text(f"stages:\n{text}")
        yield readers | states()
    finally:
        os.chdir(before)
        for name in ("DVC_STAGE", "DVC_ROOT"):
            os.environ.pop(name, None)


def is_same(found: Any, good: Any) -> bool:
    return bool(found.equals(good) if isinstance(good, pd.DataFrame) else found == good)


def flip(file: Path, read: Read, rng: random.Random) -> str:
    """Return what reading a file gives with one of its bits flipped."""
    good, content = read(), file.read_bytes()
    damaged = bytearray(content)
    damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(damaged)
    try:
        return SAME if is_same(read(), good) else OTHER
    except InputError as error:
        return REFUSED if "\n" not in str(error) else "refused in several lines"
    finally:
        file.write_bytes(content)


def flips(readers: dict[Path, Read], rng: random.Random, goes_on: Callable[[], bool]) -> Counter:
    """Flip bits in turn in all files; return how often each answer came, by file."""
    found: Counter = Counter()
    while goes_on():
        for file, read in readers.items():
            found[file.as_posix(), flip(file, read, rng)] += 1
    return found


def times(number: int) -> Callable[[], bool]:
    left = iter(range(number))
    return lambda: next(left, None) is not None


def during(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


@pytest.fixture
def fresh_lock() -> Iterator[None]:
    yield
    lock._outputs.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_lock")
def test_a_flipped_bit_in_any_file_of_a_stage_gives_a_line_or_the_same_values(
    tmp_path: Path,
) -> None:
    with study(tmp_path, "train@x") as readers:
        found = flips(readers, random.Random(0), times(60))
    assert len({file for file, _ in found}) >= 13
    assert {answer for _, answer in found} == {REFUSED}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks are POSIX")
@pytest.mark.usefixtures("fresh_lock")
def test_a_flipped_bit_that_no_hash_is_asked_about_never_ends_the_process(tmp_path: Path) -> None:
    def by_hand() -> None:
        silent = Path(os.devnull).open("w")  # noqa: SIM115
        with redirect_stderr(silent), study(tmp_path, None) as readers:
            flips(readers, random.Random(0), times(60))

    assert ended(fork(by_hand)) == 0


def main(seconds: float) -> None:
    """Flip bits under DVC for half of the time, by hand for the other half; print the answers."""
    for stage in ("train@x", None):
        with (
            tempfile.TemporaryDirectory() as folder,
            Path(os.devnull).open("w") as silent,
            redirect_stderr(silent),
            study(Path(folder), stage) as readers,
        ):
            found = flips(readers, random.Random(), during(seconds / 2))
        print("under DVC" if stage else "by hand", sum(found.values()), "flips")
        for (file, answer), number in sorted(found.items()):
            print(f"  {file}: {answer} {number}")


if __name__ == "__main__":
    main(float(sys.argv[1]))
