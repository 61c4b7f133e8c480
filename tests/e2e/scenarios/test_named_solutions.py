"""What others and the venues do to running instances, what `arb status` says of it, and that the command that it names
solves it."""

from __future__ import annotations

import shlex

import pytest

from pipeline.execution.external_records import ExternalFillRecord
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import HedgeRecord
from pipeline.model.enums import OrderSide
from tests.worlds.instance_rig import SEEDS, Rig, answer, is_judged, reason, running, trades_again
from tests.worlds.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.campaign]

FUTURES = "gateio_futures"


def solves(rig: Rig, solve: str) -> None:
    """Gives the command that a reason names, as it is written there."""
    (at,) = [at for at in range(len(solve)) if solve.startswith("arb breakers --rearm", at)]
    words = shlex.split(solve[at:].partition(",")[0])[1:]
    assert words[-2:] == ["--reason", "R"]
    assert answer(rig, *words[:-1], "looked at it")[0] == 0


def hedges(rig: Rig) -> dict[str, HedgeRecord]:
    newest = {e.record.operation_id: e.record for e in rig.entries() if isinstance(e.record, HedgeRecord)}
    return {name: record for name, record in newest.items() if record.qty}


def foreign(rig: Rig) -> list[ExternalFillRecord]:
    return [e.record for e in rig.entries() if isinstance(e.record, ExternalFillRecord) and e.record.booked]


def folded(rig: Rig) -> Ledger:
    """What the journal says by now."""
    ledger = Ledger()
    for entry in rig.entries():
        ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
    return ledger


def other_leg_follows(rig: Rig) -> None:
    """What was taken of hedges is reduced on their other side, unless an exit under way had done that already."""
    until(lambda: any(record.taken for record in foreign(rig)), "a hedge's part")
    operations = {share.operation_id for record in foreign(rig) for share in record.taken}

    def over() -> bool:
        ledger = folded(rig)
        ended = [ledger.operations[name] for name in operations if name not in ledger.open_operations]
        return len(ended) == len(operations) and not any(operation.late for operation in ended)

    until(over, "the other leg's end")


@pytest.mark.parametrize("seed", SEEDS)
def test_an_order_of_others_stops_its_venue_until_the_command_that_status_names(seed: int) -> None:
    with running(seed=seed) as rig:
        until(lambda: bool(hedges(rig)), "an open hedge")
        held = next(iter(hedges(rig).values()))
        back = held.qty if held.spot_side is OrderSide.BUY else -held.qty
        rig.fault(kind="manual_order", venue=FUTURES, symbol=held.futures_symbol, amount=str(back))
        other_leg_follows(rig)
        found = reason(rig, f"breaker venue.{FUTURES}: order of another client")
        assert answer(rig, "status")[0] == 1
        solves(rig, found["solve"])
        assert not [name for name in rig.breakers() if name == f"venue.{FUTURES}"]
        trades_again(rig)
        is_judged(rig)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_trade_of_others_in_a_pair_of_coins_is_seen_as_both_and_adopted(seed: int) -> None:
    with running(seed=seed) as rig:
        trades_again(rig)
        rig.fault(kind="manual_order", venue="gateio_spot", symbol="ETH_BTC", amount="0.3")
        until(lambda: bool(foreign(rig)), "the notice")

        def held() -> set[str]:
            return {coin for (_, coin) in folded(rig).external.trades.coins}

        assert held() == {"ETH", "BTC"}
        solves(rig, reason(rig, "breaker venue.gateio_spot: order of another client")["solve"])
        answer(rig, "resume", "--adopt", "--reason", "bought as stock")
        until(lambda: not held(), "the coins to be stock")
        trades_again(rig)
        rig.end()
        engine, venues = rig.money()
        assert engine == venues


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_venue_settles_leaves_no_leg_and_stops_nothing(seed: int) -> None:
    with running(seed=seed) as rig:
        until(lambda: bool(hedges(rig)), "an open hedge")
        contract = next(iter(hedges(rig).values())).futures_symbol
        rule = {"kind": "reject", "target": "place", "reason": "price_band"}  # so that it cannot leave before
        rig.fault(**rule, venue=FUTURES, symbol=contract, count=0)
        rig.fault(kind="announce_delisting", venue=FUTURES, symbol=contract, delay_ms=1000, duration_ms=2000)
        other_leg_follows(rig)
        assert {record.cause for record in foreign(rig)} == {"settlement"}
        until(lambda: contract not in {h.futures_symbol for h in hedges(rig).values()}, "the hedge's end")
        assert not [text for text in rig.breakers().values() if "settlement" in text]
        is_judged(rig)
