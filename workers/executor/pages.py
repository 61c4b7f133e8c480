"""What the executor publishes: its counters and histograms, and the inventory that the detector sizes with."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from pipeline.core import ExecutionCore
from pipeline.exchanges.base import VenueTrading
from pipeline.execution.events import Now
from pipeline.execution.hedging.control import ExitDirection
from pipeline.execution.inventory.rows import InventoryRow
from pipeline.execution.market import Instruments
from pipeline.execution.results.counts import OperationCounts, counts_of
from pipeline.model.enums import Refusal
from pipeline.model.fixedpoint import to_fp_floor
from pipeline.recovery.row_questions import WANTED_ROW
from pipeline.risk.fee_stock import PLAIN_FEES
from shm.layout_pages import EXIT_CAPACITY, EXIT_ROW, INVENTORY_ROW
from shm.metrics import Metrics
from shm.pages import InventoryPage

INVENTORY_ROWS_PER_TICK = 24
INVENTORY_IDLE_TURN_TICKS = 10  # while nothing is recorded: every row once in so many ticks, if that is fewer a tick
USD_CENTS = 100
STAGES = {
    "tick_to_order": "receive stamp of the triggering frame to the first byte of the first order",
    "queue_hop": "detection to dequeue",
    "gate": "dequeue to verdict and plan",
    "journal": "what one event appended: a record, or the three of an entry that took the fast path",
    "send": "dequeue to the first byte of the last leg",
    "leg_gap": "first leg's first byte to the last leg's",
    "ack": "first byte to the venue's answer",
    "fill": "first byte to a fill's message",
    "event": "one event handled, actions performed",
    "operation": "dequeue to the operation's result",
}
COUNTED = (
    "opportunities",
    "exits_offered",
    "entries",
    "orders_sent",
    "orders_not_sent",
    "fills",
    "events",
    "alerts",
    "fast_path",
    "countdowns",
)
VIOLATION_EVERY_NS = 60_000_000_000
GAUGES = ("exposure_usd", "breakers", "daily_pnl_cents", "open_operations", "unsettled_orders", "open_hedges")


class ExecutorNumbers:
    """Handles of everything that the executor counts and measures."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._violations: dict[str, tuple[int, int]] = {}  # venue -> (count, mono ns) of the last alert
        self.hist = {label: metrics.histogram(label, doc) for label, doc in STAGES.items()}
        self.count = {name: metrics.counter(name) for name in COUNTED}
        self.count["over_target_time"] = metrics.counter(
            "over_target_time", "operations that took longer than execution.target_execution_time_ms"
        )
        for name in GAUGES:
            self.count[name] = metrics.counter(name)
        for name in OperationCounts().fields():
            self.count[_label(name)] = metrics.counter(_label(name))
        self.refused: dict[Refusal, int] = {
            r: metrics.counter(f"refused.{r.name.lower()}") for r in Refusal if r is not Refusal.NONE
        }

    def sessions(self, trading: Mapping[str, VenueTrading], mono_ns: int) -> list[str]:
        """Counts the frames that order entry and private streams have dropped; an alert for each venue where that has
        risen, once a minute at most."""
        alerts = []
        for venue, session in trading.items():
            count = session.protocol_violations
            label = f"protocol_violations.{venue}"
            if label not in self.count:
                self.count[label] = self.metrics.counter(label, "frames dropped: not as the venue's documents allow")
            self.metrics.set(self.count[label], count)
            said, at_ns = self._violations.get(venue, (0, -VIOLATION_EVERY_NS))
            if count > said and mono_ns - at_ns >= VIOLATION_EVERY_NS:
                self._violations[venue] = (count, mono_ns)
                alerts.append(f"protocol: {venue}: {count} frames dropped, the last: {session.last_violation}")
        return alerts

    def gauges(self, core: ExecutionCore) -> None:
        """How things stand, for whoever looks."""
        reading = core.risk.get_current_risk_metrics()
        values = (
            int(reading.total_exposure_usd),
            len(reading.tripped_breakers),
            int(reading.daily_realized_pnl * USD_CENTS),
            core.operations_under_way,
            len(core.ledger.unsettled),
            len(core.ledger.hedges),
        )
        for name, value in zip(GAUGES, values, strict=True):
            self.metrics.set(self.count[name], value)
        for name, value in counts_of(core.ledger).fields().items():
            self.metrics.set(self.count[_label(name)], value)
        for venue in sorted(core.fee_stock.looked_at):
            label = f"{PLAIN_FEES}{venue}"
            if label not in self.count:
                self.count[label] = self.metrics.counter(label, "1: fees count undiscounted, for want of their coin")
            self.metrics.set(self.count[label], int(venue in core.fee_stock.short))
        for instrument_id, value in core.recovery.rows.counts.items():
            label = f"{WANTED_ROW}{instrument_id}"
            if label not in self.count:
                self.count[label] = self.metrics.counter(label, "refusals after which the instrument's row was read")
            self.metrics.set(self.count[label], value)


def _label(name: str) -> str:
    """Counter of one of the operation counts: ``operations`` is all of them."""
    return "operations" if name == "total" else f"operations.{name}"


class InventoryWriter:
    """The inventory page: a bounded number of rows a tick, in turn; rows of unfinished orders each time. A row is
    written when anything of it has changed."""

    def __init__(self, page: InventoryPage, instruments: Instruments) -> None:
        self._page = page
        self._instruments = instruments
        self._due: deque[int] = deque()
        self._written: dict[int, InventoryRow] = {}  # as they stand in the page
        self._seen = (0, 0)  # records of the ledger and movements of balances at the last tick
        self._behind = 0  # rows that were not looked at since the newest of them
        self._exits: list[ExitDirection] = []

    def write(self, core: ExecutionCore, now: Now) -> None:
        """The rows that are due at this tick, as ``core`` has them at ``now``, and the prices that have changed."""
        if not self._due:
            self._due.extend(row.instrument_id for row in self._instruments)
        pace = min(self._pace((core.ledger.records, core.balances.movements)), len(self._due))
        self._behind -= pace
        intents = (order.intent for order in core.ledger.unsettled.values())
        rows = (self._instruments.find(intent.venue, intent.symbol) for intent in intents)
        wanted = {row.instrument_id for row in rows if row is not None}
        for _ in range(pace):
            wanted.add(self._due.popleft())
        for row in core.inventory(now, wanted):
            if self._written.get(row.instrument_id) == row:
                continue
            self._written[row.instrument_id] = row
            words = np.zeros(INVENTORY_ROW.WORDS, np.int64)
            instrument = self._instruments.get(row.instrument_id)
            assert instrument is not None
            words[INVENTORY_ROW.buy_notional] = np.array([row.buy_notional]).view(np.int64)[0]
            words[INVENTORY_ROW.sell_qty_fp] = _fp(row.sell_qty, instrument.qty_exp)
            words[INVENTORY_ROW.position_qty_fp] = _fp(row.position_qty, instrument.qty_exp)
            words[INVENTORY_ROW.blocked_until_mono_ns] = row.blocked_until_mono_ns
            words[INVENTORY_ROW.state] = int(row.tradable)
            self._page.write(row.instrument_id, words)
        changes = core.direction_prices.changes()
        if changes:
            self._page.write_prices(changes)

    def _pace(self, seen: tuple[int, int]) -> int:
        """Rows of this tick: as many as are allowed until each was looked at after the newest record or movement of a
        balance, else fewer."""
        if seen != self._seen:
            self._seen, self._behind = seen, len(self._instruments)
        idle = -(-len(self._instruments) // INVENTORY_IDLE_TURN_TICKS)
        return INVENTORY_ROWS_PER_TICK if self._behind > 0 else min(INVENTORY_ROWS_PER_TICK, idle)

    def write_exits(self, core: ExecutionCore) -> None:
        """The directions in which open hedges leave, where anything of them has changed."""
        found = core.hedges.exit_rows()[:EXIT_CAPACITY]
        if found == self._exits:
            return
        self._exits = found
        rows = np.zeros((len(found), EXIT_ROW.WORDS), np.int64)
        for row, direction in zip(rows, found, strict=True):
            instrument = self._instruments.find(direction.spot_venue, direction.spot_symbol)
            assert instrument is not None  # the direction's key was made of it
            row[EXIT_ROW.direction_key] = direction.direction_key
            row[EXIT_ROW.threshold_milli_bps] = direction.threshold_milli_bps
            row[EXIT_ROW.side] = direction.side
            row[EXIT_ROW.qty_fp] = _fp(direction.qty, instrument.qty_exp)
            row[EXIT_ROW.state] = 1
        self._page.write_exits(rows)

    def block_all(self) -> None:
        """The detector sizes with nothing from here on."""
        self._page.block_all()
        self._written.clear()


def _fp(value: Decimal, exp: int) -> int:
    """Fixed point within int64's half range: what does not fit is more than anybody can use."""
    limit = 2**62
    scaled = value.scaleb(exp)
    return limit if scaled > limit else -limit if scaled < -limit else to_fp_floor(value, exp)
