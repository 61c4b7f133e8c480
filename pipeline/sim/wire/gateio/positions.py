"""Gate.io futures positions: rows, leverage, margin by hand, cross and isolated, one-way and dual (hedge) mode.

Source: Gate.io APIv4 "Futures": positions, dual_mode, dual_comp, position_close, liquidates.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.sim.exchange.accounts import ForcedClose, SimPosition
from pipeline.sim.exchange.futures.positions import LONG, SHORT, positions_of
from pipeline.sim.exchange.orders import SimReject
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.gateio import closed_rows
from pipeline.sim.wire.gateio import futures_rows as rows
from pipeline.sim.wire.gateio.api import DAY_S, FuturesContracts, Route, page, span_ms
from pipeline.sim.wire.gateio.formats import ApiRequest, GateError, number, refusal
from pipeline.sim.wire.numbers import exact_text


class PositionsApi(FuturesContracts):
    """Handlers of positions, leverage, margin and position modes."""

    def __init__(self, venue: SimVenue) -> None:
        super().__init__(venue)

    def routes(self) -> dict[tuple[str, str], Route]:
        usdt, dual = "/api/v4/futures/usdt", "/api/v4/futures/usdt/dual_comp/positions"
        return {
            ("GET", f"{usdt}/accounts"): Route(self.account, "balances"),
            ("GET", f"{usdt}/positions"): Route(self._positions, "positions"),
            ("GET", f"{usdt}/positions/{{}}"): Route(self._position, "positions"),
            ("POST", f"{usdt}/positions/{{}}/leverage"): Route(self._leverage, "leverage"),
            ("POST", f"{usdt}/positions/{{}}/set_leverage"): Route(self._set_leverage, "leverage"),
            ("GET", f"{usdt}/get_leverage/{{}}"): Route(self._get_leverage, "leverage"),
            ("POST", f"{usdt}/positions/{{}}/margin"): Route(self._margin, "leverage"),
            ("POST", f"{usdt}/positions/cross_mode"): Route(self._cross_mode, "leverage"),
            ("GET", f"{dual}/{{}}"): Route(self._dual_positions, "positions"),
            ("POST", f"{dual}/{{}}/leverage"): Route(self._dual_leverage, "leverage"),
            ("POST", f"{dual}/{{}}/margin"): Route(self._dual_margin, "leverage"),
            ("POST", f"{dual}/cross_mode"): Route(self._dual_cross_mode, "leverage"),
            ("POST", f"{usdt}/dual_mode"): Route(self._dual_mode, "leverage"),
            ("POST", f"{usdt}/set_position_mode"): Route(self._position_mode, "leverage"),
            ("GET", f"{usdt}/position_close"): Route(self._closes, "positions"),
            ("GET", f"{usdt}/liquidates"): Route(self._liquidates, "positions"),
            ("GET", f"{usdt}/auto_deleverages"): Route(self._deleverages, "positions"),
        }

    # --- rows ---

    async def account(self, call: ApiRequest) -> Any:
        """A user who never moved money in does not exist here."""
        settle = self.venue.settle_asset
        if settle not in call.owner.wallets:
            raise GateError("USER_NOT_FOUND", "please transfer funds first to create futures account")
        return rows.account_row(call.owner, self.venue.shown_margin(call.owner), settle)

    def _row(self, position: SimPosition, call: ApiRequest) -> dict[str, Any]:
        return rows.position_row(
            position,
            self.instrument(position.symbol),
            call.owner,
            decimal_sizes=call.decimal_sizes,
            pending_orders=len(self.venue.open_orders(call.owner, position.symbol)),
            liq_price=self.venue.liquidation_price(call.owner, position),
        )

    async def _positions(self, call: ApiRequest) -> Any:
        held = call.flag("holding")
        shown = [one for one in self.venue.shown_positions(call.owner) if one.qty or not held]
        return page([self._row(one, call) for one in shown], call)

    async def _position(self, call: ApiRequest) -> Any:
        symbol = self.instrument(call.args[0]).symbol
        self._want_mode(call, dual=False)
        return self._row(self.venue.shown_positions(call.owner, symbol)[0], call)

    async def _dual_positions(self, call: ApiRequest) -> Any:
        symbol = self.instrument(call.args[0]).symbol
        return [self._row(one, call) for one in self.venue.shown_positions(call.owner, symbol)]

    def _want_mode(self, call: ApiRequest, *, dual: bool) -> None:
        if call.owner.dual_side and not dual:
            raise GateError("POSITION_DUAL_MODE", "the account is in dual mode")
        if dual and not call.owner.dual_side:
            raise GateError("POSITION_DUAL_MODE", "the account is not in dual mode")

    # --- leverage and margin ---

    def _apply_leverage(self, call: ApiRequest, *, is_cross: bool | None = None, mode: str | None = None) -> str:
        """``leverage`` > 0 is isolated; 0 is cross with ``cross_leverage_limit``. Both come in the query.

        The newer call names the margin mode (``is_cross``) and, in dual mode, a side (``mode``).
        """
        instrument = self.instrument(call.args[0])
        wanted = call.decimal("leverage")
        if wanted == 0:
            is_cross = True
            limit = call.text("cross_leverage_limit")
            wanted = number(limit, "cross_leverage_limit") if limit else Decimal(0)
            wanted = wanted or Decimal(instrument.leverage_max)
        if wanted < 1:
            raise GateError("LEVERAGE_TOO_LOW", f"leverage {exact_text(wanted)} is below 1")
        if wanted > instrument.leverage_max:
            raise GateError("LEVERAGE_TOO_HIGH", f"leverage {exact_text(wanted)} exceeds {instrument.leverage_max}")
        self._set(call, instrument.symbol, wanted, bool(is_cross), mode)
        return instrument.symbol

    def _set(self, call: ApiRequest, symbol: str, leverage: Decimal, is_cross: bool, mode: str | None = None) -> None:
        try:
            self.venue.set_leverage(call.owner, symbol, leverage, is_cross=is_cross, mode=mode)
        except SimReject as reject:
            raise refusal(reject, None, futures=True) from reject

    async def _leverage(self, call: ApiRequest) -> Any:
        self._want_mode(call, dual=False)
        return self._row(self.venue.position(call.owner, self._apply_leverage(call)), call)

    async def _dual_leverage(self, call: ApiRequest) -> Any:
        self._want_mode(call, dual=True)
        symbol = self._apply_leverage(call)
        return [self._row(one, call) for one in positions_of(call.owner, symbol)]

    async def _set_leverage(self, call: ApiRequest) -> Any:
        """The newer call: the margin mode is named, the leverage is its own; a list in dual mode."""
        symbol, mode = self.instrument(call.args[0]).symbol, call.required("margin_mode")
        if mode not in ("isolated", "cross"):
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `margin_mode` value: {mode}")
        side = call.text("dual_side")
        if side and (side not in (LONG, SHORT) or not call.owner.dual_side):
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `dual_side` value: {side}")
        self._apply_leverage(call, is_cross=mode == "cross", mode=side or None)
        shown = [self._row(one, call) for one in positions_of(call.owner, symbol)]
        return shown if call.owner.dual_side else shown[0]

    async def _get_leverage(self, call: ApiRequest) -> Any:
        position = positions_of(call.owner, self.instrument(call.args[0]).symbol)[0]
        return {"lever": exact_text(position.leverage)}

    def _add_margin(self, call: ApiRequest, position: SimPosition) -> None:
        change = call.decimal("change")
        if not position.qty:
            raise GateError("POSITION_EMPTY", "position is empty")
        if position.is_cross:
            raise GateError("POSITION_CROSS_MARGIN", "the position is in cross margin")
        available = self.venue.margin_account(call.owner).available
        try:
            self.venue.settlement.add_margin(call.owner, position, change, available)
        except SimReject as reject:
            raise refusal(reject, None, futures=True) from reject

    async def _margin(self, call: ApiRequest) -> Any:
        """``change``: positive adds, negative takes out."""
        self._want_mode(call, dual=False)
        position = self.venue.position(call.owner, self.instrument(call.args[0]).symbol)
        self._add_margin(call, position)
        return self._row(position, call)

    async def _dual_margin(self, call: ApiRequest) -> Any:
        self._want_mode(call, dual=True)
        symbol, side = self.instrument(call.args[0]).symbol, call.required("dual_side")
        if side not in (LONG, SHORT):
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `dual_side` value: {side}")
        self._add_margin(call, self.venue.position(call.owner, symbol, side))
        return [self._row(one, call) for one in positions_of(call.owner, symbol)]

    def _apply_cross(self, call: ApiRequest) -> str:
        symbol, mode = self.instrument(call.required("contract")).symbol, call.required("mode")
        if mode not in ("ISOLATED", "CROSS"):
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `mode` value: {mode}")
        leverage = positions_of(call.owner, symbol)[0].leverage
        self._set(call, symbol, leverage, mode == "CROSS")
        return symbol

    async def _cross_mode(self, call: ApiRequest) -> Any:
        self._want_mode(call, dual=False)
        return self._row(self.venue.position(call.owner, self._apply_cross(call)), call)

    async def _dual_cross_mode(self, call: ApiRequest) -> Any:
        self._want_mode(call, dual=True)
        return [self._row(one, call) for one in positions_of(call.owner, self._apply_cross(call))]

    # --- modes ---

    def _switch(self, call: ApiRequest, dual: bool) -> None:
        """Needs an account without positions and orders."""
        if dual == call.owner.dual_side:
            raise GateError("NO_CHANGE", "no change")
        if any(one.qty for one in call.owner.positions.values()):
            raise GateError("POSITION_HOLDING", "there are open positions")
        if self.venue.open_orders(call.owner, None):
            raise GateError("ORDER_PENDING", "there are open orders")
        call.owner.dual_side = dual

    async def _dual_mode(self, call: ApiRequest) -> Any:
        call.required("dual_mode")
        self._switch(call, call.flag("dual_mode"))
        return await self.account(call)

    async def _position_mode(self, call: ApiRequest) -> Any:
        mode = call.required("position_mode")
        if mode not in ("single", "dual"):
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `position_mode` value: {mode}")
        self._switch(call, mode == "dual")
        return await self.account(call)

    # --- history ---

    async def _closes(self, call: ApiRequest) -> Any:
        """Positions that went back to flat, newest first."""
        start_ms, end_ms = span_ms(call, default_s=7 * DAY_S)
        symbol, side = call.text("contract"), call.text("side")
        found = [
            one
            for one in reversed(call.owner.closes)
            if start_ms <= one.closed_ms <= end_ms
            and symbol in ("", one.symbol)
            and side in ("", "long" if one.is_long else "short")
        ]
        return [
            closed_rows.close_row(one, self.instrument(one.symbol), call.decimal_sizes) for one in page(found, call)
        ]

    def _forced(self, call: ApiRequest, kind: str) -> list[ForcedClose]:
        """Newest first, paged; ``from`` and ``to`` choose."""
        start_ms, end_ms = span_ms(call, default_s=30 * DAY_S)
        symbol = call.text("contract")
        found = [
            one
            for one in reversed(call.owner.forced)
            if one.kind == kind and symbol in ("", one.symbol) and start_ms <= one.ts_ms <= end_ms
        ]
        return page(found, call)

    async def _liquidates(self, call: ApiRequest) -> Any:
        found = self._forced(call, "liquidation")
        return [closed_rows.liquidation_row(one, self.instrument(one.symbol), call.decimal_sizes) for one in found]

    async def _deleverages(self, call: ApiRequest) -> Any:
        found = self._forced(call, "adl")
        return [
            closed_rows.deleverage_row(one, self.instrument(one.symbol), call.owner, call.decimal_sizes)
            for one in found
        ]
