"""A REST client of one venue for other purposes: any question of its documents, signed where it needs a key.

async with create_trading_client(venue, key) as client:
    day = await client.get("/ticker/24hr", {"symbol": "BTCUSDT"}, config=create_market_data_config())

Requests go through the engine's own client of the dialect: its signature, its request budgets, its errors. Only
questions (GET) can be asked, so that whatever fails may be asked again; orders are placed by ``CompositeExchange``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import msgspec

from arbitrage.direct.config import ConnectionConfig, RequestConfig, create_market_data_config, create_trading_config
from arbitrage.direct.sharing import share, unshare
from arbitrage.direct.structs import HealthStatus
from pipeline.exchanges.factory import make_venue
from pipeline.exchanges.rest_client import RestVenueClient
from pipeline.exchanges.transport.backoff import Backoff
from pipeline.exchanges.transport.rest import Pool
from pipeline.model.config import VenueConfig
from pipeline.model.errors import (
    BadInput,
    GatewayRefused,
    OutcomeUnknown,
    ProtocolViolation,
    VenueError,
    VenueUnavailable,
)
from pipeline.model.structs import Credentials

TIMES_KEPT = 1000  # newest response times that the metrics are made of
AGAIN_BASE_S, AGAIN_MAX_S = 0.1, 2.0
PASSES = (GatewayRefused, OutcomeUnknown, VenueUnavailable)  # what may be other at the next attempt

Question = tuple[str, Mapping[str, Any], RequestConfig]
"""(path, parameters, how it is asked)."""


class RestMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Since the client opened. Times in s, of the newest answers; None before the first."""

    requests: int
    failures: int
    retries: int
    rate_limit_hits: int
    success_rate: float | None  # %
    avg_response_time: float | None
    max_response_time: float | None


class RestClient:
    """Questions to one venue. Paths are those of its documents, below the venue's REST URL."""

    def __init__(
        self,
        venue: VenueConfig,
        key: Credentials | None = None,
        *,
        connection: ConnectionConfig | None = None,
        request: RequestConfig | None = None,
    ) -> None:
        """``request``: of questions that name no other."""
        self.venue = venue
        self._key = key
        self._connection = connection or ConnectionConfig()
        self._request = request or create_market_data_config()
        self._gate = asyncio.Semaphore(self._connection.connector_limit_per_host)
        self._client: RestVenueClient | None = None
        self._times: deque[float] = deque(maxlen=TIMES_KEPT)
        self._requests = self._failures = self._retries = 0

    async def __aenter__(self) -> Self:
        share()
        try:
            client = make_venue(self.venue, self._key)
            if not isinstance(client, RestVenueClient):
                raise BadInput(f"{self.venue.dialect}: found a client of another kind, wanted one on RestVenueClient")
        except BaseException:
            unshare()
            raise
        wanted = self._connection
        client.transport.pool = Pool(
            connections=wanted.connector_limit,
            per_host=wanted.connector_limit_per_host,
            connect_s=wanted.connect_timeout,
            total_s=wanted.total_timeout,
            keepalive_s=wanted.keepalive_timeout,
        )
        self._client = client
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                await client.close()
            finally:
                unshare()

    async def get(
        self, path: str, params: Mapping[str, Any] | None = None, *, config: RequestConfig | None = None
    ) -> Any:
        """The decoded JSON of one question. After time-outs, lost connections and gateways' answers it is asked again,
        ``config.max_retries`` times at most; a silence that the venue asked for is waited for.

        Raises a VenueError: the venue's own refusal at once, else what the last attempt met; BadInput for a signed
        question without a key."""
        asked = config or self._request
        if asked.require_auth and self._key is None:
            raise BadInput(f"{self.venue.name}: {path}: found no key, wanted one: the request asks for a signature")
        pauses = Backoff(base_s=AGAIN_BASE_S, cap_s=AGAIN_MAX_S)
        async with self._gate:
            for attempt in range(asked.max_retries + 1):
                try:
                    return await self._once(path, urlencode(params or {}), asked)
                except PASSES:
                    if attempt == asked.max_retries:
                        raise
                self._retries += 1
                await asyncio.sleep(pauses.next_s())
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _once(self, path: str, query: str, asked: RequestConfig) -> Any:
        client = self._client
        if client is None:
            raise BadInput(f"{self.venue.name}: found it closed, wanted it open: async with client")
        self._requests += 1
        began_ns = time.perf_counter_ns()
        try:
            reply = await client.ask(
                path, query, signed=asked.require_auth, weight=asked.weight, answer_s=asked.timeout
            )
            self._times.append((time.perf_counter_ns() - began_ns) / 1e9)
            return msgspec.json.decode(reply.body)
        except msgspec.DecodeError as error:
            self._failures += 1
            text = f"{self.venue.name}: the answer to {path} is no JSON: {error}"
            raise ProtocolViolation(text, venue=self.venue.name) from None
        except VenueError:
            self._failures += 1
            raise

    async def batch_request(self, questions: Sequence[Question]) -> list[Any]:
        """Answers in the order of ``questions``, all asked at once; a VenueError stands in its question's place."""

        async def one(path: str, params: Mapping[str, Any], config: RequestConfig) -> Any:
            try:
                return await self.get(path, params, config=config)
            except VenueError as error:
                return error

        return list(await asyncio.gather(*(one(*question) for question in questions)))

    def get_metrics(self) -> RestMetrics:
        """Counts and times so far."""
        times, asked = self._times, self._requests
        return RestMetrics(
            requests=asked,
            failures=self._failures,
            retries=self._retries,
            rate_limit_hits=0 if self._client is None else self._client.rate_limit_hits,
            success_rate=100.0 * (asked - self._failures) / asked if asked else None,
            avg_response_time=sum(times) / len(times) if times else None,
            max_response_time=max(times, default=None),
        )

    async def health_check(self) -> HealthStatus:
        """One question for the venue's time."""
        if self._client is None:
            return HealthStatus(status="unhealthy", response_time=None, reason="the client is closed")
        began_ns = time.perf_counter_ns()
        try:
            await self._client.server_time_ms()
        except VenueError as error:
            return HealthStatus(status="unhealthy", response_time=None, reason=str(error))
        return HealthStatus(status="healthy", response_time=(time.perf_counter_ns() - began_ns) / 1e9)


def create_trading_client(
    venue: VenueConfig, key: Credentials, connection: ConnectionConfig | None = None
) -> RestClient:
    """A client that signs what it asks: 10 s, 3 repetitions of questions."""
    return RestClient(venue, key, connection=connection, request=create_trading_config())
