"""The catalogue over time: refreshes, changed shapes that halt, finer exponents for whole pairs; never a mixture."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from pipeline.detection.topology import group_rows
from pipeline.execution.market import can_enter, can_trade
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.catalogue_row import words_to_row
from pipeline.model.config import EngineConfig, ExchangeConfig, MarketConfig
from pipeline.model.enums import FeeAssetRule, InstrumentKind, OrderSide, TradingStatus
from pipeline.model.errors import BadInput, GatewayRefused, VenueUnavailable
from pipeline.model.instruments import READINGS_AGREED, first_epoch
from pipeline.model.networks import CoinNetwork
from pipeline.model.structs import Balance, CoinIdentity, InstrumentSpec
from shm.layout_pages import CAT_FLAG_REMOVED, CATALOGUE_ROW
from shm.pages import AccountPage, CataloguePage
from shm.segment import cleanup_instance
from workers.control_plane.catalogue import CatalogueService, WantedRows
from workers.control_plane.supervisor import Supervisor
from workers.last_run.symbol_switch import FILE_NAME as SYMBOLS_FILE
from workers.last_run.symbol_switch import SymbolChanges, keep_symbols, kept_symbols
from workers.networks_file import FILE_NAME, NetworksFile
from workers.poller import AccountWriter

VENUES = ("mexc_spot", "gateio_spot", "gateio_futures")


def spec(venue: str, symbol: str = "BTC_USDT", **more: Any) -> InstrumentSpec:
    base, _, quote = symbol.partition("_")
    values: dict[str, Any] = {
        "kind": InstrumentKind.PERPETUAL if venue.endswith("futures") else InstrumentKind.SPOT,
        "tick": Decimal("0.01"),
        "lot": Decimal("0.0001"),
        "multiplier": Decimal("0.0001") if venue.endswith("futures") else Decimal(1),
        "taker_fee_ppm": 1000,
        "fee_rule": FeeAssetRule.QUOTE,
        "reference_price": Decimal(60000),
    }
    return InstrumentSpec(venue=venue, symbol=symbol, base=base, quote=quote, **{**values, **more})


class Listing:
    """What one venue lists; a test changes it."""

    def __init__(self, *specs: InstrumentSpec) -> None:
        self.specs = {spec.symbol: spec for spec in specs}
        self.down, self.ends_fault = False, ""
        self.odd: list[str] = []
        self.unreadable: frozenset[str] = frozenset()
        self.switch: FeeSwitch | None = None
        self.stock: list[Balance] = []
        self.travels: dict[str, tuple[CoinNetwork, ...]] = {}

    def networks(self) -> Mapping[str, tuple[CoinNetwork, ...]]:
        return self.travels

    async def fee_switch(self) -> FeeSwitch | None:
        return self.switch

    async def balances(self) -> list[Balance]:
        return self.stock

    async def read_ends(self, symbols: Sequence[str]) -> None:
        return

    async def instruments(self, symbols: Sequence[str]) -> list[InstrumentSpec]:
        if self.down:
            raise VenueUnavailable("no answer")
        return [self.specs[symbol] for symbol in symbols if symbol in self.specs]

    def take_odd_rows(self) -> tuple[int, list[str]]:
        odd, self.odd = self.odd, []
        return len(odd), odd

    def take_unreadable(self, symbols: Sequence[str]) -> frozenset[str]:
        unreadable, self.unreadable = self.unreadable & frozenset(symbols), frozenset()
        return unreadable

    def change(self, symbol: str = "BTC_USDT", **fields: Any) -> None:
        self.specs[symbol] = msgspec.structs.replace(self.specs[symbol], **fields)


class Rig:
    """A catalogue of three venues on a page of its own."""

    def __init__(self, instance: str) -> None:
        market = MarketConfig(symbols=("BTC_USDT", "ETH_USDT"))
        self.config = EngineConfig(
            exchanges={
                "mexc": ExchangeConfig(dialect="mexc", markets={"spot": market}),
                "gateio": ExchangeConfig(dialect="gateio", markets={"spot": market, "futures": market}),
            }
        )
        self.venues = {
            name: Listing(spec(name), spec(name, "ETH_USDT", reference_price=Decimal(2500))) for name in VENUES
        }
        self.page = CataloguePage.create(instance)
        self.said: list[str] = []
        clients: Any = self.venues
        say = lambda level, text: self.said.append(f"{level}: {text}")  # noqa: E731
        self.service = CatalogueService(self.config, clients, self.page, say)
        self.load()

    def load(self) -> list[str]:
        return [failure.text for failure in asyncio.run(self.service.load(self.config.venues))]

    def rows(self) -> list[Any]:
        found = []
        for index in range(self.page.count):
            words = self.page.row(index)
            assert words is not None
            found.append(words_to_row(index, words, self.service.rows[index].spec.venue))
        return found

    def row(self, venue: str, symbol: str = "BTC_USDT") -> Any:
        return next(row for row in self.rows() if (row.spec.venue, row.spec.symbol) == (venue, symbol))

    def removed(self, venue: str, symbol: str = "BTC_USDT") -> bool:
        words = self.page.row(self.row(venue, symbol).instrument_id)
        return words is not None and bool(int(words[CATALOGUE_ROW.flags]) & CAT_FLAG_REMOVED)

    def add(self, venue: str, symbol: str = "BTC_USDT") -> Any:
        return asyncio.run(self.service.add(self.config.venue(venue), symbol))


@pytest.fixture
def rig(instance: str) -> Rig:
    return Rig(instance)


def test_networks_of_coins_are_written_with_the_instruments_and_read_again_when_they_changed(
    rig: Rig, tmp_path: Path
) -> None:
    clients: Any = rig.venues
    service = CatalogueService(rig.config, clients, rig.page, lambda *_: None, networks_dir=tmp_path)
    reader = NetworksFile(tmp_path)
    asyncio.run(service.load(rig.config.venues))
    assert not (tmp_path / FILE_NAME).exists() and reader.read() == {}, "no venue has told"
    cheap, dear = (CoinNetwork(network="btc", withdraw=True, fee=Decimal(fee)) for fee in ("0.0001", "0.001"))
    for network in (cheap, dear):
        rig.venues["mexc_spot"].travels = {"BTC": (network,)}
        asyncio.run(service.load(rig.config.venues))
        assert reader.read() == {"mexc_spot": {"BTC": (network,)}}
    rig.venues["mexc_spot"].down = True
    asyncio.run(service.load(rig.config.venues))
    assert reader.read() == {"mexc_spot": {"BTC": (dear,)}}, "a venue that does not answer keeps its last list"
    (tmp_path / FILE_NAME).write_bytes(b"{")
    assert reader.read() == {}


def test_the_file_of_networks_has_traded_coins_alone_and_is_not_written_again_without_a_change(
    rig: Rig, tmp_path: Path
) -> None:
    """The executor decodes it in its loop, whenever it was written."""
    clients: Any = rig.venues
    service = CatalogueService(rig.config, clients, rig.page, lambda *_: None, networks_dir=tmp_path)
    reader, network = NetworksFile(tmp_path), (CoinNetwork(network="eth", withdraw=True),)
    rig.venues["mexc_spot"].travels = {coin: network for coin in ("USDT", "PEPE", "BTC")}
    asyncio.run(service.load(rig.config.venues))
    written = (tmp_path / FILE_NAME).stat()
    assert reader.read() == {"mexc_spot": {"BTC": network, "USDT": network}}
    rig.venues["mexc_spot"].travels = {coin: network for coin in ("BTC", "SHIB", "USDT")}  # in another order
    asyncio.run(service.load(rig.config.venues))
    assert (tmp_path / FILE_NAME).stat() == written
    rig.venues["mexc_spot"].travels = {"BTC": (), "USDT": network}
    asyncio.run(service.load(rig.config.venues))
    assert reader.read() == {"mexc_spot": {"BTC": (), "USDT": network}}


def test_a_refresh_that_finds_nothing_new_writes_nothing(rig: Rig) -> None:
    version = rig.page.version
    assert rig.load() == [] and rig.page.version == version and rig.said == []


def test_fees_status_and_wallets_are_rewritten_in_place(rig: Rig) -> None:
    closed = CoinIdentity(asset="BTC", deposit_enabled=False, withdraw_enabled=True)
    rig.venues["mexc_spot"].change(taker_fee_ppm=777, status=TradingStatus.HALTED, identity=closed)
    rig.load()
    row = rig.row("mexc_spot")
    assert (row.spec.taker_fee_ppm, row.spec.status, row.row_epoch) == (777, TradingStatus.HALTED, first_epoch(row))
    assert row.spec.identity.deposit_enabled is False
    rig.venues["mexc_spot"].change(status=TradingStatus.TRADING)
    rig.load()
    assert rig.row("mexc_spot").spec.status is TradingStatus.TRADING


@pytest.mark.parametrize("field", ["tick", "lot", "multiplier"])
def test_a_changed_shape_is_a_new_epoch_and_halts_until_somebody_has_looked(rig: Rig, field: str) -> None:
    listing, epoch = rig.venues["gateio_futures"], rig.row("gateio_futures").row_epoch
    listing.change(**{field: getattr(listing.specs["BTC_USDT"], field) * 10})
    rig.load()
    row = rig.row("gateio_futures")
    assert (row.row_epoch, row.spec.status) == (epoch + 1, TradingStatus.HALTED)
    assert getattr(row.spec, field) == getattr(listing.specs["BTC_USDT"], field)
    assert len(rig.said) == 1 and "halted until `arb symbols add gateio_futures BTC_USDT`" in rig.said[0]
    rig.load()
    assert rig.row("gateio_futures").spec.status is TradingStatus.HALTED, "the next refresh does not end it"
    assert rig.row("gateio_spot").spec.status is TradingStatus.TRADING
    assert rig.service.halted() == {"gateio_futures BTC_USDT": "tick, lot or multiplier changed"}
    rig.add("gateio_futures")
    row = rig.row("gateio_futures")
    assert (rig.service.halted(), row.row_epoch, row.spec.status) == ({}, epoch + 1, TradingStatus.TRADING)
    with pytest.raises(BadInput, match="already"):
        rig.add("gateio_futures")


def test_what_was_added_and_removed_is_so_in_the_next_life_too(rig: Rig, instance: str, state_dir: Path) -> None:
    rig.venues["mexc_spot"].specs["SOL_USDT"] = spec("mexc_spot", "SOL_USDT")
    rig.add("mexc_spot", "SOL_USDT")
    rig.service.remove("mexc_spot", "BTC_USDT")
    rig.service.remove("gateio_spot", "ETH_USDT")
    keep_symbols(state_dir, rig.service.changes())

    def next_life() -> None:
        rig.page.close()
        cleanup_instance(instance)
        rig.page = CataloguePage.create(instance)
        clients: Any = rig.venues
        rig.service = CatalogueService(rig.config, clients, rig.page, lambda level, text: rig.said.append(text))
        rig.service.change_again(kept_symbols(state_dir, lambda level, text: rig.said.append(text)))

    next_life()
    rig.venues["gateio_spot"].down = True
    rig.load()
    assert rig.removed("mexc_spot") and not rig.removed("mexc_spot", "SOL_USDT"), "a row, so that a hedge can leave"
    assert ("gateio_spot", "ETH_USDT") in rig.service.changes().removed
    rig.venues["gateio_spot"].down = False
    rig.load()
    assert rig.removed("gateio_spot", "ETH_USDT") and not rig.removed("gateio_spot")
    assert kept_symbols(state_dir, lambda level, text: None) == rig.service.changes()
    rig.add("gateio_spot", "ETH_USDT")
    assert rig.service.changes().removed == [("mexc_spot", "BTC_USDT")]
    rig.add("mexc_spot")
    rig.service.remove("mexc_spot", "SOL_USDT")
    keep_symbols(state_dir, rig.service.changes())
    assert not (state_dir / FILE_NAME).exists()
    (state_dir / SYMBOLS_FILE).write_bytes(b"{")
    next_life()
    assert SYMBOLS_FILE in rig.said[-1] and rig.service.changes() == SymbolChanges()


def test_a_removed_instrument_stays_so_over_refreshes_and_comes_back_by_name(rig: Rig) -> None:
    rig.service.remove("mexc_spot", "BTC_USDT")
    rig.venues["mexc_spot"].change(taker_fee_ppm=5)
    rig.load()
    assert rig.removed("mexc_spot") and rig.row("mexc_spot").spec.taker_fee_ppm == 1000
    rig.service.raise_price_exp(rig.row("gateio_spot").instrument_id, 9)
    assert rig.removed("mexc_spot")
    count = rig.page.count
    row = rig.add("mexc_spot")
    assert not rig.removed("mexc_spot") and rig.page.count == count
    assert row.spec.taker_fee_ppm == 5 == rig.row("mexc_spot").spec.taker_fee_ppm


def test_new_numbers_that_the_exponents_cannot_hold_halt_and_the_old_ones_stay(rig: Rig) -> None:
    rig.venues["mexc_spot"].change(lot=Decimal("0.000000000000000001"))
    rig.load()
    row = rig.row("mexc_spot")
    assert (row.spec.status, row.spec.lot) == (TradingStatus.HALTED, Decimal("0.0001"))
    assert row.row_epoch == first_epoch(row) + 1 and any("restart" in text for text in rig.said if "error" in text)


def test_a_row_that_cannot_be_read_halts_its_instrument_until_it_can(rig: Rig) -> None:
    listing = rig.venues["gateio_futures"]
    row = listing.specs.pop("BTC_USDT")
    listing.odd = ["gateio_futures contracts: row BTC_USDT left out: null"]
    assert rig.load() == [] and rig.row("gateio_futures").spec.status is TradingStatus.HALTED
    assert rig.row("gateio_futures", "ETH_USDT").spec.status is TradingStatus.TRADING
    assert any("BTC_USDT left out" in text for text in rig.said)
    halts = [text for text in rig.said if "halted until" in text]
    rig.load()
    assert [text for text in rig.said if "halted until" in text] == halts, "said once"
    assert rig.service.halted() == {"gateio_futures BTC_USDT": "not listed by the venue"}
    listing.specs["BTC_USDT"] = row
    rig.load()
    assert not rig.service.halted() and rig.row("gateio_futures").spec.status is TradingStatus.TRADING


def test_an_unreachable_venue_keeps_its_rows(rig: Rig) -> None:
    rig.venues["mexc_spot"].down = True
    assert len(rig.load()) == 1 and rig.row("mexc_spot").spec.status is TradingStatus.TRADING


def test_a_finer_price_raises_the_exponent_and_the_epoch_of_the_whole_pair_and_of_no_other(rig: Rig) -> None:
    before = {(row.spec.venue, row.spec.symbol): row for row in rig.rows()}
    wanted = before["mexc_spot", "BTC_USDT"].price_exp + 1
    counters = {
        f"mexc_spot.wanted_digits.{before['mexc_spot', 'BTC_USDT'].instrument_id}": wanted,
        "mexc_spot.frames": 9,
    }
    assert rig.service.take_wanted(counters)
    exponents = set()
    for key, row in ((key, rig.row(*key)) for key in before):
        old = before[key]
        if key[1] == "ETH_USDT":
            assert row == old
            continue
        exponents.add(row.price_exp)
        assert (row.row_epoch, row.qty_exp) == (old.row_epoch + 1, old.qty_exp)
        assert (row.spec.tick, row.spec.min_notional) == (old.spec.tick, old.spec.min_notional)
    assert len(exponents) == 1 and min(exponents) >= wanted
    assert not rig.service.take_wanted(counters), "asked once, answered once"


def test_the_detector_never_pairs_rows_of_different_exponents(rig: Rig) -> None:
    """Between any two writes of the raise, whoever builds pairs from the page compares equal exponents only."""
    seen: list[set[tuple[int, ...]]] = []
    update = rig.page.update

    def watched(instrument_id: int, words: Any) -> None:
        update(instrument_id, words)
        table = [rig.page.row(index) for index in range(rig.page.count)]
        seen.append({tuple(group) for group in group_rows(_stack(table))})

    rig.page.update = watched  # type: ignore[method-assign]
    ids = [rig.row(venue).instrument_id for venue in VENUES]
    assert rig.service.raise_price_exp(ids[0], 9)
    assert len(seen) == 3
    grouped = [next((set(group) for group in groups if ids[0] in group), {ids[0]}) & set(ids) for groups in seen]
    assert grouped == [{ids[0]}, {ids[0], ids[1]}, set(ids)]


def _stack(rows: list[Any]) -> Any:
    return np.stack(rows)


def test_a_price_that_no_exponent_holds_is_said_once_and_changes_nothing(rig: Rig) -> None:
    before = rig.rows()
    row = rig.row("mexc_spot")
    for _ in range(2):
        assert not rig.service.take_wanted({f"mexc_spot.wanted_digits.{row.instrument_id}": 17})
    assert rig.rows() == before and len(rig.said) == 1 and "no exponent holds" in rig.said[0]
    finer = row.price_exp + 1
    assert rig.service.take_wanted({f"mexc_spot.wanted_digits.{row.instrument_id}": finer}), "a slip bars no real tick"


def test_fees_follow_the_coin_that_the_venue_takes_them_in(rig: Rig, instance: str) -> None:
    gate = rig.venues["gateio_spot"]
    page = AccountPage.create(instance)
    writer = AccountWriter(page, CataloguePage.attach(instance), rig.config.venues)

    def poll(coin: str) -> list[str]:
        writer.write_venue(
            "gateio_spot", begin_ns=1, end_ns=2, state=1, failures=0, fee_coin=coin
        )  # fmt: skip
        return rig.service.other_fee_coins(AccountPage.attach(instance))

    gate.change(fee_rule=FeeAssetRule.RECEIVED)
    rig.load()
    assert rig.service.other_fee_coins(AccountPage.attach(instance)) == []  # nothing is told yet
    gate.switch = FeeSwitch("")
    rig.load()
    assert poll("") == []
    gate.switch = FeeSwitch("GT", 100_000)
    assert poll("GT") == ["gateio_spot"]
    rig.load()
    assert rig.row("gateio_spot").spec.taker_fee_ppm == 1000  # on, and no GT in stock: nothing is deducted
    gate.stock = [
        Balance(venue="gateio_spot", asset="GT", free=Decimal(1), locked=Decimal(0), recv_mono_ns=1, source="rest")
    ]
    rig.load()
    assert rig.row("gateio_spot").spec.taker_fee_ppm == 900
    assert rig.row("gateio_spot").spec.fee_rule is FeeAssetRule.QUOTE
    assert poll("GT") == [] and poll("") == ["gateio_spot"]
    page.close()


def test_fees_are_plain_while_the_executor_finds_too_little_of_their_coin(rig: Rig) -> None:
    gate = rig.venues["gateio_spot"]
    gate.switch = FeeSwitch("GT", 100_000)
    gate.stock = [
        Balance(venue="gateio_spot", asset="GT", free=Decimal(1), locked=Decimal(0), recv_mono_ns=1, source="rest")
    ]
    rig.load()
    assert rig.row("gateio_spot").spec.taker_fee_ppm == 900
    for short, ppm in ((1, 1000), (0, 900)):
        rig.service.take_wanted({"plain_fees.gateio_spot": short})
        assert rig.service.refused == {"gateio_spot"}
        rig.load()
        assert rig.row("gateio_spot").spec.taker_fee_ppm == ppm
        rig.service.take_wanted({"plain_fees.gateio_spot": short})
        assert not rig.service.refused


def test_a_question_about_the_coin_of_fees_that_fails_costs_no_rows(
    instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither at a start, where the venue would have no rows, nor later, where what was told last stands."""

    async def page(_self: Listing) -> FeeSwitch | None:
        raise GatewayRefused("HTTP 403: <html>", code=403, retry_after_s=3600)

    with monkeypatch.context() as gateway:
        gateway.setattr(Listing, "fee_switch", page)
        rig = Rig(instance)
        assert len(rig.rows()) == 2 * len(VENUES) and rig.load() == []
        assert any("the coin of fees is not known: HTTP 403" in text for text in rig.said)
    rig.venues["gateio_spot"].switch = FeeSwitch("GT", 100_000)
    rig.venues["gateio_spot"].stock = [
        Balance(venue="gateio_spot", asset="GT", free=Decimal(1), locked=Decimal(0), recv_mono_ns=1, source="rest")
    ]
    rig.load()
    assert rig.row("gateio_spot").spec.taker_fee_ppm == 900
    monkeypatch.setattr(Listing, "fee_switch", page)
    rig.venues["gateio_spot"].change(min_qty=Decimal("0.5"))
    assert rig.load() == []
    row = rig.row("gateio_spot")
    assert (row.spec.taker_fee_ppm, row.spec.min_qty) == (900, Decimal("0.5"))


def test_a_row_that_cannot_be_read_stops_entries_and_nothing_else(rig: Rig) -> None:
    """Repairs and exits go on with the last good row; a row that is gone is halted."""
    venue = rig.venues["gateio_spot"]
    eth = venue.specs.pop("ETH_USDT")
    kept = venue.specs.pop("BTC_USDT")
    venue.unreadable = frozenset({"BTC_USDT"})
    rig.load()
    row = rig.row("gateio_spot")
    assert can_trade(row, OrderSide.SELL) and can_trade(row, OrderSide.BUY) and not can_enter(row, OrderSide.BUY)
    assert row.spec.unreadable and row.spec.taker_fee_ppm == kept.taker_fee_ppm
    assert rig.row("gateio_spot", "ETH_USDT").spec.status is TradingStatus.HALTED
    venue.specs |= {"BTC_USDT": kept, "ETH_USDT": eth}
    rig.load()
    for symbol in ("BTC_USDT", "ETH_USDT"):
        assert can_enter(rig.row("gateio_spot", symbol), OrderSide.BUY)


def test_a_venue_whose_fee_coin_changed_is_still_reachable(rig: Rig, instance: str, state_dir: Path) -> None:
    page = AccountPage.create(instance)
    writer = AccountWriter(page, CataloguePage.attach(instance), rig.config.venues)
    writer.write_venue("gateio_spot", begin_ns=1, end_ns=2, state=1, failures=0, fee_coin="GT")
    ours, theirs = socket.socketpair()
    supervisor = Supervisor(instance=instance, config=rig.config, config_path=None, fork_server=(0, ours), units=True)
    supervisor.catalogue = rig.service
    supervisor._wanted_rows = WantedRows(instance, (), rig.service, supervisor._background.start)
    supervisor._look_at_rows()
    assert all(venue["reachable"] for venue in supervisor.describe()["venues"].values())
    assert supervisor._outdated == ["gateio_spot"], "its rows are read again"
    supervisor.announcer.close()
    for end in (ours, theirs):
        end.close()
    page.close()


def test_an_announced_end_comes_near_while_its_venue_does_not_answer(rig: Rig) -> None:
    """The announcement was read once; the clock alone makes it count, and a withdrawn one ends with the next row."""
    now_s = 1_795_000_000
    rig.service._wall_s = lambda: now_s
    venue = rig.venues["gateio_spot"]
    venue.change(trading_until_wall_s=now_s + 30 * 3600)
    rig.load()
    assert not rig.row("gateio_spot").spec.ending and rig.said == []
    venue.down = True
    now_s += 6 * 3600
    rig.load()
    row = rig.row("gateio_spot")
    assert row.spec.ending and row.spec.trading_until_wall_s == now_s + 24 * 3600 and row.row_epoch == first_epoch(row)
    assert [text for text in rig.said if "BTC_USDT ends trading at" in text] == rig.said[-1:]
    rig.load()
    assert sum("ends trading" in text for text in rig.said) == 1
    venue.down = False
    venue.change(trading_until_wall_s=0)
    rig.load()
    assert not rig.row("gateio_spot").spec.ending


def test_an_instrument_that_is_not_listed_yet_is_halted_until_it_is(rig: Rig) -> None:
    now_s = 1_795_000_000
    rig.service._wall_s = lambda: now_s
    rig.venues["gateio_spot"].change(trading_from_wall_s=now_s + 60)
    rig.load()
    assert "opens it at 2026-11-1" in rig.service.halted()["gateio_spot BTC_USDT"]
    now_s += 60
    assert rig.load() == [] and rig.row("gateio_spot").spec.status is TradingStatus.TRADING


def test_a_pair_whose_prices_were_apart_for_a_moment_comes_back_by_itself(rig: Rig) -> None:
    for venue, price in (("gateio_spot", 100), ("gateio_futures", 130)):
        rig.venues[venue].specs["SOL_USDT"] = spec(venue, "SOL_USDT", reference_price=Decimal(price))
        rig.add(venue, "SOL_USDT")
    assert "130" in str(rig.service.row_notes()["prices_apart"])
    rig.venues["gateio_futures"].change("SOL_USDT", reference_price=Decimal(101))
    rig.service._wall_s = count(1_795_000_000, 120).__next__
    for _ in range(READINGS_AGREED):
        assert rig.row("gateio_futures", "SOL_USDT").pair_id == -1, "once is no agreement"
        rig.load()
    assert rig.row("gateio_futures", "SOL_USDT").pair_id == rig.row("gateio_spot", "SOL_USDT").pair_id >= 0
    assert rig.service.row_notes()["prices_apart"] == {} and "paired again" in rig.said[-1]
