"""Planned changes of connections that do not succeed: no book is left behind on the connection that goes."""

from __future__ import annotations

import json

import pytest

from pipeline.exchanges.feed.connection import FeedConnection
from pipeline.model.clock import mono_ns
from shm.layout import BOOK
from tests.worlds.feed_bench import Bench, on, swallowing
from tests.worlds.waiting import until_async as until
from workers.feed import warm


@pytest.fixture(scope="module", autouse=True)
def machine_code() -> None:
    """Kernels are compiled (or loaded) before any loop runs: a blocked loop would look like a stalled venue."""
    warm(["gateio"])


async def overlapping(it: Bench) -> tuple[FeedConnection, FeedConnection]:
    """The market at rest, and a second connection beside the first, as at its planned end."""
    assert it.box.server.market is not None
    it.box.server.market.stop()
    await until(lambda: all(it.equals_venue(row) for row in it.rows), "the market at rest")
    (old,) = it.feed._connections.values()
    old.renew_asked = True
    await until(lambda: it.feed.counters.connects == 2, "the next connection")
    return old, new_of(it, old)


def conns(it: Bench) -> set[int]:
    return {int(it.read(row)[BOOK.conn]) for row in it.rows}


def test_books_of_a_connection_that_is_lost_in_its_change_are_fetched_for_the_next_one() -> None:
    async def scenario(it: Bench) -> None:
        old, new = await overlapping(it)
        old.drop("cut")
        await until(lambda: it.feed.counters.disconnects == 1, "the loss being noticed")
        await until(lambda: it.feed.synced and conns(it) == {new.conn}, "every book over the next connection")
        assert any(f"connection {old.conn} lost: cut" in text for text in it.said)
        assert it.feed.connected and it.feed.counters.planned_changes == 0

    on("gateio_spot", scenario)


def test_books_that_the_next_connection_brought_go_back_when_it_fails() -> None:
    async def scenario(it: Bench) -> None:
        old, new = await overlapping(it)
        row = it.rows[0]
        following = int(it.read(row)[BOOK.update_id]) + 1
        result = {"t": it.box.server.venues[it.name].now_ms(), "s": row.spec.symbol, "U": following, "u": following}
        push = {"channel": "spot.order_book_update", "event": "update", "result": {**result, "b": [], "a": []}}
        it.feed.books.on_frame(json.dumps(push).encode(), mono_ns(), new.conn)
        assert conns(it) == {old.conn, new.conn} and it.tradable(row)
        new.drop("cut")
        await until(lambda: new.conn not in it.feed._connections, "the failed change")
        assert it.feed.connected and it.feed.counters.planned_changes == it.feed.counters.disconnects == 0
        assert conns(it) == {old.conn} and it.tradable(row)

    on("gateio_spot", scenario)


def test_a_book_that_only_the_failed_connection_carried_is_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its symbol was added while the next connection was being opened: the old one has not asked for it."""

    async def scenario(it: Bench) -> None:
        added = it.rows[-1]
        for row in it.rows[:-1]:
            it.feed.add(it.instrument(row))
        await until(lambda: all(it.tradable(row) for row in it.rows[:-1]), "the books")
        (old,) = it.feed._connections.values()
        connect = it.feed._connect

        async def connect_and_add() -> FeedConnection:
            new = await connect()
            it.feed.add(it.instrument(added))
            return new

        monkeypatch.setattr(it.feed, "_connect", connect_and_add)
        old.renew_asked = True
        topic = it.feed.public.book_topic(added.spec.symbol)
        await until(lambda: len(it.feed._connections) == 2 and new_of(it, old).carries(topic), "the symbol on it")
        new = new_of(it, old)
        result = {"t": it.box.server.venues[it.name].now_ms(), "s": added.spec.symbol, "full": True, "U": 1, "u": 1}
        push = {
            "channel": "spot.order_book_update",
            "event": "update",
            "result": {**result, "b": [["1", "1"]], "a": []},
        }
        it.feed.books.on_frame(json.dumps(push).encode(), mono_ns(), new.conn)
        assert it.feed.books.is_synced(added.book_index) and not old.carries(topic)
        it.feed._hand_over(new, old)
        assert not it.tradable(added), "its next update over the old one is not awaited by anybody"
        await until(lambda: old.carries(topic) and it.tradable(added), "the symbol on the old one")

    on("gateio_spot", scenario, add=False, wait=False)


def new_of(it: Bench, old: FeedConnection) -> FeedConnection:
    return next(one for one in it.feed._connections.values() if one is not old)


def test_a_change_that_the_venue_refuses_is_tried_again_after_a_while() -> None:
    async def scenario(it: Bench) -> None:
        (connection,) = it.feed._connections.values()
        it.box.fault(kind="refuse_connect", venue=it.name, target="public", count=0)
        connection.renew_asked = True
        await until(lambda: any("planned change put off" in text for text in it.said), "the refusal")
        assert not connection.renew_asked and connection.life_s > connection.age_s
        assert it.feed.connected and conns(it) == {connection.conn}

    on("gateio_spot", scenario)


def test_a_connection_that_is_lost_while_its_next_one_is_being_opened_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An address that answers nothing takes 20 s: until then nobody would have looked at the old one."""

    async def scenario(it: Bench) -> None:
        (old,) = it.feed._connections.values()
        async with swallowing(it, monkeypatch) as come:
            old.renew_asked = True
            await until(lambda: bool(come), "the next connection being opened")
            old.drop("cut")
            await until(lambda: it.feed.counters.disconnects == 1, "the loss being noticed")
            assert not any(it.tradable(row) for row in it.rows)
        await until(it.all_tradable, "every book over the next connection")
        assert old not in it.feed._connections.values()

    on("gateio_spot", scenario)
