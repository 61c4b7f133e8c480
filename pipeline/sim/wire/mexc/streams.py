"""MEXC spot streams: control frames as JSON text, market pushes as protobuf.

A channel is encoded once per event and the same bytes go to every subscriber. Refusals come with code 0 and the
venue's odd text, as recorded: two spaces, a full-width colon, a trailing space.
Source: MEXC spot v3 "WebSocket Market Streams"; websocket-proto; third-party recordings of refusals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from pipeline.model.enums import OrderSide
from pipeline.sim.exchange.candles import MONTH_S, WEEK_S, window_end_s
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.events import BookDelta, MarketEvent, MarketTrade, Ticker
from pipeline.sim.exchange.instruments import Level, SimInstrument
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.dialect import SimSocket
from pipeline.sim.wire.mexc import push_frames as frames
from pipeline.sim.wire.numbers import exact_text

INTERVALS_MS = {"10ms": 10, "100ms": 100}
LIMIT_DEPTHS = ("5", "10", "20")
_DEPTH = "spot@public.aggre.depth.v3.api.pb"
_LIMIT = "spot@public.limit.depth.v3.api.pb"
_TICKER = "spot@public.aggre.bookTicker.v3.api.pb"
_TICKER_BATCH = "spot@public.bookTicker.batch.v3.api.pb"
_DEALS = "spot@public.aggre.deals.v3.api.pb"
_KLINE = "spot@public.kline.v3.api.pb"
_MINI = "spot@public.miniTicker.v3.api.pb"
_MINIS = "spot@public.miniTickers.v3.api.pb"
_BATCH_INTERVAL_MS = 100
_KLINE_INTERVAL_MS = 1000
_MINI_INTERVAL_MS = 3000
KLINES = {
    "Min1": 60,
    "Min5": 300,
    "Min15": 900,
    "Min30": 1800,
    "Min60": 3600,
    "Hour4": 14_400,
    "Hour8": 28_800,
    "Day1": 86_400,
    "Week1": WEEK_S,
    "Month1": MONTH_S,
}
_HOURS = (-10, -8, -7, -6, -5, -4, -3, *range(14))
_ZONES = frozenset({"24H", "UTC+4:30", "UTC+5:30", "UTC+12:45", *(f"UTC{hour:+d}" for hour in _HOURS)})
_DAY_S = 86_400
_NO_QUOTE = (b"", b"")


DepthKey = tuple[str, int]  # symbol, interval ms
Key = TypeVar("Key")


class Channel:
    """One public channel: its parsed name, its subscribers, what waits for the next interval."""

    __slots__ = (
        "deals",
        "event_type",
        "flush_due",
        "instrument",
        "interval_ms",
        "last_push_ns",
        "levels",
        "name",
        "sockets",
        "ticker",
        "window_s",
    )

    def __init__(self, name: str, event_type: str, instrument: SimInstrument, interval_ms: int, levels: int) -> None:
        self.name = name.encode()
        self.event_type = event_type.encode()
        self.instrument = instrument
        self.interval_ms = interval_ms
        self.levels = levels
        self.sockets: list[SimSocket] = []
        self.ticker: Ticker | None = None
        self.deals: list[MarketTrade] = []
        self.flush_due = False
        self.last_push_ns = -(1 << 62)
        self.window_s = 0  # of a kline: start of the window last sent

    def push(self, frame: bytes) -> None:
        """Sends a frame to every subscriber."""
        for sock in self.sockets:
            sock.send(frame)


class MexcStream:
    """Public channels of one venue, by symbol, and the encoders behind them."""

    def __init__(self, venue: SimVenue) -> None:
        self._venue = venue
        self._channels: dict[str, Channel] = {}
        self._depth: dict[DepthKey, list[Channel]] = {}
        self._limit: dict[DepthKey, list[Channel]] = {}
        self._tickers: dict[str, list[Channel]] = {}
        self._deals: dict[str, list[Channel]] = {}
        self._charts: dict[str, list[Channel]] = {}  # klines and mini tickers

    # --- subscriptions ---

    def subscribe(self, name: str, sock: SimSocket) -> bool:
        """False when the venue refuses: no such channel, interval, depth or symbol."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._open(name)
            if channel is None:
                return False
        if sock not in channel.sockets:
            channel.sockets.append(sock)
        return True

    def unsubscribe(self, name: str, sock: SimSocket) -> None:
        """Removes a socket from a channel."""
        channel = self._channels.get(name)
        if channel is not None and sock in channel.sockets:
            channel.sockets.remove(sock)

    def drop(self, sock: SimSocket) -> None:
        """Removes a socket from every channel."""
        for channel in self._channels.values():
            if sock in channel.sockets:
                channel.sockets.remove(sock)

    def _open(self, name: str) -> Channel | None:
        """Channels are kept for good: their number is bounded by kinds times symbols."""
        parts = name.split("@")
        if len(parts) < 3 or len(parts) > 4:
            return None
        kind = f"{parts[0]}@{parts[1]}"
        if kind == _MINIS and len(parts) == 3 and parts[2] in _ZONES:
            first = next(iter(self._venue.instruments))
            channel = self._add(name, kind, first, _MINI_INTERVAL_MS, 0, self._charts, first)
            for symbol in self._venue.instruments:  # whichever of them moves
                if channel is not None and symbol != first:
                    self._charts.setdefault(symbol, []).append(channel)
            return channel
        if kind == _TICKER_BATCH and len(parts) == 3:
            return self._add(name, kind, parts[2], _BATCH_INTERVAL_MS, 0, self._tickers, parts[2])
        if len(parts) != 4:
            return None
        if kind == _LIMIT and parts[3] in LIMIT_DEPTHS:
            return self._add_depth(name, kind, parts[2], _BATCH_INTERVAL_MS, int(parts[3]), self._limit)
        if kind == _KLINE and parts[3] in KLINES:
            return self._add(name, parts[3], parts[2], _KLINE_INTERVAL_MS, KLINES[parts[3]], self._charts, parts[2])
        if kind == _MINI and parts[3] in _ZONES:
            return self._add(name, kind, parts[2], _MINI_INTERVAL_MS, 0, self._charts, parts[2])
        interval_ms = INTERVALS_MS.get(parts[2])
        if interval_ms is None:
            return None
        event_type = f"{kind}@{parts[2]}"
        if kind == _DEPTH:
            return self._add_depth(name, event_type, parts[3], interval_ms, 0, self._depth)
        if kind == _TICKER:
            return self._add(name, event_type, parts[3], interval_ms, 0, self._tickers, parts[3])
        if kind == _DEALS:
            return self._add(name, event_type, parts[3], interval_ms, 0, self._deals, parts[3])
        return None

    def _add(
        self,
        name: str,
        event_type: str,
        symbol: str,
        interval_ms: int,
        levels: int,
        table: dict[Key, list[Channel]],
        key: Key,
    ) -> Channel | None:
        """A new channel in ``table`` under ``key``; None for an unknown symbol."""
        instrument = self._venue.instruments.get(symbol)
        if instrument is None:
            return None
        channel = Channel(name, event_type, instrument, interval_ms, levels)
        self._channels[name] = channel
        table.setdefault(key, []).append(channel)
        return channel

    def _add_depth(
        self,
        name: str,
        event_type: str,
        symbol: str,
        interval_ms: int,
        levels: int,
        table: dict[DepthKey, list[Channel]],
    ) -> Channel | None:
        channel = self._add(name, event_type, symbol, interval_ms, levels, table, (symbol, interval_ms))
        if channel is not None:
            self._venue.open_book_stream(symbol, interval_ms)
        return channel

    # --- market events ---

    def on_market(self, event: MarketEvent) -> None:
        """Encodes an event for each channel that it concerns."""
        if isinstance(event, BookDelta):
            self._on_delta(event)
        elif isinstance(event, Ticker):
            for channel in self._tickers.get(event.symbol, ()):
                channel.ticker = event
                if channel.sockets:
                    self._schedule(channel, self._flush_ticker)
        else:
            for channel in self._deals.get(event.symbol, ()):
                if channel.sockets:
                    channel.deals.append(event)
                    self._schedule(channel, self._flush_deals)
            for channel in self._charts.get(event.symbol, ()):
                if channel.sockets:
                    self._schedule(channel, self._flush_kline if channel.levels else self._flush_mini)

    def _schedule(self, channel: Channel, flush: Callable[[Channel], None]) -> None:
        """At most one push per interval; the first event after a quiet spell goes at once."""
        if channel.flush_due:
            return
        clock = self._venue.clock
        now_ns = clock.mono_ns()
        due_ns = channel.last_push_ns + channel.interval_ms * NS_PER_MS
        if due_ns <= now_ns:
            channel.last_push_ns = now_ns
            flush(channel)
            return
        channel.flush_due = True
        channel.last_push_ns = due_ns
        clock.call_at(due_ns, lambda: flush(channel))

    def _on_delta(self, delta: BookDelta) -> None:
        key = (delta.symbol, delta.interval_ms)
        for channel in self._depth.get(key, ()):
            if channel.sockets:
                channel.push(self._depth_frame(channel, delta))
        for channel in self._limit.get(key, ()):
            if channel.sockets:
                channel.push(self._limit_frame(channel, delta))

    def _depth_frame(self, channel: Channel, delta: BookDelta) -> bytes:
        instrument = channel.instrument
        body = frames.aggre_depths(
            _texts(instrument, delta.asks),
            _texts(instrument, delta.bids),
            channel.event_type,
            delta.first_id,
            delta.last_id,
        )
        symbol = instrument.symbol.encode()
        return frames.wrap(channel.name, symbol, frames.AGGRE_DEPTHS, body, send_ms=delta.ts_ms)

    def _limit_frame(self, channel: Channel, delta: BookDelta) -> bytes:
        instrument = channel.instrument
        update_id, bids, asks = self._venue.depth(instrument.symbol, channel.levels)
        body = frames.limit_depths(_texts(instrument, asks), _texts(instrument, bids), channel.event_type, update_id)
        symbol = instrument.symbol.encode()
        return frames.wrap(channel.name, symbol, frames.LIMIT_DEPTHS, body, send_ms=delta.ts_ms)

    def _flush_ticker(self, channel: Channel) -> None:
        channel.flush_due = False
        ticker, instrument = channel.ticker, channel.instrument
        if ticker is None or not channel.sockets:
            return
        bid = _text(instrument, ticker.bid) if ticker.bid is not None else _NO_QUOTE
        ask = _text(instrument, ticker.ask) if ticker.ask is not None else _NO_QUOTE
        symbol = instrument.symbol.encode()
        if channel.name.startswith(_TICKER_BATCH.encode()):
            body = frames.book_ticker_batch([(bid, ask)], ticker.update_id)
            kind = frames.BOOK_TICKER_BATCH
        else:
            body = frames.aggre_book_ticker(bid, ask, ticker.update_id, ticker.ts_ms)
            kind = frames.AGGRE_BOOK_TICKER
        channel.push(frames.wrap(channel.name, symbol, kind, body, send_ms=self._venue.stream_ms()))

    def _flush_deals(self, channel: Channel) -> None:
        channel.flush_due = False
        deals, channel.deals = channel.deals, []
        if not deals or not channel.sockets:
            return
        instrument = channel.instrument
        rows = [
            (
                *_text(instrument, (deal.price, deal.qty)),
                1 if deal.side is OrderSide.BUY else 2,
                deal.ts_ms,
                b"%dX0" % deal.trade_id,
            )
            for deal in deals
        ]
        body = frames.aggre_deals(rows, channel.event_type)
        symbol = instrument.symbol.encode()
        channel.push(frames.wrap(channel.name, symbol, frames.AGGRE_DEALS, body, send_ms=self._venue.stream_ms()))

    def _flush_kline(self, channel: Channel) -> None:
        """The running window, and the one before it once more when it has ended. ``levels``: seconds of a window."""
        channel.flush_due = False
        instrument, length_s = channel.instrument, channel.levels
        series, now_ms = self._venue.candles[instrument.symbol], self._venue.stream_ms()
        newest = series.newest(length_s, now_ms // 1000, monday=True)
        if newest is None or not channel.sockets:
            return
        pushed = [newest]
        if channel.window_s and channel.window_s != newest.start_s:
            pushed = [*series.between(length_s, channel.window_s, channel.window_s, monday=True), newest]
        channel.window_s = newest.start_s
        for one in pushed:
            prices = (one.open, one.close, one.high, one.low)
            opened, closed, high, low = (exact_text(value).encode() for value in prices)
            body = frames.spot_kline(
                channel.event_type,
                one.start_s,
                (opened, closed, high, low),
                exact_text(one.base).encode(),
                exact_text(one.quote).encode(),
                window_end_s(one.start_s, length_s),
            )
            symbol = instrument.symbol.encode()
            channel.push(frames.wrap(channel.name, symbol, frames.SPOT_KLINE, body, send_ms=0, create_ms=now_ms))

    def _flush_mini(self, channel: Channel) -> None:
        channel.flush_due = False
        if not channel.sockets:
            return
        is_all = channel.event_type == _MINIS.encode()
        wanted = list(self._venue.instruments) if is_all else [channel.instrument.symbol]
        items = [item for item in (self._mini(symbol) for symbol in wanted) if item]
        symbol = b"" if is_all else channel.instrument.symbol.encode()
        body = frames.mini_tickers(items) if is_all else b"".join(items)
        kind = frames.MINI_TICKERS if is_all else frames.MINI_TICKER
        if items:
            channel.push(frames.wrap(channel.name, symbol, kind, body, send_ms=self._venue.stream_ms()))

    def _mini(self, symbol: str) -> bytes:
        """The day so far; nothing before the first trade."""
        now_s = self._venue.now_ms() // 1000
        days = self._venue.candles[symbol].between(_DAY_S, now_s - 2 * _DAY_S, now_s)
        if not days:
            return b""
        first, last = days[0], days[-1]
        texts = (
            last.close,
            round(last.close / first.open - 1, 4),
            max(one.high for one in days),
            min(one.low for one in days),
            sum((one.quote for one in days), ZERO),
            sum((one.base for one in days), ZERO),
        )
        return frames.mini_ticker(symbol.encode(), *(exact_text(value).encode() for value in texts))


def _text(instrument: SimInstrument, level: Level) -> tuple[bytes, bytes]:
    return instrument.price_text(level[0]).encode(), (instrument.qty_text(level[1]) if level[1] else "0").encode()


def _texts(instrument: SimInstrument, levels: list[Level]) -> list[tuple[bytes, bytes]]:
    return [_text(instrument, level) for level in levels]


# --- control frames ---


def ack(accepted: list[str], refused: list[str], request_id: int) -> str:
    """The one answer to SUBSCRIPTION: echoes what was taken; a refusal is code 0 too and only its text says so."""
    if not refused:
        message = ",".join(accepted)
    else:
        message = f"Not Subscribed successfully! [{','.join(refused)}].  Reason： Blocked! "
        if accepted:
            message = f"Subscribed successful! [{','.join(accepted)}]. {message}"
    return control(message, request_id)


def control(message: str, request_id: int = 0) -> str:
    """A control frame: JSON with code 0."""
    return msgspec.json.encode({"id": request_id, "code": 0, "msg": message}).decode()


class ControlRequest(msgspec.Struct):
    """What a client may send: anything else is answered with an error text and ignored."""

    method: str = ""
    params: list[Any] = []
    id: int | str | None = None

    @property
    def answer_id(self) -> int:
        """Non-numeric ids are answered with 0: only numbers are documented."""
        return self.id if isinstance(self.id, int) else 0
