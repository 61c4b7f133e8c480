"""Quality of market data as a dialect reads it: order, positive values, spread, precision, times of trades."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from pipeline.book.codec import Level, Number
from pipeline.conformance.public_side import feed_bench
from pipeline.conformance.venue import Checked, need, rows_of
from pipeline.exchanges.factory import feed_codec
from pipeline.exchanges.recent_trades import PublicTrade
from pipeline.model.dialects import folder_of
from pipeline.model.structs import InstrumentSpec
from shm.bookring import read_book
from shm.layout import BOOK
from shm.words import Words

TRADES = 20
AHEAD_MS_MAX = 1_000  # of a trade before the venue's clock as it was asked
PAST_MS_MAX = 30 * 86_400_000  # older newest trades are in another unit than ms
Numbers = Sequence[Decimal]


async def data_quality(it: Checked) -> None:
    """Books in shared memory, snapshots and trades hold what the venue can have sent, in the right order."""
    async with feed_bench(it) as bench:
        await bench.all_equal("at the start")
        for row in bench.rows:
            need(read_book(bench.words, 0, row.book_index, bench.record) > 0, f"{row.spec.symbol}: no book")
            bids = _column(bench.record, BOOK.bid_price_fp, BOOK.bid_count)
            asks = _column(bench.record, BOOK.ask_price_fp, BOOK.ask_count)
            sizes = _column(bench.record, BOOK.bid_qty_fp, BOOK.bid_count)
            sizes += _column(bench.record, BOOK.ask_qty_fp, BOOK.ask_count)
            for said in book_problems(bids, asks, sizes):
                need(False, f"{row.spec.symbol}, book in shared memory: {said}")
    lists_trades = (folder_of(it.dialect, "exchanges") / "recent_trades.py").is_file()
    for spec in await it.client.instruments(it.config.symbols):
        await _snapshot(it, spec)
        if lists_trades:
            await _trades(it, spec)


def _column(record: Words, first: int, count: int) -> list[Decimal]:
    return [Decimal(int(record[first + k])) for k in range(int(record[count]))]


def book_problems(bids: Numbers, asks: Numbers, sizes: Numbers) -> Iterator[str]:
    """Why prices (best first) and sizes cannot be those of a book."""
    if not bids or not asks:
        yield "found an empty side, wanted levels on both"
        return
    if list(bids) != sorted(set(bids), reverse=True):
        yield f"found bids {_listed(bids)}, wanted each below the one before"
    if list(asks) != sorted(set(asks)):
        yield f"found asks {_listed(asks)}, wanted each above the one before"
    if bids[0] >= asks[0]:
        yield f"found bid {bids[0]} and ask {asks[0]}, wanted a spread"
    if min(*bids, *asks, *sizes) <= 0:
        yield "found a price or a size that is not positive"


def _listed(prices: Numbers) -> str:
    return ", ".join(f"{price:f}" for price in prices[:5])


async def _snapshot(it: Checked, spec: InstrumentSpec) -> None:
    book = feed_codec(it.dialect, it.market).reference_snapshot(await it.client.depth_snapshot(spec.symbol))
    own = it.sim.instruments[spec.symbol]
    bids, asks = _levels(book.bids, spec), _levels(book.asks, spec)
    sizes = [qty for _, qty in (*bids, *asks)]
    for said in book_problems([price for price, _ in bids], [price for price, _ in asks], sizes):
        need(False, f"{spec.symbol}, snapshot: {said}")
    for price, qty in (*bids, *asks):
        need(price % own.tick == 0, f"{spec.symbol}, snapshot: {price} is on no tick of {own.tick}")
        need(qty % own.unit == 0, f"{spec.symbol}, snapshot: {qty} is no multiple of {own.unit}")


def _levels(levels: Sequence[Level], spec: InstrumentSpec) -> list[tuple[Decimal, Decimal]]:
    """(price, base quantity) of each level."""
    return [(_decimal(price), _decimal(qty) * spec.multiplier) for price, qty in levels]


def _decimal(number: Number) -> Decimal:
    mantissa, digits = number
    return Decimal(mantissa).scaleb(-digits)


async def _trades(it: Checked, spec: InstrumentSpec) -> None:
    found = await rows_of(
        lambda: it.client.recent_trades(spec.symbol, TRADES, spec.multiplier), f"a trade of {spec.symbol}"
    )
    now_ms = await it.client.server_time_ms()
    for said in trade_problems(found, now_ms, spec.tick):
        need(False, f"{spec.symbol}, trades: {said}")


def trade_problems(trades: Sequence[PublicTrade], now_ms: int, tick: Decimal) -> Iterator[str]:
    """Why trades (newest first) cannot be those of a market; ``now_ms``: the venue's clock."""
    times = [trade.venue_wall_ms for trade in trades]
    ids = [trade.trade_id for trade in trades if trade.trade_id]
    if times != sorted(times, reverse=True):
        yield "found them out of order, wanted the newest first"
    if not now_ms - PAST_MS_MAX < min(times) <= max(times) <= now_ms + AHEAD_MS_MAX:
        yield f"found times from {min(times)} to {max(times)} at {now_ms} of the venue's clock, wanted past ones in ms"
    if len(ids) != len(set(ids)):
        yield "found an id twice"
    for trade in trades:
        if trade.price <= 0 or trade.qty <= 0:
            yield f"found {trade.qty} at {trade.price}, wanted positive numbers"
        elif trade.price % tick:
            yield f"found a price of {trade.price}, on no tick of {tick}"
