"""Gate.io as a whole: REST v4 and the WebSockets of spot and USDT futures over the venues of one exchange.

A request passes, in the venue's order: budget, headers, clock window, key, signature, expiry, then its handler.
Every reply carries the rate-limit and timing headers. Source: Gate.io APIv4 "Rate limit", "Authentication".
"""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from pipeline.model.enums import InstrumentKind
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.faults import ORDER_OPERATIONS
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.auth import AuthRefused
from pipeline.sim.wire.dialect import Dialect, Host, SimSocket
from pipeline.sim.wire.gateio.api import Route
from pipeline.sim.wire.gateio.auth import GateLimits, gate_headers, verify_gate_rest
from pipeline.sim.wire.gateio.formats import GateError
from pipeline.sim.wire.gateio.futures import FuturesApi
from pipeline.sim.wire.gateio.market import GateMarket
from pipeline.sim.wire.gateio.spot import SpotApi
from pipeline.sim.wire.gateio.websocket import GateSession
from pipeline.sim.wire.rate_limits import Budget, BudgetState, WindowLimiter

# The first of each is the live path; the others are what clients also use: without the slash, and the testnet's.
_SPOT_SOCKETS = ("/ws/v4/", "/ws/v4", "/v4/ws/spot")
_FUTURES_SOCKETS = ("/v4/ws/usdt", "/v4/ws/usdt/", "/v4/ws/futures/usdt")
_CANCELS = ("cancel", "cancel_all")
_PLACINGS = ("place", "amend")  # one budget


class GateioDialect(Dialect):
    """Spot, futures or both, by what ``venues`` holds."""

    client_id_prefix = "t-"
    splits_fee_deduction = True
    orders_per_s: ClassVar[dict[str, int]] = {"spot": 10, "futures": 100}

    def __init__(self, venues: dict[str, SimVenue], host: Host, limits: GateLimits | None = None) -> None:
        super().__init__(venues, host)
        self.limits = limits or GateLimits()
        self._limiter = WindowLimiter()
        self._serial = 0
        futures = next((one for one in venues.values() if one.kind is InstrumentKind.PERPETUAL), None)
        spot = next((one for one in venues.values() if one.kind is InstrumentKind.SPOT), None)
        self.markets: list[GateMarket] = []
        if spot is not None:
            self.markets.append(GateMarket(spot, SpotApi(spot, futures), host, self.limits))
        if futures is not None:
            self.markets.append(GateMarket(futures, FuturesApi(futures), host, self.limits))
        self._routes = {key: (market, route) for market in self.markets for key, route in market.routes.items()}

    def routes(self, app: web.Application) -> None:
        for market in self.markets:
            for path in _FUTURES_SOCKETS if market.is_futures else _SPOT_SOCKETS:
                app.router.add_get(path, self._socket_of(market))
        app.router.add_route("*", "/api/{tail:.*}", self._serve)

    def urls(self, host: str, port: int) -> dict[str, dict[str, str]]:
        found = {}
        for market in self.markets:
            path = _FUTURES_SOCKETS[0] if market.is_futures else _SPOT_SOCKETS[0]
            socket = f"ws://{host}:{port}{path}"
            found[market.venue.name] = {
                "rest": f"http://{host}:{port}/api/v4",
                "ws": socket,
                "ws_private": socket,
                "ws_api": socket,
            }
        return found

    def classify(self, method: str, path: str, query: dict[str, str]) -> tuple[str, str, str] | None:
        found = self._match(method, path)
        if found is None:
            return None
        market, route, _ = found
        symbol = query.get("currency_pair") or query.get("contract") or "*"
        return market.venue.name, route.operation, symbol

    def error_response(self, venue: str, status: int, retry_after_s: float) -> web.Response:
        if status == 429:
            market = next((one for one in self.markets if one.venue.name == venue), self.markets[0])
            return _reply({"label": "TOO_MANY_REQUESTS", "message": _too_many_text(market)}, status)
        return _reply({"label": "SERVER_ERROR" if status >= 500 else "INTERNAL", "message": "injected"}, status)

    def on_start(self) -> None:
        for market in self.markets:
            market.venue.on_market(market.on_market)

    def _socket_of(self, market: GateMarket) -> Any:
        async def serve(request: web.Request) -> web.StreamResponse:
            sock = SimSocket(self, request, market.venue.name, "public")
            refused = await sock.open()
            if refused is not None:
                return refused
            self._serial += 1
            decimal_sizes = request.headers.get("X-Gate-Size-Decimal") == "1"
            session = GateSession(market, sock, decimal_sizes, self._serial)
            try:
                async for message in sock:
                    session.on_message(message.data)
            finally:
                session.end()
            return sock.response

        return serve

    # --- REST ---

    def _match(self, method: str, path: str) -> tuple[GateMarket, Route, tuple[str, ...]] | None:
        """Exact paths first; then one segment, last or last but one, taken as an argument.

        The settlement coin of futures may come in capitals, as ccxt sends it here and there.
        """
        path = path.replace("/futures/USDT/", "/futures/usdt/")
        found = self._routes.get((method, path))
        if found is not None:
            return *found, ()
        parts = path.split("/")
        for at in (-1, -2):
            if len(parts) < -at + 1:
                continue
            argument, parts_tried = parts[at], [*parts]
            parts_tried[at] = "{}"
            found = self._routes.get((method, "/".join(parts_tried)))
            if found is not None:
                return *found, (argument,)
        return None

    async def _serve(self, request: web.Request) -> web.Response:
        found = self._match(request.method, request.path)
        if found is None:
            return _reply({"label": "NOT_FOUND", "message": f"{request.method} {request.path} not found"}, 404)
        market, route, args = found
        venue = market.venue
        in_us = venue.wall_ns() // 1000
        headers = {name.lower(): value for name, value in request.headers.items()}
        key = headers.get("key", "") if route.signed else (request.remote or "")
        state = self._take(market, route, request, key)
        timing = gate_headers(state) | {"X-In-Time": str(in_us)}
        status = route.status
        try:
            if not state.allowed:
                raise GateError("TOO_MANY_REQUESTS", _too_many_text(market), 429)
            payload = await self._handle(market, route, request, headers, args)
        except GateError as error:
            status, payload = error.status, {"label": error.label, "message": error.text}
            if error.label == "ORDER_POC_IMMEDIATE":
                payload = {"label": error.label, "detail": error.text}
        except AuthRefused as refused:
            status, payload = refused.status, {"label": refused.code, "message": refused.text}
        return _reply(payload, status, timing | {"X-Out-Time": str(venue.wall_ns() // 1000)})

    def _take(self, market: GateMarket, route: Route, request: web.Request, key: str) -> BudgetState:
        """Public: per endpoint and address. Private: placing, cancelling, everything else per endpoint; per user."""
        now_ms = market.venue.now_ms()
        account = market.venue.accounts.get(key) if route.signed else None
        who = account.uid if account is not None else key
        budget, name = self._budget(market, route, f"{request.method}{request.path}")
        if route.operation in _PLACINGS and not market.is_futures:
            who = f"{who}:{market.venue.name}"
        return self._limiter.take(budget, name, who, now_ms)

    def _budget(self, market: GateMarket, route: Route, endpoint: str) -> tuple[Budget, str]:
        if not route.signed:
            return self.limits.public, endpoint
        if route.operation in _PLACINGS:
            return market.place_budget, f"{market.prefix}.place"
        if route.operation in _CANCELS:
            return market.cancel_budget, f"{market.prefix}.cancel"
        return self.limits.private, endpoint

    async def _handle(
        self,
        market: GateMarket,
        route: Route,
        request: web.Request,
        headers: dict[str, str],
        args: tuple[str, ...],
    ) -> Any:
        body = await request.read()
        raw_query = request.raw_path.partition("?")[2]
        account: SimAccount | None = None
        if route.signed:
            account = verify_gate_rest(
                market.venue.accounts,
                headers,
                method=request.method,
                path=request.path,
                query=raw_query,
                body=body,
                now_ms=market.venue.now_ms(),
            )
            if route.operation in ORDER_OPERATIONS:
                market.check_trade_permission(account, headers["key"])
        params: dict[str, Any] = dict(parse_qsl(raw_query, keep_blank_values=True))
        decoded = _decoded(body)
        params.update(decoded if isinstance(decoded, dict) else {})
        call = market.call(
            headers,
            params,
            decoded if isinstance(decoded, list) else [],
            account=account,
            decimal_sizes=headers.get("x-gate-size-decimal") == "1",
            args=args,
        )
        return await route.handler(call)


def _decoded(body: bytes) -> Any:
    if not body:
        return {}
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise GateError("INVALID_REQUEST_BODY", "Invalid request body") from error


def _too_many_text(market: GateMarket) -> str:
    return f"Request Rate limit Exceeded ({market.limit_code})"


def _reply(payload: Any, status: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(payload), status=status, headers=headers, content_type="application/json"
    )


DIALECT = GateioDialect
