"""Fault rules that act at once on the venues: halts, closed wallets, moved money, forced orders, changed steps."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation

import msgspec

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce, TradingStatus
from pipeline.sim.exchange.accounts import ACCOUNT_MODES, SimAccount
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.faults import ACTION_KINDS, BadFault, FaultRule
from pipeline.sim.exchange.futures.delisting import announce
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.orders import SimOrderRequest, SimReject
from pipeline.sim.exchange.venue import SimVenue

_FORCED = {"liquidate": "liquidation", "adl": "adl"}
_OF_ACCOUNTS = frozenset({"cancel_orders", "change_leverage", *_FORCED})


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
        elif rule.kind == "change_mode":
            touched += _change_mode(venue, rule.text)
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


def _change_mode(venue: SimVenue, mode: str) -> int:
    if mode not in (*ACCOUNT_MODES, "single", "dual"):
        raise BadFault(f"change_mode wants single, dual or one of {ACCOUNT_MODES} as text: text={mode!r}")
    accounts = list({id(one): one for one in venue.accounts.values()}.values())
    for account in accounts:
        if mode in ACCOUNT_MODES:
            account.account_mode = mode
        elif any(row.qty for row in account.positions.values()) or venue.open_orders(account):
            raise BadFault(f"change_mode {mode}: the account has positions or orders")
        else:
            account.dual_side = mode == "dual"
    return len(accounts)


def _change_leverage(venue: SimVenue, account: SimAccount, symbol: str, rule: FaultRule) -> None:
    if rule.text not in ("", "isolated", "cross"):
        raise BadFault(f"change_leverage wants isolated or cross as text: text={rule.text!r}")
    leverage, is_cross = Decimal(str(rule.amount)), rule.text == "cross" if rule.text else None
    if leverage < 1:
        raise BadFault(f"change_leverage wants an amount from 1: amount={rule.amount}")
    try:
        venue.set_leverage(account, symbol, leverage, is_cross=is_cross)
    except SimReject as refusal:
        raise BadFault(str(refusal)) from refusal


def _switch_wallet(venue: SimVenue, rule: FaultRule) -> int:
    is_open = rule.kind == "open_wallet"
    touched = 0
    for row in venue.instruments.values():
        if rule.asset in ("", "*", row.base):
            row.identity = msgspec.structs.replace(row.identity, deposit_enabled=is_open, withdraw_enabled=is_open)
            touched += 1
    return touched


def _act_on_symbols(venue: SimVenue, rule: FaultRule) -> int:
    wanted = (row for symbol, row in venue.instruments.items() if rule.symbol in ("*", symbol))
    return sum(_act_on_symbol(venue, row, rule) for row in wanted)


def _act_on_symbol(venue: SimVenue, row: SimInstrument, rule: FaultRule) -> int:
    """How much was changed: 0 where there was nothing to act on, a position or an order."""
    symbol = row.symbol
    if rule.kind in _OF_ACCOUNTS:
        accounts = {id(one): one for one in venue.accounts.values()}.values()
        return sum(_act_on_account(venue, account, row, rule) for account in accounts)
    if rule.kind == "halt_symbol":
        row.status = TradingStatus.HALTED
    elif rule.kind == "resume_symbol":
        row.status = TradingStatus.TRADING
    elif rule.kind == "funding":
        if not row.is_futures:
            return 0
        venue.apply_funding(symbol)
    elif rule.kind == "announce_delisting":
        starts_in_ns, lasts_ns = int(rule.delay_ms * NS_PER_MS), int(rule.duration_ms * NS_PER_MS)
        announce(venue, symbol, starts_in_ns=starts_in_ns, lasts_ns=lasts_ns)
    elif rule.kind == "change_fee":
        _change_fee(row, rule)
    elif rule.kind in ("change_tick", "change_lot"):
        _change_row(row, rule)
    elif rule.kind == "manual_order":
        _manual_order(venue, row, rule)
    return 1


def _act_on_account(venue: SimVenue, account: SimAccount, row: SimInstrument, rule: FaultRule) -> int:
    if rule.kind == "cancel_orders":
        return len(venue.cancel_all(account, row.symbol))
    if not row.is_futures:
        return 0
    if rule.kind == "change_leverage":
        _change_leverage(venue, account, row.symbol, rule)
        return 1
    price = _price(rule.text) if rule.kind == "adl" and rule.text else None
    qty = _base_qty(row, rule)
    return int(venue.force_close(account, row.symbol, _FORCED[rule.kind], qty=qty, price=price) is not None)


def _change_fee(row: SimInstrument, rule: FaultRule) -> None:
    taker, maker = Decimal(str(rule.amount)), _number(rule.text) if rule.text else Decimal(row.maker_fee_ppm)
    if taker != int(taker) or maker is None or maker != int(maker):
        raise BadFault(f"change_fee wants whole ppm: amount={rule.amount} text={rule.text!r}")
    row.taker_fee_ppm, row.maker_fee_ppm = int(taker), int(maker)


def _base_qty(row: SimInstrument, rule: FaultRule) -> Decimal:
    """``amount`` in base coins, 0 = all; raises ``BadFault`` off the book's unit."""
    qty = Decimal(str(rule.amount))
    if qty < 0 or qty % row.unit:
        raise BadFault(f"{rule.kind} wants an amount from 0 in steps of {row.unit} {row.base}: amount={rule.amount}")
    return qty


def _price(text: str) -> Decimal:
    price = _number(text)
    if price is None or price <= 0:
        raise BadFault(f"adl wants a price as text: text={text!r}")
    return price


def _number(text: str) -> Decimal | None:
    """A finite number, or None."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _change_row(row: SimInstrument, rule: FaultRule) -> None:
    factor = Decimal(str(rule.amount))
    if factor < 1 or factor != int(factor):
        raise BadFault(f"{rule.kind} wants a whole factor from 1: amount={rule.amount}")
    if rule.kind == "change_tick":
        row.coarsen_tick(int(factor))
    else:
        row.coarsen_lot(int(factor))


def _manual_order(venue: SimVenue, row: SimInstrument, rule: FaultRule) -> None:
    account, amount = next(iter(venue.accounts.values())), Decimal(str(rule.amount))
    price = _order_price(row, str(rule.price), is_buy=amount > 0) if rule.price else ZERO
    request = SimOrderRequest(
        symbol=row.symbol,
        side=OrderSide.BUY if amount > 0 else OrderSide.SELL,
        kind=OrderKind.LIMIT if price else OrderKind.MARKET,
        tif=TimeInForce.GTC if price else TimeInForce.IOC,
        qty=abs(amount),
        price=price,
        client_id=venue.client_id_prefix + rule.client_id if rule.client_id else "",
    )
    try:
        venue.place(account, request)
    except SimReject as refusal:
        raise BadFault(str(refusal)) from refusal


def _order_price(row: SimInstrument, text: str, *, is_buy: bool) -> Decimal:
    """A number, or percent from the mark, to the tick that is further from it."""
    value = _number(text.removesuffix("%"))
    price = row.reference_price() * (1 + value / 100) if value is not None and text.endswith("%") else value
    if price is None or price <= 0:
        raise BadFault(f"manual_order wants a price, or percent from the mark: price={text!r}")
    return (price / row.tick).to_integral_value(ROUND_FLOOR if is_buy else ROUND_CEILING) * row.tick
