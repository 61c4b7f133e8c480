"""The parts of a dialect are found by its folder; what is not there is refused with its name."""

from __future__ import annotations

import pytest

from pipeline.book.codec import FeedCodec
from pipeline.exchanges.factory import feed_codec
from pipeline.model.dialects import dialect_names, facts_of
from pipeline.model.errors import ConfigInvalid

MARKETS = [(name, market) for name in dialect_names() for market in facts_of(name).markets]


@pytest.mark.parametrize(("dialect", "market"), MARKETS)
def test_every_market_has_a_feed_codec(dialect: str, market: str) -> None:
    assert isinstance(feed_codec(dialect, market), FeedCodec)


@pytest.mark.parametrize(
    ("dialect", "market", "said"),
    [
        ("kraken", "spot", "found 'kraken', wanted one of binance"),
        ("mexc", "futures", "dialect 'mexc' has no feed codec for market 'futures'"),
        ("feed", "spot", "found 'feed', wanted one of binance"),
        ("../exchanges/gateio", "spot", "found '../exchanges/gateio', wanted one of"),
    ],
)
def test_what_is_not_there_is_refused_by_name(dialect: str, market: str, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=said):
        feed_codec(dialect, market)
