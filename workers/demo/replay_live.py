"""``arb replay`` without ``--exact``: captures served over loopback sockets to real feed processes, executed on paper.

At a finite speed frames come in the recorded pace. At ``max`` they come in the merged recorded order, at most 64 frames
ahead of what the feeds have handled; then only books, gaps and rates mean something. Orders are matched against the
replayed books by the paper account, through the order interface of every venue.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from pipeline.execution.journal import read_journal
from pipeline.execution.records import FillRecord
from pipeline.execution.results.counts import OpenTrips
from pipeline.model.errors import BadInput
from pipeline.model.structs import ZERO
from pipeline.paper_account import PaperAccount
from pipeline.replay_rows import open_venues
from shm.errors import ShmError
from shm.metrics import Metrics
from workers.control_plane.launch import Launched, LaunchError, compiling_text
from workers.demo.demo import DemoResult, Interrupt, drained
from workers.demo.run_checker import add, check_flat, check_money
from workers.demo.simulator import SimulatorError, SimulatorProcess
from workers.demo.summary import JournalTotals, feed_totals, last_word, losing, numeraire_value
from workers.output import say, stderr_is_terminal
from workers.view.live_view import LiveView

POLL_S = 0.05
CONFIRM_POLL_S = 0.001
FEED_METRICS_S = 0.002  # at ``max`` the feeds' counters are the pace
SETTLE_S = 0.5  # after the last frame
HANDLED_WAIT_S = 120.0  # at ``max``: for the last 64 frames; a feed that has died meanwhile lost some for ever
DRAIN_TIMEOUT_S = 10.0
NUMERAIRE = "USDT"


class ReplayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``arb replay`` without ``--exact``; ``quiet`` (for tests): no progress on stderr."""

    captures: list[Path]
    speed: str = "1"
    fees: str = "standard"
    min_edge_bps: float = 0.0
    json: bool = False
    quiet: bool = False


def check_speed(text: str) -> str:
    """``text`` where it is ``max`` or a factor above 0 and up to 1000; else raises BadInput."""
    if text == "max":
        return text
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor <= 1000:
        raise BadInput(f"--speed: found {text!r}, wanted max, or a factor above 0 and up to 1000, e.g. --speed 10")
    return text


def recorded_listing(captures: list[Path], fees: str) -> tuple[dict[str, dict[str, int]], list[str]]:
    """(venue -> symbol -> taker fee in ppm, all base coins) of the captures, by the rules of ``--exact``.

    Raises BadInput.
    """
    found: dict[str, dict[str, int]] = {}
    coins: set[str] = set()
    for venue in open_venues(list(captures), fees):
        rows = found.setdefault(venue.capture.venue, {})
        rows.update({listed.symbol: listed.fee_ppm for listed in venue.instruments})
        coins.update(listed.row.base for listed in venue.instruments)
    return found, sorted(coins)


class Confirmer(threading.Thread):
    """Reports to the source how many frames the feeds have handled, for as long as it runs."""

    def __init__(self, instance: str, simulator: SimulatorProcess, venues: list[str]) -> None:
        super().__init__(name="confirmer", daemon=True)
        self._instance = instance
        self._simulator = simulator
        self._venues = venues
        self._over = threading.Event()

    def run(self) -> None:
        """Body of the thread: poll the feeds' counters and report what is new."""
        reported: dict[str, int] = {}
        attached: dict[str, Metrics] = {}
        while not self._over.wait(CONFIRM_POLL_S):
            for venue in self._venues:
                process = f"feed.{venue.rpartition('_')[0]}"
                try:
                    metrics = attached.get(process) or Metrics.attach(self._instance, process)
                except ShmError:
                    continue
                attached[process] = metrics
                frames = metrics.value(f"{venue}.frames") - metrics.value(f"{venue}.control")
                if frames > reported.get(venue, 0):
                    reported[venue] = frames
                    body = msgspec.json.encode({"venue": venue, "frames": frames})
                    with contextlib.suppress(SimulatorError):
                        self._simulator.control("/replay/confirm", body)

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self.join()


def replay_config(
    engine_config: Mapping[str, Any], instance: str, options: ReplayOptions, coins: list[str]
) -> dict[str, Any]:
    """The configuration of a replay: paper trading on the recorded venues with the entry threshold of ``options``."""
    edge = str(options.min_edge_bps)
    return {
        "engine_name": instance,
        "mode": "paper",
        "exchanges": engine_config["exchanges"],
        "detection": {
            "types": ["spot_spot", "spot_futures_hedge"],
            "min_edge_bps": edge,
            "execute_edge_bps": edge,
            # recordings have no coin identities: instruments are paired by ticker and price, as ``--exact`` does
            "trusted_coins": coins,
        },
        # every edge above the threshold counts, however little the recorded sizes make of it
        "risk_limits": {"min_profit_margin_bps": edge, "min_profit_usd": "0" if options.min_edge_bps >= 0 else "-1e9"},
    }


def run_replay(options: ReplayOptions) -> DemoResult:
    """Serve, feed, detect, execute on paper, check. Raises ArbitrageEngineError when it cannot start."""
    check_speed(options.speed)
    overrides, coins = recorded_listing(options.captures, options.fees)
    instance = f"replay-{secrets.token_hex(4)}"
    environment = {"ARB_TEST_FEED_METRICS_S": str(FEED_METRICS_S)} if options.speed == "max" else {}
    engine = Launched(instance, environment=environment)
    simulator = SimulatorProcess(
        seed=1,
        scenario="",
        captures=options.captures,
        speed=options.speed,
        log=engine.state_dir / "log" / "simulator.log",
    )
    confirmer: Confirmer | None = None
    show = (lambda text: None) if options.quiet else say
    try:
        with Interrupt() as interrupt:
            show("reading the captures and starting the engine")
            sim = simulator.wait_ready()
            config = replay_config(sim.pop("engine_config"), instance, options, coins)
            (engine.state_dir / "fees.json").write_bytes(msgspec.json.encode(overrides))
            confirmer = Confirmer(instance, simulator, list(sim["venues"]))
            confirmer.start()
            engine.configure(config)
            began = time.monotonic()
            start_seconds = engine.wait_ready(compiling_text(show))
            show(f"engine READY {start_seconds:.1f} s after its launch")
            on_terminal = stderr_is_terminal() and not options.quiet
            with LiveView(instance, config, enabled=on_terminal, plain=not options.quiet) as view:
                progress = _until_done(simulator, engine, interrupt, view, options.speed)
            seconds = time.monotonic() - began
            reading = drained(engine, DRAIN_TIMEOUT_S)
            confirmer.stop()
            engine.stop()
            fields = summarise_replay(
                reading=reading,
                sim=sim,
                state_dir=engine.state_dir,
                seconds=seconds,
                start_seconds=start_seconds,
                progress=progress,
                options=options,
                fees=overrides,
            )
            return DemoResult(
                fields=fields,
                healthy=bool(fields["pnl"]["equal"] and not fields["violations"] and fields["messages"]),
                interrupted=interrupt.requested,
            )
    finally:
        if confirmer is not None and confirmer.is_alive():
            confirmer.stop()
        engine.stop()
        simulator.stop()
        engine.clean()


def _until_done(
    simulator: SimulatorProcess, engine: Launched, interrupt: Interrupt, view: LiveView, speed: str
) -> dict[str, Any]:
    """Wait until the last frame has been handled; the source's last report of its progress."""
    settled_at: float | None = None
    give_up: float | None = None
    while True:
        progress: dict[str, Any] = simulator.control("/replay")
        if not engine.alive():
            raise LaunchError(f"the engine ended in the middle of the replay:\n{engine.last_message()}")
        if progress["done"] and settled_at is None:
            give_up = give_up or time.monotonic() + HANDLED_WAIT_S
            handled = all(row["confirmed"] >= row["sent"] for row in progress["venues"].values())
            if handled or speed != "max" or time.monotonic() >= give_up:
                settled_at = time.monotonic() + SETTLE_S
        if interrupt.requested or (settled_at is not None and time.monotonic() >= settled_at):
            return progress
        view.update(f"{progress['t_ms'] / 1000:.1f} s played")
        time.sleep(POLL_S)


def paper_changes(folder: Path, venues: list[str]) -> tuple[dict[str, Decimal], dict[str, Decimal], list[Any]]:
    """(change per asset, futures position per "venue symbol", fills) of the paper accounts in ``folder``."""
    changes: dict[str, Decimal] = {}
    positions: dict[str, Decimal] = {}
    fills: list[Any] = []
    for venue in venues:
        account = PaperAccount(folder, venue)
        account.refresh()
        for asset, amount in account.changes.items():
            add(changes, asset, amount)
        for symbol, position in account.positions.items():
            add(positions, f"{venue} {symbol}", position.qty)
        fills.extend(account.fills)
    return changes, positions, fills


def summarise_replay(
    *,
    reading: Mapping[str, Any],
    sim: Mapping[str, Any],
    state_dir: Path,
    seconds: float,
    start_seconds: float,
    progress: Mapping[str, Any],
    options: ReplayOptions,
    fees: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """The fields of ``arb demo --json``; the paper accounts' own files stand for the venues."""
    entries = list(read_journal(state_dir / "journal"))
    books = JournalTotals(entries)
    venues = list(sim["venues"])
    changes, positions, fills = paper_changes(state_dir / "paper", venues)
    engine_pnl = books.pnl()
    bases = {
        f"{fill.venue} {fill.symbol}": fill.base
        for fill in (entry.record for entry in entries)
        if isinstance(fill, FillRecord)
    }
    delta = {asset: amount for asset, amount in changes.items() if asset != NUMERAIRE}
    for name, qty in positions.items():
        add(delta, bases.get(name, name), qty)
    violations = [*check_flat(delta, books.dust), *check_money(engine_pnl, changes)]
    said, shown = last_word(state_dir)
    counts, open_hedges = books.counts(), books.open_hedges(shown)
    totals = feed_totals(reading["feeds"])
    frames = sum(int(row.get("frames", 0)) for row in reading["feeds"].values())
    return {
        "seconds": round(seconds, 3),
        "start_seconds": round(start_seconds, 3),
        "speed": options.speed,
        "frames": {"played": progress["played"], "received": frames, "per_s": round(frames / seconds, 1)},
        "venues": venues,
        "instruments": sum(len(row["symbols"]) for row in sim["venues"].values()),
        **totals,
        "opportunities": reading["opportunities"],
        "operations": counts.fields(),
        "dislocations": {"offered": 0, "captured": 0},
        "captured_share": None,
        "success_rate": counts.success_rate,
        "win_rate": counts.win_rate,
        "win_rate_with_open": counts.win_rate_with(OpenTrips.of(open_hedges)),
        "orders": books.orders,
        "fills": len(fills),
        "pnl": {
            "engine": engine_pnl,
            "venue": changes,
            "equal": engine_pnl == changes,
            "numeraire": numeraire_value(books, _last_prices(fills), NUMERAIRE, "last fills of each listing") | said,
        },
        "flat": not any(row["invariant"] == "I1" for row in violations),
        "dust": books.dust,
        "open_hedges": open_hedges,
        "losing_operations": losing(books),
        "latency_us": reading["latency_us"],
        "terms": {
            "min_profit_margin_bps": str(options.min_edge_bps),
            "taker_fee_bps": {venue: _fee_text(rows) for venue, rows in fees.items()},
        },
        "sim": {**sim, "source": progress},
        "violations": violations,
    }


def _last_prices(fills: list[Any]) -> dict[tuple[str, str], Decimal]:
    """(venue, symbol) -> the price of its last fill."""
    prices = {(fill.venue, fill.symbol): fill.price for fill in fills}
    return {key: price for key, price in prices.items() if price > ZERO}


def _fee_text(rows: Mapping[str, int]) -> str:
    values = sorted({Decimal(ppm) / 100 for ppm in rows.values()})
    return "/".join(f"{value.normalize():f}" for value in values)
