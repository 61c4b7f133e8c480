"""What of others and of funding leaves memory, and that a repetition from the first hour is still known."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from pipeline.execution.events import FundingAnswer
from pipeline.execution.external import KEPT_MAX
from pipeline.execution.external_records import ExternalFillRecord
from pipeline.execution.journal import SEGMENT_BYTES_MIN, Journal, JournalPosition
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import FundingRecord, StopRecord
from pipeline.execution.settled.checkpoint import read_checkpoint, write_checkpoint
from pipeline.execution.settled.leaving import FUNDING_KNOWN_MS, FUNDING_SEEN_MAX
from pipeline.model.enums import InstrumentKind, OrderSide
from pipeline.model.structs import ZERO, Funding
from tests.worlds.execution_world import World

HOUR_MS = 3_600_000
FUTURES = "gateio_futures"


def of_others(number: int) -> ExternalFillRecord:
    side = OrderSide.BUY if number % 2 else OrderSide.SELL
    return ExternalFillRecord(
        "gateio_spot", "BTC_USDT", str(number), f"o{number}", "", 1, InstrumentKind.SPOT, "BTC", "USDT", side,
        Decimal(1), Decimal(100), ZERO, "USDT", "order", "my_trades", number, number,
    )  # fmt: skip


def restored(ledger: Ledger, folder: Path) -> Ledger:
    journal = Journal.open(folder, segment_bytes=SEGMENT_BYTES_MIN)
    journal.append(StopRecord("x", 0, 0), 1, 1)
    journal.close()
    again, _ = read_checkpoint(write_checkpoint(folder, ledger, JournalPosition(1, 64, 1, bytes(8))))
    return again


def test_executions_of_others_leave_memory_and_one_from_the_first_hour_is_still_known(tmp_path: Path) -> None:
    ledger = Ledger()
    for number in range(KEPT_MAX + 20):
        ledger.apply(of_others(number), number, number)
        ledger.apply(of_others(number), number, number)  # listed again: one place in memory
    assert len(ledger.fills_seen) == KEPT_MAX and len(ledger.settled) == 20
    for made in (ledger, restored(ledger, tmp_path)):
        assert all(made.fill_known("gateio_spot", "BTC_USDT", str(n)) for n in (0, 19, 20, KEPT_MAX + 19))
        assert not made.fill_known("gateio_spot", "BTC_USDT", str(KEPT_MAX + 20))
        made.apply(of_others(KEPT_MAX + 20), 1, 1)
    assert made.digest() == ledger.digest() and made.external.fills == ledger.external.fills


def test_payments_that_no_question_brings_any_more_leave_memory_and_are_not_booked_again(tmp_path: Path) -> None:
    world = World(1)
    world.run(400)
    ledger, began_ms = world.core.ledger, world.now().wall_ms
    rows = [
        Funding(venue=FUTURES, symbol="BTCUSDT", event_id=str(number), asset="USDT", amount=Decimal(1),
                venue_wall_ms=began_ms + number * HOUR_MS)
        for number in range(FUNDING_SEEN_MAX + 2)
    ]  # fmt: skip
    world.feed(FundingAnswer(FUTURES, tuple(rows)))
    kept = FUNDING_KNOWN_MS // HOUR_MS + 1
    assert kept <= len(ledger.funding_seen) == len(ledger.funding_at) <= kept + 1
    booked = [entry for entry in world.entries if isinstance(entry.record, FundingRecord)]
    assert len(booked) == len(rows)
    world.feed(FundingAnswer(FUTURES, tuple(rows)))  # a venue that does not look at since when it was asked
    again = restored(ledger, tmp_path)
    assert again.funding_at == ledger.funding_at and again.digest() == ledger.digest()
    assert len([entry for entry in world.entries if isinstance(entry.record, FundingRecord)]) == len(rows)
