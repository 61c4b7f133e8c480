"""The cheapest bounded order that closes an unmatched quantity of an operation.

Completing the missing leg and unwinding the filled one are the same order seen from two venues: the quantity is sold
(or bought back) wherever that brings more. So a repair looks at every instrument of the operation that trades the asset
against the start asset, and takes the best price after fees. Where none of them takes an order now (its outcome there
is unknown, the symbol is suspended, the venue is away), or each was tried in vain, another spot venue of the pair does.
A hedge that must leave is never bought back: what is left of its other leg is reduced on its own side only. Beside
orders of unknown outcome nothing is sent that could make the worst case worse (``bounds/outcomes.py``).

Where others have ended a leg (liquidation, ADL, somebody's order), what is left is only reduced, where it is: the leg
that is gone is not opened again, and what was sold is not bought back. Such a repair waits for no earlier one: it is
for what is held less what is on its way, so that together they never trade more than is held. What the book shows too
little for rests at the venue and takes what comes, until it is cancelled as every order that a venue lists as open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.bounds.outcomes import may_repair, sold_beside
from pipeline.execution.bounds.repair_terms import (
    BY_ITSELF,
    Obstacle,
    Repair,
    UsableInstruments,
    in_doubt_there,
    takes_none,
    tried_in_vain,
    unlisted,
)
from pipeline.execution.bounds.unmatched import (
    UnmatchedQuantity,
    less_in_flight,
    operation_start,
    unmatched_quantities,
)
from pipeline.execution.bounds.windows import answer_expected
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import BookView
from pipeline.execution.external_shares import (
    ending_part,
    group_holds,
    held_elsewhere,
    in_doubt,
    may_leave,
    moved_part,
    must_end,
    netted,
    only_shrinks,
    own_side_only,
    own_side_part,
    stands_against,
    undoes,
    unpriced,
)
from pipeline.execution.ledger import Operation, Order
from pipeline.execution.market import (
    average_price,
    best_price,
    bounded_price,
    can_trade,
    fee_of,
    gross_qty,
    is_tradable_qty,
    reservation,
    shows_less,
    tradable,
    within_band,
)
from pipeline.execution.records import LegPlan, Purpose
from pipeline.model.enums import FeeAssetRule, InstrumentKind, OpportunityType, OrderSide, OrderState, TimeInForce
from pipeline.model.fixedpoint import plain, quantize_down
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO

OTHER_TRIES = 2  # in vain at each of its own venues, then at each other one; then its own ones are waited for
NO_BOOK = Obstacle("no live book of it", "wait until its feed lives again (arb status shows it)")
NOBODY = Obstacle("nobody is in its book now", "wait until its book has prices again (arb status shows it)")
PLAN_PRICE_NS = 60_000_000_000  # how long the prices of a plan may stand in for a book that is dead


class RepairChooser:
    """Chooses the order that closes an unmatched quantity.

    ``usable_session(venue)``: order entry and private stream are up. ``can_place(venue)``: its rate budget takes an
    order now. ``urgent_bps(operation)``: what its repairs may pay because the margin of the hedge that it closes is
    short, 0 where it is not. It widens orders on that contract alone: no other leg is liquidated.
    """

    def __init__(
        self,
        context: CoreContext,
        balances: BalanceMonitor,
        usable_session: Callable[[str], bool],
        can_place: Callable[[str], bool],
        urgent_bps: Callable[[Operation], Decimal],
        usable: UsableInstruments,
    ) -> None:
        self._context = context
        self._can_place = can_place
        self.usable = usable
        self._urgent_bps = urgent_bps
        self._balances = balances
        self._session_up = usable_session

    def choose(
        self, operation: Operation, quantity: UnmatchedQuantity, slippage_bps: Decimal
    ) -> tuple[Repair | None, bool]:
        """(best repair or None, whether the quantity is large enough for an order).

        (None, True): an order is needed but none can be placed now; (None, False): the quantity is dust.
        Where margin is short, or others have ended a leg, ``slippage_bps`` is the widest, and the contract's order may
        go to where it would be liquidated. A hedge that must leave is never bought back (:meth:`_must_end`); one that
        leaves by choice is, where that is cheaper, but not because an order of ours is under way on the other leg: that
        one is waited for. In a takeover an entry is rather undone than completed to a hedge that is closed again.
        """
        record, urgent_bps, in_turn = operation.record, self._urgent_bps(operation), self.in_turn(operation)
        undone = self._context.taking_over and record.type is OpportunityType.SPOT_FUTURES_HEDGE
        reduces_first = undone or self._must_end(operation)
        reducing, whole = own_side_only(self._context.ledger, operation), quantity.amount
        if reducing:
            quantity = less_in_flight(self._context.ledger, operation, quantity)
        if urgent_bps or reducing:
            slippage_bps = max(slippage_bps, self._context.config.execution.unwind_max_slippage_bps)
        most_bps = {kind: slippage_bps for kind in InstrumentKind}
        most_bps[InstrumentKind.PERPETUAL] = max(slippage_bps, urgent_bps)
        worth = self._worth_an_order(operation, quantity, quantity.amount, most_bps)
        both, flying = quantity.amount + quantity.dust, whole - quantity.amount
        attempts = ((both, Purpose.REPAIR), (quantity.amount, Purpose.REPAIR)) if worth else ((both, Purpose.DUST),)
        for amount, purpose in attempts:
            if not amount or (worth and (amount > 0) != (quantity.amount > 0)):
                continue
            if not self._worth_an_order(operation, quantity, amount, most_bps):
                continue
            legs, proved = self._legs(operation, quantity, amount), amount + flying
            soon = self._free_soon(operation, legs)
            if soon:
                legs = [leg for leg in legs if not undoes(self._context.ledger, operation, leg[1], leg[2])]
            options = self._options(operation, legs, most_bps, purpose, proved)
            if worth and not soon and all(option.in_vain >= OTHER_TRIES for option in options):
                others = self._other_spots(operation, quantity, amount, {})
                options += self._options(operation, others, most_bps, purpose, proved)
            if options:
                # a venue that takes no order now (rate budget, pause after 429) would leave it open: others come first
                able = [option for option in options if self._can_place(option.row.spec.venue)]
                best = self._best(operation, able or options, amount if reduces_first else ZERO)
                if worth and amount != quantity.amount and abs(amount) - best.qty > abs(quantity.dust):
                    continue  # with what earlier ones left it fits the lot worse, and leaves more than it takes
                best.takes_dust = amount - quantity.amount
                if in_turn and purpose is Purpose.REPAIR and not self._tried(operation, best.leg):
                    best.purpose = Purpose.FLATTEN  # as planned: nothing is broken
                return best, True
        return None, worth

    def _options(
        self,
        operation: Operation,
        legs: list[tuple[int, LegPlan, Decimal]],
        most_bps: Mapping[InstrumentKind, Decimal],
        purpose: Purpose,
        proved: Decimal,
    ) -> list[Repair]:
        """Orders that could be sent now, and that leave no worst case behind them that is worse than now, when
        ``proved`` is unmatched by the fills so far."""
        found, empty = list[Repair](), tried_in_vain(self._context.ledger, operation)
        for leg, plan, part in legs:
            option = self._option(operation, leg, plan, part, most_bps[plan.kind], purpose)
            if isinstance(option, Obstacle):
                continue
            place = (plan.venue, plan.symbol)
            option.in_vain = empty.get(place, 0)
            ledger, signed = self._context.ledger, option.qty * int(option.side)
            if may_repair(ledger, operation, plan.base, proved, place, signed, option.reduces):
                found.append(option)
        return found

    def _other_spots(
        self, operation: Operation, quantity: UnmatchedQuantity, amount: Decimal, barred: dict[str, Obstacle]
    ) -> list[tuple[int, LegPlan, Decimal]]:
        """Other spot instruments of the pair, as legs: none where an order there would open what the hedge that is left
        must not; where others have ended a leg of the operation, only for coins that trades of ours have moved (what is
        left is reduced where it is). A contract elsewhere would open a position that nobody closes. Those that may take
        none go to ``barred``."""
        start = operation_start(operation, self._context.config.execution.numeraire)
        legs = [leg for leg in operation.record.legs if leg.base == quantity.asset and leg.quote == start]
        ledger = self._context.ledger
        if not legs:
            return []
        like = next((leg for leg in legs if leg.kind is InstrumentKind.SPOT), legs[0])  # some plans name futures first
        spot = msgspec.structs.replace(like, kind=InstrumentKind.SPOT)
        if own_side_only(ledger, operation):
            amount = moved_part(ledger, operation, spot, amount)
        if not amount or not may_leave(ledger, operation, spot, amount):
            return []
        if self._must_end(operation) and undoes(ledger, operation, spot, amount):
            return []
        known = {(leg.venue, leg.symbol) for leg in legs}
        rows = [self._context.instruments.find(leg.venue, leg.symbol) for leg in legs]
        pairs = {row.pair_id for row in rows if row is not None and row.tradable_pair}
        index = next(i for i, leg in enumerate(operation.record.legs) if leg is like)
        empty = tried_in_vain(self._context.ledger, operation)
        found: list[tuple[int, LegPlan, Decimal]] = []
        for row in self._context.instruments:
            spec = row.spec
            if spec.kind is not InstrumentKind.SPOT or row.pair_id not in pairs or (spec.venue, spec.symbol) in known:
                continue
            if (why := self.usable.barred(spec)) is not None:
                barred[f"{spec.venue} {spec.symbol}"] = why
            elif empty.get((spec.venue, spec.symbol), 0) < OTHER_TRIES:
                elsewhere = {"instrument_id": row.instrument_id, "venue": spec.venue, "symbol": spec.symbol}
                found.append((index, msgspec.structs.replace(spot, **elsewhere), amount))
        return found

    def _must_end(self, operation: Operation) -> bool:
        urgent, taking_over = self._urgent_bps(operation) > 0, self._context.taking_over or self.in_turn(operation)
        return must_end(self._context.ledger, operation, taking_over=taking_over, urgent=urgent)

    def waits_for_venue(self, operation: Operation) -> str:
        """The venue, and why it takes no such order now, for which a hedge that must leave waits: it is tried again
        when that is back, and needs no operator for it. "" where it waits for none."""
        exposure, dust = operation.exposure(), operation.moved_to_dust
        for leg in operation.record.legs if self._must_end(operation) else ():
            alone = exposure.get(leg.base, ZERO) - dust.get(leg.base, ZERO)
            if alone * int(leg.side) >= 0:
                continue  # its order would do nothing for what stands alone
            if (row := self._row_of(leg)) is None:
                return f"{leg.venue} {leg.symbol}: not in the catalogue"
            if not self._session_up(leg.venue):
                return f"{leg.venue} {leg.symbol}: its session is down"
            if not can_trade(row, leg.side):
                return f"{leg.venue} {leg.symbol}: it takes no {leg.side.name.lower()} order now"
            if unpriced(operation, leg) and self._living_book(row) is None:
                return f"{leg.venue} {leg.symbol}: no live book of it"
            unsettled = in_doubt(self._context.ledger, operation, leg, Decimal(-int(leg.side)))
            beside = leg.kind is not InstrumentKind.SPOT or self._sold_beside(operation, leg, alone, unsettled)
            if unsettled and not beside:
                return f"{unsettled[0].intent.venue} {leg.symbol}: an order of ours there is not settled yet"
        return ""

    def obstacles(self, operation: Operation) -> dict[str, Obstacle]:
        """Each instrument that could close what stands alone, and what keeps it from taking the order now; {} where one
        takes it."""
        ledger, execution, found = self._context.ledger, self._context.config.execution, dict[str, Obstacle]()
        for quantity in unmatched_quantities(operation, execution.numeraire, {}):
            if not (whole := quantity.amount):
                continue
            if own_side_only(ledger, operation):
                quantity = less_in_flight(ledger, operation, quantity)
            legs = self._legs(operation, quantity, quantity.amount)
            legs += self._other_spots(operation, quantity, quantity.amount, found)
            for leg, plan, part in legs:
                option = self._option(operation, leg, plan, part, execution.unwind_slippage_bps, Purpose.REPAIR)
                if isinstance(option, Repair):
                    place, signed = (plan.venue, plan.symbol), option.qty * int(option.side)
                    if may_repair(ledger, operation, plan.base, whole, place, signed, option.reduces):
                        return {}
                    first = "" if self.usable.asked_about(operation.operation_id) else BY_ITSELF
                    option = Obstacle("it could make worse what orders without an answer have done", first)
                found[f"{plan.venue} {plan.symbol}"] = option
        return found

    def why_none(self, operation: Operation) -> str:
        """That no venue takes an operation's repair, each with the reason."""
        where = "; ".join(f"{place}: {one.what}" for place, one in self.obstacles(operation).items())
        return "no venue takes the repair" + (f": {where}" if where else "")

    def before_approval(self, operation: Operation) -> str:
        """What has to be done before an operator's approval of its repairs can do anything; "" where nothing has."""
        firsts = dict.fromkeys(one.first for one in self.obstacles(operation).values())
        return "" if "" in firsts else " or ".join(firsts)

    def _free_soon(self, operation: Operation, legs: list[tuple[int, LegPlan, Decimal]]) -> bool:
        """Whether a leg on which an exit goes on waits for the answer to another order of ours there, due any time."""
        ledger = self._context.ledger
        return bool(operation.record.closes) and any(
            answer_expected(self._context, order)
            for _, leg, part in legs
            if leg.kind is InstrumentKind.SPOT and not undoes(ledger, operation, leg, part)
            for order in ledger.unsettled_of_symbol(leg.venue, leg.symbol)
        )

    def in_turn(self, operation: Operation) -> bool:
        """Whether the operation closes its hedge one leg after the other."""
        first = self._context.ledger.orders.get(operation.orders[0]) if operation.orders else None
        return first is not None and first.intent.purpose is Purpose.FLATTEN

    def _tried(self, operation: Operation, leg: int) -> bool:
        """Whether a leg of the operation has had an order."""
        return any(self._context.ledger.orders[name].intent.leg == leg for name in operation.orders)

    def _best(self, operation: Operation, options: list[Repair], completed: Decimal) -> Repair:
        """The best price; before it, that it was not tried in vain; before that, that it reduces what the hedge still
        holds of the sign of ``completed`` (0: no matter)."""

        def rank(option: Repair) -> tuple[bool, int, Decimal]:
            spec, leg = option.row.spec, operation.record.legs[option.leg]
            place = msgspec.structs.replace(leg, kind=spec.kind, venue=spec.venue, symbol=spec.symbol)
            held = group_holds(self._context.ledger, operation, place)
            return completed * held > 0, -option.in_vain, option.score

        return max(options, key=rank)

    def _legs(
        self, operation: Operation, quantity: UnmatchedQuantity, amount: Decimal
    ) -> list[tuple[int, LegPlan, Decimal]]:
        """Legs on which ``amount`` may be closed, and how much of it: all that trade the asset against the start asset,
        or only those that still hold some of the same sign, at most that much (a fee that was taken in base coins makes
        the amount a little larger than what is held)."""
        start = operation_start(operation, self._context.config.execution.numeraire)
        ledger = self._context.ledger
        reducing = own_side_only(ledger, operation)
        found: list[tuple[int, LegPlan, Decimal]] = []
        legs = list(enumerate(operation.record.legs))
        if reducing and operation.record.closes:
            legs += held_elsewhere(ledger, operation)
        for index, leg in legs:
            if leg.base != quantity.asset or leg.quote != start:
                continue
            if reducing:
                part = own_side_part(ledger, operation, leg, amount)
            elif self._must_end(operation):
                part = ending_part(ledger, operation, leg, amount)
            else:
                part = amount if may_leave(ledger, operation, leg, amount) else ZERO
            if part and (part == amount or amount == quantity.amount):  # dust is closed along with it whole, or not
                found.append((index, leg, part))
        if self._must_end(operation):  # what goes on with it comes first
            found = [leg for leg in found if not undoes(ledger, operation, leg[1], leg[2])] or found
        return found

    def _worth_an_order(
        self,
        operation: Operation,
        quantity: UnmatchedQuantity,
        amount: Decimal,
        most_bps: Mapping[InstrumentKind, Decimal],
    ) -> bool:
        """Whether any instrument of the operation takes an order of this size at the price that it would carry.

        True where the catalogue has none of them yet (a venue that answers late): their minima are not known, so the
        quantity must not be called dust.
        """
        side = OrderSide.SELL if amount > 0 else OrderSide.BUY
        legs = [(plan, part, self._row_of(plan)) for _, plan, part in self._legs(operation, quantity, amount)]
        if legs and all(row is None for _, _, row in legs):
            return True
        for plan, part, row in legs:
            if row is None:
                continue
            best, _ = self._price(row, plan, side, abs(part))
            price = min(best, bounded_price(best, side, most_bps[plan.kind], row.spec.tick))
            if is_tradable_qty(row, quantize_down(abs(part), row.spec.lot), price):
                return True
        return False

    def _option(
        self, operation: Operation, leg: int, plan: LegPlan, amount: Decimal, slippage_bps: Decimal, purpose: Purpose
    ) -> Repair | Obstacle:
        """The order that this leg's instrument could do now, or why it cannot."""
        ledger, row, place = self._context.ledger, self._row_of(plan), (plan.venue, plan.symbol)
        side, beyond = OrderSide.SELL if amount > 0 else OrderSide.BUY, undoes(ledger, operation, plan, amount)
        only_reduces = own_side_only(ledger, operation) and not (beyond or netted(ledger, operation, plan, amount))
        if row is None:
            return unlisted(*place)
        if not self._session_up(plan.venue):
            return Obstacle("its session is down")
        if not can_trade(row, side):
            return takes_none(row.spec, side)
        if self.usable.in_question(*place):
            return Obstacle("its steps or its status may be others than we know: they are being read anew")
        unsettled, futures = in_doubt(ledger, operation, plan, amount), row.spec.kind is InstrumentKind.PERPETUAL
        for order in () if self._sold_beside(operation, plan, amount, unsettled) else unsettled:  # it may still fill
            if stands_against(order, side) if only_reduces else not futures:
                asked = self.usable.asked_about(order.intent.operation_id)
                return in_doubt_there(order, operation.operation_id, asked=asked)
        view = self._living_book(row)
        if view is None and unpriced(operation, plan):
            return NO_BOOK
        if view is not None and best_price(view, side, row) is None:
            return NOBODY  # an order would come back empty, and a slow venue takes its time for that
        most_bps = self._context.config.execution.unwind_max_slippage_bps
        if slippage_bps > most_bps:
            slippage_bps = max(most_bps, ZERO if self._refused(operation, plan) else within_band(row, slippage_bps))
        best, expected = self._price(row, plan, side, abs(amount))
        price = self._collared_price(operation, plan, side, best, slippage_bps, row.spec.tick)
        gross, tif = gross_qty(row, side, abs(amount)), TimeInForce.IOC
        qty = quantize_down(gross, row.spec.lot)
        if only_reduces and slippage_bps <= most_bps and price is not None and shows_less(view, side, price, qty, row):
            tif, nearer_bps = TimeInForce.GTC, self._resting_bps(operation)
            price = self._collared_price(operation, plan, side, best, nearer_bps, row.spec.tick)
        if price is None:
            far = f"its price is more than {most_bps:g} bps from every other one of the pair"
            wider = "wait for a price there, or raise execution.unwind_max_slippage_bps (arb config reload)"
            return NO_BOOK if view is None else Obstacle(far, wider)
        if not is_tradable_qty(row, qty, min(best, price)):
            return Obstacle(f"{plain(qty)} {plan.base} is below its minimum", f"trade it by hand at {plan.venue}")
        asset, reserve = reservation(row, side, qty, price, self._context.config.detection.hedge.leverage)
        reducing = futures and only_shrinks(ledger, place, side, qty, after_all=only_reduces)
        if futures and not reducing and (only_reduces or unsettled):
            return Obstacle("its position may be gone")  # what only reduces cannot go through zero, whatever arrives
        usable = reserve if reducing else self._balances.usable(plan.venue, asset, reducing=True)
        if usable < reserve:
            if slippage_bps > most_bps:  # a nearer limit needs less of the balance
                return self._option(operation, leg, plan, amount, most_bps, purpose)
            short = f"{plain(usable)} {asset} are free there, {plain(reserve)} are wanted"
            part = amount * (qty / gross) * (usable / reserve)  # as many lots of it as the balance covers
            if part and (only_reduces or self._must_end(operation)):
                smaller = self._option(operation, leg, plan, part, slippage_bps, purpose)
                if isinstance(smaller, Repair):
                    return smaller
            return Obstacle(short, f"bring {asset} to {plan.venue} (arb balance)")
        fee, _ = fee_of(row, side, Decimal(1), expected)
        fee_quote = fee if row.spec.fee_rule is FeeAssetRule.QUOTE or side is OrderSide.SELL else fee * expected
        score = expected - fee_quote if side is OrderSide.SELL else -(expected + fee_quote)
        return Repair(row, leg, side, qty, price, purpose, asset, ZERO if reducing else reserve, score, reducing, tif)

    def _sold_beside(self, operation: Operation, plan: LegPlan, amount: Decimal, unsettled: Sequence[Order]) -> bool:
        """Whether an exit that must end sells its coins beside ``unsettled`` orders of other operations."""
        ends = self._context.taking_over or self.in_turn(operation) or operation.record.manual
        ends = ends and bool(operation.record.closes) and not undoes(self._context.ledger, operation, plan, amount)
        coins = plan.kind is InstrumentKind.SPOT and amount > 0 and bool(unsettled)
        place = (plan.venue, plan.symbol)
        return ends and coins and sold_beside(self._context, operation, place, plan.base, amount, unsettled)

    def _row_of(self, plan: LegPlan) -> InstrumentRow | None:
        row = self._context.instruments.find(plan.venue, plan.symbol)
        return None if row is None else self.usable.row(row)

    def _resting_bps(self, operation: Operation) -> Decimal:
        """How far from the best price an order that rests may be: it trades at its own limit, not at better
        prices. Twice as far after each one that did not close it."""
        orders = (self._context.ledger.orders[client_id] for client_id in operation.orders)
        before = sum(1 for order in orders if order.intent.tif is TimeInForce.GTC and order.settled)
        execution = self._context.config.execution
        return min(execution.unwind_max_slippage_bps, execution.unwind_slippage_bps * (1 << before))

    def _refused(self, operation: Operation, plan: LegPlan) -> bool:
        """Whether the venue has refused an order of this operation on this instrument: its limit may be why."""
        orders = (self._context.ledger.orders[client_id] for client_id in operation.orders)
        place = (plan.venue, plan.symbol)
        return any(o.state is OrderState.REJECTED and (o.intent.venue, o.intent.symbol) == place for o in orders)

    def _collared_price(
        self, operation: Operation, plan: LegPlan, side: OrderSide, best: Decimal, slippage_bps: Decimal, tick: Decimal
    ) -> Decimal | None:
        """Limit price of a repair, or None where ``best`` is too far from every other price of the pair.

        The limit is within ``slippage_bps`` of the best price, and within ``unwind_max_slippage_bps`` (or
        ``slippage_bps``, where that is more) of a reference: the highest (for a buy; the lowest for a sell) of the same
        pair's best prices on other venues whose books are not dead, and of the plan's price while it is younger than
        ``PLAN_PRICE_NS``. So a stub quote on one venue is not sold to, and a false quote elsewhere does not forbid a
        fair one. Where its own book is dead, the plan's price serves while it is young.
        """
        old = not 0 <= self._context.now.mono_ns - operation.started_mono_ns <= PLAN_PRICE_NS
        own = (plan.venue, plan.symbol)
        if old and self._living_best(self._context.instruments.find(*own), side) is None:
            return None
        references = [] if old or unpriced(operation, plan) else [plan.best_price]
        for row in self._context.instruments:
            spec = row.spec
            if (spec.base, spec.quote) == (plan.base, plan.quote) and (spec.venue, spec.symbol) != own:
                elsewhere = self._living_best(row, side)
                references += [] if elsewhere is None else [elsewhere]
        price = bounded_price(best, side, slippage_bps, tick)
        if references:
            reference = max(references) if side is OrderSide.BUY else min(references)
            most_bps = max(self._context.config.execution.unwind_max_slippage_bps, slippage_bps)
            limit = bounded_price(reference, side, most_bps, tick)
            if (best > limit) if side is OrderSide.BUY else (best < limit):
                return None
            price = min(price, limit) if side is OrderSide.BUY else max(price, limit)
        return price if price > 0 else None

    def _living_book(self, row: InstrumentRow) -> BookView | None:
        """An instrument's book; None where it is dead or may not be traded on."""
        view = self._context.market.book(row.instrument_id)
        dead_ns = self._context.config.detection.dead_after_ms * 1_000_000
        if view is None or not tradable(view, row):
            return None
        return None if self._context.now.mono_ns - view.proof_mono_ns > dead_ns else view

    def _living_best(self, row: InstrumentRow | None, side: OrderSide) -> Decimal | None:
        """Best price of an instrument's book; None where it is dead, untradable or empty on that side."""
        view = None if row is None else self._living_book(row)
        return None if view is None or row is None else best_price(view, side, row)

    def _price(self, row: InstrumentRow, plan: LegPlan, side: OrderSide, qty: Decimal) -> tuple[Decimal, Decimal]:
        """(best price, expected average price) by a book that is not dead, else the plan's price twice."""
        view = self._living_book(row)
        best = None if view is None else best_price(view, side, row)
        if view is None or best is None:
            return plan.best_price, plan.best_price
        return best, average_price(view, side, qty, row) or best
