"""The stop of an instance's processes, group by group, each with its time."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence

from workers.control_plane.children import STOP_TIMEOUT_S, Child

REPORT_S = 1.0


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

    One that does not stop in ``STOP_TIMEOUT_S`` is killed. ``reports``: the fork server lives, and so will tell how
    each has ended; it is waited for ``REPORT_S``, no longer.
    """
    for child in group:
        child.stop()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while left := [child for child in group if not child.ended()]:
        if time.monotonic() > deadline:
            for child in left:
                say("error", f"{child.process} did not stop in {STOP_TIMEOUT_S:.0f} s; killed")
                child.kill()
            deadline += STOP_TIMEOUT_S
        await next_change()
    deadline = time.monotonic() + REPORT_S
    while any(child.alive for child in group) and reports() and time.monotonic() < deadline:
        await next_change()
