"""GET /capital/config/getall: the networks of every coin. MEXC answers in Binance's shape, with names of its own.

Binance tells ``estimatedArrivalTime`` (minutes) and ``minConfirm``; MEXC ``minConfirm`` alone. ``withdrawFee`` and
``withdrawMin`` are in the coin. ``busy``: the network is congested; it still works.

*Source:* Binance wallet API, "All Coins' Information"; MEXC spot v3, "Query the currency information".
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.exchanges.parsing.rows import OddRows, Rows, any_row
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, maybe_number
from pipeline.model.network_names import network_name
from pipeline.model.networks import CoinNetwork, minutes_of


class _Network(msgspec.Struct):
    network: str = ""
    netWork: str = ""
    contract: str | None = None
    contractAddress: str | None = None
    depositEnable: bool = False
    withdrawEnable: bool = False
    withdrawFee: Maybe = ABSENT
    withdrawMin: Maybe = ABSENT
    minConfirm: int | None = None
    estimatedArrivalTime: int | None = None


class _Coin(msgspec.Struct):
    coin: str
    networkList: list[_Network] = []


_coins = Rows(_Coin)


def parse_capital_config(venue: str, payload: bytes, odd: OddRows | None = None) -> dict[str, tuple[CoinNetwork, ...]]:
    """Networks by coin; see the module's docstring."""

    def one(coin: _Coin) -> tuple[str, tuple[CoinNetwork, ...]]:
        return coin.coin, tuple(_network(net, venue) for net in coin.networkList)

    return dict(_coins.read(payload, venue, "capital/config/getall", one, odd=odd, foreign=any_row))


def _network(net: _Network, venue: str) -> CoinNetwork:
    name = network_name(net.netWork or net.network)
    fee, least = maybe_number(net.withdrawFee, venue), maybe_number(net.withdrawMin, venue)
    minutes = net.estimatedArrivalTime or minutes_of(name, net.minConfirm or 0)
    return CoinNetwork(
        network=name,
        contract=(net.contract or net.contractAddress or "").strip().lower(),
        deposit=net.depositEnable,
        withdraw=net.withdrawEnable,
        fee=fee,
        least=least or Decimal(0),
        minutes=minutes,
    )
