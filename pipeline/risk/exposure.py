"""Exposure as the limits see it: worst case, unknown orders included. Pure functions of the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from pipeline.execution.ledger import Ledger, Operation
from pipeline.execution.market import UsdRates
from pipeline.execution.records import HedgeRecord

ZERO = Decimal(0)


class RiskMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """One reading (requirements S14). USD values for limits, see ``UsdRates``."""

    total_exposure_usd: Decimal
    open_exposure_usd: Decimal
    hedge_exposure_usd: Decimal
    unknown_orders: int
    open_operations: int
    open_hedges: int
    daily_realized_pnl: Decimal
    tripped_breakers: tuple[str, ...]
    orders_last_second: int


@dataclass(slots=True)
class Exposure:
    """USD exposure of what is open, in all and by venue, asset and pair."""

    total: Decimal = ZERO
    hedges: Decimal = ZERO
    by_venue: dict[str, Decimal] = field(default_factory=dict)
    by_asset: dict[str, Decimal] = field(default_factory=dict)
    by_pair: dict[str, Decimal] = field(default_factory=dict)

    def add(self, amount: Decimal, *, venues: set[str], assets: set[str], pair: str) -> None:
        self.total += amount
        for venue in venues:
            self.by_venue[venue] = self.by_venue.get(venue, ZERO) + amount
        for asset in assets:
            self.by_asset[asset] = self.by_asset.get(asset, ZERO) + amount
        self.by_pair[pair] = self.by_pair.get(pair, ZERO) + amount


def operation_exposure_usd(operation: Operation) -> Decimal:
    """Worst case of an operation under way: its whole notional, as if one leg stood alone."""
    return operation.record.notional_usd


def hedge_exposure_usd(hedge: HedgeRecord, rates: UsdRates, quote: str) -> Decimal:
    rate = rates.rate(quote)
    return hedge.qty * hedge.entry_futures_price * (rate if rate is not None else Decimal(1))


def exposure(ledger: Ledger, rates: UsdRates) -> Exposure:
    """Everything open: operations (an UNKNOWN order keeps its operation open) and hedges."""
    found = Exposure()
    for operation in ledger.open_operations.values():
        record = operation.record
        found.add(
            operation_exposure_usd(operation),
            venues={leg.venue for leg in record.legs},
            assets={leg.base for leg in record.legs},
            pair=record.pair,
        )
    for hedge in ledger.hedges.values():
        operation = ledger.operations[hedge.operation_id]
        if operation.operation_id in ledger.open_operations:
            continue
        amount = hedge_exposure_usd(hedge, rates, operation.record.legs[0].quote)
        found.hedges += amount
        found.add(
            amount,
            venues={hedge.spot_venue, hedge.futures_venue},
            assets={hedge.base},
            pair=operation.record.pair,
        )
    return found
