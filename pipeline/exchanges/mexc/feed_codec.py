"""MEXC spot public stream: aggregated depth diffs (body 313) and best-price tickers (315) in protobuf.

Binary frames hold one ``PushDataV3ApiWrapper``; text frames are JSON control frames. A depth frame (delete
ask 65000.51, bid 65000.50 x 0.25, versions 1001 to 1003)::

    0a 2f "spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT"  1a 07 "BTCUSDT"  30 fbd095ffbc31 (sendTime)
    ca13 56 { 0a 0d {0a 08 "65000.51" 12 01 "0"}  12 10 {0a 08 "65000.50" 12 04 "0.25"}
              1a 27 "spot@public.aggre.depth.v3.api.pb@100ms"  22 04 "1001"  2a 04 "1003" }

The scanner reads varints and length-delimited fields; strings that the schema calls text must be ASCII, known fields
must not repeat, levels of a side must follow each other: everything else goes to google protobuf.

Doubt: whether a ticker's version lies in the number space of depth versions is not documented, so the two are compared
by what they say: a ticker that is sent later than the newest update and shows another best price or quantity means that
an update must follow (``TICKER_TOP``); it never contradicts the book at once.

Source: MEXC spot documentation and message definitions (read 2026).
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from pipeline.book.codec import Decoded, FeedCodec, Level, Number
from pipeline.book.frame_kernels import route
from pipeline.book.memory import (
    BOOKS,
    EVENT,
    FRAME_BYTE,
    LEVEL,
    LEVEL_CAP,
    SYMBOL_BYTES,
    TICKER_TOP,
    TOPIC_CONTROL,
    TOPIC_DEPTH,
    TOPIC_OTHER,
    TOPIC_TICKER,
    TOPIC_UNKNOWN,
)
from pipeline.book.sequencer import SequenceRule
from pipeline.exchanges.mexc.protobuf import PushDataV3ApiWrapper
from pipeline.exchanges.parsing import json_fields as keys
from pipeline.exchanges.parsing import json_scanner as scan
from pipeline.exchanges.parsing import reference_decoder as ref
from pipeline.exchanges.parsing.json_scanner import BAD
from shm.bytewords import digit_run, digits_value, load1, put
from shm.jit import njit_bare as njit
from shm.words import Words

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_BODY_FIRST, _BODY_LAST = 301, 315
_DEPTH_BODY, _TICKER_BODY = 313, 315


@njit
def read_varint(mem: Words, i: int, end: int) -> tuple[int, int]:
    """(value, index behind) of a varint of at most nine bytes (63 bits) in ``i``..``end``; index ``BAD`` otherwise."""
    if i >= end:
        return 0, BAD
    c = load1(mem, i)
    if c < 128:
        return c, i + 1
    value = c & 127
    shift = 7
    stop = min(end, i + 9)
    i += 1
    while i < stop:
        c = load1(mem, i)
        value |= (c & 127) << shift
        i += 1
        if c < 128:
            return value, i
        shift += 7
    return 0, BAD


@njit
def read_tag(mem: Words, i: int, end: int) -> tuple[int, int]:
    """(tag or length, index behind): a varint of at most four bytes; protobuf refuses those of more than five."""
    return read_varint(mem, i, min(end, i + 4))


@njit
def read_length(mem: Words, i: int, end: int) -> tuple[int, int]:
    """(index of the content, index behind it) of a length-delimited field; ``BAD`` if it leaves ``end``."""
    length, i = read_tag(mem, i, end)
    if i < 0 or length > end - i:
        return BAD, BAD
    return i, i + length


@njit
def is_ascii(mem: Words, i: int, end: int) -> bool:
    """All bytes of ``i``..``end`` below 128."""
    while i < end:
        if load1(mem, i) > 127:
            return False
        i += 1
    return True


@njit
def skip_field(mem: Words, i: int, end: int, wire: int) -> int:
    """Behind an unknown field's value."""
    if wire == _VARINT:
        _, i = read_varint(mem, i, end)
    elif wire == _BYTES:
        _, i = read_length(mem, i, end)
    elif wire == _FIXED64:
        i += 8
    elif wire == _FIXED32:
        i += 4
    else:
        return BAD
    return i if i <= end else BAD


@njit
def text_decimal(mem: Words, i: int, end: int) -> tuple[int, int]:
    """(mantissa, digits after the point) of the text in ``i``..``end``; digits ``BAD`` if it is no plain decimal.

    Bounded by ``end``: the next field's tag may look like a digit.
    """
    value = 0
    digits = 0
    part = 0  # 0 before the point, 1 behind it
    got = 0
    if end - i > scan.NUMBER_LENGTH_MAX:
        return 0, BAD
    while i < end:
        run = min(digit_run(mem, i), end - i)
        if run:
            if value > scan._SAFE and value > scan._LIMIT[run]:
                return 0, BAD
            value = value * scan._POW10[run] + digits_value(mem, i, run)
            i += run
            got += run
            if part:
                digits += run
            continue
        if part or not got or load1(mem, i) != scan.DOT:
            return 0, BAD
        part = 1
        got = 0
        i += 1
    return (value, digits) if got else (0, BAD)


@njit
def scan_item(mem: Words, i: int, end: int, level: int) -> bool:
    """One level: price (field 1) and quantity (field 2), both text, in this order."""
    if level >= BOOKS.levels + LEVEL_CAP * LEVEL.WORDS or end - i < 4 or load1(mem, i) != 0x0A:
        return False
    at, i = read_length(mem, i + 1, end)
    if at < 0:
        return False
    value, digits = text_decimal(mem, at, i)
    if digits < 0 or i >= end or load1(mem, i) != 0x12:
        return False
    put(mem, level + LEVEL.price, value)
    put(mem, level + LEVEL.price_digits, digits)
    at, i = read_length(mem, i + 1, end)
    if at < 0 or i != end:
        return False
    value, digits = text_decimal(mem, at, i)
    put(mem, level + LEVEL.qty, value)
    put(mem, level + LEVEL.qty_digits, digits)
    return digits >= 0


@njit
def scan_depth_body(mem: Words, i: int, end: int) -> bool:
    """AggreDepths into the event; False for a shape that the scanner does not know."""
    level = BOOKS.levels
    side = 0  # field number of the side being read
    seen = 0
    while i < end:
        tag, i = read_tag(mem, i, end)
        if i < 0:
            return False
        field, wire = tag >> 3, tag & 7
        if field < 1 or field > 6 or wire != (_VARINT if field == 6 else _BYTES):
            return False
        if field == 6:
            _, i = read_varint(mem, i, end)
            if i < 0 or seen & 64:
                return False
            seen |= 64
            continue
        at, i = read_length(mem, i, end)
        if at < 0:
            return False
        if field <= 2:
            if side != field:
                if seen & (1 << field):
                    return False
                seen |= 1 << field
                side = field
                mem[EVENT.ask_off if field == 1 else EVENT.bid_off] = level
            if not scan_item(mem, at, i, level):
                return False
            level += LEVEL.WORDS
            mem[EVENT.ask_count if field == 1 else EVENT.bid_count] += 1
            continue
        if seen & (1 << field):
            return False
        seen |= 1 << field
        if field == 3:
            if not is_ascii(mem, at, i):
                return False
        else:
            value, digits = text_decimal(mem, at, i)
            if digits != 0:
                return False
            mem[EVENT.first_id if field == 4 else EVENT.last_id] = value
    return seen & 48 == 48 and mem[EVENT.last_id] > 0 and mem[EVENT.first_id] <= mem[EVENT.last_id]


@njit
def scan_ticker_body(mem: Words, i: int, end: int) -> bool:
    """AggreBookTicker into the event; an absent number is an empty side."""
    for k in range(4):
        mem[EVENT.tick + 2 * k + 1] = -1
    seen = 0
    while i < end:
        tag, i = read_tag(mem, i, end)
        if i < 0:
            return False
        field, wire = tag >> 3, tag & 7
        if field < 1 or field > 6 or seen & (1 << field) or wire != (_VARINT if field == 6 else _BYTES):
            return False
        seen |= 1 << field
        if field == 6:
            _, i = read_varint(mem, i, end)
            if i < 0:
                return False
            continue
        at, i = read_length(mem, i, end)
        if at < 0:
            return False
        value, digits = text_decimal(mem, at, i)
        if digits < 0 or (field == 5 and digits):
            return False
        if field == 5:
            mem[EVENT.last_id] = value
        else:
            mem[EVENT.tick + 2 * (field - 1)] = value
            mem[EVENT.tick + 2 * (field - 1) + 1] = digits
    version: int = mem[EVENT.last_id]
    return version > 0


@njit
def scan_wrapper(mem: Words, i: int, end: int) -> tuple[int, int, int]:
    """(body's field number, body's start, body's end) of a wrapper; symbol and time go to the event. (0, 0, 0): a
    shape that the scanner does not know."""
    body = 0
    body_at = 0
    body_end = 0
    seen = 0
    while i < end:
        tag, i = read_tag(mem, i, end)
        if i < 0:
            return 0, 0, 0
        field, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            at, i = read_length(mem, i, end)
            if at < 0 or field == 0:
                return 0, 0, 0
            if _BODY_FIRST <= field <= _BODY_LAST:
                if body:
                    return 0, 0, 0
                body, body_at, body_end = field, at, i
            elif field == 1 or field == 3 or field == 4:
                if seen & (1 << field) or not is_ascii(mem, at, i):
                    return 0, 0, 0
                seen |= 1 << field
                if field == 3:
                    mem[EVENT.symbol_byte] = at
                    mem[EVENT.symbol_len] = i - at
            elif field == 5 or field == 6:
                return 0, 0, 0
        elif wire == _VARINT and field == 6:
            value, i = read_varint(mem, i, end)
            if i < 0 or seen & 64:
                return 0, 0, 0
            seen |= 64
            mem[EVENT.time] = value
        elif field == 0 or field == 1 or field == 3 or field == 4 or field >= _BODY_FIRST:
            return 0, 0, 0
        else:
            i = skip_field(mem, i, end, wire)
            if i < 0:
                return 0, 0, 0
    return body, body_at, body_end


@njit
def scan_frame(mem: Words, length: int) -> int:
    """Scans the frame in memory into the event; a ``TOPIC_*``."""
    keys.clear_event(mem)
    scan.end_frame(mem, length)
    if length and load1(mem, FRAME_BYTE) == scan.OPEN:
        return TOPIC_CONTROL
    body, at, end = scan_wrapper(mem, FRAME_BYTE, FRAME_BYTE + length)
    if body == 0:
        return TOPIC_UNKNOWN
    if body != _DEPTH_BODY and body != _TICKER_BODY:
        return TOPIC_OTHER
    if mem[EVENT.symbol_len] < 1 or mem[EVENT.symbol_len] > SYMBOL_BYTES:
        return TOPIC_UNKNOWN
    if body == _DEPTH_BODY:
        return TOPIC_DEPTH if scan_depth_body(mem, at, end) else TOPIC_UNKNOWN
    return TOPIC_TICKER if scan_ticker_body(mem, at, end) else TOPIC_UNKNOWN


@njit
def on_frame(mem: Words, words: Words, length: int, recv_ns: int, conn: int) -> int:
    """The one call per frame: scan, sequence, apply, publish. Returns a result of ``frame_kernels``."""
    return route(mem, words, scan_frame(mem, length), recv_ns, conn)


def _version(text: str, frame: bytes) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**63:
        raise ref.violation(f"not a version: {text!r}", frame)
    return int(text)


def _levels(items: Any) -> tuple[Level, ...]:
    return tuple(
        (ref.read_number(b'"%s"' % i.price.encode()), ref.read_number(b'"%s"' % i.quantity.encode())) for i in items
    )


def _tick(text: str) -> Number | None:
    return ref.read_number(b'"%s"' % text.encode()) if text else None


def reference(frame: bytes) -> Decoded:
    """A frame by google protobuf; raises ``ProtocolViolation``. A missing symbol is read off the channel's end."""
    if frame[:1] == b"{":
        return Decoded(topic=TOPIC_CONTROL)
    try:
        push = PushDataV3ApiWrapper.FromString(bytes(frame))
    except DecodeError as error:
        raise ref.violation(f"not a push message ({error})", frame) from None
    body = push.WhichOneof("body")
    if body not in ("publicAggreDepths", "publicAggreBookTicker"):
        if body is None and not push.channel:
            raise ref.violation("push without channel and body", frame)
        return Decoded(topic=TOPIC_OTHER)
    symbol = push.symbol or push.channel.rpartition("@")[2]
    if not symbol or len(symbol.encode()) > SYMBOL_BYTES:
        raise ref.violation("no usable symbol", frame)
    with ref.about(symbol):
        return _push(push, body, symbol, frame)


def _push(push: PushDataV3ApiWrapper, body: str, symbol: str, frame: bytes) -> Decoded:
    if push.sendTime < 0:
        raise ref.violation("negative time", frame)
    if body == "publicAggreBookTicker":
        tick = push.publicAggreBookTicker
        last = _version(tick.version, frame)
        if last <= 0:
            raise ref.violation("version is not positive", frame)
        numbers = (_tick(tick.bidPrice), _tick(tick.bidQuantity), _tick(tick.askPrice), _tick(tick.askQuantity))
        return Decoded(topic=TOPIC_TICKER, symbol=symbol, last=last, time=push.sendTime, tick=numbers)
    depth = push.publicAggreDepths
    first, last = _version(depth.fromVersion, frame), _version(depth.toVersion, frame)
    if last <= 0 or first > last:
        raise ref.violation(f"versions out of order: {first} to {last}", frame)
    return Decoded(
        topic=TOPIC_DEPTH,
        symbol=symbol,
        first=first,
        last=last,
        time=push.sendTime,
        bids=_levels(depth.bids),
        asks=_levels(depth.asks),
    )


#: Why the values are as they are: the table of ``pipeline/book/sequencer.py``.
RULE = SequenceRule(drop_offset=0, first_offset=1, overlap=False, ticker=TICKER_TOP, deep=True)

CODECS = {
    "spot": FeedCodec(
        rule=RULE,
        on_frame=on_frame,
        scan_frame=scan_frame,
        scan_snapshot=keys.scan_snapshot,
        reference=reference,
        reference_snapshot=ref.decode_snapshot,
    ),
}
