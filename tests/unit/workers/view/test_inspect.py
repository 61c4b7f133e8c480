"""``arb inspect`` on segments that a test creates, on those of a killed process, and on a journal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from pipeline.execution.journal import SEGMENT_BYTES_MIN, Journal
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import BootRecord, BreakerRecord, LegPlan, OperationRecord
from pipeline.model.enums import AccountState, InstrumentKind, OpportunityType, OrderSide
from pipeline.model.errors import BadInput
from pipeline.model.instruments import VenueRef, build_rows
from pipeline.rehearsal.instruments import spec
from pipeline.risk.breakers import fee_breaker, venue_breaker
from pipeline.trade_state import Effect, Reason, ledger_reasons
from shm.layout import (
    BOOK,
    FLAG_CROSSED,
    FLAG_GAP,
    LINE_WORDS,
    OPPORTUNITY,
    REPORT,
)
from shm.layout_pages import INVENTORY_ROW
from shm.metrics import Metrics
from shm.pages import HaltPage, InventoryPage
from shm.queue import QueueConsumer, QueueProducer
from shm.segment import Segment, segment_name
from tests.worlds.books_world import CONFIG, BooksWorld
from tests.worlds.queue_items import pop_new
from workers.base import instance_dir
from workers.cli.main import main
from workers.halt_file import OPEN, Block
from workers.tradable import account_reasons, feed_reasons, halt_reasons, page_reasons
from workers.view.book_verdict import BookState, against
from workers.view.inspect import inspect, inspect_text

REPO = Path(__file__).resolve().parents[4]


@pytest.fixture
def world(instance: str, state_dir: Path) -> Iterator[BooksWorld]:
    made = BooksWorld(instance)
    folder = instance_dir(instance, create=True)
    (folder / "run.json").write_bytes(msgspec.json.encode({"venues": {venue.name: {} for venue in CONFIG.venues}}))
    yield made
    made.close()


@pytest.fixture
def arb(instance: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    """Runs the command; exit code, the one JSON object of stdout, stderr."""

    def run(*words: str) -> tuple[int, Any, str]:
        code = main(["inspect", *words, "--instance", instance, "--json"])
        out, err = capsys.readouterr()
        assert len(out.splitlines()) == 1
        return code, msgspec.json.decode(out), err

    return run


def table(result: dict[str, Any], title: str) -> dict[str, Any]:
    (found,) = [entry for entry in result["tables"] if entry["title"] == title]
    return found


def test_a_book_is_shown_by_its_field_names_and_in_decimals(
    world: BooksWorld, arb: Callable[..., tuple[int, Any, str]]
) -> None:
    world.publish(0, "100.5", "101", flags=FLAG_GAP | FLAG_CROSSED)
    code, result, _ = arb("book", "aa_spot", "S")
    assert code == 0 and result["readable"]
    assert result["levels"]["bids"][0] == ["100.5", "2"] and result["levels"]["asks"][0] == ["101", "3"]
    book = table(result, "book")
    assert list(book["fields"]) == [field.name for field in BOOK.FIELDS]
    assert book["fields"]["flags"] == 6 and book["meanings"]["flags"] == "gap crossed"
    assert book["units"]["recv_mono_ns"] == "ns of the monotonic clock"
    assert result["owner"] == {"pid": os.getpid(), "alive": True}
    assert table(result, "connection 0")["fields"]["alive"] == 1


def test_a_book_ends_with_one_sentence_whether_it_may_be_traded(
    world: BooksWorld, arb: Callable[..., tuple[int, Any, str]], instance: str
) -> None:
    world.publish(0, "100.5", "101", flags=FLAG_GAP)
    _, result, _ = arb("book", "aa_spot", "S")
    assert not result["tradable"]
    assert result["sentence"].startswith("aa_spot S may not be traded now: the instance does not run; solve: arb up")
    assert "; besides: " in result["sentence"] and "gap: updates are missing" in result["sentence"], "its own are said"
    assert inspect_text(inspect(instance, ["book", "aa_spot", "S"])).splitlines()[-1] == result["sentence"]


def books_reasons(flags: int, *reasons: Reason, **book: Any) -> list[str]:
    """What stands against a book of ``aa_spot S``, its own reasons and those of the one answer that concern it."""
    (row, *_) = build_rows([spec("aa_spot", symbol="S")], [VenueRef(name="aa_spot", venue_id=0, feed_id=0)])
    known = BookState(status=2, flags=flags, age_ms=5.0, max_age_ms=100, row_epoch=row.row_epoch, writer_lives=True)
    state = known._replace(**book)
    return [reason.what for reason in against(row, state, list(reasons))]


def test_reasons_of_other_venues_and_symbols_do_not_concern_a_book(instance: str) -> None:
    assert books_reasons(0) == []
    venues, block = ["aa_spot", "bb_spot", "cc_spot", "dd_spot"], Block(reason="why", by="me", wall_ns=1)
    page = HaltPage.create(instance)
    page.release()

    def of(venue: str, symbol: str) -> list[Reason]:
        ledger, number = Ledger(), venues.index(venue)
        ledger.breakers = {venue_breaker(venue): "x", fee_breaker(venue, symbol): "x"}
        page.block_venue(number, True)
        found = [
            *ledger_reasons(ledger),
            *page_reasons(page, OPEN, venues),
            *halt_reasons(replace(OPEN, venues={venue: block}), venues, running=True),
            *feed_reasons({name: {} for name in venues}, {f"{venue}.connected": 0}),
            *account_reasons({**dict.fromkeys(venues, 1), venue: AccountState.REFUSED}),
            Reason(what="margin", solve="x", effect=Effect.DEGRADES, venues=(venue,), symbol=symbol),
        ]
        page.block_venue(number, False)
        assert len(found) == 7 and {reason.effect for reason in found} == {Effect.DEGRADES}
        return found

    assert books_reasons(0, *of("bb_spot", "S")) == []
    assert books_reasons(0, *of("aa_spot", "S")) == [reason.what for reason in of("aa_spot", "S")]
    assert [what for what in books_reasons(0, *of("aa_spot", "OTHER")) if "OTHER" in what or "margin" in what] == []
    stops = Ledger()
    stops.breakers = {"bad_fill": "x"}
    assert books_reasons(0, *ledger_reasons(stops)) == ["breaker bad_fill: x"]
    note = Reason(what="too little USDT", solve="x", effect=Effect.NOTE, venues=("aa_spot",))
    assert books_reasons(0, note) == []
    page.close()


@pytest.mark.parametrize(
    "what",
    [
        "operation 7: 0.5 BTC stand alone, and wait until the other leg is known",
        "no new risk is taken at bb_spot: drain or block in force, and not on the disk yet",
        "the executor has not published its state",
        "the executor's state is 30 s old",
        "2 breakers are tripped, 1 of them by name above",
        "the state folder cannot be read: Permission denied",
        "process recorder is not running: nothing is recorded",
        "recovery r7 waits for an operator: x",
    ],
)
def test_what_degrades_and_names_no_venue_keeps_no_book_from_being_traded(what: str) -> None:
    assert books_reasons(0, Reason(what=what, solve="x", effect=Effect.DEGRADES)) == []
    assert books_reasons(0, Reason(what=what, solve="x", effect=Effect.STOPS)) == [what]


@pytest.mark.parametrize(
    ("flags", "book", "said"),
    [
        (FLAG_GAP, {}, "gap: updates are missing, a snapshot is awaited"),
        (FLAG_CROSSED, {}, "crossed: its best bid is not below its best ask"),
        (0, {"age_ms": 500.0}, "quiet_unproved: it was proved current 500 ms ago"),
        (0, {"age_ms": None}, "unproved: its connection is down or another one"),
        (0, {"status": 0}, "no_book: no readable book"),
        (0, {"row_epoch": 7}, "halted: it is of epoch 7 of its catalogue row, which is at 1"),
        (0, {"writer_lives": False}, "writer_dead: the feed that wrote it has ended or hangs"),
        (0, {"removed": True}, "taken out of the catalogue"),
    ],
)
def test_what_a_book_itself_says_against_trading(flags: int, book: dict[str, Any], said: str) -> None:
    (what,) = books_reasons(flags, **book)
    assert said in what


def test_a_book_is_found_by_its_pair_too(world: BooksWorld, arb: Callable[..., tuple[int, Any, str]]) -> None:
    world.publish(0, "100.5", "101")
    assert arb("book", "aa_spot", "BTC/USDT")[1]["levels"] == arb("book", "aa_spot", "S")[1]["levels"]


def test_a_book_that_was_never_published_is_exit_code_1(
    world: BooksWorld, arb: Callable[..., tuple[int, Any, str]]
) -> None:
    code, result, err = arb("book", "aa_spot", "S")
    assert (code, result["readable"]) == (1, False) and "no readable book of aa_spot S" in err
    assert table(result, "instrument")["fields"]["symbol"] == "S"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("book", "nowhere", "S"), "found venue 'nowhere', wanted one of aa_spot"),
        (("book", "aa_spot", "XYZ"), "found symbol 'XYZ', wanted one of S"),
        (("page", "moon"), "found 'moon', wanted one of catalogue"),
        (("queue", "moon"), "found 'moon', wanted one of none"),
        (("moon",), "found 'moon', wanted one of catalogue, feed.aa"),
        (("page",), "wanted SEGMENT, page NAME, book VENUE SYMBOL, queue NAME or journal [N]"),
        (("journal",), "the executor of"),
        (("journal", "all"), "found 'all', wanted the number of records"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_does_not_exist_is_refused_with_what_does(
    world: BooksWorld, arb: Callable[..., tuple[int, Any, str]], words: tuple[str, ...], said: str
) -> None:
    code, result, err = arb(*words)
    assert code == 2 and said in err and said in result["error"]


def test_an_unknown_instance_is_refused(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "page", "halt", "--instance", "nobody"]) == 2
    assert "no instance 'nobody'" in capsys.readouterr().err


def test_an_instance_without_memory_says_so(instance: str, state_dir: Path) -> None:
    instance_dir(instance, create=True)
    with pytest.raises(BadInput, match="has no shared memory: it has stopped in order"):
        inspect(instance, ["page", "halt"])


def test_pages_show_their_rows_in_use(world: BooksWorld, instance: str) -> None:
    inventory = InventoryPage.create(instance)
    row = np.zeros(INVENTORY_ROW.WORDS, np.int64)
    row[INVENTORY_ROW.buy_notional] = np.array([12.5]).view(np.int64)[0]
    row[INVENTORY_ROW.state] = 1
    inventory.write(7, row)
    shown = table(inspect(instance, ["page", "inventory"]), "rows")
    (seventh,) = [entry for entry in shown["rows"] if entry["index"] == 7]
    assert seventh["fields"]["buy_notional"] == 12.5 and seventh["meanings"]["state"] == "tradable"
    assert shown["units"]["buy_notional"] == "quote"
    catalogue = table(inspect(instance, ["page", "catalogue"]), "rows")
    assert catalogue["rows"][0]["fields"]["symbol"] == "S"
    assert catalogue["rows"][0]["meanings"]["kind"] == "spot"
    halt = HaltPage.create(instance)
    halt.latch("the disk is full")
    halt.block_venue(3, True)
    page = table(inspect(instance, ["page", "halt"]), "halt")
    assert page["fields"]["reason"] == "the disk is full" and page["meanings"]["latch"] == "halted"
    assert page["fields"]["venue_blocked"] == {"3": 1}
    inventory.close()
    halt.close()


def test_a_row_whose_writer_died_in_it_is_called_torn(instance: str) -> None:
    page = InventoryPage.create(instance)
    page.words[16] = 5  # row 0's seq is odd
    result = inspect(instance, ["page", "inventory"])
    assert table(result, "rows")["rows"][0] == {"index": 0, "torn": True}
    assert "row 0: torn, its writer died in it" in inspect_text(result)
    page.close()


def test_segments_show_header_fields_and_how_much_is_used(world: BooksWorld, instance: str) -> None:
    world.publish(0, "100.5", "101")
    result = inspect(instance, ["feed.aa"])
    header = table(result, "header")
    assert header["fields"]["owner_pid"] == os.getpid() and header["meanings"]["kind"] == "feed"
    assert table(result, "feed")["fields"]["notice_tail"] == 1
    assert table(result, "books")["fields"]["in_use"] == 1
    assert table(result, "connections")["fields"]["capacity"] == 64
    assert inspect(instance, [segment_name(instance, "feed.aa")]) == result
    metrics = Metrics.create(instance, "executor")
    metrics.inc(metrics.counter("orders", "sent"), 3)
    metrics.record(metrics.histogram("ack", "send to answer"), 1000)
    shown = inspect(instance, ["metrics.executor"])
    assert table(shown, "counters")["fields"] == {"orders": 3}
    assert table(shown, "values in histograms")["fields"] == {"ack": 1}
    metrics.close()


def test_a_queue_shows_both_ends_and_its_newest_items(instance: str) -> None:
    producer = QueueProducer.create(instance, "opps", capacity=16, slot_words=OPPORTUNITY.WORDS)
    consumer = QueueConsumer.create(instance, "opps", capacity=16, slot_words=OPPORTUNITY.WORDS)
    producer.refresh()
    item = np.zeros(OPPORTUNITY.WORDS, np.int64)
    item[OPPORTUNITY.type], item[OPPORTUNITY.leg_count] = OpportunityType.SPOT_FUTURES_HEDGE, 2
    item[OPPORTUNITY.edge_bps] = np.array([4.25]).view(np.int64)[0]
    item[OPPORTUNITY.legs + 1] = -1
    for number in range(10):
        item[OPPORTUNITY.id] = number
        assert producer.push(item)
    pop_new(consumer)
    result = inspect(instance, ["queue", "opps"])
    assert result["waiting"] == 9 and result["consumer"]["alive"]
    assert table(result, "producer")["fields"]["tail"] == 10
    newest = table(result, "item 9")
    assert newest["fields"]["id"] == 9 and newest["fields"]["edge_bps"] == 4.25
    assert newest["meanings"]["type"] == "spot_futures_hedge"
    assert table(result, "item 9 leg 0")["meanings"]["side"] == "sell"
    assert [entry["title"] for entry in result["tables"] if entry["table"] == "OPPORTUNITY"] == [
        f"item {number}" for number in range(2, 10)
    ]
    producer.close()
    consumer.close()


def test_a_queue_of_other_items_shows_their_words(instance: str) -> None:
    producer = QueueProducer.create(instance, "numbers", capacity=4, slot_words=LINE_WORDS)
    assert producer.push(np.arange(LINE_WORDS, dtype=np.int64))
    result = inspect(instance, ["queue", "numbers"])
    assert result["waiting"] is None and table(result, "item 0")["fields"]["7"] == 7
    assert REPORT.WORDS == LINE_WORDS  # told apart by the queue's name, not by the size
    producer.close()


def test_memory_of_a_killed_process_is_shown(instance: str, state_dir: Path) -> None:
    """A feed that was SIGKILLed: its segment says what it published last and that its owner is dead."""
    program = (
        "import sys, time, numpy as np\n"
        "from shm.bookring import create_feed, publish_book\n"
        "from shm.layout import BOOK\n"
        "feed = create_feed(sys.argv[1], 'aa', 4)\n"
        "record = np.zeros(BOOK.WORDS, np.int64)\n"
        "record[BOOK.update_id] = 77\n"
        "publish_book(feed.words, 0, 2, record)\n"
        "print('published', flush=True)\n"
        "time.sleep(600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, instance], stdout=subprocess.PIPE, text=True, cwd=REPO)
    assert child.stdout is not None and child.stdout.readline() == "published\n"
    assert inspect(instance, ["feed.aa"])["owner"] == {"pid": child.pid, "alive": True}
    child.send_signal(signal.SIGKILL)
    child.wait()
    result = inspect(instance, ["feed.aa"])
    assert result["owner"] == {"pid": child.pid, "alive": False}
    assert table(result, "feed")["fields"]["notice_tail"] == 1
    assert f"owner {child.pid} dead" in inspect_text(result)


def test_a_segment_of_an_unknown_kind_is_refused(instance: str) -> None:
    made = Segment.create(segment_name(instance, "strange"), size_words=32, kind=99, instance=instance)
    made.set_ready()
    with pytest.raises(BadInput, match="its header says kind 99, wanted one of 1 feed, 2 queue"):
        inspect(instance, ["strange"])
    made.close()


# --- journal ---


def leg(side: OrderSide) -> LegPlan:
    return LegPlan(
        1, "aa_spot", "S", InstrumentKind.SPOT, "BTC", "USDT", side,
        Decimal("0.5"), Decimal(101), Decimal(100), 2, 3, 4, 5,
    )  # fmt: skip


@pytest.fixture
def journal(instance: str, state_dir: Path) -> Iterator[Journal]:
    folder = instance_dir(instance, create=True) / "journal"
    made = Journal.open(folder, segment_bytes=SEGMENT_BYTES_MIN)
    yield made
    made.close()


def test_journal_records_are_shown_by_the_names_of_their_fields(
    instance: str, journal: Journal, arb: Callable[..., tuple[int, Any, str]]
) -> None:
    journal.append(BootRecord(1, instance, "sim", 42, 7), 10, 20)
    operation = OperationRecord(
        "op-1", 9, OpportunityType.SPOT_SPOT, "BTC/USDT", (leg(OrderSide.BUY), leg(OrderSide.SELL)),
        3.5, 3.0, 12, Decimal("50.50"), 1, 2, 3, 4,
    )  # fmt: skip
    journal.append(operation, 11, 21)
    code, result, _ = arb("journal")
    assert code == 0 and [entry["table"] for entry in result["tables"]] == ["BootRecord", "OperationRecord"]
    shown = table(result, "record 2")
    assert shown["fields"]["notional_usd"] == "50.50" and shown["fields"]["legs"][1]["side"] == "sell"
    assert (shown["seq"], shown["mono_ns"], shown["wall_ns"]) == (2, 11, 21)
    assert shown["units"]["edge_send_bps"] == "bps"
    assert "notional_usd" in inspect_text(inspect(instance, ["journal", "1"]))


def test_the_last_records_are_taken_over_as_many_segments_as_they_lie_in(instance: str, journal: Journal) -> None:
    for number in range(900):
        journal.append(BreakerRecord("daily_loss", number % 2 == 0, f"reason {number}"), number, number)
    assert len(list(journal.directory.glob("journal-*.seg"))) > 3
    for count in (1, 5, 400, 900, 5000):
        shown = inspect(instance, ["journal", str(count)])["tables"]
        assert [entry["seq"] for entry in shown] == list(range(max(1, 901 - count), 901))
