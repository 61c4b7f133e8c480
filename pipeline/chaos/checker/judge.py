"""Every row of a tape through the rules."""

from __future__ import annotations

from pipeline.chaos.checker import ending, entries, orders, repairs, traffic
from pipeline.chaos.checker.claims import Claims
from pipeline.chaos.checker.finding import Violation
from pipeline.chaos.checker.losses import Losses
from pipeline.chaos.checker.naked import Naked
from pipeline.chaos.checker.truth import Row, Truth

VIOLATIONS_MAX = 50  # of one run: the first ones say what is wrong


class Judge:
    """Looks at each row once, in order: first by the rules, then it is taken in."""

    def __init__(self) -> None:
        self.truth = Truth()
        self.claims = Claims()
        self.silences = traffic.Silences()
        self.naked = Naked()
        self.losses = Losses()
        self.violations: list[Violation] = []
        self._row: Row = {}

    def find(self, rule: str, text: str) -> None:
        """A rule is broken by the row that was looked at last."""
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(Violation(rule, text, self._row["seq"], self._row["mono_ns"]))

    def look(self, row: Row) -> None:
        """One row."""
        self._row = row
        self._look(row)
        self.losses.look(row, self.truth, self.claims)
        self.naked.look(row, self.truth, self.claims, self.silences, self.find)

    def _look(self, row: Row) -> None:
        truth, claims, kind = self.truth, self.claims, row["kind"]
        if kind == "record":
            self._record(row)
            claims.apply(row)
            return
        if kind == "request":
            traffic.request(row, truth, claims, self.silences, self.find)
        elif kind == "wire":
            traffic.wire(row, truth, claims, self.find)
            claims.sent.add(row["client_id"])
        elif kind == "limited":
            traffic.limited(row, truth, claims, self.silences, self.find)
        elif kind == "order":
            orders.accepted(row, truth, claims, self.find)
        elif kind == "reject":
            self._refused(row)
        elif kind == "act" and row["act"] == "death":
            self.silences.lost(row["since_ns"] if "since_ns" in row else row["mono_ns"])
        elif kind == "fault" and row["fault"] == "disconnect":
            self.silences.lost(row["mono_ns"], row["venue"])
        elif kind == "start" and not row["digest_equal"]:
            self.find("replay", f"a start finds another journal than was written: {row['text']}")
        elif kind == "end":
            ending.end(row, truth, claims, self.find)
        truth.apply(row)

    def _refused(self, row: Row) -> None:
        """A refusal that our own checks should have spared us."""
        short = row["reason"] in ("insufficient_balance", "insufficient_margin") and row["text"] != "injected"
        claim = self.claims.orders.get(row["client_id"])
        if short and claim is not None and claim.body["purpose"] == "ENTRY":
            key = (claim.body["venue"], claim.body["reserve_asset"])
            taken_ns = self.truth.taken_ns.get(key, -entries.UNSEEN_NS)
            if row["mono_ns"] - taken_ns >= entries.UNSEEN_NS:
                self.find("reservation", f"{row['client_id']}: refused, {row['text']}")

    def _record(self, row: Row) -> None:
        truth, claims, find = self.truth, self.claims, self.find
        name, body = row["record"], row["body"]
        if name == "OrderStateRecord":
            orders.state(row, truth, claims, find)
        elif name == "FillRecord":
            orders.fill(row, truth, claims, find)
        elif name == "OperationRecord":
            if body["closes"]:
                repairs.leave(row, claims, find)
            else:
                entries.entry(row, truth, claims, find)
                self.losses.entry(row, truth, claims, find)
        elif name == "OrderIntentRecord":
            self._intent(row)
        elif name == "ExternalFlowRecord":
            orders.flow(row, truth, find)
        elif name == "RecoveryRecord":
            repairs.recovery(row, claims, find)
        elif name == "ReconcileRecord":
            orders.sweep(row, truth, find)
        elif name == "OperationResultRecord":
            orders.result(row, truth, claims, find)
            repairs.hedge(row, claims, find)

    def _intent(self, row: Row) -> None:
        truth, claims, find, body = self.truth, self.claims, self.find, row["body"]
        if body["client_id"] in claims.orders:
            find("ids", f"{body['client_id']}: given twice")
        if body["purpose"] == "ENTRY":
            entries.intent(row, truth, claims, find)
        elif body["purpose"] == "CLOSE" or (body["purpose"] == "FLATTEN" and body["kind"] != "SPOT"):
            repairs.planned(row, claims, find)
        else:
            repairs.repair(row, truth, claims, find)
