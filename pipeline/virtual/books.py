"""A simulated venue's book as the words that a feed publishes."""

from __future__ import annotations

from pipeline.execution.events import BookView, OpportunityLeg
from pipeline.model.instruments import InstrumentRow
from pipeline.sim.exchange.order_book import ASK, BID
from pipeline.sim.exchange.venue import SimVenue
from shm.layout import ABSENT_ASK, ABSENT_BID, BOOK, BOOK_DEPTH


def book_words(row: InstrumentRow, venue: SimVenue, *, seq: int, recv_mono_ns: int, venue_wall_ns: int) -> list[int]:
    """A book record's words of the book of now; prices and quantities scaled as the row says."""
    listing, book = venue.instruments[row.spec.symbol], venue.books[row.spec.symbol]
    words = [0] * BOOK.WORDS
    words[BOOK.seq] = seq
    words[BOOK.instrument] = row.instrument_id
    words[BOOK.row_epoch] = row.row_epoch
    words[BOOK.update_id] = book.update_id
    words[BOOK.recv_mono_ns] = recv_mono_ns
    words[BOOK.venue_wall_ns] = venue_wall_ns
    for side, count, price_at, qty_at, absent in (
        (BID, BOOK.bid_count, BOOK.bid_price_fp, BOOK.bid_qty_fp, ABSENT_BID),
        (ASK, BOOK.ask_count, BOOK.ask_price_fp, BOOK.ask_qty_fp, ABSENT_ASK),
    ):
        top = book.top(side, BOOK_DEPTH)
        words[count] = len(top)
        words[price_at : price_at + BOOK_DEPTH] = [absent] * BOOK_DEPTH
        for level, (ticks, units) in enumerate(top):
            words[price_at + level] = int(listing.price(ticks).scaleb(row.price_exp))
            words[qty_at + level] = int(listing.qty(units).scaleb(row.qty_exp))
    return words


def offered_leg(row: InstrumentRow, side: int, price_fp: int, qty_fp: int, view: BookView) -> OpportunityLeg:
    """A leg at ``view``'s best price, as the detector would write it."""
    return OpportunityLeg(
        instrument_id=row.instrument_id,
        side=side,
        limit_price_fp=price_fp,
        qty_fp=qty_fp,
        book_seq=view.words[BOOK.seq],
        update_id=view.words[BOOK.update_id],
        proof_mono_ns=view.proof_mono_ns,
        recv_mono_ns=view.words[BOOK.recv_mono_ns],
        best_price_fp=price_fp,
        notional=price_fp / 10**row.price_exp * qty_fp / 10**row.qty_exp,
        row_epoch=row.row_epoch,
        writer_epoch=view.words[BOOK.writer_epoch],
    )
