"""Hedges are entered against the basis that is expected at their exit, not against one that is always there."""

from __future__ import annotations

import random
from decimal import Decimal

import msgspec
import pytest

from pipeline.economics.basis_model import BasisModel
from pipeline.execution.events import CatalogueChanged
from pipeline.execution.hedging.entry_price import UNKNOWN_MBPS
from pipeline.execution.hedging.watch import PairState
from pipeline.execution.inventory.prices import direction_key
from pipeline.execution.plan import Rejected
from pipeline.model.config import DetectionConfig, RiskLimits
from pipeline.model.enums import Refusal
from pipeline.trade_state import executor_reasons
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld

D = Decimal
SPOT, FUTURES = ("gateio_spot", "BTC_USDT"), ("gateio_futures", "BTC_USDT")
MID = D("64000")
PAIR = " ".join((*SPOT, *FUTURES))
LONG_SPOT, SHORT_SPOT = (SPOT[0], FUTURES[0]), (FUTURES[0], SPOT[0])


def standing(basis_bps: int) -> VirtualWorld:
    """A world whose contract stands so far from spot as long as anybody has looked."""
    settings = {
        "detection": DetectionConfig(cooldown_ms=5),
        "risk_limits": RiskLimits(min_profit_margin_bps=D(3), max_slippage_bps=D(50)),
    }
    world = VirtualWorld("demo", 1, settings=settings, expected_exit_basis_bps=None)
    world.open({SPOT: Quote(MID, qty=D("0.5")), FUTURES: Quote(MID, qty=D("0.5"))})
    basis(world, basis_bps)
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    return world


def basis(world: VirtualWorld, bps: float) -> None:
    world.market.move(*FUTURES, MID * (1 + D(str(bps)) / 10_000))
    world.run(20)


def price_bps(world: VirtualWorld, way: tuple[str, str]) -> float:
    buy, sell = (
        next(row.instrument_id for row in world.instruments if row.spec.venue == venue and row.spec.pair == "BTC/USDT")
        for venue in way
    )
    return world.core.direction_prices.price_bps(buy, sell)


def enter(world: VirtualWorld, way: tuple[str, str] = LONG_SPOT) -> bool:
    """Offers the direction; whether a hedge more is open afterwards."""
    before = len(world.core.ledger.hedges)
    offered = world.opportunity(*way, "BTC/USDT", qty=D("0.02"))
    assert offered is not None
    world.feed(offered)
    world.run(1500)
    return len(world.core.ledger.hedges) > before


def learn(world: VirtualWorld, mean_bps: float, sd_bps: float) -> None:
    """The pair's model has seen eleven days of a basis that reverts within an hour."""
    rng, model, away = random.Random(1), BasisModel(), 0.0
    keep = 0.5 ** (1 / 60)
    for _ in range(16_000):
        away = keep * away + rng.gauss(0.0, sd_bps * (1 - keep * keep) ** 0.5)
        model.observe(mean_bps + away)
    world.core.hedges.watch.restore({PAIR: PairState(model.state(), 0.0, 0.0)})


@pytest.mark.parametrize("bps", [15, 25, 40])
def test_a_basis_that_stands_from_the_start_is_no_edge(bps: int) -> None:
    world = standing(bps)
    for _ in range(10):
        assert not enter(world)
        world.run(20_000)
    assert world.refusals and set(world.refusals) == {Refusal.MOVED}
    assert world.position(*FUTURES) == 0


def test_a_spike_above_the_basis_that_stands_is_an_edge_before_anything_is_learned() -> None:
    world = standing(25)
    world.run(30_000)
    basis(world, 60)
    assert enter(world)


def test_a_moment_at_the_start_is_no_basis_that_another_direction_could_be_measured_by() -> None:
    world = standing(60)
    world.run(1000)
    basis(world, -4)
    for _ in range(4):
        assert not enter(world, SHORT_SPOT)
    world.run(10_000)
    assert abs(price_bps(world, LONG_SPOT)) < 30


def test_a_spike_that_stays_is_an_edge_no_more() -> None:
    world = standing(25)
    world.run(30_000)
    basis(world, 60)
    world.run(180_000)
    assert not enter(world)


def test_a_learned_basis_is_given_back_and_a_spike_above_it_is_an_edge() -> None:
    world = standing(0)
    learn(world, 15.0, 1.9)
    world.run(8000)
    for noise_bps in (13.0, 15.0, 17.0, 19.0):  # three bps and the fees of 20 are not there
        basis(world, noise_bps)
        assert not enter(world), noise_bps
    basis(world, 55)
    assert enter(world)


def test_a_basis_below_the_learned_one_is_the_other_directions_edge() -> None:
    world = standing(0)
    learn(world, 60.0, 3.0)
    world.run(8000)
    basis(world, -4)  # spot is bought back dearer than here by 60 bps, on the average
    assert enter(world, SHORT_SPOT)


def test_the_refusal_says_what_the_exit_is_expected_at() -> None:
    world = standing(40)
    offered = world.opportunity(*LONG_SPOT, "BTC/USDT", qty=D("0.02"))
    assert offered is not None
    judged = world.core.risk.validate_opportunity_risk(offered)
    assert isinstance(judged, Rejected)
    assert "of it for the basis, funding and carry that its exit is expected at" in judged.detail


def test_a_pair_that_shows_no_books_is_not_known_and_not_entered() -> None:
    world = standing(0)
    world.run(8000)
    known = price_bps(world, LONG_SPOT)
    assert abs(known) < 5
    world.stalled.add(FUTURES[0])
    world.run(180_000)
    assert price_bps(world, LONG_SPOT) == price_bps(world, SHORT_SPOT) == UNKNOWN_MBPS / 1000
    world.stalled.clear()
    basis(world, 0)
    world.run(8000)
    assert abs(price_bps(world, LONG_SPOT)) < 5


def test_the_one_answer_notes_pairs_that_are_not_known_yet() -> None:
    def not_known() -> int:
        whats = [reason.what for reason in executor_reasons(world.core)]
        notes = [what for what in whats if "spot-futures pairs take no entry" in what]
        return int(notes[0].split()[0]) if notes else 0

    world = standing(0)
    pairs = len(world.core.hedges.watch.pairs)
    assert not_known() == pairs
    world.run(8000)
    assert not_known() == pairs - 1, "no other has books in this world"
    world.stalled.add(FUTURES[0])
    world.run(180_000)
    assert not_known() == pairs


def test_a_direction_with_a_contract_that_is_no_pairs_is_not_known() -> None:
    """The row's coin is not confirmed yet: what leaving would cost is not known, and not nothing."""
    world = standing(0)
    world.run(8000)
    instruments = world.core.context.instruments
    spot, contract = instruments.find(*SPOT), instruments.find(*FUTURES)
    assert spot is not None and contract is not None
    number = max(row.instrument_id for row in instruments) + 1
    spec = msgspec.structs.replace(contract.spec, symbol="BTC_USDT_NEW")
    row = msgspec.structs.replace(contract, instrument_id=number, spec=spec, price_exp=contract.price_exp - 1)
    world.feed(CatalogueChanged((row,)))
    prices = world.core.direction_prices
    for key in ((spot.instrument_id, number), (number, spot.instrument_id)):
        assert prices.price_bps(*key) == UNKNOWN_MBPS / 1000
    assert abs(prices.price_bps(spot.instrument_id, contract.instrument_id)) < 5
    other = next(row for row in instruments if row.spec.venue == "mexc_spot")
    assert abs(prices.price_bps(spot.instrument_id, other.instrument_id)) < 1000, "inventory's own"


def test_a_restart_goes_on_with_the_model_and_looks_at_the_books_before_it_enters() -> None:
    world = standing(15)
    learn(world, 15.0, 1.9)
    world.run(8000)
    states, before = world.core.hedges.watch.states(), price_bps(world, LONG_SPOT)
    world.kill()
    world.core.hedges.watch.restore(states)
    assert price_bps(world, LONG_SPOT) == UNKNOWN_MBPS / 1000
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    world.run(8000)
    assert price_bps(world, LONG_SPOT) == pytest.approx(before, abs=0.5)


def test_what_is_written_for_the_detector_is_what_the_gate_judges_with() -> None:
    world, page, rng = standing(20), dict[int, tuple[int, int]](), random.Random(3)
    for _ in range(40):
        basis(world, rng.uniform(-40, 60))
        world.run(1000)
        for row, key, price_mbps in world.core.direction_prices.changes():
            assert page.setdefault(row, (key, price_mbps))[0] == key  # a row keeps its key
            page[row] = key, price_mbps
        assert sorted(page) == list(range(len(page)))
        for key, price_mbps in page.values():
            assert world.core.direction_prices.price_bps(*divmod(key, 4096)) == price_mbps / 1000
    ids = [row.instrument_id for row in world.instruments if row.spec.pair == "BTC/USDT"]
    keys = {key for key, _ in page.values()}
    spot = [number for number in ids if world.instruments[number].spec.venue != FUTURES[0]]
    (futures,) = (number for number in ids if number not in spot)
    assert {direction_key(number, futures) for number in spot} <= keys
