"""A closing that finds nothing open, and what a guard that died in the same takeover has done before it."""

from __future__ import annotations

import gc
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pipeline.execution.journal import Journal
from pipeline.execution.journal.guard_journal import GUARD_JOURNAL
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import BootRecord, TakeoverRecord
from pipeline.model.clock import mono_ns
from pipeline.model.config import EngineConfig
from pipeline.model.enums import Durability
from pipeline.model.structs import Credentials
from pipeline.takeover import Takeover, TakeoverResult
from tests.exhausted import full_disk
from tests.worlds.books_world import CONFIG, BooksWorld, config_with, gateio
from tests.worlds.external_world import external_world, hedge
from tests.worlds.guard.life import born
from tests.worlds.waiting import WAIT_S, until
from workers.credentials import store_credentials
from workers.executor.publisher import Publisher
from workers.executor.views import order_rows
from workers.executor_file import read_executor_state
from workers.guard import taking_over as taking_over_module
from workers.guard.closing import Closing, make_room
from workers.guard.taking_over import PAUSE_MAX_NS, RETRY_NS
from workers.state_folder import instance_dir

SEGMENT = 16 * 1024


def written(folder: Path, epoch: int, *records: Any, mode: str = "sim") -> None:
    journal = Journal.open(folder, segment_bytes=SEGMENT)
    journal.boot_epoch = epoch
    for record in (*records, BootRecord(epoch, "i", mode, 1, 1)):
        journal.append(record, epoch, 1)
    journal.close()


@pytest.mark.parametrize("a_guard_died", [False, True], ids=["the first guard", "after one that died"])
def test_what_a_guard_that_died_in_the_takeover_did_counts(instance: str, tmp_path: Path, a_guard_died: bool) -> None:
    """Everything is closed when the next guard looks: the halt stays for an operator all the same."""
    world = BooksWorld(instance)
    written(tmp_path / "journal", 1)
    if a_guard_died:
        written(tmp_path / GUARD_JOURNAL, 2, TakeoverRecord(1, 1, "the executor hangs"))
    context = SimpleNamespace(
        instance=instance, config=CONFIG, state_dir=tmp_path, journal_dir=lambda: tmp_path / "journal"
    )
    closing = Closing(context, "the executor hangs", None, lambda level, text: None)  # type: ignore[arg-type]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        closing.start()
        closing.join()
    world.close()
    assert closing.error == "" and closing.result is not None and closing.result.flat
    assert closing.acted is a_guard_died
    assert not [str(one.message) for one in warned if "event loop" in str(one.message)]


def test_a_fence_that_a_full_disk_keeps_up_costs_no_second_takeover_and_keeps_nobody_waiting(
    instance: str, tmp_path: Path
) -> None:
    """Each one asks every venue for everything; `arb flatten` waits for the end of the closing."""
    world = BooksWorld(instance)
    written(tmp_path / "journal", 1)
    context, page, guard = born(instance, tmp_path)
    context.config, context.journal_dir = CONFIG, lambda: tmp_path / "journal"  # type: ignore[attr-defined]
    assert make_room(context) == ""  # type: ignore[arg-type]
    taking_over, looks = guard.taking_over, iter(range(mono_ns(), 1 << 62, RETRY_NS))
    with full_disk():
        taking_over.begin("restart storm of executor", None)

        def ended() -> bool:
            taking_over.step(next(looks))
            return taking_over.describe()["taking_over"] is None

        until(ended, "the end of the closing")
        assert page.fenced and taking_over.active
        for _ in range(5):
            taking_over.step(next(looks))
        said = [line for line in context.said if "takeover ended" in line or "fence stands" in line]
        assert taking_over._closing is None and len(said) == 2
        taking_over.widen(None)
        until(ended, "the end of another closing, for what is commanded meanwhile")
    taking_over.step(next(looks))
    assert not page.fenced and not taking_over.active
    page.close()
    world.close()


@pytest.mark.parametrize(
    ("result", "again"),
    [
        (TakeoverResult(open_operations=("a1x1",), held=("a1x1",)), False),
        (
            TakeoverResult(open_operations=("a1x1",), held=("a1x1",), unsettled=("o1", "o2"), unproved=("o1", "o2")),
            False,
        ),
        (TakeoverResult(open_operations=("a1x1",), held=("a1x1",), unsettled=("o1", "o2"), unproved=("o1",)), True),
        (TakeoverResult(open_operations=("a1x1",)), True),
        (TakeoverResult(left=("a1x2",)), True),
        (TakeoverResult(unsettled=("a1x3",)), True),
        (None, True),
    ],
)
def test_what_is_left_open_under_a_fence_that_stands_is_tried_again_ever_more_seldom(
    instance: str, tmp_path: Path, result: TakeoverResult | None, again: bool
) -> None:
    _, page, guard = born(instance, tmp_path)
    taking_over = guard.taking_over
    ended: Any = SimpleNamespace(result=result, orders=[], reasons={}, acted=True, error="no venue answers", taken=None)
    with full_disk():
        taking_over.begin("restart storm of executor", None)
        pauses = []
        for _ in range(9):
            taking_over._closed(ended, 0)
            pauses.append(taking_over._due_ns)
        assert (taking_over._unlifted is None) is again
        if again:
            assert pauses[-1] == PAUSE_MAX_NS and pauses[5] > pauses[4] > RETRY_NS
            taking_over.widen(None)
            assert taking_over._due_ns == 0, "what is commanded is not put off"
    page.close()


def test_what_another_mode_left_is_not_closed(instance: str, tmp_path: Path) -> None:
    """A guard whose configuration was edited from paper to live would close paper's hedges with real orders."""
    world = BooksWorld(instance)
    written(tmp_path / "journal", 1, mode="live")
    context = SimpleNamespace(
        instance=instance, config=CONFIG, state_dir=tmp_path, journal_dir=lambda: tmp_path / "journal"
    )
    closing = Closing(context, "the executor hangs", None, lambda level, text: None)  # type: ignore[arg-type]
    closing.start()
    closing.join()
    world.close()
    assert closing.result is None and not closing.acted
    assert "the journal of mode live" in closing.error


def ledgers() -> int:
    """How many ledgers are in memory, without a collection of garbage."""
    return sum(type(found) is Ledger for found in gc.get_objects())  # isinstance asks weak proxies of what is gone


def test_a_takeover_leaves_no_ledger_behind(instance: str, tmp_path: Path) -> None:
    """The ledger of so many operations weighed 500 kB, and stayed with the core's circles of references."""
    books, world = BooksWorld(instance), external_world()
    for _ in range(25):
        world.market.move("gateio_spot", "BTC_USDT", Decimal(64000))
        world.market.move("mexc_spot", "BTCUSDT", Decimal(63680))
        world.run(50)
        offered = world.opportunity("mexc_spot", "gateio_spot", "BTC/USDT", qty=Decimal("0.002"))
        assert offered is not None
        world.feed(offered)
        world.run(300)
    assert len(world.core.ledger.operations) == 25 and not world.core.ledger.open_operations
    journal = Journal.open(tmp_path / "journal", segment_bytes=4 * 1024 * 1024)
    for entry in world.entries:
        journal.boot_epoch = entry.boot_epoch
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
    journal.close()
    context = SimpleNamespace(
        instance=instance, config=CONFIG, state_dir=tmp_path, journal_dir=lambda: tmp_path / "journal"
    )
    known = ledgers()
    for _ in range(2):
        closing = Closing(context, "again", None, lambda level, text: None)  # type: ignore[arg-type]
        closing.start()
        closing.join()
        assert closing.error == "" and closing.result is not None and closing.result.flat
        del closing
        assert ledgers() == known
    books.close()


@pytest.fixture
def left_open(instance: str, state_dir: Path) -> Iterator[Callable[[EngineConfig], Closing]]:
    """The journal of an executor that died with a hedge open and a breaker tripped; makes the closing of a guard. No
    venue answers, so it goes on and on."""
    books, world, folder = BooksWorld(instance), external_world(), instance_dir(instance, create=True)
    hedge(world)
    world.core.context.trip("unknown_past", "an order that the journal lacks")
    world.run(500)
    journal = Journal.open(folder / "journal", segment_bytes=4 * 1024 * 1024)
    for entry in world.entries:
        journal.boot_epoch = entry.boot_epoch
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
    journal.close()

    def closing(config: EngineConfig) -> Closing:
        for exchange in config.feeds:
            store_credentials(instance, exchange, Credentials(api_key="k", api_secret="s"))
        context: Any = SimpleNamespace(
            instance=instance,
            config=config,
            state_dir=folder,
            journal_dir=lambda: folder / "journal",
            stop_requested=lambda: False,
            say=lambda level, text: None,
        )
        return Closing(context, "the executor hangs", None, lambda level, text: said.append((level, text)))

    said: list[tuple[str, str]] = []
    yield closing
    books.close()


def test_what_trips_in_a_takeover_is_published_while_it_lasts(
    instance: str, left_open: Callable[[EngineConfig], Closing]
) -> None:
    """An operator reads of the guard's core meanwhile, not of the dead executor's."""
    folder, closing = instance_dir(instance), left_open(config_with(gateio=gateio()))
    closing.start()
    until(lambda: read_executor_state(folder) is not None or not closing.is_alive(), "a word of the guard")
    reported, under_way = read_executor_state(folder), closing.is_alive()
    closing.ask_end()
    closing.join()
    assert under_way, closing.error
    assert reported is not None and not reported.stopped and len(reported.hedges) == 1
    assert any(reason.what.startswith("breaker unknown_past") for reason in reported.reasons)


def test_a_disk_that_hangs_keeps_nobody_from_closing(
    instance: str, left_open: Callable[[EngineConfig], Closing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which records a host would forget that goes down now, the venues show by ids of an epoch of their own."""
    answers, real = threading.Event(), os.fdatasync

    def slow(descriptor: int) -> None:
        answers.wait()
        real(descriptor)

    closing = left_open(config_with(gateio=gateio()))
    closing._ctx.config = msgspec.structs.replace(
        closing._ctx.config,
        execution=msgspec.structs.replace(closing._ctx.config.execution, durability=Durability.POWER),
    )
    assert make_room(closing._ctx) == ""
    said: list[str] = []
    closing._say = lambda level, text: said.append(text)
    monkeypatch.setattr(os, "fdatasync", slow)
    closing.start()
    until(lambda: read_executor_state(instance_dir(instance)) is not None or not closing.is_alive(), "the first looks")
    under_way = closing.is_alive()
    closing.ask_end()
    answers.set()
    closing.join()
    assert under_way and closing.error == "" and closing.result is not None
    assert sum("the disk has not answered" in text for text in said) == 1


def test_a_view_that_is_broken_ends_no_takeover(
    left_open: Callable[[EngineConfig], Closing], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[int] = []

    def broken(publisher: Publisher, mono_ns: int = 0) -> None:
        ticks.append(mono_ns)
        raise KeyError("a row")

    monkeypatch.setattr(Publisher, "tick", broken)
    monkeypatch.setattr(Publisher, "publish", broken)
    closing = left_open(config_with(gateio=gateio()))
    said: list[tuple[str, str]] = []
    closing._say = lambda level, text: said.append((level, text))
    closing.start()
    until(lambda: len(ticks) > 3 or not closing.is_alive(), "several ticks of the takeover")
    assert closing.is_alive(), closing.error
    closing.ask_end()
    closing.join()
    assert closing.error == "" and closing.result is not None and closing.acted
    assert [text for level, text in said if level == "error" and "cannot be shown" in text] == [
        "the takeover cannot be shown: KeyError: 'a row'; it goes on"
    ]


def test_reasons_that_cannot_be_told_lose_no_result(
    left_open: Callable[[EngineConfig], Closing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while it lasts nor at its end: an answer without its words is still the answer."""
    asked: list[int] = []

    def broken(takeover: Takeover) -> dict[str, str]:
        asked.append(1)
        raise KeyError("a hedge that has left memory")

    monkeypatch.setattr(Takeover, "why_left", broken)
    closing = left_open(config_with(gateio=gateio()))
    said: list[tuple[str, str]] = []
    closing._say = lambda level, text: said.append((level, text))
    closing.start()
    until(lambda: len(asked) > 3 or not closing.is_alive(), "several looks at what is left")
    assert closing.is_alive(), closing.error
    closing.ask_end()
    closing.join()
    assert closing.error == "" and closing.result is not None and closing.acted
    assert [text for level, text in said if level == "error" and "cannot be shown: KeyError" in text]


def test_an_order_that_has_left_memory_is_no_row_and_no_error() -> None:
    world = external_world()
    hedge(world)
    world.run(500)
    ledger = world.core.ledger
    name = next(iter(ledger.orders))
    (row,) = order_rows(ledger, [name, "gone"])
    assert row["client_id"] == name


@pytest.mark.parametrize(
    "config",
    [config_with(gateio=gateio(trade=False)), config_with(gateio=gateio(enabled=False)), CONFIG],
    ids=["not traded", "not enabled", "removed"],
)
def test_a_hedge_where_nothing_is_traded_closes_no_other(
    left_open: Callable[[EngineConfig], Closing], config: EngineConfig
) -> None:
    """The executor refuses such a configuration: after its restarts the guard must not close what is well."""
    closing = left_open(config)
    closing.start()
    until(lambda: closing.acted or not closing.is_alive(), "an end or a record of the takeover")
    closing.ask_end()
    closing.join()
    assert "earlier runs left orders, operations or hedges open at gateio_futures" in closing.error
    assert not closing.acted and closing.result is None


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Closing]:
    """The closings that takeovers have begun."""
    begun: list[Closing] = []

    class Noted(Closing):
        def start(self) -> None:
            begun.append(self)
            super().start()

    monkeypatch.setattr(taking_over_module, "Closing", Noted)
    return begun


@pytest.mark.parametrize("answers_late", [True, False], ids=["a slow disk", "one that hangs"])
def test_what_is_commanded_while_a_closing_waits_for_the_disk_at_its_end_is_closed(
    instance: str, tmp_path: Path, made: list[Closing], monkeypatch: pytest.MonkeyPatch, answers_late: bool
) -> None:
    world, at_end, answers, close = BooksWorld(instance), threading.Event(), threading.Event(), Journal.close
    written(tmp_path / "journal", 1)
    context, page, guard = born(instance, tmp_path)
    context.config, context.journal_dir = CONFIG, lambda: tmp_path / "journal"  # type: ignore[attr-defined]
    assert make_room(context) == ""  # type: ignore[arg-type]
    taking_over, looks = guard.taking_over, iter(range(mono_ns(), 1 << 62, RETRY_NS))

    def slow(journal: Journal) -> None:
        at_end.set()
        answers.wait(WAIT_S)
        close(journal)

    monkeypatch.setattr(Journal, "close", slow)
    taking_over.begin("restart storm of executor", ())

    def stepped(done: Callable[[], bool]) -> bool:
        taking_over.step(next(looks))
        return done()

    until(lambda: stepped(at_end.is_set), "the end of the closing")
    taking_over.widen(None)  # arb flatten
    if answers_late:
        answers.set()
    until(lambda: stepped(lambda: not taking_over.active), "the end of the takeover")
    assert [closing.taken for closing in made] == [(), None]
    assert guard.taking_over.nothing_open and not page.fenced
    answers.set()
    for closing in made:
        closing.join(WAIT_S)
    page.close()
    world.close()


def test_a_view_that_hangs_at_the_end_keeps_no_result_back(
    left_open: Callable[[EngineConfig], Closing], monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, answers, write = threading.Event(), threading.Event(), Publisher._write

    def slow(publisher: Publisher, state: Any) -> str:
        if hangs.is_set():
            answers.wait(WAIT_S)
        return write(publisher, state)

    monkeypatch.setattr(Publisher, "_write", slow)
    closing = left_open(config_with(gateio=gateio()))
    closing.start()
    until(lambda: bool(closing.reasons) or not closing.is_alive(), "several ticks of the takeover")
    assert closing.is_alive(), closing.error
    hangs.set()
    closing.ask_end()
    until(lambda: closing.ended, "the end of the closing")
    assert closing.error == "" and closing.result is not None and not answers.is_set()
    answers.set()
    closing.join()
