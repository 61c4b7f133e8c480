"""What the supervisor answers at its control socket: one method per request, all small."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pipeline.model.errors import BadInput, ConfigInvalid
from workers.control_plane.children import ChildState
from workers.control_plane.control_socket import ask

if TYPE_CHECKING:
    from workers.control_plane.supervisor import Supervisor

EXECUTE_TIMEOUT_S = 15.0


class Requests:
    """Requests of people and scripts to one supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._handlers: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "status": self._status,
            "halt": self._guard,
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
        """Dispatch; an unknown request lists the known ones. Raises ArbitrageEngineError for a refusal."""
        handler = self._handlers.get(str(request.get("op")))
        if handler is None:
            raise BadInput(f"unknown request {request.get('op')!r}; known: {', '.join(sorted(self._handlers))}")
        return await handler(request)

    async def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._supervisor.describe()

    async def _guard(self, request: dict[str, Any]) -> dict[str, Any]:
        path = self._supervisor.state_dir / "guard.sock"
        return await asyncio.to_thread(ask, path, request)

    async def _resume(self, request: dict[str, Any]) -> dict[str, Any]:
        """Release the latch; a process that failed in a restart storm gets a fresh start."""
        reply = await self._guard(request)
        now = asyncio.get_running_loop().time()
        for child in self._supervisor.children:
            if child.state is ChildState.FAILED:
                child.want(now)
        return reply

    async def _executor(self, request: dict[str, Any]) -> dict[str, Any]:
        path = self._supervisor.state_dir / "executor.sock"
        return await asyncio.to_thread(ask, path, request, timeout_s=EXECUTE_TIMEOUT_S)

    async def _symbols(self, request: dict[str, Any]) -> dict[str, Any]:
        catalogue = self._supervisor.catalogue
        action = request.get("action", "list")
        if action == "list":
            rows = [
                {
                    "instrument_id": row.instrument_id,
                    "venue": row.spec.venue,
                    "symbol": row.spec.symbol,
                    "pair": row.spec.pair,
                    "status": row.spec.status.name.lower(),
                    "removed": (row.spec.venue, row.spec.symbol) in catalogue.removed,
                    "quarantined": row.quarantine_reason or None,
                }
                for row in catalogue.rows
            ]
            return {"instruments": rows}
        try:
            venue = self._supervisor.config.venue(str(request["venue"]))
        except KeyError as error:
            raise BadInput(str(error.args[0])) from None
        symbol = str(request["symbol"])
        if action == "add":
            row = await catalogue.add(venue, symbol)
        elif action == "remove":
            row = catalogue.remove(venue.name, symbol)
        else:
            raise BadInput(f"unknown action {action!r}; known: list, add, remove")
        self._supervisor.ring_feeds()
        return {"instrument_id": row.instrument_id, "quarantined": row.quarantine_reason or None}

    async def _reload(self, request: dict[str, Any]) -> dict[str, Any]:
        """As SIGHUP, and what it changed."""
        try:
            changes = self._supervisor.reload()
        except ConfigInvalid as error:
            raise BadInput(f"reload refused, nothing changed: {error}") from None
        return {"changed": {path: {"from": old, "to": new} for path, (old, new) in changes.items()}}

    async def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        self._supervisor.request_stop()
        return {"stopping": True}
