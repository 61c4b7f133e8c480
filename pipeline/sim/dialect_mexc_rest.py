"""MEXC spot REST v3 over a simulated venue: public market data, signed orders and account, listen keys.

Reads a request, checks budget, key, clock window and signature in that order, calls the venue core, writes the row.
Source: MEXC spot v3 REST documents; recorded rows; what ccxt 4.5 asks for beyond them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from pipeline.model.enums import OrderKind, OrderSide
from pipeline.sim import dialect_mexc_words as words
from pipeline.sim.auth import AuthRefused, mexc_deadline_ms, mexc_params, verify_mexc
from pipeline.sim.coins import coins
from pipeline.sim.dialect_mexc_keys import ListenKeys
from pipeline.sim.dialect_mexc_words import MexcError
from pipeline.sim.ratelimit import Budget, MexcLimits, WindowLimiter, retry_after_s
from pipeline.sim.types import SimAccount, SimInstrument, SimOrder, SimOrderRequest, SimReject, TradePrint

if TYPE_CHECKING:
    from pipeline.sim.venue import SimVenue

TRADES_KEPT = 1000
DAY_MS = 86_400_000
_BATCH_MAX = 20
_CANCEL_SYMBOLS_MAX = 5
_DEPTH_DEFAULT, _DEPTH_MAX = 100, 5000


class Call(msgspec.Struct, frozen=True):
    """One request after the checks. ``account`` is None on public calls."""

    params: dict[str, str]
    account: SimAccount | None
    now_ms: int
    deadline_ms: int

    def need(self, name: str) -> str:
        value = self.params.get(name, "")
        if not value:
            raise MexcError(700004, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return value

    def whole(self, name: str, default: int) -> int:
        text = self.params.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit():
            raise MexcError(700004, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return int(text)

    def amount(self, name: str) -> Decimal | None:
        text = self.params.get(name, "")
        if not text:
            return None
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = Decimal("NaN")
        if not value.is_finite() or not text.isascii() or "_" in text:
            raise MexcError(700004, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return value

    @property
    def owner(self) -> SimAccount:
        assert self.account is not None
        return self.account


Handler = Callable[[Call], Awaitable[Any]]


class Route(msgspec.Struct, frozen=True):
    """``operation`` is the simulator's own word for faults and ledger; ``weight`` is MEXC's."""

    handler: Handler
    operation: str
    weight: int
    signed: bool = False
    budget: Budget | None = None  # besides the weights


class MexcRest:
    """All REST paths of one simulated MEXC spot venue."""

    def __init__(self, venue: SimVenue, keys: ListenKeys, limits: MexcLimits) -> None:
        self._venue = venue
        self._keys = keys
        self._limits = limits
        self._limiter = WindowLimiter()
        self._banned_until_ms: dict[str, int] = {}
        self._prints: dict[str, deque[TradePrint]] = {}
        self.routes: dict[tuple[str, str], Route] = self._table()

    def _table(self) -> dict[tuple[str, str], Route]:
        v3 = "/api/v3"
        order = f"{v3}/order"
        place, batch = self._limits.place, self._limits.batch
        return {
            ("GET", f"{v3}/ping"): Route(self._ping, "time", 1),
            ("GET", f"{v3}/time"): Route(self._time, "time", 1),
            ("GET", f"{v3}/defaultSymbols"): Route(self._default_symbols, "instruments", 1),
            ("GET", f"{v3}/exchangeInfo"): Route(self._exchange_info, "instruments", 10),
            ("GET", f"{v3}/depth"): Route(self._depth, "depth", 1),
            ("GET", f"{v3}/trades"): Route(self._trades, "public_trades", 5),
            ("GET", f"{v3}/historicalTrades"): Route(self._trades, "public_trades", 5),
            ("GET", f"{v3}/aggTrades"): Route(self._agg_trades, "public_trades", 1),
            ("GET", f"{v3}/ticker/bookTicker"): Route(self._book_ticker, "ticker", 1),
            ("GET", f"{v3}/ticker/price"): Route(self._price, "ticker", 1),
            ("GET", f"{v3}/ticker/24hr"): Route(self._ticker_24h, "ticker", 1),
            ("GET", "/api/v1/contract/detail"): Route(self._no_contracts, "instruments", 1),
            ("GET", f"{v3}/selfSymbols"): Route(self._default_symbols, "instruments", 1, True),
            ("POST", order): Route(self._place, "place", 1, True, place),
            ("POST", f"{order}/test"): Route(self._place_test, "other", 1, True),
            ("POST", f"{v3}/batchOrders"): Route(self._batch, "place", 1, True, batch),
            ("DELETE", order): Route(self._cancel, "cancel", 1, True),
            ("GET", order): Route(self._query, "order", 2, True),
            ("DELETE", f"{v3}/openOrders"): Route(self._cancel_all, "cancel_all", 1, True),
            ("GET", f"{v3}/openOrders"): Route(self._open_orders, "open_orders", 3, True),
            ("GET", f"{v3}/allOrders"): Route(self._all_orders, "finished_orders", 10, True),
            ("GET", f"{v3}/myTrades"): Route(self._my_trades, "trades", 10, True),
            ("GET", f"{v3}/account"): Route(self._account, "balances", 10, True),
            ("GET", f"{v3}/tradeFee"): Route(self._trade_fee, "fees", 20, True),
            ("GET", f"{v3}/capital/config/getall"): Route(self._coins, "currencies", 10, True),
            ("POST", f"{v3}/userDataStream"): Route(self._key_new, "listen_key", 1, True),
            ("PUT", f"{v3}/userDataStream"): Route(self._key_extend, "listen_key", 1, True),
            ("DELETE", f"{v3}/userDataStream"): Route(self._key_close, "listen_key", 1, True),
            ("GET", f"{v3}/userDataStream"): Route(self._key_list, "listen_key", 1, True),
        }

    def on_print(self, trade: TradePrint) -> None:
        self._prints.setdefault(trade.symbol, deque(maxlen=TRADES_KEPT)).append(trade)

    # --- the way of a request ---

    async def serve(self, request: web.Request) -> web.Response:
        route = self.routes.get((request.method, request.path))
        if route is None:
            return _reply({"code": 404, "msg": "Not Found"}, 404)
        raw_query = request.raw_path.partition("?")[2]
        body = (await request.read()).decode("utf-8", "replace")
        now_ms = self._venue.now_ms()
        refused = self._budget(route, request, now_ms)
        if refused is not None:
            return refused
        try:
            params = mexc_params(raw_query, body)
            account, deadline_ms = None, 0
            if route.signed:
                key = request.headers.get("X-MEXC-APIKEY")
                account = verify_mexc(self._venue.accounts, key, raw_query, body, params, now_ms)
                deadline_ms = mexc_deadline_ms(params)
                refused = self._uid_budget(route, request.path, account, now_ms)
                if refused is not None:
                    return refused
            return _reply(await route.handler(Call(params, account, now_ms, deadline_ms)))
        except AuthRefused as error:
            return _reply({"code": error.code, "msg": error.text}, error.status)
        except MexcError as error:
            return _reply({"msg": error.text, "code": error.code}, error.status)

    def _budget(self, route: Route, request: web.Request, now_ms: int) -> web.Response | None:
        """Weight per endpoint and address; asking on far past it earns a 418 ban."""
        address = request.remote or ""
        banned_until_ms = self._banned_until_ms.get(address, 0)
        if now_ms < banned_until_ms:
            wait_s = -(-(banned_until_ms - now_ms) // 1000)
            return _reply({"code": 418, "msg": "banned"}, 418, {"Retry-After": str(wait_s)})
        budget = self._limits.ip
        verdict = self._limiter.take(budget, f"{request.method}{request.path}", address, now_ms, route.weight)
        if verdict.allowed:
            return None
        if verdict.used > budget.limit * self._limits.ban_factor:
            self._banned_until_ms[address] = now_ms + self._limits.ban_ms
        return _too_many(retry_after_s(verdict, now_ms))

    def _uid_budget(self, route: Route, path: str, account: SimAccount, now_ms: int) -> web.Response | None:
        verdict = self._limiter.take(self._limits.uid, f"uid{route.operation}{path}", account.uid, now_ms, route.weight)
        if verdict.allowed and route.budget is not None:
            verdict = self._limiter.take(route.budget, f"place{path}", account.uid, now_ms)
        return None if verdict.allowed else _too_many(retry_after_s(verdict, now_ms))

    def _instrument(self, symbol: str) -> SimInstrument:
        instrument = self._venue.instruments.get(symbol)
        if instrument is None:
            raise MexcError(-1121, "Invalid symbol.")
        return instrument

    # --- public ---

    async def _ping(self, call: Call) -> Any:
        return {}

    async def _time(self, call: Call) -> Any:
        return {"serverTime": call.now_ms}

    async def _default_symbols(self, call: Call) -> Any:
        return {"code": 200, "data": list(self._venue.instruments), "msg": None}

    async def _no_contracts(self, call: Call) -> Any:
        """The perpetual market of this exchange is not simulated; clients that load all markets see none."""
        return {"success": True, "code": 0, "data": []}

    async def _exchange_info(self, call: Call) -> Any:
        wanted = call.params.get("symbols") or call.params.get("symbol")
        symbols = wanted.split(",") if wanted else list(self._venue.instruments)
        rows = [words.symbol_row(self._instrument(symbol)) for symbol in symbols]
        return {
            "timezone": "CST",
            "serverTime": call.now_ms,
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": rows,
        }

    async def _depth(self, call: Call) -> Any:
        instrument = self._instrument(call.need("symbol"))
        limit = min(call.whole("limit", _DEPTH_DEFAULT) or _DEPTH_DEFAULT, _DEPTH_MAX)
        update_id, bids, asks = self._venue.depth(instrument.symbol, limit)
        return {
            "lastUpdateId": update_id,
            "bids": [[instrument.price_text(p), instrument.qty_text(q)] for p, q in bids],
            "asks": [[instrument.price_text(p), instrument.qty_text(q)] for p, q in asks],
            "timestamp": call.now_ms,
        }

    def _recent(self, call: Call) -> tuple[SimInstrument, list[TradePrint]]:
        instrument = self._instrument(call.need("symbol"))
        limit = min(call.whole("limit", 500), TRADES_KEPT)
        prints = list(self._prints.get(instrument.symbol, ()))[-limit:]
        return instrument, prints[::-1]

    async def _trades(self, call: Call) -> Any:
        instrument, prints = self._recent(call)
        rows = []
        for one in prints:
            price, qty = instrument.price(one.price), instrument.qty(one.qty)
            buyer_maker = one.side is OrderSide.SELL
            rows.append(
                {
                    "id": None,
                    "price": instrument.price_text(one.price),
                    "qty": words.plain(qty),
                    "quoteQty": words.plain(price * qty),
                    "time": one.ts_ms,
                    "isBuyerMaker": buyer_maker,
                    "isBestMatch": True,
                    "tradeType": "ASK" if buyer_maker else "BID",
                }
            )
        return rows

    async def _agg_trades(self, call: Call) -> Any:
        instrument, prints = self._recent(call)
        return [
            {
                "a": None,
                "f": None,
                "l": None,
                "p": instrument.price_text(one.price),
                "q": words.plain(instrument.qty(one.qty)),
                "T": one.ts_ms,
                "m": one.side is OrderSide.SELL,
                "M": True,
            }
            for one in prints
        ]

    def _quotes(self, symbol: str) -> dict[str, Any]:
        instrument = self._instrument(symbol)
        _, bids, asks = self._venue.depth(symbol, 1)
        return {
            "symbol": symbol,
            "bidPrice": instrument.price_text(bids[0][0]) if bids else "",
            "bidQty": instrument.qty_text(bids[0][1]) if bids else "",
            "askPrice": instrument.price_text(asks[0][0]) if asks else "",
            "askQty": instrument.qty_text(asks[0][1]) if asks else "",
        }

    async def _book_ticker(self, call: Call) -> Any:
        symbol = call.params.get("symbol")
        return self._quotes(symbol) if symbol else [self._quotes(name) for name in self._venue.instruments]

    def _last_price(self, symbol: str) -> str:
        instrument = self._instrument(symbol)
        prints = self._prints.get(symbol)
        return instrument.price_text(prints[-1].price) if prints else words.plain(instrument.reference_price())

    async def _price(self, call: Call) -> Any:
        symbol = call.params.get("symbol")
        if symbol:
            return {"symbol": symbol, "price": self._last_price(symbol)}
        return [{"symbol": name, "price": self._last_price(name)} for name in self._venue.instruments]

    def _day(self, symbol: str, now_ms: int) -> dict[str, Any]:
        """Statistics over the kept prints: the simulated day starts with the process."""
        instrument = self._instrument(symbol)
        prints = self._prints.get(symbol) or ()
        prices = [one.price for one in prints]
        last = self._last_price(symbol)
        first = instrument.price_text(prices[0]) if prices else last
        change = Decimal(last) - Decimal(first)
        base = sum((instrument.qty(one.qty) for one in prints), Decimal(0))
        quote = sum((instrument.qty(one.qty) * instrument.price(one.price) for one in prints), Decimal(0))
        return self._quotes(symbol) | {
            "priceChange": words.plain(change),
            "priceChangePercent": words.plain(round(change / Decimal(first), 6)) if Decimal(first) else "0",
            "prevClosePrice": first,
            "lastPrice": last,
            "openPrice": first,
            "highPrice": instrument.price_text(max(prices)) if prices else last,
            "lowPrice": instrument.price_text(min(prices)) if prices else last,
            "volume": words.plain(base),
            "quoteVolume": words.plain(quote),
            "openTime": now_ms - DAY_MS,
            "closeTime": now_ms,
            "count": None,
        }

    async def _ticker_24h(self, call: Call) -> Any:
        symbol = call.params.get("symbol")
        if symbol:
            return self._day(symbol, call.now_ms)
        return [self._day(name, call.now_ms) for name in self._venue.instruments]

    # --- orders ---

    def _order_request(self, params: dict[str, str], call: Call) -> SimOrderRequest:
        item = Call(params, call.account, call.now_ms, call.deadline_ms)
        side = words.SIDES.get(item.need("side"))
        kind_tif = words.ORDER_TYPES.get(item.need("type"))
        if side is None or kind_tif is None:
            raise MexcError(700004, "Parameter error: side or type")
        kind, tif = kind_tif
        quantity, quote = item.amount("quantity"), item.amount("quoteOrderQty")
        price = Decimal(0)
        if kind is OrderKind.LIMIT:
            item.need("quantity")
            item.need("price")
            price, quote = item.amount("price") or Decimal(0), None
        elif quantity is None and quote is None:
            raise MexcError(700004, "Mandatory parameter 'quantity' was not sent, was empty/null, or malformed.")
        elif quantity is not None:
            quote = None
        for value in (quantity, quote):
            if value is not None and value <= 0:
                raise MexcError(10102, "Amount cannot be zero or negative")
        if kind is OrderKind.LIMIT and price <= 0:
            raise MexcError(30010, "no valid trade price")
        return SimOrderRequest(
            symbol=item.need("symbol"),
            side=side,
            kind=kind,
            tif=tif,
            qty=quantity,
            quote_qty=quote,
            price=price,
            client_id=params.get("newClientOrderId", ""),
            expiry_wall_ms=call.deadline_ms,
        )

    async def _submit(self, params: dict[str, str], call: Call) -> SimOrder:
        order = self._order_request(params, call)
        try:
            return await self._venue.submit(call.owner, order)
        except SimReject as reject:
            instrument = self._venue.instruments.get(order.symbol)
            raise words.refusal(reject, instrument, order.side) from reject

    async def _place(self, call: Call) -> Any:
        return words.placed_row(await self._submit(call.params, call))

    async def _place_test(self, call: Call) -> Any:
        self._instrument(self._order_request(call.params, call).symbol)
        return {}

    async def _batch(self, call: Call) -> Any:
        try:
            items = msgspec.json.decode(call.need("batchOrders"), type=list[dict[str, str | int | float | None]])
        except msgspec.DecodeError as error:
            raise MexcError(700004, "Mandatory parameter 'batchOrders' was malformed.") from error
        symbols = {item.get("symbol") for item in items}
        if not items or len(items) > _BATCH_MAX or len(symbols) != 1:
            raise MexcError(700004, "batchOrders: at most 20 orders of one symbol")
        rows: list[dict[str, Any]] = []
        for item in items:
            params = {name: str(value) for name, value in item.items() if value is not None}
            try:
                rows.append(words.placed_row(await self._submit(params, call)))
            except MexcError as error:
                client_id = params.get("newClientOrderId", "")
                rows.append({"newClientOrderId": client_id, "msg": error.text, "code": error.code})
        return rows

    def _ids(self, call: Call) -> tuple[str, int | None, str | None]:
        """(symbol, order id, client id); the order id wins where both are given."""
        symbol = call.need("symbol")
        self._instrument(symbol)
        order_id, client_id = call.params.get("orderId", ""), call.params.get("origClientOrderId", "")
        if order_id:
            return symbol, words.parse_order_id(order_id), None
        if client_id:
            return symbol, None, client_id
        raise MexcError(700004, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")

    async def _cancel(self, call: Call) -> Any:
        symbol, order_id, client_id = self._ids(call)
        try:
            order = await self._venue.submit_cancel(call.owner, symbol, order_id=order_id, client_id=client_id)
        except SimReject as reject:
            raise words.refusal(reject, self._venue.instruments[symbol], None) from reject
        return words.cancel_row(order, client_id or order.client_id)

    async def _cancel_all(self, call: Call) -> Any:
        symbols = call.need("symbol").split(",")
        if len(symbols) > _CANCEL_SYMBOLS_MAX:
            raise MexcError(700004, "symbol: at most 5 symbols")
        rows = []
        for symbol in symbols:
            self._instrument(symbol)
            rows += [
                words.cancel_row(order, order.client_id)
                for order in await self._venue.submit_cancel_all(call.owner, symbol)
            ]
        return rows

    async def _query(self, call: Call) -> Any:
        symbol, order_id, client_id = self._ids(call)
        order = self._venue.order(call.owner, symbol, order_id=order_id, client_id=client_id)
        if order is None:
            raise MexcError(-2013, "Order does not exist.")
        return words.order_row(order)

    async def _open_orders(self, call: Call) -> Any:
        rows = []
        for symbol in call.need("symbol").split(","):
            self._instrument(symbol)
            rows += [words.order_row(order) for order in self._venue.open_orders(call.owner, symbol)]
        return rows

    def _span(self, call: Call, default_ms: int, longest_ms: int) -> tuple[int, int]:
        end_ms = call.whole("endTime", call.now_ms)
        start_ms = call.whole("startTime", end_ms - default_ms)
        return max(start_ms, call.now_ms - longest_ms), end_ms

    async def _all_orders(self, call: Call) -> Any:
        """Open and finished, newest first; 24 h unless told, 7 days at most."""
        symbol = self._instrument(call.need("symbol")).symbol
        start_ms, end_ms = self._span(call, DAY_MS, 7 * DAY_MS)
        limit = min(call.whole("limit", 500), 1000)
        orders = [*self._venue.finished_orders(call.owner, symbol, 0), *self._venue.open_orders(call.owner, symbol)]
        chosen = [order for order in orders if start_ms <= order.created_ms <= end_ms]
        chosen.sort(key=lambda order: order.order_id, reverse=True)
        return [words.order_row(order) for order in chosen[:limit]]

    async def _my_trades(self, call: Call) -> Any:
        """Newest first; one month, at most 100."""
        symbol = self._instrument(call.need("symbol")).symbol
        start_ms, end_ms = self._span(call, 30 * DAY_MS, 30 * DAY_MS)
        limit = min(call.whole("limit", 100), 100)
        trades = [t for t in self._venue.trades(call.owner, symbol, start_ms) if start_ms <= t.ts_ms <= end_ms]
        if "orderId" in call.params:
            wanted = words.parse_order_id(call.params["orderId"])
            trades = [t for t in trades if t.order_id == wanted]
        trades.sort(key=lambda trade: trade.trade_id, reverse=True)
        return [words.trade_row(trade) for trade in trades[:limit]]

    # --- account ---

    async def _account(self, call: Call) -> Any:
        balances = [
            {"asset": asset, "free": words.plain(free), "locked": words.plain(locked)}
            for asset, (free, locked) in call.owner.balances.items()
            if free or locked
        ]
        return {
            "makerCommission": None,
            "takerCommission": None,
            "buyerCommission": None,
            "sellerCommission": None,
            "canTrade": True,
            "canWithdraw": True,
            "canDeposit": True,
            "updateTime": None,
            "accountType": "SPOT",
            "balances": balances,
            "permissions": ["SPOT"],
        }

    async def _trade_fee(self, call: Call) -> Any:
        """Numbers, not strings, in this one reply."""
        instrument = self._instrument(call.need("symbol"))
        maker, taker = instrument.maker_fee_ppm / 1_000_000, instrument.taker_fee_ppm / 1_000_000
        data = {"makerCommission": maker, "takerCommission": taker}
        return {"data": data, "code": 0, "msg": "success", "timestamp": call.now_ms}

    async def _coins(self, call: Call) -> Any:
        return words.coin_rows(coins(self._venue))

    # --- listen keys ---

    async def _key_new(self, call: Call) -> Any:
        return {"listenKey": self._keys.create(call.owner, call.now_ms)}

    async def _key_extend(self, call: Call) -> Any:
        key = call.need("listenKey")
        self._keys.extend(call.owner, key, call.now_ms)
        return {"listenKey": key}

    async def _key_close(self, call: Call) -> Any:
        key = call.need("listenKey")
        self._keys.close(call.owner, key)
        return {"listenKey": key}

    async def _key_list(self, call: Call) -> Any:
        return {"listenKey": self._keys.of(call.owner, call.now_ms)}


def _reply(payload: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(payload), status=status, headers=headers, content_type="application/json"
    )


def _too_many(wait_s: int) -> web.Response:
    return _reply({"code": 429, "msg": "Too Many Requests"}, 429, {"Retry-After": str(wait_s)})
