"""Named places at which a test may kill the process: ``ARB_CRASH_AT=point:n`` dies at the n-th passing of ``point``.

Unset (the normal case), passing a point does nothing. The process dies by SIGKILL: nothing is flushed or logged.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

POINTS = (
    "dequeued",  # an opportunity was popped, nothing was journalled
    "judged",  # the gate has approved or refused it
    "journalled",  # every intent of the operation is in the journal, no byte has left
    "before_send",  # right before the first byte of an order
    "after_first_leg_sent",  # one leg's bytes left, the other's not
    "sent",  # all legs' bytes left
    "sent_journalled",  # ... and the journal says so
    "ack_read",  # an answer was read, nothing of it is journalled
    "fill_read",  # a fill was read, nothing of it is journalled
    "first_fill",  # an operation's first fill is in the journal
    "repair_journalled",  # an unwind is in the journal, unsent
    "repair_sent",
    "result_journalled",
    "boot_replayed",  # the journal was replayed, no venue was queried
    "sweep_answered",  # a recovery sweep was read, nothing of it is journalled
    "reconciled",  # right before READY
)


def _nothing(point: str) -> None:
    """The crash point of a process that is not to crash."""


def crash_points(spec: str) -> Callable[[str], None]:
    """The function to call at every point. ``spec`` = "" or "point:n" (n from 1; absent = 1).

    Raises ValueError for an unknown point.
    """
    if not spec:
        return _nothing
    name, _, count = spec.partition(":")
    if name not in POINTS:
        raise ValueError(f"ARB_CRASH_AT names no crash point: {name!r}, known: {', '.join(POINTS)}")
    left = [int(count or "1")]

    def maybe_crash(point: str) -> None:
        if point == name:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return maybe_crash
