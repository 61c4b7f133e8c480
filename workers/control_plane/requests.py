"""The requests that the supervisor answers at its control socket: one method per request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from pipeline.model.config import EngineConfig
from pipeline.model.config_reload import Changes
from pipeline.model.enums import ProcessState
from pipeline.model.errors import BadInput, ConfigInvalid
from shm.errors import ShmError
from shm.liveness import LivenessView
from shm.metrics import Metrics
from workers.audit_log import audit, who
from workers.control_plane.announcer import Announcer
from workers.control_plane.catalogue import CatalogueService
from workers.control_plane.children import Children, ChildState
from workers.control_plane.instances import stopped_by_systemd
from workers.control_socket import GUARD_SOCKET, ControlError, Refused, ask
from workers.halt_file import NO_REASON
from workers.halting import halt_instance, release_without_guard
from workers.last_run.detection_switch import forget_stopped, keep_stopped
from workers.last_run.symbol_switch import keep_symbols
from workers.tradable import fields

DETECTION_POLL_S = 0.01
DETECTION_POLLS = 1000  # 10 s of the 15 that callers wait: a detector that sleeps looks every half second
EXECUTOR_TIMEOUT_S = 15.0  # an execution is awaited to its end, at most this long


class RunningInstance(Protocol):
    """What requests read and change of a running instance; the supervisor is one."""

    instance: str
    units: bool  # systemd has started the processes, and it alone ends them
    state_dir: Path
    config: EngineConfig
    children: Children
    catalogue: CatalogueService

    announcer: Announcer

    def describe(self) -> dict[str, Any]:
        """The instance as ``run.json`` shows it."""

    def reload(self, wanted: EngineConfig | None = None) -> Changes:
        """Take in the configuration file, or ``wanted``; what changed. Raises ConfigInvalid."""

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
            "detection": self._detection,
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
        except Refused:  # a halt came meanwhile that nobody has looked at, or the disk hangs: it is not carried out
            raise
        except ControlError:  # it reads the file as soon as it runs (again)
            folder, by = self._instance.state_dir, who(request.get("uid"))
            await asyncio.to_thread(release_without_guard, folder, str(request["reason"]), by=by)
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
                    "min_qty": max(row.spec.min_qty, row.spec.lot),
                    "min_notional": row.spec.min_notional,
                    "taker_fee_ppm": row.spec.taker_fee_ppm,
                    "ending": row.spec.ending,
                    "trading_until_wall_s": row.spec.trading_until_wall_s or None,
                    "removed": (row.spec.venue, row.spec.symbol) in catalogue.removed,
                    "quarantined": row.quarantine_reason or None,
                }
                for row in catalogue.rows
            ]
            return {"instruments": rows}
        try:
            venue = self._instance.config.venue(str(request.get("venue", "")))
        except KeyError as error:
            raise BadInput(f"{error.args[0]}; see `arb config show`") from None
        symbol = str(request.get("symbol", ""))
        if action == "add":
            row = await catalogue.add(venue, symbol)
        elif action == "remove":
            row = catalogue.remove(venue.name, symbol)
        else:
            raise BadInput(f"action: found {action!r}, wanted list, add or remove")
        keep_symbols(self._instance.state_dir, catalogue.changes())
        return {"instrument_id": row.instrument_id, "quarantined": row.quarantine_reason or None}

    async def _reload(self, request: dict[str, Any]) -> dict[str, Any]:
        """Reload the configuration as SIGHUP does; the reply says what changed."""
        try:
            changes = self._instance.reload()
        except ConfigInvalid as error:
            raise BadInput(f"reload refused, nothing changed: {error}") from None
        return {"changed": {path: {"from": old, "to": new} for path, (old, new) in changes.items()}}

    async def _detection(self, request: dict[str, Any]) -> dict[str, Any]:
        """Whether entries are looked for; ``enabled`` (true, false) switches that, until the next reload. ``in_force``:
        whether a detector that runs has taken it in; waited for, bounded."""
        instance, enabled = self._instance, request.get("enabled")
        if enabled is not None:
            by, reason = who(request.get("uid")), str(request.get("reason", ""))
            if enabled:
                forget_stopped(instance.state_dir)
            else:
                keep_stopped(instance.state_dir, by=by, reason=reason)
            detection = msgspec.structs.replace(instance.config.detection, enabled=bool(enabled))
            instance.reload(msgspec.structs.replace(instance.config, detection=detection))
            audit(instance.state_dir, op="detection", by=by, reason=reason, enabled=bool(enabled))
        wanted = instance.config.detection.enabled
        for _ in range(DETECTION_POLLS if enabled is not None else 1):
            if self._looks_for_entries() == wanted:
                return {"enabled": wanted, "in_force": True}
            await asyncio.sleep(DETECTION_POLL_S)
        return {"enabled": wanted, "in_force": False}

    def _looks_for_entries(self) -> bool | None:
        """What the detector does now; None where none works: what a dead one has left says nothing."""
        live = LivenessView.attach(self._instance.instance, "detector", missing_ok=True)
        if not live.alive() or live.state not in (ProcessState.READY, ProcessState.DEGRADED):
            return None
        try:
            metrics = Metrics.attach(self._instance.instance, "detector")
        except ShmError:
            return None
        value = bool(metrics.value("looks_for_entries"))
        metrics.close()
        return value

    async def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._instance.units:  # the end of the supervisor would end nobody else
            raise BadInput(stopped_by_systemd(self._instance.instance))
        audit(self._instance.state_dir, op="stop", by=who(request.get("uid")), reason=str(request.get("reason", "")))
        self._instance.request_stop()
        return {"stopping": True}


def _on_behalf(request: dict[str, Any]) -> dict[str, Any]:
    """A request that is passed on: its own user stays known behind ours."""
    return {**request, "for_uid": request.get("uid")}
