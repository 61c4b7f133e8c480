"""Binance USDⓈ-M user stream: frames of a listen key's socket -> events. Sans-I/O. Frames are raw, one event each::

    {"e":"ORDER_TRADE_UPDATE","E":1568879465651,"T":1568879465650,"o":{"s":"BTCUSDT","c":"TEST","S":"SELL","o":"LIMIT",
     "f":"GTC","q":"0.001","p":"10000","ap":"0","sp":"0","x":"NEW","X":"NEW","i":8886774,"l":"0","z":"0","L":"0",
     "N":"USDT","n":"0","T":1568879465650,"t":0,"m":false,"R":false,"ps":"BOTH","rp":"0","er":"0"}}
    {"e":"ACCOUNT_UPDATE","E":1564745798939,"T":1564745798938,"a":{"m":"ORDER","B":[{"a":"USDT","wb":"122624.12",
     "cw":"100.12","bc":"50.12"}],"P":[{"s":"BTCUSDT","pa":"20","ep":"6563.665","up":"2850.21","mt":"isolated",
     "iw":"13200.70","ps":"BOTH"}]}}
    {"e":"listenKeyExpired","E":1736996475556,"listenKey":"..."}

``ACCOUNT_UPDATE`` names changed entries only, with the wallet's total and not what is available: it shows that a REST
reading is due (:class:`WalletChanged`). Funding of a cross position comes without its contract. ``TRADE_LITE`` tells a
fill earlier and without its fee: the fill is taken from ``ORDER_TRADE_UPDATE``.

*Source:* Binance USDⓈ-M futures API, user data streams (read 2026).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from decimal import Decimal

import msgspec

from pipeline.exchanges.binance.account import ONE_WAY
from pipeline.exchanges.binance.orders import reason_of, state_of
from pipeline.exchanges.parsing.rows import OddRows, Rows, not_of_assets, not_of_symbols
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, lenient_ms, maybe_number, number
from pipeline.model.enums import OrderSide
from pipeline.model.errors import ProtocolViolation
from pipeline.model.structs import ZERO, Fill, OrderUpdate, Position
from pipeline.model.venue_events import FundingNotice, MoneyNotice

KEY_EXPIRED = "listenKeyExpired"
CONFIG_CHANGED = "ACCOUNT_CONFIG_UPDATE"
MARGIN_CALL = "MARGIN_CALL"
FUNDING = "FUNDING_FEE"
#: ``m`` of an ACCOUNT_UPDATE that moves no money that a list of orders or of funding would not explain.
EXPLAINED = frozenset({"ORDER", FUNDING, "MARGIN_TRANSFER", "MARGIN_TYPE_CHANGE"})
#: Executions of ``x`` that have a trade. CALCULATED: of a liquidation.
_TRADES = frozenset({"TRADE", "CALCULATED"})
_NOTHING_FOR_US = frozenset({"TRADE_LITE", "ALGO_UPDATE", "CONDITIONAL_ORDER_TRIGGER_REJECT", MARGIN_CALL})
_NOTHING_FOR_US |= {"STRATEGY_UPDATE", "GRID_UPDATE", KEY_EXPIRED, CONFIG_CHANGED}


class _Report(msgspec.Struct):
    s: str
    c: str
    S: str
    x: str
    X: str
    i: int
    z: Decimal
    last_qty: Decimal = msgspec.field(name="l", default=ZERO)
    L: Decimal = ZERO
    ap: Maybe = ABSENT
    n: Maybe = ABSENT
    N: str | None = None
    T: Maybe = ABSENT
    t: int = 0
    m: bool = False
    ps: str = ONE_WAY
    er: str = "0"


class _OrderEvent(msgspec.Struct):
    o: _Report


class _Wallet(msgspec.Struct):
    a: str
    wb: Decimal
    bc: Maybe = ABSENT


class _Held(msgspec.Struct):
    s: str
    pa: Decimal
    ep: Maybe = ABSENT
    up: Maybe = ABSENT
    iw: Maybe = ABSENT
    ps: str = ONE_WAY


class _Change(msgspec.Struct):
    m: str = ""
    B: msgspec.Raw = msgspec.Raw(b"[]")
    P: msgspec.Raw = msgspec.Raw(b"[]")


class _AccountEvent(msgspec.Struct):
    a: _Change
    T: Maybe = ABSENT


class _Kind(msgspec.Struct):
    e: str


class WalletChanged(msgspec.Struct, frozen=True):
    """A futures wallet changed: its total after it. Available margin must be asked by REST."""

    asset: str
    total: Decimal


_kind = msgspec.json.Decoder(_Kind)
_order_event = msgspec.json.Decoder(_OrderEvent)
_account_event = msgspec.json.Decoder(_AccountEvent)
_wallets = Rows(_Wallet, of="a")
_held = Rows(_Held, of="s")

FuturesEvent = OrderUpdate | Fill | Position | WalletChanged | FundingNotice | MoneyNotice


def event_kind(venue: str, payload: bytes | memoryview) -> str:
    """``e`` of an event. Raises ``ProtocolViolation``."""
    return decode(_kind, payload, venue, "user stream event").e


def parse_event(
    venue: str,
    payload: bytes | memoryview,
    recv_mono_ns: int,
    *,
    symbols: Collection[str] = (),
    odd: OddRows | None = None,
) -> Iterator[FuturesEvent]:
    """What one event says. Raises ``ProtocolViolation``, for an unknown event and for a position in hedge mode too."""
    kind = event_kind(venue, payload)
    if kind == "ORDER_TRADE_UPDATE":
        yield from _reported(venue, decode(_order_event, payload, venue, kind).o, recv_mono_ns)
    elif kind == "ACCOUNT_UPDATE":
        yield from _changed(venue, decode(_account_event, payload, venue, kind), recv_mono_ns, symbols, odd)
    elif kind not in _NOTHING_FOR_US:
        raise ProtocolViolation(f"{venue}: unknown event {kind!r} on the user stream", venue=venue)


def _reported(venue: str, row: _Report, recv_mono_ns: int) -> Iterator[Fill | OrderUpdate]:
    """A trade's report is a fill and the order after it, the fill first."""
    if row.ps != ONE_WAY:
        raise ProtocolViolation(f"{venue}: order {row.i} of position side {row.ps}, wanted {ONE_WAY}", venue=venue)
    filled, last, venue_wall_ms = number(row.z, venue), number(row.last_qty, venue), lenient_ms(row.T)
    average = maybe_number(row.ap, venue)
    if last > 0 and (row.x in _TRADES or row.X.startswith("NEW_")):
        yield Fill(
            venue=venue,
            symbol=row.s,
            trade_id=str(row.t),
            order_id=str(row.i),
            client_id=row.c,
            side=OrderSide.BUY if row.S == "BUY" else OrderSide.SELL,
            qty=last,
            price=number(row.L, venue),
            fee=maybe_number(row.n, venue) or ZERO,
            fee_asset=row.N or "",
            is_maker=row.m,
            venue_wall_ms=venue_wall_ms,
            recv_mono_ns=recv_mono_ns,
            source="ws",
        )
    word = row.X if row.er in ("", "0") else f"{row.X} (er {row.er})"
    yield OrderUpdate(
        venue=venue,
        symbol=row.s,
        client_id=row.c,
        order_id=str(row.i),
        state=state_of(venue, row.X, filled),
        filled_qty=filled,
        average_price=average if filled > 0 and average else None,
        venue_wall_ms=venue_wall_ms,
        recv_mono_ns=recv_mono_ns,
        source="ws",
        reason=reason_of(word, row.c),
    )


def _changed(
    venue: str, event: _AccountEvent, recv_mono_ns: int, symbols: Collection[str], odd: OddRows | None
) -> Iterator[FuturesEvent]:
    change, at_ms = event.a, lenient_ms(event.T)

    def position(row: _Held) -> Position:
        if row.ps != ONE_WAY:
            text = f"{venue}: position of {row.s} on side {row.ps}, wanted {ONE_WAY}"
            raise ProtocolViolation(text, venue=venue)
        return Position(
            venue=venue,
            symbol=row.s,
            qty=number(row.pa, venue),
            entry_price=maybe_number(row.ep, venue) or ZERO,
            mark_price=ZERO,
            recv_mono_ns=recv_mono_ns,
            margin=maybe_number(row.iw, venue) or ZERO,
            unrealised_pnl=maybe_number(row.up, venue) or ZERO,
        )

    foreign = not_of_symbols(symbols, "s")
    held = _held.read(bytes(change.P), venue, "ACCOUNT_UPDATE", position, odd=odd, foreign=foreign)
    yield from held
    if change.m == FUNDING:
        for symbol in [row.symbol for row in held] or [""]:
            yield FundingNotice(venue=venue, symbol=symbol, venue_wall_ms=at_ms, recv_mono_ns=recv_mono_ns)
    own = not_of_assets(symbols, "a")
    for row in _wallets.read(bytes(change.B), venue, "ACCOUNT_UPDATE", lambda row: row, odd=odd, foreign=own):
        moved = maybe_number(row.bc, venue) or ZERO
        if moved and change.m not in EXPLAINED:
            yield MoneyNotice(venue=venue, asset=row.a, amount=moved, reason=change.m, recv_mono_ns=recv_mono_ns)
        yield WalletChanged(row.a, number(row.wb, venue))
