"""From an opportunity of the detector to the executor's own plan: books read again, own quantities, own edge.

Nothing that came through shared memory is trusted: instruments must exist and agree, prices and quantities must be in
range, sizes are cut to what the fresh books hold within the limit prices, to lots and minima, and the edge is computed
again, exactly, from the catalogue's fees.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from pipeline.detection.spot_futures import HedgeTerms, hedge_cost
from pipeline.execution.cycle_plan import CycleLeg, fit_cycle
from pipeline.execution.events import BookView, MarketPort, Opportunity
from pipeline.execution.market import (
    BPS,
    Instruments,
    best_price_fp,
    depth_within,
    fee_of,
    is_tradable_qty,
    reservation,
    tradable,
    walk,
    within,
)
from pipeline.execution.records import LegPlan
from pipeline.model.config import EngineConfig
from pipeline.model.enums import FeeAssetRule, InstrumentKind, OpportunityType, OrderSide, Refusal
from pipeline.model.fixedpoint import EXP_MAX, from_fp, plain
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO
from pipeline.model.units import PPM
from shm.layout import BOOK, FLAG_CROSSED, FLAG_GAP, FLAG_HALTED, FLAG_UNPROVED

DirectionPrice = Callable[[int, int], float]  # (buy, sell) instrument ids -> bps
QTY_FP_MAX = 2**62
_ENTRIES = frozenset(OpportunityType) - {OpportunityType.HEDGE_EXIT}
_PRICED = {
    OpportunityType.SPOT_SPOT: "the inventory that it moves",
    OpportunityType.SPOT_FUTURES_HEDGE: "the basis, funding and carry that its exit is expected at",
}


@dataclass(slots=True)
class PlannedLeg:
    """One leg as it will be ordered: quantity in base coin on the lot, prices in quote per base."""

    row: InstrumentRow
    side: OrderSide
    qty: Decimal
    limit: Decimal  # on the tick
    best: Decimal
    average: Decimal  # expected, over the visible levels
    reserve_asset: str
    reserve_amount: Decimal
    view: BookView  # the book that it was sized on
    notional_usd: Decimal = ZERO  # at the limit price; set by the gate

    def leg_plan(self) -> LegPlan:
        """The leg as it goes into the operation's record."""
        words, spec = self.view.words, self.row.spec
        return LegPlan(
            instrument_id=self.row.instrument_id,
            venue=spec.venue,
            symbol=spec.symbol,
            kind=spec.kind,
            base=spec.base,
            quote=spec.quote,
            side=self.side,
            qty=self.qty,
            limit_price=self.limit,
            best_price=self.best,
            book_seq=words[BOOK.seq],
            update_id=words[BOOK.update_id],
            proof_mono_ns=self.view.proof_mono_ns,
            book_recv_mono_ns=words[BOOK.recv_mono_ns],
        )


@dataclass(slots=True)
class Plan:
    """What will be executed of an opportunity. ``edge_send_bps``: edge on the books that the legs were sized on;
    ``profit``: expected there, after all fees and later costs and less the price of the inventory that it moves, in
    ``profit_asset``. ``dust``: base coins, + = held, that the plan leaves on spot unsold: only the futures leg of a
    hedge leaves, see ``hedging/remainders.py``. ``in_turn``: only the futures leg is ordered, the spot leg follows as
    far as that has filled, when its venue takes an order."""

    opportunity: Opportunity
    type: OpportunityType
    pair: str
    legs: list[PlannedLeg]
    edge_send_bps: float
    notional_usd: Decimal = ZERO
    profit: Decimal = ZERO
    profit_asset: str = ""
    dust: Decimal = ZERO
    in_turn: bool = False

    def needs(self) -> list[tuple[str, str, Decimal]]:
        """(venue, asset, amount) that the legs may take."""
        return [(leg.row.spec.venue, leg.reserve_asset, leg.reserve_amount) for leg in self.legs]


@dataclass(slots=True)
class Rejected:
    """Why an opportunity is not executed: the first rule against it, and values for an operator."""

    refusal: Refusal
    detail: str


def too_old(proof_mono_ns: int, now_mono_ns: int, max_age_ns: int) -> bool:
    """Whether a book may not be traded on any more: it was last proved longer ago than ``max_age_ns``, or never (0)."""
    return not (proof_mono_ns and now_mono_ns - proof_mono_ns <= max_age_ns)


def too_far_apart(oldest_mono_ns: int, newest_mono_ns: int, max_skew_ns: int) -> bool:
    """Whether books may not be traded on together: their oldest and newest proof are further apart than that."""
    return not newest_mono_ns - oldest_mono_ns <= max_skew_ns


def start_asset(type_: OpportunityType, rows: list[InstrumentRow], numeraire: str) -> str:
    """The asset in which an operation begins and ends: the only one whose amount it may change."""
    if type_ is not OpportunityType.TRIANGULAR:
        return rows[0].spec.quote
    quotes = [row.spec.quote for row in rows]
    return numeraire if numeraire in quotes else max(quotes, key=quotes.count)


def malformed(opportunity: Opportunity, instruments: Instruments) -> str:
    """What is wrong with an opportunity by itself, "" when nothing is: corrupt memory, or a detector with a bug."""
    if not opportunity.crc_ok:
        return "checksum"
    if opportunity.type not in _ENTRIES:
        return f"type {opportunity.type}"
    numbers = (opportunity.edge_bps, opportunity.entry_edge_bps, opportunity.profit_quote)
    if not all(math.isfinite(number) for number in numbers):
        return f"not finite: {numbers}"
    wanted = 3 if opportunity.type == OpportunityType.TRIANGULAR else 2
    if len(opportunity.legs) != wanted:
        return f"{len(opportunity.legs)} legs, wanted {wanted}"
    for leg in opportunity.legs:
        row = instruments.get(leg.instrument_id)
        if row is None:
            return f"unknown instrument {leg.instrument_id}"
        if leg.side not in (1, -1):
            return f"side {leg.side}"
        if not 0 < leg.qty_fp < QTY_FP_MAX or not 0 < leg.limit_price_fp < QTY_FP_MAX:
            return f"quantity {leg.qty_fp} or price {leg.limit_price_fp} of instrument {leg.instrument_id}"
    return _shape_fault(opportunity, [r for leg in opportunity.legs if (r := instruments.get(leg.instrument_id))])


def of_other_rows(opportunity: Opportunity, instruments: Instruments) -> str:
    """Which leg was found under another row epoch than is known here; "" where none was. Detector and executor read a
    changed catalogue one after the other: for a moment either of them is the first, and no record is wrong."""
    for leg in opportunity.legs:
        row = instruments.get(leg.instrument_id)
        if row is not None and leg.row_epoch != row.row_epoch:
            return f"row epoch {leg.row_epoch} of instrument {leg.instrument_id}, now {row.row_epoch}"
    return ""


def _shape_fault(opportunity: Opportunity, rows: list[InstrumentRow]) -> str:
    """What contradicts the opportunity's type in its legs taken together; "" when nothing does."""
    if len({row.instrument_id for row in rows}) != len(rows):
        return "an instrument twice"
    if opportunity.type == OpportunityType.TRIANGULAR:
        return _cycle_fault(opportunity, rows)
    if rows[0].pair_id != rows[1].pair_id:
        return f"legs of pairs {rows[0].pair_id} and {rows[1].pair_id}"
    if opportunity.legs[0].side + opportunity.legs[1].side:
        return "two legs of one side"
    kinds = {row.spec.kind for row in rows}
    hedge = opportunity.type == OpportunityType.SPOT_FUTURES_HEDGE
    if kinds != ({InstrumentKind.SPOT, InstrumentKind.PERPETUAL} if hedge else {InstrumentKind.SPOT}):
        return f"kinds {sorted(kinds)} for type {opportunity.type}"
    return ""


def _cycle_fault(opportunity: Opportunity, rows: list[InstrumentRow]) -> str:
    """ "" for three spot legs of one venue that pay every asset exactly once and receive it exactly once."""
    if len({row.venue_id for row in rows}) != 1 or any(row.spec.kind is not InstrumentKind.SPOT for row in rows):
        return "a cycle over venues or futures"
    pairs = [(row.spec.base, row.spec.quote) for row in rows]
    ways = [pair if leg.side > 0 else pair[::-1] for leg, pair in zip(opportunity.legs, pairs, strict=True)]
    received, given = {way[0] for way in ways}, {way[1] for way in ways}
    return "" if len(received) == 3 and received == given else f"no cycle: {ways} (received, given)"


@dataclass(slots=True, frozen=True)
class Grid:
    """A row's steps as integers. Quantities: units of 10**-18 base coins, in which every exponent of a book fits."""

    row: InstrumentRow
    exact: bool  # both steps are whole numbers of these units
    tick: Decimal
    tick_fp: int
    lot: Decimal
    lot_units: int
    qty_unit: int  # of the row's fixed point, in the same units
    keep_ppm: int  # what a buy delivers of its quantity: less than all where the fee is taken from what is received


def _untradable(grid: Grid, qty: Decimal, price: Decimal) -> str:
    """Why a leg's quantity is no order at its venue: what was found, and what the venue takes."""
    spec = grid.row.spec
    wanted = [f"{plain(spec.min_qty)} {spec.base}"] if spec.min_qty else []
    wanted += [f"{plain(spec.min_notional)} {spec.quote}"] if spec.min_notional else []
    least = f"at least {' and '.join(wanted) or 'one lot'}"
    return f"{_name(grid.row)}: found {plain(qty)} at {plain(price)}, wanted {least}" + (
        f", at most {plain(spec.max_qty)} {spec.base}" if spec.max_qty else ""
    )


def grid_of(row: InstrumentRow) -> Grid:
    """The steps of a row; a venue without a step has that of the row's numbers."""
    spec = row.spec
    tick = spec.tick or Decimal(1).scaleb(-row.price_exp)
    lot = spec.lot or Decimal(1).scaleb(-row.qty_exp)
    tick_fp, lot_units = tick.scaleb(row.price_exp), lot.scaleb(EXP_MAX)
    received = spec.kind is InstrumentKind.SPOT and spec.fee_rule is FeeAssetRule.RECEIVED
    return Grid(
        row=row,
        exact=tick_fp == int(tick_fp) > 0 and lot_units == int(lot_units) > 0 and row.qty_exp <= EXP_MAX,
        tick=tick,
        tick_fp=int(tick_fp),
        lot=lot,
        lot_units=int(lot_units),
        qty_unit=10 ** max(0, EXP_MAX - row.qty_exp),
        keep_ppm=PPM - spec.taker_fee_ppm if received else PPM,
    )


def no_price(buy: int, sell: int) -> float:
    """Inventory that costs nothing."""
    return 0.0


class Planner:
    """Sizes opportunities on fresh books. Pure but for the market port and the prices that it reads.

    ``price_bps``: what a direction needs beyond the execution edge, for inventory or for the exit of a hedge.
    """

    def __init__(
        self,
        config: EngineConfig,
        instruments: Instruments,
        market: MarketPort,
        price_bps: DirectionPrice = no_price,
    ) -> None:
        self._config = config
        self._price_of = price_bps
        self._instruments = instruments
        self._market = market
        self._max_age_ns = config.detection.max_age_to_trade_ms * 1_000_000
        self._max_skew_ns = config.detection.max_skew_ms * 1_000_000
        slippage = Fraction(config.risk_limits.max_slippage_bps) / 10_000
        self._slip, self._slip_unit = slippage.numerator, slippage.denominator
        self._grids: dict[int, Grid] = {}
        self._leverage = config.detection.hedge.leverage

    def plan(self, opportunity: Opportunity, mono_ns: int) -> Plan | Rejected:
        """The plan for an opportunity that is well formed, or the first reason against it."""
        rows: list[InstrumentRow] = []
        views: list[BookView] = []
        for leg in opportunity.legs:
            row = self._instruments.get(leg.instrument_id)
            assert row is not None  # judged by malformed()
            view = self._market.book(leg.instrument_id)
            fault = self._book_fault(view, row, mono_ns)
            if fault is not None:
                return fault
            assert view is not None
            rows.append(row)
            views.append(view)
        proofs = [view.proof_mono_ns for view in views]
        if too_far_apart(min(proofs), max(proofs), self._max_skew_ns):
            return Rejected(Refusal.SKEW, f"books {(max(proofs) - min(proofs)) // 1000} us apart")
        return self._size(opportunity, rows, views)

    def _book_fault(self, view: BookView | None, row: InstrumentRow, mono_ns: int) -> Rejected | None:
        if view is None:
            return Rejected(Refusal.NO_BOOK, _name(row))
        if not tradable(view, row):
            flags = view.words[BOOK.flags]
            for bit, refusal in (
                (FLAG_GAP, Refusal.GAP),
                (FLAG_CROSSED, Refusal.CROSSED),
                (FLAG_UNPROVED, Refusal.UNPROVED),
                (FLAG_HALTED, Refusal.HALTED),
            ):
                if flags & bit:
                    return Rejected(refusal, _name(row))
            return Rejected(Refusal.HALTED, f"{_name(row)}: book of row epoch {view.words[BOOK.row_epoch]}")
        if too_old(view.proof_mono_ns, mono_ns, self._max_age_ns):
            age_us = (mono_ns - view.proof_mono_ns) // 1000
            return Rejected(Refusal.STALE_AT_EXECUTOR, f"{_name(row)}: proved {age_us} us ago")
        return None

    def _grid(self, row: InstrumentRow) -> Grid:
        """The steps of a row, computed once for each row that the catalogue publishes."""
        grid = self._grids.get(row.instrument_id)
        if grid is None or grid.row is not row:
            grid = self._grids[row.instrument_id] = grid_of(row)
        return grid

    def _size(self, opportunity: Opportunity, rows: list[InstrumentRow], views: list[BookView]) -> Plan | Rejected:
        sizes: list[tuple[Grid, OrderSide, int, int, int]] = []  # grid, side, best, limit in ticks, detected quantity
        part, whole = 1, 1  # of the detected quantities
        for leg, row, view in zip(opportunity.legs, rows, views, strict=True):
            side, grid = OrderSide(leg.side), self._grid(row)
            if not grid.exact:
                return Rejected(Refusal.MALFORMED, f"{_name(row)}: a step finer than the numbers of the books")
            best_fp = best_price_fp(view, side)
            if best_fp is None or not within(best_fp, leg.limit_price_fp, side):
                limit, best = (from_fp(fp, row.price_exp) for fp in (leg.limit_price_fp, best_fp or 0))
                now = f"{plain(best)} is the best price now" if best else "no price is there now"
                return Rejected(Refusal.MOVED, f"{_name(row)}: {now}, {plain(limit)} is the limit of this {side.name}")
            ticks = self._limit_ticks(leg.limit_price_fp, grid, side, best_fp)
            found = depth_within(view, side, ticks * grid.tick_fp)
            if found <= 0:
                return Rejected(Refusal.MOVED, f"{_name(row)}: no depth within the limit")
            sizes.append((grid, side, best_fp, ticks, leg.qty_fp))
            if found * whole < part * leg.qty_fp:
                part, whole = found, leg.qty_fp
        lots = [qty_fp * part * grid.qty_unit // (whole * grid.lot_units) for grid, _, _, _, qty_fp in sizes]
        if len(lots) == 2:
            lots = _matched([size[0] for size in sizes], lots, buy=0 if sizes[0][1] is OrderSide.BUY else 1)
        else:
            fitted = fit_cycle(
                [_cycle_leg(*size[:2], view, count) for size, view, count in zip(sizes, views, lots, strict=True)]
            )
            if fitted is None:
                return Rejected(Refusal.BELOW_MINIMUM, f"lots {lots} of the three legs do not fit each other")
            lots = fitted
        legs: list[PlannedLeg] = []
        for (grid, side, best_fp, ticks, _), count, view in zip(sizes, lots, views, strict=True):
            planned = self._leg(side, grid, view, best_fp, ticks, count)
            if planned is None:
                return Rejected(Refusal.BELOW_MINIMUM, _untradable(grid, count * grid.lot, ticks * grid.tick))
            legs.append(planned)
        type_ = OpportunityType(opportunity.type)
        start = start_asset(type_, rows, self._config.execution.numeraire)
        edge, outlay = self._edge_bps(type_, legs, start)
        price = self._price_bps(type_, legs)
        threshold = float(self._config.execute_edge_bps) + price
        if not edge >= threshold:
            text = f"edge {edge:.2f} bps now, {opportunity.edge_bps:.2f} detected, {threshold:.2f} needed"
            if price:
                text += f", {price:.2f} of it for {_PRICED[type_]}"
            return Rejected(Refusal.MOVED, text)
        profit = outlay * Decimal(edge - price) / BPS
        return Plan(opportunity, type_, rows[0].spec.pair, legs, edge, profit=profit, profit_asset=start)

    def _price_bps(self, type_: OpportunityType, legs: list[PlannedLeg]) -> float:
        """The direction's price, on top of the execution edge; a triangle has none."""
        if type_ is OpportunityType.TRIANGULAR:
            return 0.0
        first, second = (leg.row.instrument_id for leg in legs)
        buy, sell = (first, second) if legs[0].side is OrderSide.BUY else (second, first)
        return self._price_of(buy, sell)

    def _limit_ticks(self, wanted_fp: int, grid: Grid, side: OrderSide, best_fp: int) -> int:
        """The detector's limit, no further from the best price than the slippage limit, in ticks: buys rounded down,
        sells up. Integers throughout: exact at any size."""
        bound, unit = best_fp * (self._slip_unit + int(side) * self._slip), self._slip_unit * grid.tick_fp
        if side is OrderSide.BUY:
            return min(wanted_fp // grid.tick_fp, bound // unit)
        return max(-(-wanted_fp // grid.tick_fp), -(-bound // unit))

    def _leg(
        self, side: OrderSide, grid: Grid, view: BookView, best_fp: int, ticks: int, lots: int
    ) -> PlannedLeg | None:
        """One leg, or None when its quantity is under a minimum of the venue or above its maximum."""
        row, spec = grid.row, grid.row.spec
        qty, limit, best = lots * grid.lot, ticks * grid.tick, from_fp(best_fp, row.price_exp)
        price = limit if side is OrderSide.SELL else min(limit, best)
        if not is_tradable_qty(row, qty, price) or (spec.max_qty and qty > spec.max_qty):
            return None
        found, value = walk(view, side, lots * grid.lot_units // grid.qty_unit)
        if found <= 0:
            return None
        average = Decimal(value).scaleb(-row.price_exp) / found
        asset, amount = reservation(row, side, qty, limit, self._leverage)
        return PlannedLeg(row, side, qty, limit, best, average, asset, amount, view)

    def _edge_bps(self, type_: OpportunityType, legs: list[PlannedLeg], start: str) -> tuple[float, Decimal]:
        """(profit over outlay, outlay) in the asset ``start``, fees in their assets, what remains in other assets at
        leg prices.

        What a cycle leaves over between its legs is not sold and counts as worth nothing.
        """
        totals: dict[str, Decimal] = {}
        rates = {start: Decimal(1)}
        for leg in legs:
            spec, signed = leg.row.spec, leg.qty * int(leg.side)
            fee, fee_asset = fee_of(leg.row, leg.side, leg.qty, leg.average)
            for asset, amount in ((spec.base, signed), (spec.quote, -signed * leg.average), (fee_asset, -fee)):
                totals[asset] = totals.get(asset, ZERO) + amount
            if spec.quote == start:
                rates.setdefault(spec.base, leg.average)
        if type_ is OpportunityType.TRIANGULAR:
            totals = {asset: amount if asset == start else min(amount, ZERO) for asset, amount in totals.items()}
        outlay = max(leg.qty * leg.average * rates.get(leg.row.spec.quote, ZERO) for leg in legs)
        profit = sum((amount * rates.get(asset, ZERO) for asset, amount in totals.items()), ZERO)
        edge = float(profit / outlay * 10_000) if outlay else -math.inf
        if type_ is OpportunityType.SPOT_FUTURES_HEDGE:
            edge -= self._exit_charge_bps(legs)
        return edge, outlay

    def _exit_charge_bps(self, legs: list[PlannedLeg]) -> float:
        """What a hedge still costs after its entry: exit fees, expected basis, funding, carry (the detector's rule)."""
        spot = next(leg for leg in legs if leg.row.spec.kind is InstrumentKind.SPOT)
        futures = next(leg for leg in legs if leg.row.spec.kind is InstrumentKind.PERPETUAL)
        terms = HedgeTerms(
            spot_taker_ppm=spot.row.spec.taker_fee_ppm,
            futures_taker_ppm=futures.row.spec.taker_fee_ppm,
            funding_rate_ppb=futures.row.spec.funding_rate_ppb,
            funding_interval_s=futures.row.spec.funding_interval_s,
            short_futures=futures.side is OrderSide.SELL,
        )
        return float(hedge_cost(terms, self._config.detection.hedge) * 10_000)


def _matched(grids: list[Grid], lots: list[int], *, buy: int) -> list[int]:
    """Lots of two legs matched to each other: what is sold is what is received, so that a fee in base never leaves us
    short; the buy is the smallest number of lots that delivers it."""
    bought, sold = grids[buy], grids[1 - buy]
    buy_lots, sell_lots, keep = lots[buy], lots[1 - buy], bought.keep_ppm
    sell_lots = min(sell_lots, buy_lots * bought.lot_units * keep // (PPM * sold.lot_units))
    if keep == PPM:
        common = math.lcm(bought.lot_units, sold.lot_units) // sold.lot_units
        sell_lots -= sell_lots % common
    buy_lots = min(buy_lots, -(-sell_lots * sold.lot_units * PPM // (keep * bought.lot_units)))
    return [sell_lots, buy_lots] if buy else [buy_lots, sell_lots]


def _cycle_leg(grid: Grid, side: OrderSide, view: BookView, lots: int) -> CycleLeg:
    """A leg of a cycle for the fit: at most ``lots`` and the venue's maximum."""
    row, spec = grid.row, grid.row.spec
    fee = Fraction(spec.taker_fee_ppm, PPM)
    buy = side is OrderSide.BUY
    return CycleLeg(
        side=side,
        view=view,
        lot=Fraction(grid.lot),
        lot_fp=Fraction(grid.lot_units, grid.qty_unit),
        price_unit=10**row.price_exp,
        qty_unit=10**row.qty_exp,
        keep=Fraction(grid.keep_ppm, PPM) if buy else 1 - fee,
        cost=1 + fee if buy and spec.fee_rule is FeeAssetRule.QUOTE else Fraction(1),
        most=min(lots, int(spec.max_qty // grid.lot)) if spec.max_qty else lots,
    )


def _name(row: InstrumentRow) -> str:
    return f"{row.spec.venue} {row.spec.symbol}"
