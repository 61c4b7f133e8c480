"""What a trade that moves inventory costs, and when sending coins home pays.

``x`` counts lots that were moved forward (bought at A, sold at B) net, from the middle of what both venues can hold:
-K at one end (backward trades are no longer possible), K at the other. A forward trade's threshold rises by
:func:`price_bps`; a backward trade's falls by it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

QUANTILE = 0.75
HITS = 200  # newest net edges of a direction that the quantile is taken of
HEIGHT_MIN_BPS = 0.5
SYMMETRY_HITS = 20  # of both directions: from then on what each has shown counts for more than what both have


def height_bps(edges_bps: Iterable[float]) -> float:
    """75 % quantile of edges, never below ``HEIGHT_MIN_BPS``."""
    ordered = sorted(edges_bps)
    if not ordered:
        return HEIGHT_MIN_BPS
    rank = QUANTILE * (len(ordered) - 1)
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return max(HEIGHT_MIN_BPS, ordered[low] + (ordered[high] - ordered[low]) * (rank - low))


class EdgeHeight:
    """75 % quantile of max(0, net edge) of the newest hits of one direction: what a free lot of it earns, in bps."""

    def __init__(self, edges_bps: Iterable[float] = ()) -> None:
        self._edges: deque[float] = deque(maxlen=HITS)
        for edge_bps in edges_bps:
            self.add(edge_bps)

    def add(self, net_edge_bps: float) -> None:
        """One hit's edge after fees, taken or not."""
        self._edges.append(max(0.0, net_edge_bps))

    def __iter__(self) -> Iterator[float]:
        return iter(self._edges)

    def __len__(self) -> int:
        return len(self._edges)

    @property
    def bps(self) -> float:
        """Never below ``HEIGHT_MIN_BPS``."""
        return height_bps(self._edges)


def heights(forward: EdgeHeight, backward: EdgeHeight) -> tuple[float, float]:
    """(forward, reverse) heights of the line, in bps. A market is taken to be alike both ways until it shows otherwise:
    the first hit of a direction says nothing of the other one, and must not be charged for running one way."""
    seen = len(forward) + len(backward)
    trust = seen / (seen + SYMMETRY_HITS)
    both = height_bps([*forward, *backward])
    return trust * forward.bps + (1 - trust) * both, trust * backward.bps + (1 - trust) * both


class BudgetPrice:
    """What one more operation costs where orders are scarce: the edge that the newest hits have lost because the order
    budget or the number of open operations had no room, per hit. 0 where there is room for all."""

    def __init__(self) -> None:
        self._lost: deque[float] = deque(maxlen=HITS)

    def add(self, net_edge_bps: float, *, lost: bool) -> None:
        """One hit's edge after fees, and whether there was no room for it."""
        self._lost.append(max(0.0, net_edge_bps) if lost else 0.0)

    @property
    def bps(self) -> float:
        """Mean over the newest HITS hits, of which those that found room count 0; 0 before the first hit."""
        return sum(self._lost) / len(self._lost) if self._lost else 0.0


def with_budget(price: float, budget_bps: float) -> float:
    """A direction's price where orders cost ``budget_bps``: what is paid for a return is less by that, at least 0. What
    a forward trade pays stays as it is."""
    return price if price >= 0 else min(0.0, price + budget_bps)


def neutral_point(k: float, forward_bps: float, reverse_bps: float) -> float:
    """Where one wants to stand, in lots from the middle: the zero of the price."""
    return k * (reverse_bps - forward_bps) / (forward_bps + reverse_bps)


def price_bps(x: float, k: float, forward_bps: float, reverse_bps: float) -> float:
    """Bps to add to a forward trade's threshold and to take off a backward one's. Between -reverse and +forward.

    One straight line from ``-reverse_bps`` at -k through 0 at :func:`neutral_point` to ``forward_bps`` at k.
    """
    x = min(k, max(-k, x))
    x0 = neutral_point(k, forward_bps, reverse_bps)
    if x >= x0:
        return forward_bps * (x - x0) / (k - x0)
    return -reverse_bps * (x0 - x) / (k + x0)


def lots_to_send(x: float, k: float, forward_bps: float, reverse_bps: float) -> float:
    """Lots whose sending home brings inventory to the neutral point (negative: the other way)."""
    return x - neutral_point(k, forward_bps, reverse_bps)


def transfer_worth(x: float, k: float, forward_bps: float, reverse_bps: float, lot_value: float) -> float:
    """What that transfer earns, in the coin of ``lot_value``: the area under the line. Propose it above 1 to 3 x its
    cost."""
    moved = abs(lots_to_send(x, k, forward_bps, reverse_bps))
    return abs(price_bps(x, k, forward_bps, reverse_bps)) * moved / 2 * lot_value / 1e4


def hours_to_empty(x: float, k: float, net_lots_per_h: float) -> float:
    """Until the end that the flow runs to; infinite without a flow."""
    if net_lots_per_h == 0:
        return float("inf")
    return (k - x) / net_lots_per_h if net_lots_per_h > 0 else (k + x) / -net_lots_per_h
