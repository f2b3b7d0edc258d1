"""Page docs/results.md: the finding, one picture, one table, how sure it is, and folded details."""

from patchscale.report import certainty, walk_tables
from patchscale.report.captions import picture
from patchscale.report.finding import WORDS, finding
from patchscale.report.fixed_year import (
    about_data,
    certainty_section,
    fixed_year_sections,
    folded,
    one_line,
    thousandfold_sections,
)
from patchscale.report.made import Made, made_sections
from patchscale.report.results import Results
from patchscale.verdict.bar import Bar

SEEN = f"{walk_tables.SEEN} Settings were chosen on days of this year."


def page(results: Results, made: Made) -> str:
    """Return docs/results.md, of which docs/results.html is made."""
    verdict = results.verdict
    walked = verdict.bar if verdict.sizes else None
    sections = [
        "# Results",
        "<!-- written by the stage `report`; edits are overwritten -->",
        the_finding(results),
        *(walk_sections(results, walked) if walked else [picture("loss_vs_n")]),
        "## The fixed test year",
        certainty_section(results),
        about_data(results),
        *thousandfold_sections(results),
        *fixed_year_sections(results),
        *made_sections(results.params, results.as_of, made),
    ]
    return "\n\n".join(sections) + "\n"


def the_finding(results: Results) -> str:
    """Return the finding in at most 90 words."""
    return finding(f"`{results.params.data.series}`", results.verdict, results.fixed_year)


def walk_sections(results: Results, bar: Bar) -> list[str]:
    """Return the sections on all test years: picture, table, how sure, and folded details."""
    verdict, params = results.verdict, results.params
    seen = certainty.settings_saw(verdict, results.saw)
    caption = f"""
        Log-loss of PatchTST less that of {WORDS[bar.name]}, the bar, on the same days of
        {certainty.years(verdict.years)}: below zero PatchTST is better. Vertical lines are 95 %
        intervals of exact sign flips of years. Pale marks lack some years. {seen}
    """
    explained = f"""
        Differences to {WORDS[bar.name]} in thousandths of a nat, means over the test years, with
        95 % intervals of sign flips of years; bold where p < 0.05 after Holm's correction, each
        kind by itself, `all` for the sizes and the rest for the cells. Baselines are not tested
        here, and never bold. `all` is the mean over horizons. The log-loss of the bar is
        {verdict.baselines[bar.name]:.4f}. Fewer than six years have no interval. {seen}
    """
    return [
        picture("size"),
        one_line(caption),
        "## Every size against the bar",
        walk_tables.differences_table(
            verdict, params.budgets, results.trained_budgets, list(params.horizons)
        ),
        one_line(explained),
        *folded(
            "Test years: every size against the other baselines",
            walk_tables.rivals_table(verdict),
            one_line(f"""
                Loss of single seeds less that of each baseline in thousandths of a nat, means over
                horizons and test years, with 95 % intervals of sign flips of years; bold where
                p < 0.05 after Holm's correction for all these tests. The table was not declared
                before the test years were seen. {seen}
            """),
        ),
        "## How sure",
        picture("slopes"),
        *certainty.certainty(verdict, results.saw, params.hpo.base, results.takers),
        *folded("Test years: slopes of every horizon and year", *year_sections(results)),
        *folded("Test years: calibration in the large", *chance_sections(results, bar)),
    ]


def year_sections(results: Results) -> list[str]:
    """Return the parts on the slopes, and on every test year."""
    verdict, seen = results.verdict, certainty.seen_years(results.saw)
    return [
        walk_tables.slopes_table(verdict),
        one_line(f"""
            The mean of the horizons' slopes is the primary one. They are secondary, and corrected
            for their number. {certainty.settings_saw(verdict, results.saw)}
        """),
        walk_tables.steps_table(verdict),
        one_line(f"""
            From each size to the next: mean over horizons and single seeds. This table was not
            declared before the test years were seen; it is corrected for the number of its rows.
            {certainty.settings_saw(verdict, results.saw)}
        """),
        walk_tables.years_table(results.yearly, verdict, seen),
        one_line(f"""
            Slope per tenfold N in nats, and difference of single seeds to the bar in thousandths of
            a nat, means over horizons. {SEEN}
        """),
    ]


def chance_sections(results: Results, bar: Bar) -> list[str]:
    """Return the parts that compare mean probabilities with the share of positive days."""
    seen, budgets = certainty.seen_years(results.saw), results.params.budgets
    return [
        walk_tables.calibration_in_years_table(results.verdict, bar.name, budgets, seen),
        one_line(f"""
            Mean probabilities of the ensembles and of the bar beside the share of positive days,
            means over horizons. {SEEN}
        """),
    ]
