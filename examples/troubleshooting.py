"""Common issues: latency, circuit breakers, recoveries."""

from __future__ import annotations

import time
from collections.abc import Iterable

from arbitrage import ArbitrageEngine, PrivateExchangeInterface


async def diagnose_latency(exchanges: Iterable[PrivateExchangeInterface]) -> list[float]:
    """Check network latency."""
    found = []
    for exchange in exchanges:
        start_time = time.time()
        await exchange.ping()
        latency = (time.time() - start_time) * 1000
        print(f"{exchange}: {latency:.1f}ms")
        found.append(latency)
    return found


def check_breakers(engine: ArbitrageEngine) -> tuple[str, ...]:
    """Check risk limits and market conditions."""
    risk_status = engine.risk_manager.get_circuit_breaker_status()
    if risk_status.triggered_breakers:
        print(f"Triggered: {risk_status.triggered_breakers}")
        # Adjust risk limits or wait for market stability
    return risk_status.triggered_breakers


def check_recoveries(engine: ArbitrageEngine) -> int:
    """Monitor recovery operations."""
    active_recoveries = engine.recovery_manager.get_active_recoveries()
    for recovery in active_recoveries:
        if recovery.requires_manual_approval:
            print(f"Manual intervention needed: {recovery.recovery_id}")
    return len(active_recoveries)
