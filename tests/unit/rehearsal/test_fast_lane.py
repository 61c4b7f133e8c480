"""The fast path's rehearsal goes the whole way, every time, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from pipeline.execution.records import OperationRecord, OrderIntentRecord
from pipeline.rehearsal import fast_lane
from pipeline.rehearsal.fast_lane import PAUSE_MAX_NS, SHARE, FastLane


@pytest.fixture
def lane() -> Iterator[FastLane]:
    made = FastLane()
    yield made
    made.close()


def done(lane: FastLane) -> int:
    """Rehearsals so far: each writes an operation and two intents."""
    return lane._world.journal.next_seq // 3


def test_every_rehearsal_writes_the_records_and_both_orders(lane: FastLane) -> None:
    lane.warm_up()
    bought, sold = lane.once()
    assert bought.startswith(b"BTCUSDT BUY ") and bought.endswith(b" 0.5 at 99.5")
    assert sold.startswith(b"BTC_USDT SELL ") and sold.endswith(b" 0.5 at 99.6")
    operation, *intents = lane._world.journal.recent(3)
    assert isinstance(operation, OperationRecord) and operation.pair == "BTC/USDT"
    assert [type(intent) for intent in intents] == [OrderIntentRecord] * 2


def test_nothing_of_a_rehearsal_stays(lane: FastLane) -> None:
    lane.warm_up()
    before, files = sys.getallocatedblocks(), len(os.listdir("/proc/self/fd"))
    for _ in range(2_000):
        lane.once()
    assert sys.getallocatedblocks() - before < 1_000, "an executor collects no garbage"
    assert len(os.listdir("/proc/self/fd")) == files
    assert not lane._world.core.ledger.open_operations and not lane._world.core.ledger.orders
    lane.close()
    assert len(os.listdir("/proc/self/fd")) == files - 4


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


def test_a_connection_of_its_own_that_breaks_is_not_tried_at_once_again(lane: FastLane) -> None:
    (ours, theirs), _ = lane._pairs
    os.close(theirs)
    lane._pairs[0] = (ours, os.open("/dev/null", os.O_WRONLY))
    with pytest.raises(OSError):
        lane.turn()
    lane.turn()


def test_where_loopback_is_forbidden_a_pair_of_sockets_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError("no loopback here")

    monkeypatch.setattr(socket, "create_server", forbidden)
    lane = FastLane()
    lane.warm_up()
    lane.close()
