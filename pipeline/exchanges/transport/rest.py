"""REST transport: one warm aiohttp session per venue, behind the venue's request budget.

What may be concluded from a failure is decided here and nowhere else:

* nothing left this host (name, connect, TLS failed; our own budget said no) -> ``VenueUnavailable``
* bytes may have left and no whole answer came (timeout, reset, oversized or cut reply) -> ``OutcomeUnknown``
* a whole answer came -> ``HttpReply``; ``refusals.py`` and the ``errors.py`` of its dialect decide

Redirects are off (a signed request must never follow one), nothing is retried, no proxy variables are read, and
compression is not offered (a small reply must not become a large one).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from pipeline.exchanges.base import HttpCall, HttpReply
from pipeline.exchanges.transport.throttle import Throttle
from pipeline.model.clock import mono_ns, wall_ms
from pipeline.model.errors import OutcomeUnknown, VenueUnavailable

REPLY_BYTES_MAX = 64 * 1024 * 1024  # MEXC's full instrument list is several MB
CONNECT_TIMEOUT_S = 3.0
TOTAL_TIMEOUT_S = 10.0
CONNECTIONS_MAX = 20
KEEPALIVE_S = 30.0


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """How many connections are kept, and for how long; times in s."""

    connections: int = CONNECTIONS_MAX
    per_host: int = CONNECTIONS_MAX
    connect_s: float = CONNECT_TIMEOUT_S
    total_s: float = TOTAL_TIMEOUT_S
    keepalive_s: float = KEEPALIVE_S


class ServerClock:
    """The venue's last answer, carried on by CLOCK_MONOTONIC: steps of our wall clock do not move it."""

    __slots__ = ("_server_ms", "synced_mono_ns")

    def __init__(self) -> None:
        self._server_ms = 0
        self.synced_mono_ns = 0  # when the venue's clock showed ``_server_ms``; 0 = never asked

    def learn(self, server_ms: int, trip_ns: int) -> None:
        """One answer of the venue's time endpoint, just received; the newest always counts."""
        self._server_ms = server_ms
        self.synced_mono_ns = mono_ns() - trip_ns // 2

    def follow(self, offset_ns: int, read_mono_ns: int) -> None:
        """What another process has read of it at ``read_mono_ns`` (``ClockEstimate.offset_ns``). An answer of our own
        that is newer stays."""
        if read_mono_ns > self.synced_mono_ns:
            self._server_ms, self.synced_mono_ns = (read_mono_ns + offset_ns) // 1_000_000, read_mono_ns

    @property
    def known(self) -> bool:
        """Whether the venue's clock was ever read; else ours stands in for it."""
        return self.synced_mono_ns > 0

    def now_ms(self) -> int:
        """The venue's clock, as far as we know it, in unix ms; until it was read, ours."""
        if not self.known:
            return wall_ms()
        return self._server_ms + (mono_ns() - self.synced_mono_ns) // 1_000_000

    def to_venue_ms(self, local_wall_ms: int) -> int:
        """A moment that our wall clock, as it stands now, calls ``local_wall_ms``."""
        return local_wall_ms + self.now_ms() - wall_ms()


class RestTransport:
    """Sends :class:`HttpCall` to one origin. ``base_url`` is scheme, host and path prefix (``prefix``)."""

    def __init__(self, base_url: str, *, venue: str, throttle: Throttle) -> None:
        parts = urlsplit(base_url)
        self.venue = venue
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.host = parts.netloc
        self.prefix = parts.path.rstrip("/")
        self.throttle = throttle
        self.pool = Pool()  # as of the first request
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            tls: ssl.SSLContext | bool = True
            if self.origin.startswith("https"):
                tls = ssl.create_default_context()
                tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self.pool.connections,
                    limit_per_host=self.pool.per_host,
                    keepalive_timeout=self.pool.keepalive_s,
                    ssl=tls,
                ),
                timeout=aiohttp.ClientTimeout(total=self.pool.total_s, connect=self.pool.connect_s),
                headers={"Accept-Encoding": "identity", "User-Agent": "arb-engine"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def send(
        self, sign: Callable[[], HttpCall], *, bucket: str, weight: float = 1.0, answer_s: float | None = None
    ) -> HttpReply:
        """Wait for budget, then sign (so that the timestamp is fresh) and send once. ``answer_s``: how long its answer
        is waited for, where that is less than the pool's time; the wait for budget comes before.

        Raises ``VenueUnavailable`` or ``OutcomeUnknown`` as the module's head says.
        """
        await self.throttle.acquire(bucket, weight)
        call = sign()
        try:
            async with asyncio.timeout(answer_s):
                return await self.send_now(call)
        except TimeoutError:
            path = call.target.partition("?")[0]
            text = f"{self.venue}: no answer to {call.method} {path} within {answer_s} s"
            raise OutcomeUnknown(text, venue=self.venue) from None

    async def send_now(self, call: HttpCall) -> HttpReply:
        """Send a signed call at once. Error messages hold the path only: a query may hold a signature."""
        session = self._open()
        path = call.target.partition("?")[0]
        try:
            async with session.request(
                call.method,
                URL(self.origin + call.target, encoded=True),
                headers=call.headers,
                data=call.body or None,
                allow_redirects=False,
            ) as response:
                buffer = bytearray()
                async for chunk in response.content.iter_any():
                    buffer += chunk
                    if len(buffer) > REPLY_BYTES_MAX:
                        break
                received_ns = mono_ns()
                headers = {key.lower(): value for key, value in response.headers.items()}
                status = response.status
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or type(error.os_error).__name__
            raise VenueUnavailable(f"{self.venue}: cannot connect to {self.host}: {reason}", venue=self.venue) from None
        except aiohttp.ConnectionTimeoutError:
            raise VenueUnavailable(
                f"{self.venue}: no connection to {self.host} within {self.pool.connect_s} s", venue=self.venue
            ) from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise OutcomeUnknown(
                f"{self.venue}: no whole answer to {call.method} {path}: {type(error).__name__}", venue=self.venue
            ) from None
        if len(buffer) > REPLY_BYTES_MAX:
            raise OutcomeUnknown(
                f"{self.venue}: answer to {path} is larger than {REPLY_BYTES_MAX} bytes", venue=self.venue
            )
        if headers.get("content-encoding", "identity") != "identity":
            raise OutcomeUnknown(
                f"{self.venue}: answer to {path} is compressed, which was not asked for", venue=self.venue
            )
        return HttpReply(status=status, headers=headers, body=bytes(buffer), recv_mono_ns=received_ns)

    async def close(self) -> None:
        """Close the HTTP session; the next request opens a new one."""
        if self._session is not None:
            await self._session.close()
            self._session = None
