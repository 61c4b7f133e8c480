"""The executor's equity and the day's P&L, at one mark per asset (arithmetic and definitions: economics/equity.py).

Balances are the ledger's: the last baseline of each venue's balance and every fill, fee and funding since, so that
both legs of an operation count at the same moment. Marks are the medians of mids that were proved current when they
were read.

One mark per asset, and an asset is a coin, not a ticker: a coin whose instruments at a venue are quarantined is not
proved to be the coin that others list under the same ticker, so it counts apart, as ``COIN@venue`` at that venue's own
mids. One median over two coins would value either of them wrongly, and jump when one of the books grows old.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.core import ExecutionCore
from pipeline.economics.equity import (
    DailyPnl,
    Equity,
    Hedging,
    PerpetualHolding,
    daily_pnl,
    equity,
    hedging,
    index_marks,
    stress,
    transfers_value,
)
from pipeline.execution.ledger import UNKNOWN_PAST
from pipeline.execution.market import declared_usd, mid_price, tradable
from pipeline.model.enums import InstrumentKind
from pipeline.model.instruments import USD_COINS, InstrumentRow
from pipeline.model.structs import ZERO
from pipeline.model.units import NS_PER_DAY

MID_MAX_AGE_NS = 30_000_000_000  # a mid that looks could not read again for so long is left out of the median
COMPLETE_WAIT_NS = 60_000_000_000  # how long a run's first reading waits for a mark of every coin that is held
ONE = Decimal(1)
CENTS = Decimal("0.01")


class DayStart(msgspec.Struct, frozen=True, kw_only=True):
    """What there was at 00:00 UTC, or at the first complete reading of the day.

    All by account (:func:`account_name`): ``balances``; ``held``, the same with perpetuals as base coin;
    ``external``, money from outside until then; ``marks``, what each was valued at; ``moved``, what trading had moved
    of accounts whose first balances were not taken yet. ``equity`` is that of accounts with a mark. By account, so that
    a coin that is quarantined, or no longer, in the course of a day moves no P&L but the difference of its marks.
    ``stale``: accounts that no living book marked then: the day of each begins with its first mark of a living book, or
    what its price did before would be of this day.
    """

    day: int  # UTC day number
    wall_ns: int
    equity: Decimal
    balances: dict[str, Decimal]
    held: dict[str, Decimal]
    external: dict[str, Decimal]
    marks: dict[str, Decimal]
    stale: tuple[str, ...] = ()
    moved: dict[str, Decimal] = {}


class EquityFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One reading, in the numeraire. ``daily`` counts from ``since_wall_ns``; ``marks`` by :meth:`EquityWatch.coin`."""

    equity: Equity
    daily: DailyPnl
    hedging: Hedging
    stress: Decimal
    since_wall_ns: int
    marks: dict[str, Decimal]

    def fields(self, numeraire: str) -> dict[str, Any]:
        """As ``arb status --json`` shows it under ``pnl``."""
        return {
            "asset": numeraire,
            "equity": self.equity.value,
            "daily": self.daily.total,
            "trading": self.daily.trading,
            "inventory": self.daily.inventory,
            "since_wall_ns": self.since_wall_ns,
            "unmarked": list(self.equity.unmarked),
            "gross": self.hedging.gross,
            "net": self.hedging.net,
            "hedged": self.hedging.hedged,
            "stress": self.stress.quantize(CENTS),
        }


def account_name(asset: str, venue: str) -> str:
    """Name of what a venue holds of an asset."""
    return f"{asset}@{venue}"


class EquityWatch:
    """Equity, P&L of the day and marks of a running core.

    ``start``: the day's beginning as an earlier run of the same day stored it. The day begins anew where the journal
    began after that (what came, went and was traded before is not in it), and when an operator has taken over what the
    journal lacks. Contracts are marked as their venues say, else at their own proved mid.
    """

    def __init__(self, core: ExecutionCore, start: DayStart | None = None) -> None:
        self._core = core
        self._mids: dict[int, tuple[int, Decimal]] = {}  # instrument -> when it was read, mid
        self._proved_mono_ns: dict[int, int] = {}  # instrument -> proof of the book that its mid is of
        self._looked_mono_ns: dict[int, int] = {}  # instrument -> the last look at it, whatever it found
        self._last_marks: dict[str, Decimal] = {}  # a coin whose books are away keeps its last one
        self._alive: frozenset[str] = frozenset()  # coins that a living book marked, as of the last marks
        self._apart: frozenset[tuple[str, str]] = frozenset()  # venue and coin that count apart, as of the last marks
        self._marked_mono_ns = -1  # when the last marks were made: once per moment is enough
        self._waiting_since_mono_ns = 0
        self._declared = declared_usd(core.config.fees)  # coins for fees that no book prices
        by_account = start is not None and all("@" in name for name in start.marks)
        self.start = start if by_account else None  # one by coin is of an earlier version: the day begins anew
        self._of_this_journal = self.start is None  # whether the day is known to have begun in this journal
        self._past_unknown = False

    def look(self, rows: Iterable[InstrumentRow]) -> None:
        """Read the mids of these instruments: a few at a time, so that no look is long."""
        context = self._core.context
        dead_ns = context.config.detection.dead_after_ms * 1_000_000
        self._marked_mono_ns = -1
        for row in rows:
            view = context.market.book(row.instrument_id)
            self._looked_mono_ns[row.instrument_id] = context.now.mono_ns
            if view is None or not tradable(view, row) or context.now.mono_ns - view.proof_mono_ns > dead_ns:
                continue
            mid = mid_price(view, row)
            if mid is not None:
                self._mids[row.instrument_id] = (context.now.mono_ns, mid)
                self._proved_mono_ns[row.instrument_id] = view.proof_mono_ns

    def mid(self, instrument_id: int) -> Decimal | None:
        """The newest proved mid of an instrument; None without one."""
        found = self._mids.get(instrument_id)
        fresh = found is not None and self._looked_mono_ns[instrument_id] - found[0] <= MID_MAX_AGE_NS
        return found[1] if found is not None and fresh else None

    def coin(self, venue: str, asset: str) -> str:
        """What a venue's asset counts as: the ticker, or ``COIN@venue`` where it may be another coin than elsewhere."""
        return account_name(asset, venue) if (venue, asset) in self._apart else asset

    def _find_apart(self) -> None:
        rows = [(row.tradable_pair, (row.spec.venue, row.spec.base)) for row in self._core.context.instruments]
        self._apart = frozenset(coin for sure, coin in rows if not sure) - {coin for sure, coin in rows if sure}

    def marks(self) -> dict[str, Decimal]:
        """Mark per :meth:`coin` in the numeraire. Coins that only books in another quote price go by that quote's mark;
        USD coins without a book of their own count 1."""
        if self._marked_mono_ns == self._core.context.now.mono_ns:
            return dict(self._last_marks)
        self._marked_mono_ns = self._core.context.now.mono_ns
        self._find_apart()
        numeraire = self._core.config.execution.numeraire
        priced = [(row.spec, mid) for row in self._core.context.instruments if (mid := self.mid(row.instrument_id))]
        found = {**self._declared, **{coin: ONE for coin in USD_COINS}}
        found |= index_marks((self.coin(s.venue, s.base), mid) for s, mid in priced if s.quote == numeraire)
        found[numeraire] = ONE
        others = index_marks(
            (self.coin(s.venue, s.base), mid * found[s.quote]) for s, mid in priced if s.quote in found
        )
        self._last_marks = {**self._last_marks, **others, **found}
        self._alive = frozenset({*self._declared, *USD_COINS, numeraire, *self._lately_read()})
        return dict(self._last_marks)

    def _lately_read(self) -> set[str]:
        """Coins with a book that was alive when it was last looked at. The moment is that look, not now: a round of
        looks at a large catalogue takes longer than a feed may be silent."""
        context = self._core.context
        dead_ns = context.config.detection.dead_after_ms * 1_000_000
        alive = (n for n, at_ns in self._proved_mono_ns.items() if self._looked_mono_ns[n] - at_ns <= dead_ns)
        rows = (context.instruments.get(number) for number in alive)
        return {self.coin(row.spec.venue, row.spec.base) for row in rows if row is not None}

    def perpetuals(self, marks: Mapping[str, Decimal]) -> list[PerpetualHolding]:
        """Open perpetuals by our own fills."""
        context, found = self._core.context, []
        for (venue, symbol), position in context.ledger.accounts.futures.items():
            row = context.instruments.find(venue, symbol)
            if row is None or not position.qty:
                continue
            mark = self.mark(row, marks) or position.entry_price
            base = self.coin(venue, row.spec.base)
            found.append(PerpetualHolding(base, row.spec.quote, position.qty, position.entry_price, mark))
        return found

    def mark(self, row: InstrumentRow, marks: Mapping[str, Decimal]) -> Decimal | None:
        """Mark of an instrument: a perpetual's is its venue's (its own mid where the venue's is not known), a spot
        coin's the index."""
        reported = self._core.risk.gate.margin.marks
        own = reported.get((row.spec.venue, row.spec.symbol)) or self.mid(row.instrument_id)
        index = marks.get(self.coin(row.spec.venue, row.spec.base))
        return own or index if row.spec.kind is InstrumentKind.PERPETUAL else index

    def balances(self) -> dict[tuple[str, str], Decimal]:
        """(venue, asset) -> total, as the ledger counts it."""
        ledger = self._core.ledger
        return {key: ledger.expected_balance(*key) or ZERO for key in ledger.baseline}

    def external(self) -> dict[tuple[str, str], Decimal]:
        """(venue, asset) -> money that came from outside or went there since the journal began."""
        return dict(self._core.ledger.accounts.external)

    def figures(self) -> EquityFigures | None:
        """The reading at ``core.context.now``; None until every asset that is held has a mark."""
        if not self._core.recovery.ready():
            return None
        marks, balances = self.marks(), self.balances()
        totals: dict[str, Decimal] = {}
        for (venue, asset), amount in balances.items():
            coin = self.coin(venue, asset)
            totals[coin] = totals.get(coin, ZERO) + amount
        perpetuals = self.perpetuals(marks)
        worth = equity(totals, perpetuals, marks)
        if not self._complete(worth):
            return None
        priced = self._by_account(marks)
        if self.start is not None and not self.start.marks.keys() <= priced.keys():
            # A coin that this run has not priced counts as the day began: leaving it out would look like its loss.
            marks = {**self._of_the_day(self.start), **marks}
            perpetuals = self.perpetuals(marks)
            worth, priced = equity(totals, perpetuals, marks), {**self.start.marks, **self._by_account(marks)}
        start = self._day_start(worth, balances, priced)
        before = start.external
        came = {account_name(asset, venue): amount for (venue, asset), amount in self.external().items()}
        news = [(name, amount - before.get(name, ZERO)) for name, amount in came.items() if name in priced]
        moved = transfers_value(news, priced)
        daily = daily_pnl(worth.value, start.equity, moved, start.held, start.marks, priced)
        return EquityFigures(
            equity=worth,
            daily=daily,
            hedging=self._hedging(perpetuals, marks),
            stress=self._stress(marks),
            since_wall_ns=start.wall_ns,
            marks=marks,
        )

    def _by_account(self, marks: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Account -> its mark, of all that a day's figures speak of: balances, contracts, what came from outside."""
        ledger = self._core.ledger
        keys = {*ledger.baseline, *ledger.accounts.external}
        for venue, symbol in ledger.accounts.futures:
            row = self._core.context.instruments.find(venue, symbol)
            if row is not None:
                keys.add((venue, row.spec.base))
        found = {account_name(asset, venue): marks.get(self.coin(venue, asset)) for venue, asset in keys}
        return {name: mark for name, mark in found.items() if mark is not None}

    def _of_the_day(self, start: DayStart) -> dict[str, Decimal]:
        """Coin -> a mark that the day began with."""
        found: dict[str, Decimal] = {}
        for venue, asset in self._core.ledger.baseline:
            mark = start.marks.get(account_name(asset, venue))
            if mark is not None:
                found.setdefault(self.coin(venue, asset), mark)
        return found

    def _day_start(
        self, worth: Equity, balances: Mapping[tuple[str, str], Decimal], priced: Mapping[str, Decimal]
    ) -> DayStart:
        """The day's beginning: now, where there is none. An account that has its first mark of the day only now counts
        from now on."""
        now_wall_ns = self._core.context.now.wall_ns
        start = None if self._begins_anew() else self.start
        if start is None or start.day != now_wall_ns // NS_PER_DAY:
            amounts = {account_name(asset, venue): amount for (venue, asset), amount in balances.items()}
            held = dict(amounts)
            for (venue, symbol), position in self._core.ledger.accounts.futures.items():
                row = self._core.context.instruments.find(venue, symbol)
                if row is not None and position.qty:
                    name = account_name(row.spec.base, venue)
                    held[name] = held.get(name, ZERO) + position.qty
            accounts, early = self._core.ledger.accounts, self._core.ledger.accounts.flows.keys() - balances.keys()
            start = DayStart(
                day=now_wall_ns // NS_PER_DAY,
                wall_ns=now_wall_ns,
                equity=worth.value,
                balances=amounts,
                held=held,
                external={account_name(asset, venue): amount for (venue, asset), amount in self.external().items()},
                marks=dict(priced),
                stale=tuple(sorted(name for name in amounts.keys() & priced.keys() if not self._is_alive(name))),
                moved={account_name(asset, venue): accounts.moved(venue, asset) for venue, asset in early},
            )
        start = self._marked_at_last(self._with_late_accounts(start), priced)
        late = {name: mark for name, mark in priced.items() if name not in start.marks}
        if late:
            more = sum((start.balances.get(name, ZERO) * mark for name, mark in late.items()), ZERO)
            start = msgspec.structs.replace(start, equity=start.equity + more, marks={**start.marks, **late})
        self.start = start
        return start

    def _begins_anew(self) -> bool:
        """Whether the stored beginning of the day says nothing about this journal's money."""
        ledger, before = self._core.ledger, self._past_unknown
        self._past_unknown = UNKNOWN_PAST in ledger.breakers
        if before and not self._past_unknown:
            return True  # positions that were taken over count from now on: what they earned before is of no day
        if self._of_this_journal or self.start is None or not ledger.based_wall_ms:
            return False
        self._of_this_journal = True
        return min(ledger.based_wall_ms.values()) * 1_000_000 > self.start.wall_ns

    def _with_late_accounts(self, start: DayStart) -> DayStart:
        """The day's beginning with the accounts whose first balances were taken since: what lay there is no profit, and
        what we had traded of it by then is no stock."""
        late: dict[str, Decimal] = {}
        for (venue, asset), (total, moved) in self._core.ledger.baseline.items():
            name = account_name(asset, venue)
            if name not in start.balances:
                late[name] = total - (moved - start.moved.get(name, ZERO))
        if not late:
            return start
        return msgspec.structs.replace(
            start,
            equity=start.equity + sum((total * start.marks.get(name, ZERO) for name, total in late.items()), ZERO),
            balances={**start.balances, **late},
            held={**start.held, **{name: start.held.get(name, ZERO) + total for name, total in late.items()}},
        )

    def _is_alive(self, name: str) -> bool:
        """Whether a living book marks an account's coin now."""
        asset, _, venue = name.rpartition("@")
        return self.coin(venue, asset) in self._alive

    def _marked_at_last(self, start: DayStart, priced: Mapping[str, Decimal]) -> DayStart:
        """The day's beginning where accounts of ``start.stale`` have a mark of a living book by now."""
        back = [name for name in start.stale if name in priced and self._is_alive(name)]
        if not back:
            return start
        more = sum((start.balances.get(name, ZERO) * (priced[name] - start.marks[name]) for name in back), ZERO)
        return msgspec.structs.replace(
            start,
            equity=start.equity + more,
            marks={**start.marks, **{name: priced[name] for name in back}},
            stale=tuple(name for name in start.stale if name not in back),
        )

    def _complete(self, worth: Equity) -> bool:
        """Whether every traded coin that is held has a mark, or was waited for long enough."""
        now_ns = self._core.context.now.mono_ns
        self._waiting_since_mono_ns = self._waiting_since_mono_ns or now_ns
        traded = {self.coin(row.spec.venue, row.spec.base) for row in self._core.context.instruments}
        waited_ns = now_ns - self._waiting_since_mono_ns
        return not traded.intersection(worth.unmarked) or waited_ns > COMPLETE_WAIT_NS

    def _hedging(self, perpetuals: list[PerpetualHolding], marks: Mapping[str, Decimal]) -> Hedging:
        """What our own trading has moved: changes of coins by venue, and open contracts."""
        moved = [
            (self.coin(venue, asset), amount)
            for (venue, asset), amount in self._core.ledger.accounts.flows.items()
            if asset not in USD_COINS
        ]
        held = [*moved, *((p.base, p.qty) for p in perpetuals)]
        return hedging([(coin, amount) for coin, amount in held if coin in marks], marks)

    def _stress(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Exposure under stress: what our trading moved, per account, and orders whose outcome is not known."""
        ledger, instruments = self._core.ledger, self._core.context.instruments
        moved = [
            (self.coin(venue, asset), venue, amount)
            for (venue, asset), amount in ledger.accounts.flows.items()
            if amount and asset not in USD_COINS
        ]
        for (venue, symbol), position in ledger.accounts.futures.items():
            row = instruments.find(venue, symbol)
            if row is not None and position.qty:
                moved.append((self.coin(venue, row.spec.base), f"{venue} {symbol}", position.qty))
        unknown = []
        for order in ledger.unsettled.values():
            intent, left = order.intent, order.intent.qty - order.filled
            account = intent.venue
            if intent.kind is InstrumentKind.PERPETUAL:
                account = f"{intent.venue} {intent.symbol}"
            unknown.append((self.coin(intent.venue, intent.base), account, left * int(intent.side)))
        return stress(moved, unknown, marks, self._core.hedges.watch.basis_move())
