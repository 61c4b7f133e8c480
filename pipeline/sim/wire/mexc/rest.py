"""MEXC spot REST v3 over a simulated venue: a request passes budget, key, clock window and signature, then its handler.

Handlers live in ``public_rest`` and ``signed_rest``.
Source: MEXC spot v3 "General Info", "SIGNED"; limits as reported in 2025 and 2026.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.faults import ORDER_OPERATIONS
from pipeline.sim.exchange.orders import RejectReason, SimReject
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.auth import AuthRefused
from pipeline.sim.wire.mexc.auth import MexcLimits, mexc_deadline_ms, mexc_params, verify_mexc
from pipeline.sim.wire.mexc.formats import MexcError, refusal
from pipeline.sim.wire.mexc.listen_keys import ListenKeys
from pipeline.sim.wire.mexc.public_rest import MexcPublic
from pipeline.sim.wire.mexc.request import ApiRequest, Route
from pipeline.sim.wire.mexc.signed_rest import MexcSigned
from pipeline.sim.wire.rate_limits import WindowLimiter, retry_after_s


class MexcRest:
    """All REST paths of one simulated MEXC spot venue."""

    def __init__(self, venue: SimVenue, keys: ListenKeys, limits: MexcLimits) -> None:
        self._venue = venue
        self._limits = limits
        self.limiter = WindowLimiter()
        self._banned_until_ms: dict[str, int] = {}
        self._public = MexcPublic(venue)
        self.on_trade = self._public.on_trade
        self.routes: dict[tuple[str, str], Route] = self._public.routes() | MexcSigned(venue, keys, limits).routes()

    # --- one request ---

    async def serve(self, request: web.Request) -> web.Response:
        route = self.routes.get((request.method, request.path))
        if route is None:
            return _reply({"code": 404, "msg": "Not Found"}, 404)
        raw_query = request.raw_path.partition("?")[2]
        body = (await request.read()).decode("utf-8", "replace")
        now_ms = self._venue.now_ms()
        refused = self._budget(route, request, now_ms)
        if refused is not None:
            return refused
        try:
            params = mexc_params(raw_query, body)
            account, deadline_ms = None, 0
            if route.signed:
                key = request.headers.get("X-MEXC-APIKEY")
                account = verify_mexc(self._venue.accounts, key, raw_query, body, params, now_ms)
                deadline_ms = mexc_deadline_ms(params)
                if route.operation in ORDER_OPERATIONS and not account.keys[key or ""].can_trade:
                    raise refusal(SimReject(RejectReason.NOT_PERMITTED, ""), None, None)
                refused = self._uid_budget(route, request.path, account, now_ms)
                if refused is not None:
                    return refused
            return _reply(await route.handler(ApiRequest(params, account, now_ms, deadline_ms)))
        except AuthRefused as error:
            return _reply({"code": error.code, "msg": error.text}, error.status)
        except MexcError as error:
            return _reply({"msg": error.text, "code": error.code}, error.status)

    def _budget(self, route: Route, request: web.Request, now_ms: int) -> web.Response | None:
        """Weight per endpoint and address; a client far past it is banned with 418."""
        address = request.remote or ""
        banned_until_ms = self._banned_until_ms.get(address, 0)
        if now_ms < banned_until_ms:
            wait_s = -(-(banned_until_ms - now_ms) // 1000)
            return _reply({"code": 418, "msg": "banned"}, 418, {"Retry-After": str(wait_s)})
        budget = self._limits.ip
        state = self.limiter.take(budget, f"{request.method}{request.path}", address, now_ms, route.weight)
        if state.allowed:
            return None
        if state.used > budget.limit * self._limits.ban_factor:
            self._banned_until_ms[address] = now_ms + self._limits.ban_ms
        return _too_many(retry_after_s(state, now_ms))

    def _uid_budget(self, route: Route, path: str, account: SimAccount, now_ms: int) -> web.Response | None:
        state = self.limiter.take(self._limits.uid, f"uid{route.operation}{path}", account.uid, now_ms, route.weight)
        if state.allowed and route.budget is not None:
            state = self.limiter.take(route.budget, f"place{path}", account.uid, now_ms)
        return None if state.allowed else _too_many(retry_after_s(state, now_ms))


def _reply(payload: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(payload), status=status, headers=headers, content_type="application/json"
    )


def _too_many(wait_s: int) -> web.Response:
    return _reply({"code": 429, "msg": "Too Many Requests"}, 429, {"Retry-After": str(wait_s)})
