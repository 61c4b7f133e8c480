"""Accounts of a simulated venue: keys, wallets, futures positions, the account book. Exact Decimals."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from decimal import Decimal

from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.fees import FeeDeduction

BOOK_ENTRIES_MAX = 20_000  # of an account's book
ACCOUNT_MODES = ("classic", "multi_currency", "portfolio", "single_currency")


@dataclass(slots=True)
class PositionSpan:
    """A position's life since it was last flat; the first three are what its totals were then."""

    realised_pnl: Decimal = ZERO
    paid_fees: Decimal = ZERO
    paid_funding: Decimal = ZERO
    opened_ms: int = 0
    entered_qty: Decimal = ZERO
    entered_quote: Decimal = ZERO
    exited_qty: Decimal = ZERO
    exited_quote: Decimal = ZERO
    max_qty: Decimal = ZERO

    def start(self, position: SimPosition, now_ms: int) -> None:
        self.realised_pnl, self.paid_fees = position.realised_pnl, position.paid_fees
        self.paid_funding, self.opened_ms = position.paid_funding, now_ms
        self.entered_qty = self.entered_quote = self.exited_qty = self.exited_quote = self.max_qty = ZERO


@dataclass(slots=True, frozen=True, kw_only=True)
class PositionClose:
    """A position that went back to flat. Fees and funding: positive = paid."""

    symbol: str
    is_long: bool
    opened_ms: int
    closed_ms: int
    realised_pnl: Decimal
    paid_fees: Decimal
    paid_funding: Decimal
    max_qty: Decimal
    total_qty: Decimal
    entry_price: Decimal
    exit_price: Decimal
    text: str  # of the order that closed it


@dataclass(slots=True, frozen=True, kw_only=True)
class ForcedClose:
    """What the venue closed by itself. Quantities in base coin; ``position_qty`` is the position before, signed.

    ``kind``: liquidation, adl or settlement. ``leverage`` 0 = cross margin. ``liq_price`` 0 = never.
    """

    kind: str
    symbol: str
    mode: str
    order_id: int
    position_qty: Decimal
    closed_qty: Decimal
    left_qty: Decimal  # of the position after
    entry_price: Decimal
    mark_price: Decimal
    liq_price: Decimal
    order_price: Decimal  # 0 = at the market
    fill_price: Decimal  # average
    margin: Decimal
    leverage: Decimal
    fee: Decimal
    ts_ms: int


@dataclass(slots=True, kw_only=True)
class SimPosition:
    """Futures position. ``cost`` is the signed open cost: average entry = cost / qty, exact until divided.

    ``mode``: single, dual_long or dual_short. ``margin``: what backs it in isolated mode, initial margin at the fill
    prices and what was added by hand; kept, but without meaning, in cross mode.
    """

    symbol: str
    qty: Decimal = ZERO  # base coin, signed
    cost: Decimal = ZERO  # sum of price x signed base quantity that is still open
    leverage: Decimal = Decimal(10)
    realised_pnl: Decimal = ZERO
    paid_fees: Decimal = ZERO
    paid_funding: Decimal = ZERO
    updated_ms: int = 0
    update_seq: int = 0
    mode: str = "single"
    is_cross: bool = False
    margin: Decimal = ZERO
    span: PositionSpan = field(default_factory=PositionSpan)

    @property
    def entry_price(self) -> Decimal:
        """Average entry price in quote per base coin; 0 when flat."""
        return self.cost / self.qty if self.qty else ZERO

    def copy(self) -> SimPosition:
        """A copy that later fills do not change."""
        return replace(self, span=replace(self.span))


@dataclass(slots=True, frozen=True, kw_only=True)
class BookEntry:
    """One change of an account's money, as its account book shows it. ``reason`` as in ``BalanceEvent``."""

    entry_id: int
    ts_ms: int
    asset: str
    change: Decimal
    balance: Decimal  # total after the change
    reason: str
    symbol: str
    order_id: int
    trade_id: int


@dataclass(slots=True)
class Wallet:
    """One asset of one account."""

    free: Decimal = ZERO
    locked: Decimal = ZERO
    update_seq: int = 0

    @property
    def total(self) -> Decimal:
        return self.free + self.locked


@dataclass(slots=True)
class ApiKey:
    """A key of an account. ``can_trade`` False = read-only."""

    api_key: str
    api_secret: str
    can_trade: bool = True


@dataclass(slots=True, eq=False)
class SimAccount:
    """One wallet of one user on one venue. Several keys may open it; ``api_key``/``api_secret`` are the first."""

    uid: str
    keys: dict[str, ApiKey] = field(default_factory=dict)
    wallets: dict[str, Wallet] = field(default_factory=dict)
    positions: dict[str, SimPosition] = field(default_factory=dict)
    dual_side: bool = False
    account_mode: str = "classic"  # one of ACCOUNT_MODES; shown, not simulated
    book: deque[BookEntry] = field(default_factory=lambda: deque(maxlen=BOOK_ENTRIES_MAX))
    closes: list[PositionClose] = field(default_factory=list)
    forced: list[ForcedClose] = field(default_factory=list)
    default_leverage: Decimal = Decimal(10)  # of contracts that were never set
    default_cross: bool = False
    fee_deduction: FeeDeduction | None = None

    @property
    def api_key(self) -> str:
        """The first key."""
        return next(iter(self.keys))

    @property
    def api_secret(self) -> str:
        """The secret of the first key."""
        return next(iter(self.keys.values())).api_secret

    def secret_of(self, api_key: str) -> str:
        """The secret of a key; raises ``KeyError`` for a key of another account."""
        return self.keys[api_key].api_secret

    def wallet(self, asset: str) -> Wallet:
        """The wallet of an asset; an empty one is made where there is none."""
        found = self.wallets.get(asset)
        if found is None:
            found = self.wallets[asset] = Wallet()
        return found

    @property
    def balances(self) -> dict[str, tuple[Decimal, Decimal]]:
        """asset -> (free, locked)."""
        return {asset: (wallet.free, wallet.locked) for asset, wallet in self.wallets.items()}
