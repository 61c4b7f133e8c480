"""The simulated venues' instruments as rows of the engine's catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from pipeline.model.config import FeeConfig
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import InstrumentSpec
from pipeline.sim.exchange.venue import SimVenue
from pipeline.virtual.orders import with_venue_fees


def listing_of(
    venue: SimVenue, symbol: str, fees: Mapping[str, FeeConfig], *, plain_fees: bool = False
) -> InstrumentSpec:
    """What a catalogue would say of one of the venue's instruments, with the ``fees`` that are configured by venue;
    ``plain_fees``: without their deduction."""
    row = venue.instruments[symbol]
    spec = InstrumentSpec(
        venue=venue.name,
        symbol=symbol,
        base=row.base,
        quote=row.quote,
        kind=row.kind,
        tick=row.tick,
        lot=row.lot,
        min_qty=row.min_qty,
        max_qty=row.max_qty,
        min_notional=row.min_notional,
        multiplier=row.multiplier,
        status=row.status,
        taker_fee_ppm=row.taker_fee_ppm,
        maker_fee_ppm=row.maker_fee_ppm,
        fee_rule=row.fee_rule,
        price_band_ppm=row.price_band_ppm,
        funding_rate_ppb=int(row.funding_rate * 1_000_000_000),
        funding_interval_s=row.funding_interval_s,
        funding_next_wall_s=row.funding_next_s,
        reference_price=venue.mark_price(symbol),
        identity=row.identity,
    )
    return with_venue_fees(spec, venue, fees.get(venue.name), plain=plain_fees)


class FeeRows:
    """Rows of venues whose coin of fees has become short, or is filled up again, with the fees that count by now."""

    def __init__(self, venues: Mapping[str, SimVenue], fees: Mapping[str, FeeConfig]) -> None:
        self._venues = venues
        self._fees = fees
        self._plain: set[str] = set()

    def changed(self, rows: Iterable[InstrumentRow], short: Iterable[str]) -> list[InstrumentRow]:
        """Those of ``rows`` that differ by now. ``short``: venues whose next orders pay plain fees."""
        plain = set(short)
        changed, self._plain = plain ^ self._plain, plain
        return [self._with_fees(row, row.spec.venue in plain) for row in rows if row.spec.venue in changed]

    def _with_fees(self, row: InstrumentRow, plain: bool) -> InstrumentRow:
        now = listing_of(self._venues[row.spec.venue], row.spec.symbol, self._fees, plain_fees=plain)
        spec = msgspec.structs.replace(
            row.spec, taker_fee_ppm=now.taker_fee_ppm, maker_fee_ppm=now.maker_fee_ppm, fee_rule=now.fee_rule
        )
        return msgspec.structs.replace(row, spec=spec)
