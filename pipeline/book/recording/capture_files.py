"""Recorded market data: reads the files and recognises by their content which venue they are of.

Two kinds:

* line captures (plain or gzip, by their first bytes): ``<receive ns> <JSON>`` a line, wrapped or raw stream
  messages of one venue; a line that is an order book (``lastUpdateId``) is a REST snapshot;
* request logs, three files named by their prefix: ``P.0`` (instrument lists), ``P.http.0.0`` (snapshots), ``P.ws.1.0``
  (pushes). Lines are ``URL <- time: request``, ``URL -> time: reply``, ``time: push``.

Which venue: ``pu`` in depth updates = Binance USDⓈ-M (COIN-M, told by its symbols, is refused), depth updates without
it = Binance spot, channels ``spot.*`` and ``futures.*`` = Gate.io. Partial books (``@depth5``) are no depth updates. A
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
_CHANNEL = re.compile(rb'"channel"\s*:\s*"(spot|futures)\.')
_DEPTH_EVENT = re.compile(rb'"e"\s*:\s*"depthUpdate"')
_PARTIAL = re.compile(rb'"stream"\s*:\s*"[^"]*@depth[0-9]')
_COIN_MARGINED = re.compile(rb'"s"\s*:\s*"([A-Z0-9]+USD_(?:PERP|[0-9]{6}))"')
_PREVIOUS = re.compile(rb'"pu"\s*:\s*[0-9]')
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last: nested a thousand deep
_SYMBOL_PARAMETERS = ("currency_pair", "contract", "symbol")


class _SnapshotHead(msgspec.Struct):
    """Names that a recorded snapshot may carry besides its id."""

    lastUpdateId: int | None = None
    s: str = ""
    symbol: str = ""


class _Wrapped(msgspec.Struct):
    stream: str = ""
    data: _SnapshotHead | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One recorded message. ``symbol`` only where the file says it (snapshots)."""

    time_ns: int
    kind: int  # FRAME or SNAPSHOT
    payload: bytes
    symbol: str
    file: str
    line: int


@dataclass(slots=True)
class Capture:
    """One capture: its venue, its records in recorded order, what is wrong with its files."""

    name: str
    venue: str  # binance_spot, binance_futures, gateio_spot, gateio_futures
    records: list[Record] = field(default_factory=list)
    multipliers: dict[str, Decimal] = field(default_factory=dict)  # futures: base coins per contract
    damage: str = ""  # "file:line: what", empty if the files are whole

    @property
    def dialect(self) -> str:
        """The dialect of ``venue``: gateio, of gateio_spot."""
        return self.venue.partition("_")[0]

    @property
    def market(self) -> str:
        """The market of ``venue``: spot, of gateio_spot."""
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


def read_capture(path: str | Path) -> Capture:
    """Reads one capture by file or by request-log prefix; raises ``BadInput`` where there is nothing to read."""
    base = Path(path)
    if base.is_dir():
        raise BadInput(f"capture is a directory: {base}; name a file or a prefix")
    if base.is_file():
        for part in LOG_PARTS:
            prefix = Path(str(base)[: -len(part)])
            if str(base).endswith(part) and Path(f"{prefix}{LOG_PARTS[-1]}").is_file():
                return _read_log(prefix)
        return _read_lines(base)
    if any(Path(f"{base}{part}").exists() for part in LOG_PARTS):
        return _read_log(base)
    raise BadInput(f"no such capture: {base} (neither a file nor a prefix of {', '.join(LOG_PARTS)})")


def is_json(payload: bytes) -> bool:
    """Whether the bytes are one whole JSON value."""
    try:
        msgspec.json.decode(payload)
    except UNREADABLE:
        return False
    return True


def _snapshot_symbol(payload: bytes) -> str | None:
    """None: not a snapshot; else the symbol that it names, or "" ."""
    if b'"channel"' not in payload and b'"asks"' in payload and b'"bids"' in payload and b'"id"' in payload:
        return ""  # Gate.io
    if b'"lastUpdateId"' not in payload:
        return None
    try:
        if b'"stream"' in payload[:100]:
            wrapped = msgspec.json.decode(payload, type=_Wrapped)
            if wrapped.data is None or wrapped.data.lastUpdateId is None or "@depth" in wrapped.stream:
                return None
            return wrapped.data.s or wrapped.data.symbol or wrapped.stream.partition("@")[0].upper()
        head = msgspec.json.decode(payload, type=_SnapshotHead)
    except UNREADABLE:
        return None
    return None if head.lastUpdateId is None else head.s or head.symbol


def _venue_of(payload: bytes) -> str:
    """The venue whose shape a push has; "" where every venue's could be."""
    channel = _CHANNEL.search(payload)
    if channel is not None:
        return "gateio_spot" if channel[1] == b"spot" else "gateio_futures"
    if _DEPTH_EVENT.search(payload) is None or _PARTIAL.search(payload) is not None:
        return ""
    return "binance_futures" if _PREVIOUS.search(payload) is not None else "binance_spot"


def _set_venue(capture: Capture, record: Record) -> None:
    """The capture's venue by its first telling message; ``BadInput`` when a later one is another venue's."""
    venue = _venue_of(record.payload) if record.kind == FRAME else ""
    coin = _COIN_MARGINED.search(record.payload) if venue == "binance_futures" else None
    if coin is not None:
        raise BadInput(
            f"{record.file}:{record.line}: a recording of Binance COIN-M futures ({coin[1].decode()}): quantities are "
            "contracts of US dollars, which no venue here has; wanted spot or USDⓈ-M"
        )
    if venue and capture.venue and venue != capture.venue:
        raise BadInput(f"{record.file}:{record.line}: a message of {venue} in a capture of {capture.venue}")
    capture.venue = capture.venue or venue


def _read_lines(path: Path) -> Capture:
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
        symbol = _snapshot_symbol(payload)
        kind = FRAME if symbol is None else SNAPSHOT
        capture.records.append(Record(int(match[1]), kind, payload, symbol or "", str(path), number))
        _set_venue(capture, capture.records[-1])
    capture.damage = capture.damage or lines.damage
    if not capture.records:
        raise BadInput(capture.damage or f"capture is empty: {path}")
    if not capture.venue:
        partial = any(_PARTIAL.search(record.payload) for record in capture.records)
        what = (
            "partial books only (depth5, depth10, depth20), wanted their updates (@depth)"
            if partial
            else ("no depth update of a venue that we know")
        )
        raise BadInput(capture.damage or f"{path}: holds {what}")
    return capture


def _time_ns(text: bytes) -> int:
    return int(Decimal(text.decode()) * 1_000_000_000)


def _read_log(prefix: Path) -> Capture:
    """A request log: three files merged by time."""
    for part in LOG_PARTS:
        if not Path(f"{prefix}{part}").is_file():
            raise BadInput(f"capture {prefix} lacks its file {prefix}{part}")
    capture = Capture(name=str(prefix), venue="")
    pushes = _log_records(Path(f"{prefix}{LOG_PARTS[2]}"), capture)
    snapshots = _log_records(Path(f"{prefix}{LOG_PARTS[1]}"), capture)
    for record in pushes:
        _set_venue(capture, record)
    if not capture.venue:
        raise BadInput(capture.damage or f"capture {prefix}: no push of a venue that we know")
    # Stable: at equal times a snapshot comes first, as its reply was there before the next push was read.
    capture.records = sorted(snapshots + pushes, key=lambda record: (record.time_ns, record.kind == FRAME))
    if capture.venue == "gateio_futures":
        capture.multipliers = _multipliers(Path(f"{prefix}{LOG_PARTS[0]}"), capture)
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


def _multipliers(path: Path, capture: Capture) -> dict[str, Decimal]:
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
            if isinstance(row, dict) and "name" in row and "quanto_multiplier" in row:
                size = _contract_size(str(row["quanto_multiplier"]))
                if size is None:
                    where = f"{path}:{number}: contract {row['name']!r} of size {row['quanto_multiplier']!r}"
                    capture.damage = capture.damage or where
                elif size:
                    found[str(row["name"])] = size
    capture.damage = capture.damage or lines.damage
    return found
