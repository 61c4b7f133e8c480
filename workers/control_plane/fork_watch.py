"""Whether the fork server answers: without one nothing that dies is started again, and no death is reported."""

from __future__ import annotations

PING_S = 1.0
LOOK_MAX_S = 1.0  # a look counts for no more, however late it comes
SILENT_MAX_S = 10.0


class ForkWatch:
    """Told of every question, look and answer. Only time in which the supervisor itself ran counts."""

    def __init__(self) -> None:
        self._silent_s = 0.0
        self._looked_s = 0.0
        self._asked_s = 0.0

    def due(self, now_s: float) -> bool:
        """Whether the next question is due; it counts as asked then. Times are monotonic seconds."""
        if now_s - self._asked_s < PING_S:
            return False
        self._asked_s = now_s
        return True

    def answered(self) -> None:
        """An answer, or any other message of it."""
        self._silent_s = 0.0

    def hangs(self, now_s: float) -> bool:
        """Whether it has said nothing for ``SILENT_MAX_S``."""
        passed_s = now_s - self._looked_s if self._looked_s else 0.0
        self._looked_s = now_s
        self._silent_s += min(max(passed_s, 0.0), LOOK_MAX_S)
        return self._silent_s > SILENT_MAX_S
