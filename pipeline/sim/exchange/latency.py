"""The simulator's clock, its precise timer, and the latencies between a client and a venue.

Event loops round timers to whole milliseconds (uvloop, and epoll under asyncio), which is longer than the latencies
of one region. ``SimClock`` therefore keeps its own heap and is woken by a Linux timerfd where there is one; without
it (another system, or a loop on virtual time) it uses the loop's timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import heapq
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
_TFD_NONBLOCK = 0o4000
_TFD_CLOEXEC = 0o2000000
_BURST_MAX = 256  # due actions run per wake-up before the loop gets its turn: bounds the sockets' wait


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class _TimerFd:
    """A one-shot CLOCK_MONOTONIC timer as a file descriptor."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = int(self._libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC))
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._spec = _Itimerspec()

    def arm(self, delay_ns: int) -> None:
        delay_ns = max(1, delay_ns)
        self._spec.value_s, self._spec.value_ns = divmod(delay_ns, NS_PER_S)
        self._libc.timerfd_settime(self.fd, 0, ctypes.byref(self._spec), None)

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)


class ManualClock:
    """Virtual time for tests: nothing runs but in ``advance``. Also the heap that ``SimClock`` builds on."""

    def __init__(self, *, mono_ns: int = 0, wall_ns: int = 1_700_000_000 * NS_PER_S) -> None:
        self._mono_ns = mono_ns
        self._wall_offset_ns = wall_ns - mono_ns
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._seq = 0

    def mono_ns(self) -> int:
        """Monotonic time in nanoseconds."""
        return self._mono_ns

    def wall_ns(self) -> int:
        """Unix time in nanoseconds."""
        return self.mono_ns() + self._wall_offset_ns

    def call_at(self, when_ns: int, action: Callable[[], None]) -> None:
        """Runs ``action`` at monotonic ``when_ns``, or at once if that is past; equal times run in call order."""
        self._seq += 1
        heapq.heappush(self._heap, (when_ns, self._seq, action))
        self._armed()

    def call_later(self, delay_ns: int, action: Callable[[], None]) -> None:
        """Runs ``action`` in ``delay_ns``."""
        self.call_at(self.mono_ns() + delay_ns, action)

    async def sleep_until(self, when_ns: int) -> None:
        """Returns at ``when_ns``; sleepers of equal times wake in call order."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.call_at(when_ns, lambda: None if future.done() else future.set_result(None))
        await future

    def advance(self, delta_ns: int) -> int:
        """Runs everything due within ``delta_ns``; returns the number of actions run."""
        end_ns = self._mono_ns + delta_ns
        count = 0
        while self._heap and self._heap[0][0] <= end_ns:
            when_ns, _, action = heapq.heappop(self._heap)
            self._mono_ns = max(self._mono_ns, when_ns)
            action()
            count += 1
        self._mono_ns = end_ns
        return count

    def _armed(self) -> None:
        """A hook: the heap has a new entry."""

    def close(self) -> None:
        """Drops everything that is scheduled."""
        self._heap.clear()


class SimClock(ManualClock):
    """Real time on a running event loop. Actions that are due run in one burst, in time order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, precise: bool = True) -> None:
        super().__init__(mono_ns=0, wall_ns=0)
        self._loop = loop
        self._wall_offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._timer: _TimerFd | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._armed_ns = 0
        self._running = False
        self._closed = False
        self.lag_max_ns = 0  # how late an action ran, worst
        if precise:
            try:
                self._timer = _TimerFd()
                loop.add_reader(self._timer.fd, self._on_timer)
            except (OSError, AttributeError, RuntimeError):
                self._timer = None

    def mono_ns(self) -> int:
        """CLOCK_MONOTONIC in nanoseconds."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def advance(self, delta_ns: int) -> int:
        """Raises ``TypeError``: real time passes by itself."""
        raise TypeError("a real clock cannot be advanced")

    def _armed(self) -> None:
        if self._running or self._closed:
            return
        first_ns = self._heap[0][0]
        if self._armed_ns and first_ns >= self._armed_ns:
            return
        self._arm(first_ns)

    def _arm(self, when_ns: int) -> None:
        self._armed_ns = when_ns
        delay_ns = when_ns - self.mono_ns()
        if self._timer is not None:
            self._timer.arm(delay_ns)
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_later(max(0, delay_ns) / NS_PER_S, self._on_timer)

    def _on_timer(self) -> None:
        if self._timer is not None:
            self._timer.drain()
        self._armed_ns = 0
        self._running = True
        try:
            for _ in range(_BURST_MAX):
                now_ns = self.mono_ns()
                if not self._heap or self._heap[0][0] > now_ns:
                    break
                when_ns, _, action = heapq.heappop(self._heap)
                self.lag_max_ns = max(self.lag_max_ns, now_ns - when_ns)
                action()
        finally:
            self._running = False
            if self._heap and not self._closed:
                self._arm(self._heap[0][0])

    def close(self) -> None:
        """Drops everything that is scheduled and releases the timer."""
        super().close()
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()
        if self._timer is not None:
            self._loop.remove_reader(self._timer.fd)
            self._timer.close()
            self._timer = None


@dataclass(frozen=True, slots=True)
class LatencyProfile:
    """Microseconds, one way, median; ``jitter``: sigma of a log-normal factor. Defaults: same region, not loopback.

    ``feed``: matching engine to the client's socket; ``order``: client to matching engine; ``match``: inside it;
    ``ack``: reply on the way back; ``private``: account stream; ``rest``: other calls, each way.
    """

    feed_us: float = 450.0
    order_us: float = 450.0
    match_us: float = 120.0
    ack_us: float = 400.0
    private_us: float = 600.0
    rest_us: float = 900.0
    jitter: float = 0.25
    feed_delay_ms: float = 0.0  # a constant added to the feed: the "shifted venue"


class Link:
    """One direction of a network connection: a delay with jitter that never reorders."""

    def __init__(self, clock: ManualClock, rng: random.Random, median_us: float, jitter: float) -> None:
        self._clock = clock
        self._rng = rng
        self._median_ns = median_us * 1000.0
        self._jitter = jitter
        self._last_ns = 0
        self.extra_ns = 0  # a fault's addition

    def arrival_ns(self, sent_ns: int | None = None) -> int:
        """Monotonic time at which something sent now (or at ``sent_ns``) arrives."""
        start_ns = self._clock.mono_ns() if sent_ns is None else sent_ns
        delay_ns = int(self._median_ns * self._rng.lognormvariate(0.0, self._jitter)) + self.extra_ns
        self._last_ns = max(self._last_ns + 1, start_ns + delay_ns)
        return self._last_ns

    def deliver(self, action: Callable[[], None]) -> None:
        """Runs ``action`` when something sent now arrives."""
        self._clock.call_at(self.arrival_ns(), action)

    async def transit(self) -> None:
        """Returns when something sent now arrives."""
        await self._clock.sleep_until(self.arrival_ns())
