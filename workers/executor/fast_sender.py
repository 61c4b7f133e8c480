"""An entry that the fast path has approved: into the journal and to both sockets, and what became of its bytes.

Where both venues' sockets take bytes from the kernel, encrypted or plain, and nothing has to come between, all of it is
one jitted call (pipeline/fast_entry/launch.py), and what is only noted or counted follows behind the bytes. Elsewhere
its steps run one by one, and an order for a session whose socket does not goes by that session's own call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from pipeline.exchanges.base import OrderLine, VenueTrading
from pipeline.execution.crash_points import STEP_POINTS, CrashPoints, nothing
from pipeline.execution.events import CoreEvent, NotSent, Now, Sent
from pipeline.execution.journal import Journal
from pipeline.fast_entry.encoder import NO_SEALS, NO_SOCKETS, ahead_of
from pipeline.fast_entry.entry import FastEntry, OrderBytes
from pipeline.fast_entry.launch import FIRST, SECOND
from pipeline.model.enums import Durability, Refusal
from pipeline.model.errors import VenueUnavailable
from pipeline.model.units import NS_PER_MS
from pipeline.risk.last_look import LastLook, Stop
from pipeline.templates.slots import GIVEN, NOT_TRIED
from shm.words import Words
from workers.executor.launch_death import LaunchDeath

STEPS = (FIRST, SECOND)


class Sending(msgspec.Struct):
    """What became of an entry. Times: monotonic ns; 0 = never."""

    followers: list[CoreEvent]
    written_mono_ns: int = 0
    first_mono_ns: int = 0
    last_mono_ns: int = 0
    kept_back: Stop | None = None  # why the first leg did not leave: then no byte has


@dataclass(slots=True)
class _UnderWay:
    """An entry while it is sent. ``lines``: of both orders, where both take bytes from the kernel; ``launched``: both
    were tried already."""

    entry: FastEntry
    halt: Words
    expiry_mono_ns: int
    lines: tuple[OrderLine, OrderLine] | None
    fds: tuple[int, int]
    seals: tuple[int, int]
    launched: bool


class FastSender:
    """Sends what ``FastEntry.offer`` has approved. ``note_sent(venue, symbol, mono_ns)``: called for each order that
    left; ``crash``: the hook of the crash points."""

    def __init__(
        self,
        journal: Journal,
        trading: Mapping[str, VenueTrading],
        last_look: LastLook,
        *,
        note_sent: Callable[[str, str, int], None],
        crash: Callable[[str], None],
        clock: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._trading = trading
        self._last_look = last_look
        self._note_sent = note_sent
        self._crash = crash
        self._mono_ns = clock
        self._ahead = ahead_of(clock)
        points = crash.points if isinstance(crash, CrashPoints) else None
        # no test stops the process between two steps
        self._at_once = crash is nothing or (points is not None and not points & STEP_POINTS)
        self._death = LaunchDeath(crash) if isinstance(crash, CrashPoints) else None

    def send(self, entry: FastEntry, halt: Words, now: Now, window_ms: int) -> Sending:
        """Journal before bytes, the last look before the first one. ``window_ms``: how long from ``now`` on the venues
        may take the orders. Raises JournalError: nothing was sent then."""
        row, other_row = entry.legs
        first, second = self._trading[row.spec.venue], self._trading[other_row.spec.venue]
        lines, fds, seals, sending = None, NO_SOCKETS, NO_SEALS, Sending([])
        try:
            one, other = first.direct_line(), second.direct_line()
            if one is not None and other is not None and first is not second:
                lines, fds, seals = (one[0], other[0]), (one[1], other[1]), (one[0].seal, other[0].seal)
        except VenueUnavailable as error:  # the second one's too: the first leg is not to leave alone
            sending.kept_back = (Refusal.SESSION_DOWN, str(error))
        first_ms, second_ms = first.now_ms(), second.now_ms()
        # However late the bytes are made, they expire when the journal says so: no proof of absence comes before that.
        late_ms = max(0, self._mono_ns() - now.mono_ns) // NS_PER_MS
        venues_ms = (first_ms - late_ms, second_ms - late_ms)
        synced, signs = self._journal.durability is Durability.POWER, first.signs_orders or second.signs_orders
        at_once = lines is not None and self._at_once
        if self._death is not None and at_once:
            fds = self._death.sockets(fds)
        if at_once and not (synced or signs):
            entry.write(self._journal, now, venues_ms, halt=halt, fds=fds, seals=seals, ahead=self._ahead)
            sending.written_mono_ns = entry.launches()[0].looked_mono_ns
            orders = entry.orders()
        else:
            entry.write(self._journal, now, venues_ms)
            sending.written_mono_ns = self._mono_ns()
            if synced and sending.kept_back is None:
                self._journal.sync()
            self._crash("journalled")
            orders = entry.orders()
            for order in orders if signs and sending.kept_back is None else ():
                self._trading[order.venue].sign(order.view, *order.signed)
            self._crash("signed")
            if at_once:
                entry.launch(FIRST | SECOND, halt, fds, self._ahead, seals=seals)
        way = _UnderWay(entry, halt, now.mono_ns + window_ms * NS_PER_MS, lines, fds, seals, at_once)
        return self._given(way, orders, sending)

    def _given(self, way: _UnderWay, orders: list[OrderBytes], sending: Sending) -> Sending:
        """Each leg in its turn; a first leg that cannot leave keeps the other one back."""
        for number, order in enumerate(orders):
            self._crash("before_send")
            met = sending.kept_back or self._give(way, orders, number, first=not sending.first_mono_ns)
            if isinstance(met, int):
                sending.followers.append(Sent(order.client_id, met))
                self._note_sent(order.venue, order.symbol, met)
                sending.last_mono_ns = met
                if not sending.first_mono_ns:
                    sending.first_mono_ns = met
                    self._crash("after_first_leg_sent")
                continue
            sending.followers.append(NotSent(order.client_id, *met))
            if not sending.first_mono_ns:
                sending.kept_back = met
        return sending

    def _give(self, way: _UnderWay, orders: list[OrderBytes], number: int, *, first: bool) -> int | Stop:
        """When a leg left, or why it did not. ``first``: nothing of the entry has left."""
        order = orders[number]
        session = self._trading[order.venue]
        try:
            if way.lines is None:
                now_ns = self._mono_ns()
                stop = self._last_look.entry(orders[number:], now_ns, way.expiry_mono_ns, first=first)
                return stop or session.launch(order.symbol, order.client_id, bytes(order.view))
            if not way.launched or way.entry.launches()[number].stop == NOT_TRIED:  # the first one left in part
                way.entry.launch(STEPS[number], way.halt, way.fds, self._ahead, seals=way.seals)
            launched = way.entry.launches()[number]
            if launched.stop != GIVEN:
                return self._last_look.stopped(orders, launched.stop, launched.looked_mono_ns)
            wire = way.entry.wire(launched)
            session.launched(way.lines[number], order.symbol, order.client_id, wire, launched.taken)
        except VenueUnavailable as error:
            return Refusal.SESSION_DOWN, str(error)
        return launched.sent_mono_ns
