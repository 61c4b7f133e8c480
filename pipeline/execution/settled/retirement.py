"""Settled operations leave memory: what is kept of them, and when they may go.

An operation may leave with its whole group (the operation that opened a hedge and those that closed it) once all of
them have ended, every order is settled, no hedge of it is open and no evidence came for ``RETIRE_AFTER_NS``. The core
decides and writes a record; the ledger obeys the record, so that live state and replay are the same. What stays: sums,
counts, and the identities of orders and fills (``identities.py``): a repeated message is known for ever. A fill of such
an order that is not known takes the way of fills that are not ours, which halts.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from pipeline.execution.core_context import CoreContext
from pipeline.execution.ledger import Ledger, Operation
from pipeline.execution.records import RetiredRecord

RETIRE_AFTER_NS = 1200 * 1_000_000_000  # longer than ``suspect_instruments.py`` asks for earlier orders
LOOK_EVERY_NS = 10 * 1_000_000_000
LOOKED_AT_PER_TICK = 32  # bounds what one tick costs
RECORD_MAX = 4  # operations of one record: it is folded between two events of the executor
OVER = ("done", "cancelled")  # states of a recovery that nothing waits for


class Retirement:
    """Decides which operations leave memory; a few are looked at in every tick."""

    def __init__(self, context: CoreContext, reconciled: Container[str]) -> None:
        """``reconciled``: venues whose orders are known since this run began."""
        self._context = context
        self._reconciled = reconciled
        self.after_ns = RETIRE_AFTER_NS
        self._began_mono_ns = 0
        self._looked_mono_ns = 0
        self._names: Iterator[str] = iter(())

    def tick(self) -> None:
        """Looks at the next operations; writes a record where some may leave."""
        now_ns = self._context.now.mono_ns
        self._began_mono_ns = self._began_mono_ns or now_ns
        ledger = self._context.ledger
        found: dict[str, None] = {}
        for _ in range(LOOKED_AT_PER_TICK):
            name = next(self._names, None)
            if name is None:
                if now_ns - self._looked_mono_ns >= LOOK_EVERY_NS:
                    self._looked_mono_ns = now_ns
                    self._names = iter(list(ledger.operations))
                break
            operation = ledger.operations.get(name)
            if operation is None or operation.record.closes or name in found:
                continue
            group = [operation, *ledger.closings.get(name, ())]
            if len(found) + len(group) <= RECORD_MAX and self._over(ledger, group):
                found.update(dict.fromkeys(one.operation_id for one in group))
        if found:
            self._context.record(RetiredRecord(tuple(found)))

    def _over(self, ledger: Ledger, group: list[Operation]) -> bool:
        if group[0].operation_id in ledger.hedges or any(one.operation_id in ledger.open_operations for one in group):
            return False
        names = {one.operation_id for one in group}
        if any(r.operation_id in names and r.state not in OVER for r in ledger.recoveries.values()):
            return False
        orders = [ledger.orders[client_id] for one in group for client_id in one.orders]
        if not all(order.settled and order.intent.venue in self._reconciled for order in orders):
            return False
        # Stamps of a run before the host's last boot do not compare: its orders count from the start of this run.
        stamps = [(one.ended_epoch, one.ended_mono_ns) for one in group]
        stamps += [(order.evidence_epoch, order.last_evidence_mono_ns) for order in orders]
        newest_ns = max(at_ns if epoch in ledger.host_epochs else self._began_mono_ns for epoch, at_ns in stamps)
        return self._context.now.mono_ns - newest_ns >= self.after_ns
