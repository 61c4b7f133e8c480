"""``ArbitrageEngine`` as a Python user runs it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.model.config_load import config_from_mapping
from pipeline.model.enums import OpportunityType
from pipeline.model.errors import BadInput, ConfigInvalid
from pipeline.model.structs import ArbitrageOpportunity
from tests.worlds.instance_rig import segments_of
from tests.worlds.waiting import until
from workers.credentials import store_credentials
from workers.demo.simulator import SimulatorProcess, keys_of
from workers.engine import ArbitrageEngine

pytestmark = pytest.mark.e2e

INSTANCE = "t-engine"


def opportunity(pair: str) -> ArbitrageOpportunity:
    """A sale far above the market: never worth it at these prices."""
    return ArbitrageOpportunity(
        opportunity_id="manual-1", opportunity_type=OpportunityType.SPOT_SPOT, symbol=pair, buy_exchange="gateio_spot",
        sell_exchange="mexc_spot", buy_price=Decimal(100), sell_price=Decimal(90000), max_quantity=Decimal("0.01"),
        profit_per_unit=Decimal(1), total_profit_estimate=Decimal(1), profit_margin_bps=Decimal(10),
    )  # fmt: skip


def test_a_session_executes_counts_and_cleans_up(tmp_path: Path) -> None:
    simulator = SimulatorProcess(seed=1, scenario="demo", log=tmp_path / "simulator.log")

    async def use(engine: ArbitrageEngine) -> None:
        with pytest.raises(BadInput, match="not started"):
            await engine.execute_opportunity(opportunity("ETH/USDT"))
        assert not engine.is_healthy
        async with engine.session():
            until(lambda: engine.is_healthy, "health")
            assert engine.market_data.is_aggregating
            with pytest.raises(BadInput, match="already"):
                await engine.start()
            result = await engine.execute_opportunity(opportunity("ETH/USDT"))
            assert result.final_state in ("refused", "failed")
            with pytest.raises(BadInput, match="no instrument"):
                await engine.execute_opportunity(opportunity("NO/SUCH"))
            snapshot = engine.market_data.get_latest_snapshot(["BTC/USDT"])
            assert {book.venue for book in snapshot.books} == {"mexc_spot", "gateio_spot", "gateio_futures"}
            statistics = engine.get_engine_statistics()
            assert set(statistics) == {
                "opportunities_detected", "opportunities_executed", "success_rate", "average_execution_time_ms",
            }  # fmt: skip
        assert not engine.is_healthy
        assert not engine.market_data.is_aggregating

    try:
        sim = simulator.wait_ready()
        for exchange, key in keys_of(sim["venues"]).items():
            store_credentials(INSTANCE, exchange, key)
        config = config_from_mapping({**sim["engine_config"], "engine_name": INSTANCE})
        asyncio.run(use(ArbitrageEngine(config)))
    finally:
        simulator.stop()
    assert segments_of(INSTANCE) == []


def test_live_needs_its_word_and_keys() -> None:
    config = config_from_mapping(
        {
            "engine_name": INSTANCE,
            "mode": "live",
            "exchanges": {
                "mexc": {
                    "dialect": "mexc",
                    "markets": {"spot": {"rest": "https://localhost", "ws": "wss://localhost", "symbols": ["A"]}},
                }
            },
        }
    )
    with pytest.raises(ConfigInvalid, match="i-understand-live-trading"):
        ArbitrageEngine(config)
    with pytest.raises(ConfigInvalid, match="no key"):
        ArbitrageEngine(config, live_confirmed=True)
