"""Waiting times between attempts: exponential, with jitter, bounded, so that many clients do not retry in step."""

from __future__ import annotations

import random

BASE_S = 0.25
CAP_S = 30.0
FACTOR = 2.0


class Backoff:
    """Next delay is uniform in [ceiling/2, ceiling]; the ceiling doubles from ``base_s`` to ``cap_s``.

    ``rng`` is injected so that a test is exact. ``floor`` honours a venue's Retry-After.
    """

    __slots__ = ("_attempt", "_base_s", "_cap_s", "_rng")

    def __init__(self, *, base_s: float = BASE_S, cap_s: float = CAP_S, rng: random.Random | None = None) -> None:
        if not 0 < base_s <= cap_s:
            raise ValueError(f"0 < base_s <= cap_s wanted: base_s={base_s} cap_s={cap_s}")
        self._base_s = base_s
        self._cap_s = cap_s
        self._rng = rng or random.Random()
        self._attempt = 0

    def next_s(self, floor_s: float = 0.0) -> float:
        """Seconds to wait before the next attempt, at least ``floor_s``."""
        ceiling = min(self._cap_s, self._base_s * FACTOR ** min(self._attempt, 32))
        self._attempt += 1
        return max(floor_s, ceiling * (0.5 + 0.5 * self._rng.random()))

    def reset(self) -> None:
        """Call only after the session has proved itself, not on mere connection (flapping must keep backing off)."""
        self._attempt = 0
