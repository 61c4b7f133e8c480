"""The limits table's two arrays, as the jitted verdict reads them: limits, venues, assets and instruments of one entry.

``ints`` int64: LIMITS, which ends with a word for each asset, then a ROW for each instrument. ``floats`` float64:
LIMIT_FLOATS, which ends with the usable amount of each asset, the room of each position, then a ROW_FLOATS for each
instrument. limits_table.py writes them, verdict.py reads and reserves.
"""

from __future__ import annotations

from shm.declare import Table, real, reals_of, word, words_of
from shm.layout import LINE_WORDS
from shm.layout_pages import VENUE_CAPACITY

EXECUTOR = "executor"  # who writes all of it


class Limits(Table, writer=EXECUTOR):
    """What holds for every entry, and where the other sections of the arrays begin.

    line 0    | enabled | lease_token | max_age_ns | max_skew_ns | slip | slip_unit | types | open_left |
    line 1    | rate_free_mono_ns | refresh_ns | last_detect_mono_ns | last_id | row_count | rows_off | float_rows_off |
              | positions_off |
    line 2..9 | venues[64] |
    line 10   | assets[...] |
    """

    enabled = word("1 = entries are judged here at all")
    lease_token = word("the lease that lets us send")
    max_age_ns = word("a book proved longer ago than this is not traded on")
    max_skew_ns = word("proofs of two books further apart than this are not traded on")
    slip = word("largest slippage, as a fraction", unit="1 / slip_unit")
    slip_unit = word("denominator of that fraction", unit="parts")
    types = word("opportunity types that are enabled, a bit each")
    open_left = word("operations that may still be opened", unit="operations")
    rate_free_mono_ns = word("from when on the order rate takes one more entry")
    refresh_ns = word("age up to which a balance counts as confirmed")
    last_detect_mono_ns = word("detection of the newest opportunity that was judged")
    last_id = word("id of that opportunity")
    row_count = word("instruments", unit="rows")
    rows_off = word("ROW of each instrument id")
    float_rows_off = word("ROW_FLOATS of each instrument id, in the floats")
    positions_off = word("by how much the position of each asset may still grow, USD, in the floats")
    venues = words_of(
        VENUE_CAPACITY,
        "by venue id: until when entries are open there; 0 = session, past, breaker, clock or modes forbid them",
        unit="ns of the monotonic clock",
    )
    assets = words_of(
        0, "by number of the asset: when its balance was confirmed; 0 = never", unit="ns of the monotonic clock"
    )


LIMITS = Limits()


class Row(Table, words=24, writer=EXECUTOR):
    """One instrument.

    line 0 | usable | pair | venue | feed_off | book | epoch | kind | can_buy |
    line 1 | can_sell | busy | fill_mono_ns | fill_wall_ms | tick_fp | lot_fp | keep_ppm | fee_in_base |
    line 2 | min_lots | max_lots | tick_factor | lot_factor | asset_buy | asset_sell | qty_exp | coin |
    """

    usable = word("1 = its numbers fit these arrays exactly")
    pair = word("pair id")
    venue = word("venue id")
    feed_off = word("its feed's segment in the memory of all feeds")
    book = word("book index in that feed")
    epoch = word("epoch of its catalogue row")
    kind = word("InstrumentKind: 0 = spot, 1 = perpetual")
    can_buy = word("1 = may be bought, and no open hedge's contract shrinks by it")
    can_sell = word("1 = may be sold, likewise")
    busy = word("1 = no entry here: own order open, fee breaker, account or row in doubt, margin by the exact path")
    fill_mono_ns = word("our newest fill; 0 = none")
    fill_wall_ms = word("the same on the venue's clock")
    tick_fp = word("unit of its price")
    lot_fp = word("unit of its quantity")
    keep_ppm = word("part of a bought quantity that is left after the fee")
    fee_in_base = word("1 = a buy's fee is taken from what is bought")
    min_lots = word("smallest order", unit="lots")
    max_lots = word("largest order", unit="lots")
    tick_factor = word("its tick as an integer in the digits of an order's text")
    lot_factor = word("its lot likewise")
    asset_buy = word("number of the asset that a buy takes")
    asset_sell = word("number of the asset that a sell takes")
    qty_exp = word("of its quantities")
    coin = word("number of its base coin on its venue")


ROW = Row()


class LimitFloats(Table, words=8, writer=EXECUTOR):
    """What holds for every entry.

    line 0 | edge_min_bps | exposure_room | profit_min_usd | 0[5] |
    line 1 | usable[...] |
    """

    edge_min_bps = real("smallest edge at the moment of sending")
    exposure_room = real("by how much the exposure may still grow", unit="USD")
    profit_min_usd = real("smallest expected net profit at the moment of sending; the price of inventory is taken off")
    usable = reals_of(0, "by number of the asset: what an entry may take of it", unit="of the asset", at=LINE_WORDS)


LIMIT_FLOATS = LimitFloats()


class RowFloats(Table, words=16, writer=EXECUTOR):
    """One instrument.

    line 0 | min_notional | price | lot | fee | notional | reserve_buy | reserve_sell | factor_buy |
    line 1 | factor_sell | hedge_short_bps | hedge_long_bps | 0[5] |
    """

    min_notional = real("the venue's smallest order", unit="quote")
    price = real("one unit of the book's prices", unit="quote per base")
    lot = real("one lot", unit="base")
    fee = real("taker fee, a fraction")
    notional = real("one lot x one tick, in the digits of their factors", unit="quote")
    reserve_buy = real("part of the notional that a buy may take; 0 = its quantity, in base")
    reserve_sell = real("part of the notional that a sell may take; 0 = its quantity, in base")
    factor_buy = real("what the notional is multiplied with in the text of a buy's reservation")
    factor_sell = real("what the notional is multiplied with in the text of a sell's reservation")
    hedge_short_bps = real("what a hedge with this contract sold still costs after its entry")
    hedge_long_bps = real("what a hedge with this contract bought still costs after its entry")


ROW_FLOATS = RowFloats()
