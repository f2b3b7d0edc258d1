"""Python interface of a study: read it, load its models, forecast, import bars.

The heavy libraries are imported when a function needs them.

    from patchscale import api
    study = api.read_study(".")
    model = api.load_model(study, "2M-h1")
    outlook = api.predict(study, csv="inputs/spy.csv", as_of="2024-12-31")
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import read_json

if TYPE_CHECKING:
    import pandas as pd

    from patchscale.forecast.outlook import Outlook
    from patchscale.importing.convert import Imported
    from patchscale.model.patchtst import PatchTST
    from patchscale.study.params import Params

__all__ = ["InputError", "Study", "import_bars", "load_model", "predict", "read_study"]


@dataclass(frozen=True)
class Study:
    """A study: its folder, its parameters, and the cards of its cells."""

    root: Path
    params: "Params"
    cards: dict[str, dict[str, Any]]
    """Card of each cell of the grid that has one; `trained` says whether there is a model."""

    def forecasts(self, cell: str) -> "pd.DataFrame":
        """Return `date, subset, p, p_seed0, ...` of the validation and test dates of a cell.

        Probabilities are from 0 to 1. Raise InputError where the table is missing or damaged.
        """
        from patchscale.study.tables import read_table

        return read_table(self.root / paths.predictions(cell), ["date", "subset", "p"], more=True)

    def metrics(self, cell: str) -> dict[str, Any]:
        """Return what the test year showed of a cell; raise InputError where that is missing."""
        found: dict[str, Any] = read_json(self.root / paths.backtest_metrics(cell))
        return found


def read_study(root: str | Path = ".") -> Study:
    """Return the study in a folder.

    Raises
    ------
    InputError
        The parameters are wrong, or no result is here.
    """
    from patchscale.study.params import load_params

    folder = Path(root)
    params = load_params(folder)
    files = {cell: folder / paths.card(cell) for cell in params.cells}
    cards = {cell: read_json(file) for cell, file in files.items() if file.is_file()}
    if not cards:
        raise InputError(f"{folder / 'metrics/cards'}: no card is here; `dvc pull` brings them")
    return Study(folder, params, cards)


def load_model(study: Study, cell: str, seed: int = 0) -> "PatchTST":
    """Return a published model, in float32 on the CPU.

    Its input is a normalised window, `(B, context, features) -> (B,)` logits.

    Raises
    ------
    InputError
        The weights are missing, or are not those of the cell's card.
    """
    from patchscale.forecast.published import model_of, shape_of_cell, weights_of

    weights = weights_of(study.params, cell, seed, study.root)
    return model_of(weights, shape_of_cell(study.params, cell, study.root))


def predict(
    study: Study,
    *,
    dataset: str | None = None,
    csv: str | Path | None = None,
    volatility: str | Path | None = None,
    calendar: str | None = None,
    as_of: str | None = None,
) -> "Outlook":
    """Return the forecasts of all published models for the sessions after a close.

    Parameters
    ----------
    study
        As `read_study` returns it.
    dataset, csv, volatility, calendar, as_of
        As `patchscale.forecast.market.read_market` takes them: a data set or a canonical file, and
        the day of the close.

    Raises
    ------
    InputError
        Bars are broken or stale, or no weights are here.
    """
    from patchscale.forecast.market import read_market
    from patchscale.forecast.outlook import outlook

    market = read_market(
        study.params,
        dataset=dataset,
        csv=Path(csv) if csv else None,
        volatility=Path(volatility) if volatility else None,
        calendar=calendar,
        as_of=as_of,
        root=study.root,
    )
    return outlook(study.params, market, study.root)


def import_bars(file: str | Path, zone: str = "America/New_York") -> "Imported":
    """Return the bars of a vendor's export, with the mapping, notes and problems.

    Parameters
    ----------
    file
        A CSV file as vendors and spreadsheets write it.
    zone
        Time zone of the exchange.

    Raises
    ------
    InputError
        The file is no table of bars.
    """
    import pandas as pd

    from patchscale.importing.convert import convert
    from patchscale.importing.export import read_export

    today = pd.Timestamp.now(zone).normalize().tz_localize(None)
    return convert(read_export(Path(file)), zone, today)
