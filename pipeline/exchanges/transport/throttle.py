"""Request budgets of a venue per endpoint class, and silence after the venue has said 429 or 418.

Every bucket is a rolling window: at most so many units in any window of time, so that whatever moment the venue's own
window begins at, it never holds more. Windows belong to an address or to an account, not to a process: where the
process shares its budgets (``shared_budgets.py``), what remains is the limit less what all processes of this user have
used, ended ones included; alone, less what this throttle has used. What the venue's replies say corrects it downwards.

Questions leave a part of a limit to what nobody counts here, and a part of a common weight to what repairs: cancels,
hedges, and the questions about orders.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import msgspec

from pipeline.model.clock import mono_ns

if TYPE_CHECKING:
    from pipeline.exchanges.transport.spend import SpendRow

ROLLING_SLACK = 1.1  # a window as the venue sees it: two requests may arrive closer to each other than they left
QUESTIONS_PART = 0.9  # the rest: other programs on the address
SPARE = 0.1  # of a common weight, for repairs
LOOK_S = 0.25  # who waits looks again so often: units come back, too, and processes end
CONTENDED_S = (0.001, 0.005)  # two processes have met at the last unit: one of them comes first the next time
STOOD_PART = 50  # a process that stood still for longer than this part of a window has published a wrong time
ATTEMPTS = 8  # of one that stands still again and again
ALL = "all"  # what has no limit, only silences: every request to the host from this address
_NS = 1_000_000_000


class Limit(msgspec.Struct, frozen=True):
    """At most ``capacity`` units in any ``window_s`` seconds, of which this bucket takes ``part``.

    ``account``: the venue counts them for an account, else for an address; ``of_host``: over all markets that its host
    serves. ``pool``: a bucket whose units these are as well; ``spare``: part of that one which this bucket leaves."""

    capacity: float
    window_s: float
    part: float = QUESTIONS_PART
    account: bool = False
    pool: str = ""
    spare: float = 0.0
    of_host: bool = False


class SharedWindows(Protocol):
    """Where a process's throttles meet (``shared_budgets.py``)."""

    @property
    def lock(self) -> AbstractContextManager[object, bool | None]:
        """Clients of one process may live in several threads."""

    def window(self, bucket: str, limit: Limit) -> Window:
        """The window of the venue's ``bucket``, common to all throttles of the process."""

    def fence(self) -> None:
        """Between publishing what is used and looking at the others."""

    def refresh(self) -> None:
        """Finds processes that came."""


class Window:
    """At most ``limit.capacity`` units in any ``limit.window_s`` seconds, over this process and those of ``row``."""

    __slots__ = ("_row", "_silent_until_ns", "_sum", "_taken", "_whole", "capacity", "free", "most", "window_ns")

    def __init__(self, limit: Limit, row: SpendRow | None = None) -> None:
        self.capacity = max(1.0, limit.capacity)
        self.most = max(1.0, limit.capacity * limit.part)
        self._whole = min(self.most, self.capacity)  # for those who leave nothing alone
        self.window_ns = window_ns_of(limit)
        self._taken: deque[tuple[int, float]] = deque()
        self._sum = 0.0  # of the units in it
        self.free = 0.0  # units that this process may still take, at least: time alone only adds to them
        self._silent_until_ns = 0
        self._row = row

    def add(self, now_ns: int, units: float) -> int:
        """Counts ``units`` as sent now; returns what :meth:`take_back` needs."""
        self._taken.append((now_ns, units))
        self._sum += units
        self.free -= units
        return 0 if self._row is None else self._row.add(now_ns, math.ceil(units))

    def take_back(self, slice_number: int) -> None:
        """The newest units were not sent."""
        units = self._taken.pop()[1]
        self._sum -= units
        self.free += units
        if self._row is not None:
            self._row.take_back(slice_number, math.ceil(units))

    def over(self, now_ns: int, wanted: float, spare: float = 0.0) -> float:
        """Units that are too many if ``wanted`` more are sent now; 0 or less: they fit. ``spare``: part of the capacity
        that is left alone."""
        taken = self._taken
        while taken and now_ns - taken[0][0] >= self.window_ns:
            self._sum -= taken.popleft()[1]
        if not taken:
            self._sum = 0.0  # no rounding outlives a window
        others = 0 if self._row is None or not self._row.others_rows else self._row.others(now_ns)
        room = min(self.most, self.capacity * (1.0 - spare)) if spare else self._whole
        self.free = self._whole - self._sum - others
        return self._sum + others + wanted - room

    @property
    def alone(self) -> bool:
        """No other process has a part in it, as far as this one has looked."""
        return self._row is None or not self._row.others_rows

    def delay_s(self, now_ns: int, wanted: float, spare: float = 0.0) -> float:
        """Seconds until ``wanted`` more fit; 0.0 = now."""
        over = self.over(now_ns, wanted, spare)
        if over <= 0:
            return 0.0
        for end_ns, units in self._ends(now_ns):
            over -= units
            if over <= 0:
                return max(0.001, (end_ns - now_ns) / _NS)
        return self.window_ns / _NS

    def _ends(self, now_ns: int) -> Iterator[tuple[int, float]]:
        """(when they leave the window, units) of all that is in it, soonest first."""
        own = ((at_ns + self.window_ns, units) for at_ns, units in self._taken)
        if self._row is None or not self._row.others_rows:
            return own
        return iter(sorted([*own, *self._row.others_ends(now_ns)]))

    def left(self, now_ns: int, count: float) -> None:
        """The venue says that ``count`` are left: what it counts beyond ours counts as sent now."""
        unseen = self.over(now_ns, 0.0) + self._whole  # what is used
        unseen = self.capacity - unseen - max(0.0, count)
        if unseen > 0:
            self.add(now_ns, unseen)

    def silence(self, until_ns: int) -> None:
        """Nothing before ``until_ns``; an earlier moment never shortens it."""
        self._silent_until_ns = max(self._silent_until_ns, until_ns)
        if self._row is not None:
            self._row.silence(self._silent_until_ns)

    def silent_until_ns(self) -> int:
        """The latest moment before which a venue told this process or another to send nothing."""
        if self._row is None or not self._row.others_rows:
            return self._silent_until_ns
        return max(self._silent_until_ns, self._row.others_silent_until_ns())


def window_ns_of(limit: Limit) -> int:
    """The limit's window with its slack."""
    return int(limit.window_s * ROLLING_SLACK * _NS)


class Throttle:
    """Buckets by name; ``limits`` must name every bucket that is asked for. ``shared``: where other throttles of this
    process and other processes are met; None: this throttle is alone."""

    def __init__(
        self,
        limits: Mapping[str, Limit],
        *,
        shared: SharedWindows | None = None,
        clock_ns: Callable[[], int] = mono_ns,
    ) -> None:
        self._clock_ns = clock_ns
        self._shared = shared
        self._lock: AbstractContextManager[object, bool | None] = Lock() if shared is None else shared.lock
        self._limits = limits
        self._windows = {
            name: Window(limit) if shared is None else shared.window(name, limit) for name, limit in limits.items()
        }
        everything = Limit(math.inf, 1.0, of_host=True)
        self._all = Window(Limit(0, 0)) if shared is None else shared.window(ALL, everything)

    @property
    def buckets(self) -> tuple[str, ...]:
        """Names of the limits."""
        return tuple(self._limits)

    @property
    def silent_until_ns(self) -> int:
        """Nothing may be sent before this moment (monotonic)."""
        return self._all.silent_until_ns()

    def silence(self, seconds: float, bucket: str = "") -> None:
        """The venue said 429 or 418: send nothing for so long (in one ``bucket``, where the venue limits each by
        itself). A shorter later one never shortens it."""
        window = self._windows[bucket] if bucket else self._all
        with self._lock:
            window.silence(self._clock_ns() + int(seconds * _NS))

    def try_acquire(self, bucket: str, weight: float = 1.0) -> bool:
        """Take ``weight`` now, or nothing. False inside a silence or when the budget is short."""
        return self.delay_s(bucket, weight, take=True) == 0.0

    def fits(self, bucket: str, weight: float) -> bool:
        """Whether ``weight`` could be taken now. Mostly without a count: what was free at the last one still is."""
        window = self._windows[bucket]
        if weight <= window.free and window.alone and not self._limits[bucket].pool:
            now_ns = self._clock_ns()
            return now_ns >= window.silent_until_ns() and now_ns >= self._all.silent_until_ns()
        return self.delay_s(bucket, weight) == 0.0

    def count(self, bucket: str) -> None:
        """One unit that has been sent, right behind a :meth:`fits` of it: of what only one process at a time sends."""
        with self._lock:
            self._windows[bucket].add(self._clock_ns(), 1.0)

    def delay_s(self, bucket: str, weight: float = 1.0, *, take: bool = False, look: bool = False) -> float:
        """Seconds until ``weight`` could be taken; 0.0 = now (and taken, if ``take``).

        ``look``: also for processes that have come a moment ago (some us). Orders do without: one engine at a time has
        the lock of a key."""
        window, limit = self._windows[bucket], self._limits[bucket]
        pool = self._windows[limit.pool] if limit.pool else None
        if weight > window.most:
            weight = window.most
        with self._lock:
            for _ in range(ATTEMPTS):
                now_ns = self._clock_ns()
                silent_until_ns, own_until_ns = self._all.silent_until_ns(), window.silent_until_ns()
                if now_ns < silent_until_ns or now_ns < own_until_ns:
                    return (max(silent_until_ns, own_until_ns) - now_ns) / _NS
                delay_s = window.delay_s(now_ns, weight)
                if pool is not None:
                    delay_s = max(delay_s, pool.delay_s(now_ns, weight, limit.spare))
                if delay_s or not take:
                    return delay_s
                taken = window.add(now_ns, weight)
                pooled = 0 if pool is None else pool.add(now_ns, weight)
                if self._shared is None:
                    return 0.0
                # Published before the others are looked at: of two that take the last units one at least sees both.
                self._shared.fence()
                if look:
                    self._shared.refresh()
                over = window.over(now_ns, 0.0) > 0 or (pool is not None and pool.over(now_ns, 0.0, limit.spare) > 0)
                stood_ns = self._clock_ns() - now_ns
                if not over and stood_ns <= window.window_ns // STOOD_PART:
                    return 0.0
                window.take_back(taken)
                if pool is not None:
                    pool.take_back(pooled)
                if over:
                    break
        return random.uniform(*CONTENDED_S)

    def remaining(self, bucket: str, venue_says: float) -> None:
        """Correct a bucket downwards by the venue's own count of what is left."""
        with self._lock:
            self._windows[bucket].left(self._clock_ns(), venue_says)

    async def acquire(self, bucket: str, weight: float = 1.0) -> None:
        """Wait until ``weight`` is taken. Cancellation takes nothing."""
        while True:
            delay_s = self.delay_s(bucket, weight, take=True, look=True)
            if not delay_s:
                return
            await asyncio.sleep(min(delay_s, LOOK_S))
            if self._shared is not None:
                with self._lock:
                    self._shared.refresh()
