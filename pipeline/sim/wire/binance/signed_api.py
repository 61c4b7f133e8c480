"""Binance spot's signed calls: orders, trades, balances, fees, coins, wallet lists; the same by REST and WebSocket API.

Not there, and refused as such: order lists, trigger orders, market sells by quote amount, cancel-replace, amending.
Source: Binance spot REST API "Trading endpoints", "Account endpoints"; wallet API (read 2026).
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.accounts import BookEntry
from pipeline.sim.exchange.fees import FeeDeduction
from pipeline.sim.exchange.history import shown_book
from pipeline.sim.exchange.orders import SimOrder, SimOrderRequest, SimReject
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.binance import formats
from pipeline.sim.wire.binance.auth import missing
from pipeline.sim.wire.binance.formats import BinanceError, eight
from pipeline.sim.wire.binance.request import ApiRequest, Route, instrument_of
from pipeline.sim.wire.binance.user_stream import cancel_id
from pipeline.sim.wire.coins import coins
from pipeline.sim.wire.numbers import exact_text, rate_text

DAY_MS = 86_400_000
ROWS_MAX = 1000
FEE_COIN = "BNB"
CLIENT_ID = re.compile(r"[a-zA-Z0-9_.-]{1,36}\Z")
ANSWERS = ("ACK", "RESULT", "FULL")
DIGITS_MAX = 8


class SignedApi:
    """Handlers that need a key."""

    def __init__(self, venue: SimVenue) -> None:
        self._venue = venue

    def rest_routes(self) -> dict[tuple[str, str], Route]:
        v3, sapi = "/api/v3", "/sapi/v1"
        return {
            ("POST", f"{v3}/order"): Route(self._place, "place", 1),
            ("POST", f"{v3}/order/test"): Route(self._place_test, "other", 1),
            ("DELETE", f"{v3}/order"): Route(self._cancel, "cancel", 1),
            ("GET", f"{v3}/order"): Route(self._query, "order", 4),
            ("DELETE", f"{v3}/openOrders"): Route(self._cancel_all, "cancel_all", 1),
            ("GET", f"{v3}/openOrders"): Route(self._open_orders, "open_orders", 6),
            ("GET", f"{v3}/allOrders"): Route(self._all_orders, "finished_orders", 20),
            ("GET", f"{v3}/myTrades"): Route(self._my_trades, "trades", 20),
            ("GET", f"{v3}/account"): Route(self._account, "balances", 20),
            ("GET", f"{v3}/account/commission"): Route(self._commission, "fees", 20),
            ("GET", f"{sapi}/asset/tradeFee"): Route(self._trade_fee, "fees", 1),
            ("GET", f"{sapi}/bnbBurn"): Route(self._burn, "other", 1),
            ("POST", f"{sapi}/bnbBurn"): Route(self._set_burn, "other", 1),
            ("GET", f"{sapi}/capital/config/getall"): Route(self._coins, "currencies", 10),
            ("GET", f"{sapi}/capital/deposit/hisrec"): Route(self._deposits, "account_book", 1),
            ("GET", f"{sapi}/capital/withdraw/history"): Route(self._withdrawals, "account_book", 1),
            ("GET", f"{sapi}/asset/transfer"): Route(self._transfers, "account_book", 1),
            ("GET", f"{sapi}/spot/delist-schedule"): Route(self._delistings, "instruments", 100),
            ("GET", f"{sapi}/spot/open-symbol-list"): Route(self._openings, "instruments", 100, False, True),
            ("GET", f"{sapi}/account/apiRestrictions"): Route(self._restrictions, "other", 1),
            ("GET", f"{sapi}/margin/allPairs"): Route(self._no_margin, "instruments", 1),
            ("GET", f"{sapi}/margin/isolated/allPairs"): Route(self._no_margin, "instruments", 1),
        }

    def ws_routes(self) -> dict[str, Route]:
        return {
            "order.place": Route(self._place, "place", 1),
            "order.test": Route(self._place_test, "other", 1),
            "order.cancel": Route(self._cancel, "cancel", 1),
            "order.status": Route(self._query, "order", 4),
            "openOrders.cancelAll": Route(self._cancel_all, "cancel_all", 1),
            "openOrders.status": Route(self._open_orders, "open_orders", 6),
            "allOrders": Route(self._all_orders, "finished_orders", 20),
            "myTrades": Route(self._my_trades, "trades", 20),
            "account.status": Route(self._account, "balances", 20),
            "account.commission": Route(self._commission, "fees", 20),
        }

    # --- orders ---

    def _order_request(self, call: ApiRequest) -> SimOrderRequest:
        symbol = instrument_of(self._venue, call.required("symbol")).symbol
        side, kind = formats.SIDES.get(call.required("side")), call.required("type")
        if side is None:
            raise BinanceError(-1117, "Invalid side.")
        if kind not in ("LIMIT", "MARKET", "LIMIT_MAKER"):
            raise BinanceError(-1116, "Invalid orderType.")
        client_id = call.params.get("newClientOrderId") or self._own_id(call)
        if not CLIENT_ID.match(client_id):
            text = "Illegal characters found in parameter 'newClientOrderId'; legal range is '^[a-zA-Z0-9-_]{1,36}$'."
            raise BinanceError(-1100, text)
        if call.params.get("newOrderRespType", "FULL") not in ANSWERS:
            raise BinanceError(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
        qty, quote, price = self._numbers(call, kind, side)
        tif = TimeInForce.IOC if kind == "MARKET" else TimeInForce.POST_ONLY
        if kind == "LIMIT":
            found = formats.TIFS.get(call.required("timeInForce"))
            if found is None:
                raise BinanceError(-1115, "Invalid timeInForce.")
            tif = found
        return SimOrderRequest(
            symbol=symbol,
            side=side,
            kind=OrderKind.MARKET if kind == "MARKET" else OrderKind.LIMIT,
            tif=tif,
            qty=qty,
            quote_qty=quote,
            price=price,
            client_id=client_id,
            unfillable_fok_ends=True,
            expiry_wall_ms=call.deadline_ms,
        )

    def _numbers(self, call: ApiRequest, kind: str, side: OrderSide) -> tuple[Decimal | None, Decimal | None, Decimal]:
        """(quantity, quote amount, price)."""
        quantity, quote, price = call.decimal("quantity"), call.decimal("quoteOrderQty"), call.decimal("price")
        for name, value in (("quantity", quantity), ("price", price)):
            exponent = value.normalize().as_tuple().exponent if value is not None else 0
            if isinstance(exponent, int) and exponent < -DIGITS_MAX:
                raise BinanceError(-1111, f"Parameter '{name}' has too much precision.")
        if kind != "MARKET":
            call.required("quantity")
            call.required("price")
            return quantity, None, price or Decimal(0)
        if price is not None or "timeInForce" in call.params:
            raise BinanceError(-1106, "Parameter 'price' or 'timeInForce' sent when not required.")
        if (quantity is None) == (quote is None):
            raise missing("quantity") if quantity is None else BinanceError(-1128, "Combination of parameters invalid.")
        if quote is not None and side is OrderSide.SELL:
            raise BinanceError(-1128, "Combination of parameters invalid.")  # of the simulator, not of the venue
        return quantity, quote, Decimal(0)

    @staticmethod
    def _own_id(call: ApiRequest) -> str:
        text = f"{sorted(call.params.items())}{call.now_ms}"
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:22]

    async def _place(self, call: ApiRequest) -> Any:
        request = self._order_request(call)
        try:
            order = await self._venue.submit(call.owner, request)
        except SimReject as reject:
            raise formats.refusal(reject) from reject
        trades = self._venue.trades(call.owner, order.symbol, order.created_ms)
        own = [one for one in trades if one.order_id == order.order_id]
        return formats.placed_row(order, own, call.params.get("newOrderRespType", "FULL"))

    async def _place_test(self, call: ApiRequest) -> Any:
        self._order_request(call)
        return {}

    def _ids(self, call: ApiRequest) -> tuple[str, int | None, str | None]:
        """(symbol, order id, client id); the order id wins where both are given."""
        symbol = instrument_of(self._venue, call.required("symbol")).symbol
        client_id = call.params.get("origClientOrderId", "")
        if call.params.get("orderId"):
            return symbol, call.integer("orderId", 0), None
        if client_id:
            return symbol, None, client_id
        raise BinanceError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")

    async def _cancel(self, call: ApiRequest) -> Any:
        symbol, order_id, client_id = self._ids(call)
        try:
            order = await self._venue.submit_cancel(call.owner, symbol, order_id=order_id, client_id=client_id)
        except SimReject as reject:
            raise formats.refusal(reject) from reject
        return formats.cancel_row(order, call.params.get("newClientOrderId") or cancel_id(order))

    async def _cancel_all(self, call: ApiRequest) -> Any:
        symbol = instrument_of(self._venue, call.required("symbol")).symbol
        ended = await self._venue.submit_cancel_all(call.owner, symbol)
        if not ended:
            raise BinanceError(-2011, "Unknown order sent.")
        return [formats.cancel_row(order, cancel_id(order)) for order in ended]

    async def _query(self, call: ApiRequest) -> Any:
        symbol, order_id, client_id = self._ids(call)
        order = self._venue.order(call.owner, symbol, order_id=order_id, client_id=client_id)
        if order is None:
            raise BinanceError(-2013, "Order does not exist.")
        return formats.order_row(order)

    async def _open_orders(self, call: ApiRequest) -> Any:
        symbol = call.params.get("symbol")
        if symbol:
            instrument_of(self._venue, symbol)
        return [formats.order_row(order) for order in self._venue.open_orders(call.owner, symbol or None)]

    def _span(self, call: ApiRequest) -> tuple[int, int]:
        """Start and end; more than 24 h is refused."""
        end_ms = call.integer("endTime", call.now_ms)
        start_ms = call.integer("startTime", end_ms - DAY_MS)
        if end_ms - start_ms > DAY_MS:
            raise BinanceError(-1127, "More than 24 hours between startTime and endTime.")
        return start_ms, end_ms

    async def _all_orders(self, call: ApiRequest) -> Any:
        """Open and finished, oldest first; from an order id, or by time."""
        symbol = instrument_of(self._venue, call.required("symbol")).symbol
        limit = min(call.integer("limit", 500), ROWS_MAX)
        orders: list[SimOrder] = [
            *self._venue.finished_orders(call.owner, symbol, 0),
            *self._venue.open_orders(call.owner, symbol),
        ]
        orders.sort(key=lambda order: order.order_id)
        if call.params.get("orderId"):
            first = call.integer("orderId", 0)
            return [formats.order_row(order) for order in orders if order.order_id >= first][:limit]
        if "startTime" in call.params or "endTime" in call.params:
            start_ms, end_ms = self._span(call)
            chosen = [order for order in orders if start_ms <= order.created_ms <= end_ms]
            return [formats.order_row(order) for order in chosen[:limit]]
        return [formats.order_row(order) for order in orders[-limit:]]

    async def _my_trades(self, call: ApiRequest) -> Any:
        """Oldest first."""
        symbol = instrument_of(self._venue, call.required("symbol")).symbol
        limit = min(call.integer("limit", 500), ROWS_MAX)
        trades = self._venue.trades(call.owner, symbol)
        trades.sort(key=lambda trade: trade.trade_id)
        if call.params.get("orderId"):
            wanted = call.integer("orderId", 0)
            return [formats.trade_row(one) for one in trades if one.order_id == wanted][:limit]
        if "startTime" in call.params or "endTime" in call.params:
            start_ms, end_ms = self._span(call)
            chosen = [one for one in trades if start_ms <= one.ts_ms <= end_ms]
            return [formats.trade_row(one) for one in chosen[:limit]]
        return [formats.trade_row(one) for one in trades[-limit:]]

    # --- account ---

    async def _account(self, call: ApiRequest) -> Any:
        every = call.params.get("omitZeroBalances", "false") != "true"
        balances = [
            {"asset": asset, "free": eight(wallet.free), "locked": eight(wallet.locked)}
            for asset, wallet in self._venue.wallets(call.owner).items()
            if every or wallet.free or wallet.locked
        ]
        row = next(iter(self._venue.instruments.values()))
        maker, taker = rate_text(row.maker_fee_ppm), rate_text(row.taker_fee_ppm)
        return {
            "makerCommission": row.maker_fee_ppm // 100,
            "takerCommission": row.taker_fee_ppm // 100,
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": {"maker": maker, "taker": taker, "buyer": "0.00000000", "seller": "0.00000000"},
            "canTrade": True,
            "canWithdraw": True,
            "canDeposit": True,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": call.now_ms,
            "accountType": "SPOT",
            "balances": balances,
            "permissions": ["SPOT"],
            "uid": int(call.owner.uid),
        }

    async def _commission(self, call: ApiRequest) -> Any:
        row = instrument_of(self._venue, call.required("symbol"))
        none = {"maker": "0.00000000", "taker": "0.00000000", "buyer": "0.00000000", "seller": "0.00000000"}
        rates = none | {"maker": rate_text(row.maker_fee_ppm), "taker": rate_text(row.taker_fee_ppm)}
        deduction = call.owner.fee_deduction
        is_on = deduction is not None and deduction.enabled
        discount = {"enabledForAccount": is_on, "enabledForSymbol": True, "discountAsset": FEE_COIN}
        discount["discount"] = exact_text(deduction.rate if deduction is not None else Decimal("0.75"))
        zero = {"taxCommission": none, "specialCommission": none}
        return {"symbol": row.symbol, "standardCommission": rates, **zero, "discount": discount}

    async def _trade_fee(self, call: ApiRequest) -> Any:
        wanted = call.params.get("symbol")
        rows = [instrument_of(self._venue, wanted)] if wanted else list(self._venue.instruments.values())
        return [
            {
                "symbol": row.symbol,
                "makerCommission": rate_text(row.maker_fee_ppm),
                "takerCommission": rate_text(row.taker_fee_ppm),
            }
            for row in rows
        ]

    async def _burn(self, call: ApiRequest) -> Any:
        deduction = call.owner.fee_deduction
        return {"spotBNBBurn": deduction is not None and deduction.enabled, "interestBNBBurn": False}

    async def _set_burn(self, call: ApiRequest) -> Any:
        """Switches fees in BNB on or off, at the simulated price of a scenario (1 without one)."""
        deduction = call.owner.fee_deduction
        if deduction is None:
            deduction = call.owner.fee_deduction = FeeDeduction(coin=FEE_COIN, rate=Decimal("0.75"), splits=False)
        deduction.enabled = call.required("spotBNBBurn") == "true"
        return await self._burn(call)

    async def _restrictions(self, call: ApiRequest) -> Any:
        allowed = {"enableReading": True, "enableSpotAndMarginTrading": True, "enableFutures": False}
        barred = {"ipRestrict": True, "enableWithdrawals": False, "enableInternalTransfer": False}
        return allowed | barred | {"permitsUniversalTransfer": False, "createTime": 0}

    async def _no_margin(self, call: ApiRequest) -> Any:
        """There are no margin pairs; clients that load all markets ask for them."""
        return []

    async def _coins(self, call: ApiRequest) -> Any:
        return formats.coin_rows(coins(self._venue))

    async def _delistings(self, call: ApiRequest) -> Any:
        rows = [row for row in self._venue.instruments.values() if row.delisted_s]
        return [{"delistTime": row.delisted_s * 1000, "symbols": [row.symbol]} for row in rows]

    async def _openings(self, call: ApiRequest) -> Any:
        if call.params:  # it takes none, a time and a signature neither
            raise BinanceError(-1104, f"Not all sent parameters were read; was sent '{len(call.params)}' parameter(s).")
        return []  # whatever is listed here is open

    def _moved(self, call: ApiRequest, reason: str) -> list[BookEntry]:
        """Deposits or withdrawals, newest first."""
        end_ms = call.integer("endTime", call.now_ms)
        start_ms = call.integer("startTime", end_ms - 90 * DAY_MS)
        asset = call.params.get("coin", "")
        return [
            one
            for one in reversed(shown_book(call.owner, call.now_ms))
            if one.reason == reason and start_ms <= one.ts_ms <= end_ms and asset in ("", one.asset)
        ][:ROWS_MAX]

    async def _deposits(self, call: ApiRequest) -> Any:
        """Status 1: booked."""
        return [
            {
                "id": f"{one.entry_id}",
                "amount": exact_text(one.change),
                "coin": one.asset,
                "network": one.asset,
                "status": 1,
                "address": "",
                "addressTag": "",
                "txId": f"deposit{one.entry_id}",
                "insertTime": one.ts_ms,
                "transferType": 0,
                "confirmTimes": "1/1",
                "unlockConfirm": 0,
                "walletType": 0,
            }
            for one in self._moved(call, "deposit")
        ]

    async def _withdrawals(self, call: ApiRequest) -> Any:
        """Status 6: done. Times are UTC as text."""
        return [
            {
                "id": f"withdraw{one.entry_id}",
                "amount": exact_text(-one.change),
                "transactionFee": "0",
                "coin": one.asset,
                "status": 6,
                "address": "",
                "txId": f"withdraw{one.entry_id}",
                "applyTime": datetime.fromtimestamp(one.ts_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"),
                "network": one.asset,
                "transferType": 0,
                "confirmNo": 1,
                "walletType": 0,
            }
            for one in self._moved(call, "withdraw")
        ]

    async def _transfers(self, call: ApiRequest) -> Any:
        """There is no wallet beside this one."""
        call.required("type")
        return {"total": 0, "rows": []}
