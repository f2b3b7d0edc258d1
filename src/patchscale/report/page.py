"""Page docs/results.md: the finding, its certainty, and every figure with its interval."""

from patchscale.backtest.bootstrap import DRAWS
from patchscale.backtest.judge import BENCHMARK
from patchscale.backtest.trading import FEW_TRADES
from patchscale.report import finding, tables
from patchscale.report.results import Results

RULES = {
    "precision": "highest precision on validation",
    "youden": "highest recall less false alarms on validation",
}


def page(results: Results) -> str:
    """Return docs/results.md."""
    sections = [
        "# Results",
        "<!-- written by the stage `report`; edits are overwritten -->",
        f"{the_finding(results)} {how_sure(results)}",
        about_data(results),
        "![Test log-loss against parameters](../plots/loss_vs_n.svg)",
        *size_sections(results),
        *bar_sections(results),
        *forecast_sections(results),
        *calibration_sections(results),
        *trading_sections(results),
        "## Learning curves",
        "![Learning curves](../plots/learning_curves.svg)",
        *search_sections(results),
    ]
    return "\n\n".join(sections) + "\n"


def one_line(text: str) -> str:
    """Return a paragraph on one line."""
    return " ".join(text.split())


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
        [metrics/backtest/](../metrics/backtest); so has an interval where more than 5 % of the
        samples have no such figure.
    """)


def size_sections(results: Results) -> list[str]:
    """Return the sections on the change of the loss with size."""
    said: dict[str, list[str]] = {}
    for name, row in results.effects.items():
        said.setdefault(row.power_law.says, []).append(name)
    fits = "; ".join(f"at {', '.join(names)} {fit}" for fit, names in said.items())
    law = f"The law E + A N^-alpha on the test days: {fits}." if fits else ""
    return [
        "## Does the loss fall with size?",
        tables.sizes_table(results.comparisons),
        one_line(f"""
            The change is a least-squares line through the mean losses of single seeds; its samples
            draw days and seeds anew. Where a size has one seed, the noise of seeds is not in it.
            Holm's correction is for the horizons. A training that may stop early looks at the
            validation days, whose losses are then too good. {law}
        """),
    ]


def bar_sections(results: Results) -> list[str]:
    """Return the sections on the bar and how it was chosen."""
    losses = {
        name: sum(row[name].val.log_loss.value for row in results.baselines.values())
        for name in finding.SIMPLE
    }
    lower = [finding.WORDS[name] for name in losses if losses[name] < losses[BENCHMARK]]
    if lower:
        chosen = f"though on these days {' and '.join(lower)} had a lower mean log-loss"
    else:
        chosen = "the simple rival of lowest mean log-loss on the validation days"
    return [
        "## The bar",
        one_line(f"""
            What a transformer has to beat is {finding.WORDS[BENCHMARK]}, {chosen}. The test days
            had no part in this choice. Gradient boosting is no candidate: it chose its number of
            trees on these validation days.
        """),
        tables.bar_table(results.baselines),
    ]


def calibration_sections(results: Results) -> list[str]:
    """Return the sections on calibration."""
    rows = {
        name if name in results.trained else f"{finding.WORDS[name]} {horizon}": row.test
        for horizon in results.comparisons
        for name, row in results.forecasts_of(horizon).items()
        if row
    }
    return [
        "## Calibration in the test year",
        tables.calibration_table(rows),
        one_line("""
            Over ten bins of equally many days. Reliability and calibration error are zero for a
            calibrated forecast of endless days; with few days a bin they are not, and their
            intervals lie higher still.
        """),
        "![Reliability](../plots/reliability.svg)",
    ]


def the_finding(results: Results) -> str:
    """Return the finding in one sentence."""
    market = f"`{results.params.data.series}`"
    return finding.finding(
        market,
        results.trained_budgets,
        results.differences,
        results.singles,
        results.evidence,
        results.effects,
    )


def how_sure(results: Results) -> str:
    """Return the sentences on the certainty of the finding."""
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
    scope = finding.Scope(
        as_of=results.as_of,
        days=_span([test.n for test in tests]),
        positives=_span([test.positives for test in tests]),
        budgets=results.trained_budgets,
        absent=[name for name in budgets if name not in results.trained_budgets],
        once=[name for name in results.trained_budgets if budgets[name].run.seeds == 1],
        searched=results.searched_budgets,
        cells=len(results.trained),
        strategies=results.strategies,
        lucky_sharpe=results.lucky_sharpe,
    )
    return finding.certainty(scope, results.effects, lowest)


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def forecast_sections(results: Results) -> list[str]:
    """Return the sections that compare the forecasts of each horizon."""
    rule = results.params.backtest.threshold
    sections = ["## Forecasts of the test year"]
    for horizon, ahead in results.params.horizons.items():
        benchmark = results.baselines[horizon][BENCHMARK]
        sections += [
            f"### {horizon}: {ahead} session{'s' * (ahead > 1)} ahead, n {benchmark.test.n}, "
            f"{benchmark.test.positives} positive, {benchmark.prior:.1%} in training",
            tables.forecasts_table(
                results.forecasts_of(horizon), results.n_params, results.comparisons[horizon]
            ),
        ]
    explained = f"""
        Judged is the ensemble, the mean probability of a cell's seeds. Two columns are of single
        seeds instead: their log-losses, and the skill of the mean of these. Precision and recall
        are at the threshold frozen on validation: {RULES[rule.rule]} at a recall of at least
        {rule.min_recall:.0%}. p range is the span of the probabilities; below 0.2 it is called
        collapsed. Skill is the share of the bar's log-loss that is saved, with p of Diebold and
        Mariano's test, in brackets corrected for all {len(results.trained)} cells by Holm,
        ensembles and single seeds each for themselves. The confidence set holds the best ensemble
        or rival with 95 % probability. Gradient boosting has as many trees as are best on
        validation.
    """
    return [
        *sections,
        one_line(explained),
        *block_sections(results),
        "![Skill over the bar](../plots/skill.svg)",
        "![Precision and recall](../plots/precision_recall.svg)",
    ]


def block_sections(results: Results) -> list[str]:
    """Return the folded table of p-values at other block lengths; nothing without a cell."""
    if not results.trained:
        return []
    return [
        "<details><summary>Do the p-values depend on the block length?</summary>",
        "Lengths are in days; the p-values of Diebold and Mariano are not corrected here.",
        tables.blocks_table(results.singles, results.differences),
        "</details>",
    ]


def trading_sections(results: Results) -> list[str]:
    """Return the sections on trading the signals."""
    rows = {cell: row.strategy for cell, row in results.trained.items()}
    rows |= {
        f"{finding.WORDS[BENCHMARK]} {horizon}": baselines[BENCHMARK].strategy
        for horizon, baselines in results.baselines.items()
    }
    first = next(iter(results.baselines.values()))[BENCHMARK].strategy
    held = first.buy_and_hold
    explained = f"""
        Buy and hold over the same sessions: {held.total_return:+.1%}, Sharpe
        {tables.with_interval(held.sharpe, ".2f")}, max drawdown {held.max_drawdown:.1%}. A
        signal after the close of t is traded at the open of t+1 and left at the first touch of the
        target or at the close of t+H; Sharpe and drawdown are at {first.cost_bps:g} bp a side.
        Cash earns {first.cash_rate:.2%} a year on sessions without a position; the Sharpe ratio is
        that of returns in excess of cash. The label is measured from the close, the trade from the
        next open: hence the label hit rate beside the trades won. The probability of skill is the
        probabilistic Sharpe ratio, then the deflated one; 0.95 would be evidence. With fewer than
        {FEW_TRADES} trades neither is evidence either way. Deflated means as the best of the
        {results.strategies} strategies judged on these sessions, those of trained cells and of
        baselines: luck alone gives the best of so many a Sharpe ratio of
        {results.lucky_sharpe:.2f}. They are taken for independent, which asks for too much. An
        index level cannot be bought: these are gross of financing and tracking.
    """
    return [
        f"## What trading it was worth, {first.sessions} sessions to {results.as_of}",
        tables.strategies_table(rows, results.strategies),
        one_line(explained),
        "![Wealth in the test year](../plots/equity.svg)",
    ]


def search_sections(results: Results) -> list[str]:
    """Return the sections on the searches, which also name the budgets without one."""
    rest = [name for name in results.params.budgets if name not in results.searched_budgets]
    said = f"With the table's row train: {', '.join(rest) or 'none'}."
    if not results.searched:
        return ["## Searches", said]
    explained = f"""
        Losses are means of seeds at the end of their trainings, on validation blocks from all
        periods before the test year. The trial that is chosen is the cheapest of those within one
        standard error of the lowest. Trial 0 is the table's row. Importance is fANOVA's, for the
        loss of the first seed; with so few trials, drawn where it looked good, it tells of them and
        not of the problem. Sizes without a search of their own take rate, decay, dropout, epochs
        and proportions from it. {said}
    """
    return [
        "## Searches",
        tables.searches_table(results.searched),
        one_line(explained),
        "![Validation log-loss by trial, and importance](../plots/searches.svg)",
    ]
