"""Evidence about orders, from any source in any order, turned into journal records: each fact once.

Streams and REST report the same facts; a message that adds nothing is dropped here, so that the journal holds facts
and not messages. A fill is one fact for ever, by (venue, symbol, trade id).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from pipeline.execution.account_fees import AccountFees
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import FetchFills, NotSent, QueryOrder, Sent, SweepAnswer
from pipeline.execution.external_records import HeldFillRecord
from pipeline.execution.ledger import Order
from pipeline.execution.order_states import RANK
from pipeline.execution.records import ExternalRecord, FillRecord, OrderSentRecord, OrderStateRecord
from pipeline.model.enums import OrderSide, OrderState
from pipeline.model.errors import AuthRefused, ClockRefused, InstrumentRefused, RateLimited, TradingDisabled
from pipeline.model.structs import ZERO, Fill, OrderUpdate
from pipeline.model.venue_events import OutcomeKind, PlaceOutcome

ORPHANS_MAX = (
    20_000  # order ids whose messages wait: for their acknowledgement, or for whose they are (a sweep of days)
)
ORPHAN_PATIENCE_NS = 200_000_000  # an acknowledgement that is this late is asked for
FILLS_MARGIN_MS = 60_000  # clock differences between us and a venue
NO_FEE_ASSET = "no fee asset"
OF_OPERATION = " of operation "  # in the reason of a breaker: its solve names `arb why` of what follows
#: Refusals for what passes or lies elsewhere: no word about a position.
ELSEWHERE = (RateLimited, AuthRefused, ClockRefused, InstrumentRefused, TradingDisabled)


def named(order: Order) -> str:
    """An order in the reason of a breaker."""
    return f"{order.client_id}{OF_OPERATION}{order.intent.operation_id}"


@dataclass(slots=True)
class ForeignOrder:
    """Messages of one order of the account that names no order of ours."""

    venue: str
    order_id: str
    symbol: str
    first_mono_ns: int
    client_id: str = ""
    reason: str = ""
    venue_wall_ms: int = 0
    messages: list[Fill | OrderUpdate] = field(default_factory=list)

    @property
    def fills(self) -> list[Fill]:
        """Its executions that are not booked yet."""
        return [message for message in self.messages if isinstance(message, Fill)]


class Evidence:
    """Merges evidence into the ledger. Methods return the order that changed, or None where nothing did.

    A fill or update that names no order of ours waits as an orphan: the acknowledgement with the venue's order id may
    come behind it. What is still an orphan after a complete sweep belongs to others (:meth:`foreign`). A fill that a
    stream reports and that cannot be is held until REST confirms it. ``on_fill`` is called with every fill that is
    booked, whatever way it came.
    """

    def __init__(self, context: CoreContext, fees: AccountFees, on_fill: Callable[[FillRecord], None]) -> None:
        self._context = context
        self.fees = fees
        self._on_fill = on_fill
        self._orphans: OrderedDict[tuple[str, str], ForeignOrder] = OrderedDict()

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
            of_position = not isinstance(event.error, ELSEWHERE)
            refused = (order, OrderState.REJECTED)
            self._record_state(
                *refused, source="ack", reason=reason, recv_mono_ns=event.recv_mono_ns, of_position=of_position
            )
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
            self._context.trip("overfill", f"{named(order)}: {reported} of {order.intent.qty} by {update.source}")
            self._confirm(order)
            update = msgspec.structs.replace(update, filled_qty=None, average_price=None)
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
            self._context.trip("overfill", f"{named(order)}: {reported} of {order.intent.qty}")
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
            if not ledger.fill_known(fill.venue, fill.symbol, fill.trade_id):
                self._keep_orphan(fill)
            return None
        intent = order.intent
        if intent.symbol != fill.symbol:
            return None
        doubt = "" if fill.source == "rest" else _doubt(fill, order)
        if doubt:
            return self._hold(fill, order, doubt)
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

    def _hold(self, fill: Fill, order: Order, doubt: str) -> Order | None:
        """Keeps a fill back that cannot be, or that is not complete, and asks REST for the true one."""
        if (fill.venue, fill.symbol, fill.trade_id) in self._context.ledger.external.held:
            return None
        self._context.record(
            HeldFillRecord(
                fill.venue,
                fill.symbol,
                fill.trade_id,
                order.client_id,
                fill.side,
                fill.qty,
                fill.price,
                doubt,
                "held",
            )
        )
        if doubt != NO_FEE_ASSET:
            self._context.trip("bad_fill", f"{named(order)}: {doubt}; held until REST confirms it")
        self._confirm(order)
        return order

    def _confirm(self, order: Order) -> None:
        intent = order.intent
        since_ms = order.began_wall_ms - FILLS_MARGIN_MS
        self._context.act(QueryOrder(intent.venue, intent.symbol, intent.client_id, order.order_id))
        self._context.act(FetchFills(intent.venue, intent.symbol, since_ms))

    def deny(self, answer: SweepAnswer) -> list[Order]:
        """Ends the wait for held fills that a complete sweep, begun long after, does not list. Their orders."""
        found: list[Order] = []
        listed = {(fill.venue, fill.symbol, fill.trade_id) for fill in answer.fills}
        grace_ns = self._context.config.execution.unknown_grace_ms * 1_000_000
        for key, held in list(self._context.ledger.external.held.items()):
            order = self._context.ledger.orders[held.client_id]
            waited_ns = answer.began_mono_ns - order.last_evidence_mono_ns
            late = waited_ns >= grace_ns or (waited_ns < 0 and order.boot_epoch != self._context.ledger.boot_epoch)
            if held.venue == answer.venue and held.symbol in answer.symbols and key not in listed and late:
                self._context.record(msgspec.structs.replace(held, state="denied"))
                found.append(order)
        return found

    # --- messages about orders that are not ours ---

    def orphaned(self) -> list[tuple[str, str]]:
        """(venue, symbol) of messages that have waited too long for an order of ours."""
        latest_ns = self._context.now.mono_ns - ORPHAN_PATIENCE_NS
        late = [(one.venue, one.symbol) for one in self._orphans.values() if one.first_mono_ns <= latest_ns]
        return [place for place in late if self._context.instruments.lists(place[0])]

    def awaits(self, venue: str, symbol: str) -> bool:
        """Whether executions on an instrument wait until it is certain whose they are."""
        return any((one.venue, one.symbol) == (venue, symbol) and one.fills for one in self._orphans.values())

    def foreign(self, answer: SweepAnswer) -> list[ForeignOrder]:
        """After a complete sweep is merged: the orders there that cannot be ours, each once; they are forgotten here.

        An order without an id of ours may still be one of ours whose venue's id is not known, unless the venue lists it
        as a forced close, or it executed on the other side or more than that one wanted. Those of a venue of which no
        instrument is known yet are kept: nothing can be booked of them before.
        """
        forced = {row.order_id for row in answer.forced}
        found: list[ForeignOrder] = []
        for key, order in list(self._orphans.items()):
            if order.venue != answer.venue or order.symbol not in answer.symbols:
                continue
            if order.client_id or order.order_id in forced or not self._may_be_ours(order):
                found.append(order)
                if self._context.instruments.lists(order.venue):
                    del self._orphans[key]
        return found

    def _may_be_ours(self, order: ForeignOrder) -> bool:
        """Whether an order of ours that has no id of its venue yet may have executed what these messages say."""
        fills = order.fills
        executed = sum((fill.qty for fill in fills), ZERO)
        return any(
            not own.order_id and executed <= own.intent.qty and all(fill.side is own.intent.side for fill in fills)
            for own in self._context.ledger.unsettled_of_symbol(order.venue, order.symbol)
        )

    def _check_fill(self, fill: Fill, order: Order) -> None:
        """Trips a breaker for a fill that contradicts its order, or whose fee is too dear or in an unnamed asset.

        It is booked all the same.
        """
        intent = order.intent
        worse = fill.price > intent.price if intent.side is OrderSide.BUY else fill.price < intent.price
        if fill.side is not intent.side or (worse and intent.price > 0) or order.filled > intent.qty:
            self._context.trip(
                "bad_fill", f"{named(order)}: {fill.side.name} {order.filled} at {fill.price}, wanted {intent.price}"
            )
        row = self._context.instruments.find(intent.venue, intent.symbol)
        if row is None:
            return
        fault = self.fees.fault(row, fill)
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
        of_position: bool = True,
    ) -> None:
        at = recv_mono_ns or self._context.now.mono_ns
        known = (order.client_id, order_id, state, None, None, 0, at, source, reason)
        self._context.record(OrderStateRecord(*known, of_position))
        if order_id:
            self._merge_orphans(order.intent.venue, order_id)

    def _keep_orphan(self, message: Fill | OrderUpdate) -> None:
        if not message.order_id:
            return
        key = (message.venue, message.order_id)
        ledger = self._context.ledger
        known_order = key in ledger.external.orders or ledger.settled_long_ago(message.venue, message.client_id, key[1])
        if isinstance(message, OrderUpdate) and known_order:
            return  # known to be another's, or settled long ago; only its executions are news
        known = self._orphans.get(key)
        if known is None:
            now_ns = self._context.now.mono_ns
            known = self._orphans[key] = ForeignOrder(message.venue, message.order_id, message.symbol, now_ns)
        known.client_id = known.client_id or message.client_id
        known.venue_wall_ms = max(known.venue_wall_ms, message.venue_wall_ms)
        if isinstance(message, OrderUpdate):
            known.reason = message.reason or known.reason
        trades = {fill.trade_id for fill in known.fills}
        if isinstance(message, OrderUpdate) or message.trade_id not in trades:
            known.messages.append(message)
        if len(self._orphans) > ORPHANS_MAX:
            (venue, order_id), lost = self._orphans.popitem(last=False)
            detail = f"order {order_id}: {len(lost.messages)} messages"
            self._context.record(ExternalRecord(venue, "orphans dropped", detail))

    def _merge_orphans(self, venue: str, order_id: str) -> None:
        """Merges the messages that waited for this order id."""
        known = self._orphans.pop((venue, order_id), None)
        for message in known.messages if known is not None else ():
            if isinstance(message, Fill):
                self.fill(message)
            else:
                self.update(message)


def _doubt(fill: Fill, order: Order) -> str:
    """Why a fill that a stream reports cannot be true as it is; "" where it can."""
    intent = order.intent
    if fill.side is not intent.side:
        return f"fill {fill.trade_id} is a {fill.side.name}, the order a {intent.side.name}"
    if not 0 < fill.qty <= intent.qty - order.filled:
        return f"fill {fill.trade_id} of {fill.qty}, {intent.qty - order.filled} of {intent.qty} are open"
    worse = fill.price > intent.price if intent.side is OrderSide.BUY else fill.price < intent.price
    if worse and intent.price > 0:
        return f"fill {fill.trade_id} at {fill.price}, limit {intent.price}"
    named = fill.fee_asset or (not fill.fee and fill.extra_fees)
    return "" if named and all(asset for asset, _ in fill.extra_fees) else NO_FEE_ASSET
