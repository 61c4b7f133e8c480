"""Fault rules: what to break, where, how often. Rules come from ``POST /faults``, a scenario file or a test.

A rule names a ``kind``, the ``venue`` and the ``target`` it hits ("*" = any), lets ``after`` matches pass, then hits
``count`` matches (0 = all) with ``probability``, within ``duration_ms`` of its arming (0 = for ever). ``at_s`` puts
off the arming, or what is done at once, by so many seconds. What is done at once reads no ``target`` (`disconnect`
apart): it hits the ``symbol`` or ``asset`` that the rule names.

| kind | target, or the field that is read instead | what happens |
|---|---|---|
| http_error | operation | ``status`` (default 503), nothing executed |
| http_error_after | operation | executed, then ``status``: the outcome is unknown to the client |
| drop_request | operation | connection closed, nothing executed |
| drop_response | operation | executed, connection closed without a reply |
| delay_request / delay_response | operation | ``delay_ms`` before / after it is executed |
| stale | query operations | the answer is ``delay_ms`` old: balances, orders, trades, positions, books of money then |
| reject | place | the venue refuses with ``reason`` (a RejectReason) |
| late_fill | place | the order ends with nothing filled; ``delay_ms`` later it has filled whole, at its own price |
| rate_limit | operation | 429 with Retry-After ``retry_after_s`` |
| gateway_page | operation; public, private | REST request or upgrade answered by the edge before the venue: HTML under
  ``status`` (default 403), nothing executed; sockets that stand go on |
| drop_delta / duplicate_delta / reorder_delta | depth | one book delta lost / sent twice / swapped with its successor |
| stall | public, private | stream silent while the rule lives; the socket stays open |
| delay_stream | public, private | ``delay_ms`` late, in order |
| corrupt | public, private | the frame's last third is cut off |
| bad_number | public | ``text`` (default NaN) instead of the first decimal number of a text frame |
| crossed_delta | depth | one delta carries a bid above the best ask |
| drop_event / duplicate_event / reorder_event | private | one account event lost / sent twice / after its successor |
| overfill | private | one fill reported with twice its quantity |
| unnamed_fee | private | one fill reported without its fee and that one's coin |
| refuse_connect | public, private | handshake answered with ``status`` (default 429) |
| disconnect | public, private, all | sockets closed now |
| halt_symbol / resume_symbol, close_wallet / open_wallet | symbol / asset | instrument status, coin switches |
| withdraw / deposit | asset | ``amount`` leaves or enters without a request of the client |
| cancel_orders, funding | symbol | what the venue does by itself |
| liquidate | symbol | positions are closed at the market; ``amount`` base coins of each, 0 = all |
| adl | symbol | the same off the book, at the price in ``text`` (default the mark) |
| manual_order | symbol | an order of ``amount`` base coins (negative sells) by another client of the account: at the
  market, or resting at ``price`` (a number, or percent from the mark as in -3%); ``client_id``: its own, without the
  venue's prefix |
| change_tick, change_lot | symbol | the instrument row's tick or lot times ``amount`` (a whole number) |
| change_fee | symbol | the account pays ``amount`` ppm as taker, ``text`` ppm as maker (default: as before) |
| change_leverage | symbol | another client sets leverage ``amount`` and, by ``text``, isolated or cross |
| change_mode | - | another client sets the mode in ``text``: single, dual; classic, multi_currency, portfolio, ... |
| announce_delisting | symbol | reduce-only after ``delay_ms``, then for ``duration_ms``; settlement at the end |
| burst | - | ``amount`` market events at once on every listing of the venue |
| clock_skew | - | the venue's clock moves by ``delay_ms`` (may be negative) |
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal, InvalidOperation
from typing import Any

from pipeline.sim.exchange.latency import NS_PER_MS, ManualClock

REQUEST_KINDS = frozenset(
    {
        "http_error",
        "http_error_after",
        "drop_request",
        "drop_response",
        "delay_request",
        "delay_response",
        "stale",
        "reject",
        "late_fill",
        "rate_limit",
        "gateway_page",
    }
)
STREAM_KINDS = frozenset(
    {
        "drop_delta",
        "duplicate_delta",
        "reorder_delta",
        "stall",
        "delay_stream",
        "corrupt",
        "bad_number",
        "crossed_delta",
        "drop_event",
        "duplicate_event",
        "reorder_event",
        "overfill",
        "unnamed_fee",
        "refuse_connect",
    }
)
ACTION_KINDS = frozenset(
    {
        "disconnect",
        "halt_symbol",
        "resume_symbol",
        "close_wallet",
        "open_wallet",
        "withdraw",
        "deposit",
        "cancel_orders",
        "liquidate",
        "adl",
        "funding",
        "manual_order",
        "change_tick",
        "change_lot",
        "change_fee",
        "change_leverage",
        "change_mode",
        "announce_delisting",
        "burst",
        "clock_skew",
    }
)
# Stale answers are for questions about the account; a rule for "*" leaves everything else alone.
STALE_OPERATIONS = frozenset(
    {"order", "open_orders", "finished_orders", "trades", "balances", "positions", "account_book"}
)
KINDS = REQUEST_KINDS | STREAM_KINDS | ACTION_KINDS

UPGRADES = ("public", "private")  # handshakes of WebSockets are requests as well
# Operations that dialects name when they classify a request.
OPERATIONS = (
    "place",
    "amend",
    "cancel",
    "cancel_all",
    "order",
    "open_orders",
    "finished_orders",
    "trades",
    "balances",
    "account_book",
    "positions",
    "fees",
    "leverage",
    "depth",
    "instruments",
    "currencies",
    "time",
    "ticker",
    "public_trades",
    "candles",
    "listen_key",
    "countdown",
    "login",
    "other",
)


# Those that change orders: ``SimVenue.submit*`` brings their latency, and keys need the permission to trade.
ORDER_OPERATIONS = frozenset({"place", "amend", "cancel", "cancel_all"})


class BadFault(ValueError):
    """A fault rule that cannot be understood; the text says what was found and what is known."""


@dataclass(slots=True)
class FaultRule:
    """One rule: the module's table says what each ``kind`` does and which fields it reads. ``rule_id`` and below are
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
    def parse(cls, raw: dict[str, Any]) -> FaultRule:
        """Raises ``BadFault`` for an unknown kind or field, and for a target that the kind does not read."""
        allowed = {"venue", "target", "symbol", "after", "count", "probability", "duration_ms", "delay_ms", "status"}
        allowed |= {"kind", "retry_after_s", "reason", "text", "asset", "amount", "price", "client_id", "at_s"}
        unknown = sorted(set(raw) - allowed)
        if unknown:
            raise BadFault(f"unknown fault fields: {unknown}; known: {sorted(allowed)}")
        if raw.get("kind") not in KINDS:
            raise BadFault(f"unknown fault kind: {raw.get('kind')!r}; known: {sorted(KINDS)}")
        try:
            Decimal(str(raw.get("amount", "0")))
            rule = cls(**raw)
        except (TypeError, InvalidOperation) as error:
            raise BadFault(f"bad fault: {error}") from error
        if rule.kind in REQUEST_KINDS and rule.target not in ("*", *UPGRADES, *OPERATIONS):
            known = ", ".join((*UPGRADES, *OPERATIONS))
            raise BadFault(
                f"{rule.kind}: no request is called {rule.target!r}, the rule would never hit; known: {known}"
            )
        if rule.kind in ACTION_KINDS - {"disconnect"} and rule.target != "*":
            raise BadFault(f"{rule.kind} reads no target: {rule.target!r}; name it as venue, symbol or asset")
        if rule.kind in ("withdraw", "deposit") and not rule.asset:
            raise BadFault(f"{rule.kind} wants an asset, e.g. USDT")
        if rule.kind in ("stall", "delay_stream", "stale") and "count" not in raw:
            rule.count = 0  # these last: for duration_ms, or until removed
        return rule


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
    retired: list[FaultRule] = field(default_factory=list)
    _next_id: int = 1

    def add(self, rule: FaultRule) -> int:
        """Arms a rule; returns its id."""
        rule.rule_id = self._next_id
        self._next_id += 1
        rule.armed_ns = self.clock.mono_ns()
        self.rules.append(rule)
        return rule.rule_id

    def remove(self, rule_id: int) -> bool:
        """Disarms a rule; False when no armed rule has the id."""
        for rule in self.rules:
            if rule.rule_id == rule_id:
                self.rules.remove(rule)
                self.retired.append(rule)
                return True
        return False

    def clear(self) -> None:
        """Disarms every rule."""
        self.retired.extend(self.rules)
        self.rules.clear()

    def describe(self) -> dict[str, Any]:
        """Armed and retired rules, JSON-ready, with what they have seen and hit."""
        return {
            "armed": [asdict(rule) for rule in self.rules],
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
                found["status"] = rule.status or 503
            elif rule.kind == "http_error_after":
                found["status_after"] = rule.status or 503
            elif rule.kind == "gateway_page":
                found["page_status"] = rule.status or 403
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
