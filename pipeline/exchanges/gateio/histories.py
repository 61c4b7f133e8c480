"""Gate.io's lists of what happened to an account without an order of its client. Sans-I/O.

GET /spot/account_book and GET /futures/usdt/account_book have a row for every change of the balance, orders included::

    [{"id":"123","time":1547633726123,"currency":"BTC","change":"1.03","balance":"4.59316525194","type":"deposit",
      "code":"501","text":""}]
    [{"time":1682294400.123456,"change":"-250","balance":"4.59","text":"","type":"dnw","contract":"","id":"17"}]

GET /futures/usdt/liquidates and .../auto_deleverages list what the venue closed, with the order's id: the text of such
an order alone is no proof of how it came.

*Source:* Gate.io API v4, "Query account book", "List liquidation history", "List
Auto-Deleveraging History"; types of rows as ccxt's gate lists them (4.5.90).
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from pipeline.exchanges.parsing.rows import Fields, OddRows, Rows, not_of_assets, not_of_symbols
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, maybe_number, number
from pipeline.model.errors import ProtocolViolation
from pipeline.model.structs import ZERO, ForcedClose, MoneyMove

#: Rows that orders cause: their fills tell the same.
ORDER_TYPES = frozenset({"new_order", "cancel_order", "order_fill", "order_fee", "point_fee"})
ORDER_CODES = frozenset({"101", "102", "103", "151"})
#: The same of futures, with funding, which is asked for by itself, and points, which are another balance.
FUTURES_ORDER_TYPES = frozenset({"pnl", "fee", "fund", "point_fee", "point_dnw", "point_refr"})
FUTURES_TRANSFER = "dnw"
SETTLED_IN = "USDT"
CAUSES = {"liquidates": "liquidation", "auto_deleverages": "adl"}


class _Booking(msgspec.Struct):
    time: Maybe
    change: Maybe
    currency: str = SETTLED_IN
    balance: str = ""
    type: str = ""
    code: str = ""
    id: int | str = ""


class _Forced(msgspec.Struct):
    time: Maybe
    contract: str
    order_id: int | str = ""
    fill_price: Maybe = ABSENT


_bookings = Rows(_Booking, of="currency")
_forced = Rows(_Forced, of="contract")


def parse_spot_moves(
    venue: str, payload: bytes, symbols: Collection[str] | None = None, odd: OddRows | None = None
) -> tuple[list[MoneyMove], int]:
    """GET /spot/account_book: (what no order moved, number of rows).

    A row that cannot be read is left out where it is an order's, or of a coin that none of ``symbols`` has; another one
    voids the answer, as every one does without ``symbols``.
    """

    def one(row: _Booking) -> MoneyMove | None:
        if row.type in ORDER_TYPES or row.code in ORDER_CODES:
            return None
        return _move(venue, row, row.type or f"code {row.code}", 1)

    foreign = None if symbols is None else not_of_assets(symbols, "currency")

    def not_ours(fields: Fields) -> bool:
        of_order = _is_one_of(ORDER_TYPES, fields.get("type")) or _is_one_of(ORDER_CODES, fields.get("code"))
        return of_order or (foreign is not None and foreign(fields))

    rows, count = _bookings.read_page(
        payload, venue, "spot/account_book", one, odd=odd, foreign=None if foreign is None else not_ours
    )
    return [row for row in rows if row is not None], count


def parse_futures_moves(
    venue: str, payload: bytes, symbols: Collection[str] | None = None, odd: OddRows | None = None
) -> tuple[list[MoneyMove], int]:
    """GET /futures/usdt/account_book: (what neither orders nor funding moved, number of rows). All are of one coin: a
    row that cannot be read is left out, with ``symbols``, only where it is an order's or funding."""
    words = {FUTURES_TRANSFER: "transfer"}

    def one(row: _Booking) -> MoneyMove | None:
        return None if row.type in FUTURES_ORDER_TYPES else _move(venue, row, words.get(row.type, row.type), 1000)

    def not_ours(fields: Fields) -> bool:
        return _is_one_of(FUTURES_ORDER_TYPES, fields.get("type"))

    rows, count = _bookings.read_page(
        payload, venue, "futures/usdt/account_book", one, odd=odd, foreign=None if symbols is None else not_ours
    )
    return [row for row in rows if row is not None], count


def parse_forced(
    venue: str, payload: bytes, listed_in: str, symbols: Collection[str] | None = None, odd: OddRows | None = None
) -> list[ForcedClose]:
    """GET /futures/usdt/``listed_in``: "liquidates" or "auto_deleverages". A row that cannot be read is left out where
    its contract is none of ``symbols``."""

    def one(row: _Forced) -> ForcedClose:
        return ForcedClose(
            venue=venue,
            symbol=row.contract,
            order_id=str(row.order_id),
            cause=CAUSES[listed_in],
            price=maybe_number(row.fill_price, venue) or ZERO,
            listed_in=listed_in,
            venue_wall_ms=_time_ms(venue, row.time, 1000),
        )

    foreign = None if symbols is None else not_of_symbols(symbols, "contract")
    return _forced.read(payload, venue, listed_in, one, odd=odd, foreign=foreign)


def _is_one_of(words: frozenset[str], value: object) -> bool:
    return isinstance(value, str) and value in words


def _move(venue: str, row: _Booking, reason: str, time_unit_ms: int) -> MoneyMove:
    at_ms = _time_ms(venue, row.time, time_unit_ms)
    amount = maybe_number(row.change, venue)
    if amount is None:
        raise ProtocolViolation(f"{venue}: account_book: a row without its change", venue=venue)
    return MoneyMove(
        venue=venue,
        asset=row.currency,
        amount=number(amount, venue),
        reason=reason,
        listed_in="account_book",
        event_id=str(row.id) or f"{at_ms}:{amount}:{row.balance}",
        venue_wall_ms=at_ms,
    )


def _time_ms(venue: str, raw: msgspec.Raw, unit_ms: int) -> int:
    time = maybe_number(raw, venue)
    if time is None:
        raise ProtocolViolation(f"{venue}: a row of an account's history without its time", venue=venue)
    return int(time * unit_ms)
