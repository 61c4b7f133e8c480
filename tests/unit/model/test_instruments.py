"""Pairs, identity, quarantine, and the catalogue's words."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from pipeline.model.catalogue_row import row_to_words, text_to_words, words_to_row, words_to_text
from pipeline.model.config import TRUSTED_COINS
from pipeline.model.enums import FeeAssetRule, InstrumentKind, TradingStatus
from pipeline.model.instruments import (
    NOT_TRADED,
    QUARANTINED,
    READINGS_AGREED,
    InstrumentRow,
    NewestPrices,
    VenueRef,
    build_rows,
    first_epoch,
    judged_again,
    wallet_open,
)
from pipeline.model.structs import CoinIdentity, InstrumentSpec

VENUES = [
    VenueRef(name="mexc_spot", venue_id=0, feed_id=0),
    VenueRef(name="gateio_spot", venue_id=1, feed_id=1),
    VenueRef(name="gateio_futures", venue_id=2, feed_id=1),
    VenueRef(name="binance_spot", venue_id=3, feed_id=2),
]


def spec(venue: str, base: str = "BTC", price: str = "100", **changes: object) -> InstrumentSpec:
    kind = InstrumentKind.PERPETUAL if venue.endswith("futures") else InstrumentKind.SPOT
    made = InstrumentSpec(
        venue=venue,
        symbol=f"{base}_USDT",
        base=base,
        quote="USDT",
        kind=kind,
        tick=Decimal("0.01"),
        lot=Decimal("0.0001"),
        reference_price=Decimal(price),
    )
    return msgspec.structs.replace(made, **changes)


def coin(*networks: tuple[str, str], deposit: bool = True, withdraw: bool = True) -> CoinIdentity:
    return CoinIdentity(asset="BTC", networks=networks, deposit_enabled=deposit, withdraw_enabled=withdraw)


def test_same_pair_on_three_venues_shares_one_pair_id_and_exponents() -> None:
    rows = build_rows([spec("mexc_spot"), spec("gateio_spot"), spec("gateio_futures")], VENUES)
    assert {row.pair_id for row in rows} == {0}
    assert len({(row.price_exp, row.qty_exp) for row in rows}) == 1
    assert [row.book_index for row in rows] == [0, 0, 1]


def test_same_ticker_with_another_contract_is_quarantined_with_its_reason() -> None:
    a = spec("mexc_spot", "TRAP", identity=coin(("eth", "0xaa")))
    b = spec("gateio_spot", "TRAP", identity=coin(("eth", "0xbb")))
    rows = build_rows([a, b], VENUES)
    assert [row.pair_id for row in rows] == [QUARANTINED, QUARANTINED]
    assert "0xaa" in rows[0].quarantine_reason and "0xbb" in rows[1].quarantine_reason


def test_what_is_not_traded_pairs_with_nothing_and_has_no_vote_on_the_coin() -> None:
    venues = [msgspec.structs.replace(venue, trade=venue.name != "binance_spot") for venue in VENUES]
    specs = [spec("binance_spot", price="150"), spec("mexc_spot"), spec("gateio_spot")]
    rows = build_rows(specs, venues)
    assert [(row.pair_id, row.quarantine_reason) for row in rows] == [(QUARANTINED, NOT_TRADED), (0, ""), (0, "")]
    assert len({(row.price_exp, row.qty_exp) for row in rows}) == 1, "its books are read with the same numbers"
    later = build_rows([spec("gateio_futures")], venues, existing=rows)
    assert (later[-1].pair_id, later[-1].quarantine_reason) == (0, "")


def test_a_futures_contract_takes_the_coin_of_its_own_exchange() -> None:
    a = spec("mexc_spot", "TRAP", identity=coin(("eth", "0xaa")))
    b = spec("gateio_spot", "TRAP", identity=coin(("eth", "0xbb")))
    f = spec("gateio_futures", "TRAP")
    rows = build_rows([a, b, f], VENUES)
    assert {row.pair_id for row in rows} == {QUARANTINED}


def test_networks_that_never_meet_are_doubt() -> None:
    a = spec("mexc_spot", identity=coin(("trx", "t1")))
    b = spec("gateio_spot", identity=coin(("sol", "s1")))
    assert "no common network" in build_rows([a, b], VENUES)[0].quarantine_reason


def test_prices_too_far_apart_are_doubt() -> None:
    rows = build_rows([spec("mexc_spot", price="100"), spec("gateio_spot", price="130")], VENUES)
    assert {row.pair_id for row in rows} == {QUARANTINED}
    assert "plausible" in rows[0].quarantine_reason


def test_what_was_quarantined_for_its_price_is_paired_once_the_prices_agree_and_not_for_want_of_one() -> None:
    eth = [spec("mexc_spot", "ETH"), spec("gateio_spot", "ETH")]
    rows = build_rows([*eth, spec("mexc_spot", price="100"), spec("gateio_spot", price="130")], VENUES)
    assert [(row.pair_id, row.prices_apart) for row in rows[2:]] == [(QUARANTINED, True)] * 2
    assert judged_again(rows, VENUES, {}, ()) == [], "its first prices stand where none is known by now"
    newest = {("gateio_spot", "BTC_USDT"): Decimal(131)}
    assert judged_again(rows, VENUES, newest, ()) == [], "the doubt that is known stands"
    newest["gateio_spot", "BTC_USDT"] = Decimal(101)
    back = judged_again(rows, VENUES, newest, ())
    assert [(row.instrument_id, row.pair_id, row.quarantine_reason) for row in back] == [(2, 1, ""), (3, 1, "")]
    assert [row.spec.reference_price for row in back] == [100, 101] and not any(row.prices_apart for row in back)
    assert judged_again([*rows[:2], *back], VENUES, newest, ()) == []


def test_a_doubt_about_a_price_ends_after_readings_in_agreement_of_prices_of_one_time() -> None:
    def reading(at_s: int, mexc: str = "", gateio: str = "") -> list[InstrumentRow]:
        listed = [spec("mexc_spot", price=mexc)] if mexc else []
        prices.read([*listed, *([spec("gateio_spot", price=gateio)] if gateio else [])], at_s)
        return prices.judged(rows, VENUES, (), TRUSTED_COINS)

    rows = build_rows([spec("mexc_spot", price="100"), spec("gateio_spot", price="130")], VENUES)
    assert all(row.prices_apart for row in rows)
    prices = NewestPrices()
    for at_s in range(0, 961, 120):  # two coins of one ticker that pass each other
        assert reading(at_s + 1, "100", "101" if at_s % 480 else "130") == []
    for at_s in range(1080, 12_000, 120):  # one does not answer: by chance the other one is near its last price
        assert reading(at_s + 1, mexc="101") == []
    for at_s in range(12_000, 12_000 + 120 * (READINGS_AGREED - 1), 120):
        assert reading(at_s + 1, "100", "101") == reading(at_s + 1) == []
    assert {row.pair_id for row in reading(20_000, "100", "101")} == {0}


def test_what_is_in_conflict_with_a_paired_one_stays_in_quarantine_whatever_the_others_say() -> None:
    names = ("mexc_spot", "binance_spot", "gateio_spot")
    rows = build_rows([spec(names[0]), spec(names[1]), spec(names[2], price="130")], VENUES)
    assert [row.pair_id for row in rows] == [0, 0, QUARANTINED]
    moved = {(names[1], "BTC_USDT"): Decimal(130)}  # the odd one has a majority now, and the first one is paired
    assert judged_again(rows, VENUES, moved, ()) == []
    (back,) = judged_again(rows, VENUES, moved, {(names[0], "BTC_USDT")})
    assert (back.instrument_id, back.pair_id) == (2, 0), "a removed one has no vote"


def test_a_doubt_that_becomes_another_one_is_reported_and_one_that_ends_pairs() -> None:
    a, b = spec("mexc_spot", identity=coin(("eth", "0xaa"))), spec("gateio_spot", price="130")
    rows = build_rows([a, b], VENUES)
    other = msgspec.structs.replace(rows[1], spec=msgspec.structs.replace(b, identity=coin(("eth", "0xbb"))))
    changed = judged_again([rows[0], other], VENUES, {}, ())
    assert [(row.pair_id, "0xbb" in row.quarantine_reason) for row in changed] == [(QUARANTINED, True)] * 2
    contradicted = build_rows([a, msgspec.structs.replace(other.spec, reference_price=Decimal(100))], VENUES)
    silent = msgspec.structs.replace(contradicted[0], spec=msgspec.structs.replace(a, identity=None))
    assert judged_again([silent, contradicted[1]], VENUES, {}, ()) == [], "a trusted coin that says nothing now"
    nova = build_rows([spec("mexc_spot", "NOVA"), spec("gateio_spot", "NOVA", identity=coin(("eth", "0xaa")))], VENUES)
    known = msgspec.structs.replace(nova[0].spec, identity=coin(("eth", "0xaa")))
    answered = [msgspec.structs.replace(nova[0], spec=known), nova[1]]
    assert nova[0].pair_id == QUARANTINED and [row.pair_id for row in judged_again(answered, VENUES, {}, ())] == [0]


def test_a_venue_that_tells_nothing_of_a_coin_does_not_pair_it() -> None:
    given = coin(("eth", "0xaa"))
    rows = build_rows(
        [spec("mexc_spot", "NOVA"), spec("gateio_spot", "NOVA", identity=given), spec("gateio_futures", "NOVA")], VENUES
    )
    assert [row.pair_id for row in rows] == [QUARANTINED, 0, 0]
    assert "mexc_spot gives no identity of the coin NOVA" in rows[0].quarantine_reason
    assert "detection.also_trusted_coins" in rows[0].quarantine_reason
    rows = build_rows([spec("mexc_spot", "NOVA"), spec("gateio_spot", "NOVA")], VENUES)
    assert [row.pair_id for row in rows] == [QUARANTINED, QUARANTINED]
    rows = build_rows([spec("gateio_spot", "NOVA"), spec("gateio_futures", "NOVA")], VENUES)
    assert [row.pair_id for row in rows] == [0, 0]  # one exchange does not give one name to two coins


def test_trusted_coins_pair_by_ticker_and_price_where_no_identity_is_given() -> None:
    pair = [spec("mexc_spot", "NOVA"), spec("gateio_spot", "NOVA", identity=coin(("eth", "0xaa")))]
    assert [row.pair_id for row in build_rows(pair, VENUES, trusted_coins=("NOVA",))] == [0, 0]
    apart = [spec("mexc_spot", "NOVA", price="1"), pair[1]]
    assert [row.pair_id for row in build_rows(apart, VENUES, trusted_coins=("NOVA",))] == [QUARANTINED, QUARANTINED]
    contradicted = [
        spec("mexc_spot", "BTC", identity=coin(("eth", "0xbb"))),
        spec("gateio_spot", identity=coin(("eth", "0xaa"))),
    ]
    assert [row.pair_id for row in build_rows(contradicted, VENUES)] == [QUARANTINED, QUARANTINED]


def test_a_majority_of_exchanges_keeps_the_pair_and_the_odd_one_is_quarantined() -> None:
    good = coin(("eth", "0xaa"))
    rows = build_rows(
        [
            spec("mexc_spot", identity=good),
            spec("gateio_spot", identity=coin(("eth", "0xbb"))),
            spec("binance_spot", identity=good),
        ],
        VENUES,
    )
    assert [row.pair_id for row in rows] == [0, QUARANTINED, 0]


def test_rows_appended_later_keep_the_ids_and_exponents_of_the_first() -> None:
    first = build_rows([spec("mexc_spot")], VENUES)
    rows = build_rows([spec("gateio_spot"), spec("gateio_spot", "ETH")], VENUES, existing=first)
    assert rows[0] == first[0]
    assert rows[1].pair_id == rows[0].pair_id and rows[2].pair_id == 1
    assert (rows[1].price_exp, rows[1].qty_exp) == (first[0].price_exp, first[0].qty_exp)
    assert [row.book_index for row in rows] == [0, 0, 1]


def test_symbol_listed_twice_and_unknown_venue_are_refused() -> None:
    with pytest.raises(ValueError, match="listed twice"):
        build_rows([spec("mexc_spot"), spec("mexc_spot")], VENUES)
    with pytest.raises(ValueError, match="names venue"):
        build_rows([spec("kraken_spot")], VENUES)


def test_closed_wallet_is_seen_for_spot_only() -> None:
    assert not wallet_open(spec("mexc_spot", identity=coin(("eth", ""), withdraw=False)))
    assert wallet_open(spec("gateio_futures", identity=coin(("eth", ""), withdraw=False)))


def test_row_survives_its_words() -> None:
    s = spec(
        "gateio_futures",
        "SHIB",
        price="0.00001",
        tick=Decimal("0.000000001"),
        lot=Decimal(10000),
        min_qty=Decimal(10000),
        max_qty=Decimal("1e30"),
        min_notional=Decimal("0.5"),
        multiplier=Decimal(10000),
        status=TradingStatus.SELL_ONLY,
        taker_fee_ppm=750,
        maker_fee_ppm=-152,
        fee_rule=FeeAssetRule.QUOTE,
        funding_rate_ppb=-86000,
        funding_interval_s=28800,
        trading_from_wall_s=1_598_252_400,
        trading_until_wall_s=1_795_888_266,
        ending=True,
        unreadable=True,
        identity=coin(("eth", ""), deposit=False),
    )
    row = build_rows([s], VENUES)[0]
    back = words_to_row(row.instrument_id, row_to_words(row), "gateio_futures")
    for name in ("trading_from_wall_s", "trading_until_wall_s", "ending", "unreadable"):
        assert getattr(back.spec, name) == getattr(s, name), name
    for name in ("symbol", "base", "quote", "kind", "tick", "lot", "min_qty", "min_notional", "multiplier", "status"):
        assert getattr(back.spec, name) == getattr(s, name), name
    assert (back.spec.taker_fee_ppm, back.spec.maker_fee_ppm, back.spec.fee_rule) == (750, -152, FeeAssetRule.QUOTE)
    assert back.pair_id == row.pair_id and back.book_index == row.book_index
    assert back.spec.identity is not None
    assert (back.spec.identity.deposit_enabled, back.spec.identity.withdraw_enabled) == (False, True)
    assert row_to_words(back).tolist() == row_to_words(row).tolist()


def test_rows_whose_books_are_counted_alike_begin_with_the_same_epoch_and_no_others() -> None:
    """A catalogue is written anew while feeds and their books live on."""
    row = build_rows([spec("mexc_spot")], VENUES)[0]

    def of(**fields: object) -> int:
        return first_epoch(msgspec.structs.replace(row, spec=msgspec.structs.replace(row.spec, **fields)))

    same = [of(taker_fee_ppm=1, status=TradingStatus.HALTED, reference_price=Decimal(7)), of(lot=Decimal("0.00010"))]
    others = [of(symbol="SOL_USDT"), of(venue="gateio_spot"), of(tick=Decimal("0.1")), of(lot=Decimal("0.001"))]
    others += [of(multiplier=Decimal(10))]
    others += [first_epoch(msgspec.structs.replace(row, **{name: 7})) for name in ("price_exp", "qty_exp")]
    assert set(same) == {first_epoch(row)} and first_epoch(row) not in others
    assert len(set(others)) == len(others) and all(0 < epoch < 2**53 for epoch in others)


def test_text_that_does_not_fit_is_refused() -> None:
    assert words_to_text(text_to_words("BTC_USDT", 4)) == "BTC_USDT"
    with pytest.raises(ValueError, match="at most 32"):
        text_to_words("X" * 33, 4)
