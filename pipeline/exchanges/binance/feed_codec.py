"""Binance public streams, spot and USDⓈ-M: depth updates and best-price tickers.

Raw (``/ws``) and wrapped (``/stream``) frames::

    {"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1633998512068,"s":"NKNUSDT","U":499869750,
     "u":499869752,"b":[["0.35130000","6195.00000000"]],"a":[]}}
    {"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}
    {"e":"depthUpdate","E":1626992741037,"T":1626992741024,"s":"SUSHIUSDT","U":600859599090,"u":600859600917,
     "pu":600859598061,"b":[["7.5040","813"]],"a":[]}
    {"e":"bookTicker","u":600859600576,"s":"SUSHIUSDT","b":"7.6110","B":"2","a":"7.6120","A":"297","T":…,"E":…}

Partial books (``depth5|10|20``) are another topic. On spot they name no symbol; on USDⓈ-M they look like updates,
``pu`` included, and only the stream's name tells them apart (a raw frame has none: such a stream must not be
subscribed). Answers (``result``, ``error``, ``code``) and ``serverShutdown`` are control frames.

Source: Binance spot and derivatives documentation of market streams (read 2026), recorded frames.
"""

from __future__ import annotations

import re

from pipeline.book import memory
from pipeline.book.codec import Decoded, FeedCodec
from pipeline.book.frame_kernels import route
from pipeline.book.memory import (
    BOOKS,
    EVENT,
    FRAME_BYTE,
    LINK_PREVIOUS,
    SYMBOL_BYTES,
    TICKER_EVERY,
    TOPIC_CONTROL,
    TOPIC_DEPTH,
    TOPIC_OTHER,
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

_K_STREAM = scan.packed("stream")
_K_DATA = scan.packed("data")
_K_DEPTH = scan.packed("depth")
_PARTIAL = re.compile(r"@depth[0-9]")
AT, ZERO, NINE = ord("@"), ord("0"), ord("9")
_DEPTH_KEYS = memory.KEY_SYMBOL | memory.KEY_FIRST | memory.KEY_LAST | memory.KEY_BID | memory.KEY_ASK
_DEPTH_FORBIDDEN = keys.TICKER_NUMBERS


@njit
def scan_frame(mem: Words, length: int) -> int:
    """Scans the frame in memory into the event; a ``TOPIC_*``."""
    keys.clear_event(mem)
    scan.end_frame(mem, length)
    start = scan.skip_space(mem, FRAME_BYTE)
    if load1(mem, start) != OPEN:
        return TOPIC_UNKNOWN
    wrapped = False
    i = start
    at = scan.skip_space(mem, start + 1)
    if load1(mem, at) == QUOTE and scan.word_at(mem, at + 1, 6) == _K_STREAM and load1(mem, at + 7) == QUOTE:
        wrapped = True
        i = skip_to_data(mem, at + 8)
        if i < 0:
            return TOPIC_UNKNOWN
    i = keys.scan_fields(mem, i, keys.MODE_FRAME)
    if i == OTHER:
        return TOPIC_OTHER
    if i == CONTROL:
        return TOPIC_CONTROL
    if i == BAD:
        return TOPIC_UNKNOWN
    if wrapped:
        i = scan.expect(mem, i, scan.CLOSE)
        if i < 0:
            return TOPIC_UNKNOWN
    if not scan.at_end(mem, i, length):
        return TOPIC_UNKNOWN
    topic = classify(mem)
    return TOPIC_OTHER if topic == TOPIC_DEPTH and wrapped and is_partial_stream(mem, at + 8) else topic


@njit
def is_partial_stream(mem: Words, i: int) -> bool:
    """Whether the stream's name, from behind the key ``stream``, is of a partial book: ``@depth`` and a digit."""
    i = scan.expect(mem, i, COLON)
    if i >= 0:
        i = scan.expect(mem, i, QUOTE)
    end = scan.skip_string(mem, i) if i >= 0 else -1
    while 0 <= i < end - 6:
        if load1(mem, i) == AT and scan.word_at(mem, i + 1, 5) == _K_DEPTH:
            return bool(ZERO <= load1(mem, i + 6) <= NINE)
        i += 1
    return False


@njit
def skip_to_data(mem: Words, i: int) -> int:
    """From behind the key ``stream`` to the brace of ``data``; ``BAD`` for any other shape."""
    i = scan.expect(mem, i, COLON)
    if i >= 0:
        i = scan.expect(mem, i, QUOTE)
    if i >= 0:
        i = scan.skip_string(mem, i)
    if i >= 0:
        i = scan.expect(mem, i + 1, COMMA)
    if i >= 0:
        i = scan.expect(mem, i, QUOTE)
    if i < 0 or scan.word_at(mem, i, 4) != _K_DATA or load1(mem, i + 4) != QUOTE:
        return BAD
    i = scan.expect(mem, i + 5, COLON)
    if i < 0:
        return BAD
    i = scan.skip_space(mem, i)
    return i if load1(mem, i) == OPEN else BAD


@njit
def classify(mem: Words) -> int:
    """Topic of a scanned event by the keys that it has."""
    seen = mem[EVENT.seen_keys]
    if mem[EVENT.symbol_len] < 1 or mem[EVENT.symbol_len] > SYMBOL_BYTES or mem[EVENT.last_id] <= 0:
        return TOPIC_UNKNOWN
    if mem[EVENT.kind] == TOPIC_DEPTH:
        if seen & _DEPTH_KEYS != _DEPTH_KEYS or seen & _DEPTH_FORBIDDEN or seen & memory.KEY_FULL:
            return TOPIC_UNKNOWN
        if mem[EVENT.first_id] > mem[EVENT.last_id]:
            return TOPIC_UNKNOWN
        linked = seen & memory.KEY_PREVIOUS and mem[EVENT.previous_id] <= mem[EVENT.last_id]
        return TOPIC_DEPTH if linked or mem[BOOKS.link] != LINK_PREVIOUS else TOPIC_UNKNOWN
    if seen & keys.TICKER_KEYS == keys.TICKER_KEYS and not seen & keys.TICKER_FORBIDDEN:
        return TOPIC_TICKER
    return TOPIC_UNKNOWN


@njit
def on_frame(mem: Words, words: Words, length: int, recv_ns: int, conn: int) -> int:
    """The one call per frame: scan, sequence, apply, publish. Returns a result of ``frame_kernels``."""
    return route(mem, words, scan_frame(mem, length), recv_ns, conn)


def _reference(frame: bytes, *, linked: bool) -> Decoded:
    if frame.lstrip()[:1] == b"[":
        return Decoded(topic=TOPIC_OTHER)  # all-market streams are arrays
    fields = ref.read_object(frame)
    partial = False
    if "data" in fields and "stream" in fields:
        partial = _PARTIAL.search(ref.read_text(bytes(fields["stream"]))) is not None
        fields = ref.read_object(bytes(fields["data"]))
    for key in fields:
        if key == "e":
            kind = ref.read_text(bytes(fields["e"]))
            if kind == "serverShutdown":
                return Decoded(topic=TOPIC_CONTROL)
            if kind not in ("depthUpdate", "bookTicker"):
                return Decoded(topic=TOPIC_OTHER)
        elif key == "lastUpdateId":
            return Decoded(topic=TOPIC_OTHER)
        elif key in ("result", "error", "code", "msg", "id"):
            return Decoded(topic=TOPIC_CONTROL)
    symbol = ref.symbol_of(fields, frame)
    with ref.about(symbol):
        time = ref.time_of(fields, "E")
        if "e" in fields and ref.read_text(bytes(fields["e"])) == "depthUpdate":
            update = ref.decode_update(fields, frame, symbol=symbol, time=time, linked=linked, sparse=False)
            return Decoded(topic=TOPIC_OTHER) if partial else update
        return ref.decode_ticker(fields, frame, symbol=symbol, time=time)


def reference_spot(frame: bytes) -> Decoded:
    """A spot frame by msgspec."""
    return _reference(frame, linked=False)


def reference_futures(frame: bytes) -> Decoded:
    """A USDⓈ-M frame by msgspec: depth updates must name their predecessor."""
    return _reference(frame, linked=True)


#: Why the values are as they are: the table of ``pipeline/book/sequencer.py``.
SPOT_RULE = SequenceRule(drop_offset=1, first_offset=1, overlap=True, ticker=TICKER_EVERY, deep=True)
USDM_RULE = SequenceRule(
    link=LINK_PREVIOUS, drop_offset=0, first_offset=0, overlap=False, ticker=TICKER_EVERY, deep=True
)

CODECS = {
    "spot": FeedCodec(
        rule=SPOT_RULE,
        on_frame=on_frame,
        scan_frame=scan_frame,
        scan_snapshot=keys.scan_snapshot,
        reference=reference_spot,
        reference_snapshot=ref.decode_snapshot,
    ),
    "futures": FeedCodec(
        rule=USDM_RULE,
        on_frame=on_frame,
        scan_frame=scan_frame,
        scan_snapshot=keys.scan_snapshot,
        reference=reference_futures,
        reference_snapshot=ref.decode_snapshot,
    ),
}
