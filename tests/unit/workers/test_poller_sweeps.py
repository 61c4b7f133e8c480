"""Sweeps of a venue against the simulated exchange: what a fault of one question may cost the account page."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.exchanges.factory import make_venue
from pipeline.exchanges.rest_client import RestVenueClient
from pipeline.model.config_load import config_from_mapping
from pipeline.model.enums import AccountState
from pipeline.sim.exchange.fees import FeeDeduction
from shm.layout_pages import ACCOUNT_VENUE
from shm.liveness import Liveness
from shm.logring import LogRing
from shm.metrics import Metrics
from shm.pages import AccountPage, CataloguePage
from tests.worlds.exchange_world import world
from tests.worlds.waiting import until_async as until
from workers.base import WorkerContext
from workers.poller import AccountWriter, VenuePoller

CONFIG = config_from_mapping({"engine_name": "t-x", "mode": "sim"})


def context(instance: str, state_dir: Path) -> WorkerContext:
    ctx = WorkerContext(
        config=CONFIG, instance=instance, process="poller", exchange="", state_dir=state_dir, restarts=0
    )
    ctx.liveness = Liveness.create(instance, "poller")
    ctx.log = LogRing.create(instance, "poller")
    ctx.metrics = Metrics.create(instance, "poller")
    return ctx


@pytest.mark.parametrize(("name", "target", "coin"), [("gateio_spot", "fees", "GT"), ("mexc_spot", "other", "MX")])
def test_a_gateways_page_to_the_fee_question_costs_no_account_page(
    name: str, target: str, coin: str, instance: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Balances go on being written, the venue is OK, and the coin that was told last stays."""
    monkeypatch.setattr("workers.poller.FEE_SWITCH_EVERY_S", 0.01)

    async def body() -> None:
        async with world("demo") as box:
            sim, venue = box.server.venues[name], box.venue(name)
            account = next(iter(sim.accounts.values()))
            sim.settlement.external(account, coin, Decimal(5), "deposit")
            account.fee_deduction = FeeDeduction(coin=coin, rate=Decimal("0.9"))
            page, catalogue = AccountPage.create(instance), CataloguePage.create(instance)
            writer = AccountWriter(page, CataloguePage.attach(instance), [venue])
            client = make_venue(venue, box.credentials(name))
            assert isinstance(client, RestVenueClient)
            poller = VenuePoller(context(instance, state_dir), venue, client, writer)
            sweeping = asyncio.create_task(poller.run())

            def swept_ns() -> int:
                row = page.venue(venue.venue_id)
                return (
                    0
                    if row is None or row[ACCOUNT_VENUE.state] != AccountState.OK
                    else int(row[ACCOUNT_VENUE.sweep_begin_mono_ns])
                )

            await until(lambda: page.fee_coin(venue.venue_id) == coin, "the coin of fees")
            box.fault(kind="gateway_page", venue=name, target=target, count=10**6)
            told = client.gateway.count
            await until(lambda: client.gateway.count > told, "a page to the fee question")
            seen_ns = swept_ns()
            await until(lambda: swept_ns() > seen_ns, "a sweep after the page")
            assert poller.failures == 0 and page.balance_count > 0
            assert page.fee_coin(venue.venue_id) == coin
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            await client.close()
            page.close()
            catalogue.close()

    asyncio.run(body())
