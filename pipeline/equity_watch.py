"""The executor's equity and the day's P&L, at one mark per asset (arithmetic and definitions: economics/equity.py).

Balances are the ledger's: the last baseline of each venue's balance and every fill, fee and funding since, so that
both legs of an operation count at the same moment. Marks are the medians of mids that were proved current when they
were read.
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
from pipeline.execution.market import declared_usd, mid_price, tradable
from pipeline.model.enums import InstrumentKind
from pipeline.model.instruments import USD_COINS, InstrumentRow
from pipeline.model.structs import ZERO

DAY_NS = 86_400 * 1_000_000_000
MID_MAX_AGE_NS = 30_000_000_000  # a mid that could not be read again for so long is left out of the median
COMPLETE_WAIT_NS = 60_000_000_000  # how long a run's first reading waits for a mark of every coin that is held
ONE = Decimal(1)
CENTS = Decimal("0.01")


class DayStart(msgspec.Struct, frozen=True, kw_only=True):
    """What there was at 00:00 UTC, or at the first complete reading of the day.

    ``balances`` per asset; ``held`` the same with perpetuals as base coin; ``external``: money from outside until then.
    ``equity`` is that of assets with a mark.
    """

    day: int  # UTC day number
    wall_ns: int
    equity: Decimal
    balances: dict[str, Decimal]
    held: dict[str, Decimal]
    external: dict[str, Decimal]
    marks: dict[str, Decimal]


class EquityFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One reading, in the numeraire. ``daily`` counts from ``since_wall_ns``."""

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


class EquityWatch:
    """Equity, P&L of the day and marks of a running core.

    ``start``: the day's beginning as an earlier run of the same day stored it. Contracts are marked as their
    venues say, else at their own proved mid.
    """

    def __init__(self, core: ExecutionCore, start: DayStart | None = None) -> None:
        self._core = core
        self._mids: dict[int, tuple[int, Decimal]] = {}  # instrument -> when it was read, mid
        self._last_marks: dict[str, Decimal] = {}  # a coin whose books are away keeps its last one
        self._marked_mono_ns = -1  # when the last marks were made: once per moment is enough
        self._waiting_since_mono_ns = 0
        self._declared = declared_usd(core.config.fees)  # coins for fees that no book prices
        self.start = start

    def look(self, rows: Iterable[InstrumentRow]) -> None:
        """Read the mids of these instruments: a few at a time, so that no look is long."""
        context = self._core.context
        dead_ns = context.config.detection.dead_after_ms * 1_000_000
        self._marked_mono_ns = -1
        for row in rows:
            view = context.market.book(row.instrument_id)
            if view is None or not tradable(view, row) or context.now.mono_ns - view.proof_mono_ns > dead_ns:
                continue
            mid = mid_price(view, row)
            if mid is not None:
                self._mids[row.instrument_id] = (context.now.mono_ns, mid)

    def mid(self, instrument_id: int) -> Decimal | None:
        """The newest proved mid of an instrument; None without one."""
        found = self._mids.get(instrument_id)
        fresh = found is not None and self._core.context.now.mono_ns - found[0] <= MID_MAX_AGE_NS
        return found[1] if found is not None and fresh else None

    def marks(self) -> dict[str, Decimal]:
        """Mark per asset in the numeraire. Coins that only books in another quote price go by that quote's mark; USD
        coins without a book of their own count 1."""
        if self._marked_mono_ns == self._core.context.now.mono_ns:
            return dict(self._last_marks)
        self._marked_mono_ns = self._core.context.now.mono_ns
        numeraire = self._core.config.execution.numeraire
        priced = [(row.spec, mid) for row in self._core.context.instruments if (mid := self.mid(row.instrument_id))]
        found = {**self._declared, **{coin: ONE for coin in USD_COINS}}
        found |= index_marks((spec.base, mid) for spec, mid in priced if spec.quote == numeraire)
        found[numeraire] = ONE
        others = index_marks((s.base, mid * found[s.quote]) for s, mid in priced if s.quote in found)
        self._last_marks = {**self._last_marks, **others, **found}
        return dict(self._last_marks)

    def perpetuals(self, marks: Mapping[str, Decimal]) -> list[PerpetualHolding]:
        """Open perpetuals by our own fills."""
        context, found = self._core.context, []
        for (venue, symbol), position in context.ledger.accounts.futures.items():
            row = context.instruments.find(venue, symbol)
            if row is None or not position.qty:
                continue
            mark = self.mark(row, marks) or position.entry_price
            found.append(PerpetualHolding(row.spec.base, row.spec.quote, position.qty, position.entry_price, mark))
        return found

    def mark(self, row: InstrumentRow, marks: Mapping[str, Decimal]) -> Decimal | None:
        """Mark of an instrument: a perpetual's is its venue's (its own mid where the venue's is not known), a spot
        coin's the index."""
        told = self._core.risk.gate.margin.marks
        own = told.get((row.spec.venue, row.spec.symbol)) or self.mid(row.instrument_id)
        return (
            own or marks.get(row.spec.base) if row.spec.kind is InstrumentKind.PERPETUAL else marks.get(row.spec.base)
        )

    def balances(self) -> dict[str, Decimal]:
        """Asset -> total over all venues, as the ledger counts it."""
        ledger, found = self._core.ledger, dict[str, Decimal]()
        for venue, asset in ledger.baseline:
            found[asset] = found.get(asset, ZERO) + (ledger.expected_balance(venue, asset) or ZERO)
        return found

    def external(self) -> dict[str, Decimal]:
        """Asset -> money that came from outside or went there since the journal began."""
        found: dict[str, Decimal] = {}
        for (_, asset), amount in self._core.ledger.accounts.external.items():
            found[asset] = found.get(asset, ZERO) + amount
        return found

    def figures(self) -> EquityFigures | None:
        """The reading at ``core.context.now``; None until every asset that is held has a mark."""
        if not self._core.recovery.ready():
            return None
        marks, balances = self.marks(), self.balances()
        perpetuals = self.perpetuals(marks)
        worth = equity(balances, perpetuals, marks)
        now_wall_ns = self._core.context.now.wall_ns
        if not self._complete(worth):
            return None
        if self.start is not None and not self.start.marks.keys() <= marks.keys():
            # A coin that this run has not priced counts as the day began: leaving it out would look like its loss.
            marks = {**self.start.marks, **marks}
            perpetuals = self.perpetuals(marks)
            worth = equity(balances, perpetuals, marks)
        if self.start is None or self.start.day != now_wall_ns // DAY_NS:
            held = dict(balances)
            for holding in perpetuals:
                held[holding.base] = held.get(holding.base, ZERO) + holding.qty
            self.start = DayStart(
                day=now_wall_ns // DAY_NS,
                wall_ns=now_wall_ns,
                equity=worth.value,
                balances=balances,
                held=held,
                external=self.external(),
                marks=marks,
            )
        self._mark_late(self.start, marks)
        before = self.start.external
        came = [(coin, amount - before.get(coin, ZERO)) for coin, amount in self.external().items() if coin in marks]
        moved = transfers_value(came, marks)
        daily = daily_pnl(worth.value, self.start.equity, moved, self.start.held, self.start.marks, marks)
        return EquityFigures(
            equity=worth,
            daily=daily,
            hedging=self._hedging(perpetuals, marks),
            stress=self._stress(marks),
            since_wall_ns=self.start.wall_ns,
            marks=marks,
        )

    def _mark_late(self, start: DayStart, marks: Mapping[str, Decimal]) -> None:
        """A coin that has its first mark of the day only now counts from now on."""
        late = {asset: mark for asset, mark in marks.items() if asset not in start.marks}
        if late:
            worth = sum((start.balances.get(asset, ZERO) * mark for asset, mark in late.items()), ZERO)
            self.start = msgspec.structs.replace(start, equity=start.equity + worth, marks={**start.marks, **late})

    def _complete(self, worth: Equity) -> bool:
        """Whether every traded coin that is held has a mark, or was waited for long enough."""
        now_ns = self._core.context.now.mono_ns
        self._waiting_since_mono_ns = self._waiting_since_mono_ns or now_ns
        traded = {row.spec.base for row in self._core.context.instruments}
        waited_ns = now_ns - self._waiting_since_mono_ns
        return not traded.intersection(worth.unmarked) or waited_ns > COMPLETE_WAIT_NS

    def _hedging(self, perpetuals: list[PerpetualHolding], marks: Mapping[str, Decimal]) -> Hedging:
        """What our own trading has moved: changes of coins by venue, and open contracts."""
        moved = [
            (asset, amount)
            for (_, asset), amount in self._core.ledger.accounts.flows.items()
            if asset in marks and asset not in USD_COINS
        ]
        return hedging([*moved, *((p.base, p.qty) for p in perpetuals if p.base in marks)], marks)

    def _stress(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Exposure under stress: what our trading moved, per account, and orders whose outcome is not known."""
        ledger, instruments = self._core.ledger, self._core.context.instruments
        moved = [
            (asset, venue, amount)
            for (venue, asset), amount in ledger.accounts.flows.items()
            if amount and asset not in USD_COINS
        ]
        for (venue, symbol), position in ledger.accounts.futures.items():
            row = instruments.find(venue, symbol)
            if row is not None and position.qty:
                moved.append((row.spec.base, f"{venue} {symbol}", position.qty))
        unknown = []
        for order in ledger.unsettled.values():
            intent, left = order.intent, order.intent.qty - order.filled
            account = intent.venue
            if intent.kind is InstrumentKind.PERPETUAL:
                account = f"{intent.venue} {intent.symbol}"
            unknown.append((intent.base, account, left * int(intent.side)))
        return stress(moved, unknown, marks, self._core.hedges.watch.basis_move())
