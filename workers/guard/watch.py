"""Whether the executor is lost, by looks at its status page. No clock, no shared memory of its own.

Only time in which the guard itself ran counts: a host that stood still for two seconds is no hung executor.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pipeline.model.enums import ProcessState
from pipeline.model.units import NS_PER_MS
from workers.halt_file import HANGS

LOOK_MAX_NS = 200_000_000  # a look counts for no more, however late it comes
FIRST_START_NS = 120_000_000_000  # an executor that has never been READY may be waiting for kernels and venues
SERVING = (ProcessState.READY, ProcessState.DEGRADED)


class Reading(msgspec.Struct, frozen=True):
    """What one look at the executor's status page has shown. ``epoch`` 0: there has never been one. ``unattended``: it
    does not live, and what would start it again stands still."""

    alive: bool = False
    epoch: int = 0
    state: int = 0
    progress: int = 0
    unattended: bool = False


class ExecutorWatch:
    """Given every look; says when the executor hangs or does not come back.

    ``served``: an executor of this instance has been READY before this guard was born. ``left_half_done``: asked where
    none was and none comes within ``restart_within_ms``, in every look until it is known: whether the last run has left
    a leg alone, which cannot wait as long as a first start may take. Nobody is lost in the look that brings the answer:
    what it has seen of the executor may be older.
    """

    def __init__(
        self, *, hung_after_ms: int, restart_within_ms: int, served: bool, left_half_done: Callable[[], bool | None]
    ) -> None:
        self._hung_after_ns = hung_after_ms * NS_PER_MS
        self._restart_within_ns = restart_within_ms * NS_PER_MS
        self._served = served
        self._left_half_done: Callable[[], bool | None] | None = left_half_done
        self._looked_ns = 0
        self._last = Reading()
        self.silent_ns = 0  # READY without a beat for so long
        self.lost_ns = 0  # not READY for so long
        self._unattended_ns = 0  # dead for so long with nobody to start it

    def look(self, reading: Reading, now_ns: int) -> str:
        """Why the executor counts as lost; "" while it does not. ``now_ns``: monotonic."""
        passed_ns = min(LOOK_MAX_NS, max(0, now_ns - self._looked_ns)) if self._looked_ns else 0
        self._looked_ns = now_ns
        before, self._last = self._last, reading
        serving = reading.alive and reading.state in SERVING
        beaten = (reading.epoch, reading.progress) != (before.epoch, before.progress)
        self.silent_ns = 0 if beaten or not serving else self.silent_ns + passed_ns
        self._served = self._served or serving
        # A planned stop is one only while it lives: what dies in it has ended nothing.
        stops = reading.state == ProcessState.STOPPED or (reading.alive and reading.state == ProcessState.STOPPING)
        self.lost_ns = 0 if serving or stops else self.lost_ns + passed_ns
        self._unattended_ns = self._unattended_ns + passed_ns if reading.unattended and self.lost_ns else 0
        if self.lost_ns >= self._restart_within_ns and not self._served and self._left_half_done is not None:
            left = self._left_half_done()
            if left is not None:
                self._served, self._left_half_done = left, None
                return ""
        if not reading.epoch and not self._served and self._left_half_done is None:
            self.lost_ns = 0  # nobody is missed; one that dies before it has made its page leaves none
        if self.silent_ns >= self._hung_after_ns:
            return f"{HANGS}: no beat for {self.silent_ns // NS_PER_MS} ms"
        if self._served and self._unattended_ns >= self._hung_after_ns:
            return f"the executor is dead, and what starts it has stood still for {self._unattended_ns / 1e9:.1f} s"
        if self.lost_ns >= (self._restart_within_ns if self._served else FIRST_START_NS):
            return f"the executor is not READY again after {self.lost_ns / 1e9:.1f} s"
        return ""

    @property
    def serving(self) -> bool:
        """Whether it was READY at the last look."""
        return self._last.alive and self._last.state in SERVING

    @property
    def beating(self) -> bool:
        """Whether it lives and is not about to count as hung: it may have a lease."""
        return self._last.alive and self.silent_ns < self._hung_after_ns

    def forget(self) -> None:
        """The loss was acted upon: silence and absence count from 0 again."""
        self.silent_ns = self.lost_ns = self._unattended_ns = 0

    def begin_anew(self) -> None:
        """Nothing is open, so that nobody is needed in time: the next start may take as long as a first one
        (``FIRST_START_NS``). With ``restart_within_ms`` a host on which a start takes longer would never get one."""
        self.forget()
        self._served, self._left_half_done = False, None
