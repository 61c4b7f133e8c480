"""What the core has said so far, by its records: intents, evidence, operations, hedges, dust, breakers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pipeline.chaos.checker.truth import ZERO, Place, Row

#: How much a state knows: evidence of no higher rank, without a larger quantity and without a new id, is no evidence.
RANK = {
    "INTENT": 0,
    "SENT": 1,
    "UNKNOWN": 2,
    "OPEN": 3,
    "PARTIALLY_FILLED": 4,
    "NOT_SENT": 5,
    "REJECTED": 5,
    "EXPIRED": 5,
    "CANCELLED": 6,
    "FILLED": 7,
}
EMPTY = frozenset({"NOT_SENT", "REJECTED", "EXPIRED"})
ENDED = EMPTY | {"CANCELLED", "FILLED"}


@dataclass(slots=True)
class Claim:
    """One order as the core has recorded it. ``window_ns``: how long its venue may take it; ``ended_as``: its first
    ending, by a record."""

    body: Row
    at_ns: int
    window_ns: int
    life: int
    by: str
    state: str = "INTENT"
    ended_as: str = ""
    order_id: str = ""
    reported: Decimal | None = None
    cut: Decimal | None = None  # cumulative quantity of a FILLED
    filled: Decimal = ZERO
    sent_ns: int = 0

    @property
    def settled(self) -> bool:
        """Ended, and every fill that the venue has counted is booked."""
        if self.state not in ENDED:
            return False
        if self.state in EMPTY:
            return True
        if self.state == "FILLED":
            cut = self.cut if self.body["reduce_only"] else None
            wanted: Decimal = self.body["qty"] if cut is None else min(cut, self.body["qty"])
            return self.filled >= wanted
        return self.reported is not None and self.filled >= self.reported

    @property
    def rest(self) -> Decimal:
        """Base coins of which it is not known whether they have executed, or whose fills have not come."""
        wanted: Decimal = self.body["qty"]
        if self.state in ENDED and self.reported is not None:
            wanted = min(wanted, self.reported)
        return max(ZERO, wanted - self.filled)

    @property
    def place(self) -> Place:
        return self.body["venue"], self.body["symbol"]

    def merge(self, state: str) -> None:
        """More evidence; a filled quantity is stronger than a state."""
        if RANK[state] > RANK[self.state]:
            self.state = state
        known = max(self.filled, self.reported or ZERO)
        if known >= self.body["qty"]:
            self.state = "FILLED"
        elif known > 0 and self.state in EMPTY:
            self.state = "CANCELLED"


@dataclass(slots=True)
class Operation:
    """``moved``: asset -> what was moved to the dust (negative: taken from it); ``left``: what of it was left over.
    ``leaves``: the hedge that it closes, as it was then; ``external``: the world has touched what it holds, so its
    repairs obey other rules."""

    body: Row
    at_ns: int
    leaves: Row | None = None
    orders: list[str] = field(default_factory=list)
    fills: list[Row] = field(default_factory=list)
    moved: dict[str, Decimal] = field(default_factory=dict)
    left: dict[str, Decimal] = field(default_factory=dict)
    result: Row | None = None
    open: bool = True
    taken: Decimal = ZERO  # base coins by which others have moved its contract, signed
    external: bool = False
    recovery: str = ""  # state of its recovery

    def exposure(self, asset: str) -> Decimal:
        """Proven by fills and fees, less what was moved to the dust; futures count like spot, and so do coins that
        other coins were paid with."""
        total = -self.moved.get(asset, ZERO)
        for fill in self.fills:
            signed = fill["qty"] if fill["side"] == "BUY" else -fill["qty"]
            if fill["base"] == asset:
                total += signed
            elif fill["quote"] == asset:
                total -= signed * fill["price"]
            for fee_asset, fee in ((fill["fee_asset"], fill["fee"]), *fill["extra_fees"]):
                if fee_asset == asset:
                    total -= fee
        return total


@dataclass(slots=True)
class Claims:
    """See the module's text."""

    orders: dict[str, Claim] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    fills: set[tuple[str, str, str]] = field(default_factory=set)
    external_fills: set[tuple[str, str, str]] = field(default_factory=set)
    external_orders: set[tuple[str, str]] = field(default_factory=set)  # (venue, its id): booked by the position
    last_fill_ns: dict[Place, int] = field(default_factory=dict)  # receive time of our newest booked fill
    dust: dict[str, Decimal] = field(default_factory=dict)
    hedges: dict[str, Row] = field(default_factory=dict)
    breakers: set[str] = field(default_factory=set)
    rearmed_ns: dict[str, int] = field(default_factory=dict)  # breaker -> its newest re-arm
    unexplained: dict[str, Decimal] = field(default_factory=dict)  # asset -> lost without a reason since a re-arm
    swept_ns: dict[str, int] = field(default_factory=dict)  # venue -> begin of the newest complete sweep
    sent: set[str] = field(default_factory=set)  # orders whose bytes were seen to leave
    detections: set[tuple[int, int]] = field(default_factory=set)  # (detected at, id) of what was entered
    ended_ns: dict[int, int] = field(default_factory=dict)  # direction -> when its newest operation ended
    intended: list[tuple[int, str]] = field(default_factory=list)  # (when, venue) of every order, oldest first
    externals: set[str] = field(default_factory=set)  # base coins that the world has touched
    flows: dict[Place, Decimal] = field(default_factory=dict)  # (venue, asset) -> money that moved without an order

    def open_operations(self) -> list[Operation]:
        """Begun, not ended."""
        return [one for one in self.operations.values() if one.open]

    def unsettled(self, place: Place) -> list[str]:
        """Ids of orders there whose outcome the core does not know in full."""
        return [name for name, claim in self.orders.items() if claim.place == place and not claim.settled]

    def group_net(self, operation: Operation, kind: str, base: str) -> Decimal:
        """Signed base coins that a hedge and what leaves it have traded on instruments of a kind, and what others have
        taken of its contract."""
        opened = operation.body["closes"] or operation.body["operation_id"]
        group = [one for one in self.operations.values() if opened in (one.body["operation_id"], one.body["closes"])]
        fills = [fill for one in group for fill in one.fills if (fill["kind"], fill["base"]) == (kind, base)]
        others = sum((one.taken for one in group), ZERO) if kind != "SPOT" else ZERO
        return others + sum((fill["qty"] if fill["side"] == "BUY" else -fill["qty"] for fill in fills), ZERO)

    def rest_of_others(self, operation: Operation, kind: str, base: str, side: str) -> Decimal:
        """Base coins that orders of a side may still trade which belong to other exits of the same hedge."""
        name, closes = operation.body["operation_id"], operation.body["closes"]
        others = {n for n, one in self.operations.items() if closes and one.body["closes"] == closes and n != name}
        return sum(
            (
                claim.rest
                for claim in self.orders.values()
                if claim.body["operation_id"] in others and not claim.settled
                if (claim.body["kind"], claim.body["base"], claim.body["side"]) == (kind, base, side)
            ),
            ZERO,
        )

    def in_turn(self, operation: Operation) -> bool:
        """Whether it leaves its hedge one leg after the other."""
        return bool(operation.orders) and bool(self.orders[operation.orders[0]].body["purpose"] == "FLATTEN")

    def reducible(self, place: Place, side: str) -> Decimal:
        """Base coins that reduce-only orders of ``side`` find at most: the position by its fills, and what unsettled
        orders may add to it."""
        position = adding = ZERO
        for operation in self.operations.values():
            for fill in operation.fills:
                if (fill["venue"], fill["symbol"]) == place:
                    position += fill["qty"] if fill["side"] != side else -fill["qty"]
        for claim in self.orders.values():
            adds = claim.body["side"] != side and not claim.body["reduce_only"]
            adding += claim.rest if adds and claim.place == place and not claim.settled else ZERO
        return max(ZERO, position) + adding

    def apply(self, row: Row) -> None:
        """Takes in a record, after the rules have looked at it."""
        take = _TAKES.get(row["record"])
        if take is not None:
            take(self, row, row["body"])

    def _operation(self, row: Row, body: Row) -> None:
        self.operations[body["operation_id"]] = Operation(body, row["mono_ns"], self.hedges.get(body["closes"]))
        self.detections.add((body["detect_mono_ns"], body["opportunity_id"]))

    def _intent(self, row: Row, body: Row) -> None:
        window_ns = body["expiry_wall_ms"] * 10**6 - row["wall_ns"] // 10**6 * 10**6
        self.orders[body["client_id"]] = Claim(body, row["mono_ns"], window_ns, row["life"], row["by"])
        operation = self.operations[body["operation_id"]]
        operation.orders.append(body["client_id"])
        operation.open = True
        self.intended.append((row["mono_ns"], body["venue"]))

    def _sent(self, row: Row, body: Row) -> None:
        claim = self.orders[body["client_id"]]
        claim.sent_ns = body["send_mono_ns"]
        claim.merge("SENT")

    def _state(self, row: Row, body: Row) -> None:
        claim = self.orders[body["client_id"]]
        claim.order_id = claim.order_id or body["order_id"]
        if body["reported_filled"] is not None:
            claim.reported = max(claim.reported or ZERO, body["reported_filled"])
            if body["state"] == "FILLED" and body["reported_filled"]:
                claim.cut = body["reported_filled"]
        if body["state"] in ENDED:
            claim.ended_as = claim.ended_as or body["state"]
        claim.merge(body["state"])

    def own_side_only(self, name: str) -> None:
        """A venue has refused to reduce: perhaps others have ended the position. The hedge's repairs reduce only."""
        opened = self.operations[name].body["closes"] or name
        for one in self.operations.values():
            one.external = one.external or opened in (one.body["operation_id"], one.body["closes"])

    def _fill(self, row: Row, body: Row) -> None:
        claim = self.orders[body["client_id"]]
        claim.filled += body["qty"]
        claim.merge("PARTIALLY_FILLED")
        self.fills.add((body["venue"], body["symbol"], body["trade_id"]))
        operation = self.operations[body["operation_id"]]
        operation.fills.append(body)
        operation.open = True
        place = (body["venue"], body["symbol"])
        self.last_fill_ns[place] = max(self.last_fill_ns.get(place, 0), body["recv_mono_ns"])

    def _result(self, row: Row, body: Row) -> None:
        operation = self.operations[body["operation_id"]]
        operation.result = body
        operation.open = body["outcome"] == "UNRESOLVED"
        self.ended_ns[operation.body["direction_key"]] = row["mono_ns"]

    def _dust(self, row: Row, body: Row) -> None:
        asset, delta = body["asset"], body["delta"]
        self.dust[asset] = self.dust.get(asset, ZERO) + delta
        operation = self.operations.get(body["operation_id"])
        if operation is not None:
            operation.moved[asset] = operation.moved.get(asset, ZERO) + delta
            if body["reason"] == "remainder":
                operation.left[asset] = operation.left.get(asset, ZERO) + delta

    def _hedge(self, row: Row, body: Row) -> None:
        if body["qty"]:
            self.hedges[body["operation_id"]] = body
        else:
            self.hedges.pop(body["operation_id"], None)

    def _recovery(self, row: Row, body: Row) -> None:
        self.operations[body["operation_id"]].recovery = body["state"]

    def _reconcile(self, row: Row, body: Row) -> None:
        if body["complete"]:
            self.swept_ns[row["body"]["venue"]] = body["began_mono_ns"]

    def _breaker(self, row: Row, body: Row) -> None:
        (self.breakers.add if body["tripped"] else self.breakers.discard)(body["name"])
        if not body["tripped"]:
            self.rearmed_ns[body["name"]] = row["mono_ns"]
            if body["name"] == "unexplained_loss":
                self.unexplained.clear()

    def _external_fill(self, row: Row, body: Row) -> None:
        self.external_fills.add((body["venue"], body["symbol"], body["trade_id"]))
        if body["kind"] != "SPOT":
            self._taken(body, 1 if body["side"] == "BUY" else -1)
        self._touched(body, body["base"])

    def _external_flow(self, row: Row, body: Row) -> None:
        if not body["trading"]:
            key = (body["venue"], body["asset"])
            self.flows[key] = self.flows.get(key, ZERO) + body["amount"]
        if body["cause"] == "unexplained" and body["amount"] < 0:
            asset = body["asset"]
            self.unexplained[asset] = self.unexplained.get(asset, ZERO) - body["amount"]
        self._touched(body, body["asset"])

    def _external_position(self, row: Row, body: Row) -> None:
        self.external_orders |= {(body["venue"], order_id) for order_id in body["order_ids"]}
        self._taken(body, 1 if body["qty"] > body["qty_before"] else -1)
        self._touched(body, body.get("base", ""))

    def _taken(self, body: Row, way: int) -> None:
        for share in body.get("taken", ()):
            self.operations[share["operation_id"]].taken += way * share["qty"]

    def _adopted(self, row: Row, body: Row) -> None:
        self._touched({"taken": [body]}, body["base"])

    def _touched(self, body: Row, asset: str) -> None:
        """Operations that lost a part, and those that close their hedges, are not judged by their own fills."""
        self.externals.add(asset)
        names: set[Any] = {share["operation_id"] for share in body.get("taken", ())}
        for name, operation in self.operations.items():
            if name in names or operation.body["closes"] in names:
                operation.external = True


_TAKES: dict[str, Callable[[Claims, Row, Row], None]] = {
    "OperationRecord": Claims._operation,
    "OrderIntentRecord": Claims._intent,
    "OrderSentRecord": Claims._sent,
    "OrderStateRecord": Claims._state,
    "FillRecord": Claims._fill,
    "OperationResultRecord": Claims._result,
    "DustRecord": Claims._dust,
    "HedgeRecord": Claims._hedge,
    "RecoveryRecord": Claims._recovery,
    "ReconcileRecord": Claims._reconcile,
    "BreakerRecord": Claims._breaker,
    "ExternalFillRecord": Claims._external_fill,
    "ExternalFlowRecord": Claims._external_flow,
    "ExternalPositionRecord": Claims._external_position,
    "AdoptedRecord": Claims._adopted,
}
