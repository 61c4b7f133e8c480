"""The close before a stop: hedges leave before the executor does, where ``guard.on_stop`` says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.model.config import EngineConfig
from pipeline.model.enums import OnLoss
from workers.control_plane.children import Child, Children
from workers.control_socket import GUARD_SOCKET, ControlError, ask

EXECUTOR_SOCKET = "executor.sock"
EXECUTOR_S = 20.0  # it answers a flatten after about 10 s at the latest
GUARD_S = 30.0  # where no executor is READY the guard closes: orders in flight expire first
POLL_S = 0.1
REASON = "stop with hedges as configured"


def closes_hedges(config: EngineConfig, children: Children, group: Sequence[Child]) -> bool:
    """Whether open hedges are closed before ``group`` stops: where it has the executor, and a guard lives."""
    wanted = config.guard.on_stop is OnLoss.FLATTEN and children["guard"].alive
    return wanted and any(child.process == "executor" for child in group)


async def close_hedges(state_dir: Path, say: Callable[[str, str], None]) -> None:
    """Closes every hedge as far as it can be closed in time, and says what stays open. The detector has stopped."""
    try:
        request = {"op": "flatten", "reason": REASON}
        reply = await asyncio.to_thread(ask, state_dir / EXECUTOR_SOCKET, request, timeout_s=EXECUTOR_S)
        left = {row["hedge_id"]: row["reason"] for row in reply["hedges"] if not row["closed"]}
    except ControlError as error:
        try:
            left = (await _by_guard(state_dir))["left"]
        except ControlError as second:
            say("error", f"hedges are not closed before the stop: {error}; guard: {second}")
            return
    for hedge, reason in left.items():
        say("warning", f"hedge {hedge} stays open: {reason or 'not closed in time'}")


async def _by_guard(state_dir: Path) -> dict[str, Any]:
    request: dict[str, Any] = {"op": "close", "ids": None, "reason": REASON}
    reply = await asyncio.to_thread(ask, state_dir / GUARD_SOCKET, request)
    for _ in range(int(GUARD_S / POLL_S)):
        if not reply["taking_over"]:
            break
        await asyncio.sleep(POLL_S)
        reply = await asyncio.to_thread(ask, state_dir / GUARD_SOCKET, {"op": "takeover"})
    return reply
