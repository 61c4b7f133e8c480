"""``arb replay --exact``: recorded frames through the production codecs, books and kernels, in recorded time.

One process, one thread, no clock and no socket: two runs give the same bytes.

* Captures are merged by their recorded local receive time (ties: in the order given, then in file order).
* **The clock is the recorded receive time.** A frame's receive time is its recorded one, so a book's proof of age (its
  own update, or a later frame of the same capture) is what it was when it was recorded. What is *found* does not
  depend on it: an episode depends on prices alone. The same kernels judge the other gates (age, skew, lots, minima)
  as well; ``tradable`` and ``refused`` count their results.
* An event is a recorded message that changed a book: an applied depth message, or a snapshot with what was buffered
  before it. Tickers and trades only prove. A book that is broken (gap, crossed, contradicted) has no edge.
* One opportunity = one episode of a pair and direction: from the first event with an entry edge above the minimum
  to the first event at or below it. Entry edge: best bid against best ask after the chosen taker fees, each in the
  asset in which the venue takes it; no basis, funding, carry or exit. Inventory is unlimited.
* Instrument rows: ``instruments.json`` beside the captures. A symbol that it lacks gets a row from its own digits,
  without minima, and is named in ``assumed``.

``--out``: one JSON line per opportunity, of its first event: ``t_ns, type, buy, sell, edge_bps``, each leg with venue,
symbol, ``u`` (update id of its book), ``price`` (best, which is what the edge is made of), ``limit`` (worst level
that the executable quantity needs) and ``qty`` (base coin; the largest executable above the minimum on both legs, "0"
where lots or minima leave nothing). ``digest`` is the SHA-256 of those lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from heapq import merge
from pathlib import Path

import msgspec
import numpy as np

from pipeline.book.recording.capture_books import DamagedCapture, output_file
from pipeline.detection.cross_venue import (
    BUY_LIMITS,
    BUY_RECORD,
    SELL_LIMITS,
    SELL_RECORD,
    fill_limits,
    fill_money,
    size_at,
)
from pipeline.detection.depth_walk import SIZE
from pipeline.detection.edge import edge_bps
from pipeline.detection.episodes import close_episode
from pipeline.detection.gates import read_leg
from pipeline.detection.kernel_arrays import private_ports
from pipeline.detection.memory import (
    DETECTOR,
    DETECTOR_COUNTERS,
    DETECTOR_SETTINGS,
    FEED_READER,
    OPENED_RING,
    REFUSAL_CODES,
    Memory,
)
from pipeline.detection.publish import best_ask, best_bid
from pipeline.detection.scan_loop import scan_once
from pipeline.detection.thresholds import Terms
from pipeline.detection.topology import DIRECTION, DIRECTION_FLOATS, build_topology
from pipeline.model.config import DetectionConfig, HedgeConfig
from pipeline.model.enums import OpportunityType, Refusal
from pipeline.model.fixedpoint import from_fp, parse_decimal, plain
from pipeline.model.units import BPS, NS_PER_MS
from pipeline.replay_rows import ReplayVenue, catalogue_words, open_venues
from pipeline.replay_worth import Worth
from shm import bookring
from shm.layout import BOOK, CURSOR, HEADER, QUEUE, feed_segment_words
from shm.words import Words

UNLIMITED_USD = 1e30
NEVER_NS = 1 << 60  # no timer in recorded time: a frame is what brings a proof


class Leg(msgspec.Struct, frozen=True):
    """One leg in a line of ``--out`` (fields: see the module's docstring)."""

    venue: str
    symbol: str
    u: int
    price: str
    qty: str
    limit: str


class Found(msgspec.Struct, frozen=True):
    """One line of ``--out``."""

    t_ns: int
    type: str
    buy: Leg
    sell: Leg
    edge_bps: str


def merged(venues: list[ReplayVenue]) -> Iterator[tuple[int, ReplayVenue, int]]:
    """(time, venue, record index) over all captures in recorded order; ties in the order of ``venues``."""

    def stream(place: int, venue: ReplayVenue) -> Iterator[tuple[int, int, int]]:
        newest = 0
        for index, record in enumerate(venue.capture.records):
            newest = max(newest, record.time_ns)  # a recorder's clock that stepped back does not reorder its file
            yield newest, place, index

    for time_ns, place, index in merge(*(stream(place, venue) for place, venue in enumerate(venues))):
        yield time_ns, venues[place], index


class ExactReplay:
    """All captures, their books in one arena, and the detector's kernels on it."""

    def __init__(
        self, paths: Iterable[str | Path], fees: str, min_edge_bps: float | str, *, max_usd: float = UNLIMITED_USD
    ) -> None:
        """``max_usd``: the greatest notional of a leg. Raises ``BadInput`` for captures, fees or a threshold that
        cannot be used."""
        self.venues = open_venues(list(paths), fees)
        self.rows, self.catalogue = catalogue_words(self.venues)
        threshold = Fraction(parse_decimal(str(min_edge_bps))) / BPS
        terms = Terms(
            types=tuple(OpportunityType),
            min_edge=threshold,
            execute_edge=threshold,
            hedge=HedgeConfig(),
            max_notional_usd=max_usd,
            entry_only=True,
        )
        capacity = max(1, *(len(venue.instruments) for venue in self.venues))
        segment = feed_segment_words(capacity)
        words: Words = np.zeros(segment * len(self.venues), dtype=np.int64)
        topology = build_topology(
            self.catalogue,
            terms,
            feed_count=len(self.venues),
            book_capacity=capacity,
            usd_rates={row.spec.quote: 1.0 for row in self.rows},
        )
        self.memory = Memory(topology, feed_count=len(self.venues))
        self.ports = private_ports(words)
        self._configure()
        for feed, venue in enumerate(self.venues):
            offset = feed * segment
            words[offset + HEADER.epoch] = 1
            bookring.init_feed(words, offset, capacity)
            bookring.conn_open(words, offset, 0, feed, 0)
            self.memory.feeds[feed, FEED_READER.feed_off] = offset
            self.memory.feeds[feed, FEED_READER.alive] = 1
            venue.open_books(words, offset, feed, capacity)
        self.found: list[Found] = []

    def _configure(self) -> None:
        mem, detection = self.memory.mem, DetectionConfig()
        mem[DETECTOR_SETTINGS.max_age_ns] = detection.max_age_to_trade_ms * NS_PER_MS
        mem[DETECTOR_SETTINGS.max_skew_ns] = detection.max_skew_ms * NS_PER_MS
        mem[DETECTOR_SETTINGS.cooldown_ns] = 0
        mem[DETECTOR_SETTINGS.recheck_ns] = NEVER_NS
        mem[DETECTOR_SETTINGS.next_id] = 1
        mem[DETECTOR_SETTINGS.strict] = 1

    def run(self, worth: Worth | None = None) -> None:
        """Every record, in order. ``worth`` values what is found, then and later."""
        mem, flt, directions = self.memory.mem, self.memory.flt, self.memory.topology.directions
        for time_ns, venue, index in merged(self.venues):
            if worth is not None:
                worth.until(time_ns)
            mem[DETECTOR_SETTINGS.now_ns] = time_ns
            before = int(mem[DETECTOR_COUNTERS.opened])
            venue.recorded.step(index, time_ns)
            scan_once(self.ports, mem, flt)  # its event, and open episodes that its frame may have proved
            for number in range(before, int(mem[DETECTOR_COUNTERS.opened])):
                episode = int(self.memory.opened[number % OPENED_RING])
                if episode >= len(directions) or directions[episode, DIRECTION.quarantined]:
                    continue  # a cycle, or another coin of the same name: counted alone
                self._note(time_ns, episode)
                if worth is not None:
                    worth.found(time_ns, episode)
            self._drop_pushed()
        if worth is not None:
            worth.end()

    def _drop_pushed(self) -> None:
        """Frees the queue's slots: nothing consumes it here, and what was pushed is counted already."""
        self.ports.opps_cursor[CURSOR.cursor] = self.ports.opps[QUEUE.tail]

    def _note(self, time_ns: int, episode: int) -> None:
        """The line of an episode's first event."""
        topology, mem, flt = self.memory.topology, self.memory.mem, self.memory.flt
        row = topology.directions[episode]
        buy, sell = int(row[DIRECTION.buy]), int(row[DIRECTION.sell])
        read_leg(self.ports.feeds, mem, buy, 0)
        read_leg(self.ports.feeds, mem, sell, 1)
        ask, bid = int(best_ask(mem, BUY_RECORD)), int(best_bid(mem, SELL_RECORD))
        fill_limits(mem, buy, BUY_LIMITS)
        fill_limits(mem, sell, SELL_LIMITS)
        fill_money(mem, flt, episode)
        sized = size_at(mem, flt, episode, DIRECTION.num)
        size = [
            int(mem[DETECTOR.size + k])
            for k in (SIZE.buy_qty_fp, SIZE.sell_qty_fp, SIZE.buy_limit_price_fp, SIZE.sell_limit_price_fp)
        ]
        if not sized:
            size = [0, 0, ask, bid]
        edge = float(edge_bps(bid, ask, topology.floats[episode, DIRECTION_FLOATS.fee]))
        self.found.append(
            Found(
                t_ns=time_ns,
                type=OpportunityType(int(row[DIRECTION.type])).name.lower(),
                buy=self._leg(buy, BUY_RECORD, ask, size[0], size[2]),
                sell=self._leg(sell, SELL_RECORD, bid, size[1], size[3]),
                edge_bps=f"{edge:.6f}",
            )
        )

    def _leg(self, instrument: int, record: int, price: int, qty: int, limit: int) -> Leg:
        row = self.rows[instrument]
        return Leg(
            venue=row.spec.venue,
            symbol=row.spec.symbol,
            u=int(self.memory.mem[record + BOOK.update_id]),
            price=plain(from_fp(price, row.price_exp)),
            qty=plain(from_fp(qty, row.qty_exp)),
            limit=plain(from_fp(limit, row.price_exp)),
        )

    def refused(self) -> dict[str, int]:
        """Episodes that the other gates would have refused, by gate; the open ones are ended."""
        mem = self.memory.mem
        while mem[DETECTOR_COUNTERS.active] > 0:
            close_episode(mem, int(self.memory.active[0]))
        counts = {code: int(mem[DETECTOR_COUNTERS.refused + code]) for code in range(REFUSAL_CODES)}
        return {Refusal(code).name.lower(): count for code, count in counts.items() if count}


def run_exact(
    paths: Iterable[str | Path], fees: str = "standard", min_edge_bps: float | str = 0, out: str | Path | None = None
) -> dict[str, object]:
    """Replays ``paths`` in recorded time; returns ``messages, found, digest`` and more (see the module's text).

    ``fees``: ``zero``, ``standard`` (instruments.json), a number of bps for every leg, or a JSON file
    ``{venue: bps | {symbol: bps}}``. Raises ``BadInput`` for unusable input or an unwritable ``out``; a capture that is
    damaged is replayed up to the damage, and then ``DamagedCapture`` carries the result.
    """
    replay = ExactReplay(paths, fees, min_edge_bps)
    replay.run()
    lines = b"".join(msgspec.json.encode(found) + b"\n" for found in replay.found)
    with output_file(out) as sink:
        if sink is not None:
            sink.write(lines)
    refused = replay.refused()
    result: dict[str, object] = {
        "messages": sum(venue.books.counters.messages for venue in replay.venues),
        "found": len(replay.found),
        "digest": hashlib.sha256(lines).hexdigest(),
        "tradable": int(replay.memory.mem[DETECTOR_COUNTERS.pushed]),
        "refused": refused,
        "venues": sorted({venue.capture.name_of_venue for venue in replay.venues}),
        "assumed": sorted(name for venue in replay.venues for name in venue.assumed),
    }
    damages = [venue.capture.damage for venue in replay.venues if venue.capture.damage]
    if damages:
        raise DamagedCapture("; ".join(damages), result)
    return result


__all__ = ["ExactReplay", "Found", "Leg", "run_exact"]
