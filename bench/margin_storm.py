"""How often is a hedge's contract liquidated in a margin storm? ``python -m bench.margin_storm [--seeds N]``.

The engine's core, its gate and its watch on the simulator's venues and virtual time (``pipeline.virtual.margin_storm``)
while the price goes 60 % up or down in 60 s, with noise and jumps of 2 %. Counts are of
``--seeds`` runs each. ``left``: mean part of the contract that is open at the end; ``bare``: largest difference of the
legs then, as a part of the hedge; ``naked``: the longest time from a liquidation until the other leg was gone too.
"""

from __future__ import annotations

import argparse
import sys
from decimal import Decimal

from pipeline.model.config import MarginConfig
from pipeline.virtual.margin_storm import FAST, SLOW, Outcome, Storm, run_storm

SEEDS = 200
NAKED_MOST_S = 5.0


def _distances(trigger: int, target: int, out: int) -> MarginConfig:
    return MarginConfig(trigger_pct=Decimal(trigger), target_pct=Decimal(target), out_pct=Decimal(out))


#: A watch that sees nothing: every contract is liquidated whole, and what counts is how long the other leg stays.
ASLEEP = MarginConfig(trigger_pct=Decimal("0.02"), target_pct=Decimal("0.03"), out_pct=Decimal("0.01"))
#: name -> (storm, most liquidations of 200 upwards, downwards)
ROWS = {
    "3x 10/15/5 fast": (Storm(margin=_distances(10, 15, 5)), 1, 1),
    "3x 15/20/5 fast": (Storm(), 0, 0),
    "3x 15/20/5 slow": (Storm(venue=SLOW), 1, 2),
    "10x +25% 20/25/7 fast": (Storm(10, Decimal("0.25"), _distances(20, 25, 7), FAST), 0, 0),
    "3x no watch slow": (Storm(margin=ASLEEP, venue=SLOW), SEEDS, SEEDS),
    "10x +25% 20/25/7 slow": (Storm(10, Decimal("0.25"), _distances(20, 25, 7), SLOW), 1, 1),
}


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; exit code 1 where a row has more liquidations than it may."""
    parser = argparse.ArgumentParser(description="liquidations in margin storms on virtual time")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--row", choices=sorted(ROWS), action="append", help="only these rows")
    options = parser.parse_args(arguments)
    title = "leverage, buffer, trigger/target/out, venue"
    print(f"{title:44} {'up':>5} {'down':>5} {'may':>7} {'left':>6} {'bare':>7} {'naked':>6}")
    worse = False
    for name in options.row or ROWS:
        storm, up_most, down_most = ROWS[name]
        runs = {up: [run_storm(storm, seed, up=up) for seed in range(options.seeds)] for up in (True, False)}
        up, down = (sum(run.liquidated for run in runs[way]) for way in (True, False))
        every: list[Outcome] = runs[True] + runs[False]
        missing = sum(not run.entered for run in every)
        left = sum((run.left for run in every), Decimal(0)) / len(every)
        bare = max(abs(run.left - run.spot_left) for run in every)
        naked_s = max(run.naked_s for run in every)
        note = f"  {missing} did not enter" if missing else ""
        line = f"{name:44} {up:5} {down:5} {f'{up_most}/{down_most}':>7} {left:6.3f} {bare:7.4f} {naked_s:6.2f}{note}"
        print(line, flush=True)
        worse = worse or up > up_most or down > down_most or bool(missing) or naked_s > NAKED_MOST_S
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
