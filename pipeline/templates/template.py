"""Templates of journal records and order requests: bytes that are known in advance, and placeholders for the rest.

A template is made of pieces: ready bytes and placeholders. Compiled (``TemplateTable``) it is a short program over a
pool of bytes; template_writer.py runs it, copies the bytes and writes the numbers of an entry (``slots``) at the
placeholders: as msgpack (journal bodies) or as text (orders).

The slots are declared in slots.py: those of the entry, then those of each leg, which a template names relative to the
leg that it is written for.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
import numpy as np

from pipeline.model.enums import OrderSide
from pipeline.templates.slots import (
    ENTRY_LEG,
    ENTRY_SLOTS,
    LEGS,
    OP_CUT,
    OP_DECIMAL,
    OP_DECIMAL_STR,
    OP_FLOAT64,
    OP_GAP,
    OP_ID,
    OP_INT64,
    OP_INTEGER,
    OP_MARK,
    OP_TEXT,
    OP_TEXT_FRAME,
    PROGRAM,
)
from shm.words import Octets, Words

LEG_SLOTS = ENTRY_LEG.WORDS
assert ENTRY_SLOTS.WORDS == LEG_SLOTS
SLOTS = LEG_SLOTS * (1 + LEGS)
BOOKS_OFF = SLOTS  # behind the slots in the same array: the books of both legs
NUMBER_MAX = 1 << 62  # a product of slot and factor beyond this is never written: the exact path takes it
PLACEHOLDER_BYTES_MAX = 64  # more than any placeholder but a gap ever takes
SIGNATURE_HEX_BYTES = 64
DIGITS_MAX = 28  # with them the text of any slot is shorter than 32 characters, msgpack's short string


class Placeholder(msgspec.Struct, frozen=True):
    """A place at which the writer puts a number: ``kind`` (OP_*) says how, ``slot`` which one.

    Decimals are written as slot x ``factor`` / 10**``digits``; ids behind their ``prefix``, which of a signature is the
    key.
    """

    kind: int
    slot: int
    factor: int = 1
    digits: int = 0
    prefix: bytes = b""

    def __repr__(self) -> str:
        return f"Placeholder({self.kind}, {self.slot})"  # no key in an error's text


#: A template before it is compiled.
Pieces = list[bytes | Placeholder]


class OrderTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What an order's template is made from: IOC limit orders of one instrument and side.

    ``tick``, ``lot``: units of price and base quantity. ``window_ms``: how long the venue may take the order.
    """

    symbol: str
    side: OrderSide
    tick: Decimal
    lot: Decimal
    multiplier: Decimal
    id_prefix: str
    window_ms: int


def leg(slot: int) -> int:
    """Slot of the leg that the template is written for."""
    return LEG_SLOTS + slot


def number(slot: int) -> Placeholder:
    """msgpack int64."""
    return Placeholder(OP_INT64, slot)


def real(slot: int) -> Placeholder:
    """msgpack float64 of the bits in the slot."""
    return Placeholder(OP_FLOAT64, slot)


def amount(slot: int, unit: Decimal) -> Placeholder:
    """msgpack string of slot x ``unit``, as msgspec writes a Decimal."""
    factor, digits = factor_of(unit)
    return Placeholder(OP_DECIMAL_STR, slot, factor, digits)


def amount_text(slot: int, unit: Decimal) -> Placeholder:
    """Text of slot x ``unit``, without exponent and trailing zeros (``fixedpoint.plain``)."""
    factor, digits = factor_of(unit)
    return Placeholder(OP_DECIMAL, slot, factor, digits)


def integer_text(slot: int) -> Placeholder:
    """Text of a whole number."""
    return Placeholder(OP_INTEGER, slot)


def id_text(slot: int) -> Placeholder:
    """Text of a counter in base 36."""
    return Placeholder(OP_ID, slot)


def id_str(slot: int, prefix: str) -> Placeholder:
    """msgpack string of ``prefix`` and a counter in base 36."""
    return Placeholder(OP_ID, slot, prefix=prefix.encode())


def mark(slot: int) -> Placeholder:
    """Writes nothing; stores its own place in the output into the slot."""
    return Placeholder(OP_MARK, slot)


def gap(slot: int, size: int) -> Placeholder:
    """Skips ``size`` bytes of the output and stores their place into the slot."""
    return Placeholder(OP_GAP, slot, factor=size)


def signature(key: bytes) -> Placeholder:
    """The gap of an HMAC-SHA256 in hex over what stands between the order's two marks, made where the order is filled.
    ``key``: at most a block of the hash."""
    return Placeholder(OP_GAP, leg(ENTRY_LEG.signature), factor=SIGNATURE_HEX_BYTES, prefix=key)


#: First piece of an order that is a text frame of a WebSocket: what follows is its payload.
TEXT_FRAME = Placeholder(OP_TEXT_FRAME, 0)
#: Separates the parts of a template between which other templates are written.
CUT = Placeholder(OP_CUT, 0)


def cut_at(pieces: Pieces) -> list[Pieces]:
    """The parts between the cuts."""
    parts: list[Pieces] = [[]]
    for piece in pieces:
        if piece == CUT:
            parts.append([])
        else:
            parts[-1].append(piece)
    return parts


def bytes_max(pieces: Pieces) -> int:
    """Most bytes that a template may take."""
    return sum(
        len(piece) if isinstance(piece, bytes) else piece.factor if piece.kind == OP_GAP else PLACEHOLDER_BYTES_MAX
        for piece in pieces
    )


def factor_of(unit: Decimal) -> tuple[int, int]:
    """(factor, digits) with ``unit`` = factor / 10**digits, both as small as they can be. Raises ``ValueError`` for a
    unit that is too fine or too large to be written from an int64."""
    sign, figures, exponent = unit.normalize().as_tuple()
    assert isinstance(exponent, int), f"finite only: {unit}"
    factor = int("".join(map(str, figures))) * (-1 if sign else 1)
    factor, digits = (factor * 10**exponent, 0) if exponent > 0 else (factor, -exponent)
    if digits > DIGITS_MAX or abs(factor) >= NUMBER_MAX:
        raise ValueError(f"no template for a unit of {unit}")
    return factor, digits


def record_pieces(kind: type[msgspec.Struct], values: dict[str, object]) -> Pieces:
    """msgpack of an ``array_like`` struct; a value may be a placeholder or a list of pieces.

    Raises ``ValueError`` unless every field is named: a record type that grew must not get into a journal half filled.
    """
    fields = kind.__struct_fields__
    if set(fields) != set(values):
        raise ValueError(f"{kind.__name__}: fields {sorted(set(fields) ^ set(values))} are not in both")
    pieces: Pieces = [array_head(len(fields))]
    for name in fields:
        value = values[name]
        if isinstance(value, Placeholder):
            pieces.append(value)
        elif isinstance(value, list):
            pieces.extend(value)
        else:
            pieces.append(msgspec.msgpack.encode(value))
    return pieces


def array_head(size: int) -> bytes:
    """msgpack's head of an array of ``size``."""
    return bytes([0x90 | size]) if size < 16 else bytes([0xDC, size >> 8, size & 0xFF])


class TemplateTable:
    """Compiles templates into one program and one pool of bytes: :meth:`add` each, then :meth:`freeze`."""

    def __init__(self) -> None:
        self._ops: list[tuple[int, int, int, int]] = []
        self._spans: list[tuple[int, int]] = []
        self._pool = bytearray()
        self._places: dict[bytes, int] = {}

    def add(self, pieces: Pieces) -> int:
        """Compiles a template; returns its number. Neighbouring ready bytes become one copy."""
        start = len(self._ops)
        ready = b""
        for piece in [*pieces, None]:
            if isinstance(piece, bytes):
                ready += piece
                continue
            if ready:
                self._ops.append((OP_TEXT, self.place(ready), len(ready), 0))
                ready = b""
            if piece is None:
                break
            if piece.kind == OP_ID:
                self._ops.append((OP_ID, piece.slot, self.place(piece.prefix), len(piece.prefix)))
            else:
                self._ops.append((piece.kind, piece.slot, piece.factor, piece.digits))
        self._spans.append((start, len(self._ops)))
        return len(self._spans) - 1

    def place(self, text: bytes) -> int:
        """Where ``text`` begins in the pool; equal texts lie there once."""
        known = self._places.get(text)
        if known is None:
            known = self._places[text] = len(self._pool)
            self._pool += text
        return known

    def freeze(self, extra: Words) -> tuple[Words, Octets]:
        """(program int64, pool uint8) for the writer. Program: places of spans and operations, ``extra``, those two."""
        spans = np.array(self._spans, np.int64).reshape(-1)
        ops = np.array(self._ops, np.int64).reshape(-1)
        first = PROGRAM.WORDS + len(extra)
        head = np.array([first, first + len(spans)], np.int64)
        return np.concatenate([head, extra, spans, ops]), np.frombuffer(bytes(self._pool) + bytes(1), np.uint8).copy()
