"""Exposure as the limits see it: worst case, unknown orders included. Pure functions of the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from pipeline.execution.ledger import Ledger, Operation
from pipeline.execution.records import HedgeRecord
from pipeline.model.enums import OrderSide
from pipeline.model.instruments import USD_COINS
from pipeline.model.structs import ZERO

Marks = Mapping[tuple[str, str], Decimal]  # (venue, symbol) -> mark price
Coin = tuple[str, str]  # venue and coin: what the position limit counts by


class RiskMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """One reading. USD values for limits, see ``UsdRates``."""

    total_exposure_usd: Decimal
    open_exposure_usd: Decimal
    hedge_exposure_usd: Decimal
    foreign_exposure_usd: Decimal  # what others hold on our accounts by their trades, at mark
    unknown_orders: int
    open_operations: int
    open_hedges: int
    daily_realized_pnl: Decimal
    unrealized_pnl: Decimal  # of the open hedges, at the mids of their books
    foreign_pnl: Decimal  # of the day, by trades of others: realised, and of what they hold
    day_loss: Decimal  # what max_daily_loss_usd is compared with
    total_loss: Decimal  # below the highest P&L since the journal began
    unknown: tuple[str, ...]  # what is open and cannot be valued now: no entries
    tripped_breakers: tuple[str, ...]
    orders_last_second: int


@dataclass(slots=True)
class Exposure:
    """USD exposure of what is open: in all, by venue, asset and pair, and the position of each coin on each venue.

    ``fixed``: no amount here depends on a price that moves between two events, so it changes with events only.
    ``unvalued``: quotes of hedges that have no USD rate now: what they are worth is in no sum here. ``foreign``: what
    others hold on our accounts by their trades, which is in ``total`` too.
    """

    total: Decimal = ZERO
    hedges: Decimal = ZERO
    foreign: Decimal = ZERO
    fixed: bool = True
    unvalued: set[str] = field(default_factory=set)
    by_position: dict[Coin, Decimal] = field(default_factory=dict)
    by_venue: dict[str, Decimal] = field(default_factory=dict)
    by_asset: dict[str, Decimal] = field(default_factory=dict)
    by_pair: dict[str, Decimal] = field(default_factory=dict)

    def add(self, amount: Decimal, *, venues: set[str], assets: set[str], pair: str) -> None:
        """``amount`` USD more to the total, to each of the venues and assets, and to the pair; hedges and positions
        have their own sums."""
        self.total += amount
        for venue in venues:
            self.by_venue[venue] = self.by_venue.get(venue, ZERO) + amount
        for asset in assets:
            self.by_asset[asset] = self.by_asset.get(asset, ZERO) + amount
        self.by_pair[pair] = self.by_pair.get(pair, ZERO) + amount

    def add_position(self, coin: Coin, amount: Decimal) -> None:
        """``amount`` USD more to a coin's position on its venue; no other sum changes."""
        self.by_position[coin] = self.by_position.get(coin, ZERO) + amount


def position_sizes(legs: Iterable[tuple[Coin, OrderSide, Decimal]]) -> dict[Coin, Decimal]:
    """USD by which legs (coin, side, USD) that leave together may change the position of each coin on each venue.

    Worst case: one side fills and the other does not, so a coin that is bought and sold on one venue counts with its
    larger side.
    """
    bought: dict[Coin, Decimal] = {}
    sold: dict[Coin, Decimal] = {}
    for coin, side, amount in legs:
        sizes = bought if side > 0 else sold
        sizes[coin] = sizes[coin] + amount if coin in sizes else amount
    for coin, amount in sold.items():
        if coin not in bought or bought[coin] < amount:
            bought[coin] = amount
    return bought


def operation_positions(operation: Operation) -> dict[Coin, Decimal]:
    """Worst case of an operation under way, by coin and venue: every leg whole, an UNKNOWN order like any other.

    A leg that is not paid in a USD coin counts with the operation's own notional, which is its largest leg. An exit
    adds nothing: the hedge that it leaves is counted until the exit has ended.
    """
    record = operation.record
    if record.closes:
        return {}
    return position_sizes(
        [
            (
                (leg.venue, leg.base),
                leg.side,
                leg.qty * leg.limit_price if leg.quote in USD_COINS else record.notional_usd,
            )
            for leg in record.legs
        ]
    )


def operation_exposure_usd(operation: Operation) -> Decimal:
    """Worst case of an operation under way: its whole notional, as if one leg stood alone."""
    return operation.record.notional_usd


def hedge_exposure_usd(hedge: HedgeRecord, rate: Decimal | None, marks: Marks) -> Decimal | None:
    """Value of a hedge's contract at its mark price, at the entry price while no mark was read; None without a rate."""
    mark = marks.get((hedge.futures_venue, hedge.futures_symbol), hedge.entry_futures_price)
    return None if rate is None else hedge.qty * mark * rate


def exposure(ledger: Ledger, rate: Callable[[str], Decimal | None], marks: Marks) -> Exposure:
    """Everything of ours that is open: operations (an UNKNOWN order keeps its operation open), and hedges at ``marks``.

    ``rate(asset)``: USD per unit, None = not known.
    """
    found = Exposure()
    for operation in ledger.open_operations.values():
        record = operation.record
        found.add(
            operation_exposure_usd(operation),
            venues={leg.venue for leg in record.legs},
            assets={leg.base for leg in record.legs},
            pair=record.pair,
        )
        for coin, size in operation_positions(operation).items():
            found.add_position(coin, size)
    for hedge in ledger.hedges.values():
        operation = ledger.operations[hedge.operation_id]
        if operation.operation_id in ledger.open_operations:
            continue
        quote = operation.record.legs[0].quote
        amount = hedge_exposure_usd(hedge, rate(quote), marks)
        if amount is None:
            found.unvalued.add(quote)
            continue
        found.fixed = found.fixed and quote in USD_COINS
        found.hedges += amount
        found.add(
            amount,
            venues={hedge.spot_venue, hedge.futures_venue},
            assets={hedge.base},
            pair=operation.record.pair,
        )
        for venue in {hedge.spot_venue, hedge.futures_venue}:
            found.add_position((venue, hedge.base), amount)
    return found
