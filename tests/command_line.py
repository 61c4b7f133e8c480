"""The command line's contract: every command with its options and arguments and the fields of its ``--json``.

People's scripts and monitors read them: a name that stands here keeps its meaning, more may be added. A field is a
path: ``a.b`` is a key of an object, ``a.*`` every value of one, ``a[]`` every row of a list. None, and a list or an
object that has to be there and is empty, end a path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """``options``: names as typed; ``arguments``: how many; ``fields``: separated by blanks."""

    options: str = ""
    arguments: int = 0
    fields: str = ""


PERCENTILES = "p50 p99 p999 max n"
OF_STATUS = (
    "state reasons[].what reasons[].since reasons[].solve processes.*.pid processes.*.cpu processes.*.beat_age_ms "
    "processes.*.ready feeds opportunities orders positions risk latency_us"
)
OF_DEMO = (
    "seconds venues[] instruments messages books_published gaps resyncs opportunities.detected opportunities.taken "
    "opportunities.refused operations.completed operations.failed operations.recovered operations.unresolved "
    "operations.won operations.lost dislocations.offered dislocations.captured orders fills pnl.engine pnl.venue "
    "pnl.equal pnl.numeraire.asset pnl.numeraire.value flat dust open_hedges[] "
    + " ".join(f"latency_us.tick_to_order.{name} latency_us.stages.*.{name}" for name in PERCENTILES.split())
    + " sim.ready sim.venues sim.control violations[]"
)
OF_SETTINGS = "settings[].path settings[].found settings[].want settings[].why settings[].state"
LATCH = "halted reason blocking[] adopted[]"
LEFT = "orders[] open_hedges[] flat"
BENCH = (
    "host rows[].name rows[].unit rows[].p50 rows[].p90 rows[].p99 rows[].p999 rows[].max rows[].n rows[].floor_p50 "
    "rows[].ratio_to_floor rows[].peers.*.p50 rows[].peers.*.ratio rows[].check"
)
RECOVERY = " ".join(
    f"recovery_ms.{kind}.{at}" for kind in ("feed", "detector", "executor") for at in ["p50", "p99", "max"]
)

CONTRACT: dict[str, Command] = {
    "demo": Command("--seconds --seed --scenario --venues --kill --hold", 0, OF_DEMO),
    "sim": Command(
        "--config --seed --scenario --capture",
        0,
        "ready venues.*.rest venues.*.ws venues.*.api_key venues.*.api_secret venues.*.symbols[] control",
    ),
    "books": Command("--out", 1, "messages applied dropped gaps resyncs fast_path slow_path seconds"),
    "replay": Command("--speed --fees --min-edge-bps --exact --latency-ms --sweep --out", 1, OF_DEMO),
    "archive": Command(
        "--out", 1, "files[] skipped waiting unfinished frames tops not_recorded rejected[] broken[] failed[]"
    ),
    "up": Command("--config --mode --i-understand-live-trading"),
    "status": Command("", 0, OF_STATUS),
    "top": Command("", 0, OF_STATUS),
    "halt": Command("--reason", 0, LATCH),
    "resume": Command("--reason --adopt", 0, LATCH),
    "execute": Command("", 1, "final_state total_execution_time_ms realized_profit"),
    "positions": Command("", 0, "positions[]"),
    "hedges": Command("", 0, "hedges[]"),
    "balance": Command("", 0, "balances[] proposals[]"),
    "recoveries": Command("--approve --cancel", 0, "recoveries[]"),
    "breakers": Command("--rearm --reason", 0, "breakers[].name breakers[].since breakers[].reason breakers[].solve"),
    "alerts": Command("--ack"),
    "close": Command("--all --dry-run", 1, LEFT),
    "flatten": Command("--dry-run", 0, LEFT),
    "stop": Command("--flatten --dry-run", 0, LEFT),
    "inspect": Command("", 1),
    "init": Command("", 0, "config next"),
    "pairs": Command("", 0, "pairs[]"),
    "dialect new": Command("", 1),
    "dialect check": Command("", 1, "checks[]"),
    "logs": Command("-f --since --until --level --process"),
    "symbols list": Command(),
    "symbols add": Command("", 2),
    "symbols remove": Command("", 2),
    "why": Command("", 1),
    "report": Command("--since --by --html --csv --parquet"),
    "canary": Command(
        "--since",
        0,
        "rows[].venue rows[].symbol rows[].orders rows[].fills rows[].least_fill rows[].min_notional rows[].fee_bps "
        "rows[].fee_expected_bps rows[].answer_ms rows[].doubts[] rows[].compared doubts compared as_expected",
    ),
    "chaos": Command(
        "--seeds --mutants",
        0,
        "schedules events violations[].seed violations[].invariant violations[].text trace_equal crash_points "
        "mutants.caught mutants.total seconds",
    ),
    "kills": Command("--count --seed", 0, f"kills points violations[] {RECOVERY} orphans"),
    "bench": Command("--quick --peers", 1, BENCH),
    "doctor": Command("", 0, "checks[].name checks[].state checks[].found checks[].want checks[].fix"),
    "host plan": Command("--config", 0, f"processes notes[] kernel[] tuned {OF_SETTINGS}"),
    "host apply": Command("--config", 0, f"processes notes[] kernel[] tuned {OF_SETTINGS}"),
    "host revert": Command("", 0, OF_SETTINGS),
    "config check": Command("--online"),
    "config show": Command(),
    "config diff": Command("", 2),
    "config reload": Command(),
    "config schema": Command(),
    "keys add": Command("--role", 1),
    "keys list": Command(),
    "keys test": Command("", 1),
}
#: What an option makes of a command's result.
OTHER_FIELDS = {"replay --exact": "messages found digest"}


def assert_contract(name: str, found: Any) -> None:
    """``found``, the object of ``--json``, has every field of the command ``name``."""
    fields = OTHER_FIELDS.get(name) or CONTRACT[name].fields
    lacks = sorted({text for path in fields.split() for text in _lacks(found, path.split("."), "")})
    assert not lacks, f"arb {name} --json lacks {', '.join(lacks)}"


def _lacks(found: Any, path: list[str], where: str) -> Iterator[str]:
    """Places at which the rest of a path does not go on."""
    if not path or found is None:
        return
    key, rest = path[0].removesuffix("[]"), path[1:]
    here = f"{where}.{path[0]}".lstrip(".")
    if not isinstance(found, dict):
        yield f"{here} ({where} is no object)"
    elif key == "*":
        for value in found.values():
            yield from _lacks(value, rest, here)
    elif key not in found:
        yield here
    elif path[0].endswith("[]"):
        if not isinstance(found[key], list):
            yield f"{here} (is no list)"
            return
        for row in found[key] if rest else ():
            yield from _lacks(row, rest, here)
    else:
        yield from _lacks(found[key], rest, here)
