"""The guard stands in for a lost executor: real processes on simulated venues, judged by the venues' own ledger."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.execution.core_context import GUARD_ID_PREFIX
from pipeline.execution.journal import read_journal
from pipeline.execution.journal.guard_journal import whole_journal
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import FillRecord, OperationRecord, OrderIntentRecord, StopRecord
from tests.campaigns.outlives.cases import stopped, trades_on, well_again, whole_again
from tests.worlds.instance_rig import (
    PATIENT,
    SHORT_WINDOWS,
    Rig,
    arb,
    asked,
    exposure,
    half_done,
    holds_a_hedge,
    is_judged,
    keeps_a_hedge,
    next_pid,
    running,
    running_pid,
    stand_still,
    state_of,
    taken_over,
    takeover,
)
from tests.worlds.waiting import until
from workers.demo.summary import JournalTotals
from workers.halt_file import read_halt
from workers.last_run.half_done import replayed

pytestmark = [pytest.mark.e2e, pytest.mark.slice]


#: A hang as it is configured by default.
HANGS = {"hung_after_ms": 1000}
STORM_OF_OTHERS = 5  # deaths within a minute, after which a process that is not the guard is given up
STORM_MAX = 40  # deaths: more than a busy host needs to bring five of them into a minute


def guards_orders(rig: Rig) -> list[str]:
    """Ids of what the guard has sent, whether an executor has taken its records over or not."""
    records = [entry.record for entry in whole_journal(rig.engine.state_dir)]
    ids = [record.client_id for record in records if isinstance(record, OrderIntentRecord)]
    return [name for name in ids if name.startswith(GUARD_ID_PREFIX)]


def test_a_hung_executor_is_ended_and_what_it_left_is_closed() -> None:
    with running(guard=HANGS) as rig:
        keeps_a_hedge(rig)  # without an exit that is on its way: the guard has something to send
        pid = running_pid(rig, "executor")
        stand_still(pid)
        os.kill(running_pid(rig, "detector"), signal.SIGCONT)
        known = replayed(rig.engine.state_dir)  # a stopped process writes no more
        assert known is not None and known.hedges
        hedges = set(known.hedges)
        ended = taken_over(rig)  # "flat" only where no order waits for proof after 5 s: the next executor waits by then
        assert set(ended["closed"]) == hedges and not ended["left"]
        assert guards_orders(rig)
        for venue, rows in timers_of_guard(rig).items():  # no other process has sent since: a halted one takes no entry
            assert "arm" in rows, f"a timer from the guard's orders on: {venue}"
        next_pid(rig, "executor", pid, ready=True)
        until(lambda: not hedges & journalled(rig).hedges.keys(), "by the journals, too")
        state = read_halt(rig.engine.state_dir)
        assert state.halted and state.fence is None and "hangs" in state.reason and "the guard sent" in state.reason
        fills = [entry.record for entry in rig.entries() if isinstance(entry.record, FillRecord)]
        assert {f.client_id[0] for f in fills} == {"a", "g"}, "the guard's fills are in the executor's journal"
        well_again(rig)
        is_judged(rig)


def test_a_guard_that_is_killed_in_a_takeover_goes_on() -> None:
    with running(guard=HANGS) as rig:
        holds_a_hedge(rig)
        half_done(rig, "gateio_futures")
        stand_still(running_pid(rig, "executor"))
        until(lambda: bool(guards_orders(rig)) or takeover(rig).get("flat") is not None, "the guard's first order")
        rig.kill("guard")
        until(lambda: read_halt(rig.engine.state_dir).fence is None, "the takeover's end")
        until(rig.engine.all_ready, "every process READY")
        if guards_orders(rig):  # else all had left by itself, and nothing was open
            assert read_halt(rig.engine.state_dir).halted
            rig.resume()
        is_judged(rig)


def test_where_the_feeds_hang_as_well_the_venues_own_snapshots_will_do() -> None:
    with running(detection={"dead_after_ms": 1200}, guard=HANGS) as rig:
        keeps_a_hedge(rig)
        pids = [running_pid(rig, name) for name in ("feed.mexc", "feed.gateio", "executor", "detector")]
        with stopped(rig.engine.pid, *pids[:3]):  # the supervisor too: its watchdog would start other feeds after 10 s
            os.kill(pids[3], signal.SIGCONT)
            known = replayed(rig.engine.state_dir)
            assert known is not None and known.hedges
            ended = taken_over(rig)
        assert ended["flat"] and not ended["left"] and set(ended["closed"]) == set(known.hedges)
        legs = [
            leg
            for entry in whole_journal(rig.engine.state_dir)
            if isinstance(entry.record, OperationRecord)
            and entry.record.closes
            and entry.record.operation_id.startswith(GUARD_ID_PREFIX)
            for leg in entry.record.legs
        ]
        assert legs and all(leg.book_seq == 0 for leg in legs), "no feed's book"
        well_again(rig)
        is_judged(rig)


def test_an_executor_that_does_not_come_back_is_not_waited_for() -> None:
    with running(guard={"restart_within_ms": 2000, **HANGS}) as rig:
        holds_a_hedge(rig)
        second = running_pid(rig, "executor")
        rig.kill("executor")
        while takeover(rig).get("flat") is None and state_of(second) != "T":  # the guard may be sooner than we
            second = next_pid(rig, "executor", second)
            with contextlib.suppress(ProcessLookupError):
                stand_still(second)
        assert not taken_over(rig)["left"]
        next_pid(rig, "executor", second, ready=True)
        well_again(rig)
        is_judged(rig)


def storm(rig: Rig, *others: str) -> None:
    """SIGKILLs until the executor is given up; ``others`` are killed beside it each time."""

    def row() -> dict[str, Any]:
        found: dict[str, Any] = rig.engine.describe()["processes"]["executor"]
        return found

    deaths = 0
    while row()["state"] != "failed":
        deaths += 1
        assert deaths <= STORM_MAX, "a storm that nobody notices"
        pid = row()["pid"]
        for process in ("executor", *others):
            rig.kill(process)
        until(lambda pid=pid: row()["state"] == "failed" or row()["pid"] not in (0, pid), "started again or given up")  # type: ignore[misc]


def test_a_storm_of_the_executor_ends_flat_without_anybody() -> None:
    with running() as rig:
        holds_a_hedge(rig)
        half_done(rig, "gateio_futures")
        storm(rig)
        ended = taken_over(rig)
        assert ended["flat"] and not ended["left"]
        known = JournalTotals(list(whole_journal(rig.engine.state_dir)))
        assert exposure(rig) == known.targets("USDT"), "remainders below every minimum, and nothing else"
        well_again(rig)
        is_judged(rig)


def journalled(rig: Rig) -> Ledger:
    """What both journals say by now."""
    ledger = replayed(rig.engine.state_dir)
    assert ledger is not None
    return ledger


def nothing_is_open(rig: Rig) -> bool:
    """No fence any more, and by both journals no hedge, no operation, no order in doubt."""
    ledger = journalled(rig)
    fence = read_halt(rig.engine.state_dir).fence
    return fence is None and not (ledger.hedges or ledger.open_operations or ledger.unsettled)


def test_a_storm_of_guard_and_executor_ends_flat_without_anybody() -> None:
    with running(guard={"restart_within_ms": 2000}) as rig:
        holds_a_hedge(rig)
        half_done(rig, "gateio_futures")
        storm(rig, "guard")
        for _ in range(4):  # and the guard again and again while it closes
            pid = rig.engine.process_pid("guard")
            rig.kill("guard")
            until(lambda pid=pid: rig.engine.process_pid("guard") not in (0, pid), "the guard started again")  # type: ignore[misc]
        until(lambda: nothing_is_open(rig), "everything closed by a guard that lives")
        known = JournalTotals(list(whole_journal(rig.engine.state_dir)))
        assert exposure(rig) == known.targets("USDT")
        well_again(rig)
        is_judged(rig)


def test_a_storm_of_the_guard_alone_leaves_the_executor_to_end_what_is_half_done() -> None:
    """Killed as soon as it comes, so that no lease is granted: repairs need none, and nothing is given up or halted."""
    with running() as rig:
        holds_a_hedge(rig)
        pid, guards = running_pid(rig, "executor"), set[int]()
        name = half_done(rig, "gateio_futures")
        owner = next(e.record.operation_id for e in rig.entries() if getattr(e.record, "client_id", "") == name)

        def ended() -> bool:
            guards.add(rig.engine.kill("guard"))
            return len(guards - {0}) > STORM_OF_OTHERS and owner in rig.books().results

        until(ended, "the end of what is half done, under a storm of the guard")
        whole_again(rig)
        state = read_halt(rig.engine.state_dir)
        assert not state.halted and state.fence is None and not guards_orders(rig)
        assert rig.engine.process_pid("executor") == pid and rig.breakers() == {}
        trades_on(rig)
        is_judged(rig)


def test_a_commanded_close_goes_on_after_the_guard_has_died_in_it() -> None:
    """Hedges are held as configured; the one that a command names is closed by the next guard all the same."""
    with running(guard={"on_executor_loss": "hold"}) as rig:
        keeps_a_hedge(rig)
        storm(rig)
        assert taken_over(rig)["flat"]
        held = replayed(rig.engine.state_dir)
        assert held is not None
        named = next(iter(held.hedges))
        rig.fault(kind="reject", venue="gateio_futures", target="place", count=0, reason="price_band")
        asked(rig, "guard", op="close", ids=[named], reason="out")
        until(lambda: "rejected" in str(takeover(rig).get("left")), "what keeps it")
        pid = rig.engine.process_pid("guard")
        rig.kill("guard")
        until(lambda: rig.engine.process_pid("guard") not in (0, pid), "the guard started again")
        rig.heal()
        until(lambda: read_halt(rig.engine.state_dir).fence is None, "the takeover's end")
        left = replayed(rig.engine.state_dir)
        assert left is not None and left.hedges.keys() == held.hedges.keys() - {named}
        assert not left.open_operations, "no leg went alone while the other was refused"
        os.kill(running_pid(rig, "detector"), signal.SIGCONT)
        well_again(rig)
        is_judged(rig)


def test_hedges_that_are_held_are_closed_by_command_without_an_executor() -> None:
    with running(guard={"on_executor_loss": "hold"}) as rig:
        keeps_a_hedge(rig)
        storm(rig)
        assert taken_over(rig)["flat"], "no leg without its partner"
        held = replayed(rig.engine.state_dir)
        assert held is not None and held.hedges and not held.open_operations
        done = arb("flatten", "--instance", rig.instance, "--json")
        reply = msgspec.json.decode(done.stdout)
        assert done.returncode == 0 and reply["flat"], (done.stdout, done.stderr)
        assert {row["hedge_id"] for row in reply["hedges"] if row["closed"]} == set(held.hedges)
        os.kill(running_pid(rig, "detector"), signal.SIGCONT)
        known = JournalTotals(list(whole_journal(rig.engine.state_dir)))
        assert exposure(rig) == known.targets("USDT")
        well_again(rig)
        is_judged(rig)


def test_a_stop_closes_hedges_where_that_is_configured() -> None:
    """SIGTERM of the supervisor is what ``arb stop`` and Ctrl-C are."""
    with running(guard={"on_stop": "flatten"}) as rig:
        holds_a_hedge(rig)
        rig.engine.stop()
        ledger = replayed(rig.engine.state_dir)
        assert ledger is not None and not ledger.hedges and not ledger.open_operations
        assert rig.judge() == []
        assert not read_halt(rig.engine.state_dir).halted


@pytest.mark.parametrize("on_stop", ["hold", "flatten"])
def test_a_stop_leaves_nothing_half_done_while_there_is_a_guard(on_stop: str) -> None:
    """An order without an answer takes longer to be proved than the executor has to end: the guard goes on."""
    slow = {**SHORT_WINDOWS["execution"], "unknown_grace_ms": 8000}
    with running(guard={"on_stop": on_stop}, execution=slow) as rig:
        holds_a_hedge(rig)
        rig.fault(kind="drop_request", venue="gateio_futures", target="place", count=2)
        until(lambda: dropped(rig), "an order without an answer")
        os.kill(rig.engine.pid, signal.SIGTERM)  # at once: a command would take a part of the order's wait
        done = arb("stop", "--instance", rig.instance, "--json")
        left = msgspec.json.decode(done.stdout)
        if "error" not in left:  # it had stopped before the command was there
            assert left["open_operations"] == [] and not left["unsettled_orders"], left
        assert rig.engine.stop() == 0
        waited = "the guard ends what is open before it stops" in rig.engine.last_message(1000)
        own = [e.record for e in read_journal(rig.engine.state_dir / "journal") if isinstance(e.record, StopRecord)]
        proved = bool(own) and not own[-1].open_orders  # on a busy host the executor may live to see the proof itself
        assert waited or proved or on_stop == "flatten", "a flatten waits for the proof before it"
        ledger = replayed(rig.engine.state_dir)
        assert ledger is not None and not ledger.open_operations and not ledger.unsettled
        assert on_stop == "hold" or not ledger.hedges
        state = read_halt(rig.engine.state_dir)
        assert state.fence is None and not state.halted, "an orderly stop: the next start trades"
        rig.start_again()
        is_judged(rig)


def test_gateio_has_a_timer_from_each_send_and_none_after_a_planned_stop() -> None:
    with running() as rig:
        gateio = ("gateio_spot", "gateio_futures")
        until(lambda: all(timer_rows(rig, venue).count("arm") > 1 for venue in gateio), "timers on each market")
        is_judged(rig)
        for _ in range(5):  # an executor that ends waits a second for it: a venue without a CPU may be later
            if all("disarm" in timer_rows(rig, venue) for venue in gateio):
                break
            rig.start_again()
            rig.resume()  # from the drain of the end
            trades_on(rig)
            rig.end()
        words = [timer_rows(rig, venue) for venue in gateio]
        assert all(rows[-1] in ("arm", "disarm") for rows in words), "no order after the last timer"
        assert all("disarm" in rows for rows in words), "a timer that has not run out is taken back on each market"


BINANCE_CONTRACTS: dict[str, Any] = {
    "extends": "five_venues",
    "name": "binance_contracts",
    "dislocations": {"rate_per_s": 8, "half_life_ms": 200},
    "exchanges": {"gateio": {"venues": {"futures": {"taker_fee_ppm": 3000}}}},  # hedges have theirs at Binance
    "engine": {"detection": {"hedge": {"expected_exit_basis_bps": "0.5"}}, "guard": PATIENT},
}


def test_binance_has_a_timer_of_each_contract_that_executor_and_guard_send_to(tmp_path: Path) -> None:
    venue = "binance_futures"
    (tmp_path / "scenario.yaml").write_bytes(msgspec.json.encode(BINANCE_CONTRACTS))

    def of_contracts(operation: str) -> set[str]:
        rows = [row for row in rig.ledger() if row["kind"] == "request" and row["venue"] == venue]
        return {row["symbol"] for row in rows if row["operation"] == operation}

    with running(scenario=str(tmp_path / "scenario.yaml"), guard=HANGS) as rig:
        keeps_a_hedge(rig, lambda ledger: any(hedge.futures_venue == venue for hedge in ledger.hedges.values()))
        until(lambda: of_contracts("place") <= of_contracts("countdown"), "timers of what the executor has sent to")
        pid, detector = running_pid(rig, "executor"), running_pid(rig, "detector")
        stand_still(pid)
        os.kill(detector, signal.SIGCONT)
        assert taken_over(rig)["closed"]
        assert "arm" in timers_of_guard(rig, "binance")[venue]
        assert "10000" in {row["detail"]["timeout"] for row in rig.ledger() if row.get("operation") == "countdown"}
        next_pid(rig, "executor", pid, ready=True)
        well_again(rig)
        is_judged(rig)
        for _ in range(5):  # as for Gate.io
            if "disarm" in timer_rows(rig, venue):
                break
            rig.start_again()
            rig.resume()
            trades_on(rig)
            rig.end()
        assert "disarm" in timer_rows(rig, venue), "a timer that has not run out is taken back"


def dropped(rig: Rig) -> bool:
    """Whether a venue has closed a connection on an order that it never saw."""
    return any(row["kind"] == "request" and "drop_request" in row.get("fault", "") for row in rig.ledger())


def word_of(row: dict[str, Any]) -> str:
    """An order, or whether a timer was set or taken back, of a row of the venue's ledger."""
    if row["operation"] != "countdown":
        return str(row["operation"])
    return "disarm" if row["detail"]["timeout"] == "0" else "arm"


def timer_rows(rig: Rig, venue: str) -> list[str]:
    """The orders and timers that ``venue`` was sent, in order."""
    rows = [row for row in rig.ledger() if row["kind"] == "request" and row["venue"] == venue]
    return [word_of(row) for row in rows if row["operation"] in ("place", "countdown")]


def timers_of_guard(rig: Rig, exchange: str = "gateio") -> dict[str, list[str]]:
    """Of each market of ``exchange`` that the guard has sent an order to: orders and timers, from that order on."""
    sent, found = guards_orders(rig), dict[str, list[str]]()
    for row in rig.ledger():
        if row["kind"] != "request" or row["operation"] not in ("place", "countdown"):
            continue
        own = any(row["client_id"].endswith(name) for name in sent)
        if row["venue"] in found or (own and row["venue"].startswith(exchange)):
            found.setdefault(row["venue"], []).append(word_of(row))
    assert f"{exchange}_futures" in found, "each hedge has its contract there"
    return found
