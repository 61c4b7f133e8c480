"""Repairs and exits at the moment of their records."""

from __future__ import annotations

import itertools
from decimal import Decimal

from pipeline.chaos.checker.claims import Claims, Operation
from pipeline.chaos.checker.exits import FEE_SLACK, of_exit
from pipeline.chaos.checker.finding import Find
from pipeline.chaos.checker.orders import undecided
from pipeline.chaos.checker.truth import ZERO, Place, Row, Truth

PPM = Decimal(1_000_000)


def repair(row: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """An intent with the purpose REPAIR or DUST, or a spot leg of a hedge that leaves leg by leg: exactly the proven
    exposure (of an exit: see ``exits.of_exit``), on its side, when all is known that may still be answered, and never
    where an order of ours is in doubt but beside such ones as :func:`_beside` has it."""
    body, now_ns = row["body"], row["mono_ns"]
    operation = claims.operations[body["operation_id"]]
    name = body["client_id"]
    if operation.recovery in ("waiting_approval", "cancelled"):
        find("repair", f"{name}: operation {body['operation_id']} waits for an operator")
    if operation.external:
        _reduces(body, operation, claims, find)
    if operation.external or body["base"] in claims.externals:
        return
    exposure = operation.exposure(body["base"])
    if body["purpose"] == "DUST":
        exposure += claims.dust.get(body["base"], ZERO)
    right = of_exit(row["by"], body["kind"], body["base"], exposure, operation, claims)
    least, most = _bounds(body, abs(right), truth)
    if (exposure > 0) is not (body["side"] == "SELL") or not exposure:
        find("repair", f"{name}: {body['side']} {body['qty']}, proven exposure {exposure} {body['base']}")
    elif not right:
        find("repair", f"{name}: {body['side']} {body['qty']} {body['base']} opens again what has left")
    elif not least <= body["qty"] <= most:
        find("repair", f"{name}: {body['qty']} {body['base']}, proven exposure {exposure}, {right} of it to close here")
    for other in operation.orders:
        if undecided(claims.orders[other], now_ns, truth.config["answer_ns"]):
            find("repair", f"{name}: {other} may still be answered")
    _worst_case(body, exposure, operation, claims, find)
    place = (body["venue"], body["symbol"])
    if not body["reduce_only"] and (open_there := claims.unsettled(place)) and not _beside(row, truth, claims):
        find("unknown", f"{name}: {open_there[0]} is not settled on {place}")
    _collar(row, truth, find)


def _beside(row: Row, truth: Truth, claims: Claims) -> bool:
    """Whether an order sells a hedge's coins that must leave, beside orders of other operations that are overdue. (That
    nothing is sold twice shows in the exposure that it closes, and at the end.)"""
    body = row["body"]
    operation = claims.operations[body["operation_id"]]
    if body["side"] != "SELL" or operation.leaves is None:
        return False
    if not (operation.body["manual"] or row["by"] == "guard" or claims.in_turn(operation)):
        return False
    others = [claims.orders[name] for name in claims.unsettled((body["venue"], body["symbol"]))]
    return all(
        operation.body["closes"] not in (claim.body["operation_id"], _closes(claim.body["operation_id"], claims))
        and not undecided(claim, row["mono_ns"], truth.config["answer_ns"])
        for claim in others
    )


def _closes(name: str, claims: Claims) -> str:
    return str(claims.operations[name].body["closes"])


def _worst_case(body: Row, exposure: Decimal, operation: Operation, claims: Claims, find: Find) -> None:
    """Beside orders that are not settled: whichever of them have executed, the exposure is no larger than a leg, than
    it is proven to be, or than it could be without the repair."""
    open_there = [claims.orders[name] for name in operation.orders if not claims.orders[name].settled]
    doubtful = [claim.body | {"qty": claim.rest} for claim in open_there if claim.body["base"] == body["base"]]
    if not doubtful:
        return
    before = _largest(exposure, doubtful, claims)
    after = _largest(exposure, [*doubtful, body], claims)
    leg = max((leg["qty"] for leg in operation.body["legs"] if leg["base"] == body["base"]), default=ZERO)
    if after > max(before, abs(exposure), leg) * FEE_SLACK:
        names = [claim["client_id"] for claim in doubtful]
        find("unknown", f"{body['client_id']}: with {names} the exposure may become {after}, a leg is {leg}")


def _largest(exposure: Decimal, orders: list[Row], claims: Claims) -> Decimal:
    """Of all outcomes: each order has executed, or it has not; those that only reduce stop at nothing."""
    found = ZERO
    for outcome in itertools.product((False, True), repeat=len(orders)):
        total, reduced = exposure, dict[Place, Decimal]()
        for order in [order for order, executed in zip(orders, outcome, strict=True) if executed]:
            signed = order["qty"] if order["side"] == "BUY" else -order["qty"]
            if order["reduce_only"]:
                place = (order["venue"], order["symbol"])
                reduced[place] = reduced.get(place, ZERO) + signed
            else:
                total += signed
        for place, signed in reduced.items():
            most = claims.reducible(place, "BUY" if signed > 0 else "SELL")
            total += max(-most, min(most, signed))
        found = max(found, abs(total))
    return found


def _reduces(body: Row, operation: Operation, claims: Claims, find: Find) -> None:
    """Where others have ended a leg, what is left is reduced: nothing is opened again. Spot coins are the same on every
    venue, so a spot order reduces what the hedge's fills have left of them. On a contract what exits have closed beyond
    nothing is taken back: another hedge lacks it."""
    held = claims.group_net(operation, body["kind"], body["base"])
    opens = held >= 0 if body["side"] == "BUY" else held <= 0
    if body["kind"] != "SPOT":
        opens = opens and any(
            (leg["side"] == body["side"]) is not bool(operation.body["closes"])
            for leg in operation.body["legs"]
            if (leg["venue"], leg["symbol"]) == (body["venue"], body["symbol"])
        )
    if opens:
        find("repair", f"{body['client_id']}: {body['side']} {body['qty']} opens again what others have ended")


def _bounds(body: Row, exposure: Decimal, truth: Truth) -> tuple[Decimal, Decimal]:
    """Base coins: the exposure down to the lot; a buy whose fee is taken in base buys the fee as well."""
    row = truth.instruments[body["venue"], body["symbol"]]
    if body["side"] == "BUY" and body["kind"] == "SPOT" and row["fee_rule"] == "RECEIVED":
        exposure = exposure / (1 - row["taker_fee_ppm"] / PPM)
    return exposure - row["lot"], exposure


def _collar(row: Row, truth: Truth, find: Find) -> None:
    """The limit is near what the feed had last published there, or elsewhere for the coin; of a contract whose margin
    is short it may go to where it would be liquidated, which is then no further away than the trigger."""
    body, now_ns = row["body"], row["mono_ns"]
    bound = truth.config["unwind_max_slippage_bps"] / 10_000 * 2 + Decimal("0.01")
    if body["kind"] != "SPOT" and truth.short_of_margin((body["venue"], body["symbol"]), now_ns, now_ns):
        bound += truth.config["margin_trigger_pct"] / 100
    mids = [
        (book["bid"] + book["ask"]) / 2
        for (venue, symbol), book in truth.books.items()
        if book["bid"] and book["ask"] and truth.instruments[venue, symbol]["base"] == body["base"]
    ]
    if mids and not min(mids) * (1 - bound) <= body["price"] <= max(mids) * (1 + bound):
        find("collar", f"{body['client_id']}: limit {body['price']}, books {min(mids)} to {max(mids)}")


def planned(row: Row, claims: Claims, find: Find) -> None:
    """An intent with the purpose CLOSE, or FLATTEN on the contract: as its exit was planned."""
    body = row["body"]
    operation = claims.operations[body["operation_id"]]
    leg = operation.body["legs"][body["leg"]]
    plan = (leg["venue"], leg["symbol"], leg["side"], leg["qty"], leg["limit_price"])
    if plan != (body["venue"], body["symbol"], body["side"], body["qty"], body["price"]):
        find("exit", f"{body['client_id']}: {body['side']} {body['qty']} on {body['venue']}, planned {plan}")
    if any(claims.orders[name].body["leg"] == body["leg"] for name in operation.orders):
        find("exit", f"{body['client_id']}: leg {body['leg']} has had its order")


def hedge(row: Row, claims: Claims, find: Find) -> None:
    """An ``OperationResultRecord``: what is kept as hedged is what all of the hedge's operations hold in contracts."""
    operation = claims.operations[row["body"]["operation_id"]]
    if operation.body["type"] != "SPOT_FUTURES_HEDGE" or row["body"]["outcome"] == "UNRESOLVED":
        return
    base, name = operation.body["legs"][0]["base"], operation.body["closes"] or operation.body["operation_id"]
    if operation.external or base in claims.externals:
        return
    kept = claims.hedges.get(name)
    signed = ZERO if kept is None else kept["qty"] if kept["spot_side"] == "SELL" else -kept["qty"]
    held = claims.group_net(operation, "PERPETUAL", base)
    if signed != held:
        find("hedge", f"{name}: {signed} {base} in contracts is kept, its operations hold {held}")


def recovery(row: Row, claims: Claims, find: Find) -> None:
    """A ``RecoveryRecord``: what waits for an operator goes on when he says so, or ends."""
    body = row["body"]
    operation = claims.operations[body["operation_id"]]
    if operation.recovery == "waiting_approval" and body["state"] == "active":
        find("repair", f"operation {body['operation_id']}: waited for an operator, {body['state']} without him")


def leave(row: Row, claims: Claims, find: Find) -> None:
    """An ``OperationRecord`` that closes a hedge: of one that is open, no more than is hedged."""
    body = row["body"]
    hedge = claims.hedges.get(body["closes"])
    if hedge is None:
        find("exit", f"{body['operation_id']}: closes {body['closes']}, which is not open")
        return
    closing = [one for one in claims.open_operations() if one.body["closes"] == body["closes"]]
    if closing:
        find("exit", f"{body['operation_id']}: {_name(closing[0])} is closing {body['closes']} already")
    for leg in body["legs"]:
        opens = "SELL" if (leg["kind"] == "SPOT") is (hedge["spot_side"] == "SELL") else "BUY"
        if leg["side"] == opens:
            find("exit", f"{body['operation_id']}: {leg['side']} on {leg['venue']} opens more")
        fee = leg["qty"] / 100 if leg["side"] == "BUY" else ZERO  # a fee in base is bought along
        if leg["qty"] > hedge["qty"] + fee:
            find("exit", f"{body['operation_id']}: {leg['qty']} of a hedge of {hedge['qty']}")


def _name(operation: Operation) -> str:
    return str(operation.body["operation_id"])
