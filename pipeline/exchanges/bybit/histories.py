"""Bybit's lists of what happened to an account without an order of its client. Sans-I/O.

GET /v5/account/transaction-log has a row for every change of the unified wallet, of orders too::

    {"id":"592324_XRPUSDT_161440249321","symbol":"XRPUSDT","category":"linear","side":"Buy","type":"SETTLEMENT",
     "transactionTime":"1672128000000","currency":"USDT","funding":"-0.003","fee":"","cashFlow":"0","change":"-0.003",
     "cashBalance":"999.997","tradeId":"","orderId":"","orderLinkId":""}

``funding`` above 0 was received (an execution of type Funding says it the other way round). Positions that the venue
closed itself are executions of type BustTrade (liquidation) and AdlTrade.

*Source:* Bybit V5 documentation: transaction log, trade history; enums (type of a transaction log).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from pipeline.exchanges.bybit.orders import ExecutionRow
from pipeline.exchanges.parsing.rows import Fields, OddRows, Rows, not_of_assets
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, lenient_ms, maybe_number, number, required_number
from pipeline.model.errors import ProtocolViolation
from pipeline.model.structs import ForcedClose, Funding, MoneyMove

FUNDING = "SETTLEMENT"
#: Rows that executions cause: their fills tell the same.
ORDER_TYPES = frozenset({"TRADE", "LIQUIDATION", "ADL", "DELIVERY", "BLOCK_TRADE"})
CAUSES = {"BustTrade": "liquidation", "AdlTrade": "adl"}
LISTED_IN = "executions"


class _Booking(msgspec.Struct):
    id: str
    type: str
    currency: str
    transactionTime: Maybe
    change: Maybe = ABSENT
    funding: Maybe = ABSENT
    symbol: str = ""
    category: str = ""


_bookings = Rows(_Booking, of="currency")


def parse_log(
    venue: str, rows: bytes, symbols: Collection[str], odd: OddRows | None = None
) -> list[Funding | MoneyMove]:
    """Rows of the transaction log that no execution caused. A row that cannot be read is left out where it is an
    order's, or of a coin that none of ``symbols`` has."""

    def one(row: _Booking) -> Funding | MoneyMove | None:
        if row.type in ORDER_TYPES:
            return None
        at_ms = _time_ms(venue, row.transactionTime)
        if row.type == FUNDING:
            return Funding(
                venue=venue,
                symbol=row.symbol,
                event_id=row.id,
                asset=row.currency,
                amount=required_number(row.funding, venue),
                venue_wall_ms=at_ms,
            )
        return MoneyMove(
            venue=venue,
            asset=row.currency,
            amount=required_number(row.change, venue),
            reason=row.type.lower(),
            listed_in="transaction_log",
            event_id=row.id,
            venue_wall_ms=at_ms,
        )

    foreign_coin = not_of_assets(symbols, "currency")

    def foreign(fields: Fields) -> bool:
        kind = fields.get("type")
        return (isinstance(kind, str) and kind in ORDER_TYPES) or foreign_coin(fields)

    found = _bookings.read(rows, venue, "transaction-log", one, odd=odd, foreign=foreign)
    return [row for row in found if row is not None]


def forced_closes(venue: str, rows: Iterable[ExecutionRow]) -> list[ForcedClose]:
    """Those of ``rows`` by which the venue closed a position itself."""
    return [
        ForcedClose(
            venue=venue,
            symbol=row.symbol,
            order_id=row.orderId,
            cause=CAUSES[row.execType],
            price=number(row.execPrice, venue),
            listed_in=LISTED_IN,
            venue_wall_ms=lenient_ms(row.execTime),
        )
        for row in rows
        if row.execType in CAUSES
    ]


def _time_ms(venue: str, raw: msgspec.Raw) -> int:
    time = maybe_number(raw, venue)
    if time is None:
        raise ProtocolViolation(f"{venue}: a row of an account's history without its time", venue=venue)
    return int(time)
