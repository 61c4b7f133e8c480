"""Three venues of one coin: one target each, and transfers that no venue both sends and receives."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.execution.inventory.moves import net_moves
from pipeline.execution.inventory.prices import Lane
from pipeline.execution.inventory.targets import inventory_balances, transfer_proposals
from pipeline.model.config import DetectionConfig, InventoryConfig, TransferConfig
from pipeline.model.enums import InstrumentKind
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import Balance, InstrumentSpec
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld

D = Decimal
MID = D(64000)
PLACES = {"mexc_spot": "BTCUSDT", "gateio_spot": "BTC_USDT", "binance_spot": "BTCUSDT"}


def row(venue: str, pair_id: int = 1, base: str = "BTC") -> InstrumentRow:
    spec = InstrumentSpec(
        venue=venue,
        symbol=f"{base}USDT",
        base=base,
        quote="USDT",
        kind=InstrumentKind.SPOT,
        tick=D("0.01"),
        lot=D("0.0001"),
    )
    at = {"instrument_id": 0, "venue_id": 0, "feed_id": 0, "book_index": 0, "base_asset_id": 0, "quote_asset_id": 0}
    return InstrumentRow(**at, pair_id=pair_id, price_exp=2, qty_exp=8, row_epoch=0, spec=spec)


def lanes_of(coins: dict[str, float], cash: dict[str, float], **which: int | str) -> list[Lane]:
    """All lanes between these venues, as the prices make them; ``coins`` at mid, which is 1."""
    names, found = list(coins), []
    for number, one in enumerate(names):
        for two in names[number + 1 :]:
            onward, back = min(cash[one], coins[two]), min(cash[two], coins[one])
            lane = Lane(row(one, **which), row(two, **which))  # type: ignore[arg-type]
            lane.cash, lane.coins, lane.mid = (cash[one], cash[two]), (coins[one], coins[two]), 1.0
            lane.k, lane.x = (onward + back) / 2, (back - onward) / 2
            found.append(lane)
    return found


def after(amounts: dict[str, float], lanes: list[Lane], asset: str) -> dict[str, float]:
    """What is where once every move has arrived; nobody sends and receives, nor sends what he has not."""
    moves = [move for move in net_moves(lanes) if move.asset == asset]
    assert not {move.source for move in moves} & {move.to for move in moves}
    for move in moves:
        amounts = {**amounts, move.source: amounts[move.source] - float(move.qty)}
        amounts = {**amounts, move.to: amounts[move.to] + float(move.qty)}
    assert min(amounts.values()) >= 0
    return amounts


PLENTY = {"a": 1e6, "b": 1e6, "c": 1e6}


@pytest.mark.parametrize(
    "coins",
    [{"a": 12.0, "b": 0.0, "c": 0.0}, {"a": 12.0, "b": 6.0, "c": 0.0}, {"a": 0.0, "b": 10.0, "c": 2.0}],
)
def test_three_venues_share_a_coin_where_no_direction_earns_more_than_another(coins: dict[str, float]) -> None:
    share = sum(coins.values()) / 3
    assert after(coins, lanes_of(coins, PLENTY), "BTC") == pytest.approx(dict.fromkeys("abc", share), abs=0.001)


def test_a_chain_of_wishes_is_one_transfer() -> None:
    (move,) = (m for m in net_moves(lanes_of({"a": 12.0, "b": 6.0, "c": 0.0}, PLENTY)) if m.asset == "BTC")
    assert (move.source, move.to, move.qty) == ("a", "c", D(6))


def test_a_venue_whose_coins_both_others_want_sends_no_more_than_it_has() -> None:
    lanes = lanes_of({"a": 12.0, "b": 0.0, "c": 0.0}, PLENTY)
    for lane in lanes:
        lane.line = (10.0, 0.5) if lane.first.spec.venue == "a" else (0.5, 0.5)  # bought at a alone
    assert after({"a": 12.0, "b": 0.0, "c": 0.0}, lanes, "BTC") == pytest.approx({"a": 0, "b": 6, "c": 6}, abs=0.001)


def test_cash_that_several_pairs_want_is_sent_once() -> None:
    coins, cash = {"a": 60.0, "b": 60.0, "c": 60.0}, {"a": 0.0, "b": 60.0, "c": 60.0}
    one = lanes_of(coins, cash)
    both = [*one, *lanes_of(coins, cash, pair_id=2, base="ETH")]
    assert after(cash, both, "USDT") == after(cash, one, "USDT") == pytest.approx(dict.fromkeys("abc", 40), abs=0.01)


def three_venues() -> VirtualWorld:
    transfers = {coin: TransferConfig(network=coin.lower(), fee=D("0.00001")) for coin in ("BTC", "USDT")}
    world = VirtualWorld(
        "four_venues",
        1,
        settings={
            "detection": DetectionConfig(types=("spot_spot",), inventory_price=True),
            "inventory": InventoryConfig(transfers=transfers),
        },
    )
    world.open({place: Quote(MID) for place in PLACES.items()})
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    world.run(100)
    return world


def test_every_venue_of_a_coin_has_one_target_and_the_proposals_are_its_drift() -> None:
    world = three_venues()
    for venue, free in zip(PLACES, ("0.6", "0.15", "0"), strict=True):  # worth less than the cash of each venue
        at_ns = world.now().mono_ns
        world.feed(Balance(venue=venue, asset="BTC", free=D(free), locked=D(0), recv_mono_ns=at_ns, source="stream"))
    core = world.core
    for buy in PLACES.items():
        for sell in PLACES.items():
            ids = [core.context.instruments.find(*place) for place in (buy, sell)]
            assert ids[0] is not None and ids[1] is not None
            if buy != sell:
                core.inventory_prices.note_hit(ids[0].instrument_id, ids[1].instrument_id, 8.0)
    core.inventory_prices.refresh()
    config = core.config.inventory
    rows = {r.venue: r for r in inventory_balances(core.balances, core.inventory_prices, config) if r.coin == "BTC"}
    assert all(rows[venue].target == pytest.approx(D("0.25"), abs=D("0.0001")) for venue in PLACES)
    sent = {venue: D(0) for venue in PLACES}
    for proposal in transfer_proposals(core.inventory_prices, config):
        if proposal.coin == "BTC":
            sent[proposal.from_venue] += proposal.qty
            sent[proposal.to_venue] -= proposal.qty
    assert sent == {venue: rows[venue].drift for venue in PLACES}
    assert sent["mexc_spot"] > 0 > sent["binance_spot"]
