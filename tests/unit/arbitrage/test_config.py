"""``ArbitrageConfig``, ``get_config``, Python files, profiles, and what an engine makes of exchange objects."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from arbitrage import (
    ArbitrageConfig,
    ArbitrageEngine,
    BadInput,
    BinancePublicExchange,
    ConfigInvalid,
    ExchangeName,
    GateioPrivateExchange,
    GateioPublicExchange,
    MexcPrivateExchange,
    MexcPublicExchange,
    Mode,
    OpportunityType,
    RiskLimits,
    RiskManager,
    Symbol,
    get_config,
    get_exchange_config,
)
from pipeline.model.config_load import load_config, load_with_origins
from pipeline.model.enums import Refusal
from workers.control_plane import launch
from workers.control_plane.launch import LaunchError

YAML = """
engine_name: from-yaml
mode: paper
exchanges:
  mexc:
    dialect: mexc
    markets:
      spot: {rest: "https://api.mexc.com/api/v3", ws: "wss://wbs-api.mexc.com/ws", symbols: [BTCUSDT]}
risk_limits: {max_position_size_usd: 400}
"""
PYTHON = """
from decimal import Decimal

from arbitrage import ArbitrageConfig, MexcPublicExchange, OpportunityType, RiskLimits

ARBITRAGE_CONFIG = ArbitrageConfig(
    engine_name="from-python",
    enabled_opportunity_types=[OpportunityType.SPOT_SPOT],
    target_execution_time_ms=25,
    risk_limits=RiskLimits(max_position_size_usd=Decimal("300")),
    enable_dry_run=True,
    settings={"exchanges": {"mexc": MexcPublicExchange().section()}},
)
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no configuration of the caller's shell."""
    for name in ("ARB_CONFIG", "ARB_PROFILE", "ARB_MODE", "ARB_ENGINE_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keyed(**changes: object) -> dict[ExchangeName, object]:
    return {
        ExchangeName.MEXC: MexcPrivateExchange(api_key="k1", secret_key="s1"),
        ExchangeName.GATEIO: GateioPrivateExchange(api_key="k2", secret_key="s2"),
        **changes,
    }


def public() -> dict[ExchangeName, object]:
    return {
        ExchangeName.MEXC: MexcPublicExchange(),
        ExchangeName.GATEIO: GateioPublicExchange(markets=("spot", "futures"), symbols=[Symbol("SOL/USDT")]),
    }


def test_the_documents_arguments_become_the_engines_configuration() -> None:
    config = ArbitrageConfig(
        engine_name="hft_arbitrage_v1",
        enabled_opportunity_types=[OpportunityType.SPOT_SPOT, OpportunityType.SPOT_FUTURES_HEDGE],
        enabled_exchanges=[ExchangeName.MEXC, "gateio_spot"],
        target_execution_time_ms=30,
        risk_limits=RiskLimits(min_profit_margin_bps=75, max_execution_time_ms=45_000),  # type: ignore[arg-type]
        enable_risk_checks=True,
        enable_circuit_breakers=True,
        enable_dry_run=True,
    )
    engine = ArbitrageEngine(config=config, public_exchanges=public(), private_exchanges=keyed()).config  # type: ignore[arg-type]
    assert (engine.engine_name, engine.mode) == ("hft_arbitrage_v1", Mode.PAPER)
    assert engine.detection.types == ("spot_spot", "spot_futures_hedge")
    assert engine.risk_limits.min_profit_margin_bps == 75 and engine.execution.target_execution_time_ms == 30
    assert [venue.name for venue in engine.venues] == ["mexc_spot", "gateio_spot"]  # its futures are not enabled
    assert engine.venue("gateio_spot").symbols == ("SOL_USDT",)
    assert engine.venue("mexc_spot").symbols == ("BTCUSDT", "ETHUSDT")
    assert engine.venue("mexc_spot").rest == "https://api.mexc.com/api/v3"


def test_an_object_with_endpoints_replaces_what_it_names_and_nothing_else() -> None:
    spot = {"rest": "https://a.invalid", "ws": "wss://a.invalid", "ws_api": "wss://b.invalid", "symbols": ["SOLUSDT"]}
    configured = {"dialect": "mexc", "trade": True, "markets": {"spot": spot}}
    urls = {"rest": "https://c.invalid", "ws": "wss://c.invalid"}
    key = {"api_key": "k", "secret_key": "s"}
    private = MexcPrivateExchange(**key, endpoints={"spot": urls})  # type: ignore[arg-type]
    assert private.over(configured) == {**configured, "markets": {"spot": {**spot, **urls}}}
    named = {**urls, "symbols": ["XRPUSDT"]}
    public = MexcPublicExchange(endpoints={"spot": named})
    assert public.over(private.over(configured))["markets"] == {"spot": {**spot, **named}}
    both = MexcPublicExchange(symbols=[Symbol("ADA/USDT")], endpoints={"spot": named})
    assert both.over(configured)["markets"] == {"spot": {**spot, **urls, "symbols": ["ADAUSDT"]}}
    new = GateioPublicExchange(endpoints={"futures": urls})
    assert new.over({"dialect": "gateio"})["markets"] == {"futures": {**urls, "symbols": ["BTC_USDT", "ETH_USDT"]}}


def test_the_account_keeps_its_urls_where_the_market_data_names_fewer() -> None:
    urls = {"rest": "https://c.invalid", "ws": "wss://c.invalid"}
    own = {**urls, "ws_api": "wss://b.invalid", "ws_private": "wss://p.invalid"}
    engine = ArbitrageEngine(
        ArbitrageConfig(engine_name="m", enable_dry_run=True),
        {ExchangeName.MEXC: MexcPublicExchange(endpoints={"spot": urls}, symbols=[Symbol("SOL/USDT")])},
        {ExchangeName.MEXC: MexcPrivateExchange(api_key="k", secret_key="s", endpoints={"spot": own})},
    )
    venue = engine.config.venue("mexc_spot")
    assert (venue.ws_api, venue.ws_private, venue.symbols) == (own["ws_api"], own["ws_private"], ("SOLUSDT",))


def test_a_configuration_survives_the_way_there_and_back(in_a_folder: Path) -> None:
    (in_a_folder / "config.yaml").write_text(YAML)
    engine = load_config("config.yaml")
    assert ArbitrageConfig.of_engine(engine).engine_config() == engine
    with pytest.raises(ConfigInvalid, match="max_daily_loss_usd"):
        ArbitrageConfig(risk_limits=RiskLimits(max_daily_loss_usd=Decimal(-1))).engine_config()


def test_where_money_is_real_live_is_meant_and_must_be_confirmed() -> None:
    config = ArbitrageConfig(engine_name="m")
    with pytest.raises(ConfigInvalid, match="i-understand-live-trading"):
        ArbitrageEngine(config, public(), keyed())  # type: ignore[arg-type]
    confirmed = ArbitrageEngine(config, public(), keyed(), live_name="m")  # type: ignore[arg-type]
    assert confirmed.config.mode is Mode.LIVE
    with pytest.raises(ConfigInvalid, match=r"exchanges\.gateio: found no key"):
        mexc = {ExchangeName.MEXC: MexcPrivateExchange(api_key="k", secret_key="s")}
        ArbitrageEngine(config, public(), mexc, live_name="m")  # type: ignore[arg-type]
    loopback = {"spot": {"rest": "http://127.0.0.1:1", "ws": "ws://127.0.0.1:1"}}
    here = {ExchangeName.MEXC: MexcPrivateExchange(api_key="k", secret_key="s", endpoints=loopback)}
    assert ArbitrageEngine(config, None, here).config.mode is Mode.SIM  # type: ignore[arg-type]


def test_foreign_and_misplaced_objects_are_refused_with_words() -> None:
    config = ArbitrageConfig(engine_name="m", enable_dry_run=True)
    with pytest.raises(BadInput, match=r"public_exchanges\[MEXC\]: found builtins.object, wanted .*MexcPublicExchange"):
        ArbitrageEngine(config, {ExchangeName.MEXC: object()})  # type: ignore[dict-item]
    with pytest.raises(BadInput, match=r"private_exchanges\[MEXC\]: found arbitrage.*MexcPublicExchange"):
        ArbitrageEngine(config, None, {ExchangeName.MEXC: MexcPublicExchange()})  # type: ignore[dict-item]
    with pytest.raises(BadInput, match="found an object of gateio, wanted one of mexc"):
        ArbitrageEngine(config, {ExchangeName.MEXC: GateioPublicExchange()})
    with pytest.raises(BadInput, match="found int, wanted an ArbitrageConfig"):
        ArbitrageEngine(3)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="found dict, wanted an ArbitrageConfig"):
        RiskManager({})
    with pytest.raises(ConfigInvalid, match="no api_key"):
        MexcPrivateExchange(api_key="", secret_key="s")
    with pytest.raises(BadInput, match="found market 'futures'"):
        MexcPublicExchange(markets=("futures",))
    with pytest.raises(ConfigInvalid, match="found 'binance'"):
        ArbitrageEngine(ArbitrageConfig(enabled_exchanges=[ExchangeName.BINANCE], enable_dry_run=True), public())  # type: ignore[arg-type]


def test_keys_are_never_shown() -> None:
    private = MexcPrivateExchange(api_key="k-visible", secret_key="s-visible", uid="7")
    assert "visible" not in f"{private!r} {private} {vars(private)} {private.hand_over()}"
    engine = ArbitrageEngine(ArbitrageConfig(enable_dry_run=True), public(), keyed(), instance="t-shown")  # type: ignore[arg-type]
    assert "s1" not in str(vars(engine)) and b"s1" not in msgspec.json.encode(engine.config)


def test_get_config_finds_yaml_or_python_and_names_a_venue(in_a_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (in_a_folder / "arbitrage_config.py").write_text(PYTHON)
    config = get_config()
    assert (config.engine_name, config.target_execution_time_ms) == ("from-python", 25)
    assert config.risk_limits.max_position_size_usd == 300 and config.mode is Mode.PAPER
    assert load_config("arbitrage_config.py").venue("mexc_spot").symbols == ("BTCUSDT", "ETHUSDT")  # arb up --config
    (in_a_folder / "config.yaml").write_text(YAML)
    assert get_config().engine_name == "from-yaml"
    assert get_config("arbitrage_config.py").engine_name == "from-python"
    monkeypatch.setenv("ARB_MAX_POSITION_SIZE_USD", "200")
    assert get_config().risk_limits.max_position_size_usd == 200
    venue = get_exchange_config("mexc_spot")
    assert (venue.rest, venue.symbols) == ("https://api.mexc.com/api/v3", ("BTCUSDT",))
    assert get_config().get_exchange_config(ExchangeName.MEXC) == venue
    with pytest.raises(ConfigInvalid, match="'gateio_spot' is not configured, known"):
        get_exchange_config("gateio_spot")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = 1", "found nothing as ARBITRAGE_CONFIG"),
        ("ARBITRAGE_CONFIG = 3", "found int as ARBITRAGE_CONFIG"),
        ("import nothing_of_that_name", "nothing_of_that_name"),
        ("1 / 0", "ZeroDivisionError"),
        ("def (", "SyntaxError"),
        ("ARBITRAGE_CONFIG = {'engine_name': 'A B'}", "engine_name: found 'A B'"),
    ],
)
def test_what_is_wrong_with_a_python_configuration_is_named(in_a_folder: Path, text: str, found: str) -> None:
    (in_a_folder / "arbitrage_config.py").write_text(text)
    with pytest.raises(ConfigInvalid, match=found):
        get_config("arbitrage_config.py")


def test_profiles_set_the_mode_and_lay_their_file_over(in_a_folder: Path) -> None:
    (in_a_folder / "config.yaml").write_text(YAML)
    with pytest.raises(ConfigInvalid, match="refused in sim mode"):  # tests never reach a real exchange
        get_config(profile="test")
    (in_a_folder / "config.test.yaml").write_text(
        "exchanges: {mexc: {markets: {spot: {rest: 'http://127.0.0.1:1', ws: 'ws://127.0.0.1:1'}}}}\n"
    )
    assert get_config(profile="test").mode is Mode.SIM
    assert get_config(profile="dev").mode is Mode.PAPER
    (in_a_folder / "config.prod.yaml").write_text("risk_limits: {max_daily_loss_usd: 7}\n")
    prod = get_config(profile="prod")
    assert (prod.mode, prod.risk_limits.max_daily_loss_usd, prod.risk_limits.max_position_size_usd) == (
        Mode.LIVE,
        7,
        400,
    )
    (in_a_folder / "config.tiny.yaml").write_text("{engine_name: tiny, risk_limits: {max_position_size_usd: 1}}\n")
    _, origins = load_with_origins("config.yaml", {"ARB_PROFILE": "tiny", "ARB_MODE": "live"})
    assert origins["engine_name"] == "file config.tiny.yaml" and origins["mode"] == "environment (ARB_MODE)"
    assert get_config(profile="tiny").risk_limits.max_position_size_usd == 1
    with pytest.raises(
        ConfigInvalid, match=r"found 'none', wanted one of dev, test, prod, or a file config\.none\.yaml"
    ):
        get_config(profile="none")


def test_symbols_are_pairs_in_any_spelling() -> None:
    assert Symbol("btc/usdt") == Symbol("BTC", "USDT") == "BTC/USDT"
    assert (Symbol("BTC", "USDT").base, Symbol("BTC/USDT").quote) == ("BTC", "USDT")
    assert Symbol("BTC", "USDT", is_futures=True).is_futures and not Symbol("BTC/USDT").is_futures
    for wrong in ("BTCUSDT", "BTC/", "/USDT", "A/B/C"):
        with pytest.raises(BadInput, match="wanted BASE/QUOTE"):
            Symbol(wrong)
    assert MexcPublicExchange.spell("BTC/USDT") == "BTCUSDT" == BinancePublicExchange.spell("BTCUSDT")


def test_every_exported_name_exists() -> None:
    import arbitrage

    assert len(arbitrage.__all__) > 40
    for name in arbitrage.__all__:
        assert getattr(arbitrage, name) is not None
    with pytest.raises(AttributeError, match="has no 'Nothing'"):
        arbitrage.__getattr__("Nothing")
    assert Refusal.NONE == 0


def test_a_start_waits_for_a_running_instance_beside_the_programs_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[threading.Thread] = []

    def runs(instance: str) -> bool:
        waited.append(threading.current_thread())
        return True

    monkeypatch.setattr(launch, "is_running", runs)
    monkeypatch.setattr(launch, "ENDING_S", 0.0)
    engine = ArbitrageEngine(ArbitrageConfig(engine_name="m", enable_dry_run=True), public())  # type: ignore[arg-type]
    with pytest.raises(LaunchError, match="instance m is running already"):
        asyncio.run(engine.start())
    assert waited and threading.main_thread() not in waited
