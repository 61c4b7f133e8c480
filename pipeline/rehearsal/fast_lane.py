"""The fast path of an entry on private memory, again and again: verdict, journal records, order bytes, both sends.

What no code has run for some milliseconds is slow again: its instructions and the interpreter's have left the caches. A
rehearsal runs all of them on a market in arrays of this process that stands still, into a journal of memory, and sends
the orders' bytes, signed and masked, where they harm nothing (workers/executor/loopback.py): nothing of the engine
itself is read or changed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

import numpy as np

from pipeline.fast_entry.encoder import ahead_of
from pipeline.model.clock import mono_ns
from pipeline.rehearsal.entry_world import EntryWorld, Level, engine_config, plain_template
from pipeline.templates import template
from pipeline.templates.slots import ENTRY_LEG
from pipeline.templates.template import OrderTerms, Pieces

ROUNDS = 24  # bytecode is specialised after 8 passes, what it calls a few later
SHARE = 100
PAUSE_MAX_NS = 100_000_000  # also behind one during which the host stood still
FILLING = b"x" * 100
QTY = Decimal("0.5")
BUY_LIMIT, SELL_LIMIT = Decimal("99.5"), Decimal("99.6")
BUY_BOOK: tuple[list[Level], list[Level]] = ([(Decimal("98.99"), Decimal(5))], [(Decimal("99.10"), Decimal(4))])
SELL_BOOK: tuple[list[Level], list[Level]] = ([(Decimal(100), Decimal(4))], [(Decimal("100.10"), Decimal(5))])


def rehearsed_template(venue: str, terms: OrderTerms) -> Pieces:
    """An order as long as a venue's: signed for one venue, a text frame for the others."""
    order = [*plain_template(venue, terms), FILLING]
    if venue != "mexc_spot":
        return [template.TEXT_FRAME, *order, FILLING]
    signed = [template.mark(template.leg(ENTRY_LEG.sign_from)), *order, template.mark(template.leg(ENTRY_LEG.sign_to))]
    return [*signed, template.signature(b"rehearsal"), FILLING]


class Wires(Protocol):
    """Two connections that lead nowhere."""

    @property
    def fds(self) -> tuple[int, int]:
        """The sockets that take both orders."""

    @property
    def seals(self) -> tuple[int, int]:
        """How each order's bytes are encrypted (``launch``)."""

    def drain(self) -> None:
        """Reads what has come."""


class FastLane:
    """:meth:`once` is one rehearsal. ``wires``: what takes the bytes of both orders."""

    def __init__(self, wires: Wires) -> None:
        config = engine_config(detection={"max_age_to_trade_ms": 60_000})  # also where the host stands still
        self._world = world = EntryWorld(config=config, template_of=rehearsed_template)
        world.fund_all()
        world.publish(0, *BUY_BOOK)
        world.publish(1, *SELL_BOOK)
        self._record = world.record([(0, 1, QTY, BUY_LIMIT), (1, -1, QTY, SELL_LIMIT)])
        self._now = world.now()
        self._entry = world.fast_entry
        table = self._entry.limits_table
        self._ints, self._floats = table.ints.copy(), table.floats.copy()  # before anything was reserved
        self._wires = wires
        self._ahead = ahead_of(lambda: self._now.mono_ns)
        self._due_mono_ns = 0

    def once(self) -> None:
        """One entry, from the record to both orders' bytes. Raises OSError where a connection takes none."""
        entry, now, table, halt = self._entry, self._now, self._entry.limits_table, self._world.halt
        np.copyto(table.ints, self._ints)
        np.copyto(table.floats, self._floats)
        if not entry.offer(self._record, halt, now):
            raise RuntimeError(f"rehearsal: the verdict says {entry.last_no} to an ordinary entry")
        clocks = (now.wall_ms, now.wall_ms)
        wires, journal = self._wires, self._world.journal
        entry.write(journal, now, clocks, halt=halt, fds=wires.fds, seals=wires.seals, ahead=self._ahead)
        for launched in entry.launches():
            if launched.taken < 0:
                raise OSError(-launched.taken, "rehearsal: nothing was sent")
        wires.drain()

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
