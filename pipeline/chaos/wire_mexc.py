"""MEXC's wire format between the core and a simulated venue: requests signed and read, rows and pushes as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from pipeline.chaos.wire import done
from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.mexc import account as account_codec
from pipeline.exchanges.mexc import orders as order_codec
from pipeline.exchanges.mexc.errors import error_of
from pipeline.exchanges.mexc.signing import MexcSigner
from pipeline.model.errors import ProtocolViolation, VenueError
from pipeline.model.structs import Balance, Fill, OrderRequest, OrderUpdate
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.events import AccountEvent
from pipeline.sim.exchange.orders import SimOrder, SimOrderRequest, SimReject, SimTrade
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.mexc import formats
from pipeline.sim.wire.mexc.auth import MexcLimits, mexc_deadline_ms, mexc_params, verify_mexc
from pipeline.sim.wire.mexc.exchange import MexcDialect
from pipeline.sim.wire.mexc.listen_keys import ListenKeys
from pipeline.sim.wire.mexc.private_pushes import encode
from pipeline.sim.wire.mexc.request import ApiRequest
from pipeline.sim.wire.mexc.signed_rest import MexcSigned
from pipeline.virtual.venue_rows import VenueRows


class MexcRows(VenueRows):
    """Placements by the signed query, answers and lists as JSON, the private stream as protobuf."""

    def __init__(self, venue: SimVenue, account: SimAccount) -> None:
        super().__init__(venue, account)
        limits = MexcLimits()
        self._api = MexcSigned(venue, ListenKeys(limits.listen_keys_max, limits.sockets_per_key_max), limits)
        self._routes = self._api.routes()
        self._key = next(iter(account.keys))
        self._signer = MexcSigner(self._key, account.secret_of(self._key))
        venue.order_id_text, venue.trade_id_text = formats.order_id_text, formats.trade_id_text
        venue.signed_ahead_ms_max = MexcDialect.signed_ahead_ms_max

    def request(self, request: OrderRequest, signed_ms: int) -> SimOrderRequest:
        window_ms = request.expiry_wall_ms - signed_ms
        query = self._signer.signed_query(
            order_codec.place_query(request), timestamp_ms=signed_ms, recv_window_ms=window_ms
        )
        params = mexc_params(query, "")
        verify_mexc(self.venue.accounts, self._key, query, "", params, signed_ms)
        return self._api.order_request(params, self._call(params, mexc_deadline_ms(params)))

    def _call(self, params: dict[str, str], deadline_ms: int = 0) -> ApiRequest:
        return ApiRequest(params, self.account, self.venue.now_ms(), deadline_ms)

    def _reply(self, body: Any, status: int = 200) -> HttpReply:
        now_ns = self.venue.clock.mono_ns()
        return HttpReply(status=status, headers={}, body=msgspec.json.encode(body), recv_mono_ns=now_ns)

    def order_number(self, order_id: str) -> int:
        query = dict(parse_qsl(order_codec.order_query("", "", order_id)))
        return formats.parse_order_id(query["orderId"])

    def order_text(self, order_id: int) -> str:
        return formats.order_id_text(order_id)

    def acked(self, request: OrderRequest, order: SimOrder) -> OrderUpdate:
        return order_codec.parse_ack(self.venue.name, request.client_id, self._reply(formats.placed_row(order)))

    def cancelled(self, order: SimOrder) -> OrderUpdate:
        reply = self._reply(formats.cancel_row(order, order.client_id))
        return order_codec.parse_cancel(self.venue.name, reply.body, reply.recv_mono_ns)

    def refused(self, request: OrderRequest, refusal: SimReject) -> VenueError:
        error = formats.refusal(refusal, self.venue.instruments.get(request.symbol), request.side)
        found = error_of(self.venue.name, self._reply({"code": error.code, "msg": error.text}, error.status))
        if found is None:
            raise ProtocolViolation(f"{self.venue.name}: {error} is read as a success", venue=self.venue.name)
        return found

    def orders(self, orders: Iterable[SimOrder]) -> list[OrderUpdate]:
        reply = self._reply([formats.order_row(order) for order in orders])
        return order_codec.parse_orders(self.venue.name, reply.body, reply.recv_mono_ns)

    def fills(self, trades: Iterable[SimTrade]) -> list[Fill]:
        reply = self._reply([formats.trade_row(trade) for trade in trades])
        return order_codec.parse_fills(self.venue.name, reply.body, reply.recv_mono_ns)[0]

    def balances(self) -> list[Balance]:
        reply = self._reply(done(self._routes["GET", "/api/v3/account"].handler(self._call({}))))
        symbols = self.venue.instruments
        return account_codec.parse_balances(self.venue.name, reply.body, reply.recv_mono_ns, symbols=symbols)

    def pushed(self, event: AccountEvent) -> Iterator[object]:
        frame = encode(event)
        if frame is not None:
            yield from account_codec.parse_private(self.venue.name, frame[1], self.venue.clock.mono_ns())
