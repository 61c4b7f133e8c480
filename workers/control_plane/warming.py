"""Loading every kernel before children are forked, and compiling them all at once the first time.

A kernel that is in the cache is loaded in milliseconds. Where no start with this build has got through its compilation
yet, helpers compile module by module into the cache, as many at once as there are CPUs.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import time
from pathlib import Path
from typing import Any, Protocol

from shm import jit, jitcache, jitlink, sources
from shm.atomics import mono_ns
from shm.warm import warm as warm_shared
from workers.base import die_with_parent
from workers.control_plane.process_modules import worker_module
from workers.exit_codes import EXIT_CRASHED, EXIT_OK
from workers.locked_keys import close_keys

SHARED = "shm"  # stands for the kernels that every process calls
HEAVY_MODULES = ("feed", "detector", "executor")  # about 10, 7 and 4 s of compilation; all others together 1 s
HELPER_NICENESS = 5  # the supervisor reads the venues' instruments meanwhile, under a time-out of seconds
PROGRESS_MS = 5000  # while it compiles, progress is reported at least this often
PROGRESS_LEAST_S = 1.0  # and no more often than this
FUNCTIONS_ABOUT = 400  # kernels and what is compiled into them, with two dialects; each further one brings some more
BAR_CHARACTERS = 24
READ_MAX = 1 << 16


class Report(Protocol):
    """Sends one event of the fork server's protocol (see ``fork_server``)."""

    def __call__(self, **event: Any) -> None: ...


class Warmer:
    """Loads the kernels of worker modules into this process; remembers which it has loaded."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._kernel_reported_at = 0.0
        self._warmed: set[tuple[str, tuple[str, ...]]] = set()

    def warm(self, modules: list[str], dialects: list[str], last: bool) -> None:
        """Load the kernels of ``modules`` for ``dialects``; with ``last`` all is then ready to be forked from."""
        gc.disable()  # what is loaded stays: looking for garbage in it would be a fifth of the start
        jitcache.report_to(self._report_cache, self._report_kernel)
        fresh = [name for name in (SHARED, *modules) if (name, tuple(dialects)) not in self._warmed]
        cold = cache_is_cold(dialects)
        if cold:
            _prepare(fresh)
            if not last:
                return  # everything is compiled at once, side by side, at the last request
            if jitcache.can_keep():  # else a helper's work would be lost with it
                self._compile_side_by_side(fresh, dialects)
        for name in fresh:
            started = time.monotonic()
            _warm_module(name, dialects)
            self._warmed.add((name, tuple(dialects)))
            self._report(event="warmed", module=name, seconds=round(time.monotonic() - started, 3))
        if last:
            jitcache.say_total()
            if cold:
                note_warm(dialects)
                gc.collect()  # a compilation leaves a million objects behind, a load a few thousand
            gc.freeze()  # what exists now is shared with every child; their collectors leave it alone
            gc.enable()
            self._report(event="warm")

    def _report_cache(self, text: str) -> None:
        self._report(event="cache", text=text)

    def _report_kernel(self, kernel: str) -> None:
        """A kernel that the fork server had to compile itself: the cache has lost it, or cannot be written."""
        now = time.monotonic()
        if now >= self._kernel_reported_at:
            self._kernel_reported_at = now + PROGRESS_MS / 1000
            self._report(event="warming", text=f"now {kernel}")

    def _compile_side_by_side(self, modules: list[str], dialects: list[str]) -> None:
        """The first compilation: helpers fill the cache, as many at once as there are CPUs.

        A module with all its dialects is one job: dialects share most kernels, and two helpers would both compile them.
        """
        # the longest first: whatever is left to the end is waited for with the other CPUs idle
        jobs = [name for name in HEAVY_MODULES if name in modules]
        as_executor = ("guard",) if "executor" in jobs else ()  # its kernels are the executor's: not compiled twice
        jobs += [name for name in modules if name not in (*HEAVY_MODULES, *as_executor) and _warms(name)]
        running: dict[int, tuple[str, int]] = {}  # pidfd -> (module, pid)
        counted, counts = os.pipe()  # a byte for each function that a helper has compiled
        ended = select.poll()
        ended.register(counted, select.POLLIN)
        started, reported_at, functions = time.monotonic(), 0.0, 0
        while jobs or running:
            while jobs and len(running) < len(os.sched_getaffinity(0)):
                name = jobs.pop(0)
                pid = self._start_helper(name, dialects, counts)
                pidfd = os.pidfd_open(pid)
                ended.register(pidfd, select.POLLIN)
                running[pidfd] = name, pid
            now = time.monotonic()
            if now >= reported_at + PROGRESS_LEAST_S:
                reported_at = now
                names = ", ".join(name for name, _ in running.values())
                self._report(event="warming", text=progress_text(functions, now - started, names))
            for descriptor, _ in ended.poll(PROGRESS_MS):
                if descriptor == counted:
                    functions += len(os.read(counted, READ_MAX))
                    continue
                _, pid = running.pop(descriptor)
                os.waitpid(pid, 0)  # an error of a helper comes again when this process loads the module
                ended.unregister(descriptor)
                os.close(descriptor)
        os.close(counts)
        functions += len(
            os.read(counted, READ_MAX)
        )  # what the last one wrote before it ended; b"" where nothing is left
        os.close(counted)
        self._report(event="warming", text=progress_text(functions, time.monotonic() - started, "loading them"))

    def _start_helper(self, name: str, dialects: list[str], counts: int) -> int:
        """Fork a process that compiles one module's kernels into the cache and ends; its pid. It writes a byte to
        ``counts`` for each kernel and for each function below one."""
        fork_server = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = EXIT_CRASHED
        try:
            die_with_parent(signal.SIGKILL, fork_server)
            close_keys()
            jitcache.report_to(self._report_cache, lambda kernel: _count(counts))
            jitlink.report_to(lambda: _count(counts))
            os.nice(HELPER_NICENESS)
            gc.disable()  # it would take a tenth of this short process's time
            _warm_module(name, dialects)
            jitcache.say_total()
            code = EXIT_OK
        finally:
            os._exit(code)


def _count(counts: int) -> None:
    with contextlib.suppress(OSError):  # nobody looks any more
        os.write(counts, b".")


def progress_text(functions: int, seconds: float, now: str) -> str:
    """How far the first compilation is: a bar that grows with each function, and is full when the last one is done.
    (Kernels alone would not move it for ten seconds: the first one of a feed has a hundred functions below it.)"""
    filled = min(functions * BAR_CHARACTERS // FUNCTIONS_ABOUT, BAR_CHARACTERS - 1)
    bar = "#" * filled + "." * (BAR_CHARACTERS - filled)
    return f"[{bar}] {functions} of about {FUNCTIONS_ABOUT} functions after {seconds:.0f} s, now {now}"


def _warms(name: str) -> bool:
    return name == SHARED or hasattr(worker_module(name), "warm")


def _warm_module(name: str, dialects: list[str]) -> None:
    if name == SHARED:
        warm_shared()
    elif _warms(name):
        worker_module(name).warm(dialects)


def _prepare(modules: list[str]) -> None:
    """Do once what every helper would do for itself: the imports, and the first kernel, which loads numba's tables."""
    for name in modules:
        _warms(name)
    mono_ns()


def _marker(dialects: list[str]) -> Path:
    """The file beside the machine code whose presence means: every kernel for these dialects has been compiled."""
    return sources.cache_root() / "warm" / "-".join([sources.kernel_hash(), *dialects])


def cache_is_cold(dialects: list[str]) -> bool:
    """Whether no start with this build has compiled every kernel for ``dialects`` ([]: for any)."""
    return not jit.JIT_DISABLED and not _marker(dialects).exists()


def note_warm(dialects: list[str]) -> None:
    """Remember in the cache that every kernel for ``dialects`` has been compiled."""
    with contextlib.suppress(OSError):  # a cache that cannot be written stays cold
        for marker in (_marker(dialects), _marker([])):
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
