"""Frames of every dialect with their meaning, and the comparison of a byte scanner with the reference decoder."""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.book.codec import Decoded, FeedCodec, Number
from pipeline.book.memory import (
    EVENT,
    FRAME_BYTE,
    LEVEL,
    TOPIC_CONTROL,
    TOPIC_DEPTH,
    TOPIC_OTHER,
    TOPIC_SNAPSHOT,
    TOPIC_TICKER,
    TOPIC_UNKNOWN,
    new_memory,
)
from pipeline.model.errors import ProtocolViolation

MARKETS = [("binance", "spot"), ("binance", "futures"), ("gateio", "spot"), ("gateio", "futures")]
MEMORY = {key: new_memory(1, 0, blocks=1) for key in [*MARKETS, ("mexc", "spot")]}


def put(codec: FeedCodec, mem: Any, frame: bytes, behind: bytes = b"") -> None:
    """Writes the venue's rules and the frame into the books' memory; ``behind``: what lies behind the frame."""
    codec.rule.write(mem)
    memoryview(mem).cast("B")[FRAME_BYTE : FRAME_BYTE + len(frame) + len(behind)] = frame + behind


def read_event(mem: Any, topic: int) -> Decoded:
    """The scanned event in the reference decoder's form."""
    at = int(mem[EVENT.symbol_byte])
    symbol = bytes(memoryview(mem).cast("B")[at : at + int(mem[EVENT.symbol_len])]).decode()
    if topic in (TOPIC_OTHER, TOPIC_CONTROL):
        return Decoded(topic=topic)

    def levels(off: int, count: int) -> tuple[tuple[Number, Number], ...]:
        rows = [mem[int(mem[off]) + k * LEVEL.WORDS :][:4] for k in range(int(mem[count]))]
        return tuple(((int(r[0]), int(r[2])), (int(r[1]), int(r[3]))) for r in rows)

    def tick(k: int) -> Number | None:
        mantissa, digits = (int(word) for word in mem[EVENT.tick + 2 * k : EVENT.tick + 2 * k + 2])
        return None if digits < 0 else (mantissa, digits)

    first, last = int(mem[EVENT.first_id]), int(mem[EVENT.last_id])
    if topic == TOPIC_TICKER:
        ticks = (tick(0), tick(1), tick(2), tick(3))
        return Decoded(topic=topic, symbol=symbol, last=last, time=int(mem[EVENT.time]), tick=ticks)
    return Decoded(
        topic=topic,
        symbol=symbol if topic == TOPIC_DEPTH else "",
        first=first if topic == TOPIC_DEPTH else last,
        last=last,
        previous=int(mem[EVENT.previous_id]),
        full=bool(mem[EVENT.full]),
        time=int(mem[EVENT.time]),
        bids=levels(EVENT.bid_off, EVENT.bid_count),
        asks=levels(EVENT.ask_off, EVENT.ask_count),
    )


def shortest(number: Number | None) -> Number | None:
    """The same value without zeros at its end."""
    if number is None:
        return None
    mantissa, digits = number
    while digits and mantissa % 10 == 0:
        mantissa, digits = mantissa // 10, digits - 1
    return mantissa, digits


def by_value(event: Decoded) -> Decoded:
    """``event`` with every number as short as it goes."""
    sides = [tuple((shortest(p), shortest(q)) for p, q in side) for side in (event.bids, event.asks)]
    ticks = tuple(shortest(number) for number in event.tick)
    return msgspec.structs.replace(event, bids=sides[0], asks=sides[1], tick=ticks)


def beyond_64_bits(event: Decoded) -> bool:
    """Whether a number needs more than the scanner's word: then zeros at its end may be left out."""
    numbers = [number for level in event.bids + event.asks for number in level]
    return any(number is not None and number[0] >= 2**63 for number in (*numbers, *event.tick))


def assert_equal(scanned: Decoded, wanted: Decoded, frame: bytes) -> None:
    """The scanner's event equals the reference decoder's, by value where a number is beyond the scanner's word."""
    if beyond_64_bits(wanted):
        assert by_value(scanned) == by_value(wanted), frame
    else:
        assert scanned == wanted, frame


def assert_snapshot_equal(codec: FeedCodec, mem: Any, frame: bytes, behind: bytes = b"") -> int:
    """:func:`assert_scan_equal` for a REST order book."""
    put(codec, mem, frame, behind)
    topic = int(codec.scan_snapshot(mem, len(frame)))
    if topic == TOPIC_SNAPSHOT:
        assert_equal(read_event(mem, topic), codec.reference_snapshot(frame), frame)
    return topic


def assert_scan_equal(codec: FeedCodec, mem: Any, frame: bytes, behind: bytes = b"") -> int:
    """Scans, compares with the reference decoder, returns the topic."""
    put(codec, mem, frame, behind)
    topic = int(codec.scan_frame(mem, len(frame)))
    if topic == TOPIC_UNKNOWN:
        return topic
    scanned = read_event(mem, topic)
    try:
        wanted = codec.reference(frame)
    except ProtocolViolation:
        # The rest of a frame that is not for books is not read.
        assert topic in (TOPIC_OTHER, TOPIC_CONTROL), frame
        return topic
    if topic in (TOPIC_OTHER, TOPIC_CONTROL):
        assert wanted.topic == topic, frame
        return topic
    assert_equal(scanned, wanted, frame)
    return topic


# --- golden frames ---

GOLDEN: list[tuple[str, str, bytes, Decoded]] = [
    (
        "binance",
        "spot",
        b'{"e":"depthUpdate","E":1633998512068,"s":"NKNUSDT","U":499869750,"u":499869752,'
        b'"b":[["0.35130000","6195.00000000"]],"a":[]}',
        Decoded(
            topic=TOPIC_DEPTH,
            symbol="NKNUSDT",
            first=499869750,
            last=499869752,
            time=1633998512068,
            bids=(((35130000, 8), (619500000000, 8)),),
        ),
    ),
    (
        "binance",
        "spot",
        b'{"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}',
        Decoded(
            topic=TOPIC_TICKER,
            symbol="BNBUSDT",
            last=400900217,
            tick=((2535190000, 8), (3121000000, 8), (2536520000, 8), (4066000000, 8)),
        ),
    ),
    (
        "binance",
        "futures",
        b'{"stream":"sushiusdt@depth@0ms","data":{"e":"depthUpdate","E":1626992741037,"T":1626992741024,'
        b'"s":"SUSHIUSDT","U":600859599090,"u":600859600917,"pu":600859598061,'
        b'"b":[["7.5040","813"],["7.6090","0"]],"a":[["7.6150","1563"]],"ps":"SUSHIUSDT","st":1}}',
        Decoded(
            topic=TOPIC_DEPTH,
            symbol="SUSHIUSDT",
            first=600859599090,
            last=600859600917,
            previous=600859598061,
            time=1626992741037,
            bids=(((75040, 4), (813, 0)), ((76090, 4), (0, 0))),
            asks=(((76150, 4), (1563, 0)),),
        ),
    ),
    (
        "binance",
        "futures",
        b'{"e":"bookTicker","u":600859600576,"s":"SUSHIUSDT","b":"7.6110","B":"2","a":"7.6120","A":"297",'
        b'"T":1626992741000,"E":1626992741003}',
        Decoded(
            topic=TOPIC_TICKER,
            symbol="SUSHIUSDT",
            last=600859600576,
            time=1626992741003,
            tick=((76110, 4), (2, 0), (76120, 4), (297, 0)),
        ),
    ),
    ("binance", "spot", b'{"result":null,"id":1}', Decoded(topic=TOPIC_CONTROL)),
    ("binance", "spot", b'{"code":2,"msg":"Invalid request: unknown"}', Decoded(topic=TOPIC_CONTROL)),
    ("binance", "spot", b'{"e":"serverShutdown","E":1633998512068}', Decoded(topic=TOPIC_CONTROL)),
    (
        "binance",
        "spot",
        b'{"e":"trade","E":1,"s":"X","t":12345,"p":"0.001","q":"100","T":1,"m":true,"M":true}',
        Decoded(topic=TOPIC_OTHER),
    ),
    (
        "gateio",
        "spot",
        b'{"time":1606294781,"time_ms":1606294781236,"channel":"spot.order_book_update","event":"update","result":'
        b'{"t":1606294781123,"e":"depthUpdate","E":1606294781,"s":"BTC_USDT","U":48776301,"u":48776306,'
        b'"b":[["19137.74","0.0001"]],"a":[],"l":"100"}}',
        Decoded(
            topic=TOPIC_DEPTH,
            symbol="BTC_USDT",
            first=48776301,
            last=48776306,
            time=1606294781123,
            bids=(((1913774, 2), (1, 4)),),
        ),
    ),
    (
        "gateio",
        "futures",
        b'{"time":1684930165,"time_ms":1684930165254,"channel":"futures.order_book_update","event":"update",'
        b'"result":{"U":203083177,"a":[{"p":"0.2983","s":0}],"b":[],"s":"RDNT_USDT","t":1684930165217,"u":203083177}}',
        Decoded(
            topic=TOPIC_DEPTH,
            symbol="RDNT_USDT",
            first=203083177,
            last=203083177,
            time=1684930165217,
            asks=(((2983, 4), (0, 0)),),
        ),
    ),
    (
        "gateio",
        "spot",
        b'{"time":1,"channel":"spot.obu","event":"update","result":{"t":5,"full":true,"s":"ob.XRP_USDT.50",'
        b'"u":9649549324,"b":[["1.414","1397.899"]],"a":[["1.415","17344.926"]]}}',
        Decoded(
            topic=TOPIC_DEPTH,
            symbol="XRP_USDT",
            first=9649549324,
            last=9649549324,
            full=True,
            time=5,
            bids=(((1414, 3), (1397899, 3)),),
            asks=(((1415, 3), (17344926, 3)),),
        ),
    ),
    (
        "gateio",
        "futures",
        b'{"time":1,"channel":"futures.book_ticker","event":"update","result":{"t":5,"u":6,"s":"BTC_USDT",'
        b'"b":"54696.6","B":37000,"a":"","A":0}}',
        Decoded(topic=TOPIC_TICKER, symbol="BTC_USDT", last=6, time=5, tick=((546966, 1), (37000, 0), None, (0, 0))),
    ),
    (
        "gateio",
        "spot",
        b'{"time":1619093532,"channel":"spot.order_book_update","event":"subscribe","result":{"status":"success"}}',
        Decoded(topic=TOPIC_CONTROL),
    ),
    (
        "gateio",
        "spot",
        b'{"time":1,"time_ms":1,"channel":"spot.pong","event":"","error":null,"result":null}',
        Decoded(topic=TOPIC_CONTROL),
    ),
    (
        "mexc",
        "spot",
        bytes.fromhex(
            "0a2f73706f74407075626c69632e61676772652e64657074682e76332e6170692e7062403130306d7340425443555344541a07425443"
            "5553445430fbd095ffbc31ca13560a0d0a0836353030302e353112013012100a0836353030302e35301204302e32351a2773706f7440"
            "7075626c69632e61676772652e64657074682e76332e6170692e7062403130306d732204313030312a0431303033"
        ),
        Decoded(
            topic=TOPIC_DEPTH,
            symbol="BTCUSDT",
            first=1001,
            last=1003,
            time=1700000000123,
            asks=(((6500051, 2), (0, 0)),),
            bids=(((6500050, 2), (25, 2)),),
        ),
    ),
    (
        "mexc",
        "spot",
        bytes.fromhex(
            "0a3473706f74407075626c69632e61676772652e626f6f6b5469636b65722e76332e6170692e7062403130306d734042544355534454"
            "1a074254435553445430a7d3d2f18b34da133e0a0838303533352e38381208302e3338303439371a0838303533352e3839220a302e33"
            "333333363335362a0b3831373231363736323137308ed3d2f18b34"
        ),
        Decoded(
            topic=TOPIC_TICKER,
            symbol="BTCUSDT",
            last=81721676217,
            time=1789897517479,
            tick=((8053588, 2), (380497, 6), (8053589, 2), (33336356, 8)),
        ),
    ),
    ("mexc", "spot", b'{"id":0,"code":0,"msg":"PONG"}', Decoded(topic=TOPIC_CONTROL)),
]
