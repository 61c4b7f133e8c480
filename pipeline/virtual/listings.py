"""The simulated venues' instruments as rows of the engine's catalogue."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.model.config import FeeConfig
from pipeline.model.structs import InstrumentSpec
from pipeline.sim.exchange.venue import SimVenue
from pipeline.virtual.orders import with_venue_fees


def listing_of(venue: SimVenue, symbol: str, fees: Mapping[str, FeeConfig]) -> InstrumentSpec:
    """What a catalogue would say of one of the venue's instruments, with the ``fees`` that are configured by venue."""
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
    return with_venue_fees(spec, venue, fees.get(venue.name))
