"""The stop of an instance's processes, group by group, each with its time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from workers.control_plane.children import STOP_TIMEOUT_S, Child

REPORT_S = 1.0


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
