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
| GET /faults, POST /faults, DELETE /faults[/ID] | armed rules; one rule or a list (``exchange/faults`` names
  them; a POST with {} lists the kinds); ``ids``: to disarm them; of what is done at once: how much was touched;
  ``touched_nothing``: what was asked of something that is not there, in words |
| POST /begin | the times of the scenario's faults and paths count from now, where the server waits for this |
| POST /plant {pair, edge_bps, usd, life_ms} | one dislocation now |
| GET /replay, POST /replay/confirm {venue, frames} | recorded sources: frames sent, frames digested |
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from aiohttp import web

from pipeline.sim.exchange.faults import BadFault, FaultPlan, FaultRule
from pipeline.sim.exchange.venue_ledger import VenueLedger, plain
from pipeline.sim.market.synthetic import SyntheticMarket
from pipeline.sim.recorded.capture_source import CaptureSource

_ENCODER = msgspec.json.Encoder()


def reply(value: Any, status: int = 200) -> web.Response:
    """A JSON reply; Decimals become plain text."""
    return web.Response(body=_ENCODER.encode(plain(value)), status=status, content_type="application/json")


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
        return app

    async def _paths(self, request: web.Request) -> web.Response:
        return web.Response(text=f"{__doc__}\n")

    async def _health(self, request: web.Request) -> web.Response:
        return reply(self._server.health())

    async def _ledger(self, request: web.Request) -> web.Response:
        query = request.query
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
        answer: dict[str, Any] = market.dislocations.summary()
        if request.query.get("all"):
            answer["all"] = [row.describe() for row in market.dislocations.records]
        return reply(answer)

    async def _versions(self, request: web.Request) -> web.Response:
        query, versions = request.query, self._server.ledger.versions
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
        return reply(self._server.faults.describe())

    async def _arm(self, request: web.Request) -> web.Response:
        try:
            raw = msgspec.json.decode(await request.read())
        except msgspec.DecodeError as error:
            return reply({"error": f"not JSON: {error}"}, 400)
        try:
            rules = [FaultRule.parse(row) for row in (raw if isinstance(raw, list) else [raw])]
            ids = [self._server.arm(rule) for rule in rules]
        except (BadFault, AttributeError) as error:
            return reply({"error": str(error)}, 400)
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
        try:
            raw = msgspec.json.decode(await request.read(), type=dict[str, Any])
            planted = market is not None and market.plant(
                str(raw["pair"]),
                float(raw.get("edge_bps", 20)),
                float(raw.get("usd", 2000)),
                float(raw.get("life_ms", 500)),
            )
        except (msgspec.DecodeError, msgspec.ValidationError, KeyError, ValueError) as error:
            return reply({"error": f"wants pair, edge_bps, usd, life_ms: {error}"}, 400)
        return reply({"planted": planted})

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


def _named(rule: FaultRule) -> str:
    """An action that found nothing to act on, and what it was asked for."""
    fields = {"venue": rule.venue, "symbol": rule.symbol, "asset": rule.asset or "*", "target": rule.target}
    named = ", ".join(f"{name} {value}" for name, value in fields.items() if value != "*")
    return f"{rule.kind} found nothing to act on: {named or 'anywhere'}"
