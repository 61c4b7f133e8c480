"""Request budgets of a venue per endpoint class, and silence after the venue has said 429 or 418.

Token buckets for questions, which may wait. A bucket lets up to twice its capacity into one window (what was saved
before, and what flows in meanwhile), so orders, of which one too many breaks a leg, are counted in a rolling window.

One ``Throttle`` serves one process's connections to one venue. Several processes share a key and an IP, so each takes
only ``share`` of the venue's published budget (orders are placed by one process, which has all of that bucket); what
the venue's reply headers say corrects it downwards.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from pipeline.model.clock import mono_ns

ROLLING_SLACK = 1.1  # a window as the venue sees it: two requests may arrive closer to each other than they left
SHARE_DEFAULT = 0.5  # feed, poller, executor, guard and supervisor share one address; hedges need headroom
_NS = 1_000_000_000


class Limit(msgspec.Struct, frozen=True):
    """``capacity`` units per ``window_s`` seconds, as a token bucket; ``rolling``: in any window, never one more.
    Not ``shared``: one process has it all."""

    capacity: float
    window_s: float
    shared: bool = True
    rolling: bool = False


class _Bucket:
    __slots__ = ("capacity", "per_ns", "stamp_ns", "tokens")

    def __init__(self, limit: Limit, share: float, now_ns: int) -> None:
        part = share if limit.shared else 1.0
        self.capacity = max(1.0, limit.capacity * part)
        self.per_ns = limit.capacity * part / (limit.window_s * _NS)
        self.tokens = self.capacity
        self.stamp_ns = now_ns

    def delay_s(self, now_ns: int, wanted: float, *, take: bool) -> float:
        """Seconds until ``wanted`` is there; 0.0 = now (and taken, if ``take``)."""
        self.tokens = min(self.capacity, self.tokens + (now_ns - self.stamp_ns) * self.per_ns)
        self.stamp_ns = now_ns
        if self.tokens >= wanted:
            if take:
                self.tokens -= wanted
            return 0.0
        return (wanted - self.tokens) / self.per_ns / _NS

    def left(self, now_ns: int, count: float) -> None:
        """The venue says that ``count`` are left."""
        self.delay_s(now_ns, 0.0, take=False)
        self.tokens = min(self.tokens, max(0.0, count))


class _Window:
    """At most ``capacity`` units in any ``window_s`` seconds."""

    __slots__ = ("_taken", "capacity", "window_ns")

    def __init__(self, limit: Limit, share: float) -> None:
        self.capacity = max(1.0, limit.capacity * (share if limit.shared else 1.0))
        self.window_ns = int(limit.window_s * ROLLING_SLACK * _NS)
        self._taken: deque[tuple[int, float]] = deque()

    def delay_s(self, now_ns: int, wanted: float, *, take: bool) -> float:
        """Seconds until ``wanted`` more fit; 0.0 = now (and taken, if ``take``)."""
        taken = self._taken
        while taken and now_ns - taken[0][0] >= self.window_ns:
            taken.popleft()
        over = sum(units for _, units in taken) + wanted - self.capacity
        if over <= 0:
            if take:
                taken.append((now_ns, wanted))
            return 0.0
        for at_ns, units in taken:
            over -= units
            if over <= 0:
                return (at_ns + self.window_ns - now_ns) / _NS
        return self.window_ns / _NS

    def left(self, now_ns: int, count: float) -> None:
        """The venue says that ``count`` are left: what it counts beyond ours counts as sent now."""
        self.delay_s(now_ns, 0.0, take=False)
        unseen = self.capacity - sum(units for _, units in self._taken) - max(0.0, count)
        if unseen > 0:
            self._taken.append((now_ns, unseen))


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
        self._buckets: dict[str, _Bucket | _Window] = {
            name: _Window(limit, share) if limit.rolling else _Bucket(limit, share, now_ns)
            for name, limit in limits.items()
        }
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
        return entry.delay_s(now_ns, min(weight, entry.capacity), take=take)

    def remaining(self, bucket: str, venue_says: float) -> None:
        """Correct a bucket downwards by the venue's own count of what is left."""
        self._buckets[bucket].left(self._clock_ns(), venue_says)

    async def acquire(self, bucket: str, weight: float = 1.0) -> None:
        """Wait until ``weight`` is taken. Cancellation takes nothing."""
        delay = self.delay_s(bucket, weight, take=True)
        while delay > 0.0:
            await asyncio.sleep(delay)
            delay = self.delay_s(bucket, weight, take=True)
