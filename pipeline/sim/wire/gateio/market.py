"""One market (spot or futures) of the simulated Gate.io, as its sockets and its REST paths need it."""

from __future__ import annotations

from typing import Any

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.events import MarketEvent, MarketTrade
from pipeline.sim.exchange.faults import RequestFaults
from pipeline.sim.exchange.orders import RejectReason, SimReject
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.dialect import Host
from pipeline.sim.wire.gateio import private_pushes as private
from pipeline.sim.wire.gateio.api import Handler, MarketApi, Route
from pipeline.sim.wire.gateio.auth import GateLimits, check_gate_exptime, gate_exptime_ms
from pipeline.sim.wire.gateio.formats import ApiRequest, refusal
from pipeline.sim.wire.gateio.streams import GateStream
from pipeline.sim.wire.rate_limits import BudgetState, WindowLimiter


class GateMarket:
    """One market (spot or futures) of the exchange, as its sockets and REST paths need it."""

    def __init__(self, venue: SimVenue, api: MarketApi, host: Host, limits: GateLimits):
        self.venue = venue
        self.api = api
        self.host = host
        self.is_futures = api.is_futures
        self.prefix = "futures" if self.is_futures else "spot"
        self.limit_code = 311 if self.is_futures else 211
        self.private_channels = private.FUTURES_CHANNELS if self.is_futures else private.SPOT_CHANNELS
        self.place_budget = limits.futures_place if self.is_futures else limits.spot_place
        self.cancel_budget = limits.futures_cancel if self.is_futures else limits.spot_cancel
        self._ws_budget = limits.futures_ws_trading if self.is_futures else limits.spot_ws_trading
        self._limiter = WindowLimiter()
        self.routes: dict[tuple[str, str], Route] = api.routes()
        self.stream = GateStream(venue, api.ticker)
        self.api_handlers: dict[str, Handler] = {
            "order_place": api.place,
            "order_batch_place": api.place_batch,
            "order_amend": api.amend,
            "order_cancel": api.cancel,
            "order_cancel_ids": api.cancel_ids,
            "order_cancel_cp": api.cancel_pair,
            "order_status": api.order,
            "order_list": api.orders,
        }

    def on_market(self, event: MarketEvent) -> None:
        if isinstance(event, MarketTrade):
            self.api.trades.add(event)
        self.stream.on_market(event)

    def call(
        self,
        headers: dict[str, str],
        params: dict[str, Any],
        items: list[Any],
        *,
        account: SimAccount | None,
        decimal_sizes: bool,
        args: tuple[str, ...] = (),
    ) -> ApiRequest:
        """``headers``: lower-case names. Raises ``AuthRefused`` when ``x-gate-exptime`` is past."""
        now_ms = self.venue.now_ms()
        check_gate_exptime(headers, now_ms)
        return ApiRequest(
            params=params,
            args=args,
            items=items,
            account=account,
            api_key=headers.get("key", ""),
            now_ms=now_ms,
            expiry_ms=gate_exptime_ms(headers),
            decimal_sizes=decimal_sizes,
        )

    async def admit_ws(self, operation: str, call: ApiRequest) -> RequestFaults:
        """The arrival of a WebSocket API call: ledger row, faults, latency."""
        symbol = call.text(self.api.symbol_param) or "*"
        return await self.host.admit(
            self.venue.name, operation, symbol=symbol, client_id=call.text("text"), via="ws_api"
        )

    def ws_budget(self, account: SimAccount, now_ms: int) -> BudgetState:
        return self._limiter.take(self._ws_budget, "ws", account.uid, now_ms)

    def check_trade_permission(self, account: SimAccount, api_key: str) -> None:
        if not account.keys[api_key].can_trade:
            raise refusal(SimReject(RejectReason.NOT_PERMITTED, ""), None, futures=self.is_futures)
