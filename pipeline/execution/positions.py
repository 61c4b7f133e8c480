"""Positions, exposure and P&L as users see them: computed from the ledger, stored nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

import msgspec

from pipeline.execution.accounts import EXACT
from pipeline.execution.ledger import Ledger, Operation
from pipeline.execution.market import UsdRates
from pipeline.execution.records import FillRecord, Record
from pipeline.model.enums import OrderSide
from pipeline.model.instruments import USD_COINS
from pipeline.model.structs import ZERO


class PositionEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Net filled quantity of one operation on one instrument."""

    position_id: str
    opportunity_id: int
    operation_id: str
    exchange: str  # venue name
    symbol: str
    base: str
    side: OrderSide
    quantity: Decimal
    entry_price: Decimal
    opened_mono_ns: int
    state: str
    recovered: bool


class PositionManager:
    """Positions, exposure and P&L, computed from the ledger at each call."""

    def __init__(
        self, ledger: Ledger, rates: UsdRates, emit: Callable[[Record], None], numeraire: str = "USDT"
    ) -> None:
        self._ledger = ledger
        self._numeraire = numeraire
        self._rates = rates
        self._emit = emit

    def create_position(self, operation: Operation, venue: str, symbol: str) -> PositionEntry | None:
        """The position that an operation's fills made on one instrument; None when they sum to nothing."""
        fills = [fill for fill in operation.fills if (fill.venue, fill.symbol) == (venue, symbol)]
        net = sum((fill.qty * int(fill.side) for fill in fills), ZERO)
        if not net:
            return None
        side = OrderSide.BUY if net > 0 else OrderSide.SELL
        return PositionEntry(
            position_id=f"{operation.operation_id}.{fills[0].instrument_id}",
            opportunity_id=operation.record.opportunity_id,
            operation_id=operation.operation_id,
            exchange=fills[0].venue,
            symbol=fills[0].symbol,
            base=fills[0].base,
            side=side,
            quantity=abs(net),
            entry_price=_average([fill for fill in fills if fill.side is side]),
            opened_mono_ns=fills[0].recv_mono_ns,
            state=operation.state.name,
            recovered=operation.recovered,
        )

    def get_positions(
        self, *, exchange: str | None = None, symbol: str | None = None, open_only: bool = True
    ) -> list[PositionEntry]:
        """Positions of operations that are under way or have an open hedge (``open_only=False``: of all in
        memory; operations that were settled long ago have left it, with their positions)."""
        ledger = self._ledger
        wanted = list(ledger.operations.values())
        if open_only:
            ids = [*ledger.open_operations, *(i for i in ledger.hedges if i not in ledger.open_operations)]
            wanted = [ledger.operations[i] for i in ids]
        entries: list[PositionEntry] = []
        for operation in wanted:
            for place in dict.fromkeys((fill.venue, fill.symbol) for fill in operation.fills):
                entry = self.create_position(operation, *place)
                if entry is None or (exchange and entry.exchange != exchange) or (symbol and entry.symbol != symbol):
                    continue
                entries.append(entry)
        return entries

    def calculate_total_exposure(self) -> Decimal | None:
        """USD value of |net exposure| per asset: open operations and hedges should leave it near zero. None where an
        asset has no USD rate now: what cannot be valued does not count as nothing."""
        total = ZERO
        for asset, amount in self.delta().items():
            if asset in USD_COINS or not amount:
                continue
            rate = self._rates.rate(asset)
            if rate is None:
                return None
            total += abs(amount) * rate
        return total

    def calculate_total_pnl(self) -> dict[str, Decimal]:
        """Realised change per asset by every fill, fee and funding since the journal began; exact."""
        return self._ledger.accounts.per_asset()

    def delta(self) -> dict[str, Decimal]:
        """Net change of exposure per asset by everything that was executed on the accounts, ours or not: spot changes
        plus futures positions, as they are at the venues."""
        return self._ledger.accounts.delta({**self._ledger.external.base_of, **self._ledger.base_of})

    def targets(self) -> dict[str, Decimal]:
        """What :meth:`delta` should be per base asset: the dust left on purpose, and what others hold on our accounts
        (a hedge's legs cancel out). The numeraire has no target."""
        totals = dict(self._ledger.dust)
        for asset, amount in self._ledger.external.foreign().items():
            totals[asset] = EXACT.add(totals.get(asset, ZERO), amount)
        totals.pop(self._numeraire, None)
        return {asset: amount for asset, amount in totals.items() if amount}

    def age_ns(self, entry: PositionEntry, mono_ns: int) -> int:
        """Time since the position's first fill."""
        return mono_ns - entry.opened_mono_ns

    @contextmanager
    def atomic_operation(self) -> Iterator[list[Record]]:
        """Collects records and applies them all at the end, or none when the block raises."""
        batch: list[Record] = []
        yield batch
        for record in batch:
            self._emit(record)


def _average(fills: list[FillRecord]) -> Decimal:
    qty = sum((fill.qty for fill in fills), ZERO)
    value = sum((EXACT.multiply(fill.qty, fill.price) for fill in fills), ZERO)
    return value / qty if qty else ZERO
