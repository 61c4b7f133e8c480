"""Hits of a market through the engine: its jitted detector, its gate, its balances, on the simulator's venues.

::

    hit --> two books --> detector's kernels, at the prices of the executor's page --> record --> core: gate, orders
                                                                                            <-- fills, balances --> page

``flow_result`` plays hits one after the other on virtual time: a book is dislocated for a moment, one lot deep, and
wide again. What a hit earns is decided by nobody here: the detector offers it or does not, the gate takes it or does
not, and the money is that of the venues' own ledger.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from pipeline.detection.detector import OpportunityDetector
from pipeline.detection.kernel_arrays import private_ports
from pipeline.detection.memory import DETECTOR_SETTINGS
from pipeline.detection.scan_loop import scan_once
from pipeline.equity_watch import EquityFigures, EquityWatch
from pipeline.execution.shared_reads import decode_opportunity
from pipeline.model.catalogue_row import row_to_words
from pipeline.model.config import DetectionConfig, RiskLimits
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from shm.bookring import conn_frame, conn_open, init_feed, publish_book
from shm.layout import BOOK, HEADER, OPPORTUNITY, feed_segment_words
from shm.pages import InventoryPage
from shm.queue import pop
from workers.executor.pages import InventoryWriter

D = Decimal
BUYS, SELLS = ("mexc_spot", "BTCUSDT"), ("gateio_spot", "BTC_USDT")  # of a forward hit
MID = D(64_000)
LOT_USDT = 2000
LOT_QTY = D("0.0313")  # at the best level of a hit: a lot, and no second one
FEES_BPS = D(3)  # of both takers
WIDE = D("0.006")  # half of every spread: no trade is worth it but a hit, which moves one book up or down by so much
STEP_BPS = D(200)  # to the level behind the best: nothing that any price of inventory pays
HIT_MS, REST_MS = 40.0, 210.0  # no more orders than the venues take in a second
LEAST_BPS = -40.0  # a hit below it is worth nothing to anybody
BOOKS = 8
PLENTY = D(10**9)


class _PrivatePage(InventoryPage):
    """The executor's page in this process's memory."""

    def __init__(self) -> None:
        self.words = np.zeros(self.WORDS, np.int64)
        self.block_all()


class KernelWorld(VirtualWorld):
    """A virtual world whose opportunities come from the product's detector, which reads books, and the executor's page,
    as in its own process; its clock is the world's."""

    def open(self, quotes: dict[tuple[str, str], Quote] | None = None) -> None:
        """As in ``VirtualWorld``, and the detector on what it has."""
        self.detector: OpportunityDetector | None = None
        super().open(quotes)
        self._page = _PrivatePage()
        self._writer = InventoryWriter(self._page, self.core.context.instruments)
        self._size = feed_segment_words(BOOKS)
        feeds = len(self.config.feeds)
        self._feeds = np.zeros(feeds * self._size, np.int64)
        self._generations: list[int] = []
        for feed in range(feeds):
            self._feeds[feed * self._size + HEADER.epoch] = 1
            init_feed(self._feeds, feed * self._size, BOOKS)
            self._generations.append(int(conn_open(self._feeds, feed * self._size, 0, feed, 0)))
        detector = OpportunityDetector(self.config, private_ports(self._feeds, inventory=self._page.words))
        detector.set_rows(np.array([row_to_words(row) for row in self.instruments]))
        for feed in range(feeds):
            detector.set_feed(feed, offset=feed * self._size)
        detector.warm()
        self._record = np.zeros(OPPORTUNITY.WORDS, np.int64)
        self.detector = detector

    def _publish(self, venue: str, symbol: str) -> None:
        super()._publish(venue, symbol)
        if self.detector is None:
            return
        row, now_ns = self._row_of[venue, symbol], self.clock.mono_ns()
        book = self.book(row.instrument_id)
        assert book is not None
        words = np.array(book.words, np.int64)
        words[BOOK.conn_generation], words[BOOK.publish_mono_ns] = self._generations[row.feed_id], now_ns
        publish_book(self._feeds, row.feed_id * self._size, row.book_index, words)
        for feed in range(len(self._generations)):
            conn_frame(self._feeds, feed * self._size, 0, now_ns)
        self._scan()

    def _scan(self) -> None:
        """One pass of the detector at what the executor's page says now; what it offers goes to the core."""
        detector = self.detector
        assert detector is not None
        self._writer.write(self.core, self.now())
        detector.refresh_prices()
        memory, now_ns = detector.memory, self.clock.mono_ns()
        memory.mem[DETECTOR_SETTINGS.now_ns] = now_ns
        scan_once(detector.ports, memory.mem, memory.flt)
        while pop(detector.ports.opps, 0, detector.ports.opps_cursor, 0, self._record):
            self.feed(decode_opportunity(self._record, now_ns))


@dataclass(frozen=True, slots=True)
class FlowResult:
    """``earned``: by the venues' ledger, coins at one mark; ``shown``: the trading P&L that `arb status` shows, USDT.
    ``trades``: operations of which something filled."""

    earned: Decimal
    shown: Decimal
    trades: int


def flow_world(*, priced: bool) -> KernelWorld:
    """Two venues with as much cash as coins; no floor but the fees, and the inventory's price if ``priced``."""
    stock = {"balances": {"USDT": "60000", "BTC": str(D(60_000) / MID)}}
    world = KernelWorld(
        {
            "extends": "demo",
            "exchanges": {
                "mexc": {"venues": {"spot": stock}},
                "gateio": {"venues": {"spot": stock, "futures": None}},
            },
            "pairs": {
                **{f"{coin}/USDT": None for coin in ("ETH", "SOL", "XRP", "DOGE", "NOVA", "ORB")},
                "ETH/BTC": None,
                "BTC/USDT": {"listings": {"gateio_futures": None}},
            },
        },
        1,
        settings={
            "detection": DetectionConfig(
                types=("spot_spot",), cooldown_ms=5, max_notional_usd=D(LOT_USDT), inventory_price=priced
            ),
            "risk_limits": RiskLimits(
                min_profit_margin_bps=D(0),
                min_profit_usd=D(0),
                max_position_size_usd=PLENTY,
                max_total_exposure_usd=PLENTY,
                max_daily_loss_usd=PLENTY,
                max_orders_per_s=100,
            ),
        },
    )
    world.open({listing: _quote(MID) for listing in (BUYS, SELLS)})
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    return world


def _quote(mid: Decimal) -> Quote:
    return Quote(mid, half_spread_bps=WIDE * 10_000, step_bps=STEP_BPS, qty=LOT_QTY)


def _offer(world: KernelWorld, edge_bps: float, way: int) -> None:
    """One lot with this edge after both fees, forward (+1) or back (-1); gone after ``HIT_MS``. The other way there is
    nothing: only the two sides that are meant are where they meet."""
    bid = MID * (1 + (D(repr(round(edge_bps, 4))) + FEES_BPS) / 10_000)
    buy, sell = (BUYS, SELLS) if way > 0 else (SELLS, BUYS)
    for listing, mid in ((buy, MID / (1 + WIDE)), (sell, bid / (1 - WIDE))):
        world.market.quote(*listing, _quote(mid))
    world.run(HIT_MS)
    for listing in (BUYS, SELLS):
        world.market.quote(*listing, _quote(MID))
    world.run(REST_MS)


def flow_result(hits: Iterable[tuple[float, int]], *, priced: bool) -> FlowResult:
    """All ``hits`` (edge in bps after fees, way) one after the other."""
    world = flow_world(priced=priced)
    watch = EquityWatch(world.core)
    for _ in range(2):  # coins without a book are waited for
        _figures(world, watch)
        world.run(61_000)
    assert _figures(world, watch) is not None
    for edge_bps, way in hits:
        if edge_bps >= LEAST_BPS:
            _offer(world, edge_bps, way)
    world.run(3000)
    shown = _figures(world, watch)
    assert shown is not None and not world.core.ledger.open_operations and not world.core.ledger.breakers
    marks = {"USDT": D(1), "BTC": MID}
    moved = (change for row in world.ledger.changes().values() for change in row.items())
    return FlowResult(
        earned=sum((amount * marks[asset] for asset, amount in moved), D(0)),
        shown=shown.daily.trading,
        trades=sum(bool(operation.fills) for operation in world.core.ledger.operations.values()),
    )


def _figures(world: KernelWorld, watch: EquityWatch) -> EquityFigures | None:
    """What status shows now."""
    world.core.context.now = world.now()
    watch.look(world.instruments)
    return watch.figures()
