"""MEXC spot signed REST: orders, trades, balances, fees, coins, listen keys.

Source: MEXC spot v3 "Spot Account/Trade", "Wallet Endpoints", "Listen Key".
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.model.enums import OrderKind
from pipeline.sim.exchange.accounts import BookEntry
from pipeline.sim.exchange.fees import FeeDeduction
from pipeline.sim.exchange.history import shown_book
from pipeline.sim.exchange.orders import SimOrder, SimOrderRequest, SimReject
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.coins import coins
from pipeline.sim.wire.mexc import formats
from pipeline.sim.wire.mexc.auth import MexcLimits
from pipeline.sim.wire.mexc.formats import MexcError
from pipeline.sim.wire.mexc.listen_keys import ListenKeys
from pipeline.sim.wire.mexc.request import ApiRequest, Route, instrument_of
from pipeline.sim.wire.numbers import exact_text

DAY_MS = 86_400_000
_BATCH_MAX = 20
_CANCEL_SYMBOLS_MAX = 5


class MexcSigned:
    """Handlers that need a key."""

    def __init__(self, venue: SimVenue, keys: ListenKeys, limits: MexcLimits) -> None:
        self._venue = venue
        self._keys = keys
        self._limits = limits

    def routes(self) -> dict[tuple[str, str], Route]:
        """(method, path) to handler, operation for faults, request weight, whether it is signed, and a limit of its
        own."""
        v3 = "/api/v3"
        order = f"{v3}/order"
        place, batch = self._limits.place, self._limits.batch
        return {
            ("POST", order): Route(self._place, "place", 1, True, place),
            ("POST", f"{order}/test"): Route(self._place_test, "other", 1, True),
            ("POST", f"{v3}/batchOrders"): Route(self._batch, "place", 1, True, batch),
            ("DELETE", order): Route(self._cancel, "cancel", 1, True),
            ("GET", order): Route(self._query, "order", 2, True),
            ("DELETE", f"{v3}/openOrders"): Route(self._cancel_all, "cancel_all", 1, True),
            ("GET", f"{v3}/openOrders"): Route(self._open_orders, "open_orders", 3, True),
            ("GET", f"{v3}/allOrders"): Route(self._all_orders, "finished_orders", 10, True),
            ("GET", f"{v3}/myTrades"): Route(self._my_trades, "trades", 10, True),
            ("GET", f"{v3}/account"): Route(self._account, "balances", 10, True),
            ("GET", f"{v3}/tradeFee"): Route(self._trade_fee, "fees", 20, True),
            ("GET", f"{v3}/mxDeduct/enable"): Route(self._deduct, "other", 1, True),
            ("POST", f"{v3}/mxDeduct/enable"): Route(self._set_deduct, "other", 1, True),
            ("GET", f"{v3}/capital/config/getall"): Route(self._coins, "currencies", 10, True),
            ("GET", f"{v3}/capital/deposit/address"): Route(self._address, "currencies", 10, True),
            ("GET", f"{v3}/capital/deposit/hisrec"): Route(self._deposits, "account_book", 1, True),
            ("GET", f"{v3}/capital/withdraw/history"): Route(self._withdrawals, "account_book", 1, True),
            ("POST", f"{v3}/userDataStream"): Route(self._key_new, "listen_key", 1, True),
            ("PUT", f"{v3}/userDataStream"): Route(self._key_extend, "listen_key", 1, True),
            ("DELETE", f"{v3}/userDataStream"): Route(self._key_close, "listen_key", 1, True),
            ("GET", f"{v3}/userDataStream"): Route(self._key_list, "listen_key", 1, True),
        }

    # --- orders ---

    def order_request(self, params: dict[str, str], call: ApiRequest) -> SimOrderRequest:
        """The order that the parameters of a placement ask for. Raises ``MexcError``."""
        item = ApiRequest(params, call.account, call.now_ms, call.deadline_ms)
        side = formats.SIDES.get(item.required("side"))
        kind_tif = formats.ORDER_TYPES.get(item.required("type"))
        if side is None or kind_tif is None:
            raise MexcError(700004, "Parameter error: side or type")
        kind, tif = kind_tif
        quantity, quote = item.decimal("quantity"), item.decimal("quoteOrderQty")
        price = Decimal(0)
        if kind is OrderKind.LIMIT:
            item.required("quantity")
            item.required("price")
            price, quote = item.decimal("price") or Decimal(0), None
        elif quantity is None and quote is None:
            raise MexcError(700004, "Mandatory parameter 'quantity' was not sent, was empty/null, or malformed.")
        elif quantity is not None:
            quote = None
        for value in (quantity, quote):
            if value is not None and value <= 0:
                raise MexcError(10102, "Amount cannot be zero or negative")
        if kind is OrderKind.LIMIT and price <= 0:
            raise MexcError(30010, "no valid trade price")
        return SimOrderRequest(
            symbol=item.required("symbol"),
            side=side,
            kind=kind,
            tif=tif,
            qty=quantity,
            quote_qty=quote,
            price=price,
            client_id=params.get("newClientOrderId", ""),
            expiry_wall_ms=call.deadline_ms,
        )

    async def _submit(self, params: dict[str, str], call: ApiRequest) -> SimOrder:
        order = self.order_request(params, call)
        try:
            return await self._venue.submit(call.owner, order)
        except SimReject as reject:
            instrument = self._venue.instruments.get(order.symbol)
            raise formats.refusal(reject, instrument, order.side) from reject

    async def _place(self, call: ApiRequest) -> Any:
        return formats.placed_row(await self._submit(call.params, call))

    async def _place_test(self, call: ApiRequest) -> Any:
        instrument_of(self._venue, self.order_request(call.params, call).symbol)
        return {}

    async def _batch(self, call: ApiRequest) -> Any:
        try:
            items = msgspec.json.decode(call.required("batchOrders"), type=list[dict[str, str | int | float | None]])
        except msgspec.DecodeError as error:
            raise MexcError(700004, "Mandatory parameter 'batchOrders' was malformed.") from error
        symbols = {item.get("symbol") for item in items}
        if not items or len(items) > _BATCH_MAX or len(symbols) != 1:
            raise MexcError(700004, "batchOrders: at most 20 orders of one symbol")
        rows: list[dict[str, Any]] = []
        for item in items:
            params = {name: str(value) for name, value in item.items() if value is not None}
            try:
                rows.append(formats.placed_row(await self._submit(params, call)))
            except MexcError as error:
                client_id = params.get("newClientOrderId", "")
                rows.append({"newClientOrderId": client_id, "msg": error.text, "code": error.code})
        return rows

    def _ids(self, call: ApiRequest) -> tuple[str, int | None, str | None]:
        """(symbol, order id, client id); the order id wins where both are given."""
        symbol = call.required("symbol")
        instrument_of(self._venue, symbol)
        order_id, client_id = call.params.get("orderId", ""), call.params.get("origClientOrderId", "")
        if order_id:
            return symbol, formats.parse_order_id(order_id), None
        if client_id:
            return symbol, None, client_id
        raise MexcError(700004, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")

    async def _cancel(self, call: ApiRequest) -> Any:
        symbol, order_id, client_id = self._ids(call)
        try:
            order = await self._venue.submit_cancel(call.owner, symbol, order_id=order_id, client_id=client_id)
        except SimReject as reject:
            raise formats.refusal(reject, self._venue.instruments[symbol], None) from reject
        return formats.cancel_row(order, client_id or order.client_id)

    async def _cancel_all(self, call: ApiRequest) -> Any:
        symbols = call.required("symbol").split(",")
        if len(symbols) > _CANCEL_SYMBOLS_MAX:
            raise MexcError(700004, "symbol: at most 5 symbols")
        rows = []
        for symbol in symbols:
            instrument_of(self._venue, symbol)
            rows += [
                formats.cancel_row(order, order.client_id)
                for order in await self._venue.submit_cancel_all(call.owner, symbol)
            ]
        return rows

    async def _query(self, call: ApiRequest) -> Any:
        symbol, order_id, client_id = self._ids(call)
        order = self._venue.order(call.owner, symbol, order_id=order_id, client_id=client_id)
        if order is None:
            raise MexcError(-2013, "Order does not exist.")
        return formats.order_row(order)

    async def _open_orders(self, call: ApiRequest) -> Any:
        rows = []
        for symbol in call.required("symbol").split(","):
            instrument_of(self._venue, symbol)
            rows += [formats.order_row(order) for order in self._venue.open_orders(call.owner, symbol)]
        return rows

    def _span(self, call: ApiRequest, default_ms: int, longest_ms: int) -> tuple[int, int]:
        end_ms = call.integer("endTime", call.now_ms)
        start_ms = call.integer("startTime", end_ms - default_ms)
        return max(start_ms, call.now_ms - longest_ms), end_ms

    async def _all_orders(self, call: ApiRequest) -> Any:
        """Open and finished, newest first; 24 h by default, 7 days at most."""
        symbol = instrument_of(self._venue, call.required("symbol")).symbol
        start_ms, end_ms = self._span(call, DAY_MS, 7 * DAY_MS)
        limit = min(call.integer("limit", 500), 1000)
        orders = [*self._venue.finished_orders(call.owner, symbol, 0), *self._venue.open_orders(call.owner, symbol)]
        chosen = [order for order in orders if start_ms <= order.created_ms <= end_ms]
        chosen.sort(key=lambda order: order.order_id, reverse=True)
        return [formats.order_row(order) for order in chosen[:limit]]

    async def _my_trades(self, call: ApiRequest) -> Any:
        """Newest first; one month, at most 100."""
        symbol = instrument_of(self._venue, call.required("symbol")).symbol
        start_ms, end_ms = self._span(call, 30 * DAY_MS, 30 * DAY_MS)
        limit = min(call.integer("limit", 100), 100)
        trades = [t for t in self._venue.trades(call.owner, symbol, start_ms) if start_ms <= t.ts_ms <= end_ms]
        if "orderId" in call.params:
            wanted = formats.parse_order_id(call.params["orderId"])
            trades = [t for t in trades if t.order_id == wanted]
        trades.sort(key=lambda trade: trade.trade_id, reverse=True)
        return [formats.trade_row(trade) for trade in trades[:limit]]

    # --- account ---

    async def _account(self, call: ApiRequest) -> Any:
        balances = [
            {"asset": asset, "free": exact_text(wallet.free), "locked": exact_text(wallet.locked)}
            for asset, wallet in self._venue.wallets(call.owner).items()
            if wallet.free or wallet.locked
        ]
        return {
            "makerCommission": None,
            "takerCommission": None,
            "buyerCommission": None,
            "sellerCommission": None,
            "canTrade": True,
            "canWithdraw": True,
            "canDeposit": True,
            "updateTime": None,
            "accountType": "SPOT",
            "balances": balances,
            "permissions": ["SPOT"],
        }

    async def _trade_fee(self, call: ApiRequest) -> Any:
        """Numbers, not strings, in this one reply."""
        instrument = instrument_of(self._venue, call.required("symbol"))
        maker, taker = instrument.maker_fee_ppm / 1_000_000, instrument.taker_fee_ppm / 1_000_000
        data = {"makerCommission": maker, "takerCommission": taker}
        return {"data": data, "code": 0, "msg": "success", "timestamp": call.now_ms}

    def _deduct_reply(self, call: ApiRequest) -> Any:
        deduction = call.owner.fee_deduction
        data = {"mxDeductEnable": deduction is not None and deduction.enabled}
        return {"data": data, "code": 0, "msg": "success", "timestamp": call.now_ms}

    async def _deduct(self, call: ApiRequest) -> Any:
        return self._deduct_reply(call)

    async def _set_deduct(self, call: ApiRequest) -> Any:
        """Switches fees in MX on or off, at the simulated price of a scenario (1 without one)."""
        deduction = call.owner.fee_deduction
        if deduction is None:
            deduction = call.owner.fee_deduction = FeeDeduction(coin="MX", splits=False)
        deduction.enabled = call.required("mxDeductEnable") == "true"
        return self._deduct_reply(call)

    async def _coins(self, call: ApiRequest) -> Any:
        return formats.coin_rows(coins(self._venue))

    async def _address(self, call: ApiRequest) -> Any:
        """Addresses without an owner: the texts of hashes."""
        asset, network = call.required("coin"), call.params.get("network", "")
        known = next((coin for coin in coins(self._venue) if coin.asset == asset), None)
        if known is None:
            raise MexcError(10232, "currency does not exist")
        return [
            {
                "coin": asset,
                "network": name.upper(),
                "netWork": name.upper(),
                "address": "sim" + hashlib.sha256(f"{call.owner.uid}:{asset}:{name}".encode()).hexdigest()[:32],
                "memo": None,
            }
            for name, _ in known.networks
            if not network or network.upper() == name.upper()
        ]

    def _moved(self, call: ApiRequest, reason: str) -> list[BookEntry]:
        """Deposits or withdrawals, newest first; 7 days by default."""
        start_ms, end_ms = self._span(call, 7 * DAY_MS, 90 * DAY_MS)
        asset = call.params.get("coin", "")
        found = [
            one
            for one in reversed(shown_book(call.owner, call.now_ms))
            if one.reason == reason and start_ms <= one.ts_ms <= end_ms and asset in ("", one.asset)
        ]
        return found[: min(call.integer("limit", 1000), 1000)]

    async def _deposits(self, call: ApiRequest) -> Any:
        """Status 5: booked."""
        return [
            {
                "amount": exact_text(one.change),
                "coin": one.asset,
                "network": one.asset,
                "status": 5,
                "address": "",
                "txId": f"deposit{one.entry_id}",
                "insertTime": one.ts_ms,
                "unlockConfirm": "1",
                "confirmTimes": "1",
                "memo": None,
            }
            for one in self._moved(call, "deposit")
        ]

    async def _withdrawals(self, call: ApiRequest) -> Any:
        """Status 7: done."""
        return [
            {
                "id": f"withdraw{one.entry_id}",
                "txId": f"withdraw{one.entry_id}",
                "coin": one.asset,
                "network": one.asset,
                "address": "",
                "amount": exact_text(-one.change),
                "transferType": 0,
                "status": 7,
                "transactionFee": "0",
                "confirmNo": None,
                "applyTime": one.ts_ms,
                "remark": "",
                "memo": None,
            }
            for one in self._moved(call, "withdraw")
        ]

    # --- listen keys ---

    async def _key_new(self, call: ApiRequest) -> Any:
        return {"listenKey": self._keys.create(call.owner, call.now_ms)}

    async def _key_extend(self, call: ApiRequest) -> Any:
        key = call.required("listenKey")
        self._keys.extend(call.owner, key, call.now_ms)
        return {"listenKey": key}

    async def _key_close(self, call: ApiRequest) -> Any:
        key = call.required("listenKey")
        self._keys.close(call.owner, key)
        return {"listenKey": key}

    async def _key_list(self, call: ApiRequest) -> Any:
        return {"listenKey": self._keys.of(call.owner, call.now_ms)}
