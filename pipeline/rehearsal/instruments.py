"""Instruments of private worlds: BTC/USDT of any venue, and catalogue rows for the venues of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pipeline.model.config import EngineConfig
from pipeline.model.enums import FeeAssetRule, InstrumentKind
from pipeline.model.instruments import InstrumentRow, VenueRef, build_rows
from pipeline.model.structs import InstrumentSpec


def spec(venue: str, symbol: str = "", base: str = "BTC", **changes: Any) -> InstrumentSpec:
    """``base``/USDT of a venue: a perpetual where the venue's name ends in "futures"; fees of 100 ppm, which Gate.io
    spot takes in what is received. ``changes`` by field."""
    fields: dict[str, Any] = {
        "venue": venue,
        "symbol": symbol or (f"{base}USDT" if venue == "mexc_spot" else f"{base}_USDT"),
        "base": base,
        "quote": "USDT",
        "kind": InstrumentKind.PERPETUAL if venue.endswith("futures") else InstrumentKind.SPOT,
        "tick": Decimal("0.01"),
        "lot": Decimal("0.0001"),
        "min_qty": Decimal("0.0001"),
        "min_notional": Decimal(5),
        "taker_fee_ppm": 100,
        "fee_rule": FeeAssetRule.RECEIVED if venue == "gateio_spot" else FeeAssetRule.QUOTE,
        "reference_price": Decimal(100),
    }
    return InstrumentSpec(**{**fields, **changes})


def venue_refs(config: EngineConfig) -> list[VenueRef]:
    """The venues of a configuration, as :func:`build_rows` takes them."""
    return [VenueRef(name=v.name, venue_id=v.venue_id, feed_id=v.feed_id, trade=v.trade) for v in config.venues]


def rows_for(config: EngineConfig, specs: Sequence[InstrumentSpec]) -> list[InstrumentRow]:
    """Catalogue rows of instruments on the venues of a configuration."""
    return build_rows(list(specs), venue_refs(config))
