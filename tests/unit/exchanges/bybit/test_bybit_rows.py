"""Bybit with a key, without sockets: signatures, order bytes, rows of orders and fills, wallet, positions, log."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.bybit import account, account_settings, histories, orders, symbols
from pipeline.exchanges.bybit.errors import KIND_OF_CODE, UNCHANGED, error_of
from pipeline.exchanges.bybit.listing import parse_key_rights
from pipeline.exchanges.bybit.signing import BybitSigner
from pipeline.exchanges.bybit.websocket_api import CREATE, call_frame, parse_reply, reply_error
from pipeline.exchanges.parsing.rows import OddRows
from pipeline.model.enums import OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.errors import (
    AccountSettingsWrong,
    AuthRefused,
    ConfigInvalid,
    GatewayRefused,
    OutcomeUnknown,
    ProtocolViolation,
    RateLimited,
    VenueRejected,
)
from pipeline.model.structs import Balance, Fill, Funding, KeyRights, MoneyMove, OrderRequest, OrderUpdate, Position
from pipeline.model.venue_events import FundingNotice
from tests.worlds.later import ccxt

SIGNER = BybitSigner("testkey0001", "testsecret0001")
BODY = (
    '{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.001","price":"65000.1",'
    '"timeInForce":"IOC","positionIdx":0,"reduceOnly":false,"orderLinkId":"ab-1"}'
)
#: What else ccxt lists: answers of endpoints of other products and of older versions.
OTHER_PRODUCTS = (range(12_000, 14_000), range(20_000, 40_000), range(100_000, 110_000), range(130_000, 150_000))
OTHER_PRODUCTS += (range(175_000, 200_000), range(340_000, 350_000), range(3_000_000, 4_000_000))


def request(**changes: object) -> OrderRequest:
    fields: dict[str, Any] = {"client_id": "ab-1", "venue": "b", "symbol": "BTCUSDT", "side": OrderSide.BUY}
    fields |= {"kind": OrderKind.LIMIT, "tif": TimeInForce.IOC, "qty": Decimal("0.001"), "price": Decimal("65000.1")}
    return OrderRequest(**(fields | changes))


def test_the_documents_signatures() -> None:
    """Vectors equal to what ccxt and pybit sign."""
    headers = SIGNER.rest_headers(BODY, 1700000000000)
    assert headers["X-BAPI-SIGN"] == "47e6b781a75f5c1c69f05f9c764d8c7dcd54fc1b3329caaf9a4e417ad1cf7616"
    assert (headers["X-BAPI-TIMESTAMP"], headers["X-BAPI-RECV-WINDOW"]) == ("1700000000000", "5000")
    query = SIGNER.rest_headers("category=spot&symbol=BTCUSDT&orderLinkId=ab-1", 1700000000000)
    assert query["X-BAPI-SIGN"] == "1992462cd9ad5e1fe46fa8cf57ec508b6c4ba3885aff900bee382303f361fb5c"
    wanted = "0c552dcf51b044d15587ad83374e1f63562c0c85be9f03879be3d8cd90a8df1f"
    assert SIGNER.login(1700000010000) == wanted
    frame = json.loads(SIGNER.login_frame(1700000000000, "login"))
    assert frame["args"] == ["testkey0001", 1700000010000, wanted] and frame["op"] == "auth"
    with pytest.raises(ConfigInvalid, match="HMAC"):
        BybitSigner("k", "-----BEGIN RSA PRIVATE KEY-----")


@pytest.mark.parametrize("code", sorted({110072, 10016, 10001, 170131} | set(KIND_OF_CODE)))
def test_a_code_means_the_same_over_rest_and_socket(code: int) -> None:
    reply = parse_reply("b", json.dumps({"reqId": "p-1", "retCode": code, "retMsg": "x", "op": CREATE}).encode())
    error = reply_error("b", reply, 1700000000000)
    kind = KIND_OF_CODE[code]
    wanted: type = OutcomeUnknown if kind in ("unknown", "duplicate") else VenueRejected
    assert isinstance(error, RateLimited if kind == "rate" else wanted)
    assert (error.api_code == "duplicate") is (kind == "duplicate")


def test_every_code_that_ccxt_lists_for_orders_has_a_meaning() -> None:
    listed = {int(code) for code in ccxt.bybit().exceptions["exact"] if code.isdigit() and int(code) > 9999}
    ours = {code for code in listed if not any(code in other for other in OTHER_PRODUCTS)}
    assert len(ours) > 150 and ours - set(KIND_OF_CODE) == set()
    assert {KIND_OF_CODE[int(code)] for code in UNCHANGED} == {"rejected"}


def test_the_silence_of_a_throttled_order_ends_with_its_second() -> None:
    head = {"reqId": "p-1", "retCode": 10006, "retMsg": "x", "op": CREATE}
    for reset_ms, wanted in (("1700000003500", 3.5), ("1700000000000", 1.0), ("", 1.0), ("1700009000000", 10.0)):
        reply = parse_reply("b", json.dumps(head | {"header": {"X-Bapi-Limit-Reset-Timestamp": reset_ms}}).encode())
        error = reply_error("b", reply, 1700000000000)
        assert isinstance(error, RateLimited) and error.retry_after_s == wanted


@pytest.mark.parametrize(
    ("status", "headers", "wanted"),
    [
        (200, {"x-bapi-limit-reset-timestamp": "1700000003500"}, 3.5),
        (200, {"x-bapi-limit-reset-timestamp": "soon"}, 10.0),
        (200, {}, 10.0),
        (403, {"x-bapi-limit-reset-timestamp": "1700000001000"}, 600.0),
    ],
)
def test_a_throttled_question_waits_until_its_window_ends(status: int, headers: dict[str, str], wanted: float) -> None:
    body = b'{"retCode":10006,"retMsg":"Too many visits!","time":1700000000000}'
    error = error_of("b", HttpReply(status=status, headers=headers, body=body, recv_mono_ns=1))
    assert isinstance(error, RateLimited) and error.retry_after_s == wanted
    assert error.of_address is (status == 403)


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize("code", [10018, 10403])
def test_too_many_requests_of_the_address_silence_all_of_it_for_ten_minutes(status: int, code: int) -> None:
    body = b'{"retCode":%d,"retMsg":"access too frequent","time":1}' % code
    error = error_of("b", HttpReply(status=status, headers={}, body=body, recv_mono_ns=1))
    assert isinstance(error, RateLimited) and error.retry_after_s == 600.0 and error.of_address
    pushed = {"reqId": "p-1", "retCode": code, "retMsg": "x", "op": CREATE, "header": {}}
    over_socket = reply_error("b", parse_reply("b", json.dumps(pushed).encode()), 1)
    assert isinstance(over_socket, RateLimited) and over_socket.of_address and over_socket.retry_after_s == 600.0


@pytest.mark.parametrize(
    "body", [b"", b"access too frequent", b'{"retCode":31,"time":1}', b"<p>Access too frequent</p>"]
)
def test_a_403_that_is_no_page_of_an_edge_silences_the_address_for_ten_minutes(body: bytes) -> None:
    error = error_of("b", HttpReply(status=403, headers={}, body=body, recv_mono_ns=1))
    assert isinstance(error, RateLimited) and error.retry_after_s == 600.0 and error.of_address


def test_an_edges_page_with_403_is_backed_off_from() -> None:
    error = error_of("b", HttpReply(status=403, headers={}, body=b"<html>Request blocked</html>", recv_mono_ns=1))
    assert isinstance(error, GatewayRefused) and error.retry_after_s < 60


def test_a_403_with_a_refused_key_is_a_refused_key() -> None:
    refused = HttpReply(status=403, headers={}, body=b'{"retCode":10003,"retMsg":"x","time":1}', recv_mono_ns=1)
    assert isinstance(error_of("b", refused), AuthRefused)


def test_an_order_is_the_documents_bytes() -> None:
    assert orders.place_body("linear", request()).decode() == BODY
    frame = call_frame(CREATE, "p-ab1", orders.place_body("linear", request()), 1700000000000, 250)
    assert json.loads(frame) == {
        "reqId": "p-ab1", "op": "order.create", "args": [json.loads(BODY)],
        "header": {"X-BAPI-TIMESTAMP": "1700000000000", "X-BAPI-RECV-WINDOW": "250"},
    }  # fmt: skip
    reduces = json.loads(orders.place_body("linear", request(reduce_only=True, tif=TimeInForce.POST_ONLY)))
    assert (reduces["reduceOnly"], reduces["timeInForce"]) == (True, "PostOnly")
    spot = json.loads(orders.place_body("spot", request(kind=OrderKind.MARKET, price=Decimal(0))))
    assert spot == {
        "category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Market", "qty": "0.001",
        "marketUnit": "baseCoin", "timeInForce": "IOC", "isLeverage": 0, "orderLinkId": "ab-1",
    }  # fmt: skip
    with pytest.raises(ValueError, match="reduce-only"):
        orders.place_body("spot", request(reduce_only=True))
    by_ours, by_theirs = (orders.cancel_body("spot", "A", "c1", order_id) for order_id in ("", "o1"))
    assert json.loads(by_ours)["orderLinkId"] == "c1" and json.loads(by_theirs)["orderId"] == "o1"


def test_an_answer_about_another_order_is_no_answer() -> None:
    taken = orders.parse_taken("b", "BTCUSDT", "a1", b'{"orderId":"o1","orderLinkId":"a1"}', 1, 2, "ws_api")
    assert (taken.state, taken.filled_qty, taken.order_id) == (OrderState.OPEN, None, "o1")
    for odd in (b'{"orderId":"o1","orderLinkId":"a2"}', b"{}", b"[]"):
        with pytest.raises(ProtocolViolation):
            orders.parse_taken("b", "BTCUSDT", "a1", odd, 1, 2, "ws_api")


def order(**changes: object) -> dict[str, Any]:
    row: dict[str, Any] = {"category": "linear", "symbol": "BTCUSDT", "orderId": "o1", "orderLinkId": "ab1"}
    row |= {"orderStatus": "Filled", "rejectReason": "EC_NoError", "cancelType": "UNKNOWN", "avgPrice": "65000.1"}
    return row | {"cumExecQty": "0.001", "updatedTime": "1700000000123", "positionIdx": 0} | changes


def updates(*rows: dict[str, Any], category: str = "linear") -> list[OrderUpdate]:
    return orders.parse_orders("b", category, json.dumps(rows).encode(), 7, "ws")


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({}, OrderState.FILLED, "Filled"),
        ({"orderStatus": "New", "cumExecQty": "0", "avgPrice": ""}, OrderState.OPEN, "New"),
        ({"orderStatus": "PartiallyFilled"}, OrderState.PARTIALLY_FILLED, "PartiallyFilled"),
        (
            {"orderStatus": "Cancelled", "rejectReason": "EC_NoImmediateQtyToFill"},
            OrderState.CANCELLED, "Cancelled EC_NoImmediateQtyToFill",
        ),
        (
            {"orderStatus": "PartiallyFilledCanceled", "cancelType": "CancelByUser"},
            OrderState.CANCELLED, "PartiallyFilledCanceled CancelByUser",
        ),
        (
            {"orderStatus": "Rejected", "rejectReason": "EC_PostOnlyWillTakeLiquidity", "cumExecQty": "0"},
            OrderState.REJECTED, "Rejected EC_PostOnlyWillTakeLiquidity",
        ),
        ({"orderStatus": "Rejected"}, OrderState.CANCELLED, "Rejected"),  # it has fills
        ({"createType": "CreateByLiq", "orderLinkId": ""}, OrderState.FILLED, "liquidation: Filled"),
    ],
)  # fmt: skip
def test_an_order_row_says_where_the_order_stands(changes: dict[str, Any], state: OrderState, reason: str) -> None:
    (found,) = updates(order(**changes))
    assert (found.state, found.reason, found.venue_wall_ms) == (state, reason, 1700000000123)
    assert found.filled_qty == Decimal(changes.get("cumExecQty", "0.001"))


def test_rows_of_others_are_left_out_and_ours_are_not() -> None:
    assert updates(order(category="spot")) == [], "the other market's"
    assert len(updates(order(), order(orderStatus="Odd", orderLinkId="web-1"))) == 1
    for odd in ({"orderStatus": "Odd"}, {"positionIdx": 1}, {"cumExecQty": "NaN"}):
        with pytest.raises(ProtocolViolation):
            updates(order(**odd))


def execution(**changes: object) -> dict[str, Any]:
    row: dict[str, Any] = {"category": "linear", "symbol": "BTCUSDT", "execId": "e1", "orderId": "o1"}
    row |= {"orderLinkId": "ab1", "side": "Sell", "execPrice": "65000.1", "execQty": "0.001", "execFee": "0.0357"}
    return row | {"feeCurrency": "", "isMaker": False, "execType": "Trade", "execTime": "1700000000123"} | changes


def fills(category: str, *rows: dict[str, Any]) -> list[Fill | None]:
    found = orders.parse_executions("b", category, json.dumps(rows).encode(), 7, "ws")
    return [fill for _, fill in found]


def test_a_fill_names_its_fee_and_a_fee_of_no_coin_is_not_guessed() -> None:
    (fill,) = fills("linear", execution())
    assert fill is not None and (fill.fee, fill.fee_asset, fill.side) == (Decimal("0.0357"), "USDT", OrderSide.SELL)
    (rebate,) = fills("spot", execution(category="spot", execFee="-0.01", feeCurrency="MNT", isMaker=True))
    assert rebate is not None and (rebate.fee, rebate.fee_asset, rebate.is_maker) == (Decimal("-0.01"), "MNT", True)
    assert fills("linear", execution(execType="Funding", orderLinkId="")) == [None]
    for odd in (execution(category="spot"), execution(category="spot", feeCurrency="BTC", execType="Odd")):
        with pytest.raises(ProtocolViolation):
            fills("spot", odd)


WALLET = {
    "coin": "USDT", "walletBalance": "100", "locked": "1", "totalOrderIM": "5", "totalPositionIM": "20", "bonus": "2",
    "free": "", "availableToWithdraw": "",
}  # fmt: skip


def wallet(**changes: object) -> bytes:
    return json.dumps({"list": [{"accountType": "UNIFIED", "totalEquity": "", "coin": [WALLET | changes]}]}).encode()


def test_what_can_be_used_is_the_wallet_less_all_that_is_bound() -> None:
    (found,) = account.parse_balances("b", wallet(), 7, symbols=("BTCUSDT",))
    assert (found.asset, found.free, found.locked) == ("USDT", Decimal(72), Decimal(28))
    with pytest.raises(ProtocolViolation):
        account.parse_balances("b", wallet(locked="many"), 7, symbols=("BTCUSDT",))
    assert account.parse_balances("b", wallet(coin="XYZ", locked="many"), 7, symbols=("BTCUSDT",), odd=OddRows()) == []


def test_a_wallet_that_another_market_trades_on_is_refused() -> None:
    with pytest.raises(AccountSettingsWrong, match=r"totalPositionIM 20 of USDT.*sub-account"):
        account.check_own_wallet("b", "spot", wallet())
    with pytest.raises(AccountSettingsWrong, match="locked 1 of USDT"):
        account.check_own_wallet("b", "linear", wallet())
    account.check_own_wallet("b", "spot", wallet(totalPositionIM="0"))
    account.check_own_wallet("b", "linear", wallet(locked="", totalPositionIM="7"))


def position(**changes: object) -> dict[str, Any]:
    row: dict[str, Any] = {"category": "linear", "symbol": "BTCUSDT", "side": "Sell", "size": "0.5", "positionIdx": 0}
    row |= {"avgPrice": "60000", "markPrice": "60010", "liqPrice": "", "leverage": "10", "positionBalance": "3000"}
    return row | {"positionMM": "150.025", "unrealisedPnl": "-5"} | changes


def test_positions_are_signed_and_hedge_mode_is_none_of_ours() -> None:
    ((row, held),) = account.parse_positions("b", json.dumps([position()]).encode(), 7, symbols=("BTCUSDT",))
    assert (held.qty, held.entry_price, held.margin) == (Decimal("-0.5"), Decimal(60000), Decimal(3000))
    assert held.maintenance_rate == Decimal("0.005") and held.liquidation_price == 0 and bytes(row.leverage) == b'"10"'
    with pytest.raises(AccountSettingsWrong, match="switch-mode"):
        account.parse_positions("b", json.dumps([position(positionIdx=2)]).encode(), 7, symbols=("BTCUSDT",))
    with pytest.raises(ProtocolViolation):
        account.parse_positions("b", json.dumps([position(side="")]).encode(), 7, symbols=("BTCUSDT",))


def pushed(topic: str, *rows: object) -> list[Any]:
    frame = account.parse_frame("b", json.dumps({"id": "m", "topic": topic, "creationTime": 1, "data": rows}).encode())
    return list(account.parse_push("b", "linear", frame, 7, symbols=("BTCUSDT",)))


def test_pushes_are_the_rows_of_rest_and_others_are_a_violation() -> None:
    (update,) = pushed("order.linear", order())
    fill, paid = pushed("execution.linear", execution(), execution(execType="Funding", orderLinkId=""))
    (held,) = pushed("position.linear", position(avgPrice="", entryPrice="60000"))
    (cash,) = pushed("wallet", {"accountType": "UNIFIED", "coin": [WALLET]})
    assert isinstance(update, OrderUpdate) and isinstance(fill, Fill) and isinstance(paid, FundingNotice)
    assert isinstance(held, Position) and held.entry_price == 60000
    assert isinstance(cash, Balance) and (cash.free, cash.source) == (Decimal(72), "ws")
    with pytest.raises(ProtocolViolation, match="hedge"):
        pushed("position.linear", position(positionIdx=1))
    with pytest.raises(ProtocolViolation, match="unknown topic"):
        pushed("greeks", {})


def test_the_log_tells_funding_and_money_that_no_order_moved() -> None:
    head: dict[str, Any] = {"id": "1", "currency": "USDT", "transactionTime": "1700000000123", "change": "-0.003"}
    rows = [
        head | {"type": "SETTLEMENT", "symbol": "BTCUSDT", "funding": "-0.003"},
        head | {"id": "2", "type": "TRADE"},
        head | {"id": "3", "type": "TRANSFER_IN", "change": "250"},
        head | {"id": "4", "type": "TRADE", "change": "odd", "transactionTime": None},  # an order's: left out
    ]
    found = histories.parse_log("b", json.dumps(rows).encode(), ("BTCUSDT",), OddRows())
    paid, came = found
    assert isinstance(paid, Funding) and (paid.symbol, paid.amount, paid.event_id) == (
        "BTCUSDT",
        Decimal("-0.003"),
        "1",
    )
    assert isinstance(came, MoneyMove) and (came.reason, came.amount) == ("transfer_in", Decimal(250))
    with pytest.raises(ProtocolViolation):
        histories.parse_log("b", json.dumps([head | {"type": "TRANSFER_IN", "change": "NaN"}]).encode(), ("BTCUSDT",))


def test_what_the_venue_closed_itself_is_known_by_its_kind() -> None:
    kinds = ("Trade", "BustTrade", "AdlTrade")
    rows = orders.parse_executions(
        "b", "linear", json.dumps([execution(execType=kind, orderId=kind) for kind in kinds]).encode(), 7, "rest"
    )
    found = histories.forced_closes("b", (row for row, _ in rows))
    assert [(row.order_id, row.cause) for row in found] == [("BustTrade", "liquidation"), ("AdlTrade", "adl")]


def test_modes_that_mean_other_sums_are_refused_with_what_mends_them() -> None:
    info = account_settings.parse_info("b", b'{"marginMode":"ISOLATED_MARGIN","unifiedMarginStatus":5}')
    account_settings.check_unified("b", info)
    with pytest.raises(AccountSettingsWrong, match="upgrade"):
        account_settings.check_unified("b", msgspec.structs.replace(info, unifiedMarginStatus=1))
    known = {"A": Decimal(10), "B": Decimal(3)}
    assert account_settings.to_set(("A", "B", "C"), known, Decimal(3)) == ["A"]


def test_fees_coins_tiers_and_rights_are_read() -> None:
    fees = symbols.parse_fees(
        "b", b'[{"symbol":"BTCUSDT","takerFeeRate":"0.00055","makerFeeRate":"-0.0001"}]', OddRows()
    )
    assert (fees["BTCUSDT"].taker_ppm, fees["BTCUSDT"].maker_ppm) == (550, -100)
    chain = {"chain": "ETH", "contractAddress": "0xAB", "chainDeposit": "1", "chainWithdraw": "1", "withdrawFee": "0.1"}
    shut = chain | {"chain": "TRX", "contractAddress": "", "withdrawFee": "", "confirmation": "20"}
    (coin,) = symbols.parse_coins(
        "b", json.dumps({"rows": [{"coin": "ABC", "chains": [chain, shut]}]}).encode(), OddRows()
    )
    identity, (open_, closed) = symbols.identity_of(coin), symbols.networks_of("b", coin)
    assert ("eth", "0xab") in identity.networks and identity.withdraw_enabled
    assert (open_.withdraw, open_.fee, closed.withdraw, closed.fee) == (True, Decimal("0.1"), False, None)
    limits = [{"symbol": "A", "riskLimitValue": "200", "maintenanceMargin": "0.01", "mmDeduction": "1"}]
    limits.append({"symbol": "A", "riskLimitValue": "100", "maintenanceMargin": "0.005", "mmDeduction": ""})
    low, high = symbols.parse_risk_tiers("b", "A", json.dumps(limits).encode())
    assert (low.cap, low.rate, high.rate, high.deduction) == (100, Decimal("0.005"), Decimal("0.01"), 1)
    assert high.cap.is_infinite()
    key: dict[str, Any] = {"readOnly": 0, "permissions": {"Spot": ["SpotTrade"], "Wallet": ["Withdraw"]}, "ips": ["*"]}
    assert parse_key_rights("b", json.dumps(key).encode()) == KeyRights(trade=True, withdraw=True, ip_bound=False)
    assert parse_key_rights("b", b"{}") == KeyRights()
