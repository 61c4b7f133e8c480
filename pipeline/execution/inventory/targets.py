"""Inventory as an operator sees it: per venue and coin what is there and wanted, and which transfers would pay.

The target is the configured one, else, for a coin that spot-spot trades move, the stock at which its inventory has no
price. A proposal brings a pair of venues to that point; what it earns is the area under the price's line
(:mod:`pipeline.economics.inventory_price`). Network, cost and time are the configured ones, else those of the venues'
own lists of coins: the cheapest network that both know and that is open at both ends. Where a venue tells no such list
the cost is not known: the transfer is proposed with that said, whatever it earns. What no open network carries is not
proposed, and why is said.
"""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.inventory.prices import InventoryPrices, Lane
from pipeline.model.config import InventoryConfig
from pipeline.model.fixedpoint import quantize_down
from pipeline.model.network_names import network_name
from pipeline.model.networks import CoinNetworks, Route, networks_known, routes, why_no_route
from pipeline.model.structs import ZERO, InstrumentSpec

CASH_STEP = Decimal("0.01")
NO_NETWORKS: CoinNetworks = {}
Key = tuple[str, str]  # venue and asset


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
    """Coins to send. ``worth``: of all transfers of its pair of venues together, in the pair's quote; ``cost`` of this
    one in the same, None = unknown."""

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
    lanes = [lane for lane in prices.lanes if lane.k > 0]
    found = [proposal for lane in lanes for proposal in _proposals(lane, prices, config, networks)]
    return tuple(sorted(found, key=lambda p: p.worth, reverse=True))


def blocked_transfers(
    prices: InventoryPrices, config: InventoryConfig, networks: CoinNetworks = NO_NETWORKS
) -> tuple[str, ...]:
    """What would be sent and cannot travel, and why, in words; for whoever asks."""
    lanes = [lane for lane in prices.lanes if lane.k > 0 and round(lane.worth, 8)]
    found = (_blocked(move, config, networks) for lane in lanes for move in _moves(lane))
    return tuple(text for text in found if text)


class _Move(msgspec.Struct, frozen=True):
    """One asset that a pair of venues lacks at one of them; ``value`` in the pair's quote."""

    asset: str
    source: InstrumentSpec
    to: InstrumentSpec
    value: float
    price: float  # quote per unit of the asset

    @property
    def qty(self) -> Decimal:
        step = self.source.lot if self.asset == self.source.base else CASH_STEP
        return quantize_down(Decimal(repr(self.value / self.price)), step)


def _moves(lane: Lane) -> list[_Move]:
    """Coins to the venue that sells too fast, and cash to the one that buys there, so far as each of them lacks it."""
    first, second, (cash_1, cash_2), (coins_1, coins_2) = lane.first.spec, lane.second.spec, lane.cash, lane.coins
    neutral = lane.x - lane.to_send
    if lane.to_send > 0:
        wanted = lane.k - neutral
        moves = [
            _Move(first.base, first, second, min(wanted - coins_2, coins_1), lane.mid),
            _Move(first.quote, second, first, min(wanted - cash_1, cash_2), 1.0),
        ]
    else:
        wanted = lane.k + neutral
        moves = [
            _Move(first.base, second, first, min(wanted - coins_1, coins_2), lane.mid),
            _Move(first.quote, first, second, min(wanted - cash_2, cash_1), 1.0),
        ]
    return [move for move in moves if move.value > 0 and move.qty]


def _neutral(lanes: list[Lane], balances: BalanceMonitor) -> dict[Key, Decimal]:
    """Stock of each base coin where its inventory has no price. A coin that several pairs of venues trade has no one
    such stock, so it is left out."""
    found: dict[Key, Decimal] = {}
    several: set[Key] = set()
    totals = balances.totals()
    for lane in lanes:
        sent = {(m.source.venue, m.asset): -m.qty for m in _moves(lane)} | {
            (m.to.venue, m.asset): m.qty for m in _moves(lane)
        }
        for spec in (lane.first.spec, lane.second.spec):
            key = (spec.venue, spec.base)
            if key in found:
                several.add(key)
            found[key] = totals.get(key, ZERO) + sent.get(key, ZERO)
    return {key: amount for key, amount in found.items() if key not in several}


def _hours(lanes: list[Lane]) -> dict[Key, float]:
    """Hours until the flow has used up a coin at the venue that sells it, and cash at the one that buys."""
    found: dict[Key, float] = {}
    for lane in lanes:
        hours = lane.hours_to_empty()
        if math.isinf(hours):
            continue
        onward = lane.per_hour() > 0
        buy, sell = (lane.first.spec, lane.second.spec) if onward else (lane.second.spec, lane.first.spec)
        for key in ((buy.venue, buy.quote), (sell.venue, sell.base)):
            found[key] = min(hours, found.get(key, math.inf))
    return found


def _proposals(
    lane: Lane, prices: InventoryPrices, config: InventoryConfig, networks: CoinNetworks
) -> list[TransferProposal]:
    """Everything that one pair of venues lacks; nothing where the known costs together are too much for its worth."""
    found = [(move, route) for move in _moves(lane) if (route := _route(move, config, networks)) is not None]
    worth = Decimal(repr(round(lane.worth, 8)))
    costs = [None if route.cost is None else route.cost * Decimal(repr(move.price)) for move, route in found]
    if not worth or worth < sum((cost for cost in costs if cost is not None), ZERO) * config.propose_worth_per_cost:
        return []
    return [
        TransferProposal(
            coin=move.asset,
            from_venue=move.source.venue,
            to_venue=move.to.venue,
            qty=move.qty,
            network=route.network,
            cost=cost,
            minutes=prices.transfer_minutes(move.asset) if route.minutes is None else route.minutes,
            worth=worth,
        )
        for (move, route), cost in zip(found, costs, strict=True)
    ]


def _route(move: _Move, config: InventoryConfig, networks: CoinNetworks) -> Route | None:
    """How a move travels: as configured, else the cheapest open network; None where none is open at both ends."""
    own = config.transfers.get(move.asset)
    source, to = move.source.venue, move.to.venue
    listed = networks_known(networks, source) and networks_known(networks, to)
    open_now = routes(networks, move.asset, source, to, move.qty) if listed else []
    if own is not None:
        closed = listed and own.network and network_name(own.network) not in {route.network for route in open_now}
        return None if closed else Route(own.network, own.fee, own.minutes)
    if not listed:
        return Route("", None, None)
    return open_now[0] if open_now else None


def _blocked(move: _Move, config: InventoryConfig, networks: CoinNetworks) -> str:
    """What a move is and why it cannot travel; "" where it can."""
    if _route(move, config, networks) is not None:
        return ""
    own, source, to = config.transfers.get(move.asset), move.source.venue, move.to.venue
    network = network_name(own.network) if own is not None else ""
    why = why_no_route(networks, move.asset, source, to, move.qty, network)
    return f"{move.qty} {move.asset} from {source} to {to}: {why}"
