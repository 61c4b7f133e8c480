"""What cannot be a book, or a market's trades."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from pipeline.conformance.data_quality import book_problems, trade_problems
from pipeline.exchanges.recent_trades import PublicTrade
from pipeline.model.enums import OrderSide

NOW_MS = 1_700_000_000_000
TRADE = PublicTrade(trade_id="2", side=OrderSide.BUY, price=Decimal("0.5"), qty=Decimal(3), venue_wall_ms=NOW_MS - 10)
OLDER = msgspec.structs.replace(TRADE, trade_id="1", venue_wall_ms=NOW_MS - 20)


@pytest.mark.parametrize(
    ("bids", "asks", "sizes", "said"),
    [
        ([3, 2], [4, 5], [1, 1], ""),
        ([], [4], [1], "found an empty side"),
        ([2, 3], [4], [1], "wanted each below the one before"),
        ([3, 3], [4], [1], "wanted each below the one before"),
        ([3], [5, 4], [1], "wanted each above the one before"),
        ([4], [4], [1], "found bid 4 and ask 4, wanted a spread"),
        ([3], [4], [1, 0], "not positive"),
        ([3, -1], [4], [1], "not positive"),
    ],
)
def test_a_book_has_order_a_spread_and_positive_numbers(
    bids: list[int], asks: list[int], sizes: list[int], said: str
) -> None:
    found = list(book_problems(*(list(map(Decimal, side)) for side in (bids, asks, sizes))))
    assert said in "; ".join(found) if said else found == []


@pytest.mark.parametrize(
    ("trades", "said"),
    [
        ([TRADE, OLDER], ""),
        ([OLDER, TRADE], "out of order"),
        ([TRADE, msgspec.structs.replace(OLDER, trade_id="2")], "an id twice"),
        ([TRADE, msgspec.structs.replace(OLDER, trade_id=""), msgspec.structs.replace(OLDER, trade_id="")], ""),
        ([msgspec.structs.replace(TRADE, venue_wall_ms=NOW_MS // 1000)], "wanted past ones in ms"),
        ([msgspec.structs.replace(TRADE, venue_wall_ms=NOW_MS * 1000)], "wanted past ones in ms"),
        ([msgspec.structs.replace(TRADE, venue_wall_ms=0)], "wanted past ones in ms"),
        ([msgspec.structs.replace(TRADE, qty=Decimal(0))], "wanted positive numbers"),
        ([msgspec.structs.replace(TRADE, price=Decimal("0.55"))], "on no tick of 0.1"),
    ],
)
def test_trades_have_order_times_ids_and_precision(trades: list[PublicTrade], said: str) -> None:
    found = list(trade_problems(trades, NOW_MS, Decimal("0.1")))
    assert said in "; ".join(found) if said else found == []
