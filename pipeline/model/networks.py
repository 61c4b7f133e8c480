"""The networks that coins travel on between exchanges, as each venue lists them, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from pipeline.model.structs import ZERO

#: Seconds between blocks, by our name of a network: what a confirmation lasts where the venue tells no time.
BLOCK_S: Mapping[str, float] = {
    "arb": 0.25, "avax_c": 2, "base": 2, "bsc": 3, "btc": 600, "doge": 60, "eth": 12, "ltc": 150, "matic": 2,
    "op": 2, "sol": 0.4, "ton": 5, "trx": 3, "xrp": 4,
}  # fmt: skip


class CoinNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """One coin on one network at one venue. ``network``: our one name of it; ``contract``: address, "" for a native
    coin.

    ``fee`` and ``least``: what a withdrawal costs and its least amount, in the coin; ``fee_ppm``: of the amount,
    besides. ``minutes``: until a deposit is booked. None = the venue does not tell.
    """

    network: str
    contract: str = ""
    deposit: bool = False
    withdraw: bool = False
    fee: Decimal | None = None
    fee_ppm: int = 0
    least: Decimal = ZERO
    minutes: int | None = None

    def cost(self, qty: Decimal) -> Decimal | None:
        """What a withdrawal of ``qty`` costs, in the coin; None where it is not known."""
        return None if self.fee is None else self.fee + qty * self.fee_ppm / 1_000_000


#: Venue -> coin -> its networks there. A coin that a venue does not list travels on none; a venue that is not there has
#: not answered.
CoinNetworks = Mapping[str, Mapping[str, tuple[CoinNetwork, ...]]]


class Route(msgspec.Struct, frozen=True):
    """A way from one venue to another. ``cost`` in the coin, None = unknown."""

    network: str
    cost: Decimal | None
    minutes: int | None


def minutes_of(network: str, confirmations: int) -> int | None:
    """Minutes that so many confirmations last, rounded up; None for a network whose pace is not known."""
    block_s = BLOCK_S.get(network)
    return None if block_s is None or confirmations <= 0 else max(1, -int(-confirmations * block_s // 60))


def networks_known(networks: CoinNetworks, venue: str) -> bool:
    """Whether a venue has answered which networks its coins have."""
    return venue in networks


def routes(networks: CoinNetworks, coin: str, source: str, to: str, qty: Decimal) -> list[Route]:
    """Networks on which ``qty`` of a coin can leave ``source`` and be booked at ``to`` now, the cheapest first; of
    equal cost the fastest. One whose contract differs at the two venues is another coin."""
    at_target = {net.network: net for net in networks.get(to, {}).get(coin, ())}
    found: list[Route] = []
    for net in networks.get(source, {}).get(coin, ()):
        other = at_target.get(net.network)
        if other is None or other.contract != net.contract:
            continue
        if net.withdraw and other.deposit and qty >= net.least:
            found.append(Route(net.network, net.cost(qty), other.minutes if other.minutes is not None else net.minutes))
    return sorted(found, key=_order)


def why_no_route(networks: CoinNetworks, coin: str, source: str, to: str, qty: Decimal, network: str = "") -> str:
    """Why ``qty`` of a coin cannot travel now, in words; ``network``: our one name of the only one that may carry it,
    "" = any."""
    leaving = [net for net in networks.get(source, {}).get(coin, ()) if network in ("", net.network)]
    arriving = {net.network: net for net in networks.get(to, {}).get(coin, ()) if network in ("", net.network)}
    common = [net for net in leaving if net.network in arriving and arriving[net.network].contract == net.contract]
    if not common:
        return (
            f"network {network} is not listed for it by both venues" if network else "the venues list no common network"
        )
    open_now = [net for net in common if net.withdraw and arriving[net.network].deposit]
    if open_now:
        least = min(open_now, key=lambda net: net.least)
        return f"below the least amount that {source} sends, {least.least.normalize():f} by {least.network}"
    return f"network {network} is closed" if network else "every common network is closed"


def _order(route: Route) -> tuple[bool, Decimal, int, str]:
    """What is known to cost something comes before what may cost anything."""
    minutes = 24 * 60 if route.minutes is None else route.minutes
    return route.cost is None, route.cost or ZERO, minutes, route.network
