"""Segments: one proved owner, refused forgeries, take-over, janitor, arenas."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shm import segment as sg
from shm.errors import SegmentBusy, SegmentMismatch, SegmentMissing, ShmError, ShmFull
from shm.layout import FEED, HEADER, LAYOUT_VERSION, MAGIC
from shm.segment import Segment, attach_arena, cleanup_instance, owner_lives, segment_name
from tests.paths import REPO
from tests.stress.support import Signpost, children, fork

PAGE_WORDS = mmap.PAGESIZE // 8
SIZE = 2000
KIND = FEED.KIND


def make(instance: str, what: str = "x", *, size: int = SIZE, kind: int = KIND, ready: bool = True) -> Segment:
    segment = Segment.create(segment_name(instance, what), size_words=size, kind=kind, instance=instance)
    if ready:
        segment.set_ready()
    return segment


def attach(instance: str, what: str = "x", kind: int = KIND) -> Segment:
    return Segment.attach(segment_name(instance, what), kind=kind, instance=instance)


def path_of(instance: str, what: str = "x") -> Path:
    return sg.SHM_FOLDER / segment_name(instance, what)[1:]


def test_created_segment_is_zero_private_to_the_group_and_complete(instance: str) -> None:
    old = os.umask(0o077)
    try:
        segment = make(instance)
    finally:
        os.umask(old)
    found = path_of(instance).stat()
    assert stat.S_IMODE(found.st_mode) == 0o640 and found.st_size == SIZE * 8
    assert found.st_blocks * 512 >= SIZE * 8, "reserved, not sparse"
    assert not segment.words[HEADER.WORDS :].any()
    assert (segment.epoch, segment.owner_pid, segment.taken_over) == (1, os.getpid(), False)
    assert owner_lives(segment.name)
    assert segment.owner_start == sg.process_start_ticks(os.getpid()) > 0


def test_reader_sees_what_the_owner_writes_and_cannot_write_itself(instance: str) -> None:
    segment = make(instance)
    reader = attach(instance)
    segment.words[100] = 42
    assert reader.words[100] == 42
    with pytest.raises(ShmError, match="only the owner"):
        reader.unlink()

    def store() -> None:
        reader.words[100] = 1

    assert fork(store).wait() == -signal.SIGSEGV, "the MMU refuses a store into a read-only map"
    assert reader.words[100] == 42


def test_segment_is_missing_until_ready(instance: str) -> None:
    with pytest.raises(SegmentMissing, match="no segment"):
        attach(instance)
    segment = make(instance, ready=False)
    with pytest.raises(SegmentMissing, match="not READY"):
        attach(instance)
    segment.set_ready()
    assert attach(instance).ready


def test_living_owner_is_busy_for_others_and_for_itself(instance: str) -> None:
    make_first = make(instance)
    with pytest.raises(SegmentBusy):
        make(instance)

    def second_start() -> None:
        with pytest.raises(SegmentBusy):
            make(instance)

    assert fork(second_start).wait() == 0 and owner_lives(make_first.name)


def test_forked_child_does_not_keep_its_parents_ownership_alive(instance: str) -> None:
    ready, done = Signpost(), Signpost()

    def parent() -> None:
        segment = make(instance)

        def grandchild() -> None:
            with pytest.raises(ShmError, match="only the owner"):
                segment.unlink()
            assert segment.words[HEADER.magic] == MAGIC
            ready.reached()
            done.await_reached()

        fork(grandchild)
        os.kill(os.getpid(), 9)

    with children(parent) as (owner,):
        assert owner.wait() == -9
        ready.await_reached()
        assert not owner_lives(segment_name(instance, "x")), "its inherited map lives, the lock does not"
        assert make(instance).epoch == 2
        done.reached()


def test_dead_owners_segment_is_taken_over_in_place_with_the_next_epoch(instance: str) -> None:
    def owner() -> None:
        segment = make(instance)
        segment.words[100] = 7
        os.kill(os.getpid(), 9)

    assert fork(owner).wait() == -9
    reader = attach(instance)
    assert (reader.epoch, reader.words[100], owner_lives(reader.name)) == (1, 7, False)
    again = make(instance, ready=False)
    assert again.taken_over and again.words[100] == 7
    assert (reader.epoch, reader.ready, reader.owner_pid) == (2, False, os.getpid()), "readers see it without attaching"
    again.set_ready()
    assert reader.ready and reader.is_current()


def test_owner_that_died_before_ready_is_replaced_as_well(instance: str) -> None:
    assert fork(lambda: make(instance, ready=False)).wait() == 0
    with pytest.raises(SegmentMissing):
        attach(instance)
    assert make(instance).epoch == 2


def test_newborn_without_room_yet_is_missing_and_replaced_if_its_owner_died(instance: str) -> None:
    path_of(instance).touch(mode=0o600)
    with pytest.raises(SegmentMissing, match="creating"):
        attach(instance)
    assert not attach_arena([segment_name(instance, "x")], KIND, instance, SIZE).is_mapped(0)
    assert make(instance).epoch == 1 and attach(instance).ready


@pytest.mark.parametrize("change", ["size", "kind", "build", "layout", "magic", "mode"])
def test_dead_segment_of_another_make_is_replaced_and_its_readers_see_that_it_ended(instance: str, change: str) -> None:
    segment = make(instance)
    reader = attach(instance)
    if change in ("build", "layout", "magic"):
        word = {"build": HEADER.build_hash, "layout": HEADER.layout_version, "magic": HEADER.magic}[change]
        segment.words[word] += 1
    if change == "mode":
        path_of(instance).chmod(0o660)
    segment.close()
    again = make(instance, size=SIZE * (2 if change == "size" else 1), kind=KIND + (change == "kind"))
    assert not again.taken_over and again.ready and not again.words[HEADER.WORDS :].any()
    assert not reader.is_current()
    if change not in ("magic", "mode"):
        assert again.epoch == 2 and not reader.ready
    if change == "magic":
        assert again.epoch == 1, "nothing in it can be believed"


def corrupt(word: int, value: int) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with path.open("r+b") as handle:
            handle.seek(word * 8)
            handle.write(value.to_bytes(8, "little", signed=True))

    return apply


FORGERIES: list[tuple[str, Callable[[Path], object]]] = [
    ("magic", corrupt(HEADER.magic, 1)),
    ("layout version", corrupt(HEADER.layout_version, LAYOUT_VERSION + 1)),
    ("schema hash", corrupt(HEADER.schema_hash, 1)),
    ("build hash", corrupt(HEADER.build_hash, 1)),
    ("kind", corrupt(HEADER.kind, KIND + 1)),
    ("instance", corrupt(HEADER.instance, 1)),
    ("size in words", corrupt(HEADER.size_words, SIZE + 1)),
    ("size in words", lambda path: os.truncate(path, SIZE * 4)),
    ("size in words", lambda path: os.truncate(path, SIZE * 16)),
    ("is no segment", lambda path: os.truncate(path, 64)),
    ("is no segment", lambda path: os.truncate(path, SIZE * 8 - 3)),
    ("mode 666", lambda path: path.chmod(0o666)),
    ("mode 600", lambda path: path.chmod(0o600)),
]


@pytest.mark.parametrize(("message", "forge"), FORGERIES)
def test_forged_mismatching_or_truncated_segment_is_refused(
    instance: str, message: str, forge: Callable[[Path], object]
) -> None:
    segment = make(instance)
    segment.close()
    forge(path_of(instance))
    with pytest.raises(SegmentMismatch, match=message):
        attach(instance)
    with pytest.raises(SegmentMismatch, match=message):
        attach_arena([segment.name], KIND, instance, SIZE)


def test_a_segment_of_another_build_names_the_arb_beside_its_owners_python(instance: str) -> None:
    segment = make(instance)
    corrupt(HEADER.build_hash, -0x7C23)(path_of(instance))
    arb = Path(sys.executable).parent / "arb"
    assert arb.exists(), "the console script of the checkout that runs these tests"
    with pytest.raises(
        SegmentMismatch, match=r"build hash is 0xf+83dd, wanted 0x[0-9a-f]+; another installation"
    ) as refused:
        attach(instance)
    assert str(refused.value).endswith(f"use the arb that started it ({arb})")
    corrupt(HEADER.owner_pid, 0)(path_of(instance))  # nobody: no path to name
    with pytest.raises(SegmentMismatch, match=r"use the arb that started it$"):
        attach(instance)
    segment.close()


def test_reader_of_a_truncated_segment_dies_and_takes_nobody_with_it(instance: str) -> None:
    segment = make(instance, size=4 * PAGE_WORDS)
    mapped, cut = Signpost(), Signpost()

    def read() -> None:
        reader = attach(instance)
        mapped.reached()
        cut.await_reached()
        assert reader.words[3 * PAGE_WORDS] == 0

    with children(read) as (child,):
        mapped.await_reached()
        os.truncate(path_of(instance), PAGE_WORDS * 8)  # only the owner's user can
        cut.reached()
        assert child.wait() == -signal.SIGBUS, "its supervisor starts it again; what it then attaches is refused"
    with pytest.raises(SegmentMismatch, match="size in words"):
        attach(instance)
    assert segment.words[0] == MAGIC


def test_symbolic_link_in_place_of_a_segment_is_not_followed(instance: str, tmp_path: Path) -> None:
    target = tmp_path / "victim"
    target.write_bytes(b"x" * 4096)
    path_of(instance).symlink_to(target)
    with pytest.raises((SegmentMismatch, SegmentMissing)):
        attach(instance)
    with pytest.raises((SegmentMismatch, SegmentBusy)):
        make(instance)
    assert target.read_bytes() == b"x" * 4096


@pytest.mark.host
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as two users")
class TestTwoUsers:
    """Root hides a breach: owner and reader really are different users here."""

    OTHER = 65534

    def as_other(self, body: Callable[[], object]) -> int:
        def run() -> None:
            os.setgroups([])
            os.setgid(0)  # the group of the segment
            os.setuid(self.OTHER)
            body()

        return fork(run).wait()

    def test_reader_of_the_group_reads_once_it_trusts_the_owner_and_writes_never(self, instance: str) -> None:
        segment = make(instance)
        segment.words[100] = 5

        def read() -> None:
            with pytest.raises(SegmentMismatch, match="uid 0"):
                attach(instance)
            sg.trust_owner_uids([0])
            assert attach(instance).words[100] == 5
            arena = attach_arena([segment.name], KIND, instance, SIZE)
            assert arena.words[100] == 5 and owner_lives(segment.name)
            with pytest.raises(SegmentMismatch, match="not ours"):
                Segment.attach(segment.name, kind=KIND, instance=instance, writable=True)
            with pytest.raises(SegmentMismatch, match="not ours"):
                make(instance)
            assert cleanup_instance(instance) == []

        assert self.as_other(read) == 0

    def test_reader_cannot_take_the_lock_of_a_dead_owner(self, instance: str) -> None:
        make(instance).close()

        def try_all() -> None:
            assert cleanup_instance(instance) == []
            with pytest.raises(SegmentMismatch):
                make(instance)

        assert self.as_other(try_all) == 0 and attach(instance).epoch == 1

    def test_segment_made_by_another_user_under_our_name_is_refused(self, instance: str) -> None:
        def squat() -> None:
            make(instance).close()

        assert self.as_other(squat) == 0
        for attempt in (attach, make):
            with pytest.raises(SegmentMismatch, match=str(self.OTHER)):
                attempt(instance)
        assert cleanup_instance(instance) == [] and path_of(instance).exists()


def test_full_file_system_refuses_and_leaves_nothing(instance: str) -> None:
    with pytest.raises(ShmFull, match="no room for"):
        make(instance, size=2**50)
    assert not path_of(instance).exists()


SMALL = """
import sys
from shm.segment import Segment, segment_name
from shm.errors import ShmFull
from shm import layout as ly
for k in range(100):
    try:
        s = Segment.create(segment_name(sys.argv[1], f"s{k}"), size_words=8192, kind=1, instance=sys.argv[1])
    except ShmFull as error:
        print("full after", k, "missing", not __import__("pathlib").Path(f"/dev/shm/arb.{sys.argv[1]}.s{k}").exists())
        break
    s.words[:] = 1
"""


@pytest.mark.host
def test_small_shared_memory_file_system_fills_up_without_a_bus_error(instance: str) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("needs root and unshare(1) for a shared-memory file system of its own")
    mount = "mount -t tmpfs -o size=256k none /dev/shm"
    probe = subprocess.run([unshare, "-m", "sh", "-c", mount], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"this host gives no mount namespace: {probe.stderr.decode().strip()}")
    command = f"{mount} && exec {sys.executable} -c '{SMALL}' {instance}"
    done = subprocess.run([unshare, "-m", "sh", "-c", command], capture_output=True, text=True, check=False, cwd=REPO)
    assert done.stdout.strip() == "full after 4 missing True", done.stderr


def test_janitor_removes_the_dead_and_spares_the_living_and_other_instances(instance: str) -> None:
    alive = make(instance, "live")
    for what in ("a", "b"):
        make(instance, what).close()
    other = make(instance + "0", "a")
    other.close()
    assert cleanup_instance(instance) == [segment_name(instance, "a"), segment_name(instance, "b")]
    assert sg.list_segments(instance) == [alive.name] and other.is_current()
    assert cleanup_instance(instance + "0") == [other.name]
    alive.close()
    assert cleanup_instance(instance) == [alive.name] and sg.list_segments(instance) == []


def test_janitor_that_was_overtaken_by_a_new_owner_leaves_the_new_segment(
    instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(instance).close()
    successors: list[Segment] = []
    opened = sg._open

    def overtaken(name: str, *, writable: bool) -> int:
        fd = opened(name, writable=writable)
        monkeypatch.setattr(sg, "_open", opened)
        path_of(instance).unlink()
        successors.append(make(instance))
        return fd

    monkeypatch.setattr(sg, "_open", overtaken)
    assert cleanup_instance(instance) == [] and successors[0].is_current()


def test_cleaner_in_passing_is_no_owner_and_starters_wait_for_it(
    instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(instance).close()
    with path_of(instance).open("r+b") as cleaner:
        assert sg._lock(cleaner.fileno(), sg._CLEANER)
        assert not owner_lives(segment_name(instance, "x"))
        waits: list[float] = []

        def cleaner_goes(seconds: float) -> None:
            waits.append(seconds)
            cleaner.close()

        monkeypatch.setattr(sg.time, "sleep", cleaner_goes)
        assert make(instance).epoch == 2 and len(waits) == 1


def test_readers_exit_unlinks_nothing(instance: str) -> None:
    segment = make(instance)

    def read() -> None:
        attach(instance).close()

    assert fork(read).wait() == 0 and segment.is_current()


def test_owner_unlinks_only_its_own_object(instance: str) -> None:
    segment = make(instance)
    path_of(instance).unlink()
    successor = make(instance)
    segment.unlink()
    assert successor.is_current() and not segment.is_current()
    successor.unlink()
    assert not path_of(instance).exists()


def test_arrays_stay_mapped_after_close(instance: str) -> None:
    segment = make(instance)
    words = segment.words
    words[200] = 9
    segment.close()
    del segment
    assert words[200] == 9
    view = words[199:201]
    del words
    assert view[1] == 9


@pytest.mark.parametrize(
    ("name", "what"), [("", "x"), ("a.b", "x"), ("a", ""), ("a/b", "x"), ("a", "../x"), ("a", "x" * 300), ("a b", "x")]
)
def test_names_that_could_lead_elsewhere_are_refused(name: str, what: str) -> None:
    with pytest.raises(ShmError, match="segment name"):
        segment_name(name, what)


def test_segment_smaller_than_its_header_is_refused(instance: str) -> None:
    with pytest.raises(ShmError, match="smaller than its header"):
        make(instance, size=15)


class TestArena:
    def test_spans_segments_that_come_go_and_are_replaced(self, instance: str) -> None:
        names = [segment_name(instance, what) for what in ("a", "b", "c")]
        first = make(instance, "a")
        first.words[50] = 1
        arena = attach_arena(names, KIND, instance, SIZE)
        assert [arena.is_mapped(i) for i in range(3)] == [True, False, False]
        offsets = [arena.offset_of(i) for i in range(3)]
        assert all(off % PAGE_WORDS == 0 for off in offsets) and offsets[1] >= SIZE
        assert arena.words[offsets[0] + 50] == 1 and not arena.words[offsets[1] : offsets[1] + SIZE].any()
        third = make(instance, "c", size=600)
        third.words[599] = 3
        words = arena.words
        assert arena.refresh() == [2] and words[offsets[2] + 599] == 3 and arena.refresh() == []
        first.close()
        assert make(instance, "a").taken_over and arena.refresh() == []
        third.close()
        bigger = make(instance, "c", size=SIZE)
        bigger.words[SIZE - 1] = 4
        assert arena.refresh() == [2] and words[offsets[2] + SIZE - 1] == 4 and words[offsets[2] + 599] == 0
        bigger.close()
        make(instance, "c", size=100)
        assert arena.refresh() == [2] and not words[offsets[2] + PAGE_WORDS :].any()

    def test_not_ready_segment_reads_as_zeros_until_it_is(self, instance: str) -> None:
        segment = make(instance, ready=False)
        segment.words[50] = 1
        arena = attach_arena([segment.name], KIND, instance, SIZE)
        assert not arena.is_mapped(0) and arena.words[50] == 0
        segment.set_ready()
        assert arena.refresh() == [0] and arena.words[50] == 1

    def test_segment_that_does_not_fit_its_slot_is_refused(self, instance: str) -> None:
        segment = make(instance)
        with pytest.raises(SegmentMismatch, match="arena slots"):
            attach_arena([segment.name], KIND, instance, 600)

    def test_slot_out_of_range_is_refused(self, instance: str) -> None:
        arena = attach_arena([segment_name(instance, "a")], KIND, instance, SIZE)
        with pytest.raises(ShmError, match="out of range"):
            arena.offset_of(1)


def test_an_arena_leaves_out_a_segment_that_goes_while_it_is_mapped(
    instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance that stops removes its memory between two looks of a reader."""
    segment = make(instance)

    def attached_and_gone(name: str, *, kind: int, instance: str) -> Segment:
        found = real(name, kind=kind, instance=instance)
        path_of(instance).unlink()
        return found

    real = Segment.attach
    monkeypatch.setattr(Segment, "attach", attached_and_gone)
    assert not attach_arena([segment.name], KIND, instance, SIZE).is_mapped(0)
