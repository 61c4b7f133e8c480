"""The ledger's part of an operation's leaving: what is removed, and what stays."""

from __future__ import annotations

from typing import Any, Protocol

from pipeline.execution.records import RecoveryRecord, RetiredRecord
from pipeline.execution.results.round_trips import RoundTrips
from pipeline.execution.settled.identities import (
    SettledIds,
    fill_identity,
    order_identity,
    venue_order_identity,
)


class Memory(Protocol):
    """The parts of the ledger that shrink when an operation leaves; the ledger, which imports this file, is one."""

    orders: dict[str, Any]
    by_order_id: dict[tuple[str, str], str]
    fills_seen: set[tuple[str, str, str]]
    operations: dict[str, Any]
    closings: dict[str, list[Any]]
    recoveries: dict[str, RecoveryRecord]
    since_wall_ns: dict[str, int]
    settled: SettledIds
    retired_operations: int
    round_trips: RoundTrips


def retire(ledger: Memory, record: RetiredRecord) -> None:
    """The ledger's part: the operations and their orders are removed, their identities and counts stay.

    Raises KeyError for an operation that is not there.
    """
    gone = set(record.operation_ids)
    for name in record.operation_ids:
        operation = ledger.operations.pop(name)
        for client_id in operation.orders:
            order = ledger.orders.pop(client_id)
            venue = order.intent.venue
            ledger.settled.add(order_identity(venue, client_id))
            if order.order_id:
                ledger.by_order_id.pop((venue, order.order_id), None)
                ledger.settled.add(venue_order_identity(venue, order.order_id))
        for fill in operation.fills:
            key = (fill.venue, fill.symbol, fill.trade_id)
            if fill.client_id and key in ledger.fills_seen:
                ledger.fills_seen.discard(key)
                ledger.settled.add(fill_identity(*key))
        ledger.closings.pop(name, None)
        ledger.round_trips.forget(name)
        ledger.retired_operations += 1
    for recovery_id in [r.recovery_id for r in ledger.recoveries.values() if r.operation_id in gone]:
        del ledger.recoveries[recovery_id]
        ledger.since_wall_ns.pop(recovery_id, None)
