"""Announced ends of trading, from the simulated venues' own lists to the instrument rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp
import pytest

from pipeline.exchanges.base import VenueClient
from pipeline.exchanges.factory import make_venue
from pipeline.execution.events import FetchInstrument, InstrumentAnswer
from pipeline.model.structs import InstrumentSpec
from pipeline.model.trading_times import at_time
from tests.worlds.exchange_world import TRADED, world
from tests.worlds.waiting import until_async
from workers.executor.venues import Questions


async def read(client: VenueClient, symbols: Sequence[str]) -> list[InstrumentSpec]:
    """As the catalogue reads a venue."""
    await client.read_ends(symbols)
    return await client.instruments(symbols)


@pytest.mark.parametrize("name", TRADED)
def test_an_announced_delisting_is_read_with_the_instrument(name: str) -> None:
    async def body() -> None:
        async with world() as box:
            venue = box.venue(name)
            client = make_venue(venue)
            try:
                before = await read(client, venue.symbols)
                assert all(not spec.ending and not spec.trading_until_wall_s for spec in before)
                symbol, now_s = venue.symbols[0], box.server.venues[name].now_ms() // 1000
                announced = {"kind": "announce_delisting", "venue": name, "symbol": symbol}
                box.fault(**announced, delay_ms=3_600_000, duration_ms=1_800_000)
                after = {spec.symbol: spec for spec in await read(client, venue.symbols)}
                until_s = after[symbol].trading_until_wall_s
                assert now_s + 3590 <= until_s <= now_s + 3600 + 1800 + 10  # contracts: reductions only from before it
                assert at_time(after[symbol], now_s, 2).ending and not at_time(after[symbol], now_s, 0).ending
                others = [spec for spec in after.values() if spec.symbol != symbol]
                assert others and all(not spec.trading_until_wall_s for spec in others)
            finally:
                await client.close()

    asyncio.run(body())


def test_announced_listings_of_binance_are_asked_for_by_the_key_alone() -> None:
    async def body() -> None:
        async with world("five_venues") as box:
            venue = box.venue("binance_spot")
            client = make_venue(venue, box.credentials(venue.name))
            try:
                await read(client, venue.symbols)
                assert client.ends_fault == "", "unsigned and without a time, which that call does not take"
            finally:
                await client.close()
            url = f"{venue.rest}/sapi/v1/spot/open-symbol-list"
            async with aiohttp.ClientSession() as stranger, stranger.get(url) as answer:
                assert (answer.status, (await answer.json())["code"]) == (401, -2015)

    asyncio.run(body())


@pytest.mark.parametrize("status", [429, 503])
def test_a_list_of_announced_ends_that_fails_costs_no_instruments_and_is_told(status: int) -> None:
    """What it said last stands. It is a request of its own, which comes first."""

    async def body() -> None:
        async with world() as box:
            venue = box.venue("mexc_spot")
            client = make_venue(venue)
            try:
                announced = {"kind": "announce_delisting", "venue": venue.name, "symbol": venue.symbols[0]}
                box.fault(**announced, delay_ms=3_600_000, duration_ms=1_800_000)
                known = await read(client, venue.symbols)
                assert known[0].trading_until_wall_s and client.ends_fault == ""
                box.fault(kind="http_error", venue=venue.name, target="instruments", status=status, count=1)
                after = await read(client, venue.symbols)
                assert [(s.symbol, s.trading_until_wall_s) for s in after] == [
                    (s.symbol, s.trading_until_wall_s) for s in known
                ]
                assert str(status) in client.ends_fault
            finally:
                await client.close()

    asyncio.run(body())


@pytest.mark.parametrize("name", ["mexc_spot", "binance_spot"])
def test_a_row_alone_costs_no_question_for_announced_ends(name: str) -> None:
    """Whoever waits for a row to send a repair has five seconds for it, and another budget to spend."""

    async def body() -> None:
        async with world("five_venues") as box:
            venue = box.venue(name)
            questions = Questions(lambda: {name: make_venue(venue, box.credentials(name))}, asyncio.get_running_loop())
            answers = list[object]()
            questions.start(answers.append)
            await until_async(lambda: questions.depth_snapshot(name, venue.symbols[0]) is not None, "the client")
            questions.ask(FetchInstrument(name, venue.symbols[0]))
            await until_async(lambda: bool(answers), "the answer")
            (answer,) = answers
            assert isinstance(answer, InstrumentAnswer) and answer.spec is not None
            rows = [row for row in box.server.venues[name].ledger.of_kind("request") if row["venue"] == name]
            assert [row["operation"] for row in rows].count("instruments") == 1, "the rows, and no list of ends"
            await asyncio.to_thread(questions.close)

    asyncio.run(body())
