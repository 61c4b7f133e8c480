"""Dead-man timers at the venues: without a word from us they cancel what rests, ``ARM_S`` after our last send.

Most of our orders rest for no moment (IOC, or expired by the venue), so that a timer that runs out in quiet times
cancels nothing of ours; it is for the order that should not have rested, of an engine that is gone. The account is the
engine's alone.
Disarmed on planned stops, and by the guard where it has taken over and proved all orders.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.model.clock import mono_ns
from pipeline.model.units import NS_PER_S

if TYPE_CHECKING:
    from workers.executor.performer import Performer
    from workers.executor.venues import Questions

ARM_S = 10  # Gate.io takes 5 at least
ARM_AGAIN_NS = 2_000_000_000  # further sends are covered for 8 s at least (Binance: 5), at half a request a second
DISARM_S = 1.0


class DeadMan:
    """``arm(venue, seconds, symbols)`` asks the venue for a timer (of ``symbols``, where it has one an instrument) and
    returns at once, False where it has none; ``sent``: venue -> mono ns of our newest send, ``sent_to``: the same by
    symbol; ``factor``: how many times as long as asked for a venue's timer may run: more than 1 where it has one an
    instrument."""

    def __init__(
        self,
        arm: Callable[[str, int, Sequence[str]], bool],
        sent: Mapping[str, int],
        sent_to: Mapping[str, Mapping[str, int]],
        factor: Callable[[str], int],
    ) -> None:
        self._arm = arm
        self._sent = sent
        self._sent_to = sent_to
        self._factor = factor
        self._asked: dict[str, int] = {}
        self._covered: dict[str, int] = {}  # the sends up to then are
        self._armed: dict[tuple[str, str], int] = {}  # venue and symbol -> when its timer was asked for last

    def tick(self, now_ns: int) -> None:
        """Arms where something was sent since the last time. ``now_ns``: monotonic."""
        for venue, sent_ns in self._sent.items():
            asked_ns, fresh_ns = self._asked.get(venue, 0), now_ns - ARM_S * NS_PER_S
            if sent_ns <= max(self._covered.get(venue, 0), fresh_ns):
                continue
            symbols = self._sent_since(venue, fresh_ns)
            due = not asked_ns or now_ns - asked_ns >= ARM_AGAIN_NS or self._uncovered(venue, symbols, now_ns)
            if due and self._arm(venue, ARM_S, symbols):
                self._asked[venue] = self._covered[venue] = now_ns
                self._armed.update(((venue, symbol), now_ns) for symbol in symbols)

    def _uncovered(self, venue: str, symbols: Sequence[str], now_ns: int) -> bool:
        """Whether one of ``symbols`` was not asked for within half of ``ARM_S``, where the timers are of one instrument
        each: those of a whole market cover it."""
        last_ns = now_ns - ARM_S * NS_PER_S // 2
        each = self._factor(venue) > 1
        return each and any(self._armed.get((venue, symbol), last_ns - 1) < last_ns for symbol in symbols)

    def _sent_since(self, venue: str, since_ns: int) -> list[str]:
        return [symbol for symbol, sent_ns in self._sent_to.get(venue, {}).items() if sent_ns > since_ns]

    def not_taken(self, venue: str) -> None:
        """The venue has not taken its timer, or not for every contract: it is asked again, no sooner than else."""
        self._covered[venue] = 0

    def running(self, now_ns: int) -> dict[str, list[str]]:
        """Venues, and their symbols, whose timer may still run: to be disarmed before a planned stop."""
        found: dict[str, list[str]] = {}
        for venue, asked_ns in self._asked.items():
            runs_ns = ARM_S * self._factor(venue) * NS_PER_S
            if now_ns - asked_ns < runs_ns:  # a send is armed for up to ARM_S after it
                found[venue] = self._sent_since(venue, now_ns - runs_ns - ARM_S * NS_PER_S)
        return found


class VenueTimers:
    """The timers of one process that sends: the executor, or the guard in its place."""

    def __init__(self, questions: Questions, performer: Performer, armed: Callable[[], object]) -> None:
        """``armed``: called after each timer that was asked for."""
        self._questions = questions
        self._armed = armed
        self._under_way: dict[str, set[asyncio.Future[bool]]] = {}  # venue -> its arms without an answer
        self._dead_man = DeadMan(self._arm, performer.sent_mono_ns, performer.sent_to, questions.countdown_factor)
        self.tick = self._dead_man.tick

    def _arm(self, venue: str, seconds: int, symbols: Sequence[str]) -> bool:
        asked = self._questions.set_countdown(venue, seconds, symbols)
        if asked is None:
            return False

        def answered(taken: asyncio.Future[bool]) -> None:
            self._under_way[venue].discard(taken)
            if not taken.cancelled() and not taken.result():
                self._dead_man.not_taken(venue)

        self._under_way.setdefault(venue, set()).add(asked)
        asked.add_done_callback(answered)
        self._armed()
        return True

    async def disarm(self, others: Iterable[tuple[str, str, int]] = ()) -> None:
        """No timer shall cancel what an operator places after us. ``others``: sends of a process before this one, as
        venue, symbol, mono ns. Arms that are under way are awaited first: the venue might take one of them last."""
        now_ns = mono_ns()
        running = {venue: set(symbols) for venue, symbols in self._dead_man.running(now_ns).items()}
        for venue, symbol, sent_ns in others:
            if 0 <= now_ns - sent_ns < ARM_S * (self._questions.countdown_factor(venue) + 1) * NS_PER_S:
                running.setdefault(venue, set()).add(symbol)
        if running:
            await asyncio.wait(
                [asyncio.ensure_future(self._disarm(*each)) for each in running.items()], timeout=DISARM_S
            )

    async def _disarm(self, venue: str, symbols: set[str]) -> None:
        armed = self._under_way.get(venue)
        if armed:
            await asyncio.wait(set(armed), timeout=DISARM_S / 2)
        disarmed = self._questions.set_countdown(venue, 0, sorted(symbols))
        if disarmed is not None:
            await asyncio.wait([disarmed])
