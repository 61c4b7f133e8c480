"""A whole instance whose venues are all behind TLS, as in production: it trades by the fast path, and is killed."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline.execution.crash_points import VARIABLE
from tests.worlds.instance_rig import LIVELY, PATIENT, SHORT_WINDOWS, Rig, next_pid, running_pid, shown_rig
from tests.worlds.tls.certificates import certificates
from tests.worlds.tls.front import Front, front
from tests.worlds.waiting import WAIT_S, until

pytestmark = pytest.mark.e2e

#: Deaths by bytes on the socket of an order: of the one call that encrypts and sends both, and of nothing else.
INSIDE_THE_CALL = "launch_second:4;launch_first:2,life=2"


@contextmanager
def front_thread() -> Iterator[tuple[Front, asyncio.AbstractEventLoop]]:
    """A front in a thread of its own: the instance's processes connect while the test waits."""
    began: Future[tuple[Front, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def body() -> None:
        async with front() as made:
            ended = asyncio.Event()
            began.set_result((made, asyncio.get_running_loop(), ended))
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(body()))
    thread.start()
    made, loop, ended = began.result(WAIT_S)
    try:
        yield made, loop
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(WAIT_S)


@contextmanager
def fronted() -> Iterator[tuple[Rig, Front, asyncio.AbstractEventLoop]]:
    """A READY instance that knows its venues by https and wss alone."""
    environment = {"SSL_CERT_FILE": str(certificates().authority), VARIABLE: INSIDE_THE_CALL}
    rig = Rig(f"t-{secrets.token_hex(4)}", scenario=LIVELY, environment=environment, guard=PATIENT, **SHORT_WINDOWS)
    with front_thread() as (made, loop):
        markets: list[dict[str, Any]] = [
            market for exchange in rig.config["exchanges"].values() for market in exchange["markets"].values()
        ]
        for market in markets:
            for name in {"rest", "ws", "ws_private", "ws_api"} & market.keys():
                market[name] = asyncio.run_coroutine_threadsafe(made.url(market[name]), loop).result(WAIT_S)
        with shown_rig(rig):
            yield rig, made, loop


async def cut(made: Front) -> None:
    """Every connection at once, with whatever is in flight."""
    made.cut()


def enters_by_it_again(rig: Rig) -> None:
    """Waits for entries of the fast path from now on, and for fills of what left."""
    before = {name: rig.counter(name) for name in ("fast_path", "fills")}
    until(lambda: all(rig.counter(name) > count + 1 for name, count in before.items()), "entries that are filled")


def test_entries_leave_by_the_fast_path_and_no_rule_is_broken_by_kills() -> None:
    with fronted() as (rig, made, loop):
        until(lambda: rig.watch.deaths["executor"] >= 2, "deaths inside the one call, of two lives")
        until(rig.all_ready, "the third executor")
        enters_by_it_again(rig)
        before = running_pid(rig, "executor")
        rig.kill_in_flight("mexc_spot")
        next_pid(rig, "executor", before, ready=True)
        enters_by_it_again(rig)
        asyncio.run_coroutine_threadsafe(cut(made), loop).result(WAIT_S)
        enters_by_it_again(rig)
        rig.end()
        assert rig.judge() == []
        ours, theirs = rig.money()
        assert ours == theirs
