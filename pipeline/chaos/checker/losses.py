"""The loss of the day and the loss of all days at the moment of an entry, by the venues' own money: what trading
moved, fees and funding included, with what is held valued at the mids of the books that the feeds had published (coins
at their best one). The loss of all days is how far that lies below the highest one with which an entry began while no
hedge was open: what a hedge might have gained is no gain yet.

It may be judged where the core can know it: no operation is under way, each fill is booked, nobody else has touched a
coin and funding was not paid just now. Open hedges are valued once a second, so the lowest loss within that time counts
where there are any, and one that is younger may not be valued yet. Only tapes with what the feeds published have all
that is needed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal

from pipeline.chaos.checker.claims import Claims
from pipeline.chaos.checker.finding import Find
from pipeline.chaos.checker.truth import ZERO, Place, Row, Truth

DAY_NS = 86_400_000_000_000
VALUED_NS = 1_200_000_000  # how old the worth of a hedge may be that the core goes by
PAID_NS = 5_000_000_000  # until which funding need not be booked
ROOM_USD = Decimal("0.25")  # dust and remainders of fees, which have another price since they were booked


@dataclass(slots=True)
class Losses:
    """``base``: the P&L with which the day began, None = not known; ``highest``: of all days; ``valued``: (when, P&L)
    while hedges are open."""

    day: int = -1
    base: Decimal | None = ZERO
    highest: Decimal = ZERO
    paid_ns: int = -PAID_NS
    valued: deque[tuple[int, Decimal]] = field(default_factory=deque)

    def look(self, row: Row, truth: Truth, claims: Claims) -> None:
        """After any row."""
        if not truth.config.get("feeds_seen"):
            return
        now_ns, day = row["mono_ns"], row["wall_ns"] // DAY_NS
        if row["kind"] == "entry" and row["reason"].startswith("fund"):
            self.paid_ns = now_ns
        if row["kind"] == "act" and day > self.day:
            self.base = ZERO if self.day < 0 else _pnl(truth)
            self.day = day
        if row["kind"] == "book" and claims.hedges:
            pnl = _pnl(truth)
            if pnl is not None:
                self.valued.append((now_ns, pnl))
            while len(self.valued) > 1 and self.valued[1][0] < now_ns - VALUED_NS:
                self.valued.popleft()

    def entry(self, row: Row, truth: Truth, claims: Claims, find: Find) -> None:
        """An ``OperationRecord`` that opens something, before it is taken in."""
        if not truth.config["feeds_seen"]:
            return
        now_ns, limits, name = row["mono_ns"], truth.config["limits"], row["body"]["operation_id"]
        pnl = _pnl(truth)
        if pnl is None or now_ns - self.paid_ns < PAID_NS or not _known(now_ns, truth, claims):
            return
        if claims.hedges:
            pnl = max([pnl, *(value for at_ns, value in self.valued if at_ns >= self._since_ns(now_ns))])
        else:
            self.highest = max(self.highest, pnl)
        limit = limits["max_daily_loss_usd"]
        if self.base is not None and self.base - pnl > limit + ROOM_USD:
            find("loss", f"{name}: an entry with {self.base - pnl:.2f} USD lost today, at most {limit}")
        lost, limit = self.highest - pnl, limits["max_total_loss_usd"]
        if lost > limit + 2 * ROOM_USD:  # both ends of it are valued
            find("total loss", f"{name}: an entry {lost:.2f} USD below the highest P&L, at most {limit}")

    def _since_ns(self, now_ns: int) -> int:
        """When the oldest value was made that may still be the newest one of the core."""
        return max((at_ns for at_ns, _ in self.valued if at_ns <= now_ns - VALUED_NS), default=0)


def _known(now_ns: int, truth: Truth, claims: Claims) -> bool:
    """Whether the core has everything by which it can know its loss."""
    if claims.open_operations() or claims.externals:
        return False
    if any(now_ns - claims.operations[name].at_ns < VALUED_NS for name in claims.hedges):
        return False
    return all(key in claims.fills for key, fill in truth.fills.items() if fill["client_id"] in claims.orders)


def _pnl(truth: Truth) -> Decimal | None:
    """In the numeraire; None where something that is held has no book. Coins of all spot venues are one amount: what
    has moved from one to another is no gain and no loss."""
    total = ZERO
    coins: dict[str, Decimal] = {}
    for (_, asset), amount in truth.money.items():
        coins[asset] = coins.get(asset, ZERO) + amount
    for asset, amount in coins.items():
        prices = [Decimal(1)] if asset == truth.config["numeraire"] else _spot_mids(asset, truth)
        if amount and not prices:
            return None
        total += max((amount * price for price in prices), default=ZERO)
    for place, qty in truth.positions.items():
        mid = _mid(place, truth)
        if qty and mid is None:
            return None
        total += qty * (mid or ZERO) - truth.costs[place]
    return total


def _spot_mids(asset: str, truth: Truth) -> list[Decimal]:
    spots = [place for place, row in truth.instruments.items() if row["instrument_kind"] == "spot"]
    mids = [_mid(place, truth) for place in spots if truth.instruments[place]["base"] == asset]
    return [mid for mid in mids if mid is not None]


def _mid(place: Place, truth: Truth) -> Decimal | None:
    book = truth.books.get(place)
    return (book["bid"] + book["ask"]) / 2 if book and book["bid"] and book["ask"] else None
