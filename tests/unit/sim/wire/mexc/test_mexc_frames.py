"""MEXC golden frames, refusal texts, budgets and listen keys, decoded by ccxt's own protobuf where it can."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.accounts import ApiKey, SimAccount
from pipeline.sim.exchange.events import BalanceEvent, OrderEvent, TradeEvent
from pipeline.sim.exchange.orders import OrderStatus, RejectReason, SimOrder, SimReject, SimTrade
from pipeline.sim.wire.mexc import formats
from pipeline.sim.wire.mexc import private_pushes as private
from pipeline.sim.wire.mexc import push_frames as frames
from pipeline.sim.wire.mexc import streams as stream
from pipeline.sim.wire.mexc.listen_keys import LIFE_MS, ListenKeys
from pipeline.sim.wire.rate_limits import Budget, WindowLimiter, retry_after_s
from tests.worlds.later import mexc_push

TICKER_FRAME = (
    "0a3473706f74407075626c69632e61676772652e626f6f6b5469636b65722e76332e6170692e7062403130306d7340425443555344541a07"
    "4254435553445430a7d3d2f18b34da133e0a0838303533352e38381208302e3338303439371a0838303533352e3839220a302e33333333"
    "363335362a0b3831373231363736323137308ed3d2f18b34"
)
DEPTH_FRAME = (
    "0a2f73706f74407075626c69632e61676772652e64657074682e76332e6170692e7062403130306d7340425443555344541a074254435553"
    "445430fbd095ffbc31ca13560a0d0a0836353030302e353112013012100a0836353030302e35301204302e32351a2773706f74407075626c"
    "69632e61676772652e64657074682e76332e6170692e7062403130306d732204313030312a0431303033"
)


def decode(frame: bytes) -> object:
    return mexc_push.PushDataV3ApiWrapper.FromString(frame)


def test_book_ticker_frame_is_the_recorded_one_byte_for_byte() -> None:
    body = frames.aggre_book_ticker(
        (b"80535.88", b"0.380497"), (b"80535.89", b"0.33336356"), 81721676217, 1789897517454
    )
    channel = b"spot@public.aggre.bookTicker.v3.api.pb@100ms@BTCUSDT"
    frame = frames.wrap(channel, b"BTCUSDT", frames.AGGRE_BOOK_TICKER, body, send_ms=1789897517479)
    assert frame.hex() == TICKER_FRAME


def test_depth_frame_is_the_sheets_one_byte_for_byte() -> None:
    event_type = b"spot@public.aggre.depth.v3.api.pb@100ms"
    body = frames.aggre_depths([(b"65000.51", b"0")], [(b"65000.50", b"0.25")], event_type, 1001, 1003)
    frame = frames.wrap(event_type + b"@BTCUSDT", b"BTCUSDT", frames.AGGRE_DEPTHS, body, send_ms=1700000000123)
    assert frame.hex() == DEPTH_FRAME


PRICES = st.decimals(min_value=0, max_value=10**9, places=6).map(lambda value: str(value).encode())
LEVELS = st.lists(st.tuples(PRICES, PRICES), max_size=80)


@given(asks=LEVELS, bids=LEVELS, first=st.integers(1, 2**62), send_ms=st.integers(0, 2**45))
def test_depth_frames_decode_to_what_went_in(
    asks: list[tuple[bytes, bytes]], bids: list[tuple[bytes, bytes]], first: int, send_ms: int
) -> None:
    body = frames.aggre_depths(asks, bids, b"spot@public.aggre.depth.v3.api.pb@10ms", first, first + 7)
    message = decode(frames.wrap(b"c" * 200, b"BTCUSDT", frames.AGGRE_DEPTHS, body, send_ms=send_ms))
    depths = message.publicAggreDepths  # type: ignore[attr-defined]
    assert [(row.price.encode(), row.quantity.encode()) for row in depths.asks] == asks
    assert [(row.price.encode(), row.quantity.encode()) for row in depths.bids] == bids
    assert (depths.fromVersion, depths.toVersion) == (str(first), str(first + 7))
    assert message.sendTime == send_ms  # type: ignore[attr-defined]


def order(**changes: object) -> SimOrder:
    fields: dict[str, object] = {
        "order_id": 505979017439002624,
        "client_id": "ab_1",
        "symbol": "MXUSDT",
        "side": OrderSide.SELL,
        "kind": OrderKind.LIMIT,
        "tif": TimeInForce.GTC,
        "price": Decimal("3.5121"),
        "qty": Decimal(1),
        "created_ms": 1736417034280,
        "updated_ms": 1736417034281,
    }
    return SimOrder(**(fields | changes))  # type: ignore[arg-type]


def test_private_order_frame_carries_status_type_and_remainders() -> None:
    partly = order(
        status=OrderStatus.CANCELED,
        finish_as="cancelled",
        tif=TimeInForce.IOC,
        filled_qty=Decimal("0.4"),
        filled_quote=Decimal("1.40484"),
        last_fill_qty=Decimal("0.4"),
    )
    encoded = private.encode(OrderEvent(partly, "finish", 1736417034290))
    assert encoded is not None and encoded[0] == "spot@private.orders.v3.api.pb"
    message = decode(encoded[1])
    body = message.privateOrders  # type: ignore[attr-defined]
    assert (body.id, body.clientId, body.price, body.quantity) == ("C02__505979017439002624", "ab_1", "3.5121", "1")
    assert (body.orderType, body.tradeType, body.status) == (3, 2, 5)
    assert (body.cumulativeQuantity, body.remainQuantity, body.cumulativeAmount) == ("0.4", "0.6", "1.40484")
    assert (body.avgPrice, body.lastDealQuantity, body.createTime) == ("3.5121", "0.4", 1736417034280)


def test_private_deal_frame_carries_fee_and_ids() -> None:
    trade = SimTrade(
        trade_id=77,
        order_id=5,
        client_id="ab_2",
        symbol="MXUSDT",
        side=OrderSide.BUY,
        price=Decimal("3.6962"),
        qty=Decimal(1),
        quote=Decimal("3.6962"),
        fee=Decimal("0.0003998377369698171"),
        fee_asset="MX",
        is_maker=False,
        ts_ms=1736417034280,
    )
    encoded = private.encode(TradeEvent(trade, order(), 1736417034290))
    assert encoded is not None and encoded[0] == "spot@private.deals.v3.api.pb"
    body = decode(encoded[1]).privateDeals  # type: ignore[attr-defined]
    assert (body.price, body.quantity, body.amount, body.tradeType) == ("3.6962", "1", "3.6962", 1)
    assert (body.tradeId, body.orderId, body.clientOrderId) == ("77X1", "C02__5", "ab_2")
    assert (body.feeAmount, body.feeCurrency, body.time) == ("0.0003998377369698171", "MX", 1736417034280)
    assert formats.trade_row(trade)["id"] == body.tradeId


def test_account_frame_shows_available_and_frozen_apart() -> None:
    event = BalanceEvent(
        "USDT", Decimal("95.5978"), Decimal("4.4022"), Decimal(0), Decimal("4.4022"), "order-create", "MXUSDT", 5, 9
    )
    encoded = private.encode(event)
    assert encoded is not None
    body = decode(encoded[1]).privateAccount  # type: ignore[attr-defined]
    assert (body.vcoinName, body.balanceAmount, body.balanceAmountChange) == ("USDT", "95.5978", "-4.4022")
    assert (body.frozenAmount, body.frozenAmountChange, body.type) == ("4.4022", "4.4022", "ENTRUST_PLACE")


@pytest.mark.parametrize(
    ("status", "filled", "text", "number"),
    [
        (OrderStatus.NEW, "0", "NEW", 1),
        (OrderStatus.PARTIALLY_FILLED, "0.5", "PARTIALLY_FILLED", 3),
        (OrderStatus.FILLED, "1", "FILLED", 2),
        (OrderStatus.CANCELED, "0", "CANCELED", 4),
        (OrderStatus.CANCELED, "0.5", "PARTIALLY_CANCELED", 5),
    ],
)
def test_statuses_agree_between_rest_and_stream(status: OrderStatus, filled: str, text: str, number: int) -> None:
    seen = order(status=status, filled_qty=Decimal(filled))
    assert (formats.status_text(seen), formats.ws_status(seen)) == (text, number)


def test_refused_subscriptions_say_so_only_in_their_text() -> None:
    assert stream.ack(["a", "b"], [], 0) == '{"id":0,"code":0,"msg":"a,b"}'
    assert stream.ack([], ["c"], 3) == (
        '{"id":3,"code":0,"msg":"Not Subscribed successfully! [c].  Reason： Blocked! "}'
    )
    assert stream.ack(["a", "b"], ["c"], 0) == (
        '{"id":0,"code":0,"msg":"Subscribed successful! [a,b]. Not Subscribed successfully! [c].  Reason： Blocked! "}'
    )


def test_every_refusal_has_a_code_and_the_known_ones_are_the_sheets() -> None:
    for reason in RejectReason:
        error = formats.refusal(SimReject(reason, "x"), None, OrderSide.BUY)
        assert error.text and error.code != 0
    assert formats.refusal(SimReject(RejectReason.INSUFFICIENT_BALANCE, ""), None, OrderSide.SELL).code == 30005
    assert formats.refusal(SimReject(RejectReason.INSUFFICIENT_BALANCE, ""), None, OrderSide.BUY).code == 30004
    assert formats.refusal(SimReject(RejectReason.ORDER_NOT_FOUND, ""), None, None).code == -2011


def test_listen_keys_expire_are_extended_and_limited() -> None:
    keys = ListenKeys(2, 1)
    owner = SimAccount(uid="1", keys={"k": ApiKey("k", "s")})
    other = SimAccount(uid="2", keys={"q": ApiKey("q", "s")})
    first = keys.create(owner, 0)
    assert keys.account_of(first, LIFE_MS - 1) is owner and keys.account_of(first, LIFE_MS) is None
    keys.extend(owner, first, LIFE_MS - 1)
    assert keys.account_of(first, LIFE_MS) is owner
    with pytest.raises(formats.MexcError):
        keys.extend(other, first, LIFE_MS)
    keys.create(owner, LIFE_MS)
    with pytest.raises(formats.MexcError):
        keys.create(owner, LIFE_MS)
    assert keys.socket_opened(first) and not keys.socket_opened(first)
    keys.socket_closed(first)
    assert keys.socket_opened(first)
    keys.close(owner, first)
    assert keys.account_of(first, LIFE_MS) is None


def test_windows_count_refused_requests_and_open_anew() -> None:
    limiter, budget = WindowLimiter(), Budget(3, 1000)
    assert [limiter.take(budget, "n", "k", 0).allowed for _ in range(4)] == [True, True, True, False]
    state = limiter.take(budget, "n", "k", 999)
    assert (state.allowed, state.remain, state.used, retry_after_s(state, 999)) == (False, 0, 5, 1)
    assert limiter.take(budget, "n", "other", 999).allowed
    assert limiter.take(budget, "n", "k", 1000).remain == 2
