"""What views say of an executor that was killed between two legs: nothing is called flat."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.execution.journal import SEGMENT_BYTES_MIN, Journal, segment_path, segment_start
from pipeline.execution.ledger import Ledger
from pipeline.execution.settled import checkpoint
from pipeline.execution.settled.checkpoint import Recovered, newest_checkpoint, recover, write_checkpoint
from pipeline.virtual.world import VirtualWorld
from tests.worlds.execution_starts import World, held_world
from tests.worlds.execution_world import make_config
from tests.worlds.external_world import FUTURES, HEDGE_QTY, MID, external_world
from workers.control_plane.announcer import Announcer
from workers.executor.publisher import Publisher
from workers.executor_file import write_executor_state
from workers.last_run.half_done import UNREADABLE, left_open_text
from workers.last_run.half_done import half_done as left_half_done
from workers.tradable import InstanceReasons
from workers.view.status import executor_fields

D = Decimal


@pytest.fixture(scope="module")
def half_done() -> Iterator[VirtualWorld]:
    """Spot is bought; the request of the futures leg is lost, so that its order has no answer."""
    world = external_world()
    world.arm(kind="drop_request", venue=FUTURES, target="place", count=9)
    world.market.move(FUTURES, "BTC_USDT", MID * D("1.006"))
    world.run(50)
    offered = world.opportunity("gateio_spot", FUTURES, "BTC/USDT", qty=HEDGE_QTY)
    assert offered is not None
    world.feed(offered)
    ledger = world.core.ledger
    assert world.run_until(lambda: len(ledger.unsettled) == 1, limit_ms=2000)
    assert ledger.open_operations and not ledger.recoveries
    yield world


def killed(world: VirtualWorld, folder: Path, *, stopped: bool = False) -> None:
    """The state folder as the executor left it; ``stopped``: in order, while this was open."""
    keep_journal(world, folder)
    world.core.context.now = world.now()
    state = Publisher(world.core, folder, lambda level, text: None).state(stopped=stopped)
    write_executor_state(folder, state)


def keep_journal(world: World | VirtualWorld, folder: Path) -> None:
    """The journal as it stands on the disk."""
    journal = Journal.open(folder / "journal", segment_bytes=4 * 1024 * 1024)
    for entry in world.entries:
        journal.boot_epoch = entry.boot_epoch
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
    journal.close()


@pytest.mark.parametrize("stopped", [False, True], ids=["killed", "stopped in the middle"])
def test_a_naked_leg_is_shown_after_its_executor(
    half_done: VirtualWorld, instance: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], stopped: bool
) -> None:
    killed(half_done, tmp_path, stopped=stopped)
    shown = executor_fields(tmp_path, running=False)
    (row,) = shown["open_operations"]
    bought = D(str(row["unmatched"]["BTC"]))
    assert abs(bought - HEDGE_QTY) < D("0.0005") and shown["unsettled_orders"] == 1
    said = [reason.what for reason in InstanceReasons(instance, tmp_path).reasons({}, running=False)]
    assert any(f"{bought} BTC without a partner: nobody watches" in what for what in said), said
    left = Announcer(instance, tmp_path, make_config(), units=False).left_open()
    assert left["open_operations"] and left["unsettled_orders"] == 1
    words = left_open_text(tmp_path)
    assert f"1 operations half done, 1 orders without an answer, {bought} BTC without a partner" in words
    said_at_the_end = capfd.readouterr().err
    assert f"stays open: 1 operations half done, 1 orders without an answer, {bought} BTC" in said_at_the_end
    assert "nothing stays open" not in said_at_the_end and "goes on with it" in said_at_the_end


def test_every_recovery_that_is_not_over_is_shown_after_a_kill(tmp_path: Path) -> None:
    world = external_world()
    world.arm(kind="reject", venue=FUTURES, target="place", count=9)
    world.arm(kind="reject", venue="gateio_spot", target="place", count=3, after=1)
    world.market.move(FUTURES, "BTC_USDT", MID * D("1.006"))
    world.run(50)
    offered = world.opportunity("gateio_spot", FUTURES, "BTC/USDT", qty=HEDGE_QTY)
    assert offered is not None
    world.feed(offered)
    assert world.run_until(
        lambda: any(r.state == "active" for r in world.core.ledger.recoveries.values()), limit_ms=5000
    )
    killed(world, tmp_path)
    assert "1 recoveries" in left_open_text(tmp_path)
    (row,) = executor_fields(tmp_path, running=False)["recoveries"]
    assert row["state"] == "active" and row["unmatched"]["BTC"] and not row["requires_manual_approval"]


def test_what_cannot_be_read_is_not_taken_for_nothing(half_done: VirtualWorld, tmp_path: Path) -> None:
    assert left_open_text(tmp_path) == "", "nobody has traded"
    killed(half_done, tmp_path)
    (tmp_path / "executor.json").write_text("{")
    assert "1 operations half done" in left_open_text(tmp_path), "the journal knows"
    for segment in (tmp_path / "journal").iterdir():
        segment.unlink()
    killed(half_done, tmp_path)
    for segment in (tmp_path / "journal").iterdir():
        segment.unlink()
    assert left_open_text(tmp_path) == UNREADABLE


def test_what_was_left_half_done_is_known_though_the_last_word_is_older(
    half_done: VirtualWorld, tmp_path: Path
) -> None:
    assert left_half_done(tmp_path) == "", "an instance that has never run"
    calm = external_world()
    killed(calm, tmp_path)  # what it had published a second before
    assert left_half_done(tmp_path) == ""
    for segment in (tmp_path / "journal").iterdir():
        segment.unlink()
    keep_journal(half_done, tmp_path)
    assert left_half_done(tmp_path).startswith("1 operations half done, 1 orders without an answer")


def test_a_journal_that_cannot_be_read_is_not_nothing(half_done: VirtualWorld, tmp_path: Path) -> None:
    killed(half_done, tmp_path)
    segment = segment_path(tmp_path / "journal", 1)
    damaged = bytearray(segment.read_bytes())
    damaged[300] ^= 1
    segment.write_bytes(damaged)
    assert left_half_done(tmp_path) == UNREADABLE


def test_a_segment_that_the_recorder_removes_meanwhile_is_no_damage(
    half_done: VirtualWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes a checkpoint and removes what lies before it; a reading that began at an older one meets the gap."""
    folder = tmp_path / "journal"
    journal = Journal.open(folder, segment_bytes=SEGMENT_BYTES_MIN)
    for entry in [half_done.entries[0]] * 1000 + half_done.entries:
        journal.boot_epoch = entry.boot_epoch
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
    journal.close()
    write_checkpoint(folder, Ledger(), segment_start(folder, 1))
    readings: list[Path] = []

    def meanwhile(directory: Path) -> Recovered:
        found = newest_checkpoint(directory)
        readings.append(directory)
        if len(readings) == 1:
            newest = recover(directory)
            assert newest.position is not None and newest.position.index > 1
            write_checkpoint(directory, newest.ledger, newest.position)
            segment_path(directory, 1).unlink()
        return found

    monkeypatch.setattr(checkpoint, "newest_checkpoint", meanwhile)
    assert left_half_done(tmp_path).startswith("1 operations half done, 1 orders without an answer")


@pytest.mark.parametrize("stopped", [False, True], ids=["killed", "stopped"])
def test_what_an_operator_holds_is_not_half_done(tmp_path: Path, stopped: bool) -> None:
    world = held_world()
    assert world.core.ledger.open_operations
    world.core.context.now = world.now()
    write_executor_state(tmp_path, Publisher(world.core, tmp_path, lambda level, text: None).state(stopped=stopped))
    keep_journal(world, tmp_path)
    assert left_half_done(tmp_path) == ""
