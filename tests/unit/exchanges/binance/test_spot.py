"""Binance spot's order and account codecs: frames of its documents, signatures, refusals of the WebSocket API."""

from __future__ import annotations

import base64
import json
from decimal import Decimal

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from pipeline.exchanges.binance import account, histories, orders
from pipeline.exchanges.binance import websocket_api as wsapi
from pipeline.exchanges.binance.signing import BinanceSigner
from pipeline.exchanges.factory import make_trading
from pipeline.exchanges.transport.refusals import DUPLICATE
from pipeline.model.config import VenueConfig
from pipeline.model.enums import OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.errors import (
    ClockRefused,
    ConfigInvalid,
    GatewayRefused,
    InstrumentRefused,
    InsufficientBalance,
    OrderNotFound,
    OutcomeUnknown,
    ProtocolViolation,
    RateLimited,
    TradingDisabled,
    VenueRejected,
)
from pipeline.model.structs import Balance, Credentials, Fill, OrderRequest, OrderUpdate
from pipeline.model.venue_events import MoneyNotice
from pipeline.sim.wire.binance.auth import ws_params, ws_text

SIGNER = BinanceSigner("testkey0001", "testsecret0001")


def request(**changes: object) -> OrderRequest:
    fields: dict[str, object] = {
        "client_id": "ab1", "venue": "v", "symbol": "BTCUSDT", "side": OrderSide.BUY, "kind": OrderKind.LIMIT,
        "tif": TimeInForce.IOC, "qty": Decimal("0.001"), "price": Decimal("65000.50"),
    }  # fmt: skip
    return OrderRequest(**(fields | changes))  # type: ignore[arg-type]


def pem(key: object) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()  # type: ignore[attr-defined]


def test_vector_of_the_websocket_api() -> None:
    text = wsapi.signed_text(b'"apiKey":"testkey0001","timestamp":1700000000000')
    assert text == b"apiKey=testkey0001&timestamp=1700000000000"
    assert SIGNER.sign(text) == "525d45d04f7b3dc658cb5126b3ba6f16509cdba7d91640f22cffa32296e51df1"


def test_an_order_is_one_signed_frame_with_its_parameters_by_name() -> None:
    params = [*orders.place_params(request()), ("apiKey", "k"), ("recvWindow", 5000), ("timestamp", 1700000000000)]
    frame = wsapi.call_frame(SIGNER, "order.place", "p-ab1", params)
    inside = (
        b'"apiKey":"k","newClientOrderId":"ab1","newOrderRespType":"RESULT","price":"65000.5","quantity":"0.001",'
        b'"recvWindow":5000,"side":"BUY","symbol":"BTCUSDT","timeInForce":"IOC","timestamp":1700000000000,"type":"LIMIT"'
    )
    signature = SIGNER.sign(wsapi.signed_text(inside)).encode()
    assert frame == b'{"id":"p-ab1","method":"order.place","params":{%b,"signature":"%b"}}' % (inside, signature)


NAMES = st.text("abcdefghijklmnopqrstuvwxyzABC", min_size=1, max_size=8)
VALUES = st.one_of(st.integers(0, 10**15), st.text("abcXYZ019._-", min_size=1, max_size=20).filter(str.isascii))


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_frame_and_signature_agree_as_the_simulated_venue_reads_them(params: dict[str, str | int]) -> None:
    params = {name: value for name, value in params.items() if name != "signature"} | {"timestamp": 1}
    plain = [(name, value) for name, value in params.items() if isinstance(value, int) or value.strip("._-")]
    body = json.loads(wsapi.call_frame(SIGNER, "m", "1", plain))["params"]
    text, signature = ws_text(ws_params(body))
    assert SIGNER.sign(text.encode()) == signature
    assert {name: value for name, value in body.items() if name != "signature"} == dict(plain)


@pytest.mark.parametrize("value", ['a"b', "a&b", "a=b", "", "é", "a b"])
def test_text_that_json_or_a_query_would_write_otherwise_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="symbol"):
        wsapi.call_frame(SIGNER, "m", "1", [("symbol", value)])


def test_ed25519_key_signs_in_base64_and_another_key_is_refused_without_its_text() -> None:
    key = Ed25519PrivateKey.generate()
    signer = BinanceSigner("k", pem(key))
    signature = signer.sign(b"payload")
    assert len(signature) == signer.signature_bytes == 88
    key.public_key().verify(base64.b64decode(signature), b"payload")
    query = signer.signed_query("a=1", timestamp_ms=1)
    assert "signature=" in query and not set("+/") & set(query.rpartition("signature=")[2])
    with pytest.raises(ConfigInvalid, match="wanted an Ed25519 key"):
        BinanceSigner("k", pem(generate_private_key(65537, 2048)))
    with pytest.raises(ConfigInvalid) as caught:
        BinanceSigner("k", "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----")
    assert "canary" not in str(caught.value)


def test_kinds_and_times_of_orders() -> None:
    def of(**changes: object) -> dict[str, str | int]:
        return dict(orders.place_params(request(**changes)))

    assert of(tif=TimeInForce.FOK)["timeInForce"] == "FOK"
    maker = of(tif=TimeInForce.POST_ONLY)
    assert maker["type"] == "LIMIT_MAKER" and "timeInForce" not in maker
    market = of(kind=OrderKind.MARKET)
    assert market["type"] == "MARKET" and "price" not in market
    with pytest.raises(ValueError, match="reduce-only"):
        of(reduce_only=True)


@pytest.mark.parametrize(
    ("status", "code", "msg", "expected"),
    [
        (400, -2010, "Account has insufficient balance for requested action.", InsufficientBalance),
        (400, -2010, "Market is closed.", TradingDisabled),
        (400, -2010, "Order would immediately match and take.", VenueRejected),
        (400, -2010, "Duplicate order sent.", OutcomeUnknown),
        (400, -2011, "Unknown order sent.", OrderNotFound),
        (400, -1013, "Filter failure: NOTIONAL", InstrumentRefused),
        (400, -1021, "Timestamp for this request is outside of the recvWindow.", ClockRefused),
        (429, -1015, "Too many new orders", RateLimited),
        (400, -987654, "a code that nobody listed", OutcomeUnknown),
        (400, -1006, "execution status unknown", OutcomeUnknown),
        (500, -2010, "Market is closed.", OutcomeUnknown),
        (403, None, "", GatewayRefused),
    ],
)  # fmt: skip
def test_refusals_of_the_websocket_api(status: int, code: int | None, msg: str, expected: type) -> None:
    error = {"msg": msg} | ({"code": code} if code is not None else {})
    frame = wsapi.parse_frame("v", json.dumps({"id": "p-a", "status": status, "error": error}).encode())
    found = wsapi.reply_error("v", frame)
    assert type(found) is expected
    if msg.startswith("Duplicate"):
        assert isinstance(found, OutcomeUnknown) and found.api_code == DUPLICATE


def test_a_ban_is_as_long_as_it_says_and_order_counts_tell_what_is_left() -> None:
    body = {
        "id": "p-a",
        "status": 418,
        "error": {"code": -1003, "msg": "x", "data": {"serverTime": 1, "retryAfter": 90_001}},
    }
    error = wsapi.reply_error("v", wsapi.parse_frame("v", json.dumps(body).encode()))
    assert isinstance(error, RateLimited) and error.retry_after_s == 90.0
    rows = [{"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 50, "count": 12}]
    frame = wsapi.parse_frame("v", json.dumps({"id": "p-a", "status": 200, "result": {}, "rateLimits": rows}).encode())
    assert wsapi.reply_error("v", frame) is None and wsapi.orders_left(frame) == 38


REPORT = {
    "e": "executionReport", "E": 1499405658658, "s": "ETHBTC", "c": "ab1", "S": "BUY", "o": "LIMIT", "f": "GTC",
    "q": "1.00000000", "p": "0.10264410", "P": "0.00000000", "F": "0.00000000", "g": -1, "C": "", "x": "NEW",
    "X": "NEW", "r": "NONE", "i": 4293153, "l": "0.00000000", "z": "0.00000000", "L": "0.00000000", "n": "0",
    "N": None, "T": 1499405658657, "t": -1, "I": 8641984, "w": True, "m": False, "M": False, "O": 1499405658657,
    "Z": "0.00000000", "Y": "0.00000000", "Q": "0.00000000",
}  # fmt: skip


def events(**changes: object) -> list[account.PrivateEvent]:
    return list(account.parse_event("v", json.dumps(REPORT | changes).encode(), 7))


def test_reports_are_orders_and_trades_are_fills_before_them() -> None:
    (opened,) = events()
    assert isinstance(opened, OrderUpdate) and (opened.state, opened.client_id) == (OrderState.OPEN, "ab1")
    fill, after = events(x="TRADE", X="FILLED", l="1", z="1", L="0.1", Z="0.1", n="0.001", N="ETH", t=5, m=True)
    assert isinstance(fill, Fill) and isinstance(after, OrderUpdate)
    assert (fill.trade_id, fill.qty, fill.price, fill.fee, fill.fee_asset, fill.is_maker) == (
        "5", 1, Decimal("0.1"), Decimal("0.001"), "ETH", True,
    )  # fmt: skip
    assert (after.state, after.filled_qty, after.average_price) == (OrderState.FILLED, 1, Decimal("0.1"))


@pytest.mark.parametrize(("x", "status"), [("EXPIRED", "EXPIRED"), ("TRADE_PREVENTION", "EXPIRED_IN_MATCH")])
def test_ends_without_a_cancel(x: str, status: str) -> None:
    (update,) = events(x=x, X=status)
    assert isinstance(update, OrderUpdate) and update.state is OrderState.CANCELLED


def test_a_cancels_report_names_the_order_not_the_cancel() -> None:
    (update,) = events(x="CANCELED", X="CANCELED", c="web1", C="ab1")
    assert isinstance(update, OrderUpdate) and update.client_id == "ab1"


def test_unknown_states_and_events_are_violations() -> None:
    for changes in ({"X": "SOMETHING"}, {"e": "somethingNew"}, {"z": "NaN"}):
        with pytest.raises(ProtocolViolation):
            events(**changes)
    assert events(e="listStatus") == []


def test_balances_and_money_that_moved_without_an_order() -> None:
    body = b'{"e":"outboundAccountPosition","E":1,"u":1,"B":[{"a":"ETH","f":"10.5","l":"0.5"}]}'
    (balance,) = account.parse_event("v", body, 7)
    assert isinstance(balance, Balance) and (balance.asset, balance.free, balance.locked) == (
        "ETH",
        Decimal("10.5"),
        Decimal("0.5"),
    )
    (moved,) = account.parse_event("v", b'{"e":"balanceUpdate","E":1,"a":"BTC","d":"-100.0","T":1}', 7)
    assert isinstance(moved, MoneyNotice) and (moved.asset, moved.amount) == ("BTC", -100)
    assert account.parse_fee_switch("v", "spot", b'{"spotBNBBurn":true,"interestBNBBurn":false}').coin == "BNB"


def test_lists_of_money_moves() -> None:
    went = (
        b'[{"id":"w1","amount":"8.91","transactionFee":"0.004","coin":"USDT","status":6,'
        b'"applyTime":"2019-10-12 11:12:02"},'
        b'{"id":"w2","amount":"1","coin":"USDT","status":3,"applyTime":"2019-10-12 11:12:02"}]'
    )
    (row,) = histories.parse_withdrawals("v", went, ["BTCUSDT"])
    assert (row.amount, row.venue_wall_ms) == (Decimal("-8.914"), 1570878722000)
    came = (
        b'[{"id":"7","amount":"0.001","coin":"BTC","status":1,"insertTime":5},'
        b'{"id":"8","amount":"1","coin":"BTC","status":0,"insertTime":5}]'
    )
    assert [row.amount for row in histories.parse_deposits("v", came, ["BTCUSDT"])] == [Decimal("0.001")]
    one = b'{"asset":"USDT","amount":"1","type":"MAIN_UMFUTURE","status":"CONFIRMED","tranId":9,"timestamp":5}'
    page = b'{"total":1,"rows":[%b]}' % one
    (moved,) = histories.parse_transfers("v", histories.TO_FUTURES, page, ["BTCUSDT"])
    assert (moved.amount, moved.witness) == (-1, "transfers 9")


@pytest.mark.parametrize("market", ["futures", "spot"])
def test_what_cannot_be_traded_is_refused_with_words(market: str) -> None:
    config = VenueConfig(
        name=f"x_{market}", exchange="x", market=market, dialect="binance", venue_id=0, feed_id=0, rest="http://127.0.0.1:1",
        ws="ws://127.0.0.1:1", ws_private="", ws_api="", symbols=(),
    )  # fmt: skip
    with pytest.raises(ConfigInvalid, match="ws_api: missing"):
        make_trading(config, Credentials(api_key="k", api_secret="s"), lambda event: None)
