"""Money that is set aside: kept from new risk, never from the way out; listed, released, and remembered."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.execution.events import Command, CommandKind
from pipeline.model.config import HedgeConfig, HedgeExitConfig
from pipeline.model.errors import BadInput
from pipeline.trade_state import InventoryCover
from tests.worlds.execution_starts import Operator, half_filled, ready_world
from tests.worlds.execution_world import World
from workers.executor.set_aside import FILE_NAME, UNREADABLE_NAME, read_set_aside

D = Decimal


def put_everything_aside(world: World) -> None:
    """Every balance of every venue, and what comes."""
    for venue, asset in world.core.balances.totals():
        world.core.balances.set_aside(f"{venue} {asset}", venue, asset, D(1_000_000))


def test_a_hedge_is_closed_with_what_is_set_aside() -> None:
    never = HedgeConfig(exit=HedgeExitConfig(max_loss_bps=D(100_000)))
    world = ready_world(detection={"hedge": never})
    world.feed(world.offer("gateio_spot", "gateio_futures", D(1)))
    world.run(300)
    assert len(world.core.ledger.hedges) == 1
    put_everything_aside(world)
    world.feed(Command(CommandKind.CLOSE_HEDGES, "", "test"))
    world.run(1000)
    assert not world.core.ledger.hedges


def test_a_broken_leg_is_repaired_with_what_is_set_aside() -> None:
    world = ready_world(2)
    half_filled(world)
    put_everything_aside(world)
    world.run(5000)
    assert not world.core.ledger.open_operations
    assert not {asset for asset, left in world.core.positions.delta().items() if left and asset != "USDT"}


def test_what_is_set_aside_is_no_cover_of_entries_and_stands_among_the_reasons(tmp_path: Path) -> None:
    world = ready_world()
    operator = Operator(world, tmp_path)
    usable = world.core.balances.usable("mexc_spot", "USDT")
    operator.ask("set_aside", name="my rent", venue="mexc_spot", asset="USDT", amount=str(usable))
    assert not operator.reasons(), "it degrades nothing by itself"
    cover = InventoryCover(world.core)
    cover.look(world.core.context.instruments)
    assert any("mexc_spot: too little USDT to buy" in reason.what for reason in cover.reasons())
    (reason,) = [r for r in operator.all_reasons() if "my rent" in r.what]
    assert reason.solve == "arb balance --release 'my rent'"
    assert operator.ask("balances")["set_aside"] == {
        "my rent": {"venue": "mexc_spot", "asset": "USDT", "amount": usable}
    }
    operator.ask("release", name="my rent")
    assert not [r for r in operator.all_reasons() if "my rent" in r.what]
    assert world.core.balances.usable("mexc_spot", "USDT") == usable


def test_an_amount_may_be_raised_under_its_name_up_to_what_is_there(tmp_path: Path) -> None:
    world = ready_world()
    operator, balances = Operator(world, tmp_path), world.core.balances
    usable = balances.usable("mexc_spot", "USDT")
    place = {"name": "a", "venue": "mexc_spot", "asset": "USDT"}
    operator.ask("set_aside", **place, amount=str(usable - 1))
    operator.ask("set_aside", **place, amount=str(usable))
    assert balances.usable("mexc_spot", "USDT") == 0
    with pytest.raises(BadInput):
        operator.ask("set_aside", **place, amount=str(usable + 1))
    with pytest.raises(BadInput):
        operator.ask("set_aside", **{**place, "name": "b"}, amount="1")
    assert read_set_aside(tmp_path) == ({"a": ("mexc_spot", "USDT", usable)}, "")


def test_what_the_disk_refuses_is_not_in_force(tmp_path: Path) -> None:
    world = ready_world()
    operator, balances = Operator(world, tmp_path), world.core.balances
    place = {"name": "a", "venue": "mexc_spot", "asset": "USDT", "amount": "5"}
    operator.ask("set_aside", **place)
    (tmp_path / FILE_NAME).with_suffix(".tmp").mkdir()  # nothing can be written anew
    for op, fields in (("set_aside", {**place, "amount": "6"}), ("release", {"name": "a"})):
        control = operator.control()
        with pytest.raises(OSError):
            operator.ask_of(control, op, **fields)
        assert balances.set_asides == {"a": (("mexc_spot", "USDT"), D(5))}


def test_a_file_that_cannot_be_read_is_said_and_kept(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b'{"a":["mexc_spot","USDT"')
    said: list[tuple[str, str]] = []
    operator = Operator(ready_world(), tmp_path)
    control = operator.control(lambda level, text: said.append((level, text)))
    assert [level for level, _ in said] == ["critical"] and FILE_NAME in said[0][1]
    assert (tmp_path / FILE_NAME).read_bytes() == b'{"a":["mexc_spot","USDT"'
    operator.ask_of(control, "set_aside", name="b", venue="mexc_spot", asset="USDT", amount="1")
    assert (tmp_path / UNREADABLE_NAME).read_bytes() == b'{"a":["mexc_spot","USDT"'
    assert read_set_aside(tmp_path) == ({"b": ("mexc_spot", "USDT", D(1))}, "")
