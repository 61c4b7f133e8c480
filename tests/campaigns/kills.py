"""Deaths of real processes for the slice of the campaigns: seeds of `arb kills`, until so many deaths have come.

    python -m tests.campaigns.kills [--deaths 20] [--seed 100] [--jobs 2]

One JSON object on stdout, that of `arb kills --json`. How many processes die in a seed's run depends on the host (a
state that is waited for may not come), so seeds are added until there are enough, ``SEEDS_MAX`` at most. What is judged
does not depend on it: how old a book may be by the host's clock is left to `arb kills` on quiet cores and to the
virtual clock, and what is on its way may take ten times as long. Exit code 1 where a rule was broken, a process
outlived its instance, or fewer died.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from functools import partial

from workers.kills.campaign import SECONDS, outcomes, summed
from workers.kills.run import Outcome, attempt

SEEDS_AT_ONCE = 4
SEEDS_MAX = 12
SLOW = 10  # times as long as between the busy processes of two quiet cores


def enough(play: Callable[[range], Iterable[Outcome]], deaths: int, seed: int) -> list[Outcome]:
    """Outcomes of seeds from ``seed`` on, until they have so many deaths together, one is broken, or there are
    ``SEEDS_MAX``: what hangs in every run costs minutes a seed."""
    found: list[Outcome] = []
    broken = False
    while sum(one.deaths.total() for one in found) < deaths and len(found) < SEEDS_MAX and not broken:
        first = seed + len(found)
        found += play(range(first, first + min(SEEDS_AT_ONCE, SEEDS_MAX - len(found))))
        broken = any(one.violations or one.orphans for one in found)
    return sorted(found, key=lambda one: one.seed)


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.kills")
    for name, default in (("deaths", 20), ("seed", 100), ("jobs", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    play = partial(attempt, seconds=SECONDS, keep=None, slow=SLOW)
    found = enough(lambda seeds: outcomes(play, seeds, chosen.jobs), chosen.deaths, chosen.seed)
    for one in found:
        sys.stderr.write(f"seed {one.seed}: {one.deaths.total()} deaths; {one.violations or 'no rule broken'}\n")
    sums = summed(found)
    sys.stdout.write(json.dumps(sums) + "\n")
    fewer = sum(one.deaths.total() for one in found) < chosen.deaths
    return int(bool(sums["violations"] or sums["orphans"]) or fewer)


if __name__ == "__main__":
    sys.exit(main())
