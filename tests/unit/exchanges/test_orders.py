"""Order codecs of every venue: bytes out, replies, states, fills in; golden frames are the documents' samples."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.binance import account as binance_account
from pipeline.exchanges.binance import orders as binance
from pipeline.exchanges.gateio import orders as gate
from pipeline.exchanges.gateio import websocket_api as wsapi
from pipeline.exchanges.gateio.signing import GateSigner
from pipeline.exchanges.mexc import orders as mexc
from pipeline.model.enums import OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.errors import OutcomeUnknown, ProtocolViolation, RateLimited, VenueRejected
from pipeline.model.structs import OrderRequest

MULTIPLIERS = {"BTC_USDT": Decimal("0.0001")}


def request(**changes: object) -> OrderRequest:
    fields: dict[str, object] = {
        "client_id": "ab1", "venue": "v", "symbol": "BTCUSDT", "side": OrderSide.BUY, "kind": OrderKind.LIMIT,
        "tif": TimeInForce.GTC, "qty": Decimal("0.001"), "price": Decimal("65000.50"),
    }  # fmt: skip
    return OrderRequest(**(fields | changes))  # type: ignore[arg-type]


def reply(body: bytes, status: int = 200) -> HttpReply:
    return HttpReply(status=status, headers={}, body=body, recv_mono_ns=5)


# --- MEXC ---


@pytest.mark.parametrize(
    ("tif", "kind"),
    [
        (TimeInForce.GTC, "LIMIT"),
        (TimeInForce.IOC, "IMMEDIATE_OR_CANCEL"),
        (TimeInForce.FOK, "FILL_OR_KILL"),
        (TimeInForce.POST_ONLY, "LIMIT_MAKER"),
    ],
)
def test_mexc_time_in_force_lives_in_the_type(tif: TimeInForce, kind: str) -> None:
    assert mexc.place_query(request(tif=tif)) == (
        f"symbol=BTCUSDT&side=BUY&type={kind}&quantity=0.001&price=65000.5&newClientOrderId=ab1"
    )


def test_mexc_market_sell_names_quantity_and_market_buy_is_refused() -> None:
    sell = request(kind=OrderKind.MARKET, side=OrderSide.SELL, price=Decimal(0))
    assert mexc.place_query(sell) == "symbol=BTCUSDT&side=SELL&type=MARKET&quantity=0.001&newClientOrderId=ab1"
    with pytest.raises(ValueError, match="quote amount"):
        mexc.place_query(request(kind=OrderKind.MARKET))


def test_small_quantities_are_written_without_exponent() -> None:
    assert "quantity=0.00000001&" in mexc.place_query(request(qty=Decimal("1E-8")))


def test_mexc_acknowledgement_says_nothing_about_fills() -> None:
    body = (
        b'{"symbol":"MXUSDT","orderId":"C02__505979017439002624115","orderListId":-1,"price":"0.1","origQty":"50",'
        b'"type":"LIMIT","side":"BUY","transactTime":1666676533741}'
    )
    update = mexc.parse_ack("mexc_spot", "ab1", reply(body))
    assert update.state is OrderState.OPEN and update.filled_qty is None and update.client_id == "ab1"
    assert update.order_id == "C02__505979017439002624115" and update.venue_wall_ms == 1666676533741


def mexc_order(status: str, executed: str = "0", quote: str = "0") -> bytes:
    return json.dumps(
        {
            "symbol": "MXUSDT", "orderId": "C1", "orderListId": -1, "clientOrderId": "ab1", "price": "0.1",
            "origQty": "50", "executedQty": executed, "cummulativeQuoteQty": quote, "status": status,
            "timeInForce": None, "type": "LIMIT", "side": "BUY", "stopPrice": None, "icebergQty": None,
            "time": 1666676533741, "updateTime": 1666676533999, "isWorking": True, "origQuoteOrderQty": "0",
        }
    ).encode()  # fmt: skip


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("NEW", OrderState.OPEN),
        ("PARTIALLY_FILLED", OrderState.PARTIALLY_FILLED),
        ("FILLED", OrderState.FILLED),
        ("CANCELED", OrderState.CANCELLED),
        ("PARTIALLY_CANCELED", OrderState.CANCELLED),
    ],
)
def test_mexc_states(status: str, state: OrderState) -> None:
    assert mexc.parse_order("v", mexc_order(status), 1).state is state


def test_mexc_average_price_is_quote_over_base() -> None:
    update = mexc.parse_order("v", mexc_order("PARTIALLY_CANCELED", "4", "0.5"), 1)
    assert update.filled_qty == 4 and update.average_price == Decimal("0.125") and update.venue_wall_ms == 1666676533999


def test_mexc_unknown_status_is_a_violation_not_a_guess() -> None:
    with pytest.raises(ProtocolViolation, match="SOMETHING"):
        mexc.parse_order("v", mexc_order("SOMETHING"), 1)


def test_mexc_cancel_that_shows_the_state_before_says_nothing_about_fills() -> None:
    update = mexc.parse_cancel("v", mexc_order("NEW", "0"), 1)
    assert update.state is OrderState.OPEN and update.filled_qty is None


def test_mexc_fills_keep_side_fee_and_client_id() -> None:
    body = json.dumps(
        [
            {
                "symbol": "MXUSDT", "id": "fad2af9e", "orderId": "C02", "orderListId": -1, "price": "2", "qty": "3",
                "quoteQty": "6", "commission": "0.006", "commissionAsset": "USDT", "time": 1664937612000,
                "isBuyer": False, "isMaker": True, "isBestMatch": True, "isSelfTrade": False, "clientOrderId": None,
            }
        ]
    ).encode()  # fmt: skip
    (fill,) = mexc.parse_fills("v", body, 1)[0]
    assert (fill.trade_id, fill.side, fill.qty, fill.fee, fill.fee_asset) == (
        "fad2af9e", OrderSide.SELL, Decimal(3), Decimal("0.006"), "USDT",
    )  # fmt: skip
    assert fill.is_maker and fill.client_id == ""


# --- Gate.io ---

GATE_SPOT = (
    b'{"id":"1852454420","text":"t-abc123","amend_text":"-","create_time":"1710488334","update_time":"1710488334",'
    b'"create_time_ms":1710488334073,"update_time_ms":1710488334074,"status":"closed","currency_pair":"BTC_USDT",'
    b'"type":"limit","account":"unified","side":"buy","amount":"0.001","price":"65000","time_in_force":"gtc",'
    b'"iceberg":"0","left":"0","filled_amount":"0.001","fill_price":"63.4693","filled_total":"63.4693",'
    b'"avg_deal_price":"63469.3","fee":"0.00000022","fee_currency":"BTC","point_fee":"0","gt_fee":"0",'
    b'"gt_maker_fee":"0","gt_taker_fee":"0","gt_discount":false,"rebated_fee":"0","rebated_fee_currency":"USDT",'
    b'"finish_as":"filled"}'
)
GATE_FUTURES = (
    b'{"id":15675394,"user":100000,"contract":"BTC_USDT","create_time":1546569968,"size":6024,"iceberg":0,"left":6024,'
    b'"price":"3765","fill_price":"0","mkfr":"-0.00025","tkfr":"0.00075","tif":"gtc","refu":0,"is_reduce_only":false,'
    b'"is_close":false,"is_liq":false,"text":"t-my-custom-id","status":"open","stp_id":0,"stp_act":"-","amend_text":"-"}'
)


def test_gate_spot_body_is_the_signed_sample() -> None:
    body = json.loads(gate.place_body("spot", request(symbol="BTC_USDT", price=Decimal(65000))))
    assert body == {
        "currency_pair": "BTC_USDT", "side": "buy", "type": "limit", "account": "spot", "amount": "0.001",
        "price": "65000", "time_in_force": "gtc", "text": "t-ab1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tif", "word"),
    [
        (TimeInForce.GTC, "gtc"),
        (TimeInForce.IOC, "ioc"),
        (TimeInForce.FOK, "fok"),
        (TimeInForce.POST_ONLY, "poc"),
    ],
)
def test_gate_time_in_force(tif: TimeInForce, word: str) -> None:
    assert json.loads(gate.place_body("spot", request(tif=tif)))["time_in_force"] == word
    futures = request(tif=tif, multiplier=Decimal("0.001"))
    assert json.loads(gate.place_body("futures", futures))["tif"] == word


def test_gate_futures_side_is_the_sign_and_quantity_is_contracts() -> None:
    sell = request(
        symbol="BTC_USDT", side=OrderSide.SELL, qty=Decimal("0.0005"), multiplier=Decimal("0.0001"),
        tif=TimeInForce.POST_ONLY, price=Decimal("65000.5"), reduce_only=True,
    )  # fmt: skip
    assert json.loads(gate.place_body("futures", sell)) == {
        "contract": "BTC_USDT", "size": -5, "price": "65000.5", "tif": "poc", "text": "t-ab1", "reduce_only": True,
    }  # fmt: skip


def test_gate_futures_market_order_is_price_zero_and_ioc() -> None:
    body = json.loads(gate.place_body("futures", request(kind=OrderKind.MARKET, multiplier=Decimal("0.001"))))
    assert (body["price"], body["tif"], body["size"]) == ("0", "ioc", 1)


def test_gate_futures_decimal_contracts_are_text_and_inexact_ones_refused() -> None:
    assert (
        json.loads(gate.place_body("futures", request(qty=Decimal("0.0005"), multiplier=Decimal("0.001"))))["size"]
        == "0.5"
    )
    with pytest.raises(ValueError, match="no exact number of contracts"):
        gate.contracts_of(request(qty=Decimal("0.001"), multiplier=Decimal("0.0003")))


def test_gate_client_ids_map_back_and_foreign_texts_are_nobodys() -> None:
    assert [gate.client_id_of(text) for text in ("t-abc", "apiv4-ws", "web", "-", None)] == ["abc", "", "", "", ""]


def test_gate_spot_order_of_the_sheet() -> None:
    update = gate.spot_update("v", gate.spot_order.decode(GATE_SPOT), 1, "rest")
    assert update.state is OrderState.FILLED and update.client_id == "abc123" and update.order_id == "1852454420"
    assert update.filled_qty == Decimal("0.001") and update.average_price == Decimal("63469.3")
    assert update.venue_wall_ms == 1710488334074


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"status": "open", "finish_as": "open", "filled_amount": "0", "left": "0.001"}, OrderState.OPEN),
        ({"status": "open", "filled_amount": "0.0004", "left": "0.0006"}, OrderState.PARTIALLY_FILLED),
        ({"status": "cancelled", "finish_as": "ioc", "filled_amount": "0.0004"}, OrderState.CANCELLED),
        ({"status": "cancelled", "finish_as": "stp"}, OrderState.CANCELLED),
        ({"status": None, "event": "put", "filled_amount": "0"}, OrderState.OPEN),
        ({"status": None, "event": "update", "filled_amount": "0.0001"}, OrderState.PARTIALLY_FILLED),
        ({"status": None, "event": "finish", "finish_as": "filled"}, OrderState.FILLED),
        ({"status": None, "event": "finish", "finish_as": "cancelled", "left": "0.001"}, OrderState.CANCELLED),
        ({"status": "closed", "finish_as": "ioc", "left": "0.0005"}, OrderState.CANCELLED),
        ({"status": "closed", "finish_as": "stp", "left": "0.0005"}, OrderState.CANCELLED),
        ({"status": "closed", "finish_as": "ioc", "left": "0"}, OrderState.FILLED),
        ({"status": "closed", "finish_as": "filled"}, OrderState.FILLED),
        ({"status": "closed", "finish_as": None, "left": "0.0005"}, OrderState.CANCELLED),
    ],
)
def test_gate_spot_states_of_rest_and_stream(fields: dict[str, object], state: OrderState) -> None:
    row = json.loads(GATE_SPOT) | fields
    assert gate.spot_update("v", gate.spot_order.decode(json.dumps(row).encode()), 1, "ws").state is state


def test_gate_spot_filled_quantity_comes_from_left_where_it_is_not_told() -> None:
    row = json.loads(GATE_SPOT) | {"filled_amount": None, "left": "0.0007", "avg_deal_price": "", "status": "cancelled"}
    update = gate.spot_update("v", gate.spot_order.decode(json.dumps(row).encode()), 1, "ws")
    assert update.filled_qty == Decimal("0.0003") and update.average_price == Decimal("63.4693") / Decimal("0.0003")


def test_gate_market_buy_amounts_are_quote_and_never_taken_for_base() -> None:
    row = json.loads(GATE_SPOT) | {"type": "market", "filled_amount": None}
    assert gate.spot_update("v", gate.spot_order.decode(json.dumps(row).encode()), 1, "ws").filled_qty is None


def test_gate_futures_order_of_the_sheet() -> None:
    update = gate.futures_update("v", gate.futures_order.decode(GATE_FUTURES), MULTIPLIERS, 1, "rest")
    assert update.state is OrderState.OPEN and update.filled_qty == 0 and update.average_price is None
    assert update.client_id == "my-custom-id"


def test_gate_futures_fills_are_base_coin_and_side_is_the_sign() -> None:
    row = json.loads(GATE_FUTURES) | {
        "size": -6024, "left": -24, "status": "finished", "finish_as": "ioc", "fill_price": "3764.5",
    }  # fmt: skip
    update = gate.futures_update("v", gate.futures_order.decode(json.dumps(row).encode()), MULTIPLIERS, 1, "ws_api")
    assert update.state is OrderState.CANCELLED and update.filled_qty == Decimal("0.6")
    assert update.average_price == Decimal("3764.5")
    with pytest.raises(KeyError):
        gate.futures_update("v", gate.futures_order.decode(GATE_FUTURES), {}, 1, "rest")


def test_gate_fills_of_the_sheets() -> None:
    spot = json.dumps(
        {
            "id": "1232893232", "create_time": "1548000000", "create_time_ms": "1548000000123.456",
            "currency_pair": "ETH_BTC", "order_id": "4128442423", "side": "sell", "role": "maker", "amount": "0.15",
            "price": "0.03", "fee": "0.0005", "fee_currency": "BTC", "point_fee": "0", "gt_fee": "0",
            "sequence_id": "1", "text": "t-x", "amend_text": "-",
        }
    ).encode()  # fmt: skip
    fill = gate.spot_fills("v", b"[" + spot + b"]", 1, "rest")[0][0]
    assert (fill.side, fill.fee, fill.fee_asset, fill.venue_wall_ms) == (
        OrderSide.SELL, Decimal("0.0005"), "BTC", 1548000000123,
    )  # fmt: skip
    futures = (
        b'[{"id":121234231,"create_time":1514764800.123,"contract":"BTC_USDT","order_id":"21893289839","size":-100,'
        b'"price":"100.123","text":"t-123456","fee":"0.01","point_fee":"0","role":"taker","close_size":0}]'
    )
    fill = gate.futures_fills("v", futures, MULTIPLIERS, 1, "rest")[0][0]
    assert (fill.side, fill.qty, fill.fee_asset) == (OrderSide.SELL, Decimal("0.01"), "USDT")
    assert fill.venue_wall_ms == 1514764800123 and fill.client_id == "123456"


def test_gate_fee_paid_in_gt_or_points_is_told_in_that_asset() -> None:
    base = {
        "id": "1", "create_time_ms": "1", "currency_pair": "A_B", "order_id": "2", "side": "buy", "amount": "1",
        "price": "1", "fee": "0", "fee_currency": "A",
    }  # fmt: skip
    rows = [base | {"gt_fee": "0.2"}, base | {"point_fee": "0.3"}]
    fills, _ = gate.spot_fills("v", json.dumps(rows).encode(), 1, "ws")
    assert [(fill.fee, fill.fee_asset) for fill in fills] == [(Decimal("0.2"), "GT"), (Decimal("0.3"), "POINT")]


def test_gate_fee_paid_in_several_assets_is_told_in_each() -> None:
    row = {
        "id": "1", "create_time_ms": "1", "currency_pair": "A_B", "order_id": "2", "side": "buy", "amount": "1",
        "price": "1", "fee": "0.1", "fee_currency": "A", "gt_fee": "0.2", "point_fee": "0.3",
    }  # fmt: skip
    fill = gate.spot_fills("v", json.dumps([row]).encode(), 1, "ws")[0][0]
    assert fill.fees == (("A", Decimal("0.1")), ("GT", Decimal("0.2")), ("POINT", Decimal("0.3")))
    contract = {
        "id": 1, "create_time": 1, "contract": "BTC_USDT", "order_id": "2", "size": 1, "price": "1", "text": "t-1",
        "fee": "0.01", "point_fee": "0.02", "role": "taker",
    }  # fmt: skip
    fill = gate.futures_fills("v", json.dumps([contract]).encode(), MULTIPLIERS, 1, "ws")[0][0]
    assert fill.fees == (("USDT", Decimal("0.01")), ("POINT", Decimal("0.02")))


# --- Gate.io WebSocket API ---


def test_gate_call_frame_carries_the_expiry_in_its_header() -> None:
    frame = json.loads(
        wsapi.call_frame("spot.order_place", "p-ab1", b'{"text":"t-ab1"}', 1_700_000_000, 1_700_000_005_000)
    )
    assert frame["event"] == "api" and frame["channel"] == "spot.order_place"
    assert frame["payload"] == {
        "req_id": "p-ab1", "req_param": {"text": "t-ab1"}, "req_header": {"x-gate-exptime": "1700000005000"},
    }  # fmt: skip
    assert "req_header" not in json.loads(wsapi.call_frame("c", "r", b"{}", 1))["payload"]


def test_gate_login_frame_of_the_sheet() -> None:
    frame = json.loads(wsapi.login_frame(GateSigner("testkey0001", "testsecret0001"), "spot", "r1", 1_700_000_000))
    assert frame["payload"]["timestamp"] == "1700000000" and frame["payload"]["req_id"] == "r1"
    assert frame["payload"]["signature"].startswith("00d22263c1e1bf5c4d62662db4df9301")


def api_reply(status: str, data: str, header: str = "") -> wsapi.ApiReply:
    text = f'{{"request_id":"r","header":{{"status":"{status}","channel":"c","event":"api"{header}}},"data":{data}}}'
    return wsapi.parse_reply("v", text.encode())


def test_gate_refusals_over_the_trading_connection() -> None:
    errs = '{"errs":{"label":"BALANCE_NOT_ENOUGH","message":"Not enough balance"}}'
    error = wsapi.reply_error("v", api_reply("400", errs), 0)
    assert isinstance(error, VenueRejected) and error.api_code == "BALANCE_NOT_ENOUGH"
    limited = wsapi.reply_error(
        "v", api_reply("429", '{"errs":{"label":"TOO_MANY_REQUESTS","message":"x"}}',
                       ',"x_gat_ratelimit_reset_timestamp":"4000"'), 1000,
    )  # fmt: skip
    assert isinstance(limited, RateLimited) and limited.retry_after_s == 3.0
    assert isinstance(wsapi.reply_error("v", api_reply("500", '{"errs":{"label":"SERVER_ERROR"}}'), 0), OutcomeUnknown)
    assert wsapi.reply_error("v", api_reply("200", '{"result":{}}'), 0) is None


# --- Binance ---


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("NEW", OrderState.OPEN),
        ("PENDING_NEW", OrderState.OPEN),
        ("PARTIALLY_FILLED", OrderState.PARTIALLY_FILLED),
        ("FILLED", OrderState.FILLED),
        ("CANCELED", OrderState.CANCELLED),
        ("REJECTED", OrderState.REJECTED),
        ("EXPIRED", OrderState.CANCELLED),
        ("EXPIRED_IN_MATCH", OrderState.CANCELLED),
    ],
)
def test_binance_states(status: str, state: OrderState) -> None:
    body = (
        b'{"symbol":"LTCBTC","origClientOrderId":"myOrder1","orderId":4,"orderListId":-1,'
        b'"clientOrderId":"cancelMyOrder1","transactTime":1684804350068,"price":"2.00000000","origQty":"1.00000000",'
        b'"executedQty":"0.50000000","cummulativeQuoteQty":"1.00000000","status":"%b"}' % status.encode()
    )
    update = binance.parse_order("v", body, 1)
    assert update.state is state and update.client_id == "myOrder1" and update.average_price == Decimal(2)


def test_binance_futures_balance_and_positions() -> None:
    balances = b'[{"asset":"USDT","balance":"122607.35","availableBalance":"23.72"}]'
    (balance,) = binance_account.parse_balances("v", "futures", balances, 1)
    assert (balance.free, balance.locked) == (Decimal("23.72"), Decimal("122583.63"))
    rows = (
        b'[{"symbol":"ADAUSDT","positionSide":"BOTH","positionAmt":"-30","entryPrice":"0.385","markPrice":"0.41"},'
        b'{"symbol":"X","positionAmt":"0"}]'
    )
    (position,) = binance_account.parse_positions("v", rows, 1)
    assert position.symbol == "ADAUSDT" and position.qty == -30


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_binance_average_price_that_is_no_number_is_refused(number: str) -> None:
    row = {"symbol": "BTCUSDT", "orderId": 1, "status": "FILLED", "executedQty": "1", "clientOrderId": "ab1"}
    with pytest.raises(ProtocolViolation):
        binance.parse_order("v", json.dumps({**row, "avgPrice": number}).encode(), 1)
