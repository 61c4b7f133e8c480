"""Recorded market data as a stream of frames: reads the capture files, recognises them by content.

Two kinds of files (see the captures' own README): *Binance*: gzip or plain text, one message a line, local receive
time in ns, a space, the JSON as received; the line without ``"stream"`` is the REST snapshot; depth with ``pu`` is
USDⓈ-M futures. *Gate.io*: three files with one prefix: ``.0`` instruments, ``.http.0.0`` order-book snapshots,
``.ws.1.0`` pushes. Frames are read lazily; times are relative to the first frame of their recording.
"""

from __future__ import annotations

import gzip
import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any

import msgspec

from pipeline.model.errors import BadInput
from pipeline.sim.exchange.latency import NS_PER_MS, NS_PER_S

SNAPSHOT_WITHIN_LINES = 5000  # the REST snapshot stands near the start of a Binance recording
_GATE_PUSH = re.compile(rb"^(\d+)\.(\d+): (\{.*\})\s*$")
_GATE_HTTP = re.compile(r"^(\S+) -> [\d.]+: (.*)$")


@dataclass(slots=True, frozen=True)
class Frame:
    """One recorded push. ``data``: the payload without any combined-stream wrapper; ``symbol`` as the venue spells."""

    t_ns: int  # since the start of its recording
    venue: str
    symbol: str
    topic: str  # depth, bookTicker, trade / the Gate.io channel
    data: bytes


@dataclass(slots=True, eq=False)
class Recording:
    """One recorded stream of one venue (a Binance file, or a Gate.io triple)."""

    venue: str
    path: Path
    symbols: list[str]
    first_ns: int  # receive time of the first frame
    first_event_ms: int  # the venue's own clock at that frame
    snapshots: dict[str, bytes] = field(default_factory=dict)  # symbol -> REST reply as recorded
    snapshot_ns: dict[str, int] = field(default_factory=dict)  # relative; absent = before the first frame
    instruments: list[dict[str, Any]] = field(default_factory=list)

    def frames(self) -> Iterator[Frame]:
        raise BadInput(f"{self.path}: a recording of no known kind")


class BinanceRecording(Recording):
    def frames(self) -> Iterator[Frame]:
        symbol = self.symbols[0]
        with _open(self.path) as lines:
            for line in lines:
                stamp, _, body = line.partition(b" ")
                if not body.startswith(b'{"stream"'):
                    continue
                name, _, data = body.partition(b'","data":')
                topic = name.split(b"@")[1].split(b'"')[0].decode()
                yield Frame(int(stamp) - self.first_ns, self.venue, symbol, topic, data.rstrip()[:-1])


class GateioRecording(Recording):
    def frames(self) -> Iterator[Frame]:
        with open(f"{self.path}.ws.1.0", "rb") as lines:
            for line in lines:
                found = _GATE_PUSH.match(line)
                if found is None or b'"event":"update"' not in found[3]:
                    continue
                row = msgspec.json.decode(found[3])
                result = row.get("result")
                symbol = _gate_symbol(result)
                if symbol:
                    t_ns = _gate_ns(found) - self.first_ns
                    yield Frame(t_ns, self.venue, symbol, row["channel"], found[3])


def open_recordings(paths: list[Path]) -> list[Recording]:
    """Opens capture files; raises ``BadInput`` naming what is missing or not recognised."""
    found: list[Recording] = []
    for path in paths:
        if Path(f"{path}.ws.1.0").exists():
            found.append(_open_gateio(path))
        elif path.exists():
            found.append(_open_binance(path))
        else:
            raise BadInput(f"capture not found: {path} (Gate.io captures are given as their prefix, without .ws.1.0)")
    for row in found:
        if not row.symbols:
            raise BadInput(f"capture holds no frame that is known: {row.path}")
    # Recordings of one exchange made together share their start.
    for exchange in {row.venue.partition("_")[0] for row in found}:
        together = [row for row in found if isinstance(row, BinanceRecording) and row.venue.startswith(exchange)]
        if together:
            start_ns = min(row.first_ns for row in together)
            for row in together:
                shift_ns = row.first_ns - start_ns
                row.first_ns -= shift_ns
                row.first_event_ms -= shift_ns // NS_PER_MS
                row.snapshot_ns = {symbol: at_ns + shift_ns for symbol, at_ns in row.snapshot_ns.items()}
    return found


def merged(recordings: list[Recording]) -> Iterator[Frame]:
    """All frames in recorded order."""
    return heapq.merge(*(row.frames() for row in recordings), key=lambda frame: frame.t_ns)


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as probe:
        is_gzip = probe.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if is_gzip else open(path, "rb")  # type: ignore[return-value]


def _open_binance(path: Path) -> Recording:
    symbol, first_ns, event_ms, is_futures = "", 0, 0, False
    snapshot, snapshot_ns = b"", 0
    with _open(path) as lines:
        for line in islice(lines, SNAPSHOT_WITHIN_LINES):
            stamp, _, body = line.partition(b" ")
            if not stamp.isdigit():
                raise BadInput(f"{path}: not a capture: a line wants its receive time first, found {line[:40]!r}")
            first_ns = first_ns or int(stamp)
            if body.startswith(b'{"stream"'):
                data = msgspec.json.decode(body)["data"]
                symbol = symbol or str(data["s"])
                event_ms = event_ms or int(data.get("E", 0))
                is_futures = is_futures or "pu" in data
            elif not snapshot:
                snapshot, snapshot_ns = body.strip(), int(stamp)
            if snapshot and symbol and event_ms:
                break
    recording = BinanceRecording(
        venue="binance_futures" if is_futures else "binance_spot",
        path=path,
        symbols=[symbol] if symbol else [],
        first_ns=first_ns,
        first_event_ms=event_ms,
    )
    if snapshot:
        recording.snapshots[symbol] = snapshot
        recording.snapshot_ns[symbol] = snapshot_ns - first_ns
    rows = _instruments_beside(path).get(recording.venue, {})
    recording.instruments = [{"symbol": name, **row} for name, row in rows.items() if name == symbol]
    return recording


def _instruments_beside(path: Path) -> dict[str, Any]:
    beside = path.parent / "instruments.json"
    return dict(msgspec.json.decode(beside.read_bytes())) if beside.exists() else {}


def _open_gateio(path: Path) -> Recording:
    first_ns = event_ms = 0
    with open(f"{path}.ws.1.0", "rb") as lines:
        for line in lines:
            found = _GATE_PUSH.match(line)
            if found is not None and b'"event":"update"' in found[3]:
                first_ns = _gate_ns(found)
                row = msgspec.json.decode(found[3])
                event_ms = int(row.get("time_ms") or row["time"] * 1000)
                break
    recording = GateioRecording(venue="gateio_spot", path=path, symbols=[], first_ns=first_ns, first_event_ms=event_ms)
    with open(f"{path}.http.0.0", encoding="utf-8") as text:
        for row_text in text:
            match = _GATE_HTTP.match(row_text.strip())
            if match is None:
                continue
            if "/futures/" in match[1]:
                recording.venue = "gateio_futures"
            symbol = re.search(r"(?:currency_pair|contract)=([^&]+)", match[1])
            if symbol is not None:
                recording.symbols.append(symbol[1])
                recording.snapshots[symbol[1]] = match[2].encode()
    with open(f"{path}.0", encoding="utf-8") as text:
        for row_text in text:
            match = _GATE_HTTP.match(row_text.strip())
            if match is not None:
                rows = msgspec.json.decode(match[2].encode())
                wanted = set(recording.symbols)
                recording.instruments = [row for row in rows if row.get("id", row.get("name")) in wanted]
                break
    return recording


def _gate_ns(found: re.Match[bytes]) -> int:
    fraction = found[2].decode()[:9].ljust(9, "0")
    return int(found[1]) * NS_PER_S + int(fraction)


def _gate_symbol(result: Any) -> str:
    """The symbol that a push is about; "" where it has none."""
    if isinstance(result, list):
        result = result[0] if result else {}
    if not isinstance(result, dict):
        return ""
    return str(result.get("s") or result.get("currency_pair") or result.get("contract") or "")


class RebuiltBook:
    """A recorded book at a later moment: snapshot and the diffs since, kept as the recorded texts."""

    def __init__(self, venue: str, snapshot: bytes) -> None:
        self._is_gate = venue.startswith("gateio")
        self._is_futures = venue == "gateio_futures"
        self._raw = dict(msgspec.json.decode(snapshot))
        self.update_id = int(self._raw["id" if self._is_gate else "lastUpdateId"])
        self.sides: dict[str, dict[Decimal, tuple[Any, Any]]] = {"bids": {}, "asks": {}}
        for side, levels in self.sides.items():
            self._apply(levels, self._raw[side])

    def _apply(self, levels: dict[Decimal, tuple[Any, Any]], rows: list[Any]) -> None:
        for row in rows:
            price, qty = (row["p"], row["s"]) if isinstance(row, dict) else (row[0], row[1])
            key = Decimal(str(price))
            if Decimal(str(qty)) == 0:
                levels.pop(key, None)
            else:
                levels[key] = (price, qty)

    def on_depth(self, data: bytes) -> None:
        """Applies one recorded diff if it is newer."""
        row = msgspec.json.decode(data)
        body = row["result"] if self._is_gate else row
        last = int(body["u"])
        if last <= self.update_id:
            return
        self._apply(self.sides["bids"], body.get("b") or [])
        self._apply(self.sides["asks"], body.get("a") or [])
        self.update_id = last

    def reply(self, limit: int) -> dict[str, Any]:
        """The REST reply in the venue's shape, ``limit`` levels a side."""
        answer = dict(self._raw)
        answer["id" if self._is_gate else "lastUpdateId"] = self.update_id
        for side, levels in self.sides.items():
            ordered = sorted(levels.items(), reverse=side == "bids")[:limit]
            if self._is_futures:
                answer[side] = [{"p": price, "s": qty} for _, (price, qty) in ordered]
            else:
                answer[side] = [[price, qty] for _, (price, qty) in ordered]
        return answer
