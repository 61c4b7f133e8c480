"""Manual opportunity execution: ``python -m examples.manual_opportunity``."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from arbitrage import (
    ArbitrageEngine,
    ArbitrageOpportunity,
    ExchangeName,
    ExecutionResult,
    OpportunityType,
    Symbol,
)
from examples.basic_engine import main


def specific_opportunity() -> ArbitrageOpportunity:
    """Create specific opportunity."""
    return ArbitrageOpportunity(
        opportunity_id="manual_btc_usdt_001",
        opportunity_type=OpportunityType.SPOT_SPOT,
        symbol=Symbol("BTC/USDT"),
        buy_exchange=ExchangeName.MEXC,
        sell_exchange=ExchangeName.GATEIO,
        buy_price=Decimal("45000.00"),
        sell_price=Decimal("45100.00"),
        max_quantity=Decimal("0.1"),
        profit_per_unit=Decimal("100.00"),
        total_profit_estimate=Decimal("10.00"),
        profit_margin_bps=Decimal(22),  # 0.22% profit
    )


async def execute_specific_opportunity(arb_engine: ArbitrageEngine) -> ExecutionResult:
    """Execute opportunity."""
    result = await arb_engine.execute_opportunity(specific_opportunity())

    print(f"Execution result: {result.final_state} {result.reason}")
    print(f"Execution time: {result.total_execution_time_ms}ms")
    print(f"Realized profit: ${result.realized_profit}")
    return result


async def only_by_hand(arb_engine: ArbitrageEngine) -> None:
    """The engine leaves the market to us."""
    await arb_engine.detector.stop_detection()
    await execute_specific_opportunity(arb_engine)


if __name__ == "__main__":
    asyncio.run(main(only_by_hand))
