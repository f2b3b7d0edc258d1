"""Normalised context windows for prediction dates, gathered from one tensor.

`level` features are standardised inside each window, because their level drifts over the
history; `stationary` ones are z-scored with the statistics of the training dates, because their
own level carries the signal.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

CONSTANT = 1e-12
"""Spread, relative to the mean, below which a window only holds rounding."""
NORMALISATIONS = ("kind", "window", "zscore")


class Windows:
    """Contexts of `context_length` sessions that end on a row of a feature table.

    Parameters
    ----------
    values
        Feature table, shape (T, F), no NaN, rows ascending in time.
    kinds
        `level` or `stationary` for each of the F features.
    train_rows
        Rows of the training dates; only they set the z-score's statistics.
    context_length
        Sessions in a window, the last of which is the prediction date.
    normalisation
        `kind` as above; `window` or `zscore` treat all features alike.
    """

    def __init__(
        self,
        values: np.ndarray,
        kinds: Sequence[str],
        train_rows: np.ndarray,
        context_length: int,
        normalisation: str = "kind",
    ) -> None:
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation {normalisation!r}; allowed: {NORMALISATIONS}")
        inside = {
            "kind": [kind == "level" for kind in kinds],
            "window": [True] * len(kinds),
            "zscore": [False] * len(kinds),
        }[normalisation]
        history = values[train_rows]
        centre = np.broadcast_to(history.mean(axis=0), values.shape).copy()
        scale = np.broadcast_to(history.std(axis=0), values.shape).copy()
        windows = np.lib.stride_tricks.sliding_window_view(values, context_length, axis=0)
        full = slice(context_length - 1, None)
        centre[full] = np.where(inside, windows.mean(axis=-1), centre[full])
        scale[full] = np.where(inside, windows.std(axis=-1), scale[full])
        scale[scale <= CONSTANT * np.abs(centre)] = 1.0
        self.context_length = context_length
        # float64 until normalised: volumes accumulate to 1e12, beyond float32's digits
        self._views = torch.tensor(values).unfold(0, context_length, 1)  # (T', F, context)
        self._centre = torch.from_numpy(centre)
        self._scale = torch.from_numpy(scale)

    def __call__(self, rows: Tensor) -> Tensor:
        """Return float32 windows ending on `rows`; `(B,) -> (B, context, F)`."""
        raw = self._views[rows - (self.context_length - 1)]  # (B, F, context)
        scaled = (raw - self._centre[rows][:, :, None]) / self._scale[rows][:, :, None]
        return scaled.transpose(1, 2).float()
