"""Gate.io public streams, spot and USDT futures: order_book_update, obu, book_ticker.

::

    {"time":…,"time_ms":…,"channel":"spot.order_book_update","event":"update","result":{"t":1606294781123,
     "e":"depthUpdate","E":1606294781,"s":"BTC_USDT","U":48776301,"u":48776306,"b":[["19137.74","0.0001"]],"a":[]}}
    {…"channel":"futures.order_book_update","event":"update","result":{"U":203083178,"a":[{"p":"0.3047","s":8393}],
     "b":[],"s":"RDNT_USDT","t":1684930165247,"u":203083178}}
    {…"channel":"spot.obu","event":"update","result":{"t":…,"full":true,"s":"ob.XRP_USDT.50","u":9649549324,
     "b":[["1.414","1397.899"]],"a":[["1.415","17344.926"]]}}
    {…"channel":"futures.book_ticker","event":"update","result":{"t":…,"u":…,"s":"BTC_USDT","b":"54696.6","B":37000,
     "a":"54696.7","A":47061}}

``full`` replaces the book; an empty price in a ticker is an empty side; sizes are numbers or, with the header
``X-Gate-Size-Decimal``, strings. Sizes of futures are contracts here and become base quantity when they are scaled.
Everything whose event is not ``update`` or ``all`` (acks, refusals, pongs) is a control frame.

Source: Gate.io WebSocket v4 documentation of spot and futures (read 2026), recorded frames.
"""

from __future__ import annotations

from pipeline.book import memory
from pipeline.book.codec import Decoded, FeedCodec
from pipeline.book.frame_kernels import route
from pipeline.book.memory import (
    EVENT,
    FRAME_BYTE,
    SYMBOL_BYTES,
    TICKER_EQUAL,
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
from pipeline.exchanges.parsing.json_scanner import BAD, COLON, COMMA, CONTROL, DOT, OPEN, OTHER, QUOTE
from pipeline.model.errors import ProtocolViolation
from shm.bytewords import load1
from shm.jit import njit_bare as njit
from shm.words import Words

_K_CHANNEL = scan.packed("channel")
_K_EVENT = scan.packed("event")
_K_RESULT = scan.packed("result")
_V_UPDATE = scan.packed("update")
_V_ALL = scan.packed("all")
_V_OBU = scan.packed("obu")
_V_BOOK_1, _V_BOOK_2, _V_BOOK_3 = scan.packed("order_bo"), scan.packed("ok_updat"), scan.packed("e")
_V_TICK_1, _V_TICK_2 = scan.packed("book_tic"), scan.packed("ker")
_V_OB = scan.packed("ob.")

_CHANNEL_OTHER = 1
_CHANNEL_BOOK = 2
_CHANNEL_OBU = 3
_CHANNEL_TICKER = 4
_EVENT_OTHER = 1
_EVENT_UPDATE = 2

_DEPTH_FORBIDDEN = keys.TICKER_NUMBERS | memory.KEY_PREVIOUS


@njit
def channel_code(mem: Words, i: int, end: int) -> int:
    """Which of our channels the text is, whatever its market prefix."""
    while i < end and load1(mem, i) != DOT:
        i += 1
    i += 1
    length = end - i
    one, two, three = scan.word_at(mem, i, length), scan.word_at(mem, i + 8, length - 8), 0
    if length > 16:
        three = scan.word_at(mem, i + 16, length - 16)
    if length == 17 and one == _V_BOOK_1 and two == _V_BOOK_2 and three == _V_BOOK_3:
        return _CHANNEL_BOOK
    if length == 11 and one == _V_TICK_1 and two == _V_TICK_2:
        return _CHANNEL_TICKER
    if length == 3 and one == _V_OBU:
        return _CHANNEL_OBU
    return _CHANNEL_OTHER


@njit
def event_code(mem: Words, i: int, end: int) -> int:
    """Whether the event is a push."""
    length = end - i
    one = scan.word_at(mem, i, length)
    if (length == 6 and one == _V_UPDATE) or (length == 3 and one == _V_ALL):
        return _EVENT_UPDATE
    return _EVENT_OTHER


@njit
def scan_envelope(mem: Words, i: int) -> tuple[int, int]:
    """(channel code, byte index behind ``result``); index ``BAD``, ``OTHER`` or ``CONTROL``. ``i`` at the brace."""
    channel = 0
    event = 0
    done = False
    i += 1
    while True:
        i = scan.expect(mem, i, QUOTE)
        if i < 0:
            return 0, BAD
        end = scan.skip_string(mem, i)
        if end < 0:
            return 0, BAD
        length = end - i
        key = scan.word_at(mem, i, length)
        i = scan.expect(mem, end + 1, COLON)
        if i < 0:
            return 0, BAD
        i = scan.skip_space(mem, i)
        if (length == 7 and key == _K_CHANNEL) or (length == 5 and key == _K_EVENT):
            if load1(mem, i) != QUOTE:
                return 0, BAD
            end = scan.skip_string(mem, i + 1)
            if end < 0:
                return 0, BAD
            if length == 7:
                if channel:
                    return 0, BAD
                channel = channel_code(mem, i + 1, end)
            else:
                if event:
                    return 0, BAD
                event = event_code(mem, i + 1, end)
            i = end + 1
            if channel and event:
                if event == _EVENT_OTHER:
                    return 0, CONTROL
                if channel == _CHANNEL_OTHER:
                    return 0, OTHER
        elif length == 6 and key == _K_RESULT:
            if not channel or not event or done or load1(mem, i) != OPEN:
                return 0, BAD
            done = True
            i = keys.scan_fields(mem, i, keys.MODE_FRAME)
            if i < 0:
                return 0, BAD
        else:
            i = scan.skip_scalar(mem, i)
            if i < 0:
                return 0, BAD
        c = load1(mem, i)
        if c != COMMA and c != scan.CLOSE:
            i = scan.skip_space(mem, i)
            c = load1(mem, i)
        if c == scan.CLOSE:
            return (channel, i + 1) if done else (0, BAD)
        if c != COMMA:
            return 0, BAD
        i += 1


@njit
def scan_frame(mem: Words, length: int) -> int:
    """Scans the frame in memory into the event; a ``TOPIC_*``."""
    keys.clear_event(mem)
    scan.end_frame(mem, length)
    i = scan.skip_space(mem, FRAME_BYTE)
    if load1(mem, i) != OPEN:
        return TOPIC_UNKNOWN
    channel, i = scan_envelope(mem, i)
    if i == OTHER:
        return TOPIC_OTHER
    if i == CONTROL:
        return TOPIC_CONTROL
    if i == BAD or not scan.at_end(mem, i, length):
        return TOPIC_UNKNOWN
    mem[EVENT.time] = mem[EVENT.time_2]
    return classify(mem, channel)


@njit
def classify(mem: Words, channel: int) -> int:
    """Topic of a scanned event by channel, if the keys fit it."""
    seen = mem[EVENT.seen_keys]
    if channel == _CHANNEL_OBU:
        strip_obu(mem)
    if mem[EVENT.symbol_len] < 1 or mem[EVENT.symbol_len] > SYMBOL_BYTES or mem[EVENT.last_id] <= 0:
        return TOPIC_UNKNOWN
    if channel == _CHANNEL_TICKER:
        if seen & keys.TICKER_KEYS == keys.TICKER_KEYS and not seen & keys.TICKER_FORBIDDEN:
            return TOPIC_TICKER
        return TOPIC_UNKNOWN
    if seen & _DEPTH_FORBIDDEN:
        return TOPIC_UNKNOWN
    if not seen & memory.KEY_FIRST:
        if not mem[EVENT.full]:
            return TOPIC_UNKNOWN
        mem[EVENT.first_id] = mem[EVENT.last_id]
    return TOPIC_DEPTH if mem[EVENT.first_id] <= mem[EVENT.last_id] else TOPIC_UNKNOWN


@njit
def strip_obu(mem: Words) -> None:
    """``ob.BTC_USDT.50`` names BTC_USDT; any other text names nothing."""
    i = mem[EVENT.symbol_byte]
    end = i + mem[EVENT.symbol_len]
    mem[EVENT.symbol_len] = 0
    if scan.word_at(mem, i, min(end - i, 3)) != _V_OB:
        return
    i += 3
    at = i
    while at < end and load1(mem, at) != DOT:
        at += 1
    if at < end:
        mem[EVENT.symbol_byte] = i
        mem[EVENT.symbol_len] = at - i


@njit
def on_frame(mem: Words, words: Words, length: int, recv_ns: int, conn: int) -> int:
    """The one call per frame: scan, sequence, apply, publish. Returns a result of ``frame_kernels``."""
    return route(mem, words, scan_frame(mem, length), recv_ns, conn)


def _obu_symbol(result: ref.Raw, frame: bytes) -> str:
    """``ob.BTC_USDT.50`` names BTC_USDT."""
    parts = ref.read_text(bytes(result["s"])).split(".") if "s" in result else []
    if len(parts) < 3 or parts[0] != "ob" or not 0 < len(parts[1].encode()) <= SYMBOL_BYTES:
        raise ref.violation("no usable symbol", frame)
    return parts[1]


def reference(frame: bytes) -> Decoded:
    """A frame by msgspec; raises ``ProtocolViolation``."""
    fields = ref.read_object(frame)
    if "channel" not in fields or "event" not in fields:
        return Decoded(topic=TOPIC_CONTROL)  # answers of the WebSocket API have a header instead
    channel = ref.read_text(bytes(fields["channel"])).partition(".")[2]
    event = ref.read_text(bytes(fields["event"]))
    if event not in ("update", "all"):
        return Decoded(topic=TOPIC_CONTROL)
    if channel not in ("order_book_update", "obu", "book_ticker"):
        return Decoded(topic=TOPIC_OTHER)
    if "result" not in fields:
        raise ref.violation("push without result", frame)
    try:
        result = ref.read_object(bytes(fields["result"]))
    except ProtocolViolation:
        raise ref.violation("result is not an object", frame) from None
    symbol = ref.symbol_of(result, frame) if channel != "obu" else _obu_symbol(result, frame)
    with ref.about(symbol):
        time = ref.time_of(result, "t")
        if channel == "book_ticker":
            return ref.decode_ticker(result, frame, symbol=symbol, time=time)
        return ref.decode_update(result, frame, symbol=symbol, time=time, linked=False, sparse=True)


#: Why the values are as they are: the table of ``pipeline/book/sequencer.py``.
RULE = SequenceRule(drop_offset=1, first_offset=1, overlap=True, ticker=TICKER_EQUAL, deep=False)

_CODEC = FeedCodec(
    rule=RULE,
    on_frame=on_frame,
    scan_frame=scan_frame,
    scan_snapshot=keys.scan_snapshot,
    reference=reference,
    reference_snapshot=ref.decode_snapshot,
)
CODECS = {"spot": _CODEC, "futures": _CODEC}
