"""Every process's log ring -> ``<state>/logs/arb.jsonl``: one JSON object a line, rotated by size, losses counted.

A line: ``wall`` (UTC), ``mono_ns``, ``process``, and either ``level`` and ``text`` or ``code`` and ``args``. Slots that
were overwritten before they were read are counted in a line of their own (``lost``: 64-byte slots).

Neither a kill nor a restart loses or doubles a line that was still in its ring: :meth:`LogDrain.position` (how much of
the file is confirmed, and where each ring was) is stored after the lines are written; the next recorder cuts the file
back to it and continues in each ring from there.
"""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path

import msgspec

from pipeline.model.units import NS_PER_S
from shm.errors import ShmError
from shm.logring import LogReader, LogRecord
from shm.segment import list_segments, segment_name
from workers.base import LOG_LEVELS

FILE_NAME = "arb.jsonl"
RECORDS_PER_ROUND = 2048  # of one ring; the rest waits for the next round
LEVEL_NAMES = {number: name for name, number in LOG_LEVELS.items()}
ATTACH_EVERY_NS = 500_000_000  # how often rings that appeared or were replaced are looked for


class DrainPosition(msgspec.Struct, frozen=True):
    """``size_bytes`` of the newest file are confirmed; ``rings``: process -> (inode of its ring, next slot)."""

    boot_id: str = ""
    size_bytes: int = 0
    rings: dict[str, tuple[int, int]] = {}


def boot_id() -> str:
    """Id of this boot of the host: inodes of shared memory are comparable within one boot only."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class LogDrain:
    """The only writer of the log folder. ``lost``: slots overwritten unread since this object was made; ``unwritten``:
    lines that a disk without room has not taken since then, and ``problem`` why, while it takes none."""

    def __init__(
        self, instance: str, folder: Path, position: DrainPosition | None, *, file_bytes_max: int, files_max: int
    ) -> None:
        self._instance = instance
        self._folder = folder
        self._file_bytes_max = file_bytes_max
        self._files_max = files_max
        self._boot = boot_id()
        old = position or DrainPosition()
        self._resume = dict(old.rings) if old.boot_id == self._boot else {}
        self._readers: dict[str, LogReader] = {}
        self._inodes: dict[str, int] = {}
        self._said_lost: dict[str, int] = {}
        self._attach_at_ns = 0
        self.lost = 0
        self.unwritten = 0
        self.problem = ""
        self._unsaid_lines = 0
        folder.mkdir(mode=0o700, exist_ok=True)
        self._fd = self._open()
        self._size_bytes = min(old.size_bytes, os.fstat(self._fd).st_size) if position is not None else 0
        os.ftruncate(self._fd, self._size_bytes)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self._folder / FILE_NAME, flags, 0o600)

    def position(self) -> DrainPosition:
        """Where to continue; store it once the lines are written. Rings that have not come back keep their place."""
        rings = {name: (self._inodes[name], reader.cursor) for name, reader in self._readers.items()}
        return DrainPosition(self._boot, self._size_bytes, {**self._resume, **rings})

    def rotate(self) -> bool:
        """Begin a new file when this one is full, and remove the oldest. True: store the position now. Where the disk
        refuses, this one is written on, and the next round tries again."""
        if self._size_bytes < self._file_bytes_max:
            return False
        try:
            for number in range(self._files_max - 1, 0, -1):
                older = self._folder / (f"{FILE_NAME}.{number - 1}" if number > 1 else FILE_NAME)
                if older.exists():
                    older.replace(self._folder / f"{FILE_NAME}.{number}")
            fresh = self._open()
        except OSError as error:
            self.problem = str(error.strerror)
            return False
        os.close(self._fd)
        self._fd = fresh
        os.ftruncate(self._fd, 0)  # with files_max 1 it is the same file
        self._size_bytes = 0
        return True

    def poll(self) -> int:
        """Write what is new in every ring; returns the number of lines. What the disk does not take is counted."""
        now_ns = time.monotonic_ns()
        if now_ns >= self._attach_at_ns:
            self._attach_at_ns = now_ns + ATTACH_EVERY_NS
            self._attach()
        offset_ns = time.time_ns() - time.monotonic_ns()
        lines: list[bytes] = []
        for process, reader in self._readers.items():
            for _ in range(RECORDS_PER_ROUND):
                record = reader.read()
                if record is None:
                    break
                lines.append(_line(process, record, offset_ns))
            unsaid = reader.lost - self._said_lost.get(process, 0)
            if unsaid:
                self._said_lost[process] = reader.lost
                self.lost += unsaid
                lines.append(_lost_line(process, unsaid, now_ns, offset_ns))
        if not lines:
            return 0
        if self._unsaid_lines:
            text = f"{self._unsaid_lines} lines before this one are lost: {self.problem}"
            lines.insert(0, _said_line("recorder", text, self._unsaid_lines, now_ns, offset_ns))
        try:
            self._write(b"".join(lines))
        except OSError as error:
            self.problem = str(error.strerror)
            count = len(lines) - bool(self._unsaid_lines)
            self.unwritten += count
            self._unsaid_lines += count
            return 0
        self.problem, self._unsaid_lines = "", 0
        return len(lines)

    def _write(self, raw: bytes) -> None:
        """All of it or nothing. Raises OSError."""
        view = memoryview(raw)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, self._size_bytes)
            raise
        self._size_bytes += len(raw)

    def _attach(self) -> None:
        prefix = segment_name(self._instance, "log.x")[:-1]
        for name in list_segments(self._instance):
            process = name.removeprefix(prefix)
            if not name.startswith(prefix):
                continue
            reader = self._readers.get(process)
            if reader is not None and reader.segment.is_current():
                continue
            try:
                fresh = LogReader.attach(self._instance, process)
            except ShmError:  # being created, or of another build: looked at again later
                continue
            inode, cursor = self._resume.pop(process, (0, 0))
            if inode == fresh.segment.inode:
                fresh.cursor = cursor  # slots overwritten since are counted by its first read
            self._readers[process] = fresh
            self._inodes[process] = fresh.segment.inode
            self._said_lost[process] = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _wall(wall_ns: int) -> str:
    second, rest_ns = divmod(wall_ns, NS_PER_S)
    return f"{datetime.datetime.fromtimestamp(second, datetime.UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"


def _line(process: str, record: LogRecord, offset_ns: int) -> bytes:
    head = {"wall": _wall(record.mono_ns + offset_ns), "mono_ns": record.mono_ns, "process": process}
    body: dict[str, object]
    if record.code:
        body = {"code": record.code, "args": record.args}
    else:
        body = {"level": LEVEL_NAMES.get(record.level, str(record.level)), "text": record.text}
    return msgspec.json.encode({**head, **body}) + b"\n"


def _lost_line(process: str, lost: int, mono_ns: int, offset_ns: int) -> bytes:
    text = f"{lost} slots of the log ring were overwritten before they were read"
    return _said_line(process, text, lost, mono_ns, offset_ns)


def _said_line(process: str, text: str, lost: int, mono_ns: int, offset_ns: int) -> bytes:
    fields = {"wall": _wall(mono_ns + offset_ns), "mono_ns": mono_ns, "process": process, "level": "warning"}
    return msgspec.json.encode({**fields, "text": text, "lost": lost}) + b"\n"
