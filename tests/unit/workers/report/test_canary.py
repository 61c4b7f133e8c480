"""``arb canary``: fees, least sizes and answers of real orders beside what the engine counts on; doubts are named."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import assert_contract
from tests.worlds.execution_world import World
from workers.cli.app import run
from workers.cli.report import open_ledger
from workers.recorder.sqlite_ledger import SqliteLedger
from workers.report.canary import canary_fields, canary_text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An instance that has traded on virtual venues, and has ended."""
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("ARB_ENGINE_NAME", raising=False)
    made = tmp_path / "t-one"
    made.mkdir()
    (made / "lock").touch()
    world = World(3)
    world.run(100)
    for _ in range(3):
        world.feed(world.offer("mexc_spot", "gateio_spot"))
        world.run(400)
    ledger = SqliteLedger(made / "ledger.sqlite")
    ledger.apply(world.entries, None)
    ledger.close()
    return made


def fields_with(fee_ppm: int | None) -> dict[str, Any]:
    """The fields, where the catalogue lists each instrument with this fee (None: no catalogue)."""
    with open_ledger("t-one") as db:
        keys = {(row["venue"], row["symbol"]) for row in db.execute("SELECT venue, symbol FROM orders")}
        listed = [
            {"venue": venue, "symbol": symbol, "taker_fee_ppm": fee_ppm, "min_notional": "1"} for venue, symbol in keys
        ]
        return canary_fields(db, [] if fee_ppm is None else listed, 0)


def test_fees_as_expected_leave_no_doubt_and_dearer_ones_do(folder: Path) -> None:
    unknown = fields_with(None)
    assert all(row["fills"] and row["least_fill"] > 0 and row["answer_ms"]["p50"] >= 0 for row in unknown["rows"])
    paid = max(row["fee_bps"] for row in unknown["rows"])
    assert paid > 0
    good = fields_with(int(paid * 100))
    assert good["doubts"] == 0 and good["compared"] == len(good["rows"]) > 0 and good["as_expected"]
    assert "widen one limit at a time" in canary_text(good)
    cheaper = fields_with(int(paid * 100) - 50)
    doubts = [text for row in cheaper["rows"] for text in row["doubts"]]
    assert doubts and all("fees of" in text and "expected" in text for text in doubts)
    assert f"{len(doubts)} doubts" in canary_text(cheaper) and "DOUBT fees of" in canary_text(cheaper)


def test_what_was_not_compared_is_a_doubt_and_never_as_expected(folder: Path) -> None:
    with open_ledger("t-one") as db:
        nothing = canary_fields(db, [], 2**62)
    unknown = fields_with(None)
    assert unknown["rows"] and not unknown["expected_known"] and unknown["compared"] == 0
    assert all("not compared: its fees are not known" in row["doubts"][0] for row in unknown["rows"])
    ledger = SqliteLedger(folder / "ledger.sqlite")
    ledger._db.execute("DELETE FROM fills")
    ledger.close()
    without_fills = fields_with(1)
    assert [row["doubts"] for row in without_fills["rows"]] == [["not compared: there is no fill yet"]] * 2
    for fields in (nothing, unknown, without_fills):
        assert not fields["as_expected"] and "as expected" not in canary_text(fields)
    assert nothing["rows"] == [] and "nothing was compared" in canary_text(nothing)


def test_one_symbol_that_is_not_listed_any_more_is_named(folder: Path) -> None:
    with open_ledger("t-one") as db:
        first = db.execute("SELECT venue, symbol FROM orders").fetchone()
        listed = [{**dict(first), "taker_fee_ppm": 10**6, "min_notional": "1"}]
        fields = canary_fields(db, listed, 0)
    assert fields["expected_known"] and (fields["compared"], fields["doubts"]) == (1, 1) and not fields["as_expected"]


def test_what_a_venue_refuses_and_what_is_unknown_is_a_doubt(folder: Path) -> None:
    with open_ledger("t-one") as db:
        found = db.execute("SELECT client_id, operation_id FROM orders ORDER BY client_id").fetchall()
        ids, operations = [row[0] for row in found], [row[1] for row in found]
    ledger = SqliteLedger(folder / "ledger.sqlite")
    change = "UPDATE orders SET state = ?, reason = ? WHERE client_id = ?"
    ledger._db.execute(change, ("rejected", "below the minimum", ids[0]))
    ledger._db.execute(change, ("unknown", "", ids[1]))
    ledger._db.execute(change, ("expired", "", ids[2]))
    ledger._db.execute(change, ("not_sent", "", ids[3]))
    ledger.close()
    doubts = sorted(text for row in fields_with(10**6)["rows"] for text in row["doubts"])
    assert doubts == [
        f"1 orders EXPIRED: no venue took them in time; `arb why {operations[2]}`",
        f"1 orders NOT_SENT: they never left; `arb why {operations[3]}`",
        "1 orders UNKNOWN: `arb recoveries`",
        "1 orders refused: below the minimum",
    ]


def test_a_fee_in_a_third_coin_is_shown_apart(folder: Path) -> None:
    ledger = SqliteLedger(folder / "ledger.sqlite")
    ledger._db.execute("UPDATE fills SET fee_asset = 'GT', fee = '0.5'")
    ledger.close()
    fields = fields_with(1)
    rows = fields["rows"]
    assert fields["compared"] == 0 and all("not compared: fees of" in row["doubts"][0] for row in rows)
    assert all(row["fee_bps"] is None and set(row["other_fees"]) == {"GT"} for row in rows)
    assert sum(row["other_fees"]["GT"] for row in rows) == Decimal("0.5") * sum(row["fills"] for row in rows)


def test_the_command_reads_an_instance_that_has_ended(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["canary", "--instance", "t-one", "--json"]) == 1
    fields = json.loads(capsys.readouterr().out)
    assert_contract("canary", fields)
    assert run(["canary", "--instance", "t-one"]) == 1
    assert "what is expected is not known" in capsys.readouterr().out
    assert run(["canary", "--instance", "t-one", "--since", "1s"]) == 1
