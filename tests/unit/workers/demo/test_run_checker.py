"""The judge finds each kind of lie; a run that is right passes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from workers.demo import run_checker as checker

UIDS = frozenset({"7"})


def entry(seq: int, *postings: tuple[str, str, str], reason: str = "order-match") -> dict[str, Any]:
    return {"kind": "entry", "seq": seq, "venue": "v", "reason": reason, "postings": [list(p) for p in postings]}


def order(order_id: str, client_id: str, mono_ns: int, filled_qty: str) -> dict[str, Any]:
    return {
        "kind": "order",
        "venue": "v",
        "symbol": "S",
        "order_id": order_id,
        "client_id": client_id,
        "mono_ns": mono_ns,
        "filled_qty": filled_qty,
    }


def ledger() -> list[dict[str, Any]]:
    return [
        {"kind": "instrument", "venue": "v", "symbol": "S", "base": "BTC", "quote": "USDT"},
        {"kind": "instrument", "venue": "f", "symbol": "P", "base": "BTC", "quote": "USDT"},
        entry(3, ("user:7", "USDT", "1000"), ("external", "USDT", "-1000"), reason="deposit"),
        {"kind": "request", "venue": "v", "operation": "place", "client_id": "a1", "mono_ns": 20},
        order("5", "a1", 21, "0"),
        entry(6, ("user:7", "BTC", "2"), ("market", "BTC", "-2"), ("user:7", "USDT", "-20"), ("market", "USDT", "20")),
        {"kind": "fill", "venue": "v", "symbol": "S", "client_id": "a1", "trade_id": "9", "qty": "2", "price": "10",
         "fee": "0.1"},
        entry(8, ("user:7", "USDT", "-0.1"), ("fees", "USDT", "0.1"), reason="fee"),
        order("5", "a1", 22, "2"),
        {"kind": "position", "venue": "f", "symbol": "P", "uid": "7", "qty": "-2"},
    ]  # fmt: skip


def journal() -> list[dict[str, Any]]:
    return [
        {"record": "OrderIntentRecord", "client_id": "a1", "qty": Decimal(2), "at_mono_ns": 10},
        {"record": "FillRecord", "venue": "v", "symbol": "S", "trade_id": "9", "client_id": "a1", "qty": Decimal("2.0"),
         "price": Decimal(10), "fee": Decimal("0.10"), "at_mono_ns": 30},
    ]  # fmt: skip


def judge(
    rows: list[dict[str, Any]] | None = None,
    records: list[dict[str, Any]] | None = None,
    pnl: dict[str, str] | None = None,
    dust: dict[str, str] | None = None,
) -> list[str]:
    found = checker.check_all(
        ledger=ledger() if rows is None else rows,
        journal=journal() if records is None else records,
        uids=UIDS,
        numeraire="USDT",
        engine_pnl={k: Decimal(v) for k, v in (pnl or {"BTC": "2", "USDT": "-20.1"}).items()},
        dust={k: Decimal(v) for k, v in (dust or {}).items()},
    )
    return [row["invariant"] for row in found]


def test_a_run_that_is_right_has_no_violation() -> None:
    assert judge() == []


def test_deposits_are_no_profit() -> None:
    assert checker.venue_changes(ledger(), UIDS) == {"BTC": Decimal(2), "USDT": Decimal("-20.1")}


def test_funding_after_the_stop_is_not_the_engines_to_know() -> None:
    paid = {**entry(9, ("user:7", "USDT", "-3"), ("funding", "USDT", "3"), reason="fund"), "mono_ns": 90}
    stopped = [*journal(), {"record": "StopRecord", "at_mono_ns": 80}]
    assert checker.until_stop([*ledger(), paid], stopped) == ledger()
    for known in (journal(), [*journal(), {"record": "StopRecord", "at_mono_ns": 95}]):
        assert checker.until_stop([*ledger(), paid], known) == [*ledger(), paid]
    late_fill = {**ledger()[6], "mono_ns": 99}
    assert checker.until_stop([late_fill], stopped) == [late_fill]


def test_exposure_that_no_dust_explains() -> None:
    rows = [row for row in ledger() if row["kind"] != "position"]
    assert judge(rows) == ["I1"]
    assert judge(rows, dust={"BTC": "2"}) == []


def test_money_differs_by_the_last_decimal() -> None:
    assert judge(pnl={"BTC": "2", "USDT": "-20.1000000000000001"}) == ["I2"]


def test_venue_ledger_that_does_not_balance() -> None:
    rows = ledger()
    rows.append(entry(99, ("market", "USDT", "1")))
    assert judge(rows) == ["I2"]


def test_fill_missing_doubled_or_different() -> None:
    missing = [row for row in journal() if row["record"] != "FillRecord"]
    assert set(judge(records=missing)) == {"I3", "I4", "I12"}
    doubled = [*journal(), journal()[1]]
    assert set(judge(records=doubled)) == {"I3", "I12"}
    other = journal()
    other[1]["price"] = Decimal("10.01")
    assert judge(records=other) == ["I3"]


def test_order_without_intent_or_before_it() -> None:
    rows = ledger()
    rows.append(order("6", "x", 1, "0"))
    assert judge(rows) == ["I4"]
    late = journal()
    late[0]["at_mono_ns"] = 1_000
    assert set(judge(records=late)) == {"I4"}


def test_intent_that_never_ended() -> None:
    records = [*journal(), {"record": "OrderIntentRecord", "client_id": "b2", "qty": Decimal(1), "at_mono_ns": 40}]
    assert judge(records=records) == ["I4"]
    records.append({"record": "OrderStateRecord", "client_id": "b2", "terminal": True, "at_mono_ns": 50})
    assert judge(records=records) == []


def test_order_sent_twice() -> None:
    rows = ledger()
    rows.append({"kind": "request", "venue": "v", "operation": "place", "client_id": "a1", "mono_ns": 23})
    assert judge(rows) == ["I6"]


def test_filled_quantity_that_goes_back() -> None:
    rows = ledger()
    rows.append(order("5", "a1", 24, "1"))
    assert "I12" in judge(rows)


def test_orders_of_others_without_a_client_id_are_told_apart() -> None:
    rows = ledger()
    rows += [order("6", "", 1, "0"), order("6", "", 2, "3"), order("7", "", 3, "0"), order("7", "", 4, "1")]
    assert checker.check_monotone(rows, journal()) == []
    rows.append(order("6", "", 5, "2"))
    (found,) = checker.check_monotone(rows, journal())
    assert found == {"invariant": "I12", "text": "order 6 of v: the venue's filled quantity went back to 2"}


def test_long_lists_are_cut_and_say_so() -> None:
    rows = ledger()
    rows += [order(f"6{n}", f"x{n}", 1, "0") for n in range(30)]
    found = checker.check_accounted(rows, journal())
    assert len(found) == checker.LISTED_MAX + 1
    assert found[-1]["text"] == "and 10 more"


def test_an_id_given_twice_is_found_at_either_side() -> None:
    records = [*journal(), {**journal()[0], "at_mono_ns": 11}]
    assert "I5" in judge(records=records)
    rows = ledger()
    for number, row in enumerate(r for r in rows if r["kind"] == "order"):
        row["order_id"] = str(number)
    assert judge(rows) == ["I5"]


def intent(**fields: Any) -> dict[str, Any]:
    return {
        "record": "OrderIntentRecord", "client_id": "a1", "qty": Decimal(2), "price": Decimal(10), "quote": "USDT",
        "venue": "v", "symbol": "S", "purpose": 0, "update_id": 7, "at_mono_ns": 10, **fields,
    }  # fmt: skip


def test_books_that_had_been_overtaken_for_too_long() -> None:
    versions = [
        ["v", "S", 7, 0, 5, 1, 1, 2, 1],
        ["v", "S", 8, 0, 1_000_000, 1, 1, 2, 1],
        ["v", "X", 9, 0, 0, 1, 1, 2, 1],
    ]
    assert checker.stale_ns([intent(at_mono_ns=4_000_000)], versions) == [(3_000_000, "a1")]
    assert checker.stale_ns([intent(update_id=8, at_mono_ns=4_000_000)], versions) == [(0, "a1")]
    assert [row["invariant"] for row in checker.check_fresh([intent(at_mono_ns=4_000_000)], versions, 2)] == ["I8"]
    assert checker.check_fresh([intent(at_mono_ns=4_000_000, purpose=1)], versions, 2) == []


def test_an_order_names_a_book_that_its_venue_had_published_before() -> None:
    versions = [["v", "S", number, 0, at_ns, 1, 1, 2, 1] for number, at_ns in ((7, 5), (8, 20), (12, 40))]
    fine = [intent(), intent(update_id=8, at_mono_ns=20), intent(update_id=13, purpose=1), intent(update_id=3)]
    fine.append(intent(update_id=10, at_mono_ns=20))  # a snapshot between two updates
    assert checker.check_published(fine, versions) == []
    for wrong, said in (
        (intent(update_id=8, at_mono_ns=19), "a1 on v S u 8: published later"),
        (intent(update_id=10, at_mono_ns=19), "a1 on v S u 10: published later"),
        (intent(update_id=13, at_mono_ns=10**12), "a1 on v S u 13: published never"),
        (intent(symbol="X"), "a1 on v X u 7: published never"),
    ):
        (row,) = checker.check_published([*fine, wrong], versions)
        assert (row["invariant"], row["text"]) == ("I8", said)


def test_fills_far_from_the_market() -> None:
    rows = [
        {"kind": "instrument", "venue": "v", "symbol": "S", "tick": "0.5"},
        {"kind": "fill", "venue": "v", "symbol": "S", "side": "sell", "price": "49", "mono_ns": 10, "trade_id": 1,
         "client_id": "a1"},
    ]  # fmt: skip
    versions = [["v", "S", 7, 0, 5, 100, 1, 102, 1], ["v", "S", 8, 0, 20, 98, 1, 99, 1]]
    assert checker.check_collar(rows, versions, Decimal(200)) == []
    assert [row["invariant"] for row in checker.check_collar(rows, versions, Decimal(199))] == ["I10"]
