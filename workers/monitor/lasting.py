"""Work that goes on for as long as the process: what ends it without a stop is said, and it begins again."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path

AGAIN_S = 5.0
Say = Callable[[str, str], object]


async def lasting(name: str, run: Callable[[], Coroutine[None, None, None]], say: Say) -> None:
    """Runs ``run`` until this is cancelled. An exception that leaves it is a fault of ours: its kind and place are said
    once (its words may hold a secret), for nobody else waits for it."""
    said = ""
    while True:
        task = asyncio.create_task(run())
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
        error = task.exception()
        places = traceback.extract_tb(error.__traceback__) if error is not None else []
        where = f" at {Path(places[-1].filename).name}:{places[-1].lineno}" if places else ""
        text = f"{name}: ended by {type(error).__name__}{where}; it begins again every {AGAIN_S:g} s"
        if text != said:
            say("error", text)
        said = text
        await asyncio.sleep(AGAIN_S)
