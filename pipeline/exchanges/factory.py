"""Finds the parts of a dialect: REST client, order entry, public streams, feed codec.

A dialect is a folder beside this file, or below ``exchanges`` of a root that a configuration names
(``pipeline/model/dialects.py``). Its modules: ``rest_client`` (``make_client``), ``order_session`` (``make_trading``),
``public_stream`` (``make_public_stream``), ``feed_codec`` (``CODECS``: market -> ``FeedCodec``), and where there are
recordings ``recordings`` (``SHAPE``). Its ``manifest.toml`` holds the facts. Nothing of a dialect is imported before it
is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

import pipeline.exchanges
from pipeline.exchanges.base import EventSink, VenueClient, VenueTrading
from pipeline.model.dialects import dialect_names, facts_of, folder_of, roots
from pipeline.model.errors import ConfigInvalid
from pipeline.model.structs import Credentials

if TYPE_CHECKING:
    from pipeline.book.codec import FeedCodec
    from pipeline.book.recording.shapes import RecordingShape
    from pipeline.exchanges.feed.public_stream import PublicStream
    from pipeline.model.config import VenueConfig

#: Parts of a dialect's folder, as an operator reads them in an error.
PARTS = {
    "rest_client": "REST client",
    "order_session": "order entry",
    "public_stream": "public streams",
    "feed_codec": "feed codec",
    "recordings": "shape of recordings",
}


def _module(dialect: str, part: str) -> ModuleType:
    """Module ``part`` of a dialect's folder. Raises ``ConfigInvalid`` for a dialect that does not exist."""
    facts_of(dialect)
    for root in roots():
        if (folder := str(root / "exchanges")) not in pipeline.exchanges.__path__:
            pipeline.exchanges.__path__.append(folder)
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
    """Order entry and private stream of one venue. Raises ``ConfigInvalid`` for what cannot be traded as configured."""
    problems = trading_problems(venue)
    if problems:
        raise ConfigInvalid(problems)
    trading: VenueTrading = _module(venue.dialect, "order_session").make_trading(venue, credentials, on_event)
    return trading


def trading_problems(venue: VenueConfig) -> list[str]:
    """Why the venue cannot be traded as it is configured, a line each; found without a socket or a key."""
    facts = facts_of(venue.dialect)
    if not facts.trade:
        return [f"exchanges.{venue.exchange}: the dialect {venue.dialect} places no orders; wanted trade: false"]
    where = f"exchanges.{venue.exchange}.markets.{venue.market}"
    return [
        f"{where}.{key}: missing, wanted the URL that takes the orders of {venue.name}"
        for key in facts.markets[venue.market].order_urls
        if not getattr(venue, key)
    ]


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


def recording_shapes() -> Mapping[str, RecordingShape]:
    """How recordings of each dialect are recognised, of those that have any."""
    return {
        name: _module(name, "recordings").SHAPE
        for name in dialect_names()
        if (folder_of(name, "exchanges") / "recordings.py").is_file()
    }
