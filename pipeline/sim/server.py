"""Hosts the simulated exchanges: one loopback HTTP/WebSocket server per exchange, and one for control.

``SimExchangeServer(scenario, seed, captures)`` builds the venues; ``start()`` opens the sockets on free ports, starts
the market and returns what ``arb sim`` prints; ``engine_config()`` is the configuration that an engine needs to
trade there. With ``captures`` it serves recorded market data instead (see ``capture_source``); with both a scenario
and captures, both.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiohttp import web

from pipeline.model.dialects import facts_of
from pipeline.model.errors import ArbitrageEngineError
from pipeline.sim.control import Control
from pipeline.sim.exchange.fault_actions import apply_action, price_factor, rule_of
from pipeline.sim.exchange.faults import (
    ACTION_KINDS,
    NO_FAULTS,
    ORDER_OPERATIONS,
    BadFault,
    FaultPlan,
    FaultRule,
    RequestFaults,
)
from pipeline.sim.exchange.futures.timers import arm_timers, follow_funding_paths
from pipeline.sim.exchange.history import STALE_NS
from pipeline.sim.exchange.latency import NS_PER_MS, SimClock
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.exchange.venue_ledger import VenueLedger
from pipeline.sim.factory import build_venues
from pipeline.sim.market.synthetic import SyntheticMarket
from pipeline.sim.recorded.capture_source import CaptureSource, Speed
from pipeline.sim.scenarios.specs import Scenario, load_scenario
from pipeline.sim.wire.dialect import Dialect, gateway_page
from pipeline.sim.wire.discovery import load_dialect

HOST = "127.0.0.1"
BODY_MAX_BYTES = 1 << 20
CLIENT_ID = re.compile(r'(?:newClientOrderId=|origClientOrderId=|"text"\s*:\s*")([A-Za-z0-9_.:/-]+)')
SYMBOL = re.compile(r'(?:[?&\n]symbol=|"(?:currency_pair|contract)"\s*:\s*")([A-Z0-9_]+)')  # of an order's body
TIMEOUT = re.compile(r'(?:"timeout":\s*|countdownTime=)"?(\d+)')  # of a dead-man timer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SimExchangeServer:
    """All simulated exchanges of a scenario and their control endpoint, on the running event loop."""

    def __init__(
        self,
        scenario: Scenario | str | Path | dict[str, Any] | None = None,
        seed: int | None = None,
        captures: Sequence[Path | str] = (),
        *,
        speed: Speed = 1.0,
        ports: Mapping[str, int] | None = None,
        waits: bool = False,
    ) -> None:
        """``scenario``: loaded one, packaged name, file or mapping; None = ``demo``, or nothing but the captures.
        ``ports``: exchange -> port; the others get free ones. ``waits``: the times of the scenario's faults and paths
        count from :meth:`begin`, else from the start."""
        if scenario is None and captures:
            self.scenario = Scenario(name="captures")
        else:
            self.scenario = scenario if isinstance(scenario, Scenario) else load_scenario(scenario)
        self.seed = self.scenario.seed if seed is None else seed
        self._captures = [Path(path) for path in captures]
        self._speed: Speed = speed
        self._ports = dict(ports or {})
        self._timed = [rule for raw in self.scenario.faults if (rule := rule_of(raw)).at_s > 0]
        self._waits = waits
        self._begun = False
        self.venues: dict[str, SimVenue] = {}
        self.market: SyntheticMarket | None = None
        self.source: CaptureSource | None = None
        self.dialects: dict[str, Dialect] = {}
        self._runners: list[web.AppRunner] = []
        self._info: dict[str, Any] = {}

    # --- life ---

    async def start(self) -> dict[str, Any]:
        """Opens everything and starts the market; returns the JSON of ``arb sim``."""
        self.clock = SimClock(asyncio.get_running_loop())
        self.ledger = VenueLedger(self.clock.mono_ns)
        self.faults = FaultPlan(self.clock, random.Random(f"{self.seed}:faults"))
        self.venues = build_venues(self.scenario, self.clock, self.ledger, self.faults, self.seed)
        if self.venues:
            self.market = SyntheticMarket(self.scenario, self.venues, self.clock, self.seed)
        info: dict[str, dict[str, Any]] = {}
        for exchange, spec in self.scenario.exchanges.items():
            own = {name: venue for name, venue in self.venues.items() if venue.exchange == exchange}
            dialect = load_dialect(spec.dialect)(own, self)
            urls = await self._serve(exchange, dialect)
            for name, venue in own.items():
                venue.order_id_text, venue.trade_id_text = dialect.order_id_text, dialect.trade_id_text
                venue.client_id_prefix = dialect.client_id_prefix
                info[name] = {
                    **urls.get(name, {}),
                    "source": "synthetic",
                    **_account_info(venue),
                    "symbols": list(venue.instruments),
                }
        if self._captures:
            self.source = CaptureSource(self._captures, self.clock, self._speed, taken=set(self.scenario.exchanges))
            for exchange, dialect in self.source.dialects(self).items():
                urls = await self._serve(exchange, dialect)
                for name, symbols in self.source.symbols(exchange).items():
                    keys = {"api_key": "", "api_secret": "", "uid": ""}
                    info[name] = {**urls[name], "source": "recorded", **keys, "symbols": symbols}
        control_port = await self._listen(Control(self).application())
        if self.market is not None:
            self.market.paths.began_ns = None
            self.market.start()
        for venue in self.venues.values():
            venue.open_charts()
        for dialect in self.dialects.values():
            dialect.on_start()
        for raw in self.scenario.faults:
            if (rule := rule_of(raw)).at_s <= 0:
                self.arm(rule)
        if not self._waits:
            self.begin()
        for venue in self.venues.values():
            arm_timers(venue)
        self._info = {
            "ready": True,
            "scenario": self.scenario.name,
            "seed": self.seed,
            "venues": info,
            "control": f"http://{HOST}:{control_port}",
        }
        return self._info

    async def stop(self) -> None:
        """Closes sockets, servers and the market. The ledger stays readable."""
        if self.market is not None:
            self.market.stop()
        if self.source is not None:
            await self.source.stop()
        for dialect in self.dialects.values():
            for sock in list(dialect.sockets):
                sock.kill()
            await dialect.close()
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        self.clock.close()

    async def _serve(self, exchange: str, dialect: Dialect) -> dict[str, dict[str, str]]:
        app = web.Application(client_max_size=BODY_MAX_BYTES, middlewares=[self._middleware(dialect)])
        dialect.routes(app)
        port = await self._listen(app, self._ports.get(exchange, 0))
        self.dialects[exchange] = dialect
        return dialect.urls(HOST, port)

    async def _listen(self, app: web.Application, port: int = 0) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, HOST, port)
        try:
            await site.start()
        except OSError as error:
            raise ArbitrageEngineError(
                f"{HOST}:{port} cannot be listened on ({os.strerror(error.errno or 0)}): another simulator, or another "
                "port in the configuration's URLs?"
            ) from None
        return int(runner.addresses[0][1])

    # --- faults ---

    def begin(self) -> int:
        """The scenario's paths, and its faults that wait for a time, count from now; how many such faults there are.
        Once: a second call changes nothing."""
        if self._begun:
            return 0
        self._begun, timed = True, self._timed
        if self.market is not None:
            self.market.begin_paths()
        for venue in self.venues.values():
            follow_funding_paths(venue)
        for rule in timed:
            self.arm(rule)
        return len(timed)

    def arm(self, rule: FaultRule) -> int:
        """Arms a rule, or carries out an action, at once or at its time; the ledger notes either. The rule's id; of an
        action that is done now how much it touched."""
        if rule.at_s > 0:
            return self.faults.put_off(rule, self._arm_due)
        self.ledger.append("fault", rule.venue, fault=rule.kind, target=rule.target, symbol=rule.symbol)
        if rule.kind == "disconnect":
            return self._disconnect(rule)
        if rule.kind == "burst":
            return self.market.burst(rule.venue, int(Decimal(rule.amount))) if self.market is not None else 0
        if rule.kind == "move_price":
            return self._move_price(rule)
        if rule.kind in ACTION_KINDS:
            return apply_action(self.venues, rule)
        return self.faults.add(rule)

    def _arm_due(self, rule: FaultRule) -> None:
        """A rule that cannot be carried out now leaves its reason in the ledger."""
        rule.at_s = 0.0
        try:
            self.arm(rule)
        except BadFault as error:
            self.ledger.append("fault", rule.venue, fault=rule.kind, symbol=rule.symbol, error=str(error))

    def _move_price(self, rule: FaultRule) -> int:
        factor = price_factor(rule)
        if self.market is None:
            raise BadFault("move_price: found recorded books alone, wanted a simulated market", rule.kind)
        return self.market.move_price(rule.venue, rule.symbol, factor, int(rule.duration_ms * NS_PER_MS))

    def _disconnect(self, rule: FaultRule) -> int:
        count = 0
        for dialect in self.dialects.values():
            for sock in list(dialect.sockets):
                if rule.venue in ("*", sock.venue) and rule.target in ("*", "all", sock.scope):
                    sock.kill()
                    count += 1
        return count

    # --- requests ---

    async def admit(
        self,
        venue: str,
        operation: str,
        *,
        symbol: str = "*",
        client_id: str = "",
        via: str = "ws_api",
        detail: dict[str, Any] | None = None,
    ) -> RequestFaults:
        """A request has arrived: see ``wire.dialect.Host``."""
        faults = self.faults.request(venue, operation, symbol, by_rest=via == "rest")
        STALE_NS.set(faults.stale_ns)
        fault = "" if faults is NO_FAULTS else ",".join(_named(faults))
        self.ledger.request(
            venue=venue,
            via=via,
            operation=operation,
            symbol="" if symbol == "*" else symbol,
            client_id=client_id,
            fault=fault,
            detail={**(detail or {}), **faults.marks()},
        )
        if faults.delay_ns:
            await self.clock.sleep_until(self.clock.mono_ns() + faults.delay_ns)
        known = self.venues.get(venue)
        if known is not None and operation not in ORDER_OPERATIONS:
            await known.rest_link.transit()
        return faults

    async def release(self, venue: str, operation: str, faults: RequestFaults) -> None:
        """The reply leaves: see ``wire.dialect.Host``."""
        known = self.venues.get(venue)
        if known is not None and operation not in ORDER_OPERATIONS:
            await known.rest_link.transit()
        if faults.delay_after_ns:
            await self.clock.sleep_until(self.clock.mono_ns() + faults.delay_after_ns)

    def _middleware(self, dialect: Dialect) -> Any:
        @web.middleware
        async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await handler(request)
            named = dialect.classify(request.method, request.path, dict(request.query))
            if named is None:
                return await handler(request)
            venue, operation, symbol = named
            orders = operation in ("place", "amend", "cancel", "order")
            client_id = await _found(request, CLIENT_ID) if orders else ""
            if orders and symbol == "*":
                symbol = await _found(request, SYMBOL) or "*"
            detail = {"path": request.path}
            if operation == "countdown":
                detail["timeout"] = await _found(request, TIMEOUT)  # "0" = no timer any more
            faults = await self.admit(venue, operation, symbol=symbol, client_id=client_id, via="rest", detail=detail)
            if faults.drop_request:
                return _hang_up(request)
            if faults.page_status:
                return gateway_page(faults.page_status)
            if faults.status:
                return dialect.error_response(venue, faults.status, faults.retry_after_s)
            response = await handler(request)
            await self.release(venue, operation, faults)
            if faults.drop_response:
                return _hang_up(request)
            if faults.status_after:
                return dialect.error_response(venue, faults.status_after, 0.0)
            return response

        return handle

    # --- what others read ---

    def engine_config(self, instance: str = "demo", mode: str = "sim") -> dict[str, Any]:
        """Configuration of an engine on these venues: exchanges with URLs and symbols, the scenario's settings."""
        exchanges: dict[str, Any] = {}
        for name, row in self._info["venues"].items():
            exchange, _, market = name.rpartition("_")
            entry = exchanges.setdefault(exchange, {"dialect": self._dialect_name(exchange), "markets": {}})
            urls = {key: row[key] for key in ("rest", "ws", "ws_private", "ws_api") if row.get(key)}
            entry["markets"][market] = {**urls, "symbols": list(row["symbols"])}
            if not facts_of(entry["dialect"]).trade:
                entry["trade"] = False
        outside = {"dialects": list(self.scenario.dialects)} if self.scenario.dialects else {}
        return {"engine_name": instance, "mode": mode, **outside, "exchanges": exchanges, **self.scenario.engine}

    def _dialect_name(self, exchange: str) -> str:
        spec = self.scenario.exchanges.get(exchange)
        if spec is not None:
            return spec.dialect
        return self.source.dialect_of(exchange) if self.source is not None else exchange

    def listed(self) -> dict[str, list[str]]:
        """Venue -> its symbols."""
        return {name: list(row["symbols"]) for name, row in self._info["venues"].items()}

    def health(self) -> dict[str, Any]:
        """The reply of ``GET /health``."""
        return {
            "ready": True,
            "scenario": self.scenario.name,
            "seed": self.seed,
            "mono_ns": self.clock.mono_ns(),
            "wall_ms": {name: venue.now_ms() for name, venue in self.venues.items()},
            "clock_lag_max_us": self.clock.lag_max_ns // 1000,
            "market": self.market.describe() if self.market is not None else {},
        }

    def summary(self) -> dict[str, Any]:
        """Compact state: what ``arb demo`` reconciles the engine's books with."""
        ledger = self.ledger
        return {
            "scenario": self.scenario.name,
            "expect_no_orders": self.scenario.expect_no_orders,
            "counts": dict(ledger.counts),
            "requests": ledger.request_counts,
            "orders": len({(row["venue"], row["order_id"]) for row in ledger.of_kind("order")}),
            "fills": ledger.counts.get("fill", 0),
            "changes": ledger.changes(),
            "by_reason": ledger.by_reason(),
            "dislocations": self.market.dislocations.summary() if self.market is not None else {},
            "venues": {name: _venue_summary(venue) for name, venue in self.venues.items()},
            "book_versions": ledger.versions.recorded,
            "clock_lag_max_us": self.clock.lag_max_ns // 1000,
        }


def _account_info(venue: SimVenue) -> dict[str, Any]:
    account = next(iter(venue.accounts.values()))
    return {
        "api_key": account.api_key,
        "api_secret": account.api_secret,
        "uid": account.uid,
        "keys": [
            {"api_key": key.api_key, "api_secret": key.api_secret, "can_trade": key.can_trade}
            for key in account.keys.values()
        ],
    }


def _venue_summary(venue: SimVenue) -> dict[str, Any]:
    account = next(iter(venue.accounts.values()))
    return {
        "balances": {asset: {"free": held.free, "locked": held.locked} for asset, held in account.wallets.items()},
        "positions": {
            symbol: {"qty": row.qty, "cost": row.cost, "realised_pnl": row.realised_pnl}
            for symbol, row in account.positions.items()
            if row.qty or row.realised_pnl or row.paid_fees
        },
        "open_orders": [
            {"order_id": str(row.order_id), "client_id": row.client_id, "symbol": row.symbol}
            for row in venue.open_orders(account)
        ],
        "marks": {symbol: venue.mark_price(symbol) for symbol in venue.instruments},
        "events": venue.feed.delivered,
    }


_DELAYS = ("delay_ns", "delay_after_ns", "stale_ns")


def _named(faults: RequestFaults) -> list[str]:
    names = []
    for name in ("status", "status_after", "page_status", "drop_request", "drop_response", *_DELAYS):
        if getattr(faults, name):
            names.append(f"{name}={getattr(faults, name)}")
    return names


async def _found(request: web.Request, wanted: re.Pattern[str]) -> str:
    """What a request carries of it, for the ledger row; "" where it carries none."""
    text = request.raw_path
    if request.body_exists:  # not can_read_body: a second question reads what the first one has kept
        text += "\n" + (await request.read()).decode("utf-8", "replace")
    found = wanted.search(text)
    return found.group(1) if found else ""


def _hang_up(request: web.Request) -> web.Response:
    """Cuts the TCP connection; the response object goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def serve_until_stopped(server: SimExchangeServer, on_ready: Callable[[dict[str, Any]], None]) -> None:
    """Starts, reports readiness, and runs until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    on_ready(await server.start())
    try:
        await stopped.wait()
    finally:
        await server.stop()
