"""``OrderOrchestrator``: opportunities executed and orders cancelled by the executor of a running instance."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from arbitrage.instance import Instance
from arbitrage.names import venue_name
from arbitrage.results import ExecutionResult, result_of
from pipeline.model.enums import OpportunityType, OrderSide
from pipeline.model.structs import ArbitrageOpportunity
from workers.cli.manual_opportunity import execute_request, request_of


async def legs_of(instance: Instance, opportunity: ArbitrageOpportunity) -> dict[str, Any]:
    """The executor's form of an opportunity; exchanges become venues (``names.venue_name``; the one symbol of a
    spot-futures hedge says nothing of its two markets). Raises BadInput."""
    kind = opportunity.opportunity_type
    symbol = "" if kind is OpportunityType.SPOT_FUTURES_HEDGE else opportunity.symbol
    named = msgspec.structs.replace(
        opportunity,
        symbol=str(opportunity.symbol),
        buy_exchange=venue_name(opportunity.buy_exchange, kind, OrderSide.BUY, symbol),
        sell_exchange=venue_name(opportunity.sell_exchange, kind, OrderSide.SELL, symbol),
    )
    return request_of(named, await asyncio.to_thread(instance.venue_symbols))


class OrderOrchestrator:
    """Execution by the executor: one gate and one saga for manual opportunities and for the detector's."""

    def __init__(self, config: object) -> None:
        """``config``: what names the instance (see ``Instance``)."""
        self._instance = Instance(config)

    async def execute_opportunity(self, opportunity: ArbitrageOpportunity) -> ExecutionResult:
        """Both legs at once, at the opportunity's prices as limits; waits for the end. Raises as ``result_of``,
        BadInput, ControlError."""
        return await self.execute_legs(await legs_of(self._instance, opportunity))

    async def execute_legs(self, legs: Mapping[str, Any]) -> ExecutionResult:
        """As :meth:`execute_opportunity`, of ``{"type", "legs": [{venue, symbol, side, qty, limit_price}]}``."""
        return result_of(await asyncio.to_thread(execute_request, dict(legs), self._instance.name))

    async def cancel_all_orders(self, reason: str = "") -> list[str]:
        """Cancel every order of ours that may still rest; the client ids that were asked for. Their ends are facts of
        the venues: ``OrderOrchestrator`` waits for none."""
        return [str(name) for name in (await self._instance.ask_executor("cancel_orders", reason=reason))["asked"]]

    def get_execution_statistics(self) -> dict[str, float]:
        """Counts over the whole journal: executed, completed, failed, recovered, unresolved; ``success_rate`` in per
        cent; ``average_execution_time_ms``, ``open_hedges``, ``unsettled_orders``. Raises ControlError."""
        reply = {name: value for name, value in self._instance.executor("operations").items() if name != "open"}
        return {**reply, "success_rate": round(100 * float(reply["success_rate"]), 2)}
