"""Futures positions as their venues last showed them, and what they must be by now where no row says it.

A row that is too old, that a venue did not send, or that has no mark price tells nothing of a distance to liquidation.
Then the mark is the mid of our own live book, the quantity is the ledger's, and the margin is what was known last: in
proportion where the position has shrunk, with what was added since, and the configured share of what is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.hedging.margin_cuts import live_book
from pipeline.execution.market import mid_price
from pipeline.model.enums import InstrumentKind, Mode
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO, Position

OLD_AFTER_NS = 2_000_000_000  # rows come twice in a refresh interval; two of them may be lost
MISSING_AFTER_NS = 5_000_000_000
Key = tuple[str, str]  # venue and symbol


class PositionRows:
    """Fed with every complete position list. ``old()``: contracts that no row tells of; ``estimate(key)``: such a
    position by now."""

    def __init__(self, context: CoreContext, balances: BalanceMonitor) -> None:
        self._context = context
        self._balances = balances
        self._rows: dict[Key, Position] = {}  # newest row of each contract that is held, moved by margin added since
        self._listed_mono_ns: dict[str, int] = {}  # futures venue -> its newest complete list, or our first look
        self._shown: set[str] = set()  # venues that have sent a list in this run
        self._moved_mono_ns: dict[Key, int] = {}  # rows that we have moved by added margin since: when
        self._freed: dict[Key, Decimal] = {}  # of those: free balance that came (or, below 0, went) until then

    # --- what venues say ---

    def take(self, positions: Iterable[Position], listed: Mapping[str, int], unreadable: Iterable[Key]) -> None:
        """Complete lists of the venues ``listed`` (-> when, mono ns), but for the ``unreadable`` rows. A row that we
        have moved by added margin since a list was read stays: the list does not show that margin."""
        held = set(unreadable)
        held |= {key for key, at_ns in self._moved_mono_ns.items() if at_ns > listed.get(key[0], at_ns)}
        self._rows = {key: row for key, row in self._rows.items() if key[0] not in listed or key in held}
        self._listed_mono_ns.update(listed)
        self._shown.update(listed)
        for row in positions:
            key = (row.venue, row.symbol)
            if row.venue not in listed or not row.qty:
                continue
            if row.recv_mono_ns > self._moved_mono_ns.get(key, -1) or key not in self._rows:
                self._rows[key] = row
                self._moved_mono_ns.pop(key, None)
                self._freed.pop(key, None)
        for key in self._moved_mono_ns.keys() - self._rows.keys():  # flat: nothing of it is ours any more
            del self._moved_mono_ns[key]
            self._freed.pop(key, None)

    def added(self, key: Key, amount: Decimal) -> None:
        """The venue has moved free balance into a position's margin; no row shows it yet."""
        last, qty = self._rows.get(key), self._context.ledger.expected_position(*key)
        if last is None or last.qty * qty <= 0:
            return
        row = self._context.instruments.find(*key)
        mark = (None if row is None else self.mark(row)) or last.mark_price or last.entry_price
        self._freed[key] = self._freed.get(key, ZERO) + _released(last, qty, mark) - amount
        moved = self._since(last, qty, mark)
        self._rows[key] = msgspec.structs.replace(
            moved, margin=moved.margin + amount, liquidation_price=None, recv_mono_ns=last.recv_mono_ns
        )
        self._moved_mono_ns[key] = self._context.now.mono_ns

    # --- how old they are ---

    def missing(self) -> dict[str, int]:
        """Futures venues whose positions nobody has shown for ``MISSING_AFTER_NS``: -> for how long, ns."""
        now_ns, bound_ns = self._context.now.mono_ns, self._bound_ns(MISSING_AFTER_NS)
        return {
            venue: now_ns - at_ns
            for venue in self._venues()
            if now_ns - (at_ns := self._listed_mono_ns.setdefault(venue, now_ns)) > bound_ns
        }

    def refusal(self, venue: str) -> str:
        """Why no entry may be made at a venue; "" where its positions are shown."""
        at_ns = self._listed_mono_ns.get(venue)
        age_ns = 0 if at_ns is None else self._context.now.mono_ns - at_ns
        if not age_ns > self._bound_ns(MISSING_AFTER_NS):
            return ""
        return f"{venue}: no account rows for {age_ns // 1_000_000_000} s"

    def shown_until(self) -> dict[str, int]:
        """Futures venues that list positions: until when (mono ns) entries may be made there without a newer list."""
        bound_ns = self._bound_ns(MISSING_AFTER_NS)
        return {venue: at_ns + bound_ns for venue, at_ns in self._listed_mono_ns.items()}

    def old(self) -> list[Key]:
        """Contracts of open hedges, or that a row showed as held, of which no row with a mark tells by now."""
        now_ns, ledger, bound_ns = self._context.now.mono_ns, self._context.ledger, self._bound_ns(OLD_AFTER_NS)
        if self._context.config.mode is Mode.PAPER:
            return []  # its accounts are our own: they have no margin to run out of
        hedged = {(hedge.futures_venue, hedge.futures_symbol) for hedge in ledger.hedges.values()}
        found = []
        for key in sorted(hedged | self._rows.keys()):
            if not ledger.expected_position(*key):
                continue
            row, listed_ns = self._rows.get(key), self._listed_mono_ns.setdefault(key[0], now_ns)
            if row is not None and not row.margin and not row.liquidation_price and row.mark_price:
                continue  # this venue reports no margin: nothing to watch
            seen_ns = listed_ns if row is None else row.recv_mono_ns if row.mark_price else 0
            if now_ns - seen_ns > bound_ns:
                found.append(key)
        return found

    def _bound_ns(self, least_ns: int) -> int:
        return max(least_ns, 2 * self._context.config.execution.balance_refresh_interval_ms * 1_000_000)

    def _venues(self) -> set[str]:
        rows = self._context.instruments
        return {row.spec.venue for row in rows if row.spec.kind is InstrumentKind.PERPETUAL}

    # --- what they must be ---

    def mark(self, row: InstrumentRow) -> Decimal | None:
        """The mid of our own live book."""
        view = live_book(self._context, row)
        return None if view is None else mid_price(view, row)

    def estimate(self, key: Key) -> Position | None:
        """A position by now, without its row; None where it is flat, or no live book gives a mark."""
        row = self._context.instruments.find(*key)
        qty = self._context.ledger.expected_position(*key)
        mark = None if row is None else self.mark(row)
        if mark is None or not qty:
            return None
        last = self._rows.get(key)
        if last is None or last.qty * qty <= 0:
            last = self._rows[key] = self._never_shown(key, qty, mark)
        return self._since(last, qty, mark)

    def _never_shown(self, key: Key, qty: Decimal, mark: Decimal) -> Position:
        known = self._context.ledger.accounts.futures.get(key)
        entry = known.entry_price if known is not None and known.qty else mark
        leverage = self._context.config.detection.hedge.leverage
        return Position(
            venue=key[0],
            symbol=key[1],
            qty=qty,
            entry_price=entry,
            mark_price=mark,
            recv_mono_ns=0,
            margin=abs(qty) * entry / leverage,
        )

    def _since(self, last: Position, qty: Decimal, mark: Decimal) -> Position:
        """The last row, moved by our own fills and added margin to now."""
        before, now, now_ns = abs(last.qty), abs(qty), self._context.now.mono_ns
        margin, entry, grown = last.margin * min(before, now) / before, last.entry_price, now - before
        if grown > 0:
            entry = (last.entry_price * before + mark * grown) / now
            margin += grown * mark / self._context.config.detection.hedge.leverage
        kept = None
        if last.maintenance_margin is not None and last.mark_price and not last.maintenance_rate:
            kept = last.maintenance_margin * now * mark / (before * last.mark_price)  # an amount without its rate
        elif last.maintenance_margin is not None and last.mark_price:
            deduction = max(ZERO, last.maintenance_rate * before * last.mark_price - last.maintenance_margin)
            kept = max(ZERO, last.maintenance_rate * now * mark - deduction)
        old = now_ns - last.recv_mono_ns > self._bound_ns(OLD_AFTER_NS)
        return msgspec.structs.replace(
            last,
            qty=qty,
            entry_price=entry,
            mark_price=mark,
            margin=margin,
            maintenance_margin=kept,
            liquidation_price=None if grown > 0 else last.liquidation_price,  # shrinking alone does not move it
            recv_mono_ns=now_ns if old else last.recv_mono_ns,
        )

    def free(self, key: Key, position: Position, asset: str) -> Decimal:
        """Free balance that may back ``position`` by now: what was added since the balance was read is gone, what our
        own fills have set free since is there."""
        read_ns, last = self._balances.confirmed_mono_ns(key[0], asset), self._rows.get(key)
        free = self._balances.usable(key[0], asset, reducing=True)
        if read_ns <= self._moved_mono_ns.get(key, -1):
            free += self._freed.get(key, ZERO)
        if last is not None and read_ns <= max(last.recv_mono_ns, self._moved_mono_ns.get(key, -1)):
            free += _released(last, position.qty, position.mark_price)
        return max(ZERO, free)


def _released(last: Position, qty: Decimal, mark: Decimal) -> Decimal:
    """Margin that is free since a position has shrunk to ``qty``, less the loss of what was closed at ``mark``."""
    closed = max(ZERO, 1 - qty / last.qty)
    return max(ZERO, closed * (last.margin + last.qty * (mark - last.entry_price)))
