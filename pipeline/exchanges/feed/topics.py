"""Which topics a connection carries: the books of its symbols, and tickers that prove that it lives."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.exchanges.feed.public_stream import PublicStream

ANCHORS = ("BTC", "ETH", "SOL", "XRP", "DOGE", "BNB")  # busiest first, where the venue lists them


def anchor_symbol(symbols: Iterable[str]) -> str:
    """The symbol whose ticker pushes most, by the usual order of markets; "" when there is none."""
    known = list(symbols)
    for base in ANCHORS:
        for symbol in known:
            if symbol.startswith(base):
                return symbol
    return known[0] if known else ""


def has_room(public: PublicStream, symbol_count: int) -> bool:
    """Whether a connection with ``symbol_count`` symbols takes one more."""
    per_symbol, anchors = (2, 0) if public.ticker_of_every_symbol else (1, 1)
    return (symbol_count + 1) * per_symbol + anchors <= public.topics_per_connection_max


def topics_of(public: PublicStream, symbols: Iterable[str], listed: Iterable[str]) -> list[str]:
    """Topics of a connection that carries ``symbols``, the anchor's ticker first; [] for no symbols.

    ``listed``: every symbol of the venue; the anchor is one of them where not every symbol has its ticker.
    """
    carried = list(symbols)
    if not carried:
        return []
    anchor = anchor_symbol(carried if public.ticker_of_every_symbol else listed)
    tickers = [anchor]
    if public.ticker_of_every_symbol:
        tickers += [symbol for symbol in carried if symbol != anchor]
    return [public.anchor_topic(symbol) for symbol in tickers] + [public.book_topic(symbol) for symbol in carried]
