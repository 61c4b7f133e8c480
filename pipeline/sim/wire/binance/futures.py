"""Binance USDⓈ-M's private side: its paths under a prefix and at the root, its user streams, its public lists.

The real venue has a host of its own; here both markets share one socket, so that every path is served under ``/usdm``
and, where spot has none of that name, without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.events import AccountEvent
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.binance.futures_account_api import FuturesAccountApi
from pipeline.sim.wire.binance.futures_api import FuturesApi
from pipeline.sim.wire.binance.futures_info import FuturesInfoApi
from pipeline.sim.wire.binance.futures_stream import ListenKeys, events_of
from pipeline.sim.wire.binance.limits import FUTURES_LIMITS, BinanceLimits
from pipeline.sim.wire.binance.private_side import PrivateSide
from pipeline.sim.wire.binance.public_api import PublicApi
from pipeline.sim.wire.binance.public_wire import USDM, stream_control
from pipeline.sim.wire.dialect import Dialect, SimSocket

PREFIXES = ("/fapi/", f"{USDM}/fapi/")
Send = Callable[[dict[str, Any]], None]  # takes an event as the venue writes it
COMBINED_PATHS = tuple(f"{prefix}/private/stream" for prefix in ("", USDM))
STREAM_PATHS = tuple(f"{prefix}/private/ws{tail}" for prefix in ("", USDM) for tail in ("", "/{key}"))


class BinanceFutures(PrivateSide):
    """All calls of USDⓈ-M that the public dialect does not answer by itself."""

    def __init__(self, venue: SimVenue, limits: BinanceLimits = FUTURES_LIMITS) -> None:
        self._keys = ListenKeys()
        self._streams: dict[int, list[Send]] = {}  # by id(account)
        orders, public = FuturesApi(venue), PublicApi(venue)
        account = FuturesAccountApi(venue, self._keys, self._tell)
        info = FuturesInfoApi(venue)
        routes = public.rest_routes("/fapi/v1") | info.rest_routes() | orders.rest_routes() | account.rest_routes()
        super().__init__(venue, limits, routes, orders.ws_routes() | account.ws_routes())
        self.on_trade = public.on_trade

    def path_of(self, request: web.Request) -> str:
        return request.path.removeprefix(USDM)

    def _tell(self, account: SimAccount, event: dict[str, Any]) -> None:
        """An event to every user stream of an account."""
        for send in tuple(self._streams.get(id(account), ())):
            send(event)

    def _follow(self, account: SimAccount, send: Send) -> Callable[[], None]:
        """Every event of an account from now on, until the function that is returned is called."""

        def listen(event: AccountEvent) -> None:
            for reported in events_of(event, account, self.venue):
                send(reported)

        streams = self._streams.setdefault(id(account), [])
        streams.append(send)
        remove = self.venue.on_account(account, listen)

        def end() -> None:
            remove()
            streams.remove(send)

        return end

    async def user_stream(self, dialect: Dialect, request: web.Request) -> web.StreamResponse:
        """One socket of a listen key, until it or its key ends."""
        key = request.match_info.get("key", "") or request.query.get("listenKey", "")
        wanted = frozenset(name for name in request.query.get("events", "").split("/") if name)
        account = self._keys.account_of(key, self.venue.now_ms())
        if account is None:
            return web.json_response({"code": -1125, "msg": "This listenKey does not exist."}, status=400)
        sock = SimSocket(dialect, request, self.venue.name, "private")
        refused = await sock.open()
        if refused is not None:
            return refused

        def send(event: dict[str, Any]) -> None:
            if not wanted or event["e"] in wanted:
                sock.send(msgspec.json.encode(event).decode())

        end = self._follow(account, send)
        self._watch(sock, key, send)
        try:
            async for _ in sock:
                pass
        finally:
            end()
        return sock.response

    async def user_streams(self, dialect: Dialect, request: web.Request) -> web.StreamResponse:
        """One combined socket: keys by ``streams`` or SUBSCRIBE, each event wrapped with its key.

        A key that does not exist is acknowledged and silent, as unknown streams of the other routes are; what the venue
        does is not documented.
        """
        sock = SimSocket(dialect, request, self.venue.name, "private")
        refused = await sock.open()
        if refused is not None:
            return refused
        ends: dict[str, Callable[[], None]] = {}

        def add(key: str) -> None:
            def send(event: dict[str, Any]) -> None:
                if key in ends:
                    sock.send(msgspec.json.encode({"stream": key, "data": event}).decode())

            account = self._keys.account_of(key, self.venue.now_ms())
            if key not in ends:
                ends[key] = (lambda: None) if account is None else self._follow(account, send)
                if account is not None:
                    self._watch(sock, key, send)

        def remove(key: str) -> None:
            ends.pop(key, lambda: None)()

        for key in request.query.get("streams", "").split("/"):
            if key:
                add(key)
        try:
            async for message in sock:
                sock.send(stream_control(message.data, ends, add, remove))
        finally:
            for key in tuple(ends):
                remove(key)
        return sock.response

    def _watch(self, sock: SimSocket, key: str, send: Send) -> None:
        """Tells a stream that its key has expired."""
        now_ms = self.venue.now_ms()
        left_ms = self._keys.left_ms(key, now_ms)
        if sock.closed:
            return
        if left_ms:
            self.venue.clock.call_later(left_ms * NS_PER_MS, lambda: self._watch(sock, key, send))
        else:
            send({"e": "listenKeyExpired", "E": now_ms, "listenKey": key})
