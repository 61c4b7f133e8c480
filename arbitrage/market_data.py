"""``MarketDataAggregator``: every venue's books, read from the feeds' shared memory at each call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arbitrage.exchanges import public_class
from arbitrage.instance import Instance
from arbitrage.names import Symbol, is_futures
from pipeline.execution.shared_reads import read_proved
from pipeline.market_data import BookSnapshot, MarketSnapshot
from pipeline.market_data import MarketDataAggregator as SharedBooks
from pipeline.model.clock import mono_ns
from pipeline.model.config import EngineConfig
from pipeline.model.config_load import load_config
from pipeline.model.dialects import add_root
from pipeline.model.errors import BadInput
from pipeline.model.instruments import InstrumentRow
from shm.layout import BOOK, BOOK_DEPTH
from workers.base import accepted_config
from workers.control_plane.instances import run_file
from workers.state_folder import instance_dir

Prices = npt.NDArray[np.int64]


class BookArrays:
    """One instrument's book as numpy views on one record, filled anew by each :meth:`refresh`.

    ``bid_prices``, ``bid_quantities``, ``ask_prices``, ``ask_quantities``: int64[n], best first, in units of
    10**-``price_exp`` and 10**-``quantity_exp``; the views are of the levels that the book has.
    """

    def __init__(self, shared: SharedBooks, row: InstrumentRow) -> None:
        self._shared, self._row = shared, row
        self._record: Prices = np.zeros(BOOK.WORDS, np.int64)
        self.venue, self.symbol = row.spec.venue, row.spec.symbol
        self.price_exp, self.quantity_exp = row.price_exp, row.qty_exp
        self.proof_mono_ns = 0
        self.refresh()

    def refresh(self) -> bool:
        """Read the newest book whole; False where there is none (the arrays are empty then)."""
        words, offsets = self._shared.memory
        row = self._row
        found = -1
        if 0 <= row.feed_id < len(offsets):
            found = int(read_proved(words, offsets[row.feed_id], row.book_index, self._record))
        mine = found >= 0 and int(self._record[BOOK.instrument]) == row.instrument_id
        self.proof_mono_ns = found if mine else 0
        if not mine:
            self._record[:] = 0
        bids, asks = int(self._record[BOOK.bid_count]), int(self._record[BOOK.ask_count])
        self.bid_prices = self._side(BOOK.bid_price_fp, bids)
        self.bid_quantities = self._side(BOOK.bid_qty_fp, bids)
        self.ask_prices = self._side(BOOK.ask_price_fp, asks)
        self.ask_quantities = self._side(BOOK.ask_qty_fp, asks)
        return mine

    def _side(self, start: int, count: int) -> Prices:
        return self._record[start : start + min(count, BOOK_DEPTH)]

    @property
    def age_ms(self) -> float | None:
        """Since the book was last proved current; None: it is not proved."""
        return (mono_ns() - self.proof_mono_ns) / 1e6 if self.proof_mono_ns else None

    def bids(self) -> npt.NDArray[np.float64]:
        """float64[n, 2]: price and quantity of the bids, a copy."""
        return self._floats(self.bid_prices, self.bid_quantities)

    def asks(self) -> npt.NDArray[np.float64]:
        """float64[n, 2]: price and quantity of the asks, a copy."""
        return self._floats(self.ask_prices, self.ask_quantities)

    def _floats(self, prices: Prices, quantities: Prices) -> npt.NDArray[np.float64]:
        return np.column_stack((prices / 10.0**self.price_exp, quantities / 10.0**self.quantity_exp))


class MarketDataAggregator:
    """Books and instruments of a running instance; nothing is cached: each call reads shared memory.

    Feeds fill that memory by streams, and by REST while a stream is down (such a book is shown and never traded on).
    """

    def __init__(self, config: object) -> None:
        """``config``: what names the instance (see ``Instance``)."""
        self._instance = Instance(config)
        self._shared: SharedBooks | None = None

    @property
    def is_aggregating(self) -> bool:
        """Whether the books are attached."""
        return self._shared is not None and self._shared.is_aggregating

    async def start_aggregation(self) -> None:
        """Attach to the running instance's books. Raises BadInput where none runs, SegmentMismatch. Idempotent."""
        if self._shared is not None:
            return
        config = self._instance.engine_config
        if config is None:
            config = await asyncio.to_thread(running_config, self._instance)
        shared = SharedBooks(self._instance.name, config)
        await shared.start_aggregation()
        self._shared = shared

    async def stop_aggregation(self) -> None:
        """Release the memory; what was read stays valid."""
        if self._shared is not None:
            await self._shared.stop_aggregation()
            self._shared = None

    @property
    def shared(self) -> SharedBooks:
        """The books themselves, with catalogue. Raises BadInput before ``start_aggregation``."""
        if self._shared is None:
            raise BadInput("start_aggregation() first")
        return self._shared

    def get_latest_snapshot(self, symbols: Sequence[str] = ()) -> MarketSnapshot:
        """Books of ``symbols`` (pairs; () = all) that were all current at one instant. Raises BadInput before the
        start."""
        return self.shared.get_latest_snapshot([str(symbol) for symbol in symbols])

    def get_orderbook(self, venue: str, symbol: str) -> BookSnapshot:
        """The newest book of one pair at one venue. Raises BadInput where there is none."""
        pair = str(Symbol(symbol))
        for book in self.get_latest_snapshot([pair]).books:
            if book.venue == venue:
                return book
        raise BadInput(f"found no book of {pair} at {venue}, wanted an instrument that is read; see `arb symbols list`")

    def book(self, venue: str, symbol: str) -> BookArrays:
        """One book as numpy arrays; keep it, and ``refresh()`` it. Raises BadInput for an unknown instrument."""
        shared = self.shared
        shared.refresh()
        row = shared.instruments.find(venue, symbol)
        if row is None:
            row = next((r for r in shared.instruments if (r.spec.venue, r.spec.pair) == (venue, str(symbol))), None)
        if row is None:
            raise BadInput(f"found no instrument {symbol} of {venue}, wanted one that is read; see `arb symbols list`")
        return BookArrays(shared, row)

    async def add_symbol_subscription(self, symbol: str, venue: str = "") -> list[str]:
        """Read one more pair while the engine runs, at ``venue`` or at every venue that lists it; the venues that do.

        Raises BadInput where none does.
        """
        return await add_symbol(self._instance, symbol, venue)


async def add_symbol(instance: Instance, symbol: str, venue: str = "") -> list[str]:
    """Add a pair (or a venue's own symbol) to a running instance; the venues that read it then: without ``venue`` of a
    futures symbol the futures venues. Raises BadInput where none does, with what each said."""
    config = instance.engine_config
    if config is None:
        config = await asyncio.to_thread(running_config, instance)
    known = await asyncio.to_thread(instance.venue_symbols)
    found, refused = [], []
    for one in config.venues:
        if (venue and one.name != venue) or (not venue and is_futures(symbol) and one.market != "futures"):
            continue
        spelled = public_class(one.dialect).spell(symbol)
        if (one.name, str(symbol)) in known or spelled in (s for (v, _), s in known.items() if v == one.name):
            found.append(one.name)
            continue
        try:
            await instance.ask_supervisor("symbols", action="add", venue=one.name, symbol=spelled)
        except BadInput as error:
            refused.append(str(error))
        else:
            found.append(one.name)
    if not found:
        raise BadInput("; ".join(refused) or f"found no venue {venue!r}, wanted one that is configured")
    return found


def running_config(instance: Instance) -> EngineConfig:
    """The configuration that an instance runs with. Raises BadInput where none runs, ConfigInvalid."""
    path = run_file(instance.name).get("config")
    if not path:
        raise BadInput(f"found no instance {instance.name}, wanted a running one; start the engine first")
    reloaded = accepted_config(instance_dir(instance.name))
    if reloaded is None:
        return load_config(path)
    for root in reloaded.dialects:  # as loading does: this process may be another than the instance's
        add_root(Path(root))
    return reloaded
