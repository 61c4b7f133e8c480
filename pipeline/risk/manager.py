"""The risk manager: the gate, breakers that an operator re-arms, one reading of all metrics."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.bounds.unmatched import opened_mono_ns, unmatched_quantities
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import Entered, Now, Opportunity
from pipeline.execution.ledger import Operation
from pipeline.execution.market import UsdRates
from pipeline.execution.plan import Plan, Rejected
from pipeline.execution.records import BreakerRecord
from pipeline.model.enums import ArbitrageState
from pipeline.risk.breakers import ADOPTED_ONLY, venue_breaker
from pipeline.risk.exposure import RiskMetrics
from pipeline.risk.gate import Gate
from pipeline.risk.naked import NakedWatch

POLL_NS = 1_000_000_000
CIRCUIT_BREAKER_TRIGGERED = "CIRCUIT_BREAKER_TRIGGERED"
VENUE_FAULTS_MAX = 5  # unknown outcomes or refusals in a row before a venue is left alone
AlertCallback = Callable[[str, RiskMetrics], None]


class BreakerStatus(msgspec.Struct, frozen=True):
    """Tripped breakers by name, in order, and why each tripped."""

    triggered_breakers: tuple[str, ...]
    reasons: dict[str, str]


class RiskManager:
    """Everything that may stand in the way of an order. Re-arming is an operator's act, never a timer's."""

    def __init__(self, context: CoreContext, balances: BalanceMonitor, rates: UsdRates) -> None:
        self._context = context
        self._rates = rates
        self.gate = Gate(context, balances, rates)
        self.naked = NakedWatch(context, rates, lambda operation_id: self.gate.taken_over(operation_id))
        self.is_monitoring = False
        self.risk_alert_callback: AlertCallback | None = None
        self._next_poll_mono_ns = 0
        self._warned = False
        self._unknown: frozenset[str] = frozenset()  # what could not be valued at the last look
        self._known: frozenset[str] = frozenset()
        self._faults: dict[str, int] = {}
        self.breaker_triggers = 0  # of this run, those that it found tripped among them
        self.refusals = 0
        self.approvals = 0

    # --- the gate ---

    def validate_opportunity_risk(self, opportunity: Opportunity) -> Plan | Rejected:
        """Approved (a plan) or refused (the first reason)."""
        verdict = self.gate.judge(opportunity)
        if isinstance(verdict, Rejected):
            self.refusals += 1
            self.gate.note_refusal(verdict)
        else:
            self.approvals += 1
        return verdict

    def ask(self, opportunity: Opportunity) -> Plan | Rejected:
        """What the gate says of an operator's opportunity now; a question is no opportunity, and nothing is counted."""
        return self.gate.judge(opportunity)

    def entered(self, entered: Entered) -> None:
        """An entry that the jitted verdict approved: counted like one of the gate's own."""
        self.approvals += 1
        now_ns = self._context.now.mono_ns
        self.gate.entered(entered.operation.detect_mono_ns, entered.operation.opportunity_id)
        for intent in entered.intents:
            self.gate.sends.note(intent.venue, now_ns)

    def order_outcome(self, venue: str, good: bool, text: str = "") -> None:
        """Counts faults of a venue in a row: unknown outcomes, refusals of orders that our own checks passed."""
        if good:
            self._faults.pop(venue, None)
            return
        self._faults[venue] = self._faults.get(venue, 0) + 1
        if self._faults[venue] >= VENUE_FAULTS_MAX:
            self._context.trip(venue_breaker(venue), f"{self._faults[venue]} faults in a row, last: {text}"[:200])
            self._faults[venue] = 0

    def recall(self, now: Now) -> None:
        """Restores what the gate knew in the run before: orders of the last second, and times of our own fills."""
        gate, ledger = self.gate, self._context.ledger
        for intent_mono_ns, venue in sorted((o.intent_mono_ns, o.intent.venue) for o in ledger.orders.values()):
            gate.sends.recall(venue, intent_mono_ns, now.mono_ns)
        for operation in ledger.operations.values():
            for fill in operation.fills:
                gate.note_fill(fill.venue, fill.symbol, min(fill.recv_mono_ns, now.mono_ns), fill.venue_wall_ms)

    # --- breakers ---

    def get_circuit_breaker_status(self) -> BreakerStatus:
        """The tripped breakers in the order of their names, each with what tripped it."""
        breakers = self._context.ledger.breakers
        return BreakerStatus(tuple(sorted(breakers)), dict(breakers))

    def rearm(self, name: str, reason: str) -> bool:
        """An operator re-arms one breaker; False when it was not tripped, or what it found must be adopted first."""
        if name not in self._context.ledger.breakers:
            return False
        if name in ADOPTED_ONLY:
            return False
        self._context.record(BreakerRecord(name, False, reason))
        self.gate.rearmed(name)
        return True

    def force_emergency_shutdown(self, reason: str) -> None:
        """No new risk from here on, until an operator re-arms ``emergency``. Exits stay possible."""
        self._context.trip("emergency", reason)

    # --- monitoring ---

    def start_monitoring(self, callback: AlertCallback | None = None) -> None:
        """Polls once a second from ``tick``; ``callback(alert_type, metrics)`` hears of breakers and warnings."""
        self.risk_alert_callback = callback or self.risk_alert_callback
        self.is_monitoring = True

    def tick(self) -> None:
        """Unhedged time, exposure warning, breaker news: at most once a second, unhedged time at every call."""
        self._reducing()
        self.naked.tick()
        now_ns = self._context.now.mono_ns
        if not self.is_monitoring or now_ns < self._next_poll_mono_ns:
            return
        self._next_poll_mono_ns = now_ns + POLL_NS
        self._value_open()
        metrics = self.get_current_risk_metrics()
        warn_at = self._context.config.risk_limits.warn_exposure_usd
        above = metrics.total_exposure_usd > warn_at
        if above and not self._warned:
            self._context.alert(1, "exposure", f"{metrics.total_exposure_usd:.0f} USD open, warning from {warn_at}")
            self._call("HIGH_EXPOSURE", metrics)
        self._warned = above
        tripped = frozenset(self._context.ledger.breakers)
        self.breaker_triggers += len(tripped - self._known)
        if tripped - self._known:
            self._call(CIRCUIT_BREAKER_TRIGGERED, metrics)
        self._known = tripped

    def _value_open(self) -> None:
        """What is open is worth now; a loss beyond a limit trips its breaker, also where no entry asks."""
        context, worth = self._context, self.gate.worth
        worth.refresh()
        now = self.gate.exposure()
        rates = {f"no USD rate for {asset}" for asset in now.unvalued}  # said once, whatever has no worth by it
        unknown = {f"worth of {what} is not known: {why}" for what, why in worth.unknown.items() if why not in rates}
        texts = {f"{text}: no entries" for text in rates | unknown}
        for text in sorted(texts - self._unknown):
            context.alert(2, "exposure", text)
        self._unknown = frozenset(texts)
        loss = worth.loss_beyond(context.config.risk_limits)
        if loss is not None and worth.trips(loss):
            context.trip(loss.breaker, loss.text)

    def _call(self, alert_type: str, metrics: RiskMetrics) -> None:
        if self.risk_alert_callback is not None:
            self.risk_alert_callback(alert_type, metrics)

    def _reducing(self) -> None:
        """While an operation is broken for longer than the bound, nothing new is risked anywhere; not for one that an
        operator has taken over."""
        limit_ns = self._context.config.risk_limits.max_unhedged_ms * 1_000_000
        now_ns = self._context.now.mono_ns
        slow = ""
        for operation in self._context.ledger.open_operations.values():
            aged = now_ns - opened_mono_ns(self._context.ledger, operation) > limit_ns
            if (
                operation.state is ArbitrageState.RECOVERING
                and aged
                and operation.fills
                and not self.gate.taken_over(operation.operation_id)
                and self._has_exposure(operation)
            ):
                slow = operation.operation_id
        if slow and not self.gate.reducing:
            self._context.alert(2, "unhedged", f"operation {slow} not repaired within {limit_ns // 1_000_000} ms")
        self.gate.reducing = slow

    def _has_exposure(self, operation: Operation) -> bool:
        """Whether its proved exposure is more than a remainder. An order of unknown outcome is not proved: its worst
        case stays counted and its symbol blocked, but it stops no other pair."""
        ledger, instruments = self._context.ledger, self._context.instruments
        alone = len(ledger.open_operations) == 1
        for quantity in unmatched_quantities(
            operation, self._context.config.execution.numeraire, ledger.dust if alone else {}
        ):
            rate = self._rates.rate(quantity.asset)
            legs = operation.record.legs
            rows = [r for leg in legs if (r := instruments.find(leg.venue, leg.symbol)) is not None]
            least = [r.spec for r in rows if r.spec.base == quantity.asset]
            amount = abs(quantity.amount)
            if rate is None or not least or any(amount >= s.min_qty and amount * rate >= s.min_notional for s in least):
                return True
        return False

    # --- numbers ---

    def get_current_risk_metrics(self) -> RiskMetrics:
        """Exposure and P&L in USD as of the newest event; the day's P&L is 0 from UTC midnight until something is
        booked."""
        ledger, worth = self._context.ledger, self.gate.worth
        now = self.gate.exposure()
        return RiskMetrics(
            total_exposure_usd=now.total,
            open_exposure_usd=now.total - now.hedges - now.foreign,
            hedge_exposure_usd=now.hedges,
            foreign_exposure_usd=now.foreign,
            unknown_orders=len(ledger.unsettled),
            open_operations=len(ledger.open_operations),
            open_hedges=len(ledger.hedges),
            daily_realized_pnl=worth.realised_today(),
            unrealized_pnl=worth.unrealised,
            foreign_pnl=worth.foreign_today,
            day_loss=worth.day_loss(),
            total_loss=worth.total_loss(),
            unknown=tuple(f"{what}: {why}" for what, why in worth.unknown.items()),
            tripped_breakers=tuple(sorted(ledger.breakers)),
            orders_last_second=self.gate.sends.last_second(self._context.now.mono_ns),
        )

    def get_risk_statistics(self) -> dict[str, object]:
        """Counts since the start of the process, with the day's P&L and the exposure, in USD."""
        metrics = self.get_current_risk_metrics()
        return {
            "circuit_breaker_triggers": self.breaker_triggers,
            "daily_realized_pnl": metrics.daily_realized_pnl,
            "approvals": self.approvals,
            "refusals": self.refusals,
            "total_exposure_usd": metrics.total_exposure_usd,
        }
