"""What a market looks like from its feed: statistics of a simulated and of a recorded market, in the same terms.

The comparison is of shapes, with bounds that are stated where they are used
(tests/unit/sim/market/test_market_statistics.py): how often
a book changes and how clustered that is, how many levels a message carries, spread, value at the best, how a price
move travels between venues. Times are milliseconds, spreads bps, values quote coins.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.sim.exchange.events import BookDelta, MarketEvent, Ticker
from pipeline.sim.exchange.faults import FaultPlan
from pipeline.sim.exchange.latency import NS_PER_MS, NS_PER_S, ManualClock
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.exchange.venue_ledger import VenueLedger
from pipeline.sim.factory import build_venues
from pipeline.sim.market.synthetic import SyntheticMarket
from pipeline.sim.recorded.capture_frames import open_recordings
from pipeline.sim.scenarios.specs import Scenario

Floats = NDArray[np.float64]


@dataclass
class Observed:
    """One instrument's feed as observed: raw series, from which the figures are taken."""

    name: str
    depth_ms: list[float] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    ticker_ms: list[float] = field(default_factory=list)
    mids: list[float] = field(default_factory=list)
    spread_bps: list[float] = field(default_factory=list)
    top_value: list[float] = field(default_factory=list)

    def depth(self, t_ms: float, levels: int) -> None:
        self.depth_ms.append(t_ms)
        self.levels.append(levels)

    def ticker(self, t_ms: float, bid: float, bid_qty: float, ask: float) -> None:
        self.ticker_ms.append(t_ms)
        self.mids.append((bid + ask) / 2.0)
        self.spread_bps.append((ask - bid) / bid * 1e4)
        self.top_value.append(bid * bid_qty)

    def figures(self) -> dict[str, float]:
        """Median and spread of everything that a test bounds; 0 where nothing was seen."""
        gaps = np.diff(np.asarray(self.depth_ms))
        quotes = np.diff(np.asarray(self.ticker_ms))
        span_s = max(1e-9, (self.depth_ms[-1] - self.depth_ms[0]) / 1000.0) if len(self.depth_ms) > 1 else 1.0
        return {
            "depth_per_s": len(self.depth_ms) / span_s,
            "depth_gap_ms": _median(gaps),
            "depth_gap_cv": _cv(gaps),
            "ticker_per_s": len(self.ticker_ms) / span_s,
            "ticker_gap_cv": _cv(quotes),
            "levels": _median(np.asarray(self.levels, dtype=np.float64)),
            "levels_p90_ratio": _ratio(np.asarray(self.levels, dtype=np.float64)),
            "spread_bps": _median(np.asarray(self.spread_bps)),
            "top_value": _median(np.asarray(self.top_value)),
            "top_value_p90_ratio": _ratio(np.asarray(self.top_value)),
        }


def _median(values: Floats) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _cv(values: Floats) -> float:
    """Coefficient of variation: 1 for a Poisson stream, more when clustered."""
    return float(np.std(values) / np.mean(values)) if len(values) and np.mean(values) > 0 else 0.0


def _ratio(values: Floats) -> float:
    """90th percentile over median: how heavy the tail is."""
    middle = _median(values)
    return float(np.percentile(values, 90) / middle) if middle > 0 else 0.0


def correlations(leader: Observed, follower: Observed, grid_ms: float, reach_ms: float) -> dict[float, float]:
    """lag in ms -> correlation of the mids' returns over ``grid_ms``; a positive lag means that ``leader`` leads."""
    grid = _common_grid(leader, follower, grid_ms)
    first, second = (np.diff(np.log(_held(row, grid))) for row in (leader, follower))
    reach = int(reach_ms / grid_ms)
    found: dict[float, float] = {}
    for lag in range(-reach, reach + 1):
        ahead = first[max(0, -lag) : len(first) - max(0, lag)]
        behind = second[max(0, lag) : len(second) - max(0, -lag)]
        scale = float(np.std(ahead) * np.std(behind))
        product = float(np.mean((ahead - ahead.mean()) * (behind - behind.mean())))
        found[lag * grid_ms] = product / scale if scale else 0.0
    return found


def lead_ms(leader: Observed, follower: Observed, *, grid_ms: float = 10.0, reach_ms: float = 300.0) -> float:
    """By how many milliseconds ``leader``'s mid moves first: the lag of the highest correlation."""
    found = correlations(leader, follower, grid_ms, reach_ms)
    return max(found, key=lambda lag: found[lag])


def basis_bps(first: Observed, second: Observed) -> float:
    """Standard deviation of the two mids' log ratio: how far the venues wander apart."""
    grid = _common_grid(first, second, 1000.0)
    return float(np.std(np.log(_held(first, grid) / _held(second, grid)))) * 1e4


def volatility_bps(row: Observed, grid_ms: float = 1000.0) -> float:
    """Standard deviation of the mid's returns over ``grid_ms``."""
    grid = _common_grid(row, row, grid_ms)
    return float(np.std(np.diff(np.log(_held(row, grid))))) * 1e4


def _common_grid(first: Observed, second: Observed, grid_ms: float) -> Floats:
    start = max(first.ticker_ms[0], second.ticker_ms[0])
    return np.arange(start, min(first.ticker_ms[-1], second.ticker_ms[-1]), grid_ms)


def _held(row: Observed, grid: Floats) -> Floats:
    at = np.searchsorted(np.asarray(row.ticker_ms), grid, side="right") - 1
    return np.asarray(row.mids)[np.maximum(at, 0)]


# --- recorded ---


def observe_captures(paths: list[Path]) -> dict[str, Observed]:
    """Reads captures on one time axis: "venue symbol" -> what that feed looked like."""
    found: dict[str, Observed] = {}
    for recording in open_recordings(paths):
        for symbol in recording.symbols:
            name = f"{recording.venue} {symbol}"
            found[name] = Observed(name)
        for frame in recording.frames():
            row = found.get(f"{frame.venue} {frame.symbol}")
            if row is None:
                continue
            data = msgspec.json.decode(frame.data)
            body = data.get("result", data)
            t_ms = frame.t_ns / NS_PER_MS
            if "depth" in frame.topic or "order_book_update" in frame.topic:
                row.depth(t_ms, len(body.get("b") or ()) + len(body.get("a") or ()))
            elif "icker" in frame.topic and isinstance(body, dict) and body.get("b") and body.get("a"):
                row.ticker(t_ms, float(body["b"]), float(body["B"]), float(body["a"]))
    return found


# --- simulated ---


def observe_simulation(scenario: Scenario, seed: int, seconds: int, interval_ms: int) -> dict[str, Observed]:
    """Runs a scenario on virtual time: "venue symbol" -> what its feed looks like at ``interval_ms`` depth."""
    clock = ManualClock()
    ledger = VenueLedger(clock.mono_ns)
    venues = build_venues(scenario, clock, ledger, FaultPlan(clock, random.Random(seed)), seed)
    market = SyntheticMarket(scenario, venues, clock, seed)
    found: dict[str, Observed] = {}
    for name, venue in venues.items():
        for symbol in venue.instruments:
            found[f"{name} {symbol}"] = Observed(f"{name} {symbol}")
            venue.open_book_stream(symbol, interval_ms)
        venue.on_market(partial(_observe, clock, venue, found))
    market.start()
    clock.advance(seconds * NS_PER_S)
    return found


def _observe(clock: ManualClock, venue: SimVenue, found: dict[str, Observed], event: MarketEvent) -> None:
    row, observed = venue.instruments[event.symbol], found[f"{venue.name} {event.symbol}"]
    t_ms = clock.mono_ns() / NS_PER_MS
    if isinstance(event, BookDelta):
        observed.depth(t_ms, len(event.bids) + len(event.asks))
    elif isinstance(event, Ticker) and event.bid is not None and event.ask is not None:
        bid, ask = float(row.price(event.bid[0])), float(row.price(event.ask[0]))
        observed.ticker(t_ms, bid, float(row.qty(event.bid[1])), ask)


def outside(figures: dict[str, float], bounds: dict[str, tuple[float, float]]) -> list[str]:
    """Figures that leave their bounds, as text."""
    return [
        f"{name}: {figures[name]:.4g} not in [{low:.4g}, {high:.4g}]"
        for name, (low, high) in bounds.items()
        if not low <= figures[name] <= high
    ]


def mean_figures(rows: Iterable[Observed]) -> dict[str, float]:
    """Mean of each figure over instruments."""
    every = [row.figures() for row in rows]
    return {name: float(np.mean([row[name] for row in every])) for name in every[0]} if every else {}
