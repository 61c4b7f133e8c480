"""The journal's bytes on disk: fixed records give fixed bytes, and bytes written by earlier builds are read for ever.

``golden/journal.bin``: the used bytes of one segment with one record of every type, each field set. A change of the
format, of a record's fields or of an enum's numbers shows here. ``golden/journal_19_types.bin``: the same as written
before a fill could have fees in several assets and before external records, ``golden/journal_24_types.bin`` before a
result had its marks, ``golden/journal_26_types.bin`` before a position named the orders that made it,
``golden/journal_27_types.bin`` before a refusal said whether it may be for want of a position,
``golden/journal_28_types.bin`` before fees of others in coins were valued. To write the first anew after a change that
only adds fields at the end (the old file must still be readable, so keep it beside the new one):
``python -m tests.unit.execution.journal.test_journal_golden``.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec

from pipeline.execution.external_records import (
    ExternalFillRecord,
    ExternalFlowRecord,
    ExternalPositionRecord,
    HeldFillRecord,
    TakenShare,
)
from pipeline.execution.journal import SEGMENT_BYTES_MIN, Journal, read_journal, segment_path
from pipeline.execution.records import (
    RECORD_TYPES,
    AdoptedRecord,
    BalanceRecord,
    BootRecord,
    BreakerRecord,
    DustRecord,
    ExternalRecord,
    FillRecord,
    FundingRecord,
    HedgeRecord,
    LegPlan,
    OperationRecord,
    OperationResultRecord,
    OperationStateRecord,
    OrderIntentRecord,
    OrderSentRecord,
    OrderStateRecord,
    Outcome,
    PositionRecord,
    Purpose,
    ReconcileRecord,
    Record,
    RecoveryRecord,
    RefusalRecord,
    RetiredRecord,
    StopRecord,
    TakeoverRecord,
)
from pipeline.model.enums import (
    ArbitrageState,
    InstrumentKind,
    OpportunityType,
    OrderKind,
    OrderSide,
    OrderState,
    Refusal,
    TimeInForce,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "journal.bin"
OLDER = GOLDEN.with_name("journal_19_types.bin")
WITHOUT_MARKS = GOLDEN.with_name("journal_24_types.bin")
WITHOUT_CLAIMS = GOLDEN.with_name("journal_25_types.bin")
WITHOUT_ORDER_IDS = GOLDEN.with_name("journal_26_types.bin")
BEFORE_REFUSALS = GOLDEN.with_name("journal_27_types.bin")
BEFORE_COIN_FEES = GOLDEN.with_name("journal_28_types.bin")
D = Decimal
SPOT, PERPETUAL = InstrumentKind.SPOT, InstrumentKind.PERPETUAL
BUY, SELL = OrderSide.BUY, OrderSide.SELL


def leg(instrument: int, venue: str, kind: InstrumentKind, side: OrderSide) -> LegPlan:
    return LegPlan(
        instrument, venue, "BTC_USDT", kind, "BTC", "USDT", side, D("0.0250"), D("100.10"), D("100.05"), 7, 8, 9, 10
    )


def records() -> list[Record]:
    """One record of every type, in the order of their numbers."""
    legs = (leg(3, "gateio_spot", SPOT, BUY), leg(4, "gateio_futures", PERPETUAL, SELL))
    return [
        BootRecord(77, "main", "sim", 4242, -123456789, "boot-name"),
        OperationRecord(
            "a25x1", 901, OpportunityType.SPOT_FUTURES_HEDGE, "BTC/USDT", legs, 12.5, 11.25, -6, D("2502.5"),
            1000, 1001, 1002, 1003, True, "a25x0",
        ),
        OperationStateRecord("a25x1", ArbitrageState.IDLE, ArbitrageState.DETECTING, "detected"),
        OrderIntentRecord(
            "a25x2", "a25x1", 1, Purpose.REPAIR, 4, "gateio_futures", "BTC_USDT", PERPETUAL, "BTC", "USDT", SELL,
            OrderKind.LIMIT, TimeInForce.IOC, D("0.0250"), D("100.10"), True, D("0.0001"), 1700000005000, "USDT",
            D("0.85"), 7, 8, 2,
        ),
        OrderSentRecord("a25x2", 2000),
        OrderStateRecord(
            "a25x2", "v-1", OrderState.PARTIALLY_FILLED, D("0.01"), D("100.1"), 1700000000123, 2100, "ws", "reason ü",
            False,
        ),
        FillRecord(
            "gateio_futures", "BTC_USDT", "t1", "v-1", "a25x2", "a25x1", 4, PERPETUAL, "BTC", "USDT", SELL, D("0.01"),
            D("100.1"), D("-0.0005"), "USDT", True, 1700000000123, 2100, "rest", (("POINT", D("0.25")),),
        ),
        BalanceRecord("gateio_spot", "USDT", D("1000.000001"), D("2"), "reconcile", 2200),
        PositionRecord("gateio_futures", "BTC_USDT", D("-0.01"), D("0"), D("100.1"), 2300, True),
        OperationResultRecord(
            "a25x1", 901, Outcome.RECOVERED, {"USDT": D("-0.1"), "BTC": D("0.00001")}, D("-0.099"), "USDT",
            {"USDT": D("0.01")}, 12.5, 11.25, -3.75, D("0.01"), {"BTC": D("0.00001")}, True, "repaired", 1003, 2400,
            {"gate": 1003, "send": 2000}, {"BTC": D("100.05"), "USDT": D(1)}, D("-0.0005"),
        ),
        RefusalRecord(902, "BTC/USDT", Refusal.MOVED, "edge 1.00 bps now"),
        DustRecord("BTC", D("0.00001"), "a25x1", "remainder"),
        HedgeRecord(
            "a25x1", "BTC", 3, 4, "gateio_spot", "BTC_USDT", "gateio_futures", "BTC_USDT", BUY, D("0.01"), D("100.05"),
            D("100.1"), "opened",
        ),
        RecoveryRecord("ra25x1", "a25x1", "unwind", "active", "leg broken"),
        ReconcileRecord("gateio_spot", 3000, 1700000001000, True, ("BTC_USDT",), 1, 0, ""),
        BreakerRecord("bad_fill", True, "a25x2: too much"),
        FundingRecord("gateio_futures", "BTC_USDT", "f1", "USDT", D("-0.02"), 1700000002000, D("-0.02")),
        ExternalRecord("gateio_spot", "order", "BTC_USDT order 77", "77", "push"),
        StopRecord("SIGTERM", 0, 1),
        ExternalFillRecord(
            "gateio_futures", "BTC_USDT", "t2", "v-2", "", 4, PERPETUAL, "BTC", "USDT", BUY, D("0.01"), D("110"),
            D("0.0006"), "USDT", "liquidation", "push", 1700000003000, 4000, True,
            (TakenShare("a25x1", D("0.01"), D("0.0006")),), (("GT", D("0.002")),), D("0.0004"),
        ),
        ExternalFlowRecord(
            "gateio_spot", "BTC", D("-1.5"), "withdrawal", "push", 4100, False, D("-150"), "BTC_USDT", D("100"),
            (TakenShare("a25x1", D("0.005")),),
        ),
        ExternalPositionRecord(
            "gateio_futures", "BTC_USDT", "BTC", "USDT", D("-0.01"), D("0"), D("110"), "unlisted", "poll", 4200,
            (TakenShare("a25x1", D("0.01")),), ("v-3",),
        ),
        HeldFillRecord("gateio_spot", "BTC_USDT", "t3", "a25x2", SELL, D("0.05"), D("100"), "too much", "held"),
        AdoptedRecord(
            "hedge", "gateio_futures", "BTC_USDT", "BTC", D("-0.01"), D("100.1"), "a25x1", "hedged by BTC", (
                FillRecord(
                    "gateio_futures", "BTC_USDT", "", "", "", "a25x1", 4, PERPETUAL, "BTC", "USDT", SELL, D("0.01"),
                    D("100.1"), D("0"), "USDT", False, 0, 4300, "adopted",
                ),
            ),
        ),
        RetiredRecord(("a25x1", "a25x9")),
        TakeoverRecord(41, 77, "the executor hangs"),
    ]  # fmt: skip


def written(directory: Path) -> bytes:
    """The used bytes of the segment that ``records()`` make."""
    journal = Journal.open(directory, segment_bytes=SEGMENT_BYTES_MIN)
    for number, record in enumerate(records(), 1):
        journal.boot_epoch = 77 if number > 1 else 0
        journal.append(record, 1_000_000 + number, 1_700_000_000_000_000_000 + number)
    journal.close()
    return segment_path(directory, 1).read_bytes().rstrip(b"\0")


def test_every_record_type_is_among_the_golden_ones() -> None:
    assert [type(record) for record in records()] == list(RECORD_TYPES.values())


def test_the_same_records_give_the_same_bytes_as_ever(tmp_path: Path) -> None:
    assert written(tmp_path) == GOLDEN.read_bytes().rstrip(b"\0")


def before_coin_fees() -> list[Record]:
    return [
        msgspec.structs.replace(record, extra_fees=(), coin_fees=None)
        if isinstance(record, ExternalFillRecord)
        else record
        for record in records()
    ]


def before_refusals() -> list[Record]:
    return [
        msgspec.structs.replace(record, of_position=True) if isinstance(record, OrderStateRecord) else record
        for record in before_coin_fees()
    ]


def without_order_ids() -> list[Record]:
    return [
        msgspec.structs.replace(record, order_ids=()) if isinstance(record, ExternalPositionRecord) else record
        for record in before_refusals()
    ]


def without_marks() -> list[Record]:
    return [
        msgspec.structs.replace(record, marks={}, carried=D(0)) if isinstance(record, OperationResultRecord) else record
        for record in without_order_ids()
    ]


def test_results_of_the_time_before_marks_are_read(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(WITHOUT_MARKS.read_bytes().ljust(SEGMENT_BYTES_MIN, b"\0"))
    assert [entry.record for entry in read_journal(tmp_path)] == without_marks()[:24]


def test_fills_of_the_time_of_one_fee_and_external_records_of_three_fields_are_read(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(OLDER.read_bytes().ljust(SEGMENT_BYTES_MIN, b"\0"))
    expected = [
        msgspec.structs.replace(record, extra_fees=()) if isinstance(record, FillRecord) else record
        for record in without_marks()[:19]
    ]
    expected[17] = ExternalRecord("gateio_spot", "balance", "USDT differs")
    assert [entry.record for entry in read_journal(tmp_path)] == expected


def test_external_records_of_the_time_before_claimed_rows_are_read(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(WITHOUT_CLAIMS.read_bytes().ljust(SEGMENT_BYTES_MIN, b"\0"))
    assert [entry.record for entry in read_journal(tmp_path)] == without_order_ids()[:25]


def test_positions_of_the_time_before_they_named_their_orders_are_read(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(WITHOUT_ORDER_IDS.read_bytes().ljust(SEGMENT_BYTES_MIN, b"\0"))
    assert [entry.record for entry in read_journal(tmp_path)] == without_order_ids()


def test_order_states_of_the_time_before_refusals_were_told_apart_are_read(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(BEFORE_REFUSALS.read_bytes().ljust(SEGMENT_BYTES_MIN, b"\0"))
    assert [entry.record for entry in read_journal(tmp_path)] == before_refusals()


def test_executions_of_others_of_the_time_before_their_coin_fees_were_valued_are_read(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(BEFORE_COIN_FEES.read_bytes().ljust(SEGMENT_BYTES_MIN, b"\0"))
    assert [entry.record for entry in read_journal(tmp_path)] == before_coin_fees()


def test_bytes_that_an_earlier_build_wrote_are_read_to_the_last_field(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(GOLDEN.read_bytes().ljust(SEGMENT_BYTES_MIN, b"\0"))
    entries = list(read_journal(tmp_path))
    assert [entry.record for entry in entries] == records()
    assert [(e.seq, e.mono_ns, e.wall_ns, e.boot_epoch) for e in entries] == [
        (n, 1_000_000 + n, 1_700_000_000_000_000_000 + n, 77 if n > 1 else 0) for n in range(1, len(entries) + 1)
    ]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_bytes(written(Path(folder)))
