"""Decoding of venue JSON with one kind of failure: ``ProtocolViolation`` that says what could not be read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Protocol, TypeVar

import msgspec

from pipeline.exchanges.transport.refusals import printable
from pipeline.model.errors import ProtocolViolation
from pipeline.model.fixedpoint import parse_decimal

T_co = TypeVar("T_co", covariant=True)
Number = str | int | Decimal  # venues write numbers as text or bare; decoders use ``float_hook=Decimal``


class Decodes(Protocol[T_co]):
    """A msgspec decoder of one type."""

    def decode(self, buf: Any, /) -> T_co: ...


def decode(decoder: Decodes[T_co], payload: bytes | memoryview, venue: str, what: str) -> T_co:
    """Decoded ``payload``; raises ``ProtocolViolation`` for anything that its documents do not allow."""
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        head = printable(bytes(payload[:120]))
        raise ProtocolViolation(
            f"{venue}: {what} is not what its documents say: {error}: {head}", venue=venue
        ) from None


def number(value: Number, venue: str) -> Decimal:
    """Finite decimal; raises ``ProtocolViolation`` for NaN, infinities, underscores, foreign digits."""
    try:
        return parse_decimal(value)
    except ValueError as error:
        raise ProtocolViolation(f"{venue}: {error}", venue=venue) from None


def optional_number(value: Number | None, venue: str) -> Decimal | None:
    """None for absent and for empty text."""
    return None if value is None or value == "" else number(value, venue)


#: A number that a venue may leave out, send as null, as empty text, as text or bare; its exact digits are kept.
Maybe = msgspec.Raw
ABSENT = msgspec.Raw(b"null")
TIME_BYTES_MAX = 32  # of a time as text: unix us with a fraction


def required_number(raw: msgspec.Raw, venue: str) -> Decimal:
    """As :func:`maybe_number`; raises ``ProtocolViolation`` for a number that is absent, too."""
    value = maybe_number(raw, venue)
    if value is None:
        raise ProtocolViolation(f"{venue}: a number is missing", venue=venue)
    return value


def lenient_ms(raw: msgspec.Raw, unit_ms: int = 1) -> int:
    """A time that only informs, in ms; 0 where it cannot be read. ``unit_ms``: of the venue's number."""
    text = bytes(raw).strip(b'"')
    if len(text) > TIME_BYTES_MAX or b"e" in text or b"E" in text:
        return 0
    try:
        return int(parse_decimal(text.decode("ascii")) * unit_ms)
    except (ValueError, UnicodeDecodeError):
        return 0


def maybe_number(raw: msgspec.Raw, venue: str) -> Decimal | None:
    """None for absent, null and empty text. Raises ``ProtocolViolation`` for anything that is no finite number."""
    text = bytes(raw)
    if len(text) >= 2 and text[:1] == b'"':
        text = text[1:-1]
    if text in (b"", b"null"):
        return None
    try:
        return number(text.decode("ascii"), venue)
    except UnicodeDecodeError:
        raise ProtocolViolation(f"{venue}: not a number: {printable(text)}", venue=venue) from None
