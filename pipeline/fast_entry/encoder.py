"""Encodes an entry from templates, in one jitted call: its records in the journal and the bytes of its orders.

Everything but the numbers is ready beforehand: for each instrument and side the parts of the operation's record, of the
intent, and of the venue's order. What is written is byte for byte what the codecs write of the same records and
requests.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.execution.journal import FORMAT_VERSION, RECORD_MAGIC, Place
from pipeline.execution.journal.commit import HEADER_WORDS, commit_record
from pipeline.execution.records import TYPE_OF_RECORD, LegPlan, OperationRecord, OrderIntentRecord, Purpose, Record
from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.model.instruments import InstrumentRow
from pipeline.templates import template as st
from pipeline.templates.slots import ENTRY_LEG, ENTRY_SLOTS, LEGS, ORDER_SPAN, PROGRAM, TEMPLATE_ROW
from pipeline.templates.template import CUT, LEG_SLOTS, SLOTS, Placeholder, TemplateTable, leg
from pipeline.templates.template_writer import fill_template
from shm.jit import direct, njit_bare
from shm.layout import BOOK
from shm.words import Words

Octets = npt.NDArray[np.uint8]
Cells = npt.NDArray[np.uint64]

# --- templates of every entry ---
HEAD = 0
MIDDLE = 1
TAIL = 2

ORDER_BYTES_MAX = 2048
ENTRY_BYTES_MAX = 8192  # in the journal, headers included
_OPERATION = TYPE_OF_RECORD[OperationRecord] << 16 | FORMAT_VERSION
_INTENT = TYPE_OF_RECORD[OrderIntentRecord] << 16 | FORMAT_VERSION
_BODY = HEADER_WORDS * 8


@njit_bare
def _close(octets: Octets, end: int) -> int:
    """Zeroes up to the next multiple of eight (the checks read whole words); that place."""
    while end & 7:
        octets[end] = 0
        end += 1
    return end


@njit_bare
def encode_entry(
    program: Words,
    pool: Octets,
    slots: Words,
    octets: Octets,
    words: Words,
    scratch: Cells,
    orders: Octets,
    at: int,
    seq: int,
    boot_epoch: int,
    mono_ns: int,
    wall_ns: int,
    dequeued_ns: int,
    counter: int,
    window_ms: int,
    venue_0_ms: int,
    venue_1_ms: int,
) -> int:
    """Operation and intents into the journal at byte ``at``, committed one by one; both orders into ``orders`` (leg k
    at k * ORDER_BYTES_MAX, its length and what is signed of it in ``ENTRY_SLOTS.orders``). Returns the byte behind the
    last record.

    ``counter``: of the operation's id, the clients' follow; ``window_ms``: how long the venues may take the orders;
    ``venue_*_ms``: each venue's own clock.
    """
    first, second = LEG_SLOTS, 2 * LEG_SLOTS
    templates = PROGRAM.WORDS
    row_0 = 2 * slots[first + ENTRY_LEG.instrument] + (1 if slots[first + ENTRY_LEG.side] < 0 else 0)
    row_1 = 2 * slots[second + ENTRY_LEG.instrument] + (1 if slots[second + ENTRY_LEG.side] < 0 else 0)
    keys = (templates + TEMPLATE_ROW.WORDS * row_0, templates + TEMPLATE_ROW.WORDS * row_1)
    slots[ENTRY_SLOTS.operation] = counter
    slots[ENTRY_SLOTS.dequeued_mono_ns] = dequeued_ns
    slots[ENTRY_SLOTS.gate_mono_ns] = mono_ns
    slots[ENTRY_SLOTS.expiry_wall_ms] = wall_ns // 1_000_000 + window_ms
    for k in range(LEGS):
        base = LEG_SLOTS * (k + 1)
        now_ms = venue_0_ms if k == 0 else venue_1_ms
        slots[base + ENTRY_LEG.number] = k
        slots[base + ENTRY_LEG.client] = counter + 1 + k
        slots[base + ENTRY_LEG.now_ms] = now_ms
        slots[base + ENTRY_LEG.now_s] = now_ms // 1000
        slots[base + ENTRY_LEG.expiry_ms] = now_ms + window_ms
        place = k * ORDER_BYTES_MAX
        end = fill_template(program, pool, program[keys[k] + TEMPLATE_ROW.order], slots, k, orders, place)
        order_spans = ENTRY_SLOTS.orders + ORDER_SPAN.WORDS * k
        slots[order_spans + ORDER_SPAN.size] = end - place
        slots[order_spans + ORDER_SPAN.sign_from] = slots[base + ENTRY_LEG.sign_from] - place
        slots[order_spans + ORDER_SPAN.sign_to] = slots[base + ENTRY_LEG.sign_to] - place
        slots[order_spans + ORDER_SPAN.signature] = slots[base + ENTRY_LEG.signature] - place
    body = at + _BODY
    end = fill_template(program, pool, HEAD, slots, 0, octets, body)
    end = fill_template(program, pool, program[keys[0] + TEMPLATE_ROW.pair], slots, 0, octets, end)
    for k in range(LEGS):
        end = fill_template(program, pool, program[keys[k] + TEMPLATE_ROW.leg], slots, k, octets, end)
    end = fill_template(program, pool, MIDDLE, slots, 0, octets, end)
    largest = slots[ENTRY_SLOTS.largest_leg]
    end = fill_template(program, pool, program[keys[largest] + TEMPLATE_ROW.notional], slots, largest, octets, end)
    end = fill_template(program, pool, TAIL, slots, 0, octets, end)
    for number in range(1 + LEGS):
        if number:
            body = at + _BODY
            end = fill_template(
                program, pool, program[keys[number - 1] + TEMPLATE_ROW.intent], slots, number - 1, octets, body
            )
        following = _close(octets, end)
        kind = _INTENT if number else _OPERATION
        commit_record(
            octets, words, at, end - body, kind, RECORD_MAGIC, seq + number, mono_ns, wall_ns, boot_epoch, scratch
        )
        at = following
    return at


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
        for part in cut_operation(id_prefix):
            self._book.add(part)
        self._of_key: dict[int, list[int]] = {}
        octets = np.zeros(64, np.uint8)
        words, cells = octets.view(np.int64), octets.view(np.uint64)
        self._kernel = direct(
            encode_entry, words, octets, words, octets, words, cells, octets, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        )
        self.slots = np.zeros(SLOTS + LEGS * BOOK.WORDS, np.int64)
        self._order_spans = self.slots[ENTRY_SLOTS.orders : ENTRY_SLOTS.orders + LEGS * ORDER_SPAN.WORDS]
        self.orders: Octets = np.zeros(LEGS * ORDER_BYTES_MAX, np.uint8)
        self.orders_view = memoryview(self.orders.data).cast("B")
        self.freeze()

    def learn(
        self,
        row: InstrumentRow,
        side: OrderSide,
        *,
        tick: Decimal,
        lot: Decimal,
        reserve: tuple[str, int, Decimal],
        order: st.Pieces,
    ) -> None:
        """Templates of one instrument and side; ``reserve``: asset, slot of the leg, what the slot is multiplied with.

        Raises ``ValueError`` for a row whose numbers no template can write. ``freeze`` before the next entry.
        """
        qty, price = st.amount(leg(ENTRY_LEG.lots), lot), st.amount(leg(ENTRY_LEG.ticks), tick)
        plan = leg_pieces(row, side, qty, price)
        intent = intent_pieces(row, side, self._id_prefix, qty, price, reserve)
        if st.bytes_max(order) > ORDER_BYTES_MAX or st.bytes_max(plan) + st.bytes_max(intent) > ENTRY_BYTES_MAX // 4:
            raise ValueError(f"templates of {row.spec.venue} {row.spec.symbol} are too long")
        pair = msgspec.msgpack.encode(row.spec.pair) + st.array_head(LEGS)
        notional: st.Pieces = [st.amount(leg(ENTRY_LEG.notional), notional_unit(tick, lot))]
        parts: tuple[st.Pieces, ...] = ([pair], plan, intent, notional, order)
        self._of_key[2 * row.instrument_id + (side is OrderSide.SELL)] = [self._book.add(part) for part in parts]

    def freeze(self) -> None:
        """Makes what was learned ready for use."""
        templates = np.zeros(TEMPLATE_ROW.WORDS * (max(self._of_key, default=0) + 2), np.int64)
        for key, numbers in self._of_key.items():
            templates[TEMPLATE_ROW.WORDS * key : TEMPLATE_ROW.WORDS * key + len(numbers)] = numbers
        self._program, self._pool = self._book.freeze(templates)

    def encode(
        self,
        journal: EntryJournal,
        *,
        mono_ns: int,
        wall_ns: int,
        dequeued_ns: int,
        counter: int,
        window_ms: int,
        venues_ms: tuple[int, int],
    ) -> None:
        """Records of the entry in ``slots`` into the journal, orders into ``orders`` (see :func:`encode_entry`).

        Raises JournalError when the journal takes nothing: nothing may be sent then.
        """
        place = journal.claim(ENTRY_BYTES_MAX)
        end = self._kernel(
            self._program, self._pool, self.slots, place.octets, place.words, place.scratch, self.orders,
            place.offset, journal.next_seq, journal.boot_epoch, mono_ns, wall_ns, dequeued_ns, counter, window_ms,
            venues_ms[0], venues_ms[1],
        )  # fmt: skip
        journal.claimed(end, 1 + LEGS)

    def order_spans(self) -> list[int]:
        """``ENTRY_SLOTS.orders`` of both orders."""
        return self._order_spans.tolist()  # type: ignore[no-any-return]


def notional_unit(tick: Decimal, lot: Decimal) -> Decimal:
    """What one unit of ``ENTRY_LEG.notional`` is worth: the slot holds lots x ticks, each in its factor's digits."""
    return Decimal(1).scaleb(-(st.factor_of(tick)[1] + st.factor_of(lot)[1]))


def cut_operation(id_prefix: str) -> list[st.Pieces]:
    """HEAD, MIDDLE and TAIL of an operation's record: what stands before the pair, before and behind the notional."""
    pieces = st.record_pieces(
        OperationRecord,
        {
            "operation_id": st.id_str(ENTRY_SLOTS.operation, id_prefix),
            "opportunity_id": st.number(ENTRY_SLOTS.opportunity),
            "type": st.number(ENTRY_SLOTS.type),
            "pair": CUT,
            "legs": [],
            "edge_detect_bps": st.real(ENTRY_SLOTS.edge_detect_bps),
            "edge_send_bps": st.real(ENTRY_SLOTS.edge_send_bps),
            "direction_key": st.number(ENTRY_SLOTS.direction),
            "notional_usd": CUT,
            "trigger_recv_mono_ns": st.number(ENTRY_SLOTS.trigger_mono_ns),
            "detect_mono_ns": st.number(ENTRY_SLOTS.detect_mono_ns),
            "dequeued_mono_ns": st.number(ENTRY_SLOTS.dequeued_mono_ns),
            "gate_mono_ns": st.number(ENTRY_SLOTS.gate_mono_ns),
            "manual": False,
            "closes": "",
        },
    )
    return st.cut_at(pieces)


def leg_pieces(row: InstrumentRow, side: OrderSide, qty: Placeholder, price: Placeholder) -> st.Pieces:
    """One leg of an operation's record."""
    spec = row.spec
    return st.record_pieces(
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
            "best_price": st.amount(leg(ENTRY_LEG.best_fp), Decimal(1).scaleb(-row.price_exp)),
            "book_seq": st.number(leg(ENTRY_LEG.book_seq)),
            "update_id": st.number(leg(ENTRY_LEG.update_id)),
            "proof_mono_ns": st.number(leg(ENTRY_LEG.proof_mono_ns)),
            "book_recv_mono_ns": st.number(leg(ENTRY_LEG.recv_mono_ns)),
        },
    )


def intent_pieces(
    row: InstrumentRow,
    side: OrderSide,
    id_prefix: str,
    qty: Placeholder,
    price: Placeholder,
    reserve: tuple[str, int, Decimal],
) -> st.Pieces:
    """The intent of one leg's order."""
    spec = row.spec
    asset, slot, unit = reserve
    return st.record_pieces(
        OrderIntentRecord,
        {
            "client_id": st.id_str(leg(ENTRY_LEG.client), id_prefix),
            "operation_id": st.id_str(ENTRY_SLOTS.operation, id_prefix),
            "leg": st.number(leg(ENTRY_LEG.number)),
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
            "expiry_wall_ms": st.number(ENTRY_SLOTS.expiry_wall_ms),
            "reserve_asset": asset,
            "reserve_amount": st.amount(leg(slot), unit),
            "book_seq": st.number(leg(ENTRY_LEG.book_seq)),
            "update_id": st.number(leg(ENTRY_LEG.update_id)),
            "attempt": 0,
        },
    )
