"""Frames of every dialect with their meaning, and the comparison of a byte scanner with the reference decoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec

from pipeline.book.codec import Decoded, FeedCodec, Number
from pipeline.book.memory import (
    TOPIC_CONTROL,
    TOPIC_OTHER,
    TOPIC_SNAPSHOT,
    TOPIC_UNKNOWN,
    new_memory,
)
from pipeline.conformance.frames import golden_of, put_frame, read_event
from pipeline.model.dialects import dialect_names, facts_of
from pipeline.model.errors import ProtocolViolation

MARKETS = [(name, market) for name in dialect_names() for market in facts_of(name).markets]
MEMORY = {key: new_memory(1, 0, blocks=1) for key in MARKETS}


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
    put_frame(codec, mem, frame, behind)
    topic = int(codec.scan_snapshot(mem, len(frame)))
    if topic == TOPIC_SNAPSHOT:
        assert_equal(read_event(mem, topic), codec.reference_snapshot(frame), frame)
    return topic


def assert_scan_equal(codec: FeedCodec, mem: Any, frame: bytes, behind: bytes = b"") -> int:
    """Scans, compares with the reference decoder, returns the topic."""
    put_frame(codec, mem, frame, behind)
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
        # Nor is what a key says a second time: by JSON's rule the last word counts, and no book sees the frame.
        repeated = any(frame.count(key) > 1 for key in (b'"channel"', b'"event"', b'"e"', b'"stream"'))
        assert wanted.topic == topic or repeated, frame
        return topic
    assert_equal(scanned, wanted, frame)
    return topic


# --- golden frames ---

GOLDEN: list[tuple[str, str, bytes, Decoded]] = [
    (dialect, market, row.payload, row.wanted)
    for dialect in dialect_names()
    for market, golden in golden_of(dialect).items()
    for row in golden.frames
]

# --- every shape that a scanner knows: seeds of the hostile tests and of the fuzz campaign ---

JSON_SHAPES: list[tuple[str, str, bytes]] = [
    (
        "binance",
        "spot",
        b'{"stream":"a@depth","data":{"e":"depthUpdate","E":1,"s":"A","U":1,"u":123456789012,"b":[[12345678901.5,"0.00"],'
        b'["1.123456789","12345678901234567"]],"a":[ [ "1" , "2.000000000000" ] ],"x":-1.5,"m":null,"M":true}}',
    ),
    ("binance", "spot", b'{"stream":"a@depth5","data":{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[]}}'),
    ("binance", "futures", b'{"stream":"a@ticker","data":{"u":7,"s":"A","b":"","B":"0","a":"1.5","A":12.25}}'),
    (
        "gateio",
        "futures",
        b'{"result":{},"channel":"futures.order_book_update","event":"all"}',
    ),
    (
        "gateio",
        "futures",
        b'{"channel":"futures.order_book_update","event":"all","result":{"s":"A_B","U":1,"u":2,"full":false,"t":9,'
        b'"b":[{"s":"12.5","p":0.5},{"p":"123456789.123456789","s":1234567890123}],"a":[{ "p" : "1" , "s" : 2 }]},'
        b'"x":"y"}',
    ),
    ("gateio", "spot", b'{"channel":"spot.obu","event":"update","result":{"s":"ob.A.50","full":true,"u":7,"t":1}}'),
    ("gateio", "spot", b'{"channel":"spot.trades","event":"update","result":{"id":1}}'),
    ("gateio", "spot", b'{"header":{"status":"200"},"data":{"result":{}},"request_id":"r"}'),
]
SNAPSHOTS = [
    b'{"lastUpdateId":1027024,"bids":[["4.00000000","431.00000000"]],"asks":[["4.00000200","12.00000000"],["5","1"]]}',
    b'{"id":123456,"current":1623898993123,"update":1623898993121,"asks":[["1.52","1.151"]],"bids":[["1.17","201.863"]]}',
    b'{ "current" : 1.5 , "id" : 7 , "asks" : [ {"p":"100","s":1 } ] , "bids" : [ ] , "x" : false }',
    b'{"lastUpdateId":1,"bids":[["59000.00","1.000000"]],"asks":[],"timestamp":1700000000000}',
]

Fields: TypeAlias = "list[tuple[int, int | bytes | Fields]]"
Spelling: TypeAlias = "Callable[[int, bytes, bool], bytes]"  # number, content, is it a varint


def varint(value: int, size: int = 0) -> bytes:
    """``value`` as a protobuf varint, of ``size`` bytes if that is more than it needs."""
    out = bytearray()
    while value > 127 or len(out) < size - 1:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes, is_varint: bool, *, tag: int = 0, length: int = 0, size: int = -1) -> bytes:
    """A protobuf field; ``tag`` and ``length``: bytes of these two varints; ``size``: a length that is not true."""
    head = varint(number << 3 | (0 if is_varint else 2), tag)
    return head + content if is_varint else head + varint(len(content) if size < 0 else size, length) + content


def encode(fields: Fields, target: tuple[int, ...] = (), spell: Spelling = field, path: tuple[int, ...] = ()) -> bytes:
    """A message; the field at the place ``target`` is spelled by ``spell``, the lengths around it are right."""
    out = b""
    for k, (number, value) in enumerate(fields):
        here = (*path, k)
        content = value if isinstance(value, bytes) else b""
        if isinstance(value, list):
            content = encode(value, target, spell, here)
        if isinstance(value, int):
            content = varint(value)
        out += (spell if here == target else field)(number, content, isinstance(value, int))
    return out


def places(fields: Fields, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Every field of a message and of those inside it."""
    for k, (_, value) in enumerate(fields):
        yield (*path, k)
        if isinstance(value, list):
            yield from places(value, (*path, k))


ASK: Fields = [(1, b"65000.51"), (2, b"0")]
BID: Fields = [(1, b"65000.50"), (2, b"0.25")]
TEXTS: Fields = [(3, b"x@100ms"), (4, b"1001"), (5, b"1003")]
TICK: Fields = [(1, b"80535.88"), (2, b"0.38"), (3, b"80535.89"), (4, b"0.3"), (5, b"81721676217")]
CREATED: Fields = [(6, 1_700_000_000_123)]
BODIES: dict[str, tuple[int, Fields]] = {
    "depth-time-last": (313, [(1, ASK), (2, BID), (2, ASK), *TEXTS, *CREATED]),
    "depth-time-first": (313, [*CREATED, (2, BID), (1, ASK), *TEXTS]),
    "depth-time-between": (313, [(1, ASK), *CREATED, *TEXTS, (2, BID)]),
    "depth-no-levels": (313, TEXTS),
    "ticker-time-last": (315, [*TICK, *CREATED]),
    "ticker-time-first": (315, [*CREATED, *TICK]),
    "ticker-bare": (315, TICK),
    "deals": (314, [(1, [(1, b"1.5"), (4, 300)]), (2, b"x")]),
}
CHANNEL: Fields = [(1, b"spot@public@BTCUSDT")]
HEAD: Fields = [(3, b"BTCUSDT"), (5, 300), (6, 1_700_000_000_123)]
UNKNOWN: Fields = [(2, b"unknown"), (7, 130)]


def wrappers(name: str) -> list[Fields]:
    """The body at the end, at the start and between, with and without fields that the schema does not have."""
    body = BODIES[name]
    return [[*CHANNEL, *HEAD, body], [body, *CHANNEL, *HEAD], [*CHANNEL, *UNKNOWN, body, *HEAD]]


def frames() -> list[tuple[str, str, bytes]]:
    """Golden and other frames of all dialects, JSON as it is and with white space wherever it may be."""
    found = [(dialect, market, frame) for dialect, market, frame, _ in GOLDEN] + JSON_SHAPES
    spaced = [
        (dialect, market, json.dumps(json.loads(frame), separators=(" ,\n", "\t: ")).encode() + b" \r")
        for dialect, market, frame in found
        if frame[:1] == b"{" and dialect != "mexc"
    ]
    mexc = [("mexc", "spot", encode(fields)) for name in BODIES for fields in wrappers(name)]
    return found + spaced + mexc


FRAMES = frames()
IDS = [f"{dialect}-{market}-{k}" for k, (dialect, market, _) in enumerate(FRAMES)]
