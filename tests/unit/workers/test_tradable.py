"""The one answer of an instance: what each finding does to it, and the words that every view shows."""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.execution.journal import Journal
from pipeline.model.enums import AccountState, ProcessState
from pipeline.risk.breakers import solve
from pipeline.trade_state import Effect, Reason, TradeState, executor_reasons, ledger_reasons, state_of
from shm.liveness import Liveness, LivenessView
from shm.pages import HaltPage
from tests.worlds.execution_starts import bad_fill, held_world, overfill, ready_world
from tests.worlds.execution_world import World
from workers.executor.publisher import Publisher
from workers.executor_file import read_executor_state, write_executor_state
from workers.halt_file import OPEN, Block, HaltState, latch_on_disk
from workers.last_run.other_journal import BEGUN_ANEW, journal_notes
from workers.pinning import pinning_reasons
from workers.tradable import (
    InstanceReasons,
    account_reasons,
    answer_of,
    books_alone,
    detection_reasons,
    ends_reasons,
    feed_reasons,
    fields,
    halt_reasons,
    page_reasons,
    process_reasons,
    symbol_reasons,
    uncompared_notes,
    utc,
)

VENUES = ("mexc_spot", "gateio_spot", "gateio_futures")
BLOCK = Block(reason="why", by="uid 0 (root)", wall_ns=1_795_902_811_008_533_247)


def state(reasons: list[Reason]) -> TradeState:
    return answer_of(reasons).state


def reason(effect: Effect, what: str = "x") -> Reason:
    return Reason(what=what, solve="y", effect=effect)


def test_the_worst_reason_decides_and_notes_do_not_count() -> None:
    assert state_of([]) is TradeState.READY
    assert state_of([reason(Effect.NOTE)]) is TradeState.READY
    assert state_of([reason(Effect.NOTE), reason(Effect.DEGRADES)]) is TradeState.DEGRADED
    assert state_of([reason(Effect.STOPS), reason(Effect.DEGRADES)]) is TradeState.STOPPED
    assert state_of([reason(Effect.STOPS), reason(Effect.HALTS)]) is TradeState.HALTED


def test_reasons_stand_worst_first_each_once_and_notes_apart() -> None:
    rows = [
        reason(Effect.NOTE, "n"),
        reason(Effect.DEGRADES, "d"),
        reason(Effect.STOPS, "s"),
        reason(Effect.STOPS, "d"),
    ]
    answer = answer_of(rows)
    assert [r.what for r in answer.reasons] == ["s", "d"] or [r.what for r in answer.reasons] == ["d", "s"]
    assert [r.what for r in answer.notes] == ["n"]
    assert answer.text().startswith("stopped: ")


def test_times_are_utc_and_unknown_ones_are_none() -> None:
    assert utc(BLOCK.wall_ns) == "2026-11-28T21:53:31Z"
    assert fields(reason(Effect.NOTE)) == {"what": "x", "since": None, "solve": "y"}


def test_halt_drain_and_blocks() -> None:
    assert halt_reasons(OPEN, list(VENUES), running=True) == []
    halted = HaltState(halted=True, reason="fire", by="uid 0", wall_ns=5)
    assert state(halt_reasons(halted, list(VENUES), running=True)) is TradeState.HALTED
    assert state(halt_reasons(halted, list(VENUES), running=False)) is TradeState.STOPPED
    hung = msgspec.structs.replace(halted, reason="the executor hangs: no beat for 1001 ms")
    (found,) = halt_reasons(hung, list(VENUES), running=True)
    assert found.solve.startswith("arb resume --reason R; ") and "guard.hung_after_ms" in found.solve
    assert "loaded host" in found.solve and "hung" not in halt_reasons(halted, [], running=True)[0].solve
    drained = msgspec.structs.replace(OPEN, drain=BLOCK)
    (found,) = halt_reasons(drained, list(VENUES), running=True)
    assert (found.effect, found.solve) == (Effect.STOPS, "arb resume --reason R")
    one = msgspec.structs.replace(OPEN, venues={"mexc_spot": BLOCK})
    assert state(halt_reasons(one, list(VENUES), running=True)) is TradeState.DEGRADED
    two = msgspec.structs.replace(OPEN, venues={"mexc_spot": BLOCK, "gateio_spot": BLOCK})
    assert state(halt_reasons(two, list(VENUES), running=True)) is TradeState.STOPPED


@pytest.mark.parametrize(
    ("bad", "wanted"),
    [
        ((), TradeState.READY),
        (("executor",), TradeState.STOPPED),
        (("guard",), TradeState.STOPPED),
        (("detector",), TradeState.STOPPED),
        (("poller",), TradeState.STOPPED),
        (("recorder",), TradeState.DEGRADED),
        (("feed.mexc",), TradeState.DEGRADED),
        (("feed.mexc", "feed.gateio"), TradeState.STOPPED),
    ],
)
def test_dead_processes(instance: str, bad: tuple[str, ...], wanted: TradeState) -> None:
    names = ("guard", "executor", "detector", "poller", "recorder", "feed.mexc", "feed.gateio", "supervisor")
    pages = {name: Liveness.create(instance, name) for name in names if name not in bad}
    for page in pages.values():
        page.set_state(ProcessState.READY)
        page.beat()
    views = LivenessView.attach_all(instance)
    described = {"state": "ready", "processes": {name: {} for name in names if name != "supervisor"}}
    now_ns = max(view.beat_mono_ns for view in views.values())
    found = process_reasons(described, views, now_ns)
    assert state(found) is wanted
    assert {name for name in bad if not any(f"process {name} is not running" in r.what for r in found)} == set()
    later = process_reasons(described, views, now_ns + 10_000_000_000)
    assert sum("hangs since 10 s" in r.what for r in later) == len(pages)
    failed = {"state": "failed", "processes": {"detector": {"state": "failed", "status": "exit code 1"}}}
    (storm, *_) = process_reasons(failed, views, now_ns)
    assert "has failed and is not started again (exit code 1)" in storm.what and storm.solve.startswith("arb resume")
    for page in pages.values():
        page.close()


def test_a_start_says_that_it_is_one() -> None:
    found = process_reasons({"warming": "2 of 6 done"}, {}, 0)
    assert [r.what for r in found] == ["starting: compiling kernels, 2 of 6 done"]
    waiting = {"state": "starting", "processes": {"feed.gateio": {}, "executor": {}, "guard": {"state": "failed"}}}
    assert [r.what for r in process_reasons(waiting, {}, 0)] == [
        "process guard has failed and is not started again: no lease is granted",
        "starting",
    ]
    assert state(found) is TradeState.STOPPED


def test_feeds_and_venues() -> None:
    rows: dict[str, dict[str, Any]] = {venue: {} for venue in VENUES}
    up = {f"{venue}.{what}": 1 for venue in VENUES for what in ("connected", "books_whole")}
    assert feed_reasons(rows, up) == [] == feed_reasons(rows, {})
    (found,) = feed_reasons(rows, {**up, "mexc_spot.connected": 0})
    assert (found.what, found.effect) == ("feed of mexc_spot: no stream is connected", Effect.DEGRADES)
    down = {**up, "mexc_spot.books_whole": 0, "gateio_spot.connected": 0}
    assert state(feed_reasons(rows, down)) is TradeState.STOPPED
    unread = {**rows, "mexc_spot": {"reachable": False}}
    for counters in ({}, {**up, "mexc_spot.connected": 0}, {**up, "mexc_spot.books_whole": 0}):
        (found,) = feed_reasons(unread, counters)
        assert "unreachable" in found.what and found.effect is Effect.DEGRADES
    (note,) = feed_reasons(unread, up)
    assert note.effect is Effect.NOTE, "it trades on what was read before"
    assert note.what == "venue mexc_spot: its instruments could not be read anew, the last ones count"


def test_books_that_are_not_compared_with_their_tickers_are_a_note() -> None:
    assert uncompared_notes(VENUES, {"mexc_spot.uncompared": 0}) == []
    (note,) = uncompared_notes(VENUES, {"mexc_spot.uncompared": 2, "other_spot.uncompared": 1})
    assert note.what.startswith("feed of mexc_spot: 2 books are not compared") and note.effect is Effect.NOTE
    assert "by itself" in note.solve and "log/feed.mexc.log" in note.solve


def test_a_venue_whose_books_alone_are_read_neither_keeps_trading_up_nor_stops_it() -> None:
    rows: dict[str, dict[str, Any]] = {venue: {"trade": venue != "mexc_spot"} for venue in VENUES}
    up = {f"{venue}.connected": 1 for venue in VENUES}
    assert state(feed_reasons(rows, {**up, "mexc_spot.connected": 0})) is TradeState.DEGRADED
    assert state(feed_reasons(rows, {**up, "gateio_spot.connected": 0})) is TradeState.STOPPED
    (note,) = books_alone({"venues": rows})
    assert (note.effect, note.solve) == (Effect.NOTE, "exchanges.mexc.trade: true, and a start")
    assert note.what == "venue mexc_spot: its books are read, nothing is traded there"


def test_detection_that_is_off_is_a_note() -> None:
    assert detection_reasons({}) == detection_reasons({"looks_for_entries": 1}) == []
    (off,) = detection_reasons({"looks_for_entries": 0})
    assert off.effect is Effect.NOTE and "detection is off" in off.what and "reload" in off.solve
    assert state([off]) is TradeState.READY


def test_a_journal_that_is_not_the_one_recorded_before_is_a_note() -> None:
    assert journal_notes({}) == journal_notes({BEGUN_ANEW: 0}) == []
    (other,) = journal_notes({BEGUN_ANEW: 1})
    assert other.effect is Effect.NOTE and "recorded from its beginning" in other.what
    assert state([other]) is TradeState.READY


def test_a_rate_limit_is_a_note_and_a_refused_key_is_not() -> None:
    assert account_reasons(dict.fromkeys(VENUES, 1)) == []
    paused = account_reasons({**dict.fromkeys(VENUES, 1), "mexc_spot": AccountState.PAUSED})
    assert state(paused) is TradeState.READY and paused[0].effect is Effect.NOTE
    assert state(account_reasons(dict.fromkeys(VENUES, AccountState.PAUSED))) is TradeState.STOPPED
    refused = account_reasons({**dict.fromkeys(VENUES, 1), "mexc_spot": AccountState.REFUSED})
    assert state(refused) is TradeState.DEGRADED and "key refused" in refused[0].what
    (unsettled,) = account_reasons({**dict.fromkeys(VENUES, 1), "mexc_spot": AccountState.UNSETTLED})
    assert "modes are not known" in unsettled.what and state([unsettled]) is TradeState.DEGRADED
    (failing,) = account_reasons({**dict.fromkeys(VENUES, 1), "mexc_spot": AccountState.FAILING})
    assert failing.solve.endswith("stands in log/poller.log"), "whether it ends by itself depends on the answer"
    assert state(account_reasons({**dict.fromkeys(VENUES, AccountState.FAILING), "mexc_spot": 1})) is TradeState.STOPPED


# --- what the executor says, and what is left of it ---


def published(folder: Path, *, stopped: bool) -> None:
    world = held_world()
    world.core.context.now = world.now()
    write_executor_state(folder, Publisher(world.core, folder, lambda level, text: None).state(stopped=stopped))


def test_what_is_published_is_read_back_as_it_was_said(tmp_path: Path) -> None:
    world = ready_world()
    world.feed(world.offer("gateio_spot", "gateio_futures", Decimal(2540)))
    world.run(300)
    world.core.context.now = world.now()
    said = Publisher(world.core, tmp_path, lambda level, text: None).state()
    write_executor_state(tmp_path, said)
    heard = read_executor_state(tmp_path)
    assert heard is not None
    assert heard.reasons == said.reasons == executor_reasons(world.core)
    assert heard.operations == said.operations
    assert "E+" not in (tmp_path / "executor.json").read_text(), "quantities are plain decimals"


def test_a_stopped_instance_still_says_what_will_stand_in_its_way(instance: str, tmp_path: Path) -> None:
    world = held_world()
    world.core.context.trip("unknown_past", "test")
    world.core.context.now = world.now()
    write_executor_state(tmp_path, Publisher(world.core, tmp_path, lambda level, text: None).state(stopped=True))
    reasons = InstanceReasons(instance, tmp_path)
    answer = reasons.answer({"state": "stopped", "config": "/etc/main.yaml"}, running=False)
    assert answer.state is TradeState.STOPPED
    whats = [r.what for r in answer.reasons]
    assert "the instance does not run" in whats
    assert any(what.startswith("breaker recovery_hold") for what in whats)
    assert any(what.startswith("breaker unknown_past") for what in whats)
    assert next(r.solve for r in answer.reasons if "does not run" in r.what) == "arb up --config /etc/main.yaml"


def test_after_a_crash_the_journal_speaks(instance: str, tmp_path: Path) -> None:
    """No word of the executor at all: its journal is replayed."""
    world = held_world()
    journal = Journal.open(tmp_path / "journal")
    for entry in world.entries:
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
    journal.close()
    answer = InstanceReasons(instance, tmp_path).answer({"state": "ready"}, running=False)
    whats = [r.what for r in answer.reasons]
    assert "its supervisor ended without an orderly stop" in whats
    assert any(what.startswith("breaker recovery_hold") for what in whats)
    assert any("waits for an operator" in what for what in whats)


@pytest.mark.parametrize(("up", "first"), [(ProcessState.READY, "arb resume --adopt"), (ProcessState.STARTING, "arb")])
def test_what_can_be_adopted_stands_above_the_latch_that_an_adoption_releases(
    up: ProcessState, first: str, instance: str, tmp_path: Path
) -> None:
    """From top to bottom each command works at its moment: nothing is adopted before the executor is READY."""
    world = ready_world()
    world.core.context.trip("unknown_past", "test")
    world.core.context.now = world.now()
    write_executor_state(tmp_path, Publisher(world.core, tmp_path, lambda level, text: None).state())
    latch_on_disk(tmp_path, "the executor hangs", by="guard")
    page = Liveness.create(instance, "executor")
    page.set_state(up)
    page.beat()
    answer = InstanceReasons(instance, tmp_path).answer({"state": "ready", "processes": {"executor": {}}}, running=True)
    page.close()
    solves = [reason.solve for reason in answer.reasons if reason.effect is Effect.HALTS]
    assert len(solves) == 2 and solves[0].startswith(first)
    assert solves[0].startswith("arb resume --reason R") is (up is not ProcessState.READY)


def test_a_halt_on_the_disk_is_said_without_a_process(instance: str, tmp_path: Path) -> None:
    latch_on_disk(tmp_path, "look at the feeds", by="uid 7 (ann)")
    answer = InstanceReasons(instance, tmp_path).answer({}, running=False)
    assert any("look at the feeds" in r.what for r in answer.reasons)


def test_every_breaker_names_the_command_that_solves_it() -> None:
    for name in ("recovery_hold", "daily_loss", "venue.mexc_spot", "fee.mexc_spot.BTCUSDT", "overfill"):
        assert f"arb breakers --rearm {name} --reason R" in solve(name)


@pytest.mark.parametrize("trips", [overfill, bad_fill])
def test_a_fill_that_cannot_be_true_names_the_trail_of_its_operation(trips: Callable[[], World]) -> None:
    ledger = trips().core.ledger
    (operation,) = ledger.open_operations
    (reason,) = ledger_reasons(ledger)
    assert f"arb why {operation})" in reason.solve and "arb breakers --rearm" in reason.solve


def test_an_absent_core_is_a_reason() -> None:
    own = sorted(os.sched_getaffinity(0))
    rows = {
        "feed.x": {"cpus": [*own, 4093], "pid": os.getpid()},
        "detector": {"cpus": own, "pid": os.getpid()},
        "executor": {"cpus": [], "pid": os.getpid()},
        "poller": {"cpus": [4093], "pid": 0},
    }
    (found,) = pinning_reasons({"processes": rows})
    assert (
        found.effect is Effect.DEGRADES and "feed.x" in found.what and "4093" in found.what and "nproc" in found.solve
    )


def test_a_halted_instrument_is_a_note_with_its_cause_and_the_command() -> None:
    halted = {"mexc_spot BTCUSDT": "suspended by the venue", "gateio_spot ETH_USDT": "tick, lot or multiplier changed"}
    answer = answer_of(symbol_reasons({"halted_symbols": halted}))
    assert answer.state is TradeState.READY and [note.what for note in answer.notes] == [
        "mexc_spot BTCUSDT is halted: suspended by the venue",
        "gateio_spot ETH_USDT is halted: tick, lot or multiplier changed",
    ]
    assert answer.notes[1].solve.startswith("arb symbols add gateio_spot ETH_USDT")
    assert symbol_reasons({}) == []


def test_prices_that_are_too_far_apart_are_a_reason_with_the_command_that_explains_it() -> None:
    answer = answer_of(symbol_reasons({"prices_apart": {"mexc_spot BTCUSDT": "BTC/USDT: prices 6 and 60"}}))
    assert answer.state is TradeState.DEGRADED and "mexc_spot BTCUSDT" in answer.reasons[0].what
    assert "prices 6 and 60" in answer.reasons[0].what and "arb symbols list" in answer.reasons[0].solve


def test_a_list_of_announced_ends_that_cannot_be_read_is_a_note() -> None:
    answer = answer_of(ends_reasons({"ends_unknown": {"mexc_spot": "HTTP 503"}}))
    assert answer.state is TradeState.READY and answer.notes[0].venues == ("mexc_spot",)
    assert "announced ends" in answer.notes[0].what and "HTTP 503" in answer.notes[0].what
    assert ends_reasons({}) == []


def test_what_the_page_holds_and_a_full_disk_has_not_taken_is_a_reason(instance: str) -> None:
    page = HaltPage.create(instance)
    page.release()
    assert page_reasons(page, OPEN, list(VENUES)) == []
    for number in range(len(VENUES)):
        page.block_venue(number, True)
    (drained,) = page_reasons(page, OPEN, list(VENUES))
    assert (drained.effect, drained.solve) == (Effect.STOPS, "arb resume --reason R")
    assert drained.what.startswith("no new risk is taken at mexc_spot, gateio_spot, gateio_futures")
    assert page_reasons(page, msgspec.structs.replace(OPEN, drain=BLOCK), list(VENUES)) == [], "the disk has it"
    page.block_venue(0, False)
    page.block_venue(1, False)
    assert [reason.effect for reason in page_reasons(page, OPEN, list(VENUES))] == [Effect.DEGRADES]
    page.latch("enough")
    assert page_reasons(page, OPEN, list(VENUES))[0].effect is Effect.HALTS
    page.close()
