"""The gate: every limit, in a fixed order, right before an intent is written. The first refusal is the one counted.

Comparisons are written ``not (x <= limit)``: a number that is not comparable refuses. A limit that cannot be computed
(an asset without a rate) refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from decimal import Decimal

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import Opportunity
from pipeline.execution.market import UsdRates, can_enter
from pipeline.execution.plan import DirectionPrice, Plan, Planner, Rejected, malformed, no_price, of_other_rows
from pipeline.execution.records import FillRecord
from pipeline.model.enums import BalanceCheck, InstrumentKind, OpportunityType, OrderSide, Refusal
from pipeline.model.instruments import wallet_open
from pipeline.model.structs import ZERO, InstrumentSpec
from pipeline.model.trading_times import ending_text
from pipeline.risk.breakers import Symbol, blocking, fee_breaker, solve, venue_breaker
from pipeline.risk.exposure import Coin, Exposure, exposure, position_sizes
from pipeline.risk.margin_state import MarginState
from pipeline.risk.order_rate import SendTimes
from pipeline.risk.profit import least_profit
from pipeline.risk.repair_room import repairs_of, repairs_open
from pipeline.risk.scopes import Scopes, venues_of
from pipeline.risk.venue_clocks import VenueClocks
from pipeline.risk.venue_settings import VenueSettings
from pipeline.risk.worth import Worth
from shm.layout import BOOK

INTENT_BYTES = 16 * 1024  # more than one operation ever writes before its orders are sent
MALFORMED_MAX = 5  # malformed opportunities before the detector is declared mad
DUPLICATES_MAX = 100  # identical opportunities in a row before an operator has to look

UserCheck = Callable[[Plan], str]  # "" = no objection
OrderBudget = Callable[[str, int], bool]  # (venue, orders) -> whether the venue takes so many now


@dataclass(slots=True)
class _TotalRefused(Rejected):
    """The limit of everything that is open is in the way of ``wanted_usd`` more."""

    wanted_usd: Decimal


@dataclass(slots=True)
class _PositionRefused(Rejected):
    """The limit of a coin's position on a venue is in the way of ``wanted_usd`` more."""

    coin: Coin
    wanted_usd: Decimal


class Gate:
    """Approves or refuses. Holds only rates and counts; everything else is asked of the core context."""

    def __init__(self, context: CoreContext, balances: BalanceMonitor, rates: UsdRates) -> None:
        self._context = context
        self._balances = balances
        self._rates = rates
        self.direction_price_bps: DirectionPrice = no_price
        self._planner = self._new_planner()
        self.margin = MarginState(context, balances)
        self.worth = Worth(context, rates, self.margin)
        self.clocks = VenueClocks(context)
        self.settings = VenueSettings()
        self.sends = SendTimes()
        self._last = (0, -1)  # (detection time, id) of the newest opportunity; ids restart with the detector
        self._malformed = 0
        self._duplicates = 0
        self._cooldown: dict[int, int] = {}  # direction -> mono ns until which it is a duplicate
        self._blocked: dict[Symbol, tuple[int, int]] = {}  # (recv mono ns, venue wall ms) of our last fill there
        self.fills_noted: set[Symbol] = set()  # where the limits table has not seen the last fill yet
        self.ready = False
        self.reducing = ""  # why no new risk is taken while something old is repaired; "" = nothing
        self.reconciled: Container[str] = ()  # venues whose sessions stand and whose past is known
        self.doubtful: Callable[[InstrumentSpec], str] = _agrees  # why an account is in doubt; "" = it is not
        self.doubts: Callable[[], set[Symbol]] = set  # all of that: venue, and symbol or coin
        self.solve_of: Callable[[str], str] = solve  # what ends a tripped breaker by now
        self.user_check: UserCheck | None = None
        self.order_budget: OrderBudget | None = None  # the venues' own budgets, where somebody knows them
        self.taken_over: Callable[[str], bool] = lambda operation_id: False  # whether an operator looks after it
        self.leaves_a_hedge: Callable[[int], bool] = lambda direction_key: False  # whether it is an open hedge's exit
        self.closing: Callable[[], set[tuple[int, int]]] = set  # (instrument id, side) that shrink a hedge's contract
        self.leaves: Callable[[Plan], bool] = lambda plan: False  # whether it is taken as the exit of an open hedge
        self.position_refused: dict[Coin, tuple[int, Decimal]] = {}  # newest refusal by position: mono ns, USD wanted
        self.total_refused = (0, ZERO)  # newest refusal by max_total_exposure_usd: mono ns, USD wanted
        self.enabled_types = frozenset(context.config.enabled_opportunity_types)

    # --- events ---

    def reconfigure(self) -> None:
        """The core context's configuration has changed: what was computed from it is computed anew."""
        self._planner = self._new_planner()
        self.margin.reconfigured()

    def _new_planner(self) -> Planner:
        context = self._context
        price_of: DirectionPrice = lambda buy, sell: self.direction_price_bps(buy, sell)  # noqa: E731
        return Planner(context.config, context.instruments, context.market, price_of)

    def note_fill(self, venue: str, symbol: str, recv_mono_ns: int, venue_wall_ms: int) -> None:
        """Our own trade moved this book: no new intent until it is later. By name: instrument numbers last one run."""
        before = self.last_fill(venue, symbol)
        self._blocked[venue, symbol] = (max(before[0], recv_mono_ns), max(before[1], venue_wall_ms))
        self.fills_noted.add((venue, symbol))

    def filled(self, fill: FillRecord) -> None:
        """A fill of ours was booked, whatever way it came."""
        self.note_fill(fill.venue, fill.symbol, fill.recv_mono_ns, fill.venue_wall_ms)

    def last_fill(self, venue: str, symbol: str) -> tuple[int, int]:
        """(receive mono ns, venue wall ms) of our last fill there; zeros: none."""
        return self._blocked.get((venue, symbol), (0, 0))

    @property
    def newest(self) -> tuple[int, int]:
        """(detection time, id) of the newest opportunity that was judged."""
        return self._last

    def may_enter(self, direction_key: int, first: InstrumentSpec, second: InstrumentSpec) -> bool:
        """What the jitted verdict does not look at: the direction's own cooldown, the venues' budgets, room in the
        journal; and once more what stops everything, which may have been set since the limits table was refreshed."""
        if not self.ready or self.reducing or self.user_check is not None or self.in_cooldown(direction_key):
            return False
        ledger = self._context.ledger
        if ledger.breakers:
            instruments = ((first.venue, first.symbol), (second.venue, second.symbol))
            if blocking(ledger.breakers, instruments):
                return False
        operations = ledger.open_operations
        if operations and any(o.record.direction_key == direction_key for o in operations.values()):
            return False
        if first.venue == second.venue:
            room = self.has_room(first.venue, 2)
        else:
            room = self.has_room(first.venue, 1) and self.has_room(second.venue, 1)
        return room and self._context.journal.has_room(INTENT_BYTES)

    def entered(self, detect_mono_ns: int, opportunity_id: int) -> None:
        """An opportunity was approved by the jitted verdict."""
        self._last = (detect_mono_ns, opportunity_id)
        self._duplicates = 0

    def note_end(self, direction_key: int, cooldown_until_mono_ns: int) -> None:
        """An operation ended: no new intent of its direction until this time."""
        self._cooldown[direction_key] = cooldown_until_mono_ns

    def in_cooldown(self, direction_key: int) -> bool:
        """Whether a direction is still in its cooldown after an operation."""
        return self._context.now.mono_ns < self._cooldown.get(direction_key, 0)

    def note_refusal(self, refused: Rejected) -> None:
        """An opportunity was not taken for this reason."""
        if isinstance(refused, _PositionRefused):
            self.position_refused[refused.coin] = (self._context.now.mono_ns, refused.wanted_usd)
        elif isinstance(refused, _TotalRefused):
            self.total_refused = (self._context.now.mono_ns, refused.wanted_usd)

    def rearmed(self, name: str) -> None:
        """An operator has re-armed a breaker: what led to it is counted anew."""
        self._malformed = 0 if name == "malformed" else self._malformed
        self._duplicates = 0 if name == "duplicates" else self._duplicates

    # --- the judgement ---

    def judge(self, opportunity: Opportunity) -> Plan | Rejected:
        """The plan, or the first refusal. The gate remembers nothing of an operator's: it may be a question."""
        first = self._before_books(opportunity)
        if first is not None:
            return first
        if not opportunity.manual:
            self._last = (opportunity.detect_mono_ns, opportunity.opportunity_id)
        plan = self._planner.plan(opportunity, self._context.now.mono_ns)
        if isinstance(plan, Rejected):
            return plan
        return self._judged(plan) or plan

    def recheck(self, plan: Plan) -> Plan | Rejected:
        """``balance_check: strict``: the books again, and the money, after the venues have answered."""
        again = self._planner.plan(plan.opportunity, self._context.now.mono_ns)
        if isinstance(again, Rejected):
            return again
        opportunity = plan.opportunity
        return (
            self._permission()
            or self._stops(opportunity)
            or (None if opportunity.manual else self._cooldown_left(opportunity) or self._already_open(opportunity))
            or self._netting(opportunity)
            or self._places(opportunity)
            or self._judged(again, answered=True)
            or again
        )

    def _judged(self, plan: Plan, *, answered: bool = False) -> Rejected | None:
        """What stands against a plan on fresh books. Without risk checks that is no limit, but what we have, what we
        have just done and what can be written are looked at all the same."""
        checks = self._context.config.features.enable_risk_checks
        return (
            self._after_fill(plan)
            or (self._limits(plan) if checks else self._value(plan))
            or self._budgets(plan)
            or self._funds(plan, answered=answered)
            or self._user(plan)
        )

    def _permission(self) -> Rejected | None:
        context = self._context
        if not self.ready:
            return Rejected(Refusal.NOT_READY, "not reconciled")
        if context.halt.latched():
            return Rejected(Refusal.HALT_LATCH, "halted")
        if not context.now.mono_ns < context.halt.lease_expiry_mono_ns():
            return Rejected(Refusal.LEASE, "no lease")
        return None

    def _before_books(self, opportunity: Opportunity) -> Rejected | None:
        context = self._context
        refused = self._permission()
        if refused is not None:
            return refused
        fault = malformed(opportunity, context.instruments)
        if fault:
            self._malformed += not opportunity.manual  # what an operator asks says nothing of the detector
            if self._malformed >= MALFORMED_MAX and not opportunity.manual:
                context.trip("malformed", f"{self._malformed} malformed opportunities, last: {fault}")
            return Rejected(Refusal.MALFORMED, fault)
        other = of_other_rows(opportunity, context.instruments)
        if other:
            return Rejected(Refusal.HALTED, other)
        return (
            self._stops(opportunity)
            or self._future(opportunity)
            or self._duplicate(opportunity)
            or self._netting(opportunity)
            or self._stale(opportunity)
            or self._places(opportunity)
        )

    def _stops(self, opportunity: Opportunity) -> Rejected | None:
        """What stands in the way of every new risk, or of this kind, by our own decision."""
        if self.reducing:
            return Rejected(Refusal.BREAKER, f"reducing: {self.reducing}")
        if OpportunityType(opportunity.type) not in self.enabled_types:
            return Rejected(Refusal.DISABLED_TYPE, OpportunityType(opportunity.type).name)
        if self._context.ledger.breakers and self._context.config.features.enable_circuit_breakers:
            blocking = self._breaker_for(opportunity)
            if blocking:
                return Rejected(Refusal.BREAKER, blocking)
        return None

    def _cooldown_left(self, opportunity: Opportunity) -> Rejected | None:
        """Its direction waits after an operation."""
        key = opportunity.direction_key
        return Rejected(Refusal.COOLDOWN, f"direction {key}") if self.in_cooldown(key) else None

    def _already_open(self, opportunity: Opportunity) -> Rejected | None:
        """An operation of the same direction is under way."""
        key = opportunity.direction_key
        if any(o.record.direction_key == key for o in self._context.ledger.open_operations.values()):
            return Rejected(Refusal.DUPLICATE, f"direction {key} is under way")
        return None

    def _netting(self, opportunity: Opportunity) -> Rejected | None:
        """The opposite opportunity on a hedge's own two instruments is its exit, for two fees; never a second hedge."""
        if self.leaves_a_hedge(opportunity.direction_key):
            return Rejected(
                Refusal.NETS, f"direction {opportunity.direction_key} leaves an open hedge, which goes first"
            )
        return None

    def _future(self, opportunity: Opportunity) -> Rejected | None:
        """A detection that has not happened yet is no detection, and must not age those that come after it."""
        ahead_ns = opportunity.detect_mono_ns - self._context.now.mono_ns
        if ahead_ns > 0:
            return Rejected(Refusal.STALE_AT_EXECUTOR, f"detected {ahead_ns // 1000} us in the future")
        return None

    def _breaker_for(self, opportunity: Opportunity) -> str:
        """Name of a tripped breaker that stands in the way of this opportunity; "" when none does."""
        rows = [self._context.instruments.get(leg.instrument_id) for leg in opportunity.legs]
        return blocking(
            self._context.ledger.breakers, [(row.spec.venue, row.spec.symbol) for row in rows if row is not None]
        )

    def _duplicate(self, opportunity: Opportunity) -> Rejected | None:
        if opportunity.manual:
            return None
        if waits := self._cooldown_left(opportunity):  # a detector that was born anew does not know: it is not stopped
            return waits
        if (opportunity.detect_mono_ns, opportunity.opportunity_id) <= self._last:
            self._duplicates += 1
            if self._duplicates >= DUPLICATES_MAX:
                self._context.trip("duplicates", f"{self._duplicates} duplicate opportunities in a row")
            what = f"id {opportunity.opportunity_id} direction {opportunity.direction_key}"
            return Rejected(Refusal.DUPLICATE, what)
        self._duplicates = 0
        return self._already_open(opportunity)  # for as long as an operator takes: it says nothing of the detector

    def _stale(self, opportunity: Opportunity) -> Rejected | None:
        age_ns = self._context.now.mono_ns - opportunity.detect_mono_ns
        limit_ns = self._context.config.detection.max_age_to_trade_ms * 1_000_000
        if not opportunity.manual and not age_ns <= limit_ns:
            return Rejected(Refusal.STALE_AT_EXECUTOR, f"detected {age_ns // 1000} us ago")
        return None

    def _places(self, opportunity: Opportunity) -> Rejected | None:
        """Venues and instruments of the legs: sessions, blocks, quarantine, status, own unfinished orders."""
        context = self._context
        scopes = Scopes(context.config.risk_limits)
        for leg in opportunity.legs:
            row = context.instruments.get(leg.instrument_id)
            assert row is not None  # judged by malformed()
            spec = row.spec
            if context.halt.venue_blocked(row.venue_id):
                return Rejected(Refusal.VENUE_BLOCKED, spec.venue)
            if context.halt.instrument_blocked(row.instrument_id):
                return Rejected(Refusal.INSTRUMENT_BLOCKED, f"{spec.venue} {spec.symbol}")
            disabled = scopes.disabled(spec)
            if disabled:
                return Rejected(Refusal.INSTRUMENT_BLOCKED, f"{disabled} disabled by limits")
            if not row.tradable_pair and opportunity.type != OpportunityType.TRIANGULAR:
                return Rejected(Refusal.QUARANTINED, f"{spec.venue} {spec.symbol}: {row.quarantine_reason}")
            if not can_enter(row, OrderSide(leg.side)):
                return Rejected(Refusal.STATUS, ending_text(spec) if spec.ending else f"{spec.venue} {spec.symbol}")
            if not wallet_open(spec):  # the detector refuses it too; an operator's opportunity comes past the detector
                return Rejected(Refusal.STATUS, f"{spec.venue} {spec.symbol}: deposits or withdrawals are closed")
            if not self._balances.session_up(spec.venue) or spec.venue not in self.reconciled:
                return Rejected(Refusal.SESSION_DOWN, spec.venue)
            if next(context.ledger.unsettled_of_symbol(spec.venue, spec.symbol), None) is not None:
                return Rejected(Refusal.INSTRUMENT_BLOCKED, f"{spec.venue} {spec.symbol}: own order not settled")
            if clock := self.clocks.refusal(spec.venue):
                return Rejected(Refusal.CLOCK_SKEW, clock)
            if unshown := self.margin.rows.refusal(spec.venue):
                return Rejected(Refusal.BALANCE_UNPROVED, unshown)
            doubt = self.doubtful(spec)
            if doubt:
                return Rejected(Refusal.INSTRUMENT_BLOCKED, doubt)
        return None

    def stopped_alone(self, spec: InstrumentSpec) -> tuple[str, str]:
        """The breaker or the limit that stops this instrument or its venue alone, and what ends that; "" without."""
        for name in (venue_breaker(spec.venue), fee_breaker(spec.venue, spec.symbol)):
            if name in self._context.ledger.breakers:
                return f"breaker {name}", self.solve_of(name)
        disabled = Scopes(self._context.config.risk_limits).disabled(spec)
        if disabled:
            return f"risk_limits of {disabled} disable it", "enable it there (arb config reload)"
        return "", ""

    def _after_fill(self, plan: Plan) -> Rejected | None:
        for leg in plan.legs:
            fill_mono_ns, fill_wall_ms = self.last_fill(leg.row.spec.venue, leg.row.spec.symbol)
            words = leg.view.words
            venue_ms = words[BOOK.venue_wall_ns] // 1_000_000
            late = words[BOOK.recv_mono_ns] > fill_mono_ns and (venue_ms <= 0 or venue_ms > fill_wall_ms)
            if fill_mono_ns and not late:
                return Rejected(Refusal.NOT_AFTER_OWN_FILL, f"{leg.row.spec.venue} {leg.row.spec.symbol}")
        return None

    def _value(self, plan: Plan) -> Rejected | None:
        """Sets the USD notional of each leg, at its limit price, and the plan's: that of its largest leg."""
        for leg in plan.legs:
            rate = self.worth.rate(leg.row.spec.quote)
            if rate is None:
                return Rejected(Refusal.EXPOSURE_LIMIT, f"no USD rate for {leg.row.spec.quote}")
            leg.notional_usd = leg.qty * leg.limit * rate
        plan.notional_usd = max(leg.notional_usd for leg in plan.legs)
        return None

    def _limits(self, plan: Plan) -> Rejected | None:
        unvalued = self._value(plan)
        if unvalued is not None:
            return unvalued
        limits, ledger, now_ns = self._context.config.risk_limits, self._context.ledger, self._context.now.mono_ns
        refused = least_profit(plan, limits.min_profit_usd, self._rates)
        if refused is not None:
            return refused
        if self.leaves(plan):  # less is open after it, and no loss is begun
            return self._rate_limits(plan, now_ns)
        size, now = plan.notional_usd, self.exposure()
        if now.unvalued:
            return Rejected(Refusal.EXPOSURE_LIMIT, f"hedges in {', '.join(sorted(now.unvalued))}: no USD rate")
        for what, why in self.worth.unknown.items():
            return Rejected(Refusal.EXPOSURE_LIMIT, f"worth of {what} is not known: {why}")
        positions = _positions_after(plan, now)
        for (venue, coin), position in positions.items():
            if not position <= limits.max_position_size_usd:
                wanted = position - now.by_position.get((venue, coin), ZERO)
                text = f"{coin} on {venue}: {position:.2f} USD with this entry, at most {limits.max_position_size_usd}"
                return _PositionRefused(Refusal.POSITION_LIMIT, text, (venue, coin), wanted)
        if not len(ledger.open_operations) < limits.max_open_operations:
            return Rejected(Refusal.IN_FLIGHT_LIMIT, f"{len(ledger.open_operations)} operations open")
        if not now.total + size <= limits.max_total_exposure_usd:
            return _TotalRefused(Refusal.EXPOSURE_LIMIT, f"{now.total:.2f} + {size:.2f} USD", size)
        refused = Scopes(limits).refusal(plan, now, positions)
        if refused is not None:
            return refused
        loss = self.worth.loss_beyond(limits)
        if loss is not None:
            if self.worth.trips(loss):
                self._context.trip(loss.breaker, loss.text)
            return Rejected(loss.refusal, loss.text)
        return self._rate_limits(plan, now_ns)

    def exposure(self) -> Exposure:
        """Everything open, hedges and what others hold at mark."""
        self.worth.refresh(moved_only=True)
        found = exposure(self._context.ledger, self.worth.rate, self.worth.marks)
        self.worth.add_foreign(found)
        return found

    def _rate_limits(self, plan: Plan, now_ns: int) -> Rejected | None:
        limits = self._context.config.risk_limits
        wanted = len(plan.legs)
        if not self.sends.last_second(now_ns) + wanted <= limits.max_orders_per_s:
            return Rejected(Refusal.ORDER_RATE, f"{self.sends.last_second(now_ns)} orders in the last second")
        for venue in venues_of(plan):
            orders = sum(1 for leg in plan.legs if leg.row.spec.venue == venue)
            scoped = limits.per_venue.get(venue)
            if (
                scoped is not None
                and scoped.max_orders_per_s is not None
                and not self.sends.last_second(now_ns, venue) + orders <= scoped.max_orders_per_s
            ):
                return Rejected(Refusal.ORDER_RATE, f"{venue}: {scoped.max_orders_per_s} a second")
        return None

    def _budgets(self, plan: Plan) -> Rejected | None:
        """The venues' own limits on requests: no limit of ours, so they bind without risk checks as well."""
        for venue, orders in _orders_at(plan).items():
            if not self.has_room(venue, orders):
                text = f"{venue}: the venue's budget has no room for {orders} and the repairs that may be needed"
                return Rejected(Refusal.ORDER_RATE, text)
        return None

    def has_budget(self, venue: str, orders: int) -> bool:
        """Whether the venue's own limit on requests takes so many orders now."""
        return self.order_budget is None or self.order_budget(venue, orders)

    def has_room(self, venue: str, orders: int) -> bool:
        """Whether it takes so many orders of one plan now, and besides what may have to be repaired there."""
        repairs = repairs_of(orders) + repairs_open(self._context.ledger, venue, self.taken_over)
        return self.has_budget(venue, orders + repairs)

    def has_room_for(self, plan: Plan) -> bool:
        """The same of every venue of a plan."""
        return all(self.has_room(venue, orders) for venue, orders in _orders_at(plan).items())

    def has_budget_for(self, plan: Plan) -> bool:
        """Whether every venue of a plan takes its orders now, and a repair of its own: of what only reduces risk, which
        waits for nothing else that is open."""
        return all(self.has_budget(venue, orders + repairs_of(orders)) for venue, orders in _orders_at(plan).items())

    def _funds(self, plan: Plan, *, answered: bool = False) -> Rejected | None:
        """Balances, and the distance to liquidation that the entry leaves."""
        return self._money(plan, answered=answered) or self.margin.entry_refusal(plan)

    def _money(self, plan: Plan, *, answered: bool = False) -> Rejected | None:
        """Balances and the journal's room; under ``strict`` balances count only once the venues have answered."""
        if answered or self._balances.check is not BalanceCheck.STRICT:
            refusal, detail = self._balances.check_sufficient_balance(plan.needs(), self._context.now.mono_ns)
            if refusal is not Refusal.NONE:
                futures = {leg.row.spec.venue for leg in plan.legs if leg.row.spec.kind is InstrumentKind.PERPETUAL}
                if refusal is Refusal.BALANCE_SHORT and detail.split(" ", 1)[0] in futures:
                    refusal = Refusal.MARGIN_LIMIT
                return Rejected(refusal, detail)
        if not self._context.journal.has_room(INTENT_BYTES):
            return Rejected(Refusal.JOURNAL_FULL, "no room for an intent and its ending")
        return None

    def _user(self, plan: Plan) -> Rejected | None:
        objection = self.user_check(plan) if self.user_check is not None else ""
        return Rejected(Refusal.BREAKER, f"user: {objection}") if objection else None


def _agrees(spec: InstrumentSpec) -> str:
    """Where nobody compares accounts, none is in doubt."""
    return ""


def _positions_after(plan: Plan, now: Exposure) -> dict[Coin, Decimal]:
    """USD position of each coin and venue of a plan, with what is open there now."""
    legs = (((leg.row.spec.venue, leg.row.spec.base), leg.side, leg.notional_usd) for leg in plan.legs)
    return {coin: now.by_position.get(coin, ZERO) + size for coin, size in position_sizes(legs).items()}


def _orders_at(plan: Plan) -> dict[str, int]:
    """How many orders of a plan go to each venue, in the order of its legs."""
    found: dict[str, int] = {}
    for leg in plan.legs:
        found[leg.row.spec.venue] = found.get(leg.row.spec.venue, 0) + 1
    return found
