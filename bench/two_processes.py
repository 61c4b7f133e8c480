"""Two processes that answer each other: the forked partner, the memory that both see, and how a jitted end waits.

::

    this process (cpus[0])  <-- shared words -->  forked partner (cpus[1])
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import traceback
from collections.abc import Callable

import numpy as np

from bench.settings import BenchFailed
from shm.atomics import cpu_pause, mono_ns, sched_yield
from shm.jit import njit_bare
from shm.words import Words

DEADLINE_NS = 20_000_000_000  # of one round: a partner that died or starves ends it
YIELD_AFTER = 64  # empty polls, where both ends share a CPU
LOOK_AT_CLOCK = 1023  # a mask: the clock is read after so many empty polls, and one


@njit_bare
def waited(empty: int, deadline_ns: int, yield_after: int) -> bool:
    """What a spinning end does after its ``empty``-th poll in vain; False when the deadline passed."""
    cpu_pause()
    if yield_after > 0 and empty % yield_after == 0:
        sched_yield()
    return empty & LOOK_AT_CLOCK != 0 or mono_ns() <= deadline_ns


def shared(words: int) -> Words:
    """Zeroed words that a forked child shares, on pages of their own."""
    return np.frombuffer(mmap.mmap(-1, words * 8), dtype=np.int64)


def start_partner(body: Callable[[], int], expected: int, cpu: int | None) -> int:
    """Forks ``body``; its exit code is 0 when it returns ``expected``. Returns the process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        code = 0 if body() == expected else 1
    except BaseException:  # noqa: BLE001  (the child's outermost frame: the caller's code must not run on in it)
        traceback.print_exc()
    finally:
        os._exit(code)


def round_trips(name: str, ping_once: Callable[[], int], pong_once: Callable[[], int], n: int, cpus: list[int]) -> None:
    """One round; raises ``BenchFailed`` when a message was lost or damaged, or the time ran out."""
    pid = start_partner(pong_once, n, cpus[1] if cpus else None)
    before = os.sched_getaffinity(0)
    status: int | None = None
    try:
        if cpus:
            os.sched_setaffinity(0, {cpus[0]})
        right = ping_once()
        if right == n:
            status = os.waitpid(pid, 0)[1]
    finally:
        os.sched_setaffinity(0, before)
        if status is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if right != n or status != 0:
        raise BenchFailed(f"{name}: {right} of {n} round trips were right, partner's status {status}")
