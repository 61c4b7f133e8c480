"""Does the price of inventory keep two venues trading without transfers? ``python -m bench.inventory``.

::

    hits of both directions over 24 h --> threshold = the engine's price --> trades until one side is empty --> P&L

Two venues, K lots of 2000 each way from the middle. A forward hit moves a lot of coins from B to A, a backward one
back. The price and the height of an edge are the engine's own (``pipeline.economics.inventory_price``), fed as the
engine feeds them: with the hits that reach the executor, which are those at or above the direction's price. A hit is
taken where its edge after fees is at or above that price and the side still has a lot. Nothing is ever sent home.
That is arithmetic, for many flows. The flows with a goal are played through the engine itself as well
(``inventory_world``): its detector, its gate, its balances and the simulator's ledger.

The bound is what somebody who knows all hits in advance earns: the linear program "choose a share of each hit, keep the
stock within -K..K after each". Its matrix has consecutive ones, so it is totally unimodular and an optimum takes hits
whole: dynamic programming over the stock finds it exactly.
Synthetic markets rank rules; they forecast no income.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.worlds.inventory_world import LOT_QTY, MID, flow_result
from pipeline.economics.inventory_price import BudgetPrice, EdgeHeight, heights, price_bps, with_budget

Floats = npt.NDArray[np.float64]

LOTS = 30  # K
LOT_USDT = 2000.0
HOURS = 24
BUSY_S = 600
SEEDS = 5
GOAL = 0.9


@dataclass(frozen=True, slots=True)
class Flow:
    """Hits of both directions: how many an hour, and mean and width of their edges after fees, in bps."""

    name: str
    forward_per_h: float
    forward_bps: tuple[float, float]
    backward_per_h: float
    backward_bps: tuple[float, float]
    backward_tail_bps: float = 0.0  # mean of an exponential part on top
    goal: float = 0.0


FLOWS = (
    Flow("drift 14", 120, (11.0, 4.0), 120, (-17.0, 4.0), 3.0, GOAL),
    Flow("two-way", 120, (0.0, 4.0), 120, (0.0, 4.0)),
    Flow("3:1", 180, (0.0, 4.0), 60, (0.0, 4.0), 0.0, GOAL),
)


def hits(flow: Flow, seed: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """(edges in bps, ways +1 forward and -1 backward) in the order of time."""
    rng = np.random.default_rng([seed, int(flow.forward_per_h)])
    counts = rng.poisson(flow.forward_per_h * HOURS), rng.poisson(flow.backward_per_h * HOURS)
    edges = [rng.normal(*flow.forward_bps, counts[0]), rng.normal(*flow.backward_bps, counts[1])]
    if flow.backward_tail_bps:
        edges[1] = edges[1] + rng.exponential(flow.backward_tail_bps, counts[1])
    order = rng.permutation(sum(counts))
    ways = np.concatenate([np.ones(counts[0], np.int64), -np.ones(counts[1], np.int64)])
    return np.concatenate(edges)[order], ways[order]


def engine(edges: Floats, ways: npt.NDArray[np.int64], *, priced: bool) -> tuple[float, float]:
    """(bps earned by lots of one, share of the hits at which the hit's side was empty) under the engine's rule."""
    edge_of = {1: EdgeHeight(), -1: EdgeHeight()}
    x, earned, full = 0, 0.0, 0
    for edge, way in zip(edges.tolist(), ways.tolist(), strict=True):
        price = price_bps(float(x), float(LOTS), *heights(edge_of[1], edge_of[-1])) if priced else 0.0
        if edge < way * price:
            continue
        if abs(x + way) > LOTS:
            full += 1  # what an empty side forbids never becomes an opportunity
            continue
        edge_of[way].add(edge)
        x += way
        earned += edge
    return earned, full / len(edges)


@dataclass(frozen=True, slots=True)
class Busy:
    """Ten minutes in which orders are scarce: at most ``per_s`` trades in any second, ``rate_per_s`` hits come."""

    name: str
    rate_per_s: float
    per_s: int
    forward_share: float
    edge_bps: tuple[float, float] = (5.0, 8.0)
    least_bps: float = 3.0


BUSY = (Busy("busy two-way", 12.0, 3, 0.5), Busy("busy 3:1", 12.0, 3, 0.75))


def busy_engine(flow: Busy, seed: int, *, priced: bool, budgeted: bool = False) -> float:
    """Bps earned by lots of one without inventory's price, with it, and with that of the orders too."""
    rng = np.random.default_rng([seed, int(flow.forward_share * 100)])
    count = int(rng.poisson(flow.rate_per_s * BUSY_S))
    times = np.sort(rng.uniform(0, BUSY_S, count)).tolist()
    ways = np.where(rng.random(count) < flow.forward_share, 1, -1).tolist()
    edge_of, budget, sends = {1: EdgeHeight(), -1: EdgeHeight()}, BudgetPrice(), deque[float]()
    x, earned, line = 0, 0.0, heights(edge_of[1], edge_of[-1])
    for now_s, edge, way in zip(times, rng.normal(*flow.edge_bps, count).tolist(), ways, strict=True):
        price = way * price_bps(float(x), float(LOTS), *line) if priced else 0.0
        price = with_budget(price, budget.bps) if budgeted else price
        if edge < flow.least_bps + price or abs(x + way) > LOTS:
            continue
        while sends and sends[0] <= now_s - 1:
            sends.popleft()
        edge_of[way].add(edge)
        line = heights(edge_of[1], edge_of[-1]) if priced else line
        room = len(sends) < flow.per_s
        budget.add(edge, lost=not room)
        if room:
            sends.append(now_s)
            x += way
            earned += edge
    return earned


def compare_busy(flow: Busy, seeds: int = SEEDS) -> list[float]:
    """USDT without a price, with it, and with that of the orders too; means over the seeds."""
    rows = [
        [
            busy_engine(flow, seed, priced=False),
            busy_engine(flow, seed, priced=True),
            busy_engine(flow, seed, priced=True, budgeted=True),
        ]
        for seed in range(seeds)
    ]
    return (np.mean(rows, axis=0) * LOT_USDT / 1e4).tolist()  # type: ignore[no-any-return]


def bound(edges: Floats, ways: npt.NDArray[np.int64], lots: int = LOTS) -> float:
    """The clairvoyant's bps: exact, by dynamic programming over the stock (the program's vertices are integral)."""
    best = np.full(2 * lots + 1, -np.inf)
    best[lots] = 0.0
    for edge, way in zip(edges.tolist(), ways.tolist(), strict=True):
        if way > 0:
            np.maximum(best[1:], best[:-1] + edge, out=best[1:])
        else:
            np.maximum(best[:-1], best[1:] + edge, out=best[:-1])
    return float(best.max())


@dataclass(frozen=True, slots=True)
class Comparison:
    """Means over the seeds, in USDT a day. ``share``: of the bound."""

    flow: Flow
    unpriced: float
    priced: float
    bound: float
    full_share: float

    @property
    def share(self) -> float:
        return self.priced / self.bound if self.bound else 0.0


def compare(flow: Flow, seeds: int = SEEDS) -> Comparison:
    rows = []
    for seed in range(seeds):
        edges, ways = hits(flow, seed)
        priced, full = engine(edges, ways, priced=True)
        rows.append((engine(edges, ways, priced=False)[0], priced, bound(edges, ways), full))
    unpriced, earned, best, full = np.mean(rows, axis=0).tolist()
    usdt = LOT_USDT / 1e4
    return Comparison(flow, unpriced * usdt, earned * usdt, best * usdt, full)


@dataclass(frozen=True, slots=True)
class EngineComparison:
    """Of one flow through the engine, means over the seeds in USDT a day. ``shown``: whether each seed's P&L by the
    venues' ledger is the one that the engine shows."""

    flow: Flow
    priced: float
    bound: float
    trades: float
    shown: bool

    @property
    def share(self) -> float:
        return self.priced / self.bound


def compare_engine(flow: Flow, seeds: int = SEEDS, hours: float = HOURS) -> EngineComparison:
    """Also of fewer hours: the first ones of a day."""
    rows, shown = [], True
    for seed in range(seeds):
        edges, ways = hits(flow, seed)
        count = round(len(edges) * hours / HOURS)
        edges, ways = edges[:count], ways[:count]
        result = flow_result(zip(edges.tolist(), ways.tolist(), strict=True), priced=True)
        best = bound(edges, ways) * float(LOT_QTY * MID) / 1e4
        rows.append((float(result.earned), best, result.trades))
        shown = shown and result.earned == result.shown
    priced, best, trades = np.mean(rows, axis=0).tolist()
    return EngineComparison(flow, priced, best, trades, shown)


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 where the goals hold: at least 0.9 of the bound on drift and 3:1, without transfers; where orders are
    scarce, no less than without a price."""
    parser = argparse.ArgumentParser(prog="python -m bench.inventory", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args(arguments)
    print(f"{'flow':<12}{'no price':>10}{'price':>10}{'bound':>10}{'share':>8}{'empty':>8}")
    met = True
    for flow in FLOWS:
        row = compare(flow, options.seeds)
        print(
            f"{flow.name:<12}{row.unpriced:>10.0f}{row.priced:>10.0f}{row.bound:>10.0f}{row.share:>8.2f}"
            f"{row.full_share:>8.0%}"
        )
        met = met and row.share >= flow.goal
    print(
        "USDT a day without transfers; empty: hits that found nothing to trade with; goals "
        + ("met" if met else "MISSED")
    )
    print(f"\n{'by the engine':<16}{'price':>10}{'bound':>10}{'share':>8}{'trades':>8}")
    for flow in (flow for flow in FLOWS if flow.goal):
        own = compare_engine(flow, options.seeds)
        print(f"{flow.name:<16}{own.priced:>10.0f}{own.bound:>10.0f}{own.share:>8.2f}{own.trades:>8.0f}", flush=True)
        met = met and own.share >= flow.goal and own.shown
    print("USDT a day by the venues' ledger, which is what the engine shows; goals " + ("met" if met else "MISSED"))
    print(f"\n{'scarce orders':<16}{'no price':>10}{'price':>10}{'and of orders':>16}")
    for busy in BUSY:
        none, alone, both = compare_busy(busy, options.seeds)
        print(f"{busy.name:<16}{none:>10.0f}{alone:>10.0f}{both:>16.0f}")
        met = met and both >= max(none, alone)
    print("USDT in ten minutes; goal: no less than without a price, " + ("met" if met else "MISSED"))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
