"""How fast a whole instance recovers: every promised time beside what was measured on real processes.

One instance on simulated venues, with the windows of production. Each part hurts it, and measures from outside: by the
monotonic stamps of the venues' ledger (the same host, the same clock), by ``run.json`` and by the halt page. The
journal only says which order belongs to which operation, and when an order's outcome was decided.

==========  ============================================================================================  ==============
part        measured                                                                                      goal (p99)
==========  ============================================================================================  ==============
``calm``    for how long fills of an operation stood alone while nothing was hurt, by the ledger          1 s
``ends``    SIGKILL of a feed, of the detector, of the executor: until the next one is READY              2 s, 2 s, 5 s
``hang``    SIGSTOP of the executor with one leg filled: until the next one is READY, and until the       10 s, 5 s
            last operation with a fill stands alone no more (the order in flight is refused). A hedge of
            which another order is UNKNOWN is not proven before that is decided, and does not count
``halt``    from the first line of ``arb halt``, and from its launch, until the latch stands              200 ms, 1 s
``lost``    an order whose request is lost on its way, without and with a deposit of its coin meanwhile:  12 s, 1 s,
            until its outcome is decided, from when its own window was over (grace + 2 s; host and        13 s
            venues share a clock), and for how long its operation stood alone, of those with a fill (each
            pair has a third venue; where a second request of one operation is lost, its repair's, nothing
            but the decision ends that)
``world``   the venue takes half of a contract, or all contracts; others trade, and move money; once told by  5 s, 5 s
            the account's streams, once by none: until it is in the journal; and until the last fill of what
            lost a leg by it (`world_acts.py`)
==========  ============================================================================================  ==============

What is decided must be true, and what is flat must be so by the ledger: else the command fails whatever the times.

    python -m tests.campaigns.recovery [--rounds 20] [--only calm,ends,hang,halt,lost,world] [--out FILE]

Exit code 1 where a goal is missed or something is not true. A loaded host misses goals that an idle one meets: the
load is printed. Each part is printed when it has ended, and the table so far after each round: a run that is cut
(SIGTERM, Ctrl-C) ends with what it saw until then.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.execution.journal import JournalEntry
from pipeline.execution.journal.guard_journal import whole_journal
from pipeline.execution.records import OperationRecord, OrderIntentRecord, OrderStateRecord
from pipeline.model.enums import OrderState
from pipeline.model.errors import ArbitrageEngineError
from tests.campaigns.outlives.cases import halt_by_shell, nothing_naked, trades_on, well_again
from tests.campaigns.world_acts import act_upon
from tests.worlds.instance_rig import Rig, half_done, holds_a_hedge, is_judged, taken_over, takeover, takeovers
from tests.worlds.judging.naked_spans import naked_ends, naked_spans, quantile
from tests.worlds.waiting import until
from workers.control_plane.children import HEALTHY_AFTER_S
from workers.halt_file import read_halt
from workers.kills.verdict import Goal, all_met, cut_by_sigterm, verdict

VENUES = ("mexc_spot", "gateio_spot", "gateio_futures")
GOAL_MS = {
    "naked, nothing hurt": 1000.0,
    "feed READY after its end": 2000.0,
    "detector READY after its end": 2000.0,
    "executor READY after its end": 5000.0,
    "executor READY after it hung": 10_000.0,
    "proven legs flat after it hung": 5000.0,
    "halt in force, from its first line": 200.0,
    "halt in force, by the shell": 1000.0,
    "naked, a request lost": 1000.0,
    "an act of the world noticed": 5000.0,
    "whole after a leg was taken": 5000.0,
}
TWICE_LOST = "naked, its repair's request lost too"  # rare: judged where it was seen
DECIDED, DECIDED_DEPOSIT = "UNKNOWN decided after its window", "the same, deposit meanwhile"
#: What each part measures.
FIGURES: dict[str, tuple[str, ...]] = {
    "calm": ("naked, nothing hurt",),
    "ends": ("feed READY after its end", "detector READY after its end", "executor READY after its end"),
    "hang": ("executor READY after it hung", "proven legs flat after it hung"),
    "halt": ("halt in force, from its first line", "halt in force, by the shell"),
    "lost": (DECIDED, DECIDED_DEPOSIT, "naked, a request lost"),
    "world": ("an act of the world noticed", "whole after a leg was taken"),
}
SLACK_MS = 2000.0  # beside an order's window and the grace, until an unknown order is decided
WINDOW_MS = 1000.0  # of an entry
CALM_S = 3.0  # a round
Parts = dict[str, Callable[[Rig, "Measured"], None]]


@dataclass(slots=True)
class Measured:
    """What was measured. ``values_ms``: figure -> ms; ``goals_ms``: what its p99 must not exceed; ``wrong``: what is
    not as the venues' ledger says, in words; ``late``: what a goal was missed by."""

    values_ms: dict[str, list[float]] = field(default_factory=dict)
    goals_ms: dict[str, float] = field(default_factory=lambda: dict(GOAL_MS))
    wrong: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    judged: bool = False  # the end was held against the ledger
    ended_s: dict[str, float] = field(default_factory=dict)  # process -> mono s of its newest end made here

    def add(self, figure: str, *ms: float) -> None:
        """More values of a figure."""
        self.values_ms.setdefault(figure, []).extend(ms)

    def missed(self) -> list[str]:
        """Figures whose p99 is beyond its goal, or of which nothing was seen."""
        return [
            name for name, found in self.values_ms.items() if not found or quantile(found, 0.99) > self.goals_ms[name]
        ]

    def text(self) -> str:
        """A table for a terminal."""
        lines = [f"{'figure':38} {'n':>4} {'p50 ms':>9} {'p99 ms':>9} {'max ms':>9} {'goal ms':>9}"]
        missed = set(self.missed())
        for name, found in self.values_ms.items():
            figures = (quantile(found, 0.5), quantile(found, 0.99), max(found, default=0.0), self.goals_ms[name])
            said = "MISSED" if name in missed else "met" if found else "not seen"
            lines.append(f"{name:38} {len(found):4} " + " ".join(f"{ms:9.1f}" for ms in figures) + f" {said}")
        return "\n".join([*lines, *(f"late: {text}" for text in self.late), *(f"WRONG: {text}" for text in self.wrong)])

    def newest(self, before: Mapping[str, int]) -> str:
        """The values beyond the first ``before`` of each figure, in words."""
        found = {name: values[before.get(name, 0) :] for name, values in self.values_ms.items()}
        return "; ".join(f"{name} {', '.join(f'{ms:.0f}' for ms in ms_)} ms" for name, ms_ in found.items() if ms_)

    def goals(self, only: Sequence[str]) -> list[Goal]:
        """Every goal of these parts, in the order of the table, and that everything is as the ledger says."""
        missed = set(self.missed())
        wanted = [name for part in only for name in FIGURES[part]]
        wanted += [TWICE_LOST] if TWICE_LOST in self.values_ms else []
        found = [
            Goal(
                name, name not in missed, f"p99 {quantile(ms, 0.99):.0f} of {self.goals_ms[name]:.0f} ms" if ms else ""
            )
            for name in wanted
            for ms in [self.values_ms.get(name, [])]
        ]
        said = f"{len(self.wrong)} wrong" if self.judged or self.wrong else ""
        return [*found, Goal("as the ledger says", not self.wrong, said)]

    def fields(self) -> dict[str, Any]:
        """For a file."""
        return {
            "values_ms": self.values_ms,
            "goals_ms": {name: self.goals_ms[name] for name in self.values_ms},
            "missed": self.missed(),
            "wrong": self.wrong,
        }


# --- what the ledger and the journals say ---


def operations_since(entries: Sequence[JournalEntry], since_ns: int) -> set[str]:
    """Operations that began later."""
    return {
        entry.record.operation_id
        for entry in entries
        if isinstance(entry.record, OperationRecord) and entry.mono_ns > since_ns
    }


@dataclass(frozen=True, slots=True)
class Decision:
    """An order that was in doubt: written at ``began_ns``, decided at ``decided_ns`` (monotonic; 0 while it is not) as
    ``state``. ``window_ms``: for how long its venue may take it."""

    intent: OrderIntentRecord
    window_ms: float
    began_ns: int
    decided_ns: int
    state: OrderState

    @property
    def after_window_ms(self) -> float:
        """From the end of its own window, of a repair's or an entry's, to the decision."""
        return (self.decided_ns - self.began_ns) / 1e6 - self.window_ms


def decisions(entries: Sequence[JournalEntry], since_ns: int) -> dict[str, Decision]:
    """Every order that was UNKNOWN and was intended later than ``since_ns``, by its client id."""
    intents: dict[str, JournalEntry] = {}
    found: dict[str, Decision] = {}
    for entry in entries:
        record = entry.record
        if isinstance(record, OrderIntentRecord) and entry.mono_ns > since_ns:
            intents[record.client_id] = entry
        elif isinstance(record, OrderStateRecord) and record.client_id in intents:
            begun = intents[record.client_id]
            assert isinstance(begun.record, OrderIntentRecord)
            window_ms = begun.record.expiry_wall_ms - begun.wall_ns / 1e6
            known = found.get(record.client_id)
            if record.state is OrderState.UNKNOWN and known is None:
                found[record.client_id] = Decision(begun.record, window_ms, begun.mono_ns, 0, record.state)
            elif record.state.is_terminal and known is not None and not known.decided_ns:
                found[record.client_id] = Decision(begun.record, window_ms, begun.mono_ns, entry.mono_ns, record.state)
    return found


def unproven(entries: Sequence[JournalEntry], at_ns: int, in_flight: str) -> set[str]:
    """Operations on a hedge of which an order, other than ``in_flight``, was UNKNOWN at ``at_ns`` (monotonic): what
    closes it, and what closed it before."""
    operations = {e.record.operation_id: e.record for e in entries if isinstance(e.record, OperationRecord)}
    doubted = {
        operations[decision.intent.operation_id].closes or decision.intent.operation_id
        for name, decision in decisions(entries, 0).items()
        if name != in_flight and decision.began_ns < at_ns and not 0 < decision.decided_ns < at_ns
    }
    return {name for name, record in operations.items() if name in doubted or record.closes in doubted}


def untrue(decision: Decision, ledger: Sequence[Mapping[str, Any]]) -> str:
    """Why a decision is not what the venues' ledger says; "" where it is."""
    name = decision.intent.client_id
    filled = any(row["kind"] == "fill" and row.get("client_id") == name for row in ledger)
    if decision.state in (OrderState.EXPIRED, OrderState.REJECTED, OrderState.NOT_SENT) and filled:
        return f"{name} was decided as {decision.state.name}, and has filled"
    if decision.state is OrderState.FILLED and not filled:
        return f"{name} was decided as FILLED, and has no fill"
    return ""


def order_history(
    ledger: Sequence[Mapping[str, Any]], entries: Sequence[JournalEntry], since_ns: int, operations: Container[str]
) -> list[str]:
    """The orders of these operations with their states and fills, in ms after ``since_ns``."""
    intents = {
        entry.record.client_id: entry.record
        for entry in entries
        if isinstance(entry.record, OrderIntentRecord) and entry.record.operation_id in operations
    }
    rows: list[tuple[int, str]] = []
    for entry in entries:
        record = entry.record
        if isinstance(record, OrderIntentRecord) and record.client_id in intents:
            what = f"{record.purpose.name} {record.side.name} {record.qty} {record.venue} {record.symbol}"
            rows.append((entry.mono_ns, f"{record.operation_id}: {record.client_id} {what}"))
        elif isinstance(record, OrderStateRecord) and record.client_id in intents:
            rows.append((entry.mono_ns, f"{record.client_id} {record.state.name} {record.reason}"))
    for row in ledger:
        if row["kind"] == "fill" and row.get("client_id") in intents:
            rows.append((int(row["mono_ns"]), f"{row['client_id']} fills {row['qty']}"))
    return [f"{(at - since_ns) / 1e6:9.1f} ms {text}" for at, text in sorted(rows)]


# --- parts ---


def until_traded(rig: Rig, measured: Measured, condition: Callable[[], bool], what: str) -> None:
    """Waits while it trades. Where a loaded host has made the guard take over, an operator looks and resumes."""

    def came() -> bool:
        if condition():
            return True
        state = read_halt(rig.engine.state_dir)
        if state.halted and rig.engine.all_ready() and not takeover(rig).get("taking_over"):
            measured.late.append(f"halted while {what} was waited for: {state.reason}")
            rig.resume()
        return False

    until(came, what)


def trades_watched(rig: Rig, measured: Measured) -> None:
    """As ``trades_on``, with an operator who looks."""
    before = rig.counter("entries")
    until_traded(rig, measured, lambda: rig.counter("entries") > before, "entries")


def forgiven(measured: Measured, process: str) -> None:
    """Waits until an end of a process is its first again: each one within ``HEALTHY_AFTER_S`` of READY makes the next
    start wait longer, and some of them are a restart storm, which an operator must look at."""
    since_s = measured.ended_s.get(process, 0.0)
    until(lambda: time.monotonic() - since_s > HEALTHY_AFTER_S + GOAL_MS["executor READY after it hung"] / 1e3, "calm")
    measured.ended_s[process] = time.monotonic()


def ready_again_ms(rig: Rig, process: str, before: int, began_ns: int) -> float:
    """Waits until another process than ``before`` is READY under this name."""

    def again() -> bool:
        row = rig.engine.describe().get("processes", {}).get(process, {})
        return bool(row.get("ready")) and row.get("pid") not in (0, before)

    until(again, f"{process} READY again")
    return (time.monotonic_ns() - began_ns) / 1e6


def calm(rig: Rig, measured: Measured) -> None:
    """Trades, unhurt."""
    began_ns = time.monotonic_ns()
    for _ in range(3):
        trades_on(rig)
    time.sleep(CALM_S)
    until(lambda: not rig.reading()["orders"].get("open_operations", 1), "a moment without an open operation")
    entries = list(whole_journal(rig.engine.state_dir))
    spans = naked_spans(rig.ledger(), entries, time.monotonic_ns())
    counted = operations_since(entries, began_ns)
    measured.add("naked, nothing hurt", *(ms for name, ms in spans.items() if name in counted))


def ends(rig: Rig, measured: Measured) -> None:
    """SIGKILL of one process after the other, each when everything is well again."""
    for process in ("feed.mexc", "detector", "feed.gateio", "executor"):
        trades_watched(rig, measured)
        forgiven(measured, process)
        began_ns = time.monotonic_ns()
        before = rig.engine.kill(process)
        ms = ready_again_ms(rig, process, before, began_ns)
        measured.add(f"{process.partition('.')[0]} READY after its end", ms)
        well_again(rig)


def hang(rig: Rig, measured: Measured) -> None:
    """The executor hangs with a hedge open and one leg filled; the guard ends it and closes what is proven."""
    forgiven(measured, "executor")
    holds_a_hedge(rig)
    in_flight = half_done(rig, "gateio_futures")
    before = rig.engine.process_pid("executor")
    took_over, began_ns = takeovers(rig), time.monotonic_ns()
    os.kill(before, signal.SIGSTOP)
    left = taken_over(rig, took_over)["left"]
    measured.wrong += [f"hedges are left: {left}"] if left else []
    measured.add("executor READY after it hung", ready_again_ms(rig, "executor", before, began_ns))
    until(lambda: not rig.reading()["orders"].get("unsettled_orders", 1), "every order decided")
    until(lambda: not rig.reading()["orders"].get("open_operations", 1), "every operation ended")
    ledger, entries = rig.ledger(), list(whole_journal(rig.engine.state_dir))
    doubted, until_ns = unproven(entries, began_ns, in_flight), time.monotonic_ns()
    ends_ns = {n: at for n, at in naked_ends(ledger, entries, until_ns).items() if n not in doubted}
    # By fills of ours a hedge whose contract its venue ended is naked for ever: exposure itself is judged below.
    ends_ns = {n: at for n, at in ends_ns.items() if at < until_ns}
    figure = "proven legs flat after it hung"
    measured.add(figure, max(0.0, (max(ends_ns.values(), default=0) - began_ns) / 1e6))
    late = {name for name, at_ns in ends_ns.items() if at_ns - began_ns > GOAL_MS[figure] * 1e6}
    measured.late += order_history(ledger, entries, began_ns, late)
    try:
        nothing_naked(rig)
    except AssertionError as error:
        measured.wrong.append(str(error))
    well_again(rig)


def halt(rig: Rig, measured: Measured) -> None:
    """``arb halt`` by the shell while it trades."""
    trades_on(rig)
    done = halt_by_shell(rig, "how fast")
    measured.add("halt in force, from its first line", done.in_force_ms)
    measured.add("halt in force, by the shell", done.by_shell_ms)
    well_again(rig)


def lost(rig: Rig, measured: Measured) -> None:
    """One request of each venue is lost, without and with a deposit of the order's coin before it is decided."""
    for deposit in (False, True):
        began_ns = time.monotonic_ns()
        for venue in VENUES:
            rig.fault(kind="drop_request", venue=venue, target="place", count=1)

        def doubted(since_ns: int = began_ns) -> dict[str, Decision]:
            return decisions(list(whole_journal(rig.engine.state_dir)), since_ns)

        until_traded(
            rig,
            measured,
            lambda: len({d.intent.venue for d in doubted().values()}) == len(VENUES),
            "a lost order at each venue",
        )
        if deposit:
            _deposit_coins(rig, doubted())
        until(lambda: all(d.decided_ns for d in doubted().values()), "every order decided")
        ledger, grace_ms = rig.ledger(), rig.config.get("execution", {}).get("unknown_grace_ms", 10_000)
        for decision in doubted().values():
            figure = DECIDED_DEPOSIT if deposit else DECIDED
            measured.goals_ms[figure] = grace_ms + SLACK_MS
            measured.add(figure, decision.after_window_ms)
            measured.wrong += [text] if (text := untrue(decision, ledger)) else []
        until(lambda: not rig.reading()["orders"].get("open_operations", 1), "every operation ended")
        never_came = [one for one in doubted().values() if one.state is OrderState.EXPIRED]
        hurt = Counter(decision.intent.operation_id for decision in never_came)
        spans = naked_spans(rig.ledger(), list(whole_journal(rig.engine.state_dir)), time.monotonic_ns())
        measured.goals_ms[TWICE_LOST] = WINDOW_MS + grace_ms + SLACK_MS
        for name in hurt.keys() & spans.keys():
            figure = TWICE_LOST if hurt[name] > 1 else "naked, a request lost"
            measured.add(figure, spans[name])
        well_again(rig)


def _deposit_coins(rig: Rig, doubted: Mapping[str, Decision]) -> None:
    """One of each coin whose order is in doubt at a spot venue."""
    legs = {
        (leg.venue, leg.symbol): leg.base
        for entry in whole_journal(rig.engine.state_dir)
        if isinstance(entry.record, OperationRecord)
        for leg in entry.record.legs
    }
    for venue, coin in sorted({(d.intent.venue, legs[d.intent.venue, d.intent.symbol]) for d in doubted.values()}):
        if venue.endswith("_spot"):
            rig.fault(kind="deposit", venue=venue, asset=coin, amount=1)


def world(rig: Rig, measured: Measured) -> None:
    """What venues and others do to the account."""
    timed = act_upon(rig)
    measured.add("an act of the world noticed", *timed.noticed_ms)
    measured.add("whole after a leg was taken", *timed.left_ms)


PARTS: Parts = {"calm": calm, "ends": ends, "hang": hang, "halt": halt, "lost": lost, "world": world}


def run(
    rounds: int, only: Sequence[str], say: Callable[[str], None] = lambda text: None, into: Measured | None = None
) -> Measured:
    """Every part ``rounds`` times on one instance, which ends in order and is judged by the venues' ledger. ``into``:
    what is filled meanwhile, for a caller that may have to go without the end."""
    measured = Measured() if into is None else into
    rig = Rig(f"r-{secrets.token_hex(4)}", risk_limits={"max_orders_per_s": 100})
    try:
        rig.start()
        for number in range(rounds):
            for name in only:
                title, before = f"round {number + 1} of {rounds}: {name}", _counts(measured)
                try:
                    PARTS[name](rig, measured)
                    say(f"{title}, load {os.getloadavg()[0]:.1f}: {measured.newest(before)}")
                except (AssertionError, ArbitrageEngineError, OSError) as error:
                    say(f"{title} did not end: {error}")
                    measured.wrong.append(f"{name} did not end: {error}; {_state(rig)}")
                    well_again(rig)  # the next part goes on where it can
            say(measured.text())
        try:
            is_judged(rig)
            measured.judged = True
        except AssertionError as error:
            measured.wrong.append(str(error)[:2000])
    except (AssertionError, ArbitrageEngineError, OSError) as error:
        measured.wrong.append(f"the run did not go on: {type(error).__name__}: {error}")
    finally:
        rig.close()
    return measured


def _counts(measured: Measured) -> dict[str, int]:
    return {name: len(values) for name, values in measured.values_ms.items()}


def _state(rig: Rig) -> str:
    """What an operator would see, where it can be read."""
    try:
        reading = rig.reading()
    except (ArbitrageEngineError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return str({key: reading[key] for key in ("state", "reasons", "breakers", "opportunities")})


def main() -> int:
    """Exit code 1 where a goal is missed or something is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.recovery")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", help="JSON with every value")
    options = parser.parse_args()
    only = options.only.split(",")
    if unknown := set(only) - PARTS.keys():
        parser.error(f"--only: found {', '.join(sorted(unknown))}, wanted some of {', '.join(PARTS)}")
    before, cut, measured = os.getloadavg(), False, Measured()

    def say(text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
        if options.out:
            Path(options.out).write_text(json.dumps(measured.fields()), encoding="utf-8")

    with cut_by_sigterm():
        try:
            run(options.rounds, only, say, measured)
        except KeyboardInterrupt:
            cut = True
    load = f"load before {before[0]:.1f}, at the end {os.getloadavg()[0]:.1f}, of {os.cpu_count()} cores"
    say(load)
    goals = measured.goals(only)
    sys.stdout.write(f"{measured.text()}\n{load}\n{verdict('recovery', goals, cut=cut)}\n")
    return int(cut or not all_met(goals))


if __name__ == "__main__":
    sys.exit(main())
