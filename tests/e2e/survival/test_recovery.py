"""The judgement of the recovery campaign on made-up records; and one round of it on a whole instance."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord, TakenShare
from pipeline.execution.journal import JournalEntry
from pipeline.execution.records import OperationRecord, OrderIntentRecord, OrderStateRecord, Purpose
from pipeline.model.enums import InstrumentKind, OpportunityType, OrderKind, OrderSide, OrderState, TimeInForce
from tests.campaigns.outlives.halts import Halted, goals_of
from tests.campaigns.recovery import (
    DECIDED,
    DECIDED_DEPOSIT,
    FIGURES,
    GOAL_MS,
    TWICE_LOST,
    VENUES,
    Decision,
    Measured,
    decisions,
    order_history,
    run,
    unproven,
    untrue,
)
from tests.paths import REPO
from tests.worlds.judging.naked_spans import naked_times
from tests.worlds.judging.world_acts import acts, left_ms, noticed, taken
from workers.kills.verdict import all_met, verdict

MS, D = 1_000_000, Decimal
SENT_MS = 5000
WINDOW_MS = 1000


def entry(seq: int, at_ms: int, record: Any) -> JournalEntry:
    return JournalEntry(
        seq=seq, type=0, mono_ns=at_ms * MS, wall_ns=(SENT_MS + at_ms) * MS, boot_epoch=1, record=record
    )


def intent(name: str) -> OrderIntentRecord:
    return OrderIntentRecord(
        client_id=name,
        operation_id=f"{name}-operation",
        leg=0,
        purpose=Purpose.ENTRY,
        instrument_id=1,
        venue="mexc_spot",
        symbol="BTCUSDT",
        kind=InstrumentKind.SPOT,
        base="BTC",
        quote="USDT",
        side=OrderSide.BUY,
        order_kind=OrderKind.LIMIT,
        tif=TimeInForce.IOC,
        qty=D(1),
        price=D(1),
        reduce_only=False,
        multiplier=D(1),
        expiry_wall_ms=SENT_MS + 100 + WINDOW_MS,
        reserve_asset="USDT",
        reserve_amount=D(1),
        book_seq=1,
        update_id=1,
    )


def state(name: str, word: OrderState) -> OrderStateRecord:
    return OrderStateRecord(name, "", word, None, None, 0, 0, "local", "no answer")


JOURNAL = [
    entry(1, 100, intent("before")),
    entry(2, 110, state("before", OrderState.UNKNOWN)),
    entry(3, 120, state("before", OrderState.EXPIRED)),
    entry(4, 100, intent("lost")),
    entry(5, 100, intent("known")),
    entry(6, 105, state("known", OrderState.FILLED)),
    entry(7, 150, state("lost", OrderState.UNKNOWN)),
    entry(8, 12_000, state("lost", OrderState.EXPIRED)),
    entry(9, 12_500, state("lost", OrderState.EXPIRED)),
    entry(10, 100, intent("open")),
    entry(11, 150, state("open", OrderState.UNKNOWN)),
]


def test_orders_in_doubt_are_those_that_were_unknown_with_the_first_word_that_ended_it() -> None:
    found = decisions(JOURNAL[3:], 0)
    assert found.keys() == {"lost", "open"}
    lost = found["lost"]
    assert (lost.began_ns, lost.decided_ns, lost.state) == (100 * MS, 12_000 * MS, OrderState.EXPIRED)
    assert lost.window_ms == WINDOW_MS and found["open"].decided_ns == 0
    assert lost.after_window_ms == 12_000 - 100 - WINDOW_MS, "an order of a longer window does not lend it to others"
    assert decisions(JOURNAL, 100 * MS) == {}, "intended before"
    lines = order_history(
        [{"kind": "fill", "client_id": "lost", "qty": "1", "mono_ns": 90 * MS}], JOURNAL, 0, {"lost-operation"}
    )
    assert [line.split(" ms ")[1].split()[1] for line in lines] == ["fills", "lost", "UNKNOWN", "EXPIRED", "EXPIRED"]


@pytest.mark.parametrize(
    ("word", "filled", "wrong"),
    [
        (OrderState.EXPIRED, False, False),
        (OrderState.EXPIRED, True, True),
        (OrderState.FILLED, True, False),
        (OrderState.FILLED, False, True),
    ],
)
def test_what_was_decided_is_held_against_the_ledger(word: OrderState, filled: bool, wrong: bool) -> None:
    ledger = [{"kind": "request", "client_id": "lost"}] + [{"kind": "fill", "client_id": "lost"}] * filled
    assert bool(untrue(Decision(intent("lost"), 1000.0, 0, 1, word), ledger)) == wrong


def operation(name: str, closes: str = "") -> OperationRecord:
    return OperationRecord(
        name, 0, OpportunityType.SPOT_SPOT, "BTC/USDT", (), 0.0, 0.0, 0, D(1), 0, 0, 0, 0, False, closes
    )


def test_a_hedge_with_an_unknown_order_is_not_proven_before_that_is_decided() -> None:
    begun = [operation("hedge"), operation("lost-operation", "hedge"), operation("guards", "hedge")]
    rows = [*JOURNAL, *(entry(20 + n, 90, one) for n, one in enumerate([*begun, operation("open-operation")]))]
    assert unproven(rows, 1000 * MS, "open") == {"hedge", "lost-operation", "guards"}, "the one in flight is refused"
    assert unproven(rows, 1000 * MS, "lost") == {"open-operation"}
    assert unproven(rows, 12_001 * MS, "open") == set(), "decided"


def test_what_is_rare_is_judged_where_it_was_seen() -> None:
    measured = Measured(judged=True)
    assert TWICE_LOST not in {goal.name for goal in measured.goals(["lost"])}
    measured.goals_ms[TWICE_LOST] = 13_000.0
    measured.add(TWICE_LOST, 14_000.0)
    assert [goal.met for goal in measured.goals(["lost"]) if goal.name == TWICE_LOST] == [False]


def test_a_missed_goal_is_named_and_a_figure_that_was_not_seen_is_no_success() -> None:
    measured = Measured()
    measured.goals_ms[DECIDED] = 13_000.0
    measured.add(DECIDED, 12_000.0, 12_900.0)
    measured.add("naked, nothing hurt", *[10.0] * 99, 5000.0)
    assert measured.missed() == []
    measured.add("naked, nothing hurt", 4000.0)
    assert measured.missed() == ["naked, nothing hurt"] and "MISSED" in measured.text()
    measured.add("halt in force, by the shell")
    assert "halt in force, by the shell" in measured.missed()
    assert set(measured.fields()["goals_ms"]) == {DECIDED, "naked, nothing hurt", "halt in force, by the shell"}


def test_the_times_in_which_a_sum_is_beyond_what_may_be_left() -> None:
    rows = [(10, {"BTC": D(1)}), (20, {"BTC": D(-1)}), (30, {"ETH": D("0.1")}), (40, {"BTC": D(2)})]
    assert list(naked_times(rows, {"ETH": D("0.1")}, 50)) == [(10, 20), (40, 50)]


@pytest.mark.e2e
@pytest.mark.slice
def test_a_round_of_ends_is_measured_and_ends_as_the_ledger_says() -> None:
    measured = run(1, ["ends"])
    assert measured.wrong == []
    assert {name: len(found) for name, found in measured.values_ms.items()} == {
        "feed READY after its end": 2,
        "detector READY after its end": 1,
        "executor READY after its end": 1,
    }
    assert measured.values_ms.keys() <= GOAL_MS.keys() and all(all(found) for found in measured.values_ms.values())


@pytest.mark.e2e
@pytest.mark.slice
def test_an_executor_starts_on_twenty_thousand_operations_as_on_none() -> None:
    """Where each operation stayed in memory, this many took 12 s and 500 MB; how soon it is READY is for ``bench``."""
    command = [sys.executable, "-m", "bench.growth", "--operations", "20000"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout[: done.stdout.index("\nVERDICT")])
    assert len(found["executor"]) == 3, "READY each time, by a SIGKILL between them"
    for fold in (found["fold"], found["fold_after"]):
        assert fold["first_fill_known"] and not fold["another_known"] and not fold["problems"]
        assert fold["operations"] >= 20_000 > 100 * fold["in_memory"], "settled operations have left memory"
        assert fold["replayed"] < found["life"]["records"] / 5, "from a checkpoint"
    assert max(one["peak_mb"] for one in (found["fold"], found["fold_after"], *found["executor"])) < 400


@pytest.mark.e2e
@pytest.mark.slice
def test_lost_requests_with_the_windows_as_given_are_decided_also_beside_a_deposit() -> None:
    """A request of each venue is lost, then again with a deposit of its coin before it is decided. How fast, with which
    leg alone for how long, is for a quiet host (``tests.campaigns.recovery``); decided and true it is on any."""
    measured = run(1, ["lost"])
    assert measured.wrong == [] and measured.judged
    assert all(len(measured.values_ms[figure]) >= len(VENUES) for figure in (DECIDED, DECIDED_DEPOSIT))


def test_an_entry_after_the_latch_is_a_missed_goal() -> None:
    in_time, late = Halted(0, 120.0, 800.0, 40.0), Halted(0, 120.0, 800.0, 90.0)
    assert all_met(goals_of(2, 2, [], [in_time]))
    line = verdict("outlives", goals_of(2, 2, [], [in_time, late]))
    assert line.startswith(
        "VERDICT outlives: 3 of 4 goals met; missed: last entry after the latch (at most 90.0 of 50 ms)"
    )
    assert [goal.met for goal in goals_of(2, 2, [], [Halted(0, 250.0, 1200.0)])] == [True, False, False, True]


def test_a_measurement_that_is_cut_says_what_it_has_seen_and_what_it_has_not() -> None:
    measured = Measured()
    measured.add("naked, nothing hurt", 12.0)
    line = verdict("recovery", measured.goals(["calm", "halt"]), cut=True)
    assert line.startswith("VERDICT recovery: cut, 1 of 4 goals met; missed: none; not seen: halt in force, from its")
    assert line.count("\n") == 0 and "naked, nothing hurt (p99 12 of 1000 ms)" in line
    assert {name for names in FIGURES.values() for name in names} == {*GOAL_MS, DECIDED, DECIDED_DEPOSIT}


def taken_fill(trade_id: str, qty: str, taken: tuple[TakenShare, ...]) -> ExternalFillRecord:
    return ExternalFillRecord(
        venue="gateio_futures",
        symbol="BTC_USDT",
        trade_id=trade_id,
        order_id="7",
        client_id="",
        instrument_id=1,
        kind=InstrumentKind.PERPETUAL,
        base="BTC",
        quote="USDT",
        side=OrderSide.BUY,
        qty=D(qty),
        price=D(1),
        fee=D(0),
        fee_asset="USDT",
        cause="liquidation",
        witness="liquidates 7",
        venue_wall_ms=0,
        recv_mono_ns=0,
        taken=taken,
    )


def test_what_the_world_did_is_timed_by_the_stamps_of_the_venues() -> None:
    """The hedge of ``spot`` and ``short`` loses its short leg at 1 s; that is noticed 0.5 s later, its spot leg is sold
    at 3 s. A deposit is like an earlier one, whose record is not its own."""
    legs = {"spot": ("mexc_spot", OrderSide.BUY, 0), "short": ("gateio_futures", OrderSide.SELL, 0)}
    legs["repair"] = ("mexc_spot", OrderSide.SELL, 3000)
    fill = {"kind": "fill", "uid": "u", "symbol": "BTC_USDT", "qty": "1", "price": "1"}
    rows = [
        {**fill, "mono_ns": at * MS, "client_id": name, "venue": venue, "side": side.name.lower(), "trade_id": name}
        for name, (venue, side, at) in legs.items()
    ]
    forced = {**fill, "mono_ns": 1000 * MS, "client_id": "", "venue": "gateio_futures", "side": "buy", "trade_id": "9"}
    came = {"kind": "entry", "reason": "deposit", "venue": "mexc_spot", "mono_ns": 2000 * MS}
    ledger = [*rows, forced, {**came, "postings": [["user:u", "USDT", "50.0"], ["external", "USDT", "-50.0"]]}]
    flow = ExternalFlowRecord("mexc_spot", "USDT", D(50), "deposit", "deposits 1", 0)
    journal = [
        *(entry(n, 0, replace(intent(name), operation_id="hedge", base="BTC")) for n, name in enumerate(legs)),
        entry(4, 500, flow),
        entry(5, 1500, taken_fill("9", "1", (TakenShare("hedge", D(1)),))),
    ]
    happened = acts(ledger, frozenset({"u"}), frozenset(legs), 1)
    assert set(happened.values()) == {1000 * MS, 2000 * MS}
    assert noticed(happened, journal) == {("gateio_futures", "BTC_USDT", "9"): 1500 * MS}, "the deposit is not booked"
    assert set(noticed(happened, [*journal, entry(6, 2100, flow)]).values()) == {1500 * MS, 2100 * MS}
    assert taken(happened, journal) == {"hedge"}
    assert left_ms(happened, ledger, journal, 9000 * MS) == {"hedge": 2000.0}
    unsold = [row for row in ledger if row.get("client_id") != "repair"]
    assert left_ms(happened, unsold, journal, 9000 * MS) == {"hedge": 8000.0}, "it still stands alone"
