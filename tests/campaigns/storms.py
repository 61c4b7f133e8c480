"""Margin storms for a whole instance of real processes: prices go 60 % up or down in 60 s, noise and jumps on top.

One seed = one run of each row on simulated venues to which an order takes 0.5 s, about 90 s: the paths are those of
``pipeline.virtual.margin_storm``, one for all pairs, even seeds upwards, odd ones downwards. The contracts are dear
(upwards; cheap downwards), so that hedges are opened and stay; the storm comes when there are enough of them. The
venues' ledger judges: their contracts are cut in it, none is liquidated, the engine's money is the venues', what stays
open is said. A host that keeps the engine off its CPUs for seconds gets them liquidated: the load is printed.

    python -m tests.campaigns.storms 1:4                # 3x with 15/20/5; 10x, a quarter free, with 20/25/7
    python -m tests.campaigns.storms 1:4 --row 10x
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.execution.records import HedgeRecord, OperationRecord, OrderIntentRecord
from pipeline.model.errors import ArbitrageEngineError
from pipeline.sim.scenarios.specs import load_scenario
from pipeline.virtual.margin_storm import FAST, MARGIN_FEES, STEP_MS, STORM_S, path
from tests.worlds.instance_rig import PATIENT, Rig
from tests.worlds.waiting import until
from workers.demo.run_checker import venue_positions

CALM_S, AFTER_S = 2.0, 3.0  # before and after the storm
BASIS_BPS = 60.0  # of the contracts, all the time: an entry is worth it
FUNDING_RATE, FUNDING_S = 0.0001, 28_800  # received: within the window before it no hedge leaves by choice
FUTURES = "gateio_futures"
CONTRACTS_USD = 6000  # most of all contracts at an entry: with more free balance margin is added and nothing is cut
ENOUGH_USD = 4500  # of contracts: then the storm comes


@dataclass(frozen=True, slots=True)
class Row:
    """``buffer``: what is free at the contracts' venue, as a part of ``CONTRACTS_USD``; distances in percent."""

    leverage: int
    buffer: Decimal
    trigger_pct: int
    target_pct: int
    out_pct: int

    @property
    def futures_usdt(self) -> Decimal:
        """The contracts' venue at the start."""
        return (CONTRACTS_USD * (1 / Decimal(self.leverage) + self.buffer + MARGIN_FEES)).quantize(Decimal(1))


ROWS = {"3x": Row(3, Decimal(0), 15, 20, 5), "10x": Row(10, Decimal("0.25"), 20, 25, 7)}


def scenario_of(seed: int, row: Row) -> dict[str, Any]:
    """The demo's market without dislocations and with slow orders. Hedges whose contracts lose by the storm are offered
    until their margin refuses more, and stay: only margin makes them leave."""
    way = 1 if seed % 2 == 0 else -1
    factors = path(random.Random(f"{seed}:storm"), up=way > 0)
    prices = [[0.0, 1.0]] + [[CALM_S + i * STEP_MS / 1000, float(factor)] for i, factor in enumerate(factors)]
    demo, pairs = load_scenario("demo"), dict[str, Any]()
    for name, pair in demo.pairs.items():
        if pair.derived is None and FUTURES in pair.listings:
            contract = {"basis_bps": way * BASIS_BPS, "funding_rate": str(way * FUNDING_RATE)}
            pairs[name] = {"path": prices, "listings": {FUTURES: {**contract, "funding_interval_s": FUNDING_S}}}
    slow = {"latency": {"order_us": FAST.order_ms * 1000, "rest_us": FAST.rest_ms * 1000}}
    exchanges: dict[str, Any] = {
        name: {"venues": {market: slow for market in spec.venues}} for name, spec in demo.exchanges.items()
    }
    exchanges["gateio"]["venues"]["futures"] = {**slow, "balances": {"USDT": str(row.futures_usdt)}}
    patience_ms = 4 * FAST.order_ms + 1000  # as on virtual time
    margin = {"trigger_pct": row.trigger_pct, "target_pct": row.target_pct, "out_pct": row.out_pct}
    exits = {"max_loss_bps": 10_000, "stamp_window_s": FUNDING_S}
    hedge = {"leverage": row.leverage, "margin": margin, "exit": exits, "expected_exit_basis_bps": 0}
    return {
        "extends": "demo",
        "name": f"storm_{seed}",
        "dislocations": {"rate_per_s": 0},
        "exchanges": exchanges,
        "pairs": pairs,
        "engine": {
            "detection": {"types": ["spot_futures_hedge"], "hedge": hedge},
            "risk_limits": {
                "max_execution_time_ms": patience_ms,
                "per_venue": {FUTURES: {"max_exposure_usd": CONTRACTS_USD}},
            },
            "guard": PATIENT,
            "execution": {"order_timeout_ms": patience_ms, "entry_window_ms": 10_000, "repair_window_ms": 10_000},
        },
    }


def run_seed(seed: int, name: str) -> tuple[str, bool]:
    """(what the venues' ledger says of the run, whether it is as it must be)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "storm.yaml"
        file.write_text(json.dumps(scenario_of(seed, ROWS[name])), encoding="utf-8")
        rig = Rig(f"t-{secrets.token_hex(4)}", scenario=str(file), seed=seed, waits=True)
        launched_s = time.monotonic()
        try:
            rig.launch()
            ready_s = time.monotonic() - launched_s
            until(lambda: _contracts_usd(rig) >= ENOUGH_USD, "enough hedges")
            rig.begin()
            began_s = time.monotonic()
            while time.monotonic() - began_s < CALM_S + STORM_S + AFTER_S:
                time.sleep(0.2)
            rig.end()
            return _verdict(rig, f"{name} seed {seed}", ready_s, int((began_s + CALM_S) * 1e9))
        finally:
            rig.close()


def _open(rig: Rig) -> list[HedgeRecord]:
    newest = {e.record.operation_id: e.record for e in rig.entries() if isinstance(e.record, HedgeRecord)}
    return [record for record in newest.values() if record.qty]


def _contracts_usd(rig: Rig) -> Decimal:
    return sum((hedge.qty * hedge.entry_futures_price for hedge in _open(rig)), Decimal(0))


def _cuts(rig: Rig, ledger: list[dict[str, Any]], storm_ns: int) -> list[dict[str, Any]]:
    """Fills of contracts in the storm, of exits that had to be: by margin alone, no loss is too large here."""
    records = [entry.record for entry in rig.entries()]
    forced = {r.operation_id for r in records if isinstance(r, OperationRecord) and r.closes and r.manual}
    orders = {r.client_id for r in records if isinstance(r, OrderIntentRecord) and r.operation_id in forced}
    fills = [row for row in ledger if row["kind"] == "fill" and row["venue"] == FUTURES]
    return [row for row in fills if row["client_id"] in orders and row["mono_ns"] >= storm_ns]


def _verdict(rig: Rig, title: str, ready_s: float, storm_ns: int) -> tuple[str, bool]:
    ledger = rig.ledger()
    forced = [row for row in ledger if row["kind"] == "forced"]
    before = venue_positions([row for row in ledger if row["mono_ns"] < storm_ns], rig.uids)
    after, cuts = venue_positions(ledger, rig.uids), _cuts(rig, ledger, storm_ns)
    violations, (engine, venues) = rig.judge(), rig.money()
    left = {key: abs(after.get(key, Decimal(0)) / qty) for key, qty in before.items()}
    lines = [
        f"{title}: ready after {ready_s:.0f} s, {len(before)} contracts in the storm, {len(cuts)} fills that cut them, "
        f"{len(forced)} liquidated, {len(violations)} violations, money {'equal' if engine == venues else 'DIFFERS'}, "
        f"breakers {rig.breakers() or 'none'}, load {os.getloadavg()[0]:.1f}",
        "  left: " + ", ".join(f"{symbol} {share:.0%}" for (_, symbol), share in sorted(left.items())),
    ]
    lines += [f"  stays open: {h.operation_id} {h.qty} {h.base} {h.spot_venue}, {h.futures_venue}" for h in _open(rig)]
    lines += [f"  {row['invariant']}: {row['text'][:400]}" for row in violations]
    good = bool(before and cuts) and not forced and not violations and engine == venues
    return "\n".join(lines), good


def main() -> int:
    """Exit code 1 where a seed is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.storms")
    parser.add_argument("seeds", help="A:B (B excluded) or one seed")
    parser.add_argument("--row", choices=list(ROWS), action="append", help="only these")
    options = parser.parse_args()
    first, _, last = options.seeds.partition(":")
    bad = 0
    for name in options.row or ROWS:
        for seed in range(int(first), int(last or int(first) + 1)):
            try:
                text, good = run_seed(seed, name)
            except (AssertionError, ArbitrageEngineError, OSError, RuntimeError) as error:
                text, good = f"{name} seed {seed}: FAILED to run: {error}", False
            bad += not good
            sys.stdout.write(("" if good else "NOT AS IT MUST BE: ") + text + "\n")
            sys.stdout.flush()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
