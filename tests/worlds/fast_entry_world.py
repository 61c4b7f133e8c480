"""Worlds for the fast path of an entry.

``FastEntryWorld`` is the world of execution_world.py with the fast path switched on: the same faults and deaths on top
of it. Its books lie in private memory, published right before each opportunity; the entry's records are those that the
encoder wrote, one action each, so that a death may come between any two of them and between any two orders.

The functions below it bring an ``EntryWorld`` into the states that tests begin from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pipeline.core import ExecutionCore
from pipeline.execution.events import Append, CatalogueChanged, Entered, Opportunity, Place, Sent, request_of
from pipeline.execution.plan import Plan, Rejected
from pipeline.execution.shared_reads import decode_opportunity
from pipeline.model.enums import OrderSide, OrderState
from pipeline.model.structs import Fill, OrderUpdate
from pipeline.rehearsal.entry_world import LEASE_TOKEN, EntryWorld, Level, plain_template, with_crc
from pipeline.rehearsal.memory_journal import MemoryJournal
from shm.bookring import conn_open, init_feed, publish_book
from shm.layout import BOOK, HEADER, LEG, OPPORTUNITY, feed_segment_words
from shm.layout_pages import HALT
from tests.worlds.execution_world import World

BOOKS = 4


class FastEntryWorld(World):
    """See the module's text. ``taken``: entries that went the fast path."""

    taken = 0

    def _born(self) -> ExecutionCore:
        core = super()._born()
        feeds = 1 + max(row.feed_id for row in self.rows)
        size = feed_segment_words(BOOKS)
        self.words = np.zeros(feeds * size, np.int64)
        self.offsets = [feed * size for feed in range(feeds)]
        self.generations = []
        for feed, offset in enumerate(self.offsets):
            self.words[offset + HEADER.epoch] = 1
            init_feed(self.words, offset, BOOKS)
            self.generations.append(int(conn_open(self.words, offset, 0, feed, 0)))
        self.memory = MemoryJournal()
        self.fast_entry = core.open_fast_entry(self.words, self.offsets, LEASE_TOKEN)
        self.fast_entry.learn(plain_template)
        core.update_limits_table()
        return core

    def feed(self, event: Any) -> None:
        if isinstance(event, Opportunity) and not event.manual and self._fast_path(event):
            return
        super().feed(event)
        self.core.update_limits_table()

    def _halt(self) -> np.ndarray:
        page = np.zeros(HALT.END, np.int64)
        page[HALT.latch], page[HALT.lease_token] = self.latched, LEASE_TOKEN
        page[HALT.lease_expiry_mono_ns] = self.lease_ns
        return page

    def _publish(self) -> None:
        for row in self.rows:
            view = self.book(row.instrument_id)
            assert view is not None
            record = np.array(view.words, np.int64)
            record[BOOK.conn_generation] = self.generations[row.feed_id]
            publish_book(self.words, self.offsets[row.feed_id], row.book_index, record)

    def _fast_path(self, opportunity: Opportunity) -> bool:
        self._publish()
        now = self.now()
        if not self.fast_entry.offer(record_of(opportunity), self._halt(), now):
            return False
        self.taken += 1
        self.fast_entry.write(self.memory, now, (0, 0))
        entered = self.fast_entry.entered(self.memory)
        self._perform([Append(entered.operation), *(Append(intent) for intent in entered.intents)], now)
        places = [Place(request_of(intent), intent.purpose, intent.operation_id) for intent in entered.intents]
        followers = []
        for place in places:
            self._survive()
            followers.append(self._place(place))
        self._perform(self.core.handle(entered, now), now)
        self.core.update_limits_table()
        for follower in followers:
            self.feed(follower)
        return True

    def check_limits(self, action: Place) -> None:
        """The entry that is being sent is not in the ledger yet: it counts all the same."""
        super().check_limits(action)
        known = {order.client_id for order in self.core.ledger.orders.values()}
        if action.purpose.adds_risk and action.request.client_id not in known:
            open_usd = sum(o.record.notional_usd for o in self.core.ledger.open_operations.values())
            size = action.request.qty * action.request.price
            limits = self.config.risk_limits
            assert open_usd + size <= limits.max_total_exposure_usd
            assert self.position_usd(action.request.venue) + size <= limits.max_position_size_usd


def record_of(opportunity: Opportunity) -> np.ndarray:
    """The record that the detector would have written."""
    record = np.zeros(OPPORTUNITY.WORDS, np.int64)
    record[OPPORTUNITY.id], record[OPPORTUNITY.type] = opportunity.opportunity_id, opportunity.type
    record[OPPORTUNITY.leg_count] = len(opportunity.legs)
    record[OPPORTUNITY.detect_mono_ns] = opportunity.detect_mono_ns
    record[OPPORTUNITY.trigger_recv_mono_ns] = opportunity.trigger_recv_mono_ns
    record[OPPORTUNITY.direction_key] = opportunity.direction_key
    floats = record.view(np.float64)
    floats[OPPORTUNITY.edge_bps], floats[OPPORTUNITY.profit_quote] = opportunity.edge_bps, opportunity.profit_quote
    floats[OPPORTUNITY.entry_edge_bps] = opportunity.entry_edge_bps
    for k, leg in enumerate(opportunity.legs):
        at = OPPORTUNITY.legs + k * LEG.WORDS
        record[at + LEG.instrument], record[at + LEG.side] = leg.instrument_id, leg.side
        record[at + LEG.limit_price_fp], record[at + LEG.qty_fp] = leg.limit_price_fp, leg.qty_fp
        record[at + LEG.row_epoch] = leg.row_epoch
    return with_crc(record)


# --- states of an EntryWorld ---


@contextmanager
def a_world(**changes: Any) -> Iterator[EntryWorld]:
    with tempfile.TemporaryDirectory() as folder:
        world = EntryWorld(Path(folder), **changes)
        try:
            yield world
        finally:
            world.close()


def levels(first: str, step: str, *quantities: str) -> list[Level]:
    return [(Decimal(first) + k * Decimal(step), Decimal(qty)) for k, qty in enumerate(quantities)]


def opened(world: EntryWorld) -> None:
    """Funds, and books on which buying on MEXC and selling on Gate.io pays."""
    world.fund_all()
    world.publish(0, levels("98.99", "-0.01", "5", "5"), levels("99.10", "0.05", "0.3", "4"))
    world.publish(1, levels("100.00", "-0.05", "0.4", "4"), levels("100.10", "0.05", "5"))
    world.publish(2, levels("100.20", "-0.05", "0.4", "4"), levels("100.30", "0.05", "5"))


def ordinary(world: EntryWorld, **changes: Any) -> Any:
    legs = [(0, 1, Decimal("0.5"), Decimal("99.5")), (1, -1, Decimal("0.5"), Decimal("99.6"))]
    return world.record(legs, **changes)


def exact(world: EntryWorld, record: Any) -> Plan | Rejected:
    """The exact path's judgement of the same state."""
    world.core.context.now = world.now()
    world.core.risk.gate.ready = world.core.ready
    return world.core.risk.gate.judge(decode_opportunity(record, world.now_ns))


def written(world: EntryWorld) -> Entered:
    world.fast_entry.write(world.journal, world.now(), (world.now().wall_ms, world.now().wall_ms))
    return world.fast_entry.entered(world.journal)


def changed(world: EntryWorld, instrument_id: int, **fields: Any) -> None:
    """The catalogue says something else of an instrument; fields of the row, else of its spec."""
    row = world.rows[instrument_id]
    own = {name: value for name, value in fields.items() if name in row.__struct_fields__}
    of_spec = {name: value for name, value in fields.items() if name not in own}
    row = msgspec.structs.replace(row, spec=msgspec.structs.replace(row.spec, **of_spec), **own)
    world.rows[instrument_id] = row
    world.instruments.update([row])
    world.feed(CatalogueChanged((row,)))


def entered(world: EntryWorld, *, settled: bool = True) -> None:
    """An entry is under way; ``settled``: its orders have ended, it has not."""
    assert world.fast_entry.offer(ordinary(world), world.halt, world.now())
    world.feed(written(world))
    if settled:
        world.core.ledger.unsettled.clear()
    world.now_ns += 1_000_000
    opened(world)


def other_direction(world: EntryWorld) -> Any:
    record = ordinary(world)
    record[OPPORTUNITY.direction_key] = 999
    return with_crc(record)


def configured(world: EntryWorld, **limits: Any) -> None:
    changed_limits = msgspec.structs.replace(world.core.config.risk_limits, **limits)
    world.core.reconfigure(msgspec.structs.replace(world.core.config, risk_limits=changed_limits))


def tripped(name: str) -> Callable[[EntryWorld], Any]:
    """Trips a breaker in a world; the ordinary opportunity after it."""

    def attack(world: EntryWorld) -> Any:
        world.core.context.trip(name, "test")
        world.perform(world.core.context.drain())
        world.core.update_limits_table()
        return ordinary(world)

    return attack


def filled(world: EntryWorld, leg: int, *, state: OrderState = OrderState.FILLED) -> None:
    """The order of a leg ended: filled, or without a fill."""
    order = list(world.core.ledger.orders.values())[leg]
    intent = order.intent
    about = {
        "venue": intent.venue, "symbol": intent.symbol, "client_id": intent.client_id,
        "order_id": f"o{leg}", "venue_wall_ms": world.now().wall_ms, "recv_mono_ns": world.now_ns, "source": "ws",
    }  # fmt: skip
    world.feed(Sent(intent.client_id, world.now_ns))
    if state is OrderState.FILLED:
        in_base = intent.side is OrderSide.BUY and intent.venue == "gateio_spot"
        fee = intent.qty * (1 if in_base else intent.price) / 10_000
        world.feed(
            Fill(
                **about, trade_id=f"t{leg}", side=intent.side, qty=intent.qty, price=intent.price, fee=fee,
                fee_asset="BTC" if in_base else "USDT", is_maker=False,
            )
        )  # fmt: skip
    done = intent.qty if state is OrderState.FILLED else Decimal(0)
    world.feed(OrderUpdate(**about, state=state, filled_qty=done, average_price=intent.price))
