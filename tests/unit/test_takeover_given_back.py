"""What a takeover leaves to the executor that waits: venues that are away, whole hedges that cannot be closed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest

from pipeline.execution.events import CommandKind
from pipeline.execution.records import Purpose
from pipeline.model.config import ExecutionConfig
from pipeline.model.enums import ArbitrageState
from pipeline.takeover import STUCK_NS, Takeover
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import FUTURES, MID, external_world, hedge, judge, spot_trade, venue_delta

D = Decimal


def flat(world: VirtualWorld) -> bool:
    """The venues' exposure is what the guard's core lists as remainders below every minimum, and nothing else."""
    return venue_delta(world, "BTC") == world.core.positions.targets().get("BTC", D(0))


def test_a_venue_that_is_away_with_the_coins_of_a_hedge_is_left_to_the_executor_that_waits() -> None:
    """The contract is closed, its coins lie at a venue in maintenance, and no other venue has any: the fence would keep
    everything else down for as long as that lasts."""
    world = external_world()
    hedge(world)
    ((hedge_id, _),) = world.core.ledger.hedges.items()
    world.take_over()
    takeover = Takeover(world.core, None)
    turn = given_back(world, takeover)

    world.arm(kind="drop_request", venue="gateio_spot", target="place", count=1)
    world.arm(kind="reject", venue="mexc_spot", target="place", count=0, reason="insufficient_balance")
    assert world.run_until(lambda: turn() or world.position(FUTURES, "BTC_USDT") == 0, limit_ms=20_000)
    assert not takeover.proven_closed, "its coins are being sold"
    world.links["gateio_spot"].disconnect("maintenance")
    assert world.run_until(turn, limit_ms=60_000), takeover.result()
    assert not takeover.done, "without an executor the guard goes on"
    result = takeover.result()
    (name,) = result.open_operations
    assert result.waiting == (name,) and result.left == (hedge_id,)
    assert "gateio_spot" in takeover.why_left()[hedge_id] and name in takeover.why_left()[hedge_id]
    world.faults.clear()
    world.give_back()
    assert world.run_until(lambda: not world.core.ledger.hedges and world.core.idle, limit_ms=20_000)
    assert flat(world)
    judge(world)


def turn_of(world: VirtualWorld, takeover: Takeover) -> None:
    """What the takeover wants now goes into its core."""
    for command in takeover.commands(world.clock.mono_ns(), "test"):
        world.feed(command)


def given_back(world: VirtualWorld, takeover: Takeover) -> Callable[[], bool]:
    """One turn of a takeover, and whether an executor that waits may go on."""

    def turn() -> bool:
        turn_of(world, takeover)
        return takeover.proven_closed

    return turn


def goes_away(world: VirtualWorld, venue: str) -> None:
    """Maintenance: no session, and no answer to any question."""
    world.arm(kind="http_error", venue=venue, count=0, status=503)
    world.links[venue].disconnect("maintenance")


def test_whole_hedges_whose_venue_is_away_are_left_to_the_executor_too() -> None:
    """The first one's contract is closed when the venue of the coins goes away; the second one had to wait for it."""
    world = external_world()
    hedge(world)
    hedge(world)
    held = world.position(FUTURES, "BTC_USDT")
    world.take_over()
    takeover = Takeover(world.core, None)
    world.arm(kind="drop_request", venue="gateio_spot", target="place", count=0)
    world.arm(kind="reject", venue="mexc_spot", target="place", count=0, reason="insufficient_balance")
    turn = given_back(world, takeover)
    assert world.run_until(lambda: turn() or world.position(FUTURES, "BTC_USDT") == held / 2, limit_ms=20_000)
    goes_away(world, "gateio_spot")
    assert world.run_until(turn, limit_ms=90_000), (takeover.result(), takeover.why_left())
    result = takeover.result()
    (name,) = result.open_operations
    begun = world.core.ledger.open_operations[name].record.closes
    (whole,) = set(result.left) - {begun}
    assert set(result.waiting) == {name, whole} and not takeover.done
    assert all("gateio_spot" in reason for reason in takeover.why_left().values())
    assert world.position(FUTURES, "BTC_USDT") == held / 2


def test_a_hedge_whose_venue_was_away_before_is_left_once_that_has_lasted() -> None:
    world = external_world()
    hedge(world)
    world.take_over()
    takeover = Takeover(world.core, None)
    goes_away(world, "gateio_spot")
    turn = given_back(world, takeover)
    assert not world.run_until(turn, limit_ms=STUCK_NS / 1e6 - 1000), "a session that comes back at once is no outage"
    assert world.run_until(turn, limit_ms=60_000), (takeover.result(), takeover.why_left())
    result = takeover.result()
    assert result.waiting == result.left and len(result.left) == 1 and not result.orders
    assert "gateio_spot" in takeover.why_left()[result.left[0]]


def test_a_whole_hedge_that_cannot_be_closed_does_not_fence_for_ever() -> None:
    """A venue refuses each order that closes its contract: an executor can wait for that as well as the guard."""
    world = external_world()
    hedge(world)
    held = world.position(FUTURES, "BTC_USDT")
    world.take_over()
    takeover = Takeover(world.core, None)
    world.arm(kind="reject", venue=FUTURES, target="place", count=0, reason="price_band")
    turn = given_back(world, takeover)
    assert not world.run_until(turn, limit_ms=STUCK_NS / 1e6 - 1000)
    assert world.run_until(turn, limit_ms=60_000), (takeover.result(), takeover.why_left())
    (name,) = takeover.result().left
    assert not takeover.done and world.position(FUTURES, "BTC_USDT") == held
    assert "order rejected" in takeover.why_left()[name]
    world.faults.clear()
    assert world.run_until(lambda: turn() and takeover.done, limit_ms=60_000) and flat(world)


@pytest.mark.parametrize("away", [True, False])
def test_a_hedge_that_a_wider_bound_may_close_is_not_given_back_before_that(
    away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The widest of three bounds holds until 15 s after the first was tried; a venue that is away says no price."""
    monkeypatch.setattr("pipeline.takeover.STUCK_NS", 3_000_000_000)
    world = external_world()
    hedge(world)
    world.take_over()
    takeover = Takeover(world.core, None)
    world.arm(kind="reject", venue=FUTURES, target="place", count=0, reason="price_band")
    if away:
        goes_away(world, FUTURES)
    turn = given_back(world, takeover)
    assert world.run_until(turn, limit_ms=14_000) is away
    assert world.run_until(turn, limit_ms=20_000), takeover.why_left()


@pytest.mark.parametrize("covered", [True, False])
def test_a_hedge_is_closed_beside_an_order_that_may_not_be_proved_yet_or_waits_where_coins_are_short(
    covered: bool,
) -> None:
    """With long windows the proof takes longer than any outage is waited for. Nothing is sold before it that the
    unknown order may have sold."""
    world = external_world(execution=ExecutionConfig(entry_window_ms=10_000, unknown_grace_ms=20_000))
    hedge(world)
    (held,) = world.core.ledger.hedges.values()
    if not covered:
        stock = world.wallet("gateio_spot", "BTC") - held.qty
        world.arm(kind="withdraw", venue="gateio_spot", asset="BTC", amount=float(stock - D("0.005")))
        world.run(3000)
        world.command(CommandKind.REARM, "venue.gateio_spot", "mine")
    for venue in ("gateio_spot", "mexc_spot"):
        world.arm(kind="drop_request", venue=venue, target="place", count=1)
    world.market.move("gateio_spot", "BTC_USDT", MID)  # a book later than our last fill
    spot_trade(world)
    world.run(20)
    unknown = list(world.core.ledger.unsettled.values())
    assert {order.intent.venue for order in unknown} == {"gateio_spot", "mexc_spot"}, world.refusals
    world.take_over()
    takeover = Takeover(world.core, None)
    turn = given_back(world, takeover)
    assert world.run_until(lambda: turn() and not world.core.ledger.hedges, limit_ms=60_000), takeover.why_left()
    proved = [world.core.ledger.orders[order.client_id].settled for order in unknown]
    assert not any(proved) if covered else all(proved)
    assert world.run_until(lambda: turn() and takeover.done, limit_ms=60_000), takeover.why_left()
    assert world.position(FUTURES, "BTC_USDT") == 0 and flat(world)


def test_hedges_that_leave_one_after_the_other_are_all_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight on one spot market: the last one's turn comes when it has waited for longer than a stuck one may."""
    monkeypatch.setattr("pipeline.takeover.STUCK_NS", 3_000_000_000)
    monkeypatch.setattr("pipeline.takeover.all_bounds_ns", lambda config: 0)
    world = external_world(max_position_size_usd=D(10**6), max_total_exposure_usd=D(10**6))
    for _ in range(8):
        hedge(world)
    assert len(world.core.ledger.hedges) == 8
    for venue in ("gateio_spot", FUTURES):
        world.arm(kind="delay_request", venue=venue, target="place", count=0, delay_ms=300)
    world.take_over()
    takeover = Takeover(world.core, None)
    began_ns = world.clock.mono_ns()
    turn = given_back(world, takeover)
    assert world.run_until(turn, limit_ms=60_000), takeover.why_left()
    assert world.clock.mono_ns() - began_ns > 3_000_000_000
    assert not takeover.result().left and world.position(FUTURES, "BTC_USDT") == 0


def test_an_exit_by_choice_is_kept_by_the_guard_as_an_executor_might_undo_it() -> None:
    """The contract is closed, the coins' venue is away: to an executor the exit is one that may be bought back."""
    world = external_world()
    hedge(world)
    world.arm(kind="reject", venue="mexc_spot", target="place", count=0, reason="insufficient_balance")
    world.arm(kind="drop_request", venue="gateio_spot", target="place", count=1)
    world.market.move("gateio_spot", "BTC_USDT", MID)
    world.market.move(FUTURES, "BTC_USDT", MID)
    world.run(50)
    ((_, opened),) = world.core.ledger.hedges.items()
    plan = world.core.hedges.attempts.attempt(opened, D(50)).plan
    assert plan is not None
    by_choice = replace(plan, opportunity=msgspec.structs.replace(plan.opportunity, manual=False))
    now = world.now()
    world.core.context.now = now
    world.core.orders.execute_opportunity(by_choice, purpose=Purpose.CLOSE, closes=opened.operation_id)
    world._perform(world.core.context.drain(), now)
    assert world.run_until(lambda: world.position(FUTURES, "BTC_USDT") == 0, limit_ms=2000)
    (operation,) = world.core.ledger.open_operations.values()
    assert not operation.record.manual
    world.take_over()
    takeover = Takeover(world.core, None)
    goes_away(world, "gateio_spot")
    turn = given_back(world, takeover)
    assert not world.run_until(turn, limit_ms=60_000), takeover.result()
    assert takeover.result().waiting and "gateio_spot" in "".join(takeover.why_left().values())
    world.faults.clear()
    world.links["gateio_spot"].connect()
    assert world.run_until(turn, limit_ms=60_000), takeover.why_left()
    assert takeover.done and flat(world) and world.position(FUTURES, "BTC_USDT") == 0


@pytest.mark.parametrize(("away", "sells"), [(FUTURES, "gateio_spot"), ("gateio_spot", "mexc_spot")])
def test_coins_that_a_living_venue_takes_are_sold_before_anything_is_given_back(away: str, sells: str) -> None:
    """A leg with nothing left to do may be away, and so may the coins' own venue where another one sells them."""
    world = external_world()
    hedge(world)
    world.take_over()
    takeover = Takeover(world.core, None)
    world.arm(kind="reject", venue="gateio_spot", target="place", count=3, reason="insufficient_balance")
    world.arm(kind="reject", venue="mexc_spot", target="place", count=1, reason="insufficient_balance")
    world.arm(kind="delay_request", venue=sells, target="place", count=0, delay_ms=200)
    turn = given_back(world, takeover)
    recovering = ArbitrageState.RECOVERING
    operations = world.core.ledger.operations
    begun = lambda: any(o.record.closes and o.state is recovering for o in operations.values())  # noqa: E731
    assert world.run_until(lambda: turn() or begun(), limit_ms=20_000)
    assert not takeover.proven_closed and world.position(FUTURES, "BTC_USDT") == 0
    goes_away(world, away)
    assert world.run_until(turn, limit_ms=60_000), takeover.result()
    assert takeover.done and flat(world), takeover.result()
