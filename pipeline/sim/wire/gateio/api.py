"""What the Gate.io spot and futures APIs share: route table, paging, countdown timers, and handlers of both markets.

Source: Gate.io APIv4 "Spot", "Futures"; WebSocket v4 "Spot/Futures Websocket API".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from pipeline.model.enums import OrderSide
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.events import MarketTrade
from pipeline.sim.exchange.instruments import Level, SimInstrument
from pipeline.sim.exchange.latency import NS_PER_S
from pipeline.sim.exchange.orders import SimAmendRequest, SimOrder, SimOrderRequest, SimReject, SimTrade
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.gateio.formats import ApiRequest, GateError, amend_text, refusal
from pipeline.sim.wire.recent_trades import TRADES_KEPT, RecentTrades

Handler = Callable[[ApiRequest], Awaitable[Any]]
Item = TypeVar("Item")
COUNTDOWN_LEAST_S = 5
DAY_S = 86_400


class Route(msgspec.Struct, frozen=True):
    """A handler and its rules. ``operation``: one of ``faults.OPERATIONS``. ``{}`` in a path is any one segment."""

    handler: Handler
    operation: str
    signed: bool = True
    status: int = 200  # of success


def page(rows: Sequence[Item], call: ApiRequest, *, default: int = 100, most: int = 1000) -> list[Item]:
    """``limit`` with ``page`` (from 1) or ``offset``."""
    limit = max(1, min(call.integer("limit", default), most))
    offset = call.integer("offset", 0) or (max(1, call.integer("page", 1)) - 1) * limit
    return list(rows[offset : offset + limit])


def span_ms(call: ApiRequest, *, default_s: int) -> tuple[int, int]:
    """``from`` and ``to`` in unix seconds, as inclusive milliseconds."""
    end_s = call.integer("to", 0)
    end_ms = end_s * 1000 + 999 if end_s else call.now_ms
    start_s = call.integer("from", 0)
    return (start_s * 1000 if start_s else end_ms - default_s * 1000), end_ms


class Countdown:
    """The dead-man switch: unless repeated in time, the account's orders are cancelled by the venue."""

    def __init__(self, venue: SimVenue) -> None:
        self._venue = venue
        self._armed: dict[tuple[str, str], int] = {}
        self._count = 0

    def set(self, account: SimAccount, symbol: str, timeout_s: int, now_ms: int) -> dict[str, str]:
        """``symbol`` "" = all. 0 disarms. Returns the reply; raises ``GateError`` for 1..4 seconds."""
        key = (account.uid, symbol)
        if timeout_s == 0:
            self._armed.pop(key, None)
            return {"triggerTime": "0"}
        if timeout_s < COUNTDOWN_LEAST_S:
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `timeout` value: {timeout_s}")
        self._count += 1
        serial = self._count
        self._armed[key] = serial
        self._venue.clock.call_later(timeout_s * NS_PER_S, lambda: self._fire(account, symbol, key, serial))
        return {"triggerTime": str(now_ms + timeout_s * 1000)}

    def _fire(self, account: SimAccount, symbol: str, key: tuple[str, str], serial: int) -> None:
        if self._armed.get(key) == serial:
            del self._armed[key]
            self._venue.cancel_all(account, symbol or None)


def text_is_known(order: SimOrder, now_ms: int, life_ms: int) -> bool:
    """A client text finds an order while it is open and ``life_ms`` after its end; the id always does."""
    return order.is_open or now_ms - order.finished_ms <= life_ms


async def empty_list(call: ApiRequest) -> list[Any]:
    """Lists of what is not simulated: other markets of the exchange, sub-accounts, saved addresses."""
    return []


class FuturesContracts:
    """Handlers of a futures venue: all look up contracts alike."""

    def __init__(self, venue: SimVenue) -> None:
        self.venue = venue

    def instrument(self, symbol: str) -> SimInstrument:
        """Raises ``GateError`` for an unknown contract."""
        found = self.venue.instruments.get(symbol)
        if found is None:
            raise GateError("CONTRACT_NOT_FOUND", f"Contract {symbol} not found")
        return found


class MarketApi(ABC):
    """Handlers that spot and futures have in common; a subclass adds its routes, its rows and its parameters' names.

    Handlers take an ``ApiRequest`` and return what JSON is made of; they raise ``GateError``.
    """

    is_futures: bool
    symbol_param: str  # the parameter that names an instrument
    order_param: str  # the parameter of the trade lists that names an order
    sides: dict[str, OrderSide]  # as the ``side`` parameter of lists and cancellations spells them

    def __init__(self, venue: SimVenue) -> None:
        self.venue = venue
        self.trades = RecentTrades()
        self.countdown = Countdown(venue)

    # --- of each market ---

    @abstractmethod
    def routes(self) -> dict[tuple[str, str], Route]:
        """(method, path) -> route."""

    @abstractmethod
    def instrument(self, symbol: str) -> SimInstrument:
        """Raises ``GateError`` for an unknown symbol."""

    @abstractmethod
    def ticker(self, instrument: SimInstrument, decimal_sizes: bool) -> dict[str, Any]:
        """One row of the day statistics."""

    @abstractmethod
    def order_row(self, order: SimOrder, call: ApiRequest) -> dict[str, Any]:
        """An order as REST and the WebSocket API show it."""

    @abstractmethod
    def order_request(self, call: ApiRequest) -> SimOrderRequest:
        """The order that a placement asks for."""

    @abstractmethod
    def known_order(self, call: ApiRequest) -> SimOrder:
        """The order that a query names; raises ``GateError`` when it is not known (any more)."""

    @abstractmethod
    async def cancel_order(self, call: ApiRequest) -> SimOrder:
        """Cancels the order that a request names."""

    @abstractmethod
    async def amend(self, call: ApiRequest) -> dict[str, Any]:
        """Changes price or amount of an open order; raises ``GateError`` where neither is named or there is no such
        order."""

    @abstractmethod
    async def place_batch(self, call: ApiRequest) -> list[dict[str, Any]]:
        """Orders of one request, each of which succeeds or fails by itself; raises ``GateError`` for a batch of a wrong
        size."""

    @abstractmethod
    async def cancel_pair(self, call: ApiRequest) -> list[dict[str, Any]]:
        """Cancels all open orders of the instrument and side that a request names; the cancelled ones."""

    @abstractmethod
    async def cancel_ids(self, call: ApiRequest) -> list[dict[str, Any]]:
        """Cancels orders by their ids, each by itself; raises ``GateError`` for a batch that is too long."""

    @abstractmethod
    async def orders(self, call: ApiRequest) -> list[dict[str, Any]]:
        """Orders of the status that a request names, open or finished."""

    # --- public ---

    def named_or_all(self, call: ApiRequest) -> list[SimInstrument]:
        """The instrument that a request names, or every one."""
        symbol = call.text(self.symbol_param)
        return [self.instrument(symbol)] if symbol else list(self.venue.instruments.values())

    async def tickers(self, call: ApiRequest) -> Any:
        """Of the instrument that a request names, else of all."""
        return [self.ticker(one, call.decimal_sizes) for one in self.named_or_all(call)]

    def best_texts(self, instrument: SimInstrument) -> tuple[str, str]:
        """(best bid, best ask) as price text; "" for an empty side."""
        _, bids, asks = self.venue.depth(instrument.symbol, 1)
        bid = instrument.price_text(bids[0][0]) if bids else ""
        return bid, instrument.price_text(asks[0][0]) if asks else ""

    def asked_depth(
        self, call: ApiRequest, limit_max: int
    ) -> tuple[SimInstrument, dict[str, Any], list[Level], list[Level]]:
        """(instrument, the reply's first fields, bids, asks) of an order book request."""
        instrument = self.instrument(call.required(self.symbol_param))
        limit = max(1, min(call.integer("limit", 10), limit_max))
        update_id, bids, asks = self.venue.depth(instrument.symbol, limit)
        return instrument, {"id": update_id} if call.flag("with_id") else {}, bids, asks

    def asked_trades(self, call: ApiRequest) -> tuple[SimInstrument, list[MarketTrade]]:
        """The newest public trades of the instrument that a request names, newest first."""
        instrument = self.instrument(call.required(self.symbol_param))
        return instrument, self.trades.newest(instrument.symbol, min(call.integer("limit", 100), TRADES_KEPT))

    # --- account ---

    def own_trades(self, call: ApiRequest, start_ms: int, end_ms: int) -> list[SimTrade]:
        """Newest first; of one instrument and one order where the request names them."""
        symbol, wanted = call.text(self.symbol_param), call.text(self.order_param)
        found = self.venue.trades(call.owner, symbol or None, start_ms)
        return [one for one in found[::-1] if one.ts_ms <= end_ms and wanted in ("", str(one.order_id))]

    def finished(self, call: ApiRequest, start_ms: int, end_ms: int) -> list[SimOrder]:
        """Newest first."""
        found = self.venue.finished_orders(call.owner, call.text(self.symbol_param) or None, start_ms)
        return [one for one in found[::-1] if one.finished_ms <= end_ms]

    async def set_countdown(self, call: ApiRequest) -> Any:
        """Cancels all orders of the account (of one instrument) in ``timeout`` seconds unless it is set anew; 0 takes
        it back."""
        symbol = call.text(self.symbol_param)
        if symbol:
            self.instrument(symbol)
        call.required("timeout")
        return self.countdown.set(call.owner, symbol, call.integer("timeout", 0), call.now_ms)

    # --- orders ---

    def order_id(self, call: ApiRequest) -> str:
        """From the path (REST) or from ``order_id`` (WebSocket API)."""
        return call.args[0] if call.args else call.required("order_id")

    def side_of(self, call: ApiRequest) -> OrderSide | None:
        """The side that a mass cancellation names; None = both. Raises ``GateError`` for another text."""
        side = call.text("side")
        if side and side not in self.sides:
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `side` value: {side}")
        return self.sides.get(side)

    async def place(self, call: ApiRequest) -> dict[str, Any]:
        """One order; raises ``GateError`` as the venue refuses it."""
        request = self.order_request(call)
        try:
            order = await self.venue.submit(call.owner, request)
        except SimReject as reject:
            instrument = self.venue.instruments.get(request.symbol)
            raise refusal(reject, instrument, futures=self.is_futures) from reject
        return self.order_row(order, call)

    async def order(self, call: ApiRequest) -> dict[str, Any]:
        """The order that a request names; raises ``GateError`` for one that the venue does not know (any more)."""
        return self.order_row(self.known_order(call), call)

    async def cancel(self, call: ApiRequest) -> dict[str, Any]:
        """Cancels the order that a request names; raises ``GateError`` where it is not open."""
        return self.order_row(await self.cancel_order(call), call)

    def want_amendment(self, call: ApiRequest, qty_param: str) -> None:
        """Raises ``GateError`` when an amendment changes neither price nor quantity."""
        if not call.text(qty_param) and not call.text("price"):
            raise GateError("MISSING_REQUIRED_PARAM", f"Missing required parameter: {qty_param} or price")

    async def submit_amend(
        self, call: ApiRequest, symbol: str, qty: Decimal | None, *, order_id: int | None, client_id: str | None = None
    ) -> SimOrder:
        """``qty``: base coin, including what is filled; None leaves it. Raises ``SimReject``."""
        request = SimAmendRequest(
            symbol,
            order_id=order_id,
            client_id=client_id,
            price=call.decimal("price") if call.text("price") else None,
            qty=qty,
            amend_text=amend_text(call),
            expiry_wall_ms=call.expiry_ms,
        )
        return await self.venue.submit_amend(call.owner, request)


def want_items(call: ApiRequest, most: int, *, least: int = 1) -> None:
    """Raises ``GateError`` for a batch of a wrong size."""
    if len(call.items) > most or len(call.items) < least:
        size = f"batch: {least} to {most} orders" if least else f"at most {most} orders"
        raise GateError("INVALID_PARAM_VALUE", size)
