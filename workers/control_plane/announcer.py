"""What the supervisor says to operators: READY, changes of the one answer, alerts, trades of note, what stays open.

On stderr (the terminal of ``arb up``, the journal of systemd), in the ``STATUS=`` of systemd, and as events for
``arb up --json``. Nothing here decides anything: the answer is that of ``workers/tradable.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pipeline.market_data import MarketDataAggregator
from pipeline.model.config import EngineConfig
from pipeline.trade_state import TradeState, with_solve
from shm.errors import ShmError
from shm.logring import LogReader, LogRing
from shm.metrics import Metrics
from workers.base import LOG_LEVELS, Notifier
from workers.control_plane.left_open import not_ours_text, unwatched_lines
from workers.executor_file import ExecutorState, pnl_text, read_executor_state
from workers.last_run.half_done import replayed
from workers.last_run.journal_rows import half_done_text, left_by_journal
from workers.output import ALERT, TRADE, LogLines, journal_prefix
from workers.tradable import Answer, InstanceReasons, fields

NOTES_MAX = 50
NOTES_SHOWN = 10
LOOK_S = 1.0
LINES_PER_LOOK = 20  # of one process; a flood must not bury the rest
LEVEL_NAMES = {number: name for name, number in LOG_LEVELS.items()}
Event = Callable[[dict[str, Any]], None]


class Announcer:
    """Speaks for one instance. ``units``: systemd shows what the other processes say, so it is not repeated here."""

    def __init__(
        self, instance: str, state_dir: Path, config: EngineConfig, *, units: bool, on_event: Event | None = None
    ) -> None:
        self.notes: list[str] = []
        self._log: LogRing | None = None
        self._instance = instance
        self._state_dir = state_dir
        self._config = config
        self._units = units
        self._on_event = on_event
        self._notifier = Notifier()
        self._lines = LogLines()
        self._reasons = InstanceReasons(instance, state_dir)
        self._readers: dict[str, LogReader] = {}
        self._said: tuple[str, ...] = ()
        self._was_ready = False
        self._next_s = 0.0

    def open(self) -> None:
        """Create the supervisor's log ring."""
        self._log = LogRing.create(self._instance, "supervisor")

    def close(self) -> None:
        """Close the log ring."""
        if self._log is not None:
            self._log.close()

    def say(self, level: str, text: str) -> None:
        """One line of the supervisor's own: into the notes of ``run.json``, the log ring and stderr."""
        if self._log is not None:
            self._log.text(LOG_LEVELS[level], text)
        self._write("supervisor", _shown(level, text), text)
        self._tell("supervisor", level, text)

    def _tell(self, process: str, level: str, text: str) -> None:
        """A line as an event: alerts of the executor and errors are alerts, warnings are notes."""
        if text.startswith(ALERT) or LOG_LEVELS[level] >= LOG_LEVELS["error"]:
            self._event({"event": "alert", "process": process, "level": level, "text": text.removeprefix(ALERT)})
        elif LOG_LEVELS[level] >= LOG_LEVELS["warning"]:
            self._event({"event": "note", "process": process, "level": level, "text": text})

    def _write(self, process: str, level: str, text: str) -> None:
        self.notes = [*self.notes[-(NOTES_MAX - 1) :], f"{level}: {text}"]
        self._lines.write(f"{journal_prefix(level)}{process}: {level}: {text}")

    def _event(self, event: dict[str, Any]) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def last_counters(self) -> dict[str, dict[str, int]]:
        """Counters of detector and executor: what was found and why it was refused, for views after their end."""
        found = Metrics.attach_all(self._instance)
        return {name: found[name].counters() for name in ("detector", "executor") if name in found}

    # --- the answer ---

    def answer(self, described: Mapping[str, Any]) -> Answer:
        """Whether the instance can trade, now."""
        return self._reasons.answer(described, running=True)

    def look(self, describe: Callable[[], Mapping[str, Any]], now_s: float, *, all_ready: bool) -> None:
        """Once a second: say what the processes said, and what has changed about the answer (``describe``: content of
        ``run.json``, made where it is needed). Before all processes were READY for the first time nothing but that is
        said."""
        first = all_ready and not self._was_ready
        if now_s < self._next_s and not first:
            return
        self._next_s = now_s + LOOK_S
        self._attach_books()
        if self._was_ready or all_ready:
            described = describe()
            answer = self.answer(described)
            if self._was_ready or answer.state is not TradeState.STOPPED or not _settling(answer):
                self._changed(answer, described)
                self._was_ready = True
        if not self._units:
            self._alerts()

    def _attach_books(self) -> None:
        if self._reasons.market is None:
            self._reasons.market = MarketDataAggregator(self._instance, self._config)
        try:
            self._reasons.market.attach()
            self._reasons.market.refresh()
        except ShmError:  # not there yet, or being replaced
            self._reasons.market = None

    def _changed(self, answer: Answer, described: Mapping[str, Any]) -> None:
        known = (str(answer.state), *sorted(re.sub(r"\d+", "#", reason.what) for reason in answer.reasons))
        if known == self._said:
            return
        before, self._said = self._said, known
        self._notifier.send(f"STATUS={answer.text()}")
        self._event(
            {
                "event": "state",
                "state": str(answer.state),
                "reasons": [fields(reason) for reason in answer.reasons],
                "notes": [fields(reason) for reason in answer.notes],
            }
        )
        if answer.state is TradeState.READY:
            venues = ", ".join(described.get("venues", {}))
            self._write("supervisor", "info", f"READY: mode {described.get('mode')}, {venues}; `arb status`, `arb top`")
            for note in answer.notes:
                self._write("supervisor", "info", f"note: {with_solve(note.what, note.solve)}")
            return
        for reason in answer.reasons:
            if re.sub(r"\d+", "#", reason.what) not in before[1:]:
                text = f"{str(answer.state).upper()}: {reason.what}; solve: {reason.solve}"
                self._write("supervisor", "warning", text)
        if set(known[1:]) < set(before[1:]):
            self._write("supervisor", "info", answer.text())

    # --- alerts and trades ---

    def _alerts(self) -> None:
        """Warnings (notes), alerts and errors of every process, and the executor's lines about trades."""
        for process in (
            "executor",
            "guard",
            "detector",
            "poller",
            "recorder",
            *(f"feed.{f}" for f in self._config.feeds),
        ):
            reader = self._reader(process)
            for _ in range(LINES_PER_LOOK):
                record = None if reader is None else reader.read()
                if record is None:
                    break
                if record.code:
                    continue
                level = LEVEL_NAMES.get(record.level, "info")
                if record.text.startswith(TRADE):
                    self._write(process, level, record.text)
                    self._event({"event": "trade", "text": record.text.removeprefix(TRADE)})
                elif record.level >= LOG_LEVELS["warning"]:
                    self._write(process, _shown(level, record.text), record.text)
                    self._tell(process, level, record.text)

    def _reader(self, process: str) -> LogReader | None:
        known = self._readers.get(process)
        if known is not None and known.segment.is_current():
            return known
        try:
            self._readers[process] = LogReader.attach(self._instance, process)
        except ShmError:
            return known
        return self._readers[process]

    # --- the end ---

    def left_open(self) -> dict[str, Any]:
        """Say what stays open at the venues once the executor has stopped; the same as fields."""
        if not self._units:
            self._alerts()
        state = self._last_word()
        if state is None:
            return {
                "open_hedges": [], "positions": [], "foreign_coins": [], "recoveries": [],
                "open_operations": [], "unsettled_orders": 0, "pnl": None,
            }  # fmt: skip
        if state.pnl is not None:
            self._write("supervisor", "info", pnl_text(state.pnl))
        for row in state.hedges:
            legs = f"{row['spot_venue']} {row['spot_symbol']} against {row['futures_venue']} {row['futures_symbol']}"
            side = "long" if row["spot_side"] == "buy" else "short"  # of the spot leg
            text = f"hedge {row['hedge_id']} stays open: {side} {row['qty']} {row['base']}, {legs}"
            self._write("supervisor", "warning", text)
        for row in state.positions:
            text = f"position stays open: {row['venue']} {row['symbol']} {row['qty']}"
            self._write("supervisor", "warning", text)
        for row in state.recoveries:
            text = f"recovery {row['recovery_id']} is not over ({row['state']}): {row['reason']}"
            self._write("supervisor", "warning", text)
        half_done = half_done_text(state.open_operations, state.unsettled_orders)
        if half_done:
            self._write("supervisor", "warning", f"stays open: {half_done}")
        if half_done or state.hedges or state.positions:
            for text in unwatched_lines(state.hedges, state.positions, state.foreign_coins, half_done=bool(half_done)):
                self._write("supervisor", "warning", text)
        elif foreign := not_ours_text((), state.foreign_coins):
            self._write("supervisor", "warning", f"nothing of ours stays open; {foreign}")
        elif self._was_ready:
            self._write("supervisor", "info", "nothing stays open at the venues")
        return {
            "open_hedges": state.hedges,
            "positions": state.positions,
            "foreign_coins": state.foreign_coins,
            "recoveries": state.recoveries,
            "open_operations": state.open_operations,
            "unsettled_orders": state.unsettled_orders,
            "pnl": state.pnl,
        }

    def _last_word(self) -> ExecutorState | None:
        """The executor's last state; where that is not of its end (it was killed, or the guard has acted since), with
        what the journals show as open."""
        state = read_executor_state(self._state_dir)
        if state is None or state.stopped:
            return state
        ledger = replayed(self._state_dir)
        return state if ledger is None else msgspec.structs.replace(state, **left_by_journal(ledger))


def _shown(level: str, text: str) -> str:
    """What a line is called: a warning that is no alert is a note."""
    return "note" if level == "warning" and not text.startswith(ALERT) else level


def _settling(answer: Answer) -> bool:
    """Whether all that stands in the way right after a start ends by itself within moments."""
    return all("by itself" in reason.solve or "wait" in reason.solve for reason in answer.reasons)
