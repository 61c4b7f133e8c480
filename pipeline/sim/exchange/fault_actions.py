"""Fault rules that act at once on the venues: halts, closed wallets, moved money, forced orders, changed steps."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import msgspec

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce, TradingStatus
from pipeline.sim.exchange.accounts import ACCOUNT_MODES, SimAccount
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.fault_kinds import FUNDING_RATE_MAX
from pipeline.sim.exchange.faults import ACTION_KINDS, BadFault, FaultRule, number
from pipeline.sim.exchange.futures.delisting import announce
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.orders import SimOrderRequest, SimReject
from pipeline.sim.exchange.venue import SimVenue

PRICE_RISE_MAX = 9  # tenfold: beyond it books of integers lose their depth
_FORCED = {"liquidate": "liquidation", "adl": "adl"}
_OF_ACCOUNTS = frozenset({"cancel_orders", "change_leverage", *_FORCED})
OF_THE_SERVER = frozenset({"disconnect", "burst", "move_price"})  # they need sockets or the market


def rule_of(raw: Any) -> FaultRule:
    """``FaultRule.parse``, and what an action could not do on any venue is refused now and not at its time."""
    rule = FaultRule.parse(raw)
    if rule.kind in _CHECKS:
        _CHECKS[rule.kind](rule)
    return rule


def apply_action(venues: dict[str, SimVenue], rule: FaultRule) -> int:
    """Carries out a rule of ``ACTION_KINDS`` on the venues that it names; returns how many objects it changed.

    Not those of ``OF_THE_SERVER``. Raises ``BadFault``.
    """
    if rule.kind not in ACTION_KINDS - OF_THE_SERVER:
        raise BadFault(f"{rule.kind}: nothing that a venue does by itself", rule.kind)
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
    touched, amount = 0, _money(rule) if rule.kind == "deposit" else -_money(rule)
    for account in {id(one): one for one in venue.accounts.values()}.values():
        if account.wallet(rule.asset).free + amount >= ZERO:
            venue.settlement.external(account, rule.asset, amount, rule.kind)
            touched += 1
    return touched


def _money(rule: FaultRule) -> Decimal:
    amount = Decimal(rule.amount)
    if amount <= 0:
        raise BadFault(f"{rule.kind}: amount: found {rule.amount}, wanted more than 0", rule.kind)
    return amount


def _change_mode(venue: SimVenue, mode: str) -> int:
    accounts = list({id(one): one for one in venue.accounts.values()}.values())
    for account in accounts:
        if mode in ACCOUNT_MODES:
            account.account_mode = mode
        elif any(row.qty for row in account.positions.values()) or venue.open_orders(account):
            raise BadFault(
                f"change_mode: found positions or orders of the account on {venue.name}, wanted none for {mode}",
                "change_mode",
            )
        else:
            account.dual_side = mode == "dual"
    return len(accounts)


def _change_leverage(venue: SimVenue, account: SimAccount, symbol: str, rule: FaultRule) -> None:
    leverage, is_cross = _leverage(rule), rule.text == "cross" if rule.text else None
    try:
        venue.set_leverage(account, symbol, leverage, is_cross=is_cross)
    except SimReject as refusal:
        raise BadFault(f"{rule.kind}: {venue.name} refuses: {refusal}", rule.kind) from refusal


def _leverage(rule: FaultRule) -> Decimal:
    leverage = Decimal(rule.amount)
    if leverage < 1:
        raise BadFault(f"change_leverage: amount: found {rule.amount}, wanted a leverage from 1", rule.kind)
    return leverage


def _switch_wallet(venue: SimVenue, rule: FaultRule) -> int:
    is_open = rule.kind == "open_wallet"
    touched = 0
    for row in venue.instruments.values():
        if rule.asset in ("*", row.base):
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
        return venue.apply_funding(symbol, _funding_rate(rule)) if row.is_futures else 0
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
    price = _price(rule) if rule.kind == "adl" and rule.text else None
    qty = _base_qty(row, rule)
    return int(venue.force_close(account, row.symbol, _FORCED[rule.kind], qty=qty, price=price) is not None)


def price_factor(rule: FaultRule) -> float:
    """What ``move_price`` multiplies a price with: ``amount`` is in bps, or in percent with that sign."""
    size = Decimal(rule.amount.removesuffix("%")) / (100 if rule.amount.endswith("%") else 10_000)
    if not -1 < size <= PRICE_RISE_MAX:
        wanted = f"bps, or percent as in -30%, above -100% and at most +{PRICE_RISE_MAX * 100}%"
        raise BadFault(f"move_price: amount: found {rule.amount}, wanted {wanted}", rule.kind)
    return float(1 + size)


def _funding_rate(rule: FaultRule) -> Decimal | None:
    """The rate of a payment by hand; None: the contract's own."""
    rate = number(rule.amount)
    if rate is not None and abs(rate) > Decimal(FUNDING_RATE_MAX):
        wanted = f"a rate from -{FUNDING_RATE_MAX} to {FUNDING_RATE_MAX} (0.0015 = 15 bps)"
        raise BadFault(f"funding: amount: found {rule.amount}, wanted {wanted}", rule.kind)
    return rate


def _change_fee(row: SimInstrument, rule: FaultRule) -> None:
    maker_ppm = _maker_ppm(rule)
    row.taker_fee_ppm = int(Decimal(rule.amount))
    row.maker_fee_ppm = row.maker_fee_ppm if maker_ppm is None else maker_ppm


def _maker_ppm(rule: FaultRule) -> int | None:
    """None: as before."""
    maker = number(rule.text) if rule.text else None
    if rule.text and (maker is None or maker != int(maker)):
        raise BadFault(f"change_fee: text: found {rule.text!r}, wanted whole ppm", rule.kind)
    return None if maker is None else int(maker)


def _base_qty(row: SimInstrument, rule: FaultRule) -> Decimal:
    """``amount`` in base coins, 0 = all; raises ``BadFault`` off the book's unit."""
    qty = _part(rule)
    if qty % row.unit:
        wanted = f"from 0 in steps of {row.unit} {row.base}"
        raise BadFault(f"{rule.kind}: amount: found {rule.amount}, wanted {wanted}", rule.kind)
    return qty


def _part(rule: FaultRule) -> Decimal:
    qty = Decimal(rule.amount)
    if qty < 0:
        raise BadFault(
            f"{rule.kind}: amount: found {rule.amount}, wanted from 0 (base coins; 0 = all of it)", rule.kind
        )
    return qty


def _price(rule: FaultRule) -> Decimal:
    price = number(rule.text)
    if price is None or price <= 0:
        raise BadFault(f"{rule.kind}: text: found {rule.text!r}, wanted a price above 0", rule.kind)
    return price


def _change_row(row: SimInstrument, rule: FaultRule) -> None:
    factor = _factor(rule)
    if rule.kind == "change_tick":
        row.coarsen_tick(factor)
    else:
        row.coarsen_lot(factor)


def _factor(rule: FaultRule) -> int:
    factor = int(Decimal(rule.amount))
    if factor < 1:
        raise BadFault(f"{rule.kind}: amount: found {rule.amount}, wanted a whole factor from 1", rule.kind)
    return factor


def _manual_order(venue: SimVenue, row: SimInstrument, rule: FaultRule) -> None:
    account, amount = next(iter(venue.accounts.values())), _ordered(rule)
    price = _order_price(row, rule.price, is_buy=amount > 0) if rule.price else ZERO
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
        raise BadFault(f"{rule.kind}: {venue.name} refuses: {refusal}", rule.kind) from refusal


def _ordered(rule: FaultRule) -> Decimal:
    amount = Decimal(rule.amount)
    if not amount:
        raise BadFault("manual_order: amount: found 0, wanted base coins; negative sells", rule.kind)
    return amount


def _order_price(row: SimInstrument, text: str, *, is_buy: bool) -> Decimal:
    """A number, or percent from the mark, to the tick that is further from it."""
    factor, price = _asked_price(text)
    price = price or row.reference_price() * factor
    return (price / row.tick).to_integral_value(ROUND_FLOOR if is_buy else ROUND_CEILING) * row.tick


def _asked_price(text: str) -> tuple[Decimal, Decimal]:
    """(factor of the mark, 0), or (0, price)."""
    value = number(text.removesuffix("%"))
    found = (1 + value / 100 if text.endswith("%") else value) if value is not None else ZERO
    if found <= 0:
        wanted = "a price above 0, or percent from the mark as in -3%"
        raise BadFault(f"manual_order: price: found {text!r}, wanted {wanted}", "manual_order")
    return (found, ZERO) if text.endswith("%") else (ZERO, found)


def _check_forced(rule: FaultRule) -> None:
    _part(rule)
    if rule.text:
        _price(rule)


def _check_order(rule: FaultRule) -> None:
    _ordered(rule)
    if rule.price:
        _asked_price(rule.price)


#: What each refuses whatever the venues are like.
_CHECKS: dict[str, Callable[[FaultRule], object]] = {
    "move_price": price_factor,
    "withdraw": _money,
    "deposit": _money,
    "liquidate": _part,
    "adl": _check_forced,
    "funding": _funding_rate,
    "manual_order": _check_order,
    "change_tick": _factor,
    "change_lot": _factor,
    "change_fee": _maker_ppm,
    "change_leverage": _leverage,
}
