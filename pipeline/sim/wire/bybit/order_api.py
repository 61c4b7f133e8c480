"""Bybit's order calls: create, amend, cancel, cancel-all, lists of orders and executions. REST and WebSocket alike.

A create is answered with ids alone: it was taken for processing. A post-only order that would take and a fill-or-kill
order that cannot fill are taken and end. A client id is used once for ever.

Source: Bybit V5 documentation "Place Order", "Amend Order", "Cancel Order", "Cancel All Orders", "Get Open & Closed
Orders", "Get Order History", "Get Trade History".
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.history import shown_book
from pipeline.sim.exchange.orders import SimAmendRequest, SimOrder, SimOrderRequest, SimReject
from pipeline.sim.wire.bybit import rows
from pipeline.sim.wire.bybit.market import BybitError
from pipeline.sim.wire.bybit.request import ApiRequest, Route

CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,36}\Z")
SIDES = {"Buy": OrderSide.BUY, "Sell": OrderSide.SELL}
CLOSED_MAX = 500  # newest ended orders that order/realtime still shows
UNFILLED_MS = 24 * 3600 * 1000  # the history forgets ended orders without fills after this


def routes() -> dict[tuple[str, str], Route]:
    """Of REST; :data:`WS_OPERATIONS` names those of the order socket."""
    return {
        ("POST", "/v5/order/create"): Route(create, "place", 0),
        ("POST", "/v5/order/amend"): Route(amend, "amend", 0),
        ("POST", "/v5/order/cancel"): Route(cancel, "cancel", 0),
        ("POST", "/v5/order/cancel-all"): Route(cancel_all, "cancel_all", 0),
        ("GET", "/v5/order/realtime"): Route(realtime, "order"),
        ("GET", "/v5/order/history"): Route(history, "finished_orders"),
        ("GET", "/v5/execution/list"): Route(executions, "trades"),
    }


WS_OPERATIONS = {
    "order.create": ("POST", "/v5/order/create"),
    "order.amend": ("POST", "/v5/order/amend"),
    "order.cancel": ("POST", "/v5/order/cancel"),
}


def _ids(order: SimOrder) -> dict[str, Any]:
    return {"orderId": rows.order_id_text(order.order_id), "orderLinkId": order.client_id}


def _order_request(call: ApiRequest) -> SimOrderRequest:
    linear, row = call.category == "linear", call.instrument()
    side, kind = SIDES.get(call.required("side")), call.required("orderType")
    if side is None:
        raise BybitError(10001 if linear else 170117, "Side invalid")
    if kind not in ("Limit", "Market"):
        raise BybitError(10001 if linear else 170116, "orderType invalid")
    client_id = call.text("orderLinkId")
    if client_id and not CLIENT_ID.match(client_id):
        raise BybitError(10001, "params error: orderLinkId is invalid")
    if client_id and call.venue.order(call.account, row.symbol, client_id=client_id) is not None:
        raise BybitError(110072 if linear else 170141, "OrderLinkedID is duplicate")
    reduces = call.text("reduceOnly", "false") == "true"
    if reduces and not linear:
        raise BybitError(170130, "Data sent for paramter 'reduceOnly' is not valid.")
    if linear:
        _check_position_idx(call, side, reduces)
    tif = rows.TIFS.get(call.text("timeInForce", "IOC" if kind == "Market" else "GTC"))
    if tif is None or (kind == "Market" and tif in (TimeInForce.GTC, TimeInForce.POST_ONLY)):
        if kind == "Limit":
            raise BybitError(10001 if linear else 170115, "timeInForce invalid")
        tif = TimeInForce.IOC
    qty, price = call.decimal("qty"), call.decimal("price")
    if qty is None or (kind == "Limit" and price is None):
        raise BybitError(10001, f"params error: {'qty' if qty is None else 'price'} is missing")
    is_quote = not linear and kind == "Market" and _in_quote(call, side)
    return SimOrderRequest(
        symbol=row.symbol,
        side=side,
        kind=OrderKind.LIMIT if kind == "Limit" else OrderKind.MARKET,
        tif=tif,
        qty=None if is_quote else qty,
        quote_qty=qty if is_quote else None,
        price=price or Decimal(0) if kind == "Limit" else Decimal(0),
        client_id=client_id,
        reduce_only=reduces,
        unfillable_fok_ends=True,
        unfillable_post_only_ends=True,
    )


def _in_quote(call: ApiRequest, side: OrderSide) -> bool:
    """A market buy of spot is in quote coins, a sale in base coins, unless ``marketUnit`` says otherwise."""
    unit = call.text("marketUnit", "quoteCoin" if side is OrderSide.BUY else "baseCoin")
    if unit not in ("baseCoin", "quoteCoin"):
        raise BybitError(170130, "Data sent for paramter 'marketUnit' is not valid.")
    if unit == "quoteCoin" and side is OrderSide.SELL:
        raise BybitError(170130, "Data sent for paramter 'marketUnit' is not valid.")  # of the simulator
    return unit == "quoteCoin"


def _check_position_idx(call: ApiRequest, side: OrderSide, reduces: bool) -> None:
    index = call.integer("positionIdx", 0)
    wanted = 0
    if call.account.dual_side:
        wanted = 1 if (side is OrderSide.BUY) is not reduces else 2
    if index != wanted:
        raise BybitError(10001, "position idx not match position mode")


async def create(call: ApiRequest) -> dict[str, Any]:
    request = _order_request(call)
    try:
        return _ids(await call.venue.submit(call.account, request))
    except SimReject as reject:
        raise rows.refusal(reject, call.category) from reject


def _named(call: ApiRequest) -> tuple[str, int | None, str | None]:
    """(symbol, order id, client id); the order id wins where both are given."""
    symbol = call.instrument().symbol
    if call.text("orderId"):
        return symbol, rows.order_number(call.text("orderId")) or 0, None
    return symbol, None, call.required("orderLinkId")


async def amend(call: ApiRequest) -> dict[str, Any]:
    symbol, order_id, client_id = _named(call)
    request = SimAmendRequest(symbol, order_id, client_id, call.decimal("price"), call.decimal("qty"))
    try:
        return _ids(await call.venue.submit_amend(call.account, request))
    except SimReject as reject:
        raise rows.refusal(reject, call.category) from reject


async def cancel(call: ApiRequest) -> dict[str, Any]:
    symbol, order_id, client_id = _named(call)
    try:
        return _ids(await call.venue.submit_cancel(call.account, symbol, order_id=order_id, client_id=client_id))
    except SimReject as reject:
        raise rows.refusal(reject, call.category) from reject


async def cancel_all(call: ApiRequest) -> dict[str, Any]:
    ended = await call.venue.submit_cancel_all(call.account, call.chosen_symbol())
    return {"list": [_ids(order) for order in ended], "success": "1"}


# --- lists ---


def _one(call: ApiRequest) -> list[SimOrder] | None:
    """The order that the request names, open or not; None where it names none."""
    if not call.text("orderId") and not call.text("orderLinkId"):
        return None
    number = rows.order_number(call.text("orderId")) if call.text("orderId") else None
    symbols = [call.instrument().symbol] if call.text("symbol") else list(call.venue.instruments)
    for symbol in symbols:
        client_id = None if call.text("orderId") else call.text("orderLinkId")
        if number is None and client_id is None:
            return []
        found = call.venue.order(call.account, symbol, order_id=number, client_id=client_id)
        if found is not None:
            return [found]
    return []


def _order_rows(call: ApiRequest, found: list[SimOrder]) -> list[dict[str, Any]]:
    newest_first = sorted(found, key=lambda order: order.order_id, reverse=True)
    return [rows.order_row(order, call.category, call.account) for order in newest_first]


async def realtime(call: ApiRequest) -> dict[str, Any]:
    """Open orders, with ``openOnly`` 1 the newest ended ones; by an id whatever it names."""
    found = _one(call)
    if found is None:
        symbol = call.chosen_symbol()
        if call.integer("openOnly", 0):
            found = call.venue.finished_orders(call.account, symbol)[-CLOSED_MAX:]
        else:
            found = call.venue.open_orders(call.account, symbol)
    return call.page(_order_rows(call, found), 20, 50)


async def history(call: ApiRequest) -> dict[str, Any]:
    """Ended orders of at most seven days, by when they were placed; those without fills for a day."""
    found = _one(call)
    if found is None:
        start_ms, end_ms = call.span()
        symbol = call.instrument().symbol if call.text("symbol") else None
        found = [
            order
            for order in call.venue.finished_orders(call.account, symbol)
            if start_ms <= order.created_ms <= end_ms
        ]
    kept = [
        order
        for order in found
        if not order.is_open and (order.filled_qty or call.now_ms - order.updated_ms < UNFILLED_MS)
    ]
    return call.page(_order_rows(call, kept), 20, 50)


async def executions(call: ApiRequest) -> dict[str, Any]:
    """Newest first; funding stands among them."""
    start_ms, end_ms = call.span()
    symbol = call.instrument().symbol if call.text("symbol") else None
    kind, venue = call.text("execType"), call.venue
    number = rows.order_number(call.text("orderId")) if call.text("orderId") else None
    found = []
    for trade in venue.trades(call.account, symbol):
        order = venue.order(call.account, trade.symbol, order_id=trade.order_id)
        if order is None or not start_ms <= trade.ts_ms <= end_ms or number not in (None, trade.order_id):
            continue
        if call.text("orderLinkId") in ("", order.client_id):
            found.append(
                (trade.ts_ms, rows.execution_row(trade, order, venue.instruments[trade.symbol], call.category))
            )
    if call.category == "linear" and number is None:
        found += [
            (one.ts_ms, rows.funding_row(one, venue.position(call.account, one.symbol), venue.instruments[one.symbol]))
            for one in shown_book(call.account, call.now_ms)
            if one.reason == "fund" and symbol in (None, one.symbol) and start_ms <= one.ts_ms <= end_ms
        ]
    found.sort(key=lambda pair: (pair[0], pair[1]["seq"]), reverse=True)
    chosen = [row for _, row in found if kind in ("", row["execType"])]
    return call.page(chosen, 50, 100)
