"""Replies that public bug reports tell of: one odd row or answer must not cost more than itself."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.book.memory import FP_LIMIT
from pipeline.book.results import FrameResult, SnapshotResult
from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.binance import account as binance_account
from pipeline.exchanges.binance import errors as binance_errors
from pipeline.exchanges.binance import orders as binance_orders
from pipeline.exchanges.binance import symbols as binance
from pipeline.exchanges.bybit import errors as bybit_errors
from pipeline.exchanges.gateio import account as gate_account
from pipeline.exchanges.gateio import errors as gate_errors
from pipeline.exchanges.gateio import orders as gate_orders
from pipeline.exchanges.gateio import symbols as gate
from pipeline.exchanges.gateio.account_settings import parse_settings
from pipeline.exchanges.mexc import account as mexc_account
from pipeline.exchanges.mexc import errors as mexc_errors
from pipeline.exchanges.mexc import orders as mexc_orders
from pipeline.exchanges.mexc import symbols as mexc
from pipeline.exchanges.parsing.rows import OddRows
from pipeline.exchanges.transport.refusals import reported_silence_s
from pipeline.model.enums import OrderKind, OrderSide, OrderState, TimeInForce, TradingStatus
from pipeline.model.errors import AuthRefused, GatewayRefused, ProtocolViolation, RateLimited, VenueRejected
from pipeline.model.structs import OrderRequest
from shm.layout import BOOK, FLAG_GAP
from tests.paths import REPO
from tests.worlds.venue_books_rig import Rig, spot_update

CASES = REPO / "tests" / "cases"
ERRORS_OF = {
    "mexc": mexc_errors.error_of,
    "gateio": gate_errors.error_of,
    "binance": binance_errors.error_of,
    "bybit": bybit_errors.error_of,
}


def case(name: str) -> bytes:
    return (CASES / name).read_bytes()


def reply(status: int, body: bytes, **headers: str) -> HttpReply:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return HttpReply(status=status, headers=named, body=body, recv_mono_ns=1)


# --- instruments, coins, prices ---


@pytest.mark.parametrize(
    "path", sorted((CASES / "instruments").glob("B_exchangeInfo_*_null.json")), ids=lambda p: p.stem
)
def test_a_null_in_a_new_listing_leaves_the_other_symbol_tradable(path: Path) -> None:
    odd = OddRows()
    symbols = ["SOLUSDT", "NEWCOINUSDT"]
    specs = mexc.parse_instruments("m", path.read_bytes(), symbols, fees={}, coins={}, prices={}, odd=odd)
    assert [spec.symbol for spec in specs] == ["SOLUSDT"] and specs[0].status is TradingStatus.TRADING
    (news,) = odd.take_news()
    assert odd.count == 1 and "NEWCOINUSDT" in news and odd.take_news() == []


def test_a_commission_may_be_a_number() -> None:
    payload = case("instruments/B_exchangeInfo_takerCommission_number.json")
    specs = mexc.parse_instruments("m", payload, ["SOLUSDT", "NEWCOINUSDT"], fees={}, coins={}, prices={})
    assert [spec.taker_fee_ppm for spec in specs] == [500, 500]


def test_gate_lists_lose_only_their_odd_rows() -> None:
    odd = OddRows()
    pairs = case("instruments/B_gate_pairs_null.json")
    specs = gate.parse_spot("g", pairs, ["ETH_USDT", "ZZZ_USDT"], fees={}, coins={}, prices={}, odd=odd)
    assert [spec.symbol for spec in specs] == ["ETH_USDT"]
    contracts = case("instruments/S_gate_contracts_null.json")
    (contract,) = gate.parse_futures("g", contracts, ["XMR_USDT", "NEW_USDT"], fees={}, coins={}, odd=odd)
    assert (contract.symbol, contract.multiplier) == ("XMR_USDT", Decimal("0.01"))
    assert gate.parse_multipliers("g", contracts, odd) == {"XMR_USDT": Decimal("0.01")}
    assert list(gate.parse_coins("g", case("instruments/S_gate_currencies_null.json"), odd)) == ["BTC"]
    assert {line.split(" left out")[0].rpartition(" ")[2] for line in odd.take_news()} == {
        "ZZZ_USDT",
        "NEW_USDT",
        "NEWC",
    }


def test_a_funding_time_that_is_no_whole_number_decides_nothing() -> None:
    row = json.loads(case("instruments/O_gate_contract_enable_decimal.json"))[0] | {"funding_next_apply": 1610035200.0}
    (spec,) = gate.parse_futures("g", json.dumps([row]).encode(), ["XMR_USDT"], fees={}, coins={})
    assert spec.funding_next_wall_s == 1610035200
    assert (spec.lot, spec.min_qty, spec.funding_interval_s) == (Decimal("0.001"), Decimal("0.001"), 14_400)
    order = OrderRequest(
        client_id="a1", venue="g", symbol="XMR_USDT", side=OrderSide.SELL, qty=Decimal("0.014"), price=Decimal(150),
        multiplier=Decimal("0.01"), kind=OrderKind.LIMIT, tif=TimeInForce.IOC,
    )  # fmt: skip
    assert b'"size":"-1.4"' in gate_orders.place_body("futures", order)


def test_a_pending_row_leaves_binance_spot_tradable() -> None:
    odd = OddRows()
    payload = case("instruments/B_binance_pending_row.json")
    (spec,) = binance.parse_instruments("b", "spot", payload, ["BTCUSDT"], fees={}, coins={}, prices={}, odd=odd)
    assert (spec.min_notional, spec.lot, odd.count) == (5, Decimal("0.00001"), 1)


def test_a_dated_contract_without_funding_costs_the_perpetual_nothing() -> None:
    premiums = binance.parse_premiums("b", case("instruments/A_premiumIndex.json"))
    assert premiums["BTCUSDT"].rate == Decimal("0.0001") and premiums["BTCUSDT_250328"].rate == 0
    (perpetual,) = binance.parse_premiums("b", case("instruments/A2_premiumIndex_perp_only.json")).values()
    assert perpetual == premiums["BTCUSDT"]


def test_a_contract_that_pays_funding_more_often_than_others_does_so_here() -> None:
    """The list of contracts does not tell it."""
    payload, often = case("instruments/Q_binance_exchangeInfo_4h.json"), {"AUCTIONUSDT": 14_400}
    terms: dict[str, Any] = {"fees": {}, "coins": {}, "prices": {}}
    for intervals_s in (often, {}):
        (spec,) = binance.parse_instruments("b", "futures", payload, ["AUCTIONUSDT"], intervals_s=intervals_s, **terms)
        assert spec.funding_interval_s == intervals_s.get("AUCTIONUSDT", 28_800)


@pytest.mark.parametrize("name", ["S_mexc_getall_null_network.json", "S_mexc_getall_null_enable.json"])
def test_coins_of_others_may_have_nulls(name: str) -> None:
    odd = OddRows()
    assert list(mexc.parse_coins("m", case(f"instruments/{name}"), odd)) == ["BTC"] and odd.count == 1


def test_prices_of_rows_before_their_listing_are_left_out() -> None:
    odd = OddRows()
    assert mexc.parse_prices("m", case("instruments/S_mexc_bookticker_null.json"), odd) == {"SOLUSDT": Decimal("1.05")}
    assert binance.parse_prices("b", case("instruments/S_binance_bookticker_empty.json"), odd) == {
        "BTCUSDT": Decimal("1.05")
    }
    assert odd.count == 2


def test_a_list_without_one_readable_row_is_no_list() -> None:
    with pytest.raises(ProtocolViolation):
        gate.parse_prices("g", b'[{"currency_pair":1},{"currency_pair":2}]')


# --- balances and positions ---


@pytest.mark.parametrize("name", ["R_gate_balances_empty", "R_gate_balances_nan", "R_gate_balances_null"])
def test_a_balance_fails_only_where_its_asset_is_traded(name: str) -> None:
    payload, odd = case(f"account/{name}.json"), OddRows()
    (usdt,) = gate_account.parse_spot_balances("g", payload, 1, symbols={"BTC_USDT"}, odd=odd)
    assert (usdt.asset, usdt.free, odd.count) == ("USDT", 1000, 1)
    with pytest.raises(ProtocolViolation):
        gate_account.parse_spot_balances("g", payload, 1, symbols={"BTC_USDT", "ZZZ_USDT"}, odd=odd)


def test_a_negative_balance_stays_negative() -> None:
    rows = gate_account.parse_spot_balances("g", case("account/R_gate_balances_negative.json"), 1, symbols={"A_USDT"})
    assert [row.free for row in rows] == [1000, Decimal("-12.5")]


def test_a_mexc_balance_fails_only_where_its_asset_is_traded() -> None:
    payload, odd = case("account/R_mexc_account.json"), OddRows()
    (usdt,) = mexc_account.parse_balances("m", payload, 1, symbols={"SOLUSDT"}, odd=odd)
    assert (usdt.free, odd.count) == (1000, 1)
    with pytest.raises(ProtocolViolation):
        mexc_account.parse_balances("m", payload, 1, symbols={"NFTUSDT"}, odd=odd)


def test_a_position_of_a_contract_that_we_do_not_trade_may_be_unreadable() -> None:
    rows = [{"contract": "BTC_USDT", "size": 3}, {"contract": "NEW_USDT", "size": None, "mode": None}]
    payload, odd = json.dumps(rows).encode(), OddRows()
    (row,) = gate_account.position_rows("g", payload, {"BTC_USDT"}, odd)
    assert (row.contract, odd.count) == ("BTC_USDT", 1)
    assert list(parse_settings("g", payload, odd)) == ["BTC_USDT"]
    with pytest.raises(ProtocolViolation):
        gate_account.position_rows("g", payload, {"BTC_USDT", "NEW_USDT"}, odd)
    mixed = b'[{"asset":"USDT","free":"1","locked":"0"},{"asset":"NEW","free":null,"locked":null}]'
    balances = binance_account.parse_balances("b", "spot", b'{"balances":%b}' % mixed, 1, symbols={"BTCUSDT"}, odd=odd)
    assert [balance.asset for balance in balances] == ["USDT"]


# --- orders ---


def test_a_foreign_order_that_cannot_be_read_is_counted_and_ours_is_read() -> None:
    payload, odd = case("orders/G_mexc_openOrders_one_foreign.json"), OddRows()
    (ours,) = mexc_orders.parse_orders("m", payload, 1, odd)
    assert (ours.client_id, ours.state, odd.count) == ("ours", OrderState.OPEN, 1)
    with pytest.raises(ProtocolViolation, match="PENDING"):
        mexc_orders.parse_orders("m", payload.replace(b'"clientOrderId": null', b'"clientOrderId": "a1x2"'), 1, odd)
    without_id = payload.replace(b'"clientOrderId": null,', b"")
    with pytest.raises(ProtocolViolation):  # whose it is cannot be read: it may be ours
        mexc_orders.parse_orders("m", without_id, 1, odd)


def test_cancelled_without_quantities_leaves_the_fills_to_be_asked_for() -> None:
    update = mexc_orders.parse_order("m", case("orders/G_mexc_null_qty.json"), 1)
    assert (update.state, update.filled_qty, update.average_price) == (OrderState.CANCELLED, None, None)


def test_words_of_binance_orders() -> None:
    pending = binance_orders.parse_order("b", case("orders/G_binance_pending_cancel.json"), 1)
    assert pending.state is OrderState.OPEN
    negative = binance_orders.parse_order("b", case("orders/G_binance_negative_quote.json"), 1)
    assert (negative.state, negative.filled_qty, negative.average_price) == (OrderState.FILLED, 2, None)
    prevented = binance_orders.parse_order("b", case("orders/G_binance_stp.json"), 1)
    assert (prevented.state, prevented.filled_qty, prevented.order_id) == (OrderState.CANCELLED, 1, "9007199254740993")


def test_a_list_of_orders_among_cancelled_ones_costs_nothing() -> None:
    ours = json.loads(case("orders/G_binance_stp.json"))
    of_two = {
        "orderListId": 1929,
        "contingencyType": "OCO",
        "listClientOrderId": "2inzWQdDvZLHbbAmAozX2N",
        "orders": [],
    }
    odd = OddRows()
    (update,) = binance_orders.parse_orders("b", json.dumps([ours, of_two]).encode(), 1, odd)
    assert update.client_id == "x" and odd.count == 1


@pytest.mark.parametrize(
    "odd_time",
    [{"finish_time_ms": 1.5}, {"create_time": "1546569968"}, {"finish_time": None}, {"finish_time": "9e999999999"}],
)
def test_times_of_an_order_decide_nothing(odd_time: dict[str, object]) -> None:
    row = json.loads(case("orders/O_gate_order_decimal.json")) | odd_time
    update = gate_orders.futures_update(
        "g", gate_orders.futures_order.decode(json.dumps(row).encode()), {"XMR_USDT": Decimal("0.01")}, 1, "rest"
    )
    assert (update.state, update.filled_qty) == (OrderState.CANCELLED, Decimal("0.010"))


def test_a_bad_row_of_a_push_costs_the_others_nothing() -> None:
    good = {
        "id": "1", "text": "t-a1x2", "currency_pair": "A_USDT", "side": "buy", "amount": "1", "left": "1",
        "event": "put",
    }  # fmt: skip
    odd = OddRows()

    def pushed(*rows: dict[str, object]) -> list[Any]:
        frame = {"channel": "spot.orders", "event": "update", "result": rows}
        envelope = gate_account.envelope.decode(json.dumps(frame).encode())
        return list(gate_account.parse_push("g", envelope, {}, 1, symbols={"A_USDT"}, odd=odd))

    assert [update.client_id for update in pushed({**good, "text": "apiv4", "left": None}, good)] == ["a1x2"]
    assert odd.count == 1
    with pytest.raises(ProtocolViolation):
        pushed({**good, "left": None}, good)


# --- who said it ---


@pytest.mark.parametrize("dialect", ERRORS_OF)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, case("answers/F_cloudfront_403.html")),
        (401, b""),
        (403, b'{"message":"Forbidden"}'),
        (451, b"Unavailable For Legal Reasons"),
        (404, b"<html>no such page</html>"),
        (503, b"<html>maintenance</html>"),
        (200, b"<!DOCTYPE html><title>Just a moment...</title>"),
        (307, b""),
    ],
)
def test_an_answer_without_the_venues_own_code_is_the_gateways(dialect: str, status: int, body: bytes) -> None:
    error = ERRORS_OF[dialect]("v", reply(status, body))
    if (dialect, body) == ("bybit", b'{"message":"Forbidden"}'):
        assert isinstance(error, RateLimited) and error.of_address, "its word for too many requests"
        return
    assert isinstance(error, GatewayRefused)
    assert not isinstance(error, (AuthRefused, VenueRejected)), "an order answered so is neither refused nor done"


def test_an_account_without_funds_is_told_with_its_text() -> None:
    error = gate_errors.error_of("g", reply(400, case("answers/E_user_not_found.json")))
    assert isinstance(error, AuthRefused) and "please transfer funds first" in str(error)


def test_a_listen_key_that_is_gone_is_the_venues_own_word() -> None:
    error = mexc_errors.error_of("m", reply(400, case("answers/V_mexc_listenkey.json")))
    assert error is not None and not isinstance(error, GatewayRefused)


@pytest.mark.parametrize("status", [418, 429, 403])
def test_a_ban_lasts_until_the_time_in_its_text(status: int) -> None:
    body = case("answers/W_binance_ban.json")
    banned = reply(status, body, date="Sat, 28 Nov 2026 18:03:47 GMT")  # three hours before its end
    error = binance_errors.error_of("b", banned)
    assert isinstance(error, RateLimited) and abs(error.retry_after_s - 10_800) < 1


@pytest.mark.parametrize(
    ("status", "body", "headers", "seconds"),
    [
        (429, b"", {"retry_after": "7"}, 7.0),
        (403, b"<html>", {"retry_after": "900"}, 900.0),
        (429, b"", {"retry_after": "Sat, 28 Nov 2026 18:04:47 GMT", "date": "Sat, 28 Nov 2026 18:03:47 GMT"}, 60.0),
        (429, b'{"label":"TOO_MANY_REQUESTS"}', {
            "x_gate_ratelimit_reset_timestamp": "1795889037", "date": "Sat, 28 Nov 2026 18:03:47 GMT"}, 10.0),
        (429, b'{"msg":"too frequent, please try again in 5 minutes"}', {}, 300.0),
        (429, b'{"msg":"retry after 250 ms"}', {"retry_after": "2"}, 2.0),
        (429, b'{"code":429,"msg":"Too many requests"}', {}, None),
        (418, b"until 99999999999999999", {}, None),
        (429, b"", {"retry_after": "99999999999"}, 3 * 86_400.0),
    ],
)  # fmt: skip
def test_a_silence_is_as_long_as_header_or_text_say(
    status: int, body: bytes, headers: dict[str, str], seconds: float | None
) -> None:
    assert reported_silence_s(reply(status, body, **headers)) == seconds


# --- books ---


def test_zero_and_repeated_levels_of_a_snapshot() -> None:
    rig = Rig("gateio", "spot", "BTC_USDT")
    assert rig.snap(case("books/J_gate_snapshot_zero_and_duplicate_levels.json")) is SnapshotResult.SYNCED
    record = rig.read()
    assert (record[BOOK.bid_count], record[BOOK.ask_count]) == (2, 0), "of 101.0 the first counts, which is none"
    assert list(record[BOOK.bid_price_fp :][:2]) == [1_000_000, 990_000]
    assert list(record[BOOK.bid_qty_fp :][:2]) == [10_000, 30_000]


@pytest.mark.parametrize(
    ("name", "second_bid"),
    [
        ("N_wall_1000000000000000.json", 10**18),
        ("N_wall_4700000000000000.json", FP_LIMIT),
        ("N_wall_9000000000000000.json", FP_LIMIT),
        ("N_tiny_price_huge_qty.json", FP_LIMIT),
    ],
)
def test_one_giant_level_is_cut_and_the_book_stands(name: str, second_bid: int) -> None:
    rig = Rig(price_exp=14, qty_exp=3)
    assert rig.frame(spot_update(9, 9)) is FrameResult.NEED_SNAPSHOT
    assert rig.snap(case(f"books/{name}")) is SnapshotResult.SYNCED
    assert rig.flags() & FLAG_GAP == 0 and rig.read()[BOOK.bid_qty_fp + 1] == second_bid
    wall = [("0.0000000000500", "8000000000000000")]
    assert rig.frame(spot_update(11, 11, b=wall)) is FrameResult.APPLIED
    prices = list(rig.read()[BOOK.bid_price_fp :][:3])
    assert rig.read()[BOOK.bid_qty_fp + prices.index(5000)] == FP_LIMIT


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("K_binance_exponent_bare.json", FrameResult.APPLIED),
        ("K_binance_exponent_quoted.json", FrameResult.REJECTED),
        ("L_binance_combined_stream.json", FrameResult.APPLIED),
    ],
)
def test_exponents_and_wrappers_of_frames(name: str, result: FrameResult) -> None:
    rig = Rig(price_exp=8)
    rig.live()
    assert rig.frame(case(f"books/{name}")) is result


def test_a_fee_that_was_taken_in_points_is_one_of_points() -> None:
    (row,) = msgspec.json.decode(case("orders/P_gate_trade_point_fee.json"), type=list[gate_orders.SpotTrade])
    fill = gate_orders.spot_fill("g", row, 1, "rest")
    assert (fill.fee, fill.fee_asset, fill.extra_fees) == (Decimal("0.4024342356"), "POINT", ())
    assert (fill.qty, fill.price, fill.client_id) == (Decimal("3081.426"), Decimal("0.0653"), "a")
