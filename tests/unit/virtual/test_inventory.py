"""A venue that is structurally cheaper: inventory runs one way, and its price keeps both directions trading."""

from __future__ import annotations

from decimal import Decimal

from pipeline.equity_watch import EquityFigures, EquityWatch
from pipeline.execution.inventory.targets import inventory_report
from pipeline.model.config import DetectionConfig, InventoryConfig, RiskLimits, TransferConfig
from pipeline.model.enums import OrderSide
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld

D = Decimal
MID = D("64000")
CHEAPER_BPS, RETURN_BPS = D(-14), D("3.5")
CYCLES = 80
MEXC, GATEIO = "mexc_spot", "gateio_spot"


def drifting(*, priced: bool) -> tuple[VirtualWorld, EquityFigures]:
    """80 cycles of MEXC 14 bps cheaper three times, and 3.5 bps dearer once: a return loses after fees."""
    world = VirtualWorld(
        "demo",
        1,
        settings={
            "detection": DetectionConfig(types=("spot_spot",), cooldown_ms=5, inventory_price=priced),
            "risk_limits": RiskLimits(min_profit_margin_bps=D(3), max_slippage_bps=D(50)),
            "inventory": InventoryConfig(transfers={"BTC": TransferConfig(network="btc", fee=D("0.00001"))}),
        },
    )
    world.open({(venue, symbol): Quote(MID, qty=D("0.05")) for venue, symbol in LISTINGS})
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    watch = EquityWatch(world.core)
    for _ in range(2):  # coins without a book are waited for
        figures(world, watch)
        world.run(61_000)
    assert figures(world, watch) is not None
    world.finder_on = True
    for _ in range(CYCLES):
        for basis_bps in (CHEAPER_BPS, CHEAPER_BPS, CHEAPER_BPS, RETURN_BPS):
            world.market.move(GATEIO, "BTC_USDT", MID)
            world.market.move(MEXC, "BTCUSDT", MID * (1 + basis_bps / 10_000))
            world.run(700)
    world.finder_on = False
    world.market.move(MEXC, "BTCUSDT", MID)
    world.run(3000)
    assert not world.core.ledger.unsettled and not world.core.ledger.breakers
    shown = figures(world, watch)
    assert shown is not None
    return world, shown


def figures(world: VirtualWorld, watch: EquityWatch) -> EquityFigures | None:
    """What status shows now."""
    world.core.context.now = world.now()
    watch.look(world.instruments)
    return watch.figures()


LISTINGS = ((MEXC, "BTCUSDT"), (GATEIO, "BTC_USDT"))


def bought_at(world: VirtualWorld) -> list[str]:
    """Venue of the buy of every operation that filled, in order."""
    found = []
    for operation in world.core.ledger.operations.values():
        buy = next(leg for leg in operation.record.legs if leg.side is OrderSide.BUY)
        if operation.fills:
            found.append(buy.venue)
    return found


def marked(world: VirtualWorld) -> Decimal:
    """P&L of the venues' own ledger at one mark per asset, never a venue's own price."""
    marks = {"USDT": D(1), "BTC": MID}
    return sum(
        (amount * marks[asset] for row in world.ledger.changes().values() for asset, amount in row.items()), D(0)
    )


def test_a_structural_basis_is_traded_both_ways_instead_of_ending_empty() -> None:
    (world, shown), (plain, shown_plain) = drifting(priced=True), drifting(priced=False)
    priced_buys, plain_buys = bought_at(world), bought_at(plain)
    assert set(plain_buys) == {MEXC} and plain.core.balances.usable(GATEIO, "BTC") < D("0.05"), "runs empty, one way"
    late = priced_buys[len(priced_buys) // 2 :]
    assert late.count(MEXC) > 10 and late.count(GATEIO) > 10
    assert world.core.balances.usable(GATEIO, "BTC") > D("0.1")
    assert marked(world) > marked(plain) > 0
    assert (shown.daily.trading, shown_plain.daily.trading) == (marked(world), marked(plain)), "what is shown"


def test_the_report_names_targets_time_to_empty_and_transfers_that_pay() -> None:
    world, _ = drifting(priced=False)
    core = world.core
    report = inventory_report(core.balances, core.inventory_prices, core.config.inventory)
    rows = {(row.venue, row.coin): row for row in report.balances}
    at_gateio = rows[GATEIO, "BTC"]
    assert at_gateio.target is not None and at_gateio.drift is not None and at_gateio.drift < 0
    moves = {proposal.coin: proposal for proposal in report.proposals}
    coins = moves["BTC"]
    assert (coins.from_venue, coins.to_venue, coins.network) == (MEXC, GATEIO, "btc")
    assert coins.qty == -at_gateio.drift
    assert coins.cost is not None and coins.cost * 2 <= coins.worth
    dear = InventoryConfig(transfers={"BTC": TransferConfig(network="btc", fee=D(1))})
    assert inventory_report(core.balances, core.inventory_prices, dear).proposals == ()
