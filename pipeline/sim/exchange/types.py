"""What the simulated venues talk about: instruments, requests, orders, trades, accounts, events.

Two kinds of numbers live here. The market moves in integers: prices in **ticks** and quantities in **units** of one
instrument (a unit is the book's own quantum: for futures one contract, for spot a fraction of the lot, because real
books hold orders finer than today's lot). Everything an account can see or the ledger keeps is exact ``Decimal`` in
base coin, quote coin and price. ``SimInstrument`` converts; its ``*_text`` methods never build a Decimal.

Nothing of the engine is imported but the model's words, so that this stays an independent reading of the venues.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum

from pipeline.model.enums import FeeAssetRule, InstrumentKind, OrderKind, OrderSide, TimeInForce, TradingStatus
from pipeline.model.structs import CoinIdentity

ZERO = Decimal(0)
ONE = Decimal(1)
PPM = Decimal(1_000_000)
BOOK_ENTRIES_MAX = 20_000  # of an account's book

Level = tuple[int, int]  # (price in ticks, quantity in units); quantity 0 in a delta deletes the level


class RejectReason(StrEnum):
    """Why a venue refuses, in venue-neutral words; a dialect maps each to its code, label and HTTP status."""

    UNKNOWN_SYMBOL = "unknown_symbol"
    SYMBOL_HALTED = "symbol_halted"
    SIDE_BARRED = "side_barred"
    BAD_PARAMETER = "bad_parameter"
    BAD_PRICE_TICK = "bad_price_tick"
    BAD_QTY_STEP = "bad_qty_step"
    QTY_TOO_SMALL = "qty_too_small"
    QTY_TOO_LARGE = "qty_too_large"
    NOTIONAL_TOO_SMALL = "notional_too_small"
    NOTIONAL_TOO_LARGE = "notional_too_large"
    PRICE_BAND = "price_band"
    NO_LIQUIDITY = "no_liquidity"  # market order on an empty side
    INSUFFICIENT_BALANCE = "insufficient_balance"  # spot
    INSUFFICIENT_MARGIN = "insufficient_margin"  # futures
    POST_ONLY_WOULD_TAKE = "post_only_would_take"
    FOK_NOT_FILLED = "fok_not_filled"
    REDUCE_ONLY = "reduce_only"  # would open or increase, or nothing to reduce
    DUPLICATE_CLIENT_ID = "duplicate_client_id"
    TOO_MANY_ORDERS = "too_many_orders"
    EXPIRED = "expired"  # arrived after the request's own expiry
    ORDER_NOT_FOUND = "order_not_found"  # cancel or query
    ORDER_FINISHED = "order_finished"  # cancel of a finished order
    NOT_PERMITTED = "not_permitted"  # key without the permission
    INJECTED = "injected"  # a fault rule said so


class SimReject(Exception):
    """The venue said no: final, nothing was executed."""

    def __init__(self, reason: RejectReason, text: str) -> None:
        super().__init__(f"{reason.value}: {text}")
        self.reason = reason
        self.text = text


class OrderStatus(StrEnum):
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"  # any end but filled; ``SimOrder.finish_as`` says which; may be part-filled

    @property
    def is_open(self) -> bool:
        return self in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


@dataclass(slots=True)
class SimInstrument:
    """One symbol of one simulated venue. Quantities are base coin unless the name says units.

    ``taker_fee_ppm``/``maker_fee_ppm`` are the account's own tier (what fills are charged); ``list_*`` are the
    public row's base tier. ``unit`` is the base quantity of one book unit; ``lot`` is a whole multiple of it.
    """

    symbol: str
    base: str
    quote: str
    kind: InstrumentKind
    tick: Decimal
    lot: Decimal
    unit: Decimal
    multiplier: Decimal = ONE  # base coins per contract; 1 on spot
    min_qty: Decimal = ZERO
    max_qty: Decimal = ZERO  # 0 = none
    min_notional: Decimal = ZERO
    max_notional: Decimal = ZERO  # 0 = none
    taker_fee_ppm: int = 0
    maker_fee_ppm: int = 0
    list_taker_fee_ppm: int = 1000
    list_maker_fee_ppm: int = 1000
    fee_rule: FeeAssetRule = FeeAssetRule.QUOTE
    status: TradingStatus = TradingStatus.TRADING
    identity: CoinIdentity = field(default_factory=lambda: CoinIdentity(asset=""))
    price_band_ppm: int = 500_000  # |price - mark| <= mark * band
    funding_rate: Decimal = ZERO
    funding_interval_s: int = 0
    funding_next_s: int = 0  # wall seconds
    leverage_max: int = 100
    maintenance_rate: Decimal = Decimal("0.005")
    reference: Callable[[], Decimal] | None = None  # set by the venue: mark price now
    price_digits: int = field(init=False)
    qty_digits: int = field(init=False)
    lot_units: int = field(init=False)
    _tick_int: int = field(init=False)
    _tick_factor: int = field(init=False, default=1)
    _unit_int: int = field(init=False)

    def __post_init__(self) -> None:
        self.price_digits, self._tick_int = _mantissa(self.tick)
        self.qty_digits, self._unit_int = _mantissa(self.unit)
        units = self.lot / self.unit
        if units != int(units) or units < 1:
            raise ValueError(f"lot must be a multiple of unit: {self.symbol} lot={self.lot} unit={self.unit}")
        self.lot_units = int(units)

    @property
    def pair(self) -> str:
        return f"{self.base}/{self.quote}"

    @property
    def is_futures(self) -> bool:
        return self.kind is InstrumentKind.PERPETUAL

    @property
    def fee_asset_is_base_on_buy(self) -> bool:
        return self.fee_rule is FeeAssetRule.RECEIVED

    def reference_price(self) -> Decimal:
        """Mark (futures) or last mid (spot) now; 0 before the market has started."""
        return self.reference() if self.reference is not None else ZERO

    def price(self, ticks: int) -> Decimal:
        return Decimal(ticks * self._tick_int).scaleb(-self.price_digits)

    def qty(self, units: int) -> Decimal:
        return Decimal(units * self._unit_int).scaleb(-self.qty_digits)

    def price_text(self, ticks: int) -> str:
        """Fixed digits of the tick: 6500050 ticks of 0.01 -> "65000.50"."""
        return _fixed(ticks * self._tick_int, self.price_digits)

    def qty_text(self, units: int) -> str:
        """Base coin, digits of the unit. A futures dialect sends contracts: the integer ``units`` itself."""
        return _fixed(units * self._unit_int, self.qty_digits)

    def ticks(self, price: Decimal) -> int:
        """Exact; raises ``SimReject(BAD_PRICE_TICK)`` when off the tick."""
        count = price / self.tick
        whole = int(count)
        if whole != count:
            raise SimReject(RejectReason.BAD_PRICE_TICK, f"price {price} is not a multiple of {self.tick}")
        return whole * self._tick_factor

    def coarsen_tick(self, factor: int) -> None:
        """From now on orders need a tick ``factor`` times as large; the book keeps counting in the old one."""
        self.tick *= factor
        self._tick_factor *= factor

    def coarsen_lot(self, factor: int) -> None:
        self.lot *= factor
        self.lot_units *= factor

    def units(self, qty: Decimal) -> int:
        """Exact in lots; raises ``SimReject(BAD_QTY_STEP)`` when off the lot."""
        lots = qty / self.lot
        whole = int(lots)
        if whole != lots:
            raise SimReject(RejectReason.BAD_QTY_STEP, f"quantity {qty} is not a multiple of {self.lot}")
        return whole * self.lot_units


def _mantissa(step: Decimal) -> tuple[int, int]:
    """(fraction digits, integer mantissa) of a step: 0.05 -> (2, 5), 10 -> (0, 10)."""
    normal = step.normalize()
    exponent = normal.as_tuple().exponent
    if not isinstance(exponent, int) or step <= 0:
        raise ValueError(f"step must be a positive number: step={step}")
    digits = max(0, -exponent)
    return digits, int(step.scaleb(digits))


def _fixed(value: int, digits: int) -> str:
    if digits == 0:
        return str(value)
    sign = "-" if value < 0 else ""
    text = str(abs(value)).rjust(digits + 1, "0")
    return f"{sign}{text[:-digits]}.{text[-digits:]}"


@dataclass(slots=True, frozen=True, kw_only=True)
class SimOrderRequest:
    """One order as a dialect read it from the wire. Exactly one of ``qty`` (base coin) and ``quote_qty`` is set.

    ``quote_qty`` is for market buys of MEXC and Gate.io spot. ``price`` is 0 for market orders. ``expiry_wall_ms``
    is the request's own expiry on the venue's clock (timestamp + recvWindow, x-gate-exptime), 0 = none.
    """

    symbol: str
    side: OrderSide
    kind: OrderKind
    tif: TimeInForce
    qty: Decimal | None = None
    quote_qty: Decimal | None = None
    price: Decimal = ZERO
    client_id: str = ""
    reduce_only: bool = False
    close_position: bool = False  # Gate.io futures close=true with size 0
    expiry_wall_ms: int = 0

    @property
    def post_only(self) -> bool:
        return self.tif is TimeInForce.POST_ONLY


@dataclass(slots=True, kw_only=True)
class SimOrder:
    """An order in the venue's eyes. The venue mutates its own object; everybody else gets ``copy()``."""

    order_id: int
    client_id: str
    symbol: str
    side: OrderSide
    kind: OrderKind
    tif: TimeInForce
    price: Decimal
    qty: Decimal  # base coin; for a quote-quantity market buy the filled base so far
    quote_qty: Decimal | None = None
    reduce_only: bool = False
    is_close: bool = False
    amend_text: str = ""
    status: OrderStatus = OrderStatus.NEW
    finish_as: str = (
        "open"  # open filled cancelled ioc fok poc stp reduce_only reduce_out liquidated auto_deleveraged expired
    )
    filled_qty: Decimal = ZERO
    filled_quote: Decimal = ZERO  # sum of price x base quantity
    fees: dict[str, Decimal] = field(default_factory=dict)
    created_ms: int = 0
    updated_ms: int = 0
    finished_ms: int = 0
    update_seq: int = 0  # +1 at each change
    book_id: int = 0  # the book's update id that the order met on arrival
    last_fill_qty: Decimal = ZERO
    last_fill_price: Decimal = ZERO

    @property
    def is_open(self) -> bool:
        return self.status.is_open

    @property
    def left_qty(self) -> Decimal:
        return self.qty - self.filled_qty

    @property
    def average_price(self) -> Decimal:
        """0 while nothing is filled."""
        return self.filled_quote / self.filled_qty if self.filled_qty else ZERO

    def copy(self) -> SimOrder:
        return replace(self, fees=dict(self.fees))


@dataclass(slots=True, frozen=True, kw_only=True)
class SimTrade:
    """One execution of an own order."""

    trade_id: int
    order_id: int
    client_id: str
    symbol: str
    side: OrderSide
    price: Decimal
    qty: Decimal  # base coin
    quote: Decimal
    fee: Decimal  # positive = paid
    fee_asset: str
    is_maker: bool
    ts_ms: int
    realised_pnl: Decimal = ZERO
    close_qty: Decimal = ZERO  # part that reduced a position


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


@dataclass(slots=True, kw_only=True)
class SimPosition:
    """Futures position. ``cost`` is the signed open cost: average entry = cost / qty, exact until divided.

    ``mode``: single, dual_long or dual_short; ``extra_margin``: what was added by hand to its initial margin.
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
    extra_margin: Decimal = ZERO
    span: PositionSpan = field(default_factory=PositionSpan)

    @property
    def entry_price(self) -> Decimal:
        return self.cost / self.qty if self.qty else ZERO

    def copy(self) -> SimPosition:
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
    book: deque[BookEntry] = field(default_factory=lambda: deque(maxlen=BOOK_ENTRIES_MAX))
    closes: list[PositionClose] = field(default_factory=list)

    @property
    def api_key(self) -> str:
        return next(iter(self.keys))

    @property
    def api_secret(self) -> str:
        return next(iter(self.keys.values())).api_secret

    def secret_of(self, api_key: str) -> str:
        return self.keys[api_key].api_secret

    def wallet(self, asset: str) -> Wallet:
        found = self.wallets.get(asset)
        if found is None:
            found = self.wallets[asset] = Wallet()
        return found

    @property
    def balances(self) -> dict[str, tuple[Decimal, Decimal]]:
        """asset -> (free, locked)."""
        return {asset: (wallet.free, wallet.locked) for asset, wallet in self.wallets.items()}


# --- market events: integers; the venue has already applied aggregation, feed latency and feed faults ---


@dataclass(slots=True, frozen=True)
class BookDelta:
    """Changed levels of one aggregation interval, absolute quantities in units, 0 = delete.

    ``first_id == prev_id + 1`` unless a fault dropped a delta before. ``top_bids``/``top_asks`` best first, at most
    one level each when the dialect only needs the best.
    """

    symbol: str
    interval_ms: int
    first_id: int
    last_id: int
    prev_id: int
    bids: list[Level]
    asks: list[Level]
    ts_ms: int  # venue wall
    best_bid: Level | None
    best_ask: Level | None


@dataclass(slots=True, frozen=True)
class MarketTrade:
    symbol: str
    price: int  # ticks
    qty: int  # units
    side: OrderSide  # the taker's
    trade_id: int
    ts_ms: int


@dataclass(slots=True, frozen=True)
class Ticker:
    """Best levels after a change; an absent side is None. ``update_id`` is in the space of the deltas' ids."""

    symbol: str
    bid: Level | None
    ask: Level | None
    update_id: int
    ts_ms: int


MarketEvent = BookDelta | MarketTrade | Ticker
MarketCallback = Callable[[MarketEvent], None]


# --- account events: pushed after the private-stream latency ---


@dataclass(slots=True, frozen=True)
class OrderEvent:
    """``event``: put, update, finish (Gate.io's words; MEXC needs only the order)."""

    order: SimOrder
    event: str
    ts_ms: int


@dataclass(slots=True, frozen=True)
class TradeEvent:
    trade: SimTrade
    order: SimOrder
    ts_ms: int


@dataclass(slots=True, frozen=True)
class BalanceEvent:
    """``change`` is of the total (free + locked) except for order-create/-cancel, where only ``locked_change`` moves.

    ``reason``: order-create, order-update, order-match, order-cancel, fee, pnl, fund, deposit, withdraw.
    """

    asset: str
    free: Decimal
    locked: Decimal
    change: Decimal
    locked_change: Decimal
    reason: str
    symbol: str
    order_id: int
    ts_ms: int


@dataclass(slots=True, frozen=True)
class PositionEvent:
    position: SimPosition
    ts_ms: int


AccountEvent = OrderEvent | TradeEvent | BalanceEvent | PositionEvent
AccountCallback = Callable[[AccountEvent], None]
