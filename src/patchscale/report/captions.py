"""Titles and descriptions of all figures: alternative texts of the pages and inside the files."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caption:
    """What a figure shows, for those who cannot see it."""

    title: str
    description: str


CAPTIONS = {
    "size": Caption(
        "Difference to the bar against parameters",
        "A panel for each horizon. The mean difference of PatchTST's log-loss to the bar stands "
        "over the number of parameters, for single seeds and for the ensemble of seeds, with 95 % "
        "intervals. Lines mark the baselines; the bar is at zero, and below zero is better.",
    ),
    "slopes": Caption(
        "Slope of every test year",
        "The change of log-loss per tenfold size stands over the test year. A line and a band mark "
        "the mean and its 95 % interval. Below zero bigger is better.",
    ),
    "loss_vs_n": Caption(
        "Test log-loss against parameters",
        "A panel for each horizon. The log-loss of the fixed test year stands over the number of "
        "parameters, for each seed and for the ensemble with its 95 % interval. Lines mark the "
        "baselines.",
    ),
    "skill": Caption(
        "Skill over the bar",
        "Two maps, of single seeds on average and of ensembles, with a row for each size and a "
        "column for each horizon. Every field has the share of the bar's log-loss that is saved, "
        "with its 95 % interval.",
    ),
    "searches": Caption(
        "Validation log-loss by trial, and importance",
        "For each search the validation log-loss of its trials in their order, and below it the "
        "importance of each parameter.",
    ),
    "reliability": Caption(
        "Reliability",
        "A panel for each trained cell. The observed share of positive days stands over the "
        "predicted one, with 95 % intervals, beside the bar. A calibrated forecast lies on the "
        "diagonal.",
    ),
    "precision_recall": Caption(
        "Precision and recall",
        "A panel for each trained cell. Precision stands over recall, beside the bar. A dot marks "
        "the threshold that validation froze, a dotted line the share of positive days.",
    ),
    "equity": Caption(
        "Wealth in the test year",
        "A panel for each trained cell. The wealth of its strategy after costs stands over the "
        "date, with entries and exits, beside the bar's strategy and buy and hold.",
    ),
    "learning_curves": Caption(
        "Learning curves",
        "A panel for each trained cell, each with axes of its own. Training and validation "
        "log-loss stand over the epoch, a line for each seed.",
    ),
}


def picture(name: str) -> str:
    """Return a figure in Markdown, as seen from the folder docs/."""
    return f"![{CAPTIONS[name].title}](../plots/{name}.svg)"
