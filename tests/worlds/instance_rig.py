"""A whole instance on simulated venues, for tests that run or break it, and its check by the venues' own ledger.

``workers/kills/rig.py`` starts the instance, breaks it, starts it again on the same state and stops it; here it is
checked. Where the venues' ledger has a fact, the engine's own account of it is not used.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.execution.ledger import Ledger
from shm.liveness import LivenessView
from shm.metrics import Metrics
from tests.paths import REPO
from tests.worlds.waiting import WAIT_S, until
from workers.control_socket import ControlError, ask
from workers.demo.kill import IN_FLIGHT_MS, await_half_done
from workers.demo.run_checker import Violation, check_all, deltas, until_stop, venue_changes
from workers.demo.summary import JournalTotals, plain_journal, plain_ledger
from workers.kills.rig import BrokenInstance, children_of
from workers.last_run.half_done import replayed
from workers.view.status import read_status

#: The demo's venues, with so many dislocations that no test waits long for a trade.
LIVELY = str(REPO / "tests" / "cases" / "lively.yaml")

#: Of whole instances: another market, other hedges, other moments. The first is of every run, the others of campaigns.
SEEDS = [1, pytest.param(2, marks=pytest.mark.campaign), pytest.param(3, marks=pytest.mark.campaign)]

#: A busy host may keep an executor off its CPU, or from READY, for seconds: for scenarios that are not LIVELY.
PATIENT: dict[str, Any] = {"hung_after_ms": 10_000, "restart_within_ms": 60_000}
ASK_S = 60.0
LEFT_MS = 1300.0  # of a delayed leg's time on its way, so that what a test does next comes before it arrives


class Rig(BrokenInstance):
    """Venues and an engine on them, and its check by the ledger."""

    def pids(self) -> list[int]:
        """Every process of the instance as the kernel knows them, the control plane first."""
        return [self.engine.pid, self.fork_server(), *children_of(self.fork_server())]

    def books(self) -> JournalTotals:
        return JournalTotals(self.entries())

    def judge(self) -> list[Violation]:
        """Every invariant that the venues' ledger can be asked for, after :meth:`end`."""
        entries = self.entries()
        books, journal = JournalTotals(entries), plain_journal(entries)
        return check_all(
            ledger=until_stop(self.ledger(), journal),
            journal=journal,
            uids=self.uids,
            numeraire="USDT",
            engine_pnl=books.pnl(),
            dust=books.targets("USDT"),
        )

    def money(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(the engine's, the venues') change per asset."""
        entries = self.entries()
        ledger = until_stop(self.ledger(), plain_journal(entries))
        return JournalTotals(entries).pnl(), dict(venue_changes(ledger, self.uids))


@contextlib.contextmanager
def shown_rig(rig: Rig) -> Iterator[Rig]:
    """``rig``, READY; a test that fails in it prints what its operator would see; nothing of it is left afterwards."""
    try:
        rig.start()
        yield rig
    except BaseException:
        print(arb("status", "--instance", rig.instance).stdout)
        print(arb("logs", "--level", "warning", "--lines", "100", "--instance", rig.instance).stdout)
        raise
    finally:
        rig.close()


@contextlib.contextmanager
def ready_rig(scenario: str = LIVELY, seed: int = 1) -> Iterator[Rig]:
    """A READY instance of a random name on ``scenario``; nothing of it is left afterwards."""
    with shown_rig(Rig(f"t-{secrets.token_hex(4)}", scenario=scenario, seed=seed)) as rig:
        yield rig


#: Short windows: what is unknown is decided within two seconds.
SHORT_WINDOWS: dict[str, Any] = {
    "execution": {"entry_window_ms": 800, "unknown_grace_ms": 1200},
    "risk_limits": {"max_orders_per_s": 100},
}


@contextlib.contextmanager
def running(**config: Any) -> Iterator[Rig]:
    """A READY instance of short windows, sections of its configuration replaced by ``config``."""
    with shown_rig(Rig(f"g-{secrets.token_hex(4)}", **{"scenario": LIVELY, **SHORT_WINDOWS, **config})) as rig:
        yield rig


def asked(rig: Rig, socket: str, **request: Any) -> dict[str, Any]:
    """The reply of ``<socket>.sock`` to a request that may be given twice: who waits for a CPU in the middle of it is
    cut off (the guard waits 0.2 s for a line), or too late. One that is wrong raises BadInput at once."""
    replies: list[dict[str, Any]] = []

    def answered() -> bool:
        with contextlib.suppress(ControlError):
            replies.append(ask(rig.engine.state_dir / f"{socket}.sock", request, timeout_s=ASK_S))
        return bool(replies)

    until(answered, f"an answer of the {socket} to {request}")
    return replies[0]


def running_pid(rig: Rig, process: str) -> int:
    """Pid of a child, which is waited for: 0, of one that is down, is this very process group for ``os.kill``."""
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [rig.engine.process_pid(process)]
        return bool(found[0])

    until(is_there, f"{process} runs")
    return found[0]


def next_pid(rig: Rig, process: str, before: int, *, ready: bool = False) -> int:
    """Waits for another process than ``before`` under this name (``ready``: and for everything READY: ``run.json`` may
    still show the one that has ended, and all READY); its pid."""
    until(
        lambda: rig.engine.process_pid(process) not in (0, before) and (not ready or rig.engine.all_ready()),
        f"the next {process}",
    )
    return running_pid(rig, process)


def state_of(pid: int) -> str:
    """The kernel's letter for what a process does; X: it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as handle:
            return handle.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"


def stand_still(*pids: int) -> None:
    """SIGSTOP, and the kernel's word for it: until then a process may go on writing."""
    assert all(pids), f"0 is our own process group: {pids}"
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: all(state_of(pid) in "TtZX" for pid in pids), "they stand still")


def takeover(rig: Rig) -> dict[str, Any]:
    """What the guard says about its takeover; {} while it does not answer."""
    with contextlib.suppress(ControlError):
        return ask(rig.engine.state_dir / "guard.sock", {"op": "takeover"})
    return {}


def takeovers(rig: Rig) -> int:
    """How often a guard has stood in for the executor: the next guard counts on."""
    with contextlib.closing(Metrics.attach(rig.instance, "guard")) as metrics:
        return metrics.counters().get("takeovers", 0)


def taken_over(rig: Rig, before: int = 0) -> dict[str, Any]:
    """Waits for the end of a takeover behind the first ``before``: a guard says how the last one ended until the next
    one begins. How: of the very answer that said so, a guard may not give another."""
    last: dict[str, Any] = {}

    def ended() -> bool:
        if takeovers(rig) <= before:
            return False
        last.clear()
        last.update(takeover(rig))
        return last.get("flat") is not None

    until(ended, "a takeover that ended")
    return last


def holds_a_hedge(rig: Rig) -> None:
    """Waits for an open hedge."""
    until(lambda: int(rig.reading()["orders"].get("open_hedges", 0)) > 0, "an open hedge")


def keeps_a_hedge(rig: Rig, wanted: Callable[[Ledger], bool] = lambda ledger: bool(ledger.hedges)) -> Ledger:
    """An open hedge that is ``wanted``, and a detector that is stopped: no exit is offered any more. By the journal:
    what is published may be older than the exit of the hedge that it shows."""

    def known() -> Ledger:
        ledger = replayed(rig.engine.state_dir)
        assert ledger is not None
        return ledger

    def at_rest() -> bool:
        executor.refresh()
        until(partial(rounds, executor.epoch, executor.progress), "what was offered before is judged")
        readings.append(known())  # the one that is returned: an exit may begin between two
        return not readings[-1].open_operations

    def rounds(epoch: int, seen: int) -> bool:
        executor.refresh()
        return executor.epoch != epoch or executor.progress - seen >= 3 or not executor.alive()

    executor = LivenessView.attach(rig.instance, "executor")
    while True:
        holds_a_hedge(rig)
        detector = running_pid(rig, "detector")
        stand_still(detector)
        readings = list[Ledger]()
        until(at_rest, "no operation under way")
        if wanted(readings[-1]) and state_of(detector) == "T":  # else another one than it may offer exits
            return readings[-1]
        with contextlib.suppress(ProcessLookupError):
            os.kill(detector, signal.SIGCONT)


def half_done(rig: Rig, venue: str) -> str:
    """Waits for an operation with one leg filled and the other on its way to ``venue``; the client id of the other."""
    give_up = time.monotonic() + WAIT_S
    while True:
        found = await_half_done(rig.engine, rig.simulator, venue, lambda: time.monotonic() < give_up)
        assert found is not None, f"no operation with a leg on its way to {venue} came"
        if _is_delayed(rig, found[1].client_id):
            return found[1].client_id
        rig.simulator.clear_faults()  # else each attempt leaves a delay behind it
        # What the attempt has hit is decided first: who hangs now, hangs with one order on its way.
        until(lambda: not rig.reading()["orders"].get("unsettled_orders", 1), "orders of the attempt decided")


def _is_delayed(rig: Rig, client_id: str) -> bool:
    """Whether the venue keeps this very order waiting, and will for a while: on a busy host any answer takes as long as
    ``await_half_done`` looks at it."""
    rows = plain_ledger(rig.simulator.control("/ledger?kind=request")["rows"])
    until_ns = time.monotonic_ns() - int((IN_FLIGHT_MS - LEFT_MS) * 1e6)
    return any(
        row["client_id"] == client_id and "delay_ns" in row["fault"] and row["mono_ns"] > until_ns for row in rows
    )


def exposure(rig: Rig) -> dict[str, Decimal]:
    """Net exposure per asset by the venues' ledger."""
    return deltas(rig.ledger(), rig.uids, "USDT")


def is_judged(rig: Rig) -> None:
    """Every invariant after an orderly end, and the money to the last digit."""
    rig.end()
    broken = rig.judge()
    assert broken == [], broken
    ours, theirs = rig.money()
    assert {k: v for k, v in ours.items() if v} == {k: v for k, v in theirs.items() if v}


def segments_of(instance: str) -> list[str]:
    """The shared-memory segments of an instance."""
    return sorted(path.name for path in Path("/dev/shm").glob(f"arb.{instance}.*"))


def arb(*arguments: str, timeout: float = 240, **kwargs: object) -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own; its output as text."""
    return subprocess.run(
        [sys.executable, "-m", "workers", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **kwargs,  # type: ignore[call-overload]
    )


def answer(rig: Rig, *command: str) -> tuple[int, dict[str, Any]]:
    """Exit code and the one object of a command with ``--json``."""
    done = arb(*command, "--instance", rig.instance, "--json")
    assert done.stdout.count("\n") == 1, (command, done.stdout, done.stderr)
    return done.returncode, msgspec.json.decode(done.stdout)


def trades_again(rig: Rig) -> None:
    """Waits for an entry that begins from now on."""

    def entries() -> int:
        return int(read_status(rig.instance)["orders"].get("entries", 0))

    seen = entries()
    until(lambda: entries() > seen, "another entry")


def reason(rig: Rig, begins: str) -> dict[str, Any]:
    """The reason of `arb status` that begins so, once it is there."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        reply = answer(rig, "status")[1]
        found[:] = [row for row in [*reply["reasons"], *reply.get("notes", [])] if row["what"].startswith(begins)]
        return bool(found)

    until(is_there, f"the reason {begins!r}")
    return found[0]
