"""What the executor publishes about itself in its state folder, and the breakers that it passes on to the guard.

A tick looks at a few instruments (marks, inventory) and makes one part of the next ``ExecutorState``, so that no
tick is long; once a second it is whole. A thread writes the file and speaks to the guard, so that neither a slow
disk nor a hung guard holds up the order path.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.core import ExecutionCore
from pipeline.equity_watch import EquityFigures, EquityWatch
from pipeline.execution.records import OperationResultRecord, Outcome
from pipeline.execution.results.counts import counts_of
from pipeline.execution.settled.checkpoint import map_settled
from pipeline.model.fixedpoint import plain
from pipeline.model.units import NS_PER_DAY
from pipeline.trade_state import InventoryCover, Lasting, executor_reasons
from workers.control_socket import GUARD_SOCKET, ControlError, ask
from workers.executor.views import CoreViews
from workers.executor_file import ExecutorState, read_executor_state, write_executor_state
from workers.last_run.journal_rows import open_operations
from workers.networks_file import NetworksFile
from workers.output import TRADE

PERIOD_NS = 1_000_000_000
ROWS_PER_TICK = 8
GUARD_TIMEOUT_S = 1.0
SUMMARY_NS = 10_000_000_000
NOTABLE_PER_PERIOD = 5  # trades that get a line of their own
RESULTS_MAX = 256
MAP_EVERY_S = 60.0


class Publisher:
    """``results``: ended operations that no line was written about yet; the performer appends them."""

    def __init__(self, core: ExecutionCore, state_dir: Path, say: Callable[[str, str], None]) -> None:
        self._core = core
        self._state_dir = state_dir
        self._say = say
        before = read_executor_state(state_dir)
        start = before.day_start if before is not None else None
        today = time.time_ns() // NS_PER_DAY
        self.watch = EquityWatch(core, start if start is not None and start.day == today else None)
        core.risk.gate.worth.day.restore(before.day_opening if before is not None else None)
        self.views = CoreViews(core, self.watch, NetworksFile(state_dir).read)
        self.cover = InventoryCover(core)
        self._seen = Lasting()
        self._execution_ms, self._timed = (before.execution_ms, before.executions_timed) if before else (0.0, 0)
        self.results: deque[OperationResultRecord] = deque(maxlen=RESULTS_MAX)
        self._due: deque[int] = deque()
        self._look_mono_ns = 0  # when every instrument is looked at again: as often as is published
        self._next_mono_ns = 0
        self._summary_mono_ns = 0
        self._ended = 0
        self._profit = Decimal(0)
        self._parts: Iterator[tuple[str, Callable[[], Any]]] | None = None  # of the state that is being made
        self._made: dict[str, Any] = {}
        self._writing: asyncio.Future[str] | None = None
        self._passed_on: tuple[Any, ...] | None = None
        self._problem = ""
        self._map_at_s = 0.0  # when identities of settled orders are mapped again

    # --- a tick of the executor ---

    def tick(self, mono_ns: int) -> None:
        """Look at the next instruments; once a second publish. Call it inside the executor's loop."""
        instruments = self._core.context.instruments
        if not self._due and mono_ns >= self._look_mono_ns:
            self._look_mono_ns = mono_ns + PERIOD_NS
            self._due.extend(row.instrument_id for row in instruments)
        wanted = [self._due.popleft() for _ in range(min(ROWS_PER_TICK, len(self._due)))]
        rows = [row for instrument_id in wanted if (row := instruments.get(instrument_id)) is not None]
        self.watch.look(rows)
        self.cover.look(rows)
        if self._parts is None and mono_ns >= self._next_mono_ns and (self._writing is None or self._writing.done()):
            self._next_mono_ns = mono_ns + PERIOD_NS
            self._report(self._writing.result() if self._writing is not None else "")
            self._trades(mono_ns)
            self._parts, self._made = iter(self._sections()), {}
        elif self._parts is not None:
            self._next_part()

    def _next_part(self) -> None:
        """Make one more part of the state; hand it to the thread when it is whole."""
        assert self._parts is not None
        name, make = next(self._parts, ("", None))
        if make is not None:
            self._made[name] = make()
            return
        self._parts = None
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, self._state(self._made, False))

    async def publish(self, *, stopped: bool = False) -> None:
        """Publish now: before READY, after an operator's decision (a reader must not see the state before it), and at
        the end (``stopped``) of a run that ends on purpose."""
        self._parts = None  # what was made before this moment is not written after it
        if self._writing is not None:
            await self._writing
        await asyncio.get_running_loop().run_in_executor(None, self._write, self.state(stopped=stopped))

    def _report(self, problem: str) -> None:
        if problem and problem != self._problem:
            self._say("error", f"executor.json cannot be written: {problem}; `arb status` shows older facts")
        self._problem = problem

    # --- the content ---

    def state(self, *, stopped: bool = False) -> ExecutorState:
        """Everything that is published, now."""
        return self._state({name: make() for name, make in self._sections()}, stopped)

    def _sections(self) -> list[tuple[str, Callable[[], Any]]]:
        """The parts of the state by name, in the order in which they are made."""
        core, views = self._core, self.views
        return [
            ("reasons", lambda: executor_reasons(core, self.cover, self._seen)),
            ("breakers", views.breakers),
            ("recoveries", views.recoveries),
            ("hedges", views.hedges),
            ("positions", views.positions),
            ("foreign_coins", views.foreign_coins),
            ("open_operations", lambda: open_operations(core.ledger)),
            ("unsettled_orders", lambda: len(core.ledger.unsettled)),
            ("balances", views.balances),
            ("delta", views.delta),
            ("operations", lambda: counts_of(core.ledger).fields()),
            ("pnl", lambda: self._pnl(self.watch.figures())),
            ("losses", self._losses),
            ("changes", lambda: {a: value for a, value in core.positions.calculate_total_pnl().items() if value}),
        ]

    def _state(self, made: dict[str, Any], stopped: bool) -> ExecutorState:
        return ExecutorState(
            wall_ns=time.time_ns(),
            mono_ns=self._core.context.now.mono_ns,
            pid=os.getpid(),
            stopped=stopped,
            dust=dict(self._core.ledger.dust),
            day_start=self.watch.start,
            day_opening=self._core.risk.gate.worth.day.opening,
            execution_ms=round(self._execution_ms + sum(map(execution_ms, self.results)), 3),
            executions_timed=self._timed + sum(1 for result in self.results if execution_ms(result)),
            **made,
        )

    def _pnl(self, figures: EquityFigures | None) -> dict[str, Any] | None:
        ledger = self._core.ledger
        numeraire = self._core.config.execution.numeraire
        realised = {"realised_today": self._core.risk.gate.worth.realised_today(), "realised": ledger.total_pnl}
        if figures is None:
            return {"asset": numeraire, "equity": None, "daily": None, **realised}
        return {**figures.fields(numeraire), **realised}

    def _losses(self) -> dict[str, Decimal]:
        worth, limits = self._core.risk.gate.worth, self._core.config.risk_limits
        return {
            "day_loss_usd": worth.day_loss(),
            "max_daily_loss_usd": limits.max_daily_loss_usd,
            "total_loss_usd": worth.total_loss(),
            "max_total_loss_usd": limits.total_loss_usd,
        }

    # --- lines for the operator ---

    def _trades(self, mono_ns: int) -> None:
        """A line for each trade of note, and every ten seconds one for all that ended."""
        numeraire, said = self._core.config.execution.numeraire, 0
        while self.results:
            result = self.results.popleft()
            self._ended += 1
            self._profit += result.pnl_numeraire
            self._execution_ms += execution_ms(result)
            self._timed += bool(execution_ms(result))
            operation = self._core.ledger.operations.get(result.operation_id)
            notable = result.outcome in (Outcome.RECOVERED, Outcome.UNRESOLVED) or result.hedge_open
            exits = operation is not None and bool(operation.record.closes)
            if said < NOTABLE_PER_PERIOD and operation is not None and (notable or exits):
                said += 1
                opened = result.hedge_open and not operation.reopened[1]  # else others have taken a part of it since
                what = "hedge closed" if exits else "hedge opened" if opened else "leg broken"
                level = "warning" if result.outcome is Outcome.UNRESOLVED else "info"
                text = f"{operation.record.pair} {what}, {result.outcome.name.lower()}: {result.reason}; "
                text += f"{money(result.pnl_numeraire)} {numeraire} (arb why {result.operation_id})"
                self._say(level, TRADE + text)
        if self._ended and mono_ns >= self._summary_mono_ns:
            self._summary_mono_ns = mono_ns + SUMMARY_NS
            text = f"{self._ended} operations ended, {money(self._profit)} {numeraire} realised"
            self._say("info", f"{TRADE}{text}; {len(self._core.ledger.hedges)} hedges open")
            self._ended, self._profit = 0, Decimal(0)

    # --- in the thread ---

    def _write(self, state: ExecutorState) -> str:
        """Why the file could not be written; "" where it could."""
        problem = ""
        try:
            write_executor_state(self._state_dir, state)
        except OSError as error:
            problem = str(error.strerror)
        if time.monotonic() >= self._map_at_s:
            self._map_at_s = time.monotonic() + MAP_EVERY_S
            map_settled(self._state_dir / "journal", self._core.ledger.settled)
        self._pass_on(state)
        return problem

    def _pass_on(self, state: ExecutorState) -> None:
        """Breakers and holds to the guard, which keeps them in halt.json; again later where it does not answer."""
        rows = [{key: row[key] for key in ("name", "reason", "since_wall_ns")} for row in state.breakers]
        holds = [str(row["recovery_id"]) for row in state.recoveries if row["state"] == "waiting_approval"]
        now = (*(str(row) for row in rows), *holds)
        if now == self._passed_on:
            return
        try:
            request = {"op": "note", "breakers": rows, "holds": holds}
            ask(self._state_dir / GUARD_SOCKET, request, timeout_s=GUARD_TIMEOUT_S)
        except ControlError:
            return
        self._passed_on = now


def execution_ms(result: OperationResultRecord) -> float:
    """From the gate to the last fill of an operation; 0 where nothing filled."""
    stamps = result.stamps
    return (stamps["last_fill"] - stamps["gate"]) / 1e6 if {"last_fill", "gate"} <= stamps.keys() else 0.0


def money(amount: Decimal) -> str:
    """An amount of the numeraire with its sign, to the cent."""
    return f"{'+' if amount >= 0 else ''}{plain(amount.quantize(Decimal('0.01')))}"
