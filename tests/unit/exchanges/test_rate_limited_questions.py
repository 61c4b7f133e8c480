"""A rate limit is about no symbol: questions about many of them end with it, and are not asked on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.exchanges.factory import make_venue
from pipeline.exchanges.gateio.rest_client import GateFuturesClient
from pipeline.exchanges.rest_client import GATHER_MAX, RestVenueClient
from pipeline.model.errors import RateLimited, VenueRejected
from pipeline.sim.scenarios.specs import load_scenario
from tests.worlds.exchange_world import world

VENUES = [
    ("mexc_spot", "demo", []),
    ("gateio_spot", "demo", []),
    ("gateio_futures", "demo", ["gateio_spot"]),
    ("binance_spot", "five_venues", []),
    ("binance_futures", "five_venues", []),
]


@pytest.mark.parametrize(("venue", "scenario", "beside"), VENUES)
def test_fees_that_a_rate_limit_refuses_are_no_answer(venue: str, scenario: str, beside: list[str]) -> None:
    """The rows would stand with the base tier's fees, and nobody would wait for as long as the venue asks."""

    async def body() -> None:
        async with world(load_scenario(scenario).only([venue, *beside])) as exchange:
            config = exchange.venue(venue)
            client = make_venue(config, exchange.credentials(venue))
            try:
                await client.server_time_ms()
                exchange.fault(kind="rate_limit", venue=venue, after=1, count=1, retry_after_s=1.0)
                with pytest.raises(RateLimited):
                    await client.fees(config.symbols)
                assert client.rate_limit_hits == 1
            finally:
                await client.close()

    asyncio.run(body())


def test_what_stands_in_turn_is_not_asked_after_a_rate_limit() -> None:
    asked: list[str] = []

    async def ask(symbol: str) -> str:
        asked.append(symbol)
        await asyncio.sleep(0)
        if symbol == "0":
            raise RateLimited("slower", retry_after_s=1.0)
        if symbol == "1":
            raise RateLimited("much slower", retry_after_s=9.0)
        if symbol == "2":
            raise VenueRejected("not listed")
        return symbol

    async def gathered(names: Sequence[str]) -> list[Any]:
        async with world(load_scenario("demo").only(["gateio_spot"])) as exchange:
            client = make_venue(exchange.venue("gateio_spot"), None)
            assert isinstance(client, RestVenueClient)
            try:
                return await client.gather(names, ask)
            finally:
                await client.close()

    with pytest.raises(RateLimited, match="much slower"):
        asyncio.run(gathered([str(name) for name in range(3 * GATHER_MAX)]))
    assert asked == [str(name) for name in range(GATHER_MAX)]
    refused, answered = asyncio.run(gathered(["2", "3"]))
    assert isinstance(refused, VenueRejected) and answered == "3"


def test_a_rate_limit_of_the_position_mode_is_no_wrong_setting() -> None:
    async def body() -> None:
        async with world("demo") as exchange:
            venue = "gateio_futures"
            client = make_venue(exchange.venue(venue), exchange.credentials(venue))
            assert isinstance(client, GateFuturesClient)
            next(iter(exchange.server.venues[venue].accounts.values())).dual_side = True
            try:
                await client.server_time_ms()
                exchange.fault(kind="rate_limit", venue=venue, after=1, count=1, retry_after_s=1.0)
                with pytest.raises(RateLimited):
                    await client._apply_modes()
            finally:
                await client.close()

    asyncio.run(body())
