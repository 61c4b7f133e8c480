"""The simulated exchange against a naive twin: random orders of two users and of the market.

Equal in every fill (price, quantity, maker, order of time), every balance and lock, every visible level; nothing is
made or lost; no balance is ever negative; when all is cancelled nothing is locked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.matching import ASK, BID
from pipeline.sim.types import ApiKey, RejectReason, SimAccount, SimOrderRequest, SimReject
from tests.naive.exchange import NaiveExchange, NaiveFill, NaiveOrder
from tests.unit.sim_support import Bench

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
                self.users[user], SYMBOL, order_id=order.number, price=row.price(price), qty=row.qty(lots * LOT)
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
def test_any_history_of_two_users_equals_the_naive_exchange(history: list[tuple[object, ...]]) -> None:
    pair = Pair()
    for name, *arguments in history:
        getattr(pair, str(name))(*arguments)
        pair.check()
    for account in pair.users:
        pair.bench.venue.cancel_all(account)
        assert all(wallet.locked == 0 for wallet in account.wallets.values())
