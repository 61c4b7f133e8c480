"""Plants every bug and looks whether the chaos checker sees it, in a bounded number of schedules.

    python -m tests.planted [NAME...]

Without a name every one. One JSON object on stdout: ``caught``, ``total``, ``missed`` (names), ``rules`` (bug -> the
rule that sees it). `arb chaos --mutants` calls it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from pipeline.chaos.directed import directed
from pipeline.chaos.runner import run
from pipeline.chaos.schedule import Schedule, draw
from tests.planted.engine_bugs import MUTANTS, planted
from tests.planted.rules import RULE_OF

OF_SCOPE = {"enabled": "off", "max_position_size_usd": "position", "max_exposure_usd": "exposure"}
SEEDS = 40  # random schedules behind the directed ones, at most
#: Where a bug is seen first, to save the search; any other schedule may show it as well.
HINTS: dict[str, str | int] = {
    "funding is not booked": 18,
    "exposure is not counted": 10,
    "the order rate is not counted": 8,
    "breakers are ignored": 5,
    "fees are ignored": 5,
    "a drained venue is traded": 4,
    "a closed hedge stays open": 9,
    "an exit may open the hedge's opposite": 1665,
    "an execution that is listed late is money that is gone": 71,
    "an execution that is listed late is a position of others": 713,
    "what was closed before its fill was known is kept": 335,
    "a wallet is compared without what is open": 375,
    "a hedge that must leave is bought back": 653,
    "of what exits have closed too far half is taken back": 154,
    "of what exits have closed too far more is taken back": 154,
    "an exit leaves a hair": 653,
    "repairs are put off": "broken leg",
    "a codec reads no fee": 6,
    "a codec orders twice the contracts": 6,
    "a codec knows no state of an order": 6,
    "every margin is short": 22,
    "entries into a journal without room": 51,
    "what another hedge holds the other way is gone": "a leg alone whose contract another hedge holds the other way",
    "the day's loss is not counted": "a leg that loses",
    "a leg may stand alone for ever": "a leg alone, and more to trade",
    "the loss of all days is not counted": "a leg that loses what all days may",
    "what was gained may be lost again": "a leg that loses more than was gained",
    "an open hedge cannot lose": "a hedge that loses",
    "max_position_size_usd is ignored": "tight position",
    "max_total_exposure_usd is ignored": "tight exposure",
    "max_open_operations is ignored": "tight operations",
    "min_profit_usd is ignored": "tight profit",
    "max_naked_usd_s is ignored": "tight naked value",
    "max_unexplained_loss_usd is ignored": "tight unexplained loss",
    "per_venue.max_orders_per_s is ignored": "tight per_venue rate",
    **{
        f"{scope}.{field} is ignored": f"tight {scope} {what}"
        for scope in ("per_venue", "per_asset", "per_pair")
        for field, what in OF_SCOPE.items()
    },
}


def schedules(name: str) -> Iterator[Schedule]:
    hint = HINTS.get(name)
    if hint is not None:
        yield draw(hint) if isinstance(hint, int) else directed()[hint]
    yield from directed().values()
    yield from (draw(seed) for seed in range(SEEDS))


def seen(name: str) -> tuple[str, list[str]]:
    """The schedule in which it breaks the rule that is there for it ("" for none), and the other rules that it broke
    first in schedules before that."""
    others: list[str] = []
    for schedule in schedules(name):
        with planted(name):
            found = run(schedule, first=True).violations
        if found and found[0].rule == RULE_OF[name]:
            return schedule.name or f"seed {schedule.seed}", others
        others += [one.rule for one in found if one.rule not in others]
    return "", others


def main() -> int:
    """Exit code 1 where a bug is not seen by its rule."""
    names, missed = sys.argv[1:] or list(MUTANTS), []
    for number, name in enumerate(names, 1):
        caught, others = seen(name)
        missed += [] if caught else [name]
        said = f"caught by {RULE_OF[name]} ({caught})" if caught else f"NOT CAUGHT by {RULE_OF[name]}"
        said += f", by {', '.join(others)} elsewhere" if others else ""
        sys.stderr.write(f"bug {number} of {len(names)}: {name}: {said}\n")
        sys.stderr.flush()
    rules = {name: RULE_OF[name] for name in names if name not in missed}
    found = {"caught": len(names) - len(missed), "total": len(names), "missed": missed, "rules": rules}
    sys.stdout.write(json.dumps(found) + "\n")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
