"""Waiting times between attempts: exponential, with jitter, bounded, so that many clients do not retry in step."""

from __future__ import annotations

import random

from pipeline.model.errors import AuthRefused, GatewayRefused, RateLimited, VenueError

BASE_S = 0.25
CAP_S = 30.0
FACTOR = 2.0
KEY_RETRY_S = 120.0  # a key that the venue refused: keys, permissions and empty accounts can be mended
#: A gateway's answer passes by itself. With this factor a wait is 1 s and a twentieth of the time that it has lasted
#: (at most 0.08 of it): a minute of it costs that minute and 4 s, a day of it some 500 requests.
GATEWAY_BASE_S = 1.0
GATEWAY_CAP_S = 300.0
GATEWAY_FACTOR = 1.04


class Backoff:
    """Next delay is uniform in [ceiling/2, ceiling]; the ceiling grows by ``factor`` from ``base_s`` to ``cap_s``.

    ``rng`` is injected so that a test is exact. ``floor`` honours a venue's Retry-After.
    """

    __slots__ = ("_base_s", "_cap_s", "_ceiling_s", "_factor", "_rng")

    def __init__(
        self,
        *,
        base_s: float = BASE_S,
        cap_s: float = CAP_S,
        factor: float = FACTOR,
        rng: random.Random | None = None,
    ) -> None:
        if not 0 < base_s <= cap_s:
            raise ValueError(f"0 < base_s <= cap_s wanted: base_s={base_s} cap_s={cap_s}")
        self._base_s = base_s
        self._cap_s = cap_s
        self._factor = factor
        self._rng = rng or random.Random()
        self._ceiling_s = base_s

    def next_s(self, floor_s: float = 0.0) -> float:
        """Seconds to wait before the next attempt, at least ``floor_s``."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(self._cap_s, ceiling_s * self._factor)
        return max(floor_s, ceiling_s * (0.5 + 0.5 * self._rng.random()))

    def reset(self) -> None:
        """Call only after the session has proved itself, not on mere connection (flapping must keep backing off)."""
        self._ceiling_s = self._base_s


def gateway_backoff(rng: random.Random | None = None) -> Backoff:
    """The pauses after a gateway's answers, bounded, for ever."""
    return Backoff(base_s=GATEWAY_BASE_S, cap_s=GATEWAY_CAP_S, factor=GATEWAY_FACTOR, rng=rng)


class ReconnectPauses:
    """How long to wait after a failed attempt, by who refused it. No attempt is the last one."""

    __slots__ = ("_gateway", "_own")

    def __init__(self, rng: random.Random | None = None) -> None:
        self._own = Backoff(rng=rng)
        self._gateway = gateway_backoff(rng)

    def next_s(self, error: VenueError | None = None) -> float:
        """Seconds until the next attempt after ``error``; None: the connection was lost."""
        if isinstance(error, AuthRefused):
            return KEY_RETRY_S
        if isinstance(error, GatewayRefused):
            return self._gateway.next_s(error.retry_after_s)
        return self._own.next_s(error.retry_after_s if isinstance(error, RateLimited) else 0.0)

    def reset(self) -> None:
        """Call only after a session has proved itself."""
        self._own.reset()
        self._gateway.reset()
