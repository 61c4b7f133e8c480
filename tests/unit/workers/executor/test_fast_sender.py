"""The sender of approved entries, with the sessions of MEXC and Gate.io over plain sockets of this host."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import uvloop
from picows import WSFrame, WSListener, WSTransport, ws_create_server

from pipeline.exchanges.base import OrderLine
from pipeline.exchanges.gateio.order_session import GateTrading
from pipeline.exchanges.mexc.order_session import MexcTrading
from pipeline.exchanges.transport.throttle import Limit, Throttle
from pipeline.exchanges.transport.websocket import open_ws
from pipeline.execution.crash_points import nothing
from pipeline.execution.events import NotSent, Sent, request_of
from pipeline.execution.records import OrderIntentRecord
from pipeline.fast_entry import launch as launch_module
from pipeline.model.clock import mono_ns
from pipeline.model.enums import Durability, Refusal
from pipeline.model.errors import VenueUnavailable
from pipeline.model.structs import Credentials
from pipeline.model.venue_events import OutcomeKind, PlaceOutcome
from pipeline.rehearsal.entry_world import EntryWorld, engine_config
from pipeline.risk.last_look import LastLook
from shm.layout_pages import HALT
from tests.worlds.fast_entry_world import opened, ordinary
from workers.executor.fast_sender import FastSender, Sending

KEY = Credentials(api_key="key", api_secret="secret")
ROUNDS = 10_000


class Http(asyncio.Protocol):
    """Answers nothing by itself: what it answers would end the order."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._rig.venue_side.append(transport)

    def data_received(self, data: bytes) -> None:
        self._rig.http += data


class Ws(WSListener):
    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._rig.venue_side.append(transport.underlying_transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._rig.frames.append(frame.get_payload_as_bytes())


class Rig:
    """A world whose two spot venues are sessions over sockets; ``steps``: with a hook of crash points that does
    nothing, so that every step is called for itself."""

    def __init__(self, folder: Path, age_most_ms: int) -> None:
        self._folder, self._age_most_ms = folder, age_most_ms
        self.http, self.frames = b"", list[bytes]()
        self.venue_side: list[Any] = []
        self.events: list[Any] = []
        self.passed: list[str] = []

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(lambda: Http(self), "127.0.0.1", 0),
            await ws_create_server(lambda _request: Ws(self), "127.0.0.1", 0),
        ]
        ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        config = engine_config(detection={"max_age_to_trade_ms": self._age_most_ms})
        venues = {venue.name: venue for venue in config.venues}
        mexc = msgspec.structs.replace(venues["mexc_spot"], rest=f"http://127.0.0.1:{ports[0]}")
        self.mexc = MexcTrading(mexc, KEY, self.events.append)
        self.gate = GateTrading(venues["gateio_spot"], KEY, self.events.append)
        await self.mexc._pool.start()
        self.link = await open_ws(
            f"ws://127.0.0.1:{ports[1]}",
            venue="gateio_spot",
            on_frame=lambda *_: None,
            on_close=lambda reason: self.gate.end_all_unknown(reason),
        )
        self.gate.entry._link = self.link
        self.trading: dict[str, Any] = {"mexc_spot": self.mexc, "gateio_spot": self.gate}
        self.world = EntryWorld(
            self._folder,
            config=config,
            template_of=lambda venue, terms: self.trading[venue].template(terms) if venue in self.trading else None,
        )
        opened(self.world)

    async def close(self) -> None:
        self.gate.entry._link = None
        self.link.disconnect("done")
        self.gate.end_all_unknown("done")
        await self.mexc.close()
        await self.gate.client.close()
        for server in self._servers:
            server.close()
        self.world.close()

    def send(self, *, steps: bool = False, clock: Callable[[], int] | None = None) -> Sending:
        """``clock``: the world's, where it is None."""
        world = self.world
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now()), world.fast_entry.last_no
        sender = FastSender(
            world.journal,
            self.trading,
            LastLook(world.core.context, world, {row.spec.venue: row.venue_id for row in world.rows}),
            note_sent=lambda *_: None,
            crash=self.passed.append if steps else nothing,
            clock=clock or (lambda: world.now_ns),
        )
        return sender.send(world.fast_entry, world.halt, world.now(), world.config.execution.entry_window_ms)

    def ids(self) -> list[str]:
        return [record.client_id for record in self.world.journal.recent(3) if isinstance(record, OrderIntentRecord)]

    async def until(self, what: Any) -> None:
        for _ in range(ROUNDS):
            if what():
                return
            await asyncio.sleep(0)
        raise AssertionError("it did not come")


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test in uvloop, as the executor runs."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(**arguments))

    return run


def found(session: MexcTrading | GateTrading) -> tuple[OrderLine, int]:
    line = session.plain_line()
    assert line is not None
    return line


@asynccontextmanager
async def opened_rig(folder: Path, *, age_most_ms: int = 60_000) -> AsyncIterator[Rig]:
    """``age_most_ms``: of books; on the real clock a host that stands still makes them older."""
    rig = Rig(folder, age_most_ms)
    await rig.open()
    try:
        yield rig
    finally:
        await rig.close()


@pytest.mark.parametrize("how", ["in one", "steps", "power", "by hand"])
@in_loop
async def test_both_venues_read_what_their_codecs_would_have_written(tmp_path: Path, how: str) -> None:
    async with opened_rig(tmp_path) as rig:
        if how == "power":
            rig.world.journal.durability = Durability.POWER
        if how == "by hand":
            rig.mexc.plain_line = lambda: None  # type: ignore[method-assign]
        sending = rig.send(steps=how == "steps")
        assert [type(event) for event in sending.followers] == [Sent, Sent] and sending.kept_back is None
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


@in_loop
async def test_answers_and_losses_find_their_orders(tmp_path: Path) -> None:
    async with opened_rig(tmp_path) as rig:
        rig.send()
        bought, sold = rig.ids()
        await rig.until(lambda: rig.http and rig.frames)
        for transport in rig.venue_side:
            transport.abort()
        await rig.until(lambda: len(rig.events) >= 2)
        ended = {event.client_id: event.kind for event in rig.events if isinstance(event, PlaceOutcome)}
        assert ended == {bought: OutcomeKind.UNKNOWN, sold: OutcomeKind.UNKNOWN}, "never rejected"


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
            rig.mexc.plain_line()


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


@pytest.mark.parametrize("steps", [False, True])
@in_loop
async def test_a_halt_after_the_verdict_sends_nothing(tmp_path: Path, steps: bool) -> None:
    async with opened_rig(tmp_path) as rig:
        offer = rig.world.fast_entry.offer

        def then_halted(*args: Any) -> bool:
            found = offer(*args)
            rig.world.halt[HALT.latch] = 1
            return found

        rig.world.fast_entry.offer = then_halted  # type: ignore[method-assign, assignment]
        sending = rig.send(steps=steps)
        assert [type(event) for event in sending.followers] == [NotSent, NotSent]
        assert sending.kept_back is not None and sending.kept_back[0] is Refusal.HALT_LATCH
        assert not rig.http and not rig.frames and not rig.mexc.in_flight and not rig.gate.in_flight


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("what", ["budget", "connection", "closing"])
@in_loop
async def test_a_second_venue_that_takes_no_order_keeps_both_legs_back(tmp_path: Path, what: str, steps: bool) -> None:
    """It is known before the first byte."""
    async with opened_rig(tmp_path) as rig:
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


@pytest.mark.parametrize("what", ["books", "lease"])
@in_loop
async def test_time_that_passes_before_the_call_counts(tmp_path: Path, what: str) -> None:
    """On the real clock, in one call: while the journal's room is claimed, the books grow old or the lease ends."""
    async with opened_rig(tmp_path, age_most_ms=100) as rig:
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


@in_loop
async def test_stamps_are_those_of_the_sends(tmp_path: Path) -> None:
    async with opened_rig(tmp_path) as rig:
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
