"""Does a long life cost anything at the next start? ``python -m bench.growth [--operations N] [--state FOLDER]``.

A run of the core on the simulator's venues (virtual time: entries, partial fills, repairs, hedges that open and close)
is written into a real journal again and again under new ids, as days of trading would; operations leave memory twenty
minutes after their end. The recorder's code writes checkpoints and removes old segments beside it. Then a fresh process
folds what is on the disk, a real executor is started on it twice against simulated venues (``growth_executor``), and
a fresh process folds it again. Printed: seconds and memory of each, what lies on the disk, and that the first fill,
sent again, is still known, also to what the executor has left. Goals: READY in 5 s, 600 MB.

What is known is said at once (stderr), so that a run that is cut has said it; the last line names every goal.

With ``--state`` the journal stays in FOLDER, and the next run of as many operations begins with what lies there: the
executor's starts have added their records to it. Writing takes most of the time (23 minutes for a million operations).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from bench.growth_executor import executor_starts, new_instance
from pipeline.execution.journal import Journal, JournalEntry, segment_indices, segment_path
from pipeline.execution.records import (
    DustRecord,
    FillRecord,
    HedgeRecord,
    OperationRecord,
    OperationResultRecord,
    OperationStateRecord,
    OrderIntentRecord,
    OrderSentRecord,
    OrderStateRecord,
    Purpose,
    Record,
    RecoveryRecord,
    RetiredRecord,
)
from pipeline.execution.settled.checkpoint import recover
from pipeline.execution.settled.retirement import RECORD_MAX, RETIRE_AFTER_NS
from pipeline.model.config import DetectionConfig, HedgeConfig, HedgeExitConfig, RiskLimits
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from workers.kills.verdict import Goal, all_met, cut_by_sigterm, verdict
from workers.recorder.checkpoints import Checkpoints
from workers.state_folder import instance_dir

READY_S_MAX = 5.0
MEMORY_MB_MAX = 600
SAY_S = 30.0
LIFE = "life.json"  # in the folder of ``--state``: what was written there
ROUND_OF = (
    OperationRecord,
    OperationStateRecord,
    OrderIntentRecord,
    OrderSentRecord,
    OrderStateRecord,
    FillRecord,
    OperationResultRecord,
    DustRecord,
    HedgeRecord,
    RecoveryRecord,
)
IDS = ("operation_id", "client_id", "order_id", "trade_id", "recovery_id", "closes")
D = Decimal


def traded_world(rounds: int) -> VirtualWorld:
    """A core that has traded: edges to both sides, orders that take several levels, or a part of what they want because
    the book has gone meanwhile, legs that break, hedges that open and leave; all of it settled."""
    settings = {
        "risk_limits": RiskLimits(min_profit_margin_bps=D(3), max_slippage_bps=D(50), max_daily_loss_usd=D(10**6)),
        "detection": DetectionConfig(cooldown_ms=5, hedge=HedgeConfig(exit=HedgeExitConfig(max_loss_bps=D(500)))),
    }
    world = VirtualWorld("demo", 1, settings=settings)
    spots = (("mexc_spot", "BTCUSDT"), ("gateio_spot", "BTC_USDT"))
    futures, mid = ("gateio_futures", "BTC_USDT"), D(64000)
    world.open({listing: Quote(mid, qty=D("0.008")) for listing in (*spots, futures)})
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    for number in range(rounds):
        for venue in ("mexc_spot", "gateio_spot"):
            if number % 3 == 0:
                world.arm(kind=("reject", "drop_response")[number % 2], venue=venue, target="place", count=1)
            world.finder_on = True
            symbol, cheap = "BTCUSDT" if venue == "mexc_spot" else "BTC_USDT", mid * D("0.9965")
            if number % 3 == 1:
                world.arm(kind="delay_request", venue=venue, target="place", count=1, delay_ms=50)
            world.market.move(venue, symbol, cheap)
            world.run(30)
            if number % 3 == 1:
                world.market.quote(venue, symbol, Quote(cheap, qty=D("0.002")))
            world.run(400)
            world.market.quote(venue, symbol, Quote(cheap, qty=D("0.008")))
            world.finder_on = False
            for listing in spots:
                world.market.move(*listing, mid)
            world.run(400)
        world.market.move(*futures, mid * D("1.006"))
        world.run(50)
        offered = world.opportunity("gateio_spot", "gateio_futures", "BTC/USDT")
        if offered is not None:
            world.feed(offered)
        world.run(1000)
        world.market.move(*futures, mid)
        world.run_until(lambda: not world.core.ledger.hedges, limit_ms=20_000)
    world.run(3000)
    return world


def template_of(world: VirtualWorld) -> list[JournalEntry]:
    """The journal entries of all operations that ended with everything settled and nothing open."""
    ledger = world.core.ledger
    going = set(ledger.open_operations) | set(ledger.hedges)
    going |= {one.operation_id for name in ledger.hedges for one in ledger.closings.get(name, ())}
    going |= {o.intent.operation_id for o in ledger.unsettled.values()}
    going |= {r.operation_id for r in ledger.recoveries.values() if r.state not in ("done", "cancelled")}
    kept: list[JournalEntry] = []
    for entry in world.entries:
        record = entry.record
        if isinstance(record, ROUND_OF):
            name = getattr(record, "operation_id", "") or _operation_of(ledger, record)
            if name not in going:
                kept.append(entry)
    return kept


def _operation_of(ledger: Any, record: Any) -> str:
    order = ledger.orders.get(record.client_id)
    return "" if order is None else order.intent.operation_id


def renamed(record: Record, suffix: str) -> Record:
    """The same fact about another order: every id gets the suffix."""
    changes = {name: value + suffix for name in IDS if (value := getattr(record, name, ""))}
    return msgspec.structs.replace(record, **changes)


def rounds_of(template: list[JournalEntry], operations: int) -> Iterator[tuple[list[tuple[Record, int, int]], int]]:
    """(records with their times, operations so far), one round of the template after the other."""
    names = [e.record.operation_id for e in template if isinstance(e.record, OperationRecord)]
    span_ns = template[-1].mono_ns - template[0].mono_ns + 1_000_000_000
    lag = RETIRE_AFTER_NS // span_ns + 1
    number = done = 0
    while done < operations:
        number += 1
        shift = number * span_ns
        rows: list[tuple[Record, int, int]] = [
            (renamed(e.record, f"-{number:x}"), e.mono_ns + shift, e.wall_ns + shift) for e in template
        ]
        if number > lag:
            gone = [f"{name}-{number - lag:x}" for name in names]
            _, mono_ns, wall_ns = rows[-1]
            rows += [
                (RetiredRecord(tuple(gone[at : at + RECORD_MAX])), mono_ns, wall_ns)
                for at in range(0, len(gone), RECORD_MAX)
            ]
        done += len(names)
        yield rows, done


def write_life(folder: Path, operations: int, bytes_max: int) -> dict[str, Any]:
    """Writes the journal with its checkpoints; what was written."""
    world = traded_world(12)
    template = template_of(world)
    journal = Journal.open(folder)
    checkpoints = Checkpoints(folder, bytes_max)
    first = next(e.record for e in template if isinstance(e.record, FillRecord))
    records = operations_done = 0
    for entry in world.entries[:1]:  # the boot record
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
    began_s = said_s = time.monotonic()
    for rows, so_far in rounds_of(template, operations):
        operations_done = so_far
        if time.monotonic() >= said_s + SAY_S:
            said_s = time.monotonic()
            say(f"{said_s - began_s:.0f} s: {so_far} of {operations} operations written")
        for record, mono_ns, wall_ns in rows:
            journal.append(record, mono_ns, wall_ns)
        records += len(rows)
        reader = checkpoints.position
        while checkpoints.round(reader):
            reader = checkpoints.position
    while checkpoints.round(checkpoints.position):
        pass
    journal.close()
    checkpoints.close()
    if checkpoints.problem:
        raise SystemExit(f"checkpoints: {checkpoints.problem}")
    kinds = {kind.__name__: sum(isinstance(e.record, kind) for e in template) for kind in ROUND_OF}
    return {
        "operations": operations_done,
        "records": records,
        "template": {k: v for k, v in kinds.items() if v},
        "mix": mix_of([e.record for e in template]),
        "checkpoints": checkpoints.written,
        "segments_removed": checkpoints.removed_segments,
        "first_fill": [first.venue, first.symbol, first.trade_id + "-1"],
    }


def mix_of(template: Sequence[Record]) -> dict[str, int]:
    """What makes operations dear to keep, by how much of it a round has."""
    fills = [record for record in template if isinstance(record, FillRecord)]
    intents = [record for record in template if isinstance(record, OrderIntentRecord)]
    filled: defaultdict[str, Decimal] = defaultdict(Decimal)
    for fill in fills:
        filled[fill.client_id] += fill.qty
    return {
        "orders filled in part": sum(0 < filled[record.client_id] < record.qty for record in intents),
        "orders of several fills": sum(n > 1 for n in Counter(fill.client_id for fill in fills).values()),
        "repairs": sum(record.purpose is Purpose.REPAIR for record in intents),
        "hedges": len({record.operation_id for record in template if isinstance(record, HedgeRecord)}),
    }


def life_in(state: Path, operations: int, bytes_max: int) -> tuple[str, dict[str, Any]]:
    """(instance, what was written) of the journal in ``state``, which is written where it is not there yet. Raises
    SystemExit where another one is, or one that was begun and not written to its end."""
    wanted, note = {"operations": operations, "journal_max_bytes": bytes_max}, state / LIFE
    if note.exists():
        known = json.loads(note.read_text())
        if known["wanted"] != wanted:
            raise SystemExit(f"{note}: found a journal of {known['wanted']}, wanted {wanted}: name another folder")
        return str(known["instance"]), {**known["life"], "written_s": 0.0}
    if any(state.iterdir()):
        raise SystemExit(f"{state}: found files and no {LIFE}, wanted an empty folder or a journal of an earlier run")
    instance = new_instance()
    folder = instance_dir(instance, create=True) / "journal"
    folder.mkdir(mode=0o700, exist_ok=True)
    began_s = time.perf_counter()
    life = write_life(folder, operations, bytes_max)
    life["written_s"] = round(time.perf_counter() - began_s, 1)
    note.write_text(json.dumps({"wanted": wanted, "instance": instance, "life": life}))
    return instance, life


def start(folder: Path, fill: list[str]) -> dict[str, Any]:
    """What an executor does with its journal at its start, in this process."""
    began_s = time.perf_counter()
    found = recover(folder)
    journal = Journal.open(folder, start=found.position)
    took_s = time.perf_counter() - began_s
    journal.close()
    status = Path("/proc/self/status").read_text()
    peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    ledger = found.ledger
    return {
        "start_s": round(took_s, 3),
        "peak_mb": peak_kb // 1024,
        "replayed": found.replayed,
        "problems": found.problems,
        "operations": ledger.retired_operations + len(ledger.operations),
        "in_memory": len(ledger.operations),
        "identities": len(ledger.settled),
        "first_fill_known": ledger.fill_known(*fill),
        "another_known": ledger.fill_known(fill[0], fill[1], "never-1"),
        "digest": ledger.digest(),
    }


def disk_bytes(folder: Path) -> dict[str, int]:
    """What lies on the disk: the journal's segments, checkpoints, files of identities."""
    return {
        "journal": sum(segment_path(folder, i).stat().st_size for i in segment_indices(folder)),
        "checkpoints": sum(path.stat().st_size for path in folder.glob("checkpoint-*.bin")),
        "identities": sum(path.stat().st_size for path in folder.glob("settled-*.ids")),
    }


def main() -> int:
    """Prints one JSON object and the verdict; exit code 1 where a goal is missed or something was forgotten."""
    parser = argparse.ArgumentParser(description="start and memory after a long life")
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--journal-max-bytes", type=int, default=2 << 30)
    parser.add_argument("--fold-only", action="store_true", help="without a real executor")
    parser.add_argument("--state", help="folder that keeps the journal for the next run, which then does not write it")
    parser.add_argument("--start", help=argparse.SUPPRESS)  # the fresh process
    parser.add_argument("--fill", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start:
        print(json.dumps(start(Path(options.start), json.loads(options.fill))))
        return 0
    found: dict[str, Any] = {}
    with cut_by_sigterm():
        try:
            measure(options, found)
        except (KeyboardInterrupt, SystemExit, OSError) as error:
            say(f"cut: {type(error).__name__}: {error}")
    print(json.dumps(found, indent=1))
    goals = goals_of(found, fold_only=options.fold_only)
    print(verdict("growth", goals, cut="fold_after" not in found), flush=True)
    return int(not all_met(goals))


def say(text: str) -> None:
    """One line while it runs."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def measure(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """Fills ``found`` step by step, and says each."""

    def add(what: str, value: Any) -> None:
        found[what] = value
        say(f"{what}: {json.dumps(value)}")

    with contextlib.ExitStack() as stack:
        name = options.state or stack.enter_context(tempfile.TemporaryDirectory(prefix="arb-growth-"))
        Path(name).mkdir(parents=True, exist_ok=True)
        os.environ["ARB_STATE_DIR"] = name  # of the executor's instance; the compiled kernels are those of always
        instance, life = life_in(Path(name), options.operations, options.journal_max_bytes)
        add("life", life)
        folder = instance_dir(instance) / "journal"
        add("fold", {**folded(folder, life["first_fill"]), "disk": disk_bytes(folder)})
        add("executor", [] if options.fold_only else executor_starts(instance))
        add("fold_after", found["fold"] if options.fold_only else folded(folder, life["first_fill"]))


def goals_of(found: Mapping[str, Any], *, fold_only: bool) -> list[Goal]:
    """The goals, by what is known of them."""
    folds = [found[name] for name in ("fold", "fold_after") if name in found]
    starts = found.get("executor", [])
    memory = max((one["peak_mb"] for one in (*folds, *starts)), default=0)
    known = all(one["first_fill_known"] and not one["another_known"] for one in folds)
    counts = [found["life"]["operations"] if "life" in found else 0, *(one["operations"] for one in folds)]
    mix = found["life"].get("mix", {}) if "life" in found else {}
    fold_s = max((one["start_s"] for one in folds[:1]), default=0.0)
    goals = [
        Goal("fold", fold_s <= READY_S_MAX, f"{fold_s:.1f} of {READY_S_MAX:.0f} s" if folds else ""),
        Goal("memory", memory <= MEMORY_MB_MAX, f"{memory} of {MEMORY_MB_MAX} MB" if folds else ""),
        Goal("the first fill is known", known, ("yes" if known else "no") if folds else ""),
        Goal("partials, repairs, hedges", all(mix.values()), str(mix) if mix else ""),
        Goal("nothing forgotten", counts == sorted(counts), f"{counts} operations" if folds else ""),
    ]
    if fold_only:
        return goals
    ready_s = max((one.get("ready_s", 0.0) for one in starts), default=0.0)
    return [Goal("READY", ready_s <= READY_S_MAX, f"{ready_s:.1f} of {READY_S_MAX:.0f} s" if starts else ""), *goals]


def folded(folder: Path, fill: list[str]) -> dict[str, Any]:
    """What :func:`start` says in a fresh process."""
    command = [sys.executable, "-m", "bench.growth", "--start", str(folder), "--fill", json.dumps(fill)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


if __name__ == "__main__":
    sys.exit(main())
