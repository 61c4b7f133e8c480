"""Clocks that go on by what an event loop would have waited. :func:`install` comes before every other import of ours.

Sockets stay real: both ends live in the loop of one process, and what is on its way between them comes before the next
step. How fast or busy the machine is changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import time
from collections.abc import Callable
from typing import Any

STEP_S = 0.02  # a wait is cut into steps, so that a frame that the kernel holds back is late by few of them
READING_NS = 1000  # between two readings, so that one follows the other


class _Clocks:
    def __init__(self) -> None:
        self._mono_ns, self._wall_ns = time.monotonic_ns(), time.time_ns()
        self._passed_ns = 0

    def skip(self, seconds: float) -> None:
        self._passed_ns += int(seconds * 1e9)

    def mono_ns(self) -> int:
        self._passed_ns += READING_NS
        return self._mono_ns + self._passed_ns

    def wall_ns(self) -> int:
        self._passed_ns += READING_NS
        return self._wall_ns + self._passed_ns


_CLOCKS = _Clocks()


class _Selector(selectors.EpollSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        os.sched_yield()  # the kernel's own threads may bring a frame
        found = super().select(0)
        if not found:
            _CLOCKS.skip(STEP_S if timeout is None else min(STEP_S, timeout))
        return found


class _Loop(asyncio.SelectorEventLoop):
    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
        """As ever, but for a timer of the kernel, which would go by another clock: the loop's own is used without."""
        if isinstance(fd, int) and "timerfd" in os.readlink(f"/proc/self/fd/{fd}"):
            raise RuntimeError("found a timer of the kernel, wanted one of the loop")
        super().add_reader(fd, callback, *args)


def install() -> None:
    """Puts the clocks of this process in the place of the kernel's. Modules that bind them must be imported later."""
    time.monotonic_ns, time.time_ns, time.perf_counter_ns = _CLOCKS.mono_ns, _CLOCKS.wall_ns, _CLOCKS.mono_ns
    time.clock_gettime_ns = lambda clock: _CLOCKS.mono_ns() if clock == time.CLOCK_MONOTONIC else _CLOCKS.wall_ns()
    time.monotonic = time.perf_counter = lambda: _CLOCKS.mono_ns() / 1e9
    time.time = lambda: _CLOCKS.wall_ns() / 1e9


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop on these clocks."""
    return _Loop(_Selector())
