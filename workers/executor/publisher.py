"""What the executor publishes about itself in its state folder, and the breakers that it passes on to the guard.

A tick looks at a few instruments (marks, inventory) and, once a second, makes a new ``ExecutorState`` of plain rows. A
thread writes the file and speaks to the guard, so that neither a slow disk nor a hung guard holds up the order path.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.core import ExecutionCore
from pipeline.equity_watch import DAY_NS, EquityFigures, EquityWatch
from pipeline.execution.counts import counts_of
from pipeline.execution.records import OperationResultRecord, Outcome
from pipeline.model.fixedpoint import plain
from pipeline.tradable import InventoryCover, executor_reasons
from workers.control_socket import GUARD_SOCKET, ControlError, ask
from workers.executor.views import CoreViews
from workers.executor_file import ExecutorState, read_executor_state, write_executor_state

PERIOD_NS = 1_000_000_000
ROWS_PER_TICK = 8
GUARD_TIMEOUT_S = 1.0
SUMMARY_NS = 10_000_000_000
NOTABLE_PER_PERIOD = 5  # trades that get a line of their own
RESULTS_MAX = 256

TRADE = "trade: "  # how a line for the operator about trades begins


class Publisher:
    """``results``: ended operations that no line was written about yet; the performer appends them."""

    def __init__(self, core: ExecutionCore, state_dir: Path, say: Callable[[str, str], None]) -> None:
        self._core = core
        self._state_dir = state_dir
        self._say = say
        before = read_executor_state(state_dir)
        start = before.day_start if before is not None else None
        today = time.time_ns() // DAY_NS
        self.watch = EquityWatch(core, start if start is not None and start.day == today else None)
        self.views = CoreViews(core, self.watch)
        self.cover = InventoryCover(core)
        self.results: deque[OperationResultRecord] = deque(maxlen=RESULTS_MAX)
        self._due: deque[int] = deque()
        self._next_mono_ns = 0
        self._summary_mono_ns = 0
        self._ended = 0
        self._profit = Decimal(0)
        self._writing: asyncio.Future[str] | None = None
        self._passed_on: tuple[Any, ...] | None = None
        self._problem = ""

    # --- a tick of the executor ---

    def tick(self, mono_ns: int) -> None:
        """Look at the next instruments; once a second publish. Call it inside the executor's loop."""
        instruments = self._core.context.instruments
        if not self._due:
            self._due.extend(row.instrument_id for row in instruments)
        wanted = [self._due.popleft() for _ in range(min(ROWS_PER_TICK, len(self._due)))]
        rows = [row for instrument_id in wanted if (row := instruments.get(instrument_id)) is not None]
        self.watch.look(rows)
        self.cover.look(rows)
        if mono_ns >= self._next_mono_ns and (self._writing is None or self._writing.done()):
            self._next_mono_ns = mono_ns + PERIOD_NS
            self._report(self._writing.result() if self._writing is not None else "")
            self._trades(mono_ns)
            state = self.state()
            self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, state)

    async def close(self) -> None:
        """The last word of a run that ends on purpose."""
        if self._writing is not None:
            await self._writing
        state = self.state(stopped=True)
        await asyncio.get_running_loop().run_in_executor(None, self._write, state)

    def _report(self, problem: str) -> None:
        if problem and problem != self._problem:
            self._say("error", f"executor.json cannot be written: {problem}; `arb status` shows older facts")
        self._problem = problem

    # --- the content ---

    def state(self, *, stopped: bool = False) -> ExecutorState:
        """Everything that is published, now."""
        core, views = self._core, self.views
        figures = self.watch.figures()
        now = core.context.now
        return ExecutorState(
            wall_ns=time.time_ns(),
            mono_ns=now.mono_ns,
            pid=os.getpid(),
            stopped=stopped,
            reasons=executor_reasons(core, self.cover),
            breakers=views.breakers(),
            recoveries=views.recoveries(),
            hedges=views.hedges(),
            positions=views.positions(),
            balances=views.balances(),
            delta={asset: value for asset, value in core.positions.delta().items() if value},
            dust=dict(core.ledger.dust),
            operations=counts_of(core.ledger).fields(),
            pnl=self._pnl(figures),
            changes={asset: value for asset, value in core.positions.calculate_total_pnl().items() if value},
            day_start=self.watch.start,
        )

    def _pnl(self, figures: EquityFigures | None) -> dict[str, Any] | None:
        ledger = self._core.ledger
        numeraire = self._core.config.execution.numeraire
        realised = {"realised_today": ledger.day_pnl, "realised": ledger.total_pnl}
        if figures is None:
            return {"asset": numeraire, "equity": None, "daily": None, **realised}
        return {**figures.fields(numeraire), **realised}

    # --- lines for the operator ---

    def _trades(self, mono_ns: int) -> None:
        """A line for each trade of note, and every ten seconds one for all that ended."""
        numeraire, said = self._core.config.execution.numeraire, 0
        while self.results:
            result = self.results.popleft()
            self._ended += 1
            self._profit += result.pnl_numeraire
            operation = self._core.ledger.operations.get(result.operation_id)
            notable = result.outcome in (Outcome.RECOVERED, Outcome.UNRESOLVED) or result.hedge_open
            exits = operation is not None and bool(operation.record.closes)
            if said < NOTABLE_PER_PERIOD and operation is not None and (notable or exits):
                said += 1
                what = "hedge closed" if exits else "hedge opened" if result.hedge_open else "leg broken"
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


def money(amount: Decimal) -> str:
    """An amount of the numeraire with its sign, to the cent."""
    return f"{'+' if amount >= 0 else ''}{plain(amount.quantize(Decimal('0.01')))}"
