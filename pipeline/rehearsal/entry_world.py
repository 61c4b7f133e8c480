"""A market of a few instruments in private memory, and a core with both ways of an entry on top: for bench and tests.

Books lie in feed segments as the feeds write them, opportunities in records as the detector writes them, halt and lease
in a page; time is virtual. Nothing here leaves the process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import numpy as np

from pipeline.core import ExecutionCore
from pipeline.detection.opportunity_record import record_crc32_of
from pipeline.execution.events import AccountSnapshot, Action, Append, BookView, Now, SweepAnswer, SweepVenue
from pipeline.execution.journal import Journal
from pipeline.execution.market import Instruments
from pipeline.execution.shared_reads import may_launch, read_proved
from pipeline.fast_entry.entry import FastEntry
from pipeline.model.config import (
    DetectionConfig,
    EngineConfig,
    ExchangeConfig,
    ExecutionConfig,
    HedgeConfig,
    MarketConfig,
    RiskLimits,
)
from pipeline.model.enums import Mode, OpportunityType
from pipeline.model.fixedpoint import to_fp
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO, Balance, InstrumentSpec
from pipeline.model.venue_events import SessionState
from pipeline.rehearsal.instruments import rows_for, spec
from pipeline.rehearsal.memory_journal import MemoryJournal
from pipeline.templates import template
from pipeline.templates.slots import ENTRY_LEG
from pipeline.templates.template import OrderTerms, Pieces
from shm.bookring import conn_open, init_feed, publish_book
from shm.layout import BOOK, HEADER, LEG, OPPORTUNITY, feed_segment_words
from shm.layout_pages import CATALOGUE_CAPACITY, HALT
from shm.words import Words

BOOKS = 16
START_NS = 10**15
WALL_NS = 1_700_000_000 * 10**9
LEASE_TOKEN = 7
FIRST_EPOCH = 4242
Level = tuple[Decimal, Decimal]  # price, quantity


def engine_config(**overrides: dict[str, Any]) -> EngineConfig:
    """MEXC spot, Gate.io spot and futures; ``overrides`` by section: limits, execution, detection."""
    market = MarketConfig(symbols=("BTCUSDT",))
    limits = {
        "min_profit_margin_bps": Decimal(5),
        "min_profit_usd": Decimal("0.001"),  # entries here are of 50 USD and less
        "max_slippage_bps": Decimal(200),
        "max_orders_per_s": 1000,
    }
    hedge = HedgeConfig(expected_exit_basis_bps=ZERO)  # its books stand from the first moment: no basis is learned
    return EngineConfig(
        engine_name="entry",
        mode=Mode.SIM,
        exchanges={
            "mexc": ExchangeConfig(dialect="mexc", markets={"spot": market}),
            "gateio": ExchangeConfig(dialect="gateio", markets={"spot": market, "futures": market}),
        },
        detection=DetectionConfig(**{"hedge": hedge, **overrides.get("detection", {})}),
        risk_limits=RiskLimits(**{**limits, **overrides.get("limits", {})}),
        execution=ExecutionConfig(**overrides.get("execution", {})),
    )


def plain_template(_venue: str, terms: OrderTerms) -> Pieces:
    """An order that says its numbers and nothing else."""
    return [
        f"{terms.symbol} {terms.side.name} {terms.id_prefix}".encode(),
        template.id_text(template.leg(ENTRY_LEG.client)),
        b" ",
        template.amount_text(template.leg(ENTRY_LEG.lots), terms.lot),
        b" at ",
        template.amount_text(template.leg(ENTRY_LEG.ticks), terms.tick),
    ]


class EntryWorld:
    """See the module's text. ``specs``: one instrument per venue of the configuration, in its order."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        config: EngineConfig | None = None,
        specs: Sequence[InstrumentSpec] | None = None,
        template_of: Callable[[str, OrderTerms], Pieces | None] = plain_template,
    ) -> None:
        self.config = config or engine_config()
        venues = self.config.venues
        self.rows: list[InstrumentRow] = rows_for(self.config, specs or [spec(v.name) for v in venues])
        self.now_ns = START_NS
        self.wall_offset_ns = WALL_NS
        self.halt = np.zeros(HALT.END, np.int64)
        self.halt[HALT.lease_token] = LEASE_TOKEN
        self.halt[HALT.lease_expiry_mono_ns] = 2**62
        feeds = 1 + max(row.feed_id for row in self.rows)
        size = feed_segment_words(BOOKS)
        self.words = np.zeros(feeds * size, np.int64)
        self.offsets = [feed * size for feed in range(feeds)]
        self._generations = []
        for feed, offset in enumerate(self.offsets):
            self.words[offset + HEADER.epoch] = 1
            init_feed(self.words, offset, BOOKS)
            self._generations.append(int(conn_open(self.words, offset, 0, feed, 0)))
        self._scratch = np.zeros(BOOK.WORDS, np.int64)
        self.instruments = Instruments(self.rows)
        # without a folder: nothing is kept, and no thread syncs it
        self.journal = Journal.open(folder, segment_bytes=1 << 22) if folder else cast(Journal, MemoryJournal())
        self.numbers = 0
        self.core = ExecutionCore(self.config, self.instruments, market=self, halt=self, journal=self.journal)
        self.perform(self.core.boot([], now=self.now(), first_epoch=FIRST_EPOCH, instance="entry", pid=1, build_hash=2))
        for venue in venues:
            self.feed(SessionState(venue=venue.name, state="up", recv_mono_ns=self.now_ns))
        self.fast_entry: FastEntry = self.core.open_fast_entry(self.words, self.offsets, LEASE_TOKEN)
        self.fast_entry.learn(template_of)
        self.core.update_limits_table()

    def close(self) -> None:
        """Closes the journal; the folder stays."""
        self.journal.close()

    # --- ports of the core ---

    def book(self, instrument_id: int) -> BookView | None:
        row = self.rows[instrument_id]
        proof = int(read_proved(self.words, self.offsets[row.feed_id], row.book_index, self._scratch))
        return None if proof < 0 else BookView(self._scratch.tolist(), proof)

    def latched(self) -> bool:
        return bool(self.halt[HALT.latch])

    def lease_expiry_mono_ns(self) -> int:
        held = self.halt[HALT.lease_token] == LEASE_TOKEN
        return int(self.halt[HALT.lease_expiry_mono_ns]) if held else 0

    def fenced(self) -> bool:
        return bool(self.halt[HALT.fence])

    def venue_blocked(self, venue_id: int) -> bool:
        return bool(self.halt[HALT.venue_blocked + venue_id])

    def instrument_blocked(self, instrument_id: int) -> bool:
        return bool(self.halt[HALT.instrument_blocked + instrument_id])

    def may_launch(self, mono_ns: int, venue_id: int, instrument_id: int) -> bool:
        return bool(may_launch(self.halt, LEASE_TOKEN, mono_ns, venue_id, instrument_id))

    # --- events ---

    def now(self) -> Now:
        """The world's time, which stands until ``now_ns`` is set."""
        return Now(self.now_ns, self.now_ns + self.wall_offset_ns)

    def feed(self, event: Any) -> list[Action]:
        """One event into the core; sweeps are answered at once, records go to the journal."""
        actions = self.core.handle(event, self.now())
        self.perform(actions)
        self.core.update_limits_table()
        return actions

    def perform(self, actions: list[Action]) -> None:
        """Does what :meth:`feed` says of the core's actions; all other kinds are left undone."""
        now = self.now()
        for action in actions:
            if isinstance(action, Append):
                self.journal.append(action.record, now.mono_ns, now.wall_ns)
            elif isinstance(action, SweepVenue):
                self.feed(SweepAnswer(action.venue, now.mono_ns, now.wall_ms, now.wall_ms, action.symbols))
                self.core.ledger.baseline.clear()  # balances are what a test says, not what was traded

    def fund(self, amounts: dict[tuple[str, str], Decimal]) -> None:
        """The poller confirms what each venue holds."""
        self.feed(
            AccountSnapshot(
                tuple(
                    Balance(
                        venue=venue,
                        asset=asset,
                        free=free,
                        locked=Decimal(0),
                        recv_mono_ns=self.now_ns,
                        source="rest",
                    )
                    for (venue, asset), free in amounts.items()
                )
            )
        )

    def fund_all(self, amount: Decimal = Decimal(1_000_000)) -> None:
        """``amount`` of every base and quote coin at its venue."""
        keys = {(row.spec.venue, asset) for row in self.rows for asset in (row.spec.base, row.spec.quote)}
        self.fund(dict.fromkeys(sorted(keys), amount))

    # --- the market ---

    def publish(self, instrument_id: int, bids: Sequence[Level], asks: Sequence[Level], **fields: int) -> None:
        """A book as its feed publishes it; ``fields`` by their names in BOOK, ``recv_mono_ns`` now by default."""
        row = self.rows[instrument_id]
        record = np.zeros(BOOK.WORDS, np.int64)
        record[BOOK.instrument], record[BOOK.row_epoch] = instrument_id, row.row_epoch
        record[BOOK.recv_mono_ns] = self.now_ns
        record[BOOK.conn_generation] = self._generations[row.feed_id]
        record[BOOK.update_id], record[BOOK.publish_mono_ns] = self.now_ns % 1_000_003, 1
        sides = (
            (BOOK.bid_count, BOOK.bid_price_fp, BOOK.bid_qty_fp),
            (BOOK.ask_count, BOOK.ask_price_fp, BOOK.ask_qty_fp),
        )
        for (count, price_at, qty_at), levels in zip(sides, (bids, asks), strict=True):
            record[count] = len(levels)
            for k, (price, qty) in enumerate(levels):
                record[price_at + k] = to_fp(price, row.price_exp)
                record[qty_at + k] = to_fp(qty, row.qty_exp)
        for name, value in fields.items():
            record[getattr(BOOK, name)] = value
        publish_book(self.words, self.offsets[row.feed_id], row.book_index, record)

    def record(
        self, legs: Sequence[tuple[int, int, Decimal, Decimal]], kind: OpportunityType = OpportunityType.SPOT_SPOT
    ) -> Words:
        """An opportunity record, int64[OPPORTUNITY.WORDS], with its checksum; a leg: instrument, side, quantity, limit
        price."""
        self.numbers += 1
        record = np.zeros(OPPORTUNITY.WORDS, np.int64)
        record[OPPORTUNITY.id], record[OPPORTUNITY.type], record[OPPORTUNITY.leg_count] = (
            self.numbers,
            int(kind),
            len(legs),
        )
        record[OPPORTUNITY.detect_mono_ns] = record[OPPORTUNITY.trigger_recv_mono_ns] = self.now_ns
        for word, value in (
            (OPPORTUNITY.edge_bps, 30.5),
            (OPPORTUNITY.entry_edge_bps, 31.0),
            (OPPORTUNITY.profit_quote, 2.25),
        ):
            record[word : word + 1].view(np.float64)[0] = value
        record[OPPORTUNITY.direction_key] = legs[0][0] * CATALOGUE_CAPACITY + legs[-1][0]
        for k, (instrument, side, qty, limit) in enumerate(legs):
            row = self.rows[instrument]
            leg = record[OPPORTUNITY.legs + k * LEG.WORDS :]
            leg[LEG.instrument], leg[LEG.side], leg[LEG.row_epoch] = instrument, side, row.row_epoch
            leg[LEG.limit_price_fp], leg[LEG.qty_fp] = to_fp(limit, row.price_exp), to_fp(qty, row.qty_exp)
        return with_crc(record)


def with_crc(record: Words) -> Words:
    """The record with the checksum of what it says now."""
    record[OPPORTUNITY.crc32] = record_crc32_of(record)
    return record
