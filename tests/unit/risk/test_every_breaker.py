"""Every breaker and hold that the code can trip: seen by its reason, solved by the requests of the commands alone.

``TRIPS`` has one way to trip each name; a name in the source without one fails the test. A solved world takes
opportunities again, and nothing of it stays open, so that a drain ends.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
import typer
from typer.core import TyperGroup

from pipeline.exchanges.base import SessionState
from pipeline.execution.events import CatalogueChanged, Command, CommandKind
from pipeline.model.config import HedgeConfig, HedgeExitConfig
from pipeline.model.enums import Refusal
from pipeline.model.errors import BadInput
from pipeline.risk.breakers import fee_breaker, solve, venue_breaker
from pipeline.trade_state import TradeState, executor_reasons
from tests.paths import REPO
from tests.worlds.execution_starts import (
    ADOPTED,
    TRIPS,
    Operator,
    mended,
    naked,
    ready_world,
    reported_fill,
    sent_order,
)
from tests.worlds.execution_world import Faults, World, make_config
from tests.worlds.named_commands import unknown_in
from workers.audit_log import FILE_NAME as AUDIT
from workers.cli.app import app


@pytest.mark.parametrize(
    ("asset", "ppm", "trips"), [("USDT", 60, True), ("GT", 50, True), ("USDT", 50, False), ("USDT", -50, False)]
)
def test_the_fee_of_what_has_rested_is_judged_by_the_rate_of_makers(asset: str, ppm: int, trips: bool) -> None:
    """Repairs rest: a dearer rate of theirs, or a coin that nobody has named, would be paid again and again."""
    world = ready_world()
    order = sent_order(world)
    row = world.core.context.instruments.find(order.intent.venue, order.intent.symbol)
    assert row is not None
    spec = msgspec.structs.replace(row.spec, maker_fee_ppm=50, taker_fee_ppm=1000)
    world.feed(CatalogueChanged((msgspec.structs.replace(row, spec=spec),)))
    worth = order.intent.qty * order.intent.price
    reported_fill(world, order, is_maker=True, fee=worth * ppm / 1_000_000, fee_asset=asset)
    assert (fee_breaker("mexc_spot", order.intent.symbol) in world.core.ledger.breakers) is trips


def test_what_stood_alone_before_a_rearm_is_not_counted_again_after_a_restart() -> None:
    world = naked()
    world.run(2000)
    world.feed(Command(CommandKind.REARM, "naked_exposure", "looked at it"))
    world.kill()
    world.run(100)
    assert world.core.risk.naked.usd_s < 20 and "naked_exposure" not in world.core.ledger.breakers


def constant(path: Path, node: ast.expr) -> str:
    """The value of a name that a module of the engine has."""
    module = importlib.import_module(".".join(path.relative_to(REPO).with_suffix("").parts))
    value = getattr(module, ast.unparse(node))
    assert isinstance(value, str), f"{path}: {ast.unparse(node)}"
    return value


def calls() -> Iterator[tuple[Path, str, list[ast.expr]]]:
    """(file, name without its object, arguments) of every call in the engine."""
    for path in [*(REPO / "pipeline").rglob("*.py"), *(REPO / "workers").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path, ast.unparse(node.func).rpartition(".")[2], node.args


def names_in_the_source() -> set[str]:
    """First argument of every ``trip(`` in the engine; a computed part becomes ``*``."""
    found = set()
    for path, called, arguments in calls():
        if called == "LossBeyond":  # pipeline/risk/worth.py: its breaker is what ``trip(loss.breaker`` names
            found.add(constant(path, arguments[1]))
        if called != "trip":
            continue
        name = arguments[0]
        if isinstance(name, ast.Constant):
            found.add(str(name.value))
        elif isinstance(name, ast.JoinedStr):
            found.add("".join(str(p.value) if isinstance(p, ast.Constant) else "*" for p in name.values))
        elif isinstance(name, ast.Name):
            found.add(constant(path, name))
        elif isinstance(name, ast.Call):
            maker = getattr(importlib.import_module("pipeline.risk.breakers"), ast.unparse(name.func))
            found.add(maker(*"*" * len(name.args)))
        else:  # kept over a lost journal, and the first loss beyond its limit
            assert ast.unparse(name) in ("breaker.name", "loss.breaker"), f"{path}: {ast.unparse(name)}"
    return found


def test_the_names_are_read_from_the_source() -> None:
    assert {"overfill", "venue.*", "recovery_hold", "daily_loss", "total_loss", "unknown_past"} <= names_in_the_source()


def test_what_solves_a_breaker_are_commands_with_their_options_and_in_the_readme() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    for name in names_in_the_source():
        commands = re.findall(r"arb ([a-z]+(?: --[a-z]+(?: [\w.*]+)?)*)", solve(name))
        assert commands, f"nothing solves {name}"
        for command in commands:
            assert not unknown_in(command, root), (name, command)
            assert f"`arb {command.partition(' ')[0]}" in readme, (name, command)


def test_every_name_in_the_source_is_tripped_here() -> None:
    tripped = [name for _, name in TRIPS]
    for pattern in names_in_the_source():
        wanted = re.compile(re.escape(pattern).replace(r"\*", ".+"))
        assert any(wanted.fullmatch(name) for name in tripped), f"no test trips {pattern}"


@pytest.mark.parametrize(("trip", "name"), TRIPS, ids=[name for _, name in TRIPS])
def test_a_breaker_is_seen_and_solved_by_the_commands(trip: Callable[[], World], name: str, tmp_path: Path) -> None:
    world = trip()
    operator = Operator(world, tmp_path)
    assert name in world.core.ledger.breakers
    assert any(what.startswith(f"breaker {name}: ") for what in operator.reasons())
    unexplained = {"unknown_past", "second_engine", "unexplained_loss", "overfill", "bad_fill"}
    halted = not unexplained.isdisjoint(world.core.ledger.breakers)
    assert operator.state() in ({TradeState.HALTED} if halted else {TradeState.STOPPED, TradeState.DEGRADED})
    (row,) = [row for row in operator.ask("breakers")["breakers"] if row["name"] == name]
    command = "arb resume --adopt" if name in ADOPTED else f"--rearm {name}"
    assert row["reason"] and row["since_wall_ns"] and command in row["solve"]
    op, solved = ("adopt", {}) if name in ADOPTED else ("rearm", {"name": name})
    with pytest.raises(BadInput, match="reason"):
        operator.ask(op, **solved)
    if name in ADOPTED:
        with pytest.raises(BadInput, match="--adopt"):
            operator.ask("rearm", name=name, reason="a re-arm is not enough")
    assert name in world.core.ledger.breakers, "nothing is re-armed without a reason"
    world.faults = Faults()
    mended(world, name)
    assert operator.ask(op, reason="looked at it", **solved)
    assert name not in world.core.ledger.breakers
    world.calm(40_000)  # longer than a movement may wait for an execution that is listed late
    for other in list(world.core.ledger.breakers):  # what the same cause has tripped besides
        operator.ask("rearm", name=other, reason="looked at it too")
    world.calm(20_000)
    assert not world.core.ledger.open_operations and world.core.idle, "a drain ends"
    assert operator.reasons() == [] and operator.state() is TradeState.READY
    world.refusals.clear()
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    assert world.refusals == [] and world.core.ledger.open_operations, "it trades again"
    lines = [msgspec.json.decode(line) for line in (tmp_path / AUDIT).read_bytes().splitlines()]
    assert (lines[0]["op"], lines[0].get("name", name), lines[0]["reason"]) == (op, name, "looked at it")


def test_reducing_is_shown_while_it_lasts(tmp_path: Path) -> None:
    world = ready_world(2)
    operator = Operator(world, tmp_path)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.venues["gateio_spot"].bid = Decimal("90")
    for _ in range(20):
        if world.venues["mexc_spot"].fills:
            break
        world.run(0.5)
    world.faults = Faults(no_fill=1.0)
    for _ in range(400):
        world.run(10)
        if any(what.startswith("reducing") for what in operator.reasons()):
            break
    assert operator.state() is TradeState.STOPPED
    assert any(what.startswith("reducing: operation ") for what in operator.reasons())


def test_lease_journal_and_venues_have_their_reasons(tmp_path: Path) -> None:

    world = ready_world()
    operator = Operator(world, tmp_path)
    assert operator.reasons() == []
    world.lease_ns = world.now_ns
    assert any("no lease" in what for what in operator.reasons())
    world.lease_ns = 2**62
    world.journal_room = False
    assert any("journal has no room" in what for what in operator.reasons())
    world.journal_room = True
    world.feed(SessionState(venue="mexc_spot", state="down", recv_mono_ns=world.now_ns, reason="test"))
    assert operator.reasons() == ["venue mexc_spot: no order entry, private stream down"]
    assert operator.state() is TradeState.DEGRADED, "the other two venues trade"
    assert [reason.venues for reason in executor_reasons(world.core)] == [("mexc_spot",)]
    world.feed(SessionState(venue="gateio_spot", state="down", recv_mono_ns=world.now_ns, reason="test"))
    assert operator.state() is TradeState.STOPPED, "one venue alone is nothing"


def test_a_venue_paused_by_its_budget_is_a_note(tmp_path: Path) -> None:
    world = ready_world()
    operator = Operator(world, tmp_path)
    world.core.risk.gate.order_budget = lambda venue, count: venue != "mexc_spot"
    world.core.context.now = world.now()
    assert operator.reasons() == []
    notes = [reason.what for reason in executor_reasons(world.core)]
    assert notes == ["venue mexc_spot: paused by its request limit"]
    world.core.risk.gate.order_budget = lambda venue, count: False
    assert operator.state() is TradeState.STOPPED


def test_breakers_on_all_venues_that_trade_stop(tmp_path: Path) -> None:
    world = ready_world()
    operator = Operator(world, tmp_path)
    world.core.context.trip(venue_breaker("mexc_spot"), "test")
    assert operator.state() is TradeState.DEGRADED, "the other two venues trade"
    world.core.context.trip(venue_breaker("gateio_futures"), "test")
    assert operator.state() is TradeState.STOPPED, "one venue alone is nothing"
    world.core.context.trip(venue_breaker("gateio_spot"), "test")
    assert operator.state() is TradeState.STOPPED


def test_breakers_and_a_venue_that_is_away_together_stop(tmp_path: Path) -> None:
    world = ready_world()
    operator = Operator(world, tmp_path)
    world.core.context.trip(fee_breaker("mexc_spot", "BTCUSDT"), "test")
    assert operator.state() is TradeState.DEGRADED
    world.feed(SessionState(venue="gateio_spot", state="down", recv_mono_ns=world.now_ns, reason="test"))
    assert operator.state() is TradeState.STOPPED


def test_a_coin_at_its_position_limit_is_a_note_until_a_hedge_closes(tmp_path: Path) -> None:
    never = HedgeConfig(exit=HedgeExitConfig(max_loss_bps=Decimal(100_000)))
    limits = {"max_position_size_usd": Decimal(150)}
    world = World(9, config=make_config(detection={"hedge": never}, limits=limits))
    operator = Operator(world, tmp_path)

    def notes() -> list[str]:
        world.core.context.now = world.now()
        return [reason.what for reason in executor_reasons(world.core) if "position limit" in reason.what]

    world.run(100)
    world.feed(world.offer("gateio_spot", "gateio_futures", Decimal(1)))
    world.run(1000)
    assert len(world.core.ledger.hedges) == 1 and notes() == []
    world.feed(world.offer("mexc_spot", "gateio_spot", Decimal(1)))
    assert world.refusals[-1] is Refusal.POSITION_LIMIT
    assert notes() == ["BTC on gateio_spot is at its position limit (max_position_size_usd 150)"]
    assert operator.state() is TradeState.READY
    world.feed(Command(CommandKind.CLOSE_HEDGES, "", "test"))
    world.run(1000)
    assert not world.core.ledger.hedges and notes() == []


def test_exposure_at_its_limit_is_a_note_until_a_hedge_closes(tmp_path: Path) -> None:
    never = HedgeConfig(exit=HedgeExitConfig(max_loss_bps=Decimal(100_000)))
    world = World(9, config=make_config(detection={"hedge": never}, limits={"max_total_exposure_usd": Decimal(150)}))
    operator = Operator(world, tmp_path)

    def notes() -> list[str]:
        return [reason.what for reason in operator.all_reasons() if "at its limit" in reason.what]

    world.run(100)
    world.feed(world.offer("gateio_spot", "gateio_futures", Decimal(1)))
    world.run(1000)
    assert len(world.core.ledger.hedges) == 1 and notes() == []
    world.feed(world.offer("mexc_spot", "gateio_spot", Decimal(1)))
    assert world.refusals[-1] is Refusal.EXPOSURE_LIMIT
    assert notes() == ["exposure is at its limit (max_total_exposure_usd 150)"]
    assert operator.state() is TradeState.READY
    world.feed(Command(CommandKind.CLOSE_HEDGES, "", "test"))
    world.run(1000)
    assert not world.core.ledger.hedges and notes() == []
