"""The fast path of an entry: from an opportunity record to journal records and order bytes, without Python objects.

``offer`` asks the jitted verdict (verdict.py) and then the gate for what only Python knows. ``write`` puts the approved
entry's records into the journal and its orders' bytes into ``encoder.orders``. The caller sends them and gives the core
the event ``Entered``: the ledger folds those records in like any others. What ``offer`` does not approve, the exact
path (risk/gate.py) judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import Entered, Now
from pipeline.execution.market import UsdRates, reserved_share
from pipeline.execution.plan import grid_of
from pipeline.execution.records import OperationRecord, OrderIntentRecord
from pipeline.fast_entry.encode import ORDER_BYTES_MAX, ORDER_HEAD
from pipeline.fast_entry.encoder import (
    NO_SEALS,
    NO_SOCKETS,
    Ahead,
    EntryEncoder,
    EntryJournal,
    Launched,
    notional_unit,
    real_time,
)
from pipeline.fast_entry.launch import ALL, WRITE
from pipeline.fast_entry.limits_table import LimitsTable
from pipeline.fast_entry.verdict import YES, judge
from pipeline.model.enums import OrderSide
from pipeline.model.instruments import InstrumentRow
from pipeline.risk.gate import Gate
from pipeline.templates.slots import ENTRY_LEG, ENTRY_SLOTS, LEGS, ORDER_SPAN
from pipeline.templates.template import LEG_SLOTS, OrderTerms, Pieces
from shm.jit import direct
from shm.layout import LEG, OPPORTUNITY
from shm.layout_pages import HALT
from shm.words import Words

TemplateOf = Callable[[str, OrderTerms], "Pieces | None"]  # (venue, terms): the venue's order, None = no template
_LEG_BASES = tuple(LEG_SLOTS * (k + 1) for k in range(LEGS))
_INSTRUMENTS = tuple(base + ENTRY_LEG.instrument for base in _LEG_BASES)
_FIRST_SIDE = OPPORTUNITY.legs + LEG.side
_RECORD_IDS = tuple(OPPORTUNITY.legs + k * LEG.WORDS + LEG.instrument for k in range(LEGS))
_PROOFS = tuple(base + ENTRY_LEG.proof_mono_ns for base in _LEG_BASES)


def verdict_kernel() -> Callable[[Words, Words, Words, Words, npt.NDArray[np.float64], Words, int, float], int]:
    """``judge``, compiled and callable at once: its arrays are int64 but for the fifth, float64 (see there)."""
    words = np.zeros(8, np.int64)
    return direct(judge, words, words, words, words, np.zeros(8), words, 0, 0.0)


class OrderBytes:
    """One order of an entry, ready for its venue, and the book that it was judged on (``last_look.EntryLeg``)."""

    __slots__ = ("client_id", "instrument_id", "proof_mono_ns", "signed", "symbol", "venue", "view")

    def __init__(
        self, row: InstrumentRow, proof_mono_ns: int, client_id: str, view: memoryview, signed: list[int]
    ) -> None:
        self.venue = row.spec.venue
        self.symbol = row.spec.symbol
        self.instrument_id = row.instrument_id
        self.proof_mono_ns = proof_mono_ns  # when the book was last proved
        self.client_id = client_id
        self.view = view
        self.signed = signed  # (from, to, place of the signature) within ``view``


class FastEntry:
    """See the module's text. ``words``: memory of all feeds (int64); ``feeds``: the word where each feed begins in
    it; ``lease_token``: the executor's own.
    """

    def __init__(
        self,
        context: CoreContext,
        gate: Gate,
        balances: BalanceMonitor,
        rates: UsdRates,
        *,
        words: Words,
        feeds: list[int],
        lease_token: int,
    ) -> None:
        self._context = context
        self._gate = gate
        self._words = words
        self._template_of: TemplateOf = lambda _venue, _terms: None
        self.limits_table = LimitsTable(context, gate, balances, rates, lease_token=lease_token, feeds=feeds)
        self.encoder = EntryEncoder(context.ids.prefix)
        self._rows: dict[int, InstrumentRow] = {}
        self._legs: tuple[InstrumentRow, InstrumentRow]  # of the entry that was approved
        self._window_ms = context.config.execution.entry_window_ms
        self._judge = verdict_kernel()
        self._no_halt = np.zeros(HALT.END, np.int64)  # no lease
        self._dequeued_ns = self._counter = 0  # of the entry that was written last
        self.last_no = YES  # the verdict's number for the last offer, for diagnosis

    # --- what is known before ---

    def learn(self, template_of: TemplateOf) -> None:
        """Templates of every instrument, by the venues' sessions; again after each change of the catalogue."""
        self._template_of = template_of
        self._learn_all()

    def reconfigured(self) -> None:
        """The core context's configuration is another one: templates and limits table anew."""
        self._window_ms = self._context.config.execution.entry_window_ms
        self._learn_all()

    def rows_changed(self, rows: Sequence[InstrumentRow]) -> None:
        """Rows of the catalogue are new or changed: what no template mentions (funding, status) costs no new ones."""
        known = [self._rows.get(row.instrument_id) for row in rows]
        if all(old is not None and _written(old) == _written(row) for old, row in zip(known, rows, strict=True)):
            for row in rows:
                self._rows[row.instrument_id] = row
                self.limits_table.row_changed(row)
        else:
            self._learn_all()

    def _learn_all(self) -> None:
        context, limits_table = self._context, self.limits_table
        self.encoder = EntryEncoder(context.ids.prefix)
        self._rows = {row.instrument_id: row for row in context.instruments}
        limits_table.orderable = {
            (row.instrument_id, side) for row in context.instruments for side in OrderSide if self._learned(row, side)
        }
        self.encoder.freeze()
        limits_table.rows_changed()

    def _learned(self, row: InstrumentRow, side: OrderSide) -> bool:
        """Whether every byte of an entry with this instrument and side can be made beforehand."""
        spec, grid, leverage = row.spec, grid_of(row), self._context.config.detection.hedge.leverage
        terms = OrderTerms(
            symbol=spec.symbol,
            side=side,
            tick=grid.tick,
            lot=grid.lot,
            multiplier=spec.multiplier,
            id_prefix=self._context.ids.prefix,
            window_ms=self._context.config.execution.entry_window_ms,
        )
        asset, share = reserved_share(row, side, leverage)
        try:
            order = self._template_of(spec.venue, terms)
            if order is None:
                return False
            reserve = (asset, ENTRY_LEG.lots, grid.lot)
            if share:
                reserve = (asset, ENTRY_LEG.notional, share * notional_unit(grid.tick, grid.lot))
            self.encoder.learn(row, side, tick=grid.tick, lot=grid.lot, reserve=reserve, order=order)
        except ValueError:  # numbers that no template can write
            return False
        return True

    # --- one opportunity ---

    def offer(self, record: Words, halt: Words, now: Now) -> bool:
        """Whether the record is approved here; then its numbers are in ``encoder.slots`` and its amounts reserved.

        record: int64[OPPORTUNITY.WORDS]; halt: int64[HALT.END], the halt page.
        """
        limits_table, slots = self.limits_table, self.encoder.slots
        first_id, second_id = record.item(_RECORD_IDS[0]), record.item(_RECORD_IDS[1])
        buy, sell = (first_id, second_id) if record.item(_FIRST_SIDE) > 0 else (second_id, first_id)
        price_bps = self._gate.direction_price_bps(buy, sell)
        ints, floats = limits_table.ints, limits_table.floats
        no = self._judge(record, self._words, halt, ints, floats, slots, now.mono_ns, price_bps)
        self.last_no = no
        if no:
            return False
        self._context.now = now
        first = self._rows[slots.item(_INSTRUMENTS[0])]
        second = self._rows[slots.item(_INSTRUMENTS[1])]
        self._legs = (first, second)
        if self._gate.may_enter(slots.item(ENTRY_SLOTS.direction), first.spec, second.spec):
            return True
        limits_table.all_changed()  # what the verdict reserved is free again
        return False

    @property
    def legs(self) -> tuple[InstrumentRow, InstrumentRow]:
        """Instruments of the entry that was approved last."""
        return self._legs

    def write(
        self,
        journal: EntryJournal,
        now: Now,
        venues_ms: tuple[int, int],
        *,
        halt: Words | None = None,
        fds: tuple[int, int] = NO_SOCKETS,
        seals: tuple[int, int] = NO_SEALS,
        ahead: Ahead = real_time,
    ) -> None:
        """The approved entry into the journal, and its orders' bytes; with ``halt`` (as :meth:`launch`) all of it in
        one call. ``now``: when it was dequeued; ``venues_ms``: each venue's own clock then.

        Raises JournalError when the journal takes nothing: nothing was sent then.
        """
        self._dequeued_ns, self._counter = now.mono_ns, self._context.ids.claim(1 + LEGS)
        self.encoder.run(
            WRITE if halt is None else ALL,
            self._no_halt if halt is None else halt,
            self.limits_table.ints,
            dequeued_ns=now.mono_ns,
            window_ms=self._window_ms,
            fds=fds,
            seals=seals,
            ahead=ahead,
            journal=journal,
            mono_ns=now.mono_ns,
            wall_ns=now.wall_ns,
            counter=self._counter,
            venues_ms=venues_ms,
        )

    def launch(
        self,
        steps: int,
        halt: Words,
        fds: tuple[int, int],
        ahead: Ahead = real_time,
        *,
        seals: tuple[int, int] = NO_SEALS,
    ) -> None:
        """The orders that were written, to their sockets ``fds``, encrypted by ``seals``; ``steps`` of launch.py:
        FIRST, SECOND. ``halt``: int64[HALT.END], the halt page."""
        self.encoder.run(
            steps,
            halt,
            self.limits_table.ints,
            dequeued_ns=self._dequeued_ns,
            window_ms=self._window_ms,
            fds=fds,
            seals=seals,
            ahead=ahead,
        )

    def orders(self) -> list[OrderBytes]:
        """Both orders as they were written; a text frame is masked once it was launched."""
        encoder, text, slots = self.encoder, self._context.ids.text, self.encoder.slots
        spans, found = encoder.order_spans(), []
        for k, row in enumerate(self._legs):
            size, *signed = spans[ORDER_SPAN.WORDS * k : ORDER_SPAN.WORDS * (k + 1)]
            at = ORDER_BYTES_MAX * k + ORDER_HEAD
            view = encoder.orders_view[at : at + size]
            found.append(OrderBytes(row, slots.item(_PROOFS[k]), text(self._counter + 1 + k), view, signed))
        return found

    def launches(self) -> list[Launched]:
        """What became of both orders' bytes, where :meth:`launch` had them."""
        return self.encoder.launches()

    def wire(self, launched: Launched) -> memoryview:
        """An order's bytes as its socket takes them."""
        return self.encoder.orders_view[launched.start : launched.start + launched.size]

    def entered(self, journal: EntryJournal) -> Entered:
        """What was written, for the core: read back from the journal's own bytes."""
        self.encoder.draw_masks()
        operation, *intents = journal.recent(1 + LEGS)
        assert isinstance(operation, OperationRecord)
        return Entered(operation, tuple(intent for intent in intents if isinstance(intent, OrderIntentRecord)))


def _written(row: InstrumentRow) -> tuple[object, ...]:
    """What an instrument's templates are made of."""
    spec = row.spec
    return (
        spec.venue, spec.symbol, spec.base, spec.quote, spec.kind, spec.tick, spec.lot, spec.multiplier,
        spec.taker_fee_ppm, spec.fee_rule, row.price_exp, row.qty_exp,
    )  # fmt: skip
