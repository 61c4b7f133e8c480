"""Gate.io wallet: chains, addresses, deposit and withdrawal status, moves between the user's accounts, account books.

Coins never leave the simulated exchange: nothing can be withdrawn by API, and deposits are what a scenario or a fault
brings. Source: Gate.io APIv4 "Wallet", "Spot" account book, "Account".
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any

from pipeline.model.structs import CoinIdentity
from pipeline.sim.exchange.accounts import BookEntry, SimAccount
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.fees import FeeDeduction
from pipeline.sim.exchange.history import shown_book
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.coins import coins, withdraw_fee
from pipeline.sim.wire.gateio.api import DAY_S, Route, empty_list, page, span_ms
from pipeline.sim.wire.gateio.formats import ApiRequest, GateError
from pipeline.sim.wire.gateio.spot_rows import GT
from pipeline.sim.wire.numbers import exact_text

_SPAN_MAX_S = 30 * DAY_S
_KINDS = {
    "deposit": "deposit",
    "withdraw": "withdraw",
    "order-match": "order_fill",
    "fee": "order_fee",
    "trade-fee-deduct": "order_fee",
    "point-fee": "order_fee",
}
_CODES = {"order_fill": "101", "order_fee": "151"}  # those of money moved from outside are not known
_ACCOUNTS = ("spot", "futures")


class WalletApi:
    """Handlers about coins and money between accounts; ``futures``: the same user's futures venue, if simulated."""

    def __init__(self, venue: SimVenue, futures: SimVenue | None) -> None:
        self._venue = venue
        self._futures = futures
        self._moves = 0

    def routes(self) -> dict[tuple[str, str], Route]:
        wallet = "/api/v4/wallet"
        return {
            ("GET", f"{wallet}/currency_chains"): Route(self._chains, "currencies", False),
            ("GET", f"{wallet}/deposit_address"): Route(self._address, "currencies"),
            ("GET", f"{wallet}/withdraw_status"): Route(self._withdraw_status, "currencies"),
            ("GET", f"{wallet}/deposits"): Route(self._deposits, "account_book"),
            ("GET", f"{wallet}/withdrawals"): Route(self._withdrawals, "account_book"),
            ("GET", f"{wallet}/total_balance"): Route(self._total, "balances"),
            ("GET", f"{wallet}/sub_account_balances"): Route(empty_list, "balances"),
            ("GET", f"{wallet}/saved_address"): Route(empty_list, "currencies"),
            ("POST", f"{wallet}/transfers"): Route(self._transfer, "other"),
            ("GET", "/api/v4/spot/account_book"): Route(self._book, "account_book"),
            ("GET", "/api/v4/account/rate_limit"): Route(self._rate_limit, "other"),
            ("GET", "/api/v4/account/debit_fee"): Route(self._debit_fee, "other"),
            ("POST", "/api/v4/account/debit_fee"): Route(self._set_debit_fee, "other"),
        }

    def _coin(self, name: str) -> CoinIdentity:
        for coin in coins(self._venue):
            if coin.asset == name:
                return coin
        raise GateError("INVALID_CURRENCY", f"Invalid currency {name}")

    async def _chains(self, call: ApiRequest) -> Any:
        coin = self._coin(call.required("currency"))
        closed = not coin.deposit_enabled and not coin.withdraw_enabled
        return [
            {
                "chain": network.upper(),
                "name_cn": network.upper(),
                "name_en": network.upper(),
                "contract_address": contract,
                "is_disabled": int(closed),
                "is_deposit_disabled": int(not coin.deposit_enabled),
                "is_withdraw_disabled": int(not coin.withdraw_enabled),
                "is_tag": 0,
                "decimal": "8",
            }
            for network, contract in coin.networks
        ]

    async def _address(self, call: ApiRequest) -> Any:
        """An address without an owner: the text of a hash."""
        coin = self._coin(call.required("currency"))
        chains = [
            {
                "chain": network.upper(),
                "address": _address_text(call.owner, coin.asset, network),
                "payment_id": "",
                "payment_name": "",
                "obtain_failed": 0 if coin.deposit_enabled else 1,
            }
            for network, _ in coin.networks
        ]
        first = chains[0]["address"] if chains else ""
        return {"currency": coin.asset, "address": first, "min_confirms": 1, "multichain_addresses": chains}

    async def _withdraw_status(self, call: ApiRequest) -> Any:
        wanted = call.text("currency")
        chosen = [self._coin(wanted)] if wanted else coins(self._venue)
        return [
            {
                "currency": coin.asset,
                "name": coin.asset,
                "name_cn": coin.asset,
                "deposit": "0",
                "withdraw_percent": "0%",
                "withdraw_fix": "0.1",
                "withdraw_day_limit": "1000000",
                "withdraw_day_limit_remain": "1000000",
                "withdraw_amount_mini": "1",
                "withdraw_eachtime_limit": "1000000",
                "withdraw_fix_on_chains": {
                    network.upper(): withdraw_fee(coin.asset, network) for network, _ in coin.networks
                },
                "withdraw_percent_on_chains": {network.upper(): "0%" for network, _ in coin.networks},
            }
            for coin in chosen
        ]

    # --- money ---

    def _moved(self, call: ApiRequest, reason: str) -> list[dict[str, Any]]:
        """Records of one kind, newest first, 30 days at most."""
        start_ms, end_ms = span_ms(call, default_s=7 * DAY_S)
        if end_ms - start_ms > _SPAN_MAX_S * 1000 + 999:
            raise GateError("INVALID_PARAM_VALUE", "time range cannot exceed 30 days")
        wanted = call.text("currency")
        found = [
            one
            for one in reversed(shown_book(call.owner, call.now_ms))
            if one.reason == reason and start_ms <= one.ts_ms <= end_ms and wanted in ("", one.asset)
        ]
        return [
            {
                "id": f"{reason[0]}{one.entry_id}",
                "timestamp": str(one.ts_ms // 1000),
                "withdraw_order_id": "",
                "currency": one.asset,
                "address": "",
                "txid": hashlib.sha256(f"{reason}{one.entry_id}".encode()).hexdigest(),
                "amount": exact_text(abs(one.change)),
                "memo": "",
                "status": "DONE",
                "chain": self._chain_of(one.asset),
            }
            for one in page(found, call, most=500)
        ]

    def _chain_of(self, asset: str) -> str:
        networks = next((coin.networks for coin in coins(self._venue) if coin.asset == asset), ())
        return networks[0][0].upper() if networks else ""

    async def _deposits(self, call: ApiRequest) -> Any:
        return self._moved(call, "deposit")

    async def _withdrawals(self, call: ApiRequest) -> Any:
        return self._moved(call, "withdraw")

    def _futures_account(self, account: SimAccount) -> SimAccount | None:
        if self._futures is None:
            return None
        return next((one for one in self._futures.accounts.values() if one.uid == account.uid), None)

    async def _total(self, call: ApiRequest) -> Any:
        """Everything valued in USDT at the simulated prices."""
        spot = ZERO
        for asset, wallet in call.owner.wallets.items():
            price = Decimal(1) if asset == "USDT" else self._price(asset)
            spot += wallet.total * price
        futures = unrealised = ZERO
        account = self._futures_account(call.owner)
        if self._futures is not None and account is not None:
            margin = self._futures.margin_account(account)
            futures, unrealised = margin.total, margin.unrealised_pnl

        def row(amount: Decimal, gain: Decimal = ZERO) -> dict[str, str]:
            value = {"amount": exact_text(round(amount, 8)), "currency": "USDT"}
            return value | {"unrealised_pnl": exact_text(round(gain, 8)), "borrowed": "0"}

        return {"details": {"spot": row(spot), "futures": row(futures, unrealised)}, "total": row(spot + futures)}

    def _price(self, asset: str) -> Decimal:
        found = self._venue.instruments.get(f"{asset}_USDT")
        return found.reference_price() if found is not None else ZERO

    async def _transfer(self, call: ApiRequest) -> Any:
        """Between spot and futures of the same user: out of one ledger account, into the other."""
        asset, amount = call.required("currency"), call.decimal("amount")
        origin, target = call.required("from"), call.required("to")
        account = self._futures_account(call.owner)
        known = self._futures is not None and account is not None
        if {origin, target} != set(_ACCOUNTS) or not known or amount <= 0:
            raise GateError("INVALID_PARAM_VALUE", f"cannot transfer {amount} from {origin} to {target}")
        assert self._futures is not None
        assert account is not None
        if call.required("settle").lower() != "usdt" or asset != self._futures.settle_asset:
            raise GateError("INVALID_PARAM_VALUE", "Invalid request parameter `settle` value")
        if origin == "spot":
            free = call.owner.wallet(asset).free
        else:
            free = self._futures.margin_account(account).available
        if free < amount:
            raise GateError("BALANCE_NOT_ENOUGH", "Not enough balance")
        sign = -1 if origin == "spot" else 1
        self._venue.settlement.external(call.owner, asset, sign * amount, "deposit" if sign > 0 else "withdraw")
        self._futures.settlement.external(account, asset, -sign * amount, "withdraw" if sign > 0 else "deposit")
        self._moves += 1
        return {"tx_id": call.now_ms * 1000 + self._moves}

    async def _book(self, call: ApiRequest) -> Any:
        """Newest first."""
        start_ms, end_ms = span_ms(call, default_s=7 * DAY_S)
        kind, asset = call.text("type"), call.text("currency")
        found = [
            one
            for one in reversed(shown_book(call.owner, call.now_ms))
            if start_ms <= one.ts_ms <= end_ms
            and kind in ("", _KINDS.get(one.reason, "unknown"))
            and asset in ("", one.asset)
        ]
        return [_book_row(one) for one in page(found, call)]

    # --- account ---

    async def _rate_limit(self, call: ApiRequest) -> Any:
        return [{"tier": "1", "ratio": "0", "main_ratio": "0", "updated_at": str(call.now_ms // 1000)}]

    async def _debit_fee(self, call: ApiRequest) -> Any:
        deduction = call.owner.fee_deduction
        return {"enabled": deduction is not None and deduction.coin == GT and deduction.enabled}

    async def _set_debit_fee(self, call: ApiRequest) -> Any:
        """Switches fees in GT on or off, at the simulated price of a scenario (1 without one)."""
        call.required("enabled")
        deduction = call.owner.fee_deduction
        if deduction is None or deduction.coin != GT:
            deduction = call.owner.fee_deduction = FeeDeduction(coin=GT)
        deduction.enabled = call.flag("enabled")
        return {"enabled": deduction.enabled}


def _book_row(entry: BookEntry) -> dict[str, Any]:
    return {
        "id": str(entry.entry_id),
        "time": entry.ts_ms,
        "currency": entry.asset,
        "change": exact_text(entry.change),
        "balance": exact_text(entry.balance),
        "type": _KINDS.get(entry.reason, "unknown"),
        "code": _CODES.get(_KINDS.get(entry.reason, ""), ""),
        "text": str(entry.order_id) if entry.order_id else "",
    }


def _address_text(account: SimAccount, asset: str, network: str) -> str:
    return "sim" + hashlib.sha256(f"{account.uid}:{asset}:{network}".encode()).hexdigest()[:32]
