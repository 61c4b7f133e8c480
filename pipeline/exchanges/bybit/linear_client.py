"""Bybit REST client of USDT perpetuals: positions, modes, leverage, margin, funding, forced closes, tiers.

*Source:* Bybit V5 documentation: position, account, risk limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from pipeline.economics.margin import Tier
from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.bybit import account, account_settings, histories, symbols
from pipeline.exchanges.bybit.account_settings import ISOLATED
from pipeline.exchanges.bybit.errors import UNCHANGED
from pipeline.exchanges.bybit.listing import page_of
from pipeline.exchanges.bybit.market_client import BybitClient
from pipeline.exchanges.bybit.orders import SETTLED_IN
from pipeline.exchanges.parsing.rows import OwnRows
from pipeline.exchanges.parsing.venue_json import maybe_number
from pipeline.model.clock import mono_ns
from pipeline.model.errors import AccountSettingsWrong, RateLimited, VenueRejected
from pipeline.model.fixedpoint import plain
from pipeline.model.structs import Credentials, ForcedClose, Funding, FundingTerms, Position

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

SETTINGS_EVERY_NS = 5 * 1_000_000_000
CONTRACT_EVERY_NS = 1_000_000_000
POSITION_ROWS = 200


class BybitLinearClient(BybitClient):
    """:class:`VenueClient` of Bybit's USDT perpetuals.

    There is no dead-man timer for everybody: the venue's disconnect protection is set up for institutions by its own
    people, and watches sockets.
    """

    def __init__(self, venue: VenueConfig, credentials: Credentials | None) -> None:
        super().__init__(venue, credentials)
        self._info_mono_ns = 0
        self._leverages: dict[str, Decimal] = {}  # by contract, as last read or set
        self._read_mono_ns = mono_ns()  # when one that was known was read again
        self._turn = 0

    async def positions(self) -> list[Position]:
        own = self.own_rows()
        found = await self._positions(f"settleCoin={SETTLED_IN}", own)
        return self.whole([position for position in found if position.qty != 0], own)

    async def _positions(self, query: str, own: OwnRows | None = None) -> list[Position]:
        """Rows, flat ones too where a symbol is asked for; what they say of leverage is kept."""

        def read(rows: bytes, reply: HttpReply) -> list[Position]:
            found = account.parse_positions(
                self.venue, rows, reply.recv_mono_ns, symbols=self.symbols, odd=own or self.odd_rows
            )
            for row, _ in found:
                leverage = maybe_number(row.leverage, self.venue)
                if leverage:
                    self._leverages[row.symbol] = leverage
            return [position for _, position in found]

        return await self._paged("/v5/position/list", f"category={self.category}&{query}&limit={POSITION_ROWS}", read)

    async def risk_tiers(self, symbol: str) -> tuple[Tier, ...]:
        reply = await self._public("/v5/market/risk-limit", f"category={self.category}&symbol={symbol}")
        rows = bytes(page_of(self.venue, reply.body, "risk-limit").list)
        return symbols.parse_risk_tiers(self.venue, symbol, rows)

    async def funding_terms(self, symbols_: Sequence[str]) -> dict[str, FundingTerms]:
        async def ask(name: str) -> dict[str, FundingTerms]:
            query = f"category={self.category}{'&symbol=' if name else ''}{name}"
            reply = await self._public("/v5/market/tickers", query)
            quotes = symbols.parse_quotes(self.venue, reply.body, self.odd_rows)
            return {
                symbol: FundingTerms(round(quote.rate * 1_000_000_000), quote.next_funding_ms // 1000)
                for symbol, quote in quotes.items()
            }

        return await self.terms_by_name(symbols_, ask)

    # --- what happened without an order of ours ---

    async def funding(self, since_wall_ms: int) -> list[Funding]:
        rows = await self._log(since_wall_ms, f"&category={self.category}&type={histories.FUNDING}")
        return [row for row in rows if isinstance(row, Funding)]

    async def forced_closes(self, since_wall_ms: int) -> list[ForcedClose]:
        own = self.own_rows()
        found: list[ForcedClose] = []
        for kind in histories.CAUSES:
            rows = await self._executions(f"execType={kind}&", since_wall_ms, own)
            found += histories.forced_closes(self.venue, (row for row, _ in rows))
        since_ms = self.since_ms(since_wall_ms)
        return self.whole([row for row in found if row.venue_wall_ms >= since_ms], own)

    # --- modes, leverage, margin ---

    async def apply_account_settings(self, symbols_: Sequence[str], leverage: Decimal) -> None:
        """See the base class. Modes are read every five seconds; a contract's leverage with its position, and one more
        each second: somebody may have changed it."""
        self._check_wallet()
        await self._apply_margin_mode()
        for symbol in [one for one in symbols_ if one not in self._leverages] or self._next_contract(symbols_):
            await self._read_contract(symbol)
        for symbol in account_settings.to_set(symbols_, self._leverages, leverage):
            text = plain(leverage)
            body = f'{{"category":"linear","symbol":"{symbol}","buyLeverage":"{text}","sellLeverage":"{text}"}}'
            try:
                await self._set("/v5/position/set-leverage", body.encode())
            except RateLimited:
                raise
            except VenueRejected as refused:
                raise account_settings.wrong_leverage(self.venue, symbol, leverage, refused) from refused
            self._leverages[symbol] = leverage

    def _next_contract(self, symbols_: Sequence[str]) -> list[str]:
        """The contract whose turn it is; none within a second of the one before."""
        if not symbols_ or mono_ns() - self._read_mono_ns <= CONTRACT_EVERY_NS:
            return []
        self._read_mono_ns, self._turn = mono_ns(), self._turn + 1
        return [symbols_[self._turn % len(symbols_)]]

    async def _read_contract(self, symbol: str) -> None:
        """Leverage of one contract, brought into one-way mode where it is not. One that the venue does not list is not
        traded anyway."""
        try:
            await self._positions(f"symbol={symbol}")
        except AccountSettingsWrong:
            body = f'{{"category":"linear","coin":"{SETTLED_IN}","mode":0}}'.encode()
            try:
                await self._set("/v5/position/switch-mode", body)
            except RateLimited:
                raise
            except VenueRejected as refused:
                raise account_settings.wrong_mode(self.venue, "hedge", refused) from refused
            await self._positions(f"symbol={symbol}")
        except RateLimited:
            raise
        except VenueRejected:
            return

    async def _apply_margin_mode(self) -> None:
        """A unified account under isolated margin."""
        if self._info_mono_ns and mono_ns() - self._info_mono_ns <= SETTINGS_EVERY_NS:
            return
        info = account_settings.parse_info(self.venue, (await self._asked("/v5/account/info"))[0])
        account_settings.check_unified(self.venue, info)
        if info.marginMode != ISOLATED:
            try:
                body = f'{{"setMarginMode":"{ISOLATED}"}}'.encode()
                await self._set("/v5/account/set-margin-mode", body)
            except RateLimited:
                raise
            except VenueRejected as refused:
                raise account_settings.wrong_margin(self.venue, info.marginMode, refused) from refused
            info = account_settings.parse_info(self.venue, (await self._asked("/v5/account/info"))[0])
            if info.marginMode != ISOLATED:
                raise account_settings.wrong_margin(self.venue, info.marginMode)
        self._info_mono_ns = mono_ns()

    async def _set(self, path: str, body: bytes) -> None:
        """A setting; one that stands so already is no fault."""
        try:
            await self._posted(path, body)
        except VenueRejected as refused:
            if refused.api_code not in UNCHANGED:
                raise

    async def add_margin(self, symbol: str, amount: Decimal) -> None:
        """POST /v5/position/add-margin; positions are read afterwards."""
        body = f'{{"category":"linear","symbol":"{symbol}","margin":"{plain(amount)}"}}'.encode()
        await self._posted("/v5/position/add-margin", body)
