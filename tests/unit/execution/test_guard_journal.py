"""The guard's records come into the executor's journal once, in order, whatever dies in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.execution.journal import Journal, JournalEntry, read_journal
from pipeline.execution.journal.guard_journal import (
    GUARD_JOURNAL,
    clear,
    fold_in,
    read_guard_journal,
    unfolded,
    whole_journal,
)
from pipeline.execution.records import StopRecord
from pipeline.model.errors import JournalError

SEGMENT = 16 * 1024


def written(folder: Path, epoch: int, texts: list[str]) -> None:
    journal, _ = Journal.open(folder, segment_bytes=SEGMENT)
    journal.boot_epoch = epoch
    for number, text in enumerate(texts):
        journal.append(StopRecord(text, 0, 0), 100 * epoch + number, 1)
    journal.close()


def texts(entries: list[JournalEntry]) -> list[str]:
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


@pytest.mark.parametrize("dies_after", range(6))
def test_a_kill_in_the_middle_of_the_fold_loses_and_doubles_nothing(tmp_path: Path, dies_after: int) -> None:
    own, guard = tmp_path / "journal", tmp_path / GUARD_JOURNAL
    written(own, 1, ["a", "b"])
    written(guard, 2, ["g1", "g2", "g3"])
    written(guard, 3, ["g4", "g5"])  # a guard that was born again during the takeover
    wanted = ["a", "b", "g1", "g2", "g3", "g4", "g5"]
    assert texts(list(whole_journal(tmp_path))) == wanted
    journal, entries = Journal.open(own, segment_bytes=SEGMENT)
    if dies_after < 5:
        with pytest.raises(KeyboardInterrupt):
            fold_in(Dies(journal, dies_after), entries, read_guard_journal(tmp_path))  # type: ignore[arg-type]
    journal.close()
    assert texts(list(whole_journal(tmp_path))) == wanted
    journal, entries = Journal.open(own, segment_bytes=SEGMENT)
    fold_in(journal, entries, read_guard_journal(tmp_path))
    assert fold_in(journal, entries, read_guard_journal(tmp_path)) == 0
    journal.close()
    found = list(read_journal(own))
    assert texts(found) == texts(entries) == wanted
    assert [entry.boot_epoch for entry in found] == [1, 1, 2, 2, 2, 3, 3]
    assert [entry.mono_ns for entry in found] == [100, 101, 200, 201, 202, 300, 301]


def test_a_journal_without_a_guards_lacks_nothing(tmp_path: Path) -> None:
    written(tmp_path / "journal", 1, ["a"])
    assert read_guard_journal(tmp_path) == []
    assert texts(list(whole_journal(tmp_path))) == ["a"]


def test_a_guards_journal_that_is_cleared_half_leaves_a_beginning(tmp_path: Path) -> None:
    guard = tmp_path / GUARD_JOURNAL
    written(guard, 2, [f"{number:0400d}" for number in range(100)])
    everything = read_guard_journal(tmp_path)
    segments = sorted(guard.glob("journal-*.seg"))
    assert len(segments) > 2
    segments[-1].unlink()  # what a kill inside ``clear`` leaves
    left = read_guard_journal(tmp_path)
    assert left == everything[: len(left)] and unfolded(everything, left) == []
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
