"""Gate.io account: its details, its keys' rights, and its mode (classic or unified). Modes are shown, not simulated.

In a unified mode spot and futures would share one pot; here they keep their own wallets, so that a client can read the
mode and refuse to trade. Source: Gate.io APIv4 "Account", "Unified".
"""

from __future__ import annotations

from typing import Any

from pipeline.sim.exchange.accounts import ACCOUNT_MODES, SimAccount
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.gateio.api import Route
from pipeline.sim.wire.gateio.formats import ApiRequest, GateError
from pipeline.sim.wire.numbers import exact_text

CLASSIC = "classic"
_SETTINGS = {"usdt_futures": True, "spot_hedge": False, "use_funding": False, "options": False}


class AccountModesApi:
    """Handlers of one user's account; ``futures``: the same user's futures venue, if simulated."""

    def __init__(self, venue: SimVenue, futures: SimVenue | None) -> None:
        self._venue = venue
        self._futures = futures

    def routes(self) -> dict[tuple[str, str], Route]:
        unified = "/api/v4/unified"
        return {
            ("GET", "/api/v4/account/detail"): Route(self._detail, "other"),
            ("GET", "/api/v4/account/main_keys"): Route(self._main_keys, "other"),
            ("GET", f"{unified}/accounts"): Route(self._accounts, "balances"),
            ("GET", f"{unified}/unified_mode"): Route(self._mode, "other"),
            ("PUT", f"{unified}/unified_mode"): Route(self._set_mode, "other", True, 204),
            ("GET", f"{unified}/delta_neutral"): Route(self._delta_neutral, "other"),
        }

    def _both(self, account: SimAccount) -> list[SimAccount]:
        """The user's spot and futures wallets."""
        others = self._futures.accounts.values() if self._futures is not None else ()
        return [account, *{id(one): one for one in others if one.uid == account.uid}.values()]

    async def _detail(self, call: ApiRequest) -> Any:
        """``key.mode``: 1 classic, 2 unified."""
        return {
            "user_id": int(call.owner.uid),
            "ip_whitelist": [],
            "currency_pairs": [],
            "tier": 0,
            "key": {"mode": 1 if call.owner.account_mode == CLASSIC else 2},
            "copy_trading_role": 0,
        }

    async def _main_keys(self, call: ApiRequest) -> Any:
        """Rights of the key that asks. No right to withdraw is among the names."""
        key = call.owner.keys.get(call.api_key)
        read_only = key is None or not key.can_trade
        return {
            "state": 1,
            "mode": 1 if call.owner.account_mode == CLASSIC else 2,
            "name": ["key"],
            "user_id": int(call.owner.uid),
            "currency_pairs": [],
            "ip_whitelist": [],
            "perms": [{"name": name, "read_only": read_only} for name in ("wallet", "spot", "futures")],
            "created_at": "0",
            "updated_at": "0",
            "last_access": str(call.now_ms // 1000),
        }

    async def _mode(self, call: ApiRequest) -> Any:
        return {"mode": call.owner.account_mode, "settings": dict(_SETTINGS)}

    async def _set_mode(self, call: ApiRequest) -> Any:
        """Needs an account without futures positions and orders."""
        mode = call.required("mode")
        if mode not in ACCOUNT_MODES:
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `mode` value: {mode}")
        accounts = self._both(call.owner)
        if any(row.qty for one in accounts for row in one.positions.values()):
            raise GateError("POSITION_HOLDING", "there are open positions")
        venues = [self._venue, *([self._futures] if self._futures is not None else [])]
        if any(venue.open_orders(one) for venue in venues for one in accounts):
            raise GateError("ORDER_PENDING", "there are open orders")
        for one in accounts:
            one.account_mode = mode
        return {}

    async def _delta_neutral(self, call: ApiRequest) -> Any:
        return {"enabled": False}

    async def _accounts(self, call: ApiRequest) -> Any:
        """The shared pot of a unified account; a classic account has none."""
        account = call.owner
        if account.account_mode == CLASSIC:
            raise GateError("USER_NOT_FOUND", "the account is not in unified mode")
        balances: dict[str, Any] = {}
        total = ZERO
        for one in self._both(account):
            for asset, wallet in one.wallets.items():
                row = balances.setdefault(asset, {"available": ZERO, "freeze": ZERO})
                row["available"] += wallet.free
                row["freeze"] += wallet.locked
        for asset, row in balances.items():
            equity = row["available"] + row["freeze"]
            listed = self._venue.instruments.get(f"{asset}_{self._venue.settle_asset}")
            total += equity * (listed.reference_price() if listed is not None else asset == self._venue.settle_asset)
            balances[asset] = {
                "available": exact_text(row["available"]),
                "freeze": exact_text(row["freeze"]),
                "equity": exact_text(equity),
                "cross_balance": exact_text(equity),
                "borrowed": "0",
                "iso_balance": "0",
                "total_liab": "0",
                "mm": "0",
                "mmr": "0",
            }
        value = exact_text(round(total, 8))
        return {
            "user_id": int(account.uid),
            "refresh_time": call.now_ms,
            "mode": account.account_mode,
            "locked": False,
            "balances": balances,
            "total": value,
            "borrowed": "0",
            "total_initial_margin": "0",
            "total_margin_balance": value,
            "total_maintenance_margin": "0",
            "total_initial_margin_rate": "0",
            "total_maintenance_margin_rate": "0",
            "total_available_margin": value,
            "unified_account_total": value,
            "unified_account_total_liab": "0",
            "unified_account_total_equity": value,
            "leverage": "0",
            "spot_hedge": False,
            "use_funding": False,
        }
