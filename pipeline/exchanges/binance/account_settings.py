"""Binance USDⓈ-M: position mode, multi-assets mode, margin mode and leverage, and the calls that set them. Sans-I/O.

We count one position a contract, backed by its own (isolated) margin at one leverage, in the coin that it settles in.
Two positions a contract (hedge mode), one pot for several contracts (cross) or for several coins (multi-assets mode)
mean other sums: then the venue is not traded, and the error names the call that mends it::

    GET /fapi/v1/accountConfig  {"feeTier":0,"canTrade":true,"dualSidePosition":false,"multiAssetsMargin":false, ...}
    GET /fapi/v1/symbolConfig   [{"symbol":"BTCUSDT","marginType":"CROSSED","isAutoAddMargin":false,"leverage":21,
                                  "maxNotionalValue":"1000000"}]

*Source:* Binance USDⓈ-M futures API, account: account configuration, symbol configuration; trade: change position mode,
margin type, initial leverage, multi-assets mode (read 2026).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from pipeline.exchanges.parsing.rows import OddRows, Rows, any_row
from pipeline.exchanges.parsing.venue_json import Maybe, decode, required_number
from pipeline.model.errors import AccountSettingsWrong, AuthRefused

FIX_DUAL = "POST /fapi/v1/positionSide/dual?dualSidePosition=false (no position and no order may be open, COIN-M too)"
FIX_ASSETS = "POST /fapi/v1/multiAssetsMargin?multiAssetsMargin=false (no position and no order may be open)"
FIX_PORTFOLIO = (
    "leave portfolio margin at the venue (GET /sapi/v1/account/apiRestrictions shows it), then make a new key"
)
KEY_REFUSED = "-2015"
ISOLATED = "ISOLATED"
#: Refusals that say that a setting stands so already: position mode, margin mode, multi-assets mode.
UNCHANGED = frozenset({"-4059", "-4046", "-4171"})
UNKNOWN_CONTRACT = frozenset({"-1121", "-4140", "-4141"})  # no entry there anyway


class ContractSettings(NamedTuple):
    """How a contract stands."""

    leverage: Decimal
    is_isolated: bool


class AccountModes(msgspec.Struct):
    """The modes of a whole account."""

    dualSidePosition: bool
    multiAssetsMargin: bool


class _SymbolConfig(msgspec.Struct):
    symbol: str
    marginType: str
    leverage: Maybe


_modes = msgspec.json.Decoder(AccountModes)
_symbol_configs = Rows(_SymbolConfig)


def parse_modes(venue: str, payload: bytes) -> AccountModes:
    """GET /fapi/v1/accountConfig."""
    return decode(_modes, payload, venue, "accountConfig")


def check_modes(venue: str, modes: AccountModes) -> None:
    """Raises ``AccountSettingsWrong`` in hedge or multi-assets mode."""
    if modes.dualSidePosition:
        raise wrong_mode(venue, "hedge")
    if modes.multiAssetsMargin:
        raise AccountSettingsWrong(f"{venue}: multi-assets mode, wanted single-asset; fix: {FIX_ASSETS}", venue=venue)


def perhaps_portfolio(venue: str, refused: AuthRefused) -> AuthRefused:
    """A refused key, with the other reason for that refusal: an account in portfolio margin mode, which another API
    (papi) serves, gives the same code to a good key."""
    if refused.api_code != KEY_REFUSED:
        return refused
    what = "where the key is good, the account is in portfolio margin mode, wanted classic"
    text = f"{refused}; {what}; fix: {FIX_PORTFOLIO}"
    return AuthRefused(text, venue=venue, code=refused.code, api_code=refused.api_code)


def wrong_mode(venue: str, mode: str) -> AccountSettingsWrong:
    """The error of a row or an account that is not in one-way mode."""
    return AccountSettingsWrong(f"{venue}: position mode {mode}, wanted one-way; fix: {FIX_DUAL}", venue=venue)


def wrong_leverage(venue: str, symbol: str, leverage: Decimal, why: object) -> AccountSettingsWrong:
    """The error of a contract that does not take isolated margin or the configured leverage."""
    return AccountSettingsWrong(
        f"{venue}: {symbol} is not isolated at leverage {leverage}: {why}; fix: close it, POST /fapi/v1/marginType?"
        f"symbol={symbol}&marginType=ISOLATED and /fapi/v1/leverage?symbol={symbol}&leverage={leverage}, or another "
        "detection.hedge.leverage",
        venue=venue,
    )


def parse_settings(venue: str, payload: bytes, odd: OddRows | None = None) -> dict[str, ContractSettings]:
    """GET /fapi/v1/symbolConfig, by contract."""

    def one(row: _SymbolConfig) -> tuple[str, ContractSettings]:
        return row.symbol, ContractSettings(required_number(row.leverage, venue), row.marginType == ISOLATED)

    return dict(_symbol_configs.read(payload, venue, "symbolConfig", one, odd=odd, foreign=any_row))


def to_set(
    symbols: Sequence[str], known: Mapping[str, ContractSettings], leverage: Decimal
) -> list[tuple[str, bool, bool]]:
    """(contract, margin mode is to be set, leverage is to be set) of those that are not known to be isolated at
    ``leverage``."""
    found = []
    for symbol in symbols:
        stands = known.get(symbol, ContractSettings(Decimal(0), False))
        if stands != ContractSettings(leverage, True):
            found.append((symbol, not stands.is_isolated, stands.leverage != leverage))
    return found
