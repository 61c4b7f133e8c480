"""States of the engine and opportunity records in which an entry is refused: each brings a world of the fast path into
one, and gives the record that is then offered on both paths."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from pipeline.execution.events import Tick
from pipeline.model.config import VenueLimitConfig
from pipeline.model.enums import OpportunityType, OrderState
from pipeline.rehearsal.entry_world import EntryWorld, with_crc
from shm.layout import LEG, OPPORTUNITY
from tests.worlds.fast_entry_world import (
    changed,
    configured,
    entered,
    filled,
    levels,
    opened,
    ordinary,
    other_direction,
)

Attack = Callable[[EntryWorld], Any]


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


def naked(world: EntryWorld) -> Any:
    """A leg of another operation stands alone, and a hundredth of a USD x second of it is too much. Its repair has
    ended, and the books are later than its fill."""
    configured(world, max_naked_usd_s=Decimal("0.01"))
    entered(world, settled=False)
    filled(world, 0)
    filled(world, 1, state=OrderState.CANCELLED)
    world.now_ns += 50_000_000
    world.feed(Tick())
    world.core.ledger.unsettled.clear()
    opened(world)
    return other_direction(world)


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
    configured(world, per_venue={"gateio_spot": VenueLimitConfig(enabled=False)})
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
    record, gate = ordinary(world), world.core.risk.gate
    gate.leaves_a_hedge = lambda key: key == int(record[OPPORTUNITY.direction_key])
    gate.closing = lambda: {(int(record[OPPORTUNITY.legs + LEG.instrument]), int(record[OPPORTUNITY.legs + LEG.side]))}
    world.core.update_limits_table()
    return record
