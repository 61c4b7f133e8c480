"""Bybit's account and position calls: wallet, positions, modes, leverage, margin, fees, log, coins, key.

Each simulated market has an account of its own, so that the wallet is that of the key's market. Coins lie on chains of
the instruments' identities.

Source: Bybit V5 documentation "Position", "Account", "Asset" (coin info), "User" (API key information).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.sim.exchange.accounts import SimPosition
from pipeline.sim.exchange.futures.positions import positions_of
from pipeline.sim.exchange.history import shown_book
from pipeline.sim.exchange.orders import SimReject
from pipeline.sim.wire.bybit import rows
from pipeline.sim.wire.bybit.market import BybitError
from pipeline.sim.wire.bybit.request import ApiRequest, Route
from pipeline.sim.wire.coins import coins, confirmations, withdraw_fee
from pipeline.sim.wire.numbers import rate_text

ISOLATED, CROSS, PORTFOLIO = "ISOLATED_MARGIN", "REGULAR_MARGIN", "PORTFOLIO_MARGIN"
UNIFIED_STATUS = 5  # a unified account of the second kind
SLOW_PER_S = 5


def routes() -> dict[tuple[str, str], Route]:
    return {
        ("GET", "/v5/account/wallet-balance"): Route(wallet_balance, "balances"),
        ("GET", "/v5/account/info"): Route(info, "other"),
        ("GET", "/v5/account/fee-rate"): Route(fee_rate, "fees", SLOW_PER_S),
        ("GET", "/v5/account/transaction-log"): Route(transaction_log, "account_book"),
        ("POST", "/v5/account/set-margin-mode"): Route(set_margin_mode, "leverage"),
        ("GET", "/v5/position/list"): Route(positions, "positions"),
        ("POST", "/v5/position/set-leverage"): Route(set_leverage, "leverage"),
        ("POST", "/v5/position/switch-mode"): Route(switch_mode, "leverage"),
        ("POST", "/v5/position/add-margin"): Route(add_margin, "leverage"),
        ("GET", "/v5/asset/coin/query-info"): Route(coin_info, "currencies", SLOW_PER_S),
        ("GET", "/v5/user/query-api"): Route(query_api, "other"),
        ("GET", "/v5/account/query-dcp-info"): Route(dcp_info, "other"),
    }


# --- money ---


def wallet_rows(call: ApiRequest) -> list[dict[str, Any]]:
    """Every coin of the wallet."""
    venue, found = call.venue, []
    settle = venue.settle_asset if call.category == "linear" else ""
    for asset, wallet in venue.wallets(call.account).items():
        margin = venue.shown_margin(call.account) if asset == settle else None
        locked = wallet.locked if call.category == "spot" else Decimal(0)
        found.append(rows.coin_row(asset, margin.total if margin else wallet.total, locked, margin))
    return found


async def wallet_balance(call: ApiRequest) -> dict[str, Any]:
    """The totals in USD are empty, as under isolated margin."""
    if call.required("accountType") != "UNIFIED":
        raise BybitError(10001, "accountType only support UNIFIED.")
    wanted = set(filter(None, call.text("coin").split(",")))
    shown = [row for row in wallet_rows(call) if not wanted or row["coin"] in wanted]
    totals = dict.fromkeys(("totalEquity", "totalWalletBalance", "totalMarginBalance", "totalAvailableBalance"), "")
    return {"list": [{"accountType": "UNIFIED", "accountIMRate": "", "accountMMRate": "", **totals, "coin": shown}]}


async def transaction_log(call: ApiRequest) -> dict[str, Any]:
    """Newest first."""
    start_ms, end_ms = call.span()
    kind, asset = call.text("type"), call.text("currency")
    found = [
        rows.log_row(entry, call.category)
        for entry in reversed(shown_book(call.account, call.now_ms))
        if start_ms <= entry.ts_ms <= end_ms and asset in ("", entry.asset)
    ]
    wanted = call.text("category", call.category) == call.category
    return call.page([row for row in found if wanted and kind in ("", row["type"])], 20, 50)


async def fee_rate(call: ApiRequest) -> dict[str, Any]:
    chosen = [call.instrument()] if call.text("symbol") else list(call.venue.instruments.values())
    found = [
        {
            "symbol": row.symbol,
            "takerFeeRate": rate_text(row.taker_fee_ppm),
            "makerFeeRate": rate_text(row.maker_fee_ppm),
        }
        for row in chosen
    ]
    return {"category": call.category, "list": found}


# --- positions ---


async def positions(call: ApiRequest) -> dict[str, Any]:
    """Of one contract, flat ones too; of a settlement coin those with a size."""
    if call.category != "linear":
        raise BybitError(10001, "params error: category is invalid")
    symbol = call.chosen_symbol()
    shown = call.venue.shown_positions(call.account, symbol)
    found = [
        rows.position_row(one, call.venue, call.account, pushed=False) for one in shown if symbol is not None or one.qty
    ]
    return call.page(found, 20, 200)


def _held(call: ApiRequest) -> list[SimPosition]:
    return [one for one in call.account.positions.values() if one.qty]


async def set_leverage(call: ApiRequest) -> dict[str, Any]:
    row = call.instrument()
    buy, sell = call.decimal("buyLeverage"), call.decimal("sellLeverage")
    if buy is None or buy != sell or not 1 <= buy <= row.tiers[0].leverage_max:
        raise BybitError(10001, "leverage invalid")
    held = positions_of(call.account, row.symbol)
    if all(one.leverage == buy for one in held):
        raise BybitError(110043, "leverage not modified")
    if any(_value(call, one) > _cap(call, one, buy) for one in held):
        raise BybitError(110013, "cannot set leverage due to risk limit level")
    try:
        call.venue.set_leverage(call.account, row.symbol, buy)
    except SimReject as reject:
        raise rows.refusal(reject, call.category) from reject
    return {}


def _value(call: ApiRequest, position: SimPosition) -> Decimal:
    return abs(position.qty) * call.venue.mark_price(position.symbol)


def _cap(call: ApiRequest, position: SimPosition, leverage: Decimal) -> Decimal:
    """The largest position that a leverage allows."""
    tiers = call.venue.instruments[position.symbol].tiers
    return max((tier.cap for tier in tiers if leverage <= tier.leverage_max), default=tiers[0].cap)


async def add_margin(call: ApiRequest) -> dict[str, Any]:
    row, amount = call.instrument(), call.params.get("margin")
    try:
        change = Decimal(str(amount))
    except ArithmeticError:
        raise BybitError(10001, "params error: margin is invalid") from None
    index = call.integer("positionIdx", 0)
    found = [one for one in positions_of(call.account, row.symbol) if rows.IDX[one.mode] == index]
    if not found or not found[0].qty:
        raise BybitError(110034, "There is no net position")
    if found[0].is_cross:
        raise BybitError(110015, "The current position is in cross_margin mode, not allowed to add margin")
    try:
        available = call.venue.margin_account(call.account).available
        call.venue.settlement.add_margin(call.account, found[0], change, available)
    except SimReject:
        raise BybitError(110014, "Available balance not enough to add margin") from None
    return rows.position_row(found[0], call.venue, call.account, pushed=False) | {"category": "linear"}


async def switch_mode(call: ApiRequest) -> dict[str, Any]:
    """0 one-way, 3 hedge; here always of the whole account."""
    mode = call.integer("mode", 99)
    if mode not in (0, 3):
        raise BybitError(10001, "params error: mode is invalid")
    if call.account.dual_side is (mode == 3):
        raise BybitError(110025, "Position mode is not modified")
    if call.venue.open_orders(call.account):
        raise BybitError(110028, "Open orders exist, so you cannot change position mode")
    if _held(call):
        raise BybitError(110024, "You have an existing position, so position mode cannot be switched")
    call.account.dual_side = mode == 3
    return {}


# --- account ---


def margin_mode(call: ApiRequest) -> str:
    if call.account.account_mode == "portfolio":
        return PORTFOLIO
    return CROSS if call.account.default_cross else ISOLATED


async def info(call: ApiRequest) -> dict[str, Any]:
    return {
        "marginMode": margin_mode(call),
        "updatedTime": "1700000000000",
        "unifiedMarginStatus": UNIFIED_STATUS,
        "dcpStatus": "OFF",
        "timeWindow": 10,
        "smpGroup": 0,
        "isMasterTrader": False,
        "spotHedgingStatus": "OFF",
    }


async def set_margin_mode(call: ApiRequest) -> dict[str, Any]:
    """The whole account's; refused while something is open."""
    mode = call.required("setMarginMode")
    if mode not in (ISOLATED, CROSS):
        raise BybitError(10001, "params error: setMarginMode is invalid")
    if _held(call) or call.venue.open_orders(call.account):
        raise BybitError(3400045, "Set margin mode failed")
    call.account.default_cross = mode == CROSS
    call.account.account_mode = "classic"
    for one in list(call.account.positions.values()):
        call.venue.set_leverage(call.account, one.symbol, one.leverage, is_cross=mode == CROSS)
    return {"reasons": []}


async def coin_info(call: ApiRequest) -> dict[str, Any]:
    wanted = call.text("coin")
    found = []
    for coin in coins(call.venue):
        if wanted not in ("", coin.asset):
            continue
        chains = [
            {
                "chain": network.upper(),
                "chainType": network.upper(),
                "confirmation": str(confirmations(network)),
                "withdrawFee": withdraw_fee(coin.asset, network) if coin.withdraw_enabled else "",
                "depositMin": "0",
                "withdrawMin": "0.001",
                "minAccuracy": "8",
                "chainDeposit": "1" if coin.deposit_enabled else "0",
                "chainWithdraw": "1" if coin.withdraw_enabled else "0",
                "withdrawPercentageFee": "0",
                "contractAddress": address,
            }
            for network, address in coin.networks
        ]
        found.append({"name": coin.asset, "coin": coin.asset, "remainAmount": "1000000", "chains": chains})
    return {"rows": found}


async def query_api(call: ApiRequest) -> dict[str, Any]:
    """A key bound to an address, without the right to withdraw."""
    key = next(one for one in call.account.keys.values() if one.api_key == call.params[KEY])
    rights = {"spot": {"Spot": ["SpotTrade"]}, "linear": {"ContractTrade": ["Order", "Position"]}}
    empty: dict[str, list[str]] = {"ContractTrade": [], "Spot": [], "Wallet": ["AccountTransfer"], "Options": []}
    return {
        "id": "1",
        "note": "simulated",
        "apiKey": key.api_key,
        "readOnly": 0 if key.can_trade else 1,
        "secret": "",
        "permissions": empty | rights[call.category],
        "ips": ["127.0.0.1"],
        "type": 1,
        "deadlineDay": 0,
        "uta": 1,
        "unified": 0,
        "userID": int(call.account.uid),
        "isMaster": False,
    }


async def dcp_info(call: ApiRequest) -> dict[str, Any]:
    """Disconnect protection is for institutions."""
    return {"dcpInfos": []}


KEY = "\0key"  # the key of the request among its parameters
