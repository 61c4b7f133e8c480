"""What keeps money from being looked after is a note for some seconds, and then a reason."""

from __future__ import annotations

from pathlib import Path

from pipeline.execution.events import Now
from pipeline.trade_state import LASTS_NS, Effect, Lasting, executor_reasons
from tests.worlds.execution_starts import Operator, ready_world


def test_an_account_that_differs_and_a_row_that_cannot_be_read_degrade_where_they_last(tmp_path: Path) -> None:
    world = ready_world()
    operator = Operator(world, tmp_path)
    account = world.core.recovery.account
    account.doubt("mexc_spot", "BTC")
    account.unreadable.polled(["gateio_futures"], [("gateio_futures", "BTC_USDT")])
    notes = {reason.what: reason for reason in operator.all_reasons()}
    assert [*notes] == [
        "gateio_futures BTC_USDT: its position cannot be read: no entries there",
        "mexc_spot BTC: account and ledger differ: no entries there",
    ]
    assert all(note.effect is Effect.NOTE and "by itself" in note.solve for note in notes.values())
    seen = Lasting()

    def effects(before: Lasting) -> dict[tuple[str, ...], Effect]:
        found = executor_reasons(world.core, None, before)
        return {reason.venues: reason.effect for reason in found if reason.what in notes}

    shown = [("gateio_futures",), ("mexc_spot",)]
    assert effects(seen) == dict.fromkeys(shown, Effect.NOTE)
    world.core.context.now = Now(world.now_ns + LASTS_NS, world.now().wall_ns)
    assert effects(seen) == dict.fromkeys(shown, Effect.DEGRADES)
    assert effects(Lasting()) == dict.fromkeys(shown, Effect.NOTE), "seen for the first time"
    account.unreadable.polled(["gateio_futures"], [])
    world.run(5000)
    assert not operator.all_reasons(), "both end when the venue says so"
    assert effects(seen) == {}
    account.doubt("mexc_spot", "BTC")
    assert effects(seen) == {("mexc_spot",): Effect.NOTE}, "it begins anew"
