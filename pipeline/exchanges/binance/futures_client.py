"""Binance USDⓈ-M REST client: contracts, positions, modes, income, listen keys.

Half of the address's weight (2400 a minute) is one process's. A balance and a position reading weigh 5 each, so that
the account poller, which reads both twice a second, needs nearly all of its half: modes, which change only while
nothing is open, are read every ``SETTINGS_EVERY_NS``.

*Source:* Binance USDⓈ-M futures API: market data, trade, account, user data streams, limits (read 2026).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from pipeline.economics.margin import Tier
from pipeline.exchanges.binance import account, account_settings, symbols
from pipeline.exchanges.binance import futures_histories as histories
from pipeline.exchanges.binance.account_settings import AccountModes, ContractSettings
from pipeline.exchanges.binance.market_client import SPAN_MAX_MS, TRADES_MAX, BinanceClient
from pipeline.exchanges.parsing.venue_json import decode
from pipeline.exchanges.rest_client import FeeCoinCall
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.clock import mono_ns
from pipeline.model.errors import (
    AccountSettingsWrong,
    AuthRefused,
    OrderNotFound,
    ProtocolViolation,
    RateLimited,
    RowsUnreadable,
    VenueRejected,
)
from pipeline.model.fixedpoint import plain
from pipeline.model.structs import (
    Balance,
    Credentials,
    FeeSchedule,
    ForcedClose,
    Funding,
    FundingTerms,
    InstrumentSpec,
    MoneyMove,
    OrderUpdate,
    Position,
)
from pipeline.model.units import NS_PER_S

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

SETTINGS_EVERY_NS = 5 * 1_000_000_000
INCOME_PAGES_MAX = 200
FORCED_ROWS = 100
LISTEN_KEY = "/fapi/v1/listenKey"
SHORT_TIMERS_MAX = 3  # each weighs 120 a minute of the 1,200 that the poller leaves
ADD_MARGIN = 1  # ``type`` of positionMargin


class _ListenKey(msgspec.Struct):
    listenKey: str


_listen_key = msgspec.json.Decoder(_ListenKey)


class BinanceFuturesClient(BinanceClient):
    """:class:`VenueClient` of Binance USDⓈ-M perpetuals."""

    fee_coin_call = FeeCoinCall(account.FEE_COIN, "/fapi/v1/feeBurn", "feeBurn=true")
    has_countdown = True
    countdown_factor = 6

    def __init__(self, venue: VenueConfig, credentials: Credentials | None) -> None:
        super().__init__(venue, credentials)
        self._modes: AccountModes | None = None  # as last read or set
        self._modes_mono_ns = 0
        self._settings: dict[str, ContractSettings] = {}  # as last read or set
        self._settings_mono_ns = 0
        self._countdown_until_ns: dict[str, int] = {}  # by contract, monotonic

    # --- instruments ---

    async def instruments(self, symbols_: Sequence[str]) -> list[InstrumentSpec]:
        """Contract rows name no coin: the identity is that of the exchange's spot market."""
        self.symbols.update(symbols_)
        info = await self._public(self.calls.info.path, weight=self.calls.info.weight)
        premiums = await self._public("/fapi/v1/premiumIndex", weight=10)
        adjusted = await self._public("/fapi/v1/fundingInfo")
        fees: dict[str, FeeSchedule] = {}
        if self.has_credentials:
            fees = {fee.symbol: fee for fee in await self.fees(symbols_)}
        return symbols.parse_instruments(
            self.venue,
            "futures",
            info.body,
            symbols_,
            fees=fees,
            coins={},
            prices={},
            premiums=symbols.parse_premiums(self.venue, premiums.body, self.odd_rows),
            intervals_s=symbols.parse_funding_intervals(self.venue, adjusted.body, self.odd_rows),
            odd=self.odd_rows,
        )

    async def funding_terms(self, symbols_: Sequence[str]) -> dict[str, FundingTerms]:
        async def ask(name: str) -> dict[str, FundingTerms]:
            query, weight = (f"symbol={name}", 1) if name else ("", 10)
            reply = await self._public("/fapi/v1/premiumIndex", query, weight=weight)
            premiums = symbols.parse_premiums(self.venue, reply.body, self.odd_rows)
            return {
                symbol: FundingTerms(round(premium.rate * 1_000_000_000), premium.next_funding_ms // 1000)
                for symbol, premium in premiums.items()
            }

        return await self.terms_by_name(symbols_, ask)

    async def risk_tiers(self, symbol: str) -> tuple[Tier, ...]:
        reply = await self._signed("GET", "/fapi/v1/leverageBracket", f"symbol={symbol}")
        return symbols.parse_risk_tiers(self.venue, symbol, reply.body)

    # --- balances, positions, fees ---

    async def balances(self) -> list[Balance]:
        """Raises ``AccountSettingsWrong`` in hedge or multi-assets mode, whose sums are others."""
        account_settings.check_modes(self.venue, await self._read_modes())
        return await super().balances()

    async def positions(self) -> list[Position]:
        await self._read_settings()
        reply = await self._signed("GET", "/fapi/v3/positionRisk", weight=5)
        own = self.own_rows()
        found = account.parse_positions(self.venue, reply.body, reply.recv_mono_ns, symbols=self.symbols, odd=own)
        return self.whole(found, own)

    async def fee_switch(self) -> FeeSwitch | None:
        if not self.has_credentials:
            return None
        reply = await self._signed("GET", "/fapi/v1/feeBurn", weight=30)
        return account.parse_fee_switch(self.venue, "futures", reply.body)

    # --- what happened without an order of ours ---

    async def _incomes(self, since_wall_ms: int, income_type: str = "") -> list[Funding | MoneyMove]:
        """Every row since then that no order caused, by its id. Windows of a week, pages by the time of the last row: a
        row that is left out would be money that nobody explains."""
        since_ms = self.since_ms(since_wall_ms)
        found: dict[tuple[int, str], Funding | MoneyMove] = {}
        kind = f"&incomeType={income_type}" if income_type else ""
        own = self.own_rows()
        pages = 0
        for window_start, end in self._windows(since_wall_ms):
            start = window_start
            while True:
                pages += 1
                if pages > INCOME_PAGES_MAX:
                    text = f"{self.venue}: income: more than {INCOME_PAGES_MAX} pages since {since_ms}"
                    raise ProtocolViolation(text, venue=self.venue)
                query = f"startTime={start}&endTime={end}&limit={TRADES_MAX}{kind}"
                reply = await self._signed("GET", "/fapi/v1/income", query, weight=30)
                rows, count = histories.parse_incomes(self.venue, reply.body, own)
                found.update(((at_ms, row.event_id), row) for at_ms, row in rows if row is not None)
                newest = max((at_ms for at_ms, _ in rows), default=end)
                if count < TRADES_MAX:
                    break
                start = max(newest, start + 1)  # a page of one millisecond must not be asked for ever
        return self.whole([found[key] for key in sorted(found)], own)

    async def funding(self, since_wall_ms: int) -> list[Funding]:
        rows = await self._incomes(since_wall_ms, histories.FUNDING)
        return [row for row in rows if isinstance(row, Funding)]

    async def money_moves(self, since_wall_ms: int) -> list[MoneyMove]:
        return [row for row in await self._incomes(since_wall_ms) if isinstance(row, MoneyMove)]

    async def forced_closes(self, since_wall_ms: int) -> list[ForcedClose]:
        """The newest of each kind, of all contracts; the list reaches back a week at most."""
        since_ms = max(self.since_ms(since_wall_ms), self.clock.now_ms() - SPAN_MAX_MS["futures"] + 60_000)
        found: list[ForcedClose] = []
        own = self.own_rows()
        for kind in histories.CAUSES:
            query = f"autoCloseType={kind}&startTime={since_ms}&limit={FORCED_ROWS}"
            reply = await self._signed("GET", "/fapi/v1/forceOrders", query, weight=50)
            found += histories.parse_forced(self.venue, reply.body, kind, self.symbols, own)
        return self.whole([row for row in found if row.venue_wall_ms >= since_ms], own)

    # --- orders ---

    async def cancel_all(self, symbol: str) -> list[OrderUpdate]:
        """The venue answers without a list: each order that was open is asked for."""
        try:
            before = await self.open_orders(symbol)
        except RowsUnreadable as error:
            before = error.rows
        try:
            await self._signed("DELETE", self.calls.cancel_all.path, f"symbol={symbol}", bucket="cancel")
        except OrderNotFound:
            return []
        asked = [await self.query_order(symbol, row.client_id, row.order_id) for row in before]
        return [row for row in asked if row is not None]

    async def set_countdown(self, seconds: int, symbols: Sequence[str]) -> None:
        """See the base class. The venue's timers are of one contract each and weigh 10. Of up to
        ``SHORT_TIMERS_MAX`` contracts they are set as asked, and again when half of that is left; of more for
        ``countdown_factor`` times as long, and again when less than ``seconds`` are left."""
        now_ns, life_ns = mono_ns(), seconds * NS_PER_S
        short = len(symbols) <= SHORT_TIMERS_MAX
        factor = 1 if short else self.countdown_factor
        least_ns, most_ns = life_ns // 2 if short else life_ns, life_ns * factor

        async def one(symbol: str) -> None:
            query = f"symbol={symbol}&countdownTime={seconds * 1000 * factor}"
            await self._signed("POST", "/fapi/v1/countdownCancelAll", query, weight=10)
            self._countdown_until_ns[symbol] = now_ns + most_ns

        def due(symbol: str) -> bool:
            return not least_ns <= self._countdown_until_ns.get(symbol, 0) - now_ns <= most_ns

        await asyncio.gather(*(one(symbol) for symbol in symbols if not seconds or due(symbol)))

    # --- modes, leverage, margin ---

    async def _read_modes(self) -> AccountModes:
        if self._modes is None or mono_ns() - self._modes_mono_ns > SETTINGS_EVERY_NS:
            try:
                reply = await self._signed("GET", "/fapi/v1/accountConfig", weight=5)
            except AuthRefused as refused:
                raise account_settings.perhaps_portfolio(self.venue, refused) from refused
            self._modes, self._modes_mono_ns = account_settings.parse_modes(self.venue, reply.body), mono_ns()
        return self._modes

    async def _read_settings(self) -> None:
        if mono_ns() - self._settings_mono_ns > SETTINGS_EVERY_NS:
            reply = await self._signed("GET", "/fapi/v1/symbolConfig", weight=5)
            self._settings |= account_settings.parse_settings(self.venue, reply.body, self.odd_rows)
            self._settings_mono_ns = mono_ns()

    def forget_settings(self) -> None:
        """The venue says that modes or leverage have changed: they are read before the next answer."""
        self._modes, self._settings_mono_ns = None, 0

    async def apply_account_settings(self, symbols_: Sequence[str], leverage: Decimal) -> None:
        """See the base class; the last readings decide whether anything is set."""
        await self._apply_modes()
        await self._read_settings()
        for symbol, sets_mode, sets_leverage in account_settings.to_set(symbols_, self._settings, leverage):
            try:
                if sets_mode:
                    await self._set("/fapi/v1/marginType", f"symbol={symbol}&marginType={account_settings.ISOLATED}")
                if sets_leverage:
                    await self._set("/fapi/v1/leverage", f"symbol={symbol}&leverage={plain(leverage)}")
            except RateLimited:
                raise
            except VenueRejected as refused:
                if refused.api_code not in account_settings.UNKNOWN_CONTRACT:
                    raise account_settings.wrong_leverage(self.venue, symbol, leverage, refused) from refused
            self._settings[symbol] = ContractSettings(leverage, True)

    async def _set(self, path: str, query: str) -> None:
        """A setting; one that stands so already is no fault."""
        try:
            await self._signed("POST", path, query)
        except VenueRejected as refused:
            if refused.api_code not in account_settings.UNCHANGED:
                raise

    async def _apply_modes(self) -> None:
        """One position a contract, margin in the coin that it settles in."""
        modes = await self._read_modes()
        wanted = []
        if modes.dualSidePosition:
            wanted.append(("/fapi/v1/positionSide/dual", "dualSidePosition=false"))
        if modes.multiAssetsMargin:
            wanted.append(("/fapi/v1/multiAssetsMargin", "multiAssetsMargin=false"))
        try:
            for path, query in wanted:
                await self._set(path, query)
        except RateLimited:
            raise
        except VenueRejected as refused:
            fix = account_settings.FIX_DUAL if modes.dualSidePosition else account_settings.FIX_ASSETS
            text = f"{self.venue}: account modes cannot be set: {refused}; fix: {fix}"
            raise AccountSettingsWrong(text, venue=self.venue) from refused
        if wanted:
            self._modes = None
        account_settings.check_modes(self.venue, await self._read_modes())

    async def add_margin(self, symbol: str, amount: Decimal) -> None:
        """POST /fapi/v1/positionMargin; positions are read afterwards."""
        query = f"symbol={symbol}&amount={plain(amount)}&type={ADD_MARGIN}"
        await self._signed("POST", "/fapi/v1/positionMargin", query)

    # --- listen key: made, kept and ended by the key's name alone, unsigned ---

    async def listen_key(self) -> str:
        """The account's key of the user stream, good for 60 minutes from now; the living one where there is one."""
        return decode(_listen_key, await self._keyed("POST", LISTEN_KEY), self.venue, "listenKey").listenKey

    async def renew_listen_key(self) -> None:
        """Another 60 minutes. Raises ``OrderNotFound`` (-1125) where the key is gone."""
        await self._keyed("PUT", LISTEN_KEY)
