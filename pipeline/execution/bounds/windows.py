"""How long a venue may take an order: short for entries, shorter for what ends a broken leg.

The window bounds two things: how late an order may still execute, and from when on one without an answer may be proved
never to have executed. So it bounds how long a lost request leaves the other leg alone. Venues enforce it by the expiry
that the order carries (MEXC and Binance ``recvWindow``, Gate.io ``x-gate-exptime``).
"""

from __future__ import annotations

from pipeline.execution.core_context import CoreContext
from pipeline.execution.ledger import Order
from pipeline.execution.records import Purpose
from pipeline.model.enums import OrderState
from pipeline.model.venue_events import OutcomeKind, PlaceOutcome

UNKNOWN_PATIENCE_NS = 400_000_000  # a query's round trip, and some
WIDEST_MS = 10_000  # a venue that takes longer answers nothing in time, whatever the window


def answer_timeout_ns(context: CoreContext, order: Order) -> int:
    """How long the answer to an order is waited for. Past the window of one that reduces risk nothing new happens to
    it: the next one, within the bounds of ``bounds/outcomes.py``, need not wait longer."""
    timeout_ms = context.config.answer_timeout_ms
    return (timeout_ms if order.intent.purpose.adds_risk else min(timeout_ms, order.window_ms)) * 1_000_000


def patience_ns(context: CoreContext, order: Order) -> int:
    """How long after an order was sent its operation waits for news of it. Where its request has ended without an
    answer (connection closed, 5xx) only a push or a query can tell: they come soon or not at all."""
    timeout_ns = answer_timeout_ns(context, order)
    return min(timeout_ns, UNKNOWN_PATIENCE_NS) if order.state is OrderState.UNKNOWN else timeout_ns


def answer_expected(context: CoreContext, order: Order) -> bool:
    """Whether an answer about an unsettled order may still come within its normal time."""
    waited_ns = context.now.mono_ns - (order.sent_mono_ns or order.intent_mono_ns)
    return 0 <= waited_ns < patience_ns(context, order)


class OrderWindows:
    """Windows of orders, in ms. An entry that comes too late is lost and that is right; what reduces risk must arrive:
    at a venue that refused such an order after its window was over, the next one gets twice as long, until one is
    taken within the configured window."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self._late: dict[str, int] = {}  # venue -> refusals in a row that came after the order's window

    def ms(self, purpose: Purpose, venue: str) -> int:
        """How long the venue may take an order that is made now."""
        execution = self._context.config.execution
        if purpose.adds_risk:
            return execution.entry_window_ms
        wider = execution.repair_window_ms << self._late.get(venue, 0)
        return max(execution.repair_window_ms, min(WIDEST_MS, wider))

    def answered(self, order: Order, outcome: PlaceOutcome) -> None:
        """What a venue said of an order that reduces risk, and how long it took."""
        if order.intent.purpose.adds_risk or not order.sent_mono_ns:
            return
        venue, took_ns = order.intent.venue, self._context.now.mono_ns - order.sent_mono_ns
        if outcome.kind is OutcomeKind.REJECTED and took_ns >= order.window_ms * 1_000_000:
            if self.ms(order.intent.purpose, venue) < WIDEST_MS:
                self._late[venue] = self._late.get(venue, 0) + 1
        elif (
            outcome.kind is OutcomeKind.ACKED and took_ns < self._context.config.execution.repair_window_ms * 1_000_000
        ):
            self._late.pop(venue, None)
