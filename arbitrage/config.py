"""The configuration by the names of the documents: ``ArbitrageConfig``, and where one is read from.

It becomes the engine's own ``EngineConfig`` (``engine_config``), which checks every value: one set of rules, however a
configuration was written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from arbitrage.exchange_names import ExchangeName
from pipeline.model.config import EngineConfig, RiskLimits, VenueConfig
from pipeline.model.config_files import laid_over
from pipeline.model.config_load import config_from_mapping, load_config
from pipeline.model.enums import Mode, OpportunityType
from pipeline.model.errors import ConfigInvalid

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
FILES = ("config.yaml", "arbitrage_config.py")  # looked for in the working folder


class ArbitrageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the documents name, and ``settings`` for every other section of ``config.yaml`` (a mapping as in YAML).

    ``enabled_exchanges``: exchanges (``ExchangeName.MEXC``) or venues (``"mexc_spot"``); () = all that are configured.
    ``mode``: None = paper where ``enable_dry_run``, sim where every endpoint is on loopback, else live, which needs its
    confirmation besides. ``target_execution_time_ms`` is in milliseconds: 30 is 30 ms.
    """

    engine_name: str = "arb"
    enabled_opportunity_types: Sequence[OpportunityType] = (
        OpportunityType.SPOT_SPOT,
        OpportunityType.SPOT_FUTURES_HEDGE,
    )
    enabled_exchanges: Sequence[ExchangeName | str] = ()
    target_execution_time_ms: int = 30
    risk_limits: RiskLimits = RiskLimits()
    enable_risk_checks: bool = True
    enable_circuit_breakers: bool = True
    enable_recovery_mode: bool = True
    enable_dry_run: bool = False
    enable_detailed_logging: bool = False
    enable_performance_metrics: bool = True
    mode: Mode | None = None
    settings: Mapping[str, Any] = {}

    @classmethod
    def of_engine(cls, config: EngineConfig) -> ArbitrageConfig:
        """The same configuration by these names; everything else of it is in ``settings``."""
        data: dict[str, Any] = msgspec.to_builtins(config)
        switches = data.pop("features")
        for key in ("engine_name", "mode", "risk_limits"):
            data.pop(key)
        data["detection"].pop("types")
        return cls(
            engine_name=config.engine_name,
            enabled_opportunity_types=config.enabled_opportunity_types,
            target_execution_time_ms=data["execution"].pop("target_execution_time_ms"),
            risk_limits=config.risk_limits,
            mode=config.mode,
            settings=data,
            **switches,
        )

    def as_mapping(self, exchanges: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The configuration as ``config.yaml`` has it. ``exchanges``: that section, in place of the one in
        ``settings``."""
        mine = {
            "engine_name": self.engine_name,
            "risk_limits": msgspec.to_builtins(self.risk_limits, builtin_types=(Decimal,)),
            "detection": {"types": [kind.name.lower() for kind in self.enabled_opportunity_types]},
            "execution": {"target_execution_time_ms": self.target_execution_time_ms},
            "features": {
                "enable_risk_checks": self.enable_risk_checks,
                "enable_circuit_breakers": self.enable_circuit_breakers,
                "enable_recovery_mode": self.enable_recovery_mode,
                "enable_dry_run": self.enable_dry_run,
                "enable_detailed_logging": self.enable_detailed_logging,
                "enable_performance_metrics": self.enable_performance_metrics,
            },
        }
        data = laid_over(self.settings, mine)
        data["exchanges"] = self._enabled(data.get("exchanges", {}) if exchanges is None else exchanges)
        data["mode"] = str(self._mode(data["exchanges"]))
        return {key: value for key, value in data.items() if value is not None}

    def engine_config(self, exchanges: Mapping[str, Any] | None = None) -> EngineConfig:
        """The engine's own configuration, checked. Raises ConfigInvalid with every error."""
        return config_from_mapping(msgspec.to_builtins(self.as_mapping(exchanges)))

    def get_exchange_config(self, venue: str) -> VenueConfig:
        """Endpoints and symbols of a venue (``"mexc_spot"``, or ``ExchangeName.MEXC``: its spot market). Raises
        ConfigInvalid."""
        config = self.engine_config()
        name = f"{venue}_spot" if venue in config.exchanges else str(venue)
        try:
            return config.venue(name)
        except KeyError as error:
            raise ConfigInvalid([f"exchanges: {error.args[0]}"]) from None

    def _enabled(self, exchanges: Mapping[str, Any]) -> dict[str, Any]:
        """The exchanges and markets that are enabled."""
        if not self.enabled_exchanges:
            return dict(exchanges)
        wanted, errors = [str(name) for name in self.enabled_exchanges], []
        found: dict[str, Any] = {}
        for name, entry in exchanges.items():
            markets = {
                market: values
                for market, values in entry["markets"].items()
                if name in wanted or f"{name}_{market}" in wanted
            }
            if markets:
                found[name] = {**entry, "markets": markets}
        for name in wanted:
            if name not in found and not any(name == f"{e}_{m}" for e, row in found.items() for m in row["markets"]):
                known = ", ".join(f"{e}_{m}" for e, row in exchanges.items() for m in row["markets"]) or "none"
                errors.append(f"enabled_exchanges: found {name!r}, wanted an exchange that is configured: {known}")
        if errors:
            raise ConfigInvalid(errors)
        return found

    def _mode(self, exchanges: Mapping[str, Any]) -> Mode:
        if self.mode is not None:
            return self.mode
        if self.enable_dry_run:
            return Mode.PAPER
        urls = [
            str(url)
            for entry in exchanges.values()
            for market in entry["markets"].values()
            for key, url in market.items()
            if key in ("rest", "ws") and url
        ]
        loopback = bool(urls) and all(urlsplit(url).hostname in LOOPBACK for url in urls)
        return Mode.SIM if loopback else Mode.LIVE


def get_config(path: str | Path | None = None, *, profile: str = "") -> ArbitrageConfig:
    """The configuration of ``path`` (YAML or Python; else ``$ARB_CONFIG``, ``./config.yaml``,
    ``./arbitrage_config.py``), with the ``.env`` beside it and ``ARB_*`` variables. ``profile``: dev, test, prod or one
    that has a file (``pipeline/model/config_files.py``), else ``$ARB_PROFILE``. Raises ConfigInvalid with every error.
    """
    chosen = path or os.environ.get("ARB_CONFIG") or next((name for name in FILES if Path(name).exists()), None)
    environment = {**os.environ, **({"ARB_PROFILE": profile} if profile else {})}
    return ArbitrageConfig.of_engine(load_config(chosen, environment))


def get_exchange_config(venue: str, path: str | Path | None = None) -> VenueConfig:
    """Endpoints and symbols of one venue of :func:`get_config`. Raises ConfigInvalid."""
    return get_config(path).get_exchange_config(venue)
