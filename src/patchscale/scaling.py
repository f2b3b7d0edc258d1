"""Does the loss fall with the number of parameters? Slopes with intervals over blocks of days."""

import numpy as np

from patchscale.metrics import bootstrap_interval


def loss_slope(losses: np.ndarray, n_params: np.ndarray, horizon: int) -> dict[str, float | int]:
    """Return the least-squares slope of the mean loss on log10 N, with a 95 % interval.

    The slope is linear in the losses, so each day has one, and resampling days in blocks
    resamples the slope.

    Parameters
    ----------
    losses
        Daily log-losses on the same days, shape (days, sizes), at least two sizes.
    n_params
        Counted parameters, shape (sizes,).
    horizon
        Sets the mean block of the bootstrap.
    """
    x = np.log10(n_params)
    centred = x - x.mean()
    daily = losses @ (centred / (centred**2).sum())
    return {"sizes": len(x), "days": len(daily)} | mean_with_interval(daily, horizon, "slope")


def mean_with_interval(daily: np.ndarray, horizon: int, name: str) -> dict[str, float]:
    """Return a daily series' mean and 95 % interval as `name`, `name_low`, `name_high`."""
    (low,), (high,) = bootstrap_interval(
        lambda rows: np.array([daily[rows].mean()]), len(daily), horizon
    )
    return {name: float(daily.mean()), f"{name}_low": low, f"{name}_high": high}
