"""The wire between the core and the simulated venues: what both sides' formats make of each request and answer.

What the core sends is encoded by the codec of ``pipeline/exchanges`` and read by the simulated venue's side of
``pipeline/sim/wire``, which answers as to a socket; the codec reads those bytes. There is no socket between them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any

from pipeline.chaos.tape import Row


def done(handler: Awaitable[Any]) -> Any:
    """What a handler that waits for nothing returns."""
    assert isinstance(handler, Coroutine)
    try:
        handler.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError(f"{handler!r} waits for something")


def as_the_engine_names(row: Row) -> Row:
    """A row of a venue's ledger with ids as the engine knows them: those of the wire, without a venue's prefix."""
    changed: Row = {}
    client_id = row.get("client_id")
    if isinstance(client_id, str) and client_id.startswith("t-"):
        changed["client_id"] = client_id[2:]
    if row.get("wire_trade_id"):
        changed["trade_id"] = row["wire_trade_id"]
    return {**row, **changed} if changed else row
