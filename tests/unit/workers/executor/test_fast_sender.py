"""The sender of approved entries, with the sessions of MEXC and Gate.io over plain sockets of this host."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pipeline.exchanges.transport.throttle import Limit, Throttle
from pipeline.execution.events import NotSent, Sent, request_of
from pipeline.execution.records import OrderIntentRecord
from pipeline.fast_entry import launch as launch_module
from pipeline.model.clock import mono_ns
from pipeline.model.enums import Durability, Refusal
from pipeline.model.errors import VenueUnavailable
from pipeline.model.venue_events import OutcomeKind, PlaceOutcome
from shm.layout_pages import HALT
from tests.worlds.fast_entry_world import opened
from tests.worlds.tls.certificates import certificates
from tests.worlds.tls.sender_rig import Rig, found, in_loop, opened_rig
from workers.executor.fast_sender import Sending


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates().authority))


over_both = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


@over_both
@pytest.mark.parametrize("how", ["in one", "steps", "power", "by hand"])
@in_loop
async def test_both_venues_read_what_their_codecs_would_have_written(tmp_path: Path, how: str, tls: bool) -> None:
    async with opened_rig(tmp_path, tls=tls) as rig:
        if how == "power":
            rig.world.journal.durability = Durability.POWER
        if how == "by hand":
            rig.mexc.direct_line = lambda: None  # type: ignore[method-assign]
        sending = rig.send(steps=how == "steps")
        assert [type(event) for event in sending.followers] == [Sent, Sent] and sending.kept_back is None
        if how != "by hand":
            assert all(sent.taken == sent.size for sent in rig.world.fast_entry.launches()), "by the kernel"
        await rig.until(lambda: rig.http.endswith(b"\r\n\r\n") and rig.frames)
        first, second = (r for r in rig.world.journal.recent(3) if isinstance(r, OrderIntentRecord))
        now_ms = int(rig.http.split(b"timestamp=")[1].split(b"&")[0])
        rig.mexc.client.clock = SimpleNamespace(now_ms=lambda: now_ms)  # type: ignore[assignment]
        window_ms = rig.world.config.execution.entry_window_ms
        wanted = rig.mexc.order_payload(
            msgspec.structs.replace(request_of(first), expiry_wall_ms=now_ms + window_ms), now_ms
        )
        assert rig.http == wanted, "signature and all"
        exact = msgspec.json.decode(rig.gate.order_payload(request_of(second), now_ms))
        came = msgspec.json.decode(rig.frames[0])
        assert came["payload"]["req_param"] == exact["payload"]["req_param"]
        assert came["payload"]["req_id"] == exact["payload"]["req_id"] == f"p-{second.client_id}"
        assert set(rig.mexc.in_flight) == {f"p-{first.client_id}"}
        assert set(rig.gate.in_flight) == {f"p-{second.client_id}"}
        assert rig.gate.in_flight[f"p-{second.client_id}"].link is rig.link
        if how == "steps":
            assert rig.passed == ["journalled", "signed", "before_send", "after_first_leg_sent", "before_send"]


@over_both
@in_loop
async def test_answers_and_losses_find_their_orders(tmp_path: Path, tls: bool) -> None:
    async with opened_rig(tmp_path, tls=tls) as rig:
        rig.send()
        bought, sold = rig.ids()
        await rig.until(lambda: rig.http and rig.frames)
        for transport in rig.venue_side:
            transport.abort()
        await rig.until(lambda: len(rig.events) >= 2)
        ended = {event.client_id: event.kind for event in rig.events if isinstance(event, PlaceOutcome)}
        assert ended == {bought: OutcomeKind.UNKNOWN, sold: OutcomeKind.UNKNOWN}, "never rejected"


@in_loop
async def test_the_journal_and_the_orders_are_alike_whoever_encrypts(tmp_path: Path) -> None:
    """By the kernel, by the sessions' own calls, and not at all."""
    journals, frames = [], []
    for number, (tls, by_kernel) in enumerate([(False, True), (True, True), (True, False)]):
        async with opened_rig(tmp_path / str(number), tls=tls) as rig:
            if not by_kernel:
                rig.mexc.direct_line = lambda: None  # type: ignore[method-assign]
            for session in (rig.mexc, rig.gate):
                session.client.clock = SimpleNamespace(now_ms=lambda: 1_700_000_000_000)  # type: ignore[assignment]
            rig.send()
            await rig.until(lambda: rig.http.endswith(b"\r\n\r\n") and rig.frames)
            http = rig.http.replace(rig.mexc.config.rest.partition("://")[2].encode(), b"host")
            frames.append((http, rig.frames))
            rig.world.journal.sync()
            (path,) = rig.world.journal.directory.glob("journal-*.seg")
            journals.append(path.read_bytes())
    assert frames[0] == frames[1] == frames[2]
    assert journals[0] == journals[1] == journals[2]


@in_loop
async def test_a_record_that_no_socket_took_ends_its_connection(tmp_path: Path) -> None:
    """It was counted when it was made: nothing behind it could be read."""
    async with opened_rig(tmp_path, tls=True) as rig:
        await rig.until(lambda: rig.mexc._pool.idle_count == 4)
        run = rig.world.fast_entry.encoder.run
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(4096))

        def full(done: int, halt: Any, ints: Any, *, fds: tuple[int, int], **more: Any) -> None:
            run(done, halt, ints, fds=(ours.fileno(), fds[1]), **more)

        rig.world.fast_entry.encoder.run = full  # type: ignore[method-assign, assignment]
        sending = rig.send()
        assert rig.world.fast_entry.launches()[0].taken == -errno.EAGAIN
        assert [type(event) for event in sending.followers] == [NotSent, NotSent]
        await rig.until(lambda: rig.mexc._pool.idle_count < 4)
        assert not rig.http and not rig.frames and not rig.mexc.in_flight and not rig.gate.in_flight
        ours.close()
        theirs.close()


@in_loop
async def test_what_came_and_was_not_read_sends_an_entry_the_other_way(tmp_path: Path) -> None:
    async with opened_rig(tmp_path, tls=True) as rig:
        assert rig.link._tls is not None
        rig.link._tls._idle = False
        assert rig.gate.direct_line() is None
        sending = rig.send()
        assert [type(event) for event in sending.followers] == [Sent, Sent]
        await rig.until(lambda: rig.http.endswith(b"\r\n\r\n") and rig.frames)


@in_loop
async def test_a_connection_that_carries_a_request_takes_no_other(tmp_path: Path) -> None:
    async with opened_rig(tmp_path) as rig:
        await rig.until(lambda: rig.mexc._pool.idle_count == 4)
        lines = []
        for number in range(4):
            line, fd = found(rig.mexc)
            os.write(fd, b"x")
            rig.mexc.launched(line, "BTCUSDT", f"a{number}", memoryview(b"x"), 1)
            lines.append(line)
        assert len(set(lines)) == 4
        with pytest.raises(VenueUnavailable):
            rig.mexc.direct_line()


@pytest.mark.parametrize("steps", [False, True])
@in_loop
async def test_what_the_first_socket_does_not_take_is_handed_to_its_connection_and_the_second_follows(
    tmp_path: Path, steps: bool
) -> None:
    async with opened_rig(tmp_path) as rig:
        sending = await sent_in_part(rig, 7, steps=steps)
        assert [type(event) for event in sending.followers] == [Sent, Sent]
        await rig.until(lambda: rig.http.endswith(b"\r\n\r\n") and rig.frames)
        assert rig.http.startswith(b"POST ") and rig.http.count(b"POST ") == 1, "nothing twice"
        assert b"X-MEXC-APIKEY" in rig.http and len(rig.frames) == 1


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("taken", [0, -errno.EAGAIN])
@in_loop
async def test_a_first_socket_that_takes_no_byte_keeps_the_second_leg_back(
    tmp_path: Path, taken: int, steps: bool
) -> None:
    async with opened_rig(tmp_path) as rig:
        await rig.until(lambda: rig.mexc._pool.idle_count == 4)
        sending = await sent_in_part(rig, taken, steps=steps)
        assert [type(event) for event in sending.followers] == [NotSent, NotSent]
        if not taken:
            await rig.until(lambda: rig.mexc._pool.idle_count < 4)  # a connection that takes nothing and is not full
        assert taken == 0 or rig.mexc._pool.idle_count == 4, "full is not broken"
        await asyncio.sleep(0)
        assert not rig.http and not rig.frames and not rig.mexc.in_flight and not rig.gate.in_flight


async def sent_in_part(rig: Rig, taken: int, *, steps: bool) -> Sending:
    """A kernel that takes ``taken`` bytes of the first order, as one does whose buffer is full."""
    run = rig.world.fast_entry.encoder.run

    def short(done: int, halt: Any, ints: Any, *, fds: tuple[int, int], **more: Any) -> None:
        if not done & launch_module.FIRST:
            return run(done, halt, ints, fds=fds, **more)
        ours, theirs = socket.socketpair()
        run(done & ~launch_module.SECOND, halt, ints, fds=(ours.fileno(), fds[1]), **more)
        ours.close()
        theirs.close()
        slots = rig.world.fast_entry.encoder._launches
        first = rig.world.fast_entry.launches()[0]
        if taken > 0:
            os.write(fds[0], bytes(rig.world.fast_entry.wire(first)[:taken]))
        slots[1] = taken
        return None

    rig.world.fast_entry.encoder.run = short  # type: ignore[method-assign, assignment]
    return rig.send(steps=steps)


@pytest.mark.parametrize("steps", [False, True])
@in_loop
async def test_a_reset_first_connection_sends_nothing_and_keeps_the_second_back(tmp_path: Path, steps: bool) -> None:
    async with opened_rig(tmp_path) as rig:
        with socket.socket(fileno=os.dup(found(rig.mexc)[1])) as ours:
            ours.shutdown(socket.SHUT_WR)  # the loop has not heard of it
        sending = rig.send(steps=steps)
        assert [type(event) for event in sending.followers] == [NotSent, NotSent]
        assert sending.kept_back is not None and sending.kept_back[0] is Refusal.SESSION_DOWN
        assert not rig.mexc.in_flight and not rig.gate.in_flight
        await asyncio.sleep(0)
        assert not rig.http and not rig.frames


@over_both
@pytest.mark.parametrize("steps", [False, True])
@in_loop
async def test_a_halt_after_the_verdict_sends_nothing(tmp_path: Path, steps: bool, tls: bool) -> None:
    async with opened_rig(tmp_path, tls=tls) as rig:
        offer = rig.world.fast_entry.offer

        def then_halted(*args: Any) -> bool:
            found = offer(*args)
            rig.world.halt[HALT.latch] = 1
            return found

        rig.world.fast_entry.offer = then_halted  # type: ignore[method-assign, assignment]
        sending = rig.send(steps=steps)
        assert [type(event) for event in sending.followers] == [NotSent, NotSent]
        assert sending.kept_back is not None and sending.kept_back[0] is Refusal.HALT_LATCH
        await asyncio.sleep(0)
        assert not rig.http and not rig.frames and not rig.mexc.in_flight and not rig.gate.in_flight


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("what", ["budget", "connection", "closing"])
@over_both
@in_loop
async def test_a_second_venue_that_takes_no_order_keeps_both_legs_back(
    tmp_path: Path, what: str, steps: bool, tls: bool
) -> None:
    """It is known before the first byte."""
    async with opened_rig(tmp_path, tls=tls) as rig:
        if what == "budget":
            rig.gate._throttle = Throttle({"order": Limit(1.0, 10.0)})
            rig.gate._throttle.count("order")
        elif what == "connection":
            rig.gate.entry._link = None
        else:
            rig.link.disconnect("going")  # the loop has not said that it is gone
        sending = rig.send(steps=steps)
        assert [type(event) for event in sending.followers] == [NotSent, NotSent]
        assert sending.kept_back is not None and sending.kept_back[0] is Refusal.SESSION_DOWN
        await asyncio.sleep(0)
        assert not rig.http and not rig.frames and len(rig.world.journal.recent(3)) == 3


@over_both
@pytest.mark.parametrize("what", ["books", "lease"])
@in_loop
async def test_time_that_passes_before_the_call_counts(tmp_path: Path, what: str, tls: bool) -> None:
    """On the real clock, in one call: while the journal's room is claimed, the books grow old or the lease ends."""
    async with opened_rig(tmp_path, age_most_ms=100, tls=tls) as rig:
        world = rig.world
        world.now_ns = mono_ns()
        opened(world)
        bound_ms = world.config.detection.max_age_to_trade_ms
        claim = world.journal.claim

        def slow(size_bytes: int) -> Any:
            if what == "lease":
                world.halt[HALT.lease_expiry_mono_ns] = mono_ns()
            else:
                until_ns = world.now_ns + (bound_ms + 1) * 1_000_000
                while mono_ns() < until_ns:
                    pass
            return claim(size_bytes)

        world.journal.claim = slow  # type: ignore[method-assign]
        sending = rig.send(clock=mono_ns)
        assert [type(event) for event in sending.followers] == [NotSent, NotSent]
        assert sending.kept_back is not None
        assert sending.kept_back[0] is (Refusal.LEASE if what == "lease" else Refusal.STALE_AT_SEND)
        await asyncio.sleep(0)
        assert not rig.http and not rig.frames


@over_both
@in_loop
async def test_stamps_are_those_of_the_sends(tmp_path: Path, tls: bool) -> None:
    async with opened_rig(tmp_path, tls=tls) as rig:
        rig.world.now_ns = mono_ns()
        opened(rig.world)
        began_ns = mono_ns()
        sending = rig.send(clock=mono_ns)
        ended_ns = mono_ns()
        assert sending.kept_back is None
        stamps = [sending.written_mono_ns, sending.first_mono_ns, sending.last_mono_ns]
        assert [began_ns, *stamps, ended_ns] == sorted([began_ns, *stamps, ended_ns])


@in_loop
async def test_an_order_that_is_in_flight_already_is_a_bug_and_no_refusal(tmp_path: Path) -> None:
    """Its bytes have left: nobody may call that "nothing was sent"."""
    async with opened_rig(tmp_path) as rig:
        line, _fd = found(rig.gate)
        rig.gate.launched(line, "BTC_USDT", "a1", memoryview(b"x"), 1)
        with pytest.raises(RuntimeError, match="in flight already"):
            rig.gate.launched(line, "BTC_USDT", "a1", memoryview(b"x"), 1)
