"""What the world did to an account, by the stamps of the venues' ledger: when it was noticed, when the other leg left.

Ledger and journal of one host share a monotonic clock. The journal says what was noticed, and whose leg it took.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord
from pipeline.execution.journal import JournalEntry
from tests.worlds.judging.naked_spans import Change, changes_of, naked_times

D = Decimal
Row = Mapping[str, Any]
Act = tuple[str, str, str]  # venue, symbol or asset, the venue's number of the trade or the amount that moved


def acts(ledger: Iterable[Row], uids: frozenset[str], ours: frozenset[str], since_ns: int) -> dict[Act, int]:
    """What happened without an order of ours -> its stamp (monotonic ns). ``ours``: client ids."""
    users = {f"user:{uid}" for uid in uids}
    found: dict[Act, int] = {}
    for row in ledger:
        at_ns = int(row["mono_ns"])
        if at_ns < since_ns:
            continue
        if row["kind"] == "fill" and row["uid"] in uids and row["client_id"] not in ours:
            found[row["venue"], row["symbol"], str(row["trade_id"])] = at_ns
        elif row["kind"] == "entry" and row["reason"] in ("deposit", "withdraw"):
            for account, asset, amount in row["postings"]:
                if account in users:
                    found[row["venue"], asset, _plain(D(amount))] = at_ns
    return found


def noticed(happened: Mapping[Act, int], entries: Iterable[JournalEntry]) -> dict[Act, int]:
    """Those of them that are booked -> when (monotonic ns): the first such record since the venue's stamp."""
    found: dict[Act, int] = {}
    for entry in entries:
        record = entry.record
        if isinstance(record, ExternalFillRecord):
            act = (record.venue, record.symbol, record.trade_id)
        elif isinstance(record, ExternalFlowRecord):
            act = (record.venue, record.asset, _plain(record.amount))
        else:
            continue
        if happened.get(act, entry.mono_ns + 1) <= entry.mono_ns:
            found.setdefault(act, entry.mono_ns)
    return found


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def taken(happened: Mapping[Act, int], entries: Iterable[JournalEntry]) -> set[str]:
    """Operations that lost some of a leg by it."""
    return {
        share.operation_id
        for record in (entry.record for entry in entries)
        if isinstance(record, ExternalFillRecord)
        if (record.venue, record.symbol, record.trade_id) in happened
        for share in record.taken
    }


def left_ms(
    happened: Mapping[Act, int], ledger: Iterable[Row], entries: Sequence[JournalEntry], until_ns: int
) -> dict[str, float]:
    """Operation whose leg was taken -> ms from the venue's stamp of that to its last fill that left it whole again;
    to ``until_ns`` where it still is not. 0 where its other leg had left before."""
    changes, lost = changes_of(ledger, entries), dict[str, tuple[int, list[Change]]]()
    for entry in entries:
        record = entry.record
        if not isinstance(record, ExternalFillRecord):
            continue
        at_ns = happened.get((record.venue, record.symbol, record.trade_id))
        for share in record.taken if at_ns is not None else ():
            _, rows = lost.setdefault(share.operation_id, (at_ns, []))
            rows.append((at_ns, {record.base: share.qty * int(record.side)}))
    found: dict[str, float] = {}
    for name, (at_ns, rows) in lost.items():
        own, spare = changes[name]
        whole_ns = max((end for _, end in naked_times(sorted([*own, *rows], key=_stamp), spare, until_ns)), default=0)
        found[name] = max(0.0, (whole_ns - at_ns) / 1e6)
    return found


def _stamp(change: tuple[int, Any]) -> int:
    return change[0]
