"""The guard stands in for a dead executor: on one virtual clock, judged by the simulated venues' ledger."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest

from pipeline.execution.core_context import epoch_of
from pipeline.execution.events import BookView
from pipeline.execution.records import FillRecord, OperationResultRecord, OrderIntentRecord, Outcome, Purpose
from pipeline.takeover import Takeover, anything_open
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from shm.layout import BOOK
from tests.worlds.external_world import FUTURES, MID, external_world, hedge, judge, venue_delta

D = Decimal


def takes_over(world: VirtualWorld, hedges: tuple[str, ...] | None = None, limit_ms: float = 60_000) -> Takeover:
    """The executor dies, the guard's core does what a takeover wants, until it is done."""
    world.take_over()
    takeover = Takeover(world.core, hedges)

    def turn() -> bool:
        for command in takeover.commands(world.clock.mono_ns(), "test"):
            world.feed(command)
        return takeover.done

    assert world.run_until(turn, limit_ms=limit_ms), takeover.result()
    assert takeover.result().ended
    return takeover


def flat(world: VirtualWorld) -> bool:
    """The venues' exposure is what the guard's core lists as remainders below every minimum, and nothing else."""
    return venue_delta(world, "BTC") == world.core.positions.targets().get("BTC", D(0))


def half_done(world: VirtualWorld) -> None:
    """An operation whose bought leg has filled, and whose sold one is on its way for longer than a restart takes."""
    before = venue_delta(world, "BTC")
    world.arm(kind="delay_request", venue="gateio_spot", target="place", count=1, delay_ms=2600)
    world.market.move("gateio_spot", "BTC_USDT", D(64000))  # a book later than our last fill
    world.market.move("mexc_spot", "BTCUSDT", D(63600))
    world.run(50)
    offered = world.opportunity("mexc_spot", "gateio_spot", "BTC/USDT", qty=D("0.02"))
    assert offered is not None
    world.feed(offered)
    world.run(100)
    assert world.core.ledger.open_operations, world.refusals
    assert venue_delta(world, "BTC") == before + D("0.02")


def test_a_naked_leg_is_closed_and_the_next_executor_knows_every_fill() -> None:
    world = external_world()
    half_done(world)
    takeover = takes_over(world)
    assert takeover.result().flat and len(takeover.result().orders) >= 1
    assert flat(world)
    world.give_back()
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    world.run(3000)
    judge(world)


def on_snapshots(world: VirtualWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the books are the venues' own by REST, which no feed has numbered."""
    proved = world.book

    def book(instrument_id: int) -> BookView | None:
        view = proved(instrument_id)
        if view is None:
            return None
        words = list(view.words)
        words[BOOK.seq] = 0
        return BookView(words, view.proof_mono_ns)

    monkeypatch.setattr(world, "book", book)


def test_the_prices_of_a_plan_on_snapshots_bound_what_its_coins_are_sold_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bid at a tenth of the price, and no other book of the pair: that is no market."""
    world = external_world()
    hedge(world)
    world.stalled.add("mexc_spot")
    world.links["mexc_spot"].disconnect("gone")
    world.run(6000)
    on_snapshots(world, monkeypatch)
    since = len(world.ledger.of_kind("fill"))

    def sold() -> list[Decimal]:
        rows = world.ledger.of_kind("fill")[since:]
        return [row["price"] for row in rows if row["venue"] == "gateio_spot"]

    world.take_over()
    world.links["mexc_spot"].disconnect("gone")
    takeover = Takeover(world.core, None)

    def turn() -> bool:
        for command in takeover.commands(world.clock.mono_ns(), "test"):
            world.feed(command)
        return world.position(FUTURES, "BTC_USDT") == 0

    assert world.run_until(turn, limit_ms=10_000, step_ms=1) and not sold()
    (operation,) = world.core.ledger.open_operations.values()
    assert all(leg.book_seq == 0 < leg.proof_mono_ns for leg in operation.record.legs)
    world.market.quote("gateio_spot", "BTC_USDT", Quote(MID / 10, qty=D("0.5")))
    world.stalled.add(FUTURES)
    world.run(10_000)  # the contract's book is dead by then
    assert not sold()
    world.stalled.discard(FUTURES)
    world.market.quote("gateio_spot", "BTC_USDT", Quote(MID, qty=D("0.5")))
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=60_000)
    assert sold() and min(sold()) > MID * D("0.99")


def test_hedges_are_closed_with_both_legs_and_no_coin_is_sold_twice() -> None:
    world = external_world()
    hedge(world)
    hedge(world)
    before = len(world.ledger.of_kind("fill"))
    result = takes_over(world).result()
    assert len(result.closed) == 2 and not result.left
    assert world.position(FUTURES, "BTC_USDT") == 0 and flat(world)
    ours = [row for row in world.ledger.of_kind("fill")[before:]]
    assert ours and all(row["client_id"].startswith("g") and epoch_of(row["client_id"]) for row in ours)
    world.give_back()
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    judge(world)


def orders_at_the_venues(world: VirtualWorld, since: int) -> list[tuple[str, str, int]]:
    """(kind of row, venue, mono ns) of the requests for orders and the fills, in the order of their coming."""
    rows = [row for row in world.ledger.rows[since:] if row["kind"] in ("request", "fill")]
    return [
        (row["kind"], row["venue"], row["mono_ns"])
        for row in rows
        if row["kind"] == "fill" or row["operation"] == "place"
    ]


def test_futures_are_closed_first_and_spot_follows_their_fills() -> None:
    world = external_world()
    hedge(world)
    since = len(world.ledger.rows)
    takes_over(world)
    rows = [(kind, venue) for kind, venue, _ in orders_at_the_venues(world, since)]
    assert rows == [(kind, venue) for venue in (FUTURES, "gateio_spot") for kind in ("request", "fill")]
    assert flat(world)
    purposes = [r.purpose for e in world.guard_entries if isinstance(r := e.record, OrderIntentRecord)]
    assert purposes == [Purpose.FLATTEN, Purpose.FLATTEN]
    results = [e.record for e in world.guard_entries if isinstance(e.record, OperationResultRecord)]
    assert [result.outcome for result in results] == [Outcome.COMPLETED]


def contract_delayed(world: VirtualWorld) -> None:
    """Half of another hedge, whose futures order is on its way for longer than a restart takes."""
    world.arm(kind="delay_request", venue=FUTURES, target="place", count=1, delay_ms=2600)
    world.market.move(FUTURES, "BTC_USDT", MID * D("1.0065"))  # a book later than our last fill
    world.run(50)
    offered = world.opportunity("mexc_spot", FUTURES, "BTC/USDT", qty=D("0.02"))
    assert offered is not None
    world.feed(offered)
    world.run(100)


def test_a_contract_is_closed_beside_another_operations_order_whose_outcome_is_not_known() -> None:
    world = external_world()
    hedge(world)
    contract_delayed(world)
    (other,) = world.core.ledger.open_operations
    world.take_over()
    takeover = Takeover(world.core, None)

    def closed() -> bool:
        for command in takeover.commands(world.clock.mono_ns(), "test"):
            world.feed(command)
        return not world.core.ledger.hedges and abs(venue_delta(world, "BTC")) < D("0.001")

    assert world.run_until(closed, limit_ms=60_000), takeover.result()
    assert [order.intent.operation_id for order in world.core.ledger.unsettled.values()] == [other]
    assert takeover.proven_closed, "an executor waits for that one as well"
    assert world.run_until(lambda: closed() and takeover.done, limit_ms=60_000) and flat(world)
    world.give_back()
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    judge(world)


def test_a_futures_leg_that_is_refused_leaves_the_hedge_whole_until_it_is_taken() -> None:
    world = external_world()
    hedge(world)
    since, held = len(world.ledger.rows), world.position(FUTURES, "BTC_USDT")
    world.arm(kind="reject", venue=FUTURES, target="place", count=6, reason="price_band")
    world.take_over()
    takeover = Takeover(world.core, None)
    refused: list[str] = []

    def turn() -> bool:
        for command in takeover.commands(world.clock.mono_ns(), "test"):
            world.feed(command)
        if world.position(FUTURES, "BTC_USDT") == held:
            assert not [row for row in world.ledger.rows[since:] if row["kind"] == "fill"], "no leg goes alone"
            refused.extend(takeover.why_left().values())
        return takeover.done

    assert world.run_until(turn, limit_ms=60_000), takeover.why_left()
    assert any("rejected" in reason for reason in refused)
    assert flat(world) and world.position(FUTURES, "BTC_USDT") == 0
    rows = orders_at_the_venues(world, since)
    asked = [at_ns for kind, venue, at_ns in rows if (kind, venue) == ("request", FUTURES)]
    pauses = [later - sooner for sooner, later in itertools.pairwise(asked)]
    assert len(asked) == 7 and pauses[-1] > 4 * pauses[0], "what is refused is not sent at full pace"
    world.give_back()
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    judge(world)


def test_a_spot_leg_that_is_refused_is_sold_all_the_same_and_no_contract_comes_back() -> None:
    world = external_world()
    hedge(world)
    since = len(world.ledger.rows)
    world.arm(kind="reject", venue="gateio_spot", target="place", count=3, reason="insufficient_balance")
    result = takes_over(world).result()
    assert len(result.closed) == 1 and flat(world)
    fills = [venue for kind, venue, _ in orders_at_the_venues(world, since) if kind == "fill"]
    assert fills == [FUTURES, "mexc_spot"], "its own venue had refused twice"
    world.give_back()
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    judge(world)


def test_spot_is_sold_as_far_as_the_futures_leg_has_filled() -> None:
    world = external_world()
    hedge(world)
    since, sizes = len(world.ledger.rows), (D("0.01"), D("0.5"))
    thin, deep = (Quote(MID * D("1.006"), step_bps=D(100), qty=size) for size in sizes)
    world.arm(kind="delay_request", venue=FUTURES, target="place", count=1, delay_ms=150)
    world.take_over()
    takeover = Takeover(world.core, None)

    def turn() -> bool:
        for command in takeover.commands(world.clock.mono_ns(), "test"):
            world.feed(command)
        return takeover.done

    sent = lambda: bool(takeover.result().orders)  # noqa: E731
    assert world.run_until(lambda: turn() or sent(), limit_ms=10_000)
    world.market.quote(FUTURES, "BTC_USDT", thin)
    fills = lambda: [row for row in world.ledger.rows[since:] if row["kind"] == "fill"]  # noqa: E731
    assert world.run_until(lambda: turn() or len(fills()) >= 2, limit_ms=10_000)
    assert [(row["venue"], D(str(row["qty"]))) for row in fills()] == [(FUTURES, sizes[0]), ("gateio_spot", sizes[0])]
    world.market.quote(FUTURES, "BTC_USDT", deep)
    assert world.run_until(turn, limit_ms=60_000), takeover.why_left()
    assert flat(world) and world.position(FUTURES, "BTC_USDT") == 0


def test_hedges_that_are_hedged_may_be_held_and_naked_legs_are_closed_all_the_same() -> None:
    world = external_world()
    hedge(world)
    half_done(world)
    result = takes_over(world, hedges=()).result()
    assert result.flat and not result.closed
    assert list(world.core.ledger.hedges) and world.position(FUTURES, "BTC_USDT") != 0
    assert flat(world)
    world.give_back()
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    judge(world)


def test_a_guard_opens_nothing_whatever_is_offered() -> None:
    world = external_world()
    hedge(world)
    world.take_over()
    takeover = Takeover(world.core, ())
    world.finder_on = True
    world.market.move("mexc_spot", "BTCUSDT", D(63000))
    for _ in range(40):
        for command in takeover.commands(world.clock.mono_ns(), "test"):
            world.feed(command)
        world.run(50)
    intents = [entry.record for entry in world.guard_entries if isinstance(entry.record, OrderIntentRecord)]
    assert not [intent for intent in intents if intent.purpose is Purpose.ENTRY]
    assert takeover.done and not takeover.result().orders


@pytest.mark.parametrize("action", [0, 2, 5, 9, 14])
def test_a_guard_that_dies_goes_on_with_its_own_journal(action: int) -> None:
    world = external_world()
    hedge(world)
    half_done(world)
    world.take_over()
    world.crash_after = action
    takeover = Takeover(world.core, None)

    def turn() -> bool:
        nonlocal takeover
        if takeover.core is not world.core:
            takeover = Takeover(world.core, None)
        for command in takeover.commands(world.clock.mono_ns(), "test"):
            world.feed(command)
        return takeover.done and takeover.core is world.core

    assert world.run_until(turn, limit_ms=60_000)
    assert flat(world) and not world.core.ledger.hedges
    world.give_back()
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    judge(world)


def test_a_second_takeover_before_an_executor_came_folds_both_once() -> None:
    world = external_world()
    half_done(world)
    takes_over(world)
    world.run(500)
    takes_over(world)
    world.give_back()
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    fills = [entry.record for entry in world.entries if isinstance(entry.record, FillRecord)]
    assert len({(f.venue, f.symbol, f.trade_id) for f in fills}) == len(fills)
    assert {entry.boot_epoch for entry in world.entries} >= {entry.boot_epoch for entry in world.guard_entries}
    judge(world)


def test_a_takeover_has_nothing_to_do_where_nothing_is_open() -> None:
    world = external_world()
    assert not anything_open(world.core.ledger, close=True)
    hedge(world)
    assert anything_open(world.core.ledger, close=True) and not anything_open(world.core.ledger, close=False)
    half_done(world)
    assert anything_open(world.core.ledger, close=False)
