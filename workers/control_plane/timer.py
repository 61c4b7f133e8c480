"""Says in a loop when something that is done once per period is due, and waits for what comes first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

TICK_S = 0.25  # the supervisor's loop looks at least so often
RETRY_VENUE_S = 10.0  # how often a venue that was unreachable is asked again


async def came(event: asyncio.Event, within_s: float) -> bool:
    """Waits until ``event`` is set, or the time is over; whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()
    return event.is_set()


async def first_of(*events: asyncio.Event, within_s: float | None = None) -> None:
    """Returns when one of them is set, or the time is over."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    _, pending = await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()


async def each_tick(act: Callable[[], None], goes_on: Callable[[], bool]) -> None:
    """``act`` beside what else is waited for, as long as ``goes_on``."""
    while goes_on():
        act()
        await asyncio.sleep(TICK_S)


class Timer:
    """Due once per ``period_s``, first at ``first_s``. Times are monotonic seconds, given from outside."""

    def __init__(self, period_s: float, first_s: float) -> None:
        self._period_s = period_s
        self._next_s = first_s

    def due(self, now_s: float) -> bool:
        """Whether the period is over at ``now_s``; the next one begins then."""
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._period_s
        return True
