"""Binance USDⓈ-M codecs: frames and lists of its documents, settings, tiers, routes of the user stream."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from pipeline.economics.margin import Tier, liquidation_price, maintenance_rate
from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.binance import account, account_settings, futures_stream, orders, symbols
from pipeline.exchanges.binance import futures_histories as histories
from pipeline.exchanges.binance import websocket_api as wsapi
from pipeline.exchanges.binance.account_settings import ContractSettings
from pipeline.exchanges.binance.errors import error_of
from pipeline.exchanges.binance.futures_session import private_url
from pipeline.exchanges.binance.futures_stream import WalletChanged
from pipeline.exchanges.binance.signing import BinanceSigner
from pipeline.exchanges.parsing.rows import OddRows, OwnRows
from pipeline.model.config import VenueConfig
from pipeline.model.enums import OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.errors import (
    AccountSettingsWrong,
    ClockRefused,
    InstrumentRefused,
    InsufficientBalance,
    OrderNotFound,
    OutcomeUnknown,
    ProtocolViolation,
    TradingDisabled,
    VenueError,
    VenueRejected,
)
from pipeline.model.structs import Fill, Funding, MoneyMove, OrderRequest, OrderUpdate, Position
from pipeline.model.venue_events import FundingNotice, MoneyNotice

D = Decimal


def request(**changes: object) -> OrderRequest:
    fields: dict[str, object] = {
        "client_id": "ab1", "venue": "v", "symbol": "BTCUSDT", "side": OrderSide.SELL, "kind": OrderKind.LIMIT,
        "tif": TimeInForce.IOC, "qty": D("0.001"), "price": D("65000.50"),
    }  # fmt: skip
    return OrderRequest(**(fields | changes))  # type: ignore[arg-type]


# --- orders ---


def test_vector_of_a_signed_order() -> None:
    """POST /fapi/v1/order, whose signature equals ccxt's."""
    body = (
        b"timestamp=1700000000000&symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTX&quantity=0.001&price=65000.5"
        b"&newClientOrderId=ab_1&recvWindow=10000"
    )
    signer = BinanceSigner("testkey0001", "testsecret0001")
    assert signer.sign(body) == "f86353c88aa0921f429a8fe7e3bb6847ffcbedf0aced3dfe8b321d9003d3cf9b"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, {"type": "LIMIT", "timeInForce": "IOC", "price": "65000.5"}),
        ({"reduce_only": True}, {"reduceOnly": "true", "timeInForce": "IOC"}),
        ({"tif": TimeInForce.POST_ONLY}, {"type": "LIMIT", "timeInForce": "GTX"}),
        ({"tif": TimeInForce.FOK}, {"timeInForce": "FOK"}),
        ({"kind": OrderKind.MARKET}, {"type": "MARKET", "quantity": "0.001"}),
    ],
)
def test_orders_of_every_kind(changes: dict[str, object], wanted: dict[str, str]) -> None:
    params = dict(orders.place_params(request(**changes), "futures"))
    assert params == params | wanted and "positionSide" not in params
    assert ("reduceOnly" in params) is bool(changes.get("reduce_only"))
    assert ("price" in params) is (changes.get("kind") is not OrderKind.MARKET)


def test_an_answer_without_a_quote_amount_has_no_average_and_an_older_one_has() -> None:
    """The answer to a placement of 2026 has lost ``avgPrice`` and ``cumQuote``."""
    row = {
        "clientOrderId": "ab1", "cumQty": "10", "executedQty": "10", "orderId": 22542179, "origQty": "10",
        "price": "7000", "reduceOnly": False, "side": "SELL", "positionSide": "BOTH", "status": "FILLED",
        "symbol": "BTCUSDT", "timeInForce": "IOC", "type": "LIMIT", "updateTime": 1566818724722,
    }  # fmt: skip
    update = orders.parse_order("v", json.dumps(row).encode(), 1, "ws_api")
    assert (update.state, update.filled_qty, update.average_price) == (OrderState.FILLED, 10, None)
    assert (update.venue_wall_ms, update.client_id) == (1566818724722, "ab1")
    older = orders.parse_order("v", json.dumps(row | {"avgPrice": "7001.5", "cumQuote": "70015"}).encode(), 1)
    assert older.average_price == D("7001.5")


@pytest.mark.parametrize(
    ("client_id", "status", "cause"),
    [
        ("autoclose-1596107620040000020", "FILLED", "liquidation: FILLED"),
        ("autoclose-1596107620040000020", "NEW_INSURANCE", "liquidation: NEW_INSURANCE"),
        ("adl_autoclose", "NEW_ADL", "adl: NEW_ADL"),
        ("settlement_autoclose-1", "FILLED", "settlement: FILLED"),
    ],
)
def test_orders_of_the_venue_itself_say_what_they_were_for(client_id: str, status: str, cause: str) -> None:
    row = {"symbol": "X", "orderId": 1, "status": status, "executedQty": "2", "clientOrderId": client_id}
    update = orders.parse_order("v", json.dumps(row).encode(), 1)
    assert (update.state, update.reason) == (OrderState.FILLED, cause)


def test_order_counts_of_seconds_and_of_the_minute() -> None:
    rows = [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400, "count": 2399},
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300, "count": 1},
        {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200, "count": 1190},
    ]
    frame = wsapi.parse_frame("v", json.dumps({"id": "1", "status": 200, "result": {}, "rateLimits": rows}).encode())
    assert wsapi.orders_left(frame) == 10


@pytest.mark.parametrize(
    ("status", "code", "msg", "expected"),
    [
        (400, -2019, "Margin is insufficient.", InsufficientBalance),
        (400, -4164, "Order's notional must be no smaller than 5 (unless you choose reduce only).", InstrumentRefused),
        (400, -4014, "Price not increased by tick size.", InstrumentRefused),
        (400, -2022, "ReduceOnly Order is rejected.", VenueRejected),
        (400, -2023, "User in liquidation mode now.", VenueRejected),
        (400, -5022, "Post Only order will be rejected.", VenueRejected),
        (400, -4161, "Leverage reduction is not supported in Isolated Margin Mode.", VenueRejected),
        (400, -4054, "Cannot add position margin: position is 0.", VenueRejected),
        (400, -5028, "Timestamp for this request is outside of the ME recvWindow.", ClockRefused),
        (400, -4140, "Invalid symbol status for opening position.", TradingDisabled),
        (400, -4116, "ClientOrderId is duplicated.", OutcomeUnknown),
        (400, -1125, "This listenKey does not exist.", OrderNotFound),
        (503, -2019, "a code under a status that leaves it open", OutcomeUnknown),
    ],
)
def test_refusals(status: int, code: int, msg: str, expected: type[VenueError]) -> None:
    body = json.dumps({"code": code, "msg": msg}).encode()
    assert type(error_of("v", HttpReply(status=status, headers={}, body=body, recv_mono_ns=1))) is expected


# --- user stream ---

REPORT = {
    "s": "BTCUSDT", "c": "ab1", "S": "SELL", "o": "LIMIT", "f": "GTC", "q": "0.001", "p": "10000", "ap": "0",
    "sp": "0", "x": "NEW", "X": "NEW", "i": 8886774, "l": "0", "z": "0", "L": "0", "N": "USDT", "n": "0",
    "T": 1568879465650, "t": 0, "b": "0", "a": "9.91", "m": False, "R": False, "wt": "CONTRACT_PRICE", "ot": "LIMIT",
    "ps": "BOTH", "cp": False, "pP": False, "si": 0, "ss": 0, "rp": "0", "V": "EXPIRE_TAKER", "pm": "NONE", "gtd": 0,
    "er": "0",
}  # fmt: skip


def pushed(body: dict[str, Any], odd: OddRows | None = None) -> list[Any]:
    return list(futures_stream.parse_event("v", json.dumps(body).encode(), 7, symbols=("BTCUSDT",), odd=odd))


def reported(**changes: object) -> list[Any]:
    return pushed({"e": "ORDER_TRADE_UPDATE", "E": 1568879465651, "T": 1568879465650, "o": REPORT | changes})


def test_reports_are_orders_and_trades_are_fills_before_them() -> None:
    (opened,) = reported()
    assert isinstance(opened, OrderUpdate)
    assert (opened.state, opened.client_id, opened.order_id, opened.venue_wall_ms) == (
        OrderState.OPEN, "ab1", "8886774", 1568879465650,
    )  # fmt: skip
    fill, after = reported(x="TRADE", X="PARTIALLY_FILLED", l="0.0004", z="0.0004", L="10000.5", ap="10000.5",
                           N="BNB", n="0.00001", t=5, m=True)  # fmt: skip
    assert isinstance(fill, Fill) and isinstance(after, OrderUpdate)
    assert (fill.trade_id, fill.qty, fill.price, fill.fee, fill.fee_asset, fill.is_maker, fill.side) == (
        "5", D("0.0004"), D("10000.5"), D("0.00001"), "BNB", True, OrderSide.SELL,
    )  # fmt: skip
    assert (after.state, after.filled_qty, after.average_price) == (
        OrderState.PARTIALLY_FILLED, D("0.0004"), D("10000.5"),
    )  # fmt: skip


def test_a_fill_whose_fee_is_not_told_has_no_fee_asset_so_that_rest_is_asked() -> None:
    report = {name: value for name, value in REPORT.items() if name not in ("N", "n")}
    body = {"e": "ORDER_TRADE_UPDATE", "o": report | {"x": "TRADE", "X": "FILLED", "l": "1", "z": "1", "L": "2"}}
    fill, _ = pushed(body)
    assert (fill.fee, fill.fee_asset) == (0, "")


@pytest.mark.parametrize(
    ("status", "er", "reason"),
    [
        ("EXPIRED", "2", "EXPIRED (er 2)"),
        ("EXPIRED_IN_MATCH", "1", "EXPIRED_IN_MATCH (er 1)"),
        ("CANCELED", "0", "CANCELED"),
    ],
)  # fmt: skip
def test_ends_say_how_they_came(status: str, er: str, reason: str) -> None:
    (update,) = reported(x="EXPIRED" if status != "CANCELED" else "CANCELED", X=status, er=er)
    assert (update.state, update.reason) == (OrderState.CANCELLED, reason)


def test_forced_executions_are_fills_of_orders_that_say_so() -> None:
    fill, update = reported(c="autoclose-17", x="CALCULATED", X="FILLED", l="0.001", z="0.001", L="9000", t=9)
    assert fill.client_id == "autoclose-17" and update.reason == "liquidation: FILLED"
    fill, update = reported(c="adl_autoclose", x="NEW", X="NEW_ADL", l="0.001", z="0.001", L="9000", t=10)
    assert (fill.qty, update.state, update.reason) == (D("0.001"), OrderState.FILLED, "adl: NEW_ADL")


def changed(reason: str, **lists: object) -> list[Any]:
    return pushed({"e": "ACCOUNT_UPDATE", "E": 1564745798939, "T": 1564745798938, "a": {"m": reason, **lists}})


WALLET = {"a": "USDT", "wb": "122624.12", "cw": "100.12", "bc": "50.12"}
HELD = {
    "s": "BTCUSDT", "pa": "-20", "ep": "6563.66500", "bep": "6563.6", "cr": "0", "up": "2850.21", "mt": "isolated",
    "iw": "13200.70", "ps": "BOTH",
}  # fmt: skip


def test_an_account_update_is_positions_and_a_reason_to_ask_for_the_balance() -> None:
    position, wallet = changed("ORDER", B=[WALLET | {"bc": "0"}], P=[HELD])
    assert isinstance(position, Position) and wallet == WalletChanged("USDT", D("122624.12"))
    assert (position.qty, position.entry_price, position.margin, position.unrealised_pnl, position.mark_price) == (
        -20, D("6563.665"), D("13200.70"), D("2850.21"), 0,
    )  # fmt: skip
    assert position.liquidation_price is None, "not pushed"


def test_money_that_no_order_moved_is_noticed_and_funding_names_its_contract_where_it_is_told() -> None:
    moved, _ = changed("DEPOSIT", B=[WALLET])
    assert isinstance(moved, MoneyNotice) and (moved.amount, moved.reason) == (D("50.12"), "DEPOSIT")
    _, notice, _ = changed("FUNDING_FEE", B=[WALLET], P=[HELD])
    assert isinstance(notice, FundingNotice) and notice.symbol == "BTCUSDT"
    notice, wallet = changed("FUNDING_FEE", B=[WALLET])
    assert isinstance(notice, FundingNotice) and notice.symbol == "" and isinstance(wallet, WalletChanged)
    assert [type(event) for event in changed("ORDER", B=[WALLET])] == [WalletChanged]


def test_hedge_mode_unknown_events_and_bad_numbers_are_violations() -> None:
    with pytest.raises(ProtocolViolation, match="LONG"):
        changed("ORDER", P=[HELD | {"ps": "LONG"}])
    with pytest.raises(ProtocolViolation, match="SHORT"):
        reported(ps="SHORT")
    for changes in ({"z": "NaN"}, {"X": "SOMETHING"}, {"i": "x"}):
        with pytest.raises(ProtocolViolation):
            reported(**changes)
    with pytest.raises(ProtocolViolation, match="somethingNew"):
        pushed({"e": "somethingNew"})
    assert pushed({"e": "TRADE_LITE", "s": "BTCUSDT"}) == pushed({"e": "MARGIN_CALL"}) == []


def test_an_unreadable_position_of_ours_is_kept_as_missing_and_one_of_others_left_out() -> None:
    own = OwnRows(OddRows())
    body = {"e": "ACCOUNT_UPDATE", "a": {"m": "ORDER", "P": [HELD | {"pa": None}, HELD | {"s": "OTHER", "pa": "x"}]}}
    assert pushed(body, own) == [] and [row.name for row in own.unreadable] == ["BTCUSDT"]


@pytest.mark.parametrize(
    ("ws", "ws_private", "url"),
    [
        ("wss://fstream.binance.com", "", "wss://fstream.binance.com/private/ws"),
        ("wss://fstream.binance.com/public", "", "wss://fstream.binance.com/private/ws"),
        ("wss://fstream.binance.com/public/ws", "", "wss://fstream.binance.com/private/ws"),
        ("ws://127.0.0.1:1/usdm", "", "ws://127.0.0.1:1/usdm/private/ws"),
        ("wss://h", "wss://p/private", "wss://p/private/ws"),
        ("wss://h", "wss://p/ws", "wss://p/ws"),
    ],
)
def test_the_user_stream_lies_on_the_private_route(ws: str, ws_private: str, url: str) -> None:
    config = VenueConfig(
        name="x_futures", exchange="x", market="futures", dialect="binance", venue_id=0, feed_id=0, rest="", ws=ws,
        ws_private=ws_private, ws_api="", symbols=(),
    )  # fmt: skip
    assert private_url(config) == url


# --- account ---

RISK = {
    "symbol": "ADAUSDT", "positionSide": "BOTH", "positionAmt": "30", "entryPrice": "0.385",
    "breakEvenPrice": "0.385077", "markPrice": "0.41047590", "unRealizedProfit": "0.76427700", "liquidationPrice": "0",
    "isolatedMargin": "4.5", "notional": "12.31427700", "marginAsset": "USDT", "isolatedWallet": "3.7",
    "initialMargin": "0.61571385", "maintMargin": "0.08004280", "positionInitialMargin": "0.61571385",
    "openOrderInitialMargin": "0", "adl": 2, "bidNotional": "0", "askNotional": "0", "updateTime": 1720736417660,
}  # fmt: skip


def test_a_position_row_carries_its_margin_and_the_rate_that_its_amounts_make() -> None:
    (position,) = account.parse_positions("v", json.dumps([RISK]).encode(), 1)
    assert (position.margin, position.liquidation_price, position.maintenance_margin) == (D("3.7"), 0, D("0.08004280"))
    assert position.maintenance_rate == D("0.08004280") / D("12.31427700")
    (short,) = account.parse_positions(
        "v", json.dumps([RISK | {"positionAmt": "-30", "notional": "-12.3"}]).encode(), 1
    )
    assert short.qty == -30 and short.maintenance_rate > 0
    with pytest.raises(AccountSettingsWrong, match=r"LONG, wanted one-way; fix: POST .*dualSidePosition=false"):
        account.parse_positions("v", json.dumps([RISK | {"positionSide": "LONG"}]).encode(), 1)


def test_profit_that_backs_margin_leaves_the_total_of_the_wallet_whole() -> None:
    body = b'[{"asset":"USDT","balance":"100","availableBalance":"130"}]'
    (balance,) = account.parse_balances("v", "futures", body, 1)
    assert (balance.free, balance.free + balance.locked) == (130, 100)


def test_fees_in_bnb_are_told() -> None:
    assert account.parse_fee_switch("v", "futures", b'{"feeBurn":true}').coin == "BNB"
    assert account.parse_fee_switch("v", "futures", b'{"feeBurn":false}').coin == ""


def test_modes_that_mean_other_sums_are_refused_with_the_call_that_mends_them() -> None:
    good = {"feeTier": 0, "canTrade": True, "dualSidePosition": False, "multiAssetsMargin": False, "tradeGroupId": -1}

    def check(**changes: bool) -> None:
        account_settings.check_modes("v", account_settings.parse_modes("v", json.dumps(good | changes).encode()))

    check()
    with pytest.raises(AccountSettingsWrong, match="fix: POST /fapi/v1/positionSide/dual"):
        check(dualSidePosition=True)
    with pytest.raises(AccountSettingsWrong, match="fix: POST /fapi/v1/multiAssetsMargin"):
        check(multiAssetsMargin=True)


def test_contracts_that_stand_otherwise_are_to_be_set() -> None:
    rows = [
        {"symbol": "A", "marginType": "ISOLATED", "isAutoAddMargin": False, "leverage": 3, "maxNotionalValue": "1"},
        {"symbol": "B", "marginType": "CROSSED", "leverage": 3},
        {"symbol": "C", "marginType": "ISOLATED", "leverage": 21},
    ]
    known = account_settings.parse_settings("v", json.dumps(rows).encode())
    assert known["C"] == ContractSettings(D(21), True)
    assert account_settings.to_set(["A", "B", "C", "D"], known, D(3)) == [
        ("B", True, False), ("C", False, True), ("D", True, True),
    ]  # fmt: skip


# --- instruments ---

BRACKETS = (
    b'[{"symbol":"ETHUSDT","notionalCoef":1.5,"brackets":[{"bracket":2,"initialLeverage":50,"notionalCap":50000,'
    b'"notionalFloor":10000,"maintMarginRatio":0.01,"cum":35.0},{"bracket":1,"initialLeverage":75,"notionalCap":10000,'
    b'"notionalFloor":0,"maintMarginRatio":0.0065,"cum":0.0}]}]'
)


def test_leverage_brackets_are_tiers_that_rise_without_a_fee_and_end_nowhere() -> None:
    tiers = symbols.parse_risk_tiers("v", "ETHUSDT", BRACKETS)
    assert tiers == (Tier(D(10_000), D("0.0065"), D(0), False), Tier(D("Infinity"), D("0.01"), D(35), False))
    assert symbols.parse_risk_tiers("v", "ETHUSDT", BRACKETS[1:-1]) == tiers, "one row, where a contract was named"
    assert symbols.parse_risk_tiers("v", "BTCUSDT", BRACKETS) == ()
    assert maintenance_rate(D(1), D(20_000), tiers, D("0.0005")) == D("0.01") - D(35) / 20_000


@pytest.mark.parametrize(("side", "price"), [(-1, "79681.27"), (1, "40160.64")])
def test_liquidation_price_of_the_worked_case(side: int, price: str) -> None:
    """0.5 coins entered at 60,000, margin 10,000, maintenance 0.4 % without a fee."""
    tiers = (Tier(D("Infinity"), D("0.004"), D(0), keeps_fee=False),)
    found = liquidation_price(side, D("0.5"), D(60_000), D(10_000), tiers, D("0.0005"))
    assert found is not None and round(found, 2) == D(price)


def test_funding_intervals_are_told_of_adjusted_contracts_only() -> None:
    body = (
        b'[{"symbol":"BLZUSDT","adjustedFundingRateCap":"0.025","adjustedFundingRateFloor":"-0.025",'
        b'"fundingIntervalHours":4,"disclaimer":false}]'
    )
    assert symbols.parse_funding_intervals("v", body) == {"BLZUSDT": 14_400}


# --- lists ---

INCOMES = [
    {
        "symbol": "", "incomeType": "TRANSFER", "income": "-0.37500000", "asset": "USDT", "info": "TRANSFER",
        "time": 1570608000000, "tranId": 9689322392, "tradeId": "",
    },
    {
        "symbol": "BTCUSDT", "incomeType": "FUNDING_FEE", "income": "-0.01000000", "asset": "USDT",
        "info": "FUNDING_FEE", "time": 1570636800000, "tranId": 9689322392, "tradeId": "",
    },
    {
        "symbol": "BTCUSDT", "incomeType": "COMMISSION", "income": "-0.01", "asset": "USDT", "info": "COMMISSION",
        "time": 1570636800000, "tranId": 9689322394, "tradeId": "2059192",
    },
    {
        "symbol": "BTCUSDT", "incomeType": "INSURANCE_CLEAR", "income": "-1.5", "asset": "USDT", "info": "x",
        "time": 1570636900000, "tranId": 9689322395, "tradeId": "",
    },
]  # fmt: skip


def test_income_is_money_moves_and_funding_each_by_type_and_id() -> None:
    found, count = histories.parse_incomes("v", json.dumps(INCOMES).encode())
    moved, funding, of_order, cleared = [row for _, row in found]
    assert count == 4 and of_order is None
    assert isinstance(moved, MoneyMove) and isinstance(funding, Funding) and isinstance(cleared, MoneyMove)
    assert (moved.amount, moved.reason, moved.witness) == (D("-0.375"), "transfer", "income TRANSFER:9689322392")
    assert (funding.symbol, funding.amount, funding.event_id) == ("BTCUSDT", D("-0.01"), "FUNDING_FEE:9689322392")
    assert (cleared.reason, cleared.venue_wall_ms) == ("insurance_clear", 1570636900000)


def test_an_unreadable_income_is_missed_unless_an_order_caused_it() -> None:
    odd = OddRows()
    lost = json.dumps([INCOMES[2] | {"time": None}, INCOMES[0]]).encode()
    found, count = histories.parse_incomes("v", lost, odd)
    assert (len(found), count, odd.count) == (1, 2, 1)
    own = OwnRows(OddRows())
    histories.parse_incomes("v", json.dumps([INCOMES[1] | {"income": "NaN"}]).encode(), own)
    assert [row.name for row in own.unreadable] == ["USDT"]


def test_forced_orders_are_closes_with_their_cause() -> None:
    row = {
        "orderId": 6071832819, "symbol": "BTCUSDT", "status": "FILLED",
        "clientOrderId": "autoclose-1596107620040000020", "price": "10871.09", "avgPrice": "10913.21000",
        "origQty": "0.001", "executedQty": "0.001", "cumQuote": "10.91321", "timeInForce": "IOC", "type": "LIMIT",
        "side": "SELL", "positionSide": "BOTH", "time": 1596107620044, "updateTime": 1596107620087,
    }  # fmt: skip
    (close,) = histories.parse_forced("v", json.dumps([row]).encode(), "LIQUIDATION", ("BTCUSDT",))
    assert (close.cause, close.price, close.witness) == ("liquidation", D("10913.21"), "forceOrders 6071832819")
    (other,) = histories.parse_forced("v", json.dumps([row]).encode(), "ADL")
    assert other.cause == "adl"
