"""A running instance: kills of every process, the halt, symbols, what commands say, and the end of the supervisor."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from pipeline.execution.journal import JournalReader, read_journal
from pipeline.execution.records import BalanceRecord, FillRecord, OperationRecord, OrderIntentRecord
from pipeline.market_data import MarketDataAggregator
from pipeline.model.config_load import load_config
from pipeline.model.errors import BadInput
from shm.layout import BOOK
from shm.liveness import LivenessView
from tests.worlds.instance_rig import Rig, arb, asked, segments_of
from tests.worlds.waiting import until
from workers.cli.manual_opportunity import execute_file, execute_request
from workers.cli.report import read_report, report_text
from workers.cli.why import read_trail, trail_text
from workers.control_socket import ControlError, ask
from workers.demo.simulator import keys_of
from workers.halt_file import read_halt
from workers.recorder.sqlite_ledger import open_reader
from workers.view.live_view import render
from workers.view.small_view import small_screen
from workers.view.status import read_status
from workers.view.status_text import status_text

pytestmark = pytest.mark.e2e

VENUES = ("mexc_spot", "gateio_spot", "gateio_futures")
REASONS = ("insufficient_balance", "price_band", "not_permitted")
STORM_MAX = 40  # deaths: more than a busy host needs to bring five of them into a minute


def completed(instance: str) -> int:
    return int(read_status(instance)["orders"].get("operations.completed", 0))


def test_every_process_comes_back_and_the_engine_goes_on(running: Rig) -> None:
    instance = running.instance
    until(lambda: completed(instance) > 0, "a completed operation")
    for process in ("feed.mexc", "feed.gateio", "detector", "poller", "recorder", "guard", "executor"):
        before = running.engine.process_pid(process)
        assert running.engine.kill(process) == before
        until(
            lambda process=process, before=before: (
                running.engine.process_pid(process) not in (0, before) and running.engine.all_ready()
            ),
            f"{process} READY again",
        )
    seen = completed(instance)
    until(lambda: completed(instance) > seen, "a completed operation after all kills")
    until(lambda: read_status(instance)["state"] == "ready", "it says so")
    until(lambda: "tick to order" in status_text(read_status(instance)), "an entry of the newest executor")
    reading = read_status(instance)
    assert {row["restarts"] for name, row in reading["processes"].items() if name != "supervisor"} == {1}


def test_halt_is_latched_persisted_and_survives_the_guard(running: Rig) -> None:
    sock = running.engine.state_dir / "supervisor.sock"
    with pytest.raises(BadInput, match="reason"):
        ask(sock, {"op": "halt"}, timeout_s=60)
    assert asked(running, "supervisor", op="halt", reason="test")["halted"] is True
    # The answer waits for the disk 0.3 s at most.
    until(lambda: read_halt(running.engine.state_dir).reason == "test", "the halt on the disk")
    before = running.engine.process_pid("guard")
    running.engine.kill("guard")
    until(lambda: running.engine.process_pid("guard") not in (0, before) and running.engine.all_ready(), "guard back")
    reading = read_status(running.instance)
    assert (reading["state"], reading["halted"], reading["risk"]["latched"]) == ("halted", True, True)
    sent = reading["orders"]["entries"]
    refused = reading["opportunities"]["refused"].get("halt_latch", 0)
    until(
        lambda: read_status(running.instance)["opportunities"]["refused"].get("halt_latch", 0) > refused,
        "opportunities refused by the latch",
    )
    assert read_status(running.instance)["orders"]["entries"] == sent
    assert asked(running, "supervisor", op="resume", reason="over")["halted"] is False
    until(lambda: read_status(running.instance)["orders"]["entries"] > sent, "operations after the resume")


def test_a_restart_storm_halts_until_an_operator_resumes(running: Rig) -> None:
    def detector() -> dict[str, object]:
        return running.engine.describe()["processes"]["detector"]

    deaths = 0
    while detector()["state"] != "failed":  # five of them in a minute: on a slow host the sixth may be the fifth
        deaths += 1
        assert deaths <= STORM_MAX, "a storm that nobody notices"
        killed = running.engine.kill("detector")
        until(
            lambda killed=killed: detector()["state"] == "failed" or detector()["pid"] not in (0, killed),
            "detector back or given up",
        )
    until(lambda: read_status(running.instance)["halted"], "the halt")
    assert "restart storm of detector" in read_status(running.instance)["halt_reason"]
    assert detector()["state"] == "failed"
    assert read_halt(running.engine.state_dir).halted
    asked(running, "supervisor", op="resume", reason="looked at it")
    until(running.engine.all_ready, "detector READY again")
    if read_status(running.instance)["halted"]:  # the storm's own halt may reach the disk behind the resume
        asked(running, "supervisor", op="resume", reason="looked at it again")
    assert not read_status(running.instance)["halted"]


def test_a_killed_recorder_loses_and_doubles_nothing(running: Rig) -> None:
    state = running.engine.state_dir
    until(lambda: completed(running.instance) > 0, "a completed operation")
    for _ in range(2):
        before = running.engine.process_pid("recorder")
        running.engine.kill("recorder")
        until(lambda before=before: running.engine.process_pid("recorder") not in (0, before), "recorder back")
        seen = completed(running.instance)
        until(lambda seen=seen: completed(running.instance) > seen, "an operation beside it")
    books = read_status(running.instance)["books"]
    assert {row["venue"] for row in books} == {"mexc_spot", "gateio_spot", "gateio_futures"}
    assert all(row["bid"] < row["ask"] for row in books if row["tradable"])
    running.engine.stop()
    reader = JournalReader(state / "journal")
    entries = []
    while more := reader.poll():
        entries += more
    reader.close()

    def journalled(kind: type) -> int:
        return sum(isinstance(entry.record, kind) for entry in entries)

    with open_reader(state / "ledger.sqlite") as db:

        def rows(table: str) -> int:
            return int(db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])

        assert rows("operations") == journalled(OperationRecord) > 0
        assert rows("orders") == journalled(OrderIntentRecord) > 0
        fills = {
            (e.record.venue, e.record.symbol, e.record.trade_id) for e in entries if isinstance(e.record, FillRecord)
        }
        assert rows("fills") == len(fills) > 0
        assert rows("balances") > journalled(BalanceRecord) > 0, "those of the end, too"
        pairs = {row[0] for row in db.execute("SELECT DISTINCT pair FROM opportunities")}
    assert pairs and all("/" in pair for pair in pairs)
    lines = [msgspec.json.decode(line) for line in (state / "logs" / "arb.jsonl").read_bytes().splitlines()]
    assert len({(line["process"], line["mono_ns"]) for line in lines}) == len(lines), "a line came twice"
    texts = " ".join(str(line.get("text")) for line in lines)
    assert "recorder ended (signal SIGKILL)" in texts and "order entry and private stream" in texts


def test_ledger_trail_report_and_manual_execution(running: Rig, tmp_path: Path) -> None:
    instance = running.instance

    def recorded() -> bool:
        try:
            return read_report(instance, "")["operations"].get("completed", 0) > 0
        except BadInput:
            return False

    until(recorded, "a completed operation in the ledger")
    report = read_report(instance, "1h")
    assert report["operations"]["total"] >= report["operations"]["completed"] > 0
    assert "P&L" in report_text(report)
    assert read_report(instance, "2999-01-01")["operations"]["total"] == 0
    with pytest.raises(BadInput, match="newest"):
        read_trail(instance, "nothing")
    import sqlite3

    with sqlite3.connect(running.engine.state_dir / "ledger.sqlite") as db:
        operation = db.execute("SELECT operation_id FROM operations WHERE outcome = 'completed'").fetchone()[0]
    trail = read_trail(instance, operation)
    assert len(trail["orders"]) >= 2
    assert trail["fills"]
    assert trail["stages_us"]
    assert operation in trail_text(trail)
    wish = tmp_path / "wish.json"
    wish.write_bytes(
        msgspec.json.encode(
            {"type": "spot_spot", "legs": [
                {"venue": "gateio_spot", "symbol": "ETH_USDT", "side": "buy", "qty": "0.01", "limit_price": "100"},
                {"venue": "mexc_spot", "symbol": "ETHUSDT", "side": "sell", "qty": "0.01", "limit_price": "90000"},
            ]}
        )
    )  # fmt: skip
    assert execute_file(wish, instance)["final_state"] in ("refused", "failed")


def test_a_terminal_of_24_rows_shows_money_and_latency(running: Rig) -> None:
    """What ``arb top`` draws on the smallest terminal that people still have."""
    until(lambda: completed(running.instance) > 0, "a completed operation")
    reading = read_status(running.instance)
    screen = small_screen(reading, "headline", 80, 24)
    assert len(screen) <= 23 and max(map(len, screen)) <= 80
    text = "\n".join(screen)
    for word in ("headline", "executor", "mexc_spot", "why not", "P&L", "positions", "USDT", "tick_to_order"):
        assert word in text, text
    console = Console(width=80, height=24, file=io.StringIO())
    console.print(render(reading, "headline", *console.size))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert "tick_to_order" in drawn and len(drawn.splitlines()) == len(screen)
    worst = {**reading, "halted": True, "halt_reason": "x" * 300, "positions": reading["positions"] * 40}
    worst["feeds"] = {f"venue{number}": {} for number in range(30)}
    assert len(small_screen(worst, "headline", 80, 24)) <= 23
    assert {"latency,", "P&L", "positions"} <= {line.split()[0] for line in small_screen(worst, "headline", 80, 24)}


def _judged_by_price(instance: str) -> bool:
    """The executor takes the symbol's book for whole, current and of its row: only the price decides about a pair of
    orders (entered, or the edge is not there). Until then the gate says what stands in the way for the moment."""
    legs = [
        {"venue": "gateio_spot", "symbol": "ETH_USDT", "side": "buy", "qty": "0.01", "limit_price": "5000"},
        {"venue": "mexc_spot", "symbol": "ETHUSDT", "side": "sell", "qty": "0.01", "limit_price": "1900"},
    ]
    try:
        reply = execute_request({"type": "spot_spot", "legs": legs}, instance)
    except ControlError:  # no answer in its time
        return False
    return "operation_id" in reply or str(reply.get("reason")).startswith("moved: ")


def test_symbols_are_removed_and_added_while_running(running: Rig) -> None:
    sock = running.engine.state_dir / "supervisor.sock"
    books = "books_whole"
    before = sum(row["venue"] == "mexc_spot" for row in ask(sock, {"op": "symbols"}, timeout_s=60)["instruments"])
    until(lambda: read_status(running.instance)["feeds"]["mexc_spot"][books] == before, "every book whole")
    asked(running, "supervisor", op="symbols", action="remove", venue="mexc_spot", symbol="ETHUSDT")
    until(lambda: read_status(running.instance)["feeds"]["mexc_spot"][books] == before - 1, "one book less")
    listed = {row["symbol"]: row for row in ask(sock, {"op": "symbols"}, timeout_s=60)["instruments"]}
    assert listed["ETHUSDT"]["removed"] is True
    assert listed["NOVAUSDT"]["quarantined"]
    coin = listed["ETHUSDT"]["instrument_id"]
    market = MarketDataAggregator(running.instance, load_config(running.engine.config_path))
    market.attach()
    removed = market.instruments.get(coin)
    assert removed is not None and coin in market.removed
    epoch = removed.row_epoch + 1
    back = ask(sock, {"op": "symbols", "action": "add", "venue": "mexc_spot", "symbol": "ETHUSDT"}, timeout_s=60)
    assert back["instrument_id"] == coin, "its row again, in a new epoch"
    until(lambda: read_status(running.instance)["feeds"]["mexc_spot"][books] == before, "the book is back")
    with pytest.raises(BadInput, match="already"):
        ask(sock, {"op": "symbols", "action": "add", "venue": "mexc_spot", "symbol": "ETHUSDT"}, timeout_s=60)
    market.refresh()
    row = market.instruments.get(coin)
    assert row is not None and row.row_epoch == epoch and coin not in market.removed
    until(
        lambda: (view := market.book(coin)) is not None and view.words[BOOK.row_epoch] == epoch,
        "a book of the new epoch",
    )
    until(lambda: _judged_by_price(running.instance), "the executor judges the symbol that came back by its price")
    with pytest.raises(BadInput, match="does not list"):
        ask(sock, {"op": "symbols", "action": "add", "venue": "mexc_spot", "symbol": "NOSUCHUSDT"}, timeout_s=60)
    with pytest.raises(BadInput, match="not configured"):
        ask(sock, {"op": "symbols", "action": "add", "venue": "nowhere", "symbol": "X"}, timeout_s=60)


def test_nothing_outlives_a_killed_supervisor(running: Rig) -> None:
    pids = [row["pid"] for row in read_status(running.instance)["processes"].values()]
    assert len(pids) == 8
    until(lambda: read_status(running.instance)["feeds"]["mexc_spot"]["messages"] > 0, "counted messages")
    os.kill(running.engine.pid, signal.SIGKILL)
    views = LivenessView.attach_all(running.instance)
    until(lambda: not any(view.alive() for view in views.values()), "every process ended")
    reading = read_status(running.instance)  # shared memory outlives the processes
    assert (reading["state"], reading["phase"]) == ("stopped", "down")
    assert reading["feeds"]["mexc_spot"]["messages"] > 0


def test_a_clean_stop_removes_every_segment(running: Rig) -> None:
    assert segments_of(running.instance)
    until(lambda: read_status(running.instance)["opportunities"]["refused"], "a refusal")
    refused = read_status(running.instance)["opportunities"]["refused"]
    assert running.engine.stop() == 0
    assert segments_of(running.instance) == []
    assert (running.engine.state_dir / "ledger.sqlite").exists()
    kept = sum(path.stat().st_size for path in (running.engine.state_dir / "journal").iterdir())
    assert kept < 4 * 1024 * 1024, "what the journal preallocated is given back"
    assert list(read_journal(running.engine.state_dir / "journal"))
    reading = read_status(running.instance)
    assert (reading["phase"], reading["halted"], reading["risk"]["latched"]) == ("down", False, False)
    assert {row["reachable"] for row in reading["feeds"].values()} == {None}, "nobody asks any more"
    assert "UNREACHABLE" not in status_text(reading)
    kept_counts = reading["opportunities"]["refused"]
    assert all(kept_counts[reason] >= count for reason, count in refused.items()), "why not stays readable"
    assert "of the last run: detected" in status_text(reading)


def test_a_second_start_of_an_instance_is_refused(running: Rig) -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "workers", "up", "--config", str(running.engine.config_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 3
    assert "running already" in done.stderr
    until(running.engine.all_ready, "every process READY")


def test_limits_are_reloaded_while_it_runs_and_the_rest_is_refused(running: Rig) -> None:
    state, instance = running.engine.state_dir, running.instance
    sock = state / "supervisor.sock"
    assert ask(sock, {"op": "reload"}, timeout_s=60)["changed"] == {}
    until(lambda: completed(instance) > 0, "a completed operation")
    limits = dict(running.config["risk_limits"])
    running.engine.configure({**running.config, "risk_limits": {**limits, "min_profit_margin_bps": 100_000}})
    os.kill(running.engine.pid, signal.SIGHUP)
    processes = {name: row["pid"] for name, row in read_status(instance)["processes"].items()}

    def reloaded(process: str) -> int:
        lines = [msgspec.json.decode(line) for line in (state / "logs" / "arb.jsonl").read_bytes().splitlines()]
        return sum(line["process"] == process and line.get("text") == "configuration reloaded" for line in lines)

    until(lambda: reloaded("executor") == reloaded("detector") == 1, "detector and executor have heard")
    until(lambda: not read_status(instance)["orders"]["open_operations"], "what was open has ended")
    sent = read_status(instance)["orders"]["entries"]
    detected = read_status(instance)["opportunities"]["detected"]
    until(lambda: read_status(instance)["opportunities"]["detected"] > detected + 10, "episodes that nobody takes")
    assert read_status(instance)["orders"]["entries"] == sent
    running.engine.configure({**running.config, "processes": {"detector": {"nice": 5}}})
    with pytest.raises(BadInput, match=r"processes\.detector\.nice"):
        ask(sock, {"op": "reload"}, timeout_s=60)
    running.engine.configure({**running.config, "nonsense": 1})
    with pytest.raises(BadInput, match="nonsense"):
        ask(sock, {"op": "reload"}, timeout_s=60)
    killed = running.engine.kill("detector")  # one that starts now starts with what holds now
    until(lambda: running.engine.process_pid("detector") not in (0, killed) and running.engine.all_ready(), "back")
    detected = read_status(instance)["opportunities"]["detected"]
    until(lambda: read_status(instance)["opportunities"]["detected"] > detected + 3, "it detects")
    assert read_status(instance)["orders"]["entries"] == sent
    running.engine.configure(running.config)
    changed = ask(sock, {"op": "reload"}, timeout_s=60)["changed"]
    assert changed == {
        "risk_limits.min_profit_margin_bps": {"from": "100000", "to": str(limits["min_profit_margin_bps"])}
    }
    until(lambda: read_status(instance)["orders"]["entries"] > sent, "operations again")
    lines = running.engine.state_dir / "logs" / "arb.jsonl"
    words = ('"process":"guard"', "configuration reloaded")  # its takeover goes by the same limits
    until(lambda: any(all(w in line for w in words) for line in lines.read_text().splitlines()), "the guard has it too")
    after = {name: row["pid"] for name, row in read_status(instance)["processes"].items()}
    assert {name: pid for name, pid in after.items() if name != "detector"} == {
        name: pid for name, pid in processes.items() if name != "detector"
    }, "nothing else was restarted"


def texts_of(rig: Rig) -> dict[str, bytes]:
    """Everything that an instance leaves or shows: files but its keys, segments, arguments, environments, outputs."""
    found: dict[str, bytes] = {}
    for path in rig.engine.state_dir.rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # replaced meanwhile; a folder
            if path.is_file():
                found[str(path)] = path.read_bytes()
    found = {path: raw for path, raw in found.items() if f"{rig.engine.state_dir}/keys/" not in path}
    found |= {name: (Path("/dev/shm") / name).read_bytes() for name in segments_of(rig.instance)}
    pids = [rig.engine.pid, *(row["pid"] for row in read_status(rig.instance)["processes"].values())]
    for pid in pids:
        for part in ("cmdline", "environ"):
            found[f"/proc/{pid}/{part}"] = Path(f"/proc/{pid}/{part}").read_bytes()
    for command in ("status", "balance", "positions", "breakers"):
        done = arb(command, "--instance", rig.instance, "--json")
        found[f"arb {command}"] = (done.stdout + done.stderr).encode()
    return found


def test_no_secret_leaves_its_key_file(running: Rig) -> None:
    secrets = [key.api_secret for key in keys_of(running.sim["venues"]).values()]
    for venue, reason in zip(VENUES, REASONS, strict=True):
        running.fault(kind="reject", venue=venue, target="place", reason=reason, count=3)
        running.fault(kind="gateway_page", venue=venue, target="balances", count=1)
        running.fault(kind="drop_response", venue=venue, target="place", count=1)
        running.fault(kind="disconnect", venue=venue, target="private")
    until(lambda: len(running.entries()) > 20, "records of the faults")
    before = running.engine.process_pid("poller")
    os.kill(before, signal.SIGABRT)
    until(lambda: running.engine.process_pid("poller") not in (0, before) and running.engine.all_ready(), "a poller")
    found = texts_of(running)
    assert any("executor" in name for name in found) and any(name.startswith("/proc/") for name in found)
    assert [name for name, raw in found.items() if any(secret.encode() in raw for secret in secrets)] == []
    kept = b"".join(path.read_bytes() for path in (running.engine.state_dir / "keys").iterdir())
    assert all(secret.encode() in kept for secret in secrets), "the search looks for what is there"
