"""Recordings of Binance (spot, USDⓈ-M), served unchanged over its public endpoints.

Gzip or plain text, one message a line, local receive time in ns, a space, the JSON as received; the line without
``"stream"`` is the REST snapshot; depth with ``pu`` is USDⓈ-M futures. Instrument rows come from the
``instruments.json`` beside the file.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import msgspec
from aiohttp import web

from pipeline.model.errors import BadInput
from pipeline.sim.wire.binance.public_wire import USDM, BinanceWire, filters, info_row
from pipeline.sim.wire.recording import BookShape, CaptureDialect, Frame, RecordedDialect, Recording

SNAPSHOT_WITHIN_LINES = 5000  # the REST snapshot stands near the start of a recording
_encode = msgspec.json.Encoder().encode


class BinanceRecording(Recording):
    """One file."""

    shares_start = True

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

    def book_shape(self) -> BookShape:
        return BookShape("lastUpdateId")

    def is_depth(self, frame: Frame) -> bool:
        return "depth" in frame.topic


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as probe:
        is_gzip = probe.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if is_gzip else open(path, "rb")  # type: ignore[return-value]


def open_recording(path: Path) -> Recording:
    """Reads the head of a file. Raises BadInput for what is no recording."""
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


class BinanceCaptureDialect(BinanceWire, CaptureDialect):
    """Binance from recordings."""

    def routes(self, app: web.Application) -> None:
        super().routes(app)
        for prefix in ("", USDM):
            app.router.add_get(f"{prefix}/fapi/v1/fundingInfo", self._no_adjustments)

    async def _no_adjustments(self, request: web.Request) -> web.Response:
        """Every contract has the usual funding interval: the list names those with another one."""
        return _reply([])

    def venue_of(self, market: str) -> str | None:
        return self.market_venues.get(market)

    def server_time_ms(self, market: str) -> int:
        return self.source.now_ms(self.market_venues[market])

    def exchange_info(self, market: str) -> dict[str, Any]:
        is_futures = market == "futures"
        rows = []
        for recording in self.source.of_venue(self.market_venues[market]):
            for row in recording.instruments:
                rules = filters(row["tick"], row["step"], row["min_qty"], row["min_notional"], is_futures=is_futures)
                rows.append(info_row(row["symbol"], row["base"], row["quote"], rules, is_futures=is_futures))
        return {"rateLimits": [], "symbols": rows}

    async def depth(self, market: str, symbol: str, limit: int) -> dict[str, Any] | None:
        return await self.source.snapshot(self.market_venues[market], symbol, limit)

    def push(self, frame: Frame) -> int:
        return self.publish(frame.venue.partition("_")[2], frame.symbol, frame.topic, frame.data)

    def has_subscriber(self, venue: str, symbol: str) -> bool:
        return self.listens(venue.rpartition("_")[2], symbol, "depth")


def _reply(value: Any) -> web.Response:
    return web.Response(body=_encode(value), content_type="application/json")


RECORDED = RecordedDialect(serve=BinanceCaptureDialect, is_own=Path.is_file, open=open_recording)
