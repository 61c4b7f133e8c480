"""The fast path's rehearsal goes the whole way, every time, and leaves nothing behind."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from pipeline.execution.records import OperationRecord, OrderIntentRecord
from pipeline.rehearsal import fast_lane
from pipeline.rehearsal.fast_lane import FILLING, PAUSE_MAX_NS, ROUNDS, SHARE, FastLane
from tests.naive.orders import hex_signature, unframed
from workers.executor.loopback import Loopback


@pytest.fixture
def wires() -> Iterator[Loopback]:
    made = Loopback()
    yield made
    made.close()


@pytest.fixture
def lane(wires: Loopback) -> FastLane:
    return FastLane(wires)


class Kept:
    """What came through, of each rehearsal."""

    def __init__(self) -> None:
        self.pairs = [socket.socketpair() for _ in range(2)]
        self.fds = (self.pairs[0][0].fileno(), self.pairs[1][0].fileno())
        self.seals = (0, 0)
        self.came: list[list[bytes]] = []

    def drain(self) -> None:
        self.came.append([theirs.recv(4096) for _, theirs in self.pairs])

    def close(self) -> None:
        for end in (*self.pairs[0], *self.pairs[1]):
            end.close()


def done(lane: FastLane) -> int:
    """Rehearsals so far: each writes an operation and two intents."""
    return lane._world.journal.next_seq // 3


def test_every_rehearsal_writes_the_records_and_both_orders() -> None:
    kept = Kept()
    lane = FastLane(kept)
    lane.warm_up()
    kept.close()
    assert len(kept.came) == ROUNDS
    bought, sold = kept.came[-1][0], unframed(kept.came[-1][1])
    assert bought.startswith(b"BTCUSDT BUY ") and b" 0.5 at 99.5" in bought
    assert sold.startswith(b"BTC_USDT SELL ") and b" 0.5 at 99.6" in sold
    signed, rest = bought[: bought.index(FILLING) + len(FILLING)], bought[bought.index(FILLING) + len(FILLING) :]
    assert rest == hex_signature(b"rehearsal", signed).encode() + FILLING
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
    kept = Kept()
    lane = FastLane(kept)
    kept.close()
    with pytest.raises(OSError, match="nothing was sent"):
        lane.turn()
    lane.turn()
