"""A repair as it is chosen, its pace, and what keeps an instrument from taking it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol

from pipeline.execution.ledger import Ledger, Operation, Order
from pipeline.execution.records import Purpose
from pipeline.model.enums import OrderSide, TimeInForce, TradingStatus
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO, InstrumentSpec

BY_ITSELF = "wait until that ends by itself (arb status shows it)"


class Obstacle(NamedTuple):
    """``what`` keeps an instrument from taking an order now, and what has to be done ``first``, a command where there
    is one; "": nothing, the approval itself ends it."""

    what: str
    first: str = BY_ITSELF


def unlisted(venue: str, symbol: str) -> Obstacle:
    """An instrument that the catalogue lacks."""
    return Obstacle("not in the catalogue", f"arb symbols add {venue} {symbol}")


def takes_none(spec: InstrumentSpec, side: OrderSide) -> Obstacle:
    """An instrument whose status lets no order of ``side`` in. One that is halted because its steps have changed stays
    so until an operator has confirmed them."""
    what = f"it takes no {side.name.lower()} order now"
    if spec.status is not TradingStatus.HALTED:
        return Obstacle(what)
    confirm = f"arb symbols add {spec.venue} {spec.symbol} where its tick, lot or multiplier has changed"
    return Obstacle(f"{what} ({spec.status.name.lower()})", f"{confirm}, else {BY_ITSELF}")


def in_doubt_there(order: Order, operation_id: str, *, asked: bool) -> Obstacle:
    """An instrument on which the outcome of an order of ours is not known. ``asked``: it stays so until an operator has
    said that it never executed, which the approval of its own operation says."""
    what, approve = (
        "an order of ours there is not settled yet",
        f"arb recoveries --approve r{order.intent.operation_id}",
    )
    if not asked:
        return Obstacle(what)
    return Obstacle(what, "" if order.intent.operation_id == operation_id else approve)


def tried_in_vain(ledger: Ledger, operation: Operation) -> dict[tuple[str, str], int]:
    """Repairs of an operation that came back with nothing, by instrument."""
    found: dict[tuple[str, str], int] = {}
    for client_id in operation.orders:
        order = ledger.orders[client_id]
        if order.intent.purpose in (Purpose.REPAIR, Purpose.DUST) and order.settled and not order.filled:
            place = (order.intent.venue, order.intent.symbol)
            found[place] = found.get(place, 0) + 1
    return found


@dataclass(slots=True)
class Repair:
    """One order that closes an unmatched quantity, ready to be recorded: quantities in base coin, prices in quote."""

    row: InstrumentRow
    leg: int  # index into the operation's legs
    side: OrderSide
    qty: Decimal
    price: Decimal  # limit
    purpose: Purpose
    reserve_asset: str
    reserve_amount: Decimal
    score: Decimal  # quote per base after fees, + = we receive
    reduces: bool = False  # a futures order that only makes the position smaller
    tif: TimeInForce = TimeInForce.IOC
    takes_dust: Decimal = ZERO  # earlier remainders that this order is to close as well
    in_vain: int = 0  # repairs of this operation there that came back with nothing


@dataclass(slots=True)
class RepairPace:
    """Pace of an operation's repairs, in memory only. Repairs are the rungs of a ladder: each allows more slippage.
    ``held``: no repair before an operator has decided."""

    attempts: int = 0
    rungs_forgiven: int = 0  # repairs made before an operator let the ladder begin again: they no longer count
    next_try_mono_ns: int = 0
    blocked_since_mono_ns: int = 0  # since when no venue takes the repair; 0 = one does
    held: bool = False


class UsableInstruments(Protocol):
    """Instruments as their venues have them now."""

    def in_question(self, venue: str, symbol: str) -> bool:
        """Whether the row is being read anew: nothing is sent there meanwhile."""

    def row(self, row: InstrumentRow) -> InstrumentRow:
        """The row with the steps and bounds that the venue has now."""

    def barred(self, spec: InstrumentSpec) -> Obstacle | None:
        """Why an instrument that is no leg of an operation may take none of its repairs; None where it may."""

    def asked_about(self, operation_id: str) -> bool:
        """Whether an operator is asked if orders of an operation never executed."""
