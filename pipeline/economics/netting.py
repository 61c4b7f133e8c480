"""An entry that trades the contract of an open hedge the other way: when to close that hedge's contract with it (net
it) instead of opening a second hedge, and how much.

Both hedges stand on one contract. Netted, its position closes and neither has to leave it later: two taker fees are
saved. What is left is inventory: the coins that one hedge holds at one spot venue, and that the other has sold at
another.
"""

from __future__ import annotations

from decimal import Decimal


def nets(contract_fee_bps: float, inventory_price_bps: float) -> bool:
    """Whether the two fees that netting saves are more than the price of the inventory that it moves.

    ``contract_fee_bps``: one taker fee; ``inventory_price_bps``: what a spot-spot trade pays now that buys where coins
    are held and sells where they were sold; below 0 it is paid for bringing coins back.
    """
    return 2 * contract_fee_bps > inventory_price_bps


def netted_qty(open_qty: Decimal, hit_qty: Decimal, lot: Decimal, least: Decimal) -> Decimal:
    """Base coins that net of a hedge of ``open_qty`` and a hit of ``hit_qty``: on the lot, as much as both have, so
    that the hedge keeps nothing or at least ``least``, which both its venues take an order of. 0: none."""
    qty = min(open_qty, hit_qty) // lot * lot
    if qty == open_qty:
        return qty
    return max(Decimal(0), min(qty, (open_qty - least) // lot * lot))
