"""Naked notional x time: how much of the open operations' fills has stood alone, and for how long.

``max_unhedged_ms`` bounds the time of one broken operation, whatever it is worth. This bounds worth x time over all
that is open at once, in USD x seconds: a large leg trips it sooner than a small one, and several at once add up. It is
a function of the ledger's fills, so a restart forgets nothing; what has been repaired counts no more.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from pipeline.execution.bounds.unmatched import opened_mono_ns, operation_start, unmatched_quantities
from pipeline.execution.core_context import CoreContext
from pipeline.execution.ledger import Operation
from pipeline.execution.market import UsdRates
from pipeline.model.enums import ArbitrageState
from pipeline.model.structs import ZERO
from pipeline.model.units import NS_PER_S
from pipeline.risk.breakers import NAKED


def naked_usd_s(operation: Operation, asset: str, usd: Decimal, since_ns: int, until_ns: int) -> Decimal:
    """USD x seconds for which the fills of an operation left ``asset`` unmatched between two moments (monotonic ns).

    ``usd``: worth of one coin. A fill counts from when we heard of it.
    """
    net = ZERO
    area = ZERO
    at_ns = since_ns
    for fill in sorted((f for f in operation.fills if f.base == asset), key=lambda fill: fill.recv_mono_ns):
        heard_ns = min(max(fill.recv_mono_ns, at_ns), until_ns)
        area += abs(net) * (heard_ns - at_ns)
        at_ns, net = heard_ns, net + fill.qty * int(fill.side)
    area += abs(net) * max(0, until_ns - at_ns)
    return area * usd / NS_PER_S


class NakedWatch:
    """``usd_s``: what the operations that are broken now amount to. ``taken_over``: operations that an operator looks
    after: they do not count."""

    def __init__(self, context: CoreContext, rates: UsdRates, taken_over: Callable[[str], bool]) -> None:
        self._context = context
        self._rates = rates
        self._taken_over = taken_over
        self._since_ns = 0
        self.usd_s = ZERO

    def begin_anew(self) -> None:
        """The host was booted: stamps of before do not compare."""
        self._since_ns = self._context.now.mono_ns

    def tick(self) -> None:
        """Adds up what is open; trips the breaker above ``max_naked_usd_s``."""
        found, worst = ZERO, ""
        for name, operation in self._context.ledger.open_operations.items():
            if operation.state is ArbitrageState.RECOVERING and operation.fills and not self._taken_over(name):
                amount = self._of(operation)
                found += amount
                worst = worst or name
        self.usd_s = found
        limit = self._context.config.naked_usd_s
        if not found <= limit:
            self._context.trip(NAKED, f"{found:.0f} USD x s unmatched, at most {limit}; operation {worst} among them")

    def _of(self, operation: Operation) -> Decimal:
        numeraire = self._context.config.execution.numeraire
        start = operation_start(operation, numeraire)
        now_ns, total = self._context.now.mono_ns, ZERO
        ledger = self._context.ledger
        since_ns = max(self._since_ns, ledger.rearmed_mono_ns.get(NAKED, 0))  # a re-arm: counted anew
        since_ns = max(since_ns, opened_mono_ns(ledger, operation))  # until then its remainder was listed as dust
        for quantity in unmatched_quantities(operation, numeraire, {}):
            legs = [leg for leg in operation.record.legs if (leg.base, leg.quote) == (quantity.asset, start)]
            if legs:
                rate, largest = self._rates.rate(start), max(leg.qty for leg in legs)
                usd = operation.record.notional_usd / largest if rate is None else legs[0].best_price * rate
                total += naked_usd_s(operation, quantity.asset, usd, since_ns, now_ns)
        return total
