"""What is true at each moment: orders, fills, money and positions at the venues, books as the feeds had published them,
the guard's page. Built from the venues' rows and the schedule's acts alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Row = dict[str, Any]
Place = tuple[str, str]  # venue, symbol
NEVER_NS = 2**62
#: A margin counts as short up to this beyond the trigger: what a venue keeps for itself (maintenance, fee), and what
#: moves between its look and ours.
SHORT_ROOM = Decimal("0.02")
READ_NS = 3_000_000_000  # until which an account reading may be the newest one
ZERO = Decimal(0)


@dataclass(slots=True)
class VenueOrder:
    """An order that a venue took. ``endings``: filled quantities with which it was reported as ended, oldest first."""

    row: Row
    endings: list[Decimal] = field(default_factory=list)
    cancelled: bool = False  # at any time
    late: bool = False  # it executed after it had ended

    @property
    def filled(self) -> Decimal:
        """Base coins, by now."""
        found: Decimal = self.row["filled_qty"]
        return found

    @property
    def whole(self) -> bool:
        """Whether all of it has filled."""
        return bool(self.row["filled_qty"] >= self.row["qty"])


@dataclass(slots=True)
class Truth:
    """See the module's text. Times are monotonic ns."""

    config: Row = field(default_factory=dict)
    instruments: dict[Place, Row] = field(default_factory=dict)
    orders: dict[str, VenueOrder] = field(default_factory=dict)  # by our id
    refused: dict[str, str] = field(default_factory=dict)  # id of an order that a venue has refused for good -> why
    arrivals: dict[str, int] = field(default_factory=dict)  # id -> placements that reached a venue
    first_arrival_ns: dict[str, int] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)  # ids of placements that reached a venue and were not executed
    asked_ns: dict[tuple[str, str], int] = field(default_factory=dict)  # (venue, operation) -> newest arrival
    asked_in_vain: dict[tuple[str, str], int] = field(default_factory=dict)  # the same, of those without an answer
    fills: dict[tuple[str, str, str], Row] = field(default_factory=dict)  # by venue, symbol, trade id
    free: dict[Place, Decimal] = field(default_factory=dict)  # (venue, asset)
    taken_ns: dict[Place, int] = field(default_factory=dict)  # (venue, asset) -> when others last took of it
    moved: dict[Place, Decimal] = field(default_factory=dict)  # (venue, asset) -> by others, first deposits left out
    money: dict[Place, Decimal] = field(default_factory=dict)  # (venue, asset) -> change by trading, fees, funding
    positions: dict[Place, Decimal] = field(default_factory=dict)
    costs: dict[Place, Decimal] = field(default_factory=dict)  # of positions: price x signed quantity that is open
    margins: dict[Place, Decimal] = field(default_factory=dict)
    marks: dict[Place, Decimal] = field(default_factory=dict)  # of contracts, as their venue values them
    short_ns: dict[Place, int] = field(default_factory=dict)  # contract -> when its margin was short the last time
    books: dict[Place, Row] = field(default_factory=dict)
    stalled_ns: dict[str, int] = field(default_factory=dict)  # venue -> since when its feed is silent
    latched_ns: int = NEVER_NS
    leaseless_ns: int = NEVER_NS
    drained_ns: dict[str, int] = field(default_factory=dict)
    no_room: bool = False
    down_ns: dict[str, int] = field(default_factory=dict)  # venue -> when its session was last lost
    halted: set[Place] = field(default_factory=set)  # instruments that their venue has suspended
    resumed_ns: dict[Place, int] = field(default_factory=dict)  # instrument -> when its venue last opened it again
    paged_ns: dict[str, int] = field(default_factory=dict)  # venue -> when its gateway last answered with a page
    awake_ns: int = 0  # until when the process stands still
    life_ns: int = 0
    life: int = 0  # its number
    by: str = ""  # whose life: the executor's, or the guard's

    def proof_ns(self, place: Place, now_ns: int) -> int:
        """When a book was last proved: when it was published, or later, while its feed speaks, less the way of a
        frame."""
        lag_ns: int = self.config["feed_lag_ns"].get(place[0], 0)
        spoke_ns = min(now_ns, self.stalled_ns.get(place[0], NEVER_NS)) - lag_ns
        book = self.books.get(place)
        return spoke_ns if book is None else max(spoke_ns, book["mono_ns"])

    def short_of_margin(self, place: Place, since_ns: int, now_ns: int) -> bool:
        """Whether a contract was so near to its liquidation at any time since ``since_ns``, or in a reading that may
        have been the newest one then, that its margin comes before every price."""
        self._look_at_margin(place, now_ns)
        return self.short_ns.get(place, -NEVER_NS) >= since_ns - READ_NS

    def _look_at_margin(self, place: Place, now_ns: int) -> None:
        """By the venue's own numbers: what backs the position at its mark, as a part of its value."""
        qty, mark = self.positions.get(place, ZERO), self.marks.get(place)
        if not qty or not mark:
            return
        equity, value = self.margins[place] + qty * mark - self.costs[place], abs(qty) * mark
        if equity < value * (self.config["margin_trigger_pct"] / 100 + SHORT_ROOM):
            self.short_ns[place] = now_ns

    def apply(self, row: Row) -> None:
        """Takes in a row that is no record."""
        take = _TAKES.get(row["kind"])
        if take is not None:
            take(self, row)

    def _config(self, row: Row) -> None:
        self.config = row

    def _instrument(self, row: Row) -> None:
        self.instruments[row["venue"], row["symbol"]] = row

    def _request(self, row: Row) -> None:
        if "page_status" in row["detail"]:
            self.paged_ns[row["venue"]] = row["mono_ns"]
        lost = {"status", "page_status", "drop_request"} & row["detail"].keys()
        asked = self.asked_in_vain if lost or "drop_response" in row["detail"] else self.asked_ns
        asked[row["venue"], row["operation"]] = row["mono_ns"]
        if row["operation"] == "place":
            self.arrivals[row["client_id"]] = self.arrivals.get(row["client_id"], 0) + 1
            self.first_arrival_ns.setdefault(row["client_id"], row["mono_ns"])
            if lost:
                self.dropped.add(row["client_id"])

    def _reject(self, row: Row) -> None:
        self.refused[row["client_id"]] = str(row.get("reason", row["kind"]))

    def _order(self, row: Row) -> None:
        known = self.orders.get(row["client_id"])
        if known is None:
            known = self.orders[row["client_id"]] = VenueOrder(row)
        known.late = known.late or (bool(known.endings) and row["filled_qty"] > known.endings[-1])
        known.row = row
        if row["finish_as"]:
            known.endings.append(row["filled_qty"])
            known.cancelled = known.cancelled or row["filled_qty"] < row["qty"]

    def _fill(self, row: Row) -> None:
        self.fills[row["venue"], row["symbol"], row["trade_id"]] = row

    def _balance(self, row: Row) -> None:
        key = (row["venue"], row["asset"])
        self.free[key] = row["free"]
        if row["reason"] in ("withdraw", "fund"):
            self.taken_ns[key] = row["mono_ns"]

    def _entry(self, row: Row) -> None:
        if row["reason"] in ("deposit", "withdraw"):
            if self.life_ns:
                for account, asset, amount in row["postings"]:
                    if account.startswith("user:"):
                        key = (row["venue"], asset)
                        self.moved[key] = self.moved.get(key, ZERO) + amount
            return
        for account, asset, amount in row["postings"]:
            if account.startswith("user:"):
                key = (row["venue"], asset)
                self.money[key] = self.money.get(key, ZERO) + amount

    def _position(self, row: Row) -> None:
        place = (row["venue"], row["symbol"])
        self._look_at_margin(place, row["mono_ns"])  # as it was until now
        self.positions[place], self.costs[place], self.margins[place] = row["qty"], row["cost"], row["margin"]
        self._look_at_margin(place, row["mono_ns"])

    def _forced(self, row: Row) -> None:
        self.taken_ns[row["venue"], self.config["numeraire"]] = row["mono_ns"]

    def _mark(self, row: Row) -> None:
        place = (row["at"], row["symbol"])
        self._look_at_margin(place, row["mono_ns"])
        self.marks[place] = row["price"]
        self._look_at_margin(place, row["mono_ns"])

    def _book(self, row: Row) -> None:
        self.books[row["at"], row["symbol"]] = row

    def _fault(self, row: Row) -> None:
        if row["fault"] in ("halt_symbol", "resume_symbol"):
            of_rule = {
                place
                for place in self.instruments
                if row["venue"] in ("*", place[0]) and row["symbol"] in ("*", place[1])
            }
            if row["fault"] == "halt_symbol":
                self.halted = self.halted | of_rule
            else:
                self.resumed_ns |= {place: row["mono_ns"] for place in self.halted & of_rule}
                self.halted = self.halted - of_rule
        if row["fault"] == "disconnect" and row.get("target", "*") != "public":
            for venue in self.config["venues"]:
                if row["venue"] in ("*", venue):
                    self.down_ns[venue] = row["mono_ns"]

    def _act(self, row: Row) -> None:
        act, on = row["act"], row.get("on")
        now_ns: int = row["mono_ns"]
        if act == "halt":
            self.latched_ns = now_ns if on else NEVER_NS
        elif act == "lease":
            self.leaseless_ns = NEVER_NS if on else now_ns
        elif act == "drain":
            self.drained_ns[row["at"]] = now_ns if on else NEVER_NS
        elif act == "stall":
            self.stalled_ns[row["at"]] = now_ns if on else NEVER_NS
        elif act == "room":
            self.no_room = not on
        elif act == "pause":
            self.awake_ns = now_ns + row["for_ms"] * 1_000_000
        elif act == "life":
            self.life_ns, self.awake_ns, self.by, self.life = now_ns, 0, row["by"], row["life"]
            self.down_ns = dict.fromkeys(self.config["venues"], now_ns)


_TAKES: dict[str, Callable[[Truth, Row], None]] = {
    "config": Truth._config,
    "instrument": Truth._instrument,
    "request": Truth._request,
    "reject": Truth._reject,
    "limited": Truth._reject,
    "order": Truth._order,
    "fill": Truth._fill,
    "balance": Truth._balance,
    "entry": Truth._entry,
    "position": Truth._position,
    "forced": Truth._forced,
    "mark": Truth._mark,
    "book": Truth._book,
    "fault": Truth._fault,
    "act": Truth._act,
}
