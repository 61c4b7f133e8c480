"""Announced ends of trading, from the simulated venues' own lists to the instrument rows."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.exchanges.factory import make_venue
from pipeline.model.trading_times import at_time
from tests.worlds.exchange_world import TRADED, world


@pytest.mark.parametrize("name", TRADED)
def test_an_announced_delisting_is_read_with_the_instrument(name: str) -> None:
    async def body() -> None:
        async with world() as box:
            venue = box.venue(name)
            client = make_venue(venue)
            try:
                before = await client.instruments(venue.symbols)
                assert all(not spec.ending and not spec.trading_until_wall_s for spec in before)
                symbol, now_s = venue.symbols[0], box.server.venues[name].now_ms() // 1000
                announced = {"kind": "announce_delisting", "venue": name, "symbol": symbol}
                box.fault(**announced, delay_ms=3_600_000, duration_ms=1_800_000)
                after = {spec.symbol: spec for spec in await client.instruments(venue.symbols)}
                until_s = after[symbol].trading_until_wall_s
                assert now_s + 3590 <= until_s <= now_s + 3600 + 1800 + 10  # contracts: reductions only from before it
                assert at_time(after[symbol], now_s, 2).ending and not at_time(after[symbol], now_s, 0).ending
                box.fault(kind="http_error", venue=name, target="instruments", status=503, count=1)
                if name == "mexc_spot":  # its list is a request of its own, which may fail alone
                    assert await client._ends() == {symbol: until_s}  # type: ignore[attr-defined]
                others = [spec for spec in after.values() if spec.symbol != symbol]
                assert others and all(not spec.trading_until_wall_s for spec in others)
            finally:
                await client.close()

    asyncio.run(body())
