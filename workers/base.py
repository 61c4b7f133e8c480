"""What every process of the engine does the same way: one context, one way to start, one way to stop.

A worker module (``workers.feed``, ``workers.executor.process``, ...) offers

* ``run(ctx: WorkerContext) -> None`` -- the whole life of the process, from set-up to a clean return after
  ``ctx.stop_requested()``; calls ``ctx.ready()`` once when it can work and ``ctx.progress()`` from its loop;
* optionally ``warm(dialects: Sequence[str]) -> None`` -- compiles (or loads from the cache) every kernel that ``run``
  calls, with private arrays: no shared memory, no socket, no thread, no event loop. The fork server calls it once
  before it forks, so that children start with machine code in memory;
* ``main()`` -- ``python -m workers.X --instance I --config F``, for systemd and for one process in a debugger.

Two parents are possible: systemd (``python -m workers.X``) and our supervisor, which forks from a warmed fork server.
Both speak the same ``NOTIFY_SOCKET`` protocol (READY=1, WATCHDOG=1, STATUS=, STOPPING=1).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pipeline.model.config import EngineConfig
from pipeline.model.config_load import load_config
from pipeline.model.enums import ProcessState, WaitStrategy
from pipeline.model.errors import ArbitrageEngineError, ConfigInvalid
from pipeline.model.structs import Credentials
from workers.credentials import load_credentials
from workers.exit_codes import EXIT_COULD_NOT_START, EXIT_CRASHED, EXIT_OK, EXIT_USAGE
from workers.output import LogLines, journal_prefix
from workers.state_folder import LOG_BYTES_MAX, instance_dir

if TYPE_CHECKING:
    import asyncio

    from pipeline.exchanges.transport.shared_budgets import Joined
    from shm.liveness import Liveness
    from shm.logring import LogRing
    from shm.metrics import Metrics

WARM_TIMEOUT_US = 300_000_000  # a first compilation, on a busy host
RELOAD_FILE = "reload.json"  # in the state folder: the newest configuration that the supervisor has accepted
STOP_GRACE_S = 10.0  # after SIGTERM the kernel ends a process that does not end itself (SIGALRM, default action)
STATUS_CHARS_MAX = 2000  # of an ending process: holds every line of a refused configuration, and fits a datagram
ORPHAN_LOOK_S = 0.05
BEAT_PERIOD_NS = 25_000_000  # while work flows (design 3); a parked process beats every 500 ms

LOG_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15


def prctl(option: int, value: int) -> None:
    """``prctl(option, value)``; errors are ignored because every use only hardens."""
    ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def die_with_parent(sig: int, parent_pid: int) -> None:
    """Ask the kernel for ``sig`` when the parent dies; end at once if it is dead already."""
    prctl(_PR_SET_PDEATHSIG, sig)
    if os.getppid() != parent_pid:
        os._exit(EXIT_COULD_NOT_START)


def set_undumpable() -> None:
    """No core dump and no ptrace: a process that holds keys leaves nothing behind."""
    prctl(_PR_SET_DUMPABLE, 0)


class Notifier:
    """sd_notify: datagrams to ``NOTIFY_SOCKET`` (a path, or ``@name`` for the abstract space). Silent without one."""

    def __init__(self, address: str | None = None) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)

    def send(self, text: str) -> None:
        """Send one message. A socket that is full or gone is ignored: it must not stop a trading process."""
        if self._socket is None:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError:
            return


class WorkerContext:
    """What a process knows about itself: configuration, name, state folder, metrics, log. Built by ``start_worker``."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        instance: str,
        process: str,
        exchange: str,
        state_dir: Path,
        restarts: int,
        own_log: bool = False,
    ) -> None:
        """``own_log``: stderr is this process's file in the state folder."""
        settings = config.process(process)
        self.config = config
        self.instance = instance
        self.process = process
        self.exchange = exchange  # feed processes only, else ""
        self.state_dir = state_dir
        self.cpus: tuple[int, ...] = settings.cpus
        self.wait: WaitStrategy = settings.wait
        self.nice: int = settings.nice
        self.liveness: Liveness
        self.metrics: Metrics
        self.log: LogRing
        self.budgets: Joined | None = None  # where this process publishes what it uses of the venues' request budgets
        self.restarts = restarts  # how often the supervisor started this process again
        self.stop_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # readable from the stop request on
        self.reload_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # readable after SIGHUP
        self.is_ready = False
        self.orphaned = False  # of a feed, of the guard: the fork server has died, and something may still be open
        self._stop = False
        self._notifier = Notifier()
        self.lines = LogLines(LOG_BYTES_MAX if own_log else 0)
        watchdog_us = int(os.environ.get("WATCHDOG_USEC", "0"))
        self._watchdog_ns = watchdog_us * 1000 // 3
        self._watchdog_at_ns = 0
        self._beat_at_ns = 0

    def stop_requested(self) -> bool:
        """True after SIGTERM (or SIGINT when started by hand). The body then returns; event loops watch ``stop_fd``."""
        return self._stop

    def request_stop(self) -> None:
        """Ask this process to stop, as SIGTERM does: it then has ``STOP_GRACE_S`` left."""
        if not self._stop:
            self._stop = True
            signal.setitimer(signal.ITIMER_REAL, STOP_GRACE_S)
        os.eventfd_write(self.stop_fd, 1)

    def ready(self, status: str = "") -> None:
        """Report READY: kernels compiled, state reconciled, able to work. A second call only changes the status."""
        if not self.is_ready:
            self.is_ready = True
            self.liveness.set_state(ProcessState.READY)
        self.beat()
        self._notifier.send(f"READY=1\nSTATUS={status}" if status else "READY=1")

    def status(self, text: str) -> None:
        """Report one line about what the process is doing, for ``systemctl status`` and ``arb status``."""
        self._notifier.send(f"STATUS={text}")

    def wait_longer(self, more_us: int, text: str) -> None:
        """Report that READY comes later, for a reason: whoever waits for it gives ``more_us`` from now."""
        self._notifier.send(f"EXTEND_TIMEOUT_USEC={more_us}\nSTATUS={text}")

    def degraded(self, text: str) -> None:
        """Report that the process works, but not as configured (a venue down). One that is not READY yet stays what it
        is: who watches it would take it for one that serves, and hangs. Its log has what was said then."""
        if self.is_ready:
            self.liveness.set_state(ProcessState.DEGRADED)
        self.say("warning", text)
        self.status(text)

    def recovered(self, text: str) -> None:
        """Report that what :meth:`degraded` reported is over."""
        if self.is_ready:
            self.liveness.set_state(ProcessState.READY)
        self.say("info", text)
        self.status(text)

    def beat(self) -> None:
        """Write the proof of progress into the liveness page now."""
        self.liveness.beat()

    def progress(self) -> None:
        """Beat at most every 25 ms and ping the watchdog when due; cheap enough for every round of a loop."""
        now = time.monotonic_ns()
        if now - self._beat_at_ns >= BEAT_PERIOD_NS:
            self._beat_at_ns = now
            self.liveness.beat()
            if self.budgets is not None:
                self.budgets.refresh()
            if self._watchdog_ns and now - self._watchdog_at_ns >= self._watchdog_ns:
                self._watchdog_at_ns = now
                # READY again: a supervisor without a CPU has a full socket, which drops what is sent.
                self._notifier.send("READY=1\nWATCHDOG=1" if self.is_ready else "WATCHDOG=1")

    def say(self, level: str, text: str) -> None:
        """Write one line for operators into the log ring and, best effort, to stderr.

        Not for the hot path, never with a secret.
        """
        clean = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
        self.log.text(LOG_LEVELS[level], clean)
        self.lines.write(f"{journal_prefix(level)}{self.process}: {level}: {clean}")

    def reloaded(self) -> EngineConfig | None:
        """The configuration that the supervisor has accepted, where a SIGHUP came since the last call; else None.

        ``self.config`` is then the new one; what the caller derived from the old one it must derive again.
        """
        try:
            os.eventfd_read(self.reload_fd)
        except BlockingIOError:
            return None
        try:
            found = accepted_config(self.state_dir)
            if found is None:
                raise FileNotFoundError("no such file")
            self.config = found
        except (OSError, msgspec.DecodeError) as error:
            self.say("error", f"{RELOAD_FILE}: {error}; the configuration stays as it was")
            return None
        self.say("info", "configuration reloaded")
        return self.config

    def credentials(self, exchange: str) -> Credentials | None:
        """This instance's key of an exchange; None where there is none. Raises ConfigInvalid (see credentials.py)."""
        return load_credentials(self.config, exchange, instance=self.instance)

    def bells_dir(self) -> Path:
        """Folder of the FIFOs that wake parked processes."""
        return self.state_dir / "bells"

    def journal_dir(self) -> Path:
        """Folder of the execution journal's segments."""
        return self.state_dir / "journal"


def accepted_config(state_dir: Path) -> EngineConfig | None:
    """The configuration of the newest reload that the running supervisor has accepted; None where there was none.

    Raises OSError, msgspec.DecodeError."""
    try:
        return msgspec.json.decode((state_dir / RELOAD_FILE).read_bytes(), type=EngineConfig)
    except FileNotFoundError:
        return None


def apply_cpus(cpus: Sequence[int]) -> tuple[int, ...]:
    """Pin this process to ``cpus`` where they exist; returns the CPUs that it may run on now."""
    allowed = os.sched_getaffinity(0)
    wanted = allowed.intersection(cpus)
    if wanted and wanted != allowed:  # a unit has pinned it already, and its sandbox refuses the call
        with contextlib.suppress(PermissionError):
            os.sched_setaffinity(0, wanted)
    return tuple(sorted(os.sched_getaffinity(0)))


def _stop_after_executor(ctx: WorkerContext) -> None:
    """Ask this process to stop once no executor lives any more, or its grace is over."""
    from shm.liveness import LivenessView

    deadline = time.monotonic() + STOP_GRACE_S
    executor = LivenessView.attach(ctx.instance, "executor", missing_ok=True)
    while executor.alive() and time.monotonic() < deadline:
        time.sleep(ORPHAN_LOOK_S)
    ctx.request_stop()


def ignore_stop_requests(loop: asyncio.AbstractEventLoop) -> None:
    """For a process whose work has ended: a further SIGTERM would kill it, and its exit code says how that went."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _install_signals(ctx: WorkerContext, *, supervised: bool) -> None:
    parent = os.getppid()

    def stop(_signum: int, _frame: object) -> None:
        # Control plane gone: an executor that ends what is open needs the books until then, and where it has died too
        # the guard ends what is open. A second signal ends all of them.
        if supervised and (ctx.exchange or ctx.process == "guard") and os.getppid() != parent and not ctx.orphaned:
            ctx.orphaned = True
            if ctx.exchange:
                threading.Thread(target=_stop_after_executor, args=(ctx,), name="orphan", daemon=True).start()
        else:
            ctx.request_stop()

    def reload(_signum: int, _frame: object) -> None:
        os.eventfd_write(ctx.reload_fd, 1)

    signal.signal(signal.SIGTERM, stop)
    # A terminal's Ctrl-C reaches the whole group: under the supervisor only the supervisor answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN if supervised else stop)
    signal.signal(signal.SIGHUP, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _harden(ctx: WorkerContext) -> None:
    """Set name, CPU set, priority and no core dump; what the host refuses is said."""
    prctl_name = ctypes.create_string_buffer(f"arb:{ctx.process}".encode()[:15])
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NAME, prctl_name, 0, 0, 0)
    set_undumpable()
    if ctx.nice and ctx.nice != os.getpriority(os.PRIO_PROCESS, 0):
        try:
            os.setpriority(os.PRIO_PROCESS, 0, ctx.nice)
        except OSError as error:
            ctx.degraded(f"nice {ctx.nice} refused: {error.strerror}; needs CAP_SYS_NICE")
    if ctx.cpus:
        running_on = apply_cpus(ctx.cpus)
        if set(running_on) != set(ctx.cpus):
            ctx.degraded(f"cpus wanted {list(ctx.cpus)}, running on {list(running_on)}")


def start_worker(
    body: Callable[[WorkerContext], None],
    *,
    config: EngineConfig,
    instance: str,
    process: str,
    exchange: str = "",
    supervised: bool = False,
    restarts: int = 0,
) -> int:
    """Run ``body`` as the process ``process`` of ``instance``: a child's outermost frame. Returns the exit code."""
    # Not at the top of the file: numpy and numba. The command line and what forks the fork server import this module.
    from pipeline.exchanges.transport.shared_budgets import join
    from shm.liveness import Liveness
    from shm.logring import LogRing
    from shm.metrics import Metrics

    ctx = WorkerContext(
        config=config,
        instance=instance,
        process=process,
        exchange=exchange,
        state_dir=instance_dir(instance, create=True),
        restarts=restarts,
        own_log=supervised,
    )
    _install_signals(ctx, supervised=supervised)
    try:
        ctx.liveness = Liveness.create(instance, process)
        ctx.log = LogRing.create(instance, process)
        ctx.metrics = Metrics.create(instance, process)
        ctx.budgets = join(instance, process)
        ctx.liveness.set_state(ProcessState.WARMING)
        _harden(ctx)
        body(ctx)
        ctx._notifier.send("STOPPING=1")
        ctx.liveness.set_state(ProcessState.STOPPED)
    except ConfigInvalid as error:
        return _failed(ctx, str(error), EXIT_USAGE)
    except ArbitrageEngineError as error:
        code = EXIT_CRASHED if ctx.is_ready else EXIT_COULD_NOT_START
        return _failed(ctx, f"{type(error).__name__}: {error}", code)
    except Exception as error:  # noqa: BLE001  the outermost frame of a process: crash, restart, reconcile
        with contextlib.suppress(OSError):  # a full disk
            traceback.print_exc()
        return _failed(ctx, f"{type(error).__name__}: {error}", EXIT_CRASHED)
    finally:
        if ctx.budgets is not None:
            ctx.budgets.leave()
    return EXIT_OK


def _failed(ctx: WorkerContext, text: str, code: int) -> int:
    ctx._notifier.send(f"STATUS={' '.join(text.split())[:STATUS_CHARS_MAX]}")  # a status is one line
    ctx.lines.write(f"{journal_prefix('error')}{ctx.process}: error: {text}")
    return code


def run_worker(process: str, body: Callable[[WorkerContext], None], argv: Sequence[str] | None = None) -> int:
    """``main()`` of a worker module: read ``--instance --config [--exchange]``, load the configuration, run ``body``.

    ``process`` is ``feed`` (or ``feed.<exchange>``; ``--exchange`` names it) or another process's name.
    """
    parser = argparse.ArgumentParser(prog=f"python -m workers.{process.partition('.')[0]}")
    parser.add_argument("--instance", default="", help="default: engine_name of the configuration")
    parser.add_argument("--config", default=None, help="configuration file; without one: defaults and ARB_* variables")
    is_feed = process.partition(".")[0] == "feed"
    if is_feed:
        parser.add_argument("--exchange", required=True, help="whose markets this feed carries")
    arguments = parser.parse_args(argv)
    exchange: str = arguments.exchange if is_feed else ""
    try:
        config = load_config(Path(arguments.config) if arguments.config else None, dict(os.environ))
        if exchange and exchange not in config.exchanges:
            known = ", ".join(config.exchanges)
            raise ConfigInvalid([f"--exchange: found {exchange!r}, wanted one of exchanges: {known}"])
    except ConfigInvalid as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    name = f"feed.{exchange}" if exchange else process
    instance = arguments.instance or config.instance
    warm = getattr(sys.modules[body.__module__], "warm", None)
    if warm is not None:  # no fork server has done it: a second from the cache, a minute without
        from shm import jitcache  # numba: such a process has it
        from shm.warm import warm as warm_shared

        Notifier().send(f"EXTEND_TIMEOUT_USEC={WARM_TIMEOUT_US}\nSTATUS=loading kernels")
        warm_shared()
        warm([config.exchanges[exchange].dialect] if exchange else sorted({v.dialect for v in config.venues}))
        jitcache.loaded_all()
    return start_worker(body, config=config, instance=instance, process=name, exchange=exchange)
