"""Binance orders and account, spot and USDⓈ-M: REST answers -> updates, fills, balances, positions. Sans-I/O.

*Source:* Binance spot REST API and USDⓈ-M futures API: query order, cancel order.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

import msgspec

from pipeline.exchanges.parsing.own_trades import fill_of_row
from pipeline.exchanges.parsing.rows import OddRows, Rows, not_of_assets, not_of_symbols, not_our_order
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, lenient_ms, number
from pipeline.model.enums import OrderState
from pipeline.model.errors import ProtocolViolation
from pipeline.model.structs import ZERO, Balance, Fill, OrderUpdate, Position

STATES: dict[str, OrderState] = {
    "NEW": OrderState.OPEN,
    "PENDING_NEW": OrderState.OPEN,
    "PARTIALLY_FILLED": OrderState.PARTIALLY_FILLED,
    "FILLED": OrderState.FILLED,
    "PENDING_CANCEL": OrderState.OPEN,
    "CANCELED": OrderState.CANCELLED,
    "REJECTED": OrderState.REJECTED,
    "EXPIRED": OrderState.CANCELLED,  # the remainder of IOC, FOK, market; "expired" of ours means never accepted
    "EXPIRED_IN_MATCH": OrderState.CANCELLED,
}


class _Order(msgspec.Struct):
    symbol: str
    orderId: int
    status: str
    executedQty: Decimal
    clientOrderId: str = ""
    origClientOrderId: str | None = None
    cummulativeQuoteQty: Decimal | None = None
    cumQuote: Decimal | None = None
    avgPrice: Decimal | None = None
    updateTime: Maybe = ABSENT
    transactTime: Maybe = ABSENT
    time: Maybe = ABSENT


class _Trade(msgspec.Struct):
    symbol: str
    id: int
    orderId: int
    price: Decimal
    qty: Decimal
    commission: Decimal
    commissionAsset: str
    time: Maybe = ABSENT
    isBuyer: bool | None = None
    isMaker: bool | None = None
    buyer: bool | None = None
    maker: bool | None = None


class _SpotBalance(msgspec.Struct):
    asset: str
    free: Decimal
    locked: Decimal


class _SpotAccount(msgspec.Struct):
    balances: msgspec.Raw


class _FuturesBalance(msgspec.Struct):
    asset: str
    balance: Decimal
    availableBalance: Decimal


class _Position(msgspec.Struct):
    symbol: str
    positionAmt: Decimal
    entryPrice: Decimal = ZERO
    markPrice: Decimal = ZERO


_order = msgspec.json.Decoder(_Order)
_orders = Rows(_Order, of="symbol")
_foreign_order = not_our_order("clientOrderId", "origClientOrderId")
_trades = Rows(_Trade, of="symbol")
_spot_account = msgspec.json.Decoder(_SpotAccount)
_spot_balances = Rows(_SpotBalance)
_futures_balances = Rows(_FuturesBalance)
_positions = Rows(_Position, of="symbol")


def order_name(symbol: str, client_id: str, order_id: str) -> list[tuple[str, str]]:
    """Parameters that name an order: by the venue's id where known, else by ours."""
    return [("symbol", symbol), ("orderId", order_id) if order_id else ("origClientOrderId", client_id)]


def _update(venue: str, row: _Order, recv_mono_ns: int) -> OrderUpdate:
    state = STATES.get(row.status)
    if state is None:
        raise ProtocolViolation(f"{venue}: unknown order status {row.status!r}", venue=venue)
    filled = number(row.executedQty, venue)
    quote = row.cummulativeQuoteQty if row.cummulativeQuoteQty is not None else row.cumQuote
    average = row.avgPrice if row.avgPrice else None
    if average is None and filled > 0 and quote is not None and quote > 0:  # -1: not known (old orders)
        average = number(quote, venue) / filled
    return OrderUpdate(
        venue=venue,
        symbol=row.symbol,
        client_id=row.origClientOrderId or row.clientOrderId,
        order_id=str(row.orderId),
        state=state,
        filled_qty=filled,
        average_price=average if filled > 0 else None,
        venue_wall_ms=lenient_ms(row.updateTime) or lenient_ms(row.transactTime) or lenient_ms(row.time),
        recv_mono_ns=recv_mono_ns,
        source="rest",
        reason=row.status,
    )


def parse_order(venue: str, payload: bytes, recv_mono_ns: int) -> OrderUpdate:
    """GET or DELETE of one order."""
    return _update(venue, decode(_order, payload, venue, "order"), recv_mono_ns)


def parse_orders(venue: str, payload: bytes, recv_mono_ns: int, odd: OddRows | None = None) -> list[OrderUpdate]:
    """A list of orders: open, all, or cancelled ones. What is none of ours and cannot be read is left out: among
    cancelled orders there are lists of orders (OCO)."""

    def one(row: _Order) -> OrderUpdate:
        return _update(venue, row, recv_mono_ns)

    return _orders.read(payload, venue, "orders", one, odd=odd, foreign=_foreign_order)


def parse_fills(venue: str, payload: bytes, recv_mono_ns: int, odd: OddRows | None = None) -> tuple[list[Fill], int]:
    """GET /api/v3/myTrades or /fapi/v1/userTrades, and how many rows it had. Rows carry no client id: match by order
    id; every one that cannot be read may be ours."""

    def one(row: _Trade) -> Fill:
        return fill_of_row(
            venue,
            row,
            client_id="",
            is_buy=bool(row.isBuyer or row.buyer),
            is_maker=bool(row.isMaker or row.maker),
            recv_mono_ns=recv_mono_ns,
        )

    return _trades.read_page(payload, venue, "trades", one, odd=odd)


def parse_balances(
    venue: str,
    market: str,
    payload: bytes,
    recv_mono_ns: int,
    *,
    symbols: Collection[str] = (),
    odd: OddRows | None = None,
) -> list[Balance]:
    """GET /api/v3/account or /fapi/v3/balance. Raises ``ProtocolViolation`` where the balance of an asset of
    ``symbols`` cannot be read."""

    def balance(asset: str, free: Decimal, locked: Decimal) -> Balance:
        return Balance(
            venue=venue,
            asset=asset,
            free=number(free, venue),
            locked=number(locked, venue),
            recv_mono_ns=recv_mono_ns,
            source="rest",
        )

    foreign = not_of_assets(symbols, "asset")
    if market == "spot":

        def spot(row: _SpotBalance) -> Balance:
            return balance(row.asset, row.free, row.locked)

        rows = bytes(decode(_spot_account, payload, venue, "account").balances)
        return _spot_balances.read(rows, venue, "balances", spot, odd=odd, foreign=foreign)

    def futures(row: _FuturesBalance) -> Balance:
        locked = number(row.balance, venue) - number(row.availableBalance, venue)
        return balance(row.asset, row.availableBalance, max(ZERO, locked))

    return _futures_balances.read(payload, venue, "balance", futures, odd=odd, foreign=foreign)


def parse_positions(
    venue: str, payload: bytes, recv_mono_ns: int, *, symbols: Collection[str] = (), odd: OddRows | None = None
) -> list[Position]:
    """GET /fapi/v3/positionRisk; rows of size 0, and unreadable ones of contracts beside ``symbols``, are left out."""

    def one(row: _Position) -> Position:
        return Position(
            venue=venue,
            symbol=row.symbol,
            qty=number(row.positionAmt, venue),
            entry_price=number(row.entryPrice, venue),
            mark_price=number(row.markPrice, venue),
            recv_mono_ns=recv_mono_ns,
        )

    foreign = not_of_symbols(symbols, "symbol")
    found = _positions.read(payload, venue, "positionRisk", one, odd=odd, foreign=foreign)
    return [position for position in found if position.qty != 0]
