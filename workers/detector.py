"""The detector process: one jitted loop over every feed's books, opportunities out to the executor.

Its own segments: ``opps`` (queue to the executor), ``reports.cursor`` (cursor of the queue back, and the sleeping flag
of its bell). All others (feeds, catalogue, inventory) are mapped read-only and may appear, end or be replaced while it
runs. The loop returns to Python for the beat, for segments that have appeared or ended, and for a changed catalogue.

Waiting: spin and yield scan all the time; park sleeps on the bell ``bells/detector``, which feeds ring after every
frame (an update, or a proof that makes an open episode tradable) and the executor after it reports. With an episode
open it sleeps at most 25 ms: inventory and cooldowns ring nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from pipeline.detection.detector import IDLE, STEP_NS, OpportunityDetector
from pipeline.detection.kernel_arrays import Ports, nothing, private_ports
from pipeline.detection.memory import DETECTOR_SETTINGS, FEED_READER
from pipeline.detection.topology import NO_FEED
from pipeline.model.config import DetectionConfig, EngineConfig, ExchangeConfig, MarketConfig
from pipeline.model.dialects import dialect_names
from pipeline.model.enums import WaitStrategy
from pipeline.model.units import NS_PER_MS
from shm.bookring import init_feed, notice_tail
from shm.layout import CURSOR, FEED, FEED_BOOK_CAPACITY_DEFAULT, OPPORTUNITY, REPORT, feed_segment_words
from shm.liveness import FEED_MISSED_BEATS, LivenessView
from shm.metrics import Metrics
from shm.pages import CataloguePage, InventoryPage
from shm.queue import QueueConsumer, QueueProducer
from shm.segment import Arena, attach_arena, segment_name
from shm.wait import PARK, PARK_TIMEOUT_MAX_MS, Bell, BellRinger, resolve_wait
from workers.base import WorkerContext, run_worker
from workers.last_run.detection_switch import as_switched
from workers.recording.of_detector import DetectorRecording

QUEUE_CAPACITY = 1024  # opportunities that wait for the executor; more are refused and counted
REPORT_CAPACITY = 1024
QUIET_NS = 50_000  # after this long without a notice a parking detector sleeps: about what a wake-up costs
PARK_OPEN_MS = 25  # with an episode open
HOUSEKEEPING_NS = STEP_NS  # what has appeared, died or changed
CAPS_NS = 1_000 * NS_PER_MS  # dollar rates of quotes that are no stable coin


class Attachments:
    """Every segment that a detector of ``instance`` reads or owns. ``own_queue``: push to the executor."""

    def __init__(self, config: EngineConfig, instance: str, *, own_queue: bool, metrics: Metrics | None) -> None:
        self.config = config
        self.instance = instance
        names = [segment_name(instance, f"feed.{exchange}") for exchange in config.feeds]
        self._renewed = set[int]()  # feeds whose segment was replaced since update_feeds
        self.feeds: Arena = attach_arena(names, FEED.KIND, instance, feed_segment_words(FEED_BOOK_CAPACITY_DEFAULT))
        self.catalogue: CataloguePage = CataloguePage.attach(instance)
        self.inventory: InventoryPage = InventoryPage.attach(instance)
        self.liveness = [LivenessView.attach(instance, f"feed.{name}", missing_ok=True) for name in config.feeds]
        self.producer: QueueProducer | None = None
        self.reports: QueueConsumer | None = None
        private = private_ports(self.feeds.words)
        self.ports: Ports = private._replace(catalogue=self.catalogue.words, inventory=self.inventory.words)
        if own_queue:
            self.producer = QueueProducer.create(
                instance, "opps", capacity=QUEUE_CAPACITY, slot_words=OPPORTUNITY.WORDS
            )
            self.reports = QueueConsumer.create(instance, "reports", capacity=REPORT_CAPACITY, slot_words=REPORT.WORDS)
            self.ports = self.ports._replace(
                opps=self.producer.words,
                opps_cursor=self.producer.cursor_words,
                reports=self.reports.words,
                reports_cursor=self.reports.cursor_words,
                metrics=nothing() if metrics is None else metrics.words,
            )

    def refresh(self) -> None:
        """Map what has appeared or was replaced. Raises SegmentMismatch for a segment of another build."""
        self._renewed.update(self.feeds.refresh())
        self.catalogue.refresh()
        self.inventory.refresh()
        if self.producer is not None:
            self.producer.refresh()
        if self.reports is not None:
            self.reports.refresh()

    def update_feeds(self, detector: OpportunityDetector) -> list[str]:
        """Set in ``detector`` where each feed's books are and whether it lives; the exchanges whose feed does not."""
        missing = []
        for feed_id, (exchange, view) in enumerate(zip(self.config.feeds, self.liveness, strict=True)):
            view.refresh()
            alive = view.alive() and not view.hung(missed_beats=FEED_MISSED_BEATS)
            mapped = self.feeds.is_mapped(feed_id)
            if feed_id in self._renewed:
                detector.feed_renewed(feed_id)
            detector.set_feed(feed_id, offset=self.feeds.offset_of(feed_id) if mapped else NO_FEED, alive=alive)
            if not (mapped and alive):
                missing.append(exchange)
        self._renewed.clear()
        return missing

    def close(self) -> None:
        """Close the queues of the executor, where they are ours."""
        if self.producer is not None:
            self.producer.close()
        if self.reports is not None:
            self.reports.close()


def attach_detector(config: EngineConfig, instance: str, **options: object) -> tuple[OpportunityDetector, Attachments]:
    """A detector beside a running instance, for a Python user: it reads the books, writes nothing, knows no balances.

    ``options`` go to :class:`OpportunityDetector` (``on_opportunity``). Call ``attachments.refresh()`` and
    ``attachments.update_feeds(detector)`` regularly, and ``attachments.close()`` at the end. Raises SegmentMissing
    where the instance has no catalogue yet.
    """
    attachments = Attachments(config, instance, own_queue=False, metrics=None)
    detector = OpportunityDetector(config, attachments.ports._replace(inventory=nothing()), **options)  # type: ignore[arg-type]
    attachments.update_feeds(detector)
    return detector, attachments


class DetectorProcess:
    """The loop around :meth:`OpportunityDetector.step` in its process."""

    def __init__(self, ctx: WorkerContext) -> None:
        self.ctx = ctx
        ctx.config = as_switched(ctx.config, ctx.state_dir)
        self.attachments = Attachments(ctx.config, ctx.instance, own_queue=True, metrics=ctx.metrics)
        self.wait = self._wait_strategy()
        self.recording = DetectorRecording(ctx) if ctx.config.recording.market else None
        self.detector = OpportunityDetector(
            ctx.config,
            self.attachments.ports,
            spin=self.wait == WaitStrategy.SPIN,
            recorder=self.recording.recorder if self.recording is not None else None,
        )
        reports = self.attachments.reports
        assert reports is not None
        self.bell = Bell.create(ctx.bells_dir() / "detector", reports.cursor_words)
        self.ringer = BellRinger.open(ctx.bells_dir() / "executor", self.attachments.ports.opps_cursor, CURSOR.sleeping)
        self._housekeeping_at_ns = 0
        self._caps_at_ns = 0
        self._missing: list[str] = []
        self._parks = ctx.metrics.counter("parks", "times the detector went to sleep")
        self._looking = ctx.metrics.counter("looks_for_entries", "1 while detection is enabled")
        self._name_histograms()

    def _wait_strategy(self) -> str:
        """How to wait; ``auto`` spins where each feed, the executor and the detector have a CPU of their own."""
        cores = len(self.ctx.cpus) or len(os.sched_getaffinity(0))
        return resolve_wait(str(self.ctx.wait), cores=cores, spinners=len(self.ctx.config.feeds) + 2)

    def _name_histograms(self) -> None:
        metrics, mem = self.ctx.metrics, self.detector.memory.mem
        mem[DETECTOR_SETTINGS.hist_scan] = metrics.histogram(
            "publish_to_scan", "book published to its directions checked, sampled"
        )
        mem[DETECTOR_SETTINGS.hist_publish] = metrics.histogram(
            "publish_to_detect", "trigger published to opportunity pushed"
        )
        mem[DETECTOR_SETTINGS.hist_receive] = metrics.histogram(
            "receive_to_detect", "trigger received to opportunity pushed"
        )

    def housekeeping(self, now_ns: int) -> None:
        """What is done every 25 ms: map new segments, mark dead feeds, take in a reload, publish counters."""
        self._housekeeping_at_ns = now_ns
        fresh = self.ctx.reloaded()
        if fresh is not None:
            self.detector.reconfigure(fresh)
        self.ctx.metrics.set(self._looking, int(self.ctx.config.detection.enabled))
        self.attachments.refresh()
        missing = self.attachments.update_feeds(self.detector)
        if missing != self._missing:
            self._missing = missing
            text = f"feeds not usable: {', '.join(missing)}" if missing else "all feeds usable"
            self.ctx.say("warning" if missing else "info", text)
        self.ringer.refresh()
        self.detector.memory.mem[DETECTOR_SETTINGS.bell_fd] = self.ringer.fd
        self.detector.publish_counters(self.ctx.metrics)
        if self.recording is not None:
            self.recording.look()
        if now_ns - self._caps_at_ns >= CAPS_NS:
            self._caps_at_ns = now_ns
            self.detector.refresh_caps()

    def run(self) -> None:
        """Scan until the stop request."""
        self.housekeeping(time.monotonic_ns())
        self.detector.warm()
        self.ctx.ready(f"wait={self.wait}")
        idle_ns = QUIET_NS if self.wait == PARK else STEP_NS
        while not self.ctx.stop_requested():
            reason = self.detector.step(STEP_NS, idle_ns)
            now_ns = time.monotonic_ns()
            if now_ns - self._housekeeping_at_ns >= HOUSEKEEPING_NS:
                self.housekeeping(now_ns)
            self.ctx.progress()
            if reason == IDLE and self.wait == PARK:
                self.park()

    def park(self) -> None:
        """Sleep until a feed or the executor rings, or a beat is due."""
        open_episodes = self.detector.undecided > 0
        self.bell.prepare_park()
        if open_episodes:
            self.detector.step(0, 0)  # a proof may have come between the last pass and the sleeping flag
        if self.news():
            self.bell.cancel_park()
            return
        timeout_ms = PARK_OPEN_MS if open_episodes else PARK_TIMEOUT_MAX_MS
        if not open_episodes:
            self.ctx.liveness.parked = True
            self.ctx.beat()
        self.ctx.metrics.inc(self._parks)
        self.bell.park(timeout_ms)
        if not open_episodes:
            self.ctx.liveness.parked = False
            self.ctx.beat()

    def news(self) -> bool:
        """Whether a notice or a report has come since the last pass; read after the sleeping flag is set."""
        words = self.attachments.ports.feeds
        for row in self.detector.memory.feeds:
            if row[FEED_READER.feed_off] != NO_FEED and int(notice_tail(words, int(row[FEED_READER.feed_off]))) != int(
                row[FEED_READER.cursor]
            ):
                return True
        reports = self.attachments.reports
        return reports is not None and not reports.empty

    def close(self) -> None:
        """End every episode, publish the last counters, close bell and queues."""
        self.detector.end_episodes()
        if self.recording is not None:
            self.recording.recorder.flush(self.detector.memory)
        self.detector.publish_counters(self.ctx.metrics)
        self.bell.close()
        self.ringer.close()
        self.attachments.close()


def run(ctx: WorkerContext) -> None:
    """The detector's life: map the segments, load kernels, READY, scan until SIGTERM."""
    process = DetectorProcess(ctx)
    try:
        process.run()
    finally:
        process.close()


def warm(dialects: Sequence[str]) -> None:
    """Compile, or load from the cache, every kernel of the scan loop, with private arrays."""
    del dialects
    market = MarketConfig(symbols=())
    exchanges = {"warm": ExchangeConfig(dialect=dialect_names()[0], markets={"spot": market})}
    config = EngineConfig(exchanges=exchanges, detection=DetectionConfig())
    words = np.zeros(feed_segment_words(FEED_BOOK_CAPACITY_DEFAULT), dtype=np.int64)
    init_feed(words, 0, FEED_BOOK_CAPACITY_DEFAULT)
    detector = OpportunityDetector(config, private_ports(words))
    detector.set_feed(0, offset=0)
    detector.warm()


def main() -> int:
    """``python -m workers.detector --instance I --config F``."""
    return run_worker("detector", run)


if __name__ == "__main__":
    raise SystemExit(main())
