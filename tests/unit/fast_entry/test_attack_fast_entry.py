"""Attacks on the fast path of an entry: in no state of the engine does it take what the exact gate refuses."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from pipeline.execution.plan import Rejected
from pipeline.model.config import LimitConfig
from pipeline.model.enums import OpportunityType, Refusal, TradingStatus
from pipeline.model.structs import CoinIdentity
from pipeline.rehearsal.entry_world import EntryWorld, with_crc
from shm.layout import FLAG_CROSSED, FLAG_GAP, FLAG_HALTED, FLAG_UNPROVED, LEG, OPPORTUNITY
from tests.worlds.fast_entry_world import (
    a_world,
    changed,
    configured,
    entered,
    exact,
    levels,
    opened,
    ordinary,
    other_direction,
    tripped,
)

SECOND = OPPORTUNITY.legs + LEG.WORDS
Attack = Callable[[EntryWorld], Any]


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


def too_many_open(world: EntryWorld) -> Any:
    entered(world)
    configured(world, max_open_operations=1)
    return other_direction(world)


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
        configured(world, **{scope: {key: LimitConfig(**limits)}})
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
    return ordinary(world)


def no_buys(world: EntryWorld) -> Any:
    changed(world, 0, status=TradingStatus.SELL_ONLY)
    return ordinary(world)


def not_reconciled(world: EntryWorld) -> Any:
    world.core.risk.gate.reconciled = {"mexc_spot"}
    world.core.update_limits_table()
    return ordinary(world)


def stream_came_back(world: EntryWorld) -> Any:
    """Up again: what the stream said before is void, and the past is not known yet."""
    world.core.recovery.session("gateio_spot", False)
    world.core.update_limits_table()
    return ordinary(world)


def stream_down(world: EntryWorld) -> Any:
    """Only the balances have heard of it yet."""
    world.core.balances.session("gateio_spot", False)
    world.core.update_limits_table()
    return ordinary(world)


def journal_full(world: EntryWorld) -> Any:
    world.core.context.journal = SimpleNamespace(has_room=lambda _size: False)
    return ordinary(world)


def seen_before(world: EntryWorld) -> Any:
    record = ordinary(world)
    world.core.risk.gate.entered(int(record[OPPORTUNITY.detect_mono_ns]), int(record[OPPORTUNITY.id]))
    world.core.update_limits_table()
    return record


def older_than_the_newest(world: EntryWorld) -> Any:
    record = ordinary(world)
    world.core.risk.gate.entered(int(record[OPPORTUNITY.detect_mono_ns]) + 1, -5)
    world.core.update_limits_table()
    world.now_ns += 1
    return record


def disabled_type(world: EntryWorld) -> Any:
    world.core.risk.gate.enabled_types = frozenset({OpportunityType.SPOT_FUTURES_HEDGE})
    world.fast_entry.reconfigured()
    return ordinary(world)


def reducing(world: EntryWorld) -> Any:
    world.core.risk.gate.reducing = "operation x"
    world.core.update_limits_table()
    return ordinary(world)


def old_row_epoch(world: EntryWorld) -> Any:
    record = ordinary(world)
    changed(world, 1, row_epoch=2)
    return record


def old_epoch_of_the_book(world: EntryWorld) -> Any:
    changed(world, 1, row_epoch=2)
    return ordinary(world)


def finer_prices(world: EntryWorld) -> Any:
    """The pair's exponent is raised: the record is of before, the book too."""
    record = ordinary(world)
    row = world.rows[1]
    changed(world, 1, row_epoch=2, price_exp=row.price_exp + 1)
    return record


def flagged(bit: int) -> Attack:
    def attack(world: EntryWorld) -> Any:
        world.publish(1, levels("100.00", "-0.05", "4"), levels("100.10", "0.05", "5"), flags=bit)
        return ordinary(world)

    return attack


def skewed(world: EntryWorld) -> Any:
    detection = msgspec.structs.replace(world.core.config.detection, max_skew_ms=50)
    world.core.reconfigure(msgspec.structs.replace(world.core.config, detection=detection))
    world.now_ns += 50_000_001  # young enough each, but too far apart
    world.publish(1, levels("100.00", "-0.05", "4"), levels("100.10", "0.05", "5"))
    return ordinary(world)


def old_first_book(world: EntryWorld) -> Any:
    world.now_ns += 101_000_000
    world.publish(1, levels("100.00", "-0.05", "4"), levels("100.10", "0.05", "5"))
    return ordinary(world)


def old_second_book(world: EntryWorld) -> Any:
    world.now_ns += 101_000_000
    world.publish(0, levels("98.99", "-0.01", "5"), levels("99.10", "0.05", "3"))
    return ordinary(world)


def own_fill_by_the_venues_clock(world: EntryWorld) -> Any:
    """Received after our fill, but the venue says that it is of before."""
    world.core.risk.gate.note_fill("gateio_spot", "BTC_USDT", world.now_ns - 1, world.now().wall_ms)
    world.core.update_limits_table()
    wall_ns = world.now().wall_ns
    world.publish(1, levels("100.00", "-0.05", "4"), levels("100.10", "0.05", "5"), venue_wall_ns=wall_ns)
    return ordinary(world)


def poor(venue: str, asset: str) -> Attack:
    def attack(world: EntryWorld) -> Any:
        world.fund({(venue, asset): Decimal("0.4")})
        return ordinary(world)

    return attack


def unproved(venue: str) -> Attack:
    def attack(world: EntryWorld) -> Any:
        world.now_ns += world.config.execution.balance_refresh_interval_ms * 1_000_000 + 1
        opened(world)
        keys = [(row.spec.venue, asset) for row in world.rows for asset in ("BTC", "USDT") if row.spec.venue == venue]
        for key in keys:
            world.core.balances._rows[key].rest_mono_ns -= 10**11
        world.core.balances.changed.update(keys)
        world.core.update_limits_table()
        return ordinary(world)

    return attack


def venue_off(world: EntryWorld) -> Any:
    configured(world, per_venue={"gateio_spot": LimitConfig(enabled=False)})
    return ordinary(world)


def price_left(world: EntryWorld) -> Any:
    world.publish(0, levels("99.60", "-0.01", "5"), levels("99.61", "0.05", "3"))
    return ordinary(world)


def empty_side(world: EntryWorld) -> Any:
    world.publish(1, [], levels("100.10", "0.05", "5"))
    return ordinary(world)


def below_the_notional(world: EntryWorld) -> Any:
    changed(world, 1, min_notional=Decimal(60))
    return ordinary(world)


def below_the_quantity(world: EntryWorld) -> Any:
    changed(world, 1, min_qty=Decimal("0.6"))
    return ordinary(world)


def above_the_quantity(world: EntryWorld) -> Any:
    changed(world, 1, max_qty=Decimal("0.4"))
    return ordinary(world)


def dearer_fee(world: EntryWorld) -> Any:
    changed(world, 1, taker_fee_ppm=20_000)
    return ordinary(world)


def wrong_kind(world: EntryWorld) -> Any:
    legs = [(0, 1, Decimal("0.5"), Decimal("99.5")), (2, -1, Decimal("0.5"), Decimal("99.6"))]
    return world.record(legs, OpportunityType.SPOT_SPOT)


def no_hedge(world: EntryWorld) -> Any:
    legs = [(0, 1, Decimal("0.5"), Decimal("99.5")), (1, -1, Decimal("0.5"), Decimal("99.6"))]
    return world.record(legs, OpportunityType.SPOT_FUTURES_HEDGE)


def not_finite(word: int, value: float) -> Attack:
    def attack(world: EntryWorld) -> Any:
        record = ordinary(world)
        record[word : word + 1].view(np.float64)[0] = value
        return with_crc(record)

    return attack


def leg_word(leg: int, word: int, value: int) -> Attack:
    def attack(world: EntryWorld) -> Any:
        record = ordinary(world)
        record[OPPORTUNITY.legs + leg * LEG.WORDS + word] = value
        return with_crc(record)

    return attack


def long_ago(world: EntryWorld) -> Any:
    record = ordinary(world)
    record[OPPORTUNITY.detect_mono_ns] = -(2**63)
    return with_crc(record)


def of_type(number: int) -> Attack:
    def attack(world: EntryWorld) -> Any:
        record = ordinary(world)
        record[OPPORTUNITY.type] = number
        return with_crc(record)

    return attack


def cycle_of_two(world: EntryWorld) -> Any:
    world.core.risk.gate.enabled_types = frozenset(OpportunityType)
    world.fast_entry.reconfigured()
    return of_type(int(OpportunityType.TRIANGULAR))(world)


def one_instrument_twice(world: EntryWorld) -> Any:
    """A book that is crossed and not flagged would pay."""
    world.publish(0, levels("100.00", "-0.01", "5"), levels("99.10", "0.05", "3"))
    return world.record([(0, 1, Decimal("0.5"), Decimal("99.5")), (0, -1, Decimal("0.5"), Decimal("99.6"))])


def two_of_a_side(side: int) -> Attack:
    """Two buys, of which one is cheap, look like profit where only base is summed up; two sells likewise."""

    def attack(world: EntryWorld) -> Any:
        price = "97.00" if side > 0 else "102.00"
        world.publish(1, levels(price, "-0.01", "5"), levels(price, "0.01", "5"))
        limit = Decimal(101) if side > 0 else Decimal(98)
        return world.record([(0, side, Decimal("0.5"), limit), (1, side, Decimal("0.5"), limit)])

    return attack


def tick_between_the_numbers(world: EntryWorld) -> Any:
    changed(world, 1, tick=Decimal("0.000000015"))
    return ordinary(world)


def exit_of_an_open_hedge(world: EntryWorld) -> Any:
    """A hedge is open that is left by buying and selling just there (tests/unit/virtual/test_hedges.py opens one)."""
    record = ordinary(world)
    world.core.risk.gate.leaves_a_hedge = lambda key: key == int(record[OPPORTUNITY.direction_key])
    return record


ATTACKS: dict[str, tuple[Attack, Refusal]] = {
    "cooldown": (cooldown, Refusal.COOLDOWN),
    "exit of an open hedge": (exit_of_an_open_hedge, Refusal.NETS),
    "direction under way": (under_way, Refusal.DUPLICATE),
    "own order": (own_order, Refusal.INSTRUMENT_BLOCKED),
    "account in doubt": (in_doubt, Refusal.INSTRUMENT_BLOCKED),
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
    "record of an old row": (old_row_epoch, Refusal.MALFORMED),
    "book of an old row": (old_epoch_of_the_book, Refusal.MALFORMED),
    "finer prices": (finer_prices, Refusal.MALFORMED),
    "gap": (flagged(FLAG_GAP), Refusal.GAP),
    "crossed": (flagged(FLAG_CROSSED), Refusal.CROSSED),
    "halted book": (flagged(FLAG_HALTED), Refusal.HALTED),
    "unproved book": (flagged(FLAG_UNPROVED), Refusal.UNPROVED),
    "skew": (skewed, Refusal.STALE_AT_EXECUTOR),
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


def test_the_attacks_begin_from_a_state_that_is_taken() -> None:
    with a_world() as world:
        opened(world)
        world.now_ns += 1
        opened(world)
        entered(world)
        assert world.fast_entry.offer(other_direction(world), world.halt, world.now())
