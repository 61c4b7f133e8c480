"""Bybit's private sockets over simulated venues: the account's topics, and order entry.

Source: Bybit V5 documentation "Connect", "WebSocket Private" (order, execution, position, wallet), "WebSocket Trade".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from pipeline.sim.exchange.accounts import BookEntry, SimAccount
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.events import AccountEvent, BalanceEvent, OrderEvent, PositionEvent, TradeEvent
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.bybit import rows
from pipeline.sim.wire.bybit.auth import check_window, verify_login
from pipeline.sim.wire.bybit.market import BybitError
from pipeline.sim.wire.bybit.order_api import WS_OPERATIONS
from pipeline.sim.wire.bybit.private_side import PrivateSide, budget_headers, injected
from pipeline.sim.wire.bybit.request import Route
from pipeline.sim.wire.dialect import SimSocket
from pipeline.sim.wire.rate_limits import BudgetState

_encode = msgspec.json.Encoder().encode
CONNECTION_ID = "sim"
TOPICS = ("order", "execution", "position", "wallet")
REQUEST_ID_MAX = 36


class _Frame(msgspec.Struct):
    op: str = ""
    args: list[Any] = []
    req_id: str = ""
    reqId: str = ""
    header: dict[str, Any] = {}  # times as text; a client sends them as numbers


def _read(data: str | bytes) -> _Frame:
    try:
        return msgspec.json.decode(data, type=_Frame)
    except msgspec.DecodeError:
        raise BybitError(10001, "Params Error") from None


class _Session:
    """What both sockets share: the login."""

    def __init__(self, side: PrivateSide, sock: SimSocket) -> None:
        self.side = side
        self.sock = sock
        self.key = ""
        self.account: SimAccount | None = None
        self.category = next(iter(side.venues))

    @property
    def venue(self) -> SimVenue:
        return self.side.venues[self.category]

    def login(self, args: list[Any]) -> None:
        """Raises ``BybitError``."""
        if len(args) != 3:
            raise BybitError(10001, "Params Error")
        key = str(args[0])
        category, account = self.side.owner(key)
        self.account = verify_login(account, key, args[1], args[2], self.side.venues[category].now_ms())
        self.key, self.category = key, category
        self.sock.venue = self.venue.name

    def send(self, frame: dict[str, Any]) -> None:
        self.sock.send(_encode(frame).decode())

    def end(self) -> None:
        """The socket is gone."""


class PrivateStream(_Session):
    """One socket of ``/v5/private``."""

    def __init__(self, side: PrivateSide, sock: SimSocket) -> None:
        super().__init__(side, sock)
        self._topics: set[str] = set()
        self._remove: Callable[[], None] | None = None
        self._number = 0

    def end(self) -> None:
        if self._remove is not None:
            self._remove()

    def on_message(self, data: str | bytes) -> None:
        """One request of the client."""
        frame = _Frame()
        try:
            frame = _read(data)
            if frame.op == "ping":
                pong = {"op": "pong", "args": [str(self.venue.now_ms())], "conn_id": CONNECTION_ID}
                self.send({**pong, "req_id": frame.req_id})
                return
            if frame.op == "auth":
                self.login(frame.args)
                assert self.account is not None
                self._remove = self._remove or self.venue.on_account(self.account, self._on_event)
            elif frame.op in ("subscribe", "unsubscribe"):
                self._subscribe(frame)
            else:
                raise BybitError(10001, f"Params Error: op {frame.op}")
        except BybitError as error:
            self._answer(frame, error.text)
            return
        self._answer(frame, "")

    def _answer(self, frame: _Frame, refusal: str) -> None:
        answer = {"success": not refusal, "ret_msg": refusal, "op": frame.op, "conn_id": CONNECTION_ID}
        self.send({**answer, "req_id": frame.req_id} if frame.req_id else answer)

    def _subscribe(self, frame: _Frame) -> None:
        if self.account is None:
            raise BybitError(10005, "Request not authorized")
        for topic in frame.args:
            head, _, tail = str(topic).partition(".")
            if head not in TOPICS or tail not in ("", "spot", "linear") or (head == "wallet" and tail):
                raise BybitError(10001, f"error:handler not found,topic:{topic}")
        heads = [str(topic) for topic in frame.args]
        if any(topic in heads and any(other.startswith(f"{topic}.") for other in heads) for topic in TOPICS):
            raise BybitError(10001, "Params Error: a topic with and without a category")
        change = self._topics.update if frame.op == "subscribe" else self._topics.difference_update
        change(heads)

    # --- pushes ---

    def _push(self, head: str, data: list[dict[str, Any]], at_ms: int) -> None:
        for topic in (head, f"{head}.{self.category}"):
            if topic in self._topics and data:
                self._number += 1
                self.send({"id": f"m{self._number}", "topic": topic, "creationTime": at_ms, "data": data})

    def _on_event(self, event: AccountEvent) -> None:
        account = self.account
        assert account is not None, "listens after its login alone"
        venue, category = self.venue, self.category
        if isinstance(event, OrderEvent):
            self._push("order", [rows.order_row(event.order, category, account)], event.ts_ms)
        elif isinstance(event, TradeEvent):
            row = venue.instruments[event.trade.symbol]
            self._push("execution", [rows.execution_row(event.trade, event.order, row, category)], event.ts_ms)
        elif isinstance(event, PositionEvent):
            self._push("position", [rows.position_row(event.position, venue, account, pushed=True)], event.ts_ms)
        elif isinstance(event, BalanceEvent):
            self._on_balance(event, account)

    def _on_balance(self, event: BalanceEvent, account: SimAccount) -> None:
        venue, linear = self.venue, self.category == "linear"
        if linear and event.reason == "fund":
            entry = _entry_of(event, account)
            row = rows.funding_row(entry, venue.position(account, event.symbol), venue.instruments[event.symbol])
            self._push("execution", [row], event.ts_ms)
        settles = linear and event.asset == venue.settle_asset
        margin = venue.margin_account(account) if settles else None
        total = margin.total if margin else event.free + event.locked
        coin = rows.coin_row(event.asset, total, event.locked if not linear else ZERO, margin)
        self._push("wallet", [{"accountType": "UNIFIED", "accountIMRate": "", "coin": [coin]}], event.ts_ms)


def _entry_of(event: BalanceEvent, account: SimAccount) -> BookEntry:
    """The row of the account's book that an event of funding comes from."""
    return next(
        entry
        for entry in reversed(account.book)
        if (entry.reason, entry.symbol, entry.change) == ("fund", event.symbol, event.change)
    )


class TradeSession(_Session):
    """One socket of ``/v5/trade``."""

    def __init__(self, side: PrivateSide, sock: SimSocket) -> None:
        super().__init__(side, sock)
        self._calls: set[asyncio.Task[None]] = set()

    def on_message(self, data: str | bytes) -> None:
        """One request of the client."""
        frame = _Frame()
        try:
            frame = _read(data)
            if frame.op == "ping":
                self._answer(frame, {}, operation="pong")
            elif frame.op == "auth":
                self.login(frame.args)
                self._answer(frame, {})
            else:
                self._spawn(self._serve(frame))
        except BybitError as error:
            self._answer(frame, {}, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def _answer(
        self,
        frame: _Frame,
        data: dict[str, Any],
        error: BybitError | None = None,
        *,
        operation: str = "",
        header: dict[str, str] | None = None,
    ) -> None:
        answer: dict[str, Any] = {"retCode": error.code if error else 0, "retMsg": error.text if error else "OK"}
        answer |= {"op": operation or frame.op, "data": data, "retExtInfo": {}, "header": header or {}}
        self.send({"reqId": frame.reqId, **answer, "connId": CONNECTION_ID})

    async def _serve(self, frame: _Frame) -> None:
        state: BudgetState | None = None
        try:
            route, params = self._checked(frame)
            symbol, client_id = str(params.get("symbol", "*")), str(params.get("orderLinkId", ""))
            faults = await self.sock.dialect.host.admit(
                self.venue.name, route.operation, symbol=symbol, client_id=client_id, detail={"op": frame.op}
            )
            if faults.drop_request:
                self.sock.kill()
                return
            if faults.status:
                reset_ms = self.venue.now_ms() + int(faults.retry_after_s * 1000)
                header = {"X-Bapi-Limit-Reset-Timestamp": str(reset_ms)}
                self._answer(frame, {}, injected(faults.status), header=header)
                return
            error: BybitError | None = None
            found: dict[str, Any] = {}
            try:
                state = self._spend(frame, route)
                assert self.account is not None
                found = await route.handler(self.side.request(self.key, route, params, self.account))
            except BybitError as refused:
                error = refused
            await self.sock.dialect.host.release(self.venue.name, route.operation, faults)
            if faults.drop_response:
                self.sock.kill()
                return
            if faults.status_after:
                error = injected(faults.status_after)
            self._answer(frame, {} if error else found, error, header=budget_headers(state))
        except BybitError as refused:
            self._answer(frame, {}, refused, header=budget_headers(state))

    def _spend(self, frame: _Frame, route: Route) -> BudgetState:
        """The clock window, then the account's budget: REST and this socket share it."""
        now_ms = self.venue.now_ms()
        stamp, window = (str(frame.header.get(f"X-BAPI-{name}", "")) for name in ("TIMESTAMP", "RECV-WINDOW"))
        check_window(stamp, window, now_ms)
        assert self.account is not None
        return self.side.spend(WS_OPERATIONS[frame.op][1], route, self.category, self.account.uid, now_ms)

    def _checked(self, frame: _Frame) -> tuple[Route, dict[str, Any]]:
        if self.account is None:
            raise BybitError(10005, "Permission denied, the connection is not logged in")
        path = WS_OPERATIONS.get(frame.op)
        if path is None or len(frame.args) != 1 or not isinstance(frame.args[0], dict):
            raise BybitError(10001, "Params Error")
        if len(frame.reqId) > REQUEST_ID_MAX:
            raise BybitError(10001, "Params Error: reqId")
        return self.side.routes[path], frame.args[0]
