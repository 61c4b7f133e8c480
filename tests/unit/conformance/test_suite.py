"""Every dialect that there is passes the conformance suite; a dialect with a fault does not."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.conformance import frames
from pipeline.conformance.skeleton import write_skeleton
from pipeline.conformance.suite import check_names, run_check
from pipeline.conformance.venue import EXCHANGE, scenario_of
from pipeline.model import dialects
from pipeline.model.config_load import config_from_mapping
from pipeline.model.dialects import add_root, dialect_names, facts_of, folder_of
from pipeline.model.errors import BadInput
from pipeline.sim.server import SimExchangeServer
from tests.command_line import assert_contract
from workers.cli.app import run

CASES = [(name, market, check) for name in dialect_names() for market, check in check_names(name)]


@pytest.mark.parametrize(("dialect", "market", "check"), CASES, ids=["-".join(case) for case in CASES])
def test_the_dialect_passes(dialect: str, market: str, check: str) -> None:
    """A second run tells a fault from a machine that stood still for longer than a signature is good for."""
    first = run_check(dialect, market, check).said
    assert first == "" or run_check(dialect, market, check).said == "", first


def test_orders_are_checked_where_orders_can_be_placed_and_nowhere_else() -> None:
    for name in dialect_names():
        checks = {check for _, check in check_names(name)}
        assert ("order life" in checks) is facts_of(name).trade


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    before = list(dialects._roots)
    yield tmp_path
    dialects._roots[:] = before
    dialects._sides.cache_clear()
    frames.golden_of.cache_clear()


def golden_with(change: dict[str, object], step: int) -> dict[str, object]:
    """Gate.io's golden file with one step of its spot sequence changed."""
    golden = json.loads((folder_of("gateio", "exchanges") / frames.GOLDEN).read_text())
    golden["spot"]["sequence"]["steps"][step] |= change
    return dict(golden)


@pytest.mark.parametrize(
    ("change", "step", "said"),
    [
        ({"result": "APPLIED"}, 3, "step 3: found DROPPED, wanted APPLIED"),
        ({"result": "APPLIED"}, 5, "step 5: found NEED_SNAPSHOT, wanted APPLIED"),
    ],
)
def test_a_sequence_that_the_codec_does_not_give_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: dict[str, object], step: int, said: str
) -> None:
    (tmp_path / frames.GOLDEN).write_text(json.dumps(golden_with(change, step)))
    monkeypatch.setattr(frames, "folder_of", lambda name, side: tmp_path)
    frames.golden_of.cache_clear()
    try:
        assert said in "; ".join(frames.sequence_problems("gateio", "spot"))
    finally:
        frames.golden_of.cache_clear()


def test_a_frame_that_means_something_else_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    golden = json.loads((folder_of("gateio", "exchanges") / frames.GOLDEN).read_text())
    golden["futures"]["frames"][0]["wanted"]["last"] += 1
    (tmp_path / frames.GOLDEN).write_text(json.dumps(golden))
    monkeypatch.setattr(frames, "folder_of", lambda name, side: tmp_path)
    frames.golden_of.cache_clear()
    try:
        said = list(frames.frame_problems("gateio", "futures"))
        assert len(said) == 2 and "the reference decoder reads" in said[0] and "the scanner reads" in said[1]
    finally:
        frames.golden_of.cache_clear()


def test_a_skeleton_is_a_dialect_that_says_what_is_not_written_yet(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = write_skeleton("acme", outside)
    assert len(written) == len({path.relative_to(outside) for path in written}) > 8
    add_root(outside)
    assert "acme" in dialect_names() and not facts_of("acme").trade
    assert run_check("acme", "spot", "parts").said == ""
    assert "has no frames of spot" in run_check("acme", "spot", "golden frames").said
    assert "has no frames of spot" in run_check("acme", "spot", "cut frames").said
    assert "has no sequence of spot" in run_check("acme", "spot", "sequence").said
    assert "is not written yet" in run_check("acme", "spot", "lists and precision").said
    assert run(["dialect", "check", "acme", "--root", str(outside), "--only", "golden frames", "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)["checks"]
    assert row["state"] == "fail" and "has no frames of spot" in row["found"]
    with pytest.raises(BadInput, match="'acme' in use"):
        write_skeleton("acme", outside)
    with pytest.raises(BadInput, match="lower-case letters"):
        write_skeleton("Acme-1", outside)
    with pytest.raises(BadInput, match="in use"):
        write_skeleton("transport", outside)


def test_what_a_half_written_dialect_raises_is_the_fault_of_one_check_with_its_place(outside: Path) -> None:
    write_skeleton("broken", outside)
    client = outside / "exchanges" / "broken" / "rest_client.py"
    client.write_text(client.read_text().replace('raise self._unwritten("instruments")', 'return {}["rows"]'))
    add_root(outside)
    line = 1 + client.read_text().splitlines().index('        return {}["rows"]')
    assert run_check("broken", "spot", "books and gaps").said == f"KeyError: 'rows' ({client}:{line})"


def test_a_pair_from_outside_passes_like_our_own(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folders of one of ours under another name and in another place: the whole way from discovery to books."""
    for side in dialects.SIDES:
        shutil.copytree(
            folder_of("bybit", side), outside / side / "elsewhere", ignore=shutil.ignore_patterns("__pycache__")
        )
        for path in (outside / side / "elsewhere").glob("*.py"):
            path.write_text(path.read_text().replace(".bybit", ".elsewhere"))
    code = run(["dialect", "check", "elsewhere", "--root", str(outside), "--only", "books and gaps", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert_contract("dialect check", found)
    assert code == 0
    assert [(row["name"], row["state"], row["found"]) for row in found["checks"]] == [("books and gaps", "ok", "")] * 2


def test_a_scenario_brings_its_dialects_and_hands_them_to_the_engine(outside: Path) -> None:
    write_skeleton("acme", outside)
    scenario = scenario_of("mexc")  # of a market like the skeleton's
    scenario["exchanges"][EXCHANGE]["dialect"] = "acme"
    server = SimExchangeServer({"dialects": [str(outside)], **scenario}, 1)

    async def config() -> dict[str, object]:
        await server.start()
        try:
            return server.engine_config("main", "paper")
        finally:
            await server.stop()

    loaded = config_from_mapping(asyncio.run(config()))
    assert (loaded.dialects, loaded.venues[0].dialect, loaded.venues[0].trade) == ((str(outside),), "acme", False)


def test_the_command_names_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dialect", "check", "acme"]) == 2
    assert "found 'acme', wanted one of binance" in capsys.readouterr().err
    assert run(["dialect", "check", "mexc", "--only", "luck"]) == 2
    assert "--only: found 'luck', wanted one of" in capsys.readouterr().err
    assert run(["dialect", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["dialects"]
    assert set(rows) == set(dialect_names()) and rows["mexc"]["trade"] is True
