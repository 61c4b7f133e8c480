"""What earlier runs left open where a configuration sends no orders any more, and the way out that is named."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.execution.events import Command, CommandKind
from pipeline.model.config import EngineConfig
from pipeline.model.errors import ConfigInvalid
from tests.worlds.execution_starts import held_world
from tests.worlds.execution_world import Faults
from workers.executor.earlier_runs import check_traded


def test_what_an_operator_has_taken_over_keeps_its_exchange_until_it_is_handed_back() -> None:
    world = held_world()
    recovery_id = str(world.core.recovery.get_active_recoveries()[0]["recovery_id"])
    world.feed(Command(CommandKind.CANCEL_RECOVERY, recovery_id, "mine"))
    with pytest.raises(ConfigInvalid) as refused:
        check_traded(world.core.ledger, EngineConfig())
    assert "`arb recoveries --approve ID`" in str(refused.value)
    world.faults = Faults()
    world.venues["gateio_spot"].bid = world.venues["mexc_spot"].bid = Decimal("99.90")
    world.feed(Command(CommandKind.APPROVE, recovery_id, "hand it back"))
    world.run(2000)
    assert not world.core.ledger.open_operations and not world.core.ledger.unsettled
    check_traded(world.core.ledger, EngineConfig())
