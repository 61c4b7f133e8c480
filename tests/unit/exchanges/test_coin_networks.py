"""Networks of coins as venues list them, and the choice among those that two venues share."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from pipeline.exchanges.factory import make_venue
from pipeline.exchanges.gateio import rest_client
from pipeline.exchanges.gateio.coin_networks import parse_networks, parse_withdraw_status
from pipeline.exchanges.parsing.coin_networks import parse_capital_config
from pipeline.model.networks import CoinNetwork, Route, minutes_of, routes
from tests.worlds.exchange_world import world
from workers.control_plane.catalogue import FETCH_TIMEOUT_S

D = Decimal
CONTRACT = "0xdac17f958d2ee523a2206206994597c13d831ec7"
TRON = "tr7nhqjekqxgtci8q8zy4pl8otszgjlj6t"

# The venues' own shapes: rows as their documents show them, cut to two networks.
BINANCE = b"""[{"coin":"USDT","depositAllEnable":true,"free":"0","locked":"0","name":"TetherUS","networkList":[
 {"addressRegex":"^(0x)[0-9A-Fa-f]{40}$","busy":false,"coin":"USDT",
  "contractAddress":"0xdAC17F958D2ee523a2206206994597C13D831ec7",
  "depositEnable":true,"estimatedArrivalTime":3,"isDefault":false,"minConfirm":6,"name":"Ethereum (ERC20)",
  "network":"ETH","unLockConfirm":64,"withdrawEnable":true,"withdrawFee":"2.6","withdrawIntegerMultiple":"0.000001",
  "withdrawMax":"9999999","withdrawMin":"10"},
 {"coin":"USDT","contractAddress":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","depositEnable":false,"estimatedArrivalTime":2,
  "minConfirm":1,"name":"Tron (TRC20)","network":"TRX","withdrawEnable":true,"withdrawFee":"1","withdrawMin":"5"}],
 "trading":true,"withdrawAllEnable":true}]"""
MEXC = b"""[{"coin":"USDT","Name":"Tether","networkList":[
 {"coin":"USDT","depositDesc":null,"depositEnable":true,"minConfirm":64,"Name":"Tether","network":"Ethereum(ERC20)",
  "withdrawEnable":true,"withdrawFee":"3.000000000000000000","withdrawIntegerMultiple":null,"withdrawMax":"18000000",
  "withdrawMin":"10","sameAddress":false,"contract":"0xdac17f958d2ee523a2206206994597c13d831ec7","withdrawTips":null,
  "depositTips":null,"netWork":"ETH"},
 {"coin":"USDT","depositEnable":true,"minConfirm":20,"Name":"Tether","network":"Tron(TRC20)","withdrawEnable":true,
  "withdrawFee":"1","withdrawMin":"2","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","netWork":"TRX"}]}]"""
GATE = b"""[{"currency":"USDT","name":"Tether","delisted":false,"withdraw_disabled":false,"withdraw_delayed":false,
 "deposit_disabled":false,"trade_disabled":false,"chain":"ETH","chains":[
 {"name":"ETH","addr":"0xdac17f958d2ee523a2206206994597c13d831ec7","withdraw_disabled":false,"withdraw_delayed":false,
  "deposit_disabled":false},
 {"name":"TRX","addr":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","withdraw_disabled":false,"withdraw_delayed":false,
  "deposit_disabled":true}]}]"""
GATE_FEES = b"""[{"currency":"USDT","name":"Tether","name_cn":"Tether","deposit":"0",
 "withdraw_percent":"0%","withdraw_fix":"1",
 "withdraw_day_limit":"20000","withdraw_amount_mini":"3","withdraw_day_limit_remain":"20000",
 "withdraw_eachtime_limit":"20000","withdraw_fix_on_chains":{"ETH":"4","TRX":"1.5"},
 "withdraw_percent_on_chains":{"ETH":"0.1%","TRX":"0%"}}]"""


def test_binance_tells_contract_switches_fee_minimum_and_time() -> None:
    eth, trx = parse_capital_config("binance_spot", BINANCE)["USDT"]
    assert eth == CoinNetwork(
        network="eth", contract=CONTRACT, deposit=True, withdraw=True, fee=D("2.6"), least=D(10), minutes=3
    )
    assert (trx.network, trx.deposit, trx.withdraw, trx.minutes) == ("trx", False, True, 2)


def test_mexc_has_names_of_its_own_and_tells_confirmations() -> None:
    eth, trx = parse_capital_config("mexc_spot", MEXC)["USDT"]
    assert (eth.network, eth.contract, eth.fee, eth.least) == ("eth", CONTRACT, D(3), D(10))
    assert (eth.minutes, trx.minutes) == (13, 1), "64 blocks of 12 s; 20 blocks of 3 s"
    assert (trx.network, trx.contract) == ("trx", TRON)


def test_gateio_has_its_fees_in_another_list() -> None:
    terms = parse_withdraw_status("gateio_spot", GATE_FEES)
    eth, trx = parse_networks("gateio_spot", GATE, terms)["USDT"]
    assert (eth.fee, eth.fee_ppm, eth.least, eth.minutes) == (D(4), 1000, D(3), None)
    assert eth.cost(D(1000)) == 5
    assert (trx.deposit, trx.withdraw, trx.fee) == (False, True, D("1.5"))
    (unknown, _) = parse_networks("gateio_spot", GATE, {})["USDT"]
    assert unknown.fee is None and unknown.cost(D(1)) is None


def listed() -> dict[str, dict[str, tuple[CoinNetwork, ...]]]:
    terms = parse_withdraw_status("gateio_spot", GATE_FEES)
    return {
        "mexc_spot": parse_capital_config("mexc_spot", MEXC),
        "gateio_spot": parse_networks("gateio_spot", GATE, terms),
        "binance_spot": parse_capital_config("binance_spot", BINANCE),
    }


@pytest.mark.parametrize(
    ("source", "to", "qty", "found"),
    [
        ("gateio_spot", "mexc_spot", 1000, [Route("trx", D("1.5"), 1), Route("eth", D(5), 13)]),  # the cheapest first
        ("mexc_spot", "gateio_spot", 1000, [Route("eth", D(3), 13)]),  # Tron takes no deposit there
        ("mexc_spot", "gateio_spot", 9, []),  # less than may leave
        ("binance_spot", "mexc_spot", 1000, [Route("trx", D(1), 1), Route("eth", D("2.6"), 13)]),
        ("mexc_spot", "nowhere", 1000, []),
    ],
)
def test_a_network_is_chosen_by_cost_among_those_open_at_both_ends(
    source: str, to: str, qty: int, found: list[Route]
) -> None:
    assert routes(listed(), "USDT", source, to, D(qty)) == found


def test_a_network_with_another_contract_carries_another_coin() -> None:
    networks: Any = listed()
    eth, trx = networks["mexc_spot"]["USDT"]
    networks["mexc_spot"]["USDT"] = (CoinNetwork(**{**fields(eth), "contract": "0x1"}), trx)
    assert [r.network for r in routes(networks, "USDT", "binance_spot", "mexc_spot", D(100))] == ["trx"]


def test_a_fee_that_is_not_known_comes_after_every_known_one() -> None:
    networks: Any = listed()
    eth, trx = networks["gateio_spot"]["USDT"]
    networks["gateio_spot"]["USDT"] = (eth, CoinNetwork(**{**fields(trx), "fee": None}))
    found = routes(networks, "USDT", "gateio_spot", "mexc_spot", D(1000))
    assert [(r.network, r.cost) for r in found] == [("eth", D(5)), ("trx", None)]


def fields(network: CoinNetwork) -> dict[str, Any]:
    return {name: getattr(network, name) for name in network.__struct_fields__}


@pytest.mark.parametrize(
    ("network", "blocks", "minutes"), [("btc", 2, 20), ("trx", 1, 1), ("eth", 5, 1), ("xyz", 9, None), ("eth", 0, None)]
)
def test_minutes_of_confirmations_are_rounded_up(network: str, blocks: int, minutes: int | None) -> None:
    assert minutes_of(network, blocks) == minutes


def test_instruments_do_not_wait_for_the_fees_of_withdrawals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue gives up on a venue whose instruments take longer."""
    monkeypatch.setattr(rest_client, "BESIDE_TIMEOUT_S", 0.1)

    async def run() -> None:
        async with world("demo") as box:
            name = "gateio_spot"
            client = make_venue(box.venue(name), box.credentials(name))
            box.fault(kind="delay_request", venue=name, target="currencies", delay_ms=60_000, after=1, count=1)
            try:
                async with asyncio.timeout(FETCH_TIMEOUT_S):
                    (found,) = await client.instruments(("BTC_USDT",))
                assert found.symbol == "BTC_USDT" and client.networks()["BTC"]
            finally:
                await client.close()

    asyncio.run(run())
