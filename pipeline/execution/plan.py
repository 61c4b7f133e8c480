"""From an opportunity of the detector to a plan that is ours: re-read books, own quantities, own edge.

Nothing that came through shared memory is trusted: instruments must exist and agree, prices must be prices, sizes are
cut to what the fresh books hold within the limit prices, to lots and minima, and the edge is computed again, exactly,
from the catalogue's fees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from pipeline.detection.spot_futures import HedgeTerms, hedge_cost
from pipeline.execution.events import BookView, MarketPort, Opportunity, OpportunityLeg
from pipeline.execution.market import (
    Instruments,
    best_price_fp,
    bounded_price,
    depth_within,
    fee_of,
    is_tradable_qty,
    order_price,
    reservation,
    tradable,
    walk,
    within,
)
from pipeline.execution.records import LegPlan
from pipeline.model.config import EngineConfig
from pipeline.model.enums import FeeAssetRule, InstrumentKind, OpportunityType, OrderSide, Refusal
from pipeline.model.fixedpoint import digits_after_point, from_fp, quantize_down, quantize_up, to_fp_ceil, to_fp_floor
from pipeline.model.instruments import InstrumentRow
from shm.layout import (
    BR_FLAGS,
    BR_RECV_MONO_NS,
    BR_ROW_EPOCH,
    BR_SEQ,
    BR_UPDATE_ID,
    FLAG_CROSSED,
    FLAG_GAP,
    FLAG_HALTED,
    FLAG_UNPROVED,
)

ZERO = Decimal(0)
QTY_FP_MAX = 2**62


@dataclass(slots=True)
class PlannedLeg:
    row: InstrumentRow
    side: OrderSide
    qty: Decimal
    limit: Decimal
    best: Decimal
    average: Decimal
    reserve_asset: str
    reserve_amount: Decimal
    view: BookView

    def leg_plan(self) -> LegPlan:
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
            book_seq=words[BR_SEQ],
            update_id=words[BR_UPDATE_ID],
            proof_mono_ns=self.view.proof_mono_ns,
            book_recv_mono_ns=words[BR_RECV_MONO_NS],
        )


@dataclass(slots=True)
class Plan:
    opportunity: Opportunity
    type: OpportunityType
    pair: str
    legs: list[PlannedLeg]
    edge_send_bps: float
    notional_usd: Decimal = ZERO

    def needs(self) -> list[tuple[str, str, Decimal]]:
        """(venue, asset, amount) that the legs may take."""
        return [(leg.row.spec.venue, leg.reserve_asset, leg.reserve_amount) for leg in self.legs]


@dataclass(slots=True)
class Rejected:
    refusal: Refusal
    detail: str


def start_asset(type_: OpportunityType, rows: list[InstrumentRow], numeraire: str) -> str:
    """The asset in which an operation begins and ends: what it must not be neutral in."""
    if type_ is not OpportunityType.TRIANGULAR:
        return rows[0].spec.quote
    quotes = [row.spec.quote for row in rows]
    return numeraire if numeraire in quotes else max(quotes, key=quotes.count)


def malformed(opportunity: Opportunity, instruments: Instruments) -> str:
    """What is wrong with an opportunity by itself; "" when nothing is. Catches corruption and a mad detector."""
    if not opportunity.crc_ok:
        return "checksum"
    if opportunity.type not in OpportunityType._value2member_map_:
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
        if leg.row_epoch != row.row_epoch:
            return f"row epoch {leg.row_epoch} of instrument {leg.instrument_id}, now {row.row_epoch}"
    return _shape_fault(opportunity, [r for leg in opportunity.legs if (r := instruments.get(leg.instrument_id))])


def _shape_fault(opportunity: Opportunity, rows: list[InstrumentRow]) -> str:
    """Whether the legs together are what the type says."""
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
    if hedge != (kinds == {InstrumentKind.SPOT, InstrumentKind.PERPETUAL}):
        return f"kinds {sorted(kinds)} for type {opportunity.type}"
    return ""


def _cycle_fault(opportunity: Opportunity, rows: list[InstrumentRow]) -> str:
    """Three spot legs of one venue that give every asset away exactly once and receive it exactly once."""
    if len({row.venue_id for row in rows}) != 1 or any(row.spec.kind is not InstrumentKind.SPOT for row in rows):
        return "a cycle over venues or futures"
    pairs = [(row.spec.base, row.spec.quote) for row in rows]
    ways = [pair if leg.side > 0 else pair[::-1] for leg, pair in zip(opportunity.legs, pairs, strict=True)]
    received, given = {way[0] for way in ways}, {way[1] for way in ways}
    return "" if len(received) == 3 and received == given else f"no cycle: {ways} (received, given)"


class Planner:
    """Sizes opportunities on fresh books. Pure but for the market port that it reads."""

    def __init__(self, config: EngineConfig, instruments: Instruments, market: MarketPort) -> None:
        self._config = config
        self._instruments = instruments
        self._market = market
        self._max_age_ns = config.detection.max_age_to_trade_ms * 1_000_000
        self._max_skew_ns = config.detection.max_skew_ms * 1_000_000
        self._max_slippage_bps = config.risk_limits.max_slippage_bps
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
        if max(proofs) - min(proofs) > self._max_skew_ns:
            return Rejected(Refusal.STALE_AT_EXECUTOR, f"skew {(max(proofs) - min(proofs)) // 1000} us")
        return self._size(opportunity, rows, views)

    def _book_fault(self, view: BookView | None, row: InstrumentRow, mono_ns: int) -> Rejected | None:
        name = f"{row.spec.venue} {row.spec.symbol}"
        if view is None:
            return Rejected(Refusal.NO_BOOK, name)
        if not tradable(view, row):
            flags = view.words[BR_FLAGS]
            for bit, refusal in (
                (FLAG_GAP, Refusal.GAP),
                (FLAG_CROSSED, Refusal.CROSSED),
                (FLAG_UNPROVED, Refusal.UNPROVED),
                (FLAG_HALTED, Refusal.HALTED),
            ):
                if flags & bit:
                    return Rejected(refusal, name)
            return Rejected(Refusal.MALFORMED, f"{name}: book of row epoch {view.words[BR_ROW_EPOCH]}")
        age_ns = mono_ns - view.proof_mono_ns
        if not view.proof_mono_ns or age_ns > self._max_age_ns:
            return Rejected(Refusal.STALE_AT_EXECUTOR, f"{name}: proved {age_ns // 1000} us ago")
        return None

    def _size(self, opportunity: Opportunity, rows: list[InstrumentRow], views: list[BookView]) -> Plan | Rejected:
        limits: list[int] = []
        share = Fraction(1)
        for leg, row, view in zip(opportunity.legs, rows, views, strict=True):
            side = OrderSide(leg.side)
            best_fp = best_price_fp(view, side)
            if best_fp is None or not within(best_fp, leg.limit_price_fp, side):
                return Rejected(Refusal.MOVED, f"{row.spec.venue} {row.spec.symbol}: best price left the limit")
            limit_fp = self._limit_fp(leg, row, side, best_fp)
            found = depth_within(view, side, limit_fp)
            if found <= 0:
                return Rejected(Refusal.MOVED, f"{row.spec.venue} {row.spec.symbol}: no depth within the limit")
            limits.append(limit_fp)
            share = min(share, Fraction(found, leg.qty_fp))
        quantities = self._quantities(opportunity, rows, share)
        legs: list[PlannedLeg] = []
        for leg, row, view, limit_fp, qty in zip(opportunity.legs, rows, views, limits, quantities, strict=True):
            planned = self._leg(OrderSide(leg.side), row, view, from_fp(limit_fp, row.price_exp), qty)
            if planned is None:
                return Rejected(Refusal.BELOW_MINIMUM, f"{row.spec.venue} {row.spec.symbol}: {qty} at {limit_fp}")
            legs.append(planned)
        type_ = OpportunityType(opportunity.type)
        edge = self._edge_bps(type_, legs)
        threshold = float(self._config.execute_edge_bps)
        if not edge >= threshold:
            return Rejected(Refusal.MOVED, f"edge {edge:.2f} bps now, {opportunity.edge_bps:.2f} detected")
        return Plan(opportunity, type_, rows[0].spec.pair, legs, edge)

    def _limit_fp(self, leg: OpportunityLeg, row: InstrumentRow, side: OrderSide, best_fp: int) -> int:
        """The detector's limit, no further from the best price than the slippage limit, on the tick."""
        bound = bounded_price(from_fp(best_fp, row.price_exp), side, self._max_slippage_bps, row.spec.tick)
        wanted = order_price(from_fp(leg.limit_price_fp, row.price_exp), side, row.spec.tick)
        price = min(wanted, bound) if side is OrderSide.BUY else max(wanted, bound)
        return to_fp_floor(price, row.price_exp) if side is OrderSide.BUY else to_fp_ceil(price, row.price_exp)

    def _quantities(self, opportunity: Opportunity, rows: list[InstrumentRow], share: Fraction) -> list[Decimal]:
        """Quantities of all legs scaled by ``share``, on their lots, matched to each other.

        Two legs: what is sold is what is received, so that a fee in base never leaves us short; the buy is the
        smallest number of lots that delivers it. Triangular: every leg scaled and cut down.
        """
        wanted = [from_fp(leg.qty_fp, row.qty_exp) for leg, row in zip(opportunity.legs, rows, strict=True)]
        if share < 1:
            factor = Decimal(share.numerator) / Decimal(share.denominator)
            wanted = [qty * factor for qty in wanted]
        wanted = [quantize_down(qty, row.spec.lot) for qty, row in zip(wanted, rows, strict=True)]
        if len(rows) != 2:
            return wanted
        buy = 0 if opportunity.legs[0].side > 0 else 1
        sell = 1 - buy
        spec = rows[buy].spec
        keep = Decimal(1)
        if spec.kind is InstrumentKind.SPOT and spec.fee_rule is FeeAssetRule.RECEIVED:
            keep -= Decimal(spec.taker_fee_ppm) / 1_000_000
        sell_lot = rows[sell].spec.lot
        wanted[sell] = quantize_down(min(wanted[sell], wanted[buy] * keep), sell_lot)
        if keep == 1:
            wanted[sell] = quantize_down(wanted[sell], common_lot(spec.lot, sell_lot))
        wanted[buy] = min(wanted[buy], quantize_up(wanted[sell] / keep, spec.lot))
        return wanted

    def _leg(
        self, side: OrderSide, row: InstrumentRow, view: BookView, limit: Decimal, qty: Decimal
    ) -> PlannedLeg | None:
        """One leg, or None when its quantity is under a minimum of the venue or above its maximum."""
        spec = row.spec
        price = limit if side is OrderSide.SELL else min(limit, _best(view, side, row))
        if not is_tradable_qty(row, qty, price) or (spec.max_qty and qty > spec.max_qty):
            return None
        found, value = walk(view, side, int(qty.scaleb(row.qty_exp)))
        if found <= 0:
            return None
        average = Decimal(value).scaleb(-row.price_exp) / found
        asset, amount = reservation(row, side, qty, limit, self._leverage)
        return PlannedLeg(row, side, qty, limit, _best(view, side, row), average, asset, amount, view)

    def _edge_bps(self, type_: OpportunityType, legs: list[PlannedLeg]) -> float:
        """Profit over outlay in the start asset, fees in their assets, what remains in other assets at leg prices."""
        start = start_asset(type_, [leg.row for leg in legs], self._config.execution.numeraire)
        totals: dict[str, Decimal] = {}
        rates = {start: Decimal(1)}
        for leg in legs:
            spec, signed = leg.row.spec, leg.qty * int(leg.side)
            fee, fee_asset = fee_of(leg.row, leg.side, leg.qty, leg.average)
            for asset, amount in ((spec.base, signed), (spec.quote, -signed * leg.average), (fee_asset, -fee)):
                totals[asset] = totals.get(asset, ZERO) + amount
            if spec.quote == start:
                rates.setdefault(spec.base, leg.average)
        outlay = max(leg.qty * leg.average * rates.get(leg.row.spec.quote, ZERO) for leg in legs)
        profit = sum((amount * rates.get(asset, ZERO) for asset, amount in totals.items()), ZERO)
        edge = float(profit / outlay * 10_000) if outlay else -math.inf
        if type_ is OpportunityType.SPOT_FUTURES_HEDGE:
            edge -= self._exit_charge_bps(legs)
        return edge

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


def common_lot(a: Decimal, b: Decimal) -> Decimal:
    """Smallest quantity that is a whole number of both lots."""
    scale = Decimal(10) ** max(digits_after_point(a), digits_after_point(b))
    return Decimal(math.lcm(int(a * scale), int(b * scale))) / scale


def _best(view: BookView, side: OrderSide, row: InstrumentRow) -> Decimal:
    price_fp = best_price_fp(view, side)
    assert price_fp is not None  # judged by the caller
    return from_fp(price_fp, row.price_exp)
