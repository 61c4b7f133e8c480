"""Owners and janitors racing: one owner, one cleaner, nothing that lives is ever removed, nothing is left."""

from __future__ import annotations

import os
from contextlib import ExitStack

from shm.errors import SegmentBusy
from shm.layout import LOG
from shm.segment import Segment, cleanup_instance, list_segments, segment_name
from tests.stress.support import Gate, children


def create(instance: str, what: str) -> Segment:
    return Segment.create(segment_name(instance, what), size_words=1024, kind=LOG.KIND, instance=instance)


def test_of_many_starts_at_once_exactly_one_owns(instance: str) -> None:
    for race in range(20):
        gate = Gate()
        read_end, write_end = os.pipe()
        release = Gate()

        def start(gate: Gate = gate, release: Gate = release, verdict: int = write_end, race: int = race) -> None:
            gate.wait()
            try:
                segment = create(instance, f"s{race % 3}")
            except SegmentBusy:
                os.write(verdict, b"-")
                return
            assert segment.is_current() and segment.owner_pid == os.getpid()
            os.write(verdict, b"+")
            release.wait()

        with ExitStack() as stack:
            started = stack.enter_context(children(*[start] * 4))
            gate.open()
            verdicts = b"".join(os.read(read_end, 1) for _ in started)
            assert sorted(verdicts) == sorted(b"+---"), verdicts
            release.open()
            assert [child.wait() for child in started] == [0] * 4
        os.close(read_end)
        os.close(write_end)
    assert cleanup_instance(instance) == [segment_name(instance, f"s{k}") for k in range(3)]
    assert list_segments(instance) == []


def test_each_orphan_has_exactly_one_cleaner(instance: str) -> None:
    orphans = [f"s{k:02d}" for k in range(40)]
    for what in orphans:
        create(instance, what).close()
    gate = Gate()
    read_end, write_end = os.pipe()

    def clean() -> None:
        gate.wait()
        for name in cleanup_instance(instance):
            os.write(write_end, f"{name}\n".encode())

    with children(*[clean] * 4) as janitors:
        gate.open()
        assert [janitor.wait() for janitor in janitors] == [0] * 4
    os.close(write_end)
    with os.fdopen(read_end) as lines:
        removed = lines.read().split()
    assert sorted(removed) == [segment_name(instance, what) for what in orphans]
    assert list_segments(instance) == []


def test_janitors_never_take_a_segment_from_its_new_owner(instance: str) -> None:
    """Owners come and go while janitors clean: whoever was given a segment keeps it until it lets go."""
    rounds = 300
    stop_read, stop_write = os.pipe()
    os.set_blocking(stop_read, False)

    def own() -> None:
        for k in range(rounds):
            segment = create(instance, f"s{k % 2}")
            segment.words[500] = k
            segment.set_ready()
            assert segment.is_current() and segment.words[500] == k, f"taken away in round {k}"
            segment.close()

    def clean() -> None:
        while True:
            cleanup_instance(instance)
            try:
                os.read(stop_read, 1)
                return
            except BlockingIOError:
                continue

    with children(clean, clean) as janitors, children(own) as (owner,):
        assert owner.wait() == 0
        os.write(stop_write, b"xx")
        assert [janitor.wait() for janitor in janitors] == [0, 0]
    cleanup_instance(instance)
    assert list_segments(instance) == []
    os.close(stop_read)
    os.close(stop_write)
