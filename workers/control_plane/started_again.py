"""A supervisor whose fork server has ended begins anew as the same command: a start is a recovery.

It has threads and an event loop by then and cannot fork another one, so it replaces itself (``exec``): the pid stays,
locks and sockets are given up on the way. Bounded, so that a fault at every start ends with an exit code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from pipeline.execution.crash_points import VARIABLE
from workers.stop_signal import hold_stop_signal

AGAIN_MAX = 3
WINDOW_S = 600.0
BEGUN = "ARB_STARTED_AGAIN"  # when this process has begun anew, in seconds of the monotonic clock


def may_start_again(now_s: float) -> bool:
    """Whether that has not happened ``AGAIN_MAX`` times within ``WINDOW_S``."""
    return len(_lately(now_s)) < AGAIN_MAX


def start_again(fork_server_pid: int) -> None:
    """Replaces this process, once the fork server that has ended is no child of it any more. Returns only where the
    system refuses."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(fork_server_pid, 0)
    now_s = time.monotonic()
    os.environ[BEGUN] = ",".join(f"{at:.3f}" for at in (*_lately(now_s), now_s))
    os.environ.pop(VARIABLE, None)  # of the first life
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # what is ignored stays so through an exec
        signal.signal(number, signal.SIG_DFL)
    hold_stop_signal()
    sys.stdout.flush()
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError:
        return


def _lately(now_s: float) -> list[float]:
    begun = [float(word) for word in os.environ.get(BEGUN, "").split(",") if word]
    return [at for at in begun if 0 <= now_s - at < WINDOW_S]
