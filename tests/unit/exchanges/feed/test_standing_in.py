"""The first of two connections has ended: the twin carries the books as soon as it can, or the next first one does."""

from __future__ import annotations

import pytest

from pipeline.exchanges.feed.public_stream import Control, ControlKind
from pipeline.exchanges.feed.types import FeedSettings
from shm.layout import BOOK
from tests.worlds.feed_bench import Bench, at_rest, beside_each_other, on, parts, push, swallowing
from tests.worlds.waiting import until_async as until
from workers.feed import warm

TWO = FeedSettings(sockets=2)


@pytest.fixture(scope="module", autouse=True)
def machine_code() -> None:
    """Kernels are compiled (or loaded) before any loop runs: a blocked loop would look like a stalled venue."""
    warm(["gateio"])


def test_a_twin_that_could_not_take_over_at_the_end_of_the_first_one_does_so_as_soon_as_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The venue refuses every new connection: the one that stands is all there is."""
    monkeypatch.setattr("pipeline.exchanges.feed.kept_connection.OVERLAP_S", 1e9)

    async def scenario(it: Bench) -> None:
        await until(lambda: beside_each_other(it), "the second connection")
        kept, twin, first, second = parts(it)
        it.box.fault(kind="refuse_connect", venue=it.name, target="public", count=0)
        assert not twin.stands
        first.drop("cut by the test")
        await until(lambda: kept.live is second and it.all_tradable(), "every book over the second one")
        assert it.feed.connected and twin.connection is None and it.feed.counters.connects == 2
        assert {int(it.read(row)[BOOK.conn]) for row in it.rows} == {second.conn}
        await it.equal()

    on("gateio_spot", scenario, settings=TWO)


def test_a_twin_that_can_stand_in_is_not_waiting_for_a_connection_that_is_being_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.exchanges.feed.kept_connection.OVERLAP_S", 1e9)

    async def scenario(it: Bench) -> None:
        await until(lambda: beside_each_other(it), "the second connection")
        await at_rest(it)
        kept, _, first, second = parts(it)
        async with swallowing(it, monkeypatch) as come:
            first.drop("cut by the test")
            await until(lambda: bool(come), "the next first one being opened")
            assert kept.live is None, "nothing has come over the twin since"
            push(it, it.rows[0], second)
            await until(lambda: kept.live is second and it.all_tradable(), "every book over the twin")

    on("gateio_spot", scenario, settings=TWO)


@pytest.mark.parametrize("waits_s", [1e9, 0.0])
def test_a_twin_that_lacks_a_topic_stands_in_only_where_no_other_one_is_there_soon(
    monkeypatch: pytest.MonkeyPatch, waits_s: float
) -> None:
    monkeypatch.setattr("pipeline.exchanges.feed.kept_connection.LACKING_S", waits_s)

    async def scenario(it: Bench) -> None:
        await until(lambda: it.feed.twins == 1, "a twin that could take over")
        kept, _, first, second = parts(it)
        topic = it.feed.public.book_topic(it.rows[0].spec.symbol)
        second.acked.discard(topic)
        second.on_control(Control(kind=ControlKind.REFUSED, topics=(topic,), reason="too many requests"))
        if not waits_s:
            it.box.fault(kind="refuse_connect", venue=it.name, target="public", count=0)
        first.drop("cut by the test")
        await until(lambda: kept.live not in (first, None), "the next first one")
        assert (kept.live is second) == (not waits_s)
        if waits_s:
            await until(it.all_tradable, "every book")

    on("gateio_spot", scenario, settings=TWO)


def test_a_book_that_a_connection_carries_is_not_replaced_by_that_of_rest() -> None:
    async def scenario(it: Bench) -> None:
        for _ in range(10):
            await it.feed.snapshots.show(it.feed.instruments.values(), lambda: True)
        assert it.feed.counters.rest_books == 0 and it.all_tradable()

    on("gateio_spot", scenario)


def test_a_book_of_rest_on_which_updates_of_the_twin_go_is_proved_by_the_twin() -> None:
    """The first one is down, and the twin cannot stand in for it yet: it carries the book all the same."""

    async def scenario(it: Bench) -> None:
        await until(lambda: it.feed.twins == 1 and it.all_tradable(), "a twin")
        await at_rest(it)
        _, _, _, second = parts(it)
        for row, waits in zip(it.rows, (True, False), strict=False):
            it.feed.books.invalidate(row.book_index)
            if waits:
                push(it, row, second)
            await it.feed.snapshots.show([it.feed.instruments[row.spec.symbol]], lambda: True)
            assert it.tradable(row) == it.feed.snapshots.whole(it.feed.instruments[row.spec.symbol]) == waits
            assert (int(it.read(row)[BOOK.conn]) == second.conn) == waits
        assert it.feed.counters.rest_books == 1

    on("gateio_spot", scenario, settings=TWO)
