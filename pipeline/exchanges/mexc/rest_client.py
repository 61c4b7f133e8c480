"""MEXC spot REST client.

*Source:* MEXC spot v3: market data, spot account and trade, limits. Limits: 500 weight / 10 s per endpoint, of
which 2026 reports leave 300 per IP; orders 5 per second. Buckets here are per class of endpoint, on the smaller figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from pipeline.exchanges.base import HttpCall, HttpReply
from pipeline.exchanges.mexc import account, histories, orders, symbols
from pipeline.exchanges.mexc.errors import KIND_OF_CODE, error_of
from pipeline.exchanges.mexc.listing import LISTINGS
from pipeline.exchanges.mexc.recent_trades import RECENT
from pipeline.exchanges.mexc.signing import MexcSigner
from pipeline.exchanges.parsing.announced_ends import AnnouncedEnds, Ends
from pipeline.exchanges.parsing.coin_networks import parse_capital_config
from pipeline.exchanges.parsing.rows import OddRows
from pipeline.exchanges.parsing.venue_json import decode
from pipeline.exchanges.rest_client import TIME_ANSWER_S, FeeCoinCall, RestVenueClient
from pipeline.exchanges.transport.throttle import Limit
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.errors import OrderNotFound, RateLimited, VenueError, VenueRejected
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

LIMITS = {
    "public": Limit(300, 10),
    "depth": Limit(300, 10),
    "private": Limit(300, 10),
    "query": Limit(300, 10, part=1.0),
    "finished": Limit(300, 10),  # the venue counts each endpoint for itself: a start-up sweep need not queue
    "trades": Limit(300, 10),
    "cancel": Limit(300, 10, part=1.0),
    "order": Limit(5, 1, part=1.0, account=True),
}
DEPTH_LEVELS = 1000
ALL_ORDERS_MAX = 1000
MY_TRADES_MAX = 100
HISTORY_ROWS = 1000
PAGES_MAX = 20  # 2000 fills per symbol and question
SYMBOLS_BY_NAME_MAX = 50  # more than these: ask for the whole list, it is cheaper than a long URL


class _Time(msgspec.Struct):
    serverTime: int


_time = msgspec.json.Decoder(_Time)


class MexcClient(RestVenueClient):
    """:class:`VenueClient` of MEXC spot."""

    listings = LISTINGS
    recent = RECENT
    fee_coin_call = FeeCoinCall("MX", "/mxDeduct/enable", "mxDeductEnable=true")
    clock_refusals = frozenset(str(code) for code, kind in KIND_OF_CODE.items() if kind == "clock")

    def __init__(self, venue: VenueConfig, credentials: Credentials | None) -> None:
        super().__init__(venue, credentials, rest=venue.rest, limits=LIMITS)
        self._signer = MexcSigner(credentials.api_key, credentials.api_secret) if credentials else None
        self._ends = AnnouncedEnds()

    def _sign(self, method: str, path: str, query: str, body: bytes) -> HttpCall:
        assert self._signer is not None, "a signed call needs credentials"
        signed = self._signer.signed_query(query, timestamp_ms=self.clock.now_ms())
        headers = {"X-MEXC-APIKEY": self._signer.api_key, "Content-Type": "application/json"}
        return HttpCall(method=method, target=f"{path}?{signed}", headers=headers)

    def error_of(self, reply: HttpReply) -> VenueError | None:
        return error_of(self.venue, reply)

    async def _fetch_server_time_ms(self) -> int:
        reply = await self._public("/time", answer_s=TIME_ANSWER_S)
        return decode(_time, reply.body, self.venue, "time").serverTime

    async def instruments(self, symbols_: Sequence[str]) -> list[InstrumentSpec]:
        self.symbols.update(symbols_)
        info = await self._exchange_info(symbols_)
        quotes = await self._public("/ticker/bookTicker")
        fees: dict[str, FeeSchedule] = {}
        coins: dict[str, CoinIdentity] = {}
        if self.has_credentials:
            fees = {fee.symbol: fee for fee in await self.fees(symbols_)}
            reply = await self._signed("GET", "/capital/config/getall", weight=10)
            coins = symbols.parse_coins(self.venue, reply.body, self.odd_rows)
            self.coin_networks = parse_capital_config(self.venue, reply.body, OddRows())  # odd rows are counted above
        return symbols.parse_instruments(
            self.venue,
            info.body,
            symbols_,
            fees=fees,
            coins=coins,
            prices=symbols.parse_prices(self.venue, quotes.body, self.odd_rows),
            odd=self.odd_rows,
            ends=self._ends.known,
        )

    async def read_ends(self, symbols_: Sequence[str]) -> None:
        self.symbols.update(symbols_)
        await self._ends.read(self._ask_ends)

    async def _ask_ends(self) -> Ends:
        """Announced ends of trading (a list that no document of the venue names)."""
        reply = await self._public("/symbol/offline")
        return symbols.parse_ends(self.venue, reply.body, self.symbols, self.odd_rows)

    @property
    def ends_fault(self) -> str:
        return self._ends.fault

    async def _exchange_info(self, symbols_: Sequence[str]) -> HttpReply:
        """By name where they are few; a name that the venue refuses must not cost the others their rows."""
        if 0 < len(symbols_) <= SYMBOLS_BY_NAME_MAX:
            try:
                return await self._public("/exchangeInfo", f"symbols={','.join(symbols_)}", weight=10)
            except VenueRejected as error:
                if isinstance(error, RateLimited):
                    raise
        return await self._public("/exchangeInfo", weight=10)

    async def depth_snapshot(self, symbol: str) -> bytes:
        return (await self._public("/depth", f"symbol={symbol}&limit={DEPTH_LEVELS}", bucket="depth", weight=5)).body

    async def balances(self) -> list[Balance]:
        reply = await self._signed("GET", "/account", weight=10)
        return account.parse_balances(
            self.venue, reply.body, reply.recv_mono_ns, symbols=self.symbols, odd=self.odd_rows
        )

    async def positions(self) -> list[Position]:
        return []

    async def fees(self, symbols_: Sequence[str]) -> list[FeeSchedule]:
        async def one(symbol: str) -> FeeSchedule:
            reply = await self._signed("GET", "/tradeFee", f"symbol={symbol}", bucket="query")
            return symbols.parse_fee(self.venue, symbol, reply.body)

        return [found for found in await self.gather(symbols_, one) if isinstance(found, FeeSchedule)]

    async def fee_switch(self) -> FeeSwitch | None:
        if not self.has_credentials:
            return None
        reply = await self._signed("GET", "/mxDeduct/enable", bucket="query")
        return account.parse_fee_switch(self.venue, reply.body)

    async def query_order(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate | None:
        try:
            reply = await self._signed(
                "GET", "/order", orders.order_query(symbol, client_id, order_id), bucket="query", weight=2
            )
        except OrderNotFound:
            return None
        return orders.parse_order(self.venue, reply.body, reply.recv_mono_ns)

    async def open_orders(self, symbol: str) -> list[OrderUpdate]:
        reply = await self._signed("GET", "/openOrders", f"symbol={symbol}", bucket="query", weight=3)
        own = self.own_rows(symbol)
        return self.whole(orders.parse_orders(self.venue, reply.body, reply.recv_mono_ns, own), own)

    async def finished_orders(self, symbol: str, since_wall_ms: int) -> list[OrderUpdate]:
        start = self.since_ms(since_wall_ms)
        query = f"symbol={symbol}&startTime={start}&limit={ALL_ORDERS_MAX}"
        reply = await self._signed("GET", "/allOrders", query, bucket="finished", weight=10)
        own = self.own_rows(symbol)
        found = orders.parse_orders(self.venue, reply.body, reply.recv_mono_ns, own)
        return self.whole([update for update in found if update.state.is_terminal], own)

    async def fills(self, symbol: str, since_wall_ms: int) -> list[Fill]:
        """Pages forward by time: at most ``MY_TRADES_MAX`` per page, a page's last millisecond is asked again."""
        start = self.since_ms(since_wall_ms)
        end = 0
        found: dict[str, Fill] = {}
        own = self.own_rows(symbol)
        for _ in range(PAGES_MAX):
            query = f"symbol={symbol}&startTime={start}&limit={MY_TRADES_MAX}"
            if end:
                query = f"symbol={symbol}&startTime={start}&endTime={end}&limit={MY_TRADES_MAX}"
            reply = await self._signed("GET", "/myTrades", query, bucket="trades", weight=10)
            page, count = orders.parse_fills(self.venue, reply.body, reply.recv_mono_ns, own)
            before = len(found)
            found.update((fill.trade_id, fill) for fill in page)
            if count < MY_TRADES_MAX or len(found) == before:
                break
            # undocumented whether a full page holds the newest or the oldest trades: widen on the side that is missing
            oldest, newest = min(f.venue_wall_ms for f in page), max(f.venue_wall_ms for f in page)
            if end == 0 and page[0].venue_wall_ms <= page[-1].venue_wall_ms:
                start = newest
            else:
                end = oldest
        return self.whole(sorted(found.values(), key=lambda fill: (fill.venue_wall_ms, fill.trade_id)), own)

    async def money_moves(self, since_wall_ms: int) -> list[MoneyMove]:
        """Deposits and withdrawals; a transfer between own accounts is in neither list."""
        start = self.since_ms(since_wall_ms) - histories.CREDITED_LATE_MS
        query = f"startTime={start}&limit={HISTORY_ROWS}"  # until now by the venue's clock, not by what we take it for
        came = await self._signed("GET", "/capital/deposit/hisrec", query, bucket="query")
        went = await self._signed("GET", "/capital/withdraw/history", query, bucket="query")
        own = self.own_rows()
        found = histories.parse_deposits(self.venue, came.body, self.symbols, own)
        found += histories.parse_withdrawals(self.venue, went.body, self.symbols, own)
        return self.whole(sorted(found, key=lambda row: row.venue_wall_ms), own)

    async def cancel(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate:
        query = orders.order_query(symbol, client_id, order_id)
        reply = await self._signed("DELETE", "/order", query, bucket="cancel")
        return orders.parse_cancel(self.venue, reply.body, reply.recv_mono_ns)

    async def cancel_all(self, symbol: str) -> list[OrderUpdate]:
        try:
            reply = await self._signed("DELETE", "/openOrders", f"symbol={symbol}", bucket="cancel")
        except OrderNotFound:
            return []
        return orders.parse_orders(self.venue, reply.body, reply.recv_mono_ns, self.odd_rows)

    async def listen_key(self) -> str:
        """A new key of the private stream, valid for 60 minutes."""
        reply = await self._signed("POST", "/userDataStream", bucket="query")
        return account.parse_listen_key(self.venue, reply.body)

    async def renew_listen_key(self, key: str) -> None:
        """Another 60 minutes for ``key``."""
        await self._signed("PUT", "/userDataStream", f"listenKey={key}", bucket="query")


def make_client(venue: VenueConfig, credentials: Credentials | None) -> MexcClient:
    """REST client of one venue; ``credentials`` None: public requests alone."""
    return MexcClient(venue, credentials)
