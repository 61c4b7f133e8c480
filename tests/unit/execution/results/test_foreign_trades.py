"""What trades of others hold and have realised is worth what they moved, at any marks: equal to the plain sum."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipeline.execution.external_records import ExternalFillRecord
from pipeline.execution.results.foreign_trades import ForeignTrades
from pipeline.model.enums import InstrumentKind, OrderSide
from pipeline.model.instruments import USD_COINS

D = Decimal
PAIRS = (("BTC", "USDT"), ("ETH", "USDT"), ("ETH", "BTC"), ("BTC", "USDC"), ("USDC", "USDT"), ("SOL", "ETH"))
trades = st.lists(
    st.tuples(
        st.sampled_from(PAIRS),
        st.sampled_from(list(OrderSide)),
        st.integers(1, 10**6).map(lambda n: D(n).scaleb(-4)),  # base coins
        st.integers(1, 10**6).map(lambda n: D(n).scaleb(-3)),  # price
        st.sampled_from(["base", "quote"]),  # that the fee is paid in
    ),
    max_size=12,
)
marks = st.fixed_dictionaries({coin: st.integers(1, 10**5).map(D) for coin in ("BTC", "ETH", "SOL")})


Trade = tuple[tuple[str, str], OrderSide, Decimal, Decimal, str]


def record(
    number: int, pair: tuple[str, str], side: OrderSide, qty: Decimal, price: Decimal, of: str
) -> ExternalFillRecord:
    base, quote = pair
    fee, asset = (qty, base) if of == "base" else (qty * price, quote)
    return ExternalFillRecord(
        venue="v", symbol=base + quote, trade_id=str(number), order_id="1", client_id="", instrument_id=0,
        kind=InstrumentKind.SPOT, base=base, quote=quote, side=side, qty=qty, price=price, fee=fee / 1000,
        fee_asset=asset, cause="order", witness="push", venue_wall_ms=0, recv_mono_ns=0, coin_fees=D(0),
    )  # fmt: skip


def moved(records: list[ExternalFillRecord]) -> dict[str, Fraction]:
    """The naive twin: what each asset changed by."""
    sums: dict[str, Fraction] = {}
    for one in records:
        signed = Fraction(one.qty) * int(one.side)
        for asset, amount in (
            (one.base, signed),
            (one.quote, -signed * Fraction(one.price)),
            (one.fee_asset, -Fraction(one.fee)),
        ):
            sums[asset] = sums.get(asset, Fraction(0)) + amount
    return sums


@given(trades, marks)
def test_holdings_and_results_are_worth_what_was_moved(rows: list[Trade], at: dict[str, Decimal]) -> None:
    records = [record(number, *row) for number, row in enumerate(rows)]
    found, unit = ForeignTrades(), {**at, **dict.fromkeys(USD_COINS, D(1))}
    for one in records:
        found.fill(one, 0)
    sums = moved(records)
    assert {key[1]: Fraction(held.qty) for key, held in found.coins.items()} == {
        coin: qty for coin, qty in sums.items() if qty and coin not in USD_COINS
    }
    worth = Fraction(0)
    for key, held in found.coins.items():
        costs = held.costs(found.quotes[key])
        worth += Fraction(held.qty) * Fraction(unit[key[1]])
        worth -= sum((Fraction(cost) * Fraction(unit[asset]) for asset, cost in costs.items()), Fraction(0))
    worth += sum((Fraction(gain) * Fraction(unit[asset]) for asset, gain in found.realised.items()), Fraction(0))
    wanted = sum((amount * Fraction(unit[asset]) for asset, amount in sums.items()), Fraction(0))
    assert worth == wanted, "what is rounded stays in the cost of what is open"
    assert set(found.quotes) == set(found.coins)


@given(trades)
def test_a_checkpoint_keeps_every_cost(rows: list[Trade]) -> None:
    found = ForeignTrades()
    for number, row in enumerate(rows):
        found.fill(record(number, *row), 0)
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=ForeignTrades)
    assert kept.coins == found.coins and kept.content() == found.content()
    sold = [record(99, (coin, "USDT"), OrderSide(-1 if held.qty > 0 else 1), abs(held.qty), D(7), "quote")
            for (_, coin), held in found.coins.items()]  # fmt: skip
    for one in sold:
        kept.fill(one, 0)
        found.fill(one, 0)
    assert not kept.coins and kept.realised == found.realised


def test_what_is_handed_over_takes_its_share_of_every_cost() -> None:
    found = ForeignTrades()
    rows: list[Trade] = [
        (("ETH", "USDT"), OrderSide.BUY, D(1), D(3000), "quote"),
        (("ETH", "BTC"), OrderSide.BUY, D(3), D("0.05"), "quote"),
    ]
    for number, row in enumerate(rows):
        found.fill(record(number, *row), 0)
    found.handed_over(("v", "ETH"), D(3), D(0), futures=False)
    held = found.coins["v", "ETH"]
    assert (held.qty, dict(held.costs("USDT"))) == (D(1), {"USDT": D(750), "BTC": D("0.0375")})
    found.handed_over(("v", "ETH"), D(1), D(0), futures=False)
    assert set(found.coins) == {("v", "BTC")} and found.coins["v", "BTC"].qty == D("-0.15015")
