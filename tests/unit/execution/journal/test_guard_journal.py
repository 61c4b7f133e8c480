"""The guard's records come into the executor's journal once, in order, whatever dies in between."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from pipeline.execution.journal import Journal, JournalEntry, read_journal
from pipeline.execution.journal.guard_journal import (
    GUARD_JOURNAL,
    base_of,
    clear,
    fold_in,
    missing,
    orphaned,
    read_guard_journal,
    whole_journal,
)
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import BootRecord, StopRecord, TakeoverRecord
from pipeline.execution.settled.checkpoint import recover
from pipeline.model.errors import JournalError

SEGMENT = 16 * 1024


def written(folder: Path, epoch: int, texts: list[str], after: tuple[int, int] | None = None) -> None:
    """Records of one run; of the guard's where they continue something (``after``)."""
    journal = Journal.open(folder, segment_bytes=SEGMENT)
    journal.boot_epoch = epoch
    if after is not None:
        journal.append(TakeoverRecord(*after, "hangs"), 100 * epoch, 1)
    journal.append(BootRecord(epoch, "i", "sim", 1, 1), 100 * epoch, 1)
    for number, text in enumerate(texts):
        journal.append(StopRecord(text, 0, 0), 100 * epoch + number, 1)
    journal.close()


def opened(folder: Path) -> tuple[Journal, Ledger]:
    ledger = recover(folder).ledger
    return Journal.open(folder, segment_bytes=SEGMENT), ledger


def texts(entries: Iterable[JournalEntry]) -> list[str]:
    return [entry.record.reason for entry in entries if isinstance(entry.record, StopRecord)]


class Dies:
    """A journal whose process is killed at the n-th record."""

    def __init__(self, journal: Journal, after: int) -> None:
        self._journal, self._left = journal, after
        self.boot_epoch = 0

    def append(self, record: StopRecord, mono_ns: int, wall_ns: int) -> int:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        self._journal.boot_epoch = self.boot_epoch
        return self._journal.append(record, mono_ns, wall_ns)


@pytest.mark.parametrize("dies_after", range(9))
def test_a_kill_in_the_middle_of_the_fold_loses_and_doubles_nothing(tmp_path: Path, dies_after: int) -> None:
    own, guard = tmp_path / "journal", tmp_path / GUARD_JOURNAL
    written(own, 1, ["a", "b"])
    written(guard, 2, ["g1", "g2", "g3"], (3, 1))
    written(guard, 3, ["g4", "g5"], (3, 1))  # a guard that was born again during the takeover
    wanted = ["a", "b", "g1", "g2", "g3", "g4", "g5"]
    assert texts(whole_journal(tmp_path)) == wanted
    journal, ledger = opened(own)
    with pytest.raises(KeyboardInterrupt):
        fold_in(Dies(journal, dies_after), ledger, read_guard_journal(tmp_path))  # type: ignore[arg-type]
    journal.close()
    assert texts(whole_journal(tmp_path)) == wanted
    assert base_of(recover(own).ledger, read_guard_journal(tmp_path)) == (3, 1), "a further run continues the same"
    journal, ledger = opened(own)
    fold_in(journal, ledger, read_guard_journal(tmp_path))
    assert fold_in(journal, ledger, read_guard_journal(tmp_path)) == 0
    journal.close()
    found = list(read_journal(own))
    assert texts(found) == wanted
    assert [entry.boot_epoch for entry in found] == [1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3]
    assert [entry.mono_ns for entry in found][3:] == [200, 200, 200, 201, 202, 300, 300, 300, 301]
    assert recover(own).ledger.digest() == ledger.digest()
    assert not orphaned(ledger, read_guard_journal(tmp_path))


def test_a_second_takeover_continues_what_the_executor_wrote_after_the_first(tmp_path: Path) -> None:
    own, guard = tmp_path / "journal", tmp_path / GUARD_JOURNAL
    written(own, 1, ["a"])
    written(guard, 2, ["g1"], (2, 1))
    journal, ledger = opened(own)
    assert fold_in(journal, ledger, read_guard_journal(tmp_path)) == 3
    journal.close()
    written(own, 4, ["b"])
    base = base_of(recover(own).ledger, read_guard_journal(tmp_path))
    assert base == (7, 4)
    written(guard, 5, ["g2"], base)
    journal, ledger = opened(own)
    assert fold_in(journal, ledger, read_guard_journal(tmp_path)) == 3
    journal.close()
    assert texts(read_journal(own)) == ["a", "g1", "b", "g2"]


def test_a_journal_without_a_guards_lacks_nothing(tmp_path: Path) -> None:
    written(tmp_path / "journal", 1, ["a"])
    assert read_guard_journal(tmp_path) == []
    assert texts(whole_journal(tmp_path)) == ["a"]


@pytest.mark.parametrize("own", [[], ["a"], ["other", "journal"]])
def test_records_that_continue_a_lost_or_older_journal_are_left_out(tmp_path: Path, own: list[str]) -> None:
    if own:
        written(tmp_path / "journal", 1 if own == ["a"] else 7, own)
    written(tmp_path / GUARD_JOURNAL, 2, ["g1", "g2"], (3, 1))
    journal, ledger = opened(tmp_path / "journal")
    assert fold_in(journal, ledger, read_guard_journal(tmp_path)) == 0
    assert orphaned(ledger, read_guard_journal(tmp_path)), "and that can be said"
    journal.close()
    assert texts(whole_journal(tmp_path)) == own


def test_a_guards_journal_that_is_cleared_half_leaves_a_beginning(tmp_path: Path) -> None:
    own, guard = tmp_path / "journal", tmp_path / GUARD_JOURNAL
    written(own, 1, ["a"])
    written(guard, 2, [f"{number:0400d}" for number in range(100)], (2, 1))
    journal, ledger = opened(own)
    fold_in(journal, ledger, read_guard_journal(tmp_path))
    journal.close()
    segments = sorted(guard.glob("journal-*.seg"))
    assert len(segments) > 2
    segments[-1].unlink()  # what a kill inside ``clear`` leaves
    assert read_guard_journal(tmp_path) and missing(ledger, read_guard_journal(tmp_path)) == []
    clear(guard)
    assert read_guard_journal(tmp_path) == []


def test_damage_in_the_guards_journal_is_refused(tmp_path: Path) -> None:
    written(tmp_path / GUARD_JOURNAL, 2, ["g1", "g2", "g3"])
    path = next((tmp_path / GUARD_JOURNAL).glob("journal-*.seg"))
    content = bytearray(path.read_bytes())
    content[content.index(b"g1")] ^= 1
    path.write_bytes(content)
    with pytest.raises(JournalError, match="middle"):
        read_guard_journal(tmp_path)
