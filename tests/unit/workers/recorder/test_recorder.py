"""What the recorder reads out of rings: nothing doubled by a restart, what was overwritten is counted and said."""

from __future__ import annotations

import os
import resource
import sqlite3
import struct
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from pipeline.execution.events import AccountSnapshot
from pipeline.execution.journal import JournalEntry, JournalPosition
from pipeline.execution.market import Instruments
from pipeline.execution.records import BreakerRecord
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import Balance
from shm.layout import LEG, OPPORTUNITY
from shm.logring import LogRing
from shm.queue import QueueConsumer, QueueProducer
from tests.exhausted import full_disk, limited
from tests.worlds.execution_world import make_config, make_rows
from workers.recorder.disk_trouble import DiskTrouble
from workers.recorder.log_files import FILE_NAME, DrainPosition, LogDrain
from workers.recorder.process import BalanceWatch, RingPosition, RingReader, opportunity_row
from workers.recorder.sqlite_ledger import SqliteLedger, open_reader

SMALL_RING = 256


@pytest.fixture
def ring(instance: str) -> Iterator[LogRing]:
    made = LogRing.create(instance, "feed.mexc", capacity=SMALL_RING)
    yield made
    made.close()


def drain(instance: str, folder: Path, position: DrainPosition | None = None, **limits: int) -> LogDrain:
    return LogDrain(instance, folder, position, **{"file_bytes_max": 10**6, "files_max": 3, **limits})


def lines(folder: Path, name: str = FILE_NAME) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in (folder / name).read_bytes().splitlines()]


def test_texts_and_events_become_lines(ring: LogRing, instance: str, tmp_path: Path) -> None:
    ring.text(30, 'quiet "stale" \\ ' + "x" * 200)
    ring.event(7, 1, 2, 3, 4, 5)
    found = drain(instance, tmp_path)
    assert (found.poll(), found.poll()) == (2, 0)
    text, event = lines(tmp_path)
    assert (text["process"], text["level"], text["text"]) == ("feed.mexc", "warning", 'quiet "stale" \\ ' + "x" * 200)
    assert (event["code"], event["args"]) == (7, [1, 2, 3, 4, 5])
    assert str(text["wall"]).endswith("Z") and int(str(text["mono_ns"])) > 0
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_a_restart_after_any_line_neither_loses_nor_doubles(ring: LogRing, instance: str, tmp_path: Path) -> None:
    position = None
    for number in range(40):
        ring.text(20, f"line {number} " + "y" * (number * 7))
        found = drain(instance, tmp_path, position)
        found.poll()
        if number % 3:  # killed after the lines, before the position was stored: they are cut off and written again
            position = found.position()
        found.close()
    drain(instance, tmp_path, position).poll()
    assert [str(line["text"]).split()[1] for line in lines(tmp_path)] == [str(number) for number in range(40)]


def test_what_was_overwritten_is_counted_and_said_also_over_a_restart(
    ring: LogRing, instance: str, tmp_path: Path
) -> None:
    first = drain(instance, tmp_path)
    ring.event(1)
    first.poll()
    position = first.position()
    first.close()
    for number in range(1000):
        ring.event(2, number)
    second = drain(instance, tmp_path, position)
    second.poll()
    written = [line for line in lines(tmp_path) if line.get("code") == 2]
    lost = [int(str(line["lost"])) for line in lines(tmp_path) if "lost" in line]
    assert sum(lost) == second.lost == 1000 - len(written) > 0
    assert written[-1]["args"] == [999, 0, 0, 0, 0]


def test_a_ring_of_another_run_is_read_from_its_beginning(ring: LogRing, instance: str, tmp_path: Path) -> None:
    ring.text(20, "old")
    found = drain(instance, tmp_path)
    found.poll()
    position = found.position()
    os.unlink(f"/dev/shm/arb.{instance}.log.feed.mexc")
    ring.close()
    fresh = LogRing.create(instance, "feed.mexc", capacity=SMALL_RING)
    fresh.text(20, "new")
    drain(instance, tmp_path, position).poll()
    fresh.close()
    assert [line["text"] for line in lines(tmp_path)] == ["old", "new"]


@pytest.mark.parametrize("files_max", [1, 3])
def test_files_are_rotated_and_bounded(ring: LogRing, instance: str, tmp_path: Path, files_max: int) -> None:
    found = drain(instance, tmp_path, file_bytes_max=400, files_max=files_max)
    for number in range(30):
        ring.text(20, f"{number} " + "z" * 50)
        found.poll()
        found.rotate()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [FILE_NAME, *(f"{FILE_NAME}.{number}" for number in range(1, files_max))]
    assert all(path.stat().st_size <= 400 + 200 for path in tmp_path.iterdir())
    ages = [*range(files_max - 1, 0, -1)]
    kept = [line for age in ages for line in lines(tmp_path, f"{FILE_NAME}.{age}")] + lines(tmp_path)
    numbers = [int(str(line["text"]).split()[0]) for line in kept]
    assert numbers == sorted(numbers) and (not numbers or numbers[-1] >= 28)


def opportunity(number: int, rows: list[InstrumentRow]) -> np.ndarray:
    words = np.zeros(OPPORTUNITY.WORDS, np.int64)
    words[OPPORTUNITY.id], words[OPPORTUNITY.detect_mono_ns], words[OPPORTUNITY.leg_count] = number, number * 10, 2
    words[OPPORTUNITY.edge_bps] = struct.unpack("<q", struct.pack("<d", 12.5))[0]
    for leg, (row, side) in enumerate(zip(rows, (1, -1), strict=False)):
        at = OPPORTUNITY.legs + leg * LEG.WORDS
        words[at + LEG.instrument], words[at + LEG.side] = row.instrument_id, side
        words[at + LEG.qty_fp] = 25 * 10 ** (row.qty_exp - 1)
        words[at + LEG.limit_price_fp] = 100 * 10**row.price_exp
    return words


def test_an_opportunity_is_written_in_words() -> None:
    rows = make_rows(make_config())[:2]
    found = opportunity_row(opportunity(4, rows), Instruments(rows), 1000)
    assert found[:6] == (4, 40, 1040, "spot_spot", rows[0].spec.pair, 12.5)
    buy, sell = msgspec.json.decode(found[-1])
    assert (buy["venue"], buy["symbol"], buy["side"]) == (rows[0].spec.venue, rows[0].spec.symbol, "buy")
    assert (sell["side"], sell["qty"], sell["limit_price"]) == ("sell", "2.5", "100")
    unknown = opportunity_row(opportunity(4, rows), Instruments(), 0)
    assert unknown[4] == "pair 0" and msgspec.json.decode(unknown[-1])[0]["symbol"] == "instrument 0"


class Account:
    """What the poller confirmed, look by look."""

    def __init__(self, *looks: AccountSnapshot | None) -> None:
        self._looks = list(looks)

    def poll(self) -> AccountSnapshot | None:
        return self._looks.pop(0) if self._looks else None


def usdt(free: int) -> AccountSnapshot:
    balance = Balance(
        venue="mexc_spot", asset="USDT", free=Decimal(free), locked=Decimal(0), recv_mono_ns=1, source="rest"
    )
    return AccountSnapshot((balance,), (), {})


def test_balances_are_written_when_they_change_and_not_too_often() -> None:
    watch = BalanceWatch(Account(usdt(5), usdt(5), usdt(7), None, usdt(8)), every_s=1)  # type: ignore[arg-type]
    second = 10**9
    assert [b.free for b in watch.changed(1)] == [5]
    assert watch.changed(2 * second) == [], "the same"
    assert watch.changed(second // 2) == [], "too soon"
    assert [b.free for b in watch.changed(3 * second)] == [7]
    assert [b.free for b in watch.changed(3 * second + 1, last=True)] == [8]


def test_a_ledger_of_schema_2_keeps_its_balances_and_old_opportunities_go(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as old:
        old.execute("CREATE TABLE opportunities (writer_epoch INTEGER, id INTEGER, PRIMARY KEY (writer_epoch, id))")
        old.execute("INSERT INTO opportunities VALUES (1, 1)")
        old.execute(
            "CREATE TABLE balances (seq INTEGER PRIMARY KEY, venue TEXT, asset TEXT, free TEXT, locked TEXT,"
            " source TEXT, wall_ns INTEGER)"
        )
        old.execute("INSERT INTO balances VALUES (9, 'mexc_spot', 'USDT', '1.5', '0', 'reconcile', 77)")
    for _ in range(2):
        ledger = SqliteLedger(path)
        rows = [(n, n, n, "spot_spot", "BTC/USDT", 1.0, 1.0, 1.0, n, "[]") for n in range(10)]
        ledger.opportunities(rows, None)
        ledger.prune(4, 77)
        ledger.close()
    with open_reader(path) as db:
        assert [tuple(row) for row in db.execute("SELECT * FROM balances")] == [
            ("mexc_spot", "USDT", 77, "1.5", "0", "reconcile")
        ]
        assert [row[0] for row in db.execute("SELECT id FROM opportunities")] == [6, 7, 8, 9]


def test_the_opportunity_ring_goes_on_where_the_ledger_stopped(instance: str, tmp_path: Path) -> None:
    rows = make_rows(make_config())[:2]
    instruments = Instruments(rows)
    producer = QueueProducer.create(instance, "opps", capacity=8, slot_words=OPPORTUNITY.WORDS)
    consumer = QueueConsumer.create(instance, "opps", capacity=8, slot_words=OPPORTUNITY.WORDS)
    producer.refresh()
    out = np.zeros(OPPORTUNITY.WORDS, np.int64)
    path = tmp_path / "ledger.sqlite"
    lost = 0
    for number in range(1, 21):
        assert producer.push(opportunity(number, rows))
        consumer.pop(out)
        if number in (3, 6, 20):  # a recorder lives for one look: after three, three, and fourteen more
            ledger = SqliteLedger(path)
            reader = RingReader(instance, instruments, ledger.recall("opportunities", RingPosition))
            ledger.opportunities(reader.poll(), reader.position())
            lost += reader.lost
            ledger.close()
    with open_reader(path) as db:
        found = [tuple(row) for row in db.execute("SELECT id, pair FROM opportunities ORDER BY id")]
    consumer.close()
    producer.close()
    assert [number for number, _ in found] == [1, 2, 3, 4, 5, 6, *range(20 - 7 + 1, 21)]
    assert lost == 20 - len(found)
    assert {pair for _, pair in found} == {rows[0].spec.pair}


def test_a_disk_that_takes_nothing_costs_lines_that_are_counted_and_said(
    ring: LogRing, instance: str, tmp_path: Path
) -> None:
    found = drain(instance, tmp_path)
    ring.text(20, "before")
    assert found.poll() == 1
    size = (tmp_path / FILE_NAME).stat().st_size
    for number in range(2):
        ring.text(20, f"lost {number}")
        with limited(resource.RLIMIT_FSIZE, size + 10):  # room for a part of the line
            assert found.poll() == 0
        assert found.unwritten == number + 1 and found.problem
        assert (tmp_path / FILE_NAME).stat().st_size == size, "no part of a line stays"
    ring.text(20, "after")
    assert found.poll() == 2 and not found.problem
    assert [row["text"] for row in lines(tmp_path)][::2] == ["before", "after"]
    assert lines(tmp_path)[1]["lost"] == 2 and "2 lines before this one are lost" in str(lines(tmp_path)[1]["text"])


def test_records_wait_for_the_disk_and_come_once(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    said: list[str] = []
    context: Any = SimpleNamespace(
        degraded=lambda text: said.append(text), recovered=lambda text: said.append(text), state_dir=tmp_path
    )
    trouble = DiskTrouble(context)
    entries = [JournalEntry(1, 0, 5, 6, 1, BreakerRecord("x", True, "y"))]
    position = JournalPosition(1, 64, 2, bytes(8))

    def write() -> int:
        ledger.apply(entries, position)
        return 1

    with full_disk():
        assert trouble.attempt("journal", write) == 0
        assert trouble.attempt("journal", write) == 0, "not tried again at once"
    assert len(said) == 1 and ledger.position() is None
    trouble._again_s.clear()
    assert trouble.attempt("journal", write) == 1
    assert said[1:] == ["the disk takes records again"] and ledger.position() == position
    ledger.close()
    with open_reader(tmp_path / "ledger.sqlite") as db:
        assert db.execute("SELECT COUNT(*) FROM events").fetchone()[0] == 1


def test_an_error_of_ours_is_no_disk() -> None:
    def wrong() -> int:
        sqlite3.connect(":memory:").execute("SELECT * FROM nowhere")
        return 0

    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        DiskTrouble(SimpleNamespace()).attempt("journal", wrong)  # type: ignore[arg-type]
