"""Pages: seqlock rows, catalogue, inventory, account, halt latch and lease."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.errors import SegmentBusy, ShmError
from shm.layout_pages import (
    ACCOUNT_BALANCE,
    ACCOUNT_POSITION,
    ACCOUNT_VENUE,
    CATALOGUE,
    CATALOGUE_CAPACITY,
    HALT,
    INVENTORY_ROW,
    VENUE_CAPACITY,
)
from shm.pages import ROW_TORN, AccountPage, CataloguePage, HaltPage, InventoryPage, may_send, read_row, write_row
from tests.naive.shm import NaiveRow

ROW = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=8, max_size=8)


def row_of(*values: int, width: int = 8) -> np.ndarray:
    row = np.zeros(width, np.int64)
    row[1 : 1 + len(values)] = values
    return row


@given(st.lists(ROW, max_size=10))
@settings(deadline=None)
def test_row_does_what_its_plain_twin_does(rows: list[list[int]]) -> None:
    words, naive, out = np.zeros(24, np.int64), NaiveRow(), np.zeros(8, np.int64)
    assert read_row(words, 8, out) == 0
    for values in rows:
        write_row(words, 8, np.array(values, np.int64))
        naive.write(tuple(values[1:]))
        assert read_row(words, 8, out) == naive.seq == out[0] and tuple(out[1:].tolist()) == naive.values
    assert not words[:8].any() and not words[16:].any()


@pytest.mark.parametrize("start", [2**32 - 2, 2**63 - 2, -2])
def test_row_sequence_wraps(start: int) -> None:
    words, out = np.zeros(8, np.int64), np.zeros(8, np.int64)
    words[0] = start
    for k in range(4):
        write_row(words, 0, row_of(k, k + 1))
        assert read_row(words, 0, out) % 2 == 0 and out[1:3].tolist() == [k, k + 1]


def test_row_whose_writer_died_in_it_is_torn_until_the_next_write() -> None:
    words, out = np.zeros(8, np.int64), np.zeros(8, np.int64)
    write_row(words, 0, row_of(1, 1))
    words[0] = 3  # odd: the writer was killed here
    words[1] = 9
    assert read_row(words, 0, out) == ROW_TORN
    write_row(words, 0, row_of(2, 2))
    assert read_row(words, 0, out) == 4 and out[1:3].tolist() == [2, 2]


def test_catalogue_appends_and_updates_rows_for_readers(instance: str) -> None:
    reader = CataloguePage.attach(instance)
    assert not reader.mapped and reader.count == 0 and reader.row(0) is None
    page = CataloguePage.create(instance)
    assert reader.refresh() and reader.mapped
    first, second = row_of(1, width=48), row_of(2, width=48)
    assert (page.append(first), page.append(second)) == (0, 1)
    version = reader.version
    page.update(1, row_of(3, width=48))
    assert reader.version == version + 1 and reader.count == 2
    got = [reader.row(k) for k in range(3)]
    assert got[0] is not None and got[1] is not None and got[2] is None
    assert got[0][1] == 1 and got[1][1] == 3
    for wrong in (lambda: page.update(2, first), lambda: page.append(row_of(1))):
        with pytest.raises(ShmError):
            wrong()
    with pytest.raises(ShmError, match="read-only"):
        _ = reader.segment
    page.close()


def test_catalogue_capacity_is_the_end(instance: str) -> None:
    page = CataloguePage.create(instance)
    page.words[CATALOGUE.count] = CATALOGUE_CAPACITY
    with pytest.raises(ShmError, match="full"):
        page.append(row_of(1, width=48))
    page.close()


def test_restarted_supervisor_keeps_the_catalogue(instance: str) -> None:
    page = CataloguePage.create(instance)
    page.append(row_of(5, width=48))
    with pytest.raises(SegmentBusy):
        CataloguePage.create(instance)
    page.close()
    again = CataloguePage.create(instance)
    row = again.row(0)
    assert again.count == 1 and row is not None and row[1] == 5
    again.close()


def test_inventory_of_a_dead_executor_is_blocked(instance: str) -> None:
    page = InventoryPage.create(instance)
    reader = InventoryPage.attach(instance)
    page.write(7, row_of(1, 2, 3, 4, 1))
    got = reader.row(7)
    assert got is not None and got[INVENTORY_ROW.state] == 1
    page.close()
    again = InventoryPage.create(instance)
    got = reader.row(7)
    assert got is not None and not got[1:].any()
    for instrument, row in ((CATALOGUE_CAPACITY, row_of(1)), (0, row_of(1, width=9))):
        with pytest.raises(ShmError, match="inventory row refused"):
            again.write(instrument, row)
    again.close()


def test_account_rows_are_appended_in_order_and_replaced_in_place(instance: str) -> None:
    page, reader = AccountPage.create(instance), AccountPage.attach(instance)
    page.write_venue(2, row_of(10, 20, 1, width=16))
    page.write_balance(0, row_of(2))
    page.write_balance(1, row_of(3))
    page.write_balance(0, row_of(4))
    page.write_position(0, row_of(1, 2, 3, width=16))
    venue, balance, position = reader.venue(2), reader.balance(0), reader.position(0)
    assert venue is not None and venue[ACCOUNT_VENUE.sweep_end_mono_ns] == 20 and reader.venue(3) is None
    assert (reader.balance_count, reader.position_count) == (2, 1)
    assert balance is not None and balance[ACCOUNT_BALANCE.venue] == 4 and reader.balance(2) is None
    assert position is not None and position[ACCOUNT_POSITION.qty_fp] == 3 and reader.position(1) is None
    for wrong in (
        lambda: page.write_balance(3, row_of(1)),
        lambda: page.write_balance(0, row_of(1, width=9)),
        lambda: page.write_position(-1, row_of(1, width=16)),
        lambda: page.write_venue(VENUE_CAPACITY, row_of(1, width=16)),
    ):
        with pytest.raises(ShmError, match="refused"):
            wrong()
    page.close()


class TestHalt:
    def test_nobody_may_send_without_page_lease_or_under_the_latch(self, instance: str) -> None:
        executor = HaltPage.attach(instance)
        assert executor.latched and not executor.may_send(1, 0), "no guard, no trade"
        guard = HaltPage.create(instance)
        executor.refresh()
        assert not executor.latched and not executor.may_send(1, 0)
        guard.grant(1, 100)
        assert executor.lease == (1, 100)
        assert [executor.may_send(1, now) for now in (0, 99, 100, 101)] == [True, True, False, False]
        assert not executor.may_send(2, 0), "another epoch's lease"
        guard.latch("daily loss")
        assert executor.latched and executor.reason == "daily loss" and not executor.may_send(1, 0)
        guard.release()
        assert executor.may_send(1, 0)
        guard.revoke()
        assert not executor.may_send(1, 0)
        guard.close()

    def test_lease_for_a_new_executor_ends_the_old_ones(self, instance: str) -> None:
        guard = HaltPage.create(instance)
        guard.grant(1, 100)
        guard.grant(2, 100)
        assert not guard.may_send(1, 0) and guard.may_send(2, 0)
        guard.close()

    @pytest.mark.parametrize("cut", range(3))
    def test_guard_killed_between_the_stores_of_a_grant_lets_nobody_else_send(self, cut: int) -> None:
        words = np.zeros(HALT.END, np.int64)
        words[HALT.lease_token], words[HALT.lease_expiry_mono_ns] = 1, 100
        stores = [(HALT.lease_expiry_mono_ns, 0), (HALT.lease_token, 2), (HALT.lease_expiry_mono_ns, 200)]
        for at, value in stores[: cut + 1]:
            words[at] = value
        assert not may_send(words, 0, 1, 50), "the old executor is out from the first store on"
        assert bool(may_send(words, 0, 2, 50)) == (cut == 2)

    def test_restarted_guard_inherits_latch_and_blocks_but_not_the_lease(self, instance: str) -> None:
        guard = HaltPage.create(instance)
        guard.grant(1, 2**62)
        guard.latch("x" * 300)
        guard.block_venue(3, True)
        guard.block_instrument(9, True)
        guard.close()
        again = HaltPage.create(instance)
        assert again.latched and again.reason == "x" * 256 and again.lease == (1, 0)
        assert again.venue_blocked(3) and again.instrument_blocked(9)
        assert not again.venue_blocked(4) and not again.instrument_blocked(8)
        again.block_venue(3, False)
        assert not again.venue_blocked(3)
        again.close()

    @pytest.mark.parametrize("index", [-1, 2**20])
    def test_what_cannot_be_blocked_counts_as_blocked(self, instance: str, index: int) -> None:
        guard = HaltPage.create(instance)
        assert guard.venue_blocked(index) and guard.instrument_blocked(index)
        with pytest.raises(ShmError, match="nothing to block"):
            guard.block_venue(index, True)
        guard.close()
