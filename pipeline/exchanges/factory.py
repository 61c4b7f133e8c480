"""From a configured venue to its client, its trading session and its public stream session.

The dialect is a folder here: another exchange plugs in by its folder alone, with modules ``client`` (``make_client``),
``trading`` (``make_trading``) and ``session`` (``make_session``). Nothing of a dialect is imported before it is used.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline.exchanges.base import EventSink, VenueClient, VenueTrading
from pipeline.model.errors import ConfigInvalid
from pipeline.model.structs import Credentials

if TYPE_CHECKING:
    from pipeline.exchanges.feed.public_stream import PublicSession
    from pipeline.model.config import VenueConfig

#: Parts of a dialect's folder, as an operator reads them in an error.
PARTS = {"rest_client": "REST client", "order_session": "order entry", "public_stream": "public streams"}
_DIALECT = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")


def _module(dialect: str, part: str) -> ModuleType:
    """Module ``part`` of a dialect's folder. Raises ``ConfigInvalid`` for a dialect that does not exist."""
    name = f"pipeline.exchanges.{dialect}"
    if not _DIALECT.match(dialect) or importlib.util.find_spec(name) is None:
        raise ConfigInvalid([f"exchanges: dialect {dialect!r} has no folder in pipeline/exchanges"])
    try:
        return importlib.import_module(f"{name}.{part}")
    except ModuleNotFoundError as error:
        if error.name == f"{name}.{part}":
            raise ConfigInvalid(
                [f"exchanges: dialect {dialect!r} has no {PARTS[part]} ({part}.py is not in its folder)"]
            ) from None
        raise


def make_venue(venue: VenueConfig, credentials: Credentials | None = None) -> VenueClient:
    """REST client of one venue; without ``credentials`` only its public questions work."""
    client: VenueClient = _module(venue.dialect, "rest_client").make_client(venue, credentials)
    return client


def make_trading(venue: VenueConfig, credentials: Credentials, on_event: EventSink) -> VenueTrading:
    """Order entry and private stream of one venue."""
    trading: VenueTrading = _module(venue.dialect, "order_session").make_trading(venue, credentials, on_event)
    return trading


def make_session(venue: VenueConfig) -> PublicSession:
    """Sans-I/O description of the venue's public streams, for the feed."""
    session: PublicSession = _module(venue.dialect, "public_stream").make_session(venue)
    return session


def make_venues(venues: Sequence[VenueConfig], credentials: dict[str, Credentials]) -> dict[str, VenueClient]:
    """Clients of many venues by venue name; ``credentials`` by exchange name."""
    return {venue.name: make_venue(venue, credentials.get(venue.exchange)) for venue in venues}
