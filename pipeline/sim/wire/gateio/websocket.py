"""One Gate.io WebSocket: public and private subscriptions, pings, and the trading API after a login.

Envelope, acknowledgements and refusals are the same on both markets. ``order_place`` is answered twice: first an
acknowledgement that the gateway took it, then the result; futures mark the second with ``"ack": false``.
Source: Gate.io WebSocket v4 "System API", "Authentication", "Spot/Futures Websocket API".
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.events import AccountEvent
from pipeline.sim.exchange.faults import ORDER_OPERATIONS, RequestFaults
from pipeline.sim.exchange.latency import NS_PER_S
from pipeline.sim.wire.auth import AuthRefused
from pipeline.sim.wire.dialect import SimSocket
from pipeline.sim.wire.gateio import private_pushes as private
from pipeline.sim.wire.gateio.auth import verify_gate_channel, verify_gate_login
from pipeline.sim.wire.gateio.formats import ApiRequest, GateError
from pipeline.sim.wire.gateio.market import GateMarket
from pipeline.sim.wire.gateio.streams import BadPayload, payload_items
from pipeline.sim.wire.rate_limits import BudgetState

_PING_NS = 20 * NS_PER_S
PLACING = ("order_place", "order_batch_place")
_OPERATIONS = {
    "order_place": "place",
    "order_batch_place": "place",
    "order_cancel": "cancel",
    "order_cancel_ids": "cancel",
    "order_cancel_cp": "cancel_all",
    "order_amend": "amend",
    "order_status": "order",
    "order_list": "finished_orders",
}


class Request(msgspec.Struct):
    """Any frame of a client; ``time`` in unix seconds, ``payload`` as its channel wants it."""

    time: int = 0
    channel: str = ""
    event: str = ""
    id: int | str | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")
    auth: dict[str, str] = {}


class ApiPayload(msgspec.Struct):
    """``req_param`` stays raw: a login's signature covers its bytes."""

    req_id: str = ""
    api_key: str = ""
    signature: str = ""
    timestamp: str = ""
    req_param: msgspec.Raw = msgspec.Raw(b"")
    req_header: dict[str, str] = {}


class GateSession:
    """The venue's side of one socket of one market."""

    def __init__(self, market: GateMarket, sock: SimSocket, decimal_sizes: bool, serial: int) -> None:
        self._market = market
        self._venue = market.venue
        self._sock = sock
        self._decimal_sizes = decimal_sizes
        self._conn_id = hashlib.md5(f"{market.prefix}{serial}".encode(), usedforsecurity=False).hexdigest()[:16]
        self._traces = 0
        self._login: SimAccount | None = None
        self._login_key = ""
        self._private: dict[str, dict[str, set[str]]] = {}  # uid -> channel -> symbols
        self._listener_removals: dict[str, Callable[[], None]] = {}
        self._calls: set[asyncio.Task[Any]] = set()
        self._plan_ping()

    def end(self) -> None:
        self._market.stream.drop(self._sock)
        for remove in self._listener_removals.values():
            remove()
        self._listener_removals.clear()

    def _plan_ping(self) -> None:
        """The server pings at protocol level, too; client libraries answer by themselves."""
        self._venue.clock.call_later(_PING_NS, self._ping)

    def _ping(self) -> None:
        if self._sock.closed:
            return
        self._spawn(self._sock.response.ping())
        self._plan_ping()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    # --- control ---

    def on_message(self, data: str | bytes) -> None:
        try:
            request = msgspec.json.decode(data, type=Request)
        except msgspec.DecodeError:
            self._sock.send(self._control(Request(), None, {"code": 1, "message": "invalid request body"}))
            return
        kind = request.channel.removeprefix(f"{self._market.prefix}.")
        if kind == "ping":
            self._sock.send(self._pong())
        elif request.event == "api":
            self._start_api(request, kind)
        elif request.event in ("subscribe", "unsubscribe"):
            self._subscription(request)
        else:
            self._sock.send(self._control(request, None, {"code": 1, "message": f"invalid event {request.event}"}))

    def _pong(self) -> str:
        now_ms = self._venue.now_ms()
        return (
            f'{{"time":{now_ms // 1000},"time_ms":{now_ms},"channel":"{self._market.prefix}.pong",'
            f'"event":"","error":null,"result":null}}'
        )

    def _trace(self) -> str:
        self._traces += 1
        text = f"{self._conn_id}{self._traces}"
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    def _control(self, request: Request, payload: list[str] | None, error: dict[str, Any] | None) -> str:
        now_ms = self._venue.now_ms()
        reply: dict[str, Any] = {"time": now_ms // 1000, "time_ms": now_ms}
        if request.id is not None:
            reply["id"] = request.id
        reply |= {"conn_id": self._conn_id, "trace_id": self._trace()}
        reply |= {"channel": request.channel, "event": request.event}
        if payload is not None:
            reply["payload"] = payload
        reply |= {"error": error, "result": {"status": "success" if error is None else "fail"}}
        return msgspec.json.encode(reply).decode()

    def _subscription(self, request: Request) -> None:
        payload: list[str] = []
        try:
            payload = payload_items(msgspec.json.decode(request.payload))
            if request.channel in self._market.private_channels:
                self._private_subscription(request, payload)
                self._sock.send(self._control(request, payload, None))
            elif request.event == "subscribe":
                self._public_subscribe(request, payload)
            else:
                wanted = self._market.stream.keys(request.channel, payload)
                self._market.stream.unsubscribe([key for key, _, _ in wanted], self._sock)
                self._sock.send(self._control(request, payload, None))
        except BadPayload as error:
            self._sock.send(self._control(request, payload, {"code": error.code, "message": error.text}))
        except (GateError, msgspec.DecodeError) as error:
            self._sock.send(self._control(request, payload, {"code": 2, "message": str(error)}))
        except AuthRefused as error:
            self._sock.send(self._control(request, payload, {"code": 4, "message": error.text}))

    def _public_subscribe(self, request: Request, payload: list[str]) -> None:
        stream = self._market.stream
        wanted = stream.keys(request.channel, payload)
        for key, _, _ in wanted:
            if request.channel.endswith(".obu") and stream.is_subscribed(key, self._sock):
                raise BadPayload(f"Alert sub {key[2]}")
        channels = stream.subscribe(wanted, self._sock, self._decimal_sizes)
        self._sock.send(self._control(request, payload, None))
        for channel in channels:
            stream.open_pushes(channel, self._sock, self._decimal_sizes)

    # --- private channels ---

    def _private_subscription(self, request: Request, payload: list[str]) -> None:
        account = verify_gate_channel(
            self._venue.accounts,
            request.auth,
            channel=request.channel,
            event=request.event,
            time_s=request.time,
            now_ms=self._venue.now_ms(),
        )
        symbols = self._private_symbols(request.channel, payload, account)
        topics = self._private.setdefault(account.uid, {})
        held = topics.setdefault(request.channel, set())
        if request.event == "unsubscribe":
            held.difference_update(symbols)
            return
        held.update(symbols)
        self._sock.scope = "private"
        if account.uid not in self._listener_removals:
            self._listener_removals[account.uid] = self._venue.on_account(account, self._listener(account))

    def _private_symbols(self, channel: str, payload: list[str], account: SimAccount) -> list[str]:
        """Futures payloads start with the user's id; balances name no symbol."""
        if self._market.prefix == "futures":
            if not payload or payload[0] != account.uid:
                raise BadPayload("invalid user id")
            payload = payload[1:]
        if channel.endswith(".balances"):
            return [private.ALL]
        if not payload:
            raise BadPayload("empty payload")
        for symbol in payload:
            if symbol != private.ALL and symbol not in self._venue.instruments:
                raise BadPayload(f"unknown symbol: {symbol}")
        return payload

    def _listener(self, account: SimAccount) -> Callable[[AccountEvent], None]:
        def listen(event: AccountEvent) -> None:
            topics = self._private.get(account.uid)
            if not topics:
                return
            for channel, symbol, item in self._items(event, account):
                wanted = topics.get(channel)
                if wanted and (private.ALL in wanted or symbol in wanted):
                    self._sock.send(self._private_push(channel, item))

        return listen

    def _items(self, event: AccountEvent, account: SimAccount) -> list[tuple[str, str, dict[str, Any]]]:
        if self._market.prefix == "spot":
            return private.spot_items(event, account)
        return private.futures_items(event, account, self._venue, decimal_sizes=self._decimal_sizes)

    def _private_push(self, channel: str, item: dict[str, Any]) -> str:
        now_ms = self._venue.now_ms()
        result = msgspec.json.encode([item]).decode()
        return (
            f'{{"time":{now_ms // 1000},"time_ms":{now_ms},"channel":"{channel}","event":"update","result":{result}}}'
        )

    # --- trading API ---

    def _start_api(self, request: Request, kind: str) -> None:
        in_us = self._venue.wall_ns() // 1000
        try:
            payload = msgspec.json.decode(request.payload, type=ApiPayload)
        except msgspec.DecodeError:
            error = GateError("INVALID_REQUEST_BODY", "invalid payload")
            self._sock.send(self._reply(request.channel, "", in_us, error=error))
            return
        if kind == "login":
            self._sock.send(self._on_login(request, payload, in_us))
            return
        self._spawn(self._api(request.channel, kind, payload, in_us))

    def _on_login(self, request: Request, payload: ApiPayload, in_us: int) -> str:
        try:
            account = verify_gate_login(
                self._venue.accounts,
                channel=request.channel,
                api_key=payload.api_key,
                signature=payload.signature,
                timestamp=payload.timestamp,
                req_param=bytes(payload.req_param),
                now_ms=self._venue.now_ms(),
            )
        except AuthRefused as refused:
            error = GateError(str(refused.code), refused.text, refused.status)
            return self._reply(request.channel, payload.req_id, in_us, error=error)
        self._login, self._login_key = account, payload.api_key
        self._sock.scope = "private"
        result = {"api_key": payload.api_key, "uid": account.uid}
        return self._reply(request.channel, payload.req_id, in_us, result=result)

    async def _api(self, channel: str, kind: str, payload: ApiPayload, in_us: int) -> None:
        """One trading call: checks at the gateway, acknowledgement of a placement, then the result."""
        market = self._market
        answer = _Answer(self, channel, payload, in_us, acks=kind in PLACING)
        handler = market.api_handlers.get(kind)
        if handler is None:
            answer.refuse(GateError("INVALID_ARGUMENT", f"unknown channel {channel}"))
            return
        if self._login is None:
            answer.refuse(GateError("AUTHENTICATION_FAILED", "Not login", 400))
            return
        operation = _OPERATIONS[kind]
        try:
            call = self._call(payload)
            faults = await market.admit_ws(operation, call)
            if faults.drop_request:
                self._sock.kill()
                return
            if faults.status:
                label = "TOO_MANY_REQUESTS" if faults.status == 429 else "SERVER_ERROR"
                raise GateError(label, "injected", faults.status)
            if operation in ORDER_OPERATIONS:
                market.check_trade_permission(self._login, self._login_key)
            if operation in ("place", "amend"):
                answer.budget = market.ws_budget(self._login, self._venue.now_ms())
                if not answer.budget.allowed:
                    raise GateError("TOO_MANY_REQUESTS", f"Request Rate limit Exceeded ({market.limit_code})", 429)
            if operation == "place":
                answer.plan_ack()
            await self._run(answer, operation, handler, call, faults)
        except GateError as error:
            answer.refuse(error)
        except AuthRefused as refused:
            answer.refuse(GateError(str(refused.code), refused.text, refused.status))

    async def _run(
        self,
        answer: _Answer,
        operation: str,
        handler: Callable[[ApiRequest], Awaitable[Any]],
        call: ApiRequest,
        faults: RequestFaults,
    ) -> None:
        """Executes the call and sends the reply, with the latency of the way back and what faults do to it."""
        refused: GateError | None = None
        result: Any = None
        try:
            result = await handler(call)
        except GateError as error:
            refused = error
        await self._market.host.release(self._venue.name, operation, faults)
        if faults.drop_response:
            self._sock.kill()
            return
        if faults.status_after:
            refused = GateError("SERVER_ERROR", "injected", faults.status_after)
        if refused is not None:
            answer.refuse(refused)
        else:
            answer.result(result)

    def _call(self, payload: ApiPayload) -> ApiRequest:
        try:
            body = msgspec.json.decode(payload.req_param) if bytes(payload.req_param) else {}
        except msgspec.DecodeError as error:
            raise GateError("INVALID_REQUEST_BODY", "invalid req_param") from error
        headers = {name.lower(): value for name, value in payload.req_header.items()}
        return self._market.call(
            headers,
            body if isinstance(body, dict) else {},
            body if isinstance(body, list) else [],
            account=self._login,
            decimal_sizes=self._decimal_sizes,
        )

    def _reply(
        self,
        channel: str,
        request_id: str,
        in_us: int,
        *,
        result: Any = None,
        error: GateError | None = None,
        ack: bool | None = None,
        budget: BudgetState | None = None,
    ) -> str:
        now_us = self._venue.wall_ns() // 1000
        header: dict[str, Any] = {
            "response_time": str(now_us // 1000),
            "status": str(error.status) if error is not None else "200",
            "channel": channel,
            "event": "api",
            "client_id": f"{self._sock.request.remote}-{self._conn_id}",
            "x_in_time": in_us,
            "x_out_time": now_us,
            "conn_id": self._conn_id,
            "trace_id": self._trace(),
        }
        if budget is not None:
            header |= {
                "x_gate_ratelimit_requests_remain": budget.remain,
                "x_gate_ratelimit_limit": budget.limit,
                "x_gat_ratelimit_reset_timestamp": budget.reset_ms,
            }
        reply: dict[str, Any] = {"request_id": request_id}
        if ack is not None:
            reply["ack"] = ack
        data = {"errs": {"label": error.label, "message": error.text}} if error is not None else {"result": result}
        return msgspec.json.encode(reply | {"header": header, "data": data}).decode()


class _Answer:
    """The replies to one trading call, in the venue's order: the acknowledgement never after the result."""

    def __init__(self, session: GateSession, channel: str, payload: ApiPayload, in_us: int, *, acks: bool) -> None:
        self._session = session
        self._channel = channel
        self._payload = payload
        self._in_us = in_us
        self._acks = acks
        self._ack_due = False
        self.budget: BudgetState | None = None

    def plan_ack(self) -> None:
        """Plans the gateway's acknowledgement, which does not wait for the matching engine."""
        venue = self._session._venue
        self._ack_due = True
        venue.clock.call_later(int((venue.latency.order_us + venue.latency.ack_us) * 1000), self._send_ack)

    def _send_ack(self) -> None:
        if not self._ack_due:
            return
        self._ack_due = False
        payload = self._payload
        echo: dict[str, Any] = {"req_id": payload.req_id, "req_header": payload.req_header or None}
        echo |= {"api_key": payload.api_key, "timestamp": payload.timestamp, "signature": payload.signature}
        echo["req_param"] = payload.req_param
        self._send(result=echo, ack=True)

    def result(self, result: Any) -> None:
        self._send_ack()
        self._send(result=result, ack=self._last_ack())

    def refuse(self, error: GateError) -> None:
        self._send_ack()
        self._send(error=error, ack=self._last_ack())

    def _last_ack(self) -> bool | None:
        return False if self._acks and self._session._market.prefix == "futures" else None

    def _send(self, *, result: Any = None, error: GateError | None = None, ack: bool | None = None) -> None:
        session = self._session
        text = session._reply(
            self._channel,
            self._payload.req_id,
            self._in_us,
            result=result,
            error=error,
            ack=ack,
            budget=self.budget,
        )
        session._sock.send(text)
