"""ccxt over REST, beyond placing and cancelling: amending, charts, account books, modes, tiers, stale answers.

Every number is compared with the simulator's own book or ledger.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from pipeline.sim.exchange.fault_actions import apply_action
from pipeline.sim.exchange.faults import FaultRule
from pipeline.sim.wire.coins import coins, withdraw_fee
from tests.worlds.client_support import HostedSim, credentials, point
from tests.worlds.later import ccxt

D = Decimal
SYMBOLS = {"mexc": ("XRP/USDT", "XRPUSDT"), "gate": ("XRP/USDT", "XRP_USDT"), "swap": ("XRP/USDT:USDT", "XRP_USDT")}
VENUES = {"mexc": "mexc_spot", "gate": "gateio_spot", "swap": "gateio_futures"}
ALL = pytest.mark.parametrize("name", list(SYMBOLS))
GATES = pytest.mark.parametrize("name", ["gate", "swap"])
AMOUNT = {"mexc": 100, "gate": 100, "swap": 10}


@pytest.fixture(scope="module")
def clients(sim: HostedSim) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    for name, venue in VENUES.items():
        options = {"options": {"defaultType": "swap"}} if name == "swap" else {}
        found[name] = point(
            getattr(ccxt, "mexc" if name == "mexc" else "gate")(credentials(sim, venue) | options), sim, venue
        )
        found[name].load_markets()
    yield found
    flatten(found["swap"])


def flatten(swap: Any) -> None:
    for one in swap.fetch_positions():
        if one["contracts"]:
            side = "sell" if one["side"] == "long" else "buy"
            swap.create_order(one["symbol"], "market", side, one["contracts"], params={"reduceOnly": True})


def prices(client: Any, symbol: str) -> tuple[float, float]:
    """(a price that rests, a price that takes) for a buy."""
    book = client.fetch_order_book(symbol, 5)
    low, high = book["bids"][0][0] * 0.97, book["asks"][0][0] * 1.01
    return float(client.price_to_precision(symbol, low)), float(client.price_to_precision(symbol, high))


@ALL
def test_candles_are_the_simulators_own_trades(name: str, clients: dict[str, Any], sim: HostedSim) -> None:
    client, (symbol, native) = clients[name], SYMBOLS[name]
    venue = sim.venue(VENUES[name])
    row = venue.instruments[native]
    client.create_order(symbol, "limit", "buy", AMOUNT[name], prices(client, symbol)[1], {"timeInForce": "IOC"})
    now_s = venue.now_ms() // 1000
    candles = client.fetch_ohlcv(symbol, "1m", limit=5)
    own = {one.start_s * 1000: one for one in sim.call(lambda: venue.candles[native].between(60, 0, now_s))}
    assert candles and [one[0] for one in candles] == sorted(own)[-len(candles) :]
    closed = [one for one in candles if one[0] + 60_000 <= now_s * 1000]
    for start_ms, opened, high, low, close, volume in closed:
        twin = own[start_ms]
        wanted = [float(value) for value in (twin.open, twin.high, twin.low, twin.close, twin.base / row.multiplier)]
        assert [opened, high, low, close, volume] == wanted
    last = candles[-1]
    assert last[3] <= last[4] <= last[2] and last[5] >= AMOUNT[name]
    assert sum(one[5] for one in client.fetch_ohlcv(symbol, "1h", limit=2)) >= sum(one[5] for one in candles)
    assert client.fetch_ohlcv(symbol, "1d", since=client.milliseconds() - 2 * 86_400_000, limit=3)


def test_swap_has_mark_and_index_candles_without_volume(clients: dict[str, Any], sim: HostedSim) -> None:
    swap, symbol = clients["swap"], SYMBOLS["swap"][0]
    mark = float(sim.call(lambda: sim.venue("gateio_futures").mark_price("XRP_USDT")))
    for rows in (swap.fetch_mark_ohlcv(symbol, "1m", limit=3), swap.fetch_index_ohlcv(symbol, "1m", limit=3)):
        assert rows and abs(rows[-1][4] / mark - 1) < 0.02


@GATES
def test_amended_order_moves_its_lock_and_keeps_its_id(name: str, clients: dict[str, Any], sim: HostedSim) -> None:
    client, (symbol, native) = clients[name], SYMBOLS[name]
    low, high = prices(client, symbol)
    amount = AMOUNT[name]
    placed = client.create_order(symbol, "limit", "buy", amount, low, {"clientOrderId": f"t-amend-{name}"})
    cheaper = float(client.price_to_precision(symbol, low * 0.98))
    amended = client.edit_order(placed["id"], symbol, "limit", "buy", amount * 2, cheaper)
    assert (amended["id"], amended["amount"], amended["price"]) == (placed["id"], amount * 2, cheaper)
    venue, account = sim.venue(VENUES[name]), next(iter(sim.venue(VENUES[name]).accounts.values()))
    (own,) = sim.call(lambda: venue.open_orders(account, native))
    assert (own.price, own.qty) == (D(str(cheaper)), amount * 2 * venue.instruments[native].multiplier)
    if name == "gate":
        assert sim.call(lambda: account.wallet("USDT").locked) == D(str(cheaper)) * amount * 2
    else:
        held = sim.call(lambda: venue.margin_account(account).order_margin)
        assert held == D(str(cheaper)) * own.qty / venue.position(account, native).leverage
    taken = client.edit_order(placed["id"], symbol, "limit", "buy", amount * 2, high)
    assert (taken["status"], taken["filled"]) == ("closed", amount * 2)
    with pytest.raises(ccxt.ExchangeError, match=r"ORDER_CLOSED|ORDER_FINISHED"):
        client.edit_order(placed["id"], symbol, "limit", "buy", amount, low)
    flatten(clients["swap"])


@GATES
def test_account_book_adds_up_to_the_balance(name: str, clients: dict[str, Any]) -> None:
    client, symbol = clients[name], SYMBOLS[name][0]
    client.create_order(symbol, "limit", "buy", AMOUNT[name], prices(client, symbol)[1], {"timeInForce": "IOC"})
    rows = client.fetch_ledger("USDT", limit=1000)
    balance = client.fetch_balance()
    total = balance["USDT"]["total"] if name == "gate" else float(balance["info"][0]["total"])
    signed = sum(row["amount"] * (1 if row["direction"] == "in" else -1) for row in rows)
    assert signed == pytest.approx(total, abs=1e-9)
    assert {"trade", "fee"} & {row["type"] for row in rows}
    flatten(clients["swap"])


def test_wallets_tell_chains_addresses_deposits_and_move_money(clients: dict[str, Any], sim: HostedSim) -> None:
    gate, mexc = clients["gate"], clients["mexc"]
    address = gate.fetch_deposit_address("USDT", {"network": "TRC20"})
    assert address["network"] == "TRC20" and address["address"].startswith("sim")
    assert mexc.fetch_deposit_address("USDT", {"network": "TRX"})["address"] != address["address"]
    for client in (gate, mexc):
        assert "XRP" in client.fetch_deposit_withdraw_fees(["XRP"])
        (deposit,) = client.fetch_deposits("XRP")
        assert (deposit["amount"], deposit["status"]) == (70_000, "ok")
        assert client.fetch_withdrawals("XRP") == []
    before = [clients[name].fetch_balance()["USDT"]["free"] for name in ("gate", "swap")]
    gate.transfer("USDT", 25, "spot", "swap")
    after = [clients[name].fetch_balance()["USDT"]["free"] for name in ("gate", "swap")]
    assert (after[0] - before[0], after[1] - before[1]) == (pytest.approx(-25), pytest.approx(25))
    with pytest.raises(ccxt.InsufficientFunds):
        gate.transfer("USDT", 10_000_000, "spot", "swap")
    gate.transfer("USDT", 25, "swap", "spot")


def test_swap_tiers_leverage_funding_and_closed_positions(clients: dict[str, Any], sim: HostedSim) -> None:
    swap, (symbol, native) = clients["swap"], SYMBOLS["swap"]
    flatten(swap)
    (tier,) = swap.fetch_market_leverage_tiers(symbol)
    assert (tier["maxLeverage"], tier["maintenanceMarginRate"]) == (100, 0.005)
    assert swap.fetch_leverage_tiers([symbol])[symbol][0]["maxNotional"] == 1_000_000
    swap.set_leverage(5, symbol)
    assert swap.fetch_position(symbol)["leverage"] == 5
    swap.set_leverage(8, symbol, {"marginMode": "cross"})
    crossed = swap.fetch_position(symbol)
    assert crossed["marginMode"] == "cross" and crossed["info"]["cross_leverage_limit"] == "8"
    opened = swap.create_order(symbol, "market", "buy", 10)
    with pytest.raises(ccxt.ExchangeError, match="POSITION_CROSS_MARGIN"):
        swap.add_margin(symbol, 3)
    swap.set_leverage(8, symbol)
    added = swap.add_margin(symbol, 3)
    assert float(added["info"]["margin"]) == pytest.approx(opened["cost"] / 8 + 3)
    venues = {"gateio_futures": sim.venue("gateio_futures")}
    sim.call(
        lambda: apply_action(venues, FaultRule.parse({"kind": "funding", "venue": "gateio_futures", "symbol": native}))
    )
    (paid,) = swap.fetch_funding_history(symbol)
    (rate,) = swap.fetch_funding_rate_history(symbol)
    assert rate["fundingRate"] > 0
    assert paid["amount"] == pytest.approx(-rate["fundingRate"] * opened["cost"], rel=0.01)
    sold = swap.close_position(symbol)
    assert sold["filled"] == 10
    (closed, *_) = swap.fetch_positions_history([symbol])
    trades = [row for row in swap.fetch_my_trades(symbol) if row["order"] in (opened["id"], sold["id"])]
    fees = sum(row["fee"]["cost"] for row in trades)
    gross = sold["cost"] - opened["cost"]
    assert float(closed["info"]["pnl"]) == pytest.approx(gross - fees + paid["amount"], abs=1e-9)
    swap.set_leverage(10, symbol)


def test_swap_dual_mode_holds_both_sides(clients: dict[str, Any]) -> None:
    swap, symbol = clients["swap"], SYMBOLS["swap"][0]
    flatten(swap)
    swap.set_position_mode(True)
    with pytest.raises(ccxt.InvalidOrder, match="NO_CHANGE"):
        swap.set_position_mode(True)
    swap.create_order(symbol, "market", "buy", 6)
    swap.create_order(symbol, "market", "sell", 4)
    held = {row["side"]: row for row in swap.fetch_positions([symbol])}
    assert {side: row["contracts"] for side, row in held.items()} == {"long": 6, "short": 4}
    assert {row["info"]["mode"] for row in held.values()} == {"dual_long", "dual_short"}
    with pytest.raises(ccxt.ExchangeError, match="POSITION_HOLDING"):
        swap.set_position_mode(False)
    assert swap.create_order(symbol, "market", "buy", 9, params={"reduceOnly": True})["filled"] == 4
    assert swap.create_order(symbol, "market", "sell", 9, params={"reduceOnly": True})["filled"] == 6
    swap.set_position_mode(False)
    assert swap.fetch_positions([symbol])[0]["contracts"] == 0


@ALL
def test_stale_answers_hide_what_has_just_happened(name: str, clients: dict[str, Any], sim: HostedSim) -> None:
    """Absence proves nothing: the order stands, the answers are seconds old."""
    client, symbol = clients[name], SYMBOLS[name][0]
    before = client.fetch_balance()["USDT"]["free"]
    placed = client.create_order(symbol, "limit", "buy", AMOUNT[name], prices(client, symbol)[0])
    rule = {"kind": "stale", "venue": VENUES[name], "delay_ms": 3_600_000}
    rule_id = sim.call(lambda: sim.server.arm(FaultRule.parse(rule)))
    try:
        assert placed["id"] not in [row["id"] for row in client.fetch_open_orders(symbol)]
        assert (client.fetch_balance().get("USDT", {}).get("used") or 0) < 1e-9
        with pytest.raises(ccxt.ExchangeError):
            client.fetch_order(placed["id"], symbol)
    finally:
        sim.call(lambda: sim.server.faults.remove(rule_id))
    assert [row["id"] for row in client.fetch_open_orders(symbol)] == [placed["id"]]
    assert client.fetch_balance()["USDT"]["free"] < before
    client.cancel_order(placed["id"], symbol)
    assert client.fetch_balance()["USDT"]["free"] == pytest.approx(before, rel=1e-6)


MARKET, POST, BTC = "market", {"postOnly": True}, "BTC/USDT:USDT"
REFUSED: list[tuple[str, str, tuple[Any, ...], dict[str, Any], str, str]] = [
    ("mexc", "create_order", ("XRP/USDT", "limit", "buy", 1, 0.5), {}, "InvalidOrder", "30002"),
    ("mexc", "create_order", ("XRP/USDT", "limit", "buy", 900_000, 0.5), {}, "InsufficientFunds", "30004"),
    ("mexc", "create_order", ("XRP/USDT", "limit", "sell", 90_000, 0.55), {}, "InsufficientFunds", "30005"),
    ("mexc", "create_order", ("XRP/USDT", "limit", "buy", 100, 0.1), {}, "InvalidOrder", "30010"),
    ("mexc", "cancel_order", ("C02__1", "XRP/USDT"), {}, "BadRequest", "-2011"),
    ("mexc", "fetch_order", ("C02__1", "XRP/USDT"), {}, "ExchangeError", "-2013"),
    ("mexc", "fetch_order_book", ("NOPE/USDT",), {}, "BadSymbol", "NOPE"),
    ("gate", "create_order", ("XRP/USDT", "limit", "buy", 2, 0.5), {}, "BadRequest", "too small"),
    ("gate", "create_order", ("XRP/USDT", "limit", "buy", 900_000, 0.5), {}, "InsufficientFunds", "BALANCE_NOT"),
    ("gate", "create_order", ("XRP/USDT", "limit", "buy", 100, 0.1), {}, "ExchangeError", "PRICE_THRESHOLD"),
    (
        "gate",
        "create_order",
        ("XRP/USDT", "limit", "buy", 100, 0.6),
        {"postOnly": True},
        "OrderImmediatelyFillable",
        "POC",
    ),
    ("gate", "cancel_order", ("1", "XRP/USDT"), {}, "OrderNotFound", "ORDER_NOT_FOUND"),
    ("gate", "cancel_order", ("t-none", "XRP/USDT"), {}, "OrderNotFound", "CLIENT_ID_NOT_FOUND"),
    ("swap", "create_order", ("XRP/USDT:USDT", "limit", "buy", 2_000_000, 0.5), {}, "InvalidOrder", "SIZE_TOO"),
    (
        "swap",
        "create_order",
        ("BTC/USDT:USDT", "limit", "buy", 500_000, 60_000),
        {},
        "InsufficientFunds",
        "AVAILABLE",
    ),
    ("swap", "create_order", ("XRP/USDT:USDT", "limit", "buy", 10, 0.1), {}, "InvalidOrder", "PRICE_TOO"),
    ("swap", "create_order", ("XRP/USDT:USDT", MARKET, "sell", 5), {"reduceOnly": True}, "InvalidOrder", "INCREASE"),
    ("swap", "cancel_order", ("1", "XRP/USDT:USDT"), {}, "OrderNotFound", "ORDER_NOT_FOUND"),
    ("swap", "set_leverage", (500, "XRP/USDT:USDT"), {}, "BadRequest", "leverage"),
]


@pytest.mark.parametrize("case", REFUSED, ids=[f"{row[0]}-{row[1]}-{row[5]}" for row in REFUSED])
def test_what_the_venue_refuses_is_the_exception_that_ccxt_knows(
    case: tuple[str, str, tuple[Any, ...], dict[str, Any], str, str], clients: dict[str, Any]
) -> None:
    name, method, arguments, params, expected, text = case
    if "reduceOnly" in params:
        flatten(clients["swap"])
    with pytest.raises(getattr(ccxt, expected), match=text):
        getattr(clients[name], method)(*arguments, **({"params": params} if params else {}))


@ALL
def test_old_timestamp_and_read_only_key_are_refused(name: str, sim: HostedSim) -> None:
    venue = VENUES[name]
    options = {"options": {"defaultType": "swap"}} if name == "swap" else {}
    kind = getattr(ccxt, "mexc" if name == "mexc" else "gate")
    late = point(kind(credentials(sim, venue) | options), sim, venue)
    now_ms = late.milliseconds() - 120_000
    late.milliseconds = lambda: now_ms
    late.nonce = lambda: now_ms
    late.seconds = lambda: now_ms // 1000
    with pytest.raises(ccxt.InvalidNonce if name == "mexc" else ccxt.AuthenticationError, match=r"recvWindow|EXPIRED"):
        late.fetch_balance()
    reader = next(row for row in sim.info["venues"][venue]["keys"] if not row["can_trade"])
    keys = {"apiKey": reader["api_key"], "secret": reader["api_secret"]}
    client = point(kind(credentials(sim, venue) | keys | options), sim, venue)
    assert client.fetch_balance()["USDT"]["total"] > 0
    with pytest.raises(ccxt.AuthenticationError, match=r"700007|READ_ONLY"):
        client.create_order(SYMBOLS[name][0], "limit", "buy", AMOUNT[name], 0.5)


def test_asking_too_fast_is_a_rate_limit(sim: HostedSim) -> None:
    calls: list[tuple[str, Callable[[Any], Any]]] = [
        ("mexc", lambda client: client.create_order("XRP/USDT", "limit", "buy", 100, 0.5)),
        ("gate", lambda client: client.create_order("XRP/USDT", "limit", "buy", 100, 0.5)),
    ]
    for name, call in calls:
        client = point(getattr(ccxt, name)(credentials(sim, VENUES[name])), sim, VENUES[name])
        client.enableRateLimit = False
        client.load_markets()
        with pytest.raises(ccxt.RateLimitExceeded):
            for _ in itertools.repeat(None, 30):
                call(client)
        sim.call(
            lambda name=name: sim.venue(VENUES[name]).cancel_all(next(iter(sim.venue(VENUES[name]).accounts.values())))
        )


def test_currencies_have_the_networks_that_the_simulator_knows(clients: dict[str, Any], sim: HostedSim) -> None:
    for name in ("mexc", "gate"):
        client, listed = clients[name], {coin.asset: coin for coin in coins(sim.venue(VENUES[name]))}
        found = client.fetch_currencies()
        for asset, coin in listed.items():
            networks = found[asset]["networks"].values()
            assert len(networks) == len(coin.networks), (name, asset)
            assert {(n["deposit"], n["withdraw"]) for n in networks} == {(coin.deposit_enabled, coin.withdraw_enabled)}
        if name == "gate":  # fees stand in another list there
            fees = client.fetch_deposit_withdraw_fees(["USDT"])["USDT"]["networks"].values()
            shown = {float(row["withdraw"]["fee"]) for row in fees}
        else:
            shown = {float(row["fee"]) for row in found["USDT"]["networks"].values()}
        assert shown == {float(withdraw_fee("USDT", network)) for network, _ in listed["USDT"].networks}, name
