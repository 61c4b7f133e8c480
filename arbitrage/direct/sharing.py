"""A program's part in the request budgets that all processes of this user share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.exchanges.transport.shared_budgets import Joined, join, joined

INSTANCE, PROCESS = "library", "python"


class _Program:
    """How many open objects use this program's part; none where an engine's process has joined before."""

    users = 0
    part: Joined | None = None


def share() -> None:
    """An object opens."""
    if joined() is None:
        _Program.part = join(INSTANCE, PROCESS)
    _Program.users += 1


def unshare() -> None:
    """It has closed; what was used still counts until its windows have passed."""
    _Program.users -= 1
    if _Program.users == 0 and _Program.part is not None:
        _Program.part.leave()
        _Program.part = None


@contextmanager
def shared() -> Iterator[None]:
    """An object is open for as long as the block runs."""
    share()
    try:
        yield
    finally:
        unshare()
