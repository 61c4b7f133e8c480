"""Coins at average cost, whatever they were paid in: what was paid in one asset is never added to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal

from pipeline.execution.accounts import EXACT, PNL_DIGITS, FuturesPosition
from pipeline.model.structs import ZERO

_DIVISION = Context(prec=28, rounding=ROUND_HALF_EVEN)


@dataclass(slots=True)
class CoinHolding(FuturesPosition):
    """``cost`` is in the asset of the trade that opened it; ``others``: asset -> the same of trades in other quotes."""

    others: dict[str, Decimal] = field(default_factory=dict)

    def costs(self, own: str) -> Mapping[str, Decimal]:
        """Asset -> sum of price x open quantity; ``own``: the asset of ``cost``."""
        return {own: self.cost, **self.others}

    def trade(self, signed: Decimal, price: Decimal, quote: str, own: str) -> dict[str, Decimal]:
        """Adds an execution at ``price`` in ``quote``; asset -> what it realised. ``own``: the asset of ``cost``, which
        is ``quote`` where nothing is held before, or the other side behind it."""
        realised: dict[str, Decimal] = {}
        if self.qty * signed < 0:
            closed, direction = min(abs(signed), abs(self.qty)), 1 if self.qty > 0 else -1
            realised = {asset: -amount for asset, amount in self._release(closed, own).items()}
            proceeds = EXACT.multiply(EXACT.multiply(price, closed), Decimal(direction))
            realised[quote] = EXACT.add(realised.get(quote, ZERO), proceeds)
            signed = EXACT.add(signed, closed * direction)
        if signed:
            own = own if self.qty else quote
            amount = EXACT.multiply(price, signed)
            if quote == own:
                self.cost = EXACT.add(self.cost, amount)
            else:
                self.others[quote] = EXACT.add(self.others.get(quote, ZERO), amount)
            self.qty = EXACT.add(self.qty, signed)
        return realised

    def set_qty(self, qty: Decimal, price: Decimal) -> None:
        """As of a position; what is gone takes its share of every cost."""
        if self.qty * qty > 0 and abs(qty) < abs(self.qty):
            for asset, amount in self.others.items():
                self.others[asset] = _share(amount, qty, self.qty)
        elif self.qty * qty <= 0:
            self.others.clear()
        FuturesPosition.set_qty(self, qty, price)

    def _release(self, closed: Decimal, own: str) -> dict[str, Decimal]:
        """Takes ``closed`` coins off with their share of every cost: asset -> that share."""
        held, costs = abs(self.qty), dict(self.costs(own))
        gone = costs if closed == held else {asset: _share(cost, closed, held) for asset, cost in costs.items()}
        self.qty = EXACT.subtract(self.qty, closed if self.qty > 0 else -closed)
        self.cost = EXACT.subtract(self.cost, gone[own])
        left = {asset: EXACT.subtract(cost, gone[asset]) for asset, cost in self.others.items()}
        self.others = {asset: cost for asset, cost in left.items() if cost}
        return gone


def _share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    return _DIVISION.divide(EXACT.multiply(amount, part), whole).quantize(PNL_DIGITS, ROUND_HALF_EVEN)
