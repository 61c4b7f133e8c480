"""The simulator in a thread of its own, and clients pointed at it by rewriting their URLs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.server import SimExchangeServer
from pipeline.sim.wire.mexc.exchange import MexcDialect

T = TypeVar("T")


class HostedSim:
    """A running simulator. Its objects may be touched only through :meth:`call`, which runs in its thread."""

    def __init__(self, scenario: Any = "null_flat", seed: int = 11) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.server: SimExchangeServer = self.call(lambda: SimExchangeServer(scenario, seed))
        self.info: dict[str, Any] = self.run(self.server.start())

    def stop(self) -> None:
        self.run(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(240)
        self._loop.close()

    def run(self, awaitable: Awaitable[T]) -> T:
        async def wrapped() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wrapped(), self._loop).result(240)

    def call(self, function: Callable[[], T]) -> T:
        async def wrapped() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(wrapped(), self._loop).result(240)

    def venue(self, name: str) -> SimVenue:
        return self.server.venues[name]

    def forget_budgets(self) -> None:
        """Tests share one user: what one has asked for must not refuse the next."""
        dialect = self.server.dialects["mexc"]
        assert isinstance(dialect, MexcDialect)
        self.call(dialect.rest.limiter.clear)

    def freeze(self) -> None:
        """The market stops; the books stay as they are."""

        def stop() -> None:
            if self.server.market is not None:
                self.server.market.stop()

        self.call(stop)

    def depth(self, name: str, symbol: str, limit: int) -> tuple[list[list[float]], list[list[float]]]:
        """(bids, asks) of the simulator as price and base quantity."""
        venue = self.venue(name)
        row = venue.instruments[symbol]
        _, bids, asks = self.call(lambda: venue.depth(symbol, limit))

        def side(levels: list[tuple[int, int]]) -> list[list[float]]:
            return [[float(row.price(price)), float(row.qty(units))] for price, units in levels]

        return side(bids), side(asks)

    def nudge(self, name: str, symbol: str, index: int) -> None:
        """Changes one level of each side, so that one delta per interval goes out."""

        def change() -> None:
            book = self.venue(name).books[symbol]
            for side in (0, 1):
                levels = book.top(side, 8)
                price, units = levels[2 + index % 5]
                book.set_level(side, price, units + 1 + index)

        self.call(change)


def rewrite(urls: Any, base: str) -> Any:
    """The same tree of URLs with scheme and host of ``base``; paths stay."""
    if isinstance(urls, dict):
        return {name: rewrite(value, base) for name, value in urls.items()}
    parts = urlsplit(urls)
    scheme = "ws" if parts.scheme.startswith("ws") else "http"
    return f"{scheme}://{urlsplit(base).netloc}{parts.path}"


def credentials(sim: HostedSim, venue: str) -> dict[str, Any]:
    row = sim.info["venues"][venue]
    return {"apiKey": row["api_key"], "secret": row["api_secret"], "uid": row["uid"]}


def point(exchange: Any, sim: HostedSim, venue: str) -> Any:
    """Rewrites ``urls['api']`` of a ccxt exchange: nothing else changes."""
    exchange.urls["api"] = rewrite(exchange.urls["api"], sim.info["venues"][venue]["rest"])
    return exchange
