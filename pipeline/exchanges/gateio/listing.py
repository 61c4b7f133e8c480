"""What Gate.io lists, and what ``/account/detail`` tells of a key.

*Source:* Gate.io API v4: spot currency pairs and tickers, futures contracts and tickers, account detail.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.exchanges.listing import Listing, PublicQuestion
from pipeline.exchanges.parsing.rows import OddRows, Rows, any_row
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, maybe_number
from pipeline.model.structs import KeyRights

_FUTURES = "/futures/usdt"


class _Pair(msgspec.Struct):
    id: str
    base: str
    quote: str
    trade_status: str
    type: str = "normal"


class _Contract(msgspec.Struct):
    name: str
    type: str = "direct"
    status: str = "trading"
    in_delisting: bool = False


class _SpotDay(msgspec.Struct):
    currency_pair: str
    quote_volume: Maybe = ABSENT


class _FuturesDay(msgspec.Struct):
    contract: str
    volume_24h_quote: Maybe = ABSENT


class _Detail(msgspec.Struct):
    ip_whitelist: list[str] | None = None


_pairs = Rows(_Pair)
_contracts = Rows(_Contract)
_spot_days = Rows(_SpotDay)
_futures_days = Rows(_FuturesDay)
_detail = msgspec.json.Decoder(_Detail)


def parse_spot_symbols(venue: str, payload: bytes, odd: OddRows) -> list[tuple[str, str, str]]:
    """GET /spot/currency_pairs: pairs that trade on both sides."""

    def one(row: _Pair) -> tuple[str, str, str] | None:
        return (row.id, row.base, row.quote) if row.trade_status == "tradable" and row.type == "normal" else None

    return [row for row in _pairs.read(payload, venue, "currency_pairs", one, odd=odd, foreign=any_row) if row]


def parse_futures_symbols(venue: str, payload: bytes, odd: OddRows) -> list[tuple[str, str, str]]:
    """GET /futures/usdt/contracts: contracts that trade and have no end announced."""

    def one(row: _Contract) -> tuple[str, str, str] | None:
        base, separator, quote = row.name.partition("_")
        trades = row.status == "trading" and row.type == "direct" and not row.in_delisting
        return (row.name, base, quote) if separator and trades else None

    return [row for row in _contracts.read(payload, venue, "contracts", one, odd=odd, foreign=any_row) if row]


def parse_spot_volumes(venue: str, payload: bytes, odd: OddRows) -> dict[str, Decimal]:
    """GET /spot/tickers: ``quote_volume`` by pair."""

    def one(row: _SpotDay) -> tuple[str, Decimal | None]:
        return row.currency_pair, maybe_number(row.quote_volume, venue)

    found = _spot_days.read(payload, venue, "spot/tickers", one, odd=odd, foreign=any_row)
    return {symbol: volume for symbol, volume in found if volume is not None}


def parse_futures_volumes(venue: str, payload: bytes, odd: OddRows) -> dict[str, Decimal]:
    """GET /futures/usdt/tickers: ``volume_24h_quote`` by contract."""

    def one(row: _FuturesDay) -> tuple[str, Decimal | None]:
        return row.contract, maybe_number(row.volume_24h_quote, venue)

    found = _futures_days.read(payload, venue, "futures/tickers", one, odd=odd, foreign=any_row)
    return {symbol: volume for symbol, volume in found if volume is not None}


def parse_key_rights(venue: str, payload: bytes) -> KeyRights:
    """GET /account/detail: ``{"user_id":1667201533,"ip_whitelist":["127.0.0.1"],"key":{"mode":1},…}``.

    It tells the addresses that the key is bound to, and no right; no other endpoint names the right to withdraw.
    """
    addresses = decode(_detail, payload, venue, "account/detail").ip_whitelist
    return KeyRights(ip_bound=None if addresses is None else bool(addresses))


LISTINGS = {
    "spot": Listing(
        symbols=PublicQuestion("/spot/currency_pairs"),
        parse_symbols=parse_spot_symbols,
        volumes=PublicQuestion("/spot/tickers"),
        parse_volumes=parse_spot_volumes,
    ),
    "futures": Listing(
        symbols=PublicQuestion(f"{_FUTURES}/contracts"),
        parse_symbols=parse_futures_symbols,
        volumes=PublicQuestion(f"{_FUTURES}/tickers"),
        parse_volumes=parse_futures_volumes,
    ),
}
