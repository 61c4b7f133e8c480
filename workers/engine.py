"""``ArbitrageEngine``: the Python user's way in. It starts the same processes as ``arb up``.

    async with ArbitrageEngine("config.yaml").session() as engine:
        result = await engine.execute_opportunity(opportunity)
        print(engine.get_engine_statistics())

Detection and execution run in their own processes from ``start`` on; this object is not on their path.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from pipeline.execution.results.counts import OperationCounts
from pipeline.market_data import MarketDataAggregator
from pipeline.model.config import EngineConfig
from pipeline.model.config_load import load_config
from pipeline.model.errors import BadInput, OrderExecutionError
from pipeline.model.structs import ArbitrageOpportunity
from shm.errors import ShmError
from shm.metrics import Metrics
from workers.cli.manual_opportunity import execute_request, request_of
from workers.control_plane.launch import Launched
from workers.control_plane.preflight import check_mode
from workers.control_socket import ControlError
from workers.view.status import Reader


class ExecutionResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a manual opportunity ended. Times in milliseconds, profit in the numeraire."""

    final_state: str
    total_execution_time_ms: float | None
    realized_profit: Decimal | None
    operation_id: str = ""
    reason: str = ""


class ArbitrageEngine:
    """One instance of the whole engine, owned by this object from ``start`` to ``stop``."""

    def __init__(self, config: EngineConfig | str | Path, *, instance: str = "", live_confirmed: bool = False) -> None:
        """``config``: a checked configuration or its file. ``live_confirmed``: live mode needs it (real money).

        Raises ConfigInvalid.
        """
        self.config = config if isinstance(config, EngineConfig) else load_config(config)
        self.instance = instance or self.config.instance
        check_mode(self.config, self.instance, live_confirmed=live_confirmed)
        self._live_confirmed = live_confirmed
        self._launched: Launched | None = None
        self.market_data = MarketDataAggregator(self.instance, self.config, self._subscribe)

    # --- life ---

    async def start(self) -> None:
        """Start every process and wait until all are READY. Raises LaunchError; a second start is refused."""
        if self._launched is not None:
            raise BadInput(f"engine {self.instance} has been started already; call stop() first")
        launched = Launched(self.instance, live_confirmed=self._live_confirmed)
        try:
            launched.configure({**msgspec.to_builtins(self.config), "engine_name": self.instance})
            await asyncio.to_thread(launched.wait_ready)
        except BaseException:
            await asyncio.to_thread(launched.stop)
            raise
        self._launched = launched
        await self.market_data.start_aggregation()

    async def stop(self) -> None:
        """Stop in order: no new opportunities, then no new orders, what is open is ended or left to recovery."""
        if self._launched is not None:
            launched, self._launched = self._launched, None
            await self.market_data.stop_aggregation()
            await asyncio.to_thread(launched.stop)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[ArbitrageEngine]:
        """Start on entering, stop on leaving, also after an error."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    # --- work ---

    async def execute_opportunity(self, opportunity: ArbitrageOpportunity) -> ExecutionResult:
        """A manual opportunity through the same gate and saga as every other. Raises OrderExecutionError, BadInput."""
        symbols = {(row["venue"], row["pair"]): row["symbol"] for row in (await self._ask(op="symbols"))["instruments"]}
        request = request_of(opportunity, symbols)
        try:
            reply = await asyncio.to_thread(execute_request, request, self.instance)
        except ControlError as error:
            raise OrderExecutionError(f"the executor did not answer: {error}") from error
        profit = reply.get("realized_profit")
        return ExecutionResult(
            final_state=str(reply["final_state"]),
            total_execution_time_ms=reply.get("total_execution_time_ms"),
            realized_profit=None if profit is None else Decimal(str(profit)),
            operation_id=str(reply.get("operation_id", "")),
            reason=str(reply.get("reason", "")),
        )

    async def _subscribe(self, venue: str, symbol: str) -> None:
        await self._ask(op="symbols", action="add", venue=venue, symbol=symbol)

    async def _ask(self, **request: Any) -> dict[str, Any]:
        if self._launched is None:
            raise BadInput("found an engine that is not started, wanted a running one; call start(), or use session()")
        return await asyncio.to_thread(self._launched.ask, **request)

    # --- what it is doing ---

    @property
    def is_healthy(self) -> bool:
        """Whether new risk is taken everywhere: the state that `arb status` shows is ready."""
        if self._launched is None or not self._launched.alive():
            return False
        reading = Reader(self.instance).read()
        return bool(reading["state"] == "ready")

    def get_engine_statistics(self) -> Mapping[str, Any]:
        """Counts over the whole journal (pipeline/execution/results/counts.py), the mean time in milliseconds; 0
        where nothing happened yet."""
        reading = Reader(self.instance).read()
        counts = OperationCounts.of(reading["operations"])
        average_ms = 0.0
        with contextlib.suppress(ShmError, KeyError):
            average_ms = Metrics.attach(self.instance, "executor").histograms()["operation"].mean / 1e6
        return {
            "opportunities_detected": reading["opportunities"]["detected"],
            "opportunities_executed": counts.entries,
            "success_rate": counts.success_rate or 0.0,
            "average_execution_time_ms": round(average_ms, 3),
        }
