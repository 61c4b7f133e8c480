"""Raw HTTP/1.1: one end per request, nothing sent twice, broken connections never reused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.transport.http1 import Http1Connection, Http1Pool
from pipeline.model.errors import VenueUnavailable
from tests.worlds.waiting import WAIT_S
from tests.worlds.waiting import until_async as until

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
REQUEST = b"POST /order HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Word: Yes\r\n\r\n{}"


class Venue:
    """A loopback server: every request goes to ``handler``; requests are kept."""

    def __init__(self, handler: Handler) -> None:
        self.requests: list[bytes] = []
        self._handler = handler
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Venue:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
                await self._handler(head, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


class Ends:
    """What became of requests."""

    def __init__(self) -> None:
        self.replies: list[HttpReply] = []
        self.lost: list[str] = []
        self.event = asyncio.Event()

    def reply(self, reply: HttpReply) -> None:
        self.replies.append(reply)
        self.event.set()

    def gone(self, reason: str) -> None:
        self.lost.append(reason)
        self.event.set()

    async def wait(self) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.event.wait()
        self.event.clear()


async def answer(payload: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


def run(handler: Handler, scenario: Callable[[Venue, Http1Connection, Ends], Awaitable[None]]) -> None:
    async def body() -> None:
        async with Venue(handler) as venue:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(
                lambda: Http1Connection(lambda _c: None), "127.0.0.1", venue.port
            )
            await scenario(venue, connection, Ends())
            connection.close()

    asyncio.run(body())


def test_a_whole_reply_frees_the_connection_for_the_next_request() -> None:
    async def scenario(venue: Venue, connection: Http1Connection, ends: Ends) -> None:
        for _ in range(3):
            assert connection.idle and connection.send(REQUEST, ends.reply, ends.gone) > 0
            assert not connection.idle
            await ends.wait()
        assert [r.status for r in ends.replies] == [200] * 3 and ends.replies[0].headers["x-word"] == "Yes"
        assert ends.replies[0].body == b"{}" and ends.lost == [] and venue.requests == [REQUEST] * 3

    run(answer, scenario)


def test_a_busy_connection_refuses_and_writes_nothing() -> None:
    async def silent(payload: bytes, writer: asyncio.StreamWriter) -> None:
        return

    async def scenario(venue: Venue, connection: Http1Connection, ends: Ends) -> None:
        connection.send(REQUEST, ends.reply, ends.gone)
        with pytest.raises(VenueUnavailable, match="nothing was sent"):
            connection.send(REQUEST, ends.reply, ends.gone)
        connection.close("test over")
        await ends.wait()
        assert ends.lost == ["test over"] and len(venue.requests) <= 1

    run(silent, scenario)


@pytest.mark.parametrize(
    "fragment",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    ],
)
def test_a_connection_that_dies_under_a_request_is_lost_once_never_a_reply(fragment: bytes) -> None:
    async def cut(payload: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(fragment)
        await writer.drain()
        writer.close()

    async def scenario(venue: Venue, connection: Http1Connection, ends: Ends) -> None:
        connection.send(REQUEST, ends.reply, ends.gone)
        await ends.wait()
        assert len(ends.lost) == 1 and ends.replies == [] and not connection.open
        assert venue.requests == [REQUEST]  # never sent a second time

    run(cut, scenario)


@pytest.mark.parametrize(
    "bad",
    [
        b"this is not HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * (1024 * 1024 + 2),
    ],
)
def test_broken_compressed_or_endless_replies_end_the_connection(bad: bytes) -> None:
    async def reply(payload: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(bad)

    async def scenario(venue: Venue, connection: Http1Connection, ends: Ends) -> None:
        connection.send(REQUEST, ends.reply, ends.gone)
        await ends.wait()
        assert len(ends.lost) == 1 and ends.replies == []

    run(reply, scenario)


def test_no_answer_in_time_is_lost_and_a_late_answer_meets_nobody() -> None:
    given_up, answered = asyncio.Event(), asyncio.Event()

    async def late(payload: bytes, writer: asyncio.StreamWriter) -> None:
        await given_up.wait()
        writer.write(OK)
        answered.set()

    async def scenario(venue: Venue, connection: Http1Connection, ends: Ends) -> None:
        connection.send(REQUEST, ends.reply, ends.gone, timeout_s=0.01)
        await until(lambda: bool(venue.requests and ends.lost))
        given_up.set()
        await until(answered.is_set)
        await until(lambda: not connection.open)
        assert ends.lost == ["no answer in time"] and ends.replies == [] and not connection.idle

    run(late, scenario)


def test_bytes_without_a_request_end_the_connection() -> None:
    async def twice(payload: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + OK)

    async def scenario(venue: Venue, connection: Http1Connection, ends: Ends) -> None:
        connection.send(REQUEST, ends.reply, ends.gone)
        await until(lambda: not connection.open)
        assert len(ends.replies) == 1 and not connection.idle

    run(twice, scenario)


def test_an_interim_reply_is_not_the_answer() -> None:
    async def interim(payload: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" + OK)

    async def scenario(venue: Venue, connection: Http1Connection, ends: Ends) -> None:
        connection.send(REQUEST, ends.reply, ends.gone)
        await ends.wait()
        assert [reply.status for reply in ends.replies] == [200]

    run(interim, scenario)


def test_connection_close_is_obeyed_after_the_reply() -> None:
    async def last(payload: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")

    async def scenario(venue: Venue, connection: Http1Connection, ends: Ends) -> None:
        connection.send(REQUEST, ends.reply, ends.gone)
        await ends.wait()
        assert len(ends.replies) == 1 and not connection.idle

    run(last, scenario)


def pool(port: int, changes: list[bool], size: int = 3) -> Http1Pool:
    return Http1Pool(
        host="127.0.0.1",
        port=port,
        secure=False,
        size=size,
        keep_warm_request=REQUEST,
        on_change=changes.append,
        venue="v",
    )


def test_a_pool_gives_every_connection_once_and_refuses_when_all_are_busy() -> None:
    async def silent(payload: bytes, writer: asyncio.StreamWriter) -> None:
        return

    async def body() -> None:
        changes: list[bool] = []
        async with Venue(silent) as venue:
            connections = pool(venue.port, changes)
            await connections.start()
            await until(lambda: connections.idle_count == 3)
            ends = Ends()
            for _ in range(3):
                connections.take().send(REQUEST, ends.reply, ends.gone)
            with pytest.raises(VenueUnavailable, match="no idle order connection"):
                connections.take()
            await connections.close()
            assert len(ends.lost) == 3 and changes[0] is True

    asyncio.run(body())


def test_a_pool_replaces_connections_that_die_and_says_when_all_are_gone() -> None:
    async def cut(payload: bytes, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def body() -> None:
        changes: list[bool] = []
        async with Venue(cut) as venue:
            connections = pool(venue.port, changes, size=1)
            await connections.start()
            ends = Ends()
            connections.take().send(REQUEST, ends.reply, ends.gone)
            await ends.wait()
            await until(lambda: connections.up)
            assert changes == [True, False, True] and ends.replies == []
            await connections.close()

    asyncio.run(body())


def test_a_pool_whose_task_has_failed_closes_every_connection_all_the_same() -> None:
    async def fails() -> None:
        raise RuntimeError("a bug")

    async def body() -> None:
        async with Venue(answer) as venue:
            connections = pool(venue.port, [])
            await connections.start()
            await until(lambda: connections.idle_count == 3)
            connections._tasks.insert(0, asyncio.create_task(fails()))
            await until(lambda: connections._tasks[0].done())
            await connections.close()
            assert not connections.up and connections.idle_count == 0

    asyncio.run(body())


def test_a_pool_that_cannot_connect_says_so() -> None:
    async def body() -> None:
        async with Venue(answer) as venue:
            port = venue.port
        with pytest.raises(VenueUnavailable, match="cannot connect"):
            await pool(port, []).start()

    asyncio.run(body())
