"""What an operator reads who knows ``arb --help`` alone: after a stop, without an executor, of trades of others."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.equity_watch import EquityWatch
from pipeline.execution.journal import JournalEntry
from pipeline.execution.records import RefusalRecord
from pipeline.model.enums import OrderState, Refusal
from pipeline.model.fixedpoint import plain
from pipeline.sim.scenarios.specs import scenario_names
from pipeline.virtual.margin_storm import Storm, storm_world
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import CONTRACT, FUTURES, external_world, hedge, place
from tests.worlds.hedged_world import stopped
from workers.audit_log import who
from workers.cli import main as cli
from workers.cli.closing import EXECUTOR_SOCKET
from workers.cli.commands_control import _latch_text
from workers.cli.commands_run import SCENARIOS
from workers.cli.commands_trading import NOT_SENT, _closed_text
from workers.control_plane.instances import ledger_path
from workers.control_plane.left_open import flat_line, unwatched_lines
from workers.control_plane.preflight import lock_instance
from workers.control_socket import GUARD_SOCKET, ControlServer
from workers.executor.views import CoreViews
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_COULD_NOT_START, EXIT_USAGE
from workers.halt_file import read_halt
from workers.recorder.sqlite_ledger import SqliteLedger
from workers.state_folder import instance_dir
from workers.tradable import InstanceReasons, halt_reasons
from workers.view.status_text import position_line


@pytest.fixture(scope="module")
def hedged() -> VirtualWorld:
    """A core with an open hedge."""
    world = storm_world(Storm(), 1, up=True)
    world.run(2500)
    world.core.context.now = world.now()
    return world


@pytest.mark.parametrize("rows", [40, 60])
def test_top_shows_what_stays_open_after_a_stop(
    rows: int,
    hedged: VirtualWorld,
    state_dir: Path,
    instance: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from workers.view.live_view import render
    from workers.view.small_view import small_screen
    from workers.view.status import read_status

    stopped(hedged, instance)
    reading = read_status(instance)
    assert reading["positions"], "the world holds a position"
    qty = reading["positions"][0]["qty"]
    assert cli.main(["top", "--once", "--instance", instance]) == EXIT_CHECK_FAILED  # it does not run
    assert str(qty) in capsys.readouterr().out
    assert any(f"{qty} @ " in line for line in small_screen(reading, "", 120, rows))
    render(reading, "", 120, rows)


def test_what_is_not_ours_is_marked_and_nobody_promises_to_close_it() -> None:
    world = external_world()
    hedge(world)
    place(world, FUTURES, CONTRACT, Decimal("-0.01"))  # adds to the short: not ours
    world.run(3000)
    watch = EquityWatch(world.core)
    watch.look(world.instruments)
    (row,) = CoreViews(world.core, watch).positions()
    assert (row["qty"], row["foreign_qty"]) == (Decimal("-0.0399"), Decimal("-0.01"))
    assert "NOT OURS: -0.01 of it" in position_line(row)
    exposure = f"net exposure {Decimal('-0.01') * row['mark_price']:.0f} USDT: close it at the venue"
    assert flat_line(flat=True, hedges=0, positions=[row]) == (
        f"flat: yes (ours); 0 hedges open; not ours: -0.01 {CONTRACT} on {FUTURES}, {exposure}"
    )
    reported = "; ".join(unwatched_lines([], [row]))
    assert exposure in reported and "close --all" not in reported
    both = unwatched_lines([{"hedge_id": "a"}], [row])
    assert "then closes the hedges" in both[0] and exposure in both[1]
    ours = {**row, "foreign_qty": Decimal(0)}
    left = f"left by closed hedges: -0.0399 {CONTRACT} on {FUTURES}"
    assert flat_line(flat=True, hedges=0, positions=[{**ours, "age_s": None}]) == f"flat: yes; 0 hedges open; {left}"
    assert flat_line(flat=True, hedges=0, positions=[{**ours, "age_s": 5.0}]) == "flat: yes; 0 hedges open"
    assert "not ours" not in "; ".join(unwatched_lines([{"hedge_id": "a"}], [ours]))


def test_coins_that_others_left_at_a_venue_are_named_with_their_worth() -> None:
    world = external_world()
    place(world, "gateio_spot", CONTRACT, Decimal("0.01"))
    world.arm(kind="withdraw", venue="mexc_spot", asset="BTC", amount="0.002")
    world.run(8000)
    watch = EquityWatch(world.core)
    watch.look(world.instruments)
    bought, drawn = CoreViews(world.core, watch).foreign_coins()
    mark = bought["mark_price"]
    assert (bought["venue"], bought["moved_qty"]) == ("gateio_spot", 0)
    assert (drawn["venue"], drawn["foreign_qty"], drawn["moved_qty"]) == ("mexc_spot", 0, Decimal("-0.002"))
    assert Decimal("0.0099") < bought["foreign_qty"] <= Decimal("0.01")  # its fee was taken in the coin
    qty = plain(bought["foreign_qty"])
    text = f"not ours: {qty} BTC on gateio_spot, net exposure {bought['foreign_qty'] * mark:.0f} USDT"
    text += ": close it at the venue"
    left = "withdrawn (or gone without a trade) since the journal began: 0.002 BTC on mexc_spot"
    assert flat_line(flat=True, hedges=0, positions=[], coins=[bought, drawn]) == (
        f"flat: yes (ours); 0 hedges open; {text}; {left}"
    )
    assert flat_line(flat=True, hedges=0, positions=[], coins=[drawn]) == f"flat: yes; 0 hedges open; {left}"
    assert unwatched_lines([], [], [drawn]) == [], "stock that left: nobody has to trade"
    (reported,) = unwatched_lines([], [], [bought, drawn])
    assert text in reported
    del bought["mark_price"]
    assert "and BTC without a price" in flat_line(flat=True, hedges=0, positions=[], coins=[bought])
    assert flat_line(flat=True, hedges=0, positions=[], coins=[]) == "flat: yes; 0 hedges open"


def ran(instance: str) -> str:
    """An instance that has stopped in order; the command that starts it."""
    folder = instance_dir(instance, create=True)
    (folder / "run.json").write_bytes(msgspec.json.encode({"state": "stopped", "config": "/etc/arb/x.yaml"}))
    (folder / "lock").touch()
    return f"`arb up --config /etc/arb/x.yaml --instance {instance}` starts it"


def test_a_resume_of_a_stopped_instance_says_that_nothing_runs_and_whose_it_was(
    state_dir: Path, instance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    starts = ran(instance)
    me = who(os.geteuid())
    assert cli.main(["halt", "--reason", "after stop", "--instance", instance]) == 0
    (reason, *_) = halt_reasons(read_halt(instance_dir(instance)), [], running=False)
    assert reason.what == f"HALTED by {me}: after stop"
    capsys.readouterr()
    assert cli.main(["resume", "--reason", "looked", "--instance", instance]) == 0
    said = capsys.readouterr().out
    assert "released (looked)" in said and f"{instance} does not run, so nothing trades; {starts}" in said
    assert read_halt(instance_dir(instance)).by == me


@pytest.mark.parametrize("words", [["symbols", "list"], ["config", "reload"], ["inspect", "book", "aa_spot", "S"]])
def test_what_wants_a_running_instance_says_so_of_a_stopped_one(
    words: list[str], state_dir: Path, instance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    starts = ran(instance)
    assert cli.main([*words, "--instance", instance]) == EXIT_COULD_NOT_START
    said = capsys.readouterr().err
    assert f"{instance} does not run" in said and starts in said


@pytest.mark.parametrize("command", ["halt", "resume"])
def test_a_latch_without_a_reason_shows_how_to_give_one(
    command: str, state_dir: Path, instance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(instance)
    assert cli.main([command, "--instance", instance]) == EXIT_USAGE
    assert 'e.g. --reason "' in capsys.readouterr().err


def test_of_several_instances_that_have_run_the_newest_is_named(
    state_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ARB_ENGINE_NAME", raising=False)
    for number, name in enumerate(("bb", "aa", "cc")):
        ran(name)
        os.utime(instance_dir(name) / "run.json", ns=(0, -abs(number - 1) + 10))
    assert cli.main(["status"]) == EXIT_USAGE
    assert (
        "several have run: aa (newest), bb, cc; name one with --instance, e.g. --instance aa" in capsys.readouterr().err
    )


def test_a_close_says_which_hedge_at_what_price_and_does_not_repeat_what_was_not_sent() -> None:
    order = {"hedge_id": "a1", "venue": "mexc_spot", "symbol": "XRPUSDT", "side": "sell", "qty": "600",
             "limit_price": "0.51", "state": "filled", "filled": "600", "average_price": "0.52"}  # fmt: skip
    unsent = {**order, "state": "not_sent", "filled": "0", "average_price": None}
    fields = {"dry_run": False, "orders": [unsent, unsent, order], "recoveries": [], "open_hedges": [], "flat": True}
    fields["hedges"] = [{"hedge_id": "a1", "closed": True, "left": 0, "reason": None}]
    assert _closed_text(fields).splitlines() == [
        "hedge a1: sent mexc_spot XRPUSDT sell 600 at 0.51 or better: filled, filled 600 at 0.52, 312.00 in all",
        "2 orders were not sent and tried again",
        "hedge a1 is closed; `arb why a1` shows its round trip",
        "flat: yes; 0 hedges open",
    ]
    assert OrderState.NOT_SENT.name.lower() == NOT_SENT


@pytest.fixture
def held(state_dir: Path, instance: str) -> Iterator[str]:
    """An instance whose executor socket answers as the control room's does after a re-arm or a flatten."""

    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request.get("dry_run") and request["op"] == "rearm":
            order = {"venue": "mexc_spot", "symbol": "XRPUSDT", "side": "sell", "qty": "600", "limit_price": "0.51"}
            repairs = [{"recovery_id": "ra1", "orders": [order], "reason": None}] if request["name"] == "held" else []
            return {"dry_run": True, "breakers": [], "repairs": repairs}
        if request["op"] == "rearm":
            return {"rearmed": request["name"], "breakers": [], "recoveries": []}
        return {"dry_run": False, "orders": [], "hedges": [], "recoveries": [], "open_hedges": [], "flat": True}

    ran(instance)
    loop = asyncio.new_event_loop()
    servers = [ControlServer(instance_dir(instance) / name, answer, print) for name in (EXECUTOR_SOCKET, GUARD_SOCKET)]
    for server in servers:
        loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield instance
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    for server in servers:
        loop.run_until_complete(server.close())
    loop.close()


def test_a_rearm_names_its_breaker_and_a_flatten_what_ends_it(held: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["breakers", "--rearm", "daily_loss", "--reason", "looked", "--instance", held]) == 0
    assert capsys.readouterr().out.splitlines() == ["daily_loss: re-armed", "no breaker is tripped"]
    assert cli.main(["flatten", "--instance", held]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "new risk stays off until `arb resume --reason R`"


def test_a_decision_on_trial_shows_the_order_that_it_would_send(held: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name, line in (
        ("held", "recovery ra1: would send mexc_spot XRPUSDT sell 600 at 0.51 or better"),
        ("daily_loss", "nothing was decided; it sends no order by itself"),
    ):
        assert cli.main(["breakers", "--rearm", name, "--reason", "r", "--dry-run", "--instance", held]) == 0
        assert capsys.readouterr().out.splitlines() == [line, "no breaker is tripped"]
    for command in ("breakers", "recoveries"):
        assert cli.main([command, "--dry-run", "--instance", held]) == EXIT_USAGE
        assert "found --dry-run alone" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["breakers", "recoveries"])
def test_without_its_executor_a_running_instance_does_not_say_none(
    command: str, hedged: VirtualWorld, state_dir: Path, instance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(hedged, instance)
    assert cli.main([command, "--instance", instance]) == 0, "the last word of an orderly stop holds"
    read = capsys.readouterr()
    assert "UNKNOWN" not in read.out and f"{instance} is stopped; as of 20" in read.err
    assert "does not answer" not in read.err
    lock = lock_instance(instance)
    try:
        assert cli.main([command, "--instance", instance]) == EXIT_CHECK_FAILED
        said = capsys.readouterr().out
        assert "as of 20" in said and "UNKNOWN now: the executor does not answer" in said
    finally:
        os.close(lock)


def test_a_status_in_a_restart_storm_says_that_nobody_watches_the_hedges(
    hedged: VirtualWorld, state_dir: Path, instance: str
) -> None:
    folder = stopped(hedged, instance)
    answered = InstanceReasons(instance, folder)
    failed = {"state": "ready", "processes": {"executor": {"state": "failed"}}}
    said = [reason.what for reason in answered.answer(failed, running=True).reasons]
    assert any(what.startswith("1 hedges are open, and nobody watches them") for what in said), said
    failed["processes"] = {"executor": {"state": "ready"}}
    assert not any("nobody watches" in reason.what for reason in answered.answer(failed, running=True).reasons)


def test_refusals_are_counted_by_pair_and_reason(
    state_dir: Path, instance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(instance)
    said = [
        ("XRP/USDT", Refusal.HALTED, "first"),
        ("BTC/USDT", Refusal.HALTED, ""),
        ("XRP/USDT", Refusal.HALTED, "new"),
    ]
    records = [RefusalRecord(number, *rest) for number, rest in enumerate(said)]
    ledger = SqliteLedger(ledger_path(instance))
    second = 1_000_000_000
    ledger.apply([JournalEntry(n + 1, 0, n, (n + 1) * second, 1, record) for n, record in enumerate(records)], None)
    ledger.close()
    assert cli.main(["status", "--refused", "XRP/USDT", "--instance", instance, "--json"]) == 0
    row = {"pair": "XRP/USDT", "reason": "halted", "count": 2, "last": "1970-01-01T00:00:03Z", "detail": "new"}
    assert msgspec.json.decode(capsys.readouterr().out)["refused"] == [{**row, "opportunity": 2}]
    for spelling in ("XRPUSDT", "XRP_USDT", "xrp-usdt"):  # as venues spell it
        assert cli.main(["status", "--refused", spelling, "--instance", instance, "--json"]) == 0
        assert msgspec.json.decode(capsys.readouterr().out)["refused"] == [{**row, "opportunity": 2}]
    assert cli.main(["status", "--refused", "SOL/USDT", "--instance", instance]) == 0
    text = capsys.readouterr().out
    assert "none of SOL/USDT is recorded; recorded are BTC/USDT, XRP/USDT;" in text and "`arb inspect book" in text
    assert cli.main(["status", "--refused", "all", "--instance", instance]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[2:]] == [["XRP/USDT", "halted", "2"], ["BTC/USDT", "halted", "1"]]


def test_the_help_of_the_demo_names_every_scenario_that_ships() -> None:
    assert {name for name in scenario_names() if not re.search(rf"\b{name}\b", SCENARIOS)} == set()


def test_an_adoption_that_finds_nothing_says_so() -> None:
    fields: dict[str, Any] = {"halted": False, "reason": "looked", "adopted": [], "blocking": []}
    assert "nothing to take over was found at the venues" in _latch_text("demo", fields, adopted=True)
    assert "found" not in _latch_text("demo", fields)
    row = {"what": "baseline", "venue": "mexc_spot", "symbol": "", "base": "BTC", "qty": "1", "detail": "why"}
    assert "nothing" not in _latch_text("demo", {**fields, "adopted": [row]}, adopted=True)
