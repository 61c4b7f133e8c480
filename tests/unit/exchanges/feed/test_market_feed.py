"""The public side of a venue against the simulated exchanges: books equal to the venue's, through its faults."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from pipeline.book.memory import BOOK_ROW
from pipeline.book.ticker_trust import LOSSES_MAX
from pipeline.exchanges.feed import snapshots
from pipeline.exchanges.feed.snapshots import QUIET_NS
from pipeline.exchanges.feed.topics import topics_of
from pipeline.exchanges.feed.types import FeedInstrument, FeedSettings
from pipeline.exchanges.transport.backoff import ReconnectPauses
from pipeline.exchanges.transport.refusals import RETRY_AFTER_DEFAULT_S
from pipeline.exchanges.transport.websocket import FrameSink
from pipeline.model.clock import mono_ns
from pipeline.model.errors import RateLimited, VenueError
from pipeline.model.instruments import InstrumentRow
from shm.bookring import proof_mono_ns
from shm.layout import BOOK, FLAG_HALTED, FLAG_UNPROVED
from tests.worlds.exchange_world import TRADED
from tests.worlds.feed_bench import Bench, bench, on
from tests.worlds.waiting import until_async as until
from workers.feed import warm


@pytest.fixture(scope="module", autouse=True)
def machine_code() -> None:
    """Kernels are compiled (or loaded) before any loop runs: a blocked loop would look like a stalled venue."""
    warm(["mexc", "gateio"])


@pytest.mark.parametrize("name", TRADED)
def test_every_book_equals_the_venues_own(name: str) -> None:
    async def scenario(it: Bench) -> None:
        await it.equal()
        assert it.feed.counters.disconnects == 0 and it.feed.counters.bad_frames == 0

    on(name, scenario)


@pytest.mark.parametrize("name", TRADED)
def test_a_lost_update_resyncs_that_book_and_leaves_the_others(name: str) -> None:
    async def scenario(it: Bench) -> None:
        symbol = it.rows[0].spec.symbol
        before = it.feed.books.counters.snapshots
        await it.moved(it.rows[0])
        it.box.fault(kind="drop_delta", venue=name, target="depth", symbol=symbol)
        await until(lambda: it.feed.books.counters.gaps > 0, "the gap")
        await until(it.all_tradable, "whole books again")
        await it.equal()
        counters = it.feed.books.counters
        assert counters.gaps == counters.resyncs == 1 and counters.snapshots <= before + 4
        assert [text for text in it.said if "book lost" in text] == [f"{name} {symbol}: book lost: gap"]

    on(name, scenario)


@pytest.mark.parametrize("name", TRADED)
def test_duplicates_change_nothing_and_swapped_updates_are_a_gap(name: str) -> None:
    async def scenario(it: Bench) -> None:
        it.box.fault(kind="duplicate_delta", venue=name, target="depth", count=5)
        await until(lambda: it.feed.books.counters.dropped >= 5, "duplicates")
        assert it.feed.books.counters.gaps == 0
        await it.moved(it.rows[0])
        it.box.fault(kind="reorder_delta", venue=name, target="depth", symbol=it.rows[0].spec.symbol)
        await until(lambda: it.feed.books.counters.gaps > 0, "the gap of a swapped update")
        await until(it.all_tradable, "whole books again")
        await it.equal()

    on(name, scenario)


@pytest.mark.parametrize("name", TRADED)
def test_a_cut_connection_unproves_at_once_and_heals(name: str) -> None:
    async def scenario(it: Bench) -> None:
        it.box.fault(kind="disconnect", venue=name, target="public")
        await until(lambda: it.feed.counters.disconnects == 1, "the cut")
        assert not any(it.tradable(row) for row in it.rows)
        await until(it.all_tradable, "whole books again")
        await it.equal()
        assert it.feed.counters.connects == 2
        assert not any("book lost" in text for text in it.said), "its connection's line says it for all of its books"

    on(name, scenario)


@pytest.mark.parametrize("name", ["mexc_spot", "gateio_futures"])
def test_a_silent_stall_with_an_open_socket_ends_in_a_new_connection(name: str) -> None:
    async def scenario(it: Bench) -> None:
        it.box.fault(kind="stall", venue=name, target="public", duration_ms=1500, count=0)
        await until(lambda: it.feed.counters.disconnects > 0, "the stall being noticed")
        assert any("no frame" in text or "no data" in text for text in it.said)
        await until(it.all_tradable, "whole books again")
        await it.equal()

    on(name, scenario, settings=FeedSettings(stall_after_s=0.4))


@pytest.mark.parametrize("sockets", [1, 2])
def test_a_quiet_pair_alone_on_a_connection_stays_subscribed(sockets: int) -> None:
    """Pings are answered and nothing happens: REST shows the same book, so that the subscription is not dead."""

    async def scenario(it: Bench) -> None:
        it.feed.public.ping_interval_s = 0.1
        it.feed.add(it.instrument(it.rows[0]))
        await until(lambda: it.tradable(it.rows[0]) and it.feed.twins == sockets - 1, "the book")
        assert it.box.server.market is not None
        it.box.server.market.stop()
        await until(
            lambda: it.feed.counters.quiet >= 2 * sockets or it.feed.counters.disconnects > 0, "the quiet being noticed"
        )
        assert it.feed.counters.disconnects == 0 and it.feed.books.is_synced(it.rows[0].book_index), it.said
        it.box.server.market.start()
        await it.moved(it.rows[0])
        assert it.feed.counters.connects == sockets

    on("gateio_spot", scenario, settings=FeedSettings(sockets=sockets, stall_after_s=1.5), add=False, wait=False)


def test_a_book_that_is_behind_its_ticker_is_lost_and_fetched_again() -> None:
    """The update of a change is lost, its ticker and those of others come: no later update would tell of the hole."""

    async def scenario(it: Bench) -> None:
        row, other, book = *it.rows[:2], it.feed.books
        assert it.box.server.market is not None
        it.box.server.market.stop()
        await until(lambda: it.equals_venue(row), "the market at rest")

        def ticker(of: InstrumentRow, steps: int) -> bool:
            result = {"t": it.box.server.venues[it.name].now_ms(), "u": int(it.read(of)[BOOK.update_id]) + steps}
            result |= {"s": of.spec.symbol, "b": "1", "B": "1", "a": "2", "A": "1"}
            push = {"time": 1, "channel": "spot.book_ticker", "event": "update", "result": result}
            book.on_frame(json.dumps(push).encode(), mono_ns(), int(it.read(of)[BOOK.conn]))
            return it.feed.counters.behind_ticker == 1

        assert not ticker(row, 5) and book.is_synced(row.book_index)
        await until(lambda: ticker(other, -1), "the loss being noticed")
        await until(lambda: book.is_synced(row.book_index) and book.counters.resyncs == 1, "the book again")

    on("gateio_spot", scenario)


def test_a_book_that_is_compared_with_its_tickers_no_more_is_told_once() -> None:
    async def scenario(it: Bench) -> None:
        row, book = it.rows[0], it.feed.books
        await it.moved(row)
        for _ in range(LOSSES_MAX):
            book.ticker_trust.lost(book.mem, book._slot_of_index[row.book_index])
        await until(lambda: it.feed.counters.uncompared == 1, "the warning")
        assert len([text for text in it.said if f"{row.spec.symbol}: never agrees with its ticker" in text]) == 1
        book.ticker_trust.forget(book.mem, book._slot_of_index[row.book_index])
        await until(lambda: it.feed.counters.uncompared == 0, "the count of now")

    on("mexc_spot", scenario)


def test_a_book_that_never_stands_for_long_is_asked_for_less_and_less_often() -> None:
    async def scenario(it: Bench) -> None:
        row, book, snapshots = it.rows[0], it.feed.books, it.feed.snapshots
        for lost in range(1, 4):
            book.invalidate(row.book_index)
            snapshots.want(row.book_index)
            await until(lambda lost=lost: book.counters.resyncs >= lost, "the book again")  # type: ignore[misc]
        pauses = snapshots._backoff[row.book_index]
        assert pauses._ceiling_s >= min(pauses._cap_s, pauses._base_s * pauses._factor**3)

    on("mexc_spot", scenario)


def test_a_book_near_its_horizon_takes_a_deeper_snapshot_while_it_stands() -> None:
    async def scenario(it: Bench) -> None:
        row, book = it.rows[0], it.feed.books
        await it.moved(it.rows[0])
        at = book._row(book._slot_of_index[row.book_index])
        best = book.top(row.book_index).bid
        book.mem[at + BOOK_ROW.horizon], book.mem[at + BOOK_ROW.reach] = best - 10, 1000  # as of a cut snapshot
        await until(lambda: it.feed.counters.deepened == 1, "the snapshot")
        assert book.counters.gaps == book.counters.resyncs == 0 and book.near_horizon() == []
        await until(lambda: it.tradable(row), "that it stands")
        await it.equal()

    on("mexc_spot", scenario)


@pytest.mark.parametrize("name", TRADED)
def test_the_planned_change_of_connections_leaves_no_hole_in_any_proof(name: str) -> None:
    async def scenario(it: Bench) -> None:
        counters = it.feed.counters

        async def change() -> list[str]:
            """Symbols without proof at any time from now to forty looks behind the next change."""
            first = {int(it.read(row)[BOOK.conn]) for row in it.rows}
            wanted, looks, holes = counters.planned_changes + 1, 40, []

            def look() -> bool:
                nonlocal looks
                holes.extend(row.spec.symbol for row in it.rows if not it.tradable(row))
                looks -= counters.planned_changes >= wanted
                return looks <= 0

            await until(look, "the change")
            assert first.isdisjoint({int(it.read(row)[BOOK.conn]) for row in it.rows})
            return holes

        while True:
            before = (counters.pauses, counters.late_episodes, counters.silences, counters.behind_ticker)
            holes = await change()
            if before == (counters.pauses, counters.late_episodes, counters.silences, counters.behind_ticker):
                break  # else the machine kept this process waiting, and books without proof were right
            await until(it.all_tradable, "proved books")
        assert holes == [] and counters.disconnects == 0 and it.feed.books.counters.gaps == counters.behind_ticker
        await it.equal()

    on(name, scenario, settings=FeedSettings(life_s=1.0))


@pytest.mark.parametrize("name", TRADED)
def test_a_stream_that_is_late_from_its_first_frame_proves_nothing(name: str) -> None:
    async def scenario(it: Bench) -> None:
        it.box.fault(kind="delay_stream", venue=name, target="public", delay_ms=2000, count=0)
        it.box.fault(kind="disconnect", venue=name, target="public")
        await until(lambda: it.feed.counters.disconnects == 1, "the cut")
        applied = it.feed.books.counters.applied
        await until(lambda: it.feed.books.counters.applied > applied + 20, "late frames")
        assert not any(it.tradable(row) for row in it.rows)

    on(name, scenario)


def test_a_stream_that_becomes_late_is_unproved_until_it_has_caught_up() -> None:
    async def scenario(it: Bench) -> None:
        it.box.fault(kind="delay_stream", venue="mexc_spot", target="public", delay_ms=1500, count=0, duration_ms=2500)
        await until(lambda: it.feed.counters.late_episodes > 0, "lateness being noticed")
        assert not any(it.tradable(row) for row in it.rows)
        await until(it.all_tradable, "frames of now")

    on("mexc_spot", scenario)


@pytest.mark.parametrize("moved_ms", [1200, -1200])
def test_a_venues_clock_that_moves_closes_it_at_once_for_a_while(
    monkeypatch: pytest.MonkeyPatch, moved_ms: int
) -> None:
    monkeypatch.setattr("pipeline.exchanges.feed.connection_proofs.MOVED_NS", 1_000_000_000)

    async def scenario(it: Bench) -> None:
        it.box.fault(kind="clock_skew", venue=it.name, delay_ms=moved_ms)
        await until(lambda: not any(it.tradable(row) for row in it.rows), "no book")
        await until(lambda: any("its clock has moved by" in text for text in it.said), "its clock")
        await until(it.all_tradable, "every book again")
        assert it.feed.counters.disconnects == 0, "the same connection"

    on("gateio_spot", scenario)


def test_a_process_that_stood_still_proves_nothing_with_what_its_sockets_held() -> None:
    async def scenario(it: Bench) -> None:
        proved: list[bool] = []

        def watched(frame: FrameSink) -> FrameSink:
            def take(payload: memoryview, is_text: bool, recv_mono_ns: int) -> None:
                frame(payload, is_text, recv_mono_ns)
                proved.append(any(it.tradable(row) for row in it.rows))

            return take

        await asyncio.sleep(0)
        for connection in it.feed._connections.values():
            assert connection._link is not None
            connection._link._on_frame = watched(connection._link._on_frame)
        it.feed.proofs.learn(it.box.server.venues["mexc_spot"].now_ms() + 5000, mono_ns(), mono_ns())

        def stood_still() -> bool:
            """As after five stopped seconds; again where the feed's own timer came between that and a frame."""
            if not it.feed.counters.pauses:
                it.feed.proofs.ticked(mono_ns() - 5_000_000_000)
            return it.feed.counters.pauses >= 1 and len(proved) > 3

        await until(stood_still, "frames after a pause")
        assert not any(proved)

    on("mexc_spot", scenario)


@pytest.mark.parametrize("name", TRADED)
def test_refused_handshakes_are_waited_out_while_rest_shows_unproved_books(name: str) -> None:
    async def scenario(it: Bench) -> None:
        it.box.fault(kind="refuse_connect", venue=name, target="public", status=503, count=0)
        it.box.fault(kind="disconnect", venue=name, target="public")
        await until(lambda: it.feed.counters.rest_books >= len(it.rows), "books by REST")
        for row in it.rows:
            record = it.read(row)
            assert record[BOOK.flags] & FLAG_UNPROVED and proof_mono_ns(it.words, 0, record) == 0
            assert record[BOOK.bid_price_fp] > 0 and record[BOOK.ask_price_fp] > 0
        it.box.server.faults.clear()
        await until(it.all_tradable, "whole, proved books after the outage")
        await it.equal()

    on(name, scenario)


def test_pages_to_public_upgrades_are_outlasted() -> None:
    async def scenario(it: Bench) -> None:
        it.box.fault(kind="gateway_page", venue="gateio_spot", target="public", count=4)
        it.box.fault(kind="disconnect", venue="gateio_spot", target="public")
        await until(lambda: sum("without the venue's own code" in text for text in it.said) == 4, "four pages")
        await until(it.all_tradable, "whole, proved books after them")
        await it.equal()
        assert it.feed.counters.disconnects == 1

    on("gateio_spot", scenario)


def test_a_429_handshake_is_not_knocked_on_again_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses_s: list[float] = []

    def noted(pauses: ReconnectPauses, error: VenueError | None = None) -> float:
        pause_s = next_s(pauses, error)
        if isinstance(error, RateLimited):
            pauses_s.append(pause_s)
        return pause_s

    next_s = ReconnectPauses.next_s
    monkeypatch.setattr(ReconnectPauses, "next_s", noted)

    async def scenario(it: Bench) -> None:
        it.box.fault(kind="refuse_connect", venue="gateio_spot", target="public", status=429, count=0)
        it.box.fault(kind="disconnect", venue="gateio_spot", target="public")
        await until(lambda: bool(pauses_s), "the pause after the refusal")
        assert min(pauses_s) >= RETRY_AFTER_DEFAULT_S

    on("gateio_spot", scenario)


@pytest.mark.parametrize("name", TRADED)
def test_an_unknown_symbol_is_refused_and_costs_the_others_nothing(name: str) -> None:
    async def scenario(it: Bench) -> None:
        row = it.rows[0]
        symbol = "NOSUCHUSDT" if name == "mexc_spot" else "NOSUCH_USDT"
        it.feed.add(
            FeedInstrument(
                symbol=symbol,
                book_index=20,
                instrument_id=20,
                price_exp=row.price_exp,
                qty_exp=row.qty_exp,
                row_epoch=1,
            )
        )
        await until(lambda: it.feed.counters.refused_topics > 0, "the refusal")
        assert any(symbol in text for text in it.said)
        await until(it.all_tradable, "whole books of the others")
        await it.equal()

    on(name, scenario)


@pytest.mark.parametrize("name", TRADED)
def test_symbols_come_and_go_while_running(name: str) -> None:
    async def scenario(it: Bench) -> None:
        rows = it.rows
        it.rows = []
        for row in rows[:2]:
            it.feed.add(it.instrument(row))
        it.rows = rows[:2]
        await until(it.all_tradable, "the first two books")
        it.feed.add(it.instrument(rows[2]))
        it.rows = rows[:3]
        await until(it.all_tradable, "the third book")
        it.feed.remove(rows[0].spec.symbol)
        assert not it.tradable(rows[0])
        it.rows = rows[1:3]
        await it.equal()
        it.feed.add(it.instrument(rows[0]))
        it.rows = rows[:3]
        await until(it.all_tradable, "the first book again")
        assert it.feed.counters.connects == 1

    on(name, scenario, add=False, wait=False)


@pytest.mark.parametrize("name", TRADED)
def test_connections_that_subscribe_at_once_read_their_own_answers(name: str) -> None:
    async def scenario(it: Bench) -> None:
        it.feed.public.topics_per_connection_max = 2  # one symbol each
        it.rows = it.rows[:3]
        for row in it.rows:
            it.feed.add(it.instrument(row))
        await until(it.all_tradable, "whole, proved books")
        connections = list(it.feed._connections.values())
        assert len(connections) == len(it.rows) > 1
        assert all(asked == 1 for each in connections for _, asked in each._asked.values()), "nothing was asked twice"

    on(name, scenario, add=False, wait=False)


def test_thirty_topics_are_the_limit_of_a_mexc_connection() -> None:
    async def body() -> None:
        async with bench("mexc_spot", wait=False) as it:
            row = it.rows[0]
            for number in range(60):
                it.feed.add(
                    FeedInstrument(
                        symbol=f"X{number}USDT",
                        book_index=31,
                        instrument_id=100 + number,
                        price_exp=row.price_exp,
                        qty_exp=row.qty_exp,
                        row_epoch=1,
                    )
                )
                it.feed.books.remove(f"X{number}USDT")  # only the spreading over connections is looked at
            sizes = [len(topics_of(it.feed.public, kept.symbols, it.feed.instruments)) for kept in it.feed._kept]
            assert len(sizes) == 3 and max(sizes) == 30 and sum(sizes) == len(it.rows) + 60 + 3

    asyncio.run(body())


def test_a_changed_row_starts_the_book_anew_under_its_new_numbers() -> None:
    async def scenario(it: Bench) -> None:
        row = it.rows[0]
        old = it.instrument(row)
        it.feed.replace(msgspec.structs.replace(old, price_exp=old.price_exp + 1, row_epoch=2))
        await until(it.all_tradable, "the book under its new exponent")
        assert it.read(row)[BOOK.bid_price_fp] > 10 ** (row.price_exp + 1)
        it.feed.set_halted(old.symbol, True)
        assert it.read(row)[BOOK.flags] & FLAG_HALTED
        it.feed.set_halted(old.symbol, False)
        await until(it.all_tradable, "the book after the halt")

    on("gateio_spot", scenario)


def test_a_price_of_digits_that_no_row_holds_costs_its_book_a_minute_and_not_the_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(it: Bench) -> None:
        it.box.fault(kind="bad_number", venue=it.name, target="public", text="1.23456789012345678901", count=9)
        await until(lambda: bool(it.feed.snapshots.wanted_digits), "the price")
        await until(it.all_tradable, "the book, without a finer row")
        halted = [text for text in it.said if "halted, a price has" in text]
        assert halted and len(halted) == len(set(halted))

    monkeypatch.setattr(snapshots, "TOO_FINE_AGAIN_S", 0.1)
    on("gateio_spot", scenario)


def test_bad_frames_cost_their_books_and_too_many_the_connection() -> None:
    async def scenario(it: Bench) -> None:
        it.box.fault(kind="corrupt", venue="gateio_spot", target="public", count=25)
        await until(lambda: it.feed.counters.disconnects > 0, "the error budget being spent")
        assert any("bad frames" in text for text in it.said)
        await until(it.all_tradable, "whole books again")
        await it.equal()

    on("gateio_spot", scenario)


def test_a_quiet_book_whose_updates_have_stopped_is_found_by_rest() -> None:
    async def scenario(it: Bench) -> None:
        assert it.box.server.market is not None
        row = next(row for row in it.rows if row.spec.symbol == "SOLUSDT")  # not the anchor's
        snapshots = it.feed.snapshots
        it.box.server.market.stop()
        await until(lambda: all(it.equals_venue(row) for row in it.rows), "the market at rest")
        for _ in it.rows:
            await snapshots.compare_quietest(mono_ns())
        assert not snapshots._compared_ns, "not quiet for long"
        later_ns = mono_ns() + QUIET_NS + 10**9
        for _ in range(2 * len(it.rows)):
            await snapshots.compare_quietest(later_ns)
        assert set(snapshots._compared_ns) == {row.book_index for row in it.rows} and it.all_tradable()
        symbol, held = row.spec.symbol, int(it.read(row)[BOOK.update_id])
        it.box.fault(kind="drop_delta", venue=it.name, target="depth", symbol=symbol)
        it.box.fault(kind="manual_order", venue=it.name, symbol=symbol, amount="0.01")
        await until(lambda: it.box.server.venues[it.name].depth(symbol, 1)[0] > held, "an update that never comes")
        while not snapshots._differed:
            await snapshots.compare_quietest(later_ns + QUIET_NS)
        assert it.tradable(row), "its update may be on its way"
        await snapshots.compare_quietest(later_ns + QUIET_NS)
        assert not it.tradable(row) and any("venue shows another one" in text for text in it.said)
        await until(it.all_tradable, "the book again")

    on("mexc_spot", scenario)
