"""A catalogue of many spot-futures pairs with living books, and the prices of their hedges, tick by tick."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from pipeline.execution.core_context import CoreContext, Ids
from pipeline.execution.events import BookView, Now
from pipeline.execution.hedging.entry_price import HedgeEntryPrices
from pipeline.execution.hedging.watch import HedgeWatch
from pipeline.execution.ledger import Ledger
from pipeline.execution.market import Instruments
from pipeline.model.config import EngineConfig, HedgeConfig
from pipeline.model.enums import InstrumentKind
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import InstrumentSpec
from tests.worlds.venue_model import ModelVenue, make_config

D = Decimal
TICK_NS = 100_000_000  # of an executor that has nothing else to do
START_NS = 1_000_000_000_000
WALL_NS = 1_700_000_000_000_000_000
DEPTH = D(2)


def contract(base: str, **changes: Any) -> InstrumentSpec:
    """A perpetual contract of Gate.io."""
    return listing("gateio_futures", base, InstrumentKind.PERPETUAL, **changes)


def listing(venue: str, base: str, kind: InstrumentKind, **changes: Any) -> InstrumentSpec:
    step = D("0.001")
    known = InstrumentSpec(
        venue=venue, symbol=f"{base}_USDT", base=base, quote="USDT", kind=kind, tick=step, lot=step, taker_fee_ppm=500
    )
    return msgspec.structs.replace(known, **changes)


def row_of(number: int, pair: int, spec: InstrumentSpec) -> InstrumentRow:
    return InstrumentRow(
        instrument_id=number,
        venue_id=0,
        feed_id=0,
        book_index=number,
        pair_id=pair,
        base_asset_id=pair,
        quote_asset_id=0,
        price_exp=6,
        qty_exp=6,
        row_epoch=1,
        spec=spec,
    )


class HedgeCatalogue:
    """``count`` pairs whose books are proved at every tick; ``dead``: instruments that show none."""

    def __init__(self, count: int, *, expected_exit_basis_bps: Decimal | None = None) -> None:
        self.rows = [
            row_of(2 * pair + leg, pair, spec)
            for pair in range(count)
            for leg, spec in enumerate(
                (
                    listing("gateio_spot", f"C{pair}", InstrumentKind.SPOT),
                    contract(f"C{pair}", funding_interval_s=28800),
                )
            )
        ]
        self.dead: set[int] = set()
        self.now_ns = START_NS
        self.looks = 0
        self._venue = ModelVenue("gateio_spot", True, True, {})
        self.config = self._config(expected_exit_basis_bps)
        self.context = CoreContext(
            self.config, Ledger(), Instruments(self.rows), self, self, self, Ids(1), Now(START_NS, WALL_NS)
        )
        self.watch = HedgeWatch(self.context, lambda venue, symbol: (0, 0))
        self.prices = HedgeEntryPrices(self.context, self.watch)

    @staticmethod
    def _config(expected_exit_basis_bps: Decimal | None) -> EngineConfig:
        config, hedge = make_config(), HedgeConfig(expected_exit_basis_bps=expected_exit_basis_bps)
        detection = msgspec.structs.replace(config.detection, hedge=hedge)
        return msgspec.structs.replace(config, detection=detection)

    # --- ports ---

    def book(self, instrument_id: int) -> BookView | None:
        self.looks += 1
        if instrument_id in self.dead:
            return None
        return self._venue.book((6, 6), instrument_id, self.now_ns, self.looks, DEPTH)

    def has_room(self, size_bytes: int) -> bool:
        return True

    def latched(self) -> bool:
        return False

    def fenced(self) -> bool:
        return False

    def lease_expiry_mono_ns(self) -> int:
        return 2**62

    def venue_blocked(self, venue_id: int) -> bool:
        return False

    def instrument_blocked(self, instrument_id: int) -> bool:
        return False

    # --- time ---

    def run(self, seconds: float, tick_ns: int = TICK_NS) -> None:
        for _ in range(round(seconds * 1e9 / tick_ns)):
            self.now_ns += tick_ns
            self.context.now = Now(self.now_ns, WALL_NS + self.now_ns - START_NS)
            self.prices.tick()

    def change(self, **changes: Any) -> None:
        """The catalogue shows all contracts with other facts."""
        for row in self.rows:
            if row.spec.kind is InstrumentKind.PERPETUAL:
                fresh = msgspec.structs.replace(row, spec=msgspec.structs.replace(row.spec, **changes))
                self.rows[row.instrument_id] = fresh
        self.context.instruments.update(self.rows)
        self.watch.rows_changed()
        self.prices.rows_changed()

    def known(self) -> int:
        """Directions that may be entered."""
        prices = (self.prices.price_mbps(key) for row in self.rows[::2] for key in _keys(row.instrument_id))
        return sum(price is not None and abs(price) < 1_000_000 for price in prices)


def _keys(spot: int) -> tuple[int, int]:
    return spot * 4096 + spot + 1, (spot + 1) * 4096 + spot
