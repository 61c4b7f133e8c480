"""Two connections with the same topics: first arrival counts, either may end without a hole in any proof."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pipeline.book.memory import BOOKS, WATCH
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.factory import feed_codec
from pipeline.exchanges.feed.connection import ConnectionRows, FeedConnection
from pipeline.exchanges.feed.kept_connection import KeptConnection, Twin
from pipeline.exchanges.feed.public_stream import Control, ControlKind
from pipeline.exchanges.feed.types import FeedSettings
from pipeline.model.clock import mono_ns
from shm.bookring import conn_open, init_feed
from shm.layout import BOOK, feed_segment_words
from shm.words import Words
from tests.worlds.exchange_world import TRADED
from tests.worlds.feed_bench import Bench, at_rest, beside_each_other, on, parts, push
from tests.worlds.venue_books_rig import CONN, Rig, spot_update, watch_from
from tests.worlds.waiting import until_async as until
from workers.feed import warm

TWO = FeedSettings(sockets=2)


@pytest.fixture(scope="module", autouse=True)
def machine_code() -> None:
    """Kernels are compiled (or loaded) before any loop runs: a blocked loop would look like a stalled venue."""
    warm(["mexc", "gateio"])


def troubles(it: Bench) -> tuple[int, ...]:
    """What the machine itself has cost: books are unproved then, or in doubt, whatever the connections do."""
    counters = it.feed.counters
    doubted = sum("unproved when its connection was changed" in text for text in it.said)
    return (counters.pauses, counters.late_episodes, counters.silences, counters.behind_ticker, doubted)


async def holes_while(it: Bench, one_ends: str) -> list[str]:
    """Symbols that are without proof at any look from before until well after a connection ends, and whether the other
    one has not taken over."""
    (kept,) = it.feed._kept
    assert kept.twin is not None
    await until(lambda: it.feed.twins == 1 and it.all_tradable(), "a twin that could take over")
    first, second = kept.live, kept.twin.connection
    assert first is not None and second is not None
    (first if one_ends == "first" else second).drop("cut by the test")
    looks, holes = 40, []

    def look() -> bool:
        nonlocal looks
        holes.extend(row.spec.symbol for row in it.rows if not it.tradable(row))
        looks -= 1
        return looks <= 0

    await until(look, "what becomes of it")
    return holes if kept.live is (second if one_ends == "first" else first) else [*holes, "not taken over"]


@pytest.mark.parametrize("one_ends", ["first", "second"])
@pytest.mark.parametrize("name", TRADED)
def test_either_connection_ends_without_a_hole_in_any_proof(name: str, one_ends: str) -> None:
    async def scenario(it: Bench) -> None:
        while True:
            before = troubles(it)
            holes = await holes_while(it, one_ends)
            if before == troubles(it):
                break
            await until(it.all_tradable, "proved books")
        assert holes == [], it.said
        await until(lambda: it.feed.twins == 1, "a twin again")
        assert it.feed.books.counters.dropped > 0, "what came twice"
        await it.equal()

    on(name, scenario, settings=TWO)


def test_books_of_a_twin_that_goes_before_it_could_take_over_are_fetched_for_the_first_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.exchanges.feed.kept_connection.OVERLAP_S", 1e9)

    async def scenario(it: Bench) -> None:
        await until(lambda: beside_each_other(it), "the second connection")
        await at_rest(it)
        _, twin, first, second = parts(it)
        it.box.fault(kind="refuse_connect", venue=it.name, target="public", count=0)
        push(it, it.rows[0], second)
        assert int(it.read(it.rows[0])[BOOK.conn]) == second.conn and not twin.stands
        second.drop("cut by the test")
        await until(lambda: twin.connection is None, "its end")
        await until(it.all_tradable, "every book over the first one")
        assert {int(it.read(row)[BOOK.conn]) for row in it.rows} == {first.conn}

    on("gateio_spot", scenario, settings=TWO)


def test_a_planned_end_of_both_leaves_no_hole() -> None:
    """The twin's time is over while the first one is being changed; one book's newest update came over the twin."""

    async def scenario(it: Bench) -> None:
        quiet = it.rows[0]
        it.box.fault(kind="halt_symbol", venue=it.name, symbol=quiet.spec.symbol)
        while True:
            await until(lambda: it.feed.twins == 1 and it.all_tradable(), "a twin that could take over")
            before, changes, holes = troubles(it), it.feed.counters.planned_changes, []
            _, _, first, second = parts(it)
            push(it, quiet, second)
            assert int(it.read(quiet)[BOOK.conn]) == second.conn
            first.renew_asked = True
            await until(lambda: len(it.feed._connections) == 3, "the next first one")
            second.renew_asked = True

            def look() -> bool:
                holes.extend(row.spec.symbol for row in it.rows if not it.tradable(row))  # noqa: B023
                ended = it.feed._connections.get(second.conn) is not second  # noqa: B023
                return it.feed.counters.planned_changes > changes and ended  # noqa: B023

            await until(look, "both changes")
            if before == troubles(it):
                break
        assert holes == [], it.said

    on("gateio_spot", scenario, settings=TWO)


def test_a_second_connection_without_data_is_replaced_though_its_books_are_those_of_rest() -> None:
    """The first one keeps them current: REST says nothing of the second one."""

    async def scenario(it: Bench) -> None:
        it.feed.public.ping_interval_s = 0.1
        it.feed.add(it.instrument(it.rows[0]))
        await until(lambda: it.feed.twins == 1 and it.tradable(it.rows[0]), "a twin that could take over")
        it.rows = it.rows[:1]
        await at_rest(it)
        _, twin, first, second = parts(it)

        def replaced() -> bool:
            push(it, it.rows[0], first)
            return not second.is_open

        def silent() -> bool:
            push(it, it.rows[0], first)
            return not twin.stands

        await until(silent, "what the silence says")
        assert twin.take(first) is None and second.is_open, second.end_reason
        second.stall_after_s = 1.5  # more than a standstill that is not taken for a pause
        await until(replaced, "its end")
        assert first.is_open and "no data" in second.end_reason

    on("gateio_spot", scenario, settings=FeedSettings(sockets=2, stall_after_s=60.0), add=False, wait=False)


@pytest.mark.parametrize("why", ["silent", "late", "neither", "closed", "both silent"])
@pytest.mark.parametrize("silent_one", [CONN, CONN + 1])
def test_one_that_has_had_nothing_for_half_a_second_gives_its_books_to_the_other(
    monkeypatch: pytest.MonkeyPatch, silent_one: int, why: str
) -> None:
    rig, times = Rig().live(), [0]
    conn_open(rig.words, 0, CONN + 1, 1, 0)
    data_ns = dict.fromkeys((CONN, CONN + 1), 0)
    rows = {}
    for conn in data_ns:
        watch_from(rig.books, conn, 0)
        has_had = partial(data_ns.__getitem__, conn)
        state = {"is_open": True, "on_time": True, "complete": True, "acked": {"t"}}
        rows[conn] = SimpleNamespace(conn=conn, last_data_ns=has_had, **state)
    kept, nothing = KeptConnection(), cast(Any, None)
    asks = {"books": rig.books, "connect": nothing, "room": nothing, "hand_over": nothing, "end": nothing}
    twin = Twin(kept, **asks, topics=nothing, say=nothing)
    kept.live, twin.connection = cast(FeedConnection, rows[CONN]), cast(FeedConnection, rows[CONN + 1])
    monkeypatch.setattr("pipeline.exchanges.feed.kept_connection.mono_ns", lambda: times[-1])
    rig.books.on_frame(spot_update(12, 12), 2000, silent_one)
    for time_ns in (0, 2_000_000_000, 2_050_000_000):
        times.append(time_ns)
        twin._look(twin.connection)
    other = 2 * CONN + 1 - silent_one
    data_ns[other] = 600_000_000 if why in ("silent", "both silent") else 400_000_000
    if why != "both silent":  # which has had nothing since the book's newest update, and proves nothing
        rig.books.mem[BOOKS.connections + other * WATCH.WORDS + WATCH.data_ns] = data_ns[other]
    rows[silent_one].on_time = why not in ("late", "closed")
    rows[other].is_open = why != "closed"
    twin._look(twin.connection)
    assert rig.books.conn_of(2) == (other if why == "silent" else silent_one)


@pytest.mark.parametrize("silent_one", ["first", "second"])
def test_quiet_books_of_a_connection_that_has_fallen_silent_are_the_other_ones(silent_one: str) -> None:
    """No update comes for them, and no frame of the silent one: only the other one can prove them."""

    async def scenario(it: Bench) -> None:
        await until(lambda: it.feed.twins == 1 and it.all_tradable(), "a twin that could take over")
        await at_rest(it)
        _, twin, first, second = parts(it)
        silent, other = (first, second) if silent_one == "first" else (second, first)
        quiet, busy = it.rows[:2]
        before, life = it.feed.books.counters.snapshots, BOOKS.connections + other.conn * WATCH.WORDS + WATCH.life_ns

        def flows() -> bool:
            push(it, busy, silent)
            push(it, busy, other)
            return mono_ns() - int(it.feed.books.mem[life]) > 600_000_000 and it.tradable(busy)

        def carried() -> bool:
            push(it, busy, other)
            return int(it.read(quiet)[BOOK.conn]) == other.conn and it.tradable(quiet)

        began = -1
        while twin._life(other) != began:  # the machine stood still, and so the other one was silent, too
            await until(flows, "both")
            began = twin._life(other)
            push(it, quiet, silent)
            assert int(it.read(quiet)[BOOK.conn]) == silent.conn
            await until(lambda: carried() or twin._life(other) != began, "the other one's")  # noqa: B023
        assert it.feed.books.counters.snapshots == before and silent.is_open

    on("gateio_spot", scenario, settings=FeedSettings(sockets=2, stall_after_s=60.0))


def test_without_symbols_there_is_no_connection() -> None:
    async def scenario(it: Bench) -> None:
        row, other = it.rows[:2]
        it.feed.add(it.instrument(row))
        await until(lambda: it.feed.twins == 1 and it.tradable(row), "a twin that could take over")
        it.feed.remove(row.spec.symbol)
        await until(lambda: not it.feed._connections, "the end of both")
        assert it.feed._kept[0].live is None and it.feed.counters.connects == 2
        it.feed.add(it.instrument(other))
        await until(lambda: it.feed.twins == 1 and it.tradable(other), "a twin that could take over")
        assert it.feed.counters.connects == 4

    on("gateio_spot", scenario, settings=TWO, add=False, wait=False)


def test_a_twin_that_takes_over_drops_the_topics_that_are_wanted_no_more() -> None:
    async def scenario(it: Bench) -> None:
        gone = it.rows[0].spec.symbol
        await until(lambda: it.feed.twins == 1, "a twin that could take over")
        kept, _, first, second = parts(it)
        it.feed.remove(gone)
        first.drop("cut by the test")
        await until(lambda: kept.live is second, "the heir")
        topics = {it.feed.public.book_topic(gone), it.feed.public.anchor_topic(gone)}
        await until(lambda: not topics & second.wanted.keys(), "the end of what it carried for nobody")
        assert kept.live is second and second.is_open and gone not in kept.symbols

    on("gateio_spot", scenario, settings=TWO)


def test_a_topic_that_is_refused_on_the_twin_alone_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.exchanges.feed.connection.REFUSED_RETRY_S", 0.3)

    async def scenario(it: Bench) -> None:
        await until(lambda: it.feed.twins == 1, "a twin that could take over")
        _, _, first, second = parts(it)
        symbol, topic = it.rows[0].spec.symbol, it.feed.public.book_topic(it.rows[0].spec.symbol)
        second.acked.discard(topic)
        second.on_control(Control(kind=ControlKind.REFUSED, topics=(topic,), reason="too many requests"))
        it.feed.books.invalidate(it.rows[0].book_index)
        assert it.feed.waiting_for() == [symbol], "the first one carries it"
        it.feed.snapshots.want(it.rows[0].book_index)
        await until(lambda: second.carries(topic) and not second.refused, "the topic on both")
        assert first.is_open and second.is_open

    on("gateio_spot", scenario, settings=TWO)


def test_symbols_that_come_and_go_are_carried_by_both() -> None:
    async def scenario(it: Bench) -> None:
        (kept,) = it.feed._kept
        assert kept.twin is not None
        await until(lambda: it.feed.twins == 1, "a twin that could take over")
        gone = it.rows[0]
        it.feed.remove(gone.spec.symbol)
        topic = it.feed.public.book_topic(gone.spec.symbol)
        both = (kept.live, kept.twin.connection)
        await until(lambda: not any(one is not None and topic in one.wanted for one in both), "its end on both")
        it.feed.add(it.instrument(gone))
        await until(lambda: all(one is not None and one.carries(topic) for one in both), "it on both again")
        await until(lambda: it.feed.twins == 1 and it.all_tradable(), "a twin that could take over again")

    on("gateio_spot", scenario, settings=TWO)


def test_a_second_connection_leaves_a_quarter_of_the_rows_to_first_ones() -> None:
    rows = ConnectionRows(4)
    taken = [rows.take(), rows.take()]
    assert rows.roomy
    rows.take()
    assert not rows.roomy
    rows.give_back(taken[0])
    assert rows.roomy


@pytest.mark.parametrize("filled", [False, True])
def test_two_that_bring_other_updates_become_one(monkeypatch: pytest.MonkeyPatch, filled: bool) -> None:
    """Only where what the one brings does not follow what the other has brought: a gap of the venue is one of both."""
    monkeypatch.setattr("pipeline.exchanges.feed.kept_connection.GAPS_MAX", 1)

    async def scenario(it: Bench) -> None:
        await until(lambda: it.feed.twins == 1, "a twin that could take over")
        kept, twin, first, second = parts(it)
        row = it.rows[0]
        for over in (first, second):
            assert twin.connection is second, "what a connection lacks beside itself says nothing about the other one"
            await at_rest(it)
            push(it, row, first)
            push(it, row, over, 2)
            assert not it.tradable(row)
            it.said.clear()
            if filled and over is second:
                push(it, row, first)
                assert it.tradable(row)
            else:
                await until(lambda: any("book lost" in text for text in it.said), "the end of the wait")
            assert it.box.server.market is not None
            it.box.server.market.start()
            await until(lambda: it.tradable(row), "the book again")
        await until(lambda: any("for 10 minutes" in text for text in it.said), "the end of the twin")
        await until(lambda: it.feed.twins == 0 and it.all_tradable(), "whole books over one connection")
        assert kept.twin is not None and kept.twin.connection is None and kept.live is not None

    on("gateio_spot", scenario, settings=TWO)


@pytest.mark.parametrize("alike", [True, False])
def test_gaps_of_the_first_that_the_twin_fills_end_it_only_where_they_are_no_losses(
    monkeypatch: pytest.MonkeyPatch, alike: bool
) -> None:
    """What the first one has lost goes on top in its turn. Where the two cut the same updates differently, what has
    shown the gap is never used."""
    monkeypatch.setattr("pipeline.exchanges.feed.kept_connection.GAPS_MAX", 2)
    monkeypatch.setattr("pipeline.exchanges.feed.kept_connection.GAP_NS", 0)

    async def scenario(it: Bench) -> None:
        await until(lambda: it.feed.twins == 1, "a twin that could take over")
        await at_rest(it)
        _, twin, first, second = parts(it)
        unlike = list[bool]()  # at each look: the twin's own task ends it, and forgets the gaps, soon afterwards
        looked = twin._looked_again
        monkeypatch.setattr(twin, "_looked_again", lambda *args: (looked(*args), unlike.append(twin._unlike())))
        for row in it.rows[:2]:
            push(it, row, second)
            push(it, row, first, 2 if alike else 3)
            push(it, row, second, u=int(it.read(row)[BOOK.update_id]) + (1 if alike else 4))
            assert it.tradable(row)
        await until(lambda: len(unlike) == 2, "what is made of it")
        assert unlike[-1] is not alike

    on("gateio_spot", scenario, settings=TWO)


@pytest.mark.parametrize("apart_ns", [0, 1_000_000_000], ids=["at_once", "a_second_apart"])
def test_gaps_of_a_dozen_books_at_once_are_one_and_such_a_second_apart_are_many(
    monkeypatch: pytest.MonkeyPatch, apart_ns: int
) -> None:
    """A gap of the venue on both is shown first by either of them; two that are unlike have one again and again."""
    symbols = [f"X{number}_USDT" for number in range(12)]
    words: Words = np.zeros(feed_segment_words(12), dtype=np.int64)
    init_feed(words, 0, 12)
    books = VenueBooks(codec=feed_codec("gateio", "futures"), words=words, feed_off=0, venue_id=1, capacity=12)
    lost: list[int] = []
    kept, now_ns = KeptConnection(), 0
    nothing: Any = None
    asks = {"books": books, "connect": nothing, "room": nothing, "hand_over": nothing, "end": nothing}
    twin = Twin(kept, **asks, topics=nothing, say=nothing)
    kept.live = twin._matched = cast(FeedConnection, object())
    twin.connection = cast(FeedConnection, SimpleNamespace(conn=1))
    monkeypatch.setattr("pipeline.exchanges.feed.kept_connection.mono_ns", lambda: now_ns)

    def frame(symbol: str, update_id: int, conn: int, **more: object) -> None:
        result = {"t": 1, "s": symbol, "U": update_id, "u": update_id, **more}
        message = {"channel": "futures.order_book_update", "event": "update", "result": result}
        books.on_frame(json.dumps(message).encode(), 1, conn)

    async def scenario() -> None:
        nonlocal now_ns
        for index, symbol in enumerate(symbols):
            books.add(book_index=index, instrument_id=index, symbol=symbol, price_exp=2, qty_exp=2)
            whole = {"full": True, "b": [{"p": "10", "s": 1}], "a": [{"p": "11", "s": 1}]}
            frame(symbol, 5, conn=index % 2, **whole)
        for index, symbol in enumerate(symbols):
            now_ns += apart_ns
            frame(symbol, 7, conn=1, b=[], a=[])
            assert twin.fills(index, 1, lost.append)
        assert twin._unlike() == bool(apart_ns)

    asyncio.run(scenario())


def test_a_gap_of_one_is_filled_by_the_other() -> None:
    async def scenario(it: Bench) -> None:
        await until(lambda: it.feed.twins == 1, "a twin that could take over")
        await at_rest(it)
        _, _, first, second = parts(it)
        row, before = it.rows[0], it.feed.books.counters
        push(it, row, second, 2)
        assert not it.tradable(row)
        push(it, row, first)
        assert it.tradable(row) and it.read(row)[BOOK.conn] == first.conn
        counters = it.feed.books.counters
        assert (counters.gaps, counters.filled) == (before.gaps + 1, before.filled + 1)
        assert counters.snapshots == before.snapshots and not any("book lost" in text for text in it.said)

    on("gateio_spot", scenario, settings=TWO)
