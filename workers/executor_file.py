"""``executor.json``: what only the executor knows, as it last said it, for views that must work after a crash or a
stop.

Reasons, breakers, recoveries, hedges, positions, balances, counts, equity. Written about once a second, best
effort; the journal is the truth, and is replayed where the file is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec

from pipeline.equity_watch import DayStart
from pipeline.risk.day_opening import DayOpening
from pipeline.trade_state import Reason
from workers.output import plain_values
from workers.state_folder import replace_file

FILE_NAME = "executor.json"


class ExecutorState(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the file. ``wall_ns``, ``mono_ns``: when it was said. Rows are those of ``executor/views.py``."""

    wall_ns: int
    mono_ns: int
    pid: int
    stopped: bool  # the executor ended in order, and this is its last word
    reasons: list[Reason]
    breakers: list[dict[str, Any]]
    recoveries: list[dict[str, Any]]
    hedges: list[dict[str, Any]]
    positions: list[dict[str, Any]]
    balances: list[dict[str, Any]]
    delta: dict[str, Decimal]
    dust: dict[str, Decimal]
    operations: dict[str, int]
    pnl: dict[str, Any] | None
    changes: dict[str, Decimal]
    day_start: DayStart | None = None
    day_opening: DayOpening | None = None
    losses: dict[str, Decimal] = {}  # the loss of the day and of all days, and the most that each may be
    foreign_coins: list[dict[str, Any]] = []
    open_operations: list[dict[str, Any]] = []  # rows of ``journal_rows.open_operations``
    unsettled_orders: int = 0
    execution_ms: float = 0.0  # from the gate to the last fill, of all operations that were timed, over restarts
    executions_timed: int = 0


def write_executor_state(state_dir: Path, state: ExecutorState) -> None:
    """Replace the file. Raises OSError."""
    raw = msgspec.json.encode(plain_values(msgspec.to_builtins(state, builtin_types=(Decimal,))))
    replace_file(state_dir / FILE_NAME, raw, shared=True)


def read_executor_state(state_dir: Path) -> ExecutorState | None:
    """What the executor last said; None where there is no file that can be read."""
    try:
        return msgspec.json.decode((state_dir / FILE_NAME).read_bytes(), type=ExecutorState)
    except (OSError, msgspec.MsgspecError):
        return None


def amount(value: object) -> str:
    """A decimal as text, to the cent; ``-`` where there is none."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return "-"
    return f"{number.quantize(Decimal('0.01')) + 0:f}"  # + 0: no minus before a zero


def pnl_text(pnl: Mapping[str, Any] | None) -> str:
    """Field ``pnl`` as one line: the day's P&L, equity at one mark per asset, and what was realised in all."""
    if not pnl:
        return "P&L               not known yet"
    asset = pnl.get("asset", "")
    if pnl.get("daily") is None:
        return f"P&L               realised {amount(pnl.get('realised'))} {asset} in all".rstrip()
    return (
        f"P&L today         {amount(pnl['daily'])} {asset} (trading {amount(pnl['trading'])}, inventory "
        f"{amount(pnl['inventory'])}); equity {amount(pnl['equity'])} {asset}; realised in all "
        f"{amount(pnl['realised'])}"
    )
