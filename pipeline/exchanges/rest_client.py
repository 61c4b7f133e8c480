"""What the REST clients of all dialects share: signing with the venue's clock, errors, many symbols at once.

A dialect's client says what its limits are, how a call is signed, and which error a reply carries.
Gateways' answers and silences are noted here (``transport/gateway_watch.py``).
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.exchanges.base import HttpCall, HttpReply, VenueClient
from pipeline.exchanges.parsing.rows import NO_NAME, OddRows, OwnRows
from pipeline.exchanges.transport.gateway_watch import GatewayWatch
from pipeline.exchanges.transport.rest import RestTransport, ServerClock
from pipeline.exchanges.transport.throttle import Limit, Throttle
from pipeline.model.clock import mono_ns
from pipeline.model.errors import AuthRefused, RowsUnreadable, VenueError, VenueRejected
from pipeline.model.structs import Credentials

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

T = TypeVar("T")
CLOCK_SYNC_INTERVAL_NS = 300 * 1_000_000_000  # a quartz drifts well under 100 ms in five minutes
LOOK_BACK_SLACK_MS = 2_000  # far more than our estimate of a venue's clock can be wrong
GATHER_MAX = 8  # questions about many symbols in flight at once


class RestVenueClient(VenueClient):
    """Base of the dialects' clients; one :class:`RestTransport`, one venue clock."""

    #: ``api_code`` of the refusals that are about a request's timestamp (``errors.py`` of the dialect, kind "clock").
    clock_refusals: frozenset[str]

    def __init__(
        self, venue: VenueConfig, credentials: Credentials | None, *, rest: str, limits: Mapping[str, Limit]
    ) -> None:
        self.venue = venue.name
        self.config = venue
        self.clock = ServerClock()
        throttle = Throttle(limits)
        self.transport = RestTransport(rest, venue=venue.name, throttle=throttle)
        self.gateway = GatewayWatch(throttle)
        self._credentials = credentials
        self.odd_rows = OddRows()
        self.symbols = set(venue.symbols)  # ours: whose rows in lists must be readable

    @property
    def has_credentials(self) -> bool:
        """Signed requests can be made."""
        return self._credentials is not None

    @abstractmethod
    def _sign(self, method: str, path: str, query: str, body: bytes) -> HttpCall:
        """A signed call to ``path`` (prefix included), stamped with the venue's clock now."""

    @abstractmethod
    def error_of(self, reply: HttpReply) -> VenueError | None:
        """The error that a whole answer carries; None for a success."""

    @abstractmethod
    async def _fetch_server_time_ms(self) -> int: ...

    async def server_time_ms(self) -> int:
        """The venue's clock; also corrects our offset to it."""
        send_ns = mono_ns()
        server_ms = await self._fetch_server_time_ms()
        self.clock.learn(server_ms, mono_ns() - send_ns)
        return server_ms

    async def _public(
        self,
        path: str,
        query: str = "",
        *,
        bucket: str = "public",
        weight: float = 1.0,
        headers: Mapping[str, str] | None = None,
    ) -> HttpReply:
        target = f"{self.transport.prefix}{path}{'?' if query else ''}{query}"
        reply = await self.transport.send(
            lambda: HttpCall(method="GET", target=target, headers=headers or {}), bucket=bucket, weight=weight
        )
        error = self.error_of(reply)
        self.gateway.note(error, bucket)
        if error is not None:
            raise error
        return reply

    async def _signed(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        body: bytes = b"",
        bucket: str = "private",
        weight: float = 1.0,
    ) -> HttpReply:
        """One signed call. A refusal for its timestamp is definitive: the clock is corrected and it is sent once more.

        That second sending is safe for every method: the first was refused before anything else was looked at.
        """
        if self._credentials is None:
            raise AuthRefused(
                f"{self.venue}: {path} needs credentials; add a key for {self.config.exchange}", venue=self.venue
            )
        if mono_ns() - self.clock.synced_mono_ns > CLOCK_SYNC_INTERVAL_NS or self.clock.synced_mono_ns == 0:
            await self.server_time_ms()
        full_path = self.transport.prefix + path
        for attempt in range(2):
            reply = await self.transport.send(
                lambda: self._sign(method, full_path, query, body), bucket=bucket, weight=weight
            )
            error = self.error_of(reply)
            self.gateway.note(error, bucket)
            if error is None:
                return reply
            if attempt == 0 and self.is_clock_error(error):
                await self.server_time_ms()
                continue
            raise error
        raise AssertionError("unreachable: the second attempt returns or raises")

    def is_clock_error(self, error: Exception) -> bool:
        """Whether the venue refused a request for its timestamp."""
        return isinstance(error, VenueRejected) and error.api_code in self.clock_refusals

    def since_ms(self, since_wall_ms: int) -> int:
        """The start of a look back, on the venue's clock: a little early, because two clocks never agree wholly."""
        return self.clock.to_venue_ms(since_wall_ms) - LOOK_BACK_SLACK_MS

    async def gather(self, symbols: Sequence[str], ask: Callable[[str], Awaitable[T]]) -> list[T | VenueRejected]:
        """``ask`` for every symbol, ``GATHER_MAX`` at once; a refusal stands in its symbol's place."""
        gate = asyncio.Semaphore(GATHER_MAX)

        async def one(symbol: str) -> T | VenueRejected:
            async with gate:
                try:
                    return await ask(symbol)
                except VenueRejected as error:
                    return error

        return list(await asyncio.gather(*(one(symbol) for symbol in symbols)))

    def own_rows(self, name: str = "") -> OwnRows:
        """For a question whose unreadable rows of ours :meth:`whole` tells of; ``name``: of the instrument or asset
        that it is about."""
        return OwnRows(self.odd_rows, name)

    def whole(self, rows: list[T], own: OwnRows) -> list[T]:
        """``rows``, where none of ours is missing. Raises ``RowsUnreadable``, which carries them, where one is."""
        if own.unreadable:
            first = own.unreadable[0]
            text = f"{self.venue}: {first.what}: {len(own.unreadable)} rows of ours cannot be read, {first.name}"
            raise RowsUnreadable(
                f"{text}: {first.reason}", venue=self.venue, rows=rows, unreadable=tuple(own.unreadable)
            )
        return rows

    def take_odd_rows(self) -> tuple[int, list[str]]:
        return self.odd_rows.count, self.odd_rows.take_news()

    def take_unreadable(self, symbols: Sequence[str]) -> frozenset[str]:
        names = self.odd_rows.take_names()
        return frozenset(symbols) if NO_NAME in names else names & frozenset(symbols)

    def remember_budgets(self, path: Path) -> None:
        self.transport.throttle.remember(path)

    @property
    def rate_limit_hits(self) -> int:
        return self.gateway.rate_limited

    async def close(self) -> None:
        await self.transport.close()
