"""REST queries about unsettled orders: a timeout, a 5xx or a disconnect says nothing of what became of an order.

Each unsettled order has a schedule with growing pauses: a query of the order itself, and one of the fills that are
missing to its cumulative quantity. An order that a venue lists as open is cancelled as well: an immediate-or-cancel one
should not be there, and a repair that rests (``execution/repair.py``) has had its time.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.execution.bounds.windows import answer_timeout_ns
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import CancelOrder, FetchFills, QueryOrder
from pipeline.execution.evidence import Evidence
from pipeline.execution.ledger import Order
from pipeline.model.enums import OrderState

FIRST_QUERY_NS = 250_000_000  # streams answer in a few ms; earlier queries would only cost rate budget
FIRST_FILLS_NS = 60_000_000  # the venue reported its end, fills are still missing
PAUSE_MAX_NS = 5_000_000_000
FILLS_MARGIN_MS = 60_000  # clock differences between us and a venue


@dataclass(slots=True)
class _Schedule:
    due_mono_ns: int
    pause_ns: int


class OrderQueries:
    """Asks for queries on ``tick``; their answers come back as events of the core."""

    def __init__(self, context: CoreContext, evidence: Evidence) -> None:
        self._context = context
        self._evidence = evidence
        self._schedules: dict[str, _Schedule] = {}

    def ask_now(self, order: Order) -> None:
        """The first query is due at once: an answer left open what became of the order."""
        self._schedules[order.client_id] = _Schedule(self._context.now.mono_ns, FIRST_QUERY_NS)

    def tick(self) -> None:
        """Marks orders without an answer as UNKNOWN and asks the queries that are due."""
        now_ns = self._context.now.mono_ns
        ledger = self._context.ledger
        for client_id in [c for c in self._schedules if c not in ledger.unsettled]:
            del self._schedules[client_id]
        for order in list(ledger.unsettled.values()):
            self._time_out(order, now_ns)
            schedule = self._schedules.get(order.client_id)
            if schedule is None:
                schedule = _Schedule(self._since(order, now_ns) + FIRST_QUERY_NS, FIRST_QUERY_NS)
                self._schedules[order.client_id] = schedule
            if order.state.is_terminal and schedule.pause_ns == FIRST_QUERY_NS:
                schedule.due_mono_ns = min(schedule.due_mono_ns, now_ns + FIRST_FILLS_NS)
                schedule.pause_ns += 1  # once: from here on the pauses grow
            if now_ns >= schedule.due_mono_ns:
                self._ask(order)
                schedule.due_mono_ns = now_ns + schedule.pause_ns
                schedule.pause_ns = min(PAUSE_MAX_NS, schedule.pause_ns * 2)

    def _since(self, order: Order, now_ns: int) -> int:
        """When the order left, on this boot's clock; an order of another boot is overdue."""
        since = order.sent_mono_ns or order.intent_mono_ns
        return since if since <= now_ns and order.boot_epoch == self._context.ledger.boot_epoch else 0

    def _time_out(self, order: Order, now_ns: int) -> None:
        if now_ns - self._since(order, now_ns) < answer_timeout_ns(self._context, order):
            return
        if order.state in (OrderState.INTENT, OrderState.SENT):
            self._evidence.unknown(order, "no answer within the limit")

    def _ask(self, order: Order) -> None:
        intent = order.intent
        if not order.state.is_terminal or order.reported_filled is None:
            self._context.act(QueryOrder(intent.venue, intent.symbol, intent.client_id, order.order_id))
        behind = order.known_filled > order.filled or order.held
        if order.state.is_terminal or behind or order.state is OrderState.UNKNOWN:
            since_ms = order.began_wall_ms - FILLS_MARGIN_MS
            self._context.act(FetchFills(intent.venue, intent.symbol, since_ms))
        if order.state in (OrderState.OPEN, OrderState.PARTIALLY_FILLED):
            self._context.act(CancelOrder(intent.venue, intent.symbol, intent.client_id, order.order_id))
