"""What follows when a process is not started again: the instance is halted, and an executor's work is the guard's."""

from __future__ import annotations

import asyncio
from pathlib import Path

from workers.control_socket import GUARD_SOCKET, ControlError, ask
from workers.halt_file import latch_on_disk

BY = "supervisor"  # the decision is its own, and no user's


async def give_up(state_dir: Path, process: str) -> None:
    """Halts: through the guard, or on disk where it does not answer; what an executor has left open, the guard closes.

    A guard that does not answer now takes over by itself, because the executor does not come back.
    """
    reason = f"restart storm of {process}"
    try:
        await asyncio.to_thread(ask, state_dir / GUARD_SOCKET, {"op": "halt", "reason": reason, "process": BY})
        if process == "executor":
            await asyncio.to_thread(ask, state_dir / GUARD_SOCKET, {"op": "take_over", "reason": reason})
    except ControlError:
        latch_on_disk(state_dir, reason, by=BY)
