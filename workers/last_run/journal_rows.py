"""What the journal says of what is not over, as rows: the same whether the executor shows them or, after one that ended
without a last word, a view does."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from pipeline.execution.external_shares import coins_of_others
from pipeline.execution.ledger import Ledger, Operation
from pipeline.execution.records import RecoveryRecord
from pipeline.model.structs import ZERO

Row = dict[str, Any]
HELD_STATES = ("waiting_approval", "cancelled")  # of a recovery: an operator decides, or has taken over


def unmatched(operation: Operation) -> dict[str, Decimal]:
    """What an operation's fills left behind, per base asset."""
    bases = {leg.base for leg in operation.record.legs}
    exposure = operation.exposure()
    left = {asset: exposure.get(asset, ZERO) - operation.moved_to_dust.get(asset, ZERO) for asset in bases}
    return {asset: amount for asset, amount in left.items() if amount}


def open_operations(ledger: Ledger) -> list[Row]:
    """Operations that are not over, each with what its fills leave without a partner now, per base asset."""
    return [
        {"operation_id": name, "pair": operation.record.pair, "unmatched": unmatched(operation)}
        for name, operation in ledger.open_operations.items()
    ]


def held_by_operator(ledger: Ledger) -> set[str]:
    """Operations whose recovery waits for an operator, or was taken over by one."""
    return {r.operation_id for r in ledger.recoveries.values() if r.state in HELD_STATES}


def recovery_is_over(ledger: Ledger, record: RecoveryRecord) -> bool:
    """Whether nothing is left to do: one that an operator has taken over is not while its operation is open."""
    cancelled = record.state == "cancelled" and record.operation_id not in ledger.open_operations
    return record.state == "done" or cancelled


def recoveries(ledger: Ledger) -> list[Row]:
    """Recoveries that are not over."""
    found = list[Row]()
    for record in ledger.recoveries.values():
        operation = ledger.operations.get(record.operation_id)
        if recovery_is_over(ledger, record) or operation is None:
            continue
        found.append(
            {
                "recovery_id": record.recovery_id,
                "operation_id": record.operation_id,
                "pair": operation.record.pair,
                "strategy": record.strategy,
                "state": record.state,
                "requires_manual_approval": record.state == "waiting_approval",
                "since_wall_ns": ledger.since_wall_ns.get(record.recovery_id, 0),
                "reason": record.reason,
                "unmatched": unmatched(operation),
            }
        )
    return found


def left_by_journal(ledger: Ledger) -> dict[str, Any]:
    """Everything that is open, and whose it is not: fields of ``arb status``."""
    return {
        "hedges": [
            {**msgspec.structs.asdict(hedge), "hedge_id": name, "spot_side": hedge.spot_side.name.lower()}
            for name, hedge in ledger.hedges.items()
        ],
        "recoveries": recoveries(ledger),
        "open_operations": open_operations(ledger),
        "unsettled_orders": len(ledger.unsettled),
        "foreign_coins": [
            {"venue": venue, "asset": asset, "foreign_qty": foreign, "moved_qty": moved}
            for (venue, asset), (foreign, moved) in coins_of_others(ledger).items()
        ],
    }


def half_done_text(operations: list[Row], unsettled_orders: int) -> str:
    """What is not over, in words; "" where everything is."""
    bare: dict[str, Decimal] = {}
    for row in operations:
        for asset, amount in row["unmatched"].items():
            bare[asset] = bare.get(asset, ZERO) + Decimal(str(amount))
    found = [f"{len(operations)} operations half done"] if operations else []
    found += [f"{unsettled_orders} orders without an answer"] if unsettled_orders else []
    found += [f"{amount} {asset} without a partner" for asset, amount in sorted(bare.items()) if amount]
    return ", ".join(found)
