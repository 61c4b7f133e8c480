"""The price of inventory per spot-spot direction: one integer that detector, gate and fast path judge with.

A pair of venues that trade one spot pair has a forward direction (buy at the first, sell at the second) and a backward
one. How much can still go each way follows from the cash at one venue and the coins at the other; the line of
:mod:`pipeline.economics.inventory_price` makes a price of it, which the forward direction pays and the backward one is
paid. Its height is learned from the edges of the opportunities that reached the executor, taken or not.

A return spends orders that another hit may need: it is paid less by the price of the order budget, which is learned
from the hits that the budget refused.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.economics.inventory_price import (
    HEIGHT_MIN_BPS,
    BudgetPrice,
    EdgeHeight,
    heights,
    hours_to_empty,
    lots_to_send,
    price_bps,
    transfer_worth,
    with_budget,
)
from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import Entered, Opportunity, Tick
from pipeline.execution.market import mid_price, tradable
from pipeline.model.enums import InstrumentKind, OpportunityType, OrderSide, Refusal
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import Balance, Fill, InstrumentSpec
from pipeline.model.units import NS_PER_HOUR
from shm.layout_pages import CATALOGUE_CAPACITY, PRICE_CAPACITY

MBPS = 1000  # milli-bps per bps
PAIRS_PER_REFRESH = 8
SAMPLE_NS = 60_000_000_000
SAMPLES = 60  # of the fill level: the flow of the last hour
NEWEST_NS = 5_000_000_000  # the newest sample is no older, where there are events
#: Before the first minute is over a flow counts only if it runs one way: so many fills, and so much of them net.
EARLY_FILLS, EARLY_NET = 16, 0.8
BUDGET_REFUSALS = frozenset({Refusal.ORDER_RATE, Refusal.IN_FLIGHT_LIMIT})


@dataclass(slots=True)
class Lane:
    """Two spot listings of one pair, and how full both ends are. Amounts in the pair's quote coin.

    ``x``: what was moved forward net, from the middle; between -k and k. ``flow``: (monotonic ns, x), oldest first.
    ``fills``: of our orders on both listings, ``net``: the value that they moved forward, ``gross``: both ways.
    """

    first: InstrumentRow
    second: InstrumentRow
    x: float = 0.0
    k: float = 0.0
    mid: float = 0.0
    cash: tuple[float, float] = (0.0, 0.0)
    coins: tuple[float, float] = (0.0, 0.0)  # at mid
    price_mbps: tuple[int, int] = (0, 0)  # forward, back
    forward: EdgeHeight = field(default_factory=EdgeHeight)
    backward: EdgeHeight = field(default_factory=EdgeHeight)
    line: tuple[float, float] = (HEIGHT_MIN_BPS, HEIGHT_MIN_BPS)  # its heights, of both
    alarmed: bool = False
    flow: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    fills: int = 0
    net: float = 0.0
    gross: float = 0.0

    @property
    def keys(self) -> tuple[int, int]:
        """Direction keys, forward and back."""
        ids = self.first.instrument_id, self.second.instrument_id
        return direction_key(*ids), direction_key(ids[1], ids[0])

    @property
    def to_send(self) -> float:
        """Coins' worth to send from the first to the second venue, so that inventory stands where the price is zero;
        negative: the other way."""
        return lots_to_send(self.x, self.k, *self.line) if self.k else 0.0

    @property
    def worth(self) -> float:
        """What sending them earns, in quote."""
        if not self.k:
            return 0.0
        return transfer_worth(self.x, self.k, *self.line, 1.0)

    def note_fill(self, fill: Fill) -> None:
        """One of our orders on either listing has filled."""
        value = float(fill.qty * fill.price)
        forward = (fill.venue == self.first.spec.venue) == (fill.side is OrderSide.BUY)
        self.fills += 1
        self.net += value if forward else -value
        self.gross += value

    def sample(self, now_ns: int) -> bool:
        """Keeps the level for the flow: one a minute, and the newest of some seconds ago. False: it is too early."""
        if self.flow and now_ns - self.flow[-1][0] < NEWEST_NS:
            return False
        if len(self.flow) > 1 and self.flow[-1][0] - self.flow[-2][0] < SAMPLE_NS:
            self.flow.pop()  # it was the newest until now
        self.flow.append((now_ns, self.x))
        return True

    def per_hour(self) -> float:
        """Net forward flow of the last hour; 0 where less than a minute was seen, unless it all runs one way."""
        if len(self.flow) < 2:
            return 0.0
        (then_ns, before), (now_ns, after) = self.flow[0], self.flow[-1]
        one_way = self.fills >= EARLY_FILLS and abs(self.net) >= EARLY_NET * self.gross
        if now_ns - then_ns < SAMPLE_NS and not one_way:
            return 0.0
        return (after - before) / ((now_ns - then_ns) / NS_PER_HOUR)

    def flow_ends(self) -> tuple[InstrumentSpec, InstrumentSpec]:
        """Where the flow buys and where it sells."""
        return (self.first.spec, self.second.spec) if self.per_hour() > 0 else (self.second.spec, self.first.spec)

    def hours_to_empty(self) -> float:
        """Until the direction that the flow runs in can trade no more; infinite without a flow."""
        return hours_to_empty(self.x, self.k, self.per_hour())


class EntryLeg(Protocol):
    """A leg of an opportunity or of an operation's plan."""

    @property
    def instrument_id(self) -> int: ...

    @property
    def side(self) -> int: ...


def direction_key(buy: int, sell: int) -> int:
    """Of two instrument ids, as the detector's records have it."""
    return buy * CATALOGUE_CAPACITY + sell


class InventoryPrices:
    """Prices of all directions; all 0 where ``detection.inventory_price`` is off. What moved is priced after each
    event, the rest in turn with each tick."""

    def __init__(self, context: CoreContext, balances: BalanceMonitor) -> None:
        self._context = context
        self._balances = balances
        self._enabled = context.config.detection.inventory_price
        self._trades = "spot_spot" in context.config.detection.types  # else what hedges move is no flow of a lane
        self._lanes: dict[int, Lane] = {}  # by the forward direction's key, in the order of the page
        self._by_place: dict[tuple[str, str], list[int]] = {}  # (venue, symbol) and (venue, coin) -> keys
        self._due: deque[int] = deque()
        self._moved: set[int] = set()  # keys of pairs whose balances just changed
        self.prices: dict[int, int] = {}  # milli-bps by direction key, of both directions
        self._known = -1
        self._budget = BudgetPrice()
        self._no_room = False  # for the opportunity that is being handled
        self.changed = False  # a price that the page does not have yet

    @property
    def lanes(self) -> Iterator[Lane]:
        """The pairs that have prices, in the order of the page's rows."""
        return iter(self._lanes.values())

    def rows_changed(self) -> None:
        """New listings make new pairs; known pairs keep what they learned, and their place on the page."""
        by_pair: dict[int, list[InstrumentRow]] = {}
        for row in self._context.instruments:
            if row.spec.kind is InstrumentKind.SPOT and row.tradable_pair:
                by_pair.setdefault(row.pair_id, []).append(row)
        for rows in by_pair.values():
            for number, first in enumerate(rows):
                for second in rows[number + 1 :]:
                    key = direction_key(first.instrument_id, second.instrument_id)
                    lane = self._lanes.get(key)
                    if lane is not None:
                        lane.first, lane.second = first, second
                    elif first.spec.venue != second.spec.venue and 2 * len(self._lanes) < PRICE_CAPACITY:
                        lane = self._lanes[key] = Lane(first, second)
                        self.prices.update(zip(lane.keys, lane.price_mbps, strict=True))
                        for spec in (first.spec, second.spec):
                            for name in (spec.symbol, spec.base):
                                self._by_place.setdefault((spec.venue, name), []).append(key)
        self._known = len(self._context.instruments)

    # --- what happens ---

    def after(self, event: object) -> None:
        """What an event that the core has handled means for prices."""
        if isinstance(event, Tick):
            self.refresh()
        elif isinstance(event, Balance):
            self.note_moved(event.venue, event.asset)
        elif isinstance(event, Fill):
            self.note_moved(event.venue, event.symbol)
            for key in self._by_place.get((event.venue, event.symbol), ()):
                self._lanes[key].note_fill(event)
        elif isinstance(event, Opportunity) and self._is_hit(event):
            self.note_opportunity(event.legs, event.edge_bps)
            self._budget.add(event.edge_bps, lost=self._no_room)
        elif isinstance(event, Entered):
            self.note_opportunity(event.operation.legs, event.operation.edge_detect_bps)
            self._budget.add(event.operation.edge_detect_bps, lost=False)
        self._no_room = False
        self.price_moved()

    def _is_hit(self, offered: Opportunity) -> bool:
        """Whether the detector found an entry; an exit of a hedge is no choice between entries."""
        own = offered.crc_ok and not offered.manual and offered.type != OpportunityType.HEDGE_EXIT
        return own and math.isfinite(offered.edge_bps)

    def note_refusal(self, refusal: Refusal) -> None:
        """The opportunity that is being handled was refused."""
        self._no_room = refusal in BUDGET_REFUSALS

    def note_opportunity(self, legs: Sequence[EntryLeg], edge_bps: float) -> None:
        """An opportunity that reached the executor, with its edge after fees, taken or not."""
        if len(legs) == 2 and {legs[0].side, legs[1].side} == {1, -1}:
            buy, sell = legs if legs[0].side > 0 else (legs[1], legs[0])
            self.note_hit(buy.instrument_id, sell.instrument_id, edge_bps)

    def note_hit(self, buy: int, sell: int, edge_bps: float) -> None:
        """The same by instrument ids."""
        forward = self._lanes.get(direction_key(buy, sell))
        lane = forward or self._lanes.get(direction_key(sell, buy))
        if lane is not None:
            (lane.backward if forward is None else lane.forward).add(edge_bps)
            lane.line = heights(lane.forward, lane.backward)

    def note_moved(self, venue: str, name: str) -> None:
        """A fill of a symbol, or a balance of a coin: its prices are computed after this event."""
        self._moved.update(self._by_place.get((venue, name), ()))

    # --- prices ---

    def refresh(self) -> None:
        """The prices of pairs that moved, and of some others in turn."""
        if len(self._context.instruments) != self._known:
            self.rows_changed()
        if not self._due:
            self._due.extend(self._lanes)
        for _ in range(min(PAIRS_PER_REFRESH, len(self._due))):
            self._moved.add(self._due.popleft())
        self.price_moved()

    def price_moved(self) -> None:
        """The prices of pairs whose balances moved."""
        while self._moved:
            self._price(self._lanes[self._moved.pop()])

    def _price(self, lane: Lane) -> None:
        now_ns, mid = self._context.now.mono_ns, self._mid(lane)
        if mid is None:
            return
        first, second, usable = lane.first.spec, lane.second.spec, self._balances.usable
        cash = float(usable(first.venue, first.quote)), float(usable(second.venue, second.quote))
        coins = float(usable(first.venue, first.base)) * mid, float(usable(second.venue, second.base)) * mid
        onward, back = min(cash[0], coins[1]), min(cash[1], coins[0])
        lane.cash, lane.coins = cash, coins
        lane.k, lane.x, lane.mid = (onward + back) / 2, (back - onward) / 2, mid
        priced = self._enabled and lane.k > 0
        price = price_bps(lane.x, lane.k, *lane.line) if priced else 0.0
        forward, back = (round(with_budget(way, self._budget.bps) * MBPS) for way in (price, -price))
        if (forward, back) != lane.price_mbps:
            lane.price_mbps, self.changed = (forward, back), True
            self.prices.update(zip(lane.keys, lane.price_mbps, strict=True))
        if lane.sample(now_ns) and self._trades:
            self._watch(lane)

    def _watch(self, lane: Lane) -> None:
        """One alert when a direction will be empty before a transfer could bring coins back and forth; it stands until
        there is twice that time."""
        hours, bound = lane.hours_to_empty(), 2 * self.transfer_minutes(lane.first.spec.base) / 60
        if hours >= bound * (1 + lane.alarmed):
            lane.alarmed = False
        elif not lane.alarmed:
            lane.alarmed = True
            buy, sell = lane.flow_ends()
            self._context.alert(
                1,
                "inventory_empty_soon",
                f"{buy.pair}: buying at {buy.venue} and selling at {sell.venue} is out of inventory in "
                f"{hours * 60:.0f} minutes",
            )

    def running_out(self) -> list[str]:
        """Directions that will be empty before a transfer could bring coins back and forth, in words that stay."""
        ends = (lane.flow_ends() for lane in self._lanes.values() if lane.alarmed)
        what = "is soon out of inventory"
        return [f"{buy.pair}: buying at {buy.venue} and selling at {sell.venue} {what}" for buy, sell in ends]

    def transfer_minutes(self, coin: str) -> int:
        """How long a transfer of the coin lasts."""
        inventory = self._context.config.inventory
        transfer = inventory.transfers.get(coin)
        return inventory.transfer_minutes if transfer is None else transfer.minutes

    def _mid(self, lane: Lane) -> float | None:
        """Quote per coin: of the first of both listings whose book may be traded on."""
        for row in (lane.first, lane.second):
            view = self._context.market.book(row.instrument_id)
            mid = mid_price(view, row) if view is not None and tradable(view, row) else None
            if mid is not None:
                return float(mid)
        return None

    def price_bps(self, buy: int, sell: int) -> float:
        """What a trade of this direction (instrument ids) needs beyond the execution edge; 0 where nothing is known."""
        return self.prices.get(direction_key(buy, sell), 0) / MBPS

    def published(self) -> Iterator[tuple[int, int]]:
        """(key, milli-bps) of every direction, always in the same order."""
        return (way for lane in self._lanes.values() for way in zip(lane.keys, lane.price_mbps, strict=True))
