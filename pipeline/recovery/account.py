"""Balances and positions as the venues state them, compared with the ledger.

A baseline is a balance or position that was read while nothing of ours could be moving it, once per journal; from
there on the ledger counts our own fills, funding, and what was booked as external. What differs from that was moved by
something else. A difference becomes a record when it is certain:

* the same difference in ``READINGS`` readings while no order of ours could be moving it,
* a sweep begun after the first of them has listed no execution that explains it,
* it is not what an older reading would show (a venue's answer may be stale), and no unknown order explains it,
* where both coins of an instrument have moved as an execution moves them: no sweep lists one that begins as late as a
  venue's lists may lag.

Money is looked up in the venue's own lists before that (``history.py``): rows that make up the difference make it
certain at once, and are its witness. A notice of the venue's stream of exactly that amount makes it certain with the
third reading, swept or not. From the second reading on the instrument is in doubt: no entries there until
``AGREE_POLLS`` readings in a row agree with the ledger. A position that is questioned (:meth:`AccountCheck.question`)
keeps repairs of its hedges waiting until a sweep has answered.
The same comparison is the third condition of a negative proof (:meth:`AccountCheck.agrees`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from typing import Protocol

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import SweepAnswer
from pipeline.execution.ledger import UNKNOWN_PAST, Order
from pipeline.execution.records import BalanceRecord, FillRecord, PositionRecord
from pipeline.model.enums import InstrumentKind, OrderState, TimeInForce
from pipeline.model.structs import ZERO, Balance, InstrumentSpec, MoneyMove, Position
from pipeline.model.venue_events import MoneyNotice
from pipeline.recovery.differences import UNPROVED, Difference, Key, looks_traded, may_be_late, may_be_unknown
from pipeline.recovery.external_book import ExternalBook
from pipeline.recovery.forced_rows import ForcedRows, cause_of
from pipeline.recovery.history import MoneyHistory
from pipeline.recovery.notices import MoneyNotices
from pipeline.recovery.past_values import STALE_NS, PastValues
from pipeline.recovery.position_lists import PositionLists
from pipeline.recovery.position_prices import PositionPrices
from pipeline.recovery.suspect_instruments import not_listed_yet
from pipeline.recovery.unreadable import UnreadableRows
from pipeline.recovery.wallets import WALLET_TOLERANCE, WalletViews

READINGS = 3
SUSPECT_READINGS = 2
AGREE_POLLS = 3


class Suspect(Protocol):
    """Asks for a sweep of what may explain that something moved, or (``held``) that somebody's order holds it."""

    def __call__(self, venue: str, what: str, held: bool = False) -> None: ...


class AccountCheck:
    """Keeps the baselines, compares what venues state with the ledger, books what is certain.

    ``suspect(venue, asset or symbol)`` asks for a sweep of what may explain a difference and returns its symbols;
    ``funding_known(venue, since)``: funding booked until ``since`` (mono ns) is in the ledger. ``awaited(venue,
    symbol)``: executions there wait until it is certain whose they are.
    """

    def __init__(
        self,
        context: CoreContext,
        balances: BalanceMonitor,
        book: ExternalBook,
        history: MoneyHistory,
        suspect: Suspect,
        funding_known: Callable[[str, int], bool],
        awaited: Callable[[str, str], bool],
    ) -> None:
        self._context = context
        self._balances = balances
        self._book = book
        self._history = history
        self.known_until_wall_ms = 0  # what happened before is in the journal, or in its first balances
        self._suspect = suspect
        self._funding_known = funding_known
        self._awaited = awaited
        self._differences: dict[Key, Difference] = {}
        self.doubts: dict[Key, int] = {}  # -> readings that must still agree
        self._questions: dict[Key, int] = {}  # position -> when it was questioned (mono ns)
        self._pushed: dict[Key, Position] = {}
        self._notices = MoneyNotices(context)
        self._past = PastValues(context)
        self._wallets = WalletViews(context)
        self.lists = PositionLists()
        self.prices = PositionPrices(context)
        self._forced = ForcedRows(context)
        self.unreadable = UnreadableRows(context)
        self.first_balances = history.first_balances
        self._agreed_wall_ms: dict[Key, int] = {}  # when a balance or a position agreed last
        self._locked: dict[Key, Decimal] = {}  # what resting orders of others hold of a coin, as last read

    # --- what others ask ---

    def doubtful(self, spec: InstrumentSpec) -> str:
        """Why nothing new may be risked on an instrument; "" when its venue's account agrees with the ledger."""
        unreadable = self.unreadable.why(spec)
        if unreadable or not self.doubts:
            return unreadable
        for what in (spec.symbol, spec.base, spec.quote):
            if (spec.venue, what) in self.doubts:
                return f"{spec.venue} {what}: account and ledger differ"
        return ""

    def questioned(self, venue: str, symbol: str) -> bool:
        """Whether a position is waiting for a sweep that says what it is."""
        return (venue, symbol) in self._questions

    def question(self, venue: str, symbol: str) -> None:
        """A position may not be what the ledger says: asks for a sweep; repairs that depend on it wait."""
        if (venue, symbol) not in self._questions:
            self._questions[venue, symbol] = self._context.now.mono_ns
            self.doubts[venue, symbol] = AGREE_POLLS
            self._suspect(venue, symbol)

    def doubt(self, venue: str, what: str) -> None:
        """No entries there until the account has agreed with the ledger for a while."""
        self.doubts[venue, what] = AGREE_POLLS

    def on_foreign_fills(self, venue: str, symbol: str) -> None:
        """Executions of others were booked: no entries on what they moved, a contract's position or a spot pair's coin;
        what the ledger expected until now may still be what a stale answer shows."""
        row = self._context.instruments.find(venue, symbol)
        if row is not None:
            self.doubt(venue, symbol if row.spec.kind is InstrumentKind.PERPETUAL else row.spec.base)
            for what in (row.spec.base, row.spec.quote, symbol):
                self._past.remember(venue, what)

    def entry_price(self, venue: str, symbol: str) -> Decimal:
        """Average entry price of a position as its venue states it; 0 without one."""
        position = self.lists.row((venue, symbol))
        return position.entry_price if position is not None else ZERO

    def look_at(self, venue: str, symbol: str) -> None:
        """Asks for a sweep that says whether a position stands, also on a contract that the catalogue lacks."""
        self._suspect(venue, symbol)

    def gone(self, venue: str, symbol: str) -> bool:
        """Whether the newest complete sweep of a venue, in this run, lacks this position."""
        return self.lists.lacks((venue, symbol)) and not self.unreadable.lacks_position(venue, symbol)

    def open_questions(self) -> list[Key]:
        """Positions that wait for an answer: a sweep without one has to be repeated."""
        return list(self._questions)

    # --- evidence ---

    def on_fill(self, record: FillRecord) -> None:
        """A fill of ours moved the ledger: what it expected until now may still be what a stale answer shows."""
        for what in (record.base, record.quote, record.symbol):
            self._past.remember(record.venue, what)
        self._book.late_fill(record)

    def on_position(self, position: Position) -> None:
        """The stream's position: a witness, and news when it differs while no order of ours can be moving it."""
        key = (position.venue, position.symbol)
        self._pushed[key] = position
        self.prices.note((position,))
        busy = next(self._context.ledger.unsettled_of_symbol(*key), None) is not None
        known = key in self._context.ledger.position_offsets
        if known and not busy and position.qty != self._context.ledger.expected_position(*key):
            self.question(*key)

    def on_notice(self, notice: MoneyNotice) -> None:
        """Money moved without an order, the stream says."""
        key = (notice.venue, notice.asset)
        self._notices.keep(notice)
        if key in self._context.ledger.baseline:
            self._look_up(key)
        else:
            self._suspect(*key)

    def _look_up(self, key: Key) -> None:
        self.doubts[key] = AGREE_POLLS
        self._history.want(key[0], self._since_ms(key), news=True)

    # --- sweeps ---

    def after_sweep(self, answer: SweepAnswer) -> None:
        """Takes the baselines that are missing, and answers the questions about positions that the sweep covers."""
        for (venue, what), difference in self._differences.items():
            after = venue == answer.venue and answer.began_mono_ns >= difference.first_mono_ns
            if after and self._covered(venue, what, answer) and not not_listed_yet(self._context, venue):
                difference.swept_mono_ns = answer.began_mono_ns
        self._set_balances(answer)
        self.first_balances.wall_ms(answer.venue)
        if self._is_spot(answer.venue):
            return
        self._set_positions(answer)
        self.prices.note(answer.positions)
        self._forced.listed(answer.venue, answer.forced)
        self.lists.swept(answer)
        listed = {position.symbol: position for position in answer.positions}
        for key in [k for k in self._questions if k[0] == answer.venue and k[1] in answer.symbols]:
            if answer.began_mono_ns >= self._questions[key]:
                self._judge_position(key, listed.get(key[1]), answer.began_mono_ns)

    def _covered(self, venue: str, what: str, answer: SweepAnswer) -> bool:
        """Whether a sweep would have listed an execution that moved this: every instrument whose base coin or symbol
        it is. A quote coin alone is moved by no execution: the instruments of what else differs there."""
        specs = [row.spec for row in self._context.instruments if row.spec.venue == venue]
        own = any(what in (spec.symbol, spec.base) for spec in specs)
        moved = {what} if own else {other for name, other in self._differences if name == venue}
        return {s.symbol for s in specs if s.symbol in moved or s.base in moved} <= set(answer.symbols)

    def _set_balances(self, answer: SweepAnswer) -> None:
        """Baselines of balances that have none: only while nothing of ours can be moving them."""
        ledger, moving = self._context.ledger, self._moving(answer.venue)
        for balance in (*answer.balances, *self._unlisted(answer)):
            key = (balance.venue, balance.asset)
            if key in ledger.baseline or balance.asset in moving or self._moved_since(key, answer.began_mono_ns):
                continue  # a new baseline would hide what an unknown order did, or count a fill twice or never
            self._context.record(BalanceRecord(*key, balance.free, balance.locked, "reconcile", balance.recv_mono_ns))
            if self._notices.based(key, balance.recv_mono_ns):
                self._look_up(key)

    def _set_positions(self, answer: SweepAnswer) -> None:
        """The same for positions; the venue's list is complete, so every symbol that it leaves out is at zero.

        What the account held before the journal began is kept apart from our own fills, and no entry is made before
        an operator has said whose it is.
        """
        ledger, venue, moving = self._context.ledger, answer.venue, self._moving(answer.venue)
        listed = {p.symbol: p for p in answer.positions}
        for symbol in sorted({*self._context.instruments.symbols_of(venue), *listed}):
            key = (venue, symbol)
            if key in ledger.position_offsets or symbol in moving or self.unreadable.lacks_position(*key):
                continue
            if self._moved_since(key, answer.began_mono_ns):
                continue
            position, expected = listed.get(symbol), ledger.accounts.futures_qty(venue, symbol)
            qty, entry = (position.qty, position.entry_price) if position is not None else (ZERO, ZERO)
            self._context.record(PositionRecord(*key, qty, expected, entry, self._context.now.mono_ns, baseline=True))
            if qty != expected:
                self._context.trip(UNKNOWN_PAST, f"{venue} {symbol}: position {qty} that the journal does not explain")

    def _moved_since(self, key: Key, mono_ns: int) -> bool:
        """Whether something of ours moved it after the venue may have read it."""
        return self._context.ledger.moved_mono_ns.get(key, -1) >= mono_ns

    def _moving(self, venue: str) -> set[str]:
        """Assets and symbols that an unsettled order may have moved while its fills are not known yet."""
        intents = [order.intent for order in self._context.ledger.unsettled.values() if order.intent.venue == venue]
        return {what for intent in intents for what in (intent.base, intent.quote, intent.symbol)}

    def _unlisted(self, answer: SweepAnswer) -> list[Balance]:
        """Zero balances that venues leave out of their lists: coins traded there."""
        if not self._is_spot(answer.venue):
            return []
        listed = {balance.asset for balance in answer.balances}
        specs = [row.spec for row in self._context.instruments if row.spec.venue == answer.venue]
        names = sorted({coin for spec in specs for coin in (spec.base, spec.quote)} - listed)
        at_ns = max((balance.recv_mono_ns for balance in answer.balances), default=answer.began_mono_ns)
        return [
            Balance(venue=answer.venue, asset=name, free=ZERO, locked=ZERO, recv_mono_ns=at_ns, source="rest")
            for name in names
        ]

    def _is_spot(self, venue: str) -> bool:
        return all(r.spec.kind is InstrumentKind.SPOT for r in self._context.instruments if r.spec.venue == venue)

    def agrees(self, order: Order, answer: SweepAnswer) -> bool:
        """Third condition of a negative proof: balance or position is what the ledger expects without the order.

        True as well where no baseline is known.
        """
        intent, ledger = order.intent, self._context.ledger
        if intent.kind is InstrumentKind.PERPETUAL:
            if (intent.venue, intent.symbol) not in ledger.position_offsets:
                return True
            position = next((p.qty for p in answer.positions if p.symbol == intent.symbol), ZERO)
            return position == ledger.expected_position(intent.venue, intent.symbol)
        expected = ledger.expected_balance(intent.venue, intent.base)
        reported = sum((b.free + b.locked for b in answer.balances if b.asset == intent.base), ZERO)
        return expected is None or reported == expected

    # --- the account poller ---

    def on_account(
        self,
        balances: Iterable[Balance],
        positions: Iterable[Position],
        confirmed: Mapping[str, int],
        unreadable: Collection[Key] = (),
    ) -> None:
        """Compares what REST confirms with the ledger. ``confirmed``: futures venues whose position list is complete
        but for the ``unreadable``, and when it was (mono ns)."""
        ledger, offs = self._context.ledger, {}
        listed = {(p.venue, p.symbol): p for p in positions}
        self.prices.note(listed.values())
        last = self.lists.last(unreadable) | listed
        for balance in balances:
            key = (balance.venue, balance.asset)
            expected = ledger.expected_balance(*key)
            if expected is not None:
                spot = self._is_spot(balance.venue)
                now = balance.free + balance.locked
                offs[key] = now - expected if spot else self._wallets.off(balance, expected, last)
        lacking = {venue for venue, _ in unreadable}  # what stands open there is not known: only rows explain a wallet
        for balance in balances:
            self._judge_balance(balance, offs, only_listed=balance.venue in lacking)
        self.lists.polled(listed, confirmed, unreadable)
        self.unreadable.polled(confirmed, unreadable)
        for key in list(ledger.position_offsets):
            known = key not in unreadable and self._context.instruments.find(*key) is not None
            if key[0] in confirmed and known:
                self._judge_position(key, listed.get(key), confirmed[key[0]])

    def _judge_balance(self, balance: Balance, offs: Mapping[Key, Decimal], *, only_listed: bool) -> None:
        """``only_listed``: what no row of the venue's list explains is not booked; it stays in doubt."""
        key = (balance.venue, balance.asset)
        off = offs.get(key)
        if off is None:
            return
        if key not in self._past:
            self._past.remember(*key)
        if self._hot(key, balance.recv_mono_ns):
            return
        if not off:
            even = self._history.explain(key, ZERO, self._since_ms(key))  # came and went between two readings
            if even:
                self._book_money(key, ZERO, even, ZERO)
            self._agreed_wall_ms[key] = self._context.now.wall_ms
            self._agreed(key)
            self._held_by_others(key, balance)
            return
        difference = self._differ(key, off)
        if difference.times >= SUSPECT_READINGS:
            self._history.want(key[0], self._since_ms(key), news=difference.times == SUSPECT_READINGS)
        notices = self._notices.of(key)
        tolerance = ZERO if self._is_spot(key[0]) else WALLET_TOLERANCE
        listed = self._history.explain(key, off, self._since_ms(key), tolerance)
        if not listed and (other := self._wallets.other(key, off)) != off:
            listed = self._history.explain(key, other, self._since_ms(key), tolerance)
            off = other if listed else off
        if not listed:
            if only_listed:
                return
            noticed = bool(notices) and sum((n.amount for n in notices), ZERO) == off
            if difference.times < READINGS:
                return  # venues list a movement a little after its notice
            if not noticed and not (difference.swept and self._settled_money(balance, off, difference, offs)):
                return
            if not self._history.answered(key[0], notices[-1].recv_mono_ns if noticed else difference.first_mono_ns):
                return
            listed = self._history.nearest(key, off, self._since_ms(key))
        self._book_money(key, off, listed, tolerance)

    def _held_by_others(self, key: Key, balance: Balance) -> None:
        """Coins that no order of ours holds (none is under way): whose does is asked once for each that is new."""
        if self._is_spot(key[0]) and balance.locked > self._locked.get(key, ZERO):
            self._suspect(*key, held=True)
        self._locked[key] = balance.locked

    def _book_money(self, key: Key, off: Decimal, listed: list[MoneyMove], tolerance: Decimal) -> None:
        """Books the rows of the venue's lists, each by itself, and what they leave of the difference."""
        for move in listed:
            self._book.flow(*key, move.amount, reason=move.reason, witness=move.witness)
        left = off - sum((move.amount for move in listed), ZERO)
        if not listed or abs(left) > tolerance:
            heard = [n for n in self._notices.of(key) if n.amount == left or (n.amount * left > 0 and not listed)]
            self._book.flow(*key, left, reason=heard[-1].reason if heard else "", witness="push" if heard else "poll")
        self._differences.pop(key, None)
        self._notices.booked(key)
        self._past.remember(*key)

    def _since_ms(self, key: Key) -> int:
        """Wall ms from which on something may have moved a balance that is not in the ledger."""
        known_ms = max(self._agreed_wall_ms.get(key, 0) - STALE_NS // 1_000_000, self.known_until_wall_ms)
        return max(known_ms, self.first_balances.wall_ms(key[0]) or 0)

    def _settled_money(
        self, balance: Balance, off: Decimal, difference: Difference, offs: Mapping[Key, Decimal]
    ) -> bool:
        """Whether nothing else explains a difference of money: a stale answer, an order of unknown outcome, funding,
        executions that wait until it is certain whose they are."""
        key = (balance.venue, balance.asset)
        if self._past.looks_stale(key, balance.free + balance.locked) or self._awaited_money(*key):
            return False
        if not self._is_spot(balance.venue):
            positions = self._context.ledger.position_offsets
            if any(venue == balance.venue and (venue, what) in positions for venue, what in self._differences):
                return False  # what moved a position has moved the money too: it is booked with the position
            unknown = any(o.state is OrderState.UNKNOWN for o in self._unknown_on(key))  # its proof finds both
            return not unknown and self._funding_known(balance.venue, difference.first_mono_ns)
        if not difference.surely_unlisted and looks_traded(self._context.instruments, key, offs):
            if difference.look_again(self._context.now.mono_ns):
                self._suspect(*key)
            return False
        for order in self._unknown_on(key):
            intent = order.intent
            other = intent.quote if balance.asset == intent.base else intent.base
            if offs.get((balance.venue, other), off):
                return False  # an execution moves both coins; where the other has not moved, it was none
        return True

    def _awaited_money(self, venue: str, asset: str) -> bool:
        specs = [row.spec for row in self._context.instruments if row.spec.venue == venue]
        return any(self._awaited(venue, spec.symbol) for spec in specs if asset in (spec.base, spec.quote))

    def _judge_position(self, key: Key, position: Position | None, read_mono_ns: int) -> None:
        ledger = self._context.ledger
        qty = position.qty if position is not None else ZERO
        read_mono_ns = position.recv_mono_ns if position is not None else read_mono_ns
        off = qty - ledger.expected_position(*key)
        if key not in self._past:
            self._past.remember(*key)
        if self._hot(key, read_mono_ns):
            return
        if not off:
            self._agreed_wall_ms[key] = self._context.now.wall_ms
            if read_mono_ns >= self._questions.get(key, read_mono_ns):
                self._questions.pop(key, None)
            self._agreed(key)
            return
        difference = self._differ(key, off)
        if difference.times >= SUSPECT_READINGS:
            self.question(*key)
        pushed = self._pushed.get(key)
        witnessed = pushed is not None and pushed.qty == qty and not self._moved_since(key, pushed.recv_mono_ns)
        if not difference.swept or not (witnessed or difference.times >= READINGS):
            return
        if (not witnessed and self._past.looks_stale(key, qty)) or self._awaited(*key):
            return
        if may_be_unknown(self._unknown_on(key), off):
            return
        late = not difference.surely_unlisted and may_be_late(ledger, key, off, self._context.now.mono_ns)
        rows = self._forced.of(*key, self._since_ms(key))
        if late and cause_of(rows, ledger.expected_position(*key), qty) is None:
            return
        self._differences.pop(key, None)
        self._questions.pop(key, None)
        price = self.prices.of(key, qty, position, pushed)
        self._book_position(key, qty, price, witness="push" if witnessed else "poll")

    def _book_position(self, key: Key, qty: Decimal, price: Decimal, *, witness: str) -> None:
        """Books a position by the forced closes that no record has taken yet: all that the venue lists until now are
        in it."""
        rows = self._forced.of(*key, self._since_ms(key))
        by = cause_of(rows, self._context.ledger.expected_position(*key), qty)
        cause = by.cause if by is not None else "unlisted"
        if by is not None:
            witness, price = by.witness, by.price or price
        order_ids = tuple(row.order_id for row in rows)
        self._book.position(*key, qty, price, cause=cause, witness=witness, order_ids=order_ids)
        self._past.forget(key)
        self._agreed_wall_ms[key] = self._context.now.wall_ms
        self.doubts[key] = AGREE_POLLS

    # --- inside ---

    def _differ(self, key: Key, off: Decimal) -> Difference:
        """Counts a reading that differs."""
        known = self._differences.get(key)
        if known is None or known.off != off:  # readings that race our own fills differ from one to the next
            known = self._differences[key] = Difference(off, self._context.now.mono_ns)
        known.times += 1
        if known.times >= SUSPECT_READINGS:
            self.doubts[key] = AGREE_POLLS
            if known.times == SUSPECT_READINGS or not (known.swept or self.unreadable.waits(key[0])):
                self._suspect(*key)
        return known

    def _agreed(self, key: Key) -> None:
        """Counts a reading that agrees."""
        self._differences.pop(key, None)
        left = self.doubts.get(key, 0) - 1
        if left > 0:
            self.doubts[key] = left
        elif key not in self._questions:
            self.doubts.pop(key, None)

    def _hot(self, key: Key, read_mono_ns: int) -> bool:
        """Whether an order of ours may be moving it, so that a reading says nothing."""
        if self._moved_since(key, read_mono_ns):
            return True
        venue, what = key
        timeout_ns = self._context.config.answer_timeout_ms * 1_000_000
        for order in self._context.ledger.unsettled.values():
            intent = order.intent
            if intent.venue == venue and what in (intent.base, intent.quote, intent.symbol):
                waited_ns = self._context.now.mono_ns - (order.sent_mono_ns or order.intent_mono_ns)
                resting = order.state is OrderState.OPEN and intent.tif is TimeInForce.GTC
                if order.state not in UNPROVED or order.known_filled or resting or 0 <= waited_ns < timeout_ns:
                    return True
        return self._balances.unreported(venue, what)

    def _unknown_on(self, key: Key) -> list[Order]:
        venue, what = key
        orders = [order for order in self._context.ledger.unsettled.values() if order.intent.venue == venue]
        return [o for o in orders if what in (o.intent.base, o.intent.quote, o.intent.symbol)]
