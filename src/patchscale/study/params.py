"""Typed parameters of a study: params.yaml, grid.yaml and space.yaml.

Loading refuses unknown keys and wrong types. `patchscale.check` checks rules between keys.
"""

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import read_bytes

Precision = Literal["32-true", "bf16-mixed", "bf16-true"]
"""Float32, bfloat16 autocast, or bfloat16 for weights and optimiser moments as well."""


def _real_day(text: str) -> str:
    date.fromisoformat(text)
    return text


def _different(values: list[int]) -> list[int]:
    if len(set(values)) < len(values):
        raise ValueError("a value occurs twice")
    return values


def _ordered(ends: list[float]) -> list[float]:
    if ends[0] >= ends[1]:
        raise ValueError("low must be below high")
    return ends


Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$"), AfterValidator(_real_day)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Symbol = Annotated[str, Field(pattern=r"^\^?[A-Za-z0-9][A-Za-z0-9.=_-]*$")]
Positive = Annotated[int, Field(gt=0)]
Cost = Annotated[float, Field(ge=0, lt=10_000)]
Share = Annotated[float, Field(ge=0, lt=1)]
Choices = Annotated[list[Positive], Field(min_length=1), AfterValidator(_different)]
Range = Annotated[list[Share], Field(min_length=2, max_length=2), AfterValidator(_ordered)]


class Section(BaseModel):
    """Base of all sections: unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Loaded = TypeVar("Loaded", bound=Section)


class Dataset(Section):
    """A data set: the source of its bars, its exchange, its period and its subsets."""

    source: Literal["arch", "yahoo", "csv"]
    series: Symbol
    path: str = ""
    volatility: Symbol | Literal[""] = ""
    volatility_path: str = ""
    calendar: str
    start: Day
    end: Day
    validation_from: Day
    test_from: Day
    exceptions: dict[Day, Annotated[str, Field(min_length=1)]] = {}
    """Days that the data checks let pass, each with its reason."""

    @property
    def all_series(self) -> list[str]:
        """Names of the price series and, if there is one, of the volatility index."""
        return [self.series, self.volatility] if self.volatility else [self.series]


class Features(Section):
    """The feature tier that the models read, and all tiers that are computed."""

    tier: str
    tiers: list[str]


class Target(Section):
    """Definition of the label: the price that must be touched."""

    side: Literal["up", "down"]
    reference: Literal["extreme", "close"]
    theta: Annotated[float, Field(gt=0, lt=1)]


class Scattered(Section):
    """Validation blocks of the search: their share of the dates, sessions each, and seed."""

    fraction: Annotated[float, Field(gt=0, lt=1)]
    block: Positive
    seed: Annotated[int, Field(ge=0)]


class Split(Section):
    """Rules for dividing prediction dates, and the smallest subsets allowed."""

    longest_context: Positive
    embargo: Annotated[int, Field(ge=0)]
    min_samples: Positive
    min_class: Positive
    scattered: Scattered


class Model(Section):
    """The cell that stage headline shows."""

    budget: str
    horizon: str


class Window(Section):
    """The input of all models: a window of sessions, cut into patches."""

    context_length: Positive
    patch_length: Positive
    stride: Positive
    normalisation: Literal["kind", "window", "zscore"]

    @property
    def n_patches(self) -> int:
        """Number of patches in a window."""
        return (self.context_length - self.patch_length) // self.stride + 1


class Start(Section):
    """Training settings of a budget: used directly, or by trial 0 of its searches."""

    lr: Annotated[float, Field(gt=0, lt=1)]
    dropout: Share
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_steps: Annotated[int, Field(ge=0)]


class Run(Section):
    """How the replicates of a budget are trained."""

    seeds: Positive
    processes: Positive
    """Processes or GPUs over which a replicate is sharded."""
    threads: Positive
    """Threads of a process."""
    precision: Precision


class Budget(Section):
    """A parameter budget: its size, where its settings come from, and how it is trained."""

    n_params: Positive
    settings: Literal["search", "table"]
    """`search`: the best trial of a search; `table`: `start` and the row of grid.yaml."""
    trained: bool
    start: Start
    run: Run


class Cell(Section):
    """A cell: its architecture, and the search whose result it trains with."""

    budget: str
    horizon: str
    search: str
    d_model: Positive
    n_layers: Positive
    n_heads: Positive


class Train(Section):
    """Training loop, the same for all budgets."""

    epochs: Positive
    batch_size: Positive
    patience: Positive
    min_delta: Annotated[float, Field(ge=0)]
    clip: Annotated[float, Field(gt=0)]


class Pruning(Section):
    """Percentile pruning: a trial stops if it is not among the best `percentile` % at its epoch."""

    percentile: Annotated[float, Field(ge=0, le=100)]
    startup: Annotated[int, Field(ge=0)]
    """Number of completed trials before any trial may be pruned."""
    first_epoch: Positive
    every: Positive
    """Number of epochs between two decisions."""


class Space(Section):
    """Search space: lists of choices, and ranges [low, high]."""

    d_model: Choices
    n_layers: Choices
    n_heads: Choices
    lr: Range
    weight_decay: Range
    dropout: Range
    warmup_steps: Choices


class Hpo(Section):
    """Search of every budget with `settings: search`; with 0 trials no search is made."""

    trials: Annotated[int, Field(ge=0)]
    batch: Positive
    """Number of trials drawn before the result of the first of them is used."""
    seed: Annotated[int, Field(ge=0)]
    startup: Positive
    """Number of random trials before TPE begins."""
    pruning: Pruning


class Threshold(Section):
    """Rule that chooses the decision threshold on the validation dates."""

    rule: Literal["precision", "youden"]
    min_recall: Annotated[float, Field(gt=0, le=1)]


class Backtest(Section):
    """Threshold rule, and costs per side in basis points."""

    threshold: Threshold
    cost_bps: Cost
    sensitivity_bps: list[Cost]


class Grid(Section):
    """All of grid.yaml."""

    searches: list[str]
    """Horizons with a search of their own; cells of other horizons name a search to use."""
    cells: dict[str, Cell]


class Params(Section):
    """All of params.yaml, together with the grid."""

    dataset: str
    datasets: dict[Name, Dataset]
    features: Features
    target: Target
    horizons: dict[str, Positive]
    split: Split
    window: Window
    budgets: dict[str, Budget]
    publish: list[str]
    """Budgets whose weights are published."""
    train: Train
    hpo: Hpo
    backtest: Backtest
    model: Model
    _grid: Grid = PrivateAttr()

    @property
    def data(self) -> Dataset:
        """The selected data set."""
        return self.datasets[self.dataset]

    @property
    def grid(self) -> Grid:
        """The grid of grid.yaml."""
        return self._grid

    @property
    def cells(self) -> dict[str, Cell]:
        """The cells of the grid by name."""
        return self._grid.cells

    @property
    def searches(self) -> list[str]:
        """Horizons with a search of their own."""
        return self._grid.searches

    def with_grid(self, grid: Grid) -> "Params":
        """Return these parameters with another grid."""
        params = self.model_copy()
        params._grid = grid
        return params

    def trials_of(self, budget: str) -> int:
        """Return the number of trials in each search of a budget; 0 if it is not searched."""
        return self.hpo.trials if self.budgets[budget].settings == "search" else 0


class Best(Section):
    """Result of a search: architecture and settings of its best trial."""

    cell: str
    trial: Annotated[int, Field(ge=0)]
    n_params: Positive
    d_model: Positive
    n_layers: Positive
    n_heads: Positive
    d_ff: Positive
    lr: Annotated[float, Field(gt=0, lt=1)]
    dropout: Share
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_steps: Annotated[int, Field(ge=0)]
    epochs: Positive
    score: float | None = None
    """Validation log-loss of the trial in nats; this and the next two are absent without search."""
    seed: int | None = None
    versions: dict[str, str] | None = None


def load_params(folder: Path = Path()) -> Params:
    """Read params.yaml and grid.yaml from a folder.

    Raises
    ------
    InputError
        A file is missing or damaged, a key is unknown or missing, or a value has the wrong type;
        one line that names file, key and value, and what is allowed.
    """
    return _load(folder / paths.PARAMS, Params).with_grid(_load(folder / paths.GRID, Grid))


def load_space(folder: Path = Path()) -> Space:
    """Read space.yaml from a folder; raise InputError as `load_params` does."""
    return _load(folder / paths.SPACE, Space)


def load_best(path: Path) -> Best:
    """Read the result of a search; raise InputError as `load_params` does."""
    if path.is_file():
        read_bytes(path)  # checks it against dvc.lock
    return _load(path, Best)


def _load(path: Path, section: type[Loaded]) -> Loaded:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        return section.model_validate(raw)
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        raise InputError(f"{path}: {_one_line(error, section)}") from None


def _one_line(error: ValidationError, section: type[Section]) -> str:
    problems = error.errors(include_url=False)
    first: Any = problems[0]
    key = ".".join(" ".join(str(part).split()) for part in first["loc"]) or "the whole file"
    if first["type"] == "extra_forbidden":
        line = f"{key}: unknown key; allowed: {', '.join(_siblings(first['loc'], section))}"
    elif first["type"] == "missing":
        line = f"{key}: missing"
    else:
        line = (
            f"{key}: {first['input']!r} is not allowed; {first['msg'][0].lower()}{first['msg'][1:]}"
        )
    return line + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")


def _siblings(location: tuple[int | str, ...], section: Any) -> list[str]:
    """Return the keys that are allowed where an unknown one was found."""
    for part in location[:-1]:
        field = section.model_fields.get(part)
        if field is not None:  # otherwise the key of an entry, such as 2M in budgets
            arguments = getattr(field.annotation, "__args__", ())
            section = arguments[-1] if arguments else field.annotation
    return sorted(section.model_fields)
