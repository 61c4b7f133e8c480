"""Each thing that live refuses, one at a time, against a configuration that it takes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.conformance.skeleton import write_skeleton
from pipeline.execution.crash_points import VARIABLE, crash_points_here
from pipeline.model import dialects
from pipeline.model.config import EngineConfig
from pipeline.model.config_load import config_from_mapping
from pipeline.model.enums import Mode
from pipeline.model.errors import ConfigInvalid
from pipeline.model.structs import Credentials
from shm.pages import HaltPage
from workers.control_plane.supervisor import Supervisor
from workers.credentials import missing_keys, store_credentials
from workers.executor.earlier_runs import JournalOfBefore
from workers.executor.process import Executor
from workers.guard.process import Guard
from workers.live_rules import at_stake, live_errors, live_warnings, pair_of, trade_errors
from workers.setup.venue_plan import exchange_section


def live(**sections: Any) -> EngineConfig:
    """A live configuration of three venues that both pair; ``sections`` are merged into it."""
    exchanges = exchange_section(["mexc_spot", "gateio_spot", "gateio_futures"], {})
    exchanges["mexc"]["markets"]["spot"]["symbols"] = ["BTCUSDT", "ETHUSDT"]
    for market in ("spot", "futures"):
        exchanges["gateio"]["markets"][market]["symbols"] = ["BTC_USDT", "ETH_USDT"]
    data: dict[str, Any] = {"engine_name": "main", "mode": "live", "exchanges": exchanges}
    for path, value in sections.items():
        target = data
        *parents, last = path.split("__")
        for key in parents:
            target = target.setdefault(key, {})
        target[last] = value
    return config_from_mapping(data)


def supervisor(instance: str, config: EngineConfig) -> object:
    ours, others = socket.socketpair()
    with ours, others:
        return Supervisor(instance=instance, config=config, config_path=None, fork_server=(0, ours), units=True)


def guard(instance: str, config: EngineConfig) -> object:
    with contextlib.closing(HaltPage.create(instance)) as page:
        return Guard(SimpleNamespace(config=config, instance=instance), page)  # type: ignore[arg-type]


def executor(instance: str, config: EngineConfig) -> object:
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop):
        ctx: Any = SimpleNamespace(config=config, instance=instance)
        return Executor(ctx, loop, JournalOfBefore(ctx))


def test_an_exchange_that_is_not_traded_needs_no_key_and_no_order_entry(state_dir: Path) -> None:
    binance = {"rest": "https://localhost", "ws": "wss://localhost", "symbols": ["BTCUSDT"]}
    config = live(exchanges__binance={"dialect": "binance", "markets": {"spot": binance}})
    assert "markets.spot.ws_api: missing" in trade_errors(config)[0]
    assert any("exchanges.binance: found no key" in line for line in missing_keys(config, "main"))
    config = live(exchanges__binance={"dialect": "binance", "trade": False, "markets": {"spot": binance}})
    assert trade_errors(config) == [] == live_errors(config)
    assert not [line for line in missing_keys(config, "main") if "binance" in line]
    assert "binance" not in "".join(at_stake(config))


@pytest.fixture
def data_only(tmp_path: Path) -> Iterator[str]:
    """A dialect of market data alone, from outside."""
    before = list(dialects._roots)
    write_skeleton("readsonly", tmp_path)
    dialects.add_root(tmp_path)
    yield "readsonly"
    dialects._roots[:] = before
    dialects._sides.cache_clear()


def test_a_dialect_of_market_data_alone_is_not_traded(state_dir: Path, data_only: str) -> None:
    urls = {"rest": "https://localhost", "ws": "wss://localhost", "symbols": ["BTCUSDT"]}
    config = live(exchanges__readsonly={"dialect": data_only, "markets": {"spot": urls}})
    assert trade_errors(config) == ["exchanges.readsonly: the dialect readsonly places no orders; wanted trade: false"]
    config = live(exchanges__readsonly={"dialect": data_only, "trade": False, "markets": {"spot": urls}})
    assert trade_errors(config) == [] == live_errors(config)
    assert exchange_section(["readsonly_spot"], {})["readsonly"]["trade"] is False


def test_markets_that_spend_the_same_coins_are_traded_on_accounts_of_their_own(state_dir: Path) -> None:
    both = exchange_section(["bybit_spot", "bybit_futures"], {})["bybit"]
    for market in both["markets"].values():
        market["symbols"] = ["BTCUSDT"]
    (said,) = trade_errors(live(exchanges__bybit=both))
    assert "exchanges.bybit: found spot and futures of one account" in said and "an exchange for each" in said
    assert trade_errors(live(exchanges__bybit=both | {"trade": False})) == []

    def one(market: str) -> dict[str, Any]:
        return both | {"markets": {market: both["markets"][market]}}

    config = live(exchanges__bybit=one("spot"), exchanges__bybitperp=one("futures"))
    assert trade_errors(config) == []
    for name in ("bybit", "bybitperp"):
        store_credentials("main", name, Credentials(api_key="same", api_secret="s3cr3t"))
    (said,) = [line for line in missing_keys(config, "main") if "bybit" in line]
    assert said.startswith("keys/bybitperp.json: found the account of exchanges.bybit") and "same coins" in said
    store_credentials("main", "bybitperp", Credentials(api_key="other", api_secret="s3cr3t"))
    assert not [line for line in missing_keys(config, "main") if "bybit" in line]


def test_something_must_be_traded_where_orders_are_sent() -> None:
    config = live(exchanges__mexc__trade=False)
    assert live_warnings(config) == [], "the two venues of the other exchange still pair"
    config = live(exchanges__gateio__trade=False)
    assert live_warnings(config) == [
        f"exchanges: {coin}/USDT is on one venue alone (mexc_spot {coin}USDT): it meets nothing to trade against"
        for coin in ("BTC", "ETH")
    ]
    config = live(exchanges__mexc__trade=False, risk_limits__per_venue={"mexc_spot": {"max_exposure_usd": 5}})
    assert live_errors(config) == [
        "risk_limits.per_venue.mexc_spot: nothing is traded there (trade: false), it would never bind"
    ]
    config = live(exchanges__mexc__trade=False, exchanges__gateio__trade=False)
    assert trade_errors(config) == [
        "exchanges.*.trade: found false for mexc, gateio, wanted one at least that trades in mode sim or live; "
        "mode paper reads books alone"
    ]


def test_the_defaults_and_the_venues_own_urls_are_accepted() -> None:
    assert live_errors(live()) == []
    assert trade_errors(live()) == []
    assert live_warnings(live()) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("features__enable_risk_checks", False, "features.enable_risk_checks: found false"),
        ("features__enable_circuit_breakers", False, "features.enable_circuit_breakers: found false"),
        ("features__enable_recovery_mode", False, "features.enable_recovery_mode: found false"),
        ("risk_limits__min_profit_margin_bps", -9999, "risk_limits.min_profit_margin_bps: found -9999"),
        ("risk_limits__min_profit_margin_bps", 0, "risk_limits.min_profit_margin_bps: found 0"),
        ("risk_limits__min_profit_usd", 0, "risk_limits.min_profit_usd: found 0"),
        ("detection__execute_edge_bps", -100, "detection.execute_edge_bps: found -100"),
        ("risk_limits__max_daily_loss_usd", "1e12", "risk_limits.max_daily_loss_usd: found 1E+12, wanted at most"),
        ("risk_limits__max_position_size_usd", "1e14", "risk_limits.max_position_size_usd: found 1E+14"),
        ("risk_limits__max_position_size_usd", 60000, "above max_total_exposure_usd 50000"),
        ("detection__max_age_to_trade_ms", 10_000_000, "detection.max_age_to_trade_ms: found 10000000"),
        ("detection__hedge__leverage", 50, "detection.hedge.leverage: found 50"),
        ("execution__unknown_grace_ms", 300, "execution.unknown_grace_ms: found 300, wanted 2000 at least"),
        ("processes__detector", {"cpus": [9999]}, "processes.detector.cpus: found 9999"),
        ("exchanges__mexc__markets__spot__symbols", [], "exchanges.mexc.markets.spot.symbols: found none"),
        (
            "exchanges__mexc__markets__spot__symbols",
            ["BTC/USDT"],
            "'BTC/USDT', wanted the venue's spelling, as BTCUSDT",
        ),
        ("exchanges__mexc__markets__spot__symbols", ["btcusdt"], "'btcusdt', wanted the venue's spelling"),
        ("exchanges__mexc__markets__spot__symbols", ["BTC_USDT"], "'BTC_USDT', wanted the venue's spelling"),
        ("exchanges__gateio__markets__spot__symbols", ["BTCUSDT"], "'BTCUSDT', wanted the venue's spelling"),
        ("risk_limits__per_asset", {"BTCC": {"max_exposure_usd": 9}}, "risk_limits.per_asset.BTCC: no such asset"),
        ("risk_limits__per_asset", {"USDT": {"enabled": False}}, "risk_limits.per_asset.USDT: no such asset"),
        ("risk_limits__per_pair", {"BTCUSDT": {"max_exposure_usd": 9}}, "risk_limits.per_pair.BTCUSDT: no such pair"),
        ("risk_limits__per_pair", {"BTC/USDT": {}}, "risk_limits.per_pair.BTC/USDT: found no limit"),
        ("risk_limits__per_asset", {"BTC": {"max_exposure_usd": 90000}}, "it would never bind"),
        ("detection__trusted_coins", ["btc"], "detection.trusted_coins: found 'btc'"),
        ("detection__also_trusted_coins", ["nova "], "detection.also_trusted_coins: found 'nova '"),
        ("inventory__alarms", {"mexc_spot": {"GT": 1}}, "inventory.alarms.mexc_spot.GT: no such coin"),
        ("inventory__targets", {"mexc_spot": {"BTCC": 1}}, "inventory.targets.mexc_spot.BTCC: no such coin"),
    ],
)
def test_live_refuses(path: str, value: object, said: str) -> None:
    errors = live_errors(live(**{path: value}))
    assert [error for error in errors if said in error], errors


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("risk_limits__per_asset", {"BTC": {"max_exposure_usd": 9}, "ETH": {"enabled": False}}),
        ("risk_limits__per_pair", {"ETH/USDT": {"max_exposure_usd": 9}}),
        ("risk_limits__per_venue", {"mexc_spot": {"max_orders_per_s": 1}}),
        ("inventory__targets", {"mexc_spot": {"BTC": 1, "USDT": 5}}),
        ("detection__execute_edge_bps", 10),
    ],
)
def test_live_takes(path: str, value: object) -> None:
    assert live_errors(live(**{path: value})) == []


def test_a_stock_of_the_coin_that_fees_are_taken_from_may_have_an_alarm_where_it_lies() -> None:
    fees = {"gateio_spot": {"deduction": {"coin": "GT", "discount_ppm": 100_000}}}
    config = live(
        fees=fees, inventory__alarms={"gateio_spot": {"GT": 5}}, inventory__targets={"gateio_spot": {"GT": 9}}
    )
    assert live_errors(config) == []
    config = live(fees=fees, inventory__alarms={"mexc_spot": {"GT": 5}})
    assert live_errors(config) == ["inventory.alarms.mexc_spot.GT: no such coin is configured; it would never bind"]


def test_a_limit_of_a_coin_cannot_be_judged_where_a_symbol_cannot_be_split() -> None:
    config = live(
        exchanges__mexc__markets__spot__symbols=["BTCUSDT", "BTCZZZ"],
        risk_limits__per_asset={"ZZZ": {"max_exposure_usd": 9}},
    )
    assert pair_of("BTCZZZ") is None
    assert live_errors(config) == []


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [
        ("BTCUSDT", ("BTC", "USDT")),
        ("BTC_USDT", ("BTC", "USDT")),
        ("BTCUSDT_240628", ("BTC", "USDT")),
        ("USDTUSDC", ("USDT", "USDC")),
        ("FDUSDUSDT", ("FDUSD", "USDT")),
        ("BTCFDUSD", ("BTC", "FDUSD")),
    ],
)
def test_symbols_are_split_by_their_quote(symbol: str, pair: tuple[str, str]) -> None:
    assert pair_of(symbol) == pair


def test_a_symbol_on_one_venue_alone_is_a_warning() -> None:
    config = live(exchanges__mexc__markets__spot__symbols=["BTCUSDT", "SOLUSDT"])
    assert [line for line in live_warnings(config) if "SOL/USDT is on one venue alone (mexc_spot SOLUSDT)" in line]


def test_market_data_alone_takes_no_orders() -> None:
    urls = {"rest": "https://fapi.binance.com", "ws": "wss://fstream.binance.com", "symbols": ["BTCUSDT"]}
    config = live(exchanges__binance={"dialect": "binance", "markets": {"futures": urls}})
    assert "binance_futures" in trade_errors(config)[0]


def test_what_is_at_stake_names_the_limits_and_what_lies_beyond() -> None:
    lines = "\n".join(at_stake(live(risk_limits__max_daily_loss_usd=5, risk_limits__max_open_operations=2)))
    assert "main trades real money at mexc_spot, gateio_spot, gateio_futures" in lines
    # two operations of 2000 USD, unwound at 200 bps
    assert "entries stop at a loss of 5 USD; operations under way then may lose 80.00 USD more" in lines
    # four times the day's; 50000 USD of hedges that leave at 150 bps of loss and 50 of slippage
    assert "in all: entries stop at a loss of 20 USD below the highest P&L" in lines
    assert "at most 1100.00 USD in all: that, 80.00 USD of operations under way, and 1000.00 USD of open" in lines


def test_a_total_loss_below_that_of_a_day_is_refused() -> None:
    config = live(risk_limits__max_daily_loss_usd=50, risk_limits__max_total_loss_usd=40)
    (line,) = [line for line in live_errors(config) if "max_total_loss_usd" in line]
    assert "found 40, below max_daily_loss_usd 50" in line
    assert not [line for line in live_errors(live(risk_limits__max_daily_loss_usd=50)) if "total_loss" in line]


def test_crash_points_of_a_test_shell_are_refused_where_money_is_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert live_errors(live()) == []
    crash_points_here(Mode.LIVE)("sent")
    monkeypatch.setenv(VARIABLE, "after_first_leg_sent:1")
    (line,) = live_errors(live())
    assert f"{VARIABLE}: found 'after_first_leg_sent:1'" in line and f"`unset {VARIABLE}`" in line
    with pytest.raises(ConfigInvalid, match="wanted it unset in live mode"):
        crash_points_here(Mode.LIVE)
    for mode in (Mode.SIM, Mode.PAPER):
        crash_points_here(mode)("sent")  # another point of it


@pytest.mark.parametrize("make", [supervisor, guard, executor], ids=lambda make: make.__name__)
def test_no_process_of_a_live_instance_takes_crash_points(
    make: Callable[[str, EngineConfig], object], instance: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As units they are started without the look of `arb up` at the configuration."""
    monkeypatch.setenv(VARIABLE, "sent:1")
    with pytest.raises(ConfigInvalid, match=f"{VARIABLE}: found 'sent:1'"):
        make(instance, live())
