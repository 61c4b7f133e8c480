"""Loads the configuration: files and environment in, a checked ``EngineConfig`` and the origin of each value out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

from pipeline.model.config import (
    ENV_ELSEWHERE,
    ENV_PATHS,
    ENV_WITHOUT_EFFECT,
    MARKETS,
    CanaryConfig,
    DetectionConfig,
    EngineConfig,
    ExchangeConfig,
    ExecutionConfig,
    FeatureConfig,
    GuardConfig,
    InventoryConfig,
    LimitConfig,
    MarketConfig,
    PaperConfig,
    ProcessConfig,
    RecordingConfig,
    RiskLimits,
    VenueLimitConfig,
)
from pipeline.model.config_bounds import check_numbers
from pipeline.model.config_files import laid_over, profile_layers, read_python
from pipeline.model.config_monitoring import MonitoringConfig, TargetConfig, check_monitoring
from pipeline.model.config_reload import reload_changes
from pipeline.model.dialects import add_root, dialect_problem, facts_of, symbol_problem
from pipeline.model.enums import Mode, OpportunityType
from pipeline.model.errors import ConfigInvalid
from pipeline.model.strict_yaml import RepeatedKeys, load_strict

ENGINE_NAME_RE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
NAME_RE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
LEAST_PROFIT = "risk_limits.min_profit_usd"
Origins = dict[str, str]
_LIMITS_OF = {"per_venue": VenueLimitConfig, "per_asset": LimitConfig, "per_pair": LimitConfig}


def load_config(path: str | Path | None, env: Mapping[str, str] | None = None) -> EngineConfig:
    """Configuration from ``path`` (None: defaults), a ``.env`` beside it, and ``ARB_*`` of ``env``.

    Raises ``ConfigInvalid`` with every error and its path.
    """
    return load_with_origins(path, env)[0]


def load_with_origins(path: str | Path | None, env: Mapping[str, str] | None = None) -> tuple[EngineConfig, Origins]:
    """As ``load_config``; also, per dotted path, where the value came from (absent = default)."""
    environment = dict(os.environ if env is None else env)
    data, errors = _read_file(path)
    origins: Origins = {dotted: f"file {path}" for dotted in _leaves(data)}
    for origin, values in profile_layers(path, environment.get("ARB_PROFILE", ""), lambda file: _read_yaml(file)[0]):
        origins.update({dotted: origin for dotted in _leaves(values)})
        data = laid_over(data, values)
    dotenv_path = (Path(path).parent if path else Path.cwd()) / ".env"
    layers = [(f"file {dotenv_path}", _read_dotenv(dotenv_path, errors)), ("environment", environment)]
    for origin, layer in layers:
        _apply_env(data, layer, origin, origins, errors)
    own = _checked(data, errors)
    config = own.as_canary()
    narrowed = reload_changes(own, config)
    origins.update({dotted: f"canary, narrower than {old}" for dotted, (old, _) in narrowed.items()})
    if LEAST_PROFIT in narrowed:
        origins[LEAST_PROFIT] = f"canary, in proportion to the largest entry: {narrowed[LEAST_PROFIT][0]} without it"
    return config, origins


def config_from_mapping(data: Mapping[str, Any], errors: list[str] | None = None) -> EngineConfig:
    """Checked configuration from plain data; ``errors`` found before are reported together with ours."""
    return _checked(data, errors).as_canary()


def _checked(data: Mapping[str, Any], errors: list[str] | None) -> EngineConfig:
    problems = list(errors or [])
    config = _decode(dict(data), problems)
    if config is not None:
        _check(config, problems)
    if problems or config is None:
        raise ConfigInvalid(problems)
    return config


def config_problems(config: EngineConfig) -> list[str]:
    """What is wrong with a configuration that was made from a checked one: with another mode, say. [] for nothing."""
    problems: list[str] = []
    _check(config, problems)
    return problems


def _read_file(path: str | Path | None) -> tuple[dict[str, Any], list[str]]:
    if path is not None and Path(path).suffix == ".py":
        return read_python(Path(path)), []
    return _read_yaml(path)


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
        data = load_strict(text)
    except RepeatedKeys as error:
        raise ConfigInvalid([f"{path}: {line}" for line in error.errors]) from None
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
            elsewhere = kind is LimitConfig and key in VenueLimitConfig.__struct_fields__
            where = "; it is a limit of a venue (risk_limits.per_venue), or of all (risk_limits)" if elsewhere else ""
            errors.append(f"{path}.{key}: unknown key; known: {', '.join(sorted(fields))}{where}")
            continue
        if path == "risk_limits" and key in _LIMITS_OF:
            good[key] = _table(item, _LIMITS_OF[key], f"{path}.{key}", errors)
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
        "canary": CanaryConfig,
    }
    known = {field.name for field in msgspec.structs.fields(EngineConfig)}
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known:
            errors.append(f"{key}: unknown key; known: {', '.join(sorted(known))}")
        elif key in ("monitoring", "canary") and value is None:
            continue  # absent, as a configuration that was written from structs says it
        elif key in sections:
            values[key] = _fields_one_by_one(value, sections[key], key, errors)
        elif key == "exchanges":
            values[key] = _decode_exchanges(value, errors)
        elif key == "processes":
            values[key] = _table(value, ProcessConfig, "processes", errors)
        elif key == "paper":
            values[key] = _table(value, PaperConfig, "paper", errors)
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
        allowed = {field.name for field in msgspec.structs.fields(ExchangeConfig)}
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
        enabled, trade = (_convert(entry.get(key, True), bool, f"{path}.{key}", errors) for key in ("enabled", "trade"))
        sockets = _convert(entry.get("sockets", 0), int, f"{path}.sockets", errors)
        found[str(name)] = ExchangeConfig(
            dialect=str(entry.get("dialect", "")),
            markets=markets,
            enabled=bool(enabled),
            trade=bool(trade),
            sockets=int(sockets or 0),
        )
    return found


def _check(config: EngineConfig, errors: list[str]) -> None:
    if not ENGINE_NAME_RE.fullmatch(config.engine_name):
        name = config.engine_name
        errors.append(f"engine_name: found {name!r}, wanted lower-case letters, digits, '-', '_', at most 32")
    _add_dialects(config.dialects, errors)
    for name, exchange in config.exchanges.items():
        _check_exchange(name, exchange, config.mode, errors)
    check_numbers(config, errors)
    _check_order(config, errors)
    _check_tables(config, errors)
    for name in config.detection.types:
        known_types = [kind.name.lower() for kind in OpportunityType if kind is not OpportunityType.HEDGE_EXIT]
        if name.lower() not in known_types:
            known = ", ".join(known_types)
            errors.append(f"detection.types: found {name!r}, wanted some of {known}")
    if not config.detection.hedge.exit.forced_slippage_bps:
        errors.append("detection.hedge.exit.forced_slippage_bps: found none, wanted at least one bound")
    _check_inventory(config, errors)
    _check_processes(config, errors)
    _check_fees(config, errors)
    _check_paper(config, errors)
    if config.monitoring is not None:
        check_monitoring(config.monitoring, errors)
    if config.features.enable_dry_run and config.mode is Mode.LIVE:
        errors.append("features.enable_dry_run: found true with mode live, which sends orders; wanted mode paper")


def _check_order(config: EngineConfig, errors: list[str]) -> None:
    """Numbers of which one must not pass another."""
    margin, path = config.detection.hedge.margin, "detection.hedge.margin"
    distances = (margin.out_pct, margin.trigger_pct, margin.target_pct)
    if _finite(*distances) and not margin.out_pct < margin.trigger_pct < margin.target_pct < 100:
        found = " < ".join(str(distance) for distance in distances)
        errors.append(f"{path}: found {found}, wanted 0 < out_pct < trigger_pct < target_pct < 100")
    least, most = config.execution.unwind_slippage_bps, config.execution.unwind_max_slippage_bps
    if _finite(least, most) and least > most:
        errors.append(f"execution.unwind_slippage_bps: found {least}, wanted at most unwind_max_slippage_bps ({most})")


def _finite(*values: Decimal) -> bool:
    """Whether all can be compared: a NaN cannot, and is reported by itself."""
    return all(value.is_finite() for value in values)


def _check_venues(config: EngineConfig, table: str, names: Iterable[str], errors: list[str]) -> None:
    """Every name of a table by venue is one."""
    venues = {venue.name for venue in config.venues}
    known = ", ".join(sorted(venues))
    errors.extend(f"{table}.{name}: no such venue; configured: {known}" for name in names if name not in venues)


def _check_tables(config: EngineConfig, errors: list[str]) -> None:
    _check_venues(config, "risk_limits.per_venue", config.risk_limits.per_venue, errors)


def _check_inventory(config: EngineConfig, errors: list[str]) -> None:
    _check_venues(config, "inventory.targets", config.inventory.targets, errors)
    _check_venues(config, "inventory.alarms", config.inventory.alarms, errors)


def _check_fees(config: EngineConfig, errors: list[str]) -> None:
    _check_venues(config, "fees", config.fees, errors)
    for name, fees in config.fees.items():
        path = f"fees.{name}"
        if fees.deduction is None:
            continue
        if not fees.deduction.coin or fees.deduction.coin != fees.deduction.coin.strip().upper():
            errors.append(f"{path}.deduction.coin: found {fees.deduction.coin!r}, wanted a coin in capitals, as GT")


def _check_paper(config: EngineConfig, errors: list[str]) -> None:
    _check_venues(config, "paper", config.paper, errors)
    for name, entry in config.paper.items():
        path = f"paper.{name}"
        if entry.capital_usd is not None and entry.balances:
            errors.append(f"{path}: found capital_usd and balances, wanted one of them")
        tail = entry.latency_p99_ms
        if tail is not None and _finite(tail, entry.latency_ms) and tail < entry.latency_ms:
            errors.append(f"{path}.latency_p99_ms: found {tail}, wanted at least latency_ms ({entry.latency_ms})")


def _check_processes(config: EngineConfig, errors: list[str]) -> None:
    names = {"feed", "detector", "executor", "poller", "recorder", "guard", "monitor", "supervisor"}
    names |= {f"feed.{exchange}" for exchange in config.exchanges}
    for name in config.processes:
        if name not in names:
            errors.append(f"processes.{name}: no such process; known: {', '.join(sorted(names))}")


def _add_dialects(paths: tuple[str, ...], errors: list[str]) -> None:
    """Makes the dialects below these folders known, in this process."""
    for path in paths:
        if not Path(path).is_absolute():
            errors.append(f"dialects: found {path!r}, wanted an absolute path: processes run in folders of their own")
            continue
        try:
            add_root(Path(path))
        except ConfigInvalid as error:
            errors.extend(error.errors)


def _check_exchange(name: str, exchange: ExchangeConfig, mode: Mode, errors: list[str]) -> None:
    path = f"exchanges.{name}"
    if not NAME_RE.fullmatch(name):
        errors.append(f"{path}: name must be lower-case letters, digits, '-', at most 32")
    problem = dialect_problem(exchange.dialect)
    facts = None if problem else facts_of(exchange.dialect)
    if problem:
        errors.append(f"{path}.dialect: {problem}")
    for market, entry in exchange.markets.items():
        where = f"{path}.markets.{market}"
        if market not in MARKETS:
            errors.append(f"{where}: unknown market, wanted one of {', '.join(MARKETS)}")
        elif facts and market not in facts.markets:
            own = ", ".join(facts.markets)
            errors.append(f"{where}: the dialect {exchange.dialect} has no such market, wanted one of {own}")
        known = facts.markets.get(market) if facts else None
        for key in ("rest", "ws", "ws_private", "ws_api"):
            _check_url(getattr(entry, key), key, where, mode, errors)
            _check_path(getattr(entry, key), f"{where}.{key}", known.appended.get(key, ()) if known else (), errors)
        seen: set[str] = set()
        for symbol in entry.symbols:
            if symbol in seen:
                errors.append(f"{where}.symbols: {symbol} is listed twice")
            seen.add(symbol)
            # A scenario may list what it likes; what live refuses stands with its other rules (workers/live_rules.py).
            if known and (mode is Mode.PAPER or not symbol.isascii()) and (odd := symbol_problem(symbol, known)):
                errors.append(f"{where}.symbols: {odd}")


def _check_path(url: str, where: str, appended: tuple[str, ...], errors: list[str]) -> None:
    """A path that stands in the URL twice, or would once the requests' own path is behind it."""
    try:
        path = urlsplit(url).path.rstrip("/")
    except ValueError:
        return  # said already
    parts = path.split("/")[1:]
    for length in range(1, len(parts) // 2 + 1):
        for start in range(len(parts) - 2 * length + 1):
            if parts[start : start + length] == parts[start + length : start + 2 * length]:
                twice = "/" + "/".join(parts[start : start + length])
                errors.append(f"{where}: found {url!r}, whose path has {twice} twice; wanted it once")
                return
    for own in appended:
        if path.endswith(own):
            base = url.rstrip("/").removesuffix(own)
            errors.append(f"{where}: found {url!r}, wanted {base!r}: requests add {own} themselves")
            return


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
