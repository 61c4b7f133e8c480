"""Templates of journal records and order requests: bytes that are known in advance, and placeholders for the rest.

A template is made of pieces: ready bytes and placeholders. Compiled (``TemplateTable``) it is a short program over a
pool of bytes; template_writer.py runs it, copies the bytes and writes the numbers of an entry (``slots``) at the
placeholders: as msgpack (journal bodies) or as text (orders).

Slots are one int64 array: ``LEG_SLOTS`` common ones (``S_*``), then ``LEG_SLOTS`` for each leg (``L_*``), which a
template names relative to the leg that it is written for.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.model.enums import OrderSide
from shm.words import Words

Octets = npt.NDArray[np.uint8]

LEG_SLOTS = 32
LEGS = 2
SLOTS = LEG_SLOTS * (1 + LEGS)
BOOKS_OFF = SLOTS  # behind the slots in the same array: the books of both legs
NUMBER_MAX = 1 << 62  # a product of slot and factor beyond this is never written: the exact path takes it

# --- common slots ---
S_OPERATION = 0  # counter of the operation's id
S_OPPORTUNITY = 1
S_TYPE = 2
S_EDGE_DETECT = 3  # bits of a float64
S_EDGE_SEND = 4
S_DIRECTION = 5
S_TRIGGER_MONO_NS = 6
S_DETECT_MONO_NS = 7
S_DEQUEUED_MONO_NS = 8
S_GATE_MONO_NS = 9
S_EXPIRY_WALL_MS = 10
S_LARGEST_LEG = 11  # whose notional is the operation's
S_ORDERS = 16  # four of each order: its size, begin and end of its signed part, place of its signature
ORDER_SLOTS = 4

# --- slots of a leg (L_* of leg k lies at LEG_SLOTS * (k + 1) + L_*) ---
L_INSTRUMENT = 0
L_SIDE = 1
L_LOTS = 2
L_TICKS = 3
L_BEST_FP = 4
L_BOOK_SEQ = 5
L_UPDATE_ID = 6
L_PROOF_MONO_NS = 7
L_RECV_MONO_NS = 8
L_NOTIONAL = 9  # lots x ticks in the row's own digits
L_VENUE = 10
L_CLIENT = 11  # counter of the client id
L_NOW_MS = 12  # the venue's clock
L_NOW_S = 13
L_EXPIRY_MS = 14  # on the venue's clock
L_NUMBER = 15  # 0, 1
L_SIGN_FROM = 17
L_SIGN_TO = 18
L_SIGNATURE = 19

OP_TEXT = 0
OP_INT64 = 1
OP_FLOAT64 = 2
OP_DECIMAL = 3
OP_DECIMAL_STR = 4
OP_INTEGER = 5
OP_ID = 6
OP_MARK = 7
OP_GAP = 8
OP_CUT = 9
OP_WORDS = 4
PROGRAM_SPANS = 0  # word of the program with the place of its spans (first and last operation of each template)
PROGRAM_OPS = 1
PROGRAM_EXTRA = 2  # first of the words that the owner of the templates put in
PLACEHOLDER_BYTES_MAX = 64  # more than any placeholder but a gap ever takes
DIGITS_MAX = 28  # with them the text of any slot is shorter than 32 characters, msgpack's short string


class Placeholder(msgspec.Struct, frozen=True):
    """A place at which the writer puts a number: ``kind`` (OP_*) says how, ``slot`` which one.

    Decimals are written as slot x ``factor`` / 10**``digits``; ids behind their ``prefix``.
    """

    kind: int
    slot: int
    factor: int = 1
    digits: int = 0
    prefix: bytes = b""


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
    fields = [field.name for field in msgspec.structs.fields(kind)]
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
                self._ops.append((OP_TEXT, self._place(ready), len(ready), 0))
                ready = b""
            if piece is None:
                break
            if piece.kind == OP_ID:
                self._ops.append((OP_ID, piece.slot, self._place(piece.prefix), len(piece.prefix)))
            else:
                self._ops.append((piece.kind, piece.slot, piece.factor, piece.digits))
        self._spans.append((start, len(self._ops)))
        return len(self._spans) - 1

    def _place(self, text: bytes) -> int:
        known = self._places.get(text)
        if known is None:
            known = self._places[text] = len(self._pool)
            self._pool += text
        return known

    def freeze(self, extra: Words) -> tuple[Words, Octets]:
        """(program int64, pool uint8) for the writer. Program: places of spans and operations, ``extra``, those two."""
        spans = np.array(self._spans, np.int64).reshape(-1)
        ops = np.array(self._ops, np.int64).reshape(-1)
        first = PROGRAM_EXTRA + len(extra)
        head = np.array([first, first + len(spans)], np.int64)
        return np.concatenate([head, extra, spans, ops]), np.frombuffer(bytes(self._pool) + bytes(1), np.uint8).copy()
