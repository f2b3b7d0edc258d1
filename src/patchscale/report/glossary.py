"""Words of the study and what they mean: python -m patchscale.report.glossary > docs/glossary.md.

The page docs/results.html shows a meaning where its word stands.
"""

import re
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A word of the study."""

    name: str
    meaning: str
    written: str = ""
    """Pattern of the forms in which it occurs in texts; without it the name and its plural."""

    @property
    def pattern(self) -> str:
        """Pattern that finds it in a text."""
        return self.written or rf"{re.escape(self.name)}s?"

    @property
    def anchor(self) -> str:
        """Name of its place on a page."""
        return "term-" + re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


TERMS = (
    Term(
        "AUC",
        "Area under the ROC curve: the probability that a positive day has a higher forecast than "
        "another one. 0.5 is no better than chance.",
    ),
    Term(
        "bar",
        "The forecast that a network has to beat: the simple rival of lowest log-loss on "
        "validation days. Test days have no part in its choice.",
        "the bar",
    ),
    Term(
        "basis point",
        "A hundredth of a per cent, written bp. Costs are in basis points of the price, for each "
        "purchase and for each sale.",
        r"basis points?|bp a side",
    ),
    Term(
        "best set",
        "Model confidence set of Hansen, Lunde and Nason: it holds the best forecast with 95 % "
        "probability. A forecast outside it is measurably worse than the best.",
    ),
    Term(
        "Brier score",
        "Mean squared difference between the probability and what came, 0 or 1. Lower is better. "
        "Brier skill is the share of the training prior's score that a forecast saves.",
        r"Brier(?: score| skill)?",
    ),
    Term(
        "budget",
        "A size: the number of parameters that a network is built to have, such as 2M for two "
        "million. Its true number is within 2 % of it.",
    ),
    Term(
        "calibration",
        "Agreement of probabilities with shares: of all days with a forecast of 30 %, 30 % should "
        "be positive.",
    ),
    Term(
        "cell",
        "A budget at a horizon, such as 2M-h1. Each cell is trained and judged for itself, with "
        "one or several seeds.",
    ),
    Term(
        "collapsed",
        "A forecast whose probabilities span less than 0.2: it says nearly the same on every day.",
    ),
    Term(
        "CompleteP",
        "Rules by which learning rate, initial weights and decay follow from width and depth, so "
        "that settings found with a small network hold for a large one.",
    ),
    Term(
        "deflated Sharpe ratio",
        "Probability that a strategy earned more than luck alone gives the best of as many "
        "strategies as were judged. 0.95 would be evidence.",
        r"deflated Sharpe ratio|deflated one",
    ),
    Term(
        "Diebold-Mariano test",
        "Test of whether two forecasts of the same days have the same mean loss. It allows for "
        "days that resemble the days before them.",
        r"Diebold and Mariano's test",
    ),
    Term(
        "drawdown",
        "Loss from the highest wealth so far. The max drawdown is the largest one of the year.",
    ),
    Term(
        "ensemble",
        "The mean of the probabilities that the seeds of a cell forecast for a day.",
    ),
    Term(
        "excess",
        "Return of the strategy in the fixed test year less that of buy and hold, after costs.",
        "`excess`",
    ),
    Term(
        "fixed test year",
        "The last part of the data, on which the published cells are judged. Nothing is chosen "
        "by it.",
    ),
    Term(
        "gap",
        "Log-loss of a cell less that of the bar on the same days: below zero the cell is better. "
        "Unlike a log-loss it can be compared between questions with different labels.",
        "`gap`",
    ),
    Term(
        "gradient boosting",
        "A baseline: many small decision trees on the same features, each of which corrects the "
        "ones before it.",
    ),
    Term(
        "HAR logistic",
        "A baseline: a logistic regression on the volatility of the last 1, 5 and 22 sessions, "
        "from daily ranges (heterogeneous autoregression).",
    ),
    Term(
        "Holm's correction",
        "Correction of p-values for the number of tests: the more is tested, the lower a p-value "
        "must be. It keeps the probability of any false claim below 5 %.",
        r"Holm(?:'s correction)?",
    ),
    Term(
        "horizon",
        "Number of sessions that a forecast looks ahead: h1 is one session, h5 five.",
    ),
    Term(
        "importance",
        "Share of the differences between trials that a parameter explains, as fANOVA estimates "
        "it.",
        "fANOVA",
    ),
    Term(
        "log-loss",
        "Minus the logarithm of the probability that was given to what came, mean over days. "
        "Lower is better; a forecast of 50 % has 0.693.",
    ),
    Term(
        "measurably",
        "With a p-value below 0.05 after Holm's correction.",
    ),
    Term("nat", "Unit of log-loss where logarithms are natural ones."),
    Term(
        "persistence",
        "A baseline: its forecast follows from the latest label that is known, that of as many "
        "sessions ago as the horizon has.",
    ),
    Term(
        "positive day",
        "A day after which the price touches its target within the horizon.",
        r"positive(?: days?)?",
    ),
    Term(
        "power",
        "Probability that a test finds an effect of a given size.",
    ),
    Term("precision", "Share of the signals after which the price touched its target."),
    Term(
        "probabilistic Sharpe ratio",
        "Probability that the true Sharpe ratio is above zero, written PSR. It allows for few "
        "days and for skewed returns.",
        r"probabilistic Sharpe ratio|PSR",
    ),
    Term("recall", "Share of the positive days on which there was a signal."),
    Term(
        "reliability",
        "Part of the Brier score that miscalibration costs; zero is perfect. Resolution is the "
        "part that telling days apart saves.",
    ),
    Term(
        "seed",
        "Number from which a training draws its random values. Single seeds on average means the "
        "mean of their losses, where the ensemble has the loss of their mean.",
        r"single seeds?|seeds?",
    ),
    Term(
        "Sharpe ratio",
        "Mean return a year in excess of cash, divided by its standard deviation.",
        r"Sharpe(?: ratios?)?",
    ),
    Term(
        "sign flip",
        "Exact test over years: if size did not matter, the sign of each year's difference could "
        "as well be the other one. The p-value is the share of all choices of signs whose mean is "
        "at least as far from zero.",
    ),
    Term(
        "skill",
        "Share of a rival's loss that a forecast saves. Below zero it is worse than the rival.",
        r"skill(?! beyond| alone)",
    ),
    Term(
        "slope",
        "Change of log-loss for ten times as many parameters: a straight line through the sizes.",
    ),
    Term(
        "stationary bootstrap",
        "Intervals from samples of the days themselves, drawn in blocks of random length, so that "
        "neighbouring days stay together.",
        r"stationary[- ]bootstrap",
    ),
    Term(
        "tier",
        "A set of features. The number in its name says how many there are besides the two of "
        "volatility; a larger tier holds the smaller ones.",
    ),
    Term(
        "training prior",
        "A baseline: the share of positive days in training, the same forecast for every day.",
    ),
    Term(
        "validation",
        "Days between training and test. The bar and the thresholds are chosen on them.",
    ),
    Term(
        "volatility logistic",
        "A baseline: a logistic regression on the volatility of the last 14 and 20 sessions, and "
        "on the volatility index where the data have one.",
    ),
    Term(
        "walk-forward",
        "For each test year everything is trained anew on the years before it, of which the last "
        "one is for validation.",
        r"walk[- ]forward|test years?",
    ),
)


def glossary() -> str:
    """Return the text of docs/glossary.md."""
    terms = [f"* **{term.name}**: {term.meaning}" for term in TERMS]
    printed = "<!-- printed by `python -m patchscale.report.glossary`; edit that module -->"
    return "\n".join(["# Glossary", "", printed, "", *terms]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(glossary())
