"""What the catalogue says of a venue whose list of announced ends cannot be read, and what becomes of its rows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest

from pipeline.exchanges.parsing import announced_ends
from pipeline.exchanges.parsing.announced_ends import AnnouncedEnds, Ends
from pipeline.model.config import EngineConfig, ExchangeConfig, MarketConfig
from pipeline.model.enums import FeeAssetRule, InstrumentKind, TradingStatus
from pipeline.model.errors import VenueUnavailable
from pipeline.model.structs import InstrumentSpec
from shm.pages import CataloguePage
from workers.control_plane.catalogue import ENDS_PAUSE_MAX_S, ENDS_PAUSE_S, CatalogueService, WantedRows

SPEC = InstrumentSpec(
    venue="mexc_spot",
    symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    kind=InstrumentKind.SPOT,
    tick=Decimal("0.01"),
    lot=Decimal("0.0001"),
    multiplier=Decimal(1),
    taker_fee_ppm=1000,
    fee_rule=FeeAssetRule.QUOTE,
    reference_price=Decimal(60000),
)


class Listing:
    """A venue that lists one symbol; a test says whether its announced ends can be read, or whether they hang."""

    def __init__(self) -> None:
        self._ends = AnnouncedEnds()
        self.down = ""
        self.hangs = False

    @property
    def ends_fault(self) -> str:
        return self._ends.fault

    async def _ask_ends(self) -> Ends:
        if self.hangs:
            await asyncio.Event().wait()
        if self.down:
            raise VenueUnavailable(self.down)
        return Ends()

    async def read_ends(self, _symbols: Sequence[str]) -> None:
        await self._ends.read(self._ask_ends)

    async def instruments(self, _symbols: Sequence[str]) -> list[InstrumentSpec]:
        return [SPEC]

    async def fee_switch(self) -> None:
        return None

    def networks(self) -> Mapping[str, Any]:
        return {}

    def take_odd_rows(self) -> tuple[int, list[str]]:
        return 0, []

    def take_unreadable(self, _symbols: Sequence[str]) -> frozenset[str]:
        return frozenset()


class World:
    """A catalogue of that venue, on a page and a clock of its own."""

    def __init__(self, instance: str) -> None:
        market = MarketConfig(symbols=("BTCUSDT",))
        self.config = EngineConfig(exchanges={"mexc": ExchangeConfig(dialect="mexc", markets={"spot": market})})
        self.instance, self.listing, self.said = instance, Listing(), list[str]()
        self.page, self.wall_s = CataloguePage.create(instance), 1_700_000_000
        clients: Any = {"mexc_spot": self.listing}
        say = lambda level, text: self.said.append(f"{level}: {text}")  # noqa: E731
        self.service = CatalogueService(self.config, clients, self.page, say, wall_s=lambda: self.wall_s)

    def load(self) -> None:
        """Every reading has the row, whatever becomes of the list."""
        assert asyncio.run(self.service.load(self.config.venues)) == []
        (row,) = self.service.rows
        assert row.spec.symbol == "BTCUSDT" and row.spec.status is TradingStatus.TRADING and not row.spec.ending
        assert self.page.count == 1 and self.service.halted() == {}


def test_a_list_of_announced_ends_that_cannot_be_read_is_said_once_and_costs_no_rows(instance: str) -> None:
    world = World(instance)
    world.load()
    world.listing.down = "HTTP 503"
    for _ in range(2):
        world.load()
        assert world.service.row_notes()["ends_unknown"] == {"mexc_spot": "those known stand: HTTP 503"}
    assert [line for line in world.said if "announced ends" in line] == [
        "warning: alert: mexc_spot: announced ends of trading cannot be read, those known stand: HTTP 503"
    ]
    world.listing.down = ""
    world.load()
    assert world.service.row_notes()["ends_unknown"] == {}
    assert "info: mexc_spot: announced ends of trading are read again" in world.said
    world.page.close()


def test_a_list_that_hangs_takes_no_time_from_the_rows_and_that_none_is_known_is_said(
    instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announced_ends, "ENDS_TIMEOUT_S", 0.05)
    monkeypatch.setattr("workers.control_plane.catalogue.FETCH_TIMEOUT_S", 0.04)
    world = World(instance)
    world.listing.hangs = True
    world.load()
    (why,) = world.service.row_notes()["ends_unknown"].values()
    assert why.startswith("none is known: no answer within")
    world.page.close()


def test_a_venue_whose_announced_ends_are_not_known_is_asked_again_soon_and_not_ever_so_often(instance: str) -> None:
    world = World(instance)
    wanted = WantedRows(instance, world.config.feeds, world.service, asyncio.ensure_future)
    world.load()
    assert wanted.look() == []
    world.listing.down = "HTTP 429"
    pauses = []
    for _ in range(6):
        world.load()
        began_s = world.wall_s
        while not wanted.look():
            world.wall_s += 1
        pauses.append(world.wall_s - began_s)
    assert pauses == [ENDS_PAUSE_S, 20, 40, ENDS_PAUSE_MAX_S, ENDS_PAUSE_MAX_S, ENDS_PAUSE_MAX_S]
    world.listing.down = ""
    world.load()
    assert wanted.look() == []
    world.page.close()
