"""Request budgets of a venue per endpoint class, and silence after the venue has said 429 or 418.

Token buckets for questions, which may wait. A bucket lets up to twice its capacity into one window (what was saved
before, and what flows in meanwhile), so orders, of which one too many breaks a leg, are counted in a rolling window.

One ``Throttle`` serves one process's connections to one venue. Several processes share a key and an IP, so each takes
only ``share`` of the venue's published budget (orders are placed by one process, which has all of that bucket); what
the venue's reply headers say corrects it downwards. What a process used is remembered for its successor
(:meth:`Throttle.remember`): a restart does not make the venue forget.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from pipeline.exchanges.transport.budget_file import SILENT, STAMP, TOKEN_SCALE, TOKENS, BudgetMemory
from pipeline.model.clock import mono_ns

ROLLING_SLACK = 1.1  # a window as the venue sees it: two requests may arrive closer to each other than they left
SILENCE_MAX_S = 3 * 86_400  # the longest ban that a venue here knows
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
    __slots__ = ("_base", "_memory", "capacity", "per_ns", "stamp_ns", "tokens")

    def __init__(self, limit: Limit, share: float, now_ns: int) -> None:
        part = share if limit.shared else 1.0
        self.capacity = max(1.0, limit.capacity * part)
        self.per_ns = limit.capacity * part / (limit.window_s * _NS)
        self.tokens = self.capacity
        self.stamp_ns = now_ns
        self._memory: BudgetMemory | None = None
        self._base = 0

    def remember(self, memory: BudgetMemory, base: int, now_ns: int) -> None:
        """Goes on where the process before stopped, and writes down what is used from here on."""
        stamp_ns = memory.words[base + STAMP]
        if 0 < stamp_ns <= now_ns:
            self.stamp_ns, self.tokens = stamp_ns, min(self.tokens, memory.words[base + TOKENS] / TOKEN_SCALE)
        self._memory, self._base = memory, base
        self._save()

    def _save(self) -> None:
        if self._memory is not None:
            self._memory.words[self._base + TOKENS] = int(self.tokens * TOKEN_SCALE)
            self._memory.words[self._base + STAMP] = self.stamp_ns

    def delay_s(self, now_ns: int, wanted: float, *, take: bool) -> float:
        """Seconds until ``wanted`` is there; 0.0 = now (and taken, if ``take``)."""
        self.tokens = min(self.capacity, self.tokens + (now_ns - self.stamp_ns) * self.per_ns)
        self.stamp_ns = now_ns
        if self.tokens >= wanted:
            if take:
                self.tokens -= wanted
                self._save()
            return 0.0
        return (wanted - self.tokens) / self.per_ns / _NS

    def left(self, now_ns: int, count: float) -> None:
        """The venue says that ``count`` are left."""
        self.delay_s(now_ns, 0.0, take=False)
        self.tokens = min(self.tokens, max(0.0, count))
        self._save()


class _Window:
    """At most ``capacity`` units in any ``window_s`` seconds."""

    __slots__ = ("_base", "_memory", "_sum", "_taken", "capacity", "window_ns")

    def __init__(self, limit: Limit, share: float) -> None:
        self.capacity = max(1.0, limit.capacity * (share if limit.shared else 1.0))
        self.window_ns = int(limit.window_s * ROLLING_SLACK * _NS)
        self._taken: deque[tuple[int, float]] = deque()
        self._sum = 0.0  # of the units in it
        self._memory: BudgetMemory | None = None
        self._base = 0

    def remember(self, memory: BudgetMemory, base: int, now_ns: int) -> None:
        """What the process before has taken still counts; what is taken from here on is written down."""
        for at_ns, units in memory.entries(base):
            if 0 < at_ns <= now_ns:
                self._taken.append((at_ns, units))
                self._sum += units
        self._memory, self._base = memory, base

    def _add(self, now_ns: int, units: float) -> None:
        self._taken.append((now_ns, units))
        self._sum += units
        if self._memory is not None:
            self._memory.push(self._base, now_ns, units)

    def delay_s(self, now_ns: int, wanted: float, *, take: bool) -> float:
        """Seconds until ``wanted`` more fit; 0.0 = now (and taken, if ``take``)."""
        taken = self._taken
        while taken and now_ns - taken[0][0] >= self.window_ns:
            self._sum -= taken.popleft()[1]
        if not taken:
            self._sum = 0.0  # no rounding outlives a window
        over = self._sum + wanted - self.capacity
        if over <= 0:
            if take:
                self._add(now_ns, wanted)
            return 0.0
        for at_ns, units in taken:
            over -= units
            if over <= 0:
                return (at_ns + self.window_ns - now_ns) / _NS
        return self.window_ns / _NS

    def left(self, now_ns: int, count: float) -> None:
        """The venue says that ``count`` are left: what it counts beyond ours counts as sent now."""
        self.delay_s(now_ns, 0.0, take=False)
        unseen = self.capacity - self._sum - max(0.0, count)
        if unseen > 0:
            self._add(now_ns, unseen)


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
        self._memory: BudgetMemory | None = None

    def remember(self, path: Path) -> None:
        """Goes on with what the last process with this file left of its budgets and silences, and keeps writing there.
        Raises OSError when the file cannot be had: then every budget is as if nothing had been sent."""
        memory = BudgetMemory(path, list(self._buckets))
        now_ns = self._clock_ns()
        self._silent_until_ns = max(self._silent_until_ns, self._recalled(memory.words[2], now_ns))
        for index, (name, entry) in enumerate(self._buckets.items()):
            base = memory.base(index)
            silent_ns = self._recalled(memory.words[base + SILENT], now_ns)
            self._bucket_silent_until_ns[name] = max(self._bucket_silent_until_ns[name], silent_ns)
            entry.remember(memory, base, now_ns)
        self._memory = memory

    @staticmethod
    def _recalled(until_ns: int, now_ns: int) -> int:
        """A silence longer than any venue's belongs to another boot of the host."""
        return until_ns if until_ns - now_ns <= SILENCE_MAX_S * _NS else 0

    @property
    def silent_until_ns(self) -> int:
        """Nothing may be sent before this moment (monotonic)."""
        return self._silent_until_ns

    def silence(self, seconds: float, bucket: str = "") -> None:
        """The venue said 429 or 418: send nothing for so long (in one ``bucket``, where the venue limits each by
        itself). A shorter later one never shortens it."""
        until = self._clock_ns() + int(seconds * _NS)
        if bucket:
            until = self._bucket_silent_until_ns[bucket] = max(self._bucket_silent_until_ns[bucket], until)
            at = BudgetMemory.base(list(self._buckets).index(bucket)) + SILENT
        else:
            until = self._silent_until_ns = max(self._silent_until_ns, until)
            at = 2
        if self._memory is not None:
            self._memory.words[at] = until

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
