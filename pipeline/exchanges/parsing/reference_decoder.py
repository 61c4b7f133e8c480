"""The slow, obvious JSON decoder: what the fast scanners must equal, and what decides about frames they do not know.

msgspec parses; numbers are taken from their own text, never through a float. A number is ASCII digits, optionally a
point and more digits, quoted or bare; a bare one may have a decimal exponent (some JSON writers spell small numbers
so). Signs, NaN, Infinity, underscores and other digits are refused (``ProtocolViolation``), as are a missing symbol,
missing or disordered ids, levels of another shape and values nested deeper than any venue nests them.

Source: the venues' documents on market data (Binance spot and USDM, Gate.io spot and futures, MEXC REST), read 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from pipeline.book.codec import Decoded, Level, Number
from pipeline.book.memory import SYMBOL_BYTES, TOPIC_DEPTH, TOPIC_SNAPSHOT, TOPIC_TICKER
from pipeline.exchanges.parsing.json_scanner import NUMBER_LENGTH_MAX
from pipeline.model.errors import ProtocolViolation

_NUMBER = re.compile(rb"([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,2}))?", re.ASCII)
_INTEGER = re.compile(rb"(?:0|[1-9][0-9]*)", re.ASCII)
_ID_LIMIT = 2**63 - 1
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last: nested a thousand deep

Raw = dict[str, msgspec.Raw]
_object = msgspec.json.Decoder(Raw)
_text = msgspec.json.Decoder(str)
_levels = msgspec.json.Decoder(list[msgspec.Raw])


def violation(what: str, frame: bytes) -> ProtocolViolation:
    """The error for bytes that the venue's documents do not allow; shows the start of the frame."""
    return ProtocolViolation(f"{what}: frame starts with {bytes(frame[:120])!r}")


@contextmanager
def about(symbol: str) -> Iterator[None]:
    """What is refused inside is of ``symbol``: its book alone has lost an update."""
    try:
        yield
    except ProtocolViolation as error:
        error.symbol = symbol
        raise


def read_object(frame: bytes) -> Raw:
    """A JSON object whose values are still bytes."""
    try:
        return _object.decode(frame)
    except _UNREADABLE as error:
        raise violation(f"not a JSON object ({error})", frame) from None


def read_text(value: bytes) -> str:
    """A JSON string."""
    try:
        return _text.decode(value)
    except _UNREADABLE as error:
        raise violation(f"not a JSON string ({error})", value) from None


def read_number(value: bytes) -> Number:
    """A decimal, quoted or bare, as (mantissa, digits after the point)."""
    raw = bytes(value).strip(b" \t\r\n")
    text = raw[1:-1] if raw[:1] == b'"' and raw[-1:] == b'"' and len(raw) > 1 else raw
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > NUMBER_LENGTH_MAX or (match[3] and text is not raw):
        raise violation("not a plain decimal", raw)
    whole, part = match[1], match[2] or b""
    mantissa, digits = int(whole + part), len(part) - int(match[3] or b"0")
    return (mantissa, digits) if digits >= 0 else (mantissa * 10**-digits, 0)


def read_integer(value: bytes) -> int:
    """A bare non-negative integer of at most 63 bits."""
    raw = bytes(value).strip(b" \t\r\n")
    if _INTEGER.fullmatch(raw) is None or int(raw) > _ID_LIMIT:
        raise violation("not an id", raw)
    return int(raw)


def read_levels(value: bytes) -> tuple[Level, ...]:
    """Levels as ``["price","qty", …]`` or ``{"p":…,"s":…}``."""
    try:
        rows = _levels.decode(value)
    except _UNREADABLE as error:
        raise violation(f"not a list of levels ({error})", value) from None
    return tuple(_level(bytes(row)) for row in rows)


def _level(row: bytes) -> Level:
    if row.lstrip()[:1] == b"{":
        fields = read_object(row)
        if "p" not in fields or "s" not in fields:
            raise violation("level without p or s", row)
        return read_number(bytes(fields["p"])), read_number(bytes(fields["s"]))
    try:
        cells = _levels.decode(row)
    except _UNREADABLE as error:
        raise violation(f"not a level ({error})", row) from None
    if len(cells) < 2:
        raise violation("level without price and quantity", row)
    return read_number(bytes(cells[0])), read_number(bytes(cells[1]))


def _tick(fields: Raw, key: str) -> Number | None:
    value = bytes(fields[key]).strip()
    return None if value == b'""' else read_number(value)


def decode_ticker(fields: Raw, frame: bytes, *, symbol: str, time: int) -> Decoded:
    """``u b B a A`` of a best-price ticker; an empty string is an empty side."""
    if not all(key in fields for key in ("u", "b", "B", "a", "A")):
        raise violation("ticker without u, b, B, a or A", frame)
    last = read_integer(bytes(fields["u"]))
    if last <= 0:
        raise violation("ticker id is not positive", frame)
    return Decoded(
        topic=TOPIC_TICKER,
        symbol=symbol,
        last=last,
        time=time,
        tick=(_tick(fields, "b"), _tick(fields, "B"), _tick(fields, "a"), _tick(fields, "A")),
    )


def decode_update(fields: Raw, frame: bytes, *, symbol: str, time: int, linked: bool, sparse: bool) -> Decoded:
    """``U u [pu] b a`` of a depth update.

    ``linked``: ``pu`` must be there; ``sparse``: ``b`` or ``a`` may be missing, ``U`` in whole-book pushes.
    """
    full = "full" in fields and bytes(fields["full"]).strip() == b"true"
    if "full" in fields and bytes(fields["full"]).strip() not in (b"true", b"false"):
        raise violation("full is not a truth value", frame)
    required = ["u"] + ([] if full else ["U"]) + ([] if sparse else ["b", "a"]) + (["pu"] if linked else [])
    missing = [key for key in required if key not in fields]
    if missing:
        raise violation(f"depth update without {', '.join(missing)}", frame)
    last = read_integer(bytes(fields["u"]))
    first = read_integer(bytes(fields["U"])) if "U" in fields else last
    previous = read_integer(bytes(fields["pu"])) if "pu" in fields else 0
    if last <= 0 or first > last or (linked and previous > last):
        raise violation(f"ids out of order: U={first} u={last} pu={previous}", frame)
    return Decoded(
        topic=TOPIC_DEPTH,
        symbol=symbol,
        first=first,
        last=last,
        previous=previous,
        full=full,
        time=time,
        bids=read_levels(bytes(fields["b"])) if "b" in fields else (),
        asks=read_levels(bytes(fields["a"])) if "a" in fields else (),
    )


def time_of(fields: Raw, key: str) -> int:
    """A time as sent; 0 when the key is not there."""
    return read_integer(bytes(fields[key])) if key in fields else 0


def symbol_of(fields: Raw, frame: bytes) -> str:
    """The value of ``s``; refused when missing or too long for the symbol table."""
    symbol = read_text(bytes(fields["s"])) if "s" in fields else ""
    if not symbol or len(symbol.encode()) > SYMBOL_BYTES:
        raise violation("no usable symbol", frame)
    return symbol


def decode_snapshot(frame: bytes) -> Decoded:
    """A REST order book: ``lastUpdateId`` or ``id``, ``bids``, ``asks``."""
    fields = read_object(frame)
    keys = [key for key in ("lastUpdateId", "id") if key in fields]
    if not keys or "bids" not in fields or "asks" not in fields:
        raise violation("not an order book (id, bids, asks)", frame)
    last = read_integer(bytes(fields[keys[0]]))
    if last <= 0:
        raise violation("snapshot id is not positive", frame)
    return Decoded(
        topic=TOPIC_SNAPSHOT,
        first=last,
        last=last,
        bids=read_levels(bytes(fields["bids"])),
        asks=read_levels(bytes(fields["asks"])),
    )
