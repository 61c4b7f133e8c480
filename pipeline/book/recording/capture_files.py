"""Recorded market data: reads the files and recognises by their content which venue they are of.

Two kinds:

* line captures (plain or gzip, by their first bytes): ``<receive ns> <JSON>`` a line, wrapped or raw stream
  messages of one venue; a line that is an order book is a REST snapshot;
* request logs, three files named by their prefix: ``P.0`` (instrument lists), ``P.http.0.0`` (snapshots), ``P.ws.1.0``
  (pushes). Lines are ``URL <- time: request``, ``URL -> time: reply``, ``time: push``.

Which venue: each dialect with recordings knows its own messages (``shapes.py``; the dialect's ``recordings.py``). A
file that is cut off or damaged yields everything before the damage; then ``Capture.damage`` says file and line.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

from pipeline.book.recording.shapes import UNREADABLE, Shapes, SizeOf
from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import parse_decimal

GZIP_MAGIC = b"\x1f\x8b"
LOG_PARTS = (".0", ".http.0.0", ".ws.1.0")

FRAME = 0
SNAPSHOT = 1
TIME_MAX_NS = 2**63 - 1

_LINE = re.compile(rb"([0-9]{1,19}) (\{.*\}|\[.*\])\s*", re.DOTALL)
_PUSH = re.compile(rb"([0-9]+(?:\.[0-9]+)?): (.*)", re.DOTALL)
_REPLY = re.compile(rb"(https?://\S+) -> ([0-9]+(?:\.[0-9]+)?): (.*)", re.DOTALL)
_REQUEST = re.compile(rb"\w+://\S+ (?:<-|<->|->) [0-9.]+")
_SYMBOL_PARAMETERS = ("currency_pair", "contract", "symbol")


@dataclass(frozen=True, slots=True)
class Record:
    """One recorded message. ``symbol`` only where the file says it (snapshots), ``conn`` where it says it (frames)."""

    time_ns: int
    kind: int  # FRAME or SNAPSHOT
    payload: bytes
    symbol: str
    file: str
    line: int
    conn: int = 0


@dataclass(slots=True)
class Capture:
    """One capture: its venue, its records in recorded order, what is wrong with its files."""

    name: str
    venue: str  # dialect_market
    records: list[Record] = field(default_factory=list)
    multipliers: dict[str, Decimal] = field(default_factory=dict)  # futures: base coins per contract
    damage: str = ""  # "file:line: what", empty if the files are whole
    dropped: int = 0  # messages that its recorder did not take down, as it says itself
    rows: dict[str, dict[str, str]] = field(default_factory=dict)  # by symbol, where the recording has its catalogue
    venue_name: str = ""  # of the venue in its engine; "" = ``venue``

    @property
    def name_of_venue(self) -> str:
        """The venue as its engine names it; of a capture that says none: dialect_market."""
        return self.venue_name or self.venue

    @property
    def dialect(self) -> str:
        """The dialect of ``venue``."""
        return self.venue.partition("_")[0]

    @property
    def market(self) -> str:
        """The market of ``venue``."""
        return self.venue.partition("_")[2]


@dataclass(slots=True)
class _Lines:
    """The whole lines of a file, and what stopped the reading."""

    path: Path
    damage: str = ""

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        number = 0
        try:
            with open(self.path, "rb") as raw:
                packed = raw.read(2) == GZIP_MAGIC
                raw.seek(0)
                handle = gzip.GzipFile(fileobj=raw) if packed else raw
                for number, line in enumerate(handle, 1):
                    yield number, line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.damage = f"{self.path}:{number + 1}: compressed data is cut off or damaged ({error})"
        except OSError as error:
            raise BadInput(f"cannot read capture {self.path}: {error.strerror or error}") from None


def read_capture(path: str | Path, shapes: Shapes) -> Capture:
    """Reads one capture by file or by request-log prefix; raises ``BadInput`` where there is nothing to read.

    ``shapes``: how the recordings of each dialect look."""
    base = Path(path)
    if base.is_dir():
        raise BadInput(f"capture is a directory: {base}; name a file or a prefix")
    if base.is_file():
        for part in LOG_PARTS:
            prefix = Path(str(base)[: -len(part)])
            if str(base).endswith(part) and Path(f"{prefix}{LOG_PARTS[-1]}").is_file():
                return _read_log(prefix, shapes)
        return _read_lines(base, shapes)
    if any(Path(f"{base}{part}").exists() for part in LOG_PARTS):
        return _read_log(base, shapes)
    raise BadInput(f"no such capture: {base} (neither a file nor a prefix of {', '.join(LOG_PARTS)})")


def is_json(payload: bytes) -> bool:
    """Whether the bytes are one whole JSON value."""
    try:
        msgspec.json.decode(payload)
    except UNREADABLE:
        return False
    return True


def _venue_of(payload: bytes, shapes: Shapes) -> str:
    """The venue whose shape a push has; "" where every venue's could be."""
    for dialect, shape in shapes.items():
        market = shape.market_of(payload)
        if market:
            return f"{dialect}_{market}"
    return ""


def _snapshot_symbol(payload: bytes, shapes: Shapes) -> str | None:
    """None: not a snapshot; else the symbol that it names, or "" ."""
    found = (shape.snapshot_symbol(payload) for shape in shapes.values())
    return next((symbol for symbol in found if symbol is not None), None)


def _set_venue(capture: Capture, record: Record, shapes: Shapes) -> None:
    """The capture's venue by its first telling message; ``BadInput`` when a later one is another venue's, or none that
    a dialect can read."""
    venue = _venue_of(record.payload, shapes) if record.kind == FRAME else ""
    if venue:
        dialect, _, market = venue.partition("_")
        refused = shapes[dialect].refusal(record.payload, market)
        if refused:
            raise BadInput(f"{record.file}:{record.line}: {refused}")
    if venue and capture.venue and venue != capture.venue:
        raise BadInput(f"{record.file}:{record.line}: a message of {venue} in a capture of {capture.venue}")
    capture.venue = capture.venue or venue


def _read_lines(path: Path, shapes: Shapes) -> Capture:
    """A line capture."""
    capture = Capture(name=str(path), venue="")
    lines = _Lines(path)
    for number, line in lines:
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None or int(match[1]) > TIME_MAX_NS or (not line.endswith(b"\n") and not is_json(match[2])):
            capture.damage = f"{path}:{number}: not a whole '<ns> <JSON>' line, starts with {line[:60]!r}"
            break
        payload = match[2]
        symbol = _snapshot_symbol(payload, shapes)
        kind = FRAME if symbol is None else SNAPSHOT
        capture.records.append(Record(int(match[1]), kind, payload, symbol or "", str(path), number))
        _set_venue(capture, capture.records[-1], shapes)
    capture.damage = capture.damage or lines.damage
    if not capture.records:
        raise BadInput(capture.damage or f"capture is empty: {path}")
    if not capture.venue:
        found = (shape.unusable(record.payload) for record in capture.records for shape in shapes.values())
        what = next((text for text in found if text), "no depth update of a venue that we know")
        raise BadInput(capture.damage or f"{path}: holds {what}")
    return capture


def _time_ns(text: bytes) -> int:
    return int(Decimal(text.decode()) * 1_000_000_000)


def _read_log(prefix: Path, shapes: Shapes) -> Capture:
    """A request log: three files merged by time."""
    for part in LOG_PARTS:
        if not Path(f"{prefix}{part}").is_file():
            raise BadInput(f"capture {prefix} lacks its file {prefix}{part}")
    capture = Capture(name=str(prefix), venue="")
    pushes = _log_records(Path(f"{prefix}{LOG_PARTS[2]}"), capture)
    snapshots = _log_records(Path(f"{prefix}{LOG_PARTS[1]}"), capture)
    for record in pushes:
        _set_venue(capture, record, shapes)
    if not capture.venue:
        raise BadInput(capture.damage or f"capture {prefix}: no push of a venue that we know")
    # Stable: at equal times a snapshot comes first, as its reply was there before the next push was read.
    capture.records = sorted(snapshots + pushes, key=lambda record: (record.time_ns, record.kind == FRAME))
    size_of = shapes[capture.dialect].contract_size
    if capture.market == "futures" and size_of is not None:
        capture.multipliers = _multipliers(Path(f"{prefix}{LOG_PARTS[0]}"), capture, size_of)
    return capture


def _log_records(path: Path, capture: Capture) -> list[Record]:
    records: list[Record] = []
    lines = _Lines(path)
    for number, line in lines:
        text = line.rstrip(b"\r\n")
        reply, push = _REPLY.fullmatch(text), _PUSH.fullmatch(text)
        if reply is not None or push is not None:
            url, time, payload = reply.groups() if reply is not None else (b"", *push.groups())  # type: ignore[union-attr]
            if not is_json(payload):
                capture.damage = capture.damage or f"{path}:{number}: message is not whole JSON"
                break
            if reply is None:
                records.append(Record(_time_ns(time), FRAME, payload, "", str(path), number))
            elif b'"asks"' in payload:
                symbol = _url_symbol(url.decode(errors="replace"))
                records.append(Record(_time_ns(time), SNAPSHOT, payload, symbol, str(path), number))
        elif text and _REQUEST.match(text) is None and not text.startswith(b"configuration: "):
            capture.damage = capture.damage or f"{path}:{number}: not a line of a request log: {text[:60]!r}"
            break
    capture.damage = capture.damage or lines.damage
    return records


def _url_symbol(url: str) -> str:
    query = parse_qs(urlsplit(url).query)
    return next((query[name][0] for name in _SYMBOL_PARAMETERS if name in query), "")


def _contract_size(text: str) -> Decimal | None:
    """Base coins per contract; 0 = no size of its own (inverse contracts), None = not a size."""
    try:
        size = parse_decimal(text)
    except ValueError:
        return None
    return size if size >= 0 else None


def _multipliers(path: Path, capture: Capture, size_of: SizeOf) -> dict[str, Decimal]:
    """Contract sizes by symbol from the recorded contract list."""
    found: dict[str, Decimal] = {}
    lines = _Lines(path)
    for number, line in lines:
        match = _REPLY.fullmatch(line.rstrip(b"\r\n"))
        if match is None:
            continue
        try:
            rows = msgspec.json.decode(match[3])
        except UNREADABLE:
            capture.damage = capture.damage or f"{path}:{number}: contract list is not whole JSON"
            break
        for row in rows if isinstance(rows, list) else [rows]:
            named = size_of(row) if isinstance(row, dict) else None
            if named is not None:
                symbol, text = named
                size = _contract_size(text)
                if size is None:
                    where = f"{path}:{number}: contract {symbol!r} of size {text!r}"
                    capture.damage = capture.damage or where
                elif size:
                    found[symbol] = size
    capture.damage = capture.damage or lines.damage
    return found
