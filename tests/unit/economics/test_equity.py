"""Equity, the day's P&L and hedging: worked cases, and the identities that must hold for any numbers."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import pytest

from pipeline.economics.equity import (
    STRESS_MOVE,
    UNKNOWN_MAX,
    Hedging,
    PerpetualHolding,
    daily_pnl,
    equity,
    hedging,
    index_marks,
    stress,
    transfers_value,
)

D = Decimal


def test_the_index_is_the_median_so_that_one_venue_moves_nothing() -> None:
    marks = index_marks([("BTC", D(100)), ("BTC", D(101)), ("BTC", D(150)), ("ETH", D(10)), ("ETH", D(12))])
    assert marks == {"BTC": D(101), "ETH": D(11)}
    assert index_marks([("BTC", D(0)), ("BTC", D(-1))]) == {}, "what is no price is no mark"


def test_a_lasting_difference_between_venues_is_no_profit() -> None:
    """Coins bought at the cheap venue are worth the index, wherever they lie."""
    marks = {**index_marks([("BTC", D(100)), ("BTC", D(102))]), "USDT": D(1)}
    before = equity({"USDT": D(1000), "BTC": D(5)}, [], marks)
    after = equity({"USDT": D(1000) - 100, "BTC": D(6)}, [], marks)
    assert after.value - before.value == 1, "the edge to the index, not the 2 between the venues"


def test_a_hedge_counts_its_perpetual_at_the_venues_mark() -> None:
    marks = {"BTC": D(110), "USDT": D(1)}
    short = PerpetualHolding("BTC", "USDT", D(-1), D("100.35"), D("110.1"))
    worth = equity({"USDT": D(900), "BTC": D(1)}, [short], marks)
    assert short.unrealised == D("-9.75")
    assert worth.value == D(900) + D(110) - D("9.75")


def test_what_has_no_mark_is_named_and_not_guessed() -> None:
    worth = equity({"USDT": D(5), "NOVA": D(7), "GONE": D(0)}, [], {"USDT": D(1)})
    assert (worth.value, worth.unmarked) == (D(5), ("NOVA",))


def test_a_deposit_is_no_profit_and_a_price_is_inventory() -> None:
    """1 BTC held at 100; it rises to 110, 50 USDT come in, trading earned 3."""
    marks = {"BTC": D(110), "USDT": D(1)}
    came = transfers_value([("USDT", D(50))], marks)
    found = daily_pnl(D(1000) + 10 + 50 + 3, D(1000), came, {"BTC": D(1)}, {"BTC": D(100), "USDT": D(1)}, marks)
    assert found == (D(13), D(3), D(10))
    with pytest.raises(KeyError):
        transfers_value([("NOVA", D(1))], marks)


def test_the_parts_of_hedging_add_up() -> None:
    """1 BTC spot long, 1 BTC short elsewhere: hedged. 2 ETH alone: net."""
    found = hedging([("BTC", D(1)), ("BTC", D(-1)), ("ETH", D(2))], {"BTC": D(100), "ETH": D(10)})
    assert found == Hedging(gross=D(220), net=D(20), hedged=D(100))


def test_identities_hold_for_any_numbers() -> None:
    rng = random.Random(5)

    def number(low: int, high: int) -> Decimal:
        return D(rng.randint(low, high)) / 100

    for _ in range(300):
        coins = ["A", "B", "C"]
        marks = {c: number(1, 100_000) for c in coins}
        old = {c: number(1, 100_000) for c in coins}
        held = {c: number(-500, 500) for c in coins}
        now, then, came = number(-99_999, 99_999), number(-99_999, 99_999), number(-999, 999)
        day = daily_pnl(now, then, came, held, old, marks)
        assert day.total == now - then - came == day.trading + day.inventory
        moves = [(rng.choice(coins), number(-500, 500)) for _ in range(6)]
        parts = hedging(moves, marks)
        assert parts.gross == 2 * parts.hedged + parts.net
        exact = sum(abs(Fraction(qty) * Fraction(marks[coin])) for coin, qty in moves)
        assert Fraction(parts.gross) == exact


def naive_stress(
    moved: list[tuple[str, str, Decimal]],
    unknown: list[tuple[str, str, Decimal]],
    marks: dict[str, Decimal],
    basis_move: Decimal,
) -> Decimal:
    """The worst over every subset of all orders at once."""
    worst = D(0)
    for mask in range(2 ** len(unknown)):
        accounts: dict[tuple[str, str], Decimal] = {}
        for coin, account, qty in [*moved, *(row for n, row in enumerate(unknown) if mask >> n & 1)]:
            accounts[coin, account] = accounts.get((coin, account), D(0)) + qty
        found = hedging([(coin, qty) for (coin, _), qty in accounts.items()], marks)
        worst = max(worst, found.net * STRESS_MOVE + found.hedged * basis_move)
    return worst


def test_stress_of_a_hedge_is_its_basis_and_of_what_is_naked_its_price() -> None:
    marks, hedge = {"BTC": D(100)}, [("BTC", "spot", D(2)), ("BTC", "futures", D(-2))]
    assert stress(hedge, [], marks, D("0.005")) == D(1)
    assert stress(hedge[:1], [], marks, D("0.005")) == D(20)
    assert stress(hedge[:1], [("BTC", "futures", D(-2))], marks, D("0.005")) == D(20)  # it may not have filled
    assert stress(hedge, [("BTC", "spot", D(-2))], marks, D("0.005")) == D(20)  # it may have
    assert stress([("NOVA", "spot", D(2))], [], marks, D(1)) == 0


def test_unknown_orders_count_as_whatever_is_worse() -> None:
    rng = random.Random(7)
    marks = {"A": D(10), "B": D(3)}

    def rows(count: int) -> list[tuple[str, str, Decimal]]:
        return [(rng.choice("AB"), rng.choice("xyz"), D(rng.randint(-50, 50)) / 10) for _ in range(count)]

    for _ in range(200):
        moved, unknown, move = rows(4), rows(rng.randint(0, UNKNOWN_MAX)), D(rng.randint(0, 300)) / 1000
        assert stress(moved, unknown, marks, move) == naive_stress(moved, unknown, marks, move)
    many = [("A", "x", D(1))] * (UNKNOWN_MAX + 1)
    assert stress([("A", "x", D(-2))], many, marks, D(0)) == (D(UNKNOWN_MAX + 1) - 2) * 10 * STRESS_MOVE


def test_stress_of_many_unknown_orders_looks_at_few_outcomes() -> None:
    """It is counted on the executor's own loop: eight orders of one coin cost no more than four."""
    looked: list[int] = []

    class Counted(dict[str, Decimal]):
        def __getitem__(self, coin: str) -> Decimal:
            looked.append(1)
            return super().__getitem__(coin)

    counts = []
    for orders in (4, 8):
        looked.clear()
        stress([("A", "x", D(-2))], [("A", str(n), D(1)) for n in range(orders)], Counted(A=D(10)), D(0))
        counts.append(len(looked))
    assert counts[1] <= counts[0]
