"""The simulated exchange against a naive twin: random orders of two users and of the market.

Equal in every fill (price, quantity, maker, order of time), every balance and lock, every visible level; nothing is
made or lost; no balance is ever negative; when all is cancelled nothing is locked.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.accounts import ApiKey, SimAccount
from pipeline.sim.exchange.order_book import ASK, BID
from pipeline.sim.exchange.orders import RejectReason, SimAmendRequest, SimOrderRequest, SimReject, SimTrade
from tests.naive.exchange import NaiveExchange, NaiveFill, NaiveOrder
from tests.worlds.sim_support import Bench

D = Decimal
SYMBOL = "BTC_USDT"
LOT = 10  # units
TIFS = {"gtc": TimeInForce.GTC, "ioc": TimeInForce.IOC, "fok": TimeInForce.FOK, "poc": TimeInForce.POST_ONLY}


@dataclass
class Pair:
    """The same history on both: the bench's venue, and the twin."""

    bench: Bench = field(default_factory=Bench)
    seen: int = 0

    def __post_init__(self) -> None:
        venue, row = self.bench.venue, self.bench.row
        other = venue.add_account("88", [ApiKey("other", "secret")], {"USDT": D(10_000), "BTC": D(1)})
        self.users: list[SimAccount] = [self.bench.account, other]
        money = {user: {"USDT": D(10_000), "BTC": D(1)} for user in (0, 1)}
        self.twin = NaiveExchange(row.tick, row.unit, row.taker_fee_ppm, row.maker_fee_ppm, money)
        for is_buy, side in ((True, BID), (False, ASK)):
            for index, (price, _) in enumerate(self.bench.book.top(side, 100)):
                units = 40 * index  # little, so that users meet each other; nothing at the touch
                self.bench.book.set_level(side, price, units)
                if units:
                    self.twin.add(None, is_buy, price, units)
        self.seen = len(self.bench.ledger.rows)

    # --- operations ---

    def place(self, user: int, is_buy: bool, price: int, lots: int, tif: str) -> None:
        units = lots * LOT
        expected = self._refusal(user, is_buy, price, units, tif, self.twin.free(user, "USDT" if is_buy else "BTC"))
        request = SimOrderRequest(
            symbol=SYMBOL,
            side=OrderSide.BUY if is_buy else OrderSide.SELL,
            kind=OrderKind.LIMIT,
            tif=TIFS[tif],
            qty=self.bench.row.qty(units),
            price=self.bench.row.price(price),
        )
        try:
            placed = self.bench.venue.place(self.users[user], request)
        except SimReject as reject:
            assert reject.reason is expected
            return
        assert expected is None
        fills = self.twin.fills_of(user, is_buy, price, units)
        self.twin.execute(fills, is_buy)
        left = units - sum(fill.units for fill in fills)
        blocked = any(one.user == user for one in self._crossing(is_buy, price))
        if left and tif in ("gtc", "poc") and not blocked:
            self.twin.add(user, is_buy, price, left, placed.order_id)
        self._same_fills(fills)

    def _refusal(self, user: int, is_buy: bool, price: int, units: int, tif: str, free: Decimal) -> RejectReason | None:
        takeable = sum(fill.units for fill in self.twin.fills_of(user, is_buy, price, 10**9))
        if tif == "poc" and takeable:
            return RejectReason.POST_ONLY_WOULD_TAKE
        if tif == "fok" and takeable < units:
            return RejectReason.FOK_NOT_FILLED
        return RejectReason.INSUFFICIENT_BALANCE if free < self.twin.need(is_buy, price, units)[1] else None

    def _crossing(self, is_buy: bool, price: int) -> list[NaiveOrder]:
        return [
            one
            for one in self.twin.orders
            if one.is_buy is not is_buy and (one.price <= price if is_buy else one.price >= price)
        ]

    def _open(self, user: int, nth: int) -> NaiveOrder | None:
        own = [one for one in self.twin.orders if one.user == user]
        return own[nth % len(own)] if own else None

    def cancel(self, user: int, nth: int) -> None:
        order = self._open(user, nth)
        if order is None:
            return
        assert not self.bench.venue.cancel(self.users[user], SYMBOL, order_id=order.number).is_open
        self.twin.orders.remove(order)

    def amend(self, user: int, nth: int, price: int, lots: int) -> None:
        order = self._open(user, nth)
        if order is None:
            return
        venue, row = self.bench.venue, self.bench.row
        before = venue.order(self.users[user], SYMBOL, order_id=order.number)
        assert before is not None
        filled = int(before.filled_qty / row.unit)
        left = lots * LOT - filled
        held = self.twin.need(order.is_buy, order.price, order.left)[1]
        free = self.twin.free(user, "USDT" if order.is_buy else "BTC") + held
        keeps_place = price == order.price and lots * LOT <= filled + order.left
        self.twin.orders.remove(order)
        tif = "poc" if before.tif is TimeInForce.POST_ONLY and not keeps_place else "gtc"
        expected = self._refusal(user, order.is_buy, price, left, tif, free) if left > 0 else None
        try:
            venue.amend(
                self.users[user],
                SimAmendRequest(SYMBOL, order_id=order.number, price=row.price(price), qty=row.qty(lots * LOT)),
            )
        except SimReject as reject:
            assert reject.reason is expected
            self.twin.orders.append(order)
            return
        assert expected is None
        if left <= 0:
            return
        if keeps_place:
            order.left = left
            self.twin.orders.append(order)
            return
        fills = self.twin.fills_of(user, order.is_buy, price, left)
        self.twin.execute(fills, order.is_buy)
        left -= sum(fill.units for fill in fills)
        if left and not any(one.user == user for one in self._crossing(order.is_buy, price)):
            self.twin.add(user, order.is_buy, price, left, order.number)
        self._same_fills(fills)

    def market(self, is_buy: bool, units: int) -> None:
        """Somebody else takes: no user of ours."""
        _, fills = self.bench.book.trade(BID if is_buy else ASK, units)
        self.bench.venue.settle_own(fills, SYMBOL)
        met = self.twin.fills_of(None, is_buy, None, units)
        self.twin.execute(met, is_buy)
        self._same_fills([fill for fill in met if fill.maker is not None])

    def quote(self, is_buy: bool, price: int, units: int) -> None:
        """The market joins the queue at a price that does not cross."""
        if self._crossing(is_buy, price) or not units:
            return
        book, side = self.bench.book, BID if is_buy else ASK
        book.set_level(side, price, book.levels[side].get(price, 0) + units)
        self.twin.add(None, is_buy, price, units)

    # --- comparison ---

    def _same_fills(self, fills: list[NaiveFill]) -> None:
        """The ledger's new fills: the taker's and the maker's row of each, one trade id for both."""
        rows = [row for row in self.bench.ledger.rows[self.seen :] if row["kind"] == "fill"]
        self.seen = len(self.bench.ledger.rows)
        uids = [account.uid for account in self.users]
        met: list[tuple[str, int, int, bool]] = []
        for row in rows:
            units, price = int(row["qty"] / self.bench.row.unit), int(row["price"] / self.bench.row.tick)
            met.append((row["uid"], price, units, row["is_maker"]))
        wanted: list[tuple[str, int, int, bool]] = []
        for fill in fills:
            if fill.taker is not None:
                merged = (uids[fill.taker], fill.price, fill.units, False)
                last = wanted[-1] if wanted else None
                if last is not None and fill.maker is None and last[:2] == merged[:2] and not last[3]:
                    # Quotes of the market at one price are one quantity in the book.
                    merged = (*merged[:2], last[2] + fill.units, False)
                    wanted.pop()
                wanted.append(merged)
            if fill.maker is not None:
                wanted.append((uids[fill.maker], fill.price, fill.units, True))
        assert met == wanted
        ids = [row["trade_id"] for row in rows]
        pairs = sum(fill.taker is not None and fill.maker is not None for fill in fills)
        assert len(ids) - len(set(ids)) == pairs

    def check(self) -> None:
        ledger, venue = self.bench.ledger, self.bench.venue.name
        for user, account in enumerate(self.users):
            for asset in ("USDT", "BTC"):
                wallet = account.wallet(asset)
                assert wallet.free >= 0 and wallet.locked >= 0
                assert (wallet.total, wallet.locked) == (
                    self.twin.money[user][asset],
                    self.twin.locked(user, asset),
                )
                assert ledger.total(venue, f"user:{account.uid}", asset) == wallet.total
        for asset in ("USDT", "BTC"):
            owners = [f"user:{account.uid}" for account in self.users] + ["market", "fees", "external"]
            assert sum((ledger.total(venue, owner, asset) for owner in owners), D(0)) == 0
        for is_buy, side in ((True, BID), (False, ASK)):
            assert dict(self.bench.book.top(side, 1000)) == self.twin.levels(is_buy)


USERS, BUYS = st.integers(0, 1), st.booleans()
PRICES, LOTS = st.integers(19_999, 20_002), st.integers(1, 30)
OPERATIONS = st.one_of(
    st.tuples(st.just("place"), USERS, BUYS, PRICES, LOTS, st.sampled_from(["gtc", "gtc", "gtc", "ioc", "fok", "poc"])),
    st.tuples(st.just("cancel"), USERS, st.integers(0, 9)),
    st.tuples(st.just("amend"), USERS, st.integers(0, 9), PRICES, LOTS),
    st.tuples(st.just("market"), BUYS, st.integers(1, 400)),
    st.tuples(st.just("quote"), BUYS, PRICES, st.integers(0, 200)),
)


@settings(max_examples=250, deadline=None)
@given(st.lists(OPERATIONS, max_size=40))
def test_any_history_of_two_users_equals_the_naive_exchange(history: list[tuple[Any, ...]]) -> None:
    assert not run_spot(history), "nothing stays locked"


def run_spot(history: Iterable[tuple[Any, ...]]) -> list[Decimal]:
    """Compares with the naive exchange after each operation; what is locked once every order is cancelled."""
    pair = Pair()
    for name, *arguments in history:
        getattr(pair, name)(*arguments)
        pair.check()
    for account in pair.users:
        pair.bench.venue.cancel_all(account)
    return [wallet.locked for account in pair.users for wallet in account.wallets.values() if wallet.locked]


def _long_history(rng: random.Random, count: int) -> Iterator[tuple[Any, ...]]:
    """What hypothesis seldom finds: many open orders, long queues."""
    for _ in range(count):
        user, is_buy, price, lots = (
            rng.randrange(2),
            rng.random() < 0.5,
            rng.randint(19_999, 20_002),
            rng.randint(1, 60),
        )
        yield rng.choices(
            [
                ("place", user, is_buy, price, lots, rng.choice(["gtc", "gtc", "gtc", "ioc", "fok", "poc"])),
                ("cancel", user, rng.randrange(10)),
                ("amend", user, rng.randrange(10), price, lots),
                ("market", is_buy, rng.randint(1, 400)),
                ("quote", is_buy, price, rng.randint(1, 200)),
            ],
            weights=[6, 1, 2, 2, 4],
        )[0]


@pytest.mark.parametrize("seed", range(6))
def test_long_histories_equal_the_naive_exchange(seed: int) -> None:
    assert not run_spot(_long_history(random.Random(seed), 500))


# --- futures: nothing to compare with but arithmetic ---

FUTURES = st.one_of(
    st.tuples(
        st.just("place"),
        USERS,
        BUYS,
        PRICES,
        st.integers(1_000, 3_000),
        st.sampled_from(["gtc", "gtc", "ioc"]),
        st.sampled_from([False, False, True]),
    ),
    st.tuples(st.just("cancel"), USERS, st.integers(0, 9)),
    st.tuples(st.just("amend"), USERS, st.integers(0, 9), PRICES, st.integers(1, 3_000)),
    st.tuples(st.just("quote"), BUYS, PRICES, st.integers(1, 4_000)),
    st.tuples(
        st.just("fund"),
    ),
)


def _act(bench: Bench, users: list[SimAccount], name: str, arguments: list[Any]) -> None:
    venue, row = bench.venue, bench.row
    if name == "place":
        user, is_buy, price, units, tif, reduces = arguments
        request = SimOrderRequest(
            symbol=SYMBOL,
            side=OrderSide.BUY if is_buy else OrderSide.SELL,
            kind=OrderKind.LIMIT,
            tif=TIFS[tif],
            qty=row.qty(units),
            price=row.price(price),
            reduce_only=reduces,
        )
        before = venue.position(users[user], SYMBOL).qty
        with contextlib.suppress(SimReject):
            placed = venue.place(users[user], request)
            if reduces:
                after = venue.position(users[user], SYMBOL).qty
                assert abs(after) <= abs(before) and after * before >= 0
                assert placed.qty <= abs(before)
    elif name == "fund":
        venue.apply_funding(SYMBOL)
    elif name == "quote":
        is_buy, price, units = arguments
        other = bench.book.best(ASK if is_buy else BID)
        if other is None or (price < other if is_buy else price > other):
            bench.book.set_level(BID if is_buy else ASK, price, units)
    else:
        user, nth, *change = arguments
        own = venue.open_orders(users[user])
        if not own:
            return
        order_id = own[nth % len(own)].order_id
        if name == "cancel":
            venue.cancel(users[user], SYMBOL, order_id=order_id)
        else:
            with contextlib.suppress(SimReject):
                venue.amend(
                    users[user],
                    SimAmendRequest(SYMBOL, order_id=order_id, price=row.price(change[0]), qty=row.qty(change[1])),
                )


def _open_cost(trades: list[SimTrade]) -> Decimal:
    """Average cost by the book: what is left of a position keeps its average, what turns round starts anew."""
    held = average = D(0)
    for trade in trades:
        signed = trade.qty * int(trade.side)
        if held * signed >= 0:
            average = (held * average + signed * trade.price) / (held + signed)
        elif abs(signed) > abs(held):
            average = trade.price
        held += signed
    return held * average


def _check_futures(bench: Bench, users: list[SimAccount]) -> None:
    ledger, venue, row = bench.ledger, bench.venue, bench.row
    for account in users:
        position = venue.position(account, SYMBOL)
        trades = venue.trades(account)
        assert position.qty == sum((trade.qty * int(trade.side) for trade in trades), D(0))
        paid = sum((trade.fee for trade in trades), D(0)) + position.paid_funding
        gained = sum((trade.realised_pnl for trade in trades), D(0))
        total = account.wallet("USDT").total
        assert total == D(10_000) + gained - paid == ledger.total(venue.name, f"user:{account.uid}", "USDT")
        assert abs(position.cost - _open_cost(trades)) < D("1e-6")
        reducing = {order.order_id for order in venue.finished_orders(account) if order.reduce_only}
        assert all(trade.close_qty == trade.qty for trade in trades if trade.order_id in reducing)
        resting = [order for order in venue.open_orders(account) if order.reduce_only]
        for side in (OrderSide.BUY, OrderSide.SELL):
            against = -position.qty * int(side)
            left = sum((order.left_qty for order in resting if order.side is side), D(0))
            assert left <= max(D(0), against)
    owners = [f"user:{account.uid}" for account in users] + ["market", "fees", "funding", "external"]
    assert sum((ledger.total(venue.name, owner, "USDT") for owner in owners), D(0)) == 0
    best_bid, best_ask = bench.book.best_bid(), bench.book.best_ask()
    assert best_bid is None or best_ask is None or best_bid < best_ask
    assert row.is_futures


@settings(max_examples=150, deadline=None)
@given(st.lists(FUTURES, min_size=8, max_size=40))
def test_any_futures_history_adds_up(history: list[tuple[Any, ...]]) -> None:
    """Positions are the sum of the fills, money the sum of gains, fees and funding; reduce-only never opens."""
    assert not run_futures(history), "no margin stays with an order"


def run_futures(history: Iterable[tuple[Any, ...]]) -> list[Decimal]:
    """Checks sums after each operation; the margin of orders once every order is cancelled."""
    bench = Bench(futures=True)
    users = [bench.account, bench.venue.add_account("88", [ApiKey("other", "secret")], {"USDT": D(10_000)})]
    for name, *arguments in history:
        _act(bench, users, name, arguments)
        _check_futures(bench, users)
    for account in users:
        bench.venue.cancel_all(account)
    margins = [bench.venue.margin_account(account).order_margin for account in users]
    return [margin for margin in margins if margin]


def _long_futures(rng: random.Random, count: int) -> Iterator[tuple[Any, ...]]:
    for _ in range(count):
        user, is_buy, price, units = (
            rng.randrange(2),
            rng.random() < 0.5,
            rng.randint(19_998, 20_003),
            rng.randint(1, 900),
        )
        yield rng.choices(
            [
                ("place", user, is_buy, price, units, rng.choice(["gtc", "gtc", "ioc", "poc"]), rng.random() < 0.3),
                ("cancel", user, rng.randrange(10)),
                ("amend", user, rng.randrange(10), price, units),
                ("quote", is_buy, price, rng.randint(1, 2_000)),
                ("fund",),
            ],
            weights=[10, 1, 2, 3, 1],
        )[0]


@pytest.mark.parametrize("seed", range(6))
def test_long_futures_histories_add_up(seed: int) -> None:
    assert not run_futures(_long_futures(random.Random(seed), 500))
