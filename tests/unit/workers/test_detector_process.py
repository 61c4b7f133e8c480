"""The detector process on real shared memory: finds, survives a feed's restart, parks, stops cleanly."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.book.recording.pieces import DETECTOR, PIECE, SUFFIX, message, messages
from pipeline.detection.opportunity_record import OpportunityRecord, decode_record
from pipeline.model.catalogue_row import row_to_words
from pipeline.model.config_load import load_config
from pipeline.model.enums import InstrumentKind, ProcessState
from pipeline.model.fixedpoint import to_fp
from pipeline.model.instruments import InstrumentRow, VenueRef, build_rows
from pipeline.model.structs import InstrumentSpec
from pipeline.rehearsal.detection_world import book_record
from pipeline.replay_inputs import run_inputs
from shm.atomics import mono_ns
from shm.bookring import conn_frame, conn_open, create_feed, publish_book
from shm.layout import FEED_BOOK_CAPACITY_DEFAULT, OPPORTUNITY
from shm.layout_pages import INVENTORY, INVENTORY_ROW
from shm.liveness import Liveness, LivenessView
from shm.metrics import Metrics
from shm.pages import CataloguePage, InventoryPage, write_row
from shm.queue import QueueConsumer
from shm.segment import cleanup_instance
from shm.words import Words
from tests.paths import REPO
from tests.worlds.queue_items import pop_new
from workers.detector import attach_detector
from workers.last_run.detection_switch import keep_stopped
from workers.recorder.market_files import MarketFiles

WATCHDOG_S = 240.0
EXCHANGES = ("mexc", "gateio")


def wait_for(
    what: Callable[[], bool], process: subprocess.Popen[bytes], meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Until ``what()`` holds; fails when the process is gone or the watchdog's time is over."""
    end = time.monotonic() + WATCHDOG_S
    pause = threading.Event()
    while not what():
        meanwhile()
        assert process.poll() is None, f"the detector ended with {process.returncode}"
        assert time.monotonic() < end, "nothing happened within the watchdog's time"
        pause.wait(0.002)


class Venue:
    """A feed's segment and its liveness, driven by the test."""

    def __init__(self, instance: str, exchange: str, feed_id: int) -> None:
        self.feed_id = feed_id
        self.segment = create_feed(instance, exchange, FEED_BOOK_CAPACITY_DEFAULT)
        self.live = Liveness.create(instance, f"feed.{exchange}")
        self.live.set_state(ProcessState.READY)
        self.generation = int(conn_open(self.segment.words, 0, 0, feed_id, 0))

    def publish(self, row: InstrumentRow, bid: str, ask: str) -> None:
        now = int(mono_ns())
        qty = to_fp("1", row.qty_exp)
        record = book_record(
            [(to_fp(bid, row.price_exp), qty)],
            [(to_fp(ask, row.price_exp), qty)],
            instrument=row.instrument_id,
            recv_mono_ns=now,
            conn_generation=self.generation,
            publish_mono_ns=0,
        )
        self.live.beat()
        publish_book(self.segment.words, 0, row.book_index, record)
        conn_frame(self.segment.words, 0, 0, now)


class Engine:
    """Everything around the detector: two feeds, catalogue, inventory, the executor's end of the queue."""

    def __init__(self, instance: str, tmp_path: Path) -> None:
        self.instance = instance
        refs = [VenueRef(name=f"{name}_spot", venue_id=n, feed_id=n) for n, name in enumerate(EXCHANGES)]
        self.rows = build_rows(
            [
                InstrumentSpec(
                    venue=ref.name, symbol="BTCUSDT", base="BTC", quote="USDT", kind=InstrumentKind.SPOT,
                    tick=Decimal("0.01"), lot=Decimal("0.0001"), reference_price=Decimal(60_000),
                )
                for ref in refs
            ],
            refs,
        )  # fmt: skip
        self.venues = [Venue(instance, name, n) for n, name in enumerate(EXCHANGES)]
        catalogue = CataloguePage.create(instance)
        for row in self.rows:
            catalogue.append(row_to_words(row))
        inventory = InventoryPage.create(instance)
        for row in self.rows:
            words = np.zeros(INVENTORY_ROW.WORDS, dtype=np.int64)
            words[INVENTORY_ROW.buy_notional] = np.float64(1e6).view(np.int64)
            words[INVENTORY_ROW.sell_qty_fp] = to_fp("10", row.qty_exp)
            words[INVENTORY_ROW.state] = 1
            write_row(inventory.words, INVENTORY.rows + row.instrument_id * INVENTORY_ROW.WORDS, words)
        self.pages = (catalogue, inventory)
        self.shown = False  # a dislocation, by offers()
        self.got: list[bytes] = []  # records as the executor's end got them, without their places in the queue
        self.opps = QueueConsumer.create(instance, "opps", capacity=1024, slot_words=OPPORTUNITY.WORDS)
        endpoint = {"rest": "http://127.0.0.1:1", "ws": "ws://127.0.0.1:1", "symbols": ["BTCUSDT"]}
        config = {
            "engine_name": instance,
            "mode": "sim",
            "exchanges": {name: {"dialect": name, "markets": {"spot": endpoint}} for name in EXCHANGES},
            "detection": {"cooldown_ms": 1, "min_edge_bps": 1, "execute_edge_bps": 2},
            "processes": {"detector": {"wait": "park"}},
            "recording": {"market": True},
        }
        self.config = tmp_path / "config.yaml"
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "workers.detector", "--instance", self.instance, "--config", str(self.config)]
        return subprocess.Popen(command, cwd=REPO, env=dict(os.environ))

    def dislocate(self) -> None:
        """BTC: buy on MEXC, sell on Gate.io, 50 bps apart."""
        self.venues[0].publish(self.rows[0], "59990", "60000")
        self.venues[1].publish(self.rows[1], "60300", "60310")

    def calm(self) -> None:
        self.venues[0].publish(self.rows[0], "60000", "60010")
        self.venues[1].publish(self.rows[1], "60000", "60010")

    def offers(self) -> bool:
        """Shows a dislocation until the detector has pushed it; the record is decoded as the executor would."""
        self.opps.refresh()
        for venue in self.venues:
            venue.live.beat()
        record = self.pop()
        if record is None:
            # In turns: on one CPU the detector would see only the second of two, and an episode never ended.
            self.shown = not self.shown
            (self.dislocate if self.shown else self.calm)()
            return False
        found = decode_record(record, self.rows)
        assert [leg.venue for leg in found.legs] == ["mexc_spot", "gateio_spot"]
        assert found.legs[0].limit_price == Decimal(60_000) and found.legs[1].limit_price == Decimal(60_300)
        return True

    def pop(self) -> Words | None:
        """The next record of the queue."""
        record = pop_new(self.opps)
        if record is not None:
            bare = record.copy()
            bare[OPPORTUNITY.seq] = 0
            self.got.append(bare.tobytes())
        return record

    def close(self) -> None:
        self.opps.close()
        for venue in self.venues:
            venue.live.close()
            venue.segment.close()
        for page in self.pages:
            page.close()


@pytest.fixture
def engine(instance: str, tmp_path: Path, state_dir: Path) -> Iterator[Engine]:
    del state_dir  # the process's own folder
    found = Engine(instance, tmp_path)
    yield found
    found.close()
    cleanup_instance(instance)


def test_detector_finds_restarts_parks_and_stops_and_a_replay_of_it_gives_the_same_bits(
    engine: Engine, instance: str, tmp_path: Path
) -> None:
    kept = MarketFiles(instance, [DETECTOR], tmp_path / "market", bytes_max=10**9, keep_hours=1)
    process = engine.start()
    try:
        view = LivenessView.attach(instance, "detector", missing_ok=True)
        wait_for(lambda: bool(view.refresh() or view.mapped) and view.state == ProcessState.READY, process, kept.round)
        wait_for(engine.offers, process, kept.round)
        # an episode that is open keeps it awake; when the market is calm it parks, and a calm detector still beats
        engine.calm()
        wait_for(lambda: view.parked or (engine.calm() or False), process, kept.round)
        # the feed is replaced by a new life of itself: new epoch, new connection; nothing else restarts
        engine.venues[1].segment.close()
        engine.venues[1].live.close()
        epoch = engine.venues[1].segment.epoch
        engine.venues[1] = Venue(instance, EXCHANGES[1], 1)
        assert engine.venues[1].segment.epoch == epoch + 1
        while engine.pop() is not None:
            pass
        wait_for(engine.offers, process, kept.round)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WATCHDOG_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    counters = Metrics.attach(instance, "detector").counters()
    refused = sum(value for label, value in counters.items() if label.startswith("refused."))
    assert counters["taken"] >= 2 and counters["open"] == 0
    assert counters["opened"] == counters["detected"] == counters["taken"] + refused
    assert counters["parks"] >= 1 and counters["writer_changes"] >= 3
    histograms = Metrics.attach(instance, "detector").histograms()
    assert histograms["receive_to_detect"].count == counters["taken"]
    while engine.pop() is not None:
        pass
    while kept.round():  # a busy host has made more than one round takes
        pass
    kept.close()
    replayed = run_inputs(tmp_path / "market")
    assert replayed["exact"] and replayed["equal"] == len(engine.got) == counters["taken"]
    assert replayed["digest"] == hashlib.sha256(b"".join(engine.got)).hexdigest()
    newest = max((tmp_path / "market" / DETECTOR).iterdir())
    newest.write_bytes(newest.read_bytes()[:-8])  # its recorder was killed, and a new one repeats the header
    assert run_inputs(tmp_path / "market")["exact"], "a recording may end in the middle"
    _, header = next(messages(newest))
    newest.with_name(f"{time.time_ns()}{SUFFIX}").write_bytes(gzip.compress(message(PIECE, header)))
    replayed = run_inputs(tmp_path / "market")
    assert not replayed["exact"] and replayed["dropped"], "nobody knows what stood between them"


def test_a_detector_that_begins_looks_for_nothing_where_detection_was_stopped(
    engine: Engine, instance: str, state_dir: Path
) -> None:
    """As systemd starts it again: with the configuration's file, which has detection on."""
    (state_dir / instance).mkdir(mode=0o700)
    keep_stopped(state_dir / instance, by="uid 0", reason="a test")
    process = engine.start()
    try:
        view = LivenessView.attach(instance, "detector", missing_ok=True)
        wait_for(lambda: bool(view.refresh() or view.mapped) and view.state == ProcessState.READY, process)
        assert Metrics.attach(instance, "detector").counters()["looks_for_entries"] == 0
    finally:
        process.kill()
        process.wait()


def test_a_user_drives_a_detector_of_his_own_beside_an_instance(engine: Engine, instance: str) -> None:
    """It finds what the instance's own detector would, and owns no segment of the instance."""
    seen: list[OpportunityRecord] = []
    detector, attachments = attach_detector(load_config(engine.config), instance, on_opportunity=seen.append)
    engine.dislocate()
    deadline = time.monotonic() + WATCHDOG_S
    while not seen:
        assert time.monotonic() < deadline, "nothing was found within the watchdog's time"
        engine.calm()
        engine.dislocate()
        attachments.refresh()
        assert attachments.update_feeds(detector) == []
        detector.step(0, 0)
    assert [leg.venue for leg in seen[0].legs] == ["mexc_spot", "gateio_spot"]
    attachments.close()
    assert not list(Path("/dev/shm").glob(f"arb.{instance}.opps"))


def test_the_detector_needs_neither_asyncio_nor_aiohttp() -> None:
    code = "import sys, workers.detector; print(sorted({'asyncio', 'aiohttp', 'picows'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, check=True)
    assert done.stdout == b"[]\n"
