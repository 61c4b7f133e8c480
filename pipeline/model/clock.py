"""The engine's clocks. Ages and latencies are monotonic; wall time only dates what venues claim."""

from __future__ import annotations

import time
from collections.abc import Callable

#: CLOCK_MONOTONIC in nanoseconds: the same clock as ``shm.atomics.mono_ns`` in kernels (on Linux that is what the
#: interpreter reads here; its own function, because a Python one around it would cost as much as the reading).
mono_ns: Callable[[], int] = time.monotonic_ns


def wall_ns() -> int:
    """Unix time in nanoseconds."""
    return time.time_ns()


def wall_ms() -> int:
    """Unix time in milliseconds, as venues sign it."""
    return time.time_ns() // 1_000_000


def boot_id() -> str:
    """Identity of this boot: a monotonic stamp of another boot means nothing."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
            return handle.read().strip()
    except OSError:
        return "unknown"
