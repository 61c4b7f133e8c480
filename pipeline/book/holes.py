"""Books that only lack updates which another connection may bring: a gap of one of two is filled by the other.

A gap leaves a book's levels as they were, whole to its update id. It is published as gapped and waits for a snapshot,
and its updates with it; where the missing ones come over another connection meanwhile, they go on top of it in turn.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.book.frame_kernels import RESULT_APPLIED, RESULT_DROPPED, RESULT_KEPT, RESULT_NEED_SNAPSHOT
from pipeline.book.memory import BOOK_ROW, EVENT, STATE_LIVE, STATE_WAITING
from pipeline.book.sequencer import APPLY, judge
from pipeline.book.waiting_updates import WaitingUpdate, WaitingUpdates
from shm.words import Words

FILLED_MAX = 256  # updates that waited: a snapshot is there sooner than more of them


class Holes:
    """Gaps of one venue's books, by slot: the connection whose frame has shown each."""

    def __init__(self) -> None:
        self._conns: dict[int, int] = {}
        self.overtaken: set[int] = set()  # slots where what has shown the last gap had nothing new in its turn

    def __contains__(self, slot: int) -> bool:
        return slot in self._conns

    def note(self, mem: Words, row: int, slot: int, conn: int) -> None:
        """The event of a frame of ``conn`` lies beyond the book at ``row``. (One that does not is no gap: the venue
        counts anew, or the book has never stood.)"""
        self.forget(slot)
        self.overtaken.discard(slot)
        if mem[row + BOOK_ROW.was_synced] and mem[EVENT.last_id] > mem[row + BOOK_ROW.update_id]:
            self._conns[slot] = conn

    def forget(self, slot: int) -> None:
        """The book lacks more than updates, or stands."""
        self._conns.pop(slot, None)

    def is_filled(self, mem: Words, row: int, slot: int, conn: int) -> bool:
        """Whether the event of a frame of ``conn`` follows the book that waits at ``row``, and came over another
        connection than what has shown its gap."""
        if self._conns.get(slot, conn) == conn:
            return False
        mem[row + BOOK_ROW.state] = STATE_LIVE
        verdict = judge(mem, row, mem[EVENT.first_id], mem[EVENT.last_id], mem[EVENT.previous_id])
        mem[row + BOOK_ROW.state] = STATE_WAITING
        return bool(verdict == APPLY)

    def in_turn(self, slot: int, waiting: WaitingUpdates, again: Callable[[WaitingUpdate], int]) -> bool | None:
        """Puts the updates on top of the book as each one's turn comes; ``again``: one of them, a ``RESULT_*``. True:
        all are in it or were before; False: others are missing, what is left waits on; None: this history cannot be
        used."""
        left = list(waiting.updates)
        if len(left) > FILLED_MAX:
            return False
        went_on, shown_by = True, left[0]
        while left and went_on:
            went_on, before = False, left
            left = []
            for update in before:
                result = again(update)
                if result == RESULT_NEED_SNAPSHOT:
                    left.append(update)
                elif result not in (RESULT_APPLIED, RESULT_KEPT, RESULT_DROPPED):
                    return None
                elif result != RESULT_DROPPED:
                    went_on = True
                elif update is shown_by:
                    self.overtaken.add(slot)
        waiting.clear()
        for update in left:
            waiting.keep(update)
        return not left
