"""What others do to the account of a running instance: a liquidation, a lost journal, a second engine on the key."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import AdoptedRecord, HedgeRecord, OrderIntentRecord, Purpose
from shm.liveness import LivenessView
from tests.campaigns.world_acts import RULES, Timed, act
from tests.worlds.instance_rig import SEEDS, Rig, exposure, is_judged, keeps_a_hedge, ready_rig, running_pid, until
from tests.worlds.waiting import WAIT_S
from workers.control_plane.launch import Launched, LaunchError
from workers.credentials import load_credentials, store_credentials
from workers.demo.run_checker import venue_positions
from workers.exit_codes import EXIT_COULD_NOT_START
from workers.last_run.other_journal import OTHER_JOURNAL
from workers.recorder.sqlite_ledger import open_reader

pytestmark = pytest.mark.e2e

IN_TIME_MS = 5000.0  # from the venue's stamp of what the world does, to its record and to what it hurt being whole
TRIES = 3  # a busy host takes its time: one of them must be in time


@pytest.fixture(params=SEEDS)
def running(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A READY instance on the demo's venues, on the markets of several seeds."""
    with ready_rig(seed=request.param) as rig:
        yield rig


def hedges(rig: Rig) -> dict[str, HedgeRecord]:
    newest = {e.record.operation_id: e.record for e in rig.entries() if isinstance(e.record, HedgeRecord)}
    return {name: record for name, record in newest.items() if record.qty}


def recorded_operations(rig: Rig) -> set[str]:
    with open_reader(rig.engine.state_dir / "ledger.sqlite") as db:
        return {row[0] for row in db.execute("SELECT operation_id FROM operation_states")}


def taken(rig: Rig) -> dict[str, str]:
    """Operation that lost its futures leg -> the order id of the venue that took it."""
    fills = [e.record for e in rig.entries() if isinstance(e.record, ExternalFillRecord)]
    return {share.operation_id: fill.order_id for fill in fills for share in fill.taken}


def repairs(rig: Rig, operations: set[str]) -> dict[str, str]:
    """Repair order -> its operation."""
    intents = [e.record for e in rig.entries() if isinstance(e.record, OrderIntentRecord)]
    return {
        i.client_id: i.operation_id for i in intents if i.operation_id in operations and i.purpose is Purpose.REPAIR
    }


def test_after_a_liquidation_the_spot_legs_leave_and_nothing_is_opened_again(running: Rig) -> None:
    keeps_a_hedge(running)  # with an exit on its way, that would sell the spot leg
    running.fault(kind="liquidate", venue="gateio_futures", symbol="*")
    until(lambda: bool(taken(running)), "the notice")
    until(lambda: not taken(running).keys() & hedges(running).keys(), "the hedges' end")
    operations = set(taken(running))
    until(lambda: bool(repairs(running, operations)), "the spot legs' sale")
    os.kill(running_pid(running, "detector"), signal.SIGCONT)
    assert "venue.gateio_futures" in running.breakers()
    lists = {e.record.witness.partition(" ")[0] for e in running.entries() if isinstance(e.record, ExternalFillRecord)}
    assert lists == {"liquidates"}, "the venue's own list proves each of them"
    running.end()
    fills = [row for row in running.ledger() if row["kind"] == "fill"]
    forced = [row["mono_ns"] for row in fills if row["venue"] == "gateio_futures" and not row["client_id"]]
    owner = repairs(running, operations)
    left = [row for row in fills if row["client_id"] in owner and row["mono_ns"] > min(forced)]
    assert left
    assert not [row for row in left if row["venue"] == "gateio_futures"], "what was taken is not opened again"
    shown = [e.record for e in running.entries() if isinstance(e.record, HedgeRecord)]
    bought = {record.operation_id: record.spot_side.name for record in shown}
    assert all(row["side"].upper() != bought[owner[row["client_id"]]] for row in left), "nor is the other leg"
    engine, venues = running.money()
    assert engine == venues
    assert running.judge() == []


@pytest.mark.campaign  # minutes, and bounds of seconds that a loaded host does not keep
@pytest.mark.parametrize("heard", [True, False], ids=["heard", "polled"])
def test_what_the_world_does_is_noticed_and_what_it_hurts_is_whole_within_five_seconds(
    running: Rig, heard: bool
) -> None:
    """By the stamps of the venues' ledger; ``heard``: whether the account's streams tell of it."""
    for name in RULES:
        for number in range(TRIES):
            timed = Timed()
            act(running, name, timed, heard=heard)
            running.simulator.clear_faults()
            for breaker in running.breakers():
                running.rearm(breaker)
            hurt = timed.left_ms or name in ("deposit", "withdrawal")  # else the hedge had left just before
            if hurt and max(timed.noticed_ms + timed.left_ms) <= IN_TIME_MS:
                break
            assert number + 1 < TRIES, (name, timed)
    is_judged(running)


def test_money_that_comes_and_goes_is_booked_with_the_venues_own_number_of_it(running: Rig) -> None:
    running.fault(kind="deposit", venue="gateio_spot", asset="USDT", amount=1500)
    running.fault(kind="deposit", venue="gateio_futures", asset="USDT", amount=700)
    running.fault(kind="withdraw", venue="mexc_spot", asset="USDT", amount=2500)

    def flows() -> list[ExternalFlowRecord]:
        return [e.record for e in running.entries() if isinstance(e.record, ExternalFlowRecord)]

    until(lambda: len(flows()) >= 3, "three movements of money")
    running.end()
    found = {(r.venue, r.amount, r.cause, r.witness.partition(" ")[0]) for r in flows()}
    assert found == {
        ("gateio_spot", Decimal(1500), "deposit", "account_book"),
        ("gateio_futures", Decimal(700), "transfer", "account_book"),
        ("mexc_spot", Decimal(-2500), "withdrawal", "withdrawals"),
    }
    assert set(running.breakers()) == {"venue.mexc_spot"}, "what goes stops its venue, and nothing is unexplained"
    engine, venues = running.money()
    assert engine == venues
    assert running.judge() == []


def test_a_spot_order_by_hand_is_booked_stays_his_and_stops_its_venue(running: Rig) -> None:
    """What another client of the account bought is his: no order of ours sells it, and no entry leaves beside it."""
    qty = Decimal("0.05")
    running.fault(kind="manual_order", venue="gateio_spot", symbol="BTC_USDT", amount=float(qty), client_id="t-byhand")
    until(lambda: "venue.gateio_spot" in running.breakers(), "that its venue stops")
    until(lambda: sum(record.qty for record in foreign(running)) == qty, "that each of its executions is booked")
    running.end()
    rows = [row for row in running.ledger() if row["kind"] == "fill" and row["symbol"] == "BTC_USDT"]
    his = [row for row in rows if row["venue"] == "gateio_spot" and "byhand" in row["client_id"]]
    assert sum(Decimal(row["qty"]) for row in his) == qty, "judged by the venue's own ledger"
    assert exposure(running)["BTC"] == running.books().targets("USDT")["BTC"] >= qty * Decimal("0.99")
    engine, venues = running.money()
    assert engine == venues
    assert running.judge() == []


def test_a_lost_journal_halts_until_its_positions_are_adopted(running: Rig) -> None:
    keeps_a_hedge(running)
    executor, guard = (LivenessView.attach(running.instance, name) for name in ("executor", "guard"))
    running.kill_instance()
    until(lambda: not (executor.alive() or guard.alive()), "nobody who writes into it")
    assert venue_positions(running.ledger(), running.uids)
    shutil.rmtree(running.engine.state_dir / "journal")
    running.start_again()
    until(lambda: "unknown_past" in running.breakers(), "the halt")
    assert running.reading()["state"] == "halted"
    assert not any(isinstance(e.record, OrderIntentRecord) for e in running.entries())
    held = {symbol for _, symbol in venue_positions(running.ledger(), running.uids)}
    command = [sys.executable, "-m", "workers", "resume", "--adopt", "--json", "--reason", "journal lost"]
    replies: list[dict[str, Any]] = []

    def adopted() -> bool:
        """Refused until every venue has been swept once: what is taken over is listed whole."""
        done = subprocess.run(
            [*command, "--instance", running.instance], capture_output=True, text=True, check=False, timeout=WAIT_S
        )
        reply = msgspec.json.decode(done.stdout)
        if "error" in reply:
            assert "not swept yet" in reply["error"] or "answer" in reply["error"], reply
            return False
        replies.append(reply)  # exit code 1 where something else still stands in the way
        return True

    until(adopted, "the adoption")
    (reply,) = replies
    assert {row["symbol"] for row in reply["adopted"] if row["symbol"]} == held
    assert not reply["halted"] and not any("unknown_past" in row["what"] for row in reply["blocking"])
    recorded = [e.record for e in running.entries() if isinstance(e.record, AdoptedRecord)]
    assert {record.symbol for record in recorded if record.symbol} == held
    until(lambda: any(isinstance(e.record, OrderIntentRecord) for e in running.entries()), "orders again")
    operations = {e.record.operation_id for e in running.entries() if isinstance(e.record, OrderIntentRecord)}
    until(lambda: bool(operations & recorded_operations(running)), "rows of the new journal for `arb why`")
    assert OTHER_JOURNAL in [note["what"] for note in running.reading()["notes"]]


def test_a_second_instance_on_the_same_keys_is_refused_and_told_who_holds_them(running: Rig) -> None:
    second = Launched(f"t-{secrets.token_hex(4)}")
    try:
        from pipeline.model.config_load import load_config

        config = load_config(running.engine.config_path)
        for exchange in config.feeds:
            key = load_credentials(config, exchange, instance=running.instance)
            assert key is not None
            store_credentials(second.instance, exchange, key)
        second.configure({**running.config, "engine_name": second.instance})
        with pytest.raises(LaunchError, match=running.instance):
            second.wait_ready()
        assert second.stop() == EXIT_COULD_NOT_START
    finally:
        second.clean()


def foreign(rig: Rig) -> list[ExternalFillRecord]:
    """Executions of others, or of the venue, that are booked."""
    return [e.record for e in rig.entries() if isinstance(e.record, ExternalFillRecord) and e.record.booked]


def contract_sizes(rig: Rig) -> dict[str, Decimal]:
    """Gate.io contract -> coins in one contract, as the venue lists them."""
    url = rig.sim["venues"]["gateio_futures"]["rest"].rstrip("/") + "/futures/usdt/contracts"
    with urllib.request.urlopen(url, timeout=WAIT_S) as reply:
        return {row["name"]: Decimal(row["quanto_multiplier"]) for row in msgspec.json.decode(reply.read())}


@pytest.mark.parametrize(
    ("kind", "proved_by"),
    [("adl", "auto_deleverages"), pytest.param("liquidate", "liquidates", marks=pytest.mark.campaign)],
)
def test_what_takes_a_part_of_a_contract_takes_it_of_both_legs_and_leaves_the_rest_hedged(
    running: Rig, kind: str, proved_by: str
) -> None:
    units = contract_sizes(running)

    def halves(ledger: Ledger) -> dict[str, Decimal]:
        """Contract -> half of its newest hedge, in whole contracts and worth an order."""
        rows = {hedge.futures_symbol: hedge for hedge in ledger.hedges.values()}
        parts = {symbol: row.qty / 2 // units[symbol] * units[symbol] for symbol, row in rows.items()}
        return {symbol: part for symbol, part in parts.items() if part * rows[symbol].entry_futures_price > 20}

    contract, part = next(iter(halves(keeps_a_hedge(running, lambda ledger: bool(halves(ledger)))).items()))
    running.fault(kind=kind, venue="gateio_futures", symbol=contract, amount=float(part))
    until(lambda: bool(taken(running)), "the notice")
    until(lambda: bool(repairs(running, set(taken(running)))), "the spot leg's part")
    assert {record.witness.partition(" ")[0] for record in foreign(running)} == {proved_by}
    until(lambda: any(contract in one["what"] for one in running.reading()["notes"]), "a word in `arb status`")
    os.kill(running_pid(running, "detector"), signal.SIGCONT)
    running.end()
    rows = [row for row in running.ledger() if row["kind"] == "fill" and row["venue"] == "gateio_futures"]
    cut = [row for row in rows if row["symbol"] == contract and not row["client_id"]]
    assert sum(Decimal(row["qty"]) for row in cut) == sum(record.qty for record in foreign(running))
    shares = [share.qty for record in foreign(running) for share in record.taken]
    assert sum(shares) == sum(record.qty for record in foreign(running)), "all of it was some hedge's"
    engine, venues = running.money()
    assert engine == venues
    assert running.judge() == []
