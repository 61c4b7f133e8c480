"""What trades of others on our accounts hold, what it cost, and what they have realised: a fold of external records.

Contracts and coins at average cost. A trade in a pair that is not quoted in a USD coin moves two coins: what was paid
is held (or lacking) too, at a cost of itself, so that each counts at its own mark and the trade's worth is that of what
it gave less that of what it took. What comes from outside (a deposit, a withdrawal) is stock like the balances at the
start; it counts here only as far as it undoes what others had traded: coins that were bought by hand and withdrawn are
no position of anybody any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from pipeline.execution.accounts import EXACT, FuturesPosition
from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord
from pipeline.execution.results.coin_holding import CoinHolding
from pipeline.model.enums import InstrumentKind
from pipeline.model.instruments import USD_COINS
from pipeline.model.structs import ZERO
from pipeline.model.units import NS_PER_DAY

ONE = Decimal(1)
Place = tuple[str, str]  # venue and contract, or venue and coin


@dataclass(slots=True)
class ForeignTrades:
    """``contracts``: (venue, symbol) -> position, ``coins``: (venue, coin) -> what trades of others left beyond what
    lay there; signed base coins at average cost. ``quotes``: the asset of each one's ``cost``. ``realised``: asset ->
    gained (or lost, < 0) by trades of others since the journal began, their fees included; ``today`` the same on UTC
    day ``day``.

    ``moves`` counts changes of this run: who values the holdings looks again when it has grown.
    """

    contracts: dict[Place, FuturesPosition] = field(default_factory=dict)
    coins: dict[Place, CoinHolding] = field(default_factory=dict)
    quotes: dict[Place, str] = field(default_factory=dict)
    realised: dict[str, Decimal] = field(default_factory=dict)
    day: int = 0
    today: dict[str, Decimal] = field(default_factory=dict)
    moves: int = 0

    def realised_on(self, day: int) -> dict[str, Decimal]:
        """What was realised on this UTC day, by asset."""
        return self.today if day == self.day else {}

    def content(self) -> list[object]:
        """Everything that a journal says, for the ledger's digest; empty where others have traded nothing."""
        if not (self.quotes or self.realised):
            return []
        held: tuple[dict[Place, FuturesPosition], dict[Place, CoinHolding]] = (self.contracts, self.coins)
        rows = [sorted((k, str(p.qty), str(p.cost)) for k, p in found.items()) for found in held]
        sums = [sorted((k, str(v)) for k, v in found.items()) for found in (self.realised, self.today)]
        others = sorted((k, a, str(v)) for k, p in self.coins.items() for a, v in p.others.items())
        return [rows, sorted(self.quotes.items()), self.day, sums, *([others] if others else [])]

    # --- the fold ---

    def fill(self, record: ExternalFillRecord, wall_ns: int) -> None:
        """An execution of others, less what it took of operations of ours."""
        left = EXACT.subtract(record.qty, sum((share.qty for share in record.taken), ZERO))
        futures = record.kind is InstrumentKind.PERPETUAL
        key = (record.venue, record.symbol if futures else record.base)
        if left and futures:
            self.position(*key, record.quote, left * int(record.side), record.price, wall_ns)
        elif left:
            signed = left * int(record.side)
            self._trade(key, record.quote, signed, record.price, wall_ns)
            self._pay(record, -EXACT.multiply(signed, record.price), wall_ns)
        for asset, paid in record.fees_of_others:
            if record.coin_fees is not None and asset not in (record.base, record.quote):
                continue  # a coin for fees may have no price ever: it was valued when it was paid
            if not futures and asset == record.base and paid:  # coins that came and went at once, unpaid for
                self._trade(key, record.quote, -paid, record.price, wall_ns)
                asset, paid = record.quote, EXACT.multiply(paid, record.price)
            elif not futures and asset == record.quote:
                self._pay(record, -paid, wall_ns)
            self._gain(asset, -paid, wall_ns)
        self._gain(record.quote, -(record.coin_fees or ZERO), wall_ns)

    def position(self, venue: str, symbol: str, quote: str, signed: Decimal, price: Decimal, wall_ns: int) -> None:
        """A contract's position changed by ``signed``: by an execution, or without one that is known."""
        if signed:
            position = self.contracts.setdefault((venue, symbol), FuturesPosition())
            self._gain(quote, position.apply(signed, price), wall_ns)
            self._moved((venue, symbol), quote, position, self.contracts)

    def handed_over(self, key: Place, signed: Decimal, price: Decimal, *, futures: bool) -> None:
        """An operation of ours, or stock, has been given ``signed`` of what others were thought to hold: nobody gains
        by it. They cannot give more than they hold, nor what they lack."""
        held: dict[Place, FuturesPosition] | dict[Place, CoinHolding] = self.contracts if futures else self.coins
        position = held.get(key)
        if position is None or position.qty * signed <= 0:
            return
        left = ZERO if abs(signed) >= abs(position.qty) else EXACT.subtract(position.qty, signed)
        position.set_qty(left, price)
        self._moved(key, self.quotes[key], position, held)

    def flow(self, record: ExternalFlowRecord) -> None:
        """Money that came or went: it undoes what others had traded, and is stock for the rest."""
        key = (record.venue, record.asset)
        position = self.coins.get(key)
        if position is None:
            return
        undone = record.amount if position.qty * record.amount < 0 else ZERO
        if position.qty < 0:  # others had sold coins of hedges: what the hedges lose is no debt of others any more
            undone += sum((share.qty for share in record.taken), ZERO)
        if undone:
            most = min(abs(undone), abs(position.qty)) * (1 if undone > 0 else -1)
            position.set_qty(EXACT.add(position.qty, most), ZERO)
            self._moved(key, self.quotes[key], position, self.coins)

    def _pay(self, record: ExternalFillRecord, amount: Decimal, wall_ns: int) -> None:
        """The quote that a spot trade moved: money where it is a USD coin, else coins that cost themselves."""
        self._trade((record.venue, record.quote), record.quote, amount, ONE, wall_ns)

    def _trade(self, key: Place, quote: str, signed: Decimal, price: Decimal, wall_ns: int) -> None:
        if key[1] in USD_COINS and key[1] != quote:  # money for money: what it gave and took
            self._gain(key[1], signed, wall_ns)
            self._gain(quote, -EXACT.multiply(signed, price), wall_ns)
        if key[1] in USD_COINS or not signed:
            return
        holding = self.coins.setdefault(key, CoinHolding())
        before, own = holding.qty, self.quotes.get(key, quote)
        for asset, amount in holding.trade(signed, price, quote, own).items():
            self._gain(asset, amount, wall_ns)
        self._moved(key, own if before * holding.qty > 0 else quote, holding, self.coins)

    def _moved(
        self,
        key: Place,
        quote: str,
        position: FuturesPosition,
        held: dict[Place, FuturesPosition] | dict[Place, CoinHolding],
    ) -> None:
        self.moves += 1
        if position.qty:
            self.quotes[key] = quote
        else:
            held.pop(key, None)
            self.quotes.pop(key, None)

    def _gain(self, asset: str, amount: Decimal, wall_ns: int) -> None:
        if not amount:
            return
        day = wall_ns // NS_PER_DAY
        if day > self.day:  # a wall clock that steps back does not begin a day again
            self.day, self.today = day, {}
        self.moves += 1
        for sums in (self.realised, self.today):
            sums[asset] = EXACT.add(sums.get(asset, ZERO), amount)
