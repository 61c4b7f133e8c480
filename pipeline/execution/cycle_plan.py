"""Lots of a cycle fitted over all its legs before any of them is planned; exact, in integers and fractions.

A leg takes the asset that the leg before it brings. Forwards no leg takes more than it is brought; backwards each leg
is the fewest lots that bring what the next one takes. What lies between two legs after that is less than one lot of
the leg that brings it; above ``DUST_SHARE`` of what that leg brings there is no plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from pipeline.execution.events import BookView
from pipeline.execution.market import walk
from pipeline.model.enums import OrderSide

DUST_SHARE = Fraction(1, 100)


@dataclass(slots=True, frozen=True)
class CycleLeg:
    """One leg as the fit sees it. Quantities of the book are fixed point; amounts are coins."""

    side: OrderSide
    view: BookView
    lot: Fraction  # coins
    lot_fp: Fraction  # the same in the book's fixed point
    price_unit: int  # 10**price_exp
    qty_unit: int  # 10**qty_exp
    keep: Fraction  # share of what is brought that stays after a fee taken from it
    cost: Fraction  # 1 + fee of a buy taken in quote
    most: int  # lots: depth within the limit, what was detected, the venue's maximum

    def value(self, lots: int) -> Fraction:
        """Coins of quote that so many lots trade for on the visible levels."""
        _, value = walk(self.view, self.side, int(lots * self.lot_fp))
        return Fraction(value, self.price_unit * self.qty_unit)

    def taken(self, lots: int) -> Fraction:
        """Coins that so many lots take of the asset before the leg."""
        return self.value(lots) * self.cost if self.side is OrderSide.BUY else lots * self.lot

    def brought(self, lots: int) -> Fraction:
        """Coins that so many lots bring of the asset behind the leg."""
        return (lots * self.lot if self.side is OrderSide.BUY else self.value(lots)) * self.keep


def most_lots(leg: CycleLeg, amount: Fraction) -> int:
    """The most lots, at most ``leg.most``, that take no more than ``amount``. By halving: amounts grow with lots."""
    low, high = 0, leg.most
    while low < high:
        middle = (low + high + 1) // 2
        if leg.taken(middle) <= amount:
            low = middle
        else:
            high = middle - 1
    return low


def fewest_lots(leg: CycleLeg, amount: Fraction, known: int) -> int:
    """The fewest lots that bring at least ``amount``; ``known`` lots are known to."""
    low, high = 0, known
    while low < high:
        middle = (low + high) // 2
        if leg.brought(middle) >= amount:
            high = middle
        else:
            low = middle + 1
    return low


def fit_cycle(legs: list[CycleLeg]) -> list[int] | None:
    """Lots of every leg, in order; None where they do not fit each other."""
    lots: list[int] = []
    for k, leg in enumerate(legs):
        lots.append(leg.most if k == 0 else most_lots(leg, legs[k - 1].brought(lots[k - 1])))
    for k in range(len(legs) - 2, -1, -1):
        taken = legs[k + 1].taken(lots[k + 1])
        lots[k] = fewest_lots(legs[k], taken, lots[k])
        brought = legs[k].brought(lots[k])
        if brought - taken > brought * DUST_SHARE:
            return None
    return lots if all(lots) else None
