"""Binance USDⓈ-M account: balances, positions, modes, leverage, margin by hand, income, fees, listen keys.

Multi-assets mode is shown, not simulated: margin stays in the coin that contracts settle in.
Source: Binance USDⓈ-M futures API, account, trade and user data stream endpoints (read 2026).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.fees import FeeDeduction
from pipeline.sim.exchange.futures.positions import LONG, SHORT, positions_of
from pipeline.sim.exchange.history import shown_book
from pipeline.sim.exchange.orders import SimReject
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.binance import formats
from pipeline.sim.wire.binance import futures_rows as rows
from pipeline.sim.wire.binance.formats import BinanceError
from pipeline.sim.wire.binance.futures_api import page, span
from pipeline.sim.wire.binance.futures_stream import ListenKeys, config_update
from pipeline.sim.wire.binance.request import ApiRequest, Route, instrument_of
from pipeline.sim.wire.numbers import exact_text, rate_text

CLASSIC, MULTI_ASSETS = "classic", "multi_currency"
FEE_COIN = "BNB"
BURN_RATE = Decimal("0.9")  # fees in BNB are ten per cent cheaper
_DONE = {"code": 200, "msg": "success"}
_MODES = {"LONG": LONG, "SHORT": SHORT}
Push = Callable[[SimAccount, dict[str, Any]], None]


class FuturesAccountApi:
    """Handlers of one account; ``push`` sends an event to its user streams."""

    def __init__(self, venue: SimVenue, keys: ListenKeys, push: Push) -> None:
        self._venue = venue
        self._keys = keys
        self._push = push

    def rest_routes(self) -> dict[tuple[str, str], Route]:
        v1, v2, v3 = "/fapi/v1", "/fapi/v2", "/fapi/v3"
        return {
            ("GET", f"{v2}/balance"): Route(self._balances, "balances", 5),
            ("GET", f"{v3}/balance"): Route(self._balances, "balances", 5),
            ("GET", f"{v2}/account"): Route(self._account, "balances", 5),
            ("GET", f"{v3}/account"): Route(self._account, "balances", 5),
            ("GET", f"{v3}/positionRisk"): Route(self._positions, "positions", 5),
            ("GET", f"{v2}/positionRisk"): Route(self._positions_v2, "positions", 5),
            ("GET", f"{v1}/accountConfig"): Route(self._account_config, "other", 5),
            ("GET", f"{v1}/symbolConfig"): Route(self._symbol_config, "other", 5),
            ("GET", f"{v1}/leverageBracket"): Route(self._brackets, "instruments", 1),
            ("GET", f"{v1}/commissionRate"): Route(self._commission, "fees", 20),
            ("POST", f"{v1}/leverage"): Route(self._leverage, "leverage", 1),
            ("POST", f"{v1}/marginType"): Route(self._margin_type, "leverage", 1),
            ("POST", f"{v1}/positionMargin"): Route(self._position_margin, "leverage", 1),
            ("GET", f"{v1}/positionSide/dual"): Route(self._dual, "other", 30),
            ("POST", f"{v1}/positionSide/dual"): Route(self._set_dual, "leverage", 1),
            ("GET", f"{v1}/multiAssetsMargin"): Route(self._multi_assets, "other", 30),
            ("POST", f"{v1}/multiAssetsMargin"): Route(self._set_multi_assets, "leverage", 1),
            ("GET", f"{v1}/feeBurn"): Route(self._burn, "other", 30),
            ("POST", f"{v1}/feeBurn"): Route(self._set_burn, "other", 1),
            ("GET", f"{v1}/income"): Route(self._income, "account_book", 30),
            ("GET", f"{v1}/apiTradingStatus"): Route(self._trading_status, "other", 1),
            ("GET", f"{v1}/adlQuantile"): Route(self._adl, "positions", 5),
            ("POST", f"{v1}/listenKey"): Route(self._listen, "listen_key", 1, False, True),
            ("PUT", f"{v1}/listenKey"): Route(self._keep, "listen_key", 1, False, True),
            ("DELETE", f"{v1}/listenKey"): Route(self._end, "listen_key", 1, False, True),
        }

    def ws_routes(self) -> dict[str, Route]:
        return {
            "account.balance": Route(self._balances, "balances", 5),
            "v2/account.balance": Route(self._balances, "balances", 5),
            "account.status": Route(self._account, "balances", 5),
            "v2/account.status": Route(self._account, "balances", 5),
            "account.position": Route(self._positions, "positions", 5),
            "v2/account.position": Route(self._positions, "positions", 5),
        }

    # --- what is there ---

    async def _balances(self, call: ApiRequest) -> Any:
        margin = self._venue.shown_margin(call.owner)
        return rows.balance_rows(call.owner, margin, self._venue.settle_asset, call.now_ms)

    def _held(self, call: ApiRequest) -> list[Any]:
        """Positions with a size or with open orders."""
        with_orders = {order.symbol for order in self._venue.open_orders(call.owner)}
        symbol = call.params.get("symbol")
        if symbol:
            instrument_of(self._venue, symbol)
        shown = self._venue.shown_positions(call.owner, symbol or None)
        return [one for one in shown if one.qty or one.symbol in with_orders]

    async def _account(self, call: ApiRequest) -> Any:
        held = [(one, self._venue.instruments[one.symbol]) for one in self._held(call)]
        margin = self._venue.shown_margin(call.owner)
        row = rows.account_row(call.owner, margin, self._venue.settle_asset, held, call.now_ms)
        return row | {"canTrade": True, "multiAssetsMargin": call.owner.account_mode != CLASSIC}

    async def _positions(self, call: ApiRequest) -> Any:
        return [
            rows.position_row(one, self._venue.instruments[one.symbol], self._venue.liquidation_price(call.owner, one))
            for one in self._held(call)
        ]

    async def _positions_v2(self, call: ApiRequest) -> Any:
        """The older list: every contract, with leverage and margin mode."""
        found = []
        for symbol, row in self._venue.instruments.items():
            if call.params.get("symbol", symbol) != symbol:
                continue
            for one in self._venue.shown_positions(call.owner, symbol):
                liq_price = self._venue.liquidation_price(call.owner, one)
                older = {
                    "leverage": exact_text(one.leverage),
                    "marginType": "cross" if one.is_cross else "isolated",
                    "isAutoAddMargin": "false",
                    "maxNotionalValue": rows.max_notional(row, int(one.leverage)),
                }
                found.append(rows.position_row(one, row, liq_price) | older)
        return found

    async def _account_config(self, call: ApiRequest) -> Any:
        can = {"canTrade": True, "canDeposit": True, "canWithdraw": False}
        modes = {
            "dualSidePosition": call.owner.dual_side,
            "multiAssetsMargin": call.owner.account_mode != CLASSIC,
        }
        return {"feeTier": 0} | can | modes | {"updateTime": 0, "tradeGroupId": -1}

    async def _symbol_config(self, call: ApiRequest) -> Any:
        wanted = call.params.get("symbol")
        chosen = [instrument_of(self._venue, wanted)] if wanted else list(self._venue.instruments.values())
        return [rows.symbol_config(positions_of(call.owner, row.symbol)[0], row) for row in chosen]

    async def _brackets(self, call: ApiRequest) -> Any:
        wanted = call.params.get("symbol")
        chosen = [instrument_of(self._venue, wanted)] if wanted else list(self._venue.instruments.values())
        return [rows.bracket_row(row) for row in chosen]

    async def _commission(self, call: ApiRequest) -> Any:
        row = instrument_of(self._venue, call.required("symbol"))
        return {
            "symbol": row.symbol,
            "makerCommissionRate": rate_text(row.maker_fee_ppm),
            "takerCommissionRate": rate_text(row.taker_fee_ppm),
            "rpiCommissionRate": "0",
        }

    async def _trading_status(self, call: ApiRequest) -> Any:
        return {"indicators": {}, "updateTime": call.now_ms}

    async def _adl(self, call: ApiRequest) -> Any:
        sides = {"LONG": 1, "SHORT": 1} if call.owner.dual_side else {"BOTH": 1}
        found = [
            {"symbol": symbol, "adlQuantile": dict(sides)}
            for symbol in sorted({one.symbol for one in self._held(call)})
        ]
        return found[0] if found and "symbol" in call.params else found

    # --- leverage and margin ---

    def _refused(self, reject: SimReject) -> BinanceError:
        return formats.refusal(reject, futures=True)

    async def _leverage(self, call: ApiRequest) -> Any:
        row = instrument_of(self._venue, call.required("symbol"))
        call.required("leverage")
        leverage = call.integer("leverage", 0)
        if not 1 <= leverage <= row.tiers[0].leverage_max:
            raise BinanceError(-4028, f"Leverage {leverage} is not valid")
        for one in positions_of(call.owner, row.symbol):
            if one.qty and not one.is_cross and leverage < one.leverage:
                text = "Leverage reduction is not supported in Isolated Margin Mode with open positions."
                raise BinanceError(-4161, text)
            if leverage > rows.leverage_tier_max(row, abs(one.qty) * row.reference_price()):
                raise BinanceError(-2027, "Exceeded the maximum allowable position at current leverage.")
        try:
            self._venue.set_leverage(call.owner, row.symbol, Decimal(leverage))
        except SimReject as reject:
            raise self._refused(reject) from reject
        self._push(call.owner, config_update(call.now_ms, row.symbol, leverage))
        return {"leverage": leverage, "maxNotionalValue": rows.max_notional(row, leverage), "symbol": row.symbol}

    async def _margin_type(self, call: ApiRequest) -> Any:
        row, wanted = instrument_of(self._venue, call.required("symbol")), call.required("marginType")
        if wanted not in ("ISOLATED", "CROSSED"):
            raise BinanceError(-1130, "Data sent for parameter 'marginType' is not valid.")
        held = positions_of(call.owner, row.symbol)
        if all(one.is_cross is (wanted == "CROSSED") for one in held):
            raise BinanceError(-4046, "No need to change margin type.")
        if wanted == "ISOLATED" and call.owner.account_mode != CLASSIC:
            raise BinanceError(-4168, "Unable to adjust to isolated-margin mode under the Multi-Assets mode.")
        if self._venue.open_orders(call.owner, row.symbol):
            raise BinanceError(-4047, "Margin type cannot be changed if there exists open orders.")
        if any(one.qty for one in held):
            raise BinanceError(-4048, "Margin type cannot be changed if there exists position.")
        try:
            self._venue.set_leverage(call.owner, row.symbol, held[0].leverage, is_cross=wanted == "CROSSED")
        except SimReject as reject:
            raise self._refused(reject) from reject
        return _DONE

    async def _position_margin(self, call: ApiRequest) -> Any:
        """``type`` 1 adds, 2 takes out."""
        row = instrument_of(self._venue, call.required("symbol"))
        call.required("amount")
        amount, kind = call.decimal("amount", zero=(-4055, "Amount must be positive.")), call.integer("type", 0)
        if kind not in (1, 2) or amount is None:
            raise BinanceError(-4052, "Invalid type for adjusting margin.")
        place = call.params.get("positionSide", "BOTH")
        if (place == "BOTH") is call.owner.dual_side:
            raise BinanceError(-4061, "Order's position side does not match user's setting.")
        position = self._venue.position(call.owner, row.symbol, _MODES.get(place, "single"))
        if position.is_cross:
            raise BinanceError(-4046, "Only isolated positions can be adjusted.")
        if not position.qty:
            raise BinanceError(-4054, "Cannot add position margin: position is 0.")
        available = self._venue.margin_account(call.owner).available
        try:
            self._venue.settlement.add_margin(call.owner, position, amount if kind == 1 else -amount, available)
        except SimReject:
            raise BinanceError(-4051, "Isolated balance insufficient.") from None
        return {"amount": float(amount), "code": 200, "msg": "Successfully modify position margin.", "type": kind}

    # --- modes ---

    def _want_nothing_open(self, call: ApiRequest, orders: BinanceError, positions: BinanceError) -> None:
        if self._venue.open_orders(call.owner):
            raise orders
        if any(one.qty for one in call.owner.positions.values()):
            raise positions

    async def _dual(self, call: ApiRequest) -> Any:
        return {"dualSidePosition": call.owner.dual_side}

    async def _set_dual(self, call: ApiRequest) -> Any:
        wanted = _flag(call, "dualSidePosition")
        if wanted is call.owner.dual_side:
            raise BinanceError(-4059, "No need to change position side.")
        self._want_nothing_open(
            call,
            BinanceError(-4067, "Position side cannot be changed if there exists open orders."),
            BinanceError(-4068, "Position side cannot be changed if there exists position."),
        )
        call.owner.dual_side = wanted
        return _DONE

    async def _multi_assets(self, call: ApiRequest) -> Any:
        return {"multiAssetsMargin": call.owner.account_mode != CLASSIC}

    async def _set_multi_assets(self, call: ApiRequest) -> Any:
        wanted = _flag(call, "multiAssetsMargin")
        if wanted is (call.owner.account_mode != CLASSIC):
            raise BinanceError(
                -4171, "Adjusted asset mode is currently set and does not need to be adjusted repeatedly"
            )
        if wanted and any(not one.is_cross for one in call.owner.positions.values()):
            text = "Unable to adjust to Multi-Assets mode with symbols of USDⓈ-M Futures under isolated-margin mode."
            raise BinanceError(-4167, text)
        self._want_nothing_open(
            call,
            BinanceError(-4170, "Unable to adjust Multi-Assets Mode with open orders in USDⓈ-M Futures."),
            BinanceError(
                -4169, "Unable to adjust Multi-Assets Mode with insufficient margin balance in USDⓈ-M Futures."
            ),
        )
        call.owner.account_mode = MULTI_ASSETS if wanted else CLASSIC
        return _DONE

    async def _burn(self, call: ApiRequest) -> Any:
        deduction = call.owner.fee_deduction
        return {"feeBurn": deduction is not None and deduction.enabled}

    async def _set_burn(self, call: ApiRequest) -> Any:
        """Switches fees in BNB on or off, at the simulated price of a scenario (1 without one)."""
        wanted = _flag(call, "feeBurn")
        deduction = call.owner.fee_deduction
        if deduction is None:
            deduction = call.owner.fee_deduction = FeeDeduction(coin=FEE_COIN, rate=BURN_RATE, splits=False)
        deduction.enabled = wanted
        return _DONE

    # --- money ---

    async def _income(self, call: ApiRequest) -> Any:
        """Oldest first."""
        start_ms, end_ms = span(call)
        kind, symbol = call.params.get("incomeType", ""), call.params.get("symbol", "")
        found = [
            one
            for one in shown_book(call.owner, call.now_ms)
            if start_ms <= one.ts_ms <= end_ms
            and symbol in ("", one.symbol)
            and kind in ("", rows.INCOME_TYPES.get(one.reason, "TRANSFER"))
        ]
        return [rows.income_row(one) for one in page(found, call, default=100)]

    # --- listen keys ---

    async def _listen(self, call: ApiRequest) -> Any:
        return {"listenKey": self._keys.create(call.owner, call.now_ms)}

    async def _keep(self, call: ApiRequest) -> Any:
        return {"listenKey": self._keys.extend(call.owner, call.now_ms)}

    async def _end(self, call: ApiRequest) -> Any:
        self._keys.close(call.owner)
        return {}


def _flag(call: ApiRequest, name: str) -> bool:
    text = call.required(name).lower()
    if text not in ("true", "false"):
        raise BinanceError(-1130, f"Data sent for parameter '{name}' is not valid.")
    return text == "true"
