"""Gate.io REST client of both markets; the differences are in two tables of paths, not in two copies.

*Source:* Gate.io API v4: spot, futures and wallet endpoints, "Frequency limit rule". Limits: public
200 / 10 s per endpoint and IP; private 200 / 10 s per endpoint; cancel 200 / s; place 10 / s (spot), 100 / s (futures).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pipeline.economics.margin import Tier
from pipeline.exchanges.base import HttpCall, HttpReply
from pipeline.exchanges.gateio import account, account_settings, histories, orders, symbols
from pipeline.exchanges.gateio.account_mode import AccountMode
from pipeline.exchanges.gateio.account_settings import ContractSettings
from pipeline.exchanges.gateio.coin_networks import WithdrawTerms, parse_networks, parse_withdraw_status
from pipeline.exchanges.gateio.errors import KIND_OF_LABEL, error_of
from pipeline.exchanges.gateio.limits import FUTURES_LIMITS, SPOT_LIMITS
from pipeline.exchanges.gateio.listing import LISTINGS, parse_key_rights
from pipeline.exchanges.gateio.recent_trades import RECENT
from pipeline.exchanges.gateio.signing import GateSigner
from pipeline.exchanges.parsing.rows import OddRows
from pipeline.exchanges.parsing.venue_json import decode
from pipeline.exchanges.rest_client import TIME_ANSWER_S, FeeCoinCall, RestVenueClient
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.errors import OrderNotFound, ProtocolViolation, RateLimited, VenueError, VenueRejected
from pipeline.model.structs import (
    Balance,
    CoinIdentity,
    Credentials,
    FeeSchedule,
    Fill,
    ForcedClose,
    Funding,
    FundingTerms,
    InstrumentSpec,
    KeyRights,
    MoneyMove,
    OrderUpdate,
    Position,
)

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

FUTURES_PATH = "/futures/usdt"
SIZE_DECIMAL = {"X-Gate-Size-Decimal": "1"}  # sizes as decimal text; without it fractional contracts are truncated
LIMIT, LEFT = "x-gate-ratelimit-limit", "x-gate-ratelimit-requests-remain"
DEPTH_LEVELS = 100
PAGE_ROWS = 100
TRADES_ROWS = 1000
BOOK_ROWS = 1000
BESIDE_TIMEOUT_S = 2.0  # of a question that instruments do not wait for
PAGES_MAX = 20
FUNDING_PAGES_MAX = 200  # three settlements a day on a hundred contracts for two months
MULTIPLIER_ROWS_MIN = 3  # more unknown contracts than this: one list instead of single questions


class _Time(msgspec.Struct):
    server_time: int


_time = msgspec.json.Decoder(_Time)


def rest_base(rest: str) -> str:
    """The common base of both markets; a base that already names the futures path is taken, too."""
    return rest.rstrip("/").removesuffix(FUTURES_PATH)


class GateClient(RestVenueClient):
    """What spot and futures share."""

    listings = LISTINGS
    recent = RECENT
    clock_refusals = frozenset(label for label, kind in KIND_OF_LABEL.items() if kind == "clock")

    has_countdown = True

    def __init__(self, venue: VenueConfig, credentials: Credentials | None) -> None:
        self.limits = SPOT_LIMITS if venue.market == "spot" else FUTURES_LIMITS
        super().__init__(venue, credentials, rest=rest_base(venue.rest), limits=self.limits)
        self._signer = GateSigner(credentials.api_key, credentials.api_secret) if credentials else None

    async def set_countdown(self, seconds: int, symbols: Sequence[str]) -> None:
        """See the base class; the least is 5 seconds."""
        path = "/spot/countdown_cancel_all" if self.config.market == "spot" else f"{FUTURES_PATH}/countdown_cancel_all"
        await self._signed("POST", path, body=b'{"timeout":%d}' % seconds, bucket="query")

    async def key_rights(self) -> KeyRights:
        return parse_key_rights(self.venue, (await self._signed("GET", "/account/detail", bucket="query")).body)

    def _sign(self, method: str, path: str, query: str, body: bytes) -> HttpCall:
        assert self._signer is not None, "a signed call needs credentials"
        headers = self._signer.rest_headers(method, path, query, body, self.clock.now_ms() // 1000)
        headers |= SIZE_DECIMAL
        headers["Content-Type"] = "application/json"
        return HttpCall(method=method, target=f"{path}?{query}" if query else path, headers=headers, body=body)

    def error_of(self, reply: HttpReply) -> VenueError | None:
        return error_of(self.venue, reply)

    def note_left(self, reply: HttpReply, bucket: str) -> None:
        limit, left = reply.headers.get(LIMIT, ""), reply.headers.get(LEFT, "")
        if limit == str(self.limits[bucket].capacity) and left.isascii() and left.isdigit():  # else another one's
            self.transport.throttle.remaining(bucket, int(left))

    async def _fetch_server_time_ms(self) -> int:
        reply = await self._public("/spot/time", answer_s=TIME_ANSWER_S)
        return decode(_time, reply.body, self.venue, "spot/time").server_time

    def _since_s(self, since_wall_ms: int) -> int:
        return self.since_ms(since_wall_ms) // 1000

    async def _moves(
        self,
        path: str,
        query: Callable[[int], str],
        parse: Callable[[str, bytes, Collection[str], OddRows], tuple[list[MoneyMove], int]],
        since_wall_ms: int,
        page_rows: int,
        asset: str = "",
    ) -> list[MoneyMove]:
        """Every page of an account book, of one ``asset`` or of all, since then. Raises ``ProtocolViolation`` beyond
        ``FUNDING_PAGES_MAX``."""
        since_s = self._since_s(since_wall_ms)
        found: dict[str, MoneyMove] = {}
        own = self.own_rows(asset)
        for page in range(FUNDING_PAGES_MAX):
            reply = await self._signed("GET", path, f"from={since_s}&{query(page)}", bucket="query")
            rows, count = parse(self.venue, reply.body, self.symbols, own)
            found.update((row.event_id, row) for row in rows if row.venue_wall_ms >= since_s * 1000)
            if count < page_rows:
                return self.whole(sorted(found.values(), key=lambda row: (row.venue_wall_ms, row.event_id)), own)
        raise ProtocolViolation(f"{self.venue}: account_book: too many pages since {since_s}", venue=self.venue)

    async def _coins(self) -> dict[str, CoinIdentity]:
        reply = await self._public("/spot/currencies")
        terms = await self._withdraw_terms() if self.has_credentials else {}
        self.coin_networks = parse_networks(self.venue, reply.body, terms, OddRows())  # odd rows are counted below
        return symbols.parse_coins(self.venue, reply.body, self.odd_rows)

    async def _withdraw_terms(self) -> dict[str, WithdrawTerms]:
        """Fees of withdrawals, where this market's wallet is the one that coins leave."""
        return {}


class GateSpotClient(GateClient):
    """:class:`VenueClient` of Gate.io spot."""

    fee_coin_call = FeeCoinCall("GT", "/account/debit_fee", body=b'{"enabled":true}')

    def __init__(self, venue: VenueConfig, credentials: Credentials | None) -> None:
        super().__init__(venue, credentials)
        self._mode = AccountMode(self.venue, partial(self._signed, "GET", bucket="query"))

    async def apply_account_settings(self, symbols_: Sequence[str], leverage: Decimal) -> None:
        """See the base class; an account that is unified stays so: that is not ours to change."""
        await self._mode.check()
        self.settings_fault, self.settings_known = self._mode.fault, self._mode.known

    async def close(self) -> None:
        await self._mode.close()
        await super().close()

    async def _withdraw_terms(self) -> dict[str, WithdrawTerms]:
        """None where the venue does not tell, or not soon: no instrument waits for them. A rate limit pauses its bucket
        by itself."""
        try:
            async with asyncio.timeout(BESIDE_TIMEOUT_S):
                reply = await self._signed("GET", "/wallet/withdraw_status", bucket="query")
            return parse_withdraw_status(self.venue, reply.body, OddRows())
        except (VenueError, TimeoutError):
            return {}

    async def instruments(self, symbols_: Sequence[str]) -> list[InstrumentSpec]:
        self.symbols.update(symbols_)
        pairs = await self._public("/spot/currency_pairs")
        tickers = await self._public("/spot/tickers")
        fees = {fee.symbol: fee for fee in await self.fees(symbols_)} if self.has_credentials else {}
        return symbols.parse_spot(
            self.venue,
            pairs.body,
            symbols_,
            fees=fees,
            coins=await self._coins(),
            prices=symbols.parse_prices(self.venue, tickers.body, self.odd_rows),
            odd=self.odd_rows,
        )

    async def depth_snapshot(self, symbol: str) -> bytes:
        query = f"currency_pair={symbol}&limit={DEPTH_LEVELS}&with_id=true"
        return (await self._public("/spot/order_book", query, bucket="depth")).body

    async def balances(self) -> list[Balance]:
        reply = await self._signed("GET", "/spot/accounts")
        return account.parse_spot_balances(
            self.venue, reply.body, reply.recv_mono_ns, symbols=self.symbols, odd=self.odd_rows
        )

    async def positions(self) -> list[Position]:
        return []

    async def fees(self, symbols_: Sequence[str]) -> list[FeeSchedule]:
        async def one(symbol: str) -> FeeSchedule:
            reply = await self._signed("GET", "/wallet/fee", f"currency_pair={symbol}", bucket="query")
            return symbols.parse_spot_fee(self.venue, symbol, reply.body)

        return [found for found in await self.gather(symbols_, one) if isinstance(found, FeeSchedule)]

    async def fee_switch(self) -> FeeSwitch | None:
        if not self.has_credentials:
            return None
        reply = await self._signed("GET", "/wallet/fee", bucket="query")
        return account_settings.parse_fee_switch(self.venue, reply.body)

    async def query_order(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate | None:
        name = order_id or orders.TEXT_PREFIX + client_id
        try:
            reply = await self._signed("GET", f"/spot/orders/{name}", f"currency_pair={symbol}", bucket="query")
        except OrderNotFound:
            return None
        row = decode(orders.spot_order, reply.body, self.venue, "spot/orders")
        return orders.spot_update(self.venue, row, reply.recv_mono_ns, "rest")

    async def _list(self, symbol: str, query: str) -> list[OrderUpdate]:
        found: list[OrderUpdate] = []
        own = self.own_rows(symbol)
        query = f"currency_pair={symbol}&{query}"
        for page in range(1, PAGES_MAX + 1):
            reply = await self._signed("GET", "/spot/orders", f"{query}&page={page}&limit={PAGE_ROWS}", bucket="query")
            rows, count = orders.spot_updates(self.venue, reply.body, reply.recv_mono_ns, "rest", own)
            found += [update for _, update in rows]
            if count < PAGE_ROWS:
                break
        return self.whole(found, own)

    async def open_orders(self, symbol: str) -> list[OrderUpdate]:
        return await self._list(symbol, "status=open")

    async def finished_orders(self, symbol: str, since_wall_ms: int) -> list[OrderUpdate]:
        return await self._list(symbol, f"status=finished&from={self._since_s(since_wall_ms)}")

    async def fills(self, symbol: str, since_wall_ms: int) -> list[Fill]:
        query = f"currency_pair={symbol}&from={self._since_s(since_wall_ms)}&limit={TRADES_ROWS}"
        found: list[Fill] = []
        own = self.own_rows(symbol)
        for page in range(1, PAGES_MAX + 1):
            reply = await self._signed("GET", "/spot/my_trades", f"{query}&page={page}", bucket="query")
            fills, count = orders.spot_fills(self.venue, reply.body, reply.recv_mono_ns, "rest", own)
            found += fills
            if count < TRADES_ROWS:
                break
        return self.whole(sorted(found, key=lambda fill: (fill.venue_wall_ms, fill.trade_id)), own)

    async def money_moves(self, since_wall_ms: int) -> list[MoneyMove]:
        def query(page: int) -> str:
            return f"page={page + 1}&limit={BOOK_ROWS}"

        return await self._moves("/spot/account_book", query, histories.parse_spot_moves, since_wall_ms, BOOK_ROWS)

    async def cancel(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate:
        name = order_id or orders.TEXT_PREFIX + client_id
        reply = await self._signed("DELETE", f"/spot/orders/{name}", f"currency_pair={symbol}", bucket="cancel")
        row = decode(orders.spot_order, reply.body, self.venue, "DELETE spot/orders")
        return orders.spot_update(self.venue, row, reply.recv_mono_ns, "rest")

    async def cancel_all(self, symbol: str) -> list[OrderUpdate]:
        reply = await self._signed("DELETE", "/spot/orders", f"currency_pair={symbol}&account=spot", bucket="cancel")
        rows, _ = orders.spot_updates(self.venue, reply.body, reply.recv_mono_ns, "rest", self.odd_rows)
        return [update for row, update in rows if row.succeeded]


class GateFuturesClient(GateClient):
    """:class:`VenueClient` of Gate.io USDT perpetuals. Sizes in contracts become base coin by each contract's row."""

    def __init__(self, venue: VenueConfig, credentials: Credentials | None) -> None:
        super().__init__(venue, credentials)
        self.multipliers: dict[str, Decimal] = {}
        self._settings: dict[str, ContractSettings] = {}  # as last read or set
        self._modes_known = False  # single mode, classic account

    async def learn_multipliers(self, contracts: Sequence[str]) -> dict[str, Decimal]:
        """Multipliers of ``contracts``, asked where unknown. A delisted contract raises the venue's refusal."""
        unknown = [name for name in dict.fromkeys(contracts) if name not in self.multipliers]
        if len(unknown) > MULTIPLIER_ROWS_MIN:
            reply = await self._public(f"{FUTURES_PATH}/contracts", headers=SIZE_DECIMAL)
            self.multipliers |= symbols.parse_multipliers(self.venue, reply.body, self.odd_rows)
            unknown = [name for name in unknown if name not in self.multipliers]
        for name in unknown:
            reply = await self._public(f"{FUTURES_PATH}/contracts/{name}", headers=SIZE_DECIMAL)
            self.multipliers |= symbols.parse_multipliers(self.venue, reply.body)
        return self.multipliers

    async def instruments(self, symbols_: Sequence[str]) -> list[InstrumentSpec]:
        self.symbols.update(symbols_)
        reply = await self._public(f"{FUTURES_PATH}/contracts", headers=SIZE_DECIMAL)
        fees = {fee.symbol: fee for fee in await self.fees(symbols_)} if self.has_credentials else {}
        coins = await self._coins()
        specs = symbols.parse_futures(self.venue, reply.body, symbols_, fees=fees, coins=coins, odd=self.odd_rows)
        self.multipliers |= {spec.symbol: spec.multiplier for spec in specs}
        return specs

    async def funding_terms(self, symbols_: Sequence[str]) -> dict[str, FundingTerms]:
        async def ask(name: str) -> dict[str, FundingTerms]:
            reply = await self._public(f"{FUTURES_PATH}/contracts{'/' if name else ''}{name}", headers=SIZE_DECIMAL)
            return symbols.parse_funding_terms(self.venue, reply.body, self.odd_rows)

        return await self.terms_by_name(symbols_, ask)

    async def depth_snapshot(self, symbol: str) -> bytes:
        query = f"contract={symbol}&limit={DEPTH_LEVELS}&with_id=true"
        path = f"{FUTURES_PATH}/order_book"
        return (await self._public(path, query, bucket="depth", headers=SIZE_DECIMAL)).body

    async def balances(self) -> list[Balance]:
        self._modes_known = False
        reply = await self._signed("GET", f"{FUTURES_PATH}/accounts")
        found = [account.parse_futures_balance(self.venue, reply.body, reply.recv_mono_ns)]
        self._modes_known = True
        return found

    async def user_id(self) -> str:
        """The account's user id, which private futures channels are subscribed with."""
        reply = await self._signed("GET", f"{FUTURES_PATH}/accounts")
        return account.parse_user_id(self.venue, reply.body)

    async def positions(self) -> list[Position]:
        reply = await self._signed("GET", f"{FUTURES_PATH}/positions")
        self._settings |= account_settings.parse_settings(self.venue, reply.body, self.odd_rows)
        own = self.own_rows()
        rows = account.position_rows(self.venue, reply.body, self.symbols, own)
        await self.learn_multipliers([row.contract for row in rows])
        return self.whole(account.positions_of(self.venue, rows, self.multipliers, reply.recv_mono_ns), own)

    async def fees(self, symbols_: Sequence[str]) -> list[FeeSchedule]:
        async def one(symbol: str) -> FeeSchedule | None:
            reply = await self._signed("GET", f"{FUTURES_PATH}/fee", f"contract={symbol}", bucket="query")
            return symbols.parse_futures_fees(self.venue, reply.body).get(symbol)

        return [found for found in await self.gather(symbols_, one) if isinstance(found, FeeSchedule)]

    async def risk_tiers(self, symbol: str) -> tuple[Tier, ...]:
        reply = await self._public(f"{FUTURES_PATH}/risk_limit_tiers", f"contract={symbol}")
        return symbols.parse_risk_tiers(self.venue, reply.body)

    async def query_order(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate | None:
        name = order_id or orders.TEXT_PREFIX + client_id
        await self.learn_multipliers([symbol])
        try:
            reply = await self._signed("GET", f"{FUTURES_PATH}/orders/{name}", bucket="query")
        except OrderNotFound:
            return None
        row = decode(orders.futures_order, reply.body, self.venue, "futures/orders")
        return orders.futures_update(self.venue, row, self.multipliers, reply.recv_mono_ns, "rest")

    async def _list(self, symbol: str, status: str, since_s: int = 0) -> list[OrderUpdate]:
        """Orders of one contract, pages until one is short or lies wholly before ``since_s`` (newest come first)."""
        await self.learn_multipliers([symbol])
        found: list[OrderUpdate] = []
        own = self.own_rows(symbol)
        for page in range(PAGES_MAX):
            query = f"contract={symbol}&status={status}&limit={PAGE_ROWS}&offset={page * PAGE_ROWS}"
            reply = await self._signed("GET", f"{FUTURES_PATH}/orders", query, bucket="query")
            rows, count = orders.futures_updates(
                self.venue, reply.body, self.multipliers, reply.recv_mono_ns, "rest", own
            )
            old = [0 < row.finished_ms < since_s * 1000 for row, _ in rows]  # 0: a time that is not known
            found += [update for (_, update), too_old in zip(rows, old, strict=True) if not too_old]
            if count < PAGE_ROWS or (old and all(old)):
                break
        return self.whole(found, own)

    async def open_orders(self, symbol: str) -> list[OrderUpdate]:
        return await self._list(symbol, "open")

    async def finished_orders(self, symbol: str, since_wall_ms: int) -> list[OrderUpdate]:
        return await self._list(symbol, "finished", self._since_s(since_wall_ms))

    async def fills(self, symbol: str, since_wall_ms: int) -> list[Fill]:
        await self.learn_multipliers([symbol])
        since_s = self._since_s(since_wall_ms)
        found: list[Fill] = []
        own = self.own_rows(symbol)
        for page in range(PAGES_MAX):
            query = f"contract={symbol}&limit={PAGE_ROWS}&offset={page * PAGE_ROWS}"
            reply = await self._signed("GET", f"{FUTURES_PATH}/my_trades", query, bucket="query")
            page_fills, count = orders.futures_fills(
                self.venue, reply.body, self.multipliers, reply.recv_mono_ns, "rest", own
            )
            old = [0 < fill.venue_wall_ms < since_s * 1000 for fill in page_fills]  # 0: a time that is not known
            found += [fill for fill, too_old in zip(page_fills, old, strict=True) if not too_old]
            # newest first is what the venue gives; without that promise only a short page ends the search
            if count < PAGE_ROWS or (old and all(old)):
                break
        return self.whole(sorted(found, key=lambda fill: (fill.venue_wall_ms, fill.trade_id)), own)

    async def funding(self, since_wall_ms: int) -> list[Funding]:
        """Every page of the account book: a row left out would be money that nobody explains."""
        since_ms = self.clock.to_venue_ms(since_wall_ms)
        found: dict[str, Funding] = {}
        own = self.own_rows()
        for page in range(FUNDING_PAGES_MAX):
            query = f"type={account.FUNDING}&from={since_ms // 1000}&limit={PAGE_ROWS}&offset={page * PAGE_ROWS}"
            reply = await self._signed("GET", f"{FUTURES_PATH}/account_book", query, bucket="query")
            rows, count = account.parse_funding(self.venue, reply.body, own)
            found.update((row.event_id, row) for row in rows if row.venue_wall_ms >= since_ms)
            if count < PAGE_ROWS:
                return self.whole(sorted(found.values(), key=lambda row: (row.venue_wall_ms, row.event_id)), own)
        raise ProtocolViolation(
            f"{self.venue}: account_book: more than {FUNDING_PAGES_MAX} pages since {since_ms}", venue=self.venue
        )

    async def money_moves(self, since_wall_ms: int) -> list[MoneyMove]:
        def query(page: int) -> str:
            return f"limit={PAGE_ROWS}&offset={page * PAGE_ROWS}"

        path, parse = f"{FUTURES_PATH}/account_book", histories.parse_futures_moves
        return await self._moves(path, query, parse, since_wall_ms, PAGE_ROWS, account.SETTLED_IN)

    async def forced_closes(self, since_wall_ms: int) -> list[ForcedClose]:
        """The newest of each list: a page holds more than a sweep looks back to."""
        since_s = self._since_s(since_wall_ms)
        found: list[ForcedClose] = []
        own = self.own_rows()
        for name in histories.CAUSES:
            query = f"from={since_s}&limit={PAGE_ROWS}"
            reply = await self._signed("GET", f"{FUTURES_PATH}/{name}", query, bucket="query")
            found += histories.parse_forced(self.venue, reply.body, name, self.symbols, own)
        return self.whole([row for row in found if row.venue_wall_ms >= since_s * 1000], own)

    async def cancel(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate:
        name = order_id or orders.TEXT_PREFIX + client_id
        await self.learn_multipliers([symbol])
        reply = await self._signed("DELETE", f"{FUTURES_PATH}/orders/{name}", bucket="cancel")
        row = decode(orders.futures_order, reply.body, self.venue, "DELETE futures/orders")
        return orders.futures_update(self.venue, row, self.multipliers, reply.recv_mono_ns, "rest")

    async def cancel_all(self, symbol: str) -> list[OrderUpdate]:
        await self.learn_multipliers([symbol])
        reply = await self._signed("DELETE", f"{FUTURES_PATH}/orders", f"contract={symbol}", bucket="cancel")
        rows, _ = orders.futures_updates(
            self.venue, reply.body, self.multipliers, reply.recv_mono_ns, "rest", self.odd_rows
        )
        return [update for _, update in rows]

    async def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        """Isolated margin at ``leverage``. The reply is not used: positions are read afterwards."""
        path = f"{FUTURES_PATH}/positions/{symbol}/leverage"
        await self._signed("POST", path, f"leverage={leverage.normalize():f}", bucket="query")

    async def apply_account_settings(self, symbols_: Sequence[str], leverage: Decimal) -> None:
        """See the base class; what balances and positions reported last decides whether anything is asked."""
        if not self._modes_known:
            await self._apply_modes()
        if any(symbol not in self._settings for symbol in symbols_):
            reply = await self._signed("GET", f"{FUTURES_PATH}/positions")
            self._settings |= account_settings.parse_settings(self.venue, reply.body, self.odd_rows)
        wanted = account_settings.to_set(symbols_, self._settings, leverage)

        async def one(symbol: str) -> None:
            await self.set_leverage(symbol, leverage)

        for symbol, refused in zip(wanted, await self.gather(wanted, one), strict=True):
            known_no = (*account_settings.UNKNOWN_CONTRACT, account_settings.UNCHANGED)
            if refused is not None and refused.api_code not in known_no:
                raise account_settings.wrong_leverage(self.venue, symbol, leverage, refused)
            self._settings[symbol] = ContractSettings(leverage, False)

    async def _apply_modes(self) -> None:
        """One position a contract; an account that is unified stays so: that is not ours to change."""
        reply = await self._signed("GET", f"{FUTURES_PATH}/accounts")
        if account_settings.is_dual(self.venue, reply.body):
            try:
                await self._signed("POST", f"{FUTURES_PATH}/set_position_mode", "position_mode=single", bucket="query")
            except RateLimited:
                raise
            except VenueRejected as refused:
                raise account_settings.wrong_mode(self.venue, "dual", refused) from refused
            reply = await self._signed("GET", f"{FUTURES_PATH}/accounts")
        account_settings.check_modes(self.venue, reply.body)
        self._modes_known = True

    async def add_margin(self, symbol: str, amount: Decimal) -> None:
        """POST /futures/usdt/positions/{contract}/margin; positions are read afterwards."""
        await self._signed("POST", f"{FUTURES_PATH}/positions/{symbol}/margin", f"change={amount:f}", bucket="query")


def make_client(venue: VenueConfig, credentials: Credentials | None) -> GateClient:
    """REST client of one market; ``credentials`` None: public requests alone."""
    return GateSpotClient(venue, credentials) if venue.market == "spot" else GateFuturesClient(venue, credentials)
