"""A forced close closes what is there, or says why not: every reason that keeps a hedge open is a sentence."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from pipeline.exchanges.base import SessionState
from pipeline.execution.events import Command, CommandKind
from pipeline.execution.hedging.attempts import CloseAnswer
from pipeline.execution.hedging.forced_close import RETRY_NS
from pipeline.model.config import HedgeConfig, HedgeExitConfig
from pipeline.model.structs import Balance
from tests.worlds.execution_world import MS, Faults, World, make_config

D = Decimal


def hedged_world(qty: str = "1") -> World:
    never = HedgeConfig(exit=HedgeExitConfig(max_loss_bps=D(100_000)))  # by the engine's own decision
    world = World(9, config=make_config(detection={"hedge": never}))
    world.run(100)
    world.feed(world.offer("gateio_spot", "gateio_futures", D(qty)))
    world.run(100)
    assert len(world.core.ledger.hedges) == 1
    for name in ("gateio_spot", "gateio_futures"):  # leaving costs: no exit by the engine's own choice
        world.venues[name].bid, world.venues[name].ask = D("99.00"), D("101.00")
    world.run(50)
    return world


def attempt(world: World) -> CloseAnswer:
    core = world.core
    core.context.now = world.now()
    return core.forced_close.attempt(next(iter(core.ledger.hedges.values())))


def close(world: World, hedge_id: str = "") -> None:
    world.feed(Command(CommandKind.CLOSE_HEDGES, hedge_id, "test"))


def test_a_hedge_is_closed_at_a_loss_when_an_operator_says_so() -> None:
    world = hedged_world()
    answer = attempt(world)
    assert answer.plan is not None and (answer.reason, answer.left) == ("", 0)
    assert world.core.ledger.hedges, "looking at it changes nothing"
    close(world)
    world.run(1000)
    assert not world.core.ledger.hedges
    assert world.venues["gateio_futures"].position == 0
    assert world.core.forced_close.wanted == ()


def test_only_the_hedge_that_was_named_is_closed() -> None:
    world = hedged_world("0.5")
    world.feed(world.offer("gateio_spot", "gateio_futures", D("0.7")))
    world.run(300)
    first, second = world.core.ledger.hedges
    for name in ("gateio_spot", "gateio_futures"):
        world.venues[name].bid, world.venues[name].ask = D("99.00"), D("101.00")
    close(world, second)
    world.run(1000)
    assert list(world.core.ledger.hedges) == [first]


def test_hedges_of_one_pair_leave_one_after_the_other() -> None:
    """Planned at one look, each would take the same depth and the same coins."""
    world = hedged_world("0.5")
    world.feed(world.offer("gateio_spot", "gateio_futures", D("0.7")))
    world.run(300)
    for name in ("gateio_spot", "gateio_futures"):
        world.venues[name].bid, world.venues[name].ask = D("99.00"), D("101.00")
    world.run(50)
    assert len(world.core.ledger.hedges) == 2
    close(world)
    assert len(world.core.ledger.closings) == 1
    world.run(5000)
    assert not world.core.ledger.hedges and world.venues["gateio_futures"].position == 0


def test_a_thin_book_is_closed_piece_by_piece() -> None:
    """Three levels of 0.1 a side, one cent apart: 0.3 at a time."""
    world = hedged_world()
    world.depth = D("0.1")
    answer = attempt(world)
    assert answer.plan is not None and answer.left == D("0.69")  # of 0.99: the fee of the buy was taken in coins
    close(world)
    world.run(100)
    (hedge,) = world.core.ledger.hedges.values()
    assert hedge.qty == D("0.69")
    world.run(3000)
    assert not world.core.ledger.hedges
    assert len(world.core.ledger.closings[next(iter(world.core.ledger.closings))]) == 4


def no_book(world: World) -> None:
    world.blind = True


def away(world: World) -> None:
    world.up["gateio_futures"] = False
    world.feed(SessionState(venue="gateio_futures", state="down", recv_mono_ns=world.now_ns, reason="test"))


def fenced(world: World) -> None:
    world.fenced = True


def locked_coins(world: World) -> None:
    """Somebody's resting order on the account holds every coin."""
    total = world.venues["gateio_spot"].balances["BTC"]
    world.feed(
        Balance(venue="gateio_spot", asset="BTC", free=D(0), locked=total, recv_mono_ns=world.now_ns + 1, source="ws")
    )


def too_thin(world: World) -> None:
    world.depth = D("0.001")


def pending(world: World) -> None:
    world.faults = Faults(drop_request=1.0)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    for name in ("gateio_spot", "gateio_futures"):
        world.venues[name].bid, world.venues[name].ask = D("99.00"), D("101.00")


def up_again(world: World) -> None:
    world.up["gateio_futures"] = True
    world.feed(SessionState(venue="gateio_futures", state="up", recv_mono_ns=world.now_ns))


@pytest.mark.parametrize(
    ("obstacle", "words", "heal"),
    [
        (no_book, "gateio_spot BTCUSDT: no book that may be traded on", lambda w: setattr(w, "blind", False)),
        (away, "gateio_futures BTCUSDT: the venue is not connected and reconciled", up_again),
        (fenced, "fenced: the guard has taken over", lambda w: setattr(w, "fenced", False)),
        (locked_coins, "free 0 BTC, 0.99 needed", lambda w: None),
        (too_thin, "no depth of a lot and the venues' minima within 200 bps", lambda w: setattr(w, "depth", D(2))),
        (pending, "own order not settled", lambda w: setattr(w, "faults", Faults())),
    ],
    ids=["no_book", "away", "fenced", "locked_coins", "too_thin", "pending"],
)
def test_what_cannot_be_closed_says_why_and_is_tried_again(
    obstacle: Callable[[World], None], words: str, heal: Callable[[World], None]
) -> None:
    world = hedged_world()
    obstacle(world)
    answer = attempt(world)
    assert answer.plan is None and words in answer.reason and answer.left == answer.hedge.qty
    close(world)
    hedge_id = next(iter(world.core.ledger.hedges))
    assert words in world.core.forced_close.answers[hedge_id].reason
    assert world.core.forced_close.wanted == (hedge_id,)
    heal(world)
    world.run(10_000)
    assert not world.core.ledger.hedges, "it is closed as soon as it can be"


def test_only_as_much_leaves_as_the_balance_covers() -> None:
    world = hedged_world()
    total = world.venues["gateio_spot"].balances["BTC"]
    half = Balance(
        venue="gateio_spot",
        asset="BTC",
        free=D("0.4"),
        locked=total - D("0.4"),
        recv_mono_ns=world.now_ns + 1,
        source="ws",
    )
    world.feed(half)
    answer = attempt(world)
    assert answer.plan is not None
    assert [leg.qty for leg in answer.plan.legs] == [D("0.4"), D("0.4")] and answer.left == D("0.59")


def test_a_close_is_given_up_after_its_time() -> None:
    world = hedged_world()
    world.depth = D("0.001")
    close(world)
    world.run(RETRY_NS / MS + 1000)
    assert world.core.forced_close.wanted == ()
    world.depth = D(2)
    world.run(2000)
    assert world.core.ledger.hedges, "an operator asks again"


def test_halt_and_breakers_do_not_keep_a_hedge() -> None:
    world = hedged_world()
    world.latched = True
    world.core.context.now = world.now()
    world.core.risk.force_emergency_shutdown("test")
    close(world)
    world.run(1000)
    assert not world.core.ledger.hedges


def test_flatten_closes_lets_holds_go_on_and_cancels() -> None:
    world = hedged_world()
    world.feed(Command(CommandKind.FLATTEN, reason="test"))
    world.run(2000)
    assert not world.core.ledger.hedges and world.core.idle
