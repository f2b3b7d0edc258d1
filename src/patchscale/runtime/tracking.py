"""Follow a training run from outside: DVCLive always, MLflow and Weights & Biases by setting.

A tracker only looks on. Whatever it raises becomes one line, switches it off for the rest of the
run and leaves the training alone; none of them touches the repository or a random generator.
"""

import os
import shutil
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Values = Mapping[str, float]

EXPERIMENT = "patchscale"
KEY_TAG = "patchscale.key"
PATIENCE_S = 60
PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Run:
    """One replicate of a cell: what it is a function of, and who follows it."""

    cell: str
    seed: int
    fingerprint: str
    facts: Mapping[str, Any]
    """Settings, versions and hashes, shown as parameters; nested keys are joined by dots."""
    mlflow: str = ""
    """MLflow tracking URI, such as `sqlite:///mlflow.db`; off where empty."""
    wandb: str = ""
    """Weights & Biases project; off where empty."""

    @property
    def name(self) -> str:
        """What people call the run."""
        return f"{self.cell}-seed{self.seed}"

    @property
    def key(self) -> str:
        """What a resumed run is found by: equal for equal settings, data, code and seed."""
        return f"{self.name}-{self.fingerprint}"

    def params(self) -> dict[str, Any]:
        """Return identity and facts as scalars under dotted names."""
        identity = {"cell": self.cell, "seed": self.seed, "fingerprint": self.fingerprint}
        return {**identity, **_flat(self.facts)}


def trackers() -> dict[str, str]:
    """Return what the environment says of trackers: an MLflow URI and a W&B project, empty if off.

    They are of a machine, not of the study: no result depends on them.
    """
    return {name: os.environ.get(f"PATCHSCALE_{name.upper()}", "") for name in ("mlflow", "wandb")}


class Tracker(Protocol):
    """What follows a run; every call may raise."""

    def log(self, step: int, values: Values) -> None:
        """Take the values of epoch `step`, from 1; epochs it already has change nothing."""

    def end(self, done: bool) -> None:
        """Close the run; `done` tells whether the training came to its end."""


@contextmanager
def tracking(
    directory: Path, run: Run, past: list[dict[str, float]], report: Callable[[str], None]
) -> Iterator[Callable[[Values], None]]:
    """Yield the function that logs one epoch's values with every tracker of `run`.

    Parameters
    ----------
    directory
        DVCLive's own; deleted and written anew from `past`.
    run
        The replicate.
    past
        Values of the epochs done before an interruption, oldest first. Trackers get those they
        lack, so that curves have neither gap nor double step wherever the process was killed.
    report
        Receives one line for each tracker that fails.
    """
    kinds: dict[str, Callable[[], Tracker]] = {"DVCLive": lambda: DVCLive(directory, run)}
    if run.mlflow:
        kinds["MLflow"] = lambda: MLflow(run)
    if run.wandb:
        kinds["W&B"] = lambda: WandB(run)
    trackers: dict[str, Tracker] = {}
    epochs = 0

    def attempt(name: str, call: Callable[..., None], *words: Any) -> None:
        try:
            call(*words)
        except Exception as error:
            trackers.pop(name, None)
            line = f"{name} is off for this run: {type(error).__name__}: {error}"
            report(textwrap.shorten(line, 240, placeholder=" ..."))

    def start(name: str) -> None:
        trackers[name] = kinds[name]()

    def log(values: Values) -> None:
        nonlocal epochs
        epochs += 1
        for name, tracker in list(trackers.items()):
            attempt(name, tracker.log, epochs, values)

    for name in kinds:
        attempt(name, start, name)
    for values in past:
        log(values)
    done = False
    try:
        yield log
        done = True
    finally:
        for name, tracker in list(trackers.items()):
            attempt(name, tracker.end, done)


class DVCLive:
    """Curves as files that `dvc plots` and the editors' extensions read."""

    def __init__(self, directory: Path, run: Run) -> None:
        from dvclive.live import Live  # 2 s

        class Files(Live):
            """Without repository and Studio.

            Live would make a DVC repository of a Git one, stage files and post to the network.
            """

            def _init_dvc(self) -> None:
                pass

            def _init_studio(self) -> None:
                pass

        if directory.exists():
            shutil.rmtree(directory)
        self._live = Files(str(directory), dvcyaml=None, save_dvc_exp=False)
        self._live.log_params(run.params())

    def log(self, step: int, values: Values) -> None:
        """Append to the curves and rewrite the summary.

        `Live.next_step` and `Live.end` also write and delete a file that runs side by side share.
        """
        self._live.step = step
        for name, value in values.items():
            self._live.log_metric(name, value)
        self._live.make_summary()  # type: ignore[no-untyped-call]

    def end(self, done: bool) -> None:
        """Do nothing: every epoch is on disk."""


class MLflow:
    """A run in an MLflow store, found again by its key; telemetry is off."""

    def __init__(self, run: Run) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # 7 are four minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        from mlflow import MlflowClient  # 4 s
        from mlflow.entities import Metric, Param

        self._metric = Metric
        with _one_at_a_time(run.mlflow):
            self._client = MlflowClient(run.mlflow)
            self._id = self._find_or_create(run)
        found = self._client.get_run(self._id).data
        self._logged = {
            (name, point.step)
            for name in found.metrics
            for point in self._client.get_metric_history(self._id, name)
        }
        params = [  # MLflow refuses a changed one: another machine may have finished the run
            Param(name, str(value))
            for name, value in run.params().items()
            if name not in found.params
        ]
        self._client.log_batch(self._id, params=params)

    def _find_or_create(self, run: Run) -> str:
        home = self._experiment()
        found = self._client.search_runs([home], f"tags.`{KEY_TAG}` = '{run.key}'", max_results=1)
        if found:
            known: str = found[0].info.run_id
            self._client.update_run(known, status="RUNNING")
            return known
        tags = {KEY_TAG: run.key, "cell": run.cell, "seed": str(run.seed)}
        new: str = self._client.create_run(home, run_name=run.name, tags=tags).info.run_id
        return new

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            try:
                return self._client.create_experiment(EXPERIMENT)
            except MlflowException:
                found = self._client.get_experiment_by_name(EXPERIMENT)
                if found is None:  # not even by a run beside this one
                    raise
        return str(found.experiment_id)

    def log(self, step: int, values: Values) -> None:
        """Add the points that the store lacks."""
        now = int(time.time() * 1000)
        points = [
            self._metric(name, value, now, step)
            for name, value in values.items()
            if (name, step) not in self._logged
        ]
        if points:
            self._client.log_batch(self._id, metrics=points)

    def end(self, done: bool) -> None:
        """Set the run's status."""
        self._client.set_terminated(self._id, "FINISHED" if done else "KILLED")


class WandB:
    """A run of Weights & Biases, whose id is the key.

    Online, the server says which steps it has. Offline (`WANDB_MODE=offline`) nothing is known of
    earlier processes: each writes its own `wandb/offline-run-<time>-<key>` with the whole curve,
    and `wandb sync` lets the latest one it is given replace the others
    (https://github.com/wandb/wandb/issues/3841).
    """

    def __init__(self, run: Run) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # 1 s

        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            x_disable_stats=True,
            init_timeout=PATIENCE_S,
            finish_timeout=PATIENCE_S,
        )
        online = wandb.setup(settings).settings.mode == "online"
        if online and not wandb.login(prompt=False):
            raise PermissionError(
                "no API key; `wandb login` sets one, WANDB_MODE=offline needs none"
            )
        self._run = wandb.init(
            project=run.wandb,
            id=run.key,
            name=run.name,
            group=run.cell,
            config=run.params(),
            resume="allow",
            reinit="create_new",
            allow_val_change=True,
            settings=settings,
        )
        self._next = self._run.step

    def log(self, step: int, values: Values) -> None:
        """Send the values of an epoch that the server lacks; it ignores steps that go back."""
        if step >= self._next:
            self._run.log(dict(values), step=step, commit=True)

    def end(self, done: bool) -> None:
        """Finish the run; what cannot be sent in time stays on disk for `wandb sync`."""
        self._run.finish(exit_code=0 if done else 1)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            plain = type(value) in PLAIN  # a subclass, such as NumPy's, is no YAML scalar
            flat[f"{prefix}{name}"] = value if plain else str(value)
    return flat


def _one_at_a_time(uri: str) -> AbstractContextManager[Any]:
    """Return the lock under which runs side by side open an SQLite store.

    MLflow makes the tables of a new store without one; a server has made its own.
    """
    from filelock import FileLock

    path = uri.removeprefix("sqlite:///")
    return nullcontext() if path == uri else FileLock(f"{path}.lock", timeout=PATIENCE_S)
