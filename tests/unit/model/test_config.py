"""Configuration: every error at once, with its path; precedence and origins."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from pipeline.model import dialects
from pipeline.model.config import EngineConfig, ExchangeConfig
from pipeline.model.config_load import config_from_mapping, load_config, load_with_origins
from pipeline.model.dialects import dialect_names
from pipeline.model.enums import Mode, OpportunityType, WaitStrategy
from pipeline.model.errors import ConfigInvalid
from tests.paths import REPO

GOOD = """
engine_name: demo
mode: sim
exchanges:
  gateio:
    dialect: gateio
    markets:
      futures: {rest: "http://127.0.0.1:2", ws: "ws://127.0.0.1:2/v4/ws/usdt", symbols: [BTC_USDT]}
      spot: {rest: "http://127.0.0.1:1", ws: "ws://127.0.0.1:1/ws/v4/", symbols: [BTC_USDT, ETH_USDT]}
  mexc:
    dialect: mexc
    markets:
      spot: {rest: "http://127.0.0.1:3/", ws: "ws://127.0.0.1:3/ws", symbols: [BTCUSDT]}
risk_limits: {min_profit_margin_bps: 0.1}
processes:
  detector: {cpus: [1], wait: spin}
  feed: {cpus: [0]}
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    return path


def test_venues_have_dense_ids_spot_before_futures(config_file: Path) -> None:
    config = load_config(config_file, {})
    assert [(v.name, v.venue_id, v.feed_id) for v in config.venues] == [
        ("gateio_spot", 0, 0),
        ("gateio_futures", 1, 0),
        ("mexc_spot", 2, 1),
    ]
    assert config.venue("mexc_spot").rest == "http://127.0.0.1:3"
    with pytest.raises(KeyError, match="not configured"):
        config.venue("kraken_spot")


def test_yaml_decimals_are_exact(config_file: Path) -> None:
    assert load_config(config_file, {}).risk_limits.min_profit_margin_bps == Decimal("0.1")


def test_a_coin_that_yaml_reads_as_a_boolean_is_named_by_its_path() -> None:
    with pytest.raises(ConfigInvalid, match=r"detection\.trusted_coins\[1\]"):
        load_config(REPO / "tests" / "cases" / "yaml_bool.yaml", {})


def test_symbols_that_no_order_can_name_are_named_by_their_paths() -> None:
    with pytest.raises(ConfigInvalid) as refused:
        load_config(REPO / "tests" / "cases" / "unicode.yaml", {})
    for place in ("binance.markets.futures", "gateio.markets.spot"):
        assert f"exchanges.{place}.symbols: found '币安人生" in str(refused.value)
    assert "1INCH_USDT" not in str(refused.value)


def test_process_settings_fall_back_to_the_kind_of_process(config_file: Path) -> None:
    config = load_config(config_file, {})
    assert config.process("feed.mexc").cpus == (0,)
    assert config.process("detector").wait is WaitStrategy.SPIN
    assert config.process("executor").cpus == ()


def test_environment_wins_over_dotenv_over_file_and_origins_say_so(config_file: Path) -> None:
    (config_file.parent / ".env").write_text("# limits\nARB_MAX_DAILY_LOSS_USD=7\nexport ARB_MODE='sim'\n")
    config, origins = load_with_origins(config_file, {"ARB_MIN_PROFIT_MARGIN_BPS": "12.5"})
    assert config.risk_limits.min_profit_margin_bps == Decimal("12.5")
    assert config.risk_limits.max_daily_loss_usd == 7
    assert config.mode is Mode.SIM
    assert origins["risk_limits.min_profit_margin_bps"] == "environment (ARB_MIN_PROFIT_MARGIN_BPS)"
    assert ".env" in origins["risk_limits.max_daily_loss_usd"]
    assert "config.yaml" in origins["exchanges.mexc.dialect"]


def test_defaults_name_the_two_types_and_the_execution_threshold(config_file: Path) -> None:
    config = load_config(config_file, {})
    assert config.enabled_opportunity_types == (OpportunityType.SPOT_SPOT, OpportunityType.SPOT_FUTURES_HEDGE)
    assert config.execute_edge_bps == Decimal("0.1")


BAD = {
    "foo": 1,
    "engine_name": "A b",
    "mode": "simx",
    "exchanges": {
        "mexc": {"dialect": "x", "markets": {"spot": {"rest": "http://a", "ws": "", "sym": 1}}},
        "gateio": {"dialect": "gateio", "markets": {"margin": {"rest": "ftp://x", "ws": "ws://127.0.0.1:1"}}},
    },
    "risk_limits": {"max_daily_loss_usd": "NaN", "max_orders_per_s": "x", "max_position_size_usd": 0},
    "detection": {
        "types": ["spot_moon"],
        "no_entries_before_end_h": -1,
        "hedge": {"leverage": 0, "margin": {"trigger_pct": 25, "mark_interval_ms": 0}},
    },
    "processes": {"feeder": {}, "detector": {"cpus": [-1], "nice": 99}},
}


def test_every_error_is_listed_at_once_with_its_path() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        config_from_mapping(BAD)
    paths = {line.split(":")[0] for line in caught.value.errors}
    assert paths >= {
        "foo",
        "engine_name",
        "mode",
        "exchanges.mexc.dialect",
        "exchanges.mexc.markets.spot.sym",
        "exchanges.mexc.markets.spot.rest",
        "exchanges.mexc.markets.spot.ws",
        "exchanges.gateio.markets.margin",
        "exchanges.gateio.markets.margin.rest",
        "risk_limits.max_daily_loss_usd",
        "risk_limits.max_orders_per_s",
        "risk_limits.max_position_size_usd",
        "detection.types",
        "detection.no_entries_before_end_h",
        "detection.hedge.leverage",
        "detection.hedge.margin",
        "detection.hedge.margin.mark_interval_ms",
        "processes.feeder",
        "processes.detector.cpus",
        "processes.detector.nice",
    }


@pytest.mark.parametrize("table", ["per_asset", "per_pair"])
def test_orders_a_second_of_an_asset_or_a_pair_are_refused_and_the_place_is_named(table: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        config_from_mapping({"risk_limits": {table: {"BTC": {"max_orders_per_s": 1}}}})
    (said,) = caught.value.errors
    assert said.startswith(f"risk_limits.{table}.BTC.max_orders_per_s: unknown key; known: enabled, ")
    assert said.endswith("it is a limit of a venue (risk_limits.per_venue), or of all (risk_limits)")


def test_live_mode_refuses_plain_text_and_sim_mode_refuses_other_hosts() -> None:
    market = {"rest": "http://127.0.0.1:1", "ws": "wss://wbs-api.mexc.com/ws", "symbols": ["BTCUSDT"]}
    exchanges = {"mexc": {"dialect": "mexc", "markets": {"spot": market}}}
    with pytest.raises(ConfigInvalid, match="refused in live mode"):
        config_from_mapping({"mode": "live", "exchanges": exchanges})
    with pytest.raises(ConfigInvalid, match="refused in sim mode"):
        config_from_mapping({"mode": "sim", "exchanges": exchanges})


def test_unknown_variable_and_broken_dotenv_line_are_named(config_file: Path) -> None:
    (config_file.parent / ".env").write_text("nonsense\n")
    with pytest.raises(ConfigInvalid) as caught:
        load_config(config_file, {"ARB_MAX_POSITON_SIZE_USD": "1"})
    text = str(caught.value)
    assert "ARB_MAX_POSITON_SIZE_USD is not known" in text and ".env:1" in text


def test_files_that_cannot_be_read_or_parsed_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        load_config(tmp_path / "absent.yaml", {})
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1\n")
    with pytest.raises(ConfigInvalid, match="not YAML"):
        load_config(broken, {})
    broken.write_text("- 1\n")
    with pytest.raises(ConfigInvalid, match="wanted a mapping"):
        load_config(broken, {})


VARIABLES = {
    "ARB_MAX_POSITION_SIZE_USD": ("10000", lambda c: c.risk_limits.max_position_size_usd == 10000),
    "ARB_MAX_TOTAL_EXPOSURE_USD": ("50000", lambda c: c.risk_limits.max_total_exposure_usd == 50000),
    "ARB_MIN_PROFIT_MARGIN_BPS": ("50", lambda c: c.risk_limits.min_profit_margin_bps == c.execute_edge_bps == 50),
    "ARB_MIN_PROFIT_USD": ("0.75", lambda c: c.risk_limits.min_profit_usd == Decimal("0.75")),
    "ARB_MAX_DAILY_LOSS_USD": ("5000", lambda c: c.risk_limits.max_daily_loss_usd == 5000),
    "ARB_TARGET_EXECUTION_TIME_MS": ("31", lambda c: c.execution.target_execution_time_ms == 31),
    "ARB_OPPORTUNITY_SCAN_INTERVAL_MS": ("100", lambda c: True),  # without effect: detection is event-driven
    "ARB_BALANCE_REFRESH_INTERVAL_MS": ("900", lambda c: c.execution.balance_refresh_interval_ms == 900),
    "ARB_ENABLE_CIRCUIT_BREAKERS": ("false", lambda c: c.features.enable_circuit_breakers is False),
    "ARB_ENABLE_RISK_CHECKS": ("0", lambda c: c.features.enable_risk_checks is False),
    "ARB_ENABLE_RECOVERY_MODE": ("false", lambda c: c.features.enable_recovery_mode is False),
}


@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_reaches_its_setting(config_file: Path, name: str) -> None:
    value, holds = VARIABLES[name]
    assert holds(load_config(config_file, {name: value}))


def test_a_dry_run_in_live_mode_is_a_contradiction(config_file: Path) -> None:
    features = {"enable_dry_run": True}
    with pytest.raises(ConfigInvalid, match="enable_dry_run"):
        config_from_mapping({"mode": "live", "features": features})
    assert config_from_mapping({"mode": "paper", "features": features}).features.enable_dry_run


def test_the_shorter_of_both_bounds_makes_an_order_unknown() -> None:
    config = config_from_mapping({"mode": "paper", "risk_limits": {"max_execution_time_ms": 300}})
    assert config.answer_timeout_ms == 300
    assert config_from_mapping({"execution": {"order_timeout_ms": 200}}).answer_timeout_ms == 200


MEXC_MARKET = {"rest": "https://api.mexc.com/api/v3", "ws": "wss://wbs-api.mexc.com/ws", "symbols": ["BTCUSDT"]}


def exchange_errors(dialect: str, market: str = "spot", **entry: object) -> list[str]:
    data = {"exchanges": {"it": {"dialect": dialect, "markets": {market: {**MEXC_MARKET, **entry}}}}}
    with pytest.raises(ConfigInvalid) as caught:
        config_from_mapping(data)
    return caught.value.errors


def test_what_cannot_be_an_exchange_is_said_in_one_sentence() -> None:
    known = ", ".join(dialect_names())
    assert exchange_errors("acme") == [
        f"exchanges.it.dialect: found 'acme', wanted one of {known} (a new one: `arb dialect new acme`)"
    ]
    assert exchange_errors("mexc", "futures") == [
        "exchanges.it.markets.futures: the dialect mexc has no such market, wanted one of spot"
    ]
    assert exchange_errors("mexc", symbols=["币安USDT"]) == [
        "exchanges.it.markets.spot.symbols: found '币安USDT', which is not plain ASCII: no order can name it; "
        "leave it out"
    ]


def test_every_key_of_an_exchange_is_taken_and_sockets_are_one_or_two() -> None:
    entry = {"dialect": "mexc", "markets": {"spot": MEXC_MARKET}, "enabled": False, "trade": False, "sockets": 2}
    (found,) = config_from_mapping({"exchanges": {"it": entry}}).exchanges.values()
    assert (found.enabled, found.trade, found.sockets) == (False, False, 2)
    assert set(entry) == {field.name for field in msgspec.structs.fields(ExchangeConfig)}
    for bad in (3, -1, "two"):
        with pytest.raises(ConfigInvalid) as caught:
            config_from_mapping({"exchanges": {"it": {**entry, "sockets": bad}}})
        assert len(caught.value.errors) == 1 and caught.value.errors[0].startswith("exchanges.it.sockets: ")


@pytest.mark.parametrize(
    ("symbol", "dialect", "wanted"),
    [("BTC_USDT", "mexc", "BTCUSDT"), ("BTC/USDT", "binance", "BTCUSDT"), ("BTCUSDT", "gateio", "BTC_USDT")],
)
def test_a_symbol_that_the_venue_cannot_have_is_refused_where_real_books_are_read(
    symbol: str, dialect: str, wanted: str
) -> None:
    entry = {**MEXC_MARKET, "rest": "https://a.example", "symbols": [symbol]}
    data = {"mode": "paper", "exchanges": {"it": {"dialect": dialect, "markets": {"spot": entry}}}}
    with pytest.raises(ConfigInvalid) as caught:
        config_from_mapping(data)
    assert caught.value.errors == [
        f"exchanges.it.markets.spot.symbols: found {symbol!r}, wanted the venue's spelling, as {wanted}"
    ]


@pytest.mark.parametrize(
    ("dialect", "url", "said"),
    [
        ("mexc", "https://a.example/api/v3/api/v3", "has /api/v3 twice; wanted it once"),
        ("mexc", "https://a.example/v3/v3/", "has /v3 twice; wanted it once"),
        ("binance", "https://a.example/api/v3", "wanted 'https://a.example': requests add /api/v3 themselves"),
    ],
)
def test_a_url_with_a_doubled_path_is_refused(dialect: str, url: str, said: str) -> None:
    (error,) = exchange_errors(dialect, rest=url)
    assert error.startswith(f"exchanges.it.markets.spot.rest: found {url!r}, ") and error.endswith(said)


def outside(root: Path, name: str, *sides: str) -> str:
    """A folder with (parts of) a dialect that is none of ours."""
    own = Path(dialects.__file__).parents[1] / "exchanges/mexc/manifest.toml"
    for side in sides:
        folder = root / side / name
        folder.mkdir(parents=True)
        marker = folder / dialects.SIDES[side]
        marker.write_bytes(own.read_bytes() if marker.suffix == ".toml" else b"")
    return str(root)


@pytest.fixture
def own_roots() -> Iterator[None]:
    before = list(dialects._roots)
    yield
    dialects._roots[:] = before
    dialects._sides.cache_clear()


def with_dialects(*paths: str, dialect: str) -> EngineConfig:
    exchange = {"dialect": dialect, "markets": {"spot": MEXC_MARKET}}
    return config_from_mapping({"dialects": list(paths), "exchanges": {"it": exchange}})


def test_a_pair_of_folders_from_outside_is_a_dialect(tmp_path: Path, own_roots: None) -> None:
    path = outside(tmp_path, "acme", "exchanges", "sim/wire")
    assert with_dialects(path, dialect="acme").venues[0].dialect == "acme"
    assert "acme" in dialect_names() and dialects.facts_of("acme").deduction_coins == {"MX"}


@pytest.mark.parametrize(
    ("side", "missing"), [("exchanges", "sim/wire/acme/exchange.py"), ("sim/wire", "exchanges/acme/manifest.toml")]
)
def test_half_a_dialect_is_refused_with_what_is_missing(
    tmp_path: Path, own_roots: None, side: str, missing: str
) -> None:
    path = outside(tmp_path, "acme", side)
    with pytest.raises(ConfigInvalid) as caught:
        with_dialects(path, dialect="acme")
    (error,) = caught.value.errors
    assert f"half a dialect: {tmp_path / side / 'acme'} is there and {missing} is not" in error


def test_a_folder_without_a_dialect_and_a_taken_name_are_refused(tmp_path: Path, own_roots: None) -> None:
    taken = outside(tmp_path / "taken", "gateio", "exchanges", "sim/wire")
    shared = outside(tmp_path / "shared", "transport", "exchanges", "sim/wire")
    (tmp_path / "empty").mkdir()
    cases = {
        str(tmp_path / "empty"): "holds no dialect",
        "relative": "wanted an absolute path",
        taken: "has a dialect 'gateio', and there is one of this name already",
        shared: "has a dialect 'transport', and there is one of this name already",
    }
    for path, said in cases.items():
        with pytest.raises(ConfigInvalid) as caught:
            with_dialects(path, dialect="mexc")
        (error,) = caught.value.errors
        assert error.startswith("dialects: ") and said in error
    broken = Path(outside(tmp_path / "broken", "acme", "exchanges", "sim/wire"))
    (broken / "exchanges/acme/manifest.toml").write_text('title = "Acme"\nmarkets = {margin = {}}\n')
    with pytest.raises(ConfigInvalid, match=r"manifest\.toml cannot be read"):
        with_dialects(str(broken), dialect="acme")
