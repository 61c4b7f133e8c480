"""Unified configuration loading, and the debug mode."""

from __future__ import annotations

import logging
from pathlib import Path

from arbitrage import ArbitrageConfig, get_config, get_exchange_config


def load(path: Path | None = None) -> str:
    """The REST address of a venue, of the loaded configuration."""
    # Unified configuration loading
    config = get_config(path)  # Loads from config.yaml + environment
    exchange_config = config.get_exchange_config("mexc_spot")
    assert exchange_config == get_exchange_config("mexc_spot", path)
    return exchange_config.rest


def debug_configuration() -> ArbitrageConfig:
    """Enable comprehensive debugging."""
    logging.basicConfig(level=logging.DEBUG)

    return ArbitrageConfig(
        enable_detailed_logging=True,
        enable_dry_run=True,  # Paper trading mode
        enable_performance_metrics=True,
    )
