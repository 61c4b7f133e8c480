"""Orders of others that a complete sweep shows: booked, so that the ledger stays at the venue's truth."""

from __future__ import annotations

from pipeline.execution.core_context import CoreContext, epoch_of
from pipeline.execution.events import SweepAnswer
from pipeline.execution.evidence import Evidence
from pipeline.execution.external import TRADES
from pipeline.recovery.account import AccountCheck
from pipeline.recovery.external_book import ExternalBook


def book_foreign(
    answer: SweepAnswer,
    context: CoreContext,
    evidence: Evidence,
    account: AccountCheck,
    book: ExternalBook,
    began_ms: int,
) -> None:
    """Books what a complete sweep shows of orders that are not ours. What happened before the first balances of this
    journal moves nothing. ``began_ms``: of this run, by the venues' clocks; what is older is no news."""
    based_ms = account.first_balances.wall_ms(answer.venue)
    forced = {row.order_id: row for row in answer.forced}
    trades = {(fill.symbol, fill.trade_id) for fill in answer.fills}
    for order in evidence.foreign(answer):
        at_ms = min((fill.venue_wall_ms for fill in order.fills), default=order.venue_wall_ms)
        booked = based_ms is not None and at_ms >= based_ms
        live = booked and at_ms >= began_ms
        late = based_ms is not None and 0 < at_ms < based_ms
        if not context.instruments.lists(order.venue):  # the order waits for them; what stops new risk does not
            if epoch_of(order.client_id) is not None and not late:
                book.engine(order.venue, order.client_id, live=live)
            continue
        witness = "push" if order.first_mono_ns < answer.began_mono_ns else "poll"
        by = forced.get(order.order_id)
        reason, witness = (by.cause, by.witness) if by is not None else (order.reason, witness)
        for fill in order.fills:
            listed = by is None and (fill.symbol, fill.trade_id) in trades
            signed, at_ms = fill.qty * int(fill.side), fill.venue_wall_ms
            known = context.ledger.external.in_position(fill.venue, fill.symbol, signed, at_ms)
            book.fill(
                fill,
                client_id=order.client_id,
                reason=reason,
                witness=f"{TRADES} {fill.trade_id}" if listed else witness,
                booked=based_ms is not None and at_ms >= based_ms and known is None,
                live=live,
                late=late,
            )
        if order.fills:
            account.on_foreign_fills(order.venue, order.symbol)
            continue
        known_order = (order.venue, order.order_id) in context.ledger.external.orders
        if not known_order and (booked or epoch_of(order.client_id)):
            place = (order.venue, order.symbol, order.order_id, order.client_id)
            book.order(*place, reason=reason, witness=witness, live=live, late=late)
