"""No entry where the account's modes are not known, or not as wanted; what is open there goes on."""

from __future__ import annotations

from pathlib import Path

from pipeline.execution.events import AccountSnapshot
from pipeline.model.enums import Refusal
from pipeline.trade_state import Effect
from tests.worlds.execution_starts import Operator, ready_world
from tests.worlds.execution_world import World


def said(world: World, known: bool) -> None:
    """The account poller's word of one venue."""
    world.feed(AccountSnapshot((), (), {}, settings_known={"mexc_spot": known}))


def takes(world: World) -> bool:
    world.refusals.clear()
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    return not world.refusals


def test_nothing_is_entered_before_the_first_word_of_the_account_nor_while_its_modes_are_wrong(tmp_path: Path) -> None:
    world, text = ready_world(), "account of mexc_spot: its modes are not known yet: no entries there"
    operator = Operator(world, tmp_path)
    world.core.risk.gate.settings.wait_for(["mexc_spot"])
    assert not takes(world) and world.refusals[0] is Refusal.INSTRUMENT_BLOCKED
    assert [(one.what, one.effect) for one in operator.all_reasons()] == [(text, Effect.NOTE)], "it may come at once"
    said(world, known=False)
    assert not takes(world) and operator.all_reasons() == [], "the account page has what is wrong, and its call"
    said(world, known=True)
    assert takes(world) and world.core.ledger.open_operations
