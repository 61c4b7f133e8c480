"""OpportunityDetector: the scan loop with its catalogue, counters and life cycle around it.

The detector process is made of this object; a Python user drives the same one, either beside a running instance
(``workers.detector.attach_detector``: looks on, with a queue of its own) or on private arrays (replays, tests).

Threads: exactly one runs the loop (the caller of :meth:`step`, or the thread of :meth:`start_detection`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from typing import Protocol

import msgspec
import numpy as np

from pipeline.detection.catalogue_rows import pair_text
from pipeline.detection.cross_venue import judge_direction
from pipeline.detection.depth_walk import SIZE
from pipeline.detection.episodes import close_episode
from pipeline.detection.input_recording import LOG_WORDS, InputRecorder
from pipeline.detection.kernel_arrays import NOTHING, Ports, nothing
from pipeline.detection.memory import DETECTOR, DETECTOR_COUNTERS, DETECTOR_SETTINGS, FEED_READER, REFUSAL_CODES, Memory
from pipeline.detection.opportunity_record import OpportunityRecord, decode_record
from pipeline.detection.scan_loop import EXITS, IDLE, RAN_OUT, REFRESH, SPIN, YIELD, refresh_exits, scan_loop
from pipeline.detection.thresholds import Terms
from pipeline.detection.topology import (
    DIRECTION,
    GROUP,
    INSTRUMENT,
    NO_FEED,
    build_topology,
    notional_caps,
    quote_rates,
)
from pipeline.model.catalogue_row import words_to_row
from pipeline.model.clock import mono_ns, wall_ns
from pipeline.model.config import EngineConfig
from pipeline.model.enums import Refusal
from pipeline.model.fixedpoint import from_fp
from pipeline.model.instruments import USD_COINS, InstrumentRow
from pipeline.model.structs import ArbitrageOpportunity
from pipeline.model.units import NS_PER_MS
from shm.atomics import load_acquire
from shm.jit import direct
from shm.layout import FEED_BOOK_CAPACITY_DEFAULT, LEG, OPPORTUNITY, QUEUE
from shm.layout_pages import CAT_FLAG_REMOVED, CATALOGUE, CATALOGUE_ROW, INVENTORY_PRICE
from shm.pages import price_words, read_row
from shm.queue import pop
from shm.words import Words

RECHECK_NS = NS_PER_MS  # an open episode is looked at at least this often; a new proof is seen at once
STEP_NS = 25 * NS_PER_MS  # the loop comes back to Python this often while work flows: beat, commands, liveness of feeds
THREAD_PAUSE_S = 0.001  # between steps of a user's thread on a quiet market

#: counter label -> word; ``refused.<name>`` come from DETECTOR_COUNTERS.refused
COUNTER_LABELS: tuple[tuple[str, int, str], ...] = (
    ("events", DETECTOR_COUNTERS.events, "book updates looked at"),
    ("evaluations", DETECTOR_COUNTERS.evaluations, "directions and cycles whose books were read whole"),
    ("opened", DETECTOR_COUNTERS.opened, "episodes begun"),
    ("taken", DETECTOR_COUNTERS.pushed, "episodes pushed to the executor"),
    ("laps", DETECTOR_COUNTERS.laps, "times the loop fell behind a feed's notices and looked at every book instead"),
    ("torn", DETECTOR_COUNTERS.torn, "books that their writer kept replacing while they were read"),
    ("rechecks", DETECTOR_COUNTERS.rechecks, "open episodes looked at again without an update"),
    ("exits", DETECTOR_COUNTERS.exits, "exits of open hedges offered to the executor"),
    ("reports", DETECTOR_COUNTERS.reports, "reports of the executor"),
    ("unknown_book", DETECTOR_COUNTERS.unknown_book, "notices of books that the catalogue does not list"),
    ("writer_changes", DETECTOR_COUNTERS.epochs, "first sights of a feed, and changes of its writer"),
)
DETECTOR_REFUSALS = tuple(reason for reason in Refusal if 0 < reason < REFUSAL_CODES)


class CounterSink(Protocol):
    """Where counters go: ``shm.metrics.Metrics``."""

    def counter(self, label: str, doc: str = "") -> int: ...

    def inc(self, index: int, n: int = 1) -> None: ...

    def set(self, index: int, value: int) -> None: ...


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """Verdict on an opportunity against the books of this moment; true if every gate passes."""

    refusal: Refusal
    edge_bps: float
    max_quantity: Decimal

    def __bool__(self) -> bool:
        return self.refusal is Refusal.NONE


class OpportunityDetector:
    """Finds opportunities on the books behind ``ports`` and pushes them to the queue in ``ports``."""

    def __init__(
        self,
        config: EngineConfig,
        ports: Ports,
        *,
        terms: Terms | None = None,
        spin: bool = False,
        on_opportunity: Callable[[OpportunityRecord], None] | None = None,
        recorder: InputRecorder | None = None,
    ) -> None:
        """``on_opportunity``: called from the scanning thread for each opportunity; the detector then consumes the
        queue itself, so it must be its own (``private_ports``). ``recorder``: writes down what is read."""
        self.config = config
        self.ports = ports
        self.terms = terms or Terms.from_config(config)
        self._venue_names = [venue.name for venue in config.venues]
        self._feed_count = len(config.feeds)
        self._symbols: set[str] | None = None
        self._on_opportunity = on_opportunity
        self._recorder = recorder
        self._wait = SPIN if spin else YIELD
        self._published = np.zeros(len(COUNTER_LABELS) + REFUSAL_CODES + 1, dtype=np.int64)
        self._rows: Words = np.zeros((0, CATALOGUE_ROW.WORDS), dtype=np.int64)
        self._decoded: dict[int, InstrumentRow] = {}
        self._prices: Words = np.zeros((0, INVENTORY_PRICE.WORDS), dtype=np.int64)  # as last read from the page
        self._prices_mbps: dict[int, int] = {}  # by direction key, both ways
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._out = np.zeros(OPPORTUNITY.WORDS, dtype=np.int64)
        self.failure: BaseException | None = None  # what ended the detection thread
        self.memory = self._build({})
        self._configure()
        if len(ports.catalogue) > NOTHING:
            self.refresh_catalogue()

    # --- set-up ---

    def _build(self, rates: Mapping[str, float]) -> Memory:
        topology = build_topology(
            self._monitored_rows(),
            self.terms,
            feed_count=max(1, self._feed_count),
            book_capacity=FEED_BOOK_CAPACITY_DEFAULT,
            usd_rates=rates,
            prices_mbps=self._prices_mbps,
        )
        return Memory(topology, feed_count=self._feed_count, log_words=LOG_WORDS if self._recorder is not None else 0)

    def _configure(self) -> None:
        self._set_bounds()
        mem = self.memory.mem
        mem[DETECTOR_SETTINGS.recheck_ns] = RECHECK_NS
        mem[DETECTOR_SETTINGS.next_id] = first_opportunity_id(self.ports.opps)

    def _set_bounds(self) -> None:
        detection = self.config.detection
        mem = self.memory.mem
        mem[DETECTOR_SETTINGS.max_age_ns] = detection.max_age_to_trade_ms * NS_PER_MS
        mem[DETECTOR_SETTINGS.max_skew_ns] = detection.max_skew_ms * NS_PER_MS
        mem[DETECTOR_SETTINGS.cooldown_ns] = detection.cooldown_ms * NS_PER_MS

    def reconfigure(self, config: EngineConfig) -> None:
        """Other thresholds and bounds from the next pass on (what ``model.config_reload`` lets change, no more); open
        episodes and cooldowns stay."""
        with self._lock:
            self.config = config
            self.terms = Terms.from_config(config)
            self._rebuild()
            self._set_bounds()  # before the state that the rebuild makes due is written

    def set_feed(self, feed_id: int, *, offset: int = NO_FEED, alive: bool = True) -> None:
        """Where a feed's segment begins in ``ports.feeds``, and whether its process lives."""
        row = self.memory.feeds[feed_id]
        row[FEED_READER.feed_off] = offset
        if row[FEED_READER.alive] != int(alive):
            with self._noted():
                row[FEED_READER.alive] = int(alive)

    def feed_renewed(self, feed_id: int) -> None:
        """Another segment stands in the feed's place: it is read from its newest notice on, though its epoch may be the
        one that is remembered."""
        self.memory.feeds[feed_id][FEED_READER.epoch] = -1

    def set_rows(self, rows: Words) -> None:
        """Instrument rows int64[n, CATALOGUE_ROW.WORDS] (index = id), where there is no catalogue page."""
        self._rows = rows
        self._decoded = {}
        self._rebuild()

    def refresh_catalogue(self) -> int:
        """Reads the catalogue page and rebuilds what may be compared with what; open episodes and cooldowns stay.

        Returns the number of instruments. A row that its writer left torn ends the table there until it is healed.
        """
        page = self.ports.catalogue
        # SYNC catalogue.version: acquire, before the rows: a later change is seen as a new version; pairs with _changed
        version = int(load_acquire(page, CATALOGUE.version))
        count = int(load_acquire(page, CATALOGUE.count))  # SYNC catalogue.count: acquire; pairs with the page's append
        rows = np.zeros((count, CATALOGUE_ROW.WORDS), dtype=np.int64)
        for index in range(count):
            if read_row(page, CATALOGUE.rows + index * CATALOGUE_ROW.WORDS, rows[index]) <= 0:
                rows = rows[:index].copy()
                break
        self.memory.mem[DETECTOR_SETTINGS.catalogue_version] = version
        self.set_rows(rows)
        return len(rows)

    def _monitored_rows(self) -> Words:
        """The rows, those not monitored marked as removed so that ids stay."""
        if self._symbols is None:
            return self._rows
        rows = self._rows.copy()
        for row in rows:
            if pair_text(row) not in self._symbols:
                row[CATALOGUE_ROW.flags] |= CAT_FLAG_REMOVED
        return rows

    def _noted(self) -> AbstractContextManager[None]:
        """Around what changes the memory between two steps: a recording has it too."""
        return nullcontext() if self._recorder is None else self._recorder.changing(self.memory)

    def _rebuild(self) -> None:
        if self._recorder is not None:
            self._recorder.flush(self.memory)
            self._recorder.renew()
        old, new = self.memory, self._build(self.usd_rates())
        for episode in old.lost_in(new):
            close_episode(old.mem, episode)  # its direction is gone: it ends refused
        new.carry_over(old)
        self.memory = new

    def usd_rates(self) -> dict[str, float]:
        """Dollar rates of quotes other than ``USD_COINS``, from the mid prices of our own books (for limits only)."""
        rates: dict[str, float] = {}
        instruments = self.memory.topology.instruments
        for index, row in enumerate(self._rows):
            base, _, quote = pair_text(row).partition("/")
            slot = int(instruments[index, INSTRUMENT.slot]) if index < len(instruments) else -1
            if base in rates or quote not in USD_COINS or slot < 0:
                continue
            bid, ask = float(self.memory.top_bid[slot]), float(self.memory.top_ask[slot])
            if 0 < bid <= ask < float("inf"):
                rates[base] = (bid + ask) / 2 / 10 ** int(row[CATALOGUE_ROW.price_exp])
        return rates

    def refresh_caps(self) -> None:
        """Notional caps and USD rates of now, where a quote is none of ``USD_COINS``."""
        rates = quote_rates(self._rows, self.usd_rates())
        with self._noted():
            self.memory.quote_usd[: len(rates)] = rates
            self.memory.caps[: len(rates)] = notional_caps(rates, self.terms)

    def refresh_prices(self) -> None:
        """Thresholds at the inventory prices that the executor's page has now; directions whose price is the same stay
        untouched."""
        if len(self.ports.inventory) <= NOTHING:
            return
        prices, before = price_words(self.ports.inventory), self._prices
        if np.array_equal(prices, before):
            return
        self._prices = prices
        known = min(len(prices), len(before))
        moved = prices[known:].tolist() + prices[:known][(prices[:known] != before[:known]).any(axis=1)].tolist()
        moved += [[key, 0] for key in np.setdiff1d(before[:, 0], prices[:, 0]).tolist()]
        rows = self._monitored_rows()
        with self._noted():
            for key, price_mbps in moved:
                if self._prices_mbps.get(key, 0) != price_mbps:
                    self._prices_mbps[key] = price_mbps
                    self.memory.set_price(key, price_mbps, rows, self.terms)

    # --- the loop ---

    def step(self, budget_ns: int = STEP_NS, idle_ns: int = STEP_NS) -> int:
        """Scans for at most ``budget_ns``, or until nothing came for ``idle_ns``; RAN_OUT or IDLE.

        A changed catalogue is taken in on the way.
        """
        with self._lock:
            self.refresh_prices()
            deadline = mono_ns() + budget_ns
            while True:
                memory = self.memory
                if self._recorder is not None:
                    limited = len(self.ports.inventory) > NOTHING
                    self._recorder.before_step(memory, self._rows, self._venue_names, limited=limited)
                reason = int(scan_loop(self.ports, memory.mem, memory.flt, deadline, idle_ns, self._wait))
                if self._recorder is not None:
                    self._recorder.flush(memory)
                if reason == REFRESH:
                    self.refresh_catalogue()
                elif reason == EXITS:
                    with self._noted():
                        refresh_exits(self.ports.inventory, memory.mem)
                else:
                    break
            if self._on_opportunity is not None:
                self._deliver(self._on_opportunity)
        return reason

    def _deliver(self, receiver: Callable[[OpportunityRecord], None]) -> None:
        while pop(self.ports.opps, 0, self.ports.opps_cursor, 0, self._out):
            receiver(self.decode(self._out))

    def decode(self, record: Words) -> OpportunityRecord:
        """A record of the queue (int64[OPPORTUNITY.WORDS]) in words and decimals; raises as ``decode_record``, and
        ``IndexError`` for an instrument that the catalogue lacks."""
        legs = int(record[OPPORTUNITY.leg_count])
        ids = [int(record[OPPORTUNITY.legs + k * LEG.WORDS + LEG.instrument]) for k in range(legs)]
        return decode_record(record, {instrument: self.row(instrument) for instrument in ids})

    def row(self, instrument_id: int) -> InstrumentRow:
        """The instrument's row; raises ``IndexError`` where the catalogue has none."""
        found = self._decoded.get(instrument_id)
        if found is None:
            words = self._rows[instrument_id]
            found = words_to_row(instrument_id, words, self._venue_names[int(words[CATALOGUE_ROW.venue])])
            self._decoded[instrument_id] = found
        return found

    def warm(self) -> None:
        """Compiles, or loads from the cache, everything that :meth:`step` may call."""
        scan_loop(self.ports, self.memory.mem, self.memory.flt, 0, 0, self._wait)
        direct(refresh_exits, nothing(), self.memory.mem)
        direct(close_episode, self.memory.mem, 0)

    def start_detection(self) -> None:
        """Runs the loop in a thread of this process (the kernels release the GIL). Idempotent."""
        if self._thread is not None:
            return
        self._stop.clear()
        self.failure = None
        self.warm()
        self._thread = threading.Thread(target=self._run, name="opportunity-detector", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if self.step(idle_ns=NS_PER_MS) == IDLE:
                    self._stop.wait(THREAD_PAUSE_S)
        except BaseException as error:
            self.failure = error
            raise

    def stop_detection(self) -> None:
        """Ends the thread and every open episode (they are counted as refused). Idempotent."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        self.end_episodes()

    @property
    def is_detecting(self) -> bool:
        """Whether the thread of :meth:`start_detection` runs."""
        return self._thread is not None and self._thread.is_alive()

    def end_episodes(self) -> None:
        """Ends every open episode; afterwards opened = taken + refused."""
        with self._lock, self._noted():
            while self.memory.mem[DETECTOR_COUNTERS.active] > 0:
                close_episode(self.memory.mem, int(self.memory.active[0]))
            self.memory.forget_exits()
            self.memory.group_open[:] = 0

    # --- what a user asks ---

    def add_symbol_monitoring(self, pair: str) -> int:
        """Monitors ``BASE/QUOTE``; the first call narrows the detector from everything to what was added.

        Returns how many instruments the catalogue lists for it (0: it starts when one appears).
        """
        with self._lock:
            self._symbols = (self._symbols or set()) | {pair}
            self._rebuild()
        return sum(1 for row in self._rows if pair_text(row) == pair)

    @property
    def monitored_symbols(self) -> frozenset[str]:
        """Canonical pairs that are looked at."""
        listed = frozenset(pair_text(row) for row in self._rows)
        return listed if self._symbols is None else frozenset(self._symbols)

    def validate_opportunity_risk(self, opportunity: ArbitrageOpportunity) -> Validation:
        """Profitability and feasibility of a two-legged opportunity on the books of now: every gate of detection.

        The answer is for people and manual execution; the executor's own gate judges again before each send.
        """
        ids = [
            next((i for i in range(len(self._rows)) if self._is(i, venue, opportunity.symbol)), -1)
            for venue in (opportunity.buy_exchange, opportunity.sell_exchange)
        ]
        if -1 in ids or ids[0] == ids[1]:
            return Validation(refusal=Refusal.NO_BOOK, edge_bps=0.0, max_quantity=Decimal(0))
        with self._lock:
            return self._validate(ids[0], ids[1])

    def _is(self, instrument: int, venue: str, pair: str) -> bool:
        row = self._rows[instrument]
        return self._venue_names[int(row[CATALOGUE_ROW.venue])] == venue and pair_text(row) == pair

    def _validate(self, buy: int, sell: int) -> Validation:
        topology, mem = self.memory.topology, self.memory.mem
        group = int(topology.instruments[buy, INSTRUMENT.group])
        if group < 0 or int(topology.instruments[sell, INSTRUMENT.group]) != group:
            return Validation(refusal=Refusal.QUARANTINED, edge_bps=0.0, max_quantity=Decimal(0))
        start, count, block = (int(topology.groups[group, c]) for c in (GROUP.first_slot, GROUP.count, GROUP.block))
        i, j = (int(topology.instruments[x, INSTRUMENT.slot]) - start for x in (buy, sell))
        direction = block + i * count + j
        if topology.directions[direction, DIRECTION.type] < 0:
            return Validation(refusal=Refusal.DISABLED_TYPE, edge_bps=0.0, max_quantity=Decimal(0))
        code, edge = judge_direction(self.ports, mem, self.memory.flt, direction)
        quantity = (
            min(int(mem[DETECTOR.size + SIZE.buy_qty_fp]), int(mem[DETECTOR.size + SIZE.sell_qty_fp]))
            if code == 0
            else 0
        )
        exponent = int(self._rows[buy, CATALOGUE_ROW.qty_exp])
        return Validation(refusal=Refusal(code), edge_bps=float(edge), max_quantity=from_fp(quantity, exponent))

    # --- counters ---

    @property
    def undecided(self) -> int:
        """Open episodes that may still be taken or refused."""
        mem = self.memory.mem
        return int(mem[DETECTOR_COUNTERS.opened] - mem[DETECTOR_COUNTERS.pushed] - mem[DETECTOR_COUNTERS.ended])

    def counters(self) -> dict[str, int]:
        """All counters by label; ``detected`` = episodes that have ended or were taken, ``open`` = those still open."""
        mem = self.memory.mem
        found = {label: int(mem[word]) for label, word, _ in COUNTER_LABELS}
        found["detected"] = int(mem[DETECTOR_COUNTERS.pushed] + mem[DETECTOR_COUNTERS.ended])
        found["open"] = self.undecided
        for reason in DETECTOR_REFUSALS:
            found[f"refused.{reason.name.lower()}"] = int(mem[DETECTOR_COUNTERS.refused + reason])
        return found

    def publish_counters(self, sink: CounterSink) -> None:
        """Adds what has happened since the last call to the process's metrics (they outlive the process)."""
        mem = self.memory.mem
        words = [word for _, word, _ in COUNTER_LABELS]
        labels = [(label, doc) for label, _, doc in COUNTER_LABELS]
        values = [int(mem[word]) for word in words] + [
            int(mem[DETECTOR_COUNTERS.pushed] + mem[DETECTOR_COUNTERS.ended])
        ]
        labels.append(("detected", "episodes that ended: taken + refused"))
        for reason in DETECTOR_REFUSALS:
            values.append(int(mem[DETECTOR_COUNTERS.refused + reason]))
            labels.append((f"refused.{reason.name.lower()}", f"episodes refused under the gate {reason.name.lower()}"))
        for at, ((label, doc), value) in enumerate(zip(labels, values, strict=True)):
            index = sink.counter(label, doc)
            if value != self._published[at]:
                sink.inc(index, value - int(self._published[at]))
                self._published[at] = value
        sink.set(sink.counter("open", "episodes open now"), self.undecided)


def first_opportunity_id(opps: Words) -> int:
    """Ids grow over restarts: seconds of the wall clock in the high bits, never below what the queue has seen."""
    start = (wall_ns() // 1_000_000_000) << 30
    capacity, width = int(opps[QUEUE.capacity]), int(opps[QUEUE.slot_words])
    if capacity and width == OPPORTUNITY.WORDS:
        slots = opps[QUEUE.slots : QUEUE.slots + capacity * width].reshape(capacity, width)
        start = max(start, int(slots[:, OPPORTUNITY.id].max()) + 1)
    return start


__all__ = ["IDLE", "RAN_OUT", "OpportunityDetector", "Validation"]
