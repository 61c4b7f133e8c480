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


def test_a_futures_market_does_not_tell() -> None:
    async def run() -> None:
        async with world("demo") as box:
            client = make_venue(box.venue("gateio_futures"), box.credentials("gateio_futures"))
            assert await read_fee_switch(client, None) is None
            await client.close()

    asyncio.run(run())
