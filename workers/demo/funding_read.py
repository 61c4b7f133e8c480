"""Whether the engine has read what the venues have booked as funding, by the venues' ledger and the engine's journal.

No engine code is imported: both sides come as plain values, as in ``run_checker``. A payment is known
by venue, contract and amount; several alike count one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

Row = Mapping[str, Any]
Payment = tuple[str, str, Decimal]  # venue, symbol, amount that was received
LOOKS_MAX = 240  # a bound by looks and not by time: while a host stands still nobody looks, and nobody can book


def is_funding(row: Row) -> bool:
    """Whether a row of the venues' ledger is a payment of funding."""
    return bool(row["kind"] == "entry" and row["reason"] == "fund")


def payment_of(row: Row) -> Payment:
    """The payment of a ledger row: ``ref`` is "funding:SYMBOL:TIME", the first posting the user's."""
    return str(row["venue"]), str(row["ref"]).split(":")[1], Decimal(row["postings"][0][2])


def unread_funding(ledger: Sequence[Row], journal: Sequence[Row]) -> list[Row]:
    """The venues' payments that the journal has not, oldest first; of those that are alike the newest."""
    known = Counter((r["venue"], r["symbol"], r["amount"]) for r in journal if r["record"] == "FundingRecord")
    unread = []
    for row in ledger:
        if is_funding(row) and (payment := payment_of(row))[2]:
            known[payment] -= 1
            if known[payment] < 0:
                unread.append(row)
    return unread


def wait_until_read(
    unread: Callable[[], Sequence[Row]],
    pause: Callable[[], None],
    looks: int = LOOKS_MAX,
    is_over: Callable[[], bool] = lambda: False,
) -> bool:
    """Looks until nothing is unread, or the wait ``is_over``; whether all has been read."""
    for _ in range(looks):
        if not unread():
            return True
        if is_over():
            return False
        pause()
    return False
