"""Named places at which a test kills, stops or delays a process: ``ARB_CRASH_AT=POINT[:N][,life=N][,END]``.

It acts at the ``N``-th passing of ``POINT`` (1) in the process's ``life`` (1: the first; each restart by the supervisor
is one more). ``END``: absent, the process dies by SIGKILL, nothing is flushed or logged; ``stop``: it stands still by
SIGSTOP until somebody wakes or ends it; ``sleep=MS``: the thread sleeps; ``raise``: it meets an error that nobody has
foreseen, and ends as it does after one. Several, separated by ``;``, are independent of each other. Unset (the normal
case), passing a point calls a function that does nothing. Refused in live mode: a variable that is left over in a shell
would end a process between two legs of real money.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.model.enums import Mode
from pipeline.model.errors import ConfigInvalid

VARIABLE = "ARB_CRASH_AT"
MARKS = "ARB_CRASH_MARKS"  # a file: the name of each point that acts is a line of it

#: Points of whoever carries out a core's actions: the executor and, with ``GUARD`` before them, the guard.
CORE_POINTS = (
    "journalled",  # every intent of the operation is in the journal, no byte has left
    "signed",  # the bytes of all legs are ready, none has left
    "before_send",  # right before the last look at an order, behind which its first byte leaves
    "after_first_leg_sent",  # one leg's bytes left, the other's not
    "sent",  # all legs' bytes left, nothing of it is in the journal
    "cancel_sent",
    "ack_read",  # an answer was read, nothing of it is journalled
    "fill_read",  # a fill was read, nothing of it is journalled
    "first_fill",  # a fill is in the journal, nothing has followed from it
    "repair_journalled",  # an unwind is in the journal, unsent
    "repair_sent",
    "expired_journalled",  # the proof that an order never executed is in the journal
    "result_journalled",
    "sweep_answered",  # a recovery sweep was read, nothing of it is journalled
    "rotating",  # the journal's next segment has its header, and is not part of the journal yet
    "rotated",  # it is, and nothing is in it
)
EXECUTOR_POINTS = (
    "dequeued",  # an opportunity was popped, nothing was journalled
    "judged",  # the gate has approved or refused it
    "boot_replayed",  # the journal was replayed, no venue was queried
    "reconciled",  # right before READY
)
#: Inside the one jitted call that writes and sends an entry: no hook is passed there, so the kernel ends the process as
#: an order's bytes go to its socket (workers/executor/launch_death.py). Only a death: no stop, no error.
LAUNCH_POINTS = (
    "launch_first",  # every intent is in the journal, the first order's bytes do not leave
    "launch_second",  # the first order's bytes have left, the other one's do not
)
#: The points between the steps of that call: where one is named, the steps are called one by one.
STEP_POINTS = frozenset({"journalled", "signed", "before_send", "after_first_leg_sent"})
GUARD = "guard_"
GUARD_POINTS = (
    "guard_lease",  # before a lease is granted
    "guard_latched",  # what the page shows is not on the disk yet
    "guard_fenced",  # page and disk have the fence, the executor is being ended
    "guard_proved",  # the executor is proved dead, nothing was closed
    "guard_closed",  # everything is closed, the fence stands
)
SUPERVISOR_POINTS = (
    "supervisor_spawned",  # a process was asked for, its pid is not known yet
    "supervisor_noted",  # what the processes do has changed, before it is written for others
    "supervisor_stopping",  # an orderly stop has begun, nobody was asked yet
)
POINTS = (
    *EXECUTOR_POINTS,
    *CORE_POINTS,
    *(GUARD + name for name in CORE_POINTS),
    *GUARD_POINTS,
    *SUPERVISOR_POINTS,
    *LAUNCH_POINTS,
)


@dataclass(frozen=True, slots=True)
class CrashAt:
    """One part of the variable. ``end``: "", "stop", "raise" or "sleep"."""

    point: str
    passing: int
    life: int
    end: str
    sleep_ms: int
    text: str


def _number(text: str, part: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{VARIABLE}={part}: found {text!r}, wanted a whole number from 1")
    return int(text)


def parse(spec: str) -> list[CrashAt]:
    """The parts of ``spec``. Raises ValueError for an unknown point and for words that are none of ours."""
    found = []
    for part in filter(None, spec.split(";")):
        place, *options = part.split(",")
        point, _, passing = place.partition(":")
        if point not in POINTS:
            raise ValueError(f"{VARIABLE} names no crash point: {point!r}, known: {', '.join(POINTS)}")
        life, end, sleep_ms = 1, "", 0
        for option in options:
            word, _, value = option.partition("=")
            if word == "life":
                life = _number(value, part)
            elif word == "sleep":
                end, sleep_ms = word, _number(value, part)
            elif option in ("stop", "raise"):
                end = option
            else:
                raise ValueError(f"{VARIABLE}={part}: found {option!r}, wanted life=N, stop, sleep=MS or raise")
        if end and point in LAUNCH_POINTS:
            raise ValueError(f"{VARIABLE}={part}: found {end!r}, wanted nothing or life=N: a process only dies there")
        found.append(CrashAt(point, _number(passing or "1", part), life, end, sleep_ms, part))
    return found


def of_life(spec: str, life: int) -> str:
    """What of ``spec`` acts in that life, as that life's own variable. Raises ValueError as :func:`parse`."""
    ends = {"sleep": ",sleep={}", "stop": ",stop", "raise": ",raise", "": ""}
    chosen = [one for one in parse(spec) if one.life == life]
    return ";".join(f"{one.point}:{one.passing}{ends[one.end].format(one.sleep_ms)}" for one in chosen)


def nothing(point: str) -> None:
    """The crash point of a process that is not to crash."""


class CrashPoints:
    """What to call at every point: a process that is to crash, in its first life."""

    def __init__(self, parts: list[CrashAt]) -> None:
        self._left = {one: one.passing for one in parts}
        self.points = frozenset(one.point for one in parts)

    def __call__(self, point: str) -> None:
        """Passes it."""
        for one in self._left:
            if one.point == point:
                self._left[one] -= 1
                if self._left[one] == 0:
                    _act(one)

    def deadly(self, point: str) -> bool:
        """Passes a point at which the kernel acts: whether it is to, now and from now on."""
        for one in self._left:
            if one.point == point:
                self._left[one] -= 1
                if self._left[one] <= 0:
                    _mark(one)
                    return True
        return False


def crash_points(spec: str) -> Callable[[str], None]:
    """The function to call at every point, for a process in its first life. Raises ValueError as :func:`parse`."""
    known = [one for one in parse(spec) if one.life == 1]
    return CrashPoints(known) if known else nothing


def live_problem() -> str:
    """What this process's variable forbids in live mode, in words; "" while it is unset."""
    found = os.environ.get(VARIABLE, "")
    if not found:
        return ""
    return (
        f"{VARIABLE}: found {found!r}, which ends processes at points between orders, wanted it unset in live mode: "
        f"`unset {VARIABLE}`"
    )


def crash_points_here(mode: Mode) -> Callable[[str], None]:
    """The same by this process's own variable. Raises ConfigInvalid in mode live where it is set."""
    problem = live_problem()
    if problem and mode is Mode.LIVE:
        raise ConfigInvalid([problem])
    return crash_points(os.environ.get(VARIABLE, ""))


def _mark(one: CrashAt) -> None:
    if marks := os.environ.get(MARKS):
        with open(marks, "ab", buffering=0) as file:
            file.write(f"{one.point}\n".encode())


def _act(one: CrashAt) -> None:
    _mark(one)
    if one.end == "sleep":
        threading.Event().wait(one.sleep_ms / 1000)
    elif one.end == "raise":
        raise RuntimeError(f"{VARIABLE}={one.text}")
    else:
        os.kill(os.getpid(), signal.SIGSTOP if one.end == "stop" else signal.SIGKILL)
