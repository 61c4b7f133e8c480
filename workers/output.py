"""Output of commands: the result on stdout, as one JSON object with ``--json``, else as text; all else on stderr."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from pipeline.model.errors import ArbitrageEngineError

STDOUT, STDERR = 1, 2
LINE_BYTES_MAX = 4096  # PIPE_BUF: what a pipe that is called writable takes whole
ALERT = "alert: "  # how the executor begins a line about an alert of the core; the supervisor repeats such lines
TRADE = "trade: "  # the same for trades
#: Level of a line -> priority (``syslog(3)``): debug, informational, notice, warning, error, critical.
PRIORITIES = {"debug": 7, "info": 6, "note": 5, "warning": 4, "error": 3, "critical": 2}
DEFAULT_PRIORITY = 6


class OutputLost(ArbitrageEngineError):
    """The result of a command could not be written to stdout."""


def _encode(value: Any) -> Any:
    if hasattr(value, "item"):  # numpy scalars
        return value.item()
    raise TypeError(f"not JSON: {type(value).__name__}")


def to_json(value: Any) -> str:
    """One line; Decimals as plain strings."""
    return msgspec.json.encode(plain_values(value), enc_hook=_encode).decode()


def plain_values(value: Any) -> Any:
    """Decimals to plain text everywhere (never exponents), tuples to lists, keys to strings."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    return value


def say(text: str) -> None:
    """Write one line for the operator on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def last_lines(log: Path, lines: int) -> str:
    """The last ``lines`` of a text file; "" where it cannot be read."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


class LogLines:
    """Lines on a process's stderr, best effort: a disk that is full and a reader that stands still cost lines, never
    the process. ``lost`` counts them, and the next line that is taken says so.

    ``bytes_max``: stderr is this process's own log file, which is begun anew beyond it; 0: it is somebody else's.
    """

    def __init__(self, bytes_max: int = 0) -> None:
        self.lost = 0
        self._bytes_max = bytes_max
        self._written_bytes = 0
        self._descriptor = -1 if sys.__stderr__ is None else STDERR  # started without one: 2 is something else now
        self._poll = select.poll()
        self._poll.register(STDERR, select.POLLOUT)

    def write(self, text: str) -> None:
        """One line. A pipe or a terminal with room takes up to ``LINE_BYTES_MAX`` at once, without a wait."""
        said = f"({self.lost} lines before this one are lost) {text}" if self.lost else text
        raw = said.encode(errors="backslashreplace")[: LINE_BYTES_MAX - 1] + b"\n"
        try:
            if self._descriptor >= 0 and self._poll.poll(0) == [(STDERR, select.POLLOUT)]:
                self._begin_anew(len(raw))
                os.write(self._descriptor, raw)
                self.lost = 0
                return
        except OSError:
            pass
        self.lost += 1

    def _begin_anew(self, size_bytes: int) -> None:
        self._written_bytes += size_bytes
        if self._bytes_max and self._written_bytes > self._bytes_max:
            os.ftruncate(STDERR, 0)
            self._written_bytes = size_bytes


class EventLines:
    """Objects on stdout, one a line, best effort: a reader that stands still or a full device costs events, never the
    instance; how many is said by an object ``{"event": "lost", "count": N}`` once it takes more."""

    def __init__(self) -> None:
        self.lost = 0
        self._poll = select.poll()
        self._poll.register(STDOUT, select.POLLOUT)

    def write(self, event: dict[str, Any]) -> None:
        """One event."""
        if self._poll.poll(0) != [(STDOUT, select.POLLOUT)]:
            self.lost += 1
            return
        try:
            if self.lost:
                write(to_json({"event": "lost", "count": self.lost}))
                self.lost = 0
            write(to_json(event))
        except OutputLost:
            self.lost += 1


def emit(value: Any, *, as_json: bool, text: Callable[[Any], str]) -> None:
    """Write a command's result on stdout: as JSON, or as ``text(value)``. Raises OutputLost."""
    write(to_json(value) if as_json else text(value))


def write(text: str) -> bool:
    """Write ``text`` and a line end on stdout; False where its reader has gone (``| head``), which is no error.

    Raises OutputLost where stdout cannot take it (a full device).
    """
    try:
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()
        return True
    except BrokenPipeError:
        drop_stdout()
        return False
    except OSError as error:
        drop_stdout()
        raise OutputLost(
            f"stdout cannot be written ({error.strerror}), the command's result is lost; redirect it elsewhere and "
            "run the command again"
        ) from None


def drop_stdout() -> None:
    """Redirect stdout to /dev/null: the interpreter's flush at its end would fail again otherwise."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def stderr_is_terminal() -> bool:
    """Whether an operator watches: only then a live view is drawn."""
    return sys.stderr.isatty()


def journal_prefix(level: str) -> str:
    """``<N>`` where this process's stderr goes to journald, else "": a line that begins with ``<3>`` is an error.

    systemd names the socket that its services' stderr is in ``JOURNAL_STREAM`` (device and inode, ``sd-daemon(3)``); a
    stderr that was redirected since (a log file of the supervisor's children, a terminal) has others.
    """
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream or sys.__stderr__ is None:
        return ""
    try:
        found = os.fstat(sys.__stderr__.fileno())
    except (OSError, ValueError):
        return ""
    if stream != f"{found.st_dev}:{found.st_ino}":
        return ""
    return f"<{PRIORITIES.get(level, DEFAULT_PRIORITY)}>"
