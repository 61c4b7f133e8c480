"""Margin storms for a whole instance of real processes: prices go 60 % up or down in 60 s, noise and jumps on top.

One seed = one run on simulated venues, about 90 s: the paths are those of ``pipeline.virtual.margin_storm``, one for
all pairs, even seeds upwards, odd ones downwards. The contracts become dear (upwards; cheap downwards) before it, so
that hedges are opened and stay. All times count from READY. The venues' ledger judges: no contract is liquidated, the
engine's money is the venues', what stays open is said.

    python -m tests.campaigns.storms 1:4
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline.execution.records import HedgeRecord, OperationRecord
from pipeline.model.errors import ArbitrageEngineError
from pipeline.sim.scenarios.specs import load_scenario
from pipeline.virtual.margin_storm import STEP_MS, STORM_S, path
from tests.worlds.instance_rig import Rig
from tests.worlds.waiting import until

OFFER_S, MORE_S, CALM_S = 8.0, 14.0, 16.0  # the basis makes hedges, then makes leaving dear; then the storm begins
OFFER_BPS, MORE_BPS = 25.0, 50.0
AFTER_S = 3.0
FUTURES_USDT = "3000"  # where much is free, margin is added and nothing has to be cut
FUTURES = "gateio_futures"


def scenario_of(seed: int) -> dict[str, Any]:
    """The demo's market without dislocations: hedges that lose by the storm are offered, and stay."""
    way = 1 if seed % 2 == 0 else -1
    factors = path(random.Random(f"{seed}:storm"), up=way > 0)
    prices = [[0.0, 1.0]] + [[CALM_S + i * STEP_MS / 1000, float(factor)] for i, factor in enumerate(factors)]
    offer = [[OFFER_S, 0], [OFFER_S + 0.5, way * OFFER_BPS], [MORE_S, way * OFFER_BPS], [MORE_S + 1, way * MORE_BPS]]
    pairs: dict[str, Any] = {}
    for name, pair in load_scenario("demo").pairs.items():
        if pair.derived is None and FUTURES in pair.listings:
            pairs[name] = {"path": prices, "listings": {FUTURES: {"basis_bps": [[0, 0], *offer]}}}
    return {
        "extends": "demo",
        "name": f"storm_{seed}",
        "dislocations": {"rate_per_s": 0},
        "exchanges": {"gateio": {"venues": {"futures": {"balances": {"USDT": FUTURES_USDT}}}}},
        "pairs": pairs,
    }


def run_seed(seed: int) -> tuple[str, bool]:
    """(what the venues' ledger says of the run, whether it is as it must be)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "storm.yaml"
        file.write_text(json.dumps(scenario_of(seed)), encoding="utf-8")
        rig = Rig(f"t-{secrets.token_hex(4)}", scenario=str(file), seed=seed, waits=True)
        launched_s = time.monotonic()
        try:
            rig.start()
            began_s = time.monotonic()
            ready_s = began_s - launched_s
            until(lambda: bool(_open(rig)), "an open hedge")
            while time.monotonic() - began_s < CALM_S + STORM_S + AFTER_S:
                time.sleep(0.2)
            rig.end()
            return _verdict(rig, seed, ready_s)
        finally:
            rig.close()


def _open(rig: Rig) -> list[HedgeRecord]:
    newest = {e.record.operation_id: e.record for e in rig.entries() if isinstance(e.record, HedgeRecord)}
    return [record for record in newest.values() if record.qty]


def _verdict(rig: Rig, seed: int, ready_s: float) -> tuple[str, bool]:
    forced = [row for row in rig.ledger() if row["kind"] == "forced"]
    violations, (engine, venues) = rig.judge(), rig.money()
    begun = [e.record for e in rig.entries() if isinstance(e.record, OperationRecord)]
    cuts = sum(bool(record.closes) and record.manual for record in begun)
    way = "up" if seed % 2 == 0 else "down"
    lines = [
        f"seed {seed} {way}: ready after {ready_s:.0f} s, {len(begun)} operations, {cuts} exits that had to be, "
        f"{len(forced)} liquidated, {len(violations)} violations, money {'equal' if engine == venues else 'DIFFERS'}, "
        f"breakers {rig.breakers() or 'none'}"
    ]
    lines += [f"  stays open: {h.operation_id} {h.qty} {h.base} {h.spot_venue}, {h.futures_venue}" for h in _open(rig)]
    lines += [f"  {row['invariant']}: {row['text'][:400]}" for row in violations]
    return "\n".join(lines), not forced and not violations and engine == venues


def main() -> int:
    """Exit code 1 where a seed is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.storms")
    parser.add_argument("seeds", help="A:B (B excluded) or one seed")
    first, _, last = parser.parse_args().seeds.partition(":")
    bad = 0
    for seed in range(int(first), int(last or int(first) + 1)):
        try:
            text, good = run_seed(seed)
        except (AssertionError, ArbitrageEngineError, OSError, RuntimeError) as error:
            text, good = f"seed {seed}: FAILED to run: {error}", False
        bad += not good
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
