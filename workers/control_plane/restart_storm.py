"""What follows when a process is not started again: the instance is halted, and an executor's work is the guard's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from workers.control_socket import GUARD_SOCKET, ControlError, ask
from workers.halting import halt_instance

ASK_AGAIN_S = 0.5
BY = "supervisor"  # the decision is its own, and no user's


async def give_up(state_dir: Path, process: str, is_given_up: Callable[[], bool]) -> None:
    """Halts; what an executor has left open, the guard closes. Raises ControlError where nothing takes the halt.

    A guard that does not answer is asked again while ``is_given_up``: it may be killed as often as the executor was.
    """
    reason = f"restart storm of {process}"
    await asyncio.to_thread(halt_instance, state_dir, reason, process=BY)
    while process == "executor" and is_given_up():
        try:
            await asyncio.to_thread(ask, state_dir / GUARD_SOCKET, {"op": "take_over", "reason": reason})
            return
        except ControlError:
            await asyncio.sleep(ASK_AGAIN_S)
