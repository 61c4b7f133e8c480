"""Names of coins, pairs and places, as users of the package write them."""

from __future__ import annotations

from arbitrage.exchange_names import ExchangeName
from pipeline.model.enums import OpportunityType, OrderSide
from pipeline.model.errors import BadInput

AssetName = str


class Symbol(str):
    """A pair by its canonical name: ``Symbol("BTC/USDT")`` or ``Symbol("BTC", "USDT")``; a text like any other.

    ``is_futures``: the perpetual contract of the pair, wherever an exchange is named and not one of its venues or
    markets.
    """

    is_futures: bool

    def __new__(cls, base: str, quote: str = "", is_futures: bool = False) -> Symbol:
        """Raises BadInput for what is no pair."""
        text = f"{base}/{quote}" if quote else base
        coin, slash, other = text.upper().partition("/")
        if not (coin and slash and other) or "/" in other:
            raise BadInput(f"symbol: found {text!r}, wanted BASE/QUOTE, as Symbol('BTC/USDT') or Symbol('BTC', 'USDT')")
        made = super().__new__(cls, f"{coin}/{other}")
        made.is_futures = is_futures
        return made

    @property
    def base(self) -> str:
        """The coin that is bought and sold."""
        return self.partition("/")[0]

    @property
    def quote(self) -> str:
        """The coin that it is paid in."""
        return self.partition("/")[2]


def is_futures(symbol: str) -> bool:
    """Whether a symbol says that the perpetual contract is meant; a plain text never does."""
    return isinstance(symbol, Symbol) and symbol.is_futures


def market_name(symbol: str, market: str = "") -> str:
    """The market of an exchange that is meant: ``market`` itself where it is named, else that of the symbol."""
    return market or ("futures" if is_futures(symbol) else "spot")


def venue_name(place: str, kind: OpportunityType, side: OrderSide, symbol: str = "") -> str:
    """The venue that is meant: ``place`` itself (``"mexc_spot"``), or of an exchange (``ExchangeName.MEXC``) the market
    of the symbol; in a spot-futures hedge what is sold is its futures market whatever the symbol."""
    if place not in {name.value for name in ExchangeName}:
        return str(place)
    sold_short = kind is OpportunityType.SPOT_FUTURES_HEDGE and side is OrderSide.SELL
    return f"{place}_{'futures' if sold_short else market_name(symbol)}"
