"""Experiment trackers of a training run: DVCLive always, MLflow and Weights & Biases if configured.

A tracker cannot affect the training. If it raises an exception, one line is reported and the
tracker is off for the rest of the run. No tracker changes the repository or a random generator.
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

from patchscale.study.errors import without_secrets

Values = Mapping[str, float]
"""Values of an epoch by name."""

EXPERIMENT = "patchscale"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""MLflow then opens the experiment on its runs, not on traces of language models."""
KEY_TAG = "patchscale.key"
"""MLflow tag that contains the key of a run."""
TIMEOUT = 60
"""Seconds to wait for a lock or for the server of W&B."""
SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Run:
    """A replicate of a cell, the facts that determine its result, and its optional trackers."""

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
        """Name that trackers display."""
        return f"{self.cell}-seed{self.seed}"

    @property
    def key(self) -> str:
        """Identifier by which a resumed run is found: equal for equal settings, data and code."""
        return f"{self.name}-{self.fingerprint}"

    def params(self) -> dict[str, Any]:
        """Return the identity and the facts as scalars under dotted names."""
        identity = {"cell": self.cell, "seed": self.seed, "fingerprint": self.fingerprint}
        return {**identity, **_flat(self.facts)}


def trackers() -> dict[str, str]:
    """Return the MLflow URI and the W&B project from the environment; empty strings mean off.

    They belong to the machine, not to the study: no result depends on them.
    """
    return {name: os.environ.get(f"PATCHSCALE_{name.upper()}", "") for name in ("mlflow", "wandb")}


class Tracker(Protocol):
    """A tracker of one run; every call may raise any exception."""

    def log(self, step: int, values: Values) -> None:
        """Log the values of epoch `step`, counted from 1; an epoch logged before is ignored."""

    def end(self, done: bool) -> None:
        """Close the run; `done` is true if the training has finished."""


@contextmanager
def tracking(
    directory: Path, run: Run, past: list[dict[str, float]], report: Callable[[str], None]
) -> Iterator[Callable[[Values], None]]:
    """Yield a function that logs the values of an epoch with every tracker of `run`.

    Parameters
    ----------
    directory
        Directory of DVCLive; deleted and written anew from `past`.
    run
        The replicate.
    past
        Values of the epochs finished before an interruption, oldest first. A tracker logs those
        that it lacks, so that its curves have no gap and no double step.
    report
        Receives one line for each tracker that fails.
    """
    kinds: dict[str, Callable[[], Tracker]] = {"DVCLive": lambda: DVCLive(directory, run)}
    if run.mlflow:
        kinds["MLflow"] = lambda: MLflow(run)
    if run.wandb:
        kinds["W&B"] = lambda: WandB(run)
    running: dict[str, Tracker] = {}
    epochs = 0

    def guarded(name: str, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            running.pop(name, None)
            line = f"{name} is off for this run: {type(error).__name__}: {error}"
            report(textwrap.shorten(without_secrets(line), 240, placeholder=" ..."))

    def start(name: str) -> None:
        running[name] = kinds[name]()

    def log(values: Values) -> None:
        nonlocal epochs
        epochs += 1
        for name, tracker in list(running.items()):
            guarded(name, tracker.log, epochs, values)

    for name in kinds:
        guarded(name, start, name)
    for values in past:
        log(values)
    done = False
    try:
        yield log
        done = True
    finally:
        for name, tracker in list(running.items()):
            guarded(name, tracker.end, done)


class DVCLive:
    """Tracker that writes curves to files, which `dvc plots` and extensions of editors read."""

    def __init__(self, directory: Path, run: Run) -> None:
        from dvclive.live import Live  # 2 s

        class Files(Live):
            """DVCLive without repository and Studio.

            `Live` would turn a Git repository into one of DVC, stage files, and send requests to
            the network.
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

        `Live.next_step` and `Live.end` are not used: they write and delete a file that concurrent
        runs share.
        """
        self._live.step = step
        for name, value in values.items():
            self._live.log_metric(name, value)
        self._live.make_summary()  # type: ignore[no-untyped-call]

    def end(self, done: bool) -> None:
        """Do nothing, since every epoch is on disk."""


class MLflow:
    """Tracker that logs to a run of an MLflow store, which is found by its key; no telemetry."""

    def __init__(self, run: Run) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault(
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"
        )  # the default of 7 takes 4 min
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        from mlflow import MlflowClient  # 4 s
        from mlflow.entities import Metric, Param

        self._metric = Metric
        with _store_lock(run.mlflow):
            self._client = MlflowClient(run.mlflow)
            self._id = self._find_or_create(run)
        found = self._client.get_run(self._id).data
        self._logged = {
            (name, point.step)
            for name in found.metrics
            for point in self._client.get_metric_history(self._id, name)
        }
        params = [  # MLflow refuses changed values, as of a run resumed on another machine
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
                return self._client.create_experiment(EXPERIMENT, tags=EXPERIMENT_TAGS)
            except MlflowException:
                found = self._client.get_experiment_by_name(EXPERIMENT)
                if found is None:  # else a concurrent run has created it
                    raise
        return str(found.experiment_id)

    def log(self, step: int, values: Values) -> None:
        """Log the points that the store lacks."""
        now = int(time.time() * 1000)
        points = [
            self._metric(name, value, now, step)
            for name, value in values.items()
            if (name, step) not in self._logged
        ]
        if points:
            self._client.log_batch(self._id, metrics=points)

    def end(self, done: bool) -> None:
        """Set the status of the run."""
        self._client.set_terminated(self._id, "FINISHED" if done else "KILLED")


class WandB:
    """Tracker that logs to a run of Weights & Biases, whose id is the key of the run.

    Online, the server reports the steps that it has. Offline (`WANDB_MODE=offline`) each process
    writes the whole curve to a directory of its own, `wandb/offline-run-<time>-<key>`; with `wandb
    sync` the directory that is sent last replaces the others
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
            init_timeout=TIMEOUT,
            finish_timeout=TIMEOUT,
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
        """Send the values of an epoch that the server lacks; it ignores earlier steps."""
        if step >= self._next:
            self._run.log(dict(values), step=step, commit=True)

    def end(self, done: bool) -> None:
        """Finish the run; values that cannot be sent in time stay on disk for `wandb sync`."""
        self._run.finish(exit_code=0 if done else 1)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            is_scalar = type(value) in SCALARS  # YAML cannot write subclasses such as NumPy's
            flat[f"{prefix}{name}"] = value if is_scalar else str(value)
    return flat


def _store_lock(uri: str) -> AbstractContextManager[Any]:
    """Return the lock under which concurrent runs open an SQLite store.

    MLflow creates the tables of a new store without a lock. A server needs none.
    """
    from filelock import FileLock

    kind, _, path = uri.partition("?")[0].partition(":///")
    is_sqlite = kind.partition("+")[0] == "sqlite"
    return FileLock(f"{path}.lock", timeout=TIMEOUT) if is_sqlite else nullcontext()
