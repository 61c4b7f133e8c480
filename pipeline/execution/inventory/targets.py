"""Inventory as an operator sees it: per venue and coin what is there and wanted, and which transfers would pay.

The target is the configured one, else, for what spot-spot trades move, the stock at which its inventory has no price
between any two venues, or comes nearest to that (:mod:`pipeline.execution.inventory.moves`). Proposals bring venues to
that point; what one earns is the area under the prices' lines (:mod:`pipeline.economics.inventory_price`). Network,
cost and time are the configured ones, else those of the venues' own lists of coins: the cheapest network that both
know and that is open at both ends. Where a venue tells no such list the cost is not known: the transfer is proposed
with that said, whatever it earns. What no open network carries is not proposed, and why is said.
"""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.inventory.moves import Key, Move, net_moves
from pipeline.execution.inventory.prices import InventoryPrices, Lane
from pipeline.model.config import InventoryConfig
from pipeline.model.network_names import network_name
from pipeline.model.networks import CoinNetworks, Route, networks_known, routes, why_no_route
from pipeline.model.structs import ZERO

NO_NETWORKS: CoinNetworks = {}


class InventoryBalance(msgspec.Struct, frozen=True, kw_only=True):
    """One asset on one venue. ``drift``: total less target; ``hours_to_empty``: at the last hour's flow; None = no
    flow, or none that empties it."""

    venue: str
    coin: str
    free: Decimal
    reserved: Decimal
    total: Decimal
    target: Decimal | None
    drift: Decimal | None
    alarm_below: Decimal | None
    low: bool
    hours_to_empty: float | None


class TransferProposal(msgspec.Struct, frozen=True, kw_only=True):
    """Coins to send. ``worth``: of all transfers together that serve the same pairs of venues, in their quote; ``cost``
    of this one in the same, None = unknown."""

    coin: str
    from_venue: str
    to_venue: str
    qty: Decimal
    network: str
    cost: Decimal | None
    minutes: int
    worth: Decimal


def inventory_balances(
    balances: BalanceMonitor, prices: InventoryPrices, config: InventoryConfig
) -> tuple[InventoryBalance, ...]:
    """Every balance that a venue has reported, by venue and asset. Looked at once a second, between two events."""
    lanes = [lane for lane in prices.lanes if lane.k > 0]
    targets, alarms = config.target_of, config.alarm_of
    neutral, empty = _neutral(lanes, balances), _hours(lanes)
    rows = []
    for (venue, coin), total in sorted(balances.totals().items()):
        key = (venue, coin)
        target = targets.get(key, neutral.get(key))
        rows.append(
            InventoryBalance(
                venue=venue,
                coin=coin,
                free=balances.get_balance(venue, coin) or ZERO,
                reserved=balances.reserved(venue, coin),
                total=total,
                target=target,
                drift=None if target is None else total - target,
                alarm_below=alarms.get(key),
                low=key in balances.low,
                hours_to_empty=empty.get(key),
            )
        )
    return tuple(rows)


def transfer_proposals(
    prices: InventoryPrices, config: InventoryConfig, networks: CoinNetworks = NO_NETWORKS
) -> tuple[TransferProposal, ...]:
    """The transfers that would pay, the best first; for whoever asks. ``networks``: as the venues listed them."""
    found = _proposed(net_moves(prices.lanes), prices, config, networks)
    return tuple(sorted(found, key=lambda p: p.worth, reverse=True))


def blocked_transfers(
    prices: InventoryPrices, config: InventoryConfig, networks: CoinNetworks = NO_NETWORKS
) -> tuple[str, ...]:
    """What would be sent and cannot travel, and why, in words; for whoever asks."""
    texts = (_blocked(move, config, networks) for move in net_moves(prices.lanes) if move.worth)
    return tuple(text for text in texts if text)


def _neutral(lanes: list[Lane], balances: BalanceMonitor) -> dict[Key, Decimal]:
    """Stock of each asset of the lanes after every transfer that is wanted."""
    totals = balances.totals()
    specs = [spec for lane in lanes for spec in (lane.first.spec, lane.second.spec)]
    found = {
        key: totals.get(key, ZERO) for spec in specs for key in ((spec.venue, spec.base), (spec.venue, spec.quote))
    }
    for move in net_moves(lanes):
        found[move.source, move.asset] -= move.qty
        found[move.to, move.asset] += move.qty
    return found


def _hours(lanes: list[Lane]) -> dict[Key, float]:
    """Hours until the flow has used up a coin at the venue that sells it, and cash at the one that buys."""
    found: dict[Key, float] = {}
    for lane in lanes:
        hours = lane.hours_to_empty()
        if math.isinf(hours):
            continue
        buy, sell = lane.flow_ends()
        for key in ((buy.venue, buy.quote), (sell.venue, sell.base)):
            found[key] = min(hours, found.get(key, math.inf))
    return found


def _proposed(
    moves: list[Move], prices: InventoryPrices, config: InventoryConfig, networks: CoinNetworks
) -> list[TransferProposal]:
    """The moves that can travel and earn enough: what a move earns, it earns together with those that serve the same
    lanes, so all of their known costs count."""
    routed = [(move, route) for move in moves if (route := _route(move, config, networks)) is not None]
    costs = [None if route.cost is None else route.cost * Decimal(repr(move.price)) for move, route in routed]
    found = []
    for (move, route), cost in zip(routed, costs, strict=True):
        lanes = {id(lane) for lane, _ in move.serves}
        known = [
            other_cost
            for (other, _), other_cost in zip(routed, costs, strict=True)
            if other_cost is not None and any(id(lane) in lanes for lane, _ in other.serves)
        ]
        if not move.worth or move.worth < sum(known, ZERO) * config.propose_worth_per_cost:
            continue
        found.append(
            TransferProposal(
                coin=move.asset,
                from_venue=move.source,
                to_venue=move.to,
                qty=move.qty,
                network=route.network,
                cost=cost,
                minutes=prices.transfer_minutes(move.asset) if route.minutes is None else route.minutes,
                worth=move.worth,
            )
        )
    return found


def _route(move: Move, config: InventoryConfig, networks: CoinNetworks) -> Route | None:
    """How a move travels: as configured, else the cheapest open network; None where none is open at both ends."""
    own = config.transfers.get(move.asset)
    listed = networks_known(networks, move.source) and networks_known(networks, move.to)
    open_now = routes(networks, move.asset, move.source, move.to, move.qty) if listed else []
    if own is not None:
        closed = listed and own.network and network_name(own.network) not in {route.network for route in open_now}
        return None if closed else Route(own.network, own.fee, own.minutes)
    if not listed:
        return Route("", None, None)
    return open_now[0] if open_now else None


def _blocked(move: Move, config: InventoryConfig, networks: CoinNetworks) -> str:
    """What a move is and why it cannot travel; "" where it can."""
    if _route(move, config, networks) is not None:
        return ""
    own = config.transfers.get(move.asset)
    network = network_name(own.network) if own is not None else ""
    why = why_no_route(networks, move.asset, move.source, move.to, move.qty, network)
    return f"{move.qty} {move.asset} from {move.source} to {move.to}: {why}"
