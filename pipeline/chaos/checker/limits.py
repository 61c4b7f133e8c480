"""The limits of an entry at the moment of its record, each by its own rule: one that goes unseen is not covered by
another. Worst case: every open operation counts whole, an order of unknown outcome like any other."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from pipeline.chaos.checker.claims import Claims, Operation
from pipeline.chaos.checker.finding import Find
from pipeline.chaos.checker.truth import ZERO, Row, Truth

MOVED = Decimal("0.97")  # marks may be lower than entry prices
SECOND_NS = 1_000_000_000
BPS = Decimal(10_000)
LOOK_NS = 300_000_000  # between two looks at what stands alone
ROOM_USD = Decimal("0.01")  # of a value that is rounded
Coin = tuple[str, str]  # venue, base coin


def limits(row: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """An ``OperationRecord`` that opens something."""
    body, now_ns = row["body"], row["mono_ns"]
    for leg in body["legs"]:
        _priced(body, leg, truth, find)
    _unhedged(body, now_ns, truth, claims, find)
    _naked(body, now_ns, truth, claims, find)
    _unexplained(body, truth, claims, find)
    _open(body, truth, claims, find)
    _scopes(body, truth, claims, find)
    _rates(body, now_ns, truth, claims, find)


def _priced(body: Row, leg: Row, truth: Truth, find: Find) -> None:
    """Its limit is no further from the best price than slippage may be."""
    way = 1 if leg["side"] == "BUY" else -1
    most = leg["best_price"] * truth.config["limits"]["max_slippage_bps"] / BPS
    if (leg["limit_price"] - leg["best_price"]) * way > most:
        where = f"{body['operation_id']} {leg['venue']} {leg['symbol']}"
        find("slippage", f"{where}: limit {leg['limit_price']}, best price {leg['best_price']}")


def _alone(now_ns: int, claims: Claims) -> Iterator[Operation]:
    """Operations that are proved to stand alone with some of their fills for longer than the core needs to see it, and
    that no operator looks after."""
    for one in claims.open_operations():
        held = one.external or one.recovery in ("waiting_approval", "cancelled") or not one.fills
        if held or now_ns - max(fill["recv_mono_ns"] for fill in one.fills) <= LOOK_NS:
            continue
        if all(claims.orders[order].settled for order in one.orders):
            yield one


def _unhedged(body: Row, now_ns: int, truth: Truth, claims: Claims, find: Find) -> None:
    """Nothing that stands alone is older than it may be."""
    limit_ns = truth.config["limits"]["max_unhedged_ms"] * 10**6
    for one in _alone(now_ns, claims):
        if now_ns - one.at_ns <= limit_ns + LOOK_NS:
            continue
        for leg in one.body["legs"]:
            row = truth.instruments[leg["venue"], leg["symbol"]]
            alone = abs(one.exposure(leg["base"]))
            if alone * leg["best_price"] > max(row["min_notional"], row["min_qty"] * leg["best_price"]) * 2:
                what = f"{alone} {leg['base']} of {one.body['operation_id']} alone, {(now_ns - one.at_ns) // 10**6} ms"
                find("unhedged", f"{body['operation_id']}: {what} old")
                return


def _naked(body: Row, now_ns: int, truth: Truth, claims: Claims, find: Find) -> None:
    """What stands alone now has been worth less, times the seconds for which it did, than it may be: by fills, from a
    re-arm on, and up to the core's last look at it."""
    since_ns, until_ns = claims.rearmed_ns.get("naked_exposure", 0), now_ns - LOOK_NS
    total = sum((_usd_s(one, since_ns, until_ns) for one in _alone(now_ns, claims)), ZERO)
    limit = truth.config["limits"]["max_naked_usd_s"]
    if total > limit:
        find("naked value", f"{body['operation_id']}: {total:.0f} USD x s stood alone, at most {limit}")


def _usd_s(operation: Operation, since_ns: int, until_ns: int) -> Decimal:
    """USD x seconds for which its fills have left a coin alone that still is."""
    total = ZERO
    for base in {leg["base"] for leg in operation.body["legs"]}:
        if not operation.exposure(base):
            continue
        usd = min(leg["best_price"] for leg in operation.body["legs"] if leg["base"] == base)
        net, at_ns = ZERO, since_ns
        ends = [(fill["recv_mono_ns"], fill) for fill in operation.fills if fill["base"] == base]
        for heard_ns, fill in [*sorted(ends, key=lambda one: one[0]), (until_ns, None)]:
            total += abs(net) * usd * max(0, heard_ns - at_ns) / SECOND_NS
            at_ns = max(at_ns, heard_ns)
            if fill is not None:
                net += fill["qty"] if fill["side"] == "BUY" else -fill["qty"]
    return total


def _unexplained(body: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """No more money of the numeraire is gone without a reason than may be, from a re-arm on."""
    limit = truth.config["limits"]["max_unexplained_loss_usd"]
    lost = claims.unexplained.get(truth.config["numeraire"], ZERO)
    if lost > limit + ROOM_USD:
        find("unexplained", f"{body['operation_id']}: {lost} are gone without a reason, at most {limit}")


def _size(body: Row) -> Decimal:
    return max((leg["qty"] * leg["limit_price"] for leg in body["legs"]), default=ZERO)


def _held(claims: Claims) -> list[tuple[Row, Decimal]]:
    """Hedges whose opening has ended, and what each is worth at least."""
    open_names = {one.body["operation_id"] for one in claims.open_operations()}
    kept = [hedge for name, hedge in claims.hedges.items() if name not in open_names]
    return [(hedge, hedge["qty"] * hedge["entry_futures_price"] * MOVED) for hedge in kept]


def _positions(body: Row, claims: Claims) -> dict[Coin, Decimal]:
    """USD of each coin that it trades, on each venue, with what is open there."""
    found: dict[Coin, Decimal] = {}
    for leg in body["legs"]:
        coin = (leg["venue"], leg["base"])
        position = leg["qty"] * leg["limit_price"]
        for one in claims.open_operations():
            if not one.body["closes"]:
                same = [o["qty"] * o["limit_price"] for o in one.body["legs"] if (o["venue"], o["base"]) == coin]
                position += max(same, default=ZERO)
        for hedge, worth in _held(claims):
            if leg["venue"] in (hedge["spot_venue"], hedge["futures_venue"]) and hedge["base"] == leg["base"]:
                position += worth
        found[coin] = max(position, found.get(coin, ZERO))
    return found


def _open(body: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """What may be open of everything."""
    most, name, under_way = truth.config["limits"], body["operation_id"], claims.open_operations()
    if len(under_way) >= most["max_open_operations"]:
        find("open operations", f"{name}: {len(under_way)} operations are open")
    total = sum((_size(one.body) for one in under_way), ZERO) + sum((worth for _, worth in _held(claims)), ZERO)
    if total + _size(body) > most["max_total_exposure_usd"]:
        find("exposure", f"{name}: {total:.2f} + {_size(body):.2f} USD open")
    for (venue, base), position in _positions(body, claims).items():
        if position > most["max_position_size_usd"]:
            find("position", f"{name}: {position:.2f} USD of {base} on {venue}")


def _scopes(body: Row, truth: Truth, claims: Claims, find: Find) -> None:
    """The same of one venue, asset or pair that has limits of its own; nothing opens where they switch it off."""
    most, positions = truth.config["limits"], _positions(body, claims)
    places = {
        "per_venue": {leg["venue"] for leg in body["legs"]},
        "per_asset": {leg["base"] for leg in body["legs"]},
        "per_pair": {body["pair"]},
    }
    for kind, names in places.items():
        for name in sorted(names & most[kind].keys()):
            limit, where = most[kind][name], f"{body['operation_id']}: {kind} {name}"
            if not limit["enabled"]:
                find("scope off", f"{where} takes no entries")
            position = max(usd for coin, usd in positions.items() if kind == "per_pair" or name in coin)
            if limit["max_position_size_usd"] is not None and position > limit["max_position_size_usd"]:
                find("scope position", f"{where}, {position:.2f} USD of one coin")
            total = _in_scope(kind, name, claims) + _size(body)
            if limit["max_exposure_usd"] is not None and total > limit["max_exposure_usd"]:
                find("scope exposure", f"{where}, {total:.2f} USD open")


def _in_scope(kind: str, name: str, claims: Claims) -> Decimal:
    """USD that is open at a venue, of an asset or of a pair."""
    total = ZERO
    for one in claims.open_operations():
        there = {"per_venue": {leg["venue"] for leg in one.body["legs"]}, "per_pair": {one.body["pair"]}}
        there["per_asset"] = {leg["base"] for leg in one.body["legs"]}
        total += _size(one.body) if name in there[kind] else ZERO
    for hedge, worth in _held(claims):
        pair = claims.operations[hedge["operation_id"]].body["pair"]
        there = {"per_venue": {hedge["spot_venue"], hedge["futures_venue"]}, "per_asset": {hedge["base"]}}
        total += worth if name in {**there, "per_pair": {pair}}[kind] else ZERO
    return total


def _rates(body: Row, now_ns: int, truth: Truth, claims: Claims, find: Find) -> None:
    """All orders of the last second, in all and to each venue, and those of this entry."""
    most, name = truth.config["limits"], body["operation_id"]
    recent = [venue for at_ns, venue in claims.intended if at_ns > now_ns - SECOND_NS]
    if len(recent) + len(body["legs"]) > most["max_orders_per_s"]:
        find("order rate", f"{name}: {len(recent)} orders in the last second")
    wanted = [leg["venue"] for leg in body["legs"]]
    for venue in sorted(set(wanted)):
        scope = most["per_venue"].get(venue)
        if scope is not None and scope["max_orders_per_s"] is not None:
            there = recent.count(venue)
            if there + wanted.count(venue) > scope["max_orders_per_s"]:
                find("scope rate", f"{name}: {there} orders to {venue} in the last second")
