"""What follows when a process is not started again: the instance is halted, and an executor's work is the guard's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from workers.control_socket import GUARD_SOCKET, ControlError, ask
from workers.halt_file import latch_on_disk

ASK_AGAIN_S = 0.5
BY = "supervisor"  # the decision is its own, and no user's


async def give_up(state_dir: Path, process: str, is_given_up: Callable[[], bool]) -> None:
    """Halts: through the guard, or on disk where it does not answer; what an executor has left open, the guard closes.

    A guard that does not answer is asked again while ``is_given_up``: it may be killed as often as the executor was.
    """
    reason = f"restart storm of {process}"
    try:
        await asyncio.to_thread(ask, state_dir / GUARD_SOCKET, {"op": "halt", "reason": reason, "process": BY})
    except ControlError:
        latch_on_disk(state_dir, reason, by=BY)
    while process == "executor" and is_given_up():
        try:
            await asyncio.to_thread(ask, state_dir / GUARD_SOCKET, {"op": "take_over", "reason": reason})
            return
        except ControlError:
            await asyncio.sleep(ASK_AGAIN_S)
