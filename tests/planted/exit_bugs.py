"""Planted bugs of exits, of prices, of the guard's takeover and of the money that others move."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pipeline.execution.external_shares as external_shares
import pipeline.execution.orchestrator as orchestrator
import pipeline.execution.plan as plan
import pipeline.execution.repair as repair
from pipeline.execution.ledger import Ledger, Operation
from pipeline.execution.orchestrator import OrderOrchestrator
from pipeline.execution.records import Purpose
from pipeline.execution.repair import RepairChooser
from pipeline.recovery.external_book import ExternalBook
from pipeline.takeover import Takeover
from tests.planted.patches import ZERO, Patch, Wrapped, always


def _exits_doubled(original: Any) -> Any:
    def intend(self: OrderOrchestrator, operation: Operation, leg: int, **fields: Any) -> Any:
        if fields["purpose"] in (Purpose.CLOSE, Purpose.FLATTEN):
            fields["qty"] *= 2
        return original(self, operation, leg, **fields)

    return intend


def _takes_back(share: Decimal) -> Wrapped:
    """Of what is beyond nothing, so much."""

    def make(original: Any) -> Any:
        def ending_part(ledger: Ledger, operation: Operation, leg: Any, amount: Decimal) -> Decimal:
            found: Decimal = original(ledger, operation, leg, amount)
            return found if found == amount else found * share

        return ending_part

    return Wrapped(make)


def _not_a_hair(original: Any) -> Any:
    def ending_part(ledger: Ledger, operation: Operation, leg: Any, amount: Decimal) -> Decimal:
        found: Decimal = original(ledger, operation, leg, amount)
        holds = external_shares.group_holds(ledger, operation, leg)
        return min(found, holds, key=abs) if found * holds > 0 else found

    return ending_part


def _nothing_left_of_it(original: Any) -> Any:
    def left(ledger: Ledger, opening: Operation) -> Decimal:
        found: Decimal = original(ledger, opening)
        return ZERO if ledger.closings.get(opening.operation_id) else found

    return left


def _any_price(original: Any) -> Any:
    def price(self: RepairChooser, operation: Operation, plan: Any, side: Any, *rest: Any) -> Any:
        found = original(self, operation, plan, side, *rest)
        return None if found is None else (found * (100 + 5 * int(side)) / 100).quantize(rest[-1])

    return price


def _flows_doubled(original: Any) -> Any:
    def flow(self: ExternalBook, venue: str, asset: str, amount: Decimal, **why: str) -> None:
        original(self, venue, asset, amount * 2, **why)

    return flow


def _wider_limits(original: Any) -> Any:
    def ticks(self: Any, wanted_fp: int, grid: Any, side: Any, best_fp: int) -> Any:
        return original(self, wanted_fp, grid, side, best_fp) * (100 + int(side)) // 100

    return ticks


EXIT_BUGS: dict[str, list[Patch]] = {
    "exits are twice what is planned": [(OrderOrchestrator, "_intend", Wrapped(_exits_doubled))],
    "a hedge that must leave is bought back": [
        (repair, "ending_part", lambda ledger, operation, leg, amount: amount),
        (repair, "undoes", always(False)),
    ],
    "of what exits have closed too far half is taken back": [(repair, "ending_part", _takes_back(Decimal("0.5")))],
    "of what exits have closed too far more is taken back": [(repair, "ending_part", _takes_back(Decimal("1.5")))],
    "an exit leaves a hair": [(repair, "ending_part", Wrapped(_not_a_hair))],
    "a hedge is forgotten once a part of it has left": [(orchestrator, "hedge_left", Wrapped(_nothing_left_of_it))],
    "repairs pay any price": [(RepairChooser, "_collared_price", Wrapped(_any_price))],
    "entries pay more than slippage allows": [(plan.Planner, "_limit_ticks", Wrapped(_wider_limits))],
    "what another hedge holds the other way is gone": [(repair, "netted", always(False))],
    "the guard closes no hedge": [(Takeover, "_left", lambda self: set())],
    "money that others have moved is booked twice": [(ExternalBook, "flow", Wrapped(_flows_doubled))],
}
