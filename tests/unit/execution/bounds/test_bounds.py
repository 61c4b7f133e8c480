"""Which repair is allowed beside unknown orders, against a slow twin that plays every outcome at the venues."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations, product
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipeline.execution.bounds.outcomes import SLACK, may_repair
from pipeline.execution.ledger import Ledger, Operation, Order
from pipeline.execution.records import FillRecord, LegPlan, OperationRecord, OrderIntentRecord, Purpose
from pipeline.model.enums import InstrumentKind, OpportunityType, OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.risk.naked import naked_usd_s

D = Decimal
SPOT, FUTURES, OTHER = ("a", "BTC"), ("f", "BTC"), ("b", "BTC")


def leg(place: tuple[str, str], qty: int, side: OrderSide) -> LegPlan:
    kind = InstrumentKind.PERPETUAL if place == FUTURES else InstrumentKind.SPOT
    return LegPlan(0, *place, kind, "BTC", "USDT", side, D(qty), D(100), D(100), 0, 0, 0, 0)


def operation_of(qty: int) -> Operation:
    record = OperationRecord(
        operation_id="o", opportunity_id=1, type=OpportunityType.SPOT_FUTURES_HEDGE, pair="BTC/USDT",
        legs=(leg(SPOT, qty, OrderSide.BUY), leg(FUTURES, qty, OrderSide.SELL)), edge_detect_bps=0.0, edge_send_bps=0.0,
        direction_key=1, notional_usd=D(100), trigger_recv_mono_ns=0, detect_mono_ns=0, dequeued_mono_ns=0,
        gate_mono_ns=0,
    )  # fmt: skip
    return Operation(record, 0, 1)


def unknown(client_id: str, place: tuple[str, str], signed: int, reduces: bool) -> Order:
    intent = OrderIntentRecord(
        client_id=client_id, operation_id="o", leg=0, purpose=Purpose.REPAIR, instrument_id=0, venue=place[0],
        symbol=place[1], kind=InstrumentKind.PERPETUAL if place == FUTURES else InstrumentKind.SPOT, base="BTC",
        quote="USDT", side=OrderSide.BUY if signed > 0 else OrderSide.SELL, order_kind=OrderKind.LIMIT,
        tif=TimeInForce.IOC, qty=D(abs(signed)), price=D(100), reduce_only=reduces, multiplier=D(1), expiry_wall_ms=1,
        reserve_asset="USDT", reserve_amount=D(0), book_seq=0, update_id=0,
    )  # fmt: skip
    return Order(intent, 0, 1, state=OrderState.UNKNOWN)


def fill(signed: D, price: int = 100, at_ns: int = 0, place: tuple[str, str] = FUTURES) -> FillRecord:
    return FillRecord(
        venue=place[0], symbol=place[1], trade_id=f"{at_ns}{signed}", order_id="", client_id="", operation_id="o",
        instrument_id=0, kind=InstrumentKind.PERPETUAL if place == FUTURES else InstrumentKind.SPOT, base="BTC",
        quote="USDT", side=OrderSide.BUY if signed > 0 else OrderSide.SELL, qty=abs(signed), price=D(price), fee=D(0),
        fee_asset="USDT", is_maker=False, venue_wall_ms=0, recv_mono_ns=at_ns, source="ws",
    )  # fmt: skip


def played(amount: int, position: int, orders: list[tuple[int, bool]]) -> int:
    """The largest exposure over every subset of orders that execute whole, in every order of arrival; one that only
    reduces takes what is left of the position."""
    worst = abs(amount)
    for executes in product((False, True), repeat=len(orders)):
        chosen = [order for order, yes in zip(orders, executes, strict=True) if yes]
        for sequence in permutations(chosen):
            net, held = amount, position
            for signed, reduces in sequence:
                done = signed
                if reduces:
                    room = max(0, -held if signed > 0 else held)
                    done = min(abs(signed), room) * (1 if signed > 0 else -1)
                    held += done
                net += done
            worst = max(worst, abs(net))
    return worst


ORDER = st.tuples(st.integers(-4, 4).filter(bool), st.booleans())


@given(st.integers(-4, 4), st.integers(-4, 4), st.lists(ORDER, min_size=1, max_size=3), ORDER)
def test_a_repair_is_allowed_where_no_outcome_is_worse_than_before_or_than_a_leg(
    amount: int, position: int, orders: list[tuple[int, bool]], repair: tuple[int, bool]
) -> None:
    ledger, operation, qty = Ledger(), operation_of(3), 3
    if position:
        ledger.accounts.apply_fill(fill(D(position)))
    for number, (signed, reduces) in enumerate(orders):
        order = unknown(f"c{number}", FUTURES if reduces else (SPOT, OTHER)[number % 2], signed, reduces)
        operation.orders.append(order.client_id)
        ledger.orders[order.client_id] = ledger.unsettled[order.client_id] = order
    signed, reduces = repair
    place = FUTURES if reduces else OTHER
    allowed = may_repair(ledger, operation, "BTC", D(amount), place, D(signed), reduces)
    before, after = played(amount, position, orders), played(amount, position, [*orders, repair])
    assert allowed == (after <= max(before, abs(amount), qty) * SLACK)


def test_without_unknown_orders_every_repair_is_allowed() -> None:
    assert may_repair(Ledger(), operation_of(1), "BTC", D(1), OTHER, D(-5), False)


@given(st.lists(st.tuples(st.integers(-3, 3).filter(bool), st.integers(0, 50)), max_size=6), st.integers(0, 30))
def test_naked_notional_is_the_area_under_the_unmatched_quantity(fills: list[tuple[int, int]], since: int) -> None:
    """Against a sum over every single unit of time."""
    operation, until = operation_of(1), 60
    operation.fills = [fill(D(signed), at_ns=at) for signed, at in fills]
    slow = sum(abs(sum(signed for signed, at in fills if at <= moment)) for moment in range(since, until))
    assert naked_usd_s(operation, "BTC", D(10), since, until) == D(slow) * 10 / 1_000_000_000


def test_other_coins_of_the_operation_do_not_count() -> None:
    operation = operation_of(1)
    other: Any = msgspec.structs.replace(fill(D(1)), base="ETH")
    operation.fills = [other]
    assert naked_usd_s(operation, "BTC", D(10), 0, 100) == 0
