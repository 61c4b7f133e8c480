"""A row of ours that cannot be read is named, the list's other rows count; whoever needs the whole list is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from pipeline.exchanges.binance import account as binance_account
from pipeline.exchanges.binance import histories as binance_histories
from pipeline.exchanges.binance import orders as binance
from pipeline.exchanges.gateio import account as gate_account
from pipeline.exchanges.gateio import histories as gate_histories
from pipeline.exchanges.gateio import orders as gate
from pipeline.exchanges.mexc import histories as mexc_histories
from pipeline.exchanges.mexc import orders as mexc
from pipeline.exchanges.parsing.rows import OddRows, OwnRows
from pipeline.model.errors import ProtocolViolation
from tests.paths import REPO

CASES = REPO / "tests" / "cases"
MULTIPLIERS = {"BTC_USDT": Decimal("0.0001"), "ETH_USDT": Decimal("0.01")}
OURS = {"BTC_USDT", "ETH_USDT", "BTCUSDT", "ETHUSDT"}
Row = dict[str, Any]
Read = Callable[[bytes, OddRows], list[Any]]

SPOT_ORDER = {
    "id": "7", "text": "t-a1x7", "currency_pair": "BTC_USDT", "side": "buy", "amount": "1", "left": "0",
    "status": "closed", "finish_as": "filled",
}  # fmt: skip
SPOT_TRADE = {
    "id": "5", "order_id": "7", "text": "t-a1x7", "currency_pair": "BTC_USDT", "side": "buy", "amount": "1",
    "price": "9", "fee": "0.1", "fee_currency": "BTC",
}  # fmt: skip
FUTURES_ORDER = {
    "id": 7, "text": "t-a1x7", "contract": "BTC_USDT", "size": 3, "left": 0, "status": "finished",
    "finish_as": "filled",
}  # fmt: skip
FUTURES_TRADE = {"id": 5, "order_id": "7", "text": "t-a1x7", "contract": "BTC_USDT", "size": 3, "price": "9"}
POSITION = {"contract": "BTC_USDT", "size": 3, "mode": "single"}
FORCED = {"time": 1700000000, "contract": "BTC_USDT", "order_id": 7, "fill_price": "9"}
FUNDING = {"time": 1700000000.5, "change": "0.1", "type": "fund", "contract": "BTC_USDT", "id": "7"}
MOVE = {"id": "7", "time": 1700000000000, "currency": "BTC", "change": "1", "type": "deposit"}
FUTURES_MOVE = {"id": "7", "time": 1700000000, "change": "1", "type": "dnw"}
MEXC_ORDER = {
    "symbol": "BTCUSDT", "orderId": "C02__7", "clientOrderId": "a1x7", "status": "FILLED", "executedQty": "1",
    "cummulativeQuoteQty": "9",
}  # fmt: skip
MEXC_TRADE = {
    "symbol": "BTCUSDT", "id": "5", "orderId": "C02__7", "clientOrderId": "a1x7", "price": "9", "qty": "1",
    "commission": "0.1", "commissionAsset": "USDT", "isBuyer": True, "isMaker": False,
}  # fmt: skip
DEPOSIT = {"amount": "1", "coin": "BTC-TRX", "txId": "7", "insertTime": 1700000000000, "status": 5}
WITHDRAWAL = {"amount": "1", "coin": "BTC", "id": "7", "applyTime": 1700000000000, "status": 7}
BINANCE_ORDER = {"symbol": "BTCUSDT", "orderId": 7, "clientOrderId": "a1x7", "status": "FILLED", "executedQty": "1"}
BINANCE_DEPOSIT = {"id": "7", "amount": "1", "coin": "BTC", "status": 1, "insertTime": 1700000000000}
BINANCE_WITHDRAWAL = {"id": "7", "amount": "1", "coin": "BTC", "status": 6, "applyTime": "2019-10-12 11:12:02"}
BINANCE_TRANSFER = {"asset": "BTC", "amount": "1", "status": "CONFIRMED", "tranId": 7, "timestamp": 1700000000000}
BINANCE_TRADE = {
    "symbol": "BTCUSDT", "id": 5, "orderId": 7, "price": "9", "qty": "1", "commission": "0.1",
    "commissionAsset": "USDT", "buyer": True, "maker": False,
}  # fmt: skip
BINANCE_POSITION = {"symbol": "BTCUSDT", "positionAmt": "0.5"}


def gate_positions(payload: bytes, odd: OddRows) -> list[Any]:
    return gate_account.positions_of("v", gate_account.position_rows("v", payload, OURS, odd), MULTIPLIERS, 1)


LISTS: dict[str, tuple[Row, Row, Read, str, str, str]] = {
    "gateio spot orders": (
        SPOT_ORDER, {"left": None}, lambda p, odd: gate.spot_updates("v", p, 1, "rest", odd)[0],
        "BTC_USDT", "7", "a1x7",
    ),
    "gateio spot fills": (
        SPOT_TRADE, {"price": "nan"}, lambda p, odd: gate.spot_fills("v", p, 1, "rest", odd)[0],
        "BTC_USDT", "7", "a1x7",
    ),
    "gateio futures orders": (
        FUTURES_ORDER, {"status": "paused"},
        lambda p, odd: gate.futures_updates("v", p, MULTIPLIERS, 1, "rest", odd)[0],
        "BTC_USDT", "7", "a1x7",
    ),
    "gateio futures fills": (
        FUTURES_TRADE, {"size": None}, lambda p, odd: gate.futures_fills("v", p, MULTIPLIERS, 1, "rest", odd)[0],
        "BTC_USDT", "7", "a1x7",
    ),
    "gateio positions": (POSITION, {"size": "1e999999999"}, gate_positions, "BTC_USDT", "", ""),
    "gateio forced closes": (
        FORCED, {"time": None}, lambda p, odd: gate_histories.parse_forced("v", p, "liquidates", OURS, odd), "BTC_USDT",
        "7", "",
    ),
    "gateio funding": (
        FUNDING, {"change": None}, lambda p, odd: gate_account.parse_funding("v", p, odd)[0],
        "BTC_USDT", "7", "",
    ),
    "gateio spot account book": (
        MOVE, {"change": None}, lambda p, odd: gate_histories.parse_spot_moves("v", p, OURS, odd)[0],
        "BTC", "7", "",
    ),
    "gateio futures account book": (
        FUTURES_MOVE, {"time": None}, lambda p, odd: gate_histories.parse_futures_moves("v", p, OURS, odd)[0], "USDT",
        "7", "",
    ),
    "mexc orders": (
        MEXC_ORDER, {"status": "PENDING"}, lambda p, odd: mexc.parse_orders("v", p, 1, odd),
        "BTCUSDT", "C02__7", "a1x7",
    ),
    "mexc fills": (
        MEXC_TRADE, {"qty": None}, lambda p, odd: mexc.parse_fills("v", p, 1, odd)[0],
        "BTCUSDT", "C02__7", "a1x7",
    ),
    "mexc deposits": (
        DEPOSIT, {"amount": None}, lambda p, odd: mexc_histories.parse_deposits("v", p, OURS, odd),
        "BTC-TRX", "", "",
    ),
    "mexc withdrawals": (
        WITHDRAWAL, {"amount": "?"}, lambda p, odd: mexc_histories.parse_withdrawals("v", p, OURS, odd),
        "BTC", "7", "",
    ),
    "binance orders": (
        BINANCE_ORDER, {"status": "LOST"}, lambda p, odd: binance.parse_orders("v", p, 1, odd),
        "BTCUSDT", "7", "a1x7",
    ),
    "binance fills": (
        BINANCE_TRADE, {"commissionAsset": None}, lambda p, odd: binance.parse_fills("v", p, 1, odd)[0],
        "BTCUSDT", "7", "",
    ),
    "binance positions": (
        BINANCE_POSITION, {"positionAmt": None},
        lambda p, odd: binance_account.parse_positions("v", p, 1, symbols=OURS, odd=odd),
        "BTCUSDT", "", "",
    ),
    "binance deposits": (
        BINANCE_DEPOSIT, {"amount": None}, lambda p, odd: binance_histories.parse_deposits("v", p, OURS, odd),
        "BTC", "7", "",
    ),
    "binance withdrawals": (
        BINANCE_WITHDRAWAL, {"applyTime": "?"},
        lambda p, odd: binance_histories.parse_withdrawals("v", p, OURS, odd),
        "BTC", "7", "",
    ),
    "binance transfers": (
        BINANCE_TRANSFER, {"amount": "?"},
        lambda p, odd: binance_histories.parse_transfers("v", "MAIN_UMFUTURE", b'{"rows":%b}' % p, OURS, odd),
        "BTC", "", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_a_bad_row_of_ours_is_named_and_the_others_are_read(name: str) -> None:
    good, change, read, instrument, order_id, client_id = LISTS[name]
    payload, odd = json.dumps([good | change, good]).encode(), OddRows()
    own = OwnRows(odd, "USDT" if "futures account" in name else "")
    assert len(read(payload, own)) == 1
    (row,) = own.unreadable
    assert (row.name, row.order_id, row.client_id) == (instrument, order_id, client_id) and row.reason
    assert odd.count == 1 and len(odd.take_news()) == 1, "it is counted and named as others are"
    with pytest.raises(ProtocolViolation):
        read(payload, odd)


@pytest.mark.parametrize("name", LISTS)
def test_a_row_that_does_not_say_what_it_is_about_is_of_the_lists_instrument_or_voids_it(name: str) -> None:
    good, _, read, instrument, _, _ = LISTS[name]
    payload = json.dumps([None, good]).encode()
    own = OwnRows(OddRows(), instrument)
    assert len(read(payload, own)) == 1 and [row.name for row in own.unreadable] == [instrument]
    with pytest.raises(ProtocolViolation):
        read(payload, OwnRows(OddRows()))


def test_the_found_orders_row_is_ours_as_well_when_it_has_our_id() -> None:
    payload = (CASES / "orders" / "G_mexc_openOrders_one_foreign.json").read_bytes()
    own = OwnRows(OddRows())
    (ours,) = mexc.parse_orders("m", payload.replace(b'"clientOrderId": null', b'"clientOrderId": "a1x2"'), 1, own)
    assert ours.client_id == "ours" and [row.client_id for row in own.unreadable] == ["a1x2"]
