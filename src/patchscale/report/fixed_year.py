"""Sections of docs/results.md on the fixed test year, and on how its models were made."""

from patchscale.backtest.bootstrap import DRAWS
from patchscale.backtest.judge import BENCHMARK
from patchscale.backtest.trading import FEW_TRADES
from patchscale.report import tables
from patchscale.report.captions import picture
from patchscale.report.certainty import Scope, fixed_certainty
from patchscale.report.finding import WORDS
from patchscale.report.results import Results
from patchscale.verdict.bar import RIVALS

RULES = {
    "precision": "highest precision on validation",
    "youden": "highest recall less false alarms on validation",
}


def one_line(text: str) -> str:
    """Return a paragraph on one line."""
    return " ".join(text.split())


def folded(summary: str, *parts: str) -> list[str]:
    """Return parts of the page that are shown only after a click on their summary."""
    return [f"<details><summary>{summary}</summary>", *parts, "</details>"]


def fixed_year_sections(results: Results) -> list[str]:
    """Return the folded sections on the fixed test year and on the making of its models."""
    year = "Fixed test year:"
    return [
        *folded(f"{year} loss against size", *size_sections(results)),
        *folded(f"{year} the bar", *bar_sections(results)),
        *folded(f"{year} forecasts of every horizon", *forecast_sections(results)),
        *folded(f"{year} N and p-values of every cell", *p_value_sections(results)),
        *folded(f"{year} calibration", *calibration_sections(results)),
        *folded(f"{year} what trading was worth, and luck", *trading_sections(results)),
        *folded("Searches", *search_sections(results)),
        *folded("Learning curves", picture("learning_curves")),
    ]


def about_data(results: Results) -> str:
    """Return the paragraph on the data and the intervals."""
    data = results.params.data
    judged = [row for h in results.comparisons for row in results.forecasts_of(h).values() if row]
    blocks = [scores.block for row in judged for scores in (row.val, row.test)]
    return one_line(f"""
        Data: `{results.params.dataset}`, {data.start} to {results.as_of}; validation from
        {data.validation_from}, test from {data.test_from}. Brackets are 95 % intervals:
        {DRAWS:,} stationary-bootstrap samples of days. The mean block length follows from the daily
        losses, differences or returns themselves (Politis and White 2004) and is at least the
        horizon; for losses it is {_span(blocks)} days. What is undefined has its reason in
        `metrics/backtest/` (`dvc pull`); so has an interval where more than 5 % of the
        samples have no such figure.
    """)


def certainty_section(results: Results) -> str:
    """Return the sentences on the certainty of what the fixed test year shows."""
    tests = [rows[BENCHMARK].test for rows in results.baselines.values()]
    lowest = {
        horizon: min(
            (row.test.log_loss.value, name)
            for name, row in results.forecasts_of(horizon).items()
            if row
        )[1]
        for horizon in results.comparisons
    }
    budgets = results.params.budgets
    scope = Scope(
        as_of=results.as_of,
        days=_span([test.n for test in tests]),
        positives=_span([test.positives for test in tests]),
        budgets=results.trained_budgets,
        once=[name for name in results.trained_budgets if budgets[name].run.seeds == 1],
        searched=results.searched_budgets,
        slopes=len(results.effects),
        cells=len(results.trained),
        strategies=results.strategies,
        lucky_sharpe=results.lucky_sharpe,
    )
    return fixed_certainty(scope, lowest)


def thousandfold_sections(results: Results) -> list[str]:
    """Return the parts on a thousand times as many parameters; none without such a pair."""
    if not any(row.thousandfold for row in results.comparisons.values()):
        return []
    return [
        "### A thousand times as many parameters",
        tables.thousandfold_table(results.comparisons),
        one_line("""
            The biggest trained size of a horizon less that of a thousandth of its parameters, on
            the same days, each the mean loss of its single seeds: above zero the bigger one is
            worse. The draw of a single seed is not in the interval. Holm's correction is for these
            horizons.
        """),
    ]


def size_sections(results: Results) -> list[str]:
    """Return the parts on the change of the loss with size."""
    said: dict[str, list[str]] = {}
    for name, row in results.effects.items():
        said.setdefault(row.power_law.says, []).append(name)
    fits = "; ".join(f"at {', '.join(names)} {fit}" for fit, names in said.items())
    law = f"The law E + A N^-alpha on the test days: {fits}." if fits else ""
    return [
        tables.sizes_table(results.comparisons),
        one_line(f"""
            The change is a least-squares line through the mean losses of single seeds; its samples
            draw days and seeds anew. Where a size has one seed, the noise of seeds is not in it.
            Holm's correction is for the horizons. A training that may stop early looks at the
            validation days, whose losses are then too good. {law}
        """),
        picture("loss_vs_n"),
    ]


def bar_sections(results: Results) -> list[str]:
    """Return the parts on the bar and how it was chosen."""
    losses = {
        name: sum(row[name].val.log_loss.value for row in results.baselines.values())
        for name in RIVALS
    }
    lower = [WORDS[name] for name in losses if losses[name] < losses[BENCHMARK]]
    if lower:
        chosen = f"though on these days {' and '.join(lower)} had a lower mean log-loss"
    else:
        chosen = "the simple rival of lowest mean log-loss on the validation days"
    return [
        one_line(f"""
            What a transformer has to beat in the fixed test year is {WORDS[BENCHMARK]}, {chosen}.
            The test days had no part in this choice. Gradient boosting is no candidate: it chose
            its number of trees on these validation days.
        """),
        tables.bar_table(results.baselines),
    ]


def forecast_sections(results: Results) -> list[str]:
    """Return the parts that compare the forecasts of each horizon."""
    rule = results.params.backtest.threshold
    sections = []
    for horizon, ahead in results.params.horizons.items():
        benchmark, forecasts = results.baselines[horizon][BENCHMARK], results.forecasts_of(horizon)
        sections += [
            f"### {horizon}: {ahead} session{'s' * (ahead > 1)} ahead, n {benchmark.test.n}, "
            f"{benchmark.test.positives} positive, {benchmark.prior:.1%} in training",
            tables.losses_table(forecasts, results.comparisons[horizon]),
            tables.signals_table(forecasts),
        ]
    explained = f"""
        Judged is the ensemble, the mean probability of a cell's seeds; beside it stand the mean
        log-loss of its single seeds and their skill. Skill is the share of the bar's log-loss that
        is saved, bold where Diebold and Mariano's test has p < 0.05 after Holm's correction for
        all {len(results.trained)} cells, ensembles and single seeds each for themselves. The best
        set holds the best ensemble or rival with 95 % probability. Precision and recall are at the
        threshold frozen on validation: {RULES[rule.rule]} at a recall of at least
        {rule.min_recall:.0%}. p range is the span of the probabilities; below 0.2 it is called
        collapsed. Gradient boosting has as many trees as are best on validation.
    """
    return [
        *sections,
        one_line(explained),
        picture("skill"),
        picture("precision_recall"),
    ]


def p_value_sections(results: Results) -> list[str]:
    """Return the parts with the p-values of every cell at three block lengths."""
    return [
        tables.p_values_table(results.n_params, results.singles, results.differences),
        "Diebold and Mariano's test against the bar, with blocks half as long, as long and twice "
        "as long as estimated, in days; Holm's correction is of the middle one.",
    ]


def calibration_sections(results: Results) -> list[str]:
    """Return the parts on calibration."""
    rows = {
        name if name in results.trained else f"{WORDS[name]} {horizon}": row.test
        for horizon in results.comparisons
        for name, row in results.forecasts_of(horizon).items()
        if row
    }
    return [
        tables.brier_table(rows),
        tables.calibration_table(rows),
        one_line("""
            Over ten bins of equally many days. Reliability and calibration error are zero for a
            calibrated forecast of endless days; with few days a bin they are not, and their
            intervals lie higher still.
        """),
        picture("reliability"),
    ]


def trading_sections(results: Results) -> list[str]:
    """Return the parts on trading the signals."""
    rows = {cell: row.strategy for cell, row in results.trained.items()}
    rows |= {
        f"{WORDS[BENCHMARK]} {horizon}": baselines[BENCHMARK].strategy
        for horizon, baselines in results.baselines.items()
    }
    first = next(iter(results.baselines.values()))[BENCHMARK].strategy
    held = first.buy_and_hold
    explained = f"""
        Buy and hold over the same {first.sessions} sessions to {results.as_of}:
        {held.total_return:+.1%}, Sharpe {tables.with_interval(held.sharpe, ".2f")}, max drawdown
        {held.max_drawdown:.1%}. A signal after the close of t is traded at the open of t+1 and left
        at the first touch of the target or at the close of t+H; Sharpe and drawdown are at
        {first.cost_bps:g} bp a side.
        Cash earns {first.cash_rate:.2%} a year on sessions without a position; the Sharpe ratio is
        that of returns in excess of cash. The label is measured from the close, the trade from the
        next open: hence the label hit rate beside the trades won. Skill alone is the probabilistic
        Sharpe ratio, as the best of all the deflated one; 0.95 would be evidence. With fewer than
        {FEW_TRADES} trades neither is evidence either way. Deflated means as the best of the
        {results.strategies} strategies judged on these sessions, those of trained cells and of
        baselines: luck alone gives the best of so many a Sharpe ratio of
        {results.lucky_sharpe:.2f}. They are taken for independent, which asks for too much. An
        index level cannot be bought: these are gross of financing and tracking.
    """
    return [
        tables.trades_table(rows),
        tables.luck_table(rows, results.strategies),
        one_line(explained),
        picture("equity"),
    ]


def search_sections(results: Results) -> list[str]:
    """Return the parts on the searches, which also name the budgets without one."""
    rest = [name for name in results.params.budgets if name not in results.searched_budgets]
    said = f"Trained with the row of the table: {', '.join(rest)}." if rest else ""
    if not results.searched:
        return [said]
    explained = f"""
        Losses are means of seeds at the end of their trainings, on validation blocks from all
        periods before the test year. The trial that is chosen is the cheapest of those within one
        standard error of the lowest. Trial 0 is the table's row. Importance is fANOVA's, for the
        loss of the first seed; with so few trials, drawn where it looked good, it tells of them and
        not of the problem. Sizes without a search of their own take rate, decay, dropout, epochs
        and proportions from it. {said}
    """
    return [
        tables.searches_table(results.searched),
        one_line(explained),
        picture("searches"),
    ]


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"
