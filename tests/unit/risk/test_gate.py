"""The gate, limit by limit: the first refusal is the one that counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

from pipeline.execution.events import BookView, CatalogueChanged, Command, CommandKind, Opportunity
from pipeline.model.config import FeatureConfig, LimitConfig, RiskLimits, VenueLimitConfig
from pipeline.model.enums import OpportunityType, Refusal
from pipeline.model.structs import Balance, CoinIdentity
from pipeline.model.venue_events import SessionState
from shm.layout import BOOK, FLAG_CROSSED, FLAG_GAP, FLAG_HALTED, FLAG_UNPROVED
from tests.worlds.execution_starts import ready_world
from tests.worlds.execution_world import World
from tests.worlds.hedged_world import hedged_world
from tests.worlds.venue_model import Faults


def refusal(world: World, opportunity: Opportunity) -> Refusal:
    """The refusal of an opportunity, or NONE when it was executed."""
    before = len(world.refusals)
    world.feed(opportunity)
    return world.refusals[-1] if len(world.refusals) > before else Refusal.NONE


def offer(world: World, **changes: Any) -> Opportunity:
    return world.offer("mexc_spot", "gateio_spot", **changes)


def with_leg(opportunity: Opportunity, **changes: Any) -> Opportunity:
    first = msgspec.structs.replace(opportunity.legs[0], **changes)
    return msgspec.structs.replace(opportunity, legs=(first, *opportunity.legs[1:]))


MALFORMED: dict[str, Callable[[Opportunity], Opportunity]] = {
    "checksum": lambda o: msgspec.structs.replace(o, crc_ok=False),
    "not a number": lambda o: msgspec.structs.replace(o, edge_bps=math.nan),
    "infinite": lambda o: msgspec.structs.replace(o, profit_quote=math.inf),
    "unknown type": lambda o: msgspec.structs.replace(o, type=77),
    "one leg": lambda o: msgspec.structs.replace(o, legs=o.legs[:1]),
    "unknown instrument": lambda o: with_leg(o, instrument_id=4000),
    "no quantity": lambda o: with_leg(o, qty_fp=0),
    "absurd quantity": lambda o: with_leg(o, qty_fp=2**62),
    "negative price": lambda o: with_leg(o, limit_price_fp=-5),
    "same side twice": lambda o: with_leg(o, side=-1),
    "side 3": lambda o: with_leg(o, side=3),
    "twice the instrument": lambda o: with_leg(o, instrument_id=o.legs[1].instrument_id),
    "spot legs called a hedge": lambda o: msgspec.structs.replace(o, type=int(OpportunityType.SPOT_FUTURES_HEDGE)),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_opportunities_are_refused(name: str) -> None:
    world = ready_world()
    assert refusal(world, MALFORMED[name](offer(world))) is Refusal.MALFORMED
    assert not world.core.ledger.operations


@pytest.mark.parametrize("epoch", [0, 9], ids=["before ours", "after ours"])
def test_a_catalogue_that_one_of_them_has_read_first_is_no_mad_detector(epoch: int) -> None:
    world = ready_world()
    for _ in range(10):
        assert refusal(world, with_leg(offer(world), row_epoch=epoch)) is Refusal.HALTED
    assert not world.core.ledger.breakers
    assert refusal(world, offer(world)) is Refusal.NONE


def test_a_mad_detector_trips_a_breaker_that_only_an_operator_re_arms() -> None:
    world = ready_world()
    for _ in range(5):
        refusal(world, msgspec.structs.replace(offer(world), crc_ok=False))
    assert refusal(world, offer(world)) is Refusal.BREAKER
    world.run(60_000)
    assert refusal(world, offer(world)) is Refusal.BREAKER
    world.feed(Command(CommandKind.REARM, "malformed", "looked at it"))
    assert refusal(world, msgspec.structs.replace(offer(world), crc_ok=False)) is Refusal.MALFORMED
    assert refusal(world, offer(world)) is Refusal.NONE, "what was looked at is not counted again"


def test_nothing_passes_before_the_venues_are_reconciled() -> None:
    world = World(1)
    assert refusal(world, offer(world)) is Refusal.NOT_READY


def test_latch_and_lease() -> None:
    world = ready_world()
    world.latched = True
    assert refusal(world, offer(world)) is Refusal.HALT_LATCH
    world.latched = False
    world.lease_ns = world.now_ns
    assert refusal(world, offer(world)) is Refusal.LEASE


def test_the_same_opportunity_twice_is_a_duplicate_and_a_flood_trips() -> None:
    world = ready_world()
    opportunity = offer(world)
    assert refusal(world, opportunity) is Refusal.NONE
    for _ in range(100):
        assert refusal(world, opportunity) in (Refusal.DUPLICATE, Refusal.BREAKER)
    assert "duplicates" in world.core.ledger.breakers
    assert len(world.core.ledger.operations) == 1


def test_the_direction_of_an_operation_that_is_open_for_long_is_refused_and_trips_nothing() -> None:
    """An operator may have taken it over: what the market offers there meanwhile is no fault of the detector."""
    world = ready_world(faults=Faults(drop_stream=1, rest_error=1, drop_request=1))
    assert refusal(world, offer(world)) is Refusal.NONE
    world.run(100)
    assert [refusal(world, offer(world)) for _ in range(120)] == [Refusal.DUPLICATE] * 120
    assert "duplicates" not in world.core.ledger.breakers


def test_an_old_detection_is_refused() -> None:
    world = ready_world()
    opportunity = offer(world)
    world.run(150)
    assert refusal(world, opportunity) is Refusal.STALE_AT_EXECUTOR


def test_an_edge_that_is_gone_is_refused() -> None:
    world = ready_world()
    opportunity = offer(world)
    world.venues["gateio_spot"].bid = Decimal("99.90")
    assert refusal(world, opportunity) is Refusal.MOVED


@pytest.mark.parametrize(
    ("flag", "wanted"),
    [
        (FLAG_GAP, Refusal.GAP),
        (FLAG_CROSSED, Refusal.CROSSED),
        (FLAG_UNPROVED, Refusal.UNPROVED),
        (FLAG_HALTED, Refusal.HALTED),
    ],
)
def test_books_with_a_bad_flag_are_refused(flag: int, wanted: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    world = ready_world()
    whole = world.book

    def flagged(instrument_id: int) -> BookView | None:
        view = whole(instrument_id)
        assert view is not None
        view.words[BOOK.flags] = flag  # type: ignore[index]
        return view

    monkeypatch.setattr(world, "book", flagged)
    assert refusal(world, offer(world)) is wanted


def test_a_book_without_proof_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    world = ready_world()
    whole = world.book

    def old(instrument_id: int) -> BookView | None:
        view = whole(instrument_id)
        assert view is not None
        view.proof_mono_ns = 0
        return view

    monkeypatch.setattr(world, "book", old)
    assert refusal(world, offer(world)) is Refusal.STALE_AT_EXECUTOR


def test_no_new_intent_before_the_book_is_later_than_our_own_fill() -> None:
    world = ready_world()
    world.core.risk.gate.note_fill("mexc_spot", "BTCUSDT", world.now_ns, world.now().wall_ms)
    assert refusal(world, offer(world)) is Refusal.NOT_AFTER_OWN_FILL
    world.run(5)
    assert refusal(world, offer(world)) is Refusal.NONE


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ({"max_position_size_usd": Decimal(50)}, Refusal.POSITION_LIMIT),
        ({"max_total_exposure_usd": Decimal(50)}, Refusal.EXPOSURE_LIMIT),
        ({"max_open_operations": 0}, Refusal.IN_FLIGHT_LIMIT),
        ({"max_orders_per_s": 1}, Refusal.ORDER_RATE),
        ({"per_venue": {"mexc_spot": VenueLimitConfig(max_position_size_usd=Decimal(50))}}, Refusal.POSITION_LIMIT),
        ({"per_asset": {"BTC": LimitConfig(max_exposure_usd=Decimal(50))}}, Refusal.EXPOSURE_LIMIT),
        ({"per_pair": {"BTC/USDT": LimitConfig(enabled=False)}}, Refusal.INSTRUMENT_BLOCKED),
        ({"per_venue": {"gateio_spot": VenueLimitConfig(max_orders_per_s=0)}}, Refusal.ORDER_RATE),
        ({"max_position_size_usd": Decimal("NaN"), "max_naked_usd_s": Decimal(50_000)}, None),
    ],
)
def test_limits(limits: dict[str, Any], wanted: Refusal | None) -> None:
    world = ready_world(limits=limits)
    if wanted is None:  # a limit that compares with nothing must not approve
        with pytest.raises(ArithmeticError):
            refusal(world, offer(world))
        assert not world.core.ledger.operations
    else:
        assert refusal(world, offer(world)) is wanted


def scoped_fields() -> list[tuple[str, type[LimitConfig], str]]:
    """(table, type of its limits, field) of every limit that a venue, an asset or a pair may have."""
    hints = get_type_hints(RiskLimits)
    tables = {name: get_args(hint)[1] for name, hint in hints.items() if get_origin(hint) is dict}
    return [(table, kind, field) for table, kind in tables.items() for field in kind.__struct_fields__]


#: A value of each limit that leaves no room for any entry.
FORBIDS = {
    "max_position_size_usd": (Decimal("0.01"), Refusal.POSITION_LIMIT),
    "max_exposure_usd": (Decimal("0.01"), Refusal.EXPOSURE_LIMIT),
    "max_orders_per_s": (0, Refusal.ORDER_RATE),
    "enabled": (False, Refusal.INSTRUMENT_BLOCKED),
}


@pytest.mark.parametrize(("table", "kind", "field"), scoped_fields())
def test_every_limit_that_a_scope_may_have_binds(table: str, kind: type[LimitConfig], field: str) -> None:
    """A limit that is accepted and read by nobody is no limit."""
    value, wanted = FORBIDS[field]
    name = {"per_venue": "gateio_spot", "per_asset": "BTC", "per_pair": "BTC/USDT"}[table]
    world = ready_world(limits={table: {name: kind(**{field: value})}})
    assert refusal(world, offer(world)) is wanted
    world = ready_world(limits={table: {name: kind()}})
    assert refusal(world, offer(world)) is Refusal.NONE


def test_a_hedge_whose_quote_has_no_rate_takes_no_entry_beside_it() -> None:
    """What cannot be valued is beyond every limit: it does not count as one dollar a coin."""
    world = hedged_world()
    (hedge,) = world.core.ledger.hedges.values()
    operation = world.core.ledger.operations[hedge.operation_id]
    legs = tuple(msgspec.structs.replace(leg, quote="EURI") for leg in operation.record.legs)
    operation.record = msgspec.structs.replace(operation.record, legs=legs)
    world.run(100)
    assert world.core.risk.gate.exposure().unvalued == {"EURI"}
    assert refusal(world, offer(world)) is Refusal.EXPOSURE_LIMIT


def test_the_daily_loss_stops_the_day() -> None:
    world = ready_world(limits={"max_daily_loss_usd": Decimal(10)})
    world.core.ledger.day = world.now().wall_ns // (86_400 * 10**9)
    world.core.ledger.day_pnl = Decimal(-11)
    assert refusal(world, offer(world)) is Refusal.DAILY_LOSS
    assert "daily_loss" in world.core.ledger.breakers


def test_a_balance_must_be_confirmed_and_its_stream_up() -> None:
    world = ready_world()
    gate_ns = world.config.execution.balance_refresh_interval_ms * 1_000_000
    world.now_ns += gate_ns + 1
    assert refusal(world, offer(world)) is Refusal.BALANCE_UNPROVED
    world = ready_world()
    world.feed(SessionState(venue="mexc_spot", state="down", recv_mono_ns=world.now_ns, reason="test"))
    assert refusal(world, offer(world)) is Refusal.SESSION_DOWN


def test_reservations_are_taken_off_and_short_balances_refused() -> None:
    world = ready_world()
    for source in ("rest", "ws"):
        world.feed(
            Balance(
                venue="mexc_spot",
                asset="USDT",
                free=Decimal(150),
                locked=Decimal(0),
                recv_mono_ns=world.now_ns,
                source=source,
            )
        )
    assert refusal(world, offer(world)) is Refusal.NONE
    assert world.core.balances.usable("mexc_spot", "USDT") < 51
    other = msgspec.structs.replace(offer(world), direction_key=99)
    assert refusal(world, other) is Refusal.INSTRUMENT_BLOCKED, "an own order is under way there"


def test_a_full_journal_refuses_before_anything_is_sent() -> None:
    world = ready_world()
    world.journal_room = False
    assert refusal(world, offer(world)) is Refusal.JOURNAL_FULL


def no_balance(world: World) -> None:
    world.now_ns += world.config.execution.balance_refresh_interval_ms * 1_000_000 + 1


def no_room(world: World) -> None:
    world.journal_room = False


def own_fill(world: World) -> None:
    world.core.risk.gate.note_fill("mexc_spot", "BTCUSDT", world.now_ns, world.now().wall_ms)


def no_budget(world: World) -> None:
    world.core.risk.gate.order_budget = lambda venue, orders: orders <= 1


def objection(world: World) -> None:
    world.core.risk.gate.user_check = lambda plan: "not today"


@pytest.mark.parametrize(
    ("obstacle", "wanted"),
    [
        (no_balance, Refusal.BALANCE_UNPROVED),
        (no_room, Refusal.JOURNAL_FULL),
        (own_fill, Refusal.NOT_AFTER_OWN_FILL),
        (no_budget, Refusal.ORDER_RATE),
        (objection, Refusal.BREAKER),
    ],
)
def test_without_risk_checks_no_limit_binds_and_all_else_does(
    obstacle: Callable[[World], None], wanted: Refusal
) -> None:
    settings = {"features": FeatureConfig(enable_risk_checks=False), "limits": {"min_profit_usd": Decimal(10**6)}}
    world = ready_world(**settings)
    assert refusal(world, offer(world)) is Refusal.NONE, "beyond a limit"
    world = ready_world(**settings)
    obstacle(world)
    assert refusal(world, offer(world)) is wanted


def test_the_users_own_check_may_refuse() -> None:
    world = ready_world()
    world.core.risk.gate.user_check = lambda plan: "not today" if plan.notional_usd > 50 else ""
    assert refusal(world, offer(world)) is Refusal.BREAKER
    assert refusal(world, offer(world, qty=Decimal("0.1"))) is Refusal.NONE


def test_the_venues_budget_must_hold_an_entry_and_its_repair() -> None:
    world = ready_world()
    asked: list[tuple[str, int]] = []

    def budget(venue: str, count: int) -> bool:
        asked.append((venue, count))
        return venue != "gateio_spot"

    world.core.risk.gate.order_budget = budget
    assert refusal(world, offer(world)) is Refusal.ORDER_RATE
    assert ("gateio_spot", 2) in asked


def test_sizes_are_cut_to_what_the_fresh_books_hold() -> None:
    world = ready_world()
    world.depth = Decimal("0.1")
    assert refusal(world, offer(world)) is Refusal.NONE
    assert {o.intent.qty for o in world.core.ledger.orders.values()} == {Decimal("0.30")}, "three levels of 0.1"


@pytest.mark.parametrize("switches", [{"deposit_enabled": False}, {"withdraw_enabled": False}])
@pytest.mark.parametrize("manual", [False, True])
def test_a_coin_whose_wallet_is_closed_is_refused_also_to_an_operator(switches: dict[str, bool], manual: bool) -> None:
    world = ready_world()
    row = world.rows[0]
    closed = msgspec.structs.replace(row.spec, identity=CoinIdentity(asset="BTC", **switches))
    world.feed(CatalogueChanged((msgspec.structs.replace(row, spec=closed),)))
    assert refusal(world, offer(world, manual=manual)) is Refusal.STATUS
    world.feed(CatalogueChanged((row,)))
    assert refusal(world, offer(world, manual=manual)) is Refusal.NONE
