"""Binance public endpoints and streams, spot and USDⓈ-M: the paths, the stream control messages and the fan-out.

Simulated venues (``exchange``) and recordings (``sim/recorded``) give the data. USDⓈ-M lies under ``/usdm`` so that
both markets share one socket.
Sources: binance-spot-api-docs "web-socket-streams", "rest-api"; derivatives docs "USDⓈ-M futures" (read 2026).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.dialect import Dialect, Host, SimSocket

USDM = "/usdm"
#: Routes of USDⓈ-M streams, and the topics of the second; all others are of the first, as are sockets without a route.
ROUTES = ("/public", "/market")
MARKET_TOPICS = frozenset({"aggTrade", "markPrice", "kline", "ticker", "miniTicker", "forceOrder"})
STREAMS_MAX = 1024
DEPTH_MAX = 5000
_encode = msgspec.json.Encoder().encode
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Client:
    """One socket: raw or combined, and its streams."""

    def __init__(self, sock: SimSocket, market: str, combined: bool, *, of_market_route: bool = False) -> None:
        self.sock = sock
        self.market = market
        self.combined = combined
        self.of_market_route = of_market_route
        self.names: dict[str, str] = {}  # stream name as asked -> canonical "symbol@topic"


def canonical(name: str) -> str:
    """``btcusdt@depth@100ms`` -> ``BTCUSDT@depth``: the speed of a diff stream is not distinguished."""
    symbol, _, rest = name.partition("@")
    return f"{symbol.upper()}@{rest.partition('@')[0]}"


class BinanceWire(Dialect):
    """Paths, subscriptions and frames; subclasses provide the data."""

    def __init__(self, venues: dict[str, SimVenue], host: Host) -> None:
        super().__init__(venues, host)
        self._clients: dict[tuple[str, str], list[tuple[_Client, str]]] = {}  # (market, canonical) -> clients

    # --- of each subclass ---

    def venue_of(self, market: str) -> str | None:
        """Venue name of ``spot`` or ``futures``; None if not served."""
        return None

    def server_time_ms(self, market: str) -> int:
        """The venue's clock, Unix ms."""
        return 0

    def exchange_info(self, market: str) -> dict[str, Any]:
        """The reply of ``exchangeInfo`` without its time fields."""
        return {"symbols": []}

    async def depth(self, market: str, symbol: str, limit: int) -> dict[str, Any] | None:
        """The reply of ``depth``; None for an unknown symbol."""
        return None

    def subscribed(self, market: str, symbol: str, topic: str) -> None:
        """A stream has its first subscriber."""

    def limited(self, handler: Handler) -> Handler:
        """A public handler within the budgets of this server; recordings have none."""
        return handler

    # --- paths ---

    def routes(self, app: web.Application) -> None:
        def add(path: str, handler: Handler) -> None:
            app.router.add_get(path, self.limited(handler))

        add("/api/v3/ping", self._ping)
        add("/api/v3/time", self._time)
        add("/api/v3/exchangeInfo", self._info)
        add("/api/v3/depth", self._depth)
        add("/api/v3/ticker/bookTicker", self._book_tickers)
        for prefix in ("", USDM):
            add(f"{prefix}/fapi/v1/ping", self._ping)
            add(f"{prefix}/fapi/v1/time", self._time)
            add(f"{prefix}/fapi/v1/exchangeInfo", self._info)
            add(f"{prefix}/fapi/v1/depth", self._depth)
            add(f"{prefix}/fapi/v1/ticker/bookTicker", self._book_tickers)
            add(f"{prefix}/fapi/v1/premiumIndex", self._premium_index)
        for prefix in ("", USDM, *(f"{root}{route}" for root in ("", USDM) for route in ROUTES)):
            add(f"{prefix}/ws", self._socket)
            add(f"{prefix}/ws/{{stream:.+}}", self._socket)
            add(f"{prefix}/stream", self._socket)

    def urls(self, host: str, port: int) -> dict[str, dict[str, str]]:
        found = {}
        for market, prefix in (("spot", ""), ("futures", USDM)):
            name = self.venue_of(market)
            if name is not None:
                found[name] = {"rest": f"http://{host}:{port}{prefix}", "ws": f"ws://{host}:{port}{prefix}"}
        return found

    def classify(self, method: str, path: str, query: dict[str, str]) -> tuple[str, str, str] | None:
        venue = self.venue_of(market_of(path))
        if venue is None:
            return None
        operation = {"depth": "depth", "time": "time", "exchangeInfo": "instruments"}.get(path.rpartition("/")[2])
        return venue, operation or "other", query.get("symbol") or "*"

    async def _ping(self, request: web.Request) -> web.Response:
        return _reply({})

    async def _time(self, request: web.Request) -> web.Response:
        return _reply({"serverTime": self.server_time_ms(market_of(request.path))})

    async def _info(self, request: web.Request) -> web.Response:
        market = market_of(request.path)
        info = self.exchange_info(market)
        wanted = request.query.get("symbol")
        many = request.query.get("symbols")
        if wanted or many:
            try:
                names = {wanted} if wanted else set(msgspec.json.decode(many or "[]"))
            except msgspec.DecodeError:
                return _reply({"code": -1100, "msg": "Illegal characters found in parameter 'symbols'"}, 400)
            rows = [row for row in info["symbols"] if row["symbol"] in names]
            if len(rows) < len(names):
                return _reply({"code": -1121, "msg": "Invalid symbol."}, 400)
            info = {**info, "symbols": rows}
        return _reply({"timezone": "UTC", "serverTime": self.server_time_ms(market), "exchangeFilters": [], **info})

    async def _depth(self, request: web.Request) -> web.Response:
        market = market_of(request.path)
        text = request.query.get("limit", "500" if market == "futures" else "100")
        if not text.isdigit() or not 0 < int(text) <= DEPTH_MAX:
            return _reply({"code": -1130, "msg": "Data sent for parameter 'limit' is not valid."}, 400)
        book = await self.depth(market, request.query.get("symbol", ""), int(text))
        if book is None:
            return _reply({"code": -1121, "msg": "Invalid symbol."}, 400)
        return _reply(book)

    async def _tops(self, request: web.Request) -> list[tuple[str, list[str], list[str]]]:
        """(symbol, best bid [price, qty], best ask) of the asked symbol, or of all that have both sides."""
        market = market_of(request.path)
        wanted = request.query.get("symbol")
        found = []
        for row in self.exchange_info(market)["symbols"]:
            book = await self.depth(market, row["symbol"], 5) if wanted in (None, row["symbol"]) else None
            if book is not None and book["bids"] and book["asks"]:
                found.append((row["symbol"], book["bids"][0], book["asks"][0]))
        return found

    async def _book_tickers(self, request: web.Request) -> web.Response:
        rows = [
            {"symbol": symbol, "bidPrice": bid[0], "bidQty": bid[1], "askPrice": ask[0], "askQty": ask[1]}
            for symbol, bid, ask in await self._tops(request)
        ]
        return _reply(rows[0] if rows and "symbol" in request.query else rows)

    async def _premium_index(self, request: web.Request) -> web.Response:
        """Mark price = middle of the book; no funding is recorded, so the rate is 0."""
        now_ms = self.server_time_ms("futures")
        rows = []
        for symbol, bid, ask in await self._tops(request):
            mark = format((Decimal(bid[0]) + Decimal(ask[0])) / 2, "f")
            rows.append(
                {"symbol": symbol, "markPrice": mark, "indexPrice": mark, "lastFundingRate": "0", "time": now_ms}
            )
        return _reply(rows[0] if rows and "symbol" in request.query else rows)

    # --- streams ---

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        market = market_of(request.path)
        venue = self.venue_of(market)
        if venue is None:
            return web.Response(status=404)
        sock = SimSocket(self, request, venue, "public")
        refused = await sock.open()
        if refused is not None:
            return refused
        client = _Client(sock, market, "/stream" in request.path, of_market_route="/market/" in request.path)
        add, remove = partial(self._add, client), partial(self._remove, client)
        stream = request.match_info.get("stream", "")
        names = stream.split("/") if stream else [name for name in request.query.get("streams", "").split("/") if name]
        for name in names:
            self._add(client, name)
        try:
            async for message in sock:
                sock.send(stream_control(message.data, client.names, add, remove))
        finally:
            for name in list(client.names):
                self._remove(client, name)
        return sock.response

    def _add(self, client: _Client, name: str) -> None:
        """Unknown streams, and USDⓈ-M ones on the wrong route, are acknowledged and stay silent, as on the venue."""
        known = canonical(name)
        if name in client.names or len(client.names) >= STREAMS_MAX:
            return
        client.names[name] = known
        topic = known.partition("@")[2]
        if client.market == "futures" and (topic in MARKET_TOPICS) is not client.of_market_route:
            return
        listeners = self._clients.setdefault((client.market, known), [])
        listeners.append((client, name))
        if len(listeners) == 1:
            self.subscribed(client.market, known.partition("@")[0], topic)

    def _remove(self, client: _Client, name: str) -> None:
        known = client.names.pop(name, None)
        if known is not None:
            listeners = self._clients.get((client.market, known), [])
            listeners[:] = [row for row in listeners if row != (client, name)]

    def listens(self, market: str, symbol: str, topic: str) -> bool:
        """True while a stream has a subscriber."""
        return bool(self._clients.get((market, f"{symbol}@{topic}")))

    def publish(self, market: str, symbol: str, topic: str, data: bytes) -> int:
        """Sends ``data`` (the bare JSON) to every subscriber, wrapped where the socket is a combined one."""
        listeners = self._clients.get((market, f"{symbol}@{topic}"), ())
        for client, name in listeners:
            if client.combined:
                client.sock.send(f'{{"stream":"{name}","data":{data.decode()}}}')
            else:
                client.sock.send(data.decode())
        return len(listeners)


def stream_control(
    data: str | bytes, names: Collection[str], add: Callable[[str], None], remove: Callable[[str], None]
) -> str:
    """Obeys a client's frame about its streams (``names``: those that it has), and the answer."""
    try:
        row = msgspec.json.decode(data)
        method, params, number = row["method"], row.get("params", []), row.get("id")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return '{"code":3,"msg":"Invalid JSON: expected value"}'
    if method == "LIST_SUBSCRIPTIONS":
        return _encode({"result": list(names), "id": number}).decode()
    if method not in ("SUBSCRIBE", "UNSUBSCRIBE") or not all(isinstance(name, str) for name in params):
        return _encode({"code": 2, "msg": f"Invalid request: unknown variant {method}", "id": number}).decode()
    for name in params:
        (add if method == "SUBSCRIBE" else remove)(name)
    return _encode({"result": None, "id": number}).decode()


def market_of(path: str) -> str:
    return "futures" if path.startswith((USDM, "/fapi/", *(f"{route}/" for route in ROUTES))) else "spot"


def _reply(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=_encode(value), status=status, content_type="application/json")


#: Of every symbol; a step of 0 adds nothing to LOT_SIZE.
SPOT_FILTERS: list[dict[str, Any]] = [
    {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00000000", "maxQty": "9000000.00000000", "stepSize": "0.00000000"},
    {
        "filterType": "PERCENT_PRICE_BY_SIDE",
        "bidMultiplierUp": "1.5",
        "bidMultiplierDown": "0.5",
        "askMultiplierUp": "1.5",
        "askMultiplierDown": "0.5",
        "avgPriceMins": 0,
    },
    {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
]


FUTURES_FILTERS: list[dict[str, Any]] = [
    {"filterType": "MAX_NUM_ORDERS", "limit": 200},
    {"filterType": "PERCENT_PRICE", "multiplierUp": "1.5000", "multiplierDown": "0.5000", "multiplierDecimal": "4"},
]


def filters(
    tick: str, step: str, min_qty: str, min_notional: str, *, is_futures: bool, max_qty: str = "9000.00000000"
) -> list[dict[str, Any]]:
    """The filters of an exchangeInfo row."""
    notional = (
        {"filterType": "MIN_NOTIONAL", "notional": min_notional}
        if is_futures
        else {
            "filterType": "NOTIONAL",
            "minNotional": min_notional,
            "applyMinToMarket": True,
            "maxNotional": "9000000.00000000",
            "applyMaxToMarket": False,
            "avgPriceMins": 5,
        }
    )
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": min_qty, "maxQty": max_qty, "stepSize": step},
        notional,
        *(
            [{"filterType": "MARKET_LOT_SIZE", "minQty": min_qty, "maxQty": max_qty, "stepSize": step}]
            if is_futures
            else []
        ),
        *(FUTURES_FILTERS if is_futures else SPOT_FILTERS),
    ]


def info_row(
    symbol: str, base: str, quote: str, rules: list[dict[str, Any]], *, is_futures: bool, status: str = "TRADING"
) -> dict[str, Any]:
    """One symbol of exchangeInfo."""
    row: dict[str, Any] = {
        "symbol": symbol,
        "status": status,
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "filters": rules,
    }
    if is_futures:
        row |= {
            "pair": symbol,
            "contractType": "PERPETUAL",
            "marginAsset": quote,
            "pricePrecision": 2,
            "quantityPrecision": 3,
            "underlyingType": "COIN",
            "underlyingSubType": [],
            "onboardDate": 1567965300000,
            "deliveryDate": 4133404800000,
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAssetPrecision": 8,
            "settlePlan": 0,
            "triggerProtect": "0.0500",
            "liquidationFee": "0",
            "marketTakeBound": "0.05",
            "orderTypes": ["LIMIT", "MARKET"],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        }
    else:
        row |= {
            "quoteAssetPrecision": 8,
            "baseCommissionPrecision": 8,
            "quoteCommissionPrecision": 8,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
            "icebergAllowed": False,
            "ocoAllowed": False,
            "otoAllowed": False,
            "quoteOrderQtyMarketAllowed": True,
            "allowTrailingStop": False,
            "cancelReplaceAllowed": False,
            "defaultSelfTradePreventionMode": "NONE",
            "allowedSelfTradePreventionModes": ["NONE"],
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "permissions": [],
            "permissionSets": [["SPOT"]],
        }
    return row
