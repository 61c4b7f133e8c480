"""Basic arbitrage engine setup: ``python -m examples.basic_engine`` runs it on simulated exchanges."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

from arbitrage import (
    ArbitrageConfig,
    ArbitrageEngine,
    ExchangeName,
    GateioPrivateExchange,
    MexcPrivateExchange,
    OpportunityType,
    RiskLimits,
    SimulatedExchanges,
)

ENGINE_NAME = "hft_arbitrage_v1"
MARKET = Path(__file__).with_name("market.yaml")


async def monitor(arb_engine: ArbitrageEngine, rounds: int = 6, pause_s: float = 5.0) -> None:
    """Engine will automatically detect and execute opportunities; monitor engine statistics."""
    for _ in range(rounds):
        stats = arb_engine.get_engine_statistics()
        print(f"Opportunities: {stats['opportunities_detected']}, Executed: {stats['opportunities_executed']}")

        await asyncio.sleep(pause_s)


async def main(work: Callable[[ArbitrageEngine], Awaitable[None]] = monitor) -> None:
    # Configure risk limits
    risk_limits = RiskLimits(
        max_position_size_usd=Decimal("10000"),
        max_total_exposure_usd=Decimal("50000"),
        max_daily_loss_usd=Decimal("5000"),
        min_profit_margin_bps=Decimal(50),  # 0.5% minimum profit
        max_execution_time_ms=45000,  # 45 second max execution
        max_slippage_bps=Decimal(20),  # 0.2% max slippage
    )

    # Engine configuration
    config = ArbitrageConfig(
        engine_name=ENGINE_NAME,
        enabled_opportunity_types=[
            OpportunityType.SPOT_SPOT,
            OpportunityType.SPOT_FUTURES_HEDGE,
        ],
        enabled_exchanges=[ExchangeName.MEXC, ExchangeName.GATEIO],
        target_execution_time_ms=30,  # 30ms target
        risk_limits=risk_limits,
        enable_risk_checks=True,
        enable_circuit_breakers=True,
        # The example's market never closes its gap between spot and futures: the engine would take it for no edge.
        settings={"detection": {"hedge": {"expected_exit_basis_bps": 0}}},
    )

    async with SimulatedExchanges(scenario=str(MARKET)) as simulated:
        # Exchange connections
        mexc_private = MexcPrivateExchange(**simulated.access(ExchangeName.MEXC))
        gateio_private = GateioPrivateExchange(**simulated.access(ExchangeName.GATEIO))

        private_exchanges = {
            ExchangeName.MEXC: mexc_private,
            ExchangeName.GATEIO: gateio_private,
        }

        # Initialize engine
        engine = ArbitrageEngine(
            config=config,
            public_exchanges=simulated.public_exchanges,  # From existing setup
            private_exchanges=private_exchanges,
        )

        # Run arbitrage session
        async with engine.session() as arb_engine:
            print("Arbitrage engine operational...")

            await work(arb_engine)


if __name__ == "__main__":
    asyncio.run(main())
