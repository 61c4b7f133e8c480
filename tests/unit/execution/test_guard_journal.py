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
from pipeline.execution.records import StopRecord, TakeoverRecord
from pipeline.model.errors import JournalError

SEGMENT = 16 * 1024


def written(folder: Path, epoch: int, texts: list[str], after: tuple[int, int] | None = None) -> None:
    """Records of one run; of the guard's where they continue something (``after``)."""
    journal, _ = Journal.open(folder, segment_bytes=SEGMENT)
    journal.boot_epoch = epoch
    if after is not None:
        journal.append(TakeoverRecord(*after, "hangs"), 100 * epoch, 1)
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


@pytest.mark.parametrize("dies_after", range(8))
def test_a_kill_in_the_middle_of_the_fold_loses_and_doubles_nothing(tmp_path: Path, dies_after: int) -> None:
    own, guard = tmp_path / "journal", tmp_path / GUARD_JOURNAL
    written(own, 1, ["a", "b"])
    written(guard, 2, ["g1", "g2", "g3"], (2, 1))
    written(guard, 3, ["g4", "g5"], (2, 1))  # a guard that was born again during the takeover
    wanted = ["a", "b", "g1", "g2", "g3", "g4", "g5"]
    assert texts(list(whole_journal(tmp_path))) == wanted
    journal, entries = Journal.open(own, segment_bytes=SEGMENT)
    if dies_after < 7:
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
    assert [entry.boot_epoch for entry in found] == [1, 1, 2, 2, 2, 2, 3, 3, 3]
    assert [entry.mono_ns for entry in found] == [100, 101, 200, 200, 201, 202, 300, 300, 301]


def test_a_journal_without_a_guards_lacks_nothing(tmp_path: Path) -> None:
    written(tmp_path / "journal", 1, ["a"])
    assert not read_guard_journal(tmp_path)
    assert texts(list(whole_journal(tmp_path))) == ["a"]


def test_a_guards_journal_that_is_cleared_half_leaves_a_beginning(tmp_path: Path) -> None:
    guard = tmp_path / GUARD_JOURNAL
    written(guard, 2, [f"{number:0400d}" for number in range(100)])
    everything = list(read_guard_journal(tmp_path))
    segments = sorted(guard.glob("journal-*.seg"))
    assert len(segments) > 2
    segments[-1].unlink()  # what a kill inside ``clear`` leaves
    left = list(read_guard_journal(tmp_path))
    assert left == everything[: len(left)] and unfolded(everything, left) == []
    clear(guard)
    assert not read_guard_journal(tmp_path)


def test_damage_in_the_guards_journal_is_refused(tmp_path: Path) -> None:
    written(tmp_path / GUARD_JOURNAL, 2, ["g1", "g2", "g3"])
    path = next((tmp_path / GUARD_JOURNAL).glob("journal-*.seg"))
    content = bytearray(path.read_bytes())
    content[content.index(b"g1")] ^= 1
    path.write_bytes(content)
    with pytest.raises(JournalError, match="middle"):
        read_guard_journal(tmp_path)


@pytest.mark.parametrize("own", [[], ["a"], ["other", "journal"]])
def test_records_that_continue_a_lost_or_older_journal_are_left_out(tmp_path: Path, own: list[str]) -> None:
    if own:
        written(tmp_path / "journal", 1 if own == ["a"] else 7, own)
    written(tmp_path / GUARD_JOURNAL, 2, ["g1", "g2"], (2, 1))
    journal, entries = Journal.open(tmp_path / "journal", segment_bytes=SEGMENT)
    assert fold_in(journal, entries, read_guard_journal(tmp_path)) == 0
    assert unfolded(entries, read_guard_journal(tmp_path)), "and that can be said"
    journal.close()
    assert texts(list(whole_journal(tmp_path))) == own
