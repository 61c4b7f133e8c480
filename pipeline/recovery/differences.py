"""A difference between what a venue states and the ledger, and what its numbers alone say about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import SweepAnswer
from pipeline.execution.external_shares import may_fill
from pipeline.execution.ledger import LATE_NS, Ledger, Order
from pipeline.model.enums import InstrumentKind, OrderState
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO, Balance, Position
from pipeline.model.units import NS_PER_MS
from pipeline.recovery.past_values import STALE_NS

LOOK_PAUSE_NS = 1_000_000_000
Key = tuple[str, str]  # venue, and asset or symbol
#: Not ended, and no fill reported: a complete sweep without a trace of the order settles these. OPEN too: an order that
#: rests is listed, so its ending was lost, and venues stop listing orders that ended with nothing filled.
UNPROVED = frozenset({OrderState.UNKNOWN, OrderState.OPEN})


@dataclass(slots=True)
class Difference:
    """One difference to the ledger, as the last readings showed it. ``swept_mono_ns``: begin of the newest sweep, begun
    after the first reading, that found nothing which explains it; -1 = none."""

    off: Decimal
    first_mono_ns: int
    times: int = 0
    swept_mono_ns: int = -1
    look_mono_ns: int = 0

    @property
    def swept(self) -> bool:
        """Whether a sweep has found nothing that explains it."""
        return self.swept_mono_ns >= 0

    @property
    def surely_unlisted(self) -> bool:
        """Whether the venue would list an execution by now: its lists may lag as well as its balances."""
        return self.swept_mono_ns >= self.first_mono_ns + STALE_NS

    def look_again(self, now_ns: int) -> bool:
        """Whether another sweep is worth its requests: each time that the difference is twice as old."""
        if now_ns < self.look_mono_ns:
            return False
        self.look_mono_ns = now_ns + max(LOOK_PAUSE_NS, now_ns - self.first_mono_ns)
        return True


def looks_traded(rows: Iterable[InstrumentRow], key: Key, offs: Mapping[Key, Decimal]) -> bool:
    """Whether a coin has moved as an execution moves it: against another coin of the same spot instrument."""
    venue, asset = key
    specs = (row.spec for row in rows if row.spec.venue == venue and row.spec.kind is InstrumentKind.SPOT)
    pairs = [(spec.base, spec.quote) for spec in specs if asset in (spec.base, spec.quote)]
    return any(offs.get((venue, base), ZERO) * offs.get((venue, quote), ZERO) < 0 for base, quote in pairs)


def realised_elsewhere(context: CoreContext, balance: Balance, listed: Mapping[Key, Position]) -> Decimal:
    """Amount by which a futures wallet may be above the ledger's because the venue saw the same executions in another
    order: what it has realised of a position, it leaves open at another entry price. Only contracts that are settled in
    the wallet's asset have moved it."""
    total = ZERO
    for key, own in context.ledger.accounts.futures.items():
        position = listed.get(key)
        if key[0] != balance.venue or position is None or not position.entry_price or position.qty != own.qty:
            continue
        row = context.instruments.find(*key)
        if row is not None and row.spec.quote == balance.asset:
            total += position.qty * position.entry_price - own.cost
    return total


def may_be_unknown(unknown: Iterable[Order], off: Decimal) -> bool:
    """Whether orders on a contract whose outcome is not known may have moved its position by ``off``, together."""
    rests = [order.intent.qty for order in unknown if int(order.intent.side) * off > 0]
    return bool(rests) and abs(off) <= sum(rests)


def may_be_late(ledger: Ledger, key: Key, off: Decimal, now_ns: int) -> bool:
    """Whether orders of ours on a contract may have moved it: those that ended lately with so much unfilled. Venues may
    still add executions to them, and list those late. One that only reduces and came back with less is left out: most
    likely there is nothing to reduce any more, and the other leg does not wait."""
    unfilled = ZERO
    for order in ledger.orders.values():
        intent = order.intent
        if (intent.venue, intent.symbol) != key or intent.reduce_only or int(intent.side) * off <= 0:
            continue
        if order.state in (OrderState.REJECTED, OrderState.NOT_SENT):
            continue
        if 0 <= now_ns - order.last_evidence_mono_ns <= LATE_NS:
            unfilled += max(ZERO, intent.qty - order.filled)
    return 0 < abs(off) <= unfilled


def hidden(context: CoreContext, order: Order, answer: SweepAnswer, provable_at: Callable[[Order], int]) -> bool:
    """Whether another order of ours may hide in balance or position what ``order`` did, and a sweep cannot tell.

    One of the other side whose answer is still to come, and that the sweep began too early to prove empty
    (``provable_at``): both together may have moved nothing. Or one of the same side that has filled so lately that the
    balance may be older than that: it lacks the one, and shows the other."""
    intent, grace_ns = order.intent, context.config.execution.unknown_grace_ms * NS_PER_MS
    for other in context.ledger.orders.values():
        theirs, since_ns = other.intent, answer.began_mono_ns - other.last_evidence_mono_ns
        if other is order or theirs.venue != intent.venue:
            continue
        if intent.kind is InstrumentKind.PERPETUAL:
            moved = int(theirs.side) * (theirs.symbol == intent.symbol)
        else:
            moved = int(theirs.side) * ((theirs.base == intent.base) - (theirs.quote == intent.base))
        back = moved * int(intent.side) < 0 and not other.settled and may_fill(other) > 0
        if back and (other.state not in UNPROVED or answer.began_mono_ns < provable_at(other)):
            return True
        # (evidence that seems to be later than now is of another boot of the host)
        lately = since_ns < grace_ns and other.last_evidence_mono_ns <= context.now.mono_ns
        if theirs.symbol == intent.symbol and theirs.side is intent.side and other.filled and lately:
            return True
    return False
