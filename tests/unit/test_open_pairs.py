"""Whatever keeps every pair from being entered: an instance in which nothing can be traded is never ready."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.execution.events import Now
from pipeline.model.config import LimitConfig
from pipeline.model.enums import InstrumentKind, OpportunityType, TradingStatus
from pipeline.model.instruments import QUARANTINED, InstrumentRow
from pipeline.model.structs import CoinIdentity
from pipeline.open_pairs import directions
from pipeline.trade_state import LASTS_NS, Effect, InventoryCover, Lasting, Reason, executor_reasons
from tests.worlds.execution_starts import Operator, ready_world
from tests.worlds.execution_world import World

CLOSED = CoinIdentity(asset="BTC", networks=(("btc", ""),), deposit_enabled=False, withdraw_enabled=False)


def spots(world: World, **changes: Any) -> None:
    """Rows of all spot instruments as the catalogue publishes them anew."""
    rows = [row for row in world.core.context.instruments if row.spec.kind is InstrumentKind.SPOT]
    world.core.context.instruments.update(
        msgspec.structs.replace(row, spec=msgspec.structs.replace(row.spec, **changes)) for row in rows
    )


def quarantine(world: World) -> None:
    rows = list(world.core.context.instruments)
    world.core.context.instruments.update(
        msgspec.structs.replace(row, pair_id=QUARANTINED, quarantine_reason="test") for row in rows
    )


def no_rows(world: World) -> None:
    world.core.context.instruments._rows.clear()


def block(world: World) -> None:
    halt = world.core.context.halt
    spot_ids = {row.venue_id for row in world.rows if row.spec.kind is InstrumentKind.SPOT}
    halt.venue_blocked = lambda venue_id: venue_id in spot_ids  # type: ignore[method-assign]


def switch_off(world: World) -> None:
    off = {venue: LimitConfig(enabled=False) for venue in ("mexc_spot", "gateio_spot")}
    limits = msgspec.structs.replace(world.core.config.risk_limits, per_venue=off)
    world.core.reconfigure(msgspec.structs.replace(world.core.config, risk_limits=limits))


def one_kind(world: World) -> None:
    """The only kind that is looked for lacks its venues."""
    world.core.risk.gate.enabled_types = frozenset({OpportunityType.SPOT_SPOT})
    row = next(row for row in world.core.context.instruments if row.spec.venue == "mexc_spot")
    halted = msgspec.structs.replace(row.spec, status=TradingStatus.HALTED)
    world.core.context.instruments.update([msgspec.structs.replace(row, spec=halted)])


@pytest.mark.parametrize(
    ("close", "what", "solve"),
    [
        (
            lambda w: spots(w, status=TradingStatus.HALTED),
            "2 halted (mexc_spot BTCUSDT, gateio_spot",
            "venue",
        ),
        (lambda w: spots(w, ending=True), "2 whose trading ends", "arb symbols add"),
        (lambda w: spots(w, identity=CLOSED), "2 with deposits or withdrawals closed", "when the venue opens them"),
        (quarantine, "3 in quarantine", "arb symbols list"),
        (block, "2 blocked", "arb resume --reason R"),
        (switch_off, "1 disabled by risk_limits of gateio_spot", "arb config reload"),
        (no_rows, "no instrument is listed", "arb symbols add"),
        (one_kind, "1 halted (mexc_spot BTCUSDT)", "venue"),
    ],
)
def test_an_instance_in_which_no_pair_can_be_entered_is_stopped(
    tmp_path: Path, close: Callable[[World], None], what: str, solve: str
) -> None:
    world = ready_world()
    operator = Operator(world, tmp_path)
    assert operator.state() == "ready"
    close(world)
    (reason,) = [one for one in operator.all_reasons() if one.effect is Effect.STOPS]
    assert reason.what.startswith("nothing can be traded: ") and what in reason.what
    assert solve in reason.solve
    assert operator.state() == "stopped"


def test_a_pair_that_can_be_entered_keeps_it_ready(tmp_path: Path) -> None:
    world = ready_world()
    row = next(row for row in world.core.context.instruments if row.spec.venue == "mexc_spot")
    halted = msgspec.structs.replace(row.spec, status=TradingStatus.HALTED)
    world.core.context.instruments.update([msgspec.structs.replace(row, spec=halted)])
    assert Operator(world, tmp_path).state() == "ready", "the other exchange hedges"


def venues(found: list[tuple[InstrumentRow, InstrumentRow]]) -> set[tuple[str, str]]:
    return {(buy.spec.venue, sell.spec.venue) for buy, sell in found}


def test_a_venue_that_takes_one_side_only_is_in_no_direction_of_the_other() -> None:
    world = ready_world()
    everywhere = venues(list(directions(world.core)))
    assert len(everywhere) == 6
    spots(world, status=TradingStatus.BUY_ONLY)
    assert venues(list(directions(world.core))) == {
        ("mexc_spot", "gateio_futures"),
        ("gateio_spot", "gateio_futures"),
    }


def stops(world: World, seen: Lasting, later_ns: int = 0) -> list[Reason]:
    world.core.context.now = Now(world.now_ns + later_ns, world.now().wall_ns)
    found = executor_reasons(world.core, None, seen)
    return [reason for reason in found if reason.what.startswith("nothing can be traded")]


def test_books_of_all_pairs_that_are_not_proved_stop_where_it_lasts() -> None:
    world, seen = ready_world(), Lasting()
    assert stops(world, seen) == []
    world.blind = True
    (note,) = stops(world, seen)
    assert note.effect is Effect.NOTE and "3 without a book that is proved current" in note.what
    (reason,) = stops(world, seen, LASTS_NS)
    assert reason.effect is Effect.STOPS and "shows the feeds" in reason.solve
    world.blind = False
    assert stops(world, seen, LASTS_NS) == []
    world.blind = True
    (note,) = stops(world, seen, LASTS_NS)
    assert note.effect is Effect.NOTE, "it begins anew"


def test_a_venue_that_has_never_shown_the_quote_coin_trades_what_it_has() -> None:
    """MEXC lists what is not zero: coins to sell, and no row of USDT."""
    world, seen = ready_world(), Lasting()
    del world.core.balances._rows["mexc_spot", "USDT"]
    assert stops(world, seen) == [] and stops(world, seen, LASTS_NS) == []


def test_accounts_that_are_not_read_yet_are_no_lack_of_money() -> None:
    """Right after a start of the executor nothing is known of what is there: nothing has to be moved."""
    world = ready_world()
    balances = world.core.balances
    cover = InventoryCover(world.core)
    read, balances._rows = balances._rows, {}
    cover.look(world.core.context.instruments)
    (reason,) = cover.reasons()
    assert reason.what == "accounts of gateio_futures, gateio_spot, mexc_spot are not read yet"
    assert (reason.effect, "balance" in reason.solve) == (Effect.STOPS, False)
    balances._rows = {key: row for key, row in read.items() if key[0] != "mexc_spot"}
    cover.look(world.core.context.instruments)
    assert not [one for one in cover.reasons() if one.what.startswith("mexc_spot")], "not known is not too little"
    balances._rows = read
    cover.look(world.core.context.instruments)
    assert cover.reasons() == []
