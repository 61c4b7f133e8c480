"""Orders on their way to a simulated venue: the venue's form of a request, refusals, and how many it takes a second."""

from __future__ import annotations

from decimal import Decimal

from pipeline.model.enums import OrderKind
from pipeline.model.errors import InsufficientBalance, TradingDisabled, VenueRejected
from pipeline.model.structs import OrderRequest
from pipeline.sim.exchange.orders import RejectReason, SimOrderRequest
from pipeline.sim.wire.rate_limits import Budget

PLACE_BUDGETS = {"mexc_spot": Budget(5, 1_000), "gateio_spot": Budget(10, 1_000), "gateio_futures": Budget(100, 1_000)}
REJECTIONS: dict[RejectReason, type[VenueRejected]] = {
    RejectReason.INSUFFICIENT_BALANCE: InsufficientBalance,
    RejectReason.INSUFFICIENT_MARGIN: InsufficientBalance,
    RejectReason.SYMBOL_HALTED: TradingDisabled,
    RejectReason.SIDE_BARRED: TradingDisabled,
}


def sim_request(request: OrderRequest) -> SimOrderRequest:
    """The order as the simulated venue takes it."""
    return SimOrderRequest(
        symbol=request.symbol,
        side=request.side,
        kind=request.kind,
        tif=request.tif,
        qty=request.qty,
        price=request.price if request.kind is OrderKind.LIMIT else Decimal(0),
        client_id=request.client_id,
        reduce_only=request.reduce_only,
        expiry_wall_ms=request.expiry_wall_ms,
    )
