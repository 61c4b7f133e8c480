"""Binance's lists of money that moved without an order: deposits, withdrawals, transfers to and from USDⓈ-M. Sans-I/O.

GET /sapi/v1/capital/deposit/hisrec, /capital/withdraw/history, /asset/transfer?type=MAIN_UMFUTURE::

    [{"id":"769800519366885376","amount":"0.001","coin":"BNB","network":"BNB","status":1,"txId":"98A3EA56...",
      "insertTime":1661493146000}]
    [{"id":"b6ae22b3aa844210a7041aee7589627c","amount":"8.91000000","transactionFee":"0.004","coin":"USDT","status":6,
      "applyTime":"2019-10-12 11:12:02"}]
    {"total":1,"rows":[{"asset":"USDT","amount":"1","type":"MAIN_UMFUTURE","status":"CONFIRMED","tranId":11415955596,
     "timestamp":1544433328000}]}

Doubt: whether a withdrawal's ``amount`` has its fee in it is not documented; it is taken as what arrives, so that the
balance falls by both. *Source:* Binance wallet API (read 2026).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

import msgspec

from pipeline.exchanges.parsing.rows import OddRows, Rows, not_of_assets
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, maybe_number, number
from pipeline.model.errors import ProtocolViolation
from pipeline.model.structs import ZERO, MoneyMove

CREDITED = frozenset({1, 6})  # 6: credited, and not yet free to leave
ENDED_UNPAID = frozenset({1, 3, 5})  # cancelled, rejected, failed
LATE_MS = 3_600_000  # a row is stamped with its request: so much later its coins may move
TO_FUTURES, FROM_FUTURES = "MAIN_UMFUTURE", "UMFUTURE_MAIN"
CONFIRMED = "CONFIRMED"


class _Deposit(msgspec.Struct):
    amount: str
    coin: str
    status: int
    insertTime: Maybe
    txId: str = ""
    id: str | int = ""


class _Withdrawal(msgspec.Struct):
    amount: str
    coin: str
    id: str
    status: int
    applyTime: str
    transactionFee: Maybe = ABSENT


class _Transfer(msgspec.Struct):
    asset: str
    amount: str
    status: str
    tranId: int
    timestamp: Maybe


class _Transfers(msgspec.Struct):
    rows: msgspec.Raw = msgspec.Raw(b"[]")


_deposits = Rows(_Deposit, of="coin")
_withdrawals = Rows(_Withdrawal, of="coin")
_transfers = msgspec.json.Decoder(_Transfers)
_transfer_rows = Rows(_Transfer, of="asset")


def parse_deposits(venue: str, payload: bytes, symbols: Collection[str], odd: OddRows | None = None) -> list[MoneyMove]:
    """Those that are credited. An unreadable row is left out where none of ``symbols`` has its coin."""

    def one(row: _Deposit) -> MoneyMove | None:
        if row.status not in CREDITED:
            return None
        return MoneyMove(
            venue=venue,
            asset=row.coin,
            amount=number(row.amount, venue),
            reason="deposit",
            listed_in="deposits",
            event_id=str(row.id) or row.txId,
            venue_wall_ms=_ms(venue, row.insertTime),
        )

    foreign = not_of_assets(symbols, "coin")
    rows = _deposits.read(payload, venue, "capital/deposit/hisrec", one, odd=odd, foreign=foreign)
    return [row for row in rows if row is not None]


def parse_withdrawals(
    venue: str, payload: bytes, symbols: Collection[str], odd: OddRows | None = None
) -> list[MoneyMove]:
    """Those that have not failed; rows as in :func:`parse_deposits`."""

    def one(row: _Withdrawal) -> MoneyMove | None:
        if row.status in ENDED_UNPAID:
            return None
        return MoneyMove(
            venue=venue,
            asset=row.coin,
            amount=-(number(row.amount, venue) + (maybe_number(row.transactionFee, venue) or ZERO)),
            reason="withdraw",
            listed_in="withdrawals",
            event_id=row.id,
            venue_wall_ms=_utc_ms(venue, row.applyTime),
        )

    foreign = not_of_assets(symbols, "coin")
    rows = _withdrawals.read(payload, venue, "capital/withdraw/history", one, odd=odd, foreign=foreign)
    return [row for row in rows if row is not None]


def parse_transfers(
    venue: str, kind: str, payload: bytes, symbols: Collection[str], odd: OddRows | None = None
) -> list[MoneyMove]:
    """Confirmed ones of ``kind``: to futures they leave spot. Rows as in :func:`parse_deposits`."""

    def one(row: _Transfer) -> MoneyMove | None:
        if row.status != CONFIRMED:
            return None
        amount = number(row.amount, venue)
        return MoneyMove(
            venue=venue,
            asset=row.asset,
            amount=-amount if kind == TO_FUTURES else amount,
            reason=kind,
            listed_in="transfers",
            event_id=str(row.tranId),
            venue_wall_ms=_ms(venue, row.timestamp),
        )

    page = bytes(decode(_transfers, payload, venue, "asset/transfer").rows)
    rows = _transfer_rows.read(page, venue, "asset/transfer", one, odd=odd, foreign=not_of_assets(symbols, "asset"))
    return [row for row in rows if row is not None]


def _ms(venue: str, raw: msgspec.Raw) -> int:
    time = maybe_number(raw, venue)
    if time is None:
        raise ProtocolViolation(f"{venue}: a row of an account's history without its time", venue=venue)
    return int(time)


def _utc_ms(venue: str, text: str) -> int:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        raise ProtocolViolation(f"{venue}: withdraw/history: time {text!r}", venue=venue) from None
