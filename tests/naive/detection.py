"""Slow, obvious twins of the detection kernels: Fractions, dictionaries and exhaustive search.

Shares no arithmetic with the kernels; only the float64 rounding of a notional cap is defined here as there
(``quantity_for``), because "largest quantity under a cap" is a matter of that rounding.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import msgspec

Levels = list[tuple[int, int]]
PPM = 1_000_000
NUMBER_LIMIT = 2**62


@dataclass(frozen=True)
class Fees:
    """ppm: of the sale; of a buy taken in base; of a buy taken in quote."""

    sell: int = 0
    buy_base: int = 0
    buy_quote: int = 0


def edge(bid: int, ask: int, fees: Fees) -> Fraction:
    """Profit over quote paid, for one unit bought."""
    bought = Fraction(PPM - fees.buy_base, PPM)
    proceeds = bid * bought * Fraction(PPM - fees.sell, PPM)
    paid = ask * Fraction(PPM + fees.buy_quote, PPM)
    return proceeds / paid - 1


def clears(bid: int | None, ask: int | None, fees: Fees, threshold: Fraction) -> bool:
    """Whether the edge of a bid and an ask exceeds the threshold; absent prices have none."""
    return bid is not None and ask is not None and edge(bid, ask, fees) > threshold


@dataclass(frozen=True)
class LegLimits:
    lot: int = 1
    min_qty: int = 0
    max_qty: int = NUMBER_LIMIT
    min_notional: int = 0
    qty_unit: int = 1


def delivered(qty: int, fee_ppm: int) -> int:
    """Base that arrives when a fee, rounded up, is taken from it."""
    return qty - math.ceil(Fraction(qty * fee_ppm, PPM)) if fee_ppm > 0 else qty


def quantity_for(notional: float, unit_cost: float) -> int:
    """The kernel's rounding of a cap: float64, lowered by 2**-50."""
    if not notional > 0 or not unit_cost > 0:
        return 0
    return min(NUMBER_LIMIT, math.floor(notional / unit_cost * (1.0 - 2.0**-50)))


def worst_price(levels: Levels, qty: int) -> int | None:
    """Price of the level at which the cumulative quantity reaches ``qty``; None when the book is too thin."""
    total = 0
    for price, size in levels:
        total += size
        if total >= qty:
            return price
    return None


def best_size(
    asks: Levels,
    bids: Levels,
    fees: Fees,
    threshold: Fraction,
    buy: LegLimits,
    sell: LegLimits,
    *,
    buy_cap: float,
    sell_cap: float,
    scale: float,
) -> tuple[int, int, int, int] | None:
    """(buy qty, sell qty, buy limit, sell limit): the largest sale that satisfies everything, by trying them all."""
    best = None
    most = min(sum(size for _, size in bids), sum(size for _, size in asks))
    for sell_qty in range(sell.lot, most + 1, sell.lot):
        if fees.buy_base > 0:
            buy_qty = next(
                q for q in range(0, 3 * most + 3 * buy.lot, buy.lot) if delivered(q, fees.buy_base) >= sell_qty
            )
        else:
            buy_qty = sell_qty
            if buy_qty % buy.lot:
                continue
        ask, bid = worst_price(asks, buy_qty), worst_price(bids, sell_qty)
        if not clears(bid, ask, fees, threshold):
            continue
        assert ask is not None and bid is not None
        cost = float(ask) * (scale * (1 + fees.buy_quote / 1e6))
        if buy_qty > min(quantity_for(buy_cap, cost), buy.max_qty):
            continue
        if sell_qty > min(quantity_for(sell_cap, float(bids[0][0]) * scale), sell.max_qty):
            continue
        best = (buy_qty, sell_qty, ask, bid)
    if best is None:
        return None
    for qty, price, limits in ((best[0], asks[0][0], buy), (best[1], best[3], sell)):
        if qty < limits.min_qty or qty * price < limits.min_notional * limits.qty_unit:
            return None
    return best


def walked(levels: Levels, qty: int) -> int:
    """Sum of price x quantity of the first ``qty`` units."""
    value = 0
    for price, size in levels:
        value += price * min(qty, size)
        qty -= min(qty, size)
    return value


def net_worth_usd(
    asks: Levels,
    bids: Levels,
    fees: Fees,
    size: tuple[int, int, int, int],
    *,
    scale: Fraction,
    price: Fraction,
    usd: Fraction,
) -> Fraction:
    """USD that a sized trade is expected to earn: what the sale brings, base that is over at the sell limit, less what
    the purchase costs and less the price of the inventory that it moves. ``usd``: of one unit of the quote."""
    buy_qty, sell_qty, _, sell_limit = size
    cost = walked(asks, buy_qty) * Fraction(PPM + fees.buy_quote, PPM)
    over = buy_qty * Fraction(PPM - fees.buy_base, PPM) - sell_qty
    proceeds = (walked(bids, sell_qty) + over * sell_limit) * Fraction(PPM - fees.sell, PPM)
    return (proceeds - cost * (1 + price)) * scale * usd


def cycle_edge(legs: list[tuple[int, Fraction, Fees]]) -> Fraction:
    """Gain of a cycle: legs of (side, real price, fees); a sell earns the bid, a buy divides by the ask."""
    amount = Fraction(1)
    for side, price, fees in legs:
        if side < 0:
            amount *= price * Fraction(PPM - fees.sell, PPM)
        else:
            amount *= Fraction(PPM - fees.buy_base, PPM) / (price * Fraction(PPM + fees.buy_quote, PPM))
    return amount - 1


@dataclass(frozen=True)
class CycleLeg:
    """A leg of a cycle in real numbers: side, levels (price, quantity) best first, lot, quantity, fees."""

    side: int
    levels: list[tuple[Fraction, Fraction]]
    lot: Fraction
    qty: Fraction
    fees: Fees

    def flows(self, qty: Fraction) -> tuple[Fraction, Fraction]:
        """(what it takes of the asset before it, what it brings of the asset behind it), level by level."""
        left, value = qty, Fraction(0)
        for price, size in self.levels:
            take = min(left, size)
            value, left = value + take * price, left - take
        assert left == 0, "more than the book holds"
        if self.side > 0:
            return value * (1 + Fraction(self.fees.buy_quote, PPM)), qty * (1 - Fraction(self.fees.buy_base, PPM))
        return qty, value * (1 - Fraction(self.fees.sell, PPM))


def cycle_balance(legs: list[CycleLeg]) -> tuple[Fraction, list[Fraction], list[Fraction]]:
    """(gain in the start asset, what is left over behind each leg but the last, what would be left over with one lot
    less of that leg)."""
    flows = [leg.flows(leg.qty) for leg in legs]
    over = [flows[k][1] - flows[k + 1][0] for k in range(len(legs) - 1)]
    fewer = [legs[k].flows(legs[k].qty - legs[k].lot)[1] - flows[k + 1][0] for k in range(len(legs) - 1)]
    return flows[-1][1] - flows[0][0], over, fewer


@dataclass
class Member:
    """One instrument of the episode twin: its fees as buyer and as seller, its kind, its newest best prices."""

    buy_base: int
    buy_quote: int
    sell: int
    is_spot: bool
    bid: int | None = None
    ask: int | None = None


@dataclass
class EpisodeTwin:
    """Episodes of one pair by the book: which (buy, sell) are open, in the order of their beginning."""

    members: list[Member]
    threshold: Fraction = Fraction(0)
    open: set[tuple[int, int]] = field(default_factory=set)
    begun: list[tuple[int, int]] = field(default_factory=list)
    ended: int = 0

    def update(self, member: int, bid: int | None, ask: int | None) -> list[tuple[int, int]]:
        """A new best of one member; the directions that begin an episode with it."""
        self.members[member].bid, self.members[member].ask = bid, ask
        fresh = []
        for buy in range(len(self.members)):
            for sell in range(len(self.members)):
                if buy == sell or member not in (buy, sell):
                    continue
                b, s = self.members[buy], self.members[sell]
                if not (b.is_spot or s.is_spot):
                    continue
                up = clears(s.bid, b.ask, Fees(s.sell, b.buy_base, b.buy_quote), self.threshold)
                if up and (buy, sell) not in self.open:
                    self.open.add((buy, sell))
                    fresh.append((buy, sell))
                elif not up and (buy, sell) in self.open:
                    self.open.remove((buy, sell))
                    self.ended += 1
        self.begun += fresh
        return fresh


# --- the replay twin: line captures of one exchange, read with a general JSON decoder into Decimal books ---


class _Depth(msgspec.Struct):
    e: str = ""
    s: str = ""
    U: int = 0
    u: int = 0
    pu: int | None = None
    b: list[tuple[str, str]] = []
    a: list[tuple[str, str]] = []


class _Line(msgspec.Struct):
    stream: str = ""
    data: _Depth = msgspec.field(default_factory=lambda: _Depth())


class _Snapshot(msgspec.Struct):
    lastUpdateId: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


@dataclass
class DecimalBook:
    """A whole book of Decimals; best prices by heaps with late deletion."""

    last: int | None = None
    first_seen: bool = False
    waiting: list[_Depth] = field(default_factory=list)
    sides: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = field(default_factory=lambda: ({}, {}))
    heaps: tuple[list[Decimal], list[Decimal]] = field(default_factory=lambda: ([], []))

    def put(self, side: int, levels: list[tuple[str, str]]) -> None:
        sign = -1 if side == 0 else 1
        for price_text, qty_text in levels:
            price, qty = Decimal(price_text), Decimal(qty_text)
            if qty == 0:
                self.sides[side].pop(price, None)
            else:
                if price not in self.sides[side]:
                    heapq.heappush(self.heaps[side], sign * price)
                self.sides[side][price] = qty

    def best(self, side: int) -> Decimal | None:
        sign = -1 if side == 0 else 1
        heap = self.heaps[side]
        while heap and sign * heap[0] not in self.sides[side]:
            heapq.heappop(heap)
        return sign * heap[0] if heap else None

    def snapshot(self, snapshot: _Snapshot, futures: bool) -> bool:
        """Loads it and what was buffered; False = it is too old for the buffered updates."""
        self.put(0, snapshot.bids)
        self.put(1, snapshot.asks)
        self.last = snapshot.lastUpdateId
        for depth in self.waiting:
            self.update(depth, futures)
        self.waiting.clear()
        return True

    def update(self, depth: _Depth, futures: bool) -> bool:
        """Whether it was applied."""
        assert self.last is not None
        if not self.first_seen:
            if depth.u < self.last or (not futures and depth.u <= self.last):
                return False
            assert self.last + 1 >= depth.U, f"hole after the snapshot: {depth.U} after {self.last}"
            self.first_seen = True
        elif futures:
            assert depth.pu == self.last, f"gap: pu {depth.pu} after {self.last}"
        else:
            assert self.last + 1 == depth.U, f"gap: U {depth.U} after {self.last}"
        self.put(0, depth.b)
        self.put(1, depth.a)
        self.last = depth.u
        return True


def capture_events(path: Path, futures: bool) -> list[tuple[int, Decimal | None, Decimal | None, int]]:
    """(receive ns, best bid, best ask, update id) after every message that changed the book of a one-symbol capture."""
    import gzip

    book = DecimalBook()
    events = []
    decode = msgspec.json.Decoder(_Line).decode
    with gzip.open(path, "rb") as handle:
        for line in handle:
            stamp, _, payload = line.partition(b" ")
            changed = False
            if b'"lastUpdateId"' in payload:
                if book.last is None:
                    changed = book.snapshot(msgspec.json.decode(payload, type=_Snapshot), futures)
            elif b'"depthUpdate"' in payload:
                depth = decode(payload).data
                if book.last is None:
                    book.waiting.append(depth)
                else:
                    changed = book.update(depth, futures)
            if changed:
                assert book.last is not None
                events.append((int(stamp), book.best(0), book.best(1), book.last))
    return events


@dataclass(frozen=True)
class FoundEpisode:
    """First event of an episode: time, then (venue, symbol, update id, price) of what is bought and of what is sold."""

    t_ns: int
    buy: tuple[str, str, int, Decimal]
    sell: tuple[str, str, int, Decimal]
    edge_bps: Fraction


def replay_twin(
    captures: list[tuple[str, str, Path, Fees]], threshold_bps: Fraction = Fraction(0)
) -> list[FoundEpisode]:
    """Episodes over captures of (venue, symbol, file, fees of the instrument as buyer and seller), by Decimal books."""
    streams = [
        [(event[0], place, event) for event in capture_events(path, venue.endswith("futures"))]
        for place, (venue, _, path, _) in enumerate(captures)
    ]
    newest: dict[int, tuple[int, Decimal | None, Decimal | None, int]] = {}
    open_now: set[tuple[int, int]] = set()
    found = []
    for t_ns, place, event in heapq.merge(*streams, key=lambda item: item[:2]):
        newest[place] = event
        pairs = [(a, b) for other in range(len(captures)) for a, b in ((place, other), (other, place))]
        for buy, sell in pairs:
            venues = (captures[buy][0], captures[sell][0])
            if buy == sell or captures[buy][1] != captures[sell][1] or venues[0] == venues[1]:
                continue
            bid = newest[sell][1] if sell in newest else None
            ask = newest[buy][2] if buy in newest else None
            fees = Fees(captures[sell][3].sell, captures[buy][3].buy_base, captures[buy][3].buy_quote)
            gain = None
            if bid is not None and ask is not None:
                bought = Fraction(PPM - fees.buy_base, PPM) / Fraction(PPM + fees.buy_quote, PPM)
                gain = (Fraction(bid) * Fraction(PPM - fees.sell, PPM) * bought / Fraction(ask) - 1) * 10_000
            if gain is None or gain <= threshold_bps:
                open_now.discard((buy, sell))
            elif (buy, sell) not in open_now:
                open_now.add((buy, sell))
                assert bid is not None and ask is not None
                legs = [
                    (captures[leg][0], captures[leg][1], newest[leg][3], price)
                    for leg, price in ((buy, ask), (sell, bid))
                ]
                found.append(FoundEpisode(t_ns, legs[0], legs[1], gain))
    return found


def hedge_leaves(futures: int, spot: int, milli_bps: int, s: int) -> bool:
    """Whether the basis of leaving is at or below the threshold, by rational numbers."""
    return Fraction(s * (futures - spot), spot) * 10_000 <= Fraction(milli_bps, 1000)


@dataclass
class ExitTwin:
    """Which exits of open hedges an update of one book offers, by the book: every pair of best prices is compared.

    ``exits``: (bought, sold, milli-bps, s) of leaving. An offered exit cools down until ``cooldown_ns`` have passed.
    """

    exits: list[tuple[int, int, int, int]]
    cooldown_ns: int
    tops: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)  # instrument -> (bid, ask)
    cooldowns: dict[tuple[int, int], int] = field(default_factory=dict)

    def update(self, instrument: int, bid: int | None, ask: int | None, now_ns: int) -> list[tuple[int, int]]:
        """A new best of one book; the (bought, sold) that are offered."""
        self.tops[instrument] = (bid, ask)
        offered = []
        for buy, sell, milli_bps, s in self.exits:
            paid, got = self.tops.get(buy, (None, None))[1], self.tops.get(sell, (None, None))[0]
            if (
                instrument not in (buy, sell)
                or paid is None
                or got is None
                or now_ns < self.cooldowns.get((buy, sell), 0)
            ):
                continue
            futures, spot = (paid, got) if s > 0 else (got, paid)
            if hedge_leaves(futures, spot, milli_bps, s):
                self.cooldowns[buy, sell] = now_ns + self.cooldown_ns
                offered.append((buy, sell))
        return offered
