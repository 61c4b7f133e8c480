"""Every program of ``examples/`` on one running engine: that of the basic example, on its own market."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from cryptography.fernet import Fernet

from arbitrage import (
    ArbitrageConfig,
    ArbitrageEngine,
    ArbitrageState,
    ConfigInvalid,
    ExchangeName,
    ExecutionResult,
    Mode,
    OrderExecutionError,
    OrderSide,
    PrivateExchangeInterface,
    Symbol,
)
from examples import (
    basic_engine,
    configuration,
    custom_risk,
    error_handling,
    manual_opportunity,
    monitoring,
    opportunity_tests,
    security,
    trading_rules,
    troubleshooting,
)
from pipeline.model.config_load import load_config
from tests.paths import REPO
from tests.worlds.instance_rig import PATIENT, segments_of
from tests.worlds.waiting import WAIT_S, until_async
from workers.control_socket import ControlError

pytestmark = pytest.mark.e2e

EXAMPLES = REPO / "examples"


async def again(attempt: Callable[[], Awaitable[bool]]) -> None:
    """``attempt`` until it is true: what is refused in one moment (an own fill not in the book yet) is asked again."""
    give_up = time.monotonic() + WAIT_S
    while True:
        with contextlib.suppress(OrderExecutionError, ControlError):  # its end is not known yet
            if await attempt():
                return
        assert time.monotonic() < give_up, "never came true"
        await asyncio.sleep(0.02)


def patient_config(*, settings: dict[str, Any], **fields: Any) -> ArbitrageConfig:
    """The example's configuration, with a guard that lets a busy host keep the executor off its CPU for a while."""
    return ArbitrageConfig(settings={**settings, "guard": PATIENT}, **fields)


async def by_hand(engine: ArbitrageEngine) -> None:
    """Manual execution, rules, errors, and how a program tests all of it."""

    async def completed() -> bool:
        result = await manual_opportunity.execute_specific_opportunity(engine)
        return result.final_state == ArbitrageState.COMPLETED and result.realized_profit > 0

    async def tested() -> bool:
        try:
            await opportunity_tests.opportunity_execution(engine)
        except AssertionError:  # refused in that moment, or a machine that took more than 50 ms
            return False
        return True

    hedges: list[ExecutionResult] = []

    async def hedged() -> bool:
        result = await trading_rules.atomic_operation(engine, Decimal("0.1"))
        assert result is not None
        hedges.append(result)
        return result.final_state == ArbitrageState.COMPLETED

    async def left() -> bool:
        """The hedges of the first moment have taken up the limit: they leave."""
        for hedge in engine.position_manager.get_hedges():
            await engine.position_manager.close_position(hedge["hedge_id"])
        return not engine.position_manager.get_positions()

    await manual_opportunity.only_by_hand(engine)
    await again(completed)
    await again(tested)
    await opportunity_tests.risk_validation(engine)
    await again(left)
    await again(hedged)
    entries = engine.position_manager.get_positions(open_only=False)
    legs = {(entry.exchange, entry.side) for entry in entries if entry.operation_id == hedges[-1].operation_id}
    assert legs == {("mexc_spot", OrderSide.BUY), ("gateio_futures", OrderSide.SELL)}
    dear = msgspec.structs.replace(manual_opportunity.specific_opportunity(), buy_price=Decimal(1))
    assert await error_handling.execute_carefully(engine, dear) == "FAILED"
    nowhere = msgspec.structs.replace(dear, buy_exchange="nowhere")
    assert await error_handling.execute_carefully(engine, nowhere) == "refused"


async def watched(engine: ArbitrageEngine, accounts: list[PrivateExchangeInterface]) -> None:
    """Risk alerts, health, metrics, diagnosis."""
    monitor = asyncio.create_task(custom_risk.setup_custom_risk_monitoring(engine, rounds=1000, pause_s=0.01))
    await until_async(lambda: bool(custom_risk.listening), "it listens")
    await engine.risk_manager.force_emergency_shutdown("an example")
    await until_async(lambda: bool(custom_risk.heard), "an alert")
    monitor.cancel()
    assert custom_risk.heard == ["CIRCUIT_BREAKER_TRIGGERED"]
    assert troubleshooting.check_breakers(engine) == ("emergency",)
    opportunity = manual_opportunity.specific_opportunity()
    assert await error_handling.execute_carefully(engine, opportunity) == "risk"
    assert "engine" in await monitoring.health_monitor(engine, rounds=1, pause_s=0)
    await engine.risk_manager.rearm("emergency", "an example")

    async def healthy() -> bool:
        return await monitoring.health_monitor(engine, rounds=1, pause_s=0) == []

    await again(healthy)
    monitoring.performance_metrics(engine)
    assert troubleshooting.check_recoveries(engine) == 0
    assert all(latency > 0 for latency in await troubleshooting.diagnose_latency(accounts))
    assert trading_rules.watch_execution_time(51.0) and not trading_rules.watch_execution_time(50.0)
    assert trading_rules.validate_data_freshness(1000, 1100) and not trading_rules.validate_data_freshness(1000, 1101)


def test_the_programs_run_on_one_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"t-{secrets.token_hex(4)}"
    monkeypatch.setattr(basic_engine, "ENGINE_NAME", name)
    monkeypatch.setattr(basic_engine, "ArbitrageConfig", patient_config)
    states: list[ArbitrageState] = []

    async def everything(engine: ArbitrageEngine) -> None:
        await engine.detector.stop_detection()  # else hedges take up the limit that the examples need
        await basic_engine.monitor(engine, rounds=1, pause_s=0)
        public = engine.exchange(ExchangeName.MEXC)
        assert await trading_rules.fresh_data(public, Symbol("BTC/USDT")) > 0
        await by_hand(engine)
        await watched(engine, [engine.account(name) for name in (ExchangeName.MEXC, ExchangeName.GATEIO)])
        await engine.detector.start_detection()
        states.extend(await opportunity_tests.full_arbitrage_cycle(engine, stop_at=3))
        await until_async(lambda: engine.get_engine_statistics()["opportunities_detected"] > 0, "the statistics")

    asyncio.run(basic_engine.main(everything))
    assert len(states) == 3
    said = capsys.readouterr().out
    for text in ("operational...", "Execution result: COMPLETED", "Success rate: ", "CIRCUIT BREAKER: ", "Triggered: "):
        assert text in said
    assert segments_of(name) == []


def test_the_configurations_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(EXAMPLES / "arbitrage_config.py")
    assert (config.engine_name, config.mode) == ("production_arbitrage", Mode.LIVE)
    assert config.risk_limits.max_position_size_usd == 25_000 and len(config.venues) == 3
    assert configuration.load(EXAMPLES / "arbitrage_config.py") == "https://api.mexc.com/api/v3"
    with pytest.raises(ConfigInvalid, match="i-understand-live-trading"):
        ArbitrageEngine(EXAMPLES / "arbitrage_config.py")
    level = logging.getLogger().level
    found = configuration.debug_configuration()
    logging.getLogger().setLevel(level)
    assert isinstance(found, ArbitrageConfig) and found.as_mapping()["mode"] == "paper"


def test_keys_from_variables_and_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Fernet.generate_key()
    monkeypatch.setenv("ENCRYPTION_KEY", key.decode())
    monkeypatch.setenv("MEXC_API_KEY_ENCRYPTED", Fernet(key).encrypt(b"the key").decode())
    assert security.private_exchange("the secret").hand_over().api_key == "the key"
    assert security.public_exchange().venue_config().rest == "https://api.mexc.com/api/v3"

    async def limits() -> tuple[int, float | None]:
        async with await security.create_optimized_session() as session:
            assert isinstance(session.connector, aiohttp.TCPConnector)
            return session.connector.limit, session.timeout.total

    assert asyncio.run(limits()) == (100, 5)


def test_the_readme_names_every_program() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    programs = [path for path in EXAMPLES.glob("*.py") if path.name != "__init__.py"]
    assert programs and [path.name for path in programs if f"`{path.name}`" not in readme] == []
