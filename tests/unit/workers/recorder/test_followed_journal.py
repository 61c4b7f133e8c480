"""A journal that was lost, replaced or restored: the recorder follows it from its beginning and keeps what it has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.execution.journal import SEGMENT_BYTES_MIN, Journal, JournalPosition
from pipeline.execution.records import BreakerRecord, OperationStateRecord
from pipeline.model.enums import ArbitrageState
from shm.liveness import Liveness
from shm.logring import LogRing
from shm.metrics import Metrics
from tests.worlds.execution_world import make_config
from workers.base import WorkerContext
from workers.last_run.other_journal import BEGUN_ANEW, OTHER_JOURNAL
from workers.recorder.log_files import FILE_NAME
from workers.recorder.process import Recorder
from workers.recorder.sqlite_ledger import open_reader

WALL_NS = 1_700_000_000_000_000_000


@pytest.fixture
def ctx(instance: str, state_dir: Path) -> Iterator[WorkerContext]:
    made = WorkerContext(
        config=make_config(), instance=instance, process="recorder", exchange="", state_dir=state_dir, restarts=0
    )
    made.liveness = Liveness.create(instance, "recorder")
    made.log = LogRing.create(instance, "recorder")
    made.metrics = Metrics.create(instance, "recorder")
    with ExitStack() as stack:
        for segment in (made.liveness, made.log, made.metrics):
            stack.callback(segment.close)
        yield made


def write(ctx: WorkerContext, *names: str, at_ns: int = WALL_NS) -> None:
    """Appends a breaker and a change of state for each name."""
    journal = Journal.open(ctx.journal_dir(), segment_bytes=SEGMENT_BYTES_MIN)
    for number, name in enumerate(names):
        journal.append(BreakerRecord(name, True, "r"), number, at_ns + number)
        change = OperationStateRecord(name, ArbitrageState.OPPORTUNITY_FOUND, ArbitrageState.EXECUTING, "r")
        journal.append(change, number, at_ns + number)
    journal.close()


def record(ctx: WorkerContext) -> JournalPosition | None:
    """One life of the recorder; how far it is then."""
    recorder = Recorder(ctx)
    try:
        recorder.round()
        recorder.keep_up(last=True)
        recorder.round()
        return recorder.ledger.position()
    finally:
        recorder.close()


def recorded(ctx: WorkerContext) -> tuple[list[str], list[str]]:
    """Names of the breakers and of the operations, in the order of their rows."""
    with open_reader(ctx.state_dir / "ledger.sqlite") as db:
        events = db.execute("SELECT json_extract(body_json, '$.name') FROM events ORDER BY seq").fetchall()
        states = db.execute("SELECT operation_id FROM operation_states ORDER BY seq").fetchall()
    return [row[0] for row in events], [row[0] for row in states]


def said(ctx: WorkerContext) -> int:
    return (ctx.state_dir / "logs" / FILE_NAME).read_text().count(OTHER_JOURNAL)


@pytest.mark.parametrize("new", [("x",), ("x", "y", "z", "u", "v")], ids=["shorter", "longer"])
def test_a_lost_journal_is_followed_by_the_new_one_from_its_beginning(ctx: WorkerContext, new: tuple[str, ...]) -> None:
    write(ctx, "a", "b", "c")
    record(ctx)
    shutil.move(ctx.journal_dir(), ctx.state_dir / "elsewhere")
    write(ctx, *new, at_ns=WALL_NS + 10**12)
    position = record(ctx)
    assert recorded(ctx) == (["a", "b", "c", *new], ["a", "b", "c", *new])
    assert position is not None and position.next_seq == 1 + 2 * len(new)
    assert record(ctx) == position and recorded(ctx)[0] == ["a", "b", "c", *new]
    assert (said(ctx), ctx.metrics.value(BEGUN_ANEW)) == (1, 1), "once, not at each start"


def test_nothing_is_known_of_a_journal_that_is_not_there_yet(ctx: WorkerContext) -> None:
    write(ctx, "a")
    record(ctx)
    shutil.rmtree(ctx.journal_dir())
    assert record(ctx) is None, "a place in the lost one would let segments of the new one be removed"
    write(ctx, "b", at_ns=WALL_NS + 10**12)
    record(ctx)
    assert recorded(ctx)[0] == ["a", "b"]


def test_what_an_older_copy_brings_again_has_its_row_already(ctx: WorkerContext) -> None:
    write(ctx, "a", "b")
    record(ctx)
    shutil.copytree(ctx.journal_dir(), ctx.state_dir / "copy")
    write(ctx, "c", at_ns=WALL_NS + 10**12)
    record(ctx)
    for number, later in enumerate(("d", "e"), 2):
        shutil.rmtree(ctx.journal_dir())
        shutil.copytree(ctx.state_dir / "copy", ctx.journal_dir())
        write(ctx, later, at_ns=WALL_NS + number * 10**12)
        record(ctx)
    assert recorded(ctx) == (["a", "b", "c", "d", "e"], ["a", "b", "c", "d", "e"])


def test_a_journal_that_is_replaced_while_it_is_read_is_followed_too(ctx: WorkerContext) -> None:
    write(ctx, "a", "b")
    recorder = Recorder(ctx)
    try:
        recorder.round()
        shutil.move(ctx.journal_dir(), ctx.state_dir / "elsewhere")
        write(ctx, "x", at_ns=WALL_NS + 10**12)
        recorder.round()
        recorder.keep_up()
        position = recorder.ledger.position()
    finally:
        recorder.close()
    assert recorded(ctx) == (["a", "b", "x"], ["a", "b", "x"])
    assert position is not None and position.next_seq == 3 and ctx.metrics.value(BEGUN_ANEW) == 1
