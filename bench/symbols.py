"""What does it cost to find an instrument by its symbol?

::

    bytes in a frame --> [ engine.find_symbol, in jit ] --> slot             beside a C table of the same shape
    str in Python    --> [ Instruments.find           ] --> catalogue row    beside a plain dict, ccxt's market()

500 symbols. In jit each look-up's symbol depends on the one before (latency, not throughput), 500 a sample. From Python
100 a sample, the loop included in both. Every slot must be the right one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from bench.cfloor import I64, PTR, address, load
from bench.report import OURS, PEER, Report, Row
from bench.settings import BenchFailed, Settings
from pipeline.book.memory import BOOKS, FRAME_BYTE, SYMBOL_BYTES, SYMBOL_TEXT_WORDS, table_size
from pipeline.book.symbol_table import find_symbol
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.factory import feed_codec
from pipeline.execution.market import Instruments
from pipeline.model.instruments import InstrumentRow
from shm.atomics import mono_ns
from shm.jit import njit
from shm.layout import FEED_BOOK_CAPACITY_DEFAULT, feed_segment_words
from shm.words import Words

NAME = "symbols"
SYMBOLS = 500
CHAIN = 500
CALLS = 100
SEED = 7
CATALOGUE = "from Python, 500 symbols"
VENUE = "binance_spot"


@njit
def chain(mem: Words, lengths: Words, following: Words, per: int, samples: Words) -> int:
    """``per`` look-ups a sample, each of the symbol that the one before names; returns the last slot."""
    slot = 0
    for batch in range(len(samples)):
        start = mono_ns()
        for _ in range(per):
            wanted = following[slot]
            slot = find_symbol(mem, FRAME_BYTE + SYMBOL_BYTES * wanted, lengths[wanted])
            if slot < 0:
                return -1
        samples[batch] = mono_ns() - start
    return slot


def make_symbols() -> list[str]:
    """Distinct symbols of mixed length, as exchanges name them."""
    return [f"{'C' * (k % 6)}{k}USDT" if k % 3 else f"COIN{k}_USDT" for k in range(SYMBOLS)]


def make_books(symbols: list[str]) -> VenueBooks:
    """A venue with one (empty) book a symbol; slot, book index and place in the list are the same number."""
    words = np.zeros(feed_segment_words(1), dtype=np.int64)  # nothing is published
    books = VenueBooks(
        codec=feed_codec("binance", "spot"),
        words=words,
        feed_off=0,
        venue_id=0,
        capacity=FEED_BOOK_CAPACITY_DEFAULT,
    )
    for index, symbol in enumerate(symbols):
        books.add(book_index=index, instrument_id=index, symbol=symbol, price_exp=2, qty_exp=6)
    texts = b"".join(symbol.encode().ljust(SYMBOL_BYTES, b"\0") for symbol in symbols)
    books.mem[BOOKS.frame : BOOKS.frame + len(texts) // 8] = np.frombuffer(texts, dtype=np.int64)
    return books


def make_chain() -> Words:
    """One cycle through all symbols in random order: after which one comes which."""
    order = np.random.default_rng(SEED).permutation(SYMBOLS)
    following = np.zeros(SYMBOLS, dtype=np.int64)
    following[order] = np.roll(order, -1)
    return following


def make_catalogue(symbols: list[str]) -> Instruments:
    """Rows with what a look-up by symbol reads."""
    specs = [SimpleNamespace(venue=VENUE, symbol=symbol) for symbol in symbols]
    rows = [SimpleNamespace(instrument_id=k, spec=spec) for k, spec in enumerate(specs)]
    return Instruments(cast(list[InstrumentRow], rows))


def make_ccxt(symbols: list[str]) -> Any:
    """A ccxt exchange that knows the same symbols; no network."""
    import ccxt

    exchange = ccxt.binance()
    exchange.markets = {symbol: {"index": k, "symbol": symbol} for k, symbol in enumerate(symbols)}
    exchange.markets_by_id = {symbol: [market] for symbol, market in exchange.markets.items()}
    return exchange


def python_round(find: Callable[[str], Any], wanted: list[str], batches: int, index: Callable[[Any], int]) -> Any:
    """ns of ``CALLS`` look-ups a sample, and the sum of the indices that were found."""
    clock = time.monotonic_ns
    samples = np.zeros(batches, dtype=np.int64)
    for batch in range(batches):
        start = clock()
        for symbol in wanted:
            find(symbol)
        samples[batch] = clock() - start
    return samples, f"sum {sum(index(find(symbol)) for symbol in wanted)}"


def run(settings: Settings, report: Report) -> None:
    """In jit beside C, then from Python beside a dict; rounds alternate."""
    symbols = make_symbols()
    books, following = make_books(symbols), make_chain()
    lengths = np.array([len(symbol) for symbol in symbols], dtype=np.int64)
    batches = settings.pick(5, 1_000, 5_000)
    library = load("symbols")
    jitted = [Row(NAME, "in jit, 500 symbols", OURS, per=CHAIN, figure="p50")]
    if library is not None:
        jitted.append(Row(NAME, jitted[0].case, "C table", per=CHAIN, figure="p50"))
        library.symbols_fill.argtypes, library.symbols_fill.restype = [PTR, I64, PTR, PTR, I64], None
        library.symbols_chain.argtypes, library.symbols_chain.restype = [PTR, I64, PTR, PTR, PTR, I64, I64, PTR], I64
        entries = table_size(FEED_BOOK_CAPACITY_DEFAULT)
        table = np.zeros((entries, 4), dtype=np.int64)
        texts = books.mem[BOOKS.frame : BOOKS.frame + SYMBOLS * SYMBOL_TEXT_WORDS].copy()
        library.symbols_fill(address(table), entries, address(texts), address(lengths), SYMBOLS)
    plain = dict(zip(symbols, range(SYMBOLS), strict=True))
    wanted = [symbols[k] for k in following[:CALLS]]
    find = partial(make_catalogue(symbols).find, VENUE)
    finders: list[tuple[Row, Callable[[str], Any], Callable[[Any], int]]] = [
        (Row(NAME, CATALOGUE, OURS, per=CALLS, figure="p50"), find, lambda row: row.instrument_id),
        (Row(NAME, CATALOGUE, "dict.get", per=CALLS, figure="p50"), plain.get, int),
        (Row(NAME, "in a feed, from Python, 500 symbols", OURS, per=CALLS, figure="p50"), books.index_of, int),
    ]
    if settings.peers and find_spec("ccxt") is not None:
        market = make_ccxt(symbols).market
        peer = Row(NAME, CATALOGUE, "ccxt market()", per=CALLS, figure="p50", role=PEER)
        finders.append((peer, market, lambda found: found["index"]))
    for number in range(settings.rounds + 1):
        for row in jitted:
            samples = np.zeros(batches, dtype=np.int64)
            if row.who == OURS:
                last = chain(books.mem, lengths, following, CHAIN, samples)
            else:
                assert library is not None
                arrays = [address(a) for a in (texts, lengths, following)]
                last = library.symbols_chain(address(table), entries, *arrays, CHAIN, batches, address(samples))
            if last != 0:  # a whole cycle ends where it began
                raise BenchFailed(f"symbols: {row.who} ended at slot {last}")
            row.check(f"ends at {last}")
            if number:
                row.add_round(samples)
        for row, look_up, index in finders:
            samples, result = python_round(look_up, wanted, batches, index)
            row.check(result)
            if number:
                row.add_round(samples)
    if len({row.result for row, *_ in finders}) != 1:
        raise BenchFailed(f"symbols: results differ: {[row.result for row, *_ in finders]}")
    report.rows += [*jitted, *(row for row, *_ in finders)]
