"""Bybit REST clients: both markets' in ``market_client.py``, what perpetuals add in ``linear_client.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.exchanges.bybit.linear_client import BybitLinearClient
from pipeline.exchanges.bybit.market_client import BybitClient
from pipeline.model.structs import Credentials

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig


def make_client(venue: VenueConfig, credentials: Credentials | None = None) -> BybitClient:
    """REST client of one market; ``credentials`` None: public requests alone."""
    return BybitLinearClient(venue, credentials) if venue.market == "futures" else BybitClient(venue, credentials)
