"""Attacks on what stands around the execution core: the sends, the journal's file, the guard, the sweeps' questions."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.entry_world import EntryWorld
from pipeline.exchanges.gateio.order_session import GateTrading
from pipeline.exchanges.mexc.order_session import MexcTrading
from pipeline.execution.crash_points import crash_points
from pipeline.execution.events import Action, Append, NotSent, Now, Place, Sent, Tick
from pipeline.execution.journal import RECORD_MAGIC, Journal, segment_path
from pipeline.execution.records import Purpose, StopRecord
from pipeline.model.enums import Durability, OrderKind, OrderSide, Refusal, TimeInForce
from pipeline.model.errors import AuthRefused, JournalError, OutcomeUnknown, VenueUnavailable
from pipeline.model.structs import OrderRequest
from pipeline.templates import template as st
from pipeline.templates.template import OrderTerms, Pieces
from shm import layout as ly
from workers.executor import performer as performer
from workers.executor.process import Executor
from workers.executor.venues import patiently
from workers.guard import Guard, HaltState, read_halt

NO_TIME = Now(1, 1)


def request(venue: str, client_id: str) -> OrderRequest:
    return OrderRequest(
        client_id=client_id,
        venue=venue,
        symbol="BTCUSDT",
        side=OrderSide.BUY,
        kind=OrderKind.LIMIT,
        tif=TimeInForce.IOC,
        qty=Decimal(1),
        price=Decimal(100),
        reduce_only=False,
        multiplier=Decimal(1),
        expiry_wall_ms=0,
    )


class FakeJournal:
    """Remembers in one list what was stored, synced and sent."""

    durability = Durability.POWER
    failed = None

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.full = False

    def append(self, record: Any, mono_ns: int, wall_ns: int) -> int:
        if self.full:
            raise JournalError("journal is full")
        self.log.append(f"append {record.reason}")
        return 1

    def sync(self) -> None:
        self.log.append("sync")


class FakeTrading:
    def __init__(self, log: list[str], *, up: bool = True) -> None:
        self.log, self.up = log, up
        self.builds = True

    def prepare(self, order: OrderRequest) -> Callable[[], int]:
        if not self.builds:
            raise VenueUnavailable("symbol refused; nothing was sent")
        return lambda: self.place(order)

    def place(self, order: OrderRequest) -> int:
        if not self.up:
            raise VenueUnavailable("down; nothing was sent")
        self.log.append(f"send {order.client_id}")
        return 5


class FakeCore:
    """Gives the actions that it was told to give, and remembers the events."""

    def __init__(self) -> None:
        self.actions: deque[list[Action]] = deque()
        self.events: list[Any] = []
        self.ready = True
        self.idle = True

    def handle(self, event: Any, now: Now) -> list[Action]:
        self.events.append(event)
        return self.actions.popleft() if self.actions else []

    def update_limits_table(self) -> None:
        """There is none."""


def executor(log: list[str], **up: bool) -> Any:
    """An executor with nothing but its sending side."""
    made: Any = object.__new__(Executor)
    nothing = SimpleNamespace(record=lambda *_: None, inc=lambda *_: None)
    made.ctx = SimpleNamespace(metrics=nothing, say=lambda *_: None, stop_requested=lambda: False)
    made.crash = crash_points("")
    made.journal = FakeJournal(log)
    made.core = FakeCore()
    made.trading = {venue: FakeTrading(log, up=state) for venue, state in up.items()}
    made.halt = SimpleNamespace(
        lease_expiry_mono_ns=lambda: 2**62, latched=lambda: False, venue_blocked=lambda _: False
    )
    made.hist = made.count = dict.fromkeys(
        (
            "tick_to_order",
            "send",
            "leg_gap",
            "journal",
            "event",
            "orders_sent",
            "orders_not_sent",
            "operations",
            "events",
        ),
        0,
    )
    made._venue_ids = dict.fromkeys(up, 0)
    made._events = deque()
    made._busy = False
    made._fault = None
    made._stopped = asyncio.Event()
    made._result_waiters = {}
    return made


def intent(name: str) -> Append:
    return Append(StopRecord(name, 0, 0))


def test_under_power_every_intent_is_on_the_device_before_any_order_leaves() -> None:
    """Two operations are repaired at one tick: the second intent stands behind the first order in the list."""
    log: list[str] = []
    made = executor(log, a=True)
    made.core.actions.append(
        [
            intent("i1"),
            Place(request("a", "i1"), Purpose.REPAIR, "o1"),
            intent("i2"),
            Place(request("a", "i2"), Purpose.REPAIR, "o2"),
        ]
    )
    made.feed(Tick())
    assert log.index("sync") > log.index("append i2")
    assert log.index("sync") < min(log.index("send i1"), log.index("send i2"))


@pytest.mark.parametrize("bad", ["a", "b"])
def test_a_leg_that_cannot_be_built_keeps_its_whole_operation_back(bad: str) -> None:
    """Known before the first byte: no leg is broken for it, and another operation goes on."""
    log: list[str] = []
    made = executor(log, a=True, b=True, c=True)
    made.trading[bad].builds = False
    legs = [Place(request(venue, f"i{venue}"), Purpose.ENTRY, "o1") for venue in "ab"]
    made.core.actions.append([*legs, Place(request("c", "ic"), Purpose.REPAIR, "o2")])
    made.feed(Tick())
    assert log == ["sync", "send ic"]
    assert [type(event) for event in made.core.events[1:]] == [NotSent, NotSent, Sent]


@pytest.mark.parametrize("purpose", [Purpose.ENTRY, Purpose.CLOSE])
def test_a_first_leg_that_cannot_leave_keeps_the_second_back(purpose: Purpose) -> None:
    """Leaving a hedge by one leg alone would make the exposure that the hedge had taken away."""
    log: list[str] = []
    made = executor(log, a=False, b=True)
    made.core.actions.append([Place(request("a", "i1"), purpose, "o1"), Place(request("b", "i2"), purpose, "o1")])
    made.feed(Tick())
    assert not [line for line in log if line.startswith("send")]
    assert [event.client_id for event in made.core.events if isinstance(event, NotSent)] == ["i1", "i2"]


def test_one_operation_that_cannot_send_holds_no_other_back() -> None:
    log: list[str] = []
    made = executor(log, a=False, b=True)
    made.core.actions.append(
        [Place(request("a", "i1"), Purpose.REPAIR, "o1"), Place(request("b", "i2"), Purpose.REPAIR, "o2")]
    )
    made.feed(Tick())
    assert [line for line in log if line.startswith("send")] == ["send i2"]


def test_a_journal_that_takes_no_record_ends_the_executor_wherever_the_event_came_from() -> None:
    """A callback's exception is only logged by the loop: the executor must not live on beside its journal."""
    log: list[str] = []
    made = executor(log, a=True)
    made.journal.full = True
    made.core.actions.append([intent("i1"), Place(request("a", "i1"), Purpose.ENTRY, "o1")])
    with pytest.raises(JournalError):
        made.feed(Tick())
    made.journal.full = False
    made.core.actions.append([intent("i2"), Place(request("a", "i2"), Purpose.ENTRY, "o2")])
    made.feed(Tick())
    assert not [line for line in log if line.startswith("send")]
    made._tick = lambda: None
    with pytest.raises(JournalError):
        asyncio.run(asyncio.wait_for(made._live(), 240.0))


def test_a_record_in_the_middle_that_lost_its_mark_is_damage_and_no_end(tmp_path: Path) -> None:
    journal, _ = Journal.open(tmp_path, segment_bytes=64 * 1024)
    offsets = []
    for number in range(5):
        offsets.append(journal._offset)
        journal.append(StopRecord(f"r{number}", 0, 0), 1, 1)
    journal.close()
    path = segment_path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    assert int.from_bytes(content[offsets[2] : offsets[2] + 4], "little") == RECORD_MAGIC
    content[offsets[2] : offsets[2] + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(JournalError, match="middle"):
        Journal.open(tmp_path, segment_bytes=64 * 1024)


# --- the sweeps' questions ---


class Flaky:
    """Answers after so many faults."""

    def __init__(self, faults: list[Exception]) -> None:
        self.faults = faults
        self.asked = 0

    async def read(self) -> list[int]:
        self.asked += 1
        if self.faults:
            raise self.faults.pop(0)
        return [7]


def test_a_sweep_survives_a_503_and_does_not_knock_with_a_refused_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.executor.venues.READ_PAUSES_S", (0.0, 0.0, 0.0))
    passing = Flaky([OutcomeUnknown("503"), TimeoutError()])
    assert asyncio.run(patiently(passing.read)) == [7]
    lasting = Flaky([OutcomeUnknown("503")] * 9)
    with pytest.raises(OutcomeUnknown):
        asyncio.run(patiently(lasting.read))
    assert lasting.asked == 4
    refused = Flaky([AuthRefused("key")])
    with pytest.raises(AuthRefused):
        asyncio.run(patiently(refused.read))
    assert refused.asked == 1


# --- the first connection of a venue ---


class Part:
    """A pool or a session: counts how often it was opened and closed."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.open = 0

    async def start(self) -> None:
        if self.error is not None:
            raise self.error
        self.open += 1

    async def stop(self) -> None:
        self.open -= 1

    close = stop


async def _time() -> int:
    return 1


def test_a_connection_that_fails_half_way_leaves_nothing_open() -> None:
    """The private stream is refused again and again: order connections must not pile up behind it."""
    client = SimpleNamespace(server_time_ms=_time)
    for kind, first, second in ((MexcTrading, "_pool", "private"), (GateTrading, "_entry", "private")):
        made: Any = object.__new__(kind)
        opened = Part()
        made.client = client
        setattr(made, first, opened)
        setattr(made, second, Part(VenueUnavailable("listen key: 503")))
        for _ in range(3):
            with pytest.raises(VenueUnavailable):
                asyncio.run(made.connect())
        assert opened.open == 0


def test_a_refused_key_is_not_knocked_with_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    made = executor([])
    made.ctx.say = lambda level, text: said.append(level)
    attempts: list[int] = []

    async def refuse() -> None:
        attempts.append(1)
        raise AuthRefused("bad key")

    async def no_pause(_seconds: float) -> None:
        return

    monkeypatch.setattr("workers.executor.process.asyncio.sleep", no_pause)
    asyncio.run(made._connect(SimpleNamespace(connect=refuse, venue="a")))
    assert len(attempts) == 3 and said == ["critical"]


# --- the guard ---


class FakePage:
    def __init__(self) -> None:
        self.latched = False

    def latch(self, reason: str) -> None:
        self.latched = True

    def release(self) -> None:
        self.latched = False

    def block_venue(self, venue_id: int, blocked: bool) -> None:
        if not 0 <= venue_id < 3:
            raise IndexError(venue_id)


def guard(folder: Path) -> Any:
    made: Any = object.__new__(Guard)
    made._ctx = SimpleNamespace(state_dir=folder, say=lambda *_: None)
    made._page = FakePage()
    made._venues = 3
    made.draining = False
    made.state = HaltState(halted=False, reason="", by="", wall_ns=0)
    return made


def test_a_full_disk_does_not_stop_the_kill_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = guard(tmp_path)

    def full(folder: Path, state: HaltState) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workers.guard.write_halt", full)
    reply = made.handle({"op": "halt", "reason": "now"})
    assert made._page.latched and reply["halted"] and "No space" in reply["warning"]


def test_a_resume_that_cannot_be_written_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = guard(tmp_path)
    made.handle({"op": "halt", "reason": "now"})

    def full(folder: Path, state: HaltState) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workers.guard.write_halt", full)
    reply = made.handle({"op": "resume", "reason": "again"})
    assert "error" in reply
    assert made._page.latched and made.state.halted and read_halt(tmp_path).halted


@pytest.mark.parametrize("venue_id", [99, -1, None, [], "x"])
def test_a_request_that_means_nothing_does_not_end_the_guard(tmp_path: Path, venue_id: object) -> None:
    assert "error" in guard(tmp_path).handle({"op": "block", "venue_id": venue_id})


# --- the fast path of an entry ---


class ShortTrading(FakeTrading):
    """Launches what it gets; ``halts``: what happens to the halt page with the first launch."""

    def __init__(self, log: list[str], *, up: bool = True, halts: Callable[[], None] = lambda: None) -> None:
        super().__init__(log, up=up)
        self.halts = halts

    def now_ms(self) -> int:
        return 7

    def sign(self, order: memoryview, start: int, stop: int, place: int) -> None:
        self.log.append("sign")

    def launch(self, symbol: str, client_id: str, payload: bytes) -> int:
        if not self.up:
            raise VenueUnavailable("down; nothing was sent")
        self.log.append(f"send {payload.decode()}")
        self.halts()
        return 5


def short_executor(patch: pytest.MonkeyPatch, world: EntryWorld, log: list[str], **trading: ShortTrading) -> Any:
    """An executor's sending side on a world whose opportunity is taken, and whose clock it reads."""
    patch.setattr(performer, "mono_ns", lambda: world.now_ns)
    made = executor(log)
    made.core, made.journal, made.trading = world.core, world.journal, trading
    made.hist = made.count = defaultdict(int)
    made.ctx.config = world.config
    made._report = lambda _action: None
    made._venue_ids = {row.spec.venue: row.venue_id for row in world.rows}
    made.halt = SimpleNamespace(
        words=lambda: world.halt,
        may_launch=lambda _now_ns, venue_id: not world.latched() and not world.venue_blocked(venue_id),
        latched=world.latched,
        venue_blocked=world.venue_blocked,
        lease_expiry_mono_ns=world.lease_expiry_mono_ns,
    )
    world.fund_all()
    world.publish(0, [(Decimal(99), Decimal(5))], [(Decimal("99.1"), Decimal(5))])
    world.publish(1, [(Decimal(100), Decimal(5))], [(Decimal("100.1"), Decimal(5))])
    return made


def entry_record(world: EntryWorld) -> Any:
    return world.record([(0, 1, Decimal("0.5"), Decimal("99.5")), (1, -1, Decimal("0.5"), Decimal("99.6"))])


def states_of(world: EntryWorld) -> list[str]:
    return [order.state.name for order in world.core.ledger.orders.values()]


def test_a_short_entry_is_journalled_then_signed_then_sent_and_the_core_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    world = EntryWorld(tmp_path)
    made = short_executor(monkeypatch, world, log, mexc_spot=ShortTrading(log), gateio_spot=ShortTrading(log))
    appended = world.journal.appended
    passed: list[tuple[str, int]] = []
    made.crash = lambda point: passed.append((point, world.journal.appended - appended))
    assert made._fast_entry(entry_record(world), world.now_ns)
    assert [line.split()[0] for line in log] == ["sign", "sign", "send", "send"]
    assert [point for point, _ in passed] == [
        "judged", "journalled", "before_send", "after_first_leg_sent", "before_send", "sent",
    ]  # fmt: skip
    assert dict(passed[:2]) == {"judged": 0, "journalled": 3}, "the records stand before any byte leaves"
    assert states_of(world) == ["SENT", "SENT"]
    assert not made._fast_entry(entry_record(world), world.now_ns), "its instruments have orders of ours"
    world.close()


def test_a_first_leg_that_cannot_leave_keeps_the_second_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    world = EntryWorld(tmp_path)
    made = short_executor(monkeypatch, world, log, mexc_spot=ShortTrading(log, up=False), gateio_spot=ShortTrading(log))
    assert made._fast_entry(entry_record(world), world.now_ns)
    assert not [line for line in log if line.startswith("send")]
    assert states_of(world) == ["NOT_SENT", "NOT_SENT"]
    world.close()


def test_a_halt_between_the_legs_stops_the_second_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    world = EntryWorld(tmp_path)

    def halts() -> None:
        world.halt[ly.HALT_LATCH] = 1

    made = short_executor(
        monkeypatch, world, log, mexc_spot=ShortTrading(log, halts=halts), gateio_spot=ShortTrading(log)
    )
    assert made._fast_entry(entry_record(world), world.now_ns)
    assert len([line for line in log if line.startswith("send")]) == 1
    assert states_of(world) == ["SENT", "NOT_SENT"]
    world.close()


def test_a_journal_that_takes_nothing_ends_the_process_and_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    world = EntryWorld(tmp_path)
    made = short_executor(monkeypatch, world, log, mexc_spot=ShortTrading(log), gateio_spot=ShortTrading(log))
    world.journal._error = OSError("device")
    world.core.context.journal = SimpleNamespace(has_room=lambda _size: True)
    with pytest.raises(JournalError):
        made._fast_entry(entry_record(world), world.now_ns)
    assert log == [] and isinstance(made._fault, JournalError)
    assert not made._fast_entry(entry_record(world), world.now_ns)
    world.journal._error = None
    world.close()


def test_bytes_that_are_made_late_expire_when_the_journal_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop between the decision and the bytes must not carry the venue's expiry beyond the one that is written down:
    a proof of absence counts from there."""
    log: list[str] = []

    def template(_venue: str, _terms: OrderTerms) -> Pieces:
        return [st.integer_text(st.leg(st.L_EXPIRY_MS))]

    world = EntryWorld(tmp_path, template_of=template)
    made = short_executor(monkeypatch, world, log, mexc_spot=ShortTrading(log), gateio_spot=ShortTrading(log))
    began = world.now_ns

    def stopped(point: str) -> None:
        if point == "judged":
            world.now_ns += 300_000_000

    made.crash = stopped
    for trading in made.trading.values():
        trading.now_ms = lambda: 50_000 + (world.now_ns - began) // 1_000_000
    assert made._fast_entry(entry_record(world), began)
    window_ms = world.config.execution.recv_window_ms
    assert [line for line in log if line.startswith("send")] == [f"send {50_000 + window_ms}"] * 2
    world.close()


def test_an_entry_whose_sync_took_longer_than_its_window_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    world = EntryWorld(tmp_path)
    made = short_executor(monkeypatch, world, log, mexc_spot=ShortTrading(log), gateio_spot=ShortTrading(log))
    world.journal.durability = Durability.POWER

    def slow() -> None:
        world.now_ns += world.config.execution.recv_window_ms * 1_000_000

    monkeypatch.setattr(world.journal, "sync", slow)
    assert made._fast_entry(entry_record(world), world.now_ns)
    assert not [line for line in log if line.startswith("send")]
    assert states_of(world) == ["NOT_SENT", "NOT_SENT"]
    monkeypatch.undo()
    world.close()


@pytest.mark.parametrize("what", ["events wait", "in the middle of one", "no halt page", "a fault"])
def test_nothing_goes_the_fast_path_before_the_core_has_heard_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """An event that waits its turn may be the one that forbids it: the limits table does not know it yet."""
    log: list[str] = []
    world = EntryWorld(tmp_path)
    made = short_executor(monkeypatch, world, log, mexc_spot=ShortTrading(log), gateio_spot=ShortTrading(log))
    if what == "events wait":
        made._events.append(NotSent("x", Refusal.LEASE, "test"))
    elif what == "in the middle of one":
        made._busy = True
    elif what == "a fault":
        made._fault = OSError("half of an event was done")
    else:
        made.halt.words = lambda: None
    assert not made._fast_entry(entry_record(world), world.now_ns)
    assert log == [] and not world.core.ledger.orders
    world.close()
