"""The verdict: approves an ordinary entry in one jitted call, from an opportunity record to the entry's numbers.

It approves only what the exact path (risk/gate.py, execution/plan.py) is certain to approve with the same plan, and
reserves at once what the entry may take. Everything else is not approved here: each refusal, each rare shape, each
comparison that a float64 cannot decide. Such a record takes the exact path, which judges it anew and names the reason.
The rules are the exact path's; tests hold both paths against each other on random books, balances and limits.

Integers throughout for quantities and prices; floats only for sums of money, compared with ``GUARD`` to spare.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.opportunity_record import record_crc32
from pipeline.execution.shared_reads import read_proved
from pipeline.fast_entry.memory import LIMIT_FLOATS, LIMITS, ROW, ROW_FLOATS
from pipeline.model.enums import OpportunityType
from pipeline.model.units import PPM
from pipeline.templates.slots import ENTRY_LEG, ENTRY_SLOTS
from pipeline.templates.template import BOOKS_OFF, LEG_SLOTS
from shm.atomics import load_acquire
from shm.jit import njit_bare
from shm.layout import BOOK, BOOK_DEPTH, FLAGS_UNTRADABLE, LEG, OPPORTUNITY
from shm.layout_pages import HALT
from shm.pages import may_send
from shm.words import Words

Floats = npt.NDArray[np.float64]

YES = 0
NO_ORDINARY = 1  # not a state or a record that this path judges
NO_RECORD = 2
NO_PLACE = 3  # an instrument, a venue, a block, an order of ours
NO_BOOK = 4
NO_SIZE = 5
NO_EDGE = 6
NO_LIMIT = 7
NO_MONEY = 8
NO_PROFIT = 9

GUARD = 1e-9  # relative: a thousand times more than the floats of one decision can be off
EDGE_GUARD_BPS = 1e-6
FP_MAX = 1 << 61
SUM_MAX = 1 << 57  # of one level: twenty of them cannot leave int64
PRODUCT_MAX = 4.0e18
_EXPONENT_BITS = 0x7FF


@njit_bare
def mul_div(a: int, b: int, c: int) -> tuple[int, int]:
    """(quotient, remainder) of a x b / c, exact; 0 <= a < 2^62, 0 <= b <= c < 2^62, c > 0."""
    if b == c:
        return a, 0
    if a == 0 or b == 0:
        return 0, 0
    if float(a) * float(b) < PRODUCT_MAX:
        return a * b // c, a * b % c
    quotient, rest = 0, 0
    bit = 1 << 61
    while bit > 0:
        quotient, rest = 2 * quotient, 2 * rest
        if rest >= c:
            rest -= c
            quotient += 1
        if a & bit:
            rest += b
            if rest >= c:
                rest -= c
                quotient += 1
        bit >>= 1
    return quotient, rest


@njit_bare
def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@njit_bare
def limit_ticks(best_fp: int, wanted_fp: int, tick_fp: int, side: int, slip: int, slip_unit: int) -> int:
    """The detector's limit, no further from the best price than the slippage limit, in ticks: buys down, sells up."""
    moved, _ = mul_div(best_fp, slip, slip_unit)
    ticks: int = min(wanted_fp // tick_fp, (best_fp + moved) // tick_fp)
    if side < 0:
        ticks = max(ceil_div(wanted_fp, tick_fp), ceil_div(best_fp - moved, tick_fp))
    return ticks


@njit_bare
def common_lots(a: int, b: int) -> int:
    """Least common multiple of two lots, in lots of ``b``."""
    x, y = a, b
    while y:
        x, y = y, x % y
    return a // x


@njit_bare
def match_lots(buy_lots: int, sell_lots: int, buy_lot_fp: int, sell_lot_fp: int, keep_ppm: int) -> tuple[int, int]:
    """(buy, sell) lots: what is sold is what is received; the buy is the smallest that delivers it."""
    received, _ = mul_div(buy_lots * buy_lot_fp, keep_ppm, PPM)
    sell_lots = min(sell_lots, received // sell_lot_fp)
    if keep_ppm == PPM:
        sell_lots -= sell_lots % common_lots(buy_lot_fp, sell_lot_fp)
    sold = sell_lots * sell_lot_fp
    extra, rest = mul_div(sold, PPM - keep_ppm, keep_ppm)
    needed = sold + extra + (1 if rest else 0)
    return min(buy_lots, ceil_div(needed, buy_lot_fp)), sell_lots


@njit_bare
def depth_within(book: Words, side: int, limit_fp: int) -> int:
    """Quantity no worse than the limit; -1 where a level is larger than may be summed."""
    count = book[BOOK.ask_count] if side > 0 else book[BOOK.bid_count]
    price_at = BOOK.ask_price_fp if side > 0 else BOOK.bid_price_fp
    qty_at = BOOK.ask_qty_fp if side > 0 else BOOK.bid_qty_fp
    total = 0
    for k in range(min(count, BOOK_DEPTH)):
        price = book[price_at + k]
        if price > limit_fp if side > 0 else price < limit_fp:
            break
        qty = book[qty_at + k]
        if qty < 0 or qty > SUM_MAX:
            return -1
        total += qty
    return total


@njit_bare
def average_fp(book: Words, side: int, qty_fp: int) -> float:
    """Average price of up to ``qty_fp`` on the visible levels, in the book's units."""
    count = book[BOOK.ask_count] if side > 0 else book[BOOK.bid_count]
    price_at = BOOK.ask_price_fp if side > 0 else BOOK.bid_price_fp
    qty_at = BOOK.ask_qty_fp if side > 0 else BOOK.bid_qty_fp
    left, value = qty_fp, 0.0
    for k in range(min(count, BOOK_DEPTH)):
        taken = min(left, book[qty_at + k])
        value += float(taken) * float(book[price_at + k])
        left -= taken
        if left == 0:
            break
    return value / float(qty_fp - left) if qty_fp > left else 0.0


@njit_bare
def _ordinary(record: Words, ints: Words, now_ns: int) -> bool:
    """The record itself, and everything of the engine that one word says."""
    if ints[LIMITS.open_left] <= 0 or now_ns < ints[LIMITS.rate_free_mono_ns]:
        return False
    kind = record[OPPORTUNITY.type]
    if kind != OpportunityType.SPOT_SPOT and kind != OpportunityType.SPOT_FUTURES_HEDGE:
        return False
    if not ints[LIMITS.types] >> kind & 1 or record[OPPORTUNITY.leg_count] != 2:
        return False
    for word in (OPPORTUNITY.edge_bps, OPPORTUNITY.entry_edge_bps, OPPORTUNITY.profit_quote):
        if record[word] >> 52 & _EXPONENT_BITS == _EXPONENT_BITS:  # infinite or no number
            return False
    age_ns = now_ns - record[OPPORTUNITY.detect_mono_ns]
    if age_ns < 0 or age_ns > ints[LIMITS.max_age_ns]:
        return False
    detected, last = record[OPPORTUNITY.detect_mono_ns], ints[LIMITS.last_detect_mono_ns]
    return bool(detected > last or (detected == last and record[OPPORTUNITY.id] > ints[LIMITS.last_id]))


@njit_bare
def _places(record: Words, halt: Words, ints: Words, now_ns: int) -> bool:
    """Both instruments: known, of one pair, of the kinds that the type says, open for their side, not ours already."""
    side = record[OPPORTUNITY.legs + LEG.side]
    first = record[OPPORTUNITY.legs + LEG.instrument]
    second = record[OPPORTUNITY.legs + LEG.WORDS + LEG.instrument]
    if first == second or record[OPPORTUNITY.legs + LEG.WORDS + LEG.side] != -side or (side != 1 and side != -1):
        return False
    kinds = 0
    pair, qty_exp = -1, 0
    for k in range(2):
        leg = OPPORTUNITY.legs + k * LEG.WORDS
        instrument = record[leg + LEG.instrument]
        if instrument < 0 or instrument >= ints[LIMITS.row_count]:
            return False
        row = ints[LIMITS.rows_off] + instrument * ROW.WORDS
        if not ints[row + ROW.usable] or ints[row + ROW.busy] or record[leg + LEG.row_epoch] != ints[row + ROW.epoch]:
            return False
        if not ints[row + (ROW.can_buy if record[leg + LEG.side] > 0 else ROW.can_sell)]:
            return False
        venue = ints[row + ROW.venue]
        if now_ns > ints[LIMITS.venues + venue]:
            return False
        # SYNC halt.block: acquire; pairs with HaltPage._block
        if load_acquire(halt, HALT.venue_blocked + venue) or load_acquire(halt, HALT.instrument_blocked + instrument):
            return False
        if k == 1 and (ints[row + ROW.pair] != pair or ints[row + ROW.qty_exp] != qty_exp):
            return False
        pair, qty_exp = ints[row + ROW.pair], ints[row + ROW.qty_exp]
        kinds += ints[row + ROW.kind]
    return kinds == (1 if record[OPPORTUNITY.type] == OpportunityType.SPOT_FUTURES_HEDGE else 0)


@njit_bare
def _book(words: Words, ints: Words, row: int, instrument: int, now_ns: int, book: Words) -> int:
    """The time of the proof of the newest whole book, now in ``book``; 0 where it may not be traded on."""
    proof: int = read_proved(words, ints[row + ROW.feed_off], ints[row + ROW.book], book)
    if proof <= 0 or now_ns - proof > ints[LIMITS.max_age_ns] or book[BOOK.instrument] != instrument:
        return 0
    if book[BOOK.flags] & FLAGS_UNTRADABLE or book[BOOK.row_epoch] != ints[row + ROW.epoch]:
        return 0
    fill_ns = ints[row + ROW.fill_mono_ns]
    if fill_ns:  # our own trade moved this book: it must be later than the fill
        venue_ms = book[BOOK.venue_wall_ns] // 1_000_000
        if book[BOOK.recv_mono_ns] <= fill_ns or (venue_ms > 0 and venue_ms <= ints[row + ROW.fill_wall_ms]):
            return 0
    return proof


@njit_bare
def _leg_depth(record: Words, ints: Words, row: int, leg: int, book: Words, slots: Words, base: int) -> int:
    """Best price and limit of a leg into its slots; the quantity within the limit (0: none, or not to be judged)."""
    side, wanted_fp = record[leg + LEG.side], record[leg + LEG.limit_price_fp]
    qty_fp = record[leg + LEG.qty_fp]
    if not 0 < qty_fp < FP_MAX or not 0 < wanted_fp < FP_MAX:
        return 0
    if (book[BOOK.ask_count] if side > 0 else book[BOOK.bid_count]) <= 0:
        return 0
    best_fp = book[BOOK.ask_price_fp] if side > 0 else book[BOOK.bid_price_fp]
    if not 0 < best_fp < FP_MAX or (best_fp > wanted_fp if side > 0 else best_fp < wanted_fp):
        return 0
    tick_fp = ints[row + ROW.tick_fp]
    ticks = limit_ticks(best_fp, wanted_fp, tick_fp, side, ints[LIMITS.slip], ints[LIMITS.slip_unit])
    if ticks <= 0:
        return 0
    slots[base + ENTRY_LEG.side] = side
    slots[base + ENTRY_LEG.instrument] = record[leg + LEG.instrument]
    slots[base + ENTRY_LEG.best_fp] = best_fp
    slots[base + ENTRY_LEG.ticks] = ticks
    slots[base + ENTRY_LEG.book_seq] = book[BOOK.seq]
    slots[base + ENTRY_LEG.update_id] = book[BOOK.update_id]
    slots[base + ENTRY_LEG.recv_mono_ns] = book[BOOK.recv_mono_ns]
    slots[base + ENTRY_LEG.venue] = ints[row + ROW.venue]
    found: int = depth_within(book, side, ticks * tick_fp)
    return max(0, found)


@njit_bare
def _lots(record: Words, ints: Words, rows: tuple[int, int], found: tuple[int, int], slots: Words) -> bool:
    """Lots of both legs: cut by the same share of the detected quantities, then matched to each other."""
    part, whole = 1, 1
    for k in range(2):
        qty_fp = record[OPPORTUNITY.legs + k * LEG.WORDS + LEG.qty_fp]
        share, rest = mul_div(qty_fp, part, whole)
        if found[k] < share or (found[k] == share and rest > 0):
            part, whole = found[k], qty_fp
    lots_0, _ = mul_div(record[OPPORTUNITY.legs + LEG.qty_fp], part, whole)
    lots_1, _ = mul_div(record[OPPORTUNITY.legs + LEG.WORDS + LEG.qty_fp], part, whole)
    lot_0, lot_1 = ints[rows[0] + ROW.lot_fp], ints[rows[1] + ROW.lot_fp]
    lots_0, lots_1 = lots_0 // lot_0, lots_1 // lot_1
    if record[OPPORTUNITY.legs + LEG.side] > 0:
        lots_0, lots_1 = match_lots(lots_0, lots_1, lot_0, lot_1, ints[rows[0] + ROW.keep_ppm])
    else:
        lots_1, lots_0 = match_lots(lots_1, lots_0, lot_1, lot_0, ints[rows[1] + ROW.keep_ppm])
    slots[LEG_SLOTS + ENTRY_LEG.lots] = lots_0
    slots[2 * LEG_SLOTS + ENTRY_LEG.lots] = lots_1
    return bool(lots_0 > 0 and lots_1 > 0)


@njit_bare
def _within_minima(ints: Words, floats: Floats, row: int, float_row: int, slots: Words, base: int) -> bool:
    """The venue's own minima and maxima, and that every number of the leg can be written."""
    lots, ticks, side = slots[base + ENTRY_LEG.lots], slots[base + ENTRY_LEG.ticks], slots[base + ENTRY_LEG.side]
    if lots < ints[row + ROW.min_lots] or lots > ints[row + ROW.max_lots]:
        return False
    limit_fp = ticks * ints[row + ROW.tick_fp]
    price_fp = min(limit_fp, slots[base + ENTRY_LEG.best_fp]) if side > 0 else limit_fp
    value = float(lots) * floats[float_row + ROW_FLOATS.lot] * float(price_fp) * floats[float_row + ROW_FLOATS.price]
    if not value >= floats[float_row + ROW_FLOATS.min_notional] * (1.0 + GUARD):
        return False
    factors = float(ints[row + ROW.lot_factor]) * float(ints[row + ROW.tick_factor])
    reserve = floats[float_row + (ROW_FLOATS.factor_buy if side > 0 else ROW_FLOATS.factor_sell)]
    if not float(lots) * float(ticks) * factors * max(1.0, reserve) < PRODUCT_MAX:
        return False
    slots[base + ENTRY_LEG.notional] = lots * ints[row + ROW.lot_factor] * (ticks * ints[row + ROW.tick_factor])
    return True


@njit_bare
def _edge_bps(
    kind: int,
    ints: Words,
    floats: Floats,
    rows: tuple[int, int],
    float_rows: tuple[int, int],
    average: tuple[float, float],
    slots: Words,
) -> tuple[float, float]:
    """(profit over outlay in bps, outlay) in quote; what remains in base at the first leg's price, a hedge's later
    costs taken off."""
    base_left, quote_left, outlay, charge = 0.0, 0.0, 0.0, 0.0
    price_of_base = average[0] * floats[float_rows[0] + ROW_FLOATS.price]
    for k in range(2):
        row, float_row = rows[k], float_rows[k]
        slot = LEG_SLOTS * (k + 1)
        side = slots[slot + ENTRY_LEG.side]
        qty = float(slots[slot + ENTRY_LEG.lots]) * floats[float_row + ROW_FLOATS.lot]
        value = qty * average[k] * floats[float_row + ROW_FLOATS.price]
        base_left += qty * side
        quote_left -= value * side
        if side > 0 and ints[row + ROW.fee_in_base]:
            base_left -= qty * floats[float_row + ROW_FLOATS.fee]
        else:
            quote_left -= value * floats[float_row + ROW_FLOATS.fee]
        outlay = max(outlay, value)
        if kind == OpportunityType.SPOT_FUTURES_HEDGE:
            if ints[row + ROW.kind] == 0:
                charge += floats[float_row + ROW_FLOATS.fee] * 10_000.0
            else:
                charge += floats[float_row + (ROW_FLOATS.hedge_short_bps if side < 0 else ROW_FLOATS.hedge_long_bps)]
    if not outlay > 0.0:
        return -1.0e9, 0.0
    edge: float = (base_left * price_of_base + quote_left) / outlay * 10_000.0 - charge
    return edge, outlay


@njit_bare
def _limits(ints: Words, floats: Floats, rows: tuple[int, int], float_rows: tuple[int, int], slots: Words) -> float:
    """The entry's USD size when the limits on positions and exposure allow it, else -1; names the larger leg."""
    first = float(slots[LEG_SLOTS + ENTRY_LEG.notional]) * floats[float_rows[0] + ROW_FLOATS.notional]
    second = float(slots[2 * LEG_SLOTS + ENTRY_LEG.notional]) * floats[float_rows[1] + ROW_FLOATS.notional]
    size: float = max(first, second)
    slots[ENTRY_SLOTS.largest_leg] = 0 if first >= second else 1
    if abs(first - second) <= size * GUARD:  # which is larger only the exact numbers tell, and here they may
        if floats[float_rows[0] + ROW_FLOATS.notional] != floats[float_rows[1] + ROW_FLOATS.notional]:
            return -1.0
        bigger = slots[2 * LEG_SLOTS + ENTRY_LEG.notional] > slots[LEG_SLOTS + ENTRY_LEG.notional]
        slots[ENTRY_SLOTS.largest_leg] = 1 if bigger else 0
    spare = 1.0 + GUARD
    coin_0, coin_1 = ints[rows[0] + ROW.coin], ints[rows[1] + ROW.coin]
    if coin_0 == coin_1:  # bought and sold on one venue: the larger side counts
        first = second = size
    rooms = ints[LIMITS.positions_off]
    if not first * spare <= floats[rooms + coin_0] or not second * spare <= floats[rooms + coin_1]:
        return -1.0
    if not size * spare <= floats[LIMIT_FLOATS.exposure_room]:
        return -1.0
    return size


@njit_bare
def _reserve(
    ints: Words, floats: Floats, rows: tuple[int, int], float_rows: tuple[int, int], slots: Words, size: float
) -> None:
    """What the approved entry takes of the limits, until the next refresh reads it from the ledger."""
    rooms = ints[LIMITS.positions_off]
    for k in range(2):
        worth = float(slots[LEG_SLOTS * (k + 1) + ENTRY_LEG.notional]) * floats[float_rows[k] + ROW_FLOATS.notional]
        floats[rooms + ints[rows[k] + ROW.coin]] -= worth
        ints[rows[k] + ROW.busy] = 1
    floats[LIMIT_FLOATS.exposure_room] -= size
    ints[LIMITS.open_left] -= 1


@njit_bare
def _money(
    ints: Words, floats: Floats, rows: tuple[int, int], float_rows: tuple[int, int], slots: Words, now_ns: int
) -> bool:
    """Proved balances that cover both legs; taken off at once."""
    needs_0, needs_1 = 0.0, 0.0
    assets_0, assets_1 = 0, 0
    for k in range(2):
        base = LEG_SLOTS * (k + 1)
        buy = slots[base + ENTRY_LEG.side] > 0
        factor = floats[float_rows[k] + (ROW_FLOATS.reserve_buy if buy else ROW_FLOATS.reserve_sell)]
        if factor > 0.0:
            need = float(slots[base + ENTRY_LEG.notional]) * floats[float_rows[k] + ROW_FLOATS.notional] * factor
        else:
            need = float(slots[base + ENTRY_LEG.lots]) * floats[float_rows[k] + ROW_FLOATS.lot]
        asset = ints[rows[k] + (ROW.asset_buy if buy else ROW.asset_sell)]
        confirmed = ints[LIMITS.assets + asset]
        if not confirmed or now_ns - confirmed > ints[LIMITS.refresh_ns]:
            return False
        if k == 0:
            needs_0, assets_0 = need, asset
        else:
            needs_1, assets_1 = need, asset
    if assets_0 == assets_1:
        needs_0 += needs_1
        needs_1 = 0.0
    if not needs_0 * (1.0 + GUARD) <= floats[LIMIT_FLOATS.usable + assets_0]:
        return False
    if needs_1 > 0.0 and not needs_1 * (1.0 + GUARD) <= floats[LIMIT_FLOATS.usable + assets_1]:
        return False
    floats[LIMIT_FLOATS.usable + assets_0] -= needs_0
    floats[LIMIT_FLOATS.usable + assets_1] -= needs_1
    return True


@njit_bare
def judge(
    record: Words,
    words: Words,
    halt: Words,
    ints: Words,
    floats: Floats,
    slots: Words,
    now_ns: int,
    price_bps: float,
) -> int:
    """Judges an opportunity record.

    record: int64[OPPORTUNITY.WORDS]; words: int64, the memory of all feeds; halt: int64[HALT.END]; ints, floats: the
    limits table; slots: int64[SLOTS + 2 * BOOK.WORDS], the entry's numbers; now_ns: monotonic;
    price_bps: of the inventory that the entry moves, on top of the least edge.
    Returns YES, with the entry's numbers in ``slots`` and everything that it may take reserved in the limits table;
    else a number > 0 that says why not (for diagnosis: the exact path judges the record again).
    """
    if not ints[LIMITS.enabled] or not may_send(halt, 0, ints[LIMITS.lease_token], now_ns):
        return NO_ORDINARY
    if not _ordinary(record, ints, now_ns):
        return NO_ORDINARY
    if record_crc32(record) != record[OPPORTUNITY.crc32]:
        return NO_RECORD
    if not _places(record, halt, ints, now_ns):
        return NO_PLACE
    second = OPPORTUNITY.legs + LEG.WORDS
    ids = (record[OPPORTUNITY.legs + LEG.instrument], record[second + LEG.instrument])
    first_row, first_floats = ints[LIMITS.rows_off], ints[LIMITS.float_rows_off]
    rows = (first_row + ids[0] * ROW.WORDS, first_row + ids[1] * ROW.WORDS)
    float_rows = (first_floats + ids[0] * ROW_FLOATS.WORDS, first_floats + ids[1] * ROW_FLOATS.WORDS)
    middle = BOOKS_OFF + BOOK.WORDS
    book_0, book_1 = slots[BOOKS_OFF:middle], slots[middle : middle + BOOK.WORDS]
    proof_0 = _book(words, ints, rows[0], ids[0], now_ns, book_0)
    proof_1 = _book(words, ints, rows[1], ids[1], now_ns, book_1)
    if proof_0 == 0 or proof_1 == 0 or abs(proof_0 - proof_1) > ints[LIMITS.max_skew_ns]:
        return NO_BOOK
    slots[LEG_SLOTS + ENTRY_LEG.proof_mono_ns] = proof_0
    slots[2 * LEG_SLOTS + ENTRY_LEG.proof_mono_ns] = proof_1
    found_0 = _leg_depth(record, ints, rows[0], OPPORTUNITY.legs, book_0, slots, LEG_SLOTS)
    found_1 = _leg_depth(record, ints, rows[1], second, book_1, slots, 2 * LEG_SLOTS)
    if found_0 == 0 or found_1 == 0 or not _lots(record, ints, rows, (found_0, found_1), slots):
        return NO_SIZE
    for k in range(2):
        if not _within_minima(ints, floats, rows[k], float_rows[k], slots, LEG_SLOTS * (k + 1)):
            return NO_SIZE
    average = (
        average_fp(
            book_0, slots[LEG_SLOTS + ENTRY_LEG.side], slots[LEG_SLOTS + ENTRY_LEG.lots] * ints[rows[0] + ROW.lot_fp]
        ),
        average_fp(
            book_1,
            slots[2 * LEG_SLOTS + ENTRY_LEG.side],
            slots[2 * LEG_SLOTS + ENTRY_LEG.lots] * ints[rows[1] + ROW.lot_fp],
        ),
    )
    edge, outlay = _edge_bps(record[OPPORTUNITY.type], ints, floats, rows, float_rows, average, slots)
    if not edge >= floats[LIMIT_FLOATS.edge_min_bps] + price_bps + EDGE_GUARD_BPS:
        return NO_EDGE
    # a row's quote is one that counts as one dollar: the limits table leaves all others to the exact path
    if not (edge - price_bps - EDGE_GUARD_BPS) / 10_000.0 * outlay >= floats[LIMIT_FLOATS.profit_min_usd]:
        return NO_PROFIT
    size = _limits(ints, floats, rows, float_rows, slots)
    if size < 0.0:
        return NO_LIMIT
    if not _money(ints, floats, rows, float_rows, slots, now_ns):
        return NO_MONEY
    _reserve(ints, floats, rows, float_rows, slots, size)
    slots[ENTRY_SLOTS.opportunity] = record[OPPORTUNITY.id]
    slots[ENTRY_SLOTS.type] = record[OPPORTUNITY.type]
    slots[ENTRY_SLOTS.edge_detect_bps] = record[OPPORTUNITY.edge_bps]
    slots[ENTRY_SLOTS.direction] = record[OPPORTUNITY.direction_key]
    slots[ENTRY_SLOTS.trigger_mono_ns] = record[OPPORTUNITY.trigger_recv_mono_ns]
    slots[ENTRY_SLOTS.detect_mono_ns] = record[OPPORTUNITY.detect_mono_ns]
    slots[ENTRY_SLOTS.edge_send_bps] = np.float64(edge).view(np.int64)
    return YES
