"""The requests that the supervisor answers at its control socket: one method per request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from pipeline.model.config import EngineConfig
from pipeline.model.config_reload import Changes
from pipeline.model.errors import BadInput, ConfigInvalid
from workers.audit_log import audit, who
from workers.control_plane.announcer import Announcer
from workers.control_plane.catalogue import CatalogueService
from workers.control_plane.children import Children, ChildState
from workers.control_socket import GUARD_SOCKET, ControlError, ask
from workers.halt_file import NO_REASON
from workers.halting import halt_instance, release_without_guard
from workers.tradable import fields

EXECUTOR_TIMEOUT_S = 15.0  # an execution is awaited to its end, at most this long


class RunningInstance(Protocol):
    """What requests read and change of a running instance; the supervisor is one."""

    state_dir: Path
    config: EngineConfig
    children: Children
    catalogue: CatalogueService

    announcer: Announcer

    def describe(self) -> dict[str, Any]:
        """The instance as ``run.json`` shows it."""

    def reload(self) -> Changes:
        """Take in the configuration file; what changed. Raises ConfigInvalid."""

    def request_stop(self) -> None:
        """Ask for an orderly stop."""


class Requests:
    """Answers the requests of commands and scripts to one instance."""

    def __init__(self, instance: RunningInstance) -> None:
        self._instance = instance
        self._handlers: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "status": self._status,
            "halt": self._halt,
            "resume": self._resume,
            "drain": self._guard,
            "undrain": self._guard,
            "execute": self._executor,
            "operations": self._executor,
            "symbols": self._symbols,
            "reload": self._reload,
            "stop": self._stop,
        }

    async def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one request by its ``op``. Raises ArbitrageEngineError for a refusal, BadInput for an unknown one."""
        handler = self._handlers.get(str(request.get("op")))
        if handler is None:
            raise BadInput(f"op: found {request.get('op')!r}, wanted one of {', '.join(sorted(self._handlers))}")
        return await handler(request)

    async def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._instance.describe()

    async def _guard(self, request: dict[str, Any]) -> dict[str, Any]:
        path = self._instance.state_dir / GUARD_SOCKET
        return await asyncio.to_thread(ask, path, _on_behalf(request))

    async def _halt(self, request: dict[str, Any]) -> dict[str, Any]:
        uid = request.get("uid")
        reason = str(request.get("reason", ""))
        return await asyncio.to_thread(halt_instance, self._instance.state_dir, reason, uid=uid)

    async def _resume(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start again what failed in a restart storm, the guard first; release halt, drain and blocks; say what still
        stands in the way. ``adopt``: the executor takes over what its journal does not explain, and lists it."""
        if not str(request.get("reason", "")).strip():
            raise BadInput(NO_REASON)
        adopted: dict[str, Any] = {}
        if request.get("adopt"):
            adopted = await self._executor({**request, "op": "adopt"})
        now = time.monotonic()
        for child in sorted(self._instance.children, key=lambda child: child.process != "guard"):
            if child.state is ChildState.FAILED:
                child.want(now)
        try:
            reply = await self._guard(request)
        except ControlError:  # it reads the file as soon as it runs (again)
            release_without_guard(self._instance.state_dir, str(request["reason"]), by=who(request.get("uid")))
            reply = {"halted": False, "reason": request["reason"]}
        answer = self._instance.announcer.answer(self._instance.describe())
        return {**reply, **adopted, "blocking": [fields(reason) for reason in answer.reasons]}

    async def _executor(self, request: dict[str, Any]) -> dict[str, Any]:
        path = self._instance.state_dir / "executor.sock"
        return await asyncio.to_thread(ask, path, _on_behalf(request), timeout_s=EXECUTOR_TIMEOUT_S)

    async def _symbols(self, request: dict[str, Any]) -> dict[str, Any]:
        catalogue = self._instance.catalogue
        action = request.get("action", "list")
        if action == "list":
            rows = [
                {
                    "instrument_id": row.instrument_id,
                    "venue": row.spec.venue,
                    "symbol": row.spec.symbol,
                    "pair": row.spec.pair,
                    "status": row.spec.status.name.lower(),
                    "ending": row.spec.ending,
                    "trading_until_wall_s": row.spec.trading_until_wall_s or None,
                    "removed": (row.spec.venue, row.spec.symbol) in catalogue.removed,
                    "quarantined": row.quarantine_reason or None,
                }
                for row in catalogue.rows
            ]
            return {"instruments": rows}
        try:
            venue = self._instance.config.venue(str(request["venue"]))
        except KeyError as error:
            raise BadInput(f"{error.args[0]}; see `arb config show`") from None
        symbol = str(request["symbol"])
        if action == "add":
            row = await catalogue.add(venue, symbol)
        elif action == "remove":
            row = catalogue.remove(venue.name, symbol)
        else:
            raise BadInput(f"action: found {action!r}, wanted list, add or remove")
        return {"instrument_id": row.instrument_id, "quarantined": row.quarantine_reason or None}

    async def _reload(self, request: dict[str, Any]) -> dict[str, Any]:
        """Reload the configuration as SIGHUP does; the reply says what changed."""
        try:
            changes = self._instance.reload()
        except ConfigInvalid as error:
            raise BadInput(f"reload refused, nothing changed: {error}") from None
        return {"changed": {path: {"from": old, "to": new} for path, (old, new) in changes.items()}}

    async def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        audit(self._instance.state_dir, op="stop", by=who(request.get("uid")), reason=str(request.get("reason", "")))
        self._instance.request_stop()
        return {"stopping": True}


def _on_behalf(request: dict[str, Any]) -> dict[str, Any]:
    """A request that is passed on: its own user stays known behind ours."""
    return {**request, "for_uid": request.get("uid")}
