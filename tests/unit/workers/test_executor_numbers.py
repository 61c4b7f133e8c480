"""Frames that order sessions drop are counted by venue, and an alert says so when the count rises."""

from __future__ import annotations

import asyncio

from pipeline.exchanges.factory import make_trading
from pipeline.model.errors import ProtocolViolation
from shm.metrics import Metrics
from tests.worlds.exchange_world import Events, world
from workers.executor.pages import VIOLATION_EVERY_NS, ExecutorNumbers


def test_dropped_frames_are_counted_and_said_once_a_minute() -> None:
    async def run() -> None:
        async with world("demo") as box:
            trading = {
                name: make_trading(box.venue(name), box.credentials(name), Events())
                for name in ("mexc_spot", "gateio_spot")
            }
            metrics = Metrics.private()
            numbers = ExecutorNumbers(metrics)
            assert numbers.sessions(trading, 0) == []
            trading["mexc_spot"].violation(ProtocolViolation("mexc_spot: no known push", venue="mexc_spot"))  # type: ignore[attr-defined]
            (text,) = numbers.sessions(trading, 1)
            assert text == "protocol: mexc_spot: 1 frames dropped, the last: mexc_spot: no known push"
            for _ in range(3):
                trading["mexc_spot"].violation(ProtocolViolation("mexc_spot: cut", venue="mexc_spot"))  # type: ignore[attr-defined]
            assert numbers.sessions(trading, 2) == []
            assert len(numbers.sessions(trading, 1 + VIOLATION_EVERY_NS)) == 1
            assert numbers.sessions(trading, 2 + 2 * VIOLATION_EVERY_NS) == []
            counted = metrics.counters()
            assert (counted["protocol_violations.mexc_spot"], counted["protocol_violations.gateio_spot"]) == (4, 0)
            for session in trading.values():
                await session.close()

    asyncio.run(run())
