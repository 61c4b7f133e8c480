"""One reading of an instance out of shared memory and ``run.json``: while it runs, after a stop and after a crash."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.execution.ledger import Ledger
from pipeline.execution.market import best_price_fp
from pipeline.execution.results.counts import OpenTrips, OperationCounts, counts_of
from pipeline.market_data import MarketDataAggregator
from pipeline.model.config import EngineConfig
from pipeline.model.config_load import load_config
from pipeline.model.enums import OrderSide, ProcessState
from pipeline.model.errors import ArbitrageEngineError, BadInput
from pipeline.model.fixedpoint import from_fp
from pipeline.model.units import NS_PER_DAY
from pipeline.risk.breakers import solve
from shm.errors import ShmError
from shm.layout import BOOK, HEADER
from shm.layout_pages import ACCOUNT_BALANCE, ACCOUNT_POSITION, ASSET_WORDS
from shm.liveness import LivenessView
from shm.metrics import Histogram, Metrics
from shm.pages import AccountPage, HaltPage
from shm.segment import trust_owner_uids
from shm.words import unpack_text
from workers.control_plane.instances import described as instance_description
from workers.control_plane.instances import is_running, run_file
from workers.executor_file import read_executor_state
from workers.halt_file import read_halt
from workers.last_run.half_done import replayed
from workers.last_run.journal_rows import left_by_journal
from workers.pinning import allowed_cpus
from workers.state_folder import instance_dir
from workers.tradable import Answer, InstanceReasons, fields, utc
from workers.view.book_verdict import BookJudge, feed_lives, state_of_book
from workers.view.budgets import budgets

PERCENTILES = (50.0, 99.0, 99.9)


def latency_fields(histogram: Histogram) -> dict[str, Any]:
    """p50, p99, p999, max in microseconds and the count of one histogram."""
    p50, p99, p999 = histogram.percentiles(list(PERCENTILES))
    return {
        "p50": round(p50 / 1000, 1),
        "p99": round(p99 / 1000, 1),
        "p999": round(p999 / 1000, 1),
        "max": round(histogram.max / 1000, 1),
        "n": int(histogram.count),
    }


def current_cpu(pid: int) -> int | None:
    """CPU that the process last ran on (/proc/<pid>/stat field 39); None when it is gone."""
    try:
        raw = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(raw[raw.rindex(b")") + 2 :].split()[36])


def trust_owner(instance: str) -> None:
    """Read the shared memory of whoever owns the state folder, where the folder may be read: by root, and by members of
    ``monitoring.group``. Nobody is let in by this: permissions of folder and memory decide that.

    Raises BadInput for a folder that is closed to this user."""
    folder = instance_dir(instance)
    if not folder.is_dir():
        return
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        if not os.access(folder, os.R_OK | os.X_OK):
            raise BadInput(
                f"found {folder} closed to user {os.geteuid()}, wanted its user {owner}, root, or a member of "
                "`monitoring.group`; the monitor's http://127.0.0.1:9464/status is open to all users of the host"
            )
        trust_owner_uids([owner])


class Reader:
    """Reads an instance; :meth:`read` may be called again and again, its books stay mapped in between."""

    def __init__(self, instance: str) -> None:
        trust_owner(instance)
        self.instance = instance
        self.state_dir = instance_dir(instance)
        self._reasons = InstanceReasons(instance, self.state_dir)
        self._market: MarketDataAggregator | None = None
        self._market_of: object = None  # pid of the supervisor whose memory is mapped

    def answer(self) -> Answer:
        """Whether the instance can trade, now: what ``read`` shows as ``state``, ``reasons`` and ``notes``."""
        described = instance_description(self.instance)
        self._reasons.market = self._attached(described)
        return self._reasons.answer(described, running=is_running(self.instance))

    def read(self) -> dict[str, Any]:
        """The fields of ``arb status --json``; Decimals as Decimal."""
        described = instance_description(self.instance)
        running = is_running(self.instance)
        views = LivenessView.attach_all(self.instance)
        metrics = Metrics.attach_all(self.instance)
        counters = {process: found.counters() for process, found in metrics.items()}
        if not running:  # their memory is gone after an orderly stop
            counters = {**described.get("counters", {}), **counters}
        halt = read_halt(self.state_dir)
        self._reasons.market = market = self._attached(described)
        answer = self._reasons.answer(described, running=running)
        executor = executor_fields(self.state_dir, running=running)
        losses = executor.pop("losses")
        judge = BookJudge(self.instance, described, answer.reasons)
        return {
            "instance": self.instance,
            "state": str(answer.state),
            "reasons": [fields(reason) for reason in answer.reasons],
            "notes": [fields(reason) for reason in answer.notes],
            "phase": described.get("state", "starting") if running else "down",
            "mode": described.get("mode"),
            "warming": described.get("warming") or None,
            "failure": described.get("failure"),
            "halted": halt.halted,
            "halt_reason": halt.reason if halt.halted else None,
            **executor,
            "processes": self._processes(described, views),
            "feeds": self._feeds(described, counters, running),
            "books": [] if market is None else books(market, views, judge),
            "opportunities": opportunities(counters),
            "orders": orders(counters),
            "positions": with_marks(self._positions(market), executor_positions(self.state_dir)),
            "balances": self._balances(),
            "risk": {**self._risk(counters, halt.halted), **losses},
            "budgets": budgets(self.instance),
            "latency_us": latencies(metrics),
            "counters": counters,
            "messages": described.get("notes", []),
        }

    def config(self) -> EngineConfig | None:
        """The configuration that the instance runs with; None when it cannot be read any more."""
        path = run_file(self.instance).get("config")
        if not path:
            return None
        try:
            return load_config(path)
        except ArbitrageEngineError:
            return None

    def _attached(self, described: dict[str, Any]) -> MarketDataAggregator | None:
        """The instance's books; None where its configuration or its memory cannot be read any more."""
        if described.get("pid") != self._market_of or self._market is None:
            config = self.config()
            self._market_of = described.get("pid")
            self._market = None if config is None else MarketDataAggregator(self.instance, config)
        if self._market is not None:
            try:
                self._market.attach()
                self._market.refresh()
            except ShmError:  # memory of another build
                return None
        return self._market

    def _processes(self, described: dict[str, Any], views: dict[str, Any]) -> dict[str, Any]:
        now = time.monotonic_ns()
        rows: dict[str, Any] = {}
        known = described.get("processes", {})
        for name in [*known, *(name for name in views if name not in known)]:
            row, view = known.get(name, {}), views.get(name)
            alive = view is not None and view.alive()
            state = ProcessState(view.state) if view is not None and alive else None
            pid = int(row.get("pid") or (view.pid if view is not None else 0))
            rows[name] = {
                "pid": pid if alive else None,
                "alive": alive,
                "cpu": current_cpu(pid) if alive else None,
                "cpus": allowed_cpus(pid) if alive else None,
                "cpus_wanted": row.get("cpus", []),
                "beat_age_ms": round(view.beat_age_ns(now) / 1e6, 1) if view is not None else None,
                "ready": state in (ProcessState.READY, ProcessState.DEGRADED),
                "state": _ended(row) if state is None else state.name.lower(),
                "parked": view is not None and state is not None and view.parked,
                "restarts": row.get("restarts", 0),
                "recovery_ms": row.get("recovery_ms"),
                "status": row.get("status", ""),
            }
        return rows

    def _feeds(self, described: dict[str, Any], counters: dict[str, dict[str, int]], running: bool) -> dict[str, Any]:
        rows: dict[str, Any] = {name: dict(row) for name, row in described.get("venues", {}).items()}
        for row in rows.values():
            row["reachable"] = row.get("reachable") if running else None  # no process asks the venues any more
        for process, labels in counters.items():
            if process.startswith("feed."):
                for label, value in labels.items():
                    venue, _, what = label.partition(".")
                    if venue in rows:
                        rows[venue][what] = value
        return rows

    def _risk(self, counters: dict[str, dict[str, int]], halted_on_disk: bool) -> dict[str, Any]:
        page = HaltPage.attach(self.instance)
        token, expiry = page.lease if page.mapped else (0, 0)
        return {
            "latched": page.latched if page.mapped else halted_on_disk,
            "reason": page.reason if page.mapped and page.latched else None,
            "lease_token": token,
            "lease_left_ms": round(max(0, expiry - time.monotonic_ns()) / 1e6, 1),
            **{
                label: value
                for label, value in counters.get("executor", {}).items()
                if label.split(".", 1)[0] in ("exposure_usd", "breakers", "daily_pnl", "open_operations")
            },
        }

    def _balances(self) -> dict[str, Any]:
        page, names = AccountPage.attach(self.instance), self._venue_names()
        rows: dict[str, Any] = {}
        now = time.monotonic_ns()
        for index in range(page.balance_count):
            row = page.balance(index)
            if row is None or int(row[ACCOUNT_BALANCE.venue]) >= len(names):
                continue
            asset = unpack_text(row[ACCOUNT_BALANCE.asset : ACCOUNT_BALANCE.asset + ASSET_WORDS])
            exp = int(row[ACCOUNT_BALANCE.exp])
            rows.setdefault(names[int(row[ACCOUNT_BALANCE.venue])], {})[asset] = {
                "free": from_fp(int(row[ACCOUNT_BALANCE.free_fp]), exp),
                "locked": from_fp(int(row[ACCOUNT_BALANCE.locked_fp]), exp),
                "age_ms": round((now - int(row[ACCOUNT_BALANCE.confirmed_mono_ns])) / 1e6, 1),
            }
        return rows

    def _positions(self, market: MarketDataAggregator | None) -> list[dict[str, Any]]:
        page, names = AccountPage.attach(self.instance), self._venue_names()
        rows = []
        for index in range(page.position_count):
            row = page.position(index)
            if row is None or int(row[ACCOUNT_POSITION.qty_fp]) == 0 or int(row[ACCOUNT_POSITION.venue]) >= len(names):
                continue
            instrument = None if market is None else market.instruments.get(int(row[ACCOUNT_POSITION.instrument]))
            rows.append(
                {
                    "venue": names[int(row[ACCOUNT_POSITION.venue])],
                    "symbol": "" if instrument is None else instrument.spec.symbol,
                    "qty": from_fp(int(row[ACCOUNT_POSITION.qty_fp]), int(row[ACCOUNT_POSITION.qty_exp])),
                    "entry_price": from_fp(
                        int(row[ACCOUNT_POSITION.entry_price_fp]), int(row[ACCOUNT_POSITION.price_exp])
                    ),
                }
            )
        return rows

    def _venue_names(self) -> list[str]:
        return list(run_file(self.instance).get("venues", {}))


def executor_fields(state_dir: Path, *, running: bool) -> dict[str, Any]:
    """What only the executor knows, as it last said it; of an instance that has ended without a word, by its journal.

    ``as_of``: when it was said.
    """
    state = read_executor_state(state_dir)
    if state is not None and (running or state.stopped):
        return {
            "as_of": utc(state.wall_ns),
            "pnl": state.pnl,
            "losses": {} if state.wall_ns // NS_PER_DAY < time.time_ns() // NS_PER_DAY else state.losses,  # a day's
            "changes": state.changes,
            "operations": OperationCounts.of(state.operations).fields(),
            **_rates(OperationCounts.of(state.operations), state.hedges),
            "breakers": state.breakers,
            "recoveries": state.recoveries,
            "hedges": state.hedges,
            "foreign_coins": state.foreign_coins,
            "open_operations": state.open_operations,
            "unsettled_orders": state.unsettled_orders,
            "average_execution_time_ms": round(state.execution_ms / state.executions_timed, 3)
            if state.executions_timed
            else None,
        }
    ledger = None if running else replayed(state_dir)
    counts = OperationCounts() if ledger is None else counts_of(ledger)
    known = ledger if ledger is not None else Ledger()
    left = left_by_journal(known)
    return {
        "as_of": utc(known.last_wall_ns),
        "pnl": {"realised": known.total_pnl} if ledger is not None else None,
        "losses": {},
        "changes": {asset: value for asset, value in known.accounts.per_asset().items() if value},
        "operations": counts.fields(),
        **_rates(counts, left["hedges"]),
        "breakers": [
            {
                "name": name,
                "since_wall_ns": known.since_wall_ns.get(name, 0),
                "reason": text,
                "solve": solve(name, text),
            }
            for name, text in known.breakers.items()
        ],
        **left,
        "average_execution_time_ms": None,
    }


def executor_positions(state_dir: Path) -> list[dict[str, Any]]:
    """Futures positions as the executor last published them: what stays open after a stop."""
    state = read_executor_state(state_dir)
    return [] if state is None else state.positions


#: Fields of a position that its quantity does not change.
OF_ANY_QTY = ("base", "quote", "mark_price")
POSITION_FIELDS = (
    *("venue", "symbol", "qty", "entry_price", *OF_ANY_QTY, "foreign_qty", "age_s", "unrealised", "funding"),
    *("liquidation_price", "liquidation_distance_bps", "liquidation_distance_pct"),
)


def with_marks(rows: list[dict[str, Any]], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Positions of the account page, each with what the executor last said of it: its mark, and, of one as large, what
    is not ours, age, unrealised P&L, funding, liquidation. All that it said where the page has none. Every row has all
    ``POSITION_FIELDS``, None where one is not known."""
    known = {(row["venue"], row["symbol"]): row for row in published}
    found = []
    for row in rows:
        said = known.get((row["venue"], row["symbol"]), {})
        same = bool(said) and Decimal(str(said["qty"])) == row["qty"]
        found.append({**{name: value for name, value in said.items() if same or name in OF_ANY_QTY}, **row})
    return [{**dict.fromkeys(POSITION_FIELDS), **row} for row in found or published]


def _rates(counts: OperationCounts, hedges: list[dict[str, Any]]) -> dict[str, float | None]:
    with_open = counts.win_rate_with(OpenTrips.of(hedges))
    return {"success_rate": counts.success_rate, "win_rate": counts.win_rate, "win_rate_with_open": with_open}


def _ended(row: dict[str, Any]) -> str:
    """State of a process that has ended: as the supervisor last wrote it, ``dead`` where it wrote of a living one."""
    said = str(row.get("state", "stopped"))
    return "dead" if said in ("starting", "ready", "stopping") else said


def books(market: MarketDataAggregator, views: Mapping[str, LivenessView], judge: BookJudge) -> list[dict[str, Any]]:
    """One row per instrument: its best prices and quantities, ms since its book was proved current, tradable or not: as
    `arb inspect book` says. ``views``: of the instance's processes."""
    rows: list[dict[str, Any]] = []
    words, offsets = market.memory
    lives = {feed: feed_lives(views.get(f"feed.{feed}")) for feed in market.feeds}
    for row in market.instruments:
        view = market.book(row.instrument_id)
        if view is None or row.instrument_id in market.removed:
            continue
        bid, ask = best_price_fp(view, OrderSide.SELL), best_price_fp(view, OrderSide.BUY)
        state = state_of_book(
            view.words,
            status=1,
            proof_mono_ns=view.proof_mono_ns,
            feed_epoch=int(words[offsets[row.feed_id] + HEADER.epoch]),
            feed_lives=lives[market.feeds[row.feed_id]],
            now_mono_ns=time.monotonic_ns(),
        )
        rows.append(
            {
                "venue": row.spec.venue,
                "symbol": row.spec.symbol,
                "pair": row.spec.pair,
                "bid": None if bid is None else from_fp(bid, row.price_exp).normalize(),
                "bid_qty": None if bid is None else from_fp(view.words[BOOK.bid_qty_fp], row.qty_exp).normalize(),
                "ask": None if ask is None else from_fp(ask, row.price_exp).normalize(),
                "ask_qty": None if ask is None else from_fp(view.words[BOOK.ask_qty_fp], row.qty_exp).normalize(),
                "age_ms": None if state.age_ms is None else round(state.age_ms, 1),
                "tradable": not judge.against(row, state._replace(max_age_ms=market.max_age_ms)),
            }
        )
    return rows


def refusals(labels: dict[str, int]) -> dict[str, int]:
    """``refused.<reason>`` counters of one process, without the zeros."""
    prefix = "refused."
    return {label.removeprefix(prefix): n for label, n in labels.items() if label.startswith(prefix) and n}


def opportunities(counters: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Counts of episodes: detected, taken, refused by reason, and open ones, which count under no reason yet.

    An episode that the executor refused after the detector had counted it as taken counts as refused.
    """
    detector, executor = counters.get("detector", {}), counters.get("executor", {})
    refused = refusals(detector)
    for reason, count in refusals(executor).items():
        refused[reason] = refused.get(reason, 0) + count
    late = sum(refusals(executor).values())
    return {
        "detected": detector.get("detected", 0),
        "taken": max(0, detector.get("taken", 0) - late),
        "refused": dict(sorted(refused.items())),
        "open": detector.get("open", 0),
    }


def orders(counters: dict[str, dict[str, int]]) -> dict[str, int]:
    """The executor's counters, but for its refusals."""
    labels = counters.get("executor", {})
    return {name: value for name, value in labels.items() if not name.startswith("refused.")}


def latencies(metrics: dict[str, Any]) -> dict[str, Any]:
    """``tick_to_order`` and every stage that has values, in microseconds."""
    stages: dict[str, Any] = {}
    tick_to_order: dict[str, Any] | None = None
    for process, found in metrics.items():
        for label, histogram in found.histograms().items():
            if not histogram.count:
                continue
            fields = latency_fields(histogram)
            if label == "tick_to_order":
                tick_to_order = fields
            else:
                stages[f"{process}.{label}"] = fields
    return {"tick_to_order": tick_to_order, "stages": stages}


def read_status(instance: str) -> dict[str, Any]:
    """One reading of an instance (see :meth:`Reader.read`)."""
    return Reader(instance).read()
