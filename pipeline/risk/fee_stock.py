"""Watches what fees are paid in: the coin that each venue tells against the configured one, and the stock of that coin
against what a day of trading takes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from pipeline.execution.account_fees import AccountFees
from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.market import UsdRates
from pipeline.model.account_fees import FeeSwitch, switch_fault, true_fees
from pipeline.model.structs import ZERO

LOOK_NS = 10_000_000_000
DAY_NS = Decimal(86_400_000_000_000)
PACE_FROM_NS = 60_000_000_000  # a pace by less time says nothing


class FeeStock:
    """Alerts (a note) once when a stock falls below ``warn_usd``, or lasts fewer than ``warn_days`` at this run's pace;
    again after it was filled up."""

    def __init__(self, context: CoreContext, balances: BalanceMonitor, rates: UsdRates) -> None:
        self._context = context
        self._balances = balances
        self._rates = rates
        self._watched = {venue: fees.deduction for venue, fees in context.config.fees.items() if fees.deduction}
        self._told: dict[str, str] = {}
        self.differences: dict[str, str] = {}  # venue -> how its fee coin differs from the configured one
        self._began: dict[str, tuple[int, Decimal]] = {}  # venue -> (since, fees paid in the coin until then)
        self._low: set[str] = set()
        self._looked_mono_ns = 0

    def told(self, fee_coins: Mapping[str, str], fees_of_fills: AccountFees) -> None:
        """The coin that each venue takes fees in ("" = plain): one that is not the configured one is an alarm, its
        stock is the one that is watched, and fills are judged by it."""
        fees_of_fills.told(fee_coins)
        for venue, coin in fee_coins.items():
            if self._told.get(venue) == coin:
                continue
            self._told[venue] = coin
            fees, told = self._context.config.fees.get(venue), FeeSwitch(coin)
            self.differences.pop(venue, None)
            text = switch_fault(venue, fees, told)
            if text:
                self.differences[venue] = text
                self._context.alert(1, "fee_switch", text)
            self._watched.pop(venue, None)
            true = true_fees(fees, told)
            if true is not None and true.deduction is not None:
                self._watched[venue] = true.deduction

    def tick(self) -> None:
        """Looks at every stock, every 10 s at most."""
        now_ns = self._context.now.mono_ns
        if not self._watched or now_ns - self._looked_mono_ns < LOOK_NS:
            return
        self._looked_mono_ns = now_ns
        for venue in self._watched:
            text = self._shortage(venue, now_ns)
            if text and venue not in self._low:
                self._context.alert(0, "fee_stock", text)
            (self._low.add if text else self._low.discard)(venue)

    def _shortage(self, venue: str, now_ns: int) -> str:
        """What is short, "" when nothing is or the venue has not told a balance yet."""
        deduction = self._watched[venue]
        coin = deduction.coin
        if not self._balances.reported(venue):
            return ""
        stock = self._balances.get_balance(venue, coin) or ZERO
        paid = self._context.ledger.accounts.fees.get((venue, coin), ZERO)
        since_ns, before = self._began.setdefault(venue, (now_ns, paid))
        rate = self._rates.rate(coin)
        if not stock:
            return f"{venue}: no {coin} left for fees: they are taken undiscounted, in the plain asset"
        if rate is not None and stock * rate < deduction.warn_usd:
            return f"{venue}: {stock} {coin} for fees, worth {stock * rate:.2f} USD, below {deduction.warn_usd}"
        if now_ns - since_ns >= PACE_FROM_NS and paid > before:
            days = stock / (paid - before) * (now_ns - since_ns) / DAY_NS
            if days < deduction.warn_days:
                return f"{venue}: {stock} {coin} for fees last {days:.2f} days, fewer than {deduction.warn_days}"
        return ""
