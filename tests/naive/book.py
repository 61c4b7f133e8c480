"""The slow, obvious book: Decimal levels in dicts, the venues' rules written out, frames by the json module."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass
class NaiveBook:
    """One instrument by one venue's rule; ``rule``: spot, usdm, gate or mexc."""

    rule: str
    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)
    last: int | None = None  # None: waiting for a snapshot
    aligned: bool = False
    whole_to: int | None = None  # what its levels are at while it waits after a gap
    gap_conn: int = 0  # whose update has shown it
    waiting: list[dict[str, Any]] = field(default_factory=list)
    gaps: int = 0
    applied: int = 0
    dropped: int = 0

    def update(self, event: dict[str, Any], conn: int = 0) -> str:
        """``applied``, ``dropped``, ``buffered`` or ``gap`` (buffered too); ``conn`` has brought it."""
        if event.get("full"):
            if self.last is not None and event["u"] < self.last:
                self.dropped += 1
                return "dropped"
            self.bids, self.asks = {}, {}
            return self._apply(event)
        if self.last is None:
            self.waiting.append(event)
            return self._fill() if self.whole_to is not None and conn != self.gap_conn else "buffered"
        if not self.aligned:
            old = {
                "spot": event["u"] <= self.last,
                "usdm": event["u"] < self.last,
                "gate": event["u"] < self.last + 1,
                "mexc": event["u"] < self.last,
            }[self.rule]
            fits = event["pu"] <= self.last if self.rule == "usdm" else event["U"] <= self.last + 1
        else:
            old = event["u"] <= self.last
            fits = {
                "spot": event["U"] <= self.last + 1,
                "usdm": event.get("pu") == self.last,
                "gate": event["U"] <= self.last + 1,
                "mexc": event["U"] == self.last + 1,
            }[self.rule]
        if old:
            self.dropped += 1
            return "dropped"
        if not fits:
            self.whole_to, self.gap_conn, self.last = self.last, conn, None
            self.waiting = [event]
            self.gaps += 1
            return "gap"
        return self._apply(event)

    def _fill(self) -> str:
        """All that waits in the order of its numbers, as far as it goes; the gap's own connection cannot fill it."""
        self.last, self.whole_to, gap_conn, gaps = self.whole_to, None, self.gap_conn, self.gaps
        waiting, self.waiting = sorted(self.waiting, key=lambda one: int(one["u"])), []
        while waiting and self.update(waiting[0], gap_conn) != "gap":
            waiting.pop(0)
        self.gaps, self.waiting = gaps, waiting
        return "applied" if self.last is not None else "buffered"

    def _apply(self, event: dict[str, Any]) -> str:
        for side, name in ((self.bids, "b"), (self.asks, "a")):
            for price, qty in event.get(name, ()):
                if qty:
                    side[price] = qty
                else:
                    side.pop(price, None)
        self.last, self.aligned = event["u"], True
        self.applied += 1
        return "applied"

    def snapshot(self, last: int, bids: list[Any], asks: list[Any]) -> bool:
        """Loads it and replays what waited; False if the first update left begins after it."""
        self.bids, self.asks = dict(bids), dict(asks)
        self.last, self.aligned, self.whole_to = last, False, None
        waiting, self.waiting = self.waiting, []
        for k, event in enumerate(waiting):
            if self.update(event) == "gap":
                self.gaps -= 1
                self.waiting = waiting[k:]
                return False
        return True

    def levels(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        return sorted(self.bids.items(), reverse=True), sorted(self.asks.items())

    @property
    def best(self) -> tuple[Decimal | None, Decimal | None, Decimal | None, Decimal | None]:
        bid = max(self.bids, default=None)
        ask = min(self.asks, default=None)
        return bid, None if bid is None else self.bids[bid], ask, None if ask is None else self.asks[ask]


def decimals(rows: list[Any], multiplier: Decimal = Decimal(1)) -> list[tuple[Decimal, Decimal]]:
    """Levels of JSON (lists or p/s objects) as (price, base quantity)."""
    out = []
    for row in rows:
        price, qty = (row["p"], row["s"]) if isinstance(row, dict) else row[:2]
        out.append((Decimal(str(price)), Decimal(str(qty)) * multiplier))
    return out


def binance_event(frame: bytes) -> dict[str, Any] | None:
    """A depth update of Binance with Decimal levels; None for anything else."""
    message = json.loads(frame)
    message = message.get("data", message)
    if message.get("e") != "depthUpdate":
        return None
    return {**message, "b": decimals(message["b"]), "a": decimals(message["a"])}


def binance_ticker(frame: bytes) -> tuple[str, int, tuple[Decimal, Decimal, Decimal, Decimal]] | None:
    """(symbol, u, (bid, bid qty, ask, ask qty)) of a best-price ticker; None for anything else."""
    message = json.loads(frame)
    message = message.get("data", message)
    if message.get("e", "bookTicker") != "bookTicker" or "B" not in message:
        return None
    return message["s"], message["u"], tuple(Decimal(message[key]) for key in ("b", "B", "a", "A"))  # type: ignore[return-value]


def gate_event(frame: bytes, multipliers: dict[str, Decimal]) -> dict[str, Any] | None:
    """A depth update of Gate.io with Decimal base quantities; None for anything else."""
    message = json.loads(frame, parse_float=Decimal)
    if message.get("event") != "update" or not message["channel"].endswith("order_book_update"):
        return None
    result = message["result"]
    size = multipliers.get(result["s"], Decimal(1))
    return {**result, "b": decimals(result["b"], size), "a": decimals(result["a"], size)}


def snapshot_horizon(levels: list[Decimal], other: int, bids: bool) -> Decimal | None:
    """The worst price of a snapshot's side that was cut off by its limit; None where the side is whole.

    ``other``: how many levels the other side has.
    """
    count = len(levels)
    cut = count >= 1000 or (count >= 100 and (count in (100, 500) or count == other))
    return (min(levels) if bids else max(levels)) if cut else None


def known_top(levels: list[Decimal], horizon: Decimal | None, bids: bool, depth: int) -> list[Decimal]:
    """The best ``depth`` prices of a side, best first, less those that lie behind its horizon."""
    best = sorted(levels, reverse=bids)[:depth]
    if horizon is None:
        return best
    return [price for price in best if (price >= horizon if bids else price <= horizon)]
