"""Gate.io USDT futures REST v4 over a simulated venue; the WebSocket API calls the same handlers.

One-way or dual mode. Market orders are price "0" with ioc or fok; sizes are signed contracts.
Source: Gate.io APIv4 "Futures"; what ccxt 4.5 and gate-api ask for beyond the sheet.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.types import OrderStatus, SimInstrument, SimOrder, SimOrderRequest, SimReject
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.gateio import futures_rows as rows
from pipeline.sim.wire.gateio.api import Countdown, Prints, Route, page, span_ms, text_is_known
from pipeline.sim.wire.gateio.formats import (
    TIF_OF,
    ApiRequest,
    GateError,
    amend_text,
    client_text,
    number,
    refusal,
    split_id,
    with_params,
)
from pipeline.sim.wire.gateio.futures_info import FuturesInfoApi
from pipeline.sim.wire.gateio.positions import PositionsApi
from pipeline.sim.wire.numbers import exact_text

TEXT_LIFE_MS = 60_000
ZERO_FILL_LIFE_MS = 600_000  # "unfilled cancelled orders vanish after 10 minutes"
BATCH_MAX = 10
CANCEL_BATCH_MAX = 20
DEPTH_MAX = 300
DAY_S = 86_400
_SIDES = {"bid": OrderSide.BUY, "ask": OrderSide.SELL}


class FuturesApi:
    """Handlers of one simulated Gate.io USDT perpetual venue."""

    def __init__(self, venue: SimVenue) -> None:
        self.venue = venue
        self.prints = Prints()
        self.countdown = Countdown(venue)
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
            ("GET", f"{usdt}/tickers"): Route(self._tickers, "ticker", False),
            ("GET", "/api/v4/futures/btc/contracts"): Route(_nothing, "instruments", False),
            ("GET", "/api/v4/delivery/usdt/contracts"): Route(_nothing, "instruments", False),
            ("GET", "/api/v4/delivery/btc/contracts"): Route(_nothing, "instruments", False),
            ("GET", "/api/v4/options/underlyings"): Route(_nothing, "instruments", False),
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
            ("POST", f"{usdt}/countdown_cancel_all"): Route(self._countdown, "countdown"),
        }
        return own | self.positions.routes() | self._info.routes()

    def instrument(self, symbol: str) -> SimInstrument:
        found = self.venue.instruments.get(symbol)
        if found is None:
            raise GateError("CONTRACT_NOT_FOUND", f"Contract {symbol} not found")
        return found

    def _row(self, order: SimOrder, call: ApiRequest) -> dict[str, Any]:
        return rows.order_row(order, self.venue.instruments[order.symbol], call.owner, call.decimal_sizes)

    # --- public ---

    def _contract_row(self, instrument: SimInstrument, call: ApiRequest) -> dict[str, Any]:
        update_id, _, _ = self.venue.depth(instrument.symbol, 1)
        prints = self.prints.newest(instrument.symbol, 1)
        return rows.contract_row(
            instrument,
            decimal_sizes=call.decimal_sizes,
            orderbook_id=update_id,
            last=instrument.price_text(prints[0].price if prints else _nearest_tick(instrument)),
            trade_id=prints[0].trade_id if prints else 0,
        )

    async def _contracts(self, call: ApiRequest) -> Any:
        return page([self._contract_row(one, call) for one in self.venue.instruments.values()], call, default=1000)

    async def _contract(self, call: ApiRequest) -> Any:
        return self._contract_row(self.instrument(call.args[0]), call)

    async def _order_book(self, call: ApiRequest) -> Any:
        instrument = self.instrument(call.need("contract"))
        limit = max(1, min(call.whole("limit", 10), DEPTH_MAX))
        update_id, bids, asks = self.venue.depth(instrument.symbol, limit)
        book: dict[str, Any] = {"id": update_id} if call.flag("with_id") else {}
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
        instrument = self.instrument(call.need("contract"))
        newest = self.prints.newest(instrument.symbol, min(call.whole("limit", 100), 1000))
        return [rows.public_trade_row(instrument, one, call.decimal_sizes) for one in newest]

    def ticker(self, instrument: SimInstrument, decimal_sizes: bool) -> dict[str, Any]:
        _, bids, asks = self.venue.depth(instrument.symbol, 1)
        bid = instrument.price_text(bids[0][0]) if bids else ""
        ask = instrument.price_text(asks[0][0]) if asks else ""
        return rows.ticker_row(instrument, bid, ask, self.prints.of(instrument.symbol), decimal_sizes)

    async def _tickers(self, call: ApiRequest) -> Any:
        symbol = call.word("contract")
        wanted = [self.instrument(symbol)] if symbol else self.venue.instruments.values()
        return [self.ticker(one, call.decimal_sizes) for one in wanted]

    # --- account ---

    async def _fee(self, call: ApiRequest) -> Any:
        symbol = call.word("contract")
        wanted = [self.instrument(symbol)] if symbol else self.venue.instruments.values()
        return {
            one.symbol: {
                "taker_fee": exact_text(Decimal(one.taker_fee_ppm).scaleb(-6)),
                "maker_fee": exact_text(Decimal(one.maker_fee_ppm).scaleb(-6)),
            }
            for one in wanted
        }

    async def _my_trades(self, call: ApiRequest) -> Any:
        return [
            rows.trade_row(one, self.venue.instruments[one.symbol], call.decimal_sizes)
            for one in page(self._own_trades(call, 0, call.now_ms), call)
        ]

    async def _my_trades_timerange(self, call: ApiRequest) -> Any:
        start_ms, end_ms = span_ms(call, default_s=7 * DAY_S)
        return [
            rows.timerange_trade_row(one, self.venue.instruments[one.symbol], call.decimal_sizes)
            for one in page(self._own_trades(call, start_ms, end_ms), call)
        ]

    def _own_trades(self, call: ApiRequest, start_ms: int, end_ms: int) -> list[Any]:
        """Newest first."""
        symbol, wanted = call.word("contract"), call.word("order")
        found = self.venue.trades(call.owner, symbol or None, start_ms)
        return [one for one in found[::-1] if one.ts_ms <= end_ms and (not wanted or str(one.order_id) == wanted)]

    async def _countdown(self, call: ApiRequest) -> Any:
        symbol = call.word("contract")
        if symbol:
            self.instrument(symbol)
        call.need("timeout")
        return self.countdown.set(call.owner, symbol, call.whole("timeout", 0), call.now_ms)

    # --- orders ---

    def _request(self, call: ApiRequest) -> SimOrderRequest:
        instrument = self.instrument(call.need("contract"))
        close, size = call.flag("close"), call.amount("size")
        price = number(call.word("price", "0"), "price")
        is_market = price == 0
        tif = TIF_OF.get(call.word("tif", "gtc"))
        if tif is None or price < 0:
            raise GateError("INVALID_PARAM_VALUE", "Invalid request parameter `tif` or `price`")
        if is_market and tif not in (TimeInForce.IOC, TimeInForce.FOK):
            raise GateError("INVALID_PARAM_VALUE", "Invalid request parameter `tif`: price 0 takes ioc or fok")
        auto, dual = call.word("auto_size"), call.owner.dual_side
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

    async def place(self, call: ApiRequest) -> dict[str, Any]:
        request = self._request(call)
        try:
            order = await self.venue.submit(call.owner, request)
        except SimReject as reject:
            raise refusal(reject, self.venue.instruments.get(request.symbol), futures=True) from reject
        return self._row(order, call)

    async def place_batch(self, call: ApiRequest) -> list[dict[str, Any]]:
        if not call.items or len(call.items) > BATCH_MAX:
            raise GateError("INVALID_PARAM_VALUE", f"batch: 1 to {BATCH_MAX} orders")
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
        wanted = call.word("contract")
        for symbol in [wanted] if wanted else self.venue.instruments:
            order = self.venue.order(call.owner, symbol, order_id=order_id, client_id=text)
            if order is not None:
                known = text is None or text_is_known(order, call.now_ms, TEXT_LIFE_MS)
                return order if known and not self._vanished(order, call.now_ms) else None
        return None

    def _vanished(self, order: SimOrder, now_ms: int) -> bool:
        ended = order.status is OrderStatus.CANCELED and not order.filled_qty
        return ended and now_ms - order.finished_ms > ZERO_FILL_LIFE_MS

    def order_id(self, call: ApiRequest) -> str:
        return call.args[0] if call.args else call.need("order_id")

    def _known(self, call: ApiRequest, id_text: str) -> SimOrder:
        order = self._find(call, id_text)
        if order is None:
            raise GateError("ORDER_NOT_FOUND", f"Order {id_text} not found", 404)
        return order

    async def order(self, call: ApiRequest) -> dict[str, Any]:
        return self._row(self._known(call, self.order_id(call)), call)

    async def cancel(self, call: ApiRequest) -> dict[str, Any]:
        return self._row(await self._cancel_one(call, self.order_id(call)), call)

    async def _cancel_one(self, call: ApiRequest, id_text: str) -> SimOrder:
        order = self._known(call, id_text)
        try:
            return await self.venue.submit_cancel(call.owner, order.symbol, order_id=order.order_id)
        except SimReject as reject:
            raise refusal(reject, None, futures=True) from reject

    async def amend(self, call: ApiRequest) -> dict[str, Any]:
        """``size`` includes what is filled and keeps the order's sign."""
        order = self._known(call, self.order_id(call))
        instrument = self.venue.instruments[order.symbol]
        if not call.word("size") and not call.word("price"):
            raise GateError("MISSING_REQUIRED_PARAM", "Missing required parameter: size or price")
        qty: Decimal | None = None
        if call.word("size"):
            size = call.amount("size")
            if size and (size > 0) is not (order.side is OrderSide.BUY):
                raise GateError("INVALID_PARAM_VALUE", "the side of an order cannot be changed")
            qty = abs(size) * instrument.multiplier
        try:
            amended = await self.venue.submit_amend(
                call.owner,
                order.symbol,
                order_id=order.order_id,
                price=call.amount("price") if call.word("price") else None,
                qty=qty,
                amend_text=amend_text(call),
                expiry_wall_ms=call.expiry_ms,
            )
        except SimReject as reject:
            raise refusal(reject, instrument, futures=True) from reject
        return self._row(amended, call)

    async def amend_batch(self, call: ApiRequest) -> list[dict[str, Any]]:
        """Orders by ``order_id`` or ``text``."""
        if not call.items or len(call.items) > BATCH_MAX:
            raise GateError("INVALID_PARAM_VALUE", f"batch: 1 to {BATCH_MAX} orders")
        done: list[dict[str, Any]] = []
        for item in call.items:
            try:
                single = with_params(call, item)
                if not single.word("order_id"):
                    single = with_params(call, item | {"order_id": single.need("text")})
                done.append({"succeeded": True} | await self.amend(single))
            except GateError as error:
                done.append({"succeeded": False, "label": error.label, "detail": error.text})
        return done

    async def cancel_pair(self, call: ApiRequest) -> list[dict[str, Any]]:
        symbol, side = self.instrument(call.need("contract")).symbol, call.word("side")
        if side and side not in _SIDES:
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `side` value: {side}")
        orders = await self.venue.submit_cancel_all(call.owner, symbol, _SIDES.get(side))
        return [self._row(one, call) for one in orders]

    async def cancel_ids(self, call: ApiRequest) -> list[dict[str, Any]]:
        if len(call.items) > CANCEL_BATCH_MAX:
            raise GateError("INVALID_PARAM_VALUE", f"at most {CANCEL_BATCH_MAX} orders")
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

    def _finished(self, call: ApiRequest, start_ms: int, end_ms: int) -> list[SimOrder]:
        """Newest first, without what has vanished."""
        found = self.venue.finished_orders(call.owner, call.word("contract") or None, start_ms)
        return [one for one in found[::-1] if one.finished_ms <= end_ms and not self._vanished(one, call.now_ms)]

    async def orders(self, call: ApiRequest) -> list[dict[str, Any]]:
        status, symbol = call.need("status"), call.word("contract")
        if symbol:
            self.instrument(symbol)
        if status == "open":
            found = self.venue.open_orders(call.owner, symbol or None)
        elif status == "finished":
            found = self._finished(call, 0, call.now_ms)
        else:
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `status` value: {status}")
        return [self._row(one, call) for one in page(found, call, most=1000)]

    async def _orders_timerange(self, call: ApiRequest) -> Any:
        start_ms, end_ms = span_ms(call, default_s=7 * DAY_S)
        return [self._row(one, call) for one in page(self._finished(call, start_ms, end_ms), call)]


def _nearest_tick(instrument: SimInstrument) -> int:
    """Stands in for the last price before anything has traded."""
    return round(instrument.reference_price() / instrument.tick)


async def _nothing(call: ApiRequest) -> Any:
    """Markets of this exchange that are not simulated: clients that load all markets see none."""
    return []
