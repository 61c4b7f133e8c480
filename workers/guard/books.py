"""Books for a takeover: those of the feeds, and where a feed has died too, the venue's own snapshot by REST."""

from __future__ import annotations

from decimal import Decimal

from pipeline.book.codec import Decoded, Level, OutOfRange, PricePrecision, exact_price, exact_qty
from pipeline.exchanges.factory import feed_codec
from pipeline.execution.events import BookView, MarketPort
from pipeline.execution.ledger import Ledger
from pipeline.model.config import EngineConfig
from pipeline.model.errors import ProtocolViolation
from pipeline.model.instruments import InstrumentRow
from pipeline.model.units import NS_PER_MS
from shm.layout import ABSENT_ASK, ABSENT_BID, BOOK, BOOK_DEPTH


class TakeoverBooks:
    """A ``MarketPort``: of an instrument's book in the feeds' memory (``market``) and its newest snapshot, the one that
    was proved later. A snapshot is proved current at the time when it was asked for."""

    def __init__(self, config: EngineConfig, market: MarketPort) -> None:
        self._config = config
        self._market = market
        self._snapshots: dict[int, BookView] = {}
        self._old_ns = config.detection.max_age_to_trade_ms * NS_PER_MS

    def book(self, instrument_id: int) -> BookView | None:
        """The one that was proved later; None where there is none."""
        view, snapshot = self._market.book(instrument_id), self._snapshots.get(instrument_id)
        if snapshot is None or (view is not None and view.proof_mono_ns >= snapshot.proof_mono_ns):
            return view
        return snapshot

    def wanted(self, ledger: Ledger, rows: dict[tuple[str, str], InstrumentRow], now_ns: int) -> list[InstrumentRow]:
        """Instruments of what is open whose book is no longer proved: their snapshots are to be fetched. ``now_ns``:
        monotonic."""
        named = {(leg.venue, leg.symbol) for o in ledger.open_operations.values() for leg in o.record.legs}
        for hedge in ledger.hedges.values():
            named |= {(hedge.spot_venue, hedge.spot_symbol), (hedge.futures_venue, hedge.futures_symbol)}
        found = []
        for name in sorted(named & rows.keys()):
            view = self.book(rows[name].instrument_id)
            if view is None or now_ns - view.proof_mono_ns > self._old_ns:
                found.append(rows[name])
        return found

    def take(self, row: InstrumentRow, payload: bytes, asked_mono_ns: int, recv_mono_ns: int) -> str:
        """A snapshot as received. What is wrong with it; "" where it stands."""
        venue = self._config.venue(row.spec.venue)
        try:
            decoded = feed_codec(venue.dialect, venue.market).reference_snapshot(payload)
            words = snapshot_words(decoded, row, recv_mono_ns)
        except (ProtocolViolation, PricePrecision, OutOfRange) as error:
            return f"{row.spec.venue} {row.spec.symbol}: {error}"
        if words[BOOK.bid_price_fp] >= words[BOOK.ask_price_fp]:
            return f"{row.spec.venue} {row.spec.symbol}: snapshot is crossed"
        self._snapshots[row.instrument_id] = BookView(words, asked_mono_ns)
        return ""


def snapshot_words(decoded: Decoded, row: InstrumentRow, recv_mono_ns: int) -> list[int]:
    """A REST snapshot as a book record (``BOOK``), as a feed would publish it. Raises PricePrecision, OutOfRange."""
    words = [0] * BOOK.WORDS
    words[BOOK.instrument], words[BOOK.row_epoch] = row.instrument_id, row.row_epoch
    words[BOOK.update_id], words[BOOK.recv_mono_ns] = decoded.last, recv_mono_ns
    mult, mult_exp = _mantissa(row.spec.multiplier)
    for levels, count, price_at, qty_at, absent, best_first in (
        (decoded.bids, BOOK.bid_count, BOOK.bid_price_fp, BOOK.bid_qty_fp, ABSENT_BID, -1),
        (decoded.asks, BOOK.ask_count, BOOK.ask_price_fp, BOOK.ask_qty_fp, ABSENT_ASK, 1),
    ):
        top = sorted(_scaled(levels, row, mult, mult_exp), key=lambda level: best_first * level[0])[:BOOK_DEPTH]
        words[count] = len(top)
        words[price_at : price_at + BOOK_DEPTH] = [absent] * BOOK_DEPTH
        for number, (price_fp, qty_fp) in enumerate(top):
            words[price_at + number], words[qty_at + number] = price_fp, qty_fp
    return words


def _scaled(levels: tuple[Level, ...], row: InstrumentRow, mult: int, mult_exp: int) -> list[tuple[int, int]]:
    """(price, base quantity) in the row's fixed point; levels of no quantity are left out."""
    scaled = (
        (exact_price(price, row.price_exp), exact_qty(qty, row.qty_exp, mult, mult_exp)[0]) for price, qty in levels
    )
    return [level for level in scaled if level[1]]


def _mantissa(value: Decimal) -> tuple[int, int]:
    """(mantissa, digits after the point) of a positive number."""
    _, digits, exponent = value.normalize().as_tuple()
    assert isinstance(exponent, int)
    return int("".join(map(str, digits))) * 10 ** max(0, exponent), max(0, -exponent)
