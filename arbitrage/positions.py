"""``PositionManager``: what a running instance holds, and legs that are executed together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec

from arbitrage.instance import Instance
from arbitrage.names import venue_name
from arbitrage.orders import OrderOrchestrator
from arbitrage.results import ExecutionResult
from pipeline.execution.positions import PositionEntry
from pipeline.model.enums import ArbitrageState, OpportunityType, OrderSide
from pipeline.model.errors import BadInput, OrderExecutionError
from pipeline.model.structs import ArbitrageOpportunity


class AtomicOperation:
    """Legs that are sent together when the block ends; ``result`` is there then."""

    def __init__(self, kind: OpportunityType) -> None:
        self._kind = kind
        self.legs: list[dict[str, str]] = []
        self.result: ExecutionResult | None = None

    def place_order(self, exchange: str, symbol: str, side: OrderSide, quantity: Decimal, limit_price: Decimal) -> None:
        """Add one leg; nothing is sent yet. ``symbol``: a pair, or the venue's own."""
        place = venue_name(exchange, self._kind, side, symbol)
        amounts = {"qty": format(Decimal(quantity), "f"), "limit_price": format(Decimal(limit_price), "f")}
        self.legs.append({"venue": place, "symbol": str(symbol), "side": side.name.lower(), **amounts})


class PositionManager:
    """Positions, exposure and profit of the executor's ledger, read at each call."""

    def __init__(self, config: object) -> None:
        """``config``: what names the instance (see ``Instance``)."""
        self._instance = Instance(config)
        self._orders = OrderOrchestrator(config)

    def get_positions(
        self, *, exchange: str | None = None, symbol: str | None = None, open_only: bool = True
    ) -> list[PositionEntry]:
        """Filled legs of operations under way and of open hedges (``open_only=False``: of all in memory).
        ``exchange``: a venue's name; ``symbol``: the venue's own. Raises ControlError."""
        reply = self._instance.executor("entries", exchange=exchange, symbol=symbol, all=not open_only)
        return [msgspec.convert(row, PositionEntry, strict=False) for row in reply["entries"]]

    def get_position_ages(self) -> dict[str, float]:
        """Seconds since the first fill, by id of each open position. Raises ControlError."""
        return {row["position_id"]: float(row["age_s"]) for row in self._instance.executor("entries")["entries"]}

    def calculate_total_exposure(self) -> Decimal | None:
        """USD value of the net exposure, asset by asset: near zero while all that is open is hedged. None while an
        asset has no USD rate."""
        found = self._instance.executor("entries")["total_exposure_usd"]
        return None if found is None else Decimal(found)

    def calculate_total_pnl(self) -> dict[str, Decimal]:
        """Change of the accounts per asset by every fill, fee and funding since the journal began; exact."""
        return {asset: Decimal(value) for asset, value in self._instance.executor("entries")["total_pnl"].items()}

    def get_hedges(self) -> list[dict[str, Any]]:
        """Open hedges with entry, age, marks, profit, funding and distance to liquidation, as ``arb hedges``."""
        return list(self._instance.executor("hedges")["hedges"])

    async def create_position(self, opportunity: ArbitrageOpportunity) -> list[PositionEntry]:
        """Execute an opportunity and return the positions that its fills made, both legs or none: a broken leg is
        repaired by the executor. Raises as ``OrderOrchestrator.execute_opportunity``, and OrderExecutionError where
        nothing was executed."""
        result = await self._orders.execute_opportunity(opportunity)
        if result.final_state is not ArbitrageState.COMPLETED:
            raise OrderExecutionError(f"no position: {result.reason}")
        rows = (await self._instance.ask_executor("entries", all=True))["entries"]
        mine = [row for row in rows if row["operation_id"] == result.operation_id]
        return [msgspec.convert(row, PositionEntry, strict=False) for row in mine]

    async def close_position(self, hedge_id: str) -> dict[str, Any]:
        """Leave one open hedge at a bounded price, as ``arb close``. Raises BadInput, ControlError."""
        return await self._instance.ask_executor("close", id=hedge_id)

    @contextlib.asynccontextmanager
    async def atomic_operation(
        self, kind: OpportunityType = OpportunityType.SPOT_FUTURES_HEDGE
    ) -> AsyncIterator[AtomicOperation]:
        """Legs that are one operation: sent together at the end of the block, through gate and saga; none when the
        block raises. Raises as ``OrderOrchestrator.execute_opportunity``, BadInput for other than two or three legs."""
        operation = AtomicOperation(kind)
        yield operation
        if not 2 <= len(operation.legs) <= 3:
            raise BadInput(f"atomic_operation: found {len(operation.legs)} legs, wanted two or three")
        symbols = await asyncio.to_thread(self._instance.venue_symbols)
        for leg in operation.legs:
            leg["symbol"] = symbols.get((leg["venue"], leg["symbol"]), leg["symbol"])
        operation.result = await self._orders.execute_legs({"type": kind.name.lower(), "legs": operation.legs})
