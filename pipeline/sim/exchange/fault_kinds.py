"""The kinds of faults and of what the world does, with their fields: one table for the control URL, the checks of a
rule and the reference page.

A rule names a ``kind`` and where it acts. A *request* or a *stream* rule lets ``after`` matches pass, then hits
``count`` matches with ``probability``, within ``duration_ms`` of its arming. An *action* is done at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.sim.exchange.accounts import ACCOUNT_MODES
from pipeline.sim.exchange.orders import RejectReason

REQUEST, STREAM, ACTION = "request", "stream", "action"
SCOPES = ("public", "private")  # of sockets and their streams
# Operations that dialects name when they classify a request.
OPERATIONS = (
    *("place", "amend", "cancel", "cancel_all", "order", "open_orders", "finished_orders", "trades", "balances"),
    *("account_book", "positions", "fees", "leverage", "depth", "instruments", "currencies", "time", "ticker"),
    *("public_trades", "candles", "listen_key", "countdown", "login", "other"),
)
# Stale answers are for questions about the account; a rule for "*" leaves everything else alone.
STALE_OPERATIONS = ("order", "open_orders", "finished_orders", "trades", "balances", "positions", "account_book")
ANY = "*"
A_VENUE, A_SYMBOL = "VENUE", "SYMBOL"  # stand in examples for names of the simulator that runs
FUNDING_RATE_MAX = "0.1"  # of one payment by hand: more is an amount in the place of a rate


@dataclass(frozen=True, slots=True)
class FaultField:
    """One field of a kind. ``unit``: "whole number", "ms", "s", "text", ...; ``choices``: () = any value."""

    unit: str
    says: str
    default: Any = ""
    required: bool = False
    choices: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """JSON-ready; the default stands where the field may be left out."""
        row: dict[str, Any] = {"unit": self.unit, "says": self.says}
        row |= {"required": True} if self.required else {"default": self.default}
        return row | ({"one_of": list(self.choices)} if self.choices else {})


@dataclass(frozen=True, slots=True)
class FaultKind:
    """What a kind does, in one sentence; ``fields`` by name, in the order in which they are shown; a rule to copy."""

    acts_on: str
    does: str
    fields: dict[str, FaultField] = field(default_factory=dict)
    example: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """JSON-ready."""
        fields = {name: row.describe() for name, row in self.fields.items()}
        return {"acts_on": self.acts_on, "does": self.does, "fields": fields, "example": self.example}


KIND = FaultField("text", "the name of the kind", required=True)
VENUE = FaultField("text", "a venue; * = all of them", ANY)
SYMBOL = FaultField("text", "a symbol as its venue writes it; * = all of them", ANY)
AT = FaultField("s", "from now until it begins", 0)
_COUNTED = {
    "after": FaultField("whole number", "matches that pass before the first hit", 0),
    "count": FaultField("whole number", "hits until it ends; 0 = no end", 1),
    "probability": FaultField("0 to 1", "share of the matches that are hit", 1),
    "duration_ms": FaultField("ms", "how long it lives; 0 = until it is removed", 0),
}
_LASTING = {**_COUNTED, "count": replace(_COUNTED["count"], default=0)}
_STATUS = FaultField("whole number", "HTTP status of the answer", 503)
_PAGE_STATUS = replace(_STATUS, default=403)


def _delay(says: str) -> dict[str, FaultField]:
    return {"delay_ms": FaultField("ms", says, required=True)}


def _target(what: str, choices: tuple[str, ...]) -> FaultField:
    return FaultField("text", f"the {what} that it hits; * = all of them", ANY, choices=(ANY, *choices))


def _request(
    does: str,
    more: dict[str, FaultField] | None = None,
    *,
    targets: tuple[str, ...] = OPERATIONS,
    counted: dict[str, FaultField] = _COUNTED,
    **example: Any,
) -> FaultKind:
    target = _target("requests", targets)
    fields = {"venue": VENUE, "target": target, "symbol": SYMBOL, **(more or {}), **counted, "at_s": AT}
    return FaultKind(REQUEST, does, fields, {"venue": A_VENUE, **example})


def _stream(
    does: str,
    targets: tuple[str, ...],
    more: dict[str, FaultField] | None = None,
    *,
    counted: dict[str, FaultField] = _COUNTED,
    of_symbols: bool = True,
    **example: Any,
) -> FaultKind:
    """``of_symbols``: it hits what belongs to a symbol; a frame or a handshake belongs to none."""
    named = {"venue": VENUE, "target": _target("streams", targets)} | ({"symbol": SYMBOL} if of_symbols else {})
    fields = {**named, **(more or {}), **counted, "at_s": AT}
    return FaultKind(STREAM, does, fields, {"venue": A_VENUE, "target": targets[0], **example})


def _action(does: str, more: dict[str, FaultField] | None = None, **example: Any) -> FaultKind:
    return FaultKind(ACTION, does, {"venue": VENUE, **(more or {}), "at_s": AT}, example)


_ASSET = FaultField("text", "a coin", required=True)
_OF_SYMBOL = {"symbol": SYMBOL}
_THERE = {"venue": A_VENUE, "symbol": A_SYMBOL}
_PART = FaultField("base coins", "how much of each position; 0 = all of it", "0")
_FACTOR = FaultField("whole number", "factor from 1", required=True)

FAULT_KINDS: dict[str, FaultKind] = {
    # --- requests ---
    "http_error": _request("answered with an error status, nothing executed", {"status": _STATUS}, target="balances"),
    "http_error_after": _request(
        "executed, then answered with an error status: the outcome is unknown to the client",
        {"status": _STATUS},
        target="place",
    ),
    "drop_request": _request("connection closed, nothing executed", target="place"),
    "drop_response": _request("executed, then the connection is closed without a reply", target="place"),
    "delay_request": _request("waits before it is executed", _delay("the wait"), target="place", delay_ms=1500),
    "delay_response": _request("executed, the reply waits", _delay("the wait"), target="place", delay_ms=1500),
    "stale": _request(
        "the answer is as old as `delay_ms`: balances, orders, trades, positions, books of money then",
        _delay("age of what is shown"),
        targets=STALE_OPERATIONS,
        counted=_LASTING,
        delay_ms=5000,
        duration_ms=20_000,
    ),
    "reject": _request(
        "an order is refused by the venue",
        {
            "reason": FaultField("text", "why", "injected", choices=tuple(one.value for one in RejectReason)),
            "text": FaultField("text", "the venue's own words", "injected"),
        },
        targets=("place",),
        reason="insufficient_balance",
        count=3,
    ),
    "late_fill": _request(
        "an order ends with nothing filled; later it has filled whole, at its own price",
        _delay("how much later"),
        targets=("place",),
        delay_ms=2000,
    ),
    "rate_limit": _request(
        "429 with Retry-After, nothing executed",
        {"retry_after_s": FaultField("s", "the venue's Retry-After", 1)},
        target="balances",
        retry_after_s=5,
    ),
    "gateway_page": _request(
        "a REST request or an upgrade is answered by the edge before the venue: HTML, nothing executed; sockets that "
        "stand go on",
        {"status": _PAGE_STATUS},
        targets=(*SCOPES, *OPERATIONS),
        count=20,
    ),
    # --- streams ---
    "drop_delta": _stream("one book delta is lost", ("depth",), after=9),
    "duplicate_delta": _stream("one book delta is sent twice", ("depth",)),
    "reorder_delta": _stream("one book delta changes places with its successor", ("depth",)),
    "stall": _stream("silent while the rule lives; the socket stays open", SCOPES, counted=_LASTING, duration_ms=2000),
    "delay_stream": _stream(
        "late, in order", SCOPES, _delay("how late"), counted=_LASTING, delay_ms=500, duration_ms=5000
    ),
    "corrupt": _stream("the last third of a frame is cut off", SCOPES, of_symbols=False),
    "bad_number": _stream(
        "another text stands in the place of the first decimal number of a text frame",
        ("public",),
        {"text": FaultField("text", "what stands there", "NaN")},
        of_symbols=False,
    ),
    "crossed_delta": _stream("one book delta carries a bid above the best ask", ("depth",)),
    "drop_event": _stream("one account event is lost", ("private",)),
    "duplicate_event": _stream("one account event is sent twice", ("private",)),
    "reorder_event": _stream("one account event comes after its successor", ("private",)),
    "overfill": _stream("one fill is reported with more than its order had open", ("private",)),
    "unnamed_fee": _stream("one fill is reported without its fee and that one's coin", ("private",)),
    "refuse_connect": _stream(
        "a handshake is answered with an error status",
        SCOPES,
        {"status": replace(_STATUS, default=429)},
        of_symbols=False,
        count=3,
    ),
    # --- what the world does ---
    "disconnect": _action(
        "sockets are closed now",
        {"target": _target("sockets", ("all", *SCOPES))},
        venue=A_VENUE,
        target="private",
    ),
    "move_price": _action(
        "the price moves and stays there: of a pair on all venues with one fair price, or of a listing on one venue; "
        "makers quote along the way, so that books, marks and liquidations follow",
        {
            "symbol": FaultField("text", "a pair as BASE/QUOTE, or a symbol as its venue writes it", required=True),
            "amount": FaultField("bps, or % with that sign", "how far; negative falls", required=True),
            "duration_ms": FaultField("ms", "how long it takes; 0 = at once", 0),
        },
        symbol="ETH/USDT",
        amount="-30%",
        duration_ms=60_000,
    ),
    "halt_symbol": _action("the venue takes no orders on it", _OF_SYMBOL, **_THERE),
    "resume_symbol": _action("the end of a halt", _OF_SYMBOL, **_THERE),
    "close_wallet": _action(
        "deposits and withdrawals of a coin are closed",
        {"asset": FaultField("text", "a coin; * = all of them", ANY)},
        venue=A_VENUE,
        asset="ETH",
    ),
    "open_wallet": _action(
        "deposits and withdrawals of a coin are open again",
        {"asset": FaultField("text", "a coin; * = all of them", ANY)},
        venue=A_VENUE,
        asset="ETH",
    ),
    "withdraw": _action(
        "money leaves without a request of the client",
        {"asset": _ASSET, "amount": FaultField("coins", "how much, above 0", required=True)},
        venue=A_VENUE,
        asset="USDT",
        amount="2500",
    ),
    "deposit": _action(
        "money arrives without a request of the client",
        {"asset": _ASSET, "amount": FaultField("coins", "how much, above 0", required=True)},
        venue=A_VENUE,
        asset="USDT",
        amount="1500",
    ),
    "cancel_orders": _action("the venue cancels what rests", _OF_SYMBOL, **_THERE),
    "liquidate": _action("positions are closed at the market", {**_OF_SYMBOL, "amount": _PART}, **_THERE),
    "adl": _action(
        "positions are closed off the book (deleveraging)",
        {**_OF_SYMBOL, "amount": _PART, "text": FaultField("price", "of the closing; left out: the mark")},
        **_THERE,
        amount="0.5",
    ),
    "funding": _action(
        "a contract pays funding now, beside its stamps",
        {
            **_OF_SYMBOL,
            "amount": FaultField(
                f"rate, -{FUNDING_RATE_MAX} to {FUNDING_RATE_MAX}",
                "of this payment: 0.0015 = 15 bps of the position's value, positive is paid by longs; left out: the "
                "contract's own rate",
            ),
        },
        **_THERE,
        amount="0.0015",
    ),
    "manual_order": _action(
        "another client of the account places an order",
        {
            **_OF_SYMBOL,
            "amount": FaultField("base coins", "negative sells", required=True),
            "price": FaultField("price, or % from the mark as in -3%", "where it rests; left out: at the market"),
            "client_id": FaultField("text", "its own id, without the venue's prefix; left out: none"),
        },
        **_THERE,
        amount="0.3",
        price="-3%",
    ),
    "change_tick": _action("the instrument's tick grows", {**_OF_SYMBOL, "amount": _FACTOR}, **_THERE, amount=10),
    "change_lot": _action("the instrument's lot grows", {**_OF_SYMBOL, "amount": _FACTOR}, **_THERE, amount=10),
    "change_fee": _action(
        "the account pays other fees",
        {
            **_OF_SYMBOL,
            "amount": FaultField("ppm, whole", "as taker", required=True),
            "text": FaultField("ppm, whole", "as maker; left out: as before"),
        },
        **_THERE,
        amount=2000,
    ),
    "change_leverage": _action(
        "another client of the account sets leverage and margin mode",
        {
            **_OF_SYMBOL,
            "amount": FaultField("times", "the leverage, from 1", required=True),
            "text": FaultField("text", "the margin mode; left out: as before", choices=("", "isolated", "cross")),
        },
        **_THERE,
        amount="3",
        text="cross",
    ),
    "change_mode": _action(
        "another client of the account sets its position mode or its account mode",
        {"text": FaultField("text", "the mode", required=True, choices=("single", "dual", *ACCOUNT_MODES))},
        venue=A_VENUE,
        text="dual",
    ),
    "announce_delisting": _action(
        "a contract will only reduce, and is settled at the end; spot trades on until the end",
        {
            **_OF_SYMBOL,
            "delay_ms": FaultField("ms", "until it only reduces", 0),
            "duration_ms": FaultField("ms", "from then to the settlement", 0),
        },
        **_THERE,
        delay_ms=10_000,
        duration_ms=30_000,
    ),
    "burst": _action(
        "market events at once on every listing",
        {"amount": FaultField("whole number", "events of each listing", required=True)},
        venue=A_VENUE,
        amount=200,
    ),
    "clock_skew": _action(
        "the venue's clock goes ahead of the host's, or behind it",
        {"delay_ms": FaultField("ms", "how far ahead; negative = behind", 0)},
        venue=A_VENUE,
        delay_ms=1200,
    ),
}
