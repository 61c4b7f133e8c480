"""Gate.io's wire format between the core and a simulated venue: the trading call's frame, rows and pushes as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from pipeline.chaos.wire import done
from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.gateio import account as account_codec
from pipeline.exchanges.gateio import orders as order_codec
from pipeline.exchanges.gateio import websocket_api
from pipeline.exchanges.gateio.errors import error_of
from pipeline.model.enums import InstrumentKind
from pipeline.model.errors import ProtocolViolation, VenueError
from pipeline.model.structs import Balance, Fill, OrderRequest, OrderUpdate, Position
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.events import AccountEvent
from pipeline.sim.exchange.orders import SimOrder, SimOrderRequest, SimReject, SimTrade
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.gateio import futures_rows, private_pushes, spot_rows
from pipeline.sim.wire.gateio.auth import gate_exptime_ms
from pipeline.sim.wire.gateio.formats import ApiRequest, refusal
from pipeline.sim.wire.gateio.futures import FuturesApi
from pipeline.sim.wire.gateio.spot import SpotApi
from pipeline.sim.wire.gateio.websocket import ApiPayload, Request
from pipeline.virtual.venue_rows import VenueRows, WalletChanged

PREFIX = order_codec.TEXT_PREFIX


class GateRows(VenueRows):
    """Both markets: placements by the trading connection, lists by REST, pushes of the private channels."""

    def __init__(self, venue: SimVenue, account: SimAccount) -> None:
        super().__init__(venue, account)
        self._futures = venue.kind is InstrumentKind.PERPETUAL
        self._market = "futures" if self._futures else "spot"
        self._api: FuturesApi | SpotApi = FuturesApi(venue) if self._futures else SpotApi(venue, None)
        self._routes = self._api.routes()
        self._multipliers = {symbol: row.multiplier for symbol, row in venue.instruments.items()}
        self._channels = account_codec.FUTURES_CHANNELS if self._futures else account_codec.SPOT_CHANNELS
        venue.client_id_prefix = PREFIX

    def _call(self, params: dict[str, Any], expiry_ms: int = 0) -> ApiRequest:
        return ApiRequest(
            params=params,
            account=self.account,
            now_ms=self.venue.now_ms(),
            expiry_ms=expiry_ms,
            decimal_sizes=True,
        )

    def request(self, request: OrderRequest, signed_ms: int) -> SimOrderRequest:
        body = order_codec.place_body(self._market, request)
        channel, name = f"{self._market}.order_place", f"p-{request.client_id}"
        frame = websocket_api.call_frame(channel, name, body, signed_ms // 1000, request.expiry_wall_ms)
        payload = msgspec.json.decode(msgspec.json.decode(frame, type=Request).payload, type=ApiPayload)
        expiry_ms = gate_exptime_ms(payload.req_header)
        return self._api.order_request(self._call(msgspec.json.decode(payload.req_param), expiry_ms))

    def client_id(self, client_id: str) -> str:
        return PREFIX + client_id

    def acked(self, request: OrderRequest, order: SimOrder) -> OrderUpdate:
        return self._update(order)

    def cancelled(self, order: SimOrder) -> OrderUpdate:
        return self._update(order)

    def _update(self, order: SimOrder) -> OrderUpdate:
        name, now_ns = self.venue.name, self.venue.clock.mono_ns()
        reply = {"request_id": "p", "header": {"status": "200"}, "data": {"result": self._row(order)}}
        result = bytes(websocket_api.parse_reply(name, msgspec.json.encode(reply)).data.result)
        if self._futures:
            futures = order_codec.futures_order.decode(result)
            return order_codec.futures_update(name, futures, self._multipliers, now_ns, "ws_api")
        return order_codec.spot_update(name, order_codec.spot_order.decode(result), now_ns, "ws_api")

    def _row(self, order: SimOrder) -> dict[str, Any]:
        return self._api.order_row(order, self._call({}))

    def refused(self, request: OrderRequest, refusal_: SimReject) -> VenueError:
        error = refusal(refusal_, self.venue.instruments.get(request.symbol), futures=self._futures)
        body, now_ns = {"label": error.label, "message": error.text}, self.venue.clock.mono_ns()
        reply = HttpReply(status=error.status, headers={}, body=msgspec.json.encode(body), recv_mono_ns=now_ns)
        found = error_of(self.venue.name, reply)
        if found is None:
            raise ProtocolViolation(f"{self.venue.name}: {error} is read as a success", venue=self.venue.name)
        return found

    def orders(self, orders: Iterable[SimOrder]) -> list[OrderUpdate]:
        name, now_ns = self.venue.name, self.venue.clock.mono_ns()
        payload = msgspec.json.encode([self._row(order) for order in orders])
        if self._futures:
            futures, _ = order_codec.futures_updates(name, payload, self._multipliers, now_ns, "rest")
            return [update for _, update in futures]
        return [update for _, update in order_codec.spot_updates(name, payload, now_ns, "rest")[0]]

    def fills(self, trades: Iterable[SimTrade]) -> list[Fill]:
        name, now_ns = self.venue.name, self.venue.clock.mono_ns()
        if self._futures:
            rows = [futures_rows.trade_row(one, self.venue.instruments[one.symbol], True) for one in trades]
            payload = msgspec.json.encode(rows)
            return order_codec.futures_fills(name, payload, self._multipliers, now_ns, "rest")[0]
        payload = msgspec.json.encode([spot_rows.trade_row(one) for one in trades])
        return order_codec.spot_fills(name, payload, now_ns, "rest")[0]

    def balances(self) -> list[Balance]:
        name, now_ns = self.venue.name, self.venue.clock.mono_ns()
        if self._futures:
            payload = self._get("/api/v4/futures/usdt/accounts")
            return [account_codec.parse_futures_balance(name, payload, now_ns)]
        payload = self._get("/api/v4/spot/accounts")
        return account_codec.parse_spot_balances(name, payload, now_ns, symbols=self.venue.instruments)

    def positions(self) -> list[Position]:
        if not self._futures:
            return []
        name, now_ns = self.venue.name, self.venue.clock.mono_ns()
        rows = account_codec.position_rows(name, self._get("/api/v4/futures/usdt/positions"), self.venue.instruments)
        return account_codec.positions_of(name, rows, self._multipliers, now_ns)

    def _get(self, path: str) -> bytes:
        return msgspec.json.encode(done(self._routes["GET", path].handler(self._call({}))))

    def pushed(self, event: AccountEvent) -> Iterator[object]:
        if self._futures:
            items = private_pushes.futures_items(event, self.account, self.venue, decimal_sizes=True)
        else:
            items = private_pushes.spot_items(event, self.account)
        for channel, _, item in items:
            if channel in self._channels:
                yield from self._pushed(channel, item)

    def _pushed(self, channel: str, item: dict[str, Any]) -> Iterator[object]:
        now_ms, now_ns = self.venue.now_ms(), self.venue.clock.mono_ns()
        head = {"time": now_ms // 1000, "time_ms": now_ms, "channel": channel, "event": "update"}
        frame = account_codec.envelope.decode(msgspec.json.encode({**head, "result": [item]}))
        symbols = self.venue.instruments
        for event in account_codec.parse_push(self.venue.name, frame, self._multipliers, now_ns, symbols=symbols):
            yield WalletChanged() if isinstance(event, account_codec.FuturesBalanceChanged) else event
