"""The private side of one Binance market over a simulated venue: REST and WebSocket API share budgets and handlers.

A request passes weight, key, clock window, signature and order count, then its handler.
Source: Binance spot REST API "General API information", WebSocket API "Response format"; USDⓈ-M futures API "General
info" (read 2026).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from pipeline.sim.exchange.events import AccountEvent
from pipeline.sim.exchange.faults import ORDER_OPERATIONS
from pipeline.sim.exchange.orders import RejectReason, SimReject
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.binance.auth import deadline_ms, rest_params, rest_text, verify
from pipeline.sim.wire.binance.formats import BinanceError, refusal
from pipeline.sim.wire.binance.limits import BinanceLimits, Counts, Spend, headers_of
from pipeline.sim.wire.binance.request import ApiRequest, Route
from pipeline.sim.wire.rate_limits import BudgetState


class PrivateSide:
    """All calls of one market that the public dialect does not answer by itself.

    ``stream_events``: what the WebSocket API's user data stream tells of an account event; None: there is none there.
    """

    def __init__(
        self,
        venue: SimVenue,
        limits: BinanceLimits,
        routes: dict[tuple[str, str], Route],
        ws_routes: dict[str, Route],
        stream_events: Callable[[AccountEvent], list[dict[str, object]]] | None = None,
    ) -> None:
        self.venue = venue
        self.spend = Spend(limits)
        self.routes = routes
        self.ws_routes = ws_routes
        self.stream_events = stream_events

    def path_of(self, request: web.Request) -> str:
        """A request's path as the routes name it."""
        return request.path

    async def serve(self, request: web.Request) -> web.Response:
        """One REST request."""
        now_ms = self.venue.now_ms()
        weight: BudgetState | None = None
        counts: Counts | None = None
        try:
            route = self.routes.get((request.method, self.path_of(request)))
            weight = self.spend.take_weight(request.remote or "", route.weight if route else 1, now_ms)
            if route is None:
                raise BinanceError(-1020, "This operation is not supported.", 404)
            query = request.raw_path.partition("?")[2]
            body = (await request.read()).decode("utf-8", "replace")
            params = rest_params(query, body)
            key = request.headers.get("X-MBX-APIKEY")
            call = ApiRequest(params, self.venue.accounts.get(key or ""), now_ms)
            if route.signed:
                text, signature = rest_text(query, body)
                call, counts = self.check(route.operation, key, text, signature, params)
            elif route.keyed and call.account is None:
                raise BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
            return reply(await route.handler(call), headers=headers_of(weight, counts))
        except BinanceError as error:
            return refused(error, now_ms, headers_of(weight, counts))

    def check(
        self, operation: str, key: str | None, text: str, signature: str, params: dict[str, str]
    ) -> tuple[ApiRequest, Counts | None]:
        """The call of who signed it, and the order counts of a placement. Raises ``BinanceError``."""
        now_ms = self.venue.now_ms()
        account = verify(self.venue.accounts, key, text, signature, params, now_ms)
        if operation in ORDER_OPERATIONS and not account.keys[key or ""].can_trade:
            raise refusal(SimReject(RejectReason.NOT_PERMITTED, ""))
        counts = self.spend.take_order(account.uid, now_ms) if operation == "place" else None
        return ApiRequest(params, account, now_ms, deadline_ms(params)), counts


def reply(value: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def refused(error: BinanceError, now_ms: int, headers: dict[str, str] | None = None) -> web.Response:
    """A refusal with the venue's code; a silence in ``Retry-After``."""
    wait = {"Retry-After": str(max(1, -(-(error.retry_ms - now_ms) // 1000)))} if error.retry_ms else {}
    return reply({"code": error.code, "msg": error.text}, error.status, {**(headers or {}), **wait})
