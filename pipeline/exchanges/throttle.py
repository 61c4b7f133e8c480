"""Request budgets of a venue: token buckets per endpoint class, and silence after the venue has said 429 or 418.

One ``Throttle`` serves one process's connections to one venue. Several processes share a key and an IP, so each takes
only ``share`` of the venue's published budget (orders are placed by one process, which has all of that bucket); what
the venue's reply headers say corrects it downwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from pipeline.model.clock import mono_ns

SHARE_DEFAULT = 0.5  # feed, poller, executor, guard and supervisor share one address; hedges need headroom
_NS = 1_000_000_000


class Limit(msgspec.Struct, frozen=True):
    """``capacity`` units per ``window_s`` seconds, as a token bucket. Not ``shared``: one process has it all."""

    capacity: float
    window_s: float
    shared: bool = True


class _Bucket:
    __slots__ = ("capacity", "per_ns", "stamp_ns", "tokens")

    def __init__(self, limit: Limit, share: float, now_ns: int) -> None:
        part = share if limit.shared else 1.0
        self.capacity = max(1.0, limit.capacity * part)
        self.per_ns = limit.capacity * part / (limit.window_s * _NS)
        self.tokens = self.capacity
        self.stamp_ns = now_ns

    def refill(self, now_ns: int) -> None:
        self.tokens = min(self.capacity, self.tokens + (now_ns - self.stamp_ns) * self.per_ns)
        self.stamp_ns = now_ns


class Throttle:
    """Buckets by name; ``limits`` must name every bucket that is asked for."""

    def __init__(
        self,
        limits: Mapping[str, Limit],
        *,
        share: float = SHARE_DEFAULT,
        clock_ns: Callable[[], int] = mono_ns,
    ) -> None:
        self._clock_ns = clock_ns
        now_ns = clock_ns()
        self._buckets = {name: _Bucket(limit, share, now_ns) for name, limit in limits.items()}
        self._silent_until_ns = 0
        self._bucket_silent_until_ns = dict.fromkeys(limits, 0)

    @property
    def silent_until_ns(self) -> int:
        """Nothing may be sent before this moment (monotonic)."""
        return self._silent_until_ns

    def silence(self, seconds: float, bucket: str = "") -> None:
        """The venue said 429 or 418: send nothing for so long (in one ``bucket``, where the venue limits each by
        itself). A shorter later one never shortens it."""
        until = self._clock_ns() + int(seconds * _NS)
        if bucket:
            self._bucket_silent_until_ns[bucket] = max(self._bucket_silent_until_ns[bucket], until)
        else:
            self._silent_until_ns = max(self._silent_until_ns, until)

    def try_acquire(self, bucket: str, weight: float = 1.0) -> bool:
        """Take ``weight`` now, or nothing. False inside a silence or when the budget is short."""
        return self.delay_s(bucket, weight, take=True) == 0.0

    def delay_s(self, bucket: str, weight: float = 1.0, *, take: bool = False) -> float:
        """Seconds until ``weight`` could be taken; 0.0 = now (and taken, if ``take``)."""
        now_ns = self._clock_ns()
        silent_until_ns = max(self._silent_until_ns, self._bucket_silent_until_ns[bucket])
        if now_ns < silent_until_ns:
            return (silent_until_ns - now_ns) / _NS
        entry = self._buckets[bucket]
        entry.refill(now_ns)
        wanted = min(weight, entry.capacity)
        if entry.tokens >= wanted:
            if take:
                entry.tokens -= wanted
            return 0.0
        return (wanted - entry.tokens) / entry.per_ns / _NS

    def remaining(self, bucket: str, venue_says: float) -> None:
        """Correct a bucket downwards by the venue's own count of what is left."""
        entry = self._buckets[bucket]
        entry.refill(self._clock_ns())
        entry.tokens = min(entry.tokens, max(0.0, venue_says))

    async def acquire(self, bucket: str, weight: float = 1.0) -> None:
        """Wait until ``weight`` is taken. Cancellation takes nothing."""
        delay = self.delay_s(bucket, weight, take=True)
        while delay > 0.0:
            await asyncio.sleep(delay)
            delay = self.delay_s(bucket, weight, take=True)
