"""Balances with a proof of age, less what our own orders may still take.

A balance may be used in a decision when the venue's private stream is up and REST confirmed it no longer ago than the
refresh interval. Usable is the smaller of the stream's and REST's free balance, less the reservations:

* an unsettled order reserves its whole amount, the worst case;
* a settled order reserves what it really took, until the venue has reported a balance after it settled.

Credits are never assumed: what a fill brought in counts once the venue reports it. Nothing is estimated forward, so
the error is always on the side of trading less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from pipeline.execution.ledger import Ledger, Order
from pipeline.model.enums import BalanceCheck, InstrumentKind, OrderSide, Refusal
from pipeline.model.structs import ZERO, Balance

REST_OVERTAKES_NS = 2_000_000_000  # a stream without a message for this long while REST differs has missed one
STRICT_ANSWER_MAX_AGE_NS = 1_000_000_000


@dataclass(slots=True)
class _Row:
    stream_free: Decimal | None = None
    stream_total: Decimal | None = None
    stream_mono_ns: int = 0
    rest_free: Decimal | None = None
    rest_total: Decimal | None = None
    rest_mono_ns: int = 0


def spent(order: Order) -> Decimal:
    """Amount of the reserved asset that a settled order took (spot); futures margin is held by the venue itself."""
    intent = order.intent
    if not order.filled:
        return ZERO
    if intent.kind is InstrumentKind.SPOT and intent.side is OrderSide.SELL:
        return order.filled
    if intent.kind is InstrumentKind.SPOT and intent.price:
        share = order.quote_filled / (intent.qty * intent.price)
        return min(intent.reserve_amount, intent.reserve_amount * share)
    return intent.reserve_amount * order.filled / intent.qty


class BalanceMonitor:
    """Balances of every venue, how well each is proved, and what is reserved of it.

    The core feeds it with balances and sessions; every intent reserves what its order may take.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        refresh_interval_ms: int,
        check: BalanceCheck = BalanceCheck.CONFIRMED,
        alert: Callable[[str, str], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._interval_ns = refresh_interval_ms * 1_000_000
        self.check = check
        self._rows: dict[tuple[str, str], _Row] = {}
        self._up: dict[str, bool] = {}
        self._reservations: dict[str, tuple[tuple[str, str], Order]] = {}  # client_id -> (venue, asset), order
        self._by_key: dict[tuple[str, str], set[str]] = {}
        self._set_aside: dict[str, tuple[tuple[str, str], Decimal]] = {}  # name -> (venue, asset), amount
        self._thresholds: dict[tuple[str, str], Decimal] = {}
        self._alert = alert
        self.changed: set[tuple[str, str]] = set()  # (venue, asset) not yet copied to the limits table
        self.movements = 0  # how often what may be used of a balance has changed
        self.low: set[tuple[str, str]] = set()  # balances under their threshold
        self.is_monitoring = False

    def start_monitoring(self, thresholds: dict[tuple[str, str], Decimal] | None = None) -> None:
        """Begins to alert when a balance falls under its threshold ((venue, asset) -> free amount)."""
        self._thresholds = dict(thresholds or {})
        self.is_monitoring = True

    # --- evidence ---

    def session(self, venue: str, up: bool) -> None:
        """Private stream of a venue up or down; balances that it reported before it went down are no longer used."""
        self.movements += self._up.get(venue) is not up
        self._up[venue] = up
        if not up:
            for (name, _), row in self._rows.items():
                if name == venue:
                    row.stream_free = row.stream_total = None
            self.changed.update(key for key in self._rows if key[0] == venue)

    def session_up(self, venue: str) -> bool:
        """Whether order entry and private stream of a venue are up."""
        return self._up.get(venue, False)

    def on_balance(self, balance: Balance) -> None:
        """A balance by stream or REST. Older ones of the same source are ignored."""
        key = (balance.venue, balance.asset)
        row = self._rows.setdefault(key, _Row())
        before = self.get_balance(*key)
        self.changed.add(key)
        total = balance.free + balance.locked
        if balance.source == "rest":
            if balance.recv_mono_ns >= row.rest_mono_ns:
                row.rest_free, row.rest_total, row.rest_mono_ns = balance.free, total, balance.recv_mono_ns
        elif balance.recv_mono_ns >= row.stream_mono_ns:
            row.stream_free, row.stream_total, row.stream_mono_ns = balance.free, total, balance.recv_mono_ns
        self._release(key)
        self.movements += before != self.get_balance(*key)
        threshold = self._thresholds.get(key)
        if self.is_monitoring and threshold is not None:
            self._watch(balance, threshold)

    def _watch(self, balance: Balance, threshold: Decimal) -> None:
        """One alert when a balance falls under its threshold, the next only after it was above."""
        key = (balance.venue, balance.asset)
        if balance.free >= threshold:
            self.low.discard(key)
        elif key not in self.low:
            self.low.add(key)
            if self._alert is not None:
                self._alert("balance_low", f"{balance.venue} {balance.asset}: {balance.free} below {threshold}")

    def reserve_balance(self, order: Order) -> None:
        """Reserves what the order may take; called for every intent, and after a start for every unsettled order."""
        key = (order.intent.venue, order.intent.reserve_asset)
        self._reservations[order.client_id] = (key, order)
        self._by_key.setdefault(key, set()).add(order.client_id)
        self._moved(key)

    def set_aside(self, name: str, venue: str, asset: str, amount: Decimal) -> None:
        """Keeps ``amount`` of a balance from new risk until ``name`` is released; an operator's reservation."""
        self.release(name)
        self._set_aside[name] = ((venue, asset), amount)
        self._moved((venue, asset))

    def release(self, name: str) -> bool:
        """Ends a reservation of :meth:`set_aside`; False where there is none of that name."""
        known = self._set_aside.pop(name, None)
        if known is not None:
            self._moved(known[0])
        return known is not None

    @property
    def set_asides(self) -> dict[str, tuple[tuple[str, str], Decimal]]:
        """Reservations of :meth:`set_aside`: name -> ((venue, asset), amount)."""
        return dict(self._set_aside)

    def settled(self, order: Order) -> None:
        """An order settled: one that took nothing is free at once, others when the venue has reported a balance."""
        if order.client_id in self._reservations and not spent(order):
            self._drop(order.client_id)

    def _drop(self, client_id: str) -> None:
        key, _ = self._reservations.pop(client_id)
        self._by_key[key].discard(client_id)
        self._moved(key)

    def _moved(self, key: tuple[str, str]) -> None:
        self.changed.add(key)
        self.movements += 1

    def _release(self, key: tuple[str, str]) -> None:
        row = self._rows[key]
        newest = max(row.stream_mono_ns if row.stream_free is not None else 0, row.rest_mono_ns)
        for client_id in list(self._by_key.get(key, ())):
            order = self._reservations[client_id][1]
            if order.settled and newest > order.settled_mono_ns:
                self._drop(client_id)

    # --- answers ---

    def reserved(self, venue: str, asset: str, *, reducing: bool = False) -> Decimal:
        """Sum of the reservations on one balance; ``reducing``: without what is only kept from new risk."""
        total = ZERO if reducing else self.kept(venue, asset)
        for client_id in self._by_key.get((venue, asset), ()):
            order = self._reservations[client_id][1]
            total += spent(order) if order.settled else order.intent.reserve_amount
        return total

    def kept(self, venue: str, asset: str) -> Decimal:
        """Sum of what is set aside of one balance."""
        return sum((amount for key, amount in self._set_aside.values() if key == (venue, asset)), ZERO)

    def reported(self, venue: str) -> bool:
        """Whether the venue has reported any balance by REST, which lists all that there is."""
        return any(name == venue and row.rest_mono_ns for (name, _), row in self._rows.items())

    def get_balance(self, venue: str, asset: str) -> Decimal | None:
        """Free balance as reported, before reservations: the smaller of stream and REST; None when never reported."""
        row = self._rows.get((venue, asset))
        if row is None:
            return None
        if row.stream_free is None or row.rest_free is None:
            return row.rest_free if row.stream_free is None else row.stream_free
        lag_ns = row.rest_mono_ns - row.stream_mono_ns
        if lag_ns < 0:
            return row.stream_free
        return row.rest_free if lag_ns > REST_OVERTAKES_NS else min(row.stream_free, row.rest_free)

    def usable(self, venue: str, asset: str, *, reducing: bool = False) -> Decimal:
        """What a new order may use: the free balance less every reservation, never negative. One that is ``reducing``
        risk also uses what is set aside: an operator keeps that from new risk, not from the way out."""
        balance = self.get_balance(venue, asset)
        return ZERO if balance is None else max(ZERO, balance - self.reserved(venue, asset, reducing=reducing))

    def confirmed_age_ns(self, venue: str, asset: str, mono_ns: int) -> int | None:
        """Time since REST confirmed this balance; None when it never did."""
        row = self._rows.get((venue, asset))
        return None if row is None or not row.rest_mono_ns else mono_ns - row.rest_mono_ns

    def confirmed_mono_ns(self, venue: str, asset: str) -> int:
        """When REST confirmed this balance; 0 = never."""
        row = self._rows.get((venue, asset))
        return row.rest_mono_ns if row is not None else 0

    def holding(self) -> set[tuple[str, str]]:
        """Balances on which anything is reserved."""
        return {key for key, _ in self._reservations.values()}

    def proved(self, venue: str, asset: str, mono_ns: int) -> bool:
        """Whether this balance may be used in a decision now."""
        age_ns = self.confirmed_age_ns(venue, asset, mono_ns)
        if not self.session_up(venue) or age_ns is None:
            return False
        return age_ns <= (self._interval_ns if self.check is BalanceCheck.CONFIRMED else STRICT_ANSWER_MAX_AGE_NS)

    def check_sufficient_balance(self, needs: Iterable[tuple[str, str, Decimal]], mono_ns: int) -> tuple[Refusal, str]:
        """(NONE, "") when every (venue, asset, amount) is proved and covered; amounts on one balance are added up."""
        sums: dict[tuple[str, str], Decimal] = {}
        for venue, asset, amount in needs:
            sums[venue, asset] = sums.get((venue, asset), ZERO) + amount
        for (venue, asset), amount in sums.items():
            if not self.proved(venue, asset, mono_ns):
                age_ns = self.confirmed_age_ns(venue, asset, mono_ns)
                age = "never" if age_ns is None else f"{age_ns // 1_000_000} ms ago"
                stream = "up" if self.session_up(venue) else "down"
                return Refusal.BALANCE_UNPROVED, f"{venue} {asset}: confirmed {age}, stream {stream}"
            usable = self.usable(venue, asset)
            if not amount <= usable:
                return Refusal.BALANCE_SHORT, f"{venue} {asset}: {amount} needed, {usable} usable"
        return Refusal.NONE, ""

    def totals(self) -> dict[tuple[str, str], Decimal]:
        """(venue, asset) -> newest total (free and locked) that the venue reported."""
        found: dict[tuple[str, str], Decimal] = {}
        for key, row in self._rows.items():
            stream_newer = row.stream_total is not None and row.stream_mono_ns >= row.rest_mono_ns
            total = row.stream_total if stream_newer else row.rest_total
            if total is not None:
                found[key] = total
        return found

    def unreported(self, venue: str, asset: str) -> bool:
        """Whether an order has taken something of this balance and no balance reported since shows it."""
        return any(self._reservations[i][1].settled for i in self._by_key.get((venue, asset), ()))
