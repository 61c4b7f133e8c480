"""The fork server: a process without threads, event loop or network sockets, from which every child is forked.

The supervisor forks it before it has an event loop. It imports the worker modules and loads every kernel once
(``warm``); a child then starts in milliseconds with machine code in memory, also after a crash. Supervisor and fork
server exchange JSON messages over one SOCK_SEQPACKET pair:

    to the fork server    {"op": "config", "path"}                      load the configuration (children inherit it)
                          {"op": "accepted", "path"}                    take the file of an accepted reload as it is
                          {"op": "warm", "modules", "dialects", "last"} import and warm; ``last``: then report "warm"
                          {"op": "spawn", "process", "exchange", "instance", "restarts", "env", "log"}
                          {"op": "ping"}
    from the fork server  {"event": "warming", "text"}                  progress of a compilation
                          {"event": "cache", "text"}                    machine code is damaged or cannot be kept
                          {"event": "warmed", "module", "seconds"}      one module is loaded
                          {"event": "warm"}                             all are: children may be asked for
                          {"event": "spawned", "process", "pid"}
                          {"event": "exited", "process", "pid", "status"}
                          {"event": "failed", "text"}                   the configuration is refused
                          {"event": "not taken", "text"}                the file of a reload cannot be read
                          {"event": "pong"}

A child's exit is seen by its pidfd; ``status`` is the exit code, negative = the signal that ended it. The kernel kills
the fork server when the supervisor dies, and the children when the fork server dies, so that none outlives the
supervisor: the executor by SIGTERM (it has its grace to end open operations), the feeds too (they stay for as long as
it does, because it needs their books) and the guard (it ends what an executor that has died as well has left half
done, ``guard/orphan.py``), the others by SIGKILL.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.execution.crash_points import VARIABLE
from pipeline.model.config import EngineConfig
from pipeline.model.config_load import load_config
from pipeline.model.errors import ConfigInvalid
from workers.base import die_with_parent, start_worker
from workers.control_plane.process_modules import worker_module
from workers.exit_codes import EXIT_COULD_NOT_START, EXIT_CRASHED, EXIT_OK
from workers.locked_keys import keep_own_keys
from workers.stop_signal import STOP_SIGNAL

if TYPE_CHECKING:
    from workers.control_plane.warming import Warmer

MESSAGE_BYTES_MAX = 64 * 1024
_ENV_OF_ONE_CHILD = ("NOTIFY_SOCKET", "WATCHDOG_USEC", VARIABLE)


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
        code = EXIT_OK  # the supervisor has ended
    except Exception:  # noqa: BLE001  the outermost frame of a process
        traceback.print_exc()
    finally:
        os._exit(code)


class ForkServer:
    """Serves requests until the supervisor's end closes."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._children: dict[int, tuple[str, int]] = {}  # pidfd -> (process, pid)
        self._config = EngineConfig()  # until the first "config"
        self._warmer: Warmer | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, STOP_SIGNAL):
            signal.signal(number, signal.SIG_IGN)  # only the supervisor ends this process

    def serve(self) -> int:
        """Answer requests and report exits until the supervisor's end closes; the exit code."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._channel.fileno():
                    raw = self._channel.recv(MESSAGE_BYTES_MAX)
                    if not raw:
                        return EXIT_OK
                    self._handle(msgspec.json.decode(raw, type=dict[str, Any]), poll)
                else:
                    poll.unregister(descriptor)
                    self._reap(descriptor)

    def _send(self, **message: Any) -> None:
        self._channel.send(msgspec.json.encode(message))

    def _handle(self, request: dict[str, Any], poll: select.poll) -> None:
        operation = request["op"]
        if operation == "config":
            self._load(request["path"])
        elif operation == "accepted":
            self._accept(request["path"])
        elif operation == "warm":
            self._warm(request["modules"], request["dialects"], request["last"])
        elif operation == "ping":
            self._send(event="pong")
        elif operation == "spawn":
            pidfd = self._spawn(request)
            if pidfd >= 0:
                poll.register(pidfd, select.POLLIN)

    def _load(self, path: str | None) -> None:
        try:
            self._config = load_config(path)
        except ConfigInvalid as error:
            self._send(event="failed", text=str(error))

    def _accept(self, path: str) -> None:
        """Profile and environment are in it: ``load_config`` would lay them over it once more."""
        try:
            self._config = msgspec.json.decode(Path(path).read_bytes(), type=EngineConfig)
        except (OSError, msgspec.DecodeError) as error:
            self._send(event="not taken", text=f"{path}: {error}; a process that starts again has what was before")

    def _warm(self, modules: list[str], dialects: list[str], last: bool) -> None:
        # Not at the top of the file: numpy and numba, which only the fork server itself may load, after its fork.
        from workers.control_plane.warming import Warmer

        if self._warmer is None:
            self._warmer = Warmer(self._send)
        self._warmer.warm(modules, dialects, last)

    def _spawn(self, request: dict[str, Any]) -> int:
        """The child's pidfd; -1 where the system has no process or no descriptor left: reported as an exit."""
        fork_server, process = os.getpid(), request["process"]
        try:
            pid = os.fork()
        except OSError:
            self._send(event="exited", process=process, pid=0, status=EXIT_COULD_NOT_START)
            return -1
        if pid == 0:
            code = EXIT_COULD_NOT_START
            try:
                code = self._child(request, fork_server)
            finally:
                sys.stderr.flush()
                os._exit(code)
        self._send(event="spawned", process=process, pid=pid)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:  # nobody would learn of its end
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            self._send(event="exited", process=process, pid=pid, status=os.waitstatus_to_exitcode(status))
            return -1
        self._children[pidfd] = (process, pid)
        return pidfd

    def _child(self, request: dict[str, Any], fork_server: int) -> int:
        from shm import jitcache  # numba: only after the fork

        process: str = request["process"]
        in_order = process in ("executor", "guard") or process.startswith("feed.")
        die_with_parent(signal.SIGTERM if in_order else signal.SIGKILL, fork_server)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # a reload waits for who can take it (start_worker)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        keep_own_keys(process)
        gc.enable()
        jitcache.report_to(None)
        jitcache.loaded_all()
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
        self._send(event="exited", process=process, pid=pid, status=os.waitstatus_to_exitcode(status))


def _redirect(log: Path) -> None:
    """stdin from /dev/null, stdout and stderr appended to the process's own log file."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    # the parent may have replaced these objects
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
