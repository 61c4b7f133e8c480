"""Configuration in Python: ``arb config check --config examples/arbitrage_config.py``."""

from __future__ import annotations

from decimal import Decimal

from arbitrage import (
    ArbitrageConfig,
    GateioPublicExchange,
    MexcPublicExchange,
    OpportunityType,
    RiskLimits,
)

ARBITRAGE_CONFIG = ArbitrageConfig(
    engine_name="production_arbitrage",
    enabled_opportunity_types=[
        OpportunityType.SPOT_SPOT,
        OpportunityType.SPOT_FUTURES_HEDGE,
    ],
    target_execution_time_ms=30,
    risk_limits=RiskLimits(
        max_position_size_usd=Decimal("25000"),
        max_total_exposure_usd=Decimal("100000"),
        min_profit_margin_bps=Decimal(75),  # 0.75% minimum
    ),
    enable_dry_run=False,  # Set to True for testing
    enable_detailed_logging=True,
    settings={
        "exchanges": {
            "mexc": MexcPublicExchange().section(),
            "gateio": GateioPublicExchange(markets=("spot", "futures")).section(),
        }
    },
)
