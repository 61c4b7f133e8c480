"""Exchanges as a user hands them to the engine: which, where, which symbols, with which key.

These objects hold no connection of the engine's: books are read and orders are sent by processes of their own, which
get endpoints by the configuration and keys in sealed memory. What an object asks by itself is asked of the venue then.
An object of another library cannot run in those processes and is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, ClassVar, TypeVar

import msgspec

from arbitrage.direct.sharing import shared
from arbitrage.exchange_names import ExchangeName
from arbitrage.names import Symbol, is_futures, market_name
from pipeline.exchanges.base import VenueClient
from pipeline.exchanges.factory import make_venue
from pipeline.market_data import BookSnapshot
from pipeline.model.config import EngineConfig, ExchangeConfig, MarketConfig, VenueConfig
from pipeline.model.dialects import dialect_names, facts_of
from pipeline.model.errors import BadInput, ConfigInvalid
from pipeline.model.structs import Balance, Credentials, OrderUpdate, Position

SYMBOLS = (Symbol("BTC/USDT"), Symbol("ETH/USDT"))
BookSource = Callable[[str, str], BookSnapshot]  # (venue, pair) -> its newest book
Endpoints = Mapping[str, Mapping[str, Any]]  # market -> rest, ws, ws_private, ws_api, symbols


class _Exchange:
    """What every exchange object has. ``endpoints``: by market, in place of the exchange's own; a market that is left
    out is not used."""

    exchange_name: ClassVar[ExchangeName]
    default_markets: ClassVar[tuple[str, ...]] = ("spot",)

    def __init__(
        self,
        *,
        symbols: Sequence[str] | None = None,
        markets: Sequence[str] | None = None,
        endpoints: Endpoints | None = None,
    ) -> None:
        """``symbols``: pairs (``Symbol("BTC/USDT")``) or the venue's own names, for every market; futures symbols for
        the futures alone. Raises BadInput for a market that it does not have."""
        self.own_endpoints = endpoints is not None
        self._endpoints: Endpoints = endpoints or {}
        self._names_markets = endpoints is not None or markets is not None
        self._symbols = None if symbols is None else tuple(symbols)
        own = {name: dict(market.urls) for name, market in facts_of(self.exchange_name.value).markets.items()}
        known: Endpoints = own if endpoints is None else endpoints
        wanted = tuple(markets or (self.default_markets if endpoints is None else known))
        unknown = [market for market in wanted if market not in known]
        if unknown:
            raise BadInput(f"{self.exchange_name}: found market {unknown[0]!r}, wanted some of {', '.join(known)}")
        if "futures" not in wanted and (futures := [symbol for symbol in self._symbols or () if is_futures(symbol)]):
            raise BadInput(f"{self.exchange_name}: found {futures[0]} of the futures, wanted 'futures' among markets")
        usual = [self.spell(symbol) for symbol in SYMBOLS]
        self.markets: dict[str, dict[str, Any]] = {}
        for market in wanted:
            named = self._symbols_of(market)
            if named or not self._symbols:  # none is left where all that were named are futures
                own_symbols = list(known[market].get("symbols") or ()) or usual
                self.markets[market] = {**known[market], "symbols": own_symbols if named is None else named}

    def _symbols_of(self, market: str) -> list[str] | None:
        """The given symbols that belong to ``market``, in the venue's spelling; None where none were given."""
        if self._symbols is None:
            return None
        return [self.spell(symbol) for symbol in self._symbols if market == "futures" or not is_futures(symbol)]

    @classmethod
    def spell(cls, symbol: str) -> str:
        """The exchange's own name of a pair; a name without ``/`` is one already."""
        base, slash, quote = symbol.partition("/")
        market, *_ = facts_of(cls.exchange_name.value).markets.values()
        return market.spell(base, quote) if slash else symbol

    def section(self) -> dict[str, Any]:
        """This exchange in the configuration's section ``exchanges``."""
        return {"dialect": self.exchange_name.value, "markets": self.markets}

    def over(self, configured: Mapping[str, Any]) -> dict[str, Any]:
        """``configured``, this exchange's section, with the endpoints, markets and symbols that the object was given in
        place of its own; everything else stays as it is configured, the URLs and symbols that it does not name too."""
        known: Mapping[str, Any] = configured.get("markets") or {}
        markets: dict[str, dict[str, Any]] = {}
        for market in self.markets if self._names_markets or not known else known:
            mine, theirs = self.markets.get(market, {}), known.get(market, {})
            given = {key: value for key, value in self._endpoints.get(market, {}).items() if value}
            entry = {**theirs, **given} if theirs else dict(mine)
            named = self._symbols_of(market)
            markets[market] = entry if named is None else {**entry, "symbols": named}
        return {**self.section(), **configured, "markets": markets}

    def venue_config(self, market: str = "spot") -> VenueConfig:
        """The venue of one market. Raises BadInput for a market that is not used."""
        if market not in self.markets:
            raise BadInput(f"{self.exchange_name}: found market {market!r}, wanted some of {', '.join(self.markets)}")
        name = self.exchange_name.value
        entry = msgspec.convert(self.markets[market], MarketConfig)
        config = EngineConfig(exchanges={name: ExchangeConfig(dialect=name, markets={market: entry})})
        return config.venue(f"{name}_{market}")

    def _key(self) -> Credentials | None:
        return None

    async def _asked(self, market: str, question: Callable[[VenueClient], Any]) -> Any:
        """One question to the venue, on a connection of its own, within the budgets and silences of all processes."""
        venue = self.venue_config(market)
        with shared():
            client = make_venue(venue, self._key())
            try:
                return await question(client)
            finally:
                await client.close()

    async def get_server_time(self, market: str = "spot") -> int:
        """The venue's clock, unix ms. Raises a VenueError."""
        return int(await self._asked(market, lambda client: client.server_time_ms()))

    async def ping(self, market: str = "spot") -> float:
        """Milliseconds of one question for the venue's time, connection and all. Raises a VenueError."""
        began_ns = time.perf_counter_ns()
        await self.get_server_time(market)
        return (time.perf_counter_ns() - began_ns) / 1e6

    def __repr__(self) -> str:
        return f"{type(self).__name__}(markets={list(self.markets)})"

    __str__ = __repr__


class PublicExchangeInterface(_Exchange):
    """Market data of one exchange: the engine that it is handed to reads its books."""

    _books: BookSource | None = None

    def read_by(self, books: BookSource | None) -> None:
        """Where books come from while an engine runs."""
        self._books = books

    async def get_orderbook(self, symbol: str, limit: int = 20, market: str = "") -> BookSnapshot:
        """The newest book of the engine's feed, with the time since it was proved current; at most 20 levels a side.
        ``market``: "" is that of the symbol, here and in every method with a symbol.

        Raises BadInput where no running engine reads this exchange.
        """
        if self._books is None:
            raise BadInput(f"{self.exchange_name}: found no running engine that reads it, wanted one; see session()")
        found = self._books(f"{self.exchange_name}_{market_name(symbol, market)}", symbol)
        return msgspec.structs.replace(found, bids=found.bids[:limit], asks=found.asks[:limit])


class PrivateExchangeInterface(_Exchange):
    """One account: the engine that it is handed to trades with its key, which it never shows."""

    def __init__(self, *, api_key: str, secret_key: str, uid: str = "", **where: Any) -> None:
        """``where``: as of public exchanges. Raises ConfigInvalid without a key."""
        super().__init__(**where)
        if not api_key or not secret_key:
            raise ConfigInvalid([f"{self.exchange_name}: found no api_key or secret_key, wanted both"])
        self._credentials = Credentials(api_key=api_key, api_secret=secret_key, uid=uid)

    def _key(self) -> Credentials:
        return self._credentials

    def hand_over(self) -> Credentials:
        """The key, for sealed memory that leads to the engine's processes."""
        return self._credentials

    async def get_balances(self, market: str = "spot") -> dict[str, Balance]:
        """What the account holds, asked of the venue now, by asset. Raises a VenueError."""
        rows: list[Balance] = await self._asked(market, lambda client: client.balances())
        return {row.asset: row for row in rows}

    async def get_positions(self, market: str = "futures") -> list[Position]:
        """Open futures positions, asked of the venue now. Raises a VenueError."""
        rows: list[Position] = await self._asked(market, lambda client: client.positions())
        return rows

    async def get_open_orders(self, symbol: str, market: str = "") -> list[OrderUpdate]:
        """Orders that rest at the venue now, whoever placed them. Raises a VenueError."""
        place, wanted = market_name(symbol, market), self.spell(symbol)
        rows: list[OrderUpdate] = await self._asked(place, lambda client: client.open_orders(wanted))
        return rows

    async def get_order_status(
        self, symbol: str, client_id: str, order_id: str = "", market: str = ""
    ) -> OrderUpdate | None:
        """One order, asked of the venue now; None: not found, which does not prove that it never existed."""
        wanted = self.spell(symbol)
        found: OrderUpdate | None = await self._asked(
            market_name(symbol, market), lambda client: client.query_order(wanted, client_id, order_id)
        )
        return found

    async def get_trading_fees(self, symbols: Sequence[str], market: str = "") -> dict[str, tuple[Decimal, Decimal]]:
        """The account's (maker, taker) fees as fractions, by the venue's symbol. Raises a VenueError, and BadInput for
        symbols of several markets."""
        places = {market_name(symbol, market) for symbol in symbols} or {market or "spot"}
        if len(places) > 1:
            raise BadInput(f"symbols: found some of {' and '.join(sorted(places))}, wanted those of one market")
        wanted = [self.spell(symbol) for symbol in symbols]
        rows = await self._asked(places.pop(), lambda client: client.fees(wanted))
        million = Decimal(1_000_000)
        return {row.symbol: (row.maker_ppm / million, row.taker_ppm / million) for row in rows}


@cache
def public_class(dialect: str) -> type[PublicExchangeInterface]:
    """The class of a dialect's market data: spot, and with ``markets=("spot", "futures")`` both markets."""
    return _made(dialect, PublicExchangeInterface)


@cache
def private_class(dialect: str) -> type[PrivateExchangeInterface]:
    """The class of accounts at a dialect's exchange: one key for all of its markets."""
    return _made(dialect, PrivateExchangeInterface)


def _made(dialect: str, kind: type[_Made]) -> type[_Made]:
    fields = {"exchange_name": ExchangeName(dialect), "__doc__": kind.__doc__, "__module__": __name__}
    return type(f"{dialect.capitalize()}{_END[kind]}", (kind,), fields)


_Made = TypeVar("_Made", PublicExchangeInterface, PrivateExchangeInterface)
_END: dict[type[_Exchange], str] = {
    PublicExchangeInterface: "PublicExchange",
    PrivateExchangeInterface: "PrivateExchange",
}


def class_names() -> list[str]:
    """Names of the classes that this module has for the dialects, as ``XPublicExchange`` for the dialect ``x``."""
    return [f"{name.capitalize()}{end}" for name in dialect_names() for end in _END.values()]


def __getattr__(name: str) -> Any:
    for make, end in ((public_class, "PublicExchange"), (private_class, "PrivateExchange")):
        dialect = name.removesuffix(end).lower()
        if name.endswith(end) and dialect in dialect_names() and name == f"{dialect.capitalize()}{end}":
            return make(dialect)
    raise AttributeError(f"module {__name__!r} has no {name!r}; of exchanges it has {', '.join(class_names())}")


def _class_hint(exchange: str, side: str) -> str:
    return next((name for name in class_names() if name == f"{exchange.capitalize()}{side}Exchange"), class_names()[0])


def check_exchanges(given: Mapping[Any, Any] | None, kind: type[_Exchange], argument: str) -> dict[str, Any]:
    """The exchange objects by name. Raises BadInput that says which object cannot be used, and why."""
    found: dict[str, Any] = {}
    for key, value in (given or {}).items():
        where = f"{argument}[{getattr(key, 'name', key)}]"
        if not isinstance(value, kind):
            side = "Public" if kind is PublicExchangeInterface else "Private"
            raise BadInput(
                f"{where}: found {type(value).__module__}.{type(value).__qualname__}, wanted an exchange of "
                f"arbitrage.exchanges, as {_class_hint(str(key), side)}: books are read and orders are sent in "
                "processes of their own, where an object of another library cannot run"
            )
        if str(key) != value.exchange_name.value:
            raise BadInput(f"{where}: found an object of {value.exchange_name.value}, wanted one of {key}")
        found[str(key)] = value
    return found
