"""Gate.io accounts: REST balances and positions, private-channel frames -> events. Sans-I/O.

Private frames come in the common envelope (Gate.io API v4, spot WebSocket, server response)::

    {"time":1605175506,"channel":"spot.orders","event":"update","result":[{...}, ...]}

``futures.balances`` sends the balance after a change, not what is available: it only shows that a REST reading is due
(:class:`FuturesBalanceChanged`). The same for funding (type ``fund``): numbers of the stream are
rounded and the booking is not named, so GET /futures/usdt/account_book is asked::

    [{"time":1682294400.123456,"change":"0.000010152188","balance":"4.59316525194","text":"ETH_USD:6086261",
      "type":"fund","contract":"ETH_USD","trade_id":"1","id":"1"}]

*Source:* Gate.io API v4, spot and futures WebSocket: orders, usertrades, balances, positions; REST "Query futures
account change history" (read 2026-11-21): ``contract`` since 2023-10-30, ``id`` newer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal

import msgspec

from pipeline.exchanges.gateio import orders
from pipeline.exchanges.gateio.account_settings import SINGLE, check_modes, wrong_mode
from pipeline.exchanges.parsing.rows import Fields, OddRows, Rows, not_of_assets, not_of_symbols
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, lenient_ms, maybe_number, number
from pipeline.model.errors import AccountSettingsWrong, ProtocolViolation
from pipeline.model.structs import Balance, Fill, Funding, OrderUpdate, Position
from pipeline.model.venue_events import FundingNotice, MoneyNotice

SPOT_CHANNELS = ("spot.orders", "spot.usertrades", "spot.balances")
FUNDING = "fund"  # what the account book calls it
TRANSFER = "dnw"  # and deposits or withdrawals
#: ``change_type`` of spot balances that no order moved. Source: spot WebSocket v4 "Balances channel" (read 2026-11-21).
MOVED_WITHOUT_ORDER = frozenset(
    {"deposit", "withdraw", "margin-transfer", "future-transfer", "cross-margin-transfer", "other"}
)
ONE = Decimal(1)
NEVER_SHORT = Decimal(99_999_999)  # ``liq_price`` of a short position that no price liquidates
SETTLED_IN = "USDT"  # of every contract under /futures/usdt
FUTURES_CHANNELS = ("futures.orders", "futures.usertrades", "futures.balances", "futures.positions")


class _SpotAccount(msgspec.Struct):
    currency: str
    available: Decimal
    locked: Decimal


class _FuturesAccount(msgspec.Struct):
    currency: str
    total: Decimal
    available: Decimal
    user: int | str = 0


class PositionRow(msgspec.Struct):
    """A row of positions, REST or push; ``size`` is signed contracts."""

    contract: str
    size: Decimal
    entry_price: Maybe = ABSENT
    mark_price: Maybe = ABSENT
    mode: str = SINGLE
    leverage: Maybe = ABSENT
    margin: Maybe = ABSENT
    unrealised_pnl: Maybe = ABSENT
    liq_price: Maybe = ABSENT
    maintenance_rate: Maybe = ABSENT
    average_maintenance_rate: Maybe = ABSENT
    maintenance_margin: Maybe = ABSENT


class _SpotBalancePush(msgspec.Struct):
    currency: str
    available: Decimal
    freeze: Decimal = Decimal(0)
    total: Decimal | None = None
    change: Maybe = ABSENT
    change_type: str = ""


class _FuturesBalancePush(msgspec.Struct):
    balance: Decimal
    change: Maybe = ABSENT
    currency: str = "usdt"
    type: str = ""
    text: str = ""
    time: Maybe = ABSENT
    time_ms: Maybe = ABSENT


class _Booking(msgspec.Struct):
    """A row of the account book. ``time`` stays text: where no ``id`` comes with it, it is part of the identity."""

    time: msgspec.Raw
    change: Decimal
    balance: str = ""
    text: str = ""
    type: str = ""
    contract: str = ""
    id: int | str = ""


class Refused(msgspec.Struct):
    """Why a channel request was refused."""

    code: int = 0
    message: str = ""


class Envelope(msgspec.Struct):
    """Any frame of a channel. ``result`` stays undecoded until the channel is known."""

    channel: str
    event: str = ""
    error: Refused | None = None
    result: msgspec.Raw = ABSENT
    id: int | str | None = None
    time_ms: int = 0
    payload: msgspec.Raw = ABSENT


class FuturesBalanceChanged(msgspec.Struct, frozen=True):
    """The futures wallet changed: total balance after it. Available margin must be asked by REST."""

    asset: str
    total: Decimal


envelope = msgspec.json.Decoder(Envelope)
_spot_accounts = Rows(_SpotAccount, of="currency")
_futures_account = msgspec.json.Decoder(_FuturesAccount)
_positions = Rows(PositionRow, of="contract")
_spot_balance_push = Rows(_SpotBalancePush, of="currency")
_futures_balance_push = Rows(_FuturesBalancePush)
_bookings = Rows(_Booking, of="contract")

PrivateEvent = OrderUpdate | Fill | Balance | Position | FuturesBalanceChanged | FundingNotice | MoneyNotice


def parse_spot_balances(
    venue: str, payload: bytes, recv_mono_ns: int, *, symbols: Collection[str] = (), odd: OddRows | None = None
) -> list[Balance]:
    """GET /spot/accounts. Raises ``ProtocolViolation`` where the balance of an asset of ``symbols`` cannot be read."""

    def one(row: _SpotAccount) -> Balance:
        return Balance(
            venue=venue,
            asset=row.currency,
            free=number(row.available, venue),
            locked=number(row.locked, venue),
            recv_mono_ns=recv_mono_ns,
            source="rest",
        )

    foreign = not_of_assets(symbols, "currency")
    return _spot_accounts.read(payload, venue, "spot/accounts", one, odd=odd, foreign=foreign)


def parse_futures_balance(venue: str, payload: bytes, recv_mono_ns: int) -> Balance:
    """GET /futures/usdt/accounts: ``free`` = available margin, ``free`` + ``locked`` = the wallet's realised total.

    ``locked`` is negative while unrealised profit may be used as margin. Raises ``AccountSettingsWrong`` in dual or
    unified mode.
    """
    row = decode(_futures_account, payload, venue, "futures/usdt/accounts")
    check_modes(venue, payload)
    available = number(row.available, venue)
    return Balance(
        venue=venue,
        asset=row.currency.upper(),
        free=available,
        locked=number(row.total, venue) - available,
        recv_mono_ns=recv_mono_ns,
        source="rest",
    )


def parse_funding(venue: str, payload: bytes, odd: OddRows | None = None) -> tuple[list[Funding], int]:
    """GET /futures/usdt/account_book?type=fund: (its funding rows, number of rows). A row that cannot be read is left
    out where it is of another type: funding of any contract moves the wallet."""

    def one(row: _Booking) -> Funding | None:
        return _funding(venue, row) if row.type == FUNDING else None

    def foreign(fields: Fields) -> bool:
        kind = fields.get("type")
        return isinstance(kind, str) and kind != FUNDING

    what = "futures/usdt/account_book"
    rows, count = _bookings.read_page(payload, venue, what, one, odd=odd, foreign=foreign)
    return [row for row in rows if row is not None], count


def _funding(venue: str, row: _Booking) -> Funding:
    time = bytes(row.time).decode().strip('"')
    try:
        venue_wall_ms = int(Decimal(time) * 1000)
    except (ArithmeticError, ValueError):  # not a number, or not a finite one
        raise ProtocolViolation(f"{venue}: account_book: time {time!r}", venue=venue) from None
    amount = number(row.change, venue)
    symbol = row.contract or row.text.partition(":")[0]
    return Funding(
        venue=venue,
        symbol=symbol,
        event_id=str(row.id) or f"{symbol}:{time}:{amount}:{row.balance}",
        asset=SETTLED_IN,
        amount=amount,
        venue_wall_ms=venue_wall_ms,
    )


def parse_user_id(venue: str, payload: bytes) -> str:
    """``user`` of GET /futures/usdt/accounts: what private futures channels are subscribed with."""
    return str(decode(_futures_account, payload, venue, "futures/usdt/accounts").user)


def _position(venue: str, row: PositionRow, multipliers: Mapping[str, Decimal], recv_mono_ns: int) -> Position:
    """Raises ``AccountSettingsWrong`` for one of two rows of a contract: its quantity alone is not what we hold."""
    if row.mode != SINGLE:
        raise wrong_mode(venue, row.mode)
    liquidation = maybe_number(row.liq_price, venue)
    if liquidation is not None and liquidation >= NEVER_SHORT:
        liquidation = Decimal(0)
    rate = maybe_number(row.average_maintenance_rate, venue) or maybe_number(row.maintenance_rate, venue)
    return Position(
        venue=venue,
        symbol=row.contract,
        qty=number(row.size, venue) * multipliers[row.contract],
        entry_price=maybe_number(row.entry_price, venue) or Decimal(0),
        mark_price=maybe_number(row.mark_price, venue) or Decimal(0),
        recv_mono_ns=recv_mono_ns,
        margin=maybe_number(row.margin, venue) or Decimal(0),
        unrealised_pnl=maybe_number(row.unrealised_pnl, venue) or Decimal(0),
        liquidation_price=liquidation,
        maintenance_rate=rate or Decimal(0),
        maintenance_margin=maybe_number(row.maintenance_margin, venue),
    )


def position_rows(
    venue: str, payload: bytes, symbols: Collection[str] = (), odd: OddRows | None = None
) -> list[PositionRow]:
    """Rows of GET /futures/usdt/positions with a size; an unreadable one of a contract beside ``symbols`` is left out.

    Raises ``AccountSettingsWrong`` in dual mode, whatever the sizes of a contract's two rows."""

    def one(row: PositionRow) -> PositionRow:
        _position(venue, row, {row.contract: ONE}, 0)  # its multiplier is asked for once the rows are known
        return row

    foreign = not_of_symbols(symbols, "contract")
    return [row for row in _positions.read(payload, venue, "positions", one, odd=odd, foreign=foreign) if row.size != 0]


def positions_of(
    venue: str, rows: Sequence[PositionRow], multipliers: Mapping[str, Decimal], recv_mono_ns: int
) -> list[Position]:
    """Positions in base coin; ``multipliers`` knows every contract of ``rows``."""
    return [_position(venue, row, multipliers, recv_mono_ns) for row in rows]


def _money(venue: str, asset: str, change: Maybe, reason: str, recv_mono_ns: int) -> MoneyNotice:
    amount = maybe_number(change, venue) or Decimal(0)
    return MoneyNotice(venue=venue, asset=asset, amount=amount, reason=reason, recv_mono_ns=recv_mono_ns)


def parse_push(
    venue: str,
    frame: Envelope,
    multipliers: Mapping[str, Decimal],
    recv_mono_ns: int,
    *,
    symbols: Collection[str] = (),
    odd: OddRows | None = None,
) -> Iterator[PrivateEvent]:
    """Events of one ``update`` frame of a private channel. Unreadable rows that are not ours are left out.

    Raises ``ProtocolViolation``; ``KeyError`` for a futures contract whose multiplier is not known.
    """
    payload = bytes(frame.result)
    channel = frame.channel
    if channel == "spot.orders":
        yield from (update for _, update in orders.spot_updates(venue, payload, recv_mono_ns, "ws", odd)[0])
    elif channel == "spot.usertrades":
        yield from orders.spot_fills(venue, payload, recv_mono_ns, "ws", odd)[0]
    elif channel == "spot.balances":
        yield from _spot_balances_pushed(venue, payload, recv_mono_ns, symbols, odd)
    elif channel == "futures.orders":
        rows, _ = orders.futures_updates(venue, payload, multipliers, recv_mono_ns, "ws", odd)
        yield from (update for _, update in rows)
    elif channel == "futures.usertrades":
        yield from orders.futures_fills(venue, payload, multipliers, recv_mono_ns, "ws", odd)[0]
    elif channel == "futures.balances":
        for wallet in _futures_balance_push.read(payload, venue, channel, lambda row: row):
            yield from _wallet_pushed(venue, wallet, recv_mono_ns)
    elif channel == "futures.positions":

        def position(row: PositionRow) -> Position:
            return _position(venue, row, multipliers, recv_mono_ns)

        foreign = not_of_symbols(symbols, "contract")
        try:
            yield from _positions.read(payload, venue, channel, position, odd=odd, foreign=foreign)
        except AccountSettingsWrong as wrong:  # REST, which is asked twice a second, refuses the venue
            raise ProtocolViolation(str(wrong), venue=venue) from None
    else:
        raise ProtocolViolation(f"{venue}: push of an unknown channel {channel!r}", venue=venue)


def _spot_balances_pushed(
    venue: str, payload: bytes, recv_mono_ns: int, symbols: Collection[str], odd: OddRows | None
) -> Iterator[MoneyNotice | Balance]:
    def one(row: _SpotBalancePush) -> tuple[MoneyNotice | None, Balance]:
        moved = row.change_type in MOVED_WITHOUT_ORDER
        balance = Balance(
            venue=venue,
            asset=row.currency,
            free=number(row.available, venue),
            locked=number(row.freeze, venue),
            recv_mono_ns=recv_mono_ns,
            source="ws",
        )
        return (_money(venue, row.currency, row.change, row.change_type, recv_mono_ns) if moved else None), balance

    foreign = not_of_assets(symbols, "currency")
    for notice, balance in _spot_balance_push.read(payload, venue, "spot.balances", one, odd=odd, foreign=foreign):
        if notice is not None:
            yield notice
        yield balance


def _wallet_pushed(
    venue: str, wallet: _FuturesBalancePush, recv_mono_ns: int
) -> Iterator[FundingNotice | MoneyNotice | FuturesBalanceChanged]:
    if wallet.type == FUNDING:
        yield FundingNotice(
            venue=venue,
            symbol=wallet.text.partition(":")[0],
            venue_wall_ms=lenient_ms(wallet.time_ms) or lenient_ms(wallet.time, 1000),
            recv_mono_ns=recv_mono_ns,
        )
    elif wallet.type == TRANSFER:
        yield _money(venue, wallet.currency.upper(), wallet.change, "transfer", recv_mono_ns)
    yield FuturesBalanceChanged(wallet.currency.upper(), number(wallet.balance, venue))
