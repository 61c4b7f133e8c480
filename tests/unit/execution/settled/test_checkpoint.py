"""Checkpoints: a start from one is a start from the whole journal, and a bad one is passed over."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from pipeline.execution.journal import (
    SEGMENT_BYTES_MIN,
    Journal,
    JournalPosition,
    JournalReader,
    segment_indices,
    segment_path,
)
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import Record, StopRecord
from pipeline.execution.settled import retirement
from pipeline.execution.settled.checkpoint import (
    LedgerState,
    checkpoint_paths,
    map_settled,
    newest_checkpoint,
    read_checkpoint,
    recover,
    write_checkpoint,
)
from pipeline.execution.settled.identities import CHUNK, identity
from pipeline.model.enums import Durability
from pipeline.model.errors import JournalError
from tests.worlds.execution_starts import ready_world, trade
from tests.worlds.execution_world import Faults, World
from workers.recorder import checkpoints
from workers.recorder.checkpoints import Checkpoints

S_NS = 1_000_000_000


@pytest.fixture(scope="module")
def stormy() -> World:
    """A world with everything in its journal: broken legs, kills, hedges, operations that have left memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retirement, "RETIRE_AFTER_NS", 3 * S_NS)
        patch.setattr(retirement, "LOOK_EVERY_NS", S_NS // 10)
        rng = random.Random(5)
        world = ready_world(5, Faults.storm(rng))
        for _ in range(18):
            world.crash_after = rng.randint(0, 25)
            trade(world, 3, rng)
            world.run(1500)
        world.calm()
        world.faults = Faults()
        world.feed(world.offer("mexc_spot", "gateio_futures"))
        world.run(300)
    assert world.core.ledger.hedges and world.core.ledger.retired_operations
    return world


def written(world: World, folder: Path, *, segment_bytes: int = SEGMENT_BYTES_MIN) -> None:
    journal = Journal.open(folder, segment_bytes=segment_bytes)
    for entry in world.entries:
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
    journal.close()


def whole(folder: Path) -> str:
    ledger, reader = Ledger(), JournalReader(folder)
    while entries := reader.poll():
        for entry in entries:
            ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
    reader.close()
    return ledger.digest()


def checkpoint_after(folder: Path, count: int) -> Path:
    """A checkpoint behind the first ``count`` records."""
    ledger, reader = Ledger(), JournalReader(folder)
    for entry in reader.poll(count):
        ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
    position = reader.position
    reader.close()
    assert position is not None and position.next_seq == count + 1
    return write_checkpoint(folder, ledger, position)


def test_what_a_refusal_may_mean_is_in_the_digest() -> None:
    world = ready_world()
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(1000)
    ledger = world.core.ledger
    before, order = ledger.digest(), next(iter(ledger.orders.values()))
    order.of_position = False
    assert ledger.digest() != before


def test_everything_that_a_ledger_remembers_is_in_a_checkpoint() -> None:
    derived = {"by_order_id", "_apply", "settled", "round_trips", "last_wall_ns"}
    kept = set(LedgerState.__struct_fields__) | derived
    assert set(vars(Ledger())) - kept == set()


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.77, 0.99, 1.0])
def test_a_start_from_a_checkpoint_anywhere_is_the_whole_replay(stormy: World, share: float, tmp_path: Path) -> None:
    written(stormy, tmp_path)
    count = max(1, int(len(stormy.entries) * share))
    checkpoint_after(tmp_path, count)
    found = recover(tmp_path)
    assert not found.problems and found.replayed == len(stormy.entries) - count
    assert found.ledger.digest() == whole(tmp_path) == stormy.core.ledger.digest()
    assert found.ledger.expected_balance("mexc_spot", "BTC") == stormy.core.ledger.expected_balance("mexc_spot", "BTC")
    for name in stormy.core.ledger.hedges:
        assert found.ledger.operations[name] is (
            found.ledger.open_operations.get(name) or found.ledger.operations[name]
        )
    assert found.ledger.audit == stormy.core.ledger.audit


def test_a_restored_ledger_goes_on_as_the_live_one(stormy: World, tmp_path: Path) -> None:
    """Objects that are reachable by two ways are one: a record after the restore changes both."""
    written(stormy, tmp_path)
    for count in range(1, len(stormy.entries), max(1, len(stormy.entries) // 60)):
        path = checkpoint_after(tmp_path, count)
        ledger, _ = read_checkpoint(path)
        for entry in stormy.entries[count:]:
            ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
        assert ledger.digest() == stormy.core.ledger.digest(), count


def test_a_damaged_checkpoint_is_passed_over_and_said(stormy: World, tmp_path: Path) -> None:
    written(stormy, tmp_path)
    older, newer = checkpoint_after(tmp_path, 50), checkpoint_after(tmp_path, 90)
    content = bytearray(newer.read_bytes())
    for damage in (len(content) // 2, 0, 25):
        broken = bytearray(content)
        broken[damage] ^= 1
        newer.write_bytes(broken)
        found = recover(tmp_path)
        assert len(found.problems) == 1 and newer.name in found.problems[0]
        assert found.replayed == len(stormy.entries) - 50 and found.ledger.digest() == whole(tmp_path)
    newer.write_bytes(content[:-7])
    older.write_bytes(b"")
    found = recover(tmp_path)
    assert len(found.problems) == 2 and found.replayed == len(stormy.entries)
    assert found.ledger.digest() == whole(tmp_path)


def test_a_checkpoint_of_another_journal_or_beyond_an_older_copy_is_passed_over(stormy: World, tmp_path: Path) -> None:
    written(stormy, tmp_path / "a")
    path = checkpoint_after(tmp_path / "a", len(stormy.entries))
    other = tmp_path / "b"
    journal = Journal.open(other, segment_bytes=SEGMENT_BYTES_MIN)
    for number in range(len(stormy.entries) + 10):
        journal.append(StopRecord(str(number), 0, 0), 1, 1)
    journal.close()
    (other / path.name).write_bytes(path.read_bytes())
    found = recover(other)
    assert "not of this journal" in found.problems[0] and found.replayed == len(stormy.entries) + 10
    last = segment_indices(tmp_path / "a")[-1]
    segment_path(tmp_path / "a", last).unlink()
    found = recover(tmp_path / "a")
    assert "not of this journal" in found.problems[0] and found.ledger.records < len(stormy.entries)


def test_a_lost_beginning_without_a_checkpoint_is_refused_with_words(stormy: World, tmp_path: Path) -> None:
    written(stormy, tmp_path)
    path = checkpoint_after(tmp_path, len(stormy.entries) - 3)
    segment_path(tmp_path, 1).unlink()
    assert recover(tmp_path).ledger.digest() == stormy.core.ledger.digest()
    path.unlink()
    with pytest.raises(JournalError, match=r"no checkpoint holds: there is none\. Restore"):
        newest_checkpoint(tmp_path)


def with_a_chunk(folder: Path, prefix: str) -> tuple[Ledger, JournalPosition]:
    """A journal of one record, and a ledger that has so many settled orders that one file of identities is full."""
    journal = Journal.open(folder, segment_bytes=SEGMENT_BYTES_MIN)
    journal.append(StopRecord("x", 0, 0), 1, 1)
    journal.close()
    ledger = Ledger()
    ledger.apply(StopRecord("x", 0, 0), 1, 1)
    for number in range(CHUNK + 5):
        ledger.settled.add(identity(prefix, str(number)))
    ledger.retired_operations = 1
    return ledger, end_of(folder)


def test_identities_are_kept_in_files_that_are_checked_and_written_again_where_they_have_gone(tmp_path: Path) -> None:
    ledger, position = with_a_chunk(tmp_path, "a")
    write_checkpoint(tmp_path, ledger, position)
    (chunk,) = tmp_path.glob("settled-*.ids")
    stamp = chunk.stat().st_mtime_ns
    path = write_checkpoint(tmp_path, ledger, position)
    assert chunk.stat().st_mtime_ns == stamp
    again, _ = read_checkpoint(path)
    assert len(again.settled) == CHUNK + 5 and again.digest() == ledger.digest()
    assert all(identity("a", str(number)) in again.settled for number in range(0, CHUNK + 5, 997))
    whole = chunk.read_bytes()
    chunk.unlink()
    with pytest.raises(JournalError, match="cannot be read"):
        read_checkpoint(path)
    read_checkpoint(write_checkpoint(tmp_path, again, position))
    assert chunk.read_bytes() == whole
    content = bytearray(whole)
    content[77] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(JournalError, match="identities of settled orders damaged"):
        read_checkpoint(path)


def test_no_process_holds_full_arrays_of_identities_that_are_in_files(tmp_path: Path) -> None:
    """The recorder that writes them, a start that reads them, and an executor that has folded the same records."""
    ledger, position = with_a_chunk(tmp_path, "a")
    executors, _ = with_a_chunk(tmp_path / "of the executor", "a")
    strange, _ = with_a_chunk(tmp_path / "strange", "b")
    map_settled(tmp_path, executors.settled)
    assert executors.settled.in_memory == ledger.settled.in_memory == [0], "no file is there yet"
    again, _ = read_checkpoint(write_checkpoint(tmp_path, ledger, position))
    map_settled(tmp_path, executors.settled)
    map_settled(tmp_path, strange.settled)
    for made in (ledger, again, executors):
        assert not made.settled.in_memory and made.digest() == ledger.digest()
        assert identity("a", "7") in made.settled and identity("b", "7") not in made.settled
    assert strange.settled.in_memory == [0] and identity("b", "7") in strange.settled


def test_identities_of_another_journal_are_not_taken_for_ours(tmp_path: Path) -> None:
    """Its file has the same number and the same size."""
    other, position = with_a_chunk(tmp_path / "other", "b")
    write_checkpoint(tmp_path / "other", other, position)
    ledger, position = with_a_chunk(tmp_path / "ours", "a")
    for path in (tmp_path / "other").glob("settled-*.ids"):
        (tmp_path / "ours" / path.name).write_bytes(path.read_bytes())
    again, _ = read_checkpoint(write_checkpoint(tmp_path / "ours", ledger, position))
    assert identity("a", "7") in again.settled and identity("b", "7") not in again.settled


def test_a_checkpoint_of_another_version_is_passed_over_with_words(stormy: World, tmp_path: Path) -> None:
    written(stormy, tmp_path)
    path = checkpoint_after(tmp_path, 50)
    content = bytearray(path.read_bytes())
    content[20:24] = (7).to_bytes(4, "little")
    path.write_bytes(content)
    found = recover(tmp_path)
    assert "version=7" in found.problems[0] and found.ledger.digest() == whole(tmp_path)


def test_a_checkpoint_that_an_earlier_build_wrote_is_read(tmp_path: Path) -> None:
    """``golden/checkpoint.bin`` stands behind the records of ``golden/journal_of_checkpoint.bin``."""
    golden = Path(__file__).parents[1] / "golden"
    segment_path(tmp_path, 1).write_bytes((golden / "journal_of_checkpoint.bin").read_bytes().ljust(1 << 20, b"\0"))
    position = end_of(tmp_path)
    (tmp_path / f"checkpoint-{position.next_seq:016d}.bin").write_bytes((golden / "checkpoint.bin").read_bytes())
    found = recover(tmp_path)
    assert not found.problems and not found.replayed and found.position == position
    assert found.ledger.digest() == whole(tmp_path)


def test_a_checkpoint_of_before_positions_without_executions_were_priced_is_read(tmp_path: Path) -> None:
    """``golden/checkpoint_unpriced.bin`` knows of one only that its money had not come: what it may bring is not known,
    and nothing of it is kept for the next checkpoint."""
    path = tmp_path / "checkpoint-0000000000000006.bin"
    path.write_bytes((Path(__file__).parents[1] / "golden" / "checkpoint_unpriced.bin").read_bytes())
    ledger, position = read_checkpoint(path)
    assert ledger.breakers and ledger.accounts.futures_qty("gateio_futures", "BTC_USDT") < 0
    assert not ledger.external.unpriced_positions
    again, _ = read_checkpoint(write_checkpoint(tmp_path, ledger, position))
    assert again.digest() == ledger.digest()


# --- the recorder's part ---


def followed(folder: Path, bytes_max: int, recorded: JournalPosition | None, *, last: bool = True) -> Checkpoints:
    made = Checkpoints(folder, bytes_max)
    while made.round(recorded, last=last):
        pass
    made.round(recorded, last=last)
    made.close()
    return made


def end_of(folder: Path) -> JournalPosition:
    reader = JournalReader(folder)
    while reader.poll():
        pass
    reader.close()
    assert reader.position is not None
    return reader.position


def test_segments_go_when_checkpoint_and_sqlite_ledger_have_them(
    stormy: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("EVERY_RECORDS", 40), ("STOP_RECORDS", 1), ("SLICE_RECORDS", 40)):
        monkeypatch.setattr(checkpoints, name, value)
    written(stormy, tmp_path)
    before, end = segment_indices(tmp_path), end_of(tmp_path)
    assert len(before) > 4
    nothing = followed(tmp_path, 0, None)
    assert nothing.written > 3 and not nothing.removed_segments and segment_indices(tmp_path) == before
    assert len(checkpoint_paths(tmp_path)) == 2
    journal = Journal.open(tmp_path, segment_bytes=SEGMENT_BYTES_MIN, start=end)
    for number in range(3):
        journal.append(StopRecord(str(number), 0, 0), 1, 1)
    journal.close()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "read_checkpoint", lambda path: pytest.fail("a second ledger for nothing"))
        assert followed(tmp_path, 1 << 40, end).written == 1
    assert segment_indices(tmp_path) == before, "below the limit nothing goes"
    journal = Journal.open(tmp_path, segment_bytes=SEGMENT_BYTES_MIN, start=end)
    journal.append(StopRecord("last", 0, 0), 1, 1)
    journal.close()
    behind = JournalPosition(before[2], 0, 0, b"")
    assert followed(tmp_path, 0, behind).removed_segments == 2
    assert segment_indices(tmp_path) == before[2:], "the SQLite ledger has not read further"
    expected = Ledger()
    for entry in stormy.entries:
        expected.apply(entry.record, entry.mono_ns, entry.wall_ns)
    for text in ("0", "1", "2", "last"):
        expected.apply(StopRecord(text, 0, 0), 1, 1)
    assert recover(tmp_path).ledger.digest() == expected.digest()


def test_a_journal_that_was_restored_from_an_older_copy_keeps_its_segments(
    stormy: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints of the lost part have higher numbers: they are neither the newest nor a bound for what may go."""
    for name, value in (("EVERY_RECORDS", 40), ("STOP_RECORDS", 1), ("SLICE_RECORDS", 40)):
        monkeypatch.setattr(checkpoints, name, value)
    written(stormy, tmp_path)
    newest = checkpoint_after(tmp_path, len(stormy.entries))
    checkpoint_after(tmp_path, len(stormy.entries) - 1)
    for index in segment_indices(tmp_path):
        segment_path(tmp_path, index).unlink()
    journal = Journal.open(tmp_path, segment_bytes=SEGMENT_BYTES_MIN)
    for entry in stormy.entries[: len(stormy.entries) // 2]:
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
    journal.append(StopRecord("another life", 0, 0), 1, 1)
    journal.close()
    digest = whole(tmp_path)
    made = followed(tmp_path, 0, end_of(tmp_path))
    assert len(made.set_aside) == 2 and newest.with_suffix(".unfit").exists() and not made.problem
    found = recover(tmp_path)
    assert not found.problems and found.ledger.digest() == digest and found.replayed < found.ledger.records


def test_a_disk_that_takes_nothing_is_tried_again(
    stormy: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "RETRY_S", 0.0)
    written(stormy, tmp_path)
    made = Checkpoints(tmp_path, 1 << 40)
    with monkeypatch.context() as full:
        full.setattr(os, "rename", _no_space)
        while made.round(None, last=True):
            pass
        assert "No space" in made.problem and not made.written
    made.round(None, last=True)
    made.close()
    assert made.written == 1 and not made.problem
    assert recover(tmp_path).replayed == 0


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_reader_whose_segment_is_gone_says_so(stormy: World, tmp_path: Path) -> None:
    written(stormy, tmp_path)
    segment_path(tmp_path, 1).unlink()
    reader = JournalReader(tmp_path, JournalPosition(1, 64, 1, bytes(8)))
    with pytest.raises(JournalError, match=r"segment is gone.*move ledger\.sqlite away"):
        reader.poll()


def test_a_journal_that_cannot_be_followed_ends_the_checkpoints_not_the_recorder(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, segment_bytes=SEGMENT_BYTES_MIN)
    records: list[Record] = [StopRecord("x", 0, 0)] * 3
    for record in records:
        journal.append(record, 1, 1)
    journal.close()
    made = Checkpoints(tmp_path, 0)
    path = segment_path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[64 + 56 + 1] ^= 1  # the first record's body
    path.write_bytes(content)
    assert not made.round(None) and "damaged in the middle" in made.problem
    assert not made.round(None)
    made.close()


# --- power ---


def test_under_power_the_folder_is_on_the_device_before_what_a_new_segment_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that is not in its folder is lost with the host, whatever of its content is on the device."""
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1])
    journal = Journal.open(tmp_path, segment_bytes=SEGMENT_BYTES_MIN, durability=Durability.POWER)
    segments = 1
    for number in range(1200):
        journal.append(StopRecord(str(number), 0, 0), 1, 1)
        journal.sync()
        if len(segment_indices(tmp_path)) > segments:
            segments += 1
            assert synced.count(str(tmp_path)) >= segments - 1
    journal.close()
    assert segments > 3
