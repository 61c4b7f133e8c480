"""The signal by which ``arb@NAME.service`` is stopped: an orderly stop for the supervisor, nothing for all others.

systemd sends the signal of a stop to every process of a unit, also while the unit is still starting. SIGTERM would
hurry an executor and a guard that end what a killed supervisor has left; SIGURG is ignored by whoever does not ask for
it.
"""

from __future__ import annotations

import signal
from types import FrameType

STOP_SIGNAL = signal.SIGURG


def take_stop_signal() -> None:
    """From here on ``STOP_SIGNAL`` is to this process what SIGTERM is, at each moment of its life. Main thread only."""
    signal.signal(STOP_SIGNAL, _as_sigterm)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {STOP_SIGNAL})  # one that came during an exec is taken now


def hold_stop_signal() -> None:
    """Before an ``exec``: what comes until the next life has asked for it waits instead of being ignored."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {STOP_SIGNAL})


def _as_sigterm(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)
