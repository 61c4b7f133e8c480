"""Shared pairs are ranked by the venue that trades least, judged as the engine judges, cut to what an entry buys."""

from __future__ import annotations

from decimal import Decimal

import yaml

from pipeline.model.config import TRUSTED_COINS
from pipeline.model.config_load import config_from_mapping
from pipeline.model.enums import InstrumentKind, Mode, TradingStatus
from pipeline.model.instruments import VenueRef
from pipeline.model.structs import CoinIdentity, InstrumentSpec, Listed
from workers.setup.config_text import WrittenConfig, config_text, scalar
from workers.setup.limits import Profile, derive_limits
from workers.setup.proposals import Proposal, judged, shared_pairs, within_entry

REFS = [VenueRef(name=name, venue_id=at, feed_id=at) for at, name in enumerate(("a_spot", "b_spot"))]


def listed(base: str, volume: int | None, quote: str = "USDT") -> Listed:
    day = None if volume is None else Decimal(volume)
    return Listed(symbol=f"{base}{quote}", base=base, quote=quote, day_volume=day)


def spec(venue: str, base: str, contract: str = "", status: TradingStatus = TradingStatus.TRADING) -> InstrumentSpec:
    identity = CoinIdentity(asset=base, networks=(("eth", contract),)) if contract else None
    return InstrumentSpec(
        venue=venue,
        symbol=f"{base}USDT",
        base=base,
        quote="USDT",
        kind=InstrumentKind.SPOT,
        tick=Decimal("0.01"),
        lot=Decimal("0.1"),
        min_notional=Decimal(5),
        status=status,
        reference_price=Decimal(100),
        identity=identity,
    )


def one(base: str, *specs: InstrumentSpec) -> Proposal:
    pairs = shared_pairs({"a_spot": [listed(base, 1)], "b_spot": [listed(base, 1)]}, {"USDT"})
    return judged(pairs, specs, REFS, TRUSTED_COINS)[0]


def test_pairs_are_ranked_by_the_venue_that_trades_least() -> None:
    a = [listed("A", 9), listed("B", 100), listed("C", 5), listed("D", None), listed("A", 7, "EUR")]
    b = [listed("B", 1), listed("A", 8), listed("D", None), listed("A", 9, "EUR")]
    found = shared_pairs({"a": a, "b": b}, {"USDT"})
    assert [(row.pair, row.day_volume) for row in found] == [("A/USDT", 8), ("B/USDT", 1), ("D/USDT", None)]


def test_identity_is_proved_trusted_or_doubted() -> None:
    proved = one("NEW", spec("a_spot", "NEW", "0x1"), spec("b_spot", "NEW", "0x1"))
    assert (proved.identity, proved.usable) == ("proved", True)
    differs = one("NEW", spec("a_spot", "NEW", "0x1"), spec("b_spot", "NEW", "0x2"))
    assert differs.identity == "doubted" and "contract on eth differs" in differs.reason
    silent = one("NEW", spec("a_spot", "NEW"), spec("b_spot", "NEW"))
    assert silent.identity == "doubted" and "gives no identity" in silent.reason
    assert one("BTC", spec("a_spot", "BTC"), spec("b_spot", "BTC")).identity == "trusted"


def test_what_does_not_trade_or_is_not_listed_any_more_is_doubted() -> None:
    halted = one("BTC", spec("a_spot", "BTC"), spec("b_spot", "BTC", status=TradingStatus.SELL_ONLY))
    assert halted.identity == "doubted" and "not trading on both sides" in halted.reason
    gone = one("BTC", spec("a_spot", "BTC"))
    assert gone.identity == "doubted" and "1 venues gave a readable row" in gone.reason


def test_venues_whose_least_entry_is_too_large_are_left_out() -> None:
    row = one("BTC", spec("a_spot", "BTC"), spec("b_spot", "BTC"))
    assert row.entry_mins == {"a_spot": Decimal(10), "b_spot": Decimal(10)}  # lot 0.1 at 100
    assert within_entry(row, Decimal(20)) == row
    small = within_entry(row, Decimal("19.99"))
    assert not small.usable and "too large for 19.99" in small.reason


def test_limits_follow_the_capital_and_let_entries_pass() -> None:
    for profile in Profile:
        for capital in ("50", "500", "100000"):
            derived = derive_limits(Decimal(capital), profile, 2)
            limits = derived.limits
            assert derived.max_notional_usd <= limits.max_position_size_usd <= limits.max_total_exposure_usd
            assert limits.max_total_exposure_usd < Decimal(capital)
            assert limits.max_daily_loss_usd <= Decimal(capital) / 20
            assert limits.min_profit_usd <= derived.max_notional_usd * limits.min_profit_margin_bps / 10000
    assert derive_limits(Decimal(500), Profile.CAUTIOUS, 3).limits.max_daily_loss_usd == 5


def test_scalars_survive_yaml() -> None:
    for value in ("BTC_USDT", "NO", "1e5", "12:30", "on", "a: b", "#x", "币USDT", Decimal("1E+2"), "null"):
        read = yaml.safe_load(f"- {scalar(value)}  # a comment")[0]
        assert (Decimal(read) if isinstance(value, Decimal) else read) == value


def test_the_written_text_is_a_valid_configuration_with_those_symbols() -> None:
    row = one("BTC", spec("a_spot", "BTC"), spec("b_spot", "BTC"))
    named = {"mexc_spot": "NOUSDT", "gateio_spot": "NO_USDT"}
    proposals = [
        Proposal(
            pair="NO/USDT",
            symbols=named,
            day_volume=None,
            identity=row.identity,
            reason="",
            entry_mins={},
            price=row.price,
        )
    ]
    exchanges = {
        "mexc": {"dialect": "mexc", "markets": {"spot": {"rest": "https://m/api/v3", "ws": "wss://m/ws"}}},
        "gateio": {
            "dialect": "gateio",
            "markets": {
                "spot": {"rest": "https://g/api/v4", "ws": "wss://g/ws"},
                "futures": {"rest": "https://g/api/v4", "ws": "wss://g/ws"},
            },
        },
    }
    text = config_text(
        WrittenConfig(
            name="main",
            mode=Mode.PAPER,
            capital_usd=Decimal(500),
            profile=Profile.BOLD,
            exchanges=exchanges,
            proposals=proposals,
            derived=derive_limits(Decimal(500), Profile.BOLD, 2),
        )
    )
    config = config_from_mapping(yaml.safe_load(text))
    assert {venue.name: venue.symbols for venue in config.venues} == {
        "mexc_spot": ("NOUSDT",),
        "gateio_spot": ("NO_USDT",),
        "gateio_futures": (),
    }
    assert config.risk_limits.max_daily_loss_usd == 25
    assert config.detection.inventory_price, "what runs one way would stop at an empty venue"
    entry = config.detection.max_notional_usd
    assert config.inventory.alarms == {"mexc_spot": {"USDT": entry}, "gateio_spot": {"USDT": entry}}
