"""The judge finds each kind of lie; a run that is right passes."""

from __future__ import annotations

import signal
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from workers.demo import funding_read
from workers.demo import run_checker as checker
from workers.demo.demo import Interrupt

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


def funding(seq: int, amount: str, mono_ns: int) -> dict[str, Any]:
    taken = Decimal(amount).copy_negate()
    row = entry(seq, ("user:7", "USDT", amount), ("funding", "USDT", str(taken)), reason="fund")
    return {**row, "mono_ns": mono_ns, "ref": "funding:P:1700000000000"}


def paid(amount: str) -> dict[str, Any]:
    return {"record": "FundingRecord", "venue": "v", "symbol": "P", "amount": Decimal(amount), "at_mono_ns": 70}


def test_funding_after_the_stop_is_not_the_engines_to_know() -> None:
    late = funding(9, "-3", 90)
    stopped = [*journal(), {"record": "StopRecord", "at_mono_ns": 80}]
    assert checker.until_stop([*ledger(), late], stopped) == ledger()
    for known in (journal(), [*journal(), {"record": "StopRecord", "at_mono_ns": 95}]):
        assert checker.until_stop([*ledger(), late], known) == [*ledger(), late]
    late_fill = {**ledger()[6], "mono_ns": 99}
    assert checker.until_stop([late_fill], stopped) == [late_fill]


def test_funding_that_comes_while_the_engine_stops_is_read_by_the_next_start() -> None:
    """A host that stands still makes a stop long, and it waits for a few seconds only."""
    stopped = [*journal(), paid("-3"), {"record": "StopRecord", "at_mono_ns": 80}]
    rows = [*ledger(), funding(9, "-3", 65), funding(11, "-5", 75)]
    assert checker.until_stop(rows, stopped, 70) == rows[:-1]
    assert checker.until_stop(rows, stopped) == rows
    assert checker.until_stop(rows, stopped, 76) == rows, "booked before, and not in the journal"
    known = [*stopped[:-1], paid("-5"), stopped[-1]]
    assert checker.until_stop(rows, known, 70) == rows, "the stop has read it"


def test_unread_funding_is_counted_payment_by_payment_and_waited_for_by_looks() -> None:
    rows = [*ledger(), funding(9, "-3", 65), funding(10, "-3.0", 66), funding(11, "0", 67), funding(12, "2", 68)]
    assert [row["seq"] for row in funding_read.unread_funding(rows, [*journal(), paid("-3"), paid("2")])] == [10]
    known = [*journal(), paid("-3")]
    pauses: list[int] = []

    def pause() -> None:
        pauses.append(len(pauses))
        known.append(paid("2") if len(pauses) == 3 else paid("-3"))

    assert funding_read.wait_until_read(lambda: funding_read.unread_funding(rows, known), pause)
    assert len(pauses) == 3
    assert not funding_read.wait_until_read(lambda: rows, lambda: pauses.append(0), looks=5)
    assert len(pauses) == 8


def test_an_interrupt_ends_the_wait_for_funding_though_another_one_has_ended_the_trading() -> None:
    pauses: list[int] = []
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        came_before = interrupt.count

        def pause() -> None:
            pauses.append(len(pauses))
            if len(pauses) == 3:
                signal.raise_signal(signal.SIGINT)

        assert not funding_read.wait_until_read(ledger, pause, is_over=lambda: interrupt.count > came_before)
    assert len(pauses) == 3 and interrupt.requested


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
        "venue": "v", "symbol": "S", "purpose": 0, "update_id": 7, "at_mono_ns": 10,
        "operation_id": "o", "leg": 1, **fields,
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


@pytest.mark.parametrize(("read_ns", "found"), [(19, 1), (20, 0)])
def test_a_book_that_came_between_the_opportunity_and_the_gate_was_published_before_it_was_read(
    read_ns: int, found: int
) -> None:
    versions = [["v", "S", number, 0, at_ns, 1, 1, 2, 1] for number, at_ns in ((7, 5), (8, 20))]
    legs = [SimpleNamespace(book_recv_mono_ns=at_ns) for at_ns in (99, read_ns)]
    operation = {"record": "OperationRecord", "operation_id": "o", "legs": legs}
    rows = [operation, intent(update_id=8, at_mono_ns=19)]
    assert len(checker.check_published(rows, versions)) == found


@pytest.mark.parametrize(("send_ns", "found"), [(19, 1), (20, 0)])
def test_a_snapshot_that_a_slow_venue_answered_had_been_published_before_the_send(send_ns: int, found: int) -> None:
    """Its stamp is that of the question."""
    versions = [["v", "S", number, 0, at_ns, 1, 1, 2, 1] for number, at_ns in ((7, 5), (8, 20))]
    operation = {"record": "OperationRecord", "operation_id": "o", "legs": [SimpleNamespace(book_recv_mono_ns=9)] * 2}
    sent = {"record": "OrderSentRecord", "client_id": "a1", "send_mono_ns": send_ns}
    rows = [operation, intent(update_id=8, at_mono_ns=19), sent]
    assert len(checker.check_published(rows, versions)) == found


def test_fills_far_from_the_market() -> None:
    rows = [
        {"kind": "instrument", "venue": "v", "symbol": "S", "tick": "0.5"},
        {"kind": "fill", "venue": "v", "symbol": "S", "side": "sell", "price": "49", "mono_ns": 10, "trade_id": 1,
         "client_id": "a1"},
    ]  # fmt: skip
    versions = [["v", "S", 7, 0, 5, 100, 1, 102, 1], ["v", "S", 8, 0, 20, 98, 1, 99, 1]]
    assert checker.check_collar(rows, versions, Decimal(200)) == []
    assert [row["invariant"] for row in checker.check_collar(rows, versions, Decimal(199))] == ["I10"]
