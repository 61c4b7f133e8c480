"""Records of what the world did to the account besides our orders. Rules of records, their numbers: ``records.py``."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.model.enums import InstrumentKind, OrderSide
from pipeline.model.structs import ZERO


class TakenShare(msgspec.Struct, frozen=True, array_like=True):
    """What one operation lost to an external movement: base coins of its leg on that instrument, and its fee."""

    operation_id: str
    qty: Decimal
    fee: Decimal = ZERO


class ExternalFillRecord(msgspec.Struct, frozen=True, array_like=True):
    """An execution on our account by an order that is not ours: liquidation, ADL, settlement, or another client.

    It moves accounts and positions like a fill of ours, once for ever by (venue, symbol, trade_id). ``taken``: the
    operations whose leg it closed; they are left with the other leg. What is not taken is held by others (``foreign``
    of the ledger). ``booked`` False: it happened before this journal's first balances, or the position that it made was
    booked before the venue listed it; it moves nothing.
    """

    venue: str
    symbol: str
    trade_id: str
    order_id: str
    client_id: str
    instrument_id: int
    kind: InstrumentKind
    base: str
    quote: str
    side: OrderSide
    qty: Decimal
    price: Decimal
    fee: Decimal  # positive = paid
    fee_asset: str
    cause: str  # "liquidation" | "adl" | "settlement" | "order" | "engine" (an order with an id of an engine's form)
    witness: str  # the venue's list and id that prove it; "push" | "poll": what reported it, where no list shows it
    venue_wall_ms: int
    recv_mono_ns: int
    booked: bool = True
    taken: tuple[TakenShare, ...] = ()
    extra_fees: tuple[tuple[str, Decimal], ...] = ()  # as in a fill of ours
    coin_fees: Decimal | None = None  # what others paid in coins for fees, valued in quote; None = not valued (older)

    @property
    def fees(self) -> tuple[tuple[str, Decimal], ...]:
        """(asset, amount) of every part of the fee, positive = paid; parts of 0 are left out."""
        return tuple(part for part in ((self.fee_asset, self.fee), *self.extra_fees) if part[1])

    @property
    def fees_of_others(self) -> tuple[tuple[str, Decimal], ...]:
        """The same less what operations have paid of it, as their shares say."""
        ours = sum((share.fee for share in self.taken), ZERO)
        return tuple((asset, amount - ours if asset == self.fee_asset else amount) for asset, amount in self.fees)


class ExternalFlowRecord(msgspec.Struct, frozen=True, array_like=True):
    """Money that moved without an order: a deposit, a withdrawal, a transfer, a venue's adjustment.

    It moves the balance that the ledger expects. It is no trading result, but for ``trading``: the money of a position
    that the venue closed without listing executions. ``value_usd``: signed, 0 where the asset has no rate. ``amount`` 0
    with ``taken``: others sold coins that hedges hold.
    """

    venue: str
    asset: str
    amount: Decimal  # signed
    cause: str  # "deposit" | "withdrawal" | "transfer" | "settlement" | "shortage" | "unexplained"
    witness: str  # as above
    recv_mono_ns: int
    trading: bool = False
    value_usd: Decimal = ZERO
    symbol: str = ""  # with ``taken``: the spot instrument whose coins the operations no longer have,
    price: Decimal = ZERO  # and what they are valued at
    taken: tuple[TakenShare, ...] = ()


class ExternalPositionRecord(msgspec.Struct, frozen=True, array_like=True):
    """A futures position is not what our fills made it, and the venue lists no execution for it: the ledger's becomes
    ``qty``. ``price``: what the difference is valued at until the venue has booked the money. ``taken`` as above."""

    venue: str
    symbol: str
    base: str
    quote: str
    qty_before: Decimal  # as the ledger had it
    qty: Decimal
    price: Decimal
    cause: str  # "unlisted" | "liquidation" | "adl" | "adopted"
    witness: str  # as above
    recv_mono_ns: int
    taken: tuple[TakenShare, ...] = ()
    order_ids: tuple[str, ...] = ()  # of all rows of the venue's lists of forced closes that it is made of


class HeldFillRecord(msgspec.Struct, frozen=True, array_like=True):
    """A fill that a stream reported and that cannot be (or lacks its fee's asset): not booked before REST confirms it.

    ``state``: "held"; "denied": a complete sweep does not list it. A fill record of the same trade ends it as well.
    """

    venue: str
    symbol: str
    trade_id: str
    client_id: str
    side: OrderSide
    qty: Decimal
    price: Decimal
    reason: str
    state: str
