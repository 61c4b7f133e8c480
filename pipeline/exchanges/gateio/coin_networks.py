"""Gate.io coins' networks: GET /spot/currencies (chains and their switches) and GET /wallet/withdraw_status (fees).

No list tells how long a deposit takes: the documented confirmations stand with each deposit address only.

*Source:* Gate.io REST v4, "List all currencies' details", "Query withdrawal status".
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from pipeline.exchanges.parsing.rows import OddRows, Rows, any_row
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, maybe_number, number
from pipeline.model.network_names import network_name
from pipeline.model.networks import CoinNetwork

PPM_OF_PERCENT = 10_000


class Chain(msgspec.Struct):
    """A network of a coin, as /spot/currencies lists it."""

    name: str = ""
    addr: str | None = None
    deposit_disabled: bool = False
    withdraw_disabled: bool = False


class Currency(msgspec.Struct):
    """A row of /spot/currencies."""

    currency: str
    delisted: bool = False
    deposit_disabled: bool = False
    withdraw_disabled: bool = False
    chain: str = ""
    chains: list[Chain] = []


class _Status(msgspec.Struct):
    currency: str
    withdraw_amount_mini: Maybe = ABSENT
    withdraw_fix_on_chains: dict[str, str] | None = None
    withdraw_percent_on_chains: dict[str, str] | None = None


class WithdrawTerms(msgspec.Struct, frozen=True):
    """Of one coin: the least amount, and by network the fee in coins and the part of the amount."""

    least: Decimal
    fees: dict[str, Decimal]
    parts_ppm: dict[str, int]


_currencies = Rows(Currency)
_statuses = Rows(_Status)


def parse_withdraw_status(venue: str, payload: bytes, odd: OddRows | None = None) -> dict[str, WithdrawTerms]:
    """``[{"currency":"GT","withdraw_amount_mini":"0.1","withdraw_fix_on_chains":{"ETH":"0.5"},
    "withdraw_percent_on_chains":{"ETH":"0%"}}]``."""

    def one(row: _Status) -> tuple[str, WithdrawTerms]:
        fixed, parts = row.withdraw_fix_on_chains or {}, row.withdraw_percent_on_chains or {}
        known = {network_name(name): number(fee, venue) for name, fee in fixed.items() if fee}
        shares = {network_name(name): _ppm(part, venue) for name, part in parts.items()}
        return row.currency, WithdrawTerms(maybe_number(row.withdraw_amount_mini, venue) or Decimal(0), known, shares)

    return dict(_statuses.read(payload, venue, "wallet/withdraw_status", one, odd=odd, foreign=any_row))


def _ppm(part: str, venue: str) -> int:
    """``"0.5%"`` -> 5000."""
    return int(number(part.strip().removesuffix("%") or "0", venue) * PPM_OF_PERCENT)


def parse_networks(
    venue: str, payload: bytes, terms: Mapping[str, WithdrawTerms], odd: OddRows | None = None
) -> dict[str, tuple[CoinNetwork, ...]]:
    """Networks by coin; a coin without ``terms`` has no known fee."""

    def one(coin: Currency) -> tuple[str, tuple[CoinNetwork, ...]]:
        of_coin = terms.get(coin.currency)
        return coin.currency, tuple(_network(coin, chain, of_coin) for chain in coin.chains)

    return dict(_currencies.read(payload, venue, "spot/currencies", one, odd=odd, foreign=any_row))


def _network(coin: Currency, chain: Chain, terms: WithdrawTerms | None) -> CoinNetwork:
    name = network_name(chain.name)
    return CoinNetwork(
        network=name,
        contract=(chain.addr or "").strip().lower(),
        deposit=not (coin.delisted or coin.deposit_disabled or chain.deposit_disabled),
        withdraw=not (coin.delisted or coin.withdraw_disabled or chain.withdraw_disabled),
        fee=None if terms is None else terms.fees.get(name),
        fee_ppm=0 if terms is None else terms.parts_ppm.get(name, 0),
        least=Decimal(0) if terms is None else terms.least,
    )
