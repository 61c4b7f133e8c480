"""Proof of life: a small page per process with its beat, state and progress.

Death is seen by the page's pid and start time, whatever the beat says. Beats are for hangs: every 25 ms while work
flows, every 500 ms while parked, always from proof of progress, never from a thread of their own.
"""

from __future__ import annotations

from shm.atomics import current_cpu, load_acquire, load_relaxed, mono_ns, store_relaxed, store_release, wrap_add
from shm.errors import SegmentMissing
from shm.jit import njit
from shm.layout import HEADER, LIVENESS
from shm.segment import Arena, Segment, attach_arena, list_segments, segment_name
from shm.words import Words

BEAT_BUSY_MS = 25
BEAT_PARKED_MS = 500
MISSED_BEATS = 3  # a busy process that died or hangs is seen within 100 ms
FEED_MISSED_BEATS = 10  # 250 ms of a busy feed, 5 s of a parked one: its books are then not trusted
_WHAT = "live."


@njit
def beat(words: Words, off: int, now_mono_ns: int) -> None:
    """One more proof of progress at ``now_mono_ns``, and the CPU that it was made on."""
    store_relaxed(words, off + LIVENESS.cpu, current_cpu())
    store_relaxed(words, off + LIVENESS.progress, wrap_add(load_relaxed(words, off + LIVENESS.progress), 1))
    store_release(words, off + LIVENESS.beat_mono_ns, now_mono_ns)  # SYNC live.beat: release; pairs with LivenessView


class Liveness:
    """The writing end; one per process."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.words = segment.words

    @classmethod
    def create(cls, instance: str, process: str) -> Liveness:
        """Creates or takes over ``live.<process>``; SegmentBusy = the process already runs."""
        name = segment_name(instance, _WHAT + process)
        segment = Segment.create(name, size_words=LIVENESS.END, kind=LIVENESS.KIND, instance=instance)
        live = cls(segment)
        live.set_state(0)
        store_relaxed(live.words, LIVENESS.parked, 0)
        live.beat()
        segment.set_ready()
        return live

    @property
    def epoch(self) -> int:
        """+1 with every start of this process: a fencing token."""
        return self.segment.epoch

    def beat(self) -> None:
        """Progress was made now."""
        beat(self.words, 0, mono_ns())

    def set_state(self, state: int) -> None:
        """Tells readers a ``ProcessState``; it is no beat."""
        store_release(self.words, LIVENESS.state, int(state))

    @property
    def parked(self) -> bool:
        """Whether this process has said that it waits, so that beats every 500 ms are enough."""
        return bool(load_relaxed(self.words, LIVENESS.parked) == 1)

    @parked.setter
    def parked(self, value: bool) -> None:
        store_release(self.words, LIVENESS.parked, int(value))

    def close(self) -> None:
        """Gives the page up without a trace: readers go on seeing the last beat and state. A second time is
        harmless."""
        self.segment.close()


class LivenessView:
    """The reading end; works before the process starts, across its restarts and after its death."""

    def __init__(self, process: str, arena: Arena) -> None:
        self.process = process
        self.words = arena.words
        self._arena = arena

    @classmethod
    def attach(cls, instance: str, process: str, *, missing_ok: bool = False) -> LivenessView:
        """Raises SegmentMissing where the process never started, unless ``missing_ok`` (then all reads are 0)."""
        arena = attach_arena([segment_name(instance, _WHAT + process)], LIVENESS.KIND, instance, LIVENESS.END)
        if not missing_ok and not arena.is_mapped(0):
            raise SegmentMissing(f"process {process} of instance {instance} has no liveness page: never started?")
        return cls(process, arena)

    @classmethod
    def attach_all(cls, instance: str) -> dict[str, LivenessView]:
        """Every process that has a page, by name."""
        prefix = segment_name(instance, _WHAT + "x")[:-1]
        found = [name[len(prefix) :] for name in list_segments(instance) if name.startswith(prefix)]
        views = {process: cls.attach(instance, process, missing_ok=True) for process in found}
        return {process: view for process, view in views.items() if view.mapped}

    def refresh(self) -> bool:
        """Looks for a page that appeared or was replaced."""
        return bool(self._arena.refresh())

    @property
    def mapped(self) -> bool:
        """Whether the page was there at the last :meth:`refresh`; all reads are 0 while it was not."""
        return self._arena.is_mapped(0)

    @property
    def epoch(self) -> int:
        """Starts of the process so far: the fencing token of its newest life."""
        return int(load_acquire(self.words, HEADER.epoch))

    @property
    def pid(self) -> int:
        """Process that owns the page or owned it last: it may be dead, and the number taken by another."""
        return int(load_relaxed(self.words, HEADER.owner_pid))

    @property
    def start_ticks(self) -> int:
        """When that process started, in clock ticks since boot: with the pid it names one process for certain."""
        return int(load_relaxed(self.words, HEADER.owner_start))

    @property
    def state(self) -> int:
        """The ``ProcessState`` that it published last; a dead process's stays."""
        return int(load_acquire(self.words, LIVENESS.state))

    @property
    def progress(self) -> int:
        """Beats of this page so far, those of earlier lives of the same build among them."""
        return int(load_relaxed(self.words, LIVENESS.progress))

    @property
    def cpu(self) -> int:
        """CPU that the process ran on at its last beat."""
        return int(load_relaxed(self.words, LIVENESS.cpu))

    @property
    def parked(self) -> bool:
        """Whether it has said that it waits: a beat every 500 ms is then enough."""
        return bool(load_acquire(self.words, LIVENESS.parked) == 1)

    @property
    def beat_mono_ns(self) -> int:
        """Its newest beat by the monotonic clock, ns; 0 = never."""
        return int(load_acquire(self.words, LIVENESS.beat_mono_ns))  # SYNC live.beat: acquire; pairs with beat

    def beat_age_ns(self, now_mono_ns: int | None = None) -> int:
        """Age of the newest beat; the whole clock where there never was one. 0 for a beat that came after
        ``now_mono_ns`` was read."""
        return max(0, (mono_ns() if now_mono_ns is None else now_mono_ns) - self.beat_mono_ns)

    def hung(self, now_mono_ns: int | None = None, *, missed_beats: int = MISSED_BEATS) -> bool:
        """No beat for ``missed_beats`` periods of what the process does (busy or parked)."""
        period_ms = BEAT_PARKED_MS if self.parked else BEAT_BUSY_MS
        return self.beat_age_ns(now_mono_ns) > missed_beats * period_ms * 1_000_000

    def alive(self) -> bool:
        """Whether the very process that owns the page still runs."""
        return self.mapped and is_alive(self.pid, self.start_ticks)


class LivenessViews:
    """The pages of all processes of an instance for who looks again and again: mapped once, and anew where replaced."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._prefix = segment_name(instance, _WHAT + "x")[:-1]
        self._views: dict[str, LivenessView] = {}

    def look(self) -> dict[str, LivenessView]:
        """Every process that has a page now, by name, as :meth:`LivenessView.attach_all`."""
        names = [name[len(self._prefix) :] for name in list_segments(self._instance) if name.startswith(self._prefix)]
        self._views = {
            name: self._views.get(name) or LivenessView.attach(self._instance, name, missing_ok=True) for name in names
        }
        for view in self._views.values():
            view.refresh()
        return {name: view for name, view in self._views.items() if view.mapped}


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether process ``pid`` runs and began at ``start_ticks`` (/proc/<pid>/stat field 22); a zombie is dead.

    True where nothing can be seen for the moment (no descriptor left): death needs a proof.
    """
    if pid <= 0:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as handle:
            raw = handle.read()
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        return True
    fields = raw[raw.rindex(b")") + 2 :].split()
    return int(fields[19]) == start_ticks and fields[0] not in (b"Z", b"X")
