"""The loss of a UTC day: one definition, seen beside its limit; what its breaker shows as its solution solves it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from pipeline.execution.results.coin_holding import CoinHolding
from pipeline.execution.settled import retirement
from pipeline.model.config import CanaryConfig, EngineConfig, HedgeConfig, HedgeExitConfig
from pipeline.model.config_reload import reload_changes
from pipeline.model.enums import Refusal
from pipeline.model.errors import BadInput
from pipeline.model.units import NS_PER_DAY, NS_PER_S
from pipeline.risk.breakers import DAILY_LOSS, TOTAL_LOSS
from pipeline.risk.day_opening import ForeignLook, OpenAtMidnight, Valued
from pipeline.risk.worth import Worth
from tests.worlds import execution_world
from tests.worlds.execution_starts import Operator
from tests.worlds.execution_world import World, make_config
from tests.worlds.venue_model import START_NS, WALL_OFFSET_NS
from workers.executor.publisher import Publisher
from workers.executor_file import read_executor_state, write_executor_state
from workers.view.status_text import loss_line

D = Decimal
NEVER = {"hedge": HedgeConfig(exit=HedgeExitConfig(max_loss_bps=D(100_000)))}  # no loss is a reason to leave
LIMIT = D(3)
WIDE = CanaryConfig(
    max_daily_loss_usd=LIMIT, max_notional_usd=D(10_000), max_total_exposure_usd=D(50_000), max_open_operations=8
)
PLAIN = make_config(detection=NEVER, limits={"max_daily_loss_usd": LIMIT})
BY_DAY = make_config(detection=NEVER, limits={"max_daily_loss_usd": LIMIT, "max_total_loss_usd": D(1000)})
CANARY = make_config(detection=NEVER, canary=WIDE)
BEFORE_MIDNIGHT_S = 40


@pytest.fixture(autouse=True)
def late(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every world begins shortly before 00:00 UTC."""
    midnight = -(-(START_NS + WALL_OFFSET_NS) // NS_PER_DAY) * NS_PER_DAY - WALL_OFFSET_NS
    monkeypatch.setattr(execution_world, "START_NS", midnight - BEFORE_MIDNIGHT_S * NS_PER_S)
    yield


def price(world: World, venue: str, mid: str) -> None:
    """The venue's market stands there, a cent wide."""
    world.venues[venue].bid, world.venues[venue].ask = D(mid) - D("0.005"), D(mid) + D("0.005")


def hedged(config: EngineConfig) -> World:
    """One hedge of one coin: long spot, short futures."""
    world = World(9, config=config.as_canary())
    world.run(100)
    world.feed(world.offer("gateio_spot", "gateio_futures", D(1)))
    world.run(1500)
    assert len(world.core.ledger.hedges) == 1 and not world.core.ledger.breakers
    return world


def loses(world: World, usd: int = 10) -> None:
    """The open hedge loses so much, by the price of its contract."""
    mid = (world.venues["gateio_futures"].bid + world.venues["gateio_futures"].ask) / 2
    price(world, "gateio_futures", str(mid + usd))


def realised(world: World) -> None:
    """A loss that is booked."""
    ledger = world.core.ledger
    ledger.day, ledger.day_pnl = world.now().wall_ns // NS_PER_DAY, ledger.day_pnl - 10
    ledger.total_pnl -= 10


def worth(world: World) -> Worth:
    return world.core.risk.gate.worth


def over_midnight(world: World) -> None:
    day = world.now().wall_ns // NS_PER_DAY
    while world.now().wall_ns // NS_PER_DAY == day:
        world.run(1000)
    world.run(2000)


def raise_shown(world: World, own: EngineConfig, shown: str) -> None:
    """The setting that ``shown`` names is raised in the configuration that an operator wrote, and it is reloaded."""
    found = re.match(r"raise (\w+)\.(\w+)", shown)
    assert found is not None, shown
    section = msgspec.structs.replace(getattr(own, found[1]), **{found[2]: D(100)})
    wanted = msgspec.structs.replace(own, **{found[1]: section}).as_canary()
    assert reload_changes(world.core.config, wanted)
    world.core.reconfigure(wanted)


@pytest.mark.parametrize("way", ["raise", "wait for 00:00 UTC"])
@pytest.mark.parametrize("config", [PLAIN, CANARY], ids=["own", "canary"])
@pytest.mark.parametrize("loss", [loses, realised], ids=["open", "realised"])
def test_what_the_breaker_of_the_day_shows_solves_it(
    loss: object, config: EngineConfig, way: str, tmp_path: Path
) -> None:
    world = hedged(config)
    operator = Operator(world, tmp_path)
    assert callable(loss)
    loss(world)
    world.run(13_000)
    (row,) = operator.ask("breakers")["breakers"]
    assert row["name"] == DAILY_LOSS and way in row["solve"]
    with pytest.raises(BadInput, match="would trip again"):
        operator.ask("rearm", name=DAILY_LOSS, reason="too early")
    assert "USD lost today" in operator.ask("rearm", name=DAILY_LOSS, reason="too early", anyway=True)["trips_again"]
    world.run(15_000)
    assert DAILY_LOSS in world.core.ledger.breakers, "nothing of what it shows was done"
    if way == "raise":
        raise_shown(world, config, row["solve"])
    else:
        over_midnight(world)
    assert "arb breakers --rearm daily_loss --reason R" in row["solve"]
    (row,) = operator.ask("breakers")["breakers"]
    assert row["solve"] == "the loss is within its limit by now: arb breakers --rearm daily_loss --reason R"
    operator.ask("rearm", name=DAILY_LOSS, reason="as it says")
    world.run(15_000)
    assert not world.core.ledger.breakers and operator.reasons() == []
    world.refusals.clear()
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    assert not world.refusals and world.core.ledger.open_operations


@pytest.mark.parametrize("config", [PLAIN, CANARY], ids=["own", "canary"])
def test_what_the_breaker_of_all_days_shows_solves_it(config: EngineConfig, tmp_path: Path) -> None:
    world = hedged(config)
    operator = Operator(world, tmp_path)
    world.core.ledger.total_pnl -= 20
    world.run(1500)
    (row,) = operator.ask("breakers")["breakers"]
    assert row["name"] == TOTAL_LOSS
    raise_shown(world, config, row["solve"])
    operator.ask("rearm", name=TOTAL_LOSS, reason="as it says")
    world.run(1500)
    assert not world.core.ledger.breakers


def test_a_new_day_counts_what_has_changed_since_it_began() -> None:
    world = hedged(make_config(detection=NEVER))
    loses(world, 10)
    world.run(2000)
    assert worth(world).day_loss() == pytest.approx(10, abs=D("0.5"))
    over_midnight(world)
    assert abs(worth(world).day_loss()) < D("0.1") and worth(world).unrealised < -9
    loses(world, 2)
    world.run(1500)
    assert worth(world).day_loss() == pytest.approx(2, abs=D("0.1"))
    assert worth(world).total_loss() > 11, "of all days nothing is forgotten"


def test_closing_what_had_lost_the_day_before_is_no_loss_of_today() -> None:
    world = hedged(make_config(detection=NEVER))
    loses(world, 10)
    over_midnight(world)
    world.core.forced_close.by_command("")
    world.run(2000)
    assert not world.core.ledger.hedges and world.core.ledger.day_pnl < -9
    assert abs(worth(world).day_loss()) < D("0.2"), "spread and fees of the exit"


def test_what_a_hedge_had_gained_when_the_day_began_leaves_with_the_part_that_leaves() -> None:
    ledger = hedged(make_config(detection=NEVER)).core.ledger
    ((name, hedge),) = ledger.hedges.items()
    found, had = OpenAtMidnight(ledger), {name: Valued(1, D(10), hedge.qty)}
    found.begin(1, 1, {}, None)
    found.begin(2, 2, had, ForeignLook({"coins": (D(1), D(7))}, {}, {"USDT": D(3)}))
    for share in (D(1), D("0.25"), D(0)):
        ledger.hedges.clear()
        if share:
            ledger.hedges[name] = msgspec.structs.replace(hedge, qty=hedge.qty * share)
        assert (found.of_open({name}), found.of_closed()) == (10 * share, 10 - 10 * share)
    assert found.of_open(set()) == 0, "what has no value now had none then"
    found.begin(1, 1, {}, ForeignLook({}, {}, {}))
    assert found.opening is not None and found.opening.day == 2
    assert (found.opening.foreign, found.opening.realised) == ({"coins": (D(1), D(7))}, {"USDT": D(3)})


def test_the_opening_of_the_day_outlives_a_restart_and_another_journal_does_not_take_it(tmp_path: Path) -> None:
    world = hedged(make_config(detection=NEVER))
    publisher = Publisher(world.core, tmp_path, lambda level, text: None)
    loses(world, 10)
    over_midnight(world)
    write_executor_state(tmp_path, publisher.state())
    world.kill()
    Publisher(world.core, tmp_path, lambda level, text: None)
    world.run(3000)
    assert abs(worth(world).day_loss()) < D("0.1")
    world.kill()  # without the file everything counts since its entry: too much, never too little
    world.run(3000)
    assert worth(world).day_loss() > 9
    state = read_executor_state(tmp_path)
    assert state is not None and state.day_opening is not None and state.day_opening.hedges
    world.entries.clear()
    world.kill()
    Publisher(world.core, tmp_path, lambda level, text: None)
    world.run(3000)
    assert worth(world).day.opening is not None and not worth(world).day.opening.hedges


@pytest.mark.parametrize("change", [10, -10], ids=["lost before", "gained before"])
def test_a_hedge_that_an_older_journal_lacks_has_not_left_today(change: int, tmp_path: Path) -> None:
    """What it had lost by midnight would leave as much room for a loss of today; what it had gained would be one."""
    world = World(9, config=make_config(detection=NEVER))
    world.run(100)
    old = list(world.entries)
    world.feed(world.offer("gateio_spot", "gateio_futures", D(1)))
    world.run(1500)
    publisher = Publisher(world.core, tmp_path, lambda level, text: None)
    loses(world, change)
    over_midnight(world)
    assert abs(worth(world).day_loss()) < D("0.1")
    write_executor_state(tmp_path, publisher.state())
    world.entries[:] = old
    world.kill()
    Publisher(world.core, tmp_path, lambda level, text: None)
    world.run(3000)
    assert not world.core.ledger.hedges and not worth(world).realised_today()
    assert not worth(world).day.of_closed() and abs(worth(world).day_loss()) < D("0.1")


@pytest.mark.parametrize("change", [10, -10], ids=["lost before", "gained before"])
def test_a_hedge_that_left_today_counts_after_a_restart_though_its_operations_left_memory(
    change: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retirement, "RETIRE_AFTER_NS", NS_PER_S)
    monkeypatch.setattr(retirement, "LOOK_EVERY_NS", NS_PER_S // 10)
    world = hedged(make_config(detection=NEVER))
    publisher = Publisher(world.core, tmp_path, lambda level, text: None)
    loses(world, change)
    over_midnight(world)
    world.core.forced_close.by_command("")
    world.run(30_000)
    ledger = world.core.ledger
    assert not ledger.hedges and not ledger.operations and ledger.retired_operations and abs(ledger.day_pnl) > 9
    before = worth(world).day_loss()
    assert abs(before) < D("0.2"), "spread and fees of the exit"
    write_executor_state(tmp_path, publisher.state())
    world.kill()
    Publisher(world.core, tmp_path, lambda level, text: None)
    world.run(3000)
    assert worth(world).day_loss() == before


def test_a_day_that_began_while_nothing_ran_counts_from_its_first_valuation(tmp_path: Path) -> None:
    world = hedged(make_config(detection=NEVER))
    publisher = Publisher(world.core, tmp_path, lambda level, text: None)
    loses(world, 10)
    world.run(1500)
    write_executor_state(tmp_path, publisher.state())
    over_midnight(world)
    world.kill()
    Publisher(world.core, tmp_path, lambda level, text: None)
    world.run(3000)
    assert abs(worth(world).day_loss()) < D("0.1") and worth(world).unrealised < -9
    loses(world, 2)
    world.run(1500)
    assert worth(world).day_loss() == pytest.approx(2, abs=D("0.1"))


def test_a_mid_of_a_moment_refuses_entries_and_trips_nothing(tmp_path: Path) -> None:
    """A side that an order of ours has emptied: for some seconds the next price is far away; then others offer
    again."""
    world = hedged(PLAIN)
    operator = Operator(world, tmp_path)
    for _ in range(3):
        good = world.venues["gateio_futures"].ask
        world.venues["gateio_futures"].ask = good + 20
        world.run(6000)
        world.refusals.clear()
        world.feed(world.offer("mexc_spot", "gateio_spot"))
        assert world.refusals == [Refusal.DAILY_LOSS]
        assert [one.what for one in operator.all_reasons() if "USD lost today" in one.what and "no entries" in one.what]
        world.venues["gateio_futures"].ask = good
        world.run(2500)
        assert not world.core.ledger.breakers
        assert operator.all_reasons() == []
    world.venues["gateio_futures"].ask += 20
    world.run(13_000)
    assert DAILY_LOSS in world.core.ledger.breakers, "it has lasted"


def test_the_loss_of_the_day_stands_beside_its_limit(tmp_path: Path) -> None:
    world = hedged(PLAIN)
    loses(world, 2)
    world.run(1500)
    losses = Publisher(world.core, tmp_path, lambda level, text: None).state().losses
    assert losses["day_loss_usd"] == worth(world).day_loss() > 1 and losses["max_daily_loss_usd"] == LIMIT
    assert world.core.risk.get_current_risk_metrics().day_loss == losses["day_loss_usd"]
    line = loss_line({"risk": losses})
    assert line.startswith(f"loss today        {losses['day_loss_usd']:.2f} USD, at most 3; ")
    assert line.endswith(" USD, at most 12") and not loss_line({"risk": {}})


def held_by_others(world: World, gained: int) -> None:
    """Others hold one coin that has gained so much at the price of now."""
    trades, key = world.core.ledger.external.trades, ("gateio_spot", "BTC")
    mid = (world.venues["gateio_spot"].bid + world.venues["gateio_spot"].ask) / 2
    trades.coins[key], trades.quotes[key] = CoinHolding(D(1), mid - gained), "USDT"


def others_lose(world: World, usd: int) -> None:
    world.core.ledger.external.trades.coins["gateio_spot", "BTC"].cost += usd


def counts_from_now(world: World) -> None:
    """What others hold has changed nothing today; what it loses from now on is a loss of today, and trips."""
    assert not worth(world).unknown and not world.core.ledger.breakers
    assert abs(worth(world).day_loss()) < D("0.1") and abs(worth(world).foreign_today) < D("0.1")
    others_lose(world, 5)
    world.run(1500)
    assert worth(world).day_loss() == pytest.approx(5, abs=D("0.1"))
    world.run(12_000)
    assert DAILY_LOSS in world.core.ledger.breakers


@pytest.mark.parametrize("gained", [60, -60])
def test_what_others_hold_and_nobody_can_value_when_the_day_begins_counts_from_its_first_value(gained: int) -> None:
    world = World(9, config=BY_DAY)
    world.run(30_000)
    world.blind = True
    world.run(7000)
    held_by_others(world, gained)
    over_midnight(world)
    assert worth(world).unknown and worth(world).day_loss() == 0
    world.run(7000)
    world.blind = False
    world.run(15_000)
    counts_from_now(world)


@pytest.mark.parametrize("gained", [60, -60])
def test_what_others_hold_counts_from_its_first_value_where_a_run_begins_the_day_before_its_books(
    gained: int, tmp_path: Path
) -> None:
    world = World(9, config=BY_DAY)
    publisher = Publisher(world.core, tmp_path, lambda level, text: None)
    world.run(2000)
    opening = worth(world).day.opening
    assert opening is not None
    opening.wall_ns = world.now().wall_ns  # of a day that began after the journal did
    write_executor_state(tmp_path, publisher.state())
    world.blind = True
    over_midnight(world)
    for _ in range(2):
        world.kill()
        publisher = Publisher(world.core, tmp_path, lambda level, text: None)
        held_by_others(world, gained)
        world.run(3000)
        assert worth(world).unknown and worth(world).day_loss() == 0
        write_executor_state(tmp_path, publisher.state())
    world.blind = False
    world.run(15_000)
    counts_from_now(world)


def test_a_gain_of_others_that_cannot_be_valued_for_a_while_is_no_loss() -> None:
    world = World(9, config=PLAIN)
    world.run(1000)
    held_by_others(world, 60)
    trades = world.core.ledger.external.trades
    trades.realised["USDT"] = D(-60)
    over_midnight(world)
    world.run(1500)
    world.blind = True
    world.run(25_000)
    assert worth(world).unknown and worth(world).day_loss() == 0
    assert not world.core.ledger.breakers, "nor one of all days"
    trades.coins["gateio_spot", "BTC"] = CoinHolding(D("0.25"), trades.coins["gateio_spot", "BTC"].cost / 4)
    trades.realised["USDT"] += 45
    world.run(1500)
    assert worth(world).foreign_today == 0, "what is realised of it was gained before"
    world.blind = False
    world.run(15_000)
    counts_from_now(world)
