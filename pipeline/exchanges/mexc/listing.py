"""What MEXC lists.

MEXC tells nothing of a key's rights: ``canWithdraw`` of its account is the account's.

*Source:* MEXC spot v3: exchange information, 24hr ticker.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.exchanges.listing import Listing, PublicQuestion
from pipeline.exchanges.parsing.rows import OddRows, Rows, any_row
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, maybe_number
from pipeline.model.structs import ZERO

_STATUS_ONLINE = ("1", "ENABLED")
BOTH_SIDES = "1"


class _Row(msgspec.Struct):
    symbol: str
    status: str | int
    baseAsset: str
    quoteAsset: str
    isSpotTradingAllowed: bool = True
    tradeSideType: int | str = 1


class _Info(msgspec.Struct):
    symbols: msgspec.Raw


class _Day(msgspec.Struct):
    symbol: str
    quoteVolume: Maybe = ABSENT


_info = msgspec.json.Decoder(_Info)
_rows = Rows(_Row)
_days = Rows(_Day, or_one=True)


def parse_symbols(venue: str, payload: bytes, odd: OddRows) -> list[tuple[str, str, str]]:
    """GET /exchangeInfo: symbols that trade on both sides."""

    def one(row: _Row) -> tuple[str, str, str] | None:
        trades = str(row.status) in _STATUS_ONLINE and row.isSpotTradingAllowed and str(row.tradeSideType) == BOTH_SIDES
        return (row.symbol, row.baseAsset, row.quoteAsset) if trades else None

    rows = bytes(decode(_info, payload, venue, "exchangeInfo").symbols)
    return [row for row in _rows.read(rows, venue, "exchangeInfo", one, odd=odd, foreign=any_row) if row]


def parse_volumes(venue: str, payload: bytes, odd: OddRows) -> dict[str, Decimal]:
    """GET /ticker/24hr: ``[{"symbol":"BTCUSDT","quoteVolume":"123.4",…}]``; rows without a volume are left out."""

    def one(row: _Day) -> tuple[str, Decimal | None]:
        return row.symbol, maybe_number(row.quoteVolume, venue)

    found = _days.read(payload, venue, "ticker/24hr", one, odd=odd, foreign=any_row)
    return {symbol: volume for symbol, volume in found if volume is not None and volume >= ZERO}


LISTINGS = {
    "spot": Listing(
        symbols=PublicQuestion("/exchangeInfo", 10),
        parse_symbols=parse_symbols,
        volumes=PublicQuestion("/ticker/24hr", 40),
        parse_volumes=parse_volumes,
    )
}
