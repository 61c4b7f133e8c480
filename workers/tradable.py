"""The one answer of an instance: can it trade, and if not, why, since when, and what solves it.

Joins what the executor last published (``executor.json``; the journal where there is none) with what only the
outside sees: processes, halt, drain and blocks, feeds, accounts, disk. ``arb status``, ``arb top``, ``arb up``, the
``STATUS=`` of systemd and alerts all show this and nothing else.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pipeline.market_data import MarketDataAggregator
from pipeline.model.enums import AccountState, ProcessState
from pipeline.model.errors import settings_fix
from pipeline.risk.breakers import ADOPT, RESUME
from pipeline.trade_state import Effect, Reason, TradeState, ledger_reasons, state_of
from shm.layout_pages import ACCOUNT_VENUE
from shm.liveness import LivenessView, LivenessViews
from shm.metrics import MetricsViews
from shm.pages import AccountPage, HaltPage
from workers.executor_file import ExecutorState, read_executor_state
from workers.halt_file import HaltState, if_hung, just_written, read_halt
from workers.last_run.half_done import replayed
from workers.last_run.journal_rows import half_done_text, open_operations
from workers.last_run.other_journal import journal_notes
from workers.last_run.start_hint import start_hint
from workers.pinning import pinning_reasons

WAIT = "it is started again by itself; arb status"
ALONE = "systemd starts it again; else kill -9 it: all others end in order; arb status then says how to start"
SILENT_NS = 3_000_000_000  # a process that has not beaten for this long hangs
OLD_STATE_NS = 5_000_000_000  # the executor publishes once a second
DISK_LOW_BYTES = 256 * 1024 * 1024
#: What each process is needed for: without a ``STOPS`` one nothing can be entered.
NEEDED = {
    "guard": (Effect.STOPS, "no lease is granted"),
    "executor": (Effect.STOPS, "nothing is sent"),
    "detector": (Effect.STOPS, "nothing is found"),
    "poller": (Effect.STOPS, "balances are not confirmed"),
    "recorder": (Effect.DEGRADES, "nothing is written for arb report and arb why"),
    "monitor": (Effect.DEGRADES, "no alerts are sent, no metrics are served"),
    "supervisor": (Effect.DEGRADES, "nothing is started again"),
}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an instance can trade. ``reasons`` are why not (worst first), ``notes`` what is worth knowing."""

    state: TradeState
    reasons: list[Reason]
    notes: list[Reason]

    def text(self) -> str:
        """The answer in one line: the state and the first reasons."""
        what = "; ".join(reason.what for reason in self.reasons[:3])
        more = f" (and {len(self.reasons) - 3} more)" if len(self.reasons) > 3 else ""
        return f"{self.state}: {what}{more}" if what else str(self.state)


def answer_of(reasons: Iterable[Reason]) -> Answer:
    """The answer that follows from all reasons; of two with the same text the worse one."""
    known: dict[str, Reason] = {}
    for reason in reasons:
        if reason.what not in known or known[reason.what].effect < reason.effect:
            known[reason.what] = reason
    ordered = sorted(known.values(), key=lambda reason: -reason.effect)
    return Answer(
        state=state_of(ordered),
        reasons=[reason for reason in ordered if reason.effect > Effect.NOTE],
        notes=[reason for reason in ordered if reason.effect is Effect.NOTE],
    )


def fields(reason: Reason) -> dict[str, Any]:
    """A reason as ``--json`` shows it: ``since`` is UTC, or None where it is not known."""
    return {"what": reason.what, "since": utc(reason.since_wall_ns), "solve": reason.solve}


def utc(wall_ns: int) -> str | None:
    """A wall-clock time as ISO 8601 in UTC, to the second; None for 0."""
    if not wall_ns:
        return None
    at = datetime.datetime.fromtimestamp(wall_ns // 1_000_000_000, datetime.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


class InstanceReasons:
    """Reads an instance's reasons; :meth:`answer` may be called again and again.

    ``market``: the instance's books, where the caller has them attached; without it no book is called old.
    """

    def __init__(self, instance: str, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._processes = LivenessViews(instance)
        self._metrics = MetricsViews(instance)
        self._account, self._page = AccountPage.attach(instance), HaltPage.attach(instance)
        self.market: MarketDataAggregator | None = None

    def answer(self, described: Mapping[str, Any], *, running: bool) -> Answer:
        """The answer now. ``described``: content of ``run.json``; ``running``: whether its supervisor lives."""
        return answer_of(self.reasons(described, running=running))

    def reasons(self, described: Mapping[str, Any], *, running: bool) -> list[Reason]:
        """Every reason, in no order."""
        halt = read_halt(self._state_dir)
        published = read_executor_state(self._state_dir)
        found = halt_reasons(halt, list(described.get("venues", {})), running=running)
        if not running:  # stopped before all else
            left = [*self._not_running(described), *self._left_behind(described, published)]
            return found + [msgspec.structs.replace(one, effect=min(one.effect, Effect.STOPS)) for one in left]
        views = self._processes.look()
        found += process_reasons(described, views, time.monotonic_ns())
        found += [] if is_starting(described) else self._account_reasons(described)  # what the executor misses follows
        executor = views.get("executor")
        said = self._published_reasons(published, executor)
        ready = executor is not None and executor.alive() and executor.state == ProcessState.READY
        adopts = ready and any(ADOPT in reason.solve for reason in said)
        found = [*said, *found] if adopts else [*found, *said]  # an adoption releases the halt as well, once it can be
        found += self._unwatched(described, published)
        found += [*pinning_reasons(described), *symbol_reasons(described), *ends_reasons(described)]
        if not is_starting(described):
            self._page.refresh()
            if not just_written(self._state_dir):
                found += page_reasons(self._page, halt, list(described.get("venues", {})))
            found += [*self._feed_reasons(described), *books_alone(described)]
        found += detection_reasons(self._metrics.counters("detector"))
        return [*found, *journal_notes(self._metrics.counters("recorder")), *self._disk_reasons()]

    # --- an instance that does not run ---

    def _not_running(self, described: Mapping[str, Any]) -> list[Reason]:
        solve = start_hint(described)
        state, failure = described.get("state"), described.get("failure")
        if failure:
            return [Reason(what=f"failed: {failure}", solve=solve, effect=Effect.STOPS)]
        crashed = state not in (None, "stopped")
        what = "its supervisor ended without an orderly stop" if crashed else "the instance does not run"
        return [Reason(what=what, solve=solve, effect=Effect.STOPS)]

    def _left_behind(self, described: Mapping[str, Any], published: ExecutorState | None) -> list[Reason]:
        """What stands in the way of the next start as well, and what is still open at the venues."""
        if published is not None and published.stopped:
            found = [reason for reason in published.reasons if _of_journal(reason)]
            hedges = len(published.hedges)
            half_done = half_done_text(published.open_operations, published.unsettled_orders)
        else:
            ledger = replayed(self._state_dir)
            if ledger is None:
                return []
            found, hedges = ledger_reasons(ledger), len(ledger.hedges)
            half_done = half_done_text(open_operations(ledger), len(ledger.unsettled))
        if half_done:
            what = f"{half_done}: nobody watches what stays open at the venues"
            found.append(
                Reason(what=what, solve=f"{start_hint(described)} (it ends them first)", effect=Effect.DEGRADES)
            )
        if hedges:
            what = f"{hedges} hedges stay open at the venues, and nobody watches them"
            found.append(
                Reason(
                    what=what, solve=f"arb hedges; {start_hint(described)}, then arb close --all", effect=Effect.NOTE
                )
            )
        return found

    # --- a running one ---

    def _published_reasons(self, published: ExecutorState | None, executor: LivenessView | None) -> list[Reason]:
        """What the executor says; what it cannot say any more while it is away or hangs."""
        alive = executor is not None and executor.alive() and executor.state == ProcessState.READY
        if published is None:
            if not alive:
                return []
            what = "the executor has not published its state"
            return [Reason(what=what, solve="free space where the state folder lies", effect=Effect.DEGRADES)]
        if not alive or executor is None or executor.pid != published.pid:
            # away, or just born and not heard yet: what stands in the journal still holds
            return [reason for reason in published.reasons if _of_journal(reason)]
        found = list(published.reasons)
        age_ns = time.time_ns() - published.wall_ns
        if age_ns > OLD_STATE_NS:
            what = f"the executor's state is {age_ns // 1_000_000_000} s old"
            solve = "arb status; free space where the state folder lies"
            found.append(Reason(what=what, solve=solve, effect=Effect.DEGRADES, since_wall_ns=published.wall_ns))
        tripped = self._metrics.counters("executor").get("breakers", 0)
        if tripped != len(published.breakers) and age_ns > OLD_STATE_NS:
            what = f"{tripped} breakers are tripped, {len(published.breakers)} of them by name above"
            found.append(Reason(what=what, solve="arb breakers", effect=Effect.DEGRADES))
        return found

    def _unwatched(self, described: Mapping[str, Any], published: ExecutorState | None) -> list[Reason]:
        """Hedges that are open while the executor is not started again; the journals say which the guard has closed."""
        row = described.get("processes", {}).get("executor", {})
        if row.get("state") != "failed" or published is None or not published.hedges:
            return []
        ledger = replayed(self._state_dir)
        left = len(published.hedges) if ledger is None else len(ledger.hedges)
        if not left:
            return []
        what = f"{left} hedges are open, and nobody watches them: the executor is not started again"
        return [
            Reason(what=what, solve=f"arb hedges; arb close --all (the guard closes), or {RESUME}", effect=Effect.STOPS)
        ]

    def _feed_reasons(self, described: Mapping[str, Any]) -> list[Reason]:
        venues = described.get("venues", {})
        counters: dict[str, int] = {}
        for process in described.get("processes", {}):
            if process.startswith("feed."):
                counters |= self._metrics.counters(process)
        found, notes = feed_reasons(venues, counters), uncompared_notes(venues, counters)
        if self.market is not None and not found:
            traded = [venue for venue, row in venues.items() if row.get("trade", True)]
            found += book_reasons(self.market, traded, time.monotonic_ns())
        return found + notes

    def _account_reasons(self, described: Mapping[str, Any]) -> list[Reason]:
        page, states, faults = self._account, {}, {}
        page.refresh()
        for number, (venue, known) in enumerate(described.get("venues", {}).items()):
            row = page.venue(number) if page.mapped and known.get("trade", True) else None
            if row is not None:
                states[venue], faults[venue] = int(row[ACCOUNT_VENUE.state]), page.fault(number)
        return account_reasons(states, faults)

    def _disk_reasons(self) -> list[Reason]:
        try:
            disk = os.statvfs(self._state_dir)
        except OSError as error:
            what = f"the state folder cannot be read: {error.strerror}"
            return [Reason(what=what, solve=f"look at {self._state_dir}", effect=Effect.DEGRADES)]
        free = disk.f_bavail * disk.f_frsize
        if free >= DISK_LOW_BYTES:
            return []
        what = f"the disk of the state folder has {free // 1_000_000} MB left"
        return [Reason(what=what, solve=f"free space where {self._state_dir} lies", effect=Effect.DEGRADES)]


def _of_journal(reason: Reason) -> bool:
    """Whether a reason of the executor stands in its journal, and so outlives it."""
    return reason.what.startswith(("breaker ", "recovery ", "operation "))


def halt_reasons(halt: HaltState, venues: list[str], *, running: bool) -> list[Reason]:
    """Halt, drain and blocked venues, as they stand on the disk. ``running``: a stopped instance is stopped first."""
    found = []
    if halt.halted:
        effect = Effect.HALTS if running else Effect.STOPS
        what = f"HALTED by {halt.by}: {halt.reason}"
        found.append(Reason(what=what, solve=RESUME + if_hung(halt.reason), effect=effect, since_wall_ns=halt.wall_ns))
    if halt.fence is not None:
        what = f"fenced, the guard closes what is open: {halt.fence.reason}"
        solve = "arb status (it ends by itself)"
        found.append(Reason(what=what, solve=solve, effect=Effect.STOPS, since_wall_ns=halt.fence.wall_ns))
    if halt.drain is not None:
        what = f"draining, no new risk is taken ({halt.drain.by}): {halt.drain.reason}"
        found.append(Reason(what=what, solve=RESUME, effect=Effect.STOPS, since_wall_ns=halt.drain.wall_ns))
    left = [venue for venue in venues if venue not in halt.venues]
    for venue, block in sorted(halt.venues.items()):
        effect = Effect.DEGRADES if len(left) > 1 else Effect.STOPS
        what = f"venue {venue}: blocked ({block.by}): {block.reason}"
        found.append(Reason(what=what, solve=RESUME, effect=effect, since_wall_ns=block.wall_ns, venues=(venue,)))
    return found


def page_reasons(page: HaltPage, halt: HaltState, venues: list[str]) -> list[Reason]:
    """Halt, drain and blocks that are in force by the page while the disk has not taken them. ``venues``: by id."""
    if not page.mapped:
        return []
    found, later = [], "in force, and not on the disk yet"
    if page.latched and not halt.halted:
        found.append(Reason(what=f"HALTED: {page.reason} ({later})", solve=RESUME, effect=Effect.HALTS))
    known = set(venues) if halt.drain is not None else set(halt.venues)
    blocked = [venue for number, venue in enumerate(venues) if page.venue_blocked(number) and venue not in known]
    if blocked:
        what = f"no new risk is taken at {', '.join(blocked)}: drain or block {later}"
        effect = Effect.DEGRADES if len(venues) - len(blocked) > 1 else Effect.STOPS
        found.append(Reason(what=what, solve=RESUME, effect=effect, venues=tuple(blocked)))
    return found


def is_starting(described: Mapping[str, Any]) -> bool:
    """Whether an instance has not been READY since its start. ``described``: content of ``run.json``."""
    return described.get("state") in (None, "starting") or not described.get("processes")


def process_reasons(described: Mapping[str, Any], views: Mapping[str, LivenessView], now_mono_ns: int) -> list[Reason]:
    """Processes that are dead or hang, and the start while it lasts: what waits for its turn then is no reason of its
    own. ``described``: content of ``run.json``."""
    rows = dict(described.get("processes", {}))
    starting = is_starting(described)
    if not starting:
        rows["supervisor"] = {}
    feeds = [name for name in rows if name.startswith("feed.")]
    found, bad_feeds = [], 0
    for name, row in rows.items():
        effect, without = NEEDED.get(name, (Effect.DEGRADES, "its venues are not read"))
        view = views.get(name)
        what, solve = _process_fault(name, row, view, now_mono_ns)
        if what and not (starting and solve is WAIT):
            bad_feeds += name in feeds
            found.append(Reason(what=f"{what}: {without}", solve=solve, effect=effect))
    if feeds and bad_feeds == len(feeds):
        found.append(Reason(what="no feed works", solve=WAIT, effect=Effect.STOPS))
    if starting:
        warming = described.get("warming")
        what = f"starting: compiling kernels, {warming}" if warming else "starting"
        found.append(Reason(what=what, solve="wait; arb status", effect=Effect.STOPS))
    return found


def symbol_reasons(described: Mapping[str, Any]) -> list[Reason]:
    """Instruments that are halted, or quarantined for their price, each with its cause: the others trade on.
    ``described``: content of ``run.json``."""
    confirm = "arb symbols add {} confirms the change"
    apart = [
        Reason(
            what=f"{name} is traded against no other venue, {why}",
            solve="arb symbols list; it pairs again by itself once the prices agree",
            effect=Effect.DEGRADES,
        )
        for name, why in described.get("prices_apart", {}).items()
    ]
    return apart + [
        Reason(
            what=f"{name} is halted: {why}",
            solve=confirm.format(name) if why.startswith("tick") else "it trades again when the venue lets it",
            effect=Effect.NOTE,
        )
        for name, why in described.get("halted_symbols", {}).items()
    ]


def ends_reasons(described: Mapping[str, Any]) -> list[Reason]:
    """A note for each venue whose list of announced ends cannot be read. ``described``: content of ``run.json``."""
    return [
        Reason(
            what=f"{venue}: announced ends of trading cannot be read, {why}",
            solve="it is read again by itself; look at the venue's announcements meanwhile",
            effect=Effect.NOTE,
            venues=(venue,),
        )
        for venue, why in described.get("ends_unknown", {}).items()
    ]


def _process_fault(name: str, row: Mapping[str, Any], view: LivenessView | None, now_mono_ns: int) -> tuple[str, str]:
    """(what is wrong with a process, what solves it); ("", "") where nothing is."""
    if row.get("state") == "failed":
        status = f" ({row['status']})" if row.get("status") else ""
        return f"process {name} has failed and is not started again{status}", RESUME
    if view is None or not view.alive():
        return f"process {name} is not running", WAIT
    if view.beat_age_ns(now_mono_ns) > SILENT_NS:
        how = ALONE if name == "supervisor" else f"it is killed; {WAIT}"
        return f"process {name} hangs since {view.beat_age_ns(now_mono_ns) // 1_000_000_000} s", how
    if view.state not in (ProcessState.READY, ProcessState.DEGRADED):
        return f"process {name} is not READY", WAIT
    return "", ""


def feed_reasons(venues: Mapping[str, Mapping[str, Any]], counters: Mapping[str, int]) -> list[Reason]:
    """Venues whose instruments or streams cannot be read; a note where the instruments alone cannot be read anew, and
    the last ones have living books. ``counters``: those of all feeds, ``<venue>.<what>``."""
    dead: dict[str, str] = {}
    old: list[str] = []
    for venue, row in venues.items():
        connected, whole = counters.get(f"{venue}.connected", 1), counters.get(f"{venue}.books_whole")
        if row.get("reachable") is False and not (connected and whole):
            dead[venue] = "unreachable: its instruments could not be read"
        elif connected == 0:
            dead[venue] = "no stream is connected"
        elif whole == 0:
            dead[venue] = "every book waits for its snapshot"
        elif row.get("reachable") is False:
            old.append(venue)
    effects = _effects([venue for venue, row in venues.items() if row.get("trade", True)], dead)
    solve = "it connects again by itself; check exchanges.*.markets.* and the network where it does not"
    notes = [
        Reason(
            what=f"venue {venue}: its instruments could not be read anew, the last ones count",
            solve="they are read again by themselves",
            effect=Effect.NOTE,
        )
        for venue in old
    ]
    return notes + [
        Reason(what=f"feed of {venue}: {text}", solve=solve, effect=effects[venue], venues=(venue,))
        for venue, text in dead.items()
    ]


def uncompared_notes(venues: Iterable[str], counters: Mapping[str, int]) -> list[Reason]:
    """A note for each venue with books whose tickers say something else again and again."""
    return [
        Reason(
            what=f"feed of {venue}: {count} books are not compared with their tickers, which never agreed",
            solve=f"it ends by itself a minute after they agree; log/feed.{venue.rpartition('_')[0]}.log names them",
            effect=Effect.NOTE,
        )
        for venue in venues
        if (count := counters.get(f"{venue}.uncompared", 0))
    ]


def _effects(traded: Collection[str], dead: Collection[str]) -> dict[str, Effect]:
    """What each venue that is dead does to trading, which takes two that live: nothing where it is not traded."""
    lost = Effect.DEGRADES if len(set(traded) - set(dead)) > 1 else Effect.STOPS
    return {venue: lost if venue in traded else Effect.DEGRADES for venue in dead}


def books_alone(described: Mapping[str, Any]) -> list[Reason]:
    """A note for each venue whose books alone are read. ``described``: content of ``run.json``."""
    return [
        Reason(
            what=f"venue {venue}: its books are read, nothing is traded there",
            solve=f"exchanges.{venue.rpartition('_')[0]}.trade: true, and a start",
            effect=Effect.NOTE,
            venues=(venue,),
        )
        for venue, row in described.get("venues", {}).items()
        if not row.get("trade", True)
    ]


def book_reasons(market: MarketDataAggregator, traded: Collection[str], now_mono_ns: int) -> list[Reason]:
    """Venues of which no book is proved current any more. ``traded``: those that orders are sent to."""
    newest: dict[str, int] = {}
    for row in market.instruments:
        if row.instrument_id not in market.removed:
            view = market.book(row.instrument_id)
            proof = 0 if view is None else view.proof_mono_ns
            newest[row.spec.venue] = max(newest.get(row.spec.venue, 0), proof)
    dead = {venue: proof for venue, proof in newest.items() if now_mono_ns - proof > market.dead_after_ns}
    effects = _effects(traded, dead)
    return [
        Reason(
            what=f"feed of {venue}: no book is proved current"
            + (f" since {(now_mono_ns - proof) // 1_000_000_000} s" if proof else ""),
            solve="it connects again by itself; check the network where it does not",
            effect=effects[venue],
            venues=(venue,),
        )
        for venue, proof in dead.items()
    ]


def detection_reasons(counters: Mapping[str, int]) -> list[Reason]:
    """What the detector's counters tell of ``detection.enabled``."""
    if counters.get("looks_for_entries", 1):
        return []
    what = "detection is off: no entry is looked for; exits and manual opportunities go on"
    solve = "detection.enabled: true, then arb config reload (or start_detection() of the program that has stopped it)"
    return [Reason(what=what, solve=solve, effect=Effect.NOTE)]


_ASKED_AGAIN = "it is asked again by itself; what the venue answers stands in log/poller.log"
#: State of an account -> why no entry is made there, what solves it.
_NO_ENTRIES: dict[int, tuple[str, str]] = {
    AccountState.FAILING: ("cannot be read, its balances grow old", _ASKED_AGAIN),
    AccountState.REFUSED: (
        "key refused",
        "mend key or account at the venue: it is asked again every few minutes; a new key in keys/ needs a restart",
    ),
    AccountState.UNSETTLED: ("its modes are not known, no entries there", _ASKED_AGAIN),
    AccountState.SETTINGS_WRONG: (
        "its settings are wrong, no entries there",
        "it is looked at again every 2 s, and trades again by itself",
    ),
}


def account_reasons(states: Mapping[str, int], faults: Mapping[str, str] | None = None) -> list[Reason]:
    """Venues whose account the poller cannot read: a pause by a rate limit is a note. ``states``, ``faults``: of
    its page, by venue: how the readings go, and why the last one failed."""
    paused = [venue for venue, state in states.items() if state == AccountState.PAUSED]
    bad = [venue for venue, state in states.items() if state in _NO_ENTRIES]
    left = len(states) - len(bad)
    found = []
    for venue in bad:
        what, solve = _NO_ENTRIES[states[venue]]
        if states[venue] == AccountState.SETTINGS_WRONG:  # a text that stays the same while the state lasts
            text, mends = settings_fix((faults or {}).get(venue, ""))
            what += f": {text.removeprefix(f'{venue}: ')}" if text else ""
            solve = f"{mends}; {solve}"
        effect = Effect.DEGRADES if left > 1 else Effect.STOPS
        found.append(Reason(what=f"account of {venue}: {what}", solve=solve, effect=effect, venues=(venue,)))
    for venue in paused:
        effect = Effect.NOTE if left - len(paused) > 0 else Effect.STOPS
        what = f"account of {venue}: paused by the venue's rate limit"
        found.append(Reason(what=what, solve="it ends by itself", effect=effect))
    return found
