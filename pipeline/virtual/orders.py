"""Orders on their way to a simulated venue: the venue's form of a request, refusals, orders a second, fees."""

from __future__ import annotations

from decimal import Decimal

from pipeline.model.account_fees import FeeSwitch, true_fees, with_account_fees
from pipeline.model.config import FeeConfig
from pipeline.model.enums import InstrumentKind, OrderKind
from pipeline.model.errors import ClockRefused, InstrumentRefused, InsufficientBalance, TradingDisabled, VenueRejected
from pipeline.model.structs import InstrumentSpec, OrderRequest
from pipeline.sim.exchange.orders import RejectReason, SimOrderRequest
from pipeline.sim.exchange.venue import SimVenue

REJECTIONS: dict[RejectReason, type[VenueRejected]] = {
    RejectReason.INSUFFICIENT_BALANCE: InsufficientBalance,
    RejectReason.INSUFFICIENT_MARGIN: InsufficientBalance,
    RejectReason.EXPIRED: ClockRefused,
    RejectReason.UNKNOWN_SYMBOL: InstrumentRefused,
    RejectReason.BAD_PRICE_TICK: InstrumentRefused,
    RejectReason.BAD_QTY_STEP: InstrumentRefused,
    RejectReason.QTY_TOO_SMALL: InstrumentRefused,
    RejectReason.QTY_TOO_LARGE: InstrumentRefused,
    RejectReason.NOTIONAL_TOO_SMALL: InstrumentRefused,
    RejectReason.NOTIONAL_TOO_LARGE: InstrumentRefused,
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


def reported_coins(venue: SimVenue, fees: FeeConfig | None) -> dict[str, str]:
    """The coin of fees by venue, as ``read_fee_switch`` says it: spot markets tell it, the futures market does not."""
    if venue.kind is InstrumentKind.PERPETUAL:
        return {}
    account = next(iter(venue.accounts.values()))
    deduction = account.fee_deduction
    if deduction is None or not deduction.enabled:
        return {venue.name: ""}
    configured = fees is not None and fees.deduction is not None and fees.deduction.coin == deduction.coin
    return {venue.name: deduction.coin if configured or account.wallet(deduction.coin).total > 0 else ""}


def with_venue_fees(
    spec: InstrumentSpec, venue: SimVenue, fees: FeeConfig | None, *, plain: bool = False
) -> InstrumentSpec:
    """``spec`` with the configured ``fees`` and the deduction that the venue tells; ``plain``: there is too little of
    its coin."""
    reported = "" if plain else reported_coins(venue, fees).get(venue.name)
    return with_account_fees(spec, true_fees(fees, None if reported is None else FeeSwitch(reported)))
