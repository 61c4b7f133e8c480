"""Frozen structs that several packages exchange. Decimals are exact; names of times say which clock they are of."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.model.enums import (
    FeeAssetRule,
    InstrumentKind,
    OpportunityType,
    OrderKind,
    OrderSide,
    OrderState,
    TimeInForce,
    TradingStatus,
)

#: The one zero of all sums of money and quantities.
ZERO = Decimal(0)


class CoinIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which coin a ticker is on a venue.

    ``networks``: sorted tuple of (network, contract address), both lower case, address "" for a native coin.
    """

    asset: str
    networks: tuple[tuple[str, str], ...] = ()
    deposit_enabled: bool = True
    withdraw_enabled: bool = True


class InstrumentSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol of one venue, as the venue's own endpoints describe it. Quantities are in base coin."""

    venue: str
    symbol: str
    base: str
    quote: str
    kind: InstrumentKind
    tick: Decimal
    lot: Decimal  # base step; futures: contract step x multiplier
    min_qty: Decimal = ZERO
    max_qty: Decimal = ZERO  # 0 = none
    min_notional: Decimal = ZERO  # in quote
    multiplier: Decimal = Decimal(1)  # base coins per contract; 1 for spot
    status: TradingStatus = TradingStatus.TRADING
    taker_fee_ppm: int = 0
    maker_fee_ppm: int = 0
    fee_rule: FeeAssetRule = FeeAssetRule.RECEIVED
    price_band_ppm: int = 0
    funding_rate_ppb: int = 0
    funding_interval_s: int = 0
    funding_next_wall_s: int = 0
    trading_from_wall_s: int = 0  # listing; 0 = not known
    trading_until_wall_s: int = 0  # delisting, delivery, or when only reductions begin; 0 = none
    ending: bool = False  # that is near or has begun: no entries, hedges leave (``model.trading_times``)
    unreadable: bool = False  # "ending" only because its row could not be read: no entries, hedges stay
    reference_price: Decimal = ZERO  # last or mark price where the venue gives it; 0 = unknown
    identity: CoinIdentity | None = None

    @property
    def pair(self) -> str:
        """Canonical name of the pair, ``BASE/QUOTE``."""
        return f"{self.base}/{self.quote}"


class FundingTerms(msgspec.Struct, frozen=True):
    """What a perpetual pays next, and when (unix s; 0 = the venue did not say)."""

    rate_ppb: int
    next_wall_s: int


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One order to be placed, exactly once. ``price`` and ``qty`` are already on tick and lot.

    ``qty`` is base coin; codecs turn it into contracts. ``price`` of a market order is 0.
    """

    client_id: str
    venue: str
    symbol: str
    side: OrderSide
    kind: OrderKind
    tif: TimeInForce
    qty: Decimal
    price: Decimal
    reduce_only: bool = False
    multiplier: Decimal = Decimal(1)
    expiry_wall_ms: int = 0  # the venue must refuse it after this (Gate.io x-gate-exptime, recvWindow); 0 = none


class OrderUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """An order as a venue reports it, by stream or REST. What it does not report is None, never a guess."""

    venue: str
    symbol: str
    client_id: str
    order_id: str
    state: OrderState
    filled_qty: Decimal | None  # cumulative, base coin
    average_price: Decimal | None
    venue_wall_ms: int
    recv_mono_ns: int
    source: str  # "ws", "ws_api", "rest"
    reason: str = ""  # venue's code or label of a refusal or an end


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One execution. Deduplicated forever by (venue, symbol, trade_id)."""

    venue: str
    symbol: str
    trade_id: str
    order_id: str
    client_id: str
    side: OrderSide
    qty: Decimal  # base coin
    price: Decimal
    fee: Decimal  # positive = paid
    fee_asset: str
    is_maker: bool
    venue_wall_ms: int
    recv_mono_ns: int
    source: str
    extra_fees: tuple[tuple[str, Decimal], ...] = ()  # (asset, amount): what was taken in further assets

    @property
    def fees(self) -> tuple[tuple[str, Decimal], ...]:
        """(asset, amount) of every part of the fee, positive = paid; parts of 0 are left out."""
        return tuple(part for part in ((self.fee_asset, self.fee), *self.extra_fees) if part[1])


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """One balance as a venue reports it, in units of the asset; total = ``free`` + ``locked``."""

    venue: str
    asset: str
    free: Decimal
    locked: Decimal
    recv_mono_ns: int
    source: str  # "ws" or "rest"


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Futures position; ``qty`` in base coin, signed. Pushes of some venues lack what follows ``recv_mono_ns``."""

    venue: str
    symbol: str
    qty: Decimal
    entry_price: Decimal
    mark_price: Decimal  # 0 = not reported
    recv_mono_ns: int
    margin: Decimal = ZERO  # quote that backs it in isolated mode; 0 = not reported
    unrealised_pnl: Decimal = ZERO  # quote, at mark
    liquidation_price: Decimal | None = None  # as the venue computes it; 0 = no price liquidates, None = not reported
    maintenance_rate: Decimal = ZERO  # fraction of the notional, of the position's tier; 0 = not reported
    maintenance_margin: Decimal | None = None  # quote, at mark, fees apart


class Funding(msgspec.Struct, frozen=True, kw_only=True):
    """One funding payment as the venue booked it. Counted once for ever by (venue, event_id)."""

    venue: str
    symbol: str
    event_id: str
    asset: str
    amount: Decimal  # signed: + = received
    venue_wall_ms: int


class MoneyMove(msgspec.Struct, frozen=True, kw_only=True):
    """Money that moved without an order, as a list of the venue's own shows it: a deposit, a withdrawal, a transfer."""

    venue: str
    asset: str
    amount: Decimal  # signed: + = came
    reason: str  # the venue's own word for it
    listed_in: str  # "account_book", "deposits", "withdrawals", "transfers"
    event_id: str  # unique in that list
    venue_wall_ms: int

    @property
    def witness(self) -> str:
        """What proves it: list and id."""
        return f"{self.listed_in} {self.event_id}"


class ForcedClose(msgspec.Struct, frozen=True, kw_only=True):
    """A futures position that the venue has closed by itself, whole or in part, as a list of its own shows it."""

    venue: str
    symbol: str
    order_id: str
    cause: str  # "liquidation" | "adl"
    price: Decimal
    listed_in: str  # "liquidates", "auto_deleverages"
    venue_wall_ms: int

    @property
    def witness(self) -> str:
        """What proves it: list and id."""
        return f"{self.listed_in} {self.order_id}"


class UnreadableRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ours in a venue's list that could not be read: the list lacks what it says."""

    what: str  # the list
    name: str  # instrument, or asset where the list is of money
    order_id: str = ""  # of the order that it is about, as the venue names it and as we do; "" where it does not say
    client_id: str = ""
    reason: str = ""


class FeeSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """Fee rates of one account on one symbol, in ppm of the notional."""

    venue: str
    symbol: str
    taker_ppm: int
    maker_ppm: int


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """API key of one venue account. ``repr`` never shows it."""

    api_key: str
    api_secret: str
    uid: str = ""

    def __repr__(self) -> str:
        return "Credentials(***)"

    __str__ = __repr__


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol that a market trades now. ``day_volume``: quote coin traded in 24 h; None: the venue does not tell."""

    symbol: str
    base: str
    quote: str
    day_volume: Decimal | None = None


class KeyRights(msgspec.Struct, frozen=True, kw_only=True):
    """What a venue tells of an API key. None: it does not tell, which is never taken for a yes or a no."""

    trade: bool | None = None
    withdraw: bool | None = None
    ip_bound: bool | None = None


class ArbitrageOpportunity(msgspec.Struct, frozen=True, kw_only=True):
    """An opportunity as a Python user sees it."""

    opportunity_id: str
    opportunity_type: OpportunityType
    symbol: str
    buy_exchange: str
    sell_exchange: str
    buy_price: Decimal
    sell_price: Decimal
    max_quantity: Decimal
    profit_per_unit: Decimal
    total_profit_estimate: Decimal
    profit_margin_bps: Decimal
