"""Orders, trades, balances and positions of a simulated venue as the core gets them from the venue's codec.

:class:`VenueRows` is how a link of the virtual world translates; who goes through the wire's formats instead
(``pipeline/chaos/wire``) overrides its methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.model.enums import InstrumentKind, OrderState
from pipeline.model.errors import VenueError, VenueRejected
from pipeline.model.structs import ZERO, Balance, Fill, OrderRequest, OrderUpdate, Position
from pipeline.model.venue_events import FundingNotice, MoneyNotice
from pipeline.sim.exchange.accounts import SimAccount, SimPosition
from pipeline.sim.exchange.events import AccountEvent, BalanceEvent, OrderEvent, PositionEvent, TradeEvent
from pipeline.sim.exchange.futures.margin import maintenance_margin, tier_of, unrealised
from pipeline.sim.exchange.orders import OrderStatus, SimOrder, SimOrderRequest, SimReject, SimTrade
from pipeline.sim.exchange.venue import SimVenue
from pipeline.virtual.orders import REJECTIONS, sim_request


def order_update(venue: SimVenue, order: SimOrder, source: str) -> OrderUpdate:
    """An order as the venue's codec reads it: a forced one has no id of ours and did not end as ``filled``."""
    state = {
        OrderStatus.NEW: OrderState.OPEN,
        OrderStatus.PARTIALLY_FILLED: OrderState.PARTIALLY_FILLED,
        OrderStatus.FILLED: OrderState.FILLED,
        OrderStatus.CANCELED: OrderState.CANCELLED,
    }[order.status]
    if order.forced and order.finish_as != "filled":
        state = OrderState.CANCELLED
    return OrderUpdate(
        venue=venue.name,
        symbol=order.symbol,
        client_id=order.client_id,
        order_id=str(order.order_id),
        state=state,
        filled_qty=order.filled_qty,
        average_price=order.average_price if order.filled_qty else None,
        venue_wall_ms=order.updated_ms,
        recv_mono_ns=venue.clock.mono_ns(),
        source=source,
        reason="" if order.is_open else order.text if order.finish_as == "filled" else order.finish_as,
    )


def fill_of(venue: SimVenue, trade: SimTrade, source: str) -> Fill:
    """As the codecs tell it: a deduction coin's part stands alone where nothing was paid in the plain asset."""
    parts = ((trade.fee_asset, trade.fee), (trade.coin_asset, trade.coin_fee))
    (asset, fee), *extra = [part for part in parts if part[1]] or parts[:1]
    return Fill(
        venue=venue.name,
        symbol=trade.symbol,
        trade_id=str(trade.trade_id),
        order_id=str(trade.order_id),
        client_id=trade.client_id,
        side=trade.side,
        qty=trade.qty,
        price=trade.price,
        fee=fee,
        fee_asset=asset,
        extra_fees=tuple(extra),
        is_maker=trade.is_maker,
        venue_wall_ms=trade.ts_ms,
        recv_mono_ns=venue.clock.mono_ns(),
        source=source,
    )


def position_of(venue: SimVenue, account: SimAccount, row: SimPosition) -> Position:
    """A position as the venue states it now."""
    mark, listing = venue.mark_price(row.symbol), venue.instruments[row.symbol]
    return Position(
        venue=venue.name,
        symbol=row.symbol,
        qty=row.qty,
        entry_price=row.entry_price,
        mark_price=mark,
        recv_mono_ns=venue.clock.mono_ns(),
        margin=row.margin,
        unrealised_pnl=unrealised(row, mark),
        liquidation_price=venue.liquidation_price(account, row) or ZERO,
        maintenance_rate=tier_of(listing, abs(row.qty) * mark).maintenance_rate,
        maintenance_margin=maintenance_margin(listing, row.qty, mark),
    )


def balances_of(venue: SimVenue, account: SimAccount, source: str) -> list[Balance]:
    """Every coin of a spot account; of a futures account its wallet, what positions hold as locked."""
    if venue.kind is InstrumentKind.SPOT:
        rows = [(asset, wallet.free, wallet.locked) for asset, wallet in venue.wallets(account).items()]
    else:
        margin = venue.shown_margin(account)
        rows = [(venue.settle_asset, margin.available, margin.total - margin.available)]
    now_ns = venue.clock.mono_ns()
    return [
        Balance(venue=venue.name, asset=asset, free=free, locked=locked, recv_mono_ns=now_ns, source=source)
        for asset, free, locked in rows
    ]


class WalletChanged:
    """A push says that the futures wallet has changed, and not what is available: that is asked for."""


class VenueRows:
    """What goes to a venue and what comes from it, without a wire format."""

    def __init__(self, venue: SimVenue, account: SimAccount) -> None:
        self.venue = venue
        self.account = account

    def request(self, request: OrderRequest, signed_ms: int) -> SimOrderRequest:
        """An order as it arrives; ``signed_ms``: the venue's time as its sender knew it."""
        return sim_request(request)

    def client_id(self, client_id: str) -> str:
        """Our id of an order as the venue keeps it."""
        return client_id

    def order_number(self, order_id: str) -> int:
        """The venue's number of an order, of the id that it has given."""
        return int(order_id)

    def order_text(self, order_id: int) -> str:
        """And back."""
        return str(order_id)

    def acked(self, request: OrderRequest, order: SimOrder) -> OrderUpdate:
        """The answer to a placement."""
        return order_update(self.venue, order, "ws_api")

    def cancelled(self, order: SimOrder) -> OrderUpdate:
        """The answer to a cancel."""
        return order_update(self.venue, order, "ws_api")

    def refused(self, request: OrderRequest, refusal: SimReject) -> VenueError:
        """The answer to a placement that is refused."""
        kind = REJECTIONS.get(refusal.reason, VenueRejected)
        return kind(f"{self.venue.name}: {refusal}", venue=self.venue.name, api_code=refusal.reason.value)

    def orders(self, orders: Iterable[SimOrder]) -> list[OrderUpdate]:
        """A list of orders by REST."""
        return [order_update(self.venue, order, "rest") for order in orders]

    def fills(self, trades: Iterable[SimTrade]) -> list[Fill]:
        """A list of trades by REST."""
        return [fill_of(self.venue, row, "rest") for row in trades]

    def balances(self) -> list[Balance]:
        """What REST says of the account's money now."""
        return balances_of(self.venue, self.account, "rest")

    def positions(self) -> list[Position]:
        """What REST says of the account's open positions now."""
        if self.venue.kind is InstrumentKind.SPOT:
            return []
        return [
            position_of(self.venue, self.account, row) for row in self.venue.shown_positions(self.account) if row.qty
        ]

    def pushed(self, event: AccountEvent) -> Iterator[object]:
        """What the private stream tells of an event."""
        if isinstance(event, TradeEvent):
            yield fill_of(self.venue, event.trade, "ws")
        elif isinstance(event, OrderEvent):
            yield order_update(self.venue, event.order, "ws")
        elif isinstance(event, BalanceEvent):
            yield from self._balance_pushed(event)
        elif isinstance(event, PositionEvent):
            yield position_of(self.venue, self.account, event.position)

    def _balance_pushed(self, event: BalanceEvent) -> Iterator[object]:
        name, now_ns = self.venue.name, self.venue.clock.mono_ns()
        if event.reason in ("deposit", "withdraw"):
            yield MoneyNotice(
                venue=name, asset=event.asset, amount=event.change, reason=event.reason, recv_mono_ns=now_ns
            )
        if event.reason == "fund":
            yield FundingNotice(venue=name, symbol=event.symbol, venue_wall_ms=event.ts_ms, recv_mono_ns=now_ns)
        if self.venue.kind is InstrumentKind.SPOT:
            yield Balance(
                venue=name, asset=event.asset, free=event.free, locked=event.locked, recv_mono_ns=now_ns, source="ws"
            )
        else:
            yield WalletChanged()
