"""What the detector may size opportunities with: per instrument the money, coins and position that are free now.

The executor publishes these rows on the inventory page (``INVENTORY_ROW``); the detector refuses what they do not
cover before it offers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.market import mid_price
from pipeline.model.enums import InstrumentKind
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO


@dataclass(slots=True)
class InventoryRow:
    """What the detector may size with on one instrument.

    ``buy_notional``: quote that a buy may cost, its fee already taken off. ``sell_qty`` and ``position_qty`` (signed,
    futures): base coin. ``blocked_until_mono_ns``: books received before count as older than our own last fill.
    """

    instrument_id: int
    buy_notional: float
    sell_qty: Decimal
    position_qty: Decimal
    blocked_until_mono_ns: int
    tradable: bool


def inventory_row(
    row: InstrumentRow,
    context: CoreContext,
    balances: BalanceMonitor,
    *,
    venue_ready: bool,
    blocked_until_mono_ns: int,
) -> InventoryRow:
    """The row of one instrument at ``context.now``; ``venue_ready``: its venue may take new risk.

    Futures: what the free quote carries as margin at the configured leverage, in both directions.
    """
    spec = row.spec
    quote = balances.usable(spec.venue, spec.quote)
    fee = Decimal(spec.taker_fee_ppm) / 1_000_000
    if spec.kind is InstrumentKind.PERPETUAL:
        leverage = context.config.detection.hedge.leverage
        buy = quote / (1 / leverage + fee)
        view = context.market.book(row.instrument_id)
        price = mid_price(view, row) if view is not None else None
        sell = buy / price if price else ZERO
        position = context.ledger.accounts.futures_qty(spec.venue, spec.symbol)
    else:
        buy = quote / (1 + fee)
        sell = balances.usable(spec.venue, spec.base)
        position = ZERO
    busy = next(context.ledger.unsettled_of_symbol(spec.venue, spec.symbol), None) is not None
    tradable = venue_ready and not busy and balances.proved(spec.venue, spec.quote, context.now.mono_ns)
    return InventoryRow(row.instrument_id, float(buy), sell, position, blocked_until_mono_ns, tradable)
