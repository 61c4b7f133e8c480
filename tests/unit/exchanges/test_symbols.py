"""Instrument rows, fees and coin identities of every venue, from the venues' documents and from recordings."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.exchanges.binance import symbols as binance
from pipeline.exchanges.factory import make_venue
from pipeline.exchanges.gateio import symbols as gate
from pipeline.exchanges.gateio.account_settings import parse_fee_switch as parse_gate_switch
from pipeline.exchanges.gateio.rest_client import GateSpotClient
from pipeline.exchanges.mexc import symbols as mexc
from pipeline.exchanges.mexc.account import parse_fee_switch as parse_mexc_switch
from pipeline.exchanges.parsing.announced_ends import AnnouncedEnds, Ends
from pipeline.exchanges.parsing.rows import OddRows
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.enums import FeeAssetRule, InstrumentKind, TradingStatus
from pipeline.model.errors import ProtocolViolation
from pipeline.model.network_names import coin_identity, network_name
from pipeline.model.structs import FeeSchedule
from pipeline.model.trading_times import at_time
from tests.worlds.exchange_world import world

MEXC_ROW = {
    "symbol": "BROCKUSDT", "status": "1", "baseAsset": "BROCK", "baseAssetPrecision": 2, "quoteAsset": "USDT",
    "quotePrecision": 5, "quoteAssetPrecision": 5, "baseCommissionPrecision": 2, "quoteCommissionPrecision": 5,
    "orderTypes": ["LIMIT", "MARKET", "LIMIT_MAKER"], "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
    "quoteAmountPrecision": "1", "baseSizePrecision": "0", "permissions": ["SPOT"], "filters": [],
    "maxQuoteAmount": "2000000", "makerCommission": "0.0005", "takerCommission": "0.0005",
    "quoteAmountPrecisionMarket": "1", "maxQuoteAmountMarket": "100000", "fullName": "Bitrock", "tradeSideType": 1,
}  # fmt: skip
GATE_PAIR = {
    "id": "ETH_USDT", "base": "ETH", "base_name": "Ethereum", "quote": "USDT", "quote_name": "Tether", "fee": "0.2",
    "min_base_amount": "0.001", "min_quote_amount": "1.0", "max_base_amount": "10000", "max_quote_amount": "10000000",
    "amount_precision": 3, "precision": 6, "trade_status": "tradable", "sell_start": 1516378650,
    "buy_start": 1516378650, "delisting_time": 0, "type": "normal", "trade_url": "x", "st_tag": False,
}  # fmt: skip
GATE_CONTRACT = {
    "name": "BTC_USDT", "type": "direct", "quanto_multiplier": "0.0001", "order_price_round": "0.1",
    "order_size_min": 1, "order_size_max": 1000000, "order_price_deviate": "0.5", "funding_rate": "0.000086",
    "funding_interval": 28800, "funding_next_apply": 1684944000, "mark_price": "26704.26", "last_price": "26696",
    "taker_fee_rate": "0.00075", "maker_fee_rate": "-0.000152", "in_delisting": False,
}  # fmt: skip


def mexc_specs(**changes: object) -> list[mexc.InstrumentSpec]:
    payload = json.dumps({"timezone": "CST", "symbols": [MEXC_ROW | changes]}).encode()
    return mexc.parse_instruments("mexc_spot", payload, ["BROCKUSDT", "NONE"], fees={}, coins={}, prices={})


def gate_spot(**changes: object) -> gate.InstrumentSpec:
    payload = json.dumps([GATE_PAIR | changes]).encode()
    return gate.parse_spot("gateio_spot", payload, ["ETH_USDT"], fees={}, coins={}, prices={})[0]


def gate_futures(**changes: object) -> gate.InstrumentSpec:
    payload = json.dumps([GATE_CONTRACT | changes]).encode()
    return gate.parse_futures("gateio_futures", payload, ["BTC_USDT"], fees={}, coins={})[0]


def test_mexc_row_of_the_sheet() -> None:
    specs = mexc_specs()
    assert [spec.symbol for spec in specs] == ["BROCKUSDT"]  # an unlisted symbol is left out
    spec = specs[0]
    assert (spec.tick, spec.lot, spec.min_qty) == (Decimal("0.00001"), Decimal("0.01"), Decimal("0.01"))
    assert (spec.min_notional, spec.taker_fee_ppm, spec.maker_fee_ppm) == (Decimal(1), 500, 500)
    assert spec.status is TradingStatus.TRADING and spec.fee_rule is FeeAssetRule.QUOTE


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"status": "2"}, TradingStatus.HALTED),
        ({"status": "3"}, TradingStatus.HALTED),
        ({"status": "ENABLED"}, TradingStatus.TRADING),
        ({"isSpotTradingAllowed": False}, TradingStatus.HALTED),
        ({"tradeSideType": 2}, TradingStatus.BUY_ONLY),
        ({"tradeSideType": 3}, TradingStatus.SELL_ONLY),
        ({"tradeSideType": 4}, TradingStatus.HALTED),
    ],
)
def test_mexc_status(changes: dict[str, object], status: TradingStatus) -> None:
    assert mexc_specs(**changes)[0].status is status


def test_mexc_own_fee_beats_the_row() -> None:
    body = b'{"data":{"makerCommission":0.003,"takerCommission":0.0035},"code":0,"msg":"success"}'
    fee = mexc.parse_fee("mexc_spot", "BROCKUSDT", body)
    assert (fee.taker_ppm, fee.maker_ppm) == (3500, 3000)
    payload = json.dumps({"symbols": [MEXC_ROW]}).encode()
    specs = mexc.parse_instruments(
        "mexc_spot", payload, ["BROCKUSDT"], fees={"BROCKUSDT": fee}, coins={}, prices={"BROCKUSDT": Decimal("0.09")}
    )
    assert specs[0].taker_fee_ppm == 3500 and specs[0].reference_price == Decimal("0.09")


def test_mexc_coin_identity_and_wallet_switches() -> None:
    body = json.dumps(
        [
            {
                "coin": "USDC",
                "networkList": [
                    {"network": "Ethereum(ERC20)", "netWork": "ETH", "contract": "0xA0B8", "depositEnable": True,
                     "withdrawEnable": False},
                    {"network": "Solana(SOL)", "netWork": "SOL", "contract": "EPjF", "depositEnable": False,
                     "withdrawEnable": False},
                ],
            }
        ]
    ).encode()  # fmt: skip
    coin = mexc.parse_coins("mexc_spot", body)["USDC"]
    assert coin.networks == (("eth", "0xa0b8"), ("sol", "epjf"))
    assert coin.deposit_enabled and not coin.withdraw_enabled


def test_mexc_prices_need_both_sides() -> None:
    body = (
        b'[{"symbol":"A","bidPrice":"1","askPrice":"3"},{"symbol":"B","bidPrice":"","askPrice":"3"},'
        b'{"symbol":"C","bidPrice":null,"askPrice":null}]'
    )
    assert mexc.parse_prices("mexc_spot", body) == {"A": Decimal(2)}


def test_gate_spot_row_of_the_sheet() -> None:
    spec = gate_spot()
    assert (spec.tick, spec.lot) == (Decimal("0.000001"), Decimal("0.001"))
    assert (spec.min_qty, spec.max_qty, spec.min_notional) == (Decimal("0.001"), Decimal(10000), Decimal("1.0"))
    assert spec.taker_fee_ppm == 2000 and spec.fee_rule is FeeAssetRule.RECEIVED  # "0.2" is percent


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"trade_status": "buyable"}, TradingStatus.BUY_ONLY),
        ({"trade_status": "sellable"}, TradingStatus.SELL_ONLY),
        ({"trade_status": "untradable"}, TradingStatus.HALTED),
        ({"trade_status": "something new"}, TradingStatus.HALTED),
        ({"type": "premarket"}, TradingStatus.HALTED),
    ],
)
def test_gate_spot_status(changes: dict[str, object], status: TradingStatus) -> None:
    assert gate_spot(**changes).status is status


def test_gate_spot_without_minima_takes_its_lot() -> None:
    row = {key: value for key, value in GATE_PAIR.items() if not key.startswith("min_")}
    spec = gate.parse_spot("v", json.dumps([row]).encode(), ["ETH_USDT"], fees={}, coins={}, prices={})[0]
    assert (spec.min_qty, spec.min_notional) == (Decimal("0.001"), Decimal(0))


def test_gate_futures_row_of_the_sheet_becomes_base_coin() -> None:
    spec = gate_futures()
    assert spec.kind is InstrumentKind.PERPETUAL and spec.pair == "BTC/USDT"
    assert (spec.multiplier, spec.lot, spec.min_qty) == (Decimal("0.0001"),) * 3
    assert spec.max_qty == Decimal(100) and spec.tick == Decimal("0.1")
    assert (spec.taker_fee_ppm, spec.maker_fee_ppm) == (750, -152)
    assert (spec.funding_rate_ppb, spec.funding_interval_s, spec.funding_next_wall_s) == (86_000, 28_800, 1684944000)
    assert spec.price_band_ppm == 500_000 and spec.reference_price == Decimal("26704.26")


@pytest.mark.parametrize(
    "changes", [{"status": "prelaunch"}, {"status": "delisted", "in_delisting": True}, {"status": "circuit_breaker"}]
)
def test_gate_futures_that_do_not_trade_are_halted(changes: dict[str, object]) -> None:
    assert gate_futures(**changes).status is TradingStatus.HALTED


def test_gate_spot_says_when_trading_begins_and_ends() -> None:
    payload = (Path(__file__).parents[2] / "cases" / "C_gate_delisting.json").read_bytes()
    ending, coming = gate.parse_spot("gateio_spot", payload, ["ETH_USDT", "AAA_USDT"], fees={}, coins={}, prices={})
    assert (ending.trading_from_wall_s, ending.trading_until_wall_s) == (0, 1795888266)
    assert (coming.trading_from_wall_s, coming.trading_until_wall_s) == (1795891266, 0)
    now_s = 1795887666  # ten minutes before the one, an hour before the other
    assert at_time(ending, now_s, 24).ending and at_time(ending, now_s, 24).status is TradingStatus.TRADING
    assert at_time(coming, now_s, 24).status is TradingStatus.HALTED and not at_time(coming, now_s, 24).ending
    assert at_time(coming, 1795891266, 24) == coming and at_time(ending, 1795888266 - 24 * 3600 - 1, 24) == ending


def test_a_client_knows_which_listed_rows_could_not_be_read() -> None:
    async def body() -> None:
        async with world("demo") as box:
            client = make_venue(box.venue("gateio_spot"), None)
            assert isinstance(client, GateSpotClient)
            wanted = ["BTC_USDT", "ETH_USDT"]

            def read(*rows: dict[str, object]) -> frozenset[str]:
                payload = json.dumps([{**GATE_PAIR, "id": "AAA_USDT"}, *rows]).encode()
                gate.parse_spot("v", payload, wanted, fees={}, coins={}, prices={}, odd=client.odd_rows)
                return client.take_unreadable(wanted)

            assert read() == frozenset()
            assert read({"id": "BTC_USDT", "base": 7}) == {"BTC_USDT"} and read() == frozenset()
            assert read({"id": None}) == set(wanted), "it may be about any of them"
            await client.close()

    asyncio.run(body())


def test_mexc_announces_the_end_of_trading_in_a_list_of_its_own() -> None:
    payload = json.dumps({"data": [{"symbol": "BROCKUSDT", "status": "1", "offlineTime": 1795888266000}], "code": 0})
    ends = mexc.parse_ends("mexc_spot", payload.encode())
    row = json.dumps({"symbols": [MEXC_ROW]}).encode()
    found = mexc.parse_instruments("mexc_spot", row, ["BROCKUSDT"], fees={}, coins={}, prices={}, ends=ends)
    assert found[0].trading_until_wall_s == 1795888266
    assert mexc.parse_ends("mexc_spot", b'{"data":null,"code":0}') == Ends()


def test_binance_contract_that_is_delivered_and_perpetual_that_never_is() -> None:
    for date, until_s in ((4133404800000, 0), (1795888266000, 1795888266)):
        filters = [
            {"filterType": "PRICE_FILTER", "tickSize": "0.1"},
            {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "1000"},
        ]
        row = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": filters}
        row |= {"contractType": "PERPETUAL", "onboardDate": 1598252400000, "deliveryDate": date}
        body = json.dumps({"symbols": [row]}).encode()
        spec = binance.parse_instruments("b", "futures", body, ["BTCUSDT"], fees={}, coins={}, prices={})[0]
        assert (spec.trading_from_wall_s, spec.trading_until_wall_s) == (1598252400, until_s)
    ends = binance.parse_ends("b", b'[{"delistTime":1700000000000,"symbols":["XYZUSDT","ABCUSDT"]}]')
    assert ends.until_s == {"XYZUSDT": 1700000000, "ABCUSDT": 1700000000}


def test_binance_spot_announces_listings_in_a_list_of_its_own() -> None:
    """The row may say that it is traded before it is."""
    begins = binance.parse_begins("b", b'[{"openTime":1795888266000,"symbols":["NEWUSDT","NEWUSDC"]}]', ["NEWUSDT"])
    assert begins.from_s == {"NEWUSDT": 1795888266, "NEWUSDC": 1795888266} and not begins.unreadable
    filters = [{"filterType": "PRICE_FILTER", "tickSize": "0.1"}, {"filterType": "LOT_SIZE", "stepSize": "0.001"}]
    row = {"symbol": "NEWUSDT", "status": "TRADING", "baseAsset": "NEW", "quoteAsset": "USDT", "filters": filters}
    body = json.dumps({"symbols": [row | {"isSpotTradingAllowed": True}]}).encode()
    (spec,) = binance.parse_instruments("b", "spot", body, ["NEWUSDT"], fees={}, coins={}, prices={}, begins=begins)
    assert spec.status is TradingStatus.TRADING and spec.trading_from_wall_s == 1795888266
    assert at_time(spec, 1795888265, 2).status is TradingStatus.HALTED
    assert at_time(spec, 1795888266, 2).status is TradingStatus.TRADING
    odd = OddRows()
    doubt = binance.parse_begins("b", b'[{"openTime":"soon","symbols":["NEWUSDT"]}]', ["NEWUSDT"], odd)
    assert doubt == Ends(unreadable=frozenset({"NEWUSDT"})) and odd.count == 1


ODD_END = {"symbol": "BROCKUSDT", "symbols": ["BROCKUSDT"], "delistTime": "soon", "offlineTime": "soon"}
FOREIGN = {"symbol": "AAAUSDT", "symbols": ["AAAUSDT"], "delistTime": None, "offlineTime": None}
KNOWN = {"symbol": "XYZUSDT", "symbols": ["XYZUSDT"], "delistTime": 1700000000000, "offlineTime": 1700000000000}
OURS = ("BROCKUSDT", "XYZUSDT")


@pytest.mark.parametrize("dialect", ["binance", "mexc"])
def test_an_odd_row_among_announced_ends_costs_itself_and_the_instrument_that_it_names(dialect: str) -> None:
    odd = OddRows()

    def read(*rows: dict[str, object]) -> Ends:
        body = list(rows) if dialect == "binance" else {"data": rows, "code": 0}
        parse = binance.parse_ends if dialect == "binance" else mexc.parse_ends
        return parse("v", json.dumps(body).encode(), OURS, odd)

    assert read(FOREIGN, KNOWN) == Ends({"XYZUSDT": 1700000000})
    assert odd.count == 1 and "row AAAUSDT left out" in odd.take_news()[0]
    assert read(ODD_END, KNOWN) == Ends({"XYZUSDT": 1700000000}, frozenset({"BROCKUSDT"}))
    assert read(ODD_END).unreadable == {"BROCKUSDT"} and "BROCKUSDT" in odd.take_news()[0]


@pytest.mark.parametrize("until_s", [0, 1795888266])
def test_an_instrument_whose_announced_end_cannot_be_read_takes_no_entries(until_s: int) -> None:
    """An end that was known before stays."""
    row = json.dumps({"symbols": [MEXC_ROW]}).encode()
    ends = AnnouncedEnds()
    ends.known = Ends({"BROCKUSDT": until_s})

    async def ask() -> Ends:
        return Ends({}, frozenset({"BROCKUSDT"}))

    found = mexc.parse_instruments(
        "v", row, ["BROCKUSDT"], fees={}, coins={}, prices={}, ends=asyncio.run(ends.read(ask))
    )[0]
    assert found.ending and found.unreadable and found.trading_until_wall_s == until_s
    near = at_time(found, 1795888266 - 3600, 2)
    assert near.ending and near.unreadable is (until_s == 0), "hedges leave where the end is known"


@pytest.mark.parametrize("changes", [{"in_delisting": True}, {"status": "delisting"}])
def test_gate_futures_that_are_being_delisted_let_positions_leave_and_nothing_in(changes: dict[str, object]) -> None:
    spec = gate_futures(**changes, delisting_time=1795888266, delisted_time=1795890066)
    assert (spec.status, spec.ending) == (TradingStatus.TRADING, True)
    assert spec.trading_until_wall_s == 1795888266  # only reductions from here on


def test_gate_decimal_contracts_have_their_own_step() -> None:
    spec = gate_futures(enable_decimal=True, order_size_min="0.1")
    assert (spec.lot, spec.min_qty) == (Decimal("0.00001"), Decimal("0.00001"))
    unknown = gate_futures(enable_decimal=True, order_size_min="0")  # step not told: whole contracts are safe
    assert unknown.lot == Decimal("0.0001") and unknown.min_qty == Decimal("0.0001")


def test_gate_multiplier_of_zero_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match="multiplier"):
        gate_futures(quanto_multiplier="0")


def test_gate_fees_of_the_sheet() -> None:
    wallet = (
        b'{"user_id":10001,"taker_fee":"0.002","maker_fee":"0.0015","gt_discount":false,"gt_taker_fee":"0",'
        b'"gt_maker_fee":"0","loan_fee":"0.18","point_type":"1","futures_taker_fee":"0.0005","futures_maker_fee":"0",'
        b'"debit_fee":3}'
    )
    assert gate.parse_spot_fee("v", "ETH_USDT", wallet) == FeeSchedule(
        venue="v", symbol="ETH_USDT", taker_ppm=2000, maker_ppm=1500
    )
    assert parse_gate_switch("v", wallet) == FeeSwitch("")
    in_gt = wallet.replace(b'"gt_discount":false,"gt_taker_fee":"0"', b'"gt_discount":true,"gt_taker_fee":"0.0018"')
    assert parse_gate_switch("v", in_gt) == FeeSwitch("GT", 100_000)
    assert parse_gate_switch("v", wallet.replace(b'"debit_fee":3', b'"debit_fee":1')) == FeeSwitch("GT", None)
    assert parse_gate_switch("v", wallet.replace(b'"debit_fee":3', b'"debit_fee":2')) == FeeSwitch("POINT", 0)
    with pytest.raises(ProtocolViolation):
        parse_gate_switch("v", b'{"gt_discount":true}')
    futures = gate.parse_futures_fees("v", b'{"BTC_USDT":{"taker_fee":"0.00075","maker_fee":"-0.00010"}}')
    assert (futures["BTC_USDT"].taker_ppm, futures["BTC_USDT"].maker_ppm) == (750, -100)


RISK_TIERS = (
    b'[{"maintenance_rate":"0.004","tier":1,"initial_rate":"0.008","leverage_max":"125","risk_limit":"500000",'
    b'"deduction":"0","contract":"BTC_USDT"},{"maintenance_rate":"0.005","tier":2,"initial_rate":"0.01",'
    b'"leverage_max":"100","risk_limit":"1000000","deduction":"500"}]'
)


def test_gate_risk_tiers_rise_and_the_last_has_no_end() -> None:
    first, last = gate.parse_risk_tiers("v", RISK_TIERS)
    assert first == (Decimal(500_000), Decimal("0.004"), Decimal(0), True)
    assert last == (Decimal("Infinity"), Decimal("0.005"), Decimal(500), True)
    turned = json.dumps(json.loads(RISK_TIERS)[::-1]).encode()
    assert gate.parse_risk_tiers("v", turned) == (first, last)
    assert gate.parse_risk_tiers("v", b"[]") == ()


@pytest.mark.parametrize(
    ("found", "instead"),
    [
        (b'"risk_limit":"1000000"', b'"risk_limit":"500000"'),
        (b'"maintenance_rate":"0.005"', b'"maintenance_rate":"0.003"'),
        (b'"maintenance_rate":"0.005"', b'"maintenance_rate":"1.5"'),
        (b'"deduction":"0"', b'"deduction":"-1"'),
        (b'"deduction":"500"', b'"deduction":"NaN"'),
    ],
)
def test_gate_risk_tiers_that_do_not_rise_are_refused(found: bytes, instead: bytes) -> None:
    assert found in RISK_TIERS
    with pytest.raises(ProtocolViolation):
        gate.parse_risk_tiers("v", RISK_TIERS.replace(found, instead))


def test_mexc_deduction_switch() -> None:
    body = b'{"data":{"mxDeductEnable":true},"code":0,"msg":"success","timestamp":1700000000000}'
    assert parse_mexc_switch("v", body) == FeeSwitch("MX")
    assert parse_mexc_switch("v", body.replace(b"true", b"false")) == FeeSwitch("")
    with pytest.raises(ProtocolViolation):
        parse_mexc_switch("v", b'{"data":{},"code":0}')


def test_gate_coin_with_every_chain_closed_is_closed() -> None:
    chains = [{"name": "ETH", "addr": "0xAB", "deposit_disabled": True, "withdraw_disabled": False}]
    body = json.dumps([{"currency": "X", "chains": chains}, {"currency": "Y", "delisted": True}]).encode()
    coins = gate.parse_coins("v", body)
    assert coins["X"].networks == (("eth", "0xab"),)
    assert not coins["X"].deposit_enabled and coins["X"].withdraw_enabled
    assert not coins["Y"].deposit_enabled and not coins["Y"].withdraw_enabled


def test_gate_recorded_instrument_lists_decode(captures_dir: Path) -> None:
    pairs = recorded(captures_dir / "GATEIO.0", "currency_pairs")
    specs = gate.parse_spot("gateio_spot", pairs, ["BTC_USDT"], fees={}, coins={}, prices={})
    assert specs[0].tick == Decimal("0.01") and specs[0].lot == Decimal("0.0001") and specs[0].taker_fee_ppm == 2000
    contracts = recorded(captures_dir / "GATEIO_FUTURES.0", "contracts")
    multipliers = gate.parse_multipliers("gateio_futures", contracts)
    assert multipliers["BTC_USDT"] == Decimal("0.0001") and multipliers["PEPE_USDT"] == Decimal(10000000)
    assert len(gate.parse_futures("gateio_futures", contracts, list(multipliers), fees={}, coins={})) == len(
        multipliers
    )


def recorded(path: Path, part: str) -> bytes:
    """Body of the recorded REST reply whose URL holds ``part``."""
    for line in path.read_text().splitlines():
        url, _, rest = line.partition(" -> ")
        if part in url:
            return rest.partition(": ")[2].encode()
    raise AssertionError(f"{path} has no reply of {part}")


BINANCE_SPOT = {
    "symbol": "ETHBTC", "status": "TRADING", "baseAsset": "ETH", "quoteAsset": "BTC", "isSpotTradingAllowed": True,
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.00000100", "tickSize": "0.00000100"},
        {"filterType": "LOT_SIZE", "minQty": "0.00100000", "maxQty": "100000.00000000", "stepSize": "0.00100000"},
        {"filterType": "NOTIONAL", "minNotional": "10.00000000", "applyMinToMarket": False},
    ],
}  # fmt: skip


def test_binance_spot_row_of_the_sheet() -> None:
    payload = json.dumps({"symbols": [BINANCE_SPOT]}).encode()
    spec = binance.parse_instruments("b", "spot", payload, ["ETHBTC"], fees={}, coins={}, prices={})[0]
    assert (spec.tick, spec.lot, spec.min_notional) == (Decimal("0.000001"), Decimal("0.001"), Decimal(10))
    assert spec.status is TradingStatus.TRADING


def test_binance_futures_take_tick_and_step_from_filters_not_from_precisions() -> None:
    row = {
        "symbol": "BLZUSDT", "contractType": "PERPETUAL", "status": "TRADING", "baseAsset": "BLZ",
        "quoteAsset": "USDT", "pricePrecision": 5, "quantityPrecision": 0,
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": "0.00010"}, {"filterType": "LOT_SIZE", "stepSize": "1"},
            {"filterType": "MIN_NOTIONAL", "notional": "5.0"},
        ],
    }  # fmt: skip
    premium = b'[{"symbol":"BLZUSDT","markPrice":"0.2","lastFundingRate":"0.00010000","nextFundingTime":1597392000000}]'
    spec = binance.parse_instruments(
        "b", "futures", json.dumps({"symbols": [row]}).encode(), ["BLZUSDT"], fees={}, coins={}, prices={},
        premiums=binance.parse_premiums("b", premium),
    )[0]  # fmt: skip
    assert (spec.tick, spec.lot, spec.min_notional) == (Decimal("0.0001"), Decimal(1), Decimal(5))
    assert (spec.funding_rate_ppb, spec.funding_next_wall_s) == (100_000, 1597392000)


def test_binance_row_without_filters_is_refused() -> None:
    payload = json.dumps({"symbols": [BINANCE_SPOT | {"filters": []}]}).encode()
    with pytest.raises(ProtocolViolation, match="tick or step"):
        binance.parse_instruments("b", "spot", payload, ["ETHBTC"], fees={}, coins={}, prices={})


def test_binance_commissions() -> None:
    spot = b'{"symbol":"X","standardCommission":{"maker":"0.001","taker":"0.0012","buyer":"0","seller":"0"}}'
    assert binance.parse_fee("b", "spot", "X", spot).taker_ppm == 1200
    futures = b'{"symbol":"X","makerCommissionRate":"0.0002","takerCommissionRate":"0.0004"}'
    assert binance.parse_fee("b", "futures", "X", futures).maker_ppm == 200


@pytest.mark.parametrize(
    ("a", "b"), [("ERC20", "ETH"), ("Ethereum(ERC20)", "eth"), ("TRC20", "TRX"), ("ARBEVM", "Arbitrum One")]
)
def test_spellings_of_one_network_agree(a: str, b: str) -> None:
    assert network_name(a) == network_name(b)


def test_unknown_networks_stay_themselves() -> None:
    coin = coin_identity("X", [("NewChain", "0xAA"), ("", "ignored")], deposit_enabled=True, withdraw_enabled=True)
    assert coin.networks == (("newchain", "0xaa"),)


@pytest.mark.parametrize("bad", [b"", b"{}", b"[]", b'{"symbols":[{"symbol":1}]}', b"\xff\xfe", b'{"symbols":' * 2000])
def test_bytes_that_are_no_instrument_list_are_a_protocol_violation(bad: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        mexc.parse_instruments("mexc_spot", bad, ["X"], fees={}, coins={}, prices={})


@pytest.mark.parametrize("bad", ["NaN", "1_000", "Infinity", "١"])
def test_numbers_that_python_would_take_are_refused(bad: str) -> None:
    with pytest.raises(ProtocolViolation):
        gate_spot(min_base_amount=bad)
