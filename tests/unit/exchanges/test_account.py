"""Balances, positions and private pushes of MEXC and Gate.io."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from pipeline.exchanges.gateio import account as gate
from pipeline.exchanges.mexc import account as mexc
from pipeline.exchanges.mexc.protobuf import PushDataV3ApiWrapper
from pipeline.model.enums import OrderSide, OrderState
from pipeline.model.errors import ProtocolViolation
from pipeline.model.structs import Balance, Fill, OrderUpdate, Position
from pipeline.model.venue_events import FundingNotice

MULTIPLIERS = {"BTC_USDT": Decimal("0.0001")}


def wrapper(channel: str) -> PushDataV3ApiWrapper:
    push = PushDataV3ApiWrapper()
    push.channel = f"spot@private.{channel}.v3.api.pb"
    push.symbol = "MXUSDT"
    push.sendTime = 1736417034332
    return push


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (1, OrderState.OPEN),
        (2, OrderState.FILLED),
        (3, OrderState.PARTIALLY_FILLED),
        (4, OrderState.CANCELLED),
        (5, OrderState.CANCELLED),
    ],
)
def test_mexc_order_push_of_the_sheet(status: int, state: OrderState) -> None:
    push = wrapper("orders")
    order = push.privateOrders
    order.id, order.clientId, order.price, order.quantity = "C02__505979017439002624115", "ab1", "3.5121", "1"
    order.avgPrice, order.cumulativeQuantity, order.orderType, order.tradeType = "3.6962", "1", 5, 2
    order.status = status
    (event,) = mexc.parse_private("mexc_spot", push.SerializeToString(), 9)
    assert isinstance(event, OrderUpdate) and event.state is state and event.symbol == "MXUSDT"
    assert (event.filled_qty, event.average_price, event.client_id) == (Decimal(1), Decimal("3.6962"), "ab1")
    assert event.venue_wall_ms == 1736417034332 and event.recv_mono_ns == 9


def test_mexc_order_push_without_fills_has_no_average() -> None:
    push = wrapper("orders")
    push.privateOrders.id, push.privateOrders.status = "C1", 1
    (event,) = mexc.parse_private("v", push.SerializeToString(), 1)
    assert isinstance(event, OrderUpdate) and event.filled_qty == 0 and event.average_price is None


def test_mexc_deal_push_is_a_fill_with_its_fee() -> None:
    push = wrapper("deals")
    deal = push.privateDeals
    deal.price, deal.quantity, deal.amount, deal.tradeType = "3.6962", "1", "3.6962", 2
    deal.tradeId, deal.clientOrderId, deal.orderId = "505979017439002624X1", "ab1", "C02__505979017439002624115"
    deal.feeAmount, deal.feeCurrency, deal.time = "0.0003998", "MX", 1736409765052
    (event,) = mexc.parse_private("v", push.SerializeToString(), 1)
    assert isinstance(event, Fill)
    assert (event.side, event.qty, event.fee, event.fee_asset) == (
        OrderSide.SELL, Decimal(1), Decimal("0.0003998"), "MX",
    )  # fmt: skip
    assert event.trade_id == "505979017439002624X1" and not event.is_maker


def test_mexc_account_push_is_a_balance() -> None:
    push = wrapper("account")
    row = push.privateAccount
    row.vcoinName, row.balanceAmount, row.frozenAmount, row.type = "USDT", "21.94210356004384", "10", "ENTRUST_PLACE"
    (event,) = mexc.parse_private("v", push.SerializeToString(), 1)
    assert isinstance(event, Balance)
    assert (event.asset, event.free, event.locked) == ("USDT", Decimal("21.94210356004384"), Decimal(10))


@pytest.mark.parametrize("bad", [b"\xff\xff\xff", b"\x0a\x7fshort", b""])
def test_mexc_bytes_that_are_no_push_are_a_violation(bad: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        list(mexc.parse_private("v", bad, 1))


def test_mexc_unknown_status_and_bad_numbers_are_violations() -> None:
    for change in ({"status": 9}, {"status": 1, "cumulativeQuantity": "NaN"}):
        push = wrapper("orders")
        for name, value in change.items():
            setattr(push.privateOrders, name, value)
        with pytest.raises(ProtocolViolation):
            list(mexc.parse_private("v", push.SerializeToString(), 1))


def test_mexc_rest_balances_and_listen_key() -> None:
    body = (
        b'{"canTrade":true,"accountType":"SPOT","balances":[{"asset":"NBNTEST","free":"1111078","locked":"33"}],'
        b'"permissions":["SPOT"]}'
    )
    (balance,) = mexc.parse_balances("v", body, 1)
    assert (balance.free, balance.locked, balance.source) == (Decimal(1111078), Decimal(33), "rest")
    assert mexc.parse_listen_key("v", b'{"listenKey":"pqia91ma19a5s61c"}') == "pqia91ma19a5s61c"
    with pytest.raises(ProtocolViolation):
        mexc.parse_listen_key("v", b'{"listenKey":"a&b=c"}')


def push(channel: str, result: str, event: str = "update") -> list[gate.PrivateEvent]:
    text = f'{{"time":1605175506,"channel":"{channel}","event":"{event}","result":{result}}}'
    return list(gate.parse_push("v", gate.envelope.decode(text.encode()), MULTIPLIERS, 7))


def test_gate_spot_order_push() -> None:
    row = {
        "id": "30784435", "user": 123456, "text": "t-abc", "create_time": "1605175506",
        "create_time_ms": "1605175506123", "update_time": "1605175506", "update_time_ms": "1605175506124",
        "event": "put", "currency_pair": "BTC_USDT", "type": "limit", "account": "spot", "side": "sell",
        "amount": "1", "price": "10001", "time_in_force": "gtc", "left": "1", "filled_total": "0",
        "avg_deal_price": "0", "fee": "0", "fee_currency": "USDT", "finish_as": "open",
    }  # fmt: skip
    (event,) = push("spot.orders", json.dumps([row]))
    assert isinstance(event, OrderUpdate) and event.state is OrderState.OPEN and event.filled_qty == 0
    assert event.client_id == "abc" and event.venue_wall_ms == 1605175506124 and event.source == "ws"


def test_gate_spot_trade_push_of_the_sheet() -> None:
    row = {
        "id": 5736713, "user_id": 1000001, "order_id": "30784428", "currency_pair": "BTC_USDT",
        "create_time": 1605176741, "create_time_ms": "1605176741123.456", "side": "sell",
        "amount": "1.00000000", "role": "taker", "price": "10000.00000000", "fee": "0.00200000000000",
        "fee_currency": "USDT", "point_fee": "0", "gt_fee": "0", "text": "apiv4", "id_market": 1,
    }  # fmt: skip
    (event,) = push("spot.usertrades", json.dumps([row]))
    assert isinstance(event, Fill)
    assert (event.trade_id, event.qty, event.fee, event.client_id) == ("5736713", Decimal(1), Decimal("0.002"), "")
    assert event.venue_wall_ms == 1605176741123


def test_gate_spot_balance_push_of_the_sheet() -> None:
    row = {
        "timestamp": "1605248616", "timestamp_ms": "1605248616123", "user": "1000001", "currency": "USDT",
        "change": "100", "total": "1032951.325075926", "available": "1022943.325075926", "freeze": "10008",
        "freeze_change": "0", "change_type": "order-create",
    }  # fmt: skip
    (event,) = push("spot.balances", json.dumps([row]))
    assert isinstance(event, Balance)
    assert (event.free, event.locked) == (Decimal("1022943.325075926"), Decimal(10008))


def test_gate_futures_order_push_has_numbers_and_keeps_their_digits() -> None:
    row = (
        '{"contract":"BTC_USDT","create_time":1628736847,"create_time_ms":1628736847325,"fill_price":40000.4,'
        '"finish_as":"filled","finish_time":1628736848,"finish_time_ms":1628736848321,"iceberg":0,"id":4872460,'
        '"is_close":false,"is_liq":false,"is_reduce_only":false,"left":0,"mkfr":-0.00025,"price":40000.4,"refr":0,'
        '"refu":0,"size":1,"status":"finished","text":"-","tif":"gtc","tkfr":0.0005,"user":"110","update_id":1,'
        '"update_time":1541505434123,"stop_loss_price":"","stop_profit_price":""}'
    )
    (event,) = push("futures.orders", f"[{row}]")
    assert isinstance(event, OrderUpdate) and event.state is OrderState.FILLED
    assert (event.filled_qty, event.average_price) == (Decimal("0.0001"), Decimal("40000.4"))
    assert event.venue_wall_ms == 1628736848321


def test_gate_futures_trade_balance_and_position_pushes() -> None:
    (trade,) = push(
        "futures.usertrades",
        '[{"id":"3335259","create_time":1628736848,"create_time_ms":1628736848321,"contract":"BTC_USDT",'
        '"order_id":"4872460","size":1,"price":"40000.4","role":"maker","text":"api","fee":0.0009290592,"point_fee":0}]',
    )
    assert isinstance(trade, Fill) and trade.fee == Decimal("0.0009290592") and trade.fee_asset == "USDT"
    assert trade.is_maker and trade.qty == Decimal("0.0001")
    (wallet,) = push(
        "futures.balances",
        '[{"balance":9.998739899488,"change":-0.000002074115,"text":"BTC_USDT:3914424","time":1547199246,'
        '"time_ms":1547199246123,"type":"fee","user":"211","currency":"usdt"}]',
    )
    assert wallet == gate.FuturesBalanceChanged("USDT", Decimal("9.998739899488"))
    (position,) = push(
        "futures.positions",
        '[{"contract":"BTC_USDT","cross_leverage_limit":0,"entry_price":40000.36666661111,"leverage":0,"margin":49.99,'
        '"mode":"single","realised_pnl":-1.25e-8,"size":-3,"time":1628736848,"time_ms":1628736848321,"user":"110"}]',
    )
    assert isinstance(position, Position)
    assert (position.qty, position.entry_price) == (Decimal("-0.0003"), Decimal("40000.36666661111"))


def test_gate_push_of_an_unknown_contract_or_channel_is_told_apart() -> None:
    row = '[{"id":1,"contract":"NEW_USDT","order_id":"1","size":1,"price":"1"}]'
    with pytest.raises(KeyError):
        push("futures.usertrades", row)
    with pytest.raises(ProtocolViolation, match="unknown channel"):
        push("spot.surprise", "[]")
    with pytest.raises(ProtocolViolation):
        push("spot.orders", '{"not":"a list"}')


def test_gate_rest_accounts_of_the_sheets() -> None:
    (spot,) = gate.parse_spot_balances(
        "v", b'[{"currency":"ETH","available":"968.8","locked":"0.5","update_id":98}]', 1
    )
    assert (spot.free, spot.locked) == (Decimal("968.8"), Decimal("0.5"))
    futures_body = (
        b'{"user":1666,"currency":"USDT","total":"9707.8","unrealised_pnl":"3371.2","position_margin":"161.2",'
        b'"order_margin":"21.5","available":"9525.0","point":"0","bonus":"0","in_dual_mode":false,"history":{}}'
    )
    futures = gate.parse_futures_balance("v", futures_body, 1)
    assert (futures.free, futures.locked) == (Decimal("9525.0"), Decimal("182.8")), "together the total"
    assert gate.parse_user_id("v", futures_body) == "1666"


def test_gate_positions_of_the_sheet_leave_flat_ones_out() -> None:
    body = (
        b'[{"user":10000,"contract":"BTC_USDT","size":-9440,"leverage":"0","entry_price":"3779.55",'
        b'"mark_price":"3780.32","mode":"single","update_time":1684994406},{"contract":"ETH_USDT","size":"0"}]'
    )
    assert [row.contract for row in gate.position_rows("v", body)] == ["BTC_USDT"]
    (position,) = gate.positions_of("v", gate.position_rows("v", body), MULTIPLIERS, 1)
    assert (position.qty, position.mark_price) == (Decimal("-0.9440"), Decimal("3780.32"))


BOOK = (
    b'[{"time":1682294400.123456,"change":"-0.000010152188","balance":"4.59316525194","text":"ETH_USDT:6086261",'
    b'"type":"fund","contract":"ETH_USDT","trade_id":"1","id":"17"},'
    b'{"time":1682294400,"change":"0.5","balance":"5.09","text":"BTC_USDT","type":"fund"},'
    b'{"time":1682294401.5,"change":"-1","balance":"4.09","text":"BTC_USDT:7","type":"fee","contract":"BTC_USDT"}]'
)


def test_gate_account_book_rows_are_funding_with_the_venues_identity() -> None:
    rows, count = gate.parse_funding("gateio_futures", BOOK)
    assert count == 3
    named, old = rows
    assert (named.symbol, named.event_id, named.asset) == ("ETH_USDT", "17", "USDT")
    assert (named.amount, named.venue_wall_ms) == (Decimal("-0.000010152188"), 1682294400123)
    assert (old.symbol, old.amount, old.event_id) == ("BTC_USDT", Decimal("0.5"), "BTC_USDT:1682294400:0.5:5.09")


@pytest.mark.parametrize("bad", [b'"x"', b"true", b"1e999999999", b'"NaN"', b"[]"])
def test_gate_account_book_with_a_time_that_is_none_is_refused(bad: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        gate.parse_funding("v", b'[{"time":' + bad + b',"change":"1","type":"fund","contract":"A_B"}]')


def test_gate_wallet_push_of_type_fund_is_news_of_funding_and_of_the_balance() -> None:
    frame = gate.envelope.decode(
        b'{"time":1,"channel":"futures.balances","event":"update","result":[{"balance":9.99,"change":-2.074e-06,'
        b'"text":"BTC_USDT:3914424","time":1547199246,"time_ms":1547199246123,"type":"fund","user":"211",'
        b'"currency":"usdt"}]}'
    )
    news, changed = gate.parse_push("gateio_futures", frame, {}, 5)
    assert news == FundingNotice(venue="gateio_futures", symbol="BTC_USDT", venue_wall_ms=1547199246123, recv_mono_ns=5)
    assert isinstance(changed, gate.FuturesBalanceChanged)
