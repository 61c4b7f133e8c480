"""Endings, states and fills of orders, and results of operations: each true when it was written."""

from __future__ import annotations

from decimal import Decimal

from pipeline.chaos.checker.claims import EMPTY, ENDED, RANK, Claim, Claims, Operation
from pipeline.chaos.checker.exits import of_exit
from pipeline.chaos.checker.finding import Find
from pipeline.chaos.checker.truth import ZERO, Row, Truth, VenueOrder

NEWS_NS = 400_000_000  # until which news of an order come whose request was lost
ADDS_RISK = ("ENTRY",)
DUST_PRICE = Decimal("0.95")  # a repair is priced up to 2 % from the best price, which moves meanwhile


#: Why a venue refused an order, where that says nothing about the position which it was to reduce.
ELSEWHERE = frozenset({"limited", "expired", "symbol_halted", "side_barred", "bad_price_tick", "bad_qty_step"})


def state(row: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """An ``OrderStateRecord``."""
    body = row["body"]
    name, said = body["client_id"], body["state"]
    claim = claims.orders.get(name)
    if claim is None:
        find("accounted", f"{name}: evidence of an order without an intent")
        return
    reported = body["reported_filled"]
    more = reported is not None and (claim.reported is None or reported > claim.reported)
    if RANK[said] <= RANK[claim.state] and not more and not (body["order_id"] and not claim.order_id):
        find("monotone", f"{name}: {said} after {claim.state}")
    there = truth.orders.get(name)
    if said == "REJECTED":
        if there is not None:
            find("rejected", f"{name}: REJECTED, yet its venue took it")
        elif name not in truth.refused:
            if truth.config["refusals_seen"]:
                find("rejected", f"{name}: REJECTED, yet its venue has not refused it")
        elif truth.refused[name] in ELSEWHERE:
            if body["of_position"]:
                find("rejected", f"{name}: taken for want of a position, its venue says {truth.refused[name]}")
        elif claim.body["reduce_only"]:
            claims.own_side_only(claim.body["operation_id"])
    elif said == "NOT_SENT" and name in truth.arrivals:
        find("not sent", f"{name}: NOT_SENT, yet it reached its venue")
    elif said == "EXPIRED":
        _expired(row, claim, there, truth, find)
    elif said in ("OPEN", "PARTIALLY_FILLED", "CANCELLED", "FILLED"):
        _shown(body, claim, there, find)


def _expired(row: Row, claim: Claim, there: VenueOrder | None, truth: Truth, find: Find) -> None:
    name, venue = claim.body["client_id"], claim.body["venue"]
    if there is not None and (there.filled or not there.endings):  # it is said to have executed nothing
        find("expired", f"{name}: EXPIRED, yet its venue took it and filled {there.filled}")
    wait_ns = claim.window_ns + truth.config["grace_ns"]
    provable_ns = (claim.sent_ns or claim.at_ns) + wait_ns
    if row["mono_ns"] < provable_ns:
        find("expired", f"{name}: EXPIRED {(provable_ns - row['mono_ns']) // 10**6} ms before it can be known")
    elif truth.asked_ns.get((venue, "finished_orders"), 0) < provable_ns:
        find("expired", f"{name}: EXPIRED without a sweep of {venue} after its expiry")


def _shown(body: Row, claim: Claim, there: VenueOrder | None, find: Find) -> None:
    name, said, reported = body["client_id"], body["state"], body["reported_filled"]
    if there is None:
        find("state", f"{name}: {said}, yet its venue has no such order")
        return
    if reported is not None and reported > there.filled:
        find("state", f"{name}: {reported} filled, {there.filled} at its venue")
    if said == "FILLED" and not there.whole and not claim.body["reduce_only"]:
        find("state", f"{name}: FILLED, {there.filled} of {there.row['qty']} at its venue")
    if said == "CANCELLED":
        if not there.endings:
            find("state", f"{name}: CANCELLED, yet open at its venue")
        elif reported is not None and reported not in there.endings:
            find("state", f"{name}: CANCELLED with {reported} filled, at its venue {there.endings}")


def fill(row: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """A ``FillRecord``: the venue's own, once."""
    body = row["body"]
    key = (body["venue"], body["symbol"], body["trade_id"])
    theirs = truth.fills.get(key)
    if theirs is None:
        find("fills", f"{key}: no such fill at its venue")
        return
    if key in claims.fills:
        find("fills", f"{key}: booked twice")
    mine = (body["client_id"], body["side"], body["qty"], body["price"])
    other = (theirs["client_id"], theirs["side"].upper(), theirs["qty"], theirs["price"])
    if mine != other:
        find("fills", f"{key}: journal {mine}, venue {other}")
    paid = _fees([(body["fee_asset"], body["fee"]), *body["extra_fees"]])
    taken = _fees([(theirs["fee_asset"], theirs["fee"]), (theirs["coin_asset"], theirs["coin_fee"])])
    if paid != taken:
        find("fills", f"{key}: fees {paid}, at the venue {taken}")


def flow(row: Row, truth: Truth, find: Find) -> None:
    """An ``ExternalFlowRecord``: money is gone without a reason only where others have moved some."""
    body = row["body"]
    if body["cause"] == "unexplained" and (body["venue"], body["asset"]) not in truth.moved:
        find("external", f"{body['venue']} {body['asset']} {body['amount']} called unexplained: nobody moved any")


def _fees(parts: list[tuple[str, Decimal]]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for asset, amount in parts:
        if amount:
            found[asset] = found.get(asset, ZERO) + amount
    return found


def accepted(row: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """A venue's ``order`` row: of an order that the core knows and has not called ended with nothing."""
    claim = claims.orders.get(row["client_id"])
    if claim is None:
        if not row["forced"]:
            find("accounted", f"{row['client_id']}: an order without an intent at {row['venue']}")
        return
    body = claim.body
    known = truth.orders.get(row["client_id"])
    if claim.ended_as in EMPTY and not (known is not None and known.endings):
        find(
            claim.ended_as.lower().replace("_", " "),
            f"{body['client_id']}: taken by its venue after it was {claim.ended_as}",
        )
    mine = (body["venue"], body["symbol"], body["side"], body["qty"], body["price"], body["reduce_only"])
    there = (row["venue"], row["symbol"], row["side"].upper(), row["qty"], row["price"], row["reduce_only"])
    if mine != there and not (body["reduce_only"] and mine[:3] == there[:3] and row["qty"] <= body["qty"]):
        find("accounted", f"{body['client_id']}: intent {mine}, at the venue {there}")


def result(row: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """An ``OperationResultRecord``: nothing is open or in doubt, the money is its fills', what is left is dust."""
    body = row["body"]
    operation = claims.operations[body["operation_id"]]
    if body["outcome"] == "UNRESOLVED":
        return
    for name in operation.orders:
        claim, there = claims.orders[name], truth.orders.get(name)
        if not claim.settled:
            find("result", f"{body['operation_id']}: ended, yet {name} is {claim.state}, {claim.filled} booked")
        elif there is not None and not there.endings:
            find("result", f"{body['operation_id']}: ended, yet {name} is open at its venue")
        elif there is not None and claim.filled != there.endings[-1] and claim.filled not in _once(there):
            find("result", f"{body['operation_id']}: {claim.filled} of {name} booked, {there.filled} at its venue")
    if not operation.external:
        _left(operation, row["mono_ns"], truth, claims, find)
        _earned(body, operation, find)


def _once(there: VenueOrder) -> list[Decimal]:
    """What the core may still hold true of an order that has executed after its end."""
    return there.endings if there.late else []


def _left(operation: Operation, now_ns: int, truth: Truth, claims: Claims, find: Find) -> None:
    name, legs = operation.body["operation_id"], operation.body["legs"]
    for asset in {leg["base"] for leg in legs}:
        left = operation.exposure(asset)
        if left:
            find("result", f"{name}: ended with {left} {asset}, neither hedged nor dust")
        moved = operation.left.get(asset, ZERO)
        for leg in legs:
            row = truth.instruments[leg["venue"], leg["symbol"]]
            qty = abs(moved) // row["lot"] * row["lot"] if row["lot"] else abs(moved)
            price = leg["best_price"] * DUST_PRICE
            if leg["kind"] == "SPOT" and operation.body["closes"] and leg["side"] == ("SELL" if moved > 0 else "BUY"):
                held = claims.group_net(operation, "SPOT", asset)
                qty = qty if held * moved > 0 and abs(held) >= qty else ZERO  # it would open the hedge's opposite
            elif operation.body["closes"] and _short_of_margin(operation, now_ns, truth):
                qty = ZERO  # it would undo an exit that must end
            elif operation.body["closes"] and not of_exit(truth.by, leg["kind"], asset, moved, operation, claims):
                qty = ZERO  # the same
            if qty and qty >= row["min_qty"] and qty * price >= row["min_notional"] and leg["base"] == asset:
                find("dust", f"{name}: {moved} {asset} called dust, {leg['venue']} trades it")
                break


def _short_of_margin(operation: Operation, now_ns: int, truth: Truth) -> bool:
    """Whether the margin of a contract that it leaves was short while it went on, by the venue's own numbers. (How the
    engine has priced its orders is no proof of it.)"""
    contracts = {(leg["venue"], leg["symbol"]) for leg in operation.body["legs"] if leg["kind"] != "SPOT"}
    return any(truth.short_of_margin(place, operation.at_ns, now_ns) for place in contracts)


def _earned(body: Row, operation: Operation, find: Find) -> None:
    """Spot alone: what the fills moved, to the last digit. (Futures: the money of the whole run, at its end.)"""
    if any(leg["kind"] != "SPOT" for leg in operation.body["legs"]):
        return
    moved: dict[str, Decimal] = {}
    for one in operation.fills:
        signed = one["qty"] if one["side"] == "BUY" else -one["qty"]
        parts = [(one["base"], signed), (one["quote"], -signed * one["price"])]
        for asset, amount in [*parts, *((a, -f) for a, f in ((one["fee_asset"], one["fee"]), *one["extra_fees"]))]:
            moved[asset] = moved.get(asset, ZERO) + amount
    reported = {asset: amount for asset, amount in body["pnl"].items() if amount}
    if reported != {asset: amount for asset, amount in moved.items() if amount}:
        find("money", f"{body['operation_id']}: P&L {reported}, its fills moved {moved}")


def sweep(row: Row, truth: Truth, find: Find) -> None:
    """A ``ReconcileRecord``: complete only where the venue has answered."""
    body = row["body"]
    key = (body["venue"], "finished_orders")
    answered_ns = truth.asked_ns.get(key, -1)
    if body["complete"] and body["symbols"] and answered_ns < body["began_mono_ns"]:
        find("sweep", f"a sweep of {body['venue']} called complete, which it has not answered")


def undecided(claim: Claim, now_ns: int, answer_ns: int) -> bool:
    """Whether the answer to an order may still come in its normal time: within ``answer_ns`` or, for one that reduces
    risk, while its venue may take it; where its request has ended without one, only news of it, and soon."""
    if claim.body["purpose"] not in ADDS_RISK:
        answer_ns = min(answer_ns, claim.window_ns)
    if claim.state == "UNKNOWN":
        answer_ns = min(answer_ns, NEWS_NS)
    waited_ns = now_ns - (claim.sent_ns or claim.at_ns)
    return not claim.settled and claim.state not in ENDED and 0 <= waited_ns < answer_ns
