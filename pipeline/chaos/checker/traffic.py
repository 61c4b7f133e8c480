"""Requests as they arrive at the venues."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.chaos.checker.claims import ENDED, Claims, Operation
from pipeline.chaos.checker.finding import Find
from pipeline.chaos.checker.truth import Row, Truth

LATCH_NS = 50_000_000  # the latest placement behind a halt
SECOND_NS = 1_000_000_000


@dataclass(slots=True)
class Silences:
    """What the venues have asked for: (venue, class) -> (asked at, heard at, until), monotonic ns."""

    spans: dict[tuple[str, str], tuple[int, int, int]] = field(default_factory=dict)

    def ask(self, row: Row, what: str, seconds: float, late_ns: int, truth: Truth) -> None:
        """A 429 with Retry-After leaves its venue; not heard where the connection was cut behind the request."""
        at_ns = row["mono_ns"]
        flight_ns = truth.config["flight_ns"]
        if at_ns - max(truth.life_ns, truth.down_ns.get(row["venue"], 0)) < flight_ns + late_ns:
            return
        self.spans[row["venue"], what] = (at_ns, at_ns + late_ns + flight_ns, at_ns + int(seconds * SECOND_NS))

    def lost(self, now_ns: int, venue: str = "") -> None:
        """A connection is cut: what was on its way has not been heard."""
        for key, (_, heard_ns, _) in list(self.spans.items()):
            if heard_ns >= now_ns and venue in ("", "*", key[0]):
                del self.spans[key]

    def broken(self, row: Row, what: str) -> bool:
        """Whether a request comes inside a silence."""
        _, heard_ns, until_ns = self.spans.get((row["venue"], what), (0, 0, 0))
        return bool(heard_ns < row["mono_ns"] < until_ns)

    def silent(self, venue: str, now_ns: int) -> bool:
        """Whether a venue wants no orders now."""
        return now_ns < self.spans.get((venue, "orders"), (0, 0, 0))[2]


def request(row: Row, truth: Truth, claims: Claims, silences: Silences, find: Find) -> None:
    """A request's arrival."""
    what = "orders" if row["operation"] in ("place", "cancel") else "questions"
    if row["operation"] != "cancel" and silences.broken(row, what):
        find("silence", f"{row['operation']} at {row['venue']} inside its Retry-After")
    if what == "questions" and row["detail"].get("status") == 429:
        silences.ask(row, what, row["detail"]["retry_after_s"], 0, truth)
    if row["operation"] == "place":
        _placement(row, truth, claims, find)


def wire(row: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """An order's bytes leave the host: in the run that has written its intent, never in a later one; of an entry while
    it may, on books that are young."""
    claim = claims.orders.get(row["client_id"])
    if claim is None or claim.life != row["life"]:
        find("sent once", f"{row['client_id']}: sent by a run that did not intend it")
    elif claim.body["purpose"] == "ENTRY":
        operation = claims.operations[claim.body["operation_id"]]
        first = not any(name in claims.sent for name in operation.orders)
        _may_leave(row, claim.body, operation, 0, truth, find, books=first)


def limited(row: Row, truth: Truth, claims: Claims, silences: Silences, find: Find) -> None:
    """A placement answered by 429. One that was long on its way may come when its connection, or its
    process, is gone."""
    claim = claims.orders.get(row["client_id"])
    if claim is None or (claim.life == truth.life and claim.at_ns >= truth.down_ns.get(row["venue"], 0)):
        silences.ask(row, "orders", row["retry_after_s"], row["late_ns"], truth)
    late = claim is not None and row["mono_ns"] - (claim.sent_ns or claim.at_ns) > truth.config["flight_ns"]
    if not row["injected"] and not late:  # one that comes late meets those of another second
        find("budget", f"{row['client_id']}: one order too many for {row['venue']}")


def _placement(row: Row, truth: Truth, claims: Claims, find: Find) -> None:
    name = row["client_id"]
    claim = claims.orders.get(name)
    if claim is None:
        find("accounted", f"{name}: sent without an intent in the journal")
        return
    if truth.arrivals.get(name, 0):
        find("sent once", f"{name}: sent again")
    if claim.ended_as in ENDED:
        find("sent once", f"{name}: sent after it was {claim.ended_as}")
    operation = claims.operations[claim.body["operation_id"]]
    if claim.body["purpose"] != "ENTRY":
        return
    first = not any(other in truth.arrivals for other in operation.orders)
    _may_leave(row, claim.body, operation, truth.config["flight_ns"], truth, find, books=first)


def _may_leave(
    row: Row, body: Row, operation: Operation, flight_ns: int, truth: Truth, find: Find, *, books: bool
) -> None:
    """An entry's order leaves, or arrives ``flight_ns`` later: no latch, lease or drain is older than it may be, nor
    (``books``: of the first leg) a proof that it was decided on."""
    name, now_ns = body["client_id"], row["mono_ns"]
    late_ns = now_ns - max(LATCH_NS, flight_ns)
    if truth.latched_ns < late_ns:
        find("halt", f"{name}: {row['kind']} {(now_ns - truth.latched_ns) // 10**6} ms behind the latch")
    if truth.leaseless_ns < late_ns:
        find("lease", f"{name}: {row['kind']} {(now_ns - truth.leaseless_ns) // 10**6} ms behind the lease")
    if truth.drained_ns.get(body["venue"], now_ns) < late_ns:
        find("halt", f"{name}: {row['kind']} at a venue that is drained")
    if not books:
        return
    proof_ns = min(leg["proof_mono_ns"] for leg in operation.body["legs"])
    if now_ns - proof_ns > truth.config["max_age_ns"] + max(truth.config["send_ns"], flight_ns):
        find("books", f"{name}: {row['kind']} on books {(now_ns - proof_ns) // 10**6} ms old")
