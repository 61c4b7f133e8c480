"""What the REST clients of Binance spot and USDⓈ-M share: signing, budgets, orders, fills; a table says the rest.

Rows of own trades name no client id: it is learned from the orders that were read, and asked for where it is not known.

*Source:* Binance spot REST API and USDⓈ-M futures API: market data, trading, limits; wallet API.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from pipeline.exchanges.base import HttpCall, HttpReply
from pipeline.exchanges.binance import account, orders, symbols
from pipeline.exchanges.binance.errors import KIND_OF_CODE, error_of
from pipeline.exchanges.binance.listing import LISTINGS
from pipeline.exchanges.binance.recent_trades import RECENT
from pipeline.exchanges.binance.signing import BinanceSigner, encode_query
from pipeline.exchanges.parsing.rows import OwnRows
from pipeline.exchanges.parsing.venue_json import decode
from pipeline.exchanges.rest_client import LOOK_BACK_SLACK_MS, TIME_ANSWER_S, RestVenueClient
from pipeline.exchanges.transport.throttle import SPARE, Limit
from pipeline.model.errors import AuthRefused, OrderNotFound, VenueError
from pipeline.model.structs import (
    Balance,
    Credentials,
    FeeSchedule,
    Fill,
    OrderUpdate,
)

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

DEPTH_LEVELS = 1000
TRADES_MAX = 1000
PAGES_MAX = 20
SPAN_MAX_MS = {"spot": 24 * 3600 * 1000, "futures": 7 * 24 * 3600 * 1000}
WEIGHT_MAX = {"spot": 6000, "futures": 2400}  # a minute and address


def _limits(weight: int, orders: int, cancels: int) -> dict[str, Limit]:
    """One weight for everything that an address asks; neither books nor accounts may use it up alone."""
    return {
        "weight": Limit(weight, 60, part=1.0),
        "public": Limit(weight, 60, part=0.5, pool="weight", spare=SPARE),
        "private": Limit(weight, 60, part=0.85, pool="weight", spare=SPARE),
        "query": Limit(weight, 60, part=0.85, pool="weight"),
        "order": Limit(orders, 10, part=1.0, account=True),
        "cancel": Limit(cancels, 10, part=1.0, account=True, pool="weight"),
    }


#: Orders: 50 in 10 s where documents show 50 and 100; a reply's own count corrects it downwards.
LIMITS = {
    "spot": _limits(WEIGHT_MAX["spot"], orders=50, cancels=100),
    "futures": _limits(WEIGHT_MAX["futures"], orders=300, cancels=300),
}
USED_WEIGHT = "x-mbx-used-weight-1m"
KNOWN_ORDERS_MAX = 20_000  # client ids by order id that are remembered


class Call(msgspec.Struct, frozen=True):
    """A path and what it weighs."""

    path: str
    weight: int


class Calls(msgspec.Struct, frozen=True):
    """The calls that both markets have."""

    time: Call
    info: Call
    depth: Call
    order: Call
    open_orders: Call
    all_orders: Call
    cancel_all: Call
    trades: Call
    balances: Call
    commission: Call


CALLS = {
    "spot": Calls(
        time=Call("/api/v3/time", 1),
        info=Call("/api/v3/exchangeInfo", 20),
        depth=Call("/api/v3/depth", 50),
        order=Call("/api/v3/order", 4),
        open_orders=Call("/api/v3/openOrders", 6),
        all_orders=Call("/api/v3/allOrders", 20),
        cancel_all=Call("/api/v3/openOrders", 1),
        trades=Call("/api/v3/myTrades", 20),
        balances=Call("/api/v3/account", 20),
        commission=Call("/api/v3/account/commission", 20),
    ),
    "futures": Calls(
        time=Call("/fapi/v1/time", 1),
        info=Call("/fapi/v1/exchangeInfo", 1),
        depth=Call("/fapi/v1/depth", 20),
        order=Call("/fapi/v1/order", 1),
        open_orders=Call("/fapi/v1/openOrders", 1),
        all_orders=Call("/fapi/v1/allOrders", 5),
        cancel_all=Call("/fapi/v1/allOpenOrders", 1),
        trades=Call("/fapi/v1/userTrades", 5),
        balances=Call("/fapi/v3/balance", 5),
        commission=Call("/fapi/v1/commissionRate", 20),
    ),
}


class _Time(msgspec.Struct):
    serverTime: int


_time = msgspec.json.Decoder(_Time)


class BinanceClient(RestVenueClient):
    """What the :class:`VenueClient` of both markets share."""

    listings = LISTINGS
    recent = RECENT
    clock_refusals = frozenset(str(code) for code, kind in KIND_OF_CODE.items() if kind == "clock")

    def __init__(self, venue: VenueConfig, credentials: Credentials | None) -> None:
        super().__init__(venue, credentials, rest=venue.rest, limits=LIMITS[venue.market])
        self._market = venue.market
        self.calls = CALLS[venue.market]
        self._signer = BinanceSigner(credentials.api_key, credentials.api_secret) if credentials else None
        self._client_ids: dict[str, str] = {}  # by order id, oldest first

    def _sign(self, method: str, path: str, query: str, body: bytes) -> HttpCall:
        assert self._signer is not None, "a signed call needs credentials"
        signed = self._signer.signed_query(query, timestamp_ms=self.clock.now_ms())
        return HttpCall(method=method, target=f"{path}?{signed}", headers={"X-MBX-APIKEY": self._signer.api_key})

    async def _keyed(self, method: str, path: str, weight: float = 1.0) -> bytes:
        """A call that names its key and is not signed: it takes neither a time nor a signature."""
        if self._signer is None:
            raise AuthRefused(f"{self.venue}: {path} needs credentials", venue=self.venue)
        headers, target = {"X-MBX-APIKEY": self._signer.api_key}, self.transport.prefix + path
        reply = await self.transport.send(
            lambda: HttpCall(method=method, target=target, headers=headers), bucket="private", weight=weight
        )
        self.note_left(reply, "private")
        error = self.error_of(reply)
        self.gateway.note(error, "private")
        if error is not None:
            raise error
        return reply.body

    def error_of(self, reply: HttpReply) -> VenueError | None:
        return error_of(self.venue, reply)

    def note_left(self, reply: HttpReply, bucket: str) -> None:
        """The venue counts the weight of all processes of this address together."""
        used = reply.headers.get(USED_WEIGHT, "")
        if used.isascii() and used.isdigit():
            self.transport.throttle.remaining("weight", WEIGHT_MAX[self._market] - int(used))

    def weight_of(self, path: str) -> float:
        calls: list[Call] = [getattr(self.calls, name) for name in self.calls.__struct_fields__]
        return max(super().weight_of(path), *(call.weight for call in calls if call.path == path), 0.0)

    def _learn(self, updates: Iterable[OrderUpdate]) -> None:
        for update in updates:
            self._client_ids[update.order_id] = update.client_id
        while len(self._client_ids) > KNOWN_ORDERS_MAX:
            del self._client_ids[next(iter(self._client_ids))]

    async def _fetch_server_time_ms(self) -> int:
        reply = await self._public(self.calls.time.path, answer_s=TIME_ANSWER_S)
        return decode(_time, reply.body, self.venue, "time").serverTime

    async def depth_snapshot(self, symbol: str) -> bytes:
        call = self.calls.depth
        return (await self._public(call.path, f"symbol={symbol}&limit={DEPTH_LEVELS}", weight=call.weight)).body

    async def balances(self) -> list[Balance]:
        reply = await self._signed("GET", self.calls.balances.path, weight=self.calls.balances.weight)
        return account.parse_balances(
            self.venue, self._market, reply.body, reply.recv_mono_ns, symbols=self.symbols, odd=self.odd_rows
        )

    async def fees(self, symbols_: Sequence[str]) -> list[FeeSchedule]:
        call = self.calls.commission

        async def one(symbol: str) -> FeeSchedule:
            reply = await self._signed("GET", call.path, f"symbol={symbol}", weight=call.weight)
            return symbols.parse_fee(self.venue, self._market, symbol, reply.body)

        return [found for found in await self.gather(symbols_, one) if isinstance(found, FeeSchedule)]

    async def query_order(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate | None:
        query = encode_query(orders.order_name(symbol, client_id, order_id))
        try:
            reply = await self._signed(
                "GET", self.calls.order.path, query, bucket="query", weight=self.calls.order.weight
            )
        except OrderNotFound:
            return None
        update = orders.parse_order(self.venue, reply.body, reply.recv_mono_ns)
        self._learn([update])
        return update

    async def open_orders(self, symbol: str) -> list[OrderUpdate]:
        call = self.calls.open_orders
        reply = await self._signed("GET", call.path, f"symbol={symbol}", weight=call.weight)
        own = self.own_rows(symbol)
        return self.whole(orders.parse_orders(self.venue, reply.body, reply.recv_mono_ns, own), own)

    async def _all_orders(self, query: str) -> HttpReply:
        return await self._signed("GET", self.calls.all_orders.path, query, weight=self.calls.all_orders.weight)

    async def finished_orders(self, symbol: str, since_wall_ms: int) -> list[OrderUpdate]:
        """Windows of at most ``SPAN_MAX_MS``, oldest first."""
        found: dict[str, OrderUpdate] = {}
        own = self.own_rows(symbol)
        for start, end in self._windows(since_wall_ms):
            query = f"symbol={symbol}&startTime={start}&endTime={end}&limit={TRADES_MAX}"
            reply = await self._all_orders(query)
            rows = orders.parse_orders(self.venue, reply.body, reply.recv_mono_ns, own)
            self._learn(rows)
            found.update((row.order_id, row) for row in rows if row.state.is_terminal)
        return self.whole(list(found.values()), own)

    def _windows(self, since_wall_ms: int) -> list[tuple[int, int]]:
        start = self.since_ms(since_wall_ms)
        now = self.clock.now_ms() + LOOK_BACK_SLACK_MS
        span = SPAN_MAX_MS[self._market]
        edges = range(start, now, span)
        return [(edge, min(edge + span - 1, now)) for edge in edges][-PAGES_MAX:]

    async def fills(self, symbol: str, since_wall_ms: int) -> list[Fill]:
        found: dict[str, Fill] = {}
        call = self.calls.trades
        own = self.own_rows(symbol)
        for window_start, end in self._windows(since_wall_ms):
            start = window_start
            for _ in range(PAGES_MAX):
                query = f"symbol={symbol}&startTime={start}&endTime={end}&limit={TRADES_MAX}"
                reply = await self._signed("GET", call.path, query, weight=call.weight)
                rows, count = orders.parse_fills(self.venue, reply.body, reply.recv_mono_ns, own)
                found.update((row.trade_id, row) for row in rows)
                if count < TRADES_MAX or not rows:
                    break
                start = max(row.venue_wall_ms for row in rows)
        named = await self._named(symbol, list(found.values()), own)
        return self.whole(sorted(named, key=lambda fill: (fill.venue_wall_ms, int(fill.trade_id))), own)

    async def _named(self, symbol: str, rows: list[Fill], own: OwnRows) -> list[Fill]:
        """``rows`` with the client ids of their orders; those that the venue does not list any more stay without."""
        unknown = [int(row.order_id) for row in rows if row.order_id not in self._client_ids]
        if unknown:
            query = f"symbol={symbol}&orderId={min(unknown)}&limit={TRADES_MAX}"
            reply = await self._all_orders(query)
            self._learn(orders.parse_orders(self.venue, reply.body, reply.recv_mono_ns, own))
        return [
            msgspec.structs.replace(row, client_id=self._client_ids.get(row.order_id, row.client_id)) for row in rows
        ]

    async def cancel(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate:
        query = encode_query(orders.order_name(symbol, client_id, order_id))
        reply = await self._signed("DELETE", self.calls.order.path, query, bucket="cancel")
        return orders.parse_order(self.venue, reply.body, reply.recv_mono_ns)
