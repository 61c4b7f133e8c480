"""Performance metrics and health monitoring."""

from __future__ import annotations

import asyncio
import logging

from arbitrage import ArbitrageEngine

logger = logging.getLogger("examples")


def performance_metrics(engine: ArbitrageEngine) -> None:
    risk_manager, recovery_manager = engine.risk_manager, engine.recovery_manager

    # Engine performance
    engine_stats = engine.get_engine_statistics()
    print(f"Success rate: {engine_stats['success_rate']}%")
    print(f"Avg execution: {engine_stats['average_execution_time_ms']}ms")

    # Risk metrics
    risk_stats = risk_manager.get_risk_statistics()
    print(f"Circuit breakers: {risk_stats['circuit_breaker_triggers']}")
    print(f"Daily P&L: ${risk_stats['daily_realized_pnl']}")

    # Recovery statistics
    recovery_stats = recovery_manager.get_recovery_statistics()
    print(f"Recovery success: {recovery_stats['success_rate']}%")


async def health_monitor(engine: ArbitrageEngine, rounds: int = 10, pause_s: float = 30.0) -> list[str]:
    """Comprehensive system health monitoring: the components that were unhealthy last."""
    risk_manager, balance_monitor = engine.risk_manager, engine.balance_monitor
    market_data_aggregator = engine.market_data
    unhealthy_components: list[str] = []
    for _ in range(rounds):
        health_checks = {
            "engine": engine.is_healthy,
            "risk_manager": risk_manager.is_monitoring,
            "balance_monitor": balance_monitor.is_monitoring,
            "market_data": market_data_aggregator.is_aggregating,
        }

        unhealthy_components = [component for component, healthy in health_checks.items() if not healthy]

        if unhealthy_components:
            logger.critical(f"Unhealthy components: {unhealthy_components}")
            # Trigger alerts and recovery procedures

        await asyncio.sleep(pause_s)  # Health check every 30 seconds
    return unhealthy_components
