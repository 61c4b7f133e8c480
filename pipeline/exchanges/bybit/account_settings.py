"""Bybit: account mode, margin mode, position mode and leverage, and the calls that set them. Sans-I/O.

We count one position a contract, backed by its own (isolated) margin at one leverage, in a unified account. Two
positions a contract (hedge mode) or one pot for several contracts (REGULAR_MARGIN, PORTFOLIO_MARGIN) mean other sums:
then the venue is not traded, and the error names the call that mends it::

    GET /v5/account/info   {"marginMode":"REGULAR_MARGIN","unifiedMarginStatus":5, …}
    GET /v5/position/list  {"list":[{"symbol":"BTCUSDT","positionIdx":0,"leverage":"10", …}]}   also where it is flat

*Source:* Bybit V5 documentation: account info, set margin mode, switch position mode, set leverage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from pipeline.exchanges.parsing.venue_json import decode
from pipeline.model.errors import AccountSettingsWrong

ISOLATED = "ISOLATED_MARGIN"
UNIFIED_STATUS = (3, 4, 5, 6)
FIX_HEDGE = 'POST /v5/position/switch-mode {"category":"linear","coin":"USDT","mode":0} (nothing may be open)'
FIX_MARGIN = f'POST /v5/account/set-margin-mode {{"setMarginMode":"{ISOLATED}"}} (no position, no order may be open)'
FIX_CLASSIC = "upgrade the account to a unified one at the venue"


class AccountInfo(msgspec.Struct):
    """The modes of a whole account."""

    marginMode: str
    unifiedMarginStatus: int


_info = msgspec.json.Decoder(AccountInfo)


def parse_info(venue: str, result: bytes) -> AccountInfo:
    """``result`` of GET /v5/account/info."""
    return decode(_info, result, venue, "account/info")


def check_unified(venue: str, info: AccountInfo) -> None:
    """Raises ``AccountSettingsWrong`` for a classic account, whose wallets other calls serve."""
    if info.unifiedMarginStatus not in UNIFIED_STATUS:
        text = f"{venue}: unifiedMarginStatus {info.unifiedMarginStatus}, wanted a unified account (3 to 6)"
        raise AccountSettingsWrong(f"{text}; fix: {FIX_CLASSIC}", venue=venue)


def wrong_margin(venue: str, mode: str, why: object = "") -> AccountSettingsWrong:
    """The error of an account whose contracts are backed by one pot."""
    said = f": {why}" if why else ""
    text = f"{venue}: margin mode {mode}, wanted {ISOLATED}{said}; fix: {FIX_MARGIN}"
    return AccountSettingsWrong(text, venue=venue)


def wrong_mode(venue: str, mode: str, why: object = "") -> AccountSettingsWrong:
    """The error of a row that is not in one-way mode."""
    said = f": {why}" if why else ""
    return AccountSettingsWrong(f"{venue}: position mode {mode}, wanted one-way{said}; fix: {FIX_HEDGE}", venue=venue)


def wrong_leverage(venue: str, symbol: str, leverage: Decimal, why: object) -> AccountSettingsWrong:
    """The error of a contract that does not take the configured leverage."""
    text = f"{venue}: {symbol} is not at leverage {leverage}: {why}"
    fix = f"close it, POST /v5/position/set-leverage for {symbol}, or another detection.hedge.leverage"
    return AccountSettingsWrong(f"{text}; fix: {fix}", venue=venue)


def to_set(symbols: Sequence[str], known: Mapping[str, Decimal], leverage: Decimal) -> list[str]:
    """Those of ``symbols`` whose leverage is known to be another."""
    return [symbol for symbol in symbols if known.get(symbol) not in (None, leverage)]
