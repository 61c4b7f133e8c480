"""What may happen to a hedge between its entry and its end, on whole instances: funding that is taken home, books that
hold a part of it, prices that leave in flight, a contract that nets, a cycle of which a leg is refused.

The market stands still until the test lets the scenario's paths begin, so that each case has its hedge first. The
venues' own ledger judges.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.execution.records import (
    FundingRecord,
    HedgeRecord,
    OperationRecord,
    OperationResultRecord,
    OrderIntentRecord,
    OrderStateRecord,
    Outcome,
)
from pipeline.model.enums import OpportunityType, OrderSide, OrderState
from tests.worlds.instance_rig import LIVELY, PATIENT, SEEDS, Rig, answer, asked, is_judged, shown_rig
from tests.worlds.waiting import until
from workers.control_socket import ask
from workers.demo.run_checker import venue_positions
from workers.last_run.half_done import replayed

pytestmark = [pytest.mark.e2e, pytest.mark.campaign]

D = Decimal
FUTURES, SPOT, OTHER = "gateio_futures", "gateio_spot", "mexc_spot"
DEAR_BPS = 60  # of the contract: hedges are entered at once, and stay
CHEAP_BPS = -25  # of the contract: a hedge leaves, and none the other way is worth ``MARGIN_BPS``
MARGIN_BPS = 20
MOST_USD = 5000  # of hedges
Points = list[list[float]]
Bps = int | Points


def market(
    folder: Path,
    *,
    contract: dict[str, Any] | None = None,
    other: Bps = DEAR_BPS,
    pair: dict[str, Any] | None = None,
    **engine: Any,
) -> str:
    """A file: BTC alone, no dislocations, the contract dear and the spot market ``other`` as dear (no hedge pays
    there). ``contract``, ``pair``: of the listing and the pair; ``engine``: further sections."""
    listings = {FUTURES: {"basis_bps": DEAR_BPS, **(contract or {})}, OTHER: {"basis_bps": other}}
    gone = {f"{coin}/USDT": None for coin in ("ETH", "SOL", "XRP", "DOGE", "NOVA", "ORB")}
    exits = {"stamp_window_s": 1}
    scenario = {
        "extends": "demo",
        "name": "hedge_case",
        "dislocations": {"rate_per_s": 0},
        "pairs": {**gone, "ETH/BTC": None, "BTC/USDT": {**(pair or {}), "listings": listings}},
        "engine": {
            "detection": {
                "types": ["spot_futures_hedge"],
                "hedge": {"expected_exit_basis_bps": 0, "exit": exits},
                **engine.pop("detection", {}),
            },
            "risk_limits": {
                "min_profit_margin_bps": MARGIN_BPS,
                "per_venue": {FUTURES: {"max_exposure_usd": MOST_USD}},
                **engine.pop("risk_limits", {}),
            },
            "guard": PATIENT,
            **engine,
        },
    }
    file = folder / "case.yaml"
    file.write_text(json.dumps(scenario), encoding="utf-8")
    return str(file)


@contextlib.contextmanager
def waiting_rig(scenario: str, seed: int) -> Iterator[Rig]:
    """A READY instance whose market waits for ``begin``."""
    with shown_rig(StillRig(f"t-{secrets.token_hex(4)}", scenario=scenario, seed=seed, waits=True)) as rig:
        yield rig


class StillRig(Rig):
    """Its start leaves the scenario's paths where they are; a rate that they change is read again within a second."""

    def __init__(self, instance: str, **options: Any) -> None:
        super().__init__(instance, environment={"ARB_TEST_CATALOGUE_REFRESH_S": "1"}, **options)

    def start(self) -> None:
        self.launch()


def records(rig: Rig, kind: type[Any]) -> list[Any]:
    return [entry.record for entry in rig.entries() if isinstance(entry.record, kind)]


def hedges(rig: Rig) -> dict[str, HedgeRecord]:
    """Open ones."""
    newest = {record.operation_id: record for record in records(rig, HedgeRecord)}
    return {name: record for name, record in newest.items() if record.qty}


def held(rig: Rig) -> dict[str, HedgeRecord]:
    """Waits until hedges are open and nothing is under way; which ones."""
    until(lambda: bool(hedges(rig)) and not rig.counter("open_operations"), "an open hedge at rest")
    return hedges(rig)


def drained(rig: Rig) -> dict[str, HedgeRecord]:
    """No entry any more, and none under way; the open hedges."""
    why = "these hedges and no more"
    asked(rig, "guard", op="drain", reason=why)
    until(lambda: any(why in row["what"] for row in rig.reading()["reasons"]), "the drain")

    def at_rest() -> bool:
        ledger = replayed(rig.engine.state_dir)
        return ledger is not None and not ledger.open_operations

    until(at_rest, "no operation under way")
    return hedges(rig)


def gone(rig: Rig, names: set[str]) -> None:
    until(lambda: not names & hedges(rig).keys() and not rig.counter("open_operations"), "the hedges' end")


def chosen_exits(rig: Rig) -> list[OperationRecord]:
    """Of the rule: nobody asked for them, nothing forced them."""
    return [record for record in records(rig, OperationRecord) if record.closes and not record.manual]


def parts_of(rig: Rig, name: str) -> list[Decimal]:
    """What a hedge held after each of its changes."""
    return [record.qty for record in records(rig, HedgeRecord) if record.operation_id == name]


@pytest.mark.parametrize("seed", SEEDS)
def test_funding_that_was_received_is_taken_home_by_the_basis(tmp_path: Path, seed: int) -> None:
    """As long as more is announced the hedge stays, far above what it cost; then the rate is gone and the basis falls:
    it leaves by its rule, and the venue's payments are in the profit."""
    contract = {
        "basis_bps": [[0, DEAR_BPS], [4, DEAR_BPS], [4.2, -2 * DEAR_BPS]],  # deeper than what may still be paid
        "funding_path": [[0, 0.0004], [0.1, 0]],
        "funding_interval_s": 5,
    }
    with waiting_rig(market(tmp_path, contract=contract), seed) as rig:
        names = set(held(rig))
        paid = len(records(rig, FundingRecord))
        until(lambda: len(records(rig, FundingRecord)) >= paid + 3, "three payments")
        assert names <= hedges(rig).keys() and not chosen_exits(rig), "nothing leaves while it is paid for staying"
        rows = {row["hedge_id"]: row for row in answer(rig, "hedges")[1]["hedges"]}
        assert all(D(rows[name]["funding"]) > 0 for name in names)
        rig.begin()
        gone(rig, names)
        assert names == {record.closes for record in chosen_exits(rig)} & names
        assert not [record for record in records(rig, OperationRecord) if record.manual]
        is_judged(rig)
        entries = [row for row in rig.ledger() if row["kind"] == "entry" and row["reason"] == "fund"]
        users = {f"user:{uid}" for uid in rig.uids}
        theirs = sum(D(amount) for row in entries for account, _, amount in row["postings"] if account in users)
        assert rig.books().funding == {"USDT": theirs} and theirs > 0
        trips = rig.books().round_trips().closed()
        assert sum(trips[name] for name in names) > 0


def reload(rig: Rig, bound_bps: str) -> None:
    """`arb config reload` with another bound of prices, heard by the executor."""

    def heard() -> int:
        lines = (rig.engine.state_dir / "logs" / "arb.jsonl").read_bytes().splitlines()
        rows = [msgspec.json.decode(line) for line in lines]
        return sum(row["process"] == "executor" and row.get("text") == "configuration reloaded" for row in rows)

    before = heard()
    limits = {**rig.config["risk_limits"], "max_slippage_bps": bound_bps}
    rig.engine.configure({**rig.config, "risk_limits": limits})
    assert ask(rig.engine.state_dir / "supervisor.sock", {"op": "reload"})["changed"]
    until(lambda: heard() > before, "the executor has heard")


@pytest.mark.parametrize("seed", SEEDS)
def test_books_that_hold_a_part_of_a_hedge_let_it_leave_in_parts(tmp_path: Path, seed: int) -> None:
    """Leaving is worth it far down, and the levels lie so far apart that few of them are within the bound of prices."""
    thin = {"top_usd": 250, "level_usd": 250, "gap_bps": 4}
    contract = {"basis_bps": [[0, DEAR_BPS], [1, DEAR_BPS], [1.1, CHEAP_BPS]]}
    file = market(tmp_path, contract=contract, pair=thin, risk_limits={"max_slippage_bps": 40})
    with waiting_rig(file, seed) as rig:
        names = set(held(rig))
        reload(rig, "4")
        rig.begin()
        gone(rig, names)
        assert any(len(parts_of(rig, name)) > 2 for name in names), "in parts"
        for name in names:
            parts = parts_of(rig, name)
            assert parts == sorted(parts, reverse=True) and len(set(parts)) == len(parts), "it only ever shrinks"
        assert {record.closes for record in chosen_exits(rig)} >= names
        is_judged(rig)
        assert not venue_positions(rig.ledger(), rig.uids) or hedges(rig)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_close_by_hand_on_thin_books_goes_within_its_bound_or_says_why_not(tmp_path: Path, seed: int) -> None:
    """The best level is less than the contract's lot, mostly; with the next bound, which reaches further ones, it
    goes."""
    thin = {"top_usd": 40, "level_usd": 600, "gap_bps": 3}
    contract = {"lot": "0.01", "multiplier": "0.01", "min_qty": "0.01"}  # about 640 dollars
    bounds = {"exit": {"stamp_window_s": 1, "forced_slippage_bps": ["0.01", "6"], "forced_step_s": 10}}
    detection = {"hedge": {"expected_exit_basis_bps": 0, **bounds}, "max_notional_usd": "4000"}
    file = market(tmp_path, contract=contract, pair=thin, detection=detection, risk_limits={"max_slippage_bps": 40})
    with waiting_rig(file, seed) as rig:
        name = max(held(rig).values(), key=lambda hedge: hedge.qty).operation_id

        def closed() -> bool:
            code, reply = answer(rig, "close", name)
            if "error" in reply:  # it has left between two commands
                return name not in hedges(rig)
            (row,) = reply["hedges"]
            assert (code == 0) == row["closed"]
            assert row["closed"] or (row["reason"] and D(row["left"])), f"what stays open has its reason: {reply}"
            return bool(row["closed"])

        if not closed():
            shown = {row["hedge_id"]: row for row in answer(rig, "hedges")[1]["hedges"]}
            assert name not in shown or shown[name]["closing"], "it is tried again by itself"
            gone(rig, {name})
        legs = [leg for record in records(rig, OperationRecord) if record.closes == name for leg in record.legs]
        for leg in legs:
            tick = D("0.1") if leg.venue != OTHER else D("0.01")
            assert int(leg.side) * (leg.limit_price - leg.best_price) <= leg.best_price * D("0.0006") + tick
        limits = {record.client_id: record for record in records(rig, OrderIntentRecord)}
        closings = {record.operation_id for record in records(rig, OperationRecord) if record.closes == name}
        is_judged(rig)
        filled = 0
        for fill in (row for row in rig.ledger() if row["kind"] == "fill"):
            intent = limits.get(fill["client_id"])
            if intent is not None and intent.operation_id in closings:
                assert int(intent.side) * (D(fill["price"]) - intent.price) <= 0, "never beyond the limit"
                filled += 1
        assert filled


@pytest.mark.parametrize("seed", SEEDS)
def test_prices_that_leave_while_an_exit_flies_take_no_more_than_its_slack(tmp_path: Path, seed: int) -> None:
    """Orders are three seconds on their way. The contract becomes cheaper than the basis at which a hedge leaves, for
    less than that; then all prices fall and it is dearer than ever: nothing goes for what it was worth."""
    dip = DEAR_BPS - 25
    basis = [[0, DEAR_BPS], [1, DEAR_BPS], [1.02, dip], [3.5, dip], [3.52, 2 * DEAR_BPS]]
    price = [[0, 1], [3.5, 1], [3.52, 0.995]]
    patient = {"repair_window_ms": 9000, "entry_window_ms": 9000, "order_timeout_ms": 9000}
    limits = {"max_execution_time_ms": 9000}
    file = market(tmp_path, contract={"basis_bps": basis}, pair={"path": price}, execution=patient, risk_limits=limits)
    with waiting_rig(file, seed) as rig:
        held(rig)
        before = drained(rig)
        for venue in (FUTURES, SPOT):
            rig.fault(kind="delay_request", venue=venue, target="place", delay_ms=3000, count=0)
        leaves_at: dict[str, float] = {}  # hedge -> the highest basis at which it was ever to leave

        def looked() -> bool:
            for row in rig.reading()["hedges"]:
                if row["leaves_at_bps"] is not None:
                    known = leaves_at.get(row["hedge_id"], row["leaves_at_bps"])
                    leaves_at[row["hedge_id"]] = max(known, row["leaves_at_bps"])
            return before.keys() <= leaves_at.keys()

        until(looked, "a basis at which each of them leaves")
        rig.begin()
        until(lambda: looked() and bool(missed(rig)), "an exit that came too late")
        rig.simulator.clear_faults()
        for record in chosen_exits(rig):
            limit = {leg.venue: leg.limit_price for leg in record.legs}
            at_limits_bps = float((limit[FUTURES] - limit[SPOT]) / limit[SPOT] * 10_000)
            assert at_limits_bps <= leaves_at[record.closes] + 1, "both limits together give away the slack at most"
        results = {r.operation_id: r for r in records(rig, OperationResultRecord)}
        for record in missed(rig):
            assert not results[record.operation_id].pnl_numeraire
            assert hedges(rig)[record.closes].qty == before[record.closes].qty
        is_judged(rig)


def missed(rig: Rig) -> list[OperationRecord]:
    """Exits of which no order found its price."""
    states = {r.client_id: r.state for r in records(rig, OrderStateRecord)}
    ended = {r.operation_id for r in records(rig, OperationResultRecord) if not r.filled_qty}
    orders: dict[str, set[OrderState]] = {}
    for intent in records(rig, OrderIntentRecord):
        if intent.client_id in states:
            orders.setdefault(intent.operation_id, set()).add(states[intent.client_id])
    unfilled = {OrderState.EXPIRED, OrderState.CANCELLED, OrderState.REJECTED}
    late = {name for name, found in orders.items() if name in ended and found <= unfilled}
    return [record for record in chosen_exits(rig) if record.operation_id in late]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_contract_that_another_spot_market_wants_nets(tmp_path: Path, seed: int) -> None:
    """Coins become dear at the other spot venue: the contract is bought back there, for two fees instead of four, and
    the hedge's coins stay where they are."""
    other = [[0, DEAR_BPS], [1, DEAR_BPS], [1.1, 3 * DEAR_BPS]]
    with waiting_rig(market(tmp_path, other=other), seed) as rig:
        names = set(held(rig))
        before = {record.operation_id for record in records(rig, OperationRecord)}
        rig.begin()

        def netted() -> list[OperationRecord]:
            later = [r for r in records(rig, OperationRecord) if r.operation_id not in before]
            return [r for r in later if r.closes in names and {leg.venue for leg in r.legs} == {FUTURES, OTHER}]

        until(lambda: bool(netted()), "a hedge that nets")
        until(lambda: bool({record.closes for record in netted()} - hedges(rig).keys()), "its end")
        for record in netted():
            assert {(leg.venue, leg.side) for leg in record.legs} == {(FUTURES, OrderSide.BUY), (OTHER, OrderSide.SELL)}
        ours = {
            r.client_id for r in records(rig, OrderIntentRecord) if r.operation_id in {n.operation_id for n in netted()}
        }
        is_judged(rig)
        fills = [row for row in rig.ledger() if row["kind"] == "fill" and row["client_id"] in ours]
        assert fills and {row["venue"] for row in fills} == {FUTURES, OTHER}
        assert all(row["side"].upper() == "BUY" for row in fills if row["venue"] == FUTURES)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cycle_of_which_a_leg_is_refused_leaves_no_coin_and_the_next_one_is_whole(tmp_path: Path, seed: int) -> None:
    scenario = {
        "extends": LIVELY,
        "name": "cycles",
        "dislocations": {"triangle_share": 1.0},
        "engine": {"detection": {"types": ["triangular"]}},
    }
    file = tmp_path / "cycles.yaml"
    file.write_text(json.dumps(scenario), encoding="utf-8")
    rig = Rig(f"t-{secrets.token_hex(4)}", scenario=str(file), seed=seed)
    with shown_rig(rig):

        def ended(outcome: Outcome) -> int:
            kinds = {r.operation_id: r.type for r in records(rig, OperationRecord)}
            assert set(kinds.values()) <= {OpportunityType.TRIANGULAR}
            return sum(r.outcome is outcome for r in records(rig, OperationResultRecord))

        for venue, symbol in ((SPOT, "ETH_BTC"), (OTHER, "ETHBTC")):
            rig.fault(kind="reject", venue=venue, target="place", symbol=symbol, reason="price_band", count=1)
        until(lambda: ended(Outcome.RECOVERED) > 0, "a cycle that is taken back")
        whole = ended(Outcome.COMPLETED)
        until(lambda: ended(Outcome.COMPLETED) > whole, "a whole one")
        assert not rig.breakers()
        is_judged(rig)
