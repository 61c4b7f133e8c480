"""What the REST clients of Bybit spot and USDT perpetuals share; the market is the ``category`` of each call.

An order's end is asked of ``order/realtime``, which knows the living and the newest 500 ended ones (until a restart of
the service) and finds both by either id, and of ``order/history``, which lags and forgets ended orders without fills
after a day.

*Source:* Bybit V5 documentation: market, trade, position, account, asset and user endpoints; rate limits: 600 requests
in 5 s of an address; of an account and second orders 20 (spot) or 10 (linear), lists 50, fee rates and coins 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import msgspec

from pipeline.exchanges.base import HttpCall, HttpReply
from pipeline.exchanges.bybit import account, histories, orders, symbols
from pipeline.exchanges.bybit.errors import KIND_OF_CODE, error_of
from pipeline.exchanges.bybit.listing import CATEGORY, LISTINGS, PAGE_ROWS_MAX, Page, page_of, parse_key_rights
from pipeline.exchanges.bybit.orders import ExecutionRow, result_of
from pipeline.exchanges.bybit.recent_trades import RECENT
from pipeline.exchanges.bybit.signing import BybitSigner
from pipeline.exchanges.parsing.rows import OwnRows
from pipeline.exchanges.parsing.venue_json import decode
from pipeline.exchanges.rest_client import LOOK_BACK_SLACK_MS, TIME_ANSWER_S, RestVenueClient
from pipeline.exchanges.transport.throttle import SPARE, Limit
from pipeline.model.errors import OrderNotFound, ProtocolViolation, VenueError
from pipeline.model.structs import (
    Balance,
    CoinIdentity,
    Credentials,
    FeeSchedule,
    Fill,
    Funding,
    InstrumentSpec,
    KeyRights,
    MoneyMove,
    OrderUpdate,
    Position,
)

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

T = TypeVar("T")
DEPTH_LEVELS = {"spot": 200, "futures": 500}  # what the venue takes at most
PAGES_MAX = 20
HISTORY_PAGES_MAX = 400
ORDER_ROWS, EXECUTION_ROWS, LOG_ROWS = 50, 100, 50
SPAN_MAX_MS = 7 * 24 * 3600 * 1000 - 60_000  # of a question about the past
ORDERS_PER_S = {"spot": 20, "futures": 10}
ACCOUNT_TYPE = "accountType=UNIFIED"


def limits_of(market: str) -> dict[str, Limit]:
    """Budgets of one account, and the address's over all requests of both markets; orders go another way."""
    orders_per_s = ORDERS_PER_S[market]
    return {
        "address": Limit(600, 5, part=1.0, of_host=True),
        "public": Limit(600, 5, pool="address", spare=SPARE),
        "private": Limit(50, 1, account=True, pool="address", spare=SPARE),
        "query": Limit(50, 1, part=1.0, account=True, pool="address"),
        "slow": Limit(5, 1, account=True, pool="address", spare=SPARE),
        "order": Limit(orders_per_s, 1, part=1.0, account=True),
        "cancel": Limit(orders_per_s, 1, part=1.0, account=True, pool="address"),
    }


class _Time(msgspec.Struct):
    time: int


_time = msgspec.json.Decoder(_Time)


class BybitClient(RestVenueClient):
    """:class:`VenueClient` of spot, and what that of USDT perpetuals shares with it."""

    listings = LISTINGS
    recent = RECENT
    clock_refusals = frozenset(str(code) for code, kind in KIND_OF_CODE.items() if kind == "clock")

    def __init__(self, venue: VenueConfig, credentials: Credentials | None) -> None:
        super().__init__(venue, credentials, rest=venue.rest, limits=limits_of(venue.market))
        self._market = venue.market
        self.category = CATEGORY[venue.market]
        self._signer = BybitSigner(credentials.api_key, credentials.api_secret) if credentials else None
        self._wallet = b""  # ``result`` of the last reading

    def error_of(self, reply: HttpReply) -> VenueError | None:
        return error_of(self.venue, reply)

    def _sign(self, method: str, path: str, query: str, body: bytes) -> HttpCall:
        assert self._signer is not None, "a signed call needs credentials"
        headers = self._signer.rest_headers(query or body.decode(), self.clock.now_ms())
        if body:
            headers["Content-Type"] = "application/json"
        return HttpCall(method=method, target=f"{path}?{query}" if query else path, headers=headers, body=body)

    async def _fetch_server_time_ms(self) -> int:
        reply = await self._public("/v5/market/time", answer_s=TIME_ANSWER_S)
        return decode(_time, reply.body, self.venue, "time").time

    async def _asked(self, path: str, query: str = "", bucket: str = "query") -> tuple[bytes, HttpReply]:
        """(``result`` of a signed GET, the reply)."""
        reply = await self._signed("GET", path, query, bucket=bucket)
        return result_of(self.venue, reply.body, path), reply

    async def _posted(self, path: str, body: bytes, bucket: str = "query") -> tuple[bytes, HttpReply]:
        reply = await self._signed("POST", path, body=body, bucket=bucket)
        return result_of(self.venue, reply.body, path), reply

    async def _paged(
        self, path: str, query: str, read: Callable[[bytes, HttpReply], list[T]], pages_max: int = PAGES_MAX
    ) -> list[T]:
        """Every page of a list. Raises ``ProtocolViolation`` beyond ``pages_max``."""
        found: list[T] = []
        cursor = ""
        for _ in range(pages_max):
            more = f"&cursor={quote(cursor, safe='')}" if cursor else ""
            reply = await self._signed("GET", path, f"{query}{more}", bucket="query")
            page: Page = page_of(self.venue, reply.body, path)
            found += read(bytes(page.list), reply)
            cursor = page.nextPageCursor
            if not cursor:
                return found
        raise ProtocolViolation(f"{self.venue}: {path} has more than {pages_max} pages", venue=self.venue)

    # --- instruments, fees, coins, rights ---

    async def instruments(self, symbols_: Sequence[str]) -> list[InstrumentSpec]:
        self.symbols.update(symbols_)
        pages: list[bytes] = []
        cursor = ""
        for _ in range(PAGES_MAX):
            query = f"category={self.category}&limit={PAGE_ROWS_MAX}{'&cursor=' if cursor else ''}{cursor}"
            reply = await self._public("/v5/market/instruments-info", query)
            pages.append(reply.body)
            cursor = page_of(self.venue, reply.body, "instruments-info").nextPageCursor
            if not cursor:
                break
        else:
            raise ProtocolViolation(f"{self.venue}: instruments-info has more than {PAGES_MAX} pages", venue=self.venue)
        quotes = await self._public("/v5/market/tickers", f"category={self.category}")
        signed = self.has_credentials
        return symbols.parse_instruments(
            self.venue,
            self._market,
            pages,
            symbols_,
            quotes=symbols.parse_quotes(self.venue, quotes.body, self.odd_rows),
            odd=self.odd_rows,
            fees=await self._fees() if signed else {},
            coins=await self._coins() if signed else {},
        )

    async def depth_snapshot(self, symbol: str) -> bytes:
        query = f"category={self.category}&symbol={symbol}&limit={DEPTH_LEVELS[self._market]}"
        return (await self._public("/v5/market/orderbook", query)).body

    async def _fees(self) -> dict[str, FeeSchedule]:
        reply = await self._signed("GET", "/v5/account/fee-rate", f"category={self.category}", bucket="slow")
        rows = bytes(page_of(self.venue, reply.body, "fee-rate").list)
        return symbols.parse_fees(self.venue, rows, self.odd_rows)

    async def fees(self, symbols_: Sequence[str]) -> list[FeeSchedule]:
        found = await self._fees()
        return [found[symbol] for symbol in symbols_ if symbol in found]

    async def _coins(self) -> dict[str, CoinIdentity]:
        result, _ = await self._asked("/v5/asset/coin/query-info", bucket="slow")
        rows = symbols.parse_coins(self.venue, result, self.odd_rows)
        self.coin_networks = {row.coin: symbols.networks_of(self.venue, row) for row in rows}
        return {row.coin: symbols.identity_of(row) for row in rows}

    async def key_rights(self) -> KeyRights:
        return parse_key_rights(self.venue, (await self._asked("/v5/user/query-api"))[0])

    # --- balances ---

    async def balances(self) -> list[Balance]:
        result, reply = await self._asked("/v5/account/wallet-balance", ACCOUNT_TYPE, "private")
        self._wallet = result
        return account.parse_balances(self.venue, result, reply.recv_mono_ns, symbols=self.symbols, odd=self.odd_rows)

    def _check_wallet(self) -> None:
        """Raises ``AccountSettingsWrong`` where another market trades on the wallet as it was read last."""
        if self._wallet:
            account.check_own_wallet(self.venue, self.category, self._wallet, self.odd_rows)

    async def apply_account_settings(self, symbols_: Sequence[str], leverage: Decimal) -> None:
        self._check_wallet()

    async def positions(self) -> list[Position]:
        return []

    # --- orders ---

    def _windows(self, since_wall_ms: int) -> list[tuple[int, int]]:
        """(start, end) on the venue's clock, none longer than the venue answers, oldest first."""
        start, now = self.since_ms(since_wall_ms), self.clock.now_ms() + LOOK_BACK_SLACK_MS
        return [(edge, min(edge + SPAN_MAX_MS - 1, now)) for edge in range(start, now, SPAN_MAX_MS)]

    async def _orders(self, path: str, query: str, own: OwnRows) -> list[OrderUpdate]:
        def read(rows: bytes, reply: HttpReply) -> list[OrderUpdate]:
            return orders.parse_orders(self.venue, self.category, rows, reply.recv_mono_ns, "rest", own)

        return await self._paged(path, f"category={self.category}&{query}&limit={ORDER_ROWS}", read, HISTORY_PAGES_MAX)

    async def query_order(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate | None:
        name = f"orderId={order_id}" if order_id else f"orderLinkId={client_id}"
        own = self.own_rows(symbol)
        for path in ("/v5/order/realtime", "/v5/order/history"):
            try:
                found = self.whole(await self._orders(path, f"symbol={symbol}&{name}", own), own)
            except OrderNotFound:
                continue
            if found:
                return found[0]
        return None

    async def open_orders(self, symbol: str) -> list[OrderUpdate]:
        own = self.own_rows(symbol)
        found = await self._orders("/v5/order/realtime", f"symbol={symbol}&openOnly=0", own)
        return self.whole([row for row in found if not row.state.is_terminal], own)

    async def finished_orders(self, symbol: str, since_wall_ms: int) -> list[OrderUpdate]:
        """The history, and what of the newest ended orders it does not show yet."""
        own = self.own_rows(symbol)
        found: dict[str, OrderUpdate] = {}
        for start, end in self._windows(since_wall_ms):
            query = f"symbol={symbol}&startTime={start}&endTime={end}"
            found.update((row.order_id, row) for row in await self._orders("/v5/order/history", query, own))
        newest = await self._orders("/v5/order/realtime", f"symbol={symbol}&openOnly=1", own)
        found.update((row.order_id, row) for row in newest)
        since_ms = self.since_ms(since_wall_ms)
        ended = [row for row in found.values() if row.state.is_terminal and row.venue_wall_ms >= since_ms]
        return self.whole(sorted(ended, key=lambda row: row.venue_wall_ms), own)

    async def _executions(self, query: str, since_wall_ms: int, own: OwnRows) -> list[tuple[ExecutionRow, Fill | None]]:
        def read(rows: bytes, reply: HttpReply) -> list[tuple[ExecutionRow, Fill | None]]:
            return orders.parse_executions(self.venue, self.category, rows, reply.recv_mono_ns, "rest", own)

        found: list[tuple[ExecutionRow, Fill | None]] = []
        for start, end in self._windows(since_wall_ms):
            spanned = f"category={self.category}&{query}startTime={start}&endTime={end}&limit={EXECUTION_ROWS}"
            found += await self._paged("/v5/execution/list", spanned, read, HISTORY_PAGES_MAX)
        return found

    async def fills(self, symbol: str, since_wall_ms: int) -> list[Fill]:
        own = self.own_rows(symbol)
        rows = await self._executions(f"symbol={symbol}&", since_wall_ms, own)
        found = {fill.trade_id: fill for _, fill in rows if fill is not None}
        oldest_first = reversed(found.values())  # as in :meth:`_log`
        return self.whole(sorted(oldest_first, key=lambda fill: fill.venue_wall_ms), own)

    async def cancel(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate:
        """The venue answers with ids alone: the order is asked for, and may still show as open."""
        body = orders.cancel_body(self.category, symbol, client_id, order_id)
        result, _ = await self._posted("/v5/order/cancel", body, "cancel")
        named, known = orders.parse_id(self.venue, result)
        found = await self.query_order(symbol, client_id or named, order_id or known)
        if found is None:
            raise OrderNotFound(f"{self.venue}: order {order_id or client_id} is not listed", venue=self.venue)
        return found

    async def cancel_all(self, symbol: str) -> list[OrderUpdate]:
        body = f'{{"category":"{self.category}","symbol":"{symbol}"}}'.encode()
        _, reply = await self._posted("/v5/order/cancel-all", body, "cancel")
        names = orders.parse_ids(self.venue, bytes(page_of(self.venue, reply.body, "cancel-all").list))
        asked = [await self.query_order(symbol, client_id, order_id) for client_id, order_id in names]
        return [row for row in asked if row is not None]

    # --- what happened without an order of ours ---

    async def _log(self, since_wall_ms: int, query: str = "") -> list[Funding | MoneyMove]:
        """Every row of the transaction log since then that no execution caused."""
        own = self.own_rows()

        def read(rows: bytes, reply: HttpReply) -> list[Funding | MoneyMove]:
            return histories.parse_log(self.venue, rows, self.symbols, own)

        found: dict[str, Funding | MoneyMove] = {}
        for start, end in self._windows(since_wall_ms):
            spanned = f"{ACCOUNT_TYPE}{query}&startTime={start}&endTime={end}&limit={LOG_ROWS}"
            for row in await self._paged("/v5/account/transaction-log", spanned, read, HISTORY_PAGES_MAX):
                found[row.event_id] = row
        oldest_first = reversed(found.values())  # the venue lists the newest first, of one moment too
        return self.whole(sorted(oldest_first, key=lambda row: row.venue_wall_ms), own)

    async def money_moves(self, since_wall_ms: int) -> list[MoneyMove]:
        return [row for row in await self._log(since_wall_ms) if isinstance(row, MoneyMove)]
