"""Orders of a simulated venue: requests, refusals, orders, executions. Quantities are exact Decimals in base coin."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.decimals import ZERO


class RejectReason(StrEnum):
    """Why a venue refuses, the same for all venues; a dialect maps each to its code, label and HTTP status."""

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
    WOULD_LIQUIDATE = "would_liquidate"  # futures: the position would be liquidated at once
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
    """The venue refused: final, nothing was executed."""

    def __init__(self, reason: RejectReason, text: str) -> None:
        super().__init__(f"{reason.value}: {text}")
        self.reason = reason
        self.text = text


class OrderStatus(StrEnum):
    """Where an order stands. Open: NEW and PARTIALLY_FILLED."""

    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"  # any end but filled; ``SimOrder.finish_as`` says which; may be part-filled

    @property
    def is_open(self) -> bool:
        """True while the order may still fill."""
        return self in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


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
    unfillable_fok_ends: bool = False  # Binance: a fill-or-kill order that cannot fill is taken and ends, not refused
    unfillable_post_only_ends: bool = False  # the same of a post-only order that would take
    expiry_wall_ms: int = 0

    @property
    def post_only(self) -> bool:
        """True for an order that must not take."""
        return self.tif is TimeInForce.POST_ONLY


@dataclass(slots=True, frozen=True)
class SimAmendRequest:
    """A change of an open order: named by ``order_id`` or ``client_id``; None leaves price or quantity as they are.

    ``qty`` is base coin and includes what is filled; ``expiry_wall_ms`` is on the venue's clock, 0 = none.
    """

    symbol: str
    order_id: int | None = None
    client_id: str | None = None
    price: Decimal | None = None
    qty: Decimal | None = None
    amend_text: str = ""
    expiry_wall_ms: int = 0


@dataclass(slots=True, kw_only=True)
class SimOrder:
    """An order as the venue holds it. The venue changes its own object; all others get ``copy()``."""

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
    forced: str = ""  # liquidation, adl, settlement: an order of the venue itself
    text: str = ""  # of a forced order, which has no client id
    status: OrderStatus = OrderStatus.NEW
    finish_as: str = (
        "open"  # open filled cancelled ioc fok poc stp reduce_only reduce_out liquidated auto_deleveraged expired
    )
    filled_qty: Decimal = ZERO
    filled_quote: Decimal = ZERO  # sum of price x base quantity
    fees: dict[str, Decimal] = field(default_factory=dict)  # plain ones, by asset
    coin_fees: dict[str, Decimal] = field(default_factory=dict)  # paid in a deduction coin
    created_ms: int = 0
    updated_ms: int = 0
    finished_ms: int = 0
    update_seq: int = 0  # +1 at each change
    book_id: int = 0  # the book's update id that the order met on arrival
    last_fill_qty: Decimal = ZERO

    @property
    def is_open(self) -> bool:
        """True while the order may still fill."""
        return self.status.is_open

    @property
    def left_qty(self) -> Decimal:
        """Base coins that are not filled."""
        return self.qty - self.filled_qty

    @property
    def average_price(self) -> Decimal:
        """0 while nothing is filled."""
        return self.filled_quote / self.filled_qty if self.filled_qty else ZERO

    def copy(self) -> SimOrder:
        """A copy that later fills do not change."""
        return replace(self, fees=dict(self.fees), coin_fees=dict(self.coin_fees))


@dataclass(slots=True, frozen=True, kw_only=True)
class SimTrade:
    """One execution of an own order. ``text``: of a forced order, which has no client id."""

    trade_id: int
    order_id: int
    client_id: str
    symbol: str
    side: OrderSide
    price: Decimal
    qty: Decimal  # base coin
    quote: Decimal
    fee: Decimal  # positive = paid; the plain part
    fee_asset: str
    is_maker: bool
    ts_ms: int
    realised_pnl: Decimal = ZERO
    close_qty: Decimal = ZERO  # part that reduced a position
    text: str = ""
    coin_fee: Decimal = ZERO  # the part that was paid in a deduction coin
    coin_asset: str = ""
