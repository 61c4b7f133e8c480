"""What the world did to the account besides our orders: the ledger's part of it, and whose leg it took.

A forced or foreign execution moves accounts and positions like a fill of ours. What it closed is taken from the
operations that held it (``external_shares.py``): their fills get the execution as if it were their own, so that the
other leg is left as an unmatched quantity. What no operation held stays with others: ``unowned`` futures,
``foreign_spot`` coins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, NamedTuple, Protocol

from pipeline.execution.accounts import EXACT, PNL_DIGITS, Accounts
from pipeline.execution.external_fills import EXTERNAL, given_fill
from pipeline.execution.external_records import (
    ExternalFillRecord,
    ExternalFlowRecord,
    ExternalPositionRecord,
    HeldFillRecord,
    TakenShare,
)
from pipeline.execution.records import AdoptedRecord, ExternalRecord, FillRecord, LegPlan
from pipeline.execution.results.foreign_trades import ForeignTrades
from pipeline.execution.settled.identities import SettledIds, fill_identity
from pipeline.model.enums import InstrumentKind, OrderSide
from pipeline.model.structs import ZERO

TRADES = "my_trades"  # the list of executions, which are known by their own ids
NO_LIST = frozenset({"push", "poll", "ledger"})  # witnesses that are no row of a venue's list
LISTED = "listed"  # ``what`` of a record that names the row of a movement that was booked before
MISSED = "missed"  # and of one that says how many coins a hedge will miss that is being opened there (0: no more)
UNLISTED_KEPT_MS = 3_600_000  # so long after its booking a movement's row may still come: venues list hours, not days
LISTED_BEFORE_MS = 120_000  # an execution is stamped this long before the position that it made is booked, at most
KEPT_MAX = 10_000  # orders and rows that are remembered: a sweep looks minutes back, or as far as the last run's end
Place = tuple[str, str]  # venue and symbol, or venue and asset
Trade = tuple[str, str, str]  # venue, symbol, trade id


def order_witness(order_id: str) -> str:
    """The witness of what an order did, whatever list shows it later."""
    return f"order {order_id}"


def _add(sums: dict[Place, Decimal], key: Place, amount: Decimal) -> None:
    total = EXACT.add(sums.get(key, ZERO), amount)
    if total:
        sums[key] = total
    else:
        sums.pop(key, None)


def _wait(waiting: dict[Place, list[tuple[Decimal, int]]], key: Place, amount: Decimal, at_ms: int) -> None:
    """Notes what was booked without a row; what no row can come for any more is forgotten."""
    _drop(waiting, key, lambda _, booked_ms: at_ms - booked_ms > UNLISTED_KEPT_MS)
    waiting.setdefault(key, []).append((amount, at_ms))


def _drop(waiting: dict[Place, list[tuple[Decimal, int]]], key: Place, over: Callable[[Decimal, int], bool]) -> None:
    kept = [known for known in waiting.pop(key, ()) if not over(*known)]
    if kept:
        waiting[key] = kept


def _listing(waiting: dict[Place, list[tuple[Decimal, int]]]) -> list[tuple[Place, list[tuple[str, int]]]]:
    return sorted((key, [(str(amount), at_ms) for amount, at_ms in rows]) for key, rows in waiting.items())


class Books(Protocol):
    """The parts of the ledger that external records move besides :class:`ExternalState`; the ledger is one."""

    accounts: Accounts
    fills_seen: set[Trade]
    settled: SettledIds
    moved_mono_ns: dict[Place, int]
    position_offsets: dict[Place, Decimal]
    offset_entries: dict[Place, Decimal]
    operations: dict[str, Any]  # Operation of ledger.py, which imports this file
    open_operations: dict[str, Any]
    boot_epoch: int
    mono_ns: int
    last_wall_ns: int


class Unheld(NamedTuple):
    """An execution of others on a contract, or the part of it, that closed what no operation was known to hold: signed
    base coins, the venue's wall ms, quote per base, fee (quote, positive = paid)."""

    signed: Decimal
    at_ms: int
    price: Decimal
    fee: Decimal


@dataclass(slots=True)
class ExternalState:
    """The part of the ledger that external records write; changed by :meth:`Ledger.apply` only.

    ``unowned``: (venue, contract) -> position that no operation holds, signed base coins. ``foreign_spot``: (venue,
    asset) -> what executions of others changed. ``held``: fills that wait for REST. ``orders``: (venue, order id) of
    orders that are not ours. ``unpriced_positions``: (venue, asset) -> (the most that it may have brought or cost, in
    the asset, wall ms of the booking) of positions without known executions whose money has not been seen yet.
    ``witnesses``: (venue, witness) of movements that are booked: rows of the venue's lists, and the orders on contracts
    whose executions or whose position's change are. ``unlisted``: (venue, asset) -> (amount, wall ms of the booking) of
    those that no list had shown when they were booked; ``unlisted_positions``: (venue, contract) -> the same of
    positions, signed base coins. ``unheld``: (venue, contract) -> executions for which no holder was known when they
    were booked: a fill of ours that comes later may have been it. ``kept``: keys of ``orders`` and ``witnesses``,
    oldest first: no more than ``KEPT_MAX`` are remembered. ``unexplained_usd``: money lost without any explanation
    since the breaker was last re-armed. ``trades``: what others hold by their trades, at cost, and what they realised.
    ``fills``: executions of others that are known by themselves, oldest first, ``KEPT_MAX`` at most.
    ``missed``: (venue, coin) -> coins that went while an operation opened a hedge there: it misses them once it ended.
    ``unpriced``: what checkpoints of earlier builds have in place of ``unpriced_positions``, for their digest alone.
    """

    unowned: dict[Place, Decimal] = field(default_factory=dict)
    foreign_spot: dict[Place, Decimal] = field(default_factory=dict)
    base_of: dict[Place, str] = field(default_factory=dict)
    held: dict[Trade, HeldFillRecord] = field(default_factory=dict)
    orders: set[Place] = field(default_factory=set)
    unpriced_positions: dict[Place, list[tuple[Decimal, int]]] = field(default_factory=dict)
    witnesses: set[Place] = field(default_factory=set)
    unexplained_usd: Decimal = ZERO
    unlisted: dict[Place, list[tuple[Decimal, int]]] = field(default_factory=dict)
    unlisted_positions: dict[Place, list[tuple[Decimal, int]]] = field(default_factory=dict)
    unheld: dict[Place, list[Unheld]] = field(default_factory=dict)
    kept: list[Place] = field(default_factory=list)
    trades: ForeignTrades = field(default_factory=ForeignTrades)
    unpriced: set[Place] = field(default_factory=set)
    fills: list[Trade] = field(default_factory=list)
    missed: dict[Place, Decimal] = field(default_factory=dict)

    def booked_order(self, venue: str, order_id: str) -> bool:
        """Whether what an order of others did on a contract is booked."""
        return (venue, order_witness(order_id)) in self.witnesses

    def in_position(self, venue: str, symbol: str, signed: Decimal, at_ms: int) -> tuple[Decimal, int] | None:
        """The booked position (change that no execution is known for, wall ms of the booking) that an execution on a
        contract has made: the venue lists it only now. ``signed``: base coins; ``at_ms``: wall ms of its stamp."""
        for change, booked_ms in self.unlisted_positions.get((venue, symbol), ()):
            if change * signed > 0 and abs(signed) <= abs(change) and 0 <= booked_ms - at_ms <= LISTED_BEFORE_MS:
                return change, booked_ms
        return None

    def settles(self, venue: str, asset: str, amount: Decimal, now_ms: int) -> bool:
        """Whether money that nothing explains may be what positions have brought that were booked without executions:
        soon after them, and no more than they may have brought."""
        waiting = self.unpriced_positions.get((venue, asset), ())
        worth = (worth for worth, booked_ms in waiting if now_ms - booked_ms <= UNLISTED_KEPT_MS)
        return abs(amount) <= sum(worth, ZERO)

    def foreign(self) -> dict[str, Decimal]:
        """Asset -> what others hold on our accounts, spot and futures together; without zeros."""
        totals: dict[str, Decimal] = {}
        for (_, asset), amount in self.foreign_spot.items():
            totals[asset] = EXACT.add(totals.get(asset, ZERO), amount)
        for key, amount in self.unowned.items():
            base = self.base_of[key]
            totals[base] = EXACT.add(totals.get(base, ZERO), amount)
        return {asset: amount for asset, amount in totals.items() if amount}

    def content(self) -> list[object]:
        """Everything, for the ledger's digest. What is unlisted only where there is any: checkpoints of the time before
        it hold without it."""
        unlisted = [_listing(self.unlisted)] if self.unlisted else []
        if self.unlisted_positions:
            unlisted = [_listing(self.unlisted), _listing(self.unlisted_positions)]
        unheld = [sorted((k, [[str(part) for part in one] for one in v]) for k, v in self.unheld.items())]
        return [
            sorted((k, str(v)) for k, v in self.unowned.items()),
            sorted((k, str(v)) for k, v in self.foreign_spot.items()),
            sorted(self.held.items()),
            sorted(self.orders),
            sorted(self.unpriced) or _listing(self.unpriced_positions),
            sorted(self.witnesses),
            str(self.unexplained_usd),
            *unlisted,
            *(unheld if self.unheld else []),
            *([sorted((k, str(v)) for k, v in self.missed.items())] if self.missed else []),
            *self.trades.content(),
        ]

    # --- the fold ---

    def note(self, record: ExternalRecord) -> None:
        """Folds a record that moves nothing: remembers an order of others, that a list has shown what is booked, or
        what a hedge is still to miss."""
        if record.order_id:
            self._keep(self.orders, (record.venue, record.order_id))
        if record.what == LISTED:
            self._listed(record)
        if record.what == MISSED:
            self.missed.pop((record.venue, record.asset), None)
            if record.amount:
                self.missed[record.venue, record.asset] = record.amount

    def _listed(self, record: ExternalRecord) -> None:
        """A row belongs to one booking, and to nothing else from now on."""
        self._keep(self.witnesses, (record.venue, record.witness))
        key, booked = (record.venue, record.asset), (record.amount, record.booked_wall_ms)
        if booked in self.unlisted.get(key, ()):
            self.unlisted[key].remove(booked)
            _drop(self.unlisted, key, lambda amount, _: not amount)

    def fill(self, record: ExternalFillRecord, books: Books) -> None:
        """Folds an execution by others: accounts, the operations that it took from, and the rest as held by others. One
        that is not ``booked`` is remembered and moves nothing."""
        self._seen((record.venue, record.symbol, record.trade_id), books)
        self._keep(self.orders, (record.venue, record.order_id))
        if record.kind is InstrumentKind.PERPETUAL:
            self._keep(self.witnesses, (record.venue, order_witness(record.order_id)))
        if not record.booked:
            self._in_position(record)
            return
        self._witnessed(record.venue, record.witness)
        books.accounts.apply_fill(record)
        for what in (record.base, record.quote, record.symbol):
            books.moved_mono_ns[record.venue, what] = books.mono_ns
        for share in record.taken:
            _give(books, share.operation_id, _as_fill(record, share))
        key, sign = (record.venue, record.symbol), int(record.side)
        self.base_of[key] = record.base
        self.trades.fill(record, books.last_wall_ns)
        if record.kind is InstrumentKind.PERPETUAL:
            taken = sum((share.qty for share in record.taken), ZERO)
            self._note_unheld(record, EXACT.subtract(record.qty, taken))
            _add(self.unowned, key, sign * EXACT.subtract(record.qty, taken))
            return
        left = EXACT.subtract(record.qty, sum((share.qty for share in record.taken), ZERO))
        _add(self.foreign_spot, (record.venue, record.base), sign * left)
        _add(self.foreign_spot, (record.venue, record.quote), -sign * EXACT.multiply(left, record.price))
        for asset, amount in record.fees_of_others:
            _add(self.foreign_spot, (record.venue, asset), -amount)

    def _seen(self, trade: Trade, books: Books) -> None:
        """An execution of others is known: the newest by themselves, older ones by their identities, for ever."""
        if trade in books.fills_seen:
            return
        books.fills_seen.add(trade)
        self.fills.append(trade)
        if len(self.fills) > KEPT_MAX:
            oldest = self.fills.pop(0)
            books.fills_seen.discard(oldest)
            books.settled.add(fill_identity(*oldest))

    def _in_position(self, record: ExternalFillRecord) -> None:
        """What is left of a booked position without known executions when one of them is listed."""
        key, signed = (record.venue, record.symbol), record.qty * int(record.side)
        made = self.in_position(*key, signed, record.venue_wall_ms)
        if made is not None:
            waiting = self.unlisted_positions[key]
            waiting[waiting.index(made)] = (EXACT.subtract(made[0], signed), made[1])
            _drop(self.unlisted_positions, key, lambda change, _: not change)

    def _note_unheld(self, record: ExternalFillRecord, left: Decimal) -> None:
        """``left``: base coins that it took of no operation; what others were known to hold there is not in doubt."""
        key, sign = (record.venue, record.symbol), int(record.side)
        others = max(ZERO, -sign * self.unowned.get(key, ZERO))
        qty = EXACT.subtract(left, min(left, others))
        if qty > 0 and record.cause != "engine":
            fee = EXACT.multiply(record.fee, qty) / record.qty if record.fee_asset == record.quote else ZERO
            known = [one for one in self.unheld.get(key, ()) if record.venue_wall_ms - one.at_ms <= UNLISTED_KEPT_MS]
            one = Unheld(sign * qty, record.venue_wall_ms, record.price, fee.quantize(PNL_DIGITS))
            self.unheld[key] = [*known, one]

    def held_by(self, record: FillRecord) -> list[tuple[Decimal, Unheld]]:
        """(base coins, execution of others): what has closed the position of a fill of ours that is known only now."""
        key, signed = (record.venue, record.symbol), record.qty * int(record.side)
        left = min(record.qty, max(ZERO, -int(record.side) * self.unowned.get(key, ZERO)))
        found: list[tuple[Decimal, Unheld]] = []
        for one in self.unheld.get(key, ()):
            if one.signed * signed < 0 and record.venue_wall_ms <= one.at_ms and left > 0:
                part = min(abs(one.signed), left)
                left -= part
                found.append((part, one))
        return found

    def flow(self, record: ExternalFlowRecord, books: Books) -> None:
        """Folds money that moved without an order; with ``trading`` it is what a position brought that the venue closed
        unlisted."""
        key = (record.venue, record.asset)
        books.accounts.apply_external(record.venue, record.asset, record.amount, trading=record.trading)
        self._witnessed(record.venue, record.witness)
        if record.witness in NO_LIST and record.amount:
            _wait(self.unlisted, key, record.amount, books.last_wall_ns // 1_000_000)
        if record.trading:
            self.unpriced_positions.pop(key, None)
        if record.cause == "unexplained" and record.amount < 0:
            self.unexplained_usd = EXACT.subtract(self.unexplained_usd, record.value_usd)
        for share in record.taken:
            self._take_spot(record, share, books)
        self.trades.flow(record)

    def _witnessed(self, venue: str, witness: str) -> None:
        if witness not in NO_LIST and not witness.startswith(TRADES):
            self._keep(self.witnesses, (venue, witness))

    def _keep(self, known: set[Place], key: Place) -> None:
        if key in known:
            return
        known.add(key)
        self.kept.append(key)
        if len(self.kept) > KEPT_MAX:
            oldest = self.kept.pop(0)
            self.orders.discard(oldest)
            self.witnesses.discard(oldest)

    def _take_spot(self, record: ExternalFlowRecord, share: TakenShare, books: Books) -> None:
        leg = _leg(books, share.operation_id, record.venue, record.symbol)
        gone = given_fill(
            share.operation_id,
            leg,
            OrderSide.SELL,
            share.qty,
            record.price,
            source=EXTERNAL,
            recv_mono_ns=record.recv_mono_ns,
        )
        _give(books, share.operation_id, gone)
        _add(self.foreign_spot, (record.venue, leg.base), share.qty)

    def position(self, record: ExternalPositionRecord, books: Books) -> None:
        """Folds a contract's position that changed without an execution that we know: the account has the venue's word
        now."""
        key = (record.venue, record.symbol)
        held = books.accounts.futures.get(key)
        entry_price = ZERO if held is None else held.entry_price
        books.accounts.set_position(record.venue, record.symbol, record.qty, record.price)
        books.position_offsets[key] = ZERO
        books.offset_entries.pop(key, None)
        self._witnessed(record.venue, record.witness)
        for order_id in record.order_ids:
            self._keep(self.witnesses, (record.venue, order_witness(order_id)))
        books.moved_mono_ns[key] = books.mono_ns
        change = EXACT.subtract(record.qty, record.qty_before)
        side = OrderSide.BUY if change > 0 else OrderSide.SELL
        for share in record.taken:
            leg = _leg(books, share.operation_id, *key)
            gone = given_fill(
                share.operation_id,
                leg,
                side,
                share.qty,
                record.price,
                source=EXTERNAL,
                recv_mono_ns=record.recv_mono_ns,
            )
            _give(books, share.operation_id, gone)
        self.base_of[key] = record.base
        taken = sum((share.qty for share in record.taken), ZERO)
        left = EXACT.subtract(change, taken * int(side))
        _add(self.unowned, key, left)
        self.trades.position(*key, record.quote, left, record.price, books.last_wall_ns)
        if record.cause != "adopted" and change:
            at_ms, price = books.last_wall_ns // 1_000_000, max(record.price, entry_price)  # it brings what they differ
            _wait(self.unpriced_positions, (record.venue, record.quote), abs(EXACT.multiply(change, price)), at_ms)
            _wait(self.unlisted_positions, key, change, at_ms)

    def hold(self, record: HeldFillRecord) -> None:
        """Folds that a fill waits for REST ("held"), or that a sweep denied it."""
        key = (record.venue, record.symbol, record.trade_id)
        if record.state == "held":
            self.held[key] = record
        else:
            self.held.pop(key, None)

    def adopt(self, record: AdoptedRecord, books: Books) -> None:
        """Folds what an operation is given without an order of ours: no account moves, what others hold shrinks by
        it."""
        if record.what == "baseline" and not record.symbol:  # coins that an operator has taken for stock
            self.trades.handed_over((record.venue, record.base), record.qty, record.price, futures=False)
        for fill in record.fills:
            _give(books, record.operation_id, fill)
            signed = fill.qty * int(fill.side)
            futures = fill.kind is InstrumentKind.PERPETUAL
            place = (fill.venue, fill.symbol if futures else fill.base)
            self.trades.handed_over(place, signed, fill.price, futures=futures)
            if futures:
                _add(self.unowned, place, -signed)
                self._found_holder(fill, signed)
            else:
                _add(self.foreign_spot, place, -signed)

    def _found_holder(self, fill: FillRecord, signed: Decimal) -> None:
        """What an operation is given of an execution that had no holder is not looked for any more."""
        key = (fill.venue, fill.symbol)
        if fill.source != EXTERNAL:
            return
        left: list[Unheld] = []
        for one in self.unheld.pop(key, ()):
            same = one.at_ms == fill.venue_wall_ms and one.signed * signed > 0
            part = min(abs(one.signed), abs(signed)) if same else ZERO
            signed -= part if signed > 0 else -part
            rest = one.signed - (part if one.signed > 0 else -part)
            fee = one.fee - (one.fee * part / abs(one.signed)).quantize(PNL_DIGITS, ROUND_HALF_EVEN)
            left += [one._replace(signed=rest, fee=fee)] if rest else []
        if left:
            self.unheld[key] = left


def _leg(books: Books, operation_id: str, venue: str, symbol: str) -> LegPlan:
    """The leg of an operation on an instrument."""
    legs: tuple[LegPlan, ...] = books.operations[operation_id].record.legs
    return next(leg for leg in legs if (leg.venue, leg.symbol) == (venue, symbol))


def reopen(books: Books, operation: Any) -> None:
    """An ``Operation`` is open from now on; one that had ended is so again since the record that is being applied."""
    if operation.operation_id not in books.open_operations:
        operation.reopened = (books.mono_ns, books.boot_epoch)
    books.open_operations[operation.operation_id] = operation


def _give(books: Books, operation_id: str, fill: FillRecord) -> None:
    """An operation gets an execution that was not its own; one that had ended is open again."""
    operation = books.operations[operation_id]
    operation.fills.append(fill)
    operation.forced = operation.forced or fill.source == EXTERNAL
    if operation.result is not None:
        operation.late = True
    reopen(books, operation)


def _as_fill(record: ExternalFillRecord, share: TakenShare) -> FillRecord:
    return given_fill(
        share.operation_id,
        record,
        record.side,
        share.qty,
        record.price,
        source=EXTERNAL,
        recv_mono_ns=record.recv_mono_ns,
        trade_id=record.trade_id,
        order_id=record.order_id,
        fee=share.fee,
        fee_asset=record.fee_asset,
        venue_wall_ms=record.venue_wall_ms,
    )
