"""The recorder: journal and opportunity ring into the SQLite ledger. Parks between rounds; nothing waits for it.

The journal is read from the position that the ledger stored in its last transaction, so nothing is lost or doubled by
a kill. The opportunity ring belongs to detector and executor: the recorder reads it lossily and counts what it missed.
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.execution.journal import JournalReader
from pipeline.model.enums import OpportunityType
from pipeline.model.errors import JournalError
from shm import layout as ly
from shm.errors import ShmError
from workers.base import WorkerContext, run_worker
from workers.ledger import Ledger

if TYPE_CHECKING:
    from shm.segment import Segment

ROUND_MS = 100
RING_ITEMS_PER_ROUND = 512
OPPORTUNITY_NAMES = {kind.value: kind.name.lower() for kind in OpportunityType}
STOP_ROUNDS_MAX = 50  # at the stop the journal is read to its end, bounded


def _float(word: np.int64) -> float:
    return float(np.array([word], dtype=np.int64).view(np.float64)[0])


def opportunity_row(words: np.ndarray[Any, np.dtype[np.int64]], epoch: int, wall_minus_mono_ns: int) -> tuple[Any, ...]:
    """One record of the ring (int64[64]) as a row of ``opportunities``."""
    legs = []
    for number in range(min(int(words[ly.OP_LEG_COUNT]), ly.LEG_CAPACITY)):
        at = ly.OP_LEGS + number * ly.LEG_WORDS
        legs.append(
            {
                "instrument": int(words[at + ly.LEG_INSTRUMENT]),
                "side": int(words[at + ly.LEG_SIDE]),
                "limit_price_fp": int(words[at + ly.LEG_LIMIT_PRICE_FP]),
                "qty_fp": int(words[at + ly.LEG_QTY_FP]),
                "best_price_fp": int(words[at + ly.LEG_BEST_PRICE_FP]),
                "book_seq": int(words[at + ly.LEG_BOOK_SEQ]),
                "update_id": int(words[at + ly.LEG_UPDATE_ID]),
                "proof_mono_ns": int(words[at + ly.LEG_PROOF_MONO_NS]),
                "recv_mono_ns": int(words[at + ly.LEG_RECV_MONO_NS]),
            }
        )
    kind = int(words[ly.OP_TYPE])
    name = OPPORTUNITY_NAMES.get(kind, str(kind))
    detected = int(words[ly.OP_DETECT_MONO_NS])
    return (
        epoch,
        int(words[ly.OP_ID]),
        detected + wall_minus_mono_ns,
        name,
        int(words[ly.OP_PAIR]),
        _float(words[ly.OP_EDGE_BPS]),
        _float(words[ly.OP_ENTRY_EDGE_BPS]),
        _float(words[ly.OP_PROFIT_QUOTE]),
        detected,
        int(words[ly.OP_TRIGGER_RECV_MONO_NS]),
        legs,
    )


class RingReader:
    """The lossy second reader of the opportunity queue."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._segment: Segment | None = None
        self._next = 0
        self._out = np.zeros(ly.OPPORTUNITY_WORDS, dtype=np.int64)
        self.lost = 0

    def poll(self) -> list[tuple[Any, ...]]:
        """What is new since the last call, at most ``RING_ITEMS_PER_ROUND`` rows."""
        from shm.queue import attach_queue, read_at

        if self._segment is None or not self._segment.is_current():
            try:
                self._segment = attach_queue(self._instance, "opps")
            except ShmError:
                return []
            self._next = max(0, int(self._segment.words[ly.Q_TAIL]) - int(self._segment.words[ly.Q_CAPACITY]))
        words, epoch = self._segment.words, self._segment.epoch
        offset = time.time_ns() - time.monotonic_ns()
        rows: list[tuple[Any, ...]] = []
        while len(rows) < RING_ITEMS_PER_ROUND:
            status = int(read_at(words, 0, self._next, self._out))
            if status == 0:
                break
            if status == 1:
                rows.append(opportunity_row(self._out, epoch, offset))
            else:
                self.lost += 1
            self._next += 1
        return rows


def _encode(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    import msgspec

    return [(*row[:-1], msgspec.json.encode(row[-1]).decode()) for row in rows]


def warm(dialects: Sequence[str]) -> None:
    """Loads the one kernel that the ring reader calls."""
    from shm.queue import init_queue, queue_words, read_at

    words = np.zeros(queue_words(2, ly.OPPORTUNITY_WORDS), dtype=np.int64)
    init_queue(words, 0, 2, ly.OPPORTUNITY_WORDS, 0)
    read_at(words, 0, 0, np.zeros(ly.OPPORTUNITY_WORDS, dtype=np.int64))


def run(ctx: WorkerContext) -> None:
    """Rounds of journal and ring until the stop; then the rest of the journal."""
    ledger = Ledger(ctx.state_dir / "ledger.sqlite")
    reader = JournalReader(ctx.journal_dir(), ledger.position())
    ring = RingReader(ctx.instance)
    records = ctx.metrics.counter("journal_records", "journal records in the ledger")
    opportunities = ctx.metrics.counter("opportunities_recorded", "opportunities in the ledger")
    lost = ctx.metrics.counter("opportunities_lost", "opportunities overwritten before the recorder saw them")
    poll = select.poll()
    poll.register(ctx.stop_fd, select.POLLIN)
    ctx.liveness.parked = True
    ctx.ready()

    def one_round() -> int:
        entries = reader.poll()
        if entries:
            ledger.apply(entries, reader.position)
            ctx.metrics.inc(records, len(entries))
        rows = ring.poll()
        if rows:
            ledger.opportunities(_encode(rows))
            ctx.metrics.inc(opportunities, len(rows))
        ctx.metrics.set(lost, ring.lost)
        return len(entries)

    try:
        while not ctx.stop_requested():
            one_round()
            ctx.progress()
            poll.poll(ROUND_MS)
        for _ in range(STOP_ROUNDS_MAX):
            if not one_round():
                break
    except JournalError as error:
        ledger.note("journal_error", str(error))
        raise
    finally:
        reader.close()
        ledger.close()


def main() -> int:
    return run_worker("recorder", run)


if __name__ == "__main__":
    sys.exit(main())
