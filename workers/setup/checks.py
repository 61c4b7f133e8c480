"""One row of a check: what was found, what was wanted, and the command or change that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple


class State(StrEnum):
    """``unknown``: it could not be found out, which is never ``ok``."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Check(NamedTuple):
    """One row. ``fix`` is shown only where the state is not ``ok``."""

    name: str
    state: State
    found: str
    want: str
    fix: str


def as_fields(rows: Sequence[Check]) -> list[dict[str, Any]]:
    """Rows for ``--json``."""
    return [
        {
            "name": row.name,
            "state": str(row.state),
            "found": row.found,
            "want": row.want,
            "fix": "" if row.state is State.OK else row.fix,
        }
        for row in rows
    ]
