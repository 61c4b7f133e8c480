"""Attacks on what stands around the execution core: the journal's file, the guard, the sweeps' questions."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.exchanges.gateio.order_session import GateTrading
from pipeline.exchanges.mexc.order_session import MexcTrading
from pipeline.exchanges.transport.backoff import GATEWAY_BASE_S, GATEWAY_CAP_S, KEY_RETRY_S, ReconnectPauses
from pipeline.execution.events import Command, CommandKind
from pipeline.execution.journal import RECORD_MAGIC, Journal, segment_path
from pipeline.execution.records import StopRecord
from pipeline.model.errors import (
    AuthRefused,
    GatewayRefused,
    JournalError,
    OutcomeUnknown,
    RateLimited,
    VenueUnavailable,
)
from shm.metrics import Metrics
from shm.pages import HaltPage
from tests.worlds.execution_starts import ready_world
from tests.worlds.execution_world import make_config
from workers.executor import performer as performer
from workers.executor.earlier_runs import keep_breakers
from workers.executor.session_watch import SessionWatch, first_connection
from workers.executor.venues import patiently
from workers.guard.keeper import HaltKeeper
from workers.halt_file import HaltState, KeptBreaker, read_halt, write_halt


def test_a_record_in_the_middle_that_lost_its_mark_is_damage_and_no_end(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, segment_bytes=64 * 1024)
    offsets = []
    for number in range(5):
        offsets.append(journal._offset)
        journal.append(StopRecord(f"r{number}", 0, 0), 1, 1)
    journal.close()
    path = segment_path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    assert int.from_bytes(content[offsets[2] : offsets[2] + 4], "little") == RECORD_MAGIC
    content[offsets[2] : offsets[2] + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(JournalError, match="middle"):
        Journal.open(tmp_path, segment_bytes=64 * 1024)


# --- the sweeps' questions ---


class Flaky:
    """Answers after so many faults."""

    def __init__(self, faults: list[Exception]) -> None:
        self.faults = faults
        self.asked = 0

    async def read(self) -> list[int]:
        self.asked += 1
        if self.faults:
            raise self.faults.pop(0)
        return [7]


def test_a_sweep_survives_a_503_and_does_not_knock_with_a_refused_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.executor.venues.READ_PAUSES_S", (0.0, 0.0, 0.0))
    passing = Flaky([OutcomeUnknown("503"), TimeoutError()])
    assert asyncio.run(patiently(passing.read)) == [7]
    lasting = Flaky([OutcomeUnknown("503")] * 9)
    with pytest.raises(OutcomeUnknown):
        asyncio.run(patiently(lasting.read))
    assert lasting.asked == 4
    refused = Flaky([AuthRefused("key")])
    with pytest.raises(AuthRefused):
        asyncio.run(patiently(refused.read))
    assert refused.asked == 1


# --- the first connection of a venue ---


class Part:
    """A pool or a session: counts how often it was opened and closed."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.open = 0

    async def start(self) -> None:
        if self.error is not None:
            raise self.error
        self.open += 1

    async def stop(self) -> None:
        self.open -= 1

    close = stop


async def _time() -> int:
    return 1


def test_a_connection_that_fails_half_way_leaves_nothing_open() -> None:
    """The private stream is refused again and again: order connections must not pile up behind it."""
    client = SimpleNamespace(know_clock=_time)
    for kind, first, second in ((MexcTrading, "_pool", "private"), (GateTrading, "entry", "private")):
        made: Any = object.__new__(kind)
        opened = Part()
        made.client = client
        setattr(made, first, opened)
        setattr(made, second, Part(VenueUnavailable("listen key: 503")))
        for _ in range(3):
            with pytest.raises(VenueUnavailable):
                asyncio.run(made.connect())
        assert opened.open == 0


@pytest.mark.parametrize(
    ("error", "level", "pause_s"),
    [
        (AuthRefused("bad key"), "critical", (KEY_RETRY_S, KEY_RETRY_S)),
        (GatewayRefused("403 page"), "warning", (GATEWAY_BASE_S / 2, GATEWAY_CAP_S)),
        (GatewayRefused("banned", retry_after_s=900), "warning", (900, 900)),
        (RateLimited("429", retry_after_s=77), "warning", (77, 77)),
        (VenueUnavailable("no route"), "warning", (0.1, 30)),
    ],
)
def test_no_refusal_of_a_first_connection_is_the_last(
    monkeypatch: pytest.MonkeyPatch, error: Exception, level: str, pause_s: tuple[float, float]
) -> None:
    """Neither a refused key nor a page of the edge is final: it is asked again, at the pace of who refused."""
    said: list[str] = []
    paused: list[float] = []
    refusals = [error] * 20

    async def connect() -> None:
        if refusals:
            raise refusals.pop()

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    monkeypatch.setattr("workers.executor.session_watch.asyncio.sleep", pause)
    trading: Any = SimpleNamespace(connect=connect, venue="a")
    asyncio.run(first_connection(trading, lambda level, _text: said.append(level), lambda: False))
    assert not refusals and len(paused) == 20
    assert all(pause_s[0] <= seconds <= pause_s[1] for seconds in paused)
    assert set(said) == {level}


def test_a_minute_of_pages_is_waited_for_with_pauses_that_fit_it() -> None:
    """Pauses grow with the outage and are bounded: after a minute of pages the next look comes within a tenth of it,
    and a day of them costs few requests."""
    pauses = ReconnectPauses(random.Random(1))
    page, waited_s, last_s, attempts = GatewayRefused("403"), 0.0, 0.0, 0
    while waited_s < 60:
        last_s = pauses.next_s(page)
        waited_s += last_s
    assert last_s <= 6
    while waited_s < 86_400:
        last_s = pauses.next_s(page)
        waited_s += last_s
        attempts += 1
    assert attempts < 600 and last_s <= GATEWAY_CAP_S
    pauses.reset()
    assert pauses.next_s(page) <= GATEWAY_BASE_S


def test_what_stays_down_is_said_with_the_reason_and_what_comes_back_too() -> None:
    said: list[tuple[str, str]] = []
    metrics = Metrics.private()
    venue: Any = SimpleNamespace(
        connected=False,
        gateway_answers=0,
        rate_limit_hits=0,
        why_down=lambda: "private: HTTP 403",
        take_odd_rows=lambda: (0, []),
    )
    watch = SessionWatch({"a": venue}, metrics, lambda level, text: said.append((level, text)))
    for second in range(29):
        watch.tick((1000 + second) * 10**9)
    assert said == []
    assert metrics.counters() == {}
    venue.gateway_answers, venue.rate_limit_hits = 7, 2
    for second in range(29, 400):
        watch.tick((1000 + second) * 10**9)
    assert [level for level, _ in said] == ["critical"] * 2 and "HTTP 403" in said[0][1]
    assert metrics.counters() == {"gateway_answers.a": 7, "rate_limit_hits.a": 2}
    venue.connected = True
    watch.tick(2000 * 10**9)
    assert said[-1][0] == "info"


# --- the guard ---


def guard(instance: str, folder: Path) -> Any:
    context = SimpleNamespace(
        state_dir=folder, say=lambda *_: None, config=make_config(), metrics=Metrics.private("guard"), restarts=0
    )
    return HaltKeeper(context, HaltPage.create(instance))  # type: ignore[arg-type]


def test_a_full_disk_does_not_stop_the_kill_switch(
    instance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = guard(instance, tmp_path)

    def full(folder: Path, state: HaltState, **_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workers.guard.keeper.write_halt", full)
    reply = made.handle({"op": "halt", "reason": "now"})
    assert made._page.latched and reply["halted"] and "No space" in reply["warning"]


def test_a_resume_that_cannot_be_written_is_none(
    instance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = guard(instance, tmp_path)
    made.handle({"op": "halt", "reason": "now"})

    def full(folder: Path, state: HaltState, **_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workers.guard.keeper.write_halt", full)
    reply = made.handle({"op": "resume", "reason": "again"})
    assert "error" in reply
    assert made._page.latched and made.state.halted and read_halt(tmp_path).halted


@pytest.mark.parametrize("venue", [99, -1, None, [], "x"])
def test_a_request_that_means_nothing_does_not_end_the_guard(instance: str, tmp_path: Path, venue: object) -> None:
    assert "error" in guard(instance, tmp_path).handle({"op": "block", "venue": venue})


def test_a_journal_that_begins_anew_keeps_the_breakers_of_the_one_before(tmp_path: Path) -> None:
    world = ready_world()
    write_halt(
        tmp_path,
        HaltState(
            halted=False, reason="", by="", wall_ns=0, breakers=(KeptBreaker(name="daily_loss", reason="5001 USD"),)
        ),
    )
    keep_breakers(tmp_path, world.core.context)
    world.run(50)
    assert world.core.ledger.breakers == {"daily_loss": "kept over a lost journal: 5001 USD"}


def test_a_hold_of_the_journal_before_waits_for_an_operator_whatever_ends_in_this_one(tmp_path: Path) -> None:
    world = ready_world()
    kept = (KeptBreaker(name="recovery_hold", reason="operation a1x1: no venue takes the repair"),)
    write_halt(tmp_path, HaltState(halted=False, reason="", by="", wall_ns=0, breakers=kept))
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    assert world.core.ledger.open_operations
    keep_breakers(tmp_path, world.core.context)
    world.run(5000)
    assert world.core.ledger.operations and not world.core.ledger.open_operations
    assert "a1x1" in world.core.ledger.breakers["recovery_hold"]
    world.feed(Command(CommandKind.REARM, "recovery_hold", "looked at"))
    assert not world.core.ledger.breakers
