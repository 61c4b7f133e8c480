"""Gate.io rows against the documented and recorded ones: same fields, same kinds of values, and the labels."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from pipeline.model.enums import InstrumentKind, OrderKind, OrderSide, TimeInForce
from pipeline.model.structs import CoinIdentity
from pipeline.sim.exchange.accounts import ApiKey, SimAccount, SimPosition
from pipeline.sim.exchange.events import BalanceEvent
from pipeline.sim.exchange.futures.margin import MarginAccount
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.orders import OrderStatus, RejectReason, SimOrder, SimReject, SimTrade
from pipeline.sim.wire.gateio import futures_rows as futures
from pipeline.sim.wire.gateio import spot_rows as spot
from pipeline.sim.wire.gateio.api import Countdown, page
from pipeline.sim.wire.gateio.formats import ApiRequest, GateError, client_text, number, refusal, split_id

ACCOUNT = SimAccount(uid="10001", keys={"k": ApiKey("k", "s")})

SPOT = SimInstrument(
    symbol="BTC_USDT",
    base="BTC",
    quote="USDT",
    kind=InstrumentKind.SPOT,
    tick=Decimal("0.1"),
    lot=Decimal("0.000001"),
    unit=Decimal("0.00000001"),
    min_qty=Decimal("0.00001"),
    min_notional=Decimal(3),
)
PERPETUAL = SimInstrument(
    symbol="BTC_USDT",
    base="BTC",
    quote="USDT",
    kind=InstrumentKind.PERPETUAL,
    tick=Decimal("0.1"),
    lot=Decimal("0.0001"),
    unit=Decimal("0.0001"),
    multiplier=Decimal("0.0001"),
    min_qty=Decimal("0.0001"),
    taker_fee_ppm=750,
    maker_fee_ppm=-152,
    funding_rate=Decimal("0.000086"),
    funding_interval_s=28800,
    funding_next_s=1684944000,
    reference=lambda: Decimal("26704.26"),
)
FRACTIONAL = SimInstrument(
    symbol="X_USDT",
    base="X",
    quote="USDT",
    kind=InstrumentKind.PERPETUAL,
    tick=Decimal("0.1"),
    lot=Decimal("0.1"),
    unit=Decimal("0.1"),
    multiplier=Decimal(1),
)

DOCUMENTED_ORDER = json.loads(
    '{"id":"1852454420","text":"t-abc123","amend_text":"-","create_time":"1710488334","update_time":"1710488334",'
    '"create_time_ms":1710488334073,"update_time_ms":1710488334074,"status":"closed","currency_pair":"BTC_USDT",'
    '"type":"limit","account":"spot","side":"buy","amount":"0.001","price":"65000","time_in_force":"gtc",'
    '"iceberg":"0","left":"0","filled_amount":"0.001","fill_price":"63.4693","filled_total":"63.4693",'
    '"avg_deal_price":"63469.3","fee":"0.00000022","fee_currency":"BTC","point_fee":"0","gt_fee":"0",'
    '"gt_maker_fee":"0","gt_taker_fee":"0","gt_discount":false,"rebated_fee":"0","rebated_fee_currency":"USDT",'
    '"finish_as":"filled"}'
)
RECORDED_CONTRACT = json.loads(
    '{"funding_rate_indicative":"0.000086","mark_price_round":"0.01","funding_offset":0,"in_delisting":false,'
    '"risk_limit_base":"1000000","interest_rate":"0.0003","index_price":"26703.16","order_price_round":"0.1",'
    '"order_size_min":1,"ref_rebate_rate":"0.2","name":"BTC_USDT","ref_discount_rate":"0",'
    '"order_price_deviate":"0.5","maintenance_rate":"0.005","mark_type":"index","funding_interval":28800,'
    '"type":"direct","risk_limit_step":"1000000","enable_bonus":true,"leverage_min":"1","funding_rate":"0.000086",'
    '"last_price":"26696","mark_price":"26704.26","order_size_max":1000000,"funding_next_apply":1684944000,'
    '"short_users":2559,"enable_credit":true,"config_change_time":1682318841,"create_time":0,'
    '"trade_size":215705969894,"position_size":169531691,"long_users":5706,"quanto_multiplier":"0.0001",'
    '"funding_impact_value":"60000","leverage_max":"100","risk_limit_max":"30000000","maker_fee_rate":"-0.000152",'
    '"taker_fee_rate":"0.00075","orders_limit":100,"trade_id":202356208,"orderbook_id":38008856556}'
)
DOCUMENTED_FUTURES_ORDER = json.loads(
    '{"id":15675394,"user":100000,"contract":"BTC_USDT","create_time":1546569968,"size":6024,"iceberg":0,'
    '"left":6024,"price":"3765","fill_price":"0","mkfr":"-0.00025","tkfr":"0.00075","tif":"gtc","refu":0,'
    '"is_reduce_only":false,"is_close":false,"is_liq":false,"text":"t-my-custom-id","status":"open","stp_id":0,'
    '"stp_act":"-","amend_text":"-"}'
)
DOCUMENTED_FUTURES_PUSH = json.loads(
    '{"contract":"BTC_USDT","create_time":1628736847,"create_time_ms":1628736847325,"fill_price":40000.4,'
    '"finish_as":"filled","finish_time":1628736848,"finish_time_ms":1628736848321,"iceberg":0,"id":4872460,'
    '"is_close":false,"is_liq":false,"is_reduce_only":false,"left":0,"mkfr":-0.00025,"price":40000.4,"refr":0,'
    '"refu":0,"size":1,"status":"finished","text":"-","tif":"gtc","tkfr":0.0005,"user":"110","update_id":1,'
    '"update_time":1541505434123,"stop_loss_price":"","stop_profit_price":""}'
)
DOCUMENTED_POSITION = json.loads(
    '{"user":10000,"contract":"BTC_USDT","size":-9440,"leverage":"0","risk_limit":"100","leverage_max":"100",'
    '"maintenance_rate":"0.005","value":"3568.62","margin":"4.43","entry_price":"3779.55","liq_price":"99999999",'
    '"mark_price":"3780.32","unrealised_pnl":"-0.000507","realised_pnl":"0.045","pnl_pnl":"1","pnl_fund":"1",'
    '"pnl_fee":"1","adl_ranking":5,"pending_orders":16,"close_order":null,"mode":"single","update_time":1684994406,'
    '"update_id":1,"cross_leverage_limit":"0"}'
)
DOCUMENTED_TRADE = json.loads(
    '{"id":"1232893232","create_time":"1548000000","create_time_ms":"1548000000123.456","currency_pair":"BTC_USDT",'
    '"order_id":"1","side":"buy","role":"maker","amount":"1","price":"1","fee":"1","fee_currency":"BTC",'
    '"point_fee":"0","gt_fee":"0","sequence_id":"1","text":"-","amend_text":"-"}'
)


def assert_covers(row: dict[str, Any], sample: dict[str, Any]) -> None:
    """Every documented field is there, with a value of the same JSON kind."""
    assert set(sample) <= set(row), set(sample) - set(row)
    for name, value in sample.items():
        kinds = (int, float) if isinstance(value, int | float) and not isinstance(value, bool) else (type(value),)
        assert isinstance(row[name], kinds), (name, row[name], value)


def order(**changes: Any) -> SimOrder:
    fields: dict[str, Any] = {
        "order_id": 1852454420,
        "client_id": "t-abc123",
        "symbol": "BTC_USDT",
        "side": OrderSide.BUY,
        "kind": OrderKind.LIMIT,
        "tif": TimeInForce.GTC,
        "price": Decimal(65000),
        "qty": Decimal("0.001"),
        "status": OrderStatus.FILLED,
        "finish_as": "filled",
        "filled_qty": Decimal("0.001"),
        "filled_quote": Decimal("63.4693"),
        "fees": {"BTC": Decimal("0.00000022")},
        "created_ms": 1710488334073,
        "updated_ms": 1710488334074,
        "finished_ms": 1710488334074,
    }
    return SimOrder(**(fields | changes))


def trade(**changes: Any) -> SimTrade:
    fields: dict[str, Any] = {
        "trade_id": 5,
        "order_id": 6,
        "client_id": "t-1",
        "symbol": "BTC_USDT",
        "side": OrderSide.SELL,
        "price": Decimal("65000.5"),
        "qty": Decimal("0.0012"),
        "quote": Decimal("78.0006"),
        "fee": Decimal("0.05"),
        "fee_asset": "USDT",
        "is_maker": False,
        "ts_ms": 1548000000123,
    }
    return SimTrade(**(fields | changes))


def test_spot_order_row_is_the_documented_one() -> None:
    assert spot.order_row(order()) == DOCUMENTED_ORDER


def test_spot_market_buy_counts_in_quote() -> None:
    row = spot.order_row(order(kind=OrderKind.MARKET, tif=TimeInForce.IOC, price=Decimal(0), quote_qty=Decimal(70)))
    assert (row["type"], row["amount"], row["left"], row["filled_amount"]) == ("market", "70", "6.5307", "0.001")


@pytest.mark.parametrize(
    ("status", "finish_as", "shown"),
    [
        (OrderStatus.NEW, "open", ("open", "open")),
        (OrderStatus.FILLED, "filled", ("closed", "filled")),
        (OrderStatus.CANCELED, "ioc", ("cancelled", "ioc")),
        (OrderStatus.CANCELED, "cancelled", ("cancelled", "cancelled")),
        (OrderStatus.CANCELED, "stp", ("cancelled", "stp")),
    ],
)
def test_spot_status_and_finish_as_go_together(status: OrderStatus, finish_as: str, shown: tuple[str, str]) -> None:
    row = spot.order_row(order(status=status, finish_as=finish_as))
    assert (row["status"], row["finish_as"]) == shown


def test_spot_push_has_no_status_and_string_times_and_v2_has_no_fees() -> None:
    row = spot.order_push(order(), "finish", 10001, fees=True)
    assert "status" not in row and row["event"] == "finish" and row["user"] == 10001
    assert row["create_time_ms"] == "1710488334073"
    assert "fee" in row and "fee" not in spot.order_push(order(), "finish", 10001, fees=False)
    assert "fee" not in spot.trade_push(trade(), 10001, fees=False)


def test_spot_trade_rows_are_the_documented_ones() -> None:
    row = spot.trade_row(trade())
    assert set(row) == set(DOCUMENTED_TRADE)
    assert_covers(row, DOCUMENTED_TRADE)
    push = spot.trade_push(trade(), 10001, fees=True)
    assert isinstance(push["id"], int) and isinstance(push["create_time"], int)
    assert push["create_time_ms"] == "1548000000123.000"


def test_spot_balance_push_is_of_the_available_amount() -> None:
    event = BalanceEvent("USDT", Decimal(90), Decimal(10), Decimal(0), Decimal(10), "order-create", "BTC_USDT", 1, 5)
    row = spot.balance_push(event, ACCOUNT)
    assert (row["change"], row["total"], row["available"], row["freeze"]) == ("-10", "100", "90", "10")
    assert (row["change_type"], row["timestamp_ms"], row["user"]) == ("order-create", "5", "10001")


def test_pair_row_gives_steps_as_digits_and_fee_in_percent() -> None:
    row = spot.pair_row(SPOT)
    assert (row["precision"], row["amount_precision"], row["fee"]) == (1, 6, "0.1")
    assert (row["min_base_amount"], row["min_quote_amount"], row["trade_status"]) == ("0.00001", "3", "tradable")
    assert "min_base_amount" not in spot.pair_row(FRACTIONAL)


def test_currency_row_shows_contracts_and_switches() -> None:
    coin = CoinIdentity(asset="NOVA", networks=(("eth", "0xabc"),), deposit_enabled=False)
    (row,) = spot.currency_rows([coin])
    assert row["deposit_disabled"] and not row["withdraw_disabled"]
    assert row["chains"] == [
        {
            "name": "ETH",
            "addr": "0xabc",
            "withdraw_disabled": False,
            "withdraw_delayed": False,
            "deposit_disabled": True,
        }
    ]


def test_contract_row_covers_the_recorded_one() -> None:
    row = futures.contract_row(PERPETUAL, decimal_sizes=False, orderbook_id=38008856556, last="26696", trade_id=1)
    assert_covers(row, RECORDED_CONTRACT)
    for name in ("quanto_multiplier", "order_price_round", "order_size_min", "funding_interval", "funding_next_apply"):
        assert row[name] == RECORDED_CONTRACT[name]
    assert (row["status"], row["enable_decimal"]) == ("trading", False)


def test_futures_rows_cover_the_documented_ones() -> None:
    opened = order(status=OrderStatus.NEW, finish_as="open", filled_qty=Decimal(0), filled_quote=Decimal(0))
    row = futures.order_row(opened, PERPETUAL, ACCOUNT, False)
    assert_covers(row, DOCUMENTED_FUTURES_ORDER)
    assert (row["size"], row["left"], row["fill_price"]) == (10, 10, "0")
    assert "finish_as" not in row and "finish_time" not in row
    assert_covers(futures.order_push(order(), PERPETUAL, ACCOUNT, False), DOCUMENTED_FUTURES_PUSH)
    position = SimPosition(symbol="BTC_USDT", qty=Decimal("-0.944"), cost=Decimal("-25000"), is_cross=True)
    shown = futures.position_row(position, PERPETUAL, ACCOUNT, decimal_sizes=False, pending_orders=2, liq_price=None)
    assert_covers(shown, DOCUMENTED_POSITION)
    assert (shown["size"], shown["leverage"], shown["cross_leverage_limit"]) == (-9440, "0", "10")
    assert (shown["pos_margin_mode"], shown["lever"], shown["liq_price"]) == ("cross", "10", "99999999")
    assert Decimal(shown["unrealised_pnl"]) == Decimal("-0.944") * Decimal("26704.26") + 25000


def test_futures_sizes_are_signed_and_change_kind_with_the_header() -> None:
    sold = order(side=OrderSide.SELL)
    assert futures.order_row(sold, PERPETUAL, ACCOUNT, False)["size"] == -10
    assert futures.order_row(sold, PERPETUAL, ACCOUNT, True)["size"] == "-10"
    assert futures.trade_row(trade(), PERPETUAL, True)["size"] == "-12"
    assert (futures.size(Decimal("-1.9"), False), futures.size(Decimal("-1.9"), True)) == (-1, "-1.9")
    assert futures.units_size(FRACTIONAL, 15, True) == "1.5"
    assert futures.units_size(FRACTIONAL, 15, False) == 1


def test_futures_market_order_is_price_zero_and_refused_ends_are_cancelled() -> None:
    row = futures.order_row(order(kind=OrderKind.MARKET, price=Decimal(1)), PERPETUAL, ACCOUNT, False)
    assert row["price"] == "0" and row["finish_as"] == "filled"
    killed = futures.order_row(order(finish_as="fok", status=OrderStatus.CANCELED), PERPETUAL, ACCOUNT, False)
    assert (killed["status"], killed["finish_as"]) == ("finished", "cancelled")


def test_account_row_is_in_the_settlement_coin() -> None:
    margin = MarginAccount(Decimal("9707.8"), Decimal("3371.2"), Decimal("161.2"), Decimal("21.5"), Decimal("9525"))
    row = futures.account_row(ACCOUNT, margin, "USDT")
    assert (row["user"], row["currency"], row["total"], row["available"]) == (10001, "USDT", "9707.8", "9525")
    assert row["in_dual_mode"] is False and "history" in row


@pytest.mark.parametrize("is_futures", [False, True])
def test_every_refusal_has_a_label(is_futures: bool) -> None:
    for reason in RejectReason:
        error = refusal(SimReject(reason, "5 < 6"), PERPETUAL if is_futures else SPOT, futures=is_futures)
        assert error.label.isupper() and error.text and 400 <= error.status < 500


def test_small_spot_orders_are_refused_with_the_recorded_text() -> None:
    reject = SimReject(RejectReason.NOTIONAL_TOO_SMALL, "0.003749448 < 3")
    error = refusal(reject, SPOT, futures=False)
    assert error.label == "INVALID_PARAM_VALUE"
    assert error.text == "Your order size 0.003749448 USDT is too small. The minimum is 3 USDT"


@pytest.mark.parametrize("text", ["x-1", "t-", "t-" + "a" * 29, "t-a b", "t-ä"])
def test_bad_texts_are_refused(text: str) -> None:
    with pytest.raises(GateError):
        client_text(ApiRequest(params={"text": text}))


def test_good_texts_pass_and_default_texts_mean_none() -> None:
    assert client_text(ApiRequest(params={"text": "t-" + "a" * 28})) == "t-" + "a" * 28
    assert client_text(ApiRequest(params={"text": "apiv4"})) == client_text(ApiRequest(params={})) == ""
    assert split_id("123") == (123, None) and split_id("t-1") == (None, "t-1")


@pytest.mark.parametrize("text", ["NaN", "1e999999999", "Infinity", "1_000", "٣", ""])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    if text == "1e999999999":
        with pytest.raises(GateError):
            number("1e9999999999999999999", "amount")
        return
    with pytest.raises(GateError):
        number(text, "amount")


def test_pages_count_from_one_and_offsets_from_zero() -> None:
    rows = list(range(10))
    assert page(rows, ApiRequest(params={"limit": "3"})) == [0, 1, 2]
    assert page(rows, ApiRequest(params={"limit": "3", "page": "2"})) == [3, 4, 5]
    assert page(rows, ApiRequest(params={"limit": "3", "offset": "9"})) == [9]


def test_countdown_fires_only_when_it_was_not_repeated_or_disarmed() -> None:
    fired: list[str | None] = []
    timers: list[Any] = []

    class Clock:
        def call_later(self, _: int, action: Any) -> None:
            timers.append(action)

    class Venue:
        clock = Clock()

        def cancel_all(self, _: SimAccount, symbol: str | None) -> None:
            fired.append(symbol)

    countdown = Countdown(Venue())  # type: ignore[arg-type]
    with pytest.raises(GateError):
        countdown.set(ACCOUNT, "", 4, 0)
    assert countdown.set(ACCOUNT, "BTC_USDT", 30, 1000) == {"triggerTime": "31000"}
    countdown.set(ACCOUNT, "BTC_USDT", 30, 2000)
    timers[0]()
    assert fired == []
    timers[1]()
    assert fired == ["BTC_USDT"]
    countdown.set(ACCOUNT, "", 5, 0)
    assert countdown.set(ACCOUNT, "", 0, 0) == {"triggerTime": "0"}
    timers[2]()
    assert fired == ["BTC_USDT"]
