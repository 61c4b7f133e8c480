"""Watches what fees are paid in: the coin that each venue tells against the configured one, and the stock of that coin
against what a day of trading takes, and what the next orders take.

Where the next orders may find none of it, their fees are plain: the catalogue is asked to count them so
(``short``, which the executor publishes), for edge, sizes and gate alike, until the stock is filled up.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from pipeline.execution.account_fees import AccountFees
from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.market import PPM, UsdRates
from pipeline.model.account_fees import FeeSwitch, switch_fault, true_fees
from pipeline.model.instruments import USD_COINS
from pipeline.model.structs import ZERO

LOOK_NS = 10_000_000_000
DAY_NS = Decimal(86_400_000_000_000)
SHORT_LOOK_NS = 1_000_000_000
NEXT_ORDERS = 10  # whose fees the stock must hold: what may leave before the rows count otherwise
FILLED_UP = 2  # times as much ends it
#: The executor's counter ``plain_fees.<venue>``: 1 while the venue's rows are to count plain fees, else 0. A run
#: has it from its first look at the venue's stock on; until then the value of the run before holds.
PLAIN_FEES = "plain_fees."
PACE_FROM_NS = 60_000_000_000  # a pace by less time says nothing


class FeeStock:
    """Alerts (a note) once when a stock falls below ``warn_usd``, or lasts fewer than ``warn_days`` at this run's pace;
    again after it was filled up."""

    def __init__(self, context: CoreContext, balances: BalanceMonitor, rates: UsdRates) -> None:
        self._context = context
        self._balances = balances
        self._rates = rates
        self._watched = {venue: fees.deduction for venue, fees in context.config.fees.items() if fees.deduction}
        self._reported: dict[str, str] = {}
        self.differences: dict[str, str] = {}  # venue -> how its fee coin differs from the configured one
        self._began: dict[str, tuple[int, Decimal]] = {}  # venue -> (since, fees paid in the coin until then)
        self._low: set[str] = set()
        self._looked_mono_ns = 0
        self._short_looked_mono_ns = 0
        self.short: dict[str, str] = {}  # venue whose next fees are plain, for want of the coin -> in words
        self.looked_at: set[str] = set()  # venues of which this life knows whether they are in it

    def reported(self, fee_coins: Mapping[str, str], fees_of_fills: AccountFees) -> None:
        """The coin that each venue takes fees in ("" = plain): one that is not the configured one is an alarm, its
        stock is the one that is watched, and fills are judged by it."""
        fees_of_fills.reported(fee_coins)
        for venue, coin in fee_coins.items():
            if self._reported.get(venue) == coin:
                continue
            self._reported[venue] = coin
            fees, reported = self._context.config.fees.get(venue), FeeSwitch(coin)
            self.differences.pop(venue, None)
            text = switch_fault(venue, fees, reported)
            if text:
                self.differences[venue] = text
                self._context.alert(1, "fee_switch", text)
            self._watched.pop(venue, None)
            true = true_fees(fees, reported)
            if true is not None and true.deduction is not None:
                self._watched[venue] = true.deduction
            else:
                self.looked_at.add(venue)

    def tick(self) -> None:
        """Looks at every stock: once a second whether the next orders find it, every 10 s whether it lasts."""
        now_ns = self._context.now.mono_ns
        if now_ns - self._short_looked_mono_ns >= SHORT_LOOK_NS:
            self._short_looked_mono_ns = now_ns
            self._look_ahead()
        if not self._watched or now_ns - self._looked_mono_ns < LOOK_NS:
            return
        self._looked_mono_ns = now_ns
        for venue in self._watched:
            text = self._shortage(venue, now_ns)
            if text and venue not in self._low:
                self._context.alert(0, "fee_stock", text)
            (self._low.add if text else self._low.discard)(venue)

    def _look_ahead(self) -> None:
        for venue in [venue for venue in self.short if venue not in self._watched]:
            del self.short[venue]
        for venue, deduction in self._watched.items():
            if not self._balances.reported(venue):
                continue
            coin = deduction.coin
            stock, least = self._stock(venue, coin), self._least(venue, coin)
            if stock and least is None:
                continue  # whether it is enough is not known now: what held so far stands
            self.looked_at.add(venue)
            least = least or ZERO
            if stock is None:
                continue
            if venue in self.short and stock and stock >= FILLED_UP * least:
                del self.short[venue]
                self._context.alert(0, "fee_stock", f"{venue}: {stock} {coin} for fees: they count discounted again")
            elif venue not in self.short and (not stock or stock < least):
                text = f"{venue}: {stock} {coin} for fees, the next {NEXT_ORDERS} orders take {least:.6f}"
                self.short[venue] = f"{text}: fees count undiscounted until it is filled up"
                self._context.alert(1, "fee_stock", self.short[venue])

    def _stock(self, venue: str, coin: str) -> Decimal | None:
        """Free coins; None where the venue has never had any here: they may lie in another wallet, which pays the fees.
        One that was listed once, or came here since by a trade or from outside, and is left out now is at zero. (Fees
        alone say nothing: that other wallet may have paid them.)"""
        stock, ledger, key = self._balances.get_balance(venue, coin), self._context.ledger, (venue, coin)
        books = ledger.accounts
        traded = books.flows.get(key, ZERO) + books.fees.get(key, ZERO)
        came = traded or books.external.get(key, ZERO) or any(ledger.baseline.get(key, ()))
        return ZERO if stock is None and came else stock

    def _least(self, venue: str, coin: str) -> Decimal | None:
        """What the largest next orders take of the coin; None while no book shows a price of it, 0 where none ever
        will."""
        config, rate = self._context.config, self._rates.rate(coin)
        rows = (row.spec for row in self._context.instruments)
        if not rate:
            return None if any(spec.base == coin and spec.quote in USD_COINS for spec in rows) else ZERO
        most_usd = min(config.detection.max_notional_usd, config.risk_limits.max_position_size_usd)
        fees = [row.spec.taker_fee_ppm for row in self._context.instruments if row.spec.venue == venue]
        return NEXT_ORDERS * most_usd * max(fees, default=0) / PPM / rate

    def _shortage(self, venue: str, now_ns: int) -> str:
        """What is short, "" when nothing is or no balance of the venue is known yet."""
        deduction = self._watched[venue]
        coin = deduction.coin
        if not self._balances.reported(venue):
            return ""
        stock = self._stock(venue, coin)
        if stock is None:
            return ""
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
