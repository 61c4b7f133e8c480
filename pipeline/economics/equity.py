"""Equity and the day's P&L at one mark per asset, and how much of what is held is hedged.

The mark of an asset is its index: the median of the proved mids of every book that prices it against the numeraire,
never one venue's own, so that a lasting difference between venues is no profit. A perpetual counts at its venue's mark.
Everything in the numeraire is a ``Decimal``; quantities are signed base coins.

Daily P&L = equity - equity at 00:00 UTC - net transfers from outside at their mark = trading + inventory, where
inventory is what the coins that were held at 00:00 gained by their price alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import combinations
from statistics import median
from typing import NamedTuple

ZERO = Decimal(0)
STRESS_MOVE = Decimal("0.10")  # of every price
UNKNOWN_MAX = 4  # orders of one coin of which every combination is looked at: 8 would stop the loop of orders for 5 ms


class PerpetualHolding(NamedTuple):
    """An open perpetual: signed base ``qty``, ``entry`` and ``mark`` in quote per base."""

    base: str
    quote: str
    qty: Decimal
    entry: Decimal
    mark: Decimal

    @property
    def unrealised(self) -> Decimal:
        """Its P&L at the mark, in quote."""
        return self.qty * (self.mark - self.entry)


class Equity(NamedTuple):
    """``value`` in the numeraire; ``unmarked``: assets that are held and have no mark, left out of the value."""

    value: Decimal
    unmarked: tuple[str, ...]


class DailyPnl(NamedTuple):
    """The day's P&L in the numeraire: ``total = trading + inventory``."""

    total: Decimal
    trading: Decimal
    inventory: Decimal


class Hedging(NamedTuple):
    """What is held beyond the baseline, in the numeraire at marks.

    ``gross``: sum of |quantity x mark|; ``net``: what no other holding of the same coin stands against; ``hedged``:
    the part that stands against each other, counted once: ``gross = 2 hedged + net``.
    """

    gross: Decimal
    net: Decimal
    hedged: Decimal


def index_marks(mids: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    """Mark per asset: the median of its (asset, mid) pairs, numeraire per unit. Mids that are not above 0 are dropped.

    The caller passes mids of books that are proved current, spot and perpetual alike, each book once.
    """
    found: dict[str, list[Decimal]] = {}
    for asset, mid in mids:
        if mid > 0:
            found.setdefault(asset, []).append(mid)
    return {asset: median(values) for asset, values in found.items()}


def equity(
    balances: Mapping[str, Decimal], perpetuals: Iterable[PerpetualHolding], marks: Mapping[str, Decimal]
) -> Equity:
    """Value of all balances (asset -> total over all venues) at ``marks`` and of the perpetuals' unrealised P&L.

    ``marks`` has the numeraire itself at 1. An asset without a mark counts nothing and is named.
    """
    amounts = dict(balances)
    for holding in perpetuals:
        amounts[holding.quote] = amounts.get(holding.quote, ZERO) + holding.unrealised
    unmarked = tuple(sorted(asset for asset, amount in amounts.items() if amount and asset not in marks))
    return Equity(sum((amount * marks[a] for a, amount in amounts.items() if a in marks), ZERO), unmarked)


def transfers_value(transfers: Iterable[tuple[str, Decimal]], marks: Mapping[str, Decimal]) -> Decimal:
    """Net transfers from outside as (asset, amount, + = came in) at ``marks``. Raises KeyError for an asset without."""
    return sum((amount * marks[asset] for asset, amount in transfers), ZERO)


def daily_pnl(
    now: Decimal,
    at_midnight: Decimal,
    net_transfers: Decimal,
    held_at_midnight: Mapping[str, Decimal],
    marks_at_midnight: Mapping[str, Decimal],
    marks: Mapping[str, Decimal],
) -> DailyPnl:
    """The day's P&L of equity ``now``. ``held_at_midnight``: net quantity per asset, perpetuals as base coin.

    An asset without both marks moves no inventory.
    """
    total = now - at_midnight - net_transfers
    inventory = sum(
        (
            qty * (marks[asset] - marks_at_midnight[asset])
            for asset, qty in held_at_midnight.items()
            if asset in marks and asset in marks_at_midnight
        ),
        ZERO,
    )
    return DailyPnl(total, total - inventory, inventory)


def hedging(deviations: Iterable[tuple[str, Decimal]], marks: Mapping[str, Decimal]) -> Hedging:
    """``deviations``: (coin, signed quantity beyond the baseline) of every account. Raises KeyError without a mark."""
    gross = ZERO
    per_coin: dict[str, Decimal] = {}
    for coin, qty in deviations:
        value = qty * marks[coin]
        gross += abs(value)
        per_coin[coin] = per_coin.get(coin, ZERO) + value
    net = sum((abs(value) for value in per_coin.values()), ZERO)
    return Hedging(gross, net, (gross - net) / 2)


def stress(
    deviations: Iterable[tuple[str, str, Decimal]],
    unknown: Iterable[tuple[str, str, Decimal]],
    marks: Mapping[str, Decimal],
    basis_move: Decimal,
) -> Decimal:
    """What is lost when every coin moves ``STRESS_MOVE`` against what is held net, and the basis moves by
    ``basis_move`` (a share of the price) against what is hedged.

    ``deviations``: (coin, account, signed quantity beyond the baseline). ``unknown``: the same of orders whose outcome
    is not known; each counts as filled or not, whichever is worse (of more than ``UNKNOWN_MAX`` of a coin: all buys,
    all sells, all, or none). Coins without a mark are left out.
    """
    held: dict[str, dict[str, Decimal]] = {}
    for coin, account, qty in deviations:
        if coin in marks:
            accounts = held.setdefault(coin, {})
            accounts[account] = accounts.get(account, ZERO) + qty
    open_: dict[str, list[tuple[str, Decimal]]] = {}
    for coin, account, qty in unknown:
        if coin in marks:
            held.setdefault(coin, {})
            open_.setdefault(coin, []).append((account, qty))

    def loss(coin: str, filled: Iterable[tuple[str, Decimal]]) -> Decimal:
        accounts = dict(held[coin])
        for account, qty in filled:
            accounts[account] = accounts.get(account, ZERO) + qty
        found = hedging(((coin, qty) for qty in accounts.values()), marks)
        return found.net * STRESS_MOVE + found.hedged * basis_move

    total = ZERO
    for coin in held:
        total += max(loss(coin, filled) for filled in _outcomes(open_.get(coin, [])))
    return total


def _outcomes(orders: list[tuple[str, Decimal]]) -> Iterator[list[tuple[str, Decimal]]]:
    """Which of the orders may have filled."""
    if len(orders) > UNKNOWN_MAX:
        yield from ([], orders, [o for o in orders if o[1] > 0], [o for o in orders if o[1] < 0])
        return
    for count in range(len(orders) + 1):
        yield from map(list, combinations(orders, count))
