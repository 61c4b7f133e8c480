"""A pair's basis as a mean-reverting process, learned online from one observation a minute.

Exponential mean and variance (half-life 96 h), covariance at a lag of 30 minutes, from these the rate of reversion; and
how far the model is to be trusted after so many half-lives. Both directions of a pair share one model: the model is of
``b``, the view of direction ``s`` has mean ``s mu``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import log, sqrt

import msgspec

HALF_LIFE_H = 96.0  # of the exponential weights
LAG_MINUTES = 30
RHO_MIN, RHO_MAX = 0.05, 0.999
THETA_MIN, THETA_MAX = 0.002, 3.0  # per hour
SD_MIN_BPS = 1.0
HOURS_MAX = 278.0  # observed hours that count
TRUST_SAMPLES = 3.0
HALF_LIFE_TRADED_MAX_H = 24.0  # what does not revert within a day is no edge
UNKNOWN_SD_BPS, UNKNOWN_HALF_LIFE_H = 10.0, 4.0
_DECAY = 0.5 ** (1.0 / (HALF_LIFE_H * 60.0))


class BasisView(msgspec.Struct, frozen=True):
    """What a decision takes from the model. ``trust`` 0: no reversion is credited."""

    mu_bps: float
    sd_bps: float
    half_life_h: float
    trust: float


@dataclass(slots=True)
class BasisModel:
    """One pair of a spot and a futures instrument. ``observe`` once a minute with the mean basis of that minute."""

    minutes: int = 0
    weight: float = 0.0
    mean_bps: float = 0.0
    variance: float = 0.0
    lag_weight: float = 0.0
    covariance: float = 0.0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=LAG_MINUTES))

    def observe(self, basis_bps: float) -> None:
        """One minute's mean of ``b``. Minutes without a proved book are left out: call nothing."""
        self.minutes += 1
        self.weight = self.weight * _DECAY + 1.0
        share = 1.0 / self.weight
        before = basis_bps - self.mean_bps
        self.mean_bps += share * before
        self.variance += share * (before * (basis_bps - self.mean_bps) - self.variance)
        if len(self._recent) == LAG_MINUTES:
            self.lag_weight = self.lag_weight * _DECAY + 1.0
            product = (basis_bps - self.mean_bps) * (self._recent[0] - self.mean_bps)
            self.covariance += (product - self.covariance) / self.lag_weight
        self._recent.append(basis_bps)

    @property
    def theta_per_h(self) -> float:
        """Rate of reversion."""
        rho = self.covariance / self.variance if self.variance > 0 else RHO_MAX
        rho = min(RHO_MAX, max(RHO_MIN, rho))
        lag_h = LAG_MINUTES / 60.0
        return min(THETA_MAX, max(THETA_MIN, -log(rho) / lag_h))

    def view(self, basis_now_bps: float, s: int = 1) -> BasisView:
        """The model as direction ``s`` sees it; ``basis_now_bps`` is ``b``, not ``y``."""
        if not self.lag_weight:
            return BasisView(s * basis_now_bps, UNKNOWN_SD_BPS, UNKNOWN_HALF_LIFE_H, 0.0)
        theta = self.theta_per_h
        half_life_h = log(2) / theta
        samples = theta * min(self.minutes / 60.0, HOURS_MAX) / 2.0
        trust = samples / (samples + TRUST_SAMPLES) if half_life_h <= HALF_LIFE_TRADED_MAX_H else 0.0
        mu = trust * self.mean_bps + (1.0 - trust) * basis_now_bps
        return BasisView(s * mu, max(SD_MIN_BPS, sqrt(max(self.variance, 0.0))), half_life_h, trust)

    def state(self) -> dict[str, object]:
        """What a restart needs (:meth:`restored`)."""
        names = ("minutes", "weight", "mean_bps", "variance", "lag_weight", "covariance")
        return {**{name: getattr(self, name) for name in names}, "recent": list(self._recent)}

    @classmethod
    def restored(cls, state: dict[str, object]) -> BasisModel:
        """Raises ``KeyError`` or ``ValueError`` for what :meth:`state` did not write."""
        recent = state["recent"]
        if not isinstance(recent, list):
            raise ValueError(f"basis model: recent is {type(recent).__name__}, wanted a list")
        model = cls(minutes=int(str(state["minutes"])))
        for name in ("weight", "mean_bps", "variance", "lag_weight", "covariance"):
            setattr(model, name, float(str(state[name])))
        model._recent.extend(float(one) for one in recent)
        return model
