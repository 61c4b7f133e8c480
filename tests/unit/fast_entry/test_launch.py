"""An entry in one jitted call: its bytes are in the sockets, whole, signed and framed, or nothing of it has left."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pipeline.execution.journal import Place, read_journal
from pipeline.execution.records import OperationRecord, OrderIntentRecord
from pipeline.fast_entry.encoder import Ahead, ahead_of
from pipeline.fast_entry.launch import FIRST, SECOND, frame_text
from pipeline.model.enums import Refusal
from pipeline.rehearsal.entry_world import EntryWorld
from pipeline.rehearsal.fast_lane import rehearsed_template
from pipeline.risk.last_look import LastLook
from pipeline.templates.slots import (
    BOOKS_TOO_OLD,
    EXPIRED,
    FIRST_FORBIDDEN,
    GIVEN,
    NOT_TRIED,
    SECOND_FORBIDDEN,
)
from shm.layout_pages import HALT
from tests.naive.orders import framed, hex_signature, unframed
from tests.worlds.fast_entry_world import a_world, opened, ordinary
from tests.worlds.performer_world import WorldHalt

MS = 1_000_000


class Sockets:
    """Two plain connections."""

    def __init__(self) -> None:
        self.pairs = [socket.socketpair() for _ in range(2)]
        for _, theirs in self.pairs:
            theirs.setblocking(False)
        self.fds = (self.pairs[0][0].fileno(), self.pairs[1][0].fileno())

    def came(self, number: int) -> bytes:
        try:
            return self.pairs[number][1].recv(1 << 20)
        except BlockingIOError:
            return b""

    def fill(self, number: int) -> None:
        """Until the kernel takes no more."""
        ours = self.pairs[number][0]
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        while True:
            try:
                ours.send(bytes(1024))
            except BlockingIOError:
                break

    def close(self) -> None:
        for end in (*self.pairs[0], *self.pairs[1]):
            end.close()


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    made = Sockets()
    yield made
    made.close()


@pytest.fixture
def world() -> Iterator[EntryWorld]:
    with a_world(template_of=rehearsed_template) as made:
        opened(made)
        assert made.fast_entry.offer(ordinary(made), made.halt, made.now())
        yield made


def at_time(now_ns: int) -> Ahead:
    """A clock that shows this at the call."""
    return ahead_of(lambda: now_ns)


def write(world: EntryWorld) -> None:
    world.fast_entry.write(world.journal, world.now(), (7, 7))


def go(world: EntryWorld, sockets: Sockets, *, clock_ns: int = 0) -> None:
    """All of it in one call."""
    at = at_time(clock_ns or world.now_ns)
    world.fast_entry.write(world.journal, world.now(), (7, 7), halt=world.halt, fds=sockets.fds, ahead=at)


def stops(world: EntryWorld) -> list[int]:
    return [launched.stop for launched in world.fast_entry.launches()]


@settings(deadline=None)
@given(some.binary(max_size=600), some.integers(0, 2**32 - 1))
def test_a_frame_is_that_of_its_slow_twin(payload: bytes, key: int) -> None:
    octets = np.zeros(8 + len(payload), np.uint8)
    octets[8:] = np.frombuffer(payload, np.uint8)
    start = frame_text(octets, 8, len(payload), key)
    assert bytes(octets[start:]) == framed(payload, key)
    assert unframed(bytes(octets[start:])) == payload


def test_one_call_is_what_its_steps_are(world: EntryWorld, sockets: Sockets) -> None:
    """The same records and the same bytes, whether nothing comes between or each step is called for itself."""
    go(world, sockets)
    at_once = sockets.came(0), unframed(sockets.came(1))
    records = world.journal.recent(3)
    world.core.context.ids._count -= 3  # the same ids once more
    write(world)
    plain = [bytes(order.view) for order in world.fast_entry.orders()]
    world.fast_entry.launch(FIRST, world.halt, sockets.fds, at_time(world.now_ns))
    assert sockets.came(0) and not sockets.came(1)
    assert stops(world) == [GIVEN, NOT_TRIED]
    world.fast_entry.launch(SECOND, world.halt, sockets.fds, at_time(world.now_ns))
    assert unframed(sockets.came(1)) == plain[1]
    assert plain == list(at_once)
    assert world.journal.recent(3) == records
    *_, operation, first, second = read_journal(world.journal.directory)  # chain and checksums
    assert isinstance(operation.record, OperationRecord)
    assert all(isinstance(intent.record, OrderIntentRecord) for intent in (first, second))


def test_the_first_order_is_signed_over_what_stands_between_its_marks(world: EntryWorld, sockets: Sockets) -> None:
    go(world, sockets)
    order, wire = world.fast_entry.orders()[0], sockets.came(0)
    assert wire == bytes(order.view)
    start, stop, place = order.signed
    assert wire[place : place + 64].decode() == hex_signature(b"rehearsal", wire[start:stop])


def test_no_two_entries_have_one_mask(world: EntryWorld, sockets: Sockets) -> None:
    masks = set()
    for _ in range(8):
        go(world, sockets)
        masks.add(sockets.came(1)[4:8])
        world.fast_entry.entered(world.journal)
    assert len(masks) == 8


def test_stamps_are_on_the_callers_clock(world: EntryWorld, sockets: Sockets) -> None:
    go(world, sockets, clock_ns=world.now_ns + 5)
    first, second = world.fast_entry.launches()
    assert world.now_ns + 5 <= first.looked_mono_ns <= first.sent_mono_ns <= second.looked_mono_ns
    assert second.looked_mono_ns <= second.sent_mono_ns
    assert (first.taken, second.taken) == (first.size, second.size)


# --- the last look ---


@pytest.mark.parametrize(
    ("word", "value", "stop", "refusal"),
    [
        (HALT.latch, 1, FIRST_FORBIDDEN, Refusal.HALT_LATCH),
        (HALT.lease_token, 99, FIRST_FORBIDDEN, Refusal.LEASE),
        (HALT.lease_expiry_mono_ns, 1, FIRST_FORBIDDEN, Refusal.LEASE),
        (HALT.venue_blocked, 1, FIRST_FORBIDDEN, Refusal.VENUE_BLOCKED),
        (HALT.venue_blocked + 1, 1, SECOND_FORBIDDEN, Refusal.VENUE_BLOCKED),
        (HALT.instrument_blocked, 1, FIRST_FORBIDDEN, Refusal.INSTRUMENT_BLOCKED),
        (HALT.instrument_blocked + 1, 1, SECOND_FORBIDDEN, Refusal.INSTRUMENT_BLOCKED),
    ],
)
def test_what_the_guard_has_said_since_the_verdict_keeps_both_orders(
    world: EntryWorld, sockets: Sockets, word: int, value: int, stop: int, refusal: Refusal
) -> None:
    world.halt[word] = value
    go(world, sockets)
    assert stops(world) == [stop, NOT_TRIED] and not sockets.came(0) and not sockets.came(1)
    look = LastLook(world.core.context, WorldHalt(world), {row.spec.venue: row.venue_id for row in world.rows})
    orders, launched = world.fast_entry.orders(), world.fast_entry.launches()[0]
    assert look.stopped(orders, launched.stop, launched.looked_mono_ns)[0] is refusal
    assert look.entry(orders, launched.looked_mono_ns, 2**62, first=True) == look.stopped(
        orders, launched.stop, launched.looked_mono_ns
    )
    assert len(world.journal.recent(3)) == 3, "what was written down stands"


@pytest.mark.parametrize("word", [HALT.latch, HALT.venue_blocked + 1, HALT.instrument_blocked + 1])
def test_the_second_order_is_looked_at_once_more(world: EntryWorld, sockets: Sockets, word: int) -> None:
    write(world)
    world.fast_entry.launch(FIRST, world.halt, sockets.fds, at_time(world.now_ns))
    world.halt[word] = 1
    world.fast_entry.launch(SECOND, world.halt, sockets.fds, at_time(world.now_ns))
    assert stops(world) == [GIVEN, SECOND_FORBIDDEN] and sockets.came(0) and not sockets.came(1)


@pytest.mark.parametrize("ms", [0, 50, 99, 100, 101, 300])
def test_the_age_of_the_books_is_bounded_for_the_first_order_alone(
    world: EntryWorld, sockets: Sockets, ms: int
) -> None:
    bound_ns = world.config.detection.max_age_to_trade_ms * MS
    write(world)
    at_ns = world.now_ns + ms * MS
    world.fast_entry.launch(FIRST | SECOND, world.halt, sockets.fds, at_time(at_ns))
    looked_ns = world.fast_entry.launches()[0].looked_mono_ns
    young = looked_ns - world.now_ns <= bound_ns
    assert stops(world) == ([GIVEN, GIVEN] if young else [BOOKS_TOO_OLD, NOT_TRIED])
    look = LastLook(world.core.context, WorldHalt(world), {row.spec.venue: row.venue_id for row in world.rows})
    assert (look.entry(world.fast_entry.orders(), looked_ns, 2**62, first=True) is None) is young
    write(world)
    world.fast_entry.launch(FIRST, world.halt, sockets.fds, at_time(world.now_ns))
    world.fast_entry.launch(SECOND, world.halt, sockets.fds, at_time(at_ns))
    assert stops(world) == [GIVEN, GIVEN], "keeping it back would leave the first one alone"


def test_an_order_that_the_venue_would_refuse_by_now_does_not_leave(world: EntryWorld, sockets: Sockets) -> None:
    write(world)
    expiry_ns = world.now_ns + world.config.execution.entry_window_ms * MS
    world.fast_entry.launch(FIRST | SECOND, world.halt, sockets.fds, at_time(expiry_ns))
    assert stops(world) == [EXPIRED, NOT_TRIED] and not sockets.came(0)


# --- sockets that take less ---


def test_the_second_order_waits_where_the_first_did_not_leave_whole(world: EntryWorld, sockets: Sockets) -> None:
    sockets.fill(0)
    go(world, sockets)
    first, second = world.fast_entry.launches()
    assert (first.stop, first.taken) == (GIVEN, -errno.EAGAIN)
    assert second.stop == NOT_TRIED and not sockets.came(1)
    assert bytes(world.fast_entry.wire(first)) == bytes(world.fast_entry.orders()[0].view)


def test_a_reset_connection_takes_nothing_and_says_so(world: EntryWorld, sockets: Sockets) -> None:
    sockets.pairs[0][1].close()
    go(world, sockets)
    first, second = world.fast_entry.launches()
    assert (first.stop, first.taken, second.stop) == (GIVEN, -errno.EPIPE, NOT_TRIED)


def test_no_socket_is_no_send(world: EntryWorld) -> None:
    world.fast_entry.write(world.journal, world.now(), (7, 7), halt=world.halt, ahead=at_time(world.now_ns))
    assert world.fast_entry.launches()[0].taken == -errno.EBADF


def test_what_passes_before_the_call_makes_the_books_older(world: EntryWorld, sockets: Sockets) -> None:
    """The room in the journal is claimed behind the verdict: a rotation, a pause of the process."""
    passed_ns, claim = 0, world.journal.claim

    def slow(size_bytes: int) -> Place:
        nonlocal passed_ns
        passed_ns = (world.config.detection.max_age_to_trade_ms + 1) * MS
        return claim(size_bytes)

    world.journal.claim = slow  # type: ignore[method-assign]
    began_ns = world.now_ns
    at = ahead_of(lambda: began_ns + passed_ns)
    world.fast_entry.write(world.journal, world.now(), (7, 7), halt=world.halt, fds=sockets.fds, ahead=at)
    assert stops(world) == [BOOKS_TOO_OLD, NOT_TRIED] and not sockets.came(0) and not sockets.came(1)
