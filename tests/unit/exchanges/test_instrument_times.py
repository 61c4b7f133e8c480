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
                others = [spec for spec in after.values() if spec.symbol != symbol]
                assert others and all(not spec.trading_until_wall_s for spec in others)
            finally:
                await client.close()

    asyncio.run(body())


@pytest.mark.parametrize("status", [429, 503])
def test_a_list_of_announced_ends_that_fails_costs_no_instruments_and_is_told(status: int) -> None:
    """What it said last stands. It is a request of its own, which comes last."""

    async def body() -> None:
        async with world() as box:
            venue = box.venue("mexc_spot")
            client = make_venue(venue)
            try:
                announced = {"kind": "announce_delisting", "venue": venue.name, "symbol": venue.symbols[0]}
                box.fault(**announced, delay_ms=3_600_000, duration_ms=1_800_000)
                known = await client.instruments(venue.symbols)
                assert known[0].trading_until_wall_s and client.ends_fault == ""
                box.fault(kind="http_error", venue=venue.name, target="instruments", status=status, after=1, count=1)
                after = await client.instruments(venue.symbols)
                assert [(s.symbol, s.trading_until_wall_s) for s in after] == [
                    (s.symbol, s.trading_until_wall_s) for s in known
                ]
                assert str(status) in client.ends_fault
            finally:
                await client.close()

    asyncio.run(body())
