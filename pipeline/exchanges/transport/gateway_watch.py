"""What answers of gateways, and silences that venues ask for, do to a client's budgets."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable

from pipeline.exchanges.transport.backoff import gateway_backoff
from pipeline.exchanges.transport.throttle import Throttle
from pipeline.model.clock import mono_ns
from pipeline.model.errors import GatewayRefused, RateLimited, VenueError

SERVER_ERRORS = range(500, 600)  # of one answer: a busy back end, which others may get past


class _Series:
    """Refusals of one bucket since the venue itself last answered there."""

    __slots__ = ("pauses", "silent_until_ns", "since_mono_ns")

    def __init__(self, rng: random.Random | None) -> None:
        self.pauses = gateway_backoff(rng)
        self.silent_until_ns = 0
        self.since_mono_ns = 0


class GatewayWatch:
    """Silences the buckets that a gateway refuses, longer the longer it lasts, until the venue answers there again: a
    gateway may refuse one path and let another through for days.

    ``count``: gateways' answers so far; ``last``: the newest one's text. ``rate_limited``: answers so far by which the
    venue's own rate limit refused a request. ``clock_ns`` (the throttle's) and ``rng`` are injected where a run must
    repeat.
    """

    def __init__(
        self, throttle: Throttle, *, clock_ns: Callable[[], int] = mono_ns, rng: random.Random | None = None
    ) -> None:
        self._throttle = throttle
        self._clock_ns = clock_ns
        self._series: defaultdict[str, _Series] = defaultdict(lambda: _Series(rng))
        self.count = 0
        self.rate_limited = 0
        self.last = ""

    @property
    def since_mono_ns(self) -> int:
        """When the oldest series of refusals began that still goes on; 0 = the venue itself answered last."""
        return min((series.since_mono_ns for series in self._series.values() if series.since_mono_ns), default=0)

    def note(self, error: VenueError | None, bucket: str) -> None:
        """One whole answer to a request of ``bucket``; ``error``: what it carried, None for a success.

        A silence that the venue asks for is this bucket's alone, but for one of the address: what asks too much of one
        endpoint must not keep an order or a cancel from leaving."""
        if isinstance(error, GatewayRefused):
            self._refused(error, bucket)
            return
        series = self._series[bucket]
        if series.since_mono_ns:
            series.since_mono_ns = 0
            series.pauses.reset()
        if isinstance(error, RateLimited):
            self.rate_limited += 1
            self._throttle.silence(error.retry_after_s, "" if error.of_address else bucket)

    def _refused(self, error: GatewayRefused, bucket: str) -> None:
        series, now_ns = self._series[bucket], self._clock_ns()
        self.count += 1
        self.last = error.message
        series.since_mono_ns = series.since_mono_ns or now_ns
        if error.code in SERVER_ERRORS and not error.retry_after_s:
            return  # who asks paces himself; a 503 in a thousand must not keep an order waiting
        if now_ns >= series.silent_until_ns:  # answers to requests that left before the silence do not lengthen it
            pause_s = series.pauses.next_s(error.retry_after_s)
            series.silent_until_ns = now_ns + int(pause_s * 1e9)
        self._throttle.silence((series.silent_until_ns - now_ns) / 1e9, bucket)
