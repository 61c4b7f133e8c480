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
from pipeline.model.config import VenueConfig
from pipeline.model.enums import FeeAssetRule, InstrumentKind, OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import Balance, Fill, InstrumentSpec, OrderRequest, OrderUpdate
from pipeline.paper import LEVERAGE, PaperAccount, PaperClient, PaperFile, PaperTrading, open_accounts
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
    folder: Path, book: Book, *requests: OrderRequest, instrument: InstrumentRow | None = None
) -> tuple[list[Any], PaperAccount]:
    """Place ``requests`` in turn; every event, and the account afterwards."""
    events: list[Any] = []
    chosen = instrument or row()

    async def run() -> None:
        trading = PaperTrading(VENUE, folder, book, {"S": chosen}, events.append)
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


def test_every_coin_is_held_for_the_same_value_in_dollars(tmp_path: Path) -> None:
    def listed(base: str, quote: str, price: str) -> InstrumentSpec:
        return msgspec.structs.replace(
            row().spec, symbol=f"{base}_{quote}", base=base, quote=quote, reference_price=Decimal(price)
        )

    open_accounts(
        tmp_path, [listed("BTC", "USDT", "50000"), listed("ETH", "USDT", "2500"), listed("ETH", "BTC", "0.05")]
    )
    account = PaperAccount(tmp_path, "x_spot")
    account.refresh()
    assert account.wallet == {"USDT": Decimal(10_000), "BTC": Decimal("0.1"), "ETH": Decimal(2)}


def test_a_half_written_line_is_waited_for(tmp_path: Path) -> None:
    account = PaperAccount(tmp_path, "v")
    account.append(PaperFile(balances={"USDT": Decimal(5)}))
    with account.path.open("ab") as handle:
        handle.write(b'{"moves": {"USDT"')
    other = PaperAccount(tmp_path, "v")
    other.refresh()
    assert other.wallet == {"USDT": Decimal(5)}
    with account.path.open("ab") as handle:
        handle.write(b': "1"}}\n')
    other.refresh()
    assert other.wallet == {"USDT": Decimal(6)}


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
