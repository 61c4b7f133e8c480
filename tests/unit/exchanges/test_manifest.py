"""What dialects say of themselves: every market has one, its URLs are a valid configuration, its lists are read."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from arbitrage import ExchangeName
from pipeline.exchanges.binance import listing as binance
from pipeline.exchanges.factory import make_trading, trading_problems
from pipeline.exchanges.gateio import listing as gateio
from pipeline.exchanges.mexc import listing as mexc
from pipeline.exchanges.parsing.rows import OddRows
from pipeline.model.config import VenueConfig
from pipeline.model.config_load import config_from_mapping
from pipeline.model.dialects import SIDES, dialect_names, facts_of
from pipeline.model.errors import ConfigInvalid
from pipeline.model.structs import Credentials, KeyRights
from tests.paths import REPO

MARKETS = [(dialect, market) for dialect in dialect_names() for market in facts_of(dialect).markets]


def test_every_folder_of_either_side_is_half_of_a_dialect_that_is_whole() -> None:
    """A dialect that is left out somewhere would be read, replayed or charged as none."""
    for side, marker in SIDES.items():
        assert {path.parent.name for path in (REPO / "pipeline" / side).glob(f"*/{marker}")} == set(dialect_names())
    folders = {path.parent.name for path in (REPO / "pipeline/exchanges").glob("*/feed_codec.py")}
    assert folders == set(dialect_names()) == {name.value for name in ExchangeName}
    assert {name.name for name in ExchangeName} == {name.upper() for name in dialect_names()}


@pytest.mark.parametrize(("dialect", "market"), MARKETS)
def test_the_urls_of_a_manifest_are_a_live_configuration(dialect: str, market: str) -> None:
    found = facts_of(dialect).markets[market]
    assert re.fullmatch(found.symbol_form, found.symbol_example)
    entry = {**found.urls, "symbols": [found.symbol_example]}
    config = config_from_mapping(
        {"mode": "live", "exchanges": {dialect: {"dialect": dialect, "markets": {market: entry}}}}
    )
    assert [venue.name for venue in config.venues] == [f"{dialect}_{market}"]


@pytest.mark.parametrize(("dialect", "market"), MARKETS)
def test_order_entry_needs_the_urls_that_the_manifest_names_and_no_other(dialect: str, market: str) -> None:
    found = facts_of(dialect).markets[market]

    def venue(left_out: str) -> VenueConfig:
        entry = {key: url for key, url in found.urls.items() if key != left_out} | {"symbols": [found.symbol_example]}
        exchange = {"dialect": dialect, "markets": {market: entry}}
        return config_from_mapping({"exchanges": {dialect: exchange}}).venues[0]

    key = Credentials(api_key="k", api_secret="s")
    if not facts_of(dialect).trade:
        assert trading_problems(venue("none of them")) == [
            f"exchanges.{dialect}: the dialect {dialect} places no orders; wanted trade: false"
        ]
        return
    for url in ("none of them", *(url for url in found.urls if url not in ("rest", "ws"))):
        if url in found.order_urls:
            with pytest.raises(ConfigInvalid, match=f"markets.{market}.{url}: missing"):
                make_trading(venue(url), key, lambda event: None)
        else:
            assert make_trading(venue(url), key, lambda event: None).venue == f"{dialect}_{market}"


@pytest.mark.parametrize("symbol", ["BTC/USDT", "btcusdt", "BTC-USDT", "BTC_USDT", "BTC USDT", ""])
def test_another_spelling_is_no_symbol_of_mexc(symbol: str) -> None:
    assert not re.fullmatch(facts_of("mexc").markets["spot"].symbol_form, symbol)


@pytest.mark.parametrize("symbol", ["BTC/USDT", "btc_usdt", "BTCUSDT", "BTC_", "_USDT"])
def test_another_spelling_is_no_symbol_of_gateio(symbol: str) -> None:
    assert not re.fullmatch(facts_of("gateio").markets["spot"].symbol_form, symbol)


def test_mexc_lists_what_trades_on_both_sides() -> None:
    rows = (
        b'{"symbols":[{"symbol":"AUSDT","status":"1","baseAsset":"A","quoteAsset":"USDT","tradeSideType":1},'
        b'{"symbol":"BUSDT","status":"2","baseAsset":"B","quoteAsset":"USDT"},'
        b'{"symbol":"CUSDT","status":"1","baseAsset":"C","quoteAsset":"USDT","tradeSideType":3},'
        b'{"symbol":"DUSDT","status":"1","baseAsset":null,"quoteAsset":"USDT"}]}'
    )
    odd = OddRows()
    assert mexc.parse_symbols("m", rows, odd) == [("AUSDT", "A", "USDT")]
    assert odd.count == 1, "a row that cannot be read costs itself alone"
    day = b'[{"symbol":"AUSDT","quoteVolume":"12.5"},{"symbol":"BUSDT","quoteVolume":null}]'
    assert mexc.parse_volumes("m", day, OddRows()) == {"AUSDT": Decimal("12.5")}


def test_gateio_lists_pairs_and_contracts_without_an_end() -> None:
    pairs = (
        b'[{"id":"A_USDT","base":"A","quote":"USDT","trade_status":"tradable"},'
        b'{"id":"B_USDT","base":"B","quote":"USDT","trade_status":"sellable"}]'
    )
    assert gateio.parse_spot_symbols("g", pairs, OddRows()) == [("A_USDT", "A", "USDT")]
    contracts = (
        b'[{"name":"A_USDT","type":"direct"},{"name":"B_USDT","in_delisting":true},{"name":"C","type":"direct"}]'
    )
    assert gateio.parse_futures_symbols("g", contracts, OddRows()) == [("A_USDT", "A", "USDT")]
    assert gateio.parse_spot_volumes("g", b'[{"currency_pair":"A_USDT","quote_volume":"7"}]', OddRows()) == {
        "A_USDT": Decimal(7)
    }
    assert gateio.parse_futures_volumes("g", b'[{"contract":"A_USDT","volume_24h_quote":"8"}]', OddRows()) == {
        "A_USDT": Decimal(8)
    }


def test_binance_lists_perpetual_contracts_alone() -> None:
    rows = (
        b'{"symbols":[{"symbol":"AUSDT","status":"TRADING","baseAsset":"A","quoteAsset":"USDT","contractType":"PERPETUAL"},'
        b'{"symbol":"AUSDT_240628","status":"TRADING","baseAsset":"A","quoteAsset":"USDT",'
        b'"contractType":"CURRENT_QUARTER"},{"symbol":"BUSDT","status":"BREAK","baseAsset":"B","quoteAsset":"USDT"}]}'
    )
    assert binance.parse_symbols("b", rows, OddRows()) == [("AUSDT", "A", "USDT")]


def test_what_a_venue_does_not_tell_of_a_key_stays_unknown() -> None:
    assert gateio.parse_key_rights("g", b'{"ip_whitelist":["127.0.0.1"],"key":{"mode":1}}') == KeyRights(ip_bound=True)
    assert gateio.parse_key_rights("g", b'{"ip_whitelist":[]}') == KeyRights(ip_bound=False)
    assert gateio.parse_key_rights("g", b"{}") == KeyRights()
    reported = b'{"ipRestrict":true,"enableWithdrawals":false,"enableSpotAndMarginTrading":true}'
    assert binance.parse_key_rights("b", reported) == KeyRights(trade=True, withdraw=False, ip_bound=True)
    assert binance.parse_key_rights("b", b"{}") == KeyRights()
