"""Attacks on the fast path of an entry: in no state of the engine does it take what the exact gate refuses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipeline.execution.events import AccountSnapshot
from pipeline.execution.plan import Rejected
from pipeline.model.config import LimitConfig, VenueLimitConfig
from pipeline.model.enums import Refusal, TradingStatus
from pipeline.model.errors import InstrumentRefused, VenueRejected
from pipeline.model.structs import CoinIdentity
from pipeline.model.venue_events import OutcomeKind, PlaceOutcome
from pipeline.rehearsal.entry_world import EntryWorld
from shm.layout import FLAG_CROSSED, FLAG_GAP, FLAG_HALTED, FLAG_UNPROVED, LEG, OPPORTUNITY
from tests.worlds.attack_scenes import (
    Attack,
    above_the_quantity,
    below_the_notional,
    below_the_quantity,
    cycle_of_two,
    dearer_fee,
    disabled_type,
    empty_side,
    exit_of_an_open_hedge,
    finer_prices,
    flagged,
    journal_full,
    leg_word,
    long_ago,
    naked,
    no_hedge,
    not_finite,
    not_reconciled,
    of_type,
    old_epoch_of_the_book,
    old_first_book,
    old_row_epoch,
    old_second_book,
    older_than_the_newest,
    one_instrument_twice,
    own_fill_by_the_venues_clock,
    poor,
    price_left,
    reducing,
    seen_before,
    skewed,
    stream_came_back,
    stream_down,
    tick_between_the_numbers,
    two_of_a_side,
    unproved,
    venue_off,
    wrong_kind,
)
from tests.worlds.fast_entry_world import (
    a_world,
    changed,
    configured,
    entered,
    exact,
    opened,
    ordinary,
    other_direction,
    tripped,
)

SECOND = OPPORTUNITY.legs + LEG.WORDS


def cooldown(world: EntryWorld) -> Any:
    record = ordinary(world)
    world.core.risk.gate.note_end(int(record[OPPORTUNITY.direction_key]), world.now_ns + 1)
    return record


def under_way(world: EntryWorld) -> Any:
    entered(world)
    return ordinary(world)


def own_order(world: EntryWorld) -> Any:
    entered(world, settled=False)
    return other_direction(world)


def far_clock(world: EntryWorld) -> Any:
    skew_ns = 1_001_000_000
    offset_ns = world.now().wall_ns - world.now_ns + skew_ns
    world.feed(AccountSnapshot((), clock_offsets_ns={"gateio_spot": offset_ns}, clock_read_mono_ns={"gateio_spot": 1}))
    return ordinary(world)


def positions_not_shown(world: EntryWorld) -> Any:
    """The venue has shown its positions once, six seconds ago; its balances are proved, and its books young."""
    name = world.rows[1].spec.venue
    world.feed(AccountSnapshot((), positions_recv_mono_ns={name: world.now_ns - 6_000_000_000}))
    return ordinary(world)


def modes_not_known(world: EntryWorld) -> Any:
    """Balances are proved; whether they are one pot with futures and loans, the venue has not told."""
    world.feed(AccountSnapshot((), settings_known={world.rows[1].spec.venue: False}))
    return ordinary(world)


def row_in_question(world: EntryWorld) -> Any:
    """An order of an operation before was refused for its lot; the row has not been read yet."""
    entered(world, settled=False)
    order = next(o for o in world.core.ledger.unsettled.values() if o.intent.venue == "gateio_spot")
    for each in list(world.core.ledger.unsettled.values()):
        error = (
            InstrumentRefused("INVALID_PRECISION", venue=each.intent.venue) if each is order else VenueRejected("no")
        )
        world.feed(
            PlaceOutcome(
                venue=each.intent.venue,
                symbol=each.intent.symbol,
                client_id=each.client_id,
                kind=OutcomeKind.REJECTED,
                error=error,
                recv_mono_ns=world.now_ns,
            )
        )
    world.core.risk.gate.note_end(0, 0)
    return other_direction(world)


def too_many_open(world: EntryWorld) -> Any:
    entered(world)
    configured(world, max_open_operations=1)
    return other_direction(world)


def little_profit(world: EntryWorld) -> Any:
    """The edge is wide, and the profit (below 0.43 USD) a little short of the least."""
    configured(world, min_profit_usd=Decimal("0.44"))
    return ordinary(world)


def exposed(world: EntryWorld) -> Any:
    entered(world)
    configured(world, max_total_exposure_usd=Decimal(80))
    return other_direction(world)


def position_of_what_is_open(world: EntryWorld) -> Any:
    """50 USD are under way in the coin on each venue; another 50 would be within the limit alone."""
    entered(world)
    configured(world, max_position_size_usd=Decimal(80))
    return other_direction(world)


def within_a_scope(scope: str, key: str, **limits: Any) -> Attack:
    def attack(world: EntryWorld) -> Any:
        entered(world)
        kind = VenueLimitConfig if scope == "per_venue" else LimitConfig
        configured(world, **{scope: {key: kind(**limits)}})
        return other_direction(world)

    return attack


def off_the_tick(world: EntryWorld) -> Any:
    """The best price is no multiple of the tick, and without slippage the limit on the tick is beyond it."""
    changed(world, 0, tick=Decimal("0.2"))
    configured(world, max_slippage_bps=Decimal(0))
    return ordinary(world)


def no_book(world: EntryWorld) -> Any:
    """The catalogue's row names a place where no book was ever published."""
    changed(world, 1, book_index=9)
    return ordinary(world)


def order_rate(world: EntryWorld) -> Any:
    entered(world)
    configured(world, max_orders_per_s=3)
    return other_direction(world)


def daily_loss(world: EntryWorld) -> Any:
    ledger = world.core.ledger
    ledger.day, ledger.day_pnl = world.now().wall_ns // 86_400_000_000_000, Decimal(-1_000_000)
    world.core.update_limits_table()
    return ordinary(world)


def total_loss(world: EntryWorld) -> Any:
    """Lost on the days before, from a profit that there was once."""
    ledger = world.core.ledger
    ledger.total_pnl, ledger.peak_pnl = Decimal(0), Decimal(1_000_000)
    world.core.update_limits_table()
    return ordinary(world)


def worth_not_known(world: EntryWorld) -> Any:
    """A position of others on a contract that nothing marks."""
    world.core.ledger.external.unowned["gateio_futures", "XYZ_USDT"] = Decimal(1)
    world.core.ledger.external.trades.moves += 1
    world.core.update_limits_table()
    return ordinary(world)


def quarantined(world: EntryWorld) -> Any:
    for instrument_id in (0, 1):
        changed(world, instrument_id, pair_id=-1, quarantine_reason="doubt")
    return ordinary(world)


def other_pair(world: EntryWorld) -> Any:
    changed(world, 1, pair_id=5)
    return ordinary(world)


def wallet_closed(world: EntryWorld) -> Any:
    identity = CoinIdentity(asset="BTC", networks=(("BTC", ""),), deposit_enabled=False, withdraw_enabled=True)
    changed(world, 1, identity=identity)
    return ordinary(world)


def no_sells(world: EntryWorld) -> Any:
    changed(world, 1, status=TradingStatus.BUY_ONLY)
    return ordinary(world)


def ends_soon(world: EntryWorld) -> Any:
    """Its delisting is announced and near: the venue still takes every order."""
    changed(world, 0, ending=True)
    return ordinary(world)


def in_doubt(world: EntryWorld) -> Any:
    """A coin on the selling venue is not what the ledger expects."""
    world.core.recovery.account.doubt(world.rows[1].spec.venue, "BTC")
    world.core.update_limits_table()
    return ordinary(world)


def no_buys(world: EntryWorld) -> Any:
    changed(world, 0, status=TradingStatus.SELL_ONLY)
    return ordinary(world)


ATTACKS: dict[str, tuple[Attack, Refusal]] = {
    "cooldown": (cooldown, Refusal.COOLDOWN),
    "profit under the least": (little_profit, Refusal.BELOW_MIN_PROFIT),
    "exit of an open hedge": (exit_of_an_open_hedge, Refusal.NETS),
    "direction under way": (under_way, Refusal.DUPLICATE),
    "own order": (own_order, Refusal.INSTRUMENT_BLOCKED),
    "account in doubt": (in_doubt, Refusal.INSTRUMENT_BLOCKED),
    "venue's clock": (far_clock, Refusal.CLOCK_SKEW),
    "positions not shown": (positions_not_shown, Refusal.BALANCE_UNPROVED),
    "modes not known": (modes_not_known, Refusal.INSTRUMENT_BLOCKED),
    "row in question": (row_in_question, Refusal.INSTRUMENT_BLOCKED),
    "naked": (naked, Refusal.BREAKER),
    "open operations": (too_many_open, Refusal.IN_FLIGHT_LIMIT),
    "exposure of what is open": (exposed, Refusal.EXPOSURE_LIMIT),
    "position of what is open": (position_of_what_is_open, Refusal.POSITION_LIMIT),
    "position of a venue": (
        within_a_scope("per_venue", "mexc_spot", max_position_size_usd=Decimal(80)),
        Refusal.POSITION_LIMIT,
    ),
    "position of an asset": (
        within_a_scope("per_asset", "BTC", max_position_size_usd=Decimal(80)),
        Refusal.POSITION_LIMIT,
    ),
    "position of a pair": (
        within_a_scope("per_pair", "BTC/USDT", max_position_size_usd=Decimal(80)),
        Refusal.POSITION_LIMIT,
    ),
    "exposure of an asset": (
        within_a_scope("per_asset", "BTC", max_exposure_usd=Decimal(80)),
        Refusal.EXPOSURE_LIMIT,
    ),
    "order rate of a venue": (within_a_scope("per_venue", "mexc_spot", max_orders_per_s=1), Refusal.ORDER_RATE),
    "slippage": (off_the_tick, Refusal.MOVED),
    "no book": (no_book, Refusal.NO_BOOK),
    "order rate": (order_rate, Refusal.ORDER_RATE),
    "daily loss": (daily_loss, Refusal.DAILY_LOSS),
    "total loss": (total_loss, Refusal.TOTAL_LOSS),
    "worth not known": (worth_not_known, Refusal.EXPOSURE_LIMIT),
    "quarantined": (quarantined, Refusal.QUARANTINED),
    "other pair": (other_pair, Refusal.MALFORMED),
    "wallet closed": (wallet_closed, Refusal.STATUS),
    "no sells": (no_sells, Refusal.STATUS),
    "ends soon": (ends_soon, Refusal.STATUS),
    "no buys": (no_buys, Refusal.STATUS),
    "not reconciled": (not_reconciled, Refusal.SESSION_DOWN),
    "stream down": (stream_down, Refusal.SESSION_DOWN),
    "past unknown": (stream_came_back, Refusal.SESSION_DOWN),
    "journal full": (journal_full, Refusal.JOURNAL_FULL),
    "seen before": (seen_before, Refusal.DUPLICATE),
    "older than the newest": (older_than_the_newest, Refusal.DUPLICATE),
    "disabled type": (disabled_type, Refusal.DISABLED_TYPE),
    "reducing": (reducing, Refusal.BREAKER),
    "record of an old row": (old_row_epoch, Refusal.HALTED),
    "book of an old row": (old_epoch_of_the_book, Refusal.HALTED),
    "finer prices": (finer_prices, Refusal.HALTED),
    "gap": (flagged(FLAG_GAP), Refusal.GAP),
    "crossed": (flagged(FLAG_CROSSED), Refusal.CROSSED),
    "halted book": (flagged(FLAG_HALTED), Refusal.HALTED),
    "unproved book": (flagged(FLAG_UNPROVED), Refusal.UNPROVED),
    "skew": (skewed, Refusal.SKEW),
    "old first book": (old_first_book, Refusal.STALE_AT_EXECUTOR),
    "old second book": (old_second_book, Refusal.STALE_AT_EXECUTOR),
    "own fill, venue's clock": (own_fill_by_the_venues_clock, Refusal.NOT_AFTER_OWN_FILL),
    "no money to buy": (poor("mexc_spot", "USDT"), Refusal.BALANCE_SHORT),
    "nothing to sell": (poor("gateio_spot", "BTC"), Refusal.BALANCE_SHORT),
    "buyer's balance unproved": (unproved("mexc_spot"), Refusal.BALANCE_UNPROVED),
    "seller's balance unproved": (unproved("gateio_spot"), Refusal.BALANCE_UNPROVED),
    "venue off": (venue_off, Refusal.INSTRUMENT_BLOCKED),
    "price left": (price_left, Refusal.MOVED),
    "empty side": (empty_side, Refusal.MOVED),
    "least notional": (below_the_notional, Refusal.BELOW_MINIMUM),
    "least quantity": (below_the_quantity, Refusal.BELOW_MINIMUM),
    "largest quantity": (above_the_quantity, Refusal.BELOW_MINIMUM),
    "dearer fee": (dearer_fee, Refusal.MOVED),
    "futures as spot": (wrong_kind, Refusal.MALFORMED),
    "spot as hedge": (no_hedge, Refusal.MALFORMED),
    "venue tripped": (tripped("venue.gateio_spot"), Refusal.BREAKER),
    "fees tripped": (tripped("fee.mexc_spot.BTCUSDT"), Refusal.BREAKER),
    "held": (tripped("recovery_hold"), Refusal.BREAKER),
    "infinite edge": (not_finite(OPPORTUNITY.edge_bps, float("inf")), Refusal.MALFORMED),
    "no entry edge": (not_finite(OPPORTUNITY.entry_edge_bps, float("nan")), Refusal.MALFORMED),
    "no profit": (not_finite(OPPORTUNITY.profit_quote, float("-inf")), Refusal.MALFORMED),
    "instrument beyond": (leg_word(1, LEG.instrument, 2**40), Refusal.MALFORMED),
    "first instrument negative": (leg_word(0, LEG.instrument, -1), Refusal.MALFORMED),
    "first instrument far below": (leg_word(0, LEG.instrument, -(2**40)), Refusal.MALFORMED),
    "second quantity": (leg_word(1, LEG.qty_fp, 2**62), Refusal.MALFORMED),
    "second price": (leg_word(1, LEG.limit_price_fp, 0), Refusal.MALFORMED),
    **{f"type {number}": (of_type(number), Refusal.MALFORMED) for number in (-1, -64, 4, 32, 64, 65, 2**40)},
    "one instrument twice": (one_instrument_twice, Refusal.MALFORMED),
    "two buys": (two_of_a_side(1), Refusal.MALFORMED),
    "two sells": (two_of_a_side(-1), Refusal.MALFORMED),
    "tick between the numbers": (tick_between_the_numbers, Refusal.MALFORMED),
    "cycle of two legs": (cycle_of_two, Refusal.MALFORMED),
    "detected before time": (long_ago, Refusal.DUPLICATE),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_the_exact_gate_refuses_does_not_go_the_fast_path(name: str) -> None:
    attack, refusal = ATTACKS[name]
    with a_world() as world:
        opened(world)
        world.fund_all()
        world.now_ns += 1
        opened(world)
        record = attack(world)
        assert not world.fast_entry.offer(record, world.halt, world.now())
        judged = exact(world, record)
        assert isinstance(judged, Rejected) and judged.refusal is refusal, judged


def test_positions_that_grow_old_close_their_venue_with_no_event_between() -> None:
    with a_world() as world:
        opened(world)
        name, table = world.rows[1].spec.venue, world.fast_entry.limits_table
        world.feed(AccountSnapshot((), positions_recv_mono_ns={name: world.now_ns - 4_999_999_999}))
        world.now_ns += 1
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now())
        table.all_changed()  # what was reserved is free again
        world.now_ns += 1
        record = ordinary(world)
        assert not world.fast_entry.offer(record, world.halt, world.now())
        judged = exact(world, record)
        assert isinstance(judged, Rejected) and judged.refusal is Refusal.BALANCE_UNPROVED


def test_a_side_that_shrinks_a_hedge_is_closed_as_long_as_the_hedge_is_open() -> None:
    with a_world() as world:
        opened(world)
        gate, sold = world.core.risk.gate, world.rows[1].instrument_id
        for closing, taken in (({(sold, -1)}, False), ({(sold, 1)}, True), ({(sold, -1)}, False), (set(), True)):
            gate.closing = lambda closing=closing: set(closing)
            world.core.update_limits_table()
            assert world.fast_entry.offer(ordinary(world), world.halt, world.now()) is taken
            changed(world, 1, taker_fee_ppm=0)  # a row that is written anew keeps it
            world.fast_entry.limits_table.all_changed()
            assert world.fast_entry.offer(ordinary(world), world.halt, world.now()) is taken
            world.fast_entry.limits_table.all_changed()


def test_the_attacks_begin_from_a_state_that_is_taken() -> None:
    with a_world() as world:
        opened(world)
        world.now_ns += 1
        opened(world)
        entered(world)
        assert world.fast_entry.offer(other_direction(world), world.halt, world.now())
