"""What the REST clients of all dialects share: signing with the venue's clock, errors, many symbols at once.

A dialect's client says what its limits are, how a call is signed, and which error a reply carries.
Gateways' answers and silences are noted here (``transport/gateway_watch.py``).
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from pipeline.exchanges.base import HttpCall, HttpReply, VenueClient
from pipeline.exchanges.listing import Listing, PublicQuestion
from pipeline.exchanges.parsing.rows import NO_NAME, OddRows, OwnRows
from pipeline.exchanges.recent_trades import PublicTrade, TradesQuestion
from pipeline.exchanges.transport.gateway_watch import GatewayWatch
from pipeline.exchanges.transport.rest import RestTransport, ServerClock
from pipeline.exchanges.transport.shared_budgets import budgets_of
from pipeline.exchanges.transport.throttle import Limit, Throttle
from pipeline.model.clock import mono_ns
from pipeline.model.errors import AuthRefused, RateLimited, RowsUnreadable, VenueError, VenueRejected
from pipeline.model.networks import CoinNetwork
from pipeline.model.structs import Credentials, FundingTerms, Listed

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

T = TypeVar("T")
CLOCK_SYNC_INTERVAL_NS = 300 * 1_000_000_000  # a quartz drifts well under 100 ms in five minutes
CLOCK_AGAIN_NS = 10 * 1_000_000_000  # after a question for the time that was not answered
TIME_ANSWER_S = 2.0  # a later answer tells little of a clock, and nothing that is signed is to wait for it
LOOK_BACK_SLACK_MS = 2_000  # far more than our estimate of a venue's clock can be wrong
TERMS_BY_NAME_MAX = 20  # more contracts than this: one answer with all of them
GATHER_MAX = 8  # questions about many symbols in flight at once


class FeeCoinCall(NamedTuple):
    """A signed POST; ``path``: below the client's base."""

    coin: str
    path: str
    query: str = ""
    body: bytes = b""


class RestVenueClient(VenueClient):
    """Base of the dialects' clients; one :class:`RestTransport`, one venue clock."""

    #: Which questions list what a market trades (``listing.py`` of the dialect).
    listings: Mapping[str, Listing]
    #: Which question lists a symbol's newest trades (``recent_trades.py`` of the dialect), by market.
    recent: Mapping[str, TradesQuestion] = {}
    #: What has the account's fees taken in a coin; None: this market has no such call.
    fee_coin_call: FeeCoinCall | None = None
    #: ``api_code`` of the refusals that are about a request's timestamp (``errors.py`` of the dialect, kind "clock").
    clock_refusals: frozenset[str]

    def __init__(
        self, venue: VenueConfig, credentials: Credentials | None, *, rest: str, limits: Mapping[str, Limit]
    ) -> None:
        self.venue = venue.name
        self.config = venue
        self.clock = ServerClock()
        self._clock_again_ns = 0  # the time is not asked for before this
        throttle = Throttle(limits, shared=budgets_of(venue, credentials))
        self.transport = RestTransport(rest, venue=venue.name, throttle=throttle)
        self.gateway = GatewayWatch(throttle)
        self._credentials = credentials
        self.odd_rows = OddRows()
        self.coin_networks: Mapping[str, tuple[CoinNetwork, ...]] = {}
        self.symbols = set(venue.symbols)  # ours: whose rows in lists must be readable

    @property
    def has_credentials(self) -> bool:
        """Signed requests can be made."""
        return self._credentials is not None

    def networks(self) -> Mapping[str, tuple[CoinNetwork, ...]]:
        return self.coin_networks

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

    def follow_clock(self, offset_ns: int, read_mono_ns: int) -> None:
        self.clock.follow(offset_ns, read_mono_ns)

    async def know_clock(self) -> None:
        """Ask for the venue's time where the last reading is old. Where that fails it stands, it is only older: what is
        signed must not depend on one path. Where there is none, our own clock stands in, so that a session can start
        and what is open can be reduced; entries wait for a reading (``SessionState.clock_known``).

        What that risks: a venue refuses a timestamp that is far from its own clock (1 s ahead, some s behind; of
        Gate.io a login tells the time), so by a wrong clock of ours nothing is taken. An order that is signed while
        ours is ahead by less may be taken by so much longer than its window says; what proves that it never was waits
        for ``unknown_grace_ms``, which is longer: live takes no less than 2 s.

        Raises RateLimited where there is none: what the venue says of its limits is obeyed.
        """
        now_ns, synced_ns = mono_ns(), self.clock.synced_mono_ns
        old = not synced_ns or now_ns - synced_ns > CLOCK_SYNC_INTERVAL_NS
        if not old or now_ns < self._clock_again_ns:
            return
        try:
            await self.server_time_ms()
        except VenueError as error:
            if isinstance(error, RateLimited) and not synced_ns:
                raise
            self._clock_again_ns = mono_ns() + CLOCK_AGAIN_NS

    def note_left(self, reply: HttpReply, bucket: str) -> None:
        """What the reply says of the budget that its request was counted in; most venues say nothing."""
        return

    async def _public(
        self,
        path: str,
        query: str = "",
        *,
        bucket: str = "public",
        weight: float = 1.0,
        headers: Mapping[str, str] | None = None,
        answer_s: float | None = None,
    ) -> HttpReply:
        target = f"{self.transport.prefix}{path}{'?' if query else ''}{query}"
        reply = await self.transport.send(
            lambda: HttpCall(method="GET", target=target, headers=headers or {}),
            bucket=bucket,
            weight=weight,
            answer_s=answer_s,
        )
        self.note_left(reply, bucket)
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
        answer_s: float | None = None,
    ) -> HttpReply:
        """One signed call. A refusal for its timestamp is definitive: the clock is corrected and it is sent once more.

        That second sending is safe for every method: the first was refused before anything else was looked at.
        """
        if self._credentials is None:
            raise AuthRefused(
                f"{self.venue}: {path} needs credentials; add a key for {self.config.exchange}", venue=self.venue
            )
        await self.know_clock()
        full_path = self.transport.prefix + path
        for attempt in range(2):
            reply = await self.transport.send(
                lambda: self._sign(method, full_path, query, body), bucket=bucket, weight=weight, answer_s=answer_s
            )
            self.note_left(reply, bucket)
            error = self.error_of(reply)
            self.gateway.note(error, bucket)
            if error is None:
                return reply
            if attempt == 0 and self.is_clock_error(error):
                try:
                    await self.server_time_ms()
                except VenueError as unread:
                    raise error from unread  # the refusal says more than that the time has no answer
                continue
            raise error
        raise AssertionError("unreachable: the second attempt returns or raises")

    async def ask(
        self, path: str, query: str, *, signed: bool, weight: float = 0.0, answer_s: float | None = None
    ) -> HttpReply:
        """A question (GET) of the venue's documents that no other method asks; ``path``: below the client's base.

        ``weight`` 0: :meth:`weight_of` the path. ``answer_s``: as of :meth:`RestTransport.send`. Raises the errors of
        every method."""
        weight = weight or self.weight_of(path)
        if signed:
            return await self._signed("GET", path, query, weight=weight, answer_s=answer_s)
        return await self._public(path, query, weight=weight, answer_s=answer_s)

    def weight_of(self, path: str) -> float:
        """The most that a question of ours at ``path`` weighs, of any market; 1 where none is listed."""
        listings = (question for market in self.listings.values() for question in (market.symbols, market.volumes))
        questions: list[PublicQuestion | TradesQuestion] = [*listings, *self.recent.values()]
        return max((one.weight for one in questions if one.path == path), default=1.0)

    async def set_fee_coin(self, coin: str) -> bool:
        call = self.fee_coin_call
        if call is None or call.coin != coin or not self.has_credentials:
            return False
        await self._signed("POST", call.path, call.query, body=call.body)
        return True

    async def listing(self) -> list[Listed]:
        market = self.listings[self.config.market]
        reply = await self._public(market.symbols.path, weight=market.symbols.weight)
        found = market.parse_symbols(self.venue, reply.body, self.odd_rows)
        volumes: dict[str, Decimal] = {}
        try:
            day = await self._public(market.volumes.path, weight=market.volumes.weight)
            volumes = market.parse_volumes(self.venue, day.body, self.odd_rows)
        except VenueError as error:  # volumes rank what is listed: without them it is still listed
            if isinstance(error, RateLimited):
                raise
        return [Listed(symbol=s, base=base, quote=quote, day_volume=volumes.get(s)) for s, base, quote in found]

    async def recent_trades(self, symbol: str, limit: int, multiplier: Decimal = Decimal(1)) -> list[PublicTrade]:
        """The newest public trades, newest first; ``multiplier``: base coins per contract."""
        question = self.recent.get(self.config.market)
        if question is None:
            return await super().recent_trades(symbol, limit, multiplier)
        query = question.query(symbol, max(1, min(limit, question.limit_max)))
        reply = await self._public(question.path, query, weight=question.weight)
        found = question.parse(self.venue, reply.body)
        if question.in_contracts:
            found = [msgspec.structs.replace(trade, qty=trade.qty * multiplier) for trade in found]
        return sorted(found, key=lambda trade: trade.venue_wall_ms, reverse=True)[:limit]

    def is_clock_error(self, error: Exception) -> bool:
        """Whether the venue refused a request for its timestamp."""
        return isinstance(error, VenueRejected) and error.api_code in self.clock_refusals

    def since_ms(self, since_wall_ms: int) -> int:
        """The start of a look back, on the venue's clock: a little early, because two clocks never agree wholly."""
        return self.clock.to_venue_ms(since_wall_ms) - LOOK_BACK_SLACK_MS

    async def gather(self, symbols: Sequence[str], ask: Callable[[str], Awaitable[T]]) -> list[T | VenueRejected]:
        """``ask`` for every symbol, ``GATHER_MAX`` at once; a refusal stands in its symbol's place. Raises
        ``RateLimited``: it is about no symbol, and nothing more is asked after it."""
        gate = asyncio.Semaphore(GATHER_MAX)
        limited: list[RateLimited] = []

        async def one(symbol: str) -> T | VenueRejected:
            async with gate:
                if limited:
                    return limited[0]
                try:
                    return await ask(symbol)
                except RateLimited as error:
                    limited.append(error)
                    return error
                except VenueRejected as error:
                    return error

        found = list(await asyncio.gather(*(one(symbol) for symbol in symbols)))
        if limited:
            raise max(limited, key=lambda error: error.retry_after_s)
        return found

    async def terms_by_name(
        self, symbols: Sequence[str], ask: Callable[[str], Awaitable[dict[str, FundingTerms]]]
    ) -> dict[str, FundingTerms]:
        """``ask`` for each contract, or once for all of them (``""``) where they are many; those that are refused are
        left out. Raises the refusal where nothing else has come, and as :meth:`gather`."""
        parts = await self.gather(symbols if len(symbols) <= TERMS_BY_NAME_MAX else [""], ask)
        refusals = [part for part in parts if isinstance(part, VenueRejected)]
        if refusals and len(refusals) == len(parts):
            raise refusals[0]
        return {name: terms for part in parts if isinstance(part, dict) for name, terms in part.items()}

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

    @property
    def rate_limit_hits(self) -> int:
        return self.gateway.rate_limited

    async def close(self) -> None:
        await self.transport.close()
