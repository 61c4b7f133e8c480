"""The paper venue: matched against the book as it stands, money exact, nothing free, nothing twice."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.exchanges.base import OutcomeKind, PlaceOutcome
from pipeline.execution.events import BookView
from pipeline.model.clock import wall_ms
from pipeline.model.config import PaperConfig, VenueConfig
from pipeline.model.enums import FeeAssetRule, InstrumentKind, OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.errors import ClockRefused
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import Balance, Fill, Funding, InstrumentSpec, OrderRequest, OrderUpdate
from pipeline.model.venue_events import FundingNotice
from pipeline.paper import PaperClient, PaperTrading
from pipeline.paper_account import LEVERAGE, PaperAccount, PaperFile, open_accounts
from pipeline.paper_chance import OrderChance
from shm.layout import BOOK, FLAG_GAP

VENUE = VenueConfig(
    name="x_spot", exchange="x", market="spot", dialect="gateio", venue_id=0, feed_id=0, rest="", ws="", ws_private="",
    ws_api="", symbols=("S",),
)  # fmt: skip


def row(kind: InstrumentKind = InstrumentKind.SPOT, fee_ppm: int = 1000) -> InstrumentRow:
    spec = InstrumentSpec(
        venue="x_spot", symbol="S", base="BTC", quote="USDT", kind=kind, tick=Decimal("0.1"), lot=Decimal("0.001"),
        taker_fee_ppm=fee_ppm, fee_rule=FeeAssetRule.QUOTE, reference_price=Decimal(100),
    )  # fmt: skip
    return InstrumentRow(
        instrument_id=0, venue_id=0, feed_id=0, book_index=0, pair_id=0, base_asset_id=0, quote_asset_id=1, price_exp=2,
        qty_exp=4, row_epoch=1, spec=spec,
    )  # fmt: skip


class Book:
    """A market of one instrument: asks and bids as (price, quantity) text."""

    def __init__(self, asks: list[tuple[str, str]], bids: list[tuple[str, str]]) -> None:
        self.asks, self.bids = asks, bids
        self.proof, self.flags, self.venue_ns = 1, 0, 0

    def book(self, instrument_id: int) -> BookView | None:
        words = [0] * BOOK.WORDS
        words[BOOK.row_epoch] = 1
        words[BOOK.flags] = self.flags
        words[BOOK.venue_wall_ns] = self.venue_ns
        for levels, count, price, qty in (
            (self.asks, BOOK.ask_count, BOOK.ask_price_fp, BOOK.ask_qty_fp),
            (self.bids, BOOK.bid_count, BOOK.bid_price_fp, BOOK.bid_qty_fp),
        ):
            words[count] = len(levels)
            for index, (p, q) in enumerate(levels):
                words[price + index] = int(Decimal(p) * 100)
                words[qty + index] = int(Decimal(q) * 10_000)
        return BookView(words=words, proof_mono_ns=self.proof)


def order(side: OrderSide, qty: str, price: str, client_id: str = "c1", **changes: Any) -> OrderRequest:
    fields: dict[str, Any] = {
        "client_id": client_id, "venue": "x_spot", "symbol": "S", "side": side, "kind": OrderKind.LIMIT,
        "tif": TimeInForce.IOC, "qty": Decimal(qty), "price": Decimal(price),
    }  # fmt: skip
    return OrderRequest(**{**fields, **changes})


def trade(
    folder: Path, book: Book, *requests: OrderRequest, instrument: InstrumentRow | None = None, **settings: Any
) -> tuple[list[Any], PaperAccount]:
    """Place ``requests`` in turn; every event, and the account afterwards."""
    events: list[Any] = []
    chosen = instrument or row()

    async def run() -> None:
        trading = PaperTrading(VENUE, folder, book, {"S": chosen}, events.append, **settings)
        await trading.connect()
        for request in requests:
            trading._arrive(request)  # what the loop does after the latency
        await trading.close()

    open_accounts(folder, [chosen.spec])
    asyncio.run(run())
    account = PaperAccount(folder, "x_spot")
    account.refresh()
    return events, account


def outcomes(events: list[Any]) -> list[PlaceOutcome]:
    return [event for event in events if isinstance(event, PlaceOutcome)]


def test_a_buy_walks_the_asks_up_to_its_limit(tmp_path: Path) -> None:
    book = Book([("100", "1"), ("100.5", "2"), ("101", "5")], [("99", "1")])
    events, account = trade(tmp_path, book, order(OrderSide.BUY, "4", "100.5"))
    fills = [event for event in events if isinstance(event, Fill)]
    assert [(fill.price, fill.qty) for fill in fills] == [(Decimal(100), Decimal(1)), (Decimal("100.5"), Decimal(2))]
    update = [event for event in events if isinstance(event, OrderUpdate)][-1]
    assert (update.state, update.filled_qty) == (OrderState.CANCELLED, Decimal(3))
    spent = Decimal(100) + Decimal("201")
    assert account.changes["USDT"] == -spent - spent * Decimal("0.001")
    assert account.changes["BTC"] == 3


@pytest.mark.parametrize(("venue_ns", "expected_ms"), [(1_723_161_256_059_000_000, 1_723_161_256_059), (0, 0)])
def test_fills_are_stamped_by_the_venues_clock_and_never_by_ours(
    tmp_path: Path, venue_ns: int, expected_ms: int
) -> None:
    book = Book([("100", "1")], [("99", "1")])
    book.venue_ns = venue_ns
    events, _ = trade(tmp_path, book, order(OrderSide.BUY, "1", "100"))
    stamps = {event.venue_wall_ms for event in events if isinstance(event, Fill | OrderUpdate)}
    assert stamps == {expected_ms}


def test_what_was_taken_stays_taken_until_the_level_changes(tmp_path: Path) -> None:
    book = Book([("100", "1")], [])
    events, account = trade(
        tmp_path, book, order(OrderSide.BUY, "0.6", "100"), order(OrderSide.BUY, "0.6", "100", "c2")
    )
    assert account.changes["BTC"] == 1
    assert [outcome.kind for outcome in outcomes(events)] == [OutcomeKind.ACKED, OutcomeKind.ACKED]


def test_fok_fills_whole_or_not_at_all(tmp_path: Path) -> None:
    book = Book([("100", "1")], [])
    _, account = trade(tmp_path, book, order(OrderSide.BUY, "2", "100", tif=TimeInForce.FOK))
    assert account.fills == []
    assert account.orders["c1"].state is OrderState.CANCELLED


def test_what_an_order_does_not_take_at_once_is_cancelled(tmp_path: Path) -> None:
    book = Book([("100", "1")], [])
    _, account = trade(tmp_path, book, order(OrderSide.BUY, "2", "100", tif=TimeInForce.GTC))
    assert [fill.qty for fill in account.fills] == [1]
    assert account.orders["c1"].state is OrderState.CANCELLED


@pytest.mark.parametrize("change", [{"proof": 0}, {"flags": FLAG_GAP}])
def test_a_book_that_is_not_proved_fills_nothing(tmp_path: Path, change: dict[str, int]) -> None:
    book = Book([("100", "1")], [])
    vars(book).update(change)
    _, account = trade(tmp_path, book, order(OrderSide.BUY, "1", "100"))
    assert account.fills == []


def test_refusals_are_the_venues_definitive_no(tmp_path: Path) -> None:
    book = Book([("100", "1000")], [("99", "1000")])
    events, account = trade(
        tmp_path,
        book,
        order(OrderSide.BUY, "1", "100"),
        order(OrderSide.BUY, "1", "100"),  # the same client id
        order(OrderSide.BUY, "900", "100", "c2"),  # more than the wallet holds
        order(OrderSide.SELL, "1", "99", "c3", tif=TimeInForce.POST_ONLY),
        order(OrderSide.BUY, "1", "100", "c4", symbol="T"),
    )
    assert [outcome.kind for outcome in outcomes(events)] == [OutcomeKind.ACKED] + [OutcomeKind.REJECTED] * 4
    assert len(account.fills) == 1


@pytest.mark.parametrize(
    ("qty", "price", "changes", "wanted"),
    [
        ("0.0015", "100", {}, "lot 0.001"),
        ("0", "100", {}, "lot 0.001"),
        ("1", "100.05", {}, "tick 0.1"),
        ("0.004", "100", {}, "0.005..50"),
        ("51", "100", {}, "0.005..50"),
        ("0.04", "100", {}, "least worth 5"),
        ("0.04", "0", {"kind": OrderKind.MARKET}, "least worth 5"),
    ],
)
def test_what_the_venue_would_refuse_by_its_row_is_refused(
    tmp_path: Path, qty: str, price: str, changes: dict[str, Any], wanted: str
) -> None:
    rules = {"min_qty": Decimal("0.005"), "max_qty": Decimal(50), "min_notional": Decimal(5)}
    strict = row()
    strict = msgspec.structs.replace(strict, spec=msgspec.structs.replace(strict.spec, **rules))
    book = Book([("100", "1000")], [("99", "1000")])
    whole = order(OrderSide.BUY, "0.05", "100", "c2")
    events, account = trade(tmp_path, book, order(OrderSide.BUY, qty, price, **changes), whole, instrument=strict)
    refused, taken = outcomes(events)
    assert (refused.kind, taken.kind) == (OutcomeKind.REJECTED, OutcomeKind.ACKED)
    assert wanted in str(refused.error)
    assert [fill.client_id for fill in account.fills] == ["c2"]


def test_a_rest_of_a_position_below_the_least_worth_can_be_closed(tmp_path: Path) -> None:
    contract = row(InstrumentKind.PERPETUAL)
    spec = msgspec.structs.replace(contract.spec, min_notional=Decimal(5))
    book = Book([("100", "10")], [("100", "10")])
    orders = [order(OrderSide.BUY, "0.051", "100"), order(OrderSide.SELL, "0.05", "100", "c2", reduce_only=True)]
    orders.append(order(OrderSide.SELL, "0.001", "100", "c3", reduce_only=True))
    _, account = trade(tmp_path, book, *orders, instrument=msgspec.structs.replace(contract, spec=spec))
    assert account.positions["S"].qty == 0


STAMP_S = 1_900_000_000


def contract_paying(rate_ppb: int, at_s: int = STAMP_S) -> InstrumentRow:
    contract = row(InstrumentKind.PERPETUAL, fee_ppm=0)
    spec = msgspec.structs.replace(contract.spec, funding_rate_ppb=rate_ppb, funding_next_wall_s=at_s)
    return msgspec.structs.replace(contract, spec=spec)


class Stamps:
    """A session of one contract whose account is short two coins, at a wall clock that the test sets."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, row_: InstrumentRow) -> None:
        self.folder, self.events, self.now_ms = folder, list[Any](), (STAMP_S - 60) * 1000
        monkeypatch.setattr("pipeline.paper.wall_ms", lambda: self.now_ms)
        self.book = Book([("101", "10")], [("99", "10")])
        PaperAccount(folder, "x_spot").append(PaperFile(balances={"USDT": Decimal(10_000)}))
        self.trading = PaperTrading(VENUE, folder, self.book, {"S": row_}, self.events.append)

    async def open(self) -> None:
        await self.trading.connect()
        self.trading._arrive(order(OrderSide.SELL, "2", "99"))
        self.events.clear()

    def comes(self, at_s: int = STAMP_S) -> None:
        """What the loop does at the stamp."""
        self.now_ms = at_s * 1000
        self.trading._stamp("S", at_s)

    def paid(self) -> list[Funding]:
        client = PaperClient(VENUE, self.folder, None)  # type: ignore[arg-type]
        return asyncio.run(client.funding((STAMP_S - 10_000) * 1000))


@pytest.mark.parametrize(("rate_ppb", "amount"), [(100_000, "0.02"), (-100_000, "-0.02"), (0, None)])
def test_a_position_is_paid_at_a_stamp_by_the_last_rate_before_it_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate_ppb: int, amount: str | None
) -> None:
    stamps = Stamps(tmp_path, monkeypatch, contract_paying(7))

    async def run() -> None:
        await stamps.open()
        stamps.trading.take_row(contract_paying(rate_ppb))
        stamps.now_ms = STAMP_S * 1000 - 300
        stamps.trading.take_row(contract_paying(5, STAMP_S + 28_800))  # its venue shows the next one already
        stamps.comes()
        stamps.comes()  # nothing is paid twice, nor by the session of another start
        again = PaperTrading(VENUE, tmp_path, stamps.book, {"S": contract_paying(rate_ppb)}, stamps.events.append)
        again._connected, again._stamps = True, {"S": {STAMP_S: rate_ppb}}
        again._stamp("S", STAMP_S)

    asyncio.run(run())
    account = PaperAccount(tmp_path, "x_spot")
    account.refresh()
    if amount is None:
        assert not stamps.paid() and not stamps.events
        return
    (paid,) = stamps.paid()
    assert (paid.asset, paid.amount, paid.venue_wall_ms) == ("USDT", Decimal(amount), STAMP_S * 1000)
    assert account.changes["USDT"] == Decimal(amount), "sold at 99, and no fee"
    assert [type(event) for event in stamps.events] == [FundingNotice, Balance]


def test_a_stamp_that_was_moved_or_whose_timer_is_early_pays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = Stamps(tmp_path, monkeypatch, contract_paying(100_000))

    async def run() -> None:
        await stamps.open()
        stamps.trading._stamp("S", STAMP_S)  # a minute early: the wall clock was set back
        stamps.trading.take_row(contract_paying(100_000, STAMP_S - 30))
        stamps.comes(STAMP_S)
        assert not stamps.events
        stamps.trading.take_row(contract_paying(100_000, STAMP_S + 30))
        await stamps.trading.close()
        stamps.comes(STAMP_S + 30)

    asyncio.run(run())
    assert not stamps.paid()


def test_the_session_waits_for_the_stamps_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = Stamps(tmp_path, monkeypatch, contract_paying(100_000))

    async def run() -> None:
        stamps.now_ms = STAMP_S * 1000 - 1
        came, listed = asyncio.Event(), stamps.events

        def heard(event: Any) -> None:
            listed.append(event)
            if isinstance(event, FundingNotice):
                came.set()

        stamps.trading._on_event = heard
        await stamps.open()
        await came.wait()

    asyncio.run(run())
    assert [paid.amount for paid in stamps.paid()] == [Decimal("0.02")]


def test_an_order_that_comes_after_its_expiry_executes_nothing(tmp_path: Path) -> None:
    """Who has called it EXPIRED meanwhile was right: no venue takes it any more."""
    book = Book([("100", "5")], [("99", "5")])
    late = order(OrderSide.BUY, "1", "100", expiry_wall_ms=wall_ms() - 1)
    in_time = order(OrderSide.BUY, "1", "100", "c2", expiry_wall_ms=wall_ms() + 3_600_000)
    events, account = trade(tmp_path, book, late, in_time)
    refused, taken = outcomes(events)
    assert refused.kind is OutcomeKind.REJECTED and isinstance(refused.error, ClockRefused)
    assert taken.kind is OutcomeKind.ACKED
    assert set(account.orders) == {"c2"} and [fill.client_id for fill in account.fills] == ["c2"]


def test_positions_realise_profit_and_bind_margin(tmp_path: Path) -> None:
    contract = row(InstrumentKind.PERPETUAL, fee_ppm=0)
    book = Book([("100", "10")], [("110", "10")])
    events, account = trade(
        tmp_path,
        book,
        order(OrderSide.BUY, "2", "100"),
        order(OrderSide.SELL, "1", "110", "c2", reduce_only=True),
        order(OrderSide.SELL, "5", "110", "c3", reduce_only=True),  # cut to what is left
        instrument=contract,
    )
    assert account.changes["USDT"] == 20
    assert account.positions["S"].qty == 0
    balances = [event for event in events if isinstance(event, Balance)]
    assert min(balance.free for balance in balances) == 10_000 - Decimal(200) / LEVERAGE


def test_the_account_survives_its_writer_and_answers_questions(tmp_path: Path) -> None:
    trade(tmp_path, Book([("100", "1")], []), order(OrderSide.BUY, "1", "100"))

    class Public:
        async def close(self) -> None:
            return None

    async def questions() -> None:
        client = PaperClient(VENUE, tmp_path, Public())  # type: ignore[arg-type]
        found = await client.query_order("S", "c1")
        assert found is not None and found.state is OrderState.FILLED
        assert await client.query_order("S", "nobody") is None
        assert len(await client.fills("S", 0)) == 1
        assert [update.client_id for update in await client.finished_orders("S", 0)] == ["c1"]
        wallet = {balance.asset: balance.free for balance in await client.balances()}
        assert wallet["BTC"] == Decimal(51)  # 5000 / 100 to begin with
        await client.close()

    asyncio.run(questions())


def test_margin_is_of_the_configured_leverage(tmp_path: Path) -> None:
    contract = row(InstrumentKind.PERPETUAL, fee_ppm=0)
    book = Book([("100", "10")], [("110", "10")])
    events, _ = trade(tmp_path, book, order(OrderSide.BUY, "2", "100"), instrument=contract, leverage=Decimal(10))
    assert min(event.free for event in events if isinstance(event, Balance)) == 10_000 - Decimal(20)


def test_an_order_that_others_were_before_fills_nothing_and_ends(tmp_path: Path) -> None:
    """The one leg of two that came too late: the venue's word is a cancelled order, never an error."""
    chance = OrderChance(PaperConfig(missed_ppm=1_000_000))
    events, account = trade(tmp_path, Book([("100", "5")], []), order(OrderSide.BUY, "1", "100"), chance=chance)
    assert account.fills == [] and account.orders["c1"].state is OrderState.CANCELLED
    assert [outcome.kind for outcome in outcomes(events)] == [OutcomeKind.ACKED]


def test_a_late_answer_is_executed_at_once_and_told_later(tmp_path: Path) -> None:
    """Meanwhile the account answers what has happened: what an unknown order is looked for with."""
    events: list[Any] = []
    book, chosen = Book([("100", "5")], []), row()

    async def run() -> tuple[OrderUpdate | None, int]:
        chance = OrderChance(PaperConfig(late_ppm=1_000_000, late_ms=1))
        answered = asyncio.Event()

        def listen(event: Any) -> None:
            events.append(event)
            answered.set()

        trading = PaperTrading(VENUE, tmp_path, book, {"S": chosen}, listen, chance=chance)
        await trading.connect()
        answered.clear()
        trading._arrive(order(OrderSide.BUY, "1", "100"))
        early = len(outcomes(events))
        found = await PaperClient(VENUE, tmp_path, None).query_order("S", "c1")  # type: ignore[arg-type]
        await answered.wait()
        await trading.close()
        return found, early

    open_accounts(tmp_path, [chosen.spec])
    found, early = asyncio.run(run())
    assert early == 0 and found is not None and found.state is OrderState.FILLED
    (outcome,) = outcomes(events)
    fills = [event for event in events if isinstance(event, Fill)]
    assert outcome.update is not None and outcome.update.state is OrderState.FILLED
    assert [fill.qty for fill in fills] == [1] and fills[0].recv_mono_ns == outcome.recv_mono_ns
    assert isinstance(events[-1], Balance), "the newest balances go behind it, not those of then"


def test_nobody_is_told_late_after_the_session_has_closed(tmp_path: Path) -> None:
    events: list[Any] = []

    async def run() -> None:
        chance = OrderChance(PaperConfig(late_ppm=1_000_000, late_ms=1))
        trading = PaperTrading(VENUE, tmp_path, Book([("100", "5")], []), {"S": row()}, events.append, chance=chance)
        await trading.connect()
        trading._arrive(order(OrderSide.BUY, "1", "100"))
        await trading.close()
        later = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.01, later.set_result, None)  # behind the answer that is due
        await later

    open_accounts(tmp_path, [row().spec])
    asyncio.run(run())
    assert not outcomes(events)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(OrderSide)),
            st.integers(1, 3000).map(lambda n: Decimal(n) / 1000),
            st.integers(90, 110).map(Decimal),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_wallets_are_the_sum_of_fills_and_never_negative(
    tmp_path_factory: pytest.TempPathFactory, wishes: list[tuple[OrderSide, Decimal, Decimal]]
) -> None:
    book = Book([("100", "1"), ("101", "2"), ("105", "9")], [("99", "1"), ("95", "4")])
    requests = [order(side, str(qty), str(price), f"c{n}") for n, (side, qty, price) in enumerate(wishes)]
    _, account = trade(tmp_path_factory.mktemp("paper"), book, *requests)
    expected = {"BTC": Decimal(50), "USDT": Decimal(10_000)}
    for fill in account.fills:
        sign = int(fill.side)
        expected["BTC"] += fill.qty * sign
        expected["USDT"] -= fill.qty * fill.price * sign + fill.fee
    assert account.wallet == expected
    assert min(account.wallet.values()) >= 0
