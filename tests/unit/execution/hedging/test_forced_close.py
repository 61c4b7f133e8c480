"""A forced close closes what is there, or says why not: every reason that keeps a hedge open is a sentence."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from pipeline.exchanges.base import SessionState
from pipeline.execution.events import Alert, BookView, Command, CommandKind
from pipeline.execution.hedging.attempts import CloseAnswer
from pipeline.execution.hedging.forced_close import RETRY_NS
from pipeline.model.config import HedgeConfig, HedgeExitConfig
from pipeline.model.structs import Balance
from pipeline.trade_state import executor_reasons
from shm.layout import BOOK
from tests.worlds.execution_world import MS, Faults, World, make_config

D = Decimal


def quiet_world(step_s: int = 5) -> World:
    exit_ = HedgeExitConfig(max_loss_bps=D(100_000), forced_step_s=step_s)  # none by the engine's own decision
    world = World(9, config=make_config(detection={"hedge": HedgeConfig(exit=exit_)}))
    world.run(100)
    return world


def hedged_world(qty: str = "1", step_s: int = 5) -> World:
    world = quiet_world(step_s)
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


def unproved(world: World) -> None:
    """The feeds' clocks have not begun: no book was ever proved."""
    book = world.book

    def never(instrument_id: int) -> BookView | None:
        view = book(instrument_id)
        return None if view is None else BookView(view.words, 0)

    world.book = never  # type: ignore[method-assign]


def away(world: World) -> None:
    world.up["gateio_futures"] = False
    world.feed(SessionState(venue="gateio_futures", state="down", recv_mono_ns=world.now_ns, reason="test"))


def fenced(world: World) -> None:
    world.fenced = True


def lock(world: World, venue: str, free: str = "0") -> None:
    """Somebody's resting order on an account holds every coin but ``free``."""
    locked = world.venues[venue].balances["BTC"] - D(free)
    world.feed(
        Balance(venue=venue, asset="BTC", free=D(free), locked=locked, recv_mono_ns=world.now_ns + 1, source="ws")
    )


def locked_coins(world: World) -> None:
    for venue in ("gateio_spot", "mexc_spot"):
        lock(world, venue)


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
        (unproved, "gateio_spot BTCUSDT: no proof of its book yet", lambda w: delattr(w, "book")),
        (away, "gateio_futures BTCUSDT: the venue is not connected and reconciled", up_again),
        (fenced, "fenced: the guard has taken over", lambda w: setattr(w, "fenced", False)),
        (locked_coins, "free 0 BTC, 0.99 needed", lambda w: None),
        (too_thin, "no depth of a lot and the venues' minima within 10 bps", lambda w: setattr(w, "depth", D(2))),
        (pending, "own order not settled", lambda w: setattr(w, "faults", Faults())),
    ],
    ids=["no_book", "unproved", "away", "fenced", "locked_coins", "too_thin", "pending"],
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
    lock(world, "gateio_spot", "0.4")
    answer = attempt(world)
    assert answer.plan is not None
    assert [leg.qty for leg in answer.plan.legs] == [D("0.4"), D("0.4")] and answer.left == D("0.59")
    assert [leg.row.spec.venue for leg in answer.plan.legs] == ["gateio_spot", "gateio_futures"]


def sold_out(world: World) -> None:
    """Spot-spot trades have moved every coin of the pair from the hedge's own venue to another one."""
    mexc, gateio = world.venues["mexc_spot"], world.venues["gateio_spot"]
    for _ in range(200):
        there = gateio.balances["BTC"]
        if there < D("0.01"):
            break
        mexc.bid, mexc.ask = D("96.90"), D("97.00")  # the prices at the hedge's venues stay: it does not leave
        world.run(100)
        world.feed(world.offer("mexc_spot", "gateio_spot", min(there, D(5))))
        world.run(400)
    assert gateio.balances["BTC"] < D("0.01"), world.refusals[-3:]
    mexc.bid, mexc.ask = D("99.00"), D("101.00")
    world.run(3000)


def test_coins_that_lie_at_another_venue_are_sold_there() -> None:
    world = hedged_world()
    sold_out(world)
    answer = attempt(world)
    assert answer.plan is not None and answer.left == 0, answer.reason
    assert [leg.row.spec.venue for leg in answer.plan.legs] == ["mexc_spot", "gateio_futures"]
    close(world)
    world.run(1000)
    assert not world.core.ledger.hedges and not world.core.ledger.open_operations


@pytest.mark.parametrize("why", ["away", "doubtful", "of another hedge", "locked at its own"])
def test_another_venue_takes_the_coins_only_where_it_can_and_they_are_free(why: str) -> None:
    world = hedged_world()
    if why == "locked at its own":
        lock(world, "gateio_spot")  # nobody has moved them
    else:
        sold_out(world)
    core = world.core
    (hedge,) = core.ledger.hedges.values()
    if why == "away":
        world.up["mexc_spot"] = False
        world.feed(SessionState(venue="mexc_spot", state="down", recv_mono_ns=world.now_ns, reason="test"))
    elif why == "doubtful":
        core.recovery.account.doubts[("mexc_spot", "BTC")] = "test"
    elif why == "of another hedge":
        all_of_it = core.ledger.expected_balance("mexc_spot", "BTC")
        assert all_of_it is not None
        other = msgspec.structs.replace(hedge, operation_id="other", spot_venue="mexc_spot", qty=all_of_it)
        core.ledger.hedges["other"] = other
    core.context.now = world.now()
    answer = core.forced_close.attempt(hedge)
    assert answer.plan is None and "gateio_spot BTCUSDT: free 0" in answer.reason


def given_up(world: World) -> list[str]:
    return [one.text for one in world.reports if isinstance(one, Alert) and one.code == "close_given_up"]


def test_a_close_is_given_up_after_its_time() -> None:
    world = hedged_world()
    world.depth = D("0.001")
    close(world)
    hedge_id = next(iter(world.core.ledger.hedges))
    world.run(RETRY_NS / MS - 1000)
    (note,) = [one.what for one in executor_reasons(world.core) if "closed by command" in one.what]
    assert f"hedge {hedge_id} is being closed by command: within 50 bps" in note and "no depth of a lot" in note
    assert not given_up(world)
    world.run(2000)
    assert world.core.forced_close.wanted == ()
    (said,) = given_up(world)
    assert "no depth of a lot" in said and f"arb close {hedge_id}" in said
    (note,) = [one for one in executor_reasons(world.core) if "closed by command" in one.what]
    assert "is open: no depth of a lot" in note.what and note.solve.startswith(f"arb close {hedge_id}")
    world.depth = D(2)
    world.run(2000)
    assert world.core.ledger.hedges, "an operator asks again"


def thin_and_far(world: World) -> None:
    """Less than a lot at the best price, all else 30 bps away."""
    book = world.book

    def stepped(instrument_id: int) -> BookView | None:
        view = book(instrument_id)
        assert view is not None
        words = list(view.words)
        words[BOOK.bid_qty_fp] = words[BOOK.ask_qty_fp] = 1
        for price, sign in ((BOOK.bid_price_fp, -1), (BOOK.ask_price_fp, 1)):
            for level in (1, 2):
                words[price + level] = words[price] + sign * (words[price] * 30 // 10_000 + level)
        return BookView(words, view.proof_mono_ns)

    world.book = stepped  # type: ignore[method-assign]


def test_the_bound_of_a_close_widens_from_when_it_was_first_asked_and_a_dry_run_foresees_it() -> None:
    world = hedged_world()
    thin_and_far(world)
    (hedge,) = world.core.ledger.hedges.values()
    world.core.context.now = world.now()
    assert world.core.forced_close.attempt(hedge).plan is None
    foreseen = world.core.forced_close.foreseen(hedge)
    assert foreseen.plan is not None and foreseen.left == 0
    for _ in range(3):
        close(world)  # asked again it goes on
        world.run(3300)
        assert world.core.ledger.hedges
    world.run(1000)
    assert not world.core.ledger.hedges


def test_a_close_is_not_given_up_before_its_widest_bound_was_tried() -> None:
    world = hedged_world(step_s=30)
    thin_and_far(world)
    close(world)
    world.run(RETRY_NS / MS - 1000)
    assert world.core.ledger.hedges
    world.run(3000)
    assert not world.core.ledger.hedges and not given_up(world)


def test_the_hedge_of_an_entry_that_ends_long_after_all_were_to_be_closed_is_closed_too() -> None:
    world = quiet_world()
    world.faults = Faults(drop_response=1.0, drop_stream=1.0, rest_error=1.0)  # it fills, and nobody hears of it
    world.feed(world.offer("gateio_spot", "gateio_futures", D(1)))
    close(world)
    world.run(RETRY_NS / MS + 5000)
    ledger = world.core.ledger
    assert ledger.open_operations and not ledger.hedges and world.venues["gateio_futures"].position
    world.faults = Faults()
    world.run(10_000)
    assert not ledger.open_operations and not ledger.hedges and world.venues["gateio_futures"].position == 0
    assert [one.record.closes for one in ledger.operations.values() if one.record.closes]
    assert world.core.forced_close.wanted == ()


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
