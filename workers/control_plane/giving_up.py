"""What follows when a process is not started again: the instance is halted, and an executor's work is the guard's."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from workers.control_socket import GUARD_SOCKET, ControlError, ask
from workers.halting import halt_instance

BY = "supervisor"  # the decision is its own, and no user's


async def give_up(state_dir: Path, process: str) -> None:
    """Halts; what an executor has left open, the guard closes. Raises ControlError where nothing takes the halt.

    A guard that does not answer now takes over by itself, because the executor does not come back.
    """
    reason = f"restart storm of {process}"
    await asyncio.to_thread(halt_instance, state_dir, reason, process=BY)
    if process == "executor":
        with contextlib.suppress(ControlError):
            await asyncio.to_thread(ask, state_dir / GUARD_SOCKET, {"op": "take_over", "reason": reason})
