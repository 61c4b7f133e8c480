"""The engine's clocks. Ages and latencies are monotonic; wall time only dates what venues claim."""

from __future__ import annotations

import time


def mono_ns() -> int:
    """CLOCK_MONOTONIC in nanoseconds: the same clock as ``shm.atomics.mono_ns`` in kernels."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


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
