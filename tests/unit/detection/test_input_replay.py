"""What the detector read, replayed: the same records bit for bit, the same episodes; what differs is found."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.detection.detector import OpportunityDetector
from pipeline.detection.input_log import KIND_BITS, KIND_MASK, NOTICE, PUSHED, READ, READ_ENTRY
from pipeline.detection.input_recording import InputRecorder, state_of
from pipeline.detection.memory import DETECTOR_COUNTERS, INPUT_LOG
from pipeline.detection.topology import NO_FEED
from pipeline.model.errors import BadInput
from pipeline.replay_inputs import Span, Totals
from shm.atomics import mono_ns
from shm.bookring import conn_frame
from shm.layout import BOOK, CURSOR, HEADER, OPPORTUNITY, REPORT
from shm.layout_pages import CATALOGUE_CAPACITY, INVENTORY, INVENTORY_PRICE, INVENTORY_ROW
from shm.pages import write_row
from shm.queue import init_queue, pop, push, queue_words
from shm.words import Words
from tests.worlds.detector_world import DetectorWorld

HOUR_NS = 3600 * 10**9
BUY_MEXC = 0 * CATALOGUE_CAPACITY + 2
SELL_MEXC = 2 * CATALOGUE_CAPACITY + 0
#: what a replay does not see: it reads no feed
BLIND = {"laps", "torn", "epochs", "unknown_book"}


class Messages:
    """A sink that keeps everything; ``room``: it takes nothing while there is none."""

    def __init__(self) -> None:
        self.all: list[tuple[str, bytes]] = []
        self.room = True

    def begin(self) -> bool:
        return self.keep("piece", b"")

    def state(self, data: bytes) -> bool:
        return self.keep("state", data)

    def words(self, data: bytes) -> bool:
        return self.keep("words", data)

    def missed(self, count: int) -> bool:
        return self.keep("missed", bytes([count]))

    def keep(self, kind: str, data: bytes) -> bool:
        if self.room:
            self.all.append((kind, data))
        return self.room


class RecordedWorld(DetectorWorld):
    """The world with inventory, reports and a recorder; its queue holds ``capacity`` records."""

    def __init__(self, capacity: int = 64, **detection: object) -> None:
        super().__init__(**{"cooldown_ms": 0, **detection})
        inventory = np.zeros(INVENTORY.END, dtype=np.int64)
        self.reports, self.reports_cursor = (
            np.zeros(queue_words(64, REPORT.WORDS), np.int64),
            np.zeros(CURSOR.END, np.int64),
        )
        init_queue(self.reports, 0, 64, REPORT.WORDS, 0)
        opps = np.zeros(queue_words(capacity, OPPORTUNITY.WORDS), np.int64)
        init_queue(opps, 0, capacity, OPPORTUNITY.WORDS, 0)
        self.ports = self.ports._replace(
            inventory=inventory, reports=self.reports, reports_cursor=self.reports_cursor, opps=opps
        )
        for row in self.rows:
            self.stock(row.instrument_id, 1e6, 10**9, 1)
        self.sink = Messages()
        self.live: list[bytes] = []
        self.under_test = self.detector(recorder=InputRecorder(self.sink, HOUR_NS))

    def stock(self, instrument: int, usd: float, qty_fp: int, state: int) -> None:
        words = np.zeros(INVENTORY_ROW.WORDS, dtype=np.int64)
        words[INVENTORY_ROW.buy_notional] = np.float64(usd).view(np.int64)
        words[INVENTORY_ROW.sell_qty_fp], words[INVENTORY_ROW.state] = qty_fp, state
        write_row(self.ports.inventory, INVENTORY.rows + instrument * INVENTORY_ROW.WORDS, words)

    def report(self, key: int) -> None:
        words = np.zeros(REPORT.WORDS, dtype=np.int64)
        words[REPORT.direction_key], words[REPORT.cooldown_until_mono_ns] = key, int(mono_ns())
        push(self.reports, 0, self.reports_cursor, 0, words)

    def price(self, mbps: int) -> None:
        at = INVENTORY.prices
        self.ports.inventory[at + INVENTORY_PRICE.key] = BUY_MEXC
        self.ports.inventory[at + INVENTORY_PRICE.price_mbps] = mbps
        self.ports.inventory[INVENTORY.price_count] = 1

    def drain(self) -> None:
        out = np.zeros(OPPORTUNITY.WORDS, dtype=np.int64)
        while pop(self.ports.opps, 0, self.ports.opps_cursor, 0, out):
            out[OPPORTUNITY.seq] = 0
            self.live.append(out.tobytes())

    def do(self, what: str, a: int, b: int) -> None:
        detector = self.under_test
        if what == "book":
            self.publish(a % 4, str(60_000 + 10 * b), str(60_005 + 10 * b), qty=str(1 + a % 3))
        elif what == "torn apart":  # a new life of the feed's segment: its books are swept
            self.feeds[(a % 2) * self.size + HEADER.epoch] += 1
        elif what == "proof":
            conn_frame(self.feeds, (a % 2) * self.size, 0, int(mono_ns()))
        elif what == "stock":
            self.stock(a % 4, 200.0 * b, 10**8 * (b % 5), int(b % 7 != 0))
        elif what == "report":
            self.report((BUY_MEXC, SELL_MEXC)[a % 2])
        elif what == "price":
            self.price(1000 * b)
        elif what == "catalogue":
            self.write_catalogue(self.rows)
        elif what == "feed":
            detector.set_feed(a % 2, offset=(a % 2) * self.size if b % 5 else NO_FEED, alive=bool(b % 3))
        elif what == "caps":
            detector.refresh_caps()
        elif what == "drain":
            self.drain()
        detector.step(0, 0)


def replayed(messages: list[tuple[str, bytes]]) -> tuple[list[bytes], Totals, Span]:
    """The records of a replay, its totals, and the last span."""
    span, totals, records = None, Totals(), []
    for kind, data in messages:
        if kind == "state":
            span = Span(state_of(data))
        elif kind == "words":
            assert span is not None
            records += [record.tobytes() for record in span.play(np.frombuffer(data, np.int64), totals)]
            assert span.fault == ""
    assert span is not None
    return records, totals, span


def counted(mem: Words) -> dict[str, Any]:
    fields = {field.name: int(mem[getattr(DETECTOR_COUNTERS, field.name)]) for field in DETECTOR_COUNTERS.FIELDS}
    fields["refused"] = mem[DETECTOR_COUNTERS.refused : DETECTOR_COUNTERS.refused + 32].tolist()
    return {name: value for name, value in fields.items() if name not in BLIND}


steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["book"] * 6 + ["torn apart", "proof", "stock", "report", "price", "catalogue", "feed", "caps", "drain"]
        ),
        st.integers(0, 7),
        st.integers(0, 30),
    ),
    min_size=1,
    max_size=60,
)
DISLOCATED = [("book", 0, 0), ("book", 2, 30), ("book", 2, 0), ("report", 0, 0), ("book", 2, 30), ("drain", 0, 0)]


@given(steps, st.sampled_from([2, 64]), st.sampled_from([0, 1]))
@settings(max_examples=40, deadline=None)
@example(DISLOCATED * 4, 2, 0)
@example([*DISLOCATED, ("stock", 2, 7), *DISLOCATED, ("stock", 0, 8), *DISLOCATED], 64, 0)
@example([*DISLOCATED, ("stock", 0, 7), ("price", 0, 9), *DISLOCATED], 64, 1)
def test_a_replay_pushes_what_the_live_detector_pushed_bit_for_bit(
    what: list[tuple[str, int, int]], room: int, cooldown_ms: int
) -> None:
    world = RecordedWorld(capacity=room, cooldown_ms=cooldown_ms)
    for step in what:
        world.do(*step)
    world.drain()
    records, totals, span = replayed(world.sink.all)
    assert records == world.live
    assert (totals.equal, totals.unequal) == (len(world.live), 0)
    assert counted(span.mem) == counted(world.under_test.memory.mem)


def dislocated_world() -> RecordedWorld:
    world = RecordedWorld()
    for step in DISLOCATED:
        world.do(*step)
    assert len(world.live) == 2
    return world


def entries(words: Words) -> list[tuple[int, int]]:
    """(kind, place) of every entry of a part of the log."""
    found, at = [], 0
    while at < len(words):
        found.append((int(words[at]) & KIND_MASK, at))
        at += int(words[at]) >> KIND_BITS
    return found


def parts(world: RecordedWorld) -> list[Words]:
    return [np.frombuffer(data, np.int64).copy() for kind, data in world.sink.all if kind == "words"]


def play(world: RecordedWorld, words: list[Words]) -> tuple[Totals, str]:
    state = next(data for kind, data in world.sink.all if kind == "state")
    span, totals = Span(state_of(state)), Totals()
    for part in words:
        list(span.play(part, totals))
    return totals, span.fault


def test_a_book_that_differs_by_one_number_gives_another_record() -> None:
    world = dislocated_world()
    words = parts(world)
    assert play(world, words)[0].unequal == 0
    for part in words:
        for kind, at in entries(part):
            if kind == READ and int(part[at]) >> KIND_BITS > READ_ENTRY.WORDS:
                part[at + READ_ENTRY.WORDS + BOOK.update_id] += 1
    totals, _ = play(world, words)
    assert (totals.equal, totals.unequal) == (0, 2)


def test_an_entry_that_is_missing_is_said_with_its_place() -> None:
    world = dislocated_world()
    words = parts(world)
    for number, part in enumerate(words):
        at = next((at for kind, at in entries(part) if kind == READ), None)
        if at is not None:
            words[number] = np.delete(part, np.s_[at : at + (int(part[at]) >> KIND_BITS)])
            break
    _, fault = play(world, words)
    assert fault.endswith(f"kind {READ}")


def test_the_live_records_stand_in_the_log_as_the_executor_got_them() -> None:
    world = dislocated_world()
    pushed = [
        part[at + 1 : at + 1 + OPPORTUNITY.WORDS].tobytes()
        for part in parts(world)
        for kind, at in entries(part)
        if kind == PUSHED
    ]
    assert pushed == world.live
    assert sum(kind == NOTICE for part in parts(world) for kind, _ in entries(part)) == 4


def test_what_the_ring_does_not_take_ends_the_span_and_a_new_state_begins_the_next() -> None:
    world = dislocated_world()
    world.sink.room = False
    for step in DISLOCATED:
        world.do(*step)
    world.sink.room = True
    before = len(world.live)
    for step in DISLOCATED:
        world.do(*step)
    kinds = [kind for kind, _ in world.sink.all]
    assert kinds.count("state") == 2 and 2 < before < len(world.live)
    records, totals, _ = replayed(world.sink.all)
    assert records == world.live[:2] + world.live[before:] and totals.unequal == 0


def test_a_detector_without_a_recorder_writes_nothing_down() -> None:
    world = DetectorWorld()
    detector: OpportunityDetector = world.detector()
    world.dislocate()
    detector.step(0, 0)
    mem = detector.memory.mem
    assert detector.counters()["taken"] == 1 and mem[INPUT_LOG.at] == mem[INPUT_LOG.log_off] == len(mem)


def test_a_state_of_another_layout_is_refused_with_what_to_do() -> None:
    world = dislocated_world()
    state = next(data for kind, data in world.sink.all if kind == "state")
    other = msgspec.structs.replace(state_of(state), layout=1)
    with pytest.raises(BadInput, match="that build"):
        state_of(msgspec.msgpack.encode(other))
    with pytest.raises(BadInput, match="cannot be read"):
        state_of(state[:100])
