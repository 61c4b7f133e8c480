"""How much an order of an exit may close."""

from __future__ import annotations

from decimal import Decimal

from pipeline.chaos.checker.claims import Claims, Operation
from pipeline.chaos.checker.truth import ZERO

FEE_SLACK = Decimal("1.01")  # fees in base: a leg and its repair differ by them


def of_exit(by: str, kind: str, base: str, exposure: Decimal, operation: Operation, claims: Claims) -> Decimal:
    """How much of the exposure of an operation an order on one kind of instrument must close: all of it, but for one
    that leaves a hedge.

    There it is all where the order undoes what the exit has done and the exit may be undone. Else nothing is opened:
    it is what the hedge with all its exits holds there of that sign, where that is less; a hair more for fees in base
    coins is closed along; of a contract without what orders of its other exits may still trade. (An exit by choice
    closes all of it or nothing, until the contract's margin is short: that no record tells.)"""
    leaves = operation.leaves
    if leaves is None:
        return exposure
    opened = 1 if (kind == "SPOT") is (leaves["spot_side"] == "BUY") else -1
    must_end = operation.body["manual"] or by == "guard" or claims.in_turn(operation)
    if exposure * opened < 0 and not must_end:
        return exposure
    holds = claims.group_net(operation, kind, base)
    if kind != "SPOT":
        side = "SELL" if exposure > 0 else "BUY"
        holds -= claims.rest_of_others(operation, kind, base, side) * (1 if exposure > 0 else -1)
    if holds * exposure <= 0:
        return ZERO
    if abs(exposure) <= abs(holds) * FEE_SLACK:
        return exposure
    return holds
