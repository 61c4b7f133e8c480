"""What the executor that has ended left: its ledger by the journals, and what is half done, by its last word where that
is clean."""

from __future__ import annotations

from pathlib import Path

from pipeline.execution.journal import segment_indices
from pipeline.execution.journal.guard_journal import missing, read_guard_journal
from pipeline.execution.ledger import Ledger
from pipeline.execution.settled.checkpoint import recover
from pipeline.model.errors import ArbitrageEngineError
from workers.executor_file import FILE_NAME, read_executor_state
from workers.last_run.journal_rows import (
    HELD_STATES,
    half_done_text,
    held_by_operator,
    open_operations,
    recoveries,
)

UNREADABLE = "the journal cannot be read, so that what is open is not known"


def replay(state_dir: Path) -> Ledger:
    """The ledger by a replay of both journals: a long one takes longer than a process may be silent.

    Read twice where it fails: the recorder removes segments behind a newer checkpoint than this has begun with. What is
    damaged fails again. Raises ArbitrageEngineError, OSError."""
    try:
        return _replay_once(state_dir)
    except (ArbitrageEngineError, OSError):
        return _replay_once(state_dir)


def _replay_once(state_dir: Path) -> Ledger:
    ledger = recover(state_dir / "journal").ledger
    for entry in missing(ledger, read_guard_journal(state_dir)):
        ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
    return ledger


def replayed(state_dir: Path) -> Ledger | None:
    """The ledger by a replay of the journal; None where there is no journal, or it cannot be read."""
    try:
        ledger = replay(state_dir)
    except (ArbitrageEngineError, OSError):
        return None
    return ledger if ledger.records else None


def left_open_text(state_dir: Path) -> str:
    """What stays open at the venues, in words, by the executor's last word, else by the journals; "" where nothing
    does. What cannot be read is not nothing."""
    state = read_executor_state(state_dir)
    if state is not None and state.stopped:
        hedges, positions, repairs = len(state.hedges), len(state.positions), len(state.recoveries)
        rest = half_done_text(state.open_operations, state.unsettled_orders)
    else:
        try:
            ledger = replay(state_dir)
        except (ArbitrageEngineError, OSError):
            return UNREADABLE
        if not ledger.records:
            return UNREADABLE if (state_dir / FILE_NAME).exists() else ""  # nobody has traded yet
        hedges, repairs = len(ledger.hedges), len(recoveries(ledger))
        positions = 0 if state is None else len(state.positions)
        rest = half_done_text(open_operations(ledger), len(ledger.unsettled))
    counts = {"hedges": hedges, "positions": positions, "recoveries": repairs}
    return ", ".join([*(f"{count} {what}" for what, count in counts.items() if count), *([rest] if rest else [])])


def half_done(state_dir: Path) -> str:
    """What is open and waits for no operator, in words; "" where nothing is. A journal that cannot be read is not
    nothing. Replays the journal unless the executor has stopped in order with nothing open."""
    state = read_executor_state(state_dir)
    if state is not None and state.stopped and not state.unsettled_orders:
        held = {row["operation_id"] for row in state.recoveries if row["state"] in HELD_STATES}
        if all(row["operation_id"] in held for row in state.open_operations):
            return ""  # no replay of a long journal at every stop
    if not segment_indices(state_dir / "journal"):
        return ""
    try:
        ledger = replay(state_dir)
    except (ArbitrageEngineError, OSError):
        return UNREADABLE
    held = held_by_operator(ledger)
    rows = [row for row in open_operations(ledger) if row["operation_id"] not in held]
    unsettled = [order for order in ledger.unsettled.values() if order.intent.operation_id not in held]
    return half_done_text(rows, len(unsettled))
