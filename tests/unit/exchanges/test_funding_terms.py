"""Rates of funding by answers of their own: what the rows say, of few contracts and of many, without a key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.exchanges import rest_client
from pipeline.exchanges.factory import make_venue
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
