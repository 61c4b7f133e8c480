"""Fault rules: what to break, where, how often. Rules come from ``POST /faults``, a scenario file or a test.

``fault_kinds`` has the table of the kinds and their fields. ``at_s`` puts off the arming, or what is done at once, by
so many seconds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal, InvalidOperation
from typing import Any

from pipeline.sim.exchange.fault_kinds import ACTION, FAULT_KINDS, REQUEST, STALE_OPERATIONS
from pipeline.sim.exchange.latency import NS_PER_MS, NS_PER_S, ManualClock

REQUEST_KINDS, ACTION_KINDS = (
    frozenset(name for name, kind in FAULT_KINDS.items() if kind.acts_on == which) for which in (REQUEST, ACTION)
)
# Those that change orders: ``SimVenue.submit*`` brings their latency, and keys need the permission to trade.
ORDER_OPERATIONS = frozenset({"place", "amend", "cancel", "cancel_all"})


class BadFault(ValueError):
    """A fault rule that cannot be understood, or not be carried out; the text says what was found and what is wanted.
    ``kind``: the kind that the rule names; "" where there is no such kind."""

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(slots=True)
class FaultRule:
    """One rule: ``fault_kinds`` says what each ``kind`` does and which fields it reads. ``rule_id`` and below are
    counted.
    """

    kind: str
    venue: str = "*"
    target: str = "*"
    symbol: str = "*"
    after: int = 0
    count: int = 1
    probability: float = 1.0
    duration_ms: float = 0.0
    delay_ms: float = 0.0
    status: int = 0
    retry_after_s: float = 1.0
    reason: str = "injected"
    text: str = ""
    asset: str = ""
    amount: str = "0"
    price: str = ""
    client_id: str = ""
    at_s: float = 0.0
    rule_id: int = 0
    armed_ns: int = 0
    seen: int = 0
    hits: int = 0

    @classmethod
    def parse(cls, raw: Any) -> FaultRule:
        """Raises ``BadFault`` for an unknown kind, for a field that the kind does not read, and for a value that the
        field does not take."""
        if not isinstance(raw, dict):
            raise BadFault(f"a rule: found {raw!r}, wanted an object with a kind")
        kind = raw.get("kind")
        if not isinstance(kind, str) or kind not in FAULT_KINDS:
            found = "no kind" if kind is None else repr(kind)
            raise BadFault(f"kind: found {found}, wanted one of {', '.join(sorted(FAULT_KINDS))}")
        known = FAULT_KINDS[kind].fields
        unknown = sorted(set(map(str, raw)) - {"kind", *known})
        if unknown:
            raise BadFault(
                f"{kind}: found {', '.join(unknown)}, which it does not read; it reads {', '.join(known)}", kind
            )
        lacking = [name for name, row in known.items() if row.required and raw.get(name) in (None, "")]
        if lacking:
            wanted = "; ".join(f"{name} ({known[name].unit}): {known[name].says}" for name in lacking)
            raise BadFault(f"{kind}: found no {', no '.join(lacking)}; wanted {wanted}", kind)
        values = {name: row.default for name, row in known.items() if not row.required} | raw
        return cls(**{name: value if name == "kind" else _read(kind, name, value) for name, value in values.items()})


_WHOLE = frozenset({"after", "count", "status"})
_NUMBERS = frozenset({"probability", "duration_ms", "delay_ms", "retry_after_s", "at_s"})


def _read(kind: str, name: str, value: Any) -> Any:
    """The value of a field as the rule keeps it; raises ``BadFault``."""
    row = FAULT_KINDS[kind].fields[name]
    if name in _NUMBERS or name in _WHOLE:
        least = -math.inf if kind == "clock_skew" and name == "delay_ms" else 0
        most = 1 if name == "probability" else math.inf
        is_number = isinstance(value, int if name in _WHOLE else (int, float)) and not isinstance(value, bool)
        if not is_number or not least <= value <= most or math.isinf(value):
            wanted = f"a number ({row.unit})" + ("" if least else ", from 0") + (", at most 1" if most == 1 else "")
            raise BadFault(f"{kind}: {name}: found {value!r}, wanted {wanted}", kind)
        return value
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise BadFault(f"{kind}: {name}: found {value!r}, wanted {row.unit}", kind)
    text = str(value)
    if row.choices and text not in row.choices:
        raise BadFault(f"{kind}: {name}: found {text!r}, wanted one of {', '.join(filter(None, row.choices))}", kind)
    if name == "amount" and text:
        amount = number(text.removesuffix("%") if "%" in row.unit else text)
        if amount is None or ("whole" in row.unit and amount != int(amount)):
            raise BadFault(f"{kind}: {name}: found {text!r}, wanted a number ({row.unit})", kind)
    return text


def number(text: str) -> Decimal | None:
    """A finite number, or None."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


@dataclass(slots=True, frozen=True)
class RequestFaults:
    """What faults do to one request. The default: nothing, serve it."""

    status: int = 0  # answer with this HTTP status (or the WS API's equal) and do not execute
    retry_after_s: float = 0.0  # with status 429
    status_after: int = 0  # execute, then answer with this status
    page_status: int = 0  # the edge answers with a page under this status: REST only, do not execute
    drop_request: bool = False  # close the connection, do not execute
    drop_response: bool = False  # execute, close the connection
    delay_ns: int = 0
    delay_after_ns: int = 0
    stale_ns: int = 0  # age of what a query shows
    rule_id: int = 0  # of the first rule that hit; 0 = none

    def marks(self) -> dict[str, Any]:
        """What the ledger's row of the request keeps of it, JSON-ready; empty without faults."""
        if not self.rule_id:
            return {}
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in known.items() if value}


NO_FAULTS = RequestFaults()


@dataclass(slots=True)
class FaultPlan:
    """All armed rules of a server. Decisions draw from their own generator: the market path stays the seed's."""

    clock: ManualClock
    rng: random.Random
    rules: list[FaultRule] = field(default_factory=list)
    waiting: list[FaultRule] = field(default_factory=list)  # for their ``at_s``
    retired: list[FaultRule] = field(default_factory=list)
    _next_id: int = 1

    def add(self, rule: FaultRule) -> int:
        """Arms a rule; returns its id."""
        rule.armed_ns = self.clock.mono_ns()
        self.rules.append(rule)
        return self._named(rule)

    def put_off(self, rule: FaultRule, due: Callable[[FaultRule], None]) -> int:
        """Keeps a rule for its ``at_s``, when ``due`` gets it unless it has been removed; returns its id."""

        def at_its_time() -> None:
            if rule in self.waiting:
                self.waiting.remove(rule)
                due(rule)

        self.waiting.append(rule)
        self.clock.call_later(int(rule.at_s * NS_PER_S), at_its_time)
        return self._named(rule)

    def _named(self, rule: FaultRule) -> int:
        """Its id, from when it is known first."""
        if not rule.rule_id:
            rule.rule_id = self._next_id
            self._next_id += 1
        return rule.rule_id

    def remove(self, rule_id: int) -> bool:
        """Disarms a rule, or one that waits; False when none has the id."""
        for rules in (self.rules, self.waiting):
            for rule in rules:
                if rule.rule_id == rule_id:
                    rules.remove(rule)
                    self.retired.append(rule)
                    return True
        return False

    def clear(self) -> None:
        """Disarms every rule, and those that wait."""
        self.retired += self.rules + self.waiting
        self.rules.clear()
        self.waiting.clear()

    def describe(self) -> dict[str, Any]:
        """Armed and retired rules, JSON-ready, with what they have seen and hit; armed: also those that wait for their
        ``at_s``, which is 0 as soon as they do not."""
        return {
            "armed": [asdict(rule) for rule in self.rules + self.waiting],
            "retired": [asdict(rule) for rule in self.retired],
        }

    def request(self, venue: str, operation: str, symbol: str = "*", *, by_rest: bool = True) -> RequestFaults:
        """The faults on one request; counts a match for each rule that applies. ``by_rest``: not over a WebSocket that
        stands, where no edge answers."""
        if not self.rules:
            return NO_FAULTS
        found: dict[str, Any] = {}
        for rule in list(self.rules):
            if rule.kind not in REQUEST_KINDS or rule.kind in ("reject", "late_fill"):
                continue  # these are the matching engine's: SimVenue.place asks ``stream`` for them
            if rule.kind == "gateway_page" and not by_rest:
                continue
            if rule.kind == "stale" and operation not in STALE_OPERATIONS:
                continue
            if not self._hits(rule, venue, operation, symbol):
                continue
            found.setdefault("rule_id", rule.rule_id)
            if rule.kind == "http_error":
                found["status"] = rule.status
            elif rule.kind == "http_error_after":
                found["status_after"] = rule.status
            elif rule.kind == "gateway_page":
                found["page_status"] = rule.status
            elif rule.kind == "rate_limit":
                found["status"] = 429
                found["retry_after_s"] = rule.retry_after_s
            elif rule.kind == "stale":
                found["stale_ns"] = int(rule.delay_ms * NS_PER_MS)
            elif rule.kind == "delay_request":
                found["delay_ns"] = int(rule.delay_ms * NS_PER_MS)
            elif rule.kind == "delay_response":
                found["delay_after_ns"] = int(rule.delay_ms * NS_PER_MS)
            else:
                found[rule.kind] = True
        return RequestFaults(**found)

    def stream(self, kind: str, venue: str, target: str, symbol: str = "*") -> FaultRule | None:
        """The first rule of this kind that hits now, or None: for streams, and for refusals of the matching engine."""
        if not self.rules:
            return None
        for rule in list(self.rules):
            if rule.kind == kind and self._hits(rule, venue, target, symbol):
                return rule
        return None

    def _hits(self, rule: FaultRule, venue: str, target: str, symbol: str) -> bool:
        if not (_matches(rule.venue, venue) and _matches(rule.target, target) and _matches(rule.symbol, symbol)):
            return False
        if rule.duration_ms and self.clock.mono_ns() - rule.armed_ns > rule.duration_ms * NS_PER_MS:
            self.remove(rule.rule_id)
            return False
        rule.seen += 1
        if rule.seen <= rule.after:
            return False
        if rule.probability < 1.0 and self.rng.random() >= rule.probability:
            return False
        rule.hits += 1
        if rule.count and rule.hits >= rule.count:
            self.remove(rule.rule_id)
        return True


def _matches(pattern: str, value: str) -> bool:
    return pattern in ("*", value) or value == "*"
