"""Evidence about orders, from any source in any order, turned into journal records: each fact once.

Streams and REST report the same facts; a message that adds nothing is dropped here, so that the journal holds facts
and not messages. A fill is one fact for ever, by (venue, symbol, trade id).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from pipeline.execution.account_fees import AccountFees
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import NotSent, Sent
from pipeline.execution.ledger import Order
from pipeline.execution.order_states import RANK
from pipeline.execution.records import ExternalRecord, FillRecord, OrderSentRecord, OrderStateRecord
from pipeline.model.enums import OrderSide, OrderState
from pipeline.model.structs import Fill, OrderUpdate
from pipeline.model.venue_events import OutcomeKind, PlaceOutcome

ORPHANS_MAX = 1000  # order ids of which messages wait for their acknowledgement


class Evidence:
    """Merges evidence into the ledger. Methods return the order that changed, or None where nothing did.

    A fill or update that names no order of ours waits as an orphan: the acknowledgement with the venue's order id may
    come behind it. What is still an orphan after a complete sweep is external. ``on_fill`` is called with every fill
    that is booked, whatever way it came.
    """

    def __init__(self, context: CoreContext, fees: AccountFees, on_fill: Callable[[FillRecord], None]) -> None:
        self._context = context
        self._fees = fees
        self._on_fill = on_fill
        self._orphans: OrderedDict[tuple[str, str], list[Fill | OrderUpdate]] = OrderedDict()

    def sent(self, event: Sent) -> Order | None:
        """The bytes of an order left this host."""
        order = self._context.ledger.orders.get(event.client_id)
        if order is None or order.sent_mono_ns:
            return None
        self._context.record(OrderSentRecord(event.client_id, event.send_mono_ns))
        return order

    def not_sent(self, event: NotSent) -> Order | None:
        """Nothing of an order left this host; ignored when it is known to have left."""
        order = self._context.ledger.orders.get(event.client_id)
        if order is None or order.state is not OrderState.INTENT:
            return None
        self._record_state(order, OrderState.NOT_SENT, source="local", reason=f"{event.refusal.name}: {event.reason}")
        return order

    def outcome(self, event: PlaceOutcome) -> Order | None:
        """What became of a placement request: ``rejected`` is final, ``unknown`` settles nothing."""
        order = self._context.ledger.order_of(event.venue, event.client_id, "")
        if order is None:
            return None
        reason = "" if event.error is None else f"{event.error.api_code} {event.error.message}".strip()[:200]
        if event.update is not None:
            self.update(event.update)
        elif event.kind is OutcomeKind.ACKED:
            self._record_state(order, OrderState.OPEN, source="ack", recv_mono_ns=event.recv_mono_ns)
        if event.kind is OutcomeKind.REJECTED and RANK[order.state] < RANK[OrderState.OPEN]:
            self._record_state(order, OrderState.REJECTED, source="ack", reason=reason, recv_mono_ns=event.recv_mono_ns)
        elif event.kind is OutcomeKind.REJECTED:
            if not order.state.is_terminal:  # the venue has shown the order before: no proof
                self._context.alert(
                    1, "contradiction", f"{order.client_id}: refused while {order.state.name}: {reason}"
                )
        elif event.kind is OutcomeKind.UNKNOWN:
            self.unknown(order, reason or "no answer")
        return order

    def unknown(self, order: Order, reason: str) -> None:
        """No answer in time: UNKNOWN, unless evidence of a higher rank is known already."""
        if RANK[order.state] < RANK[OrderState.UNKNOWN]:
            self._record_state(order, OrderState.UNKNOWN, source="local", reason=reason)

    def expired(self, order: Order, reason: str) -> None:
        """An order proved never to have reached the venue's book (the rule: ``pipeline/recovery/manager.py``)."""
        self._record_state(order, OrderState.EXPIRED, source="recovery", reason=reason)

    def update(self, update: OrderUpdate) -> Order | None:
        """A state of an order, its cumulative quantity, or its venue's id; recorded where it adds to what is known."""
        order = self._context.ledger.order_of(update.venue, update.client_id, update.order_id)
        if order is None:
            self._keep_orphan(update)
            return None
        if order.intent.symbol != update.symbol:
            return None
        reported = update.filled_qty
        if reported is not None and reported > order.intent.qty and update.source != "rest":
            self._context.trip("overfill", f"{order.client_id}: {reported} of {order.intent.qty} by {update.source}")
            reported = None  # not believed before REST says so
        new_qty = reported is not None and (order.reported_filled is None or reported > order.reported_filled)
        new_id = bool(update.order_id) and not order.order_id
        if RANK[update.state] <= RANK[order.state] and not new_qty and not new_id:
            return None
        self._context.record(
            OrderStateRecord(
                order.client_id,
                update.order_id,
                update.state,
                reported,
                update.average_price,
                update.venue_wall_ms,
                update.recv_mono_ns,
                update.source,
                update.reason,
            )
        )
        if reported is not None and reported > order.intent.qty:
            self._context.trip("overfill", f"{order.client_id}: {reported} of {order.intent.qty}")
        if new_id:
            self._merge_orphans(update.venue, update.order_id)
        return order

    def fill(self, fill: Fill) -> Order | None:
        """Books a fill once, however late. None when it is known already or its order is not known yet."""
        ledger = self._context.ledger
        if (fill.venue, fill.symbol, fill.trade_id) in ledger.fills_seen:
            return None
        order = ledger.order_of(fill.venue, fill.client_id, fill.order_id)
        if order is None:
            self._keep_orphan(fill)
            return None
        intent = order.intent
        if intent.symbol != fill.symbol:
            return None
        if fill.order_id and not order.order_id:
            self._record_state(order, OrderState.OPEN, order_id=fill.order_id, source=fill.source)
            if (fill.venue, fill.symbol, fill.trade_id) in ledger.fills_seen:  # it was among the orphans of this id
                return order
        record = FillRecord(
            venue=fill.venue,
            symbol=fill.symbol,
            trade_id=fill.trade_id,
            order_id=fill.order_id,
            client_id=order.client_id,
            operation_id=intent.operation_id,
            instrument_id=intent.instrument_id,
            kind=intent.kind,
            base=intent.base,
            quote=intent.quote,
            side=fill.side,
            qty=fill.qty,
            price=fill.price,
            fee=fill.fee,
            fee_asset=fill.fee_asset,
            is_maker=fill.is_maker,
            venue_wall_ms=fill.venue_wall_ms,
            recv_mono_ns=fill.recv_mono_ns,
            source=fill.source,
            extra_fees=fill.extra_fees,
        )
        self._context.record(record)
        self._on_fill(record)
        self._check_fill(fill, order)
        return order

    def external_orphans(self, venue: str) -> int:
        """After a complete sweep of ``venue``: records its orphans as external. Returns how many messages they were."""
        found = 0
        for key in [key for key in self._orphans if key[0] == venue]:
            for message in self._orphans.pop(key):
                found += 1
                what = "fill" if isinstance(message, Fill) else "order"
                self._context.record(ExternalRecord(venue, what, f"{message.symbol} order {key[1]}"))
        return found

    def _check_fill(self, fill: Fill, order: Order) -> None:
        """Trips a breaker for a fill that contradicts its order, or whose fee is too dear or in an unnamed asset.

        It is booked all the same.
        """
        intent = order.intent
        worse = fill.price > intent.price if intent.side is OrderSide.BUY else fill.price < intent.price
        if fill.side is not intent.side or (worse and intent.price > 0) or order.filled > intent.qty:
            self._context.trip(
                "bad_fill", f"{order.client_id}: {fill.side.name} {order.filled} at {fill.price}, wanted {intent.price}"
            )
        row = self._context.instruments.find(intent.venue, intent.symbol)
        if row is None or fill.is_maker:
            return
        fault = self._fees.fault(row, fill)
        if fault:
            self._context.trip(f"fee.{intent.venue}.{intent.symbol}", fault)

    def _record_state(
        self,
        order: Order,
        state: OrderState,
        *,
        source: str,
        reason: str = "",
        order_id: str = "",
        recv_mono_ns: int = 0,
    ) -> None:
        at = recv_mono_ns or self._context.now.mono_ns
        self._context.record(OrderStateRecord(order.client_id, order_id, state, None, None, 0, at, source, reason))
        if order_id:
            self._merge_orphans(order.intent.venue, order_id)

    def _keep_orphan(self, message: Fill | OrderUpdate) -> None:
        if not message.order_id:
            return
        key = (message.venue, message.order_id)
        self._orphans.setdefault(key, []).append(message)
        if len(self._orphans) > ORPHANS_MAX:
            (venue, order_id), lost = self._orphans.popitem(last=False)
            self._context.record(ExternalRecord(venue, "orphans dropped", f"order {order_id}: {len(lost)} messages"))

    def _merge_orphans(self, venue: str, order_id: str) -> None:
        """Merges the messages that waited for this order id."""
        for message in self._orphans.pop((venue, order_id), []):
            if isinstance(message, Fill):
                self.fill(message)
            else:
                self.update(message)
