"""The stop of an instance's processes, group by group, each with its time; and questions that have one, too."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from workers.control_plane.children import STOP_TIMEOUT_S, Child
from workers.control_plane.timer import TICK_S

KILLED_S = 3.0  # after SIGKILL: one that is still there waits inside the kernel, as for a dead disk
REPORT_S = 1.0
GROUP_S = STOP_TIMEOUT_S + KILLED_S + REPORT_S + 3 * TICK_S  # the longest :func:`stop_group`: each wait ends by a look
T = TypeVar("T")


def take_signals(*, stop: Callable[[], None], interrupt: Callable[[], None], hang_up: Callable[[], None]) -> None:
    """What the signals of the running loop's process mean from here on."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    # a terminal that closes ends what it started; without a terminal SIGHUP means: reload
    loop.add_signal_handler(signal.SIGHUP, stop if os.isatty(0) else hang_up)


async def stop_group(
    group: Sequence[Child],
    say: Callable[[str, str], None],
    next_change: Callable[[], Awaitable[None]],
    reports: Callable[[], bool],
) -> None:
    """Ask every process of ``group`` to stop, and return when the kernel says that none is left.

    One that does not stop in ``STOP_TIMEOUT_S`` is killed, and no longer waited for after ``KILLED_S``: the others have
    to be stopped, too. ``reports``: the fork server lives, and so will tell how each has ended; it is waited for
    ``REPORT_S``. ``next_change`` takes ``TICK_S`` at most, and all of this ``GROUP_S``.
    """
    for child in group:
        child.stop()
    await _ended(group, STOP_TIMEOUT_S, next_change)
    for child in (left := [child for child in group if not child.ended()]):
        say("error", f"{child.process} did not stop in {STOP_TIMEOUT_S:.0f} s; killed")
        child.kill()
    await _ended(left, KILLED_S, next_change)
    for child in left:
        if not child.ended():
            say("error", f"{child.process} (pid {child.pid}) does not end by SIGKILL: it waits inside the kernel")
    deadline = time.monotonic() + REPORT_S
    while any(child.alive for child in group) and reports() and time.monotonic() < deadline:
        await next_change()


async def _ended(group: Sequence[Child], wait_s: float, next_change: Callable[[], Awaitable[None]]) -> None:
    """Return when no process of ``group`` is left, or ``wait_s`` are over."""
    deadline = time.monotonic() + wait_s
    while not all(child.ended() for child in group) and time.monotonic() < deadline:
        await next_change()


async def answered(deadline_s: float, question: Callable[[], T]) -> T:
    """What ``question`` returns or raises, in a thread of its own, waited for until ``deadline_s`` (monotonic) and no
    longer, whatever it waits for itself; nor does the end of this process wait for it. Raises TimeoutError."""
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    done.set_running_or_notify_cancel()  # from here on nobody can take it back: the thread may set it at any time

    def work() -> None:
        try:
            done.set_result(question())
        except Exception as error:  # noqa: BLE001  raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=work, name="question", daemon=True).start()
    async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
        return await asyncio.wrap_future(done)
