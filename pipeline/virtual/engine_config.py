"""The configuration of an engine on a virtual world's venues."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from pipeline.model.config import EngineConfig, ExchangeConfig, MarketConfig
from pipeline.model.enums import Mode
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.scenarios.specs import Scenario


def engine_config(
    scenario: Scenario,
    venues: Mapping[str, SimVenue],
    settings: dict[str, Any],
    expected_exit_basis_bps: Decimal | None,
) -> EngineConfig:
    """All instruments of all ``venues``. ``settings``: sections of ``EngineConfig`` as structs;
    ``expected_exit_basis_bps``: as in ``HedgeConfig``, where the settings leave it out."""
    exchanges: dict[str, ExchangeConfig] = {}
    for exchange, spec in scenario.exchanges.items():
        markets = {
            market: MarketConfig(symbols=tuple(venues[f"{exchange}_{market}"].instruments)) for market in spec.venues
        }
        exchanges[exchange] = ExchangeConfig(dialect=spec.dialect, markets=markets)
    config = EngineConfig(engine_name="virtual", mode=Mode.SIM, exchanges=exchanges, **settings)
    hedge = config.detection.hedge
    if hedge.expected_exit_basis_bps is None:
        hedge = replace(hedge, expected_exit_basis_bps=expected_exit_basis_bps)
    return replace(config, detection=replace(config.detection, hedge=hedge))
