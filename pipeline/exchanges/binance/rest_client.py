"""Binance REST client of spot and USDⓈ-M; the markets differ in a table of paths.

Rows of own trades name no client id: it is learned from the orders that were read, and asked for where it is not known.

*Source:* Binance spot REST API and USDⓈ-M futures API: market data, trading, limits; wallet API.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from pipeline.exchanges.base import HttpCall, HttpReply
from pipeline.exchanges.binance import account, histories, orders, symbols
from pipeline.exchanges.binance.errors import KIND_OF_CODE, error_of
from pipeline.exchanges.binance.signing import BinanceSigner, encode_query
from pipeline.exchanges.parsing.rows import OwnRows
from pipeline.exchanges.parsing.venue_json import decode
from pipeline.exchanges.rest_client import LOOK_BACK_SLACK_MS, RestVenueClient
from pipeline.exchanges.transport.throttle import Limit
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.errors import OrderNotFound, RateLimited, RowsUnreadable, VenueError
from pipeline.model.structs import (
    Balance,
    CoinIdentity,
    Credentials,
    FeeSchedule,
    Fill,
    InstrumentSpec,
    MoneyMove,
    OrderUpdate,
    Position,
)

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

DEPTH_LEVELS = 1000
TRADES_MAX = 1000
PAGES_MAX = 20
SPAN_MAX_MS = {"spot": 24 * 3600 * 1000, "futures": 7 * 24 * 3600 * 1000}
WEIGHT_MAX = {"spot": 6000, "futures": 2400}  # a minute and address
#: Orders: 50 in 10 s where documents show 50 and 100; a reply's own count corrects it downwards.
LIMITS = {
    "spot": {
        "public": Limit(WEIGHT_MAX["spot"], 60),
        "private": Limit(WEIGHT_MAX["spot"], 60),
        "order": Limit(50, 10, shared=False, rolling=True),
        "cancel": Limit(100, 10, shared=False),
    },
    "futures": {"public": Limit(WEIGHT_MAX["futures"], 60), "private": Limit(WEIGHT_MAX["futures"], 60)},
}
USED_WEIGHT = "x-mbx-used-weight-1m"
KNOWN_ORDERS_MAX = 20_000  # client ids by order id that are remembered


class _Paths(msgspec.Struct, frozen=True):
    time: str
    info: str
    depth: str
    order: str
    open_orders: str
    all_orders: str
    cancel_all: str
    trades: str
    balances: str
    commission: str


_PATHS = {
    "spot": _Paths(
        time="/api/v3/time",
        info="/api/v3/exchangeInfo",
        depth="/api/v3/depth",
        order="/api/v3/order",
        open_orders="/api/v3/openOrders",
        all_orders="/api/v3/allOrders",
        cancel_all="/api/v3/openOrders",
        trades="/api/v3/myTrades",
        balances="/api/v3/account",
        commission="/api/v3/account/commission",
    ),
    "futures": _Paths(
        time="/fapi/v1/time",
        info="/fapi/v1/exchangeInfo",
        depth="/fapi/v1/depth",
        order="/fapi/v1/order",
        open_orders="/fapi/v1/openOrders",
        all_orders="/fapi/v1/allOrders",
        cancel_all="/fapi/v1/allOpenOrders",
        trades="/fapi/v1/userTrades",
        balances="/fapi/v3/balance",
        commission="/fapi/v1/commissionRate",
    ),
}


class _Time(msgspec.Struct):
    serverTime: int


_time = msgspec.json.Decoder(_Time)


class BinanceClient(RestVenueClient):
    """:class:`VenueClient` of one Binance market."""

    clock_refusals = frozenset(str(code) for code, kind in KIND_OF_CODE.items() if kind == "clock")

    def __init__(self, venue: VenueConfig, credentials: Credentials | None) -> None:
        super().__init__(venue, credentials, rest=venue.rest, limits=LIMITS[venue.market])
        self._market = venue.market
        self._paths = _PATHS[venue.market]
        self._signer = BinanceSigner(credentials.api_key, credentials.api_secret) if credentials else None
        self._known_ends: dict[str, int] = {}  # announced, by symbol
        self._client_ids: dict[str, str] = {}  # by order id, oldest first

    def _sign(self, method: str, path: str, query: str, body: bytes) -> HttpCall:
        assert self._signer is not None, "a signed call needs credentials"
        signed = self._signer.signed_query(query, timestamp_ms=self.clock.now_ms())
        return HttpCall(method=method, target=f"{path}?{signed}", headers={"X-MBX-APIKEY": self._signer.api_key})

    def error_of(self, reply: HttpReply) -> VenueError | None:
        return error_of(self.venue, reply)

    async def _public(
        self,
        path: str,
        query: str = "",
        *,
        bucket: str = "public",
        weight: float = 1.0,
        headers: Mapping[str, str] | None = None,
    ) -> HttpReply:
        return self._counted(await super()._public(path, query, bucket=bucket, weight=weight, headers=headers))

    async def _signed(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        body: bytes = b"",
        bucket: str = "private",
        weight: float = 1.0,
    ) -> HttpReply:
        return self._counted(await super()._signed(method, path, query, body=body, bucket=bucket, weight=weight))

    def _counted(self, reply: HttpReply) -> HttpReply:
        """The venue counts the weight of all processes of this address together."""
        used = reply.headers.get(USED_WEIGHT, "")
        if used.isascii() and used.isdigit():
            for bucket in ("public", "private"):
                self.transport.throttle.remaining(bucket, WEIGHT_MAX[self._market] - int(used))
        return reply

    def _learn(self, updates: Iterable[OrderUpdate]) -> None:
        for update in updates:
            self._client_ids[update.order_id] = update.client_id
        while len(self._client_ids) > KNOWN_ORDERS_MAX:
            del self._client_ids[next(iter(self._client_ids))]

    async def _fetch_server_time_ms(self) -> int:
        return decode(_time, (await self._public(self._paths.time)).body, self.venue, "time").serverTime

    async def instruments(self, symbols_: Sequence[str]) -> list[InstrumentSpec]:
        self.symbols.update(symbols_)
        info = await self._public(self._paths.info, weight=20)
        fees: dict[str, FeeSchedule] = {}
        coins: dict[str, CoinIdentity] = {}
        if self.has_credentials:
            fees = {fee.symbol: fee for fee in await self.fees(symbols_)}
            if self._market == "spot":
                reply = await self._signed("GET", "/sapi/v1/capital/config/getall", weight=10)
                coins = symbols.parse_coins(self.venue, reply.body, self.odd_rows)
        if self._market == "spot":
            quotes = await self._public("/api/v3/ticker/bookTicker", weight=4)
            prices, premiums = symbols.parse_prices(self.venue, quotes.body, self.odd_rows), None
            ends = await self._ends()
        else:
            reply = await self._public("/fapi/v1/premiumIndex", weight=10)
            prices, premiums = {}, symbols.parse_premiums(self.venue, reply.body, self.odd_rows)
            ends = {}  # the rows have them
        return symbols.parse_instruments(
            self.venue,
            self._market,
            info.body,
            symbols_,
            fees=fees,
            coins=coins,
            prices=prices,
            premiums=premiums,
            odd=self.odd_rows,
            ends=ends,
        )

    async def _ends(self) -> dict[str, int]:
        """Announced delistings of spot, which only a key may read.

        Where it cannot be read, what it said last: that must not cost the instruments, and silence withdraws nothing.
        """
        if not self.has_credentials:
            return {}
        try:
            reply = await self._signed("GET", "/sapi/v1/spot/delist-schedule", weight=100)
            self._known_ends = symbols.parse_ends(self.venue, reply.body)
        except VenueError as error:
            if isinstance(error, RateLimited):
                raise
        return self._known_ends

    async def depth_snapshot(self, symbol: str) -> bytes:
        weight = 50 if self._market == "spot" else 20
        return (await self._public(self._paths.depth, f"symbol={symbol}&limit={DEPTH_LEVELS}", weight=weight)).body

    async def balances(self) -> list[Balance]:
        reply = await self._signed("GET", self._paths.balances, weight=20)
        return account.parse_balances(
            self.venue, self._market, reply.body, reply.recv_mono_ns, symbols=self.symbols, odd=self.odd_rows
        )

    async def positions(self) -> list[Position]:
        if self._market == "spot":
            return []
        reply = await self._signed("GET", "/fapi/v3/positionRisk", weight=5)
        own = self.own_rows()
        found = account.parse_positions(self.venue, reply.body, reply.recv_mono_ns, symbols=self.symbols, odd=own)
        return self.whole(found, own)

    async def fees(self, symbols_: Sequence[str]) -> list[FeeSchedule]:
        async def one(symbol: str) -> FeeSchedule:
            reply = await self._signed("GET", self._paths.commission, f"symbol={symbol}", weight=20)
            return symbols.parse_fee(self.venue, self._market, symbol, reply.body)

        return [found for found in await self.gather(symbols_, one) if isinstance(found, FeeSchedule)]

    async def query_order(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate | None:
        query = encode_query(orders.order_name(symbol, client_id, order_id))
        try:
            reply = await self._signed("GET", self._paths.order, query, weight=4)
        except OrderNotFound:
            return None
        update = orders.parse_order(self.venue, reply.body, reply.recv_mono_ns)
        self._learn([update])
        return update

    async def fee_switch(self) -> FeeSwitch | None:
        if not self.has_credentials or self._market != "spot":
            return None
        return account.parse_fee_switch(self.venue, (await self._signed("GET", "/sapi/v1/bnbBurn")).body)

    async def open_orders(self, symbol: str) -> list[OrderUpdate]:
        reply = await self._signed("GET", self._paths.open_orders, f"symbol={symbol}", weight=6)
        own = self.own_rows(symbol)
        return self.whole(orders.parse_orders(self.venue, reply.body, reply.recv_mono_ns, own), own)

    async def finished_orders(self, symbol: str, since_wall_ms: int) -> list[OrderUpdate]:
        """Windows of at most 24 h, oldest first."""
        found: dict[str, OrderUpdate] = {}
        own = self.own_rows(symbol)
        for start, end in self._windows(since_wall_ms):
            query = f"symbol={symbol}&startTime={start}&endTime={end}&limit={TRADES_MAX}"
            reply = await self._signed("GET", self._paths.all_orders, query, weight=20)
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
        own = self.own_rows(symbol)
        for window_start, end in self._windows(since_wall_ms):
            start = window_start
            for _ in range(PAGES_MAX):
                query = f"symbol={symbol}&startTime={start}&endTime={end}&limit={TRADES_MAX}"
                reply = await self._signed("GET", self._paths.trades, query, weight=20)
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
            reply = await self._signed("GET", self._paths.all_orders, query, weight=20)
            self._learn(orders.parse_orders(self.venue, reply.body, reply.recv_mono_ns, own))
        return [
            msgspec.structs.replace(row, client_id=self._client_ids.get(row.order_id, row.client_id)) for row in rows
        ]

    async def money_moves(self, since_wall_ms: int) -> list[MoneyMove]:
        """Deposits, withdrawals, transfers to and from USDⓈ-M; [] on futures."""
        if self._market != "spot":
            return []
        own = self.own_rows()
        start = f"startTime={self.since_ms(since_wall_ms) - histories.LATE_MS}"
        came = await self._signed("GET", "/sapi/v1/capital/deposit/hisrec", start)
        went = await self._signed("GET", "/sapi/v1/capital/withdraw/history", start)
        found = histories.parse_deposits(self.venue, came.body, self.symbols, own)
        found += histories.parse_withdrawals(self.venue, went.body, self.symbols, own)
        for kind in (histories.TO_FUTURES, histories.FROM_FUTURES):
            moved = await self._signed("GET", "/sapi/v1/asset/transfer", f"type={kind}&{start}&size=100")
            found += histories.parse_transfers(self.venue, kind, moved.body, self.symbols, own)
        return self.whole(sorted(found, key=lambda row: row.venue_wall_ms), own)

    async def cancel(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate:
        query = encode_query(orders.order_name(symbol, client_id, order_id))
        reply = await self._signed("DELETE", self._paths.order, query)
        return orders.parse_order(self.venue, reply.body, reply.recv_mono_ns)

    async def cancel_all(self, symbol: str) -> list[OrderUpdate]:
        try:
            before = await self.open_orders(symbol) if self._market == "futures" else []
        except RowsUnreadable as error:
            before = error.rows
        try:
            reply = await self._signed("DELETE", self._paths.cancel_all, f"symbol={symbol}")
        except OrderNotFound:
            return []
        if self._market == "spot":
            return orders.parse_orders(self.venue, reply.body, reply.recv_mono_ns, self.odd_rows)
        # USDⓈ-M answers without a list: ask for each order that was open
        asked = [await self.query_order(symbol, row.client_id, row.order_id) for row in before]
        return [row for row in asked if row is not None]


def make_client(venue: VenueConfig, credentials: Credentials | None) -> BinanceClient:
    """REST client of one market; ``credentials`` None: public requests alone."""
    return BinanceClient(venue, credentials)
