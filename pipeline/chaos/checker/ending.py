"""The end of a run: everything settled, every fill booked once, money equal, nothing naked, back at work."""

from __future__ import annotations

from decimal import Decimal

from pipeline.chaos.checker.claims import Claims
from pipeline.chaos.checker.finding import Find
from pipeline.chaos.checker.truth import ZERO, Row, Truth


def end(row: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """The ``end`` row: what the core believes."""
    _alive(row, find)
    _orders(row, truth, claims, find)
    _fills(truth, claims, find)
    _money(row, truth, find)
    _flat(row, truth, claims, find)
    _moved(truth, claims, find)
    if not row["digest_equal"]:
        find("replay", "the journal's replay is not the live state")


def _alive(row: Row, find: Find) -> None:
    if not (row["rested"] and row["idle"]):
        find("alive", f"not at rest after the faults: unsettled {row['unsettled']}, waiting {row['waiting']}")
    if not row["ready"] or not row["planted"]:
        find("alive", f"no opportunity was taken after the faults: {row['refused']}, breakers {row['breakers']}")


def _orders(row: Row, truth: Truth, claims: Claims, find: Find) -> None:
    for name, (state, filled) in row["orders"].items():
        there, claim = truth.orders.get(name), claims.orders[name]
        true = there.filled if there is not None else ZERO
        if filled != true:
            find("end", f"{name}: {filled} filled, {true} at its venue")
        if state != claim.state:
            find("monotone", f"{name}: ends as {state}, its evidence says {claim.state}")
    for name, claim in claims.orders.items():
        if not claim.settled and name not in row["unsettled"] and not row["retired"]:
            find("end", f"{name}: {claim.state} and forgotten")


def _fills(truth: Truth, claims: Claims, find: Find) -> None:
    for key, fill in truth.fills.items():
        if fill["client_id"] in claims.orders and key not in claims.fills:
            find("fills", f"{key}: lost, {fill['side']} {fill['qty']} of {fill['client_id']}")
        elif fill["client_id"] in claims.orders or (fill["venue"], fill["wire_order_id"]) in claims.external_orders:
            continue
        elif key not in claims.external_fills:
            find("fills", f"{key}: of nobody's order ({fill['forced'] or 'manual'}), never booked")


def _money(row: Row, truth: Truth, find: Find) -> None:
    """To the last digit. The realised part of a futures position depends on the order in which its executions became
    known; the wallet less the cost of what is open does not, so that is compared."""
    theirs, ours = dict(truth.money), {tuple(key.split("|")): amount for key, amount in row["flows"].items()}
    for (venue, symbol), cost in truth.costs.items():
        key = (venue, truth.instruments[venue, symbol]["quote"])
        theirs[key] = theirs.get(key, ZERO) - cost
        ours[key] = ours.get(key, ZERO) - row["costs"].get(f"{venue}|{symbol}", ZERO)
    for key in sorted(theirs.keys() | ours.keys()):
        mine, amount = ours.get(key, ZERO), theirs.get(key, ZERO)
        if mine != amount:
            find("money", f"{' '.join(key)}: {mine} by our books, {amount} by the venue's")
    for place, qty in truth.positions.items():
        mine = row["positions"].get("|".join(place), ZERO)
        if mine != qty:
            find("money", f"{place}: position {mine} by our books, {qty} by the venue's")


def _moved(truth: Truth, claims: Claims, find: Find) -> None:
    """What others have deposited and withdrawn is booked, and nothing else. (A tape of real processes does not tell
    first deposits from later ones.)"""
    if not truth.config["feeds_seen"]:
        return
    for key in sorted(truth.moved.keys() | claims.flows.keys()):
        mine, theirs = claims.flows.get(key, ZERO), truth.moved.get(key, ZERO)
        if mine != theirs:
            find("external", f"{' '.join(key)}: {mine} booked as moved by others, {theirs} was")


def _flat(row: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """Net of all coins: what is listed as dust, and what operations hold that wait for an operator."""
    net: dict[str, Decimal] = {}
    numeraire = truth.config["numeraire"]
    for (_, asset), amount in truth.money.items():
        if asset != numeraire:
            net[asset] = net.get(asset, ZERO) + amount
    for place, qty in truth.positions.items():
        base = truth.instruments[place]["base"]
        net[base] = net.get(base, ZERO) + qty
    waiting = [one for one in claims.open_operations() if one.result is not None]
    for asset, amount in net.items():
        known = row["dust"].get(asset, ZERO) + sum((one.exposure(asset) for one in waiting), ZERO)
        if amount != known:
            find("flat", f"{amount} {asset} held, {known} known")
    for asset in row["dust"].keys() - net.keys():
        find("flat", f"dust of {row['dust'][asset]} {asset} that is nowhere")
