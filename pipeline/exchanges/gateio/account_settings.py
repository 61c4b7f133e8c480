"""Gate.io: the coin of fees; USDT futures: position mode, account mode, margin mode, leverage, the calls that set them.

We count one position a contract, backed by its own (isolated) margin at one leverage. Two rows a contract (dual mode),
one pot for several contracts (cross) or for spot and futures (unified account) mean other sums: then the venue is not
traded, and the error names the call that mends it.

*Source:* Gate.io API v4 "Futures": accounts (``position_mode``, older ``in_dual_mode``;
``margin_mode`` 0 classic), positions (``leverage`` "0" or ``pos_margin_mode`` cross), set_position_mode,
positions/{contract}/leverage; "Unified": unified_mode; "Account": detail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from pipeline.exchanges.parsing.rows import OddRows, Rows, any_row
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, maybe_number, number
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.errors import AccountSettingsWrong
from pipeline.model.units import PPM

FIX_DUAL = "POST /futures/usdt/set_position_mode?position_mode=single (no position and no order may be open)"
FIX_UNIFIED = 'PUT /unified/unified_mode {"mode":"classic"} (no position and no order may be open)'
UNKNOWN_CONTRACT = ("CONTRACT_NOT_FOUND", "CONTRACT_IN_DELISTING")  # no entry there anyway
UNCHANGED = "NO_CHANGE"
SINGLE = "single"
CLASSIC = "classic"
#: ``debit_fee`` of wallet/fee: what fees are taken in. Every other number (3: the tier's rates) is plain.
DEBITED: Mapping[int, str] = {1: "GT", 2: "POINT"}
NO_DEBIT = 0


class ContractSettings(NamedTuple):
    """How a contract stands. ``leverage`` 0 = not reported."""

    leverage: Decimal
    is_cross: bool


class _WalletFee(msgspec.Struct):
    taker_fee: Decimal
    gt_discount: bool = False
    gt_taker_fee: Maybe = ABSENT
    debit_fee: int = NO_DEBIT


class _Modes(msgspec.Struct):
    in_dual_mode: bool = False
    position_mode: str = ""
    margin_mode: int = 0


class _Row(msgspec.Struct):
    contract: str
    mode: str = SINGLE
    leverage: Maybe = ABSENT
    lever: Maybe = ABSENT
    pos_margin_mode: str = ""


class _UnifiedMode(msgspec.Struct):
    mode: str


class _DetailKey(msgspec.Struct):
    mode: int


class _Detail(msgspec.Struct):
    key: _DetailKey


_unified_mode = msgspec.json.Decoder(_UnifiedMode)
_detail = msgspec.json.Decoder(_Detail)
_wallet_fee = msgspec.json.Decoder(_WalletFee)
_modes = msgspec.json.Decoder(_Modes)
_rows = Rows(_Row)


def parse_fee_switch(venue: str, payload: bytes) -> FeeSwitch:
    """GET /wallet/fee without a pair: GT where ``gt_discount`` is set, else what ``debit_fee`` names (GT, points).

    ``gt_taker_fee`` tells what a fee in GT is cheaper; a point stands for the plain fee::

        {"taker_fee":"0.002","gt_discount":true,"gt_taker_fee":"0.0018","debit_fee":1}

    *Source:* Gate.io API v4, wallet: "Query personal trading fees" (``debit_fee``: 1 GT, 2 points, 3 VIP rates).
    """
    row = decode(_wallet_fee, payload, venue, "wallet/fee")
    coin = "GT" if row.gt_discount else DEBITED.get(row.debit_fee, "")
    plain, in_gt = number(row.taker_fee, venue), maybe_number(row.gt_taker_fee, venue)
    if coin == "GT" and in_gt and plain > 0:
        return FeeSwitch(coin, max(0, int((plain - in_gt) * PPM / plain)))
    return FeeSwitch(coin, 0 if coin == "POINT" else None)


def is_dual(venue: str, payload: bytes) -> bool:
    """Whether GET /futures/usdt/accounts reports two positions a contract."""
    row = decode(_modes, payload, venue, "futures/usdt/accounts")
    return row.in_dual_mode or row.position_mode not in ("", SINGLE)


def check_modes(venue: str, payload: bytes) -> None:
    """Raises ``AccountSettingsWrong`` for a GET /futures/usdt/accounts in dual or unified mode."""
    row = decode(_modes, payload, venue, "futures/usdt/accounts")
    if is_dual(venue, payload):
        raise wrong_mode(venue, row.position_mode or "dual")
    if row.margin_mode != 0:
        raise AccountSettingsWrong(
            f"{venue}: account mode {row.margin_mode} is unified, wanted classic (0); fix: {FIX_UNIFIED}", venue=venue
        )


def parse_account_mode(venue: str, payload: bytes) -> str:
    """GET /unified/unified_mode: classic, multi_currency, portfolio, single_currency::

    {"mode":"multi_currency","settings":{"usdt_futures":true,"spot_hedge":false,"use_funding":false,"options":false}}
    """
    return decode(_unified_mode, payload, venue, "unified/unified_mode").mode


def parse_key_mode(venue: str, payload: bytes) -> str:
    """The same by GET /account/detail, which any key may ask: ``key.mode`` 1 classic, 2 unified (of some kind)."""
    mode = decode(_detail, payload, venue, "account/detail").key.mode
    return CLASSIC if mode == 1 else f"unified ({mode})"


def check_account_mode(venue: str, mode: str) -> None:
    """Raises ``AccountSettingsWrong`` for an account that is not classic: its spot balances are part of one pot with
    futures and loans, whether futures are traded here or not."""
    if mode != CLASSIC:
        raise AccountSettingsWrong(
            f"{venue}: account mode {mode}, wanted {CLASSIC}: spot would share one pot with futures and loans; fix: "
            f"{FIX_UNIFIED}",
            venue=venue,
        )


def wrong_mode(venue: str, mode: str, why: object = "") -> AccountSettingsWrong:
    """The error of a row or an account that is not in single mode; ``why`` it cannot be set."""
    found = f"{venue}: position mode {mode}, wanted single{f': {why}' if why else ''}"
    return AccountSettingsWrong(f"{found}; fix: {FIX_DUAL}", venue=venue)


def wrong_leverage(venue: str, symbol: str, leverage: Decimal, why: object) -> AccountSettingsWrong:
    """The error of a contract that does not take the configured leverage."""
    return AccountSettingsWrong(
        f"{venue}: {symbol} is not isolated at leverage {leverage}: {why}; fix: POST "
        f"/futures/usdt/positions/{symbol}/leverage?leverage={leverage}, or another detection.hedge.leverage",
        venue=venue,
    )


def parse_settings(venue: str, payload: bytes, odd: OddRows | None = None) -> dict[str, ContractSettings]:
    """Contracts of GET /futures/usdt/positions, flat ones included. Raises ``AccountSettingsWrong`` in dual mode."""

    def one(row: _Row) -> tuple[str, ContractSettings]:
        if row.mode != SINGLE:
            raise wrong_mode(venue, row.mode)
        leverage = maybe_number(row.leverage, venue) or Decimal(0)
        is_cross = leverage == 0 or row.pos_margin_mode == "cross"
        return row.contract, ContractSettings(maybe_number(row.lever, venue) or leverage, is_cross)

    return dict(_rows.read(payload, venue, "positions", one, odd=odd, foreign=any_row))


def to_set(symbols: Sequence[str], known: dict[str, ContractSettings], leverage: Decimal) -> list[str]:
    """Contracts that are not known to be isolated at ``leverage``."""
    wanted = ContractSettings(leverage, False)
    return [symbol for symbol in symbols if known.get(symbol) != wanted]
