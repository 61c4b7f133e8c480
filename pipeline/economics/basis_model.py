"""A pair's basis as a mean-reverting process, learned online from one observation a minute.

Exponential mean and variance (half-life 96 h), covariance at a lag of 30 minutes, from these the rate of reversion; and
how far the model is to be trusted after so many half-lives.

``b`` is the pair's basis in bps: (futures price - spot price) / spot price. ``s`` is the direction of a hedge: 1 for
long spot and short futures, -1 for the other. ``y = s b`` at the prices of leaving is the basis as that hedge sees it:
the smaller, the cheaper its exit. Both directions of a pair share one model, which is of ``b``; direction ``s`` sees
its mean as ``s mu``.

The arithmetic is in functions of one float64 array, so that numba compiles it as it stands (``bench.economics``).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

HALF_LIFE_H = 96.0  # of the exponential weights
LAG_MINUTES = 30
RHO_MIN, RHO_MAX = 0.05, 0.999
THETA_MIN, THETA_MAX = 0.002, 3.0  # per hour
SD_MIN_BPS = 1.0
HOURS_MAX = 278.0  # observed hours that count
TRUST_SAMPLES = 3.0
HALF_LIFE_TRADED_MAX_H = 24.0  # what does not revert within a day is no edge
UNKNOWN_SD_BPS, UNKNOWN_HALF_LIFE_H = 10.0, 4.0
DECAY = 0.5 ** (1.0 / (HALF_LIFE_H * 60.0))

# --- state float64[STATE_SIZE]: minutes seen, weights and moments, then the last LAG_MINUTES observations as a ring ---
MINUTES, WEIGHT, MEAN, VARIANCE, LAG_WEIGHT, COVARIANCE, RING = range(7)
STATE_SIZE = RING + LAG_MINUTES


def observe(state: Floats, basis_bps: float) -> None:
    """One minute's mean of ``b`` into ``state``, float64[STATE_SIZE]: to be called once a minute, because the weights
    count calls."""
    seen = int(state[MINUTES])
    state[WEIGHT] = state[WEIGHT] * DECAY + 1.0
    before = basis_bps - state[MEAN]
    state[MEAN] += before / state[WEIGHT]
    state[VARIANCE] += (before * (basis_bps - state[MEAN]) - state[VARIANCE]) / state[WEIGHT]
    place = RING + seen % LAG_MINUTES
    if seen >= LAG_MINUTES:
        state[LAG_WEIGHT] = state[LAG_WEIGHT] * DECAY + 1.0
        product = (basis_bps - state[MEAN]) * (state[place] - state[MEAN])
        state[COVARIANCE] += (product - state[COVARIANCE]) / state[LAG_WEIGHT]
    state[place] = basis_bps
    state[MINUTES] = seen + 1


def theta_per_h(state: Floats) -> float:
    """Rate of reversion per hour, from THETA_MIN to THETA_MAX, of ``state``, float64[STATE_SIZE]."""
    rho = state[COVARIANCE] / state[VARIANCE] if state[VARIANCE] > 0.0 else RHO_MAX
    rho = min(RHO_MAX, max(RHO_MIN, rho))
    return float(min(THETA_MAX, max(THETA_MIN, -log(rho) * 60.0 / LAG_MINUTES)))


def view_of(state: Floats, basis_now_bps: float) -> tuple[float, float, float, float]:
    """(mu, sd, half-life in hours, trust) of ``b`` as ``state``, float64[STATE_SIZE], has it; ``basis_now_bps`` is
    ``b`` now. All in bps but for the trust, 0 to 1."""
    if state[LAG_WEIGHT] == 0.0:
        return basis_now_bps, UNKNOWN_SD_BPS, UNKNOWN_HALF_LIFE_H, 0.0
    theta = theta_per_h(state)
    half_life_h = log(2.0) / theta
    samples = theta * min(state[MINUTES] / 60.0, HOURS_MAX) / 2.0
    trust = samples / (samples + TRUST_SAMPLES) if half_life_h <= HALF_LIFE_TRADED_MAX_H else 0.0
    mu = trust * state[MEAN] + (1.0 - trust) * basis_now_bps
    return mu, max(SD_MIN_BPS, sqrt(max(state[VARIANCE], 0.0))), half_life_h, trust


class BasisView(msgspec.Struct, frozen=True):
    """What a decision takes from the model. ``trust`` 0: no reversion is credited."""

    mu_bps: float
    sd_bps: float
    half_life_h: float
    trust: float


class BasisModel:
    """One pair of a spot and a futures instrument."""

    def __init__(self, state: Sequence[float] = ()) -> None:
        """``state``: what :meth:`state` gave, of an earlier run. Raises ``ValueError`` for another length."""
        if len(state) not in (0, STATE_SIZE):
            raise ValueError(f"basis model: a state of {len(state)} numbers, wanted {STATE_SIZE}")
        self._state = np.zeros(STATE_SIZE, dtype=np.float64)
        if len(state):
            self._state[:] = state

    def observe(self, basis_bps: float) -> None:
        """The mean basis of one minute. A minute without a proved book is left out: call nothing."""
        observe(self._state, basis_bps)

    def view(self, basis_now_bps: float, s: int = 1) -> BasisView:
        """The model as direction ``s`` sees it; ``basis_now_bps`` is ``b``, not ``y``."""
        mu, sd, half_life_h, trust = view_of(self._state, basis_now_bps)
        return BasisView(s * float(mu), float(sd), float(half_life_h), float(trust))

    def state(self) -> list[float]:
        """Everything that another model needs to go on like this one."""
        return [float(number) for number in self._state]
