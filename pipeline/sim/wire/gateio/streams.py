"""Gate.io public streams, spot and futures: channels, their payloads, and the pushes behind them.

A channel is encoded once per event (futures: once per size format) and the same text goes to every subscriber.
Source: Gate.io WebSocket v4 "spot.*" and "futures.*" public channels; recorded frames of 2021 and 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec

from pipeline.model.enums import InstrumentKind, OrderSide
from pipeline.sim.exchange.candles import Candle
from pipeline.sim.exchange.events import BookDelta, MarketEvent, MarketTrade, Ticker
from pipeline.sim.exchange.instruments import Level, SimInstrument
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.order_book import ASK, BID
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.dialect import SimSocket
from pipeline.sim.wire.gateio import candles, futures_rows
from pipeline.sim.wire.gateio.formats import GateError, ms_fraction, side_text

TickerRow = Callable[[SimInstrument, bool], dict[str, Any]]
TICKER_INTERVAL_NS = 1000 * NS_PER_MS
CANDLE_INTERVAL_NS = 2000 * NS_PER_MS
_UPDATE_LEVELS = {"20ms": ("20",), "100ms": ("100", "50", "20")}  # futures; spot: the first of each
_OBU = {"50": 20, "400": 100}  # levels -> interval ms
_SPOT_BOOK_LEVELS = ("5", "10", "20", "50", "100")
_SPOT_BOOK_INTERVALS = {"100ms": 100, "1000ms": 1000}
_LEGACY_LEVELS = ("1", "5", "10", "20", "50", "100")


class BadPayload(Exception):
    """A subscription refused: one bad item fails the whole payload. Code 2 is a bad argument."""

    def __init__(self, text: str, code: int = 2) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Channel:
    """One stream of one symbol: ``key`` is (channel, symbol, variant)."""

    __slots__ = ("interval_ms", "key", "last_push_ns", "levels", "name", "prev_id", "sent", "sockets", "symbol")

    def __init__(self, key: tuple[str, str, str], interval_ms: int = 0, levels: int = 0) -> None:
        self.key = key
        self.name, self.symbol, _ = key
        self.interval_ms = interval_ms
        self.levels = levels
        self.sockets: list[tuple[SimSocket, bool]] = []  # (socket, decimal sizes)
        self.last_push_ns = -(1 << 62)
        self.prev_id = 0
        self.sent: tuple[dict[int, int], dict[int, int]] | None = None  # what a windowed subscriber holds


class GateStream:
    """Public channels of one market (``spot`` or ``futures``) of one venue."""

    def __init__(self, venue: SimVenue, ticker_row: TickerRow) -> None:
        self._venue = venue
        self._ticker_row = ticker_row
        self._market = "futures" if venue.kind is InstrumentKind.PERPETUAL else "spot"
        self._channels: dict[tuple[str, str, str], Channel] = {}
        self._by_delta: dict[tuple[str, int], list[Channel]] = {}
        self._by_symbol: dict[tuple[str, str], list[Channel]] = {}

    # --- subscriptions ---

    def keys(self, channel: str, payload: list[str]) -> list[tuple[tuple[str, str, str], int, int]]:
        """(key, interval ms, levels) of each stream that a payload names. Raises :class:`BadPayload`."""
        kind = channel.partition(".")[2]
        parse = {
            "order_book_update": self._parse_update,
            "obu": self._parse_obu,
            "order_book": self._parse_book,
            "candlesticks": self._parse_candles,
        }.get(kind)
        if parse is not None:
            return parse(channel, payload)
        if kind not in ("book_ticker", "trades", "tickers"):
            raise BadPayload(f"unknown channel {channel}", 1)
        if not payload:
            raise BadPayload("empty payload")
        found = []
        for symbol in payload:
            self._check(symbol)
            found.append(((channel, symbol, ""), 0, 0))
        return found

    def _check(self, symbol: str) -> None:
        if symbol not in self._venue.instruments:
            kind = "contract" if self._market == "futures" else "currency pair"
            raise BadPayload(f"unknown {kind}: {symbol}")

    def _parse_update(self, channel: str, payload: list[str]) -> list[tuple[tuple[str, str, str], int, int]]:
        if len(payload) not in (2, 3):
            raise BadPayload("invalid payload length")
        symbol, interval = payload[0], payload[1]
        self._check(symbol)
        levels = _UPDATE_LEVELS.get(interval)
        if levels is None:
            raise BadPayload(f"invalid interval {interval}")
        level = payload[2] if len(payload) == 3 else levels[0]
        if level not in levels:
            raise BadPayload(f"invalid level {level}")
        return [((channel, symbol, f"{interval}.{level}"), int(interval[:-2]), int(level))]

    def _parse_obu(self, channel: str, payload: list[str]) -> list[tuple[tuple[str, str, str], int, int]]:
        found = []
        for item in payload:
            parts = item.split(".")
            if len(parts) != 3 or parts[0] != "ob" or parts[2] not in _OBU:
                raise BadPayload(f"invalid payload {item}")
            self._check(parts[1])
            found.append(((channel, parts[1], item), _OBU[parts[2]], int(parts[2])))
        return found

    def _parse_book(self, channel: str, payload: list[str]) -> list[tuple[tuple[str, str, str], int, int]]:
        if len(payload) != 3:
            raise BadPayload("invalid payload length")
        symbol, level, interval = payload
        self._check(symbol)
        if self._market == "futures":
            if level not in _LEGACY_LEVELS or interval != "0":
                raise BadPayload(f"invalid level {level} or interval {interval}")
            return [((channel, symbol, level), 100, int(level))]
        if level not in _SPOT_BOOK_LEVELS or interval not in _SPOT_BOOK_INTERVALS:
            raise BadPayload(f"invalid level {level} or interval {interval}")
        return [((channel, symbol, f"{level}.{interval}"), _SPOT_BOOK_INTERVALS[interval], int(level))]

    def _parse_candles(self, channel: str, payload: list[str]) -> list[tuple[tuple[str, str, str], int, int]]:
        """``[interval, symbol]``; on futures a mark or index price goes by its prefix."""
        if len(payload) != 2:
            raise BadPayload("invalid payload length")
        interval, name = payload
        if interval not in candles.STREAM_INTERVALS:
            raise BadPayload(f"invalid interval {interval}")
        symbol = candles.split_contract(name)[0] if self._market == "futures" else name
        self._check(symbol)
        return [((channel, symbol, f"{interval}_{name}"), 0, 0)]

    def subscribe(
        self, wanted: Iterable[tuple[tuple[str, str, str], int, int]], sock: SimSocket, decimal_sizes: bool
    ) -> list[Channel]:
        """Adds the socket; returns the channels, so that their opening pushes can follow the acknowledgement."""
        channels = []
        for key, interval_ms, levels in wanted:
            channel = self._channels.get(key)
            if channel is None:
                channel = self._open(key, interval_ms, levels)
            if (sock, decimal_sizes) not in channel.sockets:
                channel.sockets.append((sock, decimal_sizes))
            channels.append(channel)
        return channels

    def is_subscribed(self, key: tuple[str, str, str], sock: SimSocket) -> bool:
        channel = self._channels.get(key)
        return channel is not None and any(one is sock for one, _ in channel.sockets)

    def _open(self, key: tuple[str, str, str], interval_ms: int, levels: int) -> Channel:
        channel = Channel(key, interval_ms, levels)
        self._channels[key] = channel
        if interval_ms:
            book_interval_ms = min(interval_ms, 100)
            self._by_delta.setdefault((channel.symbol, book_interval_ms), []).append(channel)
            self._venue.open_book_stream(channel.symbol, book_interval_ms)
        else:
            self._by_symbol.setdefault((channel.name.partition(".")[2], channel.symbol), []).append(channel)
        return channel

    def unsubscribe(self, keys: Iterable[tuple[str, str, str]], sock: SimSocket) -> None:
        for key in keys:
            channel = self._channels.get(key)
            if channel is not None:
                channel.sockets = [entry for entry in channel.sockets if entry[0] is not sock]

    def drop(self, sock: SimSocket) -> None:
        self.unsubscribe(list(self._channels), sock)

    # --- pushes ---

    def _push(self, channel: Channel, encode: Callable[[bool], str], event: str = "update") -> None:
        """Encodes once per size format in use and sends the text to each subscriber."""
        texts: dict[bool, str] = {}
        for sock, decimal_sizes in channel.sockets:
            text = texts.get(decimal_sizes)
            if text is None:
                text = texts[decimal_sizes] = self._envelope(channel.name, encode(decimal_sizes), event)
            sock.send(text)

    def _envelope(self, name: str, result: str, event: str) -> str:
        now_ms = self._venue.stream_ms()
        return f'{{"time":{now_ms // 1000},"time_ms":{now_ms},"channel":"{name}","event":"{event}","result":{result}}}'

    def on_market(self, event: MarketEvent) -> None:
        if isinstance(event, BookDelta):
            for channel in self._by_delta.get((event.symbol, event.interval_ms), ()):
                if channel.sockets:
                    self._on_delta(channel, event)
        elif isinstance(event, Ticker):
            for channel in self._by_symbol.get(("book_ticker", event.symbol), ()):
                if channel.sockets:
                    self._push(channel, lambda decimal: self._ticker_text(event, decimal))
            self._day_ticker(event.symbol)
            self._candles(event.symbol)
        else:
            for channel in self._by_symbol.get(("trades", event.symbol), ()):
                if channel.sockets:
                    self._push(channel, lambda decimal: self._trade_text(event, decimal))
            self._candles(event.symbol)

    def _due(self, channel: Channel, interval_ns: int) -> bool:
        now_ns = self._venue.clock.mono_ns()
        if now_ns - channel.last_push_ns < interval_ns:
            return False
        channel.last_push_ns = now_ns
        return True

    def _day_ticker(self, symbol: str) -> None:
        for channel in self._by_symbol.get(("tickers", symbol), ()):
            if channel.sockets and self._due(channel, TICKER_INTERVAL_NS):
                self._push(channel, lambda decimal: self._day_text(symbol, decimal))

    def _day_text(self, symbol: str, decimal_sizes: bool) -> str:
        row = self._ticker_row(self._venue.instruments[symbol], decimal_sizes)
        return msgspec.json.encode([row] if self._market == "futures" else row).decode()

    # --- candles ---

    def _candles(self, symbol: str) -> None:
        """The running window at its pace; once more, closed, before the next one starts."""
        for channel in self._by_symbol.get(("candlesticks", symbol), ()):
            if channel.sockets and self._due(channel, CANDLE_INTERVAL_NS):
                for candle, closed in self._running(channel):
                    self._push(channel, partial(self._candle_text, channel, candle, closed))

    def _running(self, channel: Channel) -> list[tuple[Candle, bool]]:
        interval, _, name = channel.key[2].partition("_")
        length_s = candles.STREAM_INTERVALS[interval]
        series = candles.series_of(self._venue, name)
        newest = series.newest(length_s, self._venue.now_ms() // 1000) if series is not None else None
        if series is None or newest is None:
            return []
        found = [(newest, False)]
        if channel.prev_id and channel.prev_id != newest.start_s:
            ended = series.between(length_s, channel.prev_id, channel.prev_id)
            found = [*((one, True) for one in ended), *found]
        channel.prev_id = newest.start_s
        return found

    def _candle_text(self, channel: Channel, candle: Candle, closed: bool, decimal_sizes: bool) -> str:
        instrument, name = self._venue.instruments[channel.symbol], channel.key[2]
        if self._market == "futures":
            return msgspec.json.encode(candles.futures_push(candle, name, closed, instrument, decimal_sizes)).decode()
        return msgspec.json.encode(candles.spot_push(candle, name, closed)).decode()

    # --- books ---

    def open_pushes(self, channel: Channel, sock: SimSocket, decimal_sizes: bool) -> None:
        """What a new subscriber gets at once: whole books of obu, futures updates and the legacy book, tickers."""
        kind = channel.name.partition(".")[2]
        if kind == "tickers":
            sock.send(self._envelope(channel.name, self._day_text(channel.symbol, decimal_sizes), "update"))
        elif kind == "candlesticks":
            for candle, closed in self._running(channel):
                text = self._candle_text(channel, candle, closed, decimal_sizes)
                sock.send(self._envelope(channel.name, text, "update"))
        elif kind == "obu" or (kind == "order_book_update" and self._market == "futures"):
            sock.send(self._envelope(channel.name, self._full_text(channel, decimal_sizes), "update"))
        elif kind == "order_book" and self._market == "futures":
            sock.send(self._envelope(channel.name, self._legacy_all(channel, decimal_sizes), "all"))

    def _on_delta(self, channel: Channel, delta: BookDelta) -> None:
        kind = channel.name.partition(".")[2]
        if kind in ("order_book_update", "obu"):
            shown = self._windowed(channel, delta)
            if shown is None:
                return
            write = self._update_text if kind == "order_book_update" else self._obu_text
            self._push(channel, lambda decimal: write(channel, shown, decimal))
        elif self._market == "futures":
            self._push(channel, lambda decimal: self._legacy_update(delta, decimal))
        elif self._due(channel, (channel.interval_ms - 10) * NS_PER_MS):
            self._push(channel, lambda decimal: self._spot_book_text(channel, delta))

    def _windowed(self, channel: Channel, delta: BookDelta) -> BookDelta | None:
        """The delta that keeps the book of a subscriber of ``channel.levels`` levels equal to those levels.

        A book that fits passes unchanged. A deeper one is compared with what the channel last showed: levels that
        enter the window come with their quantity, levels that leave it with 0. None: no change.
        """
        book = self._venue.books[delta.symbol]
        if channel.sent is None and max(book.count(BID), book.count(ASK)) <= channel.levels:
            channel.prev_id = delta.last_id
            return delta
        update_id, bids, asks = self._venue.depth(delta.symbol, channel.levels)
        now = (dict(bids), dict(asks))
        if channel.sent is None:
            before: tuple[dict[int, int], dict[int, int]] = (dict(delta.bids), dict(delta.asks))
            channel.prev_id = delta.prev_id
            changed = [
                now[side] | {price: 0 for price in before[side] if price not in now[side]} for side in (BID, ASK)
            ]
        else:
            changed = [_difference(channel.sent[side], now[side]) for side in (BID, ASK)]
        if update_id == channel.prev_id:
            return None
        first_id, prev_id = channel.prev_id + 1, channel.prev_id
        channel.sent, channel.prev_id = now, update_id
        return BookDelta(
            delta.symbol,
            delta.interval_ms,
            first_id,
            update_id,
            prev_id,
            sorted(changed[BID].items(), reverse=True),
            sorted(changed[ASK].items()),
            delta.ts_ms,
            bids[0] if bids else None,
            asks[0] if asks else None,
        )

    def _pairs(self, instrument: SimInstrument, levels: Iterable[Level], decimal_sizes: bool) -> str:
        """String arrays; ``0`` deletes."""
        return ",".join(
            f'["{instrument.price_text(price)}","{self._qty(instrument, units)}"]' for price, units in levels
        )

    def _qty(self, instrument: SimInstrument, units: int) -> str:
        if not units:
            return "0"
        if self._market == "futures":
            return str(futures_rows.units_size(instrument, units, True))
        return instrument.qty_text(units)

    def _objects(self, instrument: SimInstrument, levels: Iterable[Level], decimal_sizes: bool) -> str:
        """Futures levels: ``{"p": price, "s": contracts}``; the size is text only with the decimal header."""
        quote = '"' if decimal_sizes else ""
        whole = instrument.unit == instrument.multiplier
        return ",".join(
            f'{{"p":"{instrument.price_text(price)}","s":{quote}'
            f"{units if whole else futures_rows.units_size(instrument, units, decimal_sizes)}{quote}}}"
            for price, units in levels
        )

    def _levels(self, instrument: SimInstrument, levels: Iterable[Level], decimal_sizes: bool) -> str:
        write = self._objects if self._market == "futures" else self._pairs
        return write(instrument, levels, decimal_sizes)

    def _update_text(self, channel: Channel, delta: BookDelta, decimal_sizes: bool) -> str:
        instrument = self._venue.instruments[delta.symbol]
        bids = self._levels(instrument, delta.bids, decimal_sizes)
        asks = self._levels(instrument, delta.asks, decimal_sizes)
        head = "" if self._market == "futures" else f'"e":"depthUpdate","E":{delta.ts_ms // 1000},'
        return (
            f'{{"t":{delta.ts_ms},{head}"s":"{delta.symbol}","U":{delta.first_id},"u":{delta.last_id},'
            f'"b":[{bids}],"a":[{asks}],"l":"{channel.levels}"}}'
        )

    def _full_text(self, channel: Channel, decimal_sizes: bool) -> str:
        """The whole book of an update channel or of obu: no ``U``, ``full`` true."""
        instrument = self._venue.instruments[channel.symbol]
        update_id, bids, asks = self._venue.depth(channel.symbol, channel.levels)
        now_ms = self._venue.now_ms()
        if channel.name.endswith(".obu"):
            bid_text = self._pairs(instrument, bids, True)
            ask_text = self._pairs(instrument, asks, True)
            return (
                f'{{"t":{now_ms},"full":true,"s":"{channel.key[2]}","u":{update_id},"b":[{bid_text}],"a":[{ask_text}]}}'
            )
        bid_text = self._levels(instrument, bids, decimal_sizes)
        ask_text = self._levels(instrument, asks, decimal_sizes)
        return (
            f'{{"t":{now_ms},"full":true,"s":"{channel.symbol}","U":{update_id},"u":{update_id},'
            f'"b":[{bid_text}],"a":[{ask_text}],"l":"{channel.levels}"}}'
        )

    def _obu_text(self, channel: Channel, delta: BookDelta, decimal_sizes: bool) -> str:
        """``b`` and ``a`` are missing where nothing changed."""
        instrument = self._venue.instruments[delta.symbol]
        bids = f',"b":[{self._pairs(instrument, delta.bids, True)}]' if delta.bids else ""
        asks = f',"a":[{self._pairs(instrument, delta.asks, True)}]' if delta.asks else ""
        return f'{{"t":{delta.ts_ms},"s":"{channel.key[2]}","U":{delta.first_id},"u":{delta.last_id}{bids}{asks}}}'

    def _spot_book_text(self, channel: Channel, delta: BookDelta) -> str:
        instrument = self._venue.instruments[delta.symbol]
        update_id, bids, asks = self._venue.depth(delta.symbol, channel.levels)
        return (
            f'{{"t":{delta.ts_ms},"lastUpdateId":{update_id},"s":"{delta.symbol}","l":"{channel.levels}",'
            f'"bids":[{self._pairs(instrument, bids, True)}],"asks":[{self._pairs(instrument, asks, True)}]}}'
        )

    def _legacy_all(self, channel: Channel, decimal_sizes: bool) -> str:
        instrument = self._venue.instruments[channel.symbol]
        update_id, bids, asks = self._venue.depth(channel.symbol, channel.levels)
        return (
            f'{{"t":{self._venue.now_ms()},"contract":"{channel.symbol}","id":{update_id},'
            f'"asks":[{self._objects(instrument, asks, decimal_sizes)}],'
            f'"bids":[{self._objects(instrument, bids, decimal_sizes)}],"l":"{channel.levels}"}}'
        )

    def _legacy_update(self, delta: BookDelta, decimal_sizes: bool) -> str:
        """Changed levels one by one; a bid's size is positive, an ask's negative, 0 deletes."""
        instrument = self._venue.instruments[delta.symbol]
        quote = '"' if decimal_sizes else ""
        items = [(price, units) for price, units in delta.bids]
        items += [(price, -units) for price, units in delta.asks]
        return (
            "["
            + ",".join(
                f'{{"p":"{instrument.price_text(price)}","s":{quote}'
                f"{futures_rows.units_size(instrument, units, decimal_sizes)}{quote},"
                f'"c":"{delta.symbol}","id":{delta.last_id}}}'
                for price, units in items
            )
            + "]"
        )

    # --- tickers and trades ---

    def _ticker_text(self, ticker: Ticker, decimal_sizes: bool) -> str:
        instrument = self._venue.instruments[ticker.symbol]
        bid, bid_size = self._quote(instrument, ticker.bid, decimal_sizes)
        ask, ask_size = self._quote(instrument, ticker.ask, decimal_sizes)
        return (
            f'{{"t":{ticker.ts_ms},"u":{ticker.update_id},"s":"{ticker.symbol}",'
            f'"b":"{bid}","B":{bid_size},"a":"{ask}","A":{ask_size}}}'
        )

    def _quote(self, instrument: SimInstrument, level: Level | None, decimal_sizes: bool) -> tuple[str, str]:
        """(price text, size as JSON); an empty side has an empty price."""
        if level is None:
            return "", '""' if self._market == "spot" or decimal_sizes else "0"
        price = instrument.price_text(level[0])
        if self._market == "spot":
            return price, f'"{instrument.qty_text(level[1])}"'
        size = futures_rows.units_size(instrument, level[1], decimal_sizes)
        return price, f'"{size}"' if decimal_sizes else str(size)

    def _trade_text(self, trade: MarketTrade, decimal_sizes: bool) -> str:
        instrument = self._venue.instruments[trade.symbol]
        price, seconds = instrument.price_text(trade.price), trade.ts_ms // 1000
        if self._market == "futures":
            sign = 1 if trade.side is OrderSide.BUY else -1
            size = futures_rows.units_size(instrument, trade.qty * sign, decimal_sizes)
            quote = '"' if decimal_sizes else ""
            return (
                f'[{{"size":{quote}{size}{quote},"id":{trade.trade_id},"create_time":{seconds},'
                f'"create_time_ms":{trade.ts_ms},"price":"{price}","contract":"{trade.symbol}"}}]'
            )
        return (
            f'{{"id":{trade.trade_id},"id_market":{trade.trade_id},"create_time":{seconds},'
            f'"create_time_ms":"{ms_fraction(trade.ts_ms)}","side":"{side_text(trade.side)}",'
            f'"currency_pair":"{trade.symbol}","amount":"{instrument.qty_text(trade.qty)}","price":"{price}",'
            f'"range":"{trade.trade_id}-{trade.trade_id}"}}'
        )


def _difference(before: dict[int, int], now: dict[int, int]) -> dict[int, int]:
    """Changed and entered levels with their quantity, levels that left with 0."""
    changed = {price: units for price, units in now.items() if before.get(price) != units}
    changed.update({price: 0 for price in before if price not in now})
    return changed


def payload_items(raw: object) -> list[str]:
    """The payload as texts; numbers become their decimal text. Raises ``GateError`` for anything else."""
    if raw is None:
        return []
    if not isinstance(raw, list) or not all(isinstance(one, str | int) for one in raw):
        raise GateError("INVALID_ARGUMENT", "invalid payload")
    return [str(one) for one in raw]
