"""MEXC account: REST balances and the private stream's protobuf pushes. Sans-I/O.

Private frames are ``PushDataV3ApiWrapper`` with body 304 (orders), 306 (deals) or 307 (account).

*Source:* MEXC spot v3: user data streams (account, deals, orders), account information, account trade list.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from decimal import Decimal

import msgspec
from google.protobuf.message import DecodeError

from pipeline.exchanges.mexc.orders import STREAM_STATES
from pipeline.exchanges.mexc.protobuf import PushDataV3ApiWrapper
from pipeline.exchanges.parsing.rows import OddRows, Rows, not_of_assets
from pipeline.exchanges.parsing.venue_json import decode, number, optional_number
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.enums import OrderSide
from pipeline.model.errors import ProtocolViolation
from pipeline.model.structs import Balance, Fill, OrderUpdate
from pipeline.model.venue_events import MoneyNotice

CHANNELS = (
    "spot@private.orders.v3.api.pb",
    "spot@private.deals.v3.api.pb",
    "spot@private.account.v3.api.pb",
)
_BUY = 1
#: How ``type`` of an account push begins that no order caused. Source: MEXC spot v3, spot account update.
MOVED_WITHOUT_ORDER = ("DEPOSIT", "WITHDRAW", "CONTRACT_TRANSFER", "TRANSFER", "SUGAR")


class _Balance(msgspec.Struct):
    asset: str
    free: str
    locked: str


class _Account(msgspec.Struct):
    balances: msgspec.Raw


class _ListenKey(msgspec.Struct):
    listenKey: str


class _Switch(msgspec.Struct):
    mxDeductEnable: bool


class _SwitchReply(msgspec.Struct):
    data: _Switch


_account = msgspec.json.Decoder(_Account)
_balances = Rows(_Balance)
_switch = msgspec.json.Decoder(_SwitchReply)
_listen_key = msgspec.json.Decoder(_ListenKey)


def parse_balances(
    venue: str, payload: bytes, recv_mono_ns: int, *, symbols: Collection[str] = (), odd: OddRows | None = None
) -> list[Balance]:
    """GET /account. Raises ``ProtocolViolation`` where the balance of an asset of ``symbols`` cannot be read."""

    def one(row: _Balance) -> Balance:
        return Balance(
            venue=venue,
            asset=row.asset,
            free=number(row.free, venue),
            locked=number(row.locked, venue),
            recv_mono_ns=recv_mono_ns,
            source="rest",
        )

    rows = bytes(decode(_account, payload, venue, "account").balances)
    return _balances.read(rows, venue, "balances", one, odd=odd, foreign=not_of_assets(symbols, "asset"))


def parse_fee_switch(venue: str, payload: bytes) -> FeeSwitch:
    """GET /mxDeduct/enable; the discount is not in it::

        {"data":{"mxDeductEnable":true},"code":0,"msg":"success","timestamp":1700000000000}

    *Source:* MEXC spot v3, "Query MX Deduct Status".
    """
    return FeeSwitch("MX" if decode(_switch, payload, venue, "mxDeduct/enable").data.mxDeductEnable else "")


def parse_listen_key(venue: str, payload: bytes) -> str:
    """POST /userDataStream."""
    key = decode(_listen_key, payload, venue, "userDataStream").listenKey
    if not key.isalnum():
        raise ProtocolViolation(f"{venue}: listen key of an unknown form", venue=venue)
    return key


def parse_private(
    venue: str, frame: bytes | memoryview, recv_mono_ns: int
) -> Iterator[OrderUpdate | Fill | Balance | MoneyNotice]:
    """Events of one binary private frame. Raises ``ProtocolViolation`` for bytes that are no known push."""
    wrapper = PushDataV3ApiWrapper()
    try:
        wrapper.ParseFromString(bytes(frame))
    except DecodeError as error:
        raise ProtocolViolation(f"{venue}: private frame is not protobuf: {error}", venue=venue) from None
    body = wrapper.WhichOneof("body")
    if body == "privateOrders":
        yield _order(venue, wrapper, recv_mono_ns)
    elif body == "privateDeals":
        yield _deal(venue, wrapper, recv_mono_ns)
    elif body == "privateAccount":
        row = wrapper.privateAccount
        if row.type.startswith(MOVED_WITHOUT_ORDER):
            changes = (row.balanceAmountChange, row.frozenAmountChange)
            yield MoneyNotice(
                venue=venue,
                asset=row.vcoinName,
                amount=sum((number(change or "0", venue) for change in changes), Decimal(0)),
                reason=row.type,
                recv_mono_ns=recv_mono_ns,
            )
        yield Balance(
            venue=venue,
            asset=row.vcoinName,
            free=number(row.balanceAmount or "0", venue),
            locked=number(row.frozenAmount or "0", venue),
            recv_mono_ns=recv_mono_ns,
            source="ws",
        )
    else:
        raise ProtocolViolation(f"{venue}: unexpected push on the private stream: {body}", venue=venue)


def _order(venue: str, wrapper: PushDataV3ApiWrapper, recv_mono_ns: int) -> OrderUpdate:
    row = wrapper.privateOrders
    state = STREAM_STATES.get(row.status)
    if state is None:
        raise ProtocolViolation(f"{venue}: unknown order status {row.status}", venue=venue)
    filled = number(row.cumulativeQuantity or "0", venue)
    average = optional_number(row.avgPrice, venue)
    return OrderUpdate(
        venue=venue,
        symbol=wrapper.symbol,
        client_id=row.clientId,
        order_id=row.id,
        state=state,
        filled_qty=filled,
        average_price=average if average and filled > 0 else None,
        venue_wall_ms=wrapper.sendTime or row.createTime,
        recv_mono_ns=recv_mono_ns,
        source="ws",
        reason=f"status {row.status}",
    )


def _deal(venue: str, wrapper: PushDataV3ApiWrapper, recv_mono_ns: int) -> Fill:
    row = wrapper.privateDeals
    return Fill(
        venue=venue,
        symbol=wrapper.symbol,
        trade_id=row.tradeId,
        order_id=row.orderId,
        client_id=row.clientOrderId,
        side=OrderSide.BUY if row.tradeType == _BUY else OrderSide.SELL,
        qty=number(row.quantity, venue),
        price=number(row.price, venue),
        fee=number(row.feeAmount or "0", venue),
        fee_asset=row.feeCurrency,
        is_maker=row.isMaker,
        venue_wall_ms=row.time,
        recv_mono_ns=recv_mono_ns,
        source="ws",
    )
