"""Money is exact: sums equal fractions, a closed position leaves nothing behind."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from pipeline.execution.accounts import Accounts, FuturesPosition, exposure_by_asset
from pipeline.execution.records import FillRecord
from pipeline.model.enums import InstrumentKind, OrderSide
from tests.naive import execution as naive

quantities = st.integers(1, 10**9).map(lambda n: Decimal(n).scaleb(-8))
prices = st.integers(1, 10**9).map(lambda n: Decimal(n).scaleb(-4))
sides = st.sampled_from(list(OrderSide))
executions = st.lists(st.tuples(sides, quantities, prices), min_size=1, max_size=12)


def fill(number: int, side: OrderSide, qty: Decimal, price: Decimal, **changes: object) -> FillRecord:
    values: dict[str, object] = {
        "venue": "v",
        "symbol": "BTCUSDT",
        "trade_id": str(number),
        "order_id": "1",
        "client_id": "a1x1",
        "operation_id": "a1x0",
        "instrument_id": 0,
        "kind": InstrumentKind.SPOT,
        "base": "BTC",
        "quote": "USDT",
        "side": side,
        "qty": qty,
        "price": price,
        "fee": Decimal("0.001"),
        "fee_asset": "USDT",
        "is_maker": False,
        "venue_wall_ms": 0,
        "recv_mono_ns": 0,
        "source": "ws",
    }
    values.update(changes)
    return FillRecord(**values)  # type: ignore[arg-type]


@given(executions)
def test_spot_flows_are_the_sum_of_what_moved(trades: list[tuple[OrderSide, Decimal, Decimal]]) -> None:
    accounts = Accounts()
    for number, (side, qty, price) in enumerate(trades):
        accounts.apply_fill(fill(number, side, qty, price))
    base = sum((Fraction(qty) * int(side) for side, qty, _ in trades), Fraction(0))
    quote = -sum((Fraction(qty) * Fraction(price) * int(side) for side, qty, price in trades), Fraction(0))
    quote -= Fraction(len(trades), 1000)
    assert Fraction(accounts.flows.get(("v", "BTC"), Decimal(0))) == base
    assert Fraction(accounts.flows[("v", "USDT")]) == quote


@given(executions)
def test_a_futures_position_realises_what_fractions_say(trades: list[tuple[OrderSide, Decimal, Decimal]]) -> None:
    position = FuturesPosition()
    signed = [(qty * int(side), price) for side, qty, price in trades]
    for qty, price in signed:
        position.apply(qty, price)
    realised, open_qty = naive.realised_profit(signed)
    assert Fraction(position.qty) == open_qty
    assert abs(Fraction(position.realised) - realised) <= Fraction(len(trades), 10**12)


@given(executions, prices)
def test_a_closed_position_sums_to_zero_exactly(
    trades: list[tuple[OrderSide, Decimal, Decimal]], last: Decimal
) -> None:
    position = FuturesPosition()
    cash = Fraction(0)
    for side, qty, price in trades:
        position.apply(qty * int(side), price)
        cash -= Fraction(qty) * Fraction(price) * int(side)
    if position.qty:
        cash += Fraction(position.qty) * Fraction(last)
        position.apply(-position.qty, last)
    assert position.qty == 0 and position.cost == 0
    assert Fraction(position.realised) == cash


def test_a_contract_counts_as_its_base_coin() -> None:
    spot = fill(1, OrderSide.BUY, Decimal(2), Decimal(100), fee=Decimal("0.002"), fee_asset="BTC")
    short = fill(2, OrderSide.SELL, Decimal("1.998"), Decimal(101), kind=InstrumentKind.PERPETUAL, fee=Decimal(0))
    assert exposure_by_asset([spot, short])["BTC"] == 0


@given(st.lists(st.tuples(st.sampled_from(["USDT", "BTC", "GT", "POINT"]), st.decimals(-9, 9, places=8)), max_size=4))
def test_every_part_of_a_fee_is_booked_in_its_asset(parts: list[tuple[str, Decimal]]) -> None:
    accounts = Accounts()
    one = fill(1, OrderSide.BUY, Decimal(2), Decimal(100), extra_fees=tuple(parts))
    accounts.apply_fill(one)
    paid = {asset: sum(Fraction(amount) for name, amount in parts if name == asset) for asset, _ in parts}
    paid["USDT"] = paid.get("USDT", Fraction(0)) + Fraction(1, 1000)
    moved = {"BTC": Fraction(2), "USDT": Fraction(-200)}
    for asset, amount in paid.items():
        moved[asset] = moved.get(asset, Fraction(0)) - amount
        assert Fraction(accounts.fees.get(("v", asset), Decimal(0))) == amount
    for asset, amount in moved.items():
        assert Fraction(accounts.flows.get(("v", asset), Decimal(0))) == amount
        assert Fraction(exposure_by_asset([one]).get(asset, Decimal(0))) == amount
