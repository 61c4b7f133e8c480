"""Public stream sessions: frames out, acknowledgements, refusals, pongs and notices in."""

from __future__ import annotations

import json

import pytest

from pipeline.exchanges.binance.public_stream import BinancePublicStream
from pipeline.exchanges.factory import make_public_stream
from pipeline.exchanges.feed.public_stream import ControlKind, PublicStream
from pipeline.exchanges.gateio.public_stream import GatePublicStream
from pipeline.exchanges.mexc.public_stream import MexcPublicStream, parse_ack
from pipeline.model.config import VenueConfig
from pipeline.model.errors import ProtocolViolation

A, B, C = (f"spot@public.aggre.depth.v3.api.pb@10ms@{s}USDT" for s in ("BTC", "ETH", "XYZ"))


def venue(dialect: str, market: str, ws: str = "wss://host/ws") -> VenueConfig:
    return VenueConfig(
        name=f"{dialect}_{market}", exchange=dialect, market=market, dialect=dialect, venue_id=0, feed_id=0,
        rest="https://host", ws=ws, ws_private="", ws_api="", symbols=(),
    )  # fmt: skip


def test_streams_that_begin_with_whole_books_of_their_own_have_no_twin() -> None:
    assert not make_public_stream(venue("bybit", "spot")).can_be_doubled
    assert make_public_stream(venue("gateio", "spot")).can_be_doubled


# --- MEXC ---


@pytest.mark.parametrize(
    ("msg", "accepted", "refused"),
    [
        (A, [A], {}),
        (f"{A},{B}", [A, B], {}),
        (f"Not Subscribed successfully! [{C}].  Reason： Blocked! ", [], {C: "Blocked!"}),
        (
            f"Subscribed successful! [{A},{B}]. Not Subscribed successfully! [{C}].  Reason： Blocked! ",
            [A, B],
            {C: "Blocked!"},
        ),
        ("PONG", [], {}),
        ("", [], {}),
        ("something else entirely", [], {}),
    ],
)
def test_mexc_acknowledgements_and_refusals_with_the_same_code(
    msg: str, accepted: list[str], refused: dict[str, str]
) -> None:
    assert parse_ack(msg) == (accepted, refused)


def test_mexc_control_frames() -> None:
    session = MexcPublicStream(venue("mexc", "spot"))
    assert session.control(b'{"id":0,"code":0,"msg":"PONG"}').kind is ControlKind.PONG
    ack = session.control(json.dumps({"id": 0, "code": 0, "msg": f"{A},{B}"}).encode())
    assert ack.kind is ControlKind.ACK and ack.topics == (A, B)
    text = f"Not Subscribed successfully! [{C}].  Reason： Blocked! "
    refusal = session.control(json.dumps({"id": 0, "code": 0, "msg": text}, ensure_ascii=False).encode())
    assert refusal.kind is ControlKind.REFUSED and refusal.topics == (C,) and refusal.reason == "Blocked!"


def test_mexc_subscribe_frame_and_limits() -> None:
    session = MexcPublicStream(venue("mexc", "spot"))
    (request,) = session.subscribe([session.book_topic("BTCUSDT"), session.book_topic("ETHUSDT")], 7, 0)
    assert json.loads(request.payload) == {"method": "SUBSCRIPTION", "params": [A, B], "id": 7}
    assert session.topics_per_connection_max == 30 and session.ping(0) == b'{"method":"PING"}'
    assert session.subscribe([], 8, 0) == []


# --- Gate.io ---


def test_gate_asks_each_topic_by_itself_because_one_bad_symbol_fails_a_payload() -> None:
    session = GatePublicStream(venue("gateio", "futures"))
    requests = session.subscribe([session.book_topic("BTC_USDT"), session.anchor_topic("BTC_USDT")], 5, 1_700_000_000)
    assert [json.loads(request.payload) for request in requests] == [
        {"time": 1700000000, "id": 5, "channel": "futures.order_book_update", "event": "subscribe",
         "payload": ["BTC_USDT", "100ms", "100"]},
        {"time": 1700000000, "id": 6, "channel": "futures.book_ticker", "event": "subscribe", "payload": ["BTC_USDT"]},
    ]  # fmt: skip


def test_gate_answers_are_matched_by_id_then_by_payload_then_not_at_all() -> None:
    session = GatePublicStream(venue("gateio", "spot"))
    topic = session.book_topic("BTC_USDT")
    session.subscribe([topic], 5, 0)
    base = '"channel":"spot.order_book_update","event":"subscribe"'
    by_id = session.control(f'{{"time":1,"id":5,{base},"error":null,"result":{{"status":"success"}}}}'.encode())
    assert by_id.kind is ControlKind.ACK and by_id.topics == (topic,)
    echo = session.control(
        f'{{"time":1,{base},"payload":["BTC_USDT","100ms"],"result":{{"status":"success"}}}}'.encode()
    )
    assert echo.kind is ControlKind.ACK and echo.topics == (topic,)
    # as recorded in 2021: neither id nor payload
    bare = session.control(f'{{"time":1619093532,{base},"result":{{"status":"success"}}}}'.encode())
    assert bare.kind is ControlKind.ACK and bare.topics == ()


def test_gate_refusal_of_the_sheet() -> None:
    session = GatePublicStream(venue("gateio", "spot"))
    session.subscribe([session.book_topic("X")], 1, 0)
    frame = (
        b'{"time":1,"time_ms":1,"id":1,"conn_id":"c","trace_id":"t","channel":"spot.order_book_update",'
        b'"event":"subscribe","payload":["X","100ms"],"error":{"code":2,"message":"unknown currency pair: X"},'
        b'"result":{"status":"fail"}}'
    )
    control = session.control(frame)
    assert control.kind is ControlKind.REFUSED and "unknown currency pair: X" in control.reason


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b'{"time":1,"time_ms":2,"channel":"spot.pong","event":"","error":null,"result":null}', ControlKind.PONG),
        (b'{"time":1,"channel":"futures.system","event":"update","result":{"type":"upgrade"}}', ControlKind.RECONNECT),
        (b'{"time":1,"channel":"futures.system","event":"update","result":{"type":"news"}}', ControlKind.OTHER),
        (b'{"time":1,"channel":"spot.trades","event":"update","result":{}}', ControlKind.OTHER),
    ],
)
def test_gate_other_control_frames(frame: bytes, kind: ControlKind) -> None:
    assert GatePublicStream(venue("gateio", "futures")).control(frame).kind is kind


def test_gate_asks_for_decimal_sizes() -> None:
    assert GatePublicStream(venue("gateio", "futures")).headers() == {"X-Gate-Size-Decimal": "1"}


# --- Binance ---


def test_binance_url_routes_books_of_futures_to_public() -> None:
    assert BinancePublicStream(venue("binance", "spot", "wss://h:9443")).url() == "wss://h:9443/ws"
    assert BinancePublicStream(venue("binance", "futures", "wss://f")).url() == "wss://f/public/ws"


def test_binance_acknowledgement_error_and_shutdown() -> None:
    session = BinancePublicStream(venue("binance", "spot"))
    topics = [session.book_topic("BTCUSDT"), session.anchor_topic("BTCUSDT")]
    (request,) = session.subscribe(topics, 3, 0)
    assert json.loads(request.payload)["params"] == ["btcusdt@depth@100ms", "btcusdt@bookTicker"]
    assert session.control(b'{"result":null,"id":3}').topics == tuple(topics)
    refused = session.control(b'{"error":{"code":2,"msg":"Invalid request: x"},"id":3}')
    assert refused.kind is ControlKind.REFUSED and refused.topics == tuple(topics)
    assert session.control(b'{"code":3,"msg":"Invalid JSON"}').kind is ControlKind.REFUSED
    assert session.control(b'{"e":"serverShutdown","E":1}').kind is ControlKind.RECONNECT


@pytest.mark.parametrize(
    "session",
    [
        MexcPublicStream(venue("mexc", "spot")),
        GatePublicStream(venue("gateio", "spot")),
        BinancePublicStream(venue("binance", "spot")),
    ],
)
@pytest.mark.parametrize("bad", [b"", b"not json", b"[]", b'"x"', b"\xff\xfe"])
def test_bytes_that_are_no_control_frame_are_a_protocol_violation(session: PublicStream, bad: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        session.control(bad)
