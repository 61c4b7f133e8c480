"""A closing that finds nothing open, and what a guard that died in the same takeover has done before it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.execution.journal import Journal
from pipeline.execution.journal.guard_journal import GUARD_JOURNAL
from pipeline.execution.records import BootRecord, TakeoverRecord
from tests.worlds.books_world import CONFIG, BooksWorld
from workers.guard.closing import Closing

SEGMENT = 16 * 1024


def written(folder: Path, epoch: int, *records: Any) -> None:
    journal = Journal.open(folder, segment_bytes=SEGMENT)
    journal.boot_epoch = epoch
    for record in (*records, BootRecord(epoch, "i", "sim", 1, 1)):
        journal.append(record, epoch, 1)
    journal.close()


@pytest.mark.parametrize("a_guard_died", [False, True], ids=["the first guard", "after one that died"])
def test_what_a_guard_that_died_in_the_takeover_did_counts(instance: str, tmp_path: Path, a_guard_died: bool) -> None:
    """Everything is closed when the next guard looks: the halt stays for an operator all the same."""
    world = BooksWorld(instance)
    written(tmp_path / "journal", 1)
    if a_guard_died:
        written(tmp_path / GUARD_JOURNAL, 2, TakeoverRecord(1, 1, "the executor hangs"))
    context = SimpleNamespace(
        instance=instance, config=CONFIG, state_dir=tmp_path, journal_dir=lambda: tmp_path / "journal"
    )
    closing = Closing(context, "the executor hangs", None, lambda level, text: None)  # type: ignore[arg-type]
    closing.start()
    closing.join()
    world.close()
    assert closing.error == "" and closing.result is not None and closing.result.flat
    assert closing.acted is a_guard_died
