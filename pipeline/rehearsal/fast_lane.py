"""The fast path of an entry on private memory, again and again: verdict, journal records, order bytes.

What no code has run for some milliseconds is slow again: its instructions and the interpreter's have left the caches. A
rehearsal runs all of them on a market in arrays of this process that stands still, into a journal of memory, and gives
the orders' bytes to whoever writes them where they harm nothing (workers/executor/loopback.py): nothing of the engine's
own state is read or changed.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import numpy as np

from pipeline.model.clock import mono_ns
from pipeline.rehearsal.entry_world import EntryWorld, Level

ROUNDS = 24  # bytecode is specialised after 8 passes, what it calls a few later
SHARE = 100
PAUSE_MAX_NS = 100_000_000  # also behind one during which the host stood still
QTY = Decimal("0.5")
BUY_LIMIT, SELL_LIMIT = Decimal("99.5"), Decimal("99.6")
BUY_BOOK: tuple[list[Level], list[Level]] = ([(Decimal("98.99"), Decimal(5))], [(Decimal("99.10"), Decimal(4))])
SELL_BOOK: tuple[list[Level], list[Level]] = ([(Decimal(100), Decimal(4))], [(Decimal("100.10"), Decimal(5))])


class FastLane:
    """:meth:`once` is one rehearsal. ``send``: what signs and takes the bytes of both orders."""

    def __init__(self, send: Callable[[list[bytes]], object]) -> None:
        self._world = world = EntryWorld()
        world.fund_all()
        world.publish(0, *BUY_BOOK)
        world.publish(1, *SELL_BOOK)
        self._record = world.record([(0, 1, QTY, BUY_LIMIT), (1, -1, QTY, SELL_LIMIT)])
        self._now = world.now()
        self._entry = world.fast_entry
        table = self._entry.limits_table
        self._ints, self._floats = table.ints.copy(), table.floats.copy()  # before anything was reserved
        self._send = send
        self._due_mono_ns = 0

    def once(self) -> None:
        """One entry, from the record to both orders' bytes."""
        entry, now, table = self._entry, self._now, self._entry.limits_table
        np.copyto(table.ints, self._ints)
        np.copyto(table.floats, self._floats)
        if not entry.offer(self._record, self._world.halt, now):
            raise RuntimeError(f"rehearsal: the verdict says {entry.last_no} to an ordinary entry")
        orders = entry.write(self._world.journal, now, now.mono_ns, self._venue_ms)
        self._send([bytes(order.view) for order in orders])

    def turn(self) -> None:
        """A rehearsal, where the last one is so long ago that all of them take the ``SHARE``-th part of the time."""
        began_ns = mono_ns()
        if began_ns >= self._due_mono_ns:
            self._due_mono_ns = began_ns + PAUSE_MAX_NS  # also where it raises
            self.once()
            ended_ns = mono_ns()
            self._due_mono_ns = ended_ns + min(PAUSE_MAX_NS, SHARE * (ended_ns - began_ns))

    def warm_up(self) -> None:
        """Until the interpreter has specialised everything on the way."""
        for _ in range(ROUNDS):
            self.once()

    def _venue_ms(self, _venue: str) -> int:
        return self._now.wall_ms
