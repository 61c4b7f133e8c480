"""What our fills did to our accounts: exact amounts per venue and asset, and futures positions.

A spot fill moves base and quote; its fee leaves in the fee's own asset. A futures fill moves a position; money moves
by the fee at once and by realised profit when a position shrinks. Everything is Decimal in the ``EXACT`` context, in
which inexact sums raise instead of rounding; the one division (cost of the closed share of a futures position) is
rounded to 12 digits, as money is booked, and what was rounded stays in the open cost, so that a closed position sums
to zero exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact

from pipeline.execution.external_records import ExternalFillRecord
from pipeline.execution.records import FillRecord, FundingRecord
from pipeline.model.enums import InstrumentKind
from pipeline.model.structs import ZERO

EXACT = Context(prec=60, traps=[Inexact])  # 60 digits hold any sum of int64 products; a rounding is a bug
PNL_DIGITS = Decimal("1e-12")
_DIVISION = Context(prec=28, rounding=ROUND_HALF_EVEN)
_LEADING_NUMBER = re.compile(r"\d+")


@dataclass(slots=True)
class FuturesPosition:
    """A futures position at average cost: ``qty`` signed base coin, ``cost`` (quote) the sum of price x open quantity,
    ``realised`` (quote) the profit of what was closed."""

    qty: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO

    @property
    def entry_price(self) -> Decimal:
        """Average price of what is open, quote per base; 0 without a position."""
        return _DIVISION.divide(self.cost, self.qty) if self.qty else ZERO

    def apply(self, signed_qty: Decimal, price: Decimal) -> Decimal:
        """Adds an execution; returns the profit that it realised (quote)."""
        realised = ZERO
        if self.qty and (self.qty > 0) != (signed_qty > 0):
            closed = min(abs(signed_qty), abs(self.qty))
            share = EXACT.multiply(self.cost, closed)
            released = self.cost
            if closed < abs(self.qty):
                released = _DIVISION.divide(share, abs(self.qty)).quantize(PNL_DIGITS, ROUND_HALF_EVEN)
            direction = 1 if self.qty > 0 else -1
            realised = EXACT.subtract(EXACT.multiply(EXACT.multiply(price, closed), Decimal(direction)), released)
            self.cost = EXACT.subtract(self.cost, released)
            self.qty = EXACT.subtract(self.qty, closed * direction)
            signed_qty = EXACT.add(signed_qty, closed * direction)
        if signed_qty:
            self.cost = EXACT.add(self.cost, EXACT.multiply(price, signed_qty))
            self.qty = EXACT.add(self.qty, signed_qty)
        self.realised = EXACT.add(self.realised, realised)
        return realised

    def set_qty(self, qty: Decimal, price: Decimal) -> None:
        """Makes ``qty`` the position without realising anything: what is gone takes its share of the cost with it,
        what is new costs ``price``."""
        grown = qty - self.qty
        if self.qty and qty and (self.qty > 0) == (qty > 0) and abs(qty) < abs(self.qty):
            share = EXACT.multiply(self.cost, qty)
            self.cost = _DIVISION.divide(share, self.qty).quantize(PNL_DIGITS, ROUND_HALF_EVEN)
        elif self.qty and qty and (self.qty > 0) == (qty > 0):
            self.cost = EXACT.add(self.cost, EXACT.multiply(price, grown))
        else:
            self.cost = EXACT.multiply(price, qty)
        self.qty = qty


Execution = FillRecord | ExternalFillRecord


@dataclass(slots=True)
class Accounts:
    """Running sums of fills and funding, exact.

    ``flows``: (venue, asset) -> change of the balance by trading since the journal began. ``external``: the same by
    money that came or went without a trade. ``fees``: (venue, asset) -> paid. ``futures``: (venue, symbol) -> position
    by all executions on the account.
    """

    flows: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    fees: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    futures: dict[tuple[str, str], FuturesPosition] = field(default_factory=dict)
    external: dict[tuple[str, str], Decimal] = field(default_factory=dict)

    def _move(self, venue: str, asset: str, amount: Decimal) -> None:
        if amount:
            key = (venue, asset)
            self.flows[key] = EXACT.add(self.flows.get(key, ZERO), amount)

    def apply_fill(self, fill: Execution) -> None:
        """Books one execution and every part of its fee."""
        signed = fill.qty * int(fill.side)
        if fill.kind is InstrumentKind.SPOT:
            self._move(fill.venue, fill.base, signed)
            self._move(fill.venue, fill.quote, -EXACT.multiply(fill.price, signed))
        else:
            position = self.futures.setdefault((fill.venue, fill.symbol), FuturesPosition())
            self._move(fill.venue, fill.quote, position.apply(signed, fill.price))
        for asset, amount in fill.fees:
            key = (fill.venue, asset)
            self.fees[key] = EXACT.add(self.fees.get(key, ZERO), amount)
            self._move(fill.venue, asset, -amount)

    def apply_funding(self, record: FundingRecord) -> None:
        """Books one funding payment."""
        self._move(record.venue, record.asset, record.amount)

    def apply_external(self, venue: str, asset: str, amount: Decimal, *, trading: bool) -> None:
        """Books money that moved without an order; ``trading``: it is the result of a position after all."""
        if trading:
            self._move(venue, asset, amount)
        elif amount:
            self.external[venue, asset] = EXACT.add(self.external.get((venue, asset), ZERO), amount)

    def set_position(self, venue: str, symbol: str, qty: Decimal, price: Decimal) -> None:
        """Makes ``qty`` the position (see :meth:`FuturesPosition.set_qty`)."""
        self.futures.setdefault((venue, symbol), FuturesPosition()).set_qty(qty, price)

    def moved(self, venue: str, asset: str) -> Decimal:
        """Change of a balance since the journal began, trading and external money together."""
        key = (venue, asset)
        return EXACT.add(self.flows.get(key, ZERO), self.external.get(key, ZERO))

    def per_asset(self) -> dict[str, Decimal]:
        """Change per asset over all venues: the engine's realised P&L, to be equal to the venues' own."""
        totals: dict[str, Decimal] = {}
        for (_, asset), amount in self.flows.items():
            totals[asset] = EXACT.add(totals.get(asset, ZERO), amount)
        return totals

    def fees_per_asset(self) -> dict[str, Decimal]:
        """Fees paid over all venues."""
        totals: dict[str, Decimal] = {}
        for (_, asset), amount in self.fees.items():
            totals[asset] = EXACT.add(totals.get(asset, ZERO), amount)
        return totals

    def futures_qty(self, venue: str, symbol: str) -> Decimal:
        """Position by our fills, signed base coin; 0 where there was none."""
        position = self.futures.get((venue, symbol))
        return position.qty if position is not None else ZERO

    def delta(self, base_of: dict[tuple[str, str], str]) -> dict[str, Decimal]:
        """Net exposure per asset: spot change plus futures positions; ``base_of``: (venue, symbol) -> base asset."""
        totals = self.per_asset()
        for key, position in self.futures.items():
            base = base_of.get(key)
            if base is not None:
                totals[base] = EXACT.add(totals.get(base, ZERO), position.qty)
        return totals


def venue_order(fill: Execution) -> tuple[str, str, int, str]:
    """Sort key of fills: the venue's own order (trade id), not that of arrival; realised profit depends on it."""
    number = _LEADING_NUMBER.match(fill.trade_id)
    return fill.venue, fill.symbol, int(number.group()) if number else 0, fill.trade_id


def fold_fills(fills: Iterable[Execution], onto: Accounts | None = None) -> Accounts:
    """The accounts after ``fills``, applied in the venues' own order whatever the order of ``fills``; ``onto`` what
    earlier ones have made, which is changed."""
    accounts = Accounts() if onto is None else onto
    for fill in sorted(fills, key=venue_order):
        accounts.apply_fill(fill)
    return accounts


def exposure_by_asset(fills: Iterable[FillRecord]) -> dict[str, Decimal]:
    """Net change per asset by ``fills``; futures count like spot, as base coin bought with quote.

    An operation must bring it back to zero in every asset but the one in which it begins and ends.
    """
    totals: dict[str, Decimal] = {}

    def add(asset: str, amount: Decimal) -> None:
        totals[asset] = EXACT.add(totals.get(asset, ZERO), amount)

    for fill in fills:
        signed = fill.qty * int(fill.side)
        add(fill.base, signed)
        add(fill.quote, -EXACT.multiply(fill.price, signed))
        for asset, amount in fill.fees:
            add(asset, -amount)
    return totals
