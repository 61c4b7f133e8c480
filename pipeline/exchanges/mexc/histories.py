"""MEXC's lists of deposits and withdrawals. It has no account book: transfers between own accounts are in neither list.

GET /capital/deposit/hisrec, GET /capital/withdraw/history::

    [{"amount":"10","coin":"USDC-TRX","network":"TRX","status":5,"txId":"51a8...:0","insertTime":1664805021000}]
    [{"id":"adcd...","txId":"0xc8...","coin":"USDC-MATIC","amount":"2","status":7,"transactionFee":"1",
      "applyTime":1664882739000}]

A withdrawal's ``amount`` has its fee in it. *Source:* MEXC spot v3, "Deposit History",
"Withdraw History"; shapes as ccxt's mexc shows them (4.5.90), numbers there as text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from pipeline.exchanges.parsing.rows import Fields, OddRows, Rows, not_of_assets
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, maybe_number, number
from pipeline.model.errors import ProtocolViolation
from pipeline.model.structs import MoneyMove

CREDITED = "5"
CREDITED_LATE_MS = 3_600_000  # a row may be stamped with its request: so much later its coins may move
ENDED_UNPAID = frozenset({"8", "9"})  # failed, cancelled


class _Deposit(msgspec.Struct):
    amount: str
    coin: str
    txId: str
    insertTime: Maybe
    status: int | str = ""
    updateTime: Maybe = ABSENT


class _Withdrawal(msgspec.Struct):
    amount: str
    coin: str
    id: str
    applyTime: Maybe
    status: int | str = ""
    updateTime: Maybe = ABSENT


_deposits = Rows(_Deposit, of="coin")
_withdrawals = Rows(_Withdrawal, of="coin")


def parse_deposits(
    venue: str, payload: bytes, symbols: Collection[str] | None = None, odd: OddRows | None = None
) -> list[MoneyMove]:
    """GET /capital/deposit/hisrec: those that are credited. A row that cannot be read is left out where none of
    ``symbols`` has its coin; another one voids the answer, as every one does without ``symbols``."""

    def one(row: _Deposit) -> MoneyMove | None:
        if str(row.status) != CREDITED:
            return None
        return MoneyMove(
            venue=venue,
            asset=row.coin.partition("-")[0],
            amount=number(row.amount, venue),
            reason="deposit",
            listed_in="deposits",
            event_id=row.txId,
            venue_wall_ms=_time_ms(venue, row.updateTime, row.insertTime),
        )

    rows = _deposits.read(payload, venue, "capital/deposit/hisrec", one, odd=odd, foreign=_not_ours(symbols))
    return [row for row in rows if row is not None]


def parse_withdrawals(
    venue: str, payload: bytes, symbols: Collection[str] | None = None, odd: OddRows | None = None
) -> list[MoneyMove]:
    """GET /capital/withdraw/history: those that have not failed; rows as in :func:`parse_deposits`. Whether the coins
    leave the balance with the request or with its end is not documented; a row counts only where it explains a
    difference."""

    def one(row: _Withdrawal) -> MoneyMove | None:
        if str(row.status) in ENDED_UNPAID:
            return None
        return MoneyMove(
            venue=venue,
            asset=row.coin.partition("-")[0],
            amount=-number(row.amount, venue),
            reason="withdraw",
            listed_in="withdrawals",
            event_id=row.id,
            venue_wall_ms=_time_ms(venue, row.updateTime, row.applyTime),
        )

    rows = _withdrawals.read(payload, venue, "capital/withdraw/history", one, odd=odd, foreign=_not_ours(symbols))
    return [row for row in rows if row is not None]


def _not_ours(symbols: Collection[str] | None) -> Callable[[Fields], bool] | None:
    """The test of a row's coin, which may have its network's name behind a dash."""
    if symbols is None:
        return None
    foreign = not_of_assets(symbols, "coin")

    def not_ours(fields: Fields) -> bool:
        coin = fields.get("coin")
        return isinstance(coin, str) and foreign({"coin": coin.partition("-")[0]})

    return not_ours


def _time_ms(venue: str, *times: msgspec.Raw) -> int:
    """The first that is given."""
    for raw in times:
        time = maybe_number(raw, venue)
        if time is not None:
            return int(time)
    raise ProtocolViolation(f"{venue}: a row of an account's history without its time", venue=venue)
