"""What earlier runs left: open things where a configuration sends no orders any more, and a journal to be read before
the guard has done with it.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.execution.events import Command, CommandKind
from pipeline.execution.journal import Journal, segment_indices, segment_path
from pipeline.execution.records import BootRecord, StopRecord
from pipeline.execution.settled.checkpoint import recover
from pipeline.model.config import EngineConfig
from pipeline.model.errors import ConfigInvalid, JournalError
from shm.pages import HaltPage
from tests.worlds.execution_starts import held_world
from tests.worlds.execution_world import Faults, make_config
from workers.executor.earlier_runs import READ_AHEAD, JournalOfBefore, check_traded
from workers.executor.process import wait_for_the_guard

SEGMENT = 16 * 1024
RECORDS = 2 * READ_AHEAD + 7


def test_what_an_operator_has_taken_over_keeps_its_exchange_until_it_is_handed_back() -> None:
    world = held_world()
    recovery_id = str(world.core.recovery.get_active_recoveries()[0]["recovery_id"])
    world.feed(Command(CommandKind.CANCEL_RECOVERY, recovery_id, "mine"))
    with pytest.raises(ConfigInvalid) as refused:
        check_traded(world.core.ledger, EngineConfig())
    assert "`arb recoveries --approve ID`" in str(refused.value)
    world.faults = Faults()
    world.venues["gateio_spot"].bid = world.venues["mexc_spot"].bid = Decimal("99.90")
    world.feed(Command(CommandKind.APPROVE, recovery_id, "hand it back"))
    world.run(2000)
    assert not world.core.ledger.open_operations and not world.core.ledger.unsettled
    check_traded(world.core.ledger, EngineConfig())


def written(folder: Path) -> None:
    """A journal of many segments that ends in a torn record."""
    journal = Journal.open(folder, segment_bytes=SEGMENT)
    journal.boot_epoch = 7
    journal.append(BootRecord(7, "i", "sim", 1, 1), 1, 1)
    for number in range(RECORDS - 1):
        journal.append(StopRecord(str(number), 0, 0), number, 1)
    offset = journal._offset
    journal.close()
    with segment_path(folder, segment_indices(folder)[-1]).open("r+b") as last:
        last.seek(offset)
        last.write(b"half a record")


def context(instance: str, folder: Path, **more: Any) -> Any:
    said: list[str] = []
    return SimpleNamespace(
        instance=instance,
        config=make_config(),
        journal_dir=lambda: folder,
        said=said,
        say=lambda level, text: said.append(text),
        stop_requested=lambda: False,
        wait_longer=lambda more_us, text: None,
        **more,
    )


def test_while_the_guard_stands_in_the_journal_is_read_and_nothing_is_written(instance: str, tmp_path: Path) -> None:
    written(tmp_path)
    found = {path: path.read_bytes() for path in tmp_path.iterdir()}
    whole = recover(tmp_path)
    page = HaltPage.create(instance)
    page.fence()

    def progress() -> None:  # the guard lifts its fence when everything has been read
        assert before._found is None or before._found.replayed < RECORDS or page.lift_fence() is None

    ctx = context(instance, tmp_path, progress=progress)
    before = JournalOfBefore(ctx)
    assert wait_for_the_guard(ctx, before)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == found
    journal, ledger = before.open()
    assert journal.truncated_bytes == len(b"half a record") and journal.next_seq == RECORDS + 1
    journal.close()
    assert (ledger.records, ledger.digest()) == (RECORDS, whole.ledger.digest()), "nothing is folded twice"
    page.close()


def test_a_journal_that_cannot_be_read_ahead_is_refused_when_it_is_opened(instance: str, tmp_path: Path) -> None:
    written(tmp_path)
    path = segment_path(tmp_path, segment_indices(tmp_path)[-1])
    content = bytearray(path.read_bytes())
    content[64 + 56 + 1] ^= 1  # the first record's body, behind whole ones
    path.write_bytes(content)
    before = JournalOfBefore(context(instance, tmp_path))
    while before.read_ahead():
        pass
    assert not before.read_ahead(), "nor are records before it passed over"
    with pytest.raises(JournalError, match="damaged in the middle"):
        before.open()
