"""Requests of ``arb close``, ``flatten`` and ``stop --flatten``: to the executor, or to the guard where none
answers."""

from __future__ import annotations

import time
from typing import Any

from pipeline.model.errors import BadInput
from workers.control_plane.instances import is_running, start_command
from workers.control_socket import EXECUTOR_READY, GUARD_SOCKET, ControlError, ask, ask_supervisor
from workers.output import say
from workers.state_folder import instance_dir

EXECUTOR_SOCKET = "executor.sock"
CLOSE_TIMEOUT_S = 30.0  # the executor answers after 20 s at the latest: 10 to become READY, 10 to close
GUARD_TIMEOUT_S = 120.0  # orders in flight expire first, and an unknown one is proved
POLL_S = 0.1


def ask_executor(name: str, request: dict[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """The executor's reply to one request. Raises ControlError where it does not answer (whether it acted is not known)
    or the instance does not run (then it did nothing)."""
    try:
        return ask(instance_dir(name) / EXECUTOR_SOCKET, request, timeout_s=timeout_s)
    except ControlError:
        if is_running(name):
            raise
    raise not_running(name)


def not_running(name: str) -> ControlError:
    """The error of a command that needs a running instance, where none runs."""
    return ControlError(
        f"{name} does not run, so nothing was done; `arb hedges` and `arb positions` show what stays open; "
        f"`{start_command(name)}` starts it, then repeat this command"
    )


def ask_running(name: str, request: dict[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """The supervisor's reply to one request. Raises as :func:`ask_executor`."""
    try:
        return ask_supervisor(name, request, timeout_s=timeout_s)
    except ControlError:
        if is_running(name):
            raise
    raise not_running(name)


def close_hedges(name: str, request: dict[str, Any]) -> dict[str, Any]:
    """The reply to the request ``close`` or ``flatten``, of the executor, or of the guard where that does not answer.

    Raises ControlError where neither does, BadInput for a hedge that is not open.
    """
    try:
        return ask_executor(name, request, timeout_s=CLOSE_TIMEOUT_S)
    except ControlError as error:
        if not is_running(name):
            raise
        if request.get("dry_run"):
            raise ControlError(f"{error}; only an executor can show what it would send") from None
        missing = str(error)
    say(f"arb: {missing}; asking the guard")
    try:
        return _by_guard(name, request)
    except ControlError as error:
        if EXECUTOR_READY not in str(error):
            raise ControlError(f"{missing}; guard: {error}") from None
    say("arb: the executor is READY by now; asking it again")  # it came up between the two questions
    return ask_executor(name, request, timeout_s=CLOSE_TIMEOUT_S)


def _by_guard(name: str, request: dict[str, Any]) -> dict[str, Any]:
    from workers.executor_file import read_executor_state  # imported here: they load numba
    from workers.last_run.half_done import replayed

    folder = instance_dir(name)
    ledger = replayed(folder)
    known = list(ledger.hedges) if ledger is not None else []
    everything = request["op"] == "flatten" or request.get("all")
    ids = known if everything else [hedge for hedge in known if hedge.startswith(str(request.get("id", "")))]
    if not everything and len(ids) != 1:
        listed = ", ".join(known) or "none is open"
        raise BadInput(f"found {len(ids)} open hedges for {request.get('id')!r}, wanted one of {listed}")
    wanted = {"op": "close", "ids": None if everything else ids, "reason": request.get("reason", "")}
    wanted["planned"] = bool(request.get("planned"))  # before a stop: that leaves no latch
    reply = ask(folder / GUARD_SOCKET, wanted)
    deadline = time.monotonic() + GUARD_TIMEOUT_S
    while reply["taking_over"]:
        if time.monotonic() > deadline:
            why = "; ".join(f"{hedge}: {reason}" for hedge, reason in reply["left"].items() if reason)
            raise ControlError(
                f"the guard is still closing after {GUARD_TIMEOUT_S:.0f} s, and goes on{': ' if why else ''}{why}; "
                f"`arb status` shows when it has ended, then repeat this command"
            )
        time.sleep(POLL_S)
        reply = ask(folder / GUARD_SOCKET, {"op": "takeover"})
    ledger, state = replayed(folder), read_executor_state(folder)
    left = ledger.hedges if ledger is not None else {}
    held = state.recoveries if state is not None else []
    return {
        "dry_run": False,
        "orders": reply["orders"],
        "hedges": [
            {
                "hedge_id": hedge,
                "closed": hedge not in left,
                "left": left[hedge].qty if hedge in left else 0,
                "reason": reply["left"].get(hedge, "") or "not closed yet" if hedge in left else None,
            }
            for hedge in ids
        ],
        "open_hedges": state.hedges if state is not None and left else [],
        "positions": state.positions if state is not None else [],
        "foreign_coins": state.foreign_coins if state is not None else [],
        "recoveries": [row for row in held if row.get("requires_manual_approval")],
        "flat": bool(reply["flat"]) and not left,
    }
