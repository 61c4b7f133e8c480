"""What a paper order meets by chance: how long its way takes, who was there first, when its answer comes."""

from __future__ import annotations

import random
from math import exp, log

from pipeline.model.config import PaperConfig
from pipeline.model.units import PPM

P99_DEVIATIONS = 2.3263478740408408  # standard deviations between the median and the 99th percentile of a normal one


class OrderChance:
    """Draws for the orders of one venue. ``source``: where chance comes from; one with a seed repeats itself.

    The way takes a log-normal time through the two configured percentiles: what is measured between hosts looks like
    that, with a tail of its own.
    """

    def __init__(self, config: PaperConfig, source: random.Random | None = None) -> None:
        self._config = config
        self._source = source or random.Random()
        self._median_s = float(config.latency_ms) / 1000
        tail_s = self._median_s if config.latency_p99_ms is None else float(config.latency_p99_ms) / 1000
        self._spread = log(tail_s / self._median_s) / P99_DEVIATIONS if tail_s > self._median_s else 0.0

    def latency_s(self) -> float:
        """How long this order is on its way."""
        if not self._spread:
            return self._median_s
        return self._median_s * exp(self._spread * self._source.gauss())

    def missed(self) -> bool:
        """Whether others have taken what the book shows before this order."""
        return self._of(self._config.missed_ppm)

    def late_s(self) -> float:
        """How much later than the execution its answer comes; 0 as a rule."""
        return self._config.late_ms / 1000 if self._of(self._config.late_ppm) else 0.0

    def _of(self, share_ppm: int) -> bool:
        return share_ppm > 0 and self._source.randrange(PPM) < share_ppm
