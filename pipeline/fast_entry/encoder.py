"""Templates of entries, for each instrument and side: the parts of the operation's record, of the intent, and of the
venue's order. One jitted call (launch.py) makes an entry of them: its records in the journal, the bytes of its orders,
and, where both sockets take them at once, these bytes in the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from pipeline.execution.journal import Place
from pipeline.execution.records import LegPlan, OperationRecord, OrderIntentRecord, Purpose, Record
from pipeline.fast_entry.encode import ENTRY_BYTES_MAX, ORDER_BYTES_MAX, ORDER_HEAD
from pipeline.fast_entry.launch import WRITE, launch
from pipeline.model.clock import mono_ns
from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.model.instruments import InstrumentRow
from pipeline.templates import template
from pipeline.templates.hmac_sha256 import pads_of
from pipeline.templates.slots import ENTRY_LEG, ENTRY_SLOTS, LAUNCH, LEGS, OP_GAP, ORDER_SPAN, TEMPLATE_ROW
from pipeline.templates.template import CUT, LEG_SLOTS, SLOTS, Placeholder, TemplateTable, leg
from shm.jit import direct
from shm.layout import BOOK
from shm.tls.sealed import NO_SEAL
from shm.words import Octets, Words

NO_SOCKETS = (-1, -1)
NO_SEALS = (NO_SEAL, NO_SEAL)
Ahead = Callable[[], int]  # the caller's clock less the monotonic one (``launch``), asked for right before the call
_MASKS = tuple(LEG_SLOTS * (k + 1) + ENTRY_LEG.mask for k in range(LEGS))


def real_time() -> int:
    """:data:`Ahead` of whoever lives by the monotonic clock."""
    return 0


def ahead_of(clock: Callable[[], int]) -> Ahead:
    """How far a clock is ahead of the monotonic one: not at all, where it is that."""
    return real_time if clock is mono_ns else lambda: clock() - mono_ns()


class Launched(NamedTuple):
    """LAUNCH of one order."""

    stop: int
    taken: int
    looked_mono_ns: int
    sent_mono_ns: int
    start: int
    size: int


class EntryJournal(Protocol):
    """``Journal`` as far as it is needed here."""

    boot_epoch: int

    @property
    def next_seq(self) -> int: ...

    def claim(self, size_bytes: int) -> Place: ...

    def claimed(self, end: int, count: int) -> None: ...

    def recent(self, count: int) -> list[Record]: ...


class EntryEncoder:
    """Templates of all instruments, and the numbers of the entry that is being made (``slots``, ``orders``)."""

    def __init__(self, id_prefix: str) -> None:
        self._id_prefix = id_prefix
        self._book = TemplateTable()
        self._book.place(bytes(1))  # no pads lie at 0
        for part in cut_operation(id_prefix):
            self._book.add(part)
        self._of_key: dict[int, list[int]] = {}
        self._kernel = launch_kernel()
        self._place = Place()
        self.slots = np.zeros(SLOTS + LEGS * BOOK.WORDS, np.int64)
        self._order_spans = self.slots[ENTRY_SLOTS.orders : ENTRY_SLOTS.orders + LEGS * ORDER_SPAN.WORDS]
        self._launches = self.slots[ENTRY_SLOTS.launches : ENTRY_SLOTS.launches + LEGS * LAUNCH.WORDS]
        self.orders: Octets = np.zeros(LEGS * ORDER_BYTES_MAX, np.uint8)
        self.orders_view = memoryview(self.orders.data).cast("B")
        self.draw_masks()
        self.freeze()

    def learn(
        self,
        row: InstrumentRow,
        side: OrderSide,
        *,
        tick: Decimal,
        lot: Decimal,
        reserve: tuple[str, int, Decimal],
        order: template.Pieces,
    ) -> None:
        """Templates of one instrument and side; ``reserve``: asset, slot of the leg, what the slot is multiplied with.

        Raises ``ValueError`` for a row whose numbers no template can write. ``freeze`` before the next entry.
        """
        qty, price = template.amount(leg(ENTRY_LEG.lots), lot), template.amount(leg(ENTRY_LEG.ticks), tick)
        plan = leg_pieces(row, side, qty, price)
        intent = intent_pieces(row, side, self._id_prefix, qty, price, reserve)
        if (
            template.bytes_max(order) > ORDER_BYTES_MAX - ORDER_HEAD
            or template.bytes_max(plan) + template.bytes_max(intent) > ENTRY_BYTES_MAX // 4
        ):
            raise ValueError(f"templates of {row.spec.venue} {row.spec.symbol} are too long")
        key = next((piece.prefix for piece in order if isinstance(piece, Placeholder) and _is_signature(piece)), b"")
        pair = msgspec.msgpack.encode(row.spec.pair) + template.array_head(LEGS)
        notional: template.Pieces = [template.amount(leg(ENTRY_LEG.notional), notional_unit(tick, lot))]
        parts: tuple[template.Pieces, ...] = ([pair], plan, intent, notional, order)
        numbers = [self._book.add(part) for part in parts]
        numbers += [self._book.place(pads_of(key)) if key else 0, int(template.TEXT_FRAME in order)]
        self._of_key[2 * row.instrument_id + (side is OrderSide.SELL)] = numbers

    def freeze(self) -> None:
        """Makes what was learned ready for use."""
        templates = np.zeros(TEMPLATE_ROW.WORDS * (max(self._of_key, default=0) + 2), np.int64)
        for key, numbers in self._of_key.items():
            templates[TEMPLATE_ROW.WORDS * key : TEMPLATE_ROW.WORDS * key + len(numbers)] = numbers
        self._program, self._pool = self._book.freeze(templates)

    def run(
        self,
        steps: int,
        halt: Words,
        ints: Words,
        *,
        dequeued_ns: int,
        window_ms: int,
        fds: tuple[int, int],
        seals: tuple[int, int],
        ahead: Ahead,
        journal: EntryJournal | None = None,
        mono_ns: int = 0,
        wall_ns: int = 0,
        counter: int = 0,
        venues_ms: tuple[int, int] = (0, 0),
    ) -> None:
        """``steps`` of the entry in ``slots`` (see :func:`launch`); those with WRITE need everything behind
        ``ahead``. ``halt``: int64[HALT.END]; ``ints``: int64, the limits table.

        Raises JournalError when the journal takes nothing: nothing was sent then.
        """
        place, seq, boot_epoch = self._place, 0, 0
        if journal is not None:
            self._place = place = journal.claim(ENTRY_BYTES_MAX)
            seq, boot_epoch = journal.next_seq, journal.boot_epoch
        end = self._kernel(
            self._program, self._pool, self.slots, place.octets, place.words, place.scratch, self.orders, halt, ints,
            steps, place.offset, seq, boot_epoch, mono_ns, wall_ns, dequeued_ns, counter, window_ms, venues_ms[0],
            venues_ms[1], fds[0], fds[1], seals[0], seals[1], ahead(),
        )  # fmt: skip
        if journal is not None and steps & WRITE:
            journal.claimed(end, 1 + LEGS)

    def draw_masks(self) -> None:
        """New masks for the text frames of the next entry: nobody can foresee them."""
        drawn = os.urandom(4 * LEGS)
        for k, slot in enumerate(_MASKS):
            self.slots[slot] = int.from_bytes(drawn[4 * k : 4 * k + 4], "big")

    def launches(self) -> list[Launched]:
        """What became of both orders' bytes."""
        found, size = self._launches.tolist(), LAUNCH.WORDS
        return [Launched(*found[k * size : (k + 1) * size]) for k in range(LEGS)]

    def order_spans(self) -> list[int]:
        """``ENTRY_SLOTS.orders`` of both orders."""
        return self._order_spans.tolist()  # type: ignore[no-any-return]


def launch_kernel() -> Callable[..., int]:
    """``launch``, compiled and callable at once."""
    octets = np.zeros(64, np.uint8)
    words, cells = octets.view(np.int64), octets.view(np.uint64)
    return direct(launch, words, octets, words, octets, words, cells, octets, words, words, *(0,) * 16)


def _is_signature(piece: Placeholder) -> bool:
    """Whether it is the gap of a signature that is made here."""
    return piece.kind == OP_GAP and bool(piece.prefix)


def notional_unit(tick: Decimal, lot: Decimal) -> Decimal:
    """What one unit of ``ENTRY_LEG.notional`` is worth: the slot holds lots x ticks, each in its factor's digits."""
    return Decimal(1).scaleb(-(template.factor_of(tick)[1] + template.factor_of(lot)[1]))


def cut_operation(id_prefix: str) -> list[template.Pieces]:
    """HEAD, MIDDLE and TAIL of an operation's record: what stands before the pair, before and behind the notional."""
    pieces = template.record_pieces(
        OperationRecord,
        {
            "operation_id": template.id_str(ENTRY_SLOTS.operation, id_prefix),
            "opportunity_id": template.number(ENTRY_SLOTS.opportunity),
            "type": template.number(ENTRY_SLOTS.type),
            "pair": CUT,
            "legs": [],
            "edge_detect_bps": template.real(ENTRY_SLOTS.edge_detect_bps),
            "edge_send_bps": template.real(ENTRY_SLOTS.edge_send_bps),
            "direction_key": template.number(ENTRY_SLOTS.direction),
            "notional_usd": CUT,
            "trigger_recv_mono_ns": template.number(ENTRY_SLOTS.trigger_mono_ns),
            "detect_mono_ns": template.number(ENTRY_SLOTS.detect_mono_ns),
            "dequeued_mono_ns": template.number(ENTRY_SLOTS.dequeued_mono_ns),
            "gate_mono_ns": template.number(ENTRY_SLOTS.gate_mono_ns),
            "manual": False,
            "closes": "",
        },
    )
    return template.cut_at(pieces)


def leg_pieces(row: InstrumentRow, side: OrderSide, qty: Placeholder, price: Placeholder) -> template.Pieces:
    """One leg of an operation's record."""
    spec = row.spec
    return template.record_pieces(
        LegPlan,
        {
            "instrument_id": row.instrument_id,
            "venue": spec.venue,
            "symbol": spec.symbol,
            "kind": spec.kind,
            "base": spec.base,
            "quote": spec.quote,
            "side": side,
            "qty": qty,
            "limit_price": price,
            "best_price": template.amount(leg(ENTRY_LEG.best_fp), Decimal(1).scaleb(-row.price_exp)),
            "book_seq": template.number(leg(ENTRY_LEG.book_seq)),
            "update_id": template.number(leg(ENTRY_LEG.update_id)),
            "proof_mono_ns": template.number(leg(ENTRY_LEG.proof_mono_ns)),
            "book_recv_mono_ns": template.number(leg(ENTRY_LEG.recv_mono_ns)),
        },
    )


def intent_pieces(
    row: InstrumentRow,
    side: OrderSide,
    id_prefix: str,
    qty: Placeholder,
    price: Placeholder,
    reserve: tuple[str, int, Decimal],
) -> template.Pieces:
    """The intent of one leg's order."""
    spec = row.spec
    asset, slot, unit = reserve
    return template.record_pieces(
        OrderIntentRecord,
        {
            "client_id": template.id_str(leg(ENTRY_LEG.client), id_prefix),
            "operation_id": template.id_str(ENTRY_SLOTS.operation, id_prefix),
            "leg": template.number(leg(ENTRY_LEG.number)),
            "purpose": Purpose.ENTRY,
            "instrument_id": row.instrument_id,
            "venue": spec.venue,
            "symbol": spec.symbol,
            "kind": spec.kind,
            "base": spec.base,
            "quote": spec.quote,
            "side": side,
            "order_kind": OrderKind.LIMIT,
            "tif": TimeInForce.IOC,
            "qty": qty,
            "price": price,
            "reduce_only": False,
            "multiplier": spec.multiplier,
            "expiry_wall_ms": template.number(ENTRY_SLOTS.expiry_wall_ms),
            "reserve_asset": asset,
            "reserve_amount": template.amount(leg(slot), unit),
            "book_seq": template.number(leg(ENTRY_LEG.book_seq)),
            "update_id": template.number(leg(ENTRY_LEG.update_id)),
            "attempt": 0,
        },
    )
