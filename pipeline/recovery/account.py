"""Balances and positions as the venues state them, compared with the ledger.

A baseline is a balance or position that was read while nothing of ours could be moving it; from there on the ledger
counts our own fills and funding. What differs was moved by something else: a transfer, a liquidation, another user of
the account. The same comparison is the third condition of a negative proof (:meth:`AccountCheck.agrees`).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import SweepAnswer
from pipeline.execution.ledger import Order
from pipeline.execution.records import BalanceRecord, ExternalRecord, PositionRecord
from pipeline.model.enums import InstrumentKind
from pipeline.model.structs import ZERO, Balance, Position

MISMATCHES_MAX = 3  # account readings in a row that disagree with the ledger before it is called external


class AccountCheck:
    """Keeps the baselines and compares what venues state with the ledger.

    ``suspect(venue, asset or symbol)`` is called one reading before a difference is recorded as external: perhaps a
    fill of our own is missing.
    """

    def __init__(self, context: CoreContext, balances: BalanceMonitor, suspect: Callable[[str, str], None]) -> None:
        self._context = context
        self._balances = balances
        self._suspect = suspect
        self._mismatches: dict[tuple[str, str], tuple[Decimal, int]] = {}

    def set_baseline(self, answer: SweepAnswer, *, fresh: bool) -> None:
        """Takes new baselines from a complete sweep; a difference to what the ledger expects is recorded as external.

        ``fresh``: the sweep is the first complete one since the venue's session came up.
        """
        ledger = self._context.ledger
        moving = self._moving(answer.venue)

        def still(what: str) -> bool:
            """Whether nothing of ours can have moved it between the venue's reading and our own count."""
            return what not in moving and ledger.moved_mono_ns.get((answer.venue, what), -1) < answer.began_mono_ns

        for balance in (*answer.balances, *self._unlisted(answer)):
            key = (balance.venue, balance.asset)
            base = ledger.baseline.get(key)
            if not still(balance.asset) or (base is not None and not fresh):
                continue  # a new baseline would hide what an unknown order did, or count a fill twice or never
            if base is not None:
                moved = ledger.accounts.flows.get(key, ZERO) - base[1]
                off = balance.free + balance.locked - base[0] - moved
                if off and self._is_spot(balance.venue):
                    detail = f"{balance.asset} differs by {off} from the ledger"
                    self._context.record(ExternalRecord(balance.venue, "balance", detail))
                    self._context.alert(1, "external", f"{balance.venue} {detail}")
            self._context.record(
                BalanceRecord(
                    balance.venue, balance.asset, balance.free, balance.locked, "reconcile", balance.recv_mono_ns
                )
            )
        if not self._is_spot(answer.venue):
            self._set_positions(answer, still, fresh=fresh)

    def _set_positions(self, answer: SweepAnswer, still: Callable[[str], bool], *, fresh: bool) -> None:
        """The same for positions; the venue's list is complete, so every symbol that it leaves out is at zero.

        Offsets to our own fills are in the journal, so a position that changed while no executor ran is noticed.
        """
        ledger, venue = self._context.ledger, answer.venue
        listed = {p.symbol: p for p in answer.positions}
        for symbol in sorted({*self._context.instruments.symbols_of(venue), *listed}):
            known = ledger.position_offsets.get((venue, symbol))
            expected, position = ledger.accounts.futures_qty(venue, symbol), listed.get(symbol)
            qty, entry = (position.qty, position.entry_price) if position is not None else (ZERO, ZERO)
            baseline = still(symbol) and (known is None or fresh)
            if not baseline and not (fresh and (qty or expected)):
                continue
            off = qty - expected
            if baseline and known is not None and off != known:
                self._external(venue, "position", f"{symbol} differs by {off - known} from the ledger", trip=True)
            if not baseline or off != known or qty:
                now_ns = self._context.now.mono_ns
                self._context.record(PositionRecord(venue, symbol, qty, expected, entry, now_ns, baseline))

    def _external(self, venue: str, what: str, detail: str, *, trip: bool = False) -> None:
        """Something moved that no intent of ours explains."""
        self._context.record(ExternalRecord(venue, what, detail))
        self._context.alert(2, "external", f"{venue} {detail}")
        if trip:  # liquidation, ADL, another user of the account: nothing new before an operator decided
            self._context.trip(f"venue.{venue}", detail)

    def _moving(self, venue: str) -> set[str]:
        """Assets and symbols that an unsettled order may have moved while its fills are not known yet."""
        intents = [order.intent for order in self._context.ledger.unsettled.values() if order.intent.venue == venue]
        return {what for intent in intents for what in (intent.base, intent.quote, intent.symbol)}

    def _unlisted(self, answer: SweepAnswer) -> list[Balance]:
        """Zero balances that venues leave out of their lists: base assets traded there, and assets that had a balance
        at the last baseline."""
        listed = {balance.asset for balance in answer.balances}
        bases = {r.spec.base for r in self._context.instruments if r.spec.venue == answer.venue}
        bases = bases if self._is_spot(answer.venue) else set()
        nonzero = {
            asset
            for (venue, asset), (total, _) in self._context.ledger.baseline.items()
            if venue == answer.venue and total
        }
        fresh = {asset for asset in bases if (answer.venue, asset) not in self._context.ledger.baseline}
        return [
            Balance(
                venue=answer.venue,
                asset=asset,
                free=ZERO,
                locked=ZERO,
                recv_mono_ns=answer.began_mono_ns,
                source="rest",
            )
            for asset in sorted((fresh | nonzero) - listed)
        ]

    def _is_spot(self, venue: str) -> bool:
        return all(r.spec.kind is InstrumentKind.SPOT for r in self._context.instruments if r.spec.venue == venue)

    def agrees(self, order: Order, answer: SweepAnswer) -> bool:
        """Third condition of a negative proof: balance or position is what the ledger expects without the order.

        True as well where no baseline is known.
        """
        intent, ledger = order.intent, self._context.ledger
        if intent.kind is InstrumentKind.PERPETUAL:
            offset = ledger.position_offsets.get((intent.venue, intent.symbol))
            if offset is None:
                return True
            position = next((p.qty for p in answer.positions if p.symbol == intent.symbol), ZERO)
            return position == ledger.accounts.futures_qty(intent.venue, intent.symbol) + offset
        key = (intent.venue, intent.base)
        base = ledger.baseline.get(key)
        if base is None:
            return True
        reported = sum((b.free + b.locked for b in answer.balances if b.asset == intent.base), ZERO)
        moved = ledger.accounts.flows.get(key, ZERO) - base[1]
        return reported == base[0] + moved

    # --- the account's own movements ---

    def on_account(self, balances: tuple[Balance, ...], positions: tuple[Position, ...], venues: set[str]) -> None:
        """Compares what REST confirms with the ledger; one difference ``MISMATCHES_MAX`` times in a row is no race.

        ``venues``: futures venues whose position list is complete.
        """
        moving = {venue: self._moving(venue) for venue in {balance.venue for balance in balances}}
        for balance in balances:
            key = (balance.venue, balance.asset)
            if self._is_spot(balance.venue):
                self._note_difference(
                    *key, None if balance.asset in moving[balance.venue] else self._balances.unexplained(*key)
                )
        listed = {(p.venue, p.symbol): p.qty for p in positions}
        for (venue, symbol), offset in self._context.ledger.position_offsets.items():
            row = self._context.instruments.find(venue, symbol)
            if venue not in venues or row is None:
                continue
            if (
                not offset
                and (venue, symbol) not in listed
                and not self._context.ledger.accounts.futures_qty(venue, symbol)
            ):
                self._mismatches.pop((venue, symbol), None)
                continue
            busy = next(self._context.ledger.unsettled_of_symbol(venue, symbol), None) is not None
            off = listed.get((venue, symbol), ZERO) - self._context.ledger.accounts.futures_qty(venue, symbol) - offset
            self._note_difference(venue, symbol, None if busy else off, trip=True)

    def _note_difference(self, venue: str, what: str, off: Decimal | None, *, trip: bool = False) -> None:
        key = (venue, what)
        if not off:
            self._mismatches.pop(key, None)
            return
        before, times = self._mismatches.get(key, (off, 0))
        times = times + 1 if off == before else 1  # readings that race our own fills differ from one to the next
        self._mismatches[key] = (off, times)
        if times == MISMATCHES_MAX - 1:
            self._suspect(venue, what)
        if times == MISMATCHES_MAX:
            self._external(venue, "account", f"{what} differs by {off} from the ledger", trip=trip)
