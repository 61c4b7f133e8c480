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
from pipeline.execution.journal_commit import HEADER_WORDS, commit_record
from pipeline.execution.records import TYPE_OF_RECORD, LegPlan, OperationRecord, OrderIntentRecord, Purpose, Record
from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.model.instruments import InstrumentRow
from pipeline.templates import template as st
from pipeline.templates.template import CUT, LEG_SLOTS, LEGS, PROGRAM_EXTRA, SLOTS, Placeholder, TemplateTable, leg
from pipeline.templates.template_writer import fill_template
from shm.jit import direct, njit_bare
from shm.layout import BOOK

Words = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]
Cells = npt.NDArray[np.uint64]

# --- templates of one instrument and side ---
PAIR = 0
LEG = 1
INTENT = 2
NOTIONAL = 3
ORDER = 4
KINDS = 8

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
    at k * ORDER_BYTES_MAX, its length and what is signed of it in ``S_ORDERS``). Returns the byte behind the last
    record.

    ``counter``: of the operation's id, the clients' follow; ``window_ms``: how long the venues may take the orders;
    ``venue_*_ms``: each venue's own clock.
    """
    first, second = LEG_SLOTS, 2 * LEG_SLOTS
    templates = PROGRAM_EXTRA
    keys = (
        templates + KINDS * (2 * slots[first + st.L_INSTRUMENT] + (1 if slots[first + st.L_SIDE] < 0 else 0)),
        templates + KINDS * (2 * slots[second + st.L_INSTRUMENT] + (1 if slots[second + st.L_SIDE] < 0 else 0)),
    )
    slots[st.S_OPERATION] = counter
    slots[st.S_DEQUEUED_MONO_NS] = dequeued_ns
    slots[st.S_GATE_MONO_NS] = mono_ns
    slots[st.S_EXPIRY_WALL_MS] = wall_ns // 1_000_000 + window_ms
    for k in range(LEGS):
        base = LEG_SLOTS * (k + 1)
        now_ms = venue_0_ms if k == 0 else venue_1_ms
        slots[base + st.L_NUMBER] = k
        slots[base + st.L_CLIENT] = counter + 1 + k
        slots[base + st.L_NOW_MS] = now_ms
        slots[base + st.L_NOW_S] = now_ms // 1000
        slots[base + st.L_EXPIRY_MS] = now_ms + window_ms
        place = k * ORDER_BYTES_MAX
        end = fill_template(program, pool, program[keys[k] + ORDER], slots, k, orders, place)
        order_spans = st.S_ORDERS + st.ORDER_SLOTS * k
        slots[order_spans] = end - place
        slots[order_spans + 1] = slots[base + st.L_SIGN_FROM] - place
        slots[order_spans + 2] = slots[base + st.L_SIGN_TO] - place
        slots[order_spans + 3] = slots[base + st.L_SIGNATURE] - place
    body = at + _BODY
    end = fill_template(program, pool, HEAD, slots, 0, octets, body)
    end = fill_template(program, pool, program[keys[0] + PAIR], slots, 0, octets, end)
    for k in range(LEGS):
        end = fill_template(program, pool, program[keys[k] + LEG], slots, k, octets, end)
    end = fill_template(program, pool, MIDDLE, slots, 0, octets, end)
    largest = slots[st.S_LARGEST_LEG]
    end = fill_template(program, pool, program[keys[largest] + NOTIONAL], slots, largest, octets, end)
    end = fill_template(program, pool, TAIL, slots, 0, octets, end)
    for number in range(1 + LEGS):
        if number:
            body = at + _BODY
            end = fill_template(program, pool, program[keys[number - 1] + INTENT], slots, number - 1, octets, body)
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
        self._order_spans = self.slots[st.S_ORDERS : st.S_ORDERS + LEGS * st.ORDER_SLOTS]
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
        qty, price = st.amount(leg(st.L_LOTS), lot), st.amount(leg(st.L_TICKS), tick)
        plan = leg_pieces(row, side, qty, price)
        intent = intent_pieces(row, side, self._id_prefix, qty, price, reserve)
        if st.bytes_max(order) > ORDER_BYTES_MAX or st.bytes_max(plan) + st.bytes_max(intent) > ENTRY_BYTES_MAX // 4:
            raise ValueError(f"templates of {row.spec.venue} {row.spec.symbol} are too long")
        pair = msgspec.msgpack.encode(row.spec.pair) + st.array_head(LEGS)
        notional: st.Pieces = [st.amount(leg(st.L_NOTIONAL), notional_unit(tick, lot))]
        parts: tuple[st.Pieces, ...] = ([pair], plan, intent, notional, order)
        self._of_key[2 * row.instrument_id + (side is OrderSide.SELL)] = [self._book.add(part) for part in parts]

    def freeze(self) -> None:
        """Makes what was learned ready for use."""
        templates = np.zeros(KINDS * (max(self._of_key, default=0) + 2), np.int64)
        for key, numbers in self._of_key.items():
            templates[KINDS * key : KINDS * key + len(numbers)] = numbers
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
        """``S_ORDERS`` of both orders."""
        return self._order_spans.tolist()  # type: ignore[no-any-return]


def notional_unit(tick: Decimal, lot: Decimal) -> Decimal:
    """What one unit of ``L_NOTIONAL`` is worth: the slot holds lots x ticks, each in its factor's digits."""
    return Decimal(1).scaleb(-(st.factor_of(tick)[1] + st.factor_of(lot)[1]))


def cut_operation(id_prefix: str) -> list[st.Pieces]:
    """HEAD, MIDDLE and TAIL of an operation's record: what stands before the pair, before and behind the notional."""
    pieces = st.record_pieces(
        OperationRecord,
        {
            "operation_id": st.id_str(st.S_OPERATION, id_prefix),
            "opportunity_id": st.number(st.S_OPPORTUNITY),
            "type": st.number(st.S_TYPE),
            "pair": CUT,
            "legs": [],
            "edge_detect_bps": st.real(st.S_EDGE_DETECT),
            "edge_send_bps": st.real(st.S_EDGE_SEND),
            "direction_key": st.number(st.S_DIRECTION),
            "notional_usd": CUT,
            "trigger_recv_mono_ns": st.number(st.S_TRIGGER_MONO_NS),
            "detect_mono_ns": st.number(st.S_DETECT_MONO_NS),
            "dequeued_mono_ns": st.number(st.S_DEQUEUED_MONO_NS),
            "gate_mono_ns": st.number(st.S_GATE_MONO_NS),
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
            "best_price": st.amount(leg(st.L_BEST_FP), Decimal(1).scaleb(-row.price_exp)),
            "book_seq": st.number(leg(st.L_BOOK_SEQ)),
            "update_id": st.number(leg(st.L_UPDATE_ID)),
            "proof_mono_ns": st.number(leg(st.L_PROOF_MONO_NS)),
            "book_recv_mono_ns": st.number(leg(st.L_RECV_MONO_NS)),
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
            "client_id": st.id_str(leg(st.L_CLIENT), id_prefix),
            "operation_id": st.id_str(st.S_OPERATION, id_prefix),
            "leg": st.number(leg(st.L_NUMBER)),
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
            "expiry_wall_ms": st.number(st.S_EXPIRY_WALL_MS),
            "reserve_asset": asset,
            "reserve_amount": st.amount(leg(slot), unit),
            "book_seq": st.number(leg(st.L_BOOK_SEQ)),
            "update_id": st.number(leg(st.L_UPDATE_ID)),
            "attempt": 0,
        },
    )
