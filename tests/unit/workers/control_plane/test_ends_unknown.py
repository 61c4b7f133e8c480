"""What the catalogue tells of a venue whose list of announced ends cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.model.config import EngineConfig, ExchangeConfig, MarketConfig
from pipeline.model.structs import InstrumentSpec
from shm.pages import CataloguePage
from workers.control_plane.catalogue import CatalogueService


class Listing:
    """A venue that lists nothing; a test says whether its announced ends can be read."""

    ends_fault = ""

    async def instruments(self, _symbols: Sequence[str]) -> list[InstrumentSpec]:
        return []

    async def fee_switch(self) -> None:
        return None

    def networks(self) -> Mapping[str, Any]:
        return {}

    def take_odd_rows(self) -> tuple[int, list[str]]:
        return 0, []

    def take_unreadable(self, _symbols: Sequence[str]) -> frozenset[str]:
        return frozenset()


def test_a_list_of_announced_ends_that_cannot_be_read_is_said_once_and_costs_no_rows(instance: str) -> None:
    market = MarketConfig(symbols=("BTCUSDT",))
    config = EngineConfig(exchanges={"mexc": ExchangeConfig(dialect="mexc", markets={"spot": market})})
    listing, said, page = Listing(), list[str](), CataloguePage.create(instance)
    clients: Any = {"mexc_spot": listing}
    service = CatalogueService(config, clients, page, lambda level, text: said.append(f"{level}: {text}"))
    listing.ends_fault = "HTTP 503"
    for _ in range(2):
        assert asyncio.run(service.load(config.venues)) == []
        assert service.row_notes()["ends_unknown"] == {"mexc_spot": "HTTP 503"}
    assert [line for line in said if "announced ends" in line] == [
        "warning: alert: mexc_spot: announced ends of trading cannot be read, those known stand: HTTP 503"
    ]
    listing.ends_fault = ""
    assert asyncio.run(service.load(config.venues)) == [] and service.row_notes()["ends_unknown"] == {}
    assert "info: mexc_spot: announced ends of trading are read again" in said
    page.close()
