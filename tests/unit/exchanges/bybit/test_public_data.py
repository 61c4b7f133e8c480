"""What is Bybit's own: codes under HTTP 200, answers to subscriptions, rows of spot and linear."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.bybit import symbols
from pipeline.exchanges.bybit.errors import error_of
from pipeline.exchanges.bybit.listing import parse_symbols, parse_volumes
from pipeline.exchanges.bybit.public_stream import make_public_stream
from pipeline.exchanges.feed.public_stream import ControlKind
from pipeline.exchanges.parsing.rows import OddRows
from pipeline.exchanges.transport.refusals import DUPLICATE
from pipeline.model.config import VenueConfig
from pipeline.model.enums import FeeAssetRule, InstrumentKind, TradingStatus
from pipeline.model.errors import (
    AuthRefused,
    ClockRefused,
    InsufficientBalance,
    OrderNotFound,
    OutcomeUnknown,
    RateLimited,
    VenueError,
    VenueRejected,
)

LINEAR = {
    "symbol": "ABCUSDT",
    "contractType": "LinearPerpetual",
    "status": "Trading",
    "baseCoin": "ABC",
    "quoteCoin": "USDT",
    "settleCoin": "USDT",
    "deliveryTime": "0",
    "priceFilter": {"tickSize": "0.01"},
    "lotSizeFilter": {
        "minOrderQty": "0.1",
        "qtyStep": "0.1",
        "maxOrderQty": "8000.0",
        "maxMktOrderQty": "1500.0",
        "minNotionalValue": "5",
    },
    "fundingInterval": 240,
}
SPOT = {
    "symbol": "ABCUSDT",
    "status": "Trading",
    "baseCoin": "ABC",
    "quoteCoin": "USDT",
    "priceFilter": {"tickSize": "0.01"},
    "lotSizeFilter": {"basePrecision": "0.0001", "minOrderQty": "0.5", "minOrderAmt": "5", "maxLimitOrderQty": "900"},
}


def listed(*rows: object) -> bytes:
    return json.dumps({"retCode": 0, "result": {"list": rows, "nextPageCursor": ""}}).encode()


def said(code: int, status: int = 200) -> VenueError | None:
    body = json.dumps({"retCode": code, "retMsg": "any text", "result": {}, "time": 1700000000123}).encode()
    return error_of("b", HttpReply(status=status, headers={}, body=body, recv_mono_ns=1))


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (10001, VenueRejected),
        (10002, ClockRefused),
        (10003, AuthRefused),
        (10006, RateLimited),
        (110007, InsufficientBalance),
        (170213, OrderNotFound),
        (10016, OutcomeUnknown),
        (170147, OutcomeUnknown),
        (123456, OutcomeUnknown),
    ],
)
def test_a_refusal_is_told_by_its_code_whatever_the_status(code: int, wanted: type[VenueError]) -> None:
    assert type(said(code)) is wanted
    assert said(0) is None


def test_a_duplicate_id_is_evidence_and_a_code_under_a_5xx_is_open() -> None:
    for code in (110072, 170141):
        error = said(code)
        assert isinstance(error, OutcomeUnknown) and error.api_code == DUPLICATE
    assert isinstance(said(110007, 503), OutcomeUnknown)


def stream(market: str = "spot") -> VenueConfig:
    return VenueConfig(
        name=f"bybit_{market}",
        exchange="bybit",
        market=market,
        dialect="bybit",
        venue_id=0,
        feed_id=0,
        rest="https://localhost",
        ws="wss://localhost/v5/public/spot",
        ws_private="",
        ws_api="",
        symbols=(),
    )


def test_each_topic_is_asked_for_and_answered_by_itself() -> None:
    public = make_public_stream(stream())
    requests = public.subscribe(["orderbook.50.AUSDT", "orderbook.1.AUSDT"], 7, 0)
    assert [json.loads(one.payload) for one in requests] == [
        {"req_id": "7", "op": "subscribe", "args": ["orderbook.50.AUSDT"]},
        {"req_id": "8", "op": "subscribe", "args": ["orderbook.1.AUSDT"]},
    ]
    assert [one.topics for one in requests] == [("orderbook.50.AUSDT",), ("orderbook.1.AUSDT",)]

    def answer(op: str, number: str, text: str = "", *, success: bool = True) -> bytes:
        return json.dumps({"success": success, "ret_msg": text, "conn_id": "c", "req_id": number, "op": op}).encode()

    taken = public.control(answer("subscribe", "7", "subscribe"))
    assert (taken.kind, taken.topics) == (ControlKind.ACK, ("orderbook.50.AUSDT",))
    refused = public.control(answer("subscribe", "8", "error:handler not found,topic:orderbook.1.AUSDT", success=False))
    assert (refused.kind, refused.topics) == (ControlKind.REFUSED, ("orderbook.1.AUSDT",))
    again = public.control(answer("subscribe", "8", "error:already subscribed,topic:orderbook.1.AUSDT", success=False))
    assert again.kind is ControlKind.ACK, "the topic stands"
    public.unsubscribe(["orderbook.50.AUSDT"], 9, 0)
    for number in ("9", "7"):
        assert public.control(answer("unsubscribe", number)).kind is ControlKind.OTHER, "that is no acknowledgement"
    for pong in (answer("ping", "", "pong"), b'{"op":"pong","args":["1700000000000"]}'):
        assert public.control(pong).kind is ControlKind.PONG


def test_rows_become_specs_with_the_venues_own_digits() -> None:
    quotes = symbols.parse_quotes(
        "b",
        listed(
            {"symbol": "ABCUSDT", "markPrice": "1.5", "fundingRate": "-0.0005", "nextFundingTime": "1700006400000"},
            {"symbol": "EMPTY", "markPrice": "", "lastPrice": "", "fundingRate": ""},
        ),
        OddRows(),
    )
    (found,) = symbols.parse_instruments(
        "b", "futures", [listed(), listed(LINEAR)], ["ABCUSDT"], quotes=quotes, odd=OddRows()
    )
    assert (found.kind, found.tick, found.lot, found.min_qty, found.max_qty, found.min_notional) == (
        InstrumentKind.PERPETUAL, Decimal("0.01"), Decimal("0.1"), Decimal("0.1"), Decimal(8000), Decimal(5),
    )  # fmt: skip
    assert (found.funding_interval_s, found.funding_rate_ppb, found.funding_next_wall_s) == (
        14_400, -500_000, 1_700_006_400,
    )  # fmt: skip
    assert (found.reference_price, found.fee_rule, found.trading_until_wall_s) == (
        Decimal("1.5"),
        FeeAssetRule.QUOTE,
        0,
    )
    (spot,) = symbols.parse_instruments("b", "spot", [listed(SPOT)], ["ABCUSDT"], quotes={}, odd=OddRows())
    assert (spot.lot, spot.min_qty, spot.max_qty, spot.min_notional, spot.fee_rule) == (
        Decimal("0.0001"), Decimal("0.0001"), Decimal(900), Decimal(5), FeeAssetRule.RECEIVED,
    )  # fmt: skip


def test_what_is_no_usdt_perpetual_is_not_listed_and_an_odd_row_costs_itself_alone() -> None:
    rows = (
        LINEAR,
        {**LINEAR, "symbol": "ABCPERP", "settleCoin": "USDC"},
        {**LINEAR, "symbol": "ABC-26JUN26", "contractType": "LinearFutures"},
        {**LINEAR, "symbol": "ENDUSDT", "deliveryTime": "1800000000000"},
        {**LINEAR, "symbol": "PREUSDT", "status": "PreLaunch"},
        {**LINEAR, "symbol": "ODDUSDT", "baseCoin": None},
    )
    odd = OddRows()
    assert parse_symbols("b", listed(*rows), odd) == [("ABCUSDT", "ABC", "USDT")] and odd.count == 1
    wanted = ["ENDUSDT", "PREUSDT", "ABCPERP", "ABCUSDT"]
    found = symbols.parse_instruments("b", "futures", [listed(*rows)], wanted, quotes={}, odd=OddRows())
    assert [(one.symbol, one.status, one.trading_until_wall_s) for one in found] == [
        ("ENDUSDT", TradingStatus.TRADING, 1_800_000_000),
        ("PREUSDT", TradingStatus.HALTED, 0),
        ("ABCUSDT", TradingStatus.TRADING, 0),
    ]
    volumes = parse_volumes(
        "b", listed({"symbol": "A", "turnover24h": "12.5"}, {"symbol": "B", "turnover24h": ""}), odd
    )
    assert volumes == {"A": Decimal("12.5")}
