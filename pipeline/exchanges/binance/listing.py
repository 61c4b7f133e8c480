"""What Binance lists, and what ``apiRestrictions`` tells of a key.

*Source:* Binance spot REST API and USDⓈ-M futures API: exchange information, 24hr ticker; wallet API:
/sapi/v1/account/apiRestrictions.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.exchanges.listing import Listing, PublicQuestion
from pipeline.exchanges.parsing.rows import OddRows, Rows, any_row
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, maybe_number
from pipeline.model.structs import KeyRights

_TRADING = "TRADING"
_PERPETUAL = ("", "PERPETUAL")


class _Row(msgspec.Struct):
    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    isSpotTradingAllowed: bool = True
    contractType: str = ""


class _Info(msgspec.Struct):
    symbols: msgspec.Raw


class _Day(msgspec.Struct):
    symbol: str
    quoteVolume: Maybe = ABSENT


class _Restrictions(msgspec.Struct):
    ipRestrict: bool | None = None
    enableWithdrawals: bool | None = None
    enableSpotAndMarginTrading: bool | None = None


_info = msgspec.json.Decoder(_Info)
_rows = Rows(_Row)
_days = Rows(_Day, or_one=True)
_restrictions = msgspec.json.Decoder(_Restrictions)


def parse_symbols(venue: str, payload: bytes, odd: OddRows) -> list[tuple[str, str, str]]:
    """GET /api/v3/exchangeInfo, /fapi/v1/exchangeInfo: what trades; of contracts the perpetual ones."""

    def one(row: _Row) -> tuple[str, str, str] | None:
        trades = row.status == _TRADING and row.isSpotTradingAllowed and row.contractType in _PERPETUAL
        return (row.symbol, row.baseAsset, row.quoteAsset) if trades else None

    rows = bytes(decode(_info, payload, venue, "exchangeInfo").symbols)
    return [row for row in _rows.read(rows, venue, "exchangeInfo", one, odd=odd, foreign=any_row) if row]


def parse_volumes(venue: str, payload: bytes, odd: OddRows) -> dict[str, Decimal]:
    """GET /api/v3/ticker/24hr, /fapi/v1/ticker/24hr: ``quoteVolume`` by symbol."""

    def one(row: _Day) -> tuple[str, Decimal | None]:
        return row.symbol, maybe_number(row.quoteVolume, venue)

    found = _days.read(payload, venue, "ticker/24hr", one, odd=odd, foreign=any_row)
    return {symbol: volume for symbol, volume in found if volume is not None}


def parse_key_rights(venue: str, payload: bytes) -> KeyRights:
    """GET /sapi/v1/account/apiRestrictions: ``{"ipRestrict":true,"enableWithdrawals":false,
    "enableSpotAndMarginTrading":true,…}``."""
    row = decode(_restrictions, payload, venue, "apiRestrictions")
    return KeyRights(trade=row.enableSpotAndMarginTrading, withdraw=row.enableWithdrawals, ip_bound=row.ipRestrict)


LISTINGS = {
    "spot": Listing(
        symbols=PublicQuestion("/api/v3/exchangeInfo", 20),
        parse_symbols=parse_symbols,
        volumes=PublicQuestion("/api/v3/ticker/24hr", 80),
        parse_volumes=parse_volumes,
    ),
    "futures": Listing(
        symbols=PublicQuestion("/fapi/v1/exchangeInfo"),
        parse_symbols=parse_symbols,
        volumes=PublicQuestion("/fapi/v1/ticker/24hr", 40),
        parse_volumes=parse_volumes,
    ),
}
