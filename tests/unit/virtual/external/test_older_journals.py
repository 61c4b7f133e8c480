"""An older journal is put back: what it lacks is known whole before it is taken over, every leg of it is taken over
where it lies, and nothing is traded a second time. On virtual time; the simulator's ledger judges."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.execution.events import CommandKind
from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord
from pipeline.execution.journal import JournalEntry
from pipeline.execution.ledger import UNKNOWN_PAST
from pipeline.execution.market import Instruments
from pipeline.model.errors import BadInput
from pipeline.virtual.world import VirtualWorld
from tests.worlds.execution_starts import Operator
from tests.worlds.external_world import (
    CONTRACT,
    FUTURES,
    MID,
    external_world,
    hedge,
    judge,
    records,
    venue_delta,
)

D = Decimal
GATEIO, MEXC = ("gateio_spot", "BTC_USDT"), ("mexc_spot", "BTCUSDT")
LOT = D("0.0001")
HIGH = MID * D("1.006")


def traded(world: VirtualWorld, buy: str, sell: str, qty: Decimal, dear: tuple[str, str]) -> None:
    """One operation on BTC; ``dear``: the listing whose price is higher while it lasts."""
    for place in (GATEIO, MEXC, (FUTURES, CONTRACT)):
        world.market.move(*place, HIGH if place == dear else MID)
    world.run(50)
    offered = world.opportunity(buy, sell, "BTC/USDT", qty=qty)
    assert offered is not None
    fills = len(world.ledger.of_kind("fill"))
    world.feed(offered)
    assert world.run_until(lambda: len(world.ledger.of_kind("fill")) >= fills + 2, limit_ms=3000), world.refusals
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=3000)


def put_back(world: VirtualWorld, old: list[JournalEntry]) -> None:
    """The engine dies, and lives again on the older journal; nothing is dear any more."""
    world.entries[:] = old
    world.kill()
    for place in (GATEIO, MEXC, (FUTURES, CONTRACT)):
        world.market.move(*place, MID)


def without_mexc(world: VirtualWorld) -> Instruments:
    """From now on no instrument of MEXC is known; all of them as they were."""
    whole = world.core.context.instruments
    world.core.context.instruments = Instruments(row for row in whole if row.spec.venue != "mexc_spot")
    return whole


def adopts(world: VirtualWorld, folder: Path) -> list[str]:
    """The operator asks from the first moment on until it is done; what he was told meanwhile."""
    operator, refused = Operator(world, folder), list[str]()

    def done() -> bool:
        if UNKNOWN_PAST not in world.core.ledger.breakers:
            return False
        try:
            operator.ask("adopt", reason="restored from a copy")
        except BadInput as error:
            refused.append(str(error))
            return False
        return True

    assert world.run_until(done, limit_ms=60_000)
    return refused


def all_leave(world: VirtualWorld) -> None:
    """Every hedge, by command: nothing stands then, and what is said to stand is what the venue has."""
    world.run(3000)
    assert not world.core.ledger.breakers and not world.core.ledger.open_operations
    judge(world)
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(8000)
    assert not world.core.ledger.hedges and not world.core.ledger.open_operations
    assert world.position(FUTURES, CONTRACT) == 0 and abs(venue_delta(world, "BTC")) < LOT
    assert abs(world.core.positions.targets().get("BTC", D(0))) < LOT, "nothing of ours is others'"
    judge(world)


def test_a_hedge_that_left_on_another_spot_venue_is_closed_and_its_coins_are_not_sold_again(tmp_path: Path) -> None:
    """The journal's start asks that venue about no symbol: it knows of no order there."""
    world = external_world()
    hedge(world)
    old = list(world.entries)
    traded(world, FUTURES, "mexc_spot", D("0.03"), MEXC)
    assert not world.core.ledger.hedges and world.position(FUTURES, CONTRACT) == 0, "the contract was netted"
    fills = len(world.ledger.of_kind("fill"))
    put_back(world, old)
    adopts(world, tmp_path)
    all_leave(world)
    assert len(world.ledger.of_kind("fill")) == fills, "nothing was traded"
    assert {r.venue for r in records(world, ExternalFillRecord)} == {"mexc_spot", FUTURES}
    assert not [r for r in records(world, ExternalFlowRecord) if r.asset == "BTC"], "no coins moved without a trade"


@pytest.mark.parametrize("restarted", [False, True])
def test_what_an_older_journal_lacks_is_looked_for_from_its_end_on(
    restarted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long ago that was, and however late the lost run shows (here what is merely suspected is looked for in no
    time before now, from the start on); also where another venue has shown it while a sweep of what the journal knows
    was on its way, and after a restart."""
    for name in ("SUSPECT_NS", "SINCE_MARGIN_MS", "FIRST_DOUBTS_NS"):
        monkeypatch.setattr(f"pipeline.recovery.manager.{name}", 0)
    world = external_world()
    hedge(world)
    old = list(world.entries)
    traded(world, FUTURES, "mexc_spot", D("0.03"), MEXC)
    traded(world, "mexc_spot", "gateio_spot", D("0.03"), GATEIO)  # so it has left nothing but money there
    world.run(5000)
    fills = len(world.ledger.of_kind("fill"))
    world.arm(kind="delay_request", venue="mexc_spot", target="*", count=0, delay_ms=1500)
    put_back(world, old)
    if restarted:
        assert world.run_until(lambda: UNKNOWN_PAST in world.core.ledger.breakers, limit_ms=30_000)
        world.run(150_000)
        world.kill()
    adopts(world, tmp_path)
    world.faults.clear()
    all_leave(world)
    assert len(world.ledger.of_kind("fill")) == fills, "nothing was traded"
    assert len([r for r in records(world, ExternalFillRecord) if r.venue == "mexc_spot"]) == 2
    assert not [r for r in records(world, ExternalFlowRecord) if r.asset == "USDT"], "no money moved without a trade"


def test_a_restart_between_the_halt_and_the_adoption_looks_back_to_the_end_of_the_older_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One venue answers only after it, longer after the lost run than a new journal looks back."""
    for name in ("FIRST_SWEEP_MS", "LATE_MARGIN_MS"):
        monkeypatch.setattr(f"pipeline.recovery.suspect_instruments.{name}", 30_000)
    for name in ("SUSPECT_NS", "SINCE_MARGIN_MS", "FIRST_DOUBTS_NS"):
        monkeypatch.setattr(f"pipeline.recovery.manager.{name}", 0)
    world = external_world()
    hedge(world)
    old = list(world.entries)
    traded(world, FUTURES, "mexc_spot", D("0.03"), MEXC)
    traded(world, "mexc_spot", "gateio_spot", D("0.03"), GATEIO)
    world.run(5000)
    fills = len(world.ledger.of_kind("fill"))
    world.arm(kind="http_error", venue="mexc_spot", target="*", count=0)
    put_back(world, old)
    assert world.run_until(lambda: UNKNOWN_PAST in world.core.ledger.breakers, limit_ms=30_000)
    world.run(60_000)
    world.faults.clear()
    world.kill()
    adopts(world, tmp_path)
    all_leave(world)
    assert len(world.ledger.of_kind("fill")) == fills, "nothing was traded"
    assert len([r for r in records(world, ExternalFillRecord) if r.venue == "mexc_spot"]) == 2


def test_a_position_whose_coins_were_sold_on_two_venues_becomes_two_hedges(tmp_path: Path) -> None:
    world = external_world()
    old = list(world.entries)
    traded(world, FUTURES, "mexc_spot", D("0.03"), MEXC)
    traded(world, FUTURES, "gateio_spot", D("0.02"), GATEIO)
    assert world.position(FUTURES, CONTRACT) == D("0.05")
    put_back(world, old)
    adopts(world, tmp_path)
    assert {(h.spot_venue, h.qty) for h in world.core.ledger.hedges.values()} == {
        ("mexc_spot", D("0.03")),
        ("gateio_spot", D("0.02")),
    }
    all_leave(world)


@pytest.mark.parametrize("moved", [D("0.01"), D("0.03"), D("0.04")])
def test_a_position_whose_coins_have_been_traded_on_since_is_a_hedge_still(tmp_path: Path, moved: Decimal) -> None:
    """Sold on one venue, then bought back there and sold on the other: perhaps more than the hedge had."""
    world = external_world()
    old = list(world.entries)
    traded(world, FUTURES, "mexc_spot", D("0.03"), MEXC)
    traded(world, "mexc_spot", "gateio_spot", moved, GATEIO)
    put_back(world, old)
    adopts(world, tmp_path)
    assert sum(h.qty for h in world.core.ledger.hedges.values()) == D("0.03")
    all_leave(world)


def test_an_exit_whose_sale_a_trade_has_undone_on_its_venue_is_no_reason_to_sell_once_more(tmp_path: Path) -> None:
    """No venue shows the sale: a trade of the same run has bought as much there, and sold it on the other."""
    world = external_world()
    hedge(world)
    old = list(world.entries)
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(3000)
    traded(world, "gateio_spot", "mexc_spot", D("0.03"), MEXC)
    fills = len(world.ledger.of_kind("fill"))
    put_back(world, old)
    adopts(world, tmp_path)
    all_leave(world)
    assert len(world.ledger.of_kind("fill")) == fills, "nothing was traded"


def test_a_venue_whose_instruments_are_known_only_later_is_waited_for(tmp_path: Path) -> None:
    """It could not be reached at the start. What was executed there is no money that moved without a reason."""
    world = external_world()
    traded(world, "mexc_spot", "gateio_spot", D("0.01"), GATEIO)
    hedge(world)
    old = list(world.entries)
    traded(world, FUTURES, "mexc_spot", D("0.03"), MEXC)
    fills = len(world.ledger.of_kind("fill"))
    put_back(world, old)
    whole = without_mexc(world)
    world.run(10_000)
    with pytest.raises(BadInput, match=r"mexc_spot \(its instruments are not known yet\) not swept yet"):
        Operator(world, tmp_path).ask("adopt", reason="restored from a copy")
    assert not [r for r in records(world, ExternalFlowRecord) if r.venue == "mexc_spot"]
    world.core.context.instruments = whole
    adopts(world, tmp_path)
    all_leave(world)
    assert len(world.ledger.of_kind("fill")) == fills, "nothing was traded"
    assert "mexc_spot" in {r.venue for r in records(world, ExternalFillRecord)}


def test_the_halt_comes_also_from_a_venue_whose_instruments_are_not_known_yet() -> None:
    world = external_world()
    traded(world, "mexc_spot", "gateio_spot", D("0.01"), GATEIO)
    old = list(world.entries)
    traded(world, "mexc_spot", "gateio_spot", D("0.01"), GATEIO)
    world.arm(kind="http_error", venue="gateio_spot", target="finished_orders", status=500, count=0)
    world.arm(kind="http_error", venue="gateio_spot", target="trades", status=500, count=0)
    put_back(world, old)
    without_mexc(world)
    world.run(10_000)
    assert "mexc_spot" in world.core.ledger.breakers[UNKNOWN_PAST]
