"""A schedule: what happens to core and venues, and when. Plain data, drawn from a seed, printable and shrinkable.

A step is ``{"at_ms": N, "do": WORD, ...}``. ``do`` is a word of the table below, or "fault" with a rule of
``pipeline/sim/exchange/faults.py`` under ``rule``.

| do | what happens |
|---|---|
| move | ``venue`` ``symbol``: its mid moves by ``bps``, for ``for_ms`` |
| crash | the core's process dies at the ``after``-th action from now on, and is born again on its journal |
| pause | the process stands still for ``for_ms`` right before the next entry's bytes leave |
| halt, lease, drain | the latch is set; the guard's lease runs out; a venue is blocked: for ``for_ms`` |
| stall | ``venue``'s public feed is silent for ``for_ms``: its books grow old |
| gap | the book of ``venue`` ``symbol`` is flagged as gapped for ``for_ms`` |
| takeover | the process dies and the guard's core takes over for ``for_ms``; where given, its lives die at the \
``deaths``-th actions, and the lives of the executor behind it at the ``deaths_after``-th |
| full | the journal has no room for ``for_ms`` |
| rearm | an operator re-arms every tripped breaker |
| repeat | the newest opportunities are offered again, ``times`` times |
| count | nothing; the world keeps how many actions it has done |
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from typing import Any

Step = dict[str, Any]

COINS = ("BTC", "ETH")
MIDS = {"BTC": 64_000, "ETH": 3_100}
VENUES = ("mexc_spot", "gateio_spot", "gateio_futures")
FAULTS_MIN, FAULTS_MAX = 3, 12
TROUBLE_MS = 5_000  # faults begin within this time, and end within about twice of it
MOVES = (6, 12)
EDGE_BPS = (12, 18, 25, 40, 60)
SHORT_MS = (800, 500, 1200)  # windows of most schedules
PRODUCTION_MS = (1000, 500, 10_000)
OPERATIONS = ("order", "trades", "finished_orders", "open_orders", "balances", "positions")


WIRE_EVERY, WIRE_REST = 10, 6  # every tenth schedule goes through the wire's formats: seeds that end so
LOSS_EVERY, LOSS_USD = 20, "4"  # in every twentieth a day may lose no more, in another all days: half a broken leg
LOSS_RESTS = {14: "max_daily_loss_usd", 12: "max_total_loss_usd"}
LOSS_LIMITS = frozenset(LOSS_RESTS.values())
SCOPED_REST, NAKED_REST = 17, 19  # in two others of twenty a scope has a limit of its own, or little may stand alone
SCOPED: tuple[dict[str, Any], ...] = (
    {"per_venue": {"gateio_spot": {"max_exposure_usd": "2500"}}},
    {"per_venue": {"mexc_spot": {"max_orders_per_s": 2}}},
    {"per_asset": {"BTC": {"max_position_size_usd": "1800"}}},
    {"per_pair": {"ETH/USDT": {"max_exposure_usd": "2500"}}},
)
NAKED_USD_S = "400"


def symbol_of(venue: str, coin: str) -> str:
    """A coin's listing against USDT."""
    return f"{coin}USDT" if venue == "mexc_spot" else f"{coin}_USDT"


@dataclass(frozen=True, slots=True)
class Schedule:
    """``windows_ms``: how long a venue may take an entry, how long what reduces risk, and the grace behind both;
    ``limits``: of ``risk_limits``, where not wide; ``files``: the journals are files, and every step of their writing
    counts as an action at which a process may die; ``wire``: requests and answers pass the wire's formats, both
    sides' codecs."""

    seed: int
    steps: tuple[Step, ...]
    windows_ms: tuple[int, int, int] = SHORT_MS
    limits: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    files: bool = False
    wire: bool = False

    def without(self, dropped: set[int]) -> Schedule:
        """The schedule less the steps of these numbers."""
        return replace(self, steps=tuple(step for number, step in enumerate(self.steps) if number not in dropped))

    def text(self) -> str:
        """One line of JSON; :func:`read` takes it back."""
        return json.dumps(
            {
                "seed": self.seed,
                "name": self.name,
                "windows_ms": self.windows_ms,
                "limits": self.limits,
                "files": self.files,
                "wire": self.wire,
                "steps": self.steps,
            }
        )


def read(text: str) -> Schedule:
    """The schedule of a line that :meth:`Schedule.text` has made. Raises ValueError for anything else."""
    try:
        raw = json.loads(text)
        return Schedule(
            raw["seed"],
            tuple(raw["steps"]),
            tuple(raw["windows_ms"]),
            dict(raw["limits"]),
            raw.get("name", ""),
            raw.get("files", False),
            raw.get("wire", False),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a schedule: {error!r}") from error


def draw(seed: int) -> Schedule:
    """The schedule of a seed: the same for ever."""
    rng = random.Random(f"{seed}:chaos")
    steps = [_move(rng) for _ in range(rng.randint(*MOVES))]
    for _ in range(rng.randint(FAULTS_MIN, FAULTS_MAX)):
        steps += _trouble(rng)
    steps.sort(key=lambda step: step["at_ms"])
    limits: dict[str, Any] = {}
    if rng.random() < 0.35:
        limits = rng.choice(
            [
                {"max_total_exposure_usd": "2500"},
                {"max_position_size_usd": "1800"},
                {"max_open_operations": 1},
                {"max_orders_per_s": 4},
            ]
        )
    if seed % LOSS_EVERY in LOSS_RESTS:
        limits = {**limits, LOSS_RESTS[seed % LOSS_EVERY]: LOSS_USD}
    elif seed % LOSS_EVERY == SCOPED_REST:
        limits = {**limits, **SCOPED[seed // LOSS_EVERY % len(SCOPED)]}
    elif seed % LOSS_EVERY == NAKED_REST:
        limits = {**limits, "max_naked_usd_s": NAKED_USD_S}
    windows = SHORT_MS if rng.random() < 0.67 else rng.choice([(5000, 2500, 10_000), PRODUCTION_MS])
    return Schedule(seed, tuple(steps), windows, limits, wire=seed % WIRE_EVERY == WIRE_REST)


def _move(rng: random.Random) -> Step:
    venue, coin = rng.choice(VENUES), rng.choice(COINS)
    return {
        "at_ms": rng.randint(0, TROUBLE_MS),
        "do": "move",
        "venue": venue,
        "symbol": symbol_of(venue, coin),
        "bps": rng.choice(EDGE_BPS) * rng.choice((1, -1)),
        "for_ms": rng.choice([20, 80, 300, 800]),
    }


def _trouble(rng: random.Random) -> list[Step]:
    kind = rng.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()])[0]
    made = _KINDS[kind][1](rng)
    at_ms = rng.randint(0, TROUBLE_MS)
    return [{"at_ms": at_ms + step.pop("later_ms", 0), **step} for step in made]


def _rule(rng: random.Random, kind: str, **fields: Any) -> Step:
    return {"do": "fault", "rule": {"kind": kind, "venue": rng.choice(VENUES), **fields}}


def _orders(rng: random.Random) -> list[Step]:
    """Something happens to placements."""
    place: dict[str, Any] = {"target": "place", "count": rng.randint(1, 3), "after": rng.choice([0, 0, 1])}
    delay = {"delay_ms": rng.choice([100, 600, 1500, 2600])}
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("drop_response", place),
        ("drop_request", place),
        ("http_error_after", {**place, "status": rng.choice([500, 502, 504])}),
        ("http_error", {**place, "status": rng.choice([500, 503])}),
        ("rate_limit", {**place, "count": 1, "retry_after_s": rng.choice([1.0, 3.0])}),
        ("gateway_page", {**place, "status": rng.choice([403, 403, 503])}),
        ("delay_request", {**place, **delay}),
        ("delay_response", {**place, **delay}),
        ("reject", {**place, "reason": "insufficient_balance"}),
        ("late_fill", {**place, "count": 1, "delay_ms": rng.choice([50, 700, 4000])}),
    ]
    kind, fields = rng.choice(kinds)
    return [_rule(rng, kind, **fields)]


def _lost_and_hidden(rng: random.Random) -> list[Step]:
    """An answer is lost and the venue's lists lag: the hardest question about an order."""
    step = _rule(rng, "drop_response", target="place", count=rng.randint(1, 2))
    venue = step["rule"]["venue"]
    hidden = rng.sample(["finished_orders", "trades", "order", "open_orders"], rng.randint(2, 4))
    private = {"kind": "drop_event", "venue": venue, "target": "private", "count": rng.randint(4, 12)}
    steps = [{"do": "fault", "rule": private}, step]
    for target in hidden:
        rule = {"kind": "stale", "venue": venue, "target": target, "delay_ms": rng.choice([2000, 5000])}
        steps.append({"do": "fault", "rule": {**rule, "duration_ms": rng.choice([3000, 9000])}})
    return steps


def _private(rng: random.Random) -> list[Step]:
    kind = rng.choice(["drop_event", "duplicate_event", "reorder_event"])
    if rng.random() < 0.3:
        kind, lasts = rng.choice(["stall", "delay_stream"]), rng.choice([300, 1500, 3000])
        delay = {"delay_ms": rng.choice([300, 1500])} if kind == "delay_stream" else {}
        return [_rule(rng, kind, target="private", duration_ms=lasts, **delay)]
    return [_rule(rng, kind, target="private", count=rng.randint(1, 12))]


def _questions(rng: random.Random) -> list[Step]:
    fields = {"target": rng.choice(OPERATIONS), "duration_ms": rng.choice([1000, 4000])}
    kind = rng.choice(["http_error", "stale", "rate_limit", "gateway_page", "drop_response", "delay_response"])
    if kind == "stale":  # of money no longer than the grace: nobody could prove that an order never executed
        most = [500, 1000] if fields["target"] in ("balances", "positions") else [500, 2000, 5000]
        return [_rule(rng, kind, **fields, delay_ms=rng.choice(most))]
    count = {"count": 1 if kind in ("rate_limit", "gateway_page") else 8}
    times: dict[str, dict[str, Any]] = {"rate_limit": {"retry_after_s": 2.0}, "delay_response": {"delay_ms": 1200}}
    more = times.get(kind, {})
    return [_rule(rng, kind, **fields, **count, **more)]


def _venue_acts(rng: random.Random) -> list[Step]:
    coin = rng.choice(COINS)
    futures = {"venue": "gateio_futures", "symbol": symbol_of("gateio_futures", coin)}
    spot = rng.choice(VENUES[:2])
    halted = {"venue": (venue := rng.choice(VENUES)), "symbol": symbol_of(venue, coin)}
    kind = rng.choice(["halt_symbol", "liquidate", "adl", "funding", "withdraw", "deposit", "clock_skew", "disconnect"])
    if kind == "halt_symbol":
        again = {"do": "fault", "rule": {"kind": "resume_symbol", **halted}, "later_ms": rng.choice([300, 2500])}
        return [{"do": "fault", "rule": {"kind": kind, **halted}}, again]
    if kind in ("withdraw", "deposit"):
        money = rng.choice([("USDT", "1500"), (coin, "0.05")])
        rule: dict[str, Any] = {"kind": kind, "venue": spot, "asset": money[0], "amount": money[1]}
    elif kind == "clock_skew":
        rule = {"kind": kind, "venue": rng.choice(VENUES), "delay_ms": rng.choice([-700, 300, 1200])}
    elif kind == "disconnect":
        rule = {"kind": kind, "venue": rng.choice(VENUES), "target": "all"}
    else:
        rule = {"kind": kind, **futures}
    return [{"do": "fault", "rule": rule}]


def _crash(rng: random.Random) -> list[Step]:
    """A death at any action; in one of three cases the next life dies as well, in its recovery."""
    more = [{"do": "crash", "after": rng.randint(0, 25), "later_ms": 1}] if rng.random() < 0.33 else []
    return [{"do": "crash", "after": rng.randint(0, 25)}, *more]


def _guard(rng: random.Random) -> list[Step]:
    word = rng.choice(["halt", "halt", "lease", "drain", "takeover"])
    step: Step = {"do": word, "for_ms": rng.choice([300, 1500, 4000])}
    if word == "drain":
        step["venue"] = rng.choice(VENUES)
    return [step]


def _books(rng: random.Random) -> list[Step]:
    venue = rng.choice(VENUES)
    if rng.random() < 0.6:
        return [{"do": "stall", "venue": venue, "for_ms": rng.choice([200, 1000, 3000])}]
    return [{"do": "gap", "venue": venue, "symbol": symbol_of(venue, rng.choice(COINS)), "for_ms": 700}]


def _host(rng: random.Random) -> list[Step]:
    if rng.random() < 0.25:
        return [{"do": "full", "for_ms": 1000}]
    return [{"do": "pause", "for_ms": rng.choice([60, 300, 1000, 6000])}]


_KINDS = {
    "orders": (34, _orders),
    "hidden": (8, _lost_and_hidden),
    "private": (12, _private),
    "questions": (8, _questions),
    "venue": (14, _venue_acts),
    "crash": (14, _crash),
    "guard": (10, _guard),
    "books": (7, _books),
    "host": (7, _host),
}
