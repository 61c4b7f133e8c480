"""What processes have used of common budgets: the sum against its twin, lives and deaths, what is left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.exchanges.transport import spend
from pipeline.exchanges.transport.spend import OF_ALL, SLICES, SpendRow, SpendTable, spent_of
from shm.layout_pages import BUDGET_CAPACITY
from shm.segment import cleanup_instance, list_segments
from tests.naive.shm import NaiveSpend

SECOND = 1_000_000_000
IDENTITY = 0x5EED
MINUTE_NS = 60 * SECOND


class Processes:
    """Tables as processes of one instance would have them."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self.tables: list[SpendTable] = []

    def born(self, name: str) -> SpendTable:
        table = SpendTable.create(self.instance, name)
        self.tables.append(table)
        for other in self.tables:
            other.refresh()
        return table

    def names(self) -> list[str]:
        return [name for name in list_segments(OF_ALL) if f".{self.instance}." in name]


@pytest.fixture
def processes(instance: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    made = Processes(instance)
    mine = f".{instance}."  # tests that run beside this one have tables of dead processes, too
    looked_at = lambda of, over: cleanup_instance(of, lambda name: mine in name and over(name))  # noqa: E731
    monkeypatch.setattr(spend, "cleanup_instance", looked_at)
    yield made
    for table in made.tables:
        table._segment.close()
    cleanup_instance(OF_ALL, lambda name: name in made.names())


def row_of(table: SpendTable, window_ns: int = MINUTE_NS, identity: int = IDENTITY) -> SpendRow:
    return table.row(identity, "v weight", 100, window_ns)


@given(st.data())
def test_the_sum_of_the_others_is_that_of_the_twin(data: st.DataObject) -> None:
    made = Processes("t-spend-twin")
    try:
        rows = {name: row_of(made.born(name), SECOND) for name in ("a", "b", "c")}
        for row in rows.values():
            row.silence(0)  # now all have their rows
        made.born("d")  # every row is found by who was there before it
        now_ns, naive = 1_000 * SECOND, NaiveSpend(rows["a"].slice_ns, SLICES)
        for _ in range(data.draw(st.integers(1, 12))):
            now_ns += data.draw(st.integers(0, SECOND // 3))
            who, units = data.draw(st.sampled_from("abc")), data.draw(st.integers(1, 500))
            number = rows[who].add(now_ns, units)
            if data.draw(st.booleans()):
                naive.sent.append((who, now_ns, units))
            else:
                rows[who].take_back(number, units)
            for name, row in rows.items():
                assert row.others(now_ns) == naive.used(now_ns, without=name)
                assert sum(units for _, units in row.others_ends(now_ns)) == row.others(now_ns)
                assert all(end_ns > now_ns for end_ns, _ in row.others_ends(now_ns))
    finally:
        for table in made.tables:
            table._segment.unlink()
            table._segment.close()


def test_units_leave_when_they_are_said_to(processes: Processes) -> None:
    a, b = row_of(processes.born("a")), row_of(processes.born("b"))
    now_ns = 5_000 * SECOND
    a.add(now_ns, 7)
    for table in processes.tables:
        table.refresh()
    ((end_ns, units),) = b.others_ends(now_ns)
    assert units == 7 and end_ns >= now_ns + MINUTE_NS
    assert (b.others(end_ns - 1), b.others(end_ns)) == (7, 0)


def test_rows_of_other_budgets_are_not_counted(processes: Processes) -> None:
    a, b = processes.born("a"), processes.born("b")
    other, mine = row_of(a, identity=1), row_of(b, identity=2)
    other.add(time.monotonic_ns(), 5)
    b.refresh()
    assert mine.others(time.monotonic_ns()) == 0
    assert row_of(a, identity=1) is other


def test_the_last_wish_of_a_process_counts_until_its_window_has_passed(processes: Processes) -> None:
    dead = processes.born("dead")
    now_ns = time.monotonic_ns()
    row_of(dead).add(now_ns, 40)
    dead.leave()
    heir = row_of(processes.born("heir"))
    assert heir.others(now_ns) == 40
    processes.tables[-1]._look(now_ns)
    assert len(processes.names()) == 2, "not before its window has passed"
    processes.tables[-1]._look(now_ns + 3 * MINUTE_NS)
    assert [name.split(".")[-3] for name in processes.names()] == ["heir"]


def test_a_silence_outlives_who_was_told_and_is_nobodys_to_remove(processes: Processes) -> None:
    asked = processes.born("asked")
    until_ns = time.monotonic_ns() + 3600 * SECOND
    row_of(asked).silence(until_ns)
    asked.leave()
    heir = processes.born("heir")
    assert row_of(heir).others_silent_until_ns() == until_ns
    heir._look(until_ns - 1)
    assert len(processes.names()) == 2
    heir._look(until_ns)
    assert len(processes.names()) == 1


def test_who_has_used_nothing_leaves_nothing(processes: Processes) -> None:
    table = processes.born("a")
    row_of(table)
    table.leave()
    assert processes.names() == []


def test_a_living_process_is_never_removed(processes: Processes) -> None:
    processes.born("a")
    other = processes.born("b")
    other._look(time.monotonic_ns() + 1_000 * MINUTE_NS)
    assert len(processes.names()) == 2


def test_what_an_instance_knows_is_summed_over_all_instances(processes: Processes) -> None:
    now_ns = time.monotonic_ns()
    row_of(processes.born("a")).add(now_ns, 3)
    row_of(processes.born("b")).add(now_ns, 4)
    elsewhere = SpendTable.create(processes.instance + "-2", "c")
    processes.tables.append(elsewhere)
    row_of(elsewhere).add(now_ns, 5)
    row_of(elsewhere, identity=99).add(now_ns, 1)
    (found,) = spent_of(processes.instance, now_ns)
    assert (found.label, found.limit, found.used, found.window_s) == ("v weight", 100, 12, 60.0)
    elsewhere._segment.unlink()


def test_a_budget_beyond_the_last_row_is_counted_alone(processes: Processes) -> None:
    table, other = processes.born("a"), processes.born("b")
    now_ns = time.monotonic_ns()
    for identity in range(1, BUDGET_CAPACITY + 2):
        row = row_of(table, identity=identity)
        row.take_back(row.add(now_ns, 5), 2)
        row.silence(0)
    other.refresh()
    seen = [row_of(other, identity=identity).others(now_ns) for identity in range(1, BUDGET_CAPACITY + 2)]
    assert seen == [3] * BUDGET_CAPACITY + [0]


def test_what_is_removed_is_forgotten(processes: Processes) -> None:
    dead = processes.born("dead")
    row_of(dead).add(time.monotonic_ns(), 5)
    heir = processes.born("heir")
    assert len(row_of(heir).others_rows) == 1
    dead.leave()
    heir._look(time.monotonic_ns() + 3 * MINUTE_NS)
    assert row_of(heir).others_rows == [] and heir._others.keys() & set(processes.names()) == set()
