"""Binance USDⓈ-M lists of what happened to an account without an order of its client. Sans-I/O.

GET /fapi/v1/income has every change of the wallet, of orders too; a row is named by its type and ``tranId``::

    [{"symbol":"","incomeType":"TRANSFER","income":"-0.37500000","asset":"USDT","info":"TRANSFER",
      "time":1570608000000,"tranId":9689322392,"tradeId":""},
     {"symbol":"BTCUSDT","incomeType":"FUNDING_FEE","income":"-0.01000000","asset":"USDT","info":"FUNDING_FEE",
      "time":1570636800000,"tranId":9689322393,"tradeId":""}]

GET /fapi/v1/forceOrders?autoCloseType=LIQUIDATION or ADL lists the venue's own orders::

    [{"orderId":6071832819,"symbol":"BTCUSDT","status":"FILLED","clientOrderId":"autoclose-1596107620040000020",
      "price":"10871.09","avgPrice":"10913.21000","origQty":"0.001","executedQty":"0.001","side":"SELL",
      "time":1596107620044,"updateTime":1596107620087}]

*Source:* Binance USDⓈ-M futures API, account: get income history; trade: user's force orders (read 2026).
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from pipeline.exchanges.parsing.rows import Fields, OddRows, Rows, not_of_symbols
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, maybe_number, required_number
from pipeline.model.errors import ProtocolViolation
from pipeline.model.structs import ZERO, ForcedClose, Funding, MoneyMove

FUNDING = "FUNDING_FEE"
#: Rows that orders cause: their fills tell the same.
ORDER_TYPES = frozenset({"REALIZED_PNL", "COMMISSION"})
CAUSES = {"LIQUIDATION": "liquidation", "ADL": "adl"}
LISTED_IN = "forceOrders"


class Income(msgspec.Struct):
    """One row of the income list."""

    incomeType: str
    income: Maybe
    asset: str
    time: Maybe
    tranId: int | str
    symbol: str = ""


class _Forced(msgspec.Struct):
    orderId: int
    symbol: str
    time: Maybe
    avgPrice: Maybe = ABSENT


_incomes = Rows(Income, of="asset")
_forced = Rows(_Forced, of="symbol")


def parse_incomes(
    venue: str, payload: bytes, odd: OddRows | None = None
) -> tuple[list[tuple[int, Funding | MoneyMove | None]], int]:
    """(unix ms, what the row says; None for an order's) of each row that can be read, and how many rows there are. A
    row that cannot be read is left out where it is an order's."""

    def one(row: Income) -> tuple[int, Funding | MoneyMove | None]:
        at_ms = _time_ms(venue, row.time)
        if row.incomeType in ORDER_TYPES:
            return at_ms, None
        amount, event_id = required_number(row.income, venue), f"{row.incomeType}:{row.tranId}"
        if row.incomeType == FUNDING:
            funding = Funding(
                venue=venue, symbol=row.symbol, event_id=event_id, asset=row.asset, amount=amount, venue_wall_ms=at_ms
            )
            return at_ms, funding
        move = MoneyMove(
            venue=venue,
            asset=row.asset,
            amount=amount,
            reason=row.incomeType.lower(),
            listed_in="income",
            event_id=event_id,
            venue_wall_ms=at_ms,
        )
        return at_ms, move

    def foreign(fields: Fields) -> bool:
        kind = fields.get("incomeType")
        return isinstance(kind, str) and kind in ORDER_TYPES

    return _incomes.read_page(payload, venue, "income", one, odd=odd, foreign=foreign)


def parse_forced(
    venue: str, payload: bytes, kind: str, symbols: Collection[str] | None = None, odd: OddRows | None = None
) -> list[ForcedClose]:
    """Forced orders of ``kind`` (a key of ``CAUSES``). A row that cannot be read is left out where its contract is none
    of ``symbols``."""

    def one(row: _Forced) -> ForcedClose:
        return ForcedClose(
            venue=venue,
            symbol=row.symbol,
            order_id=str(row.orderId),
            cause=CAUSES[kind],
            price=maybe_number(row.avgPrice, venue) or ZERO,
            listed_in=LISTED_IN,
            venue_wall_ms=_time_ms(venue, row.time),
        )

    foreign = None if symbols is None else not_of_symbols(symbols, "symbol")
    return _forced.read(payload, venue, LISTED_IN, one, odd=odd, foreign=foreign)


def _time_ms(venue: str, raw: msgspec.Raw) -> int:
    time = maybe_number(raw, venue)
    if time is None:
        raise ProtocolViolation(f"{venue}: a row of an account's history without its time", venue=venue)
    return int(time)
