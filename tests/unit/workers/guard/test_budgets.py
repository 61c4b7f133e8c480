"""A venue counts an account's requests, whichever process sends them: the guard goes on with what the executor left."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.exchanges.factory import make_trading, make_venue
from pipeline.model.config import VenueConfig
from pipeline.model.structs import Credentials
from tests.worlds.execution_world import make_config
from workers.account_clients import KeyRole, remember_budgets

KEY = Credentials(api_key="k", api_secret="s")
VENUES = {venue.name: venue for venue in make_config().venues}


def context(process: str, folder: Path) -> Any:
    said: list[str] = []
    return SimpleNamespace(process=process, state_dir=folder, say=lambda level, text: said.append(text))


def session(venue: VenueConfig, process: str, role: KeyRole, folder: Path) -> Any:
    """An order session of a process that has just been born."""
    made: Any = make_trading(venue, KEY, lambda event: None)
    remember_budgets(context(process, folder), made, role)
    return made


@pytest.mark.parametrize("name", VENUES)
def test_a_takeover_begins_with_what_the_executor_has_left_of_its_orders(name: str, tmp_path: Path) -> None:
    dead = session(VENUES[name], "executor", KeyRole.TRADE, tmp_path)
    count = 0
    while dead._throttle.try_acquire("order"):
        count += 1
    assert count > 1
    assert not session(VENUES[name], "guard", KeyRole.GUARD, tmp_path).can_place(1)
    assert session(VENUES[name], "guard", KeyRole.TRADE, tmp_path).can_place(count), "another process's own budget"
    assert not session(VENUES[name], "executor", KeyRole.TRADE, tmp_path).can_place(1), "nor has the next executor more"


@pytest.mark.parametrize("name", VENUES)
def test_a_takeover_is_silent_where_the_venue_has_asked_the_executor_to_be(name: str, tmp_path: Path) -> None:
    for process, role in (("executor", KeyRole.TRADE), ("guard", KeyRole.GUARD)):
        client: Any = make_venue(VENUES[name], KEY)
        remember_budgets(context(process, tmp_path), client, role)
        throttle = client.transport.throttle
        silent_s = [throttle.delay_s(bucket) for bucket in throttle._buckets]
        if process == "executor":
            assert not any(silent_s)
            throttle.silence(60.0)
        else:
            assert min(silent_s) > 50
