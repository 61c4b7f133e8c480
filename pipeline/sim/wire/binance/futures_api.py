"""Binance USDⓈ-M orders: placed, cancelled, modified, listed; the same by REST and WebSocket API.

One-way or hedge mode. Not there, and refused as such: conditional (algo) orders, GTD, price match.
Source: Binance USDⓈ-M futures API, trade endpoints, WebSocket API trade requests (read 2026).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.orders import OrderStatus, SimAmendRequest, SimOrder, SimOrderRequest, SimReject
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.binance import formats
from pipeline.sim.wire.binance import futures_rows as rows
from pipeline.sim.wire.binance.auth import missing
from pipeline.sim.wire.binance.formats import BinanceError
from pipeline.sim.wire.binance.request import ApiRequest, Route, instrument_of

T = TypeVar("T")
DAY_MS = 86_400_000
SPAN_MS = 7 * DAY_MS
ROWS_MAX = 1000
BATCH_MAX = 5
VANISH_MS = 3 * DAY_MS  # what was cancelled without a fill is forgotten
CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}\Z")
TIFS = formats.TIFS | {"GTX": TimeInForce.POST_ONLY}
ANSWERS = ("ACK", "RESULT")


def span(call: ApiRequest) -> tuple[int, int]:
    """Start and end; more than a week is refused, the last week is the default."""
    end_ms = call.integer("endTime", call.now_ms)
    start_ms = call.integer("startTime", end_ms - SPAN_MS)
    if "endTime" not in call.params and "startTime" in call.params:
        end_ms = start_ms + SPAN_MS
    if end_ms - start_ms > SPAN_MS:
        raise BinanceError(-4166, "Search window is restricted to recent 7 days only.")
    return start_ms, end_ms


def page(found: Sequence[T], call: ApiRequest, *, default: int = 500, by_time: bool = True) -> list[T]:
    """The oldest ``limit`` from a start, else the newest; oldest first."""
    limit = min(call.integer("limit", default) or default, ROWS_MAX)
    return list(found[:limit] if by_time and "startTime" in call.params else found[-limit:])


class Countdown:
    """The dead-man switch of one contract: unless it is set again in time, its orders are cancelled."""

    def __init__(self, venue: SimVenue) -> None:
        self._venue = venue
        self._armed: dict[tuple[str, str], int] = {}
        self._count = 0

    def set(self, account: SimAccount, symbol: str, after_ms: int) -> None:
        """0 disarms."""
        key = (account.uid, symbol)
        self._count += 1
        serial = self._armed[key] = self._count
        if after_ms:
            self._venue.clock.call_later(after_ms * NS_PER_MS, lambda: self._fire(account, symbol, key, serial))

    def _fire(self, account: SimAccount, symbol: str, key: tuple[str, str], serial: int) -> None:
        if self._armed.get(key) == serial:
            del self._armed[key]
            self._venue.cancel_all(account, symbol)


class FuturesApi:
    """Handlers of orders and fills."""

    def __init__(self, venue: SimVenue) -> None:
        self._venue = venue
        self._countdown = Countdown(venue)

    def rest_routes(self) -> dict[tuple[str, str], Route]:
        v1 = "/fapi/v1"
        return {
            ("POST", f"{v1}/order"): Route(self._place, "place", 0),
            ("POST", f"{v1}/order/test"): Route(self._place_test, "other", 0),
            ("PUT", f"{v1}/order"): Route(self._modify, "amend", 1),
            ("DELETE", f"{v1}/order"): Route(self._cancel, "cancel", 1),
            ("GET", f"{v1}/order"): Route(self._query, "order", 1),
            ("POST", f"{v1}/batchOrders"): Route(self._place_batch, "place", 5),
            ("DELETE", f"{v1}/batchOrders"): Route(self._cancel_batch, "cancel", 1),
            ("GET", f"{v1}/openOrder"): Route(self._open_order, "order", 1),
            ("GET", f"{v1}/openOrders"): Route(self._open_orders, "open_orders", 1),
            ("DELETE", f"{v1}/allOpenOrders"): Route(self._cancel_all, "cancel_all", 1),
            ("GET", f"{v1}/allOrders"): Route(self._all_orders, "finished_orders", 5),
            ("GET", f"{v1}/userTrades"): Route(self._user_trades, "trades", 5),
            ("GET", f"{v1}/forceOrders"): Route(self._force_orders, "positions", 50),
            ("POST", f"{v1}/countdownCancelAll"): Route(self._set_countdown, "countdown", 10),
        }

    def ws_routes(self) -> dict[str, Route]:
        return {
            "order.place": Route(self._place, "place", 0),
            "order.modify": Route(self._modify, "amend", 1),
            "order.cancel": Route(self._cancel, "cancel", 1),
            "order.status": Route(self._query, "order", 1),
        }

    # --- orders ---

    def _order_request(self, call: ApiRequest) -> SimOrderRequest:
        symbol = instrument_of(self._venue, call.required("symbol")).symbol
        side, kind = formats.SIDES.get(call.required("side")), call.required("type")
        if side is None:
            raise BinanceError(-1117, "Invalid side.")
        if kind not in ("LIMIT", "MARKET"):
            raise BinanceError(-4120, "Order type not supported for this endpoint. Please use the Algo Order API.")
        own_id = call.params.get("newClientOrderId") or _own_id(call)
        if not CLIENT_ID.match(own_id):
            raise BinanceError(-4015, "Client order id is not valid.")
        if call.params.get("newOrderRespType", "ACK") not in ANSWERS:
            raise BinanceError(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
        reduces = self._reduces(call, side)
        price, tif = ZERO, TimeInForce.IOC
        if kind == "LIMIT":
            found = TIFS.get(call.required("timeInForce"))
            if found is None:
                raise BinanceError(-1115, "Invalid timeInForce.")
            tif = found
            call.required("price")
            price = call.decimal("price", zero=(-4001, "Price less than 0.")) or ZERO
        elif "price" in call.params or "timeInForce" in call.params:
            raise BinanceError(-1106, "Parameter 'price' or 'timeInForce' sent when not required.")
        call.required("quantity")
        return SimOrderRequest(
            symbol=symbol,
            side=side,
            kind=OrderKind.MARKET if kind == "MARKET" else OrderKind.LIMIT,
            tif=tif,
            qty=call.decimal("quantity", zero=(-4003, "Quantity less than or equal to zero.")),
            price=price,
            client_id=own_id,
            reduce_only=reduces,
            expiry_wall_ms=call.deadline_ms,
        )

    @staticmethod
    def _reduces(call: ApiRequest, side: OrderSide) -> bool:
        """Whether the order only reduces, by ``reduceOnly`` or, in hedge mode, by the position that it names."""
        place = call.params.get("positionSide", "BOTH")
        reduce_only = call.params.get("reduceOnly", "false").lower()
        if reduce_only not in ("true", "false"):
            raise BinanceError(-1130, "Data sent for parameter 'reduceOnly' is not valid.")
        if (place == "BOTH") is call.owner.dual_side or place not in ("BOTH", "LONG", "SHORT"):
            raise BinanceError(-4061, "Order's position side does not match user's setting.")
        if not call.owner.dual_side:
            return reduce_only == "true"
        if reduce_only == "true":
            raise BinanceError(-1106, "Parameter 'reduceonly' sent when not required.")
        return (side is OrderSide.SELL) is (place == "LONG")

    async def _place(self, call: ApiRequest) -> Any:
        order = await self._done(lambda: self._venue.submit(call.owner, self._order_request(call)))
        if call.params.get("newOrderRespType", "ACK") == "ACK":
            first = order.copy()
            first.status, first.filled_qty, first.filled_quote = OrderStatus.NEW, ZERO, ZERO
            return rows.order_row(first, call.owner, full=False)
        return rows.order_row(order, call.owner, full=False)

    async def _done(self, action: Callable[[], Any]) -> SimOrder:
        try:
            done: SimOrder = await action()
        except SimReject as reject:
            raise formats.refusal(reject, futures=True) from reject
        return done

    async def _place_test(self, call: ApiRequest) -> Any:
        self._order_request(call)
        return {}

    def _ids(self, call: ApiRequest) -> tuple[str, int | None, str | None]:
        """(symbol, order id, client id); the order id wins where both are given."""
        symbol = instrument_of(self._venue, call.required("symbol")).symbol
        own_id = call.params.get("origClientOrderId", "")
        if call.params.get("orderId"):
            return symbol, call.integer("orderId", 0), None
        if own_id:
            return symbol, None, own_id
        raise BinanceError(-1102, "Param 'origClientOrderId' or 'orderid' must be sent, but both were empty/null!")

    async def _cancel(self, call: ApiRequest) -> Any:
        symbol, order_id, own_id = self._ids(call)
        order = await self._done(
            lambda: self._venue.submit_cancel(call.owner, symbol, order_id=order_id, client_id=own_id)
        )
        return rows.order_row(order, call.owner, full=False)

    async def _modify(self, call: ApiRequest) -> Any:
        symbol, order_id, own_id = self._ids(call)
        call.required("side")
        call.required("quantity")
        call.required("price")
        request = SimAmendRequest(
            symbol=symbol,
            order_id=order_id,
            client_id=own_id,
            price=call.decimal("price"),
            qty=call.decimal("quantity"),
            expiry_wall_ms=call.deadline_ms,
        )
        order = await self._done(lambda: self._venue.submit_amend(call.owner, request))
        return rows.order_row(order, call.owner, full=False)

    async def _each(self, calls: Sequence[ApiRequest], handler: Callable[[ApiRequest], Any]) -> list[Any]:
        done: list[Any] = []
        for one in calls:
            try:
                done.append(await handler(one))
            except BinanceError as error:
                done.append({"code": error.code, "msg": error.text})
        return done

    async def _place_batch(self, call: ApiRequest) -> Any:
        """``batchOrders``: a JSON list of at most five."""
        items = _json_list(call, "batchOrders")
        if not items or len(items) > BATCH_MAX or not all(isinstance(item, dict) for item in items):
            raise BinanceError(-4082, "Invalid number of batch place orders.")
        calls = [
            msgspec.structs.replace(call, params={name: str(value) for name, value in item.items()}) for item in items
        ]
        return await self._each(calls, self._place)

    async def _cancel_batch(self, call: ApiRequest) -> Any:
        name = "orderIdList" if call.params.get("orderIdList") else "origClientOrderIdList"
        one_name = "orderId" if name == "orderIdList" else "origClientOrderId"
        symbol = call.required("symbol")
        calls = [
            msgspec.structs.replace(call, params={"symbol": symbol, one_name: str(item)})
            for item in _json_list(call, name)
        ]
        return await self._each(calls, self._cancel)

    async def _cancel_all(self, call: ApiRequest) -> Any:
        symbol = instrument_of(self._venue, call.required("symbol")).symbol
        await self._venue.submit_cancel_all(call.owner, symbol)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    async def _set_countdown(self, call: ApiRequest) -> Any:
        symbol = instrument_of(self._venue, call.required("symbol")).symbol
        call.required("countdownTime")
        after_ms = call.integer("countdownTime", 0)
        self._countdown.set(call.owner, symbol, after_ms)
        return {"symbol": symbol, "countdownTime": str(after_ms)}

    # --- lists ---

    def _found(self, call: ApiRequest) -> SimOrder:
        symbol, order_id, own_id = self._ids(call)
        order = self._venue.order(call.owner, symbol, order_id=order_id, client_id=own_id)
        if order is None or _vanished(order, call.now_ms):
            raise BinanceError(-2013, "Order does not exist.")
        return order

    async def _query(self, call: ApiRequest) -> Any:
        return rows.order_row(self._found(call), call.owner)

    async def _open_order(self, call: ApiRequest) -> Any:
        order = self._found(call)
        if not order.is_open:
            raise BinanceError(-2013, "Order does not exist.")
        return rows.order_row(order, call.owner)

    async def _open_orders(self, call: ApiRequest) -> Any:
        symbol = call.params.get("symbol")
        if symbol:
            instrument_of(self._venue, symbol)
        return [rows.order_row(one, call.owner) for one in self._venue.open_orders(call.owner, symbol or None)]

    def _orders(self, call: ApiRequest, symbol: str | None) -> list[SimOrder]:
        """Open and finished, oldest first."""
        found = [
            *self._venue.finished_orders(call.owner, symbol, 0),
            *self._venue.open_orders(call.owner, symbol),
        ]
        kept = [order for order in found if not _vanished(order, call.now_ms)]
        return sorted(kept, key=lambda order: order.order_id)

    async def _all_orders(self, call: ApiRequest) -> Any:
        """From an order id, or by time."""
        symbol = instrument_of(self._venue, call.required("symbol")).symbol
        found = self._orders(call, symbol)
        if call.params.get("orderId"):
            first, limit = call.integer("orderId", 0), min(call.integer("limit", 500), ROWS_MAX)
            found = [order for order in found if order.order_id >= first][:limit]
        else:
            start_ms, end_ms = span(call)
            found = page([order for order in found if start_ms <= order.created_ms <= end_ms], call)
        return [rows.order_row(order, call.owner) for order in found]

    async def _user_trades(self, call: ApiRequest) -> Any:
        """Oldest first."""
        row = instrument_of(self._venue, call.required("symbol"))
        trades = sorted(self._venue.trades(call.owner, row.symbol), key=lambda trade: trade.trade_id)
        if call.params.get("orderId"):
            wanted = call.integer("orderId", 0)
            trades = page([one for one in trades if one.order_id == wanted], call)
        else:
            start_ms, end_ms = span(call)
            trades = page([one for one in trades if start_ms <= one.ts_ms <= end_ms], call)
        shown = []
        for one in trades:
            order = self._venue.order(call.owner, one.symbol, order_id=one.order_id)
            if order is not None:
                shown.append(rows.trade_row(one, order, row, call.owner))
        return shown

    async def _force_orders(self, call: ApiRequest) -> Any:
        """The venue's own orders: liquidations and deleveragings, newest first."""
        start_ms, end_ms = span(call)
        kind, symbol = call.params.get("autoCloseType", ""), call.params.get("symbol", "")
        wanted = {"LIQUIDATION": ("liquidation",), "ADL": ("adl",), "": ("liquidation", "adl")}.get(kind)
        if wanted is None:
            raise BinanceError(-1130, "Data sent for parameter 'autoCloseType' is not valid.")
        found = []
        for close in reversed(call.owner.forced):
            chosen = close.kind in wanted and symbol in ("", close.symbol) and start_ms <= close.ts_ms <= end_ms
            order = self._venue.order(call.owner, close.symbol, order_id=close.order_id) if chosen else None
            if order is not None:
                found.append(rows.order_row(order, call.owner) | {"status": "FILLED"})
        return found[: min(call.integer("limit", 50), 100)]


def _vanished(order: SimOrder, now_ms: int) -> bool:
    ended = order.status is OrderStatus.CANCELED and not order.filled_qty
    return ended and now_ms - order.finished_ms > VANISH_MS


def _json_list(call: ApiRequest, name: str) -> list[Any]:
    try:
        return msgspec.json.decode(call.required(name), type=list[Any])
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise missing(name) from None


def _own_id(call: ApiRequest) -> str:
    text = f"{sorted(call.params.items())}{call.now_ms}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:22]
