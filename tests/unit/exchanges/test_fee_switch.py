"""The coin of fees as venues tell it, asked of the simulated exchanges over loopback."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from pipeline.exchanges.factory import make_venue
from pipeline.exchanges.fee_switch import read_fee_switch
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.config import DeductionConfig, FeeConfig
from pipeline.sim.exchange.fees import FeeDeduction
from pipeline.sim.scenarios.specs import load_scenario
from tests.worlds.exchange_world import world


@pytest.mark.parametrize(
    ("name", "deduction", "reported"),
    [
        ("mexc_spot", FeeDeduction(coin="MX", rate=Decimal("0.8"), splits=False), FeeSwitch("MX")),
        ("gateio_spot", FeeDeduction(coin="GT", rate=Decimal("0.9")), FeeSwitch("GT", 100_000)),
        ("gateio_spot", FeeDeduction(coin="POINT"), FeeSwitch("POINT", 0)),
    ],
)
def test_the_switch_is_read_from_the_venue(name: str, deduction: FeeDeduction, reported: FeeSwitch) -> None:
    async def run() -> None:
        async with world("demo") as box:
            venue = box.server.venues[name]
            account = next(iter(venue.accounts.values()))
            client = make_venue(box.venue(name), box.credentials(name))
            public = make_venue(box.venue(name), None)
            fees = FeeConfig(deduction=DeductionConfig(coin=deduction.coin))
            try:
                assert await public.fee_switch() is None
                assert await read_fee_switch(client, fees) == FeeSwitch("")
                account.fee_deduction = deduction
                assert await read_fee_switch(client, fees) == reported._replace(held=False)
                assert await read_fee_switch(client, None) == FeeSwitch("")  # no stock of a coin that nobody named
                venue.settlement.external(account, deduction.coin, Decimal(5), "deposit")
                assert await read_fee_switch(client, fees) == reported
                assert await read_fee_switch(client, None) == reported
                deduction.enabled = False
                assert await read_fee_switch(client, None) == FeeSwitch("")
            finally:
                await client.close()
                await public.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "scenario", "coin"),
    [
        ("mexc_spot", "demo", "MX"),
        ("gateio_spot", "demo", "GT"),
        ("binance_spot", "five_venues", "BNB"),
        ("binance_futures", "five_venues", "BNB"),
    ],
)
def test_a_coin_of_fees_is_set_at_the_venue(name: str, scenario: str, coin: str) -> None:
    async def run() -> None:
        async with world(load_scenario(scenario).only([name])) as box:
            client, public = make_venue(box.venue(name), box.credentials(name)), make_venue(box.venue(name), None)
            try:
                before = await client.fee_switch()
                assert before is not None and not before.coin
                assert not await client.set_fee_coin("DOGE") and not await public.set_fee_coin(coin)
                assert await client.fee_switch() == before
                assert await client.set_fee_coin(coin)
                after = await client.fee_switch()
                assert after is not None and after.coin == coin
            finally:
                await client.close()
                await public.close()

    asyncio.run(run())


def test_a_futures_market_does_not_tell() -> None:
    async def run() -> None:
        async with world("demo") as box:
            client = make_venue(box.venue("gateio_futures"), box.credentials("gateio_futures"))
            assert await read_fee_switch(client, None) is None
            assert not await client.set_fee_coin("GT")
            await client.close()

    asyncio.run(run())
