"""Gate.io USDT futures REST v4 over a simulated venue; the WebSocket API calls the same handlers.

One-way or dual mode. Market orders are price "0" with ioc or fok; sizes are signed contracts.
Source: Gate.io APIv4 "Futures"; what ccxt 4.5 and gate-api ask for beyond them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.orders import OrderStatus, SimOrder, SimOrderRequest, SimReject
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.gateio import futures_rows as rows
from pipeline.sim.wire.gateio.api import (
    DAY_S,
    FuturesContracts,
    MarketApi,
    Route,
    empty_list,
    page,
    span_ms,
    text_is_known,
    want_items,
)
from pipeline.sim.wire.gateio.formats import (
    TIF_OF,
    ApiRequest,
    GateError,
    client_text,
    number,
    refusal,
    split_id,
    with_params,
)
from pipeline.sim.wire.gateio.futures_info import FuturesInfoApi
from pipeline.sim.wire.gateio.positions import PositionsApi
from pipeline.sim.wire.numbers import rate_text

TEXT_LIFE_MS = 60_000
ZERO_FILL_LIFE_MS = 600_000  # "unfilled cancelled orders vanish after 10 minutes"
BATCH_MAX = 10
CANCEL_BATCH_MAX = 20
DEPTH_MAX = 300
_SIDES = {"bid": OrderSide.BUY, "ask": OrderSide.SELL}


class FuturesApi(FuturesContracts, MarketApi):
    """Handlers of one simulated Gate.io USDT perpetual venue."""

    is_futures = True
    symbol_param = "contract"
    order_param = "order"
    sides = _SIDES

    def __init__(self, venue: SimVenue) -> None:
        MarketApi.__init__(self, venue)
        self.positions = PositionsApi(venue)
        self._info = FuturesInfoApi(venue)

    def routes(self) -> dict[tuple[str, str], Route]:
        usdt = "/api/v4/futures/usdt"
        own: dict[tuple[str, str], Route] = {
            ("GET", f"{usdt}/contracts"): Route(self._contracts, "instruments", False),
            ("GET", f"{usdt}/contracts_all"): Route(self._contracts, "instruments", False),
            ("GET", f"{usdt}/contracts/{{}}"): Route(self._contract, "instruments", False),
            ("GET", f"{usdt}/order_book"): Route(self._order_book, "depth", False),
            ("GET", f"{usdt}/trades"): Route(self._trades, "public_trades", False),
            ("GET", f"{usdt}/tickers"): Route(self.tickers, "ticker", False),
            ("GET", "/api/v4/futures/btc/contracts"): Route(empty_list, "instruments", False),
            ("GET", "/api/v4/delivery/usdt/contracts"): Route(empty_list, "instruments", False),
            ("GET", "/api/v4/delivery/btc/contracts"): Route(empty_list, "instruments", False),
            ("GET", "/api/v4/options/underlyings"): Route(empty_list, "instruments", False),
            ("GET", f"{usdt}/fee"): Route(self._fee, "fees"),
            ("POST", f"{usdt}/orders"): Route(self.place, "place", True, 201),
            ("GET", f"{usdt}/orders"): Route(self.orders, "finished_orders"),
            ("GET", f"{usdt}/orders_timerange"): Route(self._orders_timerange, "finished_orders"),
            ("DELETE", f"{usdt}/orders"): Route(self.cancel_pair, "cancel_all"),
            ("GET", f"{usdt}/orders/{{}}"): Route(self.order, "order"),
            ("DELETE", f"{usdt}/orders/{{}}"): Route(self.cancel, "cancel"),
            ("PUT", f"{usdt}/orders/{{}}"): Route(self.amend, "amend"),
            ("POST", f"{usdt}/batch_amend_orders"): Route(self.amend_batch, "amend"),
            ("POST", f"{usdt}/batch_orders"): Route(self.place_batch, "place"),
            ("POST", f"{usdt}/batch_cancel_orders"): Route(self.cancel_ids, "cancel"),
            ("GET", f"{usdt}/my_trades"): Route(self._my_trades, "trades"),
            ("GET", f"{usdt}/my_trades_timerange"): Route(self._my_trades_timerange, "trades"),
            ("POST", f"{usdt}/countdown_cancel_all"): Route(self.set_countdown, "countdown"),
        }
        return own | self.positions.routes() | self._info.routes()

    def order_row(self, order: SimOrder, call: ApiRequest) -> dict[str, Any]:
        return rows.order_row(order, self.venue.instruments[order.symbol], call.owner, call.decimal_sizes)

    # --- public ---

    def _contract_row(self, instrument: SimInstrument, call: ApiRequest) -> dict[str, Any]:
        update_id, _, _ = self.venue.depth(instrument.symbol, 1)
        newest = self.trades.newest(instrument.symbol, 1)
        return rows.contract_row(
            instrument,
            decimal_sizes=call.decimal_sizes,
            orderbook_id=update_id,
            last=instrument.price_text(newest[0].price if newest else _nearest_tick(instrument)),
            trade_id=newest[0].trade_id if newest else 0,
        )

    async def _contracts(self, call: ApiRequest) -> Any:
        return page([self._contract_row(one, call) for one in self.venue.instruments.values()], call, default=1000)

    async def _contract(self, call: ApiRequest) -> Any:
        return self._contract_row(self.instrument(call.args[0]), call)

    async def _order_book(self, call: ApiRequest) -> Any:
        instrument, book, bids, asks = self.asked_depth(call, DEPTH_MAX)
        decimal_sizes = call.decimal_sizes

        def level(price: int, units: int) -> dict[str, Any]:
            return {"s": rows.units_size(instrument, units, decimal_sizes), "p": instrument.price_text(price)}

        return book | {
            "current": call.now_ms / 1000,
            "update": call.now_ms / 1000,
            "asks": [level(*one) for one in asks],
            "bids": [level(*one) for one in bids],
        }

    async def _trades(self, call: ApiRequest) -> Any:
        instrument, newest = self.asked_trades(call)
        return [rows.public_trade_row(instrument, one, call.decimal_sizes) for one in newest]

    def ticker(self, instrument: SimInstrument, decimal_sizes: bool) -> dict[str, Any]:
        bid, ask = self.best_texts(instrument)
        return rows.ticker_row(instrument, bid, ask, self.trades.of(instrument.symbol), decimal_sizes)

    # --- account ---

    async def _fee(self, call: ApiRequest) -> Any:
        return {
            one.symbol: {"taker_fee": rate_text(one.taker_fee_ppm), "maker_fee": rate_text(one.maker_fee_ppm)}
            for one in self.named_or_all(call)
        }

    async def _my_trades(self, call: ApiRequest) -> Any:
        return [
            rows.trade_row(one, self.venue.instruments[one.symbol], call.decimal_sizes)
            for one in page(self.own_trades(call, 0, call.now_ms), call)
        ]

    async def _my_trades_timerange(self, call: ApiRequest) -> Any:
        start_ms, end_ms = span_ms(call, default_s=7 * DAY_S)
        return [
            rows.timerange_trade_row(one, self.venue.instruments[one.symbol], call.decimal_sizes)
            for one in page(self.own_trades(call, start_ms, end_ms), call)
        ]

    # --- orders ---

    def order_request(self, call: ApiRequest) -> SimOrderRequest:
        instrument = self.instrument(call.required("contract"))
        close, size = call.flag("close"), call.decimal("size")
        price = number(call.text("price", "0"), "price")
        is_market = price == 0
        tif = TIF_OF.get(call.text("tif", "gtc"))
        if tif is None or price < 0:
            raise GateError("INVALID_PARAM_VALUE", "Invalid request parameter `tif` or `price`")
        if is_market and tif not in (TimeInForce.IOC, TimeInForce.FOK):
            raise GateError("INVALID_PARAM_VALUE", "Invalid request parameter `tif`: price 0 takes ioc or fok")
        auto, dual = call.text("auto_size"), call.owner.dual_side
        if auto or (close and dual):
            if not dual or size != 0 or auto not in ("close_long", "close_short"):
                raise GateError("INVALID_PARAM_VALUE", "auto_size closes a side in dual mode, with size 0")
            side, qty, close = (OrderSide.SELL if auto == "close_long" else OrderSide.BUY), None, True
        elif close:
            held = self.venue.position(call.owner, instrument.symbol).qty
            if size != 0:
                raise GateError("INVALID_PARAM_VALUE", "close needs size 0")
            if held == 0:
                raise GateError("POSITION_EMPTY", "position is empty")
            side, qty = (OrderSide.SELL if held > 0 else OrderSide.BUY), None
        else:
            if size == 0:
                raise GateError("SIZE_TOO_SMALL", "size must not be 0")
            side = OrderSide.BUY if size > 0 else OrderSide.SELL
            qty = abs(size) * instrument.multiplier
        return SimOrderRequest(
            symbol=instrument.symbol,
            side=side,
            kind=OrderKind.MARKET if is_market else OrderKind.LIMIT,
            tif=tif,
            qty=qty,
            price=price,
            client_id=client_text(call),
            reduce_only=call.flag("reduce_only"),
            close_position=close,
            expiry_wall_ms=call.expiry_ms,
        )

    async def place_batch(self, call: ApiRequest) -> list[dict[str, Any]]:
        """Up to ten orders, each of which succeeds or fails by itself; raises ``GateError`` for more or none."""
        want_items(call, BATCH_MAX)
        done: list[dict[str, Any]] = []
        for item in call.items:
            single = with_params(call, item)
            try:
                done.append({"succeeded": True} | await self.place(single))
            except GateError as error:
                done.append({"succeeded": False, "label": error.label, "detail": error.text})
        return done

    def _find(self, call: ApiRequest, id_text: str) -> SimOrder | None:
        """Ids carry no contract here: look through all of them."""
        order_id, text = split_id(id_text)
        wanted = call.text("contract")
        for symbol in [wanted] if wanted else self.venue.instruments:
            order = self.venue.order(call.owner, symbol, order_id=order_id, client_id=text)
            if order is not None:
                known = text is None or text_is_known(order, call.now_ms, TEXT_LIFE_MS)
                return order if known and not self._vanished(order, call.now_ms) else None
        return None

    def _vanished(self, order: SimOrder, now_ms: int) -> bool:
        ended = order.status is OrderStatus.CANCELED and not order.filled_qty
        return ended and now_ms - order.finished_ms > ZERO_FILL_LIFE_MS

    def _known(self, call: ApiRequest, id_text: str) -> SimOrder:
        order = self._find(call, id_text)
        if order is None:
            raise GateError("ORDER_NOT_FOUND", f"Order {id_text} not found", 404)
        return order

    def known_order(self, call: ApiRequest) -> SimOrder:
        return self._known(call, self.order_id(call))

    async def cancel_order(self, call: ApiRequest) -> SimOrder:
        return await self._cancel_one(call, self.order_id(call))

    async def _cancel_one(self, call: ApiRequest, id_text: str) -> SimOrder:
        order = self._known(call, id_text)
        try:
            return await self.venue.submit_cancel(call.owner, order.symbol, order_id=order.order_id)
        except SimReject as reject:
            raise refusal(reject, None, futures=True) from reject

    async def amend(self, call: ApiRequest) -> dict[str, Any]:
        """``size`` includes what is filled and keeps the order's sign."""
        order = self.known_order(call)
        instrument = self.venue.instruments[order.symbol]
        self.want_amendment(call, "size")
        qty: Decimal | None = None
        if call.text("size"):
            size = call.decimal("size")
            if size and (size > 0) is not (order.side is OrderSide.BUY):
                raise GateError("INVALID_PARAM_VALUE", "the side of an order cannot be changed")
            qty = abs(size) * instrument.multiplier
        try:
            amended = await self.submit_amend(call, order.symbol, qty, order_id=order.order_id)
        except SimReject as reject:
            raise refusal(reject, instrument, futures=True) from reject
        return self.order_row(amended, call)

    async def amend_batch(self, call: ApiRequest) -> list[dict[str, Any]]:
        """Orders by ``order_id`` or ``text``."""
        want_items(call, BATCH_MAX)
        done: list[dict[str, Any]] = []
        for item in call.items:
            try:
                single = with_params(call, item)
                if not single.text("order_id"):
                    single = with_params(call, item | {"order_id": single.required("text")})
                done.append({"succeeded": True} | await self.amend(single))
            except GateError as error:
                done.append({"succeeded": False, "label": error.label, "detail": error.text})
        return done

    async def cancel_pair(self, call: ApiRequest) -> list[dict[str, Any]]:
        """Cancels all open orders of ``contract``, or of its one ``side`` (bid, ask); raises ``GateError`` without a
        contract."""
        symbol = self.instrument(call.required("contract")).symbol
        orders = await self.venue.submit_cancel_all(call.owner, symbol, self.side_of(call))
        return [self.order_row(one, call) for one in orders]

    async def cancel_ids(self, call: ApiRequest) -> list[dict[str, Any]]:
        """Up to twenty bare order ids, each of which succeeds or fails by itself; an empty list is allowed."""
        want_items(call, CANCEL_BATCH_MAX, least=0)
        done: list[dict[str, Any]] = []
        for item in call.items:
            id_text = str(item)
            try:
                await self._cancel_one(call, id_text)
                done.append({"user_id": int(call.owner.uid), "id": id_text, "succeeded": True, "message": ""})
            except GateError as error:
                row = {"user_id": int(call.owner.uid), "id": id_text, "succeeded": False, "message": error.label}
                done.append(row)
        return done

    def finished(self, call: ApiRequest, start_ms: int, end_ms: int) -> list[SimOrder]:
        """Newest first, without what has vanished."""
        return [one for one in super().finished(call, start_ms, end_ms) if not self._vanished(one, call.now_ms)]

    async def orders(self, call: ApiRequest) -> list[dict[str, Any]]:
        """``status`` "open" or "finished" (newest first), of all contracts where none is named; raises ``GateError``
        for another."""
        status, symbol = call.required("status"), call.text("contract")
        if symbol:
            self.instrument(symbol)
        if status == "open":
            found = self.venue.open_orders(call.owner, symbol or None)
        elif status == "finished":
            found = self.finished(call, 0, call.now_ms)
        else:
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `status` value: {status}")
        return [self.order_row(one, call) for one in page(found, call, most=1000)]

    async def _orders_timerange(self, call: ApiRequest) -> Any:
        start_ms, end_ms = span_ms(call, default_s=7 * DAY_S)
        return [self.order_row(one, call) for one in page(self.finished(call, start_ms, end_ms), call)]


def _nearest_tick(instrument: SimInstrument) -> int:
    """Stands in for the last price before anything has traded."""
    return round(instrument.reference_price() / instrument.tick)
