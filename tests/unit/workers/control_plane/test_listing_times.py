"""An instrument that opens at an announced time: its row is read again at that moment, not a refresh later."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.model.account_fees import FeeSwitch
from pipeline.model.clock import wall_ms
from pipeline.model.config import EngineConfig, ExchangeConfig, MarketConfig
from pipeline.model.enums import FeeAssetRule, InstrumentKind, TradingStatus
from pipeline.model.structs import InstrumentSpec
from pipeline.model.trading_times import OPENED_FOR_S, just_opened
from shm.pages import AccountPage, CataloguePage
from workers.control_plane.catalogue import CatalogueService, WantedRows

NOW_S = 1_795_000_000
SPEC = InstrumentSpec(
    venue="gateio_spot",
    symbol="NEW_USDT",
    base="NEW",
    quote="USDT",
    kind=InstrumentKind.SPOT,
    tick=Decimal("0.01"),
    lot=Decimal("0.0001"),
    taker_fee_ppm=1000,
    fee_rule=FeeAssetRule.QUOTE,
    status=TradingStatus.HALTED,
    trading_from_wall_s=NOW_S,
)


class Client:
    """A venue that lists one instrument, which a test changes."""

    ends_fault = ""

    def __init__(self, spec: InstrumentSpec) -> None:
        self.spec = spec

    async def read_ends(self, symbols: Sequence[str]) -> None:
        return

    async def instruments(self, symbols: Sequence[str]) -> list[InstrumentSpec]:
        return [self.spec]

    async def fee_switch(self) -> FeeSwitch | None:
        return None

    def networks(self) -> Mapping[str, Any]:
        return {}

    def take_odd_rows(self) -> tuple[int, list[str]]:
        return 0, []


@pytest.mark.parametrize(
    ("passed_s", "found"),
    [(-1, []), (0, ["gateio_spot"]), (OPENED_FOR_S, ["gateio_spot"]), (OPENED_FOR_S + 1, [])],
)
def test_a_venue_is_read_again_from_a_listing_time_on_for_a_while(passed_s: int, found: list[str]) -> None:
    assert just_opened([SPEC], NOW_S + passed_s) == found
    trading = msgspec.structs.replace(SPEC, status=TradingStatus.TRADING)
    unknown = msgspec.structs.replace(SPEC, trading_from_wall_s=0)
    assert just_opened([trading, unknown], NOW_S + passed_s) == []


def test_an_instrument_is_read_again_at_the_moment_when_it_opens(instance: str) -> None:
    """What the catalogue holds of it is halted: only a new row says that it trades."""
    config = EngineConfig(
        exchanges={"gateio": ExchangeConfig(dialect="gateio", markets={"spot": MarketConfig(symbols=("NEW_USDT",))})}
    )
    client = Client(msgspec.structs.replace(SPEC, trading_from_wall_s=wall_ms() // 1000 + 3600))
    page, account = CataloguePage.create(instance), AccountPage.create(instance)
    clients: Any = {"gateio_spot": client}
    service = CatalogueService(config, clients, page, lambda _level, _text: None)
    wanted = WantedRows(instance, (), service, asyncio.ensure_future)

    def load() -> None:
        asyncio.run(service.load(config.venues))

    load()
    assert wanted.look() == [] and "opens it at" in service.halted()["gateio_spot NEW_USDT"]
    client.spec = msgspec.structs.replace(client.spec, trading_from_wall_s=wall_ms() // 1000)
    load()
    assert wanted.look() == ["gateio_spot"], "its time has come, and its row says that it is halted"
    assert service.halted() == {"gateio_spot NEW_USDT": "suspended by the venue"}
    client.spec = msgspec.structs.replace(client.spec, status=TradingStatus.TRADING)
    load()
    assert wanted.look() == [] and service.halted() == {}
    page.close()
    account.close()
