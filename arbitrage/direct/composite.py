"""One venue as one object: books, trades, symbols, account and orders, asked of the venue itself.

async with CompositeExchange(venue, key) as exchange:
    book = await exchange.get_orderbook(Symbol("BTC/USDT"))

Nothing that moves is kept: books, balances and orders are asked anew at each call, only symbols' rules are remembered.
It uses the request budgets of the instances that run (``pipeline/exchanges/transport/shared_budgets.py``). Orders leave
without the engine's gate and journal; an engine on the same key takes them for those of others.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Self, TypeVar

from arbitrage.direct.books import BookStream, book_of
from arbitrage.direct.sharing import share, unshare
from arbitrage.direct.structs import (
    AccountInfo,
    CancelResult,
    HealthStatus,
    Order,
    OrderBook,
    Trade,
    TradingFee,
)
from pipeline.exchanges.base import VenueClient, VenueTrading
from pipeline.exchanges.factory import make_trading, make_venue
from pipeline.model.clock import wall_ms
from pipeline.model.config import VenueConfig
from pipeline.model.dialects import facts_of
from pipeline.model.enums import OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.errors import AuthRefused, BadInput, VenueError, VenueUnavailable
from pipeline.model.fixedpoint import quantize_down, quantize_up
from pipeline.model.structs import Balance, Credentials, InstrumentSpec, OrderRequest, OrderUpdate
from pipeline.model.venue_events import CancelOutcome, OutcomeKind, PlaceOutcome, VenueEvent

ORDERS_KEPT = 1000  # newest orders of this object whose terms and updates are remembered
EXPIRY_MS = 5_000  # after so long the venue must refuse an order that it has not seen, where it can
MILLION = Decimal(1_000_000)
T = TypeVar("T")


class CompositeExchange:
    """One market of one exchange, for one account or for market data alone."""

    def __init__(self, venue: VenueConfig, key: Credentials | None = None) -> None:
        self.venue = venue
        self._key = key
        self._specs: dict[str, InstrumentSpec] = {}
        self._orders: OrderedDict[str, OrderRequest] = OrderedDict()
        self._updates: OrderedDict[str, OrderUpdate] = OrderedDict()
        self._unanswered: dict[str, OrderRequest] = {}  # by client id; bounded by what is sent and never asked for
        self._waiting: dict[tuple[type, str], asyncio.Future[PlaceOutcome | CancelOutcome]] = {}
        self._trading: VenueTrading | None = None
        self._books: BookStream | None = None
        self._client: VenueClient | None = None
        self._shares = False

    @property
    def exchange_name(self) -> str:
        """The venue's name, as ``mexc_spot``."""
        return self.venue.name

    async def __aenter__(self) -> Self:
        """Opens order entry where there is a key and the dialect places orders. Raises a VenueError."""
        share()
        self._shares = True
        try:
            self._client = make_venue(self.venue, self._key)
            if self._key is not None and facts_of(self.venue.dialect).trade:
                self._trading = make_trading(self.venue, self._key, self._on_event)
                await self._trading.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes every socket. An order whose answer is waited for ends as UNKNOWN."""
        opened = [one for one in (self._books, self._trading, self._client) if one is not None]
        self._books = self._trading = self._client = None
        shares, self._shares = self._shares, False
        try:
            for one in opened:
                await one.close()
        finally:
            if shares:
                unshare()

    # --- market data ---

    async def get_orderbook(self, symbol: str, limit: int = 100) -> OrderBook:
        """The book as the venue answers now, at most ``limit`` levels a side. Raises a VenueError."""
        spec = await self.get_symbol_info(symbol)
        payload = await self._rest().depth_snapshot(spec.symbol)
        return book_of(self.venue, spec, payload, limit, time.monotonic_ns())

    async def get_recent_trades(self, symbol: str, limit: int = 100) -> list[Trade]:
        """The newest trades of others, newest first. Raises a VenueError."""
        spec = await self.get_symbol_info(symbol)
        rows = await self._rest().recent_trades(spec.symbol, limit, spec.multiplier)
        return [
            Trade(
                venue=self.venue.name,
                symbol=spec.symbol,
                trade_id=row.trade_id,
                side=row.side,
                price=row.price,
                qty=row.qty,
                venue_wall_ms=row.venue_wall_ms,
            )
            for row in rows
        ]

    async def subscribe_orderbook(self, *symbols: str) -> AsyncGenerator[OrderBook, None]:
        """Books as they change, whole and proved; a book that is being fetched anew is silent until it is whole. Ends
        with the object."""
        specs = [await self.get_symbol_info(symbol) for symbol in symbols]
        if not specs:
            raise BadInput("subscribe_orderbook: found no symbol, wanted one at least")
        if self._books is None:
            self._books = BookStream(self.venue)
        async for book in self._books.follow(specs):
            yield book

    async def get_symbol_info(self, symbol: str) -> InstrumentSpec:
        """The venue's rules of a symbol, asked once. Raises BadInput where it does not list it."""
        name = self.symbol_to_pair(symbol)
        if name not in self._specs:
            found = await self._rest().instruments([name])
            if not found:
                raise BadInput(f"{self.venue.name}: found {symbol!r}, wanted a symbol that it lists")
            self._specs[name] = found[0]
        return self._specs[name]

    def symbol_to_pair(self, symbol: str) -> str:
        """The venue's own name of ``BASE/QUOTE``; a name without ``/`` is one already."""
        base, slash, quote = symbol.partition("/")
        return facts_of(self.venue.dialect).markets[self.venue.market].spell(base, quote) if slash else symbol

    # --- account ---

    async def get_balances(self) -> dict[str, Balance]:
        """What the account holds now, by asset. Raises a VenueError."""
        return {row.asset: row for row in await self._rest().balances()}

    async def get_account(self) -> AccountInfo:
        """Balances, positions and rights of the key, all asked now. Raises a VenueError."""
        client = self._rest()
        balances, positions, rights = await asyncio.gather(self.get_balances(), client.positions(), client.key_rights())
        return AccountInfo(venue=self.venue.name, balances=balances, positions=tuple(positions), rights=rights)

    async def get_trading_fees(self, symbols: Sequence[str]) -> dict[str, TradingFee]:
        """The account's own fees by the venue's symbol. Raises a VenueError."""
        rows = await self._rest().fees([self.symbol_to_pair(symbol) for symbol in symbols])
        return {
            row.symbol: TradingFee(symbol=row.symbol, maker=row.maker_ppm / MILLION, taker=row.taker_ppm / MILLION)
            for row in rows
        }

    # --- orders ---

    async def place_order(
        self,
        symbol: str,
        side: OrderSide,
        quantity: Decimal,
        price: Decimal,
        *,
        tif: TimeInForce = TimeInForce.GTC,
        reduce_only: bool = False,
        client_id: str = "",
    ) -> Order:
        """A limit order, sent once and never again. The price is put on the venue's tick so that it is never worse than
        ``price``, the quantity is rounded down to its lot. ``client_id``: letters and digits, of one order alone; ""
        makes one.

        Returns when the venue has answered; ``state`` UNKNOWN where it has not. Raises ``VenueRejected`` where it says
        no, ``VenueUnavailable`` where nothing was sent, BadInput for what is too small and for a used ``client_id``.
        Cancelled while it waits, the order may live: it is among :attr:`unanswered_orders`."""
        trading, spec = self._entry(), await self.get_symbol_info(symbol)
        if client_id in self._orders or client_id in self._unanswered:
            raise BadInput(f"client_id: found {client_id!r} of an order that was sent, wanted a new one, or none")
        request = self._request(spec, side, quantity, price, tif, reduce_only, client_id)
        outcome = await self._answer(PlaceOutcome, request.client_id, lambda: self._send_order(trading, request))
        if outcome.kind is not OutcomeKind.UNKNOWN:
            self._unanswered.pop(request.client_id, None)
        if outcome.kind is OutcomeKind.REJECTED and outcome.error is not None:
            raise outcome.error
        if outcome.kind is OutcomeKind.UNKNOWN:
            return self._order(request.client_id, None, OrderState.UNKNOWN, str(outcome.error or ""))
        return self._order(request.client_id, _newest(outcome.update, self._updates.get(request.client_id)))

    @property
    def unanswered_orders(self) -> list[Order]:
        """Orders that may have been sent and whose answer no caller has, oldest first: the venue was silent, or
        ``place_order`` was cancelled. Each until its status is found, or a cancel of it is confirmed."""
        known = [(client_id, self._updates.get(client_id)) for client_id in self._unanswered]
        return [self._order(client_id, update, OrderState.UNKNOWN) for client_id, update in known]

    def _send_order(self, trading: VenueTrading, request: OrderRequest) -> None:
        self._unanswered[request.client_id] = request
        _keep(self._orders, request.client_id, request)
        try:
            trading.place(request)
        except VenueUnavailable:  # nothing was sent
            del self._unanswered[request.client_id], self._orders[request.client_id]
            raise

    async def get_order_status(self, order: Order) -> Order | None:
        """The order as the venue answers now. None: not found, which does not prove that it never existed."""
        found = await self._rest().query_order(order.symbol, order.client_id, order.order_id)
        if found is None:
            return None
        answered = self._order(order.client_id, found)
        self._unanswered.pop(order.client_id, None)
        return answered

    async def cancel_order(self, order: Order) -> CancelResult:
        """A cancel while another one of the order waits is that one: both get its answer. Raises ``VenueUnavailable``
        where nothing was sent."""
        trading = self._entry()
        outcome = await self._answer(
            CancelOutcome, order.client_id, lambda: trading.cancel(order.symbol, order.client_id, order.order_id)
        )
        if outcome.kind is OutcomeKind.ACKED:
            self._unanswered.pop(order.client_id, None)
        done = {OutcomeKind.ACKED: True, OutcomeKind.REJECTED: False, OutcomeKind.UNKNOWN: None}[outcome.kind]
        return CancelResult(
            client_id=order.client_id,
            order_id=order.order_id,
            cancelled=done,
            reason="" if outcome.error is None else str(outcome.error),
        )

    # --- health ---

    async def health_check(self) -> HealthStatus:
        """One question for the venue's time, and whether orders could be sent."""
        began_ns = time.perf_counter_ns()
        try:
            await self._rest().server_time_ms()
        except VenueError as error:
            return HealthStatus(status="unhealthy", response_time=None, reason=str(error))
        took_s = (time.perf_counter_ns() - began_ns) / 1e9
        if self._trading is not None and not self._trading.connected:
            return HealthStatus(status="degraded", response_time=took_s, reason=self._trading.why_down())
        return HealthStatus(status="healthy", response_time=took_s)

    # --- inside ---

    def _rest(self) -> VenueClient:
        if self._client is None:
            raise BadInput(f"{self.venue.name}: found it closed, wanted it open: async with exchange")
        return self._client

    def _entry(self) -> VenueTrading:
        self._rest()
        if self._trading is None:
            why = "its dialect reads market data alone" if self._key is not None else "it was given no key"
            raise AuthRefused(f"{self.venue.name}: {why}; nothing was sent", venue=self.venue.name)
        return self._trading

    def _request(
        self,
        spec: InstrumentSpec,
        side: OrderSide,
        quantity: Decimal,
        price: Decimal,
        tif: TimeInForce,
        reduce_only: bool,
        client_id: str,
    ) -> OrderRequest:
        to_tick = quantize_down if side is OrderSide.BUY else quantize_up
        limit, qty = to_tick(price, spec.tick), quantize_down(quantity, spec.lot)
        if qty <= 0 or qty < spec.min_qty or limit <= 0 or qty * limit < spec.min_notional:
            raise BadInput(
                f"{self.venue.name}: found {quantity} {spec.base} at {price}, wanted at least {spec.min_qty}, "
                f"in steps of {spec.lot} and {spec.min_notional} {spec.quote}"
            )
        return OrderRequest(
            client_id=client_id or f"d{secrets.token_hex(10)}",
            venue=self.venue.name,
            symbol=spec.symbol,
            side=side,
            kind=OrderKind.LIMIT,
            tif=tif,
            qty=qty,
            price=limit,
            reduce_only=reduce_only,
            multiplier=spec.multiplier,
            expiry_wall_ms=wall_ms() + EXPIRY_MS,
        )

    async def _answer(self, kind: type, client_id: str, send: Callable[[], object]) -> PlaceOutcome | CancelOutcome:
        """What the venue says to one request that ``send`` hands over; whoever asks the same meanwhile gets its answer,
        and who is cancelled takes it from nobody."""
        waiting = self._waiting.get((kind, client_id))
        if waiting is None:
            waiting = self._waiting[(kind, client_id)] = asyncio.get_running_loop().create_future()
            try:
                send()
            except BaseException:
                del self._waiting[(kind, client_id)]
                raise
        return await asyncio.shield(waiting)

    def _on_event(self, event: VenueEvent) -> None:
        if isinstance(event, PlaceOutcome | CancelOutcome):
            if isinstance(event, PlaceOutcome) and event.kind is OutcomeKind.REJECTED:
                self._unanswered.pop(event.client_id, None)  # it does not exist, whoever still waits
            waiting = self._waiting.pop((type(event), event.client_id), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(event)
            if event.update is None:
                return
            event = event.update
        if isinstance(event, OrderUpdate):
            newest = _newest(event, self._updates.get(event.client_id))
            if newest is not None:
                _keep(self._updates, event.client_id, newest)

    def _order(
        self, client_id: str, update: OrderUpdate | None, state: OrderState = OrderState.SENT, reason: str = ""
    ) -> Order:
        """What is known of an order: its terms where this object has sent it, and what the venue says."""
        sent = self._orders.get(client_id) or self._unanswered.get(client_id)
        return Order(
            venue=self.venue.name,
            symbol=update.symbol if update is not None else sent.symbol if sent is not None else "",
            client_id=client_id,
            order_id=update.order_id if update is not None else "",
            state=update.state if update is not None else state,
            side=sent.side if sent else None,
            kind=sent.kind if sent else None,
            tif=sent.tif if sent else None,
            qty=sent.qty if sent else None,
            price=sent.price if sent else None,
            filled_qty=update.filled_qty if update is not None else None,
            average_price=update.average_price if update is not None else None,
            reason=update.reason if update is not None else reason,
        )


def _newest(one: OrderUpdate | None, other: OrderUpdate | None) -> OrderUpdate | None:
    """An order's end is its newest word; else what was received later."""
    known = [update for update in (one, other) if update is not None]
    return max(known, key=lambda row: (row.state.is_terminal, row.recv_mono_ns), default=None)


def _keep(table: OrderedDict[str, T], key: str, value: T) -> None:
    table[key] = value
    while len(table) > ORDERS_KEPT:
        table.popitem(last=False)
