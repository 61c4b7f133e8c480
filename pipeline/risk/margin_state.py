"""Margin of our futures positions as the venues report it, checked by our own formula; what it says of new entries.

A position's distance is how far its mark price may move before it is liquidated, as a fraction of the mark. The nearer
of the venue's and our own liquidation price counts. Prices and money in quote, quantities in base coins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from pipeline.economics.margin import Tier, disagree, distance, distance_of, liquidation_price, maintenance_rate
from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import FetchRiskTiers, RiskTiersAnswer
from pipeline.execution.ledger import Operation
from pipeline.execution.market import BPS, PPM
from pipeline.execution.plan import Plan, PlannedLeg, Rejected
from pipeline.model.enums import InstrumentKind, OrderSide, Refusal
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO, Position
from pipeline.risk.position_rows import Key, PositionRows

ONE = Decimal(1)
INFINITY = Decimal("Infinity")
MAINTENANCE_ASSUMED = Decimal("0.01")  # of a contract whose tiers are not known and whose row is not read
RATE_STEP = Decimal("0.000002")  # rates that differ by less are equal: readings come in whole ppm
TIERS_RETRY_NS = 60_000_000_000
TIERS_AGAIN_NS = 3_600_000_000_000
STEP = Decimal("0.0001")  # quote; smaller amounts of margin are not moved
REFUSED_NS = 10_000_000_000  # after margin was refused, none is counted on for so long


@dataclass(frozen=True, slots=True)
class MarginReading:
    """One position at its last account reading. ``side``: +1 long, -1 short; ``required``: maintenance margin and taker
    fee, as a fraction of the notional at mark."""

    position: Position
    side: int
    required: Decimal
    own_liquidation: Decimal | None
    distance: Decimal

    @property
    def value(self) -> Decimal:
        """Notional at mark."""
        return abs(self.position.qty) * self.position.mark_price

    @property
    def equity(self) -> Decimal:
        """Margin and unrealised profit at mark."""
        gained = self.position.qty * (self.position.mark_price - self.position.entry_price)
        return self.position.margin + gained

    def shortfall(self, target: Decimal) -> Decimal:
        """Margin to add so that the distance becomes ``target``; 0 where it is that large."""
        return max(ZERO, self.value * ratio_for(target, self.side, self.required) - self.equity)


def ratio_for(target: Decimal, side: int, required: Decimal) -> Decimal:
    """Equity over notional at which the distance is ``target`` (the inverse of ``economics.margin.distance_of``)."""
    return target * (ONE - side * required) + required


class MarginState:
    """Keeps the positions of the last account readings and judges by them. One per core."""

    def __init__(self, context: CoreContext, balances: BalanceMonitor) -> None:
        self._context = context
        self._balances = balances
        self.rows = PositionRows(context, balances)
        self.readings: dict[Key, MarginReading] = {}
        self.marks: dict[Key, Decimal] = {}  # mark price of each contract that we hold, as its venue reported it
        self._exact_only: frozenset[Key] | None = None
        self._tiers: dict[Key, tuple[Tier, ...]] = {}  # maintenance margin by notional, as the venue lists it
        self._tiers_wanted: dict[str, deque[str]] = {}  # venue -> contracts whose tiers are asked for next
        self._tiers_again_mono_ns: dict[str, int] = {}  # venue -> when all of them are asked for again
        self._tiers_failed: dict[Key, int] = {}  # contracts whose question failed -> when it is asked again
        self.refused_mono_ns: dict[Key, int] = {}  # when the venue last took no margin; until it takes some again
        self.unheard: dict[Key, int] = {}  # added margins in a row of which nobody has said whether they were taken
        self.doubted: dict[Key, str] = {}  # contracts whose liquidation price we and the venue compute differently

    # --- readings ---

    def update(self, positions: Iterable[Position], venues: Mapping[str, int], unreadable: Iterable[Key] = ()) -> None:
        """Complete position lists of ``venues`` (-> when, mono ns), by REST; contracts that they leave out are flat,
        but for the ``unreadable`` ones, of which the last reading stays. A row without a mark is no reading: what the
        position is by our own book says :meth:`estimate`."""
        positions, held = tuple(positions), set(unreadable)
        self.rows.take(positions, venues, held)
        fresh = set(venues)
        held |= {(row.venue, row.symbol) for row in positions if row.qty and not row.mark_price}
        self._exact_only = None
        self.readings = {key: read for key, read in self.readings.items() if key[0] not in fresh or key in held}
        self.marks = {key: mark for key, mark in self.marks.items() if key[0] not in fresh or key in held}
        for position in positions:
            key = (position.venue, position.symbol)
            row = self._context.instruments.find(*key)
            if position.venue not in fresh or not position.qty or not position.mark_price or row is None:
                continue
            self.marks[key] = position.mark_price
            if position.margin <= 0 and not position.liquidation_price:
                continue  # this venue reports no margin (paper accounts): nothing to watch
            held.add(key)
            self.readings[key] = self._read(position, row)
            self._compare(key)
        for rows in (self.doubted, self.refused_mono_ns, self.unheard):
            for key in [key for key in rows if key[0] in fresh and key not in held]:
                del rows[key]

    def estimate(self, key: Key) -> MarginReading | None:
        """The reading of a position that no row tells of by now (``rows.old()``), at the mid of our own book; None
        where it has gone, or no live book gives a mark: the last reading stays."""
        row, position = self._context.instruments.find(*key), self.rows.estimate(key)
        if row is None or position is None:
            if not self._context.ledger.expected_position(*key):
                self.readings.pop(key, None)
            return None
        self._exact_only = None
        self.marks[key] = position.mark_price
        self.readings[key] = self._read(position, row)
        return self.readings[key]

    def ask_tiers(self, venues: Iterable[str]) -> None:
        """Asks each of these futures venues for the tiers of its next contract: all of them once an hour, one that
        failed a minute later again."""
        now_ns = self._context.now.mono_ns
        for venue in venues:
            if now_ns >= self._tiers_again_mono_ns.get(venue, 0):
                symbols = self._tiers_wanted[venue] = deque(self._context.instruments.symbols_of(venue))
                self._tiers_again_mono_ns[venue] = now_ns + (TIERS_AGAIN_NS if symbols else TIERS_RETRY_NS)
                self._tiers_failed = {key: at for key, at in self._tiers_failed.items() if key[0] != venue}
            for key in [key for key, at in self._tiers_failed.items() if key[0] == venue and now_ns >= at]:
                del self._tiers_failed[key]
                self._tiers_wanted[venue].append(key[1])
            if self._tiers_wanted[venue]:
                self._context.act(FetchRiskTiers(venue, self._tiers_wanted[venue].popleft()))

    def on_tiers(self, answer: RiskTiersAnswer) -> None:
        """The next account reading counts with them."""
        if answer.error:
            self._tiers_failed[answer.venue, answer.symbol] = self._context.now.mono_ns + TIERS_RETRY_NS
            return
        self._tiers[answer.venue, answer.symbol] = answer.tiers
        self._exact_only = None

    def _tiers_of(self, position: Position, value: Decimal) -> tuple[Tier, ...]:
        """The venue's list, where the position stands in it as its value says. Else (no list; a risk limit that the
        user has set higher) the one tier that the position reports."""
        rate, kept = position.maintenance_rate or MAINTENANCE_ASSUMED, position.maintenance_margin
        tiers = self._tiers.get((position.venue, position.symbol), ())
        tier = next((tier for tier in tiers if value <= tier.cap), None)
        if tier is not None:
            average = tier.rate - tier.deduction / value  # what an account with tiered margin reports
            if min(abs(tier.rate - rate), abs(average - rate)) <= RATE_STEP:
                return tiers
        return (Tier(INFINITY, rate, ZERO if kept is None else max(ZERO, rate * value - kept)),)

    def _read(self, position: Position, row: InstrumentRow) -> MarginReading:
        side = 1 if position.qty > 0 else -1
        qty, mark, fee = abs(position.qty), position.mark_price, row.spec.taker_fee_ppm / PPM
        tiers = self._tiers_of(position, qty * mark)
        required = maintenance_rate(qty, mark, tiers, fee)
        own: Decimal | None = None
        nearest = INFINITY
        if position.margin > 0:
            own = liquidation_price(side, qty, position.entry_price, position.margin, tiers, fee)
            nearest = distance(side, mark, own)
        if position.liquidation_price:
            nearest = min(nearest, distance(side, mark, position.liquidation_price))
        return MarginReading(position, side, required, own, nearest)

    def _compare(self, key: Key) -> None:
        """Entries stop where our liquidation price and the venue's differ: a tier or a mode is misread."""
        reading = self.readings[key]
        reported, own = reading.position.liquidation_price, reading.own_liquidation
        if reported is None or reading.position.margin <= 0 or not disagree(own, reported or None):
            self.doubted.pop(key, None)
            return
        text = f"liquidation price {reported} by the venue, {own} by our formula: tier or margin mode is misread"
        if key not in self.doubted:
            self._context.alert(2, "margin", f"{key[0]} {key[1]}: {text}")
        self.doubted[key] = text

    # --- exits ---

    def below_trigger(self, venue: str, symbol: str) -> bool:
        """Whether a contract is so near to its liquidation that its margin comes before every choice."""
        reading = self.readings.get((venue, symbol))
        trigger = self._context.config.detection.hedge.margin.trigger_pct
        return reading is not None and reading.distance * 100 < trigger

    def short(self, venue: str, symbol: str) -> bool:
        """Whether some of a contract must be closed for its margin: below ``out_pct``, or below ``trigger_pct`` where
        free balance does not restore it. (At a high leverage every new position is below the trigger until the first
        reading adds to it: that is no danger.) Nothing is restored where the venue took no margin the last time, or
        did not say, until it takes some; nor where it sees the liquidation nearer than our formula does."""
        if not self.below_trigger(venue, symbol):
            return False
        key = (venue, symbol)
        reading, settings = self.readings[key], self._context.config.detection.hedge.margin
        if reading.distance * 100 < settings.out_pct or key in self.refused_mono_ns or key in self.unheard:
            return True
        shortfall = reading.shortfall(self.target)
        return not shortfall or shortfall - self.addable(key, reading) > STEP

    def addable(self, key: Key, reading: MarginReading) -> Decimal:
        """Free balance that can be added to a position's margin now, up to the target; none while its venue takes
        none."""
        row, refused_ns = self._context.instruments.find(*key), self.refused_mono_ns.get(key)
        if row is None or (refused_ns is not None and self._context.now.mono_ns - refused_ns < REFUSED_NS):
            return ZERO
        free = self.rows.free(key, reading.position, row.spec.quote)
        return min(reading.shortfall(self.target), free).quantize(STEP, ROUND_DOWN)

    def bound_bps(self, venue: str, symbol: str) -> Decimal:
        """How far from the best price an order may go that closes a contract whose margin is short: to where the
        contract would be liquidated, because any price before that is better than what the venue does there. 0 where
        it is not short."""
        return max(ZERO, self.readings[venue, symbol].distance * BPS) if self.short(venue, symbol) else ZERO

    def urgent_bps(self, operation: Operation) -> Decimal:
        """The same for the repairs of an operation; 0 for those that leave no hedge. Never 0 where it is short: beyond
        the price of liquidation, too, until its venue has acted."""
        for leg in operation.record.legs if operation.record.closes else ():
            if leg.kind is InstrumentKind.PERPETUAL and self.short(leg.venue, leg.symbol):
                return max(ONE, self.bound_bps(leg.venue, leg.symbol))
        return ZERO

    # --- entries ---

    @property
    def target(self) -> Decimal:
        """The distance that an entry must leave, as a fraction."""
        return self._context.config.detection.hedge.margin.target_pct / 100

    def shortfall(self, venue: str) -> Decimal:
        """Margin that the positions on a venue lack for the target distance."""
        target = self.target
        return sum((r.shortfall(target) for key, r in self.readings.items() if key[0] == venue), ZERO)

    def entry_refusal(self, plan: Plan) -> Rejected | None:
        """Refuses an entry that would leave less than the target distance, free balance of the venue counted."""
        for leg in plan.legs:
            if leg.row.spec.kind is InstrumentKind.PERPETUAL:
                refused = self._leg_refusal(leg, plan)
                if refused is not None:
                    return refused
        return None

    def _leg_refusal(self, leg: PlannedLeg, plan: Plan) -> Rejected | None:
        spec, side = leg.row.spec, int(leg.side)
        key = (spec.venue, spec.symbol)
        if key in self.doubted:
            return Rejected(Refusal.MARGIN_LIMIT, f"{spec.venue} {spec.symbol}: {self.doubted[key]}")
        held = self.readings.get(key)
        leverage = self._context.config.detection.hedge.leverage
        value, equity = leg.qty * leg.limit, leg.qty * leg.limit / leverage
        others = self.shortfall(spec.venue)
        if held is not None and held.side == side:
            others -= held.shortfall(self.target)
            value, equity = value + held.value, equity + held.equity
        elif held is not None and leg.qty <= abs(held.position.qty):
            return None  # the position shrinks
        required = self._required(leg.row, value)
        lacks = max(ZERO, value * ratio_for(self.target, side, required) - equity) + others
        balance = (spec.venue, spec.quote)
        taken = sum((amount for venue, asset, amount in plan.needs() if (venue, asset) == balance), ZERO)
        free = self._balances.usable(*balance) - taken
        if lacks and not lacks <= free:
            left = distance_of(side, ONE, value, equity, value, required)
            text = f"{left:.2%} to liquidation with this entry, {lacks:.2f} {spec.quote} short of {self.target:.0%}"
            return Rejected(Refusal.MARGIN_LIMIT, f"{spec.venue} {spec.symbol}: {text}, {free:.2f} free")
        return None

    def _required(self, row: InstrumentRow, value: Decimal) -> Decimal:
        """Maintenance margin and taker fee as a fraction of a position of this value; at least what it is now."""
        key, fee = (row.spec.venue, row.spec.symbol), row.spec.taker_fee_ppm / PPM
        held, tiers = self.readings.get(key), self._tiers.get(key, ())
        if tiers:
            listed = maintenance_rate(ONE, value, tiers, fee)
            return listed if held is None else max(listed, held.required)
        return held.required if held is not None else MAINTENANCE_ASSUMED + fee

    def exact_only(self) -> frozenset[Key]:
        """Contracts on which an entry needs more than its own margin (free balance, a look at other positions): the
        exact path judges them. Computed anew after each account reading and :meth:`reconfigured`."""
        if self._exact_only is None:
            self._exact_only = frozenset(
                (row.spec.venue, row.spec.symbol) for row in self._context.instruments if self._for_exact_path(row)
            )
        return self._exact_only

    def reconfigured(self) -> None:
        """The configuration or the catalogue has changed."""
        self._exact_only = None

    def _for_exact_path(self, row: InstrumentRow) -> bool:
        if row.spec.kind is not InstrumentKind.PERPETUAL:
            return False
        leverage, most = self._context.config.detection.hedge.leverage, self._context.config.risk_limits
        required = self._required(row, most.max_position_size_usd)
        enough = all(not ONE / leverage < ratio_for(self.target, int(side), required) for side in OrderSide)
        return not enough or (row.spec.venue, row.spec.symbol) in self.doubted or self.shortfall(row.spec.venue) > 0
