"""Typed parameters of a study: params.yaml, grid.yaml and space.yaml.

Loading refuses unknown keys and wrong types. `patchscale.check` checks rules between keys.
"""

from collections.abc import Hashable, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from patchscale.study import paths
from patchscale.study.errors import ADDRESS, InputError, shown
from patchscale.study.files import read_bytes
from patchscale.study.sections import Section, load

Precision = Literal["32-true", "bf16-mixed", "bf16-true"]
"""Float32, bfloat16 autocast, or bfloat16 for weights and optimiser moments as well."""
Value = TypeVar("Value")
Items = TypeVar("Items", bound=Sequence[Hashable])


class Table(dict[str, Value]):
    """Entries by name; the look-up of a name that does not exist is an InputError."""

    def __missing__(self, name: str) -> Value:
        raise InputError(f"{shown(name)} is unknown; allowed: {', '.join(self)}")


def _real_day(text: str) -> str:
    if not 1800 <= date.fromisoformat(text).year <= 2199:
        raise ValueError("a year from 1800 to 2199 is needed")
    return text


def _different(values: Items) -> Items:
    if len(set(values)) < len(values):
        raise ValueError("a value occurs twice")
    return values


def _no_address(text: str) -> str:
    if ADDRESS.search(text):
        raise ValueError("a file of this machine is needed, not an address")
    return text


def _forward(years: "Years") -> "Years":
    if years.first > years.last:
        raise ValueError("first must not be after last")
    return years


def _ordered(ends: list[float]) -> list[float]:
    if ends[0] >= ends[1]:
        raise ValueError("low must be below high")
    return ends


# No text of a name, symbol or day may mean something to a shell or lead to another folder.
# \d would match digits of all scripts.
Day = Annotated[str, Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), AfterValidator(_real_day)]
Name = Annotated[str, Field(pattern=f"^{paths.NAME}$")]
Pair = Annotated[str, Field(pattern=f"^{paths.NAME}-{paths.NAME}$")]
"""Name of a cell or of a search: its budget and its horizon."""
Symbol = Annotated[str, Field(pattern=f"^{paths.SYMBOL}$")]
Line = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
File = Annotated[Line, AfterValidator(_no_address)]
Number = Annotated[int, Field(gt=0, le=10_000)]
Few = Annotated[int, Field(gt=0, le=100)]
Ahead = Annotated[int, Field(gt=0, le=60)]
"""Sessions from a prediction date to the end of its label."""
Sessions = Annotated[int, Field(gt=0, le=2_000)]
Width = Annotated[int, Field(gt=0, le=65_536)]
Size = Annotated[int, Field(gt=0, le=10**13)]
Samples = Annotated[int, Field(gt=0, le=1_000_000)]
Year = Annotated[int, Field(ge=1800, le=2199)]
MOST_YEARS = 20
"""Test years: the exact test over 20 makes a million sets of years, 8 MB a table of them."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Decay = Annotated[float, Field(ge=0, le=10)]
Cost = Annotated[float, Field(ge=0, lt=10_000)]
Share = Annotated[float, Field(ge=0, lt=1)]
Names = Annotated[list[Name], AfterValidator(_different)]
Numbers = Annotated[list[Number], Field(min_length=1), AfterValidator(_different)]
Widths = Annotated[list[Width], Field(min_length=1), AfterValidator(_different)]
Range = Annotated[list[Share], Field(min_length=2, max_length=2), AfterValidator(_ordered)]
PositiveRange = Annotated[
    list[Annotated[float, Field(gt=0, lt=1000)]],
    Field(min_length=2, max_length=2),
    AfterValidator(_ordered),
]


class Years(Section):
    """First and last of consecutive years."""

    first: Year
    last: Year


class Dataset(Section):
    """A data set: the source of its bars, its exchange, its period and its subsets."""

    source: Literal["arch", "yahoo", "csv"]
    series: Symbol
    path: File = ""
    volatility: Symbol | Literal[""] = ""
    volatility_path: File = ""
    calendar: Line
    start: Day
    end: Day
    validation_from: Day
    test_from: Day
    walk: Annotated[Years, AfterValidator(_forward)] | None = None
    """Test years of a walk forward; without it no year is walked."""
    exceptions: dict[Day, Annotated[Line, Field(min_length=1)]] = Field(default={})
    """Days that the data checks let pass, each with its reason."""

    @property
    def all_series(self) -> list[str]:
        """Names of the price series and, if there is one, of the volatility index."""
        return [self.series, self.volatility] if self.volatility else [self.series]


class Features(Section):
    """The feature tier that the models read, and all tiers that are computed."""

    tier: Name
    tiers: Names


class Target(Section):
    """Definition of the label: the price that must be touched."""

    side: Literal["up", "down"]
    reference: Literal["extreme", "close"]
    theta: Rate

    @property
    def sign(self) -> int:
        """1 for a move up, -1 for a move down."""
        return 1 if self.side == "up" else -1

    @property
    def price(self) -> Literal["high", "low", "close"]:
        """Price of a bar that must touch."""
        if self.reference == "close":
            return "close"
        return "high" if self.sign > 0 else "low"


class Scattered(Section):
    """Validation blocks of the search: their share of the dates, sessions each, and seed."""

    fraction: Rate
    block: Sessions
    seed: Seed


class Split(Section):
    """Rules for dividing prediction dates, and the smallest subsets allowed."""

    longest_context: Sessions
    embargo: Annotated[int, Field(ge=0, le=2_000)]
    min_samples: Samples
    min_class: Samples
    scattered: Scattered


class Model(Section):
    """The cell that stage headline shows."""

    budget: Name
    horizon: Name


class Window(Section):
    """The input of all models: a window of sessions, cut into patches."""

    context_length: Sessions
    patch_length: Sessions
    stride: Sessions
    normalisation: Literal["kind", "window", "zscore"]

    @property
    def n_patches(self) -> int:
        """Number of patches in a window."""
        return (self.context_length - self.patch_length) // self.stride + 1


class Start(Section):
    """Training settings of a budget: used directly, or by trial 0 of its searches."""

    lr: Rate
    dropout: Share
    weight_decay: Decay
    epochs: Number
    """Length of a run; its schedule ends with it."""


class Run(Section):
    """How the replicates of a budget are trained."""

    seeds: Few
    processes: Few
    """Processes or GPUs over which a replicate is sharded."""
    threads: Few
    """Threads of a process."""
    precision: Precision


class Walked(Section):
    """How a budget is trained for the test years of a walk forward."""

    seeds: Few
    """Trainings for each horizon and test year."""
    horizons: Annotated[list[Name], AfterValidator(_different)]
    """Horizons of the study; without any, the budget is not walked."""


class Budget(Section):
    """A parameter budget: its size, where its settings come from, and how it is trained."""

    n_params: Size
    settings: Literal["search", "transfer", "table"]
    """`search`: of a search of its own; `transfer`: of the search of budget `hpo.base`, with a
    shape of the same proportions; `table`: `start` and the row of grid.yaml."""
    trained: dict[Name, bool]
    """Whether the cell of each horizon is trained."""
    start: Start
    run: Run
    walk: Walked


class Cell(Section):
    """A cell: its architecture, and the horizon whose search gives its settings."""

    budget: Name
    horizon: Name
    search: Name
    d_model: Width
    n_layers: Number
    n_heads: Number

    @property
    def to_train(self) -> str:
        """Override of `dvc exp run -S` that has this cell trained."""
        return f"budgets={{{self.budget}: {{trained: {{{self.horizon}: true}}}}}}"


class Train(Section):
    """Training loop, the same for all budgets."""

    batch_size: Samples
    warmup: Share
    """Share of a run in which its rate rises."""
    patience: Annotated[int, Field(ge=0, le=10_000)]
    """Epochs without gain that end a run, which then keeps its best epoch; 0 for neither."""
    min_delta: Annotated[float, Field(ge=0, le=100)]
    clip: Annotated[float, Field(gt=0, le=1_000_000)]


class Walk(Section):
    """Test years that are walked; without any, all of the data set."""

    years: Annotated[list[Year], AfterValidator(_different)]


class Pruning(Section):
    """Percentile pruning: a trial trains its other seeds only if its first is among the best."""

    percentile: Annotated[float, Field(ge=0, le=100)]
    startup: Annotated[int, Field(ge=0, le=10_000)]
    """Number of completed trials before any trial may be pruned."""


class Space(Section):
    """Search space: lists of choices, and ranges [low, high]."""

    d_model: Widths
    n_layers: Numbers
    n_heads: Numbers
    lr: PositiveRange
    weight_decay: PositiveRange
    dropout: Range
    epochs: Numbers

    def refusal(self, name: str, value: float) -> str:
        """Return what is allowed for a parameter that the space does not contain, else nothing."""
        allowed = getattr(self, name)
        if name in ("lr", "weight_decay", "dropout"):
            return "" if allowed[0] <= value <= allowed[1] else f"{allowed[0]} to {allowed[1]}"
        return "" if value in allowed else ", ".join(map(str, allowed))


class Hpo(Section):
    """Search of every budget with `settings: search`; with 0 trials no search is made."""

    base: Name
    """Budget whose searches give the settings of every budget with `settings: transfer`."""
    trials: Annotated[int, Field(ge=0, le=10_000)]
    batch: Number
    """Number of trials drawn before the result of the first of them is used."""
    seeds: Few
    """Trainings of a trial; its value is their mean."""
    seed: Seed
    startup: Number
    """Number of random trials before TPE begins."""
    pruning: Pruning


class Threshold(Section):
    """Rule that chooses the decision threshold on the validation dates."""

    rule: Literal["precision", "youden"]
    min_recall: Annotated[float, Field(gt=0, le=1)]


class Backtest(Section):
    """Threshold rule, costs per side in basis points, and what cash earns a year."""

    threshold: Threshold
    cost_bps: Cost
    cash_rate: Share
    sensitivity_bps: list[Cost]


class Grid(Section):
    """All of grid.yaml."""

    searches: Names
    """Horizons with a search of their own; cells of other horizons name a search to use."""
    cells: Annotated[dict[Pair, Cell], AfterValidator(Table)]


class Params(Section):
    """All of params.yaml, together with the grid."""

    dataset: Name
    datasets: Annotated[dict[Name, Dataset], AfterValidator(Table)]
    features: Features
    target: Target
    horizons: Annotated[dict[Name, Ahead], AfterValidator(Table)]
    split: Split
    window: Window
    budgets: Annotated[dict[Name, Budget], AfterValidator(Table)]
    publish: dict[Name, Few]
    """Budgets whose weights are published, with the number of seeds."""
    train: Train
    walk: Walk
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
    def trained_cells(self) -> list[str]:
        """Names of the cells that are trained."""
        rows = self.cells.items()
        return [name for name, row in rows if self.budgets[row.budget].trained[row.horizon]]

    @property
    def searches(self) -> list[str]:
        """Horizons with a search of their own."""
        return self._grid.searches

    @property
    def walk_years(self) -> list[int]:
        """The test years of a walk forward, ascending."""
        whole = self.data.walk
        every = range(whole.first, whole.last + 1) if whole else ()
        return sorted(self.walk.years or every)

    def walked(self, budget: str) -> list[str]:
        """Return the horizons at which a budget is walked, in the order of the study."""
        asked = self.budgets[budget].walk.horizons if self.walk_years else ()
        return [horizon for horizon in self.horizons if horizon in asked]

    def with_grid(self, grid: Grid) -> "Params":
        """Return these parameters with another grid."""
        params = self.model_copy()
        params._grid = grid
        return params

    def source_of(self, budget: str) -> str:
        """Return the budget whose studies give the settings of a budget: itself or `hpo.base`."""
        return self.hpo.base if self.budgets[budget].settings == "transfer" else budget

    def trials_of(self, budget: str) -> int:
        """Return the number of trials in each search of a budget; 0 if it is not searched."""
        return self.hpo.trials if self.budgets[budget].settings == "search" else 0


class Best(Section):
    """Result of a search: architecture and settings of its best trial."""

    cell: Pair
    trial: Annotated[int, Field(ge=0, le=10_000)]
    n_params: Size
    d_model: Width
    n_layers: Number
    n_heads: Number
    d_ff: Annotated[int, Field(gt=0, le=8 * 65_536)]
    lr: Rate
    dropout: Share
    weight_decay: Decay
    epochs: Number
    score: float | None = None
    """Validation log-loss of the trial in nats; absent, as the next ones, without search."""
    best_score: float | None = None
    """Lowest validation log-loss of all trials."""
    standard_error: float | None = None
    """Standard error of a trial's score, nats, from the spread of seeds pooled over trials."""
    seed: int | None = None
    versions: dict[str, str] | None = None

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "Best":
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads {self.n_heads} must divide d_model {self.d_model}")
        return self


class Chosen(Section):
    """What the cells of a budget train with, by cell."""

    cells: Annotated[dict[Pair, Best], AfterValidator(Table)]


def load_params(folder: Path = Path()) -> Params:
    """Read params.yaml and grid.yaml from a folder; raise InputError as `load` does."""
    return load(folder / paths.PARAMS, Params).with_grid(load(folder / paths.GRID, Grid))


def load_space(folder: Path = Path()) -> Space:
    """Read space.yaml from a folder; raise InputError as `load` does."""
    return load(folder / paths.SPACE, Space)


def load_best(params: Params, search: str, folder: Path = Path()) -> Best:
    """Read the result of a search, by the name of its cell.

    Raises
    ------
    InputError
        The file cannot be read (`load`), is the result of another search, or has a value that the
        search could not draw.
    """
    path = folder / paths.best(search)
    if path.is_file():
        read_bytes(path)  # checks it against dvc.lock
    best = load(path, Best)
    if best.cell != search:
        raise InputError(f"{path}: cell: {shown(best.cell)} is not allowed; {search} is needed")
    if params.trials_of(params.cells[search].budget):
        space = load_space(folder)
        for name in Space.model_fields:
            value = getattr(best, name)
            if allowed := space.refusal(name, value):
                raise InputError(
                    f"{path}: {name}: {value} is outside {paths.SPACE}; allowed: {allowed}"
                )
    return best


def load_chosen(budget: str, folder: Path = Path()) -> dict[str, Best]:
    """Read what the cells of a budget train with; raise InputError as `load` does."""
    path = folder / paths.settings(budget)
    if path.is_file():
        read_bytes(path)  # checks it against dvc.lock
    return load(path, Chosen).cells
