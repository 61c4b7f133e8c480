"""Bybit public streams, spot and linear: books of 50 levels, best prices.

::

    {"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1700000000020,"data":{"s":"BTCUSDT","b":[["65000.10","0.4"],
     ["64999.90","0"]],"a":[],"u":1001,"seq":90000123},"cts":1700000000017}
    {"topic":"orderbook.1.BTCUSDT","type":"snapshot","ts":…,"data":{"s":"BTCUSDT","b":[["65000.10","0.4"]],
     "a":[["65000.20","1.1"]],"u":777,"seq":90000124},"cts":…}

``ts`` is the time of the push. Type ``snapshot`` replaces the book. ``u`` grows by one with each push of a topic; other
depths count by themselves, so that a ticker (``orderbook.1``) never contradicts a book at once. Both topics show the
same orders: where a later ticker has another best price or quantity than the book, an update must follow
(``TICKER_TOP``). A quiet ticker is repeated after 3 s. An answer has ``op``.

Doubt: that ``u`` grows by one is promised for another topic only; readers of the linear one found no exception in
100,000. Where it does not, the book is lost and asked for again: to the careful side.

A snapshot by REST counts the updates of yet another depth. It is read as standing at id 1: whatever the stream sends
comes after it.

Source: Bybit V5 documentation of the order book topics and of /v5/market/orderbook (read 2026).
"""

from __future__ import annotations

from pipeline.book import memory
from pipeline.book.codec import Decoded, FeedCodec, Level, Number
from pipeline.book.frame_kernels import route
from pipeline.book.memory import (
    EVENT,
    FRAME_BYTE,
    LEVEL,
    SYMBOL_BYTES,
    TICKER_TOP,
    TOPIC_CONTROL,
    TOPIC_DEPTH,
    TOPIC_OTHER,
    TOPIC_SNAPSHOT,
    TOPIC_TICKER,
    TOPIC_UNKNOWN,
)
from pipeline.book.sequencer import SequenceRule
from pipeline.exchanges.parsing import json_fields as keys
from pipeline.exchanges.parsing import json_scanner as scan
from pipeline.exchanges.parsing import reference_decoder as ref
from pipeline.exchanges.parsing.json_scanner import BAD, COLON, COMMA, CONTROL, OPEN, OTHER, QUOTE
from shm.bytewords import load1
from shm.jit import njit_bare as njit
from shm.words import Words

_K_TOPIC = scan.packed("topic")
_K_TYPE = scan.packed("type")
_K_TS = scan.packed("ts")
_K_DATA = scan.packed("data")
_K_OP = scan.packed("op")
_V_BOOK_1, _V_BOOK_2 = scan.packed("orderboo"), scan.packed("k.")
_V_SNAPSHOT, _V_DELTA = scan.packed("snapshot"), scan.packed("delta")
_V_50, _V_1 = scan.packed("50."), scan.packed("1.")
_TOPIC_OTHER, _TOPIC_BOOK, _TOPIC_BEST = 1, 2, 3
_TYPE_SNAPSHOT, _TYPE_DELTA = 1, 2
_SEEN_TOPIC, _SEEN_TYPE, _SEEN_TIME, _SEEN_DATA = 1, 2, 4, 8
_NEEDED = memory.KEY_SYMBOL | memory.KEY_LAST | memory.KEY_BID | memory.KEY_ASK
#: Id at which a snapshot by REST stands.
REST_ID = 1


@njit
def topic_code(mem: Words, i: int, end: int) -> int:
    """Which of our topics the text is: ``orderbook.50.SYMBOL`` or ``orderbook.1.SYMBOL``."""
    length = end - i
    if length < 13 or scan.word_at(mem, i, 8) != _V_BOOK_1 or scan.word_at(mem, i + 8, 2) != _V_BOOK_2:
        return _TOPIC_OTHER
    if scan.word_at(mem, i + 10, 3) == _V_50:
        return _TOPIC_BOOK
    return _TOPIC_BEST if scan.word_at(mem, i + 10, 2) == _V_1 else _TOPIC_OTHER


@njit
def type_code(mem: Words, i: int, end: int) -> int:
    """Snapshot or delta; 0 for another type."""
    length = end - i
    one = scan.word_at(mem, i, length)
    if length == 8 and one == _V_SNAPSHOT:
        return _TYPE_SNAPSHOT
    return _TYPE_DELTA if length == 5 and one == _V_DELTA else 0


@njit
def scan_text(mem: Words, i: int) -> int:
    """Index of the closing quote of the text at ``i``; ``BAD`` where there is none."""
    return scan.skip_string(mem, i + 1) if load1(mem, i) == QUOTE else BAD


@njit
def scan_envelope(mem: Words, i: int) -> tuple[int, int, int]:
    """(topic code, type code, byte index behind the frame's brace); index ``BAD``, ``OTHER`` or ``CONTROL``. ``i`` at
    the brace. The push's time goes into the event."""
    topic = kind = seen = bit = 0
    i += 1
    while True:
        i = scan.expect(mem, i, QUOTE)
        if i < 0:
            return 0, 0, BAD
        end = scan.skip_string(mem, i)
        if end < 0:
            return 0, 0, BAD
        length = end - i
        key = scan.word_at(mem, i, length)
        i = scan.expect(mem, end + 1, COLON)
        if i < 0:
            return 0, 0, BAD
        i = scan.skip_space(mem, i)
        bit = 0
        if length == 2 and key == _K_OP:
            return 0, 0, CONTROL
        if length == 5 and key == _K_TOPIC:
            bit = _SEEN_TOPIC
            end = scan_text(mem, i)
            if end < 0:
                return 0, 0, BAD
            topic = topic_code(mem, i + 1, end)
            if topic == _TOPIC_OTHER:
                return 0, 0, OTHER
            i = end + 1
        elif length == 4 and key == _K_TYPE:
            bit = _SEEN_TYPE
            end = scan_text(mem, i)
            if end < 0:
                return 0, 0, BAD
            kind = type_code(mem, i + 1, end)
            i = end + 1
        elif length == 2 and key == _K_TS:
            bit = _SEEN_TIME
            mem[EVENT.time_2], i = scan.scan_integer(mem, i)
        elif length == 4 and key == _K_DATA:
            bit = _SEEN_DATA
            if load1(mem, i) != OPEN or not seen & _SEEN_TOPIC:
                return 0, 0, BAD
            i = keys.scan_fields(mem, i, keys.MODE_FRAME)
        else:
            i = scan.skip_scalar(mem, i)
        if i < 0 or seen & bit:
            return 0, 0, BAD
        seen |= bit
        c = load1(mem, i)
        if c != COMMA and c != scan.CLOSE:
            i = scan.skip_space(mem, i)
            c = load1(mem, i)
        if c == scan.CLOSE:
            whole = seen == (_SEEN_TOPIC | _SEEN_TYPE | _SEEN_TIME | _SEEN_DATA)
            return topic, kind, i + 1 if whole else BAD
        if c != COMMA:
            return 0, 0, BAD
        i += 1


@njit
def scan_frame(mem: Words, length: int) -> int:
    """Scans the frame in memory into the event; a ``TOPIC_*``."""
    keys.clear_event(mem)
    scan.end_frame(mem, length)
    i = scan.skip_space(mem, FRAME_BYTE)
    if load1(mem, i) != OPEN:
        return TOPIC_UNKNOWN
    topic, kind, i = scan_envelope(mem, i)
    if i == OTHER:
        return TOPIC_OTHER
    if i == CONTROL:
        return TOPIC_CONTROL
    if i == BAD or not scan.at_end(mem, i, length) or kind == 0:
        return TOPIC_UNKNOWN
    if mem[EVENT.seen_keys] != _NEEDED or mem[EVENT.last_id] <= 0:
        return TOPIC_UNKNOWN
    if mem[EVENT.symbol_len] < 1 or mem[EVENT.symbol_len] > SYMBOL_BYTES:
        return TOPIC_UNKNOWN
    mem[EVENT.time] = mem[EVENT.time_2]
    if topic == _TOPIC_BEST:
        return best_prices(mem) if kind == _TYPE_SNAPSHOT else TOPIC_UNKNOWN
    mem[EVENT.first_id] = mem[EVENT.last_id]
    mem[EVENT.full] = int(kind == _TYPE_SNAPSHOT)
    return TOPIC_DEPTH


@njit
def best_prices(mem: Words) -> int:
    """The one level of each side becomes the ticker's numbers; a side without a level is an empty side."""
    if mem[EVENT.bid_count] > 1 or mem[EVENT.ask_count] > 1:
        return TOPIC_UNKNOWN
    for side in range(2):
        slot = EVENT.tick + 4 * side
        level = mem[EVENT.bid_off + 2 * side]
        empty = mem[EVENT.bid_count + 2 * side] == 0
        mem[slot] = 0 if empty else mem[level + LEVEL.price]
        mem[slot + 1] = -1 if empty else mem[level + LEVEL.price_digits]
        mem[slot + 2] = 0 if empty else mem[level + LEVEL.qty]
        mem[slot + 3] = -1 if empty else mem[level + LEVEL.qty_digits]
        mem[EVENT.bid_count + 2 * side] = 0
    return TOPIC_TICKER


@njit
def on_frame(mem: Words, words: Words, length: int, recv_ns: int, conn: int) -> int:
    """The one call per frame: scan, sequence, apply, publish. Returns a result of ``frame_kernels``."""
    return route(mem, words, scan_frame(mem, length), recv_ns, conn)


@njit
def scan_snapshot(mem: Words, length: int) -> int:
    """Snapshots by REST are rare here (books come by the stream): the reference decoder reads them."""
    keys.clear_event(mem)
    scan.end_frame(mem, length)
    return TOPIC_UNKNOWN


def _sides(data: ref.Raw, frame: bytes) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    if "b" not in data or "a" not in data:
        raise ref.violation("book without b or a", frame)
    return ref.read_levels(bytes(data["b"])), ref.read_levels(bytes(data["a"]))


def _best(levels: tuple[Level, ...], frame: bytes) -> tuple[Number | None, Number | None]:
    if len(levels) > 1:
        raise ref.violation("best prices of more than one level", frame)
    return levels[0] if levels else (None, None)


def reference(frame: bytes) -> Decoded:
    """A frame by msgspec; raises ``ProtocolViolation``."""
    fields = ref.read_object(frame)
    if "op" in fields:
        return Decoded(topic=TOPIC_CONTROL)
    topic = ref.read_text(bytes(fields["topic"])) if "topic" in fields else ""
    if not topic:
        raise ref.violation("neither a topic nor an answer", frame)
    depth = topic.split(".")[1] if topic.startswith("orderbook.") and topic.count(".") > 1 else ""
    if depth not in ("50", "1"):
        return Decoded(topic=TOPIC_OTHER)
    with ref.about(topic.split(".")[2]):
        return _push(fields, frame, depth)


def _push(fields: ref.Raw, frame: bytes, depth: str) -> Decoded:
    missing = [key for key in ("type", "ts", "data") if key not in fields]
    if missing:
        raise ref.violation(f"push without {', '.join(missing)}", frame)
    kind = ref.read_text(bytes(fields["type"]))
    if kind not in ("snapshot", "delta") or (depth == "1" and kind != "snapshot"):
        raise ref.violation(f"push of type {kind}", frame)
    data = ref.read_object(bytes(fields["data"]))
    symbol, time = ref.symbol_of(data, frame), ref.time_of(fields, "ts")
    last = ref.read_integer(bytes(data["u"])) if "u" in data else 0
    if last <= 0:
        raise ref.violation("push without a positive u", frame)
    bids, asks = _sides(data, frame)
    if depth == "1":
        tick = (*_best(bids, frame), *_best(asks, frame))
        return Decoded(topic=TOPIC_TICKER, symbol=symbol, last=last, time=time, tick=tick)
    full = kind == "snapshot"
    return Decoded(topic=TOPIC_DEPTH, symbol=symbol, first=last, last=last, full=full, time=time, bids=bids, asks=asks)


def reference_snapshot(frame: bytes) -> Decoded:
    """GET /v5/market/orderbook: ``{"retCode":0,"result":{"s":…,"b":[…],"a":[…],"ts":…,"u":…,"seq":…},"time":…}``."""
    fields = ref.read_object(frame)
    if "result" not in fields:
        raise ref.violation("not an order book (result)", frame)
    bids, asks = _sides(ref.read_object(bytes(fields["result"])), frame)
    return Decoded(topic=TOPIC_SNAPSHOT, first=REST_ID, last=REST_ID, bids=bids, asks=asks)


#: Each push is the next one, or the book is lost; a snapshot by REST aligns with nothing.
RULE = SequenceRule(drop_offset=1, first_offset=0, overlap=False, ticker=TICKER_TOP, deep=False)

_CODEC = FeedCodec(
    rule=RULE,
    on_frame=on_frame,
    scan_frame=scan_frame,
    scan_snapshot=scan_snapshot,
    reference=reference,
    reference_snapshot=reference_snapshot,
)
CODECS = {"spot": _CODEC, "futures": _CODEC}
