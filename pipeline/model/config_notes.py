"""What a valid configuration probably does not mean: one line each, for ``arb config check``."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from pipeline.model.config import TRUSTED_COINS, EngineConfig

BPS = Decimal(10_000)


def config_notes(config: EngineConfig) -> list[str]:
    """Lines for the operator; [] where nothing is odd. The limits of single venues, assets and pairs are left out."""
    return [
        *_canary(config),
        *_no_longer_trusted(config),
        *_profit_out_of_reach(config),
        *_where_nothing_is_traded(config),
    ]


def _canary(config: EngineConfig) -> list[str]:
    """That the limits are the narrowed ones, and how they are widened."""
    if config.canary is None:
        return []
    limits = config.risk_limits
    return [
        f"canary: entries of at most {config.detection.max_notional_usd:f} USD, {limits.max_total_exposure_usd:f} USD "
        f"in all, {limits.max_daily_loss_usd:f} USD a day; `arb canary` says what was seen; remove the section, then "
        "`arb config reload`, to widen them"
    ]


def _no_longer_trusted(config: EngineConfig) -> list[str]:
    """Coins that a list of one's own leaves out: it replaces the default, which is seldom meant."""
    missing = sorted(set(TRUSTED_COINS) - config.detection.every_trusted_coin)
    if not missing:
        return []
    return [
        f"detection.trusted_coins: leaves out {', '.join(missing)}, which are trusted by default: without keys they "
        "are quarantined; detection.also_trusted_coins adds to the default"
    ]


def _profit_out_of_reach(config: EngineConfig) -> list[str]:
    """Where the largest entry that the limits allow earns too little at the least edge."""
    limits = config.risk_limits
    sizes = config.entry_sizes_usd
    key = min(sizes, key=lambda name: sizes[name])
    edge_bps = config.execute_edge_bps
    earned = sizes[key] * edge_bps / BPS
    if earned >= limits.min_profit_usd:
        return []
    wanted_bps = limits.min_profit_usd * BPS / sizes[key]
    return [
        f"risk_limits.min_profit_usd: found {limits.min_profit_usd:f}, but the largest entry ({sizes[key]:f} USD by "
        f"{key}) earns {earned:.4f} USD at the least edge of {edge_bps:f} bps: none passes below {wanted_bps:.2f} bps"
    ]


def _where_nothing_is_traded(config: EngineConfig) -> list[str]:
    """Settings of venues whose exchange has ``trade: false``."""
    without = {venue.name: venue.exchange for venue in config.venues if not venue.trade}
    tables: dict[str, Iterable[str]] = {
        "risk_limits.per_venue": config.risk_limits.per_venue,
        "inventory.targets": config.inventory.targets,
        "inventory.alarms": config.inventory.alarms,
        "fees": config.fees,
    }
    return [
        f"{path}.{name}: exchanges.{without[name]}.trade is false, so it does not count"
        for path, table in tables.items()
        for name in table
        if name in without
    ]
