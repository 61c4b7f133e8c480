"""Alerts out of the log rings of all processes: lines that begin with ``alert: ``, errors, the supervisor's warnings.

Reading is lossy and counted: a ring that its writer has overwritten costs lines, never time. Where each ring was read
up to is kept with the alerts, so that a restart of the monitor neither tells a line twice nor leaves one out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from pipeline.model.enums import AlertSeverity
from shm.errors import ShmError
from shm.logring import LogReader, LogRecord
from shm.segment import list_segments, segment_name
from workers.base import LOG_LEVELS
from workers.monitor.alert_file import LogPosition
from workers.monitor.alert_list import Condition
from workers.output import ALERT

RECORDS_PER_LOOK = 2048  # of one ring; the rest waits for the next look
OWN = "monitor"  # what the monitor says is no alert: it would tell of its own telling
SUPERVISOR = "supervisor"
NOTES = ("quarantined ",)  # warnings of the supervisor that a start always has: `arb symbols list` shows them
#: How lines begin that the one answer tells too, a second later and with what solves it: "breaker NAME: ...".
ALSO_CONDITIONS = ("breaker: ", "recovery: ")


def boot_id() -> str:
    """Id of this boot of the host: inodes of shared memory are comparable within one boot only."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def condition_text(text: str) -> str | None:
    """How the one answer says what this line says; None where it does not."""
    return text.replace(": ", " ", 1) if text.startswith(ALSO_CONDITIONS) else None


def alert_of(process: str, level: int, text: str) -> Condition | None:
    """The alert that a line of a process is; None where it is none."""
    least = LOG_LEVELS["warning"] if process == SUPERVISOR else LOG_LEVELS["error"]
    if not text.startswith(ALERT) and (level < least or text.startswith(NOTES)):
        return None
    critical = level >= LOG_LEVELS["error"]
    return Condition(
        source=process,
        severity=AlertSeverity.CRITICAL if critical else AlertSeverity.WARNING,
        text=text.removeprefix(ALERT),
        solve="arb status; logs/arb.jsonl in the state folder",
    )


class LogEvents:
    """Reads every ring of an instance. ``lost``: slots that were overwritten unread."""

    def __init__(self, instance: str, resume: Mapping[str, LogPosition]) -> None:
        self._instance = instance
        self._resume = dict(resume)
        self._readers: dict[str, LogReader] = {}
        self._lost_before = 0

    @property
    def lost(self) -> int:
        """Slots overwritten before they were read."""
        return self._lost_before + sum(reader.lost for reader in self._readers.values())

    def positions(self) -> dict[str, LogPosition]:
        """Where to go on; rings that have not come back keep their place."""
        now = {name: LogPosition(reader.segment.inode, reader.cursor) for name, reader in self._readers.items()}
        return {**self._resume, **now}

    def poll(self) -> list[tuple[int, Condition]]:
        """(wall ns, alert) of every new line that is one."""
        self._attach()
        offset_ns = time.time_ns() - time.monotonic_ns()
        found: list[tuple[int, Condition]] = []
        for process, reader in self._readers.items():
            for _ in range(RECORDS_PER_LOOK):
                record = reader.read()
                if record is None:
                    break
                condition = _condition(process, record)
                if condition is not None:
                    found.append((record.mono_ns + offset_ns, condition))
        return found

    def _attach(self) -> None:
        prefix = segment_name(self._instance, "log.x")[:-1]
        for name in list_segments(self._instance):
            process = name.removeprefix(prefix)
            if not name.startswith(prefix) or process == OWN:
                continue
            known = self._readers.get(process)
            if known is not None and known.segment.is_current():
                continue
            try:
                fresh = LogReader.attach(self._instance, process)
            except ShmError:  # being created, or of another build: looked at again
                continue
            at = self._resume.pop(process, None)
            if at is not None and at.inode == fresh.segment.inode:
                fresh.cursor = at.cursor
            if known is not None:
                self._lost_before += known.lost
            self._readers[process] = fresh


def _condition(process: str, record: LogRecord) -> Condition | None:
    return None if record.text == "" else alert_of(process, record.level, record.text)
