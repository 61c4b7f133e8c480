"""Bybit's public streams over one simulated venue: subscriptions, books of 50 levels, best prices, trades.

Source: Bybit V5 documentation "Connect", "Orderbook", "Trade"; refusals as third parties report them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.sim.exchange.events import BookDelta, MarketEvent, MarketTrade, Ticker
from pipeline.sim.wire.bybit.market import BybitMarket, levels, trade_row
from pipeline.sim.wire.dialect import SimSocket

_encode = msgspec.json.Encoder().encode
BOOK_MS = 20
BOOK_LEVELS = 50
ARGS_MAX = {"spot": 10, "linear": 2000}
CONNECTION_ID = "sim"


class _Numbering:
    """``u`` of a book topic: one more with each push; a push that was lost on its way leaves a hole."""

    def __init__(self, last_id: int) -> None:
        self.last_id = last_id
        self.u = 1000

    def of(self, event: BookDelta) -> int:
        """The number of a push."""
        if event.last_id <= self.last_id:  # again, or after its successor
            return self.u if event.last_id == self.last_id else self.u - 1
        self.u += 1 if event.first_id <= self.last_id + 1 else 2
        self.last_id = event.last_id
        return self.u


class BybitStreams:
    """Sockets of one category, and what they listen to."""

    def __init__(self, market: BybitMarket) -> None:
        self.market = market
        self.venue = market.venue
        self._listeners: dict[str, list[SimSocket]] = {}  # topic -> sockets
        self._numbers: dict[str, _Numbering] = {}

    # --- requests ---

    def on_message(self, sock: SimSocket, data: str | bytes) -> None:
        """One request of a client."""
        try:
            row = msgspec.json.decode(data)
            operation, args, number = str(row["op"]), row.get("args") or [], str(row.get("req_id", ""))
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            self._answer(sock, "", "", "Params Error")
            return
        if operation == "ping":
            answer = {"success": True, "ret_msg": "pong", "conn_id": CONNECTION_ID, "req_id": number, "op": "ping"}
            sock.send(_encode(answer).decode())
        elif operation in ("subscribe", "unsubscribe"):
            refusal = self._refusal(sock, operation, args)
            for topic in () if refusal else args:
                if operation == "subscribe":
                    self._add(sock, topic)
                else:
                    self._remove(sock, topic)
            self._answer(sock, operation, number, refusal)
        else:
            self._answer(sock, operation, number, f"Params Error: op {operation}")

    def _answer(self, sock: SimSocket, operation: str, number: str, refusal: str) -> None:
        said = refusal or ("subscribe" if operation == "subscribe" and self.market.category == "spot" else "")
        answer = {"success": not refusal, "ret_msg": said, "conn_id": CONNECTION_ID, "req_id": number, "op": operation}
        sock.send(_encode(answer).decode())

    def _refusal(self, sock: SimSocket, operation: str, args: list[Any]) -> str:
        """Why a whole request is refused; "" where it is taken."""
        if len(args) > ARGS_MAX[self.market.category]:
            return f"args size >{ARGS_MAX[self.market.category]}"
        for topic in args:
            if not isinstance(topic, str) or not self._known(topic):
                return f"error:handler not found,topic:{topic}"
            if operation == "subscribe" and sock in self._listeners.get(topic, ()):
                return f"error:already subscribed,topic:{topic}"
        return ""

    def _known(self, topic: str) -> bool:
        head, _, symbol = topic.rpartition(".")
        return head in (f"orderbook.{BOOK_LEVELS}", "orderbook.1", "publicTrade") and symbol in self.venue.instruments

    def _add(self, sock: SimSocket, topic: str) -> None:
        head, _, symbol = topic.rpartition(".")
        if head == f"orderbook.{BOOK_LEVELS}":
            self.venue.open_book_stream(symbol, BOOK_MS)
            sock.send(self._whole(symbol))
        self._listeners.setdefault(topic, []).append(sock)

    def _remove(self, sock: SimSocket, topic: str) -> None:
        if sock in self._listeners.get(topic, ()):
            self._listeners[topic].remove(sock)

    def forget(self, sock: SimSocket) -> None:
        """The socket is gone."""
        for topic in self._listeners:
            self._remove(sock, topic)

    # --- pushes ---

    def _numbering(self, symbol: str) -> _Numbering:
        if symbol not in self._numbers:
            self._numbers[symbol] = _Numbering(self.venue.books[symbol].update_id)
        return self._numbers[symbol]

    def _whole(self, symbol: str) -> str:
        """The book as it stands, at the number of the last push: what comes next repeats some of it."""
        row = self.venue.instruments[symbol]
        _, bids, asks = self.venue.depth(symbol, BOOK_LEVELS)
        data: dict[str, Any] = {"s": symbol, "b": levels(row, bids), "a": levels(row, asks)}
        data |= {"u": self._numbering(symbol).u, "seq": self.venue.books[symbol].update_id}
        return self._frame(f"orderbook.{BOOK_LEVELS}.{symbol}", "snapshot", self.venue.stream_ms(), data)

    def _frame(self, topic: str, kind: str, at_ms: int, data: Any) -> str:
        return _encode({"topic": topic, "type": kind, "ts": at_ms, "data": data, "cts": at_ms}).decode()

    def on_market(self, event: MarketEvent) -> None:
        """One event of the venue's market to whom it concerns."""
        row = self.venue.instruments[event.symbol]
        if isinstance(event, BookDelta):
            if event.interval_ms != BOOK_MS:
                return
            number = self._numbering(event.symbol).of(event)
            data: Any = {"s": event.symbol, "b": levels(row, event.bids), "a": levels(row, event.asks)}
            data |= {"u": number, "seq": event.last_id}
            self._push(f"orderbook.{BOOK_LEVELS}.{event.symbol}", "delta", event.ts_ms, data)
        elif isinstance(event, Ticker):
            bids, asks = ([level] if level else [] for level in (event.bid, event.ask))
            data = {"s": event.symbol, "b": levels(row, bids), "a": levels(row, asks)}
            data |= {"u": event.update_id, "seq": event.update_id}
            self._push(f"orderbook.1.{event.symbol}", "snapshot", event.ts_ms, data)
        elif isinstance(event, MarketTrade):
            self.market.trades.add(event)
            trade = trade_row(row, event, "i", "T")
            self._push(f"publicTrade.{event.symbol}", "snapshot", event.ts_ms, [trade])

    def _push(self, topic: str, kind: str, at_ms: int, data: Any) -> None:
        listeners = self._listeners.get(topic, ())
        if listeners:
            frame = self._frame(topic, kind, at_ms, data)
            for sock in listeners:
                sock.send(frame)
