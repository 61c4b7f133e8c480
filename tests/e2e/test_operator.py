"""An operator on a running instance, with documented commands only: what stops it is seen, said and solved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.command_line import assert_contract
from tests.worlds.instance_rig import SEEDS, Rig, asked, ready_rig, running_pid, stand_still
from tests.worlds.waiting import until
from workers.halt_file import latch_on_disk, read_halt
from workers.view.status import read_status

pytestmark = pytest.mark.e2e


@pytest.fixture(params=SEEDS)
def running(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A READY instance on the demo's venues, on the markets of several seeds."""
    with ready_rig(seed=request.param) as rig:
        yield rig


def arb(rig: Rig, *arguments: str) -> tuple[int, dict[str, Any]]:
    """(exit code, the one object) of a command with ``--json`` on this instance."""
    done = subprocess.run(
        [sys.executable, "-m", "workers", *arguments, "--instance", rig.instance, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.count("\n") == 1, (arguments, done.stdout, done.stderr)
    return done.returncode, msgspec.json.decode(done.stdout)


def traded(rig: Rig) -> int:
    return int(read_status(rig.instance)["orders"].get("entries", 0))


def trades_again(rig: Rig) -> None:
    seen = traded(rig)
    until(lambda: traded(rig) > seen, "another entry")


def whats(reply: dict[str, Any], key: str = "reasons") -> str:
    return "\n".join(row["what"] for row in reply[key])


def supervisor_said(rig: Rig) -> str:
    return (rig.engine.state_dir / "log" / "supervisor.log").read_text(encoding="utf-8", errors="replace")


def test_a_venue_that_refuses_orders_is_seen_and_solved(running: Rig) -> None:
    """users.md 5.1: the breaker, the held recovery behind it, and the way out by commands."""
    trades_again(running)

    def ready() -> bool:
        code, reply = arb(running, "status")
        return (code, reply["state"], reply["reasons"]) == (0, "ready", [])

    until(ready, "ready, with no reason")
    running.fault(kind="reject", venue="mexc_spot", target="place", reason="not_permitted", count=0)
    until(lambda: "venue.mexc_spot" in whats(read_status(running.instance)), "the breaker in the status")
    code, reply = arb(running, "status")
    assert code == 1 and reply["state"] in ("degraded", "stopped")
    (row,) = [row for row in reply["reasons"] if row["what"].startswith("breaker venue.mexc_spot: ")]
    assert row["since"] and row["solve"] == "arb breakers --rearm venue.mexc_spot --reason R"
    until(lambda: "breaker venue.mexc_spot" in supervisor_said(running), "arb up says it")

    def not_released() -> bool:
        code, reply = arb(running, "resume", "--reason", "is that all?")
        return code == 1 and "venue.mexc_spot" in whats(reply, "blocking")

    until(not_released, "resume says what it does not release")
    running.heal()

    def solved() -> bool:
        for breaker in arb(running, "breakers")[1]["breakers"]:
            if breaker["name"] != "recovery_hold":
                arb(running, "breakers", "--rearm", breaker["name"], "--reason", "the venue takes orders again")
        for recovery in arb(running, "recoveries")[1]["recoveries"]:
            if recovery["requires_manual_approval"]:
                arb(running, "recoveries", "--approve", recovery["recovery_id"], "--reason", "go on")
        return arb(running, "status")[0] == 0

    until(solved, "ready again")
    trades_again(running)
    until(lambda: arb(running, "breakers") == (0, {"breakers": [], "live": True}), "no breaker is tripped")
    audit = (running.engine.state_dir / "audit.jsonl").read_bytes().splitlines()
    rows = [msgspec.json.decode(line) for line in audit]
    rearmed = next(row for row in rows if row["op"] == "rearm" and row["name"] == "venue.mexc_spot")
    assert rearmed["reason"] == "the venue takes orders again" and rearmed["by"].startswith(f"uid {os.geteuid()}")


def test_a_drain_survives_the_guard_and_a_hung_guard_obeys_the_disk(running: Rig) -> None:
    trades_again(running)
    asked(running, "supervisor", op="drain", reason="maintenance")
    before = running.engine.process_pid("guard")
    running.engine.kill("guard")
    until(lambda: running.engine.process_pid("guard") not in (0, before) and running.engine.all_ready(), "guard back")
    code, reply = arb(running, "status")
    assert (code, reply["state"]) == (1, "stopped") and "maintenance" in whats(reply)
    refused = read_status(running.instance)["opportunities"]["refused"].get("venue_blocked", 0)
    seen = traded(running)
    until(
        lambda: read_status(running.instance)["opportunities"]["refused"].get("venue_blocked", 0) > refused,
        "opportunities refused by the drain",
    )
    assert traded(running) == seen
    reply = arb(running, "resume", "--reason", "over")[1]
    assert "maintenance" not in str(reply["blocking"])  # a busy host may name a book that is old for the moment
    trades_again(running)
    guard = running_pid(running, "guard")
    try:
        stand_still(guard)
        latch_on_disk(running.engine.state_dir, "while the guard hangs", by="uid 7 (ann)")
    finally:
        os.kill(guard, signal.SIGCONT)
    until(lambda: bool(read_status(running.instance)["risk"]["latched"]), "the page obeys the disk")
    seen = traded(running)
    detected = read_status(running.instance)["opportunities"]["detected"]
    until(lambda: read_status(running.instance)["opportunities"]["detected"] > detected + 10, "more episodes")
    assert traded(running) == seen
    code, reply = arb(running, "status")
    assert (code, reply["state"], reply["halt_reason"]) == (1, "halted", "while the guard hangs")
    assert arb(running, "resume", "--reason", "over")[1]["halted"] is False


def hedged(rig: Rig) -> None:
    until(lambda: bool(read_status(rig.instance)["hedges"]), "an open hedge")


def test_hedges_are_shown_closed_and_flattened(running: Rig) -> None:
    hedged(running)
    code, reply = arb(running, "hedges")
    assert_contract("hedges", reply)
    assert code == 0
    code, dry = arb(running, "close", "--all", "--dry-run")
    assert_contract("close", dry)
    assert dry["dry_run"] is True
    code, reply = arb(running, "close", "nosuch")
    assert code == 2 and "nosuch" in reply["error"]
    code, reply = arb(running, "balance")
    assert_contract("balance", reply)
    assert {"venue", "asset", "total", "free", "reserved", "target"} <= reply["balances"][0].keys()
    assert code == 0 and isinstance(reply["proposals"], list)

    def flat() -> bool:
        code, reply = arb(running, "flatten", "--reason", "going home")
        if "error" in reply:  # a guard or an executor that stands still answers the next one
            return False
        assert_contract("flatten", reply)
        assert (code == 0) == reply["flat"]
        assert all(row["closed"] for row in reply["hedges"]) or not reply["flat"], reply["hedges"]
        return bool(reply["flat"] and reply["drained"])

    until(flat, "everything at its target")
    code, reply = arb(running, "status")
    assert_contract("status", reply)
    assert (code, reply["state"], reply["hedges"]) == (1, "stopped", []) and "going home" in whats(reply)
    assert arb(running, "positions")[1]["positions"] == []
    assert "going home" not in str(arb(running, "resume", "--reason", "back")[1]["blocking"])
    assert read_halt(running.engine.state_dir).drain is None


def test_a_stop_says_what_stays_open_and_status_after_it_too(running: Rig) -> None:
    hedged(running)
    code, reply = arb(running, "stop", "--reason", "end of the day")
    assert_contract("stop", reply)
    assert reply["stopped"] is True
    assert code == (0 if reply["flat"] else 1)
    assert not running.engine.alive() or running.engine.stop() == 0
    status_code, after = arb(running, "status")
    assert (status_code, after["state"], after["phase"]) == (1, "stopped", "down")
    assert after["hedges"] == reply["open_hedges"] and after["as_of"]
    assert {row["symbol"] for row in after["positions"]} == {row["symbol"] for row in reply["positions"]}
    books = running.books()
    assert {row["hedge_id"] for row in after["hedges"]} == {name for name, h in books.hedges.items() if h.qty}
    assert after["operations"] == books.counts().fields(), "status and the journal count alike"
    said = supervisor_said(running)
    if after["hedges"]:
        assert "stays open" in said and "arb close --all" in said
    running.start_again()
    try:
        until(lambda: running.all_ready(), "it goes on")

        def flat_and_stopped() -> bool:
            return arb(running, "stop", "--flatten", "--reason", "all out")[1]["flat"]

        assert flat_and_stopped() or read_status(running.instance)["hedges"]
        assert read_halt(running.engine.state_dir).drain is None, "the drain of a stop ends with it"
    finally:
        running.engine.stop()
