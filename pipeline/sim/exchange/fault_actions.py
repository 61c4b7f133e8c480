"""Fault rules that act at once on the venues: halts, closed wallets, moved money, forced orders, changed steps."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce, TradingStatus
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.faults import ACTION_KINDS, BadFault, FaultRule
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.orders import SimOrderRequest, SimReject
from pipeline.sim.exchange.venue import SimVenue


def apply_action(venues: dict[str, SimVenue], rule: FaultRule) -> int:
    """Carries out a rule of ``ACTION_KINDS`` on the venues that it names; returns how many objects it changed.

    Not ``disconnect`` and ``burst``, which need sockets and the market: the server does those. Raises ``BadFault``.
    """
    if rule.kind not in ACTION_KINDS:
        raise BadFault(f"not an action: {rule.kind}")
    touched = 0
    for venue in venues.values():
        if rule.venue not in ("*", venue.name):
            continue
        if rule.kind == "clock_skew":
            venue.skew_ms = int(rule.delay_ms)
            touched += 1
        elif rule.kind in ("withdraw", "deposit"):
            touched += _move_money(venue, rule)
        elif rule.kind in ("close_wallet", "open_wallet"):
            touched += _switch_wallet(venue, rule)
        else:
            touched += _act_on_symbols(venue, rule)
    return touched


def _move_money(venue: SimVenue, rule: FaultRule) -> int:
    amount = Decimal(str(rule.amount)) * (1 if rule.kind == "deposit" else -1)
    touched = 0
    for account in {id(one): one for one in venue.accounts.values()}.values():
        if amount and account.wallet(rule.asset).free + amount >= ZERO:
            venue.settlement.external(account, rule.asset, amount, rule.kind)
            touched += 1
    return touched


def _switch_wallet(venue: SimVenue, rule: FaultRule) -> int:
    is_open = rule.kind == "open_wallet"
    touched = 0
    for row in venue.instruments.values():
        if rule.asset in ("", "*", row.base):
            row.identity = msgspec.structs.replace(row.identity, deposit_enabled=is_open, withdraw_enabled=is_open)
            touched += 1
    return touched


def _act_on_symbols(venue: SimVenue, rule: FaultRule) -> int:
    touched = 0
    for symbol, row in venue.instruments.items():
        if rule.symbol not in ("*", symbol):
            continue
        touched += 1
        if rule.kind == "halt_symbol":
            row.status = TradingStatus.HALTED
        elif rule.kind == "resume_symbol":
            row.status = TradingStatus.TRADING
        elif rule.kind == "funding" and row.is_futures:
            venue.apply_funding(symbol)
        elif rule.kind in ("change_tick", "change_lot"):
            _change_row(row, rule)
        elif rule.kind == "manual_order":
            _manual_order(venue, symbol, Decimal(str(rule.amount)))
        else:
            for account in {id(one): one for one in venue.accounts.values()}.values():
                if rule.kind == "cancel_orders":
                    venue.cancel_all(account, symbol)
                elif rule.kind == "liquidate" and row.is_futures:
                    venue.force_close(account, symbol, "liquidated")
    return touched


def _change_row(row: SimInstrument, rule: FaultRule) -> None:
    factor = Decimal(str(rule.amount))
    if factor < 1 or factor != int(factor):
        raise BadFault(f"{rule.kind} wants a whole factor from 1: amount={rule.amount}")
    if rule.kind == "change_tick":
        row.coarsen_tick(int(factor))
    else:
        row.coarsen_lot(int(factor))


def _manual_order(venue: SimVenue, symbol: str, amount: Decimal) -> None:
    account = next(iter(venue.accounts.values()))
    side = OrderSide.BUY if amount > 0 else OrderSide.SELL
    request = SimOrderRequest(
        symbol=symbol, side=side, kind=OrderKind.MARKET, tif=TimeInForce.IOC, qty=abs(amount), client_id=""
    )
    try:
        venue.place(account, request)
    except SimReject as refusal:
        raise BadFault(str(refusal)) from refusal
