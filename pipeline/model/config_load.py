"""Loads the configuration: files and environment in, a checked ``EngineConfig`` and the origin of each value out."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

from pipeline.model.config import (
    DIALECTS,
    ENV_ELSEWHERE,
    ENV_PATHS,
    ENV_WITHOUT_EFFECT,
    MARKETS,
    DetectionConfig,
    EngineConfig,
    ExchangeConfig,
    ExecutionConfig,
    FeatureConfig,
    GuardConfig,
    HedgeConfig,
    InventoryConfig,
    LimitConfig,
    MarketConfig,
    ProcessConfig,
    RecordingConfig,
    RiskLimits,
)
from pipeline.model.config_monitoring import MonitoringConfig, TargetConfig, check_monitoring
from pipeline.model.enums import Mode, OpportunityType
from pipeline.model.errors import ConfigInvalid

HOURS_BEFORE_END_MAX = 24 * 30
WINDOW_MAX_MS = 59_999  # MEXC and Binance take less than a minute
FEE_PPM_MAX = 100_000  # a tenth of the notional
NAME_RE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
LIMITS_POSITIVE = (
    "max_position_size_usd",
    "max_total_exposure_usd",
    "max_daily_loss_usd",
    "max_execution_time_ms",
    "max_slippage_bps",
    "max_orders_per_s",
    "max_open_operations",
    "max_unhedged_ms",
    "max_naked_usd_s",
    "max_unexplained_loss_usd",
)
Origins = dict[str, str]


def load_config(path: str | Path | None, env: Mapping[str, str] | None = None) -> EngineConfig:
    """Configuration from ``path`` (None: defaults), a ``.env`` beside it, and ``ARB_*`` of ``env``.

    Raises ``ConfigInvalid`` with every error and its path.
    """
    return load_with_origins(path, env)[0]


def load_with_origins(path: str | Path | None, env: Mapping[str, str] | None = None) -> tuple[EngineConfig, Origins]:
    """As ``load_config``; also, per dotted path, where the value came from (absent = default)."""
    environment = dict(os.environ if env is None else env)
    data, errors = _read_yaml(path)
    origins: Origins = {dotted: f"file {path}" for dotted in _leaves(data)}
    dotenv_path = (Path(path).parent if path else Path.cwd()) / ".env"
    layers = [(f"file {dotenv_path}", _read_dotenv(dotenv_path, errors)), ("environment", environment)]
    for origin, layer in layers:
        _apply_env(data, layer, origin, origins, errors)
    config = config_from_mapping(data, errors)
    return config, origins


def config_from_mapping(data: Mapping[str, Any], errors: list[str] | None = None) -> EngineConfig:
    """Checked configuration from plain data; ``errors`` found before are reported together with ours."""
    problems = list(errors or [])
    config = _decode(dict(data), problems)
    if config is not None:
        _check(config, problems)
    if problems or config is None:
        raise ConfigInvalid(problems)
    return config


def _read_yaml(path: str | Path | None) -> tuple[dict[str, Any], list[str]]:
    if path is None:
        return {}, []
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigInvalid([f"{path}: cannot be read ({error.strerror}); give --config FILE or create it"]) from None
    except UnicodeDecodeError as error:
        raise ConfigInvalid([f"{path}: not UTF-8 text (byte {error.start})"]) from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigInvalid([f"{path}: not YAML: {' '.join(str(error).split())}"]) from None
    if data is None:
        return {}, []
    if not isinstance(data, dict):
        raise ConfigInvalid([f"{path}: found {type(data).__name__} at the top, wanted a mapping"])
    return data, []


def _read_dotenv(path: Path, errors: list[str]) -> dict[str, str]:
    """``NAME=value`` lines as shells write them; a value is never quoted in an error, it may be a secret."""
    found: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        errors.append(f"{path}: not UTF-8 text (byte {error.start})")
        return found
    except OSError:
        return found
    for number, line in enumerate(lines, 1):
        stripped = line.strip().removeprefix("export ").strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, separator, value = stripped.partition("=")
        if not separator:
            errors.append(f"{path}:{number}: found a line without '=', wanted NAME=value")
            continue
        found[name.strip()] = _dotenv_value(value.strip())
    return found


def _dotenv_value(text: str) -> str:
    """A quoted value ends at the closing quote, an unquoted one where `` #`` begins a comment."""
    if text[:1] in ("'", '"'):
        end = text.find(text[0], 1)
        return text[1:end] if end > 0 else text[1:]
    return re.split(r"\s#", f" {text}", maxsplit=1)[0].strip()


def _apply_env(
    data: dict[str, Any], layer: Mapping[str, str], origin: str, origins: Origins, errors: list[str]
) -> None:
    for name, value in sorted(layer.items()):
        if not name.startswith("ARB_"):
            continue
        path = ENV_PATHS.get(name)
        if path is None:
            if name not in ENV_WITHOUT_EFFECT and name not in ENV_ELSEWHERE and not name.startswith("ARB_TEST_"):
                known = ", ".join(sorted([*ENV_PATHS, *ENV_WITHOUT_EFFECT, *ENV_ELSEWHERE]))
                errors.append(f"{origin}: {name} is not known; known: {known}")
            continue
        target = data
        for key in path[:-1]:
            child = target.get(key)
            if not isinstance(child, dict):
                child = {}
                target[key] = child
            target = child
        target[path[-1]] = value
        origins[".".join(path)] = f"{origin} ({name})"


def _leaves(data: object, prefix: str = "") -> list[str]:
    if isinstance(data, dict):
        return [leaf for key, value in data.items() for leaf in _leaves(value, f"{prefix}{key}.")]
    return [prefix.removesuffix(".")]


def _convert(value: Any, kind: Any, path: str, errors: list[str]) -> Any:
    """One section; msgspec names only the first error, so sections are decoded one by one."""
    try:
        return msgspec.convert(_normalise(value), kind, strict=False)
    except msgspec.ValidationError as error:
        message = str(error)
        where = path
        if " - at `$" in message:
            message, _, inner = message.partition(" - at `$")
            where = f"{path}{inner.removesuffix('`')}"
        errors.append(f"{where}: {message}")
        return None


def _normalise(value: Any) -> Any:
    """YAML floats become decimal text: 0.1 means one tenth, not its nearest binary fraction."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return {str(key): _normalise(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_normalise(item) for item in value]
    return value


def _fields_one_by_one(value: Any, kind: Any, path: str, errors: list[str]) -> Any:
    """Decode a flat section field by field, so that every wrong field is named."""
    if not isinstance(value, dict):
        errors.append(f"{path}: found {type(value).__name__}, wanted a mapping")
        return None
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    good: dict[str, Any] = {}
    for key, item in value.items():
        field = fields.get(str(key))
        if field is None:
            errors.append(f"{path}.{key}: unknown key; known: {', '.join(sorted(fields))}")
            continue
        if path == "risk_limits" and key in ("per_venue", "per_asset", "per_pair"):
            good[key] = _table(item, LimitConfig, f"{path}.{key}", errors)
            continue
        if path == "monitoring" and key == "targets":
            good[key] = _table(item, TargetConfig, f"{path}.{key}", errors)
            continue
        before = len(errors)
        converted = _convert(item, field.type, f"{path}.{key}", errors)
        if len(errors) == before:
            good[key] = converted
    return kind(**good)


def _table(value: Any, kind: Any, path: str, errors: list[str]) -> dict[str, Any]:
    """A mapping of names to settings of one ``kind``."""
    if not isinstance(value, dict):
        errors.append(f"{path}: found {type(value).__name__}, wanted a mapping of names to settings")
        return {}
    table = {str(name): _fields_one_by_one(item, kind, f"{path}.{name}", errors) for name, item in value.items()}
    return {name: entry for name, entry in table.items() if entry is not None}


def _decode(data: dict[str, Any], errors: list[str]) -> EngineConfig | None:
    sections: dict[str, Any] = {
        "detection": DetectionConfig,
        "risk_limits": RiskLimits,
        "execution": ExecutionConfig,
        "features": FeatureConfig,
        "recording": RecordingConfig,
        "inventory": InventoryConfig,
        "guard": GuardConfig,
        "monitoring": MonitoringConfig,
    }
    known = {field.name for field in msgspec.structs.fields(EngineConfig)}
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known:
            errors.append(f"{key}: unknown key; known: {', '.join(sorted(known))}")
        elif key == "monitoring" and value is None:
            continue  # absent, as a configuration that was written from structs says it
        elif key in sections:
            values[key] = _fields_one_by_one(value, sections[key], key, errors)
        elif key == "exchanges":
            values[key] = _decode_exchanges(value, errors)
        elif key == "processes":
            values[key] = _table(value, ProcessConfig, "processes", errors)
        else:
            kind = {field.name: field.type for field in msgspec.structs.fields(EngineConfig)}[key]
            before = len(errors)
            converted = _convert(value, Mode if key == "mode" else kind, key, errors)
            if len(errors) == before:
                values[key] = converted
    return EngineConfig(**{key: value for key, value in values.items() if value is not None})


def _decode_exchanges(value: Any, errors: list[str]) -> dict[str, ExchangeConfig]:
    if not isinstance(value, dict):
        errors.append(f"exchanges: found {type(value).__name__}, wanted a mapping of names to exchanges")
        return {}
    found: dict[str, ExchangeConfig] = {}
    for name, entry in value.items():
        path = f"exchanges.{name}"
        if not isinstance(entry, dict):
            errors.append(f"{path}: found {type(entry).__name__}, wanted a mapping with dialect and markets")
            continue
        allowed = {"dialect", "markets", "enabled"}
        errors.extend(f"{path}.{key}: unknown key; known: {', '.join(sorted(allowed))}" for key in set(entry) - allowed)
        markets: dict[str, MarketConfig] = {}
        raw = entry.get("markets")
        if not isinstance(raw, dict) or not raw:
            errors.append(f"{path}.markets: missing, wanted spot and/or futures")
            raw = {}
        for market, item in raw.items():
            decoded = _fields_one_by_one(item, MarketConfig, f"{path}.markets.{market}", errors)
            if decoded is not None:
                markets[str(market)] = decoded
        enabled = _convert(entry.get("enabled", True), bool, f"{path}.enabled", errors)
        found[str(name)] = ExchangeConfig(dialect=str(entry.get("dialect", "")), markets=markets, enabled=bool(enabled))
    return found


def _check(config: EngineConfig, errors: list[str]) -> None:
    if not NAME_RE.fullmatch(config.engine_name):
        errors.append(f"engine_name: found {config.engine_name!r}, wanted lower-case letters, digits, '-', at most 32")
    for name, exchange in config.exchanges.items():
        _check_exchange(name, exchange, config.mode, errors)
    limits = config.risk_limits
    for key in LIMITS_POSITIVE:
        _positive(getattr(limits, key), f"risk_limits.{key}", errors)
    for key in ("min_profit_margin_bps", "min_profit_usd"):
        if not getattr(limits, key).is_finite():
            errors.append(f"risk_limits.{key}: found {getattr(limits, key)}, wanted a number")
    _check_tables(config, errors)
    for name in config.detection.types:
        known_types = [kind.name.lower() for kind in OpportunityType if kind is not OpportunityType.HEDGE_EXIT]
        if name.lower() not in known_types:
            known = ", ".join(known_types)
            errors.append(f"detection.types: found {name!r}, wanted some of {known}")
    for key in ("max_age_to_trade_ms", "dead_after_ms", "max_skew_ms", "max_notional_usd"):
        _positive(getattr(config.detection, key), f"detection.{key}", errors)
    if not 0 <= config.detection.no_entries_before_end_h <= HOURS_BEFORE_END_MAX:
        found = config.detection.no_entries_before_end_h
        errors.append(f"detection.no_entries_before_end_h: found {found}, wanted 0 to {HOURS_BEFORE_END_MAX} hours")
    _check_hedge_exit(config, errors)
    _check_hedge(config.detection.hedge, errors)
    for key in ("balance_refresh_interval_ms", "order_timeout_ms", "max_clock_skew_ms"):
        _positive(getattr(config.execution, key), f"execution.{key}", errors)
    for key in ("entry_window_ms", "repair_window_ms"):
        if not 0 < getattr(config.execution, key) <= WINDOW_MAX_MS:
            found = getattr(config.execution, key)
            errors.append(f"execution.{key}: found {found}, wanted 1 to {WINDOW_MAX_MS}: no venue takes more")
    for key in ("journal_segment_bytes", "journal_max_bytes"):
        _positive(getattr(config.execution, key), f"execution.{key}", errors)
    for key in ("log_file_bytes", "log_files", "opportunities_max", "balances_every_s"):
        _positive(getattr(config.recording, key), f"recording.{key}", errors)
    _check_inventory(config, errors)
    _check_guard(config.guard, errors)
    _check_processes(config, errors)
    _check_fees(config, errors)
    if config.monitoring is not None:
        check_monitoring(config.monitoring, errors)
    if config.features.enable_dry_run and config.mode is Mode.LIVE:
        errors.append("features.enable_dry_run: found true with mode live, which sends orders; wanted mode paper")


def _check_hedge(hedge: HedgeConfig, errors: list[str]) -> None:
    if not hedge.leverage.is_finite() or not hedge.leverage >= 1:
        errors.append(f"detection.hedge.leverage: found {hedge.leverage}, wanted 1 or above")
    margin, path = hedge.margin, "detection.hedge.margin"
    _positive(margin.mark_interval_ms, f"{path}.mark_interval_ms", errors)
    distances = (margin.out_pct, margin.trigger_pct, margin.target_pct)
    finite = all(distance.is_finite() for distance in distances)
    if not (finite and 0 < margin.out_pct < margin.trigger_pct < margin.target_pct < 100):
        found = " < ".join(str(distance) for distance in distances)
        errors.append(f"{path}: found {found}, wanted 0 < out_pct < trigger_pct < target_pct < 100")


def _positive(value: Decimal | int, path: str, errors: list[str]) -> None:
    if not Decimal(value).is_finite() or not value > 0:
        errors.append(f"{path}: found {value}, wanted a number above 0")


def _check_hedge_exit(config: EngineConfig, errors: list[str]) -> None:
    exit_, path = config.detection.hedge.exit, "detection.hedge.exit"
    for key in ("deadline_hours", "max_loss_bps", "forced_step_s"):
        _positive(getattr(exit_, key), f"{path}.{key}", errors)
    for key in ("capital_bps_per_day", "stamp_window_s"):
        value = getattr(exit_, key)
        if not Decimal(value).is_finite() or not value >= 0:
            errors.append(f"{path}.{key}: found {value}, wanted a number of at least 0")
    bounds = exit_.forced_slippage_bps
    if not bounds or any(not bound.is_finite() or not 0 < bound < 10_000 for bound in bounds):
        errors.append(
            f"{path}.forced_slippage_bps: found {list(map(str, bounds))}, wanted numbers above 0 and below 10000"
        )


def _check_tables(config: EngineConfig, errors: list[str]) -> None:
    limits = config.risk_limits
    venues = {venue.name for venue in config.venues}
    for name in limits.per_venue:
        if name not in venues:
            errors.append(f"risk_limits.per_venue.{name}: no such venue; configured: {', '.join(sorted(venues))}")
    for table in ("per_venue", "per_asset", "per_pair"):
        for name, limit in getattr(limits, table).items():
            for key in ("max_position_size_usd", "max_exposure_usd", "max_orders_per_s"):
                value = getattr(limit, key)
                if value is not None:
                    _positive(value, f"risk_limits.{table}.{name}.{key}", errors)


def _check_inventory(config: EngineConfig, errors: list[str]) -> None:
    inventory, venues = config.inventory, {venue.name for venue in config.venues}
    for key in ("transfer_minutes", "propose_worth_per_cost"):
        _positive(getattr(inventory, key), f"inventory.{key}", errors)
    for table in ("targets", "alarms"):
        for name, amounts in getattr(inventory, table).items():
            if name not in venues:
                errors.append(f"inventory.{table}.{name}: no such venue; configured: {', '.join(sorted(venues))}")
            for asset, amount in amounts.items():
                if not amount.is_finite() or amount < 0:
                    errors.append(f"inventory.{table}.{name}.{asset}: found {amount}, wanted 0 or above")
    for coin, transfer in inventory.transfers.items():
        _positive(transfer.minutes, f"inventory.transfers.{coin}.minutes", errors)
        if not transfer.fee.is_finite() or transfer.fee < 0:
            errors.append(f"inventory.transfers.{coin}.fee: found {transfer.fee}, wanted 0 or above")


def _check_guard(guard: GuardConfig, errors: list[str]) -> None:
    """Bounds below which a healthy executor would be killed: it beats ten times a second, and starts in a second."""
    for key, least in (("hung_after_ms", 500), ("restart_within_ms", 2000)):
        found = getattr(guard, key)
        if not found >= least:
            errors.append(f"guard.{key}: found {found}, wanted at least {least}")


def _check_fees(config: EngineConfig, errors: list[str]) -> None:
    venues = {venue.name for venue in config.venues}
    for name, fees in config.fees.items():
        path = f"fees.{name}"
        if name not in venues:
            errors.append(f"{path}: no such venue; configured: {', '.join(sorted(venues))}")
        for key, rate in (("taker_ppm", fees.taker_ppm), ("maker_ppm", fees.maker_ppm)):
            if rate is not None and not -FEE_PPM_MAX <= rate <= FEE_PPM_MAX:
                errors.append(f"{path}.{key}: found {rate}, wanted {-FEE_PPM_MAX} to {FEE_PPM_MAX} (10 %)")
        if fees.deduction is None:
            continue
        if not fees.deduction.coin or fees.deduction.coin != fees.deduction.coin.strip().upper():
            errors.append(f"{path}.deduction.coin: found {fees.deduction.coin!r}, wanted a coin in capitals, as GT")
        if not 0 <= fees.deduction.discount_ppm <= 1_000_000:
            errors.append(f"{path}.deduction.discount_ppm: found {fees.deduction.discount_ppm}, wanted 0 to 1000000")
        price = fees.deduction.price_usd
        if price is not None and not (price.is_finite() and price > 0):
            errors.append(f"{path}.deduction.price_usd: found {price}, wanted more than 0")
        for key in ("warn_usd", "warn_days"):
            value = getattr(fees.deduction, key)
            if not value.is_finite() or value < 0:
                errors.append(f"{path}.deduction.{key}: found {value}, wanted 0 or more")


def _check_processes(config: EngineConfig, errors: list[str]) -> None:
    names = {"feed", "detector", "executor", "poller", "recorder", "guard", "monitor", "supervisor"}
    names |= {f"feed.{exchange}" for exchange in config.exchanges}
    for name, entry in config.processes.items():
        if name not in names:
            errors.append(f"processes.{name}: no such process; known: {', '.join(sorted(names))}")
        errors.extend(f"processes.{name}.cpus: found {cpu}, wanted 0 or above" for cpu in entry.cpus if cpu < 0)
        if not -20 <= entry.nice <= 19:
            errors.append(f"processes.{name}.nice: found {entry.nice}, wanted -20 to 19")


def _check_exchange(name: str, exchange: ExchangeConfig, mode: Mode, errors: list[str]) -> None:
    path = f"exchanges.{name}"
    if not NAME_RE.fullmatch(name):
        errors.append(f"{path}: name must be lower-case letters, digits, '-', at most 32")
    if exchange.dialect not in DIALECTS:
        errors.append(f"{path}.dialect: found {exchange.dialect!r}, wanted one of {', '.join(DIALECTS)}")
    for market, entry in exchange.markets.items():
        where = f"{path}.markets.{market}"
        if market not in MARKETS:
            errors.append(f"{where}: unknown market, wanted one of {', '.join(MARKETS)}")
        if exchange.dialect == "mexc" and market == "futures":
            errors.append(f"{where}: the mexc dialect has the spot market only")
        for key in ("rest", "ws", "ws_private", "ws_api"):
            _check_url(getattr(entry, key), key, where, mode, errors)
        seen: set[str] = set()
        for symbol in entry.symbols:
            if symbol in seen:
                errors.append(f"{where}.symbols: {symbol} is listed twice")
            seen.add(symbol)


def _check_url(url: str, key: str, where: str, mode: Mode, errors: list[str]) -> None:
    if not url:
        if key in ("rest", "ws"):
            errors.append(f"{where}.{key}: missing, wanted the URL")
        return
    schemes = ("http", "https") if key == "rest" else ("ws", "wss")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        errors.append(f"{where}.{key}: found {url!r}, not a URL ({error})")
        return
    if parts.scheme not in schemes or not host:
        errors.append(f"{where}.{key}: found {url!r}, wanted {schemes[0]}://… or {schemes[1]}://…")
        return
    loopback = host == "localhost" or host == "::1" or host.startswith("127.")
    plain_text = parts.scheme in ("http", "ws")
    if plain_text and not loopback:
        errors.append(f"{where}.{key}: {url!r} is plain text; only loopback addresses may be")
    if mode is Mode.LIVE and plain_text:
        errors.append(f"{where}.{key}: {url!r} is plain text, refused in live mode")
    if mode is Mode.SIM and not loopback:
        errors.append(f"{where}.{key}: {url!r} is not on this host, refused in sim mode")
