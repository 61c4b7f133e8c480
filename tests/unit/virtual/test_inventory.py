"""A venue that is structurally cheaper: inventory runs one way, and its price keeps both directions trading."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec

from pipeline.equity_watch import EquityFigures, EquityWatch
from pipeline.execution.inventory.targets import blocked_transfers, inventory_balances, transfer_proposals
from pipeline.model.config import DetectionConfig, InventoryConfig, RiskLimits, TransferConfig
from pipeline.model.enums import OrderSide
from pipeline.model.networks import CoinNetwork, CoinNetworks
from pipeline.model.structs import Balance
from pipeline.trade_state import Effect, InventoryCover
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from workers.executor.views import CoreViews
from workers.view.status_text import balance_line, short

D = Decimal
MID = D("64000")
CHEAPER_BPS, RETURN_BPS = D(-14), D("3.5")
CYCLES = 80
MEXC, GATEIO = "mexc_spot", "gateio_spot"


def trading(*, priced: bool) -> VirtualWorld:
    """Both venues with the same books, and nothing to trade yet."""
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
    return world


def drifting(*, priced: bool) -> tuple[VirtualWorld, EquityFigures]:
    """80 cycles of MEXC 14 bps cheaper three times, and 3.5 bps dearer once: a return loses after fees."""
    world = trading(priced=priced)
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


def offers(world: VirtualWorld, count: int, *bases_bps: Decimal) -> None:
    """MEXC against Gate.io, one after the other, and flat between them."""
    world.finder_on = True
    for number in range(count):
        for basis_bps in (bases_bps[number % len(bases_bps)], D(0)):
            world.market.move(GATEIO, "BTC_USDT", MID)
            world.market.move(MEXC, "BTCUSDT", MID * (1 + basis_bps / 10_000))
            world.run(400)
    world.finder_on = False
    world.run(5000)


def soon_empty(world: VirtualWorld) -> list[str]:
    """Notes of `arb status`."""
    cover = InventoryCover(world.core)
    cover.look(world.core.context.instruments)
    return [r.what for r in cover.reasons() if r.effect is Effect.NOTE and "soon out of inventory" in r.what]


def test_a_flow_one_way_is_a_note_within_seconds_and_one_both_ways_is_none() -> None:
    world = trading(priced=False)
    offers(world, 9, CHEAPER_BPS)
    assert len(bought_at(world)) >= 8
    assert soon_empty(world) == ["BTC/USDT: buying at mexc_spot and selling at gateio_spot is soon out of inventory"]
    assert [alert.code for alert in world.alerts].count("inventory_empty_soon") == 1
    offers(world, 9, -CHEAPER_BPS)
    assert not soon_empty(world), "it came back"
    both = trading(priced=False)
    offers(both, 20, CHEAPER_BPS, -CHEAPER_BPS)
    assert set(bought_at(both)) == {MEXC, GATEIO} and not soon_empty(both)


def test_the_report_names_targets_time_to_empty_and_transfers_that_pay() -> None:
    world, _ = drifting(priced=False)
    core = world.core
    prices, config = core.inventory_prices, core.config.inventory
    rows = {(row.venue, row.coin): row for row in inventory_balances(core.balances, prices, config)}
    at_gateio = rows[GATEIO, "BTC"]
    assert at_gateio.target is not None and at_gateio.drift is not None and at_gateio.drift < 0
    moves = {proposal.coin: proposal for proposal in transfer_proposals(prices, config)}
    coins = moves["BTC"]
    assert (coins.from_venue, coins.to_venue, coins.network) == (MEXC, GATEIO, "btc")
    assert coins.qty == -at_gateio.drift
    assert coins.cost is not None and coins.cost * 2 <= coins.worth
    dear = InventoryConfig(transfers={"BTC": TransferConfig(network="btc", fee=D(1))})
    assert transfer_proposals(prices, dear) == ()


def test_a_balance_below_its_alarm_is_a_note_and_shown_with_target_and_drift() -> None:
    world, _ = drifting(priced=False)
    row = next(r for r in CoreViews(world.core, EquityWatch(world.core)).balances() if r["venue"] == GATEIO)
    assert not row["low"] and short(row["target"]) in balance_line(row) and short(row["drift"]) in balance_line(row)
    inventory = InventoryConfig(alarms={GATEIO: {"BTC": D(3)}})
    world.core.reconfigure(msgspec.structs.replace(world.core.config, inventory=inventory))
    world.core.balances.start_monitoring(inventory.alarm_of)
    had = Balance(venue=GATEIO, asset="BTC", free=D(1), locked=D(0), recv_mono_ns=world.clock.mono_ns(), source="ws")
    world.core.balances.on_balance(had)
    row = next(r for r in CoreViews(world.core, EquityWatch(world.core)).balances() if r["asset"] == "BTC" and r["low"])
    assert "below its alarm, 3" in balance_line(row)
    cover = InventoryCover(world.core)
    cover.look(world.core.context.instruments)
    (note,) = [reason for reason in cover.reasons() if "inventory.alarms" in reason.what]
    assert note.what.startswith(f"{GATEIO} BTC") and (note.solve, note.effect) == ("arb balance", Effect.NOTE)


def test_what_several_pairs_lack_is_said_once() -> None:
    """Pairs of one quote coin lack the same cash: one line per coin and direction, of the largest."""
    world, _ = drifting(priced=False)
    closed = CoinNetwork(network="trx", deposit=False, withdraw=False, fee=D("0.00002"))
    networks = {venue: {"BTC": (closed,), "USDT": (closed,)} for venue in (MEXC, GATEIO)}
    lanes = list(world.core.inventory_prices.lanes)
    again = [replace(lane, first=msgspec.structs.replace(lane.first, pair_id=99)) for lane in lanes]
    one, two = (
        blocked_transfers(SimpleNamespace(lanes=found), InventoryConfig(), networks)  # type: ignore[arg-type]
        for found in (lanes, [*lanes, *again])
    )
    assert one and two == one


def test_what_cannot_travel_is_said_with_its_cause() -> None:
    world, _ = drifting(priced=False)
    core = world.core
    open_now = CoinNetwork(network="trx", deposit=True, withdraw=True, fee=D("0.00002"))
    closed = CoinNetwork(network="trx", withdraw=True, fee=D("0.00002"))
    large = CoinNetwork(network="trx", deposit=True, withdraw=True, fee=D("0.00002"), least=D(50))

    def said(mexc: CoinNetwork, gateio: CoinNetwork, network: str = "") -> str:
        config = InventoryConfig(transfers={"BTC": TransferConfig(network=network)} if network else {})
        networks = {MEXC: {"BTC": (mexc,), "USDT": (open_now,)}, GATEIO: {"BTC": (gateio,), "USDT": (open_now,)}}
        prices = core.inventory_prices
        blocked = blocked_transfers(prices, config, networks)
        found = [text for text in blocked if " BTC from mexc_spot to gateio_spot: " in text]
        sent = [p for p in transfer_proposals(prices, config, networks) if p.coin == "BTC"]
        assert len(found) + len(sent) == 1
        return found[0].partition(": ")[2] if found else ""

    assert said(open_now, open_now) == said(open_now, open_now, "TRC20") == ""
    for network in ("", "TRC20"):
        assert said(large, open_now, network) == "below the least amount that mexc_spot sends, 50 by trx"
    assert said(open_now, closed) == "every common network is closed"
    assert said(open_now, closed, "TRC20") == "network trx is closed"
    assert said(large, closed, "TRC20") == "network trx is closed"
    assert said(open_now, open_now, "ERC20") == "network eth is not listed for it by both venues"


def test_what_is_published_every_second_looks_up_no_way_of_a_transfer() -> None:
    """Of 600 pairs that took 27 ms of the executor's loop, for whoever asks `arb balance` now and then."""
    world, _ = drifting(priced=False)
    asked: list[int] = []

    def networks() -> CoinNetworks:
        asked.append(1)
        return {}

    views = CoreViews(world.core, EquityWatch(world.core), networks)
    assert views.balances() and not asked
    assert views.proposals() and asked == [1]
    assert views.blocked() == [] and asked == [1, 1]


def test_networks_of_the_venues_lists_carry_the_proposals() -> None:
    """Without a configured transfer: network, cost and time of the cheapest network that is open at both ends."""
    world, _ = drifting(priced=False)
    core, plain = world.core, InventoryConfig()

    def btc(**fields: object) -> tuple[CoinNetwork, ...]:
        bridged = CoinNetwork(network="bsc", contract="0x1", deposit=True, withdraw=True, fee=D("0.00005"), minutes=2)
        known = CoinNetwork(network="btc", deposit=True, withdraw=True, fee=D("0.00003"), minutes=20)
        return (bridged, msgspec.structs.replace(known, **fields))

    def proposed(mexc: tuple[CoinNetwork, ...], gateio: tuple[CoinNetwork, ...], config: InventoryConfig) -> list[Any]:
        networks = {MEXC: {"BTC": mexc}, GATEIO: {"BTC": gateio}}
        found = transfer_proposals(core.inventory_prices, config, networks)
        return [(p.coin, p.network, p.cost, p.minutes) for p in found]

    price = D(repr(next(lane.mid for lane in core.inventory_prices.lanes if lane.k > 0)))
    assert proposed(btc(), btc(), plain) == [("BTC", "btc", D("0.00003") * price, 20)], "USDT travels on no network"
    closed = btc(deposit=False)
    assert proposed(btc(), closed, plain) == [("BTC", "bsc", D("0.00005") * price, 2)], "the dearer one is open"
    assert proposed(btc(withdraw=False), closed[1:], plain) == [], "no network is open: nothing is proposed"
    own = InventoryConfig(transfers={"BTC": TransferConfig(network="btc", fee=D("0.00001"), minutes=9)})
    assert proposed(btc(), btc(), own) == [("BTC", "btc", D("0.00001") * price, 9)], "configuration overrides"
    assert proposed(btc(), closed, own) == [], "but it opens no network that is closed"
    wide = tuple(
        CoinNetwork(network=name, deposit=True, withdraw=True, fee=D("0.00002")) for name in ("trx", "eth", "bsc")
    )
    for spelling, name in (("TRC20", "trx"), ("ERC20", "eth"), ("BEP20", "bsc"), ("trx", "trx")):
        own = InventoryConfig(transfers={"BTC": TransferConfig(network=spelling, fee=D("0.00001"), minutes=9)})
        assert proposed(wide, wide, own) == [("BTC", spelling, D("0.00001") * price, 9)], "as the operator spells it"
        assert proposed(wide, tuple(net for net in wide if net.network != name), own) == []
    unknown = transfer_proposals(core.inventory_prices, plain)
    assert {(p.coin, p.network, p.cost) for p in unknown} == {("BTC", "", None), ("USDT", "", None)}
