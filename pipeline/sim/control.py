"""The simulator's control endpoint: the ledger, what was offered and captured, faults. Loopback only, JSON.

| method, path | does |
|---|---|
| GET / | this table |
| GET /health | ready, time, how far the market is |
| GET /ledger?since=N&kind=a,b&limit=N | ledger rows with seq > N (``ledger`` names the kinds); Decimal strings |
| GET /fills | the ledger's fills |
| GET /summary | counts, balance changes, balances, positions, open orders, dislocations |
| GET /dislocations?all=1 | offered and captured; with ``all`` every one of them |
| GET /versions?venue=V&symbol=S&depth=20&first=ID&last=ID | published book versions: update id, wall ms, mono ns, best
  in ticks and units; with ``depth`` (20 at most) also interval ms, bids, asks; ``first``, ``last`` choose update ids |
| GET /faults?kind=K | ``kinds`` (or that one): all that can be broken and all that the world can do (moved prices,
  liquidations, money in and out, orders of others, ...), each with its fields, their units and defaults, and an
  example; ``armed`` rules, also those that wait for their ``at_s`` |
| POST /faults | one rule or a list: ``{"kind": ..., ...}``; ``ids``: to disarm them, and what waits for its ``at_s``;
  of what is done at once: how much was touched; ``touched_nothing``: what was asked of something that is not there, in
  words |
| DELETE /faults[/ID] | disarms a rule, or all; what waits for its ``at_s`` does not happen |
| POST /begin | the times of the scenario's faults and paths count from now, where the server waits for this |
| POST /plant {pair, edge_bps, usd, life_ms} | one dislocation now |
| GET /replay, POST /replay/confirm {venue, frames} | recorded sources: frames sent, frames digested |
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from aiohttp import web

from pipeline.sim.exchange.fault_actions import rule_of
from pipeline.sim.exchange.fault_kinds import A_SYMBOL, A_VENUE, FAULT_KINDS
from pipeline.sim.exchange.faults import BadFault, FaultPlan, FaultRule
from pipeline.sim.exchange.venue_ledger import VenueLedger, plain
from pipeline.sim.market.synthetic import SyntheticMarket
from pipeline.sim.recorded.capture_source import CaptureSource

_ENCODER = msgspec.json.Encoder()


def reply(value: Any, status: int = 200) -> web.Response:
    """A JSON reply; Decimals become plain text."""
    return web.Response(body=_ENCODER.encode(plain(value)), status=status, content_type="application/json")


class _Plant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``POST /plant`` takes."""

    pair: str
    edge_bps: float = 20.0
    usd: float = 2000.0
    life_ms: float = 500.0


_PLANT = {"pair": "ETH/USDT", "edge_bps": 20, "usd": 2000, "life_ms": 500}


class Controlled(Protocol):
    """What the control endpoint reads and does; ``SimExchangeServer`` is the only implementation."""

    ledger: VenueLedger
    faults: FaultPlan
    market: SyntheticMarket | None
    source: CaptureSource | None

    def health(self) -> dict[str, Any]: ...

    def summary(self) -> dict[str, Any]: ...

    def arm(self, rule: FaultRule) -> int: ...

    def begin(self) -> int: ...

    def listed(self) -> dict[str, list[str]]: ...


class Control:
    """Handlers of the control application."""

    def __init__(self, server: Controlled) -> None:
        self._server = server

    def application(self) -> web.Application:
        app = web.Application(client_max_size=1 << 20)
        app.router.add_get("/", self._paths)
        app.router.add_get("/health", self._health)
        app.router.add_get("/ledger", self._ledger)
        app.router.add_get("/fills", self._fills)
        app.router.add_get("/summary", self._summary)
        app.router.add_get("/dislocations", self._dislocations)
        app.router.add_get("/versions", self._versions)
        app.router.add_get("/faults", self._faults)
        app.router.add_post("/faults", self._arm)
        app.router.add_delete("/faults", self._disarm)
        app.router.add_delete("/faults/{rule}", self._disarm)
        app.router.add_post("/begin", self._begin)
        app.router.add_post("/plant", self._plant)
        app.router.add_get("/replay", self._replay)
        app.router.add_post("/replay/confirm", self._confirm)
        app.router.add_route("*", "/{path:.*}", self._nothing)
        return app

    async def _paths(self, request: web.Request) -> web.Response:
        return web.Response(text=f"{__doc__}\n")

    async def _nothing(self, request: web.Request) -> web.Response:
        known = sorted({f"{r.method} {r.resource.canonical}" for r in request.app.router.routes() if r.resource})
        wanted = ", ".join(name for name in known if name.startswith(("GET", "POST", "DELETE")))
        return reply({"error": f"found {request.method} {request.path}, wanted one of {wanted}"}, 404)

    async def _health(self, request: web.Request) -> web.Response:
        return reply(self._server.health())

    async def _ledger(self, request: web.Request) -> web.Response:
        query = request.query
        if refused := _unknown(request, "since", "kind", "limit"):
            return refused
        try:
            since, limit = int(query.get("since", "0")), int(query.get("limit", "0"))
        except ValueError:
            return reply({"error": "since and limit want whole numbers"}, 400)
        kinds = frozenset(query["kind"].split(",")) if query.get("kind") else None
        ledger = self._server.ledger
        rows = ledger.page(since=max(0, since), kinds=kinds, limit=max(0, limit))
        return reply({"last_seq": len(ledger.rows), "rows": rows})

    async def _fills(self, request: web.Request) -> web.Response:
        return reply(self._server.ledger.page(kinds=frozenset({"fill"})))

    async def _summary(self, request: web.Request) -> web.Response:
        return reply(self._server.summary())

    async def _dislocations(self, request: web.Request) -> web.Response:
        market = self._server.market
        if market is None:
            return reply({"offered": 0, "captured": 0, "ends": {}})
        if refused := _unknown(request, "all"):
            return refused
        answer: dict[str, Any] = market.dislocations.summary()
        if request.query.get("all"):
            answer["all"] = [row.describe() for row in market.dislocations.records]
        return reply(answer)

    async def _versions(self, request: web.Request) -> web.Response:
        query, versions = request.query, self._server.ledger.versions
        if refused := _unknown(request, "venue", "symbol", "depth", "first", "last"):
            return refused
        try:
            depth, first_id = int(query.get("depth", "0")), int(query.get("first", "0"))
            last_id = int(query["last"]) if "last" in query else None
        except ValueError:
            return reply({"error": "depth, first and last want whole numbers"}, 400)
        rows = versions.rows(
            venue=query.get("venue"),
            symbol=query.get("symbol"),
            depth=max(0, depth),
            first_id=first_id,
            last_id=last_id,
        )
        return reply({"recorded": versions.recorded, "kept": len(versions), "rows": list(rows)})

    async def _faults(self, request: web.Request) -> web.Response:
        listed, wanted = self._server.listed(), request.query.get("kind")
        if refused := _unknown(request, "kind"):
            return refused
        if wanted is not None and wanted not in FAULT_KINDS:
            return reply({"error": f"kind: found {wanted}, wanted one of {', '.join(sorted(FAULT_KINDS))}"}, 400)
        kinds = {
            name: {**kind.describe(), "example": _example(name, listed)}
            for name, kind in FAULT_KINDS.items()
            if wanted in (None, name)
        }
        return reply({**self._server.faults.describe(), "kinds": kinds})

    async def _arm(self, request: web.Request) -> web.Response:
        try:
            raw = msgspec.json.decode(await request.read())
        except msgspec.DecodeError as error:
            return reply(
                {"error": f"found no JSON ({error}), wanted one rule or a list", **_help("", self._server.listed())},
                400,
            )
        ids: list[int] = []
        try:
            rules = [rule_of(row) for row in (raw if isinstance(raw, list) else [raw])]
            for rule in rules:
                check_names(rule, self._server.listed())
            for rule in rules:
                ids.append(self._server.arm(rule))
        except BadFault as error:
            done = {"done_before": ids} if ids else {}
            return reply({"error": str(error), **_help(error.kind, self._server.listed()), **done}, 400)
        idle = [_named(rule) for rule, touched in zip(rules, ids, strict=True) if not touched and rule.at_s <= 0]
        return reply({"ids": ids, **({"touched_nothing": idle} if idle else {})})

    async def _disarm(self, request: web.Request) -> web.Response:
        text = request.match_info.get("rule")
        if text is None:
            self._server.faults.clear()
            return reply({"cleared": True})
        found = text.isdigit() and self._server.faults.remove(int(text))
        return reply({"removed": bool(found)}, 200 if found else 404)

    async def _begin(self, request: web.Request) -> web.Response:
        return reply({"begun": self._server.begin()})

    async def _plant(self, request: web.Request) -> web.Response:
        market = self._server.market
        if market is None:
            return reply({"error": "found recorded books alone, wanted a simulated market"}, 400)
        try:
            wanted = msgspec.json.decode(await request.read(), type=_Plant)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            return reply({"error": f"{error}; wanted pair, edge_bps, usd, life_ms", "example": _PLANT}, 400)
        if wanted.pair not in market.makers:
            pairs = ", ".join(market.makers)
            return reply({"error": f"pair: found {wanted.pair}, wanted one of {pairs}", "example": _PLANT}, 400)
        planted = market.plant(wanted.pair, wanted.edge_bps, wanted.usd, wanted.life_ms)
        return reply({"planted": planted} | ({} if planted else {"why": "each listing of the pair has one: try again"}))

    async def _replay(self, request: web.Request) -> web.Response:
        source = self._server.source
        return reply(source.describe() if source is not None else {"done": True, "venues": {}})

    async def _confirm(self, request: web.Request) -> web.Response:
        source = self._server.source
        try:
            raw = msgspec.json.decode(await request.read(), type=dict[str, Any])
            if source is not None:
                source.confirm(str(raw["venue"]), int(raw["frames"]))
        except (msgspec.DecodeError, msgspec.ValidationError, KeyError, ValueError) as error:
            return reply({"error": f"wants venue and frames: {error}"}, 400)
        return reply(source.describe() if source is not None else {"done": True, "venues": {}})


def _unknown(request: web.Request, *known: str) -> web.Response | None:
    """The refusal of a question whose query has a name that is not read there, or None."""
    unknown = sorted(set(request.query) - set(known))
    if not unknown:
        return None
    return reply({"error": f"{request.path}: found {', '.join(unknown)}, wanted some of {', '.join(known)}"}, 400)


def _named(rule: FaultRule) -> str:
    """An action that found nothing to act on, and what it was asked for."""
    fields = {"venue": rule.venue, "symbol": rule.symbol, "asset": rule.asset or "*", "target": rule.target}
    named = ", ".join(f"{name} {value}" for name, value in fields.items() if value != "*")
    more = " (no such coin, or less than that is free)" if rule.kind == "withdraw" else ""
    return f"{rule.kind} found nothing to act on: {named or 'anywhere'}{more}"


def _help(kind: str, listed: dict[str, list[str]]) -> dict[str, Any]:
    """What an answer to a wrong rule says beside the error: an example to copy, and where the rest stands."""
    known = FAULT_KINDS.get(kind)
    fields = {} if known is None else {"fields": {name: row.describe() for name, row in known.fields.items()}}
    return {"example": _example(kind if known is not None else "stall", listed), **fields, "all_kinds": "GET /faults"}


def _example(kind: str, listed: dict[str, list[str]]) -> dict[str, Any]:
    """A rule of a kind to copy, with a venue and a symbol that are there."""
    venue = next((name for name in listed if name.endswith("_futures")), next(iter(listed), A_VENUE))
    symbol = next(iter(listed.get(venue, ())), A_SYMBOL)
    names = {A_VENUE: venue, A_SYMBOL: symbol}
    return {"kind": kind} | {name: names.get(value, value) for name, value in FAULT_KINDS[kind].example.items()}


def check_names(rule: FaultRule, listed: dict[str, list[str]]) -> None:
    """Raises ``BadFault`` for a venue or a symbol that is not there: the rule would never hit."""
    if rule.venue not in ("*", *listed):
        raise BadFault(f"{rule.kind}: venue: found {rule.venue}, wanted * or one of {', '.join(listed)}", rule.kind)
    symbols = list(dict.fromkeys(s for venue, rows in listed.items() if rule.venue in ("*", venue) for s in rows))
    is_pair = rule.kind == "move_price" and "/" in rule.symbol
    if rule.symbol not in ("*", *symbols) and not is_pair:
        wanted = f"wanted one of {', '.join(symbols)}"
        raise BadFault(f"{rule.kind}: symbol: found {rule.symbol}, {wanted}", rule.kind)
