"""journald's priorities: under systemd a line on stderr that begins with ``<3>`` is an error (``sd-daemon(3)``).

systemd names the socket that its services' stderr is in ``JOURNAL_STREAM`` (device and inode); a stderr that was
redirected since (a log file of the supervisor's children, a terminal) has others, and its lines get no prefix.
"""

from __future__ import annotations

import os
import sys

#: Level of a line -> priority (``syslog(3)``): debug, informational, notice, warning, error, critical.
PRIORITIES = {"debug": 7, "info": 6, "note": 5, "warning": 4, "error": 3, "critical": 2}
DEFAULT = 6


def journal_prefix(level: str) -> str:
    """``<N>`` where this process's stderr goes to journald, else ""."""
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream or sys.__stderr__ is None:
        return ""
    try:
        found = os.fstat(sys.__stderr__.fileno())
    except (OSError, ValueError):
        return ""
    if stream != f"{found.st_dev}:{found.st_ino}":
        return ""
    return f"<{PRIORITIES.get(level, DEFAULT)}>"
