"""The fork server: a process without thread, loop or socket to the world, from which every child is forked.

It is forked itself from the supervisor before that one has a loop. It imports the worker modules and loads every
kernel once (``warm``); a child then starts in milliseconds with machine code in memory, also after a crash. It speaks
with the supervisor over one SOCK_SEQPACKET pair, JSON messages:

    supervisor -> {"op": "config", "path"}                    load the configuration (children inherit it)
                  {"op": "warm", "modules", "dialects", "last"} import and warm; ``last``: children may come now
                  {"op": "spawn", "process", "exchange", "instance", "restarts", "env", "log"}
    fork server -> {"event": "warming", "text"} while it compiles, and only then
                  {"event": "cache", "text"} machine code on disk that was damaged, or that cannot be kept there
                  {"event": "warmed", "module", "seconds"} / {"event": "warm"}
                  {"event": "spawned", "process", "pid"} / {"event": "exited", "process", "pid", "status"}
                  {"event": "failed", "text"}

A child's exit is seen by its pidfd; ``status`` is the exit code, negative = the signal that ended it. The kernel kills
the fork server when the supervisor dies, and the children when the fork server dies, so that none outlives the
supervisor: the executor by SIGTERM (it ends what it has begun, within its grace), the others at once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import msgspec

from pipeline.model.errors import ConfigInvalid
from shm import sources
from workers.base import EXIT_COULD_NOT_START, EXIT_CRASHED, die_with_parent, start_worker, worker_module

MESSAGE_BYTES_MAX = 64 * 1024
SHARED = "shm"  # stands for the kernels that every process calls
HEAVY_MODULES = ("feed", "detector", "executor")  # some 10, 7 and 4 s of compilation, all others together 1 s
HELPER_NICENESS = 5  # the supervisor talks with the venues meanwhile, and waits seconds for an answer, not longer
PROGRESS_MS = 5000  # while it compiles, it says how far it is at least so often
_ENV_OF_ONE_CHILD = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "ARB_CRASH_AT")


def start_fork_server() -> tuple[int, socket.socket]:
    """Fork the fork server; returns its pid and the supervisor's end of the pair. Call before any thread or loop."""
    # BLAS starts a thread pool when numpy is imported, and a fork copies only the calling thread.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    ours.close()
    die_with_parent(signal.SIGKILL, parent)
    code = EXIT_CRASHED
    try:
        code = ForkServer(theirs).serve()
    except (BrokenPipeError, ConnectionResetError):
        code = 0  # the supervisor has ended before us: so do we
    except Exception:  # noqa: BLE001  the outermost frame of a process
        traceback.print_exc()
    finally:
        os._exit(code)


class ForkServer:
    """Serves requests until the supervisor's end closes."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._children: dict[int, tuple[str, int]] = {}  # pidfd -> (process, pid)
        self._config: Any = None
        self._tell_kernel_at = 0.0
        self._warmed: set[tuple[str, tuple[str, ...]]] = set()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the supervisor decides; its death is our end

    def serve(self) -> int:
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._channel.fileno():
                    raw = self._channel.recv(MESSAGE_BYTES_MAX)
                    if not raw:
                        return 0
                    self._handle(msgspec.json.decode(raw, type=dict[str, Any]), poll)
                else:
                    poll.unregister(descriptor)
                    self._reap(descriptor)

    def _tell(self, **message: Any) -> None:
        self._channel.send(msgspec.json.encode(message))

    def _handle(self, request: dict[str, Any], poll: select.poll) -> None:
        operation = request["op"]
        if operation == "config":
            self._load(request["path"])
        elif operation == "warm":
            self._warm(request["modules"], request["dialects"], request["last"])
        elif operation == "spawn":
            poll.register(self._spawn(request), select.POLLIN)

    def _load(self, path: str | None) -> None:
        from pipeline.model.config_load import load_config

        try:
            self._config = load_config(path)
        except ConfigInvalid as error:
            self._tell(event="failed", text=str(error))

    def _warm(self, modules: list[str], dialects: list[str], last: bool) -> None:
        from shm import jitcache

        jitcache.report_to(self._tell_of_cache, self._tell_of_kernel)
        fresh = [name for name in (SHARED, *modules) if (name, tuple(dialects)) not in self._warmed]
        cold = _cache_is_cold(dialects)
        if cold:
            _prepare(fresh)
            if not last:
                return  # everything is compiled at once, side by side, when all of it is known
            if jitcache.can_keep():  # else a helper's work would be lost with it
                self._compile_side_by_side(fresh, dialects)
        for name in fresh:
            started = time.monotonic()
            _warm_module(name, dialects)
            self._warmed.add((name, tuple(dialects)))
            self._tell(event="warmed", module=name, seconds=round(time.monotonic() - started, 3))
        if last:
            jitcache.say_total()
            if cold:
                _note_warm(dialects)
            gc.collect()
            gc.freeze()  # what exists now is shared with every child; their collectors leave it alone
            self._tell(event="warm")

    def _tell_of_cache(self, text: str) -> None:
        self._tell(event="cache", text=text)

    def _tell_of_kernel(self, kernel: str) -> None:
        """A kernel that the fork server had to compile itself: the cache has lost it, or cannot be written."""
        now = time.monotonic()
        if now >= self._tell_kernel_at:
            self._tell_kernel_at = now + PROGRESS_MS / 1000
            self._tell(event="warming", text=f"now {kernel}")

    def _compile_side_by_side(self, modules: list[str], dialects: list[str]) -> None:
        """The first compilation: helpers fill the cache, as many at once as there are CPUs.

        A module with all its dialects is one job: dialects share most kernels, and two helpers would both compile them.
        """
        # the longest first: whatever is left to the end is waited for with the other CPUs idle
        jobs = [name for name in HEAVY_MODULES if name in modules]
        jobs += [name for name in modules if name not in HEAVY_MODULES and _warms(name)]
        total, started = len(jobs), time.monotonic()
        running: dict[int, tuple[str, int]] = {}  # pidfd -> (module, pid)
        ended = select.poll()
        while jobs or running:
            while jobs and len(running) < len(os.sched_getaffinity(0)):
                name = jobs.pop(0)
                pid = self._start_helper(name, dialects)
                pidfd = os.pidfd_open(pid)
                ended.register(pidfd, select.POLLIN)
                running[pidfd] = name, pid
            done, seconds = total - len(jobs) - len(running), time.monotonic() - started
            now = ", ".join(name for name, _ in running.values())
            self._tell(event="warming", text=f"{done} of {total} done after {seconds:.0f} s, now {now}")
            for pidfd, _ in ended.poll(PROGRESS_MS):
                _, pid = running.pop(pidfd)
                os.waitpid(pid, 0)  # what a helper could not compile, the fork server meets again and reports
                ended.unregister(pidfd)
                os.close(pidfd)

    def _start_helper(self, name: str, dialects: list[str]) -> int:
        """Forks a process that compiles one module's kernels into the cache and ends; its pid."""
        from shm import jitcache

        fork_server = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = EXIT_CRASHED
        try:
            die_with_parent(signal.SIGKILL, fork_server)
            jitcache.report_to(self._tell_of_cache)
            os.nice(HELPER_NICENESS)
            gc.disable()  # a short life; a tenth of its time
            _warm_module(name, dialects)
            jitcache.say_total()
            code = 0
        finally:
            os._exit(code)

    def _spawn(self, request: dict[str, Any]) -> int:
        fork_server = os.getpid()
        pid = os.fork()
        if pid == 0:
            code = EXIT_COULD_NOT_START
            try:
                code = self._child(request, fork_server)
            finally:
                sys.stderr.flush()
                os._exit(code)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (request["process"], pid)
        self._tell(event="spawned", process=request["process"], pid=pid)
        return pidfd

    def _child(self, request: dict[str, Any], fork_server: int) -> int:
        from shm import jitcache

        process: str = request["process"]
        die_with_parent(signal.SIGTERM if process == "executor" else signal.SIGKILL, fork_server)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        jitcache.report_to(None)
        self._channel.close()
        for pidfd in self._children:
            os.close(pidfd)
        _redirect(Path(request["log"]))
        for name in _ENV_OF_ONE_CHILD:
            os.environ.pop(name, None)
        os.environ.update(request["env"])
        return start_worker(
            worker_module(process).run,
            config=self._config,
            instance=request["instance"],
            process=process,
            exchange=request["exchange"],
            supervised=True,
            restarts=request["restarts"],
        )

    def _reap(self, pidfd: int) -> None:
        process, pid = self._children.pop(pidfd)
        _, status = os.waitpid(pid, 0)
        os.close(pidfd)
        self._tell(event="exited", process=process, pid=pid, status=os.waitstatus_to_exitcode(status))


def _warms(name: str) -> bool:
    return name == SHARED or hasattr(worker_module(name), "warm")


def _warm_module(name: str, dialects: list[str]) -> None:
    if name == SHARED:
        from shm.warm import warm as warm_shared

        warm_shared()
    elif _warms(name):
        worker_module(name).warm(dialects)


def _prepare(modules: list[str]) -> None:
    """What every helper would do for itself: imports, and the first kernel, which brings numba's tables."""
    from shm.atomics import mono_ns

    for name in modules:
        _warms(name)
    mono_ns()


def _marker(dialects: list[str]) -> Path:
    """The file beside the machine code that says: every kernel of this build for these dialects has been compiled."""
    return sources.cache_root() / "warm" / "-".join([sources.kernel_hash(), *dialects])


def _cache_is_cold(dialects: list[str]) -> bool:
    """Whether no start with this build got through compiling for ``dialects`` ([]: any)."""
    from shm import jit

    return not jit.JIT_DISABLED and not _marker(dialects).exists()


def _note_warm(dialects: list[str]) -> None:
    with contextlib.suppress(OSError):  # a cache that cannot be written stays cold
        for marker in (_marker(dialects), _marker([])):
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()


def _redirect(log: Path) -> None:
    """stdin from nowhere, stdout and stderr to the process's own log file (append)."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    # whatever the parent had put in their place
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
