"""Figures as deterministic SVG bytes, in colour-blind safe colours."""

from pathlib import Path
from typing import Any

from patchscale.files import replacing

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"  # Okabe and Ito (2008)


def loss_vs_n(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw test log-loss with 95 % intervals against N, a panel per horizon, as SVG.

    Parameters
    ----------
    rows
        For each horizon: `cells`, a list of dicts with `budget, n_params, log_loss,
        log_loss_low, log_loss_high`; `absent`, a list of budget and N; and the test log-loss of
        the baselines `prior` and `vol_logistic`.
    path
        Where the figure goes.
    """
    figure, grid = _panels(1, len(rows), (2.6 * len(rows), 3.1), sharex=True)
    axes = grid[0]
    for axis, (horizon, row) in zip(axes, rows.items(), strict=True):
        cells = row["cells"]
        axis.errorbar(
            [cell["n_params"] for cell in cells],
            [cell["log_loss"] for cell in cells],
            yerr=[
                [cell["log_loss"] - cell["log_loss_low"] for cell in cells],
                [cell["log_loss_high"] - cell["log_loss"] for cell in cells],
            ],
            fmt="o",
            color=BLUE,
            capsize=3,
            label="PatchTST, 95 % interval",
        )
        axis.axhline(row["vol_logistic"], color=ORANGE, linestyle="--", label="volatility logistic")
        axis.axhline(row["prior"], color=GREY, linestyle=":", label="training prior")
        for _, n_params in row["absent"]:
            axis.annotate(
                "not\nrun",
                (n_params, 0.02),
                xycoords=("data", "axes fraction"),
                ha="center",
                color=GREY,
                fontsize=8,
            )
        axis.set_xscale("log")
        sizes = [cell["n_params"] for cell in cells] + [n for _, n in row["absent"]]
        names = [cell["budget"] for cell in cells] + [name for name, _ in row["absent"]]
        axis.set_xticks(sizes, names)
        axis.minorticks_off()
        axis.set_xlim(1e6, 4e9)
        axis.set_title(f"{horizon}: {row['sessions']} session{'s' * (row['sessions'] > 1)} ahead")
        axis.spines[["top", "right"]].set_visible(False)
    for axis, (low, high) in zip(
        axes, _same_height([axis.get_ylim() for axis in axes]), strict=True
    ):
        axis.set_ylim(low, high)
    axes[0].set_ylabel("test log-loss (lower is better)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False)
    figure.supxlabel("parameters", y=0.11, fontsize=9)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    _save(figure, path)


def searches(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw each search as SVG: validation log-loss by trial, and what it depended on.

    Parameters
    ----------
    rows
        For each cell: `trials`, a table of `trial, state, value, curve`, and `importance`, a table
        of `parameter, importance`.
    path
        Where the figure goes.
    """
    columns = max(1, len(rows))
    figure, grid = _panels(2, columns, (3.2 * columns, 5.0), height_ratios=(3, 2))
    if not rows:
        grid[0, 0].set_title("no search was made")
    for column, (cell, row) in enumerate(rows.items()):
        axis, trials = grid[0, column], row["trials"]
        done = trials[trials["state"] == "COMPLETE"]
        pruned = trials[trials["state"] == "PRUNED"]
        axis.plot(done["trial"], done["value"], "o", color=BLUE, markersize=4, label="completed")
        axis.plot(
            pruned["trial"],
            pruned["curve"].map(min).astype(float),
            "x",
            color=GREY,
            markersize=5,
            label="pruned",
        )
        axis.step(
            [*done["trial"], len(trials) - 1],
            [*done["value"].cummin(), done["value"].min()],
            where="post",
            color=BLUE,
            linewidth=1,
            label="best so far",
        )
        if trials["state"].iloc[0] == "COMPLETE":
            axis.axhline(
                trials["value"].iloc[0], color=ORANGE, linestyle="--", label="trial 0, the table"
            )
        axis.set_title(cell)
        axis.set_xlabel("trial")
        bars = row["importance"][::-1]
        grid[1, column].barh(bars["parameter"], bars["importance"], color=BLUE)
        grid[1, column].set_xlim(0, 1)
        grid[1, column].set_xlabel("importance for the early loss")
    limits = [axis.get_ylim() for axis in grid[0]]
    for axis, (low, high) in zip(grid[0], _same_height(limits), strict=True):
        axis.set_ylim(low, high)
    for axis in grid.flat:
        axis.spines[["top", "right"]].set_visible(False)
    grid[0, 0].set_ylabel("validation log-loss")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=min(4, 2 * columns), frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    _save(figure, path)


def _panels(rows: int, columns: int, size: tuple[float, float], **how: Any) -> tuple[Any, Any]:
    """Return a figure and its grid of axes."""
    import matplotlib as mpl  # 1.5 s to import

    mpl.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "patchscale", "svg.fonttype": "none", "font.size": 9})
    return plt.subplots(rows, columns, figsize=size, squeeze=False, **how)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def _same_height(limits: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Widen limits about their middles to one height: a unit of loss looks alike everywhere."""
    half = max(high - low for low, high in limits) / 2
    return [((low + high) / 2 - half, (low + high) / 2 + half) for low, high in limits]
