"""Binance REST clients: that of spot here, that of USDⓈ-M in ``futures_client.py``.

*Source:* Binance spot REST API: market data, trading, limits; wallet API.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.exchanges.binance import account, histories, orders, symbols
from pipeline.exchanges.binance.futures_client import BinanceFuturesClient
from pipeline.exchanges.binance.listing import parse_key_rights
from pipeline.exchanges.binance.market_client import BinanceClient
from pipeline.exchanges.parsing.announced_ends import AnnouncedEnds, Ends
from pipeline.exchanges.parsing.coin_networks import parse_capital_config
from pipeline.exchanges.parsing.rows import OddRows
from pipeline.exchanges.rest_client import FeeCoinCall
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.errors import OrderNotFound
from pipeline.model.structs import (
    CoinIdentity,
    Credentials,
    FeeSchedule,
    InstrumentSpec,
    KeyRights,
    MoneyMove,
    OrderUpdate,
    Position,
)

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig


class BinanceSpotClient(BinanceClient):
    """:class:`VenueClient` of Binance spot."""

    fee_coin_call = FeeCoinCall(account.FEE_COIN, "/sapi/v1/bnbBurn", "spotBNBBurn=true")

    def __init__(self, venue: VenueConfig, credentials: Credentials | None) -> None:
        super().__init__(venue, credentials)
        self._ends = AnnouncedEnds()
        self._begins = AnnouncedEnds()

    async def instruments(self, symbols_: Sequence[str]) -> list[InstrumentSpec]:
        self.symbols.update(symbols_)
        info = await self._public(self.calls.info.path, weight=self.calls.info.weight)
        fees: dict[str, FeeSchedule] = {}
        coins: dict[str, CoinIdentity] = {}
        if self.has_credentials:
            fees = {fee.symbol: fee for fee in await self.fees(symbols_)}
            reply = await self._signed("GET", "/sapi/v1/capital/config/getall", weight=10)
            coins = symbols.parse_coins(self.venue, reply.body, self.odd_rows)
            self.coin_networks = parse_capital_config(self.venue, reply.body, OddRows())  # odd rows are counted above
        quotes = await self._public("/api/v3/ticker/bookTicker", weight=4)
        return symbols.parse_instruments(
            self.venue,
            "spot",
            info.body,
            symbols_,
            fees=fees,
            coins=coins,
            prices=symbols.parse_prices(self.venue, quotes.body, self.odd_rows),
            odd=self.odd_rows,
            ends=self._ends.known,
            begins=self._begins.known,
        )

    async def read_ends(self, symbols_: Sequence[str]) -> None:
        self.symbols.update(symbols_)
        if self.has_credentials:  # only a key may read it
            await self._ends.read(self._ask_ends)
            await self._begins.read(self._ask_begins)

    async def _ask_ends(self) -> Ends:
        """Announced delistings of spot."""
        reply = await self._signed("GET", "/sapi/v1/spot/delist-schedule", weight=100)
        return symbols.parse_ends(self.venue, reply.body, self.symbols, self.odd_rows)

    async def _ask_begins(self) -> Ends:
        """Announced listings of spot."""
        body = await self._keyed("GET", "/sapi/v1/spot/open-symbol-list", weight=100)
        return symbols.parse_begins(self.venue, body, self.symbols, self.odd_rows)

    @property
    def ends_fault(self) -> str:
        return self._ends.fault or (self._begins.fault and f"listings: {self._begins.fault}")

    async def positions(self) -> list[Position]:
        return []

    async def fee_switch(self) -> FeeSwitch | None:
        if not self.has_credentials:
            return None
        return account.parse_fee_switch(self.venue, "spot", (await self._signed("GET", "/sapi/v1/bnbBurn")).body)

    async def key_rights(self) -> KeyRights:
        return parse_key_rights(self.venue, (await self._signed("GET", "/sapi/v1/account/apiRestrictions")).body)

    async def money_moves(self, since_wall_ms: int) -> list[MoneyMove]:
        """Deposits, withdrawals, transfers to and from USDⓈ-M."""
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

    async def cancel_all(self, symbol: str) -> list[OrderUpdate]:
        try:
            reply = await self._signed("DELETE", self.calls.cancel_all.path, f"symbol={symbol}", bucket="cancel")
        except OrderNotFound:
            return []
        return orders.parse_orders(self.venue, reply.body, reply.recv_mono_ns, self.odd_rows)


def make_client(venue: VenueConfig, credentials: Credentials | None) -> BinanceClient:
    """REST client of one market; ``credentials`` None: public requests alone."""
    if venue.market == "futures":
        return BinanceFuturesClient(venue, credentials)
    return BinanceSpotClient(venue, credentials)
