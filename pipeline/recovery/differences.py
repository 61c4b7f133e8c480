"""A difference between what a venue states and the ledger, and what its numbers alone say about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.execution.ledger import LATE_NS, Ledger, Order
from pipeline.model.enums import InstrumentKind, OrderState
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO, Balance, Position
from pipeline.recovery.past_values import STALE_NS

LOOK_PAUSE_NS = 1_000_000_000
Key = tuple[str, str]  # venue, and asset or symbol


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
