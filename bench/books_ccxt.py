"""The peer of bench/books.py: an unmodified ccxt.pro exchange over the same messages, from its own entry point.

``Client.handle_message`` with the message as its transport delivers it (a text frame): JSON, routing, sequence check,
book. Nothing listens, so that no future is resolved. Needs ccxt (the test lock).
"""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from bench.settings import BenchFailed
from shm.words import Words

SYMBOL = "X/USDT"
URLS = {False: "wss://stream.binance.com:9443/ws", True: "wss://fstream.binance.com/ws"}


class _Data(msgspec.Struct):
    s: str


class _Message(msgspec.Struct):
    data: _Data


class _Snapshot(msgspec.Struct):
    lastUpdateId: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class CcxtBook:
    """One symbol's book; ``previous_key``: USD-M futures."""

    def __init__(self, snapshot: bytes, frames: list[bytes], previous_key: bool, price_exp: int, qty_exp: int) -> None:
        from aiohttp import WSMsgType

        self._snapshot = msgspec.json.decode(snapshot, type=_Snapshot)
        self._messages = [SimpleNamespace(type=WSMsgType.TEXT, data=frame.decode()) for frame in frames]
        self._futures = previous_key
        self._exponents = price_exp, qty_exp
        self._id = msgspec.json.decode(frames[0], type=_Message).data.s
        self._exchange: Any = None

    async def _pass(self, samples: list[int] | None) -> int:
        """CPU ns of one pass over everything; with ``samples``, ns of each message too."""
        import ccxt.pro

        exchange = self._exchange = ccxt.pro.binance()
        kind = "swap" if self._futures else "spot"
        market = {"id": self._id, "symbol": SYMBOL, "type": kind, "spot": not self._futures, "swap": self._futures}
        exchange.markets, exchange.markets_by_id = {SYMBOL: market}, {self._id: [market]}
        sides = {
            name: [[float(price), float(qty)] for price, qty in getattr(self._snapshot, name)]
            for name in ("bids", "asks")
        }
        exchange.orderbooks[SYMBOL] = exchange.order_book({**sides, "nonce": self._snapshot.lastUpdateId})
        handle = exchange.client(URLS[self._futures]).handle_message
        began = time.thread_time_ns()
        if samples is None:
            for message in self._messages:
                handle(message)
        else:
            clock = time.monotonic_ns
            for message in self._messages:
                start = clock()
                handle(message)
                samples.append(clock() - start)
        taken = time.thread_time_ns() - began
        await exchange.close()
        return taken

    def whole(self) -> float:
        """CPU ns per message of one pass that is timed as a whole."""
        return asyncio.run(self._pass(None)) / len(self._messages)

    def each(self) -> Words:
        """ns of every message."""
        samples: list[int] = []
        asyncio.run(self._pass(samples))
        return np.array(samples, dtype=np.int64)

    def levels(self) -> list[Words]:
        """Bids and asks, best first, rows of (price_fp, qty_fp), as the engine's."""
        book = self._exchange.orderbooks.get(SYMBOL)
        if book is None:
            raise BenchFailed("ccxt gave its book up")
        return [np.array([self._fixed(level) for level in book[side]], dtype=np.int64) for side in ("bids", "asks")]

    def _fixed(self, level: list[float]) -> tuple[int, ...]:
        """ccxt counts in floats: their shortest decimal is the venue's text."""
        return tuple(int(Decimal(repr(v)).scaleb(e)) for v, e in zip(level[:2], self._exponents, strict=True))
