"""What an entry needs at the moment of its record."""

from __future__ import annotations

from decimal import Decimal

from pipeline.chaos.checker.claims import Claims
from pipeline.chaos.checker.finding import Find
from pipeline.chaos.checker.limits import limits
from pipeline.chaos.checker.truth import NEVER_NS, ZERO, Row, Truth

SECOND_NS = 1_000_000_000
PPM, BPS = Decimal(1_000_000), Decimal(10_000)
ROUNDING_BPS = Decimal("0.001")
UNSEEN_NS = 3 * SECOND_NS  # until which what others took need not be known


def entry(row: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """An ``OperationRecord`` that opens something."""
    body, now_ns = row["body"], row["mono_ns"]
    name = body["operation_id"]
    if row["by"] != "executor":
        find("halt", f"{name}: an entry by the {row['by']}")
    if truth.latched_ns <= now_ns:
        find("halt", f"{name}: an entry under the latch")
    if truth.leaseless_ns <= now_ns:
        find("lease", f"{name}: an entry without a lease")
    if truth.no_room:
        find("journal", f"{name}: an entry into a journal without room")
    proofs = [truth.proof_ns((leg["venue"], leg["symbol"]), now_ns) for leg in body["legs"]]
    if truth.config["feeds_seen"] and max(proofs) - min(proofs) > truth.config["max_skew_ns"]:
        find("books", f"{name}: books {(max(proofs) - min(proofs)) // 10**6} ms apart")
    for leg, proof_ns in zip(body["legs"], proofs, strict=True):
        _leg(name, leg, proof_ns, now_ns, truth, claims, find)
    if any(one.body["direction_key"] == body["direction_key"] for one in claims.open_operations()):
        find("duplicate", f"{name}: the same direction is under way")
    if not body["manual"] and (body["detect_mono_ns"], body["opportunity_id"]) in claims.detections:
        find("duplicate", f"{name}: opportunity {body['opportunity_id']} was entered before")
    ended_ns = claims.ended_ns.get(body["direction_key"], 0)
    if truth.life_ns < ended_ns and now_ns - ended_ns < truth.config["cooldown_ns"]:
        find("duplicate", f"{name}: {(now_ns - ended_ns) // 10**6} ms behind the last one of its direction")
    _breakers(body, claims, find)
    limits(row, truth, claims, find)
    _edge(body, truth, find)


def _leg(name: str, leg: Row, proof_ns: int, now_ns: int, truth: Truth, claims: Claims, find: Find) -> None:
    place = (leg["venue"], leg["symbol"])
    where = f"{name} {leg['venue']} {leg['symbol']}"
    if truth.drained_ns.get(leg["venue"], NEVER_NS) <= now_ns:
        find("halt", f"{where}: the venue is drained")
    if truth.config["feeds_seen"]:
        _book(where, leg, proof_ns, now_ns, truth, find)
    if leg["book_recv_mono_ns"] <= claims.last_fill_ns.get(place, 0):
        find("own fill", f"{where}: its book is not later than our own fill")
    if unsettled := claims.unsettled(place):
        find("unknown", f"{where}: {unsettled[0]} is not settled there")
    since_ns = truth.down_ns.get(leg["venue"], 0)
    if claims.swept_ns.get(leg["venue"], -1) < since_ns < now_ns - truth.config["notice_ns"]:
        find("reconcile", f"{where}: no complete sweep since its session was lost")


def _book(where: str, leg: Row, proof_ns: int, now_ns: int, truth: Truth, find: Find) -> None:
    """The book that a leg names is what its feed had published last."""
    place = (leg["venue"], leg["symbol"])
    if now_ns - proof_ns > truth.config["max_age_ns"]:
        find("books", f"{where}: its book is {(now_ns - proof_ns) // 10**6} ms old")
    if leg["proof_mono_ns"] > proof_ns:
        find("books", f"{where}: a proof {leg['proof_mono_ns'] - proof_ns} ns younger than the venue's")
    book = truth.books.get(place)
    if book is None or book["book_seq"] != leg["book_seq"]:
        find("books", f"{where}: book {leg['book_seq']} is not the newest")
    else:
        if book["flags"]:
            find("books", f"{where}: a flagged book ({book['flags']})")
        best = book["ask"] if leg["side"] == "BUY" else book["bid"]
        if best != leg["best_price"]:
            find("books", f"{where}: best price {leg['best_price']}, published {best}")


def _breakers(body: Row, claims: Claims, find: Find) -> None:
    concerned = {f"venue.{leg['venue']}" for leg in body["legs"]}
    concerned |= {f"fee.{leg['venue']}.{leg['symbol']}" for leg in body["legs"]}
    for name in sorted(claims.breakers):
        if name in concerned or not name.startswith(("venue.", "fee.")):
            find("breaker", f"{body['operation_id']}: an entry past the breaker {name}")


def _edge(body: Row, truth: Truth, find: Find) -> None:
    """At the best prices, which no order beats, and after all fees: a hedge pays them twice, and may expect funding
    besides, so that only spot alone says what it earns. A hedge whose exit basis the engine learns may be entered
    at any prices: what it wants depends on the basis that it has seen, which no tape has."""
    fees = ZERO
    for leg in body["legs"]:
        fees += truth.instruments[leg["venue"], leg["symbol"]]["taker_fee_ppm"] / PPM * BPS
    hedge = any(leg["kind"] != "SPOT" for leg in body["legs"])
    fees *= 2 if hedge else 1
    prices = {leg["side"]: leg["best_price"] for leg in body["legs"]}
    if len(body["legs"]) != 2 or len(prices) != 2:
        return
    edge = (prices["SELL"] - prices["BUY"]) / prices["BUY"] * BPS - fees
    judged = truth.config["exit_basis_known"] or not hedge
    if judged and edge < truth.config["execute_edge_bps"] - ROUNDING_BPS - edge_slack(fees):
        find("edge", f"{body['operation_id']}: {edge:.3f} bps after fees at the best prices")
    most = (edge + edge_slack(fees)) / BPS * max(leg["qty"] for leg in body["legs"]) * prices["BUY"]
    in_usd = all(leg["quote"] == truth.config["numeraire"] for leg in body["legs"])
    if in_usd and not hedge and most < truth.config["limits"]["min_profit_usd"]:
        find("least profit", f"{body['operation_id']}: {most:.4f} USD after fees at the best prices")


def edge_slack(fees: Decimal) -> Decimal:
    """Fees of the sold leg are on another price than the bought one's: less than a per cent of them."""
    return abs(fees) / 100


def intent(row: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """An ``OrderIntentRecord`` of an entry: as planned, and the money for it is at the venue, all intents on their way
    counted."""
    body, now_ns = row["body"], row["mono_ns"]
    operation = claims.operations[body["operation_id"]]
    leg = operation.body["legs"][body["leg"]]
    planned = (leg["venue"], leg["symbol"], leg["side"], leg["qty"], leg["limit_price"])
    if planned != (body["venue"], body["symbol"], body["side"], body["qty"], body["price"]):
        find("accounted", f"{body['client_id']}: not as planned")
    if body["kind"] != "SPOT":
        return
    key = (body["venue"], body["reserve_asset"])
    if now_ns - truth.taken_ns.get(key, -UNSEEN_NS) < UNSEEN_NS:
        return
    on_the_way = sum(
        (
            claim.body["reserve_amount"]
            for name, claim in claims.orders.items()
            if (claim.body["venue"], claim.body["reserve_asset"]) == key
            and claim.state in ("INTENT", "SENT", "UNKNOWN")
            and may_arrive(name, claim.body, row["wall_ns"], truth)
        ),
        ZERO,
    )
    least = _cost(body, truth)
    if body["reserve_amount"] < least:
        find("reservation", f"{body['client_id']}: reserves {body['reserve_amount']}, may take {least}")
    if truth.free.get(key, ZERO) < on_the_way + body["reserve_amount"]:
        find(
            "reservation",
            f"{body['client_id']}: {truth.free.get(key)} {key[1]} free at {key[0]}, {on_the_way} on its way and "
            f"{body['reserve_amount']} wanted",
        )


def may_arrive(name: str, body: Row, wall_ns: int, truth: Truth) -> bool:
    """Whether an order may still be executed: not lost, not refused, not there yet, not expired."""
    gone = name in truth.orders or name in truth.refused or name in truth.dropped
    return not gone and body["expiry_wall_ms"] * 10**6 > wall_ns


def _cost(body: Row, truth: Truth) -> Decimal:
    """What the order may take of the asset that it reserves."""
    if body["side"] == "SELL":
        return Decimal(body["qty"])
    row = truth.instruments[body["venue"], body["symbol"]]
    fee = row["taker_fee_ppm"] / PPM if row["fee_rule"] == "QUOTE" else ZERO
    return Decimal(body["qty"] * body["price"] * (1 + fee))
