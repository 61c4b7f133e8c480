"""What a program's ``ArbitrageEngine`` leaves running, and what it does not, when something of the program's fails."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from arbitrage import ArbitrageEngine, ExchangeName, MexcPublicExchange, SimulatedExchanges
from tests.worlds.instance_rig import segments_of
from tests.worlds.waiting import until_async
from workers.control_plane.instances import run_file

pytestmark = pytest.mark.e2e

SCENARIO = """
extends: demo
name: calm
dislocations: {rate_per_s: 0}
engine: {guard: {hung_after_ms: 10000, restart_within_ms: 60000}}
"""


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[SimulatedExchanges]:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    found = SimulatedExchanges(scenario=str(path)).start()
    yield found
    found.stop()


def made(simulated: SimulatedExchanges, **objects: Any) -> ArbitrageEngine:
    """An engine of its own name on the simulated exchanges; ``objects`` in place of theirs."""
    config = simulated.config(f"t-{secrets.token_hex(4)}")
    public: dict[Any, Any] = {**simulated.public_exchanges, **objects}
    return ArbitrageEngine(config, public, simulated.private_exchanges)


def fork_server_of(engine: ArbitrageEngine) -> int:
    supervisor = run_file(engine.instance)["pid"]
    (pid,) = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return int(pid)


def test_callbacks_that_raise_end_neither_the_watch_nor_the_stop(simulated: SimulatedExchanges) -> None:
    """Between the alerts the instance loses its fork server: detection that was stopped stays stopped."""
    engine = made(simulated)
    heard: list[tuple[str, object]] = []

    def raises(kind: str, *news: object) -> None:
        heard.append((kind, news))
        raise KeyError(kind)

    engine.risk_manager.risk_alert_callback = raises
    engine.balance_monitor.balance_alert_callback = raises

    async def life() -> int:
        await engine.start()
        supervisor = int(run_file(engine.instance)["pid"])
        try:
            low = {("mexc_spot", "USDT"): Decimal(10**12)}
            await engine.balance_monitor.start_monitoring(low)
            await engine.risk_manager.force_emergency_shutdown("a test")
            await until_async(lambda: len({kind for kind, _ in heard}) == 2, "both callbacks")
            await engine.balance_monitor.start_monitoring({**low, ("gateio_spot", "USDT"): Decimal(10**12)})
            await until_async(lambda: len(heard) == 3, "the next alert")
            assert (engine.risk_manager.callback_errors, engine.balance_monitor.callback_errors) == (1, 2)
            assert engine.risk_manager.is_monitoring and engine.balance_monitor.is_monitoring
            await detection_stays_stopped(engine)
        finally:
            await engine.stop()
        await engine.stop()
        return supervisor

    supervisor = asyncio.run(life())
    assert not Path(f"/proc/{supervisor}").exists() and segments_of(engine.instance) == []


async def detection_stays_stopped(engine: ArbitrageEngine) -> None:
    await engine.detector.stop_detection()
    begun = run_file(engine.instance)["started_wall_ns"]
    os.kill(fork_server_of(engine), signal.SIGKILL)

    def begun_anew() -> bool:
        described = run_file(engine.instance)
        return described["started_wall_ns"] != begun and described["state"] == "ready"

    await until_async(begun_anew, "the instance's next life")
    reply = await asyncio.to_thread(engine._running().ask, op="detection")
    assert reply == {"enabled": False, "in_force": True}
    await engine.detector.start_detection()
    assert engine.detector.is_detecting
    await engine.detector.stop_detection()
    assert not engine.detector.is_detecting
    changed = (await asyncio.to_thread(engine._running().ask, op="reload"))["changed"]
    assert changed == {"detection.enabled": {"from": False, "to": True}}
    await until_async(lambda: engine.detector.is_detecting, "detection as configured")


class Broken(MexcPublicExchange):
    """A program's own exchange object, which fails when the engine runs."""

    def read_by(self, books: object) -> None:
        if books is not None:
            raise OSError("the program's own fault")


def test_a_start_that_fails_after_the_launch_leaves_no_instance(simulated: SimulatedExchanges) -> None:
    endpoints = simulated.public_exchanges[ExchangeName.MEXC].markets
    engine = made(simulated, **{ExchangeName.MEXC: Broken(endpoints=endpoints)})

    async def fails() -> None:
        async with engine.session():
            raise AssertionError("it has started")

    with pytest.raises(OSError, match="own fault"):
        asyncio.run(fails())
    described = run_file(engine.instance)
    assert described["state"] == "stopped" and not Path(f"/proc/{described['pid']}").exists()
    assert segments_of(engine.instance) == [] and not engine.market_data.is_aggregating
