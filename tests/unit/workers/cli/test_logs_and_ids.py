"""``arb logs``, ids that are shortened, and the demo that is kept until the next one."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import msgspec
import pytest

from pipeline.model.errors import BadInput
from tests.worlds.execution_world import World, make_config
from workers.cli.app import run
from workers.cli.why import read_trail
from workers.control_plane.instances import resolve
from workers.control_plane.supervisor import Supervisor
from workers.demo.kept import keep_as_last
from workers.exit_codes import EXIT_INTERRUPTED
from workers.recorder.sqlite_ledger import SqliteLedger
from workers.view.log_lines import LogTail, line_text, wanted


def line(text: str, process: str = "executor", level: str = "info") -> bytes:
    return msgspec.json.encode({"wall": "t", "mono_ns": 1, "process": process, "level": level, "text": text}) + b"\n"


def texts(tail: LogTail) -> list[str]:
    return [str(row["text"]) for row in tail.poll()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("ARB_ENGINE_NAME", raising=False)
    made = tmp_path / "t-one"
    (made / "logs").mkdir(parents=True)
    (made / "lock").touch()
    return made


def test_the_tail_reads_on_over_parts_rotations_and_a_cut(folder: Path) -> None:
    path = folder / "logs" / "arb.jsonl"
    tail = LogTail(path)
    assert texts(tail) == []
    path.write_bytes(line("one") + line("two")[:10])
    assert texts(tail) == ["one"]
    with path.open("ab") as file:
        file.write(line("two")[10:] + line("three"))
    assert texts(tail) == ["two", "three"]
    with path.open("ab") as file:
        file.write(line("last of the old file"))
    path.replace(path.with_name("arb.jsonl.1"))
    path.write_bytes(line("first of the new"))
    assert texts(tail) == ["last of the old file", "first of the new"]
    path.write_bytes(line("x")[:-1])  # a new recorder cuts off what was not confirmed, in the same file
    tail.poll()
    path.write_bytes(b"")
    assert texts(tail) == []
    with path.open("ab") as file:
        file.write(line("again") + b"no json\n")
    assert texts(tail) == ["again", "no json"]
    tail.close()


def test_the_newest_lines_come_from_all_files_and_by_level_and_process(folder: Path) -> None:
    path = folder / "logs" / "arb.jsonl"
    for number in range(3):
        name = path.with_name(f"arb.jsonl.{number}") if number else path
        name.write_bytes(b"".join(line(f"{number}.{n}", level=("info", "error")[n % 2]) for n in range(4)))
    with path.open("ab") as file:
        file.write(line("of a feed", "feed.mexc", "critical"))
        file.write(msgspec.json.encode({"wall": "t", "process": "detector", "code": 7, "args": [1, 2]}) + b"\n")

    def found(count: int, level: str = "", process: str = "") -> list[str]:
        tail = LogTail(path)
        rows = tail.newest(count, wanted(level, process))
        tail.close()
        return [line_text(row).split()[-1] if "text" in row else "numbers" for row in rows]

    assert found(3) == ["0.3", "feed", "numbers"]
    assert found(100, "error") == ["2.1", "2.3", "1.1", "1.3", "0.1", "0.3", "feed"]
    assert found(100, "", "feed") == ["feed"] and found(100, "", "fee") == []
    assert found(0) == []


def test_the_command_shows_lines_and_refuses_a_level_that_is_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["logs", "--instance", "t-one"]) == 0
    assert "nothing is logged" in capsys.readouterr().out
    (folder / "logs" / "arb.jsonl").write_bytes(line("hello", level="warning"))
    assert run(["logs", "--instance", "t-one", "--json"]) == 0
    assert [row["text"] for row in json.loads(capsys.readouterr().out)["lines"]] == ["hello"]
    assert run(["logs", "--instance", "t-one", "--level", "loud"]) == 2


def test_the_lines_of_a_span_are_all_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = [f"2026-01-01T00:{minute:02d}:00.000000Z" for minute in range(60)]
    rows = [{"wall": wall, "process": "executor", "level": "info", "text": wall[14:16]} for wall in (*at, *at)]
    rows.sort(key=lambda row: row["wall"])
    (folder / "logs" / "arb.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))

    def shown(*more: str) -> list[str]:
        assert run(["logs", "--instance", "t-one", "--json", *more]) == 0
        return [row["text"] for row in json.loads(capsys.readouterr().out)["lines"]]

    assert len(shown()) == 50, "the newest alone, where no span is named"
    assert shown("--since", "2026-01-01T00:58:00") == ["58", "58", "59", "59"]
    assert shown("--since", "2026-01-01T00:10:00+00:00", "--until", "2026-01-01T00:11:00Z") == ["10", "10", "11", "11"]
    assert len(shown("--until", "2026-01-01T00:29:30")) == 60 and shown(
        "--until", "2026-01-01T00:29:30", "-n", "1"
    ) == ["29"]
    assert shown("--since", "5m") == []
    for option in ("--since", "--until"):
        assert run(["logs", "--instance", "t-one", option, "yesterday"]) == 2
        assert f"arb logs {option} 24h" in capsys.readouterr().err


def test_follow_writes_what_is_added_one_object_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "logs" / "arb.jsonl"
    path.write_bytes(line("before"))
    turns = threading.Semaphore(2)

    def pause(_: float) -> None:
        if not turns.acquire(blocking=False):
            raise KeyboardInterrupt
        with path.open("ab") as file:
            file.write(line("added"))

    monkeypatch.setattr("workers.cli.commands_data.time.sleep", pause)
    assert run(["logs", "-f", "--json", "--instance", "t-one"]) == EXIT_INTERRUPTED
    *rows, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [row["text"] for row in rows] == ["before", "added", "added"]
    assert (last["error"], last["exit"]) == ("interrupted", EXIT_INTERRUPTED)


def test_an_operation_is_found_by_the_beginning_of_its_id_and_several_are_listed(folder: Path) -> None:
    world = World(3)
    world.run(100)
    for _ in range(3):
        world.feed(world.offer("mexc_spot", "gateio_spot"))
        world.run(400)
    ledger = SqliteLedger(folder / "ledger.sqlite")
    ledger.apply(world.entries, None)
    ledger.close()
    ids = sorted(world.core.ledger.operations)
    assert len(ids) > 1
    whole = ids[-1]
    shortest = next(
        whole[:length] for length in range(1, len(whole) + 1) if sum(n.startswith(whole[:length]) for n in ids) == 1
    )
    assert read_trail("t-one", shortest)["operation"]["operation_id"] == whole
    assert read_trail("t-one", whole)["operation"]["operation_id"] == whole
    with pytest.raises(BadInput, match="wanted one: ") as refused:
        read_trail("t-one", whole[0])
    assert all(name in str(refused.value) for name in ids if name.startswith(whole[0]))
    for nothing in ("zzz", "", "%"):
        with pytest.raises(BadInput, match="found no operation"):
            read_trail("t-one", nothing)


def test_a_refused_opportunity_shows_its_books_and_the_verdict(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(3)
    world.run(100)
    offer = world.offer("mexc_spot", "gateio_spot")
    world.core.context.now = world.now()
    world.core.ledger.breakers["all"] = "a test"
    world.feed(offer)
    world.run(400)
    number = offer.opportunity_id
    ledger = SqliteLedger(folder / "ledger.sqlite")
    ledger.apply(world.entries, None)
    prices = {"qty": "2", "limit_price": "101", "best_price": "100", "notional": "200.5"}
    book = {"update_id": 77, "book_seq": 5, "proof_mono_ns": 1, "recv_mono_ns": 0}
    leg = {"venue": "mexc_spot", "symbol": "BTCUSDT", "side": "buy", **prices, **book}
    detected = 3_000_001
    ledger.opportunities(
        [(number, detected, 1, "spot_spot", "BTC/USDT", 7.5, 7.0, 0.25, 1, msgspec.json.encode([leg]).decode())], None
    )
    ledger.close()
    assert not world.core.ledger.operations
    trail = read_trail("t-one", str(number))
    (verdict,) = trail["refusals"]
    assert trail["operation"] is None and verdict["reason"] == "breaker"
    (shown,) = trail["opportunity"]["legs"]
    assert (str(shown["walked"]), shown["proved_ms"], shown["received_ms"]) == ("100.25", 3.0, None)
    assert run(["why", str(number), "--instance", "t-one"]) == 0
    said = capsys.readouterr().out
    assert "book mexc_spot BTCUSDT at 77: buy 2, best 100, 100.25 for all of it" in said and "breaker" in said
    assert run(["status", "--refused", "all", "--instance", "t-one"]) in (0, 1)
    assert f"({number})" in capsys.readouterr().out
    with pytest.raises(BadInput, match="--refused all"):
        read_trail("t-one", str(number + 1))


def test_the_last_demo_is_kept_until_the_next_and_gives_way_to_every_other_instance(folder: Path) -> None:
    root = folder.parent
    for name in ("demo-1", "demo-2", "demo-kept"):
        (root / name).mkdir()
        (root / name / "lock").touch()
    keep_as_last(root / "demo-1")
    keep_as_last(root / "demo-2")
    assert sorted(path.name for path in root.iterdir()) == ["demo-2", "demo-kept", "t-one"]
    (root / "demo-kept" / "lock").unlink()
    assert resolve("") == "t-one"
    (folder / "lock").unlink()
    assert resolve("") == "demo-2"


def test_a_kept_demo_that_was_started_again_is_no_demos_to_remove(folder: Path) -> None:
    root = folder.parent
    for name in ("demo-1", "demo-2"):
        (root / name).mkdir()
    keep_as_last(root / "demo-1")
    ours, others = socket.socketpair()
    with ours, others:
        config = make_config()
        again = Supervisor(instance="demo-1", config=config, config_path=None, fork_server=(0, ours), units=True)
        again._forget_earlier_run()
    keep_as_last(root / "demo-2")
    assert (root / "demo-1" / "journal").is_dir()


def test_a_log_file_that_is_rotated_while_it_is_looked_for_is_passed_over(folder: Path) -> None:
    path = folder / "logs" / "arb.jsonl"
    path.write_bytes(line("now"))
    path.with_name("arb.jsonl.1").write_bytes(line("before"))
    path.with_name("arb.jsonl.2").symlink_to("gone")  # is listed, and is not there
    tail = LogTail(path)
    assert [row["text"] for row in tail.newest(9, wanted("", ""))] == ["before", "now"]
    tail.close()
