"""The ledger's part of what leaves memory: what is removed of operations and of funding payments, and what stays."""

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

FUNDING_SEEN_MAX = 4_096  # payments; beyond it those go that no question can bring any more
FUNDING_KNOWN_MS = 86_400_000  # before a venue's newest payment: one that is older is never booked, known or not


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
    funding_seen: set[tuple[str, str]]
    funding_at: dict[tuple[str, str], int]
    funding_wall_ms: dict[str, int]
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


def remember_funding(ledger: Memory, key: tuple[str, str], at_ms: int) -> None:
    """A payment (venue, its id) is booked that the venue stamped ``at_ms``: it is known until it is too old to
    be booked."""
    ledger.funding_seen.add(key)
    ledger.funding_at[key] = at_ms
    if len(ledger.funding_at) > FUNDING_SEEN_MAX:
        for old in [one for one, ms in ledger.funding_at.items() if funding_too_old(ledger, one[0], ms)]:
            del ledger.funding_at[old]
            ledger.funding_seen.discard(old)


def funding_too_old(ledger: Memory, venue: str, at_ms: int) -> bool:
    """Whether a payment that the venue stamped ``at_ms`` is not booked any more: questions reach back an hour, and
    which ones are known may be forgotten."""
    return at_ms < ledger.funding_wall_ms.get(venue, 0) - FUNDING_KNOWN_MS
