"""The log of an instance (``logs/arb.jsonl`` and what was rotated) as rows: the newest, and those that are added."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from workers.state_folder import instance_dir

FOLDER = "logs"
FILE_NAME = "arb.jsonl"  # of the recorder (``recorder/log_files.py``); rotated ones have .1, .2, ... behind it
LEVELS = ("debug", "info", "warning", "error", "critical")
READ_BYTES = 1 << 20
Row = dict[str, Any]
Wanted = Callable[[Row], bool]


def log_file(instance: str) -> Path:
    """The newest log file of an instance; it may not exist yet."""
    return instance_dir(instance) / FOLDER / FILE_NAME


def wanted(level: str, process: str, since_ns: int = 0, until_ns: int = 0) -> Wanted:
    """Rows of at least ``level`` ("" = all) whose process is ``process`` or begins with it and a dot ("" = all), from
    one wall-clock time to another (ns, 0 = no bound). A row of numbers (``code``) has no level and counts as info."""
    least = LEVELS.index(level) if level else 0
    first, last = (_wall_text(bound) if bound else "" for bound in (since_ns, until_ns))

    def is_wanted(row: Row) -> bool:
        name = str(row.get("process", ""))
        of_process = not process or name == process or name.startswith(f"{process}.")
        said, at = str(row.get("level", "info")), str(row.get("wall", ""))
        if at < first or (last and at > last):
            return False
        return of_process and (LEVELS.index(said) if said in LEVELS else len(LEVELS)) >= least

    return is_wanted


def _wall_text(wall_ns: int) -> str:
    """A time as the rows spell theirs, which sort as text."""
    return f"{datetime.fromtimestamp(wall_ns // 1000 / 1e6, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def rows_of(raw: bytes) -> Iterator[Row]:
    """The rows of whole lines; a line that is none (a damaged disk) is shown as it is."""
    for line in raw.splitlines():
        try:
            yield msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            yield {"process": "?", "level": "error", "text": line.decode(errors="replace")}


class LogTail:
    """Reads a log file on and on, over rotations and over the restart of its writer, which may cut its end off."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._offset = 0
        self._part = b""  # of a line whose end is not written yet

    def newest(self, count: int, is_wanted: Wanted) -> list[Row]:
        """The last ``count`` wanted rows of all files, oldest first; :meth:`poll` goes on behind them."""
        found: deque[Row] = deque(maxlen=count)
        numbered = sorted(self._path.parent.glob(f"{FILE_NAME}.*"), key=lambda path: -int(path.suffix[1:]))
        for path in numbered:
            try:
                raw = path.read_bytes()
            except FileNotFoundError:  # rotated since it was listed
                continue
            found.extend(row for row in rows_of(raw) if is_wanted(row))
        found.extend(row for row in self.poll() if is_wanted(row))
        return list(found)

    def poll(self) -> list[Row]:
        """What was added since the last call."""
        rows = self._read()
        try:
            replaced = self._fd >= 0 and self._path.stat().st_ino != os.fstat(self._fd).st_ino
        except FileNotFoundError:  # between two files
            return rows
        if replaced:
            rows += self._read()  # what was added before it was rotated
            self.close()
            rows += self._read()
        return rows

    def _read(self) -> list[Row]:
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return []
        size = os.fstat(self._fd).st_size
        if size < self._offset:
            self._offset, self._part = size, b""
        chunks = [self._part]
        while chunk := os.pread(self._fd, READ_BYTES, self._offset):
            self._offset += len(chunk)
            chunks.append(chunk)
        whole, _, self._part = b"".join(chunks).rpartition(b"\n")
        return list(rows_of(whole))

    def close(self) -> None:
        """Close the file; the next reading begins with the file that stands there then."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._offset, self._part = -1, 0, b""


def line_text(row: Mapping[str, Any]) -> str:
    """A row as one line."""
    said = row.get("text") if "text" in row else f"code {row.get('code')} {row.get('args')}"
    return f"{row.get('wall', '')}  {row.get('level', 'info'):<8} {row.get('process', ''):<14} {said}"
