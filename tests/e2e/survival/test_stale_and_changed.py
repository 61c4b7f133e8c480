"""What an executor must not believe (its books after a pause, a fill too large) and must notice (a changed lot, an
announced end): whole instances, judged by the venues' own ledger."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.execution.external_records import HeldFillRecord
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import (
    FillRecord,
    OperationRecord,
    OrderIntentRecord,
    OrderSentRecord,
    OrderStateRecord,
    Purpose,
)
from pipeline.model.enums import OrderState
from tests.campaigns.outlives.cases import trades_on
from tests.worlds.instance_rig import LIVELY, SEEDS, Rig, arb, asked, is_judged, running
from tests.worlds.waiting import until
from workers.exit_codes import EXIT_CHECK_FAILED

pytestmark = pytest.mark.e2e
SLICED = [pytest.param(1, marks=pytest.mark.slice), *SEEDS[1:]]

SPOT, FUTURES, SYMBOL = "gateio_spot", "gateio_futures", "BTC_USDT"
PAUSE_MS = 900


def operations(rig: Rig, since_ns: int = 0) -> dict[str, OperationRecord]:
    """Entries that began after ``since_ns`` (monotonic), by their id."""
    found = [e.record for e in rig.entries() if isinstance(e.record, OperationRecord) and e.mono_ns > since_ns]
    return {record.operation_id: record for record in found if not record.closes}


def trade_of(record: object) -> tuple[str, str] | None:
    """The execution that a record says something of."""
    return (record.venue, record.trade_id) if isinstance(record, FillRecord | HeldFillRecord) else None


def row_of(rig: Rig, venue: str) -> dict[str, object]:
    """What the catalogue says of the symbol at a venue."""
    rows = asked(rig, "supervisor", op="symbols", action="list")["instruments"]
    return next(row for row in rows if (row["venue"], row["symbol"]) == (venue, SYMBOL))


@pytest.mark.parametrize("seed", SLICED)
def test_no_entry_leaves_on_the_books_from_before_a_pause(seed: int) -> None:
    """The executor loses the CPU between its verdict and the send; the order's window and the lease outlast that."""
    pauses = ";".join(f"journalled:{number},sleep={PAUSE_MS}" for number in range(2, 60, 3))
    long_windows = {"entry_window_ms": 5000, "unknown_grace_ms": 1200}
    with running(seed=seed, environment={"ARB_CRASH_AT": pauses}, execution=long_windows) as rig:
        refused = lambda: rig.reading()["opportunities"]["refused"].get("stale_at_send", 0)  # noqa: E731
        until(lambda: refused() >= 3, "entries that were not sent after a pause")
        trades_on(rig)
        rig.end()
        begun = operations(rig)
        proved_ns = {name: min(leg.proof_mono_ns for leg in record.legs) for name, record in begun.items()}
        owner = {
            e.record.client_id: e.record.operation_id
            for e in rig.entries()
            if isinstance(e.record, OrderIntentRecord) and e.record.purpose is Purpose.ENTRY
        }
        left_ns: dict[str, int] = {}  # by the engine's own stamp: a venue that stands still stamps its arrival late
        for entry in rig.entries():
            if isinstance(entry.record, OrderSentRecord) and entry.record.client_id in owner:
                left_ns.setdefault(owner[entry.record.client_id], entry.record.send_mono_ns)
        late = {
            name: (at_ns - proved_ns[name]) // 10**6
            for name, at_ns in left_ns.items()
            if at_ns - proved_ns[name] >= PAUSE_MS * 10**6
        }
        assert left_ns and not late, f"entries on books of so many ms ago: {late}"
        assert rig.judge() == []


@pytest.mark.parametrize("seed", SLICED)
def test_a_fill_that_a_stream_reports_too_large_is_repaired_by_nobody(seed: int) -> None:
    with running(seed=seed) as rig:
        rig.fault(kind="overfill", venue=SPOT, target="private", count=1)
        until(lambda: "bad_fill" in rig.breakers(), "the breaker")
        until(lambda: not rig.reading()["orders"].get("open_operations", 1), "every operation ended")
        entries = [entry.record for entry in rig.entries()]
        (began,) = [at for at, r in enumerate(entries) if isinstance(r, HeldFillRecord) and r.state == "held"]
        trade = (entries[began].venue, entries[began].trade_id)
        ended = next(at for at in range(began + 1, len(entries)) if trade_of(entries[at]) == trade)
        intents = {r.client_id: r for r in entries if isinstance(r, OrderIntentRecord)}
        operation_id = intents[entries[began].client_id].operation_id
        meanwhile = [r for r in entries[began:ended] if isinstance(r, OrderIntentRecord)]
        assert not [r for r in meanwhile if r.operation_id == operation_id and r.purpose is Purpose.REPAIR]
        is_judged(rig)


@pytest.mark.parametrize("seed", SLICED)
def test_a_fill_without_its_fees_coin_is_confirmed_by_rest_before_anything_trips(seed: int) -> None:
    with running(seed=seed) as rig:
        rig.fault(kind="unnamed_fee", venue=SPOT, target="private", count=2)
        held = lambda: [e.record for e in rig.entries() if isinstance(e.record, HeldFillRecord)]  # noqa: E731
        until(lambda: bool(held()), "a fill that is held")
        (trades, reasons) = {trade_of(record) for record in held()}, {record.reason for record in held()}
        assert reasons == {"no fee asset"}
        booked = lambda: [  # noqa: E731
            e.record for e in rig.entries() if isinstance(e.record, FillRecord) and trade_of(e.record) in trades
        ]
        until(lambda: len(booked()) == len(trades), "REST's word for it")
        assert {record.source for record in booked()} == {"rest"} and all(record.fee_asset for record in booked())
        trades_on(rig)
        assert not [name for name in rig.breakers() if name == "bad_fill" or name.startswith("fee.")]
        is_judged(rig)


@pytest.mark.parametrize("seed", SLICED)
@pytest.mark.parametrize(
    ("change", "venues", "call"),
    [
        ({"venues": {"futures": {"position_mode": "dual"}}}, (), ""),
        ({"account_mode": "portfolio"}, (SPOT, FUTURES), "PUT /unified/unified_mode"),
    ],
)
def test_an_account_in_a_wrong_mode_at_the_start_is_set_right_or_refused_with_the_call(
    change: dict[str, Any], venues: tuple[str, ...], call: str, tmp_path: Path, seed: int
) -> None:
    """The venue lets us set one of the two; of the other nothing is traded until somebody has."""
    scenario = {"extends": LIVELY, "name": "modes", "exchanges": {"gateio": change}}
    (tmp_path / "modes.yaml").write_bytes(msgspec.json.encode(scenario))  # JSON is YAML

    def wrong() -> dict[str, str]:
        """Venue -> what solves its wrong settings."""
        solves = {
            one["what"].partition(": its settings are wrong")[0]: one["solve"] for one in rig.reading()["reasons"]
        }
        return {venue: solves[of] for venue in (SPOT, FUTURES) if (of := f"account of {venue}") in solves}

    def traded() -> set[str]:
        return {e.record.venue for e in rig.entries() if isinstance(e.record, OrderIntentRecord)}

    with running(seed=seed, scenario=str(tmp_path / "modes.yaml")) as rig:
        if venues:
            until(lambda: set(wrong()) == set(venues), "the reasons")
            assert all(call in solve for solve in wrong().values())
            assert arb("status", "--instance", rig.instance).returncode == EXIT_CHECK_FAILED
            trades_on(rig)  # cycles on the other exchange
            assert not traded() & set(venues)
            for venue in venues:
                rig.fault(kind="change_mode", venue=venue, text="classic")
        until(lambda: traded() >= {SPOT, FUTURES} and not wrong(), "orders on both")
        is_judged(rig)


@pytest.mark.parametrize("seed", SLICED)
def test_a_lot_that_changes_halts_its_symbol_and_burns_no_repairs(seed: int) -> None:
    with running(seed=seed) as rig:
        trades_on(rig)
        rig.fault(kind="change_lot", venue=SPOT, symbol=SYMBOL, amount="10")
        until(lambda: row_of(rig, SPOT)["status"] == "halted", "the halt of the symbol, long before its list is due")
        trades_on(rig)
        until(lambda: not rig.reading()["orders"].get("open_operations", 1), "every operation ended")
        assert "recovery_hold" not in rig.breakers()
        entries = [entry.record for entry in rig.entries()]
        repairs = {
            record.client_id: record.operation_id
            for record in entries
            if isinstance(record, OrderIntentRecord) and record.purpose is Purpose.REPAIR and record.symbol == SYMBOL
        }
        burnt = [
            repairs[record.client_id]
            for record in entries
            if isinstance(record, OrderStateRecord)
            and record.state is OrderState.REJECTED
            and record.client_id in repairs
        ]
        assert all(burnt.count(name) <= 2 for name in burnt), burnt
        is_judged(rig)


@pytest.mark.parametrize("seed", SLICED)
def test_where_an_end_is_announced_nothing_is_entered_and_hedges_leave(seed: int) -> None:
    with running(seed=seed, environment={"ARB_TEST_CATALOGUE_REFRESH_S": "1"}) as rig:
        trades_on(rig)
        an_hour_ms = 3_600_000
        rig.fault(kind="announce_delisting", venue=FUTURES, symbol=SYMBOL, delay_ms=an_hour_ms, duration_ms=an_hour_ms)
        until(lambda: bool(row_of(rig, FUTURES)["ending"]), "the announcement")
        trades_on(rig)  # judged by a row that was read since
        since_ns = time.monotonic_ns()
        for _ in range(3):
            trades_on(rig)

        def held() -> bool:
            ledger = Ledger()
            for entry in rig.entries():
                ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
            return any((h.futures_venue, h.futures_symbol) == (FUTURES, SYMBOL) for h in ledger.hedges.values())

        until(lambda: not held(), "no hedge on the contract")
        after = operations(rig, since_ns)
        assert after and not [
            name for name, one in after.items() if any((leg.venue, leg.symbol) == (FUTURES, SYMBOL) for leg in one.legs)
        ]
        is_judged(rig)
