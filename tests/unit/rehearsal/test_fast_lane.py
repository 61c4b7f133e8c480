"""The fast path's rehearsal goes the whole way, every time, and leaves nothing behind."""

from __future__ import annotations

import sys

import pytest

from pipeline.execution.records import OperationRecord, OrderIntentRecord
from pipeline.rehearsal import fast_lane
from pipeline.rehearsal.fast_lane import PAUSE_MAX_NS, ROUNDS, SHARE, FastLane


@pytest.fixture
def lane() -> FastLane:
    return FastLane(lambda payloads: None)


def done(lane: FastLane) -> int:
    """Rehearsals so far: each writes an operation and two intents."""
    return lane._world.journal.next_seq // 3


def test_every_rehearsal_writes_the_records_and_both_orders() -> None:
    sent: list[list[bytes]] = []
    lane = FastLane(sent.append)
    lane.warm_up()
    assert len(sent) == ROUNDS
    bought, sold = sent[-1]
    assert bought.startswith(b"BTCUSDT BUY ") and bought.endswith(b" 0.5 at 99.5")
    assert sold.startswith(b"BTC_USDT SELL ") and sold.endswith(b" 0.5 at 99.6")
    operation, *intents = lane._world.journal.recent(3)
    assert isinstance(operation, OperationRecord) and operation.pair == "BTC/USDT"
    assert [type(intent) for intent in intents] == [OrderIntentRecord] * 2


def test_nothing_of_a_rehearsal_stays(lane: FastLane) -> None:
    lane.warm_up()
    before = sys.getallocatedblocks()
    for _ in range(2_000):
        lane.once()
    assert sys.getallocatedblocks() - before < 1_000, "an executor collects no garbage"
    assert not lane._world.core.ledger.open_operations and not lane._world.core.ledger.orders


def test_rehearsals_take_a_hundredth_of_the_time(lane: FastLane, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns, takes_ns = 10**9, 50_000

    def clock() -> int:
        nonlocal now_ns
        now_ns += takes_ns  # each look: one before a rehearsal, one behind it
        return now_ns

    monkeypatch.setattr(fast_lane, "mono_ns", clock)
    lane.turn()
    count, began_ns = done(lane), now_ns
    while done(lane) == count:
        lane.turn()
    assert (SHARE - 2) * takes_ns <= now_ns - began_ns <= (SHARE + 2) * takes_ns
    while done(lane) == count + 1:
        lane.turn()
    takes_ns = 10**9  # the host stands still for a second, in a rehearsal
    lane.turn()
    takes_ns, count = 1, done(lane)
    lane.turn()
    assert done(lane) == count
    now_ns += PAUSE_MAX_NS
    lane.turn()
    assert done(lane) == count + 1, "the pause behind it is bounded"


def test_what_raises_is_not_tried_at_once_again() -> None:
    def broken(payloads: list[bytes]) -> None:
        raise BrokenPipeError

    lane = FastLane(broken)
    with pytest.raises(BrokenPipeError):
        lane.turn()
    lane.turn()
