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
from pipeline.execution.hedging.watch import LOSS_HOLDS_S
from pipeline.execution.market import UsdRates, mid_price, tradable
from pipeline.execution.records import HedgeRecord
from pipeline.execution.results.coin_holding import CoinHolding
from pipeline.model.config import RiskLimits
from pipeline.model.dialects import facts_of
from pipeline.model.enums import Refusal
from pipeline.model.instruments import USD_COINS, InstrumentRow
from pipeline.model.structs import ZERO
from pipeline.model.units import NS_PER_DAY, NS_PER_S
from pipeline.risk.breakers import ADOPT, CANARY_LOSS, DAILY_LOSS, LOSS_LIMIT, TOTAL_LOSS
from pipeline.risk.day_opening import ForeignLook, OpenAtMidnight, Valued
from pipeline.risk.exposure import Exposure
from pipeline.risk.margin_state import MarginState

Key = tuple[str, str]  # venue and symbol, or venue and coin


def _of_others(venue: str, what: str, *, contract: bool) -> str:
    return f"position of others on {what} at {venue}" if contract else f"{what} of others at {venue}"


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

    @property
    def name(self) -> str:
        return _of_others(self.venue, self.symbol or self.coin, contract=bool(self.symbol))


@dataclass(frozen=True, slots=True)
class LossBeyond:
    """A loss that is more than its limit: what it refuses, the breaker that it trips, and why. ``realised``: it is that
    without what is open, so no price brings it back."""

    refusal: Refusal
    breaker: str
    text: str
    realised: bool


class Worth:
    """One per core. ``unrealised``: of the open hedges since their entry, USD; ``foreign_in_all``: by trades of others
    since the journal began. ``day``: what was open at 00:00 UTC. ``unknown``: what cannot be valued -> why; ``solves``:
    the same -> what ends it, where it does not end with its book."""

    def __init__(self, context: CoreContext, rates: UsdRates, margin: MarginState) -> None:
        self._context = context
        self._rates = rates
        self._margin = margin
        coins = [facts_of(venue.dialect).deduction_coins for venue in context.config.venues]
        named = {fees.deduction.coin for fees in context.config.fees.values() if fees.deduction}
        self._fee_coins = named.union(*coins)
        self._hedges: dict[str, Valued] = {}
        self._mids: dict[Key, Decimal] = {}  # mid of each hedge's contract when it was valued
        self._moves = -1
        self.day = OpenAtMidnight(context.ledger)
        self._beyond = ("", 0)  # the loss that every look has found beyond its limit: its breaker, since when (mono ns)
        self.foreign: tuple[ForeignHolding, ...] = ()
        self.unrealised = self.foreign_in_all = ZERO
        self.foreign_today = ZERO  # what trades of others have gained today, USD: realised, and the change of the rest
        self._foreign_look: ForeignLook | None = None
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
        self._begin_day()
        self._moves, self.unknown, self.solves = trades.moves, {}, {}
        self._value_hedges()
        self._value_foreign()
        self._look_at_limits()

    # --- hedges ---

    def _value_hedges(self) -> None:
        ledger = self._context.ledger
        kept: dict[str, Valued] = {}
        for name, hedge in ledger.hedges.items():
            if name in ledger.open_operations:
                continue
            why, value = self._of_hedge(hedge)
            if value is not None:
                kept[name] = value
            elif name in self._hedges and self._hedges[name].proof_mono_ns >= self.oldest_mono_ns:
                kept[name] = self._hedges[name]
            else:
                self.unknown[f"hedge {name}"] = why
                self._solve_hedge(f"hedge {name}", hedge)
        self._hedges = kept
        self.unrealised = sum((value.usd for value in kept.values()), ZERO)

    def _of_hedge(self, hedge: HedgeRecord) -> tuple[str, Valued | None]:
        """(why it is not known, profit if both legs were worth the mids of their books now). Fees and funding are
        booked when they are paid.

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
        usd = int(hedge.spot_side) * hedge.qty * gained * rate
        return "", Valued(min(at_spot[0], at_futures[0]), usd, hedge.qty)

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
        held: dict[str, Decimal] = {}
        offsets = {key for key, qty in ledger.position_offsets.items() if qty}
        for key in sorted({*ledger.external.unowned, *offsets}):
            qty = ledger.external.unowned.get(key, ZERO) + ledger.position_offsets.get(key, ZERO)
            position = trades.contracts.get(key)  # with nothing left: what stood before this journal, closed by others
            found += self._contract(key, qty, position) if qty or position is not None else []
            held[_of_others(*key, contract=True)] = qty
        for key, coins in sorted(trades.coins.items()):
            found += self._coin(key, coins)
            held[_of_others(*key, contract=False)] = coins.qty
        self.foreign = tuple(found)
        open_ = sum((holding.unrealised_usd for holding in found), ZERO)
        self.foreign_in_all = open_ + self._realised(trades.realised)
        self._foreign_look = ForeignLook(
            {holding.name: (holding.qty, holding.unrealised_usd) for holding in found},
            {name: qty for name, qty in held.items() if name in self.unknown},
            dict(trades.realised),
        )
        self.day.valued(self._hedges, self._foreign_look, trades.realised_on(self._today))
        self._count_foreign()

    def _count_foreign(self) -> None:
        look = self._foreign_look
        if look is not None:
            realised = self._realised(self.day.realised_since(look.realised))
            self.foreign_today = self.day.foreign_change(look) + realised

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
        name, row = _of_others(*key, contract=True), self._context.instruments.find(*key)
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
        quote, name = self._context.ledger.external.trades.quotes[key], _of_others(*key, contract=False)
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

    @property
    def _today(self) -> int:
        return self._context.now.wall_ns // NS_PER_DAY

    def _begin_day(self) -> None:
        day = max(self._today, self._context.ledger.day)
        if self.day.begin(self._context.now.wall_ns, day, self._hedges, self._foreign_look):
            self._count_foreign()

    def realised_today(self) -> Decimal:
        """P&L that was realised today, in the numeraire: 0 from UTC midnight until something is booked."""
        ledger = self._context.ledger
        return ledger.day_pnl if self._today <= ledger.day else ZERO

    def _open_today(self) -> Decimal:
        """How the worth of the hedges that are open has changed today, USD."""
        return self.unrealised - self.day.of_open(self._hedges.keys())

    def _ended_today(self) -> Decimal:
        """What was realised today less what of it had been gained or lost before: an exit books all since its entry."""
        return self.realised_today() - self.day.of_closed()

    def day_loss(self) -> Decimal:
        """Loss of the day in the numeraire, the one definition: since 00:00 UTC, what was realised, the change of the
        open hedges' worth at mid, and what trades of others have gained.

        Below 0: a gain of ours that was realised; open hedges that have gained, and gains by others, do not count: a
        price can take them back."""
        self._begin_day()
        return -self._ended_today() - min(ZERO, self._open_today()) - min(ZERO, self.foreign_today)

    def total_loss(self) -> Decimal:
        """How far the P&L of all days lies below its highest since the journal began, unrealised losses counted in."""
        return self._below_peak() - min(ZERO, self.unrealised) - min(ZERO, self.foreign_in_all)

    def _below_peak(self) -> Decimal:
        ledger = self._context.ledger
        return max(ledger.peak_pnl, ledger.total_pnl) - ledger.total_pnl

    def loss_beyond(self, limits: RiskLimits) -> LossBeyond | None:
        """The first loss that is more than its limit, or cannot be compared with it: no entry is taken."""
        return self._day_beyond(limits) or self._total_beyond(limits)

    def loss_of(self, breaker: str, limits: RiskLimits) -> LossBeyond | None:
        """The same of the loss that trips this breaker."""
        return self._day_beyond(limits) if breaker == DAILY_LOSS else self._total_beyond(limits)

    def _day_beyond(self, limits: RiskLimits) -> LossBeyond | None:
        day = self.day_loss()
        if day <= limits.max_daily_loss_usd:
            return None
        parts = f", at most {limits.max_daily_loss_usd} ({self._limit_keys(limits)[0]})"
        open_ = self._open_today()
        parts += f", {-open_:.2f} of it not realised" if open_ < 0 else ""
        parts += f", {-self.foreign_today:.2f} of it by trades of others" if self.foreign_today < 0 else ""
        realised = -self._ended_today() > limits.max_daily_loss_usd
        return LossBeyond(Refusal.DAILY_LOSS, DAILY_LOSS, f"{day:.2f} USD lost today{parts}", realised)

    def _total_beyond(self, limits: RiskLimits) -> LossBeyond | None:
        total = self.total_loss()
        if total <= limits.total_loss_usd:
            return None
        text = f"{total:.2f} USD below the highest P&L since the journal began, at most {limits.total_loss_usd}"
        realised = self._below_peak() > limits.total_loss_usd
        return LossBeyond(Refusal.TOTAL_LOSS, TOTAL_LOSS, f"{text} ({self._limit_keys(limits)[1]})", realised)

    def _limit_keys(self, limits: RiskLimits) -> tuple[str, str]:
        """The settings that bound the loss of the day and of all days: those of ``canary`` where they are narrower."""
        canary = self._context.config.canary
        if canary is None:
            return LOSS_LIMIT[DAILY_LOSS], LOSS_LIMIT[TOTAL_LOSS]
        day = CANARY_LOSS if canary.max_daily_loss_usd <= limits.max_daily_loss_usd else LOSS_LIMIT[DAILY_LOSS]
        return day, day if limits.total_loss_usd >= limits.max_daily_loss_usd * 4 else LOSS_LIMIT[TOTAL_LOSS]

    def _look_at_limits(self) -> None:
        loss, now_ns = self.loss_beyond(self._context.config.risk_limits), self._context.now.mono_ns
        breaker = "" if loss is None or self.unknown else loss.breaker  # what has no value may make up for it
        if breaker != self._beyond[0]:
            self._beyond = (breaker, now_ns)

    def trips(self, loss: LossBeyond) -> bool:
        """Whether a loss trips its breaker: where every look of some seconds has found it with all valued, unless it is
        realised. A side of a book that our own order has emptied moves the mid for as long."""
        breaker, since_ns = self._beyond
        return loss.realised or (
            breaker == loss.breaker and self._context.now.mono_ns - since_ns >= LOSS_HOLDS_S * NS_PER_S
        )

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
