"""Binance account: REST balances, positions and fee switch; events of the spot user stream. Sans-I/O.

::

    {"subscriptionId":0,"event":{"e":"executionReport","E":1499405658658,"s":"ETHBTC","c":"mUvoqJxFIILMdfAW5iGSOW",
     "S":"BUY","o":"LIMIT","f":"GTC","q":"1.00000000","p":"0.10264410","C":"","x":"NEW","X":"NEW","r":"NONE",
     "i":4293153,"l":"0.00000000","z":"0.00000000","L":"0.00000000","n":"0","N":null,"T":1499405658657,"t":-1,
     "m":false,"Z":"0.00000000","Y":"0.00000000"}}
    {"subscriptionId":0,"event":{"e":"outboundAccountPosition","E":1564034571105,"u":1564034571073,
     "B":[{"a":"ETH","f":"10000.000000","l":"0.000000"}]}}
    {"subscriptionId":0,"event":{"e":"balanceUpdate","E":1573200697110,"a":"BTC","d":"100.00000000",
     "T":1573200697068}}

``balanceUpdate`` names neither a reason nor an id; the new balance comes in an ``outboundAccountPosition`` of its own.

*Source:* Binance spot API, user data stream; REST account; wallet API, BNB burn status (read 2026).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from decimal import Decimal

import msgspec

from pipeline.exchanges.binance.account_settings import wrong_mode
from pipeline.exchanges.binance.orders import STATES
from pipeline.exchanges.parsing.rows import OddRows, Rows, not_of_assets, not_of_symbols
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, lenient_ms, maybe_number, number
from pipeline.exchanges.transport.refusals import printable
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.enums import OrderSide
from pipeline.model.errors import ProtocolViolation
from pipeline.model.structs import ZERO, Balance, Fill, OrderUpdate, Position
from pipeline.model.venue_events import MoneyNotice

FEE_COIN = "BNB"
ONE_WAY = "BOTH"  # ``positionSide`` of the one position that a contract has in one-way mode
STREAM_ENDED = "eventStreamTerminated"
SHUTDOWN = "serverShutdown"
_TRADE = "TRADE"
#: Of order lists, and of coins that back a loan elsewhere: balances that change by it are pushed beside it.
_IGNORED = frozenset({"listStatus", "externalLockUpdate", STREAM_ENDED, SHUTDOWN})


class _SpotBalance(msgspec.Struct):
    asset: str
    free: Decimal
    locked: Decimal


class _SpotAccount(msgspec.Struct):
    balances: msgspec.Raw


class _FuturesBalance(msgspec.Struct):
    asset: str
    balance: Decimal
    availableBalance: Decimal


class _Position(msgspec.Struct):
    symbol: str
    positionAmt: Decimal
    entryPrice: Decimal = ZERO
    markPrice: Decimal = ZERO
    positionSide: str = ONE_WAY
    unRealizedProfit: Maybe = ABSENT
    liquidationPrice: Maybe = ABSENT
    isolatedWallet: Maybe = ABSENT
    notional: Maybe = ABSENT
    maintMargin: Maybe = ABSENT


class _Burn(msgspec.Struct):
    spotBNBBurn: bool


class _FuturesBurn(msgspec.Struct):
    feeBurn: bool


class _Kind(msgspec.Struct):
    e: str


class _Report(msgspec.Struct):
    """``executionReport``; a cancel's report has the cancel's id in ``c`` and the order's in ``C``."""

    s: str
    c: str
    S: str
    x: str
    X: str
    i: int
    z: Decimal
    Z: Decimal
    C: str = ""
    r: str = ""
    last_qty: Decimal = msgspec.field(name="l", default=ZERO)
    L: Decimal = ZERO
    n: Decimal | None = None
    N: str | None = None
    T: Maybe = ABSENT
    t: int = -1
    m: bool = False


class _Held(msgspec.Struct):
    a: str
    f: Decimal
    locked: Decimal = msgspec.field(name="l")


class _AccountPosition(msgspec.Struct):
    B: msgspec.Raw


class _BalanceUpdate(msgspec.Struct):
    a: str
    d: Decimal


_spot_account = msgspec.json.Decoder(_SpotAccount)
_spot_balances = Rows(_SpotBalance)
_futures_balances = Rows(_FuturesBalance)
_positions = Rows(_Position, of="symbol")
_burn = msgspec.json.Decoder(_Burn)
_futures_burn = msgspec.json.Decoder(_FuturesBurn)
_kind = msgspec.json.Decoder(_Kind)
_report = msgspec.json.Decoder(_Report)
_account_position = msgspec.json.Decoder(_AccountPosition)
_held = Rows(_Held)
_balance_update = msgspec.json.Decoder(_BalanceUpdate)

PrivateEvent = OrderUpdate | Fill | Balance | MoneyNotice


def parse_balances(
    venue: str,
    market: str,
    payload: bytes,
    recv_mono_ns: int,
    *,
    symbols: Collection[str] = (),
    odd: OddRows | None = None,
) -> list[Balance]:
    """GET /api/v3/account or /fapi/v3/balance. Raises ``ProtocolViolation`` where the balance of an asset of
    ``symbols`` cannot be read."""

    def balance(asset: str, free: Decimal, locked: Decimal) -> Balance:
        return Balance(
            venue=venue,
            asset=asset,
            free=number(free, venue),
            locked=number(locked, venue),
            recv_mono_ns=recv_mono_ns,
            source="rest",
        )

    foreign = not_of_assets(symbols, "asset")
    if market == "spot":

        def spot(row: _SpotBalance) -> Balance:
            return balance(row.asset, row.free, row.locked)

        rows = bytes(decode(_spot_account, payload, venue, "account").balances)
        return _spot_balances.read(rows, venue, "balances", spot, odd=odd, foreign=foreign)

    def futures(row: _FuturesBalance) -> Balance:
        locked = number(row.balance, venue) - number(row.availableBalance, venue)  # below 0: profit that backs margin
        return balance(row.asset, row.availableBalance, locked)

    return _futures_balances.read(payload, venue, "balance", futures, odd=odd, foreign=foreign)


def parse_positions(
    venue: str, payload: bytes, recv_mono_ns: int, *, symbols: Collection[str] = (), odd: OddRows | None = None
) -> list[Position]:
    """GET /fapi/v3/positionRisk; rows of size 0, and unreadable ones of contracts beside ``symbols``, are left out.

    ``liquidationPrice`` "0": no price liquidates. The row has no rate of maintenance: it is that of its amounts.
    Raises ``AccountSettingsWrong`` for one of two rows of a contract (hedge mode): its quantity alone is not what we
    hold."""

    def one(row: _Position) -> Position:
        if row.positionSide != ONE_WAY:
            raise wrong_mode(venue, row.positionSide)
        kept, notional = maybe_number(row.maintMargin, venue), maybe_number(row.notional, venue) or ZERO
        return Position(
            venue=venue,
            symbol=row.symbol,
            qty=number(row.positionAmt, venue),
            entry_price=number(row.entryPrice, venue),
            mark_price=number(row.markPrice, venue),
            recv_mono_ns=recv_mono_ns,
            margin=maybe_number(row.isolatedWallet, venue) or ZERO,
            unrealised_pnl=maybe_number(row.unRealizedProfit, venue) or ZERO,
            liquidation_price=maybe_number(row.liquidationPrice, venue),
            maintenance_rate=kept / abs(notional) if kept and notional else ZERO,
            maintenance_margin=kept,
        )

    foreign = not_of_symbols(symbols, "symbol")
    found = _positions.read(payload, venue, "positionRisk", one, odd=odd, foreign=foreign)
    return [position for position in found if position.qty != 0]


def parse_fee_switch(venue: str, market: str, payload: bytes) -> FeeSwitch:
    """GET /sapi/v1/bnbBurn: ``{"spotBNBBurn":true,"interestBNBBurn":false}``, or /fapi/v1/feeBurn:
    ``{"feeBurn":true}``; the discount is not in it."""
    if market == "futures":
        return FeeSwitch(FEE_COIN if decode(_futures_burn, payload, venue, "feeBurn").feeBurn else "")
    return FeeSwitch(FEE_COIN if decode(_burn, payload, venue, "bnbBurn").spotBNBBurn else "")


def event_kind(venue: str, payload: bytes) -> str:
    """``e`` of an event. Raises ``ProtocolViolation``."""
    return decode(_kind, payload, venue, "user stream event").e


def parse_event(
    venue: str,
    payload: bytes,
    recv_mono_ns: int,
    *,
    symbols: Collection[str] = (),
    odd: OddRows | None = None,
) -> Iterator[PrivateEvent]:
    """What one event of the user stream says. Raises ``ProtocolViolation``, for an unknown event too."""
    kind = event_kind(venue, payload)
    if kind == "executionReport":
        yield from _reported(venue, decode(_report, payload, venue, kind), recv_mono_ns)
    elif kind == "outboundAccountPosition":

        def balance(row: _Held) -> Balance:
            return Balance(
                venue=venue,
                asset=row.a,
                free=number(row.f, venue),
                locked=number(row.locked, venue),
                recv_mono_ns=recv_mono_ns,
                source="ws",
            )

        rows = bytes(decode(_account_position, payload, venue, kind).B)
        yield from _held.read(rows, venue, kind, balance, odd=odd, foreign=not_of_assets(symbols, "a"))
    elif kind == "balanceUpdate":
        moved = decode(_balance_update, payload, venue, kind)
        yield MoneyNotice(
            venue=venue, asset=moved.a, amount=number(moved.d, venue), reason=kind, recv_mono_ns=recv_mono_ns
        )
    elif kind not in _IGNORED:
        raise ProtocolViolation(f"{venue}: unknown event {kind!r} on the user stream", venue=venue)


def _reported(venue: str, row: _Report, recv_mono_ns: int) -> Iterator[Fill | OrderUpdate]:
    """A trade's report is a fill and the order after it, the fill first."""
    state = STATES.get(row.X)
    if state is None:
        raise ProtocolViolation(f"{venue}: unknown order status {row.X!r}", venue=venue)
    client_id, venue_wall_ms = row.C or row.c, lenient_ms(row.T)
    filled, quote = number(row.z, venue), number(row.Z, venue)
    if row.x == _TRADE:
        yield Fill(
            venue=venue,
            symbol=row.s,
            trade_id=str(row.t),
            order_id=str(row.i),
            client_id=client_id,
            side=OrderSide.BUY if row.S == "BUY" else OrderSide.SELL,
            qty=number(row.last_qty, venue),
            price=number(row.L, venue),
            fee=number(row.n, venue) if row.n is not None else ZERO,
            fee_asset=row.N or "",
            is_maker=row.m,
            venue_wall_ms=venue_wall_ms,
            recv_mono_ns=recv_mono_ns,
            source="ws",
        )
    yield OrderUpdate(
        venue=venue,
        symbol=row.s,
        client_id=client_id,
        order_id=str(row.i),
        state=state,
        filled_qty=filled,
        average_price=quote / filled if filled > 0 and quote > 0 else None,
        venue_wall_ms=venue_wall_ms,
        recv_mono_ns=recv_mono_ns,
        source="ws",
        reason=row.X if row.r in ("", "NONE") else f"{row.X}: {printable(row.r)}",
    )
