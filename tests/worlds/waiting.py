"""Waiting in tests: polling with a watchdog, never an assertion about time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

WAIT_S = 240.0  # a watchdog for slow and busy machines
POLL_S = 0.05
ASYNC_POLL_S = 0.005


def until(condition: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    """Polls until ``condition``; fails with ``what`` when it does not come true within ``wait_s``."""
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(POLL_S)


async def until_async(holds: Callable[[], bool], what: str = "the expected state", wait_s: float = WAIT_S) -> None:
    """:func:`until` that lets the running loop go on."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while not holds():
        assert loop.time() < deadline, f"never came true: {what}"
        await asyncio.sleep(ASYNC_POLL_S)
