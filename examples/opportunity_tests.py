"""How a program tests its opportunities, and the five-minute run: ``python -m examples.opportunity_tests``."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec

from arbitrage import ArbitrageEngine, ArbitrageOpportunity, ArbitrageState, RiskManagementError
from examples.basic_engine import main
from examples.manual_opportunity import execute_specific_opportunity, specific_opportunity


async def opportunity_execution(engine: ArbitrageEngine) -> None:
    """Test basic opportunity execution"""
    result = await execute_specific_opportunity(engine)

    assert result.final_state == ArbitrageState.COMPLETED
    assert result.total_execution_time_ms < 50
    assert result.realized_profit > 0


async def risk_validation(engine: ArbitrageEngine) -> None:
    """Test risk management validation"""
    risk_manager = engine.risk_manager
    high_risk_opportunity = msgspec.structs.replace(specific_opportunity(), max_quantity=Decimal(30))

    is_valid = await risk_manager.validate_opportunity_risk(high_risk_opportunity)

    assert not is_valid  # Should reject high-risk opportunity


async def full_arbitrage_cycle(engine: ArbitrageEngine, seconds: float = 300, stop_at: int = 0) -> list[ArbitrageState]:
    """Test complete arbitrage cycle; ends at ``stop_at`` opportunities where that is not 0."""
    # Monitor for opportunities
    opportunities_detected = 0
    states: list[ArbitrageState] = []

    async def opportunity_handler(opportunity: ArbitrageOpportunity) -> None:
        nonlocal opportunities_detected
        opportunities_detected += 1

        if opportunities_detected <= 3:  # Test first 3 opportunities
            try:
                result = await engine.execute_opportunity(opportunity)
            except RiskManagementError as error:  # a limit
                print(error)
                opportunities_detected -= 1
                return
            assert result.final_state in [ArbitrageState.COMPLETED, ArbitrageState.FAILED]
            states.append(result.final_state)

    async def handle_all() -> None:
        async for opportunity in engine.opportunities():
            await opportunity_handler(opportunity)
            if stop_at and opportunities_detected >= stop_at:
                return

    # Run for test duration
    await asyncio.wait([asyncio.create_task(handle_all())], timeout=seconds)  # 5 minutes

    assert opportunities_detected > 0
    return states


async def five_minutes(engine: ArbitrageEngine) -> None:
    """The whole run."""
    print(await full_arbitrage_cycle(engine))
    stats = engine.get_engine_statistics()
    assert stats["opportunities_detected"] > 0


if __name__ == "__main__":
    asyncio.run(main(five_minutes))
