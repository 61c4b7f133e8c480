"""Exits that the margin watch has sent: under way while an order of theirs may still move the contract, and when their
operations have ended, what came of each, in words. And what repairs of exits have still to close on a contract.

Orders that were sent have closed nothing yet. Only the end of their operation says how much of the hedge has left, and
what of it stays open, or waits for an operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from pipeline.execution.bounds.windows import answer_expected
from pipeline.execution.core_context import CoreContext
from pipeline.execution.external_shares import may_fill
from pipeline.execution.ledger import Operation, Order
from pipeline.execution.records import Outcome
from pipeline.model.fixedpoint import plain
from pipeline.model.instruments import USD_COINS
from pipeline.model.structs import ZERO
from pipeline.risk.position_rows import Key


@dataclass(slots=True)
class SentCut:
    """One operation that closes a part of a hedge, ``before`` base coins at that time. ``waits``: that it waits for an
    operator was said."""

    operation_id: str
    hedge_id: str
    base: str
    before: Decimal
    waits: bool = False


class SentCuts:
    """By contract (venue and symbol)."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self._sent: dict[Key, list[SentCut]] = {}
        self._in_vain: dict[Key, str] = {}  # why the last one closed nothing: said once

    def sent(self, key: Key, cut: SentCut) -> None:
        """Its orders are being sent."""
        self._sent.setdefault(key, []).append(cut)

    def under_way(self, key: Key) -> bool:
        """Whether an order on this contract is open or in doubt. The coins that are still to be sold for it do not
        count: their venue may be away for long."""
        return any(not order.settled for order in self._orders(key))

    def heard_mono_ns(self, key: Key) -> int:
        """When the newest word about an order on this contract came, of operations that have not ended: what was read
        before may lack it."""
        return max((order.last_evidence_mono_ns for order in self._orders(key)), default=0)

    def _orders(self, key: Key) -> list[Order]:
        ledger = self._context.ledger
        open_ = (ledger.open_operations.get(cut.operation_id) for cut in self._sent.get(key, ()))
        found = [ledger.orders[name] for operation in open_ if operation is not None for name in operation.orders]
        return [order for order in found if (order.intent.venue, order.intent.symbol) == key]

    def ended(self) -> list[tuple[Key, int]]:
        """(contract, when its operation ended, mono ns) of those that have ended since the last call; each is said."""
        found: list[tuple[Key, int]] = []
        ledger = self._context.ledger
        for key, cuts in list(self._sent.items()):
            left = [cut for cut in cuts if cut.operation_id in ledger.open_operations]
            for cut in cuts:
                operation = ledger.operations.get(cut.operation_id)  # none: it ended long ago and left memory
                if operation is None or operation.result is None:
                    continue
                if cut in left:
                    self._say_waiting(key, cut, operation)
                else:
                    self._say_end(key, cut, operation)
                    found.append((key, operation.result.ended_mono_ns))
            if left:
                self._sent[key] = left
            else:
                del self._sent[key]
        return found

    def _say_waiting(self, key: Key, cut: SentCut, operation: Operation) -> None:
        if cut.waits or operation.result is None or operation.result.outcome is not Outcome.UNRESOLVED:
            return
        cut.waits = True
        left = {coin: qty for coin, qty in operation.exposure().items() if qty and coin not in USD_COINS}
        alone = ", ".join(f"{plain(qty)} {coin}" for coin, qty in sorted(left.items()))
        what = f"operation {cut.operation_id} waits for an operator (arb recoveries --approve r{cut.operation_id})"
        self._alert(key, 2, f"{what}: {alone} stand alone, {self._open(cut)}")

    def _say_end(self, key: Key, cut: SentCut, operation: Operation) -> None:
        assert operation.result is not None
        left = self._left(cut)
        closed = max(ZERO, cut.before - left)
        why = "" if closed or not left else operation.result.reason
        if why and self._in_vain.get(key) == why:
            return  # orders that close nothing are followed by others, again and again
        self._in_vain[key] = why
        what = f"nothing closed ({why})" if why else f"{plain(closed)} {cut.base} closed"
        text = f"operation {cut.operation_id} ended: {what}, {self._open(cut)}"
        self._alert(key, 2 if why else 1, text)

    def _left(self, cut: SentCut) -> Decimal:
        hedge = self._context.ledger.hedges.get(cut.hedge_id)
        return ZERO if hedge is None else hedge.qty

    def _open(self, cut: SentCut) -> str:
        left = self._left(cut)
        if left:
            return f"{plain(left)} {cut.base} of hedge {cut.hedge_id} stay open"
        return f"hedge {cut.hedge_id} is flat"

    def _alert(self, key: Key, severity: int, text: str) -> None:
        self._context.alert(severity, "margin", f"{key[0]} {key[1]}: {text}")


def to_come(context: CoreContext, key: Key, side: int) -> Decimal:
    """Base coins that repairs of exits have still to close on a contract (``side``: of its position), because the coins
    that belong to them are sold or are being sold just now. Exits that wait for an operator close none."""
    ledger, found = context.ledger, ZERO
    for operation in ledger.open_operations.values():
        recovery = ledger.recoveries.get(f"r{operation.operation_id}")
        held = recovery is not None and recovery.is_held
        for leg in operation.record.legs if operation.record.closes and not held else ():
            if (leg.venue, leg.symbol) != key or int(leg.side) == side:
                continue
            alone = operation.exposure().get(leg.base, ZERO) - operation.moved_to_dust.get(leg.base, ZERO)
            others = (o for o in ledger.unsettled_of_operation(operation) if o.intent.side is not leg.side)
            selling = sum((may_fill(order) for order in others if answer_expected(context, order)), ZERO)
            found += max(ZERO, selling - int(leg.side) * alone)
    return found
