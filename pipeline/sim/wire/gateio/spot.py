"""Gate.io spot REST v4 over a simulated venue; the WebSocket API calls the same handlers.

Source: Gate.io APIv4 "Spot", "Wallet"; what ccxt 4.5 and gate-api ask for beyond them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.orders import OrderStatus, RejectReason, SimOrder, SimOrderRequest, SimReject
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.coins import coins
from pipeline.sim.wire.gateio import candles
from pipeline.sim.wire.gateio import spot_rows as rows
from pipeline.sim.wire.gateio.account_modes import AccountModesApi
from pipeline.sim.wire.gateio.api import DAY_S, MarketApi, Route, empty_list, page, span_ms, text_is_known, want_items
from pipeline.sim.wire.gateio.formats import (
    TIF_OF,
    ApiRequest,
    GateError,
    client_text,
    refusal,
    split_id,
    with_params,
)
from pipeline.sim.wire.gateio.wallet import WalletApi

BATCH_PAIRS_MAX, BATCH_PER_PAIR_MAX, CANCEL_BATCH_MAX, AMEND_BATCH_MAX = 4, 10, 20, 5
DEPTH_MAX = 1000
BATCH_FEE_MAX = 50
# One document line grants custom ids about an hour after the end, another only pending orders: the harsher holds.
TEXT_LIFE_MS = 0
_SIDES = {"buy": OrderSide.BUY, "sell": OrderSide.SELL}
_SUCCEEDED = {"succeeded": True, "label": "", "message": ""}  # fields of an item of a batch


class SpotApi(MarketApi):
    """Handlers of one simulated Gate.io spot venue. ``futures``: the same user's futures venue, for /wallet/fee."""

    is_futures = False
    symbol_param = "currency_pair"
    order_param = "order_id"
    sides = _SIDES

    def __init__(self, venue: SimVenue, futures: SimVenue | None) -> None:
        super().__init__(venue)
        self._futures = futures
        self._wallet = WalletApi(venue, futures)
        self._modes = AccountModesApi(venue, futures)

    def routes(self) -> dict[tuple[str, str], Route]:
        spot = "/api/v4/spot"
        own: dict[tuple[str, str], Route] = {
            ("GET", f"{spot}/time"): Route(self._time, "time", False),
            ("GET", f"{spot}/currency_pairs"): Route(self._pairs, "instruments", False),
            ("GET", f"{spot}/currency_pairs/{{}}"): Route(self._pair, "instruments", False),
            ("GET", f"{spot}/currencies"): Route(self._currencies, "currencies", False),
            ("GET", f"{spot}/currencies/{{}}"): Route(self._currency, "currencies", False),
            ("GET", f"{spot}/order_book"): Route(self._order_book, "depth", False),
            ("GET", f"{spot}/trades"): Route(self._trades, "public_trades", False),
            ("GET", f"{spot}/candlesticks"): Route(self._candles, "candles", False),
            ("GET", f"{spot}/tickers"): Route(self.tickers, "ticker", False),
            ("GET", "/api/v4/margin/currency_pairs"): Route(empty_list, "instruments", False),
            ("GET", "/api/v4/margin/uni/currency_pairs"): Route(empty_list, "instruments", False),
            ("GET", "/api/v4/wallet/fee"): Route(self._fee, "fees"),
            ("GET", f"{spot}/fee"): Route(self._fee, "fees"),
            ("GET", f"{spot}/batch_fee"): Route(self._batch_fee, "fees"),
            ("GET", f"{spot}/accounts"): Route(self._accounts, "balances"),
            ("POST", f"{spot}/orders"): Route(self.place, "place", True, 201),
            ("GET", f"{spot}/orders"): Route(self.orders, "finished_orders"),
            ("DELETE", f"{spot}/orders"): Route(self.cancel_pair, "cancel_all"),
            ("GET", f"{spot}/orders/{{}}"): Route(self.order, "order"),
            ("DELETE", f"{spot}/orders/{{}}"): Route(self.cancel, "cancel"),
            ("PATCH", f"{spot}/orders/{{}}"): Route(self.amend, "amend"),
            ("POST", f"{spot}/amend_batch_orders"): Route(self.amend_batch, "amend"),
            ("POST", f"{spot}/batch_orders"): Route(self.place_batch, "place"),
            ("POST", f"{spot}/cancel_batch_orders"): Route(self.cancel_ids, "cancel"),
            ("GET", f"{spot}/open_orders"): Route(self._open_orders, "open_orders"),
            ("GET", f"{spot}/my_trades"): Route(self._my_trades, "trades"),
            ("POST", f"{spot}/countdown_cancel_all"): Route(self.set_countdown, "countdown"),
        }
        return own | self._wallet.routes() | self._modes.routes()

    def instrument(self, symbol: str) -> SimInstrument:
        found = self.venue.instruments.get(symbol)
        if found is None:
            raise GateError("INVALID_CURRENCY_PAIR", f"Invalid currency pair {symbol}")
        return found

    # --- public ---

    async def _time(self, call: ApiRequest) -> Any:
        return {"server_time": call.now_ms}

    async def _pairs(self, call: ApiRequest) -> Any:
        return [rows.pair_row(one) for one in self.venue.instruments.values()]

    async def _pair(self, call: ApiRequest) -> Any:
        return rows.pair_row(self.instrument(call.args[0]))

    async def _currencies(self, call: ApiRequest) -> Any:
        return rows.currency_rows(coins(self.venue))

    async def _currency(self, call: ApiRequest) -> Any:
        for coin in coins(self.venue):
            if coin.asset == call.args[0]:
                return rows.currency_rows([coin])[0]
        raise GateError("INVALID_CURRENCY", f"Invalid currency {call.args[0]}")

    async def _order_book(self, call: ApiRequest) -> Any:
        instrument, book, bids, asks = self.asked_depth(call, DEPTH_MAX)
        return book | {
            "current": call.now_ms,
            "update": call.now_ms,
            "asks": [[instrument.price_text(price), instrument.qty_text(units)] for price, units in asks],
            "bids": [[instrument.price_text(price), instrument.qty_text(units)] for price, units in bids],
        }

    async def _trades(self, call: ApiRequest) -> Any:
        instrument, newest = self.asked_trades(call)
        return [rows.public_trade_row(instrument, one) for one in newest]

    def ticker(self, instrument: SimInstrument, decimal_sizes: bool) -> dict[str, Any]:
        bid, ask = self.best_texts(instrument)
        return rows.ticker_row(instrument, bid, ask, self.trades.of(instrument.symbol))

    async def _candles(self, call: ApiRequest) -> Any:
        return candles.spot_rows(call, self.venue.candles[self.instrument(call.required("currency_pair")).symbol])

    # --- account ---

    async def _fee(self, call: ApiRequest) -> Any:
        symbol = call.text("currency_pair")
        spot = self.instrument(symbol) if symbol else next(iter(self.venue.instruments.values()), None)
        futures = None
        if self._futures is not None:
            listed = self._futures.instruments
            futures = listed.get(symbol) or next(iter(listed.values()), None)
        return rows.fee_row(call.owner, spot, futures)

    async def _batch_fee(self, call: ApiRequest) -> Any:
        """Up to 50 pairs, comma-separated."""
        wanted = call.required("currency_pairs").split(",")
        if len(wanted) > BATCH_FEE_MAX:
            raise GateError("INVALID_PARAM_VALUE", f"at most {BATCH_FEE_MAX} currency pairs")
        return {symbol: rows.fee_row(call.owner, self.instrument(symbol), None) for symbol in wanted}

    async def _accounts(self, call: ApiRequest) -> Any:
        wanted = call.text("currency")
        return [
            rows.balance_row(asset, wallet.free, wallet.locked, wallet.update_seq)
            for asset, wallet in self.venue.wallets(call.owner).items()
            if not wanted or asset == wanted
        ]

    async def _my_trades(self, call: ApiRequest) -> Any:
        """Newest first; of 7 days unless the request names a time span."""
        start_ms, end_ms = span_ms(call, default_s=7 * DAY_S)
        return [rows.trade_row(one) for one in page(self.own_trades(call, start_ms, end_ms), call)]

    # --- orders ---

    def order_request(self, call: ApiRequest) -> SimOrderRequest:
        symbol, side = call.required("currency_pair"), _SIDES.get(call.required("side"))
        kind = {"limit": OrderKind.LIMIT, "market": OrderKind.MARKET}.get(call.text("type", "limit"))
        is_market = kind is OrderKind.MARKET
        tif = TIF_OF.get(call.text("time_in_force", "ioc" if is_market else "gtc"))
        if side is None or kind is None or tif is None:
            raise GateError("INVALID_PARAM_VALUE", "Invalid request parameter `side`, `type` or `time_in_force`")
        if is_market and tif not in (TimeInForce.IOC, TimeInForce.FOK):
            raise GateError("INVALID_PARAM_VALUE", "Invalid request parameter `time_in_force`: market takes ioc or fok")
        if call.text("account", "spot") != "spot":
            raise GateError("INVALID_PARAM_VALUE", "Invalid request parameter `account` value")
        self.instrument(symbol)
        amount = call.decimal("amount")
        price = Decimal(0) if is_market else call.decimal("price")
        if amount <= 0 or (not is_market and price <= 0):
            raise GateError("INVALID_PARAM_VALUE", "Invalid request parameter `amount` or `price` value")
        by_quote = is_market and side is OrderSide.BUY
        return SimOrderRequest(
            symbol=symbol,
            side=side,
            kind=kind,
            tif=tif,
            qty=None if by_quote else amount,
            quote_qty=amount if by_quote else None,
            price=price,
            client_id=client_text(call),
            expiry_wall_ms=call.expiry_ms,
        )

    async def place_batch(self, call: ApiRequest) -> list[dict[str, Any]]:
        """Each item succeeds or fails by itself; ``text`` is required here."""
        pairs = [item.get("currency_pair") for item in call.items if isinstance(item, dict)]
        most = max((pairs.count(pair) for pair in pairs), default=0)
        if not pairs or len(set(pairs)) > BATCH_PAIRS_MAX or most > BATCH_PER_PAIR_MAX:
            raise GateError("INVALID_PARAM_VALUE", "batch: at most 4 currency pairs with 10 orders each")
        done: list[dict[str, Any]] = []
        for item in call.items:
            single = with_params(call, item)
            text = single.text("text")
            try:
                single.required("text")
                done.append(await self.place(single) | _SUCCEEDED)
            except GateError as error:
                done.append({"text": text, "succeeded": False, "label": error.label, "message": error.text})
        return done

    def _look_up(self, call: ApiRequest, symbol: str, id_text: str) -> SimOrder:
        self.instrument(symbol)
        order_id, text = split_id(id_text)
        order = self.venue.order(call.owner, symbol, order_id=order_id, client_id=text)
        if order is None or (text is not None and not text_is_known(order, call.now_ms, TEXT_LIFE_MS)):
            label = "ORDER_NOT_FOUND" if text is None else "CLIENT_ID_NOT_FOUND"
            raise GateError(label, f"Order with ID {id_text} not found", 404)
        return order

    def order_row(self, order: SimOrder, call: ApiRequest) -> dict[str, Any]:
        return rows.order_row(order)

    def known_order(self, call: ApiRequest) -> SimOrder:
        return self._look_up(call, call.required("currency_pair"), self.order_id(call))

    async def cancel_order(self, call: ApiRequest) -> SimOrder:
        return await self._cancel_one(call, call.required("currency_pair"), self.order_id(call))

    async def _cancel_one(self, call: ApiRequest, symbol: str, id_text: str) -> SimOrder:
        self.instrument(symbol)
        order_id, text = split_id(id_text)
        try:
            return await self.venue.submit_cancel(call.owner, symbol, order_id=order_id, client_id=text)
        except SimReject as reject:
            raise self._not_open(call, symbol, id_text, reject) from reject

    def _not_open(self, call: ApiRequest, symbol: str, id_text: str, reject: SimReject) -> GateError:
        """Why an order could not be cancelled or amended, as the venue says it."""
        if reject.reason not in (RejectReason.ORDER_NOT_FOUND, RejectReason.ORDER_FINISHED):
            return refusal(reject, self.venue.instruments.get(symbol), futures=False)
        try:
            order = self._look_up(call, symbol, id_text)
        except GateError as missing:
            return missing
        if order.status is OrderStatus.FILLED:
            return GateError("ORDER_CLOSED", "Order closed")
        return GateError("ORDER_CANCELLED", "Order cancelled")

    async def amend(self, call: ApiRequest) -> dict[str, Any]:
        """``amount`` includes what is filled. Body before query: the body's fields have overwritten the query's."""
        symbol, id_text = call.required("currency_pair"), self.order_id(call)
        self.instrument(symbol)
        self.want_amendment(call, "amount")
        order_id, text = split_id(id_text)
        qty = call.decimal("amount") if call.text("amount") else None
        try:
            order = await self.submit_amend(call, symbol, qty, order_id=order_id, client_id=text)
        except SimReject as reject:
            raise self._not_open(call, symbol, id_text, reject) from reject
        return rows.order_row(order)

    async def amend_batch(self, call: ApiRequest) -> list[dict[str, Any]]:
        """Up to five orders by ``order_id`` and pair, each of which succeeds or fails by itself."""
        want_items(call, AMEND_BATCH_MAX)
        done: list[dict[str, Any]] = []
        for item in call.items:
            single = with_params(call, item)
            try:
                done.append(await self.amend(single) | _SUCCEEDED)
            except GateError as error:
                row = {"id": single.text("order_id"), "currency_pair": single.text("currency_pair")}
                done.append(row | {"succeeded": False, "label": error.label, "message": error.text})
        return done

    async def cancel_pair(self, call: ApiRequest) -> list[dict[str, Any]]:
        """Cancels all open orders of a pair and ``side``; without either, those of all pairs and of both sides."""
        symbol = call.text("currency_pair")
        if symbol:
            self.instrument(symbol)
        orders = await self.venue.submit_cancel_all(call.owner, symbol or None, self.side_of(call))
        return [rows.order_row(one) | _SUCCEEDED for one in orders]

    async def cancel_ids(self, call: ApiRequest) -> list[dict[str, Any]]:
        """Up to twenty orders as (pair, id), each of which succeeds or fails by itself; an empty list is allowed."""
        want_items(call, CANCEL_BATCH_MAX, least=0)
        done: list[dict[str, Any]] = []
        for item in call.items:
            single = with_params(call, item)
            symbol, id_text = single.required("currency_pair"), single.required("id")
            row: dict[str, Any] = {"currency_pair": symbol, "id": id_text, "account": "spot"}
            try:
                order = await self._cancel_one(call, symbol, id_text)
                row |= {"text": order.client_id, "succeeded": True, "label": None, "message": None}
            except GateError as error:
                row |= {"succeeded": False, "label": error.label, "message": error.text}
            done.append(row)
        return done

    async def orders(self, call: ApiRequest) -> list[dict[str, Any]]:
        """``status=open`` needs a pair; ``finished`` goes newest first."""
        status, symbol = call.required("status"), call.text("currency_pair")
        if symbol:
            self.instrument(symbol)
        if status == "open":
            call.required("currency_pair")
            return [rows.order_row(one) for one in page(self.venue.open_orders(call.owner, symbol), call, most=100)]
        if status != "finished":
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `status` value: {status}")
        side = self.sides.get(call.text("side"))
        found = [one for one in self.finished(call, *span_ms(call, default_s=7 * DAY_S)) if side in (None, one.side)]
        return [rows.order_row(one) for one in page(found, call)]

    async def _open_orders(self, call: ApiRequest) -> Any:
        by_pair: dict[str, list[dict[str, Any]]] = {}
        for order in self.venue.open_orders(call.owner, None):
            by_pair.setdefault(order.symbol, []).append(rows.order_row(order))
        return [
            {"currency_pair": symbol, "total": len(orders), "orders": page(orders, call, most=100)}
            for symbol, orders in by_pair.items()
        ]
