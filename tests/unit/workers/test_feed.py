"""The feed process: how many connections carry the same streams, when it asks for the books of a recording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.book.recording.byte_ring import RingReader
from pipeline.model.catalogue_row import row_to_words
from pipeline.model.clock import mono_ns
from pipeline.model.config import RecordingConfig
from shm.liveness import Liveness
from shm.logring import LogRing
from shm.metrics import Metrics
from shm.pages import CataloguePage
from tests.worlds.venue_model import make_config, make_rows
from workers.base import WorkerContext
from workers.feed import FeedProcess, sockets_of
from workers.recording.rings import RING_BYTES, ring_of


@pytest.mark.parametrize(
    ("asked", "cpus", "feeds", "wanted"),
    [(0, 2, 3, 1), (0, 7, 3, 1), (0, 8, 3, 2), (1, 64, 1, 1), (2, 2, 3, 2)],
)
def test_a_second_connection_where_a_cpu_is_free_or_where_it_is_asked_for(
    asked: int, cpus: int, feeds: int, wanted: int
) -> None:
    assert sockets_of(asked, cpus, feeds) == wanted


@pytest.fixture
def process(instance: str, state_dir: Path) -> Iterator[FeedProcess]:
    """A feed that records, with its instruments; it is connected to nothing, and nothing drains its ring."""
    config = make_config(recording=RecordingConfig(market=True))
    ctx = WorkerContext(
        config=config, instance=instance, process="feed.gateio", exchange="gateio", state_dir=state_dir, restarts=0
    )
    ctx.liveness = Liveness.create(instance, ctx.process)
    ctx.log = LogRing.create(instance, ctx.process)
    ctx.metrics = Metrics.create(instance, ctx.process)
    catalogue = CataloguePage.create(instance)
    for row in make_rows(config):
        catalogue.append(row_to_words(row))
    with ExitStack() as stack:
        for segment in (ctx.liveness, ctx.log, ctx.metrics):
            stack.callback(segment.close)
        made = FeedProcess(ctx)
        made.build(CataloguePage.attach(instance))
        yield made


def test_a_piece_of_a_recording_that_finds_no_room_asks_no_venue_for_its_books(
    process: FeedProcess, instance: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The recorder is gone, or hangs, for as long as it takes."""
    assert process.recording is not None
    tap, size = process.recording.tap(0), RING_BYTES // 4
    while size:
        for _ in range(4):
            tap.snapshot("BTCUSDT", 0, bytes(size))
        size //= 2
    due_ns = mono_ns()
    for _ in range(3):
        due_ns += 3600 * 10**9
        process.look_at_recording(due_ns)
        process.look_at_recording(due_ns + 10**8)
    asked = [market.snapshots._renewing for market in process.markets.values()]
    assert not any(asked)
    assert capfd.readouterr().err.count("found no room in the ring") == 3, "and no storm of lines"
    reader = RingReader.create(instance, ring_of("feed.gateio"), capacity_bytes=RING_BYTES)
    reader.read(RING_BYTES)
    reader.done()
    process.look_at_recording(due_ns + 3600 * 10**9)
    asked = [market.snapshots._renewing for market in process.markets.values()]
    assert [len(books) for books in asked] == [1, 1]
    reader.close()
