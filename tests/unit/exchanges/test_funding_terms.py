"""Rates of funding by answers of their own: what the rows say, of few contracts and of many, without a key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.exchanges import rest_client
from pipeline.exchanges.factory import make_venue
from pipeline.model.errors import RateLimited, VenueRejected
from pipeline.model.structs import FundingTerms
from pipeline.sim.scenarios.specs import load_scenario
from tests.worlds.exchange_world import world


@pytest.mark.parametrize(
    ("venue", "scenario", "beside"),
    [
        ("gateio_futures", "demo", ["gateio_spot"]),
        ("binance_futures", "five_venues", []),
        ("bybitperp_futures", "seven_venues", []),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_rates_alone_are_those_of_the_rows(
    venue: str, scenario: str, beside: list[str], many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with world(load_scenario(scenario).only([venue, *beside])) as exchange:
            config = exchange.venue(venue)
            client = make_venue(config, None)
            try:
                for row in exchange.server.venues[venue].instruments.values():
                    row.funding_next_s += 77  # another one than the rows had when they were read
                asked = config.symbols[:2]
                before = len(requests(exchange))
                terms = await client.funding_terms(asked)
                assert len(requests(exchange)) - before == (1 if many else len(asked))
                specs = await client.instruments(asked)
                known = {one.symbol: FundingTerms(one.funding_rate_ppb, one.funding_next_wall_s) for one in specs}
                assert {name: terms[name] for name in asked} == known and all(one.next_wall_s for one in known.values())
                if not many:
                    assert set(await client.funding_terms(["NOT_THERE", asked[0]])) == {asked[0]}
            finally:
                await client.close()

    def requests(exchange: Any) -> list[Any]:
        return exchange.server.ledger.of_kind("request")

    monkeypatch.setattr(rest_client, "TERMS_BY_NAME_MAX", 1 if many else 20)
    asyncio.run(body())


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize(
    ("venue", "scenario", "beside"),
    [
        ("gateio_futures", "demo", ["gateio_spot"]),
        ("binance_futures", "five_venues", []),
        ("bybitperp_futures", "seven_venues", []),
    ],
)
def test_a_rate_limit_is_no_reading(venue: str, scenario: str, beside: list[str], after: int) -> None:
    """Neither where it meets every contract nor where it meets the last."""

    async def body() -> None:
        async with world(load_scenario(scenario).only([venue, *beside])) as exchange:
            config = exchange.venue(venue)
            client = make_venue(config, None)
            try:
                exchange.fault(kind="rate_limit", after=after, count=5, retry_after_s=1.0)
                with pytest.raises(RateLimited):
                    await client.funding_terms(config.symbols[:2])
            finally:
                await client.close()

    asyncio.run(body())


def test_a_reading_that_is_refused_for_every_contract_says_why() -> None:
    async def body() -> None:
        async with world(load_scenario("demo").only(["gateio_futures", "gateio_spot"])) as exchange:
            client = make_venue(exchange.venue("gateio_futures"), None)
            try:
                with pytest.raises(VenueRejected, match="NOT_THERE"):
                    await client.funding_terms(["NOT_THERE", "NOR_THIS"])
                assert await client.funding_terms([]) == {}
            finally:
                await client.close()

    asyncio.run(body())
