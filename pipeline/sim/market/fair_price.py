"""The latent fair price of a pair, as leading and lagging venues see it.

A geometric random walk at random times with occasional jumps, times a scenario's path and moves by hand; a venue that
lags by L milliseconds perceives the price of L milliseconds ago. All draws come from one generator per pair, seeded by
(seed, pair), so that the walk depends on nothing else.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right

from pipeline.sim.exchange.latency import NS_PER_S
from pipeline.sim.exchange.paths import Moves, PathClock
from pipeline.sim.scenarios.specs import PairSpec

BPS = 1e-4
UPDATE_FACTOR = 0.35  # fair-price updates per book event of one listing
HISTORY_MAX = 4096  # updates kept for venues that lag


class FairPrice:
    """The price of one pair over market time (ns since the market's start)."""

    def __init__(self, pair: str, spec: PairSpec, seed: int, paths: PathClock) -> None:
        self.pair = pair
        self._rng = random.Random(f"{seed}:{pair}:fair")
        self._rate_per_s = max(0.5, spec.rate_per_s * UPDATE_FACTOR)
        # Variance per second is shared between the small moves and the jumps.
        self._jump_share = spec.jump_share
        self._jump_bps = spec.jump_bps
        jump_variance = self._rate_per_s * spec.jump_share * spec.jump_bps**2 / 3.0
        rest = max(0.0, spec.vol_bps**2 - jump_variance)
        self._move_bps = math.sqrt(rest / self._rate_per_s)
        self._times: list[int] = [0]
        self._prices: list[float] = [spec.price]
        self._spec = spec
        self._paths = paths
        self.moves = Moves()  # by hand

    @property
    def now(self) -> float:
        """The price at the last update."""
        return self._prices[-1] * self._factor(self._times[-1])

    def _factor(self, when_ns: int) -> float:
        return self._spec.factor_at(self._paths.at_s(when_ns)) * self.moves.factor_at(when_ns)

    def next_delay_ns(self) -> int:
        return max(1, int(self._rng.expovariate(self._rate_per_s) * NS_PER_S))

    def move(self, now_ns: int) -> float:
        """One update; returns its size in bps, the share of the path and of moves by hand included."""
        if self._rng.random() < self._jump_share:
            step = self._rng.uniform(-self._jump_bps, self._jump_bps)
        else:
            step = self._rng.gauss(0.0, self._move_bps)
        drift = self._factor(now_ns) / self._factor(self._times[-1])
        self._times.append(now_ns)
        self._prices.append(self._prices[-1] * (1.0 + step * BPS))
        if len(self._times) > HISTORY_MAX:
            del self._times[: HISTORY_MAX // 2], self._prices[: HISTORY_MAX // 2]
        return step if drift == 1.0 else ((1.0 + step * BPS) * drift - 1.0) / BPS

    def at(self, when_ns: int) -> float:
        """The price at a past moment."""
        factor = self._factor(when_ns)
        if when_ns >= self._times[-1]:
            return self._prices[-1] * factor
        return self._prices[max(0, bisect_right(self._times, when_ns) - 1)] * factor


class DerivedPrice:
    """A triangle's third side: the ratio of two fair prices (ETH/BTC = ETH/USDT : BTC/USDT)."""

    def __init__(self, over: FairPrice, under: FairPrice) -> None:
        self._over = over
        self._under = under

    @property
    def now(self) -> float:
        return self._over.now / self._under.now

    def at(self, when_ns: int) -> float:
        return self._over.at(when_ns) / self._under.at(when_ns)


class Hawkes:
    """Event times of one listing: exponential-kernel Hawkes process, sampled exactly (Dassios and Zhao 2013).

    ``rate_per_s``: long-run mean; ``clustering``: branching ratio; excitation decays at ``DECAY_PER_S``.
    """

    DECAY_PER_S = 25.0

    def __init__(self, rng: random.Random, rate_per_s: float, clustering: float) -> None:
        self._rng = rng
        self._base = rate_per_s * (1.0 - clustering)
        self._jump = clustering * self.DECAY_PER_S
        self._excited = rate_per_s * clustering  # intensity above the base, at the last event

    def next_delay_s(self) -> float:
        """Time to the next event, which then excites its successors."""
        rng, decay = self._rng, self.DECAY_PER_S
        delay = rng.expovariate(self._base)
        if self._excited > 0.0:
            draw = 1.0 + decay * math.log(max(1e-300, rng.random())) / self._excited
            if draw > 0.0:
                delay = min(delay, -math.log(draw) / decay)
        self._excited = self._excited * math.exp(-decay * delay) + self._jump
        return delay
