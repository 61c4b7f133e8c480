"""Binance USDⓈ-M user stream: listen keys, and account events of a venue as the venue writes them.

Source: Binance USDⓈ-M futures API, user data streams (read 2026). A key lives 60 minutes from its last extension; an
account has one.
"""

from __future__ import annotations

import hashlib
from typing import Any

from pipeline.model.enums import OrderKind
from pipeline.sim.exchange.accounts import SimAccount, SimPosition
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.events import AccountEvent, BalanceEvent, OrderEvent, PositionEvent, TradeEvent
from pipeline.sim.exchange.futures.margin import unrealised
from pipeline.sim.exchange.futures.positions import positions_of
from pipeline.sim.exchange.orders import SimOrder, SimTrade
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.binance.formats import BinanceError, side_text
from pipeline.sim.wire.binance.futures_rows import (
    EXPIRY_REASONS,
    SIDES,
    TIF_TEXT,
    client_id,
    order_side,
    order_status,
    places,
)
from pipeline.sim.wire.numbers import exact_text

LIFE_MS = 60 * 60_000
#: ``m`` of an account update by what moved the money; everything else is an order's.
_REASONS = {"deposit": "DEPOSIT", "withdraw": "WITHDRAW", "fund": "FUNDING_FEE"}


class ListenKeys:
    """Keys of one venue. Texts are derived from uid and a counter, so that a seeded run repeats itself."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[SimAccount, int]] = {}
        self._made = 0

    def create(self, account: SimAccount, now_ms: int) -> str:
        """The account's living key, extended, or a new one."""
        known = next((key for key, (owner, _) in self._keys.items() if owner is account), None)
        if known is None or self._keys[known][1] <= now_ms:
            self._made += 1
            known = hashlib.sha256(f"usdm:{account.uid}:{self._made}".encode()).hexdigest()
        self._keys[known] = (account, now_ms + LIFE_MS)
        return known

    def extend(self, account: SimAccount, now_ms: int) -> str:
        """Another 60 minutes. Raises ``BinanceError`` where the account has none."""
        known = next(
            (key for key, (owner, until_ms) in self._keys.items() if owner is account and until_ms > now_ms), None
        )
        if known is None:
            raise BinanceError(-1125, "This listenKey does not exist.")
        self._keys[known] = (account, now_ms + LIFE_MS)
        return known

    def close(self, account: SimAccount) -> None:
        """Ends the account's key."""
        self._keys = {key: row for key, row in self._keys.items() if row[0] is not account}

    def account_of(self, key: str, now_ms: int) -> SimAccount | None:
        """None when the key is unknown or has expired."""
        held = self._keys.get(key)
        return held[0] if held is not None and held[1] > now_ms else None

    def left_ms(self, key: str, now_ms: int) -> int:
        """How long a key still lives; 0 when it does not."""
        held = self._keys.get(key)
        return max(0, held[1] - now_ms) if held is not None else 0


def events_of(event: AccountEvent, account: SimAccount, venue: SimVenue) -> list[dict[str, Any]]:
    """The stream's events that tell an account event, oldest first. A full fill is reported by its last trade."""
    if isinstance(event, TradeEvent):
        return [_report(event.order, account, "TRADE", event.ts_ms, event.trade)]
    if isinstance(event, OrderEvent):
        status = order_status(event.order)
        if event.event == "put":
            return [_report(event.order, account, "NEW", event.ts_ms)]
        if event.event == "finish" and status in ("CANCELED", "EXPIRED", "EXPIRED_IN_MATCH"):
            return [_report(event.order, account, "CANCELED" if status == "CANCELED" else "EXPIRED", event.ts_ms)]
        return []
    if isinstance(event, BalanceEvent):
        return [_wallet_update(event, account, venue)]
    if isinstance(event, PositionEvent):
        return [_account_update("ORDER", event.ts_ms, [], [_position(event.position, venue)])]
    return []


def config_update(now_ms: int, symbol: str, leverage: int) -> dict[str, Any]:
    """A contract's leverage has been set."""
    return {"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms, "T": now_ms, "ac": {"s": symbol, "l": leverage}}


def _report(
    order: SimOrder, account: SimAccount, execution: str, ts_ms: int, trade: SimTrade | None = None
) -> dict[str, Any]:
    """``ORDER_TRADE_UPDATE``; a liquidation's execution is CALCULATED."""
    is_market = order.kind is OrderKind.MARKET
    if trade is not None and order.forced == "liquidation":
        execution = "CALCULATED"
    kind = "LIQUIDATION" if order.forced == "liquidation" else "MARKET" if is_market else "LIMIT"
    row: dict[str, Any] = {
        "s": order.symbol,
        "c": client_id(order),
        "S": side_text(order.side),
        "o": kind,
        "f": "GTC" if is_market else TIF_TEXT.get(order.tif, order.tif.name),
        "q": exact_text(order.qty),
        "p": exact_text(order.price),
        "ap": places(order.average_price),
        "sp": "0",
        "x": execution,
        "X": "NEW" if execution == "NEW" else order_status(order),
        "i": order.order_id,
        "l": exact_text(trade.qty) if trade else "0",
        "z": exact_text(order.filled_qty),
        "L": exact_text(trade.price) if trade else "0",
        "T": trade.ts_ms if trade else order.updated_ms,
        "t": trade.trade_id if trade else 0,
        "b": "0",
        "a": "0",
        "m": trade.is_maker if trade else False,
        "R": order.reduce_only and not account.dual_side,
        "wt": "CONTRACT_PRICE",
        "ot": kind,
        "ps": order_side(order, account),
        "cp": False,
        "rp": exact_text(trade.realised_pnl) if trade else "0",
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": "EXPIRE_MAKER",
        "pm": "NONE",
        "gtd": 0,
        "er": EXPIRY_REASONS.get(order.finish_as, "0") if execution == "EXPIRED" else "0",
    }
    if trade is not None:
        row |= {"N": trade.coin_asset or trade.fee_asset, "n": exact_text(trade.coin_fee or trade.fee)}
    return {"e": "ORDER_TRADE_UPDATE", "E": ts_ms, "T": ts_ms, "o": row}


def _wallet_update(event: BalanceEvent, account: SimAccount, venue: SimVenue) -> dict[str, Any]:
    """``bc``: the change without what trades earned and cost. Funding of isolated positions comes with them."""
    reason = _REASONS.get(event.reason, "ORDER")
    total = event.free + event.locked
    cross = total - venue.margin_account(account).isolated_margin if event.asset == venue.settle_asset else total
    change = event.change if reason != "ORDER" else ZERO
    wallet = {"a": event.asset, "wb": exact_text(total), "cw": exact_text(cross), "bc": exact_text(change)}
    held: list[dict[str, Any]] = []
    if reason == "FUNDING_FEE":
        rows = positions_of(account, event.symbol)
        held = [_position(one, venue) for one in rows if one.qty and not one.is_cross]
    return _account_update(reason, event.ts_ms, [wallet], held)


def _position(position: SimPosition, venue: SimVenue) -> dict[str, Any]:
    mark = venue.mark_price(position.symbol)
    return {
        "s": position.symbol,
        "pa": exact_text(position.qty),
        "ep": places(position.entry_price, 11),
        "bep": places(position.entry_price, 11),
        "cr": exact_text(position.realised_pnl),
        "up": places(unrealised(position, mark)),
        "mt": "cross" if position.is_cross else "isolated",
        "iw": "0" if position.is_cross else places(position.margin),
        "ps": SIDES[position.mode],
    }


def _account_update(
    reason: str, ts_ms: int, wallets: list[dict[str, Any]], held: list[dict[str, Any]]
) -> dict[str, Any]:
    return {"e": "ACCOUNT_UPDATE", "E": ts_ms, "T": ts_ms, "a": {"m": reason, "B": wallets, "P": held}}
