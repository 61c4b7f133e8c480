"""The P&L of a span in its parts, as rows by run, day, pair, venue, operation or leg; each table has the same sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from pipeline.economics.attribution import Attribution
from pipeline.model.structs import ZERO
from workers.recorder.attribution import NOTHING, RESIDUAL_STEP, LegPnl, OperationPnl, added
from workers.tradable import utc

REPORT_BY = ("run", "day", "pair", "venue", "operation", "leg")
BETWEEN = "between venues"  # the basis that a hedge has earned, and what no record explains
OUTCOMES = ("completed", "recovered", "failed")


class FundingFlow(NamedTuple):
    """One funding payment, in the numeraire."""

    wall_ns: int
    venue: str
    symbol: str
    amount: Decimal


class _Share(NamedTuple):
    """What one operation, leg or payment adds to a row."""

    key: str
    parts: Attribution
    residual: Decimal
    operation_id: str  # "" for funding
    about: Mapping[str, Any]


class ReportParts:
    """The P&L of operations and funding in its parts, in the numeraire; ``residual``: what no record explains.

    ``about``: pair, outcome, ... of each operation by its id. ``boots``: when each run began, wall ns, ascending.
    """

    def __init__(
        self,
        operations: Sequence[OperationPnl],
        funding: Sequence[FundingFlow],
        boots: Sequence[int],
        about: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._operations = operations
        self._funding = funding
        self._boots = boots
        self._about = about
        self._pairs = {
            (leg.venue, leg.symbol): str(about[one.operation_id]["pair"]) for one in operations for leg in one.legs
        }
        total = added(one.parts for one in operations)
        self.total = total._replace(funding=sum((flow.amount for flow in funding), ZERO))
        self.residual = sum((one.residual for one in operations), ZERO)

    def rows(self, by: str) -> list[dict[str, Any]]:
        """One row per key, oldest first: the parts, ``total``, ``residual``, and the operations with their outcomes.
        ``by`` is one of :data:`REPORT_BY`; [] for ""."""
        if not by:
            return []
        found: dict[str, list[_Share]] = {}
        for share in (*self._shares(by), *self._funding_shares(by)):
            found.setdefault(share.key, []).append(share)
        return [self._row(by, key, shares) for key, shares in found.items()]

    def curve(self) -> list[tuple[int, Decimal]]:
        """(wall ns, P&L until then) after each operation and each funding payment, oldest first; begins with 0."""
        steps = [(one.wall_ns, one.parts.total + one.residual) for one in self._operations]
        steps += [(flow.wall_ns, flow.amount) for flow in self._funding]
        steps.sort()
        total, points = ZERO, [(wall_ns, ZERO) for wall_ns, _ in steps[:1]]
        for wall_ns, amount in steps:
            total += amount
            points.append((wall_ns, total))
        return points

    def _row(self, by: str, key: str, shares: Sequence[_Share]) -> dict[str, Any]:
        ids = {share.operation_id for share in shares if share.operation_id}
        outcomes = [self._about[name]["outcome"] for name in ids]
        counted = {name: outcomes.count(name) for name in OUTCOMES}
        return {
            by: key,
            **(shares[0].about if len(shares) == 1 or by == "operation" else {}),
            **part_fields(added(share.parts for share in shares)),
            "residual": sum((share.residual for share in shares), ZERO).normalize(),
            "operations": len(ids),
            **({} if by in ("operation", "leg") else counted),
        }

    def _shares(self, by: str) -> Iterator[_Share]:
        for one in self._operations:
            about = self._about[one.operation_id]
            if by not in ("venue", "leg"):
                key = {"operation": one.operation_id, "pair": str(about["pair"])}.get(by) or self._time_key(
                    by, one.wall_ns
                )
                fields = about if by == "operation" else {}
                yield _Share(key, one.parts, one.residual, one.operation_id, fields)
                continue
            for leg in one.legs:
                key = leg.venue if by == "venue" else f"{one.operation_id}.{'x' if leg.leg < 0 else leg.leg}"
                yield _Share(key, leg.parts, ZERO, one.operation_id, leg_fields(leg) if by == "leg" else {})
            if one.carried or one.residual:
                key = BETWEEN if by == "venue" else f"{one.operation_id}.between"
                yield _Share(key, NOTHING._replace(marks=one.carried), one.residual, one.operation_id, {})

    def _funding_shares(self, by: str) -> Iterator[_Share]:
        """Funding belongs to a position, which may be of several operations: there it is a row of its own."""
        for flow in self._funding:
            if by in ("operation", "leg"):
                key = "funding"
            elif by == "pair":
                key = self._pairs.get((flow.venue, flow.symbol), flow.symbol)
            else:
                key = flow.venue if by == "venue" else self._time_key(by, flow.wall_ns)
            yield _Share(key, NOTHING._replace(funding=flow.amount), ZERO, "", {})

    def _time_key(self, by: str, wall_ns: int) -> str:
        text = utc(wall_ns) or ""
        if by == "day":
            return text[:10]
        began = [boot for boot in self._boots if boot <= wall_ns]
        return (utc(began[-1]) or "") if began else text


def part_fields(parts: Attribution) -> dict[str, Decimal]:
    """The parts and their sum as ``--json`` shows them, to a billionth."""
    return {
        name: value.quantize(RESIDUAL_STEP).normalize() + ZERO
        for name, value in {**parts._asdict(), "total": parts.total}.items()
    }


def leg_fields(leg: LegPnl) -> dict[str, Any]:
    """What a leg was to do and what became of it; prices in the quote coin, None where there is none."""
    side = {1: "buy", -1: "sell"}.get(leg.side)
    return {
        "venue": leg.venue,
        "symbol": leg.symbol,
        "side": side,
        "planned": leg.planned,
        "filled": leg.filled,
        "expected_price": leg.expected_price if side else None,
        "sent_price": leg.sent_price if side else None,
        "filled_price": leg.filled_price if leg.filled else None,
        "worse_bps": _worse_bps(leg),
    }


def _worse_bps(leg: LegPnl) -> float | None:
    """How much worse than expected a leg filled, in bps of the expected price; None where nothing filled."""
    if not leg.filled or not leg.expected_price:
        return None
    return round(float((leg.filled_price - leg.expected_price) * leg.side / leg.expected_price * 10_000), 4)


def drawdown(points: Iterable[tuple[int, Decimal]]) -> tuple[Decimal, list[tuple[int, Decimal]]]:
    """(the largest fall below the highest value before it, the fall at each point): zero or positive amounts."""
    highest: Decimal | None = None
    falls = []
    for wall_ns, value in points:
        highest = value if highest is None else max(highest, value)
        falls.append((wall_ns, highest - value))
    return max((fall for _, fall in falls), default=ZERO), falls
