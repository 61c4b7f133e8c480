"""A running instance as the components see it: requests to its processes, by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.model.config import EngineConfig
from pipeline.model.config_load import load_config
from pipeline.model.errors import ArbitrageEngineError, BadInput
from workers.cli.closing import CLOSE_TIMEOUT_S
from workers.control_socket import ask
from workers.state_folder import instance_dir

EXECUTOR_SOCKET = "executor.sock"
SUPERVISOR_SOCKET = "supervisor.sock"
TIMEOUT_S = 20.0  # an execution is awaited for 12 s, a venue that lists a symbol for 15; all else takes milliseconds


class Instance:
    """The processes of one instance. ``config``: an ``ArbitrageConfig``, an ``EngineConfig``, a configuration file or
    an ``ArbitrageEngine`` (anything with ``instance`` and ``config``): whatever names the instance.

    Requests raise BadInput where they are wrong, ControlError where nobody answers; who asked stands in the audit log.
    """

    def __init__(self, config: object) -> None:
        """Raises BadInput for an object that names no instance, ConfigInvalid."""
        if isinstance(config, str | Path):
            config = load_config(config)
        name = getattr(config, "instance", None) or getattr(config, "engine_name", None)
        if not isinstance(name, str):
            raise BadInput(f"config: found {type(config).__name__}, wanted an ArbitrageConfig or an ArbitrageEngine")
        self.name = name
        self.engine_config: EngineConfig | None = None
        found = getattr(config, "config", config)
        if isinstance(found, EngineConfig):
            self.engine_config = found

    @property
    def state_dir(self) -> Path:
        """Its state folder."""
        return instance_dir(self.name)

    def executor(self, op: str, **request: Any) -> dict[str, Any]:
        """One request to the executor; a close is waited for as long as it may take there."""
        timeout_s = CLOSE_TIMEOUT_S if op == "close" else TIMEOUT_S
        return ask(self.state_dir / EXECUTOR_SOCKET, {"op": op, **request}, timeout_s=timeout_s)

    def supervisor(self, op: str, **request: Any) -> dict[str, Any]:
        """One request to the supervisor."""
        return ask(self.state_dir / SUPERVISOR_SOCKET, {"op": op, **request}, timeout_s=TIMEOUT_S)

    async def ask_executor(self, op: str, **request: Any) -> dict[str, Any]:
        """As :meth:`executor`, without holding up the event loop."""
        return await asyncio.to_thread(self.executor, op, **request)

    async def ask_supervisor(self, op: str, **request: Any) -> dict[str, Any]:
        """As :meth:`supervisor`, without holding up the event loop."""
        return await asyncio.to_thread(self.supervisor, op, **request)

    def answers(self) -> bool:
        """Whether the executor answers."""
        try:
            self.executor("operations")
        except ArbitrageEngineError:
            return False
        return True

    def venue_symbols(self) -> Mapping[tuple[str, str], str]:
        """(venue, pair) -> the venue's own symbol, of every instrument of the running instance."""
        rows = self.supervisor("symbols")["instruments"]
        return {(row["venue"], row["pair"]): row["symbol"] for row in rows if not row["removed"]}
