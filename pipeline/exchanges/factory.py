"""Finds the parts of a dialect: REST client, order entry, public streams, feed codec.

A dialect is a folder beside this file. Its modules: ``rest_client`` (``make_client``), ``order_session``
(``make_trading``, and where something can be missing ``trading_problems``), ``public_stream`` (``make_public_stream``)
and ``feed_codec`` (``CODECS``: market -> ``FeedCodec``).
Nothing of a dialect is imported before it is used.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline.exchanges.base import EventSink, VenueClient, VenueTrading
from pipeline.model.errors import ConfigInvalid
from pipeline.model.structs import Credentials

if TYPE_CHECKING:
    from pipeline.book.codec import FeedCodec
    from pipeline.exchanges.feed.public_stream import PublicStream
    from pipeline.model.config import VenueConfig

#: Parts of a dialect's folder, as an operator reads them in an error.
PARTS = {
    "rest_client": "REST client",
    "order_session": "order entry",
    "public_stream": "public streams",
    "feed_codec": "feed codec",
}
_DIALECT = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")


def _module(dialect: str, part: str) -> ModuleType:
    """Module ``part`` of a dialect's folder. Raises ``ConfigInvalid`` for a dialect that does not exist."""
    if not _DIALECT.match(dialect) or importlib.util.find_spec(f"pipeline.exchanges.{dialect}") is None:
        raise ConfigInvalid([f"exchanges: dialect {dialect!r} has no folder in pipeline/exchanges"])
    try:
        return importlib.import_module(f"pipeline.exchanges.{dialect}.{part}")
    except ModuleNotFoundError as error:
        if error.name == f"pipeline.exchanges.{dialect}.{part}":
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


def trading_problems(venue: VenueConfig) -> list[str]:
    """Why the venue cannot be traded as it is configured, a line each; found without a socket or a key."""
    problems = getattr(_module(venue.dialect, "order_session"), "trading_problems", None)
    return list(problems(venue)) if problems is not None else []


def make_public_stream(venue: VenueConfig) -> PublicStream:
    """The venue's public streams, sans-I/O, for the feed."""
    public: PublicStream = _module(venue.dialect, "public_stream").make_public_stream(venue)
    return public


def feed_codec(dialect: str, market: str) -> FeedCodec:
    """How frames of the dialect's market ("spot", "futures") are read and sequenced, for ``VenueBooks``.

    Raises ``ConfigInvalid`` when the dialect does not exist or has no such market.
    """
    codecs: dict[str, FeedCodec] = _module(dialect, "feed_codec").CODECS
    if market not in codecs:
        raise ConfigInvalid([f"exchanges: dialect {dialect!r} has no feed codec for market {market!r}"])
    return codecs[market]
