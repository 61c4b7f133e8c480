"""Recordings of Gate.io (spot, USDT futures), served unchanged over its public endpoints.

Three files with one prefix: ``.0`` instruments, ``.http.0.0`` order-book snapshots, ``.ws.1.0`` pushes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from pipeline.sim.exchange.latency import NS_PER_S
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.dialect import Host, SimSocket
from pipeline.sim.wire.recording import BookShape, CaptureDialect, Frame, RecordedDialect, Recording

_encode = msgspec.json.Encoder().encode
GATE_DEPTH_MAX = 1000
_GATE_PUSH = re.compile(rb"^(\d+)\.(\d+): (\{.*\})\s*$")
_GATE_HTTP = re.compile(r"^(\S+) -> [\d.]+: (.*)$")


class GateioRecording(Recording):
    """One triple of files."""

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

    def book_shape(self) -> BookShape:
        return BookShape("id", body_key="result", objects=self.venue == "gateio_futures")

    def is_depth(self, frame: Frame) -> bool:
        return frame.topic.endswith(".order_book_update")


def open_recording(path: Path) -> Recording:
    """Reads the heads of the three files."""
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


class GateioCaptureDialect(CaptureDialect):
    """Gate.io from recordings: subscribe, acknowledge, push the recorded texts unchanged."""

    def __init__(self, venues: dict[str, SimVenue], host: Host) -> None:
        super().__init__(venues, host)
        self._topics: dict[tuple[str, str], set[SimSocket]] = {}  # (channel, symbol) -> sockets

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/ws/v4/", self._socket)
        app.router.add_get("/v4/ws/usdt", self._socket)
        add = app.router.add_get
        add("/api/v4/spot/time", self._time)
        add("/api/v4/spot/currency_pairs", self._rows)
        add("/api/v4/spot/currency_pairs/{symbol}", self._rows)
        add("/api/v4/spot/currencies", self._empty)
        add("/api/v4/spot/order_book", self._depth)
        add("/api/v4/futures/usdt/contracts", self._rows)
        add("/api/v4/futures/usdt/contracts/{symbol}", self._rows)
        add("/api/v4/futures/usdt/order_book", self._depth)

    def urls(self, host: str, port: int) -> dict[str, dict[str, str]]:
        paths = {"spot": "/ws/v4/", "futures": "/v4/ws/usdt"}
        return {
            name: {"rest": f"http://{host}:{port}/api/v4", "ws": f"ws://{host}:{port}{paths[market]}"}
            for market, name in self.market_venues.items()
        }

    def has_subscriber(self, venue: str, symbol: str) -> bool:
        channel = f"{venue.rpartition('_')[2]}.order_book_update"
        return bool(self._topics.get((channel, symbol)))

    def push(self, frame: Frame) -> int:
        listeners = self._topics.get((frame.topic, frame.symbol), ())
        text = frame.data.decode()
        for sock in listeners:
            sock.send(text)
        return len(listeners)

    def _venue(self, request: web.Request) -> str:
        is_futures = "/futures/" in request.path or request.path.endswith("/usdt")
        return self.market_venues.get("futures" if is_futures else "spot", "")

    async def _time(self, request: web.Request) -> web.Response:
        name = self.market_venues.get("spot") or self.market_venues["futures"]
        return _reply({"server_time": self.source.now_ms(name)})

    async def _empty(self, request: web.Request) -> web.Response:
        return _reply([])

    async def _rows(self, request: web.Request) -> web.Response:
        rows = [row for recording in self.source.of_venue(self._venue(request)) for row in recording.instruments]
        symbol = request.match_info.get("symbol")
        if symbol is None:
            return _reply(rows)
        for row in rows:
            if row.get("id", row.get("name")) == symbol:
                return _reply(row)
        return _reply({"label": "INVALID_CURRENCY_PAIR", "message": symbol}, 400)

    async def _depth(self, request: web.Request) -> web.Response:
        symbol = request.query.get("currency_pair") or request.query.get("contract") or ""
        text = request.query.get("limit", "10")
        limit = min(GATE_DEPTH_MAX, int(text)) if text.isdigit() else 10
        book = await self.source.snapshot(self._venue(request), symbol, limit)
        if book is None:
            return _reply({"label": "INVALID_CURRENCY_PAIR", "message": symbol}, 400)
        return _reply(book)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        venue = self._venue(request)
        if not venue:
            return web.Response(status=404)
        sock = SimSocket(self, request, venue, "public")
        refused = await sock.open()
        if refused is not None:
            return refused
        try:
            async for message in sock:
                sock.send(self._control(sock, venue, message.data))
        finally:
            for listeners in self._topics.values():
                listeners.discard(sock)
        return sock.response

    def _control(self, sock: SimSocket, venue: str, data: str | bytes) -> str:
        try:
            row = msgspec.json.decode(data)
            channel, event = str(row["channel"]), str(row.get("event", ""))
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            return '{"error":{"code":1,"message":"malformed"},"result":null}'
        now_ms = self.source.now_ms(venue)
        answer: dict[str, Any] = {"time": now_ms // 1000, "time_ms": now_ms, "channel": channel, "event": event}
        if "id" in row:
            answer["id"] = row["id"]
        if channel.endswith(".ping"):
            return _encode({**answer, "channel": channel.replace("ping", "pong"), "result": None}).decode()
        payload = row.get("payload") or []
        known = {name for recording in self.source.of_venue(venue) for name in recording.symbols}
        symbols = [name for name in payload if name in known]
        if event not in ("subscribe", "unsubscribe") or not symbols:
            answer |= {"error": {"code": 2, "message": f"unknown currency pair: {payload[:1]}"}}
            return _encode({**answer, "result": {"status": "fail"}}).decode()
        for symbol in symbols:
            listeners = self._topics.setdefault((channel, symbol), set())
            if event == "subscribe":
                listeners.add(sock)
            else:
                listeners.discard(sock)
        return _encode({**answer, "error": None, "result": {"status": "success"}}).decode()


def _reply(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=_encode(value), status=status, content_type="application/json")


def is_recording(path: Path) -> bool:
    """Whether ``path`` is the prefix of a triple."""
    return Path(f"{path}.ws.1.0").exists()


RECORDED = RecordedDialect(serve=GateioCaptureDialect, is_own=is_recording, open=open_recording)
