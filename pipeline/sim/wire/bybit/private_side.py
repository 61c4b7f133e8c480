"""Bybit's signed requests over simulated venues: who asks, budgets, faults, then the handler; REST and order socket.

Source: Bybit V5 documentation "Integration Guidance", "Rate Limit Rules".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.faults import ORDER_OPERATIONS
from pipeline.sim.exchange.orders import RejectReason, SimReject
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.bybit import account_api, order_api, rows
from pipeline.sim.wire.bybit.account_api import KEY
from pipeline.sim.wire.bybit.auth import verify
from pipeline.sim.wire.bybit.market import BybitError, reply
from pipeline.sim.wire.bybit.request import ApiRequest, Route
from pipeline.sim.wire.dialect import Host, gateway_page
from pipeline.sim.wire.rate_limits import Budget, BudgetState, WindowLimiter

ORDERS_PER_S = {"spot": 20, "linear": 10}
PREFIXES = ("/v5/order/", "/v5/execution/", "/v5/position/", "/v5/account/", "/v5/asset/", "/v5/user/")


def injected(status: int) -> BybitError:
    """What a fault's status is in a code."""
    return BybitError(10006, "Too many visits!") if status in (418, 429) else BybitError(10016, "Server error.")


def budget_headers(state: BudgetState | None) -> dict[str, str]:
    """What is left of a request's budget."""
    if state is None:
        return {}
    return {
        "X-Bapi-Limit": str(state.limit),
        "X-Bapi-Limit-Status": str(state.remain),
        "X-Bapi-Limit-Reset-Timestamp": str(state.reset_ms),
    }


class PrivateSide:
    """``venues``: by category."""

    def __init__(self, venues: Mapping[str, SimVenue], host: Host) -> None:
        self.venues = venues
        self.host = host
        self.limiter = WindowLimiter()
        self.routes = order_api.routes() | account_api.routes()

    def owner(self, key: str) -> tuple[str, SimAccount | None]:
        """(category, account) of a key; of an unknown one the first category and None."""
        for category, venue in self.venues.items():
            account = venue.accounts.get(key)
            if account is not None:
                return category, account
        return next(iter(self.venues)), None

    def request(self, key: str, route: Route, params: dict[str, Any], account: SimAccount) -> ApiRequest:
        """The request of a verified account. Raises ``BybitError``: a right that the key has not, another category."""
        category, _ = self.owner(key)
        venue = self.venues[category]
        named = params.get("category", category)
        if named not in ("spot", "linear", "inverse", "option"):
            raise BybitError(10001, "params error: category is invalid")
        if route.operation in ORDER_OPERATIONS and not (account.keys[key].can_trade and named == category):
            raise rows.refusal(SimReject(RejectReason.NOT_PERMITTED, ""), category)
        return ApiRequest({**params, KEY: key}, account, venue, category, venue.now_ms())

    def spend(self, path: str, route: Route, category: str, uid: str, now_ms: int) -> BudgetState:
        """Counts a request of an account. Raises ``BybitError``."""
        most = route.per_s or ORDERS_PER_S[category]
        state = self.limiter.take(Budget(most, 1000), path, uid, now_ms)
        if not state.allowed:
            raise BybitError(10006, "Too many visits. Exceeded the API Rate Limit.")
        return state

    # --- REST ---

    async def serve(self, request: web.Request) -> web.Response:
        """One signed request."""
        key = request.headers.get("X-BAPI-API-KEY", "")
        category, account = self.owner(key)
        venue, route = self.venues[category], self.routes.get((request.method, request.path))
        query, body = request.raw_path.partition("?")[2], (await request.read()).decode("utf-8", "replace")
        if route is None:
            return reply({}, venue.now_ms(), BybitError(10001, f"Request not supported: {request.path}"), status=404)
        try:
            params = params_of(request.method, query, body)
        except BybitError as error:
            return reply({}, venue.now_ms(), error)
        symbol, client_id = str(params.get("symbol", "*")), str(params.get("orderLinkId", ""))
        operation = operation_of(route, params)
        faults = await self.host.admit(
            venue.name, operation, symbol=symbol, client_id=client_id, via="rest", detail={"path": request.path}
        )
        if faults.drop_request:
            return _hang_up(request)
        if faults.page_status:
            return gateway_page(faults.page_status)
        if faults.status:
            return self._refused(venue, faults.status, faults.retry_after_s)
        answer = await self._answer(request, route, params, account, query if request.method == "GET" else body)
        await self.host.release(venue.name, operation, faults)
        if faults.drop_response:
            return _hang_up(request)
        return self._refused(venue, faults.status_after, 0.0) if faults.status_after else answer

    def _refused(self, venue: SimVenue, status: int, retry_after_s: float) -> web.Response:
        now_ms, error = venue.now_ms(), injected(status)
        reset = {"X-Bapi-Limit-Reset-Timestamp": str(now_ms + int(retry_after_s * 1000))}
        return reply({}, now_ms, error, status=200 if error.code == 10006 else status, headers=reset)

    async def _answer(
        self, request: web.Request, route: Route, params: dict[str, Any], account: SimAccount | None, signed: str
    ) -> web.Response:
        key = request.headers.get("X-BAPI-API-KEY", "")
        category, _ = self.owner(key)
        now_ms = self.venues[category].now_ms()
        state: BudgetState | None = None
        try:
            owner = verify(account, request.headers, signed, now_ms)
            state = self.spend(request.path, route, category, owner.uid, now_ms)
            call = self.request(key, route, params, owner)
            if call.params.get("category", category) != category:
                found: dict[str, Any] = {"category": call.params["category"], "list": [], "nextPageCursor": ""}
            else:
                found = await route.handler(call)
        except BybitError as error:
            return reply({}, now_ms, error, headers=budget_headers(state))
        return reply(found, now_ms, headers=budget_headers(state))


def operation_of(route: Route, params: Mapping[str, Any]) -> str:
    """What faults call a request: order/realtime is a question for one order, or for a list."""
    if route.operation != "order" or params.get("orderId") or params.get("orderLinkId"):
        return route.operation
    return "finished_orders" if str(params.get("openOnly", "0")) == "1" else "open_orders"


def params_of(method: str, query: str, body: str) -> dict[str, Any]:
    """Query of a GET, JSON object of a POST. Raises ``BybitError``."""
    if method == "GET":
        return dict(parse_qsl(query, keep_blank_values=True))
    try:
        return msgspec.json.decode(body.encode(), type=dict[str, Any])
    except msgspec.DecodeError:
        raise BybitError(10001, "params error: the body is no JSON object") from None


def _hang_up(request: web.Request) -> web.Response:
    """Cuts the TCP connection; the response object goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
