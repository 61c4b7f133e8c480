"""The executor's performer: journal before bytes, both legs back to back, and the last look before the first byte."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pipeline.execution.events import Action, Append, CancelOrder, CoreEvent, NotSent, Now, Place, Sent, Tick
from pipeline.execution.journal import read_journal
from pipeline.execution.records import OrderIntentRecord, Purpose, StopRecord
from pipeline.execution.shared_reads import decode_opportunity
from pipeline.model.enums import Durability, OrderKind, OrderSide, Refusal, TimeInForce
from pipeline.model.errors import JournalError
from pipeline.model.structs import OrderRequest
from pipeline.templates import template
from pipeline.templates.slots import ENTRY_LEG
from pipeline.templates.template import OrderTerms, Pieces
from shm.layout_pages import HALT
from shm.metrics import Metrics
from tests.worlds.performer_world import Entry, Venue, performer
from workers.executor.pages import ExecutorNumbers
from workers.executor.process import Executor

MS = 1_000_000
HOOKED = ["fast", "steps", "exact"]  # those with points between the steps
PATHS = ["fast", "steps", "exact", "one call"]


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


# --- order of what is performed: a core that gives the actions of a list ---


class ListJournal:
    """Writes down what is stored and synced, in the list in which the venues write down what is sent."""

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


class ListCore:
    """Gives the actions that it was told to give, and remembers the events. Books of its operations are of age 0."""

    def __init__(self) -> None:
        self.actions: deque[list[Action]] = deque()
        self.events: list[CoreEvent] = []
        self.ready = True
        self.idle = True
        self.config = EntryConfig
        self.context = SimpleNamespace(config=EntryConfig)
        self.ledger = SimpleNamespace(operations={})

    def operation(self, name: str, venues: str) -> None:
        legs = tuple(
            SimpleNamespace(venue=venue, symbol="BTCUSDT", instrument_id=number, proof_mono_ns=1)
            for number, venue in enumerate(venues)
        )
        self.ledger.operations[name] = SimpleNamespace(record=SimpleNamespace(legs=legs))

    def handle(self, event: Any, now: Now) -> list[Action]:
        self.events.append(event)
        return self.actions.popleft() if self.actions else []

    def update_limits_table(self) -> None:
        """There is none."""


EntryConfig = SimpleNamespace(
    detection=SimpleNamespace(max_age_to_trade_ms=100, max_skew_ms=150),
    execution=SimpleNamespace(entry_window_ms=5000, target_execution_time_ms=30),
)


class Scripted:
    """A performer whose core follows a script."""

    def __init__(self, **up: bool) -> None:
        self.log: list[str] = []
        self.core = ListCore()
        self.journal = ListJournal(self.log)
        self.venues = {venue: Venue(self.log, up=state) for venue, state in up.items()}
        self.halt = SimpleNamespace(
            may_launch=lambda *_: True, lease_expiry_mono_ns=lambda: 2**62, latched=lambda: False, fenced=lambda: False
        )
        self.now_ns = 1
        self.numbers = ExecutorNumbers(Metrics.private())
        self.performer = performer(
            self.core,
            self.journal,
            self.halt,
            self.venues,
            numbers=self.numbers,
            clock=lambda: self.now_ns,
            wall=lambda: self.now_ns,
        )

    def run(self, *actions: Action) -> None:
        self.core.actions.append(list(actions))
        self.performer.feed(Tick())

    @property
    def sent(self) -> list[str]:
        return [line.removeprefix("send ") for line in self.log if line.startswith("send")]


@pytest.fixture
def entry(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Entry]:
    case = getattr(request.node, "callspec", None)
    made = Entry(tmp_path, path=case.params.get("path", "fast") if case is not None else "fast")
    yield made
    made.close()


def intent(name: str) -> Append:
    return Append(StopRecord(name, 0, 0))


def test_under_power_every_intent_is_on_the_device_before_any_order_leaves() -> None:
    """Two operations are repaired at one tick: the second intent stands behind the first order in the list."""
    made = Scripted(a=True)
    made.run(
        intent("i1"),
        Place(request("a", "i1"), Purpose.REPAIR, "o1"),
        intent("i2"),
        Place(request("a", "i2"), Purpose.REPAIR, "o2"),
    )
    log = made.log
    assert log.index("sync") > log.index("append i2")
    assert log.index("sync") < min(log.index("send i1"), log.index("send i2"))


@pytest.mark.parametrize("bad", ["a", "b"])
def test_a_leg_that_cannot_be_built_keeps_its_whole_operation_back(bad: str) -> None:
    """Known before the first byte: no leg is broken for it, and another operation goes on."""
    made = Scripted(a=True, b=True, c=True)
    made.venues[bad].builds = False
    legs = [Place(request(venue, f"i{venue}"), Purpose.ENTRY, "o1") for venue in "ab"]
    made.core.operation("o1", "ab")
    made.run(*legs, Place(request("c", "ic"), Purpose.REPAIR, "o2"))
    assert made.log == ["sync", "send ic"]
    assert [type(event) for event in made.core.events[1:]] == [NotSent, NotSent, Sent]


def test_what_is_for_a_venue_without_a_session_is_not_sent_and_ends_nothing() -> None:
    made = Scripted(a=True)
    made.run(CancelOrder("b", "BTCUSDT", "i0", ""), Place(request("b", "i1"), Purpose.REPAIR, "o1"))
    made.run(CancelOrder("b", "BTCUSDT", "i0", ""), Place(request("a", "i2"), Purpose.REPAIR, "o2"))
    assert made.performer.fault is None and made.sent == ["i2"]
    assert [event.client_id for event in made.core.events if isinstance(event, NotSent)] == ["i1"]


@pytest.mark.parametrize("down", ["a", "b"])
@pytest.mark.parametrize("purpose", [Purpose.ENTRY, Purpose.CLOSE])
def test_a_leg_that_cannot_leave_keeps_the_other_back(purpose: Purpose, down: str) -> None:
    """Leaving a hedge by one leg alone would make the exposure that the hedge had taken away."""
    made = Scripted(a=down != "a", b=down != "b")
    made.core.operation("o1", "ab")
    made.run(Place(request("a", "i1"), purpose, "o1"), Place(request("b", "i2"), purpose, "o1"))
    assert not made.sent
    assert [event.client_id for event in made.core.events if isinstance(event, NotSent)] == ["i1", "i2"]


@pytest.mark.parametrize(("purpose", "entries"), [(Purpose.ENTRY, 1), (Purpose.CLOSE, 0)])
def test_an_exit_that_the_detector_offers_counts_as_no_entry(entry: Entry, purpose: Purpose, entries: int) -> None:
    offered = decode_opportunity(entry.record(), 1)
    made = Scripted(a=True)
    made.core.operation("o1", "a")
    made.core.actions.append([Place(request("a", "i1"), purpose, "o1")])
    made.performer.feed(offered)
    assert made.sent == ["i1"]
    counters = made.numbers.metrics.counters()
    assert (counters["entries"], counters["orders_sent"]) == (entries, 1)


def test_one_operation_that_cannot_send_holds_no_other_back() -> None:
    made = Scripted(a=False, b=True)
    made.run(Place(request("a", "i1"), Purpose.REPAIR, "o1"), Place(request("b", "i2"), Purpose.REPAIR, "o2"))
    assert made.sent == ["i2"]


@pytest.mark.parametrize("purpose", [purpose for purpose in Purpose if not purpose.adds_risk])
def test_orders_without_risk_leave_halted_and_without_a_lease_but_never_fenced(purpose: Purpose) -> None:
    made = Scripted(a=True)
    made.now_ns = 10**12
    made.halt.may_launch, made.halt.latched = (lambda *_: False), (lambda: True)
    made.halt.lease_expiry_mono_ns = lambda: made.now_ns
    made.run(Place(request("a", "i1"), purpose, "o1"))
    assert made.sent == ["i1"]
    made.halt.fenced = lambda: True
    made.run(Place(request("a", "i2"), purpose, "o1"))
    assert made.sent == ["i1"]
    assert [event.refusal for event in made.core.events if isinstance(event, NotSent)] == [Refusal.LEASE]


def test_a_journal_that_takes_no_record_ends_the_executor_wherever_the_event_came_from() -> None:
    """A callback's exception is only logged by the loop: the executor must not live on beside its journal."""
    made = Scripted(a=True)
    made.journal.full = True
    made.core.operation("o1", "a")
    with pytest.raises(JournalError):
        made.run(intent("i1"), Place(request("a", "i1"), Purpose.ENTRY, "o1"))
    made.journal.full = False
    made.run(intent("i2"), Place(request("a", "i2"), Purpose.ENTRY, "o2"))
    assert not made.sent
    process: Any = object.__new__(Executor)
    process.performer = made.performer
    with pytest.raises(JournalError):
        asyncio.run(asyncio.wait_for(process._live(), 240.0))


# --- both paths of an entry, on a real core and journal ---


@pytest.mark.parametrize("path", HOOKED)
def test_an_entry_is_journalled_before_it_is_sent_and_the_core_knows(entry: Entry, path: str) -> None:
    appended = entry.world.journal.appended
    at_send: list[int] = []
    entry.at["before_send"] = lambda: at_send.append(entry.world.journal.appended - appended)
    entry.enter(path)
    assert [line.split()[0] for line in entry.log] == ["sign"] * 2 * (path == "fast") + ["send"] * 2
    assert entry.passed[-7:] == [
        "judged", "journalled", "signed", "before_send", "after_first_leg_sent", "before_send", "sent",
    ]  # fmt: skip
    assert at_send[0] >= 3, "operation and both intents are written before any byte leaves"
    assert entry.states == ["SENT", "SENT"] and not entry.refused()
    assert not entry.performer.enter_fast(entry.record(), entry.world.now_ns), "its instruments have orders of ours"


@pytest.mark.parametrize("path", PATHS)
def test_a_pause_between_verdict_and_send_sends_nothing_and_ends_flat(entry: Entry, path: str) -> None:
    """The process stands still for 0.9 s after the journal; lease and order window still hold."""
    entry.at["journalled"] = lambda: entry.pause(900)
    entry.enter(path)
    entry.assert_flat()
    assert entry.refused() == {"stale_at_send": 1}
    entry.at.clear()
    entry.pause(1000)
    entry.world.fund_all()
    entry.publish()
    entry.enter(path)
    assert entry.sent == 2, "the direction is free again, and so is the money"


@pytest.mark.parametrize(
    ("path", "older_ms", "sent"),
    [
        *((path, *case) for path in ("fast", "exact") for case in ((0, 2), (0.001, 0))),
        *((path, *case) for path in ("steps", "one call") for case in ((-50, 2), (0.001, 0))),  # their clock goes on
    ],
)
def test_the_age_at_the_send_is_bounded_like_the_age_at_the_verdict(
    entry: Entry, path: str, older_ms: float, sent: int
) -> None:
    bound_ms = entry.world.config.detection.max_age_to_trade_ms
    entry.pause(30)
    entry.at["journalled"] = lambda: entry.pause(bound_ms - 30 + older_ms)
    entry.enter(path)
    assert entry.sent == sent


@pytest.mark.parametrize("path", HOOKED)
def test_the_second_leg_follows_the_first_on_books_of_any_age(entry: Entry, path: str) -> None:
    """Keeping it back would leave the first one alone."""
    entry.at["after_first_leg_sent"] = lambda: entry.pause(900)
    entry.enter(path)
    assert entry.sent == 2 and entry.states == ["SENT", "SENT"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("leg", [0, 1])
@pytest.mark.parametrize("what", ["venue", "instrument"])
def test_a_block_of_either_leg_after_the_verdict_keeps_the_whole_entry_back(
    entry: Entry, path: str, leg: int, what: str
) -> None:
    row = entry.world.rows[leg]
    place = HALT.venue_blocked + row.venue_id if what == "venue" else HALT.instrument_blocked + row.instrument_id

    def block() -> None:
        entry.world.halt[place] = 1

    entry.at["journalled"] = block
    entry.enter(path)
    entry.assert_flat()
    assert entry.refused() == {f"{what}_blocked": 1}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("word", "value", "refusal"), [
    (HALT.latch, 1, "halt_latch"), (HALT.lease_token, 99, "lease"),
])  # fmt: skip
def test_a_halt_or_a_lost_lease_after_the_verdict_keeps_the_entry_back(
    entry: Entry, path: str, word: int, value: int, refusal: str
) -> None:
    def said() -> None:
        entry.world.halt[word] = value

    entry.at["journalled"] = said
    entry.enter(path)
    entry.assert_flat()
    assert entry.refused() == {refusal: 1}


@pytest.mark.parametrize("path", HOOKED)
@pytest.mark.parametrize("place", [HALT.latch, HALT.venue_blocked + 1, HALT.instrument_blocked + 1])
def test_a_halt_or_a_block_between_the_legs_stops_the_second_one(entry: Entry, path: str, place: int) -> None:
    def said() -> None:
        entry.world.halt[place] = 1

    entry.venues["mexc_spot"].on_send = said
    entry.enter(path)
    assert entry.sent == 1 and entry.states[:2] == ["SENT", "NOT_SENT"]
    assert not entry.refused(), "it was taken, and its first leg is under way"


@pytest.mark.parametrize("path", PATHS)
def test_an_entry_whose_first_leg_cannot_leave_keeps_the_second_one_back(entry: Entry, path: str) -> None:
    entry.venues["mexc_spot"].up = False
    entry.enter(path)
    entry.assert_flat()
    assert entry.refused() == {"session_down": 1}


@pytest.mark.parametrize("path", PATHS)
def test_a_second_leg_that_cannot_leave_keeps_the_first_one_back(entry: Entry, path: str) -> None:
    """It is known before the first byte: nobody breaks a leg for it."""
    entry.venues["gateio_spot"].up = False
    entry.enter(path)
    entry.assert_flat()
    assert entry.refused() == {"session_down": 1}


def test_one_call_sends_both_legs_and_the_core_knows(tmp_path: Path) -> None:
    entry = Entry(tmp_path, path="one call")
    entry.enter("one call")
    assert entry.sent == 2 and entry.states == ["SENT", "SENT"] and not entry.refused()
    assert entry.passed == ["journalled"], "no other hook is passed: it is one call"
    counters = entry.numbers.metrics.counters()
    assert (counters["orders_sent"], counters["fast_path"], counters["entries"]) == (2, 1, 1)
    entry.close()


def test_a_journal_that_takes_nothing_ends_the_process_and_nothing_is_sent(entry: Entry) -> None:
    entry.world.journal._error = OSError("device")
    entry.world.core.context.journal = SimpleNamespace(has_room=lambda _size: True)  # type: ignore[assignment]
    with pytest.raises(JournalError):
        entry.enter("fast")
    assert entry.log == [] and isinstance(entry.performer.fault, JournalError)
    assert not entry.performer.enter_fast(entry.record(), entry.world.now_ns)
    entry.world.journal._error = None


def test_bytes_that_are_made_late_expire_when_the_journal_says(tmp_path: Path) -> None:
    """A stop between the decision and the bytes must not carry the venue's expiry beyond the one that is written down:
    a proof of absence counts from there."""

    def expiry_alone(_venue: str, _terms: OrderTerms) -> Pieces:
        return [template.integer_text(template.leg(ENTRY_LEG.expiry_ms))]

    entry = Entry(tmp_path, template_of=expiry_alone)
    began = entry.world.now_ns
    entry.at["judged"] = lambda: entry.pause(90)
    for venue in entry.venues.values():
        venue.now_ms = lambda: 50_000 + (entry.world.now_ns - began) // MS  # type: ignore[method-assign]
    entry.enter("fast")
    window_ms = entry.world.config.execution.entry_window_ms
    assert entry.log[2:] == [f"send {50_000 + window_ms}"] * 2
    entry.world.close()


@pytest.mark.parametrize("path", PATHS)
def test_an_entry_whose_sync_took_longer_than_its_window_is_not_sent(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Its books are no reason here: they may be of any age."""
    core, window_ms = entry.world.core, entry.world.config.execution.entry_window_ms
    detection = msgspec.structs.replace(core.config.detection, max_age_to_trade_ms=2 * window_ms)
    core.reconfigure(msgspec.structs.replace(core.config, detection=detection))
    entry.world.journal.durability = Durability.POWER
    monkeypatch.setattr(entry.world.journal, "sync", lambda: entry.pause(window_ms))
    entry.enter(path)
    entry.assert_flat()
    assert entry.refused() == {"stale_at_send": 1}
    monkeypatch.undo()


@pytest.mark.parametrize("path", PATHS)
def test_what_leaves_stands_on_the_device_where_a_host_may_die(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    """``durability: power``: of each order that a venue gets, the record is in what was synced before."""
    device, journal, sync = tmp_path / "device", entry.world.journal, os.fdatasync
    journal.durability = Durability.POWER
    kept: list[set[str]] = []

    def synced(descriptor: int) -> None:
        sync(descriptor)
        shutil.copytree(journal.directory, device, dirs_exist_ok=True)

    def left() -> None:
        kept.append({e.record.client_id for e in read_journal(device) if isinstance(e.record, OrderIntentRecord)})

    monkeypatch.setattr(os, "fdatasync", synced)
    for venue in entry.venues.values():
        venue.on_send = left
    entry.enter(path)
    assert [len(ids) for ids in kept] == [2, 2] and kept[0] == set(entry.world.core.ledger.orders)


@pytest.mark.parametrize("what", ["events wait", "in the middle of one", "no halt page", "a fault"])
def test_nothing_goes_the_fast_path_before_the_core_has_handled_every_event(entry: Entry, what: str) -> None:
    """An event that waits its turn may be the one that forbids it: the limits table does not know it yet."""
    if what == "events wait":
        entry.performer._events.append(NotSent("x", Refusal.LEASE, "test"))
    elif what == "in the middle of one":
        entry.performer._busy = True
    elif what == "a fault":
        entry.performer.end_by(OSError("half of an event was done"))
    else:
        entry.halt.page = None
    assert not entry.performer.enter_fast(entry.record(), entry.world.now_ns)
    assert entry.log == [] and not entry.world.core.ledger.orders
