"""A change of connection: when a new one is needed no more; in a planned one the old and the new one run side by side
until the new one has taken over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from pipeline.exchanges.feed.connection import FeedConnection

OVERLAP_S = 1.0  # both connections run so long, complete and on time, at a planned change
OVERLAP_MAX_S = 15.0
OVERLAP_LOOK_S = 0.05


async def opened_unless(
    needless: Callable[[], bool],
    connect: Callable[[], Awaitable[FeedConnection]],
    end: Callable[[FeedConnection], None],
) -> FeedConnection | None:
    """A new connection by ``connect``; None where it is ``needless`` before it is open, which an address that answers
    nothing may take long for. Raises what ``connect`` raises. ``end``: of one that is open in the last moment."""
    opening = asyncio.ensure_future(connect())
    try:
        while not opening.done():
            if needless():
                return None
            await asyncio.wait({opening}, timeout=OVERLAP_LOOK_S)
        return opening.result()
    finally:
        if not opening.done():
            opening.cancel()
            (late,) = await asyncio.gather(opening, return_exceptions=True)
            if isinstance(late, FeedConnection):
                end(late)


async def overlap(old: FeedConnection, new: FeedConnection) -> None:
    """Until ``new`` has replaced ``old`` in everything for a while, or does not manage to."""
    for _ in range(int(OVERLAP_MAX_S / OVERLAP_LOOK_S)):
        if replaces(old, new):
            break
        await asyncio.sleep(OVERLAP_LOOK_S)
    await asyncio.sleep(OVERLAP_S)


def replaces(old: FeedConnection, new: FeedConnection) -> bool:
    """``new`` is on time and carries every topic that ``old`` carries."""
    return new.on_time and new.complete and old.acked <= new.acked


async def first_of(*work: Coroutine[Any, Any, object]) -> None:
    """Until the first of ``work`` returns; the others are cancelled. An exception of any of them comes out."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
            raise end
