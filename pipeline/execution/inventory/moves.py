"""Which coins and which cash would go where, over all pairs of venues at once.

Each lane (:mod:`pipeline.execution.inventory.prices`) says what its two venues would exchange so that inventory has no
price between them. Of n venues that trade one pair each venue is an end of n - 1 lanes: the stocks that fit all of them
best (least squares) move by 2/n of the sum of what its lanes ask of it; of two venues that is what the lane asks. An
asset of several pairs (cash above all) is asked for by each of them although one stock serves them all: the most that
one asks for counts, each way. What is sent and what is wanted is then matched, so that no venue sends and receives the
same asset, and none sends more than it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from pipeline.execution.inventory.prices import Lane
from pipeline.model.fixedpoint import quantize_down
from pipeline.model.structs import ZERO, InstrumentSpec

CASH_STEP = Decimal("0.01")
Key = tuple[str, str]  # venue and asset


@dataclass(frozen=True, slots=True)
class Wish:
    """What one lane asks for: ``qty`` of an asset from ``source`` to ``to``, of which ``part`` is to be moved."""

    lane: Lane
    asset: str
    source: InstrumentSpec
    to: InstrumentSpec
    qty: float
    price: float  # quote of the lane's pair per unit of the asset
    part: float

    @property
    def step(self) -> Decimal:
        return self.source.lot if self.asset == self.source.base else CASH_STEP


@dataclass(frozen=True, slots=True)
class Move:
    """One transfer. ``serves``: the lanes that ask for it, with the part of what they ask for that it brings.
    ``price``: quote coins of their pairs per unit."""

    asset: str
    source: str
    to: str
    qty: Decimal
    price: float
    serves: tuple[tuple[Lane, float], ...]

    @property
    def worth(self) -> Decimal:
        """What it earns together with the other transfers of its lanes, in their quote: the area under their lines."""
        area = sum(lane.worth * (1 - (1 - part) ** 2) for lane, part in self.serves)
        return Decimal(repr(round(area, 8)))


def net_moves(lanes: Iterable[Lane]) -> list[Move]:
    """Every transfer that is wanted, whatever it costs."""
    by_asset: dict[str, list[Wish]] = {}
    for wish in _wishes(lanes):
        by_asset.setdefault(wish.asset, []).append(wish)
    return [move for wishes in by_asset.values() for move in _matched(wishes)]


def _wishes(lanes: Iterable[Lane]) -> list[Wish]:
    by_pair: dict[int, list[Lane]] = {}
    for lane in lanes:
        if lane.k > 0:
            by_pair.setdefault(lane.first.pair_id, []).append(lane)
    found: list[Wish] = []
    for group in by_pair.values():
        venues = {spec.venue for lane in group for spec in (lane.first.spec, lane.second.spec)}
        found += (wish for lane in group for wish in _of_lane(lane, 2 / len(venues)))
    return found


def _of_lane(lane: Lane, part: float) -> list[Wish]:
    """Coins to the venue that sells too fast, and cash to the one that buys there, so far as each of them lacks it."""
    first, second, (cash_1, cash_2), (coins_1, coins_2) = lane.first.spec, lane.second.spec, lane.cash, lane.coins
    neutral = lane.x - lane.to_send
    if lane.to_send > 0:
        wanted = lane.k - neutral
        wishes = [
            (first.base, first, second, min(wanted - coins_2, coins_1), lane.mid),
            (first.quote, second, first, min(wanted - cash_1, cash_2), 1.0),
        ]
    else:
        wanted = lane.k + neutral
        wishes = [
            (first.base, second, first, min(wanted - coins_1, coins_2), lane.mid),
            (first.quote, first, second, min(wanted - cash_2, cash_1), 1.0),
        ]
    return [
        Wish(lane, asset, source, to, value / price, price, part)
        for asset, source, to, value, price in wishes
        if value > 0
    ]


def _stock(wish: Wish) -> float:
    """What the source of a wish has of its asset."""
    end = 0 if wish.source.venue == wish.lane.first.spec.venue else 1
    return wish.lane.coins[end] / wish.lane.mid if wish.asset == wish.source.base else wish.lane.cash[end]


def _matched(wishes: list[Wish]) -> list[Move]:
    """The transfers of one asset, the largest first."""
    by_pair: dict[int, dict[str, float]] = {}  # pair -> venue -> what it is to gain
    for wish in wishes:
        gains = by_pair.setdefault(wish.lane.first.pair_id, {})
        for venue, qty in ((wish.source.venue, -wish.qty), (wish.to.venue, wish.qty)):
            gains[venue] = gains.get(venue, 0.0) + qty * wish.part
    net = {
        venue: max(0.0, *(gains.get(venue, 0.0) for gains in by_pair.values()))
        + min(0.0, *(gains.get(venue, 0.0) for gains in by_pair.values()))
        for venue in dict.fromkeys(venue for gains in by_pair.values() for venue in gains)
    }
    stocks = {wish.source.venue: _stock(wish) for wish in wishes}
    give = {venue: min(-qty, stocks[venue]) for venue, qty in net.items() if qty < 0 and venue in stocks}
    want = {venue: qty for venue, qty in net.items() if qty > 0}
    least = min(
        sum(give.values()), sum(want.values())
    )  # where one side is less, all of the other get their share of it
    give, want = (_scaled(amounts, least) for amounts in (give, want))
    moves: list[Move] = []
    while give and want:
        source, to = (max(amounts, key=amounts.__getitem__) for amounts in (give, want))
        qty = min(give[source], want[to])
        for amounts, venue in ((give, source), (want, to)):
            amounts[venue] -= qty
            if amounts[venue] <= 0:
                del amounts[venue]
        move = _move(wishes, source, to, qty)
        if move.qty > ZERO:
            moves.append(move)
    return moves


def _scaled(amounts: dict[str, float], total: float) -> dict[str, float]:
    own = sum(amounts.values())
    return {venue: amount * total / own for venue, amount in amounts.items()} if own > total else amounts


def _move(wishes: list[Wish], source: str, to: str, qty: float) -> Move:
    """A transfer with the lanes that it serves: those between its two ends, else all that ask for it at ``to``."""
    at_end = [wish for wish in wishes if wish.to.venue == to] or wishes
    served = [wish for wish in at_end if wish.source.venue == source] or at_end
    lead = max(served, key=lambda wish: wish.lane.worth)
    alike = [wish for wish in served if wish.lane.first.spec.quote == lead.lane.first.spec.quote]
    serves = tuple((wish.lane, min(1.0, qty / (wish.qty * wish.part))) for wish in alike)
    return Move(lead.asset, source, to, quantize_down(Decimal(repr(qty)), lead.step), lead.price, serves)
