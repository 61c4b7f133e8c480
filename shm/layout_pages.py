"""Pages: the segments that hold rows and single words, each written by one process and read by any number.

The catalogue of instruments, the inventory, the halt page, the account, what is used of request budgets; see
:mod:`shm.layout` for how to read it.
"""

from __future__ import annotations

from shm.declare import Table, real, rows_of, text_of, word, words_of
from shm.layout import HEADER, LINE_WORDS

# --- capacities ---
CATALOGUE_CAPACITY = 4096
PRICE_CAPACITY = 4096
EXIT_CAPACITY = 64  # directions with open hedges; the executor looks at more by itself
CATALOGUE_TEXT_WORDS = 4  # symbol and pair: 32 bytes each
VENUE_CAPACITY = 64
HALT_REASON_WORDS = 32  # 256 bytes
ACCOUNT_FAULT_WORDS = 63  # 504 bytes
BALANCE_CAPACITY = 2048
POSITION_CAPACITY = 512
ASSET_WORDS = 2  # 16 bytes
FEE_COIN_WORDS = 1  # 8 bytes
BUDGET_CAPACITY = 192  # twenty venues
BUDGET_LABEL_WORDS = 6  # 48 bytes
SPEND_SLOTS = 64  # slices of time of a budget's window and a few older ones (power of two)

# --- flags of a catalogue row ---
CAT_FLAG_DEPOSIT = 1
CAT_FLAG_WITHDRAW = 2
CAT_FLAG_IDENTITY = 4  # the coin behind the ticker is known
CAT_FLAG_REMOVED = 8
CAT_FLAG_ENDING = 16  # trading ends soon: no entries
CAT_FLAG_UNREADABLE = 32  # with "ending": only because the venue's row cannot be read; hedges stay


# --- flags of a position: the venue reported it ---
POSITION_HAS_LIQUIDATION = 1
POSITION_HAS_MAINTENANCE = 2
POSITION_UNREADABLE = 4  # the newest list has its row, which cannot be read: the other words are of an earlier list


class CatalogueRow(Table, words=48, writer="supervisor"):
    """One instrument; its index is the instrument id. A seqlock.

    line 0 | seq | venue | feed | book_index | pair | base_asset | quote_asset | kind |
    line 1 | status | price_exp | qty_exp | tick_fp | lot_fp | min_qty_fp | max_qty_fp | min_notional_fp |
    line 2 | taker_fee_ppm | maker_fee_ppm | fee_asset_rule | multiplier_fp | row_epoch | funding_rate_ppb |
           | funding_interval_s | funding_next_wall_s |
    line 3 | flags | price_band_ppm | trading_from_wall_s | trading_until_wall_s | 0[4] |
    line 4 | symbol[4] | pair_text[4] |
    line 5 | 0[8] |
    """

    seq = word("odd while the row is written", sync="row.seq")
    venue = word("dense venue id (index of the configuration's venue list)")
    feed = word("dense feed id (index of the exchange in the configuration)")
    book_index = word("index in that feed's book table")
    pair = word("dense id of the tradable pair; -1 = quarantined (identity in doubt)")
    base_asset = word("dense id of the asset")
    quote_asset = word("dense id of the asset")
    kind = word("InstrumentKind")
    status = word("TradingStatus")
    price_exp = word("of every price_fp of this instrument")
    qty_exp = word("of every qty_fp of this instrument")
    tick_fp = word("price step")
    lot_fp = word("quantity step (futures: contract step x multiplier)")
    min_qty_fp = word("least order")
    max_qty_fp = word("largest order; 0 = no bound")
    min_notional_fp = word("least order")
    taker_fee_ppm = word("of the notional")
    maker_fee_ppm = word("of the notional")
    fee_asset_rule = word("FeeAssetRule")
    multiplier_fp = word("base per contract; spot: 10**qty_exp", unit="base, 10^-qty_exp")
    row_epoch = word("+1 on a change of tick, lot, multiplier or exponents")
    funding_rate_ppb = word("per funding interval, signed: + = longs pay")
    funding_interval_s = word("time between two payments")
    funding_next_wall_s = word("next payment")
    flags = word(
        "CAT_FLAG_*",
        flags={
            CAT_FLAG_DEPOSIT: "deposit",
            CAT_FLAG_WITHDRAW: "withdraw",
            CAT_FLAG_IDENTITY: "identity",
            CAT_FLAG_REMOVED: "removed",
            CAT_FLAG_ENDING: "ending",
            CAT_FLAG_UNREADABLE: "unreadable",
        },
    )
    price_band_ppm = word("|price - mark| <= mark * band; 0 = no bound")
    trading_from_wall_s = word("listing; 0 = not known")
    trading_until_wall_s = word("delisting, delivery, reduce-only; 0 = none announced")
    symbol = text_of(CATALOGUE_TEXT_WORDS, "the venue's own name of it", at=32)
    pair_text = text_of(CATALOGUE_TEXT_WORDS, "BASE/QUOTE")


CATALOGUE_ROW = CatalogueRow()


class Catalogue(Table, start=HEADER.END, writer="supervisor", kind=6):
    """Segment ``catalogue``: every instrument. Rows are appended, never moved.

    line 0        | count | version | 0[6] |
    line 1..24576 | rows: 4096 CATALOGUE_ROW ... |
    """

    count = word("rows appended (release after the row)", unit="rows", sync="catalogue.count")
    version = word("+1 at every change of any row", sync="catalogue.version")
    rows = rows_of(CATALOGUE_ROW, CATALOGUE_CAPACITY, "by instrument id", at=LINE_WORDS)


CATALOGUE = Catalogue()


class InventoryRow(Table, words=8, writer="executor"):
    """What may be bought and sold of one instrument. A seqlock.

    | seq | buy_notional | sell_qty_fp | position_qty_fp | blocked_until_mono_ns | state | 0 | 0 |
    """

    seq = word("odd while the row is written", sync="row.seq")
    buy_notional = real("what may be spent, leverage included", unit="quote")
    sell_qty_fp = word("what may be sold")
    position_qty_fp = word("what is held; contracts: signed")
    blocked_until_mono_ns = word("no new intent on a book received before this")
    state = word("whether it may be traded at all", codes={0: "blocked", 1: "tradable"})


INVENTORY_ROW = InventoryRow()


class InventoryPrice(Table, words=2, writer="executor"):
    """What a direction is charged: for the inventory that it moves, or for a hedge's exit. A key stays at its
    index for the writer's whole life.

    | key | price_mbps |
    """

    key = word("buy instrument * CATALOGUE_CAPACITY + sell instrument")
    price_mbps = word("added to the direction's execution threshold", unit="milli-bps")


INVENTORY_PRICE = InventoryPrice()


class ExitRow(Table, words=8, writer="executor"):
    """One direction in which open hedges leave: bought and sold the other way round than at the entry. A seqlock.

    | seq | direction_key | threshold_milli_bps | side | qty_fp | state | 0 | 0 |
    """

    seq = word("odd while the row is written", sync="row.seq")
    direction_key = word("buy instrument * CATALOGUE_CAPACITY + sell instrument, of leaving")
    threshold_milli_bps = word("floor of 1000 x the basis at and below which leaving beats holding")
    side = word("of the hedge", codes={1: "long spot, short futures", -1: "short spot, long futures"})
    qty_fp = word("base coins that are open in all hedges of the direction")
    state = word("whether the row is in use", codes={0: "free", 1: "open"})


EXIT_ROW = ExitRow()


class Inventory(Table, start=HEADER.END, writer="executor", kind=8):
    """Segment ``inventory``: what the detector may size with, when open hedges leave, and what inventory costs.

    line 0..4095    | rows: 4096 INVENTORY_ROW ... |
    line 4096..4159 | exits: 64 EXIT_ROW ... |
    line 4160       | exit_version | price_count | 0[6] |
    line 4161..5184 | prices: 4096 INVENTORY_PRICE ... |
    """

    rows = rows_of(INVENTORY_ROW, CATALOGUE_CAPACITY, "by instrument id")
    exits = rows_of(EXIT_ROW, EXIT_CAPACITY, "those in use, in any order")
    exit_version = word("grows after any exit row has changed", sync="inventory.exits")
    price_count = word("rows of ``prices``", sync="inventory.price_count")
    prices = rows_of(INVENTORY_PRICE, PRICE_CAPACITY, "of directions", at=LINE_WORDS * 4161)


INVENTORY = Inventory()


class Halt(Table, start=HEADER.END, writer="guard", kind=9):
    """Segment ``halt``: whether anything may be sent.

    line 0       | latch | lease_expiry_mono_ns | lease_token | fence | unsaved | 0 | 0 | 0 |
    line 1..4    | reason[32] |
    line 5..12   | venue_blocked[64] |
    line 13..524 | instrument_blocked[4096] |
    """

    latch = word("whether the engine is halted", sync="halt.latch", codes={0: "may trade", 1: "halted"})
    lease_expiry_mono_ns = word("the executor sends no new risk after this", sync="halt.lease")
    lease_token = word("fencing token: epoch of the executor that the lease is for", sync="halt.lease")
    fence = word("whether the executor may send at all", sync="halt.fence", codes={0: "may send", 1: "fenced"})
    unsaved = word(
        "the halt is only here: the disk took nothing, or a command latched the page itself",
        sync="halt.unsaved",
        codes={0: "no", 1: "yes"},
    )
    reason = text_of(HALT_REASON_WORDS, "why it is halted, for people", at=LINE_WORDS)
    venue_blocked = words_of(VENUE_CAPACITY, "by venue id: 1 = blocked", sync="halt.block")
    instrument_blocked = words_of(CATALOGUE_CAPACITY, "by instrument id: 1 = blocked", sync="halt.block")


HALT = Halt()


class AccountVenue(Table, words=16, writer="poller"):
    """How fresh a venue's account is. A seqlock.

    line 0 | seq | sweep_begin_mono_ns | sweep_end_mono_ns | state | failures | fee_reported | fee_coin |
           | clock_offset_ns |
    line 1 | clock_read_mono_ns | 0[7] |
    """

    seq = word("odd while the row is written", sync="row.seq")
    sweep_begin_mono_ns = word("when the first request of the last whole reading was sent")
    sweep_end_mono_ns = word("when its last answer came")
    state = word(
        "how the readings go",
        codes={
            0: "never",
            1: "ok",
            2: "failing",
            3: "key refused",
            4: "paused",
            5: "ok, account modes unknown",
            6: "account settings wrong",
        },
    )
    failures = word("failed readings in a row", unit="readings")
    fee_reported = word("whether the venue tells which coin fees are taken in", codes={0: "no", 1: "yes"})
    fee_coin = text_of(FEE_COIN_WORDS, "that coin; empty: fees are plain")
    clock_offset_ns = word("venue's unix time - our monotonic clock, as it was read last; 0 = never")
    clock_read_mono_ns = word("when that question was sent; outlives the poller")


ACCOUNT_VENUE = AccountVenue()


class AccountBalance(Table, words=8, writer="poller"):
    """One asset at one venue. A seqlock.

    | seq | venue | asset[2] | free_fp | locked_fp | exp | confirmed_mono_ns |
    """

    seq = word("odd while the row is written", sync="row.seq")
    venue = word("venue id")
    asset = text_of(ASSET_WORDS, "the engine's name of it")
    free_fp = word("what may be used", unit="asset, 10^-exp")
    locked_fp = word("what orders hold", unit="asset, 10^-exp")
    exp = word("of both amounts", unit="digits after the point")
    confirmed_mono_ns = word("when the request that carried the value was *sent*")


ACCOUNT_BALANCE = AccountBalance()


class AccountPosition(Table, words=16, writer="poller"):
    """One position at one venue. A seqlock.

    line 0 | seq | venue | instrument | qty_fp | entry_price_fp | qty_exp | price_exp | confirmed_mono_ns |
    line 1 | margin_fp | upnl_fp | liquidation_price_fp | mark_price_fp | maintenance_ppm | maintenance_fp | known | 0 |
    """

    seq = word("odd while the row is written", sync="row.seq")
    venue = word("venue id")
    instrument = word("row of the catalogue")
    qty_fp = word("base, signed: - = short")
    entry_price_fp = word("average")
    qty_exp = word("of qty_fp")
    price_exp = word("of prices and amounts of quote")
    confirmed_mono_ns = word("when the request that carried the value was *sent*")
    margin_fp = word("what holds it", unit="quote, 10^-price_exp")
    upnl_fp = word("unrealised profit", unit="quote, 10^-price_exp")
    liquidation_price_fp = word("as the venue says; 0 = none")
    mark_price_fp = word("as the venue says; 0 = not reported")
    maintenance_ppm = word("rate of the position's tier, of the notional; 0 = not reported")
    maintenance_fp = word("maintenance margin at mark", unit="quote, 10^-price_exp")
    known = word(
        "which of the fields above the venue reported",
        flags={
            POSITION_HAS_LIQUIDATION: "liquidation price",
            POSITION_HAS_MAINTENANCE: "maintenance margin",
            POSITION_UNREADABLE: "unreadable",
        },
    )


ACCOUNT_POSITION = AccountPosition()


class AccountFault(Table, words=64, writer="poller"):
    """Why the last reading of a venue failed. A seqlock.

    line 0..7 | seq | text[63] |
    """

    seq = word("odd while the row is written", sync="row.seq")
    text = text_of(ACCOUNT_FAULT_WORDS, "as the venue says it, and the call that mends it; empty: it has not failed")


ACCOUNT_FAULT = AccountFault()


class Account(Table, start=HEADER.END, writer="poller", kind=7):
    """Segment ``account``: balances and positions as the venues' REST interfaces tell them. Rows are appended, never
    moved.

    line 0          | balance_count | position_count | 0[6] |
    line 1..128     | venues: 64 ACCOUNT_VENUE ... |
    line 129..2176  | balances: 2048 ACCOUNT_BALANCE ... |
    line 2177..3200 | positions: 512 ACCOUNT_POSITION ... |
    line 3201..3712 | faults: 64 ACCOUNT_FAULT ... |
    """

    balance_count = word("rows in use (release after the row)", unit="rows", sync="account.count")
    position_count = word("rows in use (release after the row)", unit="rows", sync="account.count")
    venues = rows_of(ACCOUNT_VENUE, VENUE_CAPACITY, "by venue id", at=LINE_WORDS)
    balances = rows_of(ACCOUNT_BALANCE, BALANCE_CAPACITY, "in the order of their first sight")
    positions = rows_of(ACCOUNT_POSITION, POSITION_CAPACITY, "in the order of their first sight")
    faults = rows_of(ACCOUNT_FAULT, VENUE_CAPACITY, "by venue id")


ACCOUNT = Account()


class BudgetRow(Table, words=80, writer="the process itself"):
    """What one process has used of one request budget of a venue, in slices of time.

    line 0    | identity | limit | window_ns | slice_ns | silent_until_mono_ns | 0 | 0 | 0 |
    line 1    | label[6] | 0 | 0 |
    line 2..9 | slices[64] |
    """

    identity = word("hash of venue, address or account, bucket and limit: rows with the same are one budget")
    limit = word("what all processes together may use in any window_ns", unit="units")
    window_ns = word("of the limit, with the slack of two clocks")
    slice_ns = word("length of a slice")
    silent_until_mono_ns = word("the venue asked for silence until then", sync="spend.slice")
    label = text_of(BUDGET_LABEL_WORDS, "venue and bucket", at=LINE_WORDS)
    slices = words_of(
        SPEND_SLOTS,
        "slice number << SPEND_UNIT_BITS | units, at slice number modulo SPEND_SLOTS",
        at=2 * LINE_WORDS,
        sync="spend.slice",
    )


BUDGET_ROW = BudgetRow()


class Budgets(Table, start=HEADER.END, writer="the process itself", kind=12):
    """Segment of the pseudo instance ``BUDGETS``: what one process has used of the venues' request budgets. It stays
    behind the process until every window has passed.

    line 0       | row_count | 0[7] |
    line 1..1920 | rows: 192 BUDGET_ROW ... |
    """

    row_count = word("rows in use (release after the row)", unit="rows", sync="spend.count")
    rows = rows_of(BUDGET_ROW, BUDGET_CAPACITY, "in the order of their first use", at=LINE_WORDS)


BUDGETS = Budgets()
