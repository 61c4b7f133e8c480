"""One socket of Binance's WebSocket API: signed calls, logins of Ed25519 keys, spot's user data stream subscriptions.

Source: Binance spot WebSocket API "General API information", "Authentication requests", "User Data Stream requests"
(read 2026). The server pings every 20 s and closes after 24 h.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.events import AccountEvent
from pipeline.sim.exchange.faults import ORDER_OPERATIONS, RequestFaults
from pipeline.sim.exchange.latency import NS_PER_S
from pipeline.sim.exchange.orders import RejectReason, SimReject
from pipeline.sim.wire.binance.auth import check_window, deadline_ms, is_ed25519, verify, ws_params, ws_text
from pipeline.sim.wire.binance.formats import BinanceError, refusal
from pipeline.sim.wire.binance.limits import Counts, rows_of
from pipeline.sim.wire.binance.private_side import PrivateSide
from pipeline.sim.wire.binance.request import ApiRequest, Route
from pipeline.sim.wire.dialect import SimSocket
from pipeline.sim.wire.rate_limits import BudgetState

_PING_NS = 20 * NS_PER_S
_LIFE_NS = 24 * 3600 * NS_PER_S
_SUBSCRIBE = "userDataStream.subscribe"
_INTERNAL = (-1000, "An unknown error occurred while processing the request.")


class Call(msgspec.Struct):
    """One frame of a client."""

    method: str
    id: str | int | None = None
    params: dict[str, Any] = {}


class ApiSession:
    """The venue's side of one socket."""

    def __init__(self, side: PrivateSide, sock: SimSocket) -> None:
        self._side = side
        self._venue = side.venue
        self._sock = sock
        self._login: SimAccount | None = None
        self._login_key = ""
        self._streams: dict[int, tuple[SimAccount, Callable[[], None]]] = {}
        self._next_stream = 0
        self._calls: set[asyncio.Task[Any]] = set()
        self._venue.clock.call_later(_PING_NS, self._ping)
        self._venue.clock.call_later(_LIFE_NS, sock.kill)

    def end(self) -> None:
        for _, remove in self._streams.values():
            remove()
        self._streams.clear()

    def _ping(self) -> None:
        if not self._sock.closed:
            self._spawn(self._sock.response.ping())
            self._venue.clock.call_later(_PING_NS, self._ping)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def on_message(self, data: str | bytes) -> None:
        try:
            call = msgspec.json.decode(data, type=Call)
        except msgspec.DecodeError:
            self._answer(None, error=BinanceError(-1135, "Invalid JSON Request"))
            return
        self._spawn(self._serve(call))

    async def _serve(self, call: Call) -> None:
        now_ms = self._venue.now_ms()
        weight: BudgetState | None = None
        counts: Counts | None = None
        try:
            params = ws_params(call.params)
            route = self._side.ws_routes.get(call.method)
            address = self._sock.request.remote or ""
            weight = self._side.spend.take_weight(address, route.weight if route else 2, now_ms)
            if route is None:
                self._answer(call.id, result=self._session_call(call.method, params), weight=weight)
                return
            symbol, named = params.get("symbol", "*"), ("newClientOrderId", "origClientOrderId")
            client_id = next((params[name] for name in named if name in params), "")
            detail = {"method": call.method}
            host = self._sock.dialect.host
            faults = await host.admit(
                self._venue.name, route.operation, symbol=symbol, client_id=client_id, detail=detail
            )
            if faults.drop_request:
                self._sock.kill()
                return
            if faults.status:
                raise self._injected(faults.status, faults.retry_after_s)
            request, counts = self._checked(route.operation, params)
            await self._run(call, route, request, faults, (weight, counts))
        except BinanceError as error:
            self._answer(call.id, error=error, weight=weight, counts=counts)

    async def _run(
        self,
        call: Call,
        route: Route,
        request: ApiRequest,
        faults: RequestFaults,
        spent: tuple[BudgetState, Counts | None],
    ) -> None:
        """Executes a call and sends the reply, with what faults do to it."""
        error: BinanceError | None = None
        result: Any = None
        try:
            result = await route.handler(request)
        except BinanceError as refusal_of_it:
            error = refusal_of_it
        await self._sock.dialect.host.release(self._venue.name, route.operation, faults)
        if faults.drop_response:
            self._sock.kill()
            return
        if faults.status_after:
            error = self._injected(faults.status_after, 0.0)
        self._answer(call.id, result=result, error=error, weight=spent[0], counts=spent[1])

    def _injected(self, status: int, retry_after_s: float) -> BinanceError:
        if status in (418, 429):
            until_ms = self._venue.now_ms() + int(retry_after_s * 1000)
            return BinanceError(-1003, "Too many requests.", status, until_ms)
        return BinanceError(*_INTERNAL, status)

    def _checked(self, operation: str, params: dict[str, str]) -> tuple[ApiRequest, Counts | None]:
        """Signed, or of a session that has logged in; then only the clock window is looked at."""
        if self._login is None or "signature" in params:
            text, signature = ws_text(params)
            return self._side.check(operation, params.get("apiKey"), text, signature, params)
        now_ms = self._venue.now_ms()
        check_window(params, now_ms)
        if operation in ORDER_OPERATIONS and not self._login.keys[self._login_key].can_trade:
            raise refusal(SimReject(RejectReason.NOT_PERMITTED, ""))
        counts = self._side.spend.take_order(self._login.uid, now_ms) if operation == "place" else None
        return ApiRequest(params, self._login, now_ms, deadline_ms(params)), counts

    # --- session and user data stream ---

    def _session_call(self, method: str, params: dict[str, str]) -> Any:
        if method == "ping":
            return {}
        if method == "time":
            return {"serverTime": self._venue.now_ms()}
        if method == "session.logon":
            account = self._signer(params)
            if not is_ed25519(account.secret_of(params["apiKey"])):
                raise BinanceError(-2028, "HMAC_SHA256 API-keys are not supported by this request.")
            self._login, self._login_key = account, params["apiKey"]
            return self._status()
        if method == "session.status":
            return self._status()
        if method == "session.logout":
            self._login = None
            return self._status()
        if self._side.stream_events is None:
            raise BinanceError(-1020, "This operation is not supported.")
        if method == f"{_SUBSCRIBE}.signature":
            return self._subscribe(self._signer(params))
        if method == _SUBSCRIBE:
            if self._login is None:
                raise BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
            return self._subscribe(self._login)
        if method == "userDataStream.unsubscribe":
            return self._unsubscribe(params.get("subscriptionId", ""))
        if method == "session.subscriptions":
            return [{"subscriptionId": number} for number in self._streams]
        raise BinanceError(-1020, "This operation is not supported.")

    def _signer(self, params: dict[str, str]) -> SimAccount:
        text, signature = ws_text(params)
        now_ms = self._venue.now_ms()
        return verify(self._venue.accounts, params.get("apiKey"), text, signature, params, now_ms)

    def _status(self) -> dict[str, Any]:
        return {"apiKey": self._login_key if self._login else None, "serverTime": self._venue.now_ms()}

    def _subscribe(self, account: SimAccount) -> dict[str, int]:
        if any(known is account for known, _ in self._streams.values()):
            raise BinanceError(-2035, "Already subscribed to the user data stream.")
        events_of = self._side.stream_events
        assert events_of is not None, "looked at before"
        number, self._next_stream = self._next_stream, self._next_stream + 1

        def listen(event: AccountEvent) -> None:
            for reported in events_of(event):
                self._sock.send(msgspec.json.encode({"subscriptionId": number, "event": reported}).decode())

        self._sock.scope = "private"
        self._streams[number] = account, self._venue.on_account(account, listen)
        return {"subscriptionId": number}

    def _unsubscribe(self, number: str) -> dict[str, Any]:
        chosen = [int(number)] if number.isdigit() else list(self._streams)
        for one in chosen:
            known = self._streams.pop(one, None)
            if known is not None:
                known[1]()
        return {}

    # --- replies ---

    def _answer(
        self,
        call_id: str | int | None,
        *,
        result: Any = None,
        error: BinanceError | None = None,
        weight: BudgetState | None = None,
        counts: Counts | None = None,
    ) -> None:
        frame: dict[str, Any] = {"id": call_id, "status": error.status if error is not None else 200}
        if error is None:
            frame["result"] = result
        else:
            frame["error"] = {"code": error.code, "msg": error.text}
            if error.retry_ms:
                frame["error"]["data"] = {"serverTime": self._venue.now_ms(), "retryAfter": error.retry_ms}
        frame["rateLimits"] = rows_of(weight, counts)
        self._sock.send(msgspec.json.encode(frame).decode())
