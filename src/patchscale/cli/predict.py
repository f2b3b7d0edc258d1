"""Command `patchscale predict`: forecasts for the sessions after the last close."""

import json
import textwrap
from dataclasses import asdict

from patchscale.cli.figures import WIDTH
from patchscale.forecast.market import read_market
from patchscale.forecast.outlook import Forecast, Outlook, outlook
from patchscale.study.params import load_params
from patchscale.study.parser import local_file, parser

WORDS = {"har_logistic": "HAR logistic"}


def main(*words: str) -> None:
    """Print the forecasts as text or as JSON."""
    command = parser(
        "predict",
        "Forecast the sessions after the last close with the published models, beside the base\n"
        "rate and the bar. Bars that are broken or older than the last finished session are\n"
        "refused.",
        "--as-of 2018-12-31",
        "--csv inputs/spy.csv",
        "--csv inputs/spy.csv --as-of 2024-12-31 --json",
    )
    where = command.add_mutually_exclusive_group()
    where.add_argument("--dataset", metavar="D", help="key of `datasets` (default: `dataset`)")
    where.add_argument("--csv", type=local_file, metavar="FILE", help="canonical bars (import-csv)")
    command.add_argument("--volatility", type=local_file, metavar="FILE", help="its index")
    command.add_argument("--calendar", help="exchange of the file (default: of `dataset`)")
    command.add_argument("--as-of", metavar="DAY", help="the close to forecast from")
    command.add_argument("--json", action="store_true", help="print JSON")
    options = command.parse_args(words)
    if not options.csv and (options.volatility or options.calendar):
        command.error("--volatility and --calendar go with --csv")
    params = load_params()
    market = read_market(
        params,
        dataset=options.dataset,
        csv=options.csv,
        volatility=options.volatility,
        calendar=options.calendar,
        as_of=options.as_of,
    )
    found = outlook(params, market)
    print(json.dumps(asdict(found), indent=2) if options.json else as_text(found))


def as_text(found: Outlook) -> str:
    """Return the forecasts as a table for people."""
    lines = [
        f"{found.series}, close of {found.as_of}: {found.close:,.2f}",
        f"Probability that {found.event}, {found.target:,.2f}; models trained on "
        f"{found.trained_on} to {found.trained_to}",
    ]
    for each in found.horizons:
        lines += ["", f"{each.horizon}, to {each.until}"]
        lines.append(f"  {'base rate':<14}{each.base_rate:>7.1%}   share of the training days")
        lines += [_row(forecast) for forecast in (each.bar, *each.models)]
    if found.fewer:
        fewer = ", ".join(found.fewer)
        lines += ["", f"Not all seeds are published (`publish` in params.yaml): {fewer}"]
    if found.absent:
        lines += ["", f"Not here: {', '.join(found.absent)}"]
    caution = found.caution[0].upper() + found.caution[1:]
    return "\n".join([*lines, "", *textwrap.wrap(caution, WIDTH)])


def _row(forecast: Forecast) -> str:
    name = WORDS.get(forecast.name, forecast.name)
    parts = []
    if len(forecast.seeds) > 1:
        low, high = min(forecast.seeds), max(forecast.seeds)
        parts.append(f"{len(forecast.seeds)} seeds {low:.1%} to {high:.1%}")
    if decile := forecast.decile:
        parts.append(
            f"of {decile.n} test days forecast near {decile.predicted:.1%}, "
            f"{decile.observed:.1%} [{decile.low:.1%}, {decile.high:.1%}] came true"
        )
    return f"  {name:<14}{forecast.p:>7.1%}   {'; '.join(parts)}".rstrip()
