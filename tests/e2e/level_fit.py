"""Is a quantity level per operation? Least squares over samples of several lives, with an honest error.

A life is one process from its start to its end: each has its own height, all share the slopes. Neighbouring samples are
alike, so that they count as fewer than they are: the error is widened by the residuals' correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
SAMPLES_MIN = 6  # of a life that counts


@dataclass(frozen=True, slots=True)
class Slope:
    """``value`` +- ``error`` (one standard error) per unit of its regressor, by ``samples`` of ``lives``."""

    value: float
    error: float
    samples: int
    lives: int

    def at_most(self, bound: float) -> bool:
        """Whether it is not proved to be more than ``bound``: two errors are its due."""
        return self.value - 2 * self.error <= bound

    def tells(self, bound: float) -> bool:
        """Whether the samples could have proved a slope of twice ``bound``: its error is small enough."""
        return 2 * self.error <= bound


def slopes(lives: Sequence[tuple[Matrix, Matrix]]) -> list[Slope] | None:
    """Slopes of a quantity, one per regressor. ``lives``: (regressors [samples, k], quantity [samples]) of each life.

    None where the samples cannot tell: too few of them, or regressors that move alone or alike.
    """
    kept = [(x, y) for x, y in lives if len(y) >= SAMPLES_MIN]
    if not kept:
        return None
    x = np.concatenate([part - part.mean(axis=0) for part, _ in kept])
    y = np.concatenate([part - part.mean() for _, part in kept])
    samples, count = x.shape
    freedom = samples - len(kept) - count
    scale = np.sqrt((x * x).sum(axis=0))
    if freedom < 1 or not scale.all():
        return None
    square = (x / scale).T @ (x / scale)
    if np.linalg.cond(square) > 1e4:
        return None
    inverse = np.linalg.inv(square)
    found = inverse @ ((x / scale).T @ y)
    rests = y - (x / scale) @ found
    variance = float(rests @ rests) / freedom
    alike = _neighbours(rests, [len(part) for _, part in kept])
    errors = np.sqrt(np.diag(inverse) * variance * (1 + alike) / (1 - alike))
    return [
        Slope(float(value / unit), float(error / unit), samples, len(kept))
        for value, error, unit in zip(found, errors, scale, strict=True)
    ]


def _neighbours(rests: Matrix, lengths: list[int]) -> float:
    """Correlation of a residual with the one before it in the same life, 0 to 0.95."""
    total, at = 0.0, 0
    for length in lengths:
        part = rests[at : at + length]
        total += float(part[1:] @ part[:-1])
        at += length
    power = float(rests @ rests)
    return min(0.95, max(0.0, total / power)) if power else 0.0
