"""Paper trading: real public books, simulated execution and a local account, behind the same order interface.

``PaperTrading`` replaces a venue's order entry and private stream: an order takes its time to arrive, is matched
against the newest book in shared memory, never at a price better than that book shows, and what it consumed stays
consumed until the level is refreshed. How long it takes, whether others were there first and when its answer comes is
drawn as section ``paper`` of the configuration says (``paper_chance.py``). Nothing rests: its place in the queue cannot
be known from outside. What an order does not take at once is cancelled, and an order that must not take is refused.

An order off the tick or the lot, or beyond the venue's least and largest sizes, is refused, as there. A position pays
or receives funding at each stamp that passes while the executor runs: by the rate that the venue showed last before it,
on the mid of the book. The account (``paper_account.py``) is written by one ``PaperTrading`` (the executor's), read by
any ``PaperClient`` (poller, recovery).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pipeline.exchanges.base import (
    CancelOutcome,
    EventSink,
    OutcomeKind,
    PlaceOutcome,
    SessionState,
    VenueClient,
    VenueEvent,
    VenueTrading,
)
from pipeline.execution.accounts import FuturesPosition
from pipeline.execution.events import MarketPort
from pipeline.execution.market import fee_of, levels, mid_price, tradable, within
from pipeline.model.clock import mono_ns, wall_ms, wall_ns
from pipeline.model.config import PaperConfig
from pipeline.model.enums import InstrumentKind, OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.errors import ClockRefused, InsufficientBalance, OrderNotFound, VenueRejected
from pipeline.model.fixedpoint import from_fp, to_fp_floor
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import (
    ZERO,
    Balance,
    FeeSchedule,
    Fill,
    Funding,
    FundingTerms,
    InstrumentSpec,
    OrderRequest,
    OrderUpdate,
    Position,
)
from pipeline.model.venue_events import FundingNotice
from pipeline.paper_account import LEVERAGE, PaperAccount, PaperFile
from pipeline.paper_chance import OrderChance
from shm.layout import BOOK

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

EARLY_MS = 500  # a timer that comes so much before its stamp is of a wall clock that was set back: it waits on
MOVED_MS = 5_000  # a stamp that is replaced so long before it has come was moved: nothing is paid then
QUANTUM = Decimal("0.00000001")


class PaperTrading(VenueTrading):
    """Order entry and private stream of one venue, simulated. ``rows``: the venue's instruments by symbol.

    ``chance``: what orders meet; absent: each takes 5 ms, and nothing comes in between.
    """

    def __init__(
        self,
        venue: VenueConfig,
        folder: Path,
        market: MarketPort,
        rows: Mapping[str, InstrumentRow],
        on_event: EventSink,
        *,
        chance: OrderChance | None = None,
        leverage: Decimal = LEVERAGE,
    ) -> None:
        self.venue = venue.name
        self._account = PaperAccount(folder, venue.name, leverage)
        self._chance = chance or OrderChance(PaperConfig())
        self._market = market
        self._rows = dict(rows)
        self._on_event = on_event
        self._connected = False
        self._consumed: dict[tuple[int, int], tuple[int, int]] = {}  # (instrument, price) -> (quantity shown, taken)
        self._stamps: dict[str, dict[int, int]] = {}  # contract -> coming stamps (unix s), each with its newest rate

    async def connect(self) -> None:
        self._account.refresh()
        self._connected = True
        for row in self._rows.values():
            self._await_stamp(row)
        for balance in self._account.balances("ws"):
            self._on_event(balance)
        self._on_event(SessionState(venue=self.venue, state="up", recv_mono_ns=mono_ns(), reason="paper"))

    async def close(self) -> None:
        self._connected = False

    @property
    def connected(self) -> bool:
        return self._connected

    def place(self, request: OrderRequest) -> int:
        asyncio.get_running_loop().call_later(self._chance.latency_s(), self._arrive, request)
        return mono_ns()

    def cancel(self, symbol: str, client_id: str, order_id: str = "") -> None:
        # Every order has ended when its acknowledgement is out: a cancel always comes too late.
        outcome = CancelOutcome(
            venue=self.venue,
            symbol=symbol,
            client_id=client_id,
            order_id=order_id,
            kind=OutcomeKind.REJECTED,
            error=OrderNotFound("order has ended", venue=self.venue),
            recv_mono_ns=mono_ns(),
        )
        asyncio.get_running_loop().call_later(self._chance.latency_s(), self._on_event, outcome)

    # --- the simulated venue ---

    def _arrive(self, request: OrderRequest) -> None:
        row = self._rows.get(request.symbol)
        if request.expiry_wall_ms and wall_ms() > request.expiry_wall_ms:  # as every venue that is given one
            return self._refuse(request, ClockRefused("the order came after its expiry", venue=self.venue))
        if request.client_id in self._account.orders:
            return self._refuse(request, VenueRejected("duplicate client order id", venue=self.venue))
        if row is None:
            return self._refuse(request, VenueRejected(f"no such symbol {request.symbol}", venue=self.venue))
        if request.kind is OrderKind.LIMIT and request.tif is TimeInForce.POST_ONLY:
            return self._refuse(request, VenueRejected("paper takes no orders that only rest", venue=self.venue))
        broken = _broken_rule(request, row.spec)
        if broken:
            return self._refuse(request, VenueRejected(broken, venue=self.venue))
        taken = [] if self._chance.missed() else self._match(request, row)
        if request.tif is TimeInForce.FOK and sum(qty for _, qty in taken) < request.qty:
            taken = []
        shortage = self._shortage(request, row, taken)
        if shortage:
            return self._refuse(request, InsufficientBalance(shortage, venue=self.venue))
        return self._execute(request, row, taken)

    def take_row(self, row: InstrumentRow) -> None:
        """A new or changed catalogue row: orders on it are matched by its numbers from now on."""
        self._rows[row.spec.symbol] = row
        for key in [key for key in self._consumed if key[0] == row.instrument_id]:
            del self._consumed[key]  # in the old row's fixed point
        if self._connected:
            self._await_stamp(row)

    # --- funding ---

    def _await_stamp(self, row: InstrumentRow) -> None:
        """Notes the rate of a contract's next stamp, and sets a timer for one that is new."""
        at_s, stamps = row.spec.funding_next_wall_s, self._stamps.setdefault(row.spec.symbol, {})
        for moved_s in [known for known in stamps if known != at_s and known * 1000 - wall_ms() > MOVED_MS]:
            del stamps[moved_s]
        if row.spec.kind is not InstrumentKind.PERPETUAL or at_s * 1000 <= wall_ms():
            return
        if at_s not in stamps:
            self._set_timer(row.spec.symbol, at_s)
        stamps[at_s] = row.spec.funding_rate_ppb

    def _set_timer(self, symbol: str, at_s: int) -> None:
        left_s = max(0.0, at_s - wall_ms() / 1000)
        asyncio.get_running_loop().call_later(left_s, self._stamp, symbol, at_s)

    def _stamp(self, symbol: str, at_s: int) -> None:
        """A stamp has come: what is open pays or receives, once for ever."""
        if not self._connected or at_s not in self._stamps.get(symbol, {}):
            return
        if at_s * 1000 - wall_ms() > EARLY_MS:
            return self._set_timer(symbol, at_s)
        rate_ppb, row = self._stamps[symbol].pop(at_s), self._rows[symbol]
        self._account.refresh()
        event_id, view = f"{symbol}-{at_s}", self._market.book(row.instrument_id)
        mark = (mid_price(view, row) if view is not None else None) or row.spec.reference_price
        held = self._account.positions.get(symbol, FuturesPosition()).qty
        amount = (-held * mark * rate_ppb / 10**9).quantize(QUANTUM, ROUND_HALF_EVEN)
        if not amount or event_id in self._account.funding:
            return None
        paid = Funding(
            venue=self.venue,
            symbol=symbol,
            event_id=event_id,
            asset=row.spec.quote,
            amount=amount,
            venue_wall_ms=at_s * 1000,
        )
        self._account.append(PaperFile(moves={paid.asset: amount}, funding=paid))
        notice = FundingNotice(
            venue=self.venue, symbol=symbol, venue_wall_ms=paid.venue_wall_ms, recv_mono_ns=mono_ns()
        )
        self._on_event(notice)
        for balance in self._account.balances("ws"):
            self._on_event(balance)
        return None

    # --- matching ---

    def _match(self, request: OrderRequest, row: InstrumentRow) -> list[tuple[Decimal, Decimal]]:
        """(price, base quantity) per level that the order takes."""
        view = self._market.book(row.instrument_id)
        if view is None or not tradable(view, row) or not view.proof_mono_ns:
            return []
        limit_fp = to_fp_floor(request.price, row.price_exp)
        left = to_fp_floor(request.qty, row.qty_exp)
        if request.reduce_only:
            position = self._account.positions.get(request.symbol, FuturesPosition())
            closable = -position.qty * int(request.side)
            left = min(left, max(0, to_fp_floor(closable, row.qty_exp)))
        taken: list[tuple[Decimal, Decimal]] = []
        for price_fp, qty_fp in levels(view, request.side):
            if left <= 0 or (request.kind is OrderKind.LIMIT and not within(price_fp, limit_fp, request.side)):
                break
            key = (row.instrument_id, price_fp)
            shown, gone = self._consumed.get(key, (0, 0))
            gone = gone if shown == qty_fp else 0  # the level has changed since: refilled
            quantity = min(left, qty_fp - gone)
            if quantity > 0:
                self._consumed[key] = (qty_fp, gone + quantity)
                taken.append((from_fp(price_fp, row.price_exp), from_fp(quantity, row.qty_exp)))
                left -= quantity
        return taken

    def _shortage(self, request: OrderRequest, row: InstrumentRow, taken: list[tuple[Decimal, Decimal]]) -> str:
        value = sum((price * qty for price, qty in taken), ZERO)
        qty = sum((qty for _, qty in taken), ZERO)
        if row.spec.kind is InstrumentKind.PERPETUAL:
            asset, needed = row.spec.quote, ZERO if request.reduce_only else value / self._account.leverage
        elif request.side is OrderSide.BUY:
            asset, needed = row.spec.quote, value
        else:
            asset, needed = row.spec.base, qty
        free = self._account.free(asset)
        return f"{asset}: free {free}, needed {needed}" if needed > free else ""

    def _execute(self, request: OrderRequest, row: InstrumentRow, taken: list[tuple[Decimal, Decimal]]) -> None:
        now, stamp = mono_ns(), self._venue_ms(row)
        order_id = f"p{wall_ns()}"
        fills: list[Fill] = []
        moves: dict[str, Decimal] = {}
        for number, (price, qty) in enumerate(taken):
            fee, fee_asset = fee_of(row, request.side, qty, price)
            moves[fee_asset] = moves.get(fee_asset, ZERO) - fee
            fills.append(
                Fill(
                    venue=self.venue,
                    symbol=request.symbol,
                    trade_id=f"{order_id}-{number}",
                    order_id=order_id,
                    client_id=request.client_id,
                    side=request.side,
                    qty=qty,
                    price=price,
                    fee=fee,
                    fee_asset=fee_asset,
                    is_maker=False,
                    venue_wall_ms=stamp,
                    recv_mono_ns=now,
                    source="ws",
                )
            )
        filled = sum((fill.qty for fill in fills), ZERO)
        value = sum((fill.qty * fill.price for fill in fills), ZERO)
        futures = row.spec.kind is InstrumentKind.PERPETUAL
        if futures and filled:
            position = self._account.positions.get(request.symbol, FuturesPosition())
            probe = FuturesPosition(position.qty, position.cost, position.realised)
            realised = sum((probe.apply(fill.qty * int(fill.side), fill.price) for fill in fills), ZERO)
            moves[row.spec.quote] = moves.get(row.spec.quote, ZERO) + realised
        elif filled:
            moves[row.spec.base] = moves.get(row.spec.base, ZERO) + filled * int(request.side)
            moves[row.spec.quote] = moves.get(row.spec.quote, ZERO) - value * int(request.side)
        update = OrderUpdate(
            venue=self.venue,
            symbol=request.symbol,
            client_id=request.client_id,
            order_id=order_id,
            state=OrderState.FILLED if filled == request.qty else OrderState.CANCELLED,
            filled_qty=filled,
            average_price=value / filled if filled else None,
            venue_wall_ms=stamp,
            recv_mono_ns=now,
            source="ws",
        )
        self._account.append(PaperFile(order=update, fills=tuple(fills), moves=moves, futures=futures))
        outcome = PlaceOutcome(
            venue=self.venue,
            symbol=request.symbol,
            client_id=request.client_id,
            kind=OutcomeKind.ACKED,
            update=update,
            recv_mono_ns=now,
        )
        late_s = self._chance.late_s()
        if late_s:
            asyncio.get_running_loop().call_later(late_s, self._tell_late, outcome, fills, update)
        else:
            self._tell(outcome, fills, update)

    def _tell(self, outcome: PlaceOutcome, fills: Sequence[Fill], update: OrderUpdate) -> None:
        events: list[VenueEvent] = [outcome, *fills, update, *self._account.balances("ws")]
        for event in events:
            self._on_event(event)

    def _tell_late(self, outcome: PlaceOutcome, fills: Sequence[Fill], update: OrderUpdate) -> None:
        """What the account has long booked; nothing where nobody listens any more: the account is asked then."""
        if self._connected:
            now, changed = mono_ns(), msgspec.structs.replace
            known = changed(update, recv_mono_ns=now)
            late = [changed(fill, recv_mono_ns=now) for fill in fills]
            self._tell(changed(outcome, update=known, recv_mono_ns=now), late, known)

    def _venue_ms(self, row: InstrumentRow) -> int:
        """The venue's clock (ms) by its newest book; 0 = unknown, as where the book is a snapshot without a time.

        Never our own wall clock: a replayed venue has the time of its recording, and a fill stamped years later would
        make every later book of the instrument older than our own fill.
        """
        view = self._market.book(row.instrument_id)
        return max(0, int(view.words[BOOK.venue_wall_ns]) // 1_000_000) if view is not None else 0

    def _refuse(self, request: OrderRequest, error: VenueRejected) -> None:
        self._on_event(
            PlaceOutcome(
                venue=self.venue,
                symbol=request.symbol,
                client_id=request.client_id,
                kind=OutcomeKind.REJECTED,
                error=error,
                recv_mono_ns=mono_ns(),
            )
        )


class PaperClient(VenueClient):
    """A venue's REST client: public endpoints of the real venue (``public``), the account out of the paper file."""

    def __init__(self, venue: VenueConfig, folder: Path, public: VenueClient, leverage: Decimal = LEVERAGE) -> None:
        self.venue = venue.name
        self._account = PaperAccount(folder, venue.name, leverage)
        self._public = public

    async def server_time_ms(self) -> int:
        return await self._public.server_time_ms()

    async def instruments(self, symbols: Sequence[str]) -> list[InstrumentSpec]:
        return await self._public.instruments(symbols)

    async def read_ends(self, symbols: Sequence[str]) -> None:
        await self._public.read_ends(symbols)

    @property
    def ends_fault(self) -> str:
        return self._public.ends_fault

    async def depth_snapshot(self, symbol: str) -> bytes:
        return await self._public.depth_snapshot(symbol)

    async def balances(self) -> list[Balance]:
        self._account.refresh()
        return self._account.balances("rest")

    async def positions(self) -> list[Position]:
        self._account.refresh()
        now = mono_ns()
        return [
            Position(
                venue=self.venue,
                symbol=symbol,
                qty=position.qty,
                entry_price=position.entry_price,
                mark_price=ZERO,
                recv_mono_ns=now,
            )
            for symbol, position in self._account.positions.items()
            if position.qty
        ]

    async def fees(self, symbols: Sequence[str]) -> list[FeeSchedule]:
        return [
            FeeSchedule(venue=self.venue, symbol=s.symbol, taker_ppm=s.taker_fee_ppm, maker_ppm=s.maker_fee_ppm)
            for s in await self._public.instruments(symbols)
        ]

    async def query_order(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate | None:
        self._account.refresh()
        for order in self._account.orders.values():
            if order.symbol == symbol and (order.order_id == order_id if order_id else order.client_id == client_id):
                return msgspec.structs.replace(order, source="rest")
        return None

    async def open_orders(self, symbol: str) -> list[OrderUpdate]:
        return []

    async def finished_orders(self, symbol: str, since_wall_ms: int) -> list[OrderUpdate]:
        """All of the symbol: the account's stamps are the venue's, which may be replayed."""
        self._account.refresh()
        return [
            msgspec.structs.replace(order, source="rest")
            for order in self._account.orders.values()
            if order.symbol == symbol
        ]

    async def fills(self, symbol: str, since_wall_ms: int) -> list[Fill]:
        self._account.refresh()
        return [msgspec.structs.replace(fill, source="rest") for fill in self._account.fills if fill.symbol == symbol]

    async def funding(self, since_wall_ms: int) -> list[Funding]:
        self._account.refresh()
        return [paid for paid in self._account.funding.values() if paid.venue_wall_ms >= since_wall_ms]

    async def funding_terms(self, symbols: Sequence[str]) -> dict[str, FundingTerms]:
        return await self._public.funding_terms(symbols)

    async def cancel(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate:
        raise OrderNotFound("order has ended", venue=self.venue)

    async def cancel_all(self, symbol: str) -> list[OrderUpdate]:
        return []

    async def close(self) -> None:
        await self._public.close()


def _broken_rule(request: OrderRequest, spec: InstrumentSpec) -> str:
    """Which of the venue's rules for sizes and prices an order breaks; "" = none. As at the venues, what only reduces a
    position needs no least worth."""
    qty, price, limit = request.qty, request.price, request.kind is OrderKind.LIMIT
    if qty <= 0 or qty % spec.lot:
        return f"{spec.symbol}: quantity {qty} is not on the lot {spec.lot}"
    if qty < spec.min_qty or (spec.max_qty and qty > spec.max_qty):
        return f"{spec.symbol}: quantity {qty} is not within {spec.min_qty}..{spec.max_qty or 'any'}"
    if limit and (price <= 0 or price % spec.tick):
        return f"{spec.symbol}: price {price} is not on the tick {spec.tick}"
    worth = qty * (price if limit else spec.reference_price)
    if 0 < worth < spec.min_notional and not request.reduce_only:
        return f"{spec.symbol}: {worth} {spec.quote} are less than the least worth {spec.min_notional}"
    return ""


def paper_client(venue: VenueConfig, folder: Path, leverage: Decimal = LEVERAGE) -> PaperClient:
    """The REST client of a venue in paper mode; the venue's public endpoints are read without a key."""
    from pipeline.exchanges.factory import make_venue

    return PaperClient(venue, folder, make_venue(venue, None), leverage)
