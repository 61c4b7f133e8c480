"""What became of an instance's processes, by ``run.json`` and /proc: which died and how often, how soon each was READY
again, and which of them are left when the instance has ended."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shm.liveness import is_alive

LOOK_S = 0.05
Described = Callable[[], dict[str, Any]]


class ProcessWatch:
    """Looks every ``LOOK_S`` from :meth:`start` to :meth:`stop`, and whenever it is asked to.

    ``deaths``: process -> how often it died; ``recovery_ms``: process -> ms from an end to READY, as the supervisor
    counts them.
    """

    def __init__(self, described: Described) -> None:
        self.deaths: Counter[str] = Counter()
        self.recovery_ms: dict[str, list[float]] = {}
        self._described = described
        self._counted: Counter[tuple[int, str]] = Counter()  # restarts by (when the instance began, process)
        self._timed: Counter[tuple[int, str]] = Counter()
        self._begun: dict[int, int] = {}  # pid -> start, in the kernel's ticks
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="process-watch", daemon=True)

    def start(self) -> None:
        """Looks by itself from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Looks no more."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _go_on(self) -> None:
        while not self._over.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Takes in what ``run.json`` says now."""
        with self._lock:
            found = self._described()
            begun = int(found.get("started_wall_ns", 0))
            self._saw(int(found.get("pid", 0)))
            for process, row in found.get("processes", {}).items():
                key, restarts = (begun, process), int(row["restarts"])
                self._saw(int(row["pid"]))
                self.deaths[process] += max(0, restarts - self._counted[key])
                self._counted[key] = max(restarts, self._counted[key])
                if row["ready"] and row["recovery_ms"] is not None and restarts > self._timed[key]:
                    self._timed[key] = restarts
                    self.recovery_ms.setdefault(process, []).append(float(row["recovery_ms"]))

    def _saw(self, pid: int) -> None:
        if pid and not is_alive(pid, self._begun.get(pid, 0)):
            with contextlib.suppress(OSError):
                self._begun[pid] = _start_ticks(pid)

    def left(self) -> list[int]:
        """Pids of the processes that were seen and still run."""
        return [pid for pid, ticks in self._begun.items() if is_alive(pid, ticks)]


def _start_ticks(pid: int) -> int:
    raw = Path(f"/proc/{pid}/stat").read_bytes()
    return int(raw[raw.rindex(b")") + 2 :].split()[19])
