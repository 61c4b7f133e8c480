"""What Bybit lists: symbols that trade, and what they traded in 24 h.

*Source:* Bybit V5 documentation: instruments info, tickers.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.exchanges.listing import Listing, PublicQuestion
from pipeline.exchanges.parsing.rows import OddRows, Rows, any_row
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, maybe_number
from pipeline.model.structs import KeyRights

CATEGORY = {"spot": "spot", "futures": "linear"}
PERPETUAL = ("", "LinearPerpetual")
SETTLED_IN = ("", "USDT")  # linear has contracts settled in USDC as well
PAGE_ROWS_MAX = 1000
TRADING = frozenset({"SpotTrade", "Order"})
WITHDRAW = "Withdraw"


class _Row(msgspec.Struct):
    symbol: str
    status: str
    baseCoin: str
    quoteCoin: str
    contractType: str = ""
    settleCoin: str = ""
    deliveryTime: str = "0"


class _Day(msgspec.Struct):
    symbol: str
    turnover24h: Maybe = ABSENT


class Page(msgspec.Struct):
    """``result`` of a list: its rows, and where the next page begins ("" for none)."""

    list: msgspec.Raw
    nextPageCursor: str = ""


class _Reply(msgspec.Struct):
    result: Page


class _Key(msgspec.Struct):
    readOnly: int | None = None
    permissions: dict[str, list[str]] | None = None
    ips: list[str] | None = None


_key = msgspec.json.Decoder(_Key)
_reply = msgspec.json.Decoder(_Reply)
_rows = Rows(_Row)
_days = Rows(_Day)


def page_of(venue: str, payload: bytes, what: str) -> Page:
    """The page in a reply. Raises ``ProtocolViolation``."""
    return decode(_reply, payload, venue, what).result


def parse_symbols(venue: str, payload: bytes, odd: OddRows) -> list[tuple[str, str, str]]:
    """GET /v5/market/instruments-info: what trades; of contracts the perpetual ones settled in USDT without an end."""

    def one(row: _Row) -> tuple[str, str, str] | None:
        kind = row.contractType in PERPETUAL and row.settleCoin in SETTLED_IN and row.deliveryTime in ("", "0")
        return (row.symbol, row.baseCoin, row.quoteCoin) if row.status == "Trading" and kind else None

    rows = bytes(page_of(venue, payload, "instruments-info").list)
    return [row for row in _rows.read(rows, venue, "instruments-info", one, odd=odd, foreign=any_row) if row]


def parse_volumes(venue: str, payload: bytes, odd: OddRows) -> dict[str, Decimal]:
    """GET /v5/market/tickers: ``turnover24h`` (quote) by symbol."""

    def one(row: _Day) -> tuple[str, Decimal | None]:
        return row.symbol, maybe_number(row.turnover24h, venue)

    found = _days.read(bytes(page_of(venue, payload, "tickers").list), venue, "tickers", one, odd=odd, foreign=any_row)
    return {symbol: volume for symbol, volume in found if volume is not None}


def parse_key_rights(venue: str, result: bytes) -> KeyRights:
    """``result`` of GET /v5/user/query-api: ``{"readOnly":0,"permissions":{"Spot":["SpotTrade"],"Wallet":[…]},
    "ips":["*"], …}``. ``*``: the key is bound to no address, and dies after 90 days."""
    key = decode(_key, result, venue, "query-api")
    rights = {right for rows in (key.permissions or {}).values() for right in rows}
    known = key.permissions is not None
    return KeyRights(
        trade=None if key.readOnly is None or not known else key.readOnly == 0 and bool(rights & TRADING),
        withdraw=WITHDRAW in rights if known else None,
        ip_bound=None if key.ips is None else bool(key.ips) and "*" not in key.ips,
    )


LISTINGS = {
    market: Listing(
        symbols=PublicQuestion(f"/v5/market/instruments-info?category={category}&limit={PAGE_ROWS_MAX}"),
        parse_symbols=parse_symbols,
        volumes=PublicQuestion(f"/v5/market/tickers?category={category}"),
        parse_volumes=parse_volumes,
    )
    for market, category in CATEGORY.items()
}
