"""Bybit account: wallet and positions by REST, and what the private stream pushes. Sans-I/O.

::

    {"id":"m1","topic":"wallet","creationTime":1700000000123,"data":[{"accountType":"UNIFIED","coin":[{"coin":"USDT",
     "walletBalance":"100","locked":"0","totalOrderIM":"5","totalPositionIM":"20","bonus":"0"}]}]}
    {"id":"m2","topic":"position.linear","creationTime":…,"data":[{"category":"linear","symbol":"BTCUSDT","side":"Buy",
     "size":"0.5","positionIdx":0,"entryPrice":"60000","markPrice":"60010","positionBalance":"3000","leverage":"10"}]}

A unified account has one wallet for every market. What of a coin can be used, under isolated margin, is ``walletBalance
- totalPositionIM - totalOrderIM - locked - bonus``; ``free`` and ``availableToWithdraw`` are dead fields. Two markets
that trade on one wallet would count its coins twice: each wants a (sub-)account of its own (manifest, ``one_wallet``),
and a wallet that carries another market's margin is refused (:func:`check_own_wallet`).

The wallet is pushed when it changes, not for unrealised profit; nothing is pushed at subscription. Positions are pushed
at every order event, with ``entryPrice`` for the ``avgPrice`` of REST.

*Source:* Bybit V5 documentation: wallet balance, position info, private streams (wallet, position, order, execution).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from decimal import Decimal

import msgspec

from pipeline.exchanges.bybit import orders
from pipeline.exchanges.bybit.account_settings import wrong_mode
from pipeline.exchanges.parsing.rows import OddRows, Rows, any_row, not_of_assets, not_of_symbols
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, lenient_ms, maybe_number, number
from pipeline.model.errors import AccountSettingsWrong, ProtocolViolation
from pipeline.model.structs import ZERO, Balance, Fill, OrderUpdate, Position
from pipeline.model.venue_events import FundingNotice

#: Topics of a market's private stream; forms with and without a category must not stand in one request.
TOPICS = {
    "spot": ("order.spot", "execution.spot", "wallet"),
    "linear": ("order.linear", "execution.linear", "position.linear", "wallet"),
}


class CoinRow(msgspec.Struct):
    """One coin of the wallet."""

    coin: str
    walletBalance: Maybe = ABSENT
    locked: Maybe = ABSENT
    totalOrderIM: Maybe = ABSENT
    totalPositionIM: Maybe = ABSENT
    bonus: Maybe = ABSENT


class _Wallet(msgspec.Struct):
    coin: msgspec.Raw = msgspec.Raw(b"[]")


class _Wallets(msgspec.Struct):
    wallets: list[_Wallet] = msgspec.field(name="list")


class PositionRow(msgspec.Struct):
    """The fields of a position that we use; ``size`` has no sign."""

    symbol: str
    side: str
    size: Decimal
    category: str = ""
    positionIdx: int = 0
    avgPrice: Maybe = ABSENT
    entryPrice: Maybe = ABSENT
    markPrice: Maybe = ABSENT
    liqPrice: Maybe = ABSENT
    leverage: Maybe = ABSENT
    positionBalance: Maybe = ABSENT
    positionMM: Maybe = ABSENT
    unrealisedPnl: Maybe = ABSENT


class Push(msgspec.Struct):
    """One frame of the private stream: a push (``topic``), or an answer (``op``)."""

    topic: str = ""
    data: msgspec.Raw = ABSENT
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    retCode: int = 0


_wallets = msgspec.json.Decoder(_Wallets)
_wallet_pushes = Rows(_Wallet)
_coins = Rows(CoinRow, of="coin")
_positions = Rows(PositionRow, of="symbol")
_push = msgspec.json.Decoder(Push)

PrivateEvent = OrderUpdate | Fill | Balance | Position | FundingNotice


def parse_balances(
    venue: str, result: bytes, recv_mono_ns: int, *, symbols: Collection[str] = (), odd: OddRows | None = None
) -> list[Balance]:
    """``result`` of GET /v5/account/wallet-balance. Raises ``ProtocolViolation`` where the balance of an asset of
    ``symbols`` cannot be read."""
    found: list[Balance] = []
    for wallet in decode(_wallets, result, venue, "wallet-balance").wallets:
        found += _balances(venue, bytes(wallet.coin), recv_mono_ns, "rest", symbols, odd)
    return found


def _balances(
    venue: str, coins: bytes, recv_mono_ns: int, source: str, symbols: Collection[str], odd: OddRows | None
) -> list[Balance]:
    def balance(row: CoinRow) -> Balance:
        total = maybe_number(row.walletBalance, venue) or ZERO
        used = (row.locked, row.totalOrderIM, row.totalPositionIM, row.bonus)
        free = total - sum((maybe_number(part, venue) or ZERO for part in used), ZERO)
        return Balance(
            venue=venue, asset=row.coin, free=free, locked=total - free, recv_mono_ns=recv_mono_ns, source=source
        )

    foreign = not_of_assets(symbols, "coin")
    return _coins.read(coins, venue, "wallet", balance, odd=odd, foreign=foreign)


def check_own_wallet(venue: str, category: str, result: bytes, odd: OddRows | None = None) -> None:
    """Raises ``AccountSettingsWrong`` where a wallet of spot carries margin of positions, or one of contracts what
    orders of spot hold: its coins would count in two places. ``result``: as of :func:`parse_balances`."""
    field = "totalPositionIM" if category == "spot" else "locked"
    for wallet in decode(_wallets, result, venue, "wallet-balance").wallets:
        for row in _coins.read(bytes(wallet.coin), venue, "wallet", lambda row: row, odd=odd, foreign=any_row):
            held = maybe_number(row.totalPositionIM if category == "spot" else row.locked, venue) or ZERO
            if held > 0:
                text = f"{venue}: found {field} {held} of {row.coin}: another market trades on this wallet, wanted none"
                fix = "give each market a sub-account and a key of its own"
                raise AccountSettingsWrong(f"{text}; fix: {fix}", venue=venue)


def position_of(venue: str, row: PositionRow, recv_mono_ns: int) -> Position:
    """In base coin, signed. Raises ``AccountSettingsWrong`` for one of two rows of a contract (hedge mode)."""
    if row.positionIdx:
        raise wrong_mode(venue, f"hedge ({row.symbol})")
    size = number(row.size, venue)
    if size and row.side not in ("Buy", "Sell"):
        raise ProtocolViolation(f"{venue}: position of {row.symbol} on side {row.side!r}", venue=venue)
    entry = maybe_number(row.avgPrice, venue) or maybe_number(row.entryPrice, venue) or ZERO
    mark, kept = maybe_number(row.markPrice, venue) or ZERO, maybe_number(row.positionMM, venue)
    notional = size * mark
    return Position(
        venue=venue,
        symbol=row.symbol,
        qty=-size if row.side == "Sell" else size,
        entry_price=entry,
        mark_price=mark,
        recv_mono_ns=recv_mono_ns,
        margin=maybe_number(row.positionBalance, venue) or ZERO,
        unrealised_pnl=maybe_number(row.unrealisedPnl, venue) or ZERO,
        liquidation_price=maybe_number(row.liqPrice, venue) or ZERO,
        maintenance_rate=kept / notional if kept and notional else ZERO,
        maintenance_margin=kept,
    )


def parse_positions(
    venue: str, rows: bytes, recv_mono_ns: int, *, symbols: Collection[str] = (), odd: OddRows | None = None
) -> list[tuple[PositionRow, Position]]:
    """Rows of GET /v5/position/list; unreadable ones of contracts beside ``symbols`` are left out."""

    def one(row: PositionRow) -> tuple[PositionRow, Position]:
        return row, position_of(venue, row, recv_mono_ns)

    return _positions.read(rows, venue, "position/list", one, odd=odd, foreign=not_of_symbols(symbols, "symbol"))


def parse_frame(venue: str, payload: bytes | memoryview) -> Push:
    """One frame of the private stream. Raises ``ProtocolViolation``."""
    return decode(_push, payload, venue, "private frame")


def parse_push(
    venue: str,
    category: str,
    frame: Push,
    recv_mono_ns: int,
    *,
    symbols: Collection[str] = (),
    odd: OddRows | None = None,
) -> Iterator[PrivateEvent]:
    """Events of one push; rows of other categories say nothing. Unreadable rows that are not ours are left out.

    Raises ``ProtocolViolation``, for a topic that was not asked for and a position in hedge mode too."""
    topic, rows = frame.topic.partition(".")[0], bytes(frame.data)
    if topic == "order":
        yield from orders.parse_orders(venue, category, rows, recv_mono_ns, "ws", odd)
    elif topic == "execution":
        for row, fill in orders.parse_executions(venue, category, rows, recv_mono_ns, "ws", odd):
            if fill is not None:
                yield fill
            else:
                at_ms = lenient_ms(row.execTime)
                yield FundingNotice(venue=venue, symbol=row.symbol, venue_wall_ms=at_ms, recv_mono_ns=recv_mono_ns)
    elif topic == "position":
        try:
            held = parse_positions(venue, rows, recv_mono_ns, symbols=symbols, odd=odd)
        except AccountSettingsWrong as wrong:  # REST, which is asked twice a second, refuses the venue
            raise ProtocolViolation(str(wrong), venue=venue) from None
        yield from (position for row, position in held if row.category in ("", category))
    elif topic == "wallet":
        for wallet in _wallet_pushes.read(rows, venue, "wallet", lambda row: row):
            yield from _balances(venue, bytes(wallet.coin), recv_mono_ns, "ws", symbols, odd)
    else:
        raise ProtocolViolation(f"{venue}: push of an unknown topic {frame.topic!r}", venue=venue)
