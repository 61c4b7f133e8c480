"""What is open is worth now: hedges at the mids of their books, and what others hold on our accounts at its mark.

Looked at once a second, and when others have traded. What cannot be valued (no rate, no living book) is *unknown*:
it counts neither as 0 nor as what it cost, and no entry is taken while there is any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from pipeline.execution.accounts import FuturesPosition
from pipeline.execution.core_context import CoreContext
from pipeline.execution.external_shares import is_traded
from pipeline.execution.market import UsdRates, mid_price, tradable
from pipeline.execution.records import HedgeRecord
from pipeline.execution.results.coin_holding import CoinHolding
from pipeline.model.config import RiskLimits
from pipeline.model.dialects import facts_of
from pipeline.model.enums import Refusal
from pipeline.model.instruments import USD_COINS, InstrumentRow
from pipeline.model.structs import ZERO
from pipeline.model.units import NS_PER_DAY
from pipeline.risk.breakers import ADOPT, DAILY_LOSS, TOTAL_LOSS
from pipeline.risk.exposure import Exposure
from pipeline.risk.margin_state import MarginState

Key = tuple[str, str]  # venue and symbol, or venue and coin


@dataclass(frozen=True, slots=True)
class ForeignHolding:
    """What others hold on one contract (``symbol``), or of one coin at a venue (``symbol`` ""): signed base coins, its
    value and unrealised P&L in USD."""

    venue: str
    symbol: str
    coin: str
    pairs: frozenset[str]
    qty: Decimal
    usd: Decimal
    unrealised_usd: Decimal


@dataclass(frozen=True, slots=True)
class LossBeyond:
    """A loss that is more than its limit: what it refuses, the breaker that it trips, and why."""

    refusal: Refusal
    breaker: str
    text: str


class Worth:
    """One per core. ``unrealised``: of the open hedges, USD; ``foreign_today``: of the day, by trades of others;
    ``foreign_in_all``: the same since the journal began. ``unknown``: what cannot be valued -> why;
    ``solves``: the same -> what ends it, where it does not end with its book."""

    def __init__(self, context: CoreContext, rates: UsdRates, margin: MarginState) -> None:
        self._context = context
        self._rates = rates
        self._margin = margin
        coins = [facts_of(venue.dialect).deduction_coins for venue in context.config.venues]
        named = {fees.deduction.coin for fees in context.config.fees.values() if fees.deduction}
        self._fee_coins = named.union(*coins)
        self._hedges: dict[str, tuple[int, Decimal]] = {}  # hedge -> proof of the older book (mono ns), unrealised USD
        self._mids: dict[Key, Decimal] = {}  # mid of each hedge's contract when it was valued
        self._moves = -1
        self.foreign: tuple[ForeignHolding, ...] = ()
        self.unrealised = self.foreign_today = self.foreign_in_all = ZERO
        self.unknown: dict[str, str] = {}
        self.solves: dict[str, str] = {}

    @property
    def oldest_mono_ns(self) -> int:
        """A book that was proved current before this moment values nothing: its feed is dead."""
        return self._context.now.mono_ns - self._context.config.detection.dead_after_ms * 1_000_000

    def rate(self, asset: str) -> Decimal | None:
        """USD per unit of an asset by a living book; None = not known."""
        return self._rates.rate_since(asset, self.oldest_mono_ns)

    @property
    def marks(self) -> Mapping[Key, Decimal]:
        """Marks of contracts: the venue's, else the mid at which a hedge was valued last."""
        return {**self._mids, **self._margin.marks}

    def refresh(self, *, moved_only: bool = False) -> None:
        """Values everything anew; ``moved_only``: only where others have traded since the last time."""
        trades = self._context.ledger.external.trades
        if moved_only and trades.moves == self._moves:
            return
        self._moves, self.unknown, self.solves = trades.moves, {}, {}
        self._value_hedges()
        self._value_foreign()

    # --- hedges ---

    def _value_hedges(self) -> None:
        ledger = self._context.ledger
        kept: dict[str, tuple[int, Decimal]] = {}
        for name, hedge in ledger.hedges.items():
            if name in ledger.open_operations:
                continue
            why, value = self._of_hedge(hedge)
            if value is not None:
                kept[name] = value
            elif name in self._hedges and self._hedges[name][0] >= self.oldest_mono_ns:
                kept[name] = self._hedges[name]
            else:
                self.unknown[f"hedge {name}"] = why
                self._solve_hedge(f"hedge {name}", hedge)
        self._hedges = kept
        self.unrealised = sum((value for _, value in kept.values()), ZERO)

    def _of_hedge(self, hedge: HedgeRecord) -> tuple[str, tuple[int, Decimal] | None]:
        """(why it is not known, (proof of the older book, USD)): profit if both legs were worth the mids of their books
        now. Fees and funding are booked when they are paid.

        Mids of one moment, not the mark of the last account reading: a difference of times would be a loss that is
        none."""
        spot, futures = (hedge.spot_venue, hedge.spot_symbol), (hedge.futures_venue, hedge.futures_symbol)
        quote = self._context.ledger.operations[hedge.operation_id].record.legs[0].quote
        rate, mids = self.rate(quote), {key: self._mid(*key) for key in (spot, futures)}
        for (venue, symbol), mid in mids.items():
            if mid is None:
                return f"no living book of {symbol} on {venue}", None
        if rate is None:
            return f"no USD rate for {quote}", None
        at_spot, at_futures = mids[spot], mids[futures]
        assert at_spot is not None and at_futures is not None
        self._mids[futures] = at_futures[1]
        gained = (at_spot[1] - hedge.entry_spot_price) - (at_futures[1] - hedge.entry_futures_price)
        return "", (min(at_spot[0], at_futures[0]), int(hedge.spot_side) * hedge.qty * gained * rate)

    def _solve_hedge(self, name: str, hedge: HedgeRecord) -> None:
        for venue, symbol in ((hedge.spot_venue, hedge.spot_symbol), (hedge.futures_venue, hedge.futures_symbol)):
            if self._context.instruments.find(venue, symbol) is None:
                self.unknown[name] = f"{symbol} on {venue} is not in the catalogue"
                self.solves[name] = (
                    f"`arb symbols add {venue} {symbol}` where the venue still lists it; else close both legs at the"
                    " venues by hand: what is booked as gone ends it"
                )

    def _no_rate(self, name: str, asset: str) -> None:
        self.unknown[name] = f"no USD rate for {asset}"
        if self._unpriced(asset):
            self.solves[name] = f"`arb symbols add VENUE SYMBOL` with a spot pair of {asset} against a USD coin"

    def _unpriced(self, asset: str) -> bool:
        """Whether no row of the catalogue could price an asset, however its books stand."""
        return all(row.spec.base != asset or row.spec.quote not in USD_COINS for row in self._context.instruments)

    def _mid(self, venue: str, symbol: str) -> tuple[int, Decimal] | None:
        """(proof mono ns, mid) of a living book."""
        row = self._context.instruments.find(venue, symbol)
        view = None if row is None else self._context.market.book(row.instrument_id)
        if row is None or view is None or view.proof_mono_ns < self.oldest_mono_ns or not tradable(view, row):
            return None
        mid = mid_price(view, row)
        return None if mid is None else (view.proof_mono_ns, mid)

    def _price(self, venue: str, symbol: str) -> Decimal | None:
        found = self._mid(venue, symbol)
        return None if found is None else found[1]

    # --- what others hold ---

    def _value_foreign(self) -> None:
        ledger = self._context.ledger
        trades = ledger.external.trades
        found: list[ForeignHolding] = []
        offsets = {key for key, qty in ledger.position_offsets.items() if qty}
        for key in sorted({*ledger.external.unowned, *offsets}):
            qty = ledger.external.unowned.get(key, ZERO) + ledger.position_offsets.get(key, ZERO)
            held = trades.contracts.get(key)  # with nothing left: what stood before this journal, closed by others
            found += self._contract(key, qty, held) if qty or held is not None else []
        for key, coins in sorted(trades.coins.items()):
            found += self._coin(key, coins)
        self.foreign = tuple(found)
        today = self._context.now.wall_ns // NS_PER_DAY
        open_ = sum((holding.unrealised_usd for holding in found), ZERO)
        self.foreign_today = open_ + self._realised(trades.realised_on(today))
        self.foreign_in_all = open_ + self._realised(trades.realised)

    def _realised(self, amounts: Mapping[str, Decimal]) -> Decimal:
        total = ZERO
        for asset, amount in amounts.items():
            rate = self.rate(asset)
            if rate is None and asset in self._fee_coins and self._unpriced(asset):
                continue  # fees of a journal from before they were valued when paid: what no price comes for is let be
            if rate is None:
                self._no_rate(f"{asset} of others", asset)
                continue
            total += amount * rate
        return total

    def _contract(self, key: Key, qty: Decimal, held: FuturesPosition | None) -> list[ForeignHolding]:
        name, row = f"position of others on {key[1]} at {key[0]}", self._context.instruments.find(*key)
        if row is None:
            self.unknown[name] = "the contract is not in the catalogue"
            self.solves[name] = (
                f"`arb symbols add {key[0]} {key[1]}` where the venue still lists it; else close the position there,"
                f" then {ADOPT} takes it out"
            )
            return []
        mark, rate = self._margin.marks.get(key) or self._price(*key), self.rate(row.spec.quote)
        mark = held.entry_price if held is not None and not qty else mark  # nothing moves with the price any more
        if mark is None:
            self.unknown[name] = "no mark and no living book"
            return []
        if rate is None:
            self._no_rate(name, row.spec.quote)
            return []
        entry = self._entry(key, held) or mark
        pnl = held.qty * mark - held.cost + (qty - held.qty) * (mark - entry) if held else qty * (mark - entry)
        return [self._holding(row, key, qty, mark * rate, pnl * rate)]

    def _entry(self, key: Key, held: FuturesPosition | None) -> Decimal | None:
        """Entry of what stood there before this journal: as the venue reported at its begin, else as it reports it."""
        reported = self._context.ledger.offset_entries.get(key)
        if reported is not None:
            return reported
        reading = self._margin.readings.get(key)
        return reading.position.entry_price if reading is not None else held.entry_price if held else None

    def _coin(self, key: Key, held: CoinHolding) -> list[ForeignHolding]:
        venue, coin = key
        instruments = self._context.instruments
        quote, name = self._context.ledger.external.trades.quotes[key], f"{coin} of others at {venue}"
        if not held.qty or not is_traded(instruments, coin):
            return []
        here = next((r for r in instruments if (r.spec.venue, r.spec.base, r.spec.quote) == (venue, coin, quote)), None)
        mark, rate = None if here is None else self._price(venue, here.spec.symbol), self.rate(quote)
        in_usd = self.rate(coin) if mark is None or rate is None else mark * rate  # else by a book of another venue
        if in_usd is None:
            self._no_rate(name, coin if rate is not None else quote)
            return []
        paid = ZERO
        for asset, cost in held.costs(quote).items():
            unit = in_usd if asset == coin else self.rate(asset)
            if unit is None:
                self._no_rate(name, asset)
                return []
            paid += cost * unit
        row = next((r for r in instruments if r.spec.base == coin), None)
        row = row or next(r for r in instruments if r.spec.quote == coin)
        return [self._holding(row, key, held.qty, in_usd, held.qty * in_usd - paid, coin=coin)]

    def _holding(
        self, row: InstrumentRow, key: Key, qty: Decimal, usd: Decimal, pnl_usd: Decimal, *, coin: str = ""
    ) -> ForeignHolding:
        """``usd``: of one base coin; ``coin``: a coin at a venue, else a contract."""
        base = coin or row.spec.base
        pairs = {r.spec.pair for r in self._context.instruments if r.spec.base == base} if coin else {row.spec.pair}
        symbol = "" if coin else key[1]
        return ForeignHolding(key[0], symbol, base, frozenset(pairs), qty, abs(qty) * usd, pnl_usd)

    # --- limits ---

    def realised_today(self) -> Decimal:
        """P&L that was realised today, in the numeraire: 0 from UTC midnight until something is booked."""
        ledger = self._context.ledger
        return ledger.day_pnl if self._context.now.wall_ns // NS_PER_DAY <= ledger.day else ZERO

    def day_loss(self) -> Decimal:
        """Loss of the day in the numeraire: what was realised today, what the open hedges have lost at mid, and what
        trades of others have lost today.

        Below 0: a gain of ours that was realised; unrealised gains, and gains by others, do not count."""
        return -self.realised_today() - min(ZERO, self.unrealised) - min(ZERO, self.foreign_today)

    def total_loss(self) -> Decimal:
        """How far the P&L of all days lies below its highest since the journal began, unrealised losses counted in."""
        ledger = self._context.ledger
        down = max(ledger.peak_pnl, ledger.total_pnl) - ledger.total_pnl
        return down - min(ZERO, self.unrealised) - min(ZERO, self.foreign_in_all)

    def loss_beyond(self, limits: RiskLimits) -> LossBeyond | None:
        """The first loss that is more than its limit, or cannot be compared with it."""
        day, total = self.day_loss(), self.total_loss()
        parts = ""
        if self.unrealised < 0:
            parts += f", {-self.unrealised:.2f} of it not realised"
        if self.foreign_today < 0:
            parts += f", {-self.foreign_today:.2f} of it by trades of others"
        if not day <= limits.max_daily_loss_usd:
            return LossBeyond(Refusal.DAILY_LOSS, DAILY_LOSS, f"{day:.2f} USD lost today{parts}")
        if not total <= limits.total_loss_usd:
            text = f"{total:.2f} USD below the highest P&L since the journal began, at most {limits.total_loss_usd}"
            return LossBeyond(Refusal.TOTAL_LOSS, TOTAL_LOSS, text)
        return None

    def add_foreign(self, found: Exposure) -> None:
        """Adds what others hold to the exposure: each holding at its venue, position and pair; in all, what is long and
        short of one coin counts once, as a hedge of ours does."""
        by_coin: dict[str, tuple[Decimal, Decimal]] = {}
        for holding in self.foreign:
            long, short = by_coin.get(holding.coin, (ZERO, ZERO))
            amount = holding.usd
            by_coin[holding.coin] = (long + amount, short) if holding.qty > 0 else (long, short + amount)
            found.by_venue[holding.venue] = found.by_venue.get(holding.venue, ZERO) + amount
            found.add_position((holding.venue, holding.coin), amount)
            for pair in holding.pairs:
                found.by_pair[pair] = found.by_pair.get(pair, ZERO) + amount
        for coin, sides in by_coin.items():
            found.by_asset[coin] = found.by_asset.get(coin, ZERO) + max(sides)
            found.foreign += max(sides)
        found.total += found.foreign
