"""Exits of open spot-futures hedges: by choice below their threshold, whole and at a bounded price when they must.

An exit by choice needs fresh books, close in time and later than our own fills; it takes the largest quantity whose
average price still passes the threshold, and its limit prices give away no more than the slack that the threshold
leaves. An exit that must be (deadline, loss, funding, a leg that is gone, an operator) needs only a book that is not
dead and a price within a bound that widens; what it cannot do it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from pipeline.economics.hedge_exit import leaves
from pipeline.execution.bounds.outcomes import sold_beside
from pipeline.execution.bounds.windows import answer_expected
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import BookView, Opportunity
from pipeline.execution.external_shares import may_fill, of_group
from pipeline.execution.hedging.remainders import (
    futures_leg_of_remainder,
    least_qty,
    small_remainder_text,
    without_small_remainder,
)
from pipeline.execution.hedging.watch import HedgeWatch, side_of
from pipeline.execution.ledger import Order
from pipeline.execution.market import (
    average_price,
    best_price,
    bounded_price,
    depth_within,
    fee_of,
    is_tradable_qty,
    order_price,
    reservation,
    tradable,
    walk,
)
from pipeline.execution.plan import Plan, PlannedLeg, too_far_apart
from pipeline.execution.records import HedgeRecord
from pipeline.model.config import HedgeExitConfig
from pipeline.model.enums import InstrumentKind, OpportunityType, OrderSide
from pipeline.model.fixedpoint import quantize_down, to_fp
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO
from pipeline.model.units import NS_PER_MS, NS_PER_S
from shm.layout import BOOK

SAY_AGAIN_NS = 60 * NS_PER_S


@dataclass(slots=True)
class HardExit:
    """A hedge that must leave. ``qty``: what was open then; ``ending``: because trading ends there, which its venue may
    withdraw; ``why``: what keeps it, "" where the newest plan was sent and nothing was refused before it;
    ``blocked_mono_ns``: since when something has kept it, with ``blocked_qty`` open, through attempts that closed
    nothing; ``said_mono_ns``: when an operator was last alerted to that; 0 = never."""

    reason: str
    since_mono_ns: int
    qty: Decimal
    ending: bool = False
    why: str = ""
    said_mono_ns: int = 0
    blocked_mono_ns: int = 0
    blocked_qty: Decimal = ZERO

    def left(self, qty: Decimal) -> None:
        """``qty`` is open now: what kept it while it was more has ended."""
        if qty != self.blocked_qty:
            self.why = ""

    def blocked(self, why: str, qty: Decimal, now_ns: int) -> None:
        """Something keeps it now, with ``qty`` open."""
        self.why = why
        if not self.blocked_mono_ns or qty != self.blocked_qty:
            self.blocked_mono_ns, self.blocked_qty = now_ns, qty


@dataclass(slots=True)
class Leaving:
    """Both books of a hedge that is to leave, and the side of the order on each."""

    hedge: HedgeRecord
    spot: InstrumentRow
    futures: InstrumentRow
    spot_view: BookView
    futures_view: BookView

    @property
    def s(self) -> int:
        return side_of(self.hedge)

    @property
    def spot_side(self) -> OrderSide:
        return _opposite(self.hedge.spot_side)

    @property
    def lot(self) -> Decimal:
        return max(self.spot.spec.lot, self.futures.spec.lot)

    def sides(self) -> tuple[tuple[InstrumentRow, BookView, OrderSide], ...]:
        return (self.spot, self.spot_view, self.spot_side), (self.futures, self.futures_view, self.hedge.spot_side)


def _opposite(side: OrderSide) -> OrderSide:
    return OrderSide.SELL if side is OrderSide.BUY else OrderSide.BUY


def forced_bound_bps(config: HedgeExitConfig, age_ns: int) -> Decimal:
    """How far from the best price an exit may go that must be, by the time since it had to: it widens."""
    step = min(age_ns // (config.forced_step_s * NS_PER_S), len(config.forced_slippage_bps) - 1)
    return config.forced_slippage_bps[step]


def all_bounds_ns(config: HedgeExitConfig) -> int:
    """How long it takes until each of these bounds, the widest too, was tried for as long as it holds."""
    return len(config.forced_slippage_bps) * config.forced_step_s * NS_PER_S


def largest_passing(most: int, passes: Callable[[int], bool]) -> int:
    """The largest count of 1..``most`` that passes, 0 where none does; what passes at a count passes below it."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if passes(middle):
            low = middle
        else:
            high = middle - 1
    return low


class HedgeExits:
    """Plans for leaving a hedge: both legs at once, as at the entry; the saga repairs what breaks."""

    def __init__(
        self, context: CoreContext, watch: HedgeWatch, last_fill: Callable[[str, str], tuple[int, int]]
    ) -> None:
        """``last_fill``: (receive mono ns, venue wall ms) of our last fill on a venue's symbol; zeros: none."""
        self._context = context
        self._watch = watch
        self._last_fill = last_fill
        self.hard: dict[str, HardExit] = {}  # operation that opened the hedge -> why it must leave

    # --- what must leave ---

    def hard_exit(self, hedge: HedgeRecord, reason: str, *, ending: bool = False) -> None:
        """From now on the hedge leaves whole, at a bounded price; the first reason stands."""
        if hedge.operation_id not in self.hard:
            self.hard[hedge.operation_id] = HardExit(reason, self._context.now.mono_ns, hedge.qty, ending)
            self._context.alert(1, "hedge_exit", f"{named(hedge)}: {reason}")

    def tick(self) -> None:
        """Begins the exits that deadline, loss, funding or the end of trading demand; forgets those of hedges that have
        left, and those that a withdrawn announcement has begun and no order yet."""
        ledger = self._context.ledger
        for name in [name for name in self.hard if name not in ledger.hedges]:
            del self.hard[name]
        for name, hedge in ledger.hedges.items():
            exit_ = self.hard.get(name)
            if exit_ is None:
                ending = self._watch.ending_reason(hedge)
                reason = ending or self._watch.hard_reason(hedge)
                if reason:
                    self.hard_exit(hedge, reason, ending=bool(ending))
            elif self._withdrawn(exit_, hedge):
                del self.hard[name]
                self._context.alert(1, "hedge_exit", f"{named(hedge)} stays: withdrawn: {exit_.reason}")

    def _withdrawn(self, exit_: HardExit, hedge: HedgeRecord) -> bool:
        """Whether what made a hedge leave was announced, is so no more, and no part of it has left."""
        if not exit_.ending or hedge.qty != exit_.qty or self._watch.ending_reason(hedge):
            return False
        return all(o.record.closes != hedge.operation_id for o in self._context.ledger.open_operations.values())

    def say_why_not(self, hedge: HedgeRecord, why: str) -> None:
        """Tells an operator what keeps a hard exit from leaving: once its widest bound was tried, then every minute."""
        exit_, now_ns = self.hard[hedge.operation_id], self._context.now.mono_ns
        exit_.blocked(why, hedge.qty, now_ns)
        tried_ns = all_bounds_ns(self._context.config.detection.hedge.exit)
        if now_ns - exit_.since_mono_ns < tried_ns or (
            exit_.said_mono_ns and now_ns - exit_.said_mono_ns < SAY_AGAIN_NS
        ):
            return
        exit_.said_mono_ns = now_ns
        self._context.alert(2, "hedge_exit_blocked", f"{named(hedge)} cannot leave ({exit_.reason}): {why}")

    def bound_bps(self, hedge: HedgeRecord) -> Decimal:
        """How far from the best price a hard exit may go now."""
        since_ns = self.hard[hedge.operation_id].since_mono_ns
        return forced_bound_bps(self._context.config.detection.hedge.exit, self._context.now.mono_ns - since_ns)

    # --- plans ---

    def last_fill_mono_ns(self, row: InstrumentRow) -> int:
        """When our last fill there was heard of; 0: none."""
        return self._last_fill(row.spec.venue, row.spec.symbol)[0]

    def chosen_plan(self, hedge: HedgeRecord, most: Decimal | None = None) -> Plan | str:
        """The exit, whole or in part, that the threshold allows on the books of now, at most ``most`` base coins; or
        why there is none."""
        reading = self._watch.readings.get(hedge.operation_id)
        if reading is None or reading.threshold_milli_bps is None:
            return "no threshold yet"
        if not self._watch.may_choose(reading):
            return "a funding time that pays us is near"
        leaving = self._leaving(hedge, self._context.config.detection.max_age_to_trade_ms)
        if isinstance(leaving, str):
            return leaving
        skew_ns = self._context.config.detection.max_skew_ms * NS_PER_MS
        proofs = (leaving.spot_view.proof_mono_ns, leaving.futures_view.proof_mono_ns)
        if too_far_apart(min(proofs), max(proofs), skew_ns):
            return "the books' proofs are too far apart"
        for row, view, _ in leaving.sides():
            if view.words[BOOK.recv_mono_ns] <= self.last_fill_mono_ns(row):
                return f"{row.spec.venue}: no book later than our own fill"
        threshold = reading.threshold_milli_bps
        bound = self._context.config.risk_limits.max_slippage_bps
        if small_remainder_text(hedge, leaving.sides(), ZERO):  # nobody gains by keeping what no trade can close
            return self._rest_plan(leaving, bound)
        qty = self._sized(leaving, bound, lambda q: (most is None or q <= most) and self._passes(leaving, q, threshold))
        if not qty:
            return "the basis is above the threshold"
        limits = self._protecting(leaving, qty, threshold, bound)
        return self._plan(leaving, qty, limits, forced=False)

    def forced_plan(
        self,
        hedge: HedgeRecord,
        bound_bps: Decimal,
        most: Decimal | None = None,
        spot: tuple[str, str] | None = None,
    ) -> Plan | str:
        """The exit of all that both books hold within ``bound_bps`` of their best prices, at most ``most`` base coins;
        or why there is none. ``spot``: venue and symbol of another spot instrument of the pair, where its coins lie."""
        leaving = self._leaving(hedge, self._context.config.detection.dead_after_ms, forced=True, spot=spot)
        if isinstance(leaving, str):
            return leaving
        if small_remainder_text(hedge, leaving.sides(), self._context.config.risk_limits.max_slippage_bps):
            return self._rest_plan(leaving, bound_bps)
        qty = self._sized(leaving, bound_bps, lambda q: most is None or q <= most)
        if not qty:
            return f"no depth of a lot and the venues' minima within {bound_bps} bps of the best prices"
        limits = []
        for row, view, side in leaving.sides():
            best = best_price(view, side, row)
            assert best is not None  # there is depth
            limits.append(bounded_price(best, side, bound_bps, row.spec.tick))
        return self._plan(leaving, qty, limits, forced=True)

    def _leaving(
        self, hedge: HedgeRecord, limit_ms: int, *, forced: bool = False, spot: tuple[str, str] | None = None
    ) -> Leaving | str:
        """Both books, proved within ``limit_ms``, without an unsettled order of ours that forbids another one there; or
        what is missing."""
        context = self._context
        found: list[tuple[InstrumentRow, BookView]] = []
        for venue, symbol in (
            spot or (hedge.spot_venue, hedge.spot_symbol),
            (hedge.futures_venue, hedge.futures_symbol),
        ):
            row = context.instruments.find(venue, symbol)
            if row is None:
                return f"{venue} {symbol}: not in the catalogue"
            view = context.market.book(row.instrument_id)
            if view is None or not tradable(view, row):
                return f"{venue} {symbol}: no book that may be traded on"
            if not view.proof_mono_ns:
                return f"{venue} {symbol}: no proof of its book yet"
            if not context.now.mono_ns - view.proof_mono_ns <= limit_ms * NS_PER_MS:
                return f"{venue} {symbol}: book proved {(context.now.mono_ns - view.proof_mono_ns) // NS_PER_MS} ms ago"
            unsettled = list(context.ledger.unsettled_of_symbol(venue, symbol))
            if unsettled and not (forced and self._goes_beside(hedge, row, unsettled)):
                return f"{venue} {symbol}: own order not settled"
            found.append((row, view))
        return Leaving(hedge, found[0][0], found[1][0], found[0][1], found[1][1])

    def _goes_beside(self, hedge: HedgeRecord, row: InstrumentRow, unsettled: list[Order]) -> bool:
        """Whether a leg of a hedge that must leave is closed beside ``unsettled`` orders there whose answers are
        overdue. A contract needs no outcome of other operations': its order only reduces, and the position covers it
        whatever they execute. Coins are sold as :func:`sold_beside` has it."""
        ledger, place = self._context.ledger, (row.spec.venue, row.spec.symbol)
        opened = ledger.operations[hedge.operation_id]
        if row.spec.kind is not InstrumentKind.PERPETUAL:
            sells = hedge.spot_side is OrderSide.BUY
            return sells and sold_beside(self._context, opened, place, hedge.base, hedge.qty, unsettled)
        if any(answer_expected(self._context, order) for order in unsettled):
            return False
        if of_group(ledger, opened, unsettled):
            return False
        flying = sum((may_fill(order) for order in unsettled if order.intent.side is hedge.spot_side), ZERO)
        return -int(hedge.spot_side) * ledger.expected_position(*place) - flying >= hedge.qty

    def _sized(self, leaving: Leaving, bound_bps: Decimal, passes: Callable[[Decimal], bool]) -> Decimal:
        """The largest multiple of the lot, at most the whole hedge, that both books hold within ``bound_bps`` of their
        best prices and that ``passes``; what it leaves open is nothing or meets both venues' minima. 0 = none."""
        lot, hedge = leaving.lot, leaving.hedge
        whole = quantize_down(hedge.qty, lot)
        most = whole
        for row, view, side in leaving.sides():
            best = best_price(view, side, row)
            if best is None:
                return ZERO
            limit = bounded_price(best, side, bound_bps, row.spec.tick)
            found = depth_within(view, side, to_fp(limit, row.price_exp))
            most = min(most, quantize_down(Decimal(found).scaleb(-row.qty_exp), lot))
        qty = lot * largest_passing(int(most / lot), lambda count: passes(count * lot))
        return without_small_remainder(qty, whole, self._least(leaving))

    def _least(self, leaving: Leaving) -> Decimal:
        """The least quantity on the lot that both venues take, at the worst price that a limit may have."""
        return least_qty(leaving.sides(), leaving.lot, self._context.config.risk_limits.max_slippage_bps)

    def _rest_plan(self, leaving: Leaving, bound_bps: Decimal) -> Plan | str:
        """The end of a hedge that is below a venue's minimum: its futures leg closed, its coins dust."""
        leg = futures_leg_of_remainder(self._context, leaving.hedge, leaving.sides()[1], bound_bps)
        if isinstance(leg, str):
            text = small_remainder_text(
                leaving.hedge, leaving.sides(), self._context.config.risk_limits.max_slippage_bps
            )
            return f"{text}; {leg}"
        plan = self._with_opportunity(leaving, [leg], ZERO, leg.qty * leg.average, forced=True)
        plan.dust = leg.qty * leaving.s
        return plan

    def _passes(self, leaving: Leaving, qty: Decimal, threshold_milli_bps: int) -> bool:
        """The kernel's comparison on the averages of ``qty``, exact: both as sums of price x quantity."""
        values = []
        for row, view, side in leaving.sides():
            wanted = int(qty.scaleb(row.qty_exp))
            found, value = walk(view, side, wanted)
            if found < wanted:
                return False
            values.append(value)
        return leaves(values[1], values[0], threshold_milli_bps, leaving.s)

    def _protecting(
        self, leaving: Leaving, qty: Decimal, threshold_milli_bps: int, bound_bps: Decimal
    ) -> list[Decimal]:
        """Limit prices of spot and futures: the slack between the basis of ``qty`` and the threshold, half to each leg
        (no fill model says which one needs it), counted from its average; never nearer than the worst level used."""
        averages = [average_price(view, side, qty, row) for row, view, side in leaving.sides()]
        spot, futures = averages
        assert spot is not None and futures is not None  # it passed
        slack = (spot * threshold_milli_bps / 10_000_000 - leaving.s * (futures - spot)) / 2
        limits = []
        for (row, view, side), average in zip(leaving.sides(), (spot, futures), strict=True):
            best = best_price(view, side, row)
            assert best is not None
            farthest = bounded_price(best, side, bound_bps, row.spec.tick)
            wanted = order_price(average + int(side) * slack, side, row.spec.tick)
            worst = _worst(view, side, qty, row)
            if side is OrderSide.BUY:
                limits.append(min(farthest, max(worst, wanted)))
            else:
                limits.append(max(farthest, min(worst, wanted)))
        return limits

    def _plan(self, leaving: Leaving, qty: Decimal, limits: list[Decimal], *, forced: bool) -> Plan | str:
        legs: list[PlannedLeg] = []
        for (row, view, side), limit in zip(leaving.sides(), limits, strict=True):
            best, average = best_price(view, side, row), average_price(view, side, qty, row)
            if best is None or average is None or not is_tradable_qty(row, qty, min(best, limit)):
                return f"{row.spec.venue} {row.spec.symbol}: {qty} is below the venue's minimum"
            asset, amount = reservation(row, side, qty, limit, self._context.config.detection.hedge.leverage)
            if row.spec.kind is InstrumentKind.PERPETUAL:
                amount = ZERO  # closing needs no margin
            legs.append(PlannedLeg(row, side, qty, limit, best, average, asset, amount, view))
        return self._with_opportunity(leaving, legs, *_profit(leaving.hedge, legs[0], legs[1]), forced=forced)

    def _with_opportunity(
        self, leaving: Leaving, legs: list[PlannedLeg], profit: Decimal, outlay: Decimal, *, forced: bool
    ) -> Plan:
        hedge, context = leaving.hedge, self._context
        edge = float(profit / outlay * 10_000)
        operation = context.ledger.operations[hedge.operation_id]
        opportunity = Opportunity(
            opportunity_id=0,
            type=int(OpportunityType.SPOT_FUTURES_HEDGE),
            pair_id=leaving.spot.pair_id,
            detect_mono_ns=context.now.mono_ns,
            trigger_recv_mono_ns=0,
            trigger_publish_mono_ns=0,
            edge_bps=edge,
            entry_edge_bps=edge,
            profit_quote=float(profit),
            trigger_instrument=leaving.spot.instrument_id,
            direction_key=-1 - operation.record.direction_key,
            legs=(),
            dequeued_mono_ns=context.now.mono_ns,
            manual=forced,
        )
        kind = OpportunityType.SPOT_FUTURES_HEDGE
        return Plan(opportunity, kind, leaving.spot.spec.pair, legs, edge, outlay)


def _worst(view: BookView, side: OrderSide, qty: Decimal, row: InstrumentRow) -> Decimal:
    """Price of the last level that ``qty`` reaches."""
    words, left = view.words, int(qty.scaleb(row.qty_exp))
    price, sizes = (
        (BOOK.ask_price_fp, BOOK.ask_qty_fp) if side is OrderSide.BUY else (BOOK.bid_price_fp, BOOK.bid_qty_fp)
    )
    level = 0
    while left > words[sizes + level]:
        left -= words[sizes + level]
        level += 1
    return Decimal(words[price + level]).scaleb(-row.price_exp)


def _profit(hedge: HedgeRecord, spot: PlannedLeg, futures: PlannedLeg) -> tuple[Decimal, Decimal]:
    """(profit of entry and exit after four taker fees, outlay), in quote. Shown; it decides nothing."""
    sign = side_of(hedge)
    entry = (hedge.entry_futures_price - hedge.entry_spot_price) * sign * spot.qty
    leaving = (spot.average - futures.average) * sign * spot.qty
    fees = ZERO
    for leg, entry_price in ((spot, hedge.entry_spot_price), (futures, hedge.entry_futures_price)):
        for price in (leg.average, entry_price):
            fee, asset = fee_of(leg.row, leg.side, leg.qty, price)
            fees += fee * price if asset == leg.row.spec.base else fee
    return entry + leaving - fees, spot.qty * spot.average


def named(hedge: HedgeRecord) -> str:
    """A hedge in words."""
    return (
        f"hedge {hedge.operation_id} of {hedge.qty} {hedge.base} "
        f"({hedge.spot_venue} {hedge.spot_symbol} against {hedge.futures_venue} {hedge.futures_symbol})"
    )
