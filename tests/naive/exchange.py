"""A spot exchange written as plainly as possible: one list of orders, sorted anew for every match.

The twin of ``pipeline.sim`` matching and settlement. Everything, the market's own quotes too, is an order with a time;
money is what the fills add up to, locks are what the open orders need.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal

PPM = Decimal(1_000_000)
ZERO = Decimal(0)


@dataclass
class NaiveOrder:
    number: int
    user: int | None  # None = the market
    is_buy: bool
    price: int  # ticks
    left: int  # units
    time: int


@dataclass
class NaiveFill:
    taker: int | None
    maker: int | None
    price: int
    units: int
    maker_number: int


@dataclass
class NaiveExchange:
    tick: Decimal
    unit: Decimal
    taker_ppm: int
    maker_ppm: int
    money: dict[int, dict[str, Decimal]]
    orders: list[NaiveOrder] = field(default_factory=list)
    clock: int = 0

    def add(self, user: int | None, is_buy: bool, price: int, units: int, number: int = 0) -> NaiveOrder:
        self.clock += 1
        order = NaiveOrder(number, user, is_buy, price, units, self.clock)
        self.orders.append(order)
        return order

    def fee(self, quote: Decimal, ppm: int) -> Decimal:
        return (quote * ppm / PPM).quantize(Decimal("1e-12"), ROUND_UP)

    def fills_of(self, user: int | None, is_buy: bool, limit: int | None, units: int) -> list[NaiveFill]:
        """What a taker meets, by price, then time; a user stops before an order of his own."""
        others = [one for one in self.orders if one.is_buy is not is_buy and one.left]
        others.sort(key=lambda one: (one.price if is_buy else -one.price, one.time))
        found = []
        for one in others:
            past = limit is not None and (one.price > limit if is_buy else one.price < limit)
            if not units or past or (user is not None and one.user == user):
                break
            took = min(units, one.left)
            units -= took
            found.append(NaiveFill(user, one.user, one.price, took, one.time))
        return found

    def execute(self, fills: list[NaiveFill], is_buy: bool) -> None:
        for fill in fills:
            (maker,) = (one for one in self.orders if one.time == fill.maker_number)
            maker.left -= fill.units
            quote = fill.price * self.tick * fill.units * self.unit
            for user, buys, ppm in ((fill.taker, is_buy, self.taker_ppm), (fill.maker, not is_buy, self.maker_ppm)):
                if user is None:
                    continue
                sign = 1 if buys else -1
                self.money[user]["BTC"] += sign * fill.units * self.unit
                self.money[user]["USDT"] -= sign * quote + self.fee(quote, ppm)
        self.orders = [one for one in self.orders if one.left]

    def need(self, is_buy: bool, price: int, units: int) -> tuple[str, Decimal]:
        """(asset, amount) that an open order locks."""
        if not is_buy:
            return "BTC", units * self.unit
        quote = price * self.tick * units * self.unit
        return "USDT", quote + self.fee(quote, max(self.taker_ppm, self.maker_ppm))

    def locked(self, user: int, asset: str) -> Decimal:
        needs = [self.need(one.is_buy, one.price, one.left) for one in self.orders if one.user == user]
        return sum((amount for wanted, amount in needs if wanted == asset), ZERO)

    def free(self, user: int, asset: str) -> Decimal:
        return self.money[user][asset] - self.locked(user, asset)

    def levels(self, is_buy: bool) -> dict[int, int]:
        found: dict[int, int] = {}
        for one in self.orders:
            if one.is_buy is is_buy and one.left:
                found[one.price] = found.get(one.price, 0) + one.left
        return found
