"""Custom risk management: a second program beside a running engine may do this as well."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from arbitrage import ArbitrageEngine, RiskManager, RiskMetrics

heard: list[str] = []
listening: list[RiskManager] = []


def custom_risk_alert(alert_type: str, metrics: RiskMetrics) -> None:
    """Custom risk alert handler"""
    heard.append(alert_type)
    if alert_type == "CIRCUIT_BREAKER_TRIGGERED":
        print(f"CIRCUIT BREAKER: {metrics.total_exposure_usd} USD exposure")
        # Send alert to monitoring system
        # Implement custom risk response


async def setup_custom_risk_monitoring(engine: ArbitrageEngine, rounds: int = 60, pause_s: float = 1.0) -> None:
    risk_manager = RiskManager(
        config=engine.config,
        risk_alert_callback=custom_risk_alert,
    )

    await risk_manager.start_monitoring()
    listening.append(risk_manager)

    # Monitor custom risk metrics
    for _ in range(rounds):
        metrics = risk_manager.get_current_risk_metrics()
        if metrics and metrics.total_exposure_usd > Decimal("40000"):
            print(f"High exposure warning: ${metrics.total_exposure_usd}")

        await asyncio.sleep(pause_s)
    await risk_manager.stop_monitoring()
