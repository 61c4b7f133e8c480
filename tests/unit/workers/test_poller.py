"""The account page as the poller writes it: exact, complete statements, rows found again after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.config import VenueConfig
from pipeline.model.structs import Balance, Position
from shm.layout_pages import ACCOUNT_BALANCE, ACCOUNT_POSITION, ASSET_WORDS, CATALOGUE_ROW, CATALOGUE_TEXT_WORDS
from shm.pages import AccountPage, CataloguePage
from shm.words import pack_text, unpack_text
from workers.poller import AccountWriter, common_exp, fixed

VENUE = VenueConfig(
    name="x_futures", exchange="x", market="futures", dialect="gateio", venue_id=3, feed_id=0, rest="", ws="",
    ws_private="", ws_api="", symbols=("S",),
)  # fmt: skip


@given(st.decimals(min_value=-(10**9), max_value=10**9, allow_nan=False, allow_infinity=False, places=9))
def test_amounts_that_fit_are_exact(value: Decimal) -> None:
    mantissa, exp = fixed(value)
    assert Decimal(mantissa).scaleb(-exp) == value


def test_digits_that_do_not_fit_are_cut_not_rounded_up() -> None:
    value = Decimal("123456789.123456789123456789")
    mantissa, exp = fixed(value)
    assert 0 <= value - Decimal(mantissa).scaleb(-exp) < Decimal("1e-9")
    assert abs(mantissa) < 2**63


def test_common_exponent_carries_both() -> None:
    assert common_exp([Decimal("1.5"), Decimal("0.000000001")]) == 9
    assert common_exp([Decimal("9000000000"), Decimal("1e-18")]) == 8
    assert common_exp([]) == 0


@pytest.fixture
def pages(instance: str) -> Iterator[tuple[AccountPage, CataloguePage, AccountWriter]]:
    account, catalogue = AccountPage.create(instance), CataloguePage.create(instance)
    row = np.zeros(CATALOGUE_ROW.WORDS, dtype=np.int64)
    row[CATALOGUE_ROW.venue] = 3
    row[CATALOGUE_ROW.symbol : CATALOGUE_ROW.symbol + CATALOGUE_TEXT_WORDS] = pack_text("S", CATALOGUE_TEXT_WORDS)
    catalogue.append(row)
    yield account, catalogue, AccountWriter(account, CataloguePage.attach(instance), [VENUE])
    account.close()
    catalogue.close()


def balance(asset: str, free: str, locked: str = "0") -> Balance:
    return Balance(
        venue="x_futures", asset=asset, free=Decimal(free), locked=Decimal(locked), recv_mono_ns=1, source="rest"
    )


def read(account: AccountPage) -> dict[str, tuple[Decimal, Decimal, int]]:
    found = {}
    for index in range(account.balance_count):
        row = account.balance(index)
        assert row is not None and int(row[ACCOUNT_BALANCE.venue]) == 3
        exp = int(row[ACCOUNT_BALANCE.exp])
        found[unpack_text(row[ACCOUNT_BALANCE.asset : ACCOUNT_BALANCE.asset + ASSET_WORDS])] = (
            Decimal(int(row[ACCOUNT_BALANCE.free_fp])).scaleb(-exp),
            Decimal(int(row[ACCOUNT_BALANCE.locked_fp])).scaleb(-exp),
            int(row[ACCOUNT_BALANCE.confirmed_mono_ns]),
        )
    return found


def test_an_asset_that_a_complete_statement_leaves_out_is_zero(
    pages: tuple[AccountPage, CataloguePage, AccountWriter],
) -> None:
    account, _, writer = pages
    writer.write_balances("x_futures", [balance("USDT", "10.25", "0.5"), balance("BTC", "1e-8")], 100)
    assert read(account) == {
        "USDT": (Decimal("10.25"), Decimal("0.5"), 100),
        "BTC": (Decimal("1e-8"), Decimal(0), 100),
    }
    writer.write_balances("x_futures", [balance("USDT", "9")], 200)
    assert read(account) == {"USDT": (Decimal(9), Decimal(0), 200), "BTC": (Decimal(0), Decimal(0), 200)}


def test_a_new_poller_finds_its_rows_again(
    pages: tuple[AccountPage, CataloguePage, AccountWriter], instance: str
) -> None:
    account, _, writer = pages
    writer.write_balances("x_futures", [balance("USDT", "1"), balance("BTC", "2")], 1)
    again = AccountWriter(account, CataloguePage.attach(instance), [VENUE])
    again.write_balances("x_futures", [balance("BTC", "3"), balance("USDT", "4")], 2)
    assert account.balance_count == 2
    assert read(account)["BTC"][0] == 3


def test_positions_close_when_the_venue_lists_them_no_more(
    pages: tuple[AccountPage, CataloguePage, AccountWriter],
) -> None:
    account, _, writer = pages
    position = Position(
        venue="x_futures", symbol="S", qty=Decimal("-0.5"), entry_price=Decimal("64000.5"), mark_price=Decimal(0),
        recv_mono_ns=1,
    )  # fmt: skip
    unknown = Position(
        venue="x_futures", symbol="OTHER", qty=Decimal(1), entry_price=Decimal(1), mark_price=Decimal(0), recv_mono_ns=1
    )
    writer.write_positions("x_futures", [position, unknown], 10)
    row = account.position(0)
    assert row is not None and account.position_count == 1
    assert Decimal(int(row[ACCOUNT_POSITION.qty_fp])).scaleb(-int(row[ACCOUNT_POSITION.qty_exp])) == Decimal("-0.5")
    writer.write_positions("x_futures", [], 20)
    row = account.position(0)
    assert row is not None
    assert (int(row[ACCOUNT_POSITION.qty_fp]), int(row[ACCOUNT_POSITION.confirmed_mono_ns])) == (0, 20)
